/* Caches that change how they work while two CPUs use them: schedules of small scenarios, and
 * threads. Nothing is wrong with what the CPUs do, so nothing may be reported.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"
#include "sched_note.h"
#include "share.h"

#include "base/root.h"

#include <neomm/heap_debug.h>
#include <pthread.h>

#define CPUS   2u
#define ACTS   6u
#define BEFORE 3u
#define SIZE   100u
#define HELD   8u

enum act { REST, ALLOC, FREE, FREE_BEFORE, HARDEN, FAST, TRACK, UNTRACK, SHRINK, LATER };

struct plan {
    const char *name;
    enum act act[CPUS][ACTS];
};

static const struct plan plans[] = {
    {"hardened, and allocating", {{HARDEN}, {ALLOC, FREE, ALLOC}}},
    {"hardened, and freeing", {{HARDEN}, {FREE_BEFORE, FREE_BEFORE, ALLOC}}},
    {"hardened for a moment", {{HARDEN, FAST}, {ALLOC, FREE, FREE_BEFORE, ALLOC}}},
    {"hardened and back, freed", {{HARDEN, FAST, HARDEN}, {FREE_BEFORE, ALLOC, FREE}}},
    {"tracked, then hardened", {{TRACK, HARDEN}, {ALLOC, FREE_BEFORE, FREE, ALLOC}}},
    {"hardened, tracked or not", {{HARDEN, TRACK, FAST}, {ALLOC, FREE, ALLOC, FREE}}},
    {"tracked for a moment", {{TRACK, UNTRACK, TRACK}, {FREE_BEFORE, ALLOC, FREE, ALLOC}}},
    {"two change it", {{HARDEN, FAST}, {TRACK, UNTRACK}}},
    {"hardened, and both use it", {{ALLOC, HARDEN, FREE}, {ALLOC, FREE_BEFORE, FREE}}},
    {"hardened, and given back", {{HARDEN, ALLOC, FREE}, {SHRINK, ALLOC, FREE, SHRINK}}},
    {"hardened, and freed later", {{HARDEN, FAST}, {ALLOC, LATER, ALLOC, LATER}}},
};

struct match {
    struct ktap *t;
    const struct plan *plan;
    struct box box;
    uintptr_t before[BEFORE], block[CPUS][HELD];
    uint32_t gone, held[CPUS], mistakes, reports;
};

static void count_report(void *context, const struct neomm_heap_report *report)
{
    struct match *match = context;
    (void)report;
    (void)__atomic_fetch_add(&match->reports, 1, __ATOMIC_RELAXED);
}

static void expect(struct match *match, bool good)
{
    (void)__atomic_fetch_add(&match->mistakes, !good, __ATOMIC_RELAXED);
}

static void give(struct match *match, uintptr_t block, uint32_t id, bool later)
{
    struct neomm *root = match->box.root;
    expect(match, pattern_holds((void *)block, SIZE, id));
    neomm_status status =
        later ? neomm_kfree_nolock(root, (void *)block) : neomm_kfree(root, (void *)block);
    expect(match, status == NEOMM_OK);
}

static void get(struct match *match, uint32_t cpu)
{
    uintptr_t block = (uintptr_t)take(&match->box, SIZE, 0);
    expect(match, block != 0);
    if (block == 0)
        return;
    pattern_fill((void *)block, SIZE, cpu);
    match->block[cpu][match->held[cpu]++] = block;
}

/* BUSY: both change it at a time. */
static void change(struct match *match, enum act act)
{
    struct neomm *root = match->box.root;
    struct neomm_kmem *cache = neomm_kmem_for(root, SIZE);
    neomm_status status = NEOMM_OK;
    if (act == HARDEN || act == FAST)
        status = neomm_heap_set_profile(root, cache,
                                        act == HARDEN ? NEOMM_HEAP_HARDENED : NEOMM_HEAP_FAST);
    else if (act == TRACK || act == UNTRACK)
        status = neomm_heap_track(root, act == TRACK);
    else
        (void)neomm_heap_shrink(root);
    expect(match, status == NEOMM_OK || status == NEOMM_E_BUSY);
}

static void run(void *context, uint32_t cpu)
{
    struct match *match = context;
    for (uint32_t i = 0; i < ACTS; i++) {
        enum act act = match->plan->act[cpu][i];
        if (act == ALLOC)
            get(match, cpu);
        else if ((act == FREE || act == LATER) && match->held[cpu] > 0)
            give(match, match->block[cpu][--match->held[cpu]], cpu, act == LATER);
        else if (act == FREE_BEFORE)
            give(match, match->before[match->gone++], CPUS, false);
        else if (act > FREE_BEFORE && act != LATER)
            change(match, act);
    }
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *match = context;
    (void)seed;
    match->gone = match->mistakes = match->reports = 0;
    if (!box_open(match->t, &match->box, BOX_DIRECT, 4, CPUS))
        return NULL;
    neomm_heap_on_error(match->box.root, count_report, match);
    for (uint32_t i = 0; i < BEFORE; i++) {
        match->before[i] = (uintptr_t)take(&match->box, SIZE, 0);
        pattern_fill((void *)match->before[i], SIZE, CPUS);
    }
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        match->held[cpu] = 0;
    return match->box.env.machine;
}

