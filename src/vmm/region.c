/* Regions: what lies in a space, and ranges of regions that change.
 * SPDX-License-Identifier: MIT */
#include "base/epoch.h"
#include "vmm/object.h"

static bool contains(const struct neomm__region *region, neomm_vaddr_t vaddr)
{
    return vaddr >= region->start && vaddr < region->end;
}

/* ---- looking without the lock ---- */

/* Changes that are in the way of a search before it gives up. */
#define ATTEMPTS 3u

static bool describe(const struct neomm__region_sight *sight, neomm_vaddr_t vaddr,
                     struct neomm_region_info *info, uint32_t *flags)
{
    const struct neomm__region *region = sight->region;
    info->start = neomm__peek(&region->start);
    info->end = neomm__peek(&region->end);
    info->prot = neomm__peek(&region->prot);
    *flags = neomm__peek(&region->flags);
    return vaddr >= info->start && vaddr < info->end;
}

bool neomm__region_look(struct neomm *root, const struct neomm_space *space, neomm_vaddr_t vaddr,
                        struct neomm_region_info *info, uint32_t *flags)
{
    struct neomm__region_sight sight;
    bool found = false;
    neomm_irq_t irq = neomm__epoch_enter(root);
    for (unsigned i = 0; i < ATTEMPTS && !found; i++)
        found = neomm__region_search(&space->map, vaddr, &sight) && sight.region &&
                describe(&sight, vaddr, info, flags) && neomm__region_unchanged(&sight);
    neomm__epoch_leave(root, irq);
    return found;
}

neomm_status neomm_region_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                             struct neomm_region_info *info)
{
    uint32_t flags;
    if (neomm__region_look(root, space, address, info, &flags))
        return NEOMM_OK;
    struct neomm__region *region = neomm__region_enter(root, space, address);
    if (!region)
        return NEOMM_E_NOENT;
    *info = (struct neomm_region_info){region->start, region->end, region->prot};
    neomm__region_exit(region);
    return NEOMM_OK;
}

/* ---- looking, with the space's lock ---- */

struct neomm__region *neomm__region_first(const struct neomm__region_map *map, neomm_vaddr_t vaddr)
{
    return neomm__region_at(neomm__region_place(map, vaddr));
}

struct neomm__region *neomm__region_find(const struct neomm__region_map *map, neomm_vaddr_t vaddr)
{
    struct neomm__region *region = neomm__region_first(map, vaddr);
    return region && contains(region, vaddr) ? region : NULL;
}

bool neomm__region_is_free(const struct neomm__region_map *map, neomm_vaddr_t start,
                           neomm_vaddr_t end)
{
    const struct neomm__region *region = neomm__region_first(map, start);
    return !region || region->start >= end;
}

bool neomm__region_covers(const struct neomm__region_map *map, neomm_vaddr_t start,
                          neomm_vaddr_t end)
{
    struct neomm__region_place place = neomm__region_place(map, start);
    const struct neomm__region *region = neomm__region_at(place);
    while (start < end) {
        if (!region || region->start > start)
            return false;
        start = region->end;
        region = neomm__region_next(&place);
    }
    return true;
}

uint64_t neomm__region_bytes(const struct neomm__region_map *map, neomm_vaddr_t start,
                             neomm_vaddr_t end)
{
    uint64_t bytes = 0;
    struct neomm__region_place place = neomm__region_place(map, start);
    const struct neomm__region *region = neomm__region_at(place);
    for (; region && region->start < end; region = neomm__region_next(&place))
        bytes += (region->end < end ? region->end : end) -
                 (region->start > start ? region->start : start);
    return bytes;
}

/* ---- changing ranges ---- */

static bool has_offset(const struct neomm__region *region)
{
    return region->object != 0 || (region->flags & NEOMM__REGION_PHYSICAL);
}

