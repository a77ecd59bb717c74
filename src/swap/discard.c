/* Telling devices which slots are free.
 * SPDX-License-Identifier: MIT
 *
 * Slots are freed with locks held, where nobody can wait for a device. So clusters that are free as
 * a whole wait in a list, and a write that finds enough of them there tells the device, a batch at
 * a time, neighbours together. Those are nobody's meanwhile. At most half of the clusters without
 * users are away like that, so that there is room for what is just being evicted.
 */
#include "submit.h"

/* The pages of a cluster; the header is not one of them. */
static uint32_t first_page(uint32_t number)
{
    return number == 1 ? 1 : (number - 1) * NEOMM__SWAP_CLUSTER;
}

static uint32_t end_page(const struct neomm__swap_area *area, uint32_t number)
{
    uint32_t end = number * NEOMM__SWAP_CLUSTER;
    return end < area->slots ? end : area->slots;
}

/* One request for each run of clusters, which come in ascending order. NEOMM_OK: all went well. */
static neomm_status tell(struct neomm__swap_area *area, const uint32_t *numbers, uint32_t count,
                         uint32_t *pages)
{
    struct neomm__swap_batch batch;
    neomm_status status = NEOMM_OK;
    *pages = 0;
    neomm__swap_batch_init(&batch);
    for (uint32_t i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && numbers[i + run] == numbers[i] + run;)
            run++;
        uint32_t first = first_page(numbers[i]);
        uint32_t size = end_page(area, numbers[i + run - 1]) - first;
        neomm__swap_batch_add(&batch, area->device, area, NEOMM_BLOCK_DISCARD, first, size,
                              neomm_frame(0));
        *pages += size;
    }
    neomm__swap_batch_run(&batch);
    for (uint32_t i = 0; i < batch.count && status == NEOMM_OK; i++)
        status = batch.request[i].status;
    return status;
}

static void give_up(const struct neomm_block_device *device)
{
    neomm__log(NEOMM_LOG_WARNING, "swap: %s: a discard failed; there will be none", device->name);
}

/* Areas that are not in use any more are left alone. */
static uint32_t begin(struct neomm__swap_area *area, uint32_t least, uint32_t *numbers)
{
    uint32_t count = 0;
    neomm_irq_t irq = neomm__lock(&area->lock);
    if (area->state == NEOMM__AREA_ON && area->list[NEOMM__CLUSTER_STALE].count >= least)
        count = neomm__swap_clusters_tell(area, numbers, NEOMM_POLICY_BATCH);
    if (count != 0)
        (void)neomm__fetch_add(&area->telling, 1);
    neomm__unlock(&area->lock, irq);
    return count;
}

uint32_t neomm__swap_discard(struct neomm__swap_area *area, uint32_t least)
{
    uint32_t numbers[NEOMM_POLICY_BATCH], pages;
    const uint32_t *telling = &area->telling;
    uint32_t count = begin(area, least, numbers);
    if (count == 0)
        return 0;
    neomm_status status = tell(area, numbers, count, &pages);
    neomm_irq_t irq = neomm__lock(&area->lock);
    neomm__swap_clusters_told(area, numbers, count);
    if (status == NEOMM_OK)
        area->discarded += pages;
    else
        neomm__swap_clusters_untold(area);
    neomm__unlock(&area->lock, irq);
    if (status != NEOMM_OK)
        give_up(area->device);
    (void)neomm__fetch_sub(&area->telling, 1);
    neomm_port_wake(telling, UINT32_MAX);
    return pages;
}

void neomm__swap_discard_all(struct neomm__swap_area *area)
{
    neomm_status status = NEOMM_OK;
    for (uint32_t page = 1, pages; status == NEOMM_OK && page < area->slots; page += pages) {
        uint32_t left = area->slots - page;
        pages = left < NEOMM_BLOCK_DISCARD_PAGES ? left : NEOMM_BLOCK_DISCARD_PAGES;
        status = neomm__swap_move(area->device, NEOMM_BLOCK_DISCARD, page, pages, neomm_frame(0));
        if (status == NEOMM_OK)
            area->discarded += pages;
    }
    if (status == NEOMM_OK)
        return;
    area->discards = 0;
    give_up(area->device);
}

void neomm__swap_discard_end(struct neomm__swap_area *area)
{
    uint32_t telling;
    while ((telling = neomm__load_acquire(&area->telling)) != 0)
        (void)neomm_port_wait(&area->telling, telling, UINT64_MAX);
}

uint64_t neomm_swap_discard(struct neomm *root)
{
    uint32_t areas = root->swap ? neomm__load_acquire(&root->swap->areas) : 0, pages;
    uint64_t discarded = 0;
    for (uint32_t i = 0; i < areas; i++)
        while ((pages = neomm__swap_discard(&root->swap->area[i], 1)) != 0)
            discarded += pages;
    return discarded;
}
