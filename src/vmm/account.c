/* What a space's regions cost: its limits, and what all spaces were promised together.
 * SPDX-License-Identifier: MIT */
#include "vmm/vmm_priv.h"

/* ---- costs ---- */

void neomm__cost_add(struct neomm__cost *cost, uint64_t pages, uint32_t flags)
{
    cost->pages += pages;
    if (flags & NEOMM__REGION_LOCKED)
        cost->locked += pages;
    if (flags & NEOMM__REGION_COMMITTED)
        cost->committed += pages;
}

struct neomm__cost neomm__range_cost(const struct neomm__region_map *map, neomm_vaddr_t start,
                                     neomm_vaddr_t end)
{
    struct neomm__cost cost = {0, 0, 0};
    struct neomm__region_place place = neomm__region_place(map, start);
    const struct neomm__region *region = neomm__region_at(place);
    for (; region && region->start < end; region = neomm__region_next(&place)) {
        neomm_vaddr_t from = region->start > start ? region->start : start;
        neomm_vaddr_t to = region->end < end ? region->end : end;
        neomm__cost_add(&cost, (to - from) >> NEOMM_PAGE_SHIFT, region->flags);
    }
    return cost;
}

uint32_t neomm__region_commits(uint32_t flags, neomm_prot_t prot)
{
    if (flags & (NEOMM__REGION_NORESERVE | NEOMM__REGION_PHYSICAL | NEOMM__REGION_SHARED))
        return flags;
    return prot & NEOMM_PROT_WRITE ? flags | NEOMM__REGION_COMMITTED : flags;
}

/* ---- what was promised ---- */

static uint64_t memory_pages(struct neomm *root)
{
    struct neomm_swap_stats swap;
    neomm_swap_stats(root, &swap);
    return root->vmm->ram_pages + swap.slots;
}

static bool commit(struct neomm *root, uint64_t pages)
{
    struct neomm__vmm *vmm = root->vmm;
    uint64_t before = neomm__fetch_add(&vmm->committed, (size_t)pages);
    bool good = true;
    if (vmm->overcommit == NEOMM_OVERCOMMIT_REFUSE)
        good = before + pages <= memory_pages(root);
    else if (vmm->overcommit == NEOMM_OVERCOMMIT_HEURISTIC)
        good = pages <= vmm->ram_pages || pages <= memory_pages(root);
    if (!good)
        (void)neomm__fetch_sub(&vmm->committed, (size_t)pages);
    return good;
}

static bool within(uint64_t have, uint64_t more, uint64_t less, uint64_t limit_bytes)
{
    return more <= less || have + more - less <= limit_bytes >> NEOMM_PAGE_SHIFT;
}

neomm_status neomm__charge(struct neomm *root, struct neomm_space *space,
                           const struct neomm__cost *more, const struct neomm__cost *less)
{
    if (!within(space->virtual_pages, more->pages, less->pages, space->limits.virtual_bytes) ||
        !within(space->locked_pages, more->locked, less->locked, space->limits.locked_bytes))
        return NEOMM_E_LIMIT;
    if (more->committed != 0 && !commit(root, more->committed))
        return NEOMM_E_LIMIT;
    space->virtual_pages += more->pages;
    space->locked_pages += more->locked;
    return NEOMM_OK;
}

void neomm__uncharge(struct neomm *root, struct neomm_space *space, const struct neomm__cost *less)
{
    space->virtual_pages -= less->pages;
    space->locked_pages -= less->locked;
    if (less->committed != 0)
        (void)neomm__fetch_sub(&root->vmm->committed, (size_t)less->committed);
}