/* [at, end) becomes a closed region of its own; the first part is closed. */
static void split(struct neomm__region_map *map, struct neomm__region *region, neomm_vaddr_t at)
{
    struct neomm__region *upper = neomm__region_take(map);
    upper->start = upper->floor = at;
    upper->end = region->end;
    upper->prot = region->prot;
    upper->flags = region->flags;
    upper->object = region->object;
    upper->offset = region->offset;
    if (has_offset(region))
        upper->offset += (at - region->start) >> NEOMM_PAGE_SHIFT;
    upper->users = NEOMM__REGION_CLOSED;
    neomm__object_get(map->root, upper->object);
    neomm__region_tree_move(map, region, region->floor, region->start, at);
    neomm__region_tree_insert(map, upper, neomm__region_place(map, at));
}

/* The floor of a region is given up where somebody maps over it. */
static void cut_floor(struct neomm__region_map *map, struct neomm__region *region,
                      neomm_vaddr_t end)
{
    if (!region || region->floor >= end || region->start < end)
        return;
    neomm__region_close(region);
    neomm__region_tree_move(map, region, end, region->start, region->end);
    neomm__region_open(region);
}

void neomm__regions_isolate(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end)
{
    struct neomm__region_place place = neomm__region_place(map, start);
    struct neomm__region *region = neomm__region_at(place);
    if (region && region->start < start) {
        neomm__region_close(region);
        split(map, region, start);
        neomm__region_open(region);
        place = neomm__region_place(map, start);
    }
    for (region = neomm__region_at(place); region && region->start < end;
         region = neomm__region_next(&place)) {
        neomm__region_close(region);
        if (region->end > end) {
            split(map, region, end);
            neomm__region_open(neomm__region_find(map, end));
            return;
        }
    }
}

static bool alike(const struct neomm__region *low, const struct neomm__region *high)
{
    if (low->end != high->start || high->floor != high->start || low->prot != high->prot ||
        low->flags != high->flags || low->object != high->object)
        return false;
    return !has_offset(low) ||
           low->offset + ((low->end - low->start) >> NEOMM_PAGE_SHIFT) == high->offset;
}

static void drop(struct neomm__region_map *map, struct neomm__region_place place)
{
    struct neomm__region *region = neomm__region_at(place);
    neomm__object_put(map->root, region->object);
    neomm__region_tree_remove(map, place);
    neomm__store_release(&region->users, NEOMM__REGION_DEAD);
}

/* The lower one takes the place of both; which are perhaps closed already. */
static struct neomm__region *join(struct neomm__region_map *map, struct neomm__region *low,
                                  struct neomm__region *high)
{
    neomm_vaddr_t end = high->end;
    neomm__region_close(low);
    neomm__region_close(high);
    drop(map, neomm__region_place(map, high->start));
    neomm__region_tree_move(map, low, low->floor, low->start, end);
    neomm__region_open(low);
    return low;
}

void neomm__regions_restore(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end)
{
    struct neomm__region_place place = neomm__region_place(map, start);
    struct neomm__region *low = neomm__region_before(map, place);
    struct neomm__region *region = neomm__region_at(place);
    while (region && region->start <= end) {
        if (low && alike(low, region)) {
            low = join(map, low, region);
            region = neomm__region_first(map, low->end);
            continue;
        }
        if (region->start < end)
            neomm__region_open(region);
        low = region;
        region = neomm__region_first(map, region->end);
    }
}

uint64_t neomm__regions_remove(struct neomm__region_map *map, neomm_vaddr_t start,
                               neomm_vaddr_t end)
{
    uint64_t bytes = 0;
    while (start < end) {
        struct neomm__region_place place = neomm__region_place(map, start);
        const struct neomm__region *region = neomm__region_at(place);
        if (!region || region->start >= end)
            break;
        start = region->end;
        bytes += region->end - region->start;
        drop(map, place);
    }
    return bytes;
}

void neomm__region_add(struct neomm__region_map *map, struct neomm__region *region)
{
    struct neomm__region_place place = neomm__region_place(map, region->start);
    struct neomm__region *after = neomm__region_at(place);
    struct neomm__region *before = neomm__region_before(map, place);
    neomm_vaddr_t start = region->start, end = region->end;
    neomm__object_get(map->root, region->object);
    cut_floor(map, after, end);
    if (before && before->end > region->floor)
        region->floor = before->end;
    neomm__region_tree_insert(map, region, place);
    if ((before && alike(before, region)) || (after && alike(region, after)))
        neomm__regions_restore(map, start, end);
}
