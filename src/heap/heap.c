/* The heap's public functions.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

#include <neomm/pmm.h>

/* For a public function that calls another in the name of its caller: a return address is handed on
 * as if it were a record. */
#define CALLER_AS_SITE(site) ((const struct neomm_site *)NEOMM__CALLER(site))

/* What of the caller's flags means something to memory that C code will use. */
#define HEAP_FLAGS                                                                                 \
    (NEOMM_ATOMIC | NEOMM_NORECLAIM | NEOMM_ZERO | NEOMM_DMA | NEOMM_RESERVE | NEOMM_NOLOCK)

/* ---- beginning and end ---- */

static const struct neomm__layer_ops heap_ops = {"heap", neomm__heap_fsck, neomm__heap_snapshot};

/* The state is one range of frames: the heap, the CPUs' parts, the magazines of the classes. */
#define CPUS_AT NEOMM__ALIGN_UP(sizeof(struct neomm__heap), sizeof(struct neomm__heap_cpu))

static size_t magazines_at(const struct neomm *root)
{
    return CPUS_AT + root->cpus * sizeof(struct neomm__heap_cpu);
}

/* What options and configuration say, and the memory that there is. */
static struct neomm__heap_scale scale_for(const struct neomm *root,
                                          const struct neomm_heap_options *options)
{
    const struct neomm_config_heap *config = &root->config.heap;
    uint64_t free = neomm_pmm_free_frames(root);
    return (struct neomm__heap_scale){
        .ram_frames = free > UINT32_MAX ? UINT32_MAX : (uint32_t)free,
        .magazine = config->magazine,
        .step_shift = config->fine_classes || (options && options->fine_classes) ? 3 : 2,
    };
}

static size_t limit_pages(const struct neomm *root, const struct neomm__heap_scale *scale)
{
    uint64_t pages = neomm_config_bytes(root->config.heap.limit,
                                        (uint64_t)scale->ram_frames << NEOMM_PAGE_SHIFT) >>
                     NEOMM_PAGE_SHIFT;
    return pages > SIZE_MAX ? SIZE_MAX : (size_t)pages;
}

static void state_init(struct neomm *root, struct neomm__heap *heap,
                       const struct neomm__heap_scale *scale)
{
    uint8_t *at = (uint8_t *)heap + magazines_at(root);
    heap->cpu = (struct neomm__heap_cpu *)((uint8_t *)heap + CPUS_AT);
    neomm__lock_init(&heap->run_lock, NEOMM_LOCK_CLASS_SLAB);
    neomm__records_init(heap);
    heap->scale = *scale;
    heap->limit_pages = limit_pages(root, scale);
    heap->sampling = NEOMM__SAMPLING;
    heap->profile = NEOMM_HEAP_DEFAULT;
    neomm__heap_classes_init(heap);
    for (uint32_t i = 0; i < heap->classes; i++) {
        heap->cache[i].stride = (uint32_t)neomm__heap_magazines_bytes(scale);
        heap->cache[i].magazine = (struct neomm__magazine *)at;
        heap->cache[i].state = NEOMM__KMEM_LIVE;
        neomm__magazines_list(heap, &heap->cache[i], root->cpus);
        at += heap->cache[i].magazine_bytes;
    }
}

static void sources_init(struct neomm *root, struct neomm__heap *heap,
                         const struct neomm_heap_options *options)
{
    struct neomm_page_source *main = &heap->source[NEOMM__SOURCE_MAIN];
    if (options && options->source)
        *main = *options->source;
    else
        neomm_heap_source_direct(root, main);
    heap->sources = 1;
    if (options && options->large_source)
        heap->source[heap->sources++] = *options->large_source;
}

