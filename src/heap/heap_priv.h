/* The heap's own structures: caches, their slabs and side records, the CPUs' magazines.
 * SPDX-License-Identifier: MIT
 *
 * Objects have no headers. A pointer finds its cache through the descriptor of its frame, and its
 * slab's state in a side record, in a frame of its own, where an overrun object does not reach it:
 *
 *   descriptors   [SLAB cache, page 0, record][SLAB cache, page 1, record] ...
 *   pages         [object 0][object 1][object 2] ...
 *   record        first page, counts, free objects as a bitmap
 *
 * kmalloc's size classes are caches like any other. An object is in one of three states: free (its
 * bit is set), kept in a CPU's magazine (bit clear), or live (bit clear).
 *
 *   CPU 0   | magazine of cache 0 | of cache 1 | ...        object[]   . b b b b b . . .
 *   CPU 1   | magazine of cache 0 | of cache 1 | ...                     ^ out       ^ in
 *                                                              taken and flushed   put
 *
 * Locks (all of class SLAB, never two at once): one a cache, one a record pool, one for the list of
 * runs. None is held when pages are taken or given back.
 */
#ifndef NEOMM_HEAP_PRIV_H
#define NEOMM_HEAP_PRIV_H

#include "base/bitmap.h"
#include "base/root.h"

#include <neomm/heap_debug.h>

/* For the few lines that every call runs. */
#define NEOMM__LIKELY(condition)   __builtin_expect(condition, true)
#define NEOMM__UNLIKELY(condition) __builtin_expect(condition, false)

#define NEOMM__HEAP_UNIT       ((size_t)16)
#define NEOMM__HEAP_UNIT_SHIFT 4
/* krealloc gives a run of this size pages that can move without being copied. */
#define NEOMM__HEAP_MOVING_MIN ((size_t)131072)
/* Larger requests are runs of pages. */
#define NEOMM__HEAP_SLAB_MAX ((size_t)8192)
/* With eight steps a doubling; 32 with four. */
#define NEOMM__CLASSES_MAX 56u
/* kmalloc's and the callers'. */
#define NEOMM__KMEMS            192u
#define NEOMM__SLAB_PAGES_MAX   8u
#define NEOMM__SLAB_OBJECTS_MAX 1024u
/* Objects that a CPU keeps of a cache, and those that come or go in one step. */
#define NEOMM__MAGAZINE_MAX 128u
#define NEOMM__BATCH_MAX    32u
/* Objects of a cache between CPUs. */
#define NEOMM__DEPOT_MAX 4096u
/* Objects listed by a leak report. */
#define NEOMM__LEAKS_LISTED 16u
/* About one object in so many is guarded, unless the caller wants another number. */
#define NEOMM__SAMPLING 1000u
/* Behind the objects of HARDENED caches, at most. */
#define NEOMM__CANARY_BYTES 8u
/* Looks at a magazine that another CPU is inside of, before it is passed over. */
#define NEOMM__HEAP_PATIENCE 1000000u

/* ---- slabs ---- */

/* The record of a slab. */
struct neomm__slab {
    uint8_t *base;                /* first object */
    struct neomm__ledger *ledger; /* what is known of each object, see ledger.h; or NULL */
    uint32_t frame;               /* number of the first frame */
    uint16_t cache;
    uint16_t free;  /* bits set in free_map; under the lock of the cache, as what follows */
    uint16_t built; /* objects that were handed out once, and constructed: those below */
    uint32_t epoch; /* the cache's, when the ledger began; any other: it is out of date */
    const struct neomm__kmem_ops *ops; /* that made the ledger */
    neomm__word_t free_map[];
};

/* The record of a run. */
struct neomm__run {
    uint8_t *base;
    size_t requested; /* under the lock of the runs */
    uintptr_t caller; /* where it was allocated */
    uint64_t born;    /* and when, while sites are tracked */
    uint32_t tracked; /* the generation of neomm__sites that counted it, 0: none */
    uint32_t frame;   /* number of the first frame */
    uint32_t pages;
    uint32_t source; /* index into heap->source */
    bool moves;      /* its pages should be able to move: from the large source, if there is one */
};

/* Records of one size: frames of kind STATE, owner the pool, mapping a bitmap of those in use. */
struct neomm__record_pool {
    struct neomm__lock lock;
    uint32_t size;      /* bytes of a record */
    uint32_t per_frame; /* at most 64 */
    struct neomm__frame_list open, full;
};

