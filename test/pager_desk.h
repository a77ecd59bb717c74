/* What the pagers' suites share: a machine with a file, an object of it, and two spaces.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_PAGER_DESK_H
#define NEOMM_TEST_PAGER_DESK_H

#include "file_pager.h"

#define PAGE FILE_PAGE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

struct desk {
    struct env env;
    struct ktap *t;
    struct neomm *root;
    struct file file;
    struct neomm_object *object;
    struct neomm_space *space, *other;
    neomm_vaddr_t at; /* where the object is mapped */
};

static inline bool desk_open_with(struct ktap *t, struct desk *d, uint64_t bytes,
                                  const struct env_options *options)
{
    memset(d, 0, sizeof(*d));
    d->t = t;
    if (!env_open(t, &d->env, options))
        return false;
    d->root = d->env.root;
    d->at = neomm_layout_of(d->root)->user_base;
    file_open(t, &d->file, &d->env, bytes);
    EXPECT_OK(t, neomm_object_create_paged(d->root, &d->file.pager, NULL, bytes, &d->object));
    EXPECT_OK(t, neomm_space_create(d->root, NULL, &d->space));
    EXPECT_OK(t, neomm_space_create(d->root, NULL, &d->other));
    return t->failures == 0;
}

static inline bool desk_open(struct ktap *t, struct desk *d, uint64_t bytes)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter,
                                        .swap_pages = 64,
                                        .policy = "clock", /* comes to each page in turn */
                                        .seed = 5};
    return desk_open_with(t, d, bytes, &options);
}

static inline void desk_close(struct desk *d)
{
    env_fsck(d->t, &d->env);
    neomm_space_activate(d->root, NULL);
    EXPECT_OK(d->t, neomm_space_destroy(d->root, d->space));
    EXPECT_OK(d->t, neomm_space_destroy(d->root, d->other));
    neomm_object_close(d->root, d->object);
    EXPECT_EQ(d->t, d->file.released, 1);
    env_close(d->t, &d->env);
}

static inline void map(struct desk *d, struct neomm_space *space, neomm_vaddr_t at, uint32_t pages,
                       unsigned flags)
{
    EXPECT_OK(d->t, neomm_mmap_object(d->root, space, &at, pages * PAGE, RW,
                                      NEOMM_MAP_FIXED | flags, d->object, 0));
}

static inline neomm_status touch(struct desk *d, struct neomm_space *space, neomm_vaddr_t at,
                                 uint8_t *byte, bool write)
{
    neomm_space_activate(d->root, space);
    return env_access(&d->env, space, at, byte, 1, write, true);
}

static inline void expect_byte(struct desk *d, struct neomm_space *space, neomm_vaddr_t at,
                               uint8_t want)
{
    uint8_t byte = (uint8_t)~want;
    EXPECT_OK(d->t, touch(d, space, at, &byte, false));
    EXPECT_EQ(d->t, byte, want);
}

static inline void store(struct desk *d, struct neomm_space *space, neomm_vaddr_t at, uint8_t byte)
{
    EXPECT_OK(d->t, touch(d, space, at, &byte, true));
}

static inline struct neomm_cache_stats stats_of(struct desk *d)
{
    struct neomm_cache_stats stats;
    neomm_cache_stats(d->root, &stats);
    return stats;
}

static inline uint64_t swap_used(struct desk *d)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(d->root, &stats);
    return stats.used;
}

static inline void read_in_order(struct desk *d, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++)
        expect_byte(d, d->space, d->at + i * PAGE + i, file_byte(i * PAGE + i));
}

#endif
