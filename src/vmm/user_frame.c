/* Frames of user memory: their mappings, their domain, their slot and their end.
 * SPDX-License-Identifier: MIT
 *
 * The mappings of a frame have one reference together; others hold one each while they look at the
 * contents without a lock. A frame is in the domain of its space while it has had no other, and in
 * the global one from then on (NEOMM__KIND_SHARED), so the domain is known without its mappings.
 */
#include "swap/swap_cache.h"
#include "vmm/readahead.h"
#include "vmm/tally.h"

struct neomm_policy *neomm__user_frame_policy(struct neomm *root, const struct neomm__frame *entry,
                                              struct neomm_space *space)
{
    if (entry->kind == NEOMM__KIND_CACHE)
        return &root->vmm->cache;
    return !space || entry->kind != NEOMM__KIND_USER ? &root->vmm->global
                                                     : neomm__space_policy(root, space);
}

/* ---- coming ---- */

/* Flags that say how a frame was allocated. */
#define OF_PMM (NEOMM__FRAME_ALLOCATED | NEOMM__FRAME_MOVABLE)

/* Its set needs no lock, nor its flags: the store of the leaf is what others see first. */
void neomm__user_frame_claim(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             neomm_vaddr_t vaddr, unsigned flags)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    entry->kind = NEOMM__KIND_USER;
    entry->mapping = neomm__mapping_make(space->index, vaddr);
    neomm__store_relaxed(&entry->flags, (uint8_t)((entry->flags & OF_PMM) | flags));
    neomm__store_release(&entry->mappings, 1);
}

void neomm__user_frame_unclaim(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    entry->mapping = 0;
    neomm__store_release(&entry->mappings, 0);
}

void neomm__user_frame_enter(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             bool at_once)
{
    struct neomm_policy *policy = neomm__space_policy(root, space);
    neomm_irq_t irq = neomm_port_irq_save();
    uint32_t cpu = neomm_port_cpu()->index;
    neomm__tally_add(&space->tally[cpu].resident, 1);
    if (at_once || policy != &root->vmm->global)
        neomm__user_frame_admit(root, policy, frame);
    else
        neomm__newcomers_add(root, cpu, frame);
    neomm_port_irq_restore(irq);
}

void neomm__user_frame_admit(struct neomm *root, struct neomm_policy *policy, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm__frame_set(entry, NEOMM__FRAME_POLICY);
    policy->ops->enter(policy, frame);
    neomm__unlock(&root->vmm->policy_lock, irq);
}

/* From the domain of its only space into the global one, once for good; a page that is just being
 * moved is in none. */
