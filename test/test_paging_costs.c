/* What each operation on page tables costs, counted and not timed: descents, entries read and
 * written, tables made and freed, bytes zeroed, invalidations. An algorithm that does more than it
 * has to shows here, on any machine.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "paging/tables.h"

#include "sim/sim.h"

#include <string.h>

static const uint64_t formats[] = ENV_FORMATS;

#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGE NEOMM_PAGE_SIZE
#define USER ((neomm_vaddr_t)0x40000000)
/* No RAM lies there, so nobody else is given what is mapped. */
#define AWAY ((neomm_paddr_t)0x40000000)

/* All exact but the reads, which are the most that are allowed. */
struct cost {
    uint64_t descents, reads, stores, made, freed, zeroed;
    uint64_t pages, alls, shootdowns;
};

struct setting {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_tables tables; /* loaded on CPU 1; CPU 0 works */
    unsigned levels, entries;   /* entries of a table of leaves */
    unsigned built;             /* tables from the first entry that is missing in an empty space */
    size_t entry, large;        /* bytes of an entry, of a leaf of level 1 */
    struct cost before;
};

static struct cost costs_now(struct neomm *root)
{
    struct neomm_snapshot s;
    neomm_snapshot_take(root, &s);
    return (struct cost){s.counter[NEOMM_COUNTER_DESCENT],     s.counter[NEOMM_COUNTER_ENTRY_READ],
                         s.counter[NEOMM_COUNTER_ENTRY_STORE], s.counter[NEOMM_COUNTER_TABLE_ALLOC],
                         s.counter[NEOMM_COUNTER_TABLE_FREE],  s.counter[NEOMM_COUNTER_TABLE_ZERO],
                         s.counter[NEOMM_COUNTER_FLUSH_PAGE],  s.counter[NEOMM_COUNTER_FLUSH_ALL],
                         s.counter[NEOMM_COUNTER_SHOOTDOWN]};
}

/* Compares what was spent since the last time. */
static void spent(struct setting *s, const char *what, struct cost want)
{
    struct ktap *t = s->t;
    struct cost now = costs_now(s->root);
    unsigned failures = t->failures;
    EXPECT_EQ(t, now.descents - s->before.descents, want.descents);
    EXPECT(t, now.reads - s->before.reads <= want.reads);
    EXPECT_EQ(t, now.stores - s->before.stores, want.stores);
    EXPECT_EQ(t, now.made - s->before.made, want.made);
    EXPECT_EQ(t, now.freed - s->before.freed, want.freed);
    EXPECT_EQ(t, now.zeroed - s->before.zeroed, want.zeroed);
    EXPECT_EQ(t, now.pages - s->before.pages, want.pages);
    EXPECT_EQ(t, now.alls - s->before.alls, want.alls);
    EXPECT_EQ(t, now.shootdowns - s->before.shootdowns, want.shootdowns);
    if (t->failures != failures)
        ktap_note(t, "this was: %s (%llu reads)", what,
                  (unsigned long long)(now.reads - s->before.reads));
    s->before = costs_now(s->root);
}

static bool open_setting(struct ktap *t, struct setting *s)
{
    struct env_options options = {
        .layer = ENV_PAGING, .format = (enum neomm_format)t->parameter, .cpus = 2};
    memset(s, 0, sizeof(*s));
    s->t = t;
    if (!env_open(t, &s->env, &options))
        return false;
    bool narrow = options.format == NEOMM_FORMAT_2LEVEL;
    s->root = s->env.root;
    s->levels = s->root->paging->engine->levels;
    s->entries = narrow ? 1024 : 512;
    s->entry = narrow ? 4 : 8;
    s->large = s->entries * PAGE;
    s->built = options.format == NEOMM_FORMAT_PAE ? 1 : s->levels - 1;
    EXPECT_OK(t, neomm_paging_create(s->root, &s->tables, 1));
    env_switch_cpu(&s->env, 1);
    neomm_paging_activate(s->root, &s->tables);
    env_switch_cpu(&s->env, 0);
    s->before = costs_now(s->root);
    return true;
}

