/* What CPUs could have cached, whether they made use of it or not: processors translate addresses
 * that nobody asked for (SDM 3A 4.10.2.3), so a store to a table that a CPU could walk has to be
 * made good by an invalidation even if the CPU was never seen to go there.
 * SPDX-License-Identifier: MIT
 *
 * Every table below a root that a CPU has loaded is known with its level and the first address
 * that it serves. When a store takes something from an entry whose A was set, each CPU that could
 * walk to the entry gets it into its TLB as it was before the store, and the rest of the checker
 * (tlb_check.c) goes on as if the CPU had filled it a moment ago. An entry without A cannot be
 * cached anywhere: A is set first, by an exchange that fails when the entry has changed.
 *
 * Everything runs with the machine's lock held.
 */
#include "tlb.h"

#if NEOMM_INSTRUMENTED

#include <stdlib.h>
#include <string.h>

#define BUCKET_BITS 12u
#define LEAF_BITS   16u
/* Translations below one entry that are looked at when it changes. */
#define BELOW_MAX 1024u

struct sim_table {
    neomm_paddr_t table;
    uint64_t base; /* first address it serves, as the tables count: without canonical sign */
    unsigned level;
    uint32_t number; /* in all[] */
    struct sim_table *bucket_next;
};

struct sim_reach {
    struct sim_table *bucket[1u << BUCKET_BITS];
    /* How many leaves of known tables lead to a frame with that hash: of user pages, and of the
     * kernel's windows. */
    uint32_t leaves[1u << LEAF_BITS];
    struct sim_table **all;
    uint32_t count, room;
};

static neomm_paddr_t table_of(neomm_paddr_t entry)
{
    return entry & ~(neomm_paddr_t)(NEOMM_PAGE_SIZE - 1);
}

static unsigned entry_size(const struct sim *sim)
{
    return sim->options.format == NEOMM_FORMAT_2LEVEL ? 4 : 8;
}

static bool is_register(const struct sim *sim, unsigned level)
{
    return sim->options.format == NEOMM_FORMAT_PAE && level == 3;
}

static unsigned entries_of(const struct sim *sim, unsigned level)
{
    return is_register(sim, level) ? 4 : (unsigned)NEOMM_PAGE_SIZE / entry_size(sim);
}

/* ---- known tables ---- */

static struct sim_table **place_of(struct sim_reach *reach, neomm_paddr_t table)
{
    uint64_t hash = table * 0x9e3779b97f4a7c15u >> (64 - BUCKET_BITS);
    struct sim_table **at = &reach->bucket[hash];
    while (*at && (*at)->table != table)
        at = &(*at)->bucket_next;
    return at;
}

static struct sim_table *make_table(struct sim *sim, neomm_paddr_t table)
{
    struct sim_reach *reach = sim->mmu->reach;
    struct sim_table **at = place_of(reach, table);
    struct sim_table *made = malloc(sizeof(*made));
    if (reach->count == reach->room) {
        uint32_t room = reach->room ? reach->room * 2 : 64;
        struct sim_table **all = realloc(reach->all, room * sizeof(struct sim_table *));
        if (!all)
            sim_crash(sim, false, "the host has no memory to know page tables");
        reach->all = all;
        reach->room = room;
    }
    if (!made)
        sim_crash(sim, false, "the host has no memory to know page tables");
    *made = (struct sim_table){.table = table, .number = reach->count};
    *at = made;
    reach->all[reach->count++] = made;
    return made;
}

static void forget_table(struct sim_reach *reach, neomm_paddr_t table)
{
    struct sim_table **at = place_of(reach, table), *gone = *at;
    if (!gone)
        return;
    *at = gone->bucket_next;
    struct sim_table *last = reach->all[--reach->count];
    reach->all[gone->number] = last;
    last->number = gone->number;
    free(gone);
}

static uint64_t base_at(const struct sim *sim, const struct sim_table *table, unsigned index)
{
    return table->base + ((uint64_t)index << sim_level_shift(sim, table->level));
}

/* The address as programs use it. */
static neomm_vaddr_t canonical(const struct sim *sim, uint64_t base)
{
    unsigned bits = sim_level_shift(sim, sim_levels(sim)) + 9;
    if (sim->options.format >= NEOMM_FORMAT_4LEVEL && (base >> (bits - 1) & 1u))
        base |= UINT64_MAX << bits;
    return (neomm_vaddr_t)base;
}

/* ---- leaves that nobody may reach once their frames are free ---- */

