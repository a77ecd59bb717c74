/* Depots: objects on their way from CPUs that free them to CPUs that allocate them.
 * SPDX-License-Identifier: MIT
 *
 *   CPU 0 frees ... magazine -> batch -> | depot of the cache | -> batch -> magazine ... CPU 1
 * takes
 *
 * A cache gets one when a CPU refills its magazine behind another that flushed: then objects move
 * between the two by their addresses alone, and neither their slabs nor their bits change. It goes
 * with the next drain.
 */
#include "magazine.h"

#include <neomm/pmm.h>

struct neomm__depot {
    neomm_frame_t frame; /* where this lies */
    unsigned order;
    uint32_t most;
    unsigned hash_bits;
    uint16_t *recent; /* where an object was put, by a hash of its address */
    void *object[];   /* the last one is taken first */
};
_Static_assert(NEOMM__DEPOT_MAX <= UINT16_MAX, "`recent` can say where");

/* ---- under the lock of the cache ---- */

static uint16_t *recent_of(const struct neomm__depot *depot, const void *object)
{
    uint32_t number = (uint32_t)((uintptr_t)object >> NEOMM__HEAP_UNIT_SHIFT);
    return &depot->recent[number * 0x9e3779b1u >> (32 - depot->hash_bits)];
}

/* It was freed, and came here before. */
static bool knows(const struct neomm_kmem *cache, const void *object)
{
    const struct neomm__depot *depot = cache->depot;
    uint32_t at = *recent_of(depot, object);
    return at < cache->stored && depot->object[at] == object;
}

/* The objects that may not be freed are left in `objects`; returns their number. */
static uint32_t put_new(struct neomm_kmem *cache, void **objects, uint32_t count)
{
    struct neomm__depot *depot = cache->depot;
    uint32_t stored = cache->stored, twice = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (knows(cache, objects[i])) {
            objects[twice++] = objects[i];
            continue;
        }
        *recent_of(depot, objects[i]) = (uint16_t)stored;
        depot->object[stored++] = objects[i];
        neomm__store_relaxed(&cache->stored, stored);
    }
    return twice;
}

static bool has_room(const struct neomm_kmem *cache, uint32_t count)
{
    return cache->depot && !cache->ops && count <= cache->depot->most - cache->stored;
}

static uint32_t take_last(struct neomm_kmem *cache, void **objects, uint32_t want)
{
    uint32_t count = want < cache->stored ? want : cache->stored;
    if (count == 0)
        return 0;
    neomm__store_relaxed(&cache->stored, cache->stored - count);
    memcpy(objects, &cache->depot->object[cache->stored], count * sizeof(*objects));
    return count;
}

/* ---- batches ---- */

bool neomm__depot_put(struct neomm *root, struct neomm_kmem *cache, void **objects, uint32_t count,
                      uint32_t *twice)
{
    if (!neomm__load_relaxed(&cache->depot))
        return false;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    bool room = has_room(cache, count);
    *twice = room ? put_new(cache, objects, count) : 0;
    neomm__unlock(&cache->lock, irq);
    for (uint32_t i = 0; i < *twice; i++)
        (void)neomm__heap_refuse(root, "kfree", objects[i], NEOMM_E_DOUBLE_FREE);
    return room;
}

uint32_t neomm__depot_take(struct neomm_kmem *cache, void **objects, uint32_t want,
                           neomm_flags_t flags)
{
    neomm_irq_t irq;
    if (neomm__load_relaxed(&cache->stored) == 0 || !neomm__slabs_lock(cache, flags, &irq))
        return 0;
    uint32_t count = cache->ops ? 0 : take_last(cache, objects, want);
    neomm__unlock(&cache->lock, irq);
    return count;
}

/* ---- beginning and end ---- */

/* The shape of a depot for the cache, and its bytes: the hash has two entries an object. */
static size_t shape(struct neomm__depot *depot, const struct neomm_kmem *cache)
{
    depot->most = cache->depot_most;
    depot->hash_bits = neomm__log2_up(depot->most) + 1;
    size_t bytes = offsetof(struct neomm__depot, object) + depot->most * sizeof(void *) +
                   (sizeof(*depot->recent) << depot->hash_bits);
    depot->order = neomm__log2_up(neomm__pages(bytes));
    return bytes;
}

static struct neomm__depot *create(struct neomm *root, const struct neomm_kmem *cache,
                                   neomm_flags_t flags)
{
    struct neomm__depot wanted, *depot;
    size_t bytes = shape(&wanted, cache);
    if (NEOMM__FAULT(HEAP_STATE) ||
        neomm_pmm_alloc(root, wanted.order, flags, &wanted.frame) != NEOMM_OK)
        return NULL;
    neomm__heap_set_kind(root, wanted.frame, 1, NEOMM__KIND_STATE);
    depot = neomm_direct_pointer(root, neomm_frame_paddr(wanted.frame));
    memset(depot, 0, bytes);
    *depot = wanted;
    depot->recent = (uint16_t *)&depot->object[depot->most];
    return depot;
}

static void end(struct neomm *root, const struct neomm__depot *depot)
{
    neomm_frame_t frame = depot->frame;
    neomm__heap_give_frames(root, frame, 1u << depot->order);
}

void neomm__depot_make(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags)
{
    flags = (flags & ~(neomm_flags_t)NEOMM_ZERO) | NEOMM_NORECLAIM;
    struct neomm__depot *depot = create(root, cache, flags);
    if (!depot)
        return;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    bool first = !cache->depot && !cache->ops;
    if (first)
        neomm__store_relaxed(&cache->depot, depot);
    neomm__unlock(&cache->lock, irq);
    if (!first)
        end(root, depot);
}

/* Unless something came meanwhile. */
static struct neomm__depot *detach(struct neomm_kmem *cache)
{
    neomm_irq_t irq = neomm__lock(&cache->lock);
    struct neomm__depot *depot = cache->stored == 0 ? cache->depot : NULL;
    if (depot)
        neomm__store_relaxed(&cache->depot, NULL);
    neomm__store_relaxed(&cache->flusher, 0);
    neomm__unlock(&cache->lock, irq);
    return depot;
}

uint32_t neomm__depot_empty(struct neomm *root, struct neomm_kmem *cache,
                            struct neomm__frame_list *surplus)
{
    void *objects[NEOMM__BATCH_MAX];
    uint32_t count = 0, all = 0;
    do {
        neomm_irq_t irq = neomm__lock(&cache->lock);
        count = take_last(cache, objects, NEOMM__BATCH_MAX);
        neomm__unlock(&cache->lock, irq);
        if (count > 0)
            neomm__kmem_count(cache, 0,
                              0 - (size_t)neomm__slab_put(root, cache, objects, count, surplus));
        all += count;
    } while (count > 0);
    struct neomm__depot *depot = detach(cache);
    if (depot)
        end(root, depot);
    return all;
}

const void *neomm__depot_object(const struct neomm_kmem *cache, uint32_t index)
{
    return cache->depot && index < cache->depot->most ? cache->depot->object[index] : NULL;
}
