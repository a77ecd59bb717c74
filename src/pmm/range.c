/* Contiguous ranges of any length, and claims of given frames.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm_priv.h"

/* The bit of the first frame at or above `number` that has one. */
static size_t bit_from(const struct neomm *root, uint64_t number)
{
    const struct neomm__pmm *pmm = root->pmm;
    uint64_t section = number >> NEOMM__SECTION_SHIFT;
    if (section >= root->frames.sections)
        return pmm->bits;
    if (root->frames.section[section] != 0)
        return neomm__bit_of(root, neomm_frame((uint32_t)number));
    uint32_t low = 0, high = pmm->sections;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pmm->section_number[middle] < section)
            low = middle + 1;
        else
            high = middle;
    }
    return low * NEOMM__SECTION_BITS;
}

/* Where the row of sections that begins with this one ends: their frames are neighbours, and none
 * is blank. The section itself: there is no row. */
static uint32_t row_end(const struct neomm__pmm *pmm, uint32_t section)
{
    uint32_t stop = section;
    while (stop < pmm->sections && !neomm__is_blank(pmm, stop) &&
           (stop == section || pmm->section_number[stop] == pmm->section_number[stop - 1] + 1))
        stop++;
    return stop;
}

/* The lowest range in the bits [from, end). Bits on either side of an empty section are
 * neighbours though their frames are not, so each row of adjacent sections is searched alone. */
static size_t find_range(const struct neomm__pmm *pmm, size_t from, size_t end,
                         const struct neomm_range_request *request)
{
    size_t found = NEOMM__BITMAP_NONE;
    uint32_t section = (uint32_t)(from / NEOMM__SECTION_BITS);
    while (found == NEOMM__BITMAP_NONE && section * NEOMM__SECTION_BITS < end) {
        uint32_t stop = row_end(pmm, section);
        if (stop == section) {
            section++;
            continue;
        }
        size_t begin = section * NEOMM__SECTION_BITS, border = stop * NEOMM__SECTION_BITS;
        struct neomm__bitmap_want want = {
            .from = begin > from ? begin : from,
            .end = border < end ? border : end,
            .count = request->frames,
            .align = request->align,
            .boundary = request->boundary,
            .offset = neomm__frame_of(pmm, begin).number - begin,
        };
        found = neomm__bitmap_find_clear(pmm->taken, &want);
        section = stop;
    }
    return found;
}

/* The bits where a zone begins, those of all nodes together. */
static size_t zone_first(const struct neomm__pmm *pmm, unsigned zone)
{
    uint32_t tree = 0;
    while (tree < pmm->trees && (unsigned)neomm__zone_of_area(pmm->tree_area[tree]) < zone)
        tree++;
    return (size_t)pmm->tree_first[tree] << NEOMM__FIELD_ORDER;
}

/* Bits change while they are looked at: a range that was found is taken frame by frame or not at
 * all, and the search goes on behind its first frame when one of them has gone. */
static size_t take_between(struct neomm *root, size_t from, size_t end,
                           const struct neomm_range_request *request, bool sure)
{
    while (from < end) {
        size_t bit = find_range(root->pmm, from, end, request);
        if (bit == NEOMM__BITMAP_NONE ||
            neomm__area_take_exact(root, bit, request->frames, request->flags, sure, &from))
            return bit;
    }
    return NEOMM__BITMAP_NONE;
}

/* Like a block, a range comes from as high a zone as possible, but it may begin in a lower one
 * and reach into that. */
static size_t take_range(struct neomm *root, const struct neomm_range_request *request, bool sure)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t bit = NEOMM__BITMAP_NONE;
    unsigned zone = (unsigned)neomm__pmm_top_zone(root, request->flags) + 1;
    size_t end = zone_first(pmm, zone);
    if (request->limit != 0) {
        size_t limit = bit_from(root, request->limit >> NEOMM_PAGE_SHIFT);
        end = limit < end ? limit : end;
    }
    while (bit == NEOMM__BITMAP_NONE && zone-- > 0)
        bit = take_between(root, zone_first(pmm, zone), end, request, sure);
    return bit;
}

/* Ranges are looked for by one CPU at a time, with nothing in the others' caches: what they keep
 * would be in the way. */
static size_t take_alone(struct neomm *root, const struct neomm_range_request *request)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t returned;
    unsigned looks = 0;
    size_t bit;
    do {
        neomm_irq_t irq = neomm__lock(&pmm->lock);
        returned = neomm__load_acquire(&pmm->returned);
        bit = take_range(root, request, true);
        neomm__unlock(&pmm->lock, irq);
    } while (bit == NEOMM__BITMAP_NONE && neomm__area_look_again(root, returned, ++looks));
    return bit;
}

static size_t take_drained(struct neomm *root, const struct neomm_range_request *request)
{
    neomm__cache_close(root);
    size_t bit = take_alone(root, request);
    neomm__cache_reopen(root);
    return bit;
}

/* Taken frames become the caller's single ones. */
static void own_all(struct neomm *root, size_t bit, size_t count, neomm_flags_t flags)
{
    for (size_t i = 0; i < count; i++) {
        neomm__tree_touch(root->pmm, bit + i);
        neomm__pmm_own(root, bit + i, 0, flags);
    }
    NEOMM__FRAMES_ALLOCATED(neomm__frame_of(root->pmm, bit), (uint32_t)count);
    neomm__count_add(root, NEOMM_COUNTER_FRAME_ALLOC, count);
}

