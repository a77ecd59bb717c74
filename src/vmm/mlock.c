/* Memory that stays: mlock and mlockall.
 * SPDX-License-Identifier: MIT
 *
 * A region is locked, not its pages one by one: eviction passes over what lies in such a region.
 */
#include "vmm/vmm_priv.h"

static void set_locked(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end,
                       bool lock)
{
    struct neomm__region_place place = neomm__region_place(map, start);
    struct neomm__region *region = neomm__region_at(place);
    for (; region && region->start < end; region = neomm__region_next(&place))
        if (!(region->flags & NEOMM__REGION_PHYSICAL))
            neomm__region_tree_change(map, region, region->prot,
                                      lock ? region->flags | NEOMM__REGION_LOCKED
                                           : region->flags & ~NEOMM__REGION_LOCKED);
}

/* Pages in the range that are to be locked, and are not yet. */
static uint64_t pages_to_lock(const struct neomm__region_map *map, neomm_vaddr_t start,
                              neomm_vaddr_t end)
{
    uint64_t pages = 0;
    struct neomm__region_place place = neomm__region_place(map, start);
    const struct neomm__region *region = neomm__region_at(place);
    for (; region && region->start < end; region = neomm__region_next(&place)) {
        neomm_vaddr_t from = region->start > start ? region->start : start;
        neomm_vaddr_t to = region->end < end ? region->end : end;
        if (!(region->flags & (NEOMM__REGION_PHYSICAL | NEOMM__REGION_LOCKED)))
            pages += (to - from) >> NEOMM_PAGE_SHIFT;
    }
    return pages;
}

static neomm_status lock_range(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                               neomm_vaddr_t end, bool lock)
{
    struct neomm__cost cost = {0, 0, 0}, none = {0, 0, 0};
    if (lock)
        cost.locked = pages_to_lock(&space->map, start, end);
    else
        cost.locked = neomm__range_cost(&space->map, start, end).locked;
    neomm_status status = neomm__regions_reserve(root, &space->map, 2);
    if (status == NEOMM_OK && lock)
        status = neomm__charge(root, space, &cost, &none);
    if (status != NEOMM_OK)
        return status;
    neomm__regions_isolate(&space->map, start, end);
    set_locked(&space->map, start, end, lock);
    neomm__regions_restore(&space->map, start, end);
    if (!lock)
        neomm__uncharge(root, space, &cost);
    return NEOMM_OK;
}

/* Brings in what has rights, as its user would: by writing where that is allowed, so that no page
 * is shared with others later than now. */
static neomm_status bring_in(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                             neomm_vaddr_t end)
{
    neomm_status status = NEOMM_OK;
    while (start < end && status == NEOMM_OK) {
        neomm__mutex_lock(&space->lock);
        const struct neomm__region *region = neomm__region_first(&space->map, start);
        if (!region || region->start >= end) {
            neomm__mutex_unlock(&space->lock);
            break;
        }
        neomm_vaddr_t from = region->start > start ? region->start : start;
        neomm_vaddr_t to = region->end < end ? region->end : end;
        neomm_prot_t prot = region->flags & NEOMM__REGION_PHYSICAL ? 0 : region->prot;
        neomm__mutex_unlock(&space->lock);
        if (prot != NEOMM_PROT_NONE)
            status = neomm__populate(root, space, from, to, prot & NEOMM_PROT_WRITE);
        start = to;
    }
    return status;
}

static neomm_status change_range(struct neomm *root, struct neomm_space *space,
                                 neomm_vaddr_t address, uint64_t size, bool lock)
{
    unsigned attempt = 0;
    neomm_status status = neomm__range_check(root, address, &size);
    neomm_vaddr_t end = address + (neomm_vaddr_t)size;
    if (status != NEOMM_OK)
        return status;
    do {
        neomm__mutex_lock(&space->lock);
        status = neomm__region_covers(&space->map, address, end)
                     ? lock_range(root, space, address, end, lock)
                     : NEOMM_E_NOENT;
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    return status;
}

neomm_status neomm_mlock(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                         uint64_t size, unsigned flags)
{
    if (flags & ~NEOMM_LOCK_ONFAULT)
        return NEOMM_E_INVALID;
    neomm_status status = change_range(root, space, address, size, true);
    if (status != NEOMM_OK || (flags & NEOMM_LOCK_ONFAULT))
        return status;
    return bring_in(root, space, address,
                    address + (neomm_vaddr_t)NEOMM__ALIGN_UP(size, NEOMM_PAGE_SIZE));
}

neomm_status neomm_munlock(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                           uint64_t size)
{
    return change_range(root, space, address, size, false);
}

neomm_status neomm_mlockall(struct neomm *root, struct neomm_space *space, unsigned flags)
{
    const struct neomm_layout *layout = &root->layout;
    const unsigned which = NEOMM_LOCK_CURRENT | NEOMM_LOCK_FUTURE;
    neomm_status status = NEOMM_OK;
    bool now = !(flags & NEOMM_LOCK_ONFAULT);
    if ((flags & ~(which | NEOMM_LOCK_ONFAULT)) || !(flags & which))
        return NEOMM_E_INVALID;
    neomm__mutex_lock(&space->lock);
    if (flags & NEOMM_LOCK_CURRENT)
        status = lock_range(root, space, layout->user_base, layout->user_limit, true);
    if (status == NEOMM_OK) {
        space->lock_future = flags & NEOMM_LOCK_FUTURE ? NEOMM__REGION_LOCKED : 0;
        space->lock_now = (flags & NEOMM_LOCK_FUTURE) && now;
    }
    neomm__regions_collect(root, &space->map);
    neomm__mutex_unlock(&space->lock);
    if (status != NEOMM_OK || !(flags & NEOMM_LOCK_CURRENT) || !now)
        return status;
    return bring_in(root, space, layout->user_base, layout->user_limit);
}

neomm_status neomm_munlockall(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    neomm__mutex_lock(&space->lock);
    neomm_status status = lock_range(root, space, layout->user_base, layout->user_limit, false);
    if (status == NEOMM_OK) {
        space->lock_future = 0;
        space->lock_now = false;
    }
    neomm__regions_collect(root, &space->map);
    neomm__mutex_unlock(&space->lock);
    return status;
}
