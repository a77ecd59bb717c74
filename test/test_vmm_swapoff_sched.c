/* Removing an area of swap beside faults, eviction, fork, exit and calls on ranges: many schedules
 * of each.
 * SPDX-License-Identifier: MIT */
#include "space_match.h"

static const struct match_plan plans[] = {
    {"swapoff", {SWAPOFF, TOUCH}, EVICTED | MAPPED},
    {"swapoff, swapoff", {SWAPOFF, SWAPOFF}, EVICTED | MAPPED},
    {"swapoff, evict", {SWAPOFF, EVICT}, MAPPED},
    {"swapoff, evict, fault", {SWAPOFF, EVICT, TOUCH}, EVICTED | MAPPED},
    {"swapoff, reclaim", {SWAPOFF, RECLAIM}, EVICTED | MAPPED},
    {"swapoff, fork", {SWAPOFF, FORK}, EVICTED | MAPPED},
    {"swapoff, fork, fault", {SWAPOFF, FORK, TOUCH}, EVICTED | MAPPED},
    {"swapoff, exit", {SWAPOFF, EXIT}, CHILD | EVICTED | MAPPED},
    {"swapoff, copy by the child", {SWAPOFF, TOUCH_CHILD}, CHILD | EVICTED | MAPPED},
    {"swapoff, copy by the kernel", {SWAPOFF, COPY_OUT}, EVICTED | MAPPED},
    {"swapoff, unmap", {SWAPOFF, UNMAP}, EVICTED},
    {"swapoff, protect", {SWAPOFF, PROTECT}, EVICTED | MAPPED},
    {"swapoff, move", {SWAPOFF, MOVE}, EVICTED},
    {"swapoff, lock", {LOCK, SWAPOFF}, EVICTED | MAPPED},
    {"swapoff, give up", {SWAPOFF, GIVE_UP}, EVICTED | LOST},
    {"swapoff, pin", {SWAPOFF, PIN}, EVICTED | MAPPED},
    {"swapoff, page out", {SWAPOFF, PAGE_OUT}, MAPPED},
    {"swapoff, migrate", {SWAPOFF, MIGRATE, TOUCH}, EVICTED | MAPPED},
    {"swapoff, fault at the limit", {SWAPOFF, TOUCH}, EVICTED | LIMITED | MAPPED},
    {"swapoff, exit, reclaim", {SWAPOFF, EXIT, RECLAIM}, CHILD | EVICTED | MAPPED},
    {"shared: swapoff, fault", {SWAPOFF, TOUCH}, EVICTED | MAPPED | SHARED},
    {"shared: swapoff, fault, reclaim", {SWAPOFF, TOUCH, RECLAIM}, EVICTED | MAPPED | SHARED},
    {"shared: swapoff, evict", {SWAPOFF, EVICT}, CHILD | MAPPED | SHARED},
    {"shared: swapoff, truncate", {SWAPOFF, TRUNCATE}, EVICTED | SHARED},
    {"shared: swapoff, exit", {SWAPOFF, EXIT}, CHILD | EVICTED | MAPPED | SHARED},
};

MATCH_SUITE(vmm_swapoff_sched);
