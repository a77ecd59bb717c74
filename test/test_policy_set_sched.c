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

MATCH_SUITE(policy_set_sched);
