/* Figures: what zones hold, and how whole their free memory is.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm_priv.h"

#define WORD_ORDER (sizeof(neomm__word_t) == 8 ? 6u : 5u)

/* Adds the aligned free blocks inside one word of free bits to blocks[], by order, each in all
 * orders below too. Each step joins neighbours: a bit stays where it and its partner of the order
 * below are both set. */
static void count_in_word(neomm__word_t free, uint64_t *blocks)
{
    const neomm__word_t ones = ~(neomm__word_t)0;
    for (unsigned order = 0; free != 0; order++) {
        unsigned step = 2u << order;
        blocks[order] += neomm__popcount(free);
        if (order == WORD_ORDER)
            break;
        free &= free >> (step / 2);
        free &= step < NEOMM__WORD_BITS ? ones / (((neomm__word_t)1 << step) - 1) : 1;
    }
}

void neomm__pmm_count_runs(const struct neomm__pmm *pmm, size_t bit, size_t end, uint64_t *runs)
{
    uint64_t blocks[NEOMM_ORDER_MAX + 1] = {0};
    size_t full = 0; /* words in a row that are all free, up to here */
    for (; bit < end; bit += NEOMM__WORD_BITS) {
        neomm__word_t free = ~neomm__load_relaxed(&pmm->taken[bit / NEOMM__WORD_BITS]);
        full = free + 1 == 0 ? full + 1 : 0;
        count_in_word(free, blocks);
        for (unsigned order = WORD_ORDER + 1; order <= NEOMM_ORDER_MAX; order++) {
            size_t words = (size_t)1 << (order - WORD_ORDER);
            if (full >= words && NEOMM__ALIGNED(bit / NEOMM__WORD_BITS + 1, words))
                blocks[order]++;
        }
    }
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        runs[order] += blocks[order] - (order < NEOMM_ORDER_MAX ? 2 * blocks[order + 1] : 0);
}

static void add_area(const struct neomm__pmm *pmm, uint32_t number, struct neomm_zone_stats *stats)
{
    const struct neomm__area *area = &pmm->area[number];
    size_t free = neomm__load_relaxed(&area->free) + neomm__cache_frames(pmm, number);
    stats->free += free;
    size_t managed = neomm__load_relaxed(&area->managed);
    stats->used += managed - (free < managed ? free : managed);
    stats->reserved += area->reserved;
    stats->metadata += area->metadata;
    for (uint32_t tree = 0; tree < pmm->trees; tree++)
        if (pmm->tree_area[tree] == number && neomm__load_relaxed(&pmm->tree_free[tree]) != 0)
            neomm__pmm_count_runs(pmm, (size_t)pmm->tree_first[tree] << NEOMM__FIELD_ORDER,
                                  (size_t)pmm->tree_first[tree + 1] << NEOMM__FIELD_ORDER,
                                  stats->free_runs);
}

static void add_node(struct neomm *root, uint32_t node, enum neomm_zone zone,
                     struct neomm_zone_stats *stats)
{
    add_area(root->pmm, node * NEOMM_ZONES + (uint32_t)zone, stats);
    stats->total = stats->free + stats->used + stats->reserved + stats->metadata;
}

void neomm_pmm_node_stats(struct neomm *root, uint32_t node, enum neomm_zone zone,
                          struct neomm_zone_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    if (!root->pmm || (unsigned)zone >= NEOMM_ZONES || node >= root->pmm->nodes)
        return;
    neomm__cache_drain(root);
    add_node(root, node, zone, stats);
}

void neomm_pmm_zone_stats(struct neomm *root, enum neomm_zone zone, struct neomm_zone_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    if (!root->pmm || (unsigned)zone >= NEOMM_ZONES)
        return;
    neomm__cache_drain(root);
    for (uint32_t node = 0; node < root->pmm->nodes; node++)
        add_node(root, node, zone, stats);
}

enum neomm_watermark neomm_pmm_watermark(const struct neomm *root, enum neomm_zone zone)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t free = 0, minimum = 0;
    if (!pmm || (unsigned)zone >= NEOMM_ZONES)
        return NEOMM_WATERMARK_HIGH;
    for (uint32_t i = (uint32_t)zone; i < pmm->nodes * NEOMM_ZONES; i += NEOMM_ZONES) {
        free += neomm__load_relaxed(&pmm->area[i].free) + neomm__cache_frames(pmm, i);
        minimum += pmm->area[i].minimum;
    }
    if (free < minimum)
        return NEOMM_WATERMARK_NONE;
    if (free - minimum < minimum / 4)
        return NEOMM_WATERMARK_MIN;
    return free - minimum < minimum / 2 ? NEOMM_WATERMARK_LOW : NEOMM_WATERMARK_HIGH;
}

uint64_t neomm_pmm_available(const struct neomm *root, neomm_flags_t flags)
{
    const struct neomm__pmm *pmm = root->pmm;
    uint64_t sum = 0;
    for (uint32_t i = 0; pmm && i < pmm->nodes * NEOMM_ZONES; i++) {
        size_t free = neomm__load_relaxed(&pmm->area[i].free) + neomm__cache_frames(pmm, i);
        size_t kept = neomm__area_kept(&pmm->area[i], flags);
        if (neomm__zone_of_area(i) <= neomm__pmm_top_zone(root, flags) && free > kept)
            sum += free - kept;
    }
    return sum;
}

enum neomm_zone neomm_pmm_zone_of(const struct neomm *root, neomm_frame_t frame)
{
    size_t bit = root->pmm ? neomm__bit_of(root, frame) : NEOMM__BITMAP_NONE;
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_ZONES;
    return neomm__zone_of_area(root->pmm->tree_area[neomm__tree_of(root->pmm, bit)]);
}

uint32_t neomm_pmm_fragmentation(const struct neomm_zone_stats *stats, unsigned order)
{
    uint64_t useful = 0, free = stats->free;
    for (unsigned i = order; i <= NEOMM_ORDER_MAX; i++)
        useful += stats->free_runs[i] << i;
    if (free == 0 || useful > free)
        return free == 0 ? 1000 : 0;
    while (free > UINT16_MAX) {
        free >>= 1;
        useful >>= 1;
    }
    return 1000 - (uint32_t)neomm__divide(1000 * useful, (uint32_t)free, NULL);
}
