/* Guarded objects on two CPUs in every simple order, and interrupted at every point.
 * SPDX-License-Identifier: MIT */
#include "guard_box.h"
#include "sched_note.h"
#include "share.h"

#include <stdlib.h>

enum act {
    FREE,       /* the object that both know */
    FREE_LATER, /* the same without waiting */
    SHRINK,
    USE,    /* an object of one's own, for a while */
    FAULT,  /* on the page of the object that both know */
    BEGIN,  /* makes the pool */
    SETTLE, /* takes the pages of freed objects away */
    ON,
    OFF /* sampling: the pages come and go */
};

struct plan {
    const char *name;
    enum act act[2];
    bool full;   /* the slot of the object is the only one that is not in use for good */
    bool freed;  /* the object is free when they begin */
    bool absent; /* there is no pool yet, and no object */
    bool open;   /* the page of the freed object has access still */
};

static const struct plan plans[] = {
    {"free, free", {FREE, FREE}, false, false, false, false},
    {"free, free later", {FREE, FREE_LATER}, false, false, false, false},
    {"free later, free later", {FREE_LATER, FREE_LATER}, false, false, false, false},
    {"free later, shrink", {FREE_LATER, SHRINK}, false, false, false, false},
    {"use, use", {USE, USE}, true, true, false, false},
    {"use, use with room", {USE, USE}, false, true, false, false},
    {"use, free", {USE, FREE}, true, false, false, false},
    {"use, fault", {USE, FAULT}, true, true, false, false},
    {"free, fault", {FREE, FAULT}, false, false, false, false},
    {"fault, fault", {FAULT, FAULT}, false, true, false, false},
    {"use, shrink", {USE, SHRINK}, true, true, false, false},
    {"begin, begin", {BEGIN, BEGIN}, false, false, true, false},
    {"begin, use", {BEGIN, USE}, false, false, true, false},
    {"free, settle", {FREE, SETTLE}, false, false, false, false},
    {"free later, settle", {FREE_LATER, SETTLE}, false, false, false, false},
    {"settle, settle", {SETTLE, SETTLE}, false, true, false, true},
    {"use, settle", {USE, SETTLE}, true, true, false, true},
    {"fault, settle", {FAULT, SETTLE}, false, true, false, true},
    {"off, free", {OFF, FREE}, false, false, false, false},
    {"off, free later", {OFF, FREE_LATER}, false, false, false, false},
    {"off, use", {OFF, USE}, false, true, false, false},
    {"off, settle", {OFF, SETTLE}, false, true, false, true},
    {"off, off", {OFF, OFF}, false, true, false, false},
    {"off, on", {OFF, ON}, false, true, false, false},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct match {
    struct ktap *t;
    const struct plan *plan;
    struct guard_box g;
    uintptr_t object;
    void *held[MOST];
    uint32_t count; /* of those */
    uint32_t freed, mistakes;
};

static void expect(struct match *m, bool good, const char *what)
{
    if (!good && m->mistakes++ == 0)
        ktap_note(m->t, "%s", what);
}

static void use(struct match *m, uint32_t cpu)
{
    uint8_t *block[3];
    for (uint32_t i = 0; i < 3; i++) {
        block[i] = take(&m->g.box, 70, 0);
        expect(m, block[i] != NULL, "no memory");
        pattern_fill(block[i], 70, cpu * 3 + i);
    }
    for (uint32_t i = 0; i < 3; i++) {
        expect(m, pattern_holds(block[i], 70, cpu * 3 + i), "somebody else has the object");
        expect(m, neomm_kfree(m->g.root, block[i]) == NEOMM_OK, "a free was refused");
    }
}

static void free_shared(struct match *m, bool later)
{
    uint8_t *object = guess(m->object);
    neomm_status status =
        later ? neomm_kfree_nolock(m->g.root, object) : neomm_kfree(m->g.root, object);
    m->freed += status == NEOMM_OK;
    expect(m, status == NEOMM_OK || status == NEOMM_E_DOUBLE_FREE, "a free went wrong");
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    enum act act = m->plan->act[cpu];
    if (act == FREE || act == FREE_LATER)
        free_shared(m, act == FREE_LATER);
    else if (act == SHRINK)
        (void)neomm_heap_shrink(m->g.root);
    else if (act == USE)
        use(m, cpu);
    else if (act == SETTLE)
        neomm_heap_settle(m->g.root);
    else if (act == ON || act == OFF)
        (void)neomm_heap_set_sampling(m->g.root, act == ON); /* BUSY while the other does so */
    else if (act == FAULT)
        expect(m, neomm_heap_fault(m->g.root, guess(m->object)), "the page is not known");
    else
        expect(m, neomm_heap_set_profile(m->g.root, NULL, NEOMM_HEAP_GUARDED) == NEOMM_OK,
               "no pool");
}

/* The object that both know, and what is in use for good. */
static void prepare(struct match *m)
{
    struct guard_box *g = &m->g;
    uint8_t *object = take_guarded(g, 70, ANYWHERE);
    expect(m, object != NULL, "no object");
    while (m->plan->full && m->count < MOST - 1)
        m->held[m->count++] = take_guarded(g, 100, ANYWHERE);
    m->object = (uintptr_t)object;
    if (m->plan->freed)
        expect(m, neomm_kfree(g->root, object) == NEOMM_OK, "a free was refused");
    if (!m->plan->open)
        neomm_heap_settle(g->root);
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    (void)seed;
    m->count = m->freed = m->mistakes = 0;
    if (!m->plan->absent) {
        if (!guard_open(m->t, &m->g, 1, 2))
            return NULL;
        prepare(m);
        return m->g.box.env.machine;
    }
    memset(&m->g, 0, sizeof(m->g));
    if (!box_open(m->t, &m->g.box, BOX_WINDOW, 16, 2))
        return NULL;
    m->g.root = m->g.box.root;
    neomm_heap_on_error(m->g.root, note_report, &m->g.findings);
    EXPECT_OK(m->t, neomm_heap_set_sampling(m->g.root, 1));
    return m->g.box.env.machine;
}

static uint32_t acts(const struct match *m, enum act act)
{
    return (m->plan->act[0] == act ? 1u : 0u) + (m->plan->act[1] == act ? 1u : 0u);
}

/* Each object went once, each fault and each free that came too late was reported once, and what
 * faulted has access. */
static void check(struct match *m)
{
    uint32_t frees = acts(m, FREE) + acts(m, FREE_LATER), faulted = acts(m, FAULT) > 0;
    struct neomm_mapping mapping;
    expect(m, m->freed == (frees > 0), "the object was not freed once");
    uint64_t found = box_counter(&m->g.box, NEOMM_COUNTER_BAD_FREE);
    expect(m, found == frees - (frees > 0) + faulted, "findings are not as many");
    if (faulted) {
        neomm_vaddr_t vaddr = neomm_window_vaddr(m->g.root, guess(m->object));
        (void)neomm_paging_query(m->g.root, neomm_paging_kernel(m->g.root), vaddr, &mapping);
        expect(m, mapping.prot & NEOMM_PROT_WRITE, "no access after a fault");
    }
    if (!m->plan->freed && !m->plan->absent && frees == 0)
        expect(m, neomm_kfree(m->g.root, guess(m->object)) == NEOMM_OK, "a free was refused");
    while (m->count > 0)
        expect(m, neomm_kfree(m->g.root, m->held[--m->count]) == NEOMM_OK, "a free was refused");
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        sim_destroy(m->g.box.env.machine);
        free(m->g.box.env.system);
        return false;
    }
    env_fsck(m->t, &m->g.box.env);
    check(m);
    if (m->plan->absent) {
        EXPECT_OK(m->t, neomm_heap_set_sampling(m->g.root, 0));
        m->g.free_before = guard_free_frames(&m->g);
    }
    guard_close(m->t, &m->g, m->g.findings.count);
    return m->mistakes == 0 && m->t->failures == failures;
}