/* The longest run of sections with memory. Sections have descriptors in their order. */
static void find_near(struct neomm *root)
{
    struct neomm__heap_front *front = &root->front;
    const struct neomm__frames *frames = &root->frames;
    for (uint32_t first = 0, end; first < frames->sections; first = end + 1) {
        for (end = first; end < frames->sections && frames->section[end] != 0;)
            end++;
        size_t number = (size_t)first << NEOMM__SECTION_SHIFT;
        size_t beyond = (size_t)end << NEOMM__SECTION_SHIFT;
        beyond = beyond < front->direct_frames ? beyond : front->direct_frames;
        if (beyond <= number || beyond - number <= front->near_frames)
            continue;
        front->near_base = front->direct_base + (number << NEOMM_PAGE_SHIFT);
        front->near_frames = beyond - number;
        front->near_entry = neomm__frame(root, neomm_frame((uint32_t)number));
    }
}

static void front_init(struct neomm *root, struct neomm__heap *heap)
{
    const struct neomm_area *direct = &root->layout.direct;
    size_t frames = direct->size >> NEOMM_PAGE_SHIFT;
    size_t described = (size_t)root->frames.sections << NEOMM__SECTION_SHIFT;
    root->front = (struct neomm__heap_front){
        .slab_max = NEOMM__HEAP_SLAB_MAX,
        .direct_base = direct->base + (uintptr_t)direct->delta,
        .cpu = heap->cpu,
    };
    neomm__heap_class_table(heap, root->front.class_of);
    if (heap->source[NEOMM__SOURCE_MAIN].direct)
        root->front.direct_frames = frames < described ? frames : described;
    find_near(root);
}

void neomm__heap_set_kind(struct neomm *root, neomm_frame_t first, uint32_t frames,
                          enum neomm__kind kind)
{
    for (uint32_t i = 0; i < frames; i++)
        neomm__frame(root, neomm_frame(first.number + i))->kind = (uint8_t)kind;
}

/* Blocks of several frames have an order, ranges and single frames have none. */
void neomm__heap_give_frames(struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    const struct neomm_page_source *source = &root->heap->source[NEOMM__SOURCE_MAIN];
    unsigned order = neomm__frame(root, first)->order;
    bool block = order > 0 || frames == 1;
    neomm__heap_set_kind(root, first, frames, NEOMM__KIND_NONE);
    if (source->discard)
        source->discard(source->context, neomm_direct_pointer(root, neomm_frame_paddr(first)),
                        frames);
    neomm_status status =
        block ? neomm_pmm_free(root, first, order) : neomm_pmm_free_range(root, first, frames);
    NEOMM__ASSERT(status == NEOMM_OK);
}

neomm_status neomm_heap_init(struct neomm *root, const struct neomm_heap_options *options)
{
    neomm_frame_t first;
    if (!root->layer[NEOMM__LAYER_PMM])
        return NEOMM_E_NOENT;
    if (root->layer[NEOMM__LAYER_HEAP])
        return NEOMM_E_EXISTS;
    if (NEOMM__FAULT(HEAP_STATE))
        return NEOMM_E_NOMEM;
    const struct neomm__heap_scale scale = scale_for(root, options);
    size_t bytes = magazines_at(root) + root->cpus * neomm__heap_magazines_bytes(&scale);
    struct neomm_range_request request = {.frames = (uint32_t)neomm__pages(bytes),
                                          .flags = options && options->zeroed ? 0 : NEOMM_ZERO};
    neomm_status status = neomm_pmm_alloc_range(root, &request, &first);
    if (status != NEOMM_OK)
        return status;
    struct neomm__heap *heap = neomm_direct_pointer(root, neomm_frame_paddr(first));
    heap->frame = first;
    heap->frames = request.frames;
    neomm__heap_set_kind(root, first, request.frames, NEOMM__KIND_STATE);
    state_init(root, heap, &scale);
    sources_init(root, heap, options);
    front_init(root, heap);
    heap->secret = (uintptr_t)neomm__mix((options ? options->secret : 0) ^ (uintptr_t)heap);
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
    (void)neomm_heap_shrink(root);
    neomm_heap_stats(root, &stats);
    if (stats.objects > 0 || stats.caches > 0) {
        neomm__heap_log_leaks(root);
        return NEOMM_E_BUSY;
    }
    neomm_status status = heap->guard ? heap->guard->end_all(root) : NEOMM_OK;
    if (status != NEOMM_OK)
        return status;
    for (uint32_t i = 0; i < heap->classes; i++) {
        neomm__slabs_end_all(root, &heap->cache[i]);
        if (heap->cache[i].quarantine_end)
            heap->cache[i].quarantine_end(root, &heap->cache[i]);
    }
    (void)neomm__records_trim(root);
    if (heap->sites_end)
        heap->sites_end(root);
    root->layer[NEOMM__LAYER_HEAP] = NULL;
    root->front = (struct neomm__heap_front){.slab_max = 0};
    neomm__heap_give_frames(root, heap->frame, heap->frames);
    root->heap = NULL;
    return NEOMM_OK;
}

