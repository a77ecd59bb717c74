/* The CPUs' caches from inside: where they lie, whose frames they keep and how many, what goes
 * first, who waits for whom, and what the consistency check says of them.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <string.h>

#define M(n)       ((uint64_t)(n) << 20)
#define K(n)       ((uint64_t)(n) << 10)
#define U          NEOMM_MEMORY_USABLE
#define CPUS       4u
#define HUGE_ORDER ((unsigned)NEOMM__FIELD_ORDER)
#define MAP(map)   map, (uint32_t)NEOMM__COUNT_OF(map)

/* On 64 bits every kind of cache keeps several; on 32 there is no room for so much. */
#define LARGE (sizeof(size_t) == 8 ? (uint64_t)M(4096) : M(768))

static const struct neomm_boot_range half_high[] = {{0, LARGE, U}};
static const struct world_options large = {
    .ram_bytes = LARGE, MAP(half_high), .direct_bytes = LARGE / 2, .slots = true, .cpus = CPUS};
static struct world world;

static struct neomm__frame_cache *cache_of(uint32_t cpu, unsigned which)
{
    return neomm__cache_of(world.root->pmm, cpu, which);
}

static unsigned order_of(unsigned which)
{
    return which % NEOMM__CACHES == NEOMM__CACHED_HUGE ? HUGE_ORDER : 0;
}

static unsigned caches(void)
{
    return world.root->pmm->high ? 2 * NEOMM__CACHES : NEOMM__CACHES;
}

static neomm_flags_t flags_of(unsigned which)
{
    return (which >= NEOMM__CACHES ? NEOMM_HIGH : 0) |
           (which % NEOMM__CACHES == NEOMM__CACHED_MOVABLE ? NEOMM_MOVABLE : 0);
}

/* One block goes to this cache of this CPU, if it keeps any. */
static void keep_one(struct ktap *t, uint32_t cpu, unsigned which)
{
    neomm_frame_t frame;
    EXPECT(t, cache_of(cpu, which)->capacity > 1 || (sizeof(size_t) == 4 && order_of(which) != 0));
    if (cache_of(cpu, which)->capacity == 0)
        return;
    sim_bind(world.sim, cpu);
    EXPECT_OK(t, neomm_pmm_alloc(world.root, order_of(which), flags_of(which), &frame));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, order_of(which)));
    sim_bind(world.sim, 0);
}

static void keep_some(struct ktap *t)
{
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (unsigned which = 0; which < caches(); which++)
            keep_one(t, cpu, which);
}

/* ---- places and sizes ---- */

/* The area whose frames a CPU's caches keep, from what the areas manage. */
static uint32_t home(uint32_t node, bool high)
{
    const struct neomm__pmm *pmm = world.root->pmm;
    for (unsigned zone = high ? NEOMM_ZONES : NEOMM_ZONE_HIGH; zone-- > 0;)
        for (uint32_t i = 0; i < pmm->nodes && (!high || zone == NEOMM_ZONE_HIGH); i++) {
            uint32_t area = (node + i) % pmm->nodes * NEOMM_ZONES + zone;
            if (pmm->area[area].managed > 0)
                return area;
        }
    return NEOMM__AREAS;
}

static void check_sizes(struct ktap *t, uint32_t offline)
{
    const struct neomm__pmm *pmm = world.root->pmm;
    for (uint32_t cpu = 0; cpu < pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches(); which++) {
            const struct neomm__frame_cache *cache = cache_of(cpu, which);
            uint32_t area = home(pmm->cpu[cpu].node, which >= NEOMM__CACHES);
            size_t managed = area < NEOMM__AREAS ? pmm->area[area].managed : 0;
            size_t share = managed / 64 / pmm->cpus >> order_of(which);
            size_t most = order_of(which) == 0 ? 256 : 8;
            size_t want = cpu == offline ? 0 : share < most ? share : most;
            EXPECT_EQ(t, cache->area, area);
            EXPECT_EQ(t, cache->capacity, want);
            EXPECT_EQ(t, cache->batch, (want + 1) / 2 < 64 ? (want + 1) / 2 : 64);
        }
}

/* Caches lie one behind the other with room for all that they may keep, and end where the next
 * part of the metadata begins. */
static void check_places(struct ktap *t)
{
    const struct neomm__pmm *pmm = world.root->pmm;
    const uint8_t *end = pmm->caches;
    for (uint32_t cpu = 0; cpu < pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches(); which++) {
            const struct neomm__frame_cache *cache = cache_of(cpu, which);
            EXPECT(t, (const uint8_t *)cache == end);
            end = (const uint8_t *)&cache->bit[order_of(which) == 0 ? 256 : 8];
            end = (const uint8_t *)NEOMM__ALIGN_UP((uintptr_t)end, 64);
        }
    EXPECT(t, end == (const uint8_t *)pmm->taken);
    EXPECT_EQ(t, neomm__cache_bytes(pmm->high), pmm->cache_stride);
}