static void make_shared(struct neomm *root, struct neomm_space *space, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_policy *own = neomm__space_policy(root, space), *global = &root->vmm->global;
    if (neomm__load_relaxed(&entry->kind) != NEOMM__KIND_USER)
        return;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    if (entry->kind == NEOMM__KIND_USER) {
        neomm__store_relaxed(&entry->kind, NEOMM__KIND_SHARED);
        if (own != global && neomm__frame_has(entry, NEOMM__FRAME_POLICY)) {
            own->ops->leave(own, frame, NULL);
            global->ops->enter(global, frame);
        }
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
}

static neomm_status add_mapping(struct neomm *root, const struct neomm_space *space,
                                neomm_frame_t frame, neomm_vaddr_t vaddr)
{
    return neomm__rmap_add(root, neomm__frame(root, frame),
                           neomm__mapping_make(space->index, vaddr));
}

neomm_status neomm__user_frame_add(struct neomm *root, struct neomm_space *space,
                                   neomm_frame_t frame, neomm_vaddr_t vaddr)
{
    neomm_status status = add_mapping(root, space, frame, vaddr);
    if (status == NEOMM_OK)
        neomm__resident_add(space, 1);
    return status;
}

neomm_status neomm__user_frame_join(struct neomm *root, struct neomm_space *space,
                                    neomm_frame_t frame, neomm_vaddr_t vaddr)
{
    neomm_status status =
        neomm__rmap_join(root, neomm__frame(root, frame), neomm__mapping_make(space->index, vaddr));
    if (status == NEOMM_OK)
        neomm__resident_add(space, 1);
    return status;
}

/* The slot that a frame, which is locked, has; false: none. */
static bool slot_of(struct neomm *root, const struct neomm__frame *entry,
                    struct neomm_swap_entry *slot)
{
    return neomm__frame_has(entry, NEOMM__FRAME_SLOT) &&
           neomm_swap_entry_of(root, entry->owner, slot) == NEOMM_OK;
}

void neomm__user_frame_uncache(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_swap_entry slot;
    neomm_irq_t irq = neomm__rmap_lock(entry);
    if (slot_of(root, entry, &slot))
        neomm__swap_cache_remove(root, slot, frame);
    neomm__rmap_unlock(entry, irq);
}

neomm_status neomm__user_frame_share(struct neomm *root, struct neomm_space *from,
                                     struct neomm_space *to, neomm_frame_t frame,
                                     neomm_vaddr_t vaddr)
{
    neomm_status status = add_mapping(root, to, frame, vaddr);
    if (status == NEOMM_OK)
        make_shared(root, from, frame);
    return status;
}

/* The distance is the evictions from the domain since: had it had so many frames more, the page
 * would have stayed. It is not counted in it yet. A note of the other domain says nothing. */
void neomm__user_frame_refault(struct neomm *root, struct neomm_space *space,
                               const struct neomm_swap_entry *slot)
{
    struct neomm_policy *policy = neomm__space_policy(root, space);
    uint32_t note = neomm_swap_note_of(root, *slot);
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm__newcomers_enter(root);
    uint32_t distance = (policy->evictions - (note >> 1)) & (UINT32_MAX >> 1);
    bool known = note != 0 && (note & 1) == (policy->domain != 0);
    bool near = known && distance <= policy->count + 1;
    bool soon = known && distance / 4 <= policy->count;
    if (policy->ops->refault)
        policy->ops->refault(policy, slot);
    neomm__unlock(&root->vmm->policy_lock, irq);
    if (note == 0)
        return;
    neomm__bump(&space->refaults);
    NEOMM__COUNT(root, REFAULT);
    if (soon && policy->domain == 0) {
        neomm__bump(&space->load.refaults);
        neomm__bump(&root->vmm->load.refaults);
    }
    if (near) {
        neomm__bump(&space->refaults_near);
        NEOMM__COUNT(root, REFAULT_NEAR);
    }
}

/* ---- going ---- */

/* With the last reference, and without leaf, set and domain, nobody else can come to the frame. */
static void put(struct neomm *root, neomm_frame_t frame, uint32_t reference)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    if (neomm__load_acquire(&entry->references) != reference &&
        neomm__fetch_sub(&entry->references, reference) != reference)
        return;
    neomm__store_release(&entry->references, 1);
    neomm__frame_forget(entry);
    entry->kind = NEOMM__KIND_NONE;
    neomm__store_relaxed(&entry->flags, NEOMM__FRAME_ALLOCATED);
    entry->owner = 0;
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

void neomm__user_frame_put(struct neomm *root, neomm_frame_t frame)
{
    put(root, frame, 1);
}

void neomm__user_frame_unpin(struct neomm *root, neomm_frame_t frame)
{
    put(root, frame, NEOMM__FRAME_PIN);
}

/* With the domains' lock: the frame, whose set is empty, leaves its own. With the last reference it
 * cannot be found from now on. */
static void leave_domain(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_policy *policy = neomm__user_frame_policy(root, entry, space);
    neomm__newcomers_find(root, entry);
    policy->ops->leave(policy, frame, slot);
    if (slot)
        neomm_swap_note(root, *slot, ++policy->evictions << 1 | (policy->domain != 0));
    if (neomm__load_acquire(&entry->references) != 1)
        neomm__frame_clear(entry, NEOMM__FRAME_POLICY);
    else
        neomm__store_relaxed(&entry->flags, (uint8_t)(entry->flags & ~NEOMM__FRAME_POLICY));
}

/* The set is empty, and locked. What the slot's record says of the frame is gone before the policy
 * notes something there. */
static void give_slot_back(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_swap_entry own;
    if (!neomm__frame_has(entry, NEOMM__FRAME_SLOT))
        return;
    if (slot_of(root, entry, &own)) {
        neomm__swap_cache_remove(root, own, frame);
        (void)neomm_swap_free(root, own);
    }
    neomm__frame_clear(entry, NEOMM__FRAME_SLOT);
}

/* The set is empty, and locked. */
static void end(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                const struct neomm_swap_entry *slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    give_slot_back(root, frame);
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    leave_domain(root, space, frame, slot);
    neomm__unlock(&root->vmm->policy_lock, irq);
    if (neomm__frame_has(entry, NEOMM__FRAME_DIRTY))
        neomm__frame_clear(entry, NEOMM__FRAME_DIRTY);
}

void neomm__user_frame_end(struct neomm *root, struct neomm_space *space, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_irq_t irq = neomm__rmap_lock(entry);
    end(root, space, frame, NULL);
    neomm__rmap_unlock(entry, irq);
}

/* A page is being moved to the frame: its leaves may go before others come, and it is the mover's
 * until he is done. */
static bool is_target(const struct neomm__frame *entry)
{
    return neomm__frame_has(entry, NEOMM__FRAME_BUSY) &&
           !neomm__frame_has(entry, NEOMM__FRAME_POLICY);
}

void neomm__user_frame_leave(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             neomm_vaddr_t vaddr, bool dirty, const struct neomm_swap_entry *slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    /* (a page of the cache was marked before its leaf could be written to) */
    if (dirty && entry->kind != NEOMM__KIND_CACHE)
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    neomm_irq_t irq = neomm__rmap_lock(entry);
    struct neomm__rmap_table table =
        neomm__rmap_remove(root, entry, neomm__mapping_make(space->index, vaddr));
    entry->owner += entry->kind == NEOMM__KIND_CACHE;
    bool last = neomm__rmap_count(entry) == 0 && !is_target(entry);
    if (last && slot)
        neomm__readahead_left(root, space, entry, vaddr);
    if (last)
        end(root, space, frame, slot);
    neomm__rmap_unlock(entry, irq);
    neomm__resident_add(space, (size_t)0 - 1);
    if (table.words)
        neomm__rmap_free(root, table);
    if (last)
        neomm__user_frame_put(root, frame);
}

/* ---- many at once ---- */

/* Leaves their domains, then frees them: the last one first, since that is the one that the
 * allocator hands out last. */
static void release_batch(struct neomm__release *release)
{
    struct neomm *root = release->root;
    if (release->count == 0)
        return;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    for (uint32_t i = 0; i < release->count; i++)
        leave_domain(root, release->space, release->frame[i], NULL);
    neomm__unlock(&root->vmm->policy_lock, irq);
    while (release->count > 0)
        neomm__user_frame_put(root, release->frame[--release->count]);
}

void neomm__release_end(struct neomm__release *release)
{
    release_batch(release);
    if (release->leaves != 0)
        neomm__resident_add(release->space, (size_t)0 - release->leaves);
    release->leaves = 0;
}

/* The only leaf of a frame that nobody is looking at goes, at the cost of two locked instructions:
 * no eviction begins from here on, since its set is empty. */
static bool release_only(struct neomm__release *release, neomm_frame_t frame, uint64_t mapping)
{
    struct neomm__frame *entry = neomm__frame(release->root, frame);
    neomm_irq_t irq;
    if (!neomm__rmap_try_empty(entry, mapping, NEOMM__FRAME_BUSY, &irq))
        return false;
    give_slot_back(release->root, frame);
    neomm__rmap_unlock_empty(entry, irq);
    release->leaves++;
    release->frame[release->count] = frame;
    if (++release->count == NEOMM__RELEASE_BATCH)
        release_batch(release);
    return true;
}

void neomm__user_frame_dismiss(struct neomm *root, neomm_frame_t frame, uint64_t mapping,
                               const struct neomm_swap_entry *slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_irq_t irq = neomm__rmap_lock(entry);
    struct neomm__rmap_table table = neomm__rmap_remove(root, entry, mapping);
    NEOMM__ASSERT(neomm__rmap_count(entry) == 0 && !table.words);
    if (slot) /* the object has its count from now on */
        neomm__frame_clear(entry, NEOMM__FRAME_SLOT);
    end(root, NULL, frame, slot);
    neomm__rmap_unlock(entry, irq);
    neomm__user_frame_put(root, frame);
}

static void release_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct neomm__release *release = context;
    struct neomm *root = release->root;
    if (leaf->state == NEOMM_MAPPING_SWAPPED) {
        (void)neomm_swap_free(root, leaf->swap);
        (void)neomm__fetch_sub(&release->space->swap_pages, 1);
        return;
    }
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    if (frame.number != root->vmm->zero.number &&
        !release_only(release, frame, neomm__mapping_make(release->space->index, vaddr)))
        neomm__user_frame_leave(root, release->space, frame, vaddr, leaf->dirty, NULL);
}