/* ---- allocation ---- */

/* A slab begins at a page, so each object of a class whose size is a multiple of `align` is
 * aligned; among the powers of two there is one. */
static unsigned aligned_class(const struct neomm *root, size_t size, size_t align)
{
    unsigned class_index = neomm__heap_class_of(root, size > align ? size : align);
    while (root->heap->cache[class_index].size & (align - 1))
        class_index++;
    return class_index;
}

/* What a block of `size` bytes is aligned to though nobody asked for it. */
static size_t natural_align(size_t size)
{
    bool power = (size & (size - 1)) == 0 && size <= NEOMM_PAGE_SIZE;
    return power && size > NEOMM__HEAP_UNIT ? size : NEOMM__HEAP_UNIT;
}

/* The class to take a block from, NULL: it has to be a run. */
static struct neomm_kmem *cache_for(struct neomm *root, size_t size, size_t align)
{
    struct neomm_kmem *cache = &root->heap->cache[aligned_class(root, size, align)];
    const struct neomm__kmem_ops *ops = neomm__kmem_ops_of(cache);
    return ops && ops->roomier ? ops->roomier(root, cache, size, align) : cache;
}

/* Memory below 16 MiB is always a run, as a slab may lie anywhere. A class of large objects whose
 * slab finds no contiguous frames falls back to a run of fewer. */
static void *try_alloc(struct neomm *root, size_t size, size_t align, neomm_flags_t flags,
                       uintptr_t caller)
{
    void *block = NULL;
    if (size <= NEOMM__HEAP_SLAB_MAX && !(flags & NEOMM_DMA)) {
        struct neomm_kmem *cache = cache_for(root, size, align);
        if (cache)
            block = neomm__kmem_take(root, cache, size, align, flags, caller);
    }
    bool large = size > NEOMM_PAGE_SIZE / 2 || align > NEOMM_PAGE_SIZE / 2;
    if (!block && !(flags & NEOMM_NOLOCK) && (large || (flags & NEOMM_DMA)))
        block = neomm__run_alloc(root, size, 1, flags, caller);
    return block;
}

bool neomm__heap_relieve(struct neomm *root, neomm_flags_t flags)
{
    uint32_t frames, objects;
    if (flags & NEOMM_NOLOCK)
        return false;
    /* Who must not sleep may hold a lock that another CPU waits for with interrupts masked. */
    if (flags & NEOMM_ATOMIC)
        objects = neomm__heap_drain_own(root, &frames);
    else
        objects = neomm__heap_drain(root, &frames);
    return neomm__heap_trim(root) + frames + objects > 0;
}

