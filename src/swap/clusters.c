/* Clusters of swap slots: which have room, and who fills them.
 * SPDX-License-Identifier: MIT
 *
 *   FREE --claimed--> CLAIMED --last free slot taken--> FULL
 *     ^                 |                                   |
 *     |             all free                          a slot is freed
 *     +-----------------+------------all free------ PART <--+
 *
 * PART --claimed--> CLAIMED, and CLAIMED by another when there is nothing else.
 *
 * Where the device takes discards a cluster is STALE before it is FREE: it can be claimed, and then
 * nothing was lost; or the device is told of it, and meanwhile it is TOLD, and in no list.
 *
 * An owner's pages go one after the other into the cluster that it fills on this CPU, so they lie
 * together on the device, in the order of their addresses where they are evicted so. Every cluster
 * with a free slot is in a list, and a list is as good at its end as anywhere: neither taking nor
 * freeing a slot looks at more than one cluster and its few words of the bitmap.
 */
#include "swap_priv.h"

#include "base/bitmap.h"

static struct neomm__cluster *cluster_at(struct neomm__swap_area *area, uint32_t number)
{
    return &area->cluster[number - 1];
}

static uint32_t number_of(uint32_t page)
{
    return page / NEOMM__SWAP_CLUSTER + 1;
}

static bool is_listed(enum neomm__cluster_list list)
{
    return list != NEOMM__CLUSTER_FULL && list != NEOMM__CLUSTER_TOLD;
}

static void unlist(struct neomm__swap_area *area, struct neomm__cluster *cluster)
{
    struct neomm__cluster_queue *list = &area->list[cluster->list];
    if (!is_listed((enum neomm__cluster_list)cluster->list))
        return;
    if (cluster->prev)
        cluster_at(area, cluster->prev)->next = cluster->next;
    else
        list->first = cluster->next;
    if (cluster->next)
        cluster_at(area, cluster->next)->prev = cluster->prev;
    else
        list->last = cluster->prev;
    list->count--;
}

/* To the end of a list, out of the one that it is in. */
static void move_to(struct neomm__swap_area *area, uint32_t number, enum neomm__cluster_list to)
{
    struct neomm__cluster *cluster = cluster_at(area, number);
    struct neomm__cluster_queue *list = &area->list[to];
    unlist(area, cluster);
    cluster->list = (uint8_t)to;
    cluster->next = 0;
    cluster->prev = is_listed(to) ? list->last : 0;
    if (to != NEOMM__CLUSTER_CLAIMED)
        cluster->filler = 0;
    if (!is_listed(to))
        return;
    if (list->last)
        cluster_at(area, list->last)->next = number;
    else
        list->first = number;
    list->last = number;
    list->count++;
}

/* The list for what a cluster has now, that nobody is about to fill. */
static void settle(struct neomm__swap_area *area, uint32_t number)
{
    const struct neomm__cluster *cluster = cluster_at(area, number);
    if (cluster->free == 0)
        move_to(area, number, NEOMM__CLUSTER_FULL);
    else if (cluster->free == cluster->usable)
        move_to(area, number, area->discards ? NEOMM__CLUSTER_STALE : NEOMM__CLUSTER_FREE);
    else if (cluster->list == NEOMM__CLUSTER_FULL)
        move_to(area, number, NEOMM__CLUSTER_PART);
}

void neomm__swap_clusters_init(struct neomm__swap_area *area)
{
    for (uint32_t number = 1; number <= area->clusters; number++) {
        uint32_t left = area->slots - (number - 1) * NEOMM__SWAP_CLUSTER;
        struct neomm__cluster *cluster = cluster_at(area, number);
        cluster->usable = (uint16_t)(left < NEOMM__SWAP_CLUSTER ? left : NEOMM__SWAP_CLUSTER);
        cluster->usable = (uint16_t)(cluster->usable - (number == 1));
        cluster->free = cluster->usable;
        settle(area, number);
    }
    area->free = area->slots - 1;
    neomm__bitmap_set_run(area->bitmap, 0, 1);
}

static void count_free(struct neomm__swap_area *area, int more)
{
    neomm__store_relaxed(&area->free, area->free + (uint32_t)more);
}

