/* Building the frame allocator at the edges: what a format reaches, the borders of zones and nodes,
 * room for the metadata to the byte, the reserve to the frame, and what an end leaves behind.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <string.h>

#define K(n)         ((uint64_t)(n) << 10)
#define M(n)         ((uint64_t)(n) << 20)
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define U            NEOMM_MEMORY_USABLE
#define BOOT         NEOMM_MEMORY_BOOT
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)

static struct world world;
static neomm_frame_t many[M(20) >> NEOMM_PAGE_SHIFT];

static const struct neomm_boot_range simple[] = {{0, M(32), U}};
static const struct world_options bare = {.ram_bytes = M(64), MAP(simple), .without_pmm = true};

/* ---- what can be addressed ---- */

/* Frames at each power of two: those below the border cost metadata, and no others do. */
static size_t size_of(struct ktap *t, unsigned powers)
{
    struct neomm_boot_range ranges[64];
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, ranges, 64);
    for (unsigned power = 20; power < powers; power++)
        EXPECT_OK(t, neomm_bootmap_add(&map, (uint64_t)1 << power, K(4), U));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    return neomm_pmm_metadata_size(world.root, &map);
}

static void formats(struct ktap *t)
{
    static const struct {
        enum neomm_format format;
        uint32_t bits, reach; /* bits of the addresses that remain; 44: the library's own limit */
    } cases[] = {
        {NEOMM_FORMAT_4LEVEL, 0, 44},  {NEOMM_FORMAT_4LEVEL, 11, 44}, {NEOMM_FORMAT_4LEVEL, 12, 12},
        {NEOMM_FORMAT_4LEVEL, 21, 21}, {NEOMM_FORMAT_4LEVEL, 30, 30}, {NEOMM_FORMAT_4LEVEL, 42, 42},
        {NEOMM_FORMAT_4LEVEL, 43, 43}, {NEOMM_FORMAT_4LEVEL, 44, 44}, {NEOMM_FORMAT_5LEVEL, 52, 44},
        {NEOMM_FORMAT_PAE, 32, 32},    {NEOMM_FORMAT_PAE, 33, 33},    {NEOMM_FORMAT_PAE, 34, 34},
        {NEOMM_FORMAT_PAE, 35, 34},    {NEOMM_FORMAT_PAE, 36, 34},    {NEOMM_FORMAT_PAE, 52, 34},
        {NEOMM_FORMAT_2LEVEL, 31, 32}, {NEOMM_FORMAT_2LEVEL, 36, 32},
    };
    if (!world_open(t, &world, &bare))
        return;
    struct neomm_layout before = world.root->layout;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(cases); i++) {
        world.root->layout.format = cases[i].format;
        world.root->layout.physical_bits = cases[i].bits;
        size_t all = size_of(t, 44), expected;
        world.root->layout.format = NEOMM_FORMAT_4LEVEL;
        world.root->layout.physical_bits = 52;
        expected = size_of(t, cases[i].reach);
        EXPECT_EQ(t, all, expected);
    }
    world.root->layout = before;
    world_close(t, &world);
}

/* One frame of a range is beyond what can be addressed, or the last is just not. */
static void last_addressable(struct ktap *t)
{
    for (uint32_t beyond = 0; beyond < 3; beyond++) {
        const struct neomm_boot_range map[] = {{0, M(16), U},
                                               {M(32) - K(8), K(8) + K(4) * beyond, U}};
        struct world_options options = bare;
        options.map = map;
        options.map_count = 2;
        if (!world_open(t, &world, &options))
            return;
        world.root->layout.physical_bits = 25;
        const char *before = sim_last_log(world.sim);
        EXPECT(t, strstr(before, "cannot be addressed") == NULL);
        size_t size = neomm_pmm_metadata_size(world.root, &world.map);
        EXPECT(t, size <= world.metadata_size);
        EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
        EXPECT_EQ(t, strstr(sim_last_log(world.sim), "cannot be addressed") != NULL, beyond > 0);
        EXPECT_EQ(t, world.root->pmm->area[NEOMM_ZONE_NORMAL].free, 2);
        world_close(t, &world);
    }
}

