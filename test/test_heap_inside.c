/* The heap from inside: its table of classes, what its consistency check finds, page sources.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "heap/heap_priv.h"
#include "sim/sim.h"

#include <string.h>

/* ---- the table of classes ---- */

static void classes(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 4, 1))
        return;
    const struct neomm__heap_class *class = box.root->heap->class;
    for (size_t size = 1; size <= NEOMM__HEAP_SLAB_MAX; size++) {
        unsigned index = neomm__heap_class_of(size);
        ASSERT(t, index < NEOMM__HEAP_CLASSES);
        EXPECT(t, class[index].size >= size);
        EXPECT(t, index == 0 || class[index - 1].size < size);
    }
    for (unsigned i = 0; i < NEOMM__HEAP_CLASSES; i++) {
        size_t bytes = class[i].pages * NEOMM_PAGE_SIZE, wrong = 0;
        EXPECT_EQ(t, class[i].size % 16, 0);
        EXPECT(t, class[i].objects >= 4 && class[i].objects <= NEOMM__SLAB_OBJECTS_MAX);
        EXPECT((t), (bytes - (size_t) class[i].objects * class[i].size) * 8 <= bytes);
        EXPECT(t, class[i].magazine >= 2 && class[i].magazine <= NEOMM__MAGAZINE_MAX);
        EXPECT(t, 64 + 2 * class[i].objects <= box.root->heap->pool[class[i].pool].size);
        for (size_t offset = 0; offset < bytes; offset += 16)
            wrong += (uint32_t)(offset / 16) * class[i].inverse >> 20 != offset / class[i].size;
        EXPECT_EQ(t, wrong, 0);
    }
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
    struct neomm__heap_class *class = &box.root->heap->class[slab->class_index];
    struct neomm__frame *head = neomm__frame(box.root, place.head), *tail = head + 1;
    struct neomm__magazine *magazine = &box.root->heap->cpu[0].magazine[slab->class_index];
    uint32_t last = class->objects - 1, number = place.head.number;
    ASSERT(t, magazine->count >= 2);
    ASSERT(t, neomm__heap_find(box.root, magazine->object[0], &place) == NEOMM_OK);
    const struct damage damage[] = {
        DAMAGE(slab->free_map[0], 1u << 0),
        DAMAGE(slab->free_map[0], 1u << place.index),
        DAMAGE(slab->free_map[0], 1u << last),
        DAMAGE(slab->free, 1),
        DAMAGE(slab->frame, 1),
        DAMAGE(slab->class_index, 1),
        DAMAGE(slab->base, 0x1000),
        DAMAGE(slab->requested[0], 0x8000),
        DAMAGE(slab->requested[0], 1000),
        DAMAGE(slab->requested[0], 1),
        DAMAGE(slab->requested[place.index], 5),
        DAMAGE(slab->requested[last], 5),
        DAMAGE(head->kind, NEOMM__KIND_SLAB ^ NEOMM__KIND_TAIL),
        DAMAGE(head->owner, 1),
        DAMAGE(head->mapping, 1u << 20),
        DAMAGE(head->mapping, 0x40),
        DAMAGE(head->mapping, (uint64_t)1 << 43),
        DAMAGE(head->previous, 1),
        DAMAGE(head->next, 1),
        DAMAGE(tail->kind, NEOMM__KIND_TAIL),
        DAMAGE(tail->owner, 2),
        DAMAGE(class->list[NEOMM__SLABS_PARTIAL].count, 1),
        DAMAGE(class->list[NEOMM__SLABS_PARTIAL].tail, 1),
        DAMAGE(class->list[NEOMM__SLABS_FULL].head, number),
        DAMAGE(magazine->count, 1),
        DAMAGE(magazine->count, 64),
        DAMAGE(magazine->object[0], 8),
        DAMAGE(magazine->object[0], (uintptr_t)magazine->object[0] ^ (uintptr_t)block),
        DAMAGE(magazine->object[0],
               (uintptr_t)magazine->object[0] ^ (uintptr_t)magazine->object[1]),
        DAMAGE(magazine->object[0], (uintptr_t)magazine->object[0] ^ (uintptr_t)small),
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
        DAMAGE(heap->cpu[0].objects, 1),
        DAMAGE(heap->cpu[1].objects, 8),
        DAMAGE(heap->cpu[0].allocated, 1),
        DAMAGE(heap->cpu[1].requested, 1),
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
    unsigned class_index = neomm__heap_class_of(1000);
    size_t *first = &box.root->heap->cpu[0].magazine[class_index].count;
    size_t *second = &box.root->heap->cpu[1].magazine[class_index].count;
    *first += 20;
    *second -= 20;
    EXPECT(t, findings(&box) > 0);
    *first -= 20;
    *second += 20;
    EXPECT_EQ(t, findings(&box), 0);
    EXPECT_OK(t, neomm_kfree(box.root, block));
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
    EXPECT(t, strstr(sim_last_log(box.env.machine), "9000 of 12288 bytes") != NULL);
    for (size_t i = 0; i < 18; i++)
        block[i] = neomm_kmalloc(box.root, 11, 0);
    EXPECT_EQ(t, neomm_heap_fini(box.root), NEOMM_E_BUSY);
    /* Sixteen lines are enough: the run, listed last, is not among them. */
    EXPECT(t, strstr(sim_last_log(box.env.machine), "11 of 16 bytes") != NULL);
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

static neomm_status probe_alloc(void *context, uint32_t pages, neomm_flags_t flags, void **run)
{
    struct probe *probe = context;
    probe->seen |= flags;
    if (pages > probe->fail_above)
        return NEOMM_E_NOMEM;
    neomm_status status = probe->inner.run_alloc(probe->inner.context, pages, flags, run);
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
    const struct neomm_heap_options heap = {&main_source, &large_source};
    ASSERT_OK(t, neomm_heap_init(env.root, &heap));
    neomm_flags_t odd = NEOMM_ZERO | NEOMM_HIGH | NEOMM_MOVABLE;
    void *small = neomm_kmalloc(env.root, 50, odd);
    EXPECT_EQ(t, main_probe.pages, 1);
    EXPECT_EQ(t, main_probe.seen, 0);
    void *run = neomm_kmalloc(env.root, 50000, odd);
    EXPECT_EQ(t, main_probe.pages, 1 + 13);
    EXPECT_EQ(t, main_probe.seen, NEOMM_ZERO);
    EXPECT_EQ(t, large_probe.allocs, 0);
    run = neomm_krealloc(env.root, run, 60000, 0);
    EXPECT_EQ(t, main_probe.grows, 1);
    EXPECT_EQ(t, main_probe.pages, 1 + 15);
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

static void direct_growth(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PMM, .format = box_format(), .ram_bytes = 32 << 20};
    struct neomm_page_source source;
    void *run, *block;
    if (!env_open(t, &env, &options))
        return;
    neomm_heap_source_direct(env.root, &source);
    ASSERT_OK(t, source.run_alloc(env.root, 8, NEOMM_DMA, &block));
    EXPECT_EQ(t, source.run_grow(env.root, block, 8, 9, 0), NEOMM_E_UNSUPPORTED);
    ASSERT_OK(t, source.run_alloc(env.root, 3, NEOMM_DMA, &run));
    EXPECT_EQ(t, source.run_grow(env.root, run, 3, 1025, 0), NEOMM_E_UNSUPPORTED);
    EXPECT_OK(t, source.run_grow(env.root, run, 3, 4, NEOMM_ZERO));
    EXPECT(t, all_zero((uint8_t *)run + 3 * NEOMM_PAGE_SIZE, NEOMM_PAGE_SIZE));
    EXPECT_OK(t, source.run_grow(env.root, run, 4, 6, 0));
    source.run_free(env.root, run, 6);
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
    EXPECT_EQ(t, source.run_alloc(env.root, UINT32_MAX, 0, &run), NEOMM_E_NOSPACE);
    ASSERT_OK(t, source.run_alloc(env.root, 100, 0, &run));
    neomm_vaddr_t vaddr = neomm_window_vaddr(env.root, run);
    EXPECT_OK(t, env_access(&env, NULL, vaddr + 5 * NEOMM_PAGE_SIZE, &value, 4, true, false));
    EXPECT_OK(t, source.protect(env.root, run, 100, NEOMM_PROT_READ));
    EXPECT_EQ(t, env_access(&env, NULL, vaddr + 5 * NEOMM_PAGE_SIZE, &value, 4, true, false),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, env_access(&env, NULL, vaddr + 100 * NEOMM_PAGE_SIZE, &value, 4, false, false),
              NEOMM_E_FAULT);
    EXPECT_OK(t, source.protect(env.root, run, 100, NEOMM_PROT_READ | NEOMM_PROT_WRITE));
    EXPECT_OK(t, env_access(&env, NULL, vaddr, &value, 4, true, false));
    EXPECT_EQ(t, source.run_grow(env.root, run, 100, 101, 0), NEOMM_E_UNSUPPORTED);
    EXPECT(t, !neomm_frame_is_nil(source.frame_of(env.root, run)));
    EXPECT(t, neomm_frame_is_nil(source.frame_of(env.root, &env)));
    source.run_free(env.root, run, 100);
    EXPECT(t, neomm_frame_is_nil(source.frame_of(env.root, run)));
    env_close(t, &env);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};

static const struct ktap_case cases[] = {
    KTAP_CASE(classes),
    KTAP_CASE(damaged_slabs),
    KTAP_CASE_WITH(damaged_runs, kinds),
    KTAP_CASE(damaged_records_and_totals),
    KTAP_CASE(damaged_counts_that_agree),
    KTAP_CASE(aliases_of_slabs),
    KTAP_CASE(leaks_are_listed),
    KTAP_CASE(sources_of_a_program),
    KTAP_CASE(direct_growth),
    KTAP_CASE(window_rights),
};

KTAP_SUITE(heap_inside, cases);
