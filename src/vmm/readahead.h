/* Reading ahead from swap around a fault (readahead.c).
 * SPDX-License-Identifier: MIT
 *
 * A page read ahead is mapped with A clear, and its frame has a mark until it is known whether it
 * was used: the first time that A of its leaf is seen, by a test of its policy or by the next
 * fault in its block, it was; if it leaves for swap with the mark, it was not.
 */
#ifndef NEOMM_VMM_READAHEAD_H
#define NEOMM_VMM_READAHEAD_H

#include "vmm/evict.h"
#include "vmm/fault.h"

#include <neomm/readahead.h>

/* The page that faults, [0], and those that are read with it, side by side. */
struct neomm__nearby {
    uint32_t count; /* [0] included */
    int direction;  /* 1, -1 */
    struct neomm_swap_page page[NEOMM_READAHEAD_MOST];
};

/* Chooses, with [0] filled in, inside of the region; each of the others has a count of its slot
 * from then on. */
void neomm__readahead_choose(struct neomm__fault *work, struct neomm__nearby *nearby);
/* Takes frames for them, fewer if there is no room; outside. Pages of the space go for them if it
 * is at its limit. */
void neomm__readahead_frames(struct neomm__fault *work, struct neomm__nearby *nearby);
/* Maps those that were read and are still what they were, and gives up the others; outside. Those
 * of a fault whose own page was not read are given up. */
void neomm__readahead_map(struct neomm__fault *work, struct neomm__nearby *nearby);

/* A of the page's leaves was seen set. */
void neomm__readahead_tested(struct neomm__eviction *e);
/* The last leaf of a page is a swap entry now; the frame is locked. */
void neomm__readahead_left(struct neomm *root, struct neomm_space *space,
                           struct neomm__frame *entry, neomm_vaddr_t vaddr);

/* The table, if it is wanted; NEOMM_E_NOMEM. */
neomm_status neomm__readahead_init(struct neomm *root, struct neomm__vmm *vmm, uint32_t most);
void neomm__readahead_fini(struct neomm *root, struct neomm__vmm *vmm);

#endif