/* The metadata lies where it can be addressed, too. */
static void metadata_addressable(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(40), U}};
    struct world_options options = bare;
    options.map = map;
    options.carve = true;
    options.direct_bytes = M(32) + K(4);
    if (!world_open(t, &world, &options))
        return;
    world.root->layout.physical_bits = 25;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, NULL));
    uintptr_t end = (uintptr_t)neomm_direct_pointer(world.root, M(32));
    EXPECT(t, (uintptr_t)world.root->pmm < end);
    EXPECT(t, (uintptr_t)world.root->pmm + world.metadata_size <= end);
    world_close(t, &world);
}

/* ---- room for the metadata ---- */

/* To the page: the whole range serves, and nothing is left of it; a page less is not enough. */
static void exact_room(struct ktap *t)
{
    struct neomm_boot_range map[] = {{0, M(1), U}, {M(16), M(2), U}};
    struct world_options options = bare;
    options.map = map;
    options.map_count = 2;
    options.carve = true;
    if (!world_open(t, &world, &options))
        return;
    uint64_t pages = neomm__pages(world.metadata_size);
    world_close(t, &world);
    for (uint32_t less = 0; less < 2; less++) {
        map[1].length = (pages - less) << NEOMM_PAGE_SHIFT;
        if (!world_open(t, &world, &options))
            return;
        EXPECT_EQ(t, neomm__pages(world.metadata_size), pages);
        EXPECT_EQ(t, neomm_pmm_init(world.root, &world.map, NULL), less ? NEOMM_E_NOMEM : NEOMM_OK);
        if (!less) {
            const struct neomm__pmm *pmm = world.root->pmm;
            EXPECT_EQ(t, pmm->area[NEOMM_ZONE_NORMAL].free, 0);
            EXPECT_EQ(t, pmm->area[NEOMM_ZONE_NORMAL].metadata, pages);
            for (uint32_t i = 0; i < pmm->runs; i++)
                EXPECT(t, pmm->run[i].count > 0);
        }
        world_close(t, &world);
    }
}

/* The only range of a map. */
static void only_room(struct ktap *t)
{
    struct neomm_boot_range ranges[2];
    struct neomm_bootmap map;
    if (!world_open(t, &world, &bare))
        return;
    neomm_bootmap_init(&map, ranges, 2);
    EXPECT_OK(t, neomm_bootmap_add(&map, M(2), M(30), U));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    EXPECT_EQ(t, map.count, 1);
    EXPECT_OK(t, neomm_pmm_init(world.root, &map, NULL));
    uintptr_t begin = (uintptr_t)world.root->pmm;
    EXPECT(t, begin >= (uintptr_t)neomm_direct_pointer(world.root, M(2)));
    EXPECT(t, begin < (uintptr_t)neomm_direct_pointer(world.root, M(32)));
    world_close(t, &world);
}

/* What lies behind the map's entries, nodes' ranges and CPUs' nodes is nobody's. */
static void behind_lists(struct ktap *t)
{
    static const struct neomm_node_range nodes[] = {{M(32), M(32), 0}, {0, M(512), NEOMM_NODE_MAX}};
    static const struct neomm_node_range valid[] = {{M(32), M(32), 0}, {0, M(512), 3}};
    static const uint8_t cpu_node[] = {0, NEOMM_NODE_MAX}, valid_cpu[] = {0, 2};
    for (uint32_t i = 0; i < 2; i++) {
        if (!world_open(t, &world, &bare))
            return;
        world.ranges[world.map.count] = (struct neomm_boot_range){M(300), M(12800), U};
        EXPECT_EQ(t, neomm_pmm_metadata_size(world.root, &world.map), world.metadata_size);
        world.pmm.node_range = i ? valid : nodes;
        world.pmm.node_ranges = 1;
        world.pmm.cpu_node = i ? valid_cpu : cpu_node;
        EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
        EXPECT_EQ(t, world.root->pmm->nodes, 1);
        EXPECT_EQ(t, world.root->pmm->sections, 1);
        world_compare(t, &world);
        world_close(t, &world);
    }
}

/* ---- borders of zones ---- */

