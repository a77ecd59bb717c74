/* HARDENED caches: what they find, what they report, and that all else works as it did.
 * SPDX-License-Identifier: MIT
 *
 * The lists of errors that others' allocators must find, by their names there, and the case here.
 *
 * hardened_malloc, which must abort:
 *   delete_type_size_mismatch, invalid_free_aligned_sized_small,
 *   invalid_aligned_sized_delete_*                      sized_frees
 *   double_free_small, _small_delayed, quarantine_double_free_extended(_delayed)    double_frees
 *   double_free_large, _large_delayed                   double_frees_of_pages
 *   invalid_free_protected, _unprotected, _small_region, _small_region_far, unaligned_free_*,
 *   uninitialized_free, uninitialized_realloc           invalid_frees
 *   invalid_malloc_usable_size_*, invalid_malloc_object_size_*, unaligned_malloc_usable_size_small,
 *   uninitialized_malloc_usable_size                    sizes_of_what_is_not_live
 *   overflow_small_1_byte, _8_byte, string_overflow, canary_leak     overruns
 *   overflow_large_1_byte, _8_byte, _aligned, read_after_free_large, write_after_free_large,
 *   write_after_free_large_reuse, overflow_realloc_shrink_large, read_after_realloc_shrink_large
 *                                                       beside_pages
 *   read_after_free_small                               freed_memory_is_zero
 *   write_after_free_small, _small_reuse, quarantine_write_after_free_extended_reuse
 *                                                       writes_after_free
 *   read_zero_size, write_zero_size, malloc_zero_different, malloc_object_size_zero
 *                                                       no_bytes: kmalloc(0) is NULL
 *   realloc_c23_undefined_behaviour_*                   no_bytes: krealloc(p, 0) frees
 *   memcpy_*, memmove_*, memset_*, memccpy_*, wmem*: not the heap's: no C library in a kernel
 * which must pass:
 *   uninitialized_read_small, _large, calloc_zeroed     freed_memory_is_zero
 *   calloc_overflow, reallocarray_overflow, impossibly_large_malloc, _realloc,
 *   aligned_alloc_einval, posix_memalign_einval         no_bytes
 *   malloc_object_size, _offset, free_sized_*, aligned_sized_delete_*        sized_frees
 *   malloc_noreuse                                      reuse_is_late_and_random
 *   large_array_growth, realloc_init, realloc_split_mapping_large            any_calls
 *   mallinfo, malloc_info, pvalloc, offset: calls that this heap has not
 *
 * Linux's slub_kunit: clobber_zone, kmalloc_redzone_access: overruns; next_pointer: no links in
 *   free objects (those of kfree_nolock: heap_nolock); first_word, clobber_50th_byte,
 *   clobber_redzone_free: writes_after_free.
 * Linux's KASAN: an access is found there at once, here when the block is freed or reused (GUARDED
 *   objects and large blocks: at once). kmalloc_oob_right, oob_in_memset, memset_*, oob_16,
 *   krealloc_more_oob, krealloc_less_oob, kmem_cache_oob, mempool_*_oob_right: overruns,
 *   objects_of_caches; kmalloc_oob_left, node_oob_right, memmove_negative_size, _invalid_size:
 *   reads, or writes before the block, which are the neighbour's overrun; kmalloc_large_*,
 *   krealloc_large_*, page_alloc_*, vmalloc_oob: beside_pages; kmalloc_uaf*, krealloc_uaf,
 *   mempool_*_uaf: writes_after_free; ksize_uaf: sizes_of_what_is_not_live; ksize_unpoisons_memory:
 *   sized_frees; kmalloc_double_kzfree, kmem_cache_double_free, mempool_*_double_free:
 *   double_frees; kmem_cache_invalid_free, kfree_via_page, kfree_via_phys, mempool_*_invalid_free:
 *   invalid_frees; kmem_cache_bulk: objects_of_caches; kmem_cache_double_destroy: kmem. Stacks,
 *   globals, bit operations, tags, RCU and work queues are not the heap's.
 */
#include "heap_box.h"

#include "base/root.h"
#include "sim/sim.h"

#include <neomm/heap_debug.h>

#include <string.h>

