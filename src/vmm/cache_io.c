/* The page cache: batches of requests, reading, and reading ahead.
 * SPDX-License-Identifier: MIT
 *
 * How far is read ahead follows W. Fengguang, X. Hongsheng, X. Chenfeng, "On the design of a new
 * Linux readahead framework" (ACM SIGOPS Operating Systems Review 42(5), 2008): a window that
 * doubles while misses and marks come in order, and a mark on its first page, which starts the next
 * window while this one is being used. One state an object.
 */
#include "vmm/cache_batch.h"

#define WINDOW_FIRST 4u

/* ---- holding, waiting ---- */

void neomm__cache_hold(struct neomm_object *object)
{
    (void)neomm__fetch_add(&object->busy, 1);
}

void neomm__cache_release(struct neomm_object *object)
{
    const uint32_t *word = &object->busy;
    if (neomm__fetch_sub(&object->busy, 1) == 1)
        neomm_port_wake(word, UINT32_MAX);
}

void neomm__cache_wait(struct neomm_object *object, uint32_t io)
{
    (void)neomm_port_wait(&object->io, io, UINT64_MAX);
}

#define IO_ENDED ((uint32_t)1 << 16)

void neomm__cache_wake(struct neomm_object *object)
{
    (void)neomm__fetch_add(&object->io, IO_ENDED);
    neomm_port_wake(&object->io, UINT32_MAX);
}

/* ---- batches ---- */

/* Any context. Once the batch is on the list it may be gone, and the object with the count; waking
 * only uses an address. */
static void end_batch(struct neomm__batch *batch)
{
    struct neomm_object *object = batch->object;
    struct neomm__batch *head = neomm__load_acquire(&object->ended);
    do
        batch->next = head;
    while (!neomm__cas(&object->ended, &head, batch));
    const uint32_t *word = &object->io;
    (void)neomm__fetch_add(&object->io, IO_ENDED - 1);
    neomm_port_wake(word, UINT32_MAX);
}

static void request_done(struct neomm_pager_request *request)
{
    struct neomm__batch *batch = request->context;
    if (neomm__fetch_sub(&batch->pending, 1) == 1)
        end_batch(batch);
}

struct neomm__batch *neomm__batch_make(struct neomm *root, struct neomm_object *object)
{
    struct neomm__batch *batch;
    const size_t size = sizeof(*batch) + NEOMM__BATCH_MAX * sizeof(*batch->request);
    batch = NEOMM__FAULT(VMM_PAGER_BATCH) ? NULL : neomm_kzalloc(root, size, NEOMM_NORECLAIM);
    if (!batch)
        return NULL;
    batch->object = object;
    batch->request = (struct neomm_pager_request *)(batch + 1);
    return batch;
}

void neomm__batch_add(struct neomm__batch *batch, enum neomm_pager_operation operation,
                      uint64_t page, neomm_frame_t frame)
{
    batch->request[batch->count++] = (struct neomm_pager_request){
        .operation = operation,
        .bytes = operation == NEOMM_PAGER_FLUSH ? 0 : neomm__cache_bytes(batch->object, page),
        .page = page,
        .frame = frame,
        .status = NEOMM_E_IO,
        .done = request_done,
        .context = batch,
    };
}

static bool fails(enum neomm_pager_operation operation)
{
    if (operation == NEOMM_PAGER_READ)
        return NEOMM__FAULT(VMM_PAGER_READ);
    return NEOMM__FAULT(VMM_PAGER_WRITE);
}

/* The submitter counts as a request, so that the batch stays until all have been handed over. */
void neomm__batch_submit(struct neomm__batch *batch)
{
    struct neomm_pager_request *list[NEOMM__BATCH_MAX];
    struct neomm_pager *pager = batch->object->pager;
    uint32_t listed = 0, left = 1;
    neomm__lock_assert_none("cache: I/O with a lock held");
    for (uint32_t i = 0; i < batch->count; i++)
        if (fails(batch->request[i].operation))
            batch->request[i].status = NEOMM_E_IO;
        else
            list[listed++] = &batch->request[i];
    (void)neomm__fetch_add(&batch->object->io, 1);
    neomm__store_release(&batch->pending, listed + left);
    if (listed != 0)
        pager->submit(pager, list, listed);
    if (neomm__fetch_sub(&batch->pending, left) == left)
        end_batch(batch);
}

