/* CLOCK-Pro: hot pages and cold ones; a cold page becomes hot if it is used again within its test
 * period, resident or not, and the share of the cold ones grows when that happens and shrinks when
 * test periods pass in vain.
 * SPDX-License-Identifier: MIT
 *
 * Jiang, Chen and Zhang, "CLOCK-Pro: an effective improvement of the CLOCK replacement", USENIX
 * ATC 2005. The pages that are gone are not on the clock: the record of the slot has the number of
 * the page among those that went within their test period, which ends when as many have followed
 * as there are pages. So the hand for test periods is arithmetic, and the others are the heads of
 * two queues. Before the cold queue is a window (see policy.h). The mark of a cold page says that
 * it is in its test period.
 */
#include "policy.h"

enum { COLD, HOT, WINDOW };              /* queues */
enum { COLD_PAGES, GHOSTS, REMEMBERED }; /* wanted; gone and in the test period; see enter */

static void enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter(policy, frame, policy->state[REMEMBERED] ? HOT : WINDOW);
    policy->state[REMEMBERED] = 0;
}

static void want_more_cold(struct neomm_policy *policy)
{
    if (policy->state[COLD_PAGES] < policy->count)
        policy->state[COLD_PAGES]++;
}

static bool window_is_full(const struct neomm_policy *policy)
{
    return policy->queue[WINDOW].count >
           neomm__policy_share(policy, policy->root->config.policy_window);
}

static bool too_many_hot(const struct neomm_policy *policy)
{
    return policy->queue[HOT].count + policy->state[COLD_PAGES] >= policy->count;
}

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    uint32_t found = 0;
    if (window_is_full(policy))
        return neomm__policy_offer(policy, WINDOW, out, max);
    if (too_many_hot(policy) || policy->queue[COLD].count == 0)
        found = neomm__policy_offer(policy, HOT, out, max);
    if (found == 0)
        found = neomm__policy_offer(policy, COLD, out, max);
    return found ? found : neomm__policy_offer(policy, WINDOW, out, max);
}

static enum neomm_verdict test_cold(struct neomm_policy *policy, neomm_frame_t frame, bool accessed)
{
    bool in_test = neomm__policy_has(policy, frame, NEOMM__POLICY_MARK);
    if (!accessed)
        return neomm__policy_condemn(policy, frame);
    neomm__policy_move(policy, frame, in_test ? HOT : COLD);
    neomm__policy_mark(policy, frame, !in_test);
    if (in_test)
        want_more_cold(policy);
    return NEOMM_KEEP;
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    unsigned queue = neomm__policy_queue(policy, frame);
    (void)dirty;
    if (queue == COLD)
        return test_cold(policy, frame, accessed);
    if (queue == WINDOW && !accessed && !window_is_full(policy))
        return neomm__policy_condemn(policy, frame);
    if (queue == WINDOW)
        neomm__policy_mark(policy, frame, true);
    neomm__policy_move(policy, frame, queue == HOT && accessed ? HOT : COLD);
    return NEOMM_KEEP;
}

/* One more page is gone and in its test period; the first of too many has had its chance. */
static uint32_t remember(struct neomm_policy *policy)
{
    if (++policy->clock == 0)
        policy->clock = 1;
    if (policy->state[GHOSTS] < policy->count)
        policy->state[GHOSTS]++;
    else if (policy->state[COLD_PAGES] > 0)
        policy->state[COLD_PAGES]--;
    return policy->clock;
}

static void leave(struct neomm_policy *policy, neomm_frame_t frame,
                  const struct neomm_swap_entry *slot)
{
    bool in_test = neomm__policy_has(policy, frame, NEOMM__POLICY_MARK);
    neomm__policy_set_shadow(policy, slot, slot && in_test ? remember(policy) : 0);
    neomm__policy_leave(policy, frame, slot);
}

static void refault(struct neomm_policy *policy, const struct neomm_swap_entry *slot)
{
    uint32_t number = neomm__policy_shadow(policy, slot);
    bool in_test = number != 0 && policy->clock - number < policy->count;
    policy->state[REMEMBERED] = in_test;
    if (!in_test)
        return;
    want_more_cold(policy);
    if (policy->state[GHOSTS] > 0)
        policy->state[GHOSTS]--;
}

const struct neomm_policy_ops neomm__policy_clockpro = {
    .name = "clockpro",
    .enter = enter,
    .candidates = candidates,
    .tested = tested,
    .leave = leave,
    .replace = neomm__policy_replace,
    .refault = refault,
};
