/* Slabs: pages cut into objects of one size, and the way from a pointer to its slab.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

#include "pmm/pmm_priv.h"

static struct neomm__slab *slab_of(const struct neomm *root, neomm_frame_t head)
{
    return neomm__record_at(root, neomm__frame(root, head)->mapping);
}

static enum neomm__slab_list list_of(const struct neomm_kmem *cache, uint32_t free)
{
    if (free == cache->objects)
        return NEOMM__SLABS_EMPTY;
    return free == 0 ? NEOMM__SLABS_FULL : NEOMM__SLABS_PARTIAL;
}

/* Under the lock of the cache: moves the slab to the list that its new count asks for. */
static void set_free(struct neomm *root, struct neomm_kmem *cache, struct neomm__slab *slab,
                     uint32_t free)
{
    enum neomm__slab_list from = list_of(cache, slab->free), to = list_of(cache, free);
    slab->free = (uint16_t)free;
    if (from == to)
        return;
    neomm__frame_list_remove(&root->frames, &cache->list[from], neomm_frame(slab->frame));
    neomm__frame_list_push_head(&root->frames, &cache->list[to], neomm_frame(slab->frame));
}

/* ---- making and ending ---- */

/* Makes the descriptors of a slab say what they are, or nothing any more (kind NONE). A page's
 * kind is written last: whoever looks at a pointer of his own finds all of it. */
static void tag(struct neomm *root, const struct neomm__slab *slab, enum neomm__kind kind,
                neomm_paddr_t record)
{
    const struct neomm_page_source *source = &root->heap->source[NEOMM__SOURCE_MAIN];
    bool gone = kind == NEOMM__KIND_NONE;
    for (uint32_t i = 0; i < root->heap->cache[slab->cache].pages; i++) {
        neomm_frame_t frame = source->frame_of(source->context, slab->base + i * NEOMM_PAGE_SIZE);
        struct neomm__frame *entry = neomm__frame(root, frame);
        if (i == 0 && !gone)
            neomm__frame_set(entry, NEOMM__FRAME_TAILS);
        entry->owner = gone ? 0 : neomm__slab_owner(slab->cache, slab->base);
        entry->mapping = record;
        neomm__store_release(&entry->kind, (uint8_t)kind);
    }
}

static void fill_record(struct neomm__slab *slab, const struct neomm_kmem *cache, void *pages,
                        neomm_frame_t head)
{
    slab->base = pages;
    slab->frame = head.number;
    slab->cache = (uint16_t)cache->number;
    slab->free = (uint16_t)cache->objects;
    neomm__bitmap_set_run(slab->free_map, 0, cache->objects);
}

/* Pages and, where the cache has them, a ledger. */
static bool furnish(struct neomm *root, const struct neomm_kmem *cache,
                    const struct neomm__kmem_ops *ops, struct neomm__slab *slab,
                    neomm_flags_t flags)
{
    const struct neomm_page_source *source = &root->heap->source[NEOMM__SOURCE_MAIN];
    struct neomm__ledger *ledger = NULL;
    void *pages = neomm__pages_take(root->heap, source, cache->pages, 1, flags);
    if (!pages)
        return false;
    if (ops && !(ledger = ops->ledger_alloc(root, cache, flags))) {
        neomm__pages_give(root->heap, source, pages, cache->pages);
        return false;
    }
    fill_record(slab, cache, pages, source->frame_of(source->context, pages));
    slab->ops = ops;
    if (ops)
        ops->begin(root, slab, ledger);
    return true;
}

/* A new slab, all free, in no list. Called without locks. NULL: no memory. */
static struct neomm__slab *create(struct neomm *root, const struct neomm_kmem *cache,
                                  const struct neomm__kmem_ops *ops, neomm_flags_t flags)
{
    neomm_paddr_t paddr;
    flags &= ~NEOMM_ZERO;
    if (NEOMM__FAULT(HEAP_SLAB))
        return NULL;
    struct neomm__slab *slab = neomm__record_alloc(root, cache->pool, flags, &paddr);
    if (!slab)
        return NULL;
    if (!furnish(root, cache, ops, slab, flags)) {
        (void)neomm__record_free(root, paddr);
        return NULL;
    }
    tag(root, slab, NEOMM__KIND_SLAB, paddr);
    return slab;
}

/* Ends a slab that is all free and in no list. Called without locks. */
static uint32_t destroy(struct neomm *root, struct neomm__slab *slab)
{
    const struct neomm_page_source *source = &root->heap->source[NEOMM__SOURCE_MAIN];
    uint32_t pages = root->heap->cache[slab->cache].pages;
    neomm_paddr_t paddr = neomm__frame(root, neomm_frame(slab->frame))->mapping;
    void *base = slab->base;
    if (slab->ledger)
        slab->ops->ledger_free(root, &root->heap->cache[slab->cache], slab->ledger);
    tag(root, slab, NEOMM__KIND_NONE, 0);
    NEOMM__OBJECT_TAKEN(base, pages * NEOMM_PAGE_SIZE);
    neomm__pages_give(root->heap, source, base, pages);
    return pages + neomm__record_free(root, paddr);
}

