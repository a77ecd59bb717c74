/* Reading ahead from swap around faults.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

#include <neomm/readahead.h>

#define PAGES 64u /* the block that they lie in */

static const enum neomm_format formats[] = ENV_FORMATS;

/* 64 pages of a block, each with something in it, all of them in swap. */
static bool open_evicted(struct ktap *t, struct world *w, uint32_t readahead, uint64_t limit)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .no_pool = true,
                                        .format = formats[t->parameter & 1],
                                        .swap_pages = 300,
                                        .policy = "fifo",
                                        .readahead = readahead};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, limit, NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    if (!world_open(t, w, &options, &limits))
        return false;
    w->base = (w->base + PAGES * PAGE - 1) & ~(neomm_vaddr_t)(PAGES * PAGE - 1);
    EXPECT_OK(t, neomm_mmap(w->env.root, w->space, &w->base, PAGES * PAGE, RW, NEOMM_MAP_EXACT));
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_OK(t, world_write(w, w->base + i * PAGE, 1000 + i));
    (void)neomm_space_evict(w->env.root, w->space, PAGES);
    return true;
}

static struct neomm_space_stats stats_of(struct world *w)
{
    struct neomm_space_stats stats;
    neomm_space_stats(w->env.root, w->space, &stats);
    return stats;
}

static void touch(struct ktap *t, struct world *w, uint32_t page)
{
    uint64_t value = 0;
    EXPECT_OK(t, world_read(w, w->base + page * PAGE, &value));
    EXPECT_EQ(t, value, 1000 + page);
}

static struct neomm_mapping leaf_of(struct world *w, uint32_t page)
{
    struct neomm_mapping leaf;
    if (neomm_paging_query(w->env.root, neomm_space_tables(w->space), w->base + page * PAGE,
                           &leaf) != NEOMM_OK)
        leaf.state = NEOMM_MAPPING_NONE;
    return leaf;
}

static uint32_t resident(struct world *w)
{
    uint32_t pages = 0;
    for (uint32_t i = 0; i < PAGES; i++)
        pages += leaf_of(w, i).state == NEOMM_MAPPING_PRESENT;
    return pages;
}

static void advise(struct ktap *t, struct world *w, enum neomm_advice advice)
{
    EXPECT_OK(t, neomm_madvise(w->env.root, w->space, w->base, PAGES * PAGE, advice));
}

/* A walk over the block: windows of 1, 2, 4, 8 and 16 pages, so that each but the first comes to
 * the page behind what was read. What is read ahead has not been used until it is. */
static void a_walk_opens_it(struct ktap *t)
{
    static const uint32_t fault[] = {0, 1, 3, 7, 15, 31, 47, 63};
    struct world w;
    ASSERT(t, open_evicted(t, &w, 16, NEOMM_UNLIMITED));
    EXPECT_EQ(t, resident(&w), 0);
    uint64_t reads = stats_of(&w).faults_swap_in;
    for (uint32_t i = 0, n = 0; i < PAGES; i++) {
        bool faults = fault[n] == i;
        EXPECT_EQ(t, leaf_of(&w, i).state == NEOMM_MAPPING_PRESENT, !faults);
        if (!faults)
            EXPECT(t, !leaf_of(&w, i).accessed);
        touch(t, &w, i);
        EXPECT_EQ(t, stats_of(&w).faults_swap_in, reads += faults);
        n += faults;
    }
    struct neomm_space_stats stats = stats_of(&w);
    EXPECT_EQ(t, stats.read_ahead, PAGES - 8);
    EXPECT_EQ(t, stats.ahead_used, PAGES - 8);
    EXPECT_EQ(t, stats.ahead_wasted, 0);
    EXPECT_EQ(t, stats.swap_bytes, 0);
    world_close(t, &w);
}

