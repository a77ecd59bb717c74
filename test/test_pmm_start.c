/* Start and end of the frame allocator: its metadata, memory of the boot, maps without memory or
 * with too much of it, and two allocators in one machine.
 * SPDX-License-Identifier: MIT */
#include "pmm_maps.h"

#include "pmm/pmm_priv.h"

#include <string.h>

static struct world world;

static neomm_frame_t alloc(struct ktap *t, unsigned order, neomm_flags_t flags)
{
    neomm_frame_t frame;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, order, flags, &frame));
    return frame;
}

/* ---- start and end ---- */

static void boot_memory(struct ktap *t)
{
    if (!world_open(t, &world, &kinds))
        return;
    uint64_t before = neomm_pmm_free_frames(world.root);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(2))), 1), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), FRAME(M(1) + K(64)));
    world_mark(&world, FRAME(M(2)), FRAME(M(1) + K(64)), WORLD_FREE);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), before + FRAME(M(1) + K(64)));
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), 0);
    world_compare(t, &world);
    world_fsck(t, &world);
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(2))), FRAME(M(1) + K(64))));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(2))), FRAME(M(1) + K(64))));
    world_close(t, &world);
}

static void starts_and_ends(struct ktap *t)
{
    struct world_options options = plain;
    struct neomm_pmm_options pmm;
    neomm_frame_t frame;
    options.without_pmm = true;
    if (!world_open(t, &world, &options))
        return;
    struct neomm *root = world.root;
    EXPECT_EQ(t, neomm_pmm_fini(root), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_alloc(root, 0, 0, &frame), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_free(root, neomm_frame(1), 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_free_frames(root), 0);
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(root), 0);
    world.map.resolved = false;
    EXPECT_EQ(t, neomm_pmm_init(root, &world.map, &world.pmm), NEOMM_E_INVALID);
    world.map.resolved = true;
    pmm = world.pmm;
    pmm.metadata_size--;
    EXPECT_EQ(t, neomm_pmm_init(root, &world.map, &pmm), NEOMM_E_NOMEM);
    pmm = world.pmm;
    pmm.metadata = (uint8_t *)pmm.metadata + 8;
    EXPECT_EQ(t, neomm_pmm_init(root, &world.map, &pmm), NEOMM_E_ALIGN);
    EXPECT(t, root->pmm == NULL && root->frames.table == NULL);
    EXPECT_OK(t, neomm_pmm_init(root, &world.map, &world.pmm));
    EXPECT_EQ(t, neomm_pmm_init(root, &world.map, &world.pmm), NEOMM_E_EXISTS);
    frame = alloc(t, 4, 0);
    EXPECT_EQ(t, neomm_pmm_fini(root), NEOMM_E_BUSY);
    EXPECT_OK(t, neomm_pmm_free(root, frame, 4));
    const struct neomm__layer_ops above = {0};
    root->layer[NEOMM__LAYER_HEAP] = &above;
    EXPECT_EQ(t, neomm_pmm_fini(root), NEOMM_E_BUSY);
    root->layer[NEOMM__LAYER_HEAP] = NULL;
    EXPECT_OK(t, neomm_pmm_fini(root));
    EXPECT_OK(t, neomm_pmm_init(root, &world.map, &world.pmm));
    world_close(t, &world);
}

/* A map without usable memory, and one whose usable memory has no room for the metadata. */
static void hopeless_maps(struct ktap *t)
{
    static const struct neomm_boot_range none[] = {{M(2), M(2), NEOMM_MEMORY_BOOT}};
    static const struct neomm_boot_range little[] = {{M(2), K(64), U}, {M(3), K(64), U}};
    struct world_options options = {.ram_bytes = M(8), MAP(none), .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, neomm_pmm_init(world.root, &world.map, &world.pmm), NEOMM_E_INVALID);
    world_close(t, &world);
    options =
        (struct world_options){.ram_bytes = M(8), MAP(little), .without_pmm = true, .carve = true};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, neomm_pmm_init(world.root, &world.map, NULL), NEOMM_E_NOMEM);
    world_close(t, &world);
}

/* Nothing is written to descriptors that are known to be zero; all others are cleared. */
static void metadata_touched(struct ktap *t)
{
    struct world_options options = plain;
    options.without_pmm = true;
    for (int zeroed_before = 0; zeroed_before < 2; zeroed_before++) {
        if (!world_open(t, &world, &options))
            return;
        size_t bytes = NEOMM__SECTION_FRAMES * sizeof(struct neomm__frame), same = 0;
        size_t rest = world.metadata_size - bytes;
        memset(world.metadata, zeroed_before ? 0 : 0xa5, rest);
        memset((uint8_t *)world.metadata + rest, 0xa5, bytes);
        world.pmm.metadata_zeroed = zeroed_before != 0;
        EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
        const uint8_t *table = (const uint8_t *)world.root->frames.table;
        for (size_t i = 0; i < bytes; i++)
            same += table[i] == (zeroed_before ? 0xa5 : 0);
        EXPECT_EQ(t, same, bytes);
        memset(world.root->frames.table, 0, bytes);
        world_close(t, &world);
    }
}

