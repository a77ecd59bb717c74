/* The page cache: leaves of its pages, and giving pages up.
 * SPDX-License-Identifier: MIT */
#include "vmm/cache.h"
#include "vmm/tally.h"

/* ---- the right to write ---- */

/* As it is at one moment: `owner` counts the entries that left the set, so the same stamp before
 * and after a walk says that none came or went. */
struct stamp {
    uint32_t count, left;
};

static struct stamp stamp_of(struct neomm__frame *entry)
{
    neomm_irq_t irq = neomm__rmap_lock(entry);
    const struct stamp stamp = {neomm__rmap_count(entry), entry->owner};
    neomm__rmap_unlock(entry, irq);
    return stamp;
}

static void protect_leaf(struct neomm *root, const struct neomm__leaf *at, neomm_frame_t frame)
{
    struct neomm_mapping leaf;
    neomm_status status;
    do {
        status = neomm_paging_query(root, &at->space->tables, at->vaddr, &leaf);
        if (status != NEOMM_OK || leaf.state != NEOMM_MAPPING_PRESENT ||
            leaf.paddr != neomm_frame_paddr(frame) || !(leaf.prot & NEOMM_PROT_WRITE))
            return;
        struct neomm_mapping next = leaf;
        next.prot &= ~NEOMM_PROT_WRITE;
        next.dirty = false;
        status =
            neomm_paging_exchange_exact(root, &at->space->tables, at->vaddr, &leaf, &next, NULL);
    } while (status == NEOMM_E_AGAIN);
    NEOMM__ASSERT(status == NEOMM_OK);
}

void neomm__cache_protect(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__eviction e = {.root = root, .frame = frame, .entry = neomm__frame(root, frame)};
    struct stamp before, after;
    NEOMM__ASSERT(e.entry);
    do {
        struct neomm__leaf leaf;
        uint32_t position = 0;
        before = stamp_of(e.entry);
        while (neomm__evict_mapping(&e, &position, &leaf))
            if (leaf.space) {
                protect_leaf(root, &leaf, frame);
                neomm__space_drop(leaf.space);
            }
        after = stamp_of(e.entry);
    } while (before.count != after.count || before.left != after.left);
}

/* ---- around a fault ---- */

struct around {
    struct neomm *root;
    struct neomm_space *space;
    const struct neomm__region *region;
    struct neomm_object *object;
};

/* false: not more of this. */
static bool map_one(const struct around *a, neomm_vaddr_t vaddr, neomm_frame_t frame)
{
    struct neomm *root = a->root;
    struct neomm_mapping old, next = {.state = NEOMM_MAPPING_PRESENT,
                                      .prot = a->region->prot & ~NEOMM_PROT_WRITE,
                                      .paddr = neomm_frame_paddr(frame),
                                      .size = NEOMM_PAGE_SIZE};
    if (neomm_paging_query(root, &a->space->tables, vaddr, &old) != NEOMM_OK ||
        old.state != NEOMM_MAPPING_NONE)
        return true;
    if (neomm__user_frame_add(root, a->space, frame, vaddr) != NEOMM_OK)
        return false;
    if (neomm_paging_exchange_exact(root, &a->space->tables, vaddr, &old, &next, NULL) ==
        NEOMM_OK) {
        neomm__bump(&root->vmm->counts.around);
        return true;
    }
    neomm__user_frame_leave(root, a->space, frame, vaddr, false, NULL);
    return false;
}

void neomm__cache_map_around(struct neomm *root, struct neomm_space *space,
                             const struct neomm__region *region, struct neomm_object *object,
                             uint64_t page)
{
    const struct around around = {root, space, region, object};
    uint64_t end = region->offset + ((region->end - region->start) >> NEOMM_PAGE_SHIFT);
    uint64_t at = NEOMM__ALIGN_DOWN(page, NEOMM_FAULT_AROUND), last = at + NEOMM_FAULT_AROUND;
    const uint64_t not_these = NEOMM__PAGE_READING | NEOMM__PAGE_AHEAD;
    at = at > region->offset ? at : region->offset;
    last = last < end ? last : end;
    for (; at < last; at++) {
        uint64_t word = neomm__page_get(&object->pages, at);
        neomm_vaddr_t vaddr =
            region->start + ((neomm_vaddr_t)(at - region->offset) << NEOMM_PAGE_SHIFT);
        if (at == page || !neomm__page_is_frame(word) || (word & not_these))
            continue;
        if (neomm__resident_at_limit(root, space) ||
            !map_one(&around, vaddr, neomm__page_frame(word)))
            return;
    }
}

/* ---- giving up ---- */

/* Inside of its region, as any eviction; what is dirty is not known from leaves. */
static neomm_status unmap_leaf(const struct neomm__eviction *e, const struct neomm__leaf *at)
{
    const struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    const struct neomm_mapping leaf = {.state = NEOMM_MAPPING_PRESENT,
                                       .paddr = neomm_frame_paddr(e->frame)};
    struct neomm__region *region = neomm__region_try_enter(e->root, at->space, at->vaddr);
    neomm_status status = NEOMM_E_AGAIN;
    if (!region)
        return status;
    if (!(region->flags & NEOMM__REGION_LOCKED))
        status = neomm_paging_exchange(e->root, &at->space->tables, at->vaddr, &leaf, &none, NULL);
    neomm__region_exit(region);
    if (status == NEOMM_OK) {
        neomm__bump(&at->space->evictions);
        neomm__user_frame_leave(e->root, at->space, e->frame, at->vaddr, false, NULL);
    }
    return status;
}

