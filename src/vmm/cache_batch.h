/* Batches of requests to a pager (cache_io.c), for those who fill them.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_CACHE_BATCH_H
#define NEOMM_VMM_CACHE_BATCH_H

#include "vmm/cache.h"

/* An empty batch that is freed when it is collected; NULL: no memory. */
struct neomm__batch *neomm__batch_make(struct neomm *root, struct neomm_object *object);
/* One more request; the object is locked. */
void neomm__batch_add(struct neomm__batch *batch, enum neomm_pager_operation operation,
                      uint64_t page, neomm_frame_t frame);
/* Hands a batch that is not empty over; without locks. Unless it is kept, it may be gone then. */
void neomm__batch_submit(struct neomm__batch *batch);
/* Waits until a batch that is kept has been collected. */
void neomm__batch_wait(struct neomm *root, struct neomm__batch *batch);

#endif
