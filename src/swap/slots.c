/* Swap slots: taking, sharing and freeing them.
 * SPDX-License-Identifier: MIT
 *
 * Of the areas of the highest priority that have room, an owner goes on where it fills a cluster;
 * otherwise the next one in turn gives it a cluster that nobody uses, and only when none of them
 * has one a place among others. So the pages of a space stay together, and each device gets runs.
 */
#include "swap_priv.h"

#include "swap/pool.h"

/* Who fills a cluster: an owner on a CPU. Those whose hash is the same share one. */
static uint32_t filler_of(uint32_t owner)
{
    return (owner + neomm_port_cpu()->index * 37) % NEOMM__SWAP_FILLERS;
}

static bool take(struct neomm__swap_area *area, uint32_t filler, enum neomm__cluster_want want,
                 struct neomm_swap_entry *entry)
{
    neomm_irq_t irq = neomm__lock(&area->lock);
    uint32_t page =
        area->state == NEOMM__AREA_ON ? neomm__swap_cluster_take(area, filler, want) : 0;
    if (page != 0) {
        struct neomm__slot *slot = &area->slot[page];
        area->used++;
        slot->count = 1;
        slot->flags = 0;
        slot->shadow = 0;
        area->note[page] = 0;
        *entry = (struct neomm_swap_entry){area->base + page, slot->generation, NEOMM_SWAP_SLOT};
    }
    neomm__unlock(&area->lock, irq);
    return page != 0;
}

/* Areas by their places, the first of them the next one in turn. */
struct group {
    uint32_t count;
    uint8_t place[NEOMM__SWAP_AREAS];
};

/* The areas that have room, of the highest priority that is below *priority, or of the highest at
 * all; false: there are none. */
static bool next_group(const struct neomm__swap *swap, bool first, int *priority,
                       struct group *group)
{
    uint32_t areas = neomm__load_acquire(&swap->areas);
    int below = *priority;
    group->count = 0;
    for (uint32_t i = 0; i < areas; i++) {
        const struct neomm__swap_area *area = &swap->area[i];
        if (neomm__load_acquire(&area->state) != NEOMM__AREA_ON ||
            neomm__load_relaxed(&area->free) == 0)
            continue;
        int own = neomm__load_relaxed(&area->priority);
        if ((!first && own >= below) || (group->count != 0 && own < *priority))
            continue;
        if (group->count != 0 && own > *priority)
            group->count = 0;
        *priority = own;
        group->place[group->count++] = (uint8_t)i;
    }
    return group->count != 0;
}

static bool take_from(struct neomm__swap *swap, const struct group *group, uint32_t filler,
                      struct neomm_swap_entry *entry)
{
    uint8_t *stripe = &swap->stripe[filler];
    uint32_t last = neomm__load_relaxed(stripe), turn = 0;
    for (uint32_t i = 0; i < group->count; i++)
        if (group->place[i] == last && take(&swap->area[last], filler, NEOMM__CLUSTER_OWN, entry))
            return true;
    if (group->count > 1)
        turn = neomm__fetch_add(&swap->turn, 1) % group->count;
    for (unsigned want = NEOMM__CLUSTER_UNUSED; want <= NEOMM__CLUSTER_ANY; want++)
        for (uint32_t i = 0; i < group->count; i++) {
            uint8_t place = group->place[(turn + i) % group->count];
            if (take(&swap->area[place], filler, (enum neomm__cluster_want)want, entry)) {
                neomm__store_relaxed(stripe, place);
                return true;
            }
        }
    return false;
}