uint32_t neomm__slabs_end(struct neomm *root, struct neomm__frame_list *slabs)
{
    uint32_t frames = 0;
    while (slabs->count > 0)
        frames += destroy(root, slab_of(root, neomm__frame_list_pop(&root->frames, slabs)));
    return frames;
}

uint32_t neomm__slabs_trim(struct neomm *root, struct neomm_kmem *cache)
{
    neomm_irq_t irq = neomm__lock(&cache->lock);
    struct neomm__frame_list empty = cache->list[NEOMM__SLABS_EMPTY];
    cache->list[NEOMM__SLABS_EMPTY] = (struct neomm__frame_list){0, 0, 0};
    neomm__unlock(&cache->lock, irq);
    return neomm__slabs_end(root, &empty);
}

void neomm__slabs_end_all(struct neomm *root, struct neomm_kmem *cache)
{
    cache->held = 0;
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        (void)neomm__slabs_end(root, &cache->list[i]);
}

/* ---- objects, in batches ---- */

/* Marks an object that has yet to be constructed, until the lock is released. */
#define FRESH ((uintptr_t)1)

/* Under the lock: the object's address. The lowest free object is taken first, so those never
 * taken are the ones from `built` on. */
static void *take_one(const struct neomm_kmem *cache, struct neomm__slab *slab, uint32_t index)
{
    uintptr_t object = (uintptr_t)slab->base + (size_t)index * cache->size;
    if (index >= slab->built) {
        slab->built = (uint16_t)(index + 1);
        object |= cache->construct ? FRESH : 0;
    }
    return (void *)object;
}

/* Under the lock: the lowest free objects. */
static uint32_t take_from(struct neomm *root, struct neomm_kmem *cache, struct neomm__slab *slab,
                          void **objects, uint32_t want)
{
    uint32_t taken = 0;
    want = want < slab->free ? want : slab->free;
    for (uint32_t word = 0; taken < want; word++) {
        neomm__word_t map = slab->free_map[word];
        for (; map != 0 && taken < want; map &= map - 1)
            objects[taken++] =
                take_one(cache, slab, word * NEOMM__WORD_BITS + neomm__lowest_bit(map));
        neomm__store_relaxed(&slab->free_map[word], map);
    }
    set_free(root, cache, slab, slab->free - taken);
    return taken;
}

/* Takes from the slabs there are, partly used ones first. */
static uint32_t take_listed(struct neomm *root, struct neomm_kmem *cache, void **objects,
                            uint32_t want)
{
    uint32_t taken = 0;
    while (taken < want) {
        uint32_t head = cache->list[NEOMM__SLABS_PARTIAL].head;
        if (head == 0)
            head = cache->list[NEOMM__SLABS_EMPTY].head;
        if (head == 0)
            break;
        taken +=
            take_from(root, cache, slab_of(root, neomm_frame(head)), objects + taken, want - taken);
    }
    return taken;
}

static void construct(const struct neomm_kmem *cache, void **objects, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if ((uintptr_t)objects[i] & FRESH) {
            objects[i] = (uint8_t *)objects[i] - FRESH;
            cache->construct(cache->context, objects[i]);
        }
}

bool neomm__slabs_lock(struct neomm_kmem *cache, neomm_flags_t flags, neomm_irq_t *irq)
{
    if (flags & NEOMM_NOLOCK)
        return neomm__try_lock(&cache->lock, irq);
    *irq = neomm__lock(&cache->lock);
    return true;
}

uint32_t neomm__slab_take(struct neomm *root, struct neomm_kmem *cache,
                          const struct neomm__kmem_ops *ops, void **objects, uint32_t want,
                          neomm_flags_t flags)
{
    neomm_irq_t irq;
    if (!neomm__slabs_lock(cache, flags, &irq))
        return 0;
    uint32_t taken = cache->ops == ops ? take_listed(root, cache, objects, want) : 0;
    neomm__unlock(&cache->lock, irq);
    if (cache->construct)
        construct(cache, objects, taken);
    return taken;
}

/* Under the lock: one of the slab's free objects, the next from a random place on; but the lowest
 * where it matters which ones were constructed. */
