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

#include "vmm/evict.h"

/* As often each page of the cache is tested before none is said to go: 3 uses counted and some. In
 * the first round only it stays for having been used. */
#define ROUNDS 6u

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

uint32_t neomm__balance_share(struct neomm *root, uint32_t frames)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm_irq_t irq = neomm__lock(&vmm->policy_lock);
    uint32_t cache = vmm->cost[NEOMM__COST_CACHE], others = vmm->cost[NEOMM__COST_ANONYMOUS];
    bool any = vmm->cache.count != 0;
    neomm__unlock(&vmm->policy_lock, irq);
    if (!any || cache <= others)
        return any ? frames : 0;
    uint32_t scale = frames < 64 ? frames : 64, left = frames - scale;
    return left / 2 + (scale * (others + 1) + cache + others + 1) / (cache + others + 2);
}

/* ---- freeing ---- */

/* NEOMM_OK: it is free. */
static neomm_status try_page(struct neomm *root, struct neomm__eviction *e, bool insist)
{
    struct neomm_policy *cache = &root->vmm->cache;
    bool accessed = true, dirty = true;
    if (neomm__frame_has(e->entry, NEOMM__FRAME_BUSY) || neomm__evict_is_locked(e)) {
        (void)neomm__candidate_tell(root, cache, e, true, true);
        return NEOMM_E_AGAIN;
    }
    NEOMM__COUNT(root, EVICT_TEST);
    neomm__evict_test(e, &accessed, &dirty);
    if (neomm__candidate_tell(root, cache, e, accessed && !insist, dirty) == NEOMM_KEEP)
        return NEOMM_E_AGAIN;
    neomm_status status = neomm__evict_frame(e);
    if (status != NEOMM_OK && status != NEOMM_E_NOENT)
        (void)neomm__candidate_tell(root, cache, e, true, dirty);
    return status;
}

static uint32_t shrink(struct neomm *root, uint32_t frames, bool clean_only)
{
    struct neomm_policy *cache = &root->vmm->cache;
    uint64_t pages = cache->count, left = ROUNDS * pages;
    uint32_t freed = 0;
    for (; freed < frames && left > 0; left--) {
        struct neomm__eviction e = {.root = root, .clean_only = clean_only};
        if (!neomm__candidate_next(root, cache, &e))
            break;
        freed += try_page(root, &e, left <= (ROUNDS - 1) * pages) == NEOMM_OK;
        neomm__user_frame_put(root, e.frame);
    }
    return freed;
}

uint32_t neomm__cache_shrink(struct neomm *root, uint32_t frames)
{
    uint32_t freed = shrink(root, frames, true);
    return freed < frames ? freed + shrink(root, frames - freed, false) : freed;
}
