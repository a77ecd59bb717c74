/* The swap cache: frames that hold what a slot holds, for those who still have its entry.
 * SPDX-License-Identifier: MIT
 *
 * The slot's record names the frame; the frame has the slot (NEOMM__FRAME_SLOT, `owner`), and a
 * count of it. As long as the record names it the frame is there, and nobody who maps it may write
 * to it while the slot has other users: who wants to takes it out first. Callers hold the frame's
 * lock where they add, remove or move it; the area's lock comes below it.
 */
#ifndef NEOMM_SWAP_CACHE_H
#define NEOMM_SWAP_CACHE_H

#include "base/root.h"

#include <neomm/swap.h>

enum neomm__swap_found {
    NEOMM__SWAP_NOT_THERE, /* read it, or the entry is stale */
    NEOMM__SWAP_CACHED,    /* in a frame, of which there is one reference more now */
    NEOMM__SWAP_READING    /* somebody reads it */
};

/* Cost of all: constant. */
enum neomm__swap_found neomm__swap_cache_find(struct neomm *root, struct neomm_swap_entry entry,
                                              neomm_frame_t *frame);
/* From here on others wait for the caller, who has a count of the slot, to read it. False: somebody
 * reads it already; or, unless that does not matter, it is in the cache. */
bool neomm__swap_read_begin(struct neomm *root, struct neomm_swap_entry entry, bool even_if_cached);
void neomm__swap_read_end(struct neomm *root, struct neomm_swap_entry entry);
bool neomm__swap_is_reading(struct neomm *root, struct neomm_swap_entry entry);

/* Nothing happens where another frame is there already, or (remove, move) it is not this one. */
void neomm__swap_cache_add(struct neomm *root, struct neomm_swap_entry entry, neomm_frame_t frame);
void neomm__swap_cache_remove(struct neomm *root, struct neomm_swap_entry entry,
                              neomm_frame_t frame);
void neomm__swap_cache_move(struct neomm *root, struct neomm_swap_entry entry, neomm_frame_t from,
                            neomm_frame_t to);
/* The frame that the record names, nil: none. */
neomm_frame_t neomm__swap_cached(struct neomm *root, struct neomm_swap_entry entry);

/* Do frames and records name each other? Quiescent. */
void neomm__swap_cache_fsck(struct neomm *root, struct neomm__report *report);

#endif
