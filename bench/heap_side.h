/* Our heap, built in two ways, and other allocators, behind the same calls.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_HEAP_SIDE_H
#define NEOMM_BENCH_HEAP_SIDE_H

#include "heap_module.h"

#define HEAP_RAM   ((uint64_t)512 << 20)
#define HEAP_OURS  2u /* the first sides: port out of line, port inline */
#define HEAP_SIDES 6u

struct heap_side {
    const char *name;
    bool present;
    /* Ours; NULL: a peer. */
    const struct bench_heap *heap;
    struct neomm *root;
    void *(*kmalloc)(struct neomm *root, size_t size, neomm_flags_t flags,
                     const struct neomm_site *site);
    neomm_status (*kfree)(struct neomm *root, void *pointer);
    /* A peer's. */
    void *(*malloc)(size_t size);
    void (*free)(void *block);
    void *(*realloc)(void *block, size_t size);
    size_t (*usable)(void *block);
    void (*shrink)(const struct heap_side *side);
    void *release; /* what it shrinks by */
};

/* Called first: starts the program again, if need be, with room for what jemalloc keeps a thread,
 * which glibc has to know from the beginning. */
void heap_sides_prepare(char **argv);
/* Loads all sides. False: ours cannot be; a peer that is absent is not `present`. */
bool heap_sides_open(struct heap_side *sides);
/* Ends our heaps. False: something leaks. */
bool heap_sides_close(struct heap_side *sides);
/* Another heap of the same build, with eight classes a doubling; its `present` is false if it
 * cannot be. */
struct heap_side heap_side_fine(const struct heap_side *side);

/* `ours` is constant where these are called, and equal to side->heap != NULL. */
static inline __attribute__((always_inline)) void *heap_take(const struct heap_side *side,
                                                             bool ours, size_t size)
{
    return ours ? side->kmalloc(side->root, size, NEOMM_NORECLAIM, NEOMM_SITE())
                : side->malloc(size);
}

static inline __attribute__((always_inline)) void heap_give(const struct heap_side *side, bool ours,
                                                            void *block)
{
    if (ours)
        (void)side->kfree(side->root, block);
    else
        side->free(block);
}

/* Where the way there does not matter. */
static inline void heap_drop(const struct heap_side *side, void *block)
{
    heap_give(side, side->heap != NULL, block);
}

static inline void *heap_resize(const struct heap_side *side, void *block, size_t size)
{
    return side->heap ? side->heap->resize(side->root, block, size, NEOMM_NORECLAIM, NEOMM_SITE())
                      : side->realloc(block, size);
}

static inline size_t heap_usable(const struct heap_side *side, void *block)
{
    return side->heap ? side->heap->usable(side->root, block) : side->usable(block);
}

static inline void heap_shrink(const struct heap_side *side)
{
    if (side->heap)
        (void)side->heap->shrink(side->root);
    else if (side->shrink)
        side->shrink(side);
}

#endif
