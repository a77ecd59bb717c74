/* Write-back: pages that were chosen leave memory together.
 * SPDX-License-Identifier: MIT
 *
 *   prepared -> D of all cleared -> all written -> all leaves that are clean still: swap entries
 *               one invalidation    one batch of   one invalidation
 *               a space             requests       a space
 *
 * What happens to one page is nothing to the others: it has a slot, a status and a mark (BUSY) of
 * its own. Pages with a single leaf are worked off together, ordered by space and address; those of
 * objects and those that several spaces have, one by one, but are written with the others.
 *
 * Nothing is allocated: batches were made when the layer was, and there are NEOMM__WRITE_BACKS of
 * them. So no more than that many times 32 pages are on their way to devices; who wants to reclaim
 * more waits until a batch has ended.
 */
#include "vmm/evict.h"

/* The batch as its steps see it; a single page has one on the stack. */
struct outgoing {
    struct neomm__eviction *e;
    uint32_t count;
    struct neomm_swap_page *page;
    struct neomm_paging_victim *victim;
    uint8_t *order;
};

static bool is_due(const struct neomm__eviction *e)
{
    return e->status == NEOMM_OK;
}

/* ---- pages with one leaf, by space and address ---- */

/* Fills in the order of those that are due; how many. Where a page has gone from one frame to
 * another just now, both may say they have it: the second is worked off by itself. */
static uint32_t sort(struct outgoing *o)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        struct neomm__eviction *e = &o->e[i];
        if (!is_due(e) || !e->alone)
            continue;
        uint32_t at = count;
        while (at > 0 && o->e[o->order[at - 1]].mapping > e->mapping)
            at--;
        e->alone = at == 0 || o->e[o->order[at - 1]].mapping != e->mapping;
        if (!e->alone)
            continue;
        for (uint32_t j = count; j > at; j--)
            o->order[j] = o->order[j - 1];
        o->order[at] = (uint8_t)i;
        count++;
    }
    return count;
}

/* Those from `first` on that are of the same space: victims in the same order; where they end. */
static uint32_t gather(struct outgoing *o, uint32_t first, uint32_t count, uint32_t *victims)
{
    const struct neomm_space *owner = o->e[o->order[first]].owner;
    uint32_t i = first;
    *victims = 0;
    for (; i < count && o->e[o->order[i]].owner == owner; i++) {
        const struct neomm__eviction *e = &o->e[o->order[i]];
        if (is_due(e))
            o->victim[(*victims)++] = (struct neomm_paging_victim){
                .vaddr = neomm__mapping_vaddr(e->mapping), .frame = e->frame, .slot = e->slot};
    }
    return i;
}

/* ---- cleaning ---- */

static void clean_space(struct outgoing *o, uint32_t first, uint32_t victims)
{
    struct neomm__eviction *e = &o->e[o->order[first]];
    neomm_status status = neomm_paging_clean(e->root, &e->owner->tables, o->victim, victims);
    NEOMM__ASSERT(status == NEOMM_OK);
    for (uint32_t i = 0; i < victims; i++)
        if (o->victim[i].dirty)
            neomm__frame_set(neomm__frame(e->root, o->victim[i].frame), NEOMM__FRAME_DIRTY);
}

static void clean_all(struct outgoing *o)
{
    uint32_t count = sort(o), victims;
    for (uint32_t first = 0, end; first < count; first = end) {
        end = gather(o, first, count, &victims);
        clean_space(o, first, victims);
    }
    for (uint32_t i = 0; i < o->count; i++)
        if (is_due(&o->e[i]) && !o->e[i].alone)
            neomm__evict_clean(&o->e[i]);
}

/* ---- writing ---- */

/* A count of the slot and the reference of the frame are held meanwhile, so that neither gets
 * another owner if the page is unmapped. */
static bool begin_write(struct neomm__eviction *e, struct neomm_swap_page *page)
{
    if (!is_due(e) || neomm__evict_may_go(e))
        return false;
    e->status = neomm__evict_own_slot(e);
    if (e->status == NEOMM_OK)
        e->status = neomm_swap_dup(e->root, e->slot);
    if (e->status != NEOMM_OK)
        return false;
    neomm__frame_clear(e->entry, NEOMM__FRAME_DIRTY);
    *page = (struct neomm_swap_page){e->slot, e->frame, NEOMM_OK};
    return true;
}

static void end_write(struct neomm__eviction *e, neomm_status status)
{
    e->status = status;
    if (status != NEOMM_OK)
        neomm__frame_set(e->entry, NEOMM__FRAME_DIRTY);
    else if (e->owner)
        neomm__bump(&e->owner->swap_writes);
    (void)neomm_swap_free(e->root, e->slot);
    if (status == NEOMM_E_IO) /* and the slot is marked bad */
        neomm__evict_drop_slot(e);
}

static void write_all(struct outgoing *o)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < o->count; i++)
        if (begin_write(&o->e[i], &o->page[count]))
            o->order[count++] = (uint8_t)i;
    if (count != 0)
        (void)neomm_swap_write(o->e[0].root, o->page, count);
    for (uint32_t i = 0; i < count; i++)
        end_write(&o->e[o->order[i]], o->page[i].status);
}

/* Did a device take any of what was written, or was there but one page? */
static bool is_worth_another(const struct outgoing *o)
{
    bool taken = o->count == 1;
    for (uint32_t i = 0; i < o->count; i++)
        taken |= is_due(&o->e[i]);
    return taken;
}

/* Pages that a device refused go to another slot, once; unless it refused all of them, and more
 * slots would be lost for nothing. */
