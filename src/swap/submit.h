/* Batches of requests to devices.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SWAP_SUBMIT_H
#define NEOMM_SWAP_SUBMIT_H

#include "swap_priv.h"

/* Requests under way, and the word that their submitter sleeps on. */
struct neomm__swap_batch {
    uint32_t pending;
    uint32_t count;
    struct neomm_block_request request[NEOMM_POLICY_BATCH];
    struct neomm_swap_page *page[NEOMM_POLICY_BATCH];  /* of the request with this index */
    struct neomm__swap_area *area[NEOMM_POLICY_BATCH]; /* the same; NULL: what counts for none */
    struct neomm_block_device *device[NEOMM_POLICY_BATCH];
};

static inline void neomm__swap_batch_init(struct neomm__swap_batch *batch)
{
    batch->count = 0;
}

/* One more request, over `pages` pages of the device. */
void neomm__swap_batch_add(struct neomm__swap_batch *batch, struct neomm_block_device *device,
                           struct neomm__swap_area *area, enum neomm_block_operation operation,
                           uint32_t page, uint32_t pages, neomm_frame_t frame);

/* Submits all requests and sleeps until the last is done. Without locks. */
void neomm__swap_batch_run(struct neomm__swap_batch *batch);

#endif
