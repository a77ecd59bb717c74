/* Compaction: large blocks out of fragmented memory, with everything that refers to a page led to
 * where it went.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "vmm/migrate.h"

#include <string.h>

#define PAGE NEOMM_PAGE_SIZE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define RAM  ((uint64_t)24 << 20)
#define MOST ((uint32_t)(RAM / PAGE))

static const uint64_t formats[] = ENV_FORMATS;

enum state { ABSENT, ALONE, SHARED };

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space, *child;
    struct neomm_object *object;
    neomm_vaddr_t base, shared;
    uint32_t pages, object_pages;
    uint8_t state[MOST];
    uint64_t random;
};

static uint32_t pick(struct world *w, uint32_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->random >> 33) % below;
}

static bool world_open(struct ktap *t, struct world *w, const char *policy)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .no_pool = true,
                                        .format = (enum neomm_format)t->parameter,
                                        .ram_bytes = RAM,
                                        .swap_pages = 512,
                                        .policy = policy};
    memset(w, 0, sizeof(*w));
    w->t = t;
    w->random = t->parameter + 77;
    if (!env_open(t, &w->env, &options))
        return false;
    w->root = w->env.root;
    w->base = neomm_layout_of(w->root)->user_base + 64 * PAGE;
    EXPECT_OK(t, neomm_space_create(w->root, NULL, &w->space));
    neomm_space_activate(w->root, w->space);
    return t->failures == 0;
}

static void world_close(struct world *w)
{
    env_fsck(w->t, &w->env);
    neomm_space_activate(w->root, NULL);
    if (w->child)
        EXPECT_OK(w->t, neomm_space_destroy(w->root, w->child));
    EXPECT_OK(w->t, neomm_space_destroy(w->root, w->space));
    if (w->object)
        neomm_object_close(w->root, w->object);
    env_close(w->t, &w->env);
}

static uint64_t value_of(uint32_t page)
{
    return 0x1000000u + page * 3u;
}

static void put(struct world *w, neomm_vaddr_t at, uint64_t value)
{
    EXPECT_OK(w->t, env_access(&w->env, w->space, at, &value, 8, true, true));
}

static uint64_t get(struct world *w, struct neomm_space *space, neomm_vaddr_t at)
{
    uint64_t value = 0;
    EXPECT_OK(w->t, env_access(&w->env, space, at, &value, 8, false, true));
    return value;
}

static neomm_frame_t frame_at(struct world *w, neomm_vaddr_t at)
{
    struct neomm_mapping leaf;
    EXPECT_OK(w->t, neomm_paging_query(w->root, neomm_space_tables(w->space), at, &leaf));
    return leaf.state == NEOMM_MAPPING_PRESENT ? neomm_paddr_frame(leaf.paddr) : neomm_frame(0);
}

/* Nearly all of memory is pages, private ones and, every fourth, those of an object; then some go
 * at random. */
static void fill(struct world *w)
{
    neomm_vaddr_t at = w->base;
    w->pages = (uint32_t)neomm_pmm_free_frames(w->root) * 7 / 10;
    w->object_pages = w->pages / 4;
    EXPECT_OK(w->t, neomm_mmap(w->root, w->space, &at, w->pages * PAGE, RW,
                               NEOMM_MAP_EXACT | NEOMM_MAP_NORESERVE));
    EXPECT_OK(w->t, neomm_object_create(w->root, NULL, w->object_pages * PAGE, &w->object));
    w->shared = 0;
    EXPECT_OK(w->t, neomm_mmap_object(w->root, w->space, &w->shared, w->object_pages * PAGE, RW, 0,
                                      w->object, 0));
    for (uint32_t page = 0; page < w->pages; page++) {
        put(w, w->base + page * PAGE, value_of(page));
        w->state[page] = ALONE;
        if (page % 4 == 0 && page / 4 < w->object_pages)
            put(w, w->shared + page / 4 * PAGE, ~value_of(page / 4));
    }
}

static void fragment(struct world *w, uint32_t percent)
{
    for (uint32_t page = 0; page < w->pages; page++)
        if (pick(w, 100) < percent) {
            EXPECT_OK(w->t, neomm_munmap(w->root, w->space, w->base + page * PAGE, PAGE));
            if (w->child)
                EXPECT_OK(w->t, neomm_munmap(w->root, w->child, w->base + page * PAGE, PAGE));
            w->state[page] = ABSENT;
        }
}

