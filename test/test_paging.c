/* Page tables against a model, in every format.
 * SPDX-License-Identifier: MIT */
#include "env.h"

static const uint64_t formats[] = ENV_FORMATS;

static bool open_machine(struct ktap *t, struct env *env, uint32_t cpus)
{
    struct env_options options = {
        .layer = ENV_PAGING, .format = (enum neomm_format)t->parameter, .cpus = cpus};
    return env_open(t, env, &options);
}

static void starts_and_ends(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct neomm_mapping m;
    neomm_frame_t frame;
    ASSERT(t, open_machine(t, &env, 2));
    env_fsck(t, &env);
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 0, NEOMM_ZERO, &frame));
    EXPECT_OK(t, neomm_paging_map_frames(env.root, &tables, 0x400000, &frame, 1, NEOMM_PROT_READ|NEOMM_PROT_WRITE));
    EXPECT_OK(t, neomm_paging_query(env.root, &tables, 0x400123, &m));
    EXPECT_EQ(t, m.paddr, neomm_frame_paddr(frame));
    env_fsck(t, &env);
    neomm_paging_activate(env.root, &tables);
    uint32_t v = 0x1234, w = 0;
    EXPECT_OK(t, env_access(&env, NULL, 0x400010, &v, 4, true, true));
    EXPECT_OK(t, env_access(&env, NULL, 0x400010, &w, 4, false, true));
    EXPECT_EQ(t, w, v);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, 0x400000, 0x1000, NULL, NULL, NULL));
    EXPECT_EQ(t, env_access(&env, NULL, 0x400010, &w, 4, false, true), NEOMM_E_FAULT);
    neomm_paging_activate(env.root, neomm_paging_kernel(env.root));
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 0));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(starts_and_ends, formats),
};
KTAP_SUITE(paging, cases);