static void close_setting(struct setting *s)
{
    struct ktap *t = s->t;
    env_switch_cpu(&s->env, 1);
    neomm_paging_activate(s->root, neomm_paging_kernel(s->root));
    env_switch_cpu(&s->env, 0);
    EXPECT_OK(t, neomm_paging_unmap(s->root, &s->tables, USER, USER, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(s->root, &s->tables));
    env_close(t, &s->env);
}

static void map(struct setting *s, neomm_vaddr_t vaddr, size_t size, unsigned options)
{
    struct ktap *t = s->t;
    EXPECT_OK(
        t, neomm_paging_map(s->root, &s->tables, vaddr, AWAY, size, RW, NEOMM_CACHE_WB, options));
}

static void unmap(struct setting *s, neomm_vaddr_t vaddr, size_t size)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_unmap(s->root, &s->tables, vaddr, size, NULL, NULL, NULL));
}

static void protect(struct setting *s, neomm_vaddr_t vaddr, size_t size, neomm_prot_t prot)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_protect(s->root, &s->tables, vaddr, size, prot));
}

/* ---- map ---- */

static void mapping(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    unsigned n = s.entries, l = s.levels;
    map(&s, USER, PAGE, 0);
    spent(&s, "the first page: a table a level, the rest of each zeroed",
          (struct cost){.descents = 1,
                        .reads = 2 * l,
                        .stores = s.built + 1,
                        .made = s.built,
                        .zeroed = s.built * (PAGE - s.entry)});
    map(&s, USER + PAGE, PAGE, 0);
    spent(&s, "a page beside another", (struct cost){.descents = 1, .reads = l + 1, .stores = 1});
    map(&s, USER + 2 * PAGE, s.large - 2 * PAGE, NEOMM_MAP_SMALL);
    spent(&s, "the rest of its table",
          (struct cost){.descents = 1, .reads = n + l, .stores = n - 2});
    map(&s, USER + s.large, s.large, NEOMM_MAP_SMALL);
    spent(&s, "a whole table: nothing is zeroed, nothing is read",
          (struct cost){.descents = 1, .reads = 2 * l, .stores = n + 1, .made = 1});
    map(&s, USER + 8 * s.large, 8 * s.large, NEOMM_MAP_SMALL);
    spent(&s, "eight tables",
          (struct cost){.descents = 1, .reads = l + 24, .stores = 8 * (n + 1), .made = 8});
    map(&s, USER + 16 * s.large, s.large, 0);
    spent(&s, "a large leaf", (struct cost){.descents = 1, .reads = 2 * l, .stores = 1});
    EXPECT_EQ(t,
              neomm_paging_map(s.root, &s.tables, USER, AWAY, s.large, RW, NEOMM_CACHE_WB,
                               NEOMM_MAP_SMALL),
              NEOMM_E_EXISTS);
    spent(&s, "what is taken", (struct cost){.descents = 1, .reads = l + 1});
    close_setting(&s);
}

/* ---- unmap ---- */

static void unmapping(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    unsigned l = s.levels, n = s.entries;
    unsigned above = s.built - 1; /* tables above those of leaves that go with the last of these */
    map(&s, USER, 4 * s.large, NEOMM_MAP_SMALL);
    s.before = costs_now(s.root);
    unmap(&s, USER + PAGE, PAGE);
    spent(&s, "a page",
          (struct cost){.descents = 1, .reads = l + 1, .stores = 1, .pages = 1, .shootdowns = 1});
    unmap(&s, USER + PAGE, PAGE);
    spent(&s, "nothing", (struct cost){.descents = 1, .reads = l + 1});
    unmap(&s, USER + 2 * PAGE, 8 * PAGE);
    spent(&s, "eight pages",
          (struct cost){.descents = 1, .reads = l + 8, .stores = 8, .pages = 8, .shootdowns = 1});
    unmap(&s, USER, s.large);
    spent(&s, "what is left in a table: one store takes it out",
          (struct cost){.descents = 1,
                        .reads = n + 3 * l + 64,
                        .stores = 1,
                        .freed = 1,
                        .alls = 1,
                        .shootdowns = 1});
    unmap(&s, USER + s.large, s.large + PAGE);
    spent(&s, "a table and a page",
          (struct cost){.descents = 1,
                        .reads = 4 * l + 64,
                        .stores = 2,
                        .freed = 1,
                        .alls = 1,
                        .shootdowns = 1});
    unmap(&s, USER, 8 * s.large);
    spent(&s, "the last tables, and those above",
          (struct cost){.descents = 1,
                        .reads = n + 1024,
                        .stores = 2 + above,
                        .freed = 2 + above,
                        .alls = 1,
                        .shootdowns = 1});
    close_setting(&s);
}