/* Runs and slabs of few objects; slabs of many. */
enum neomm__record_size { NEOMM__RECORD_SMALL, NEOMM__RECORD_LARGE, NEOMM__RECORD_POOLS };
#define NEOMM__RECORD_SMALL_BYTES 64u
#define NEOMM__RECORD_LARGE_BYTES 176u

/* What the owner word of a slab's descriptors says: the cache, and where the slab begins, modulo
 * 64 KiB. No slab is as long as that, so this tells how far behind its beginning a pointer is. */
#define NEOMM__SLAB_START_BITS 16u
_Static_assert(NEOMM__SLAB_PAGES_MAX *NEOMM_PAGE_SIZE <= 1u << NEOMM__SLAB_START_BITS,
               "offsets in a slab fit");
static inline uint32_t neomm__slab_owner(uint32_t cache, const void *base)
{
    return cache << NEOMM__SLAB_START_BITS | (uint16_t)(uintptr_t)base;
}
static inline uint32_t neomm__slab_offset(const struct neomm__frame *entry, const void *pointer)
{
    return (uint16_t)((uint32_t)(uintptr_t)pointer - entry->owner);
}

enum neomm__slab_list {
    NEOMM__SLABS_EMPTY,
    NEOMM__SLABS_PARTIAL,
    NEOMM__SLABS_FULL,
    NEOMM__SLAB_LISTS
};

/* ---- caches ---- */

/* Who may be in a magazine; the numbers are such that one comparison with other than 0 will do. */
enum neomm__magazine_door {
    NEOMM__MAGAZINE_NEW, /* nobody was inside yet */
    NEOMM__MAGAZINE_LEFT,
    NEOMM__MAGAZINE_ENTERED /* the CPU is inside */
};

/* Where each of a magazine's objects was put, by some bits of its address: see magazine.h. */
#define NEOMM__RECENT_BITS 7u
#define NEOMM__RECENT      (1u << NEOMM__RECENT_BITS)

/* The free objects of one cache that a CPU has at hand; see magazine.h for who may touch it. All
 * zeros until the CPU uses it. */
struct neomm__magazine {
    uint32_t door;   /* enum neomm__magazine_door */
    uint32_t closed; /* nobody may enter: another CPU empties or changes it */
    /* Words from here to slots: of the object to be taken next, and for the one to be put next. */
    size_t out, in;
    size_t out_end;    /* the slow path comes when `out` is here; 0: always */
    uint32_t inverse;  /* the cache's */
    uint32_t limit;    /* the cache's; 0: the slow path frees */
    uint32_t slots;    /* objects that it may hold; 0: it cannot be used */
    uint32_t interval; /* of the cache, when `due` was made; 0: for no object to guard */
    size_t passed;     /* objects taken before `out` was last at the first slot, less its number */
    size_t due;        /* objects that are taken when the slow path has a look */
    size_t filled;     /* objects that came from slabs less those that went there: taken less freed,
                        * and kept */
    uint8_t recent[NEOMM__RECENT];
    void *object[]; /* from `out` on, round to `in`; the others are NULL; and one that is not */
};
#define NEOMM__MAGAZINE_FIRST (offsetof(struct neomm__magazine, object) / sizeof(void *))
_Static_assert(NEOMM__MAGAZINE_FIRST + NEOMM__MAGAZINE_MAX <= UINT8_MAX, "`recent` can say where");

static inline size_t neomm__magazine_end(const struct neomm__magazine *magazine)
{
    return NEOMM__MAGAZINE_FIRST + neomm__load_relaxed(&magazine->slots);
}

/* Objects that were taken out of it, since its cache was made. A racy look; one that was never used
 * is all zeros. */
static inline size_t neomm__magazine_taken(const struct neomm__magazine *magazine)
{
    return neomm__load_relaxed(&magazine->passed) + neomm__load_relaxed(&magazine->out);
}

/* What a pointer points at. */
struct neomm__heap_place {
    neomm_frame_t head;       /* first frame of the slab or run */
    uint8_t *base;            /* where that frame lies */
    struct neomm_kmem *cache; /* NULL: a run */
    struct neomm__slab *slab;
    uint32_t index; /* of the object */
};

/* How a cache that keeps nothing in front of its slabs allocates and frees; NULL: as magazine.c
 * does. Pointers, so that the parts are linked only by who asks for them. */
