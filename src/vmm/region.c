/* The ordered map of a space's regions: a sorted array, searched by halving.
 * SPDX-License-Identifier: MIT
 *
 * Invariants: start < end, ascending, disjoint, and no two neighbours touch with equal rights.
 */
#include "vmm/object.h"

#define FIRST_CAPACITY 8u

uint32_t neomm__region_first(const struct neomm__region_map *map, neomm_vaddr_t vaddr)
{
    uint32_t low = 0, high = map->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (map->regions[middle].end <= vaddr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct neomm__region *neomm__region_find(const struct neomm__region_map *map, neomm_vaddr_t vaddr)
{
    uint32_t at = neomm__region_first(map, vaddr);
    if (at == map->count || map->regions[at].start > vaddr)
        return NULL;
    return &map->regions[at];
}

neomm_status neomm__region_reserve(struct neomm *root, struct neomm__region_map *map, uint32_t more)
{
    if (map->capacity - map->count >= more)
        return NEOMM_OK;
    uint32_t capacity = map->capacity ? map->capacity * 2 : FIRST_CAPACITY;
    if (NEOMM__FAULT(VMM_REGION))
        return NEOMM_E_NOMEM;
    struct neomm__region *grown =
        neomm_krealloc(root, map->regions, capacity * sizeof(*grown), NEOMM_NORECLAIM);
    if (!grown)
        return NEOMM_E_NOMEM;
    map->regions = grown;
    map->capacity = capacity;
    return NEOMM_OK;
}

static void open_gap(struct neomm__region_map *map, uint32_t at)
{
    NEOMM__ASSERT(map->regions && map->count < map->capacity);
    memmove(&map->regions[at + 1], &map->regions[at], (map->count - at) * sizeof(map->regions[0]));
    map->count++;
}

static void close_gap(struct neomm__region_map *map, uint32_t at, uint32_t regions)
{
    memmove(&map->regions[at], &map->regions[at + regions],
            (map->count - at - regions) * sizeof(map->regions[0]));
    map->count -= regions;
}

static void begin_at(struct neomm__region *region, neomm_vaddr_t start)
{
    region->offset += region->object != 0 ? (start - region->start) >> NEOMM_PAGE_SHIFT : 0;
    region->start = start;
}

/* Does `after` go on where `before` ends? */
static bool joins(const struct neomm__region *before, const struct neomm__region *after)
{
    return before->end == after->start && before->prot == after->prot && before->object == 0 &&
           after->object == 0;
}

uint64_t neomm__region_clear(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end)
{
    uint64_t cleared = 0;
    uint32_t at = neomm__region_first(map, start);
    if (at < map->count && map->regions[at].start < start) {
        struct neomm__region *cut = &map->regions[at];
        if (cut->end > end) {
            open_gap(map, at);
            map->regions[at].end = start;
            begin_at(&map->regions[at + 1], end);
            return end - start;
        }
        cleared += cut->end - start;
        cut->end = start;
        at++;
    }
    uint32_t first = at;
    for (; at < map->count && map->regions[at].end <= end; at++)
        cleared += map->regions[at].end - map->regions[at].start;
    close_gap(map, first, at - first);
    if (first < map->count && map->regions[first].start < end) {
        cleared += end - map->regions[first].start;
        begin_at(&map->regions[first], end);
    }
    return cleared;
}

void neomm__region_insert(struct neomm__region_map *map, struct neomm__region region)
{
    uint32_t at = neomm__region_first(map, region.start);
    struct neomm__region *before = at > 0 ? &map->regions[at - 1] : NULL;
    struct neomm__region *after = at < map->count ? &map->regions[at] : NULL;
    bool join_before = before && joins(before, &region);
    bool join_after = after && joins(&region, after);
    if (join_before && join_after) {
        before->end = after->end;
        close_gap(map, at, 1);
    } else if (join_before) {
        before->end = region.end;
    } else if (join_after) {
        after->start = region.start;
    } else {
        open_gap(map, at);
        map->regions[at] = region;
    }
}

neomm_vaddr_t neomm__region_gap(const struct neomm__region_map *map, neomm_vaddr_t from,
                                neomm_vaddr_t limit, uint64_t size)
{
    for (uint32_t at = neomm__region_first(map, from); from < limit; at++) {
        neomm_vaddr_t stop = at < map->count ? map->regions[at].start : limit;
        if (stop > limit)
            stop = limit;
        if (stop > from && stop - from >= size)
            return from;
        if (at >= map->count)
            break;
        from = map->regions[at].end;
    }
    return 0;
}

bool neomm__region_covers(const struct neomm__region_map *map, neomm_vaddr_t start,
                          neomm_vaddr_t end)
{
    for (uint32_t at = neomm__region_first(map, start); start < end; at++) {
        if (at == map->count || map->regions[at].start > start)
            return false;
        start = map->regions[at].end;
    }
    return true;
}

uint64_t neomm__region_bytes(const struct neomm__region_map *map, neomm_vaddr_t start,
                             neomm_vaddr_t end)
{
    uint64_t bytes = 0;
    uint32_t at = neomm__region_first(map, start);
    for (; at < map->count && map->regions[at].start < end; at++) {
        const struct neomm__region *region = &map->regions[at];
        bytes += (region->end < end ? region->end : end) -
                 (region->start > start ? region->start : start);
    }
    return bytes;
}

neomm_status neomm__region_copy(struct neomm *root, const struct neomm__region_map *from,
                                struct neomm__region_map *to)
{
    while (to->capacity < from->count) {
        to->count = to->capacity;
        neomm_status status = neomm__region_reserve(root, to, 1);
        to->count = 0;
        if (status != NEOMM_OK)
            return status;
    }
    if (from->count != 0)
        memcpy(to->regions, from->regions, from->count * sizeof(from->regions[0]));
    to->count = from->count;
    for (uint32_t i = 0; i < to->count; i++)
        neomm__object_get(root, to->regions[i].object);
    return NEOMM_OK;
}

void neomm__region_free(struct neomm *root, struct neomm__region_map *map)
{
    for (uint32_t i = 0; i < map->count; i++)
        neomm__object_put(root, map->regions[i].object);
    (void)neomm_kfree(root, map->regions);
    *map = (struct neomm__region_map){0};
}
