/* The heap benchmarks of one thread.
 * SPDX-License-Identifier: MIT */
#include "heap_jobs.h"

#include <math.h>
#include <string.h>

#define BURST        64u
#define BATCH        1024u
#define BULK         32u
#define LIVE         100000u
#define VECTORS      16u
#define VECTOR_STEP  ((size_t)4096)
#define VECTOR_STEPS 512u
#define SEED         0x9e3779b97f4a7c15u

uint16_t heap_size[HEAP_SIZES];
bool heap_quick;

void heap_sizes_init(void)
{
    uint64_t random = SEED;
    for (uint32_t i = 0; i < HEAP_SIZES; i++)
        heap_size[i] = (uint16_t)lround(exp2(3 + 10.0 * i / HEAP_SIZES));
    for (uint32_t i = HEAP_SIZES - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(heap_random(&random) % (i + 1));
        uint16_t size = heap_size[i];
        heap_size[i] = heap_size[j];
        heap_size[j] = size;
    }
}

static struct heap_work work(uint64_t done, uint64_t started)
{
    return (struct heap_work){done, (double)(bench_time() - started)};
}

static const struct heap_work failed = {0, 0};

/* ---- pairs and bursts ---- */

HEAP_INLINE struct heap_work pairs(const struct heap_side side, bool ours, uint64_t count,
                                   size_t size)
{
    uint64_t started = bench_time();
    for (uint64_t i = 0; i < count; i++) {
        void *block = heap_take(&side, ours, size);
        if (!block)
            return failed;
        bench_use(block);
        heap_give(&side, ours, block);
    }
    return work(count, started);
}

