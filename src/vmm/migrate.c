/* Migration: a page goes to another frame while it is in use.
 * SPDX-License-Identifier: MIT
 *
 * A private page moves as an evicted one goes, and stays mapped all the time:
 *
 *   clear D of all, invalidate -> copy -> leaf by leaf: exchange for the other frame
 *                                         |
 *                              not clean any more? the rest stays where it is
 *
 * Both frames are busy and held meanwhile, so neither is evicted, pinned or made writable. Where
 * some leaves moved and others did not, there are two frames with the same contents, which nobody
 * writes to: as after a copy. A page of an object loses its leaves instead, with the object locked,
 * and they come back by faults.
 *
 * The new frame is in no policy before its leaves have come, and then takes the place of the old
 * one. Busy and without a policy it is ours, also when somebody unmaps all that has come so far.
 */
#include "vmm/migrate.h"

#include "swap/swap_cache.h"
#include "vmm/cache.h"

struct migration {
    struct neomm *root;
    struct neomm__eviction from, to;
    struct neomm_space *space; /* of the leaf that moved last; held */
};

bool neomm__is_movable(const struct neomm__frame *entry)
{
    return neomm__frame_is_user(entry) && neomm__frame_has(entry, NEOMM__FRAME_POLICY) &&
           !neomm__frame_has(entry, NEOMM__FRAME_BUSY) && neomm__frame_pins(entry) == 0;
}

/* Only while its domain is locked does a frame in it stay. */
static bool hold(struct neomm *root, struct neomm__frame *entry)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    bool there = neomm__is_movable(entry);
    if (there)
        (void)neomm__fetch_add(&entry->references, 1);
    neomm__unlock(&root->vmm->policy_lock, irq);
    return there;
}

/* A frame that nobody knows: one reference is for its leaves to come, one for us. */
static neomm_status fetch_target(struct migration *m)
{
    const neomm_flags_t flags = NEOMM_HIGH | NEOMM_MOVABLE | NEOMM_NORECLAIM;
    neomm_status status = NEOMM__FAULT(VMM_MIGRATE)
                              ? NEOMM_E_NOMEM
                              : neomm_pmm_alloc(m->root, 0, flags, &m->to.frame);
    if (status != NEOMM_OK)
        return status;
    m->to.root = m->root;
    m->to.entry = neomm__frame(m->root, m->to.frame);
    m->to.entry->kind = m->from.entry->kind;
    neomm__frame_set(m->to.entry, NEOMM__FRAME_BUSY);
    (void)neomm__fetch_add(&m->to.entry->references, 1);
    return NEOMM_OK;
}

/* What the old frame holds from now on only those can change who make a leaf dirty. */
static neomm_status copy(struct migration *m)
{
    neomm__evict_clean(&m->from);
    if (neomm__frame_has(m->from.entry, NEOMM__FRAME_DIRTY))
        neomm__frame_set(m->to.entry, NEOMM__FRAME_DIRTY);
    if (neomm__frame_is_young(m->from.entry))
        neomm__frame_rejuvenate(m->to.entry);
    if (neomm__frame_was_ahead(m->from.entry))
        neomm__frame_mark_ahead(m->to.entry);
    return neomm__user_frame_copy(m->root, m->to.frame, m->from.frame);
}

/* ---- leaves of a private page ---- */

static void remove_entry(struct migration *m, struct neomm__frame *entry, uint64_t mapping)
{
    neomm_irq_t irq = neomm__rmap_lock(entry);
    struct neomm__rmap_table table = neomm__rmap_remove(m->root, entry, mapping);
    neomm__rmap_unlock(entry, irq);
    if (table.words)
        neomm__rmap_free(m->root, table);
}

static neomm_status move_leaf(struct migration *m, const struct neomm__leaf *at)
{
    struct neomm_tables *tables = &at->space->tables;
    struct neomm_mapping leaf, next;
    neomm_status status = neomm_paging_query(m->root, tables, at->vaddr, &leaf);
    if (status != NEOMM_OK || leaf.state != NEOMM_MAPPING_PRESENT || leaf.dirty ||
        leaf.paddr != neomm_frame_paddr(m->from.frame))
        return NEOMM_E_AGAIN;
    status = neomm__rmap_add(m->root, m->to.entry, at->mapping);
    if (status != NEOMM_OK)
        return status;
    next = leaf;
    next.paddr = neomm_frame_paddr(m->to.frame);
    status = neomm_paging_exchange_exact(m->root, tables, at->vaddr, &leaf, &next, NULL);
    remove_entry(m, status == NEOMM_OK ? m->from.entry : m->to.entry, at->mapping);
    return status;
}