void neomm__user_leaf_release(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    neomm__leaf_pages(vaddr, leaf, release_leaf, context);
}

void neomm__user_leaf_moves(struct neomm *root, struct neomm_space *space,
                            const struct neomm_mapping *leaf, neomm_vaddr_t from, neomm_vaddr_t to)
{
    if (leaf->state != NEOMM_MAPPING_PRESENT || leaf->paddr == neomm_frame_paddr(root->vmm->zero))
        return;
    struct neomm__frame *entry = neomm__frame(root, neomm_paddr_frame(leaf->paddr));
    neomm_irq_t irq = neomm__rmap_lock(entry);
    neomm__rmap_replace(root, entry, neomm__mapping_make(space->index, from),
                        neomm__mapping_make(space->index, to));
    neomm__rmap_unlock(entry, irq);
}

/* ---- looking ---- */

struct hold {
    struct neomm *root;
    neomm_paddr_t paddr;
    struct neomm__frame *entry;
};

/* As long as the table is locked, what its leaf leads to stays. */
static void hold_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct hold *hold = context;
    (void)vaddr;
    if (leaf->state != NEOMM_MAPPING_PRESENT || leaf->paddr != hold->paddr)
        return;
    hold->entry = neomm__frame(hold->root, neomm_paddr_frame(leaf->paddr));
    (void)neomm__fetch_add(&hold->entry->references, 1);
}