struct neomm__kmem_ops {
    /* `size` as asked for; `caller` a call-site record or return address. NULL also when the cache
     * does not work this way any more. */
    void *(*alloc)(struct neomm *root, struct neomm_kmem *cache, size_t size, neomm_flags_t flags,
                   uintptr_t caller);
    neomm_status (*free)(struct neomm *root, const struct neomm__heap_place *place, void *object,
                         uintptr_t caller);
    /* Of a live object, 0: it is not live. */
    size_t (*usable)(struct neomm *root, const struct neomm__heap_place *place);
    /* Frees objects that wait. NULL: none do. */
    void (*empty)(struct neomm *root, struct neomm_kmem *cache);
    /* In place of one of kmalloc's classes, another that has room behind `size` bytes and is
     * aligned as well; NULL: it has to be a run. The member NULL: this class does. */
    struct neomm_kmem *(*roomier)(struct neomm *root, struct neomm_kmem *cache, size_t size,
                                  size_t align);
    /* More about an object for a report. */
    void (*describe)(struct neomm *root, const struct neomm__heap_place *place,
                     struct neomm_heap_report *report);
    /* Memory for a slab's ledger, NULL: there is none; its end; and the slab begins with it, which
     * is as its bitmap is, under the lock of the cache or before anybody sees the slab. */
    struct neomm__ledger *(*ledger_alloc)(struct neomm *root, const struct neomm_kmem *cache,
                                          neomm_flags_t flags);
    void (*ledger_free)(struct neomm *root, const struct neomm_kmem *cache,
                        struct neomm__ledger *ledger);
    void (*begin)(struct neomm *root, struct neomm__slab *slab, struct neomm__ledger *ledger);
};

enum neomm__kmem_state { NEOMM__KMEM_UNUSED, NEOMM__KMEM_MAKING, NEOMM__KMEM_LIVE };

struct neomm_kmem {
    /* What every call reads. */
    uint32_t size;    /* bytes from one object to the next */
    uint32_t inverse; /* more than 2^32 / size: offset * inverse >> 32 is the index */
    uint32_t limit;   /* modulo 2^32, offset * inverse is less for an object's first byte alone */
    uint32_t stride;  /* bytes from one CPU's magazine to the next; of kmalloc's: of all classes */
    struct neomm__magazine *magazine; /* CPU 0's */
    neomm_construct_fn *construct;
    void *context;
    /* What stays. */
    const char *name;
    uint32_t number; /* of the cache */
    uint32_t state;  /* enum neomm__kmem_state */
    uint32_t object_size, align;
    uint32_t pages, objects; /* of a slab */
    uint32_t pool;           /* of the slabs' records */
    uint32_t capacity;       /* of a magazine: capacity_most, or 0 while there are `ops` */
    uint32_t capacity_most, batch;
    struct neomm__depot *depot;  /* see depot.c; changed under the lock; NULL: there is none */
    uint32_t stored, depot_most; /* objects in it, under the lock; and at most */
    uint32_t flusher;            /* the CPU that flushed last, its index + 1; racy */
    uint32_t interval; /* objects from one that is guarded to the next, about; 0: none is */
    uint32_t profile;  /* enum neomm_heap_profile */
    const struct neomm__kmem_ops *ops;    /* changed under the lock */
    uint32_t epoch;                       /* counts the times that `ops` came; under the lock */
    uint32_t turns;                       /* and those that they changed, or went */
    struct neomm__quarantine *quarantine; /* of a cache that was HARDENED once, see harden.c */
    void (*quarantine_end)(struct neomm *root, struct neomm_kmem *cache);
    size_t held;         /* objects that are neither free in their slab, nor kept, nor live */
    uint32_t empty_kept; /* slabs without live objects that wait for the next request */
    /* Slabs by the number of free objects: first frames. */
    struct neomm__lock lock;
    struct neomm__frame_list list[NEOMM__SLAB_LISTS];
    size_t allocated, freed; /* past the magazines */
    neomm_frame_t magazine_frame;
    uint32_t magazine_frames; /* 0: they lie in the heap's own state */
    uint32_t magazine_bytes;
    uint32_t shut; /* the magazines of all CPUs that were seen are */
} __attribute__((aligned(64)));

/* ---- the heap ---- */

enum neomm__heap_source { NEOMM__SOURCE_MAIN, NEOMM__SOURCE_LARGE, NEOMM__HEAP_SOURCES };

/* A CPU's part. Its size is a power of two, or finding it would take a multiplication. */
struct neomm__heap_cpu {
    struct neomm__magazine *magazine[NEOMM__KMEMS]; /* by the cache's number */
    void *deferred; /* what it freed where it must not wait, linked through the objects */
    uint32_t seen;  /* it has, or may have, magazines with objects in them */
} __attribute__((aligned(NEOMM__KMEMS <= 240 ? 256 * sizeof(void *) : 512 * sizeof(void *))));

