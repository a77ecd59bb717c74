/* Regions that grow by themselves: the heap of a process by brk, stacks by faults.
 * SPDX-License-Identifier: MIT */
#include "vmm/object.h"

/* ---- brk ---- */

static neomm_vaddr_t page_up(neomm_vaddr_t vaddr)
{
    return NEOMM__ALIGN_UP(vaddr, NEOMM_PAGE_SIZE);
}

neomm_status neomm_brk_set(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start)
{
    neomm_status status = NEOMM_OK;
    if (!neomm__is_user_range(root, start, NEOMM_PAGE_SIZE))
        return NEOMM_E_RANGE;
    neomm__mutex_lock(&space->lock);
    if (space->heap_end > page_up(space->heap_start))
        status = NEOMM_E_BUSY;
    else
        space->heap_start = space->heap_end = start;
    neomm__mutex_unlock(&space->lock);
    return status;
}

static neomm_status heap_grows(struct neomm *root, struct neomm_space *space, neomm_vaddr_t from,
                               neomm_vaddr_t to)
{
    const struct neomm__region *next = neomm__region_first(&space->map, from);
    const neomm_prot_t prot = NEOMM_PROT_READ | NEOMM_PROT_WRITE;
    struct neomm__region like = {.start = from, .end = to, .prot = prot};
    struct neomm__cost more = {0, 0, 0}, none = {0, 0, 0};
    if (next && next->floor < to)
        return NEOMM_E_EXISTS;
    like.flags = neomm__region_commits(space->lock_future, prot);
    neomm__cost_add(&more, (to - from) >> NEOMM_PAGE_SHIFT, like.flags);
    neomm_status status = neomm__regions_reserve(root, &space->map, 1);
    if (status == NEOMM_OK)
        status = neomm__charge(root, space, &more, &none);
    if (status == NEOMM_OK)
        neomm__range_add(space, &like);
    return status;
}

static neomm_status brk_locked(struct neomm *root, struct neomm_space *space, neomm_vaddr_t end)
{
    neomm_status status = NEOMM_OK;
    neomm_vaddr_t from = page_up(space->heap_end), to = page_up(end);
    if (space->heap_start == 0)
        return NEOMM_E_NOENT;
    if (end < space->heap_start || end > root->layout.user_limit)
        return NEOMM_E_RANGE;
    if (to > from)
        status = heap_grows(root, space, from, to);
    if (to < from) {
        status = neomm__regions_reserve(root, &space->map, 2);
        if (status == NEOMM_OK)
            status = neomm__range_clear(root, space, to, from);
    }
    if (status == NEOMM_OK)
        space->heap_end = end;
    return status;
}

/* Both calls: the end is `end`, or as far as `change` from where it is. */
static neomm_status move_end(struct neomm *root, struct neomm_space *space, neomm_vaddr_t end,
                             const intptr_t *change, neomm_vaddr_t *before, neomm_vaddr_t *now)
{
    unsigned attempt = 0;
    neomm_status status;
    neomm_vaddr_t from = 0, to = 0;
    bool populate = false;
    do {
        neomm__mutex_lock(&space->lock);
        *before = from = space->heap_end;
        to = change ? from + (neomm_vaddr_t)*change : end;
        bool wraps = change && (*change < 0 ? to > from : to < from);
        status = wraps ? NEOMM_E_RANGE : brk_locked(root, space, to);
        *now = space->heap_end;
        populate = status == NEOMM_OK && space->lock_now;
    } while (neomm__unlock_and_retry(root, space, status, &attempt));
    if (populate)
        (void)neomm__populate(root, space, page_up(from), page_up(to), true);
    return status;
}

neomm_status neomm_brk(struct neomm *root, struct neomm_space *space, neomm_vaddr_t end,
                       neomm_vaddr_t *now)
{
    neomm_vaddr_t before, after;
    neomm_status status = move_end(root, space, end, NULL, &before, &after);
    if (now)
        *now = after;
    return status;
}

neomm_status neomm_sbrk(struct neomm *root, struct neomm_space *space, intptr_t change,
                        neomm_vaddr_t *before)
{
    neomm_vaddr_t old, after;
    neomm_status status = move_end(root, space, 0, &change, &old, &after);
    if (before)
        *before = old;
    return status;
}

/* ---- stacks ---- */

bool neomm__stack_grow(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page)
{
    struct neomm__region_place place = neomm__region_place(&space->map, page);
    struct neomm__region *stack = neomm__region_at(place);
    const struct neomm__region *below = neomm__region_before(&space->map, place);
    struct neomm__cost more = {0, 0, 0}, none = {0, 0, 0};
    if (!stack || !(stack->flags & NEOMM__REGION_STACK) || stack->start <= page ||
        stack->start - page > NEOMM_STACK_GUARD || !neomm__is_user_range(root, page, 0))
        return false;
    neomm_vaddr_t lowest = below ? below->end : 0;
    if (page < lowest || (below && page - lowest < NEOMM_STACK_GUARD))
        return false;
    neomm__cost_add(&more, (stack->start - page) >> NEOMM_PAGE_SHIFT, stack->flags);
    if (neomm__charge(root, space, &more, &none) != NEOMM_OK)
        return false;
    neomm_vaddr_t floor = page > lowest + NEOMM_STACK_GUARD ? page - NEOMM_STACK_GUARD : lowest;
    neomm__region_close(stack);
    neomm__region_tree_move(&space->map, stack, floor, page, stack->end);
    neomm__region_open(stack);
    return true;
}
