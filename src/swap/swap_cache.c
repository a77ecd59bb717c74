/* The swap cache (swap_cache.h): two flags of a slot's record, and its word for the policy's note,
 * which says nothing while the page is in memory.
 * SPDX-License-Identifier: MIT */
#include "swap/swap_cache.h"

#include "swap_priv.h"

/* A record with its area locked; slot NULL: the entry is stale, and nothing is locked. */
struct locked {
    struct neomm__swap_area *area;
    struct neomm__slot *slot;
    neomm_irq_t irq;
};

static struct locked lock_record(struct neomm *root, struct neomm_swap_entry entry)
{
    struct locked l = {NULL, NULL, 0};
    l.area = neomm__swap_lock_area(root, entry.slot, &l.irq);
    if (!l.area)
        return l;
    l.slot = neomm__swap_record(root, l.area, entry);
    if (!l.slot)
        neomm__unlock(&l.area->lock, l.irq);
    return l;
}

static void unlock_record(struct locked *l)
{
    neomm__unlock(&l->area->lock, l->irq);
}

static bool is_of(const struct neomm__slot *slot, neomm_frame_t frame)
{
    return (slot->flags & NEOMM__SLOT_CACHED) && slot->shadow == frame.number;
}

enum neomm__swap_found neomm__swap_cache_find(struct neomm *root, struct neomm_swap_entry entry,
                                              neomm_frame_t *frame)
{
    enum neomm__swap_found found = NEOMM__SWAP_NOT_THERE;
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return found;
    if (l.slot->flags & NEOMM__SLOT_READING) {
        found = NEOMM__SWAP_READING;
    } else if (l.slot->flags & NEOMM__SLOT_CACHED) {
        *frame = neomm_frame(l.slot->shadow);
        (void)neomm__fetch_add(&neomm__frame(root, *frame)->references, 1);
        found = NEOMM__SWAP_CACHED;
    }
    unlock_record(&l);
    return found;
}

bool neomm__swap_read_begin(struct neomm *root, struct neomm_swap_entry entry, bool even_if_cached)
{
    unsigned against = NEOMM__SLOT_READING | (even_if_cached ? 0 : NEOMM__SLOT_CACHED);
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return false;
    bool begun = (l.slot->flags & against) == 0;
    if (begun)
        l.slot->flags |= NEOMM__SLOT_READING;
    unlock_record(&l);
    return begun;
}

void neomm__swap_read_end(struct neomm *root, struct neomm_swap_entry entry)
{
    struct locked l = lock_record(root, entry);
    NEOMM__ASSERT(l.slot && (l.slot->flags & NEOMM__SLOT_READING));
    l.slot->flags &= (uint8_t)~NEOMM__SLOT_READING;
    unlock_record(&l);
}

bool neomm__swap_is_reading(struct neomm *root, struct neomm_swap_entry entry)
{
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return false;
    bool reading = (l.slot->flags & NEOMM__SLOT_READING) != 0;
    unlock_record(&l);
    return reading;
}

void neomm__swap_cache_add(struct neomm *root, struct neomm_swap_entry entry, neomm_frame_t frame)
{
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return;
    if (!(l.slot->flags & NEOMM__SLOT_CACHED)) {
        l.slot->flags |= NEOMM__SLOT_CACHED;
        l.slot->shadow = frame.number;
    }
    unlock_record(&l);
}

void neomm__swap_cache_remove(struct neomm *root, struct neomm_swap_entry entry,
                              neomm_frame_t frame)
{
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return;
    if (is_of(l.slot, frame)) {
        l.slot->flags &= (uint8_t)~NEOMM__SLOT_CACHED;
        l.slot->shadow = 0;
    }
    unlock_record(&l);
}

void neomm__swap_cache_move(struct neomm *root, struct neomm_swap_entry entry, neomm_frame_t from,
                            neomm_frame_t to)
{
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return;
    if (is_of(l.slot, from))
        l.slot->shadow = to.number;
    unlock_record(&l);
}

neomm_frame_t neomm__swap_cached(struct neomm *root, struct neomm_swap_entry entry)
{
    struct locked l = lock_record(root, entry);
    if (!l.slot)
        return neomm_frame(0);
    neomm_frame_t frame = neomm_frame(l.slot->flags & NEOMM__SLOT_CACHED ? l.slot->shadow : 0);
    unlock_record(&l);
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
