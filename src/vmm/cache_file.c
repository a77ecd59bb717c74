/* The page cache: objects with a pager as files: their life, size, and reading and writing.
 * SPDX-License-Identifier: MIT */
#include "vmm/cache.h"

/* ---- size ---- */

static uint64_t pages_of(uint64_t bytes)
{
    return (bytes >> NEOMM_PAGE_SHIFT) + ((bytes & (NEOMM_PAGE_SIZE - 1)) != 0);
}

/* One at a time. */
static void begin_resize(struct neomm_object *object)
{
    for (;;) {
        neomm__mutex_lock(&object->lock);
        uint32_t io = neomm__load_acquire(&object->io);
        bool mine = !object->resizing;
        object->resizing = true;
        neomm__mutex_unlock(&object->lock);
        if (mine)
            return;
        neomm__cache_wait(object, io);
    }
}

static void end_resize(struct neomm_object *object)
{
    neomm__mutex_lock(&object->lock);
    object->resizing = false;
    neomm__mutex_unlock(&object->lock);
    neomm__cache_wake(object);
}

/* Is a page from here on read or written just now? */
static bool is_under_way(const struct neomm_object *object, uint64_t page)
{
    const uint64_t busy = NEOMM__PAGE_READING | NEOMM__PAGE_WRITING;
    uint64_t word;
    for (; (word = neomm__page_next(&object->pages, &page)) != 0; page++)
        if (neomm__page_is_frame(word) && (word & busy))
            return true;
    return false;
}

/* Locks the object at a moment at which no page from here on is on its way. */
static void lock_quiet(struct neomm *root, struct neomm_object *object, uint64_t page)
{
    for (;;) {
        neomm__mutex_lock(&object->lock);
        uint32_t io = neomm__load_acquire(&object->io);
        neomm__cache_collect(root, object);
        if (!is_under_way(object, page))
            return;
        neomm__mutex_unlock(&object->lock);
        neomm__cache_wait(object, io);
    }
}

static void drop_from(struct neomm *root, struct neomm_object *object, uint64_t page)
{
    uint64_t word;
    for (; (word = neomm__page_next(&object->pages, &page)) != 0; page++)
        neomm__cache_remove(root, object, page, word);
}

/* What a mapping wrote behind the end must not be seen when the object grows over it. */
static neomm_status zero_behind(struct neomm *root, struct neomm_object *object, uint64_t bytes)
{
    uint32_t part = (uint32_t)bytes & (NEOMM_PAGE_SIZE - 1);
    uint64_t word = neomm__page_get(&object->pages, bytes >> NEOMM_PAGE_SHIFT);
    if (part == 0 || !neomm__page_is_frame(word))
        return NEOMM_OK;
    return neomm__cache_zero_tail(root, neomm__page_frame(word), part);
}

static void set_bytes(struct neomm_object *object, uint64_t bytes)
{
    object->bytes = bytes;
    object->size = pages_of(bytes);
}

static neomm_status tell(struct neomm_object *object, uint64_t bytes)
{
    return object->pager->resize ? object->pager->resize(object->pager, bytes) : NEOMM_OK;
}

/* The pager hears of it when nothing beyond is on its way, and nothing new can be. */
static neomm_status shrink(struct neomm *root, struct neomm_object *object, uint64_t bytes)
{
    neomm__mutex_lock(&object->lock);
    set_bytes(object, bytes);
    neomm__mutex_unlock(&object->lock);
    lock_quiet(root, object, bytes >> NEOMM_PAGE_SHIFT);
    drop_from(root, object, object->size);
    (void)zero_behind(root, object, bytes); /* it is done again before they can be reached */
    neomm__mutex_unlock(&object->lock);
    return tell(object, bytes);
}

static neomm_status grow(struct neomm *root, struct neomm_object *object, uint64_t bytes)
{
    neomm_status status = tell(object, bytes);
    if (status != NEOMM_OK)
        return status;
    lock_quiet(root, object, object->bytes >> NEOMM_PAGE_SHIFT);
    status = zero_behind(root, object, object->bytes);
    if (status == NEOMM_OK)
        set_bytes(object, bytes);
    neomm__mutex_unlock(&object->lock);
    if (status != NEOMM_OK)
        (void)tell(object, object->bytes);
    return status;
}

neomm_status neomm__cache_resize(struct neomm *root, struct neomm_object *object, uint64_t bytes)
{
    begin_resize(object);
    neomm_status status =
        bytes < object->bytes ? shrink(root, object, bytes) : grow(root, object, bytes);
    end_resize(object);
    return status;
}

/* ---- life ---- */

neomm_status neomm_object_create_paged(struct neomm *root, struct neomm_pager *pager,
                                       const char *name, uint64_t bytes,
                                       struct neomm_object **object)
{
    return pager && pager->submit ? neomm__object_create(root, name, bytes, pager, object)
                                  : NEOMM_E_INVALID;
}

neomm_status neomm__cache_end(struct neomm *root, struct neomm_object *object)
{
    uint32_t io;
    neomm_status status = neomm__cache_sync(root, object, 0, UINT64_MAX);
    neomm__mutex_lock(&object->lock);
    set_bytes(object, 0);
    neomm__mutex_unlock(&object->lock);
    lock_quiet(root, object, 0);
    drop_from(root, object, 0);
    neomm__mutex_unlock(&object->lock);
    while (((io = neomm__load_acquire(&object->io)) & 0xffff) != 0)
        neomm__cache_wait(object, io);
    neomm__mutex_lock(&object->lock);
    neomm__cache_collect(root, object);
    neomm__mutex_unlock(&object->lock);
    return status;
}

