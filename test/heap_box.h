/* What the heap's suites share: a machine with a heap, and blocks filled with patterns.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_HEAP_BOX_H
#define NEOMM_TEST_HEAP_BOX_H

#include "env.h"

/* A heap over frames alone, or over frames and the kernel window. */
enum { BOX_DIRECT, BOX_WINDOW };

struct box {
    struct env env;
    struct neomm *root;
    bool window;
    uint64_t free_before; /* frames, with an empty heap */
};

static inline enum neomm_format box_format(void)
{
    static const enum neomm_format formats[] = ENV_FORMATS;
    return formats[0];
}

static inline bool box_open(struct ktap *t, struct box *box, uint64_t kind, uint64_t ram_mib,
                            uint32_t cpus)
{
    struct env_options options = {.layer = kind == BOX_WINDOW ? ENV_HEAP : ENV_PMM,
                                  .format = box_format(),
                                  .ram_bytes = ram_mib << 20,
                                  .cpus = cpus,
                                  .seed = t->parameter + 1};
    box->window = kind == BOX_WINDOW;
    if (!env_open(t, &box->env, &options))
        return false;
    box->root = box->env.root;
    if (!box->window)
        EXPECT_OK(t, neomm_heap_init(box->root, NULL));
    box->free_before = neomm_pmm_free_frames(box->root);
    return t->failures == 0;
}

/* Everything was freed: the heap must give every frame back when asked, and then end. */
static inline void box_close(struct ktap *t, struct box *box)
{
    struct neomm_heap_stats stats;
    (void)env_fault_plan(&box->env, 0, false);
    neomm_heap_stats(box->root, &stats);
    EXPECT_EQ(t, stats.objects, 0);
    EXPECT_EQ(t, stats.allocated_bytes, 0);
    EXPECT_EQ(t, stats.requested_bytes, 0);
    EXPECT_EQ(t, stats.run_frames, 0);
    (void)neomm_heap_shrink(box->root);
    EXPECT_EQ(t, neomm_pmm_free_frames(box->root), box->free_before);
    env_fsck(t, &box->env);
    if (!box->window)
        EXPECT_OK(t, neomm_heap_fini(box->root));
    env_close(t, &box->env);
}

static inline uint64_t box_counter(const struct box *box, enum neomm_counter counter)
{
    static struct neomm_snapshot snapshot;
    neomm_snapshot_take(box->root, &snapshot);
    return snapshot.counter[counter];
}

/* Analysers see a leak in every kmalloc whose pointer is freed through a table, so blocks of the
 * tests are held as plain addresses. */
static inline void *take(struct box *box, size_t size, neomm_flags_t flags)
{
    return neomm_kmalloc(box->root, size, flags);
}

static inline uint64_t objects(struct box *box)
{
    struct neomm_heap_stats stats;
    neomm_heap_stats(box->root, &stats);
    return stats.objects;
}

/* What kmalloc promises for a size. */
static inline size_t alignment_of(size_t size)
{
    return (size & (size - 1)) == 0 && size <= NEOMM_PAGE_SIZE && size > 16 ? size : 16;
}

/* ---- random numbers and patterns ---- */

static inline uint64_t box_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint8_t pattern_byte(uint32_t id, size_t at)
{
    return (uint8_t)((id * 0x9e3779b1u >> 7) + at * 31 + (at >> 8));
}

static inline void pattern_fill(void *block, size_t size, uint32_t id)
{
    uint8_t *byte = block;
    for (size_t i = 0; i < size; i++)
        byte[i] = pattern_byte(id, i);
}

static inline bool pattern_holds(const void *block, size_t size, uint32_t id)
{
    const uint8_t *byte = block;
    for (size_t i = 0; i < size; i++)
        if (byte[i] != pattern_byte(id, i))
            return false;
    return true;
}

static inline bool all_zero(const void *block, size_t size)
{
    const uint8_t *byte = block;
    for (size_t i = 0; i < size; i++)
        if (byte[i] != 0)
            return false;
    return true;
}

#endif
