/* Eviction: writing a page out and giving its frame back, by its mapping set.
 * SPDX-License-Identifier: MIT
 *
 * A page stays mapped until its copy is safe, and each leaf goes by itself:
 *
 *   clear D of all, invalidate -> write frame to slot -> leaf by leaf: exchange for the swap entry
 *                                                        |
 *                                             not clean any more? the page stays
 *
 * No lock is held but inside these steps. A leaf becomes the swap entry only if nobody has written
 * through it since D was cleared, which the exchange itself decides; so there is no moment at which
 * a fault could read a slot that does not hold the page. Whatever fails on the way leaves the page
 * where it is and marked dirty: it is never lost. Leaves that went before that are as good as
 * those that stay, since what several have is not written to.
 */
#include "swap/remove.h"
#include "swap/swap_cache.h"
#include "vmm/cache.h"
#include "vmm/readahead.h"

/* ---- mappings ---- */

bool neomm__evict_mapping(struct neomm__eviction *e, uint32_t *position, struct neomm__leaf *leaf)
{
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    bool found = neomm__rmap_next(e->root, e->entry, position, &leaf->mapping);
    if (found)
        leaf->space = neomm__space_hold_of(e->root, leaf->mapping);
    neomm__rmap_unlock(e->entry, irq);
    leaf->vaddr = found ? neomm__mapping_vaddr(leaf->mapping) : 0;
    if (found && (leaf->mapping & NEOMM__RMAP_OBJECT))
        e->object = leaf->mapping;
    return found;
}

static void drop(struct neomm__leaf *leaf)
{
    if (leaf->space)
        neomm__space_drop(leaf->space);
}

struct bits {
    struct neomm__eviction *e;
    bool clear, accessed, dirty;
};

/* The table is locked, so the frame is there, if it is another one by now, too: that keeps what was
 * taken from its leaf. A page of the cache was marked before its leaf could be written to, and
 * loses the mark with its object locked. */
static void note_page(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct bits *bits = context;
    struct neomm__frame *entry = neomm__frame(bits->e->root, neomm_paddr_frame(leaf->paddr));
    (void)vaddr;
    if (bits->clear && leaf->dirty && neomm__frame_is_user(entry) &&
        entry->kind != NEOMM__KIND_CACHE)
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    if (entry != bits->e->entry)
        return;
    bits->accessed |= leaf->accessed;
    bits->dirty |= leaf->dirty;
}

/* What a huge leaf says it says of all of its pages. */
static void note_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    neomm__leaf_pages(vaddr, leaf, note_page, context);
}

static bool is_wanted(const struct neomm__eviction *e, const struct neomm__leaf *leaf)
{
    return leaf->space && (e->only == 0 || e->only == leaf->mapping);
}

/* A huge leaf has one A for all of its pages, which are tested in turn, as a rule from the first
 * on: so all of them were accessed until the last one has been tested. */
static bool keeps_accessed(const struct neomm__eviction *e, const struct neomm__leaf *at,
                           struct neomm_mapping *leaf)
{
    if (neomm__load_acquire(&at->space->huge) == 0 ||
        neomm_paging_query(e->root, &at->space->tables, at->vaddr, leaf) != NEOMM_OK)
        return false;
    return leaf->state == NEOMM_MAPPING_PRESENT && leaf->size > NEOMM_PAGE_SIZE &&
           (at->vaddr | (leaf->size - 1)) != (at->vaddr | (NEOMM_PAGE_SIZE - 1));
}

static void harvest_leaf(struct bits *bits, const struct neomm__leaf *at)
{
    struct neomm_mapping leaf;
    if (bits->clear || !keeps_accessed(bits->e, at, &leaf)) {
        (void)neomm_paging_harvest(bits->e->root, &at->space->tables, at->vaddr, NEOMM_PAGE_SIZE,
                                   bits->clear, note_leaf, bits);
    } else if (neomm_frame_paddr(bits->e->frame) - leaf.paddr < leaf.size) {
        bits->accessed |= leaf.accessed;
        bits->dirty |= leaf.dirty;
    }
}

