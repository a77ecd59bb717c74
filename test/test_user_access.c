/* What the kernel does to user memory: bounds, rights, strings, words, and pages pinned for
 * devices. SPDX-License-Identifier: MIT */
#include "env.h"

#include "vmm/vmm_priv.h"

#include <string.h>

#define PAGE  NEOMM_PAGE_SIZE
#define PAGES 6u
#define RW    (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct world {
    struct env env;
    struct ktap *t;
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t at;
};

static bool world_open(struct ktap *t, struct world *world)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 64};
    *world = (struct world){.t = t};
    if (!env_open(t, &world->env, &options))
        return false;
    world->root = world->env.root;
    world->at = neomm_layout_of(world->root)->user_base;
    EXPECT_OK(t, neomm_space_create(world->root, NULL, &world->space));
    neomm_space_activate(world->root, world->space);
    EXPECT_OK(t,
              neomm_mmap(world->root, world->space, &world->at, PAGES * PAGE, RW, NEOMM_MAP_FIXED));
    return t->failures == 0;
}

static void world_close(struct world *world)
{
    env_fsck(world->t, &world->env);
    neomm_space_activate(world->root, NULL);
    EXPECT_OK(world->t, neomm_space_destroy(world->root, world->space));
    env_close(world->t, &world->env);
}

static void put(struct world *world, uint32_t page, uint64_t value)
{
    EXPECT_OK(world->t, env_access(&world->env, world->space, world->at + page * PAGE, &value, 8,
                                   true, true));
}

static uint64_t get(struct world *world, uint32_t page)
{
    uint64_t value = 0;
    EXPECT_OK(world->t, env_access(&world->env, world->space, world->at + page * PAGE, &value, 8,
                                   false, true));
    return value;
}

/* ---- bounds ---- */

/* No call touches what is not the user's, at whichever end, nor wraps. */
static void beyond_the_user(struct ktap *t)
{
    struct world world;
    ASSERT(t, world_open(t, &world));
    const struct neomm_layout *layout = neomm_layout_of(world.root);
    const neomm_vaddr_t bad[] = {layout->user_limit, layout->user_limit - 1, layout->direct.base,
                                 ~(neomm_vaddr_t)0};
    for (unsigned i = 0; i < 4; i++) {
        char bytes[8] = {0};
        size_t done = 1, length = 0;
        uint32_t word = 0, pinned = 1;
        neomm_frame_t frame;
        EXPECT_EQ(t, neomm_copy_to_user(world.root, world.space, bad[i], bytes, 2, &done),
                  NEOMM_E_RANGE);
        EXPECT_EQ(t, done, 0);
        EXPECT_EQ(t, neomm_copy_from_user(world.root, world.space, bytes, bad[i], 2, &done),
                  NEOMM_E_RANGE);
        EXPECT_EQ(t, neomm_zero_user(world.root, world.space, bad[i], 2, &done), NEOMM_E_RANGE);
        EXPECT(t, neomm_copy_string_from_user(world.root, world.space, bytes, bad[i], 8, &length) !=
                      NEOMM_OK);
        EXPECT_EQ(t,
                  neomm_user_compare_exchange(world.root, world.space, bad[i] & ~(neomm_vaddr_t)3,
                                              &word, 1),
                  bad[i] == layout->user_limit - 1 ? NEOMM_E_FAULT : NEOMM_E_RANGE);
        EXPECT_EQ(t, neomm_user_pin(world.root, world.space, bad[i], 2, false, &frame, &pinned),
                  NEOMM_E_RANGE);
        EXPECT_EQ(t, pinned, 0);
    }
    EXPECT_EQ(t, neomm_zero_user(world.root, world.space, world.at, SIZE_MAX, NULL), NEOMM_E_RANGE);
    world_close(&world);
}

/* ---- zeros, strings, words ---- */