static uint32_t *leaves_to(struct sim_reach *reach, neomm_paddr_t page)
{
    return &reach->leaves[page * 0x9e3779b97f4a7c15u >> (64 - LEAF_BITS)];
}

static bool in_window(const struct sim *sim, neomm_vaddr_t vaddr)
{
    for (unsigned i = 0; i < SIM_WINDOWS; i++)
        if (vaddr - sim->window[i].base < sim->window[i].size)
            return true;
    return false;
}

/* A leaf that is no mapping of all memory: the frame behind it has one owner. */
static bool is_owned_leaf(const struct sim *sim, const struct sim_cpu *cpu,
                          const struct sim_table *table, unsigned index, uint64_t value)
{
    return !is_register(sim, table->level) && sim_entry_is_valid(cpu, table->level, value) &&
           sim_entry_is_leaf(cpu, table->level, value) &&
           ((value & SIM_ENTRY_US) || in_window(sim, canonical(sim, base_at(sim, table, index))));
}

static void count_leaf(struct sim *sim, const struct sim_cpu *cpu, const struct sim_table *table,
                       unsigned index, uint64_t value, bool more)
{
    if (!is_owned_leaf(sim, cpu, table, index, value))
        return;
    uint32_t *count = leaves_to(sim->mmu->reach, sim_entry_target(cpu, table->level, value));
    if (more)
        ++*count;
    else if (*count > 0)
        --*count;
}

static void count_leaves(struct sim *sim, const struct sim_cpu *cpu, const struct sim_table *table,
                         bool more)
{
    for (unsigned i = 0; i < entries_of(sim, table->level); i++)
        count_leaf(sim, cpu, table, i,
                   sim_entry_read(sim, table->table + (neomm_paddr_t)i * entry_size(sim)), more);
}

/* ---- tables that are learned of ---- */

static void learn(struct sim *sim, const struct sim_cpu *cpu, neomm_paddr_t table, unsigned level,
                  uint64_t base);

static void learn_entry(struct sim *sim, const struct sim_cpu *cpu, const struct sim_table *table,
                        unsigned index, uint64_t value)
{
    unsigned level = table->level;
    if (level < 2 || !sim_entry_is_valid(cpu, level, value) || sim_entry_is_leaf(cpu, level, value))
        return;
    learn(sim, cpu, sim_entry_target(cpu, level, value), level - 1, base_at(sim, table, index));
}

/* A table that is in use at two levels, as one that holds itself, is known where it was seen
 * first. */
static void learn(struct sim *sim, const struct sim_cpu *cpu, neomm_paddr_t table, unsigned level,
                  uint64_t base)
{
    struct sim_table *known = *place_of(sim->mmu->reach, table);
    if (!sim_pointer(sim, table) || (known && (known->level != level || known->base == base)))
        return;
    if (known)
        count_leaves(sim, cpu, known, false);
    else
        known = make_table(sim, table);
    known->level = level;
    known->base = base;
    count_leaves(sim, cpu, known, true);
    for (unsigned i = 0; level >= 2 && i < entries_of(sim, level); i++)
        learn_entry(sim, cpu, known, i, sim_entry_read(sim, table + i * entry_size(sim)));
}

static neomm_paddr_t root_of(const struct sim_cpu *cpu)
{
    return table_of(cpu->cr3 & (((uint64_t)1 << sim_physical_bits(cpu->sim)) - 1));
}

static bool paging_on(const struct sim_cpu *cpu)
{
    return cpu->cr0 & NEOMM_CR0_PG;
}

void sim_reach_loaded(struct sim *sim, const struct sim_cpu *cpu)
{
    if (paging_on(cpu))
        learn(sim, cpu, root_of(cpu), sim_levels(sim), 0);
}

void sim_reach_reset(struct sim *sim)
{
    struct sim_reach *reach = sim->mmu->reach;
    while (reach->count > 0)
        forget_table(reach, reach->all[0]->table);
    memset(reach->leaves, 0, sizeof(reach->leaves));
    for (uint32_t i = 0; i < sim->options.cpus; i++)
        sim_reach_loaded(sim, &sim->cpu[i]);
}

bool sim_reach_create(struct sim *sim)
{
    sim->mmu->reach = calloc(1, sizeof(*sim->mmu->reach));
    return sim->mmu->reach != NULL;
}

void sim_reach_destroy(struct sim *sim)
{
    struct sim_reach *reach = sim->mmu->reach;
    while (reach && reach->count > 0)
        forget_table(reach, reach->all[0]->table);
    if (reach)
        free(reach->all);
    free(reach);
}

/* ---- the way of a CPU to a table ---- */

