/* Many objects a call, objects taken in advance, aligned blocks, frees with a size.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include <neomm/heap_debug.h>

#include "base/bits.h"
#include "base/root.h"
#include "sim/sim.h"

#include <stdlib.h>

#define MANY 500u

static struct neomm_kmem *create(struct box *box, size_t size)
{
    const struct neomm_kmem_options options = {.name = "bulk", .size = size};
    return neomm_kmem_create(box->root, &options);
}

static uint64_t bad_frees(struct box *box)
{
    return box_counter(box, NEOMM_COUNTER_BAD_FREE);
}

/* ---- bulk ---- */

static int by_address(const void *a, const void *b)
{
    uintptr_t first = *(const uintptr_t *)a, second = *(const uintptr_t *)b;
    return (first > second) - (first < second);
}

static bool all_differ(void *const *objects, uint32_t count)
{
    static uintptr_t sorted[MANY];
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = (uintptr_t)objects[i];
    qsort(sorted, count, sizeof(sorted[0]), by_address);
    for (uint32_t i = 1; i < count; i++)
        if (sorted[i] == sorted[i - 1])
            return false;
    return true;
}

static const uint32_t counts[] = {0, 1, 2, 31, 32, 33, 62, 63, 64, 65, 100, MANY};

/* Any number, whatever the CPU has at hand. */
static void any_number(struct ktap *t)
{
    static const size_t sizes[] = {8, 100, 1024, 32768};
    static void *object[MANY], *before[70];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 64, 2))
        return;
    struct neomm_kmem *cache = create(&box, sizes[t->parameter]);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(counts); i++)
        for (uint32_t kept = 0; kept <= 70; kept += 35) {
            neomm_flags_t flags = i % 2 ? NEOMM_ZERO : 0;
            ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, kept, before));
            ASSERT_OK(t, neomm_kmem_free_bulk(box.root, cache, kept, before));
            ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, flags, counts[i], object));
            EXPECT(t, all_differ(object, counts[i]));
            EXPECT_EQ(t, objects(&box), counts[i]);
            for (uint32_t j = 0; j < counts[i]; j++) {
                EXPECT(t, flags == 0 || all_zero(object[j], sizes[t->parameter]));
                pattern_fill(object[j], sizes[t->parameter], j);
            }
            for (uint32_t j = 0; j < counts[i]; j++)
                EXPECT(t, pattern_holds(object[j], sizes[t->parameter], j));
            env_switch_cpu(&box.env, kept == 35);
            EXPECT_OK(t, neomm_kmem_free_bulk(box.root, cache, counts[i], object));
            EXPECT_EQ(t, objects(&box), 0);
        }
    EXPECT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, 0, NULL));
    EXPECT_OK(t, neomm_kmem_free_bulk(box.root, cache, 0, NULL));
    env_fsck(t, &box.env);
    env_switch_cpu(&box.env, 0);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* All or nothing; what is refused costs no memory, and what was there is still there. */