static void zeros(struct ktap *t)
{
    struct world world;
    size_t done;
    ASSERT(t, world_open(t, &world));
    for (uint32_t i = 0; i < PAGES; i++)
        put(&world, i, 7);
    EXPECT_OK(t, neomm_zero_user(world.root, world.space, world.at + 4, 2 * PAGE + 1, &done));
    EXPECT_EQ(t, done, 2 * PAGE + 1);
    EXPECT_EQ(t, get(&world, 0), 7);
    EXPECT_EQ(t, get(&world, 1), 0);
    EXPECT_EQ(t, get(&world, 2), 0);
    EXPECT_EQ(t, get(&world, 3), 7);
    EXPECT_OK(t, neomm_munmap(world.root, world.space, world.at + 2 * PAGE, PAGE));
    EXPECT_EQ(t, neomm_zero_user(world.root, world.space, world.at, 3 * PAGE, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, done, 2 * PAGE);
    EXPECT_OK(t,
              neomm_mprotect(world.root, world.space, world.at + 3 * PAGE, PAGE, NEOMM_PROT_READ));
    EXPECT_EQ(t, neomm_zero_user(world.root, world.space, world.at + 3 * PAGE, 8, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, get(&world, 3), 7);
    world_close(&world);
}

/* Strings that end, or do not, right before what is not mapped. */
static void strings(struct ktap *t)
{
    struct world world;
    static char text[2 * PAGE], back[2 * PAGE];
    ASSERT(t, world_open(t, &world));
    neomm_vaddr_t end = world.at + PAGES * PAGE;
    memset(text, 'x', sizeof(text));
    for (size_t length = 0; length < 2 * PAGE; length = length * 3 + 1) {
        size_t found = 0;
        neomm_vaddr_t at = end - length - 1;
        text[length] = '\0';
        EXPECT_OK(t, neomm_copy_to_user(world.root, world.space, at, text, length + 1, NULL));
        EXPECT_OK(t, neomm_copy_string_from_user(world.root, world.space, back, at, sizeof(back),
                                                 &found));
        EXPECT_EQ(t, found, length);
        EXPECT_EQ(t, memcmp(back, text, length + 1), 0);
        text[length] = 'x';
        EXPECT_EQ(t, neomm_copy_string_from_user(world.root, world.space, back, at, length, &found),
                  NEOMM_E_NOSPACE);
        EXPECT_EQ(t, found, length);
        EXPECT_OK(t, neomm_copy_to_user(world.root, world.space, at, text, length + 1, NULL));
        EXPECT_EQ(
            t, neomm_copy_string_from_user(world.root, world.space, back, at, sizeof(back), &found),
            NEOMM_E_FAULT);
        EXPECT_EQ(t, found, length + 1);
    }
    world_close(&world);
}

static void words(struct ktap *t)
{
    struct world world;
    uint32_t expected = 5;
    ASSERT(t, world_open(t, &world));
    put(&world, 0, 5);
    EXPECT_OK(t, neomm_user_compare_exchange(world.root, world.space, world.at, &expected, 6));
    EXPECT_EQ(t, get(&world, 0), 6);
    EXPECT_EQ(t, neomm_user_compare_exchange(world.root, world.space, world.at, &expected, 7),
              NEOMM_E_AGAIN);
    EXPECT_EQ(t, expected, 6);
    EXPECT_EQ(t, neomm_user_compare_exchange(world.root, world.space, world.at + 2, &expected, 7),
              NEOMM_E_ALIGN);
    /* The word is the child's own as soon as it is exchanged. */
    struct neomm_space *child;
    EXPECT_OK(t, neomm_space_fork(world.root, world.space, &child));
    neomm_space_activate(world.root, child);
    struct neomm_space *parent = world.space;
    world.space = child;
    EXPECT_OK(t, neomm_user_compare_exchange(world.root, child, world.at, &expected, 8));
    EXPECT_EQ(t, get(&world, 0), 8);
    world.space = parent;
    neomm_space_activate(world.root, parent);
    EXPECT_EQ(t, get(&world, 0), 6);
    EXPECT_OK(t, neomm_space_destroy(world.root, child));
    world_close(&world);
}

/* ---- pins ---- */

static uint64_t *word_of(struct world *world, neomm_frame_t frame)
{
    return neomm_direct_pointer(world->root, neomm_frame_paddr(frame));
}

/* A device writes to pages while their space is forked, evicted from and unmapped. */
static void pinned_pages_stay(struct ktap *t)
{
    struct world world;
    neomm_frame_t frame[PAGES];
    uint32_t done;
    struct neomm_space *child, *parent;
    ASSERT(t, world_open(t, &world));
    for (uint32_t i = 0; i < PAGES - 1; i++)
        put(&world, i, 10 + i);
    (void)neomm_space_evict(world.root, world.space, 2);
    EXPECT_OK(t, neomm_user_pin(world.root, world.space, world.at, PAGES, true, frame, &done));
    EXPECT_EQ(t, done, PAGES);
    EXPECT_EQ(t, neomm_space_evict(world.root, world.space, PAGES), 0);
    parent = world.space;
    EXPECT_OK(t, neomm_space_fork(world.root, parent, &child));
    for (uint32_t i = 0; i < PAGES; i++)
        *word_of(&world, frame[i]) = 20 + i;
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_EQ(t, get(&world, i), 20 + i);
    put(&world, 1, 31);
    EXPECT_EQ(t, *word_of(&world, frame[1]), 31);
    env_fsck(t, &world.env);
    EXPECT_OK(t, neomm_munmap(world.root, parent, world.at, PAGE));
    *word_of(&world, frame[0]) = 99;
    env_fsck(t, &world.env);
    neomm_user_unpin(world.root, frame, PAGES, true);
    EXPECT_EQ(t, neomm_space_evict(world.root, parent, PAGES), PAGES - 1);
    EXPECT_EQ(t, get(&world, 1), 31);
    EXPECT_EQ(t, get(&world, 2), 22);
    neomm_space_activate(world.root, child);
    world.space = child;
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_EQ(t, get(&world, i), i < PAGES - 1 ? 10 + i : 0);
    world.space = parent;
    neomm_space_activate(world.root, parent);
    EXPECT_OK(t, neomm_space_destroy(world.root, child));
    world_close(&world);
}

/* What is pinned to be read is the space's own as well, where it is read only, too; and what
 * cannot be pinned is said, with what could. */
static void pins_and_rights(struct ktap *t)
{
    struct world world;
    neomm_frame_t frame[PAGES];
    uint32_t done;
    struct neomm_space *child, *parent;
    ASSERT(t, world_open(t, &world));
    put(&world, 0, 1);
    put(&world, 1, 2);
    parent = world.space;
    EXPECT_OK(t, neomm_mprotect(world.root, parent, world.at, PAGE, NEOMM_PROT_READ));
    EXPECT_OK(t, neomm_space_fork(world.root, parent, &child));
    EXPECT_OK(t, neomm_user_pin(world.root, parent, world.at, 2, false, frame, &done));
    EXPECT_OK(t, neomm_mprotect(world.root, child, world.at, PAGE, RW));
    neomm_space_activate(world.root, child);
    world.space = child;
    put(&world, 0, 3);
    put(&world, 1, 4);
    EXPECT_EQ(t, *word_of(&world, frame[0]), 1);
    EXPECT_EQ(t, *word_of(&world, frame[1]), 2);
    neomm_user_unpin(world.root, frame, done, false);
    EXPECT_EQ(t, neomm_user_pin(world.root, parent, world.at, 2, true, frame, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, done, 0);
    EXPECT_OK(t, neomm_munmap(world.root, parent, world.at + 3 * PAGE, PAGE));
    EXPECT_EQ(t, neomm_user_pin(world.root, parent, world.at + PAGE, 4, true, frame, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, done, 2);
    neomm_user_unpin(world.root, frame, done, false);
    world.space = parent;
    neomm_space_activate(world.root, parent);
    EXPECT_EQ(t, get(&world, 0), 1);
    EXPECT_OK(t, neomm_space_destroy(world.root, child));
    world_close(&world);
}

/* The pin that is one too many. */
static void the_most_pins(struct ktap *t)
{
    struct world world;
    neomm_frame_t frame;
    uint32_t done, pins = 0;
    neomm_status status;
    ASSERT(t, world_open(t, &world));
    while ((status = neomm_user_pin(world.root, world.space, world.at, 1, true, &frame, &done)) ==
           NEOMM_OK)
        pins++;
    EXPECT_EQ(t, status, NEOMM_E_LIMIT);
    EXPECT_EQ(t, pins, 65000);
    for (; pins > 0; pins--)
        neomm_user_unpin(world.root, &frame, 1, false);
    world_close(&world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(beyond_the_user, formats),   KTAP_CASE_WITH(zeros, formats),
    KTAP_CASE_WITH(strings, formats),           KTAP_CASE_WITH(words, formats),
    KTAP_CASE_WITH(pinned_pages_stay, formats), KTAP_CASE_WITH(pins_and_rights, formats),
    KTAP_CASE_WITH(the_most_pins, formats),
};
KTAP_SUITE(user_access, cases);
