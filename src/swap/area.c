/* Swap areas: reading their headers, making and ending the layer.
 * SPDX-License-Identifier: MIT
 *
 * The header is the first page of the device, as mkswap of util-linux writes it and swapon of
 * Linux reads it; numbers have the byte order of the machine:
 *
 *       0  room for a boot block
 *    1024  u32 version, 1
 *    1028  u32 last page; the area is pages 1 to last
 *    1032  u32 number of bad pages, at most 637
 *    1036  u8[16] UUID
 *    1052  char[16] label
 *    1068  padding
 *    1536  u32[] bad pages
 *    4086  "SWAPSPACE2"
 */
#include "swap_priv.h"

#include "base/bitmap.h"
#include "swap/pool.h"

enum {
    AT_VERSION = 1024,
    AT_LAST_PAGE = 1028,
    AT_BAD_PAGES = 1032,
    AT_UUID = 1036,
    AT_LABEL = 1052,
    AT_BAD_PAGE = 1536,
    AT_SIGNATURE = 4086,
    SIGNATURE_LENGTH = 10,
    BAD_PAGES_MAX = (AT_SIGNATURE - AT_BAD_PAGE) / 4
};

static uint32_t number_at(const uint8_t *header, size_t at)
{
    uint32_t number;
    memcpy(&number, header + at, sizeof(number));
    return number;
}

static bool header_is_sound(const uint8_t *header, const struct neomm_block_device *device)
{
    uint32_t last = number_at(header, AT_LAST_PAGE);
    return memcmp(header + AT_SIGNATURE, "SWAPSPACE2", SIGNATURE_LENGTH) == 0 &&
           number_at(header, AT_VERSION) == 1 && last != 0 && last < device->pages &&
           number_at(header, AT_BAD_PAGES) <= BAD_PAGES_MAX;
}

/* Fills in what follows from the area's size and gets it its state. Sizes are 64 bits wide until
 * frames were found for them: 32 bits do not hold what a device may claim. */
static neomm_status make_state(struct neomm *root, struct neomm__swap_area *area)
{
    uint64_t records = (uint64_t)area->slots * sizeof(struct neomm__slot);
    uint64_t notes = NEOMM__ALIGN_UP((uint64_t)area->slots * sizeof(area->note[0]), 8);
    uint64_t bitmap = neomm__bitmap_bytes(area->slots);
    area->clusters = (area->slots - 1) / NEOMM__SWAP_CLUSTER + 1;
    uint64_t bytes = records + notes + bitmap + 2 * area->clusters * sizeof(uint16_t);
    area->state_frames = (uint32_t)((bytes + NEOMM_PAGE_SIZE - 1) >> NEOMM_PAGE_SHIFT);
    struct neomm_range_request request = {.frames = area->state_frames, .flags = NEOMM_NORECLAIM};
    if (NEOMM__FAULT(SWAP_AREA))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc_range(root, &request, &area->state);
    if (status != NEOMM_OK)
        return status;
    uint8_t *memory = neomm_direct_pointer(root, neomm_frame_paddr(area->state));
    memset(memory, 0, area->state_frames * NEOMM_PAGE_SIZE);
    area->slot = (void *)memory;
    area->note = (void *)(memory + (size_t)records);
    area->bitmap = (void *)(memory + (size_t)(records + notes));
    area->cluster_free = (void *)(memory + (size_t)(records + notes + bitmap));
    area->cluster_pooled = area->cluster_free + area->clusters;
    neomm__swap_slots_init(area);
    return NEOMM_OK;
}

static neomm_status free_state(struct neomm *root, struct neomm__swap_area *area)
{
    return neomm_pmm_free_range(root, area->state, area->state_frames);
}

static neomm_status make_area(struct neomm *root, struct neomm__swap_area *area,
                              const uint8_t *header)
{
    if (!header_is_sound(header, area->device))
        return NEOMM_E_CORRUPT;
    area->slots = number_at(header, AT_LAST_PAGE) + 1;
    if (area->slots > neomm__swap_slot_limit(root))
        return NEOMM_E_NOSPACE;
    memcpy(area->uuid, header + AT_UUID, sizeof(area->uuid));
    memcpy(area->label, header + AT_LABEL, sizeof(area->label) - 1);
    neomm_status status = make_state(root, area);
    uint32_t bad_pages = number_at(header, AT_BAD_PAGES);
    for (uint32_t i = 0; status == NEOMM_OK && i < bad_pages; i++)
        if (!neomm__swap_slot_retire(area, number_at(header, AT_BAD_PAGE + 4 * (size_t)i))) {
            (void)free_state(root, area);
            status = NEOMM_E_CORRUPT;
        }
    return status;
}

