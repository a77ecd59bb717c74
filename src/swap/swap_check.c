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

static void check_clusters(const struct neomm__swap_area *area, struct neomm__report *report)
{
    for (uint32_t c = 0; c < area->clusters; c++) {
        uint32_t first = c * NEOMM__SWAP_CLUSTER;
        uint32_t slots =
            area->slots - first < NEOMM__SWAP_CLUSTER ? area->slots - first : NEOMM__SWAP_CLUSTER;
        size_t free = slots - neomm__bitmap_count(area->bitmap, first, slots);
        if (free != area->cluster_free[c])
            neomm__report(report, "swap: cluster %u of area %u counts %u free slots, has %zu", c,
                          area->base, area->cluster_free[c], free);
    }
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

void neomm__swap_fsck(struct neomm *root, struct neomm__report *report)
{
    const struct neomm__swap *swap = root->swap;
    uint32_t base = 0;
    for (uint32_t i = 0; i < swap->areas; i++) {
        if (swap->area[i].base != base)
            neomm__report(report, "swap: area %u begins at slot %u, not %u", i, swap->area[i].base,
                          base);
        base += swap->area[i].slots;
        check_area(&swap->area[i], report);
    }
    neomm__pool_fsck(root, report);
    if (base != swap->slots)
        neomm__report(report, "swap: %u slots counted, the areas have %u", swap->slots, base);
}
