/* Generalised clock: second chance with a count. A page that was used since the hand last passed
 * gains one, up to policy_count; one that was not loses one, and goes at 0.
 * SPDX-License-Identifier: MIT
 *
 * Smith, "Sequentiality and prefetching in database systems", ACM TODS 3(3), 1978.
 * The circle is cut open at the hand, as in policy_clock.c.
 */
#include "policy.h"

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    (void)dirty;
    return neomm__policy_count_down(policy, frame, 0, accessed);
}

const struct neomm_policy_ops neomm__policy_gclock = {
    .name = "gclock",
    .enter = neomm__policy_enter_tail,
    .candidates = neomm__policy_from_head,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