/* Twice through the whole life of a HARDENED cache: what is left behind shows. */
static void use_again(struct match *match)
{
    uintptr_t block[2 * HELD];
    for (uint32_t round = 0; round < 40; round++) {
        for (uint32_t i = 0; i < 2 * HELD; i++) {
            block[i] = (uintptr_t)take(&match->box, SIZE, 0);
            pattern_fill((void *)block[i], SIZE, i);
        }
        for (uint32_t i = 0; i < 2 * HELD; i++)
            give(match, block[i], i, false);
    }
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *match = context;
    unsigned failures = match->t->failures;
    if (how != SIM_SCHED_DONE)
        return false;
    env_switch_cpu(&match->box.env, 0);
    while (match->gone < BEFORE)
        give(match, match->before[match->gone++], CPUS, false);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        while (match->held[cpu] > 0)
            give(match, match->block[cpu][--match->held[cpu]], cpu, false);
    env_fsck(match->t, &match->box.env);
    change(match, HARDEN);
    use_again(match);
    (void)neomm_heap_shrink(match->box.root);
    match->box.free_before = neomm_pmm_free_frames(match->box.root);
    box_close(match->t, &match->box);
    return match->mistakes == 0 && match->reports == 0 && match->t->failures == failures;
}

static void explore(struct ktap *t, struct match *match, const struct sim_sched_options *options)
{
    const struct sim_scenario scenario = {CPUS, match, begin, run, end};
    sched_search(t, match->plan->name, &scenario, options);
}

static void in_every_order(struct ktap *t)
{
    struct match match = {.t = t, .plan = &plans[t->parameter]};
    const struct sim_sched_options one = {
        .mode = SIM_SCHED_EXHAUSTIVE, .preemptions = 1, .schedules = share_of(2000), .seed = 1};
    const struct sim_sched_options many = {
        .mode = SIM_SCHED_RANDOM, .preemptions = 4, .schedules = share_of(400), .seed = 7};
    if (sim_sched_unavailable()) {
        ktap_skip(t, sim_sched_unavailable());
        return;
    }
    explore(t, &match, &one);
    explore(t, &match, &many);
}

/* ---- threads ---- */

#define THREADS 3u
#define SLOTS   200u

struct worker {
    pthread_t thread;
    struct match *match;
    uint32_t cpu;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct match *match = worker->match;
    uintptr_t slot[SLOTS] = {0};
    uint64_t random = worker->cpu + 99;
    uint32_t wrong = 0, steps = (uint32_t)share_of(20000);
    sim_bind(match->box.env.machine, worker->cpu);
    for (uint32_t i = 0; i < steps + SLOTS; i++) {
        uintptr_t *block = &slot[i < steps ? box_random(&random) % SLOTS : i - steps];
        uint32_t id = worker->cpu << 16 | (uint32_t)(block - slot);
        if (*block) {
            wrong += !pattern_holds((void *)*block, SIZE, id);
            wrong += neomm_kfree(match->box.root, (void *)*block) != NEOMM_OK;
            *block = 0;
        } else if (i < steps) {
            *block = (uintptr_t)take(&match->box, SIZE, 0);
            if (*block)
                pattern_fill((void *)*block, SIZE, id);
            wrong += *block == 0;
        }
    }
    sim_unbind();
    (void)__atomic_fetch_add(&match->mistakes, wrong, __ATOMIC_RELAXED);
    return NULL;
}

static void *change_all_the_time(void *argument)
{
    static const enum act acts[] = {HARDEN, TRACK, FAST, HARDEN, UNTRACK, SHRINK, FAST};
    struct worker *worker = argument;
    sim_bind(worker->match->box.env.machine, worker->cpu);
    for (uint32_t i = 0; i < share_of(300); i++)
        change(worker->match, acts[i % (sizeof(acts) / sizeof(acts[0]))]);
    sim_unbind();
    return NULL;
}

static void while_threads_work(struct ktap *t)
{
    struct match match = {.t = t};
    struct worker worker[THREADS];
    if (!box_open(t, &match.box, BOX_DIRECT, 32, THREADS))
        return;
    neomm_heap_on_error(match.box.root, count_report, &match);
    sim_unbind();
    for (uint32_t i = 0; i < THREADS; i++) {
        worker[i] = (struct worker){.match = &match, .cpu = i};
        EXPECT_EQ(
            t,
            pthread_create(&worker[i].thread, NULL, i > 0 ? work : change_all_the_time, &worker[i]),
            0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        EXPECT_EQ(t, pthread_join(worker[i].thread, NULL), 0);
    sim_bind(match.box.env.machine, 0);
    EXPECT_EQ(t, match.mistakes, 0);
    EXPECT_EQ(t, match.reports, 0);
    EXPECT_EQ(t, objects(&match.box), 0);
    (void)neomm_heap_shrink(match.box.root);
    match.box.free_before = neomm_pmm_free_frames(match.box.root);
    box_close(t, &match.box);
}

static const uint64_t plan_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

static const struct ktap_case cases[] = {
    KTAP_CASE(while_threads_work),
    KTAP_CASE_WITH(in_every_order, plan_numbers),
};

KTAP_SUITE(heap_switch, cases);
