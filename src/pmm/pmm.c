/* The frame allocator: blocks of 2^order frames, and reclaim when there are none.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm.h"

/* Reclaim may free frames that do not make up the block that is wanted, or that somebody else
 * takes first: after this many tries the caller is told. */
#define RECLAIM_TRIES 8

enum neomm_zone neomm__pmm_top_zone(const struct neomm *root, neomm_flags_t flags)
{
    if (flags & NEOMM_DMA)
        return NEOMM_ZONE_DMA;
    return (flags & NEOMM_HIGH) && root->slots.map ? NEOMM_ZONE_HIGH : NEOMM_ZONE_NORMAL;
}

bool neomm__pmm_spare(const struct neomm__pmm *pmm, size_t frames, neomm_flags_t flags)
{
    size_t free = pmm->zone[NEOMM_ZONE_DMA].free + pmm->zone[NEOMM_ZONE_NORMAL].free;
    size_t kept = flags & NEOMM_RESERVE ? 0 : pmm->reserve;
    return free >= kept && free - kept >= frames;
}

void neomm__pmm_own(struct neomm *root, size_t bit, unsigned order)
{
    struct neomm__frame *first = &root->frames.table[bit];
    memset(first, 0, sizeof(*first));
    first->flags = NEOMM__FRAME_ALLOCATED;
    first->order = (uint8_t)order;
    neomm__store_release(&first->references, 1);
    root->pmm->tree_touched[bit / NEOMM__TREE_BITS] = 1;
}

/* Takes a block from the highest zone that has one. */
static size_t take_locked(struct neomm *root, unsigned order, neomm_flags_t flags)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t size = (size_t)1 << order, bit = NEOMM__BITMAP_NONE;
    unsigned zone = (unsigned)neomm__pmm_top_zone(root, flags) + 1;
    while (bit == NEOMM__BITMAP_NONE && zone-- > 0) {
        if (zone != NEOMM_ZONE_HIGH && !neomm__pmm_spare(pmm, size, flags))
            break;
        bit = neomm__zone_find(pmm, (enum neomm_zone)zone, order);
    }
    if (bit == NEOMM__BITMAP_NONE)
        return bit;
    neomm__zone_take(pmm, bit, size);
    neomm__pmm_own(root, bit, order);
    NEOMM__FRAMES_ALLOCATED(neomm__frame_of(pmm, bit), (uint32_t)size);
    return bit;
}

neomm_status neomm__pmm_failed(struct neomm *root)
{
    NEOMM__COUNT(root, FRAME_FAIL);
    return NEOMM_E_NOMEM;
}

bool neomm__pmm_reclaim(struct neomm *root, size_t frames, neomm_flags_t flags, unsigned tries)
{
    if ((flags & (NEOMM_ATOMIC | NEOMM_NORECLAIM)) || tries >= RECLAIM_TRIES)
        return false;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    neomm_reclaim_fn *reclaim = root->reclaim;
    void *context = root->reclaim_context;
    uint32_t *reclaiming = &neomm__cpu(root)->reclaiming;
    neomm__unlock(&root->pmm->lock, irq);
    if (!reclaim || neomm__exchange(reclaiming, 1) != 0)
        return false;
    neomm__lock_assert_none("pmm: reclaim with a lock held; the caller must say NORECLAIM");
    NEOMM__COUNT(root, RECLAIM);
    uint32_t freed = reclaim(context, frames < UINT32_MAX ? (uint32_t)frames : UINT32_MAX, flags);
    neomm__store_release(reclaiming, 0);
    return freed > 0;
}

bool neomm__pmm_zero(struct neomm *root, neomm_frame_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        neomm_irq_t irq = neomm_port_irq_save();
        void *page = neomm_frame_map(root, neomm_frame(first.number + (uint32_t)i));
        if (page) {
            memset(page, 0, NEOMM_PAGE_SIZE);
            neomm_frame_unmap(root, page);
        }
        neomm_port_irq_restore(irq);
        if (!page)
            return false;
    }
    return true;
}

static neomm_status allocate(struct neomm *root, unsigned order, neomm_flags_t flags,
                             neomm_frame_t *frame)
{
    size_t size = (size_t)1 << order;
    for (unsigned tries = 0;; tries++) {
        neomm_irq_t irq = neomm__lock(&root->pmm->lock);
        size_t bit = take_locked(root, order, flags);
        neomm__unlock(&root->pmm->lock, irq);
        if (bit != NEOMM__BITMAP_NONE) {
            *frame = neomm__frame_of(root->pmm, bit);
            break;
        }
        if (!neomm__pmm_reclaim(root, size, flags, tries))
            return neomm__pmm_failed(root);
    }
    NEOMM__COUNT(root, FRAME_ALLOC);
    if (!(flags & NEOMM_ZERO) || neomm__pmm_zero(root, *frame, size))
        return NEOMM_OK;
    /* All slots of this CPU hold other frames: one of the direct map needs none. */
    (void)neomm_pmm_free(root, *frame, order);
    return allocate(root, order, flags & ~NEOMM_HIGH, frame);
}

