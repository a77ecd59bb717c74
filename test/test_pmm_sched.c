/* The frame allocator with two CPUs in it in every order: all schedules of small scenarios with
 * few preemptions, each checked against what any order of the calls could come to.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"
#include "sched_note.h"
#include "share.h"

#include <stdlib.h>

#define CPUS    2u
#define CALLS   6u  /* of a CPU */
#define HELD    80u /* blocks that a CPU may hold */
#define BEFORES 6u
#define GAPS    3u
#define FRAMES  ((uint32_t)2 << 16) /* of the largest machine */
#define NOBODY  CPUS
#define BEFORE  (CPUS + 1) /* a block that was there when the CPUs began */
#define FILLED  (CPUS + 2) /* so that memory is nearly full */

enum call_kind {
    NO_CALL,
    ALLOC,     /* a block of an order */
    FREE,      /* block `number` of those there before, as one of this order */
    FREE_LAST, /* what the CPU got last */
    CLAIM,     /* `number` frames from the first of block 0 */
    RANGE,     /* `number` frames */
    BULK,      /* `number` frames */
    DRAIN,
    STATS, /* of all zones, as a program would ask for */
    STOP,  /* CPU `number` goes offline */
    START
};

struct call {
    enum call_kind kind;
    uint32_t number;
    unsigned order;
    neomm_flags_t flags;
};

struct block {
    neomm_frame_t frame;
    unsigned order;
    bool free;
};

enum machine { SMALL, HIGH, LARGE };

/* Frames that are free when the CPUs begin; without any all are. */
struct gap {
    uint32_t first, count;
};

struct plan {
    const char *name;
    unsigned blocks[2]; /* 1 + order of blocks there before; 0: none */
    struct call call[CPUS][CALLS];
    uint32_t wins; /* exactly so many calls succeed; 0: any number */
    uint32_t preemptions;
    bool more; /* one more than that takes long: with NEOMM_SCHEDULES in the environment */
    enum machine machine;
    struct gap gap[GAPS];
    bool hole;                         /* block 0 is free again when the CPUs begin */
    struct call before[CPUS][BEFORES]; /* what each CPU does to get its caches into a state */
    uint32_t reserve;
    bool sure; /* the first call of CPU 0 succeeds whenever it comes */
};

#define A0                                                                                         \
    {                                                                                              \
        ALLOC, 0, 0, 0                                                                             \
    }
#define ORDER3_HIGH                                                                                \
    {                                                                                              \
        ALLOC, 0, 3, NEOMM_HIGH                                                                    \
    }
#define F_LAST                                                                                     \
    {                                                                                              \
        FREE_LAST, 0, 0, 0                                                                         \
    }
#define RESERVE                                                                                    \
    {                                                                                              \
        ALLOC, 0, 0, NEOMM_RESERVE                                                                 \
    }
/* The CPU's cache keeps one frame that was given back. */
#define NOTHING                                                                                    \
    {                                                                                              \
        {                                                                                          \
            NO_CALL, 0, 0, 0                                                                       \
        }                                                                                          \
    }
#define ONE_CACHED                                                                                 \
    {                                                                                              \
        A0, F_LAST                                                                                 \
    }
/* The cache, of 7 in a small machine, keeps 5. */
#define NEARLY_FULL                                                                                \
    {                                                                                              \
        {BULK, 9, 0, 0}, F_LAST, F_LAST, F_LAST, F_LAST, F_LAST                                    \
    }
#define FIVE_FREE                                                                                  \
    {                                                                                              \
        {                                                                                          \
            500, 5                                                                                 \
        }                                                                                          \
    }
#define ONE_FREE                                                                                   \
    {                                                                                              \
        {                                                                                          \
            500, 1                                                                                 \
        }                                                                                          \
    }