/* ---- the box, HARDENED, and what it reported ---- */

struct seen {
    struct box box;
    uint32_t count, with_locks;
    struct neomm_heap_report last;
};

static void note_report(void *context, const struct neomm_heap_report *report)
{
    struct seen *seen = context;
    seen->count++;
    seen->with_locks += neomm_port_cpu()->lock_depth != 0;
    seen->last = *report;
}

static bool seen_open(struct ktap *t, struct seen *seen, uint64_t kind)
{
    *seen = (struct seen){.count = 0};
    if (!box_open(t, &seen->box, kind, 32, 2))
        return false;
    neomm_heap_on_error(seen->box.root, note_report, seen);
    EXPECT_OK(t, neomm_heap_set_profile(seen->box.root, NULL, NEOMM_HEAP_HARDENED));
    return t->failures == 0;
}

/* Memory for watching stays until the heap ends, which gives all back: env_close sees to it. */
static void seen_close(struct ktap *t, struct seen *seen)
{
    EXPECT_EQ(t, seen->with_locks, 0);
    (void)neomm_heap_shrink(seen->box.root);
    seen->box.free_before = neomm_pmm_free_frames(seen->box.root);
    box_close(t, &seen->box);
}

/* One report, of this error, since the last question; the counter agrees. */
static void expect_report(struct ktap *t, struct seen *seen, enum neomm_heap_error error)
{
    EXPECT_EQ(t, seen->count, 1);
    EXPECT_EQ(t, seen->last.error, error);
    seen->count = 0;
}

/* Blocks are held as numbers: compilers know what may be done to a pointer that was freed. */
static uintptr_t get(struct seen *seen, size_t size)
{
    return (uintptr_t)take(&seen->box, size, 0);
}

static neomm_status give(struct seen *seen, uintptr_t block)
{
    void *volatile pointer = (void *)block;
    return neomm_kfree(seen->box.root, pointer);
}

static size_t size_of(struct seen *seen, uintptr_t block)
{
    return neomm_ksize(seen->box.root, (const void *)block);
}

static volatile uint8_t *byte_at(uintptr_t block, size_t offset)
{
    return (volatile uint8_t *)(block + offset);
}

/* So many blocks come and go that whatever waited does not any more. */
static void churn(struct ktap *t, struct seen *seen, size_t size)
{
    for (uint32_t i = 0; i < 2000; i++)
        EXPECT_OK(t, give(seen, get(seen, size)));
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};
static const uint64_t sizes[] = {1, 8, 15, 16, 17, 64, 100, 192, 1024, 3000, 4096, 8191};

/* ---- frees ---- */

static void double_frees(struct ktap *t)
{
    struct seen seen;
    size_t size = (size_t)t->parameter;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    uintptr_t block = get(&seen, size), other = get(&seen, size);
    EXPECT_OK(t, give(&seen, block));
    EXPECT_EQ(t, give(&seen, block), NEOMM_E_DOUBLE_FREE);
    expect_report(t, &seen, NEOMM_HEAP_DOUBLE_FREE);
    EXPECT(t, (uintptr_t)seen.last.object == block && !seen.last.live);
    EXPECT_EQ(t, seen.last.size, size);
    EXPECT_OK(t, give(&seen, other));
    EXPECT_EQ(t, give(&seen, block), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, give(&seen, other), NEOMM_E_DOUBLE_FREE);
    seen.count = 0;
    env_fsck(t, &seen.box.env);
    seen_close(t, &seen);
}

/* At every distance between the two frees, while the block waits and after that. */
static void double_frees_later(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (uint32_t distance = 0; distance < 600; distance += 1 + distance / 4) {
        uintptr_t block = get(&seen, 64), held[600];
        EXPECT_OK(t, give(&seen, block));
        for (uint32_t i = 0; i < distance; i++)
            held[i] = get(&seen, 64);
        bool reused = false;
        for (uint32_t i = 0; i < distance; i++) {
            reused = reused || held[i] == block;
            EXPECT_OK(t, give(&seen, held[i]));
        }
        EXPECT(t, !reused);
        EXPECT_EQ(t, give(&seen, block), NEOMM_E_DOUBLE_FREE);
    }
    seen_close(t, &seen);
}

