/* Figures: fragmentation, the reserve's shares, statistics with full caches, what caches may
 * keep; and who is asked to make contiguous memory.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <string.h>

#define M(n)         ((uint64_t)(n) << 20)
#define G(n)         ((uint64_t)(n) << 30)
#define U            NEOMM_MEMORY_USABLE
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)
#define DMA_END      4096u

#if UINTPTR_MAX > 0xffffffffu
#define BIG G(8)
#else
#define BIG M(768)
#endif

static struct world world;
static neomm_frame_t held[1 << 16];

/* ---- fragmentation ---- */

/* Is the aligned block that holds bit i all free? */
static bool in_free_block(const uint8_t *taken, uint32_t i, unsigned order)
{
    uint32_t first = i >> order << order;
    for (uint32_t j = first; j < first + (1u << order); j++)
        if (taken[j])
            return false;
    return true;
}

/* Bits as bytes, their counted runs, and what they should come to. */
struct pattern {
    uint32_t bits;
    uint8_t taken[4096];
    neomm__word_t words[4096 / NEOMM__WORD_BITS];
    struct neomm_zone_stats stats;
};

static void count_pattern(struct pattern *pattern)
{
    struct neomm__pmm pmm;
    memset(&pmm, 0, sizeof(pmm));
    memset(&pattern->stats, 0, sizeof(pattern->stats));
    memset(pattern->words, 0, sizeof(pattern->words));
    for (uint32_t i = 0; i < pattern->bits; i++) {
        pattern->words[i / NEOMM__WORD_BITS] |= (neomm__word_t)pattern->taken[i]
                                                << i % NEOMM__WORD_BITS;
        pattern->stats.free += !pattern->taken[i];
    }
    pmm.taken = pattern->words;
    neomm__pmm_count_runs(&pmm, 0, pattern->bits, pattern->stats.free_runs);
}

static void check_pattern(struct ktap *t, struct pattern *pattern)
{
    count_pattern(pattern);
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
        uint32_t useful = 0, free = (uint32_t)pattern->stats.free;
        for (uint32_t i = 0; i < pattern->bits; i++)
            useful += i >> order << order <= pattern->bits - (1u << order) &&
                      in_free_block(pattern->taken, i, order);
        uint32_t want = free == 0 ? 1000 : 1000 - 1000 * useful / free;
        EXPECT_EQ(t, neomm_pmm_fragmentation(&pattern->stats, order), want);
    }
}

/* All patterns of 16 frames, the rest taken; each order. */
static void all_patterns(struct ktap *t)
{
    static struct pattern pattern;
    pattern.bits = 2048;
    for (uint32_t number = 0; number < 1u << 16 && t->failures == 0; number++) {
        struct neomm_zone_stats stats = {0};
        for (uint32_t i = 0; i < 16; i++)
            pattern.taken[i] = number >> i & 1;
        memset(pattern.taken + 16, 1, sizeof(pattern.taken) - 16);
        pattern.bits = NEOMM__WORD_BITS;
        count_pattern(&pattern);
        stats = pattern.stats;
        for (unsigned order = 0; order <= 5; order++) {
            uint32_t useful = 0, free = (uint32_t)stats.free;
            for (uint32_t i = 0; i < 16; i++)
                useful += in_free_block(pattern.taken, i, order);
            EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, order),
                      free == 0 ? 1000 : 1000 - 1000 * useful / free);
        }
    }
}

static const uint64_t densities[] = {1, 3, 30, 300, 3000};

/* Random rows of free and taken frames over all orders. */
static void random_patterns(struct ktap *t)
{
    static struct pattern pattern;
    uint64_t seed = t->parameter;
    for (unsigned round = 0; round < 40 && t->failures == 0; round++) {
        bool taken = false;
        pattern.bits = 4096;
        for (uint32_t i = 0; i < pattern.bits; i++) {
            if (world_below(&seed, (uint32_t)t->parameter) == 0)
                taken = world_below(&seed, 2);
            pattern.taken[i] = taken;
        }
        check_pattern(t, &pattern);
    }
}

