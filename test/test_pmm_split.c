/* Blocks made into single frames.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "pmm/pmm_priv.h"

#define M(n) ((uint64_t)(n) << 20)

static struct world world;

static bool open_world(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(64), NEOMM_MEMORY_USABLE}};
    const struct world_options options = {.ram_bytes = M(64), .map = map, .map_count = 1};
    return world_open(t, &world, &options);
}

static neomm_frame_t behind(neomm_frame_t frame, uint32_t n)
{
    return neomm_frame(frame.number + n);
}

/* Every order, cut at every place: the parts go back one after the other, each as a range, and none
 * of them twice. */
static void every_cut(struct ktap *t)
{
    if (!open_world(t))
        return;
    uint64_t free = neomm_pmm_free_frames(world.root);
    for (unsigned order = 0; order <= 6; order++)
        for (uint32_t cut = 1; cut < 1u << order || cut == 1; cut++) {
            uint32_t rest = (1u << order) - cut;
            neomm_frame_t first;
            ASSERT_OK(t, neomm_pmm_alloc(world.root, order, NEOMM_ZERO, &first));
            EXPECT_OK(t, neomm_pmm_split(world.root, first, order));
            EXPECT_EQ(t, neomm_pmm_free(world.root, first, order),
                      order == 0 ? NEOMM_OK : NEOMM_E_INVALID);
            if (order > 0)
                EXPECT_OK(t, neomm_pmm_free_range(world.root, first, cut));
            if (rest > 0)
                EXPECT_OK(t, neomm_pmm_free_range(world.root, behind(first, cut), rest));
            EXPECT_EQ(t, neomm_pmm_free(world.root, first, 0), NEOMM_E_DOUBLE_FREE);
            EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
        }
    world_fsck(t, &world);
    world_close(t, &world);
}

/* Each frame of the largest block by itself, whether movable or not. */
static void single_frames(struct ktap *t)
{
    neomm_frame_t first;
    if (!open_world(t))
        return;
    ASSERT_OK(t, neomm_pmm_alloc(world.root, NEOMM_ORDER_MAX, (neomm_flags_t)t->parameter, &first));
    EXPECT_OK(t, neomm_pmm_split(world.root, first, NEOMM_ORDER_MAX));
    world_fsck(t, &world);
    for (uint32_t i = 0; i < 1u << NEOMM_ORDER_MAX; i++) {
        const struct neomm__frame *entry = neomm__frame(world.root, behind(first, i));
        EXPECT_EQ(t, neomm__frame_has(entry, NEOMM__FRAME_MOVABLE), t->parameter != 0);
        EXPECT_OK(t, neomm_pmm_free(world.root, behind(first, i), 0));
    }
    world_fsck(t, &world);
    world_close(t, &world);
}

/* What is not the caller's block of that order stays as it is. */
static void refused(struct ktap *t)
{
    neomm_frame_t block, single;
    if (!open_world(t))
        return;
    ASSERT_OK(t, neomm_pmm_alloc(world.root, 3, 0, &block));
    ASSERT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &single));
    struct neomm__frame *first = neomm__frame(world.root, block);
    EXPECT_EQ(t, neomm_pmm_split(world.root, block, 2), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_split(world.root, block, 4), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_split(world.root, behind(block, 1), 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_split(world.root, single, 1), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_split(world.root, neomm_frame(0), 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_split(world.root, neomm_frame(UINT32_MAX), 0), NEOMM_E_FOREIGN);
    first->references++;
    EXPECT_EQ(t, neomm_pmm_split(world.root, block, 3), NEOMM_E_INVALID);
    first->references--;
    first->mappings++;
    EXPECT_EQ(t, neomm_pmm_split(world.root, block, 3), NEOMM_E_INVALID);
    first->mappings--;
    neomm__frame_set(first, NEOMM__FRAME_TAILS);
    EXPECT_EQ(t, neomm_pmm_split(world.root, block, 3), NEOMM_E_INVALID);
    neomm__frame_clear(first, NEOMM__FRAME_TAILS);
    world_fsck(t, &world);
    EXPECT_OK(t, neomm_pmm_free(world.root, block, 3));
    EXPECT_EQ(t, neomm_pmm_split(world.root, block, 3), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_pmm_free(world.root, single, 0));
    world_close(t, &world);
}

static const uint64_t movable[] = {0, NEOMM_MOVABLE};

static const struct ktap_case cases[] = {
    KTAP_CASE(every_cut),
    KTAP_CASE_WITH(single_frames, movable),
    KTAP_CASE(refused),
};
KTAP_SUITE(pmm_split, cases);