static void all_or_nothing(struct ktap *t)
{
    static void *object[2048];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 4, 2))
        return;
    struct neomm_kmem *cache = create(&box, 8192);
    void *mine = neomm_kmem_alloc(box.root, cache, 0);
    pattern_fill(mine, 8192, 1);
    uint64_t failures = box_counter(&box, NEOMM_COUNTER_KMALLOC_FAIL);
    EXPECT_EQ(t, neomm_kmem_alloc_bulk(box.root, cache, 0, 2048, object), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_kmem_alloc_bulk(box.root, cache, NEOMM_ATOMIC, 2048, object), NEOMM_E_NOMEM);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_KMALLOC_FAIL), failures + 2);
    EXPECT_EQ(t, objects(&box), 1);
    EXPECT(t, pattern_holds(mine, 8192, 1));
    env_fsck(t, &box.env);
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, mine));
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* One pointer in a row is bad: it is refused, the others are freed. */
static void mixed_pointers(struct ktap *t)
{
    enum { COUNT = 40 };
    void *object[COUNT], *all[COUNT + 1];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, 96), *other = create(&box, 96);
    void *foreign = neomm_kmem_alloc(box.root, other, 0), *run = take(&box, 9000, 0);
    const struct {
        void *pointer;
        neomm_status status;
    } bad[] = {{foreign, NEOMM_E_FOREIGN}, {run, NEOMM_E_FOREIGN}, {&box, NEOMM_E_FOREIGN}};
    uint64_t refused = bad_frees(&box);
    for (uint32_t which = 0; which < NEOMM__COUNT_OF(bad); which++)
        for (uint32_t at = 0; at <= COUNT; at++) {
            ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, COUNT, object));
            for (uint32_t i = 0; i <= COUNT; i++)
                all[i] = i == at ? bad[which].pointer : object[i - (i > at)];
            EXPECT_EQ(t, neomm_kmem_free_bulk(box.root, cache, COUNT + 1, all), bad[which].status);
            EXPECT_EQ(t, bad_frees(&box), ++refused);
            EXPECT_EQ(t, objects(&box), 2);
        }
    ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, COUNT, object));
    void *seventh = object[7];
    object[7] = NULL;
    EXPECT_OK(t, neomm_kmem_free_bulk(box.root, cache, COUNT, object));
    EXPECT_EQ(t, objects(&box), 3);
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, seventh));
    EXPECT_OK(t, neomm_kmem_free(box.root, other, foreign));
    EXPECT_OK(t, neomm_kfree(box.root, run));
    EXPECT_OK(t, neomm_kmem_destroy(box.root, other));
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* The same object twice in a row is refused once, however full the magazine is. */
static void twice_in_a_row(struct ktap *t)
{
    enum { COUNT = 80 };
    void *object[COUNT], *pair[3];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, 64);
    uint64_t refused = bad_frees(&box);
    for (uint32_t kept = 0; kept < 70; kept++) {
        (void)neomm_kmem_shrink(box.root, cache);
        ASSERT_OK(t, neomm_kmem_alloc_bulk(box.root, cache, 0, COUNT, object));
        EXPECT_OK(t, neomm_kmem_free_bulk(box.root, cache, kept, object));
        pair[0] = pair[1] = object[COUNT - 1];
        pair[2] = object[COUNT - 2];
        EXPECT_EQ(t, neomm_kmem_free_bulk(box.root, cache, 3, pair), NEOMM_E_DOUBLE_FREE);
        EXPECT_EQ(t, bad_frees(&box), ++refused);
        EXPECT_EQ(t, objects(&box), COUNT - kept - 2);
        env_fsck(t, &box.env);
        EXPECT_OK(t, neomm_kmem_free_bulk(box.root, cache, COUNT - kept - 2, object + kept));
        EXPECT_EQ(t, bad_frees(&box), refused);
    }
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* Blocks side by side are freed, and then freed again with all the others between: refused at once,
 * so that nobody is given one that somebody else has. */
static void freed_again(struct ktap *t)
{
    enum { COUNT = 32 };
    void *block[COUNT];
    struct box box;
    if (!box_open(t, &box, t->parameter & 1 ? BOX_WINDOW : BOX_DIRECT, 64, 1))
        return;
    enum neomm_heap_profile profile = t->parameter & 2 ? NEOMM_HEAP_FAST : NEOMM_HEAP_DEFAULT;
    EXPECT_OK(t, neomm_heap_set_profile(box.root, NULL, profile));
    for (size_t size = 16; size <= 8192; size += size / 4 + 16) {
        struct neomm_kmem_stats stats;
        neomm_kmem_stats(box.root, neomm_kmem_for(box.root, size), &stats);
        uint32_t count = stats.slab_objects < COUNT ? (uint32_t)stats.slab_objects : COUNT;
        count = size <= 256 ? count : size <= 2048 ? 8 : 2;
        uint64_t refused = bad_frees(&box);
        for (uint32_t i = 0; i < count; i++)
            block[i] = take(&box, size, 0);
        for (uint32_t i = 0; i < count; i++)
            EXPECT_OK(t, neomm_kfree(box.root, block[i]));
        for (uint32_t i = 0; i < count; i++)
            EXPECT_EQ(t, neomm_kfree(box.root, block[i]), NEOMM_E_DOUBLE_FREE);
        EXPECT_EQ(t, bad_frees(&box) - refused, count);
        EXPECT_EQ(t, objects(&box), 0);
    }
    env_fsck(t, &box.env);
    box_close(t, &box);
}

/* ---- in advance ---- */

