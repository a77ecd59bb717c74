/* The heap through its public functions: sizes, contents, callers' mistakes, limits.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

/* ---- every size ---- */

#define LIVE 16

/* No more than a fifth is lost by rounding, beyond the smallest steps; whole pages for runs. */
static bool usable_fits(size_t size, size_t usable)
{
    if (usable < size)
        return false;
    if (size > 8192)
        return usable - size < NEOMM_PAGE_SIZE;
    return usable - size < 16 || (usable - size) * 5 <= usable;
}

static void check_size(struct ktap *t, struct box *box, size_t size, void **live, size_t *sizes)
{
    size_t at = size % LIVE;
    EXPECT(t, pattern_holds(live[at], sizes[at], (uint32_t)sizes[at]));
    EXPECT_OK(t, neomm_kfree(box->root, live[at]));
    live[at] = take(box, size, 0);
    ASSERT(t, live[at] != NULL);
    sizes[at] = size;
    EXPECT_EQ(t, (uintptr_t)live[at] % alignment_of(size), 0);
    EXPECT(t, usable_fits(size, neomm_ksize(box->root, live[at])));
    pattern_fill(live[at], size, (uint32_t)size);
}

static void every_size(struct ktap *t)
{
    struct box box;
    void *live[LIVE] = {0};
    size_t sizes[LIVE] = {0};
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (size_t size = 1; size <= 20000 && t->failures == 0; size++)
        check_size(t, &box, size, live, sizes);
    for (size_t i = 0; i < LIVE; i++)
        EXPECT_OK(t, neomm_kfree(box.root, live[i]));
    box_close(t, &box);
}

/* ---- what must not be freed ---- */

/* A pointer about which the compiler knows nothing. */
static void *guess(volatile uintptr_t address)
{
    return (void *)address;
}

/* A refused free changes nothing but the counter. */
static void refused(struct ktap *t, struct box *box, uintptr_t address, neomm_status want)
{
    uint64_t bad = box_counter(box, NEOMM_COUNTER_BAD_FREE), count = objects(box);
    EXPECT_EQ(t, neomm_kfree(box->root, guess(address)), want);
    EXPECT_EQ(t, box_counter(box, NEOMM_COUNTER_BAD_FREE), bad + 1);
    EXPECT_EQ(t, neomm_ksize(box->root, guess(address)), 0);
    EXPECT(t, neomm_krealloc(box->root, guess(address), 8, 0) == NULL);
    EXPECT_EQ(t, box_counter(box, NEOMM_COUNTER_BAD_FREE), bad + 2);
    EXPECT_EQ(t, objects(box), count);
}

static void bad_frees_of_objects(struct ktap *t)
{
    static const size_t sizes[] = {16, 48, 80, 512, 1000, 4096, 8192};
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *block = take(&box, sizes[i], 0), *other = take(&box, sizes[i], 0);
        uintptr_t address = (uintptr_t)block;
        ASSERT(t, block != NULL && other != NULL);
        pattern_fill(other, sizes[i], 7);
        refused(t, &box, address + 1, NEOMM_E_INVALID);
        refused(t, &box, address + 8, NEOMM_E_INVALID);
        refused(t, &box, address + sizes[i] - 1, NEOMM_E_INVALID);
        EXPECT_OK(t, neomm_kfree(box.root, block));
        refused(t, &box, address, NEOMM_E_DOUBLE_FREE);
        EXPECT(t, pattern_holds(other, sizes[i], 7));
        EXPECT_OK(t, neomm_kfree(box.root, other));
        (void)neomm_heap_shrink(box.root);
        refused(t, &box, address, NEOMM_E_DOUBLE_FREE);
    }
    env_fsck(t, &box.env);
    box_close(t, &box);
}

