/* What faults of anonymous memory (fault.c) and of objects (fault_object.c) share.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_FAULT_H
#define NEOMM_VMM_FAULT_H

#include "vmm/vmm_priv.h"

/* One fault and what it has fetched so far. */
struct neomm__fault {
    struct neomm *root;
    struct neomm_space *space;
    struct neomm__region *region; /* that we are inside of, NULL: none */
    neomm_vaddr_t page;
    bool write; /* the page must be the space's own */
    neomm_prot_t region_prot;
    neomm_frame_t frame;          /* fetched and not yet mapped, nil: none */
    struct neomm_swap_entry read; /* whose contents are in the frame, with a count that keeps them
                                   * from being overwritten; kind 0: none's */
    bool reading;                 /* others wait for what it says to be mapped, or dropped */
    bool apart;                   /* the page's frame in the swap cache can have no leaf more */
    neomm_frame_t block;          /* like `frame`, for a huge page */
    bool small;                   /* no huge page, whatever is allowed */
    bool zeroed;                  /* the frame is filled with zeros */
    bool gave;                    /* at the resident limit: a page for the one that comes */
    bool waited;                  /* for the pager */
    unsigned shortages;           /* times that nothing could be freed */
};

/* What a round came to. */
enum neomm__round { NEOMM__FAULT_DONE, NEOMM__FAULT_AGAIN };

/* Ends the fault with a result; the second without success, the last two after one more page of
 * zeros, or any other. */
enum neomm__round neomm__fault_finish(struct neomm_fault_result *result,
                                      enum neomm_fault_outcome outcome, enum neomm_fault_kind kind);
enum neomm__round neomm__fault_fail(struct neomm_fault_result *result,
                                    enum neomm_fault_outcome outcome,
                                    enum neomm_fault_reason reason);
enum neomm__round neomm__fault_zero(struct neomm__fault *work, struct neomm_fault_result *result);
enum neomm__round neomm__fault_other(struct neomm__fault *work, struct neomm_fault_result *result);

/* ---- fetching, outside of the region ---- */

/* What follows may sleep or reclaim; the round ends with it. */
void neomm__fault_leave(struct neomm__fault *work);
/* Gives the count of the slot back; and the frame. */
void neomm__fault_drop_contents(struct neomm__fault *work);
void neomm__fault_drop_frame(struct neomm__fault *work);
/* Takes a frame, at the cost of others' if need be. */
neomm_status neomm__fault_fetch_frame(struct neomm__fault *work, bool zeroed);
/* Reads from swap, and waits for it: the status of the first page. */
neomm_status neomm__fault_read(struct neomm__fault *work, struct neomm_swap_page *page,
                               uint32_t count);
/* Takes a count of the slot that the leaf at vaddr names; false: the leaf is another by now. Inside
 * of the region. */
bool neomm__fault_hold_entry(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                             const struct neomm_swap_entry *entry);

/* The page, if it is in swap still as `entry`, becomes the frame, into which that was read: both,
 * and a count of the slot, are the fault's from now on. With neither of them it is read.
 * NEOMM_FAULT_RESOLVED also where there is nothing to do any more. Without locks. */
enum neomm_fault_outcome neomm__fault_bring(struct neomm *root, struct neomm_space *space,
                                            neomm_vaddr_t page, neomm_frame_t frame,
                                            struct neomm_swap_entry entry,
                                            struct neomm_fault_result *result);

/* A page came back from swap: counts it. */
void neomm__fault_swapped_in(struct neomm__fault *work);

/* What follows from how a read by swap or a pager ended. */
enum neomm__round neomm__fault_was_read(struct neomm__fault *work, neomm_status status,
                                        struct neomm_fault_result *result);

static inline bool neomm__fault_same_entry(const struct neomm_swap_entry *a,
                                           const struct neomm_swap_entry *b)
{
    return a->kind == b->kind && a->slot == b->slot && a->generation == b->generation;
}

/* Memory is short: the space's own pages are tried first. What keeps all pages from going is over
 * soon: others' evictions, regions that are closed. */
enum neomm__round neomm__fault_make_room(struct neomm__fault *work,
                                         struct neomm_fault_result *result);
/* A fault gives a page of the space for the one that it brings, once: others may take the place
 * meanwhile, and it would never come to an end. */
bool neomm__fault_must_give(const struct neomm__fault *work);
enum neomm__round neomm__fault_give(struct neomm__fault *work, struct neomm_fault_result *result);

/* ---- mapping, inside the region ---- */

/* Stores the page's leaf in place of `old`; *last: what that was at the end. */
neomm_status neomm__fault_map(struct neomm__fault *work, const struct neomm_mapping *old,
                              neomm_frame_t frame, neomm_prot_t prot, struct neomm_mapping *last);

/* ---- fault_swap.c ---- */

/* Inside of the region: is the page of a leaf in swap in memory already, or about to come? Then the
 * round is over. */
bool neomm__fault_find(struct neomm__fault *work, const struct neomm_mapping *old,
                       struct neomm_fault_result *result, enum neomm__round *round);
/* Only one reads a slot; false: look again. What ends is the read of `work->read`, if it is ours.
 */
bool neomm__fault_begin_read(struct neomm__fault *work, struct neomm_swap_entry entry);
void neomm__fault_end_read(struct neomm__fault *work);
/* Do others have the entry of what was read? Then it is mapped for all of them. */
bool neomm__fault_is_shared(const struct neomm__fault *work);
enum neomm__round neomm__fault_map_shared(struct neomm__fault *work,
                                          const struct neomm_mapping *old,
                                          struct neomm_fault_result *result);
/* May the only leaf of the frame become writable? From now on others do not find it. */
bool neomm__fault_take(struct neomm *root, neomm_frame_t frame);

/* One round over a page of an object, which `region` maps (fault_object.c). */
enum neomm__round neomm__fault_object(struct neomm__fault *work, const struct neomm__region *region,
                                      struct neomm_fault_result *result);

#endif
