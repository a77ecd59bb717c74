/* Reclaim by watermarks: in the background and by those who need memory, what goes first, how much
 * is looked at, and the limits of processes by name.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "sim/sim.h"
#include "vmm/vmm_priv.h"

#include <string.h>

#define PAGE NEOMM_PAGE_SIZE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t at;
    uint32_t pages;
};

static bool world_open(struct ktap *t, struct world *w, const struct env_options *like)
{
    struct env_options options = *like;
    options.layer = ENV_VMM;
    options.format = (enum neomm_format)t->parameter;
    *w = (struct world){.t = t};
    if (!env_open(t, &w->env, &options))
        return false;
    w->root = w->env.root;
    EXPECT_OK(t, neomm_space_create(w->root, NULL, &w->space));
    neomm_space_activate(w->root, w->space);
    return true;
}

static void world_close(struct world *w)
{
    neomm_space_activate(w->root, NULL);
    EXPECT_OK(w->t, neomm_space_destroy(w->root, w->space));
    env_close(w->t, &w->env);
}

static uint64_t counter(const struct world *w, enum neomm_counter which)
{
    return neomm__counter_sum(w->root, which);
}

static void map(struct world *w, uint32_t pages)
{
    w->at = 0;
    w->pages = pages;
    EXPECT_OK(w->t, neomm_mmap(w->root, w->space, &w->at, (uint64_t)pages * PAGE, RW,
                               NEOMM_MAP_NORESERVE));
}

static uint32_t value_of(uint32_t page)
{
    return page * 2654435761u + 1;
}

static void put(struct world *w, uint32_t page)
{
    uint32_t value = value_of(page);
    EXPECT_OK(w->t, env_access(&w->env, w->space, w->at + page * PAGE, &value, 4, true, true));
}

static void get(struct world *w, uint32_t page)
{
    uint32_t value = 0;
    EXPECT_OK(w->t, env_access(&w->env, w->space, w->at + page * PAGE, &value, 4, false, true));
    EXPECT_EQ(w->t, value, value_of(page));
}

static bool is_in(struct world *w, uint32_t page)
{
    uint8_t in = 2;
    EXPECT_OK(w->t, neomm_mincore(w->root, w->space, w->at + page * PAGE, PAGE, &in));
    return in == 1;
}

static enum neomm_watermark mark(const struct world *w)
{
    return neomm_pmm_watermark(w->root, NEOMM_ZONE_DMA);
}

/* Pages until the zone is below its low watermark; how many. */
static uint32_t fill_up(struct world *w)
{
    uint32_t page = 0;
    while (page < w->pages && mark(w) >= NEOMM_WATERMARK_LOW)
        put(w, page++);
    return page;
}

/* ---- in the background ---- */

static void up_to_the_mark(struct ktap *t)
{
    const struct env_options options = {.ram_bytes = 8u << 20, .swap_pages = 4096};
    struct world w;
    uint32_t freed = 7, pieces = 1;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 4096);
    EXPECT_EQ(t, neomm_reclaim_wait(w.root, 1000), NEOMM_E_TIMEOUT);
    EXPECT_OK(t, neomm_reclaim_background(w.root, 100, &freed));
    EXPECT_EQ(t, freed, 0);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SCAN_BACKGROUND), 0);
    uint32_t pages = fill_up(&w);
    EXPECT_OK(t, neomm_reclaim_wait(w.root, 0));
    neomm_status status;
    while ((status = neomm_reclaim_background(w.root, 4, &freed)) == NEOMM_E_AGAIN) {
        EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SCAN_BACKGROUND), 4 * pieces);
        pieces++;
    }
    EXPECT_OK(t, status);
    EXPECT(t, pieces > 1);
    EXPECT_EQ(t, mark(&w), NEOMM_WATERMARK_HIGH);
    EXPECT_EQ(t, neomm_reclaim_wait(w.root, 1000), NEOMM_E_TIMEOUT);
    /* It ends right above the mark. */
    uint64_t gone = counter(&w, NEOMM_COUNTER_FREE_BACKGROUND);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_FREE_DIRECT), 0);
    EXPECT(t, gone > 0 && gone < 64);
    for (uint32_t i = 0; i < pages; i++)
        get(&w, i);
    world_close(&w);
}