static void bad_frees_of_runs(struct ktap *t)
{
    static const size_t sizes[] = {8193, 40000, 65536, 1000000};
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *block = take(&box, sizes[i], 0);
        uintptr_t address = (uintptr_t)block;
        ASSERT(t, block != NULL);
        refused(t, &box, address + 1, NEOMM_E_INVALID);
        refused(t, &box, address + 16, NEOMM_E_INVALID);
        refused(t, &box, address + NEOMM_PAGE_SIZE, NEOMM_E_INVALID);
        refused(t, &box, address + 2 * NEOMM_PAGE_SIZE + 64, NEOMM_E_INVALID);
        EXPECT_OK(t, neomm_kfree(box.root, block));
        refused(t, &box, address, NEOMM_E_DOUBLE_FREE);
    }
    box_close(t, &box);
}

static void bad_frees_of_others(struct ktap *t)
{
    struct box box;
    neomm_frame_t frame;
    int local = 0;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    ASSERT_OK(t, neomm_pmm_alloc(box.root, 0, 0, &frame));
    refused(t, &box, (uintptr_t)neomm_direct_pointer(box.root, neomm_frame_paddr(frame)),
            NEOMM_E_FOREIGN);
    EXPECT_OK(t, neomm_pmm_free(box.root, frame, 0));
    refused(t, &box, (uintptr_t)&local, NEOMM_E_FOREIGN);
    refused(t, &box, (uintptr_t)&box, NEOMM_E_FOREIGN);
    refused(t, &box, (uintptr_t)box.root, NEOMM_E_FOREIGN);
    refused(t, &box, 1, NEOMM_E_FOREIGN);
    refused(t, &box, UINTPTR_MAX, NEOMM_E_FOREIGN);
    refused(t, &box, (uintptr_t)neomm_direct_pointer(box.root, 0), NEOMM_E_FOREIGN);
    uint64_t bad = box_counter(&box, NEOMM_COUNTER_BAD_FREE);
    EXPECT_OK(t, neomm_kfree(box.root, NULL));
    EXPECT_EQ(t, neomm_ksize(box.root, NULL), 0);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_BAD_FREE), bad);
    box_close(t, &box);
}

/* Whatever address lies in or near a slab: only the starts of live objects are blocks. */
static void only_starts_are_blocks(struct ktap *t)
{
    struct box box;
    void *live[3];
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    for (size_t size = 16; size <= 8192; size = size < 64 ? size + 16 : size + size / 4) {
        for (size_t i = 0; i < 3; i++)
            ASSERT(t, (live[i] = take(&box, size, 0)) != NULL);
        size_t usable = neomm_ksize(box.root, live[0]), wrong = 0;
        uintptr_t from = ((uintptr_t)live[0] & ~(uintptr_t)4095) - 8 * NEOMM_PAGE_SIZE;
        for (uintptr_t p = from; p < from + 16 * NEOMM_PAGE_SIZE; p += p % 16 ? 15 : 1) {
            bool block =
                p == (uintptr_t)live[0] || p == (uintptr_t)live[1] || p == (uintptr_t)live[2];
            wrong += neomm_ksize(box.root, (void *)p) != (block ? usable : 0);
        }
        EXPECT_EQ(t, wrong, 0);
        for (size_t i = 0; i < 3; i++)
            EXPECT_OK(t, neomm_kfree(box.root, live[i]));
        (void)neomm_heap_shrink(box.root);
    }
    box_close(t, &box);
}

/* ---- krealloc ---- */

static void realloc_in_place(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    void *block = take(&box, 200, 0), *same = neomm_krealloc(box.root, block, 224, 0);
    EXPECT(t, block != NULL && same == block);
    same = neomm_krealloc(box.root, same, 150, 0);
    EXPECT(t, same == block);
    void *moved = neomm_krealloc(box.root, same, 40, 0);
    EXPECT(t, moved != NULL && moved != block);
    EXPECT_EQ(t, neomm_ksize(box.root, moved), 48);
    EXPECT_EQ(t, neomm_ksize(box.root, block), 0);
    EXPECT_OK(t, neomm_kfree(box.root, moved));
    box_close(t, &box);
}

