/* How much of what is to be freed comes from the page cache (balance.c).
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_BALANCE_H
#define NEOMM_VMM_BALANCE_H

#include "vmm/vmm_priv.h"

/* A page that had to be fetched again. */
enum neomm__cost_of { NEOMM__COST_CACHE, NEOMM__COST_ANONYMOUS };

void neomm__balance_cost(struct neomm *root, enum neomm__cost_of of);
/* Would a page that left so many pages ago be there still, had all memory been the cache's? */
bool neomm__balance_is_near(struct neomm *root, uint32_t distance);
/* The cache's share of so many frames. */
uint32_t neomm__balance_share(struct neomm *root, uint32_t frames);
/* Frees up to so many frames of the cache: clean ones, then dirty ones. Without locks. */
uint32_t neomm__cache_shrink(struct neomm *root, uint32_t frames);

#endif