#define PAIR(size)                                                                                 \
    HEAP_INLINE struct heap_work pair_##size(const struct heap_side side, bool ours,               \
                                             uint64_t count)                                       \
    {                                                                                              \
        return pairs(side, ours, count, size);                                                     \
    }                                                                                              \
    HEAP_JOB(pair_##size)

PAIR(16)
PAIR(64)
PAIR(256)
PAIR(1024)

/* So many blocks, then all of them freed in the same order. */
HEAP_INLINE struct heap_work burst_64(const struct heap_side side, bool ours, uint64_t count)
{
    void *block[BURST];
    uint64_t done, started = bench_time();
    for (done = 0; done < count; done += BURST) {
        for (uint32_t i = 0; i < BURST; i++) {
            block[i] = heap_take(&side, ours, 64);
            if (!block[i])
                return failed;
        }
        bench_use(block);
        for (uint32_t i = 0; i < BURST; i++)
            heap_give(&side, ours, block[i]);
    }
    return work(done, started);
}
HEAP_JOB(burst_64)

static uint16_t order[BATCH];

static void shuffle_order(void)
{
    uint64_t random = SEED;
    for (uint32_t i = 0; i < BATCH; i++)
        order[i] = (uint16_t)i;
    for (uint32_t i = BATCH - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(heap_random(&random) % (i + 1));
        uint16_t at = order[i];
        order[i] = order[j];
        order[j] = at;
    }
}

/* Blocks of mixed sizes, then all of them freed in a random order. */
HEAP_INLINE struct heap_work batch_mixed(const struct heap_side side, bool ours, uint64_t count)
{
    static void *block[BATCH];
    uint64_t done;
    shuffle_order();
    uint64_t started = bench_time();
    for (done = 0; done < count; done += BATCH) {
        for (uint32_t i = 0; i < BATCH; i++) {
            block[i] = heap_take(&side, ours, heap_size[(done + i) % HEAP_SIZES]);
            if (!block[i])
                return failed;
        }
        for (uint32_t i = 0; i < BATCH; i++)
            heap_give(&side, ours, block[order[i]]);
    }
    return work(done, started);
}
HEAP_JOB(batch_mixed)

/* ---- in bulk; peers do it one by one ---- */

static struct heap_work our_bulk(const struct heap_side *side, uint64_t count)
{
    void *block[BULK];
    uint64_t done, started = bench_time();
    struct neomm_kmem *cache = side->heap->cache_for(side->root, 64);
    for (done = 0; done < count; done += BULK) {
        if (side->heap->alloc_bulk(side->root, cache, NEOMM_NORECLAIM, BULK, block) != NEOMM_OK)
            return failed;
        bench_use(block);
        if (side->heap->free_bulk(side->root, cache, BULK, block) != NEOMM_OK)
            return failed;
    }
    return work(done, started);
}

static struct heap_work peer_bulk(const struct heap_side side, uint64_t count)
{
    void *block[BULK];
    uint64_t done, started = bench_time();
    for (done = 0; done < count; done += BULK) {
        for (uint32_t i = 0; i < BULK; i++)
            block[i] = heap_take(&side, false, 64);
        bench_use(block);
        for (uint32_t i = 0; i < BULK; i++)
            heap_give(&side, false, block[i]);
    }
    return work(done, started);
}

struct heap_work heap_bulk_64(const struct heap_side *side, uint64_t count)
{
    return side->heap ? our_bulk(side, count) : peer_bulk(*side, count);
}

/* ---- churn ---- */

static void *crowd[LIVE];

HEAP_INLINE bool crowd_gather(const struct heap_side side, bool ours)
{
    bool good = true;
    for (uint32_t i = 0; i < heap_many(LIVE); i++) {
        crowd[i] = heap_take(&side, ours, heap_size[i % HEAP_SIZES]);
        good = good && crowd[i];
    }
    return good;
}

HEAP_INLINE void crowd_leave(const struct heap_side side, bool ours)
{
    for (uint32_t i = 0; i < heap_many(LIVE); i++)
        heap_give(&side, ours, crowd[i]);
}

/* A crowd of blocks of mixed sizes, one of them replaced at a time; each is written to. */
HEAP_INLINE struct heap_work churn(const struct heap_side side, bool ours, uint64_t count)
{
    uint64_t random = SEED, live = heap_many(LIVE);
    struct heap_work result = failed;
    bool good = crowd_gather(side, ours);
    uint64_t started = bench_time();
    for (uint64_t i = 0; i < count && good; i++) {
        uint64_t r = heap_random(&random);
        uint32_t at = (uint32_t)((r >> 32) * live >> 32);
        heap_give(&side, ours, crowd[at]);
        crowd[at] = heap_take(&side, ours, heap_size[r % HEAP_SIZES]);
        good = crowd[at] != NULL;
        if (good)
            *(volatile uint64_t *)crowd[at] = r;
    }
    if (good)
        result = work(count, started);
    crowd_leave(side, ours);
    return result;
}
HEAP_JOB(churn)

/* ---- vectors ---- */

/* Vectors that grow in turns, a page a step, from nothing; what is new is written to. One step is
 * one krealloc. */
static bool grow_vectors(const struct heap_side *side, uint8_t **vector)
{
    for (uint32_t step = 1; step <= heap_many(VECTOR_STEPS); step++)
        for (uint32_t i = 0; i < VECTORS; i++) {
            uint8_t *grown = heap_resize(side, vector[i], step * VECTOR_STEP);
            if (!grown)
                return false;
            vector[i] = grown;
            memset(grown + (step - 1) * VECTOR_STEP, (int)step, 64);
        }
    return true;
}

struct heap_work heap_vectors(const struct heap_side *side, uint64_t count)
{
    uint64_t done = 0, started = bench_time();
    bool good = true;
    for (; done < count && good; done += VECTORS * heap_many(VECTOR_STEPS)) {
        uint8_t *vector[VECTORS] = {NULL};
        good = grow_vectors(side, vector);
        for (uint32_t i = 0; i < VECTORS; i++)
            heap_drop(side, vector[i]);
    }
    return good ? work(done, started) : failed;
}