/* A run of separate frames grows into the free frames behind it, and not over others. */
/* Within its last page a run stays where it is, a block of a power of two pages as well. */
static void realloc_within_the_last_page(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 64, 1))
        return;
    for (size_t pages = 3; pages <= 5; pages++) {
        uint8_t *run = take(&box, pages * NEOMM_PAGE_SIZE - 500, 0);
        ASSERT(t, run != NULL);
        uintptr_t before = (uintptr_t)run;
        run = neomm_krealloc(box.root, run, pages * NEOMM_PAGE_SIZE - 5, 0);
        EXPECT_EQ(t, (uintptr_t)run, before);
        run = neomm_krealloc(box.root, run, pages * NEOMM_PAGE_SIZE, 0);
        EXPECT_EQ(t, (uintptr_t)run, before);
        EXPECT_OK(t, neomm_kfree(box.root, run));
    }
    box_close(t, &box);
}

/* From the direct map alone, 2^NEOMM_ORDER_MAX pages. */
static void the_largest_block(struct ktap *t)
{
    size_t size = NEOMM_PAGE_SIZE << NEOMM_ORDER_MAX;
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 64, 1))
        return;
    void *block = take(&box, size, 0);
    EXPECT(t, block != NULL);
    EXPECT(t, take(&box, size + 1, 0) == NULL);
    EXPECT_OK(t, neomm_kfree(box.root, block));
    box_close(t, &box);
}

static void realloc_grows_runs(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    uint8_t *run = take(&box, 5 * NEOMM_PAGE_SIZE, 0), *grown;
    ASSERT(t, run != NULL);
    pattern_fill(run, 5 * NEOMM_PAGE_SIZE, 1);
    grown = neomm_krealloc(box.root, run, 7 * NEOMM_PAGE_SIZE, NEOMM_ZERO);
    EXPECT(t, grown == run);
    EXPECT_EQ(t, neomm_ksize(box.root, grown), 7 * NEOMM_PAGE_SIZE);
    EXPECT(t, pattern_holds(grown, 5 * NEOMM_PAGE_SIZE, 1));
    EXPECT(t, all_zero(grown + 5 * NEOMM_PAGE_SIZE, 2 * NEOMM_PAGE_SIZE));
    env_fsck(t, &box.env);
    neomm_paddr_t behind =
        (uintptr_t)(grown + 7 * NEOMM_PAGE_SIZE) - (uintptr_t)neomm_direct_pointer(box.root, 0);
    ASSERT_OK(t, neomm_pmm_claim(box.root, neomm_paddr_frame(behind), 1));
    uint8_t *moved = neomm_krealloc(box.root, grown, 9 * NEOMM_PAGE_SIZE, 0);
    EXPECT(t, moved != NULL && moved != grown);
    EXPECT(t, pattern_holds(moved, 5 * NEOMM_PAGE_SIZE, 1));
    EXPECT_OK(t, neomm_pmm_free_range(box.root, neomm_paddr_frame(behind), 1));
    EXPECT_OK(t, neomm_kfree(box.root, moved));
    box_close(t, &box);
}

/* A block of a power of two frames has no growth to it and moves. */
static void realloc_moves_blocks(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    uint8_t *run = take(&box, 4 * NEOMM_PAGE_SIZE, 0);
    ASSERT(t, run != NULL);
    pattern_fill(run, 4 * NEOMM_PAGE_SIZE, 1);
    uint8_t *grown = neomm_krealloc(box.root, run, 6 * NEOMM_PAGE_SIZE, NEOMM_ZERO);
    ASSERT(t, grown != NULL);
    EXPECT(t, pattern_holds(grown, 4 * NEOMM_PAGE_SIZE, 1));
    EXPECT(t, all_zero(grown + 4 * NEOMM_PAGE_SIZE, 2 * NEOMM_PAGE_SIZE));
    uint8_t *less = neomm_krealloc(box.root, grown, 5 * NEOMM_PAGE_SIZE, 0);
    EXPECT(t, less == grown);
    less = neomm_krealloc(box.root, less, 100, 0);
    ASSERT(t, less != NULL);
    EXPECT(t, pattern_holds(less, 100, 1));
    EXPECT_OK(t, neomm_kfree(box.root, less));
    box_close(t, &box);
}