static uint32_t pick(struct neomm__swap_area *area, uint32_t filler, enum neomm__cluster_want want)
{
    uint32_t own = area->filling[filler];
    area->looks++;
    if (own != 0 && cluster_at(area, own)->filler == filler + 1)
        return own;
    if (want == NEOMM__CLUSTER_OWN)
        return 0;
    uint32_t number = area->list[NEOMM__CLUSTER_FREE].first;
    number = number ? number : area->list[NEOMM__CLUSTER_STALE].first;
    if (number == 0 && want == NEOMM__CLUSTER_ANY) {
        number = area->list[NEOMM__CLUSTER_PART].first;
        number = number ? number : area->list[NEOMM__CLUSTER_CLAIMED].first;
    }
    if (number == 0)
        return 0;
    move_to(area, number, NEOMM__CLUSTER_CLAIMED);
    cluster_at(area, number)->filler = (uint16_t)(filler + 1);
    area->filling[filler] = number;
    return number;
}

uint32_t neomm__swap_cluster_take(struct neomm__swap_area *area, uint32_t filler,
                                  enum neomm__cluster_want want)
{
    uint32_t number = pick(area, filler, want);
    if (number == 0)
        return 0;
    struct neomm__cluster *cluster = cluster_at(area, number);
    uint32_t first = (number - 1) * NEOMM__SWAP_CLUSTER, left = area->slots - first;
    uint32_t end = first + (left < NEOMM__SWAP_CLUSTER ? left : NEOMM__SWAP_CLUSTER);
    size_t page = neomm__bitmap_next_clear(area->bitmap, first + cluster->cursor, end);
    if (page == NEOMM__BITMAP_NONE)
        page = neomm__bitmap_next_clear(area->bitmap, first, end);
    NEOMM__ASSERT(page != NEOMM__BITMAP_NONE);
    neomm__bitmap_set_run(area->bitmap, page, 1);
    cluster->cursor = (uint8_t)(page + 1 - first < end - first ? page + 1 - first : 0);
    count_free(area, -1);
    if (--cluster->free == 0)
        settle(area, number);
    return (uint32_t)page;
}

void neomm__swap_cluster_put(struct neomm__swap_area *area, uint32_t page)
{
    neomm__bitmap_clear_run(area->bitmap, page, 1);
    cluster_at(area, number_of(page))->free++;
    count_free(area, 1);
    settle(area, number_of(page));
}

uint32_t neomm__swap_clusters_tell(struct neomm__swap_area *area, uint32_t *numbers, uint32_t max)
{
    const struct neomm__cluster_queue *stale = &area->list[NEOMM__CLUSTER_STALE];
    uint32_t half = (stale->count + area->list[NEOMM__CLUSTER_FREE].count) / 2;
    uint32_t count = 0;
    while (count < max && count < half && stale->count != 0) {
        uint32_t number = stale->first, at = count++;
        move_to(area, number, NEOMM__CLUSTER_TOLD);
        for (; at > 0 && numbers[at - 1] > number; at--)
            numbers[at] = numbers[at - 1];
        numbers[at] = number;
    }
    return count;
}

void neomm__swap_clusters_told(struct neomm__swap_area *area, const uint32_t *numbers,
                               uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        move_to(area, numbers[i], NEOMM__CLUSTER_FREE);
}

void neomm__swap_clusters_untold(struct neomm__swap_area *area)
{
    neomm__store_relaxed(&area->discards, 0);
    while (area->list[NEOMM__CLUSTER_STALE].first)
        move_to(area, area->list[NEOMM__CLUSTER_STALE].first, NEOMM__CLUSTER_FREE);
}

void neomm__swap_cluster_lose(struct neomm__swap_area *area, uint32_t page)
{
    struct neomm__cluster *cluster = cluster_at(area, number_of(page));
    cluster->usable--;
    settle(area, number_of(page));
}

bool neomm__swap_slot_retire(struct neomm__swap_area *area, uint32_t page)
{
    struct neomm__cluster *cluster = cluster_at(area, number_of(page));
    if (area->slot[page].flags & NEOMM__SLOT_BAD)
        return false;
    area->slot[page].flags = NEOMM__SLOT_BAD;
    neomm__bitmap_set_run(area->bitmap, page, 1);
    cluster->free--;
    count_free(area, -1);
    area->bad++;
    neomm__swap_cluster_lose(area, page);
    return true;
}
