/* Pages that are moved to other frames, and huge pages, beside all that may meet them: many
 * schedules of each. SPDX-License-Identifier: MIT */
#include "space_match.h"

static const struct match_plan plans[] = {
    {"migrate, fault", {MIGRATE, TOUCH}, MAPPED},
    {"migrate, fault from swap", {MIGRATE, TOUCH}, EVICTED | MAPPED},
    {"migrate, unmap", {MIGRATE, UNMAP}, 0},
    {"migrate, unmap with a child", {MIGRATE, UNMAP}, CHILD},
    {"migrate, fork", {MIGRATE, FORK}, MAPPED},
    {"migrate, evict", {MIGRATE, EVICT}, MAPPED},
    {"migrate, reclaim", {MIGRATE, RECLAIM}, CHILD | MAPPED},
    {"migrate, pin", {MIGRATE, PIN}, MAPPED},
    {"migrate, copy", {MIGRATE, TOUCH}, CHILD | MAPPED},
    {"migrate, copy by the child", {MIGRATE, TOUCH_CHILD}, CHILD | MAPPED},
    {"migrate, exit", {MIGRATE, EXIT}, CHILD | MAPPED},
    {"migrate, move", {MIGRATE, MOVE}, MAPPED},
    {"migrate, protect", {MIGRATE, PROTECT}, MAPPED},
    {"migrate, migrate", {MIGRATE, MIGRATE}, CHILD | MAPPED},
    {"migrate, lock", {LOCK, MIGRATE}, MAPPED},
    {"migrate, fault at the limit", {MIGRATE, TOUCH}, LIMITED | MAPPED},
    {"migrate, fork, evict", {MIGRATE, FORK, EVICT}, LIMITED | MAPPED},
    {"migrate, copy, exit", {MIGRATE, TOUCH, EXIT}, CHILD | MAPPED},
    {"migrate, unmap, copy by the child", {MIGRATE, UNMAP, TOUCH_CHILD}, CHILD},
    {"shared: migrate, fault", {MIGRATE, TOUCH}, CHILD | MAPPED | SHARED},
    {"shared: migrate, fault, fault", {MIGRATE, TOUCH, TOUCH_CHILD}, CHILD | MAPPED | SHARED},
    {"shared: migrate, truncate", {MIGRATE, TRUNCATE}, CHILD | SHARED},
    {"shared: migrate, reclaim", {MIGRATE, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: migrate, pin", {MIGRATE, PIN}, CHILD | MAPPED | SHARED},
    {"shared: migrate, move", {MIGRATE, MOVE}, CHILD | MAPPED | SHARED},
    {"shared: migrate, exit", {MIGRATE, EXIT}, CHILD | MAPPED | SHARED},
    {"huge: fault, fault", {TOUCH, TOUCH}, HUGE | FRESH | MAPPED},
    {"huge: fault, unmap", {TOUCH, UNMAP}, HUGE | FRESH},
    {"huge: fault, part", {TOUCH, PART}, HUGE | FRESH},
    {"huge: fault, fork", {TOUCH, FORK}, HUGE | FRESH | MAPPED},
    {"huge: fault, page out", {TOUCH, PAGE_OUT}, HUGE | FRESH | MAPPED},
    {"huge: part, fault", {PART, TOUCH}, HUGE},
    {"huge: page out, fault", {PAGE_OUT, TOUCH}, HUGE | MAPPED},
    {"huge: copy, copy by the child", {TOUCH, TOUCH_CHILD}, HUGE | CHILD | MAPPED},
    {"huge: copy, page out", {TOUCH_CHILD, PAGE_OUT}, HUGE | CHILD | MAPPED},
    {"huge: migrate, fault", {MIGRATE, TOUCH}, HUGE | MAPPED},
    {"huge: pin, page out", {PIN, PAGE_OUT}, HUGE | MAPPED},
    {"huge: pin, fork", {PIN, FORK}, HUGE | MAPPED},
    {"huge: unmap, migrate", {UNMAP, MIGRATE}, HUGE},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                        13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
                                        26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38};
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
KTAP_SUITE(vmm_move_sched, cases);
