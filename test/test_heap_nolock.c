/* The heap where nothing may be waited for: while somebody holds the lock of the same cache, or is
 * inside the magazine, as an NMI handler may find it.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "heap/magazine.h"
#include "sim/sim.h"

#include <string.h>

#define SOME 100u

static void *take_nolock(struct box *box, size_t size)
{
    return neomm_kmalloc(box->root, size, NEOMM_NOLOCK);
}

static uint64_t bad_frees(struct box *box)
{
    return box_counter(box, NEOMM_COUNTER_BAD_FREE);
}

static uint32_t kept(struct neomm_kmem *cache, uint32_t cpu)
{
    return neomm__magazine_kept(neomm__magazine_of(cache, cpu));
}

/* ---- with the lock held ---- */

/* What is at hand is given, what is not is not waited for. */
static void takes_what_is_at_hand(struct ktap *t)
{
    struct box box;
    void *list = NULL;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 64);
    EXPECT_OK(t, neomm_kfree(box.root, take(&box, 64, 0)));
    uint32_t have = kept(cache, 0), got = 0;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    for (void **block; (block = take_nolock(&box, 64)) != NULL; got++) {
        *block = list;
        list = block;
    }
    neomm__unlock(&cache->lock, irq);
    EXPECT_EQ(t, got, have);
    EXPECT_EQ(t, kept(cache, 0), 0);
    /* With the lock free there is more, but never a new slab. */
    for (void **block; (block = take_nolock(&box, 64)) != NULL; got++) {
        *block = list;
        list = block;
    }
    EXPECT_EQ(t, got, cache->objects);
    while (list) {
        void *block = list;
        list = *(void **)block;
        EXPECT_OK(t, neomm_kfree(box.root, block));
    }
    box_close(t, &box);
}

/* Pages would have to be asked for: not even with memory in plenty. */
static void takes_no_pages(struct ktap *t)
{
    static const size_t sizes[] = {3000, 4096, 8192, 8193, 20000, (size_t)5 << 20};
    struct box box;
    if (!box_open(t, &box, t->parameter, 32, 1))
        return;
    uint64_t locks = sim_locks_taken(box.env.machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(sizes); i++) {
        EXPECT(t, take_nolock(&box, sizes[i]) == NULL);
        EXPECT(t, neomm_kmalloc(box.root, sizes[i], NEOMM_NOLOCK | NEOMM_DMA) == NULL);
        EXPECT(t, neomm_kmalloc_aligned(box.root, sizes[i], 8192, NEOMM_NOLOCK) == NULL);
    }
    EXPECT(t, neomm_kmalloc(box.root, 64, NEOMM_NOLOCK | NEOMM_DMA) == NULL);
    /* The slabs may be looked at, by a try, and nothing else. */
    EXPECT(t, sim_locks_taken(box.env.machine) <= locks + 6 * NEOMM__COUNT_OF(sizes));
    EXPECT_EQ(t, neomm_pmm_free_frames(box.root), box.free_before);
    box_close(t, &box);
}

/* What finds no room is put off, stays counted as live, and is freed when memory is wanted. */
static void frees_later(struct ktap *t)
{
    struct box box;
    void *block[SOME];
    if (!box_open(t, &box, t->parameter, 32, 2))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 512);
    uint8_t *run = take(&box, 9000, 0), *large = take(&box, 100000, 0);
    for (uint32_t i = 0; i < SOME; i++)
        block[i] = take(&box, 512, 0);
    neomm_irq_t irq = neomm__lock(&cache->lock);
    uint64_t locks = sim_locks_taken(box.env.machine);
    for (uint32_t i = 0; i < SOME; i++)
        EXPECT_OK(t, neomm_kfree_nolock(box.root, block[i]));
    EXPECT_OK(t, neomm_kfree_nolock(box.root, run));
    EXPECT_OK(t, neomm_kfree_nolock(box.root, large));
    EXPECT_EQ(t, sim_locks_taken(box.env.machine), locks);
    neomm__unlock(&cache->lock, irq);
    uint64_t later = objects(&box);
    EXPECT(t, later >= 2 + SOME - cache->capacity && later < SOME);
    env_fsck(t, &box.env);
    env_switch_cpu(&box.env, t->parameter ? 1 : 0);
    (void)neomm_heap_shrink(box.root);
    EXPECT_EQ(t, objects(&box), 0);
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

/* A link that is overwritten while its object waits leads nowhere: neither to another live block
 * nor to an end that looks right. The objects behind it are lost, and with them nothing else. */
static void links_are_hidden(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    uintptr_t victim = (uintptr_t)take(&box, 20000, 0), first, second;
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t bad = box_counter(&box, NEOMM_COUNTER_BAD_FREE);
        first = (uintptr_t)take(&box, 20000, 0);
        second = (uintptr_t)take(&box, 20000, 0);
        EXPECT_OK(t, neomm_kfree_nolock(box.root, (void *)first));
        EXPECT_OK(t, neomm_kfree_nolock(box.root, (void *)second));
        EXPECT(t, *(volatile uintptr_t *)second != first);
        *(volatile uintptr_t *)second = i == 0 ? victim : 0;
        (void)neomm_heap_shrink(box.root);
        EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_BAD_FREE), bad + 1);
        EXPECT_EQ(t, neomm_ksize(box.root, (void *)victim), 20480);
        EXPECT_OK(t, neomm_kfree(box.root, (void *)first)); /* it was lost, and is live */
    }
    EXPECT_OK(t, neomm_kfree(box.root, (void *)victim));
    box_close(t, &box);
}

