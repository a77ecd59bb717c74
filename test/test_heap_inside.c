/* The heap from inside: its table of classes, what its consistency check finds, page sources.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "heap/magazine.h"
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

/* ---- the table of classes ---- */

/* Of every offset in a slab, whether an object begins there: the fast path's arithmetic. */
static size_t wrong_offsets(const struct neomm_kmem *cache)
{
    size_t wrong = 0;
    for (uint32_t at = 0; at < cache->pages << NEOMM_PAGE_SHIFT; at++) {
        uint32_t index = (uint32_t)((uint64_t)at * cache->inverse >> 32);
        bool begins = neomm__kmem_begins(cache, at);
        wrong += index != at / cache->size;
        wrong += begins != (at % cache->size == 0 && at / cache->size < cache->objects);
    }
    return wrong;
}

static void check_shape(struct ktap *t, const struct neomm__heap *heap,
                        const struct neomm_kmem *cache)
{
    size_t bytes = cache->pages * NEOMM_PAGE_SIZE, used = (size_t)cache->objects * cache->size;
    size_t record = offsetof(struct neomm__slab, free_map) +
                    NEOMM__ALIGN_UP(cache->objects, NEOMM__WORD_BITS) / 8;
    EXPECT(t, cache->pages >= 1 && cache->pages <= NEOMM__SLAB_PAGES_MAX);
    EXPECT(t, cache->objects >= 1 && cache->objects <= NEOMM__SLAB_OBJECTS_MAX);
    EXPECT(t, used <= bytes && bytes - used < cache->size);
    EXPECT(t, record <= heap->pool[cache->pool].size);
    EXPECT(t, cache->capacity >= 2 && cache->capacity <= NEOMM__MAGAZINE_MAX);
    EXPECT(t, cache->batch >= 1 && cache->batch <= NEOMM__BATCH_MAX);
    EXPECT(t, cache->batch <= cache->capacity);
    EXPECT(t, cache->empty_kept >= 1);
    EXPECT_EQ(t, cache->magazine_bytes % 64, 0);
    EXPECT_EQ(t, wrong_offsets(cache), 0);
}

/* Every size has the smallest class that it fits, four or eight of them a doubling, and the
 * magazine that the class has. */
static void classes(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PMM, .format = box_format()};
    const struct neomm_heap_options heap_options = {.fine_classes = t->parameter};
    if (!env_open(t, &env, &options))
        return;
    ASSERT_OK(t, neomm_heap_init(env.root, &heap_options));
    const struct neomm__heap *heap = env.root->heap;
    EXPECT_EQ(t, heap->classes, t->parameter ? 56 : 32);
    for (size_t size = 1; size <= NEOMM__HEAP_SLAB_MAX; size++) {
        unsigned index = neomm__heap_class_of(env.root, size);
        ASSERT(t, index < heap->classes);
        EXPECT(t, heap->cache[index].size >= size);
        EXPECT(t, index == 0 || heap->cache[index - 1].size < size);
        EXPECT(t, neomm__magazine_for(env.root, size, 0) ==
                      neomm__magazine_of(&heap->cache[index], 0));
    }
    for (uint32_t i = 0; i < heap->classes; i++) {
        EXPECT_EQ(t, heap->cache[i].size % 16, 0);
        EXPECT(t, heap->cache[i].objects >= 4);
        check_shape(t, heap, &heap->cache[i]);
    }
    EXPECT_OK(t, neomm_heap_fini(env.root));
    env_close(t, &env);
}

/* A slab of any size of objects loses an eighth at most where more than a few fit. */
static void shapes(struct ktap *t)
{
    struct box box;
    static struct neomm_kmem cache;
    if (!box_open(t, &box, BOX_DIRECT, 4, 1))
        return;
    for (uint32_t size = 16; size <= NEOMM_KMEM_SIZE_MAX; size += size < 600 ? 1 : 41) {
        neomm__kmem_shape(&cache, size, &(struct neomm__heap_scale){1u << 20, 128, 2});
        check_shape(t, box.root->heap, &cache);
        if (size <= NEOMM__HEAP_SLAB_MAX)
            EXPECT((t), (cache.pages * NEOMM_PAGE_SIZE - cache.objects * size) * 8 <=
                            cache.pages * NEOMM_PAGE_SIZE);
        EXPECT((t), cache.capacity * (size_t)size <= 131072 || cache.capacity == 2);
        EXPECT(t, cache.empty_kept * cache.pages <= 64 || cache.empty_kept == 1);
    }
    box_close(t, &box);
}