static void double_frees_of_pages(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, t->parameter))
        return;
    neomm_status wanted = seen.box.window ? NEOMM_E_FOREIGN : NEOMM_E_DOUBLE_FREE;
    uintptr_t block = get(&seen, 256 << 10), other = get(&seen, 256 << 10);
    EXPECT_OK(t, give(&seen, block));
    EXPECT_EQ(t, give(&seen, block), wanted);
    EXPECT_EQ(t, seen.count, 1);
    EXPECT_OK(t, give(&seen, other));
    EXPECT_EQ(t, give(&seen, block), wanted);
    seen_close(t, &seen);
}

static void invalid_frees(struct ktap *t)
{
    static int outside;
    struct seen seen;
    if (!seen_open(t, &seen, t->parameter))
        return;
    struct neomm *root = seen.box.root;
    uintptr_t block = get(&seen, 100), pages = get(&seen, 50000);
    static const size_t offsets[] = {1, 8, 16, 50, 99};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        EXPECT_EQ(t, give(&seen, block + offsets[i]), NEOMM_E_INVALID);
        expect_report(t, &seen, NEOMM_HEAP_INVALID_FREE);
        EXPECT(t, (uintptr_t)seen.last.object == block && seen.last.live);
        EXPECT_EQ(t, seen.last.offset, offsets[i]);
        EXPECT_EQ(t, seen.last.size, 100);
        EXPECT_EQ(t, give(&seen, pages + offsets[i] * 300), NEOMM_E_INVALID);
        expect_report(t, &seen, NEOMM_HEAP_INVALID_FREE);
        EXPECT(t, (uintptr_t)seen.last.object == pages && seen.last.live);
        EXPECT_EQ(t, seen.last.offset, offsets[i] * 300);
        EXPECT_EQ(t, seen.last.size, 50000);
        EXPECT(t, !seen.last.cache && seen.last.allocated.site);
    }
    EXPECT_EQ(t, give(&seen, (uintptr_t)&outside), NEOMM_E_FOREIGN);
    expect_report(t, &seen, NEOMM_HEAP_FOREIGN_FREE);
    EXPECT_EQ(t, give(&seen, 0x1000), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, give(&seen, (uintptr_t)root->layout.direct.base), NEOMM_E_FOREIGN);
    EXPECT(t, neomm_krealloc(root, &outside, 10, 0) == NULL);
    EXPECT(t, neomm_krealloc(root, (void *)(block + 1), 10, 0) == NULL);
    EXPECT_EQ(t, seen.count, 4);
    EXPECT_OK(t, give(&seen, block));
    EXPECT_OK(t, give(&seen, pages));
    seen_close(t, &seen);
}

static void sized_frees(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    struct neomm *root = seen.box.root;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = (size_t)sizes[i];
        void *block = take(&seen.box, size, 0);
        EXPECT_EQ(t, neomm_ksize(root, block), size);
        pattern_fill(block, size, 1);
        EXPECT_EQ(t, neomm_kfree_sized(root, block, size + 1), NEOMM_E_INVALID);
        EXPECT_EQ(t, neomm_kfree_sized(root, block, size - 1), NEOMM_E_INVALID);
        EXPECT(t, pattern_holds(block, size, 1));
        EXPECT_OK(t, neomm_kfree_sized(root, block, size));
        block = neomm_kmalloc_aligned(root, size, 64, 0);
        EXPECT_EQ(t, neomm_ksize(root, block), size);
        EXPECT_OK(t, neomm_kfree_sized(root, block, size));
    }
    EXPECT_EQ(t, seen.count, 2 * sizeof(sizes) / sizeof(sizes[0]));
    seen_close(t, &seen);
}

static void sizes_of_what_is_not_live(struct ktap *t)
{
    static int outside;
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    uintptr_t block = get(&seen, 40), next = get(&seen, 40);
    EXPECT_EQ(t, size_of(&seen, block), 40);
    EXPECT_EQ(t, size_of(&seen, block + 8), 0);
    EXPECT_EQ(t, size_of(&seen, (uintptr_t)&outside), 0);
    EXPECT_OK(t, give(&seen, block));
    EXPECT_EQ(t, size_of(&seen, block), 0); /* it waits */
    churn(t, &seen, 40);
    (void)neomm_heap_shrink(seen.box.root);
    EXPECT_EQ(t, size_of(&seen, block), 0); /* it is free in its slab */
    EXPECT_EQ(t, size_of(&seen, next), 40);
    EXPECT_OK(t, give(&seen, next));
    seen_close(t, &seen);
}