static void prefill_never_fails(struct ktap *t)
{
    struct box box;
    struct neomm_prefill prefill;
    void *object[100];
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, 300);
    ASSERT_OK(t, neomm_prefill_init(box.root, &prefill, cache, 100, NEOMM_ZERO));
    bool faults = env_fault_plan(&box.env, 1, true);
    uint64_t points = sim_points(box.env.machine);
    for (uint32_t i = 0; i < 100; i++) {
        ASSERT(t, (object[i] = neomm_prefill_take(&prefill)) != NULL);
        EXPECT(t, all_zero(object[i], 300));
        pattern_fill(object[i], 300, i);
    }
    EXPECT_EQ(t, sim_points(box.env.machine), points); /* no word was shared, no lock taken */
    EXPECT(t, neomm_prefill_take(&prefill) == NULL);
    if (faults) {
        (void)neomm_heap_shrink(box.root);
        EXPECT_EQ(t, neomm_prefill_refill(box.root, &prefill, 0), NEOMM_E_NOMEM);
        EXPECT(t, neomm_prefill_take(&prefill) == NULL);
    }
    (void)env_fault_plan(&box.env, 0, false);
    for (uint32_t i = 0; i < 100; i++) {
        EXPECT(t, pattern_holds(object[i], 300, i));
        EXPECT_OK(t, neomm_kfree(box.root, object[i]));
    }
    EXPECT_OK(t, neomm_prefill_refill(box.root, &prefill, 0));
    EXPECT_EQ(t, objects(&box), 101); /* and the list of them */
    for (uint32_t i = 0; i < 30; i++)
        EXPECT_OK(t, neomm_kfree(box.root, neomm_prefill_take(&prefill)));
    EXPECT_OK(t, neomm_prefill_refill(box.root, &prefill, 0));
    EXPECT_OK(t, neomm_prefill_refill(box.root, &prefill, 0));
    EXPECT_EQ(t, objects(&box), 101);
    neomm_prefill_end(box.root, &prefill);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* None at all: whoever does not know how many he needs need not look. */
static void prefill_of_none(struct ktap *t)
{
    struct box box;
    struct neomm_prefill prefill;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, 300);
    (void)env_fault_plan(&box.env, 1, true);
    EXPECT_OK(t, neomm_prefill_init(box.root, &prefill, cache, 0, 0));
    EXPECT(t, neomm_prefill_take(&prefill) == NULL);
    EXPECT_OK(t, neomm_prefill_refill(box.root, &prefill, 0));
    EXPECT_EQ(t, objects(&box), 0);
    neomm_prefill_end(box.root, &prefill);
    (void)env_fault_plan(&box.env, 0, false);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

static void prefill_without_memory(struct ktap *t)
{
    struct box box;
    struct neomm_prefill prefill;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, 3000);
    EXPECT_EQ(t, neomm_prefill_init(box.root, &prefill, cache, 100000, 0), NEOMM_E_NOMEM);
    EXPECT_EQ(t, objects(&box), 0);
    for (uint64_t n = 1; n < 10 && env_fault_plan(&box.env, n, true); n++)
        if (neomm_prefill_init(box.root, &prefill, cache, 20, 0) == NEOMM_OK)
            neomm_prefill_end(box.root, &prefill);
    (void)env_fault_plan(&box.env, 0, false);
    EXPECT_EQ(t, objects(&box), 0);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* ---- aligned blocks ---- */

static void *aligned(struct box *box, size_t size, size_t align)
{
    return neomm_kmalloc_aligned(box->root, size, align, 0);
}

/* As the MMU sees it: on the host the direct map lies where there is room. */
static size_t misaligned(struct box *box, const void *block, size_t align)
{
    if (align <= NEOMM_PAGE_SIZE)
        return (uintptr_t)block % align;
    return ((uintptr_t)block - (uintptr_t)neomm_direct_pointer(box->root, 0)) % align;
}

static void check_aligned(struct ktap *t, struct box *box, size_t size, size_t align)
{
    void *first = aligned(box, size, align), *second = aligned(box, size, align);
    ASSERT(t, first && second);
    EXPECT_EQ(t, misaligned(box, first, align), 0);
    EXPECT_EQ(t, misaligned(box, second, align), 0);
    EXPECT(t, neomm_ksize(box->root, first) >= size);
    pattern_fill(first, size, 1);
    pattern_fill(second, size, 2);
    EXPECT(t, pattern_holds(first, size, 1));
    EXPECT_OK(t, neomm_kfree(box->root, first));
    EXPECT(t, pattern_holds(second, size, 2));
    EXPECT_OK(t, neomm_kfree(box->root, second));
}

