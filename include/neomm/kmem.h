/* Object caches: objects of one kind, and allocation in bulk and in advance.
 * SPDX-License-Identifier: MIT
 *
 * A cache holds objects of one size, with an alignment and a constructor of their own; kmalloc's
 * size classes are caches too (neomm_kmem_for). The source of the idea: J. Bonwick, "The Slab
 * Allocator: An Object-Caching Kernel Memory Allocator" (USENIX Summer 1994), and J. Bonwick,
 * J. Adams, "Magazines and Vmem" (USENIX 2001).
 *
 * neomm_kfree and neomm_ksize take objects of any cache. Unless it says otherwise, a function may
 * be called with interrupts masked and in interrupt handlers; those that allocate, with
 * NEOMM_ATOMIC there.
 */
#ifndef NEOMM_KMEM_H
#define NEOMM_KMEM_H

#include <neomm/heap.h>

struct neomm_kmem;

/* The largest object of a cache, in bytes, and the largest alignment. */
#define NEOMM_KMEM_SIZE_MAX  ((size_t)32768)
#define NEOMM_KMEM_ALIGN_MAX NEOMM_PAGE_SIZE
/* Caches that callers may make, at least. */
#define NEOMM_KMEM_COUNT_MAX 136u

/* Makes an object ready for its first use; it keeps that state while it is free, so its user frees
 * it as he found it. Must not sleep, nor use the same cache. */
typedef void neomm_construct_fn(void *context, void *object);

struct neomm_kmem_options {
    const char *name;              /* for reports; kept, not copied. NULL: "unnamed" */
    size_t size;                   /* of an object, 1 to NEOMM_KMEM_SIZE_MAX */
    size_t align;                  /* a power of two up to NEOMM_KMEM_ALIGN_MAX; 0: of a pointer */
    neomm_construct_fn *construct; /* NULL: contents of new objects are unknown */
    void *context;
};

struct neomm_kmem_stats {
    const char *name;
    uint32_t object_size; /* as asked for */
    uint32_t size;        /* from one object to the next */
    uint32_t align;
    uint32_t slab_frames, slab_objects; /* of one slab */
    uint64_t allocated, freed;          /* objects, since the cache was made */
    uint64_t objects;                   /* live */
    uint64_t kept;                      /* free, in front of the slabs on some CPU */
    uint64_t slabs, slabs_empty;
};

/* Objects taken in advance. The members are the library's. */
struct neomm_prefill {
    struct neomm_kmem *cache;
    void **object;
    uint32_t count, capacity;
};

NEOMM_EXTERN_C_BEGIN

/* ---- making and ending ---- */

/* A new cache; NULL: size or alignment out of range, no memory, or too many caches. May sleep in
 * reclaim. Cost: CPUs. */
struct neomm_kmem *neomm_kmem_create(struct neomm *root, const struct neomm_kmem_options *options);

/* Ends a cache. NEOMM_E_BUSY: it stays as it is, since objects are live (each is logged, at most
 * 16) or another CPU is emptying caches. NEOMM_E_INVALID: no cache, or one of kmalloc's. Interrupts
 * the other CPUs: not in interrupts, with interrupts masked or with a spinlock held. Nobody uses
 * the cache meanwhile. */
neomm_status neomm_kmem_destroy(struct neomm *root, struct neomm_kmem *cache);

/* The cache that kmalloc takes objects of `size` bytes from; NULL: size 0, or too large for any. */
struct neomm_kmem *neomm_kmem_for(struct neomm *root, size_t size);

/* ---- objects ---- */

/* An object, or NULL when out of memory. Flags as for kmalloc, but for NEOMM_DMA, and NEOMM_ZERO
 * where there is a constructor: both are ignored. Cost: constant while the CPU has objects at
 * hand; else a batch, at most 32, from the slabs. */
void *neomm_kmem_alloc(struct neomm *root, struct neomm_kmem *cache,
                       neomm_flags_t flags) NEOMM_MUST_CHECK;

/* Frees an object of this cache. As neomm_kfree; NEOMM_E_FOREIGN also for another cache's. */
neomm_status neomm_kmem_free(struct neomm *root, struct neomm_kmem *cache, void *object);

/* All `count` objects or, with NEOMM_E_NOMEM, none. Cost: a few instructions an object. */
neomm_status neomm_kmem_alloc_bulk(struct neomm *root, struct neomm_kmem *cache,
                                   neomm_flags_t flags, uint32_t count, void **objects);

/* Frees all of them. One that cannot be freed is logged and stays as it is, the others are freed;
 * the first error comes back. */
neomm_status neomm_kmem_free_bulk(struct neomm *root, struct neomm_kmem *cache, uint32_t count,
                                  void *const *objects);

/* Gives the memory of free objects back; returns the frames given. Context as
 * neomm_kmem_destroy. */
uint32_t neomm_kmem_shrink(struct neomm *root, struct neomm_kmem *cache);

/* ---- in advance ---- */

/* Takes `count` objects, or none, that neomm_prefill_take hands out later, where failing is not
 * possible.
 * NEOMM_E_NOMEM: nothing is held. */
neomm_status neomm_prefill_init(struct neomm *root, struct neomm_prefill *prefill,
                                struct neomm_kmem *cache, uint32_t count, neomm_flags_t flags);

/* One of them, to be freed like any other; NULL after `count` times. Waits for nobody: also in an
 * NMI. One user at a time. */
void *neomm_prefill_take(struct neomm_prefill *prefill) NEOMM_MUST_CHECK;

/* Makes it `count` again. NEOMM_E_NOMEM: it holds what it held. */
neomm_status neomm_prefill_refill(struct neomm *root, struct neomm_prefill *prefill,
                                  neomm_flags_t flags);

/* Frees what was not taken. */
void neomm_prefill_end(struct neomm *root, struct neomm_prefill *prefill);

/* ---- figures ---- */

/* A racy sum while other CPUs use the cache. Cost: CPUs. */
void neomm_kmem_stats(struct neomm *root, struct neomm_kmem *cache, struct neomm_kmem_stats *stats);

/* The cache after this one, NULL after the last; NULL gives the first. kmalloc's come first, by
 * size. */
struct neomm_kmem *neomm_kmem_next(struct neomm *root, struct neomm_kmem *cache);

NEOMM_EXTERN_C_END

#endif
