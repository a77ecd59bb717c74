/* The heap's public functions.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

#include <neomm/pmm.h>

/* What of the caller's flags means something to memory that C code will use. */
#define HEAP_FLAGS (NEOMM_ATOMIC | NEOMM_NORECLAIM | NEOMM_ZERO | NEOMM_DMA | NEOMM_RESERVE)

/* ---- beginning and end ---- */

static const struct neomm__layer_ops heap_ops = {"heap", neomm__heap_fsck, neomm__heap_snapshot};

static uint32_t state_frames(const struct neomm *root)
{
    return (uint32_t)neomm__pages(sizeof(struct neomm__heap) +
                                  root->cpus * sizeof(struct neomm__heap_cpu));
}

static void state_init(struct neomm *root, struct neomm__heap *heap,
                       const struct neomm_heap_options *options)
{
    if (options && options->source)
        heap->source[NEOMM__SOURCE_MAIN] = *options->source;
    else
        neomm_heap_source_direct(root, &heap->source[NEOMM__SOURCE_MAIN]);
    heap->sources = 1;
    if (options && options->large_source)
        heap->source[heap->sources++] = *options->large_source;
    neomm__lock_init(&heap->run_lock, NEOMM_LOCK_CLASS_SLAB);
    neomm__heap_classes_init(heap);
    neomm__records_init(heap);
    for (uint32_t i = 0; i < root->cpus; i++)
        neomm__lock_init(&heap->cpu[i].lock, NEOMM_LOCK_CLASS_SLAB);
}

neomm_status neomm_heap_init(struct neomm *root, const struct neomm_heap_options *options)
{
    struct neomm_range_request request = {.frames = state_frames(root), .flags = NEOMM_ZERO};
    neomm_frame_t first;
    if (!root->layer[NEOMM__LAYER_PMM])
        return NEOMM_E_NOENT;
    if (root->layer[NEOMM__LAYER_HEAP])
        return NEOMM_E_EXISTS;
    if (NEOMM__FAULT(HEAP_STATE))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc_range(root, &request, &first);
    if (status != NEOMM_OK)
        return status;
    struct neomm__heap *heap = neomm_direct_pointer(root, neomm_frame_paddr(first));
    heap->frame = first;
    heap->frames = request.frames;
    for (uint32_t i = 0; i < heap->frames; i++)
        neomm__frame(root, neomm_frame(first.number + i))->kind = NEOMM__KIND_STATE;
    state_init(root, heap, options);
    root->heap = heap;
    root->layer[NEOMM__LAYER_HEAP] = &heap_ops;
    return NEOMM_OK;
}

neomm_status neomm_heap_fini(struct neomm *root)
{
    struct neomm__heap *heap = root->heap;
    struct neomm_heap_stats stats;
    if (!heap)
        return NEOMM_E_NOENT;
    neomm_heap_stats(root, &stats);
    if (stats.objects > 0) {
        neomm__heap_log_leaks(root);
        return NEOMM_E_BUSY;
    }
    (void)neomm_heap_shrink(root);
    root->layer[NEOMM__LAYER_HEAP] = NULL;
    root->heap = NULL;
    neomm_frame_t first = heap->frame;
    uint32_t frames = heap->frames;
    for (uint32_t i = 0; i < frames; i++)
        neomm__frame(root, neomm_frame(first.number + i))->kind = NEOMM__KIND_NONE;
    return neomm_pmm_free_range(root, first, frames);
}

/* ---- allocation ---- */

static void *object_alloc(struct neomm *root, size_t size, neomm_flags_t flags)
{
    unsigned class_index = neomm__heap_class_of(size);
    void *object = neomm__object_alloc(root, class_index, size, flags);
    if (object && (flags & NEOMM_ZERO))
        memset(object, 0, root->heap->class[class_index].size);
    return object;
}

/* A slab may lie anywhere, so memory below 16 MiB is always a run. A class of large objects
 * whose slab finds no contiguous frames falls back to a run of fewer. */
static void *try_alloc(struct neomm *root, size_t size, size_t align, neomm_flags_t flags)
{
    void *block = NULL;
    if (size <= NEOMM__HEAP_SLAB_MAX && align <= NEOMM_PAGE_SIZE && !(flags & NEOMM_DMA))
        block = object_alloc(root, size, flags);
    if (!block && (size > NEOMM_PAGE_SIZE / 2 || align > NEOMM_PAGE_SIZE || (flags & NEOMM_DMA)))
        block = neomm__run_alloc(root, size, align, flags);
    return block;
}

