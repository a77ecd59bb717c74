/* Contiguous ranges of any length, and claims of given frames.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm.h"

/* The bit of the first frame at or above `number` that has one. */
static size_t bit_from(const struct neomm *root, uint64_t number)
{
    const struct neomm__pmm *pmm = root->pmm;
    uint64_t section = number >> NEOMM__SECTION_SHIFT;
    if (section >= root->frames.sections)
        return pmm->bits;
    if (root->frames.section[section] != 0)
        return neomm__bit_of(root, neomm_frame((uint32_t)number));
    uint32_t low = 0, high = pmm->trees;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pmm->tree_section[middle] < section)
            low = middle + 1;
        else
            high = middle;
    }
    return low * NEOMM__TREE_BITS;
}

/* The lowest range in the bits [from, end). Bits on either side of an empty section are
 * neighbours though their frames are not, so each row of adjacent sections is searched alone. */
static size_t find_range(const struct neomm__pmm *pmm, size_t from, size_t end,
                         const struct neomm_range_request *request)
{
    size_t found = NEOMM__BITMAP_NONE;
    uint32_t tree = (uint32_t)(from / NEOMM__TREE_BITS);
    while (found == NEOMM__BITMAP_NONE && tree * NEOMM__TREE_BITS < end) {
        uint32_t stop = tree + 1;
        while (stop < pmm->trees && pmm->tree_section[stop] == pmm->tree_section[stop - 1] + 1)
            stop++;
        size_t begin = tree * NEOMM__TREE_BITS, border = stop * NEOMM__TREE_BITS;
        struct neomm__bitmap_want want = {
            .from = begin > from ? begin : from,
            .end = border < end ? border : end,
            .count = request->frames,
            .align = request->align,
            .boundary = request->boundary,
            .offset = neomm__frame_of(pmm, begin).number - begin,
        };
        found = neomm__bitmap_find_clear(pmm->taken, &want);
        tree = stop;
    }
    return found;
}

/* Like a block, a range comes from as high a zone as possible, but it may begin in a lower one
 * and reach into that. */
static size_t take_range_locked(struct neomm *root, const struct neomm_range_request *request)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t bit = NEOMM__BITMAP_NONE, count = request->frames;
    unsigned zone = (unsigned)neomm__pmm_top_zone(root, request->flags) + 1;
    size_t end = pmm->zone[zone - 1].end;
    if (request->limit != 0) {
        size_t limit = bit_from(root, request->limit >> NEOMM_PAGE_SHIFT);
        end = limit < end ? limit : end;
    }
    while (bit == NEOMM__BITMAP_NONE && zone-- > 0) {
        if (zone != NEOMM_ZONE_HIGH && !neomm__pmm_spare(pmm, count, request->flags))
            break;
        bit = find_range(pmm, pmm->zone[zone].first, end, request);
    }
    return bit;
}

/* Takes the free bits of a range; the caller's single frames from now on. */
static void take_all_locked(struct neomm *root, size_t bit, size_t count)
{
    neomm__zone_take(root->pmm, bit, count);
    for (size_t i = 0; i < count; i++)
        neomm__pmm_own(root, bit + i, 0);
    NEOMM__FRAMES_ALLOCATED(neomm__frame_of(root->pmm, bit), (uint32_t)count);
}

static neomm_status allocate_range(struct neomm *root, const struct neomm_range_request *request,
                                   neomm_frame_t *first)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t bit, count = request->frames;
    for (unsigned tries = 0;; tries++) {
        neomm_irq_t irq = neomm__lock(&pmm->lock);
        bit = take_range_locked(root, request);
        if (bit != NEOMM__BITMAP_NONE)
            take_all_locked(root, bit, count);
        neomm__unlock(&pmm->lock, irq);
        if (bit != NEOMM__BITMAP_NONE)
            break;
        if (!neomm__pmm_reclaim(root, count, request->flags, tries))
            return neomm__pmm_failed(root);
    }
    *first = neomm__frame_of(pmm, bit);
    neomm__count_add(root, NEOMM_COUNTER_FRAME_ALLOC, count);
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

/* The bit of `first` if all the frames have one and are in one row of sections. */
static size_t row_of(const struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    if (frames > UINT32_MAX - first.number)
        return NEOMM__BITMAP_NONE;
    size_t bit = neomm__bit_of(root, first);
    size_t last = neomm__bit_of(root, neomm_frame(first.number + (frames - 1)));
    if (bit == NEOMM__BITMAP_NONE || last == NEOMM__BITMAP_NONE || last - bit != frames - 1)
        return NEOMM__BITMAP_NONE;
    return bit;
}

neomm_status neomm_pmm_free_range(struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    if (!root->pmm || frames == 0)
        return NEOMM_E_INVALID;
    size_t bit = row_of(root, first, frames), unused;
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    neomm_status status = NEOMM_OK;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    for (uint32_t i = 0; i < frames && status == NEOMM_OK; i++)
        status = neomm__pmm_check_free(root, neomm_frame(first.number + i), 0, &unused);
    if (status == NEOMM_OK)
        neomm__pmm_disown(root, bit, frames);
    neomm__unlock(&root->pmm->lock, irq);
    if (status == NEOMM_OK)
        neomm__count_add(root, NEOMM_COUNTER_FRAME_FREE, frames);
    return status;
}

neomm_status neomm_pmm_claim(struct neomm *root, neomm_frame_t first, uint32_t frames)
{
    if (!root->pmm || frames == 0)
        return NEOMM_E_INVALID;
    size_t bit = row_of(root, first, frames);
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_BUSY;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    bool free = neomm__bitmap_next_set(root->pmm->taken, bit, bit + frames) == NEOMM__BITMAP_NONE;
    if (free)
        take_all_locked(root, bit, frames);
    neomm__unlock(&root->pmm->lock, irq);
    if (!free)
        return NEOMM_E_BUSY;
    neomm__count_add(root, NEOMM_COUNTER_FRAME_ALLOC, frames);
    return NEOMM_OK;
}
