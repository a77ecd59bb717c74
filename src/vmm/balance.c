/* Page cache or anonymous memory: which gives frames up.
 * SPDX-License-Identifier: MIT
 *
 * Each of the two has a cost: I/O that was needed since pages had been given up which were wanted
 * again soon. As long as the cache's is not the higher one, all comes from it: its pages are free
 * to drop, and are often used once. Otherwise each gives in inverse proportion to its cost. Costs
 * fade: both halve when together they reach a quarter of the pages there are.
 *
 * Sources: J. Weiner, "Better active/inactive list balancing" and "Workingset-based balancing of
 * page reclaim" (Linux 3.15 and 5.9): distance of a refault, cost by I/O.
 */
#include "vmm/balance.h"

static uint32_t resident_pages(struct neomm__vmm *vmm)
{
    neomm_irq_t irq = neomm__lock(&vmm->policy_lock);
    uint32_t pages = vmm->cache.count + vmm->global.count;
    neomm__unlock(&vmm->policy_lock, irq);
    return pages;
}

bool neomm__balance_is_near(struct neomm *root, uint32_t distance)
{
    return distance <= resident_pages(root->vmm);
}

void neomm__balance_cost(struct neomm *root, enum neomm__cost_of of)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm_irq_t irq = neomm__lock(&vmm->policy_lock);
    uint32_t *cost = vmm->cost;
    cost[of]++;
    if (cost[0] + cost[1] > (vmm->cache.count + vmm->global.count) / 4) {
        cost[0] /= 2;
        cost[1] /= 2;
    }
    neomm__unlock(&vmm->policy_lock, irq);
}

bool neomm__balance_is_cheap(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm_irq_t irq = neomm__lock(&vmm->policy_lock);
    bool cheap =
        vmm->cache.count != 0 && vmm->cost[NEOMM__COST_CACHE] <= vmm->cost[NEOMM__COST_ANONYMOUS];
    neomm__unlock(&vmm->policy_lock, irq);
    return cheap;
}

enum neomm__cost_of neomm__balance_turn(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm_irq_t irq = neomm__lock(&vmm->policy_lock);
    uint32_t cache = vmm->cost[NEOMM__COST_CACHE], others = vmm->cost[NEOMM__COST_ANONYMOUS];
    bool turn = cache <= others;
    if (!turn) {
        vmm->cost_turn += others + 1;
        turn = vmm->cost_turn >= cache + others + 2;
        if (turn)
            vmm->cost_turn -= cache + others + 2;
    }
    neomm__unlock(&vmm->policy_lock, irq);
    return turn ? NEOMM__COST_CACHE : NEOMM__COST_ANONYMOUS;
}
