/* What the built-in replacement policies share: a queue in the links of the descriptors, oldest
 * page at the head.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SWAP_POLICY_H
#define NEOMM_SWAP_POLICY_H

#include "base/root.h"

#include <neomm/swap.h>

/* Bits of a descriptor's `policy`. */
#define NEOMM__POLICY_CONDEMNED 0x01u /* the verdict was to evict, and it has not left yet */

void neomm__policy_enter_tail(struct neomm_policy *policy, neomm_frame_t frame);
void neomm__policy_leave(struct neomm_policy *policy, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot);
/* Puts the frame at the tail, as if it had entered now. */
void neomm__policy_pass(struct neomm_policy *policy, neomm_frame_t frame);

/* The first frames of the queue. One that was condemned and is still there could not be evicted,
 * or somebody else is at it: it is passed first, so that a caller who asks again gets on. */
uint32_t neomm__policy_from_head(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max);
enum neomm_verdict neomm__policy_condemn(struct neomm_policy *policy, neomm_frame_t frame);

/* The check of one domain's queue, for the fsck of the layer that has the domain. A policy that
 * a program registered may keep its pages in a shape of its own, and is passed over. */
void neomm__policy_fsck(const struct neomm_policy *policy, struct neomm__report *report);

extern const struct neomm_policy_ops neomm__policy_clock;
extern const struct neomm_policy_ops neomm__policy_fifo;

#endif
