/* A page source that keeps free frames zero, as one may that knows of all that the heap gives back.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "sim/sim.h"

#include <neomm/heap_debug.h>
#include <neomm/pmm.h>
#include <string.h>

#define FRAMES_MOST 8192u

static struct neomm_page_source direct;

static void clear_and_free(void *context, void *run, uint32_t pages)
{
    memset(run, 0, pages * NEOMM_PAGE_SIZE);
    direct.run_free(context, run, pages);
}

static void clear(void *context, void *run, uint32_t pages)
{
    (void)context;
    memset(run, 0, pages * NEOMM_PAGE_SIZE);
}

static bool is_zero(const struct neomm *root, neomm_frame_t frame)
{
    const uint8_t *page = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    for (size_t i = 0; i < NEOMM_PAGE_SIZE; i++)
        if (page[i] != 0)
            return false;
    return true;
}

/* Frames that are free and not zero; `clean` makes them so. */
static uint32_t soiled(struct ktap *t, struct neomm *root, bool clean)
{
    static neomm_frame_t frame[FRAMES_MOST];
    uint32_t count = 0, found = 0;
    while (count < FRAMES_MOST && neomm_pmm_alloc(root, 0, 0, &frame[count]) == NEOMM_OK)
        count++;
    EXPECT(t, count < FRAMES_MOST);
    for (uint32_t i = 0; i < count; i++) {
        found += !is_zero(root, frame[i]);
        if (clean)
            memset(neomm_direct_pointer(root, neomm_frame_paddr(frame[i])), 0, NEOMM_PAGE_SIZE);
        EXPECT_OK(t, neomm_pmm_free(root, frame[i], 0));
    }
    return found;
}

/* Objects of all sizes, an object cache, runs, and their ends. What is free is zero at any time. */
static void use(struct ktap *t, struct neomm *root)
{
    enum { BLOCKS = 300 };
    static void *block[BLOCKS];
    const struct neomm_kmem_options options = {.name = "zero", .size = 200};
    struct neomm_kmem *cache = neomm_kmem_create(root, &options);
    ASSERT(t, cache);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        size_t size = 8 + i * i % 20000;
        block[i] = i % 3 == 0 ? neomm_kmem_alloc(root, cache, 0) : neomm_kmalloc(root, size, 0);
        ASSERT(t, block[i]);
        memset(block[i], 0xa5, i % 3 == 0 ? 200 : size);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        EXPECT_OK(t, neomm_kfree(root, block[i]));
    EXPECT_OK(t, neomm_kmem_destroy(root, cache));
    EXPECT_EQ(t, soiled(t, root, false), 0);
}

/* Whatever the heap took, whether through the source or from the frame allocator by itself, is zero
 * again when it has ended. */
static void frames_come_back_zero(struct ktap *t)
{
    struct env env;
    struct env_options options = {
        .layer = ENV_PMM, .format = box_format(), .ram_bytes = 16 << 20, .cpus = 2};
    struct neomm_page_source source;
    const struct neomm_heap_options heap_options = {.source = &source};
    if (!env_open(t, &env, &options))
        return;
    (void)soiled(t, env.root, true);
    EXPECT_EQ(t, soiled(t, env.root, false), 0);
    neomm_heap_source_direct(env.root, &source);
    direct = source;
    source.run_free = clear_and_free;
    source.discard = clear;
    ASSERT_OK(t, neomm_heap_init(env.root, &heap_options));
    ASSERT_OK(t, neomm_heap_set_profile(env.root, NULL, (enum neomm_heap_profile)t->parameter));
    use(t, env.root);
    ASSERT_OK(t, neomm_heap_track(env.root, true));
    use(t, env.root);
    EXPECT_OK(t, neomm_heap_fini(env.root));
    EXPECT_EQ(t, soiled(t, env.root, false), 0);
    env_close(t, &env);
}

static const uint64_t profiles[] = {NEOMM_HEAP_FAST, NEOMM_HEAP_DEFAULT, NEOMM_HEAP_HARDENED};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(frames_come_back_zero, profiles),
};

KTAP_SUITE(heap_zero, cases);
