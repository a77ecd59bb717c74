/* The compressed pool: pages in and out beside a model, how densely they lie, limits, damage, and
 * what happens when there is no memory, no device, or no way to see a frame.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/memory.h"
#include "swap/pool.h"

#include <sim/sim.h>

#define WORDS  (NEOMM_PAGE_SIZE / sizeof(uint64_t))
#define FRAMES NEOMM_POLICY_BATCH
#define SLOTS  16384u

static const enum neomm_format formats[] = ENV_FORMATS;

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)next(seed) % limit;
}

/* A page that a test has put somewhere. */
struct held {
    struct neomm_swap_entry entry;
    uint64_t tag;
    bool used;
};

struct bench {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_block_device *disk;
    neomm_frame_t frame[FRAMES];
    struct held held[SLOTS];
    uint32_t count; /* held, the first ones */
};

static struct bench bench;

static bool open_bench(struct ktap *t, const struct env_options *options, uint32_t pages)
{
    memset(&bench, 0, sizeof(bench));
    bench.t = t;
    if (!env_open(t, &bench.env, options))
        return false;
    bench.root = bench.env.root;
    bench.disk = sim_disk_create(bench.env.machine, pages);
    sim_disk_make_swap(bench.disk);
    EXPECT_OK(t, neomm_swap_add(bench.root, bench.disk, 0));
    EXPECT_OK(t, neomm_pmm_alloc_bulk(bench.root, FRAMES, 0, bench.frame));
    return true;
}

/* A pool of at most `frames` frames; 0: as it is by default. */
static bool open_pool(struct ktap *t, uint32_t frames, uint32_t pages, uint64_t ram)
{
    struct neomm_config config;
    const struct env_options options = {
        .layer = ENV_SWAP, .format = formats[0], .cpus = 2, .ram_bytes = ram, .config = &config};
    neomm_config_default(&config);
    if (frames)
        config.pool_limit = (struct neomm_config_size){(uint64_t)frames << NEOMM_PAGE_SHIFT, 0};
    return open_bench(t, &options, pages);
}

static void close_bench(void)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        if (bench.held[i].used)
            EXPECT_OK(bench.t, neomm_swap_free(bench.root, bench.held[i].entry));
    EXPECT_OK(bench.t, neomm_pmm_free_bulk(bench.root, FRAMES, bench.frame, NULL));
    env_close(bench.t, &bench.env);
}

/* Page number `tag`: its high half says how many random bytes come before a short pattern. */
static uint64_t tag_of(uint32_t random_bytes, uint32_t number)
{
    return (uint64_t)random_bytes << 32 | number;
}

static void make_page(uint64_t *page, uint64_t tag)
{
    uint64_t seed = tag * 31 + 7;
    for (size_t i = 0; i < WORDS; i++)
        page[i] = i * sizeof(uint64_t) < tag >> 32 ? next(&seed) : (tag & 0xffff) * (1 + i % 2);
}

static void *frame_bytes(uint32_t frame)
{
    return neomm_direct_pointer(bench.root, neomm_frame_paddr(bench.frame[frame]));
}

static bool frame_holds(uint32_t frame, uint64_t tag)
{
    uint64_t want[WORDS];
    make_page(want, tag);
    return memcmp(want, frame_bytes(frame), sizeof(want)) == 0;
}

static struct neomm_swap_stats stats(void)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(bench.root, &stats);
    return stats;
}

static neomm_status write_tag(const struct held *held, uint64_t tag)
{
    struct neomm_swap_page page = {held->entry, bench.frame[0], NEOMM_OK};
    make_page(frame_bytes(0), tag);
    return neomm_swap_write(bench.root, &page, 1);
}

static neomm_status read_back(const struct held *held)
{
    struct neomm_swap_page page = {held->entry, bench.frame[1], NEOMM_OK};
    memset(frame_bytes(1), 0x5a, NEOMM_PAGE_SIZE);
    return neomm_swap_read(bench.root, &page, 1);
}

