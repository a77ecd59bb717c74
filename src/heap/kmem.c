/* Object caches: making and ending them, their objects one by one.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

#include <neomm/pmm.h>

_Static_assert(NEOMM__KMEMS - NEOMM__CLASSES_MAX >= NEOMM_KMEM_COUNT_MAX, "room for all caches");
_Static_assert(NEOMM_KMEM_SIZE_MAX <= NEOMM__SLAB_PAGES_MAX * NEOMM_PAGE_SIZE, "it fits a slab");

/* ---- making ---- */

static bool shape_is_possible(const struct neomm_kmem_options *options)
{
    return options->size > 0 && options->size <= NEOMM_KMEM_SIZE_MAX &&
           (options->align & (options->align - 1)) == 0 && options->align <= NEOMM_KMEM_ALIGN_MAX;
}

static struct neomm_kmem *take_unused(struct neomm__heap *heap)
{
    for (uint32_t i = heap->classes; i < NEOMM__KMEMS; i++) {
        uint32_t unused = NEOMM__KMEM_UNUSED;
        if (neomm__cas(&heap->cache[i].state, &unused, NEOMM__KMEM_MAKING)) {
            heap->cache[i].number = i;
            return &heap->cache[i];
        }
    }
    return NULL;
}

/* Lists and lock stay as they are, empty and free: others may look at them, see neomm__heap_trim.
 */
static void describe(struct neomm_kmem *cache, const struct neomm_kmem_options *options,
                     const struct neomm__heap_scale *scale, bool hardened)
{
    size_t align = options->align ? options->align : sizeof(void *);
    size_t wanted = options->size + (hardened && !options->construct ? NEOMM__CANARY_BYTES : 0);
    size_t least = wanted < 2 * sizeof(void *) ? 2 * sizeof(void *) : wanted;
    cache->name = options->name ? options->name : "unnamed";
    cache->object_size = (uint32_t)options->size;
    cache->align = (uint32_t)align;
    cache->construct = options->construct;
    cache->context = options->context;
    cache->profile = NEOMM_HEAP_DEFAULT;
    cache->ops = NULL;
    cache->quarantine = NULL;
    cache->quarantine_end = NULL;
    cache->interval = 0;
    cache->flusher = 0;
    cache->allocated = cache->freed = 0;
    neomm__kmem_shape(cache, (uint32_t)NEOMM__ALIGN_UP(least, align), scale);
    cache->stride = cache->magazine_bytes;
}

static bool take_magazines(struct neomm *root, struct neomm_kmem *cache)
{
    struct neomm_range_request request = {.flags = NEOMM_ZERO};
    request.frames = (uint32_t)neomm__pages((size_t)root->cpus * cache->stride);
    if (NEOMM__FAULT(HEAP_STATE) ||
        neomm_pmm_alloc_range(root, &request, &cache->magazine_frame) != NEOMM_OK)
        return false;
    cache->magazine_frames = request.frames;
    cache->magazine = neomm_direct_pointer(root, neomm_frame_paddr(cache->magazine_frame));
    neomm__heap_set_kind(root, cache->magazine_frame, request.frames, NEOMM__KIND_STATE);
    neomm__magazines_list(root->heap, cache, root->cpus);
    return true;
}

struct neomm_kmem *neomm_kmem_create(struct neomm *root, const struct neomm_kmem_options *options)
{
    struct neomm__heap *heap = root->heap;
    struct neomm_kmem *cache = heap && shape_is_possible(options) ? take_unused(heap) : NULL;
    if (!cache)
        return NULL;
    describe(cache, options, &heap->scale, heap->profile == NEOMM_HEAP_HARDENED);
    bool good = take_magazines(root, cache);
    neomm__store_release(&cache->state, good ? NEOMM__KMEM_LIVE : NEOMM__KMEM_UNUSED);
    if (good && heap->adopt && heap->adopt(root, cache) != NEOMM_OK) {
        (void)neomm_kmem_destroy(root, cache);
        good = false;
    }
    return good ? cache : NULL;
}

/* ---- ending ---- */

static bool has_slabs(struct neomm_kmem *cache)
{
    neomm_irq_t irq = neomm__lock(&cache->lock);
    size_t slabs = 0;
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        slabs += cache->list[i].count;
    neomm__unlock(&cache->lock, irq);
    return slabs > 0;
}

static bool has_live(const struct neomm *root, const struct neomm_kmem *cache)
{
    uint64_t allocated = 0, freed = 0;
    neomm__kmem_served(root, cache, &allocated, &freed);
    return (size_t)(allocated - freed) > 0;
}

static bool has_objects(struct neomm *root, struct neomm_kmem *cache)
{
    size_t size;
    return has_slabs(cache) || neomm__guard_next(root, cache, NULL, &size);
}