/* Reads and clears A of all the frame's leaves, or A and D. */
static struct bits harvest(struct neomm__eviction *e, bool clear)
{
    struct bits bits = {e, clear, false, false};
    struct neomm__leaf leaf;
    uint32_t position = 0;
    while (neomm__evict_mapping(e, &position, &leaf)) {
        if (leaf.space)
            harvest_leaf(&bits, &leaf);
        drop(&leaf);
    }
    return bits;
}

neomm_status neomm__evict_part(struct neomm__eviction *e)
{
    neomm_status status = NEOMM_OK;
    struct neomm__leaf leaf;
    uint32_t position = 0;
    while (status == NEOMM_OK && neomm__evict_mapping(e, &position, &leaf)) {
        if (leaf.space)
            status =
                neomm__leaves_part(e->root, leaf.space, leaf.vaddr, leaf.vaddr + NEOMM_PAGE_SIZE);
        drop(&leaf);
    }
    return status;
}

void neomm__evict_clean(struct neomm__eviction *e)
{
    (void)harvest(e, true);
}

void neomm__evict_test(struct neomm__eviction *e, bool *accessed, bool *dirty)
{
    struct bits bits = harvest(e, false);
    bool young = neomm__frame_age(e->entry);
    *accessed = bits.accessed || young;
    if (*accessed)
        neomm__readahead_tested(e);
    *dirty = bits.dirty || neomm__frame_has(e->entry, NEOMM__FRAME_DIRTY);
}

bool neomm__evict_is_dirty(struct neomm__eviction *e)
{
    bool dirty = neomm__frame_has(e->entry, NEOMM__FRAME_DIRTY);
    struct neomm_mapping now;
    struct neomm__leaf leaf;
    uint32_t position = 0;
    while (!dirty && neomm__evict_mapping(e, &position, &leaf)) {
        dirty = leaf.space &&
                neomm_paging_query(e->root, &leaf.space->tables, leaf.vaddr, &now) == NEOMM_OK &&
                now.state == NEOMM_MAPPING_PRESENT && now.dirty;
        drop(&leaf);
    }
    return dirty;
}

/* What cannot be looked at now is being changed, perhaps locked. */
bool neomm__page_is_locked(struct neomm *root, const struct neomm_space *space, neomm_vaddr_t vaddr)
{
    struct neomm_region_info info;
    uint32_t flags;
    return !neomm__region_look(root, space, vaddr, &info, &flags) || (flags & NEOMM__REGION_LOCKED);
}

bool neomm__evict_is_locked(struct neomm__eviction *e)
{
    struct neomm__leaf leaf;
    uint32_t position = 0;
    bool locked = false;
    while (!locked && neomm__evict_mapping(e, &position, &leaf)) {
        locked = is_wanted(e, &leaf) && neomm__page_is_locked(e->root, leaf.space, leaf.vaddr);
        drop(&leaf);
    }
    return locked;
}

/* A page of an object is the object's, in swap too. */
bool neomm__evict_is_limited(struct neomm__eviction *e)
{
    struct neomm__leaf leaf;
    uint32_t position = 0;
    bool limited = false;
    if (neomm__frame_is_object(e->entry))
        return false;
    while (!limited && neomm__evict_mapping(e, &position, &leaf)) {
        limited = leaf.space && neomm__at_swap_limit(leaf.space);
        drop(&leaf);
    }
    return limited;
}

/* ---- slots ---- */

static neomm_status slot_of(struct neomm__eviction *e)
{
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    neomm_status status = neomm__frame_has(e->entry, NEOMM__FRAME_SLOT)
                              ? neomm_swap_entry_of(e->root, e->entry->owner, &e->slot)
                              : NEOMM_E_NOENT;
    neomm__rmap_unlock(e->entry, irq);
    return status;
}

