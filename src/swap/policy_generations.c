/* Generations: pages are grouped by when they were last seen used; the oldest group goes first, and
 * a walk over all pages begins a new group.
 * SPDX-License-Identifier: MIT
 *
 * The model of Linux's multi-generational LRU (Documentation/mm/multigen_lru.rst, 2022), without
 * its tiers and its walk of page tables by region. There are up to four generations; the youngest
 * takes new pages and those found used. A new one begins when only one is left, and while there are
 * fewer than four each time that policy_tick percent of the pages have entered.
 */
#include "policy.h"

enum { OLDEST = NEOMM__SWEEP_STATE, YOUNGEST }; /* numbers; the queue is the number modulo 4 */

#define GENERATIONS 4u

static unsigned queue_of(uint32_t generation)
{
    return generation % GENERATIONS;
}

static void enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter_swept(policy, frame, queue_of(policy->state[YOUNGEST]));
}

/* Does a new generation begin? */
static bool due(struct neomm_policy *policy)
{
    uint32_t *state = policy->state;
    if (state[NEOMM__SWEEP_ON])
        return false;
    while (state[OLDEST] != state[YOUNGEST] && policy->queue[queue_of(state[OLDEST])].count == 0)
        state[OLDEST]++;
    return state[OLDEST] == state[YOUNGEST] ||
           (state[YOUNGEST] - state[OLDEST] < GENERATIONS - 1 && neomm__policy_sweep_due(policy));
}

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    if (due(policy)) {
        policy->state[YOUNGEST]++;
        neomm__policy_sweep_begin(policy);
    }
    uint32_t found = neomm__policy_sweep(policy, out, max);
    for (uint32_t i = 0; i < GENERATIONS && found == 0; i++)
        found = neomm__policy_offer(policy, queue_of(policy->state[OLDEST] + i), out, max);
    return found;
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    unsigned queue = neomm__policy_queue(policy, frame);
    (void)dirty;
    if (!neomm__policy_sweep_meets(policy, frame) && !accessed)
        return neomm__policy_condemn(policy, frame);
    neomm__policy_move(policy, frame, accessed ? queue_of(policy->state[YOUNGEST]) : queue);
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_generations = {
    .name = "generations",
    .enter = enter,
    .candidates = candidates,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