/* Downwards it is the same. */
static void backwards(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_evicted(t, &w, 4, NEOMM_UNLIMITED));
    touch(t, &w, 40);
    touch(t, &w, 39);
    EXPECT(t, leaf_of(&w, 38).state == NEOMM_MAPPING_PRESENT);
    EXPECT(t, leaf_of(&w, 41).state == NEOMM_MAPPING_SWAPPED);
    touch(t, &w, 38);
    touch(t, &w, 37);
    EXPECT_EQ(t, stats_of(&w).read_ahead, 1 + 3);
    world_close(t, &w);
}

/* Advice and the option: wide at once, or not at all. */
static void as_advised(struct ktap *t)
{
    static const struct {
        uint32_t readahead;
        enum neomm_advice advice;
        uint32_t want;
    } cases[] = {{16, NEOMM_ADVICE_SEQUENTIAL, 16}, {5, NEOMM_ADVICE_SEQUENTIAL, 5},
                 {16, NEOMM_ADVICE_NORMAL, 1},      {16, NEOMM_ADVICE_RANDOM, 1},
                 {0, NEOMM_ADVICE_SEQUENTIAL, 1},   {1000, NEOMM_ADVICE_SEQUENTIAL, 16}};
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world w;
        ASSERT(t, open_evicted(t, &w, cases[i].readahead, NEOMM_UNLIMITED));
        advise(t, &w, cases[i].advice);
        touch(t, &w, 10);
        EXPECT_EQ(t, resident(&w), cases[i].want);
        if (cases[i].advice == NEOMM_ADVICE_RANDOM) {
            for (uint32_t page = 11; page < 40; page++)
                touch(t, &w, page);
            EXPECT_EQ(t, stats_of(&w).read_ahead, 0);
        }
        world_close(t, &w);
    }
}

/* It ends at a page that is in memory, that is one word repeated, at the region's end and at the
 * block's. */
static void it_ends(struct ktap *t)
{
    struct world w;
    uint64_t none = 0;
    ASSERT(t, open_evicted(t, &w, 16, NEOMM_UNLIMITED));
    advise(t, &w, NEOMM_ADVICE_SEQUENTIAL);
    touch(t, &w, 60);
    EXPECT_EQ(t, resident(&w), 4);
    touch(t, &w, 57);
    EXPECT_EQ(t, resident(&w), 4 + 3);
    EXPECT_OK(t, neomm_mprotect(w.env.root, w.space, w.base + 4 * PAGE, PAGE, NEOMM_PROT_READ));
    touch(t, &w, 2);
    EXPECT_EQ(t, resident(&w), 7 + 2);
    EXPECT_OK(t, neomm_mprotect(w.env.root, w.space, w.base + 4 * PAGE, PAGE, RW));
    EXPECT_OK(t, world_write(&w, w.base + 20 * PAGE, none));
    (void)neomm_space_evict(w.env.root, w.space, PAGES);
    EXPECT_EQ(t, resident(&w), 0);
    touch(t, &w, 18);
    EXPECT_EQ(t, resident(&w), 2);
    EXPECT_OK(t, world_read(&w, w.base + 20 * PAGE, &none));
    EXPECT_EQ(t, none, 0);
    EXPECT_EQ(t, resident(&w), 3);
    world_close(t, &w);
}

/* A page read ahead that nobody uses is counted when it goes, and closes the window. */
static void waste(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_evicted(t, &w, 16, NEOMM_UNLIMITED));
    touch(t, &w, 0);
    touch(t, &w, 1);
    touch(t, &w, 2);
    touch(t, &w, 3);
    EXPECT_EQ(t, resident(&w), 7);
    uint64_t writes = stats_of(&w).swap_writes;
    EXPECT_EQ(t, neomm_space_evict(w.env.root, w.space, PAGES), 7);
    EXPECT_EQ(t, stats_of(&w).swap_writes, writes); /* they are as they came */
    EXPECT_EQ(t, stats_of(&w).ahead_used, 1);
    EXPECT_EQ(t, stats_of(&w).ahead_wasted, 3);
    touch(t, &w, 4);
    EXPECT_EQ(t, resident(&w), 1);
    world_close(t, &w);
}

