/* Rules of the simulated MMU made wrong on purpose: the comparison must notice each.
 * SPDX-License-Identifier: MIT */
#include "mmu_twist.h"

#include "sim_tables.h"

static void control(struct mmu_run *run, uint16_t bit)
{
    run->given.control = (uint16_t)(run->given.control & ~bit);
}

static void no_wp(struct mmu_run *run)
{
    control(run, CASE_WP);
}

static void no_smep(struct mmu_run *run)
{
    control(run, CASE_SMEP);
}

static void no_smap(struct mmu_run *run)
{
    control(run, CASE_SMAP);
}

static void no_pse(struct mmu_run *run)
{
    control(run, CASE_PSE);
}

static void no_nxe(struct mmu_run *run)
{
    control(run, CASE_NXE);
}

static void flip_ac(struct mmu_run *run)
{
    for (unsigned i = 0; i < run->given.accesses; i++)
        run->given.access[i].flags ^= ACCESS_AC;
}

static void wider(struct mmu_run *run)
{
    run->machine->sim->options.physical_bits = run->machine->cpu.physical_bits + 1;
}

static void wider_end(struct mmu_run *run)
{
    run->machine->sim->options.physical_bits = run->machine->cpu.physical_bits;
}

/* No entry has got the bit. */
static void never_set(struct mmu_run *run, uint64_t bit)
{
    for (unsigned i = 0; i < run->given.entries; i++)
        run->result.entry[i] &= ~bit | run->original->entry[i].value;
}

static void no_accessed(struct mmu_run *run)
{
    never_set(run, E_A);
}

static void no_dirty(struct mmu_run *run)
{
    never_set(run, E_D);
}

static void dirty_by_reads(struct mmu_run *run, unsigned access)
{
    const struct case_entry *entry = &run->given.entry[run->given.entries - 1];
    if (run->result.access[access].vector == VECTOR_DONE)
        mmu_entry_store(run->machine, entry->at, mmu_entry_load(run->machine, entry->at) | E_D);
}

static void code(struct mmu_run *run, unsigned access, uint32_t bit)
{
    if (run->result.access[access].vector == VECTOR_PAGE_FAULT)
        run->result.access[access].error &= ~bit;
}

static void code_without_present(struct mmu_run *run, unsigned access)
{
    code(run, access, NEOMM_PF_PRESENT);
}

static void code_without_write(struct mmu_run *run, unsigned access)
{
    code(run, access, NEOMM_PF_WRITE);
}

static void code_without_user(struct mmu_run *run, unsigned access)
{
    code(run, access, NEOMM_PF_USER);
}

static void code_without_reserved(struct mmu_run *run, unsigned access)
{
    code(run, access, NEOMM_PF_RESERVED);
}

static void code_without_fetch(struct mmu_run *run, unsigned access)
{
    code(run, access, NEOMM_PF_FETCH);
}

static uint64_t next_page(struct mmu_run *run, unsigned access, uint64_t paddr)
{
    (void)run, (void)access;
    return paddr ^ NEOMM_PAGE_SIZE;
}

static void any_address(struct mmu_run *run)
{
    unsigned spare = 7 + (run->machine->cpu.format == NEOMM_FORMAT_4LEVEL ? 9 : 0);
    for (unsigned i = 0; i < run->given.accesses; i++)
        run->given.access[i].vaddr =
            (uint64_t)((int64_t)(run->given.access[i].vaddr << spare) >> spare);
}

#define WITH_NX (MMU_ALL & ~MMU_FORMAT(NEOMM_FORMAT_2LEVEL))

const struct mmu_twist mmu_mutants[] = {
    {.name = "WP is ignored", .formats = MMU_ALL, .begin = no_wp},
    {.name = "SMEP is ignored", .formats = MMU_ALL, .begin = no_smep},
    {.name = "SMAP is ignored", .formats = MMU_ALL, .begin = no_smap},
    {.name = "PSE is ignored", .formats = MMU_FORMAT(NEOMM_FORMAT_2LEVEL), .begin = no_pse},
    {.name = "NXE is ignored", .formats = WITH_NX, .begin = no_nxe},
    {.name = "AC is turned round", .formats = MMU_ALL, .begin = flip_ac},
    {.name = "one physical bit too many", .formats = WITH_NX, .begin = wider, .end = wider_end},
    {.name = "A is not set", .formats = MMU_ALL, .end = no_accessed},
    {.name = "D is not set", .formats = MMU_ALL, .end = no_dirty},
    {.name = "D is set by reads", .formats = MMU_ALL, .access = dirty_by_reads},
    {.name = "no P in codes", .formats = MMU_ALL, .access = code_without_present},
    {.name = "no W/R in codes", .formats = MMU_ALL, .access = code_without_write},
    {.name = "no U/S in codes", .formats = MMU_ALL, .access = code_without_user},
    {.name = "no RSVD in codes", .formats = MMU_ALL, .access = code_without_reserved},
    {.name = "no I/D in codes", .formats = MMU_ALL, .access = code_without_fetch},
    {.name = "the neighbour page", .formats = MMU_ALL, .place = next_page},
    {.name = "every address is canonical", .formats = MMU_LONG, .begin = any_address},
};

const unsigned mmu_mutant_count = sizeof(mmu_mutants) / sizeof(mmu_mutants[0]);
