/* The calls that make, take away and protect mappings.
 * SPDX-License-Identifier: MIT
 *
 * Each reserves the room that it may need in the region map, and charges what it adds, before it
 * changes anything; so running out leaves the space as it was.
 */
#include "vmm/object.h"

#define FLAGS_ALL                                                                                  \
    (NEOMM_MAP_FIXED | NEOMM_MAP_EXACT | NEOMM_MAP_POPULATE | NEOMM_MAP_STACK | NEOMM_MAP_HUGE |   \
     NEOMM_MAP_LOCKED | NEOMM_MAP_NORESERVE | NEOMM_MAP_DOWN)
#define FLAGS_PLACE (NEOMM_MAP_FIXED | NEOMM_MAP_EXACT | NEOMM_MAP_DOWN)

/* ---- arguments ---- */

/* As x86 has it: whatever can be written or run can be read. */
static neomm_prot_t with_reading(neomm_prot_t prot)
{
    return prot == NEOMM_PROT_NONE ? prot : prot | NEOMM_PROT_READ;
}

static neomm_status check_prot(neomm_prot_t prot)
{
    if (prot & ~(NEOMM_PROT_READ | NEOMM_PROT_WRITE | NEOMM_PROT_EXEC))
        return NEOMM_E_INVALID;
    if ((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC))
        return NEOMM_E_ACCESS;
    return NEOMM_OK;
}

neomm_status neomm__range_check(const struct neomm *root, neomm_vaddr_t address, uint64_t *size)
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

