/* The table of size classes.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

/* Four classes a doubling keep the loss by rounding below a fifth of a block. */
static uint32_t class_size(unsigned index)
{
    if (index < 4)
        return (index + 1) << NEOMM__HEAP_UNIT_SHIFT;
    uint32_t below = 64u << (index - 4) / 4;
    return below + below / 4 * ((index - 4) % 4 + 1);
}

/* Eight objects a slab and little lost at its end, but never more than eight pages. */
static uint32_t slab_pages(uint32_t size)
{
    uint32_t pages = 1;
    while (pages < 8 && pages * NEOMM_PAGE_SIZE < (size_t)size * 8)
        pages *= 2;
    return pages;
}

static uint32_t magazine_limit(uint32_t size)
{
    uint32_t limit = (uint32_t)NEOMM__HEAP_SLAB_MAX / size;
    if (limit > NEOMM__MAGAZINE_MAX)
        return NEOMM__MAGAZINE_MAX;
    return limit < 2 ? 2 : limit;
}

static void class_init(struct neomm__heap_class *class, unsigned index)
{
    memset(class, 0, sizeof(*class));
    neomm__lock_init(&class->lock, NEOMM_LOCK_CLASS_SLAB);
    class->size = class_size(index);
    /* Exact for offsets below 2^11 units and sizes up to 2^9 units. */
    class->inverse = (1u << 20) / (class->size >> NEOMM__HEAP_UNIT_SHIFT) + 1;
    class->pages = slab_pages(class->size);
    class->objects = class->pages * (uint32_t)NEOMM_PAGE_SIZE / class->size;
    class->magazine = magazine_limit(class->size);
    for (class->pool = 1; 16u << class->pool < class->objects;)
        class->pool++;
}

void neomm__heap_classes_init(struct neomm__heap *heap)
{
    for (unsigned i = 0; i < NEOMM__HEAP_CLASSES; i++)
        class_init(&heap->class[i], i);
}