/* What the shape of caches depends on, beside their objects' size. */
struct neomm__heap_scale {
    uint32_t ram_frames; /* free when the heap began: what it holds back is in proportion */
    uint32_t magazine;   /* the most objects that a CPU keeps of a cache */
    unsigned step_shift; /* classes a doubling, as a power of two */
};

struct neomm__heap {
    uint32_t classes;
    struct neomm__heap_scale scale;
    size_t limit_pages, held_pages; /* of slabs and runs: the most, and now */
    struct neomm_page_source source[NEOMM__HEAP_SOURCES];
    uint32_t sources;  /* 1, or 2 with a large source */
    bool runs_guarded; /* runs come from the large source, which leaves pages between them */
    struct neomm__guard *guard;            /* objects on pages of their own, see guard.c; or NULL */
    uint32_t sampling;                     /* interval of GUARDED caches */
    const struct neomm__sites *sites;      /* call sites are counted, see site.c; or NULL */
    struct neomm__site_table *site_table;  /* was made, once they were */
    void (*sites_end)(struct neomm *root); /* gives it back */
    uint32_t profile;                      /* of new caches */
    /* Makes a new cache's profile, and tracking, what they are for all; NULL: nothing to do. */
    neomm_status (*adopt)(struct neomm *root, struct neomm_kmem *cache);
    neomm_heap_report_fn *report;
    void *report_context;
    uintptr_t secret;    /* hides the links of what is freed later */
    neomm_frame_t frame; /* where this structure lies */
    uint32_t frames;
    uint32_t draining; /* a CPU, its index + 1, empties magazines: twice that, and 1 if its own */
    struct neomm__heap_cpu *cpu;
    struct neomm__record_pool pool[NEOMM__RECORD_POOLS];
    struct neomm__lock run_lock;
    struct neomm__frame_list runs; /* first frames */
    size_t run_frames, run_bytes;  /* held; requested */
    size_t runs_allocated, runs_freed;
    struct neomm_kmem cache[NEOMM__KMEMS];
};

/* ---- heap_class.c ---- */

/* The class for a size from 1 to NEOMM__HEAP_SLAB_MAX. */
static inline unsigned neomm__heap_class_of(const struct neomm *root, size_t size)
{
    return root->front.class_of[(size - 1) >> NEOMM__HEAP_UNIT_SHIFT];
}
_Static_assert(NEOMM__HEAP_SLAB_MAX == NEOMM__HEAP_UNITS * NEOMM__HEAP_UNIT, "each has a class");
/* Makes the classes, caches 0 to classes - 1, without magazines; and the table of them. */
void neomm__heap_classes_init(struct neomm__heap *heap);
void neomm__heap_class_table(const struct neomm__heap *heap, uint8_t table[NEOMM__HEAP_UNITS]);
/* How slabs and magazines of a cache are for objects of `size` bytes. */
void neomm__kmem_shape(struct neomm_kmem *cache, uint32_t size,
                       const struct neomm__heap_scale *scale);
/* Bytes of one CPU's magazines of all classes. */
size_t neomm__heap_magazines_bytes(const struct neomm__heap_scale *scale);

/* ---- record.c ---- */

/* A zeroed record of a pool, and its physical address for the descriptor's mapping; NULL: no
 * memory. */
void neomm__records_init(struct neomm__heap *heap);
void *neomm__record_alloc(struct neomm *root, uint32_t pool, neomm_flags_t flags,
                          neomm_paddr_t *paddr);
/* Returns the frames given back, 0 or 1. */
uint32_t neomm__record_free(struct neomm *root, neomm_paddr_t paddr);
void *neomm__record_at(const struct neomm *root, neomm_paddr_t paddr);
/* Gives empty frames of the pools back; returns their number. */
uint32_t neomm__records_trim(struct neomm *root);

/* ---- slab.c ---- */

/* Takes up to `want` free objects, at most NEOMM__BATCH_MAX, of the slabs that are there, for a
 * caller to whom the cache works by `ops`. 0: none, or it works by others by now, or, with
 * NEOMM_NOLOCK, somebody else is at them. */
uint32_t neomm__slab_take(struct neomm *root, struct neomm_kmem *cache,
                          const struct neomm__kmem_ops *ops, void **objects, uint32_t want,
                          neomm_flags_t flags);
/* The same of a new slab, whose pages are asked for: no lock is held, and the CPU may change.
 * 0: no memory, or others, or NEOMM_NOLOCK. */