/* The direct map ends at the last frame, one before it, or one frame behind a block. */
static void borders_of_high(struct ktap *t)
{
    static const struct {
        uint64_t ram, direct;
        uint32_t high; /* frames */
    } cases[] = {
        {M(32), M(32), 0},        {M(32) + K(4), M(32) + K(4), 0}, {M(32), M(32) - K(4), 1024},
        {M(32) + K(4), M(32), 1}, {M(32), M(32) + K(4), 0},        {M(32), M(8), 6144},
    };
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(cases); i++) {
        const struct neomm_boot_range map[] = {{0, cases[i].ram, U}};
        const struct world_options options = {
            .ram_bytes = M(64), MAP(map), .direct_bytes = cases[i].direct, .slots = true};
        neomm_frame_t frame;
        if (!world_open(t, &world, &options))
            return;
        const struct neomm__pmm *pmm = world.root->pmm;
        EXPECT_EQ(t, pmm->area[NEOMM_ZONE_HIGH].free, cases[i].high);
        EXPECT_EQ(t, pmm->high, cases[i].high > 0);
        EXPECT_EQ(t, (uintptr_t)pmm->taken - (uintptr_t)pmm->caches, neomm__cache_bytes(pmm->high));
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_HIGH, &frame));
        EXPECT_EQ(t, frame.number >= FRAME(cases[i].ram) - cases[i].high, cases[i].high > 0);
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
        world_compare(t, &world);
        world_close(t, &world);
    }
}

/* Memory for later that begins or ends a frame from a border of zones, on either side of it. */
static void reserved_at_borders(struct ktap *t)
{
    static const uint64_t borders[] = {M(16), M(24)};
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t begin = 0; begin <= 4; begin++)
            for (uint32_t end = begin; end <= 4; end++) {
                uint64_t from = borders[i] - K(8) + K(4) * begin;
                uint64_t to = borders[i] - K(8) + K(4) * end;
                const struct neomm_boot_range map[] = {
                    {0, from, U}, {from, to - from, BOOT}, {to, M(32) - to, U}};
                const struct world_options options = {
                    .ram_bytes = M(32), MAP(map), .direct_bytes = M(24), .slots = true};
                if (!world_open(t, &world, &options))
                    return;
                world_compare(t, &world);
                EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), end - begin);
                world_mark(&world, FRAME(from), end - begin, WORLD_FREE);
                world_compare(t, &world);
                world_close(t, &world);
            }
}

/* Memory for later just before the last frame, or to the end. */
static void reserved_at_the_end(struct ktap *t)
{
    for (uint32_t behind = 0; behind < 3; behind++) {
        uint64_t to = M(32) - K(4) * behind;
        const struct neomm_boot_range map[] = {
            {0, M(31), U}, {M(31), to - M(31), BOOT}, {to, M(32) - to, U}};
        const struct world_options options = {.ram_bytes = M(32), MAP(map)};
        if (!world_open(t, &world, &options))
            return;
        world_compare(t, &world);
        world_close(t, &world);
    }
}

/* ---- nodes ---- */

/* A section belongs to the node of a range that touches its first byte or its last, and to none
 * that ends before it or begins behind it. */
static void borders_of_nodes(struct ktap *t)
{
    static const struct {
        struct neomm_node_range range;
        uint32_t frames; /* of the second section, that are the node's */
    } cases[] = {
        {{M(128), 1, 1}, FRAME(M(4))},
        {{M(256) - 1, 1, 1}, FRAME(M(4))},
        {{M(128) - 1, 1, 1}, 0},
        {{M(256), 1, 1}, 0},
        {{M(128), 0, 1}, 0},
        {{M(100), M(28), 1}, 0},
        {{M(100), M(28) + 1, 1}, FRAME(M(4))},
        {{M(256) - 2, M(9), 1}, FRAME(M(4))},
    };
    static const struct neomm_boot_range map[] = {{0, M(4), U}, {M(130), M(4), U}};
    const struct world_options options = {.ram_bytes = M(136), MAP(map), .without_pmm = true};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(cases); i++) {
        struct neomm_zone_stats stats;
        if (!world_open(t, &world, &options))
            return;
        world.pmm.node_range = &cases[i].range;
        world.pmm.node_ranges = 1;
        EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
        neomm_pmm_node_stats(world.root, 1, NEOMM_ZONE_NORMAL, &stats);
        EXPECT_EQ(t, stats.free, cases[i].frames);
        world_close(t, &world);
    }
}