/* Pages that are used all the time stay, as long as others will do. */
static void used_pages_stay(struct ktap *t)
{
    const struct env_options options = {.ram_bytes = 8u << 20, .swap_pages = 4096};
    struct world w;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 4096);
    uint32_t pages = fill_up(&w);
    for (unsigned round = 0; round < 4; round++) {
        for (uint32_t page = 0; page < 16; page++)
            put(&w, page * 7);
        for (uint32_t more = 0; more < 64; more++) {
            put(&w, pages + 64 * round + more);
            for (uint32_t page = 0; page < 16; page++)
                put(&w, page * 7);
            while (neomm_reclaim_background(w.root, 16, NULL) == NEOMM_E_AGAIN)
                continue;
        }
    }
    for (uint32_t page = 0; page < 16; page++)
        EXPECT(t, is_in(&w, page * 7));
    EXPECT(t, counter(&w, NEOMM_COUNTER_FREE_BACKGROUND) > 128);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_FREE_DIRECT), 0);
    world_close(&w);
}

/* What came to nothing is not done again at once. */
static void in_vain(struct ktap *t)
{
    const struct env_options options = {.ram_bytes = 8u << 20}; /* and no swap */
    struct world w;
    neomm_status status;
    uint32_t freed, calls = 0;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 4096);
    uint32_t pages = fill_up(&w);
    do
        status = neomm_reclaim_background(w.root, 64, &freed);
    while (status == NEOMM_E_AGAIN && ++calls < 10000);
    EXPECT_EQ(t, status, NEOMM_E_NOENT);
    EXPECT_EQ(t, freed, 0);
    uint64_t looks = counter(&w, NEOMM_COUNTER_SCAN_BACKGROUND);
    EXPECT(t, looks >= pages && looks <= 8u * pages + 13 * 32);
    EXPECT_EQ(t, neomm_reclaim_background(w.root, 64, NULL), NEOMM_E_NOENT);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SCAN_BACKGROUND), looks);
    sim_clock_advance(w.env.machine, 1000000000);
    EXPECT_EQ(t, neomm_reclaim_background(w.root, 64, NULL), NEOMM_E_AGAIN);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SCAN_BACKGROUND), looks + 64);
    for (uint32_t i = 0; i < pages; i++)
        get(&w, i);
    world_close(&w);
}

/* Frames of the zone that is short go, others stay. */
static void the_zone_that_is_short(struct ktap *t)
{
    const struct env_options options = {.ram_bytes = 24u << 20, .swap_pages = 8192};
    struct world w;
    uint32_t page = 0;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 8192);
    while (page < w.pages && mark(&w) >= NEOMM_WATERMARK_LOW)
        put(&w, page++);
    EXPECT(t, neomm_pmm_watermark(w.root, NEOMM_ZONE_NORMAL) < NEOMM_WATERMARK_LOW);
    /* The first pages lie in the upper zone: it has enough when some of them are gone. */
    EXPECT_OK(t, neomm_munmap(w.root, w.space, w.at, 512 * PAGE));
    EXPECT_EQ(t, neomm_pmm_watermark(w.root, NEOMM_ZONE_NORMAL), NEOMM_WATERMARK_HIGH);
    uint32_t others = 0, after = 0;
    for (uint32_t i = 512; i < page; i++)
        others += is_in(&w, i);
    while (neomm_reclaim_background(w.root, 1000, NULL) == NEOMM_E_AGAIN)
        continue;
    EXPECT_EQ(t, mark(&w), NEOMM_WATERMARK_HIGH);
    for (uint32_t i = 512; i < page; i++)
        after += is_in(&w, i);
    EXPECT(t, others - after < 128);
    EXPECT_EQ(t, others - after, counter(&w, NEOMM_COUNTER_FREE_BACKGROUND));
    for (uint32_t i = 512; i < page; i++)
        get(&w, i);
    world_close(&w);
}

/* ---- by those who need memory ---- */

static uint32_t share(uint32_t pages, unsigned priority)
{
    uint32_t looks = pages >> priority > 32 ? pages >> priority : 32;
    return priority == 0 ? 6 * pages : looks < pages ? looks : pages;
}

