/* Runs of RAM: what the boot map said that a frame is, and memory that becomes usable later.
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
    area->managed += count;
    area->reserved -= reserved ? count : 0;
    neomm__fill_freed(root, neomm__frame_of(pmm, bit), count);
    neomm__area_release(pmm, bit, count);
}

void neomm__ram_manage(struct neomm *root, size_t bit, size_t count, bool reserved)
{
    const struct neomm__pmm *pmm = root->pmm;
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

/* Makes the part [bit, bit + count) of a run a run of its own. False: no room for it. */
static bool cut(struct neomm__pmm *pmm, struct neomm__ram_run *run, size_t bit, size_t count)
{
    size_t before = bit - run->bit, behind = run->count - before - count;
    uint32_t more = (before != 0 ? 1u : 0u) + (behind != 0 ? 1u : 0u);
    struct neomm__ram_run whole = *run;
    if (more > pmm->run_capacity - pmm->runs)
        return false;
    uint32_t at = (uint32_t)(run - pmm->run);
    memmove(run + 1 + more, run + 1, (pmm->runs - at - 1) * sizeof(*run));
    pmm->runs += more;
    if (before != 0)
        *run++ = (struct neomm__ram_run){whole.bit, before, whole.type};
    *run++ = (struct neomm__ram_run){bit, count, whole.type};
    if (behind != 0)
        *run = (struct neomm__ram_run){bit + count, behind, whole.type};
    return true;
}

static neomm_status add_locked(struct neomm *root, size_t bit, size_t count)
{
    struct neomm__pmm *pmm = root->pmm;
    const struct neomm__ram_run *run = neomm__ram_at(pmm, bit);
    if (!run || count > run->count - (bit - run->bit))
        return NEOMM_E_FOREIGN;
    if (run->type != NEOMM__RAM_HOTPLUG)
        return NEOMM_E_EXISTS;
    if (!cut(pmm, &pmm->run[run - pmm->run], bit, count))
        return NEOMM_E_NOSPACE;
    struct neomm__ram_run *own = &pmm->run[neomm__ram_at(pmm, bit) - pmm->run];
    own->type = NEOMM__RAM_USABLE;
    if (own > pmm->run && own[-1].type == own->type && own[-1].bit + own[-1].count == bit) {
        own[-1].count += count;
        memmove(own, own + 1, (size_t)(&pmm->run[pmm->runs] - (own + 1)) * sizeof(*own));
        pmm->runs--;
    }
    neomm__ram_manage(root, bit, count, false);
    return NEOMM_OK;
}

neomm_status neomm_pmm_add(struct neomm *root, neomm_paddr_t base, uint64_t length)
{
    struct neomm__pmm *pmm = root->pmm;
    uint64_t first = base >> NEOMM_PAGE_SHIFT, frames = length >> NEOMM_PAGE_SHIFT;
    if (!pmm || frames == 0)
        return NEOMM_E_INVALID;
    if (!NEOMM__ALIGNED(base, NEOMM_PAGE_SIZE) || !NEOMM__ALIGNED(length, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (first > UINT32_MAX || frames > UINT32_MAX - first)
        return NEOMM_E_FOREIGN;
    size_t bit = neomm__bit_of(root, neomm_frame((uint32_t)first));
    if (bit == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    neomm_status status = add_locked(root, bit, (size_t)frames);
    neomm__unlock(&pmm->lock, irq);
    if (status == NEOMM_OK)
        for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
            neomm__cache_enable(root, cpu, true);
    return status;
}