uint32_t neomm__slab_take_new(struct neomm *root, struct neomm_kmem *cache,
                              const struct neomm__kmem_ops *ops, void **objects, uint32_t want,
                              neomm_flags_t flags);
/* Under the lock: takes any one object of the slabs that are there, to be constructed without the
 * lock where *fresh. False: there is none. */
bool neomm__slab_pick(struct neomm *root, struct neomm_kmem *cache, uint32_t random,
                      struct neomm__heap_place *place, bool *fresh);
/* Under the lock: frees one object, see neomm__slab_put. False: it is free. */
bool neomm__slab_put_one(struct neomm *root, struct neomm_kmem *cache,
                         const struct neomm__heap_place *place, struct neomm__frame_list *surplus);
/* Locks a cache, unless NEOMM_NOLOCK forbids to wait for it. */
bool neomm__slabs_lock(struct neomm_kmem *cache, neomm_flags_t flags, neomm_irq_t *irq);
/* Puts objects back into their slabs, at most NEOMM__BATCH_MAX. `surplus` gets the slabs that
 * become empty beyond those that a cache keeps, for neomm__slabs_end. Returns the objects that were
 * free already, which are counted and logged: somebody freed them twice, and their slabs may be
 * gone. */
uint32_t neomm__slab_put(struct neomm *root, struct neomm_kmem *cache, void *const *objects,
                         uint32_t count, struct neomm__frame_list *surplus);
/* Gives slabs back that are in no list of a cache; returns their frames. */
uint32_t neomm__slabs_end(struct neomm *root, struct neomm__frame_list *slabs);
/* All slabs of a cache that ends: what is held in them is never used again. */
void neomm__slabs_end_all(struct neomm *root, struct neomm_kmem *cache);
/* Those of a cache that are empty; returns their frames. */
uint32_t neomm__slabs_trim(struct neomm *root, struct neomm_kmem *cache);
/* Finds the slab and index, or the run, under a pointer. NEOMM_E_FOREIGN; NEOMM_E_INVALID (not
 * the start of an object or run); NEOMM_E_DOUBLE_FREE (in memory that is free by now, or an object
 * that is free in its slab). */
neomm_status neomm__heap_find(struct neomm *root, const void *pointer,
                              struct neomm__heap_place *place);
/* The same for what is known to be an object, which may be free. */
void neomm__slab_place(struct neomm *root, const void *object, struct neomm__heap_place *place);
/* The descriptor of a slab's page anywhere in the direct map; NULL: it is something else. */
const struct neomm__frame *neomm__far_entry(const struct neomm *root, const void *pointer);
static inline bool neomm__slab_is_free(const struct neomm__slab *slab, uint32_t index)
{
    return neomm__load_relaxed(&slab->free_map[index / NEOMM__WORD_BITS]) >>
               index % NEOMM__WORD_BITS &
           1;
}

/* ---- magazine.c ---- */

/* This CPU's magazine, with the caller pinned to it. */
struct neomm__magazine *neomm__magazine_pin(struct neomm *root, const struct neomm_kmem *cache);
/* Enters a magazine of this CPU to do anything with it, unless it is entered or closed; it
 * may have no slots then. */
bool neomm__magazine_visit(const struct neomm__heap *heap, const struct neomm_kmem *cache,
                           struct neomm__magazine *magazine);
/* Inside: takes objects of those that were put there first. The second takes at most as many as are
 * there and may be taken before the slow path has a look; returns their number. */
void neomm__magazine_copy(struct neomm__magazine *magazine, uint32_t count, void **objects);
uint32_t neomm__magazine_take_some(struct neomm__magazine *magazine, uint32_t count,
                                   void **objects);
/* If all that this CPU's magazine lacks is that it begins anew at its first slot: does so. */
bool neomm__magazine_turn(const struct neomm_kmem *cache);
/* Leaves it, for the first lines of kmalloc and kfree to use. */
void neomm__magazine_part(const struct neomm_kmem *cache, struct neomm__magazine *magazine);

/* Enters a new cache's magazines, which are zeroed, in the tables of the CPUs. */
void neomm__magazines_list(struct neomm__heap *heap, const struct neomm_kmem *cache, uint32_t cpus);

/* One object when the magazine has none. NULL: no memory. */
void *neomm__kmem_refill(struct neomm *root, struct neomm_kmem *cache, size_t size, size_t align,
                         neomm_flags_t flags, uintptr_t caller);
/* Whether this CPU keeps the object in its magazine: it was freed. */
bool neomm__kmem_is_kept(const struct neomm_kmem *cache, const void *object);
/* Takes an object back, one that is not free in its slab, when the magazine has no room. What it
 * refuses is counted and logged. */
