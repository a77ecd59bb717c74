/* What the heap says about itself: the consistency check, the snapshot, the leak report.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

/* What a walk over everything adds up, to compare with the totals that were kept. */
struct tally {
    struct neomm *root;
    struct neomm__report *report;
    size_t objects, allocated, requested;
    size_t cached; /* of the class at hand: neither free in a slab nor live */
    size_t run_frames;
    size_t records[NEOMM__RECORD_POOLS];
};

static bool is_free(const struct neomm__slab *slab, uint32_t index)
{
    return slab->free_map[index / NEOMM__WORD_BITS] >> index % NEOMM__WORD_BITS & 1;
}

/* ---- descriptors ---- */

static void check_tail(struct tally *tally, const struct neomm_page_source *source,
                       const uint8_t *base, uint32_t pages)
{
    for (uint32_t i = 1; i < pages; i++) {
        neomm_frame_t frame = source->frame_of(source->context, base + i * NEOMM_PAGE_SIZE);
        const struct neomm__frame *entry = neomm__frame(tally->root, frame);
        if (neomm_frame_is_nil(frame) || entry->kind != NEOMM__KIND_TAIL || entry->owner != i)
            neomm__report(tally->report, "heap: page %u of the block at %p: descriptor disagrees",
                          i, (const void *)base);
    }
}

/* The record of a slab or run whose head is `frame`; NULL, reported, if it cannot be. */
static void *record_of(struct tally *tally, neomm_frame_t frame, uint32_t pool, uint32_t pools)
{
    const struct neomm__frame *entry = neomm__frame(tally->root, frame);
    neomm_frame_t holder = neomm_paddr_frame(entry->mapping);
    const struct neomm__frame *home = neomm__frame(tally->root, holder);
    if (!home || neomm_frame_is_nil(holder) || home->kind != NEOMM__KIND_STATE ||
        home->owner < pool || home->owner >= pool + pools) {
        neomm__report(tally->report, "heap: frame %#x: no record at %#llx", frame.number,
                      (unsigned long long)entry->mapping);
        return NULL;
    }
    uint32_t size = tally->root->heap->pool[home->owner].size;
    uint32_t offset = (uint32_t)(entry->mapping & (NEOMM_PAGE_SIZE - 1));
    if (offset % size != 0 || !(home->mapping >> offset / size & 1))
        neomm__report(tally->report, "heap: frame %#x: its record is not in use", frame.number);
    tally->records[home->owner]++;
    return neomm__record_at(tally->root, entry->mapping);
}

/* ---- slabs ---- */

static void check_object(struct tally *tally, const struct neomm__heap_class *class,
                         const struct neomm__slab *slab, uint32_t index)
{
    uint32_t requested = slab->requested[index];
    if (requested == 0) {
        tally->cached += !is_free(slab, index);
        return;
    }
    tally->objects++;
    tally->allocated += class->size;
    tally->requested += requested;
    if (is_free(slab, index))
        neomm__report(tally->report, "heap: object %u of the slab at %p is both free and live",
                      index, (void *)slab->base);
    if (requested > class->size)
        neomm__report(tally->report, "heap: object %u of the slab at %p: %u bytes in class %u",
                      index, (void *)slab->base, requested, class->size);
}

static void check_slab(struct tally *tally, unsigned class_index, enum neomm__slab_list list,
                       neomm_frame_t frame)
{
    const struct neomm__heap *heap = tally->root->heap;
    const struct neomm__heap_class *class = &heap->class[class_index];
    const struct neomm_page_source *source = &heap->source[NEOMM__SOURCE_MAIN];
    const struct neomm__slab *slab = record_of(tally, frame, class->pool, 1);
    if (!slab)
        return;
    if (slab->frame != frame.number || slab->class_index != class_index ||
        source->frame_of(source->context, slab->base).number != frame.number) {
        neomm__report(tally->report, "heap: frame %#x: its record is that of frame %#x, class %u",
                      frame.number, slab->frame, slab->class_index);
        return;
    }
    uint32_t free = 0;
    for (uint32_t i = 0; i < class->objects; i++) {
        free += is_free(slab, i);
        check_object(tally, class, slab, i);
    }
    bool listed = list == NEOMM__SLABS_EMPTY  ? free == class->objects
                  : list == NEOMM__SLABS_FULL ? free == 0
                                              : free > 0 && free < class->objects;
    if (free != slab->free || !listed)
        neomm__report(tally->report, "heap: slab at %p: %u objects free, %u counted, in list %d",
                      (void *)slab->base, free, slab->free, (int)list);
    check_tail(tally, source, slab->base, class->pages);
}

