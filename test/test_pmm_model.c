/* The frame allocator against a naive model: random histories on machines of every shape, and
 * all small pools.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <string.h>

#define K(n)       ((uint64_t)(n) << 10)
#define M(n)       ((uint64_t)(n) << 20)
#define U          NEOMM_MEMORY_USABLE
#define BLOCKS_MAX 70000
#define STEPS      (NEOMM_INSTRUMENTED ? 16000 : 200000)

static struct world world;

struct block {
    uint32_t frame;
    uint8_t order;
};
static struct block blocks[BLOCKS_MAX];
static uint32_t block_count;

/* ---- the machines ---- */

static const struct neomm_boot_range plain[] = {{0, M(8), U}};
static const struct neomm_boot_range across[] = {{0, K(640), U}, {M(1), M(39), U}};
static const struct neomm_boot_range holes[] = {{0, K(636), U},
                                                {M(1), M(3) + K(4), U},
                                                {M(4) + K(12), K(512), U},
                                                {M(5) - K(8), M(1), U},
                                                {M(9), K(4), U},
                                                {M(14), M(5), U},
                                                {M(15), K(4), NEOMM_MEMORY_BAD},
                                                {M(20), M(3), U}};
/* Sections: 0 | - | 2, 3 | - | 5 */
static const struct neomm_boot_range sparse[] = {
    {0, M(3), U}, {M(256) + K(8), M(1), U}, {M(383), M(2), U}, {M(700), M(6), U}};
static const struct neomm_boot_range tiny[] = {{0, M(2), U}};
static const struct neomm_boot_range high_up[] = {{M(32), M(16), U}, {M(64), M(4) + K(4), U}};

#define MAP(map) map, (uint32_t)NEOMM__COUNT_OF(map)
static const struct world_options machines[] = {
    {M(8), MAP(plain), .direct_bytes = 0},
    {M(40), MAP(across), .direct_bytes = 0},
    {M(24), MAP(holes), .direct_bytes = 0},
    {M(708), MAP(sparse), .direct_bytes = 0},
    {M(40), MAP(across), .direct_bytes = M(24), .slots = true},
    {M(40), MAP(across), .direct_bytes = M(29) + K(52), .slots = true},
    {M(40), MAP(across), .direct_bytes = M(24), .slots = false},
    {M(40), MAP(across), .direct_bytes = M(5) + K(4), .slots = true},
    {M(2), MAP(tiny), .direct_bytes = 0},
    {M(80), MAP(high_up), .direct_bytes = 0},
    {M(40), MAP(across), .direct_bytes = 0, .carve = true},
    {M(40), MAP(across), .direct_bytes = M(30), .slots = true, .carve = true},
};
static const uint64_t machine_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

/* ---- what the model expects ---- */

static int top_zone(neomm_flags_t flags)
{
    if (flags & NEOMM_DMA)
        return NEOMM_ZONE_DMA;
    return (flags & NEOMM_HIGH) && world.options.slots ? NEOMM_ZONE_HIGH : NEOMM_ZONE_NORMAL;
}

static int zone_of(uint32_t frame)
{
    int zone = NEOMM_ZONE_DMA;
    while (frame >= world.border[zone])
        zone++;
    return zone;
}

static void remember(uint32_t frame, unsigned order)
{
    blocks[block_count++] = (struct block){frame, (uint8_t)order};
    world_mark(&world, frame, 1u << order, WORLD_USED);
}

