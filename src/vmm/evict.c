/* Eviction: choosing a page by the policy, writing it out, and giving its frame back.
 * SPDX-License-Identifier: MIT
 *
 * A page stays mapped until its copy is safe:
 *
 *   clear D, invalidate -> write frame to slot (no lock) -> exchange leaf for the swap entry
 *                                                           |
 *                                     D set meanwhile? the leaf comes back, the page stays
 *
 * so there is no moment at which a fault could read a slot that is not yet written. Whatever
 * fails on the way leaves the page mapped and marked dirty: it is never lost.
 */
#include "vmm/vmm_priv.h"

static void note_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)vaddr;
    *(struct neomm_mapping *)context = *leaf;
}

/* ---- slots ---- */

struct slot_search {
    struct neomm *root;
    bool found;
};

static void strip_slot(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct slot_search *search = context;
    struct neomm_swap_entry slot;
    (void)vaddr;
    if (search->found || leaf->state != NEOMM_MAPPING_PRESENT)
        return;
    struct neomm__frame *entry = neomm__frame(search->root, neomm_paddr_frame(leaf->paddr));
    if (!entry || !neomm__frame_has(entry, NEOMM__FRAME_SLOT) ||
        neomm__frame_has(entry, NEOMM__FRAME_BUSY) ||
        neomm_swap_entry_of(search->root, entry->owner, &slot) != NEOMM_OK)
        return;
    neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    neomm__frame_clear(entry, NEOMM__FRAME_SLOT);
    search->found = neomm_swap_free(search->root, slot) == NEOMM_OK;
}

bool neomm__release_a_slot(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    struct slot_search search = {root, false};
    (void)neomm_paging_walk(root, &space->tables, layout->user_base,
                            layout->user_limit - layout->user_base, strip_slot, &search);
    return search.found;
}

/* Gives the frame a slot if it has none. */
static neomm_status ensure_slot(struct neomm *root, struct neomm_space *space,
                                struct neomm__frame *entry, struct neomm_swap_entry *slot)
{
    if (neomm__frame_has(entry, NEOMM__FRAME_SLOT))
        return neomm_swap_entry_of(root, entry->owner, slot);
    if (space->swap_pages >= space->limits.swap_bytes >> NEOMM_PAGE_SHIFT)
        return NEOMM_E_LIMIT;
    neomm_status status = neomm_swap_alloc(root, space->index, slot);
    if (status == NEOMM_E_NOSPACE && neomm__release_a_slot(root, space))
        status = neomm_swap_alloc(root, space->index, slot);
    if (status != NEOMM_OK)
        return status;
    entry->owner = slot->slot;
    neomm__frame_set(entry, NEOMM__FRAME_SLOT | NEOMM__FRAME_DIRTY);
    return NEOMM_OK;
}

/* The frame is to be written: to a slot that nobody else reads. A fault that has read this one may
 * still map what it read, as long as the page's entry names this slot. */
static neomm_status own_slot(struct neomm *root, struct neomm_space *space,
                             struct neomm__frame *entry, struct neomm_swap_entry *slot)
{
    if (neomm_swap_users(root, *slot) == 1)
        return NEOMM_OK;
    neomm__frame_clear(entry, NEOMM__FRAME_SLOT);
    (void)neomm_swap_free(root, *slot);
    return ensure_slot(root, space, entry, slot);
}

/* ---- one page ---- */

/* Writes the frame to its slot without the lock. A count of the slot and a reference of the
 * frame are held meanwhile, so that neither gets another owner if the page is unmapped. */
static neomm_status write_out(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                              struct neomm_swap_entry slot)
{
    struct neomm_swap_page page = {slot, frame, NEOMM_OK};
    neomm_status status = neomm_swap_dup(root, slot);
    if (status != NEOMM_OK)
        return status;
    neomm__space_leave(space);
    status = neomm_swap_write(root, &page, 1);
    neomm__space_reenter(space);
    (void)neomm_swap_free(root, slot);
    if (status == NEOMM_OK)
        space->swap_writes++;
    return status;
}

/* The slot could not be written and is marked bad: the page goes on without it. */
static void lose_slot(struct neomm *root, struct neomm__frame *entry, struct neomm_swap_entry slot)
{
    neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    neomm__frame_clear(entry, NEOMM__FRAME_SLOT);
    (void)neomm_swap_free(root, slot);
}

/* The copy is safe: the leaf becomes the swap entry, if nothing was written meanwhile. */
static neomm_status replace_leaf(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                                 neomm_frame_t frame, struct neomm_swap_entry slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    const struct neomm_mapping present = {.state = NEOMM_MAPPING_PRESENT,
                                          .paddr = neomm_frame_paddr(frame)};
    const struct neomm_mapping swapped = {.state = NEOMM_MAPPING_SWAPPED, .swap = slot};
    struct neomm_mapping last;
    neomm_status status =
        neomm_paging_exchange(root, &space->tables, vaddr, &present, &swapped, &last);
    if (status != NEOMM_OK)
        return status;
    if (last.dirty) {
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
        status = neomm_paging_exchange(root, &space->tables, vaddr, &swapped, &last, NULL);
        NEOMM__ASSERT(status == NEOMM_OK);
        return NEOMM_E_AGAIN;
    }
    space->swap_pages++;
    space->evictions++;
    NEOMM__COUNT(root, EVICTION);
    neomm__user_frame_leave(root, space, frame, &slot);
    return NEOMM_OK;
}