/* At the resident limit as many of the space's pages go as come. */
static void at_the_limit(struct ktap *t)
{
    const uint32_t limit = 40;
    struct world w;
    ASSERT(t, open_evicted(t, &w, 16, limit * PAGE));
    advise(t, &w, NEOMM_ADVICE_SEQUENTIAL);
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < PAGES; i++) {
            touch(t, &w, i);
            EXPECT(t, stats_of(&w).resident_bytes <= limit * PAGE);
            EXPECT_EQ(t, stats_of(&w).resident_bytes / PAGE, resident(&w));
        }
    struct neomm_space_stats stats = stats_of(&w);
    EXPECT(t, stats.read_ahead > PAGES);
    EXPECT(t, stats.ahead_used + stats.ahead_wasted <= stats.read_ahead);
    EXPECT_EQ(t, stats.faults_swap_in + stats.read_ahead,
              stats.evictions - stats.swap_bytes / PAGE);
    world_close(t, &w);
}

/* Pages are read ahead into memory that nobody misses only. */
static void short_of_memory(struct ktap *t)
{
    static neomm_frame_t frames[8192];
    struct world w;
    uint32_t held = 0;
    ASSERT(t, open_evicted(t, &w, 16, NEOMM_UNLIMITED));
    struct neomm *root = w.env.root;
    advise(t, &w, NEOMM_ADVICE_SEQUENTIAL);
    while (held < 8192 && neomm_pmm_free_frames(root) > 0 &&
           neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &frames[held]) == NEOMM_OK)
        held++;
    for (uint32_t i = 0; i < 5 && held > 0; i++)
        EXPECT_OK(t, neomm_pmm_free(root, frames[--held], 0));
    touch(t, &w, 5);
    EXPECT_EQ(t, resident(&w), 1);
    EXPECT_EQ(t, stats_of(&w).read_ahead, 0);
    while (held > 0)
        EXPECT_OK(t, neomm_pmm_free(root, frames[--held], 0));
    touch(t, &w, 20);
    EXPECT_EQ(t, resident(&w), 1 + 16);
    world_close(t, &w);
}

/* Nobody hears of an error of a page that he has not asked for; whichever allocation or read
 * fails, what was written is there in the end. */
static void errors(struct ktap *t)
{
    struct world w;
    uint64_t failed = 0;
    for (uint64_t n = 1;; n++) {
        ASSERT(t, open_evicted(t, &w, 16, 48 * PAGE));
        advise(t, &w, NEOMM_ADVICE_SEQUENTIAL);
        if (!env_fault_plan(&w.env, n, false)) {
            world_close(t, &w);
            ktap_skip(t, "fault points are in instrumented builds");
            return;
        }
        uint64_t value = 0;
        neomm_status status = world_read(&w, w.base, &value);
        bool over = env_fault_count(&w.env) < n;
        (void)env_fault_plan(&w.env, 0, false);
        failed += status != NEOMM_OK;
        for (uint32_t i = 0; i < PAGES; i++)
            touch(t, &w, i);
        world_close(t, &w);
        if (over)
            break;
    }
    EXPECT(t, failed <= 1); /* that of the page itself */
}

static const uint64_t each_format[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(a_walk_opens_it, each_format), KTAP_CASE_WITH(backwards, each_format),
    KTAP_CASE_WITH(as_advised, each_format),      KTAP_CASE_WITH(it_ends, each_format),
    KTAP_CASE_WITH(waste, each_format),           KTAP_CASE_WITH(at_the_limit, each_format),
    KTAP_CASE_WITH(short_of_memory, each_format), KTAP_CASE_WITH(errors, each_format),
};
KTAP_SUITE(vmm_readahead, cases);
