/* Mappings that grow, shrink and move.
 * SPDX-License-Identifier: MIT
 *
 * Pages move leaf by leaf: the old leaf is taken out and invalidated, then the new one is stored
 * with what the old one was at that moment; in between the page is nowhere, and its frame's mapping
 * set learns of the new place. The old range is closed to faults, and nothing of the new one is
 * mapped yet. When a table for the new leaf is missing, all leaves go back, into tables that
 * are still there.
 */
#include "vmm/object.h"

struct move {
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t from, to;
};

/* ---- leaves ---- */

static neomm_status move_leaf(const struct move *move, neomm_vaddr_t from, neomm_vaddr_t to,
                              const struct neomm_mapping *leaf)
{
    struct neomm *root = move->root;
    struct neomm_tables *tables = &move->space->tables;
    const struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping last;
    neomm_status status = neomm_paging_exchange(root, tables, from, leaf, &none, &last);
    if (status != NEOMM_OK)
        return status;
    neomm__user_leaf_moves(root, move->space, &last, from, to);
    status = neomm_paging_exchange(root, tables, to, &none, &last, NULL);
    if (status == NEOMM_OK)
        return NEOMM_OK;
    neomm__user_leaf_moves(root, move->space, &last, to, from);
    neomm_status back = neomm_paging_exchange(root, tables, from, &none, &last, NULL);
    NEOMM__ASSERT(back == NEOMM_OK);
    return status;
}

/* *done: bytes whose leaves are at the new place. */
static neomm_status move_leaves(const struct move *move, neomm_vaddr_t size, neomm_vaddr_t *done)
{
    neomm_status status = NEOMM_OK;
    neomm_vaddr_t at = 0;
    while (at < size && status == NEOMM_OK) {
        struct neomm_mapping leaf;
        neomm_vaddr_t from = move->from + at, step = NEOMM_PAGE_SIZE;
        status = neomm__leaves_part(move->root, move->space, from, from + NEOMM_PAGE_SIZE);
        if (status == NEOMM_OK)
            status = neomm_paging_query(move->root, &move->space->tables, from, &leaf);
        if (status == NEOMM_OK && leaf.state == NEOMM_MAPPING_NONE)
            step = (neomm_vaddr_t)leaf.size - (from & ((neomm_vaddr_t)leaf.size - 1));
        else if (status == NEOMM_OK)
            status = move_leaf(move, from, move->to + at, &leaf);
        if (status == NEOMM_OK)
            at += step;
        else if (status == NEOMM_E_AGAIN)
            status = NEOMM_OK;
    }
    *done = at < size ? at : size;
    return status;
}

static neomm_status move_all(struct neomm *root, struct neomm_space *space, neomm_vaddr_t from,
                             neomm_vaddr_t to, neomm_vaddr_t size)
{
    const struct move move = {root, space, from, to}, back = {root, space, to, from};
    neomm_vaddr_t done;
    neomm_status status = move_leaves(&move, size, &done);
    if (status == NEOMM_OK || done == 0)
        return status;
    neomm_status undone = move_leaves(&back, done, &done);
    NEOMM__ASSERT(undone == NEOMM_OK);
    return status;
}

/* ---- in place ---- */

static neomm_status grow_in_place(struct neomm *root, struct neomm_space *space,
                                  struct neomm__region *region, neomm_vaddr_t end)
{
    const struct neomm__region *next = neomm__region_first(&space->map, region->end);
    struct neomm__cost more = {0, 0, 0}, none = {0, 0, 0};
    if (!neomm__is_user_range(root, region->start, end - region->start) ||
        (next && next->floor < end))
        return NEOMM_E_NOSPACE;
    neomm__cost_add(&more, (end - region->end) >> NEOMM_PAGE_SHIFT, region->flags);
    neomm_status status = neomm__charge(root, space, &more, &none);
    if (status != NEOMM_OK)
        return status;
    neomm__region_close(region);
    neomm__region_tree_move(&space->map, region, region->floor, region->start, end);
    neomm__regions_restore(&space->map, region->start, end);
    return NEOMM_OK;
}

/* ---- elsewhere ---- */

struct remap {
    neomm_vaddr_t old, old_size, size, to;
    unsigned flags;
};

/* What becomes of the old range, whose leaves have gone, or do not reach out of it; before the new
 * region is there, which may be a neighbour that it is joined with. */
static void leave_old(struct neomm *root, struct neomm_space *space, const struct remap *remap)
{
    neomm_vaddr_t end = remap->old + remap->old_size;
    if (!(remap->flags & NEOMM_REMAP_KEEP)) {
        neomm_status status = neomm__range_clear(root, space, remap->old, end);
        NEOMM__ASSERT(status == NEOMM_OK);
        return;
    }
    struct neomm__region *region = neomm__region_find(&space->map, remap->old);
    if (region->flags & NEOMM__REGION_LOCKED)
        space->locked_pages -= remap->old_size >> NEOMM_PAGE_SHIFT;
    neomm__region_tree_change(&space->map, region, region->prot,
                              region->flags & ~NEOMM__REGION_LOCKED);
    neomm__regions_restore(&space->map, remap->old, end);
}

/* The new range is free, room for all is reserved and charged. Leaves of an object move with it
 * locked: whoever takes its pages away never waits for one that is nowhere. */
