/* Runs of RAM: what the boot map said that a frame is, memory that becomes usable later, and frames
 * that are taken out of use.
 * SPDX-License-Identifier: MIT
 *
 *   usable | metadata | usable |  (hole)  | boot | usable |  (reserved)  | hotplug
 *
 * Runs are ascending and change under the lock only in type, or by cutting one in two.
 */
#include "pmm/pmm_priv.h"

const struct neomm__ram_run *neomm__ram_at(const struct neomm__pmm *pmm, size_t bit)
{
    uint32_t low = 0, high = pmm->runs;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct neomm__ram_run *run = &pmm->run[middle];
        if (bit < run->bit)
            high = middle;
        else if (bit - run->bit >= run->count)
            low = middle + 1;
        else
            return run;
    }
    return NULL;
}

bool neomm__is_managed(struct neomm *root, size_t bit)
{
    struct neomm__pmm *pmm = root->pmm;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    const struct neomm__ram_run *run = neomm__ram_at(pmm, bit);
    bool managed = run && run->type == NEOMM__RAM_USABLE &&
                   !neomm__frame_has(&root->frames.table[bit], NEOMM__FRAME_RETIRED);
    neomm__unlock(&pmm->lock, irq);
    return managed;
}

static void manage_piece(struct neomm *root, size_t bit, size_t count, bool reserved)
{
    struct neomm__pmm *pmm = root->pmm;
    struct neomm__area *area = &pmm->area[pmm->tree_area[neomm__tree_of(pmm, bit)]];
    neomm__store_relaxed(&area->managed, area->managed + count);
    area->reserved -= reserved ? count : 0;
    neomm__fill_freed(root, neomm__frame_of(pmm, bit), count);
    neomm__area_release(pmm, bit, count);
}

/* Under the lock. Searches look at the bits when they see the section is not blank. */
static void write_sections(struct neomm__pmm *pmm, size_t bit, size_t count)
{
    size_t last = (bit + count - 1) / NEOMM__SECTION_BITS;
    for (size_t i = bit / NEOMM__SECTION_BITS; i <= last; i++) {
        if (!neomm__is_blank(pmm, i))
            continue;
        neomm__bitmap_set_run(pmm->taken, i * NEOMM__SECTION_BITS, NEOMM__SECTION_BITS);
        neomm__store_release(&pmm->section_blank[i], 0);
    }
}

void neomm__ram_manage(struct neomm *root, size_t bit, size_t count, bool reserved)
{
    struct neomm__pmm *pmm = root->pmm;
    write_sections(pmm, bit, count);
    for (size_t end = bit + count, piece; bit < end; bit += piece) {
        size_t tree_end = (size_t)pmm->tree_first[neomm__tree_of(pmm, bit) + 1]
                          << NEOMM__FIELD_ORDER;
        piece = (end < tree_end ? end : tree_end) - bit;
        manage_piece(root, bit, piece, reserved);
    }
}

uint64_t neomm_pmm_reclaim_boot(struct neomm *root)
{
    struct neomm__pmm *pmm = root->pmm;
    uint64_t gained = 0;
    if (!pmm)
        return 0;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    for (uint32_t i = 0; i < pmm->runs; i++) {
        struct neomm__ram_run *run = &pmm->run[i];
        if (run->type != NEOMM__RAM_BOOT)
            continue;
        run->type = NEOMM__RAM_USABLE;
        neomm__ram_manage(root, run->bit, run->count, true);
        gained += run->count;
    }
    neomm__unlock(&pmm->lock, irq);
    return gained;
}

/* ---- memory that is added ---- */

/* Are they next to each other, by their frames and not by their bits alone? */
static bool adjoin(const struct neomm__pmm *pmm, const struct neomm__ram_run *low,
                   const struct neomm__ram_run *high)
{
    return low->bit + low->count == high->bit &&
           neomm__frame_of(pmm, high->bit - 1).number + 1 == neomm__frame_of(pmm, high->bit).number;
}

static bool is_usable(const struct neomm__ram_run *run)
{
    return run->type == NEOMM__RAM_USABLE;
}

