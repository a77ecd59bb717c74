/* Two threads in rounds: meeting, and telling whether the host let both work.
 * SPDX-License-Identifier: MIT */
#include "together.h"

#include "bench.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define PAUSE_NS 20000u /* in which not both run, that a round may have; and an eighth of it */

uint64_t bench_wall_time(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A thread that slept would begin later than the one that woke it. */
void bench_meet(struct bench_meeting *meeting)
{
    uint32_t number = atomic_load(&meeting->number);
    if (atomic_fetch_add(&meeting->arrived, 1) == 1) {
        atomic_store(&meeting->arrived, 0);
        atomic_store(&meeting->number, number + 1);
        return;
    }
    while (atomic_load(&meeting->number) == number)
        (void)sched_yield();
}

void bench_stint_begin(struct bench_stint *stint)
{
    stint->begun = bench_wall_time();
    stint->cpu_time = bench_time();
}

void bench_stint_end(struct bench_stint *stint)
{
    stint->cpu_time = bench_time() - stint->cpu_time;
    stint->finished = bench_wall_time();
}

static bool without_pause(const struct bench_stint *stint)
{
    return stint->finished - stint->begun <= stint->cpu_time + stint->cpu_time / 8 + PAUSE_NS;
}

/* Both worked without a pause, from the same time on. One may end earlier: locks are unfair. */
static bool both_worked(const struct bench_stint *a, const struct bench_stint *b)
{
    uint64_t late = a->begun < b->begun ? b->begun - a->begun : a->begun - b->begun;
    return without_pause(a) && without_pause(b) && late <= PAUSE_NS;
}

bool bench_undisturbed(const struct bench_stint *a, const struct bench_stint *b, uint64_t deadline)
{
    static bool warned;
    if (both_worked(a, b))
        return true;
    if (bench_wall_time() < deadline)
        return false;
    if (!warned)
        (void)fprintf(stderr, "neomm-bench: the host is busy: two threads do not run together, and "
                              "what is said of them misleads\n");
    warned = true;
    return true;
}
