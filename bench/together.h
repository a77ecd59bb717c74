/* Two threads that work at the same time, in rounds that begin together.
 * SPDX-License-Identifier: MIT
 *
 * What counts is the CPU time of each. A host that takes a CPU away lets the other thread have
 * what they share to itself, or lets it spin: a round that one began late, or in which one paused,
 * is done again, until the time for that is over.
 */
#ifndef NEOMM_BENCH_TOGETHER_H
#define NEOMM_BENCH_TOGETHER_H

#include <stdbool.h>
#include <stdint.h>

struct bench_meeting {
    _Atomic uint32_t arrived, number;
};

/* One thread's part of a round. */
struct bench_stint {
    uint64_t cpu_time;
    uint64_t begun, finished; /* in wall time */
};

/* Nanoseconds. */
uint64_t bench_wall_time(void);
/* Waits for the other thread. */
void bench_meet(struct bench_meeting *meeting);
void bench_stint_begin(struct bench_stint *stint);
void bench_stint_end(struct bench_stint *stint);
/* Whether a round of these two counts; after `deadline`, in wall time, all do. */
bool bench_undisturbed(const struct bench_stint *a, const struct bench_stint *b, uint64_t deadline);

#endif
