/* The front of the slabs: a small stack of free objects for each CPU and class, and the totals
 * of what is live.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

/* The cache of the CPU that runs this; after a move to another CPU still a valid one. */
static struct neomm__heap_cpu *this_cache(const struct neomm *root)
{
    return &root->heap->cpu[neomm_port_cpu()->index];
}

/* Under the lock of the cache, which also keeps the CPU's heap counters. */
static void account(struct neomm *root, struct neomm__heap_cpu *cache, enum neomm_counter counter,
                    size_t objects, size_t allocated, size_t requested)
{
    size_t *event = &root->cpu[cache - root->heap->cpu].counter[counter];
    neomm__store_relaxed(event, neomm__load_relaxed(event) + 1);
    neomm__store_relaxed(&cache->objects, cache->objects + objects);
    neomm__store_relaxed(&cache->allocated, cache->allocated + allocated);
    neomm__store_relaxed(&cache->requested, cache->requested + requested);
}

void neomm__heap_account(struct neomm *root, enum neomm_counter counter, size_t objects,
                         size_t allocated, size_t requested)
{
    struct neomm__heap_cpu *cache = this_cache(root);
    neomm_irq_t irq = neomm__lock(&cache->lock);
    account(root, cache, counter, objects, allocated, requested);
    neomm__unlock(&cache->lock, irq);
}

void neomm__heap_resized(struct neomm *root, size_t allocated, size_t requested)
{
    struct neomm__heap_cpu *cache = this_cache(root);
    neomm_irq_t irq = neomm__lock(&cache->lock);
    neomm__store_relaxed(&cache->allocated, cache->allocated + allocated);
    neomm__store_relaxed(&cache->requested, cache->requested + requested);
    neomm__unlock(&cache->lock, irq);
}

/* ---- allocation ---- */

static void *pop(struct neomm *root, unsigned class_index, size_t size)
{
    struct neomm__heap_cpu *cache = this_cache(root);
    struct neomm__magazine *magazine = &cache->magazine[class_index];
    void *object = NULL;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    if (magazine->count > 0) {
        object = magazine->object[--magazine->count];
        account(root, cache, NEOMM_COUNTER_KMALLOC, 1, root->heap->class[class_index].size, size);
    }
    neomm__unlock(&cache->lock, irq);
    return object;
}

/* Puts as many of the objects as there is room for into this CPU's cache; returns how many. */
static uint32_t push_some(struct neomm *root, unsigned class_index, void *const *objects,
                          uint32_t count)
{
    struct neomm__heap_cpu *cache = this_cache(root);
    struct neomm__magazine *magazine = &cache->magazine[class_index];
    uint32_t pushed = 0;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    while (pushed < count && magazine->count < root->heap->class[class_index].magazine)
        magazine->object[magazine->count++] = objects[pushed++];
    neomm__unlock(&cache->lock, irq);
    return pushed;
}

/* Half a magazine comes from the slabs: one for the caller, the others for later. */
static void *refill(struct neomm *root, unsigned class_index, size_t size, neomm_flags_t flags)
{
    const struct neomm__heap_class *class = &root->heap->class[class_index];
    void *batch[NEOMM__MAGAZINE_MAX];
    uint32_t count = neomm__slab_take(root, class_index, batch, (class->magazine + 1) / 2, flags);
    if (count == 0)
        return NULL;
    uint32_t kept = 1 + push_some(root, class_index, batch + 1, count - 1);
    (void)neomm__slab_put(root, class_index, batch + kept, count - kept);
    neomm__heap_account(root, NEOMM_COUNTER_KMALLOC, 1, class->size, size);
    return batch[0];
}

void *neomm__object_alloc(struct neomm *root, unsigned class_index, size_t size,
                          neomm_flags_t flags)
{
    struct neomm__heap_place place;
    void *object = pop(root, class_index, size);
    if (!object)
        object = refill(root, class_index, size, flags);
    if (!object)
        return NULL;
    neomm_status status = neomm__heap_find(root, object, &place);
    NEOMM__ASSERT(status == NEOMM_OK && place.slab);
    neomm__store_release(&place.slab->requested[place.index], (uint16_t)size);
    return object;
}

/* ---- freeing ---- */

/* Moves the older half of a full magazine out; returns how many. */
static uint32_t spill(struct neomm__magazine *magazine, void **batch)
{
    uint32_t count = (uint32_t)(magazine->count + 1) / 2;
    memcpy(batch, magazine->object, count * sizeof(*batch));
    magazine->count -= count;
    memmove(magazine->object, magazine->object + count, magazine->count * sizeof(*batch));
    return count;
}

neomm_status neomm__object_free(struct neomm *root, struct neomm__slab *slab, uint32_t index)
{
    /* Whoever takes the size away frees the object: of two racing frees one only. */
    uint16_t requested = neomm__exchange(&slab->requested[index], 0);
    if (requested == 0)
        return NEOMM_E_DOUBLE_FREE;
    struct neomm__heap_cpu *cache = this_cache(root);
    struct neomm__magazine *magazine = &cache->magazine[slab->class_index];
    const struct neomm__heap_class *class = &root->heap->class[slab->class_index];
    unsigned class_index = slab->class_index;
    void *batch[NEOMM__MAGAZINE_MAX];
    uint32_t spilled = 0;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    if (magazine->count >= class->magazine)
        spilled = spill(magazine, batch);
    magazine->object[magazine->count++] = slab->base + (size_t)index * class->size;
    account(root, cache, NEOMM_COUNTER_KFREE, (size_t)-1, (size_t)0 - class->size,
            (size_t)0 - requested);
    neomm__unlock(&cache->lock, irq);
    (void)neomm__slab_put(root, class_index, batch, spilled);
    return NEOMM_OK;
}

bool neomm__object_resize(struct neomm *root, struct neomm__slab *slab, uint32_t index, size_t size)
{
    uint16_t old = neomm__load_acquire(&slab->requested[index]);
    if (old == 0 || !neomm__cas(&slab->requested[index], &old, (uint16_t)size))
        return false;
    neomm__heap_resized(root, 0, size - old);
    return true;
}

/* ---- draining ---- */

static uint32_t drain_one(struct neomm *root, struct neomm__heap_cpu *cache, unsigned class_index,
                          uint32_t *frames)
{
    struct neomm__magazine *magazine = &cache->magazine[class_index];
    void *batch[NEOMM__MAGAZINE_MAX];
    neomm_irq_t irq = neomm__lock(&cache->lock);
    uint32_t count = (uint32_t)magazine->count;
    memcpy(batch, magazine->object, count * sizeof(*batch));
    magazine->count = 0;
    neomm__unlock(&cache->lock, irq);
    *frames += neomm__slab_put(root, class_index, batch, count);
    return count;
}

uint32_t neomm__heap_drain(struct neomm *root, uint32_t *frames)
{
    uint32_t objects = 0;
    *frames = 0;
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        for (unsigned i = 0; i < NEOMM__HEAP_CLASSES; i++)
            objects += drain_one(root, &root->heap->cpu[cpu], i, frames);
    return objects;
}

void neomm_heap_drain_cpu(struct neomm *root, uint32_t cpu)
{
    uint32_t frames = 0;
    for (unsigned i = 0; root->heap && cpu < root->cpus && i < NEOMM__HEAP_CLASSES; i++)
        (void)drain_one(root, &root->heap->cpu[cpu], i, &frames);
}
