/* Reclaim: choosing pages by the policy of a domain, and freeing memory for others.
 * SPDX-License-Identifier: MIT
 *
 * Only while a domain is locked does a frame in it stay, so a candidate is held in the same step.
 * A candidate that cannot go is passed as if it had been used.
 */
#include "vmm/balance.h"
#include "vmm/evict.h"

/* As often all pages of a domain are tested before none is said to go: 3 uses counted and some. */
#define ROUNDS 6u

static uint32_t domain_size(struct neomm *root, const struct neomm_policy *policy)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    uint32_t count = policy->count;
    neomm__unlock(&root->vmm->policy_lock, irq);
    return count;
}

bool neomm__candidate_next(struct neomm *root, struct neomm_policy *policy,
                           struct neomm__eviction *e)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    bool found = policy->ops->candidates(policy, &e->frame, 1) != 0;
    if (found) {
        e->entry = neomm__frame(root, e->frame);
        (void)neomm__fetch_add(&e->entry->references, 1);
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
    return found;
}

/* It may have got into the global one. */
enum neomm_verdict neomm__candidate_tell(struct neomm *root, struct neomm_policy *policy,
                                         const struct neomm__eviction *e, bool accessed, bool dirty)
{
    enum neomm_verdict verdict = NEOMM_KEEP;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    if (neomm__frame_has(e->entry, NEOMM__FRAME_POLICY) &&
        (policy->domain == 0 || e->entry->kind == NEOMM__KIND_USER))
        verdict = policy->ops->tested(policy, e->frame, accessed, dirty);
    neomm__unlock(&root->vmm->policy_lock, irq);
    return verdict;
}

/* Does the space have the page? */
static bool belongs_to(struct neomm__eviction *e, const struct neomm_space *space)
{
    uint32_t position = 0;
    uint64_t mapping;
    bool found = false;
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    while (!found && neomm__rmap_next(e->root, e->entry, &position, &mapping))
        found = !(mapping & NEOMM__RMAP_OBJECT) && neomm__mapping_space(mapping) == space->index;
    neomm__rmap_unlock(e->entry, irq);
    return found;
}

/* Tests one candidate and evicts it if the policy says so; `insist`: also if it was used since it
 * was tested last. NEOMM_E_AGAIN: kept, try the next. */
static neomm_status try_candidate(struct neomm *root, struct neomm_policy *policy,
                                  struct neomm__eviction *e, bool insist)
{
    bool accessed = true, dirty = true;
    if (neomm__frame_has(e->entry, NEOMM__FRAME_BUSY) || neomm__evict_is_locked(e)) {
        (void)neomm__candidate_tell(root, policy, e, true, true);
        return NEOMM_E_AGAIN;
    }
    NEOMM__COUNT(root, EVICT_TEST);
    neomm__evict_test(e, &accessed, &dirty);
    if (neomm__candidate_tell(root, policy, e, accessed && !insist, dirty) == NEOMM_KEEP)
        return NEOMM_E_AGAIN;
    neomm_status status = neomm__evict_frame(e);
    if (status == NEOMM_E_NOENT)
        return NEOMM_E_AGAIN;
    if (status != NEOMM_OK)
        (void)neomm__candidate_tell(root, policy, e, true, dirty);
    return status;
}

/* Errors after which another page may still go. */
static bool worth_another(neomm_status status, unsigned *failures)
{
    return status == NEOMM_E_AGAIN || (status == NEOMM_E_IO && ++*failures < 8);
}

static neomm_status evict_from_domain(struct neomm *root, struct neomm_policy *policy,
                                      struct neomm_space *space)
{
    unsigned failures = 0;
    neomm_status status = NEOMM_E_NOENT;
    /* Every page may be kept once for its accessed bit, which the test clears. One that others, or
     * a CPU on its own account, use again meanwhile is not kept for that a second time; but a
     * policy that counts uses may keep it for those it knows of. */
    uint64_t pages = (uint64_t)domain_size(root, policy) + 1;
    for (uint64_t left = ROUNDS * pages; left > 0; left--) {
        struct neomm__eviction e = {.root = root};
        if (!neomm__candidate_next(root, policy, &e))
            return NEOMM_E_NOENT;
        if (!space || belongs_to(&e, space)) {
            status = try_candidate(root, policy, &e, left <= (ROUNDS - 1) * pages);
        } else {
            (void)neomm__candidate_tell(root, policy, &e, true, true);
            status = NEOMM_E_AGAIN;
        }
        neomm__user_frame_put(root, e.frame);
        if (!worth_another(status, &failures))
            return status;
    }
    return status;
}

/* ---- pages of a space that are in the global domain ---- */

struct search {
    struct neomm *root;
    struct neomm__eviction *e;
    const struct neomm_space *space;
    neomm_vaddr_t vaddr;
};

