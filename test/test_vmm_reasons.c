/* Faults that fail say why, and in which region.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

#include "sim/sim.h"
#include "vmm/vmm_priv.h"

static const uint64_t formats[] = ENV_FORMATS;

static bool open_world(struct ktap *t, struct world *world, const struct neomm_limits *limits)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter,
                                        .swap_pages = 64,
                                        .no_pool = true};
    return world_open(t, world, &options, limits);
}

static void map(struct ktap *t, struct world *w, neomm_vaddr_t at, size_t size, neomm_prot_t prot)
{
    EXPECT_OK(t, neomm_mmap(w->env.root, w->space, &at, size, prot, NEOMM_MAP_FIXED));
}

/* The fault fails like this, within [start, end). */
static void expect_failure(struct ktap *t, struct world *w, neomm_vaddr_t at, uint32_t error,
                           enum neomm_fault_outcome outcome, enum neomm_fault_reason reason,
                           neomm_vaddr_t start, neomm_vaddr_t end)
{
    struct neomm_fault_result result = {.outcome = NEOMM_FAULT_RETRY};
    EXPECT_EQ(t, neomm_fault(w->env.root, w->space, at, NEOMM_PF_USER | error, &result), outcome);
    EXPECT_EQ(t, result.outcome, outcome);
    EXPECT_EQ(t, result.reason, reason);
    EXPECT_EQ(t, result.region.start, start);
    EXPECT_EQ(t, result.region.end, end);
}

static void nothing_is_there(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_world(t, &w, NULL));
    const struct neomm_layout *layout = neomm_layout_of(w.env.root);
    map(t, &w, w.base + PAGE, PAGE, RW);
    expect_failure(t, &w, w.base + 5, 0, NEOMM_FAULT_SEGV, NEOMM_REASON_UNMAPPED, 0, 0);
    expect_failure(t, &w, w.base + 2 * PAGE, NEOMM_PF_WRITE, NEOMM_FAULT_SEGV,
                   NEOMM_REASON_UNMAPPED, 0, 0);
    expect_failure(t, &w, layout->user_limit, 0, NEOMM_FAULT_SEGV, NEOMM_REASON_NOT_USER, 0, 0);
    expect_failure(t, &w, layout->direct.base, 0, NEOMM_FAULT_SEGV, NEOMM_REASON_NOT_USER, 0, 0);
    world_close(t, &w);
}

static void rights_are_missing(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_world(t, &w, NULL));
    neomm_vaddr_t none = w.base, read = w.base + 4 * PAGE;
    map(t, &w, none, 2 * PAGE, NEOMM_PROT_NONE);
    map(t, &w, read, 3 * PAGE, NEOMM_PROT_READ);
    expect_failure(t, &w, none, 0, NEOMM_FAULT_ACCESS, NEOMM_REASON_READ, none, none + 2 * PAGE);
    expect_failure(t, &w, read + PAGE, NEOMM_PF_WRITE, NEOMM_FAULT_ACCESS, NEOMM_REASON_WRITE, read,
                   read + 3 * PAGE);
    expect_failure(t, &w, read, NEOMM_PF_FETCH, NEOMM_FAULT_ACCESS, NEOMM_REASON_EXEC, read,
                   read + 3 * PAGE);
    world_close(t, &w);
}

static void objects_end(struct ktap *t)
{
    struct world w;
    struct neomm_object *object;
    ASSERT(t, open_world(t, &w, NULL));
    neomm_vaddr_t at = w.base;
    EXPECT_OK(t, neomm_object_create(w.env.root, NULL, 2 * PAGE, &object));
    EXPECT_OK(
        t, neomm_mmap_object(w.env.root, w.space, &at, 3 * PAGE, RW, NEOMM_MAP_FIXED, object, 0));
    EXPECT_OK(t, world_write(&w, at + PAGE, 1));
    expect_failure(t, &w, at + 2 * PAGE, NEOMM_PF_WRITE, NEOMM_FAULT_BUS, NEOMM_REASON_END, at,
                   at + 3 * PAGE);
    neomm_object_close(w.env.root, object);
    world_close(t, &w);
}

/* What is in swap cannot be read, or is something else. */
static void swap_fails(struct ktap *t)
{
    static const enum sim_disk_fault fault[] = {SIM_DISK_FAIL, SIM_DISK_CORRUPT};
    static const enum neomm_fault_reason reason[] = {NEOMM_REASON_IO, NEOMM_REASON_DAMAGED};
    for (unsigned i = 0; i < 2; i++) {
        struct world w;
        ASSERT(t, open_world(t, &w, NULL));
        map(t, &w, w.base, 2 * PAGE, RW);
        for (unsigned word = 0; word < 3; word++)
            EXPECT_OK(t, world_write(&w, w.base + 8 * word, 11 + word));
        EXPECT_EQ(t, neomm_space_evict(w.env.root, w.space, 1), 1);
        sim_disk_fault(w.env.disk, fault[i], 1, true);
        expect_failure(t, &w, w.base, 0, NEOMM_FAULT_BUS, reason[i], w.base, w.base + 2 * PAGE);
        sim_disk_fault(w.env.disk, fault[i], 0, false);
        EXPECT_OK(t, world_write(&w, w.base + PAGE, 12));
        world_close(t, &w);
    }
}

/* A space that may have one page, which is locked; and one that was chosen as a victim. */
static void memory_is_short(struct ktap *t)
{
    struct world w;
    const struct neomm_limits limits = {NEOMM_UNLIMITED, PAGE, NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    ASSERT(t, open_world(t, &w, &limits));
    map(t, &w, w.base, 2 * PAGE, RW);
    EXPECT_OK(t, world_write(&w, w.base, 1));
    EXPECT_OK(t, neomm_mlock(w.env.root, w.space, w.base, PAGE, 0));
    expect_failure(t, &w, w.base + PAGE, NEOMM_PF_WRITE, NEOMM_FAULT_NOMEM, NEOMM_REASON_LIMIT,
                   w.base + PAGE, w.base + 2 * PAGE);
    neomm__store_release(&w.space->victim, 1);
    expect_failure(t, &w, w.base + PAGE, NEOMM_PF_WRITE, NEOMM_FAULT_NOMEM, NEOMM_REASON_VICTIM,
                   w.base + PAGE, w.base + 2 * PAGE);
    world_close(t, &w);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(nothing_is_there, formats), KTAP_CASE_WITH(rights_are_missing, formats),
    KTAP_CASE_WITH(objects_end, formats),      KTAP_CASE_WITH(swap_fails, formats),
    KTAP_CASE_WITH(memory_is_short, formats),
};
KTAP_SUITE(vmm_reasons, cases);
