/* Swap slots: taking, sharing and freeing them.
 * SPDX-License-Identifier: MIT
 *
 * An owner goes on where it got its last slot; when that cluster is full it gets a cluster that
 * nobody uses, and only when there is none a place among others. So the pages of a space stay
 * together on the device and may be read ahead one day.
 */
#include "swap_priv.h"

#include "base/bitmap.h"

static uint32_t cluster_end(const struct neomm__swap_area *area, uint32_t cluster)
{
    uint32_t end = (cluster + 1) * NEOMM__SWAP_CLUSTER;
    return end < area->slots ? end : area->slots;
}

void neomm__swap_slots_init(struct neomm__swap_area *area)
{
    for (uint32_t c = 0; c < area->clusters; c++)
        area->cluster_free[c] = (uint16_t)(cluster_end(area, c) - c * NEOMM__SWAP_CLUSTER);
    area->free = area->slots - 1;
    area->cluster_free[0]--;
    neomm__bitmap_set_run(area->bitmap, 0, 1);
}

static void mark_taken(struct neomm__swap_area *area, uint32_t page)
{
    neomm__bitmap_set_run(area->bitmap, page, 1);
    area->cluster_free[page / NEOMM__SWAP_CLUSTER]--;
    area->free--;
}

static void mark_free(struct neomm__swap_area *area, uint32_t page)
{
    neomm__bitmap_clear_run(area->bitmap, page, 1);
    area->cluster_free[page / NEOMM__SWAP_CLUSTER]++;
    area->free++;
}

bool neomm__swap_slot_retire(struct neomm__swap_area *area, uint32_t page)
{
    if (page == 0 || page >= area->slots)
        return false;
    if (area->slot[page].flags & NEOMM__SLOT_BAD)
        return true;
    mark_taken(area, page);
    area->slot[page].flags = NEOMM__SLOT_BAD;
    area->bad++;
    return true;
}

/* The first cluster from `from` on, around the end, with at least `wanted` free slots;
 * area->clusters if there is none. */
static uint32_t find_cluster(const struct neomm__swap_area *area, uint32_t from, uint32_t wanted)
{
    for (uint32_t i = 0; i < area->clusters; i++) {
        uint32_t cluster = from + i < area->clusters ? from + i : from + i - area->clusters;
        if (area->cluster_free[cluster] >= wanted)
            return cluster;
    }
    return area->clusters;
}

/* The first free page from `from` on in its cluster; NEOMM__BITMAP_NONE if there is none. */
static size_t find_in_cluster(const struct neomm__swap_area *area, uint32_t from)
{
    return neomm__bitmap_next_clear(area->bitmap, from,
                                    cluster_end(area, from / NEOMM__SWAP_CLUSTER));
}

/* A free page of an area that has one. */
static uint32_t find_page(struct neomm__swap_area *area, uint32_t hint)
{
    size_t page = hint ? find_in_cluster(area, hint) : NEOMM__BITMAP_NONE;
    if (page != NEOMM__BITMAP_NONE)
        return (uint32_t)page;
    uint32_t cluster = find_cluster(area, area->rover, NEOMM__SWAP_CLUSTER);
    if (cluster == area->clusters)
        cluster = find_cluster(area, area->rover, 1);
    NEOMM__ASSERT(cluster < area->clusters);
    area->rover = cluster;
    page = find_in_cluster(area, cluster * NEOMM__SWAP_CLUSTER);
    NEOMM__ASSERT(page != NEOMM__BITMAP_NONE);
    return (uint32_t)page;
}

static bool take(struct neomm__swap_area *area, uint32_t owner, struct neomm_swap_entry *entry)
{
    uint32_t *hint = &area->hint[owner % NEOMM__SWAP_HINTS];
    neomm_irq_t irq = neomm__lock(&area->lock);
    bool found = area->free != 0;
    if (found) {
        uint32_t page = find_page(area, *hint);
        struct neomm__slot *slot = &area->slot[page];
        mark_taken(area, page);
        area->used++;
        slot->count = 1;
        slot->flags = 0;
        slot->shadow = 0;
        area->note[page] = 0;
        *hint = page;
        *entry = (struct neomm_swap_entry){area->base + page, slot->generation, NEOMM_SWAP_SLOT};
    }
    neomm__unlock(&area->lock, irq);
    return found;
}

/* The area with the highest priority among those not in `tried`; the older one of equals. */
static uint32_t next_area(const struct neomm__swap *swap, uint32_t areas, uint32_t tried)
{
    uint32_t best = areas;
    for (uint32_t i = 0; i < areas; i++)
        if (!(tried >> i & 1) &&
            (best == areas || swap->area[i].priority > swap->area[best].priority))
            best = i;
    return best;
}

