/* The default: a window, then a queue of fresh pages and a clock with a count for the others, with
 * two feedbacks from pages that come back: how many pages may be fresh, and whether new pages are
 * worth keeping at all.
 * SPDX-License-Identifier: MIT
 *
 *                  kept                 used                     used: +1, else -1
 *   new -> WINDOW -------> FRESH ---------------> MAIN, a clock ---+
 *             |              | not used             |              |
 *             v hasty        v                      v at 0  <------+
 *
 * The share of FRESH follows refaults as in ARC (Megiddo and Modha, FAST 2003) and CAR (Bansal and
 * Modha, FAST 2004): a page that comes back soon after it went from FRESH asks for more fresh
 * pages, one that went from MAIN for fewer.
 *
 * In a loop over more pages than there are frames every order by recency evicts each page just
 * before its next use; to keep any part of the loop is better, and that means to let new pages go
 * at once. As in EELRU (Smaragdakis, Kaplan and Wilson, SIGMETRICS 1999), uses of fresh pages
 * (EARLY: they were worth keeping) are weighed against refaults shortly after a page went at its
 * turn (LATE: with a little more room it would have been hit). Where the latter prevail, only as
 * many new pages are kept as the two say, evenly spread (bimodal insertion, Qureshi and others,
 * ISCA 2007); the others go straight from the window, and if such a page comes back soon (HASTY),
 * that speaks for keeping, too, with less weight. All three fade by half each time that twice as
 * many pages have entered as there are.
 */
#include "policy.h"

/* Queues. A page whose verdict was to go is LEAVING, with the queue that it comes from as its
 * count, so that it is counted in that no more while others are chosen to go with it. */
enum { MAIN, FRESH, WINDOW, LEAVING };

/* FRESH_PAGES: wanted. DEBT: of keeping, see worth_keeping. ENTERED: since the counts faded. KEPT:
 * pages tested since the last one left for swap. */
enum { FRESH_PAGES, EARLY, LATE, HASTY, DEBT, ENTERED, KEPT };

#define SOON_PERCENT 25u /* of the pages, in victims: a page that comes back by then */
#define STEP         4u  /* pages that one such refault moves the border of FRESH by */
#define WEIGHT       4u  /* of EARLY and LATE; HASTY has 1 */
#define LEAST        64u /* one new page of so many is kept in any case */

static void fade(struct neomm_policy *policy)
{
    uint32_t *state = policy->state;
    if (++state[ENTERED] < 2 * policy->count)
        return;
    state[ENTERED] = 0;
    state[EARLY] /= 2;
    state[LATE] /= 2;
    state[HASTY] /= 2;
}

static void enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    fade(policy);
    neomm__policy_enter(policy, frame, WINDOW);
}

static bool window_is_full(const struct neomm_policy *policy)
{
    return policy->queue[WINDOW].count >
           neomm__policy_share(policy, policy->root->config.policy_window);
}

/* Five times as many tests as there are pages found none that may go: others may not be able to. */
static bool is_stuck(const struct neomm_policy *policy)
{
    return policy->state[KEPT] > 5 * policy->count;
}

static unsigned origin(const struct neomm_policy *policy, neomm_frame_t frame)
{
    unsigned queue = neomm__policy_queue(policy, frame);
    return queue == LEAVING ? neomm__policy_count(policy, frame) : queue;
}

static enum neomm_verdict condemn(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_set_count(policy, frame, neomm__policy_queue(policy, frame));
    neomm__policy_move(policy, frame, LEAVING);
    return NEOMM_EVICT;
}

/* It could not go. */
static void come_back(struct neomm_policy *policy, neomm_frame_t frame)
{
    unsigned queue = neomm__policy_count(policy, frame);
    neomm__policy_set_count(policy, frame, 0);
    neomm__policy_move(policy, frame, queue);
}

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    const struct neomm_policy_queue *fresh = &policy->queue[FRESH];
    uint32_t found = 0;
    if (policy->state[KEPT] >= policy->count) /* some that were to go did not */
        found = neomm__policy_offer(policy, LEAVING, out, max);
    if (found != 0)
        return found;
    if (window_is_full(policy) || is_stuck(policy))
        found = neomm__policy_offer(policy, WINDOW, out, max);
    if (found == 0 && (fresh->count > policy->state[FRESH_PAGES] || is_stuck(policy)))
        found = neomm__policy_offer(policy, FRESH, out, max);
    if (found == 0)
        found = neomm__policy_offer(policy, MAIN, out, max);
    if (found == 0)
        found = neomm__policy_offer(policy, FRESH, out, max);
    if (found == 0)
        found = neomm__policy_offer(policy, WINDOW, out, max);
    return found ? found : neomm__policy_offer(policy, LEAVING, out, max);
}