/* Objects of a class that lie less than half a magazine apart never share a place in `recent`. */
static void hashes(struct ktap *t)
{
    struct box box;
    uintptr_t base = 0;
    if (!box_open(t, &box, BOX_DIRECT, 64, 1))
        return;
    for (uint32_t i = 0; i < box.root->heap->classes; i++) {
        const struct neomm_kmem *cache = &box.root->heap->cache[i];
        for (uint32_t n = 1; n < cache->capacity_most / 2; n++)
            for (uint32_t j = 0; j < 100; j++) {
                base = base * 0x9e3779b1u + 0x7f4a7c15u;
                EXPECT(t, neomm__magazine_hash((void *)base) !=
                              neomm__magazine_hash((void *)(base + (uintptr_t)n * cache->size)));
            }
    }
    box_close(t, &box);
}

/* What a heap holds back is in proportion to its memory. */
static void little_is_held_back(struct ktap *t)
{
    struct neomm_kmem cache;
    for (uint32_t ram_frames = 64; ram_frames <= 1u << 22; ram_frames *= 4)
        for (uint32_t size = 16; size <= 8192; size *= 2) {
            neomm__kmem_shape(&cache, size, &(struct neomm__heap_scale){ram_frames, 128, 2});
            EXPECT(t, cache.capacity == 2 || cache.capacity * size <= ram_frames * 4);
            EXPECT(t, cache.empty_kept == 1 || cache.empty_kept * cache.pages * 1024 <= ram_frames);
        }
}

static size_t bytes_not_zero(const void *at, size_t bytes)
{
    const uint8_t *byte = at;
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += byte[i] != 0;
    return count;
}

static void expect_untouched(struct ktap *t, const struct box *box, uint32_t cpu)
{
    struct neomm_kmem *cache = &box->root->heap->cache[0];
    for (; cache; cache = neomm_kmem_next(box->root, cache))
        EXPECT_EQ(t, bytes_not_zero(neomm__magazine_of(cache, cpu), cache->magazine_bytes), 0);
}

/* Where memory comes when it is touched, CPUs that use no heap cost none, whatever the others do.
 */
static void magazines_of_idle_cpus(struct ktap *t)
{
    const struct neomm_kmem_options options = {.name = "busy", .size = 100};
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 64, 3))
        return;
    struct neomm_kmem *cache = neomm_kmem_create(box.root, &options);
    ASSERT(t, cache != NULL);
    for (uint32_t cpu = 0; cpu < 2; cpu++) {
        env_switch_cpu(&box.env, cpu);
        EXPECT_OK(t, neomm_kfree(box.root, take(&box, 100, 0)));
        EXPECT_OK(t, neomm_kmem_free(box.root, cache, neomm_kmem_alloc(box.root, cache, 0)));
        (void)neomm_heap_shrink(box.root);
        EXPECT_OK(t, neomm_heap_cpu_offline(box.root, 2));
        expect_untouched(t, &box, 2);
    }
    EXPECT(t, bytes_not_zero(neomm__magazine_of(cache, 1), cache->magazine_bytes) > 0);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* ---- the consistency check ---- */

struct damage {
    const char *what;
    void *at;
    size_t size;
    uint64_t change; /* exclusive or */
};

static void invert(const struct damage *damage)
{
    uint64_t value = 0;
    memcpy(&value, damage->at, damage->size);
    value ^= damage->change;
    memcpy(damage->at, &value, damage->size);
}

static void count_findings(void *context, const char *line)
{
    *(size_t *)context += strncmp(line, "heap:", 5) == 0;
}

static size_t findings(struct box *box)
{
    size_t count = 0;
    (void)neomm_fsck(box->root, count_findings, &count);
    return count;
}

#define DAMAGE(place, change)                                                                      \
    {                                                                                              \
#place, &(place), sizeof(place), change                                                    \
    }

/* Every damage must be found, and nothing once it is undone. */
static void all_found(struct ktap *t, struct box *box, const struct damage *damage, size_t count)
{
    EXPECT_EQ(t, findings(box), 0);
    for (size_t i = 0; i < count; i++) {
        invert(&damage[i]);
        if (findings(box) == 0) {
            ktap_note(t, "not found: %s", damage[i].what);
            ktap_fail(t, __FILE__, __LINE__, damage[i].what);
        }
        invert(&damage[i]);
        EXPECT_EQ(t, findings(box), 0);
    }
}