/* Makes `part` of run `at` usable, as one run with what is usable beside it. False: no room. */
static bool make_usable(struct neomm__pmm *pmm, uint32_t at, struct neomm__ram_run part)
{
    const struct neomm__ram_run *run = pmm->run;
    struct neomm__ram_run piece[3];
    size_t before = part.bit - run[at].bit, behind = run[at].count - before - part.count;
    uint32_t first = at, end = at + 1, n = 0;
    if (before == 0 && at > 0 && is_usable(&run[at - 1]) && adjoin(pmm, &run[at - 1], &part)) {
        first--;
        part.bit -= run[first].count;
        part.count += run[first].count;
    }
    if (behind == 0 && end < pmm->runs && is_usable(&run[end]) && adjoin(pmm, &part, &run[end]))
        part.count += run[end++].count;
    if (before != 0)
        piece[n++] = (struct neomm__ram_run){run[at].bit, before, run[at].type};
    piece[n++] = part;
    if (behind != 0)
        piece[n++] = (struct neomm__ram_run){part.bit + part.count, behind, run[at].type};
    uint32_t runs = pmm->runs - (end - first) + n;
    if (runs > pmm->run_capacity)
        return false;
    memmove(&pmm->run[first + n], &run[end], (pmm->runs - end) * sizeof(*run));
    memcpy(&pmm->run[first], piece, n * sizeof(*run));
    pmm->runs = runs;
    return true;
}

/* May the bits [bit, bit + count) be added? Then they are in one run. */
static neomm_status may_add(const struct neomm__pmm *pmm, size_t bit, size_t count)
{
    neomm_status status = NEOMM_OK;
    for (size_t end = bit + count; bit < end;) {
        const struct neomm__ram_run *run = neomm__ram_at(pmm, bit);
        if (!run)
            return NEOMM_E_FOREIGN;
        if (run->type != NEOMM__RAM_HOTPLUG)
            status = NEOMM_E_EXISTS;
        bit = run->bit + run->count;
    }
    return status;
}

static neomm_status add_locked(struct neomm *root, size_t bit, size_t count)
{
    struct neomm__pmm *pmm = root->pmm;
    neomm_status status = may_add(pmm, bit, count);
    if (status != NEOMM_OK)
        return status;
    uint32_t at = (uint32_t)(neomm__ram_at(pmm, bit) - pmm->run);
    if (!make_usable(pmm, at, (struct neomm__ram_run){bit, count, NEOMM__RAM_USABLE}))
        return NEOMM_E_NOSPACE;
    neomm__ram_manage(root, bit, count, false);
    return NEOMM_OK;
}

neomm_status neomm_pmm_add(struct neomm *root, neomm_paddr_t base, uint64_t length)
{
    struct neomm__pmm *pmm = root->pmm;
    uint64_t first = base >> NEOMM_PAGE_SHIFT, frames = length >> NEOMM_PAGE_SHIFT;
    if (!pmm || length == 0)
        return NEOMM_E_INVALID;
    if (!NEOMM__ALIGNED(base, NEOMM_PAGE_SIZE) || !NEOMM__ALIGNED(length, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (first > UINT32_MAX || frames > UINT32_MAX - first)
        return NEOMM_E_FOREIGN;
    size_t bit = neomm__row_of(root, neomm_frame((uint32_t)first), (uint32_t)frames);
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    neomm_status status = add_locked(root, bit, (size_t)frames);
    neomm__unlock(&pmm->lock, irq);
    if (status == NEOMM_OK)
        neomm__cache_fit(root);
    return status;
}

/* ---- frames out of use ---- */

/* Its bit stays taken, and its descriptor says why. */
neomm_status neomm_pmm_retire(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t bit;
    bool movable;
    if (!pmm)
        return NEOMM_E_INVALID;
    neomm_status status = neomm__pmm_disown(root, frame, 0, &bit, &movable);
    if (status != NEOMM_OK)
        return status;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    struct neomm__area *area = &pmm->area[pmm->tree_area[neomm__tree_of(pmm, bit)]];
    neomm__frame_set(&root->frames.table[bit], NEOMM__FRAME_RETIRED);
    neomm__store_relaxed(&area->managed, area->managed - 1);
    area->reserved++;
    neomm__unlock(&pmm->lock, irq);
    return NEOMM_OK;
}
