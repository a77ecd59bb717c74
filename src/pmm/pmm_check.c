/* The frame allocator's consistency check and its part of a snapshot.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm_priv.h"

static unsigned number_of(const struct neomm__pmm *pmm, size_t bit)
{
    return neomm__frame_of(pmm, bit).number;
}

/* A bit in front of the run is more than any count behind its first, modulo 2^n. */
static bool has(const struct neomm__ram_run *run, size_t bit)
{
    return run && bit - run->bit < run->count;
}

/* Is it RAM that is free or somebody's? *run: where the last answer was found. */
static bool managed_at(const struct neomm *root, size_t bit, const struct neomm__ram_run **run)
{
    if (!has(*run, bit))
        *run = neomm__ram_at(root->pmm, bit);
    return *run && (*run)->type == NEOMM__RAM_USABLE &&
           !neomm__frame_has(&root->frames.table[bit], NEOMM__FRAME_RETIRED);
}

/* Bits against the counters of fields and trees. */
static void check_tree(const struct neomm__pmm *pmm, uint32_t tree, struct neomm__report *report)
{
    size_t begin = (size_t)pmm->tree_first[tree] << NEOMM__FIELD_ORDER;
    size_t end = (size_t)pmm->tree_first[tree + 1] << NEOMM__FIELD_ORDER, sum = 0;
    const neomm__word_t *filled = pmm->area[pmm->tree_area[tree]].filled;
    bool blank = neomm__is_blank(pmm, begin / NEOMM__SECTION_BITS);
    if (blank && pmm->tree_touched[tree])
        neomm__report(report, "pmm: frames near %u were used, but are nobody's yet",
                      number_of(pmm, begin));
    for (size_t bit = begin; bit < end; bit += NEOMM__FIELD_BITS) {
        size_t free =
            blank ? 0 : NEOMM__FIELD_BITS - neomm__bitmap_count(pmm->taken, bit, NEOMM__FIELD_BITS);
        size_t counted = pmm->field[bit / NEOMM__FIELD_BITS] & NEOMM__FIELD_COUNT;
        if (counted != free)
            neomm__report(report, "pmm: field at frame %u counts %zu free, its bits %zu",
                          number_of(pmm, bit), counted, free);
        sum += free;
    }
    if (pmm->tree_free[tree] != sum)
        neomm__report(report, "pmm: tree at frame %u counts %u free, its bits %zu",
                      number_of(pmm, begin), pmm->tree_free[tree], sum);
    if (sum != 0 && !neomm__bitmap_test(filled, tree))
        neomm__report(report, "pmm: searches miss the tree at frame %u", number_of(pmm, begin));
}

static bool is_zero(const struct neomm__frame *frame)
{
    const struct neomm__frame zero = {0};
    return memcmp(frame, &zero, sizeof(zero)) == 0;
}

/* A descriptor behind the first of a block. */
static void check_tail(const struct neomm__frame *first, const struct neomm__frame *tail,
                       unsigned head, unsigned number, struct neomm__report *report)
{
    if (neomm__frame_has(tail, NEOMM__FRAME_ALLOCATED))
        neomm__report(report, "pmm: blocks at frames %u and %u overlap", head, number);
    else if (!neomm__frame_has(first, NEOMM__FRAME_TAILS) && !is_zero(tail))
        neomm__report(report, "pmm: frame %u of the block at %u has a descriptor in use", number,
                      head);
}

/* The block that begins at `bit`: returns how many bits it accounts for. */
static size_t check_block(const struct neomm *root, size_t bit, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    const struct neomm__frame *first = &root->frames.table[bit];
    unsigned number = number_of(pmm, bit);
    if (!neomm__frame_has(first, NEOMM__FRAME_ALLOCATED)) {
        neomm__report(report, "pmm: frame %u is taken but in no block", number);
        return 1;
    }
    size_t size = (size_t)1 << (first->order & 31);
    if (first->order > NEOMM_ORDER_MAX || !NEOMM__ALIGNED(bit, size)) {
        neomm__report(report, "pmm: frame %u: a block of order %u cannot begin here", number,
                      first->order);
        return 1;
    }
    if (first->references == 0)
        neomm__report(report, "pmm: frame %u is allocated without a reference", number);
    for (size_t i = 1; i < size; i++)
        check_tail(first, &first[i], number, number_of(pmm, bit + i), report);
    const struct neomm__ram_run *run = neomm__ram_at(pmm, bit);
    if (neomm__bitmap_count(pmm->taken, bit, size) != size || !has(run, bit + size - 1))
        neomm__report(report, "pmm: a part of the block at frame %u is not taken", number);
    return size;
}

/* A frame that is in no block. */
static void check_alone(const struct neomm *root, size_t bit, bool managed,
                        struct neomm__report *report)
{
    const struct neomm__frame *frame = &root->frames.table[bit];
    unsigned number = number_of(root->pmm, bit);
    if (managed && !is_zero(frame))
        neomm__report(report, "pmm: free frame %u has a descriptor in use", number);
    if (!managed && neomm__frame_has(frame, NEOMM__FRAME_ALLOCATED))
        neomm__report(report, "pmm: frame %u is allocated but not managed", number);
    if (!managed && !neomm__bitmap_test(root->pmm->taken, bit))
        neomm__report(report, "pmm: frame %u is free but not managed", number);
}

