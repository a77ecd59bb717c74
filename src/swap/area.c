/* Swap areas: reading their headers, making and ending the layer.
 * SPDX-License-Identifier: MIT
 */
#include "swap_priv.h"

#include "base/bitmap.h"
#include "swap/crypt.h"
#include "swap/pool.h"

/* Fills in what follows from the area's size and gets it its state. Sizes are 64 bits wide until
 * frames were found for them: 32 bits do not hold what a device may claim. */
static neomm_status make_state(struct neomm *root, struct neomm__swap_area *area)
{
    area->clusters = (area->slots - 1) / NEOMM__SWAP_CLUSTER + 1;
    uint64_t records = (uint64_t)area->slots * sizeof(area->slot[0]);
    uint64_t numbers = root->swap->crypt ? (uint64_t)area->slots * sizeof(area->sequence[0]) : 0;
    uint64_t notes = NEOMM__ALIGN_UP((uint64_t)area->slots * sizeof(area->note[0]), 8);
    uint64_t clusters = NEOMM__ALIGN_UP((uint64_t)area->clusters * sizeof(area->cluster[0]), 8);
    uint64_t filling = NEOMM__ALIGN_UP(NEOMM__SWAP_FILLERS * sizeof(area->filling[0]), 8);
    uint64_t bytes =
        records + numbers + notes + clusters + filling + neomm__bitmap_bytes(area->slots);
    area->memory_frames = (uint32_t)((bytes + NEOMM_PAGE_SIZE - 1) >> NEOMM_PAGE_SHIFT);
    struct neomm_range_request request = {.frames = area->memory_frames};
    if (NEOMM__FAULT(SWAP_AREA))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc_range(root, &request, &area->memory);
    if (status != NEOMM_OK)
        return status;
    uint8_t *memory = neomm_direct_pointer(root, neomm_frame_paddr(area->memory));
    memset(memory, 0, area->memory_frames * NEOMM_PAGE_SIZE);
    area->slot = (void *)memory;
    area->sequence = numbers ? (void *)(memory + (size_t)records) : NULL;
    area->note = (void *)(memory += (size_t)(records + numbers));
    area->cluster = (void *)(memory += (size_t)notes);
    area->filling = (void *)(memory += (size_t)clusters);
    area->bitmap = (void *)(memory + (size_t)filling);
    neomm__swap_clusters_init(area);
    return NEOMM_OK;
}

neomm_status neomm__swap_free_state(struct neomm *root, const struct neomm__swap_area *area)
{
    return neomm_pmm_free_range(root, area->memory, area->memory_frames);
}

/* The area as its header, in a frame of ours, says. */
static neomm_status make_area(struct neomm *root, struct neomm__swap_area *area,
                              neomm_frame_t frame)
{
    const uint8_t *header = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    neomm_status status = neomm__swap_header_check(root, area->device, frame);
    if (status != NEOMM_OK)
        return status;
    neomm__swap_header_facts(header, area);
    if (area->slots > neomm__swap_slot_limit(root))
        return NEOMM_E_NOSPACE;
    status = make_state(root, area);
    if (status != NEOMM_OK)
        return status;
    status = neomm__swap_header_bad_pages(header, area);
    if (status != NEOMM_OK)
        (void)neomm__swap_free_state(root, area);
    return status;
}

/* Reads the header into a frame of our own and makes the area from it. */
static neomm_status read_area(struct neomm *root, struct neomm__swap_area *area)
{
    neomm_frame_t frame;
    if (NEOMM__FAULT(SWAP_AREA))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc(root, 0, 0, &frame);
    if (status != NEOMM_OK)
        return status;
    status = NEOMM__FAULT(SWAP_READ)
                 ? NEOMM_E_IO
                 : neomm__swap_move(area->device, NEOMM_BLOCK_READ, 0, 1, frame);
    if (status == NEOMM_OK)
        status = make_area(root, area, frame);
    (void)neomm_pmm_free(root, frame, 0);
    return status;
}

/* The lowest number from which on `slots` are nobody's: 0, or where an area ends. */
static neomm_status find_base(struct neomm *root, uint32_t slots, uint32_t *base)
{
    const struct neomm__swap *swap = root->swap;
    uint64_t limit = neomm__swap_slot_limit(root), found = limit;
    for (uint32_t i = 0; i <= swap->areas; i++) {
        uint64_t from = i < swap->areas ? (uint64_t)swap->area[i].base + swap->area[i].slots : 0;
        bool free = from + slots <= limit;
        for (uint32_t j = 0; free && j < swap->areas; j++)
            free = swap->area[j].slots == 0 || from + slots <= swap->area[j].base ||
                   from >= (uint64_t)swap->area[j].base + swap->area[j].slots;
        if (free && from < found)
            found = from;
    }
    *base = (uint32_t)found;
    return found < limit ? NEOMM_OK : NEOMM_E_NOSPACE;
}