/* Whatever the first lines of neomm_kmalloc_at do not do. */
static __attribute__((noinline)) void *alloc_slowly(struct neomm *root, size_t size, size_t align,
                                                    neomm_flags_t flags, uintptr_t caller)
{
    if (size == 0 || size > PTRDIFF_MAX || !root->heap)
        return NULL;
    flags &= HEAP_FLAGS;
    void *block = try_alloc(root, size, align, flags, caller);
    if (!block && neomm__heap_relieve(root, flags))
        block = try_alloc(root, size, align, flags, caller);
    if (!block)
        NEOMM__COUNT(root, KMALLOC_FAIL);
    return block;
}

static __attribute__((noinline, cold)) void *kmalloc_slowly(struct neomm *root, size_t size,
                                                            neomm_flags_t flags, uintptr_t caller)
{
    if (size - 1 < root->front.slab_max && !(flags & (NEOMM_ZERO | NEOMM_DMA))) {
        const struct neomm_kmem *cache = &root->heap->cache[neomm__heap_class_of(root, size)];
        void *block = neomm__magazine_turn(cache) ? neomm__kmem_pop(cache) : NULL;
        if (block)
            return block;
    }
    return alloc_slowly(root, size, natural_align(size), flags, caller);
}

void *neomm_kmalloc_at(struct neomm *root, size_t size, neomm_flags_t flags,
                       const struct neomm_site *site)
{
    void *block = NULL;
    if (size - 1 < root->front.slab_max && !(flags & (NEOMM_ZERO | NEOMM_DMA)))
        block = neomm__magazine_take(neomm__magazine_for(root, size, neomm_port_pin()->index));
    if (NEOMM__UNLIKELY(!block))
        return kmalloc_slowly(root, size, flags, NEOMM__CALLER(site));
    NEOMM__OBJECT_TAKEN(block, root->heap->cache[neomm__heap_class_of(root, size)].size);
    return block;
}

void *neomm_kmalloc_array_at(struct neomm *root, size_t count, size_t size, neomm_flags_t flags,
                             const struct neomm_site *site)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return neomm_kmalloc_at(root, bytes, flags, CALLER_AS_SITE(site));
}

static void *alloc_aligned(struct neomm *root, size_t size, size_t align, neomm_flags_t flags,
                           uintptr_t caller)
{
    struct neomm_kmem *cache = &root->heap->cache[aligned_class(root, size, align)];
    void *block = flags & (NEOMM_ZERO | NEOMM_DMA) ? NULL : neomm__kmem_pop(cache);
    return block ? block : alloc_slowly(root, size, align, flags, caller);
}

/* Beyond what a slab can be aligned to. */
static void *alloc_run(struct neomm *root, size_t size, uint32_t align, neomm_flags_t flags,
                       uintptr_t caller)
{
    void *block = NULL;
    if (!(flags & NEOMM_NOLOCK))
        block = neomm__run_alloc(root, size, align, flags, caller);
    if (!block && neomm__heap_relieve(root, flags))
        block = neomm__run_alloc(root, size, align, flags, caller);
    if (!block)
        NEOMM__COUNT(root, KMALLOC_FAIL);
    return block;
}

void *neomm_kmalloc_aligned_at(struct neomm *root, size_t size, size_t align, neomm_flags_t flags,
                               const struct neomm_site *site)
{
    if (align == 0 || (align & (align - 1)) != 0 || !root->heap)
        return NULL;
    if (align <= NEOMM__HEAP_UNIT || size == 0)
        return neomm_kmalloc_at(root, size, flags, CALLER_AS_SITE(site));
    if (size <= NEOMM__HEAP_SLAB_MAX && align <= NEOMM_PAGE_SIZE)
        return alloc_aligned(root, size, align, flags, NEOMM__CALLER(site));
    if (align <= NEOMM_PAGE_SIZE)
        return neomm_kmalloc_at(root, size, flags, CALLER_AS_SITE(site));
    if (size > PTRDIFF_MAX || align >> NEOMM_PAGE_SHIFT > UINT32_MAX)
        return NULL;
    return alloc_run(root, size, (uint32_t)(align >> NEOMM_PAGE_SHIFT), flags & HEAP_FLAGS,
                     NEOMM__CALLER(site));
}