/* Reserved memory over the border of two nodes, a frame more on either side; and the last node has
 * all zones. */
static void reserved_of_nodes(struct ktap *t)
{
    for (uint32_t before = 0; before < 3; before++)
        for (uint32_t behind = 0; behind < 3; behind++) {
            uint64_t from = M(128) - K(4) * before, to = M(128) + K(4) * behind;
            const struct neomm_boot_range map[] = {
                {0, from, U}, {from, to - from, BOOT}, {to, M(160) - to, U}};
            const struct neomm_node_range range = {M(128), M(128), NEOMM_NODE_MAX - 1};
            const struct world_options options = {.ram_bytes = M(160),
                                                  MAP(map),
                                                  .direct_bytes = M(148),
                                                  .slots = true,
                                                  .without_pmm = true};
            struct neomm_zone_stats stats;
            neomm_frame_t frame;
            if (!world_open(t, &world, &options))
                return;
            world.pmm.node_range = &range;
            world.pmm.node_ranges = 1;
            EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
            neomm_pmm_node_stats(world.root, NEOMM_NODE_MAX - 1, NEOMM_ZONE_NORMAL, &stats);
            EXPECT_EQ(t, stats.reserved, behind);
            neomm_pmm_node_stats(world.root, 0, NEOMM_ZONE_NORMAL, &stats);
            EXPECT_EQ(t, stats.reserved, before);
            EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_HIGH, &frame));
            EXPECT(t, frame.number >= FRAME(M(148)));
            EXPECT_EQ(t, neomm_pmm_fini(world.root), NEOMM_E_BUSY);
            EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
            world_compare(t, &world);
            world_close(t, &world);
        }
}

/* All frames of all zones of as many nodes as there may be, in vain, and then not. */
static void most_nodes(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(4), U}, {M(128), M(16), U}};
    static const struct neomm_node_range range = {M(128), M(128), NEOMM_NODE_MAX - 1};
    const struct world_options options = {.ram_bytes = M(144),
                                          MAP(map),
                                          .direct_bytes = M(136),
                                          .slots = true,
                                          .cpus = 2,
                                          .without_pmm = true};
    neomm_frame_t frame;
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = &range;
    world.pmm.node_ranges = 1;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    uint32_t all = (uint32_t)neomm_pmm_free_frames(world.root);
    EXPECT_EQ(t, neomm_pmm_alloc_bulk(world.root, all + 1, NEOMM_HIGH, many), NEOMM_E_NOMEM);
    world_compare(t, &world);
    sim_bind(world.sim, 1); /* whose cache has some of them */
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    sim_bind(world.sim, 0);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, all, NEOMM_HIGH, many));
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, all, many, NULL));
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        EXPECT_EQ(t, neomm_pmm_watermark(world.root, (enum neomm_zone)zone), NEOMM_WATERMARK_HIGH);
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- the reserve ---- */

/* Exact shares where the whole has 16 bits, and half of all is the most. */
static void shares(struct ktap *t)
{
    static const uint32_t wholes[] = {65534, 65535, 65536, 65538};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(wholes); i++)
        for (uint32_t reserve = 30001; reserve <= 33001; reserve += 250) {
            struct neomm_boot_range map[] = {{M(1), M(3), U}, {M(16), M(16), U}};
            struct world_options options = {.ram_bytes = M(512), MAP(map), .without_pmm = true};
            if (!world_open(t, &world, &options)) /* how many are the image's? */
                return;
            EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
            uint64_t low = world.root->pmm->area[NEOMM_ZONE_DMA].free;
            world_close(t, &world);
            map[1].length = (wholes[i] - low) << NEOMM_PAGE_SHIFT;
            options.reserve_frames = reserve;
            options.without_pmm = false;
            if (!world_open(t, &world, &options))
                return;
            const struct neomm__pmm *pmm = world.root->pmm;
            EXPECT_EQ(t, neomm_pmm_free_frames(world.root), wholes[i]);
            uint64_t want = reserve < wholes[i] / 2 ? reserve : wholes[i] / 2;
            EXPECT_EQ(t, pmm->reserve, want);
            uint64_t part = low, whole = wholes[i];
            while (whole > UINT16_MAX) {
                part /= 2;
                whole /= 2;
            }
            EXPECT_EQ(t, pmm->area[NEOMM_ZONE_DMA].minimum, want * part / whole);
            EXPECT_EQ(t, pmm->area[NEOMM_ZONE_NORMAL].minimum, want - want * part / whole);
            world_close(t, &world);
        }
}

