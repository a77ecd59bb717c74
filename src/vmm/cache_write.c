/* The page cache: writing back.
 * SPDX-License-Identifier: MIT
 *
 * Dirty pages are taken in the order of their numbers, a batch at a time. One that somebody else is
 * writing already is waited for by those who must know how that ends, and looked at again: it may
 * have failed, or the page may be dirty again.
 */
#include "vmm/cache_batch.h"

/* ---- taking pages ---- */

/* The page, which is dirty, goes into the batch. A device may go on writing to a pinned one unseen,
 * so that stays dirty; without leaves that are writable nobody can pin it to write any more. */
static void begin_write(struct neomm *root, struct neomm__batch *batch, uint64_t page,
                        uint64_t word)
{
    struct neomm_object *object = batch->object;
    neomm_frame_t frame = neomm__page_frame(word);
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_status status = neomm__page_set(root, &object->pages, page, word | NEOMM__PAGE_WRITING);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__cache_protect(root, frame);
    if (neomm__frame_pins(entry) == 0)
        neomm__cache_set_clean(root, object, entry);
    neomm__batch_add(batch, NEOMM_PAGER_WRITE, page, frame);
}

static bool is_dirty(struct neomm *root, uint64_t word)
{
    return neomm__page_is_frame(word) && !(word & NEOMM__PAGE_READING) &&
           neomm__frame_has(neomm__frame(root, neomm__page_frame(word)), NEOMM__FRAME_DIRTY);
}

/* Pages from *page on, which moves behind the last one looked at; the object is locked. `all`:
 * stops at one that is being written, and says so. What is beyond the end is just being cut off. */
static bool take_dirty(struct neomm *root, struct neomm__batch *batch, uint64_t *page,
                       uint64_t last, uint32_t most, bool all)
{
    struct neomm__page_tree *pages = &batch->object->pages;
    for (; *page <= last && batch->count < most; ++*page) {
        uint64_t word = neomm__page_next(pages, page);
        if (word == 0 || *page > last || *page >= batch->object->size) {
            *page = last;
            continue;
        }
        bool writing = neomm__page_is_frame(word) && (word & NEOMM__PAGE_WRITING);
        if (writing && all)
            return true;
        if (!writing && is_dirty(root, word))
            begin_write(root, batch, *page, word);
    }
    return false;
}

/* ---- without waiting ---- */

static uint64_t last_page(uint64_t last)
{
    const uint64_t most = ((uint64_t)1 << NEOMM__MAPPING_PAGE_BITS) - 1;
    return last < most ? last : most;
}

static uint32_t start_some(struct neomm *root, struct neomm_object *object, uint64_t *page,
                           uint64_t last, uint32_t most)
{
    struct neomm__batch *batch = neomm__batch_make(root, object);
    if (!batch)
        return 0;
    neomm__mutex_lock(&object->lock);
    neomm__cache_collect(root, object);
    if (object->dirty != 0)
        (void)take_dirty(root, batch, page, last, most, false);
    neomm__mutex_unlock(&object->lock);
    uint32_t count = batch->count;
    if (count != 0)
        neomm__batch_submit(batch);
    else
        (void)neomm_kfree(root, batch);
    return count;
}

uint32_t neomm__cache_start_writing(struct neomm *root, struct neomm_object *object, uint64_t page,
                                    uint64_t last, uint32_t most)
{
    uint32_t started = 0, now = 1;
    last = last_page(last);
    while (started < most && now != 0 && page <= last) {
        uint32_t left = most - started;
        now = start_some(root, object, &page, last,
                         left < NEOMM__BATCH_MAX ? left : NEOMM__BATCH_MAX);
        started += now;
    }
    return started;
}

/* ---- waiting ---- */

static neomm_status first_error(const struct neomm__batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->request[i].status != NEOMM_OK)
            return batch->request[i].status;
    return NEOMM_OK;
}

/* One batch of pages from *page on. The requests lie on the stack: memory may be short. */
static neomm_status write_some(struct neomm *root, struct neomm_object *object, uint64_t *page,
                               uint64_t last, bool all)
{
    struct neomm_pager_request request[NEOMM__BATCH_MAX];
    struct neomm__batch batch = {.object = object, .kept = true, .request = request};
    neomm__mutex_lock(&object->lock);
    uint32_t io = neomm__load_acquire(&object->io);
    neomm__cache_collect(root, object);
    bool wait = take_dirty(root, &batch, page, last, NEOMM__BATCH_MAX, all);
    neomm__mutex_unlock(&object->lock);
    if (batch.count != 0) {
        neomm__batch_submit(&batch);
        neomm__batch_wait(root, &batch);
    } else if (wait) {
        neomm__cache_wait(object, io);
    }
    return first_error(&batch);
}

neomm_status neomm__cache_write(struct neomm *root, struct neomm_object *object, uint64_t page,
                                uint64_t last, bool some)
{
    neomm_status status = NEOMM_OK;
    last = last_page(last);
    if (some)
        return write_some(root, object, &page, last, false);
    while (page <= last) {
        neomm_status now = write_some(root, object, &page, last, true);
        status = status == NEOMM_OK ? now : status;
    }
    return status;
}

static neomm_status flush(struct neomm *root, struct neomm_object *object)
{
    struct neomm_pager_request request;
    struct neomm__batch batch = {.object = object, .kept = true, .request = &request};
    neomm__batch_add(&batch, NEOMM_PAGER_FLUSH, 0, neomm_frame(0));
    neomm__batch_submit(&batch);
    neomm__batch_wait(root, &batch);
    return request.status;
}