static void expect_page(const struct held *held)
{
    EXPECT_OK(bench.t, read_back(held));
    EXPECT(bench.t, frame_holds(1, held->tag));
}

static void expect_all(void)
{
    for (uint32_t i = 0; i < SLOTS && bench.t->failures == 0; i++)
        if (bench.held[i].used)
            expect_page(&bench.held[i]);
}

static void put(struct held *held, uint64_t tag)
{
    if (!held->used)
        EXPECT_OK(bench.t, neomm_swap_alloc(bench.root, 1, &held->entry));
    held->used = true;
    held->tag = tag;
    EXPECT_OK(bench.t, write_tag(held, tag));
}

static void drop(struct held *held)
{
    EXPECT_OK(bench.t, neomm_swap_free(bench.root, held->entry));
    held->used = false;
}

/* ---- in and out ---- */

/* Pages of every size, without a device. */
static void in_and_out(struct ktap *t)
{
    if (!open_pool(t, 2000, 600, 0))
        return;
    uint64_t before = sim_disk_operations(bench.disk);
    for (uint32_t i = 0; i < 500; i++)
        put(&bench.held[i], tag_of(8 + 5 * i, i + 1));
    expect_all();
    env_fsck(t, &bench.env);
    EXPECT_EQ(t, stats().pool_pages, 500);
    EXPECT_EQ(t, stats().pool_hits, 500);
    EXPECT(t, stats().pool_bytes > 500 * 1250 && stats().pool_bytes < 500 * 1350);
    EXPECT_EQ(t, sim_disk_operations(bench.disk), before);
    for (uint32_t i = 0; i < 500; i++)
        drop(&bench.held[i]);
    EXPECT_EQ(t, stats().pool_pages + stats().pool_bytes + stats().pool_frames, 0);
    close_bench();
}

/* Rewritten in every form: an object, a word, the device, and back. */
static void all_forms(struct ktap *t)
{
    static const uint32_t random_bytes[] = {8, 0, 3000, 4096, 0, 4096, 700, 1600, 4096, 40};
    if (!open_pool(t, 100, 10, 0))
        return;
    for (uint32_t from = 0; from < NEOMM__COUNT_OF(random_bytes); from++)
        for (uint32_t to = 0; to < NEOMM__COUNT_OF(random_bytes); to++) {
            /* a page of zeros in between makes the pool be tried again */
            put(&bench.held[0], tag_of(random_bytes[from], from + 1));
            expect_page(&bench.held[0]);
            put(&bench.held[0], tag_of(random_bytes[to], to + 20));
            expect_page(&bench.held[0]);
            env_fsck(t, &bench.env);
        }
    EXPECT(t, stats().pool_rejected > 0 && stats().writes > 0 && stats().pool_hits > 0);
    close_bench();
}

/* After a page that does not get smaller the slot's next ones go past the pool. */
static void hopeless_pages(struct ktap *t)
{
    struct held *held = &bench.held[0];
    if (!open_pool(t, 100, 10, 0))
        return;
    put(held, tag_of(4096, 1));
    EXPECT_EQ(t, stats().pool_rejected, 1);
    for (uint32_t i = 0; i < NEOMM__POOL_SKIPS; i++) {
        put(held, tag_of(100, 2 + i));
        EXPECT_EQ(t, stats().pool_pages, 0);
        expect_page(held);
    }
    put(held, tag_of(100, 9));
    EXPECT_EQ(t, stats().pool_pages, 1);
    EXPECT_EQ(t, stats().writes, 1 + NEOMM__POOL_SKIPS);
    expect_page(held);
    /* The slot's next owner begins anew. */
    put(held, tag_of(4096, 1));
    drop(held);
    put(held, tag_of(100, 2));
    EXPECT_EQ(t, stats().pool_pages, 1);
    close_bench();
}

static void switched_off(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_SWAP, .format = formats[0], .no_pool = true};
    if (!open_bench(t, &options, 10))
        return;
    put(&bench.held[0], tag_of(100, 1));
    expect_page(&bench.held[0]);
    EXPECT_EQ(t, stats().writes, 1);
    EXPECT_EQ(t, stats().pool_frames + stats().pool_pages, 0);
    EXPECT_EQ(t, neomm_swap_pool_compact(bench.root), 0);
    EXPECT_EQ(t, neomm_swap_pool_write_back(bench.root, 10), 0);
    close_bench();
}

