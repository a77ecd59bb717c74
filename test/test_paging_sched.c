/* Page tables with two CPUs in them in many orders: the first schedules with two preemptions, and
 * some with many. Whatever the order, disjoint operations all succeed, overlapping ones share what
 * there is, a query never misses a page that stays, and no table is lost or left behind.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "paging/tables.h"
#include "sim/sim.h"

#include <stdlib.h>

#define PAGE     NEOMM_PAGE_SIZE
#define RW       (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define USER     ((neomm_vaddr_t)0x40000000)
#define CPUS_MAX 3u
#define CALLS    4u
#define CELLS    24u

/* Cells are pages. Those below 8 are the last ones of a table of leaves, the next 8 the first ones
 * of the table behind it, and those from 16 on have no table in common with them but the root. */
#define FAR_CELL 16u

enum act {
    REST,
    MAP,     /* `count` cells from `cell` on */
    UNMAP,   /* the same */
    REMOVE,  /* both tables of the first cells, as a whole */
    PROTECT, /* read only, and back */
    HARVEST,
    SEE,   /* queries: there or not */
    STAYS, /* queries: there all the time */
    FAULT, /* an exchange of nothing for the page */
    EVICT, /* of the page for a swap entry, and back */
    TOUCH, /* a write through the MMU, which may fault */
    LEAVE, /* other tables are loaded */
    COME,  /* and these again */
    SLEEP, /* idle: not called for pages */
    WAKE,
    PART /* the rights of one page of a large leaf, which holds the far cells */
};

struct call {
    enum act act;
    uint32_t cell, count;
};

struct plan {
    const char *name;
    uint32_t there; /* bit n: cell n is mapped before */
    bool large;     /* the far cells are in a large leaf */
    struct call call[CPUS_MAX][CALLS];
    int32_t gone; /* this many of the leaves that there were or came are not there in the end;
                     negative: any number */
    bool outside; /* the last CPU has other tables loaded: no shootdown waits for it */
};