/* The bytes beyond the old usable size come as zeros; sizes that are powers of two are aligned. */
static void realloc_zeroes_and_aligns(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (size_t size = 1; size < 9000; size += size / 2 + 1)
        for (size_t next = 1; next < 20000; next += next / 3 + 1) {
            uint8_t *block = take(&box, size, 0);
            ASSERT(t, block != NULL);
            size_t usable = neomm_ksize(box.root, block);
            pattern_fill(block, size, 3);
            uint8_t *after = neomm_krealloc(box.root, block, next, NEOMM_ZERO);
            ASSERT(t, after != NULL);
            EXPECT(t, pattern_holds(after, size < next ? size : next, 3));
            if (next > usable)
                EXPECT(t, all_zero(after + usable, next - usable));
            EXPECT_EQ(t, (uintptr_t)after % alignment_of(next), 0);
            EXPECT_OK(t, neomm_kfree(box.root, after));
        }
    box_close(t, &box);
}

static void realloc_edges(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    volatile size_t huge = (size_t)PTRDIFF_MAX + 1;
    void *block = neomm_krealloc(box.root, NULL, 100, 0);
    ASSERT(t, block != NULL);
    pattern_fill(block, 100, 5);
    EXPECT(t, neomm_krealloc(box.root, block, huge, 0) == NULL);
    EXPECT(t, neomm_krealloc(box.root, block, huge / 2, 0) == NULL);
    EXPECT(t, pattern_holds(block, 100, 5));
    EXPECT_EQ(t, objects(&box), 1);
    EXPECT(t, neomm_krealloc(box.root, block, 0, 0) == NULL);
    EXPECT_EQ(t, objects(&box), 0);
    EXPECT(t, neomm_krealloc(box.root, NULL, 0, 0) == NULL);
    box_close(t, &box);
}

/* ---- flags and limits ---- */

static void zeroed_memory(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    for (size_t size = 1; size < 50000; size += size / 3 + 1) {
        void *block = take(&box, size, 0);
        ASSERT(t, block != NULL);
        size_t usable = neomm_ksize(box.root, block);
        for (size_t i = 0; i < size; i++)
            ((volatile uint8_t *)block)[i] = 0xff;
        EXPECT_OK(t, neomm_kfree(box.root, block));
        block = neomm_kzalloc(box.root, size, 0);
        ASSERT(t, block != NULL);
        EXPECT(t, all_zero(block, size));
        EXPECT_EQ(t, neomm_ksize(box.root, block), usable);
        EXPECT_OK(t, neomm_kfree(box.root, block));
    }
    box_close(t, &box);
}

static void dma_memory(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 64, 1))
        return;
    uintptr_t direct = (uintptr_t)neomm_direct_pointer(box.root, 0);
    for (size_t size = 1; size <= (size_t)2 << 20; size *= 3) {
        void *block = take(&box, size, NEOMM_DMA);
        ASSERT(t, block != NULL);
        EXPECT((t), (uintptr_t)block - direct + size <= (size_t)16 << 20);
        void *more = neomm_krealloc(box.root, block, size * 2, NEOMM_DMA);
        EXPECT(t, more && (uintptr_t)more - direct + size * 2 <= (size_t)16 << 20);
        EXPECT_OK(t, neomm_kfree(box.root, more ? more : block));
    }
    EXPECT(t, take(&box, (size_t)32 << 20, NEOMM_DMA) == NULL);
    box_close(t, &box);
}

