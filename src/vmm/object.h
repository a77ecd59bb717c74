/* Objects: memory that does not belong to one space.
 * SPDX-License-Identifier: MIT
 *
 *   vmm->object[index] -> object -> pages    tree of words: a frame, or a swap entry
 *   frame descriptor   -> mapping set        its leaves, and (object, page): the way back
 *
 * A leaf of an object's page is present or empty, never a swap entry: what is in swap is found
 * through the object. A page gets a leaf with the object locked, and loses its frame only when its
 * set has the object's entry alone, with the object locked. As long as a frame has the object's
 * entry in its set, the object is there.
 */
#ifndef NEOMM_VMM_OBJECT_H
#define NEOMM_VMM_OBJECT_H

#include "vmm/page_tree.h"
#include "vmm/vmm_priv.h"

struct neomm_pager;
struct neomm__batch;

/* What was read ahead last: pages, up to `next`. */
struct neomm__ahead {
    uint64_t next;
    uint32_t size;
};

struct neomm_object {
    struct neomm__lock lock; /* OBJECT: pages and size */
    uint32_t index;
    uint32_t references; /* handles, regions, and the name */
    uint32_t busy;       /* evictions of its pages: it is not freed before they are over; a futex */
    struct neomm_object *next; /* when it has no references */
    uint64_t size;             /* pages */
    struct neomm__page_tree pages;
    char name[NEOMM_OBJECT_NAME]; /* under spaces_lock; empty: none */
    bool ending;                  /* the same: it has no references, and goes */

    /* With a pager, see cache.h. */
    struct neomm_pager *pager; /* NULL: pages go to swap */
    uint32_t io;               /* a futex: batches ended and under way */
    struct neomm__batch *ended;
    uint64_t bytes, dirty;
    uint64_t hand; /* where shadows are looked at next */
    struct neomm__ahead ahead;
    bool resizing;
};

/* A word of the tree. */
static inline uint64_t neomm__page_of_frame(neomm_frame_t frame)
{
    return (uint64_t)frame.number << 1 | 1;
}

static inline uint64_t neomm__page_of_swap(struct neomm_swap_entry entry)
{
    return (uint64_t)entry.slot << 32 | (uint64_t)entry.generation << 16 |
           (uint64_t)entry.kind << 1;
}

static inline bool neomm__page_is_frame(uint64_t word)
{
    return word & 1;
}

static inline neomm_frame_t neomm__page_frame(uint64_t word)
{
    return neomm_frame((uint32_t)(word >> 1));
}

static inline struct neomm_swap_entry neomm__page_swap(uint64_t word)
{
    return (struct neomm_swap_entry){(uint32_t)(word >> 32), (uint16_t)(word >> 16),
                                     (uint16_t)((word & 0xffff) >> 1)};
}

static inline uint64_t neomm__object_mapping(const struct neomm_object *object, uint64_t page)
{
    return NEOMM__RMAP_OBJECT | (uint64_t)object->index << NEOMM__MAPPING_PAGE_BITS | page;
}

/* One region more, or fewer, has it: index 0 is none. With the last reference it is left to
 * neomm__objects_end, which is called without locks. */
void neomm__object_get(struct neomm *root, uint32_t index);
void neomm__object_put(struct neomm *root, uint32_t index);
void neomm__objects_end(struct neomm *root);

/* The frame becomes a page of the object, which is locked; `slot`, kind none if there is none, is
 * the copy that it keeps. NEOMM_E_NOMEM: nothing has changed. */
neomm_status neomm__object_enter(struct neomm *root, struct neomm_object *object, uint64_t page,
                                 neomm_frame_t frame, struct neomm_swap_entry slot);

/* The page of a frame that is held, is being evicted, and has no leaf and a copy in `slot`, goes.
 * NEOMM_E_AGAIN: it is used again, or was taken away. */
neomm_status neomm__object_evict(struct neomm *root, neomm_frame_t frame,
                                 struct neomm_swap_entry slot);
/* The object that a frame, which is held, is a page of, and its entry; NULL: none any more. It
 * stays until it is dropped. */
struct neomm_object *neomm__object_hold(struct neomm *root, struct neomm__frame *entry,
                                        uint64_t *mapping);
void neomm__object_drop(struct neomm_object *object);
/* Takes all leaves of a page away, and what they say of D; the object is locked, so it gets no new
 * ones. */
void neomm__object_unmap(struct neomm *root, neomm_frame_t frame);

neomm_status neomm__object_create(struct neomm *root, const char *name, uint64_t bytes,
                                  struct neomm_pager *pager, struct neomm_object **object);

/* Takes all leaves of a page away; the object is locked, so it gets no new ones. */
void neomm__object_unmap(struct neomm *root, neomm_frame_t frame);

/* The object's pages, checked; how many frames it has come back. */
uint64_t neomm__object_fsck(struct neomm *root, const struct neomm_object *object,
                            struct neomm__report *report);

#endif
