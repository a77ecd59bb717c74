/* Frames for page tables.
 * SPDX-License-Identifier: MIT */
#include "tables.h"

#include "base/epoch.h"

#include <neomm/pmm.h>

/* Frames that are asked for at once. */
#define BATCH 16u

static void enter(struct neomm *root, uint32_t owner, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    entry->kind = NEOMM__KIND_TABLE;
    entry->owner = owner;
    entry->mapping = 0;
}

static void count_made(struct neomm *root, uint32_t count)
{
    (void)neomm__fetch_add(&root->paging->table_frames, count);
    neomm__count_add(root, NEOMM_COUNTER_TABLE_ALLOC, count);
}

neomm_status neomm__table_alloc(struct neomm *root, uint32_t owner, neomm_frame_t *frame)
{
    if (NEOMM__FAULT(PAGING_TABLE))
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc(root, 0, NEOMM_ZERO | NEOMM_NORECLAIM, frame);
    if (status != NEOMM_OK)
        return status;
    enter(root, owner, *frame);
    count_made(root, 1);
    neomm__count_add(root, NEOMM_COUNTER_TABLE_ZERO, NEOMM_PAGE_SIZE);
    return NEOMM_OK;
}

/* Nobody is in the table, so its descriptor is nobody's but ours. */
void neomm__table_free(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    NEOMM__ASSERT(entry->kind == NEOMM__KIND_TABLE);
    entry->kind = NEOMM__KIND_NONE;
    entry->owner = 0;
    entry->mapping = 0;
    entry->next = 0;
    neomm__store_relaxed(&entry->mappings, NEOMM__TABLE_FREE);
    (void)neomm__fetch_sub(&root->paging->table_frames, 1);
    NEOMM__COUNT(root, TABLE_FREE);
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static neomm_status alloc_batch(struct neomm *root, uint32_t owner, uint32_t count,
                                neomm_flags_t flags, struct neomm__frame_list *list)
{
    neomm_frame_t frames[BATCH];
    for (uint32_t i = 0; i < count; i++)
        if (NEOMM__FAULT(PAGING_TABLE))
            return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc_bulk(root, count, flags, frames);
    if (status != NEOMM_OK)
        return status;
    for (uint32_t i = count; i-- > 0;) {
        enter(root, owner, frames[i]);
        neomm__frame_list_push_head(&root->frames, list, frames[i]);
    }
    count_made(root, count);
    return NEOMM_OK;
}

neomm_status neomm__table_alloc_list(struct neomm *root, uint32_t owner, uint32_t count,
                                     struct neomm__frame_list *list)
{
    neomm_status status = NEOMM_OK;
    while (list->count < count && status == NEOMM_OK) {
        uint32_t missing = count - list->count;
        status = alloc_batch(root, owner, missing < BATCH ? missing : BATCH, NEOMM_NORECLAIM, list);
    }
    if (status != NEOMM_OK)
        neomm__table_free_list(root, list);
    return status;
}

neomm_status neomm__table_alloc_to_split(struct neomm *root, uint32_t owner,
                                         struct neomm__frame_list *list)
{
    return alloc_batch(root, owner, 1, NEOMM_NORECLAIM | NEOMM_RESERVE, list);
}

void neomm__table_free_list(struct neomm *root, struct neomm__frame_list *list)
{
    while (list->count != 0)
        neomm__table_free(root, neomm__frame_list_pop(&root->frames, list));
}

void neomm__table_free_dead(struct neomm *root, uint32_t first)
{
    neomm__epoch_synchronise(root);
    for (uint32_t number = first, next; number != 0; number = next) {
        next = neomm__frame(root, neomm_frame(number))->next;
        neomm__table_free(root, neomm_frame(number));
    }
}
