/* What a call of the heap costs at most, counted: objects that come from slabs or go there, slabs
 * that are made, frames that are taken.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include <neomm/kmem.h>

#define BATCH 32u /* objects in one step, as heap.h says */
#define MANY  2000u

static const uint64_t sizes[] = {16, 48, 64, 256, 640, 1024, 2048, 4096, 5120, 8192};

/* Objects of the cache that are not in slabs, its slabs, and the frames that are not free. */
struct account {
    int64_t out, slabs, frames;
};

static struct account account_of(struct box *box, struct neomm_kmem *cache)
{
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(box->root, cache, &stats);
    return (struct account){(int64_t)(stats.objects + stats.kept), (int64_t)stats.slabs,
                            -(int64_t)neomm_pmm_free_frames(box->root)};
}

/* What happened in calls, at most. */
struct most {
    int64_t taken, put, made, frames;
};

static void note(struct most *most, struct account before, struct account after)
{
    int64_t taken = after.out - before.out, made = after.slabs - before.slabs;
    int64_t frames = after.frames - before.frames;
    most->taken = taken > most->taken ? taken : most->taken;
    most->put = -taken > most->put ? -taken : most->put;
    most->made = made > most->made ? made : most->made;
    most->frames = frames > most->frames ? frames : most->frames;
}

/* Within these bounds, and not for want of trying: both ways were gone. */
static void expect_bounds(struct ktap *t, const struct most *most, uint32_t slab_frames)
{
    EXPECT(t, most->taken >= 1 && most->taken <= BATCH);
    EXPECT(t, most->put >= 1 && most->put <= BATCH);
    EXPECT_EQ(t, most->made, 1);
    /* One for records, one for what else lies in frames. */
    EXPECT(t, most->frames >= slab_frames && most->frames <= slab_frames + 2);
}

static void one_call(struct ktap *t)
{
    static void *object[MANY];
    struct box box;
    struct most most = {0};
    uint32_t count = t->parameter > 1024 ? MANY / 8 : MANY;
    if (!box_open(t, &box, BOX_DIRECT, 64, 2))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, (size_t)t->parameter);
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(box.root, cache, &stats);
    for (uint32_t i = 0; i < count; i++) {
        struct account before = account_of(&box, cache);
        object[i] = take(&box, (size_t)t->parameter, 0);
        note(&most, before, account_of(&box, cache));
        ASSERT(t, object[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct account before = account_of(&box, cache);
        EXPECT_OK(t, neomm_kfree(box.root, object[i * 7 % count]));
        note(&most, before, account_of(&box, cache));
    }
    expect_bounds(t, &most, stats.slab_frames);
    box_close(t, &box);
}

/* Calls between two that go to the slabs: half of what a CPU keeps, at least, or all of it. */
static void seldom(struct ktap *t)
{
    static void *object[MANY];
    struct box box;
    uint32_t count = t->parameter > 1024 ? MANY / 8 : MANY, visits = 0;
    if (!box_open(t, &box, BOX_DIRECT, 64, 2))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, (size_t)t->parameter);
    size_t kept = 65536 / (size_t)t->parameter;
    size_t batch = kept / 2 < BATCH ? kept / 2 : BATCH;
    for (uint32_t i = 0; i < count; i++) {
        struct account before = account_of(&box, cache);
        object[i] = take(&box, (size_t)t->parameter, 0);
        ASSERT(t, object[i]);
        visits += before.out != account_of(&box, cache).out;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct account before = account_of(&box, cache);
        EXPECT_OK(t, neomm_kfree(box.root, object[i]));
        visits += before.out != account_of(&box, cache).out;
    }
    /* A slab that ends within a batch costs one more. */
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(box.root, cache, &stats);
    EXPECT(t, visits > 0);
    EXPECT(t, visits <= 2 * count / batch + 2 * (count / stats.slab_objects + 1));
    box_close(t, &box);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(one_call, sizes),
    KTAP_CASE_WITH(seldom, sizes),
};

KTAP_SUITE(heap_batches, cases);