/* Between neomm__drain_begin and neomm__drain_end: nobody else looks at the magazines. */
static neomm_status end(struct neomm *root, struct neomm_kmem *cache)
{
    uint32_t frames = 0, listed = 0;
    (void)neomm__kmems_drain(root, cache->number, cache->number + 1, &frames);
    (void)neomm__slabs_trim(root, cache);
    if (!has_live(root, cache))
        neomm__slabs_end_all(root, cache);
    if (has_objects(root, cache)) {
        neomm__kmem_log_leaks(root, cache, &listed);
        return NEOMM_E_BUSY;
    }
    if (cache->quarantine_end)
        cache->quarantine_end(root, cache);
    if (root->heap->guard)
        root->heap->guard->forget(root, cache);
    neomm__store_release(&cache->state, NEOMM__KMEM_MAKING);
    neomm__heap_give_frames(root, cache->magazine_frame, cache->magazine_frames);
    neomm__store_release(&cache->state, NEOMM__KMEM_UNUSED);
    return NEOMM_OK;
}

neomm_status neomm_kmem_destroy(struct neomm *root, struct neomm_kmem *cache)
{
    struct neomm__heap *heap = root->heap;
    if (!heap || !cache || cache->number < heap->classes || !neomm__kmem_is_live(cache))
        return NEOMM_E_INVALID;
    neomm_heap_settle(root);
    if (!neomm__drain_begin(root, false))
        return NEOMM_E_BUSY;
    neomm_status status = end(root, cache);
    neomm__drain_end(root);
    return status;
}

/* ---- objects ---- */

struct neomm_kmem *neomm_kmem_for(struct neomm *root, size_t size)
{
    struct neomm__heap *heap = root->heap;
    if (!heap || size == 0 || size > NEOMM__HEAP_SLAB_MAX)
        return NULL;
    return &heap->cache[neomm__heap_class_of(root, size)];
}

static __attribute__((noinline)) void *alloc_slowly(struct neomm *root, struct neomm_kmem *cache,
                                                    neomm_flags_t flags, uintptr_t caller)
{
    void *object = neomm__kmem_take(root, cache, cache->object_size, cache->align, flags, caller);
    if (!object && neomm__heap_relieve(root, flags))
        object = neomm__kmem_take(root, cache, cache->object_size, cache->align, flags, caller);
    if (!object)
        NEOMM__COUNT(root, KMALLOC_FAIL);
    return object;
}

void *neomm_kmem_alloc(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags)
{
    void *object = flags & NEOMM_ZERO ? NULL : neomm__kmem_pop(cache);
    return object ? object : alloc_slowly(root, cache, flags & ~NEOMM_DMA, NEOMM__CALLER(NULL));
}

neomm_status neomm_kmem_free(struct neomm *root, struct neomm_kmem *cache, void *object)
{
    const struct neomm__frame *entry = neomm__near_entry(root, object);
    if (entry && entry->slab_cache == cache->number && neomm__entry_push(root, entry, object))
        return NEOMM_OK;
    return neomm__heap_free(root, cache, object, "kmem_free", NEOMM__CALLER(NULL));
}

uint32_t neomm_kmem_shrink(struct neomm *root, struct neomm_kmem *cache)
{
    uint32_t frames = 0, objects = 0;
    neomm_heap_settle(root);
    (void)neomm__kmems_empty(root, cache->number, cache->number + 1, &objects, &frames);
    return frames + neomm__slabs_trim(root, cache);
}

/* ---- figures ---- */

void neomm_kmem_stats(struct neomm *root, struct neomm_kmem *cache, struct neomm_kmem_stats *stats)
{
    *stats = (struct neomm_kmem_stats){
        .name = cache->name,
        .object_size = cache->object_size,
        .size = cache->size,
        .align = cache->align,
        .slab_frames = cache->pages,
        .slab_objects = cache->objects,
    };
    neomm__kmem_served(root, cache, &stats->allocated, &stats->freed);
    stats->objects = (size_t)(stats->allocated - stats->freed);
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        stats->kept += neomm__magazine_kept(neomm__magazine_of(cache, cpu));
    neomm_irq_t irq = neomm__lock(&cache->lock);
    stats->kept += cache->stored;
    stats->slabs_empty = cache->list[NEOMM__SLABS_EMPTY].count;
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        stats->slabs += cache->list[i].count;
    neomm__unlock(&cache->lock, irq);
}

struct neomm_kmem *neomm_kmem_next(struct neomm *root, struct neomm_kmem *cache)
{
    struct neomm__heap *heap = root->heap;
    for (uint32_t i = cache ? cache->number + 1 : 0; heap && i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&heap->cache[i]))
            return &heap->cache[i];
    return NULL;
}