/* ---- rights, bits, sizes ---- */

static void see(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    *(uint64_t *)context += vaddr != 0 && leaf->state != NEOMM_MAPPING_NONE;
}

static void refer(struct setting *s, neomm_vaddr_t vaddr, unsigned pages)
{
    struct ktap *t = s->t;
    neomm_paddr_t paddr;
    uint32_t error;
    env_switch_cpu(&s->env, 1);
    for (unsigned i = 0; i < pages; i++)
        EXPECT(t, sim_translate(s->env.machine, vaddr + i * PAGE, SIM_WRITE, true, &paddr, &error));
    env_switch_cpu(&s->env, 0);
}

static void changing(struct ktap *t)
{
    struct setting s;
    uint64_t seen = 0;
    ASSERT(t, open_setting(t, &s));
    unsigned n = s.entries, l = s.levels;
    map(&s, USER, 2 * s.large, NEOMM_MAP_SMALL);
    map(&s, USER + 16 * s.large, s.large, 0);
    s.before = costs_now(s.root);
    protect(&s, USER, s.large, NEOMM_PROT_READ);
    spent(
        &s, "less rights for a table",
        (struct cost){.descents = 1, .reads = n + l + 4, .stores = n, .alls = 1, .shootdowns = 1});
    protect(&s, USER, s.large, NEOMM_PROT_READ);
    spent(&s, "the same rights", (struct cost){.descents = 1, .reads = n + l + 4});
    protect(&s, USER, s.large, RW);
    spent(&s, "more rights", (struct cost){.descents = 1, .reads = n + l + 4, .stores = n});
    protect(&s, USER + PAGE, PAGE, NEOMM_PROT_NONE);
    spent(&s, "no rights for a page",
          (struct cost){.descents = 1, .reads = l + 4, .stores = 1, .pages = 1, .shootdowns = 1});
    refer(&s, USER + 8 * PAGE, 3);
    EXPECT_OK(t, neomm_paging_harvest(s.root, &s.tables, USER, 2 * s.large, true, see, &seen));
    EXPECT_EQ(t, seen, 2 * n);
    spent(&s, "a harvest: a store where a bit was set",
          (struct cost){
              .descents = 2, .reads = 2 * n + 3 * l, .stores = 3, .pages = 3, .shootdowns = 1});
    protect(&s, USER + 16 * s.large, PAGE, RW);
    spent(&s, "a large leaf in parts: out of sight, then the new table",
          (struct cost){.descents = 1,
                        .reads = l + 8,
                        .stores = 1 + n + 1,
                        .made = 1,
                        .pages = 1,
                        .shootdowns = 1});
    close_setting(&s);
}

