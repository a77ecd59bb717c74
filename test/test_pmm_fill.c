/* What frames hold while they are free, and what owners find.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <string.h>

#define M(n)   ((uint64_t)(n) << 20)
#define FRAMES (M(32) >> NEOMM_PAGE_SHIFT)

static const struct neomm_boot_range map[] = {{0, M(24), NEOMM_MEMORY_USABLE},
                                              {M(24), M(1), NEOMM_MEMORY_BOOT},
                                              {M(25), M(7), NEOMM_MEMORY_USABLE}};
static const struct world_options machine = {.ram_bytes = M(32), .map = map, .map_count = 3};
static struct world world;

static uint8_t *bytes_of(neomm_frame_t frame)
{
    return neomm_direct_pointer(world.root, neomm_frame_paddr(frame));
}

static bool all_are(neomm_frame_t first, size_t frames, uint8_t value)
{
    const uint8_t *bytes = bytes_of(first);
    return bytes[0] == value && memcmp(bytes, bytes + 1, frames * NEOMM_PAGE_SIZE - 1) == 0;
}

static uint64_t reserved_frames(void)
{
    uint64_t sum = 0;
    for (int zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats stats;
        neomm_pmm_zone_stats(world.root, (enum neomm_zone)zone, &stats);
        sum += stats.reserved;
    }
    return sum;
}

static const uint64_t orders[] = {0, 1, 3, 7, 9, 10};

/* Junk for who does not ask for zeros, zeros for who does. */
static void junk(struct ktap *t)
{
    unsigned order = (unsigned)t->parameter;
    neomm_frame_t frame;
    if (!world_open(t, &world, &machine))
        return;
    neomm_pmm_set_fill(world.root, NEOMM_FILL_JUNK);
    ASSERT_OK(t, neomm_pmm_alloc(world.root, order, 0, &frame));
    EXPECT(t, all_are(frame, (size_t)1 << order, 0xa5));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
    ASSERT_OK(t, neomm_pmm_alloc(world.root, order, NEOMM_ZERO, &frame));
    EXPECT(t, all_are(frame, (size_t)1 << order, 0));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
    world_close(t, &world);
}

/* Allocates all there is of an order, and frees it; does a block have this frame? */
static bool somebody_gets(struct ktap *t, unsigned order, uint32_t number)
{
    static neomm_frame_t frames[FRAMES];
    uint32_t count = 0;
    bool found = false;
    while (neomm_pmm_alloc(world.root, order, 0, &frames[count]) == NEOMM_OK) {
        found |= number - frames[count].number < 1u << order;
        count++;
    }
    while (count > 0)
        EXPECT_OK(t, neomm_pmm_free(world.root, frames[--count], order));
    return found;
}

/* A write to any byte of a free block is found when it is allocated: only the damaged frame is
 * lost. */
static void use_after_free(struct ktap *t)
{
    static const size_t offsets[] = {0, 7, 8, 2049, 4095};
    unsigned order = (unsigned)t->parameter;
    uint32_t last = (1u << order) - 1;
    if (!world_open(t, &world, &machine))
        return;
    neomm_pmm_set_fill(world.root, NEOMM_FILL_POISON);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(offsets); i++) {
        uint64_t before = reserved_frames();
        neomm_frame_t frame;
        ASSERT_OK(t, neomm_pmm_alloc(world.root, order, 0, &frame));
        memset(bytes_of(frame), 0x11, NEOMM_PAGE_SIZE << order);
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
        uint32_t bad = frame.number + (i % 2 ? last : last / 2);
        bytes_of(neomm_frame(bad))[offsets[i]] ^= 1;
        EXPECT(t, !somebody_gets(t, order, bad));
        EXPECT_EQ(t, reserved_frames() - before, 1);
        EXPECT(t, strstr(sim_last_log(world.sim), "was written to at offset") != NULL);
        EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(bad), 0), NEOMM_E_FOREIGN);
    }
    world_close(t, &world);
}

/* Ranges and bulk requests look, too; memory that comes later is poisoned first. */
static void everywhere(struct ktap *t)
{
    struct neomm_range_request request = {.frames = 300, .align = 1};
    neomm_frame_t first, again, bulk[100];
    if (!world_open(t, &world, &machine))
        return;
    neomm_pmm_set_fill(world.root, NEOMM_FILL_POISON | NEOMM_FILL_JUNK);
    uint64_t before = reserved_frames();
    ASSERT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT(t, all_are(first, 300, 0xa5));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 300));
    bytes_of(first)[150 * NEOMM_PAGE_SIZE] = 0;
    ASSERT_OK(t, neomm_pmm_alloc_range(world.root, &request, &again));
    EXPECT(t, again.number != first.number);
    EXPECT_EQ(t, reserved_frames() - before, 1);
    EXPECT_OK(t, neomm_pmm_free_range(world.root, again, 300));
    EXPECT(t, neomm_pmm_reclaim_boot(world.root) == M(1) >> NEOMM_PAGE_SHIFT);
    for (uint32_t round = 0; round < 3; round++) {
        ASSERT_OK(t, neomm_pmm_alloc_bulk(world.root, 100, 0, bulk));
        EXPECT(t, all_are(bulk[round], 1, 0xa5));
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 100, bulk, NULL));
    }
    EXPECT_EQ(t, reserved_frames() + (M(1) >> NEOMM_PAGE_SHIFT) - before, 1);
    neomm_pmm_set_fill(world.root, 0);
    ASSERT_OK(t, neomm_pmm_alloc(world.root, 0, 0, bulk));
    EXPECT_OK(t, neomm_pmm_free(world.root, bulk[0], 0));
    world_close(t, &world);
}

static void *(*map_slot)(struct neomm *root, neomm_frame_t frame);
static uint32_t maps;

static void *map_and_count(struct neomm *root, neomm_frame_t frame)
{
    maps++;
    return map_slot(root, frame);
}

/* Frames are gone over once when they are freed if they are to be poisoned, and not otherwise; when
 * they are allocated once for each thing that is wanted. */
static void no_more_than_needed(struct ktap *t)
{
    static const struct {
        uint32_t fill, taken, freed;
    } cases[] = {{0, 0, 0},
                 {NEOMM_FILL_POISON, 1, 1},
                 {NEOMM_FILL_JUNK, 1, 0},
                 {NEOMM_FILL_POISON | NEOMM_FILL_JUNK, 2, 1}};
    struct world_options options = machine;
    neomm_frame_t frame;
    options.direct_bytes = M(16);
    options.slots = true;
    if (!world_open(t, &world, &options))
        return;
    unsigned order = (unsigned)t->parameter;
    map_slot = world.root->slots.map;
    world.root->slots.map = map_and_count;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(cases); i++) {
        neomm_pmm_set_fill(world.root, cases[i].fill);
        maps = 0;
        ASSERT_OK(t, neomm_pmm_alloc(world.root, order, NEOMM_HIGH, &frame));
        EXPECT(t, frame.number >= M(16) >> NEOMM_PAGE_SHIFT);
        EXPECT_EQ(t, maps, cases[i].taken << order);
        maps = 0;
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
        EXPECT_EQ(t, maps, cases[i].freed << order);
        neomm_pmm_set_fill(world.root, 0);
    }
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(junk, orders),
    KTAP_CASE_WITH(use_after_free, orders),
    KTAP_CASE(everywhere),
    KTAP_CASE_WITH(no_more_than_needed, orders),
};
KTAP_SUITE(pmm_fill, cases);