/* Evicts the page in `frame`, which belongs to the space. The lock is held and may be given up
 * in between. NEOMM_E_NOENT: the page was unmapped meanwhile; any other error leaves it resident.
 */
static neomm_status evict_page(struct neomm *root, struct neomm_space *space, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_vaddr_t vaddr = neomm__mapping_vaddr(entry->mapping);
    uint64_t mapping = entry->mapping;
    struct neomm_swap_entry slot;
    struct neomm_mapping leaf = {.state = NEOMM_MAPPING_NONE};
    neomm_status status = ensure_slot(root, space, entry, &slot);
    if (status != NEOMM_OK)
        return status;
    status =
        neomm_paging_harvest(root, &space->tables, vaddr, NEOMM_PAGE_SIZE, true, note_leaf, &leaf);
    if (status != NEOMM_OK)
        return status;
    if (leaf.dirty)
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    if (!neomm__frame_has(entry, NEOMM__FRAME_DIRTY))
        return replace_leaf(root, space, vaddr, frame, slot);
    status = own_slot(root, space, entry, &slot);
    if (status != NEOMM_OK)
        return status;

    (void)neomm__fetch_add(&entry->references, 1);
    neomm__frame_set(entry, NEOMM__FRAME_BUSY);
    neomm__frame_clear(entry, NEOMM__FRAME_DIRTY);
    status = write_out(root, space, frame, slot);
    neomm__frame_clear(entry, NEOMM__FRAME_BUSY);
    if (entry->mapping != mapping)
        status = NEOMM_E_NOENT;
    else if (status == NEOMM_E_IO)
        lose_slot(root, entry, slot);
    else if (status != NEOMM_OK)
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    neomm__user_frame_put(root, frame);
    return status == NEOMM_OK ? replace_leaf(root, space, vaddr, frame, slot) : status;
}

/* ---- choosing ---- */

/* A page that may be evicted; its space is locked. */
struct candidate {
    neomm_frame_t frame;
    struct neomm_space *space;
    neomm_vaddr_t vaddr;
};

static uint32_t domain_size(struct neomm *root, const struct neomm_policy *policy)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    uint32_t count = policy->count;
    neomm__unlock(&root->vmm->policy_lock, irq);
    return count;
}

/* The space a candidate belongs to, locked; NULL if it cannot be had now, or if only pages of
 * `only` are wanted and this is none. */
static struct neomm_space *lock_owner(struct neomm *root, struct neomm_space *only, uint32_t owner)
{
    if (only)
        return only->index == owner ? only : NULL;
    return neomm__space_try_lock(root, owner);
}

/* The domain's next candidate. Only while the domain is locked does a frame in it keep its space,
 * so that one is locked (or tried) in the same step; a candidate whose space cannot be had is
 * passed as if it had been used. NEOMM_E_NOENT: the domain is empty; NEOMM_E_AGAIN: passed. */
static neomm_status next_candidate(struct neomm *root, struct neomm_policy *policy,
                                   struct neomm_space *only, struct candidate *candidate)
{
    neomm_status status = NEOMM_E_NOENT;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    if (policy->ops->candidates(policy, &candidate->frame, 1) != 0) {
        const struct neomm__frame *entry = neomm__frame(root, candidate->frame);
        candidate->vaddr = neomm__mapping_vaddr(entry->mapping);
        candidate->space = lock_owner(root, only, neomm__mapping_space(entry->mapping));
        status = candidate->space ? NEOMM_OK : NEOMM_E_AGAIN;
        if (status != NEOMM_OK)
            (void)policy->ops->tested(policy, candidate->frame, true, true);
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
    return status;
}

/* Tells the policy about a page whose space is locked. */
static enum neomm_verdict tell(struct neomm *root, struct neomm_policy *policy, neomm_frame_t frame,
                               bool accessed, bool dirty)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    enum neomm_verdict verdict = policy->ops->tested(policy, frame, accessed, dirty);
    neomm__unlock(&root->vmm->policy_lock, irq);
    return verdict;
}

/* Is the page in a region that is locked in memory? */
static bool is_locked(struct neomm *root, const struct neomm_space *space, neomm_vaddr_t vaddr)
{
    struct neomm_region_info info;
    uint32_t flags;
    return neomm__region_look(root, space, vaddr, &info, &flags) && (flags & NEOMM__REGION_LOCKED);
}

/* Tests one candidate and evicts it if the policy says so; `insist`: also if it was used since it
 * was tested last. A page that cannot go is passed as if it had been used, so that the search moves
 * on. NEOMM_E_AGAIN: kept, try the next. */