static const struct plan plans[] = {
    {"map, map in a table", 0x80, false, {{{MAP, 0, 1}}, {{MAP, 2, 1}}}, 0, false},
    {"map, map in a table that is missing", 0, false, {{{MAP, 0, 1}}, {{MAP, 2, 1}}}, 0, false},
    {"map, map in two tables", 0, false, {{{MAP, 0, 1}}, {{MAP, 8, 1}}}, 0, false},
    {"map, map far away", 0, false, {{{MAP, 0, 1}}, {{MAP, 16, 1}}}, 0, false},
    {"map over a border, map behind it", 0, false, {{{MAP, 6, 4}}, {{MAP, 12, 1}}}, 0, false},
    {"map, unmap of the last", 0x4, false, {{{MAP, 0, 1}}, {{UNMAP, 2, 1}}}, 1, false},
    {"unmap, unmap of the last two", 0x5, false, {{{UNMAP, 0, 1}}, {{UNMAP, 2, 1}}}, 2, false},
    {"unmap, unmap of two tables", 0x101, false, {{{UNMAP, 0, 1}}, {{UNMAP, 8, 1}}}, 2, false},
    {"unmap, see", 0x1, false, {{{UNMAP, 0, 1}}, {{SEE, 0, 1}, {SEE, 0, 1}}}, 1, false},
    {"unmap and map, see", 0x1, false, {{{UNMAP, 0, 1}, {MAP, 0, 1}}, {{SEE, 0, 2}}}, 1, false},
    {"remove, see", 0x101, false, {{{REMOVE, 0, 0}}, {{SEE, 0, 1}, {SEE, 8, 1}}}, 2, false},
    {"remove, map far away", 0x101, false, {{{REMOVE, 0, 0}}, {{MAP, 16, 2}}}, 2, false},
    {"remove, map", 0x101, false, {{{REMOVE, 0, 0}}, {{MAP, 4, 2}}}, -1, false},
    {"remove, unmap", 0x101, false, {{{REMOVE, 0, 0}}, {{UNMAP, 8, 1}}}, 2, false},
    {"remove, fault", 0x100, false, {{{REMOVE, 0, 0}}, {{FAULT, 0, 1}}}, -1, false},
    {"fault, fault", 0, false, {{{FAULT, 0, 1}}, {{FAULT, 1, 1}}}, 0, false},
    {"fault, unmap of the last", 0x4, false, {{{FAULT, 0, 1}}, {{UNMAP, 2, 1}}}, 1, false},
    {"protect, stays", 0x3, false, {{{PROTECT, 0, 2}}, {{STAYS, 0, 1}, {STAYS, 1, 1}}}, 0, false},
    {"protect, touch", 0x3, false, {{{PROTECT, 0, 2}}, {{TOUCH, 0, 1}, {TOUCH, 1, 1}}}, 0, false},
    {"protect, protect", 0xff0, false, {{{PROTECT, 4, 6}}, {{PROTECT, 6, 6}}}, 0, false},
    {"evict, touch", 0x3, false, {{{EVICT, 0, 1}}, {{TOUCH, 0, 1}, {TOUCH, 1, 1}}}, 0, false},
    {"evict, harvest", 0x7, false, {{{TOUCH, 0, 1}, {EVICT, 0, 1}}, {{HARVEST, 1, 2}}}, 0, false},
    {"evict, harvest of the same",
     0x3,
     false,
     {{{EVICT, 0, 1}}, {{TOUCH, 0, 1}, {HARVEST, 0, 2}}},
     0,
     false},
    {"map, map of the same", 0, false, {{{MAP, 0, 2}}, {{MAP, 1, 2}}}, 0, false},
    {"unmap, unmap of the same", 0x3ff, false, {{{UNMAP, 0, 10}}, {{UNMAP, 5, 5}}}, 10, false},
    {"unmap, protect, both over the border",
     0xff0,
     false,
     {{{UNMAP, 4, 8}}, {{PROTECT, 6, 4}}},
     8,
     false},
    {"part, stays", 0, true, {{{PART, 16, 1}}, {{STAYS, 16, 1}, {STAYS, 18, 1}}}, 0, false},
    {"part, part", 0, true, {{{PART, 16, 1}}, {{PART, 18, 1}}}, 0, false},
    {"map, unmap, see",
     0x4,
     false,
     {{{MAP, 0, 1}}, {{UNMAP, 2, 1}}, {{SEE, 0, 1}, {SEE, 2, 1}}},
     1,
     false},
    {"unmap, unmap, leave and come",
     0x5,
     false,
     {{{UNMAP, 0, 1}},
      {{UNMAP, 2, 1}},
      {{TOUCH, 0, 1}, {TOUCH, 2, 1}, {LEAVE, 0, 0}, {COME, 0, 0}}},
     2,
     false},
    {"unmap, leave and come",
     0x5,
     false,
     {{{UNMAP, 0, 1}}, {{TOUCH, 0, 1}, {LEAVE, 0, 0}, {COME, 0, 0}, {TOUCH, 2, 1}}},
     1,
     false},
    {"unmap, see from outside", 0x1, false, {{{UNMAP, 0, 1}}, {{SEE, 0, 1}}}, 1, true},
    {"remove, see from outside", 0x101, false, {{{REMOVE, 0, 0}}, {{SEE, 0, 1}}}, 2, true},
    {"remove, map from outside", 0x101, false, {{{REMOVE, 0, 0}}, {{MAP, 4, 2}}}, -1, true},
    {"map, unmap, touch",
     0x14,
     false,
     {{{MAP, 0, 1}}, {{UNMAP, 2, 1}}, {{TOUCH, 4, 1}, {TOUCH, 2, 1}}},
     1,
     false},
    {"unmap, sleep and wake",
     0x5,
     false,
     {{{UNMAP, 0, 1}}, {{TOUCH, 0, 1}, {SLEEP, 0, 0}, {WAKE, 0, 0}, {PROTECT, 2, 1}}},
     1,
     false},
    {"protect, sleep and wake",
     0x3,
     false,
     {{{PROTECT, 0, 1}}, {{TOUCH, 0, 2}, {SLEEP, 0, 0}, {WAKE, 0, 0}, {TOUCH, 0, 1}}},
     0,
     false},
    {"remove, sleep and wake",
     0x101,
     false,
     {{{REMOVE, 0, 0}}, {{TOUCH, 0, 1}, {SLEEP, 0, 0}, {WAKE, 0, 0}, {TOUCH, 8, 1}}},
     2,
     false},
    {"unmap, unmap, sleep and wake",
     0x15,
     false,
     {{{UNMAP, 0, 1}},
      {{UNMAP, 2, 1}},
      {{TOUCH, 0, 1}, {SLEEP, 0, 0}, {WAKE, 0, 0}, {TOUCH, 0, 1}}},
     2,
     false},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct match {
    struct ktap *t;
    const struct plan *plan;
    uint32_t cpus;
    struct env env;
    struct neomm_tables tables;
    neomm_paddr_t paddr; /* of cell 0; congruent to a large leaf for the far ones */
    size_t large;
    uint32_t came, went, mistakes;
};

static void mistake(struct match *m, uint32_t cpu, const char *what)
{
    if (m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", cpu, what);
}

static void expect(struct match *m, uint32_t cpu, bool right, const char *what)
{
    if (!right)
        mistake(m, cpu, what);
}

static neomm_vaddr_t cell_vaddr(const struct match *m, uint32_t cell)
{
    if (cell >= FAR_CELL)
        return 2 * USER + (cell - FAR_CELL) * PAGE;
    return USER + m->large - 8 * PAGE + cell * PAGE;
}

static neomm_paddr_t cell_paddr(const struct match *m, uint32_t cell)
{
    return m->paddr + (cell >= FAR_CELL ? cell - FAR_CELL : cell) * PAGE;
}

/* ---- the calls ---- */

static void note_gone(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct match *m = context;
    (void)vaddr;
    m->went += leaf->state == NEOMM_MAPPING_PRESENT;
}

static void note_nothing(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)context;
    (void)vaddr;
    (void)leaf;
}

static void do_map(struct match *m, uint32_t cpu, const struct call *call)
{
    neomm_status status = neomm_paging_map(m->env.root, &m->tables, cell_vaddr(m, call->cell),
                                           cell_paddr(m, call->cell), call->count * PAGE, RW,
                                           NEOMM_CACHE_WB, NEOMM_MAP_SMALL);
    if (status == NEOMM_OK)
        m->came += call->count;
    expect(m, cpu, status == NEOMM_OK || status == NEOMM_E_EXISTS, "map failed");
}

static void do_unmap(struct match *m, uint32_t cpu, neomm_vaddr_t vaddr, size_t size)
{
    expect(m, cpu,
           neomm_paging_unmap(m->env.root, &m->tables, vaddr, size, note_gone, m, NULL) == NEOMM_OK,
           "unmap failed");
}

static void do_protect(struct match *m, uint32_t cpu, const struct call *call)
{
    neomm_vaddr_t vaddr = cell_vaddr(m, call->cell);
    size_t size = call->count * PAGE;
    expect(m, cpu,
           neomm_paging_protect(m->env.root, &m->tables, vaddr, size, NEOMM_PROT_READ) ==
                   NEOMM_OK &&
               neomm_paging_protect(m->env.root, &m->tables, vaddr, size, RW) == NEOMM_OK,
           "protect failed");
}

static void do_query(struct match *m, uint32_t cpu, const struct call *call)
{
    struct neomm_mapping leaf;
    neomm_vaddr_t vaddr = cell_vaddr(m, call->cell);
    expect(m, cpu, neomm_paging_query(m->env.root, &m->tables, vaddr, &leaf) == NEOMM_OK,
           "query failed");
    expect(m, cpu, leaf.state != NEOMM_MAPPING_NONE || call->act == SEE,
           "a query missed a page that stays");
    if (leaf.state == NEOMM_MAPPING_PRESENT)
        expect(m, cpu,
               leaf.paddr + (vaddr & (leaf.size - 1)) == cell_paddr(m, call->cell) &&
                   (leaf.prot & NEOMM_PROT_READ),
               "a query found something else");
}

static void do_fault(struct match *m, uint32_t cpu, const struct call *call)
{
    const struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE},
                               page = {.state = NEOMM_MAPPING_PRESENT,
                                       .prot = RW,
                                       .paddr = cell_paddr(m, call->cell)};
    expect(m, cpu,
           neomm_paging_exchange(m->env.root, &m->tables, cell_vaddr(m, call->cell), &none, &page,
                                 NULL) == NEOMM_OK,
           "an exchange failed");
    m->came++;
}