struct descent {
    struct sim *sim;
    struct sim_cpu *cpu;
    neomm_vaddr_t vaddr;
    unsigned level; /* of `table` */
    neomm_paddr_t table;
    unsigned rights;
    struct sim_path path;
    /* This entry is taken as it was before a store; 0: none is. */
    neomm_paddr_t changed;
    uint64_t before;
    bool looks_only; /* A stays as it is */
};

static neomm_paddr_t entry_at(const struct descent *d)
{
    uint64_t index = (uint64_t)d->vaddr >> sim_level_shift(d->sim, d->level);
    unsigned size = entry_size(d->sim);
    return d->table + (index & (entries_of(d->sim, d->level) - 1)) * size;
}

static uint64_t value_at(const struct descent *d, neomm_paddr_t entry)
{
    if (is_register(d->sim, d->level))
        return d->cpu->pdpte[(uint64_t)d->vaddr >> 30 & 3];
    return entry == d->changed ? d->before : sim_entry_read(d->sim, entry);
}

/* Sets A as a walk does; false: there is no such entry any more. */
static bool set_accessed(const struct descent *d, neomm_paddr_t entry, uint64_t *value)
{
    uint64_t after = *value | SIM_ENTRY_A;
    if (d->looks_only || is_register(d->sim, d->level) || after == *value)
        return true;
    bool done = entry != d->changed && sim_entry_exchange(d->sim, entry, *value, after);
    *value = after;
    return done;
}

static void note_step(struct descent *d, neomm_paddr_t entry, uint64_t value)
{
    d->rights = sim_entry_rights(d->sim, d->level, value, d->rights);
    d->path.step[d->path.count++] = (struct sim_step){entry, value};
}

static bool step_down(struct descent *d)
{
    neomm_paddr_t entry = entry_at(d);
    uint64_t value = value_at(d, entry);
    bool valid = is_register(d->sim, d->level) ? (value & SIM_ENTRY_P) != 0
                                               : sim_entry_is_valid(d->cpu, d->level, value);
    if (!valid || sim_entry_is_leaf(d->cpu, d->level, value) || !set_accessed(d, entry, &value))
        return false;
    note_step(d, entry, value);
    d->table = sim_entry_target(d->cpu, d->level, value);
    d->level--;
    return true;
}

/* From what the CPU has loaded to the table of that level. */
static bool descend(struct descent *d, unsigned level)
{
    d->level = sim_levels(d->sim);
    d->table = root_of(d->cpu);
    d->rights = SIM_RIGHT_WRITE | SIM_RIGHT_USER;
    d->path.count = 0;
    if (!paging_on(d->cpu))
        return false;
    while (d->level > level)
        if (!step_down(d))
            return false;
    return true;
}

/* The CPU has the entry, which has A, in its TLB. */
static void hold(const struct descent *at, neomm_paddr_t entry, uint64_t value)
{
    struct descent d = *at;
    bool leaf = sim_entry_is_leaf(d.cpu, d.level, value);
    bool global = leaf && (value & SIM_ENTRY_G) && (d.cpu->cr4 & NEOMM_CR4_PGE);
    note_step(&d, entry, value);
    const struct sim_cached like = {
        .base = d.vaddr,
        .paddr = sim_entry_target(d.cpu, d.level, value),
        .cpu = d.cpu->index,
        .tlb_class = (uint8_t)(leaf ? sim_tlb_leaf_class(d.level) : sim_tlb_table_class(d.level)),
        .shift = (uint8_t)sim_level_shift(d.sim, d.level),
        .rights = (uint8_t)d.rights,
        .list = !leaf    ? SIM_TLB_TABLES
                : global ? SIM_TLB_GLOBAL
                         : SIM_TLB_LOCAL,
        .dirty = leaf && (value & SIM_ENTRY_D),
    };
    struct sim_tlb *tlb = &d.sim->mmu->tlb[d.cpu->index];
    if (!sim_check_holds(d.sim, &like, tlb->pcid, entry))
        sim_check_unasked(d.sim, sim_tlb_insert(d.sim, tlb, &like), &d.path, d.vaddr);
}