static neomm_status try_candidate(struct neomm *root, struct neomm_policy *policy,
                                  const struct candidate *candidate, bool insist)
{
    const struct neomm__frame *entry = neomm__frame(root, candidate->frame);
    struct neomm_mapping leaf = {.state = NEOMM_MAPPING_NONE};
    if (neomm__frame_has(entry, NEOMM__FRAME_BUSY)) {
        (void)tell(root, policy, candidate->frame, true, true);
        return NEOMM_E_AGAIN;
    }
    if (is_locked(root, candidate->space, candidate->vaddr)) {
        (void)tell(root, policy, candidate->frame, true, true);
        return NEOMM_E_AGAIN;
    }
    NEOMM__COUNT(root, EVICT_TEST);
    neomm_status status = neomm_paging_harvest(root, &candidate->space->tables, candidate->vaddr,
                                               NEOMM_PAGE_SIZE, false, note_leaf, &leaf);
    if (status != NEOMM_OK)
        return status;
    bool dirty = leaf.dirty || neomm__frame_has(entry, NEOMM__FRAME_DIRTY);
    bool accessed = leaf.accessed && !insist;
    if (tell(root, policy, candidate->frame, accessed, dirty) == NEOMM_KEEP)
        return NEOMM_E_AGAIN;
    status = evict_page(root, candidate->space, candidate->frame);
    if (status == NEOMM_E_NOENT)
        return NEOMM_E_AGAIN;
    if (status != NEOMM_OK)
        (void)tell(root, policy, candidate->frame, true, dirty);
    return status;
}

/* Errors after which another page may still go. */
static bool worth_another(neomm_status status, unsigned *failures)
{
    return status == NEOMM_E_AGAIN || (status == NEOMM_E_IO && ++*failures < 8);
}

neomm_status neomm__evict_one(struct neomm *root, struct neomm_space *space)
{
    struct neomm_policy *policy = space ? neomm__space_policy(root, space) : &root->vmm->global;
    unsigned failures = 0;
    neomm_status status = NEOMM_E_NOENT;
    /* Every page may be kept once for its accessed bit, which the test clears. One that others, or
     * a CPU on its own account, use again meanwhile is not kept for that a second time. */
    uint64_t pages = (uint64_t)domain_size(root, policy) + 1;
    for (uint64_t left = 2 * pages; left > 0; left--) {
        struct candidate candidate;
        status = next_candidate(root, policy, space, &candidate);
        if (status == NEOMM_OK) {
            status = try_candidate(root, policy, &candidate, left <= pages);
            if (candidate.space != space)
                neomm__mutex_unlock(&candidate.space->lock);
        }
        if (!worth_another(status, &failures))
            return status;
    }
    return status;
}

/* ---- for others ---- */

void neomm__evict_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr)
{
    struct neomm_mapping leaf;
    if (neomm_paging_query(root, &space->tables, vaddr, &leaf) != NEOMM_OK ||
        leaf.state != NEOMM_MAPPING_PRESENT)
        return;
    neomm_frame_t frame = neomm_paddr_frame(leaf.paddr);
    const struct neomm__frame *entry = neomm__frame(root, frame);
    if (entry && entry->mapping == neomm__mapping_make(space->index, vaddr) &&
        neomm__frame_has(entry, NEOMM__FRAME_POLICY) && !neomm__frame_has(entry, NEOMM__FRAME_BUSY))
        (void)evict_page(root, space, frame);
}

uint32_t neomm_space_evict(struct neomm *root, struct neomm_space *space, uint32_t count)
{
    uint32_t evicted = 0;
    neomm__mutex_lock(&space->lock);
    while (evicted < count && neomm__evict_one(root, space) == NEOMM_OK)
        evicted++;
    neomm__mutex_unlock(&space->lock);
    return evicted;
}

/* The spaces with a domain of their own, largest first, until enough is freed. */
static uint32_t reclaim_from_domains(struct neomm *root, uint32_t frames)
{
    uint32_t freed = 0;
    for (uint32_t i = 1; i < NEOMM__SPACE_MAX && freed < frames; i++) {
        struct neomm_space *space = neomm__space_try_lock(root, i);
        if (!space)
            continue;
        while (space->policy.ops && freed < frames && neomm__evict_one(root, space) == NEOMM_OK)
            freed++;
        neomm__mutex_unlock(&space->lock);
    }
    return freed;
}

uint32_t neomm__reclaim(struct neomm *root, uint32_t frames)
{
    uint32_t freed = 0;
    NEOMM__COUNT(root, RECLAIM);
    while (freed < frames && neomm__evict_one(root, NULL) == NEOMM_OK)
        freed++;
    if (freed < frames)
        freed += reclaim_from_domains(root, frames - freed);
    if (freed < frames && root->layer[NEOMM__LAYER_HEAP])
        freed += neomm_heap_shrink(root);
    return freed;
}

uint32_t neomm__reclaim_callback(void *context, uint32_t frames, neomm_flags_t flags)
{
    (void)flags;
    return neomm__reclaim(context, frames);
}