/* Locked and pinned pages never go, and looking at them has an end that is known. */
static void has_an_end(struct ktap *t)
{
    static const uint32_t many[] = {1, 20, 40, 700};
    const struct env_options options = {.swap_pages = 4096};
    struct world w;
    for (unsigned i = 0; i < 4; i++) {
        neomm_frame_t frame;
        uint32_t want = 0, done, pages = many[i];
        ASSERT(t, world_open(t, &w, &options));
        map(&w, pages);
        for (uint32_t page = 0; page < pages; page++)
            put(&w, page);
        EXPECT_OK(t, neomm_user_pin(w.root, w.space, w.at, 1, true, &frame, &done));
        EXPECT_OK(t, neomm_mlock(w.root, w.space, w.at, pages * PAGE, 0));
        for (unsigned priority = 0; priority <= 12; priority++)
            want += share(pages, priority);
        EXPECT_EQ(t, neomm__reclaim(w.root, 1), 0);
        EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SCAN_DIRECT), want);
        EXPECT(t, want <= 8 * pages + 12 * 32);
        EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_EVICT_TEST), 0);
        EXPECT_OK(t, neomm_munlock(w.root, w.space, w.at, pages * PAGE));
        (void)neomm__reclaim(w.root, pages);
        EXPECT(t, is_in(&w, 0));
        for (uint32_t page = 1; page < pages; page++)
            EXPECT(t, !is_in(&w, page));
        neomm_user_unpin(w.root, &frame, 1, false);
        EXPECT_EQ(t, neomm__reclaim(w.root, 1), 1);
        world_close(&w);
    }
}

/* The first look at pages that were not used costs one look a page. */
static void costs_a_look_a_page(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 4096, .policy = "fifo"};
    struct world w;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 300);
    for (uint32_t page = 0; page < 300; page++)
        put(&w, page);
    EXPECT_EQ(t, neomm__reclaim(w.root, 200), 200);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SCAN_DIRECT), 200);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_FREE_DIRECT), 200);
    world_close(&w);
}

/* Every second page came back from swap and was only read: it needs no write. */
static void clean_before_dirty(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 4096, .policy = "fifo"};
    struct world w;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 16);
    for (uint32_t page = 0; page < 16; page++)
        put(&w, page);
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 16), 16);
    for (uint32_t page = 0; page < 16; page++) {
        if (page % 2 == 0)
            put(&w, page);
        get(&w, page);
    }
    uint64_t writes = counter(&w, NEOMM_COUNTER_SWAP_WRITE);
    EXPECT_EQ(t, neomm__reclaim(w.root, 1), 1);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SWAP_WRITE), writes);
    EXPECT(t, is_in(&w, 0) && !is_in(&w, 1));
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_DIRTY_PASSED), 1);
    /* It was passed once: now it is its turn. */
    EXPECT_EQ(t, neomm__reclaim(w.root, 1), 1);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SWAP_WRITE), writes + 1);
    EXPECT(t, !is_in(&w, 0) && is_in(&w, 2));
    EXPECT_EQ(t, neomm__reclaim(w.root, 14), 14);
    for (uint32_t page = 0; page < 16; page++)
        get(&w, page);
    world_close(&w);
}

/* A process that has filled its share of swap keeps its pages, and others' go. */
static void a_full_share_of_swap(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 4096};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, NEOMM_UNLIMITED, 4 * PAGE,
                                        NEOMM_UNLIMITED};
    struct neomm_space_stats stats;
    struct neomm_space *full;
    struct world w;
    neomm_vaddr_t at = 0;
    uint8_t byte = 1;
    ASSERT(t, world_open(t, &w, &options));
    ASSERT_OK(t, neomm_space_create(w.root, &limits, &full));
    EXPECT_OK(t, neomm_mmap(w.root, full, &at, 64 * PAGE, RW, 0));
    neomm_space_activate(w.root, full);
    for (uint32_t page = 0; page < 64; page++)
        EXPECT_OK(t, env_access(&w.env, full, at + page * PAGE, &byte, 1, true, true));
    neomm_space_activate(w.root, w.space);
    map(&w, 64);
    for (uint32_t page = 0; page < 64; page++)
        put(&w, page);
    EXPECT_EQ(t, neomm__reclaim(w.root, 128), 68);
    neomm_space_stats(w.root, full, &stats);
    EXPECT_EQ(t, stats.resident_bytes, 60 * PAGE);
    EXPECT_EQ(t, stats.swap_bytes, 4 * PAGE);
    for (uint32_t page = 0; page < 64; page++)
        get(&w, page);
    EXPECT_OK(t, neomm_space_destroy(w.root, full));
    world_close(&w);
}

