/* The heap's own structures: size classes, side records, CPU caches.
 * SPDX-License-Identifier: MIT
 *
 * Objects have no headers. A pointer finds its state through the descriptor of its frame; the
 * state lies in a side record, in a frame of its own, where an overrun object does not reach it:
 *
 *   descriptors   [SLAB owner class, mapping -> record][TAIL owner 1][TAIL owner 2] ...
 *   pages         [object 0][object 1][object 2] ...
 *   record        base, free objects as a bitmap, bytes requested for each object (0: not live)
 *
 * An object is in one of three states: free (its bit set, 0 requested), cached on a CPU (bit
 * clear, 0 requested), or live (bit clear, requested > 0). A run of pages has a record too.
 *
 * Locks (all of class SLAB, never two at once): one a CPU cache, one a size class, one a record
 * pool, one for the list of runs. None is held when pages are taken or given back.
 */
#ifndef NEOMM_HEAP_PRIV_H
#define NEOMM_HEAP_PRIV_H

#include "base/bits.h"
#include "base/root.h"

#include <neomm/heap.h>

/* 16, 32, 48, 64, then four steps a doubling: 80, 96, 112, 128, 160 ... 8192. */
#define NEOMM__HEAP_CLASSES     32u
#define NEOMM__HEAP_UNIT_SHIFT  4
#define NEOMM__HEAP_SLAB_MAX    ((size_t)8192)
#define NEOMM__SLAB_OBJECTS_MAX 256u
/* Objects of one class that a CPU keeps; with the count they fill two cache lines. */
#define NEOMM__MAGAZINE_MAX 15u
/* Fully free slabs that a class keeps for the next request. */
#define NEOMM__EMPTY_SLABS_KEPT 1u
/* Objects listed by the leak report. */
#define NEOMM__LEAKS_LISTED 16u

/* The record of a slab. */
struct neomm__slab {
    uint8_t *base;  /* first object */
    uint32_t frame; /* number of the first frame */
    uint32_t class_index;
    uint32_t free; /* bits set in free_map; under the lock of the class */
    neomm__word_t free_map[NEOMM__SLAB_OBJECTS_MAX / NEOMM__WORD_BITS];
    uint16_t requested[]; /* atomic; the object's owner sets it, kfree takes it */
};

/* The record of a run. */
struct neomm__run {
    uint8_t *base;
    size_t requested; /* under the lock of the runs */
    uint32_t frame;   /* number of the first frame */
    uint32_t pages;
    uint32_t source; /* index into heap->source */
};

/* Records of one size: frames of kind STATE, owner the pool, mapping a bitmap of those in use. */
struct neomm__record_pool {
    struct neomm__lock lock;
    uint32_t size;      /* bytes of a record */
    uint32_t per_frame; /* at most 64 */
    struct neomm__frame_list open, full;
};

/* Pool 0 is for runs, pool n for slabs of at most 16 << n objects. */
#define NEOMM__RECORD_POOLS    5u
#define NEOMM__RECORD_POOL_RUN 0u

enum neomm__slab_list {
    NEOMM__SLABS_EMPTY,
    NEOMM__SLABS_PARTIAL,
    NEOMM__SLABS_FULL,
    NEOMM__SLAB_LISTS
};

struct neomm__heap_class {
    struct neomm__lock lock;
    uint32_t size;     /* bytes of an object */
    uint32_t inverse;  /* offset in units of 16 * inverse >> 20 = index of the object */
    uint32_t pages;    /* of a slab */
    uint32_t objects;  /* of a slab */
    uint32_t pool;     /* of the slabs' records */
    uint32_t magazine; /* objects that a CPU keeps */
    struct neomm__frame_list list[NEOMM__SLAB_LISTS]; /* first frames, by free objects */
};

/* The free objects of one class that a CPU has at hand. */
struct neomm__magazine {
    size_t count;
    void *object[NEOMM__MAGAZINE_MAX];
};

/* One CPU's cache. The lock makes it safe to use that of another CPU: shrinking does, and code
 * that moved between asking for its CPU and taking the lock. */
struct neomm__heap_cpu {
    struct neomm__lock lock;
    size_t objects, allocated, requested; /* live here and freed elsewhere wrap; sums are right */
    struct neomm__magazine magazine[NEOMM__HEAP_CLASSES];
} __attribute__((aligned(64)));

enum neomm__heap_source { NEOMM__SOURCE_MAIN, NEOMM__SOURCE_LARGE, NEOMM__HEAP_SOURCES };

struct neomm__heap {
    struct neomm_page_source source[NEOMM__HEAP_SOURCES];
    uint32_t sources;    /* 1, or 2 with a large source */
    neomm_frame_t frame; /* where this structure lies */
    uint32_t frames;
    struct neomm__record_pool pool[NEOMM__RECORD_POOLS];
    struct neomm__lock run_lock;
    struct neomm__frame_list runs; /* first frames */
    size_t run_frames;
    struct neomm__heap_class class[NEOMM__HEAP_CLASSES];
    struct neomm__heap_cpu cpu[]; /* root->cpus of them */
};

