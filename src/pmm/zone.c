/* Zones: bits and the counters above them, and the search for a free block.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm.h"

enum neomm_zone neomm__zone_of(const struct neomm__pmm *pmm, size_t bit)
{
    enum neomm_zone zone = NEOMM_ZONE_DMA;
    while (zone < NEOMM_ZONE_HIGH && bit >= pmm->zone[zone].end)
        zone++;
    return zone;
}

/* How much of [bit, bit + count) lies in one field and in the zone of `bit`. */
static size_t piece_of(const struct neomm__zone *zone, size_t bit, size_t count)
{
    size_t rest = NEOMM__FIELD_BITS - bit % NEOMM__FIELD_BITS;
    rest = rest < zone->end - bit ? rest : zone->end - bit;
    return count < rest ? count : rest;
}

void neomm__zone_take(struct neomm__pmm *pmm, size_t bit, size_t count)
{
    neomm__bitmap_set_run(pmm->taken, bit, count);
    while (count > 0) {
        struct neomm__zone *zone = &pmm->zone[neomm__zone_of(pmm, bit)];
        size_t piece = piece_of(zone, bit, count);
        pmm->field_free[bit / NEOMM__FIELD_BITS] -= (uint16_t)piece;
        pmm->tree_free[bit / NEOMM__TREE_BITS] -= (uint16_t)piece;
        neomm__store_relaxed(&zone->free, zone->free - piece);
        bit += piece;
        count -= piece;
    }
}

static void lower_hints(struct neomm__zone *zone, uint32_t tree)
{
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        if (tree < zone->hint[order])
            zone->hint[order] = tree;
}

void neomm__zone_release(struct neomm__pmm *pmm, size_t bit, size_t count)
{
    neomm__bitmap_clear_run(pmm->taken, bit, count);
    while (count > 0) {
        struct neomm__zone *zone = &pmm->zone[neomm__zone_of(pmm, bit)];
        size_t piece = piece_of(zone, bit, count);
        pmm->field_free[bit / NEOMM__FIELD_BITS] += (uint16_t)piece;
        pmm->tree_free[bit / NEOMM__TREE_BITS] += (uint16_t)piece;
        neomm__store_relaxed(&zone->free, zone->free + piece);
        lower_hints(zone, (uint32_t)(bit / NEOMM__TREE_BITS));
        bit += piece;
        count -= piece;
    }
}

void neomm__zone_add(struct neomm__pmm *pmm, size_t bit, size_t count, bool reserved)
{
    size_t at = bit, end = bit + count;
    neomm__bitmap_set_run(pmm->managed, bit, count);
    while (at < end) {
        struct neomm__zone *zone = &pmm->zone[neomm__zone_of(pmm, at)];
        size_t piece = piece_of(zone, at, end - at);
        zone->managed += piece;
        zone->reserved -= reserved ? piece : 0;
        at += piece;
    }
    neomm__zone_release(pmm, bit, count);
}

/* The lowest free block in [begin, end), which lies in one tree. */
static size_t find_in_fields(const struct neomm__pmm *pmm, size_t begin, size_t end, unsigned order)
{
    size_t size = (size_t)1 << order, step = NEOMM__FIELD_BITS;
    size_t least = size; /* free frames that a field needs to be worth a look */
    if (size > step) {
        step = size;
        least = NEOMM__FIELD_BITS;
    }
    for (size_t bit = NEOMM__ALIGN_DOWN(begin, step); bit < end; bit += step) {
        if (pmm->field_free[bit / NEOMM__FIELD_BITS] < least)
            continue;
        struct neomm__bitmap_want want = {
            bit > begin ? bit : begin, bit + step < end ? bit + step : end, size, size, 0, 0};
        size_t found = neomm__bitmap_find_clear(pmm->taken, &want);
        if (found != NEOMM__BITMAP_NONE)
            return found;
    }
    return NEOMM__BITMAP_NONE;
}

size_t neomm__zone_find(struct neomm__pmm *pmm, enum neomm_zone number, unsigned order)
{
    struct neomm__zone *zone = &pmm->zone[number];
    size_t found = NEOMM__BITMAP_NONE;
    uint32_t tree = zone->hint[order];
    for (; tree < pmm->trees && tree * NEOMM__TREE_BITS < zone->end; tree++) {
        size_t begin = tree * NEOMM__TREE_BITS, end = begin + NEOMM__TREE_BITS;
        if (pmm->tree_free[tree] < (size_t)1 << order)
            continue;
        found = find_in_fields(pmm, begin > zone->first ? begin : zone->first,
                               end < zone->end ? end : zone->end, order);
        if (found != NEOMM__BITMAP_NONE)
            break;
    }
    zone->hint[order] = tree;
    return found;
}

/* ---- statistics ---- */

#define WORD_ORDER (sizeof(neomm__word_t) == 8 ? 6u : 5u)

/* Adds the aligned free blocks inside one word of free bits to blocks[], by order. Each step
 * joins neighbours: a bit stays where it and its partner of the order below are both set. */
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

/* The free bits of the word at `bit` that are the zone's. */
static neomm__word_t free_in_word(const struct neomm__pmm *pmm, const struct neomm__zone *zone,
                                  size_t bit)
{
    neomm__word_t free = ~pmm->taken[bit / NEOMM__WORD_BITS];
    if (bit < zone->first)
        free &= ~(neomm__word_t)0 << (zone->first - bit);
    if (zone->end - bit < NEOMM__WORD_BITS)
        free &= ((neomm__word_t)1 << (zone->end - bit)) - 1;
    return free;
}

/* blocks[n]: aligned free blocks of order n in a zone, each counted in all orders below too. */
static void count_blocks(const struct neomm__pmm *pmm, const struct neomm__zone *zone,
                         uint64_t *blocks)
{
    size_t full = 0; /* words in a row that are all free, up to here */
    size_t bit = NEOMM__ALIGN_DOWN(zone->first, NEOMM__WORD_BITS);
    for (; bit < zone->end; bit += NEOMM__WORD_BITS) {
        neomm__word_t free = free_in_word(pmm, zone, bit);
        full = free + 1 == 0 ? full + 1 : 0;
        count_in_word(free, blocks);
        for (unsigned order = WORD_ORDER + 1; order <= NEOMM_ORDER_MAX; order++) {
            size_t words = (size_t)1 << (order - WORD_ORDER);
            if (full >= words && NEOMM__ALIGNED(bit / NEOMM__WORD_BITS + 1, words))
                blocks[order]++;
        }
    }
}

void neomm__zone_measure(const struct neomm__pmm *pmm, enum neomm_zone number,
                         struct neomm_zone_stats *stats)
{
    const struct neomm__zone *zone = &pmm->zone[number];
    memset(stats, 0, sizeof(*stats));
    stats->free = zone->free;
    stats->used = zone->managed - zone->free;
    stats->reserved = zone->reserved;
    stats->metadata = zone->metadata;
    stats->total = stats->free + stats->used + stats->reserved + stats->metadata;
    count_blocks(pmm, zone, stats->free_runs);
    for (unsigned order = 0; order < NEOMM_ORDER_MAX; order++)
        stats->free_runs[order] -= 2 * stats->free_runs[order + 1];
}