static neomm_status find_place(struct neomm__swap *swap, struct neomm__swap_area **place)
{
    *place = swap->areas < NEOMM__SWAP_AREAS ? &swap->area[swap->areas] : NULL;
    for (uint32_t i = swap->areas; i-- > 0;)
        if (swap->area[i].state == NEOMM__AREA_NONE)
            *place = &swap->area[i];
    return *place ? NEOMM_OK : NEOMM_E_NOSPACE;
}

/* Entries of an area that had these numbers before name another use. */
static void number_generations(struct neomm *root, struct neomm__swap_area *area)
{
    uint16_t first = (uint16_t)(root->swap->born++ & neomm__swap_generation_mask(root));
    for (uint32_t page = 0; first != 0 && page < area->slots; page++)
        area->slot[page].generation = first;
}

static bool is_in_use(const struct neomm__swap *swap, const struct neomm_block_device *device)
{
    bool found = false;
    for (uint32_t i = 0; i < swap->areas; i++)
        found |= swap->area[i].state != NEOMM__AREA_NONE && swap->area[i].device == device;
    return found;
}

/* Makes the area visible, which is so once it has slots. */
static neomm_status publish(struct neomm *root, struct neomm__swap_area *area)
{
    struct neomm__swap *swap = root->swap;
    struct neomm__swap_area *place;
    uint32_t base;
    neomm_status status = find_place(swap, &place);
    if (status == NEOMM_OK)
        status = find_base(root, area->slots, &base);
    if (status != NEOMM_OK)
        return status;
    number_generations(root, area);
    if (place == &swap->area[swap->areas])
        neomm__lock_init(&place->lock, NEOMM_LOCK_CLASS_SWAP);
    neomm_irq_t irq = neomm__lock(&place->lock);
    const size_t rest = offsetof(struct neomm__swap_area, device);
    memcpy((uint8_t *)place + rest, (const uint8_t *)area + rest, sizeof(*area) - rest);
    neomm__store_relaxed(&place->priority, area->priority);
    neomm__store_relaxed(&place->base, base);
    neomm__store_relaxed(&place->free, area->free);
    neomm__store_release(&place->slots, area->slots);
    neomm__store_release(&place->state, NEOMM__AREA_ON);
    neomm__unlock(&place->lock, irq);
    swap->slots += area->slots;
    if (place == &swap->area[swap->areas])
        neomm__store_release(&swap->areas, swap->areas + 1);
    return NEOMM_OK;
}

neomm_status neomm_swap_add(struct neomm *root, struct neomm_block_device *device, int priority)
{
    return neomm_swap_add_with(root, device, priority, 0);
}

neomm_status neomm_swap_add_with(struct neomm *root, struct neomm_block_device *device,
                                 int priority, uint32_t flags)
{
    struct neomm__swap_area area;
    if (!device || device->pages == 0)
        return NEOMM_E_INVALID;
    if (!root->swap)
        return NEOMM_E_NOENT;
    memset(&area, 0, sizeof(area));
    area.device = device;
    area.priority = priority;
    neomm_status status = read_area(root, &area);
    if (status != NEOMM_OK)
        return status;
    if (!(device->flags & NEOMM_BLOCK_DISCARDS))
        flags = 0;
    area.discards = (flags & NEOMM_SWAP_DISCARD) != 0;
    neomm__mutex_lock(&root->swap->changes);
    status = is_in_use(root->swap, device) ? NEOMM_E_EXISTS : NEOMM_OK;
    if (status == NEOMM_OK && (flags & NEOMM_SWAP_DISCARD_ONCE))
        neomm__swap_discard_all(&area);
    if (status == NEOMM_OK)
        status = publish(root, &area);
    neomm__mutex_unlock(&root->swap->changes);
    if (status != NEOMM_OK)
        (void)neomm__swap_free_state(root, &area);
    return status;
}