static void write_elsewhere(struct outgoing *o)
{
    bool again = false;
    if (!is_worth_another(o))
        return;
    for (uint32_t i = 0; i < o->count; i++) {
        struct neomm__eviction *e = &o->e[i];
        if (e->status != NEOMM_E_IO)
            continue;
        e->status = neomm__evict_ensure_slot(e);
        if (e->status != NEOMM_OK)
            e->status = NEOMM_E_IO;
        again |= is_due(e);
    }
    if (again)
        write_all(o);
}

/* ---- leaving ---- */

/* Inside of its region, so that whoever locks it either is seen, or sees that the page went.
 * Neighbours share the visit. */
static const struct neomm__region *enter(struct neomm__eviction *e,
                                         const struct neomm__region *region)
{
    neomm_vaddr_t vaddr = neomm__mapping_vaddr(e->mapping);
    if (!region || vaddr < region->start || vaddr >= region->end)
        region = e->region = neomm__region_try_enter(e->root, e->owner, vaddr);
    if (!region || (region->flags & NEOMM__REGION_LOCKED))
        e->status = NEOMM_E_AGAIN;
    return region;
}

/* The leaf's count of its slot, and its place within the limit, are taken first. */
static neomm_status begin_leaving(struct neomm__eviction *e)
{
    if (!neomm__evict_may_go(e))
        return NEOMM_E_AGAIN;
    if (neomm__at_swap_limit(e->owner))
        return NEOMM_E_LIMIT;
    if (neomm_swap_dup(e->root, e->slot) != NEOMM_OK)
        return NEOMM_E_AGAIN;
    neomm__bump(&e->owner->swap_pages);
    return NEOMM_OK;
}

static void end_leaving(struct neomm__eviction *e, const struct neomm_paging_victim *victim)
{
    if (!victim->gone) {
        (void)neomm__fetch_sub(&e->owner->swap_pages, 1);
        (void)neomm_swap_free(e->root, e->slot);
        e->status = NEOMM_E_AGAIN;
        return;
    }
    neomm__bump(&e->owner->evictions);
    NEOMM__COUNT(e->root, EVICTION);
    neomm__user_frame_leave(e->root, e->owner, e->frame, victim->vaddr, false, &e->slot);
}

static void leave_space(struct outgoing *o, uint32_t first, uint32_t end)
{
    struct neomm__eviction *one = &o->e[o->order[first]];
    const struct neomm__region *region = NULL;
    uint32_t victims, next = 0;
    for (uint32_t i = first; i < end; i++) {
        struct neomm__eviction *e = &o->e[o->order[i]];
        region = enter(e, region);
        if (is_due(e))
            e->status = begin_leaving(e);
    }
    (void)gather(o, first, end, &victims);
    neomm_status status = neomm_paging_swap_out(one->root, &one->owner->tables, o->victim, victims);
    NEOMM__ASSERT(status == NEOMM_OK);
    for (uint32_t i = first; i < end; i++)
        if (is_due(&o->e[o->order[i]]))
            end_leaving(&o->e[o->order[i]], &o->victim[next++]);
    for (uint32_t i = first; i < end; i++)
        if (o->e[o->order[i]].region)
            neomm__region_exit(o->e[o->order[i]].region);
}

/* Where a page got another leaf meanwhile, the rest of it goes as those do that had several. */
static void leave_all(struct outgoing *o)
{
    uint32_t count = sort(o), victims;
    for (uint32_t first = 0, end; first < count; first = end) {
        end = gather(o, first, count, &victims);
        leave_space(o, first, end);
    }
    for (uint32_t i = 0; i < o->count; i++) {
        struct neomm__eviction *e = &o->e[i];
        bool whole = e->alone && (e->only != 0 || neomm__rmap_count(e->entry) == 0);
        if (is_due(e) && !whole)
            e->status = neomm__evict_replace(e);
    }
}

/* ---- the whole ---- */

static void write_back(struct outgoing *o)
{
    clean_all(o);
    write_all(o);
    write_elsewhere(o);
    for (uint32_t i = 0; i < o->count; i++)
        if (neomm__rmap_count(o->e[i].entry) == 0)
            o->e[i].status = NEOMM_E_NOENT;
    leave_all(o);
    for (uint32_t i = 0; i < o->count; i++)
        neomm__evict_finish(&o->e[i]);
}

void neomm__write_back(struct neomm__write_back *batch)
{
    struct outgoing o = {batch->e, batch->count, batch->page, batch->victim, batch->order};
    if (o.count != 0)
        write_back(&o);
}

neomm_status neomm__evict_frame(struct neomm__eviction *e)
{
    struct neomm_swap_page page;
    struct neomm_paging_victim victim;
    uint8_t order;
    struct outgoing o = {e, 1, &page, &victim, &order};
    if (neomm__evict_prepare(e))
        write_back(&o);
    return e->status;
}

struct neomm__write_back *neomm__write_back_take(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    for (;;) {
        uint32_t ended = neomm__load_acquire(&vmm->write_backs_ended);
        for (uint32_t i = 0; i < NEOMM__WRITE_BACKS; i++)
            if (neomm__exchange(&vmm->write_back[i].busy, 1) == 0) {
                vmm->write_back[i].count = 0;
                return &vmm->write_back[i];
            }
        (void)neomm_port_wait(&vmm->write_backs_ended, ended, UINT64_MAX);
    }
}

void neomm__write_back_give(struct neomm *root, struct neomm__write_back *batch)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm__store_release(&batch->busy, 0);
    (void)neomm__fetch_add(&vmm->write_backs_ended, 1);
    neomm_port_wake(&vmm->write_backs_ended, UINT32_MAX);
}