/* Reads the header into a frame of our own and makes the area from it. */
static neomm_status read_area(struct neomm *root, struct neomm__swap_area *area)
{
    neomm_frame_t frame;
    if (NEOMM__FAULT(SWAP_AREA))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &frame);
    if (status != NEOMM_OK)
        return status;
    status = NEOMM__FAULT(SWAP_READ) ? NEOMM_E_IO
                                     : neomm__swap_move(area->device, NEOMM_BLOCK_READ, 0, frame);
    if (status == NEOMM_OK)
        status = make_area(root, area, neomm_direct_pointer(root, neomm_frame_paddr(frame)));
    (void)neomm_pmm_free(root, frame, 0);
    return status;
}

/* Makes the area visible, if there is room and the device is not in use already. */
static neomm_status publish(struct neomm *root, const struct neomm__swap_area *area)
{
    struct neomm__swap *swap = root->swap;
    neomm_status status = NEOMM_OK;
    neomm_irq_t irq = neomm__lock(&swap->lock);
    for (uint32_t i = 0; i < swap->areas; i++)
        if (swap->area[i].device == area->device)
            status = NEOMM_E_EXISTS;
    if (status == NEOMM_OK && (swap->areas == NEOMM__SWAP_AREAS ||
                               area->slots > neomm__swap_slot_limit(root) - swap->slots))
        status = NEOMM_E_NOSPACE;
    if (status == NEOMM_OK) {
        struct neomm__swap_area *place = &swap->area[swap->areas];
        *place = *area;
        place->base = swap->slots;
        neomm__lock_init(&place->lock, NEOMM_LOCK_CLASS_SWAP);
        swap->slots += area->slots;
        neomm__store_release(&swap->areas, swap->areas + 1);
    }
    neomm__unlock(&swap->lock, irq);
    return status;
}

neomm_status neomm_swap_add(struct neomm *root, struct neomm_block_device *device, int priority)
{
    struct neomm__swap_area area;
    if (!device)
        return NEOMM_E_INVALID;
    if (!root->swap)
        return NEOMM_E_NOENT;
    memset(&area, 0, sizeof(area));
    area.device = device;
    area.priority = priority;
    neomm_status status = read_area(root, &area);
    if (status != NEOMM_OK)
        return status;
    status = publish(root, &area);
    if (status != NEOMM_OK)
        (void)free_state(root, &area);
    return status;
}

static void add_stats(struct neomm__swap_area *area, struct neomm_swap_stats *stats)
{
    neomm_irq_t irq = neomm__lock(&area->lock);
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

neomm_status neomm_swap_area_at(struct neomm *root, uint32_t index, struct neomm_swap_area *out)
{
    if (!root->swap || index >= neomm__load_acquire(&root->swap->areas))
        return NEOMM_E_NOENT;
    struct neomm__swap_area *area = &root->swap->area[index];
    neomm_irq_t irq = neomm__lock(&area->lock);
    *out = (struct neomm_swap_area){.device = area->device,
                                    .priority = area->priority,
                                    .slots = area->slots - 1,
                                    .used = area->used,
                                    .bad = area->bad};
    neomm__unlock(&area->lock, irq);
    memcpy(out->label, area->label, sizeof(out->label));
    memcpy(out->uuid, area->uuid, sizeof(out->uuid));
    return NEOMM_OK;
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
    swap->frame = frame;
    neomm__policy_builtin(swap);
    root->swap = swap;
    status = neomm__pool_init(root);
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
    neomm__pool_fini(root);
    for (uint32_t i = 0; i < swap->areas; i++)
        (void)free_state(root, &swap->area[i]);
    root->layer[NEOMM__LAYER_SWAP] = NULL;
    root->swap = NULL;
    (void)neomm_pmm_free(root, swap->frame, 0);
    return NEOMM_OK;
}