static void *alloc(struct neomm *root, size_t size, size_t align, neomm_flags_t flags)
{
    if (size == 0 || size > PTRDIFF_MAX || !root->heap)
        return NULL;
    flags &= HEAP_FLAGS;
    void *block = try_alloc(root, size, align, flags);
    if (!block) {
        /* What the CPUs and classes hold back may be just what is missing. */
        uint32_t frames, objects = neomm__heap_drain(root, &frames);
        if (neomm_heap_shrink(root) + frames + objects > 0)
            block = try_alloc(root, size, align, flags);
    }
    if (!block)
        NEOMM__COUNT(root, KMALLOC_FAIL);
    return block;
}

void *neomm_kmalloc_at(struct neomm *root, size_t size, neomm_flags_t flags,
                       const struct neomm_site *site)
{
    (void)site;
    return alloc(root, size, 1, flags);
}

/* (Interim, to be replaced by the heap's own at the merge.) Slabs begin at pages, so the objects
 * of a class whose size is a multiple of the alignment are aligned. */
void *neomm_kmalloc_aligned_at(struct neomm *root, size_t size, size_t align, neomm_flags_t flags,
                               const struct neomm_site *site)
{
    (void)site;
    if (align == 0 || (align & (align - 1)) != 0 || size > PTRDIFF_MAX)
        return NULL;
    if (align > 16 && align <= NEOMM_PAGE_SIZE && size > 0 && size <= NEOMM__HEAP_SLAB_MAX) {
        unsigned class_index = neomm__heap_class_of(size);
        while (root->heap && root->heap->class[class_index].size % align != 0)
            class_index++;
        size = root->heap ? root->heap->class[class_index].size : 0;
    }
    return alloc(root, size, align, flags);
}

void *neomm_kmalloc_array_at(struct neomm *root, size_t count, size_t size, neomm_flags_t flags,
                             const struct neomm_site *site)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return neomm_kmalloc_at(root, bytes, flags, site);
}

/* ---- freeing ---- */

static neomm_status refuse(struct neomm *root, const char *function, const void *pointer,
                           neomm_status status)
{
    NEOMM__COUNT(root, BAD_FREE);
    neomm__log(NEOMM_LOG_ERROR, "heap: %s of %p: %s", function, pointer, neomm_status_text(status));
    return status;
}

neomm_status neomm_kfree(struct neomm *root, void *pointer)
{
    struct neomm__heap_place place;
    if (!pointer)
        return NEOMM_OK;
    neomm_status status = neomm__heap_find(root, pointer, &place);
    if (status == NEOMM_OK)
        status = place.slab ? neomm__object_free(root, place.slab, place.index)
                            : neomm__run_free(root, pointer, &place);
    return status == NEOMM_OK ? NEOMM_OK : refuse(root, "kfree", pointer, status);
}

/* ---- sizes ---- */

static size_t usable(struct neomm *root, const void *pointer, const struct neomm__heap_place *place)
{
    if (!place->slab)
        return neomm__run_size(root, pointer, place);
    if (neomm__load_acquire(&place->slab->requested[place->index]) == 0)
        return 0;
    return root->heap->class[place->slab->class_index].size;
}

size_t neomm_ksize(struct neomm *root, const void *pointer)
{
    struct neomm__heap_place place;
    if (!pointer || neomm__heap_find(root, pointer, &place) != NEOMM_OK)
        return 0;
    return usable(root, pointer, &place);
}

/* Whether the block may stay where it is: aligned as kmalloc would align it, and not more than
 * half unused. */
static bool suits(const void *pointer, size_t old_usable, size_t size)
{
    bool power = (size & (size - 1)) == 0;
    size_t align = power && size <= NEOMM_PAGE_SIZE ? size : 16;
    if (align > 16 && !NEOMM__ALIGNED((uintptr_t)pointer, align))
        return false;
    return size > old_usable || old_usable <= 16 || size > old_usable / 2;
}