/* ---- freeing ---- */

/* Whatever the first lines of neomm_kfree do not do; a block of `cache` alone, if that is given. */
neomm_status neomm__heap_free(struct neomm *root, const struct neomm_kmem *cache, void *pointer,
                              const char *function, uintptr_t caller)
{
    struct neomm__heap_place place;
    if (!pointer)
        return NEOMM_OK;
    if (neomm__guard_owns(root->heap, pointer))
        return root->heap->guard->free(root, cache, pointer, function, caller);
    neomm_status status = neomm__heap_find(root, pointer, &place);
    if (status == NEOMM_OK && (!cache || place.cache == cache)) {
        const struct neomm__kmem_ops *ops = place.cache ? neomm__kmem_ops_of(place.cache) : NULL;
        if (ops)
            return ops->free(root, &place, pointer, caller);
        if (place.cache)
            return neomm__kmem_flush(root, place.cache, pointer);
        status = neomm__run_free(root, pointer, &place);
    } else if (status == NEOMM_OK)
        status = NEOMM_E_FOREIGN;
    return status == NEOMM_OK ? NEOMM_OK : neomm__heap_refuse(root, function, pointer, status);
}

static __attribute__((noinline, cold)) neomm_status kfree_slowly(struct neomm *root, void *pointer,
                                                                 uintptr_t caller)
{
    const struct neomm__frame *entry = neomm__near_entry(root, pointer);
    if (!root->heap)
        return pointer ? NEOMM_E_FOREIGN : NEOMM_OK;
    if (entry && !neomm__magazine_turn(&root->heap->cache[entry->slab_cache]))
        return neomm__heap_free(root, NULL, pointer, "kfree", caller);
    return neomm__kfree_for(root, pointer, "kfree", caller);
}

neomm_status neomm_kfree(struct neomm *root, void *pointer)
{
    if (NEOMM__LIKELY(neomm__near_push(root, pointer)))
        return NEOMM_OK;
    return kfree_slowly(root, pointer, NEOMM__CALLER(NULL));
}

neomm_status neomm__kfree_for(struct neomm *root, void *pointer, const char *function,
                              uintptr_t caller)
{
    const struct neomm__frame *entry = neomm__slab_entry(root, pointer);
    if (entry && neomm__entry_push(root, entry, pointer))
        return NEOMM_OK;
    return neomm__heap_free(root, NULL, pointer, function, caller);
}

neomm_status neomm_kfree_nolock(struct neomm *root, void *pointer)
{
    struct neomm__heap_place place;
    if (!pointer || !root->heap)
        return pointer ? NEOMM_E_FOREIGN : NEOMM_OK;
    bool guarded = neomm__guard_owns(root->heap, pointer);
    neomm_status status = guarded
                              ? root->heap->guard->free_nolock(root, pointer, NEOMM__CALLER(NULL))
                              : neomm__heap_find_live(root, pointer, &place);
    if (!guarded && status == NEOMM_OK)
        status = neomm__free_nolock(root, place.cache, pointer);
    if (status != NEOMM_OK)
        NEOMM__COUNT(root, BAD_FREE); /* the log is not for NMI handlers */
    return status;
}

/* ---- sizes ---- */

neomm_status neomm__heap_find_live(struct neomm *root, const void *pointer,
                                   struct neomm__heap_place *place)
{
    neomm_status status = neomm__heap_find(root, pointer, place);
    if (status == NEOMM_OK && place->cache && neomm__kmem_is_kept(place->cache, pointer))
        return NEOMM_E_DOUBLE_FREE;
    return status;
}

/* NEOMM_E_DOUBLE_FREE where the status is OK and the result 0. */
static size_t usable(struct neomm *root, const void *pointer, const struct neomm__heap_place *place)
{
    if (!place->cache)
        return neomm__run_size(root, pointer, place);
    const struct neomm__kmem_ops *ops = neomm__kmem_ops_of(place->cache);
    return ops ? ops->usable(root, place) : place->cache->size;
}

