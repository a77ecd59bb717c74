/* Aging: a counter a page of which each tick shifts out a bit, and shifts in at the top whether the
 * page was used since the last tick; the page with the lowest counter goes first.
 * SPDX-License-Identifier: MIT
 *
 * Tanenbaum, "Modern Operating Systems", 4th edition, 3.4.7 (NFU with aging). A tick is a sweep,
 * each time that policy_tick percent of the pages have entered. The counter has 4 bits and is the
 * number of the page's queue; of equals, the one goes first that has been in it longest. A page
 * that is to go and was used since the tick gets its top bit at once.
 */
#include "policy.h"

enum { TOP = NEOMM_POLICY_QUEUES / 2 };

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    uint32_t found = neomm__policy_tick(policy, out, max);
    for (unsigned counter = 0; counter < NEOMM_POLICY_QUEUES && found == 0; counter++)
        found = neomm__policy_offer(policy, counter, out, max);
    return found;
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    unsigned counter = neomm__policy_queue(policy, frame);
    (void)dirty;
    if (neomm__policy_sweep_meets(policy, frame))
        counter >>= 1;
    else if (!accessed)
        return neomm__policy_condemn(policy, frame);
    neomm__policy_move(policy, frame, counter | (accessed ? TOP : 0));
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_aging = {
    .name = "aging",
    .enter = neomm__policy_enter_ticked,
    .candidates = candidates,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