/* Spaces with domains of their own give in turn. */
static void limited_ones_give_in_turn(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 4096};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 64 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    struct neomm_space *space[4];
    struct world w;
    uint8_t byte = 1;
    ASSERT(t, world_open(t, &w, &options));
    for (unsigned i = 0; i < 4; i++) {
        neomm_vaddr_t at = 0;
        ASSERT_OK(t, neomm_space_create(w.root, &limits, &space[i]));
        EXPECT_OK(t, neomm_mmap(w.root, space[i], &at, 64 * PAGE, RW, 0));
        neomm_space_activate(w.root, space[i]);
        for (uint32_t page = 0; page < 64; page++)
            EXPECT_OK(t, env_access(&w.env, space[i], at + page * PAGE, &byte, 1, true, true));
    }
    neomm_space_activate(w.root, w.space);
    for (unsigned i = 0; i < 40; i++)
        EXPECT_EQ(t, neomm__reclaim(w.root, 1), 1);
    for (unsigned i = 0; i < 4; i++) {
        struct neomm_space_stats stats;
        neomm_space_stats(w.root, space[i], &stats);
        EXPECT(t, stats.resident_bytes >= 44 * PAGE && stats.resident_bytes <= 60 * PAGE);
        EXPECT_OK(t, neomm_space_destroy(w.root, space[i]));
    }
    world_close(&w);
}

/* ---- what comes back ---- */

/* Over and over through more than there is room for, by a policy that lets the oldest go: each page
 * is away for as many evictions as there are too many pages, and a page. */
static void refaults_in_a_loop(struct ktap *t)
{
    static const struct {
        uint32_t room, pages;
        bool near;
    } loops[] = {{10, 12, true}, {10, 20, true}, {10, 24, false}};
    const struct env_options options = {.swap_pages = 128, .policy = "fifo"};
    for (unsigned i = 0; i < 3; i++) {
        const struct neomm_limits limits = {NEOMM_UNLIMITED, loops[i].room * PAGE, NEOMM_UNLIMITED,
                                            NEOMM_UNLIMITED};
        struct neomm_space_stats stats;
        struct neomm_space *space;
        neomm_vaddr_t at = 0;
        uint8_t byte = 1;
        struct world w;
        ASSERT(t, world_open(t, &w, &options));
        ASSERT_OK(t, neomm_space_create(w.root, &limits, &space));
        EXPECT_OK(t, neomm_mmap(w.root, space, &at, loops[i].pages * PAGE, RW, 0));
        neomm_space_activate(w.root, space);
        for (unsigned n = 0; n < 3 * loops[i].pages; n++)
            EXPECT_OK(
                t, env_access(&w.env, space, at + n % loops[i].pages * PAGE, &byte, 1, true, true));
        neomm_space_stats(w.root, space, &stats);
        EXPECT_EQ(t, stats.refaults, 2 * loops[i].pages);
        EXPECT_EQ(t, stats.refaults_near, loops[i].near ? 2 * loops[i].pages : 0);
        EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_REFAULT), stats.refaults);
        EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_REFAULT_NEAR), stats.refaults_near);
        neomm_space_activate(w.root, NULL);
        EXPECT_OK(t, neomm_space_destroy(w.root, space));
        world_close(&w);
    }
}

static uint64_t working_set(struct world *w)
{
    struct neomm_space_stats stats;
    neomm_space_stats(w->root, w->space, &stats);
    return stats.working_set_bytes / PAGE;
}

static void what_is_used(struct ktap *t)
{
    static const uint32_t used[] = {40, 40, 20, 0, 0, 40};
    static const uint64_t average[] = {40, 40, 35, 26, 19, 24};
    const struct env_options options = {.swap_pages = 128};
    struct world w;
    ASSERT(t, world_open(t, &w, &options));
    map(&w, 40);
    for (unsigned i = 0; i < 6; i++) {
        for (uint32_t page = 0; page < used[i]; page++)
            put(&w, page);
        EXPECT_EQ(t, neomm_space_harvest(w.root, w.space), used[i]);
        EXPECT_EQ(t, working_set(&w), average[i]);
    }
    for (uint32_t page = 0; page < 40; page++)
        get(&w, page);
    EXPECT_OK(t, neomm_munmap(w.root, w.space, w.at, 20 * PAGE));
    EXPECT_EQ(t, neomm_space_harvest(w.root, w.space), 20);
    world_close(&w);
}

