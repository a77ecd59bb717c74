/* Which pages the page cache gives up, which move or stay, and what it remembers of them.
 * SPDX-License-Identifier: MIT */
#include "pager_desk.h"

#include "vmm/balance.h"
#include "vmm/migrate.h"

static const uint64_t formats[] = ENV_FORMATS;

/* ---- giving pages up ---- */

static void clean_before_dirty(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 32 * PAGE));
    map(&d, d.space, d.at, 32, 0);
    read_in_order(&d, 32);
    for (uint32_t i = 0; i < 32; i += 4)
        store(&d, d.space, d.at + i * PAGE, 60);
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 24), 24);
    EXPECT(t, d.file.writes == 0 && stats_of(&d).pages == 8 && stats_of(&d).dirty == 8);
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 3), 3);
    EXPECT_EQ(t, d.file.writes, 8); /* one batch of neighbours */
    EXPECT(t, neomm_cache_shrink(d.root, 100) == 5 && stats_of(&d).pages == 0);
    EXPECT(t, d.file.writes == 8 && swap_used(&d) == 0);
    for (uint32_t i = 0; i < 32; i++)
        expect_byte(&d, d.space, d.at + i * PAGE, i % 4 ? file_byte(i * PAGE) : 60);
    EXPECT(t, stats_of(&d).refaults > 0 && stats_of(&d).shadows == 0);
    EXPECT(t, neomm__balance_is_near(d.root, 32) && !neomm__balance_is_near(d.root, 33));
    desk_close(&d);
}

/* How many of so many pages the cache gives. */
static uint32_t turns(struct desk *d, uint32_t pages)
{
    uint32_t cache = 0;
    for (uint32_t i = 0; i < pages; i++)
        cache += neomm__balance_turn(d->root) == NEOMM__COST_CACHE;
    return cache;
}

/* Without a cost the cache gives all; costs decide, and fade. */
static void costs_decide(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 64 * PAGE));
    map(&d, d.space, d.at, 64, 0);
    EXPECT(t, !neomm__balance_is_cheap(d.root));
    read_in_order(&d, 64);
    EXPECT(t, neomm__balance_is_cheap(d.root) && turns(&d, 32) == 32);
    for (uint32_t i = 0; i < 7; i++)
        neomm__balance_cost(d.root, NEOMM__COST_CACHE);
    EXPECT(t, !neomm__balance_is_cheap(d.root) && turns(&d, 18) == 2);
    neomm__balance_cost(d.root, NEOMM__COST_ANONYMOUS);
    EXPECT_EQ(t, turns(&d, 20), 4);
    for (uint32_t i = 0; i < 8; i++)
        neomm__balance_cost(d.root, NEOMM__COST_ANONYMOUS);
    EXPECT(t, neomm__balance_is_cheap(d.root) && turns(&d, 10) == 10);
    desk_close(&d);
}

/* Pages change their frames, and neither what they hold nor what has to be written. */
static void pages_move(struct ktap *t)
{
    static struct desk d;
    uint32_t moved = 0;
    ASSERT(t, desk_open(t, &d, 8 * PAGE));
    map(&d, d.space, d.at, 8, 0);
    map(&d, d.other, d.at, 8, NEOMM_MAP_PRIVATE);
    read_in_order(&d, 8);
    store(&d, d.space, d.at + 3 * PAGE, 70);
    expect_byte(&d, d.other, d.at + 3 * PAGE, 70);
    store(&d, d.other, d.at + 4 * PAGE, 71);
    for (uint32_t i = 0; i < 8; i++) {
        struct neomm_mapping leaf;
        EXPECT_OK(t,
                  neomm_paging_query(d.root, neomm_space_tables(d.space), d.at + i * PAGE, &leaf));
        ASSERT(t, leaf.state == NEOMM_MAPPING_PRESENT);
        neomm_frame_t frame = neomm_paddr_frame(leaf.paddr);
        if (neomm__migrate(d.root, frame)) {
            moved++;
            EXPECT_OK(t, neomm_pmm_free(d.root, frame, 0));
        }
    }
    EXPECT_EQ(t, moved, 8);
    EXPECT(t, stats_of(&d).pages == 8 && stats_of(&d).dirty == 1);
    env_fsck(t, &d.env);
    uint32_t reads = d.file.reads;
    for (uint32_t i = 0; i < 8; i++) {
        expect_byte(&d, d.space, d.at + i * PAGE, i == 3 ? 70 : file_byte(i * PAGE));
        expect_byte(&d, d.other, d.at + i * PAGE, i == 3 ? 70 : i == 4 ? 71 : file_byte(i * PAGE));
    }
    EXPECT_EQ(t, d.file.reads, reads);
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 8 * PAGE, NEOMM_MS_SYNC));
    EXPECT(t, d.file.writes == 1 && d.file.safe[3 * PAGE] == 70);
    desk_close(&d);
}