/* Shall the page that leaves the window be kept? DEBT spreads those that are. */
static bool worth_keeping(struct neomm_policy *policy)
{
    uint32_t *state = policy->state;
    uint32_t against = state[LATE] * WEIGHT;
    uint32_t in_favour = state[EARLY] * WEIGHT + state[HASTY];
    if (in_favour < against / LEAST)
        in_favour = against / LEAST;
    if (in_favour >= against)
        return true;
    state[DEBT] += in_favour;
    if (state[DEBT] < against)
        return false;
    state[DEBT] -= against;
    return true;
}

/* The bit of a page in the window says nothing: the fault that brought it has set it. */
static enum neomm_verdict test_window(struct neomm_policy *policy, neomm_frame_t frame)
{
    if (!is_stuck(policy) && (!window_is_full(policy) || !worth_keeping(policy)))
        return condemn(policy, frame);
    neomm__policy_move(policy, frame, FRESH);
    return NEOMM_KEEP;
}

static enum neomm_verdict test_others(struct neomm_policy *policy, neomm_frame_t frame,
                                      bool accessed)
{
    bool fresh = neomm__policy_queue(policy, frame) == FRESH;
    if (!accessed &&
        (fresh || neomm__policy_count(policy, frame) == 0 || policy->state[KEPT] >= policy->count))
        return condemn(policy, frame);
    if (!fresh)
        return neomm__policy_count_down(policy, frame, MAIN, accessed);
    policy->state[EARLY]++;
    neomm__policy_move(policy, frame, MAIN);
    return NEOMM_KEEP;
}

/* A search of as many tests as there are pages has been long enough: the next page that was not
 * used goes, whatever its count. */
static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    if (neomm__policy_queue(policy, frame) == LEAVING)
        come_back(policy, frame);
    bool fresh = neomm__policy_queue(policy, frame) == WINDOW;
    enum neomm_verdict verdict =
        fresh ? test_window(policy, frame) : test_others(policy, frame, accessed);
    (void)dirty;
    policy->state[KEPT]++;
    return verdict;
}

/* The note of a page that is gone: its number among the victims, and where it went from. */
static void leave(struct neomm_policy *policy, neomm_frame_t frame,
                  const struct neomm_swap_entry *slot)
{
    unsigned queue = origin(policy, frame);
    if (slot) {
        policy->state[KEPT] = 0;
        neomm__policy_set_shadow(policy, slot, ++policy->clock << 2 | (queue + 1));
    }
    neomm__policy_leave(policy, frame, slot);
}

static void refault(struct neomm_policy *policy, const struct neomm_swap_entry *slot)
{
    uint32_t note = neomm__policy_shadow(policy, slot), *state = policy->state;
    uint32_t since = ((policy->clock << 2 | 3) - note) >> 2;
    if (note == 0 || since > neomm__policy_share(policy, SOON_PERCENT))
        return;
    unsigned queue = (note & 3) - 1;
    if (queue == WINDOW) {
        state[HASTY]++;
        return;
    }
    state[LATE]++;
    uint32_t least = neomm__policy_share(policy, 5), most = policy->count - least;
    uint32_t wanted = state[FRESH_PAGES] + STEP;
    if (queue == MAIN)
        wanted = state[FRESH_PAGES] > STEP ? state[FRESH_PAGES] - STEP : 0;
    state[FRESH_PAGES] = wanted < least ? least : wanted > most ? most : wanted;
}

const struct neomm_policy_ops neomm__policy_adaptive = {
    .name = "adaptive",
    .enter = enter,
    .candidates = candidates,
    .tested = tested,
    .leave = leave,
    .replace = neomm__policy_replace,
    .refault = refault,
};
