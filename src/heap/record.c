/* Side records of slabs and runs: fixed sizes in frames of their own.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

#include <neomm/pmm.h>

void neomm__records_init(struct neomm__heap *heap)
{
    for (uint32_t i = 0; i < NEOMM__RECORD_POOLS; i++) {
        struct neomm__record_pool *pool = &heap->pool[i];
        neomm__lock_init(&pool->lock, NEOMM_LOCK_CLASS_SLAB);
        pool->size =
            i == NEOMM__RECORD_SMALL ? NEOMM__RECORD_SMALL_BYTES : NEOMM__RECORD_LARGE_BYTES;
        pool->per_frame = (uint32_t)NEOMM_PAGE_SIZE / pool->size;
    }
}

_Static_assert(sizeof(struct neomm__run) <= NEOMM__RECORD_SMALL_BYTES, "a run's record fits");
_Static_assert(offsetof(struct neomm__slab, free_map) + NEOMM__SLAB_OBJECTS_MAX / 8 <=
                   NEOMM__RECORD_LARGE_BYTES,
               "a slab's record fits");

void *neomm__record_at(const struct neomm *root, neomm_paddr_t paddr)
{
    return neomm_direct_pointer(root, paddr);
}

static uint64_t all_used(const struct neomm__record_pool *pool)
{
    return UINT64_MAX >> (64 - pool->per_frame);
}

/* A further frame for the pool; called without locks. */
static bool pool_grow(struct neomm *root, uint32_t index, neomm_flags_t flags)
{
    struct neomm__record_pool *pool = &root->heap->pool[index];
    neomm_frame_t frame;
    if (NEOMM__FAULT(HEAP_STATE))
        return false;
    if (neomm_pmm_alloc(root, 0, flags & ~NEOMM_ZERO, &frame) != NEOMM_OK)
        return false;
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_irq_t irq = neomm__lock(&pool->lock);
    entry->kind = NEOMM__KIND_STATE;
    entry->owner = index;
    neomm__frame_list_push_head(&root->frames, &pool->open, frame);
    neomm__unlock(&pool->lock, irq);
    return true;
}

/* The number of the lowest clear bit; there is one. */
static unsigned lowest_clear(uint64_t mask)
{
    uint32_t low = ~(uint32_t)mask, high = ~(uint32_t)(mask >> 32);
    return low != 0 ? neomm__lowest_bit(low) : 32 + neomm__lowest_bit(high);
}

/* A record of a frame that has one free; 0: no such frame. */
static neomm_paddr_t pool_take(struct neomm *root, struct neomm__record_pool *pool)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    neomm_frame_t frame = neomm_frame(pool->open.head);
    neomm_paddr_t paddr = 0;
    if (!neomm_frame_is_nil(frame)) {
        struct neomm__frame *entry = neomm__frame(root, frame);
        uint64_t used = entry->mapping;
        unsigned slot = lowest_clear(used);
        NEOMM__YIELD(); /* who came here without the lock would take the same record */
        entry->mapping = used | (uint64_t)1 << slot;
        paddr = neomm_frame_paddr(frame) + slot * pool->size;
        if (entry->mapping == all_used(pool)) {
            neomm__frame_list_remove(&root->frames, &pool->open, frame);
            neomm__frame_list_push_head(&root->frames, &pool->full, frame);
        }
    }
    neomm__unlock(&pool->lock, irq);
    return paddr;
}

void *neomm__record_alloc(struct neomm *root, uint32_t pool, neomm_flags_t flags,
                          neomm_paddr_t *paddr)
{
    for (;;) {
        *paddr = pool_take(root, &root->heap->pool[pool]);
        if (*paddr != 0)
            break;
        if (!pool_grow(root, pool, flags))
            return NULL;
    }
    void *record = neomm__record_at(root, *paddr);
    memset(record, 0, root->heap->pool[pool].size);
    return record;
}

static void release(struct neomm *root, neomm_frame_t frame)
{
    neomm__frame(root, frame)->owner = 0;
    neomm__heap_give_frames(root, frame, 1);
}

uint32_t neomm__record_free(struct neomm *root, neomm_paddr_t paddr)
{
    neomm_frame_t frame = neomm_paddr_frame(paddr);
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm__record_pool *pool = &root->heap->pool[entry->owner];
    uint32_t slot = (uint32_t)(paddr & (NEOMM_PAGE_SIZE - 1)) / pool->size;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    if (entry->mapping == all_used(pool)) {
        neomm__frame_list_remove(&root->frames, &pool->full, frame);
        neomm__frame_list_push_head(&root->frames, &pool->open, frame);
    }
    uint64_t left = entry->mapping & ~((uint64_t)1 << slot);
    NEOMM__YIELD(); /* who came here without the lock would lose this one's bit */
    entry->mapping = left;
    /* One open frame stays, or a single run would cost a frame each time. */
    bool idle = entry->mapping == 0 && pool->open.count > 1;
    if (idle)
        neomm__frame_list_remove(&root->frames, &pool->open, frame);
    neomm__unlock(&pool->lock, irq);
    if (idle)
        release(root, frame);
    return idle;
}

/* Unlinks a frame without records in use; nil: there is none. */
static neomm_frame_t unlink_idle(struct neomm *root, struct neomm__record_pool *pool)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    neomm_frame_t frame = neomm_frame(pool->open.head);
    while (!neomm_frame_is_nil(frame) && neomm__frame(root, frame)->mapping != 0)
        frame = neomm_frame(neomm__frame(root, frame)->next);
    if (!neomm_frame_is_nil(frame))
        neomm__frame_list_remove(&root->frames, &pool->open, frame);
    neomm__unlock(&pool->lock, irq);
    return frame;
}

uint32_t neomm__records_trim(struct neomm *root)
{
    uint32_t frames = 0;
    for (uint32_t i = 0; i < NEOMM__RECORD_POOLS; i++) {
        neomm_frame_t frame;
        while (frame = unlink_idle(root, &root->heap->pool[i]), !neomm_frame_is_nil(frame)) {
            release(root, frame);
            frames++;
        }
    }
    return frames;
}
