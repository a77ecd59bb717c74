/* Ranges of the kernel window: first fit by address.
 * SPDX-License-Identifier: MIT
 *
 * The ranges lie in ascending order in chunks of one frame each. A chunk that is full is split
 * in halves, one that becomes empty is freed:
 *
 *   first -> [next|n| r r r r . .] -> [next|n| r r . . . .] -> ...
 *
 * Behind each range lies a guard page that belongs to nobody.
 */
#include "base/bits.h"
#include "paging/tables.h"

#include <neomm/pmm.h>

struct range {
    neomm_vaddr_t base;
    size_t
        size_tag; /* bytes without the guard page, which are whole pages; below, the owner's tag */
};

static size_t size_of(const struct range *range)
{
    return NEOMM__ALIGN_DOWN(range->size_tag, NEOMM_PAGE_SIZE);
}

static uint32_t tag_of(const struct range *range)
{
    return (uint32_t)range->size_tag & NEOMM_WINDOW_TAG_MAX;
}

#define CHUNK_RANGES ((NEOMM_PAGE_SIZE - 4 * sizeof(uint32_t)) / sizeof(struct range))

struct chunk {
    uint32_t next, count;
    uint32_t reserved[2];
    struct range range[CHUNK_RANGES];
};

_Static_assert(sizeof(struct chunk) <= NEOMM_PAGE_SIZE, "a chunk is a frame");

/* A place between ranges: in front of range[index]. */
struct place {
    struct chunk *chunk;
    uint32_t previous; /* frame of the chunk before, 0: this is the first */
    uint32_t frame, index;
};

static struct chunk *chunk_at(const struct neomm *root, uint32_t frame)
{
    return frame == 0 ? NULL : neomm__table_pointer(root, neomm_frame(frame));
}

void neomm__window_init(struct neomm__window *window)
{
    neomm__lock_init(&window->lock, NEOMM_LOCK_CLASS_WINDOW);
}

/* Do `need` aligned bytes fit between two offsets in the window? *vaddr: where. */
static bool fits(const struct neomm_area *area, size_t from, size_t to, size_t need, size_t align,
                 neomm_vaddr_t *vaddr)
{
    size_t skip = (size_t)(0 - (area->base + from)) & (align - 1);
    *vaddr = area->base + from + skip;
    return from <= to && to - from >= need && to - from - need >= skip;
}

/* The lowest gap of `need` bytes: where it is, and in front of which range. */
static bool find_gap(const struct neomm *root, size_t need, size_t align, struct place *place,
                     neomm_vaddr_t *vaddr)
{
    const struct neomm_area *area = &root->layout.window;
    size_t used = 0; /* bytes from the window's start, up to behind the last range's guard */
    uint32_t previous = 0, frame = root->paging->window.first;
    *place = (struct place){NULL, 0, 0, 0};
    for (; frame != 0; previous = frame, frame = place->chunk->next) {
        *place = (struct place){chunk_at(root, frame), previous, frame, 0};
        for (; place->index < place->chunk->count; place->index++) {
            const struct range *range = &place->chunk->range[place->index];
            if (fits(area, used, range->base - area->base, need, align, vaddr))
                return true;
            used = range->base - area->base + size_of(range) + NEOMM_PAGE_SIZE;
        }
    }
    return fits(area, used, area->size, need, align, vaddr);
}

/* A new chunk behind the one of `place` (or the first one). */
static neomm_status add_chunk(struct neomm *root, uint32_t *link, struct chunk **made,
                              uint32_t *number)
{
    neomm_frame_t frame;
    neomm_status status = neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &frame);
    if (status != NEOMM_OK)
        return status;
    neomm__frame(root, frame)->kind = NEOMM__KIND_STATE;
    *made = neomm__table_pointer(root, frame);
    (*made)->next = *link;
    (*made)->count = 0;
    *link = frame.number;
    *number = frame.number;
    return NEOMM_OK;
}

/* Makes room at a place, whose chunk may change with that. */
static neomm_status make_room(struct neomm *root, struct place *place)
{
    struct chunk *made;
    uint32_t number, kept = CHUNK_RANGES / 2;
    if (!place->chunk)
        return add_chunk(root, &root->paging->window.first, &place->chunk, &place->frame);
    if (place->chunk->count < CHUNK_RANGES)
        return NEOMM_OK;
    neomm_status status = add_chunk(root, &place->chunk->next, &made, &number);
    if (status != NEOMM_OK)
        return status;
    made->count = place->chunk->count - kept;
    memcpy(made->range, place->chunk->range + kept, made->count * sizeof(struct range));
    place->chunk->count = kept;
    if (place->index > kept) {
        place->previous = place->frame;
        place->frame = number;
        place->chunk = made;
        place->index -= kept;
    }
    return NEOMM_OK;
}

