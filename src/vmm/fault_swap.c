/* Faults of pages in swap that several have: the swap cache.
 * SPDX-License-Identifier: MIT
 *
 * Who comes first reads the slot, and others who want the same wait for him. If the slot has other
 * users the page gets no right to write, like one that fork has shared, and the slot's record names
 * its frame. Others who have the entry find that, and map the frame beside him:
 *
 *   entry -> record -> READING                   wait, look again
 *                   -> CACHED, frame             one reference, then into its set, then the leaf
 *                   -> neither                   READING, read, map, CACHED
 *
 * A write to such a page copies it if others map it, too; who is alone takes the frame out of the
 * cache and has it for himself, and others will have to read.
 */
#include "vmm/fault.h"

#include "swap/swap_cache.h"
#include "vmm/tally.h"

/* ---- one reads ---- */

bool neomm__fault_begin_read(struct neomm__fault *work, struct neomm_swap_entry entry)
{
    work->reading = neomm__swap_read_begin(work->root, entry, work->apart);
    return work->reading;
}

void neomm__fault_end_read(struct neomm__fault *work)
{
    struct neomm__vmm *vmm = work->root->vmm;
    if (!work->reading)
        return;
    work->reading = false;
    neomm__swap_read_end(work->root, work->read);
    if (neomm__fetch_add(&vmm->reads_awaited, 0) == 0)
        return;
    (void)neomm__fetch_add(&vmm->reads_ended, 1);
    neomm_port_wake(&vmm->reads_ended, UINT32_MAX);
}

/* Outside of the region. */
static enum neomm__round wait_for_reader(struct neomm__fault *work, struct neomm_swap_entry entry)
{
    struct neomm__vmm *vmm = work->root->vmm;
    neomm__fault_leave(work);
    neomm__stall_begin(work->root);
    (void)neomm__fetch_add(&vmm->reads_awaited, 1);
    uint32_t ended = neomm__load_acquire(&vmm->reads_ended);
    if (neomm__swap_is_reading(work->root, entry))
        (void)neomm_port_wait(&vmm->reads_ended, ended, UINT64_MAX);
    (void)neomm__fetch_sub(&vmm->reads_awaited, 1);
    neomm__stall_end(work->root);
    return NEOMM__FAULT_AGAIN;
}

/* ---- others find it; inside of the region ---- */

/* The frame's set has the leaf. */
static enum neomm__round map_found(struct neomm__fault *work, const struct neomm_mapping *old,
                                   neomm_frame_t frame, struct neomm_fault_result *result)
{
    struct neomm *root = work->root;
    neomm_status status =
        neomm__fault_map(work, old, frame, work->region_prot & ~NEOMM_PROT_WRITE, NULL);
    if (status != NEOMM_OK) {
        neomm__user_frame_leave(root, work->space, frame, work->page, false, NULL);
        return status == NEOMM_E_AGAIN ? NEOMM__FAULT_AGAIN : neomm__fault_make_room(work, result);
    }
    (void)neomm__fetch_sub(&work->space->swap_pages, 1);
    (void)neomm_swap_free(root, old->swap);
    if (work->write)
        return NEOMM__FAULT_AGAIN;
    (void)neomm__fault_other(work, result);
    return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_FOUND);
}

static bool is_still(const struct neomm__fault *work, const struct neomm_mapping *old)
{
    struct neomm_mapping now;
    return neomm_paging_query(work->root, &work->space->tables, work->page, &now) == NEOMM_OK &&
           now.state == NEOMM_MAPPING_SWAPPED && neomm__fault_same_entry(&now.swap, &old->swap);
}

/* The page was evicted from here a moment ago, and who did it is about to say so; or somebody was
 * faster, and it is there. */
static void wait_for_evictor(const struct neomm__fault *work, const struct neomm_mapping *old,
                             neomm_frame_t frame)
{
    uint64_t mapping = neomm__mapping_make(work->space->index, work->page);
    struct neomm__frame *entry = neomm__frame(work->root, frame);
    for (;;) {
        neomm_irq_t irq = neomm__rmap_lock(entry);
        bool there = neomm__rmap_has(work->root, entry, mapping);
        neomm__rmap_unlock(entry, irq);
        if (!there || !is_still(work, old))
            return;
        neomm__spin();
    }
}

