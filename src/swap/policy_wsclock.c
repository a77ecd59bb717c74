/* WSClock: a clock whose hand looks for a page that left the working set, a clean one if it can.
 * SPDX-License-Identifier: MIT
 *
 * Carr and Hennessy, "WSClock: a simple and effective algorithm for virtual memory management",
 * SOSP 1981. Time is counted in victims, in ticks of policy_tick percent of the pages, but at least
 * a quarter. The hand gives a used page the time of now, passes one that was used in the last two
 * ticks, and takes the first clean one it meets that was not. After 32 pages or a round it takes
 * the first that was not used, whatever its age: eviction itself writes, so no write is begun for a
 * page that stays.
 *
 * A page has three bits for its time, in ticks modulo 8. The hand passes every page at least once
 * in as many victims as there are pages, which are four ticks at most, and makes those of more than
 * three ticks three old; so the difference does not wrap.
 */
#include "policy.h"

enum { STEPS, TICK_LEFT, TICK }; /* of the hand since the last victim; victims to the next tick */

#define TIME       (NEOMM__POLICY_MARK | NEOMM__POLICY_COUNT)
#define TIME_SHIFT NEOMM__POLICY_COUNT_SHIFT
#define WINDOW     2u
#define OLD        3u  /* and older */
#define PATIENCE   32u /* or a round */

static void set_time(struct neomm_policy *policy, neomm_frame_t frame, uint32_t tick)
{
    uint8_t *bits = neomm__policy_bits(policy, frame);
    *bits = (uint8_t)((*bits & ~TIME) | (tick << TIME_SHIFT & TIME));
}

static uint32_t age(struct neomm_policy *policy, neomm_frame_t frame)
{
    uint32_t time = (*neomm__policy_bits(policy, frame) & TIME) >> TIME_SHIFT;
    return (policy->state[TICK] - time) & 7;
}

static void enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter(policy, frame, 0);
    set_time(policy, frame, policy->state[TICK]);
}

static uint32_t tick_length(const struct neomm_policy *policy)
{
    uint32_t wanted = neomm__policy_share(policy, policy->root->config.policy_tick);
    uint32_t least = (policy->count + 3) / 4;
    return wanted < least ? least : wanted;
}

static enum neomm_verdict victim(struct neomm_policy *policy, neomm_frame_t frame)
{
    policy->state[STEPS] = 0;
    if (policy->state[TICK_LEFT] == 0) {
        policy->state[TICK]++;
        policy->state[TICK_LEFT] = tick_length(policy);
    }
    policy->state[TICK_LEFT]--;
    return neomm__policy_condemn(policy, frame);
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    uint32_t old = accessed ? 0 : age(policy, frame);
    bool patient = policy->state[STEPS] < PATIENCE && policy->state[STEPS] < policy->count;
    if (!accessed && (!patient || (old > WINDOW && !dirty)))
        return victim(policy, frame);
    if (accessed || old > OLD)
        set_time(policy, frame, policy->state[TICK] - (accessed ? 0 : OLD));
    policy->state[STEPS]++;
    neomm__policy_move(policy, frame, 0);
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_wsclock = {
    .name = "wsclock",
    .enter = enter,
    .candidates = neomm__policy_from_head,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
