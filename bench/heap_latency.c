/* How long single calls take: cycles of the time stamp counter.
 * SPDX-License-Identifier: MIT
 *
 * A crowd of blocks of mixed sizes, one replaced at a time, in memory that was touched before.
 */
#include "heap_jobs.h"

#include <string.h>
#include <x86intrin.h>

#define LIVE   10000u
#define CALLS  200000u
#define CYCLES 65536u /* longer calls are counted with these, and the longest is kept */

struct calls {
    uint32_t count[CYCLES];
    uint64_t longest;
};

static struct {
    struct calls alloc, free;
    void *block[LIVE];
    uint64_t random;
} history;

/* ---- one call ---- */

static inline uint64_t stamp(void)
{
    _mm_lfence();
    uint64_t cycles = __rdtsc();
    _mm_lfence();
    return cycles;
}

/* What two stamps take with nothing in between. */
static uint64_t stamp_cost(void)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t begun = stamp(), cycles = stamp() - begun;
        least = cycles < least ? cycles : least;
    }
    return least;
}

static void note(struct calls *calls, uint64_t cycles, uint64_t cost)
{
    cycles = cycles > cost ? cycles - cost : 0;
    calls->longest = cycles > calls->longest ? cycles : calls->longest;
    calls->count[cycles < CYCLES ? cycles : CYCLES - 1]++;
}

HEAP_INLINE bool replace(const struct heap_side side, bool ours, uint64_t cost)
{
    uint64_t r = heap_random(&history.random);
    void **block = &history.block[(r >> 32) % LIVE];
    uint64_t begun = stamp();
    heap_give(&side, ours, *block);
    uint64_t freed = stamp();
    *block = heap_take(&side, ours, heap_size[r % HEAP_SIZES]);
    uint64_t taken = stamp();
    note(&history.free, freed - begun, cost);
    note(&history.alloc, taken - freed, cost);
    return *block != NULL;
}

/* ---- a distribution ---- */

static bool gather(const struct heap_side *side)
{
    bool good = true;
    for (uint32_t i = 0; i < LIVE; i++) {
        size_t size = heap_size[i];
        history.block[i] = heap_take(side, side->heap != NULL, size);
        good = good && history.block[i];
        if (history.block[i])
            memset(history.block[i], 1, size);
    }
    return good;
}

static bool repeat(const struct heap_side *side, uint64_t cost)
{
    bool good = true;
    for (uint32_t i = 0; i < heap_many(CALLS) && good; i++)
        good = side->heap ? replace(*side, true, cost) : replace(*side, false, cost);
    return good;
}

static void forget(void)
{
    memset(&history.alloc, 0, sizeof(history.alloc));
    memset(&history.free, 0, sizeof(history.free));
}

/* The same history twice: the first touches the memory that the second uses. */
static bool distribute(const struct heap_side *side)
{
    uint64_t cost = stamp_cost();
    history.random = 1;
    bool good = gather(side) && repeat(side, cost);
    forget();
    history.random = 1;
    good = good && repeat(side, cost);
    for (uint32_t i = 0; i < LIVE; i++)
        heap_drop(side, history.block[i]);
    return good;
}

/* Cycles below which so many of 1000 calls stay. */
static double quantile(const struct calls *calls, uint32_t per_mille)
{
    uint64_t seen = 0, wanted = (uint64_t)heap_many(CALLS) * per_mille / 1000;
    uint32_t cycles = 0;
    while (cycles < CYCLES - 1 && (seen += calls->count[cycles]) < wanted)
        cycles++;
    return cycles;
}

#define FIGURE(name, figure)                                                                       \
    double heap_##name(const struct heap_side *side)                                               \
    {                                                                                              \
        return distribute(side) ? (double)(figure) : -1;                                           \
    }

#define FIGURES(call)                                                                              \
    FIGURE(call##_p50, quantile(&history.call, 500))                                               \
    FIGURE(call##_p99, quantile(&history.call, 990))                                               \
    FIGURE(call##_p999, quantile(&history.call, 999))                                              \
    FIGURE(call##_max, history.call.longest)

FIGURES(alloc)
FIGURES(free)