neomm_status neomm__kmem_flush(struct neomm *root, struct neomm_kmem *cache, void *object);
/* Takes a block back without waiting for anybody; cache NULL: it is a run, or not in the direct
 * map. */
neomm_status neomm__free_nolock(struct neomm *root, const struct neomm_kmem *cache, void *object);
/* Frees what neomm_kfree_nolock put off. */
void neomm__deferred_free(struct neomm *root);
/* Empties the magazines of all CPUs, or of this one alone; returns the objects put back, and in
 * *frames what became free. All: interrupts other CPUs, so not for who may hold a lock. */
uint32_t neomm__heap_drain(struct neomm *root, uint32_t *frames);
uint32_t neomm__heap_drain_own(struct neomm *root, uint32_t *frames);
/* Empties those of the caches [first, end) of all CPUs; adds to *objects and *frames. False: it is
 * being done by this CPU already, or too long by another. */
bool neomm__kmems_empty(struct neomm *root, uint32_t first, uint32_t end, uint32_t *objects,
                        uint32_t *frames);
/* Between the two, one CPU drains the caches [first, end), or takes one of them away; `own`: just
 * its own magazines. False: it is being done by this CPU already, or too long by another. Adds to
 * *frames. */
bool neomm__drain_begin(struct neomm *root, bool own);
uint32_t neomm__kmems_drain(struct neomm *root, uint32_t first, uint32_t end, uint32_t *frames);
void neomm__drain_end(struct neomm *root);
/* Adds the objects allocated and freed since the cache was made; a racy sum, and on 32-bit machines
 * each of its parts may have wrapped: the difference is right as a size_t. */
void neomm__kmem_served(const struct neomm *root, const struct neomm_kmem *cache,
                        uint64_t *allocated, uint64_t *freed);
/* Counts what went past the magazines. */
static inline void neomm__kmem_count(struct neomm_kmem *cache, size_t allocated, size_t freed)
{
    (void)neomm__fetch_add(&cache->allocated, allocated);
    (void)neomm__fetch_add(&cache->freed, freed);
}

/* ---- depot.c ---- */

/* A CPU that refills its magazine behind another that flushed: a depot for the cache, if there is
 * memory for it. Called without locks. */
void neomm__depot_make(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags);
/* Frees a batch into the depot; false: it has no room, or there is none. What was there already is
 * refused: *twice. */
bool neomm__depot_put(struct neomm *root, struct neomm_kmem *cache, void **objects, uint32_t count,
                      uint32_t *twice);
/* Takes up to `want` objects; returns their number. */
uint32_t neomm__depot_take(struct neomm_kmem *cache, void **objects, uint32_t want,
                           neomm_flags_t flags);
/* Ends the depot; what was there goes to the slabs, see neomm__slab_put. Returns the objects. */
uint32_t neomm__depot_empty(struct neomm *root, struct neomm_kmem *cache,
                            struct neomm__frame_list *surplus);
/* For who checks: an object that is there; NULL: it cannot be. */
const void *neomm__depot_object(const struct neomm_kmem *cache, uint32_t index);

/* ---- heap.c ---- */

/* Who called a public function: his call-site record, or the address that it returns to. */
#define NEOMM__CALLER(site) ((site) ? (uintptr_t)(site) : (uintptr_t)__builtin_return_address(0))

/* Frees a block the slow way, one of `cache` if that is not NULL. `function`: what the caller
 * called. */
neomm_status neomm__heap_free(struct neomm *root, const struct neomm_kmem *cache, void *pointer,
                              const char *function, uintptr_t caller);
/* When nothing was to be had: gives back what the heap holds back, or as much of it as may be done
 * under these flags. False: there is no use in trying again. */
bool neomm__heap_relieve(struct neomm *root, neomm_flags_t flags);
/* Makes the frames of the heap's own state say so, or nothing any more. */
void neomm__heap_set_kind(struct neomm *root, neomm_frame_t first, uint32_t frames,
                          enum neomm__kind kind);
/* Gives frames of that state, as neomm_pmm_alloc or neomm_pmm_alloc_range gave them, back to the
 * frame allocator. The page source hears of it first: it may know what is free to be zero. */
void neomm__heap_give_frames(struct neomm *root, neomm_frame_t first, uint32_t frames);
/* neomm_kfree for `function`, in the name of its caller. */
neomm_status neomm__kfree_for(struct neomm *root, void *pointer, const char *function,
                              uintptr_t caller);
