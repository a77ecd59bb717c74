/* Random: any page may go, used or not.
 * SPDX-License-Identifier: MIT
 *
 * Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
 * 5(2), 1966. Pages are linked, so none can be picked by number: the hand of a clock skips 0 to 15
 * pages, all equally likely, before each victim. A page then outlives each pass of the hand with
 * the same probability, whatever its age.
 */
#include "policy.h"

#include <neomm/port.h>

enum { ENTROPY }; /* bits left over, with a 1 in front of them */

static unsigned sixteenth(struct neomm_policy *policy)
{
    uint32_t bits = policy->state[ENTROPY];
    if (bits <= 1)
        bits = ((uint32_t)neomm_port_entropy() & 0x0fffffff) | 0x10000000;
    policy->state[ENTROPY] = bits >> 4;
    return bits & 15;
}

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    if (policy->count == 0)
        return 0;
    for (unsigned skip = sixteenth(policy); skip > 0; skip--)
        neomm__policy_move(policy, neomm_frame(policy->queue[0].head), 0);
    return neomm__policy_offer(policy, 0, out, max < 1 ? max : 1);
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    (void)accessed;
    (void)dirty;
    return neomm__policy_condemn(policy, frame);
}

const struct neomm_policy_ops neomm__policy_random = {
    .name = "random",
    .enter = neomm__policy_enter_tail,
    .candidates = candidates,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