struct neomm__frame *neomm__user_frame_hold(struct neomm *root, struct neomm_space *space,
                                            neomm_vaddr_t vaddr, neomm_paddr_t paddr)
{
    struct hold hold = {root, paddr, NULL};
    (void)neomm__walk(root, space, vaddr, NEOMM_PAGE_SIZE, hold_leaf, &hold);
    return hold.entry;
}

/* Pinned frames have one mapping and keep it: what they are pinned for must be seen there. */
bool neomm__user_frame_is_exclusive(const struct neomm__frame *entry)
{
    uint32_t references = neomm__load_acquire(&entry->references) % NEOMM__FRAME_PIN;
    return neomm__rmap_count(entry) == 1 && references == 1;
}

neomm_status neomm__user_frame_copy(struct neomm *root, neomm_frame_t to, neomm_frame_t from)
{
    neomm_irq_t irq = neomm_port_irq_save();
    void *target = neomm_frame_map(root, to);
    const void *source = target ? neomm_frame_map(root, from) : NULL;
    if (source) {
        memcpy(target, source, NEOMM_PAGE_SIZE);
        neomm_frame_unmap(root, (void *)(uintptr_t)source);
    }
    if (target)
        neomm_frame_unmap(root, target);
    neomm_port_irq_restore(irq);
    return source ? NEOMM_OK : NEOMM_E_NOMEM;
}
