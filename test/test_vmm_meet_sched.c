/* Where parts of swap meet: readahead, the swap cache, the pool, removal of areas, changes of the
 * policy, migration and processes that go as a whole, many schedules of each.
 * SPDX-License-Identifier: MIT */
#include "space_match.h"

static const struct match_plan plans[] = {
    {"ahead: swapoff, fault", {SWAPOFF, TOUCH}, EVICTED | MAPPED | AHEAD},
    {"ahead: swapoff, fault, fork", {SWAPOFF, TOUCH, FORK}, EVICTED | MAPPED | AHEAD},
    {"ahead: swapoff, swap out, fault", {SWAPOFF, SWAP_OUT, TOUCH}, MAPPED | AHEAD},
    {"ahead: swapoff, swap out, fork", {SWAPOFF, SWAP_OUT, FORK}, MAPPED | AHEAD},
    {"ahead: fault, migrate, reclaim", {TOUCH, MIGRATE, RECLAIM}, EVICTED | MAPPED | AHEAD},
    {"ahead: fault, change, evict", {TOUCH, CHANGE_POLICY, EVICT}, EVICTED | MAPPED | AHEAD},
    {"ahead: limit, change, evict", {TOUCH, CHANGE_POLICY, EVICT}, EVICTED | LIMITED | AHEAD},
    {"ahead: child, fork, fault", {TOUCH_CHILD, FORK, TOUCH}, CHILD | EVICTED | MAPPED | AHEAD},
    {"ahead: child, exit, swapoff", {SWAPOFF, EXIT, TOUCH}, CHILD | EVICTED | MAPPED | AHEAD},
    {"change, migrate, unmap at the limit", {CHANGE_POLICY, MIGRATE, UNMAP}, LIMITED},
    {"change, migrate, fork at the limit", {CHANGE_POLICY, MIGRATE, FORK}, LIMITED | MAPPED},
    {"change, evict, unmap at the limit", {CHANGE_POLICY, EVICT, UNMAP}, LIMITED},
    {"change, swap out, fault", {CHANGE_POLICY, SWAP_OUT, TOUCH}, MAPPED},
    {"change, exit, reclaim", {CHANGE_POLICY, EXIT, RECLAIM}, CHILD | MAPPED},
    {"change, give up, evict", {CHANGE_POLICY, GIVE_UP, EVICT}, LIMITED | LOST},
    {"swap out, migrate, fault", {SWAP_OUT, MIGRATE, TOUCH}, MAPPED},
    {"swap out, reclaim, move", {SWAP_OUT, RECLAIM, MOVE}, MAPPED},
    {"swapoff, swap out, reclaim", {SWAPOFF, SWAP_OUT, RECLAIM}, CHILD | MAPPED},
    {"swapoff, migrate, evict", {SWAPOFF, MIGRATE, EVICT}, CHILD | MAPPED},
    {"child, fork, evict", {TOUCH_CHILD, FORK, EVICT}, CHILD | EVICTED | MAPPED},
    {"child, migrate, evict", {TOUCH_CHILD, MIGRATE, EVICT}, CHILD | EVICTED | MAPPED},
    {"fork, fork, reclaim", {FORK, FORK, RECLAIM}, EVICTED | MAPPED},
    {"fault, fork, fault at the limit", {TOUCH, FORK, TOUCH}, EVICTED | LIMITED | MAPPED},
    {"fault, migrate, evict at the limit", {TOUCH, MIGRATE, EVICT}, LIMITED | MAPPED},
};

MATCH_SUITE(vmm_meet_sched);
