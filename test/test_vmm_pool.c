/* Pages that come back from the compressed pool, which is memory as they are.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

#include <string.h>

#define PAGES 200u
#define LIMIT 64u /* frames of the pool */

static const enum neomm_format formats[] = ENV_FORMATS;

/* `random` words of 512, so that a page takes somewhat more than 8 times that in the pool. */
static void make_page(uint64_t *page, uint32_t number, uint32_t random)
{
    uint64_t state = number + 1;
    for (uint32_t i = 0; i < PAGE / sizeof(*page); i++) {
        uint64_t high = next_random(&state) << 32;
        page[i] = i < random ? high | next_random(&state) : number;
    }
}

/* `count` pages in the pool, of which `limit` frames is the most. */
static bool open_pooled(struct ktap *t, struct world *w, uint32_t count, uint32_t random)
{
    struct neomm_config config;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = formats[t->parameter],
                                        .swap_pages = 2000,
                                        .policy = "fifo",
                                        .config = &config};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    uint64_t page[PAGE / sizeof(uint64_t)];
    neomm_config_default(&config);
    config.pool_limit = (struct neomm_config_size){(uint64_t)LIMIT << NEOMM_PAGE_SHIFT, 0};
    if (!world_open(t, w, &options, &limits))
        return false;
    EXPECT_OK(t, neomm_mmap(w->env.root, w->space, &w->base, PAGES * PAGE, RW, NEOMM_MAP_EXACT));
    for (uint32_t i = 0; i < count; i++) {
        make_page(page, i, random);
        EXPECT_OK(t, env_access(&w->env, w->space, w->base + i * PAGE, page, PAGE, true, true));
    }
    EXPECT_EQ(t, neomm_space_evict(w->env.root, w->space, count), count);
    return true;
}

static struct neomm_swap_stats stats_of(struct world *w)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(w->env.root, &stats);
    return stats;
}

static void expect_page(struct ktap *t, struct world *w, uint32_t number, uint32_t random)
{
    uint64_t want[PAGE / sizeof(uint64_t)], page[PAGE / sizeof(uint64_t)];
    make_page(want, number, random);
    EXPECT_OK(t, env_access(&w->env, w->space, w->base + number * PAGE, page, PAGE, false, true));
    EXPECT_EQ(t, memcmp(page, want, sizeof(page)), 0);
}

/* Half full or less, the pool keeps what comes back: to let go of it again costs nothing. */
static void little_is_kept(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_pooled(t, &w, 40, 100));
    struct neomm_swap_stats before = stats_of(&w);
    EXPECT(t, before.pool_pages == 40 && before.pool_frames * 2 <= before.pool_limit);
    for (uint32_t i = 0; i < 40; i++)
        expect_page(t, &w, i, 100);
    EXPECT_EQ(t, stats_of(&w).pool_pages, 40);
    EXPECT_EQ(t, stats_of(&w).used, before.used);
    EXPECT_EQ(t, neomm_space_evict(w.env.root, w.space, 40), 40);
    EXPECT_EQ(t, stats_of(&w).pool_pages, 40);
    world_close(t, &w);
}

/* A fuller one gives up object and slot, until it is half full; a page whose slot is gone is dirty,
 * so it goes to the pool again. */
static void more_is_dropped(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_pooled(t, &w, 150, 100));
    struct neomm_swap_stats before = stats_of(&w), now;
    EXPECT(t, before.pool_pages == 150 && before.pool_frames * 2 > before.pool_limit);
    for (uint32_t i = 0; i < 150; i++) {
        bool above = stats_of(&w).pool_frames * 2 > stats_of(&w).pool_limit;
        uint64_t pages = stats_of(&w).pool_pages, used = stats_of(&w).used;
        expect_page(t, &w, i, 100);
        EXPECT_EQ(t, stats_of(&w).pool_pages, pages - above);
        EXPECT_EQ(t, stats_of(&w).used, used - above);
    }
    now = stats_of(&w);
    EXPECT(t, now.pool_frames * 2 <= now.pool_limit && now.pool_pages > 0);
    EXPECT_EQ(t, neomm_space_evict(w.env.root, w.space, 150), 150);
    EXPECT_EQ(t, stats_of(&w).pool_pages, 150);
    for (uint32_t i = 0; i < 150; i++)
        expect_page(t, &w, i, 100);
    EXPECT_EQ(t, stats_of(&w).reads + stats_of(&w).writes, 0);
    world_close(t, &w);
}

/* What is on the device is no memory, so its slot stays, however full the pool is. */
static void device_is_kept(struct ktap *t)
{
    uint32_t kept = 0;
    struct world w;
    ASSERT(t, open_pooled(t, &w, 150, 180));
    EXPECT(t, neomm_swap_pool_write_back(w.env.root, 32) >= 32);
    for (uint32_t i = 0; i < 150; i++) {
        struct neomm_swap_stats before = stats_of(&w);
        expect_page(t, &w, i, 180);
        if (stats_of(&w).reads == before.reads)
            continue;
        EXPECT_EQ(t, stats_of(&w).used, before.used);
        kept += before.pool_frames * 2 > before.pool_limit;
    }
    EXPECT(t, kept >= 32);
    world_close(t, &w);
}

static const uint64_t both[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(little_is_kept, both),
    KTAP_CASE_WITH(more_is_dropped, both),
    KTAP_CASE_WITH(device_is_kept, both),
};

KTAP_SUITE(vmm_pool, cases);
