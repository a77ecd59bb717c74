/* The frame allocator with two CPUs in it in every order: all schedules of small scenarios with
 * at most two preemptions, each checked against what any order of the calls could come to.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"
#include "sched_note.h"

#include <stdlib.h>

#define CPUS   2u
#define CALLS  3u    /* of a CPU */
#define HELD   8u    /* blocks that a CPU may hold */
#define FRAMES 1024u /* of the machine */
#define NOBODY CPUS
#define BEFORE (CPUS + 1) /* a block that was there when the CPUs began */

enum call_kind { NO_CALL, ALLOC, FREE, FREE_LAST, CLAIM, RANGE, BULK };

/* One call. ALLOC order; FREE block number, with this order; FREE_LAST what the CPU got last; CLAIM
 * and RANGE so many frames, CLAIM from the first of block 0; BULK so many frames. */
struct call {
    enum call_kind kind;
    uint32_t number;
    unsigned order;
};

struct block {
    neomm_frame_t frame;
    unsigned order;
    bool free;
};

struct plan {
    const char *name;
    uint32_t free;      /* fill memory but for so many frames; 0: leave it empty */
    unsigned blocks[2]; /* 1 + order of blocks there before; 0: none */
    bool hole;          /* block 0 is free again when the CPUs begin */
    struct call call[CPUS][CALLS];
    uint32_t wins; /* exactly so many calls succeed; 0: any number */
    uint32_t preemptions;
};

static const struct plan plans[] = {
    {"alloc, alloc", 0, {0}, false, {{{ALLOC, 0, 0}}, {{ALLOC, 0, 0}}}, 2, 2},
    {"alloc, free", 0, {1}, false, {{{ALLOC, 0, 0}}, {{FREE, 0, 0}}}, 2, 2},
    {"free, free", 0, {1, 1}, false, {{{FREE, 0, 0}}, {{FREE, 1, 0}}}, 2, 2},
    {"free of the same", 0, {1}, false, {{{FREE, 0, 0}}, {{FREE, 0, 0}}}, 1, 2},
    {"free of the same block", 0, {4}, false, {{{FREE, 0, 3}}, {{FREE, 0, 3}}}, 1, 2},
    {"free with another order", 0, {3}, false, {{{FREE, 0, 2}}, {{FREE, 0, 1}}}, 1, 2},
    {"order 9, order 0", 0, {0}, false, {{{ALLOC, 0, 9}}, {{ALLOC, 0, 0}}}, 2, 2},
    {"order 9, order 9", 0, {0}, false, {{{ALLOC, 0, 9}}, {{ALLOC, 0, 9}}}, 0, 2},
    {"free of order 9, order 0", 0, {10}, false, {{{FREE, 0, 9}}, {{ALLOC, 0, 0}}}, 2, 1},
    {"claim, alloc", 0, {4}, true, {{{CLAIM, 8, 0}}, {{ALLOC, 0, 0}}}, 0, 2},
    {"claim, claim", 0, {4}, true, {{{CLAIM, 8, 0}}, {{CLAIM, 4, 0}}}, 1, 2},
    {"claim, free", 0, {4}, false, {{{CLAIM, 8, 0}}, {{FREE, 0, 3}}}, 0, 2},
    {"range, alloc", 0, {0}, false, {{{RANGE, 6, 0}}, {{ALLOC, 0, 2}}}, 2, 2},
    {"the last frame", 1, {0}, false, {{{ALLOC, 0, 0}}, {{ALLOC, 0, 0}}}, 1, 2},
    {"the last frame, given back",
     1,
     {0},
     false,
     {{{ALLOC, 0, 0}, {FREE_LAST, 0, 0}}, {{ALLOC, 0, 0}, {FREE_LAST, 0, 0}}},
     0,
     2},
    {"the last frames in bulk", 5, {0}, false, {{{BULK, 3, 0}}, {{BULK, 3, 0}}}, 0, 2},
    {"a free for who finds none",
     1,
     {1},
     false,
     {{{ALLOC, 0, 0}, {ALLOC, 0, 0}}, {{FREE, 0, 0}}},
     0,
     2},
    {"two and two",
     0,
     {0},
     false,
     {{{ALLOC, 0, 0}, {ALLOC, 0, 1}, {FREE_LAST, 0, 0}}, {{ALLOC, 0, 1}, {FREE_LAST, 0, 0}}},
     5,
     2},
};

static const uint64_t plan_numbers[] = {0, 1,  2,  3,  4,  5,  6,  7,  8,
                                        9, 10, 11, 12, 13, 14, 15, 16, 17};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == sizeof(plans) / sizeof(plans[0]),
               "each plan is run");

