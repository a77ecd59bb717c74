/* Changing replacement policies while their domains are in use.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

#include <string.h>

#define PAGES 100u

static const enum neomm_format formats[] = ENV_FORMATS;

static bool open_full(struct ktap *t, struct world *w, const char *policy, uint64_t limit)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = formats[t->parameter & 1], .swap_pages = 300, .policy = policy};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, limit, NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    if (!world_open(t, w, &options, &limits))
        return false;
    EXPECT_OK(t, neomm_mmap(w->env.root, w->space, &w->base, PAGES * PAGE, RW, 0));
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_OK(t, world_write(w, w->base + i * PAGE, 1000 + i));
    return true;
}

static void check_pages(struct ktap *t, struct world *w)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t value = 0;
        EXPECT_OK(t, world_read(w, w->base + i * PAGE, &value));
        EXPECT_EQ(t, value, 1000 + i);
    }
}

/* The pages in the order in which they go, and back in. */
static void expect_order(struct ktap *t, struct world *w, bool (*gone)(uint32_t page, uint32_t n))
{
    for (uint32_t n = 1; n <= PAGES; n++) {
        EXPECT_EQ(t, neomm_space_evict(w->env.root, w->space, 1), 1);
        for (uint32_t i = 0; i < PAGES; i++) {
            struct neomm_mapping leaf = {0};
            EXPECT_OK(t, neomm_paging_query(w->env.root, neomm_space_tables(w->space),
                                            w->base + i * PAGE, &leaf));
            EXPECT_EQ(t, leaf.state == NEOMM_MAPPING_SWAPPED, gone(i, n));
        }
    }
}

static bool in_order(uint32_t page, uint32_t n)
{
    return page < n;
}

/* What was first in is first out, also over two changes. */
static void order_is_kept(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, "fifo", t->parameter & 2 ? PAGES * PAGE : NEOMM_UNLIMITED));
    struct neomm_space *space = t->parameter & 2 ? w.space : NULL;
    const char *const names[] = {"fifo", "s3fifo", "fifo"};
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_OK(t, space ? neomm_space_set_policy(w.env.root, space, names[i])
                           : neomm_vmm_set_policy(w.env.root, names[i]));
        EXPECT_EQ(t, strcmp(neomm_vmm_policy(w.env.root, space), names[i]), 0);
        env_fsck(t, &w.env);
    }
    expect_order(t, &w, in_order);
    check_pages(t, &w);
    world_close(t, &w);
}

/* From each built-in policy to each other one, with pages in every state. */
static void each_to_each(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, "adaptive", 60 * PAGE));
    struct neomm *root = w.env.root;
    const struct neomm_policy_ops *from, *to;
    for (uint32_t i = 0; (from = neomm_policy_at(root, i)) != NULL; i++)
        for (uint32_t k = 0; (to = neomm_policy_at(root, k)) != NULL; k++) {
            EXPECT_OK(t, neomm_space_set_policy(root, w.space, from->name));
            check_pages(t, &w);
            EXPECT_OK(t, neomm_space_set_policy(root, w.space, to->name));
            env_fsck(t, &w.env);
        }
    check_pages(t, &w);
    world_close(t, &w);
}

static void refusals(struct ktap *t)
{
    struct world w;
    struct neomm_space *limited;
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 10 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, open_full(t, &w, "clock", NEOMM_UNLIMITED));
    struct neomm *root = w.env.root;
    EXPECT_EQ(t, neomm_vmm_set_policy(root, "best"), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_vmm_set_policy(root, NULL), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_space_set_policy(root, w.space, "best"), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_space_set_policy(root, w.space, "fifo"), NEOMM_E_UNSUPPORTED);
    EXPECT_OK(t, neomm_vmm_set_policy(root, "sieve"));
    EXPECT_OK(t, neomm_space_create(root, &limits, &limited));
    EXPECT_EQ(t, strcmp(neomm_vmm_policy(root, limited), "sieve"), 0);
    EXPECT_OK(t, neomm_space_set_policy(root, limited, "nru"));
    EXPECT_EQ(t, strcmp(neomm_vmm_policy(root, limited), "nru"), 0);
    EXPECT_EQ(t, strcmp(neomm_vmm_policy(root, w.space), "sieve"), 0);
    EXPECT_OK(t, neomm_space_destroy(root, limited));
    check_pages(t, &w);
    world_close(t, &w);
}

/* Every allocation that a change needs may fail, and nothing is lost by it. */
static void fails_whole(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, "clock", NEOMM_UNLIMITED));
    if (!env_fault_plan(&w.env, 1, false)) {
        ktap_skip(t, "fault points are in instrumented builds");
    } else {
        EXPECT_EQ(t, neomm_vmm_set_policy(w.env.root, "fifo"), NEOMM_E_NOMEM);
        (void)env_fault_plan(&w.env, 0, false);
        EXPECT_EQ(t, strcmp(neomm_vmm_policy(w.env.root, NULL), "clock"), 0);
        EXPECT_OK(t, neomm_vmm_set_policy(w.env.root, "fifo"));
    }
    check_pages(t, &w);
    world_close(t, &w);
}

static const uint64_t each_format[] = {0, 1};
static const uint64_t each_domain[] = {0, 1, 2, 3}; /* format | a space's own << 1 */

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(order_is_kept, each_domain),
    KTAP_CASE_WITH(each_to_each, each_format),
    KTAP_CASE_WITH(refusals, each_format),
    KTAP_CASE_WITH(fails_whole, each_format),
};
KTAP_SUITE(policy_set, cases);