static struct neomm__heap_place place_of(struct ktap *t, struct box *box, void *block)
{
    struct neomm__heap_place place = {0};
    EXPECT_OK(t, neomm__heap_find(box->root, block, &place));
    return place;
}

static void damaged_slabs(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 8, 2))
        return;
    void *block = neomm_kmalloc(box.root, 1000, 0), *small = neomm_kmalloc(box.root, 16, 0);
    struct neomm__heap_place place = place_of(t, &box, block);
    struct neomm__slab *slab = place.slab;
    struct neomm_kmem *cache = place.cache;
    struct neomm__frame *head = neomm__frame(box.root, place.head), *tail = head + 1;
    struct neomm__magazine *magazine = neomm__magazine_of(cache, 0);
    uint32_t last = cache->objects - 1, number = place.head.number;
    void *kept = neomm_kmalloc(box.root, 1000, 0), *kept_too = neomm_kmalloc(box.root, 1000, 0);
    EXPECT_OK(t, neomm_kfree(box.root, kept));
    EXPECT_OK(t, neomm_kfree(box.root, kept_too));
    ASSERT(t, neomm__magazine_kept(magazine) >= 2 && cache->pages > 1);
    void **first = neomm__magazine_slot(magazine, magazine->out);
    void **second = neomm__magazine_slot(magazine, magazine->out + 1);
    void **unused = neomm__magazine_slot(magazine, magazine->in);
    ASSERT(t, !*unused);
    ASSERT(t, neomm__heap_find(box.root, *first, &place) == NEOMM_OK && place.slab == slab);
    const struct damage damage[] = {
        DAMAGE(slab->free_map[0], 1u << 0),
        DAMAGE(slab->free_map[0], 1u << place.index),
        DAMAGE(slab->free_map[0], 1u << last),
        DAMAGE(slab->free, 1),
        DAMAGE(slab->built, 0x8000),
        DAMAGE(slab->built, slab->built ^ 1),
        DAMAGE(slab->frame, 1),
        DAMAGE(slab->cache, 1),
        DAMAGE(slab->base, 0x1000),
        DAMAGE(head->kind, NEOMM__KIND_SLAB ^ NEOMM__KIND_TAIL),
        DAMAGE(head->owner, 1),
        DAMAGE(head->owner, 1u << NEOMM__SLAB_START_BITS),
        DAMAGE(head->owner, 1u << NEOMM_PAGE_SHIFT),
        DAMAGE(head->mapping, 1u << 20),
        DAMAGE(head->mapping, 0x40),
        DAMAGE(head->mapping, (uint64_t)1 << 43),
        DAMAGE(head->previous, 1),
        DAMAGE(head->next, 1),
        DAMAGE(tail->kind, NEOMM__KIND_SLAB ^ NEOMM__KIND_TAIL),
        DAMAGE(tail->owner, 2),
        DAMAGE(tail->mapping, 0x40),
        DAMAGE(cache->list[NEOMM__SLABS_PARTIAL].count, 1),
        DAMAGE(cache->list[NEOMM__SLABS_PARTIAL].tail, 1),
        DAMAGE(cache->list[NEOMM__SLABS_FULL].head, number),
        DAMAGE(cache->allocated, 1),
        DAMAGE(cache->freed, 1),
        DAMAGE(magazine->door, NEOMM__MAGAZINE_LEFT ^ NEOMM__MAGAZINE_ENTERED),
        DAMAGE(magazine->in, 64),
        DAMAGE(magazine->in, 1),
        DAMAGE(magazine->out, 64),
        DAMAGE(magazine->out_end, 64),
        DAMAGE(magazine->limit, 1),
        DAMAGE(magazine->inverse, 1),
        DAMAGE(magazine->slots, 64),
        DAMAGE(magazine->slots, magazine->slots),
        DAMAGE(magazine->filled, 4),
        DAMAGE(magazine->object[magazine->slots], 8),
        DAMAGE(*unused, (uintptr_t)block),
        DAMAGE(*first, 8),
        DAMAGE(*first, (uintptr_t)*first ^ (uintptr_t)*second),
        DAMAGE(*first, (uintptr_t)*first ^ (uintptr_t)small),
    };
    all_found(t, &box, damage, sizeof(damage) / sizeof(damage[0]));
    EXPECT_OK(t, neomm_kfree(box.root, block));
    EXPECT_OK(t, neomm_kfree(box.root, small));
    box_close(t, &box);
}

