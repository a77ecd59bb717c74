/* Runs: requests of whole pages, each with a record.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

/* Marks the descriptors behind the first; kind NONE takes the marks away. */
static void tag_tail(struct neomm *root, const struct neomm_page_source *source, uint8_t *base,
                     uint32_t from, uint32_t to, enum neomm__kind kind)
{
    neomm_frame_t head = source->frame_of(source->context, base);
    neomm__frame_set(neomm__frame(root, head), NEOMM__FRAME_TAILS);
    for (uint32_t i = from; i < to; i++) {
        neomm_frame_t frame = source->frame_of(source->context, base + i * NEOMM_PAGE_SIZE);
        neomm__frame(root, frame)->owner = kind == NEOMM__KIND_NONE ? 0 : i;
        neomm__frame(root, frame)->kind = (uint8_t)kind;
    }
}

/* Contiguous frames while the frame allocator has blocks of that size, else separate ones; what
 * is asked below 16 MiB is for devices, which need contiguous memory. */
static bool take_pages(struct neomm__heap *heap, struct neomm__run *run, uint32_t align,
                       neomm_flags_t flags)
{
    void *pages = NULL;
    /* Memory for devices is not guarded, nor does it move. */
    bool large = (heap->runs_guarded || run->moves) && !(flags & NEOMM_DMA);
    for (uint32_t i = large ? NEOMM__SOURCE_LARGE : NEOMM__SOURCE_MAIN; i < heap->sources && !pages;
         i++) {
        const struct neomm_page_source *source = &heap->source[i];
        if (i == NEOMM__SOURCE_MAIN ? run->pages > 1u << NEOMM_ORDER_MAX : (flags & NEOMM_DMA) != 0)
            continue;
        pages = neomm__pages_take(heap, source, run->pages, align, flags);
        run->source = i;
    }
    run->base = pages;
    return pages != NULL;
}

/* The run becomes visible to kfree. */
static void publish(struct neomm *root, struct neomm__run *run, neomm_paddr_t record)
{
    struct neomm__heap *heap = root->heap;
    const struct neomm_page_source *source = &heap->source[run->source];
    neomm_frame_t head = source->frame_of(source->context, run->base);
    struct neomm__frame *entry = neomm__frame(root, head);
    run->frame = head.number;
    tag_tail(root, source, run->base, 1, run->pages, NEOMM__KIND_TAIL);
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    entry->owner = run->pages;
    entry->mapping = record;
    entry->kind = NEOMM__KIND_RUN;
    neomm__frame_list_push_tail(&root->frames, &heap->runs, head);
    heap->run_frames += run->pages;
    heap->run_bytes += run->requested;
    heap->runs_allocated++;
    neomm__unlock(&heap->run_lock, irq);
}

static void *make(struct neomm *root, size_t size, uint32_t align, neomm_flags_t flags,
                  uintptr_t caller, bool moves)
{
    const struct neomm__sites *sites = neomm__load_acquire(&root->heap->sites);
    size_t pages = neomm__pages(size);
    neomm_paddr_t paddr;
    if (pages > UINT32_MAX || NEOMM__FAULT(HEAP_RUN))
        return NULL;
    struct neomm__run *run = neomm__record_alloc(root, NEOMM__RECORD_SMALL, flags, &paddr);
    if (!run)
        return NULL;
    run->pages = (uint32_t)pages;
    run->requested = size;
    run->moves = moves;
    run->caller = caller;
    run->born = sites ? sites->now() : 0;
    run->tracked = sites ? neomm__load_relaxed(&sites->generation) : 0;
    if (!take_pages(root->heap, run, align, flags)) {
        (void)neomm__record_free(root, paddr);
        return NULL;
    }
    publish(root, run, paddr);
    if (sites)
        sites->count(root, caller, 1, size);
    return run->base;
}

void *neomm__run_alloc(struct neomm *root, size_t size, uint32_t align, neomm_flags_t flags,
                       uintptr_t caller)
{
    return make(root, size, align, flags, caller, false);
}

void *neomm__run_alloc_moving(struct neomm *root, size_t size, neomm_flags_t flags,
                              uintptr_t caller)
{
    return make(root, size, 1, flags, caller, true);
}

/* Under the lock of the runs: the live run at exactly this pointer, or NULL. */
static struct neomm__run *live_run(struct neomm *root, const void *pointer, neomm_frame_t head)
{
    struct neomm__frame *entry = neomm__frame(root, head);
    if (entry->kind != NEOMM__KIND_RUN)
        return NULL;
    struct neomm__run *run = neomm__record_at(root, entry->mapping);
    return run->base == pointer ? run : NULL;
}

