/* Kernel memory by pages in the window.
 * SPDX-License-Identifier: MIT
 *
 *   window   ... | page | page | page | guard | ...
 *                   |      |      |
 *   frames         any    any    any       kind VALLOC: what vfree accepts
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

void *neomm_valloc(struct neomm *root, size_t size, neomm_prot_t prot)
{
    neomm_vaddr_t vaddr;
    if (!root->vmm || size == 0 || size > PTRDIFF_MAX || prot == NEOMM_PROT_NONE)
        return NULL;
    if ((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC))
        return NULL;
    size = NEOMM__ALIGN_UP(size, NEOMM_PAGE_SIZE);
    if (neomm_window_alloc(root, size, &vaddr) != NEOMM_OK)
        return NULL;
    if (back(root, vaddr, size, prot) != NEOMM_OK) {
        (void)neomm_window_free(root, vaddr);
        return NULL;
    }
    (void)neomm__fetch_add(&root->vmm->vallocs, 1);
    return neomm_window_pointer(root, vaddr);
}

neomm_status neomm_vfree(struct neomm *root, void *pointer)
{
    struct neomm_mapping leaf;
    if (!pointer)
        return NEOMM_OK;
    neomm_vaddr_t vaddr = neomm_window_vaddr(root, pointer);
    size_t size = vaddr ? neomm_window_size(root, vaddr) : 0;
    if (size == 0 ||
        neomm_paging_query(root, neomm_paging_kernel(root), vaddr, &leaf) != NEOMM_OK ||
        leaf.state != NEOMM_MAPPING_PRESENT)
        return NEOMM_E_NOENT;
    const struct neomm__frame *first = neomm__frame(root, neomm_paddr_frame(leaf.paddr));
    if (!first || first->kind != NEOMM__KIND_VALLOC)
        return NEOMM_E_NOENT;
    unback(root, vaddr, size);
    (void)neomm__fetch_sub(&root->vmm->vallocs, 1);
    return neomm_window_free(root, vaddr);
}
