/* Second chance: pages stand in a circle, a hand goes round; a page that was used since the hand
 * last passed is spared, its accessed bit cleared.
 * SPDX-License-Identifier: MIT
 *
 * Corbato, "A paging experiment with the Multics system", 1968.
 *
 * The circle is cut open at the hand: the head of the queue is the page the hand points at, the
 * tail the one it passed last. To spare a page is to move it to the tail, and a new page, which
 * takes the victim's place on the circle, enters there too:
 *
 *            hand                             hand
 *             v                                v
 *   circle  A B C D -> spare B, evict C ->  A B N D
 *   queue   B C D A                         D A B N
 */
#include "policy.h"

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    (void)dirty;
    if (!accessed)
        return neomm__policy_condemn(policy, frame);
    neomm__policy_move(policy, frame, 0);
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_clock = {
    .name = "clock",
    .enter = neomm__policy_enter_tail,
    .candidates = neomm__policy_from_head,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