size_t neomm_ksize(struct neomm *root, const void *pointer)
{
    struct neomm__heap_place place;
    if (!pointer || !root->heap)
        return 0;
    if (neomm__guard_owns(root->heap, pointer))
        return root->heap->guard->usable(root, pointer);
    if (neomm__heap_find_live(root, pointer, &place) != NEOMM_OK)
        return 0;
    return usable(root, pointer, &place);
}

/* Why a pointer without a usable size cannot be freed. */
static neomm_status why_not_live(struct neomm *root, const void *pointer)
{
    struct neomm__heap_place place;
    if (neomm__guard_owns(root->heap, pointer))
        return root->heap->guard->status(root, pointer);
    neomm_status status = neomm__heap_find_live(root, pointer, &place);
    return status == NEOMM_OK ? NEOMM_E_DOUBLE_FREE : status;
}

/* Whether a block with so many usable bytes was asked for with this size, as far as that is known:
 * where less can be used than there is, and of runs while heap->runs_guarded. */
static bool size_suits(struct neomm *root, const void *pointer, size_t usable, size_t size)
{
    struct neomm__heap_place place;
    struct neomm_heap_report report = {.size = usable};
    bool exact = false;
    if (neomm__heap_find(root, pointer, &place) == NEOMM_OK)
        exact = place.cache ? usable < place.cache->size : root->heap->runs_guarded;
    if (exact && !place.cache)
        neomm__run_describe(root, &place, &report);
    return exact ? size == report.size : size > 0 && size <= usable;
}

neomm_status neomm_kfree_sized(struct neomm *root, void *pointer, size_t size)
{
    size_t have = neomm_ksize(root, pointer);
    if (!pointer)
        return NEOMM_OK;
    if (!root->heap)
        return NEOMM_E_FOREIGN;
    if (have > 0 && size_suits(root, pointer, have, size))
        return neomm__kfree_for(root, pointer, "kfree_sized", NEOMM__CALLER(NULL));
    return neomm__heap_refuse(root, "kfree_sized", pointer,
                              have > 0 ? NEOMM_E_INVALID : why_not_live(root, pointer));
}

/* Whether the block may stay where it is: aligned as kmalloc would align it, and not more than
 * half unused. */
static bool suits(const void *pointer, size_t old_usable, size_t size)
{
    size_t align = natural_align(size);
    if (align > NEOMM__HEAP_UNIT && !NEOMM__ALIGNED((uintptr_t)pointer, align))
        return false;
    return size > old_usable || old_usable <= NEOMM__HEAP_UNIT || size > old_usable / 2;
}

/* The block with its new size, without copying it; NULL: it has to be copied. */
static void *resize(struct neomm *root, void *pointer, const struct neomm__heap_place *place,
                    size_t old_usable, size_t size, neomm_flags_t flags)
{
    if (!suits(pointer, old_usable, size) || (place->cache && neomm__kmem_ops_of(place->cache)))
        return NULL;
    if (!place->cache)
        return neomm__run_resize(root, pointer, place, size, flags);
    return size <= old_usable ? pointer : NULL;
}

/* What has grown this large may go on growing: it gets pages that need not be copied again. */
static void *alloc_to_move(struct neomm *root, size_t size, neomm_flags_t flags, uintptr_t caller)
{
    void *block = NULL;
    if (size >= NEOMM__HEAP_MOVING_MIN && root->heap->sources > 1)
        block = neomm__run_alloc_moving(root, size, flags & HEAP_FLAGS, caller);
    return block ? block : alloc_slowly(root, size, natural_align(size), flags, caller);
}