/* Large numbers are rounded, but the ends are exact. */
static void large_numbers(struct ktap *t)
{
    uint64_t seed = 3;
    for (unsigned round = 0; round < 20000 && t->failures == 0; round++) {
        struct neomm_zone_stats stats = {0};
        unsigned order = world_below(&seed, NEOMM_ORDER_MAX + 1);
        uint64_t useful = 0;
        for (unsigned i = 0; i <= NEOMM_ORDER_MAX; i++) {
            stats.free_runs[i] = (world_random(&seed) >> 36) >> world_below(&seed, 28) >> i;
            stats.free += stats.free_runs[i] << i;
            useful += i >= order ? stats.free_runs[i] << i : 0;
        }
        ASSERT(t, stats.free <= UINT32_MAX);
        uint32_t have = neomm_pmm_fragmentation(&stats, order);
        uint64_t want = stats.free == 0 ? 1000 : 1000 - 1000 * useful / stats.free;
        EXPECT(t, have <= want + 1 && want <= have + 1u);
        EXPECT(t, useful != 0 || have == 1000);
        EXPECT(t, useful == 0 || useful != stats.free || have == 0);
    }
}

/* Up to 16 bits they are exact to the thousandth. */
static void exact_numbers(struct ktap *t)
{
    for (uint64_t free = 65533; free <= 65536; free++)
        for (uint64_t useful = 1; useful <= 65533; useful += 97) {
            struct neomm_zone_stats stats = {.free = free};
            uint64_t shift = free > UINT16_MAX;
            stats.free_runs[0] = useful;
            EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, 0),
                      1000 - 1000 * (useful >> shift) / (free >> shift));
        }
}

/* As a kernel sees it, from a zone's statistics. */
static void of_a_zone(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(16), M(16), U}};
    const struct world_options options = {.ram_bytes = M(32), MAP(map)};
    struct neomm_zone_stats stats;
    if (!world_open(t, &world, &options))
        return;
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, order), 0);
    EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, NEOMM_ORDER_MAX + 1), 1000);
    for (uint32_t frame = DMA_END + 3; frame < 2 * DMA_END; frame += 8)
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(frame), 1));
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
    static const uint32_t want[] = {0, 143, 429, 1000};
    for (unsigned order = 0; order < 4; order++)
        EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, order), want[order]);
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_DMA, &stats);
    EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, 0), 1000);
    stats.free = 3; /* figures that were taken while frames came back */
    stats.free_runs[2] = 1;
    EXPECT_EQ(t, neomm_pmm_fragmentation(&stats, 2), 0);
    for (uint32_t frame = DMA_END + 3; frame < 2 * DMA_END; frame += 8)
        EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(frame), 0));
    world_close(t, &world);
}

/* ---- the reserve ---- */

/* The areas' shares are all of it, in proportion; high memory has none. */
static void shares(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(8), U}, {M(40), BIG - M(40), U}};
    static const struct neomm_node_range nodes[] = {
        {M(256), M(128), 1}, {M(384), M(128), 2}, {M(512), BIG, 1}};
    static const uint32_t reserves[] = {1, 2, 7, 1000, 4096, 65537, 100003, UINT32_MAX};
    const struct world_options options = {.ram_bytes = BIG,
                                          MAP(map),
                                          .direct_bytes = BIG - M(130),
                                          .slots = true,
                                          .without_pmm = true};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(reserves); i++) {
        if (!world_open(t, &world, &options))
            return;
        world.pmm.node_range = nodes;
        world.pmm.node_ranges = 3;
        world.pmm.reserve_frames = reserves[i];
        world.pmm.metadata_zeroed = false;
        EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
        const struct neomm__pmm *pmm = world.root->pmm;
        uint64_t free = 0, sum = 0;
        for (uint32_t area = 0; area < NEOMM__AREAS; area++)
            free += area % NEOMM_ZONES != NEOMM_ZONE_HIGH ? pmm->area[area].free : 0;
        uint64_t whole = reserves[i] < free / 2 ? reserves[i] : free / 2;
        uint64_t slack = NEOMM__AREAS + whole / 8192; /* divisors have 16 bits */
        for (uint32_t area = 0; area < NEOMM__AREAS; area++) {
            uint64_t minimum = pmm->area[area].minimum, exact;
            sum += minimum;
            exact = area % NEOMM_ZONES == NEOMM_ZONE_HIGH ? 0 : whole * pmm->area[area].free / free;
            EXPECT(t, minimum <= exact + slack && exact <= minimum + slack);
            EXPECT(t, minimum == 0 || area % NEOMM_ZONES != NEOMM_ZONE_HIGH);
            EXPECT(t, minimum <= pmm->area[area].free);
        }
        EXPECT_EQ(t, sum, whole);
        world_close(t, &world);
    }
}