static void do_evict(struct match *m, uint32_t cpu, const struct call *call)
{
    const struct neomm_mapping page = {.state = NEOMM_MAPPING_PRESENT,
                                       .paddr = cell_paddr(m, call->cell)},
                               swapped = {.state = NEOMM_MAPPING_SWAPPED, .swap = {3, 1, 1}};
    struct neomm_mapping last;
    neomm_vaddr_t vaddr = cell_vaddr(m, call->cell);
    expect(m, cpu,
           neomm_paging_exchange(m->env.root, &m->tables, vaddr, &page, &swapped, &last) ==
                   NEOMM_OK &&
               neomm_paging_exchange(m->env.root, &m->tables, vaddr, &swapped, &last, NULL) ==
                   NEOMM_OK,
           "an exchange failed");
}

static void do_touch(struct match *m, const struct call *call)
{
    neomm_paddr_t paddr;
    uint32_t error;
    (void)sim_translate(m->env.machine, cell_vaddr(m, call->cell), SIM_WRITE, true, &paddr, &error);
}

static void do_call(struct match *m, uint32_t cpu, const struct call *call)
{
    neomm_vaddr_t vaddr = cell_vaddr(m, call->cell);
    switch (call->act) {
    case REST:
        break;
    case MAP:
        do_map(m, cpu, call);
        break;
    case UNMAP:
        do_unmap(m, cpu, vaddr, call->count * PAGE);
        break;
    case REMOVE:
        do_unmap(m, cpu, USER, 2 * m->large);
        break;
    case PROTECT:
    case PART:
        do_protect(m, cpu, call);
        break;
    case HARVEST:
        expect(m, cpu,
               neomm_paging_harvest(m->env.root, &m->tables, vaddr, call->count * PAGE, true,
                                    note_nothing, NULL) == NEOMM_OK,
               "harvest failed");
        break;
    case SEE:
    case STAYS:
        do_query(m, cpu, call);
        break;
    case FAULT:
        do_fault(m, cpu, call);
        break;
    case EVICT:
        do_evict(m, cpu, call);
        break;
    case TOUCH:
        do_touch(m, call);
        break;
    case LEAVE:
        neomm_paging_activate(m->env.root, neomm_paging_kernel(m->env.root));
        break;
    case COME:
        neomm_paging_activate(m->env.root, &m->tables);
        break;
    case SLEEP:
        neomm_paging_idle(m->env.root);
        sim_sched_point();
        break;
    case WAKE:
        neomm_paging_wake(m->env.root);
        break;
    }
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    if (!m->plan->outside || cpu + 1 < m->cpus)
        neomm_paging_activate(m->env.root, &m->tables);
    for (unsigned i = 0; i < CALLS; i++)
        do_call(m, cpu, &m->plan->call[cpu][i]);
    neomm_paging_activate(m->env.root, neomm_paging_kernel(m->env.root));
}