/* The space is kept: it may be the frame's domain. */
static void keep_space(struct migration *m, struct neomm_space *space)
{
    if (m->space)
        neomm__space_drop(m->space);
    m->space = space;
}

/* One round over the set; where one went the next is looked for. */
static neomm_status move_round(struct migration *m, bool *some)
{
    neomm_status status = NEOMM_OK;
    struct neomm__leaf leaf;
    uint32_t position = 0;
    while (status == NEOMM_OK && neomm__evict_mapping(&m->from, &position, &leaf)) {
        if (!leaf.space)
            return NEOMM_E_AGAIN;
        status = move_leaf(m, &leaf);
        if (status == NEOMM_OK) {
            keep_space(m, leaf.space);
            *some = true;
            position--;
        } else {
            neomm__space_drop(leaf.space);
        }
    }
    return status;
}

static void move_private(struct migration *m)
{
    bool some;
    if (neomm__evict_part(&m->from) != NEOMM_OK || copy(m) != NEOMM_OK)
        return;
    do
        some = false;
    while (move_round(m, &some) == NEOMM_OK && some && neomm__rmap_count(m->from.entry) != 0);
}

/* ---- a page of an object ---- */

/* The object is locked. Nobody but us looks at a frame without leaves. A page that is just being
 * read or written stays. */
static void move_page(struct migration *m, struct neomm_object *object, uint64_t mapping)
{
    struct neomm *root = m->root;
    uint64_t page = neomm__mapping_vaddr(mapping) >> NEOMM_PAGE_SHIFT;
    uint64_t word = neomm__page_get(&object->pages, page), ahead = word & NEOMM__PAGE_AHEAD;
    if ((word ^ ahead) != neomm__page_of_frame(m->from.frame))
        return;
    neomm__object_unmap(root, m->from.frame);
    if (neomm__load_acquire(&m->from.entry->references) != 2 || copy(m) != NEOMM_OK)
        return;
    neomm_status status = neomm__rmap_add(root, m->to.entry, mapping);
    NEOMM__ASSERT(status == NEOMM_OK);
    status = neomm__page_set(root, &object->pages, page, neomm__page_of_frame(m->to.frame) | ahead);
    NEOMM__ASSERT(status == NEOMM_OK);
    remove_entry(m, m->from.entry, mapping);
}

/* ---- the end ---- */

/* The slot goes over; the locks of neither frame are needed for the old one, which has no leaves
 * and is busy. */
static void take_slot(struct migration *m)
{
    if (!neomm__frame_has(m->from.entry, NEOMM__FRAME_SLOT))
        return;
    struct neomm_swap_entry slot;
    m->to.entry->owner = m->from.entry->owner;
    if (neomm_swap_entry_of(m->root, m->to.entry->owner, &slot) == NEOMM_OK)
        neomm__swap_cache_move(m->root, slot, m->from.frame, m->to.frame);
    neomm__frame_set(m->to.entry, NEOMM__FRAME_SLOT);
    neomm__frame_clear(m->from.entry, NEOMM__FRAME_SLOT);
}

/* With the policies' lock: the new frame stands where the old one stood, if they are of the same
 * domain still. */
static void take_place(struct migration *m)
{
    struct neomm_policy *old = neomm__user_frame_policy(m->root, m->from.entry, m->space);
    struct neomm_policy *now = neomm__user_frame_policy(m->root, m->to.entry, m->space);
    if (old == now && old->ops->replace) {
        old->ops->replace(old, m->from.frame, m->to.frame);
    } else {
        old->ops->leave(old, m->from.frame, NULL);
        now->ops->enter(now, m->to.frame);
    }
    neomm__frame_clear(m->from.entry, NEOMM__FRAME_POLICY);
}

/* With the policies' lock: has the page had leaves in several spaces? The old frame may have got
 * others since the new one was made, of which only one is left. */
static bool is_shared(const struct migration *m)
{
    return m->from.entry->kind == NEOMM__KIND_SHARED || neomm__rmap_count(m->to.entry) > 1;
}

