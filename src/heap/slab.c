/* Slabs: pages cut into objects of one size, and the way from a pointer to its slab.
 * SPDX-License-Identifier: MIT */
#include "heap_priv.h"

#include "pmm/pmm_priv.h"

static struct neomm__slab *slab_of(const struct neomm *root, neomm_frame_t head)
{
    return neomm__record_at(root, neomm__frame(root, head)->mapping);
}

static enum neomm__slab_list list_of(const struct neomm__heap_class *class, uint32_t free)
{
    if (free == class->objects)
        return NEOMM__SLABS_EMPTY;
    return free == 0 ? NEOMM__SLABS_FULL : NEOMM__SLABS_PARTIAL;
}

/* Under the lock of the class: moves the slab to the list that its new count asks for. */
static void set_free(struct neomm *root, struct neomm__heap_class *class, struct neomm__slab *slab,
                     uint32_t free)
{
    enum neomm__slab_list from = list_of(class, slab->free), to = list_of(class, free);
    slab->free = free;
    if (from == to)
        return;
    neomm__frame_list_remove(&root->frames, &class->list[from], neomm_frame(slab->frame));
    neomm__frame_list_push_head(&root->frames, &class->list[to], neomm_frame(slab->frame));
}

/* ---- making and ending ---- */

/* Makes the descriptors of a slab say what they are, or nothing any more (kind NONE). */
static void tag(struct neomm *root, const struct neomm__slab *slab, enum neomm__kind kind,
                neomm_paddr_t record)
{
    const struct neomm_page_source *source = &root->heap->source[NEOMM__SOURCE_MAIN];
    uint32_t pages = root->heap->class[slab->class_index].pages;
    bool gone = kind == NEOMM__KIND_NONE;
    for (uint32_t i = 1; i < pages; i++) {
        neomm_frame_t frame = source->frame_of(source->context, slab->base + i * NEOMM_PAGE_SIZE);
        neomm__frame(root, frame)->owner = gone ? 0 : i;
        neomm__frame(root, frame)->kind = gone ? NEOMM__KIND_NONE : NEOMM__KIND_TAIL;
    }
    struct neomm__frame *head = neomm__frame(root, neomm_frame(slab->frame));
    if (!gone)
        neomm__frame_set(head, NEOMM__FRAME_TAILS);
    head->owner = gone ? 0 : slab->class_index;
    head->mapping = record;
    head->kind = (uint8_t)kind;
}

static void fill_record(struct neomm__slab *slab, unsigned class_index, uint32_t objects,
                        void *pages, neomm_frame_t head)
{
    slab->base = pages;
    slab->frame = head.number;
    slab->class_index = class_index;
    slab->free = objects;
    for (uint32_t i = 0; i < objects; i++)
        slab->free_map[i / NEOMM__WORD_BITS] |= (neomm__word_t)1 << i % NEOMM__WORD_BITS;
}

/* A new slab, all free, in no list. Called without locks. NULL: no memory. */
static struct neomm__slab *create(struct neomm *root, unsigned class_index, neomm_flags_t flags)
{
    struct neomm__heap *heap = root->heap;
    const struct neomm_page_source *source = &heap->source[NEOMM__SOURCE_MAIN];
    const struct neomm__heap_class *class = &heap->class[class_index];
    neomm_paddr_t paddr;
    void *pages;
    if (NEOMM__FAULT(HEAP_SLAB))
        return NULL;
    struct neomm__slab *slab = neomm__record_alloc(root, class->pool, flags, &paddr);
    if (!slab)
        return NULL;
    if (source->run_alloc(source->context, class->pages, flags & ~NEOMM_ZERO, &pages) != NEOMM_OK) {
        (void)neomm__record_free(root, paddr);
        return NULL;
    }
    fill_record(slab, class_index, class->objects, pages, source->frame_of(source->context, pages));
    tag(root, slab, NEOMM__KIND_SLAB, paddr);
    return slab;
}

/* Ends a slab that is all free and in no list. Called without locks. */
static uint32_t destroy(struct neomm *root, struct neomm__slab *slab)
{
    const struct neomm_page_source *source = &root->heap->source[NEOMM__SOURCE_MAIN];
    uint32_t pages = root->heap->class[slab->class_index].pages;
    neomm_paddr_t paddr = neomm__frame(root, neomm_frame(slab->frame))->mapping;
    void *base = slab->base;
    tag(root, slab, NEOMM__KIND_NONE, 0);
    source->run_free(source->context, base, pages);
    return pages + neomm__record_free(root, paddr);
}

/* ---- objects, in batches ---- */

static uint32_t take_from(struct neomm *root, struct neomm__heap_class *class,
                          struct neomm__slab *slab, void **objects, uint32_t want)
{
    uint32_t taken = 0;
    for (uint32_t word = 0; taken < want && word * NEOMM__WORD_BITS < class->objects; word++)
        while (taken < want && slab->free_map[word] != 0) {
            uint32_t index = word * NEOMM__WORD_BITS + neomm__lowest_bit(slab->free_map[word]);
            slab->free_map[word] &= slab->free_map[word] - 1;
            objects[taken++] = slab->base + (size_t)index * class->size;
        }
    set_free(root, class, slab, slab->free - taken);
    return taken;
}

/* Takes from the slabs there are, partly used ones first. */
static uint32_t take_listed(struct neomm *root, struct neomm__heap_class *class, void **objects,
                            uint32_t want)
{
    uint32_t taken = 0;
    while (taken < want) {
        uint32_t head = class->list[NEOMM__SLABS_PARTIAL].head;
        if (head == 0)
            head = class->list[NEOMM__SLABS_EMPTY].head;
        if (head == 0)
            break;
        taken +=
            take_from(root, class, slab_of(root, neomm_frame(head)), objects + taken, want - taken);
    }
    return taken;
}