/* Gives empty slabs and records back; returns their frames. */
uint32_t neomm__heap_trim(struct neomm *root);
/* Adds one cache's part. */
void neomm__kmem_add_stats(struct neomm *root, struct neomm_kmem *cache,
                           struct neomm_heap_stats *stats);
/* How a cache works now; NULL: by its magazines. */
static inline const struct neomm__kmem_ops *neomm__kmem_ops_of(const struct neomm_kmem *cache)
{
    return neomm__load_acquire(&cache->ops);
}
static inline bool neomm__kmem_is_live(const struct neomm_kmem *cache)
{
    return neomm__load_acquire(&cache->state) == NEOMM__KMEM_LIVE;
}

/* A live block under a pointer, as far as can be told: an object that another CPU keeps looks like
 * one. Errors of neomm__heap_find. */
neomm_status neomm__heap_find_live(struct neomm *root, const void *pointer,
                                   struct neomm__heap_place *place);

/* ---- report.c ---- */

/* The records that the kmalloc macro leaves in the caller's text. */
extern const struct neomm_site __start_neomm_sites[] __attribute__((weak, visibility("hidden")));
extern const struct neomm_site __stop_neomm_sites[] __attribute__((weak, visibility("hidden")));
static inline bool neomm__is_site(uintptr_t caller)
{
    return caller >= (uintptr_t)__start_neomm_sites && caller < (uintptr_t)__stop_neomm_sites;
}
struct neomm_heap_site neomm__heap_site(uintptr_t caller);

/* What is known of an object, for a report. */
void neomm__heap_describe(struct neomm *root, const struct neomm__heap_place *place,
                          struct neomm_heap_report *report);

/* Misuse: counts it, logs it, tells who wants to know. */
void neomm__heap_complain(struct neomm *root, struct neomm_heap_report *report);
/* The same for a free that is refused; returns why. */
neomm_status neomm__heap_refuse(struct neomm *root, const char *function, const void *pointer,
                                neomm_status status);

/* ---- guard.c, through heap->guard ---- */

struct neomm__guard {
    uintptr_t base;   /* of its pages, which may come and go */
    uint32_t seed;    /* that nobody can foresee */
    uint32_t put_off; /* objects that were freed, with pages that have access still */
    /* A live object of the cache; NULL: there can be none now. Changes rights of pages. */
    void *(*alloc)(struct neomm *root, struct neomm_kmem *cache, size_t size, size_t align,
                   uintptr_t caller);
    /* What cannot be freed is reported. `cache` NULL: of any. Changes no rights, see settle. */
    neomm_status (*free)(struct neomm *root, const struct neomm_kmem *cache, void *pointer,
                         const char *function, uintptr_t caller);
    /* All of it later; says nothing of what cannot be freed. */
    neomm_status (*free_nolock)(struct neomm *root, void *pointer, uintptr_t caller);
    /* Takes access away from what was freed. */
    void (*settle)(struct neomm *root);
    neomm_status (*status)(struct neomm *root, const void *pointer); /* error: not live */
    size_t (*usable)(struct neomm *root, const void *pointer);       /* 0: not live */
    void (*describe)(struct neomm *root, const void *pointer, struct neomm_heap_report *report);
    /* The live object of the cache behind this one, and its size; after NULL: the first. */
    const void *(*next)(struct neomm *root, const struct neomm_kmem *cache, const void *after,
                        size_t *size);
    void (*forget)(struct neomm *root, const struct neomm_kmem *cache); /* a cache ends */
    void (*fsck)(struct neomm *root, struct neomm__report *report);
    /* Gives the pages back, if no cache is guarded and no object is live; neomm__guard_begin brings
     * others. */
    void (*retire)(struct neomm *root);
    /* The heap ends. An error: its pages cannot be given back. */
    neomm_status (*end_all)(struct neomm *root);
};

/* Where no object can be. */
#define NEOMM__GUARD_BYTES   ((2 * (uintptr_t)NEOMM_HEAP_GUARDED_MAX + 1) * NEOMM_PAGE_SIZE)
#define NEOMM__GUARD_NOWHERE ((uintptr_t)0 - NEOMM__GUARD_BYTES)

static inline bool neomm__guard_has_pages(const struct neomm__guard *guard)
{
    return neomm__load_relaxed(&guard->base) != NEOMM__GUARD_NOWHERE;
}

static inline bool neomm__guard_owns(const struct neomm__heap *heap, const void *pointer)
{
    const struct neomm__guard *guard = neomm__load_acquire(&heap->guard);
    return guard && (uintptr_t)pointer - neomm__load_relaxed(&guard->base) < NEOMM__GUARD_BYTES;
}