/* It has no leaf any more: the page has gone on to another frame, and who moved it is about to say
 * so; or it is not in the cache any more. */
static void wait_for_mover(const struct neomm__fault *work, const struct neomm_mapping *old,
                           neomm_frame_t frame)
{
    const struct neomm__frame *entry = neomm__frame(work->root, frame);
    while (neomm__rmap_count(entry) == 0 &&
           neomm__swap_cached(work->root, old->swap).number == frame.number)
        neomm__spin();
}

/* The frame is held. It may lose its last leaf all the same, and with it its place in the cache. */
static enum neomm__round join(struct neomm__fault *work, const struct neomm_mapping *old,
                              neomm_frame_t frame, struct neomm_fault_result *result)
{
    struct neomm *root = work->root;
    enum neomm__round round = NEOMM__FAULT_AGAIN;
    neomm_status status = neomm__user_frame_join(root, work->space, frame, work->page);
    if (status == NEOMM_OK)
        round = map_found(work, old, frame, result);
    else if (status == NEOMM_E_NOMEM || status == NEOMM_E_LIMIT)
        work->apart = true;
    else if (status == NEOMM_E_EXISTS)
        wait_for_evictor(work, old, frame);
    else
        wait_for_mover(work, old, frame);
    neomm__user_frame_put(root, frame);
    return round;
}

bool neomm__fault_find(struct neomm__fault *work, const struct neomm_mapping *old,
                       struct neomm_fault_result *result, enum neomm__round *round)
{
    neomm_frame_t frame;
    switch (neomm__swap_cache_find(work->root, old->swap, &frame)) {
    case NEOMM__SWAP_READING:
        *round = wait_for_reader(work, old->swap);
        return true;
    case NEOMM__SWAP_CACHED:
        if (work->apart) {
            neomm__user_frame_put(work->root, frame);
            return false;
        }
        *round = join(work, old, frame, result);
        return true;
    default:
        return false;
    }
}

/* ---- the first one maps it ---- */

/* Users beside the leaf, and the count that keeps the slot for us. A write makes the page our own,
 * and nobody else's. */
bool neomm__fault_is_shared(const struct neomm__fault *work)
{
    return work->reading && !work->write && neomm_swap_users(work->root, work->read) > 2;
}

/* The frame gets a count of the slot, and is complete before its leaf is there: until then others
 * wait for us, and evictions find no leaf. */
static void enter_cache(struct neomm__fault *work, neomm_frame_t frame)
{
    struct neomm *root = work->root;
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_status status = neomm_swap_dup(root, work->read);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__user_frame_claim(root, work->space, frame, work->page, 0);
    neomm__user_frame_refault(root, work->space, &work->read);
    neomm_irq_t irq = neomm__rmap_lock(entry);
    neomm__store_relaxed(&entry->kind, NEOMM__KIND_SHARED);
    entry->owner = work->read.slot;
    neomm__frame_set(entry, NEOMM__FRAME_SLOT);
    neomm__swap_cache_add(root, work->read, frame);
    neomm__rmap_unlock(entry, irq);
    neomm__resident_add(work->space, 1);
    neomm__user_frame_admit(root, &root->vmm->global, frame);
}

enum neomm__round neomm__fault_map_shared(struct neomm__fault *work,
                                          const struct neomm_mapping *old,
                                          struct neomm_fault_result *result)
{
    neomm_frame_t frame = work->frame;
    enter_cache(work, frame);
    work->frame = neomm_frame(0);
    enum neomm__round round = map_found(work, old, frame, result);
    neomm__fault_drop_contents(work);
    if (round == NEOMM__FAULT_AGAIN)
        return round;
    neomm__fault_swapped_in(work);
    return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_SWAP_IN);
}

/* ---- whoever is alone has it for himself ---- */

bool neomm__fault_take(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    if (!neomm__user_frame_is_exclusive(entry))
        return false;
    if (!neomm__frame_has(entry, NEOMM__FRAME_SLOT))
        return true;
    neomm__user_frame_uncache(root, frame);
    return neomm__user_frame_is_exclusive(entry);
}
