/* Not recently used: pages fall into four classes, by whether they were used since the last tick
 * and whether they are dirty; a page of the lowest class that has any goes first.
 * SPDX-License-Identifier: MIT
 *
 * Tanenbaum, "Modern Operating Systems", 4th edition, 3.4.2. A tick is a sweep that clears all
 * accessed bits, each time that policy_tick percent of the pages have entered. Within a class the
 * page that has been in it longest goes first. A page is put in its class when it is tested: it
 * can only have risen since the tick, so the lowest classes are looked through from the bottom.
 *
 *   queue   0 unused, clean   1 unused, dirty   2 used, clean   3 used, dirty
 */
#include "policy.h"

enum { USED = 2, CLASSES = 4 };

static uint32_t candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    uint32_t found = neomm__policy_tick(policy, out, max);
    for (unsigned rank = 0; rank < CLASSES && found == 0; rank++)
        found = neomm__policy_offer(policy, rank, out, max);
    return found;
}

static enum neomm_verdict tested(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty)
{
    unsigned now = neomm__policy_queue(policy, frame), used = accessed ? USED : now & USED;
    if (neomm__policy_sweep_meets(policy, frame)) {
        neomm__policy_move(policy, frame, dirty);
        return NEOMM_KEEP;
    }
    if (now == (used | dirty))
        return neomm__policy_condemn(policy, frame);
    neomm__policy_move(policy, frame, used | dirty);
    return NEOMM_KEEP;
}

const struct neomm_policy_ops neomm__policy_nru = {
    .name = "nru",
    .enter = neomm__policy_enter_ticked,
    .candidates = candidates,
    .tested = tested,
    .leave = neomm__policy_leave,
    .replace = neomm__policy_replace,
};