static void no_bytes(struct ktap *t)
{
    struct seen seen;
    volatile size_t huge = SIZE_MAX;
    if (!seen_open(t, &seen, t->parameter))
        return;
    struct neomm *root = seen.box.root;
    EXPECT(t, get(&seen, 0) == 0);
    EXPECT(t, neomm_krealloc(root, take(&seen.box, 20, 0), 0, 0) == NULL);
    EXPECT_EQ(t, objects(&seen.box), 0);
    EXPECT(t, get(&seen, huge) == 0);
    EXPECT(t, get(&seen, huge / 2) == 0);
    EXPECT(t, get(&seen, (size_t)1 << 29) == 0);
    EXPECT(t, neomm_kmalloc_array(root, huge / 4, 5, 0) == NULL);
    EXPECT(t, neomm_kmalloc_aligned(root, 100, 24, 0) == NULL);
    uintptr_t block = get(&seen, 30);
    pattern_fill((void *)block, 30, 3);
    EXPECT(t, neomm_krealloc(root, (void *)block, huge, 0) == NULL);
    EXPECT(t, pattern_holds((void *)block, 30, 3));
    EXPECT_OK(t, give(&seen, block));
    EXPECT_EQ(t, seen.count, 0);
    seen_close(t, &seen);
}

/* ---- damage ---- */

static void overrun(struct ktap *t, struct seen *seen, size_t size, size_t bytes)
{
    uintptr_t block = get(seen, size);
    for (size_t i = 0; i < bytes; i++)
        *byte_at(block, size + i) ^= 0x55;
    EXPECT_OK(t, give(seen, block));
    expect_report(t, seen, NEOMM_HEAP_OVERRUN);
    EXPECT(t, (uintptr_t)seen->last.object == block);
    EXPECT_EQ(t, seen->last.offset, size);
    EXPECT_EQ(t, seen->last.size, size);
    EXPECT_EQ(t, seen->last.allocated.site->line > 0, true);
    EXPECT_EQ(t, give(seen, block), NEOMM_E_DOUBLE_FREE);
    seen->count = 0;
}

static void overruns(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (size_t size = 1; size <= 8191; size += size < 600 ? 1 : 97) {
        overrun(t, &seen, size, 1);
        if (size % 16 != 0 && size % 16 <= 8)
            overrun(t, &seen, size, 8);
    }
    env_fsck(t, &seen.box.env);
    seen_close(t, &seen);
}

/* A string that fills its block is ended by the canary, and its end may be written there again. */
static void strings_end(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (size_t size = 1; size < 100; size++) {
        uintptr_t block = get(&seen, size);
        memset((void *)block, 'a', size);
        EXPECT_EQ(t, strlen((const char *)block), size);
        EXPECT_OK(t, give(&seen, block));
    }
    EXPECT_EQ(t, seen.count, 0);
    seen_close(t, &seen);
}

/* Each byte of freed blocks, while they wait. */
static void writes_after_free(struct ktap *t)
{
    struct seen seen;
    size_t size = (size_t)t->parameter;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (size_t offset = 0; offset < size; offset += 1 + size / 20) {
        uintptr_t block = get(&seen, size);
        EXPECT_OK(t, give(&seen, block));
        *byte_at(block, offset) = 0x78;
        for (uint32_t i = 0; i < 100000 && seen.count == 0; i++)
            EXPECT_OK(t, give(&seen, get(&seen, size)));
        expect_report(t, &seen, NEOMM_HEAP_WRITE_AFTER_FREE);
        EXPECT(t, (uintptr_t)seen.last.object == block && !seen.last.live);
        EXPECT_EQ(t, seen.last.offset, offset);
        EXPECT(t, seen.last.allocated.site && seen.last.freed.address != 0);
    }
    env_fsck(t, &seen.box.env);
    seen_close(t, &seen);
}