neomm_status neomm_swap_alloc(struct neomm *root, uint32_t owner, struct neomm_swap_entry *entry)
{
    struct neomm__swap *swap = root->swap;
    if (!swap || NEOMM__FAULT(SWAP_SLOT))
        return NEOMM_E_NOSPACE;
    uint32_t areas = neomm__load_acquire(&swap->areas), tried = 0, i;
    while ((i = next_area(swap, areas, tried)) < areas) {
        if (take(&swap->area[i], owner, entry))
            return NEOMM_OK;
        tried |= 1u << i;
    }
    return NEOMM_E_NOSPACE;
}

struct neomm__slot *neomm__swap_record(struct neomm *root, struct neomm__swap_area *area,
                                       struct neomm_swap_entry entry)
{
    struct neomm__slot *slot = &area->slot[entry.slot - area->base];
    if (entry.kind != NEOMM_SWAP_SLOT || slot->count == 0 ||
        ((slot->generation ^ entry.generation) & neomm__swap_generation_mask(root)))
        return NULL;
    return slot;
}

/* The record that `entry` names, with its area locked. NULL: the entry is stale or no entry at all,
 * and nothing is locked. */
static struct neomm__slot *lock_record(struct neomm *root, struct neomm_swap_entry entry,
                                       struct neomm__swap_area **area, neomm_irq_t *irq)
{
    *area = neomm__swap_area_of(root, entry.slot);
    if (!*area)
        return NULL;
    *irq = neomm__lock(&(*area)->lock);
    struct neomm__slot *slot = neomm__swap_record(root, *area, entry);
    if (!slot)
        neomm__unlock(&(*area)->lock, *irq);
    return slot;
}

neomm_status neomm_swap_dup(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = lock_record(root, entry, &area, &irq);
    if (!slot)
        return NEOMM_E_NOENT;
    if (slot->count < NEOMM__SWAP_COUNT_MAX)
        if (++slot->count == NEOMM__SWAP_COUNT_MAX)
            area->stuck++;
    neomm__unlock(&area->lock, irq);
    return NEOMM_OK;
}

/* The last user is gone: the contents are nobody's, and entries that name them are stale. */
static void release(struct neomm *root, struct neomm__swap_area *area, struct neomm__slot *slot)
{
    bool bad = slot->flags & NEOMM__SLOT_BAD;
    if (slot->flags & NEOMM__SLOT_FILLED)
        area->filled--;
    slot->generation = (uint16_t)((slot->generation + 1u) & neomm__swap_generation_mask(root));
    slot->flags = bad ? NEOMM__SLOT_BAD : 0;
    area->used--;
    if (bad)
        area->bad++;
    else
        mark_free(area, (uint32_t)(slot - area->slot));
}

neomm_status neomm_swap_free(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = lock_record(root, entry, &area, &irq);
    if (!slot)
        return NEOMM_E_NOENT;
    if (slot->count < NEOMM__SWAP_COUNT_MAX && --slot->count == 0)
        release(root, area, slot);
    neomm__unlock(&area->lock, irq);
    return NEOMM_OK;
}

uint32_t neomm_swap_users(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    const struct neomm__slot *slot = lock_record(root, entry, &area, &irq);
    if (!slot)
        return 0;
    uint32_t users = slot->count;
    neomm__unlock(&area->lock, irq);
    return users;
}

neomm_status neomm_swap_entry_of(struct neomm *root, uint32_t number,
                                 struct neomm_swap_entry *entry)
{
    struct neomm__swap_area *area = neomm__swap_area_of(root, number);
    if (!area)
        return NEOMM_E_NOENT;
    neomm_irq_t irq = neomm__lock(&area->lock);
    const struct neomm__slot *slot = &area->slot[number - area->base];
    bool used = slot->count != 0;
    *entry = (struct neomm_swap_entry){number, slot->generation, NEOMM_SWAP_SLOT};
    neomm__unlock(&area->lock, irq);
    return used ? NEOMM_OK : NEOMM_E_NOENT;
}

void neomm__swap_set_shadow(struct neomm *root, struct neomm_swap_entry entry, uint32_t shadow)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = lock_record(root, entry, &area, &irq);
    if (!slot)
        return;
    if (!(slot->flags & NEOMM__SLOT_CACHED))
        slot->shadow = shadow;
    neomm__unlock(&area->lock, irq);
}

uint32_t neomm__swap_shadow(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    const struct neomm__slot *slot = lock_record(root, entry, &area, &irq);
    if (!slot)
        return 0;
    uint32_t shadow = slot->flags & NEOMM__SLOT_CACHED ? 0 : slot->shadow;
    neomm__unlock(&area->lock, irq);
    return shadow;
}

void neomm_swap_note(struct neomm *root, struct neomm_swap_entry entry, uint32_t note)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    if (!lock_record(root, entry, &area, &irq))
        return;
    area->note[entry.slot - area->base] = note;
    neomm__unlock(&area->lock, irq);
}

uint32_t neomm_swap_note_of(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    if (!lock_record(root, entry, &area, &irq))
        return 0;
    uint32_t note = area->note[entry.slot - area->base];
    neomm__unlock(&area->lock, irq);
    return note;
}