static struct world world;

struct match {
    struct ktap *t;
    const struct plan *plan;
    struct block block[2];         /* there before */
    struct block held[CPUS][HELD]; /* got in this schedule */
    uint32_t count[CPUS];
    uint32_t owner[FRAMES]; /* CPU, NOBODY or BEFORE */
    uint32_t wins, mistakes;
    neomm_frame_t fill[FRAMES];
    uint32_t filled;
};
static struct match match;

/* ---- the calls ---- */

static void mistake(struct match *m, const char *what, uint32_t cpu)
{
    if (m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", cpu, what);
}

/* Frames got by a CPU: nobody else has them. */
static void got(struct match *m, uint32_t cpu, neomm_frame_t frame, unsigned order)
{
    for (uint32_t i = frame.number; i < frame.number + (1u << order); i++) {
        if (world.state[i] != WORLD_FREE || m->owner[i] != NOBODY)
            mistake(m, "was given a frame that somebody has", cpu);
        m->owner[i] = cpu;
    }
    m->held[cpu][m->count[cpu]++] = (struct block){frame, order, false};
}

static void got_frames(struct match *m, uint32_t cpu, const neomm_frame_t *frames, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        got(m, cpu, frames[i], 0);
}

static void got_range(struct match *m, uint32_t cpu, neomm_frame_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        got(m, cpu, neomm_frame(first.number + i), 0);
}

static void own(struct match *m, const struct block *block, uint32_t owner)
{
    for (uint32_t i = 0; i < 1u << block->order; i++)
        m->owner[block->frame.number + i] = owner;
}

/* The frames of a block that is given back are nobody's from before the call on. */
static neomm_status give_back(struct match *m, struct block *block, unsigned order)
{
    if (order == block->order && !block->free)
        own(m, block, NOBODY);
    neomm_status status = neomm_pmm_free(world.root, block->frame, order);
    if (status == NEOMM_OK)
        block->free = true;
    else if (status != NEOMM_E_DOUBLE_FREE && status != NEOMM_E_INVALID)
        mistake(m, "free came to another error", neomm_port_cpu()->index);
    return status;
}

static neomm_status give_last(struct match *m, uint32_t cpu)
{
    if (m->count[cpu] == 0)
        return NEOMM_E_NOENT;
    struct block *last = &m->held[cpu][--m->count[cpu]];
    neomm_status status = give_back(m, last, last->order);
    if (status != NEOMM_OK)
        mistake(m, "could not give back what it had", cpu);
    return status;
}

static neomm_status take(struct match *m, uint32_t cpu, unsigned order)
{
    neomm_frame_t frame;
    neomm_status status = neomm_pmm_alloc(world.root, order, NEOMM_ATOMIC, &frame);
    if (status == NEOMM_OK)
        got(m, cpu, frame, order);
    else if (status != NEOMM_E_NOMEM)
        mistake(m, "alloc came to another error", cpu);
    return status;
}

static neomm_status take_many(struct match *m, uint32_t cpu, const struct call *call)
{
    neomm_frame_t frame[HELD] = {0};
    const struct neomm_range_request request = {.frames = call->number, .flags = NEOMM_ATOMIC};
    neomm_status status;
    if (call->kind == BULK) {
        status = neomm_pmm_alloc_bulk(world.root, call->number, NEOMM_ATOMIC, frame);
        if (status == NEOMM_OK)
            got_frames(m, cpu, frame, call->number);
        return status;
    }
    frame[0] = m->block[0].frame;
    status = call->kind == CLAIM ? neomm_pmm_claim(world.root, frame[0], call->number)
                                 : neomm_pmm_alloc_range(world.root, &request, &frame[0]);
    if (status == NEOMM_OK)
        got_range(m, cpu, frame[0], call->number);
    return status;
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    for (uint32_t i = 0; i < CALLS; i++) {
        const struct call *call = &m->plan->call[cpu][i];
        neomm_status status = NEOMM_E_NOENT;
        if (call->kind == NO_CALL)
            return;
        if (call->kind == ALLOC)
            status = take(m, cpu, call->order);
        else if (call->kind == FREE)
            status = give_back(m, &m->block[call->number], call->order);
        else if (call->kind == FREE_LAST)
            status = give_last(m, cpu);
        else
            status = take_many(m, cpu, call);
        m->wins += status == NEOMM_OK;
    }
}

/* ---- before and after a schedule ---- */

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    (void)seed;
    for (uint32_t i = 0; i < FRAMES; i++)
        m->owner[i] = NOBODY;
    for (unsigned i = 0; i < 2; i++) {
        struct block *block = &m->block[i];
        if (m->plan->blocks[i] == 0)
            continue;
        *block = (struct block){.order = m->plan->blocks[i] - 1};
        EXPECT_OK(m->t, neomm_pmm_alloc(world.root, block->order, 0, &block->frame));
        if (m->plan->hole && i == 0)
            EXPECT_OK(m->t, neomm_pmm_free(world.root, block->frame, block->order));
        block->free = m->plan->hole && i == 0;
        own(m, block, block->free ? NOBODY : BEFORE);
    }
    m->wins = m->mistakes = 0;
    memset(m->count, 0, sizeof(m->count));
    return world.sim;
}