static void search(struct ktap *t, const struct sim_sched_options *options)
{
    static struct match match;
    match = (struct match){.t = t, .plan = &plans[t->parameter]};
    const struct sim_scenario scenario = {2, &match, begin, run, end};
    sched_search(t, match.plan->name, &scenario, options);
}

static void one_after_the_other(struct ktap *t)
{
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_EXHAUSTIVE, .schedules = share_of(120), .preemptions = 2};
    search(t, &options);
}

static void by_seed(struct ktap *t)
{
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_RANDOM, .seed = 7, .schedules = share_of(40), .preemptions = 16};
    search(t, &options);
}

/* ---- interrupts ---- */

struct interrupt {
    struct guard_box *g;
    void *given; /* a guarded object that the handler frees */
    bool good;
    uint32_t runs;
};

static void handler(void *context)
{
    struct interrupt *interrupt = context;
    struct guard_box *g = interrupt->g;
    uint8_t *block = take(&g->box, 70, NEOMM_ATOMIC);
    interrupt->runs++;
    interrupt->good = block && !is_guarded(g, block) && neomm_kfree(g->root, block) == NEOMM_OK &&
                      neomm_kfree(g->root, interrupt->given) == NEOMM_OK;
}

/* kmalloc, kfree and what else changes slots, interrupted at each of their points. */
static void interrupted_everywhere(struct ktap *t)
{
    struct guard_box g;
    uint64_t points = 1;
    if (!guard_open(t, &g, 1, 1))
        return;
    struct sim *sim = g.box.env.machine;
    for (uint64_t n = 1; n <= points && t->failures == 0; n++) {
        struct interrupt interrupt = {.g = &g, .given = take_guarded(&g, 70, ANYWHERE)};
        ASSERT(t, interrupt.given != NULL);
        uint64_t before = sim_points(sim);
        sim_interrupt_at(sim, n, handler, &interrupt);
        uint8_t *block = take(&g.box, 70, 0);
        ASSERT(t, block != NULL);
        memset(block, 1, 70);
        EXPECT_OK(t, n % 2 ? neomm_kfree(g.root, block) : neomm_kfree_nolock(g.root, block));
        (void)neomm_heap_shrink(g.root);
        if (n == 1)
            points = sim_points(sim) - before;
        sim_interrupt_at(sim, 0, NULL, NULL);
        if (interrupt.runs == 0)
            EXPECT_OK(t, neomm_kfree(g.root, interrupt.given));
        else
            EXPECT(t, interrupt.good);
    }
    EXPECT(t, points > 20);
    guard_close(t, &g, 0);
}

static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                        12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE(interrupted_everywhere),
};
KTAP_SUITE(heap_guard_sched, cases);
