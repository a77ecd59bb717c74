/* SIEVE: a hand goes from the oldest page to the newest and takes the first that was not used since
 * it last passed; used pages stay where they are.
 * SPDX-License-Identifier: MIT
 *
 * Zhang and others, "SIEVE is simpler than LRU", NSDI 2024. The line of pages is cut at the hand;
 * new pages come to the end of the part ahead. When the hand has reached the end, the part behind
 * it is the line:
 *
 *     line   oldest  A B C D E  newest         hand at C:   behind A B, ahead C D E
 *
 * New pages are in a window first (see policy.h), in the order in which they join the line.
 */
#include "policy.h"

enum { LINE, OTHER, WINDOW }; /* queues; state[0] says which of the first two is ahead */

static unsigned ahead(const struct neomm_policy *policy)
{
    return policy->state[0];
}

/* At the end the hand goes back to the oldest page, before new ones come to the end. */
static void wrap(struct neomm_policy *policy)
{
    if (policy->queue[ahead(policy)].count == 0)
        policy->state[0] ^= 1;
}

static void enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter(policy, frame, WINDOW);
}

static bool window_is_full(const struct neomm_policy *policy)
{
    return policy->queue[WINDOW].count >
           neomm__policy_share(policy, policy->root->config.policy_window);
}

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    if (window_is_full(policy))
        return neomm__policy_offer(policy, WINDOW, out, max);
    wrap(policy);
    uint32_t found = neomm__policy_offer(policy, ahead(policy), out, max);
    return found ? found : neomm__policy_offer(policy, WINDOW, out, max);
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    bool fresh = neomm__policy_queue(policy, frame) == WINDOW;
    (void)dirty;
    if (!accessed && !(fresh && window_is_full(policy)))
        return neomm__policy_condemn(policy, frame);
    if (fresh)
        wrap(policy);
    neomm__policy_move(policy, frame, fresh ? ahead(policy) : ahead(policy) ^ 1);
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_sieve = {
    .name = "sieve",
    .enter = enter,
    .candidates = candidates,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
