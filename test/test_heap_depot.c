/* Objects that one CPU allocates and another frees: they move in the cache's depot.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "heap/ledger.h"

#include <neomm/heap_debug.h>

#define SIZE  200u
#define MOST  4000u
#define ROUND 600u

static uintptr_t block[MOST];

struct pair {
    struct box box;
    struct neomm_kmem *cache;
};

static bool begin(struct ktap *t, struct pair *pair)
{
    if (!box_open(t, &pair->box, BOX_DIRECT, 64, 2))
        return false;
    pair->cache = neomm_kmem_for(pair->box.root, SIZE);
    return true;
}

static void get(struct ktap *t, struct pair *pair, uint32_t count)
{
    env_switch_cpu(&pair->box.env, 0);
    for (uint32_t i = 0; i < count; i++) {
        block[i] = (uintptr_t)take(&pair->box, SIZE, 0);
        ASSERT(t, block[i] != 0);
        pattern_fill((void *)block[i], SIZE, i);
    }
}

static void give(struct ktap *t, struct pair *pair, uint32_t count)
{
    env_switch_cpu(&pair->box.env, 1);
    for (uint32_t i = 0; i < count; i++) {
        EXPECT(t, pattern_holds((void *)block[i], SIZE, i));
        EXPECT_OK(t, neomm_kfree(pair->box.root, (void *)block[i]));
    }
}

/* A depot comes with the first refill behind another CPU's flush. */
static void cross(struct ktap *t, struct pair *pair)
{
    get(t, pair, ROUND);
    EXPECT(t, !pair->cache->depot);
    give(t, pair, ROUND);
    get(t, pair, ROUND);
    give(t, pair, ROUND);
}

static void finish(struct ktap *t, struct pair *pair)
{
    env_switch_cpu(&pair->box.env, 0);
    box_close(t, &pair->box);
}

static size_t free_in_slabs(struct pair *pair)
{
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(pair->box.root, pair->cache, &stats);
    return (size_t)(stats.slabs * stats.slab_objects - stats.objects - stats.kept);
}

static void objects_pass_their_slabs(struct ktap *t)
{
    struct pair pair;
    if (!begin(t, &pair))
        return;
    cross(t, &pair);
    ASSERT(t, pair.cache->depot != NULL);
    size_t before = free_in_slabs(&pair);
    EXPECT(t, pair.cache->stored > NEOMM__MAGAZINE_MAX);
    for (uint32_t round = 0; round < 5; round++) {
        env_switch_cpu(&pair.box.env, 0);
        get(t, &pair, NEOMM__MAGAZINE_MAX);
        give(t, &pair, NEOMM__MAGAZINE_MAX);
        EXPECT_EQ(t, free_in_slabs(&pair), before);
    }
    env_fsck(t, &pair.box.env);
    EXPECT_EQ(t, objects(&pair.box), 0);
    finish(t, &pair);
}

static void it_holds_no_more_than_it_may(struct ktap *t)
{
    struct pair pair;
    if (!begin(t, &pair))
        return;
    cross(t, &pair);
    get(t, &pair, MOST);
    give(t, &pair, MOST);
    EXPECT(t, pair.cache->stored <= pair.cache->depot_most);
    EXPECT(t, pair.cache->stored + pair.cache->batch > pair.cache->depot_most);
    EXPECT(t, (size_t)pair.cache->depot_most * pair.cache->size <= 65536);
    finish(t, &pair);
}

/* Most are found when they get there, whatever was freed between, and the others later. */
static void freed_twice(struct ktap *t)
{
    struct pair pair;
    const void *object[20];
    if (!begin(t, &pair))
        return;
    cross(t, &pair);
    uint32_t many = pair.cache->capacity + NEOMM__BATCH_MAX;
    ASSERT(t, pair.cache->stored > many + 20);
    env_switch_cpu(&pair.box.env, 1);
    for (uint32_t i = 0; i < 20; i++) {
        object[i] = neomm__depot_object(pair.cache, i); /* taken last */
        EXPECT_OK(t, neomm_kfree(pair.box.root, (void *)(uintptr_t)object[i]));
    }
    get(t, &pair, many);
    give(t, &pair, many);
    EXPECT(t, box_counter(&pair.box, NEOMM_COUNTER_BAD_FREE) >= 10);
    (void)neomm_heap_shrink(pair.box.root);
    EXPECT_EQ(t, box_counter(&pair.box, NEOMM_COUNTER_BAD_FREE), 20);
    env_fsck(t, &pair.box.env);
    finish(t, &pair);
}

