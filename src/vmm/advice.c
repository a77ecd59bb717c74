/* What programs say of ranges, and ask: madvise, msync, mincore.
 * SPDX-License-Identifier: MIT */
#include "vmm/cache.h"

/* ---- flags ---- */

/* The bits that an advice sets, and those that it takes away. */
struct change {
    uint32_t set, clear;
};

static bool flag_change(enum neomm_advice advice, struct change *change)
{
    const uint32_t order = NEOMM__REGION_SEQUENTIAL | NEOMM__REGION_RANDOM;
    const uint32_t huge = NEOMM__REGION_HUGE | NEOMM__REGION_NOHUGE;
    switch (advice) {
    case NEOMM_ADVICE_NORMAL:
        *change = (struct change){0, order};
        return true;
    case NEOMM_ADVICE_SEQUENTIAL:
        *change = (struct change){NEOMM__REGION_SEQUENTIAL, order};
        return true;
    case NEOMM_ADVICE_RANDOM:
        *change = (struct change){NEOMM__REGION_RANDOM, order};
        return true;
    case NEOMM_ADVICE_HUGEPAGE:
        *change = (struct change){NEOMM__REGION_HUGE, huge};
        return true;
    case NEOMM_ADVICE_NOHUGEPAGE:
        *change = (struct change){NEOMM__REGION_NOHUGE, huge};
        return true;
    default:
        return false;
    }
}

static neomm_status advise_flags(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                 neomm_vaddr_t end, struct change change)
{
    neomm_status status = neomm__regions_reserve(root, &space->map, 2);
    if (status != NEOMM_OK)
        return status;
    neomm__regions_isolate(&space->map, start, end);
    struct neomm__region_place place = neomm__region_place(&space->map, start);
    struct neomm__region *region = neomm__region_at(place);
    for (; region && region->start < end; region = neomm__region_next(&place))
        neomm__region_tree_change(&space->map, region, region->prot,
                                  (region->flags & ~change.clear) | change.set);
    neomm__regions_restore(&space->map, start, end);
    return NEOMM_OK;
}

/* ---- contents ---- */

static void clear_accessed(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                           neomm_vaddr_t end)
{
    (void)neomm_paging_harvest(root, &space->tables, start, end - start, false, NULL, NULL);
}

/* Gives up what is in a part of a region. */
static neomm_status give_up(struct neomm *root, struct neomm_space *space,
                            struct neomm__region *region, neomm_vaddr_t start, neomm_vaddr_t end)
{
    if (region->flags & (NEOMM__REGION_LOCKED | NEOMM__REGION_PHYSICAL))
        return NEOMM_E_INVALID;
    neomm__region_close(region);
    neomm_status status = neomm__leaves_part(root, space, start, end);
    if (status == NEOMM_OK)
        neomm__leaves_clear(root, space, start, end);
    neomm__region_open(region);
    return status;
}

/* Pages that cannot go now, or went already, are passed. */
static neomm_status page_out(struct neomm *root, struct neomm_space *space,
                             const struct neomm__region *region, neomm_vaddr_t start,
                             neomm_vaddr_t end)
{
    if (region->flags & (NEOMM__REGION_LOCKED | NEOMM__REGION_PHYSICAL))
        return NEOMM_E_INVALID;
    neomm__space_leave(space);
    for (; start < end; start += NEOMM_PAGE_SIZE)
        neomm__evict_at(root, space, start);
    neomm__space_reenter(space);
    return NEOMM_OK;
}

static neomm_status advise_region(struct neomm *root, struct neomm_space *space,
                                  struct neomm__region *region, neomm_vaddr_t start,
                                  neomm_vaddr_t end, enum neomm_advice advice)
{
    switch (advice) {
    case NEOMM_ADVICE_DONTNEED:
    case NEOMM_ADVICE_FREE:
        return give_up(root, space, region, start, end);
    case NEOMM_ADVICE_PAGEOUT:
        return page_out(root, space, region, start, end);
    default:
        clear_accessed(root, space, start, end);
        return NEOMM_OK;
    }
}

/* Region by region, since the space's lock may be given up in each. */
static neomm_status advise_contents(struct neomm *root, struct neomm_space *space,
                                    neomm_vaddr_t start, neomm_vaddr_t end,
                                    enum neomm_advice advice)
{
    neomm_status status = NEOMM_OK;
    while (start < end && status == NEOMM_OK) {
        struct neomm__region *region = neomm__region_first(&space->map, start);
        if (!region || region->start >= end)
            break;
        neomm_vaddr_t from = region->start > start ? region->start : start;
        neomm_vaddr_t to = region->end < end ? region->end : end;
        status = advise_region(root, space, region, from, to, advice);
        start = to;
    }
    return status;
}