/* A frame whose mappings have gone meanwhile must not get a slot: nobody would free it. */
static neomm_status give_slot(struct neomm__eviction *e)
{
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    bool mapped = neomm__rmap_count(e->entry) != 0;
    if (mapped) {
        e->entry->owner = e->slot.slot;
        neomm__frame_set(e->entry, NEOMM__FRAME_SLOT | NEOMM__FRAME_DIRTY);
    }
    neomm__rmap_unlock(e->entry, irq);
    if (!mapped)
        (void)neomm_swap_free(e->root, e->slot);
    return mapped ? NEOMM_OK : NEOMM_E_NOENT;
}

bool neomm__evict_take_slot(struct neomm *root, neomm_frame_t frame, bool even_if_busy)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_swap_entry slot;
    neomm_irq_t irq = neomm__rmap_lock(entry);
    bool taken = neomm__frame_has(entry, NEOMM__FRAME_SLOT) &&
                 (even_if_busy || !neomm__frame_has(entry, NEOMM__FRAME_BUSY)) &&
                 neomm_swap_entry_of(root, entry->owner, &slot) == NEOMM_OK;
    if (taken) {
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
        neomm__frame_clear(entry, NEOMM__FRAME_SLOT);
        neomm__swap_cache_remove(root, slot, frame);
        (void)neomm_swap_free(root, slot);
    }
    neomm__rmap_unlock(entry, irq);
    return taken;
}

struct slot_search {
    struct neomm *root;
    bool found;
};

static void strip_slot(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct slot_search *search = context;
    (void)vaddr;
    if (search->found || leaf->state != NEOMM_MAPPING_PRESENT)
        return;
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    search->found = neomm__frame_is_user(neomm__frame(search->root, frame)) &&
                    neomm__evict_take_slot(search->root, frame, false);
}

/* Makes room in swap: a resident page of the space gives up the slot with its clean copy. */
static bool release_a_slot(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    struct slot_search search = {root, false};
    (void)neomm__walk(root, space, layout->user_base, layout->user_limit - layout->user_base,
                      strip_slot, &search);
    return search.found;
}

void neomm__evict_drop_slot(struct neomm__eviction *e)
{
    (void)neomm__evict_take_slot(e->root, e->frame, true);
}

/* Gives the frame a slot if it has none. */
neomm_status neomm__evict_ensure_slot(struct neomm__eviction *e)
{
    struct neomm_space *owner = e->owner;
    uint32_t near = owner ? owner->index : neomm__mapping_space(e->object & ~NEOMM__RMAP_OBJECT);
    if (slot_of(e) == NEOMM_OK) {
        if (!neomm__swap_is_leaving(e->root, e->slot.slot))
            return NEOMM_OK;
        neomm__evict_drop_slot(e);
    }
    if (owner && e->object == 0 && neomm__at_swap_limit(owner))
        return NEOMM_E_LIMIT;
    neomm_status status = neomm_swap_alloc(e->root, near, &e->slot);
    if (status == NEOMM_E_NOSPACE && owner && release_a_slot(e->root, owner))
        status = neomm_swap_alloc(e->root, near, &e->slot);
    return status == NEOMM_OK ? give_slot(e) : status;
}

/* The frame is to be written: to a slot that nobody else reads. A fault that has read this one may
 * still map what it read, as long as the page's entry names this slot. */
neomm_status neomm__evict_own_slot(struct neomm__eviction *e)
{
    if (neomm_swap_users(e->root, e->slot) == 1)
        return NEOMM_OK;
    neomm__evict_drop_slot(e);
    return neomm__evict_ensure_slot(e);
}

/* ---- one page ---- */

/* A leaf of an object's page; the object knows where the page goes. */
static neomm_status empty_leaf(struct neomm__eviction *e, const struct neomm__leaf *at,
                               const struct neomm_mapping *leaf)
{
    const struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    neomm_status status =
        neomm_paging_exchange_exact(e->root, &at->space->tables, at->vaddr, leaf, &none, NULL);
    if (status != NEOMM_OK)
        return status;
    neomm__bump(&at->space->evictions);
    neomm__user_frame_leave(e->root, at->space, e->frame, at->vaddr, false, &e->slot);
    return NEOMM_OK;
}