/* All leaves, or the one that is wanted. Where one went others move up. */
static neomm_status unmap_leaves(struct neomm__eviction *e)
{
    neomm_status status = NEOMM_OK;
    struct neomm__leaf leaf;
    uint32_t position = 0;
    bool some = false;
    while (status == NEOMM_OK && neomm__evict_mapping(e, &position, &leaf)) {
        if (!leaf.space)
            continue;
        if (e->only == 0 || e->only == leaf.mapping) {
            status = unmap_leaf(e, &leaf);
            some |= status == NEOMM_OK;
            position -= status == NEOMM_OK;
        }
        neomm__space_drop(leaf.space);
        if (some && e->only != 0)
            break;
    }
    if (status != NEOMM_OK || e->only == 0)
        return status;
    return some ? NEOMM_OK : NEOMM_E_AGAIN;
}

/* The object whose page the frame is, held; NULL: it has been cut off. */
static struct neomm_object *hold_object(struct neomm__eviction *e)
{
    struct neomm_object *object = NULL;
    uint32_t position = 0;
    uint64_t mapping;
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    while (!object && neomm__rmap_next(e->root, e->entry, &position, &mapping))
        if (mapping & NEOMM__RMAP_OBJECT) {
            e->object = mapping;
            object = e->root->vmm->object[neomm__mapping_space(mapping & ~NEOMM__RMAP_OBJECT)];
            neomm__cache_hold(object);
        }
    neomm__rmap_unlock(e->entry, irq);
    return object;
}

static uint64_t page_of(const struct neomm__eviction *e)
{
    return neomm__mapping_vaddr(e->object) >> NEOMM_PAGE_SHIFT;
}

/* Nobody maps it meanwhile: the object is locked. */
static neomm_status drop_page(struct neomm__eviction *e, struct neomm_object *object)
{
    neomm__cache_collect(e->root, object);
    uint64_t word = neomm__page_get(&object->pages, page_of(e)) & ~NEOMM__PAGE_AHEAD;
    if (e->wait && word == (neomm__page_of_frame(e->frame) | NEOMM__PAGE_WRITING))
        return NEOMM_E_BUSY;
    if (word != neomm__page_of_frame(e->frame))
        return NEOMM_E_AGAIN;
    if (neomm__frame_has(e->entry, NEOMM__FRAME_DIRTY))
        return NEOMM_E_BUSY;
    neomm_status status = unmap_leaves(e);
    if (status != NEOMM_OK || neomm__rmap_count(e->entry) != 1 ||
        neomm__load_acquire(&e->entry->references) != 2)
        return NEOMM_E_AGAIN;
    neomm__user_frame_dismiss(e->root, e->frame, e->object, NULL);
    neomm__cache_leave_shadow(e->root, object, page_of(e));
    NEOMM__COUNT(e->root, EVICTION);
    return NEOMM_OK;
}

static neomm_status try_drop(struct neomm__eviction *e, struct neomm_object *object)
{
    if (!neomm__mutex_try_lock(&object->lock))
        return NEOMM_E_AGAIN;
    neomm_status status = drop_page(e, object);
    neomm__mutex_unlock(&object->lock);
    return status;
}

/* The page with its neighbours, or what others are writing of it. What the pager says is about this
 * page, and not about memory or swap. */
static neomm_status write_out(struct neomm__eviction *e, struct neomm_object *object)
{
    uint64_t page = page_of(e);
    neomm_status status = neomm__cache_write(e->root, object, page, UINT64_MAX, true);
    if (status == NEOMM_OK && e->wait)
        status = neomm__cache_write(e->root, object, page, page, false);
    return status == NEOMM_OK ? NEOMM_OK : NEOMM_E_IO;
}

neomm_status neomm__cache_evict(struct neomm__eviction *e)
{
    if (e->only != 0)
        return unmap_leaves(e);
    struct neomm_object *object = hold_object(e);
    if (!object)
        return NEOMM_E_NOENT;
    neomm_status status = try_drop(e, object);
    if (status == NEOMM_E_BUSY && !e->clean_only) {
        status = write_out(e, object);
        if (status == NEOMM_OK)
            status = try_drop(e, object);
    }
    neomm__cache_release(object);
    return status == NEOMM_E_BUSY && !e->clean_only ? NEOMM_E_AGAIN : status;
}

/* ---- advice ---- */

void neomm__cache_will_need(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                            neomm_vaddr_t end)
{
    while (start < end) {
        neomm__mutex_lock(&space->lock);
        const struct neomm__region *region = neomm__region_first(&space->map, start);
        bool found = region && region->start < end;
        neomm_vaddr_t from = found && region->start > start ? region->start : start;
        neomm_vaddr_t to = found && region->end < end ? region->end : end;
        struct neomm_object *object = found ? root->vmm->object[region->object] : NULL;
        uint64_t page = found ? region->offset + ((from - region->start) >> NEOMM_PAGE_SHIFT) : 0;
        if (object && object->pager)
            neomm__cache_hold(object);
        else
            object = NULL;
        neomm__mutex_unlock(&space->lock);
        if (object) {
            neomm__cache_read_ahead(root, object, page, (to - from) >> NEOMM_PAGE_SHIFT);
            neomm__cache_release(object);
        }
        start = to;
    }
}
