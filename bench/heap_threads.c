/* The heap benchmarks of two threads.
 * SPDX-License-Identifier: MIT */
#include "heap_jobs.h"
#include "together.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define OWN_LIVE    1024u /* blocks of a thread that replaces its own */
#define OWN_ROUND   8192u /* replacements in a round */
#define CROSS_ROUND 4096u /* blocks that one thread hands to the other in a round */
#define CROSS_SIZE  64u
#define AGAIN_NS    400000000u /* that lost rounds may take */

enum task { TASK_OWN, TASK_CROSS, TASK_CROSS_READ };

/* What one thread writes while both work: on cache lines that the other leaves alone, and not
 * beside them either, since processors fetch lines in pairs. */
struct member {
    struct bench_stint stint;
    bool failed;
    uint64_t random;
    uint64_t sum; /* of what was read */
    void *own[OWN_LIVE];
} __attribute__((aligned(128)));

struct team {
    const struct heap_side *side;
    enum task task;
    bool done; /* set by the first thread before they meet */
    uint64_t deadline;
    pthread_t thread;
    uint32_t making;
    struct bench_meeting meeting;
    struct member member[2];
    /* What the first thread makes in this round, and what the second frees, made in the last. */
    void *parcel[2][CROSS_ROUND];
};

static struct team team;

/* ---- a round ---- */

HEAP_INLINE void replace_own(const struct heap_side side, bool ours, struct team *t, uint32_t self)
{
    struct member *me = &t->member[self];
    for (uint32_t i = 0; i < OWN_ROUND; i++) {
        uint64_t r = heap_random(&me->random);
        uint32_t at = (uint32_t)(r >> 32) % OWN_LIVE;
        heap_give(&side, ours, me->own[at]);
        me->own[at] = heap_take(&side, ours, heap_size[r % HEAP_SIZES]);
        me->failed |= me->own[at] == NULL;
    }
}

HEAP_INLINE void make_parcel(const struct heap_side side, bool ours, struct team *t)
{
    void **parcel = t->parcel[t->making];
    for (uint32_t i = 0; i < CROSS_ROUND; i++) {
        parcel[i] = heap_take(&side, ours, CROSS_SIZE);
        t->member[0].failed |= parcel[i] == NULL;
        if (t->task == TASK_CROSS_READ && parcel[i])
            memset(parcel[i], (int)i, CROSS_SIZE);
    }
}

static uint64_t read_block(const void *block)
{
    uint64_t word[CROSS_SIZE / sizeof(uint64_t)], sum = 0;
    memcpy(word, block, CROSS_SIZE);
    for (uint32_t i = 0; i < CROSS_SIZE / sizeof(uint64_t); i++)
        sum += word[i];
    return sum;
}

HEAP_INLINE void free_parcel(const struct heap_side side, bool ours, struct team *t)
{
    void **parcel = t->parcel[1 - t->making];
    for (uint32_t i = 0; i < CROSS_ROUND; i++) {
        if (t->task == TASK_CROSS_READ && parcel[i])
            t->member[1].sum += read_block(parcel[i]);
        heap_give(&side, ours, parcel[i]);
    }
}

HEAP_INLINE void do_task(const struct heap_side *side, bool ours, struct team *t, uint32_t self)
{
    if (t->task == TASK_OWN)
        replace_own(*side, ours, t, self);
    else if (self == 0)
        make_parcel(*side, ours, t);
    else
        free_parcel(*side, ours, t);
}

static void play(struct team *t, uint32_t self)
{
    bench_stint_begin(&t->member[self].stint);
    if (t->side->heap)
        do_task(t->side, true, t, self);
    else
        do_task(t->side, false, t, self);
    bench_stint_end(&t->member[self].stint);
}

/* ---- beginning and end ---- */

static void gather_own(struct team *t, uint32_t self)
{
    for (uint32_t i = 0; i < OWN_LIVE; i++)
        t->member[self].own[i] = heap_take(t->side, t->side->heap != NULL, heap_size[i]);
    t->member[self].random = self + 1;
}

static void leave_own(struct team *t, uint32_t self)
{
    for (uint32_t i = 0; i < OWN_LIVE; i++)
        heap_drop(t->side, t->member[self].own[i]);
}

static void *second_thread(void *argument)
{
    struct team *t = argument;
    if (t->side->heap)
        t->side->heap->bind(1);
    if (t->task == TASK_OWN)
        gather_own(t, 1);
    for (bench_meet(&t->meeting); !t->done; bench_meet(&t->meeting)) {
        play(t, 1);
        bench_meet(&t->meeting);
    }
    if (t->task == TASK_OWN)
        leave_own(t, 1);
    return NULL;
}

static bool gather(struct team *t, const struct heap_side *side, enum task task)
{
    memset(t, 0, sizeof(*t));
    t->side = side;
    t->task = task;
    t->deadline = bench_wall_time() + AGAIN_NS;
    if (task == TASK_OWN)
        gather_own(t, 0);
    return pthread_create(&t->thread, NULL, second_thread, t) == 0;
}

static bool dismiss(struct team *t)
{
    t->done = true;
    bench_meet(&t->meeting);
    pthread_join(t->thread, NULL);
    if (t->task == TASK_OWN)
        leave_own(t, 0);
    else
        for (uint32_t i = 0; i < CROSS_ROUND; i++)
            heap_drop(t->side, t->parcel[1 - t->making][i]);
    return !t->member[0].failed && !t->member[1].failed;
}

/* One round of both. True: it counts. */
static bool together(struct team *t)
{
    bench_meet(&t->meeting);
    play(t, 0);
    bench_meet(&t->meeting);
    t->making = 1 - t->making;
    return bench_undisturbed(&t->member[0].stint, &t->member[1].stint, t->deadline);
}

/* ---- measuring ---- */

static struct heap_work rounds(const struct heap_side *side, enum task task, uint64_t count)
{
    uint64_t done = 0;
    uint64_t per_round = task == TASK_OWN ? 2 * OWN_ROUND : CROSS_ROUND;
    double time = 0;
    if (!gather(&team, side, task))
        return (struct heap_work){0, 0};
    (void)together(&team); /* the first has nothing to free */
    while (done < count) {
        if (!together(&team))
            continue;
        time += (double)(team.member[0].stint.cpu_time + team.member[1].stint.cpu_time);
        done += per_round;
    }
    return dismiss(&team) ? (struct heap_work){done, time} : (struct heap_work){0, 0};
}

struct heap_work heap_threads_own(const struct heap_side *side, uint64_t count)
{
    return rounds(side, TASK_OWN, count);
}

struct heap_work heap_cross(const struct heap_side *side, uint64_t count)
{
    return rounds(side, TASK_CROSS, count);
}

struct heap_work heap_cross_read(const struct heap_side *side, uint64_t count)
{
    return rounds(side, TASK_CROSS_READ, count);
}

/* CPU time of a replacement beside another thread, over that of one alone; both in turns, so that
 * what slows the host slows both. */
double heap_threads_slowdown(const struct heap_side *side)
{
    double both = 0, alone = 0;
    uint32_t counted = 0;
    if (!gather(&team, side, TASK_OWN))
        return -1;
    (void)together(&team);
    while (counted < 64) {
        if (!together(&team))
            continue;
        both += (double)(team.member[0].stint.cpu_time + team.member[1].stint.cpu_time);
        play(&team, 0);
        alone += 2 * (double)team.member[0].stint.cpu_time;
        counted++;
    }
    return dismiss(&team) ? both / alone : -1;
}