/* A block must be free, aligned, and from the highest zone that has one. */
static void step_alloc(struct ktap *t, uint64_t *seed)
{
    static const neomm_flags_t choices[] = {0,
                                            0,
                                            NEOMM_HIGH,
                                            NEOMM_HIGH | NEOMM_MOVABLE,
                                            NEOMM_DMA,
                                            NEOMM_ATOMIC,
                                            NEOMM_NORECLAIM,
                                            NEOMM_DMA | NEOMM_HIGH};
    neomm_flags_t flags = choices[world_below(seed, 8)];
    unsigned order = world_below(seed, 4) ? world_below(seed, 4) : world_below(seed, 11);
    neomm_frame_t frame;
    neomm_status status = neomm_pmm_alloc(world.root, order, flags, &frame);
    int zone = top_zone(flags);
    if (status == NEOMM_OK) {
        uint32_t first = frame.number, last = first + (1u << order) - 1;
        ASSERT(t, NEOMM__ALIGNED(first, 1u << order) && world_is_free(&world, first, 1u << order));
        EXPECT(t, zone_of(first) <= zone && zone_of(first) == zone_of(last));
        for (; zone > zone_of(first); zone--)
            EXPECT_EQ(t, world_blocks(&world, zone, order), 0);
        remember(first, order);
        return;
    }
    EXPECT_EQ(t, status, NEOMM_E_NOMEM);
    EXPECT_EQ(t, frame.number, 0);
    for (; zone >= 0; zone--)
        EXPECT_EQ(t, world_blocks(&world, zone, order), 0);
}

static void step_free(struct ktap *t, uint64_t *seed)
{
    if (block_count == 0)
        return;
    uint32_t at = world_below(seed, block_count);
    struct block block = blocks[at];
    blocks[at] = blocks[--block_count];
    EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(block.frame), block.order));
    world_mark(&world, block.frame, 1u << block.order, WORLD_FREE);
}

/* Anything freed at random: the status must be the one that the state of the frame calls for. */
static void step_bad_free(struct ktap *t, uint64_t *seed)
{
    uint32_t frame = world_below(seed, world.frames + 100);
    unsigned order = world_below(seed, 13);
    neomm_status want = NEOMM_E_FOREIGN;
    if (order > NEOMM_ORDER_MAX)
        want = NEOMM_E_INVALID;
    else if (frame < world.frames && world.state[frame] == WORLD_FREE)
        want = NEOMM_E_DOUBLE_FREE;
    else if (frame < world.frames && world.state[frame] == WORLD_USED)
        want = NEOMM_E_INVALID;
    for (uint32_t i = 0; want == NEOMM_E_INVALID && i < block_count; i++)
        if (blocks[i].frame == frame && blocks[i].order == order)
            return; /* that would be a good one */
    EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(frame), order), want);
}

static bool range_fits(const struct neomm_range_request *request, uint32_t first)
{
    uint32_t last = first + (request->frames - 1);
    if (request->align > 1 && first % request->align != 0)
        return false;
    if (request->boundary != 0 && first / request->boundary != last / request->boundary)
        return false;
    if (request->limit != 0 && (neomm_paddr_t)(last + 1) * NEOMM_PAGE_SIZE > request->limit)
        return false;
    return last < world.border[top_zone(request->flags)] &&
           world_is_free(&world, first, request->frames);
}

static void step_range(struct ktap *t, uint64_t *seed)
{
    struct neomm_range_request request = {
        .frames = 1 + world_below(seed, world_below(seed, 8) ? 40 : 3000),
        .align = world_below(seed, 2) ? 1u << world_below(seed, 13) : 0,
        .limit = world_below(seed, 2) ? world_below(seed, world.frames) * 4096ull + 5 : 0,
        .flags = world_below(seed, 2)   ? NEOMM_HIGH
                 : world_below(seed, 4) ? 0
                                        : NEOMM_DMA,
    };
    request.boundary = world_below(seed, 2) ? 1u << world_below(seed, 13) : 0;
    neomm_frame_t first;
    neomm_status status = neomm_pmm_alloc_range(world.root, &request, &first);
    if (request.boundary != 0 && request.boundary < request.frames) {
        EXPECT_EQ(t, status, NEOMM_E_INVALID);
    } else if (status == NEOMM_OK) {
        ASSERT(t, range_fits(&request, first.number));
        for (uint32_t i = 0; i < request.frames; i++)
            remember(first.number + i, 0);
    } else {
        EXPECT_EQ(t, status, NEOMM_E_NOMEM);
        for (uint32_t frame = 0; frame < world.frames; frame++)
            ASSERT(t, world.state[frame] != WORLD_FREE || !range_fits(&request, frame));
    }
}

