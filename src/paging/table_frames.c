/* Frames for page tables.
 * SPDX-License-Identifier: MIT */
#include "tables.h"

#include <neomm/pmm.h>

neomm_status neomm__table_alloc(struct neomm *root, uint32_t owner, neomm_frame_t *frame)
{
    if (NEOMM__FAULT(PAGING_TABLE))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc(root, 0, NEOMM_ZERO | NEOMM_NORECLAIM, frame);
    if (status != NEOMM_OK)
        return status;
    struct neomm__frame *entry = neomm__frame(root, *frame);
    entry->kind = NEOMM__KIND_TABLE;
    entry->owner = owner;
    entry->mapping = 0;
    (void)neomm__fetch_add(&root->paging->table_frames, 1);
    NEOMM__COUNT(root, TABLE_ALLOC);
    return NEOMM_OK;
}

void neomm__table_free(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    NEOMM__ASSERT(entry->kind == NEOMM__KIND_TABLE);
    entry->kind = NEOMM__KIND_NONE;
    entry->owner = 0;
    entry->mapping = 0;
    (void)neomm__fetch_sub(&root->paging->table_frames, 1);
    NEOMM__COUNT(root, TABLE_FREE);
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

neomm_status neomm__table_alloc_list(struct neomm *root, uint32_t owner, uint32_t count,
                                     struct neomm__frame_list *list)
{
    while (list->count < count) {
        neomm_frame_t frame;
        neomm_status status = neomm__table_alloc(root, owner, &frame);
        if (status != NEOMM_OK) {
            neomm__table_free_list(root, list);
            return status;
        }
        neomm__frame_list_push_tail(&root->frames, list, frame);
    }
    return NEOMM_OK;
}

void neomm__table_free_list(struct neomm *root, struct neomm__frame_list *list)
{
    while (list->count != 0)
        neomm__table_free(root, neomm__frame_list_pop(&root->frames, list));
}
