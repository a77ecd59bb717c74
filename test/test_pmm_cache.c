/* The CPUs' caches of frames in long random histories, one call at a time on one CPU or another,
 * against a label for each frame; and what a cache must do in particular.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <stdlib.h>

#define M(n)   ((uint64_t)(n) << 20)
#define CPUS   4u
#define RAM    M(512)
#define FRAMES (RAM >> NEOMM_PAGE_SHIFT)
#define BLOCKS ((uint32_t)1 << 15)
#define BULK   100u
#define STEPS  (NEOMM_INSTRUMENTED ? 400000u : 2000000u)
#define EVERY  (STEPS / 8)

static struct world world;

struct block {
    uint32_t frame;
    unsigned order;
};

static struct history {
    struct ktap *t;
    uint64_t seed;
    struct block block[BLOCKS]; /* as they were allocated, but for those taken out of the midst */
    uint32_t blocks;
    uint32_t label[FRAMES]; /* 1 + order of the block; 0: free */
    uint64_t free;
    bool offline[CPUS];
} history;

static uint32_t below(struct history *h, uint32_t limit)
{
    return world_below(&h->seed, limit);
}

/* The frames were nobody's and are the history's now. */
static void got(struct history *h, neomm_frame_t frame, unsigned order)
{
    uint32_t size = 1u << order;
    ASSERT(h->t, frame.number % size == 0 && frame.number + size <= FRAMES);
    for (uint32_t i = 0; i < size; i++) {
        ASSERT(h->t, h->label[frame.number + i] == 0);
        h->label[frame.number + i] = 1 + order;
    }
    h->block[h->blocks++] = (struct block){frame.number, order};
    h->free -= size;
}

/* Is a block of this order free? */
static bool has_block(const struct history *h, unsigned order)
{
    uint32_t size = 1u << order;
    for (uint32_t at = 0; at < FRAMES; at += size) {
        uint32_t free = 0;
        while (free < size && h->label[at + free] == 0 && world.state[at + free] == WORLD_FREE)
            free++;
        if (free == size)
            return true;
    }
    return false;
}

/* Some orders have caches and others none, and the first are wanted mostly. */
static void step_alloc(struct history *h)
{
    static const unsigned orders[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5};
    unsigned order = orders[below(h, NEOMM__COUNT_OF(orders))];
    neomm_flags_t flags = below(h, 3) ? 0 : NEOMM_MOVABLE;
    neomm_frame_t frame;
    if (below(h, 2000) == 0)
        order = 9 + below(h, 2);
    neomm_status status = neomm_pmm_alloc(world.root, order, flags, &frame);
    if (status == NEOMM_OK)
        got(h, frame, order);
    else
        EXPECT(h->t, !has_block(h, order));
}

static void give(struct history *h, struct block block)
{
    for (uint32_t i = 0; i < 1u << block.order; i++)
        h->label[block.frame + i] = 0;
    h->free += (uint64_t)1 << block.order;
    EXPECT_OK(h->t, neomm_pmm_free(world.root, neomm_frame(block.frame), block.order));
    EXPECT_EQ(h->t, neomm_pmm_free(world.root, neomm_frame(block.frame), block.order),
              NEOMM_E_DOUBLE_FREE);
}

/* The newest, or any. */
static void step_free(struct history *h, bool newest)
{
    uint32_t at = newest ? h->blocks - 1 : below(h, h->blocks);
    struct block block = h->block[at];
    h->block[at] = h->block[--h->blocks];
    give(h, block);
}

static void step_bulk(struct history *h)
{
    neomm_frame_t frames[BULK];
    uint32_t count = 1 + below(h, BULK), done = 0;
    EXPECT_OK(h->t,
              neomm_pmm_alloc_bulk(world.root, count, below(h, 2) ? 0 : NEOMM_MOVABLE, frames));
    for (uint32_t i = 0; i < count; i++)
        got(h, frames[i], 0);
    if (below(h, 2))
        return;
    h->blocks -= count;
    h->free += count;
    for (uint32_t i = 0; i < count; i++)
        h->label[frames[i].number] = 0;
    EXPECT_OK(h->t, neomm_pmm_free_bulk(world.root, count, frames, &done));
    EXPECT_EQ(h->t, done, count);
}

static void step_stop(struct history *h)
{
    uint32_t cpu = below(h, CPUS);
    h->offline[cpu] = !h->offline[cpu];
    EXPECT_OK(h->t, h->offline[cpu] ? neomm_pmm_cpu_offline(world.root, cpu)
                                    : neomm_pmm_cpu_online(world.root, cpu));
}

/* `wave` of 16 steps that change something allocate; in some waves frees go newest first. */
static void step(struct history *h, uint32_t wave, bool newest)
{
    uint32_t choice = below(h, 1024);
    bool room = h->blocks < BLOCKS - BULK && h->free > FRAMES / 8;
    if (choice < 64)
        sim_bind(world.sim, below(h, CPUS));
    else if (choice < 66)
        neomm_pmm_drain(world.root);
    else if (choice == 66)
        step_stop(h);
    else if (choice < 80 && room)
        step_bulk(h);
    else if (below(h, 16) < wave && room)
        step_alloc(h);
    else if (h->blocks > 0)
        step_free(h, newest);
}

