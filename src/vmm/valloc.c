/* Kernel memory by pages in the window.
 * SPDX-License-Identifier: MIT
 *
 *   window   ... | page | page | page | guard | ...
 *                   |      |      |
 *   frames         any    any    any       kind VALLOC
 *
 * The range's tag in the window says that it is valloc's, with which rights, and whether its pages
 * come when they are touched.
 */
#include "vmm/vmm_priv.h"

#define BATCH 32u

static void release_frame(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct neomm *root = context;
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    (void)vaddr;
    neomm__frame(root, frame)->kind = NEOMM__KIND_NONE;
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static void unback(struct neomm *root, neomm_vaddr_t vaddr, size_t size)
{
    neomm_status status =
        neomm_paging_unmap(root, neomm_paging_kernel(root), vaddr, size, release_frame, root, NULL);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static neomm_status back_batch(struct neomm *root, neomm_vaddr_t vaddr, uint32_t pages,
                               neomm_prot_t prot)
{
    neomm_frame_t frames[BATCH];
    uint32_t done;
    neomm_status status = neomm_pmm_alloc_bulk(root, pages, NEOMM_ZERO | NEOMM_HIGH, frames);
    if (status != NEOMM_OK)
        return status;
    for (uint32_t i = 0; i < pages; i++)
        neomm__frame(root, frames[i])->kind = NEOMM__KIND_VALLOC;
    status = neomm_paging_map_frames(root, neomm_paging_kernel(root), vaddr, frames, pages, prot);
    if (status == NEOMM_OK)
        return NEOMM_OK;
    for (uint32_t i = 0; i < pages; i++)
        neomm__frame(root, frames[i])->kind = NEOMM__KIND_NONE;
    neomm_status freed = neomm_pmm_free_bulk(root, pages, frames, &done);
    NEOMM__ASSERT(freed == NEOMM_OK);
    return status;
}

static neomm_status back(struct neomm *root, neomm_vaddr_t vaddr, size_t size, neomm_prot_t prot)
{
    for (size_t at = 0; at < size;) {
        size_t left = (size - at) >> NEOMM_PAGE_SHIFT;
        uint32_t pages = left < BATCH ? (uint32_t)left : BATCH;
        neomm_status status = back_batch(root, vaddr + at, pages, prot);
        if (status != NEOMM_OK) {
            if (at > 0)
                unback(root, vaddr, at);
            return status;
        }
        at += (size_t)pages << NEOMM_PAGE_SHIFT;
    }
    return NEOMM_OK;
}

/* ---- ranges ---- */

/* Tags of ranges in the window: rights, and */
#define TAG_VALLOC 0x08u /* it is valloc's */
#define TAG_LAZY   0x10u /* pages come when they are touched */
#define TAG_PROT   0x07u

static bool is_right(neomm_prot_t prot)
{
    return prot != NEOMM_PROT_NONE && (prot & ~TAG_PROT) == 0 &&
           !((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC));
}

void *neomm_valloc_aligned(struct neomm *root, size_t size, size_t align, neomm_prot_t prot,
                           unsigned flags)
{
    neomm_vaddr_t vaddr;
    bool lazy = flags & NEOMM_VALLOC_LAZY;
    uint32_t tag = TAG_VALLOC | (lazy ? TAG_LAZY : 0) | (uint32_t)prot;
    if (!root->vmm || size == 0 || size > PTRDIFF_MAX || !is_right(prot) ||
        (flags & ~NEOMM_VALLOC_LAZY))
        return NULL;
    size = NEOMM__ALIGN_UP(size, NEOMM_PAGE_SIZE);
    align = align < NEOMM_PAGE_SIZE ? NEOMM_PAGE_SIZE : align;
    if (neomm_window_alloc_aligned(root, size, align, tag, &vaddr) != NEOMM_OK)
        return NULL;
    if (!lazy && back(root, vaddr, size, prot) != NEOMM_OK) {
        (void)neomm_window_free(root, vaddr);
        return NULL;
    }
    (void)neomm__fetch_add(&root->vmm->vallocs, 1);
    return neomm_window_pointer(root, vaddr);
}

void *neomm_valloc(struct neomm *root, size_t size, neomm_prot_t prot)
{
    return neomm_valloc_aligned(root, size, NEOMM_PAGE_SIZE, prot, 0);
}

/* Who frees it takes the tag away first: of two, one does, and a touch that comes too late finds
 * nobody's range. What one before has mapped meanwhile is taken in another round. */
neomm_status neomm_vfree(struct neomm *root, void *pointer)
{
    neomm_vaddr_t base;
    size_t size;
    uint32_t tag;
    neomm_status status;
    if (!pointer)
        return NEOMM_OK;
    neomm_vaddr_t vaddr = neomm_window_vaddr(root, pointer);
    if (!vaddr || neomm_window_find(root, vaddr, &base, &size, &tag) != NEOMM_OK || base != vaddr ||
        !(tag & TAG_VALLOC) || neomm_window_retag(root, vaddr, tag, 0) != NEOMM_OK)
        return NEOMM_E_NOENT;
    do {
        unback(root, vaddr, size);
        status = neomm_window_free(root, vaddr);
    } while (status == NEOMM_E_BUSY);
    (void)neomm__fetch_sub(&root->vmm->vallocs, 1);
    return status;
}

/* ---- first touches ---- */

static bool permits(neomm_prot_t prot, uint32_t error)
{
    neomm_prot_t wanted = error & NEOMM_PF_WRITE   ? NEOMM_PROT_WRITE
                          : error & NEOMM_PF_FETCH ? NEOMM_PROT_EXEC
                                                   : prot;
    return (prot & wanted) != 0;
}

/* NEOMM_E_AGAIN: another CPU was faster. */
static neomm_status map_frame(struct neomm *root, neomm_vaddr_t page, neomm_frame_t frame,
                              neomm_prot_t prot)
{
    const struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    const struct neomm_mapping next = {.state = NEOMM_MAPPING_PRESENT,
                                       .prot = prot,
                                       .paddr = neomm_frame_paddr(frame),
                                       .size = NEOMM_PAGE_SIZE,
                                       .accessed = true,
                                       .dirty = true};
    neomm__frame(root, frame)->kind = NEOMM__KIND_VALLOC;
    neomm_status status =
        neomm_paging_exchange(root, neomm_paging_kernel(root), page, &none, &next, NULL);
    if (status != NEOMM_OK)
        neomm__frame(root, frame)->kind = NEOMM__KIND_NONE;
    return status;
}

static neomm_status back_page(struct neomm *root, neomm_vaddr_t page, neomm_prot_t prot)
{
    neomm_frame_t frame;
    neomm_status status = NEOMM__FAULT(VMM_FRAME)
                              ? NEOMM_E_NOMEM
                              : neomm_pmm_alloc(root, 0, NEOMM_ZERO | NEOMM_HIGH, &frame);
    if (status != NEOMM_OK)
        return status;
    status = map_frame(root, page, frame, prot);
    if (status == NEOMM_OK)
        return status;
    neomm_status freed = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(freed == NEOMM_OK);
    return status == NEOMM_E_AGAIN ? NEOMM_OK : status;
}

enum neomm_fault_outcome neomm_kernel_fault(struct neomm *root, neomm_vaddr_t address,
                                            uint32_t error, bool can_wait)
{
    neomm_vaddr_t base;
    size_t size;
    uint32_t tag;
    unsigned attempt = 0;
    neomm_status status;
    if (!root->vmm || !neomm_window_pointer(root, address) ||
        neomm_window_find(root, address, &base, &size, &tag) != NEOMM_OK || !(tag & TAG_LAZY))
        return NEOMM_FAULT_SEGV;
    if (!can_wait || !permits(tag & TAG_PROT, error))
        return NEOMM_FAULT_ACCESS;
    neomm__lock_assert_none("valloc: the first touch of a lazy page, and a lock is held");
    do
        status = back_page(root, NEOMM__ALIGN_DOWN(address, NEOMM_PAGE_SIZE), tag & TAG_PROT);
    while (neomm__retry_after_reclaim(root, status, &attempt));
    return status == NEOMM_OK ? NEOMM_FAULT_RESOLVED : NEOMM_FAULT_NOMEM;
}