/* Locked pages stay, and so do those of a device. */
static void locked_pages_stay(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 8 * PAGE));
    map(&d, d.space, d.at, 8, 0);
    map(&d, d.other, d.at, 8, NEOMM_MAP_PRIVATE);
    read_in_order(&d, 8);
    EXPECT_OK(t, neomm_mlock(d.root, d.other, d.at + 2 * PAGE, PAGE, NEOMM_LOCK_ONFAULT));
    expect_byte(&d, d.other, d.at + 2 * PAGE, file_byte(2 * PAGE));
    (void)neomm_cache_shrink(d.root, 100);
    EXPECT_EQ(t, stats_of(&d).pages, 1);
    uint32_t reads = d.file.reads;
    expect_byte(&d, d.other, d.at + 2 * PAGE, file_byte(2 * PAGE));
    EXPECT_EQ(t, d.file.reads, reads);
    EXPECT_OK(t, neomm_munlock(d.root, d.other, d.at + 2 * PAGE, PAGE));
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 100), 1);
    desk_close(&d);
}

/* A space at its resident limit gives leaves of the cache up. */
static void a_limited_space(struct ktap *t)
{
    static struct desk d;
    struct neomm_space_stats stats;
    struct neomm_space *space;
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 4 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, desk_open(t, &d, 32 * PAGE));
    EXPECT_OK(t, neomm_space_create(d.root, &limits, &space));
    map(&d, space, d.at, 32, 0);
    for (uint32_t i = 0; i < 32; i++) {
        store(&d, space, d.at + i * PAGE, 90);
        expect_byte(&d, space, d.at + (31 - i) * PAGE,
                    31 - i <= i ? 90 : file_byte((31 - i) * PAGE));
        neomm_space_stats(d.root, space, &stats);
        EXPECT(t, stats.resident_bytes <= 4 * PAGE);
    }
    EXPECT_EQ(t, stats_of(&d).dirty, 32);
    neomm_space_activate(d.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(d.root, space));
    desk_close(&d);
    for (uint32_t i = 0; i < 32; i++)
        EXPECT_EQ(t, d.file.safe[i * PAGE], 90);
}

/* What the cache remembers of pages that left is bounded, and goes with the object. */
static void shadows_are_bounded(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 128 * PAGE));
    map(&d, d.space, d.at, 128, 0);
    d.root->vmm->ram_pages = 16;
    for (uint32_t round = 0; round < 3; round++) {
        read_in_order(&d, 128);
        (void)neomm_cache_shrink(d.root, 1000);
        EXPECT_EQ(t, stats_of(&d).pages, 0);
        EXPECT(t, stats_of(&d).shadows <= 16 && stats_of(&d).shadows > 8);
    }
    env_fsck(t, &d.env);
    EXPECT_OK(t, neomm_object_resize(d.root, d.object, 0));
    EXPECT_EQ(t, stats_of(&d).shadows, 0);
    desk_close(&d);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(clean_before_dirty, formats), KTAP_CASE_WITH(costs_decide, formats),
    KTAP_CASE_WITH(pages_move, formats),         KTAP_CASE_WITH(locked_pages_stay, formats),
    KTAP_CASE_WITH(a_limited_space, formats),    KTAP_CASE_WITH(shadows_are_bounded, formats),
};
KTAP_SUITE(pager_reclaim, cases);
