/* The page source over contiguous frames of the direct map: needs the frame allocator alone.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

#include <neomm/pmm.h>

/* Powers of two up to the largest order are blocks of the frame allocator; other runs are exact
 * ranges of single frames, and those can grow. The head's order tells one from the other. */
static bool is_block(uint32_t pages)
{
    return (pages & (pages - 1)) == 0 && pages <= 1u << NEOMM_ORDER_MAX;
}

static neomm_status direct_alloc(void *context, uint32_t pages, neomm_flags_t flags, void **run)
{
    struct neomm *root = context;
    struct neomm_range_request request = {.frames = pages, .flags = flags};
    neomm_frame_t first;
    neomm_status status = is_block(pages)
                              ? neomm_pmm_alloc(root, neomm__log2_up(pages), flags, &first)
                              : neomm_pmm_alloc_range(root, &request, &first);
    if (status == NEOMM_OK)
        *run = neomm_direct_pointer(root, neomm_frame_paddr(first));
    return status;
}

static neomm_status direct_alloc_aligned(void *context, uint32_t pages, uint32_t align,
                                         neomm_flags_t flags, void **run)
{
    struct neomm *root = context;
    struct neomm_range_request request = {.frames = pages, .align = align, .flags = flags};
    neomm_frame_t first;
    neomm_status status = neomm_pmm_alloc_range(root, &request, &first);
    if (status == NEOMM_OK)
        *run = neomm_direct_pointer(root, neomm_frame_paddr(first));
    return status;
}

static neomm_frame_t direct_frame_of(void *context, const void *pointer)
{
    const struct neomm *root = context;
    const struct neomm_area *direct = &root->layout.direct;
    uintptr_t offset = (uintptr_t)pointer - (direct->base + (uintptr_t)direct->delta);
    neomm_frame_t frame = neomm_frame((uint32_t)(offset >> NEOMM_PAGE_SHIFT));
    if (offset >= direct->size || frame.number >= root->frames.direct || !neomm__frame(root, frame))
        return neomm_frame(0);
    return frame;
}

static void direct_free(void *context, void *run, uint32_t pages)
{
    struct neomm *root = context;
    neomm_frame_t first = direct_frame_of(context, run);
    unsigned order = neomm__frame(root, first)->order;
    neomm_status status =
        order > 0 ? neomm_pmm_free(root, first, order) : neomm_pmm_free_range(root, first, pages);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static void zero_grown(struct neomm *root, neomm_frame_t frame, uint32_t pages, neomm_flags_t flags)
{
    if (flags & NEOMM_ZERO)
        memset(neomm_direct_pointer(root, neomm_frame_paddr(frame)), 0, pages * NEOMM_PAGE_SIZE);
}

/* Takes the frames right behind the run, if all of them are free. */
static neomm_status direct_grow(void *context, void *run, uint32_t pages, uint32_t new_pages,
                                neomm_flags_t flags)
{
    struct neomm *root = context;
    neomm_frame_t first = direct_frame_of(context, run);
    neomm_frame_t next = neomm_frame(first.number + pages);
    uint32_t dma_frames = (16u << 20) >> NEOMM_PAGE_SHIFT;
    uint32_t end = flags & NEOMM_DMA ? dma_frames : root->frames.direct;
    if (neomm__frame(root, first)->order > 0 || new_pages > (1u << NEOMM_ORDER_MAX))
        return NEOMM_E_UNSUPPORTED;
    if (first.number + new_pages > end)
        return NEOMM_E_NOSPACE;
    if (neomm_pmm_claim(root, next, new_pages - pages) != NEOMM_OK)
        return NEOMM_E_NOSPACE;
    zero_grown(root, next, new_pages - pages, flags);
    return NEOMM_OK;
}

void neomm_heap_source_direct(struct neomm *root, struct neomm_page_source *source)
{
    *source = (struct neomm_page_source){.context = root,
                                         .run_alloc = direct_alloc,
                                         .run_free = direct_free,
                                         .run_grow = direct_grow,
                                         .frame_of = direct_frame_of,
                                         .run_alloc_aligned = direct_alloc_aligned};
}