/* Calls visit for each frame of a list, which must be as long as it says, of one kind, and
 * linked both ways. */
static void check_list(struct tally *tally, const struct neomm__frame_list *list, const char *what,
                       enum neomm__kind kind, uint32_t owner,
                       void (*visit)(struct tally *, const void *, neomm_frame_t),
                       const void *context)
{
    uint32_t previous = 0, number = list->head, count = 0;
    for (; number != 0 && count < list->count; count++) {
        const struct neomm__frame *entry = neomm__frame(tally->root, neomm_frame(number));
        if (!entry || entry->kind != kind || entry->previous != previous ||
            (kind != NEOMM__KIND_RUN && entry->owner != owner)) {
            neomm__report(tally->report, "heap: %s: frame %#x does not belong here", what, number);
            return;
        }
        visit(tally, context, neomm_frame(number));
        previous = number;
        number = entry->next;
    }
    if (number != 0 || count != list->count || list->tail != previous)
        neomm__report(tally->report, "heap: %s: %u frames counted, the list is another", what,
                      list->count);
}

struct slab_visit {
    unsigned class_index;
    enum neomm__slab_list list;
};

static void visit_slab(struct tally *tally, const void *context, neomm_frame_t frame)
{
    const struct slab_visit *visit = context;
    check_slab(tally, visit->class_index, visit->list, frame);
}

static void check_class(struct tally *tally, unsigned class_index)
{
    const struct neomm__heap *heap = tally->root->heap;
    const struct neomm__heap_class *class = &heap->class[class_index];
    size_t held = 0;
    tally->cached = 0;
    for (unsigned list = 0; list < NEOMM__SLAB_LISTS; list++) {
        struct slab_visit visit = {class_index, (enum neomm__slab_list)list};
        check_list(tally, &class->list[list], "slabs", NEOMM__KIND_SLAB, class_index, visit_slab,
                   &visit);
    }
    for (uint32_t cpu = 0; cpu < tally->root->cpus; cpu++)
        held += heap->cpu[cpu].magazine[class_index].count;
    if (tally->cached != held)
        neomm__report(tally->report, "heap: class %u: slabs lent out %zu objects, CPUs hold %zu",
                      class->size, tally->cached, held);
}

/* ---- CPU caches ---- */

/* An object of the class that is neither free in its slab nor live. */
static bool is_cached(struct neomm *root, unsigned class_index, const void *object)
{
    struct neomm__heap_place place;
    return neomm__heap_find(root, object, &place) == NEOMM_OK && place.slab &&
           place.slab->class_index == class_index && place.slab->requested[place.index] == 0 &&
           !is_free(place.slab, place.index);
}

static void check_magazine(struct tally *tally, uint32_t cpu, unsigned class_index)
{
    const struct neomm__heap_class *class = &tally->root->heap->class[class_index];
    const struct neomm__magazine *magazine = &tally->root->heap->cpu[cpu].magazine[class_index];
    if (magazine->count > class->magazine) {
        neomm__report(tally->report, "heap: CPU %u holds %zu objects of class %u", cpu,
                      magazine->count, class->size);
        return;
    }
    for (size_t i = 0; i < magazine->count; i++) {
        bool good = is_cached(tally->root, class_index, magazine->object[i]);
        for (size_t j = 0; j < i; j++)
            good = good && magazine->object[j] != magazine->object[i];
        if (!good)
            neomm__report(tally->report, "heap: CPU %u holds %p as a free object of class %u", cpu,
                          magazine->object[i], class->size);
    }
}

/* ---- runs and records ---- */

static void visit_run(struct tally *tally, const void *context, neomm_frame_t frame)
{
    const struct neomm__heap *heap = tally->root->heap;
    const struct neomm__run *run = record_of(tally, frame, NEOMM__RECORD_POOL_RUN, 1);
    (void)context;
    if (!run)
        return;
    if (run->frame != frame.number || run->source >= heap->sources ||
        neomm__frame(tally->root, frame)->owner != run->pages || run->requested == 0 ||
        run->requested > run->pages * NEOMM_PAGE_SIZE) {
        neomm__report(tally->report,
                      "heap: run at frame %#x: %u pages, %zu bytes, record disagrees", frame.number,
                      run->pages, run->requested);
        return;
    }
    const struct neomm_page_source *source = &heap->source[run->source];
    if (source->frame_of(source->context, run->base).number != frame.number)
        neomm__report(tally->report, "heap: run at %p: not over frame %#x", (void *)run->base,
                      frame.number);
    check_tail(tally, source, run->base, run->pages);
    tally->objects++;
    tally->allocated += run->pages * NEOMM_PAGE_SIZE;
    tally->requested += run->requested;
    tally->run_frames += run->pages;
}