/* ---- bringing in ---- */

/* What is in swap comes back; nobody waits for the rest. */
static neomm_status will_need(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                              neomm_vaddr_t end)
{
    neomm__cache_will_need(root, space, start, end);
    while (start < end) {
        struct neomm_mapping leaf;
        neomm_vaddr_t step = NEOMM_PAGE_SIZE;
        if (neomm_paging_query(root, &space->tables, start, &leaf) != NEOMM_OK)
            break;
        if (leaf.state == NEOMM_MAPPING_SWAPPED)
            (void)neomm__populate(root, space, start, start + NEOMM_PAGE_SIZE, false);
        else
            step = (neomm_vaddr_t)leaf.size - (start & ((neomm_vaddr_t)leaf.size - 1));
        if (step > end - start)
            break;
        start += step;
    }
    return NEOMM_OK;
}

static neomm_status advise_unlocked(struct neomm *root, struct neomm_space *space,
                                    neomm_vaddr_t start, neomm_vaddr_t end,
                                    enum neomm_advice advice)
{
    if (advice == NEOMM_ADVICE_WILLNEED)
        return will_need(root, space, start, end);
    return neomm__populate(root, space, start, end, advice == NEOMM_ADVICE_POPULATE_WRITE);
}

/* ---- the calls ---- */

static neomm_status advise_locked(struct neomm *root, struct neomm_space *space,
                                  neomm_vaddr_t start, neomm_vaddr_t end, enum neomm_advice advice)
{
    struct change change;
    if (flag_change(advice, &change))
        return advise_flags(root, space, start, end, change);
    return advise_contents(root, space, start, end, advice);
}

neomm_status neomm_madvise(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                           uint64_t size, enum neomm_advice advice)
{
    unsigned attempt = 0;
    neomm_status status = neomm__range_check(root, address, &size);
    neomm_vaddr_t end = address + (neomm_vaddr_t)size;
    bool whole;
    if (status == NEOMM_OK && (unsigned)advice > NEOMM_ADVICE_POPULATE_WRITE)
        status = NEOMM_E_INVALID;
    if (status != NEOMM_OK)
        return status;
    bool in = advice == NEOMM_ADVICE_WILLNEED || advice >= NEOMM_ADVICE_POPULATE_READ;
    do {
        neomm__mutex_lock(&space->lock);
        whole = neomm__region_covers(&space->map, address, end);
        if (!in)
            status = advise_locked(root, space, address, end, advice);
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    if (in && (whole || advice == NEOMM_ADVICE_WILLNEED))
        status = advise_unlocked(root, space, address, end, advice);
    return status == NEOMM_OK && !whole ? NEOMM_E_NOENT : status;
}

neomm_status neomm_msync(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                         uint64_t size, unsigned flags)
{
    neomm_status status = neomm__range_check(root, address, &size);
    neomm_vaddr_t end = address + (neomm_vaddr_t)size;
    const unsigned both = NEOMM_MS_ASYNC | NEOMM_MS_SYNC;
    if (status == NEOMM_OK && ((flags & ~(both | NEOMM_MS_INVALIDATE)) || (flags & both) == both))
        status = NEOMM_E_INVALID;
    if (status != NEOMM_OK)
        return status;
    neomm__mutex_lock(&space->lock);
    if (!neomm__region_covers(&space->map, address, end))
        status = NEOMM_E_NOENT;
    else if ((flags & NEOMM_MS_INVALIDATE) &&
             neomm__range_cost(&space->map, address, end).locked != 0)
        status = NEOMM_E_BUSY;
    neomm__mutex_unlock(&space->lock);
    if (status != NEOMM_OK || !(flags & both))
        return status;
    return neomm__cache_msync(root, space, address, end, flags & NEOMM_MS_SYNC);
}

struct core {
    neomm_vaddr_t start;
    uint8_t *pages;
};

static void note_core(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    const struct core *core = context;
    if (leaf->state == NEOMM_MAPPING_PRESENT)
        core->pages[(vaddr - core->start) >> NEOMM_PAGE_SHIFT] = 1;
}

neomm_status neomm_mincore(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                           uint64_t size, uint8_t *pages)
{
    neomm_status status = neomm__range_check(root, address, &size);
    struct core core = {address, pages};
    if (status != NEOMM_OK)
        return status;
    neomm__mutex_lock(&space->lock);
    if (neomm__region_covers(&space->map, address, address + (neomm_vaddr_t)size)) {
        memset(pages, 0, (size_t)(size >> NEOMM_PAGE_SHIFT));
        status = neomm__walk(root, space, address, (size_t)size, note_core, &core);
    } else {
        status = NEOMM_E_NOENT;
    }
    neomm__mutex_unlock(&space->lock);
    return status;
}