static void damaged_runs(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 2))
        return;
    void *other = neomm_kmalloc(box.root, 9000, 0);
    size_t size = t->parameter == BOX_WINDOW ? ((size_t)4 << 20) + 1 : 20000;
    void *block = neomm_kmalloc(box.root, size, 0);
    struct neomm__heap *heap = box.root->heap;
    struct neomm__frame *head = neomm__frame(box.root, place_of(t, &box, block).head);
    struct neomm__run *run = neomm__record_at(box.root, head->mapping);
    struct neomm__frame *tail = neomm__frame(
        box.root, heap->source[run->source].frame_of(box.root, (uint8_t *)block + 4096));
    const struct damage damage[] = {
        DAMAGE(run->base, 0x1000),
        DAMAGE(run->requested, (uint64_t)1 << 30),
        DAMAGE(run->requested, size),
        DAMAGE(run->requested, 1),
        DAMAGE(run->frame, 1),
        DAMAGE(run->pages, 1),
        DAMAGE(run->source, 2),
        DAMAGE(head->kind, NEOMM__KIND_RUN ^ NEOMM__KIND_STATE),
        DAMAGE(head->owner, 1),
        DAMAGE(head->mapping, 0x40),
        DAMAGE(head->mapping, 0x80),
        DAMAGE(head->mapping, (uint64_t)1 << 43),
        DAMAGE(tail->kind, NEOMM__KIND_TAIL),
        DAMAGE(tail->owner, 4),
        DAMAGE(heap->runs.count, 1),
        DAMAGE(heap->runs.tail, 1),
        DAMAGE(heap->run_frames, 1),
    };
    all_found(t, &box, damage, sizeof(damage) / sizeof(damage[0]));
    EXPECT_OK(t, neomm_kfree(box.root, block));
    EXPECT_OK(t, neomm_kfree(box.root, other));
    box_close(t, &box);
}

static void damaged_records_and_totals(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 8, 2))
        return;
    void *block = neomm_kmalloc(box.root, 100, 0);
    struct neomm__heap *heap = box.root->heap;
    struct neomm__frame *head = neomm__frame(box.root, place_of(t, &box, block).head);
    struct neomm__frame *home = neomm__frame(box.root, neomm_paddr_frame(head->mapping));
    const struct damage damage[] = {
        DAMAGE(home->kind, NEOMM__KIND_STATE),
        DAMAGE(home->owner, 4),
        DAMAGE(home->owner, 8),
        DAMAGE(home->mapping, 1),
        DAMAGE(home->mapping, 2),
        DAMAGE(home->mapping, (uint64_t)1 << 40),
        DAMAGE(heap->pool[home->owner].open.count, 1),
        DAMAGE(heap->runs_allocated, 1),
        DAMAGE(heap->runs_freed, 1),
        DAMAGE(heap->run_bytes, 1),
    };
    all_found(t, &box, damage, sizeof(damage) / sizeof(damage[0]));
    EXPECT_OK(t, neomm_kfree(box.root, block));
    box_close(t, &box);
}

/* Two wrong counts whose sum is right. */
static void damaged_counts_that_agree(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 8, 2))
        return;
    void *block = neomm_kmalloc(box.root, 1000, 0);
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 1000);
    struct neomm__magazine *first = neomm__magazine_of(cache, 0);
    struct neomm__magazine *second = neomm__magazine_of(cache, 1);
    first->in += 20;
    second->in -= 20;
    EXPECT(t, findings(&box) > 0);
    first->in -= 20;
    second->in += 20;
    EXPECT_EQ(t, findings(&box), 0);
    EXPECT_OK(t, neomm_kfree(box.root, block));
    box_close(t, &box);
}

/* Totals of objects may wrap, as they do on 32-bit machines; their differences stay right. */
static void totals_wrap(struct ktap *t)
{
    struct box box;
    struct neomm_kmem_stats stats;
    void *block[80];
    if (!box_open(t, &box, BOX_DIRECT, 8, 2))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 100);
    neomm__magazine_of(cache, 0)->passed += SIZE_MAX - 5;
    cache->allocated = cache->freed = SIZE_MAX;
    for (uint32_t i = 0; i < 80; i++)
        block[i] = neomm_kmalloc(box.root, 100, 0);
    neomm_kmem_stats(box.root, cache, &stats);
    EXPECT_EQ(t, stats.objects, 80);
    EXPECT_EQ(t, objects(&box), 80);
    env_fsck(t, &box.env);
    env_switch_cpu(&box.env, 1);
    for (uint32_t i = 0; i < 80; i++)
        EXPECT_OK(t, neomm_kfree(box.root, block[i]));
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

