/* Swap slots by clusters: what finding one costs, where owners' pages lie, how areas are striped.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/memory.h"
#include "swap/swap_priv.h"

#include <sim/sim.h>

#include <stdlib.h>

#define CLUSTER NEOMM__SWAP_CLUSTER

static const enum neomm_format formats[] = ENV_FORMATS;

static bool open_env(struct ktap *t, struct env *env, uint64_t ram_bytes, uint32_t cpus)
{
    const struct env_options options = {
        .layer = ENV_SWAP, .format = formats[0], .ram_bytes = ram_bytes, .cpus = cpus};
    return env_open(t, env, &options);
}

static struct neomm__swap_area *add_area(struct ktap *t, struct env *env, uint32_t pages,
                                         int priority)
{
    struct neomm_block_device *disk = sim_disk_create(env->machine, pages);
    struct neomm__swap *swap = env->root->swap;
    sim_disk_make_swap(disk);
    EXPECT_OK(t, neomm_swap_add(env->root, disk, priority));
    return &swap->area[swap->areas - 1];
}

static uint32_t take(struct ktap *t, struct env *env, uint32_t owner)
{
    struct neomm_swap_entry entry = {0, 0, 0};
    EXPECT_OK(t, neomm_swap_alloc(env->root, owner, &entry));
    return entry.slot;
}

static void give(struct ktap *t, struct env *env, uint32_t slot)
{
    struct neomm_swap_entry entry = {0, 0, 0};
    EXPECT_OK(t, neomm_swap_entry_of(env->root, slot, &entry));
    EXPECT_OK(t, neomm_swap_free(env->root, entry));
}

/* ---- cost ---- */

/* Parameter: slots of the area. It is filled, then slots far apart come and go by ones: each costs
 * three looks at most (the filler's own cluster, a free one, any), whatever the size. */
static void same_cost_at_any_size(struct ktap *t)
{
    uint32_t slots = (uint32_t)t->parameter;
    struct env env;
    if (!open_env(t, &env, (uint64_t)192 << 20, 1))
        return;
    struct neomm__swap_area *area = add_area(t, &env, slots, 0);
    for (uint32_t i = 1; i < slots && t->failures == 0; i++)
        (void)take(t, &env, i / 1000 % 60);
    EXPECT_EQ(t, area->free, 0);
    EXPECT(t, area->looks < (uint64_t)slots * 2);
    for (uint32_t i = 0; i < 2000 && t->failures == 0; i++) {
        uint32_t slot = 1 + (uint32_t)(neomm__mix(i) % (slots - 1));
        uint64_t before = area->looks;
        give(t, &env, slot);
        EXPECT_EQ(t, area->looks, before);
        EXPECT_EQ(t, take(t, &env, i % 50), slot);
        EXPECT(t, area->looks - before <= 3);
    }
    struct neomm_swap_entry entry;
    uint64_t before = area->looks;
    EXPECT_EQ(t, neomm_swap_alloc(env.root, 1, &entry), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, area->looks, before);
    for (uint32_t slot = 1; slot < slots && t->failures == 0; slot++)
        give(t, &env, slot);
    EXPECT_EQ(t, area->list[NEOMM__CLUSTER_FREE].count, area->clusters);
    env_close(t, &env);
}

/* ---- where pages lie ---- */

/* Each owner on each CPU fills clusters of its own in ascending order, as long as there are any. */
static void a_cluster_for_each_filler(struct ktap *t)
{
    enum { OWNERS = 8, CPUS = 4, EACH = 600 };
    static uint32_t slot[OWNERS][CPUS][EACH];
    struct env env;
    if (!open_env(t, &env, 0, CPUS))
        return;
    struct neomm__swap_area *area = add_area(t, &env, 128 * CLUSTER, 0);
    for (uint32_t i = 0; i < EACH; i++)
        for (uint32_t owner = 0; owner < OWNERS; owner++)
            for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
                env_switch_cpu(&env, cpu);
                slot[owner][cpu][i] = take(t, &env, owner);
            }
    env_switch_cpu(&env, 0);
    env_fsck(t, &env);
    EXPECT_EQ(t, area->list[NEOMM__CLUSTER_CLAIMED].count, OWNERS * CPUS);
    for (uint32_t owner = 0; owner < OWNERS; owner++)
        for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
            uint32_t jumps = 0;
            for (uint32_t i = 1; i < EACH; i++)
                jumps += slot[owner][cpu][i] != slot[owner][cpu][i - 1] + 1;
            EXPECT_EQ(t, jumps, 2);
            for (uint32_t i = 0; i < EACH; i++)
                give(t, &env, slot[owner][cpu][i]);
        }
    env_close(t, &env);
}

