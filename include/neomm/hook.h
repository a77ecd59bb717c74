/* Hooks of the instrumented flavour: what the library tells, and asks, the program that checks
 * it. The production flavour refers to none of these.
 * SPDX-License-Identifier: MIT
 *
 * Hooks may be called with locks held and interrupts masked; they must not call the library.
 */
#ifndef NEOMM_HOOK_H
#define NEOMM_HOOK_H

#include <neomm/types.h>

/* Every place that can run out of something or wait for a device. The sweep of the tests makes
 * each fail, and fails itself when one was never reached. */
#define NEOMM_FAULT_SITE_LIST(X)                                                                   \
    X(PMM_ALLOC)       /* a block of frames */                                                     \
    X(PMM_BULK)        /* one frame of a bulk request */                                           \
    X(PMM_RANGE)       /* a contiguous range */                                                    \
    X(PMM_METADATA)    /* room for bitmap and descriptors at initialisation */                     \
    X(PAGING_TABLE)    /* a page table */                                                          \
    X(PAGING_WINDOW)   /* addresses of the kernel window */                                        \
    X(PAGING_SLOT)     /* a slot for a frame above the direct map */                               \
    X(HEAP_STATE)      /* the heap's own state */                                                  \
    X(HEAP_SLAB)       /* a slab for a class without free objects */                               \
    X(HEAP_RUN)        /* a large run */                                                           \
    X(SWAP_STATE)      /* the swap layer's own state */                                            \
    X(SWAP_AREA)       /* the records of an area */                                                \
    X(SWAP_SLOT)       /* a slot */                                                                \
    X(SWAP_POOL)       /* a frame for the compressed pool */                                       \
    X(SWAP_READ)       /* a page read from a device */                                             \
    X(SWAP_WRITE)      /* a page written to a device */                                            \
    X(VMM_STATE)       /* the layer's own state */                                                 \
    X(VMM_SPACE)       /* an address space */                                                      \
    X(VMM_REGION)      /* a region or a node of the region tree */                                 \
    X(VMM_FRAME)       /* a frame for a fault */                                                   \
    X(VMM_HUGE)        /* a block for a huge page */                                               \
    X(VMM_MIGRATE)     /* a frame for a page that is moved */                                      \
    X(VMM_POLICY)      /* what a change of a replacement policy needs */                           \
    X(VMM_RMAP)        /* a table for a frame's mapping set */                                     \
    X(VMM_OBJECT)      /* an object, or a node of the tree of its pages */                         \
    X(VMM_PAGER_BATCH) /* a batch of requests to a pager that nobody waits for */                  \
    X(VMM_PAGER_READ)  /* a page read by a pager */                                                \
    X(VMM_PAGER_WRITE) /* a page written by a pager, or a flush */

enum neomm_fault_site {
#define NEOMM_FAULT_SITE_ENUM(name) NEOMM_FAULT_SITE_##name,
    NEOMM_FAULT_SITE_LIST(NEOMM_FAULT_SITE_ENUM)
#undef NEOMM_FAULT_SITE_ENUM
        NEOMM_FAULT_SITES
};

/* Every place that invalidates translations. A test may skip each; a run of the tests with one
 * skipped must then end with a report of the stale translation. */
#define NEOMM_FLUSH_SITE_LIST(X)                                                                   \
    X(UNMAP)       /* leaves cleared by unmap */                                                   \
    X(UNMAP_TABLE) /* a table unlinked because it became empty */                                  \
    X(PROTECT)     /* rights narrowed */                                                           \
    X(SPLIT)       /* a large leaf replaced by a table */                                          \
    X(MERGE)       /* a table replaced by a large leaf */                                          \
    X(EXCHANGE)    /* a present entry replaced */                                                  \
    X(HARVEST)     /* accessed or dirty cleared */                                                 \
    X(SLOT)        /* a slot for a high frame reused or released */                                \
    X(PCID)        /* tables loaded again that have changed meanwhile */                           \
    X(SWITCH)      /* other tables loaded */                                                       \
    X(WAKE)        /* what a CPU was spared while it was idle */