static const struct plan plans[] = {
    {"alloc, alloc", .call = {{A0}, {A0}}, .wins = 2, .preemptions = 2},
    {"alloc, free", .blocks = {1}, .call = {{A0}, {{FREE, 0, 0, 0}}}, .wins = 2, .preemptions = 2},
    {"free, free", .blocks = {1, 1}, .call = {{{FREE, 0, 0, 0}}, {{FREE, 1, 0, 0}}}, .wins = 2,
     .preemptions = 2},
    {"free of the same", .blocks = {1}, .call = {{{FREE, 0, 0, 0}}, {{FREE, 0, 0, 0}}}, .wins = 1,
     .preemptions = 2},
    {"free of the same block", .blocks = {4}, .call = {{{FREE, 0, 3, 0}}, {{FREE, 0, 3, 0}}},
     .wins = 1, .preemptions = 2},
    {"free with another order", .blocks = {3}, .call = {{{FREE, 0, 2, 0}}, {{FREE, 0, 1, 0}}},
     .wins = 1, .preemptions = 2},
    {"order 9, order 0", .call = {{{ALLOC, 0, 9, 0}}, {A0}}, .wins = 2, .preemptions = 2},
    {"order 9, order 9", .call = {{{ALLOC, 0, 9, 0}}, {{ALLOC, 0, 9, 0}}}, .wins = 1,
     .preemptions = 2},
    {"free of order 9, order 0", .blocks = {10}, .call = {{{FREE, 0, 9, 0}}, {A0}}, .wins = 2,
     .preemptions = 1},
    {"claim, alloc", .blocks = {4}, .call = {{{CLAIM, 8, 0, 0}}, {A0}}, .preemptions = 2,
     .hole = true},
    {"claim, claim", .blocks = {4}, .call = {{{CLAIM, 8, 0, 0}}, {{CLAIM, 4, 0, 0}}}, .wins = 1,
     .preemptions = 2, .hole = true},
    {"claim, free", .blocks = {4}, .call = {{{CLAIM, 8, 0, 0}}, {{FREE, 0, 3, 0}}},
     .preemptions = 2},
    {"range, alloc", .call = {{{RANGE, 6, 0, 0}}, {{ALLOC, 0, 2, 0}}}, .wins = 2, .preemptions = 2},
    {"the last frame", .call = {{A0}, {A0}}, .wins = 1, .preemptions = 2, .gap = ONE_FREE},
    {"the last frame, given back", .call = {{A0, F_LAST}, {A0, F_LAST}}, .preemptions = 2,
     .gap = ONE_FREE},
    {"the last frames in bulk", .call = {{{BULK, 3, 0, 0}}, {{BULK, 3, 0, 0}}}, .wins = 1,
     .preemptions = 1, .more = true, .gap = FIVE_FREE},
    {"a free for who finds none", .blocks = {1}, .call = {{A0, A0}, {{FREE, 0, 0, 0}}},
     .preemptions = 2, .gap = {{500, 2}}},
    {"two and two", .call = {{A0, {ALLOC, 0, 1, 0}, F_LAST}, {{ALLOC, 0, 1, 0}, F_LAST}}, .wins = 5,
     .preemptions = 2},
    /* With frames in the caches. */
    {"the last frame, in the other's cache", .call = {{A0}, NOTHING}, .wins = 1, .preemptions = 2,
     .gap = ONE_FREE, .before = {NOTHING, ONE_CACHED}},
    {"the last frame, in the other's cache, and both want it", .call = {{A0}, {A0}}, .wins = 1,
     .preemptions = 2, .gap = ONE_FREE, .before = {NOTHING, ONE_CACHED}},
    {"the last frame, in a cache that another drains", .call = {{A0}, {{DRAIN, 0, 0, 0}}},
     .wins = 2, .preemptions = 2, .gap = ONE_FREE, .before = {ONE_CACHED}},
    {"the last frame, in a third cache that another drains", .call = {{A0}, {{STATS, 0, 0, 0}}},
     .wins = 2, .preemptions = 1, .more = true, .gap = ONE_FREE, .before = {NOTHING, ONE_CACHED}},
    {"two frames for two", .call = {{A0}, {A0}}, .wins = 2, .preemptions = 2, .gap = {{500, 2}},
     .before = {NOTHING, ONE_CACHED}},
    {"refill, refill", .call = {{A0, A0}, {A0, A0}}, .wins = 4, .preemptions = 2, .gap = FIVE_FREE},
    {"flush, flush", .call = {{F_LAST, F_LAST, F_LAST}, {F_LAST, F_LAST, F_LAST}}, .wins = 6,
     .preemptions = 2, .before = {NEARLY_FULL, NEARLY_FULL}},
    {"flush, drain", .blocks = {1}, .call = {{{FREE, 0, 0, 0}}, {{DRAIN, 0, 0, 0}}}, .wins = 2,
     .preemptions = 2, .before = {NEARLY_FULL}},
    {"free of the same, with caches in front", .blocks = {1},
     .call = {{{FREE, 0, 0, 0}}, {{FREE, 0, 0, 0}}}, .wins = 1, .preemptions = 2,
     .before = {ONE_CACHED, ONE_CACHED}},
    {"offline, alloc", .call = {{{STOP, 1, 0, 0}}, {A0}}, .wins = 2, .preemptions = 2,
     .gap = ONE_FREE, .before = {NOTHING, ONE_CACHED}},
    {"offline, free", .blocks = {1},
     .call = {{{STOP, 1, 0, 0}, {START, 1, 0, 0}}, {{FREE, 0, 0, 0}}}, .wins = 3, .preemptions = 2,
     .gap = {{500, 3}}, .before = {NOTHING, ONE_CACHED}},
    {"order 3 of frames in caches", .call = {{{ALLOC, 0, 3, 0}}, NOTHING}, .wins = 1,
     .preemptions = 2, .gap = {{504, 8}}, .before = {ONE_CACHED, ONE_CACHED}},
    {"order 3 of frames that another drains", .call = {{{ALLOC, 0, 3, 0}}, {{STATS, 0, 0, 0}}},
     .wins = 2, .preemptions = 1, .more = true, .gap = {{504, 8}},
     .before = {ONE_CACHED, ONE_CACHED}},
    {"order 3, order 0", .call = {{{ALLOC, 0, 3, 0}}, {A0}}, .wins = 2, .preemptions = 2,
     .gap = {{500, 1}, {504, 8}, {518, 1}}},
    {"order 3, order 3", .call = {{{ALLOC, 0, 3, 0}}, {{ALLOC, 0, 3, 0}}}, .wins = 1,
     .preemptions = 2, .gap = {{504, 8}, {516, 3}}},
    {"two of order 3", .call = {{{ALLOC, 0, 3, 0}}, {{ALLOC, 0, 3, 0}}}, .wins = 2,
     .preemptions = 2, .gap = {{504, 8}, {520, 8}}},
    {"order 8, order 7", .call = {{{ALLOC, 0, 8, 0}}, {{ALLOC, 0, 7, 0}}}, .preemptions = 1,
     .more = true, .gap = {{512, 256}, {896, 128}}},
    {"order 8, order 2", .call = {{{ALLOC, 0, 8, 0}}, {{ALLOC, 0, 2, 0}}}, .preemptions = 1,
     .more = true, .gap = {{512, 256}, {900, 4}}},
    {"range of frames in caches", .call = {{{RANGE, 5, 0, 0}}, NOTHING}, .wins = 1,
     .preemptions = 2, .gap = FIVE_FREE, .before = {ONE_CACHED, ONE_CACHED}},
    {"range, a cached frame", .call = {{{RANGE, 5, 0, 0}}, {A0}}, .preemptions = 2,
     .gap = {{500, 5}, {600, 1}, {700, 1}}, .before = {NOTHING, ONE_CACHED}},
    {"range, order 3", .call = {{{RANGE, 8, 0, 0}}, {{ALLOC, 0, 3, 0}}}, .wins = 1,
     .preemptions = 2, .gap = {{504, 8}, {600, 1}}},
    {"claim of frames in caches", .blocks = {4}, .call = {{{CLAIM, 8, 0, 0}}, NOTHING}, .wins = 1,
     .preemptions = 2, .gap = {{504, 8}}, .hole = true, .before = {ONE_CACHED, ONE_CACHED}},
    /* What was free while somebody looked elsewhere. */
    {"a block freed above, one taken below", .blocks = {4},
     .call = {{ORDER3_HIGH}, {{FREE, 0, 3, 0}, {ALLOC, 0, 3, 0}}}, .preemptions = 2,
     .machine = HIGH, .gap = {{304, 8}, {1104, 8}, {1201, 14}}, .sure = true},

    /* The last frames for NEOMM_RESERVE. */
    {"reserve, alloc", .call = {{RESERVE}, {A0}}, .preemptions = 2, .gap = {{500, 9}},
     .reserve = 8},
    {"the reserve in this CPU's cache", .call = {{RESERVE, A0, A0}, {A0}}, .preemptions = 2,
     .gap = {{500, 10}}, .reserve = 8},
    {"the reserve, and others in a cache", .call = {{RESERVE, RESERVE}, {A0, A0, A0}},
     .preemptions = 2, .gap = {{500, 12}}, .reserve = 8, .before = {NOTHING, ONE_CACHED}},
    {"reserve, free", .blocks = {1, 1}, .call = {{RESERVE}, {{FREE, 0, 0, 0}, {FREE, 1, 0, 0}, A0}},
     .preemptions = 2, .gap = {{500, 10}}, .reserve = 8, .before = {{RESERVE}}},
    /* With 2 MiB blocks in the caches. */
    {"order 9, in the other's cache", .call = {{{ALLOC, 0, 9, 0}}, {{ALLOC, 0, 9, 0}}}, .wins = 1,
     .preemptions = 2, .machine = LARGE, .gap = {{66048, 512}},
     .before = {NOTHING, {{ALLOC, 0, 9, 0}, F_LAST}}},
    {"order 9, order 0 and a cache", .call = {{{ALLOC, 0, 9, 0}}, {A0}}, .wins = 2,
     .preemptions = 2, .machine = LARGE, .gap = {{66048, 512}, {70000, 1}},
     .before = {NOTHING, {A0, F_LAST, {ALLOC, 0, 9, 0}, F_LAST}}},
    {"order 0 from a block in a cache", .call = {{A0}, {A0}}, .wins = 2, .preemptions = 1,
     .machine = LARGE, .gap = {{66048, 512}}, .before = {NOTHING, {{ALLOC, 0, 9, 0}, F_LAST}}},
    {"refill of 64, of 64", .call = {{A0}, {A0}}, .wins = 2, .preemptions = 1, .machine = LARGE,
     .gap = {{66048, 80}}},
    {"bulk of 64, drain", .call = {{{BULK, 64, 0, 0}}, {{STATS, 0, 0, 0}}}, .wins = 2,
     .preemptions = 1, .machine = LARGE, .gap = {{66048, 64}}, .before = {ONE_CACHED, ONE_CACHED}},
    {"order 10 whose second half is taken", .call = {{{ALLOC, 0, 10, 0}}, {{ALLOC, 0, 9, 0}}},
     .wins = 1, .preemptions = 2, .machine = LARGE, .gap = {{66560, 1024}}},
    {"order 10, order 0 in its second half", .call = {{{ALLOC, 0, 10, 0}}, {A0}}, .preemptions = 2,
     .machine = LARGE, .gap = {{66560, 1024}}},
    {"order 10 over two halves", .call = {{{ALLOC, 0, 10, 0}}, {{ALLOC, 0, 10, 0}}}, .wins = 1,
     .preemptions = 2, .machine = LARGE, .gap = {{66048, 1536}}},
};