/* ---- before and after a schedule ---- */

static const uint64_t formats[] = ENV_FORMATS;

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    const struct env_options options = {.layer = ENV_PAGING,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = 4u << 20,
                                        .cpus = m->cpus,
                                        .seed = seed};
    m->came = m->went = m->mistakes = 0;
    if (!env_open(m->t, &m->env, &options))
        return NULL;
    m->large = options.format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20 : (size_t)2 << 20;
    m->paddr = 8 * m->large; /* no RAM */
    expect(m, 0, neomm_paging_create(m->env.root, &m->tables, 1) == NEOMM_OK, "no tables");
    for (uint32_t cell = 0; cell < CELLS; cell++)
        if (m->plan->there >> cell & 1u)
            do_map(m, 0, &(struct call){MAP, cell, 1});
    if (m->plan->large)
        expect(m, 0,
               neomm_paging_map(m->env.root, &m->tables, 2 * USER, m->paddr, m->large, RW,
                                NEOMM_CACHE_WB, 0) == NEOMM_OK,
               "no large leaf");
    return m->env.machine;
}

/* All that is left goes, and with it every table but the ones that a space begins with. */
static void check_rest(struct match *m)
{
    uint32_t went = m->went;
    if (m->plan->gone >= 0)
        expect(m, 0, went == (uint32_t)m->plan->gone, "leaves that went are not those that should");
    do_unmap(m, 0, USER, 2 * m->large);
    do_unmap(m, 0, 2 * USER, PAGE * CELLS);
    expect(m, 0, m->plan->large || m->came == m->went, "what came is not what went");
    do_unmap(m, 0, 2 * USER, m->large);
    expect(m, 0, m->tables.table_frames == (m->env.options.format == NEOMM_FORMAT_PAE ? 3u : 0u),
           "tables were left behind");
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&m->env);
        return false;
    }
    env_fsck(m->t, &m->env);
    check_rest(m);
    expect(m, 0, neomm_paging_destroy(m->env.root, &m->tables) == NEOMM_OK, "destroy failed");
    env_close(m->t, &m->env);
    return m->mistakes == 0 && m->t->failures == failures;
}

/* ---- many schedules ---- */

static void search(struct ktap *t, const struct sim_sched_options *options)
{
    const struct plan *plan = &plans[t->parameter];
    struct match match = {.t = t, .plan = plan, .cpus = plan->call[2][0].act == REST ? 2 : 3};
    const struct sim_scenario scenario = {match.cpus, &match, begin, run, end};
    sched_search(t, plan->name, &scenario, options);
}

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                        13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
                                        26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

/* Both formats, by the seed. */
static void by_seed(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                              .seed = 1000,
                                              .schedules = share_of(50 * sched_factor()),
                                              .preemptions = 24};
    search(t, &options);
}

/* The first ones with two preemptions: all of the shortest plans. */
static void one_after_the_other(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .seed = t->parameter,
                                              .schedules = share_of(100 * sched_factor()),
                                              .preemptions = 2};
    search(t, &options);
}

/* The moments at which a debt may be lost lie close together: more of the same. */
static const uint64_t sleepers[] = {35, 36, 37, 38};

static void a_debt_is_not_lost(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                              .seed = 2000,
                                              .schedules = 600 * sched_factor(),
                                              .preemptions = 8};
    search(t, &options);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
    KTAP_CASE_WITH(a_debt_is_not_lost, sleepers),
};
KTAP_SUITE(paging_sched, cases);