/* The new frame has leaves, which cannot go while it is locked. */
static void enter_target(struct migration *m, bool whole)
{
    struct neomm__frame *entry = m->to.entry;
    if (whole)
        take_slot(m);
    else
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    neomm_irq_t irq = neomm__lock(&m->root->vmm->policy_lock);
    if (entry->kind == NEOMM__KIND_USER && is_shared(m))
        neomm__store_relaxed(&entry->kind, NEOMM__KIND_SHARED);
    struct neomm_policy *policy = neomm__user_frame_policy(m->root, entry, m->space);
    if (whole)
        take_place(m);
    else
        policy->ops->enter(policy, m->to.frame);
    neomm__frame_set(entry, NEOMM__FRAME_POLICY);
    neomm__unlock(&m->root->vmm->policy_lock, irq);
}

/* `whole`: the old frame lost its last leaf to us. */
static void finish_target(struct migration *m, bool whole)
{
    struct neomm__frame *entry = m->to.entry;
    neomm_irq_t irq = neomm__rmap_lock(entry);
    bool mapped = neomm__rmap_count(entry) != 0;
    if (mapped)
        enter_target(m, whole);
    neomm__rmap_unlock(entry, irq);
    neomm__evict_end(&m->to);
    if (!mapped && whole)
        neomm__user_frame_end(m->root, m->space, m->from.frame);
    if (!mapped)
        neomm__user_frame_put(m->root, m->to.frame);
    neomm__user_frame_put(m->root, m->to.frame);
}

/* The old frame has no leaves: if nobody looks at it, it is ours. */
static bool take_frame(struct migration *m, bool whole)
{
    struct neomm__frame *entry = m->from.entry;
    if (whole)
        (void)neomm__fetch_sub(&entry->references, 1);
    if (neomm__rmap_count(entry) != 0 || neomm__load_acquire(&entry->references) != 1) {
        neomm__user_frame_put(m->root, m->from.frame);
        return false;
    }
    neomm__frame_forget(entry);
    entry->kind = NEOMM__KIND_NONE;
    entry->owner = 0;
    neomm__frame_clear(entry, ~NEOMM__FRAME_ALLOCATED);
    NEOMM__COUNT(m->root, MIGRATION);
    return true;
}

/* Has the old frame lost its last leaf to us, and not to somebody who unmapped it? */
static bool is_whole(const struct migration *m)
{
    neomm_irq_t irq = neomm__rmap_lock(m->from.entry);
    bool whole = neomm__rmap_count(m->from.entry) == 0 &&
                 neomm__frame_has(m->from.entry, NEOMM__FRAME_POLICY);
    neomm__rmap_unlock(m->from.entry, irq);
    return whole;
}

static bool settle(struct migration *m)
{
    bool whole = is_whole(m);
    finish_target(m, whole);
    return whole;
}

/* Who truncates the object finds either frame as it must be. */
static bool move_shared(struct migration *m)
{
    uint64_t mapping;
    struct neomm_object *object = neomm__object_hold(m->root, m->from.entry, &mapping);
    bool locked = object && neomm__mutex_try_lock(&object->lock);
    if (locked)
        move_page(m, object, mapping);
    bool whole = settle(m);
    if (locked)
        neomm__mutex_unlock(&object->lock);
    if (object)
        neomm__object_drop(object);
    return whole;
}

/* Has the frame lost its page to the other one? */
static bool move_busy(struct migration *m)
{
    if (fetch_target(m) != NEOMM_OK)
        return false;
    if (neomm__frame_is_object(m->from.entry))
        return move_shared(m);
    move_private(m);
    return settle(m);
}

bool neomm__migrate(struct neomm *root, neomm_frame_t frame)
{
    struct migration m = {.root = root, .from = {.root = root, .frame = frame}};
    m.from.entry = neomm__frame(root, frame);
    if (!hold(root, m.from.entry))
        return false;
    if (!neomm__evict_begin(&m.from)) {
        neomm__user_frame_put(root, frame);
        return false;
    }
    bool whole = move_busy(&m);
    neomm__evict_end(&m.from);
    bool taken = take_frame(&m, whole);
    if (m.space)
        neomm__space_drop(m.space);
    return taken;
}