/* A cluster that others have left holes in is filled before those of owners that are busy. */
static void holes_before_strangers(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env, 0, 1))
        return;
    struct neomm__swap_area *area = add_area(t, &env, 3 * CLUSTER, 0);
    uint32_t first = 0, other = 0;
    for (uint32_t i = 1; i < CLUSTER; i++) /* cluster 0 is full */
        first = take(t, &env, 1);
    EXPECT_EQ(t, first, CLUSTER - 1);
    for (uint32_t i = 0; i < 100; i++)
        EXPECT_EQ(t, take(t, &env, 2), CLUSTER + i);
    for (uint32_t i = 0; i < 100; i++)
        EXPECT_EQ(t, take(t, &env, 3), 2 * CLUSTER + i);
    give(t, &env, 7);
    give(t, &env, 9);
    EXPECT_EQ(t, take(t, &env, 4), 7);
    EXPECT_EQ(t, take(t, &env, 4), 9);
    other = take(t, &env, 4); /* there is nothing else any more */
    EXPECT_EQ(t, other, CLUSTER + 100);
    EXPECT_EQ(t, take(t, &env, 4), CLUSTER + 101);
    EXPECT_EQ(t, take(t, &env, 3), 2 * CLUSTER + 100);
    env_fsck(t, &env);
    for (uint32_t slot = 1; slot < area->slots; slot++)
        if (area->slot[slot].count)
            give(t, &env, slot);
    env_close(t, &env);
}

/* ---- striping ---- */

/* Three areas of one priority and one below: each of the three gives a cluster in turn, and the
 * lower one nothing before they are full. One that gets room again is used again. */
static void striped(struct ktap *t)
{
    enum { PAGES = 8 * CLUSTER + 1 };
    static uint32_t slot[4 * PAGES];
    uint32_t count = 0, run = 0, runs = 0;
    uint32_t used[4] = {0};
    struct env env;
    if (!open_env(t, &env, 0, 1))
        return;
    (void)add_area(t, &env, PAGES, -1);
    for (unsigned i = 0; i < 3; i++)
        (void)add_area(t, &env, PAGES, 5);
    for (; count < 3 * (PAGES - 1); count++) {
        slot[count] = take(t, &env, 9);
        uint32_t place = slot[count] / PAGES;
        used[place]++;
        bool same = count != 0 && slot[count - 1] / PAGES == place;
        runs += !same;
        run = same ? run + 1 : 1;
        if (!same && count != 0 && count < 20 * CLUSTER)
            EXPECT_EQ(t, place, slot[count - 1] / PAGES % 3 + 1);
        EXPECT(t, run <= 2 * CLUSTER);
    }
    EXPECT_EQ(t, used[0], 0);
    for (unsigned i = 1; i < 4; i++)
        EXPECT_EQ(t, used[i], PAGES - 1);
    EXPECT(t, runs <= 3 * 9);
    slot[count] = take(t, &env, 9);
    EXPECT_EQ(t, slot[count++] / PAGES, 0);
    give(t, &env, slot[5]);
    EXPECT_EQ(t, take(t, &env, 9), slot[5]);
    env_fsck(t, &env);
    while (count-- > 0)
        give(t, &env, slot[count]);
    env_close(t, &env);
}

/* Owners that fill clusters on one device do not keep others from the next one. */
static void stripes_of_many_owners(struct ktap *t)
{
    enum { AREAS = 4, OWNERS = 32, EACH = 100, PAGES = 16 * CLUSTER };
    uint32_t used[AREAS] = {0};
    struct env env;
    if (!open_env(t, &env, 0, 1))
        return;
    for (unsigned i = 0; i < AREAS; i++)
        (void)add_area(t, &env, PAGES, 0);
    for (uint32_t i = 0; i < EACH; i++)
        for (uint32_t owner = 0; owner < OWNERS; owner++)
            used[take(t, &env, owner) / PAGES]++;
    for (unsigned i = 0; i < AREAS; i++) {
        EXPECT_EQ(t, used[i], OWNERS * EACH / AREAS);
        struct neomm__swap_area *area = &env.root->swap->area[i];
        for (uint32_t page = 1; page < PAGES; page++)
            if (area->slot[page].count)
                give(t, &env, area->base + page);
    }
    env_close(t, &env);
}

/* (A process of 32 bits has no room for the disk of the largest.) */
static const uint64_t sizes[] = {1000, 60000, sizeof(void *) == 4 ? 200000 : 3000000};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(same_cost_at_any_size, sizes),
    KTAP_CASE(a_cluster_for_each_filler),
    KTAP_CASE(holes_before_strangers),
    KTAP_CASE(striped),
    KTAP_CASE(stripes_of_many_owners),
};

KTAP_SUITE(swap_slots, cases);
