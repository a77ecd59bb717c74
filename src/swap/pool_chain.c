/* The compressed pool's chains of frames, and the objects in them.
 * SPDX-License-Identifier: MIT
 *
 * A chain gets its frames one by one, as its objects need them: so an object costs at most one
 * frame, and storing a page never takes more memory than it gives back. Objects are taken of the
 * fullest chain that has room, so that the others may become empty.
 */
#include "swap/pool.h"

/* ---- classes ---- */

/* How many frames a chain is to have: as few as lose no more than a share of 1/32 at the end, or
 * those that lose the least. Short chains are full, and empty, more often. */
static uint32_t best_frames(uint32_t size)
{
    uint32_t best = 1;
    for (uint32_t frames = 1; frames <= NEOMM__POOL_CHAIN; frames++) {
        uint32_t rest = frames * NEOMM__POOL_FRAME % size;
        if (rest * best < best * NEOMM__POOL_FRAME % size * frames)
            best = frames;
        if (rest * 32 <= frames * NEOMM__POOL_FRAME)
            return frames;
    }
    return best;
}

void neomm__pool_classes_init(struct neomm__pool *pool)
{
    for (uint32_t i = 0; i < NEOMM__POOL_CLASSES; i++) {
        struct neomm__pool_class *class = &pool->class[i];
        class->size = (uint16_t)(NEOMM__POOL_LEAST + i * NEOMM__POOL_STEP);
        class->frames = best_frames(class->size);
        class->objects = (uint16_t)(class->frames * NEOMM__POOL_FRAME / class->size);
    }
}

static struct neomm__pool_class *class_for(struct neomm__pool *pool, uint32_t contents)
{
    uint32_t size = contents + (uint32_t)sizeof(struct neomm__pool_header);
    return &pool->class[size <= NEOMM__POOL_LEAST
                            ? 0
                            : (size - NEOMM__POOL_LEAST - 1) / NEOMM__POOL_STEP + 1];
}

uint32_t neomm__pool_group(const struct neomm__pool_class *class, uint32_t used)
{
    return used == class->objects ? NEOMM__POOL_FULL : used * NEOMM__POOL_FULL / class->objects;
}

/* ---- chains ---- */

static unsigned count_bits(uint64_t word)
{
    return neomm__popcount32((uint32_t)word) + neomm__popcount32((uint32_t)(word >> 32));
}

static unsigned lowest_clear(uint64_t word)
{
    uint32_t low = ~(uint32_t)word, high = ~(uint32_t)(word >> 32);
    return low ? neomm__lowest_bit(low) : 32 + neomm__lowest_bit(high);
}

void neomm__pool_chain_look(const struct neomm *root, uint32_t first,
                            struct neomm__pool_chain *chain)
{
    chain->frames = chain->used = 0;
    for (uint32_t number = first; number; number = chain->entry[chain->frames++]->owner) {
        NEOMM__ASSERT(chain->frames < NEOMM__POOL_CHAIN);
        chain->number[chain->frames] = number;
        chain->entry[chain->frames] = neomm__frame(root, neomm_frame(number));
        chain->used += count_bits(chain->entry[chain->frames]->mapping);
    }
    uint32_t class = chain->entry[0]->policy & NEOMM__POOL_MEMBER;
    NEOMM__ASSERT(chain->entry[0]->kind == NEOMM__KIND_POOL && class < NEOMM__POOL_CLASSES);
    chain->class = &root->swap->pool->class[class];
}

static bool is_closed(const struct neomm__pool_chain *chain)
{
    return chain->entry[0]->policy & NEOMM__POOL_CLOSED;
}

/* Objects for which the chain has frames by now. */
static uint32_t capacity(const struct neomm__pool_chain *chain)
{
    return chain->frames * NEOMM__POOL_FRAME / chain->class->size;
}

/* Whole chains come first in their group: they have room without another frame. */
static void enlist(struct neomm *root, const struct neomm__pool_chain *chain)
{
    struct neomm__frame_list *list =
        &chain->class->group[neomm__pool_group(chain->class, chain->used)];
    if (chain->frames == chain->class->frames)
        neomm__frame_list_push_head(&root->frames, list, neomm_frame(chain->number[0]));
    else
        neomm__frame_list_push_tail(&root->frames, list, neomm_frame(chain->number[0]));
}

static void delist(struct neomm *root, const struct neomm__pool_chain *chain)
{
    neomm__frame_list_remove(&root->frames,
                             &chain->class->group[neomm__pool_group(chain->class, chain->used)],
                             neomm_frame(chain->number[0]));
}

