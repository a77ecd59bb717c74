/* Fork: a second space with the same regions and, until one of the two writes, the same pages.
 * SPDX-License-Identifier: MIT
 *
 * The parent is locked and the region that is copied closed, so nobody faults in it; eviction goes
 * on, but leaves the child alone until its tables are filled (`filling`). They are filled a table
 * of leaves at a time:
 *
 *   tables locked:  leaf loses WRITE -> the child's leaf -> (child, page) into the frame's set
 *
 * Where a set cannot grow, what the child has got from there on is taken out again without having
 * counted: nobody has used it. The whole child is undone then.
 */
#include "swap/remove.h"
#include "vmm/tally.h"

struct fork {
    struct neomm *root;
    struct neomm_space *parent, *child;
    neomm_status status;
    neomm_vaddr_t failed; /* the first leaf that did not count, where the status is an error */
    bool pinned;          /* a leaf leads to a frame that is pinned */
    size_t resident;      /* leaves of the child that are not counted yet */
};

static neomm_status count_leaf(struct fork *fork, neomm_vaddr_t vaddr,
                               const struct neomm_mapping *leaf)
{
    struct neomm *root = fork->root;
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    if (leaf->state == NEOMM_MAPPING_SWAPPED) {
        neomm_status status = neomm_swap_dup(root, leaf->swap);
        if (status == NEOMM_OK)
            neomm__bump(&fork->child->swap_pages);
        return status;
    }
    if (frame.number == root->vmm->zero.number)
        return NEOMM_OK;
    const struct neomm__frame *entry = neomm__frame(root, frame);
    fork->pinned |= !neomm__frame_is_object(entry) && neomm__frame_pins(entry) != 0;
    neomm_status status = neomm__user_frame_share(root, fork->parent, fork->child, frame, vaddr);
    fork->resident += status == NEOMM_OK;
    return status;
}

static void share_page(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct fork *fork = context;
    if (fork->status != NEOMM_OK)
        return;
    fork->status = count_leaf(fork, vaddr, leaf);
    fork->failed = vaddr;
}

/* Where it is not all of a huge leaf that counts, none of it does. */
static void share_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct fork *fork = context;
    if (fork->status != NEOMM_OK)
        return;
    if (leaf->size == NEOMM_PAGE_SIZE) {
        share_page(fork, vaddr, leaf);
        return;
    }
    neomm__leaf_pages(vaddr, leaf, share_page, fork);
    if (fork->status == NEOMM_OK)
        return;
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    for (neomm_vaddr_t at = vaddr; at < fork->failed; at += NEOMM_PAGE_SIZE, frame.number++)
        neomm__user_frame_leave(fork->root, fork->child, frame, at, false, NULL);
    fork->failed = vaddr;
}

/* ---- pinned pages ---- */

struct pinned {
    struct neomm *root;
    neomm_vaddr_t vaddr;
    struct neomm_mapping leaf; /* state NONE: not found yet */
};

static void find_pinned(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct pinned *pinned = context;
    const struct neomm__frame *entry = neomm__frame(pinned->root, neomm_paddr_frame(leaf->paddr));
    if (pinned->leaf.state != NEOMM_MAPPING_NONE || leaf->state != NEOMM_MAPPING_PRESENT ||
        !neomm__frame_is_user(entry) || neomm__frame_is_object(entry) ||
        neomm__frame_pins(entry) == 0)
        return;
    pinned->vaddr = vaddr;
    pinned->leaf = *leaf;
}