static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                        14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
                                        28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41,
                                        42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == sizeof(plans) / sizeof(plans[0]),
               "each plan is run");

static struct world world;

/* What the CPUs came to. */
struct match {
    struct ktap *t;
    const struct plan *plan;
    struct block block[2];             /* there before */
    struct block held[CPUS + 2][HELD]; /* got in this schedule; BEFORE: not looked at */
    uint32_t count[CPUS + 2];
    uint8_t owner[FRAMES]; /* CPU, NOBODY or BEFORE */
    bool had[FRAMES];      /* was somebody's at any time in this schedule */
    uint32_t free;         /* frames, counting those on their way in either direction */
    uint32_t most[CPUS];   /* of `free` in the call that the CPU is in */
    struct call failed[CPUS * CALLS];
    uint32_t failures, wins, mistakes;
};
static struct match match, begun; /* begun: as it is when the CPUs begin */
static uint8_t *metadata;         /* the library's, then */

/* ---- the calls ---- */

static void mistake(struct match *m, const char *what, uint32_t cpu)
{
    if (m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", cpu, what);
}

static void more_free(struct match *m, uint32_t count)
{
    m->free += count;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        m->most[cpu] = m->most[cpu] < m->free ? m->free : m->most[cpu];
}

/* Frames got by a CPU: nobody else has them. */
static void got(struct match *m, uint32_t cpu, neomm_frame_t frame, unsigned order)
{
    for (uint32_t i = frame.number; i < frame.number + (1u << order); i++) {
        if (world.state[i] != WORLD_FREE || m->owner[i] != NOBODY)
            mistake(m, "was given a frame that somebody has", cpu);
        m->owner[i] = (uint8_t)cpu;
        m->had[i] = true;
    }
    m->free -= 1u << order;
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

/* The frames of a block that is given back are nobody's from before the call on. */
static neomm_status give_back(struct match *m, struct block *block, unsigned order)
{
    bool owned = order == block->order && m->owner[block->frame.number] != NOBODY;
    for (uint32_t i = 0; owned && i < 1u << order; i++)
        m->owner[block->frame.number + i] = NOBODY;
    more_free(m, owned ? 1u << order : 0);
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

static neomm_status take(struct match *m, uint32_t cpu, const struct call *call)
{
    neomm_frame_t frame;
    neomm_status status =
        neomm_pmm_alloc(world.root, call->order, call->flags | NEOMM_ATOMIC, &frame);
    if (status == NEOMM_OK)
        got(m, cpu, frame, call->order);
    if (status == NEOMM_OK && !(call->flags & NEOMM_RESERVE) &&
        m->most[cpu] < m->plan->reserve + (1u << call->order))
        mistake(m, "was given a part of the reserve", cpu);
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

static neomm_status ask_statistics(void)
{
    struct neomm_zone_stats stats;
    for (int zone = 0; zone < NEOMM_ZONES; zone++)
        neomm_pmm_zone_stats(world.root, (enum neomm_zone)zone, &stats);
    return NEOMM_OK;
}

static neomm_status make(struct match *m, uint32_t cpu, const struct call *call)
{
    m->most[cpu] = m->free;
    switch (call->kind) {
    case ALLOC:
        return take(m, cpu, call);
    case FREE:
        return give_back(m, &m->block[call->number], call->order);
    case FREE_LAST:
        return give_last(m, cpu);
    case DRAIN:
        neomm_pmm_drain(world.root);
        return NEOMM_OK;
    case STATS:
        return ask_statistics();
    case STOP:
        return neomm_pmm_cpu_offline(world.root, call->number);
    case START:
        return neomm_pmm_cpu_online(world.root, call->number);
    default:
        return take_many(m, cpu, call);
    }
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    for (uint32_t i = 0; i < CALLS && m->plan->call[cpu][i].kind != NO_CALL; i++) {
        const struct call *call = &m->plan->call[cpu][i];
        neomm_status status = make(m, cpu, call);
        m->wins += status == NEOMM_OK;
        if (m->plan->sure && cpu == 0 && i == 0 && status != NEOMM_OK)
            mistake(m, "was refused though there was something all the time", cpu);
        if (status == NEOMM_E_NOMEM || (call->kind == CLAIM && status == NEOMM_E_BUSY))
            m->failed[m->failures++] = *call;
        else if (status != NEOMM_OK && call->kind != FREE && call->kind != FREE_LAST)
            mistake(m, "came to another error", cpu);
    }
}

/* ---- before and after a schedule ---- */

static struct sim *begin(void *context, uint64_t seed)
{
    (void)context;
    (void)seed;
    memcpy(world.metadata, metadata, world.metadata_size);
    match = begun;
    return world.sim;
}

/* Frames from `first` on that were nobody's all the time, as far as `most`. */
static uint32_t idle_from(const struct match *m, uint32_t first, uint32_t most)
{
    uint32_t count = 0;
    while (count < most && first + count < world.frames && !m->had[first + count] &&
           world.state[first + count] == WORLD_FREE)
        count++;
    return count;
}

/* Nobody may be refused what was there all the time. */
static void check_failed(struct match *m, const struct call *call)
{
    uint32_t size = call->kind == ALLOC ? 1u << call->order : call->number, idle = 0;
    uint32_t step = call->kind == ALLOC ? size : 1;
    bool there = false;
    for (uint32_t at = 0; m->plan->reserve == 0 && at < world.frames; at += step) {
        idle += idle_from(m, at, 1);
        if (call->kind == ALLOC || call->kind == RANGE)
            there |= idle_from(m, at, size) == size;
    }
    if (call->kind == BULK)
        there = idle >= size;
    if (call->kind == CLAIM)
        there = m->plan->reserve == 0 && idle_from(m, m->block[0].frame.number, size) == size;
    if (there)
        mistake(m, "somebody was refused frames that were free", NOBODY);
}

/* The statistics and the consistency check must agree with who has what. */
static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE)
        return false;
    for (uint32_t i = 0; i < m->failures; i++)
        check_failed(m, &m->failed[i]);
    for (uint32_t i = 0; i < world.frames; i++)
        if (world.state[i] == WORLD_FREE && m->owner[i] != NOBODY)
            world.state[i] = WORLD_USED;
    EXPECT_EQ(m->t, neomm_pmm_free_frames(world.root), m->free);
    if (m->plan->machine != LARGE)
        world_compare(m->t, &world);
    world_fsck(m->t, &world);
    for (uint32_t i = 0; i < world.frames; i++)
        if (world.state[i] == WORLD_USED && m->owner[i] != FILLED)
            world.state[i] = WORLD_FREE;
    if (m->plan->wins != 0)
        EXPECT_EQ(m->t, m->wins, m->plan->wins);
    return m->mistakes == 0 && m->t->failures == failures;
}

/* ---- all schedules of a plan ---- */

static bool in_gap(const struct plan *plan, uint32_t frame)
{
    for (unsigned i = 0; i < GAPS; i++)
        if (frame - plan->gap[i].first < plan->gap[i].count)
            return true;
    return plan->gap[0].count == 0;
}

/* Fills memory but for the gaps, or frees what filled it. */
static void fill(struct ktap *t, const struct plan *plan, bool fill)
{
    for (uint32_t from = 0, to; from < world.frames; from = to) {
        to = from + 1;
        if (world.state[from] != (fill ? WORLD_FREE : WORLD_USED) || in_gap(plan, from))
            continue;
        while (to < world.frames && world.state[to] == world.state[from] && !in_gap(plan, to))
            to++;
        if (fill)
            EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(from), to - from));
        else
            EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(from), to - from));
        world_mark(&world, from, to - from, fill ? WORLD_USED : WORLD_FREE);
    }
}