/* ---- other addresses of the same memory ---- */

/* Frames of a slab mapped a second time: what lies there is no block of the heap. */
static void aliases_of_slabs(struct ktap *t)
{
    struct box box;
    neomm_vaddr_t vaddr;
    if (!box_open(t, &box, BOX_WINDOW, 16, 1))
        return;
    struct neomm_tables *kernel = neomm_paging_kernel(box.root);
    void *block = neomm_kmalloc(box.root, 2048, 0);
    neomm_frame_t head = place_of(t, &box, block).head;
    ASSERT_OK(t, neomm_window_alloc(box.root, 2 * NEOMM_PAGE_SIZE, &vaddr));
    for (uint32_t i = 0; i < 2; i++) {
        neomm_paddr_t paddr = neomm_frame_paddr(neomm_frame(head.number + i));
        ASSERT_OK(t, neomm_paging_map(box.root, kernel, vaddr, paddr, NEOMM_PAGE_SIZE,
                                      NEOMM_PROT_READ, NEOMM_CACHE_WB, 0));
        void *alias = neomm_window_pointer(box.root, vaddr);
        EXPECT_EQ(t, neomm_kfree(box.root, alias), NEOMM_E_FOREIGN);
        EXPECT_OK(t,
                  neomm_paging_unmap(box.root, kernel, vaddr, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    }
    EXPECT_OK(t, neomm_window_free(box.root, vaddr));
    EXPECT_OK(t, neomm_kfree(box.root, block));
    box_close(t, &box);
}

/* ---- the leak report ---- */

static void leaks_are_listed(struct ktap *t)
{
    struct box box;
    void *block[18];
    if (!box_open(t, &box, BOX_DIRECT, 8, 1))
        return;
    void *run = neomm_kmalloc(box.root, 9000, 0);
    EXPECT_EQ(t, neomm_heap_fini(box.root), NEOMM_E_BUSY);
    EXPECT(t, strstr(sim_last_log(box.env.machine), "9000 bytes (pages)") != NULL);
    for (size_t i = 0; i < 18; i++)
        block[i] = neomm_kmalloc(box.root, 11, 0);
    EXPECT_EQ(t, neomm_heap_fini(box.root), NEOMM_E_BUSY);
    /* Sixteen lines are enough: the run, listed last, is not among them. */
    EXPECT(t, strstr(sim_last_log(box.env.machine), "16 bytes (kmalloc)") != NULL);
    for (size_t i = 0; i < 18; i++)
        EXPECT_OK(t, neomm_kfree(box.root, block[i]));
    EXPECT_OK(t, neomm_kfree(box.root, run));
    box_close(t, &box);
}

/* ---- page sources ---- */

/* The direct source with a record of what it was asked. */
struct probe {
    struct neomm_page_source inner;
    uint64_t pages;      /* out now */
    neomm_flags_t seen;  /* flags of all requests */
    uint32_t fail_above; /* runs of more pages fail */
    uint32_t allocs, frees, grows;
};

static neomm_status probe_alloc(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                                void **run)
{
    struct probe *probe = context;
    probe->seen |= flags;
    if (pages > probe->fail_above)
        return NEOMM_E_NOMEM;
    neomm_status status = probe->inner.run_alloc(probe->inner.context, pages, align, flags, run);
    if (status == NEOMM_OK) {
        probe->pages += pages;
        probe->allocs++;
    }
    return status;
}

static void probe_free(void *context, void *run, uint32_t pages)
{
    struct probe *probe = context;
    probe->pages -= pages;
    probe->frees++;
    probe->inner.run_free(probe->inner.context, run, pages);
}

static neomm_status probe_grow(void *context, void *run, uint32_t pages, uint32_t new_pages,
                               neomm_flags_t flags)
{
    struct probe *probe = context;
    neomm_status status = probe->inner.run_grow(probe->inner.context, run, pages, new_pages, flags);
    if (status == NEOMM_OK) {
        probe->pages += new_pages - pages;
        probe->grows++;
    }
    return status;
}

static neomm_frame_t probe_frame_of(void *context, const void *pointer)
{
    struct probe *probe = context;
    return probe->inner.frame_of(probe->inner.context, pointer);
}

static struct neomm_page_source probed(struct neomm *root, struct probe *probe)
{
    *probe = (struct probe){.fail_above = UINT32_MAX};
    neomm_heap_source_direct(root, &probe->inner);
    return (struct neomm_page_source){.context = probe,
                                      .run_alloc = probe_alloc,
                                      .run_free = probe_free,
                                      .run_grow = probe_grow,
                                      .frame_of = probe_frame_of};
}

/* Both sources are used as the header says, and get every page back. */
static void sources_of_a_program(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PMM, .format = box_format()};
    struct probe main_probe, large_probe;
    if (!env_open(t, &env, &options))
        return;
    struct neomm_page_source main_source = probed(env.root, &main_probe);
    struct neomm_page_source large_source = probed(env.root, &large_probe);
    const struct neomm_heap_options heap = {.source = &main_source, .large_source = &large_source};
    ASSERT_OK(t, neomm_heap_init(env.root, &heap));
    neomm_flags_t odd = NEOMM_ZERO | NEOMM_HIGH | NEOMM_MOVABLE;
    void *small = neomm_kmalloc(env.root, 50, odd);
    uint32_t slab = neomm_kmem_for(env.root, 50)->pages;
    EXPECT_EQ(t, main_probe.pages, slab);
    EXPECT_EQ(t, main_probe.seen, 0);
    void *run = neomm_kmalloc(env.root, 50000, odd);
    EXPECT_EQ(t, main_probe.pages, slab + 13);
    EXPECT_EQ(t, main_probe.seen, NEOMM_ZERO);
    EXPECT_EQ(t, large_probe.allocs, 0);
    run = neomm_krealloc(env.root, run, 60000, 0);
    EXPECT_EQ(t, main_probe.grows, 1);
    EXPECT_EQ(t, main_probe.pages, slab + 15);
    main_probe.fail_above = 8;
    void *large = neomm_kmalloc(env.root, 50000, 0);
    EXPECT(t, large != NULL);
    EXPECT_EQ(t, large_probe.pages, 13);
    EXPECT(t, neomm_kmalloc(env.root, 50000, NEOMM_DMA) == NULL);
    env_fsck(t, &env);
    EXPECT_OK(t, neomm_kfree(env.root, small));
    EXPECT_OK(t, neomm_kfree(env.root, run));
    EXPECT_OK(t, neomm_kfree(env.root, large));
    EXPECT_OK(t, neomm_heap_fini(env.root));
    EXPECT_EQ(t, main_probe.pages + large_probe.pages, 0);
    EXPECT_EQ(t, main_probe.allocs, main_probe.frees);
    env_close(t, &env);
}

/* ---- what is said ---- */

/* A line of the newest report holds the text. */
static bool said(struct box *box, const char *text)
{
    for (unsigned n = 0; n < 6; n++)
        if (strstr(sim_log_line(box->env.machine, n), text))
            return true;
    return false;
}

static void reports_in_the_log(struct ktap *t)
{
    struct box box;
    char text[64];
    void *block[3];
    if (!box_open(t, &box, BOX_DIRECT, 64, 1))
        return;
    for (unsigned i = 0; i < 3; i++)
        block[i] = take(&box, 8192, 0); /* four of them in a slab */
    uintptr_t middle = (uintptr_t)block[1];
    EXPECT_EQ(t, neomm_kfree(box.root, (void *)(middle + 1)), NEOMM_E_INVALID);
    EXPECT(t, said(&box, "kfree of") && said(&box, "not the start of a block"));
    EXPECT(t, said(&box, "byte 1 of the object") && said(&box, "cache kmalloc, live"));
    (void)snprintf(text, sizeof(text), "before it: %p, live", block[0]);
    EXPECT(t, said(&box, text));
    (void)snprintf(text, sizeof(text), "after it: %p, live", block[2]);
    EXPECT(t, said(&box, text));
    EXPECT(t, !said(&box, "allocated at") && !said(&box, "freed at"));
    int local = 0;
    volatile uintptr_t elsewhere = (uintptr_t)&local;
    EXPECT_EQ(t, neomm_kfree(box.root, (void *)elsewhere), NEOMM_E_FOREIGN);
    EXPECT(t, strstr(sim_last_log(box.env.machine), "not from this allocator") != NULL);
    void *run = neomm_kmalloc_at(box.root, 50000, 0, NULL);
    EXPECT_EQ(t, neomm_kfree(box.root, (void *)((uintptr_t)run + 16)), NEOMM_E_INVALID);
    EXPECT(t, said(&box, "byte 16 of the pages at") && said(&box, "50000 bytes, live"));
    EXPECT(t, strstr(sim_last_log(box.env.machine), "allocated at 0x") != NULL);
    EXPECT_OK(t, neomm_kfree(box.root, run));
    for (unsigned i = 0; i < 3; i++)
        EXPECT_OK(t, neomm_kfree(box.root, block[i]));
    box_close(t, &box);
}

/* Pages of the window are mapped in batches: of every length around them as many as were asked for,
 * and nothing behind. */
static void window_lengths(struct ktap *t)
{
    struct neomm_page_source source;
    struct box box;
    void *run;
    if (!box_open(t, &box, BOX_WINDOW, 16, 1))
        return;
    neomm_heap_source_window(box.root, &source);
    for (uint32_t pages = 1; pages <= 100; pages++) {
        ASSERT_OK(t, source.run_alloc(box.root, pages, 1, 0, &run));
        for (uint32_t i = 0; i < pages; i++)
            EXPECT(t, !neomm_frame_is_nil(source.frame_of(box.root, (uint8_t *)run + i * 4096)));
        EXPECT(t, neomm_frame_is_nil(source.frame_of(box.root, (uint8_t *)run + pages * 4096)));
        source.run_free(box.root, run, pages);
    }
    box_close(t, &box);
}

/* One frame of each pool stays for the next record, and no other. */
static void one_frame_of_records_stays(struct ktap *t)
{
    enum { FRAMES = 3 };
    struct box box;
    neomm_paddr_t record[FRAMES * 64], next;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    const struct neomm__record_pool *pool = &box.root->heap->pool[t->parameter];
    uint32_t index = (uint32_t)t->parameter, count = FRAMES * pool->per_frame;
    uint64_t before = neomm_pmm_free_frames(box.root);
    for (uint32_t i = 0; i < count; i++)
        ASSERT(t, neomm__record_alloc(box.root, index, 0, &record[i]) != NULL);
    EXPECT_EQ(t, neomm_pmm_free_frames(box.root), before - FRAMES);
    uint32_t given = 0;
    for (uint32_t i = 0; i < count; i++) {
        given += neomm__record_free(box.root, record[i]);
        EXPECT_EQ(t, neomm_pmm_free_frames(box.root), before - FRAMES + given);
    }
    EXPECT_EQ(t, given, FRAMES - 1);
    for (uint32_t i = 0; i < 5; i++) {
        ASSERT(t, neomm__record_alloc(box.root, index, 0, &next) != NULL);
        EXPECT_EQ(t, neomm__record_free(box.root, next), 0);
    }
    EXPECT_EQ(t, neomm__records_trim(box.root), 1);
    EXPECT_EQ(t, neomm_pmm_free_frames(box.root), before);
    box_close(t, &box);
}

static void direct_growth(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PMM, .format = box_format(), .ram_bytes = 32 << 20};
    struct neomm_page_source source;
    void *run, *block;
    if (!env_open(t, &env, &options))
        return;
    neomm_heap_source_direct(env.root, &source);
    ASSERT_OK(t, source.run_alloc(env.root, 8, 1, NEOMM_DMA, &block));
    EXPECT_EQ(t, source.run_grow(env.root, block, 8, 9, 0), NEOMM_E_UNSUPPORTED);
    ASSERT_OK(t, source.run_alloc(env.root, 5, 1, NEOMM_DMA, &run));
    EXPECT_EQ(t, source.run_grow(env.root, run, 5, 1025, 0), NEOMM_E_UNSUPPORTED);
    EXPECT_OK(t, source.run_grow(env.root, run, 5, 6, NEOMM_ZERO));
    EXPECT(t, all_zero((uint8_t *)run + 5 * NEOMM_PAGE_SIZE, NEOMM_PAGE_SIZE));
    EXPECT_OK(t, source.run_grow(env.root, run, 6, 8, 0));
    source.run_free(env.root, run, 8);
    /* The largest block is one, and the direct map ends where it ends. */
    ASSERT_OK(t, source.run_alloc(env.root, 1u << NEOMM_ORDER_MAX, 1, 0, &run));
    EXPECT_EQ(t, neomm__frame(env.root, source.frame_of(env.root, run))->order, NEOMM_ORDER_MAX);
    source.run_free(env.root, run, 1u << NEOMM_ORDER_MAX);
    ASSERT_OK(t, source.run_alloc(env.root, 2u << NEOMM_ORDER_MAX, 1, 0, &run));
    source.run_free(env.root, run, 2u << NEOMM_ORDER_MAX);
    uint8_t *last = neomm_direct_pointer(env.root, env.root->layout.direct.size - 1);
    EXPECT_EQ(t, source.frame_of(env.root, last).number,
              (uint32_t)((env.root->layout.direct.size - 1) >> NEOMM_PAGE_SHIFT));
    EXPECT(t, neomm_frame_is_nil(source.frame_of(env.root, last + 1)));
    /* The last frames of DMA memory and of RAM: there is nothing behind them. */
    ASSERT_OK(t, neomm_pmm_claim(env.root, neomm_frame(4096 - 3), 3));
    run = neomm_direct_pointer(env.root, neomm_frame_paddr(neomm_frame(4096 - 3)));
    EXPECT_EQ(t, source.run_grow(env.root, run, 3, 4, NEOMM_DMA), NEOMM_E_NOSPACE);
    EXPECT_OK(t, source.run_grow(env.root, run, 3, 4, 0));
    source.run_free(env.root, run, 4);
    source.run_free(env.root, block, 8);
    EXPECT(t, neomm_frame_is_nil(source.frame_of(env.root, &env)));
    env_close(t, &env);
}

