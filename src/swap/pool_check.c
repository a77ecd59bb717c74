/* The consistency check of the compressed pool.
 * SPDX-License-Identifier: MIT */
#include "swap/pool.h"

struct found {
    struct neomm *root;
    struct neomm__report *report;
    uint32_t frames, objects; /* of chains */
    uint32_t pooled;          /* records */
    uint64_t bytes;
};

/* Links, kinds and bits of one chain, in the list of `group`. */
static void check_chain(struct found *found, const struct neomm__pool_class *class, uint32_t group,
                        uint32_t first)
{
    struct neomm__pool_chain chain;
    neomm__pool_chain_look(found->root, first, &chain);
    uint32_t room = chain.frames * NEOMM__POOL_FRAME / class->size;
    if (chain.class != class || chain.frames > class->frames)
        neomm__report(found->report, "swap: frame %#x begins a chain of another class", first);
    if (neomm__pool_group(class, chain.used) != group || chain.used == 0)
        neomm__report(found->report, "swap: the chain at frame %#x has %u objects, in group %u",
                      first, chain.used, group);
    for (uint32_t i = 1; i < chain.frames; i++)
        if (chain.entry[i]->kind != NEOMM__KIND_POOL || chain.entry[i]->previous != first ||
            chain.entry[i]->policy != NEOMM__POOL_MEMBER)
            neomm__report(found->report, "swap: frame %#x is no part of the chain at %#x",
                          chain.number[i], first);
    for (uint32_t i = room; i < 64 * chain.frames; i++)
        if (chain.entry[i / 64]->mapping >> i % 64 & 1)
            neomm__report(found->report, "swap: the chain at frame %#x has no room for object %u",
                          first, i);
    found->frames += chain.frames;
    found->objects += chain.used;
}

static void check_class(struct found *found, const struct neomm__pool_class *class)
{
    for (uint32_t group = 0; group <= NEOMM__POOL_FULL; group++) {
        uint32_t count = 0;
        for (uint32_t first = class->group[group].head; first && count <= class->group[group].count;
             first = neomm__frame(found->root, neomm_frame(first))->next, count++)
            check_chain(found, class, group, first);
        if (count != class->group[group].count)
            neomm__report(found->report, "swap: objects of %u bytes: %u chains counted in a group",
                          class->size, class->group[group].count);
    }
}

/* Does the object know the record that names it? A frame that cannot be mapped now says nothing. */
static void check_object(struct found *found, uint32_t number, uint64_t value)
{
    const struct neomm__pool_place place = neomm__pool_unpack(value);
    const struct neomm__frame *entry = neomm__frame(found->root, neomm_frame(place.frame));
    struct neomm__pool_chain chain;
    struct neomm__pool_header header;
    if (!entry || entry->kind != NEOMM__KIND_POOL || entry->policy == NEOMM__POOL_MEMBER ||
        place.size == 0 || place.size > NEOMM__POOL_LARGEST) {
        neomm__report(found->report, "swap: slot %u is in the pool at no object", number);
        return;
    }
    neomm__pool_chain_look(found->root, place.frame, &chain);
    uint32_t at = place.index * chain.class->size, word = place.index / 64;
    if (word >= chain.frames || !(chain.entry[word]->mapping >> place.index % 64 & 1) ||
        place.size + sizeof(header) > chain.class->size) {
        neomm__report(found->report, "swap: slot %u is in the pool at a free object", number);
        return;
    }
    uint8_t *memory =
        neomm_frame_map(found->root, neomm_frame(chain.number[at / NEOMM__POOL_FRAME]));
    if (!memory)
        return;
    memcpy(&header, memory + at % NEOMM__POOL_FRAME, sizeof(header));
    neomm_frame_unmap(found->root, memory);
    if (header.slot != number)
        neomm__report(found->report, "swap: slot %u is in the pool at an object of slot %u", number,
                      header.slot);
}

static void check_records(struct found *found, const struct neomm__swap_area *area)
{
    uint32_t pooled = 0;
    for (uint32_t page = 0; page < area->slots; page++) {
        const struct neomm__slot *slot = &area->slot[page];
        if (!(slot->flags & NEOMM__SLOT_POOLED))
            continue;
        pooled++;
        found->bytes += neomm__pool_unpack(slot->value).size;
        check_object(found, area->base + page, slot->value);
    }
    for (uint32_t c = 0, sum = 0; c < area->clusters; c++)
        if ((sum += area->cluster[c].pooled) > pooled || (c + 1 == area->clusters && sum < pooled))
            neomm__report(found->report, "swap: area %u counts %u pages in the pool, has %u",
                          area->base, sum, pooled);
    if (area->pooled != pooled)
        neomm__report(found->report, "swap: area %u counts %u pages in the pool, has %u",
                      area->base, area->pooled, pooled);
    found->pooled += pooled;
}

void neomm__pool_fsck(struct neomm *root, struct neomm__report *report)
{
    const struct neomm__pool *pool = root->swap->pool;
    struct found found = {.root = root, .report = report};
    for (uint32_t i = 0; i < NEOMM__POOL_CLASSES; i++)
        check_class(&found, &pool->class[i]);
    for (uint32_t i = 0; i < root->swap->areas; i++)
        if (root->swap->area[i].state != NEOMM__AREA_NONE)
            check_records(&found, &root->swap->area[i]);
    if (found.frames != pool->frames || found.objects != pool->objects)
        neomm__report(report, "swap: the pool counts %u frames and %u objects, has %u and %u",
                      pool->frames, pool->objects, found.frames, found.objects);
    if (found.pooled != pool->objects || found.bytes != pool->bytes)
        neomm__report(report, "swap: the pool has %u objects, %u records are of it", pool->objects,
                      found.pooled);
    if (pool->writing != 0 || pool->busy != 0)
        neomm__report(report, "swap: %u pages of the pool are on their way", pool->writing);
}
