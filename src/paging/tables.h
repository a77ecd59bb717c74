/* Inside the paging layer: its state, and the operations that each format's engine supplies.
 * SPDX-License-Identifier: MIT
 *
 * A page table is a frame of kind TABLE. Its descriptor holds
 *   owner      the space, 0 for the kernel's
 *   mappings   its lock: free, held, or dead (taken out of the tables, never to be had again)
 *   mapping    how many of its entries are not zero; one more for a table that is kept even when
 *              it is empty (pinned), so that a count of 0 always means: take it out
 *   links      of a root table: the list of all spaces' roots; of others `next` alone: the list
 *              of those that an operation has locked, or is about to free
 */
#ifndef NEOMM_PAGING_TABLES_H
#define NEOMM_PAGING_TABLES_H

#include "base/root.h"

#include <neomm/handover.h>
#include <neomm/paging.h>

/* Ranges of the kernel window, see window_ranges.c. */
struct neomm__window {
    struct neomm__lock lock;
    uint32_t first; /* frame of the first chunk, 0: none */
    uint32_t ranges;
};

struct neomm__paging {
    uint32_t frame; /* that holds this structure */
    const struct neomm__engine *engine;
    struct neomm_tables kernel;
    struct neomm__lock order;       /* never taken: stands for all tables' locks in their order */
    struct neomm__lock lock;        /* of roots */
    struct neomm__frame_list roots; /* root tables of spaces */
    uint32_t table_frames;          /* of all spaces and the kernel, root tables too */
    struct neomm_cpumask online;    /* CPUs that get shootdowns of kernel addresses */
    struct neomm__window window;
    uint64_t nx;          /* bit 63 where the CPU has NX, else 0 */
    uint32_t leaf_levels; /* bit n: leaves at level n; bit 0 always */
    uint32_t flush_pages; /* see neomm_paging_options */
    bool pat;             /* the CPUs have it, and with it write-combining */
    bool pcids;           /* the CPUs have them, and global leaves */
    size_t serials;       /* given to tables so far; the kernel's is 1 */
};

/* What a map operation is to do. frames NULL: contiguous from paddr. */
struct neomm__map_request {
    neomm_vaddr_t vaddr, last;
    neomm_paddr_t paddr;
    const neomm_frame_t *frames;
    neomm_prot_t prot;
    enum neomm_cache cache;
    uint32_t leaf_levels; /* allowed ones */
};

/* Operations on a range [vaddr, last] that has been checked. All but query, set_slot and those that
 * make, end and check tables lock the tables that they need. */
struct neomm__engine {
    unsigned levels;
    neomm_vaddr_t top_span; /* bytes that an entry of the root table covers */
    uint32_t large_levels;  /* leaves the format has above level 0 */
    /* Makes the root table and what is fixed below it; its lock is the caller's affair. */
    neomm_status (*create)(struct neomm *root, struct neomm_tables *tables);
    /* Frees all tables; there is no leaf left. */
    void (*destroy)(struct neomm *root, struct neomm_tables *tables);
    /* Makes the tables for the range down to `level`, which is below the root's. */
    neomm_status (*reserve)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last, unsigned level);
    /* Once, before the first space is made: the kernel's root entries never change again. */
    void (*seal)(struct neomm *root);
    neomm_status (*map)(struct neomm *root, struct neomm_tables *tables,
                        const struct neomm__map_request *request);
    neomm_status (*unmap)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                          neomm_vaddr_t last, neomm_leaf_fn *released, void *context);
    neomm_status (*protect)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last, neomm_prot_t prot);
    neomm_status (*copy)(struct neomm *root, struct neomm_tables *from, struct neomm_tables *to,
                         neomm_vaddr_t vaddr, neomm_vaddr_t last, neomm_leaf_fn *share,
                         void *context);
    /* Returns how many tables became a leaf of `level`. */
    uint32_t (*merge)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                      neomm_vaddr_t last, unsigned level);
    /* Sees to it that a leaf begins at `at`, or ends there, if there is one. */
    neomm_status (*split_at)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t at,
                             bool ends);
    void (*query)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                  struct neomm_mapping *mapping);
    neomm_status (*exchange)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                             const struct neomm_mapping *expect, const struct neomm_mapping *next,
                             struct neomm_mapping *last, bool exact);
    void (*harvest)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                    neomm_vaddr_t last, bool clear_dirty, neomm_leaf_fn *visit, void *context);
    /* Cleans the leaves of pages of one part, ascending, or swaps them out. */
    void (*victims)(struct neomm *root, struct neomm_tables *tables,
                    struct neomm_paging_victim *victims, uint32_t count, bool out);
    void (*walk)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                 neomm_vaddr_t last, neomm_leaf_fn *visit, void *context);
    /* Is any leaf or swap entry in the range? */
    bool (*occupied)(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                     neomm_vaddr_t last);
    /* Points a slot at a frame, or at nothing (nil). Only the slot's CPU calls; no lock. */
    void (*set_slot)(struct neomm *root, neomm_vaddr_t vaddr, neomm_frame_t frame);
    /* Checks the tables under a root table; returns how many there are. */
    uint32_t (*check)(struct neomm *root, neomm_frame_t top, uint32_t owner,
                      struct neomm__report *report);
    /* A loader's tables, see neomm/handover.h; `last`: of the direct map's part that is wanted. */
    neomm_status (*loader_walk)(struct neomm_handover *handover, neomm_vaddr_t vaddr,
                                neomm_vaddr_t last, neomm_leaf_fn *visit, void *context);
    uint32_t (*loader_frames)(const struct neomm_handover *handover,
                              const struct neomm_area *direct, neomm_vaddr_t last);
    neomm_status (*loader_direct)(struct neomm_handover *handover, const struct neomm_area *direct,
                                  neomm_vaddr_t last, neomm_paddr_t tables, uint32_t frames);
    /* One entry as the format writes it, and read back: for tests. */
    uint64_t (*encode)(const struct neomm__paging *paging, unsigned level, bool user,
                       const struct neomm_mapping *mapping);
    void (*decode)(unsigned level, uint64_t entry, struct neomm_mapping *mapping);
};