static void window_rights(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PAGING, .format = box_format()};
    struct neomm_page_source source;
    void *run;
    uint32_t value = 42;
    if (!env_open(t, &env, &options))
        return;
    neomm_heap_source_window(env.root, &source);
    EXPECT_EQ(t, source.run_alloc(env.root, UINT32_MAX, 1, 0, &run), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, source.run_alloc(env.root, 2, 2, 0, &run), NEOMM_E_UNSUPPORTED);
    ASSERT_OK(t, source.run_alloc(env.root, 100, 1, 0, &run));
    neomm_vaddr_t vaddr = neomm_window_vaddr(env.root, run);
    EXPECT_OK(t, env_access(&env, NULL, vaddr + 5 * NEOMM_PAGE_SIZE, &value, 4, true, false));
    EXPECT_OK(t, source.protect(env.root, run, 100, NEOMM_PROT_READ));
    EXPECT_EQ(t, env_access(&env, NULL, vaddr + 5 * NEOMM_PAGE_SIZE, &value, 4, true, false),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, env_access(&env, NULL, vaddr + 100 * NEOMM_PAGE_SIZE, &value, 4, false, false),
              NEOMM_E_FAULT);
    EXPECT_OK(t, source.protect(env.root, run, 100, NEOMM_PROT_READ | NEOMM_PROT_WRITE));
    EXPECT_OK(t, env_access(&env, NULL, vaddr, &value, 4, true, false));
    EXPECT_EQ(t, source.run_grow(env.root, run, 100, UINT32_MAX, 0), NEOMM_E_NOSPACE);
    EXPECT_OK(t, source.run_grow(env.root, run, 100, 101, 0));
    EXPECT_OK(t, env_access(&env, NULL, vaddr + 100 * NEOMM_PAGE_SIZE, &value, 4, true, false));
    EXPECT(t, !neomm_frame_is_nil(source.frame_of(env.root, run)));
    EXPECT(t, neomm_frame_is_nil(source.frame_of(env.root, &env)));
    source.run_free(env.root, run, 101);
    EXPECT(t, neomm_frame_is_nil(source.frame_of(env.root, run)));
    env_close(t, &env);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};
static const uint64_t both[] = {0, 1};

static const uint64_t pools[] = {NEOMM__RECORD_SMALL, NEOMM__RECORD_LARGE};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(classes, both),
    KTAP_CASE(shapes),
    KTAP_CASE(hashes),
    KTAP_CASE(little_is_held_back),
    KTAP_CASE(magazines_of_idle_cpus),
    KTAP_CASE(damaged_slabs),
    KTAP_CASE_WITH(damaged_runs, kinds),
    KTAP_CASE(damaged_records_and_totals),
    KTAP_CASE(damaged_counts_that_agree),
    KTAP_CASE(totals_wrap),
    KTAP_CASE(aliases_of_slabs),
    KTAP_CASE(leaks_are_listed),
    KTAP_CASE(sources_of_a_program),
    KTAP_CASE_WITH(one_frame_of_records_stays, pools),
    KTAP_CASE(window_lengths),
    KTAP_CASE(reports_in_the_log),
    KTAP_CASE(direct_growth),
    KTAP_CASE(window_rights),
};

KTAP_SUITE(heap_inside, cases);
