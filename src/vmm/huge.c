/* Huge pages: blocks of frames that one leaf of the page tables maps.
 * SPDX-License-Identifier: MIT
 *
 * The block is split into single frames as it is mapped, and each has its own descriptor:
 *
 *   leaf of 2 MiB  ->  frame 0    frame 1    ...    frame 511
 *                      (space, page 0)  ...         (space, page 511)    mapping sets
 *                      policy, references, flags: each its own
 *
 * So nothing but the walks over leaves has to know of it: what deals with a part splits the leaf,
 * and finds small ones that look as if they had always been there. Small leaves never become huge.
 */
#include "vmm/tally.h"

/* ---- walks ---- */

struct walk {
    neomm_vaddr_t first, last;
    neomm_leaf_fn *visit;
    void *context;
};

static void visit_pages(const struct walk *walk, neomm_vaddr_t vaddr,
                        const struct neomm_mapping *leaf)
{
    struct neomm_mapping page = *leaf;
    page.size = NEOMM_PAGE_SIZE;
    for (size_t at = 0; at < leaf->size; at += NEOMM_PAGE_SIZE)
        if (vaddr + at >= walk->first && vaddr + at <= walk->last) {
            page.paddr = leaf->paddr + at;
            walk->visit(walk->context, vaddr + at, &page);
        }
}

static void visit_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    const struct walk *walk = context;
    if (leaf->size > NEOMM_PAGE_SIZE)
        visit_pages(walk, vaddr, leaf);
    else
        walk->visit(walk->context, vaddr, leaf);
}

neomm_status neomm__walk(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                         size_t size, neomm_leaf_fn *visit, void *context)
{
    struct walk walk = {vaddr, vaddr + (size - 1), visit, context};
    return neomm_paging_walk(root, &space->tables, vaddr, size, visit_leaf, &walk);
}

void neomm__leaf_pages(neomm_vaddr_t vaddr, const struct neomm_mapping *leaf, neomm_leaf_fn *visit,
                       void *context)
{
    struct walk walk = {vaddr, vaddr + (leaf->size - 1), visit, context};
    visit_leaf(&walk, vaddr, leaf);
}

neomm_status neomm__leaves_part(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                neomm_vaddr_t end)
{
    if (neomm__load_acquire(&space->huge) == 0)
        return NEOMM_OK;
    return neomm_paging_split(root, &space->tables, start, end - start);
}

static void pass(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)context;
    (void)vaddr;
    (void)leaf;
}

void neomm__leaf_settle(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page)
{
    (void)neomm_paging_walk(root, &space->tables, page, NEOMM_PAGE_SIZE, pass, NULL);
}

/* ---- first touch ---- */

static bool is_allowed(const struct neomm__vmm *vmm, const struct neomm__region *region)
{
    if (vmm->huge == NEOMM_HUGE_NEVER || (region->flags & NEOMM__REGION_NOHUGE))
        return false;
    return vmm->huge == NEOMM_HUGE_ALWAYS || (region->flags & NEOMM__REGION_HUGE);
}

bool neomm__huge_fits(struct neomm *root, const struct neomm_space *space,
                      const struct neomm__region *region, neomm_vaddr_t page,
                      const struct neomm_mapping *none, bool write)
{
    const struct neomm__vmm *vmm = root->vmm;
    if (!is_allowed(vmm, region))
        return false;
    size_t size = neomm_paging_large_size(root);
    neomm_vaddr_t start = NEOMM__ALIGN_DOWN(page, size);
    uint64_t limit = space->limits.resident_bytes >> NEOMM_PAGE_SHIFT,
             pages = (uint64_t)neomm__resident(root, space);
    if (size == 0 || none->size < size || start < region->start || region->end - start < size)
        return false;
    bool zero = !write && !neomm_frame_is_nil(vmm->zero) && !(region->flags & NEOMM__REGION_HUGE);
    return !zero && pages + (size >> NEOMM_PAGE_SHIFT) <= limit;
}

static unsigned huge_order(const struct neomm *root)
{
    return neomm__log2_up(neomm_paging_large_size(root) >> NEOMM_PAGE_SHIFT);
}

neomm_status neomm__huge_alloc(struct neomm *root, neomm_frame_t *block)
{
    const neomm_flags_t flags = NEOMM_HIGH | NEOMM_MOVABLE | NEOMM_NORECLAIM | NEOMM_ZERO;
    *block = neomm_frame(0);
    return NEOMM__FAULT(VMM_HUGE) ? NEOMM_E_NOMEM
                                  : neomm_pmm_alloc(root, huge_order(root), flags, block);
}

void neomm__huge_free(struct neomm *root, neomm_frame_t block)
{
    neomm_status status = neomm_pmm_free(root, block, huge_order(root));
    NEOMM__ASSERT(status == NEOMM_OK);
}

/* Single frames, each mapped by its page of the space, that nobody else knows. */
static void claim(struct neomm *root, const struct neomm_space *space, neomm_frame_t block,
                  neomm_vaddr_t start, uint32_t frames)
{
    struct neomm__frame *entry = neomm__frame(root, block);
    uint64_t mapping = neomm__mapping_make(space->index, start);
    neomm_status status = neomm_pmm_split(root, block, huge_order(root));
    NEOMM__ASSERT(status == NEOMM_OK);
    for (uint32_t i = 0; i < frames; i++) {
        entry[i].kind = NEOMM__KIND_USER;
        entry[i].mapping = mapping + i;
        entry[i].flags |= NEOMM__FRAME_DIRTY;
        neomm__store_release(&entry[i].mappings, 1);
    }
}

static void unclaim(struct neomm *root, neomm_frame_t block, uint32_t frames)
{
    struct neomm__frame *entry = neomm__frame(root, block);
    for (uint32_t i = 0; i < frames; i++) {
        entry[i].kind = NEOMM__KIND_NONE;
        entry[i].mapping = 0;
        neomm__store_release(&entry[i].mappings, 0);
    }
    neomm_status status = neomm_pmm_free_range(root, block, frames);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static void enter_policy(struct neomm *root, struct neomm_space *space, neomm_frame_t block,
                         uint32_t frames)
{
    struct neomm_policy *policy = neomm__space_policy(root, space);
    struct neomm__frame *entry = neomm__frame(root, block);
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm__newcomers_enter(root);
    for (uint32_t i = 0; i < frames; i++) {
        neomm__frame_set(&entry[i], NEOMM__FRAME_POLICY);
        policy->ops->enter(policy, neomm_frame(block.number + i));
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
}

neomm_status neomm__huge_map(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page,
                             neomm_frame_t block, neomm_prot_t prot)
{
    size_t size = neomm_paging_large_size(root);
    uint32_t frames = (uint32_t)(size >> NEOMM_PAGE_SHIFT);
    neomm_vaddr_t start = NEOMM__ALIGN_DOWN(page, size);
    claim(root, space, block, start, frames);
    neomm__store_release(&space->huge, 1);
    neomm_status status = neomm_paging_map(root, &space->tables, start, neomm_frame_paddr(block),
                                           size, prot, NEOMM_CACHE_WB, NEOMM_MAP_NULL);
    if (status != NEOMM_OK) {
        unclaim(root, block, frames);
        return status;
    }
    neomm__resident_add(space, frames);
    enter_policy(root, space, block, frames);
    return NEOMM_OK;
}