/* What is there before the CPUs begin, who then find everything as it is left here. */
static void prepare(struct match *m)
{
    for (uint32_t i = 0; i < world.frames; i++)
        m->owner[i] = world.state[i] == WORLD_USED ? FILLED : NOBODY;
    m->free = world_count(&world, 0, world.frames, WORLD_FREE);
    for (unsigned i = 0; i < 2; i++) {
        struct block *block = &m->block[i];
        if (m->plan->blocks[i] == 0)
            continue;
        *block = (struct block){.order = m->plan->blocks[i] - 1};
        EXPECT_OK(m->t, neomm_pmm_alloc(world.root, block->order, NEOMM_HIGH, &block->frame));
        got(m, BEFORE, block->frame, block->order);
        if (m->plan->hole && i == 0)
            EXPECT_OK(m->t, give_back(m, block, block->order));
    }
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        sim_bind(world.sim, cpu);
        for (uint32_t i = 0; i < BEFORES && m->plan->before[cpu][i].kind != NO_CALL; i++)
            EXPECT_OK(m->t, make(m, cpu, &m->plan->before[cpu][i]));
    }
    sim_bind(world.sim, 0);
    memset(m->had, 0, sizeof(m->had));
    for (uint32_t i = 0; i < world.frames; i++)
        m->had[i] = m->owner[i] != NOBODY;
    memcpy(metadata, world.metadata, world.metadata_size);
    begun = *m;
}

