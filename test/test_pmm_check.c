/* What the consistency check of the frame allocator finds: whatever is wrong, wherever it is, and
 * though nothing else is.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <string.h>

#define M(n)         ((uint64_t)(n) << 20)
#define K(n)         ((uint64_t)(n) << 10)
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define U            NEOMM_MEMORY_USABLE
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)

static const struct neomm_boot_range simple[] = {{0, M(32), U}};
static const struct world_options plain = {.ram_bytes = M(32), MAP(simple)};
static struct world world;

static size_t findings(void)
{
    return neomm_fsck(world.root, NULL, NULL);
}

static struct neomm__frame *frame_at(uint32_t number)
{
    return neomm__frame(world.root, neomm_frame(number));
}

/* ---- frames that got lost ---- */

/* All counts agree, and nobody has the frames: found as well where no descriptor of the tree is
 * looked at, for nothing was allocated from it yet. */
static void lost(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {
        {0, M(4), U}, {M(126), K(4), U}, {M(127), K(8), U}, {M(128) - K(4), K(8), U}};
    const struct world_options options = {.ram_bytes = M(132), MAP(map)};
    static const struct {
        uint32_t first, count;
    } rows[] = {{FRAME(M(126)), 1},     {FRAME(M(127)), 1},     {FRAME(M(127)) + 1, 1},
                {FRAME(M(127)), 2},     {FRAME(M(128)) - 1, 1}, {FRAME(M(128)), 1},
                {FRAME(M(128)) - 1, 2}, {FRAME(M(4)) - 1, 1},   {1, 1}};
    size_t next;
    if (!world_open(t, &world, &options))
        return;
    for (uint32_t touched = 0; touched < 2; touched++)
        for (uint32_t i = 0; i < NEOMM__COUNT_OF(rows); i++) {
            size_t bit = neomm__bit_of(world.root, neomm_frame(rows[i].first));
            if (touched)
                neomm__tree_touch(world.root->pmm, bit);
            EXPECT_EQ(t, findings(), 0);
            EXPECT(t, neomm__area_take_exact(world.root, bit, rows[i].count, 0, true, &next));
            EXPECT(t, findings() > 0);
            neomm__area_release(world.root->pmm, bit, rows[i].count);
            EXPECT_EQ(t, findings(), 0);
        }
    world_close(t, &world);
}

static void open_trees(struct ktap *t, const struct neomm_boot_range *map, uint32_t sections,
                       uint64_t direct_bytes, uint32_t trees)
{
    const struct world_options options = {.ram_bytes = M(128) * sections,
                                          .map = map,
                                          .map_count = sections,
                                          .direct_bytes = direct_bytes,
                                          .slots = true};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, world.root->pmm->trees, trees);
    world_close(t, &world);
}

/* As many trees as there is room for, with each length of the list: what lies behind the last is
 * none. A border of zones makes one more where it cuts a section, and none where it lies between
 * two. */
static void most_trees(struct ktap *t)
{
    static struct neomm_boot_range map[18];
    if (sizeof(size_t) == 4) {
        ktap_skip(t, "needs 2 GiB of memory");
        return;
    }
    for (uint32_t sections = 1; sections <= NEOMM__COUNT_OF(map); sections++) {
        map[sections - 1] = (struct neomm_boot_range){M(128) * sections - M(66), M(4), U};
        open_trees(t, map, sections, M(128) * sections - M(64), sections + 2);
        if (sections > 1)
            open_trees(t, map, sections, M(128) * (sections - 1), sections + 1);
    }
}

/* A section whose bits were never written, though there is something in it: usable memory, or
 * descriptors that somebody used. */
static void blank(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {
        {0, M(4), U}, {M(128), M(8), U}, {M(256), M(8), NEOMM_MEMORY_HOTPLUG}};
    const struct world_options options = {.ram_bytes = M(264), MAP(map)};
    if (!world_open(t, &world, &options))
        return;
    struct neomm__pmm *pmm = world.root->pmm;
    EXPECT_EQ(t, findings(), 0);
    for (uint32_t section = 1; section < 3; section++) {
        uint32_t tree = pmm->section_tree[section];
        EXPECT_EQ(t, pmm->section_blank[section], section == 2);
        pmm->section_blank[1] = section == 1;
        pmm->tree_touched[tree] = section == 2;
        EXPECT(t, findings() > 0);
        pmm->section_blank[1] = 0;
        pmm->tree_touched[tree] = 0;
        EXPECT_EQ(t, findings(), 0);
    }
    world_close(t, &world);
}

/* ---- areas ---- */