/* To the frame below a half of what there is, that, and above. */
static void half_reserved(struct ktap *t)
{
    struct world_options options = {.ram_bytes = M(64), MAP(simple)};
    if (!world_open(t, &world, &options))
        return;
    uint32_t half = (uint32_t)neomm_pmm_free_frames(world.root) / 2;
    world_close(t, &world);
    for (uint32_t reserve = half - 2; reserve <= half + 2; reserve++) {
        options.reserve_frames = reserve;
        if (!world_open(t, &world, &options))
            return;
        EXPECT_EQ(t, world.root->pmm->reserve, reserve < half ? reserve : half);
        world_close(t, &world);
    }
}

/* ---- start and end ---- */

static void direct_frames(struct ktap *t)
{
    static const uint32_t frames[] = {8192, 1u << 20, UINT32_MAX - 1, UINT32_MAX};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(frames); i++) {
        if (!world_open(t, &world, &bare))
            return;
        size_t before = world.root->layout.direct.size;
        if ((uint64_t)frames[i] << NEOMM_PAGE_SHIFT < SIZE_MAX) {
            world.root->layout.direct.size = (size_t)((uint64_t)frames[i] << NEOMM_PAGE_SHIFT);
            EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
            EXPECT_EQ(t, world.root->frames.direct, frames[i]);
            EXPECT_OK(t, neomm_pmm_fini(world.root));
        }
        world.root->layout.direct.size = before;
        world_close(t, &world);
    }
}

static uint32_t reclaim_none(void *context, uint32_t frames, neomm_flags_t flags)
{
    (void)context;
    (void)frames;
    (void)flags;
    return 0;
}

/* No layer above may be there; afterwards nothing is. */
static void ends(struct ktap *t)
{
    static const struct neomm__layer_ops above = {0};
    if (!world_open(t, &world, &bare))
        return;
    struct neomm *root = world.root;
    EXPECT_OK(t, neomm_pmm_init(root, &world.map, &world.pmm));
    neomm_pmm_set_reclaim(root, reclaim_none, NULL);
    EXPECT(t, root->reclaim == reclaim_none);
    for (unsigned layer = NEOMM__LAYER_PMM + 1; layer < NEOMM__LAYERS; layer++) {
        root->layer[layer] = &above;
        EXPECT_EQ(t, neomm_pmm_fini(root), NEOMM_E_BUSY);
        root->layer[layer] = NULL;
    }
    EXPECT_OK(t, neomm_pmm_fini(root));
    EXPECT(t, root->pmm == NULL && root->reclaim == NULL);
    EXPECT(t, root->layer[NEOMM__LAYER_PMM] == NULL);
    EXPECT(t, root->frames.table == NULL && root->frames.section == NULL);
    EXPECT_EQ(t, root->frames.sections, 0);
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(formats),
    KTAP_CASE(last_addressable),
    KTAP_CASE(metadata_addressable),
    KTAP_CASE(exact_room),
    KTAP_CASE(only_room),
    KTAP_CASE(behind_lists),
    KTAP_CASE(borders_of_high),
    KTAP_CASE(reserved_at_borders),
    KTAP_CASE(reserved_at_the_end),
    KTAP_CASE(borders_of_nodes),
    KTAP_CASE(reserved_of_nodes),
    KTAP_CASE(most_nodes),
    KTAP_CASE(shares),
    KTAP_CASE(half_reserved),
    KTAP_CASE(direct_frames),
    KTAP_CASE(ends),
};
KTAP_SUITE(pmm_init, cases);
