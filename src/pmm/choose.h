/* Which block to empty, for whoever moves frames.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_PMM_CHOOSE_H
#define NEOMM_PMM_CHOOSE_H

#include <neomm/pmm.h>
#include <neomm/root.h>

/* The block of 2^9 or (`order` 10) 2^10 frames in the zones that the flags allow, with the fewest
 * frames in use; of movable ones, as far as the counters tell. *after: 0 at first; the next call
 * finds the next one. False: there are no more. Cost: a look at each field of 2 MiB. */
bool neomm__pmm_choose(struct neomm *root, unsigned order, neomm_flags_t flags, uint64_t *after,
                       neomm_frame_t *first);

#endif