static void before_init(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_PMM, .format = formats[0]};
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT_EQ(t, neomm_swap_pool_compact(env.root), 0);
    EXPECT_EQ(t, neomm_swap_pool_write_back(env.root, 10), 0);
    env_close(t, &env);
}

/* Slots whose count is saturated end with the layer, and their objects, too. */
static void stuck_slots(struct ktap *t)
{
    if (!open_pool(t, 100, 10, 0))
        return;
    put(&bench.held[0], tag_of(100, 1));
    for (unsigned i = 0; i < 300; i++)
        EXPECT_OK(t, neomm_swap_dup(bench.root, bench.held[0].entry));
    EXPECT_EQ(t, neomm_swap_pool_write_back(bench.root, 1), 0);
    expect_page(&bench.held[0]);
    close_bench();
}

/* ---- density ---- */

/* Hundredths of the pool's frames that hold contents. */
static uint32_t density(void)
{
    struct neomm_swap_stats now = stats();
    return (uint32_t)(now.pool_bytes * 100 / (now.pool_frames * NEOMM_PAGE_SIZE));
}

/* Sizes as of programs: many small ones, the others spread. */
static uint64_t any_tag(uint64_t *seed)
{
    uint32_t most = below(seed, 4) == 0 ? 600 : 2600;
    return tag_of(60 + below(seed, most), 1 + below(seed, 1u << 31));
}

static void lies_densely(struct ktap *t)
{
    enum { PAGES = 9000 };
    uint64_t seed = t->parameter;
    if (!open_pool(t, 7000, SLOTS, (uint64_t)48 << 20))
        return;
    for (uint32_t i = 0; i < PAGES; i++)
        put(&bench.held[i], any_tag(&seed));
    ktap_note(t, "filled: %u %%", density());
    EXPECT(t, density() >= 93);
    for (uint32_t i = 0; i < 4 * PAGES; i++) {
        struct held *held = &bench.held[below(&seed, PAGES)];
        if (held->used)
            drop(held);
        else
            put(held, any_tag(&seed));
        if (i % 2)
            for (held = bench.held; held->used; held++)
                ;
        if (i % 2)
            put(held, any_tag(&seed));
    }
    ktap_note(t, "after churn: %u %%", density());
    EXPECT(t, density() >= 90);
    for (uint32_t i = 0; i < SLOTS; i++)
        if (bench.held[i].used && next(&seed) & 1)
            drop(&bench.held[i]);
    ktap_note(t, "half freed: %u %%", density());
    uint64_t before = stats().pool_frames;
    uint32_t freed = neomm_swap_pool_compact(bench.root);
    EXPECT_EQ(t, stats().pool_frames + freed, before);
    ktap_note(t, "compacted: %u %%", density());
    EXPECT(t, density() >= 80);
    env_fsck(t, &bench.env);
    EXPECT_EQ(t, stats().writes, stats().pool_rejected);
    EXPECT(t, stats().pool_rejected < 10);
    expect_all();
    close_bench();
}

/* ---- a model ---- */

static void step(uint64_t *seed, uint32_t slots)
{
    struct held *held = &bench.held[below(seed, slots)];
    uint32_t draw = below(seed, 100), kind = below(seed, 10);
    uint64_t tag = kind == 0   ? tag_of(0, 1 + below(seed, 99))
                   : kind == 1 ? tag_of(4096, 1 + below(seed, 99))
                               : any_tag(seed);
    if (draw < 40)
        put(held, tag);
    else if (draw < 60 && held->used)
        drop(held);
    else if (draw < 95 && held->used)
        expect_page(held);
    else if (draw < 97)
        (void)neomm_swap_pool_compact(bench.root);
    else if (draw < 99)
        (void)neomm_swap_pool_write_back(bench.root, 1 + below(seed, 40));
}