/* The copy is safe: a leaf that is still clean becomes the swap entry. */
static neomm_status replace_leaf(struct neomm__eviction *e, const struct neomm__leaf *at)
{
    struct neomm_space *space = at->space;
    const struct neomm_mapping swapped = {.state = NEOMM_MAPPING_SWAPPED, .swap = e->slot};
    struct neomm_mapping leaf;
    if (e->object == 0 && neomm__at_swap_limit(space))
        return NEOMM_E_LIMIT;
    neomm_status status = neomm_paging_query(e->root, &space->tables, at->vaddr, &leaf);
    if (status != NEOMM_OK || leaf.state != NEOMM_MAPPING_PRESENT || leaf.dirty ||
        leaf.paddr != neomm_frame_paddr(e->frame))
        return NEOMM_E_AGAIN;
    if (e->object != 0)
        return empty_leaf(e, at, &leaf);
    status = neomm_swap_dup(e->root, e->slot);
    if (status != NEOMM_OK)
        return NEOMM_E_AGAIN;
    status = neomm_paging_exchange_exact(e->root, &space->tables, at->vaddr, &leaf, &swapped, NULL);
    if (status != NEOMM_OK) {
        (void)neomm_swap_free(e->root, e->slot);
        return status;
    }
    neomm__bump(&space->swap_pages);
    neomm__bump(&space->evictions);
    NEOMM__COUNT(e->root, EVICTION);
    neomm__user_frame_leave(e->root, space, e->frame, at->vaddr, false, &e->slot);
    return NEOMM_OK;
}

/* Inside of its region, so that whoever locks it either is seen, or sees that the page went. */
static neomm_status replace_unlocked(struct neomm__eviction *e, const struct neomm__leaf *at)
{
    struct neomm__region *region = neomm__region_try_enter(e->root, at->space, at->vaddr);
    if (!region)
        return NEOMM_E_AGAIN;
    neomm_status status =
        region->flags & NEOMM__REGION_LOCKED ? NEOMM_E_AGAIN : replace_leaf(e, at);
    neomm__region_exit(region);
    return status;
}

/* One round over the set. Removing lets others move up, so where one went the next is looked for;
 * where the table was halved, some are passed over. */
static neomm_status replace_round(struct neomm__eviction *e, bool *some)
{
    neomm_status status = NEOMM_OK;
    struct neomm__leaf leaf;
    uint32_t position = 0;
    while (status == NEOMM_OK && neomm__evict_may_go(e) &&
           neomm__evict_mapping(e, &position, &leaf)) {
        if (is_wanted(e, &leaf)) {
            status = replace_unlocked(e, &leaf);
            *some |= status == NEOMM_OK;
            position -= status == NEOMM_OK;
        }
        drop(&leaf);
    }
    return status;
}

/* Leaves go one by one: who faults meanwhile finds the page that others still have. Nobody could
 * write to it since before D was cleared, if it had several leaves then: it is held since. */
static void cache_page(struct neomm__eviction *e)
{
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    if (e->shared && e->object == 0 && neomm__evict_may_go(e) &&
        neomm__frame_has(e->entry, NEOMM__FRAME_SLOT) && e->entry->owner == e->slot.slot &&
        neomm__rmap_count(e->entry) > 1)
        neomm__swap_cache_add(e->root, e->slot, e->frame);
    neomm__rmap_unlock(e->entry, irq);
}

