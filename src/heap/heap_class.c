/* The size classes, and the shape of slabs and magazines.
 * SPDX-License-Identifier: MIT
 *
 *   16, 32, 48, 64 | 80, 96, 112, 128 | 160 ... 8192        four steps a doubling (step_shift 2)
 *   16, 32 ... 128 | 144, 160 ... 256 | 288 ... 8192        eight (3)
 */
#include "heap_priv.h"

/* ---- classes ---- */

static uint32_t class_size(unsigned index, unsigned step_shift)
{
    unsigned steps = 1u << step_shift;
    if (index < steps)
        return (index + 1) << NEOMM__HEAP_UNIT_SHIFT;
    uint32_t below = (uint32_t)NEOMM__HEAP_UNIT << step_shift << ((index - steps) >> step_shift);
    return below + (below >> step_shift) * (((index - steps) & (steps - 1)) + 1);
}

/* ---- slabs ---- */

static uint32_t record_bytes(uint32_t objects)
{
    return (uint32_t)(offsetof(struct neomm__slab, free_map) +
                      (objects + NEOMM__WORD_BITS - 1) / NEOMM__WORD_BITS * sizeof(neomm__word_t));
}

/* Bytes of a slab of `pages` pages that are no objects: record and end. */
static uint32_t lost(uint32_t size, uint32_t pages)
{
    uint32_t bytes = pages << NEOMM_PAGE_SHIFT, objects = bytes / size;
    uint32_t record = record_bytes(objects) <= NEOMM__RECORD_SMALL_BYTES
                          ? NEOMM__RECORD_SMALL_BYTES
                          : NEOMM__RECORD_LARGE_BYTES;
    return bytes - objects * size + record;
}

/* The fewest pages for four objects (or for what fits) that lose a hundredth at most, or the least.
 * More pages would make slabs that are harder to empty. */
static uint32_t slab_pages(uint32_t size)
{
    uint32_t best = 0, most = NEOMM__SLAB_PAGES_MAX << NEOMM_PAGE_SHIFT;
    uint32_t fewest = most / size < 4 ? most / size : 4;
    for (uint32_t pages = 1; pages <= NEOMM__SLAB_PAGES_MAX; pages++) {
        uint32_t objects = (pages << NEOMM_PAGE_SHIFT) / size;
        if (objects < fewest || objects > NEOMM__SLAB_OBJECTS_MAX)
            continue;
        if (best == 0 || lost(size, pages) * best < lost(size, best) * pages)
            best = pages;
        if (lost(size, best) * 100 <= best << NEOMM_PAGE_SHIFT)
            break;
    }
    return best;
}

/* What a CPU keeps of one cache is at most 128 KiB, a thousandth of all memory, and what the
 * configuration says. */
static uint32_t magazine_capacity(uint32_t size, const struct neomm__heap_scale *scale)
{
    uint32_t bytes = scale->ram_frames < 32768 ? scale->ram_frames * 4 : 131072;
    uint32_t fits = bytes / size;
    if (fits > scale->magazine)
        return scale->magazine;
    return fits < 2 ? 2 : fits;
}

/* Objects on their way between CPUs: twice as many bytes, at most. */
static uint32_t depot_most(uint32_t size, uint32_t ram_frames)
{
    uint32_t bytes = ram_frames < 65536 ? ram_frames * 4 : 262144;
    uint32_t fits = bytes / size;
    return fits < 2 ? 2 : fits < NEOMM__DEPOT_MAX ? fits : NEOMM__DEPOT_MAX;
}

/* Empty slabs that wait: at most 256 KiB, and a thousandth of all memory; one at least, or a slab
 * would come and go with each object. */
static uint32_t empty_kept(uint32_t pages, uint32_t ram_frames)
{
    uint32_t frames = ram_frames < 65536 ? ram_frames / 1024 : 64;
    return frames / pages > 1 ? frames / pages : 1;
}

static uint32_t magazine_bytes(const struct neomm_kmem *cache)
{
    size_t bytes =
        offsetof(struct neomm__magazine, object) + (cache->capacity + 1) * sizeof(void *);
    return (uint32_t)NEOMM__ALIGN_UP(bytes, 64);
}

void neomm__kmem_shape(struct neomm_kmem *cache, uint32_t size,
                       const struct neomm__heap_scale *scale)
{
    cache->size = size;
    cache->pages = slab_pages(size);
    cache->objects = (cache->pages << NEOMM_PAGE_SHIFT) / size;
    cache->inverse = UINT32_MAX / size + ((size & (size - 1)) == 0 ? 2 : 1);
    cache->limit = cache->objects * (cache->inverse * size); /* that is 2^32 and a little */
    cache->pool = record_bytes(cache->objects) <= NEOMM__RECORD_SMALL_BYTES ? NEOMM__RECORD_SMALL
                                                                            : NEOMM__RECORD_LARGE;
    cache->capacity = magazine_capacity(size, scale);
    cache->capacity_most = cache->capacity;
    cache->batch = (cache->capacity + 1) / 2;
    if (cache->batch > NEOMM__BATCH_MAX)
        cache->batch = NEOMM__BATCH_MAX;
    cache->depot_most = depot_most(size, scale->ram_frames);
    cache->empty_kept = empty_kept(cache->pages, scale->ram_frames);
    cache->magazine_bytes = magazine_bytes(cache);
}

/* ---- the table ---- */

size_t neomm__heap_magazines_bytes(const struct neomm__heap_scale *scale)
{
    size_t bytes = 0;
    uint32_t size = 0;
    for (unsigned i = 0; size < NEOMM__HEAP_SLAB_MAX; i++) {
        struct neomm_kmem shape;
        size = class_size(i, scale->step_shift);
        neomm__kmem_shape(&shape, size, scale);
        bytes += shape.magazine_bytes;
    }
    return bytes;
}

void neomm__heap_class_table(const struct neomm__heap *heap, uint8_t table[NEOMM__HEAP_UNITS])
{
    uint8_t class_index = 0;
    for (size_t units = 1; units <= NEOMM__HEAP_UNITS; units++) {
        while (heap->cache[class_index].size < units * NEOMM__HEAP_UNIT)
            class_index++;
        table[units - 1] = class_index;
    }
}

void neomm__heap_classes_init(struct neomm__heap *heap)
{
    for (uint32_t size = 0; size < NEOMM__HEAP_SLAB_MAX; heap->classes++) {
        struct neomm_kmem *cache = &heap->cache[heap->classes];
        size = class_size(heap->classes, heap->scale.step_shift);
        cache->number = heap->classes;
        cache->name = "kmalloc";
        cache->object_size = size;
        cache->align = (uint32_t)NEOMM__HEAP_UNIT;
        cache->profile = NEOMM_HEAP_DEFAULT;
        neomm__kmem_shape(cache, size, &heap->scale);
    }
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        neomm__lock_init(&heap->cache[i].lock, NEOMM_LOCK_CLASS_SLAB);
}
