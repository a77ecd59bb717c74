/* A machine with one address space, for a test of it.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_VMM_WORLD_H
#define NEOMM_TEST_VMM_WORLD_H

#include "env.h"

#define PAGE NEOMM_PAGE_SIZE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static inline uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

struct world {
    struct env env;
    struct neomm_space *space;
    neomm_vaddr_t base;
};

static inline bool world_open(struct ktap *t, struct world *world,
                              const struct env_options *options, const struct neomm_limits *limits)
{
    if (!env_open(t, &world->env, options))
        return false;
    struct neomm *root = world->env.root;
    world->base = neomm_layout_of(root)->user_base;
    neomm_status status = neomm_space_create(root, limits, &world->space);
    if (status != NEOMM_OK) {
        ktap_fail_equal(t, __FILE__, __LINE__, "neomm_space_create", status, NEOMM_OK);
        env_close(t, &world->env);
        return false;
    }
    neomm_space_activate(root, world->space);
    return true;
}

static inline void world_close(struct ktap *t, struct world *world)
{
    env_fsck(t, &world->env);
    neomm_space_activate(world->env.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(world->env.root, world->space));
    env_close(t, &world->env);
}

static inline neomm_status world_read(struct world *world, neomm_vaddr_t vaddr, uint64_t *value)
{
    return env_access(&world->env, world->space, vaddr, value, sizeof(*value), false, true);
}

static inline neomm_status world_write(struct world *world, neomm_vaddr_t vaddr, uint64_t value)
{
    return env_access(&world->env, world->space, vaddr, &value, sizeof(value), true, true);
}

#endif