/* Where nothing fixes the address, any is as good as another. */
static neomm_status check_request(const struct neomm *root, neomm_vaddr_t address, uint64_t *size,
                                  neomm_prot_t prot, unsigned flags)
{
    bool fixed = flags & (NEOMM_MAP_FIXED | NEOMM_MAP_EXACT);
    neomm_status status = check_prot(prot);
    if (status == NEOMM_OK)
        status = neomm__range_check(root, fixed ? address : root->layout.user_base, size);
    if (status == NEOMM_OK && !NEOMM__ALIGNED(address, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    return status;
}

/* ---- taking away ---- */

void neomm__leaves_clear(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                         neomm_vaddr_t end)
{
    struct neomm__release release;
    neomm__release_begin(&release, root, space);
    struct neomm__region_place place = neomm__region_place(&space->map, start);
    struct neomm__region *region = neomm__region_at(place);
    for (; region && region->start < end; region = neomm__region_next(&place))
        if (region->flags & NEOMM__REGION_PHYSICAL)
            (void)neomm_paging_unmap(root, &space->tables, region->start,
                                     region->end - region->start, NULL, NULL, NULL);
    neomm_status status = neomm_paging_unmap(root, &space->tables, start, end - start,
                                             neomm__user_leaf_release, &release, NULL);
    neomm__release_end(&release);
    /* Nothing reaches over the ends and has to be split, so nothing can fail. */
    NEOMM__ASSERT(status == NEOMM_OK);
}

neomm_status neomm__range_clear(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                neomm_vaddr_t end)
{
    neomm__regions_isolate(&space->map, start, end);
    neomm_status status = neomm__leaves_part(root, space, start, end);
    if (status != NEOMM_OK) {
        neomm__regions_restore(&space->map, start, end);
        return status;
    }
    struct neomm__cost cost = neomm__range_cost(&space->map, start, end);
    neomm__leaves_clear(root, space, start, end);
    (void)neomm__regions_remove(&space->map, start, end);
    neomm__uncharge(root, space, &cost);
    return NEOMM_OK;
}

/* ---- placing ---- */

/* Page 0 is given to those who ask for it, never chosen. */
static neomm_vaddr_t lowest(const struct neomm *root)
{
    return root->layout.user_base ? root->layout.user_base : NEOMM_PAGE_SIZE;
}

static bool place_between(const struct neomm_space *space, neomm_vaddr_t low, neomm_vaddr_t high,
                          uint64_t size, bool down, neomm_vaddr_t *found)
{
    const struct neomm__region_request request = {low, high, (neomm_vaddr_t)size, NEOMM_PAGE_SIZE,
                                                  down};
    return low < high && neomm__region_gap(&space->map, &request, found);
}

bool neomm__range_place(struct neomm *root, struct neomm_space *space, neomm_vaddr_t hint,
                        uint64_t size, bool down, neomm_vaddr_t *found)
{
    neomm_vaddr_t low = lowest(root), high = root->layout.user_limit;
    if (down)
        return (hint > low && hint <= high && place_between(space, low, hint, size, true, found)) ||
               place_between(space, low, high - space->random, size, true, found) ||
               place_between(space, low, high, size, true, found);
    return (hint >= low && place_between(space, hint, high, size, false, found)) ||
           place_between(space, low + space->random, high, size, false, found) ||
           place_between(space, low, high, size, false, found);
}

/* Decides where the region goes, with `guard` bytes kept free below it. */
static neomm_status place(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                          uint64_t size, size_t guard, unsigned flags)
{
    if (flags & NEOMM_MAP_FIXED)
        return NEOMM_OK;
    if (flags & NEOMM_MAP_EXACT)
        return neomm__region_is_free(&space->map, *address, *address + (neomm_vaddr_t)size)
                   ? NEOMM_OK
                   : NEOMM_E_EXISTS;
    if (size > SIZE_MAX - guard ||
        !neomm__range_place(root, space, *address, size + guard, flags & NEOMM_MAP_DOWN, address))
        return NEOMM_E_NOSPACE;
    *address += guard;
    return NEOMM_OK;
}

/* ---- adding ---- */

void neomm__range_add(struct neomm_space *space, const struct neomm__region *like)
{
    struct neomm__region *region = neomm__region_take(&space->map);
    size_t guard = like->flags & NEOMM__REGION_STACK ? NEOMM_STACK_GUARD : 0;
    region->start = like->start;
    region->floor = like->start > guard ? like->start - guard : 0;
    region->end = like->end;
    region->prot = like->prot;
    region->flags = like->flags;
    region->object = like->object;
    region->offset = like->offset;
    neomm__region_add(&space->map, region);
}

static uint32_t region_flags(const struct neomm_space *space, neomm_prot_t prot, unsigned flags,
                             uint32_t given)
{
    uint32_t made = given | space->lock_future;
    made |= flags & NEOMM_MAP_STACK ? NEOMM__REGION_STACK : 0;
    made |= flags & NEOMM_MAP_HUGE ? NEOMM__REGION_HUGE : 0;
    made |= flags & NEOMM_MAP_LOCKED ? NEOMM__REGION_LOCKED : 0;
    made |= flags & NEOMM_MAP_NORESERVE ? NEOMM__REGION_NORESERVE : 0;
    return neomm__region_commits(made, prot);
}

/* `like` has prot, flags and offset; its place is decided here, and is free, paid for and with room
 * for a region afterwards. */
static neomm_status prepare(struct neomm *root, struct neomm_space *space,
                            struct neomm__region *like, uint64_t size, unsigned flags)
{
    size_t guard = like->flags & NEOMM__REGION_STACK ? NEOMM_STACK_GUARD : 0;
    neomm_status status = place(root, space, &like->start, size, guard, flags);
    if (status != NEOMM_OK)
        return status;
    like->end = like->start + (neomm_vaddr_t)size;
    struct neomm__cost more = {0, 0, 0}, less = {0, 0, 0};
    neomm__cost_add(&more, size >> NEOMM_PAGE_SHIFT, like->flags);
    if (flags & NEOMM_MAP_FIXED)
        less = neomm__range_cost(&space->map, like->start, like->end);
    status = neomm__charge(root, space, &more, &less);
    if (status != NEOMM_OK)
        return status;
    status = neomm__regions_reserve(root, &space->map, 3);
    if (status == NEOMM_OK && (flags & NEOMM_MAP_FIXED))
        status = neomm__range_clear(root, space, like->start, like->end);
    if (status != NEOMM_OK)
        neomm__uncharge(root, space, &more);
    return status;
}

static neomm_status map_locked(struct neomm *root, struct neomm_space *space,
                               struct neomm__region *like, uint64_t size, unsigned flags)
{
    neomm_status status = prepare(root, space, like, size, flags);
    if (status == NEOMM_OK)
        neomm__range_add(space, like);
    return status;
}

/* ---- mmap ---- */

bool neomm__retry_after_reclaim(struct neomm *root, neomm_status status, unsigned *attempt)
{
    if (status != NEOMM_E_NOMEM || ++*attempt >= 3)
        return false;
    neomm__stall_begin(root);
    uint32_t freed = neomm__reclaim(root, 8);
    neomm__stall_end(root);
    return freed != 0;
}

bool neomm__unlock_and_retry(struct neomm *root, struct neomm_space *space, neomm_status status,
                             unsigned *attempt)
{
    neomm__regions_collect(root, &space->map);
    neomm__mutex_unlock(&space->lock);
    neomm__objects_end(root);
    return neomm__retry_after_reclaim(root, status, attempt);
}

/* Behind the page, or behind the huge leaf that it lies in. */
static neomm_vaddr_t leaf_end(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page)
{
    struct neomm_mapping leaf;
    if (neomm__load_acquire(&space->huge) == 0 ||
        neomm_paging_query(root, &space->tables, page, &leaf) != NEOMM_OK ||
        leaf.state != NEOMM_MAPPING_PRESENT)
        return page + NEOMM_PAGE_SIZE;
    return NEOMM__ALIGN_DOWN(page, leaf.size) + leaf.size;
}

neomm_status neomm__populate(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                             neomm_vaddr_t end, bool write)
{
    uint32_t error = NEOMM_PF_USER | NEOMM__PF_STATUS | (write ? NEOMM_PF_WRITE : 0);
    for (neomm_vaddr_t next; start < end; start = next) {
        struct neomm_fault_result result;
        do
            (void)neomm_fault(root, space, start, error, &result);
        while (result.outcome == NEOMM_FAULT_RETRY);
        if (result.outcome != NEOMM_FAULT_RESOLVED)
            return result.outcome == NEOMM_FAULT_NOMEM ? NEOMM_E_NOMEM : NEOMM_E_FAULT;
        next = leaf_end(root, space, start);
        if (next < start)
            break;
    }
    return NEOMM_OK;
}

/* `like` has rights and object. */
static neomm_status map(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                        uint64_t size, unsigned flags, struct neomm__region *like)
{
    unsigned attempt = 0;
    neomm_prot_t prot = with_reading(like->prot);
    uint32_t given = like->flags;
    neomm_status status = check_request(root, *address, &size, prot, flags);
    if (status != NEOMM_OK)
        return status;
    like->prot = prot;
    bool now;
    do {
        neomm__mutex_lock(&space->lock);
        like->start = *address;
        like->flags = region_flags(space, prot, flags, given);
        now = (flags & (NEOMM_MAP_POPULATE | NEOMM_MAP_LOCKED)) || space->lock_now;
        status = map_locked(root, space, like, size, flags);
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    if (status != NEOMM_OK)
        return status;
    *address = like->start;
    if (!now || prot == NEOMM_PROT_NONE)
        return status;
    status = neomm__populate(root, space, like->start, like->end, prot & NEOMM_PROT_WRITE);
    if (status != NEOMM_OK)
        (void)neomm_munmap(root, space, like->start, size);
    return status;
}

neomm_status neomm_mmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                        uint64_t size, neomm_prot_t prot, unsigned flags)
{
    struct neomm__region like = {.prot = prot};
    return flags & ~FLAGS_ALL ? NEOMM_E_INVALID : map(root, space, address, size, flags, &like);
}

neomm_status neomm_mmap_object(struct neomm *root, struct neomm_space *space,
                               neomm_vaddr_t *address, uint64_t size, neomm_prot_t prot,
                               unsigned flags, struct neomm_object *object, uint64_t offset)
{
    struct neomm__region like = {.prot = prot,
                                 .flags = flags & NEOMM_MAP_PRIVATE ? 0 : NEOMM__REGION_SHARED,
                                 .object = object->index,
                                 .offset = offset >> NEOMM_PAGE_SHIFT};
    if (flags & ~((FLAGS_ALL | NEOMM_MAP_PRIVATE) & ~NEOMM_MAP_STACK))
        return NEOMM_E_INVALID;
    if (!NEOMM__ALIGNED(offset, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (like.offset >> NEOMM__MAPPING_PAGE_BITS != 0)
        return NEOMM_E_RANGE;
    return map(root, space, address, size, flags, &like);
}

/* ---- physical memory ---- */

/* The leaves are there before the region, so that no fault finds it without. */
static neomm_status map_physical(struct neomm *root, struct neomm_space *space,
                                 struct neomm__region *like, uint64_t size, enum neomm_cache cache,
                                 unsigned flags)
{
    struct neomm__cost cost = {0, 0, 0};
    neomm_status status = prepare(root, space, like, size, flags);
    if (status != NEOMM_OK)
        return status;
    status = neomm_paging_map(root, &space->tables, like->start, like->offset << NEOMM_PAGE_SHIFT,
                              (size_t)size, like->prot, cache, NEOMM_MAP_SMALL | NEOMM_MAP_NULL);
    if (status == NEOMM_OK) {
        neomm__range_add(space, like);
        return NEOMM_OK;
    }
    neomm__cost_add(&cost, size >> NEOMM_PAGE_SHIFT, like->flags);
    neomm__uncharge(root, space, &cost);
    return status;
}

neomm_status neomm_mmap_physical(struct neomm *root, struct neomm_space *space,
                                 neomm_vaddr_t *address, neomm_paddr_t paddr, uint64_t size,
                                 neomm_prot_t prot, enum neomm_cache cache, unsigned flags)
{
    unsigned attempt = 0;
    struct neomm__region like = {.prot = with_reading(prot),
                                 .flags = NEOMM__REGION_PHYSICAL,
                                 .offset = paddr >> NEOMM_PAGE_SHIFT};
    neomm_status status = check_request(root, *address, &size, prot, flags);
    if (status == NEOMM_OK && (flags & ~FLAGS_PLACE) != 0)
        status = NEOMM_E_INVALID;
    if (status == NEOMM_OK && !NEOMM__ALIGNED(paddr, NEOMM_PAGE_SIZE))
        status = NEOMM_E_ALIGN;
    if (status != NEOMM_OK)
        return status;
    do {
        neomm__mutex_lock(&space->lock);
        like.start = *address;
        status = map_physical(root, space, &like, size, cache, flags);
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    if (status == NEOMM_OK)
        *address = like.start;
    return status;
}

/* ---- munmap ---- */

neomm_status neomm_munmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                          uint64_t size)
{
    unsigned attempt = 0;
    neomm_status status = neomm__range_check(root, address, &size);
    if (status != NEOMM_OK)
        return status;
    do {
        neomm__mutex_lock(&space->lock);
        status = neomm__regions_reserve(root, &space->map, 2);
        if (status == NEOMM_OK)
            status = neomm__range_clear(root, space, address, address + (neomm_vaddr_t)size);
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    return status;
}

neomm_status neomm_space_reset(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    neomm__mutex_lock(&space->lock);
    neomm_status status = neomm__range_clear(root, space, layout->user_base, layout->user_limit);
    NEOMM__ASSERT(status == NEOMM_OK);
    space->lock_future = 0;
    space->lock_now = false;
    space->heap_start = space->heap_end = 0;
    space->random = neomm__space_random(root);
    neomm__regions_collect(root, &space->map);
    neomm__mutex_unlock(&space->lock);
    neomm__objects_end(root);
    return NEOMM_OK;
}

/* ---- mprotect ---- */

/* What becomes writable for the first time is charged. */
static struct neomm__cost cost_of_rights(const struct neomm__region_map *map, neomm_vaddr_t start,
                                         neomm_vaddr_t end, neomm_prot_t prot)
{
    struct neomm__cost cost = {0, 0, 0};
    struct neomm__region_place at = neomm__region_place(map, start);
    struct neomm__region *region = neomm__region_at(at);
    for (; region && region->start < end; region = neomm__region_next(&at))
        neomm__cost_add(&cost, (region->end - region->start) >> NEOMM_PAGE_SHIFT,
                        neomm__region_commits(region->flags, prot) & ~region->flags);
    cost.pages = 0;
    return cost;
}

static void set_prot(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end,
                     neomm_prot_t prot)
{
    struct neomm__region_place at = neomm__region_place(map, start);
    struct neomm__region *region = neomm__region_at(at);
    for (; region && region->start < end; region = neomm__region_next(&at))
        neomm__region_tree_change(map, region, prot, neomm__region_commits(region->flags, prot));
}

/* Leaves that reach over the borders of regions are made small before any right changes, so that
 * running out of memory half-way leaves all rights as they were. */
static neomm_status part_regions(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                 neomm_vaddr_t end)
{
    neomm_status status = NEOMM_OK;
    struct neomm__region_place at = neomm__region_place(&space->map, start);
    struct neomm__region *region = neomm__region_at(at);
    for (; region && region->start < end && status == NEOMM_OK; region = neomm__region_next(&at))
        status = neomm__leaves_part(root, space, region->start, region->end);
    return status;
}

/* A leaf of the frame of zeros, or of one that other spaces have, too, must never become writable,
 * so the right to write arrives by a fault, page by page; not for physical memory. */
static neomm_status protect_leaves(struct neomm *root, struct neomm_space *space,
                                   neomm_vaddr_t start, neomm_vaddr_t end, neomm_prot_t prot)
{
    neomm_status status = part_regions(root, space, start, end);
    struct neomm__region_place at = neomm__region_place(&space->map, start);
    struct neomm__region *region = neomm__region_at(at);
    for (; region && region->start < end && status == NEOMM_OK; region = neomm__region_next(&at)) {
        bool physical = region->flags & NEOMM__REGION_PHYSICAL;
        status =
            neomm_paging_protect(root, &space->tables, region->start, region->end - region->start,
                                 physical ? prot : prot & ~NEOMM_PROT_WRITE);
    }
    return status;
}

static neomm_status protect_isolated(struct neomm *root, struct neomm_space *space,
                                     neomm_vaddr_t start, neomm_vaddr_t end, neomm_prot_t prot)
{
    const struct neomm__cost more = cost_of_rights(&space->map, start, end, prot), none = {0, 0, 0};
    neomm_status status = neomm__charge(root, space, &more, &none);
    if (status != NEOMM_OK)
        return status;
    status = protect_leaves(root, space, start, end, prot);
    if (status == NEOMM_OK)
        set_prot(&space->map, start, end, prot);
    else
        neomm__uncharge(root, space, &more);
    return status;
}

static neomm_status protect_locked(struct neomm *root, struct neomm_space *space,
                                   neomm_vaddr_t start, neomm_vaddr_t end, neomm_prot_t prot)
{
    if (!neomm__region_covers(&space->map, start, end))
        return NEOMM_E_NOENT;
    neomm_status status = neomm__regions_reserve(root, &space->map, 2);
    if (status != NEOMM_OK)
        return status;
    neomm__regions_isolate(&space->map, start, end);
    status = protect_isolated(root, space, start, end, prot);
    neomm__regions_restore(&space->map, start, end);
    return status;
}

neomm_status neomm_mprotect(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                            uint64_t size, neomm_prot_t prot)
{
    unsigned attempt = 0;
    neomm_status status = check_prot(prot);
    if (status == NEOMM_OK)
        status = neomm__range_check(root, address, &size);
    if (status != NEOMM_OK)
        return status;
    prot = with_reading(prot);
    do {
        neomm__mutex_lock(&space->lock);
        status = protect_locked(root, space, address, address + (neomm_vaddr_t)size, prot);
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    return status;
}