static uint32_t alloc_all(neomm_frame_t *frames, neomm_flags_t flags)
{
    uint32_t n = 0;
    while (n < NEOMM__COUNT_OF(held) && neomm_pmm_alloc(world.root, 0, flags, &frames[n]) == 0)
        n++;
    return n;
}

static const uint64_t who_first[] = {0, 1, 2};

/* With caches in front, too, the reserve is there to the last frame for those who may have it, and
 * for nobody else: also when they come first and their CPU's cache fills. */
static void to_the_last(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(64), U}, {M(128), M(64), U}};
    static const struct neomm_node_range nodes[] = {{M(128), M(64), 1}};
    const struct world_options options = {
        .ram_bytes = M(192), MAP(map), .cpus = 2, .without_pmm = true};
    static neomm_frame_t frames[2048];
    if (!world_open(t, &world, &options))
        return;
    world.pmm.reserve_frames = 1000;
    world.pmm.node_range = nodes;
    world.pmm.node_ranges = 1;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    uint32_t all = (uint32_t)neomm_pmm_free_frames(world.root), n = 0, early = 0;
    for (; t->parameter == 1 && early < 10; early++)
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_RESERVE, &frames[early]));
    if (t->parameter == 2) { /* down to where the next one opens the reserve */
        while (n + 1000 < all)
            EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &held[n++]));
        for (; early < 10; early++)
            EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_RESERVE, &frames[early]));
    }
    n += alloc_all(held + n, 0);
    sim_bind(world.sim, 1);
    n += alloc_all(held + n, NEOMM_MOVABLE);
    EXPECT_EQ(t, n, all - 1000 - (t->parameter == 1 ? early : 0));
    uint32_t last = early + alloc_all(frames + early, NEOMM_RESERVE);
    EXPECT_EQ(t, last, all - n);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 0);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, last, frames, NULL));
    sim_bind(world.sim, 0);
    EXPECT_EQ(t, alloc_all(held + n, 0), t->parameter == 1 ? early : 0);
    n = all - 1000;
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, n, held, NULL));
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- statistics and the caches ---- */

static size_t cached_in(uint32_t area)
{
    return neomm__cache_frames(world.root->pmm, area);
}

#define CPUS 4u

/* Frame by frame down to the last and up again: the watermark is what the free frames of the zone
 * say, reserve and caches counted in. */