/* The number of records in use that the frames of a pool say. */
static void visit_records(struct tally *tally, const void *context, neomm_frame_t frame)
{
    size_t *used = (size_t *)(uintptr_t)context;
    uint64_t map = neomm__frame(tally->root, frame)->mapping;
    *used += neomm__popcount32((uint32_t)map) + neomm__popcount32((uint32_t)(map >> 32));
}

static void check_pool(struct tally *tally, uint32_t index)
{
    const struct neomm__record_pool *pool = &tally->root->heap->pool[index];
    size_t used = 0;
    check_list(tally, &pool->open, "records", NEOMM__KIND_STATE, index, visit_records, &used);
    check_list(tally, &pool->full, "records", NEOMM__KIND_STATE, index, visit_records, &used);
    if (used != tally->records[index])
        neomm__report(tally->report, "heap: pool %u: %zu records in use, %zu referred to", index,
                      used, tally->records[index]);
}

static void check_totals(const struct tally *tally)
{
    struct neomm_heap_stats stats;
    neomm_heap_stats(tally->root, &stats);
    if (stats.objects != tally->objects || stats.allocated_bytes != tally->allocated ||
        stats.requested_bytes != tally->requested || stats.run_frames != tally->run_frames)
        neomm__report(tally->report,
                      "heap: %zu objects of %zu bytes, %zu requested, %zu frames in runs; "
                      "counted %llu, %llu, %llu, %llu",
                      tally->objects, tally->allocated, tally->requested, tally->run_frames,
                      (unsigned long long)stats.objects, (unsigned long long)stats.allocated_bytes,
                      (unsigned long long)stats.requested_bytes,
                      (unsigned long long)stats.run_frames);
}

void neomm__heap_fsck(struct neomm *root, struct neomm__report *report)
{
    struct tally tally = {.root = root, .report = report};
    size_t before = report->findings;
    for (unsigned i = 0; i < NEOMM__HEAP_CLASSES; i++)
        check_class(&tally, i);
    check_list(&tally, &root->heap->runs, "runs", NEOMM__KIND_RUN, 0, visit_run, NULL);
    for (uint32_t i = 0; i < NEOMM__RECORD_POOLS; i++)
        check_pool(&tally, i);
    check_totals(&tally);
    /* Only sound slabs can be asked about the objects that CPUs hold. */
    for (uint32_t i = 0; report->findings == before && i < root->cpus; i++)
        for (unsigned j = 0; j < NEOMM__HEAP_CLASSES; j++)
            check_magazine(&tally, i, j);
}

/* ---- snapshot and leaks ---- */

void neomm__heap_snapshot(struct neomm *root, struct neomm_snapshot *snapshot)
{
    neomm_heap_stats(root, &snapshot->heap);
}

static void log_leak(uint32_t *listed, const void *block, size_t requested, size_t usable)
{
    if ((*listed)++ < NEOMM__LEAKS_LISTED)
        neomm__log(NEOMM_LOG_WARNING, "heap: leak: %p, %zu of %zu bytes", block, requested, usable);
}

static void log_slab_leaks(const struct neomm *root, const struct neomm__heap_class *class,
                           neomm_frame_t head, uint32_t *listed)
{
    const struct neomm__slab *slab = neomm__record_at(root, neomm__frame(root, head)->mapping);
    for (uint32_t i = 0; i < class->objects && *listed < NEOMM__LEAKS_LISTED; i++)
        if (slab->requested[i] != 0)
            log_leak(listed, slab->base + (size_t)i * class->size, slab->requested[i], class->size);
}

void neomm__heap_log_leaks(struct neomm *root)
{
    const struct neomm__heap *heap = root->heap;
    uint32_t listed = 0, number;
    for (unsigned i = 0; i < NEOMM__HEAP_CLASSES * NEOMM__SLAB_LISTS; i++) {
        const struct neomm__heap_class *class = &heap->class[i / NEOMM__SLAB_LISTS];
        number = class->list[i % NEOMM__SLAB_LISTS].head;
        for (; number != 0; number = neomm__frame(root, neomm_frame(number))->next)
            log_slab_leaks(root, class, neomm_frame(number), &listed);
    }
    for (number = heap->runs.head; number != 0;
         number = neomm__frame(root, neomm_frame(number))->next) {
        const struct neomm__run *run =
            neomm__record_at(root, neomm__frame(root, neomm_frame(number))->mapping);
        log_leak(&listed, run->base, run->requested, run->pages * NEOMM_PAGE_SIZE);
    }
}
