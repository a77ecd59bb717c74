/* The calls that change a space's regions: mmap, munmap, mprotect.
 * SPDX-License-Identifier: MIT
 *
 * Each reserves the room it may need in the region map before it changes anything, so that
 * running out of memory leaves the space as it was.
 */
#include "vmm/object.h"

/* Protection bits as x86 has them: whatever can be written or run can be read. */
static neomm_status check_prot(neomm_prot_t prot)
{
    if (prot & ~(NEOMM_PROT_READ | NEOMM_PROT_WRITE | NEOMM_PROT_EXEC))
        return NEOMM_E_INVALID;
    if ((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC))
        return NEOMM_E_ACCESS;
    return NEOMM_OK;
}

/* Rounds the size up to pages and checks the range. */
static neomm_status check_range(const struct neomm *root, neomm_vaddr_t address, uint64_t *size)
{
    if (*size == 0)
        return NEOMM_E_INVALID;
    if (!NEOMM__ALIGNED(address, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (*size > UINT64_MAX - NEOMM_PAGE_SIZE)
        return NEOMM_E_RANGE;
    *size = NEOMM__ALIGN_UP(*size, NEOMM_PAGE_SIZE);
    return neomm__is_user_range(root, address, *size) ? NEOMM_OK : NEOMM_E_RANGE;
}

static void unmap_leaves(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                         uint64_t size)
{
    struct neomm__release release = {root, space};
    neomm_status status = neomm_paging_unmap(root, &space->tables, start, (size_t)size,
                                             neomm__user_leaf_release, &release, NULL);
    /* User leaves are 4K: nothing has to be split, so nothing can fail. */
    NEOMM__ASSERT(status == NEOMM_OK);
}

/* Each region of an object has a reference of it: one that is cut out in the middle becomes two. */
static void count_objects(struct neomm *root, const struct neomm__region_map *map,
                          neomm_vaddr_t start, neomm_vaddr_t end)
{
    uint32_t at = neomm__region_first(map, start);
    for (; at < map->count && map->regions[at].start < end; at++) {
        const struct neomm__region *region = &map->regions[at];
        bool before = region->start<start, after = region->end> end;
        if (before && after)
            neomm__object_get(root, region->object);
        else if (!before && !after)
            neomm__object_put(root, region->object);
    }
}

static void clear_range(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                        uint64_t size)
{
    count_objects(root, &space->map, start, start + (neomm_vaddr_t)size);
    uint64_t bytes = neomm__region_clear(&space->map, start, start + (neomm_vaddr_t)size);
    space->virtual_pages -= bytes >> NEOMM_PAGE_SHIFT;
    unmap_leaves(root, space, start, size);
}

/* Decides where the region goes; the space is locked. */
static neomm_status place(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                          uint64_t size, unsigned flags)
{
    const struct neomm_layout *layout = &root->layout;
    neomm_vaddr_t end = *address + (neomm_vaddr_t)size;
    uint32_t at;
    if (flags & NEOMM_MAP_FIXED)
        return NEOMM_OK;
    if (flags & NEOMM_MAP_EXACT) {
        at = neomm__region_first(&space->map, *address);
        return at < space->map.count && space->map.regions[at].start < end ? NEOMM_E_EXISTS
                                                                           : NEOMM_OK;
    }
    /* Page 0 is given to those who ask for it, never chosen. */
    neomm_vaddr_t lowest = layout->user_base ? layout->user_base : NEOMM_PAGE_SIZE;
    neomm_vaddr_t found = 0;
    if (*address >= lowest)
        found = neomm__region_gap(&space->map, *address, layout->user_limit, size);
    if (found == 0)
        found = neomm__region_gap(&space->map, lowest, layout->user_limit, size);
    *address = found;
    return found == 0 ? NEOMM_E_NOSPACE : NEOMM_OK;
}

static neomm_status mmap_locked(struct neomm *root, struct neomm_space *space,
                                neomm_vaddr_t *address, uint64_t size, unsigned flags,
                                struct neomm__region region)
{
    neomm_vaddr_t at = *address;
    neomm_status status = place(root, space, &at, size, flags);
    if (status != NEOMM_OK)
        return status;
    uint64_t replaced = neomm__region_bytes(&space->map, at, at + (neomm_vaddr_t)size);
    uint64_t pages = space->virtual_pages + ((size - replaced) >> NEOMM_PAGE_SHIFT);
    if (pages > space->limits.virtual_bytes >> NEOMM_PAGE_SHIFT)
        return NEOMM_E_LIMIT;
    status = neomm__region_reserve(root, &space->map, 2);
    if (status != NEOMM_OK)
        return status;
    if (flags & NEOMM_MAP_FIXED)
        clear_range(root, space, at, size);
    region.start = at;
    region.end = at + (neomm_vaddr_t)size;
    neomm__object_get(root, region.object);
    neomm__region_insert(&space->map, region);
    space->virtual_pages += size >> NEOMM_PAGE_SHIFT;
    *address = at;
    return NEOMM_OK;
}

/* Touches each page as the user would; what is populated stays on an error. */
static neomm_status populate(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                             uint64_t size, neomm_prot_t prot)
{
    uint32_t error = NEOMM_PF_USER | (prot & NEOMM_PROT_WRITE ? NEOMM_PF_WRITE : 0);
    for (uint64_t at = 0; at < size; at += NEOMM_PAGE_SIZE) {
        struct neomm_fault_result result;
        do
            (void)neomm_fault(root, space, address + (neomm_vaddr_t)at, error, &result);
        while (result.outcome == NEOMM_FAULT_RETRY);
        if (result.outcome != NEOMM_FAULT_RESOLVED)
            return result.outcome == NEOMM_FAULT_NOMEM ? NEOMM_E_NOMEM : NEOMM_E_FAULT;
    }
    return NEOMM_OK;
}

/* Runs an attempt with the lock held; when memory is short, reclaims without it and tries again,
 * a few times. */
#define ATTEMPTS 3u

static bool retry_after_reclaim(struct neomm *root, neomm_status status, unsigned *attempt)
{
    return status == NEOMM_E_NOMEM && ++*attempt < ATTEMPTS && neomm__reclaim(root, 8) != 0;
}

static neomm_status map(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                        uint64_t size, unsigned flags, const struct neomm__region *region)
{
    unsigned attempt = 0;
    neomm_prot_t prot = region->prot;
    neomm_status status = check_prot(prot);
    if (status != NEOMM_OK)
        return status;
    neomm_vaddr_t checked =
        flags & (NEOMM_MAP_FIXED | NEOMM_MAP_EXACT) ? *address : root->layout.user_base;
    status = check_range(root, checked, &size);
    if (status != NEOMM_OK)
        return status;
    if (!NEOMM__ALIGNED(*address, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    do {
        neomm__mutex_lock(&space->lock);
        status = mmap_locked(root, space, address, size, flags, *region);
        neomm__mutex_unlock(&space->lock);
        neomm__objects_end(root);
    } while (retry_after_reclaim(root, status, &attempt));
    if (status != NEOMM_OK || !(flags & NEOMM_MAP_POPULATE) || prot == NEOMM_PROT_NONE)
        return status;
    status = populate(root, space, *address, size, prot);
    if (status != NEOMM_OK)
        (void)neomm_munmap(root, space, *address, size);
    return status;
}

neomm_status neomm_mmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                        uint64_t size, neomm_prot_t prot, unsigned flags)
{
    const struct neomm__region region = {.prot = prot};
    return map(root, space, address, size, flags, &region);
}

neomm_status neomm_mmap_object(struct neomm *root, struct neomm_space *space,
                               neomm_vaddr_t *address, uint64_t size, neomm_prot_t prot,
                               unsigned flags, struct neomm_object *object, uint64_t offset)
{
    const struct neomm__region region = {
        .prot = prot, .object = object->index, .offset = offset >> NEOMM_PAGE_SHIFT};
    if (!NEOMM__ALIGNED(offset, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (region.offset >> NEOMM__MAPPING_PAGE_BITS != 0)
        return NEOMM_E_RANGE;
    return map(root, space, address, size, flags, &region);
}

neomm_status neomm_munmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                          uint64_t size)
{
    unsigned attempt = 0;
    neomm_status status = check_range(root, address, &size);
    if (status != NEOMM_OK)
        return status;
    do {
        neomm__mutex_lock(&space->lock);
        status = neomm__region_reserve(root, &space->map, 1);
        if (status == NEOMM_OK)
            clear_range(root, space, address, size);
        neomm__mutex_unlock(&space->lock);
        neomm__objects_end(root);
    } while (retry_after_reclaim(root, status, &attempt));
    return status;
}

static neomm_status mprotect_locked(struct neomm *root, struct neomm_space *space,
                                    neomm_vaddr_t start, uint64_t size, neomm_prot_t prot)
{
    neomm_vaddr_t end = start + (neomm_vaddr_t)size;
    if (!neomm__region_covers(&space->map, start, end))
        return NEOMM_E_NOENT;
    neomm_status status = neomm__region_reserve(root, &space->map, 2);
    if (status != NEOMM_OK)
        return status;
    /* A leaf of the frame of zeros, or of one that other spaces have, too, must never become
     * writable, so the right to write arrives by a fault, page by page. */
    status =
        neomm_paging_protect(root, &space->tables, start, (size_t)size, prot & ~NEOMM_PROT_WRITE);
    if (status != NEOMM_OK)
        return status;
    for (neomm_vaddr_t at = start, next; at < end; at = next) {
        struct neomm__region part = *neomm__region_find(&space->map, at);
        next = part.end < end ? part.end : end;
        if (part.start < at)
            neomm__object_get(root, part.object);
        if (part.end > next)
            neomm__object_get(root, part.object);
        (void)neomm__region_clear(&space->map, at, next);
        part.offset += part.object != 0 ? (at - part.start) >> NEOMM_PAGE_SHIFT : 0;
        part.start = at;
        part.end = next;
        part.prot = prot;
        neomm__region_insert(&space->map, part);
    }
    return NEOMM_OK;
}

neomm_status neomm_mprotect(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                            uint64_t size, neomm_prot_t prot)
{
    unsigned attempt = 0;
    neomm_status status = check_prot(prot);
    if (status == NEOMM_OK)
        status = check_range(root, address, &size);
    if (status != NEOMM_OK)
        return status;
    do {
        neomm__mutex_lock(&space->lock);
        status = mprotect_locked(root, space, address, size, prot);
        neomm__mutex_unlock(&space->lock);
    } while (retry_after_reclaim(root, status, &attempt));
    return status;
}
