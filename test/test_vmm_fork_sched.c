/* Fork, copies on write, exit, moves, locks and reclaim side by side, many schedules of each.
 * SPDX-License-Identifier: MIT */
#include "space_match.h"

static const struct match_plan plans[] = {
    {"fault, fork", {TOUCH, FORK}, MAPPED},
    {"fault from swap, fork", {TOUCH, FORK}, EVICTED | MAPPED},
    {"fork, fork", {FORK, FORK}, MAPPED},
    {"fork, reclaim", {FORK, RECLAIM}, MAPPED},
    {"fork, evict with a child", {FORK, EVICT}, CHILD | MAPPED},
    {"copy, copy", {TOUCH, TOUCH_CHILD}, CHILD | MAPPED},
    {"copy, copy in one space", {TOUCH, TOUCH}, CHILD | MAPPED},
    {"copy, copy by the kernel", {TOUCH_CHILD, COPY_OUT}, CHILD | MAPPED},
    {"copy, copy from swap", {TOUCH, TOUCH_CHILD}, CHILD | EVICTED | MAPPED},
    {"copy, reclaim", {TOUCH, RECLAIM}, CHILD | MAPPED},
    {"copy, evict", {TOUCH_CHILD, EVICT}, CHILD | MAPPED},
    {"copy, exit", {TOUCH, EXIT}, CHILD | MAPPED},
    {"exit, reclaim", {EXIT, RECLAIM}, CHILD | MAPPED},
    {"exit, fork", {EXIT, FORK}, CHILD | MAPPED},
    {"copy, unmap", {TOUCH_CHILD, UNMAP}, CHILD},
    {"fork, unmap", {FORK, UNMAP}, 0},
    {"fork, protect", {FORK, PROTECT}, 0},
    {"copy, protect", {TOUCH_CHILD, PROTECT}, CHILD | MAPPED},
    {"copy, copy at the limit", {TOUCH, TOUCH_CHILD}, CHILD | LIMITED | MAPPED},
    {"copy, copy, reclaim", {TOUCH, TOUCH_CHILD, RECLAIM}, CHILD | MAPPED},
    {"copy, exit, reclaim", {TOUCH, EXIT, RECLAIM}, CHILD | EVICTED | MAPPED},
    {"fork, copy, evict", {FORK, TOUCH_CHILD, EVICT}, CHILD | MAPPED},
    {"pin, evict", {PIN, EVICT}, MAPPED},
    {"pin, reclaim", {PIN, RECLAIM}, CHILD | MAPPED},
    {"pin, fork", {PIN, FORK}, MAPPED},
    {"pin, copy", {PIN, TOUCH}, CHILD | MAPPED},
    {"pin from swap, copy by the child", {PIN, TOUCH_CHILD}, CHILD | EVICTED | MAPPED},
    {"pin, unmap", {PIN, UNMAP}, CHILD},
    {"pin, pin", {PIN, PIN}, CHILD | MAPPED},
    {"pin, fork, evict", {PIN, FORK, EVICT}, CHILD | MAPPED},
    {"shared: fault, fault", {TOUCH, TOUCH_CHILD}, CHILD | MAPPED | SHARED},
    {"shared from swap: fault, fault", {TOUCH, TOUCH_CHILD}, CHILD | EVICTED | MAPPED | SHARED},
    {"shared: fault, reclaim", {TOUCH, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: fault, fault, reclaim",
     {TOUCH, TOUCH_CHILD, RECLAIM},
     CHILD | EVICTED | MAPPED | SHARED},
    {"shared: fault, exit", {TOUCH, EXIT}, CHILD | MAPPED | SHARED},
    {"shared: exit, reclaim", {EXIT, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: fault, truncate", {TOUCH, TRUNCATE}, CHILD | SHARED},
    {"shared: reclaim, truncate", {RECLAIM, TRUNCATE}, CHILD | SHARED},
    {"shared: fault from swap, truncate", {TOUCH, TRUNCATE}, CHILD | EVICTED | SHARED},
    {"shared: unmap, truncate", {UNMAP, TRUNCATE}, CHILD | SHARED},
    {"shared: pin, reclaim", {PIN, RECLAIM}, CHILD | EVICTED | MAPPED | SHARED},
    {"shared: pin, truncate", {PIN, TRUNCATE}, CHILD | SHARED},
    {"shared: fault, protect", {TOUCH_CHILD, PROTECT}, CHILD | MAPPED | SHARED},
    {"shared: fault, fault at the limit", {TOUCH, TOUCH_CHILD}, CHILD | LIMITED | MAPPED | SHARED},
    {"fault, page out", {TOUCH, PAGE_OUT}, MAPPED},
    {"fault from swap, page out", {TOUCH, PAGE_OUT}, EVICTED | MAPPED},
    {"fault from swap, page out at the limit", {TOUCH, PAGE_OUT}, EVICTED | LIMITED | MAPPED},
    {"fault from swap, fault, page out", {TOUCH, TOUCH, PAGE_OUT}, EVICTED | MAPPED},
    {"copy, page out", {TOUCH_CHILD, PAGE_OUT}, CHILD | MAPPED},
    {"fault, move", {TOUCH, MOVE}, 0},
    {"fault from swap, move", {TOUCH, MOVE}, EVICTED},
    {"fault from swap, give up", {TOUCH, GIVE_UP}, EVICTED | LOST},
    {"fault from swap, lock, evict", {TOUCH, LOCK, EVICT}, EVICTED | MAPPED},
    {"fork, move", {FORK, MOVE}, 0},
    {"fork from swap, move", {FORK, MOVE}, EVICTED},
    {"move, evict", {MOVE, EVICT}, MAPPED},
    {"move, reclaim", {MOVE, RECLAIM}, CHILD | MAPPED},
    {"move, copy by the child", {MOVE, TOUCH_CHILD}, CHILD | MAPPED},
    {"move, pin", {MOVE, PIN}, 0},
    {"fork, move, reclaim", {FORK, MOVE, RECLAIM}, 0},
    {"lock, evict", {LOCK, EVICT}, MAPPED},
    {"lock, reclaim", {LOCK, RECLAIM}, CHILD | MAPPED},
    {"lock from swap, fork", {LOCK, FORK}, EVICTED | MAPPED},
    {"lock, move, evict", {LOCK, MOVE, EVICT}, 0},
    {"lock, copy by the child, reclaim", {LOCK, TOUCH_CHILD, RECLAIM}, CHILD | MAPPED},
    {"fork, give up", {FORK, GIVE_UP}, LOST},
    {"fork from swap, give up", {FORK, GIVE_UP}, EVICTED | LOST},
    {"give up, evict", {GIVE_UP, EVICT}, LOST},
    {"give up, copy by the child, reclaim", {GIVE_UP, TOUCH_CHILD, RECLAIM}, CHILD | LOST},
    {"shared: move, truncate", {MOVE, TRUNCATE}, SHARED},
    {"shared: move, reclaim", {MOVE, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: move, fault, reclaim", {MOVE, TOUCH_CHILD, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: lock, reclaim", {LOCK, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: give up, reclaim", {GIVE_UP, RECLAIM}, CHILD | MAPPED | SHARED},
    {"fault, fault, evict at the limit", {TOUCH, TOUCH, EVICT}, LIMITED | MAPPED},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
                                        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
                                        30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
                                        45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59,
                                        60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

static void by_seed(struct ktap *t)
{
    match_by_seed(t, &plans[t->parameter]);
}

static void one_after_the_other(struct ktap *t)
{
    match_one_after_the_other(t, &plans[t->parameter]);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
};
KTAP_SUITE(vmm_fork_sched, cases);