void neomm__batch_wait(struct neomm *root, struct neomm__batch *batch)
{
    struct neomm_object *object = batch->object;
    for (bool collected = false; !collected;) {
        neomm__mutex_lock(&object->lock);
        uint32_t io = neomm__load_acquire(&object->io);
        neomm__cache_collect(root, object);
        collected = batch->collected;
        neomm__mutex_unlock(&object->lock);
        if (!collected)
            neomm__cache_wait(object, io);
    }
}

/* ---- reading ---- */

static neomm_status take_frame(struct neomm *root, neomm_flags_t flags, neomm_frame_t *frame)
{
    return NEOMM__FAULT(VMM_FRAME)
               ? NEOMM_E_NOMEM
               : neomm_pmm_alloc(root, 0, NEOMM_HIGH | NEOMM_MOVABLE | flags, frame);
}

/* The page is to be read into the frame; the object is locked. *again: it has left not long ago.
 * NEOMM_E_EXISTS: it is there, on its way, or beyond the end; NEOMM_E_NOMEM. */
static neomm_status begin_read(struct neomm *root, struct neomm_object *object, uint64_t page,
                               neomm_frame_t frame, uint64_t mark, bool *again)
{
    uint64_t word = neomm__page_get(&object->pages, page);
    if (page >= object->size || neomm__page_is_frame(word))
        return NEOMM_E_EXISTS;
    neomm_status status = neomm__page_set(root, &object->pages, page,
                                          neomm__page_of_frame(frame) | NEOMM__PAGE_READING | mark);
    *again = status == NEOMM_OK && neomm__cache_note_return(root, word);
    return status;
}

/* ---- how far ahead; the object is locked ---- */

static uint32_t window_most(uint32_t flags)
{
    return flags & NEOMM__REGION_SEQUENTIAL ? NEOMM_AHEAD_SEQUENTIAL : NEOMM_AHEAD_MOST;
}

static struct neomm__ahead no_window(struct neomm_object *object, uint64_t next)
{
    object->ahead = (struct neomm__ahead){next, 0};
    return object->ahead;
}

static struct neomm__ahead next_window(struct neomm_object *object, uint64_t first, uint32_t flags)
{
    uint32_t most = window_most(flags), size = object->ahead.size * 2;
    if (flags & NEOMM__REGION_SEQUENTIAL)
        size = most;
    else if (size == 0)
        size = WINDOW_FIRST;
    size = size < most ? size : most;
    object->ahead = (struct neomm__ahead){first + size, size};
    return (struct neomm__ahead){first, size};
}

/* A page was not there. */
static struct neomm__ahead window_of_miss(struct neomm_object *object, uint64_t page,
                                          uint32_t flags)
{
    bool in_order = page == object->ahead.next || (flags & NEOMM__REGION_SEQUENTIAL);
    if ((flags & NEOMM__REGION_RANDOM) || (page != 0 && !in_order))
        return no_window(object, page + 1);
    if (page == 0)
        object->ahead.size = 0;
    return next_window(object, page + 1, flags);
}

/* The first page of the window was reached. */
static struct neomm__ahead window_of_mark(struct neomm_object *object, uint32_t flags)
{
    return flags & NEOMM__REGION_RANDOM ? no_window(object, object->ahead.next)
                                        : next_window(object, object->ahead.next, flags);
}

/* ---- ahead ---- */

/* One page of a batch; false: there is no memory for more. */
static bool add_ahead(struct neomm *root, struct neomm__batch *batch, uint64_t page, uint64_t mark)
{
    struct neomm_object *object = batch->object;
    neomm_frame_t frame;
    bool again;
    if (neomm__page_is_frame(neomm__page_get(&object->pages, page)))
        return true;
    if (take_frame(root, NEOMM_NORECLAIM, &frame) != NEOMM_OK)
        return false;
    neomm_status status = begin_read(root, object, page, frame, mark, &again);
    if (status == NEOMM_OK)
        neomm__batch_add(batch, NEOMM_PAGER_READ, page, frame);
    else
        neomm__user_frame_put(root, frame);
    return status != NEOMM_E_NOMEM;
}