uint32_t neomm__slab_take(struct neomm *root, unsigned class_index, void **objects, uint32_t want,
                          neomm_flags_t flags)
{
    struct neomm__heap_class *class = &root->heap->class[class_index];
    neomm_irq_t irq = neomm__lock(&class->lock);
    uint32_t taken = take_listed(root, class, objects, want);
    neomm__unlock(&class->lock, irq);
    if (taken > 0)
        return taken;
    struct neomm__slab *slab = create(root, class_index, flags);
    if (!slab)
        return 0;
    irq = neomm__lock(&class->lock);
    neomm__frame_list_push_head(&root->frames, &class->list[NEOMM__SLABS_EMPTY],
                                neomm_frame(slab->frame));
    taken = take_from(root, class, slab, objects, want);
    neomm__unlock(&class->lock, irq);
    return taken;
}

/* Under the lock: frees one object; true if its slab is surplus now, and out of the lists. */
static bool put_one(struct neomm *root, struct neomm__heap_class *class,
                    const struct neomm__heap_place *place)
{
    struct neomm__slab *slab = place->slab;
    slab->free_map[place->index / NEOMM__WORD_BITS] |= (neomm__word_t)1
                                                       << place->index % NEOMM__WORD_BITS;
    set_free(root, class, slab, slab->free + 1);
    struct neomm__frame_list *empty = &class->list[NEOMM__SLABS_EMPTY];
    if (slab->free < class->objects || empty->count <= NEOMM__EMPTY_SLABS_KEPT)
        return false;
    neomm__frame_list_remove(&root->frames, empty, neomm_frame(slab->frame));
    return true;
}

uint32_t neomm__slab_put(struct neomm *root, unsigned class_index, void *const *objects,
                         uint32_t count)
{
    struct neomm__heap_class *class = &root->heap->class[class_index];
    struct neomm__heap_place place[NEOMM__MAGAZINE_MAX];
    struct neomm__slab *surplus[NEOMM__MAGAZINE_MAX];
    uint32_t surplus_count = 0, frames = 0;
    for (uint32_t i = 0; i < count; i++) {
        neomm_status status = neomm__heap_find(root, objects[i], &place[i]);
        NEOMM__ASSERT(status == NEOMM_OK && place[i].slab);
    }
    neomm_irq_t irq = neomm__lock(&class->lock);
    for (uint32_t i = 0; i < count; i++)
        if (put_one(root, class, &place[i]))
            surplus[surplus_count++] = place[i].slab;
    neomm__unlock(&class->lock, irq);
    for (uint32_t i = 0; i < surplus_count; i++)
        frames += destroy(root, surplus[i]);
    return frames;
}

uint32_t neomm__slabs_trim(struct neomm *root, unsigned class_index)
{
    struct neomm__heap_class *class = &root->heap->class[class_index];
    uint32_t frames = 0;
    for (;;) {
        neomm_irq_t irq = neomm__lock(&class->lock);
        neomm_frame_t head = neomm__frame_list_pop(&root->frames, &class->list[NEOMM__SLABS_EMPTY]);
        neomm__unlock(&class->lock, irq);
        if (neomm_frame_is_nil(head))
            return frames;
        frames += destroy(root, slab_of(root, head));
    }
}

/* ---- from a pointer to its slab ---- */

/* The frame under a pointer, and the source that knows it. */
static const struct neomm_page_source *source_of(const struct neomm__heap *heap,
                                                 const void *pointer, neomm_frame_t *frame)
{
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

static neomm_status find_object(const struct neomm__heap *heap, struct neomm__heap_place *place,
                                size_t offset)
{
    const struct neomm__heap_class *class = &heap->class[place->slab->class_index];
    uint32_t index = (uint32_t)(offset >> NEOMM__HEAP_UNIT_SHIFT) * class->inverse >> 20;
    place->index = index;
    if (place->slab->base != place->base)
        return NEOMM_E_FOREIGN; /* the same frame under another address */
    if (index >= class->objects || (size_t)index * class->size != offset)
        return NEOMM_E_INVALID;
    return NEOMM_OK;
}

neomm_status neomm__heap_find(struct neomm *root, const void *pointer,
                              struct neomm__heap_place *place)
{
    const struct neomm__heap *heap = root->heap;
    const struct neomm_page_source *source = heap ? source_of(heap, pointer, &place->head) : NULL;
    struct neomm__frame *entry = source ? neomm__frame(root, place->head) : NULL;
    if (!entry)
        return NEOMM_E_FOREIGN;
    place->base = (uint8_t *)((uintptr_t)pointer & ~(uintptr_t)(NEOMM_PAGE_SIZE - 1));
    if (entry->kind == NEOMM__KIND_TAIL) {
        place->base -= (size_t)entry->owner * NEOMM_PAGE_SIZE;
        place->head = source->frame_of(source->context, place->base);
        if (neomm_frame_is_nil(place->head)) /* an alias of one page only */
            return NEOMM_E_FOREIGN;
        entry = neomm__frame(root, place->head);
    }
    size_t offset = (size_t)((const uint8_t *)pointer - place->base);
    place->slab = NULL;
    switch (entry->kind) {
    case NEOMM__KIND_SLAB:
        place->slab = neomm__record_at(root, entry->mapping);
        return find_object(heap, place, offset);
    case NEOMM__KIND_RUN:
        return offset == 0 ? NEOMM_OK : NEOMM_E_INVALID;
    case NEOMM__KIND_NONE:
        return is_free_memory(root, place->head) ? NEOMM_E_DOUBLE_FREE : NEOMM_E_FOREIGN;
    default:
        return NEOMM_E_FOREIGN;
    }
}