/* Whole words of RAM that nobody holds, of a tree that was never allocated from. */
static void check_untouched(const struct neomm__pmm *pmm, size_t bit, size_t end,
                            struct neomm__report *report)
{
    for (uint32_t i = 0; i < pmm->runs; i++) {
        const struct neomm__ram_run *run = &pmm->run[i];
        size_t from = run->bit > bit ? run->bit : bit;
        size_t to = run->bit + run->count < end ? run->bit + run->count : end;
        bool usable = run->type == NEOMM__RAM_USABLE && from < to;
        if (usable && neomm__is_blank(pmm, from / NEOMM__SECTION_BITS))
            neomm__report(report, "pmm: frame %u is usable, but its bit was never written",
                          number_of(pmm, from));
        else if (usable && neomm__bitmap_count(pmm->taken, from, to - from) != 0)
            neomm__report(report, "pmm: taken near frame %u in an untouched tree",
                          number_of(pmm, from));
    }
}

/* Descriptors against bits: taken frames form blocks, all others' descriptors are clean. Trees
 * never allocated from are passed over, for their descriptors may not even be backed. */
static void check_descriptors(const struct neomm *root, uint32_t tree, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    const struct neomm__ram_run *run = NULL;
    size_t bit = (size_t)pmm->tree_first[tree] << NEOMM__FIELD_ORDER;
    size_t end = (size_t)pmm->tree_first[tree + 1] << NEOMM__FIELD_ORDER;
    if (!pmm->tree_touched[tree]) {
        check_untouched(pmm, bit, end, report);
        return;
    }
    while (bit < end) {
        bool managed = managed_at(root, bit, &run);
        if (managed && neomm__bitmap_test(pmm->taken, bit)) {
            bit += check_block(root, bit, report);
        } else {
            check_alone(root, bit, managed, report);
            bit++;
        }
    }
}

/* Frames of an area by the runs, without those retired. */
static size_t managed_in(const struct neomm *root, uint32_t area)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t sum = 0;
    for (uint32_t i = 0; i < pmm->runs; i++) {
        const struct neomm__ram_run *run = &pmm->run[i];
        for (size_t bit = run->bit, end = run->bit + run->count, stop; bit < end; bit = stop) {
            uint32_t tree = neomm__tree_of(pmm, bit);
            stop = (size_t)pmm->tree_first[tree + 1] << NEOMM__FIELD_ORDER;
            stop = stop < end ? stop : end;
            if (run->type != NEOMM__RAM_USABLE || pmm->tree_area[tree] != area)
                continue;
            sum += stop - bit;
            for (size_t at = bit; pmm->tree_touched[tree] && at < stop; at++)
                sum -= neomm__frame_has(&root->frames.table[at], NEOMM__FRAME_RETIRED);
        }
    }
    return sum;
}

static void check_area(const struct neomm *root, uint32_t number, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    const struct neomm__area *area = &pmm->area[number];
    size_t free = 0, managed = managed_in(root, number);
    for (uint32_t tree = 0; tree < pmm->trees; tree++)
        free += pmm->tree_area[tree] == number ? pmm->tree_free[tree] : 0;
    if (area->free != free)
        neomm__report(report, "pmm: zone %u of node %u counts %zu free, its trees %zu",
                      (unsigned)neomm__zone_of_area(number), number / NEOMM_ZONES, area->free,
                      free);
    if (area->managed != managed)
        neomm__report(report, "pmm: zone %u of node %u counts %zu managed, its runs %zu",
                      (unsigned)neomm__zone_of_area(number), number / NEOMM_ZONES, area->managed,
                      managed);
}

static void check_sections(const struct neomm *root, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    uint32_t present = 0;
    for (uint32_t i = 0; i < root->frames.sections; i++) {
        if (root->frames.section[i] == 0)
            continue;
        if (root->frames.section[i] != neomm__section_entry(i, present) ||
            present >= pmm->sections || pmm->section_number[present] != i)
            neomm__report(report, "pmm: section %u and its number disagree", i);
        present++;
    }
    if (present != pmm->sections)
        neomm__report(report, "pmm: %u sections listed of %u", present, pmm->sections);
}

/* No CPU may be inside: what it holds would look lost. */
static bool is_quiet(struct neomm *root, struct neomm__report *report)
{
    bool quiet = root->pmm->lock.word == 0;
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        quiet = quiet && neomm__load_acquire(&root->pmm->cpu[cpu].borrowing) == 0;
    if (!quiet)
        neomm__report(report, "pmm: busy: a CPU is inside, nothing was checked");
    return quiet;
}

static void check(struct neomm *root, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t before = report->findings;
    if (!is_quiet(root, report))
        return;
    if (!neomm__cache_check(root, report))
        return;
    neomm__cache_drain(root);
    check_sections(root, report);
    if (report->findings != before)
        return;
    for (uint32_t tree = 0; tree < pmm->trees; tree++) {
        check_tree(pmm, tree, report);
        check_descriptors(root, tree, report);
    }
    for (uint32_t area = 0; area < pmm->nodes * NEOMM_ZONES; area++)
        check_area(root, area, report);
}

static void take(struct neomm *root, struct neomm_snapshot *snapshot)
{
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        neomm_pmm_zone_stats(root, (enum neomm_zone)zone, &snapshot->zone[zone]);
    neomm__cache_served(root->pmm, &snapshot->counter[NEOMM_COUNTER_FRAME_ALLOC],
                        &snapshot->counter[NEOMM_COUNTER_FRAME_FREE]);
}

const struct neomm__layer_ops neomm__pmm_ops = {"pmm", check, take};