static const uint64_t shares[] = {0, 1, 2, 3, 125, 126, 127, 128, 129, 130, 255, 256, 257};

/* NORMAL has so many frames for each CPU and kind, and up to 63 more. */
static void sizes(struct ktap *t)
{
    for (uint32_t more = 0; more < 64; more += 63) {
        const struct neomm_boot_range map[] = {
            {0, M(2), U}, {M(16), K(4) * (64 * 2 * t->parameter + 2 * more), U}};
        const struct world_options options = {
            .ram_bytes = M(160), .map = map, .map_count = 2, .cpus = 2};
        if (!world_open(t, &world, &options))
            return;
        check_sizes(t, CPUS);
        check_places(t);
        world_close(t, &world);
    }
}

static void sizes_of_blocks(struct ktap *t)
{
    if (!world_open(t, &world, &large))
        return;
    check_sizes(t, CPUS);
    check_places(t);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        keep_some(t);
        EXPECT_OK(t, neomm_pmm_cpu_offline(world.root, cpu));
        check_sizes(t, cpu);
        for (unsigned which = 0; which < caches(); which++) {
            EXPECT_EQ(t, cache_of(cpu, which)->count, 0);
            const struct neomm__frame_cache *next = cache_of((cpu + 1) % CPUS, which);
            EXPECT_EQ(t, next->count > 0, next->capacity > 0);
        }
        EXPECT_OK(t, neomm_pmm_cpu_online(world.root, cpu));
        check_sizes(t, CPUS);
    }
    world_close(t, &world);
}

/* Nodes without memory of a zone, a zone of one frame, and memory that comes later. */
static void homes(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {
        {0, M(8), U}, {M(130), K(4), U}, {M(260), M(60), NEOMM_MEMORY_BOOT}};
    static const struct neomm_node_range nodes[] = {{M(128), M(128), 1}, {M(256), M(128), 2}};
    static const uint8_t cpu_node[] = {0, 1, 2, 3};
    struct world_options options = {
        .ram_bytes = M(320), MAP(map), .slots = true, .cpus = CPUS, .without_pmm = true};
    for (unsigned high = 0; high < 2; high++) {
        options.direct_bytes = high ? M(256) : 0;
        if (!world_open(t, &world, &options))
            return;
        world.pmm.node_range = nodes;
        world.pmm.node_ranges = 2;
        world.pmm.cpu_node = cpu_node;
        EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
        check_sizes(t, CPUS);
        check_places(t);
        EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), M(60) >> 12);
        for (uint32_t cpu = 0; cpu < CPUS; cpu++)
            EXPECT_OK(t, neomm_pmm_cpu_online(world.root, cpu));
        check_sizes(t, CPUS);
        world_close(t, &world);
    }
}

/* ---- what goes in and out ---- */

/* A cache that fills, against a list: when it is full the oldest half goes, and the last of these
 * is where the next frames are looked for. */
static void oldest_first(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(2), U}, {M(16), M(64), U}};
    static const uint32_t capacities[] = {1, 2, 3, 4, 5, 64, 127, 128, 129, 255, 256};
    static neomm_frame_t frames[600];
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(capacities); i++) {
        struct neomm_boot_range part[] = {map[0], {M(16), K(256) * capacities[i], U}};
        const struct world_options options = {.ram_bytes = M(96), .map = part, .map_count = 2};
        uint32_t list[600], kept = 0;
        if (!world_open(t, &world, &options))
            return;
        struct neomm__frame_cache *cache = cache_of(0, NEOMM__CACHED_UNMOVABLE);
        uint32_t capacity = cache->capacity, batch = cache->batch;
        EXPECT_EQ(t, capacity, capacities[i]);
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frames[0]));
        EXPECT_EQ(t, cache->allocated, 1);
        EXPECT_OK(t, neomm_pmm_free(world.root, frames[0], 0));
        uint32_t count = 2 * capacity + 3;
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, count, 0, frames));
        neomm_pmm_drain(world.root);
        for (uint32_t j = 0; j < count; j++) {
            uint32_t frame = frames[count - 1 - j].number; /* its bit, too: no section is empty */
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(frame), 0));
            if (kept == capacity) {
                EXPECT_EQ(t, cache->field, list[batch - 1] >> HUGE_ORDER);
                kept -= batch;
                memmove(list, list + batch, kept * sizeof(list[0]));
            }
            list[kept++] = frame;
            EXPECT_EQ(t, cache->count, kept);
            EXPECT(t, memcmp(cache->bit, list, kept * sizeof(list[0])) == 0);
        }
        world_fsck(t, &world);
        world_close(t, &world);
    }
}