static void step_claim(struct ktap *t, uint64_t *seed)
{
    uint32_t first = world_below(seed, world.frames + 50), count = 1 + world_below(seed, 20);
    bool free = world_is_free(&world, first, count);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(first), count),
              free ? NEOMM_OK : NEOMM_E_BUSY);
    for (uint32_t i = 0; free && i < count; i++)
        remember(first + i, 0);
}

/* Single frames at random, all or none, and freed again in one go. */
static void step_bulk(struct ktap *t, uint64_t *seed)
{
    neomm_frame_t frames[64];
    uint32_t count = world_below(seed, 65), done = 0;
    if (neomm_pmm_alloc_bulk(world.root, count, NEOMM_HIGH, frames) != NEOMM_OK) {
        uint32_t free = world_count(&world, 0, world.border[top_zone(NEOMM_HIGH)], WORLD_FREE);
        EXPECT(t, free < count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        EXPECT(t, world_is_free(&world, frames[i].number, 1));
        world_mark(&world, frames[i].number, 1, WORLD_USED);
    }
    for (uint32_t i = 0; i < count; i++)
        world_mark(&world, frames[i].number, 1, WORLD_FREE);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, count, frames, &done));
    EXPECT_EQ(t, done, count);
}

/* `greed` of 16 steps that change something allocate: fills the machine up or empties it. */
static void step(struct ktap *t, uint64_t *seed, uint32_t greed)
{
    uint32_t choice = world_below(seed, 64);
    if (choice == 0)
        step_range(t, seed);
    else if (choice < 3)
        step_claim(t, seed);
    else if (choice < 5)
        step_bulk(t, seed);
    else if (choice < 7)
        step_bad_free(t, seed);
    else if (world_below(seed, 16) < greed && block_count < BLOCKS_MAX - 4000)
        step_alloc(t, seed);
    else
        step_free(t, seed);
}

static void histories(struct ktap *t)
{
    uint64_t seed = 1000 + t->parameter;
    block_count = 0;
    if (!world_open(t, &world, &machines[t->parameter]))
        return;
    world_compare(t, &world);
    for (uint32_t i = 0; i < STEPS && t->failures == 0; i++) {
        uint32_t greed = i % 4000 < 2500 ? 11 : 5;
        step(t, &seed, greed);
        if (i % 4000 == 2499 || i % 20000 == 0) {
            world_compare(t, &world);
            world_fsck(t, &world);
        }
    }
    while (block_count > 0 && t->failures == 0)
        step_free(t, &seed);
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- all small pools ---- */

#define POOL_RUNS 256
#define POOL_BASE ((uint32_t)5120) /* frame number: 20 MiB, a multiple of 1024 */

/* The frames of a pool: `count` from POOL_BASE on, with holes by pattern. */
static bool pool_has(uint32_t frame, uint32_t pattern)
{
    switch (pattern) {
    case 0:
        return true;
    case 1:
        return frame % 2 == 0;
    case 2:
        return frame % 7 != 3;
    case 3:
        return (frame & 16) == 0;
    case 4:
        return frame % 64 >= 5;
    default:
        return (neomm__mix(frame * 16 + pattern) & 3) != 0;
    }
}

static bool pool_open(struct ktap *t, uint32_t count, uint32_t pattern)
{
    static struct neomm_boot_range ranges[3 * POOL_RUNS + 16];
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, ranges, NEOMM__COUNT_OF(ranges));
    memset(world.state, WORLD_NONE, POOL_BASE + 2048);
    world.frames = 0;
    for (uint32_t frame = POOL_BASE; frame < POOL_BASE + count; frame++) {
        if (!pool_has(frame, pattern))
            continue;
        EXPECT_OK(t, neomm_bootmap_add(&map, (neomm_paddr_t)frame << 12, 4096, U));
        world_mark(&world, frame, 1, WORLD_FREE);
        world.frames = frame + 1;
    }
    world.border[0] = world.frames < 4096 ? world.frames : 4096;
    world.border[1] = world.border[2] = world.frames;
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    neomm_status status = neomm_pmm_init(world.root, &map, &world.pmm);
    EXPECT_EQ(t, status, world.frames ? NEOMM_OK : NEOMM_E_INVALID);
    return status == NEOMM_OK;
}

