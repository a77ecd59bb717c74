/* Limits of spaces: what is evicted for them, and what happens when memory or swap is full.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

static const uint64_t formats[] = ENV_FORMATS;

/* ---- limits, eviction, swap ---- */

static void fill(struct ktap *t, struct world *world, neomm_vaddr_t at, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++)
        EXPECT_OK(t, world_write(world, at + i * PAGE, 0x1000 + i));
}

static void verify(struct ktap *t, struct world *world, neomm_vaddr_t at, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++) {
        uint64_t value = 0;
        EXPECT_OK(t, world_read(world, at + i * PAGE, &value));
        EXPECT_EQ(t, value, 0x1000 + i);
    }
}

static void resident_limit_holds(struct ktap *t)
{
    struct world world;
    struct neomm_space_stats stats;
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 128};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 7 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &world, &options, &limits));
    neomm_vaddr_t at = world.base;
    EXPECT_OK(t, neomm_mmap(world.env.root, world.space, &at, 64 * PAGE, RW, 0));
    fill(t, &world, at, 64);
    verify(t, &world, at, 64);
    neomm_space_stats(world.env.root, world.space, &stats);
    EXPECT_EQ(t, stats.resident_bytes, 7 * PAGE);
    EXPECT_EQ(t, stats.swap_bytes, 57 * PAGE);
    EXPECT_EQ(t, stats.faults_zero, 64);
    EXPECT_EQ(t, stats.faults_swap_in, 64);
    EXPECT_EQ(t, stats.evictions, 64 - 7 + 64);
    world_close(t, &world);
}

/* A page that was only read since it came back is not written again. */
static void clean_pages_keep_their_slot(struct ktap *t)
{
    struct world world;
    struct neomm_space_stats before, after;
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 128};
    ASSERT(t, world_open(t, &world, &options, NULL));
    neomm_vaddr_t at = world.base;
    EXPECT_OK(t, neomm_mmap(world.env.root, world.space, &at, 16 * PAGE, RW, 0));
    fill(t, &world, at, 16);
    EXPECT_EQ(t, neomm_space_evict(world.env.root, world.space, 100), 16);
    neomm_space_stats(world.env.root, world.space, &before);
    EXPECT_EQ(t, before.swap_writes, 16);
    verify(t, &world, at, 16);
    EXPECT_OK(t, world_write(&world, at + 3 * PAGE, 0x1003));
    EXPECT_EQ(t, neomm_space_evict(world.env.root, world.space, 100), 16);
    neomm_space_stats(world.env.root, world.space, &after);
    EXPECT_EQ(t, after.swap_writes - before.swap_writes, 1);
    verify(t, &world, at, 16);
    world_close(t, &world);
}

/* RAM smaller than what is touched: others' pages go, and when swap is full too, and nobody may be
 * chosen to end, an error comes back and the machine goes on. */
static void memory_runs_out(struct ktap *t)
{
    struct world world;
    struct neomm_fault_result result = {.outcome = NEOMM_FAULT_RESOLVED};
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter,
                                        .ram_bytes = 8u << 20,
                                        .swap_pages = 64,
                                        .overcommit = NEOMM_OVERCOMMIT_ALWAYS};
    ASSERT(t, world_open(t, &world, &options, NULL));
    struct neomm *root = world.env.root;
    uint64_t free = neomm_pmm_free_frames(root);
    uint32_t pages = 0;
    neomm_vaddr_t at = world.base;
    EXPECT_OK(t, neomm_mmap(root, world.space, &at, 4 * free * PAGE, RW, 0));
    EXPECT_OK(t, neomm_space_set_oom_bias(root, world.space, NEOMM_OOM_NEVER));
    for (; pages < 4 * free; pages++) {
        neomm_fault(root, world.space, at + pages * PAGE, NEOMM_PF_USER | NEOMM_PF_WRITE, &result);
        if (result.outcome != NEOMM_FAULT_RESOLVED)
            break;
        EXPECT_OK(t, world_write(&world, at + pages * PAGE, 0x1000 + pages));
    }
    EXPECT_EQ(t, result.outcome, NEOMM_FAULT_NOMEM);
    EXPECT(t, pages > free / 2 && pages < 2 * free);
    EXPECT_OK(t, neomm_munmap(root, world.space, at + pages / 2 * PAGE, 4 * free * PAGE));
    verify(t, &world, at, pages / 2);
    world_close(t, &world);
}

/* A swap area that is barely large enough: slots of clean copies are given up for pages that
 * have none. */
static void slots_run_short(struct ktap *t)
{
    struct world world;
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 33};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 16 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &world, &options, &limits));
    neomm_vaddr_t at = world.base;
    uint64_t random = 5;
    EXPECT_OK(t, neomm_mmap(world.env.root, world.space, &at, 47 * PAGE, RW, 0));
    fill(t, &world, at, 47);
    for (unsigned i = 0; i < 2000; i++) {
        uint32_t page = (uint32_t)(next_random(&random) % 47);
        if (i % 3 == 0)
            EXPECT_OK(t, world_write(&world, at + page * PAGE, 0x1000 + page));
        else
            verify(t, &world, at + page * PAGE, 0);
    }
    verify(t, &world, at, 47);
    world_close(t, &world);
}

static void without_swap_the_limit_is_an_error(struct ktap *t)
{
    struct world world;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 3 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &world, &options, &limits));
    neomm_vaddr_t at = world.base;
    EXPECT_OK(t, neomm_mmap(world.env.root, world.space, &at, 5 * PAGE, RW, 0));
    fill(t, &world, at, 3);
    EXPECT_EQ(t, world_write(&world, at + 3 * PAGE, 1), NEOMM_E_FAULT);
    verify(t, &world, at, 3);
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(resident_limit_holds, formats),
    KTAP_CASE_WITH(clean_pages_keep_their_slot, formats),
    KTAP_CASE_WITH(memory_runs_out, formats),
    KTAP_CASE_WITH(slots_run_short, formats),
    KTAP_CASE_WITH(without_swap_the_limit_is_an_error, formats),
};
KTAP_SUITE(vmm_limits, cases);