static void size_limits(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    volatile size_t huge = (size_t)PTRDIFF_MAX + 1;
    EXPECT(t, take(&box, 0, 0) == NULL);
    EXPECT(t, take(&box, huge, 0) == NULL);
    EXPECT(t, take(&box, huge - 1, 0) == NULL);
    EXPECT(t, take(&box, (size_t)1 << 30, 0) == NULL);
    EXPECT(t, neomm_kmalloc_array(box.root, huge, 2, 0) == NULL);
    EXPECT(t, neomm_kmalloc_array(box.root, 3, huge - 1, 0) == NULL);
    EXPECT(t, neomm_kmalloc_array(box.root, 0, 5, 0) == NULL);
    void *array = neomm_kmalloc_array(box.root, 12, 10, NEOMM_ZERO);
    ASSERT(t, array != NULL);
    EXPECT_EQ(t, neomm_ksize(box.root, array), 128);
    EXPECT(t, all_zero(array, 120));
    EXPECT_OK(t, neomm_kfree(box.root, array));
    box_close(t, &box);
}

static void beginning_and_end(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_ROOT, .format = box_format()};
    struct neomm_heap_stats stats;
    if (!env_open(t, &env, &options))
        return;
    EXPECT_EQ(t, neomm_heap_init(env.root, NULL), NEOMM_E_NOENT);
    env_close(t, &env);
    options.layer = ENV_PMM;
    if (!env_open(t, &env, &options))
        return;
    EXPECT_EQ(t, neomm_heap_fini(env.root), NEOMM_E_NOENT);
    EXPECT(t, neomm_kmalloc(env.root, 10, 0) == NULL);
    EXPECT_EQ(t, neomm_kfree(env.root, guess((uintptr_t)&options)), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_heap_shrink(env.root), 0);
    neomm_heap_stats(env.root, &stats);
    EXPECT_EQ(t, stats.objects, 0);
    EXPECT_OK(t, neomm_heap_init(env.root, NULL));
    EXPECT_EQ(t, neomm_heap_init(env.root, NULL), NEOMM_E_EXISTS);
    void *small = neomm_kmalloc(env.root, 10, 0), *large = neomm_kmalloc(env.root, 50000, 0);
    EXPECT_EQ(t, neomm_heap_fini(env.root), NEOMM_E_BUSY);
    EXPECT_OK(t, neomm_kfree(env.root, small));
    EXPECT_EQ(t, neomm_heap_fini(env.root), NEOMM_E_BUSY);
    EXPECT_OK(t, neomm_kfree(env.root, large));
    EXPECT_OK(t, neomm_heap_fini(env.root));
    EXPECT(t, neomm_kmalloc(env.root, 10, 0) == NULL);
    env_close(t, &env);
}

/* ---- the window ---- */

static void window_runs(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_WINDOW, 32, 2))
        return;
    size_t size = ((size_t)4 << 20) + 5000; /* more than the largest block of frames */
    uint8_t *block = take(&box, size, NEOMM_ZERO);
    ASSERT(t, block != NULL);
    EXPECT(t, neomm_window_vaddr(box.root, block) != 0);
    EXPECT(t, all_zero(block, size));
    pattern_fill(block, size, 9);
    env_switch_cpu(&box.env, 1);
    EXPECT(t, pattern_holds(block, size, 9));
    uint8_t *grown = neomm_krealloc(box.root, block, size + 100000, 0);
    ASSERT(t, grown != NULL);
    EXPECT(t, pattern_holds(grown, size, 9));
    uintptr_t address = (uintptr_t)grown;
    refused(t, &box, address + NEOMM_PAGE_SIZE, NEOMM_E_INVALID);
    /* One of its frames under its address in the direct map is no block. */
    struct neomm_mapping mapping;
    ASSERT_OK(t, neomm_paging_query(box.root, neomm_paging_kernel(box.root),
                                    neomm_window_vaddr(box.root, grown), &mapping));
    EXPECT_EQ(t, mapping.prot, NEOMM_PROT_READ | NEOMM_PROT_WRITE);
    void *alias = neomm_direct_pointer(box.root, mapping.paddr);
    if (alias)
        refused(t, &box, (uintptr_t)alias, NEOMM_E_FOREIGN);
    EXPECT_OK(t, neomm_kfree(box.root, grown));
    refused(t, &box, address, NEOMM_E_FOREIGN);
    void *atomic = take(&box, size, NEOMM_ATOMIC);
    EXPECT(t, atomic != NULL);
    EXPECT_OK(t, neomm_kfree(box.root, atomic));
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