static void check(struct world *w)
{
    for (uint32_t page = 0; page < w->pages; page++)
        if (w->state[page] != ABSENT) {
            EXPECT_EQ(w->t, get(w, w->space, w->base + page * PAGE), value_of(page));
        }
    for (uint32_t page = 0; page < w->object_pages; page++)
        EXPECT_EQ(w->t, get(w, w->space, w->shared + page * PAGE), ~value_of(page));
    if (!w->child)
        return;
    neomm_space_activate(w->root, w->child);
    for (uint32_t page = 0; page < w->pages; page++)
        if (w->state[page] == SHARED) {
            EXPECT_EQ(w->t, get(w, w->child, w->base + page * PAGE), value_of(page));
        }
    neomm_space_activate(w->root, w->space);
}

static bool has_block(struct world *w, unsigned order)
{
    neomm_frame_t frame;
    neomm_status status = neomm_pmm_alloc(w->root, order, NEOMM_NORECLAIM | NEOMM_HIGH, &frame);
    if (status == NEOMM_OK)
        EXPECT_OK(w->t, neomm_pmm_free(w->root, frame, order));
    return status == NEOMM_OK;
}

#define HELD_MOST 12u

/* Takes the blocks that there are, so that others have to be made. */
static unsigned hold_blocks(struct world *w, unsigned order, neomm_frame_t *held)
{
    const neomm_flags_t flags = NEOMM_NORECLAIM | NEOMM_HIGH;
    unsigned count = 0;
    while (count < HELD_MOST && neomm_pmm_alloc(w->root, order, flags, &held[count]) == NEOMM_OK)
        count++;
    EXPECT(w->t, count < HELD_MOST);
    return count;
}

static void let_go(struct world *w, unsigned order, unsigned count, const neomm_frame_t *held)
{
    while (count-- > 0)
        EXPECT_OK(w->t, neomm_pmm_free(w->root, held[count], order));
}

/* ---- blocks ---- */

static void blocks_are_made(struct ktap *t)
{
    static struct world w;
    const unsigned orders[] = {4, 9, 10};
    neomm_frame_t held[HELD_MOST];
    for (unsigned i = 0; i < 3; i++) {
        ASSERT(t, world_open(t, &w, NULL));
        fill(&w);
        fragment(&w, 40);
        uint64_t before = neomm__counter_sum(w.root, NEOMM_COUNTER_EVICTION);
        unsigned count = orders[i] >= 9 ? hold_blocks(&w, orders[i], held) : 0;
        EXPECT_OK(t, neomm_compact(w.root, orders[i]));
        EXPECT(t, has_block(&w, orders[i]));
        let_go(&w, orders[i], count, held);
        EXPECT_EQ(t, neomm__counter_sum(w.root, NEOMM_COUNTER_EVICTION), before);
        check(&w);
        world_close(&w);
    }
}

/* Pages are everywhere: without compaction there is no block of 4 MiB, and with it there are some.
 * The allocator asks for it by itself. */
static void allocator_asks(struct ktap *t)
{
    static struct world w;
    neomm_frame_t held[HELD_MOST], block[2];
    ASSERT(t, world_open(t, &w, NULL));
    fill(&w);
    unsigned count = hold_blocks(&w, 10, held);
    fragment(&w, 60);
    let_go(&w, 10, count, held);
    count = hold_blocks(&w, 10, held);
    for (unsigned i = 0; i < 2; i++) {
        ASSERT_OK(t, neomm_pmm_alloc(w.root, 10, NEOMM_HIGH, &block[i]));
        check(&w);
    }
    EXPECT(t, neomm__counter_sum(w.root, NEOMM_COUNTER_MIGRATION) > 0);
    EXPECT_EQ(t, neomm__counter_sum(w.root, NEOMM_COUNTER_EVICTION), 0);
    let_go(&w, 10, 2, block);
    let_go(&w, 10, count, held);
    world_close(&w);
}