/* ---- reading and writing ---- */

/* Bytes of one page. */
struct piece {
    struct neomm_object *object;
    uint64_t page;
    uint32_t start, bytes;
    uint8_t *to;         /* reading */
    const uint8_t *from; /* writing; NULL: reading */
};

static neomm_status move(struct neomm *root, const struct piece *piece, neomm_frame_t frame)
{
    neomm_irq_t irq = neomm_port_irq_save();
    uint8_t *contents = neomm_frame_map(root, frame);
    if (contents && piece->from)
        memcpy(contents + piece->start, piece->from, piece->bytes);
    else if (contents && piece->to)
        memcpy(piece->to, contents + piece->start, piece->bytes);
    if (contents)
        neomm_frame_unmap(root, contents);
    neomm_port_irq_restore(irq);
    return contents ? NEOMM_OK : NEOMM_E_NOMEM;
}

/* Is nothing left of what the page had? */
static bool replaces_all(const struct piece *piece)
{
    return piece->from && piece->start == 0 &&
           piece->bytes == neomm__cache_bytes(piece->object, piece->page);
}

/* The page need not be read: a frame of zeros takes its place. The object is locked. */
static neomm_status enter_fresh(struct neomm *root, const struct piece *piece)
{
    struct neomm_object *object = piece->object;
    uint64_t word = neomm__page_get(&object->pages, piece->page);
    neomm_frame_t frame;
    neomm_status status =
        NEOMM__FAULT(VMM_FRAME)
            ? NEOMM_E_NOMEM
            : neomm_pmm_alloc(root, 0, NEOMM_HIGH | NEOMM_MOVABLE | NEOMM_NORECLAIM | NEOMM_ZERO,
                              &frame);
    if (status != NEOMM_OK)
        return status;
    status = neomm__page_set(root, &object->pages, piece->page, neomm__page_of_frame(frame));
    if (status != NEOMM_OK) {
        neomm__user_frame_put(root, frame);
        return status;
    }
    (void)neomm__cache_note_return(root, word);
    neomm__cache_enter(root, object, piece->page, frame);
    return NEOMM_OK;
}

/* NEOMM_E_AGAIN: the page must be read, or waited for, first. The object is locked. */
static neomm_status try_move(struct neomm *root, const struct piece *piece,
                             struct neomm__cache_look *look)
{
    struct neomm_object *object = piece->object;
    if (piece->page >= object->size ||
        piece->start + piece->bytes > neomm__cache_bytes(object, piece->page))
        return NEOMM_E_RANGE;
    if (neomm__cache_look(root, object, look) == NEOMM__CACHE_MISSING && replaces_all(piece)) {
        neomm_status status = enter_fresh(root, piece);
        if (status != NEOMM_OK)
            return status;
        (void)neomm__cache_look(root, object, look);
    }
    return look->answer == NEOMM__CACHE_FOUND ? move(root, piece, look->frame) : NEOMM_E_AGAIN;
}

/* The object cannot go: the caller has a handle. NEOMM_E_RANGE: it ends before. */
static neomm_status move_piece(struct neomm *root, const struct piece *piece)
{
    struct neomm_object *object = piece->object;
    struct neomm__cache_look look = {.page = piece->page, .write = piece->from != NULL};
    unsigned attempt = 0;
    for (;;) {
        neomm__mutex_lock(&object->lock);
        neomm_status status = try_move(root, piece, &look), served = NEOMM_OK;
        neomm__mutex_unlock(&object->lock);
        if (status == NEOMM_OK || status == NEOMM_E_AGAIN)
            served = neomm__cache_serve(root, object, &look, 0);
        if (status == NEOMM_OK)
            return status;
        status = status == NEOMM_E_AGAIN ? served : status;
        if (status != NEOMM_OK && !neomm__retry_after_reclaim(root, status, &attempt))
            return status;
    }
}

static neomm_status move_all(struct neomm *root, struct neomm_object *object, uint64_t offset,
                             const struct piece *all, size_t bytes, size_t *done)
{
    neomm_status status = NEOMM_OK;
    uint64_t end = object->pager ? neomm_object_size(object) : 0;
    size_t at = 0;
    if (!object->pager)
        return NEOMM_E_UNSUPPORTED;
    if (offset >= end)
        bytes = 0;
    else if (bytes > end - offset)
        bytes = (size_t)(end - offset);
    while (at < bytes && status == NEOMM_OK) {
        struct piece piece = {.object = object, .page = (offset + at) >> NEOMM_PAGE_SHIFT};
        piece.start = (uint32_t)(offset + at) & (NEOMM_PAGE_SIZE - 1);
        size_t left = NEOMM_PAGE_SIZE - piece.start;
        piece.bytes = (uint32_t)(bytes - at < left ? bytes - at : left);
        piece.to = all->to ? all->to + at : NULL;
        piece.from = all->from ? all->from + at : NULL;
        status = move_piece(root, &piece);
        at += status == NEOMM_OK ? piece.bytes : 0;
    }
    if (done)
        *done = at;
    return status == NEOMM_E_RANGE ? NEOMM_OK : status;
}

neomm_status neomm_object_read(struct neomm *root, struct neomm_object *object, uint64_t offset,
                               void *buffer, size_t bytes, size_t *done)
{
    const struct piece all = {.to = buffer};
    return move_all(root, object, offset, &all, bytes, done);
}

neomm_status neomm_object_write(struct neomm *root, struct neomm_object *object, uint64_t offset,
                                const void *buffer, size_t bytes, size_t *done)
{
    const struct piece all = {.from = buffer};
    return move_all(root, object, offset, &all, bytes, done);
}