static void freed_memory_is_zero(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (uint32_t i = 0; i < 3000; i++) {
        size_t size = (size_t)sizes[i % (sizeof(sizes) / sizeof(sizes[0]))];
        uintptr_t block = get(&seen, size);
        EXPECT(t, all_zero((const void *)block, size));
        memset((void *)block, 0xa5, size);
        EXPECT_OK(t, give(&seen, block));
        EXPECT(t, all_zero((const void *)block, size));
    }
    seen_close(t, &seen);
}

/* ---- pages ---- */

static void touch(void *argument)
{
    *(volatile uint8_t *)argument = 1;
}

static void expect_fault(struct ktap *t, struct seen *seen, uintptr_t at)
{
    char text[256];
    EXPECT_EQ(t, sim_catch(seen->box.env.machine, touch, (void *)at, text, sizeof(text)),
              SIM_END_FAULT);
}

static void beside_pages(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_WINDOW))
        return;
    static const size_t large[] = {8192, 12288, 65536, 262144};
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
        uintptr_t block = get(&seen, large[i]);
        EXPECT_EQ(t, size_of(&seen, block), large[i]);
        *byte_at(block, large[i] - 1) = 1;
        expect_fault(t, &seen, block + large[i]);
        expect_fault(t, &seen, block + large[i] + 7);
        block = (uintptr_t)neomm_krealloc(seen.box.root, (void *)block, large[i] / 4, 0);
        EXPECT(t, block != 0);
        EXPECT_OK(t, give(&seen, block));
        uintptr_t again = get(&seen, large[i]);
        EXPECT_OK(t, give(&seen, again));
        expect_fault(t, &seen, again);
    }
    EXPECT_EQ(t, seen.count, 0);
    seen_close(t, &seen);
}

/* ---- reuse ---- */

static void reuse_is_late_and_random(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    uintptr_t block = get(&seen, 64), got = 0, before = 0;
    uint32_t next_to_last = 0;
    for (uint32_t i = 0; i < 64; i++) {
        got = get(&seen, 64);
        next_to_last += got == before + 64;
        before = got;
        EXPECT_OK(t, give(&seen, got));
    }
    EXPECT(t, next_to_last < 16);
    EXPECT_OK(t, give(&seen, block));
    for (uint32_t i = 0; i < 64; i++) {
        EXPECT(t, (got = get(&seen, 64)) != block);
        EXPECT_OK(t, give(&seen, got));
    }
    seen_close(t, &seen);
}

/* ---- caches ---- */

static void make(void *context, void *object)
{
    (void)context;
    memset(object, 0x5a, 40);
}

static struct neomm_kmem *create(struct seen *seen, size_t size, size_t align,
                                 neomm_construct_fn *construct)
{
    const struct neomm_kmem_options options = {
        .name = "things", .size = size, .align = align, .construct = construct};
    return neomm_kmem_create(seen->box.root, &options);
}

/* Made while all is HARDENED: of any size there is room for a canary. */
static void objects_of_caches(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, t->parameter))
        return;
    struct neomm *root = seen.box.root;
    for (size_t size = 1; size < 300; size++) {
        struct neomm_kmem *cache = create(&seen, size, size % 3 == 0 ? 64 : 0, NULL);
        void *many[40];
        ASSERT(t, cache != NULL);
        EXPECT_EQ(t, neomm_heap_profile(root, cache), NEOMM_HEAP_HARDENED);
        EXPECT_OK(t, neomm_kmem_alloc_bulk(root, cache, NEOMM_ZERO, 40, many));
        EXPECT_EQ(t, neomm_ksize(root, many[3]), size);
        *byte_at((uintptr_t)many[3], size) ^= 1;
        EXPECT_OK(t, neomm_kmem_free_bulk(root, cache, 40, many));
        expect_report(t, &seen, NEOMM_HEAP_OVERRUN);
        EXPECT(t, strcmp(seen.last.cache, "things") == 0 && seen.last.object == many[3]);
        EXPECT(t, seen.last.before && seen.last.after ? seen.last.before < seen.last.after : true);
        EXPECT_OK(t, neomm_kmem_destroy(root, cache));
    }
    seen_close(t, &seen);
}