neomm_status neomm__cache_sync(struct neomm *root, struct neomm_object *object, uint64_t page,
                               uint64_t last)
{
    neomm_status status = neomm__cache_write(root, object, page, last, false);
    neomm_status flushed = flush(root, object);
    return status == NEOMM_OK ? flushed : status;
}

neomm_status neomm_object_sync(struct neomm *root, struct neomm_object *object, uint64_t offset,
                               uint64_t bytes)
{
    if (bytes == 0 || !object->pager)
        return NEOMM_OK;
    uint64_t end = bytes - 1 < UINT64_MAX - offset ? offset + (bytes - 1) : UINT64_MAX;
    return neomm__cache_sync(root, object, offset >> NEOMM_PAGE_SHIFT, end >> NEOMM_PAGE_SHIFT);
}

/* ---- ranges of a space ---- */

/* Pages of an object that is held. */
struct stretch {
    struct neomm_object *object;
    uint64_t first, last;
};

/* The first part of a shared mapping of an object with a pager in [*start, end), behind which
 * *start moves. */
static bool next_stretch(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *start,
                         neomm_vaddr_t end, struct stretch *stretch)
{
    bool found = false;
    neomm__mutex_lock(&space->lock);
    while (!found && *start < end) {
        const struct neomm__region *region = neomm__region_first(&space->map, *start);
        if (!region || region->start >= end)
            break;
        neomm_vaddr_t from = region->start > *start ? region->start : *start;
        neomm_vaddr_t to = region->end < end ? region->end : end;
        struct neomm_object *object = root->vmm->object[region->object];
        found = object && object->pager && (region->flags & NEOMM__REGION_SHARED);
        if (found) {
            neomm__cache_hold(object);
            uint64_t first = region->offset + ((from - region->start) >> NEOMM_PAGE_SHIFT);
            *stretch =
                (struct stretch){object, first, first + ((to - 1 - from) >> NEOMM_PAGE_SHIFT)};
        }
        *start = to;
    }
    neomm__mutex_unlock(&space->lock);
    return found;
}

neomm_status neomm__cache_msync(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                neomm_vaddr_t end, bool wait)
{
    neomm_status status = NEOMM_OK;
    struct stretch stretch;
    while (next_stretch(root, space, &start, end, &stretch)) {
        neomm_status now = NEOMM_OK;
        if (wait)
            now = neomm__cache_sync(root, stretch.object, stretch.first, stretch.last);
        else
            (void)neomm__cache_start_writing(root, stretch.object, stretch.first, stretch.last,
                                             UINT32_MAX);
        neomm__cache_release(stretch.object);
        status = status == NEOMM_OK ? now : status;
    }
    return status;
}

/* ---- for a kernel's thread ---- */

/* The object at an index, held, if it has dirty pages. */
static struct neomm_object *hold_dirty(struct neomm__vmm *vmm, uint32_t index)
{
    neomm__mutex_lock(&vmm->spaces_lock);
    struct neomm_object *object = vmm->object[index];
    if (object && object->pager && !object->ending)
        neomm__cache_hold(object);
    else
        object = NULL;
    neomm__mutex_unlock(&vmm->spaces_lock);
    return object;
}

uint32_t neomm_cache_write_back(struct neomm *root, uint32_t pages)
{
    struct neomm__vmm *vmm = root->vmm;
    uint32_t started = 0;
    for (uint32_t i = 1; i < NEOMM__OBJECT_MAX && started < pages; i++) {
        struct neomm_object *object = hold_dirty(vmm, i);
        if (!object)
            continue;
        started += neomm__cache_start_writing(root, object, 0, UINT64_MAX, pages - started);
        neomm__cache_release(object);
    }
    return started;
}

void neomm_cache_set_dirty_limit(struct neomm *root, uint64_t pages)
{
    const uint64_t most = SIZE_MAX;
    neomm__store_release(&root->vmm->counts.dirty_limit, (size_t)(pages < most ? pages : most));
}

void neomm_cache_stats(struct neomm *root, struct neomm_cache_stats *stats)
{
    struct neomm__vmm *vmm = root->vmm;
    const struct neomm__cache_counts *counts = &vmm->counts;
    neomm_irq_t irq = neomm__lock(&vmm->policy_lock);
    uint32_t pages = vmm->cache.count;
    neomm__unlock(&vmm->policy_lock, irq);
    *stats = (struct neomm_cache_stats){
        .pages = pages,
        .dirty = neomm__load_relaxed(&counts->dirty),
        .shadows = neomm__load_relaxed(&counts->shadows),
        .dirty_limit = neomm__load_relaxed(&counts->dirty_limit),
        .reads = neomm__load_relaxed(&counts->reads),
        .writes = neomm__load_relaxed(&counts->writes),
        .read_errors = neomm__load_relaxed(&counts->read_errors),
        .write_errors = neomm__load_relaxed(&counts->write_errors),
        .ahead = neomm__load_relaxed(&counts->ahead),
        .ahead_hits = neomm__load_relaxed(&counts->ahead_hits),
        .around = neomm__load_relaxed(&counts->around),
        .refaults = neomm__load_relaxed(&counts->refaults),
        .dropped = neomm__load_relaxed(&counts->dropped),
    };
}