neomm_status neomm_pmm_alloc(struct neomm *root, unsigned order, neomm_flags_t flags,
                             neomm_frame_t *frame)
{
    *frame = neomm_frame(0);
    if (order > NEOMM_ORDER_MAX || !root->pmm)
        return NEOMM_E_INVALID;
    if (NEOMM__FAULT(PMM_ALLOC))
        return neomm__pmm_failed(root);
    return allocate(root, order, flags, frame);
}

/* ---- freeing ---- */

neomm_status neomm__pmm_check_free(struct neomm *root, neomm_frame_t frame, unsigned order,
                                   size_t *bit)
{
    size_t at = neomm__bit_of(root, frame), size = (size_t)1 << order;
    if (at == NEOMM__BITMAP_NONE || !neomm__bitmap_test(root->pmm->managed, at))
        return NEOMM_E_FOREIGN;
    if (!neomm__bitmap_test(root->pmm->taken, at))
        return NEOMM_E_DOUBLE_FREE;
    struct neomm__frame *first = &root->frames.table[at];
    if (!(first->flags & NEOMM__FRAME_ALLOCATED) || first->order != order)
        return NEOMM_E_INVALID;
    if (neomm__load_acquire(&first->references) != 1)
        return NEOMM_E_BUSY;
    for (size_t i = 0; i < size; i++)
        if (neomm__load_acquire(&first[i].mappings) != 0)
            return NEOMM_E_BUSY;
    *bit = at;
    return NEOMM_OK;
}

/* Free frames have descriptors of zeros, whatever their last owner left in them. */
void neomm__pmm_disown(struct neomm *root, size_t bit, size_t count)
{
    NEOMM__FRAMES_FREED(neomm__frame_of(root->pmm, bit), (uint32_t)count);
    memset(&root->frames.table[bit], 0, count * sizeof(struct neomm__frame));
    neomm__zone_release(root->pmm, bit, count);
}

neomm_status neomm_pmm_free(struct neomm *root, neomm_frame_t frame, unsigned order)
{
    size_t bit;
    if (order > NEOMM_ORDER_MAX || !root->pmm)
        return NEOMM_E_INVALID;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    neomm_status status = neomm__pmm_check_free(root, frame, order, &bit);
    if (status == NEOMM_OK)
        neomm__pmm_disown(root, bit, (size_t)1 << order);
    neomm__unlock(&root->pmm->lock, irq);
    if (status == NEOMM_OK)
        NEOMM__COUNT(root, FRAME_FREE);
    return status;
}

neomm_status neomm_pmm_alloc_bulk(struct neomm *root, uint32_t count, neomm_flags_t flags,
                                  neomm_frame_t *frames)
{
    neomm_status status = root->pmm ? NEOMM_OK : NEOMM_E_INVALID;
    uint32_t done = 0;
    while (status == NEOMM_OK && done < count) {
        status = NEOMM__FAULT(PMM_BULK) ? neomm__pmm_failed(root)
                                        : allocate(root, 0, flags, &frames[done]);
        done += status == NEOMM_OK;
    }
    if (status != NEOMM_OK)
        while (done > 0)
            (void)neomm_pmm_free(root, frames[--done], 0);
    return status;
}

neomm_status neomm_pmm_free_bulk(struct neomm *root, uint32_t count, const neomm_frame_t *frames,
                                 uint32_t *done)
{
    neomm_status status = NEOMM_OK;
    uint32_t freed = 0;
    while (freed < count && (status = neomm_pmm_free(root, frames[freed], 0)) == NEOMM_OK)
        freed++;
    if (done)
        *done = freed;
    return status;
}

/* ---- the rest ---- */

void neomm_pmm_set_reclaim(struct neomm *root, neomm_reclaim_fn *reclaim, void *context)
{
    if (!root->pmm)
        return;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    root->reclaim = reclaim;
    root->reclaim_context = context;
    neomm__unlock(&root->pmm->lock, irq);
}

uint64_t neomm_pmm_free_frames(const struct neomm *root)
{
    uint64_t sum = 0;
    for (unsigned zone = 0; root->pmm && zone < NEOMM_ZONES; zone++)
        sum += neomm__load_relaxed(&root->pmm->zone[zone].free);
    return sum;
}

void neomm_pmm_zone_stats(struct neomm *root, enum neomm_zone zone, struct neomm_zone_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    if (!root->pmm || (unsigned)zone >= NEOMM_ZONES)
        return;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    neomm__zone_measure(root->pmm, zone, stats);
    neomm__unlock(&root->pmm->lock, irq);
}