static void add_stats(struct neomm__swap_area *area, struct neomm_swap_stats *stats)
{
    neomm_irq_t irq = neomm__lock(&area->lock);
    if (area->state == NEOMM__AREA_NONE) {
        neomm__unlock(&area->lock, irq);
        return;
    }
    stats->slots += area->slots - 1;
    stats->used += area->used;
    stats->bad += area->bad;
    stats->filled += area->filled;
    stats->reads += area->reads;
    stats->writes += area->writes;
    stats->read_errors += area->read_errors;
    stats->write_errors += area->write_errors;
    stats->corrupt += area->corrupt;
    stats->pool_hits += area->pool_hits;
    stats->areas++;
    neomm__unlock(&area->lock, irq);
}

void neomm_swap_stats(struct neomm *root, struct neomm_swap_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    uint32_t areas = root->swap ? neomm__load_acquire(&root->swap->areas) : 0;
    for (uint32_t i = 0; i < areas; i++)
        add_stats(&root->swap->area[i], stats);
    if (root->swap)
        neomm__pool_stats(root, stats);
}

/* False: there is no area. */
static bool describe(struct neomm__swap_area *area, struct neomm_swap_area *out)
{
    neomm_irq_t irq = neomm__lock(&area->lock);
    bool found = area->state != NEOMM__AREA_NONE;
    if (found) {
        *out = (struct neomm_swap_area){.device = area->device,
                                        .priority = area->priority,
                                        .slots = area->slots - 1,
                                        .used = area->used,
                                        .bad = area->bad,
                                        .discarded = area->discarded,
                                        .leaving = area->state != NEOMM__AREA_ON};
        memcpy(out->label, area->label, sizeof(out->label));
        memcpy(out->uuid, area->uuid, sizeof(out->uuid));
    }
    neomm__unlock(&area->lock, irq);
    return found;
}

neomm_status neomm_swap_area_at(struct neomm *root, uint32_t index, struct neomm_swap_area *out)
{
    uint32_t areas = root->swap ? neomm__load_acquire(&root->swap->areas) : 0;
    struct neomm_swap_area area;
    for (uint32_t i = 0; i < areas; i++)
        if (describe(&root->swap->area[i], &area) && index-- == 0) {
            *out = area;
            return NEOMM_OK;
        }
    return NEOMM_E_NOENT;
}

static void snapshot(struct neomm *root, struct neomm_snapshot *snapshot)
{
    neomm_swap_stats(root, &snapshot->swap);
}

static const struct neomm__layer_ops layer_ops = {"swap", neomm__swap_fsck, snapshot};

neomm_status neomm_swap_init(struct neomm *root)
{
    neomm_frame_t frame;
    if (!neomm__layer_ready(root, NEOMM__LAYER_PMM))
        return NEOMM_E_NOENT;
    if (root->swap)
        return NEOMM_E_EXISTS;
    if (NEOMM__FAULT(SWAP_STATE))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &frame);
    if (status != NEOMM_OK)
        return status;
    struct neomm__swap *swap = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    memset(swap, 0, sizeof(*swap));
    neomm__lock_init(&swap->lock, NEOMM_LOCK_CLASS_SWAP);
    neomm__lock_init(&swap->changes, NEOMM_LOCK_CLASS_SPACES);
    swap->frame = frame;
    neomm__policy_builtin(swap);
    root->swap = swap;
    status = neomm__pool_init(root);
    if (status == NEOMM_OK && (status = neomm__crypt_init(root)) != NEOMM_OK)
        neomm__pool_fini(root);
    if (status != NEOMM_OK) {
        root->swap = NULL;
        (void)neomm_pmm_free(root, frame, 0);
        return status;
    }
    root->layer[NEOMM__LAYER_SWAP] = &layer_ops;
    return NEOMM_OK;
}

neomm_status neomm_swap_fini(struct neomm *root)
{
    struct neomm__swap *swap = root->swap;
    if (!swap)
        return NEOMM_E_NOENT;
    if (neomm__layer_ready(root, NEOMM__LAYER_VMM))
        return NEOMM_E_BUSY;
    for (uint32_t i = 0; i < swap->areas; i++)
        if (swap->area[i].used != swap->area[i].stuck)
            return NEOMM_E_BUSY;
    neomm__crypt_fini(root);
    neomm__pool_fini(root);
    for (uint32_t i = 0; i < swap->areas; i++)
        if (swap->area[i].state != NEOMM__AREA_NONE)
            (void)neomm__swap_free_state(root, &swap->area[i]);
    root->layer[NEOMM__LAYER_SWAP] = NULL;
    root->swap = NULL;
    (void)neomm_pmm_free(root, swap->frame, 0);
    return NEOMM_OK;
}