neomm_status neomm__evict_replace(struct neomm__eviction *e)
{
    neomm_status status;
    bool some;
    cache_page(e);
    do {
        some = false;
        status = replace_round(e, &some);
    } while (status == NEOMM_OK && some && e->only == 0 &&
             neomm__rmap_count(e->entry) > (e->object != 0));
    if (status != NEOMM_OK)
        return status;
    if ((e->only != 0 && some) || neomm__rmap_count(e->entry) == 0)
        return NEOMM_OK;
    if (e->object == 0 || neomm__rmap_count(e->entry) != 1)
        return NEOMM_E_AGAIN;
    status = neomm__object_evict(e->root, e->frame, e->slot);
    if (status == NEOMM_OK)
        NEOMM__COUNT(e->root, EVICTION);
    return status;
}

/* The space that the page is written for: one of those that have it; none for an object's page that
 * nobody has. */
static bool find_owner(struct neomm__eviction *e)
{
    struct neomm__leaf leaf;
    uint32_t position = 0;
    while (neomm__evict_mapping(e, &position, &leaf)) {
        if (is_wanted(e, &leaf)) {
            e->owner = leaf.space;
            e->mapping = leaf.mapping;
            return true;
        }
        drop(&leaf);
    }
    return e->object != 0;
}

/* ---- one at a time ---- */

uint32_t neomm__evictions_wait_begin(struct neomm__vmm *vmm)
{
    (void)neomm__fetch_add(&vmm->evictions_awaited, 1);
    return neomm__load_acquire(&vmm->evictions_ended);
}

void neomm__evictions_wait_end(struct neomm__vmm *vmm, uint32_t ended, uint64_t timeout)
{
    if (timeout != 0)
        (void)neomm_port_wait(&vmm->evictions_ended, ended, timeout);
    (void)neomm__fetch_sub(&vmm->evictions_awaited, 1);
}

void neomm__evict_end(struct neomm__eviction *e)
{
    struct neomm__vmm *vmm = e->root->vmm;
    neomm__frame_clear(e->entry, NEOMM__FRAME_BUSY);
    if (neomm__fetch_add(&vmm->evictions_awaited, 0) == 0)
        return;
    (void)neomm__fetch_add(&vmm->evictions_ended, 1);
    neomm_port_wake(&vmm->evictions_ended, UINT32_MAX);
}

/* The frame is marked before its pins are looked at: see pin_leaf. One that has no mapping is about
 * to leave its domain, with others perhaps (neomm__release_end). */
bool neomm__evict_begin(struct neomm__eviction *e)
{
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    bool marked =
        !neomm__frame_has(e->entry, NEOMM__FRAME_BUSY) && neomm__rmap_count(e->entry) != 0;
    if (marked)
        neomm__frame_set(e->entry, NEOMM__FRAME_BUSY);
    neomm__rmap_unlock(e->entry, irq);
    if (marked && neomm__fetch_add(&e->entry->references, 0) >= NEOMM__FRAME_PIN) {
        neomm__evict_end(e);
        marked = false;
    }
    return marked;
}

/* From here on the page is the evictor's, up to neomm__evict_finish. */
static neomm_status prepare(struct neomm__eviction *e)
{
    if (!find_owner(e) || neomm__evict_part(e) != NEOMM_OK)
        return NEOMM_E_AGAIN;
    e->alone = e->object == 0 && e->owner && neomm__rmap_count(e->entry) == 1;
    e->shared = e->entry->kind == NEOMM__KIND_SHARED && neomm__rmap_count(e->entry) > 1;
    return neomm__evict_ensure_slot(e);
}

bool neomm__evict_prepare(struct neomm__eviction *e)
{
    e->status = NEOMM_E_AGAIN;
    if (!neomm__evict_begin(e))
        return false;
    e->status = e->entry->kind == NEOMM__KIND_CACHE ? neomm__cache_evict(e) : prepare(e);
    if (e->status == NEOMM_OK && e->entry->kind != NEOMM__KIND_CACHE)
        return true;
    neomm__evict_finish(e);
    return false;
}

void neomm__evict_finish(struct neomm__eviction *e)
{
    if (e->owner)
        neomm__space_drop(e->owner);
    neomm__evict_end(e);
}