static void against_model(struct ktap *t)
{
    uint64_t seed = t->parameter;
    if (!open_pool(t, t->parameter % 2 ? 40 : 1000, 400, 0))
        return;
    for (uint32_t i = 0; i < 6000 && t->failures == 0; i++) {
        step(&seed, 300);
        if (i % 64 == 0)
            env_fsck(t, &bench.env);
        EXPECT(t, stats().pool_frames <= stats().pool_limit);
    }
    expect_all();
    EXPECT(t, stats().pool_written_back > 0 && stats().pool_hits > 0);
    EXPECT_EQ(t, stats().corrupt + stats().read_errors + stats().write_errors, 0);
    close_bench();
}

/* ---- limits ---- */

/* More pages than the pool holds: the oldest go to the device. */
static void at_the_limit(struct ktap *t)
{
    if (!open_pool(t, 64, 600, 0))
        return;
    for (uint32_t i = 0; i < 500; i++)
        put(&bench.held[i], tag_of(1500, i + 1));
    env_fsck(t, &bench.env);
    EXPECT(t, stats().pool_frames <= 64 && stats().pool_pages > 100);
    EXPECT_EQ(t, stats().pool_written_back + stats().pool_pages + stats().pool_no_room, 500);
    EXPECT_EQ(t, stats().writes, stats().pool_written_back + stats().pool_no_room);
    EXPECT(t, stats().pool_no_room < 10);
    uint64_t hits = stats().pool_hits;
    expect_page(&bench.held[499]);
    EXPECT_EQ(t, stats().pool_hits, hits + 1);
    expect_page(&bench.held[0]);
    EXPECT_EQ(t, stats().pool_hits, hits + 1);
    expect_all();
    close_bench();
}

/* A page that is read again and again stays. */
static void used_pages_stay(struct ktap *t)
{
    if (!open_pool(t, 64, 600, 0))
        return;
    for (uint32_t i = 0; i < 500; i++) {
        put(&bench.held[i], tag_of(1500, i + 1));
        expect_page(&bench.held[0]);
    }
    EXPECT_EQ(t, stats().reads, 0);
    close_bench();
}

/* A full pool and a device that takes nothing: what comes next fails there, what is in the pool
 * stays. */
static void nowhere_to_go(struct ktap *t)
{
    if (!open_pool(t, 20, 600, 0))
        return;
    sim_disk_fault(bench.disk, SIM_DISK_FAIL, 1, true);
    for (uint32_t i = 0; i < 200; i++) {
        struct held *held = &bench.held[i];
        EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &held->entry));
        held->tag = tag_of(1500, i + 1);
        held->used = write_tag(held, held->tag) == NEOMM_OK;
        if (!held->used)
            EXPECT_OK(t, neomm_swap_free(bench.root, held->entry));
    }
    env_fsck(t, &bench.env);
    EXPECT(t, stats().pool_pages > 20 && stats().pool_no_room > 0);
    EXPECT_EQ(t, stats().pool_written_back, 0);
    EXPECT(t, stats().write_errors >= stats().pool_no_room);
    expect_all();
    close_bench();
}

struct rule {
    uint32_t limit, hits, reads, percent; /* percent: of their pages that objects take */
    uint32_t next;
};

static void limit_rule(struct ktap *t)
{
    static const struct rule rules[] = {
        {1600, 1000, 24, 40, 1600}, /* fits */
        {1600, 800, 224, 40, 1701}, /* the device is read too often */
        {2390, 800, 224, 40, 2400}, /* but never more than half as much again */
        {1600, 800, 224, 60, 1600}, /* and not for little gain */
        {1600, 800, 224, 70, 1499}, /* none at all: less, */
        {810, 800, 224, 70, 800},   /* down to a half */
        {800, 800, 224, 70, 800},   {2400, 1020, 4, 40, 2299}, /* more than is needed */
        {1610, 1020, 4, 40, 1600},  {700, 1020, 4, 40, 700},
    };
    for (size_t i = 0; i < NEOMM__COUNT_OF(rules); i++)
        EXPECT_EQ(t,
                  neomm__pool_next_limit(rules[i].limit, 1600, rules[i].hits, rules[i].reads,
                                         (uint64_t)rules[i].percent * NEOMM_PAGE_SIZE, 100),
                  rules[i].next);
    EXPECT_EQ(t, neomm__pool_next_limit(1600, 1600, 1024, 0, 0, 0), 1600);
}

