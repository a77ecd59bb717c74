/* The page walk of the simulated CPUs, in all four formats: written from the processor manual,
 * sharing nothing with src/.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A: 4.3 (2 levels), 4.4 (PAE), 4.5 (4 and 5 levels), 4.6 (rights),
 * 4.7 (error codes), 4.8 (A and D), 4.10.3 (paging-structure caches).
 *
 *   level   5 PML5E   4 PML4E   3 PDPTE   2 PDE   1 PTE
 */
#include "tlb.h"

#include <neomm/cpu.h>

#define PHYSICAL_BITS_MAX 52u

/* An entry of 8 bytes lies on a multiple of 8 also where uint64_t need not. */
typedef uint64_t aligned64 __attribute__((aligned(8)));

static bool entries_are_short(const struct sim *sim)
{
    return sim->options.format == NEOMM_FORMAT_2LEVEL;
}

/* Bits [low, high). */
static uint64_t bits(unsigned low, unsigned high)
{
    return low >= high ? 0 : (UINT64_MAX >> (64 - (high - low))) << low;
}

/* ---- entries ---- */

uint64_t sim_entry_read(struct sim *sim, neomm_paddr_t entry)
{
    const void *at = sim_pointer(sim, entry);
    if (entries_are_short(sim))
        return at ? __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE) : UINT32_MAX;
    return at ? __atomic_load_n((const aligned64 *)at, __ATOMIC_ACQUIRE) : UINT64_MAX;
}

/* As the processor sets A and D: one locked exchange, which fails if the entry has changed. */
bool sim_entry_exchange(struct sim *sim, neomm_paddr_t entry, uint64_t before, uint64_t after)
{
    void *at = sim_pointer(sim, entry);
    if (!at)
        return true;
    if (!entries_are_short(sim))
        return __sync_bool_compare_and_swap((aligned64 *)at, before, after);
    return __sync_bool_compare_and_swap((uint32_t *)at, (uint32_t)before, (uint32_t)after);
}

/* CR4.PSE matters to the 2-level format alone. */
bool sim_entry_is_leaf(const struct sim_cpu *cpu, unsigned level, uint64_t value)
{
    if (level == 1)
        return true;
    if (!(value & SIM_ENTRY_PS))
        return false;
    switch (cpu->sim->options.format) {
    case NEOMM_FORMAT_2LEVEL:
        return cpu->cr4 & NEOMM_CR4_PSE;
    case NEOMM_FORMAT_PAE:
        return level == 2;
    default:
        return level == 2 || (level == 3 && !(cpu->sim->options.absent & SIM_NO_1G));
    }
}

neomm_paddr_t sim_entry_target(const struct sim_cpu *cpu, unsigned level, uint64_t value)
{
    const struct sim *sim = cpu->sim;
    bool leaf = sim_entry_is_leaf(cpu, level, value);
    unsigned low = leaf ? sim_level_shift(sim, level) : NEOMM_PAGE_SHIFT;
    return value & bits(low, entries_are_short(sim) ? 32 : PHYSICAL_BITS_MAX);
}

/* A PDPTE of PAE has no rights of its own. */
unsigned sim_entry_rights(const struct sim *sim, unsigned level, uint64_t value, unsigned above)
{
    if (sim->options.format == NEOMM_FORMAT_PAE && level == 3)
        return above;
    if (!(value & SIM_ENTRY_RW))
        above &= ~SIM_RIGHT_WRITE;
    if (!(value & SIM_ENTRY_US))
        above &= ~SIM_RIGHT_USER;
    if (!entries_are_short(sim) && (value & SIM_ENTRY_XD))
        above |= SIM_RIGHT_NOEXEC;
    return above;
}

/* A leaf's bit of the PAT on a CPU without it. */
static uint64_t no_pat(const struct sim *sim, unsigned level, bool leaf)
{
    if (!leaf || !(sim->options.absent & SIM_NO_PAT))
        return 0;
    return (uint64_t)1 << (level == 1 ? 7 : 12);
}

/* Bits that must be 0 in a present entry. */
static uint64_t reserved_bits(const struct sim_cpu *cpu, unsigned level, bool leaf)
{
    const struct sim *sim = cpu->sim;
    unsigned width = sim_physical_bits(sim);
    if (entries_are_short(sim))
        return (leaf && level == 2 ? bits(13, 22) : 0) | no_pat(sim, level, leaf);
    bool pae = sim->options.format == NEOMM_FORMAT_PAE;
    if (pae && level == 3)
        return bits(1, 3) | bits(5, 9) | bits(width, 64);
    uint64_t reserved = bits(width, pae ? 63 : PHYSICAL_BITS_MAX) | no_pat(sim, level, leaf);
    if (!(cpu->efer & NEOMM_EFER_NXE))
        reserved |= SIM_ENTRY_XD;
    if (level >= 4 || (!leaf && level == 3))
        reserved |= SIM_ENTRY_PS;
    if (leaf && level > 1)
        reserved |= bits(13, sim_level_shift(sim, level));
    return reserved;
}

