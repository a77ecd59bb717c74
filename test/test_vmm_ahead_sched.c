/* Pages that are read ahead, while others fault, evict, unmap, fork, exit and move, many schedules
 * of each.
 * SPDX-License-Identifier: MIT */
#include "space_match.h"

static const struct match_plan plans[] = {
    {"fault, fault", {TOUCH, TOUCH}, EVICTED | MAPPED | AHEAD},
    {"fault, evict", {TOUCH, EVICT}, EVICTED | MAPPED | AHEAD},
    {"fault, page out", {TOUCH, PAGE_OUT}, EVICTED | MAPPED | AHEAD},
    {"fault, unmap", {TOUCH, UNMAP}, EVICTED | AHEAD},
    {"fault, protect", {TOUCH, PROTECT}, EVICTED | AHEAD},
    {"fault, fork", {TOUCH, FORK}, EVICTED | MAPPED | AHEAD},
    {"fault, fault in the child", {TOUCH, TOUCH_CHILD}, CHILD | EVICTED | MAPPED | AHEAD},
    {"fault, exit", {TOUCH, EXIT}, CHILD | EVICTED | MAPPED | AHEAD},
    {"fault, move", {TOUCH, MOVE}, EVICTED | AHEAD},
    {"fault, give up", {TOUCH, GIVE_UP}, EVICTED | LOST | AHEAD},
    {"fault, lock, evict", {TOUCH, LOCK, EVICT}, EVICTED | MAPPED | AHEAD},
    {"fault, pin", {TOUCH, PIN}, EVICTED | MAPPED | AHEAD},
    {"fault, fault at the limit", {TOUCH, TOUCH}, EVICTED | LIMITED | MAPPED | AHEAD},
    {"fault, fault, reclaim", {TOUCH, TOUCH, RECLAIM}, EVICTED | MAPPED | AHEAD},
    {"fault, evict, unmap", {TOUCH, EVICT, UNMAP}, EVICTED | AHEAD},
    {"fault, migrate", {TOUCH, MIGRATE}, EVICTED | MAPPED | AHEAD},
    {"fault, swap out", {TOUCH, SWAP_OUT}, MAPPED | AHEAD},
    {"fault from swap, swap out", {TOUCH, SWAP_OUT}, EVICTED | MAPPED | AHEAD},
    {"swap out, swap out", {SWAP_OUT, SWAP_OUT}, MAPPED | AHEAD},
    {"swap out, fork", {SWAP_OUT, FORK}, MAPPED | AHEAD},
    {"swap out, exit, fault", {SWAP_OUT, EXIT, TOUCH}, CHILD | MAPPED | AHEAD},
    {"swap out, unmap", {SWAP_OUT, UNMAP}, AHEAD},
    {"swap out, move", {SWAP_OUT, MOVE}, MAPPED | AHEAD},
    {"swap out, lock, fault", {LOCK, SWAP_OUT, TOUCH}, MAPPED | AHEAD},
    {"swap out, pin", {SWAP_OUT, PIN}, MAPPED | AHEAD},
    {"swap out, evict, fault", {SWAP_OUT, EVICT, TOUCH}, MAPPED | AHEAD},
};

MATCH_SUITE(vmm_ahead_sched);