/* What a pointer points at. */
struct neomm__heap_place {
    neomm_frame_t head;       /* first frame of the slab or run */
    uint8_t *base;            /* where that frame lies */
    struct neomm__slab *slab; /* NULL: a run */
    uint32_t index;           /* of the object */
};

/* The class for a size from 1 to NEOMM__HEAP_SLAB_MAX. */
static inline unsigned neomm__heap_class_of(size_t size)
{
    if (size <= 64)
        return (unsigned)((size - 1) >> NEOMM__HEAP_UNIT_SHIFT);
    unsigned top = neomm__highest_bit(size - 1);
    return (top - 6) * 4 + (unsigned)((size - 1) >> (top - 2));
}

/* heap_class.c: fills the table of classes. */
void neomm__heap_classes_init(struct neomm__heap *heap);

/* record.c: a zeroed record of a pool, and its physical address for the descriptor's mapping;
 * NULL: no memory. */
void neomm__records_init(struct neomm__heap *heap);
void *neomm__record_alloc(struct neomm *root, uint32_t pool, neomm_flags_t flags,
                          neomm_paddr_t *paddr);
/* Returns the frames given back, 0 or 1. */
uint32_t neomm__record_free(struct neomm *root, neomm_paddr_t paddr);
void *neomm__record_at(const struct neomm *root, neomm_paddr_t paddr);
/* Gives empty frames of the pools back; returns their number. */
uint32_t neomm__records_trim(struct neomm *root);

/* slab.c: takes up to `want` free objects of a class; 0: no memory. */
uint32_t neomm__slab_take(struct neomm *root, unsigned class_index, void **objects, uint32_t want,
                          neomm_flags_t flags);
/* Puts cached objects back into their slabs, at most NEOMM__MAGAZINE_MAX. Slabs that become empty
 * beyond those a class keeps are given back; returns their frames. */
uint32_t neomm__slab_put(struct neomm *root, unsigned class_index, void *const *objects,
                         uint32_t count);
/* Gives all empty slabs of a class back; returns their frames. */
uint32_t neomm__slabs_trim(struct neomm *root, unsigned class_index);
/* Finds the slab and index, or the run, under a pointer. NEOMM_E_FOREIGN; NEOMM_E_INVALID (not
 * the start of an object or run); NEOMM_E_DOUBLE_FREE (in memory that is free by now). */
neomm_status neomm__heap_find(struct neomm *root, const void *pointer,
                              struct neomm__heap_place *place);

/* cpu_cache.c: an object of a class, live with `size` bytes requested, contents unknown. */
void *neomm__object_alloc(struct neomm *root, unsigned class_index, size_t size,
                          neomm_flags_t flags);
/* Ends the life of an object; NEOMM_E_DOUBLE_FREE. */
neomm_status neomm__object_free(struct neomm *root, struct neomm__slab *slab, uint32_t index);
/* Changes what was requested; false: the object is not live. */
bool neomm__object_resize(struct neomm *root, struct neomm__slab *slab, uint32_t index,
                          size_t size);
/* Adds to the live totals (negative numbers wrap) and to one event counter of this CPU. */
void neomm__heap_account(struct neomm *root, enum neomm_counter counter, size_t objects,
                         size_t allocated, size_t requested);
/* A live block changed in place: what is added to the totals (negative numbers wrap). */
void neomm__heap_resized(struct neomm *root, size_t allocated, size_t requested);
/* Empties the caches of all CPUs; returns the objects put back, and in *frames what became free. */
uint32_t neomm__heap_drain(struct neomm *root, uint32_t *frames);

/* run.c: whole pages, aligned to `align` bytes if that is more than a page. */
void *neomm__run_alloc(struct neomm *root, size_t size, size_t align, neomm_flags_t flags);
neomm_status neomm__run_free(struct neomm *root, void *pointer,
                             const struct neomm__heap_place *place);
/* Bytes of the live run at `pointer`, 0 if there is none. */
size_t neomm__run_size(struct neomm *root, const void *pointer,
                       const struct neomm__heap_place *place);
/* Makes `size` bytes of the run in place; false: it cannot be. */
bool neomm__run_resize(struct neomm *root, void *pointer, const struct neomm__heap_place *place,
                       size_t size, neomm_flags_t flags);

/* heap_check.c */
void neomm__heap_fsck(struct neomm *root, struct neomm__report *report);
void neomm__heap_snapshot(struct neomm *root, struct neomm_snapshot *snapshot);
/* Logs the first live objects. */
void neomm__heap_log_leaks(struct neomm *root);

#endif