/* ---- several roots ---- */

static void several_roots(struct ktap *t)
{
    struct box box[2];
    void *block[2][64];
    if (!box_open(t, &box[0], BOX_DIRECT, 8, 1))
        return;
    if (!box_open(t, &box[1], BOX_DIRECT, 16, 1))
        return;
    for (uint32_t i = 0; i < 128; i++) {
        env_switch_cpu(&box[i & 1].env, 0);
        size_t size = 16 + i * 37;
        block[i & 1][i / 2] = take(&box[i & 1], size, 0);
        ASSERT(t, block[i & 1][i / 2] != NULL);
        pattern_fill(block[i & 1][i / 2], size, i);
    }
    for (uint32_t i = 0; i < 128; i++) {
        env_switch_cpu(&box[i & 1].env, 0);
        EXPECT(t, pattern_holds(block[i & 1][i / 2], 16 + i * 37, i));
        refused(t, &box[i & 1], (uintptr_t)block[1 - (i & 1)][i / 2], NEOMM_E_FOREIGN);
        EXPECT_OK(t, neomm_kfree(box[i & 1].root, block[i & 1][i / 2]));
    }
    for (uint32_t i = 0; i < 2; i++) {
        env_switch_cpu(&box[i].env, 0);
        box_close(t, &box[i]);
    }
}

static void counters(struct ktap *t)
{
    struct box box;
    static struct neomm_snapshot snapshot;
    if (!box_open(t, &box, t->parameter, 16, 2))
        return;
    void *small = take(&box, 100, 0);
    env_switch_cpu(&box.env, 1);
    void *large = take(&box, 10000, 0);
    neomm_snapshot_take(box.root, &snapshot);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_KMALLOC], 2);
    EXPECT_EQ(t, snapshot.heap.objects, 2);
    EXPECT_EQ(t, snapshot.heap.requested_bytes, 10112);
    EXPECT_EQ(t, snapshot.heap.allocated_bytes, 112 + 12288);
    EXPECT_EQ(t, snapshot.heap.run_frames, 3);
    EXPECT_EQ(t, snapshot.heap.slab_frames, 2);
    EXPECT_OK(t, neomm_kfree(box.root, small));
    EXPECT_OK(t, neomm_kfree(box.root, large));
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_KFREE), 2);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_KMALLOC_FAIL), 0);
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(every_size, kinds),
    KTAP_CASE_WITH(bad_frees_of_objects, kinds),
    KTAP_CASE_WITH(bad_frees_of_runs, kinds),
    KTAP_CASE_WITH(bad_frees_of_others, kinds),
    KTAP_CASE(only_starts_are_blocks),
    KTAP_CASE_WITH(realloc_in_place, kinds),
    KTAP_CASE_WITH(realloc_within_the_last_page, kinds),
    KTAP_CASE(the_largest_block),
    KTAP_CASE(realloc_grows_runs),
    KTAP_CASE_WITH(realloc_moves_blocks, kinds),
    KTAP_CASE_WITH(realloc_zeroes_and_aligns, kinds),
    KTAP_CASE_WITH(realloc_edges, kinds),
    KTAP_CASE_WITH(zeroed_memory, kinds),
    KTAP_CASE_WITH(dma_memory, kinds),
    KTAP_CASE_WITH(size_limits, kinds),
    KTAP_CASE(beginning_and_end),
    KTAP_CASE(window_runs),
    KTAP_CASE(several_roots),
    KTAP_CASE_WITH(counters, kinds),
};

KTAP_SUITE(heap, cases);
