/* A heap as a loadable module: the library's production flavour with a port of its own, in which
 * threads are CPUs. There are two: one calls the port's functions, one has them inline.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_HEAP_MODULE_H
#define NEOMM_BENCH_HEAP_MODULE_H

#include <neomm/kmem.h>

#define BENCH_HEAP_CPUS  2u
#define BENCH_HEAP_ROOTS 2u /* that live at the same time in one module */

struct bench_heap {
    /* Starts a heap on so many bytes of RAM; this thread is its CPU 0. NULL: failed. */
    struct neomm *(*start)(uint64_t ram_bytes, bool fine_classes);
    /* Ends it. False: something is still allocated. */
    bool (*stop)(struct neomm *root);
    /* This thread is that CPU of all heaps of the module. */
    void (*bind)(uint32_t cpu);
    /* Bytes of frames that the heap holds, with its own state. */
    uint64_t (*held)(struct neomm *root);
    void *(*alloc)(struct neomm *root, size_t size, neomm_flags_t flags,
                   const struct neomm_site *site);
    neomm_status (*free)(struct neomm *root, void *pointer);
    void *(*resize)(struct neomm *root, void *pointer, size_t size, neomm_flags_t flags,
                    const struct neomm_site *site);
    size_t (*usable)(struct neomm *root, const void *pointer);
    uint32_t (*shrink)(struct neomm *root);
    struct neomm_kmem *(*cache_for)(struct neomm *root, size_t size);
    neomm_status (*alloc_bulk)(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                               uint32_t count, void **objects);
    neomm_status (*free_bulk)(struct neomm *root, struct neomm_kmem *cache, uint32_t count,
                              void *const *objects);
    /* Call sites are tracked, and one object in three is guarded, for a while. False: in vain. */
    bool (*watch_a_while)(struct neomm *root);
};

/* The name that a module exports its struct bench_heap under. */
#define BENCH_HEAP_SYMBOL "neomm_bench_heap"

#endif