/* The chain has `used` objects now. */
static void recount(struct neomm *root, struct neomm__pool_chain *chain, uint32_t used)
{
    bool same =
        neomm__pool_group(chain->class, used) == neomm__pool_group(chain->class, chain->used);
    if (!same && !is_closed(chain))
        delist(root, chain);
    chain->used = used;
    if (!same && !is_closed(chain))
        enlist(root, chain);
}

/* ---- frames ---- */

static bool may_grow(const struct neomm__pool *pool, enum neomm__pool_growth growth)
{
    return growth == NEOMM__POOL_GROWS ||
           (growth == NEOMM__POOL_TO_LIMIT && pool->frames < pool->limit);
}

static struct neomm__frame *new_frame(struct neomm *root, enum neomm__pool_growth growth,
                                      uint32_t *number)
{
    neomm_flags_t flags = NEOMM_HIGH | NEOMM_MOVABLE | NEOMM_NORECLAIM;
    neomm_frame_t frame;
    if (growth == NEOMM__POOL_TO_LIMIT)
        flags |= NEOMM_RESERVE;
    if (!may_grow(root->swap->pool, growth) || NEOMM__FAULT(SWAP_POOL) ||
        neomm_pmm_alloc(root, 0, flags, &frame) != NEOMM_OK)
        return NULL;
    struct neomm__frame *entry = neomm__frame(root, frame);
    entry->kind = NEOMM__KIND_POOL;
    entry->owner = 0;
    entry->mapping = 0;
    root->swap->pool->frames++;
    *number = frame.number;
    return entry;
}

/* A frame is the allocator's, or who asked for it, again. */
static void plain_frame(struct neomm *root, struct neomm__frame *entry)
{
    entry->kind = NEOMM__KIND_NONE;
    entry->policy = 0;
    entry->owner = 0;
    entry->mapping = 0;
    entry->previous = entry->next = 0;
    root->swap->pool->frames--;
}

static void free_frames(struct neomm *root, const struct neomm__pool_chain *chain, uint32_t keep)
{
    for (uint32_t i = 0; i < chain->frames; i++)
        plain_frame(root, chain->entry[i]);
    for (uint32_t i = 0; i < chain->frames; i++)
        if (chain->number[i] == keep)
            neomm__frame_clear(chain->entry[i], ~NEOMM__FRAME_ALLOCATED);
        else
            (void)neomm_pmm_free(root, neomm_frame(chain->number[i]), 0);
}

static bool begin_chain(struct neomm *root, struct neomm__pool_class *class,
                        enum neomm__pool_growth growth, struct neomm__pool_chain *chain)
{
    *chain = (struct neomm__pool_chain){.class = class, .frames = 1};
    chain->entry[0] = new_frame(root, growth, &chain->number[0]);
    if (!chain->entry[0])
        return false;
    chain->entry[0]->policy = (uint8_t)(class - root->swap->pool->class);
    enlist(root, chain);
    return true;
}

static bool extend_chain(struct neomm *root, enum neomm__pool_growth growth,
                         struct neomm__pool_chain *chain)
{
    uint32_t number, last = chain->frames - 1;
    struct neomm__frame *entry = new_frame(root, growth, &number);
    if (!entry)
        return false;
    entry->policy = NEOMM__POOL_MEMBER;
    entry->previous = chain->number[0];
    chain->entry[last]->owner = number;
    chain->entry[chain->frames] = entry;
    chain->number[chain->frames++] = number;
    return true;
}

/* ---- objects ---- */

/* A chain with room for one object more: the fullest that needs no frame for it, else one that
 * does. */
static bool find_chain(struct neomm *root, struct neomm__pool_class *class,
                       enum neomm__pool_growth growth, struct neomm__pool_chain *chain)
{
    uint32_t short_of_frames = 0;
    for (uint32_t group = NEOMM__POOL_FULL; group-- > 0;) {
        uint32_t first = class->group[group].head;
        if (!first)
            continue;
        neomm__pool_chain_look(root, first, chain);
        if (chain->used < capacity(chain))
            return true;
        short_of_frames = first;
    }
    if (!short_of_frames)
        return begin_chain(root, class, growth, chain);
    neomm__pool_chain_look(root, short_of_frames, chain);
    return extend_chain(root, growth, chain);
}

/* The chain has room. */
static uint16_t take_object(struct neomm *root, struct neomm__pool_chain *chain)
{
    uint32_t frame = 0;
    while (chain->entry[frame]->mapping == UINT64_MAX)
        frame++;
    unsigned bit = lowest_clear(chain->entry[frame]->mapping);
    chain->entry[frame]->mapping |= (uint64_t)1 << bit;
    recount(root, chain, chain->used + 1);
    return (uint16_t)(frame * 64 + bit);
}