/* Everything with A in the table that the descent stands at, and below. */
static void hold_all(const struct descent *at, uint32_t *left)
{
    unsigned size = entry_size(at->sim);
    uint64_t span = (uint64_t)1 << sim_level_shift(at->sim, at->level);
    uint64_t base = (uint64_t)at->vaddr & ~(span * entries_of(at->sim, at->level) - 1);
    for (unsigned i = 0; i < entries_of(at->sim, at->level) && *left > 0; i++) {
        struct descent d = *at;
        d.vaddr = canonical(at->sim, base + i * span);
        if (sizeof(d.vaddr) < 8 && (base + i * span) >> 32 != 0)
            return;
        neomm_paddr_t entry = d.table + (neomm_paddr_t)i * size;
        uint64_t value = value_at(&d, entry);
        if (!sim_entry_is_valid(d.cpu, d.level, value) || !(value & SIM_ENTRY_A))
            continue;
        --*left;
        hold(&d, entry, value);
        if (!sim_entry_is_leaf(d.cpu, d.level, value) && step_down(&d))
            hold_all(&d, left);
    }
}

/* ---- stores ---- */

/* Does the change take something away from whoever had the entry before? */
static bool narrows(uint64_t before, uint64_t after)
{
    const uint64_t free_bits = ((uint64_t)7 << 9) | ((uint64_t)0x7ff << 52);
    const uint64_t adds = SIM_ENTRY_RW | SIM_ENTRY_US | SIM_ENTRY_A | SIM_ENTRY_D | SIM_ENTRY_G;
    uint64_t changed = (before ^ after) & ~free_bits;
    if (!(before & SIM_ENTRY_P) || !(before & SIM_ENTRY_A))
        return false;
    return (changed & ~(adds | SIM_ENTRY_XD)) || (changed & adds & before) ||
           (changed & SIM_ENTRY_XD & after);
}

static void could_have(struct sim *sim, struct sim_cpu *cpu, const struct sim_table *table,
                       neomm_paddr_t entry, uint64_t before)
{
    unsigned index = (unsigned)(entry - table->table) / entry_size(sim);
    uint32_t left = BELOW_MAX;
    struct descent d = {.sim = sim,
                        .cpu = cpu,
                        .vaddr = canonical(sim, base_at(sim, table, index)),
                        .changed = entry,
                        .before = before};
    if (is_register(sim, table->level) || !sim_entry_is_valid(cpu, table->level, before) ||
        !descend(&d, table->level) || d.table != table->table)
        return;
    hold(&d, entry, before);
    if (!sim_entry_is_leaf(cpu, table->level, before) && step_down(&d))
        hold_all(&d, &left);
}

void sim_reach_narrowed(struct sim *sim, neomm_paddr_t entry, uint64_t before, uint64_t after)
{
    const struct sim_table *table = *place_of(sim->mmu->reach, table_of(entry));
    if (!table || !narrows(before, after))
        return;
    for (uint32_t i = 0; i < sim->options.cpus; i++)
        could_have(sim, &sim->cpu[i], table, entry, before);
}

unsigned sim_reach_level(const struct sim *sim, neomm_paddr_t entry)
{
    const struct sim_table *table = *place_of(sim->mmu->reach, table_of(entry));
    return table ? table->level : 0;
}

void sim_reach_stored(struct sim *sim, neomm_paddr_t entry, uint64_t before, uint64_t after)
{
    const struct sim_table *table = *place_of(sim->mmu->reach, table_of(entry));
    const struct sim_cpu *cpu = sim_this_cpu();
    unsigned index = (unsigned)(entry & (NEOMM_PAGE_SIZE - 1)) / entry_size(sim);
    if (!table)
        return;
    count_leaf(sim, cpu, table, index, before, false);
    count_leaf(sim, cpu, table, index, after, true);
    learn_entry(sim, cpu, table, index, after);
}

/* ---- CPUs that turn away ---- */

void sim_reach_leaves(struct sim *sim, struct sim_cpu *cpu)
{
    uint32_t left = BELOW_MAX;
    struct descent d = {.sim = sim, .cpu = cpu};
    if (descend(&d, sim_levels(sim)))
        hold_all(&d, &left);
}

/* ---- frames that change hands ---- */

static void report_found(struct sim *sim, const struct sim_cpu *cpu, const char *what,
                         uint64_t frame, const char *how, neomm_paddr_t entry, const char *site)
{
    sim_violation(sim,
                  "stale translation: CPU %u finds %s frame %#llx, which is %s, from the entry at "
                  "%#llx; flush due at %s",
                  cpu->index, what, (unsigned long long)frame, how, (unsigned long long)entry,
                  site);
}

/* The CPU's way to the table; false: it has none. */
static bool finds(struct sim *sim, struct sim_cpu *cpu, const struct sim_table *table,
                  struct descent *d)
{
    *d = (struct descent){
        .sim = sim, .cpu = cpu, .vaddr = canonical(sim, table->base), .looks_only = true};
    return descend(d, table->level) && d->table == table->table;
}