/* The rule at work: a device that is read all the time makes the pool larger. */
static void limit_follows(struct ktap *t)
{
    if (!open_pool(t, 64, 1100, 0))
        return;
    for (uint32_t round = 0; round < 8; round++)
        for (uint32_t i = 0; i < 500; i++) {
            const struct held *other = &bench.held[(i + 250) % 500];
            put(&bench.held[i], tag_of(900, i + 1));
            if (other->used)
                expect_page(other);
        }
    EXPECT(t, stats().pool_limit > 64 && stats().pool_limit <= 96);
    env_fsck(t, &bench.env);
    close_bench();
}

/* ---- damage ---- */

/* Where the page's object is. */
static uint8_t *object_of(const struct held *held)
{
    struct neomm__swap_area *area = neomm__swap_area_of(bench.root, held->entry.slot);
    struct neomm__pool_place place =
        neomm__pool_unpack(area->slot[held->entry.slot - area->base].value);
    return (uint8_t *)neomm_direct_pointer(bench.root, neomm_frame_paddr(neomm_frame(place.frame)));
}

/* Any bit of a stored page: its owner is told, now and later, and the others are well. */
static void damaged_object(struct ktap *t)
{
    if (!open_pool(t, 100, 10, 0))
        return;
    for (uint32_t i = 0; i < 3; i++)
        put(&bench.held[i], tag_of(100 + 1000 * i, i + 1));
    uint8_t *object = object_of(&bench.held[0]);
    for (uint32_t bit = 8 * 4; bit < 8 * 100; bit++) {
        object[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(t, read_back(&bench.held[0]), NEOMM_E_CORRUPT);
        object[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT_EQ(t, stats().corrupt, 8 * 96);
    expect_all();
    object[50] ^= 1;
    (void)neomm_swap_pool_write_back(bench.root, 3);
    EXPECT_EQ(t, stats().pool_pages, 1);
    EXPECT_EQ(t, read_back(&bench.held[0]), NEOMM_E_CORRUPT);
    EXPECT_EQ(t, sim_disk_operations(bench.disk), 3);
    expect_page(&bench.held[1]);
    expect_page(&bench.held[2]);
    env_fsck(t, &bench.env);
    close_bench();
}

/* An object that thinks it is another slot's. */
static void stranger(struct ktap *t)
{
    if (!open_pool(t, 100, 10, 0))
        return;
    put(&bench.held[0], tag_of(100, 1));
    uint8_t *object = object_of(&bench.held[0]);
    object[0] ^= 2;
    EXPECT_EQ(t, read_back(&bench.held[0]), NEOMM_E_CORRUPT);
    EXPECT_EQ(t, neomm_fsck(bench.root, NULL, NULL), 1);
    object[0] ^= 2;
    expect_page(&bench.held[0]);
    close_bench();
}

/* ---- errors ---- */

static void failed_write_back(struct ktap *t)
{
    if (!open_pool(t, 100, 10, 0))
        return;
    put(&bench.held[0], tag_of(100, 1));
    EXPECT_EQ(t, neomm_swap_users(bench.root, bench.held[0].entry), 1);
    sim_disk_fault(bench.disk, SIM_DISK_FAIL, 1, false);
    EXPECT_EQ(t, neomm_swap_pool_write_back(bench.root, 1), 0);
    EXPECT_EQ(t, stats().write_errors, 1);
    EXPECT_EQ(t, neomm_swap_users(bench.root, bench.held[0].entry), 1);
    expect_page(&bench.held[0]);
    uint64_t before = sim_disk_operations(bench.disk);
    EXPECT_EQ(t, neomm_swap_pool_write_back(bench.root, 1), 0);
    EXPECT_EQ(t, sim_disk_operations(bench.disk), before);
    EXPECT_EQ(t, stats().bad, 0);
    drop(&bench.held[0]);
    EXPECT_EQ(t, stats().bad, 1);
    close_bench();
}

/* Every pass through a fault point fails in turn, once or from there on, in a history that does all
 * there is. No page that was taken may be lost by it. */
static void history(void)
{
    for (uint32_t i = 0; i < 24; i++) {
        struct held *held = &bench.held[i];
        if (neomm_swap_alloc(bench.root, 1, &held->entry) != NEOMM_OK)
            continue;
        held->tag = tag_of(i % 5 == 4 ? 4096 : 200 + 100 * i, i + 1);
        held->used = write_tag(held, held->tag) == NEOMM_OK;
        if (!held->used)
            EXPECT_OK(bench.t, neomm_swap_free(bench.root, held->entry));
    }
    for (uint32_t i = 0; i < 24; i += 2)
        if (bench.held[i].used)
            drop(&bench.held[i]);
    (void)neomm_swap_pool_compact(bench.root);
    (void)neomm_swap_pool_write_back(bench.root, 4);
}

static void fault_sweep(struct ktap *t)
{
    uint64_t passes = 0;
    for (uint64_t n = 1; n <= passes + 1 && t->failures == 0; n++) {
        if (!open_pool(t, 12, 40, 0))
            return;
        if (!env_fault_plan(&bench.env, n, t->parameter != 0)) {
            ktap_skip(t, "needs the instrumented flavour");
            close_bench();
            return;
        }
        history();
        passes = env_fault_count(&bench.env);
        (void)env_fault_plan(&bench.env, 0, false);
        env_fsck(t, &bench.env);
        expect_all();
        close_bench();
    }
    EXPECT(t, passes > 20);
}

/* No frame at all: the device takes what comes. */
static void no_frames(struct ktap *t)
{
    static neomm_frame_t taken[8192];
    uint32_t count = 0;
    if (!open_pool(t, 1000, 300, 0))
        return;
    put(&bench.held[0], tag_of(1500, 1));
    while (count < 8192 && neomm_pmm_alloc(bench.root, 0, NEOMM_RESERVE | NEOMM_NORECLAIM,
                                           &taken[count]) == NEOMM_OK)
        count++;
    for (uint32_t i = 1; i < 200; i++)
        put(&bench.held[i], tag_of(1500, i + 1));
    EXPECT(t, stats().writes > 190 && stats().pool_no_room > 190);
    EXPECT_EQ(t, stats().pool_frames, 1);
    expect_all();
    EXPECT_EQ(t, neomm_swap_pool_write_back(bench.root, 1), 1);
    expect_all();
    EXPECT_OK(t, neomm_pmm_free_bulk(bench.root, count, taken, NULL));
    close_bench();
}

/* ---- frames out of reach ---- */

static struct {
    uint32_t maps, fail_at; /* the map with this number fails, 0: none */
} slots;

static void *map_slot(struct neomm *root, neomm_frame_t frame)
{
    if (++slots.maps == slots.fail_at)
        return NULL;
    return neomm_direct_pointer(root, neomm_frame_paddr(frame));
}

/* All frames are seen through slots, one of which is not to be had: what then happened is the
 * device's, or an error, and nothing worse. */
static void frames_out_of_reach(struct ktap *t)
{
    uint32_t maps = 1;
    for (uint32_t n = 1; n <= maps && t->failures == 0; n++) {
        if (!open_pool(t, 60, 40, 0))
            return;
        uint32_t direct = bench.root->frames.direct;
        struct neomm__slot_ops before = bench.root->slots;
        slots.maps = 0;
        slots.fail_at = n;
        bench.root->frames.direct = 0;
        bench.root->slots.map = map_slot;
        history();
        struct held *last = &bench.held[23];
        neomm_status status = last->used ? read_back(last) : NEOMM_OK;
        EXPECT(t, status == NEOMM_OK || status == NEOMM_E_NOMEM);
        maps = slots.maps;
        slots.fail_at = 0;
        expect_all();
        bench.root->frames.direct = direct;
        bench.root->slots = before;
        env_fsck(t, &bench.env);
        close_bench();
    }
    EXPECT(t, maps > 40);
}

/* ---- frames that move ---- */

/* Each frame of the pool in turn becomes the caller's, and no page is lost. */
static void any_frame_moves(struct ktap *t)
{
    uint64_t seed = 5;
    uint32_t moved = 0;
    if (!open_pool(t, 0, 600, 0))
        return;
    for (uint32_t i = 0; i < 300; i++)
        put(&bench.held[i], any_tag(&seed));
    for (uint32_t number = 1; number < 4096 && t->failures == 0; number++) {
        const struct neomm__frame *entry = neomm__frame(bench.root, neomm_frame(number));
        bool pooled = entry && entry->kind == NEOMM__KIND_POOL;
        EXPECT_EQ(t, entry && neomm__pool_move_frame(bench.root, neomm_frame(number)), pooled);
        if (!pooled)
            continue;
        EXPECT_EQ(t, entry->kind, NEOMM__KIND_NONE);
        EXPECT_OK(t, neomm_pmm_free(bench.root, neomm_frame(number), 0));
        moved++;
    }
    EXPECT(t, moved > 100);
    env_fsck(t, &bench.env);
    EXPECT_EQ(t, stats().writes, 0);
    expect_all();
    close_bench();
}

/* Compaction empties blocks in which the pool has frames. */
static void blocks_become_free(struct ktap *t)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = formats[0], .ram_bytes = (uint64_t)24 << 20};
    uint64_t seed = 5;
    neomm_frame_t block;
    if (!open_bench(t, &options, 6000))
        return;
    for (uint32_t i = 0; i < 4800; i++)
        put(&bench.held[i], tag_of(60 + below(&seed, 1000), i + 1));
    for (uint32_t i = 0; i < 4800; i++)
        if (i % 8)
            drop(&bench.held[i]);
    uint32_t blocks = 0;
    while (neomm_pmm_alloc(bench.root, 9, NEOMM_NORECLAIM, &block) == NEOMM_OK && blocks < 16) {
        bench.held[SLOTS - 1 - blocks].tag = block.number;
        blocks++;
    }
    EXPECT_OK(t, neomm_compact(bench.root, 9));
    EXPECT_OK(t, neomm_pmm_alloc(bench.root, 9, NEOMM_NORECLAIM, &block));
    EXPECT_OK(t, neomm_pmm_free(bench.root, block, 9));
    while (blocks-- > 0)
        EXPECT_OK(t, neomm_pmm_free(bench.root,
                                    neomm_frame((uint32_t)bench.held[SLOTS - 1 - blocks].tag), 9));
    env_fsck(t, &bench.env);
    expect_all();
    close_bench();
}

static const uint64_t seeds[] = {1, 2, 3, 4};
static const uint64_t once_or_for_good[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE(in_and_out),
    KTAP_CASE(all_forms),
    KTAP_CASE(hopeless_pages),
    KTAP_CASE(switched_off),
    KTAP_CASE(before_init),
    KTAP_CASE(stuck_slots),
    KTAP_CASE_WITH(lies_densely, seeds),
    KTAP_CASE_WITH(against_model, seeds),
    KTAP_CASE(at_the_limit),
    KTAP_CASE(used_pages_stay),
    KTAP_CASE(nowhere_to_go),
    KTAP_CASE(limit_rule),
    KTAP_CASE(limit_follows),
    KTAP_CASE(damaged_object),
    KTAP_CASE(stranger),
    KTAP_CASE(failed_write_back),
    KTAP_CASE_WITH(fault_sweep, once_or_for_good),
    KTAP_CASE(no_frames),
    KTAP_CASE(frames_out_of_reach),
    KTAP_CASE(any_frame_moves),
    KTAP_CASE(blocks_become_free),
};
KTAP_SUITE(swap_pool, cases);