/* Pages on their way to swap, scattered over two tables: one descent a table, one invalidation. */
static void leaving(struct ktap *t)
{
    struct setting s;
    struct neomm_paging_victim victim[8];
    ASSERT(t, open_setting(t, &s));
    map(&s, USER, 2 * s.large, NEOMM_MAP_SMALL);
    for (uint32_t i = 0; i < 8; i++) {
        size_t at = i / 4 * s.large + i % 4 * 3 * PAGE;
        victim[i] = (struct neomm_paging_victim){.vaddr = USER + at,
                                                 .frame = neomm_paddr_frame(AWAY + at),
                                                 .slot = {100 + i, 1, NEOMM_SWAP_SLOT},
                                                 .gone = true};
        refer(&s, USER + at, 1);
    }
    victim[7].frame.number++; /* it is not the page's any more */
    s.before = costs_now(s.root);
    EXPECT_OK(t, neomm_paging_clean(s.root, &s.tables, victim, 8));
    spent(&s, "cleaning",
          (struct cost){
              .descents = 2, .reads = 12 + 3 * s.levels, .stores = 7, .pages = 7, .shootdowns = 1});
    for (uint32_t i = 0; i < 8; i++)
        EXPECT_EQ(t, victim[i].dirty, i != 7);
    refer(&s, victim[2].vaddr, 1);
    s.before = costs_now(s.root);
    EXPECT_OK(t, neomm_paging_swap_out(s.root, &s.tables, victim, 8));
    spent(&s, "swapping out",
          (struct cost){
              .descents = 2, .reads = 12 + 3 * s.levels, .stores = 6, .pages = 6, .shootdowns = 1});
    for (uint32_t i = 0; i < 8; i++) {
        struct neomm_mapping now;
        EXPECT_EQ(t, victim[i].gone, i != 2 && i != 7);
        EXPECT_OK(t, neomm_paging_query(s.root, &s.tables, victim[i].vaddr, &now));
        EXPECT_EQ(t, now.state, victim[i].gone ? NEOMM_MAPPING_SWAPPED : NEOMM_MAPPING_PRESENT);
        EXPECT(t, !victim[i].gone || now.swap.slot == 100 + i);
    }
    EXPECT_OK(t, neomm_paging_swap_out(s.root, &s.tables, victim, 8));
    EXPECT(t, !victim[0].gone && !victim[2].gone);
    victim[1].vaddr = victim[0].vaddr;
    EXPECT_EQ(t, neomm_paging_clean(s.root, &s.tables, victim, 8), NEOMM_E_INVALID);
    victim[1].vaddr++;
    EXPECT_EQ(t, neomm_paging_clean(s.root, &s.tables, victim, 8), NEOMM_E_ALIGN);
    close_setting(&s);
}

/* ---- one entry, and looking around ---- */

static void looking(struct ktap *t)
{
    struct setting s;
    struct neomm_mapping there, none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping swapped = {.state = NEOMM_MAPPING_SWAPPED, .swap = {5, 1, 1}};
    uint64_t seen = 0;
    ASSERT(t, open_setting(t, &s));
    unsigned n = s.entries, l = s.levels;
    map(&s, USER, PAGE, 0);
    s.before = costs_now(s.root);
    EXPECT_OK(t, neomm_paging_query(s.root, &s.tables, USER, &there));
    spent(&s, "a query", (struct cost){.descents = 1, .reads = l});
    EXPECT_OK(t, neomm_paging_exchange(s.root, &s.tables, USER, &there, &swapped, NULL));
    spent(&s, "a page that goes to swap",
          (struct cost){.descents = 1, .reads = l + 1, .stores = 1, .pages = 1, .shootdowns = 1});
    EXPECT_OK(t, neomm_paging_exchange(s.root, &s.tables, USER, &swapped, &there, NULL));
    spent(&s, "and comes back", (struct cost){.descents = 1, .reads = l + 1, .stores = 1});
    EXPECT_EQ(t, neomm_paging_exchange(s.root, &s.tables, USER, &swapped, &there, NULL),
              NEOMM_E_AGAIN);
    spent(&s, "a lost race", (struct cost){.descents = 1, .reads = l + 1});
    EXPECT_OK(t, neomm_paging_exchange(s.root, &s.tables, USER + PAGE, &none, &there, NULL));
    spent(&s, "a first touch", (struct cost){.descents = 1, .reads = l + 1, .stores = 1});
    EXPECT_OK(t, neomm_paging_exchange(s.root, &s.tables, USER + s.large, &none, &there, NULL));
    spent(&s, "a first touch that needs a table",
          (struct cost){
              .descents = 1, .reads = l + 2, .stores = 2, .made = 1, .zeroed = PAGE - s.entry});
    EXPECT_OK(t, neomm_paging_walk(s.root, &s.tables, USER, 2 * s.large, see, &seen));
    EXPECT_EQ(t, seen, 3);
    spent(&s, "a walk", (struct cost){.descents = 2, .reads = 2 * n + 3 * l});
    close_setting(&s);
}

/* ---- the kernel's, and CPUs that have nothing to forget ---- */