enum neomm_flush_site {
#define NEOMM_FLUSH_SITE_ENUM(name) NEOMM_FLUSH_SITE_##name,
    NEOMM_FLUSH_SITE_LIST(NEOMM_FLUSH_SITE_ENUM)
#undef NEOMM_FLUSH_SITE_ENUM
        NEOMM_FLUSH_SITES
};

/* Lock classes in their order: a lock is taken only while all locks held are of earlier
 * classes. Those before TABLES may be held while sleeping. */
#define NEOMM_LOCK_CLASS_LIST(X)                                                                   \
    X(SPACES) /* the table of spaces */                                                            \
    X(SPACE)  /* a space's map */                                                                  \
    X(REGION)                                                                                      \
    X(OBJECT)                                                                                      \
    X(WINDOW)   /* ranges of the kernel window */                                                  \
    X(CODEC)    /* memory to compress pages with */                                                \
    X(TABLES)   /* the page tables of one space */                                                 \
    X(FRAME)    /* a frame's mapping set and slot: a bit in its descriptor */                      \
    X(POLICY)   /* a replacement domain */                                                         \
    X(SWAP)     /* slots of an area */                                                             \
    X(POOL)     /* the compressed pool's chains of frames */                                       \
    X(SLAB)     /* a size class */                                                                 \
    X(PMM)      /* a zone */                                                                       \
    X(PRESSURE) /* stalls and their averages */                                                    \
    X(LOG)

enum neomm_lock_class {
#define NEOMM_LOCK_CLASS_ENUM(name) NEOMM_LOCK_CLASS_##name,
    NEOMM_LOCK_CLASS_LIST(NEOMM_LOCK_CLASS_ENUM)
#undef NEOMM_LOCK_CLASS_ENUM
        NEOMM_LOCK_CLASSES
};

NEOMM_EXTERN_C_BEGIN

/* Shall this attempt fail? */
bool neomm_hook_fault(enum neomm_fault_site site);

/* 2^order frames from `frame` were allocated, or are about to be reusable. */
void neomm_hook_frames_allocated(neomm_frame_t frame, uint32_t count);
void neomm_hook_frames_freed(neomm_frame_t frame, uint32_t count);

/* A freed object of the heap's is nobody's from here on, kept for a CPU or in its slab; or it is
 * somebody's again, or its slab is no more. Not of HARDENED caches, which look at what is free. */
void neomm_hook_object_freed(const void *object, size_t size);
void neomm_hook_object_taken(const void *object, size_t size);

/* The entry at `entry` changes from `before` to `after`; called right behind the store. */
void neomm_hook_entry_stored(neomm_paddr_t entry, uint64_t before, uint64_t after);

/* Shall this invalidation be left out? Asked once an invalidation, before it. */
bool neomm_hook_flush_skipped(enum neomm_flush_site site);

/* A range operation on tables ends here: no CPU may hold a translation through the tables with
 * this root that they do not grant any more. `site` names the invalidation that was due. */
void neomm_hook_settled(neomm_frame_t top, enum neomm_flush_site site);

/* This CPU goes idle now (true): from here on it may keep translations of pages, but no tables,
 * that are no longer so, and must not use them; or it is awake again and has made up for it. */
void neomm_hook_idle(bool idle);

/* Another CPU may run here. */
void neomm_hook_yield(void);
/* *word becomes `value`, for this CPU at once, for others maybe only after its next loads. */
void neomm_hook_store_late(uint32_t *word, uint32_t value);
/* This CPU waits in a loop for another one, which has to run. */
void neomm_hook_spin(void);

void neomm_hook_locked(enum neomm_lock_class lock_class);
void neomm_hook_unlocked(enum neomm_lock_class lock_class);

NEOMM_EXTERN_C_END

#endif