/* Every zone of every node, the last one, too. */
static void of_each_area(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(4), U}, {M(126), M(4), U}};
    static const struct neomm_node_range range = {M(128), M(128), NEOMM_NODE_MAX - 1};
    const struct world_options options = {
        .ram_bytes = M(132), MAP(map), .direct_bytes = M(129), .slots = true, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = &range;
    world.pmm.node_ranges = 1;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (uint32_t i = 0; i < NEOMM__AREAS; i++) {
        struct neomm__area *area = &world.root->pmm->area[i];
        area->free++;
        EXPECT_EQ(t, findings(), 1);
        area->free--;
        area->managed++;
        EXPECT_EQ(t, findings(), 1);
        area->managed--;
    }
    EXPECT(t, world.root->pmm->area[NEOMM__AREAS - 1].free > 0);
    EXPECT_EQ(t, findings(), 0);
    world_close(t, &world);
}

/* ---- a snapshot ---- */

/* The allocator fills in its own part, all of it, and nothing else. */
static void own_part(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    struct world_options options = {.ram_bytes = M(32), MAP(simple)};
    options.direct_bytes = M(24);
    options.slots = true;
    if (!world_open(t, &world, &options))
        return;
    memset(&snapshot, 0xa5, sizeof(snapshot));
    neomm__pmm_ops.snapshot(world.root, &snapshot);
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats stats;
        neomm_pmm_zone_stats(world.root, (enum neomm_zone)zone, &stats);
        EXPECT(t, memcmp(&stats, &snapshot.zone[zone], sizeof(stats)) == 0);
        EXPECT(t, stats.total > 0);
    }
    const uint8_t *before = (const uint8_t *)&snapshot, *behind = (const uint8_t *)&snapshot.heap;
    for (size_t i = 0; i < offsetof(struct neomm_snapshot, zone); i++)
        EXPECT_EQ(t, before[i], 0xa5);
    for (size_t i = 0; i < sizeof(snapshot.heap) + sizeof(snapshot.swap); i++)
        EXPECT_EQ(t, behind[i], 0xa5);
    world_close(t, &world);
}

/* ---- descriptors ---- */

/* Of free frames: each field of a descriptor, at either end of a tree and in between. */
static void of_free_frames(struct ktap *t)
{
    static const uint32_t frames[] = {1, 2, 63, 4095, 4096, 4097, 5000, FRAME(M(32)) - 1};
    neomm_frame_t frame;
    if (!world_open(t, &world, &plain))
        return;
    for (uint32_t flags = 0; flags <= NEOMM_DMA; flags += NEOMM_DMA) { /* touches both trees */
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, flags, &frame));
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    }
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(frames); i++) {
        uint8_t *bytes = (uint8_t *)frame_at(frames[i]);
        for (size_t j = 0; j < sizeof(struct neomm__frame); j++) {
            bytes[j] = 1;
            EXPECT(t, findings() > 0);
            bytes[j] = 0;
        }
        EXPECT_EQ(t, findings(), 0);
    }
    world_close(t, &world);
}

/* Two blocks of the highest order whose descriptors say that they are one of twice as many. */
static void order_too_high(struct ktap *t)
{
    static const uint32_t size = 1u << NEOMM_ORDER_MAX;
    const struct neomm_range_request request = {.frames = 2 * size, .align = 2 * size};
    neomm_frame_t first;
    if (!world_open(t, &world, &plain))
        return;
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    for (uint32_t i = 1; i < 2 * size; i++)
        *frame_at(first.number + i) = (struct neomm__frame){0};
    for (unsigned order = NEOMM_ORDER_MAX + 1; order < 256; order++) {
        frame_at(first.number)->order = (uint8_t)order;
        EXPECT(t, findings() > 0);
    }
    frame_at(first.number)->order = NEOMM_ORDER_MAX;
    neomm__pmm_own(world.root, neomm__bit_of(world.root, first) + size, NEOMM_ORDER_MAX, 0);
    EXPECT_EQ(t, findings(), 0);
    EXPECT_OK(t, neomm_pmm_free(world.root, first, NEOMM_ORDER_MAX));
    EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(first.number + size), NEOMM_ORDER_MAX));
    world_close(t, &world);
}

/* Retired frames at either side of a border of trees are counted where they belong. */
static void retired_at_borders(struct ktap *t)
{
    static const uint32_t frames[] = {4095, 4096, FRAME(M(32)) - 1, 1};
    if (!world_open(t, &world, &plain))
        return;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(frames); i++) {
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(frames[i]), 1));
        EXPECT_EQ(t, findings(), 0);
        EXPECT_OK(t, neomm_pmm_retire(world.root, neomm_frame(frames[i])));
        EXPECT_EQ(t, findings(), 0);
        frame_at(frames[i])->flags = 0; /* as it was, it is missing now */
        EXPECT(t, findings() > 0);
        neomm__frame_set(frame_at(frames[i]), NEOMM__FRAME_RETIRED);
    }
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(lost),           KTAP_CASE(blank),
    KTAP_CASE(most_trees),     KTAP_CASE(of_each_area),
    KTAP_CASE(own_part),       KTAP_CASE(of_free_frames),
    KTAP_CASE(order_too_high), KTAP_CASE(retired_at_borders),
};
KTAP_SUITE(pmm_check, cases);