static void sharing(struct ktap *t)
{
    struct setting s;
    neomm_vaddr_t vaddr;
    ASSERT(t, open_setting(t, &s));
    struct neomm_tables *kernel = neomm_paging_kernel(s.root);
    EXPECT_OK(t, neomm_window_alloc(s.root, 2 * PAGE, &vaddr));
    EXPECT_OK(t, neomm_paging_map(s.root, kernel, vaddr, AWAY, 2 * PAGE, RW, NEOMM_CACHE_WB, 0));
    s.before = costs_now(s.root);
    EXPECT_OK(t, neomm_paging_unmap(s.root, kernel, vaddr, PAGE, NULL, NULL, NULL));
    spent(&s, "a page of the kernel's: both CPUs forget it",
          (struct cost){
              .descents = 1, .reads = s.levels + 1, .stores = 1, .pages = 2, .shootdowns = 1});
    EXPECT_OK(t, neomm_paging_unmap(s.root, kernel, vaddr + PAGE, PAGE, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_window_free(s.root, vaddr));
    map(&s, USER, 2 * PAGE, 0);
    env_switch_cpu(&s.env, 1);
    s.before = costs_now(s.root);
    unmap(&s, USER, PAGE);
    spent(&s, "by the CPU that has it, alone",
          (struct cost){.descents = 1, .reads = s.levels + 1, .stores = 1, .pages = 1});
    neomm_paging_activate(s.root, kernel);
    unmap(&s, USER + PAGE, PAGE);
    s.before.freed = costs_now(s.root).freed;
    spent(&s, "loaded nowhere: nobody is told",
          (struct cost){.descents = 1, .reads = 8 * s.levels, .stores = 1 + s.built});
    close_setting(&s);
}

/* ---- how long interrupts are masked ---- */

/* A part of an operation: so many pages, and what locks and tables cost beside them. */
#define PART_PAGES ((uint64_t)8192)
#define BESIDE     (PART_PAGES / 8)

/* `a_page`: the accesses to entries that a page costs. One that an MMU may write to is exchanged, a
 * point and a store; 0: less than one. */
static void expect_short(struct setting *s, const char *what, unsigned a_page)
{
    struct ktap *t = s->t;
    uint64_t most = sim_masked_most(s->env.machine);
    ktap_note(t, "%s: %llu", what, (unsigned long long)most);
    EXPECT(t, most <= a_page * PART_PAGES + BESIDE);
    EXPECT(t, most >= (a_page != 0 ? PART_PAGES : 1));
}

static void masked(struct ktap *t)
{
    struct setting s;
    struct neomm_tables other;
    uint64_t seen = 0;
    const size_t size = (size_t)256 << 20;
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    ASSERT(t, open_setting(t, &s));
    env_switch_cpu(&s.env, 1);
    neomm_paging_activate(s.root, neomm_paging_kernel(s.root));
    env_switch_cpu(&s.env, 0);
    (void)sim_masked_most(s.env.machine);
    map(&s, USER, size, NEOMM_MAP_SMALL);
    expect_short(&s, "map", 1);
    protect(&s, USER, size, NEOMM_PROT_READ);
    expect_short(&s, "protect", 2);
    EXPECT_OK(t, neomm_paging_harvest(s.root, &s.tables, USER, size, true, see, &seen));
    EXPECT_OK(t, neomm_paging_walk(s.root, &s.tables, USER, size, see, &seen));
    EXPECT_EQ(t, seen, 2 * size / PAGE);
    expect_short(&s, "harvest and walk", 0);
    protect(&s, USER, size, NEOMM_PROT_READ | NEOMM_PROT_WRITE);
    (void)sim_masked_most(s.env.machine);
    EXPECT_OK(t, neomm_paging_create(s.root, &other, 2));
    EXPECT_OK(t, neomm_paging_copy(s.root, &s.tables, &other, USER, size, see, &seen));
    EXPECT_EQ(t, seen, 3 * size / PAGE);
    expect_short(&s, "copy", 3);
    EXPECT_OK(t, neomm_paging_unmap(s.root, &other, USER, size, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(s.root, &other));
    (void)sim_masked_most(s.env.machine);
    unmap(&s, USER, size);
    expect_short(&s, "unmap", 0);
    close_setting(&s);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(mapping, formats),  KTAP_CASE_WITH(unmapping, formats),
    KTAP_CASE_WITH(changing, formats), KTAP_CASE_WITH(looking, formats),
    KTAP_CASE_WITH(leaving, formats),  KTAP_CASE_WITH(sharing, formats),
    KTAP_CASE_WITH(masked, formats),
};
KTAP_SUITE(paging_costs, cases);