static neomm_status move_region(struct neomm *root, struct neomm_space *space,
                                const struct remap *remap)
{
    neomm_vaddr_t moved = remap->size < remap->old_size ? remap->size : remap->old_size;
    neomm__regions_isolate(&space->map, remap->old, remap->old + remap->old_size);
    const struct neomm__region *old = neomm__region_find(&space->map, remap->old);
    struct neomm__region like = *old;
    struct neomm_object *object = old->object != 0 ? root->vmm->object[old->object] : NULL;
    if (object)
        neomm__mutex_lock(&object->lock);
    neomm_status status = neomm__leaves_part(root, space, remap->old, remap->old + remap->old_size);
    if (status == NEOMM_OK)
        status = move_all(root, space, remap->old, remap->to, moved);
    if (object)
        neomm__mutex_unlock(&object->lock);
    if (status != NEOMM_OK) {
        neomm__leaves_clear(root, space, remap->to, remap->to + moved);
        neomm__regions_restore(&space->map, remap->old, remap->old + remap->old_size);
        return status;
    }
    like.start = remap->to;
    like.end = remap->to + remap->size;
    leave_old(root, space, remap);
    neomm__range_add(space, &like);
    return NEOMM_OK;
}

static neomm_status place_new(struct neomm *root, struct neomm_space *space, struct remap *remap)
{
    if (remap->flags & NEOMM_REMAP_FIXED)
        return NEOMM_OK;
    return neomm__range_place(root, space, 0, remap->size, false, &remap->to) ? NEOMM_OK
                                                                              : NEOMM_E_NOSPACE;
}

static neomm_status move_mapping(struct neomm *root, struct neomm_space *space, struct remap *remap,
                                 uint32_t flags)
{
    struct neomm__cost more = {0, 0, 0}, less = {0, 0, 0};
    neomm_status status = place_new(root, space, remap);
    if (status != NEOMM_OK)
        return status;
    if (remap->flags & NEOMM_REMAP_FIXED)
        less = neomm__range_cost(&space->map, remap->to, remap->to + remap->size);
    neomm__cost_add(&more, remap->size >> NEOMM_PAGE_SHIFT, flags);
    if (!(remap->flags & NEOMM_REMAP_KEEP))
        neomm__cost_add(&less, remap->old_size >> NEOMM_PAGE_SHIFT, flags);
    status = neomm__charge(root, space, &more, &less);
    if (status != NEOMM_OK)
        return status;
    status = neomm__regions_reserve(root, &space->map, 5);
    if (status == NEOMM_OK && (remap->flags & NEOMM_REMAP_FIXED))
        status = neomm__range_clear(root, space, remap->to, remap->to + remap->size);
    if (status == NEOMM_OK)
        status = move_region(root, space, remap);
    if (status != NEOMM_OK)
        neomm__uncharge(root, space, &more);
    return status;
}

/* ---- the call ---- */

static neomm_status remap_locked(struct neomm *root, struct neomm_space *space, struct remap *remap)
{
    struct neomm__region *region = neomm__region_find(&space->map, remap->old);
    neomm_vaddr_t old_end = remap->old + remap->old_size;
    bool stays = !(remap->flags & (NEOMM_REMAP_FIXED | NEOMM_REMAP_KEEP));
    if (!region || region->end < old_end)
        return NEOMM_E_NOENT;
    if (stays && remap->size <= remap->old_size) {
        neomm_status status = neomm__regions_reserve(root, &space->map, 2);
        if (status == NEOMM_OK && remap->size < remap->old_size)
            status = neomm__range_clear(root, space, remap->old + remap->size, old_end);
        remap->to = remap->old;
        return status;
    }
    if (region->flags & NEOMM__REGION_PHYSICAL)
        return NEOMM_E_UNSUPPORTED;
    if (stays && region->end == old_end) {
        remap->to = remap->old;
        neomm_status status = grow_in_place(root, space, region, remap->old + remap->size);
        if (status != NEOMM_E_NOSPACE)
            return status;
    }
    if (!(remap->flags & NEOMM_REMAP_MAYMOVE))
        return NEOMM_E_NOSPACE;
    return move_mapping(root, space, remap, region->flags);
}

static neomm_status check_flags(const struct neomm *root, const struct remap *remap)
{
    const unsigned all = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED | NEOMM_REMAP_KEEP;
    if ((remap->flags & ~all) ||
        ((remap->flags & ~NEOMM_REMAP_MAYMOVE) && !(remap->flags & NEOMM_REMAP_MAYMOVE)) ||
        ((remap->flags & NEOMM_REMAP_KEEP) && remap->size != remap->old_size))
        return NEOMM_E_INVALID;
    if (!(remap->flags & NEOMM_REMAP_FIXED))
        return NEOMM_OK;
    uint64_t size = remap->size;
    neomm_status status = neomm__range_check(root, remap->to, &size);
    if (status == NEOMM_OK && remap->to < remap->old + remap->old_size &&
        remap->old < remap->to + remap->size)
        return NEOMM_E_INVALID;
    return status;
}

neomm_status neomm_mremap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t old,
                          uint64_t old_size, uint64_t size, unsigned flags, neomm_vaddr_t *address)
{
    unsigned attempt = 0;
    neomm_status status = neomm__range_check(root, old, &old_size);
    if (status == NEOMM_OK)
        status = neomm__range_check(root, root->layout.user_base, &size);
    if (status != NEOMM_OK)
        return status;
    struct remap remap = {old, (neomm_vaddr_t)old_size, (neomm_vaddr_t)size, *address, flags};
    status = check_flags(root, &remap);
    if (status != NEOMM_OK)
        return status;
    do {
        neomm__mutex_lock(&space->lock);
        status = remap_locked(root, space, &remap);
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    if (status == NEOMM_OK)
        *address = remap.to;
    return status;
}