bool sim_entry_is_valid(const struct sim_cpu *cpu, unsigned level, uint64_t value)
{
    bool leaf = sim_entry_is_leaf(cpu, level, value);
    return (value & SIM_ENTRY_P) && !(value & reserved_bits(cpu, level, leaf));
}

/* ---- rights and error codes ---- */

static bool noexec_works(const struct sim_cpu *cpu)
{
    return !entries_are_short(cpu->sim) && (cpu->efer & NEOMM_EFER_NXE);
}

bool sim_access_allowed(const struct sim_cpu *cpu, unsigned rights, enum sim_access access,
                        bool user)
{
    bool user_address = rights & SIM_RIGHT_USER;
    if (user && !user_address)
        return false;
    if (access == SIM_FETCH) {
        if (!user && user_address && (cpu->cr4 & NEOMM_CR4_SMEP))
            return false;
        return !(rights & SIM_RIGHT_NOEXEC) || !noexec_works(cpu);
    }
    if (!user && user_address && (cpu->cr4 & NEOMM_CR4_SMAP) && !cpu->access_open)
        return false;
    if (access == SIM_READ || (rights & SIM_RIGHT_WRITE))
        return true;
    return !user && !(cpu->cr0 & NEOMM_CR0_WP);
}

uint32_t sim_fault_code(const struct sim_cpu *cpu, enum sim_access access, bool user, uint32_t why)
{
    uint32_t code = why;
    if (access == SIM_WRITE)
        code |= NEOMM_PF_WRITE;
    if (user)
        code |= NEOMM_PF_USER;
    if (access == SIM_FETCH && (noexec_works(cpu) || (cpu->cr4 & NEOMM_CR4_SMEP)))
        code |= NEOMM_PF_FETCH;
    return code;
}

/* ---- PAE's registers ---- */

bool sim_pdptes_read(struct sim *sim, struct sim_cpu *cpu, unsigned *index)
{
    neomm_paddr_t table = cpu->cr3 & 0xffffffe0u;
    uint64_t value[4];
    for (unsigned i = 0; i < 4; i++) {
        value[i] = sim_entry_read(sim, table + 8 * i);
        *index = i;
        if ((value[i] & SIM_ENTRY_P) && (value[i] & reserved_bits(cpu, 3, false)))
            return false;
    }
    for (unsigned i = 0; i < 4; i++)
        cpu->pdpte[i] = value[i];
    return true;
}

void sim_pdptes_cache(struct sim *sim, struct sim_cpu *cpu)
{
    struct sim_tlb *tlb = &sim->mmu->tlb[cpu->index];
    neomm_paddr_t table = cpu->cr3 & 0xffffffe0u;
    for (unsigned i = 0; i < 4; i++) {
        if (!(cpu->pdpte[i] & SIM_ENTRY_P))
            continue;
        struct sim_cached like = {
            .base = (neomm_vaddr_t)i << 30,
            .paddr = sim_entry_target(cpu, 3, cpu->pdpte[i]),
            .cpu = cpu->index,
            .tlb_class = SIM_TLB_TABLE3,
            .shift = 30,
            .rights = SIM_RIGHT_WRITE | SIM_RIGHT_USER,
            .list = SIM_TLB_REGISTERS,
        };
        struct sim_path path = {1, {{table + 8 * i, cpu->pdpte[i]}}};
        sim_check_inserted(sim, sim_tlb_insert(sim, tlb, &like), &path, like.base, SIM_READ, false);
    }
}

/* ---- the walk ---- */

struct walk {
    struct sim *sim;
    struct sim_cpu *cpu;
    struct sim_tlb *tlb;
    neomm_vaddr_t vaddr;
    enum sim_access access;
    bool user;
    unsigned level; /* of the entry to be read next */
    neomm_paddr_t table;
    unsigned rights;
    struct sim_path path;
};