/* Whoever counts what is used takes nothing from what the policy knows: the same pages go. */
static void counting_changes_nothing(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 128, .policy = "clock"};
    uint64_t stays[2] = {0, 0};
    for (unsigned counted = 0; counted < 2; counted++) {
        struct world w;
        uint64_t random = 7;
        ASSERT(t, world_open(t, &w, &options));
        map(&w, 60);
        for (uint32_t page = 0; page < 60; page++)
            put(&w, page);
        for (unsigned i = 0; i < 200; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            get(&w, (uint32_t)(random >> 33) % 60);
            if (counted != 0 && i % 3 == 0)
                (void)neomm_space_harvest(w.root, w.space);
            if (i % 8 == 0)
                (void)neomm_space_evict(w.root, w.space, 3);
        }
        for (uint32_t page = 0; page < 60; page++)
            stays[counted] |= (uint64_t)is_in(&w, page) << page;
        world_close(&w);
    }
    EXPECT(t, stays[0] != 0 && stays[0] != ((uint64_t)1 << 60) - 1);
    EXPECT(t, stays[0] == stays[1]);
}

/* ---- limits by name ---- */

static void read_config(struct ktap *t, struct neomm_config *config, const char *text)
{
    uint32_t errors = 1;
    neomm_config_default(config);
    (void)neomm_config_parse(config, "test", text, strlen(text), true, NULL, NULL, &errors);
    EXPECT_EQ(t, errors, 0);
}

static void limits_by_name(struct ktap *t)
{
    static struct neomm_config config;
    const struct env_options options = {.swap_pages = 128, .config = &config};
    struct neomm_space_stats stats;
    struct neomm_space *space, *other;
    struct world w;
    uint8_t byte = 1;
    read_config(t, &config,
                "[process.default]\nvirtual_limit = 50%\n[process \"a b\"]\nvirtual_limit = 256K\n"
                "resident_limit = 32K\nswap_limit = 64K\nlocked_limit = 8K\n");
    ASSERT(t, world_open(t, &w, &options));
    ASSERT_OK(t, neomm_space_create_named(w.root, "a b", &space));
    ASSERT_OK(t, neomm_space_create_named(w.root, NULL, &other));
    neomm_vaddr_t at = 0, no = 0;
    EXPECT_EQ(t, neomm_mmap(w.root, space, &at, 65 * PAGE, RW, 0), NEOMM_E_LIMIT);
    EXPECT_OK(t, neomm_mmap(w.root, space, &at, 64 * PAGE, RW, 0));
    EXPECT_EQ(t, neomm_mmap(w.root, other, &no, 9u << 20, RW, NEOMM_MAP_NORESERVE), NEOMM_E_LIMIT);
    EXPECT_OK(t, neomm_mmap(w.root, other, &no, 7u << 20, RW, NEOMM_MAP_NORESERVE));
    EXPECT_EQ(t, neomm_mlock(w.root, space, at, 3 * PAGE, NEOMM_LOCK_ONFAULT), NEOMM_E_LIMIT);
    EXPECT_OK(t, neomm_mlock(w.root, space, at, 2 * PAGE, NEOMM_LOCK_ONFAULT));
    neomm_space_activate(w.root, space);
    uint32_t page = 0;
    while (page < 64 &&
           env_access(&w.env, space, at + page * PAGE, &byte, 1, true, true) == NEOMM_OK)
        page++;
    EXPECT_EQ(t, page, 8 + 16); /* what may be resident, and what may be in swap */
    neomm_space_stats(w.root, space, &stats);
    EXPECT_EQ(t, stats.resident_bytes, 8 * PAGE);
    EXPECT_EQ(t, stats.swap_bytes, 16 * PAGE);
    EXPECT(t, strcmp(stats.name, "a_b") == 0);
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 0);
    neomm_space_stats(w.root, other, &stats);
    EXPECT_EQ(t, stats.name[0], '\0');
    neomm_space_activate(w.root, w.space);
    EXPECT_OK(t, neomm_space_destroy(w.root, space));
    EXPECT_OK(t, neomm_space_destroy(w.root, other));
    world_close(&w);
}

