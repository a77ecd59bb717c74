/* Textbook LRU, to compare with: a policy that looks at every reference.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_REPLAY_LRU_H
#define NEOMM_TOOLS_REPLAY_LRU_H

#include "oracle.h"

#include <neomm/swap.h>

struct lru {
    struct neomm_policy_ops ops; /* registered with the root; leads back to this structure */
    struct oracle_page *newest, *oldest;
    struct oracle_page *faulting; /* the page of the next frame that enters */
    struct oracle_page **owner;   /* by frame number */
    uint32_t frames;              /* length of owner[] */
};

/* For a machine with `frames` frames. False: the host has no memory. */
bool lru_create(struct lru *lru, uint32_t frames);
void lru_destroy(struct lru *lru);

void lru_move_to_front(struct lru *lru, struct oracle_page *page);

/* The page, which is in memory, is referenced. */
static inline void lru_reference(struct lru *lru, struct oracle_page *page)
{
    if (lru->newest != page)
        lru_move_to_front(lru, page);
}

#endif