static void watermarks(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(160), U}};
    const struct world_options options = {.ram_bytes = M(160), MAP(map), .reserve_frames = 2003};
    static const neomm_flags_t flags = NEOMM_RESERVE;
    uint32_t count = 0;
    if (!world_open(t, &world, &options))
        return;
    size_t least = world.root->pmm->area[NEOMM_ZONE_NORMAL].minimum;
    EXPECT(t, least > 1000 && least < 2003);
    EXPECT_EQ(t, neomm_pmm_watermark(world.root, NEOMM_ZONE_HIGH), NEOMM_WATERMARK_HIGH);
    for (bool more = true; more;) {
        struct neomm_zone_stats stats;
        neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
        enum neomm_watermark want = stats.free >= least + least / 2   ? NEOMM_WATERMARK_HIGH
                                    : stats.free >= least + least / 4 ? NEOMM_WATERMARK_LOW
                                    : stats.free >= least             ? NEOMM_WATERMARK_MIN
                                                                      : NEOMM_WATERMARK_NONE;
        EXPECT_EQ(t, neomm_pmm_watermark(world.root, NEOMM_ZONE_NORMAL), want);
        uint32_t step = stats.free > 4000 ? 1000 : 1;
        for (; more && step > 0; step--)
            if ((more = neomm_pmm_alloc(world.root, 0, flags, &held[count]) == NEOMM_OK))
                count++;
    }
    EXPECT_EQ(t, neomm_pmm_watermark(world.root, NEOMM_ZONE_DMA), NEOMM_WATERMARK_NONE);
    while (count > 0)
        EXPECT_OK(t, neomm_pmm_free(world.root, held[--count], 0));
    EXPECT_EQ(t, neomm_pmm_watermark(world.root, NEOMM_ZONE_DMA), NEOMM_WATERMARK_HIGH);
    world_close(t, &world);
}

/* Fills all caches of all CPUs: frames taken there are freed there. */
static void fill_caches(struct ktap *t, neomm_flags_t flags)
{
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        sim_bind(world.sim, cpu);
        for (unsigned movable = 0; movable < 2; movable++) {
            neomm_flags_t all = flags | (movable ? NEOMM_MOVABLE : 0);
            EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 600, all, held));
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 600, held, NULL));
        }
        for (uint32_t i = 0; i < 12; i++)
            EXPECT_OK(t, neomm_pmm_alloc(world.root, 9, flags, &held[i]));
        for (uint32_t i = 0; i < 12; i++)
            EXPECT_OK(t, neomm_pmm_free(world.root, held[i], 9));
    }
    sim_bind(world.sim, 0);
}

/* Free frames are free wherever they are: the sum is exact beside full caches, and a zone's free
 * blocks are whole. */
static void exact_with_full_caches(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(768), U}};
    const struct world_options options = {.ram_bytes = M(768), MAP(map), .cpus = CPUS};
    struct neomm_zone_stats stats;
    if (!world_open(t, &world, &options))
        return;
    uint64_t free = neomm_pmm_free_frames(world.root);
    fill_caches(t, 0);
    EXPECT(t, cached_in(NEOMM_ZONE_NORMAL) > 2000);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
    EXPECT_EQ(t, stats.used, 0);
    EXPECT_EQ(t, stats.free_runs[NEOMM_ORDER_MAX], FRAME(M(768 - 16)) >> NEOMM_ORDER_MAX);
    fill_caches(t, 0);
    world_compare(t, &world);
    /* As an interrupt finds it that came while its CPU was inside its cache. */
    fill_caches(t, 0);
    struct neomm__frame_cache *cache = neomm__cache_of(world.root->pmm, 0, NEOMM__CACHED_UNMOVABLE);
    EXPECT(t, cache->count > 0 && neomm__cache_enter(cache, 0));
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
    EXPECT_EQ(t, cached_in(NEOMM_ZONE_NORMAL), cache->count);
    EXPECT_EQ(t, stats.used, 0);
    EXPECT_EQ(t, stats.free, FRAME(M(768 - 16)));
    neomm__cache_leave(cache);
    world_close(t, &world);
}

static const uint64_t sizes[] = {16, 64, 256, 512, BIG >> 20};

/* Each kind of cache keeps a 64th of its area at most, all CPUs together, and what its list has
 * room for; on a machine of some size it does keep something. */
