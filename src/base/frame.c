/* Lists of frames, and frames as memory.
 * SPDX-License-Identifier: MIT */
#include "frame.h"

#include "root.h"

static struct neomm__frame *linked(const struct neomm__frames *frames, uint32_t number)
{
    return neomm__frame_at(frames, neomm_frame(number));
}

void neomm__frame_list_push_tail(const struct neomm__frames *frames, struct neomm__frame_list *list,
                                 neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame_at(frames, frame);
    entry->previous = list->tail;
    entry->next = 0;
    if (list->tail)
        linked(frames, list->tail)->next = frame.number;
    else
        list->head = frame.number;
    list->tail = frame.number;
    list->count++;
}

void neomm__frame_list_push_head(const struct neomm__frames *frames, struct neomm__frame_list *list,
                                 neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame_at(frames, frame);
    entry->previous = 0;
    entry->next = list->head;
    if (list->head)
        linked(frames, list->head)->previous = frame.number;
    else
        list->tail = frame.number;
    list->head = frame.number;
    list->count++;
}

void neomm__frame_list_remove(const struct neomm__frames *frames, struct neomm__frame_list *list,
                              neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame_at(frames, frame);
    if (entry->previous)
        linked(frames, entry->previous)->next = entry->next;
    else
        list->head = entry->next;
    if (entry->next)
        linked(frames, entry->next)->previous = entry->previous;
    else
        list->tail = entry->previous;
    entry->previous = 0;
    entry->next = 0;
    list->count--;
}

neomm_frame_t neomm__frame_list_pop(const struct neomm__frames *frames,
                                    struct neomm__frame_list *list)
{
    neomm_frame_t frame = neomm_frame(list->head);
    if (!neomm_frame_is_nil(frame))
        neomm__frame_list_remove(frames, list, frame);
    return frame;
}

void *neomm_direct_pointer(const struct neomm *root, neomm_paddr_t paddr)
{
    if (paddr >= root->layout.direct.size)
        return NULL;
    return (void *)(root->layout.direct.base + (neomm_vaddr_t)paddr +
                    (neomm_vaddr_t)root->layout.direct.delta);
}

void *neomm_frame_map(struct neomm *root, neomm_frame_t frame)
{
    if (frame.number < root->frames.direct)
        return neomm_direct_pointer(root, neomm_frame_paddr(frame));
    return root->slots.map ? root->slots.map(root, frame) : NULL;
}

void neomm_frame_unmap(struct neomm *root, void *pointer)
{
    neomm_vaddr_t first = root->layout.direct.base + (neomm_vaddr_t)root->layout.direct.delta;
    if ((neomm_vaddr_t)pointer - first >= root->layout.direct.size)
        root->slots.unmap(root, pointer);
}
