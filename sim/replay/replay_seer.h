/* Policies that see every reference, to compare with: least recently used, and Belady's optimum,
 * which sees those to come, too.
 * SPDX-License-Identifier: MIT
 *
 * Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
 * 5(2), 1966.
 */
#ifndef NEOMM_SIM_REPLAY_SEER_H
#define NEOMM_SIM_REPLAY_SEER_H

#include "page_string.h"

#include <neomm/swap.h>

/* A page of the heap at the time of a reference: stale if the page was referenced since. */
struct seer_use {
    uint32_t next, page; /* the record that uses it next */
};

struct seer {
    struct neomm_policy_ops ops; /* registered with the root; leads back to this structure */
    uint32_t *older, *newer;     /* LRU: by page; [pages] is the ends' */
    uint32_t *next;              /* OPT: by record */
    uint32_t *next_of_page;      /* OPT: by page, from its last reference */
    struct seer_use *heap;       /* OPT: the latest use first */
    size_t uses;
    neomm_frame_t *frame_of; /* by page; nil: not in memory */
    uint32_t *page_of;       /* by frame */
    uint32_t nobody;         /* = pages */
    uint32_t faulting;       /* the page of the next frame that enters */
};

/* For `frames` frame numbers. False: the host has no memory. */
bool seer_create(struct seer *seer, const struct page_string *string, uint32_t frames,
                 bool optimal);
void seer_destroy(struct seer *seer);

/* Record number `at` refers to a page that is in memory. */
void seer_reference(struct seer *seer, uint32_t page, size_t at);

#endif