/* false: there is no memory, or no more pages. */
static bool read_some_ahead(struct neomm *root, struct neomm_object *object, uint64_t page,
                            uint32_t count, uint64_t mark)
{
    struct neomm__batch *batch = neomm__batch_make(root, object);
    bool more = batch != NULL;
    if (!batch)
        return false;
    neomm__mutex_lock(&object->lock);
    for (uint32_t i = 0; i < count && more; i++)
        more = page + i < object->size && add_ahead(root, batch, page + i, i == 0 ? mark : 0);
    neomm__mutex_unlock(&object->lock);
    (void)neomm__fetch_add(&root->vmm->counts.ahead, batch->count);
    if (batch->count != 0)
        neomm__batch_submit(batch);
    else
        (void)neomm_kfree(root, batch);
    return more;
}

static void read_window(struct neomm *root, struct neomm_object *object, uint64_t page,
                        uint64_t count, uint64_t mark)
{
    bool more = true;
    for (uint64_t at = 0; at < count && more; at += NEOMM__BATCH_MAX, mark = 0) {
        uint64_t left = count - at;
        more = read_some_ahead(root, object, page + at,
                               left < NEOMM__BATCH_MAX ? (uint32_t)left : NEOMM__BATCH_MAX, mark);
    }
}

void neomm__cache_read_ahead(struct neomm *root, struct neomm_object *object, uint64_t page,
                             uint64_t count)
{
    read_window(root, object, page, count, 0);
}

static void follow(struct neomm *root, struct neomm_object *object,
                   const struct neomm__cache_look *look, uint32_t flags)
{
    if (look->ahead) {
        neomm__mutex_lock(&object->lock);
        struct neomm__ahead window = window_of_mark(object, flags);
        neomm__mutex_unlock(&object->lock);
        neomm__bump(&root->vmm->counts.ahead_hits);
        read_window(root, object, window.next, window.size, NEOMM__PAGE_AHEAD);
    }
    if (look->late)
        (void)neomm__cache_start_writing(root, object, 0, UINT64_MAX, NEOMM__BATCH_MAX);
}

/* ---- the page that is waited for ---- */

/* With more memory a page that has left not long ago would still be there. */
static void wait_for_page(struct neomm *root, struct neomm__batch *batch, bool again)
{
    if (again)
        neomm__stall_begin(root);
    neomm__batch_wait(root, batch);
    if (again)
        neomm__stall_end(root);
}

neomm_status neomm__cache_read(struct neomm *root, struct neomm_object *object, uint64_t page,
                               uint32_t flags)
{
    struct neomm_pager_request request;
    struct neomm__batch batch = {.object = object, .kept = true, .request = &request};
    struct neomm__ahead window = {0, 0};
    neomm_frame_t frame;
    bool again = false;
    neomm_status status = take_frame(root, 0, &frame);
    if (status != NEOMM_OK)
        return status;
    neomm__mutex_lock(&object->lock);
    status = begin_read(root, object, page, frame, 0, &again);
    if (status == NEOMM_OK) {
        neomm__batch_add(&batch, NEOMM_PAGER_READ, page, frame);
        window = window_of_miss(object, page, flags);
    }
    neomm__mutex_unlock(&object->lock);
    if (status != NEOMM_OK) {
        neomm__user_frame_put(root, frame);
        return status == NEOMM_E_EXISTS ? NEOMM_OK : status;
    }
    neomm__batch_submit(&batch);
    read_window(root, object, window.next, window.size, NEOMM__PAGE_AHEAD);
    wait_for_page(root, &batch, again);
    return request.status;
}

neomm_status neomm__cache_serve(struct neomm *root, struct neomm_object *object,
                                const struct neomm__cache_look *look, uint32_t flags)
{
    if (look->answer == NEOMM__CACHE_MISSING)
        return neomm__cache_read(root, object, look->page, flags);
    if (look->answer == NEOMM__CACHE_WAIT)
        neomm__cache_wait(object, look->io);
    else
        follow(root, object, look, flags);
    return NEOMM_OK;
}