/* For who may wait for calls to other CPUs: not with NEOMM_ATOMIC, nor with a lock of the heap. */
static inline void neomm__guard_settle(struct neomm *root)
{
    const struct neomm__guard *guard = neomm__load_acquire(&root->heap->guard);
    if (guard && neomm__load_relaxed(&guard->put_off) > 0)
        guard->settle(root);
}
static inline void neomm__guard_retire(struct neomm *root)
{
    const struct neomm__guard *guard = neomm__load_acquire(&root->heap->guard);
    if (guard)
        guard->retire(root);
}

/* The objects of a cache that lie in no slab since they are guarded. */
static inline const void *neomm__guard_next(struct neomm *root, const struct neomm_kmem *cache,
                                            const void *after, size_t *size)
{
    const struct neomm__guard *guard = neomm__load_acquire(&root->heap->guard);
    return guard ? guard->next(root, cache, after, size) : NULL;
}

/* ---- site.c, through heap->sites ---- */

struct neomm__sites {
    uint32_t generation; /* from 1: how often tracking began */
    /* A block of `size` bytes came (objects 1) or went (-1), or grew by so many (0), which wrap. */
    void (*count)(struct neomm *root, uintptr_t caller, int objects, size_t size);
    uint64_t (*now)(void);
    /* neomm_heap_sites */
    void (*list)(struct neomm *root, uint32_t most,
                 void (*visit)(void *context, const struct neomm_heap_site_stats *stats),
                 void *context);
};

/* ---- the limit ---- */

/* Before pages are asked for, and when they were not to be had or were given back. False: there
 * would be more than the configuration allows. */
static inline bool neomm__heap_charge(struct neomm__heap *heap, size_t pages)
{
    size_t held = neomm__load_relaxed(&heap->held_pages);
    do {
        if (pages > heap->limit_pages - held)
            return false;
    } while (!neomm__cas(&heap->held_pages, &held, held + pages));
    return true;
}
static inline void neomm__heap_uncharge(struct neomm__heap *heap, size_t pages)
{
    (void)neomm__fetch_sub(&heap->held_pages, pages);
}

/* Pages of a slab or run; NULL: there are none, or the limit is reached. */
static inline void *neomm__pages_take(struct neomm__heap *heap,
                                      const struct neomm_page_source *source, uint32_t pages,
                                      uint32_t align, neomm_flags_t flags)
{
    void *run;
    if (!neomm__heap_charge(heap, pages))
        return NULL;
    if (source->run_alloc(source->context, pages, align, flags, &run) == NEOMM_OK)
        return run;
    neomm__heap_uncharge(heap, pages);
    return NULL;
}
static inline void neomm__pages_give(struct neomm__heap *heap,
                                     const struct neomm_page_source *source, void *run,
                                     uint32_t pages)
{
    source->run_free(source->context, run, pages);
    neomm__heap_uncharge(heap, pages);
}

/* ---- run.c: whole pages ---- */

void *neomm__run_alloc(struct neomm *root, size_t size, uint32_t align, neomm_flags_t flags,
                       uintptr_t caller);
/* The same for a run that will grow. */
void *neomm__run_alloc_moving(struct neomm *root, size_t size, neomm_flags_t flags,
                              uintptr_t caller);
neomm_status neomm__run_free(struct neomm *root, void *pointer,
                             const struct neomm__heap_place *place);
/* Bytes of the live run at `pointer`, 0 if there is none. */
size_t neomm__run_size(struct neomm *root, const void *pointer,
                       const struct neomm__heap_place *place);
/* What is known of the run that the place is in, for a report. */
void neomm__run_describe(struct neomm *root, const struct neomm__heap_place *place,
                         struct neomm_heap_report *report);
/* Makes `size` bytes of the run without copying them, in place or by moving its pages: where it is
 * then. NULL: it cannot be, and is as it was. */
void *neomm__run_resize(struct neomm *root, void *pointer, const struct neomm__heap_place *place,
                        size_t size, neomm_flags_t flags);

/* ---- heap_check.c ---- */

void neomm__heap_fsck(struct neomm *root, struct neomm__report *report);
void neomm__heap_snapshot(struct neomm *root, struct neomm_snapshot *snapshot);
/* Logs the first live objects of all caches, or of one, and of the runs. The magazines are empty.
 */
void neomm__heap_log_leaks(struct neomm *root);
void neomm__kmem_log_leaks(struct neomm *root, const struct neomm_kmem *cache, uint32_t *listed);

#endif