/* Frames of other areas go past the cache, and are counted all the same. */
static void other_areas(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    neomm_frame_t low, frame;
    if (!world_open(t, &world, &large))
        return;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_DMA, &low));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
    neomm_pmm_drain(world.root);
    EXPECT_OK(t, neomm_pmm_free(world.root, low, 0));
    EXPECT_EQ(t, cache_of(0, 0)->count, 0);
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    EXPECT_EQ(t, cache_of(0, 0)->count, 1);
    neomm_snapshot_take(world.root, &snapshot);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_FREE], 2);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_ALLOC], 2);
    world_close(t, &world);
}

/* Bulk requests take what there is and write no further. */
static void in_bulk(struct ktap *t)
{
    if (!world_open(t, &world, &large))
        return;
    for (uint32_t have = 0; have < 5; have++)
        for (uint32_t most = 1; most < 6; most++) {
            neomm_frame_t frames[8];
            uint32_t bits[8], want = have < most ? have : most;
            struct neomm__frame_cache *cache = cache_of(0, 0);
            memset(bits, 0xff, sizeof(bits));
            EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 8, 0, frames));
            neomm_pmm_drain(world.root);
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, have, frames, NULL));
            EXPECT_EQ(t, neomm__cache_alloc_bulk(world.root, 0, most, bits), want);
            EXPECT_EQ(t, cache->count, have - want);
            for (uint32_t i = 0; i < want; i++)
                EXPECT_EQ(t, bits[i], frames[have - 1 - i].number);
            EXPECT_EQ(t, bits[want], UINT32_MAX);
            for (uint32_t i = 0; i < want; i++)
                neomm__area_release(world.root->pmm, bits[i], 1);
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 8 - have, frames + have, NULL));
        }
    world_close(t, &world);
}

/* While somebody looks for the last frames nothing stays in a cache; once the reserve is touched
 * those who may not have it find the cache empty, the others go on with it. */
static void closed(struct ktap *t)
{
    neomm_frame_t frames[4], again;
    if (!world_open(t, &world, &large))
        return;
    struct neomm__frame_cache *cache = cache_of(0, 0);
    struct neomm__area *area = &world.root->pmm->area[NEOMM_ZONE_NORMAL];
    uint32_t *uncached = &world.root->pmm->uncached;
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 4, 0, frames));
    neomm_pmm_drain(world.root);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 2, frames, NULL));
    EXPECT_EQ(t, cache->count, 2);
    *uncached = NEOMM__TIGHT;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_RESERVE, &again));
    EXPECT_EQ(t, again.number, frames[1].number);
    EXPECT_EQ(t, cache->count, 1);
    area->minimum = area->free + 100;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frames[0]));
    EXPECT(t, frames[0].number < 4096); /* out of what has no reserve */
    EXPECT_EQ(t, cache->count, 0);
    area->minimum = 0;
    EXPECT_OK(t, neomm_pmm_free(world.root, frames[0], 0));
    EXPECT_EQ(t, *uncached, 0);
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frames[0]));
    neomm_pmm_drain(world.root);
    EXPECT_OK(t, neomm_pmm_free(world.root, again, 0));
    EXPECT_EQ(t, cache->count, 1);
    *uncached = 1;
    EXPECT_OK(t, neomm_pmm_free(world.root, frames[0], 0));
    EXPECT_EQ(t, cache->count, 0);
    *uncached = 0;
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 2, frames + 2, NULL));
    world_close(t, &world);
}

/* ---- all caches ---- */

/* Sums are exact whatever the bits behind the last cache are: as a cache they would be one of DMA,
 * the area of number 0, that keeps and has served some. */
static void sums(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    if (!world_open(t, &world, &large))
        return;
    uint64_t all = neomm_pmm_free_frames(world.root), kept = 0;
    for (uint32_t frame = 32; frame < 256; frame += frame == 62 ? 130 : 2)
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(frame), 1));
    keep_some(t);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), all - 48);
    for (uint32_t area = 0; area < NEOMM_ZONES; area++)
        kept += neomm__cache_frames(world.root->pmm, area);
    EXPECT_EQ(t, neomm__cache_frames(world.root->pmm, NEOMM_ZONE_DMA), 0);
    uint64_t sum = 0, keep = 0;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (unsigned which = 0; which < caches(); which++) {
            keep += cache_of(cpu, which)->count > 0;
            sum += (uint64_t)cache_of(cpu, which)->count << order_of(which);
        }
    EXPECT_EQ(t, kept, sum);
    EXPECT(t, keep >= CPUS * 4);
    neomm_snapshot_take(world.root, &snapshot);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_ALLOC], 48 + keep);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_FREE], keep);
    for (uint32_t frame = 32; frame < 256; frame += frame == 62 ? 130 : 2)
        EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(frame), 0));
    world_close(t, &world);
}

