/* The page source over the kernel window: separate frames, made contiguous by mapping them.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

#include <neomm/paging.h>
#include <neomm/pmm.h>

/* Frames that are taken and mapped in one step. */
#define BATCH 64u

#define RIGHTS (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

/* Called when the page is out of every TLB. */
static void release_frame(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)vaddr;
    neomm_status status = neomm_pmm_free(context, neomm_paddr_frame(leaf->paddr), 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

/* `released` NULL: the frames stay somebody's. */
static void unmap(struct neomm *root, neomm_vaddr_t vaddr, uint32_t pages, neomm_leaf_fn *released)
{
    if (pages == 0)
        return;
    neomm_status status = neomm_paging_unmap(root, neomm_paging_kernel(root), vaddr,
                                             pages * NEOMM_PAGE_SIZE, released, root, NULL);
    NEOMM__ASSERT(status == NEOMM_OK);
}

/* Backs `pages` pages, at most BATCH, from vaddr with fresh frames. */
static neomm_status back(struct neomm *root, neomm_vaddr_t vaddr, uint32_t pages,
                         neomm_flags_t flags)
{
    neomm_frame_t frames[BATCH];
    neomm_status status = neomm_pmm_alloc_bulk(root, pages, flags | NEOMM_HIGH, frames);
    if (status != NEOMM_OK)
        return status;
    status = neomm_paging_map_frames(root, neomm_paging_kernel(root), vaddr, frames, pages, RIGHTS);
    if (status != NEOMM_OK)
        (void)neomm_pmm_free_bulk(root, pages, frames, NULL);
    return status;
}

/* Maps the frames of `count` pages, at most BATCH, of one range in another as well. */
static neomm_status map_again(struct neomm *root, neomm_vaddr_t from, neomm_vaddr_t to,
                              uint32_t count)
{
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    neomm_frame_t frames[BATCH];
    for (uint32_t i = 0; i < count; i++) {
        struct neomm_mapping mapping;
        neomm_status status =
            neomm_paging_query(root, kernel, from + i * NEOMM_PAGE_SIZE, &mapping);
        if (status != NEOMM_OK || mapping.state != NEOMM_MAPPING_PRESENT)
            return NEOMM_E_UNSUPPORTED; /* a page without access has no frame to be seen */
        frames[i] = neomm_paddr_frame(mapping.paddr);
    }
    return neomm_paging_map_frames(root, kernel, to, frames, count, RIGHTS);
}

/* Gives the pages [done, pages) of a range fresh frames or, if `from` is not 0, those of the same
 * pages of that range as well. On failure none of them has any. */
static neomm_status map_all(struct neomm *root, neomm_vaddr_t vaddr, neomm_vaddr_t from,
                            uint32_t done, uint32_t pages, neomm_flags_t flags)
{
    neomm_status status = NEOMM_OK;
    uint32_t first = done;
    while (done < pages && status == NEOMM_OK) {
        uint32_t count = pages - done < BATCH ? pages - done : BATCH;
        size_t at = done * NEOMM_PAGE_SIZE;
        status = from ? map_again(root, from + at, vaddr + at, count)
                      : back(root, vaddr + at, count, flags);
        if (status == NEOMM_OK)
            done += count;
    }
    if (status != NEOMM_OK)
        unmap(root, vaddr + first * NEOMM_PAGE_SIZE, done - first, from ? NULL : release_frame);
    return status;
}

static neomm_status window_alloc(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                                 void **run)
{
    struct neomm *root = context;
    neomm_vaddr_t vaddr;
    size_t bytes;
    if (align > 1)
        return NEOMM_E_UNSUPPORTED;
    if (__builtin_mul_overflow(pages, NEOMM_PAGE_SIZE, &bytes))
        return NEOMM_E_NOSPACE;
    neomm_status status = neomm_window_alloc(root, bytes, &vaddr);
    if (status != NEOMM_OK)
        return status;
    status = map_all(root, vaddr, 0, 0, pages, flags);
    if (status != NEOMM_OK)
        (void)neomm_window_free(root, vaddr);
    else
        *run = neomm_window_pointer(root, vaddr);
    return status;
}

static void window_free(void *context, void *run, uint32_t pages)
{
    struct neomm *root = context;
    neomm_vaddr_t vaddr = neomm_window_vaddr(root, run);
    unmap(root, vaddr, pages, release_frame);
    neomm_status status = neomm_window_free(root, vaddr);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static neomm_status window_grow(void *context, void *run, uint32_t pages, uint32_t new_pages,
                                neomm_flags_t flags)
{
    struct neomm *root = context;
    neomm_vaddr_t vaddr = neomm_window_vaddr(root, run);
    size_t bytes;
    if (__builtin_mul_overflow(new_pages, NEOMM_PAGE_SIZE, &bytes))
        return NEOMM_E_NOSPACE;
    neomm_status status = neomm_window_resize(root, vaddr, bytes);
    if (status != NEOMM_OK)
        return status;
    status = map_all(root, vaddr, 0, pages, new_pages, flags);
    if (status != NEOMM_OK)
        (void)neomm_window_resize(root, vaddr, pages * NEOMM_PAGE_SIZE);
    return status;
}

/* ---- moving ---- */

/* Whatever may fail comes before the old addresses go. */
static neomm_status window_move(void *context, void *run, uint32_t pages, uint32_t new_pages,
                                neomm_flags_t flags, void **new_run)
{
    struct neomm *root = context;
    neomm_vaddr_t from = neomm_window_vaddr(root, run), to;
    size_t bytes;
    if (__builtin_mul_overflow(new_pages, NEOMM_PAGE_SIZE, &bytes))
        return NEOMM_E_NOSPACE;
    neomm_status status = neomm_window_alloc(root, bytes, &to);
    if (status != NEOMM_OK)
        return status;
    status = map_all(root, to, from, 0, pages, flags);
    if (status == NEOMM_OK) {
        status = map_all(root, to, 0, pages, new_pages, flags);
        if (status != NEOMM_OK)
            unmap(root, to, pages, NULL);
    }
    if (status != NEOMM_OK) {
        (void)neomm_window_free(root, to);
        return status;
    }
    unmap(root, from, pages, NULL);
    status = neomm_window_free(root, from);
    NEOMM__ASSERT(status == NEOMM_OK);
    *new_run = neomm_window_pointer(root, to);
    return NEOMM_OK;
}

/* ---- access ---- */

static neomm_status window_protect(void *context, void *run, uint32_t pages, neomm_prot_t prot)
{
    struct neomm *root = context;
    return neomm_paging_protect(root, neomm_paging_kernel(root), neomm_window_vaddr(root, run),
                                pages * NEOMM_PAGE_SIZE, prot);
}

static neomm_frame_t window_frame_of(void *context, const void *pointer)
{
    struct neomm *root = context;
    neomm_vaddr_t vaddr = neomm_window_vaddr(root, pointer);
    struct neomm_mapping mapping;
    if (vaddr == 0 ||
        neomm_paging_query(root, neomm_paging_kernel(root), vaddr, &mapping) != NEOMM_OK ||
        mapping.state != NEOMM_MAPPING_PRESENT || mapping.size != NEOMM_PAGE_SIZE)
        return neomm_frame(0);
    neomm_frame_t frame = neomm_paddr_frame(mapping.paddr);
    return neomm__frame(root, frame) ? frame : neomm_frame(0);
}

void neomm_heap_source_window(struct neomm *root, struct neomm_page_source *source)
{
    *source = (struct neomm_page_source){.context = root,
                                         .run_alloc = window_alloc,
                                         .run_free = window_free,
                                         .run_grow = window_grow,
                                         .run_move = window_move,
                                         .protect = window_protect,
                                         .frame_of = window_frame_of};
}