static void constructed_objects(struct ktap *t)
{
    struct seen seen;
    uint8_t made[40];
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    struct neomm_kmem *cache = create(&seen, 40, 0, make);
    make(NULL, made);
    for (uint32_t i = 0; i < 3000; i++) {
        void *object = neomm_kmem_alloc(seen.box.root, cache, 0);
        EXPECT(t, memcmp(object, made, 40) == 0);
        EXPECT_OK(t, neomm_kmem_free(seen.box.root, cache, object));
        EXPECT_EQ(t, neomm_kmem_free(seen.box.root, cache, object), NEOMM_E_DOUBLE_FREE);
    }
    EXPECT_OK(t, neomm_kmem_destroy(seen.box.root, cache));
    seen_close(t, &seen);
}

/* kmalloc's own caches, asked by name: what comes from one goes back there. */
static void classes_by_name(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (size_t size = 1; size <= 8192; size += size / 8 + 1) {
        struct neomm_kmem *cache = neomm_kmem_for(seen.box.root, size);
        void *object = neomm_kmem_alloc(seen.box.root, cache, NEOMM_ZERO);
        EXPECT_OK(t, neomm_kmem_free(seen.box.root, cache, object));
    }
    EXPECT_EQ(t, seen.count, 0);
    seen_close(t, &seen);
}

/* Whatever the size, a canary behind it does not cost the alignment. */
static void alignments(struct ktap *t)
{
    struct seen seen;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (size_t align = 1; align <= 4096; align *= 2)
        for (size_t size = 1; size <= 8192; size += 1 + size / 7 * (size % 64 != 0)) {
            uintptr_t block =
                (uintptr_t)neomm_kmalloc_aligned(seen.box.root, size, align, NEOMM_ZERO);
            EXPECT(t, block != 0 && block % align == 0);
            pattern_fill((void *)block, size, 7);
            EXPECT_OK(t, give(&seen, block));
            block = get(&seen, size);
            EXPECT_EQ(t, block % alignment_of(size), 0);
            EXPECT_OK(t, give(&seen, block));
        }
    EXPECT_EQ(t, seen.count, 0);
    seen_close(t, &seen);
}

/* ---- any calls, with a model ---- */

#define LIVE 400u

struct live {
    uintptr_t block;
    size_t size;
};

static void step(struct ktap *t, struct seen *seen, struct live *live, uint32_t id, uint64_t random)
{
    size_t size = 1 + (size_t)(random >> 20) % ((random & 15) == 0 ? 70000 : 1500);
    void *block = (void *)live->block;
    if (!block)
        block = random & 64
                    ? neomm_kzalloc(seen->box.root, size, 0)
                    : neomm_kmalloc_aligned(seen->box.root, size, (size_t)1 << (random & 7), 0);
    else if (EXPECT(t, pattern_holds(block, live->size, id)), (random & 128) != 0)
        block = neomm_krealloc(seen->box.root, block, size, 0);
    else {
        EXPECT_OK(t, give(seen, live->block));
        live->block = 0;
        return;
    }
    ASSERT(t, block != NULL);
    if (live->block)
        EXPECT(t, pattern_holds(block, live->size < size ? live->size : size, id));
    pattern_fill(block, size, id);
    *live = (struct live){(uintptr_t)block, size};
}

static void any_calls(struct ktap *t)
{
    static const enum neomm_heap_profile profiles[] = {NEOMM_HEAP_HARDENED, NEOMM_HEAP_FAST,
                                                       NEOMM_HEAP_HARDENED, NEOMM_HEAP_DEFAULT};
    struct seen seen;
    struct live live[LIVE] = {{0, 0}};
    uint64_t random = t->parameter + 77;
    if (!seen_open(t, &seen, t->parameter))
        return;
    for (uint32_t i = 0; i < 40000 && t->failures == 0; i++) {
        uint64_t r = box_random(&random);
        uint32_t at = (uint32_t)(r >> 40) % LIVE;
        step(t, &seen, &live[at], at, r);
        if (i % 1500 == 1499)
            EXPECT_OK(t, neomm_heap_set_profile(seen.box.root, NULL, profiles[i / 1500 % 4]));
        if (i % 2300 == 2299)
            EXPECT_OK(t, neomm_heap_track(seen.box.root, i / 2300 % 2 == 0));
        if (i % 3700 == 0)
            env_fsck(t, &seen.box.env);
    }
    for (uint32_t i = 0; i < LIVE; i++) {
        EXPECT(t, !live[i].block || pattern_holds((void *)live[i].block, live[i].size, i));
        EXPECT_OK(t, give(&seen, live[i].block));
    }
    EXPECT_EQ(t, seen.count, 0);
    seen_close(t, &seen);
}

