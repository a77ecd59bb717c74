/* What the heap benchmarks do with an allocator.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_HEAP_JOBS_H
#define NEOMM_BENCH_HEAP_JOBS_H

#include "bench.h"
#include "heap_side.h"

/* What a job did: nothing, if it failed. */
struct heap_work {
    uint64_t done; /* operations, as many as asked for or somewhat more */
    double time;   /* nanoseconds, of what counts of it */
};

typedef struct heap_work heap_job_fn(const struct heap_side *side, uint64_t count);
/* A figure; negative: failed. */
typedef double heap_value_fn(const struct heap_side *side);

struct heap_case {
    const char *name, *unit;
    heap_job_fn *job; /* or */
    heap_value_fn *value;
    double scale;   /* nanoseconds in a unit of the job; 0: 1 */
    bool ours_only; /* there is nothing of the kind elsewhere */
};

/* A job for our heap and one for peers, each with its calls in its loop. */
#define HEAP_JOB(name)                                                                             \
    struct heap_work heap_##name(const struct heap_side *side, uint64_t count)                     \
    {                                                                                              \
        return side->heap ? name(*side, true, count) : name(*side, false, count);                  \
    }
#define HEAP_INLINE static inline __attribute__((always_inline))

/* Sizes that are equally likely at every scale from 8 to 8192, the same sequence each time. */
#define HEAP_SIZES 65536u
extern uint16_t heap_size[HEAP_SIZES];
void heap_sizes_init(void);

/* Short measurements, to see that all of it works: a sixteenth. */
extern bool heap_quick;
static inline uint32_t heap_many(uint32_t count)
{
    return heap_quick ? count / 16 : count;
}

static inline uint64_t heap_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- heap_jobs.c ---- */

heap_job_fn heap_pair_16, heap_pair_64, heap_pair_256, heap_pair_1024, heap_burst_64,
    heap_batch_mixed, heap_bulk_64, heap_churn, heap_vectors;

/* ---- heap_threads.c ---- */

heap_job_fn heap_threads_own, heap_cross, heap_cross_read;
heap_value_fn heap_threads_slowdown;

/* ---- heap_space.c ---- */

heap_value_fn heap_rounding, heap_rounding_fine, heap_dense_64, heap_dense_16,
    heap_dense_64_described, heap_dense_16_described, heap_held_peak, heap_held_tenth,
    heap_held_none;

/* ---- heap_latency.c ---- */

heap_value_fn heap_alloc_p50, heap_alloc_p99, heap_alloc_p999, heap_alloc_max, heap_free_p50,
    heap_free_p99, heap_free_p999, heap_free_max;

#endif
