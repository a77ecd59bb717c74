/* The frame allocator's consistency check and its part of a snapshot.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm.h"

static unsigned number_of(const struct neomm__pmm *pmm, size_t bit)
{
    return neomm__frame_of(pmm, bit).number;
}

/* Bits against the counters of fields and trees. */
static void check_tree(const struct neomm__pmm *pmm, uint32_t tree, struct neomm__report *report)
{
    size_t begin = tree * NEOMM__TREE_BITS, sum = 0;
    for (size_t bit = begin; bit < begin + NEOMM__TREE_BITS; bit += NEOMM__FIELD_BITS) {
        size_t taken = neomm__bitmap_count(pmm->taken, bit, NEOMM__FIELD_BITS);
        size_t counted = pmm->field_free[bit / NEOMM__FIELD_BITS];
        if (counted != NEOMM__FIELD_BITS - taken)
            neomm__report(report, "pmm: field at frame %u counts %zu free, its bits %zu",
                          number_of(pmm, bit), counted, NEOMM__FIELD_BITS - taken);
        sum += NEOMM__FIELD_BITS - taken;
    }
    if (pmm->tree_free[tree] != sum)
        neomm__report(report, "pmm: tree at frame %u counts %u free, its bits %zu",
                      number_of(pmm, begin), pmm->tree_free[tree], sum);
    for (size_t word = begin / NEOMM__WORD_BITS;
         word < (begin + NEOMM__TREE_BITS) / NEOMM__WORD_BITS; word++)
        if ((~pmm->taken[word] & ~pmm->managed[word]) != 0)
            neomm__report(report, "pmm: free but not managed near frame %u",
                          number_of(pmm, word * NEOMM__WORD_BITS));
}

/* The block that begins at `bit`: returns how many bits it accounts for. */
static size_t check_block(const struct neomm *root, size_t bit, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    const struct neomm__frame *first = &root->frames.table[bit];
    if (!(first->flags & NEOMM__FRAME_ALLOCATED)) {
        neomm__report(report, "pmm: frame %u is taken but in no block", number_of(pmm, bit));
        return 1;
    }
    size_t size = (size_t)1 << (first->order & 31);
    if (first->order > NEOMM_ORDER_MAX || !NEOMM__ALIGNED(bit, size)) {
        neomm__report(report, "pmm: frame %u: a block of order %u cannot begin here",
                      number_of(pmm, bit), first->order);
        return 1;
    }
    if (first->references == 0)
        neomm__report(report, "pmm: frame %u is allocated without a reference",
                      number_of(pmm, bit));
    for (size_t i = 1; i < size; i++)
        if (first[i].flags & NEOMM__FRAME_ALLOCATED)
            neomm__report(report, "pmm: blocks at frames %u and %u overlap", number_of(pmm, bit),
                          number_of(pmm, bit + i));
    if (neomm__bitmap_count(pmm->taken, bit, size) != size ||
        neomm__bitmap_count(pmm->managed, bit, size) != size)
        neomm__report(report, "pmm: a part of the block at frame %u is not taken",
                      number_of(pmm, bit));
    return size;
}

static bool is_zero(const struct neomm__frame *frame)
{
    const struct neomm__frame zero = {0};
    return memcmp(frame, &zero, sizeof(zero)) == 0;
}

/* Descriptors against bits: taken frames form blocks, all others' descriptors are clean. Trees
 * never allocated from are passed over, for their descriptors may not even be backed. */
static void check_descriptors(const struct neomm *root, uint32_t tree, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t bit = tree * NEOMM__TREE_BITS, end = bit + NEOMM__TREE_BITS;
    if (!pmm->tree_touched[tree]) {
        for (; bit < end; bit += NEOMM__WORD_BITS)
            if ((pmm->taken[bit / NEOMM__WORD_BITS] & pmm->managed[bit / NEOMM__WORD_BITS]) != 0)
                neomm__report(report, "pmm: taken near frame %u in an untouched tree",
                              number_of(pmm, bit));
        return;
    }
    while (bit < end) {
        bool managed = neomm__bitmap_test(pmm->managed, bit);
        if (managed && neomm__bitmap_test(pmm->taken, bit)) {
            bit += check_block(root, bit, report);
            continue;
        }
        if (managed && !is_zero(&root->frames.table[bit]))
            neomm__report(report, "pmm: free frame %u has a descriptor in use",
                          number_of(pmm, bit));
        if (!managed && (root->frames.table[bit].flags & NEOMM__FRAME_ALLOCATED))
            neomm__report(report, "pmm: frame %u is allocated but not managed",
                          number_of(pmm, bit));
        bit++;
    }
}

static void check_zone(const struct neomm__pmm *pmm, unsigned number, struct neomm__report *report)
{
    const struct neomm__zone *zone = &pmm->zone[number];
    size_t bits = zone->end - zone->first;
    size_t free = bits - neomm__bitmap_count(pmm->taken, zone->first, bits);
    size_t managed = neomm__bitmap_count(pmm->managed, zone->first, bits);
    if (zone->free != free)
        neomm__report(report, "pmm: zone %u counts %zu free, its bits %zu", number, zone->free,
                      free);
    if (zone->managed != managed)
        neomm__report(report, "pmm: zone %u counts %zu managed, its bits %zu", number,
                      zone->managed, managed);
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
        size_t size = (size_t)1 << order, below = zone->hint[order] * NEOMM__TREE_BITS;
        struct neomm__bitmap_want want = {
            zone->first, below < zone->end ? below : zone->end, size, size, 0, 0};
        size_t found = neomm__bitmap_find_clear(pmm->taken, &want);
        if (found != NEOMM__BITMAP_NONE)
            neomm__report(report, "pmm: zone %u: the search for order %u misses frame %u", number,
                          order, number_of(pmm, found));
    }
}

static void check_sections(const struct neomm *root, struct neomm__report *report)
{
    uint32_t present = 0;
    for (uint32_t i = 0; i < root->frames.sections; i++) {
        uint32_t tree = root->frames.section[i];
        if (tree == 0)
            continue;
        present++;
        if (tree != present || tree > root->pmm->trees || root->pmm->tree_section[tree - 1] != i)
            neomm__report(report, "pmm: section %u and its tree disagree", i);
    }
    if (present != root->pmm->trees)
        neomm__report(report, "pmm: %u sections for %u trees", present, root->pmm->trees);
}

static void check(struct neomm *root, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t before = report->findings;
    check_sections(root, report);
    if (report->findings != before)
        return;
    for (uint32_t tree = 0; tree < pmm->trees; tree++) {
        check_tree(pmm, tree, report);
        check_descriptors(root, tree, report);
    }
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        check_zone(pmm, zone, report);
}

static void take(struct neomm *root, struct neomm_snapshot *snapshot)
{
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        neomm_pmm_zone_stats(root, (enum neomm_zone)zone, &snapshot->zone[zone]);
}

const struct neomm__layer_ops neomm__pmm_ops = {"pmm", check, take};