/* The child gets a copy, the parent has the page for itself again, and may write as before. */
static neomm_status replace_pinned(struct fork *fork, const struct pinned *pinned,
                                   neomm_frame_t copy)
{
    struct neomm *root = fork->root;
    struct neomm_space *parent = fork->parent, *child = fork->child;
    neomm_frame_t frame = neomm_paddr_frame(pinned->leaf.paddr);
    neomm_vaddr_t vaddr = pinned->vaddr;
    struct neomm_mapping next = pinned->leaf, leaf;
    neomm_status status = neomm__leaves_part(root, parent, vaddr, vaddr + NEOMM_PAGE_SIZE);
    if (status == NEOMM_OK)
        status = neomm__leaves_part(root, child, vaddr, vaddr + NEOMM_PAGE_SIZE);
    if (status == NEOMM_OK)
        status = neomm__user_frame_copy(root, copy, frame);
    if (status != NEOMM_OK)
        return status;
    next.paddr = neomm_frame_paddr(copy);
    neomm__user_frame_claim(root, child, copy, vaddr, NEOMM__FRAME_DIRTY);
    status = neomm_paging_exchange(root, &child->tables, vaddr, &pinned->leaf, &next, NULL);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__user_frame_leave(root, child, frame, vaddr, false, NULL);
    neomm__user_frame_enter(root, child, copy, false);
    const struct neomm__region *region = neomm__region_find(&parent->map, vaddr);
    status = neomm_paging_query(root, &parent->tables, vaddr, &leaf);
    NEOMM__ASSERT(status == NEOMM_OK && leaf.paddr == pinned->leaf.paddr && region);
    next = leaf;
    next.prot = region->prot;
    return neomm_paging_exchange(root, &parent->tables, vaddr, &leaf, &next, NULL);
}

static neomm_status copy_pinned(struct fork *fork, neomm_vaddr_t vaddr, size_t size)
{
    struct neomm *root = fork->root;
    for (;;) {
        struct pinned pinned = {.root = root, .leaf = {.state = NEOMM_MAPPING_NONE}};
        neomm_frame_t copy;
        (void)neomm__walk(root, fork->child, vaddr, size, find_pinned, &pinned);
        if (pinned.leaf.state == NEOMM_MAPPING_NONE)
            return NEOMM_OK;
        neomm_status status =
            NEOMM__FAULT(VMM_FRAME)
                ? NEOMM_E_NOMEM
                : neomm_pmm_alloc(root, 0, NEOMM_HIGH | NEOMM_MOVABLE | NEOMM_NORECLAIM, &copy);
        if (status != NEOMM_OK)
            return status;
        status = replace_pinned(fork, &pinned, copy);
        if (status != NEOMM_OK) {
            neomm__user_frame_put(root, copy);
            return status;
        }
    }
}

/* ---- all leaves ---- */

/* The part of the range that one table of leaves covers. */
static neomm_status copy_part(struct fork *fork, neomm_vaddr_t vaddr, size_t size)
{
    struct neomm *root = fork->root;
    neomm_status status = neomm_paging_copy(root, &fork->parent->tables, &fork->child->tables,
                                            vaddr, size, share_leaf, fork);
    neomm__resident_add(fork->child, fork->resident);
    fork->resident = 0;
    if (status != NEOMM_OK)
        return status;
    if (fork->status != NEOMM_OK) {
        status = neomm_paging_unmap(root, &fork->child->tables, fork->failed,
                                    size - (fork->failed - vaddr), NULL, NULL, NULL);
        NEOMM__ASSERT(status == NEOMM_OK);
    } else if (fork->pinned) {
        fork->pinned = false;
        fork->status = copy_pinned(fork, vaddr, size);
    }
    return fork->status;
}

/* From one entry of the tables to the next; where there is nothing these are large. */
static neomm_status copy_range(struct fork *fork, neomm_vaddr_t start, neomm_vaddr_t end)
{
    struct neomm *root = fork->root;
    size_t table = root->layout.format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20 : (size_t)2 << 20;
    neomm_status status = NEOMM_OK;
    for (neomm_vaddr_t at = start, next; at < end && status == NEOMM_OK; at = next) {
        struct neomm_mapping leaf;
        status = neomm_paging_query(root, &fork->parent->tables, at, &leaf);
        if (status != NEOMM_OK)
            break;
        size_t size = leaf.size < table ? table : leaf.size;
        next = NEOMM__ALIGN_DOWN(at, size) + size;
        if (next > end || next < at)
            next = end;
        if (leaf.state != NEOMM_MAPPING_NONE || leaf.size < table)
            status = copy_part(fork, at, next - at);
    }
    return status;
}

