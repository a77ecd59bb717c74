/* What a CPU does with its magazine: kmalloc's and kfree's first lines.
 * SPDX-License-Identifier: MIT
 *
 * A magazine is its CPU's: only code that is pinned there enters it, and says so at its `door` with
 * plain stores. An interrupt handler that finds it entered goes past it to the slabs, so it never
 * waits for what it interrupted; one that comes between the look and the store has left again
 * before the store. A CPU that wants to empty another's magazine shuts it:
 *
 *      the CPU                         the one that empties
 *      door = ENTERED                  closed = 1, and bounds of 0
 *      (compiler only)                 a call through neomm_port_ipi
 *      a bound of 0?  -> leave         ENTERED?  -> wait until it is not
 *
 * The call interrupts the CPU, which orders what it did before against what it does after. If it
 * read a bound before it was 0, that was before the call, so ENTERED is visible after it. What was
 * in the magazine passes to the other CPU by the release of `door` and back by that of `closed`.
 *
 * The first lines know a shut magazine by its bounds, `out_end` and `limit`, which they compare
 * with anyway; all others look at `closed`. The bounds are set again by the CPU itself, in
 * neomm__magazine_part.
 *
 * An object stays in the slot where it was put until it is taken. So `recent`, which remembers by
 * a hash of the address where objects were put, tells what is freed a second time: the slot holds
 * it still.
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
    neomm__store_release(&magazine->door, NEOMM__MAGAZINE_LEFT);
}

/* Between the look at the door, which nobody else moves, and one at a bound or at `closed`. */
static inline void neomm__magazine_go_in(struct neomm__magazine *magazine)
{
    neomm__store_late(&magazine->door, NEOMM__MAGAZINE_ENTERED);
    neomm__cpu_order();
}

/* ---- inside ---- */

static inline uint32_t neomm__magazine_hash(const void *object)
{
    /* Objects of a class that lie less than half a magazine apart have different hashes. */
    return (uint32_t)(uintptr_t)object * 0x4b53d283u >> (32 - NEOMM__RECENT_BITS);
}

static inline void **neomm__magazine_slot(struct neomm__magazine *magazine, size_t number)
{
    return &((void **)magazine)[number];
}

/* The object was freed not long ago and is here still. */
static inline bool neomm__magazine_knows(struct neomm__magazine *magazine, const void *object)
{
    return *neomm__magazine_slot(magazine, magazine->recent[neomm__magazine_hash(object)]) ==
           object;
}

/* False: there is no room where it is to be put, or it was freed already. Behind the last slot
 * there never is room. */
static inline bool neomm__magazine_push(struct neomm__magazine *magazine, void *object)
{
    size_t in = neomm__load_relaxed(&magazine->in);
    void **slot = neomm__magazine_slot(magazine, in);
    if (NEOMM__UNLIKELY(*slot || neomm__magazine_knows(magazine, object)))
        return false;
    magazine->recent[neomm__magazine_hash(object)] = (uint8_t)in;
    neomm__store_relaxed(slot, object);
    neomm__store_relaxed(&magazine->in, in + 1);
    return true;
}

/* The object that was put here first. Taken from one end and put at the other, two calls in turn do
 * not wait for each other's loads: where the object of a kfree belongs is found by three of them.
 * NULL: there is none, it is time for a look, or it is being shut. */
static inline void *neomm__magazine_pop(struct neomm__magazine *magazine)
{
    size_t out = neomm__load_relaxed(&magazine->out);
    if (NEOMM__UNLIKELY(out >= neomm__load_acquire(&magazine->out_end)))
        return NULL;
    void **slot = neomm__magazine_slot(magazine, out), *object = *slot;
    if (NEOMM__LIKELY(object != NULL)) {
        neomm__store_relaxed(slot, NULL);
        neomm__store_relaxed(&magazine->out, out + 1);
    }
    return object;
}

/* Inside: from behind the last slot to the first. */
static inline void neomm__magazine_go_round(struct neomm__magazine *magazine)
{
    size_t slots = magazine->slots, end = NEOMM__MAGAZINE_FIRST + slots;
    if (magazine->in == end)
        neomm__store_relaxed(&magazine->in, NEOMM__MAGAZINE_FIRST);
    if (magazine->out == end) {
        neomm__store_relaxed(&magazine->passed, magazine->passed + slots);
        neomm__store_relaxed(&magazine->out, NEOMM__MAGAZINE_FIRST);
    }
}