/* The engine of a format of this architecture, NULL for the others. */
const struct neomm__engine *neomm__engine_of(enum neomm_format format);

/* ---- table_frames.c ---- */

/* A zeroed table; NEOMM_E_NOMEM. */
neomm_status neomm__table_alloc(struct neomm *root, uint32_t owner, neomm_frame_t *frame);
void neomm__table_free(struct neomm *root, neomm_frame_t frame);
/* `count` of them on an empty list, all or none, contents undefined. */
neomm_status neomm__table_alloc_list(struct neomm *root, uint32_t owner, uint32_t count,
                                     struct neomm__frame_list *list);
/* One, also from the reserve: splitting leaves is on the way to giving memory back. */
neomm_status neomm__table_alloc_to_split(struct neomm *root, uint32_t owner,
                                         struct neomm__frame_list *list);
/* Those that were not linked. */
void neomm__table_free_list(struct neomm *root, struct neomm__frame_list *list);
/* Frees dead tables, linked by `next` from frame `first` on, when nobody can be in them. No lock is
 * held. */
void neomm__table_free_dead(struct neomm *root, uint32_t first);

/* ---- tables' locks ---- */

enum { NEOMM__TABLE_FREE, NEOMM__TABLE_HELD, NEOMM__TABLE_DEAD };

static inline bool neomm__table_try_lock(struct neomm__frame *about)
{
    uint32_t expected = NEOMM__TABLE_FREE;
    return neomm__cas(&about->mappings, &expected, NEOMM__TABLE_HELD);
}

static inline void neomm__table_unlock(struct neomm__frame *about)
{
    neomm__store_release(&about->mappings, NEOMM__TABLE_FREE);
}

/* The table is locked, and not linked any more. */
static inline void neomm__table_kill(struct neomm__frame *about)
{
    neomm__store_release(&about->mappings, NEOMM__TABLE_DEAD);
}

static inline bool neomm__table_is_held(const struct neomm__frame *about)
{
    return neomm__load_relaxed(&about->mappings) == NEOMM__TABLE_HELD;
}

static inline bool neomm__table_is_dead(const struct neomm__frame *about)
{
    return neomm__load_relaxed(&about->mappings) == NEOMM__TABLE_DEAD;
}

/* This CPU has all the locks that an operation needs, or none of them any more. */
static inline void neomm__tables_note_locked(struct neomm *root)
{
#if NEOMM_INSTRUMENTED
    neomm__lock_note_taken(&root->paging->order);
#else
    (void)root;
#endif
}

static inline void neomm__tables_note_unlocked(struct neomm *root)
{
#if NEOMM_INSTRUMENTED
    neomm__lock_note_released(&root->paging->order);
#else
    (void)root;
#endif
}

static inline void *neomm__table_pointer(const struct neomm *root, neomm_frame_t frame)
{
    return (void *)(root->layout.direct.base + (neomm_vaddr_t)neomm_frame_paddr(frame) +
                    (neomm_vaddr_t)root->layout.direct.delta);
}

static inline bool neomm__tables_are_kernel(const struct neomm *root,
                                            const struct neomm_tables *tables)
{
    return tables == &root->paging->kernel;
}

/* ---- sets of CPUs ---- */

static inline void neomm__cpumask_set(struct neomm_cpumask *mask, uint32_t cpu)
{
    (void)neomm__fetch_or(&mask->word[cpu / 32], (uint32_t)1 << cpu % 32);
}

static inline void neomm__cpumask_clear(struct neomm_cpumask *mask, uint32_t cpu)
{
    (void)neomm__fetch_and(&mask->word[cpu / 32], ~((uint32_t)1 << cpu % 32));
}

static inline bool neomm__cpumask_is_empty(const struct neomm_cpumask *mask)
{
    for (unsigned i = 0; i < NEOMM_CPU_WORDS; i++)
        if (neomm__load_acquire(&mask->word[i]) != 0)
            return false;
    return true;
}

/* ---- handover.c ---- */

/* What the loader's PAT has in that entry; false: a type that has no name here. */
bool neomm__handover_type(const struct neomm_handover *handover, unsigned index,
                          enum neomm_cache *cache);

/* ---- paging.c ---- */

/* Is it whole pages in an area in which the kernel's tables may be changed? */
neomm_status neomm__paging_check_kernel(const struct neomm *root, neomm_vaddr_t vaddr, size_t size);

/* Is any leaf or swap entry in the range? In parts. */
bool neomm__paging_occupied(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last);

/* ---- cache_type.c ---- */

/* May this memory be mapped with this type, beside what is mapped already? NEOMM_E_INVALID,
 * NEOMM_E_UNSUPPORTED, NEOMM_E_ACCESS. Cost: a walk of the area for devices. Locks: pmm, tables. */
neomm_status neomm__cache_type_check(struct neomm *root, neomm_paddr_t paddr, size_t size,
                                     enum neomm_cache cache);

/* ---- high_slots.c ---- */
void neomm__slots_init(struct neomm *root);
void neomm__slots_fini(struct neomm *root);

/* ---- window_ranges.c ---- */
void neomm__window_init(struct neomm__window *window);
void neomm__window_check(struct neomm *root, struct neomm__report *report);

#endif