/* Begins at the lowest table that a paging-structure cache leads to. */
static void walk_begin(struct walk *walk)
{
    struct sim *sim = walk->sim;
    unsigned top = sim_levels(sim);
    walk->level = top;
    walk->table = walk->cpu->cr3 & bits(NEOMM_PAGE_SHIFT, entries_are_short(sim) ? 32 : 52);
    walk->rights = SIM_RIGHT_WRITE | SIM_RIGHT_USER;
    walk->path.count = 0;
    for (unsigned level = 2; level <= top; level++) {
        struct sim_cached *cached = sim_tlb_find(walk->tlb, sim_tlb_table_class(level),
                                                 sim_level_shift(sim, level), walk->vaddr);
        if (!cached)
            continue;
        if (sim_check_suspects(cached))
            sim_check_used(sim, cached, walk->vaddr, walk->access, walk->user);
        walk->level = level - 1;
        walk->table = cached->paddr;
        walk->rights = cached->rights;
        sim_check_path(cached, &walk->path);
        return;
    }
}

static void walk_cache(struct walk *walk, uint64_t value, bool leaf)
{
    struct sim *sim = walk->sim;
    bool global = leaf && (value & SIM_ENTRY_G) && (walk->cpu->cr4 & NEOMM_CR4_PGE);
    struct sim_cached like = {
        .base = walk->vaddr,
        .paddr = sim_entry_target(walk->cpu, walk->level, value),
        .cpu = walk->cpu->index,
        .tlb_class =
            (uint8_t)(leaf ? sim_tlb_leaf_class(walk->level) : sim_tlb_table_class(walk->level)),
        .shift = (uint8_t)sim_level_shift(sim, walk->level),
        .rights = (uint8_t)walk->rights,
        .list = !leaf    ? SIM_TLB_TABLES
                : global ? SIM_TLB_GLOBAL
                         : SIM_TLB_LOCAL,
        .dirty = leaf && (value & SIM_ENTRY_D),
    };
    sim_check_inserted(sim, sim_tlb_insert(sim, walk->tlb, &like), &walk->path, walk->vaddr,
                       walk->access, walk->user);
}

/* What one entry makes of the walk. */
enum verdict { DESCEND, TRANSLATED, CHANGED, FAULT };

static enum verdict walk_entry(struct walk *walk, uint32_t *why)
{
    struct sim *sim = walk->sim;
    unsigned width = entries_are_short(sim) ? 4 : 8;
    uint64_t index = (uint64_t)walk->vaddr >> sim_level_shift(sim, walk->level);
    neomm_paddr_t entry = walk->table + (index & (NEOMM_PAGE_SIZE / width - 1)) * width;
    uint64_t value = sim_entry_read(sim, entry);
    *why = 0;
    if (!(value & SIM_ENTRY_P))
        return FAULT;
    bool leaf = sim_entry_is_leaf(walk->cpu, walk->level, value);
    *why = NEOMM_PF_PRESENT | NEOMM_PF_RESERVED;
    if (value & reserved_bits(walk->cpu, walk->level, leaf))
        return FAULT;

    unsigned rights = sim_entry_rights(sim, walk->level, value, walk->rights);
    *why = NEOMM_PF_PRESENT;
    if (leaf && !sim_access_allowed(walk->cpu, rights, walk->access, walk->user))
        return FAULT;
    uint64_t after = value | SIM_ENTRY_A;
    if (leaf && walk->access == SIM_WRITE)
        after |= SIM_ENTRY_D;
    if (after != value && !sim_entry_exchange(sim, entry, value, after))
        return CHANGED;

    walk->rights = rights;
    walk->path.step[walk->path.count++] = (struct sim_step){entry, after};
    walk_cache(walk, after, leaf);
    walk->table = sim_entry_target(walk->cpu, walk->level, after);
    return leaf ? TRANSLATED : DESCEND;
}

struct sim_cached *sim_walk(struct sim *sim, struct sim_cpu *cpu, neomm_vaddr_t vaddr,
                            enum sim_access access, bool user, uint32_t *error)
{
    struct walk walk = {.sim = sim,
                        .cpu = cpu,
                        .tlb = &sim->mmu->tlb[cpu->index],
                        .vaddr = vaddr,
                        .access = access,
                        .user = user};
    walk_begin(&walk);
    uint32_t why = 0;
    /* Without a PDPTE register that holds a present entry PAE has no table to begin with. */
    bool nowhere = sim->options.format == NEOMM_FORMAT_PAE && walk.level == 3;
    enum verdict verdict = nowhere ? FAULT : DESCEND;
    while (verdict == DESCEND || verdict == CHANGED) {
        verdict = walk_entry(&walk, &why);
        if (verdict == DESCEND)
            walk.level--;
    }
    if (verdict == FAULT) {
        *error = sim_fault_code(cpu, access, user, why);
        return NULL;
    }
    return sim_tlb_find(walk.tlb, sim_tlb_leaf_class(walk.level), sim_level_shift(sim, walk.level),
                        vaddr);
}