/* Objects that it holds; others may look while the CPU changes that. */
static inline uint32_t neomm__magazine_kept(const struct neomm__magazine *magazine)
{
    uint32_t slots = neomm__load_relaxed(&magazine->slots);
    size_t out = neomm__load_relaxed(&magazine->out) - NEOMM__MAGAZINE_FIRST;
    size_t in = neomm__load_relaxed(&magazine->in) - NEOMM__MAGAZINE_FIRST;
    out = out < slots ? out : 0;
    in = in < slots ? in : 0;
    if (in == out)
        return slots > 0 && neomm__load_relaxed(&magazine->object[out]) ? slots : 0;
    return (uint32_t)(in > out ? in - out : in + slots - out);
}

/* ---- the two calls ---- */

/* Pinned to the magazine's CPU, and not any more afterwards. */
static inline void *neomm__magazine_take(struct neomm__magazine *magazine)
{
    void *object = NULL;
    if (NEOMM__LIKELY(magazine->door == NEOMM__MAGAZINE_LEFT)) {
        neomm__magazine_go_in(magazine);
        object = neomm__magazine_pop(magazine);
        neomm__magazine_leave(magazine);
    }
    neomm_port_unpin();
    return object;
}

/* The same for an object so many bytes behind the beginning of its slab, if it is one. `size` is
 * for who watches objects. */
static inline bool neomm__magazine_put(struct neomm__magazine *magazine, void *object,
                                       uint32_t offset, uint32_t size)
{
    bool done = false;
    if (NEOMM__LIKELY(magazine->door == NEOMM__MAGAZINE_LEFT)) {
        neomm__magazine_go_in(magazine);
        if (NEOMM__LIKELY(offset * magazine->inverse < neomm__load_acquire(&magazine->limit)))
            done = neomm__magazine_push(magazine, object);
        if (done)
            NEOMM__OBJECT_FREED(object, size);
        neomm__magazine_leave(magazine);
    }
    neomm_port_unpin();
    return done;
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
    uint32_t number = root->front.class_of[(size - 1) >> NEOMM__HEAP_UNIT_SHIFT];
    return root->front.cpu[cpu].magazine[number];
}

/* The descriptor of a slab's page under a pointer to near frames; NULL: it is something else, to be
 * looked at slowly. */
static inline const struct neomm__frame *neomm__near_entry(const struct neomm *root,
                                                           const void *pointer)
{
    const struct neomm__heap_front *front = &root->front;
    size_t number = ((uintptr_t)pointer - front->near_base) >> NEOMM_PAGE_SHIFT;
    if (number >= front->near_frames || front->near_entry[number].kind != NEOMM__KIND_SLAB)
        return NULL;
    return &front->near_entry[number];
}

/* The same for a pointer to anything in the direct map. */
static inline const struct neomm__frame *neomm__slab_entry(const struct neomm *root,
                                                           const void *pointer)
{
    const struct neomm__frame *entry = neomm__near_entry(root, pointer);
    return entry ? entry : neomm__far_entry(root, pointer);
}

/* Frees what may be an object under that descriptor. */
static inline bool neomm__entry_push(const struct neomm *root, const struct neomm__frame *entry,
                                     void *pointer)
{
    struct neomm__heap_cpu *cpu = &root->front.cpu[neomm_port_pin()->index];
    return neomm__magazine_put(cpu->magazine[entry->slab_cache], pointer,
                               neomm__slab_offset(entry, pointer),
                               root->heap->cache[entry->slab_cache].size);
}

/* Frees an object of a slab of near frames. It is pinned before it looks at anything, so that all
 * it has to keep meanwhile are its arguments. */
static inline bool neomm__near_push(const struct neomm *root, void *pointer)
{
    uint32_t index = neomm_port_pin()->index;
    const struct neomm__frame *entry = neomm__near_entry(root, pointer);
    if (!entry) {
        neomm_port_unpin();
        return false;
    }
    return neomm__magazine_put(root->front.cpu[index].magazine[entry->slab_cache], pointer,
                               neomm__slab_offset(entry, pointer),
                               root->heap->cache[entry->slab_cache].size);
}

/* A multiple of the size has no fraction (D. Lemire, "Faster remainder by direct computation",
 * 2019), but for what `inverse` is more than it should be, which grows with the index. */
static inline bool neomm__kmem_begins(const struct neomm_kmem *cache, uint32_t offset)
{
    return offset * cache->inverse < cache->limit;
}

/* The cache of a slab's object at a pointer into the direct map, or NULL. */
static inline struct neomm_kmem *neomm__kmem_under(const struct neomm *root, const void *pointer)
{
    const struct neomm__frame *entry = neomm__slab_entry(root, pointer);
    if (!entry)
        return NULL;
    struct neomm_kmem *cache = &root->heap->cache[entry->slab_cache];
    return neomm__kmem_begins(cache, neomm__slab_offset(entry, pointer)) ? cache : NULL;
}

#endif