/* ---- regions ---- */

/* What is mapped physically is the same memory in both, not a copy of it. */
static neomm_status map_physical(struct fork *fork, const struct neomm__region *region)
{
    struct neomm_mapping leaf;
    neomm_status status =
        neomm_paging_query(fork->root, &fork->parent->tables, region->start, &leaf);
    if (status != NEOMM_OK)
        return status;
    return neomm_paging_map(fork->root, &fork->child->tables, region->start, leaf.paddr,
                            region->end - region->start, region->prot, leaf.cache,
                            NEOMM_MAP_SMALL | NEOMM_MAP_NULL);
}

/* Locks on memory are not inherited. */
static neomm_status copy_region(struct fork *fork, struct neomm__region *region)
{
    struct neomm_space *child = fork->child;
    struct neomm__cost more = {0, 0, 0}, none = {0, 0, 0};
    uint32_t flags = region->flags & ~NEOMM__REGION_LOCKED;
    neomm__cost_add(&more, (region->end - region->start) >> NEOMM_PAGE_SHIFT, flags);
    neomm_status status = neomm__regions_reserve(fork->root, &child->map, 1);
    if (status == NEOMM_OK)
        status = neomm__charge(fork->root, child, &more, &none);
    if (status != NEOMM_OK)
        return status;
    struct neomm__region *copy = neomm__region_take(&child->map);
    copy->start = region->start;
    copy->end = region->end;
    copy->floor = region->floor;
    copy->prot = region->prot;
    copy->flags = flags;
    copy->object = region->object;
    copy->offset = region->offset;
    neomm__region_add(&child->map, copy);
    if (flags & NEOMM__REGION_PHYSICAL)
        return map_physical(fork, region);
    /* The child faults an object's pages in by itself. */
    if (flags & NEOMM__REGION_SHARED)
        return NEOMM_OK;
    neomm__region_close(region);
    neomm__store_release(&child->huge, neomm__load_acquire(&fork->parent->huge));
    status = copy_range(fork, region->start, region->end);
    neomm__region_open(region);
    return status;
}

static neomm_status copy_regions(struct fork *fork)
{
    neomm_status status = NEOMM_OK;
    struct neomm__region_place place = neomm__region_place(&fork->parent->map, 0);
    struct neomm__region *region = neomm__region_at(place);
    for (; region && status == NEOMM_OK; region = neomm__region_next(&place))
        status = copy_region(fork, region);
    return status;
}

/* What calls on the child go by later. */
static void copy_state(struct fork *fork)
{
    const struct neomm_space *parent = fork->parent;
    struct neomm_space *child = fork->child;
    child->random = parent->random;
    child->oom_bias = neomm__load_acquire(&parent->oom_bias);
    memcpy(child->name, parent->name, sizeof(child->name));
    child->heap_start = parent->heap_start;
    child->heap_end = parent->heap_end;
}

static neomm_status fork_once(struct neomm *root, struct neomm_space *parent,
                              struct neomm_space **child)
{
    struct fork fork = {.root = root, .parent = parent};
    if (neomm__is_victim(parent))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_space_create(root, &parent->limits, &fork.child);
    if (status != NEOMM_OK)
        return status;
    neomm__store_release(&fork.child->filling, 1);
    neomm__mutex_lock(&parent->lock);
    copy_state(&fork);
    status = copy_regions(&fork);
    neomm__mutex_unlock(&parent->lock);
    neomm__store_release(&fork.child->filling, 0);
    neomm__swap_stir(root);
    if (status == NEOMM_OK) {
        *child = fork.child;
    } else {
        neomm_status undone = neomm_space_destroy(root, fork.child);
        NEOMM__ASSERT(undone == NEOMM_OK);
    }
    return status;
}

neomm_status neomm_space_fork(struct neomm *root, struct neomm_space *parent,
                              struct neomm_space **child)
{
    neomm_status status;
    unsigned attempt = 0;
    do
        status = fork_once(root, parent, child);
    while (neomm__retry_after_reclaim(root, status, &attempt));
    return status;
}