static neomm_status allocate_range(struct neomm *root, const struct neomm_range_request *request,
                                   neomm_frame_t *first)
{
    size_t bit, count = request->frames;
    for (unsigned tries = 0;; tries++) {
        bit = take_range(root, request, false);
        if (bit == NEOMM__BITMAP_NONE)
            bit = take_drained(root, request);
        if (bit != NEOMM__BITMAP_NONE)
            break;
        if (!neomm__pmm_reclaim(root, count, request->flags, tries))
            return neomm__pmm_failed(root);
    }
    *first = neomm__frame_of(root->pmm, bit);
    if (!neomm__fill_taken(root, *first, count))
        return allocate_range(root, request, first);
    own_all(root, bit, count, request->flags);
    neomm__fill_owned(root, *first, count, request->flags);
    if (!(request->flags & NEOMM_ZERO) || neomm__pmm_zero(root, *first, count))
        return NEOMM_OK;
    (void)neomm_pmm_free_range(root, *first, request->frames);
    struct neomm_range_request direct = *request;
    direct.flags &= ~NEOMM_HIGH;
    return allocate_range(root, &direct, first);
}

static bool is_power_or_zero(uint32_t x)
{
    return (x & (x - 1)) == 0;
}

neomm_status neomm_pmm_alloc_range(struct neomm *root, const struct neomm_range_request *request,
                                   neomm_frame_t *first)
{
    *first = neomm_frame(0);
    if (!root->pmm || request->frames == 0 || !is_power_or_zero(request->align) ||
        !is_power_or_zero(request->boundary) ||
        (request->boundary != 0 && request->frames > request->boundary))
        return NEOMM_E_INVALID;
    if (NEOMM__FAULT(PMM_RANGE))
        return neomm__pmm_failed(root);
    return allocate_range(root, request, first);
}

size_t neomm__row_of(const struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    if (frames > UINT32_MAX - first.number)
        return NEOMM__BITMAP_NONE;
    size_t bit = neomm__bit_of(root, first);
    size_t last = neomm__bit_of(root, neomm_frame(first.number + (frames - 1)));
    if (bit == NEOMM__BITMAP_NONE || last == NEOMM__BITMAP_NONE || last - bit != frames - 1)
        return NEOMM__BITMAP_NONE;
    return bit;
}

/* All of them become nobody's, or none: those that did before one cannot be freed get their owner
 * back, as single frames are without anything else. */
static neomm_status disown_all(struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    neomm_status status = NEOMM_OK;
    uint32_t done = 0;
    size_t bit;
    bool movable;
    for (uint32_t i = 0; i < frames && status == NEOMM_OK; i++)
        status = neomm__pmm_may_free(root, neomm_frame(first.number + i), 0);
    while (status == NEOMM_OK && done < frames) {
        status = neomm__pmm_disown(root, neomm_frame(first.number + done), 0, &bit, &movable);
        done += status == NEOMM_OK;
    }
    while (status != NEOMM_OK && done-- > 0) {
        neomm_frame_t frame = neomm_frame(first.number + done);
        neomm__pmm_own(root, neomm__bit_of(root, frame), 0, 0);
        NEOMM__FRAMES_ALLOCATED(frame, 1);
    }
    return status;
}

neomm_status neomm_pmm_free_range(struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    if (!root->pmm || frames == 0)
        return NEOMM_E_INVALID;
    size_t bit = neomm__row_of(root, first, frames);
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    neomm_status status = disown_all(root, first, frames);
    if (status != NEOMM_OK)
        return status;
    neomm__fill_freed(root, first, frames);
    neomm__area_release(root->pmm, bit, frames);
    neomm__count_add(root, NEOMM_COUNTER_FRAME_FREE, frames);
    return NEOMM_OK;
}

neomm_status neomm_pmm_split(struct neomm *root, neomm_frame_t frame, unsigned order)
{
    size_t bit = root->pmm ? neomm__bit_of(root, frame) : NEOMM__BITMAP_NONE;
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    struct neomm__frame *first = &root->frames.table[bit];
    if (neomm__cas64(&first->users, NEOMM__FRAME_OWNED, NEOMM__FRAME_OWNED) != NEOMM__FRAME_OWNED ||
        first->order != order || !neomm__frame_has(first, NEOMM__FRAME_ALLOCATED) ||
        neomm__frame_has(first, NEOMM__FRAME_TAILS))
        return NEOMM_E_INVALID;
    neomm_flags_t flags = neomm__frame_has(first, NEOMM__FRAME_MOVABLE) ? NEOMM_MOVABLE : 0;
    for (size_t i = 1; i < (size_t)1 << order; i++)
        neomm__pmm_own(root, bit + i, 0, flags);
    first->order = 0;
    return NEOMM_OK;
}

static bool take_given(struct neomm *root, size_t bit, uint32_t frames)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t returned;
    unsigned looks = 0;
    size_t next;
    bool taken;
    neomm__cache_close(root);
    do {
        neomm_irq_t irq = neomm__lock(&pmm->lock);
        returned = neomm__load_acquire(&pmm->returned);
        taken = neomm__area_take_exact(root, bit, frames, NEOMM_RESERVE, true, &next);
        neomm__unlock(&pmm->lock, irq);
    } while (!taken && neomm__area_look_again(root, returned, ++looks));
    neomm__cache_reopen(root);
    return taken;
}

neomm_status neomm_pmm_claim(struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    if (!root->pmm || frames == 0)
        return NEOMM_E_INVALID;
    size_t bit = neomm__row_of(root, first, frames), next;
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_BUSY;
    if (!neomm__area_take_exact(root, bit, frames, NEOMM_RESERVE, false, &next) &&
        !take_given(root, bit, frames))
        return NEOMM_E_BUSY;
    own_all(root, bit, frames, 0);
    return NEOMM_OK;
}