/* A name that is too long and unfit for a table, and what a child has of it. */
static void names(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 0};
    struct neomm_space_stats stats;
    struct neomm_space *space, *child;
    struct world w;
    ASSERT(t, world_open(t, &w, &options));
    ASSERT_OK(t, neomm_space_create_named(w.root, "\"\\\t x01234567890123456789012345678", &space));
    EXPECT_OK(t, neomm_space_set_oom_bias(w.root, space, -7));
    ASSERT_OK(t, neomm_space_fork(w.root, space, &child));
    neomm_space_stats(w.root, child, &stats);
    EXPECT(t, strcmp(stats.name, "____x01234567890123456789012345") == 0);
    EXPECT_EQ(t, stats.oom_bias, -7);
    EXPECT_OK(t, neomm_space_destroy(w.root, space));
    EXPECT_OK(t, neomm_space_destroy(w.root, child));
    world_close(&w);
}

/* Without options the configuration says how much may be promised, and where mappings lie. */
static void by_the_configuration(struct ktap *t)
{
    static const char *const text[] = {"[vmm]\novercommit = refuse\naslr = no\n",
                                       "[vmm]\novercommit = always\naslr = yes\n"};
    static struct neomm_config config;
    for (unsigned i = 0; i < 2; i++) {
        const struct env_options options = {.layer = ENV_SWAP,
                                            .format = (enum neomm_format)t->parameter,
                                            .config = &config,
                                            .seed = 5};
        struct neomm_space *space;
        neomm_vaddr_t at = 0, too_much = 0;
        struct env env;
        read_config(t, &config, text[i]);
        ASSERT(t, env_open(t, &env, &options));
        ASSERT_OK(t, neomm_vmm_init(env.root, NULL));
        ASSERT_OK(t, neomm_space_create(env.root, NULL, &space));
        EXPECT_OK(t, neomm_mmap(env.root, space, &at, PAGE, RW, 0));
        EXPECT_EQ(t, at != neomm_layout_of(env.root)->user_base, i == 1);
        EXPECT_EQ(t, neomm_mmap(env.root, space, &too_much, 64u << 20, RW, 0),
                  i == 0 ? NEOMM_E_LIMIT : NEOMM_OK);
        EXPECT_OK(t, neomm_space_destroy(env.root, space));
        EXPECT_OK(t, neomm_vmm_fini(env.root));
        env_close(t, &env);
    }
}

/* ---- failures ---- */

/* Each slot and each write fails in turn, once and for good: nothing is lost. */
static void fails_in_turn(struct ktap *t)
{
    const struct env_options options = {.swap_pages = 64};
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct world w;
        bool reached;
        ASSERT(t, world_open(t, &w, &options));
        map(&w, 12);
        for (uint32_t page = 0; page < 12; page++)
            put(&w, page);
        bool planned = env_fault_plan(&w.env, nth, nth % 2 == 0);
        uint32_t freed = neomm__reclaim(w.root, 12);
        reached = env_fault_count(&w.env) >= nth;
        (void)env_fault_plan(&w.env, 0, false);
        EXPECT(t, freed <= 12 && (reached || freed == 12));
        for (uint32_t page = 0; page < 12; page++)
            get(&w, page);
        world_close(&w);
        if (!planned || !reached || t->failures != 0)
            return;
    }
    ktap_fail(t, __FILE__, __LINE__, "the sweep did not end");
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(up_to_the_mark, formats),
    KTAP_CASE_WITH(used_pages_stay, formats),
    KTAP_CASE_WITH(in_vain, formats),
    KTAP_CASE_WITH(the_zone_that_is_short, formats),
    KTAP_CASE_WITH(has_an_end, formats),
    KTAP_CASE_WITH(costs_a_look_a_page, formats),
    KTAP_CASE_WITH(clean_before_dirty, formats),
    KTAP_CASE_WITH(a_full_share_of_swap, formats),
    KTAP_CASE_WITH(limited_ones_give_in_turn, formats),
    KTAP_CASE_WITH(refaults_in_a_loop, formats),
    KTAP_CASE_WITH(what_is_used, formats),
    KTAP_CASE_WITH(counting_changes_nothing, formats),
    KTAP_CASE_WITH(limits_by_name, formats),
    KTAP_CASE_WITH(names, formats),
    KTAP_CASE_WITH(by_the_configuration, formats),
    KTAP_CASE_WITH(fails_in_turn, formats),
};
KTAP_SUITE(vmm_reclaim, cases);
