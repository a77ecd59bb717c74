/* First in, first out: the page that came first goes first, used or not.
 * SPDX-License-Identifier: MIT */
#include "policy.h"

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    (void)accessed;
    (void)dirty;
    return neomm__policy_condemn(policy, frame);
}

const struct neomm_policy_ops neomm__policy_fifo = {
    .name = "fifo",
    .enter = neomm__policy_enter_tail,
    .candidates = neomm__policy_from_head,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