static bool open_history(struct ktap *t, struct history *h)
{
    static const struct neomm_boot_range map[] = {{0, RAM, NEOMM_MEMORY_USABLE}};
    const struct world_options options = {
        .ram_bytes = RAM, .map = map, .map_count = 1, .cpus = CPUS};
    if (!world_open(t, &world, &options))
        return false;
    memset(h, 0, sizeof(*h));
    h->t = t;
    h->seed = t->parameter * 1000;
    h->free = neomm_pmm_free_frames(world.root);
    return true;
}

static void histories(struct ktap *t)
{
    struct history *h = &history;
    if (!open_history(t, h))
        return;
    for (uint32_t i = 0; i < STEPS && t->failures == 0; i++) {
        step(h, i % EVERY < EVERY / 2 ? 9 : 6, i / EVERY % 2 == 1);
        if (i % 1000 == 0)
            EXPECT_EQ(t, neomm_pmm_free_frames(world.root), h->free);
        if (i % EVERY == 0)
            world_fsck(t, &world);
    }
    while (h->blocks > 0 && t->failures == 0)
        step_free(h, true);

    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), h->free);
    sim_bind(world.sim, 0);
    world_close(t, &world);
}

static const uint64_t seeds[] = {1, 2, 3};

/* ---- what is in a cache ---- */

#define KEPT 300u /* more than a cache takes */

/* The frame that was given back last comes first, on the same CPU and to the same kind. */
static void newest_first(struct ktap *t)
{
    neomm_frame_t a, b, c, again;
    if (!open_history(t, &history))
        return;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &a));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &b));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_MOVABLE, &c));
    EXPECT_OK(t, neomm_pmm_free(world.root, b, 0));
    EXPECT_OK(t, neomm_pmm_free(world.root, a, 0));
    EXPECT_OK(t, neomm_pmm_free(world.root, c, 0));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &again));
    EXPECT_EQ(t, again.number, a.number);
    EXPECT_OK(t, neomm_pmm_free(world.root, again, 0));
    sim_bind(world.sim, 1);
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &again));
    EXPECT(t, again.number != a.number && again.number != b.number && again.number != c.number);
    EXPECT_OK(t, neomm_pmm_free(world.root, again, 0));
    sim_bind(world.sim, 0);
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_MOVABLE, &again));
    EXPECT_EQ(t, again.number, c.number);
    EXPECT_OK(t, neomm_pmm_free(world.root, again, 0));
    world_close(t, &world);
}

/* Whatever one CPU frees, another can have all of it, as single frames and as blocks. */
static void nothing_is_kept_from_others(struct ktap *t)
{
    static neomm_frame_t frames[FRAMES];
    neomm_frame_t block;
    uint32_t blocks = 0;
    if (!open_history(t, &history))
        return;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        sim_bind(world.sim, cpu);
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, KEPT, NEOMM_MOVABLE, frames));
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, KEPT, frames, NULL));
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 9, 0, &block));
        EXPECT_OK(t, neomm_pmm_free(world.root, block, 9));
    }
    uint32_t all = (uint32_t)neomm_pmm_free_frames(world.root);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, all, NEOMM_ATOMIC, frames));
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_ATOMIC, &block), NEOMM_E_NOMEM);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, all, frames, NULL));
    sim_bind(world.sim, 0);
    while (neomm_pmm_alloc(world.root, 9, NEOMM_ATOMIC, &frames[blocks]) == NEOMM_OK)
        blocks++;
    EXPECT(t, blocks >= all / 512 - 4);
    while (blocks > 0)
        EXPECT_OK(t, neomm_pmm_free(world.root, frames[--blocks], 9));
    world_close(t, &world);
}

/* Order 10 whose second half of 2 MiB is somebody's: the first half comes back whole, and nothing
 * else does. */
static void half_an_order_10(struct ktap *t)
{
    static neomm_frame_t frames[FRAMES];
    neomm_frame_t first, pair;
    uint32_t all, left = 0;
    if (!open_history(t, &history))
        return;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 10, 0, &pair));
    all = (uint32_t)neomm_pmm_free_frames(world.root);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, all, 0, frames));
    EXPECT_OK(t, neomm_pmm_free(world.root, pair, 10));
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(pair.number + 512), 512));
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 10, NEOMM_ATOMIC, &first), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 512);
    world_fsck(t, &world);
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 9, NEOMM_ATOMIC, &first));
    EXPECT_EQ(t, first.number, pair.number);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_ATOMIC, &frames[all]), NEOMM_E_NOMEM);
    EXPECT_OK(t, neomm_pmm_free(world.root, first, 9));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(pair.number + 512), 512));
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, all, frames, &left));
    EXPECT_EQ(t, left, all);
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(histories, seeds),
    KTAP_CASE(newest_first),
    KTAP_CASE(nothing_is_kept_from_others),
    KTAP_CASE(half_an_order_10),
};
KTAP_SUITE(pmm_cache, cases);