/* Every order is handed out as often as the model has blocks of it, and not once more. */
static void pool_orders(struct ktap *t)
{
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
        uint32_t want = world_blocks(&world, NEOMM_ZONE_NORMAL, order), got = 0;
        neomm_frame_t frame, frames[256];
        while (neomm_pmm_alloc(world.root, order, 0, &frame) == NEOMM_OK && got < 256) {
            EXPECT(t, world_is_free(&world, frame.number, 1u << order));
            world_mark(&world, frame.number, 1u << order, WORLD_USED);
            frames[got++] = frame;
        }
        EXPECT_EQ(t, got, want);
        for (uint32_t i = 0; i < got; i++) {
            EXPECT_OK(t, neomm_pmm_free(world.root, frames[i], order));
            world_mark(&world, frames[i].number, 1u << order, WORLD_FREE);
        }
    }
}

/* Every length of range that the model has, and none that it has not. */
static void pool_ranges(struct ktap *t, uint32_t count)
{
    uint32_t longest = 0, run = 0;
    for (uint32_t frame = POOL_BASE; frame < POOL_BASE + count; frame++) {
        run = world.state[frame] == WORLD_FREE ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    for (uint32_t length = 1; length <= longest + 1; length++) {
        struct neomm_range_request request = {.frames = length};
        neomm_frame_t first;
        neomm_status status = neomm_pmm_alloc_range(world.root, &request, &first);
        EXPECT_EQ(t, status, length <= longest ? NEOMM_OK : NEOMM_E_NOMEM);
        if (status != NEOMM_OK)
            continue;
        EXPECT(t, world_is_free(&world, first.number, length));
        EXPECT_OK(t, neomm_pmm_free_range(world.root, first, length));
    }
}

static const uint64_t patterns[] = {0, 1, 2, 3, 4, 5, 6};

/* That frees leave nothing in the descriptors: what holes have is zero anyway. */
static bool pool_clean(void)
{
    const uint8_t *table = (const uint8_t *)world.root->frames.table;
    size_t bytes = NEOMM__SECTION_FRAMES * sizeof(struct neomm__frame);
    return table[0] == 0 && memcmp(table, table + 1, bytes - 1) == 0;
}

static void small_pools(struct ktap *t)
{
    static const struct neomm_boot_range any[] = {{M(16), M(8), U}};
    const struct world_options options = {
        .ram_bytes = M(32), .map = any, .map_count = 1, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    world_give_metadata(&world);
    world.pmm.metadata_size += POOL_RUNS * 64;
    world_take_metadata(&world, world.pmm.metadata_size);
    world.pmm.metadata = world.metadata;
    for (uint32_t count = 1; count <= 256 && t->failures == 0; count++) {
        if (!pool_open(t, count, (uint32_t)t->parameter))
            continue;
        pool_orders(t);
        if (count % 16 == 0 || count < 40)
            pool_ranges(t, count);
        if (count % 32 == 0 || count < 10) {
            world_compare(t, &world);
            world_fsck(t, &world);
        }
        EXPECT(t, pool_clean());
        EXPECT_OK(t, neomm_pmm_fini(world.root));
    }
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(histories, machine_numbers),
    KTAP_CASE_WITH(small_pools, patterns),
};
KTAP_SUITE(pmm_model, cases);
