/* A case on the simulated MMU.
 * SPDX-License-Identifier: MIT */
#include "mmu_twist.h"

#include "sim_tables.h"

#include "sim/mmu.h"

#include <string.h>

/* ---- the machine ---- */

/* Physical memory as a PC has it: there is a hole below 4 GiB. */
static void *ram(const struct mmu_machine *machine, uint64_t paddr)
{
    bool in_hole = paddr >= MMU_HOLE && paddr < MMU_BEHIND_HOLE;
    return in_hole ? NULL : sim_pointer(machine->sim, paddr);
}

uint64_t mmu_entry_load(const struct mmu_machine *machine, uint64_t at)
{
    uint64_t value = 0;
    memcpy(&value, sim_pointer(machine->sim, at),
           machine->cpu.format == NEOMM_FORMAT_2LEVEL ? 4 : 8);
    return value;
}

void mmu_entry_store(const struct mmu_machine *machine, uint64_t at, uint64_t value)
{
    memcpy(sim_pointer(machine->sim, at), &value,
           machine->cpu.format == NEOMM_FORMAT_2LEVEL ? 4 : 8);
}

/* The entry that all roots of PAE have. */
static void fill_roots(const struct mmu_machine *machine)
{
    for (uint64_t i = 0; i < CHANNEL_ROOT_COUNT; i++)
        for (uint64_t at = 24; at < NEOMM_PAGE_SIZE; at += 32)
            mmu_entry_store(machine, CHANNEL_ROOTS + i * CHANNEL_ROOT_STEP + at,
                            CHANNEL_PAE_LAST | E_P);
}

bool mmu_machine_open(struct mmu_machine *machine, const struct mmu_cpu *cpu)
{
    struct sim_options options = {.format = cpu->format,
                                  .ram_bytes = MMU_RAM_END,
                                  .physical_bits = cpu->physical_bits,
                                  .absent = cpu->lacks_1g ? SIM_NO_1G : 0,
                                  .keep_going = true};
    machine->cpu = *cpu;
    machine->sim = sim_create(&options);
    if (!machine->sim)
        return false;
    for (unsigned i = 0; i < MMU_BLOCKS; i++)
        for (uint64_t at = 0; at < MMU_BLOCK_SIZE; at += NEOMM_PAGE_SIZE)
            mmu_page_fill(sim_pointer(machine->sim, mmu_block(i) + at), mmu_block(i) + at);
    if (cpu->format == NEOMM_FORMAT_PAE)
        fill_roots(machine);
    return true;
}

void mmu_machine_close(struct mmu_machine *machine)
{
    sim_destroy(machine->sim);
}

/* ---- registers ---- */

static uintptr_t with(uintptr_t value, uintptr_t bit, bool on)
{
    return on ? value | bit : value & ~bit;
}

/* As the guest loads them. */
static void load(const struct mmu_case *c)
{
    uintptr_t cr4 = with(neomm_cpu_read_cr4(), NEOMM_CR4_PSE, c->control & CASE_PSE);
    cr4 = with(cr4, NEOMM_CR4_SMEP, c->control & CASE_SMEP);
    cr4 = with(cr4, NEOMM_CR4_SMAP, c->control & CASE_SMAP);
    neomm_cpu_write_cr4(cr4 ^ NEOMM_CR4_PGE);
    neomm_cpu_write_cr4(with(cr4, NEOMM_CR4_PGE, false));
    neomm_cpu_write_cr0(with(neomm_cpu_read_cr0(), NEOMM_CR0_WP, c->control & CASE_WP));
    uint64_t efer = neomm_cpu_read_msr(NEOMM_MSR_EFER) & ~NEOMM_EFER_NXE;
    neomm_cpu_write_msr(NEOMM_MSR_EFER, efer | (c->control & CASE_NXE ? NEOMM_EFER_NXE : 0));
    neomm_cpu_write_cr3((uintptr_t)c->root);
    if (c->control & CASE_PGE)
        neomm_cpu_write_cr4(with(cr4, NEOMM_CR4_PGE, true));
}

/* ---- accesses ---- */

bool mmu_translate(const struct mmu_run *run, unsigned access, uint32_t kind, uint64_t *paddr,
                   uint32_t *error)
{
    const struct case_access *a = &run->given.access[access];
    enum sim_access as = kind == ACCESS_FETCH  ? SIM_FETCH
                         : kind == ACCESS_READ ? SIM_READ
                                               : SIM_WRITE;
    sim_this_cpu()->access_open = a->flags & ACCESS_AC;
    bool user = a->flags & ACCESS_USER;
    return sim_translate(run->machine->sim, (neomm_vaddr_t)a->vaddr, as, user, paddr, error);
}

