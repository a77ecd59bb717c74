/* Working set: pages have ages, in ticks since they were last seen used; the oldest goes first.
 * SPDX-License-Identifier: MIT
 *
 * Denning, "The working set model for program behavior", CACM 11(5), 1968. The pages of an age
 * below n ticks are the working set of that window; when frames are given up by need alone, what
 * goes is what the largest window that still fits does without. A tick is a sweep, each time that
 * policy_tick percent of the pages have entered. The age is the number of the page's queue, 15 is
 * 15 or more; of equals, the one goes first that has been in it longest.
 */
#include "policy.h"

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    uint32_t found = neomm__policy_tick(policy, out, max);
    for (unsigned age = NEOMM_POLICY_QUEUES; age > 0 && found == 0; age--)
        found = neomm__policy_offer(policy, age - 1, out, max);
    return found;
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    unsigned age = neomm__policy_queue(policy, frame);
    (void)dirty;
    if (neomm__policy_sweep_meets(policy, frame))
        age += age < NEOMM_POLICY_QUEUES - 1;
    else if (!accessed)
        return neomm__policy_condemn(policy, frame);
    neomm__policy_move(policy, frame, accessed ? 0 : age);
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_ws = {
    .name = "ws",
    .enter = neomm__policy_enter_ticked,
    .candidates = candidates,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
