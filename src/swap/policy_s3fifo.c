/* S3-FIFO: new pages in a small queue, from which those that are not used again go soon; the others
 * in a main queue, which is a clock with a count.
 * SPDX-License-Identifier: MIT
 *
 * Yang and others, "FIFO queues are all you need for cache eviction", SOSP 2023. The small queue
 * has a tenth of the pages. The third queue, of pages that are gone, is a time in the record of
 * the slot: pages that went from the small queue are numbered, and one that faults again before as
 * many have followed as the main queue has room for enters there. Accesses are seen as one bit a
 * test, so one is enough to join the main queue, and there the count goes up by tests. Before the
 * small queue is a window (see policy.h).
 */
#include "policy.h"

enum { MAIN, SMALL, WINDOW }; /* queues */
enum { REMEMBERED };          /* the page that enters next was gone for a short time only */

#define SMALL_PERCENT 10u

static void enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter(policy, frame, policy->state[REMEMBERED] ? MAIN : WINDOW);
    policy->state[REMEMBERED] = 0;
}

static bool window_is_full(const struct neomm_policy *policy)
{
    return policy->queue[WINDOW].count >
           neomm__policy_share(policy, policy->root->config.policy_window);
}

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    bool small = policy->queue[SMALL].count > neomm__policy_share(policy, SMALL_PERCENT) ||
                 policy->queue[MAIN].count == 0;
    uint32_t found = 0;
    if (!window_is_full(policy))
        found = neomm__policy_offer(policy, small ? SMALL : MAIN, out, max);
    return found ? found : neomm__policy_offer(policy, WINDOW, out, max);
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    unsigned queue = neomm__policy_queue(policy, frame);
    (void)dirty;
    if (queue == MAIN)
        return neomm__policy_count_down(policy, frame, MAIN, accessed);
    if (queue == WINDOW && window_is_full(policy))
        neomm__policy_move(policy, frame, SMALL);
    else if (accessed)
        neomm__policy_move(policy, frame, MAIN);
    else
        return neomm__policy_condemn(policy, frame);
    return NEOMM_KEEP;
}

static void leave(struct neomm_policy *policy, neomm_frame_t frame,
                  const struct neomm_swap_entry *slot)
{
    bool small = neomm__policy_queue(policy, frame) != MAIN;
    if (small && slot && ++policy->clock == 0)
        policy->clock = 1;
    neomm__policy_set_shadow(policy, slot, small ? policy->clock : 0);
    neomm__policy_leave(policy, frame, slot);
}

static void refault(struct neomm_policy *policy, const struct neomm_swap_entry *slot)
{
    uint32_t number = neomm__policy_shadow(policy, slot);
    uint32_t room = neomm__policy_share(policy, 100 - SMALL_PERCENT);
    policy->state[REMEMBERED] = number != 0 && policy->clock - number < room;
}

const struct neomm_policy_ops neomm__policy_s3fifo = {
    .name = "s3fifo",
    .enter = enter,
    .candidates = candidates,
    .tested = tested,
    .leave = leave,
    .replace = neomm__policy_replace,
    .refault = refault,
};