static void mark(const struct block *block, enum world_state state)
{
    world_mark(&world, block->frame.number, 1u << block->order, state);
}

/* The statistics and the consistency check must agree with who has what; then all of it goes back,
 * so that the next schedule begins like this one. */
static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE)
        return false;
    for (unsigned i = 0; i < 2; i++)
        if (m->plan->blocks[i] != 0 && !m->block[i].free)
            mark(&m->block[i], WORLD_USED);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (uint32_t i = 0; i < m->count[cpu]; i++)
            mark(&m->held[cpu][i], WORLD_USED);
    world_compare(m->t, &world);
    world_fsck(m->t, &world);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        for (uint32_t i = 0; i < m->count[cpu]; i++) {
            const struct block *block = &m->held[cpu][i];
            EXPECT_OK(m->t, neomm_pmm_free(world.root, block->frame, block->order));
            mark(block, WORLD_FREE);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        if (m->plan->blocks[i] == 0 || m->block[i].free)
            continue;
        EXPECT_OK(m->t, neomm_pmm_free(world.root, m->block[i].frame, m->block[i].order));
        mark(&m->block[i], WORLD_FREE);
    }
    if (m->plan->wins != 0)
        EXPECT_EQ(m->t, m->wins, m->plan->wins);
    return m->mistakes == 0 && m->t->failures == failures;
}

/* ---- all schedules of a plan ---- */

static void fill(struct match *m)
{
    uint64_t free = neomm_pmm_free_frames(world.root);
    uint64_t left = m->plan->free;
    for (unsigned i = 0; i < 2; i++)
        left += m->plan->blocks[i] != 0 ? 1u << (m->plan->blocks[i] - 1) : 0;
    m->filled = 0;
    while (m->plan->free != 0 && free-- > left) {
        ASSERT_OK(m->t, neomm_pmm_alloc(world.root, 0, 0, &m->fill[m->filled]));
        world_mark(&world, m->fill[m->filled++].number, 1, WORLD_USED);
    }
}

static bool open_plan(struct ktap *t, const struct plan *plan)
{
    static const struct neomm_boot_range map[] = {{0, 4u << 20, NEOMM_MEMORY_USABLE}};
    const struct world_options options = {
        .ram_bytes = 4u << 20, .map = map, .map_count = 1, .cpus = CPUS};
    if (!world_open(t, &world, &options))
        return false;
    memset(&match, 0, sizeof(match));
    match.t = t;
    match.plan = plan;
    fill(&match);
    return true;
}

static void close_plan(struct ktap *t, const struct sim_sched_result *result)
{
    if (result->end != SIM_SCHED_DONE) {
        ktap_fail(t, __FILE__, __LINE__, match.plan->name);
        sched_note(t, result);
        sim_destroy(world.sim);
        free(world.metadata);
        return;
    }
    for (uint32_t i = 0; i < match.filled; i++)
        EXPECT_OK(t, neomm_pmm_free(world.root, match.fill[i], 0));
    world_close(t, &world);
}

static void in_every_order(struct ktap *t)
{
    const struct plan *plan = &plans[t->parameter];
    const struct sim_scenario scenario = {CPUS, &match, begin, run, end};
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .preemptions = plan->preemptions};
    struct sim_sched_result result;
    if (sim_sched_unavailable()) {
        ktap_skip(t, sim_sched_unavailable());
        return;
    }
    if (!open_plan(t, plan))
        return;
    (void)sim_sched_explore(&scenario, &options, &result);
    ktap_note(t, "%s: %llu schedules, %llu points", plan->name,
              (unsigned long long)result.schedules, (unsigned long long)result.points);
    EXPECT(t, result.complete);
    EXPECT(t, result.schedules > 10);
    close_plan(t, &result);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(in_every_order, plan_numbers)};
KTAP_SUITE(pmm_sched, cases);