static uint64_t points(void)
{
    return NEOMM_INSTRUMENTED ? sim_points(world.sim) : 0;
}

/* A drain empties all that nobody is in, waits for others, for so long, and not for its own CPU. */
static void drains(struct ktap *t)
{
    if (!world_open(t, &world, &large))
        return;
    for (uint32_t inside = 0; inside <= CPUS; inside += 2) {
        keep_some(t);
        struct neomm__frame_cache *busy = cache_of(inside % CPUS, 1);
        if (inside < CPUS)
            busy->entered = inside + 1;
        uint64_t before = points();
        neomm_pmm_drain(world.root);
        uint64_t used = points() - before;
        if (NEOMM_INSTRUMENTED)
            EXPECT(t, inside == 2 ? used > 1000000 : used < 20000);
        for (uint32_t cpu = 0; cpu < CPUS; cpu++)
            for (unsigned which = 0; which < caches(); which++) {
                bool skipped = inside < CPUS && cache_of(cpu, which) == busy;
                EXPECT_EQ(t, cache_of(cpu, which)->count > 0, skipped);
                EXPECT_EQ(t, cache_of(cpu, which)->entered, skipped ? inside + 1 : 0);
            }
        busy->entered = 0;
    }
    world_close(t, &world);
}

/* ---- what is wrong with them ---- */

static size_t findings(void)
{
    return neomm_fsck(world.root, NULL, NULL);
}

/* Something in a cache becomes `bit`, is noticed, and becomes what it was. */
static void expect_found(struct ktap *t, uint32_t *place, uint32_t bit)
{
    uint32_t before = *place;
    *place = bit;
    EXPECT(t, findings() > 0);
    *place = before;
}

/* Everything that can be wrong with what a cache keeps at `at`. */
static void spoil(struct ktap *t, struct neomm__frame_cache *cache, uint32_t at, uint32_t low,
                  uint32_t mine)
{
    uint32_t bit = cache->bit[at];
    neomm__word_t *word = &world.root->pmm->taken[bit / NEOMM__WORD_BITS];
    neomm__word_t mask = (neomm__word_t)1 << bit % NEOMM__WORD_BITS;
    expect_found(t, &cache->bit[at], low);
    expect_found(t, &cache->bit[at], mine);
    expect_found(t, &cache->bit[at], cache->bit[at == 0 ? 1 : at - 1]);
    *word &= ~mask;
    EXPECT(t, findings() > 0);
    *word |= mask;
    expect_found(t, &world.root->frames.table[bit].references, 1);
    expect_found(t, &cache->entered, 3);
    EXPECT(t, cache->count > at); /* nothing was drained while something was wrong */
}

/* In every cache, in the first and the last that it keeps: a frame of another area, one that is
 * somebody's, one that is there twice, one that is free, and somebody who is inside. */
static void corruption(struct ktap *t)
{
    neomm_frame_t low, mine;
    if (!world_open(t, &world, &large))
        return;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_DMA, &low));
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (unsigned which = 0; which < caches(); which++) {
            struct neomm__frame_cache *cache = cache_of(cpu, which);
            keep_one(t, cpu, which);
            if (cache->count < 2)
                continue;
            sim_bind(world.sim, (cpu + 1) % CPUS);
            EXPECT_OK(t, neomm_pmm_alloc(world.root, order_of(which), flags_of(which), &mine));
            neomm__frame(world.root, low)->references = 0;
            spoil(t, cache, 0, low.number, mine.number);
            spoil(t, cache, cache->count - 1, low.number, mine.number);
            neomm__frame(world.root, low)->references = 1;
            EXPECT_OK(t, neomm_pmm_free(world.root, mine, order_of(which)));
            sim_bind(world.sim, 0);
            world_fsck(t, &world);
        }
    EXPECT_OK(t, neomm_pmm_free(world.root, low, 0));
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(sizes, shares),
    KTAP_CASE(sizes_of_blocks),
    KTAP_CASE(homes),
    KTAP_CASE(oldest_first),
    KTAP_CASE(other_areas),
    KTAP_CASE(in_bulk),
    KTAP_CASE(closed),
    KTAP_CASE(sums),
    KTAP_CASE(drains),
    KTAP_CASE(corruption),
};
KTAP_SUITE(pmm_frame_cache, cases);