/* Shared by a fork, clean and dirty copies in swap: all that a frame can have. */
static void all_kinds_of_pages(struct ktap *t)
{
    static struct world w;
    neomm_frame_t held[HELD_MOST];
    ASSERT(t, world_open(t, &w, "fifo"));
    fill(&w);
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 200), 200);
    for (uint32_t page = 0; page < 100; page++) /* read back: with a copy in swap */
        EXPECT_EQ(t, get(&w, w.space, w.base + page * PAGE), value_of(page));
    EXPECT_OK(t, neomm_space_fork(w.root, w.space, &w.child));
    for (uint32_t page = 0; page < w.pages; page++)
        w.state[page] = SHARED;
    for (uint32_t page = 50; page < w.pages; page += 25)
        put(&w, w.base + page * PAGE, value_of(page));
    fragment(&w, 40);
    env_fsck(t, &w.env);
    unsigned count = hold_blocks(&w, 9, held);
    EXPECT_OK(t, neomm_compact(w.root, 9));
    EXPECT(t, neomm__counter_sum(w.root, NEOMM_COUNTER_MIGRATION) > 0);
    let_go(&w, 9, count, held);
    env_fsck(t, &w.env);
    check(&w);
    (void)neomm_space_evict(w.root, w.space, 100);
    check(&w);
    world_close(&w);
}

/* ---- what stays ---- */

static void pinned_pages_stay(struct ktap *t)
{
    static struct world w;
    static neomm_frame_t pinned[MOST];
    uint32_t pins = 0, done;
    ASSERT(t, world_open(t, &w, NULL));
    fill(&w);
    fragment(&w, 40);
    for (uint32_t page = 0; page < w.pages; page++)
        if (w.state[page] == ALONE && page % 64 == 0) {
            EXPECT_OK(t, neomm_user_pin(w.root, w.space, w.base + page * PAGE, 1, true,
                                        &pinned[pins], &done));
            pins++;
        }
    for (unsigned i = 0; i < 4; i++)
        (void)!neomm_compact(w.root, 9);
    for (uint32_t page = 0, i = 0; page < w.pages; page++)
        if (w.state[page] == ALONE && page % 64 == 0) {
            EXPECT_EQ(t, frame_at(&w, w.base + page * PAGE).number, pinned[i].number);
            i++;
        }
    neomm_user_unpin(w.root, pinned, pins, false);
    check(&w);
    world_close(&w);
}

/* The first pages to come are the first to go, wherever they have been moved. */
static void places_in_the_policy_are_kept(struct ktap *t)
{
    static struct world w;
    uint32_t moved = 0, gone = 0;
    static uint32_t before[MOST];
    ASSERT(t, world_open(t, &w, "fifo"));
    fill(&w);
    EXPECT_OK(t, neomm_munmap(w.root, w.space, w.shared, w.object_pages * PAGE));
    neomm_object_close(w.root, w.object);
    w.object = NULL;
    w.object_pages = 0;
    for (uint32_t page = 0; page < w.pages; page++)
        before[page] = frame_at(&w, w.base + page * PAGE).number;
    for (unsigned i = 0; i < 3; i++)
        (void)!neomm_compact(w.root, 10);
    for (uint32_t page = 0; page < w.pages; page++)
        moved += frame_at(&w, w.base + page * PAGE).number != before[page];
    EXPECT(t, moved > 50);
    for (uint32_t page = 0; page < 300; page++) {
        EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 1), 1);
        EXPECT_EQ(t, frame_at(&w, w.base + page * PAGE).number, 0);
        gone++;
    }
    EXPECT_EQ(t, gone, 300);
    check(&w);
    world_close(&w);
}