/* Whoever gives memory back empties it, and a cache that is HARDENED has none. */
static void it_ends(struct ktap *t)
{
    struct pair pair;
    if (!begin(t, &pair))
        return;
    for (uint32_t i = 0; i < 2; i++) {
        cross(t, &pair);
        ASSERT(t, pair.cache->depot && pair.cache->stored > 0);
        if (i == 0)
            (void)neomm_kmem_shrink(pair.box.root, pair.cache);
        else
            EXPECT_OK(t, neomm_heap_set_profile(pair.box.root, pair.cache, NEOMM_HEAP_HARDENED));
        EXPECT(t, !pair.cache->depot && pair.cache->stored == 0);
    }
    get(t, &pair, ROUND);
    give(t, &pair, ROUND);
    get(t, &pair, ROUND);
    EXPECT(t, !pair.cache->depot);
    give(t, &pair, ROUND);
    EXPECT_EQ(t, box_counter(&pair.box, NEOMM_COUNTER_BAD_FREE), 0);
    env_switch_cpu(&pair.box.env, 0);
    EXPECT_OK(t, neomm_heap_set_profile(pair.box.root, pair.cache, NEOMM_HEAP_FAST));
    (void)neomm_heap_shrink(pair.box.root);
    pair.box.free_before = neomm_pmm_free_frames(pair.box.root); /* its quarantine stays */
    finish(t, &pair);
}

static void without_memory_for_it(struct ktap *t)
{
    struct pair pair;
    if (!begin(t, &pair))
        return;
    get(t, &pair, ROUND);
    give(t, &pair, ROUND);
    if (!env_fault_plan(&pair.box.env, 1, true)) {
        get(t, &pair, 1);
        give(t, &pair, 1);
        finish(t, &pair);
        ktap_skip(t, "no fault points");
        return;
    }
    get(t, &pair, ROUND / 2);
    EXPECT(t, !pair.cache->depot);
    (void)env_fault_plan(&pair.box.env, 0, false);
    give(t, &pair, ROUND / 2);
    finish(t, &pair);
}

static void damage_is_found(struct ktap *t)
{
    struct pair pair;
    if (!begin(t, &pair))
        return;
    cross(t, &pair);
    ASSERT(t, pair.cache->stored > 0);
    void **at = (void **)(uintptr_t) & ((void *const *)pair.cache->depot)[0];
    while (*at != neomm__depot_object(pair.cache, 0))
        at++;
    *at = (uint8_t *)*at + 1;
    EXPECT(t, neomm_fsck(pair.box.root, NULL, NULL) > 0);
    *at = (uint8_t *)*at - 1;
    finish(t, &pair);
}

/* A CPU closed the entry of an object under HARDENED, and comes to the slab when the cache is being
 * changed a second time, where it finds none. Who gets the object before the slab has its entries
 * anew may free it. */
static void freed_on_the_way(struct ktap *t)
{
    struct pair pair;
    struct neomm__heap_place place;
    struct neomm__ledger was;
    if (!begin(t, &pair))
        return;
    struct neomm *root = pair.box.root;
    EXPECT_OK(t, neomm_heap_set_profile(root, pair.cache, NEOMM_HEAP_HARDENED));
    uintptr_t object = (uintptr_t)take(&pair.box, SIZE, 0), again = 0;
    neomm__slab_place(root, (void *)object, &place);
    EXPECT_OK(t, neomm__ledger_close(root, &place, NEOMM__ENTRY_QUARANTINED, 1, &was));
    EXPECT_OK(t, neomm_heap_set_profile(root, pair.cache, NEOMM_HEAP_FAST));
    EXPECT_OK(t, neomm__ledger_put(root, pair.cache, (void *)object));
    uint32_t count = 0;
    while (count < MOST && again != object)
        block[count++] = again = (uintptr_t)take(&pair.box, SIZE, 0);
    EXPECT_EQ(t, again, object);
    EXPECT_OK(t, neomm_heap_set_profile(root, pair.cache, NEOMM_HEAP_HARDENED));
    for (uint32_t i = 0; i < count; i++)
        EXPECT_OK(t, neomm_kfree(root, (void *)block[i]));
    (void)neomm_heap_shrink(root);
    pair.box.free_before = neomm_pmm_free_frames(root);
    finish(t, &pair);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(objects_pass_their_slabs),
    KTAP_CASE(it_holds_no_more_than_it_may),
    KTAP_CASE(freed_twice),
    KTAP_CASE(it_ends),
    KTAP_CASE(without_memory_for_it),
    KTAP_CASE(damage_is_found),
    KTAP_CASE(freed_on_the_way),
};

KTAP_SUITE(heap_depot, cases);
