/* Where QEMU's software MMU (version 7.2) does not do what the manual says, as changes to the
 * rules of the simulated one. Whatever is not in this table must be the same.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, chapter 4, for the rules.
 */
#include "mmu_twist.h"

#include "sim_tables.h"

#include "sim/mmu.h"

#define PAE_ENTRY_A      E_A
#define PAE_RESERVED_LOW ((uint64_t)0x1e6)    /* bits 1, 2, 5 to 8 */
#define PSE36_ADDRESS    ((uint64_t)0x1fe000) /* bits 13 to 20, for 32 to 39 of the address */
#define PSE36_SHIFT      19
#define LARGE_4M         ((uint64_t)1 << 21) /* reserved with PSE-36, too */
#define TABLE_ADDRESS_1G ((uint64_t)0x3ffff000)

static struct access_result *result(struct mmu_run *run, unsigned access)
{
    return &run->result.access[access];
}

static const struct case_entry *entry_of(const struct mmu_run *run, unsigned access, unsigned level)
{
    return mmu_case_entry(&run->machine->cpu, run->original, run->original->access[access].vaddr,
                          level);
}

/* ---- the older large page of 4 MiB ---- */

static bool is_pse36(const struct mmu_run *run, const struct case_entry *entry)
{
    return (run->original->control & CASE_PSE) && entry && (entry->value & E_PS) &&
           mmu_case_root(&run->machine->cpu, run->original) == (entry->at & ~(uint64_t)0xfff);
}

static void pse36_begin(struct mmu_run *run)
{
    for (unsigned i = 0; i < run->given.entries; i++)
        if (is_pse36(run, &run->original->entry[i]))
            run->given.entry[i].value &= ~PSE36_ADDRESS;
}

static uint64_t pse36_place(struct mmu_run *run, unsigned access, uint64_t paddr)
{
    const struct case_entry *entry = entry_of(run, access, 2);
    return is_pse36(run, entry) ? paddr | (entry->value & PSE36_ADDRESS) << PSE36_SHIFT : paddr;
}

static void pse36_end(struct mmu_run *run)
{
    for (unsigned i = 0; i < run->given.entries; i++)
        if (is_pse36(run, &run->original->entry[i]))
            run->result.entry[i] |= run->original->entry[i].value & PSE36_ADDRESS;
}

/* ---- pages of 1 GiB ---- */

static void has_1g_begin(struct mmu_run *run)
{
    run->machine->sim->options.absent &= ~SIM_NO_1G;
}

static void has_1g_end(struct mmu_run *run)
{
    if (run->machine->cpu.lacks_1g)
        run->machine->sim->options.absent |= SIM_NO_1G;
}

/* A failed access has got as far as the entry of the page if it gets below the same entry that
 * leads to a table. */
static void early_accessed(struct mmu_run *run, unsigned access)
{
    const struct mmu_machine *machine = run->machine;
    const struct case_entry *entry = entry_of(run, access, 3);
    uint64_t paddr;
    uint32_t error;
    if (result(run, access)->vector != VECTOR_PAGE_FAULT || !entry || !(entry->value & E_PS))
        return;
    uint64_t value = mmu_entry_load(machine, entry->at);
    mmu_entry_store(machine, entry->at, value & ~(E_PS | E_A | TABLE_ADDRESS_1G));
    neomm_cpu_invlpg((neomm_vaddr_t)run->given.access[access].vaddr);
    (void)mmu_translate(run, access, ACCESS_READ, &paddr, &error);
    value |= mmu_entry_load(machine, entry->at) & E_A;
    mmu_entry_store(machine, entry->at, value);
    neomm_cpu_invlpg((neomm_vaddr_t)run->given.access[access].vaddr);
}

/* ---- the top entries of PAE ---- */

static uint32_t pae_index(const struct mmu_run *run, uint64_t at)
{
    return (uint32_t)(at - mmu_case_root(&run->machine->cpu, run->original)) / 8;
}

static void pae_top_begin(struct mmu_run *run)
{
    uint64_t high = UINT64_MAX << run->machine->cpu.physical_bits;
    for (unsigned i = 0; i < run->given.entries; i++) {
        struct case_entry *entry = &run->given.entry[i];
        uint32_t index = pae_index(run, entry->at);
        if (index >= 4 || !(entry->value & E_P))
            continue;
        if (entry->value & high) {
            run->pae_broken |= 1u << index;
            entry->value = 0;
        }
        entry->value &= ~PAE_RESERVED_LOW;
    }
}