/* A page whose fault is not over is in no policy yet, and is passed. */
static void find_page(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct search *search = context;
    struct neomm__frame *entry = neomm__frame(search->root, neomm_paddr_frame(leaf->paddr));
    if (search->e->entry || leaf->state != NEOMM_MAPPING_PRESENT || !neomm__frame_is_user(entry) ||
        !neomm__frame_has(entry, NEOMM__FRAME_POLICY) ||
        neomm__frame_has(entry, NEOMM__FRAME_BUSY) ||
        neomm__page_is_locked(search->root, search->space, vaddr))
        return;
    (void)neomm__fetch_add(&entry->references, 1);
    search->e->frame = neomm_paddr_frame(leaf->paddr);
    search->e->entry = entry;
    search->vaddr = vaddr;
}

/* A space at its limit whose pages others have as well: one of its leaves goes, in turn. */
static neomm_status evict_a_leaf(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    neomm_vaddr_t hand = neomm__load_acquire(&space->hand);
    struct neomm__eviction e = {.root = root};
    struct search search = {root, &e, space, 0};
    if (hand > layout->user_base && hand < layout->user_limit)
        (void)neomm_paging_walk(root, &space->tables, hand, layout->user_limit - hand, find_page,
                                &search);
    if (!e.entry)
        (void)neomm_paging_walk(root, &space->tables, layout->user_base,
                                layout->user_limit - layout->user_base, find_page, &search);
    if (!e.entry)
        return NEOMM_E_NOENT;
    neomm__store_release(&space->hand, search.vaddr + NEOMM_PAGE_SIZE);
    e.only = neomm__mapping_make(space->index, search.vaddr);
    neomm_status status = neomm__evict_frame(&e);
    neomm__user_frame_put(root, e.frame);
    return status;
}

/* Has the space a domain of its own, and pages that are not in it? */
static bool has_shared_pages(struct neomm *root, struct neomm_space *space)
{
    return space->policy.ops &&
           neomm__load_acquire(&space->resident_pages) > domain_size(root, &space->policy);
}

neomm_status neomm__evict_one(struct neomm *root, struct neomm_space *space)
{
    if (!space)
        return evict_from_domain(root, &root->vmm->global, NULL);
    neomm_status status = evict_from_domain(root, neomm__space_policy(root, space), space);
    if ((status == NEOMM_E_NOENT || status == NEOMM_E_AGAIN) && has_shared_pages(root, space)) {
        neomm_status one = evict_a_leaf(root, space);
        status = one == NEOMM_E_NOENT ? status : one;
    }
    return status;
}

/* ---- for others ---- */

void neomm__evict_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr)
{
    struct neomm__eviction e = {.root = root};
    struct search search = {root, &e, space, 0};
    (void)neomm_paging_walk(root, &space->tables, vaddr, NEOMM_PAGE_SIZE, find_page, &search);
    if (!e.entry)
        return;
    if (neomm__rmap_count(e.entry) <= 1u + neomm__frame_is_object(e.entry))
        (void)neomm__evict_frame(&e);
    neomm__user_frame_put(root, e.frame);
}

uint32_t neomm_space_evict(struct neomm *root, struct neomm_space *space, uint32_t count)
{
    uint32_t evicted = 0;
    while (evicted < count && neomm__evict_one(root, space) == NEOMM_OK)
        evicted++;
    return evicted;
}

/* The spaces with a domain of their own, until enough is freed. */
static uint32_t reclaim_from_domains(struct neomm *root, uint32_t frames)
{
    uint32_t freed = 0;
    for (uint32_t i = 1; i < NEOMM__SPACE_MAX && freed < frames; i++) {
        struct neomm_space *space = neomm__space_hold_at(root, i);
        if (!space)
            continue;
        while (space->policy.ops && freed < frames &&
               evict_from_domain(root, &space->policy, space) == NEOMM_OK)
            freed++;
        neomm__space_drop(space);
    }
    return freed;
}

uint32_t neomm__reclaim(struct neomm *root, uint32_t frames)
{
    NEOMM__COUNT(root, RECLAIM);
    uint32_t freed = neomm__cache_shrink(root, neomm__balance_share(root, frames));
    while (freed < frames && neomm__evict_one(root, NULL) == NEOMM_OK)
        freed++;
    if (freed < frames)
        freed += reclaim_from_domains(root, frames - freed);
    if (freed < frames)
        freed += neomm__cache_shrink(root, frames - freed);
    if (freed < frames && root->layer[NEOMM__LAYER_HEAP])
        freed += neomm_heap_shrink(root);
    return freed;
}

uint32_t neomm__reclaim_callback(void *context, uint32_t frames, neomm_flags_t flags)
{
    (void)flags;
    return neomm__reclaim(context, frames);
}