/* Metadata follows the sections with RAM, and what the format cannot reach costs nothing. */
static void metadata_sizes(struct ktap *t)
{
    static struct neomm_boot_range ranges[16];
    struct world_options options = plain;
    struct neomm_bootmap map;
    options.without_pmm = true;
    if (!world_open(t, &world, &options))
        return;
    size_t section = NEOMM__SECTION_FRAMES * sizeof(struct neomm__frame), sizes[4];
    static const struct {
        enum neomm_format format;
        uint32_t bits;
        uint64_t second, third;
    } cases[4] = {{NEOMM_FORMAT_4LEVEL, 46, M(4096), M(8192)},
                  {NEOMM_FORMAT_4LEVEL, 33, M(4096), M(8192)},
                  {NEOMM_FORMAT_2LEVEL, 40, M(4000), M(4096)},
                  {NEOMM_FORMAT_PAE, 40, M(16000), M(16384)}};
    for (uint32_t i = 0; i < 4; i++) {
        world.root->layout.format = cases[i].format;
        world.root->layout.physical_bits = cases[i].bits;
        neomm_bootmap_init(&map, ranges, 16);
        EXPECT_OK(t, neomm_bootmap_add(&map, M(1), M(8), U));
        EXPECT_OK(t, neomm_bootmap_add(&map, cases[i].second, M(1), U));
        EXPECT_OK(t, neomm_bootmap_add(&map, cases[i].third, M(1), U));
        EXPECT_OK(t, neomm_bootmap_add(&map, M(100000), M(1), NEOMM_MEMORY_RESERVED));
        EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
        sizes[i] = neomm_pmm_metadata_size(world.root, &map);
    }
    EXPECT(t, sizes[0] > 3 * section && sizes[0] < 3 * section + section / 16);
    for (uint32_t i = 1; i < 4; i++)
        EXPECT(t, sizes[i] > 2 * section && sizes[i] < 2 * section + section / 16);
    sim_layout(world.sim, &world.root->layout);
    world_close(t, &world);
}

/* Memory that the format cannot reach is neither handed out, nor reclaimed, nor built upon. */
static void unreachable(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {
        {M(2), M(20), U}, {M(5000), M(20), U}, {M(6000), M(1), NEOMM_MEMORY_BOOT}};
    const struct world_options options = {
        .ram_bytes = M(32), MAP(map), .carve = true, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    world.root->layout.physical_bits = 32;
    if (sizeof(size_t) == 8)
        world.root->layout.direct.size = (size_t)M(8192);
    size_t metadata = neomm__pages(neomm_pmm_metadata_size(world.root, &world.map));
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, NULL));
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), FRAME(M(20)) - metadata);
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), 0);
    world_close(t, &world);
}

/* The last frame that a frame number can name lies below 16 TiB and is given up for it. */
static void largest_number(struct ktap *t)
{
    static const struct neomm_boot_range top[] = {{((uint64_t)1 << 44) - M(1), M(1), U}};
    struct neomm_bootmap map;
    struct neomm_boot_range ranges[8];
    if (sizeof(size_t) < 8) {
        ktap_skip(t, "i386 serves 16 GiB");
        return;
    }
    struct world_options options = plain;
    options.without_pmm = true;
    if (!world_open(t, &world, &options))
        return;
    world.root->layout.physical_bits = 46;
    neomm_bootmap_init(&map, ranges, 8);
    EXPECT_OK(t, neomm_bootmap_add(&map, top[0].base, top[0].length, U));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    EXPECT(t, neomm_pmm_metadata_size(world.root, &map) <= world.metadata_size + M(1));
    static uint8_t buffer[M(3)] __attribute__((aligned(64)));
    const struct neomm_pmm_options pmm = {.metadata = buffer, .metadata_size = sizeof(buffer)};
    EXPECT_OK(t, neomm_pmm_init(world.root, &map, &pmm));
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), FRAME(M(1)) - 1);
    world_close(t, &world);
}

/* Two allocators over two halves of one machine know nothing of each other. */
static void two_roots(struct ktap *t)
{
    static uint8_t memory[65536] __attribute__((aligned(64)));
    static uint8_t metadata[M(3)] __attribute__((aligned(64)));
    static const struct neomm_boot_range lower[] = {{0, M(16), U}};
    struct world_options options = {.ram_bytes = M(32), MAP(lower)};
    struct neomm_boot_range ranges[8];
    struct neomm_bootmap map;
    struct neomm *other;
    if (!world_open(t, &world, &options))
        return;
    const struct neomm_options root = {.layout = world.root->layout, .cpus = 1};
    const struct neomm_pmm_options pmm = {.metadata = metadata, .metadata_size = sizeof(metadata)};
    ASSERT_OK(t, neomm_init(memory, sizeof(memory), &root, &other));
    neomm_bootmap_init(&map, ranges, 8);
    EXPECT_OK(t, neomm_bootmap_add(&map, M(16), M(16), U));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    ASSERT_OK(t, neomm_pmm_init(other, &map, &pmm));
    for (uint32_t i = 0; i < 200; i++) {
        neomm_frame_t a = alloc(t, i % 3, 0), b;
        EXPECT_OK(t, neomm_pmm_alloc(other, i % 3, 0, &b));
        EXPECT(t, a.number < FRAME(M(16)) && b.number >= FRAME(M(16)));
        EXPECT_EQ(t, neomm_pmm_free(world.root, b, i % 3), NEOMM_E_FOREIGN);
        EXPECT(t, neomm_pmm_free(other, a, i % 3) == NEOMM_E_FOREIGN);
        EXPECT_OK(t, neomm_pmm_free(world.root, a, i % 3));
        EXPECT_OK(t, neomm_pmm_free(other, b, i % 3));
    }
    EXPECT_EQ(t, neomm_fsck(other, NULL, NULL), 0);
    EXPECT_OK(t, neomm_pmm_fini(other));
    EXPECT_OK(t, neomm_fini(other));
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(unreachable),    KTAP_CASE(boot_memory),      KTAP_CASE(starts_and_ends),
    KTAP_CASE(hopeless_maps),  KTAP_CASE(metadata_touched), KTAP_CASE(metadata_sizes),
    KTAP_CASE(largest_number), KTAP_CASE(two_roots),
};
KTAP_SUITE(pmm_start, cases);