/* Also when the next request finds no object at hand. */
static void freed_when_more_is_wanted(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    void *run = take(&box, 20000, 0);
    EXPECT_OK(t, neomm_kfree_nolock(box.root, run));
    EXPECT_EQ(t, objects(&box), 1);
    void *block = take(&box, 200, 0);
    EXPECT_EQ(t, objects(&box), 1);
    EXPECT_OK(t, neomm_kfree(box.root, block));
    box_close(t, &box);
}

/* ---- mistakes ---- */

/* Counted, but not logged: the port's log is not for NMI handlers. */
static void mistakes(struct ktap *t)
{
    struct box box;
    char before[200];
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    uint8_t *block = take(&box, 512, 0), *run = take(&box, 9000, 0);
    EXPECT_OK(t, neomm_kfree(box.root, take(&box, 512, 0)));
    volatile uintptr_t inside = (uintptr_t)block + 1;
    (void)neomm_kfree(box.root, (void *)inside); /* for a line that is the last */
    (void)strncpy(before, sim_last_log(box.env.machine), sizeof(before) - 1);
    before[sizeof(before) - 1] = 0;
    uint64_t bad = bad_frees(&box);
    EXPECT_OK(t, neomm_kfree_nolock(box.root, NULL));
    EXPECT_EQ(t, neomm_kfree_nolock(box.root, block + 16), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_kfree_nolock(box.root, run + 4096), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_kfree_nolock(box.root, before), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, bad_frees(&box), bad + 3);
    EXPECT(t, strcmp(before, sim_last_log(box.env.machine)) == 0);
    EXPECT_OK(t, neomm_kfree(box.root, block));
    EXPECT_OK(t, neomm_kfree(box.root, run));
    box_close(t, &box);
}

/* Objects freed twice while they wait: refused at once or when they are freed, and there is an end
 * to it. */
static void double_frees_that_wait(struct ktap *t)
{
    struct box box;
    void *run[3];
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (uint32_t i = 0; i < 3; i++)
        run[i] = take(&box, 9000, 0);
    uint64_t bad = bad_frees(&box);
    EXPECT_OK(t, neomm_kfree_nolock(box.root, run[0]));
    EXPECT_EQ(t, neomm_kfree_nolock(box.root, run[0]), NEOMM_E_DOUBLE_FREE);
    EXPECT_OK(t, neomm_kfree_nolock(box.root, run[1]));
    (void)neomm_kfree_nolock(box.root, run[0]);
    (void)neomm_kfree_nolock(box.root, run[1]);
    (void)neomm_heap_shrink(box.root);
    EXPECT_EQ(t, objects(&box), 1);
    EXPECT(t, bad_frees(&box) >= bad + 2);
    env_fsck(t, &box.env);
    EXPECT_OK(t, neomm_kfree(box.root, run[2]));
    box_close(t, &box);
}

/* ---- constructed objects ---- */

static void make(void *context, void *object)
{
    (void)context;
    pattern_fill(object, 200, 9);
}

/* Waiting objects are linked through their own bytes; who gets them next finds them constructed. */
static void constructed_objects_wait(struct ktap *t)
{
    struct box box;
    void *object[SOME];
    const struct neomm_kmem_options options = {.name = "made", .size = 200, .construct = make};
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = neomm_kmem_create(box.root, &options);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < SOME; i++) {
            ASSERT(t, (object[i] = neomm_kmem_alloc(box.root, cache, 0)) != NULL);
            EXPECT(t, pattern_holds(object[i], 200, 9));
        }
        for (uint32_t i = 0; i < SOME; i++)
            EXPECT_OK(t, neomm_kfree_nolock(box.root, object[i]));
    }
    (void)neomm_heap_shrink(box.root);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* ---- bulk ---- */

/* All or nothing without waiting, whatever was at hand before it turned out not to be enough. */
static void bulk(struct ktap *t)
{
    struct box box;
    void *object[SOME], *more[SOME];
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 2048);
    void *first = take(&box, 2048, 0), *second = take(&box, 2048, 0);
    EXPECT_OK(t, neomm_kfree(box.root, first));
    EXPECT_OK(t, neomm_kfree(box.root, second));
    for (uint32_t have = 0; have <= 2 * cache->objects; have++) {
        ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, have, object));
        ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, have, object));
        neomm_irq_t irq = neomm__lock(&cache->lock);
        uint64_t locks = sim_locks_taken(box.env.machine), at_hand = kept(cache, 0);
        neomm_status status =
            neomm_kmem_alloc_bulk(box.root, cache, NEOMM_NOLOCK, (uint32_t)at_hand + 1, more);
        EXPECT_EQ(t, status, NEOMM_E_NOMEM);
        status = neomm_kmem_alloc_bulk(box.root, cache, NEOMM_NOLOCK, (uint32_t)at_hand, more);
        EXPECT_OK(t, status);
        EXPECT_EQ(t, sim_locks_taken(box.env.machine), locks);
        neomm__unlock(&cache->lock, irq);
        ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, (uint32_t)at_hand, more));
        EXPECT_EQ(t, objects(&box), 0);
    }
    box_close(t, &box);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};

static const struct ktap_case cases[] = {
    KTAP_CASE(takes_what_is_at_hand),    KTAP_CASE_WITH(takes_no_pages, kinds),
    KTAP_CASE_WITH(frees_later, kinds),  KTAP_CASE(freed_when_more_is_wanted),
    KTAP_CASE_WITH(mistakes, kinds),     KTAP_CASE_WITH(double_frees_that_wait, kinds),
    KTAP_CASE(constructed_objects_wait), KTAP_CASE(bulk),
    KTAP_CASE(links_are_hidden),
};

KTAP_SUITE(heap_nolock, cases);