static void capacity(struct ktap *t)
{
    uint64_t bytes = M(t->parameter), high = bytes >= M(256) ? M(128) : 0;
    const struct neomm_boot_range map[] = {{0, bytes, U}};
    const struct world_options options = {.ram_bytes = bytes,
                                          MAP(map),
                                          .direct_bytes = bytes - high,
                                          .slots = high != 0,
                                          .cpus = CPUS};
    if (!world_open(t, &world, &options))
        return;
    for (unsigned round = 0; round < 2 && bytes >= M(256); round++) {
        uint32_t area = round ? NEOMM_ZONE_HIGH : NEOMM_ZONE_NORMAL;
        size_t share = world.root->pmm->area[area].managed / 64;
        size_t one = share / CPUS < 256 ? share / CPUS : 256;
        size_t huge = share / CPUS / 512 < 8 ? share / CPUS / 512 : 8;
        fill_caches(t, round ? NEOMM_HIGH : 0);
        EXPECT(t, cached_in(area) <= CPUS * (2 * one + huge * 512));
        EXPECT(t, cached_in(area) >= CPUS * (one + huge * 256));
        EXPECT(t, huge > 0 || cached_in(area) < 512 * CPUS);
    }
    if (bytes < M(256)) {
        uint32_t n = alloc_all(held, 0);
        EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 0);
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, n, held, NULL));
        for (uint32_t area = 0; area < NEOMM_ZONES; area++)
            EXPECT(t, cached_in(area) <= world.root->pmm->area[area].managed / 64 * 3);
    }
    world_close(t, &world);
}

/* ---- contiguous memory on request ---- */

/* A kernel that can move frames: of the frames it holds, it frees those of one block. */
struct mover {
    struct ktap *t;
    unsigned calls, reclaims, order;
    neomm_flags_t flags;
    bool moves, claims; /* it does; it says so */
    bool asks;          /* and allocates inside */
};

static struct mover mover;

static bool compact(void *context, unsigned order, neomm_flags_t flags)
{
    struct mover *m = context;
    neomm_frame_t inside;
    m->calls++;
    m->order = order;
    m->flags = flags;
    if (m->asks)
        EXPECT_EQ(m->t, neomm_pmm_alloc(world.root, 5, 0, &inside), NEOMM_E_NOMEM);
    if (m->moves) {
        uint32_t first = DMA_END + 2048;
        for (uint32_t frame = first; frame < first + (1u << order); frame += 2)
            EXPECT_OK(m->t, neomm_pmm_free(world.root, neomm_frame(frame), 0));
    }
    return m->claims;
}

static uint32_t reclaim(void *context, uint32_t frames, neomm_flags_t flags)
{
    struct mover *m = context;
    (void)frames;
    (void)flags;
    m->reclaims++;
    return 0;
}

/* Every second frame is somebody's; the DMA zone is not there. */
static bool open_fragmented(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(16), M(32), U}};
    const struct world_options options = {.ram_bytes = M(48), MAP(map)};
    if (!world_open(t, &world, &options))
        return false;
    for (uint32_t i = DMA_END; i < 3 * DMA_END; i += 2)
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(i), 1));
    mover = (struct mover){.t = t};
    neomm_pmm_set_compact(world.root, compact, &mover);
    neomm_pmm_set_reclaim(world.root, reclaim, &mover);
    return true;
}

/* `free_from`: what the mover has freed ends there. */
static void close_fragmented(struct ktap *t, uint32_t moved)
{
    for (uint32_t i = DMA_END; i < 3 * DMA_END; i += 2)
        if (i < DMA_END + 2048 || i >= DMA_END + 2048 + moved)
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(i), 0));
    world_close(t, &world);
}

static const uint64_t orders[] = {1, 2, 3, 5, 8, 9, 10};

/* Asked once, with the order and the flags, and the request succeeds. */
static void makes_a_block(struct ktap *t)
{
    unsigned order = (unsigned)t->parameter;
    neomm_frame_t frame;
    if (!open_fragmented(t))
        return;
    mover.moves = mover.claims = true;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, order, NEOMM_MOVABLE, &frame));
    EXPECT_EQ(t, frame.number, DMA_END + 2048);
    EXPECT_EQ(t, mover.calls, 1);
    EXPECT_EQ(t, mover.order, order);
    EXPECT_EQ(t, mover.flags, NEOMM_MOVABLE);
    EXPECT_EQ(t, mover.reclaims, 0);
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
    close_fragmented(t, 1u << order);
}