static void *move(struct neomm *root, void *pointer, size_t old_usable, size_t size,
                  neomm_flags_t flags, uintptr_t caller)
{
    void *block = alloc_to_move(root, size, flags, caller);
    if (!block)
        return NULL;
    memcpy(block, pointer, old_usable < size ? old_usable : size);
    (void)neomm__kfree_for(root, pointer, "krealloc", caller);
    return block;
}

void *neomm_krealloc_at(struct neomm *root, void *pointer, size_t size, neomm_flags_t flags,
                        const struct neomm_site *site)
{
    struct neomm__heap_place place;
    if (!pointer)
        return neomm_kmalloc_at(root, size, flags, CALLER_AS_SITE(site));
    if (!root->heap)
        return NULL;
    if (size == 0) {
        (void)neomm__kfree_for(root, pointer, "krealloc", NEOMM__CALLER(site));
        return NULL;
    }
    bool guarded = neomm__guard_owns(root->heap, pointer);
    neomm_status status = guarded ? root->heap->guard->status(root, pointer)
                                  : neomm__heap_find_live(root, pointer, &place);
    size_t old_usable = 0;
    if (guarded)
        old_usable = root->heap->guard->usable(root, pointer);
    else if (status == NEOMM_OK)
        old_usable = usable(root, pointer, &place);
    if (old_usable == 0) {
        if (status == NEOMM_OK)
            status = guarded || place.cache ? NEOMM_E_DOUBLE_FREE : NEOMM_E_FOREIGN;
        (void)neomm__heap_refuse(root, "krealloc", pointer, status);
        return NULL;
    }
    if (size > PTRDIFF_MAX)
        return NULL;
    void *block =
        guarded ? NULL : resize(root, pointer, &place, old_usable, size, flags & HEAP_FLAGS);
    return block ? block : move(root, pointer, old_usable, size, flags, NEOMM__CALLER(site));
}

/* ---- totals ---- */

uint32_t neomm__heap_trim(struct neomm *root)
{
    uint32_t frames = 0;
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&root->heap->cache[i]))
            frames += neomm__slabs_trim(root, &root->heap->cache[i]);
    return frames + neomm__records_trim(root);
}

uint32_t neomm_heap_shrink(struct neomm *root)
{
    uint32_t frames;
    if (!root->heap)
        return 0;
    (void)neomm__heap_drain(root, &frames);
    neomm__guard_retire(root);
    return frames + neomm__heap_trim(root);
}

void neomm_heap_settle(struct neomm *root)
{
    if (!root->heap)
        return;
    neomm__deferred_free(root);
    neomm__guard_settle(root);
}

static size_t slab_frames(struct neomm_kmem *cache)
{
    size_t slabs = 0;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        slabs += cache->list[i].count;
    neomm__unlock(&cache->lock, irq);
    return slabs * cache->pages;
}

void neomm__kmem_add_stats(struct neomm *root, struct neomm_kmem *cache,
                           struct neomm_heap_stats *stats)
{
    uint64_t allocated = 0, freed = 0;
    neomm__kmem_served(root, cache, &allocated, &freed);
    size_t live = (size_t)(allocated - freed);
    stats->objects += live;
    stats->allocated_bytes += (uint64_t)live * cache->size;
    stats->requested_bytes += (uint64_t)live * cache->object_size;
    stats->slab_frames += slab_frames(cache);
    stats->caches += cache->number >= root->heap->classes;
}

void neomm_heap_stats(struct neomm *root, struct neomm_heap_stats *stats)
{
    struct neomm__heap *heap = root->heap;
    memset(stats, 0, sizeof(*stats));
    if (!heap)
        return;
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&heap->cache[i]))
            neomm__kmem_add_stats(root, &heap->cache[i], stats);
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    stats->run_frames = heap->run_frames;
    stats->objects += heap->runs_allocated - heap->runs_freed;
    stats->requested_bytes += heap->run_bytes;
    neomm__unlock(&heap->run_lock, irq);
    stats->allocated_bytes += stats->run_frames << NEOMM_PAGE_SHIFT;
}
