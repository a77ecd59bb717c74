/* Replacement policies that are changed while pages come, go, are shared and move, many schedules
 * of each.
 * SPDX-License-Identifier: MIT */
#include "space_match.h"

static const struct match_plan plans[] = {
    {"change, fault", {CHANGE_POLICY, TOUCH}, FRESH | MAPPED},
    {"change, fault from swap", {CHANGE_POLICY, TOUCH}, EVICTED | MAPPED},
    {"change, evict", {CHANGE_POLICY, EVICT}, MAPPED},
    {"change, reclaim", {CHANGE_POLICY, RECLAIM}, CHILD | MAPPED},
    {"change, unmap", {CHANGE_POLICY, UNMAP}, 0},
    {"change, fork", {CHANGE_POLICY, FORK}, MAPPED},
    {"change, exit", {CHANGE_POLICY, EXIT}, CHILD | MAPPED},
    {"change, copy", {CHANGE_POLICY, TOUCH_CHILD}, CHILD | MAPPED},
    {"change, migrate", {CHANGE_POLICY, MIGRATE}, MAPPED},
    {"change, change", {CHANGE_POLICY, CHANGE_POLICY}, MAPPED},
    {"change, fault at the limit", {CHANGE_POLICY, TOUCH}, LIMITED | MAPPED},
    {"change, fork at the limit", {CHANGE_POLICY, FORK}, LIMITED | MAPPED},
    {"change, fault, evict", {CHANGE_POLICY, TOUCH, EVICT}, EVICTED | MAPPED},
    {"change, fault, evict at the limit", {CHANGE_POLICY, TOUCH, EVICT}, LIMITED | MAPPED},
    {"shared: change, reclaim, fault", {CHANGE_POLICY, RECLAIM, TOUCH}, CHILD | MAPPED | SHARED},
    {"change, unmap at the limit", {CHANGE_POLICY, UNMAP}, LIMITED},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
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
KTAP_SUITE(policy_set_sched, cases);