/* ---- want of memory ---- */

static void no_memory(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 32, 2))
        return;
    uintptr_t block[60];
    bool done = false;
    for (uint32_t i = 0; i < 60; i++)
        block[i] = (uintptr_t)take(&box, 20 + 40 * i, 0);
    for (uint64_t n = 1; !done && n < 1000; n++) {
        if (!env_fault_plan(&box.env, n, false))
            break;
        neomm_status status = neomm_heap_set_profile(box.root, NULL, NEOMM_HEAP_HARDENED);
        if (status == NEOMM_OK)
            status = neomm_heap_track(box.root, true);
        done = env_fault_count(&box.env) < n;
        (void)env_fault_plan(&box.env, 0, false);
        EXPECT_EQ(t, status, done ? NEOMM_OK : NEOMM_E_NOMEM);
        EXPECT_OK(t, neomm_kfree(box.root, (void *)block[n % 60]));
        EXPECT(t, (block[n % 60] = (uintptr_t)take(&box, 20 + 40 * (size_t)(n % 60), 0)) != 0);
        env_fsck(t, &box.env);
        EXPECT_OK(t, neomm_heap_track(box.root, false));
        EXPECT_OK(t, neomm_heap_set_profile(box.root, NULL, NEOMM_HEAP_FAST));
    }
    for (uint32_t i = 0; i < 60; i++)
        EXPECT_OK(t, neomm_kfree(box.root, (void *)block[i]));
    (void)neomm_heap_shrink(box.root);
    box.free_before = neomm_pmm_free_frames(box.root);
    box_close(t, &box);
}

/* Of each allocation of a HARDENED heap. */
static void allocations_fail(struct ktap *t)
{
    struct seen seen;
    bool done = false;
    if (!seen_open(t, &seen, BOX_DIRECT))
        return;
    for (uint64_t n = 1; !done && n < 1000; n++) {
        uintptr_t block[80];
        if (!env_fault_plan(&seen.box.env, n, true))
            break;
        for (uint32_t i = 0; i < 80; i++)
            block[i] = get(&seen, 50 + 90 * i);
        done = env_fault_count(&seen.box.env) < n;
        (void)env_fault_plan(&seen.box.env, 0, false);
        env_fsck(t, &seen.box.env);
        for (uint32_t i = 0; i < 80; i++)
            EXPECT_OK(t, give(&seen, block[i]));
        (void)neomm_heap_shrink(seen.box.root);
    }
    seen_close(t, &seen);
}

static const uint64_t written_sizes[] = {16, 64, 200, 1024, 4000};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(double_frees, sizes),
    KTAP_CASE(double_frees_later),
    KTAP_CASE_WITH(double_frees_of_pages, kinds),
    KTAP_CASE_WITH(invalid_frees, kinds),
    KTAP_CASE(sized_frees),
    KTAP_CASE(sizes_of_what_is_not_live),
    KTAP_CASE_WITH(no_bytes, kinds),
    KTAP_CASE(overruns),
    KTAP_CASE(strings_end),
    KTAP_CASE_WITH(writes_after_free, written_sizes),
    KTAP_CASE(freed_memory_is_zero),
    KTAP_CASE(beside_pages),
    KTAP_CASE(reuse_is_late_and_random),
    KTAP_CASE_WITH(objects_of_caches, kinds),
    KTAP_CASE(constructed_objects),
    KTAP_CASE(classes_by_name),
    KTAP_CASE(alignments),
    KTAP_CASE_WITH(any_calls, kinds),
    KTAP_CASE(no_memory),
    KTAP_CASE(allocations_fail),
};

KTAP_SUITE(heap_hardened, cases);