static void pae_top_access(struct mmu_run *run, unsigned access)
{
    if (run->pae_broken >> (run->given.access[access].vaddr >> 30) & 1)
        result(run, access)->error |= NEOMM_PF_PRESENT | NEOMM_PF_RESERVED;
}

static void pae_top_end(struct mmu_run *run)
{
    for (unsigned i = 0; i < run->given.entries; i++)
        if (pae_index(run, run->given.entry[i].at) < 4)
            run->result.entry[i] = run->original->entry[i].value;
}

static void pae_accessed_access(struct mmu_run *run, unsigned access)
{
    uint32_t bit = 1u << (run->given.access[access].vaddr >> 30);
    const struct case_entry *entry = entry_of(run, access, 3);
    if (entry && (entry->value & E_P) && !(run->pae_broken & bit))
        run->pae_used |= bit;
}

static void pae_accessed_end(struct mmu_run *run)
{
    for (unsigned i = 0; i < run->given.entries; i++) {
        uint32_t index = pae_index(run, run->given.entry[i].at);
        if (index < 4 && (run->pae_used >> index & 1))
            run->result.entry[i] |= PAE_ENTRY_A;
    }
}

/* ---- faults ---- */

/* The write has failed and left no more than a read would have on its way. */
static void exchange_reads(struct mmu_run *run, unsigned access)
{
    struct access_result *r = result(run, access);
    uint64_t paddr;
    uint32_t error;
    if ((run->given.access[access].flags & ACCESS_KIND) == ACCESS_EXCHANGE &&
        r->vector == VECTOR_PAGE_FAULT && !mmu_translate(run, access, ACCESS_READ, &paddr, &error))
        r->error = error;
}

static void reserved_not_present(struct mmu_run *run, unsigned access)
{
    struct access_result *r = result(run, access);
    if (r->vector == VECTOR_PAGE_FAULT && (r->error & NEOMM_PF_RESERVED))
        r->error &= ~NEOMM_PF_PRESENT;
}

const struct mmu_twist mmu_deviations[] = {
    {.name = "a locked exchange reads before it writes, and faults as a read",
     .manual = "4.7: W/R is set if the access was a write",
     .formats = MMU_ALL,
     .access = exchange_reads},
    {.name = "bits 13 to 20 of a 4 MiB page's entry are address bits on a CPU without PSE-36",
     .manual = "table 4-4: bits 21 to 13 are reserved where CPUID.01H:EDX.PSE-36 is 0",
     .formats = MMU_FORMAT(NEOMM_FORMAT_2LEVEL),
     .begin = pse36_begin,
     .place = pse36_place,
     .end = pse36_end},
    {.name = "an entry of a 1 GiB page is taken on a CPU without such pages",
     .manual = "4.5: PS of a PDPTE is reserved where CPUID.80000001H:EDX.Page1GB is 0",
     .formats = MMU_LONG,
     .begin = has_1g_begin,
     .end = has_1g_end},
    {.name = "reserved bits of PAE's top entries fault at their use, or never",
     .manual = "4.4.1: loading CR3 is a general-protection fault if one that is present has any",
     .formats = MMU_FORMAT(NEOMM_FORMAT_PAE),
     .begin = pae_top_begin,
     .access = pae_top_access,
     .end = pae_top_end},
    {.name = "the top entries of PAE get A",
     .manual = "4.8: A is set in what the translation uses; table 4-8: a PDPTE has none",
     .formats = MMU_FORMAT(NEOMM_FORMAT_PAE),
     .access = pae_accessed_access,
     .end = pae_accessed_end},
    {.name = "an entry of a 1 GiB page gets A although the access faults there",
     .manual = "4.8: A is set in what a translation uses, and there is none",
     .formats = MMU_LONG,
     .access = early_accessed},
    {.name = "a fault for a reserved bit comes without P in its error code",
     .manual = "4.7: bit 3 of the error code can be set only if bit 0 is, too",
     .formats = MMU_ALL,
     .access = reserved_not_present},
};

const unsigned mmu_deviation_count = sizeof(mmu_deviations) / sizeof(mmu_deviations[0]);
_Static_assert(sizeof(mmu_deviations) / sizeof(mmu_deviations[0]) <= MMU_DEVIATIONS_MAX, "room");
