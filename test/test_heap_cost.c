/* What calls of the heap cost, in ordered accesses to shared words and in locks (see sim_points and
 * sim_locks_taken), and how much goes between a magazine and the slabs at a time.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "heap/magazine.h"
#include "sim/sim.h"

#define MANY 2000u

struct cost {
    uint64_t points, locks;
};

static struct cost cost_now(struct box *box)
{
    return (struct cost){sim_points(box->env.machine), sim_locks_taken(box->env.machine)};
}

static struct cost since(struct box *box, struct cost before)
{
    struct cost now = cost_now(box);
    return (struct cost){now.points - before.points, now.locks - before.locks};
}

/* To look whether the magazine is shut, and to leave it. */
#define HIT 2u

static uint64_t slabs(struct box *box, struct neomm_kmem *cache)
{
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(box->root, cache, &stats);
    return stats.slabs;
}

/* Neither lock nor exchange while the CPU has what is asked for. */
static void no_lock_at_hand(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 64, 4))
        return;
    for (size_t size = 1; size <= 8192; size += 1 + size / 3) {
        EXPECT_OK(t, neomm_kfree(box.root, take(&box, size, 0)));
        EXPECT_OK(t, neomm_kfree(box.root, take(&box, size, 0)));
        struct cost before = cost_now(&box);
        void *block = take(&box, size, 0);
        struct cost cost = since(&box, before);
        EXPECT_EQ(t, cost.points, HIT);
        EXPECT_EQ(t, cost.locks, 0);
        before = cost_now(&box);
        EXPECT_OK(t, neomm_kfree(box.root, block));
        cost = since(&box, before);
        EXPECT_EQ(t, cost.points, HIT);
        EXPECT_EQ(t, cost.locks, 0);
    }
    box_close(t, &box);
}

static void check_alloc(struct ktap *t, struct box *box, struct neomm_kmem *cache, void **block,
                        uint32_t *slow)
{
    struct neomm__magazine *magazine = neomm__magazine_of(cache, 0);
    uint64_t before_slabs = slabs(box, cache);
    size_t before_filled = magazine->filled;
    struct cost before = cost_now(box);
    *block = take(box, cache->size, 0);
    struct cost cost = since(box, before);
    uint64_t made = slabs(box, cache) - before_slabs;
    EXPECT(t, *block != NULL);
    EXPECT(t, made <= 1);
    EXPECT(t, magazine->filled - before_filled <= cache->batch && cache->batch <= 32);
    if (made == 0)
        EXPECT(t, cost.locks <= 1);
    *slow += cost.locks > 0;
}

static void check_free(struct ktap *t, struct box *box, struct neomm_kmem *cache, void *block,
                       uint32_t *slow)
{
    struct neomm__magazine *magazine = neomm__magazine_of(cache, 0);
    uint64_t before_slabs = slabs(box, cache);
    size_t before_filled = magazine->filled;
    struct cost before = cost_now(box);
    EXPECT_OK(t, neomm_kfree(box->root, block));
    struct cost cost = since(box, before);
    EXPECT(t, before_filled - magazine->filled <= cache->batch);
    if (slabs(box, cache) == before_slabs)
        EXPECT(t, cost.locks <= 1);
    *slow += cost.locks > 0;
}

/* The slow way is gone once a batch, takes a batch at most and makes a slab at most; it looks at
 * the slabs under one lock. */
static void slow_path(struct ktap *t)
{
    static const size_t sizes[] = {16, 64, 256, 1024, 2048, 8192};
    static void *block[MANY];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 64, 4))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, sizes[t->parameter]);
    uint32_t slow = 0;
    for (uint32_t i = 0; i < MANY; i++)
        check_alloc(t, &box, cache, &block[i], &slow);
    uint64_t made = slabs(&box, cache);
    EXPECT(t, slow <= MANY / cache->batch + 2 * made + 1);
    slow = 0;
    for (uint32_t i = 0; i < MANY; i++)
        check_free(t, &box, cache, block[i], &slow);
    EXPECT(t, slow <= MANY / cache->batch + 1);
    box_close(t, &box);
}

/* Costs do not depend on the machine. */
static void same_on_all_sizes(struct ktap *t)
{
    static void *block[MANY];
    struct cost cost[2];
    for (uint32_t large = 0; large < 2; large++) {
        struct box box;
        if (!box_open(t, &box, BOX_DIRECT, large ? 600 : 300, large ? 8 : 1))
            return;
        struct cost before = cost_now(&box);
        for (uint32_t i = 0; i < MANY; i++)
            block[i] = take(&box, 256, 0);
        for (uint32_t i = 0; i < MANY; i++)
            EXPECT_OK(t, neomm_kfree(box.root, block[i]));
        cost[large] = since(&box, before);
        box_close(t, &box);
    }
    EXPECT_EQ(t, cost[0].locks, cost[1].locks);
}

/* In bulk: one way in and out of the magazine, and one lock a batch. */
static void bulk(struct ktap *t)
{
    static void *object[1024];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 64, 4))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 64);
    ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, 1024, object));
    ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, 1024, object));
    uint64_t before_slabs = slabs(&box, cache);
    struct cost before = cost_now(&box);
    ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, 512, object));
    struct cost cost = since(&box, before);
    EXPECT(t, slabs(&box, cache) <= before_slabs + 8);
    EXPECT(t, cost.locks <= 512 / 32 + 1 + 8 * 4);
    ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, 512, object));
    ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, 30, object));
    before = cost_now(&box);
    ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, 30, object));
    ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, 30, object));
    cost = since(&box, before);
    EXPECT_EQ(t, cost.locks, 0);
    EXPECT_EQ(t, cost.points, 2 * HIT);
    ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, 30, object));
    box_close(t, &box);
}

static const uint64_t six[] = {0, 1, 2, 3, 4, 5};

static const struct ktap_case cases[] = {
    KTAP_CASE(no_lock_at_hand),
    KTAP_CASE_WITH(slow_path, six),
    KTAP_CASE(same_on_all_sizes),
    KTAP_CASE(bulk),
};

KTAP_SUITE(heap_cost, cases);
