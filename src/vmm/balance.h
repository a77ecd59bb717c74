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
/* Are there pages of the cache, and the cost of giving them up is not the higher one? */
bool neomm__balance_is_cheap(struct neomm *root);
/* Which of the two gives the next page. */
enum neomm__cost_of neomm__balance_turn(struct neomm *root);

#endif