/* That a page was used is known of it wherever it is; its old frame is free, and knows nothing. */
static void use_is_remembered(struct ktap *t)
{
    static struct world w;
    uint32_t moved = 0;
    ASSERT(t, world_open(t, &w, NULL));
    fill(&w);
    EXPECT(t, neomm_space_harvest(w.root, w.space) >= w.pages + w.object_pages);
    for (uint32_t page = 0; page < 16; page++) {
        neomm_vaddr_t at = page % 2 ? w.shared + page * PAGE : w.base + page * PAGE;
        neomm_frame_t frame = frame_at(&w, at);
        if (page > 8 && page % 2) { /* its leaf knows it alone */
            (void)get(&w, w.space, at);
            (void)neomm__frame_age(neomm__frame(w.root, frame));
        }
        if (!neomm__migrate(w.root, frame))
            continue;
        moved++;
        EXPECT_EQ(t, neomm__frame(w.root, frame)->mappings, 0);
        EXPECT_OK(t, neomm_pmm_free(w.root, frame, 0));
        (void)get(&w, w.space, at);
        EXPECT(t, neomm__frame_age(neomm__frame(w.root, frame_at(&w, at))));
    }
    EXPECT_EQ(t, moved, 16);
    check(&w);
    world_close(&w);
}

/* A page that was read back and moved is evicted again without a write. */
static void copies_in_swap_are_kept(struct ktap *t)
{
    static struct world w;
    struct neomm_space_stats stats;
    uint32_t moved = 0;
    ASSERT(t, world_open(t, &w, "fifo"));
    neomm_vaddr_t at = w.base;
    EXPECT_OK(t, neomm_mmap(w.root, w.space, &at, 64 * PAGE, RW, NEOMM_MAP_EXACT));
    for (uint32_t page = 0; page < 64; page++)
        put(&w, at + page * PAGE, value_of(page));
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 64), 64);
    for (uint32_t page = 0; page < 64; page++)
        EXPECT_EQ(t, get(&w, w.space, at + page * PAGE), value_of(page));
    for (uint32_t page = 0; page < 64; page++) {
        neomm_frame_t frame = frame_at(&w, at + page * PAGE);
        if (neomm__migrate(w.root, frame)) {
            EXPECT_OK(t, neomm_pmm_free(w.root, frame, 0));
            moved++;
        }
    }
    EXPECT_EQ(t, moved, 64);
    neomm_space_stats(w.root, w.space, &stats);
    uint64_t writes = stats.swap_writes;
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 64), 64);
    neomm_space_stats(w.root, w.space, &stats);
    EXPECT_EQ(t, stats.swap_writes, writes);
    for (uint32_t page = 0; page < 64; page++)
        EXPECT_EQ(t, get(&w, w.space, at + page * PAGE), value_of(page));
    world_close(&w);
}

/* ---- failures ---- */

static void every_failure(struct ktap *t)
{
    static struct world w;
    bool done;
    ASSERT(t, world_open(t, &w, NULL));
    fill(&w);
    EXPECT_OK(t, neomm_space_fork(w.root, w.space, &w.child));
    for (uint32_t page = 0; page < w.pages; page++)
        w.state[page] = SHARED;
    fragment(&w, 40);
    done = !env_fault_plan(&w.env, 0, false);
    for (uint64_t nth = 1, n = 0; !done && t->failures == 0; n++, nth += 1 + n * n / 8) {
        (void)env_fault_plan(&w.env, nth, nth % 2);
        neomm_status status = neomm_compact(w.root, 9);
        done = env_fault_count(&w.env) < nth;
        (void)env_fault_plan(&w.env, 0, false);
        EXPECT(t, status == NEOMM_OK || status == NEOMM_E_NOMEM);
        env_fsck(t, &w.env);
    }
    check(&w);
    world_close(&w);
}

static void wrong_orders(struct ktap *t)
{
    static struct world w;
    ASSERT(t, world_open(t, &w, NULL));
    EXPECT_EQ(t, neomm_compact(w.root, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_compact(w.root, NEOMM_ORDER_MAX + 1), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_compact(w.root, NEOMM_ORDER_MAX));
    world_close(&w);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(blocks_are_made, formats),
    KTAP_CASE_WITH(allocator_asks, formats),
    KTAP_CASE_WITH(all_kinds_of_pages, formats),
    KTAP_CASE_WITH(pinned_pages_stay, formats),
    KTAP_CASE_WITH(places_in_the_policy_are_kept, formats),
    KTAP_CASE_WITH(use_is_remembered, formats),
    KTAP_CASE_WITH(copies_in_swap_are_kept, formats),
    KTAP_CASE_WITH(every_failure, formats),
    KTAP_CASE_WITH(wrong_orders, formats),
};
KTAP_SUITE(vmm_compact, cases);
