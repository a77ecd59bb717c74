/* The consistency check of swap areas.
 * SPDX-License-Identifier: MIT */
#include "swap_priv.h"

#include "base/bitmap.h"
#include "swap/pool.h"

struct totals {
    uint32_t free, used, bad, stuck, filled;
};

static void check_slot(const struct neomm__swap_area *area, uint32_t page, struct totals *totals,
                       struct neomm__report *report)
{
    const struct neomm__slot *slot = &area->slot[page];
    bool taken = neomm__bitmap_test(area->bitmap, page);
    bool bad = slot->flags & NEOMM__SLOT_BAD;
    if (taken != (slot->count != 0 || bad))
        neomm__report(report, "swap: slot %u is %s in the bitmap, its record has count %u%s",
                      area->base + page, taken ? "taken" : "free", slot->count,
                      bad ? " and is bad" : "");
    if (slot->count == 0 && slot->flags & ~NEOMM__SLOT_BAD)
        neomm__report(report, "swap: slot %u has contents (flags %#x) and no user",
                      area->base + page, slot->flags);
    if (slot->flags & NEOMM__SLOT_FILLED && !(slot->flags & NEOMM__SLOT_VALID))
        neomm__report(report, "swap: slot %u is filled but not valid", area->base + page);
    if (slot->flags & NEOMM__SLOT_POOLED &&
        (slot->flags & (NEOMM__SLOT_VALID | NEOMM__SLOT_FILLED)) != NEOMM__SLOT_VALID)
        neomm__report(report, "swap: slot %u is in the pool and filled, or not valid",
                      area->base + page);
    totals->free += !taken;
    totals->used += slot->count != 0;
    totals->bad += slot->count == 0 && bad;
    totals->stuck += slot->count == NEOMM__SWAP_COUNT_MAX;
    totals->filled += (slot->flags & NEOMM__SLOT_FILLED) != 0;
}

static bool is_unused(const struct neomm__cluster *cluster)
{
    return cluster->list == NEOMM__CLUSTER_FREE || cluster->list == NEOMM__CLUSTER_STALE ||
           cluster->list == NEOMM__CLUSTER_TOLD;
}

static void check_counts(const struct neomm__swap_area *area, uint32_t c,
                         struct neomm__report *report)
{
    const struct neomm__cluster *cluster = &area->cluster[c];
    uint32_t first = c * NEOMM__SWAP_CLUSTER, left = area->slots - first;
    uint32_t slots = left < NEOMM__SWAP_CLUSTER ? left : NEOMM__SWAP_CLUSTER;
    uint32_t usable = slots - (c == 0);
    size_t free = slots - neomm__bitmap_count(area->bitmap, first, slots);
    for (uint32_t i = 0; i < slots; i++)
        usable -= area->slot[first + i].count == 0 && area->slot[first + i].flags & NEOMM__SLOT_BAD;
    if (free != cluster->free || usable != cluster->usable)
        neomm__report(report,
                      "swap: cluster %u of area %u counts %u of %u slots free, has %zu of %u", c,
                      area->base, cluster->free, cluster->usable, free, usable);
    bool full = cluster->free == 0, unused = !full && cluster->free == cluster->usable;
    if (full != (cluster->list == NEOMM__CLUSTER_FULL) || unused != is_unused(cluster) ||
        (cluster->filler != 0) != (cluster->list == NEOMM__CLUSTER_CLAIMED))
        neomm__report(report, "swap: cluster %u of area %u is in list %u with %u of %u slots free",
                      c, area->base, cluster->list, cluster->free, cluster->usable);
}

/* Each list has as many clusters of its kind, one behind the other, as it says. */
static void check_list(const struct neomm__swap_area *area, uint32_t list,
                       struct neomm__report *report)
{
    const struct neomm__cluster_queue *queue = &area->list[list];
    uint32_t count = 0, last = 0, of_kind = 0;
    for (uint32_t n = queue->first; n != 0 && n <= area->clusters && count <= area->clusters;
         n = area->cluster[n - 1].next, count++) {
        if (area->cluster[n - 1].list != list || area->cluster[n - 1].prev != last)
            neomm__report(report, "swap: cluster %u of area %u is wrongly linked", n - 1,
                          area->base);
        last = n;
    }
    for (uint32_t c = 0; c < area->clusters; c++)
        of_kind += area->cluster[c].list == list;
    if (count != queue->count || last != queue->last || count != of_kind)
        neomm__report(report, "swap: list %u of area %u counts %u clusters, has %u of %u", list,
                      area->base, queue->count, count, of_kind);
}

static void check_clusters(const struct neomm__swap_area *area, struct neomm__report *report)
{
    for (uint32_t c = 0; c < area->clusters; c++)
        check_counts(area, c, report);
    for (uint32_t list = NEOMM__CLUSTER_FREE; list < NEOMM__CLUSTER_TOLD; list++)
        check_list(area, list, report);
}

static void check_total(const struct neomm__swap_area *area, const char *what, uint32_t counted,
                        uint32_t found, struct neomm__report *report)
{
    if (counted != found)
        neomm__report(report, "swap: area %u counts %u %s slots, has %u", area->base, counted, what,
                      found);
}

static void check_area(const struct neomm__swap_area *area, struct neomm__report *report)
{
    struct totals totals = {0, 0, 0, 0, 0};
    if (!neomm__bitmap_test(area->bitmap, 0) || area->slot[0].count || area->slot[0].flags)
        neomm__report(report, "swap: the header page of area %u is in use as a slot", area->base);
    for (uint32_t page = 1; page < area->slots; page++)
        check_slot(area, page, &totals, report);
    check_clusters(area, report);
    check_total(area, "free", area->free, totals.free, report);
    check_total(area, "used", area->used, totals.used, report);
    check_total(area, "bad", area->bad, totals.bad, report);
    check_total(area, "stuck", area->stuck, totals.stuck, report);
    check_total(area, "filled", area->filled, totals.filled, report);
}

/* No number is that of slots of two areas. */
static void check_numbers(const struct neomm__swap *swap, uint32_t i, struct neomm__report *report)
{
    const struct neomm__swap_area *area = &swap->area[i];
    for (uint32_t j = 0; j < i; j++)
        if (swap->area[j].slots != 0 && (area->base - swap->area[j].base < swap->area[j].slots ||
                                         swap->area[j].base - area->base < area->slots))
            neomm__report(report, "swap: area %u begins at slot %u, inside of area %u", i,
                          area->base, j);
}

void neomm__swap_fsck(struct neomm *root, struct neomm__report *report)
{
    const struct neomm__swap *swap = root->swap;
    uint32_t slots = 0;
    for (uint32_t i = 0; i < swap->areas; i++) {
        if (swap->area[i].state == NEOMM__AREA_NONE)
            continue;
        slots += swap->area[i].slots;
        check_numbers(swap, i, report);
        check_area(&swap->area[i], report);
    }
    neomm__pool_fsck(root, report);
    if (slots != swap->slots)
        neomm__report(report, "swap: %u slots counted, the areas have %u", swap->slots, slots);
}
