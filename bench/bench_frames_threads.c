/* The frame allocator beside another one, called by two threads at the same time.
 * SPDX-License-Identifier: MIT */
#include "bench_frames.h"
#include "together.h"

#include <pthread.h>

#define ROUND_FRAMES 16384u
#define ROUNDS_MIN   4u
#define AGAIN        10u /* times the time of a measurement that lost rounds may take */

enum job { JOB_PAIR, JOB_BULK, JOB_CROSS };

struct team;

struct worker {
    struct team *team;
    struct worker *other;
    uint32_t cpu;
    struct bench_stint stint; /* what is measured of the last round */
    bool failed;
    uint32_t frame[ROUND_FRAMES];
};

struct team {
    struct bench_machine *machine;
    struct bench_side *side;
    enum job job;
    struct bench_meeting meeting;
    bool done;         /* set by the first thread before they meet */
    uint64_t deadline; /* wall time from when on each round counts */
    pthread_t thread;
    struct worker worker[2];
};

/* ---- a round ---- */

static void take(struct worker *w, struct bench_side *side)
{
    for (uint32_t i = 0; i < ROUND_FRAMES; i++) {
        uint64_t frame = side->alloc(side->allocator, w->cpu, 0);
        w->failed |= frame == BENCH_PEER_NONE;
        w->frame[i] = (uint32_t)frame;
    }
}

static void give(struct worker *w, struct bench_side *side, const uint32_t *frame)
{
    for (uint32_t i = 0; i < ROUND_FRAMES; i++)
        w->failed |= !side->free(side->allocator, w->cpu, frame[i], 0);
}

static void pairs(struct worker *w, struct bench_side *side)
{
    for (uint32_t i = 0; i < ROUND_FRAMES; i++) {
        uint64_t frame = side->alloc(side->allocator, w->cpu, 0);
        w->failed |= frame == BENCH_PEER_NONE || !side->free(side->allocator, w->cpu, frame, 0);
    }
}

static void shuffle(struct worker *w)
{
    uint64_t random = w->cpu + 1;
    for (uint32_t i = ROUND_FRAMES - 1; i > 0; i--) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t j = (uint32_t)((random >> 33) % (i + 1)), frame = w->frame[i];
        w->frame[i] = w->frame[j];
        w->frame[j] = frame;
    }
}

static void play(struct worker *w, bool alone)
{
    struct bench_side *side = w->team->side;
    enum job job = w->team->job;
    if (job == JOB_CROSS) {
        take(w, side);
        shuffle(w);
    }
    if (!alone)
        bench_meet(&w->team->meeting);
    bench_stint_begin(&w->stint);
    if (job == JOB_PAIR)
        pairs(w, side);
    if (job == JOB_BULK)
        take(w, side);
    if (job != JOB_PAIR)
        give(w, side, job == JOB_CROSS ? w->other->frame : w->frame);
    bench_stint_end(&w->stint);
    if (!alone)
        bench_meet(&w->team->meeting);
}

/* ---- two threads ---- */

static void *second_thread(void *argument)
{
    struct team *team = argument;
    sim_bind(team->machine->system.sim, 1);
    for (bench_meet(&team->meeting); !team->done; bench_meet(&team->meeting))
        play(&team->worker[1], false);
    sim_unbind();
    return NULL;
}

static bool gather(struct team *team, struct bench_machine *machine, struct bench_side *side,
                   enum job job)
{
    team->machine = machine;
    team->side = side;
    team->job = job;
    team->done = false;
    team->deadline = bench_wall_time() + AGAIN * machine->nanoseconds;
    for (uint32_t i = 0; i < 2; i++) {
        team->worker[i].team = team;
        team->worker[i].other = &team->worker[1 - i];
        team->worker[i].cpu = i;
        team->worker[i].failed = false;
    }
    return bench_reach(side, BENCH_EMPTY) &&
           pthread_create(&team->thread, NULL, second_thread, team) == 0;
}

static bool dismiss(struct team *team)
{
    team->done = true;
    bench_meet(&team->meeting);
    pthread_join(team->thread, NULL);
    return !team->worker[0].failed && !team->worker[1].failed;
}

/* One round of both. True: it counts. */
static bool together(struct team *team)
{
    bench_meet(&team->meeting);
    play(&team->worker[0], false);
    return bench_undisturbed(&team->worker[0].stint, &team->worker[1].stint, team->deadline);
}

static struct team team;

/* Each thread does `count` operations; the time is that of both. */
static uint64_t two_threads(struct bench_machine *machine, struct bench_side *side, uint64_t count,
                            enum job job)
{
    uint64_t begun = bench_time(), time = 0;
    uint32_t rounds = (uint32_t)((count + ROUND_FRAMES - 1) / ROUND_FRAMES);
    if (!side || !gather(&team, machine, side, job))
        return 0;
    for (uint32_t counted = 0; counted < rounds;) {
        if (!together(&team))
            continue;
        time += team.worker[0].stint.cpu_time + team.worker[1].stint.cpu_time;
        counted++;
    }
    bool good = dismiss(&team);
    machine->untimed += bench_time() - begun - time; /* may be negative: modulo 2^64 */
    return good ? (uint64_t)rounds * ROUND_FRAMES * (job == JOB_BULK ? 4 : 2) : 0;
}

/* Rounds of both and rounds of one take turns, so that what slows the host slows both. */
static double speedup(struct bench_machine *machine, struct bench_side *side, enum job job)
{
    double first = 0, second = 0, alone = 0;
    uint32_t counted = 0;
    if (!side || !gather(&team, machine, side, job))
        return 0;
    play(&team.worker[0], true);
    while (counted < ROUNDS_MIN || alone < (double)machine->nanoseconds) {
        if (!together(&team))
            continue;
        first += (double)team.worker[0].stint.cpu_time;
        second += (double)team.worker[1].stint.cpu_time;
        play(&team.worker[0], true);
        alone += (double)team.worker[0].stint.cpu_time;
        counted++;
    }
    return dismiss(&team) ? alone / first + alone / second : 0;
}

#define EITHER(type, name, call)                                                                   \
    type bench_ours_##name                                                                         \
    {                                                                                              \
        struct bench_side *side = bench_our_side(machine);                                         \
        return call;                                                                               \
    }                                                                                              \
    type bench_peer_##name                                                                         \
    {                                                                                              \
        struct bench_side *side = bench_peer_side(machine);                                        \
        return call;                                                                               \
    }

#define THREADS(name, job)                                                                         \
    EITHER(uint64_t, threads_##name(struct bench_machine *machine, uint64_t count),                \
           two_threads(machine, side, count, job))
#define SPEEDUP(name, job)                                                                         \
    EITHER(double, speedup_##name(struct bench_machine *machine), speedup(machine, side, job))

THREADS(pair, JOB_PAIR)
THREADS(bulk, JOB_BULK)
THREADS(cross_free, JOB_CROSS)
SPEEDUP(pair, JOB_PAIR)
SPEEDUP(bulk, JOB_BULK)