static void unpublish(struct neomm *root, neomm_frame_t head, const struct neomm__run *run)
{
    struct neomm__heap *heap = root->heap;
    struct neomm__frame *entry = neomm__frame(root, head);
    entry->kind = NEOMM__KIND_NONE;
    neomm__frame_list_remove(&root->frames, &heap->runs, head);
    heap->run_frames -= run->pages;
    heap->run_bytes -= run->requested;
    heap->runs_freed++;
}

neomm_status neomm__run_free(struct neomm *root, void *pointer,
                             const struct neomm__heap_place *place)
{
    struct neomm__heap *heap = root->heap;
    const struct neomm__sites *sites = neomm__load_acquire(&heap->sites);
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    neomm_paddr_t paddr = neomm__frame(root, place->head)->mapping;
    struct neomm__run *run = live_run(root, pointer, place->head);
    if (run)
        unpublish(root, place->head, run);
    neomm__unlock(&heap->run_lock, irq);
    if (!run)
        return NEOMM_E_FOREIGN;
    const struct neomm_page_source *source = &heap->source[run->source];
    uint32_t pages = run->pages;
    tag_tail(root, source, pointer, 1, pages, NEOMM__KIND_NONE);
    if (sites && run->tracked == neomm__load_relaxed(&sites->generation))
        sites->count(root, run->caller, -1, run->requested);
    (void)neomm__record_free(root, paddr);
    neomm__pages_give(heap, source, pointer, pages);
    return NEOMM_OK;
}

size_t neomm__run_size(struct neomm *root, const void *pointer,
                       const struct neomm__heap_place *place)
{
    neomm_irq_t irq = neomm__lock(&root->heap->run_lock);
    const struct neomm__run *run = live_run(root, pointer, place->head);
    size_t size = run ? run->pages * NEOMM_PAGE_SIZE : 0;
    neomm__unlock(&root->heap->run_lock, irq);
    return size;
}

void neomm__run_describe(struct neomm *root, const struct neomm__heap_place *place,
                         struct neomm_heap_report *report)
{
    neomm_irq_t irq = neomm__lock(&root->heap->run_lock);
    const struct neomm__run *run = live_run(root, place->base, place->head);
    if (run) {
        report->object = run->base;
        report->size = run->requested;
        report->live = true;
        report->allocated = neomm__heap_site(run->caller);
    }
    neomm__unlock(&root->heap->run_lock, irq);
}

/* The run has more pages, maybe elsewhere; those from `old_pages` on are new. */
static void lengthen(struct neomm *root, struct neomm__run *run, void *base, uint32_t old_pages,
                     uint32_t pages)
{
    struct neomm__heap *heap = root->heap;
    tag_tail(root, &heap->source[run->source], base, old_pages, pages, NEOMM__KIND_TAIL);
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    run->base = base;
    run->pages = pages;
    neomm__frame(root, neomm_frame(run->frame))->owner = pages;
    heap->run_frames += pages - old_pages;
    neomm__unlock(&heap->run_lock, irq);
}

/* The owner of a live run is in the middle of krealloc: nobody else may touch it, so its record
 * is read without the lock. Where it can it stays in place, else its pages move. */
static bool grow(struct neomm *root, struct neomm__run *run, uint32_t pages, neomm_flags_t flags)
{
    const struct neomm_page_source *source = &root->heap->source[run->source];
    uint32_t old_pages = run->pages;
    void *base = run->base;
    if (NEOMM__FAULT(HEAP_RUN) || !neomm__heap_charge(root->heap, pages - old_pages))
        return false;
    neomm_status status = source->run_grow(source->context, base, old_pages, pages, flags);
    if (status != NEOMM_OK && source->run_move)
        status = source->run_move(source->context, run->base, old_pages, pages, flags, &base);
    if (status != NEOMM_OK) {
        neomm__heap_uncharge(root->heap, pages - old_pages);
        return false;
    }
    lengthen(root, run, base, old_pages, pages);
    return true;
}

static void set_requested(struct neomm *root, struct neomm__run *run, size_t size)
{
    struct neomm__heap *heap = root->heap;
    const struct neomm__sites *sites = neomm__load_acquire(&heap->sites);
    if (sites && run->tracked == neomm__load_relaxed(&sites->generation))
        sites->count(root, run->caller, 0, size - run->requested);
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    heap->run_bytes += size - run->requested;
    run->requested = size;
    neomm__unlock(&heap->run_lock, irq);
}

void *neomm__run_resize(struct neomm *root, void *pointer, const struct neomm__heap_place *place,
                        size_t size, neomm_flags_t flags)
{
    neomm_irq_t irq = neomm__lock(&root->heap->run_lock);
    struct neomm__run *run = live_run(root, pointer, place->head);
    neomm__unlock(&root->heap->run_lock, irq);
    size_t pages = neomm__pages(size);
    if (!run || pages > UINT32_MAX)
        return NULL;
    if (pages > run->pages && !grow(root, run, (uint32_t)pages, flags))
        return NULL;
    set_requested(root, run, size);
    return run->base;
}
