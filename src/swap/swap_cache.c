/* The swap cache (swap_cache.h): two flags of a slot's record, and its word for the policy's note,
 * which says nothing while the page is in memory.
 * SPDX-License-Identifier: MIT */
#include "swap/swap_cache.h"

#include "swap_priv.h"

static bool is_of(const struct neomm__slot *slot, neomm_frame_t frame)
{
    return (slot->flags & NEOMM__SLOT_CACHED) && slot->shadow == frame.number;
}

enum neomm__swap_found neomm__swap_cache_find(struct neomm *root, struct neomm_swap_entry entry,
                                              neomm_frame_t *frame)
{
    enum neomm__swap_found found = NEOMM__SWAP_NOT_THERE;
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return found;
    if (slot->flags & NEOMM__SLOT_READING) {
        found = NEOMM__SWAP_READING;
    } else if (slot->flags & NEOMM__SLOT_CACHED) {
        *frame = neomm_frame(slot->shadow);
        (void)neomm__fetch_add(&neomm__frame(root, *frame)->references, 1);
        found = NEOMM__SWAP_CACHED;
    }
    neomm__unlock(&area->lock, irq);
    return found;
}

bool neomm__swap_read_begin(struct neomm *root, struct neomm_swap_entry entry, bool even_if_cached)
{
    unsigned against = NEOMM__SLOT_READING | (even_if_cached ? 0 : NEOMM__SLOT_CACHED);
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return false;
    bool begun = (slot->flags & against) == 0;
    if (begun)
        slot->flags |= NEOMM__SLOT_READING;
    neomm__unlock(&area->lock, irq);
    return begun;
}

void neomm__swap_read_end(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    NEOMM__ASSERT(slot && (slot->flags & NEOMM__SLOT_READING));
    slot->flags &= (uint8_t)~NEOMM__SLOT_READING;
    neomm__unlock(&area->lock, irq);
}

bool neomm__swap_is_reading(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return false;
    bool reading = (slot->flags & NEOMM__SLOT_READING) != 0;
    neomm__unlock(&area->lock, irq);
    return reading;
}

void neomm__swap_cache_add(struct neomm *root, struct neomm_swap_entry entry, neomm_frame_t frame)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return;
    if (!(slot->flags & NEOMM__SLOT_CACHED)) {
        slot->flags |= NEOMM__SLOT_CACHED;
        slot->shadow = frame.number;
    }
    neomm__unlock(&area->lock, irq);
}

void neomm__swap_cache_remove(struct neomm *root, struct neomm_swap_entry entry,
                              neomm_frame_t frame)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return;
    if (is_of(slot, frame)) {
        slot->flags &= (uint8_t)~NEOMM__SLOT_CACHED;
        slot->shadow = 0;
    }
    neomm__unlock(&area->lock, irq);
}

void neomm__swap_cache_move(struct neomm *root, struct neomm_swap_entry entry, neomm_frame_t from,
                            neomm_frame_t to)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return;
    if (is_of(slot, from))
        slot->shadow = to.number;
    neomm__unlock(&area->lock, irq);
}

neomm_frame_t neomm__swap_cached(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return neomm_frame(0);
    neomm_frame_t frame = neomm_frame(slot->flags & NEOMM__SLOT_CACHED ? slot->shadow : 0);
    neomm__unlock(&area->lock, irq);
    return frame;
}

/* ---- the check ---- */

static void check_slot(struct neomm *root, const struct neomm__swap_area *area, uint32_t page,
                       struct neomm__report *report)
{
    const struct neomm__slot *slot = &area->slot[page];
    uint32_t number = area->base + page;
    if (slot->flags & NEOMM__SLOT_READING)
        neomm__report(report, "swap: slot %u is being read by nobody", number);
    if (!(slot->flags & NEOMM__SLOT_CACHED))
        return;
    const struct neomm__frame *entry = neomm__frame(root, neomm_frame(slot->shadow));
    if (!entry || entry->kind != NEOMM__KIND_SHARED ||
        !neomm__frame_has(entry, NEOMM__FRAME_SLOT) || entry->owner != number)
        neomm__report(report, "swap: slot %u is cached in frame %#x, which does not lead back",
                      number, slot->shadow);
}

void neomm__swap_cache_fsck(struct neomm *root, struct neomm__report *report)
{
    const struct neomm__swap *swap = root->swap;
    for (uint32_t i = 0; swap && i < swap->areas; i++)
        for (uint32_t page = 1; page < swap->area[i].slots; page++)
            check_slot(root, &swap->area[i], page, report);
}