static uint32_t take_random(struct neomm *root, struct neomm_kmem *cache, struct neomm__slab *slab,
                            uint32_t random, bool *fresh)
{
    size_t from = cache->construct ? 0 : (size_t)((uint64_t)random * cache->objects >> 32);
    size_t index = neomm__bitmap_next_set(slab->free_map, from, cache->objects);
    if (index == NEOMM__BITMAP_NONE)
        index = neomm__bitmap_next_set(slab->free_map, 0, cache->objects);
    neomm__word_t *word = &slab->free_map[index / NEOMM__WORD_BITS];
    neomm__store_relaxed(word, *word & ~((neomm__word_t)1 << index % NEOMM__WORD_BITS));
    set_free(root, cache, slab, slab->free - 1u);
    *fresh = ((uintptr_t)take_one(cache, slab, (uint32_t)index) & FRESH) != 0;
    return (uint32_t)index;
}

bool neomm__slab_pick(struct neomm *root, struct neomm_kmem *cache, uint32_t random,
                      struct neomm__heap_place *place, bool *fresh)
{
    uint32_t head = cache->list[NEOMM__SLABS_PARTIAL].head;
    if (head == 0)
        head = cache->list[NEOMM__SLABS_EMPTY].head;
    if (head == 0)
        return false;
    struct neomm__slab *slab = slab_of(root, neomm_frame(head));
    uint32_t index = take_random(root, cache, slab, random, fresh);
    *place = (struct neomm__heap_place){neomm_frame(head), slab->base, cache, slab, index};
    return true;
}

uint32_t neomm__slab_take_new(struct neomm *root, struct neomm_kmem *cache,
                              const struct neomm__kmem_ops *ops, void **objects, uint32_t want,
                              neomm_flags_t flags)
{
    struct neomm__slab *slab = flags & NEOMM_NOLOCK ? NULL : create(root, cache, ops, flags);
    uint32_t taken = 0;
    if (!slab)
        return 0;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    bool same = cache->ops == ops;
    if (same) {
        slab->epoch = cache->epoch;
        neomm__frame_list_push_head(&root->frames, &cache->list[NEOMM__SLABS_EMPTY],
                                    neomm_frame(slab->frame));
        taken = take_from(root, cache, slab, objects, want);
    }
    neomm__unlock(&cache->lock, irq);
    if (!same)
        (void)destroy(root, slab);
    if (cache->construct)
        construct(cache, objects, taken);
    return taken;
}

/* Under the lock: the slab that was found without it is one of the cache still. */
static bool is_there(const struct neomm_kmem *cache, const struct neomm__heap_place *place)
{
    return place->slab && place->cache == cache && place->slab->cache == cache->number &&
           place->slab->base == place->base;
}

bool neomm__slab_put_one(struct neomm *root, struct neomm_kmem *cache,
                         const struct neomm__heap_place *place, struct neomm__frame_list *surplus)
{
    struct neomm__slab *slab = place->slab;
    if (!is_there(cache, place) || neomm__slab_is_free(slab, place->index))
        return false;
    neomm__word_t *word = &slab->free_map[place->index / NEOMM__WORD_BITS];
    neomm__store_relaxed(word, *word | (neomm__word_t)1 << place->index % NEOMM__WORD_BITS);
    set_free(root, cache, slab, slab->free + 1u);
    struct neomm__frame_list *empty = &cache->list[NEOMM__SLABS_EMPTY];
    if (slab->free == cache->objects && empty->count > cache->empty_kept) {
        neomm_frame_t frame = neomm_frame(slab->frame);
        neomm__frame_list_remove(&root->frames, empty, frame);
        neomm__frame_list_push_head(&root->frames, surplus, frame);
    }
    return true;
}

/* Objects that were freed in any order lie in slabs whose records are far away; they come all at
 * once if they are asked for before the first is needed. */
static void fetch_records(const struct neomm *root, void *const *objects, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct neomm__frame *entry = neomm__near_entry(root, objects[i]);
        if (entry)
            __builtin_prefetch(neomm__record_at(root, entry->mapping), 1);
    }
}

uint32_t neomm__slab_put(struct neomm *root, struct neomm_kmem *cache, void *const *objects,
                         uint32_t count, struct neomm__frame_list *surplus)
{
    struct neomm__heap_place place[NEOMM__BATCH_MAX];
    uint32_t twice = 0;
    if (count > 1)
        fetch_records(root, objects, count);
    for (uint32_t i = 0; i < count; i++)
        if (neomm__heap_find(root, objects[i], &place[i]) != NEOMM_OK)
            place[i].slab = NULL;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    for (uint32_t i = 0; i < count; i++)
        if (!neomm__slab_put_one(root, cache, &place[i], surplus)) {
            place[i].slab = NULL;
            twice++;
        }
    neomm__unlock(&cache->lock, irq);
    for (uint32_t i = 0; twice > 0 && i < count; i++)
        if (!place[i].slab)
            (void)neomm__heap_refuse(root, "kfree", objects[i], NEOMM_E_DOUBLE_FREE);
    return twice;
}

/* ---- from a pointer to its slab ---- */