bool neomm__pool_take(struct neomm *root, enum neomm__pool_growth growth,
                      struct neomm__pool_place *place)
{
    struct neomm__pool *pool = root->swap->pool;
    struct neomm__pool_chain chain;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    bool found = find_chain(root, class_for(pool, place->size), growth, &chain);
    if (found) {
        place->frame = chain.number[0];
        place->index = take_object(root, &chain);
        pool->objects++;
        pool->bytes += place->size;
    }
    neomm__unlock(&pool->lock, irq);
    return found;
}

void neomm__pool_give(struct neomm *root, const struct neomm__pool_place *place)
{
    struct neomm__pool *pool = root->swap->pool;
    struct neomm__pool_chain chain;
    uint64_t bit = (uint64_t)1 << place->index % 64;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    neomm__pool_chain_look(root, place->frame, &chain);
    uint32_t frame = place->index / 64;
    NEOMM__ASSERT(frame < chain.frames && chain.entry[frame]->mapping & bit);
    chain.entry[frame]->mapping &= ~bit;
    pool->objects--;
    pool->bytes -= place->size;
    pool->given++;
    recount(root, &chain, chain.used - 1);
    if (chain.used == 0 && !is_closed(&chain)) {
        delist(root, &chain);
        free_frames(root, &chain, 0);
    }
    neomm__unlock(&pool->lock, irq);
}

void neomm__pool_discard(struct neomm *root, uint64_t value)
{
    struct neomm__pool_place place = neomm__pool_unpack(value);
    neomm__pool_give(root, &place);
}

/* ---- contents ---- */

/* The object's frames and their links do not change while it is there, nor does its class. */
static bool copy(struct neomm *root, const struct neomm__pool_place *place, uint8_t *object,
                 bool in)
{
    const struct neomm__frame *entry = neomm__frame(root, neomm_frame(place->frame));
    uint32_t left = place->size + (uint32_t)sizeof(struct neomm__pool_header);
    uint32_t at = place->index * (uint32_t)class_for(root->swap->pool, place->size)->size;
    uint32_t frame = place->frame;
    for (; at >= NEOMM__POOL_FRAME; at -= NEOMM__POOL_FRAME) {
        frame = neomm__load_relaxed(&entry->owner);
        entry = neomm__frame(root, neomm_frame(frame));
    }
    while (left > 0) {
        uint32_t part = left < NEOMM__POOL_FRAME - at ? left : NEOMM__POOL_FRAME - at;
        uint8_t *memory = neomm_frame_map(root, neomm_frame(frame));
        if (!memory)
            return false;
        memcpy(in ? memory + at : object, in ? object : memory + at, part);
        neomm_frame_unmap(root, memory);
        object += part;
        left -= part;
        at = 0;
        if (left > 0) {
            frame = neomm__load_relaxed(&entry->owner);
            entry = neomm__frame(root, neomm_frame(frame));
        }
    }
    return true;
}

bool neomm__pool_fetch(struct neomm *root, const struct neomm__pool_place *place, uint8_t *object)
{
    return copy(root, place, object, false);
}

bool neomm__pool_put(struct neomm *root, const struct neomm__pool_place *place,
                     const uint8_t *object)
{
    return copy(root, place, (uint8_t *)(uintptr_t)object, true);
}

/* ---- whole chains ---- */

void neomm__pool_chain_close(struct neomm *root, uint32_t first)
{
    struct neomm__pool_chain chain;
    neomm__pool_chain_look(root, first, &chain);
    delist(root, &chain);
    chain.entry[0]->policy |= NEOMM__POOL_CLOSED;
}

void neomm__pool_chain_reopen(struct neomm *root, uint32_t first)
{
    struct neomm__pool_chain chain;
    neomm__pool_chain_look(root, first, &chain);
    chain.entry[0]->policy &= NEOMM__POOL_MEMBER;
    enlist(root, &chain);
}

bool neomm__pool_chain_open(struct neomm *root, uint32_t first, uint32_t keep)
{
    struct neomm__pool *pool = root->swap->pool;
    struct neomm__pool_chain chain;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    neomm__pool_chain_look(root, first, &chain);
    if (chain.used == 0)
        free_frames(root, &chain, keep);
    else
        neomm__pool_chain_reopen(root, first);
    neomm__unlock(&pool->lock, irq);
    return chain.used == 0;
}

void neomm__pool_chains_free(struct neomm *root)
{
    struct neomm__pool *pool = root->swap->pool;
    struct neomm__pool_chain chain;
    for (uint32_t class = 0; class < NEOMM__POOL_CLASSES; class ++)
        for (uint32_t group = 0; group <= NEOMM__POOL_FULL; group++)
            while (pool->class[class].group[group].head) {
                neomm__pool_chain_look(root, pool->class[class].group[group].head, &chain);
                delist(root, &chain);
                free_frames(root, &chain, 0);
            }
}