/* A range asks for the order that its length takes. */
static void makes_a_range(struct ktap *t)
{
    struct neomm_range_request request = {.frames = 5};
    neomm_frame_t first;
    if (!open_fragmented(t))
        return;
    mover.moves = mover.claims = true;
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_EQ(t, mover.calls, 1);
    EXPECT_EQ(t, mover.order, 3);
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 5));
    request.frames = 1025; /* no block is so large */
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &first), NEOMM_E_NOMEM);
    EXPECT_EQ(t, mover.calls, 1);
    EXPECT_EQ(t, mover.reclaims, 1);
    close_fragmented(t, 8);
}

static void not_asked(struct ktap *t)
{
    static const neomm_flags_t patient[] = {NEOMM_ATOMIC, NEOMM_NORECLAIM,
                                            NEOMM_ATOMIC | NEOMM_RESERVE};
    struct neomm_range_request request = {.frames = 4};
    neomm_frame_t frame;
    if (!open_fragmented(t))
        return;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(patient); i++) {
        for (unsigned order = 1; order <= NEOMM_ORDER_MAX; order++)
            EXPECT_EQ(t, neomm_pmm_alloc(world.root, order, patient[i], &frame), NEOMM_E_NOMEM);
        request.flags = patient[i];
        EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &frame), NEOMM_E_NOMEM);
    }
    EXPECT_EQ(t, mover.calls, 0);
    EXPECT_EQ(t, mover.reclaims, 0);
    /* Not enough frames for a block: moving them is no use, freeing some is. */
    for (uint32_t i = DMA_END + 1; i < 3 * DMA_END - 64; i += 2)
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(i), 1));
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 32);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 6, 0, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, mover.calls, 0);
    EXPECT_EQ(t, mover.reclaims, 1);
    /* A single frame needs no moving, also when there is none. */
    for (uint32_t i = 0; i < 32; i++)
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &held[i]));
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, 0, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, mover.calls, 0);
    EXPECT_EQ(t, mover.reclaims, 2);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 32, held, NULL));
    for (uint32_t i = DMA_END + 1; i < 3 * DMA_END - 64; i += 2)
        EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(i), 0));
    close_fragmented(t, 0);
}

/* It fails, and memory is reclaimed; it says that it moved and did not, and memory is reclaimed
 * all the same; it is not asked from inside itself; taken back, it is not asked. */
static void moves_in_vain(struct ktap *t)
{
    neomm_frame_t frame;
    if (!open_fragmented(t))
        return;
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 4, 0, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, mover.calls, 1);
    EXPECT_EQ(t, mover.reclaims, 1);
    mover.claims = mover.asks = true;
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 4, 0, &frame), NEOMM_E_NOMEM);
    EXPECT(t, mover.calls >= 2 && mover.calls < 20);
    EXPECT_EQ(t, mover.reclaims, 2);
    unsigned calls = mover.calls;
    neomm_pmm_set_compact(world.root, NULL, NULL);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 4, 0, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, mover.calls, calls);
    EXPECT_EQ(t, mover.reclaims, 3);
    world_fsck(t, &world);
    close_fragmented(t, 0);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(all_patterns),
    KTAP_CASE_WITH(random_patterns, densities),
    KTAP_CASE(large_numbers),
    KTAP_CASE(exact_numbers),
    KTAP_CASE(of_a_zone),
    KTAP_CASE(shares),
    KTAP_CASE_WITH(to_the_last, who_first),
    KTAP_CASE(watermarks),
    KTAP_CASE(exact_with_full_caches),
    KTAP_CASE_WITH(capacity, sizes),
    KTAP_CASE_WITH(makes_a_block, orders),
    KTAP_CASE(makes_a_range),
    KTAP_CASE(not_asked),
    KTAP_CASE(moves_in_vain),
};
KTAP_SUITE(pmm_figures, cases);