/* What the access does with the memory that it reached; the word that EAX holds in the end. */
static uint32_t touch(struct mmu_run *run, const struct case_access *a, uint64_t paddr)
{
    uint32_t kind = a->flags & ACCESS_KIND;
    uint8_t *at = ram(run->machine, paddr);
    uint32_t word = WORD_NOWHERE;
    if (at)
        memcpy(&word, kind == ACCESS_FETCH ? at + 1 : at, sizeof(word));
    if (at && (kind == ACCESS_WRITE || kind == ACCESS_EXCHANGE)) {
        memcpy(at, &a->word, sizeof(a->word));
        run->written[run->words++] = (struct mmu_word){paddr, word, a->word};
    }
    return kind == ACCESS_WRITE ? a->word : word;
}

struct twists {
    const struct mmu_twist *of[MMU_DEVIATIONS_MAX + 1]; /* and a mutant */
    unsigned count;
};

static void one_access(struct mmu_run *run, const struct twists *twists, unsigned i)
{
    const struct case_access *a = &run->given.access[i];
    struct access_result *r = &run->result.access[i];
    uint64_t paddr;
    uint32_t error;
    if (a->flags & ACCESS_FRESH)
        neomm_cpu_write_cr3((uintptr_t)run->given.root);
    if (mmu_translate(run, i, a->flags & ACCESS_KIND, &paddr, &error)) {
        for (unsigned t = 0; t < twists->count; t++)
            if (twists->of[t]->place)
                paddr = twists->of[t]->place(run, i, paddr);
        r->vector = VECTOR_DONE;
        r->word = touch(run, a, paddr);
    } else if (error == SIM_ERROR_NO_PAGE_FAULT) {
        r->vector = VECTOR_PROTECTION;
    } else {
        r->vector = VECTOR_PAGE_FAULT;
        r->error = error;
        r->address = a->vaddr;
    }
    for (unsigned t = 0; t < twists->count; t++)
        if (twists->of[t]->access)
            twists->of[t]->access(run, i);
}

/* ---- a case ---- */

static void choose(struct twists *twists, enum neomm_format format, unsigned deviations,
                   const struct mmu_twist *mutant)
{
    twists->count = 0;
    for (unsigned i = 0; i < mmu_deviation_count; i++)
        if (deviations >> i & 1 && mmu_deviations[i].formats >> format & 1)
            twists->of[twists->count++] = &mmu_deviations[i];
    if (mutant)
        twists->of[twists->count++] = mutant;
}

static bool loads(struct mmu_run *run)
{
    uint64_t violations = sim_violations(run->machine->sim);
    load(&run->given);
    return sim_violations(run->machine->sim) == violations;
}

static void accesses(struct mmu_run *run, const struct twists *twists)
{
    const struct mmu_case *c = &run->given;
    for (unsigned i = 0; i < c->entries; i++)
        mmu_entry_store(run->machine, c->entry[i].at, c->entry[i].value);
    bool loaded = loads(run);
    for (unsigned i = 0; i < c->accesses; i++)
        if (loaded)
            one_access(run, twists, i);
        else
            run->result.access[i].vector = VECTOR_LOAD;
    for (unsigned i = 0; i < c->entries; i++) {
        run->result.entry[i] = mmu_entry_load(run->machine, c->entry[i].at);
        mmu_entry_store(run->machine, c->entry[i].at, 0);
    }
}

void mmu_run_case(struct mmu_run *run, const struct mmu_machine *machine, const struct mmu_case *c,
                  unsigned deviations, const struct mmu_twist *mutant)
{
    struct twists twists;
    choose(&twists, machine->cpu.format, deviations, mutant);
    memset(run, 0, sizeof(*run));
    run->machine = machine;
    run->original = c;
    run->given = *c;
    for (unsigned t = 0; t < twists.count; t++)
        if (twists.of[t]->begin)
            twists.of[t]->begin(run);
    accesses(run, &twists);
    for (unsigned t = 0; t < twists.count; t++)
        if (twists.of[t]->end)
            twists.of[t]->end(run);
    for (unsigned i = run->words; i-- > 0;)
        memcpy(ram(machine, run->written[i].at), &run->written[i].before, sizeof(uint32_t));
}

void mmu_run_keep(const struct mmu_run *run)
{
    for (unsigned i = 0; i < run->words; i++)
        memcpy(ram(run->machine, run->written[i].at), &run->written[i].after, sizeof(uint32_t));
}
