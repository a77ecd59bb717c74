/* Entering and leaving a CPU's magazine: kmalloc's and kfree's first lines.
 * SPDX-License-Identifier: MIT
 *
 * A magazine is its CPU's: only code that is pinned there enters it, and says so in `entered` with
 * plain stores. An interrupt handler that finds it entered goes past it to the slabs, so it never
 * waits for what it interrupted; one that comes between the look and the store has left again
 * before the store. A CPU that wants to empty another's magazine shuts it:
 *
 *      the CPU                         the one that empties
 *      entered = 1                     closed = 1
 *      (compiler only)                 a call through neomm_port_ipi
 *      closed?  -> leave               entered?  -> wait until it is 0
 *
 * The call interrupts the CPU, which orders what it did before against what it does after. If it
 * read `closed` as 0, that was before the call, so `entered` is visible after it. What was in the
 * magazine passes to the other CPU by the release of `entered` and back by that of `closed`.
 */
#ifndef NEOMM_HEAP_MAGAZINE_H
#define NEOMM_HEAP_MAGAZINE_H

#include "heap_priv.h"

static inline struct neomm__magazine *neomm__magazine_of(const struct neomm_kmem *cache,
                                                         uint32_t cpu)
{
    return (struct neomm__magazine *)((uintptr_t)cache->magazine + (size_t)cpu * cache->stride);
}

static inline void neomm__magazine_leave(struct neomm__magazine *magazine)
{
    neomm__store_release(&magazine->entered, 0);
}

/* Pinned to the magazine's CPU. */
static inline bool neomm__magazine_enter(struct neomm__magazine *magazine)
{
    if (magazine->entered != 0) /* nobody else writes it: a plain look is an instruction less */
        return false;
    neomm__store_late(&magazine->entered, 1);
    neomm__cpu_order();
    if (neomm__load_acquire(&magazine->closed) == 0)
        return true;
    neomm__magazine_leave(magazine);
    return false;
}

/* ---- inside ---- */

/* Others read counts while the CPU changes them. */
static inline uint32_t neomm__magazine_kept(const struct neomm__magazine *magazine)
{
    uint32_t out = neomm__load_relaxed(&magazine->out);
    return neomm__load_relaxed(&magazine->in) - out;
}

static inline void **neomm__magazine_slot(struct neomm__magazine *magazine, uint32_t number)
{
    return &magazine->object[number & magazine->mask];
}

/* The object that was put here first. Taken from one end and put at the other, two calls in turn do
 * not wait for each other's loads: where the object of a kfree belongs is found by four of them.
 * NULL: it is empty, or it is time for a look. */
static inline void *neomm__magazine_pop(struct neomm__magazine *magazine)
{
    uint32_t out = magazine->out, budget = magazine->budget;
    void **slot = neomm__magazine_slot(magazine, out), *object = *slot;
    if (!object || budget == 0)
        return NULL;
    *slot = NULL;
    neomm__store_relaxed(&magazine->out, out + 1);
    neomm__store_relaxed(&magazine->budget, budget - 1);
    return object;
}

/* Takes the `count` objects that were put here first. */
static inline void neomm__magazine_copy(struct neomm__magazine *magazine, uint32_t count,
                                        void **objects)
{
    for (uint32_t i = 0; i < count; i++) {
        void **slot = neomm__magazine_slot(magazine, magazine->out + i);
        objects[i] = *slot;
        *slot = NULL;
    }
    neomm__store_relaxed(&magazine->out, magazine->out + count);
}

/* False: it is full, or the object is the one that was freed last. */
static inline bool neomm__magazine_push(struct neomm__magazine *magazine, void *object)
{
    uint32_t in = magazine->in;
    if (in - magazine->out >= magazine->capacity ||
        *neomm__magazine_slot(magazine, in - 1) == object)
        return false;
    *neomm__magazine_slot(magazine, in) = object;
    neomm__store_relaxed(&magazine->in, in + 1);
    return true;
}

/* ---- the two calls ---- */

/* Pinned to the magazine's CPU, and not any more afterwards. */
static inline void *neomm__magazine_take(struct neomm__magazine *magazine)
{
    void *object = NULL;
    if (neomm__magazine_enter(magazine)) {
        object = neomm__magazine_pop(magazine);
        neomm__magazine_leave(magazine);
    }
    neomm_port_unpin();
    return object;
}

/* An object that this CPU has at hand; NULL: neomm__kmem_refill gets one. */
static inline void *neomm__kmem_pop(const struct neomm_kmem *cache)
{
    void *object = neomm__magazine_take(neomm__magazine_of(cache, neomm_port_pin()->index));
    if (object)
        NEOMM__OBJECT_TAKEN(object, cache->size);
    return object;
}

/* One with its contents as the flags say. */
static inline void *neomm__kmem_take(struct neomm *root, struct neomm_kmem *cache, size_t size,
                                     size_t align, neomm_flags_t flags, uintptr_t caller)
{
    void *object = neomm__kmem_pop(cache);
    if (!object)
        object = neomm__kmem_refill(root, cache, size, align, flags, caller);
    if (object && (flags & NEOMM_ZERO) && !cache->construct)
        memset(object, 0,
               neomm__kmem_ops_of(cache) || neomm__guard_owns(root->heap, object) ? size
                                                                                  : cache->size);
    return object;
}

/* The magazine of kmalloc's class for a size from 1 to front.slab_max. */
static inline struct neomm__magazine *neomm__magazine_for(const struct neomm *root, size_t size,
                                                          uint32_t cpu)
{
    const struct neomm__heap_front *front = &root->front;
    size_t offset = front->offset[(size + NEOMM__HEAP_UNIT - 1) >> NEOMM__HEAP_UNIT_SHIFT];
    return (struct neomm__magazine *)(front->magazines + cpu * front->magazines_stride + offset);
}

/* The object is one of the cache's, at its first byte. False: neomm__kmem_flush takes it. */
static inline bool neomm__kmem_push(const struct neomm_kmem *cache, void *object)
{
    struct neomm__magazine *magazine = neomm__magazine_of(cache, neomm_port_pin()->index);
    bool done = false;
    if (neomm__magazine_enter(magazine)) {
        done = neomm__magazine_push(magazine, object);
        if (done)
            NEOMM__OBJECT_FREED(object, cache->size);
        neomm__magazine_leave(magazine);
    }
    neomm_port_unpin();
    return done;
}

/* The cache of a slab's object under a pointer into the direct map; NULL: it is something else, to
 * be looked at slowly. */
static inline struct neomm_kmem *neomm__kmem_under(const struct neomm *root, const void *pointer)
{
    size_t offset = (uintptr_t)pointer - root->front.direct_base;
    size_t number = offset >> NEOMM_PAGE_SHIFT;
    if (number >= root->front.direct_frames)
        return NULL;
    uint32_t section = root->frames.section[number >> NEOMM__SECTION_SHIFT];
    const struct neomm__frame *entry = &root->frames.table[(uint32_t)number + section - 1];
    if (section == 0 || entry->kind != NEOMM__KIND_SLAB)
        return NULL;
    struct neomm_kmem *cache = &root->heap->cache[neomm__slab_cache(entry->owner)];
    uint32_t at = neomm__slab_page(entry->owner) << NEOMM_PAGE_SHIFT |
                  (uint32_t)(offset & (NEOMM_PAGE_SIZE - 1));
    /* A multiple of the size has no fraction (D. Lemire, "Faster remainder by direct computation",
     * 2019). */
    return at * cache->inverse < cache->inverse && at < cache->span ? cache : NULL;
}

#endif
