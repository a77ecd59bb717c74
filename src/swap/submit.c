/* Requests to devices: a batch of them, sorted, bounded, and waited for.
 * SPDX-License-Identifier: MIT
 *
 * Those of one device are submitted in ascending order of pages, so that it finds runs that it can
 * move at once (neomm_block_run). What need not be done at once, which is all but reads, waits
 * while as many as the device wants are on their way.
 */
#include "submit.h"

static bool is_bounded(const struct neomm_block_request *request,
                       const struct neomm__swap_area *area)
{
    return area && request->operation != NEOMM_BLOCK_READ;
}

/* Any context. Once `pending` is 0 the batch may be gone; waking only uses its address. */
static void done(struct neomm_block_request *request)
{
    struct neomm__swap_batch *batch = request->context;
    struct neomm__swap_area *area = batch->area[request - batch->request];
    uint32_t *pending = &batch->pending;
    if (is_bounded(request, area)) {
        (void)neomm__fetch_sub(&area->in_flight, 1);
        if (neomm__load_acquire(&area->throttled) != 0)
            neomm_port_wake(&area->in_flight, UINT32_MAX);
    }
    if (neomm__fetch_sub(pending, 1) == 1)
        neomm_port_wake(pending, 1);
}

void neomm__swap_batch_add(struct neomm__swap_batch *batch, struct neomm_block_device *device,
                           struct neomm__swap_area *area, enum neomm_block_operation operation,
                           uint32_t page, uint32_t pages, neomm_frame_t frame)
{
    uint32_t i = batch->count++;
    batch->device[i] = device;
    batch->area[i] = area;
    batch->request[i] = (struct neomm_block_request){.operation = operation,
                                                     .page = page,
                                                     .frame = frame,
                                                     .status = NEOMM_E_IO,
                                                     .done = done,
                                                     .context = batch,
                                                     .pages = pages};
}

/* Waits until the device may get at least one more; of so many, how many it may get. */
static uint32_t wait_for_room(struct neomm__swap_area *area, uint32_t want)
{
    uint32_t most = area->device->depth ? area->device->depth : NEOMM_BLOCK_IN_FLIGHT;
    uint32_t now = neomm__load_acquire(&area->in_flight);
    for (;;) {
        if (now >= most) {
            (void)neomm__fetch_add(&area->throttled, 1);
            (void)neomm_port_wait(&area->in_flight, now, UINT64_MAX);
            (void)neomm__fetch_sub(&area->throttled, 1);
            now = neomm__load_acquire(&area->in_flight);
            continue;
        }
        uint32_t granted = want < most - now ? want : most - now;
        if (neomm__cas(&area->in_flight, &now, now + granted))
            return granted;
    }
}

/* All are of one device, in order. */
static void submit(struct neomm__swap_area *area, struct neomm_block_device *device,
                   struct neomm_block_request **list, uint32_t count)
{
    while (count > 0) {
        uint32_t now = is_bounded(list[0], area) ? wait_for_room(area, count) : count;
        device->submit(device, list, now);
        list += now;
        count -= now;
    }
}

static void insert(struct neomm_block_request **list, uint32_t count,
                   struct neomm_block_request *request)
{
    for (; count > 0 && list[count - 1]->page > request->page; count--)
        list[count] = list[count - 1];
    list[count] = request;
}

/* (A batch has requests of one operation, and a device is one area's.) */
void neomm__swap_batch_run(struct neomm__swap_batch *batch)
{
    struct neomm_block_request *list[NEOMM_POLICY_BATCH];
    uint32_t left;
    neomm__lock_assert_none("swap: I/O with a lock held");
    neomm__store_release(&batch->pending, batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct neomm_block_device *device = batch->device[i];
        uint32_t listed = 0;
        for (uint32_t j = i; device && j < batch->count; j++)
            if (batch->device[j] == device) {
                insert(list, listed++, &batch->request[j]);
                batch->device[j] = NULL;
            }
        if (device)
            submit(batch->area[i], device, list, listed);
    }
    while ((left = neomm__load_acquire(&batch->pending)) != 0)
        (void)neomm_port_wait(&batch->pending, left, UINT64_MAX);
}

neomm_status neomm__swap_move(struct neomm_block_device *device,
                              enum neomm_block_operation operation, uint32_t page, uint32_t pages,
                              neomm_frame_t frame)
{
    struct neomm__swap_batch batch;
    neomm__swap_batch_init(&batch);
    neomm__swap_batch_add(&batch, device, NULL, operation, page, pages, frame);
    neomm__swap_batch_run(&batch);
    return batch.request[0].status;
}