static void every_alignment(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 64, 1))
        return;
    for (size_t align = 1; align <= (size_t)2 << 20; align *= 2)
        for (size_t size = 1; size <= (size_t)1 << 20 && t->failures == 0;
             size += size < 40 ? 1 : size / 3)
            check_aligned(t, &box, size, align);
    for (size_t size = 1; size <= 9000; size++)
        check_aligned(t, &box, size, (size_t)1 << size % 13);
    box_close(t, &box);
}

static void alignments_that_are_none(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    volatile size_t huge = (size_t)PTRDIFF_MAX + 1;
    EXPECT(t, aligned(&box, 100, 0) == NULL);
    EXPECT(t, aligned(&box, 100, 3) == NULL);
    EXPECT(t, aligned(&box, 100, 48) == NULL);
    EXPECT(t, aligned(&box, 0, 64) == NULL);
    EXPECT(t, aligned(&box, 0, 8192) == NULL);
    EXPECT(t, aligned(&box, huge, 64) == NULL);
    EXPECT(t, aligned(&box, huge, 8192) == NULL);
    EXPECT(t, aligned(&box, 100, huge) == NULL);
    EXPECT(t, aligned(&box, 100, (size_t)64 << 20) == NULL);
    box_close(t, &box);
}

/* Aligned memory that the heap holds back is found, too. */
static void aligned_with_what_is_held_back(struct ktap *t)
{
    static void *block[1024];
    struct box box;
    uint32_t count = 0;
    if (!box_open(t, &box, BOX_DIRECT, 4, 1))
        return;
    while (count < 1024 && (block[count] = take(&box, 8192, 0)) != NULL)
        count++;
    ASSERT(t, count > 300);
    /* A few slabs, all of them kept: less than a magazine and the empty slabs hold. */
    void *page[4];
    uint32_t pages = 0;
    for (uint32_t i = 0; i < 8; i++)
        EXPECT_OK(t, neomm_kfree(box.root, block[--count]));
    while (pages < 4 && (page[pages] = aligned(&box, 16384, 16384)) != NULL)
        pages++;
    EXPECT(t, pages >= 1);
    while (pages > 0)
        EXPECT_OK(t, neomm_kfree(box.root, page[--pages]));
    while (count > 0)
        EXPECT_OK(t, neomm_kfree(box.root, block[--count]));
    box_close(t, &box);
}

/* ---- frees with a size ---- */

static void sized_frees(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (size_t size = 1; size <= 40000; size += 1 + size / 5) {
        void *block = take(&box, size, 0);
        size_t usable = neomm_ksize(box.root, block);
        uint64_t refused = bad_frees(&box);
        EXPECT_EQ(t, neomm_kfree_sized(box.root, block, usable + 1), NEOMM_E_INVALID);
        EXPECT_EQ(t, neomm_kfree_sized(box.root, block, SIZE_MAX), NEOMM_E_INVALID);
        EXPECT_EQ(t, neomm_kfree_sized(box.root, block, 0), NEOMM_E_INVALID);
        EXPECT_EQ(t, bad_frees(&box), refused + 3);
        EXPECT_EQ(t, objects(&box), 1);
        EXPECT_OK(t, neomm_kfree_sized(box.root, block, size));
        uintptr_t gone = (uintptr_t)block;
        EXPECT_EQ(t, neomm_kfree_sized(box.root, (void *)gone, size), NEOMM_E_DOUBLE_FREE);
        EXPECT_EQ(t, bad_frees(&box), refused + 4);
    }
    EXPECT_EQ(t, neomm_kfree_sized(box.root, &box, 1), NEOMM_E_FOREIGN);
    EXPECT_OK(t, neomm_kfree_sized(box.root, NULL, 5));
    box_close(t, &box);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};
static const uint64_t four[] = {0, 1, 2, 3};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(any_number, four),
    KTAP_CASE(all_or_nothing),
    KTAP_CASE(mixed_pointers),
    KTAP_CASE(twice_in_a_row),
    KTAP_CASE_WITH(freed_again, four),
    KTAP_CASE(prefill_never_fails),
    KTAP_CASE(prefill_of_none),
    KTAP_CASE(prefill_without_memory),
    KTAP_CASE_WITH(every_alignment, kinds),
    KTAP_CASE_WITH(alignments_that_are_none, kinds),
    KTAP_CASE(aligned_with_what_is_held_back),
    KTAP_CASE_WITH(sized_frees, kinds),
};

KTAP_SUITE(heap_bulk, cases);