neomm_status neomm_swap_alloc(struct neomm *root, uint32_t owner, struct neomm_swap_entry *entry)
{
    struct neomm__swap *swap = root->swap;
    struct group group;
    int priority = 0;
    if (!swap || NEOMM__FAULT(SWAP_SLOT))
        return NEOMM_E_NOSPACE;
    uint32_t filler = filler_of(owner);
    for (bool first = true; next_group(swap, first, &priority, &group); first = false)
        if (take_from(swap, &group, filler, entry))
            return NEOMM_OK;
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

struct neomm__slot *neomm__swap_lock_record(struct neomm *root, struct neomm_swap_entry entry,
                                            struct neomm__swap_area **area, neomm_irq_t *irq)
{
    *area = neomm__swap_lock_area(root, entry.slot, irq);
    if (!*area)
        return NULL;
    struct neomm__slot *slot = neomm__swap_record(root, *area, entry);
    if (!slot)
        neomm__unlock(&(*area)->lock, *irq);
    return slot;
}

/* Who has the slot has changed, which matters to who removes the area. */
static void unlock_changed(struct neomm *root, struct neomm__swap_area *area, neomm_irq_t irq)
{
    bool leaving = area->state == NEOMM__AREA_LEAVING;
    neomm__unlock(&area->lock, irq);
    if (leaving)
        neomm__swap_stir(root);
}

neomm_status neomm_swap_dup(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return NEOMM_E_NOENT;
    if (slot->count < NEOMM__SWAP_COUNT_MAX)
        if (++slot->count == NEOMM__SWAP_COUNT_MAX)
            area->stuck++;
    unlock_changed(root, area, irq);
    return NEOMM_OK;
}

/* The last user is gone: the contents are nobody's, and entries that name them are stale. */
static void release(struct neomm *root, struct neomm__swap_area *area, struct neomm__slot *slot)
{
    bool bad = slot->flags & NEOMM__SLOT_BAD;
    neomm__pool_drop(root, area, slot);
    if (slot->flags & NEOMM__SLOT_FILLED)
        area->filled--;
    slot->generation = (uint16_t)((slot->generation + 1u) & neomm__swap_generation_mask(root));
    slot->flags = bad ? NEOMM__SLOT_BAD : 0;
    area->used--;
    uint32_t page = (uint32_t)(slot - area->slot);
    if (bad) {
        area->bad++;
        neomm__swap_cluster_lose(area, page);
    } else {
        neomm__swap_cluster_put(area, page);
    }
}

neomm_status neomm_swap_free(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return NEOMM_E_NOENT;
    if (slot->count < NEOMM__SWAP_COUNT_MAX && --slot->count == 0)
        release(root, area, slot);
    unlock_changed(root, area, irq);
    return NEOMM_OK;
}

void neomm__evacuation_free_stuck(struct neomm *root, const struct neomm__evacuation *evacuation)
{
    struct neomm__swap_area *area = evacuation->area;
    for (uint32_t page = 1; page < area->slots; page++) {
        neomm_irq_t irq = neomm__lock(&area->lock);
        struct neomm__slot *slot = &area->slot[page];
        if (slot->count == NEOMM__SWAP_COUNT_MAX) {
            slot->count = 0;
            area->stuck--;
            release(root, area, slot);
        }
        neomm__unlock(&area->lock, irq);
    }
}

uint32_t neomm_swap_users(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    const struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return 0;
    uint32_t users = slot->count;
    neomm__unlock(&area->lock, irq);
    return users;
}

neomm_status neomm_swap_entry_of(struct neomm *root, uint32_t number,
                                 struct neomm_swap_entry *entry)
{
    neomm_irq_t irq;
    struct neomm__swap_area *area = neomm__swap_lock_area(root, number, &irq);
    if (!area)
        return NEOMM_E_NOENT;
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
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
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
    const struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
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
    if (!neomm__swap_lock_record(root, entry, &area, &irq))
        return;
    area->note[entry.slot - area->base] = note;
    unlock_changed(root, area, irq);
}

uint32_t neomm_swap_note_of(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    if (!neomm__swap_lock_record(root, entry, &area, &irq))
        return 0;
    uint32_t note = area->note[entry.slot - area->base];
    neomm__unlock(&area->lock, irq);
    return note;
}