static neomm_status take_range(struct neomm *root, size_t size, size_t align, uint32_t tag,
                               neomm_vaddr_t *vaddr)
{
    struct place place;
    if (!find_gap(root, size + NEOMM_PAGE_SIZE, align, &place, vaddr))
        return NEOMM_E_NOSPACE;
    neomm_status status = make_room(root, &place);
    if (status != NEOMM_OK)
        return status;
    struct range *at = &place.chunk->range[place.index];
    memmove(at + 1, at, (place.chunk->count - place.index) * sizeof(*at));
    at->base = *vaddr;
    at->size_tag = size | tag;
    place.chunk->count++;
    root->paging->window.ranges++;
    return NEOMM_OK;
}

neomm_status neomm_window_alloc(struct neomm *root, size_t size, neomm_vaddr_t *vaddr)
{
    return neomm_window_alloc_aligned(root, size, NEOMM_PAGE_SIZE, 0, vaddr);
}

neomm_status neomm_window_alloc_aligned(struct neomm *root, size_t size, size_t align, uint32_t tag,
                                        neomm_vaddr_t *vaddr)
{
    if (!root->paging)
        return NEOMM_E_NOENT;
    if (!NEOMM__ALIGNED(size, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (size == 0 || align < NEOMM_PAGE_SIZE || (align & (align - 1)) != 0 ||
        tag > NEOMM_WINDOW_TAG_MAX)
        return NEOMM_E_INVALID;
    if (size >= root->layout.window.size)
        return NEOMM_E_NOSPACE;
    if (NEOMM__FAULT(PAGING_WINDOW))
        return NEOMM_E_NOSPACE;
    neomm_irq_t irq = neomm__lock(&root->paging->window.lock);
    neomm_status status = take_range(root, size, align, tag, vaddr);
    neomm__unlock(&root->paging->window.lock, irq);
    return status;
}

/* The last range that starts at or below vaddr; false: none does. */
static bool find_below(const struct neomm *root, neomm_vaddr_t vaddr, struct range *found)
{
    bool any = false;
    for (const struct chunk *chunk = chunk_at(root, root->paging->window.first); chunk;
         chunk = chunk_at(root, chunk->next)) {
        if (chunk->range[0].base > vaddr)
            break;
        uint32_t low = 0, high = chunk->count;
        while (high - low > 1) {
            uint32_t middle = (low + high) / 2;
            if (chunk->range[middle].base <= vaddr)
                low = middle;
            else
                high = middle;
        }
        *found = chunk->range[low];
        any = true;
    }
    return any;
}

/* The range that starts at vaddr; false: none does. */
static bool find_range(const struct neomm *root, neomm_vaddr_t vaddr, struct place *place)
{
    uint32_t previous = 0, frame = root->paging->window.first;
    for (struct chunk *chunk; frame != 0; previous = frame, frame = chunk->next) {
        chunk = chunk_at(root, frame);
        if (chunk->range[chunk->count - 1].base < vaddr)
            continue;
        uint32_t low = 0, high = chunk->count - 1;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (chunk->range[middle].base < vaddr)
                low = middle + 1;
            else
                high = middle;
        }
        *place = (struct place){chunk, previous, frame, low};
        return chunk->range[low].base == vaddr;
    }
    return false;
}

static void remove_range(struct neomm *root, const struct place *place)
{
    struct neomm__window *window = &root->paging->window;
    struct chunk *chunk = place->chunk;
    struct range *at = &chunk->range[place->index];
    chunk->count--;
    window->ranges--;
    memmove(at, at + 1, (chunk->count - place->index) * sizeof(*at));
    if (chunk->count != 0)
        return;
    if (place->previous)
        chunk_at(root, place->previous)->next = chunk->next;
    else
        window->first = chunk->next;
    neomm__frame(root, neomm_frame(place->frame))->kind = NEOMM__KIND_NONE;
    neomm_status status = neomm_pmm_free(root, neomm_frame(place->frame), 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

/* The tables are looked at before the window is locked: whoever holds that lock must not wait
 * for a CPU that waits for this one to take a shootdown. The range is the caller's until it is
 * gone, so nobody maps anything there in between. */
neomm_status neomm_window_free(struct neomm *root, neomm_vaddr_t vaddr)
{
    size_t size = neomm_window_size(root, vaddr);
    struct place place;
    if (size == 0)
        return NEOMM_E_NOENT;
    struct neomm__paging *paging = root->paging;
    if (paging->engine->occupied(root, &paging->kernel, vaddr, vaddr + (size - 1)))
        return NEOMM_E_BUSY;
    neomm_irq_t irq = neomm__lock(&paging->window.lock);
    bool found = find_range(root, vaddr, &place);
    if (found)
        remove_range(root, &place);
    neomm__unlock(&paging->window.lock, irq);
    return found ? NEOMM_OK : NEOMM_E_NOENT;
}

/* Where the range at a place must end: at the next one, or with the window. */
static neomm_vaddr_t room_end(const struct neomm *root, const struct place *place)
{
    const struct neomm_area *area = &root->layout.window;
    const struct chunk *chunk = place->chunk;
    if (place->index + 1 < chunk->count)
        return chunk->range[place->index + 1].base;
    return chunk->next != 0 ? chunk_at(root, chunk->next)->range[0].base : area->base + area->size;
}

static neomm_status resize(struct neomm *root, neomm_vaddr_t vaddr, size_t size)
{
    struct place place;
    if (!find_range(root, vaddr, &place))
        return NEOMM_E_NOENT;
    size_t room = room_end(root, &place) - vaddr;
    if (size >= room)
        return NEOMM_E_NOSPACE;
    struct range *range = &place.chunk->range[place.index];
    range->size_tag = size | tag_of(range);
    return NEOMM_OK;
}

neomm_status neomm_window_resize(struct neomm *root, neomm_vaddr_t vaddr, size_t size)
{
    if (!root->paging)
        return NEOMM_E_NOENT;
    if (!NEOMM__ALIGNED(size, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (size == 0)
        return NEOMM_E_INVALID;
    neomm_irq_t irq = neomm__lock(&root->paging->window.lock);
    neomm_status status = resize(root, vaddr, size);
    neomm__unlock(&root->paging->window.lock, irq);
    return status;
}

size_t neomm_window_size(struct neomm *root, neomm_vaddr_t vaddr)
{
    struct place place;
    if (!root->paging)
        return 0;
    neomm_irq_t irq = neomm__lock(&root->paging->window.lock);
    bool found = find_range(root, vaddr, &place);
    size_t size = found ? size_of(&place.chunk->range[place.index]) : 0;
    neomm__unlock(&root->paging->window.lock, irq);
    return size;
}

neomm_status neomm_window_find(struct neomm *root, neomm_vaddr_t vaddr, neomm_vaddr_t *base,
                               size_t *size, uint32_t *tag)
{
    struct range range = {0, 0};
    if (!root->paging)
        return NEOMM_E_NOENT;
    neomm_irq_t irq = neomm__lock(&root->paging->window.lock);
    bool found = find_below(root, vaddr, &range) && vaddr - range.base < size_of(&range);
    neomm__unlock(&root->paging->window.lock, irq);
    *base = range.base;
    *size = size_of(&range);
    *tag = tag_of(&range);
    return found ? NEOMM_OK : NEOMM_E_NOENT;
}

neomm_status neomm_window_retag(struct neomm *root, neomm_vaddr_t vaddr, uint32_t from, uint32_t to)
{
    struct place place;
    if (!root->paging || to > NEOMM_WINDOW_TAG_MAX)
        return NEOMM_E_INVALID;
    neomm_irq_t irq = neomm__lock(&root->paging->window.lock);
    bool found =
        find_range(root, vaddr, &place) && tag_of(&place.chunk->range[place.index]) == from;
    if (found)
        place.chunk->range[place.index].size_tag += (size_t)to - from;
    neomm__unlock(&root->paging->window.lock, irq);
    return found ? NEOMM_OK : NEOMM_E_NOENT;
}

void *neomm_window_pointer(const struct neomm *root, neomm_vaddr_t vaddr)
{
    const struct neomm_area *area = &root->layout.window;
    if (vaddr - area->base >= area->size)
        return NULL;
    return (void *)(vaddr + (neomm_vaddr_t)area->delta);
}

neomm_vaddr_t neomm_window_vaddr(const struct neomm *root, const void *pointer)
{
    const struct neomm_area *area = &root->layout.window;
    neomm_vaddr_t vaddr = (neomm_vaddr_t)pointer - (neomm_vaddr_t)area->delta;
    return vaddr - area->base < area->size ? vaddr : 0;
}

void neomm__window_check(struct neomm *root, struct neomm__report *report)
{
    const struct neomm_area *area = &root->layout.window;
    uint32_t found = 0;
    size_t used = 0;
    for (const struct chunk *chunk = chunk_at(root, root->paging->window.first); chunk;
         chunk = chunk_at(root, chunk->next)) {
        if (chunk->count == 0 || chunk->count > CHUNK_RANGES) {
            neomm__report(report, "paging: window: a chunk of %u ranges", chunk->count);
            return;
        }
        found += chunk->count;
        for (uint32_t i = 0; i < chunk->count; i++) {
            size_t offset = chunk->range[i].base - area->base, size = size_of(&chunk->range[i]);
            if (offset < used || offset >= area->size || size == 0 || size >= area->size - offset)
                neomm__report(report, "paging: window: range %#zx, %#zx bytes, is out of place",
                              (size_t)chunk->range[i].base, size);
            used = offset + size + NEOMM_PAGE_SIZE;
        }
    }
    if (found != root->paging->window.ranges)
        neomm__report(report, "paging: window: %u ranges, found %u", root->paging->window.ranges,
                      found);
}