static bool check_table(struct sim *sim, neomm_paddr_t frame, const char *how, const char *site)
{
    const struct sim_table *table = *place_of(sim->mmu->reach, frame);
    struct descent d;
    if (!table || table->level == sim_levels(sim))
        return true;
    for (uint32_t i = 0; i < sim->options.cpus; i++) {
        if (!finds(sim, &sim->cpu[i], table, &d))
            continue;
        report_found(sim, &sim->cpu[i], "a table in", frame >> NEOMM_PAGE_SHIFT, how,
                     d.path.step[d.path.count - 1].entry, site);
        return false;
    }
    return true;
}

/* No CPU finds a leaf of this table to the page. */
static bool check_leaves(struct sim *sim, const struct sim_table *table, neomm_paddr_t page,
                         const char *how, const char *site)
{
    const struct sim_cpu *cpu = sim_this_cpu();
    struct descent d;
    for (unsigned i = 0; i < entries_of(sim, table->level); i++) {
        neomm_paddr_t entry = table->table + (neomm_paddr_t)i * entry_size(sim);
        uint64_t value = sim_entry_read(sim, entry);
        if (!is_owned_leaf(sim, cpu, table, i, value) ||
            sim_entry_target(cpu, table->level, value) != page)
            continue;
        for (uint32_t other = 0; other < sim->options.cpus; other++) {
            if (!finds(sim, &sim->cpu[other], table, &d))
                continue;
            report_found(sim, &sim->cpu[other], "the page of", page >> NEOMM_PAGE_SHIFT, how, entry,
                         site);
            return false;
        }
    }
    return true;
}

void sim_reach_moved(struct sim *sim, neomm_frame_t frame, bool freed, const char *site)
{
    struct sim_reach *reach = sim->mmu->reach;
    neomm_paddr_t paddr = neomm_frame_paddr(frame);
    const char *how = freed ? "freed" : "allocated";
    if (!check_table(sim, paddr, how, site))
        return;
    for (unsigned level = 1; level <= 3 && level <= sim_levels(sim); level++) {
        unsigned shift = sim_level_shift(sim, level);
        neomm_paddr_t page = paddr >> shift << shift;
        if (*leaves_to(reach, page) == 0)
            continue;
        for (uint32_t i = 0; i < reach->count; i++)
            if (reach->all[i]->level == level && !check_leaves(sim, reach->all[i], page, how, site))
                return;
    }
}

void sim_reach_forget(struct sim *sim, neomm_frame_t frame)
{
    const struct sim_table *table = *place_of(sim->mmu->reach, neomm_frame_paddr(frame));
    if (!table)
        return;
    count_leaves(sim, sim_this_cpu(), table, false);
    forget_table(sim->mmu->reach, table->table);
}

/* ---- walks that nobody asked for ---- */

/* The CPU walks to the entry as it is now. */
static bool walk_to(struct sim *sim, struct sim_cpu *cpu, const struct sim_table *table,
                    unsigned index)
{
    neomm_paddr_t entry = table->table + (neomm_paddr_t)index * entry_size(sim);
    struct descent d = {
        .sim = sim, .cpu = cpu, .vaddr = canonical(sim, base_at(sim, table, index))};
    if (is_register(sim, table->level) || !descend(&d, table->level) || d.table != table->table)
        return false;
    uint64_t value = value_at(&d, entry);
    if (!sim_entry_is_valid(cpu, table->level, value) || !set_accessed(&d, entry, &value))
        return false;
    hold(&d, entry, value);
    return true;
}

bool sim_reach_walk(struct sim *sim, struct sim_cpu *cpu, neomm_paddr_t entry)
{
    const struct sim_table *table = *place_of(sim->mmu->reach, table_of(entry));
    return table && walk_to(sim, cpu, table, (unsigned)(entry - table->table) / entry_size(sim));
}

bool sim_reach_walk_some(struct sim *sim, struct sim_cpu *cpu, uint64_t random)
{
    const struct sim_reach *reach = sim->mmu->reach;
    if (reach->count == 0)
        return false;
    const struct sim_table *table = reach->all[random % reach->count];
    unsigned count = entries_of(sim, table->level), first = (unsigned)(random >> 32) % count;
    for (unsigned i = 0; i < count; i++)
        if (sim_entry_read(sim,
                           table->table + (neomm_paddr_t)((first + i) % count) * entry_size(sim)) &
            SIM_ENTRY_P)
            return walk_to(sim, cpu, table, (first + i) % count);
    return false;
}

#endif
