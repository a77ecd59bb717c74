/* Objects of the compressed pool go to other chains, so that whole chains become free.
 * SPDX-License-Identifier: MIT
 *
 * A chain is closed first, then its objects go one by one, each with the area of its slot locked:
 *
 *   close -> the object's header says its slot -> lock the area -> does the record name this place?
 *         -> take a place elsewhere, copy, change the record, give the old place back -> open
 *
 * An object that no record names is just being stored, or freed. If one is left the chain stays.
 */
#include "swap/pool.h"

/* A closed chain on its way to be empty. */
struct emptying {
    struct neomm *root;
    struct neomm__pool_work *work;
    struct neomm__pool_chain chain; /* as it was when it was closed */
    uint64_t taken[NEOMM__POOL_CHAIN];
    enum neomm__pool_growth growth;
};

static void close(struct emptying *e, uint32_t first)
{
    neomm__pool_chain_close(e->root, first);
    neomm__pool_chain_look(e->root, first, &e->chain);
    for (uint32_t i = 0; i < e->chain.frames; i++)
        e->taken[i] = e->chain.entry[i]->mapping;
}

/* The slot that an object says it belongs to; 0, which is no slot: it cannot be seen now. A header
 * never lies in two frames. */
static uint32_t slot_of(const struct emptying *e, uint32_t index)
{
    uint32_t at = index * e->chain.class->size;
    struct neomm__pool_header header;
    uint8_t *memory =
        neomm_frame_map(e->root, neomm_frame(e->chain.number[at / NEOMM__POOL_FRAME]));
    if (!memory)
        return 0;
    memcpy(&header, memory + at % NEOMM__POOL_FRAME, sizeof(header));
    neomm_frame_unmap(e->root, memory);
    return header.slot;
}

/* With the area locked. */
static void relocate(const struct emptying *e, struct neomm__slot *slot)
{
    struct neomm__pool_place from = neomm__pool_unpack(slot->value), to = from;
    if (!neomm__pool_take(e->root, e->growth, &to))
        return;
    bool copied = neomm__pool_fetch(e->root, &from, e->work->object) &&
                  neomm__pool_put(e->root, &to, e->work->object);
    if (copied)
        slot->value = neomm__pool_pack(&to);
    neomm__pool_give(e->root, copied ? &from : &to);
}

static void move_object(const struct emptying *e, uint32_t index)
{
    uint32_t number = slot_of(e, index);
    neomm_irq_t irq;
    struct neomm__swap_area *area = neomm__swap_lock_area(e->root, number, &irq);
    if (!area)
        return;
    struct neomm__slot *slot = &area->slot[number - area->base];
    struct neomm__pool_place place = neomm__pool_unpack(slot->value);
    if (slot->flags & NEOMM__SLOT_POOLED && place.frame == e->chain.number[0] &&
        place.index == index)
        relocate(e, slot);
    neomm__unlock(&area->lock, irq);
}

/* Those that were there when the chain was closed. Whoever gives one back meanwhile does our work.
 */
static void move_objects(const struct emptying *e)
{
    for (uint32_t i = 0; i < 64 * e->chain.frames; i++)
        if (e->taken[i / 64] >> i % 64 & 1)
            move_object(e, i);
}

/* Is there room for so many objects in chains as they are? */
static bool has_room(const struct neomm *root, const struct neomm__pool_class *class,
                     uint32_t objects)
{
    struct neomm__pool_chain chain;
    uint32_t room = 0;
    for (uint32_t group = NEOMM__POOL_FULL; group-- > 0 && room < objects;)
        for (uint32_t first = class->group[group].head; first && room < objects;
             first = chain.entry[0]->next) {
            neomm__pool_chain_look(root, first, &chain);
            room += chain.frames * NEOMM__POOL_FRAME / class->size - chain.used;
        }
    return room >= objects;
}

/* Closes the chain with the fewest objects, if the others have room for them. */
static bool close_sparsest(struct emptying *e, struct neomm__pool_class *class)
{
    struct neomm__pool *pool = e->root->swap->pool;
    uint32_t group = 0;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    while (group < NEOMM__POOL_FULL && !class->group[group].head)
        group++;
    bool found = group < NEOMM__POOL_FULL;
    if (found) {
        close(e, class->group[group].tail);
        found = has_room(e->root, class, e->chain.used);
        if (!found)
            neomm__pool_chain_reopen(e->root, e->chain.number[0]);
    }
    neomm__unlock(&pool->lock, irq);
    return found;
}

uint32_t neomm_swap_pool_compact(struct neomm *root)
{
    struct neomm__pool *pool = root->swap ? root->swap->pool : NULL;
    struct emptying e = {.root = root, .growth = NEOMM__POOL_STAYS};
    uint32_t freed = 0;
    if (!pool || !pool->codec)
        return 0;
    e.work = neomm__pool_work_get(pool);
    for (uint32_t i = 0; i < NEOMM__POOL_CLASSES; i++)
        while (close_sparsest(&e, &pool->class[i])) {
            move_objects(&e);
            if (!neomm__pool_chain_open(root, e.chain.number[0], 0))
                break;
            freed += e.chain.frames;
        }
    neomm__pool_work_put(e.work);
    return freed;
}

/* Closes the chain that the frame is of. False: it is of none, or somebody else has closed it. */
static bool close_around(struct emptying *e, neomm_frame_t frame)
{
    struct neomm__pool *pool = e->root->swap->pool;
    const struct neomm__frame *entry = neomm__frame(e->root, frame);
    neomm_irq_t irq = neomm__lock(&pool->lock);
    bool found = entry->kind == NEOMM__KIND_POOL;
    if (found) {
        uint32_t first = entry->policy == NEOMM__POOL_MEMBER ? entry->previous : frame.number;
        neomm__pool_chain_look(e->root, first, &e->chain);
        found = !(e->chain.entry[0]->policy & NEOMM__POOL_CLOSED);
    }
    if (found)
        close(e, e->chain.number[0]);
    neomm__unlock(&pool->lock, irq);
    return found;
}

bool neomm__pool_move_frame(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__pool *pool = root->swap ? root->swap->pool : NULL;
    struct emptying e = {.root = root, .growth = NEOMM__POOL_GROWS};
    if (!pool || !pool->codec || !close_around(&e, frame))
        return false;
    e.work = neomm__pool_work_get(pool);
    move_objects(&e);
    neomm__pool_work_put(e.work);
    return neomm__pool_chain_open(root, e.chain.number[0], frame.number);
}