static bool resize(struct neomm *root, void *pointer, const struct neomm__heap_place *place,
                   size_t old_usable, size_t size, neomm_flags_t flags)
{
    if (!suits(pointer, old_usable, size))
        return false;
    if (!place->slab)
        return neomm__run_resize(root, pointer, place, size, flags);
    return size <= old_usable && neomm__object_resize(root, place->slab, place->index, size);
}

/* Whether the source could bring the whole of a run into a larger one. */
static bool run_moved(struct neomm *root, void *block, void *pointer,
                      const struct neomm__heap_place *place, size_t old_usable, size_t size)
{
    struct neomm__heap_place to;
    if (place->slab || size < old_usable || neomm__heap_find(root, block, &to) != NEOMM_OK ||
        to.slab)
        return false;
    const struct neomm__run *run = neomm__record_at(root, neomm__frame(root, place->head)->mapping);
    const struct neomm__run *new_run = neomm__record_at(root, neomm__frame(root, to.head)->mapping);
    const struct neomm_page_source *source = &root->heap->source[run->source];
    return source->move && run->source == new_run->source &&
           source->move(source->context, block, pointer, run->pages) == NEOMM_OK;
}

static void *move(struct neomm *root, void *pointer, const struct neomm__heap_place *place,
                  size_t old_usable, size_t size, neomm_flags_t flags)
{
    void *block = alloc(root, size, 1, flags);
    if (!block)
        return NULL;
    if (!run_moved(root, block, pointer, place, old_usable, size))
        memcpy(block, pointer, old_usable < size ? old_usable : size);
    (void)neomm_kfree(root, pointer);
    return block;
}

void *neomm_krealloc_at(struct neomm *root, void *pointer, size_t size, neomm_flags_t flags,
                        const struct neomm_site *site)
{
    struct neomm__heap_place place;
    (void)site;
    if (!pointer)
        return alloc(root, size, 1, flags);
    if (size == 0) {
        (void)neomm_kfree(root, pointer);
        return NULL;
    }
    neomm_status status = neomm__heap_find(root, pointer, &place);
    size_t old_usable = status == NEOMM_OK ? usable(root, pointer, &place) : 0;
    if (old_usable == 0) {
        if (status == NEOMM_OK)
            status = place.slab ? NEOMM_E_DOUBLE_FREE : NEOMM_E_FOREIGN;
        (void)refuse(root, "krealloc", pointer, status);
        return NULL;
    }
    if (size > PTRDIFF_MAX)
        return NULL;
    if (resize(root, pointer, &place, old_usable, size, flags & HEAP_FLAGS))
        return pointer;
    return move(root, pointer, &place, old_usable, size, flags);
}

/* ---- totals ---- */

uint32_t neomm_heap_shrink(struct neomm *root)
{
    uint32_t frames;
    if (!root->heap)
        return 0;
    (void)neomm__heap_drain(root, &frames);
    for (unsigned i = 0; i < NEOMM__HEAP_CLASSES; i++)
        frames += neomm__slabs_trim(root, i);
    return frames + neomm__records_trim(root);
}

static size_t slab_frames(struct neomm__heap_class *class)
{
    size_t slabs = 0;
    neomm_irq_t irq = neomm__lock(&class->lock);
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        slabs += class->list[i].count;
    neomm__unlock(&class->lock, irq);
    return slabs * class->pages;
}

void neomm_heap_stats(struct neomm *root, struct neomm_heap_stats *stats)
{
    struct neomm__heap *heap = root->heap;
    size_t objects = 0, allocated = 0, requested = 0, frames = 0;
    memset(stats, 0, sizeof(*stats));
    if (!heap)
        return;
    for (uint32_t i = 0; i < root->cpus; i++) {
        objects += neomm__load_relaxed(&heap->cpu[i].objects);
        allocated += neomm__load_relaxed(&heap->cpu[i].allocated);
        requested += neomm__load_relaxed(&heap->cpu[i].requested);
    }
    for (unsigned i = 0; i < NEOMM__HEAP_CLASSES; i++)
        frames += slab_frames(&heap->class[i]);
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    stats->run_frames = heap->run_frames;
    neomm__unlock(&heap->run_lock, irq);
    stats->objects = objects;
    stats->allocated_bytes = allocated;
    stats->requested_bytes = requested;
    stats->slab_frames = frames;
}