static bool open_plan(struct ktap *t, const struct plan *plan)
{
    static const uint64_t megabytes[] = {4, 8, 288};
    const struct neomm_boot_range map = {0, megabytes[plan->machine] << 20, NEOMM_MEMORY_USABLE};
    const struct world_options options = {.ram_bytes = map.length,
                                          .map = &map,
                                          .map_count = 1,
                                          .cpus = CPUS,
                                          .direct_bytes = plan->machine == HIGH ? 4u << 20 : 0,
                                          .slots = plan->machine == HIGH,
                                          .reserve_frames = plan->reserve};
    if (!world_open(t, &world, &options))
        return false;
    memset(&match, 0, sizeof(match));
    match.t = t;
    match.plan = plan;
    metadata = malloc(world.metadata_size);
    fill(t, plan, true);
    prepare(&match);
    return true;
}

/* Everything goes back, from the state in which the CPUs began. */
static void close_plan(struct ktap *t)
{
    (void)begin(NULL, 0);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        while (match.count[cpu] > 0)
            EXPECT_OK(t, give_last(&match, cpu));
    for (unsigned i = 0; i < 2; i++)
        if (match.plan->blocks[i] != 0 && !match.block[i].free)
            EXPECT_OK(t, give_back(&match, &match.block[i], match.block[i].order));
    fill(t, match.plan, false);
    free(metadata);
    world_close(t, &world);
}

/* A share has one preemption less where that leaves one: all plans, and all schedules of those. */
static uint32_t preemptions_of(const struct plan *plan)
{
    if (share_divisor() >= 8 && plan->preemptions > 1)
        return plan->preemptions - 1;
    return plan->preemptions + (plan->more && getenv("NEOMM_SCHEDULES"));
}

static void in_every_order(struct ktap *t)
{
    const struct plan *plan = &plans[t->parameter];
    const struct sim_scenario scenario = {CPUS, &match, begin, run, end};
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .preemptions = preemptions_of(plan)};
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
    if (result.end != SIM_SCHED_DONE) {
        ktap_fail(t, __FILE__, __LINE__, plan->name);
        sched_note(t, &result);
    }
    close_plan(t);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(in_every_order, plan_numbers)};
KTAP_SUITE(pmm_sched, cases);