const struct neomm__frame *neomm__far_entry(const struct neomm *root, const void *pointer)
{
    size_t number = ((uintptr_t)pointer - root->front.direct_base) >> NEOMM_PAGE_SHIFT;
    const struct neomm__frame *entry = NULL;
    if (number < root->front.direct_frames)
        entry = neomm__frame(root, neomm_frame((uint32_t)number));
    return entry && entry->kind == NEOMM__KIND_SLAB ? entry : NULL;
}

/* The frame under a pointer, and the source that knows it. */
static const struct neomm_page_source *source_of(const struct neomm *root, const void *pointer,
                                                 neomm_frame_t *frame)
{
    const struct neomm__heap *heap = root->heap;
    size_t number = ((uintptr_t)pointer - root->front.direct_base) >> NEOMM_PAGE_SHIFT;
    *frame = neomm_frame((uint32_t)number);
    if (number < root->front.direct_frames)
        return &heap->source[NEOMM__SOURCE_MAIN];
    for (uint32_t i = 0; i < heap->sources; i++) {
        *frame = heap->source[i].frame_of(heap->source[i].context, pointer);
        if (!neomm_frame_is_nil(*frame))
            return &heap->source[i];
    }
    return NULL;
}

/* Memory that the frame allocator has back: the slab or run that was here is gone. */
static bool is_free_memory(struct neomm *root, neomm_frame_t frame)
{
    return neomm__is_managed(root, neomm__bit_of(root, frame)) &&
           neomm__load_acquire(&neomm__frame(root, frame)->references) == 0;
}

static neomm_status find_object(struct neomm *root, const struct neomm__frame *entry,
                                const void *pointer, struct neomm__heap_place *place)
{
    place->slab = neomm__record_at(root, entry->mapping);
    place->cache = &root->heap->cache[place->slab->cache];
    size_t offset = (uintptr_t)pointer - (uintptr_t)place->slab->base;
    if (offset != neomm__slab_offset(entry, pointer))
        return NEOMM_E_FOREIGN; /* the same frame under another address */
    place->head = neomm_frame(place->slab->frame);
    place->base = place->slab->base;
    place->index = (uint32_t)((uint64_t)offset * place->cache->inverse >> 32);
    if (place->index >= place->cache->objects ||
        (size_t)place->index * place->cache->size != offset)
        return NEOMM_E_INVALID;
    return neomm__slab_is_free(place->slab, place->index) ? NEOMM_E_DOUBLE_FREE : NEOMM_OK;
}

static neomm_status find_run(const struct neomm_page_source *source, const struct neomm *root,
                             const struct neomm__frame *entry, const void *pointer,
                             struct neomm__heap_place *place)
{
    size_t before = entry->kind == NEOMM__KIND_TAIL ? (size_t)entry->owner * NEOMM_PAGE_SIZE : 0;
    place->base = (uint8_t *)((uintptr_t)pointer & ~(uintptr_t)(NEOMM_PAGE_SIZE - 1)) - before;
    place->head = source->frame_of(source->context, place->base);
    /* An alias of one page only has something else, or nothing, before it. */
    const struct neomm__frame *head = neomm__frame(root, place->head);
    if (neomm_frame_is_nil(place->head) || !head || head->kind != NEOMM__KIND_RUN)
        return NEOMM_E_FOREIGN;
    return pointer == place->base ? NEOMM_OK : NEOMM_E_INVALID;
}

neomm_status neomm__heap_find(struct neomm *root, const void *pointer,
                              struct neomm__heap_place *place)
{
    neomm_frame_t frame;
    const struct neomm_page_source *source = root->heap ? source_of(root, pointer, &frame) : NULL;
    const struct neomm__frame *entry = source ? neomm__frame(root, frame) : NULL;
    *place = (struct neomm__heap_place){.cache = NULL};
    if (!entry)
        return NEOMM_E_FOREIGN;
    switch (neomm__load_acquire(&entry->kind)) {
    case NEOMM__KIND_SLAB:
        return find_object(root, entry, pointer, place);
    case NEOMM__KIND_RUN:
    case NEOMM__KIND_TAIL:
        return find_run(source, root, entry, pointer, place);
    case NEOMM__KIND_NONE:
        return is_free_memory(root, frame) ? NEOMM_E_DOUBLE_FREE : NEOMM_E_FOREIGN;
    default:
        return NEOMM_E_FOREIGN;
    }
}

void neomm__slab_place(struct neomm *root, const void *object, struct neomm__heap_place *place)
{
    const struct neomm__frame *entry = neomm__far_entry(root, object);
    neomm_status status =
        entry ? find_object(root, entry, object, place) : neomm__heap_find(root, object, place);
    NEOMM__ASSERT((status == NEOMM_OK || status == NEOMM_E_DOUBLE_FREE) && place->slab);
}
