/* Processes whose memory is in swap as a whole (idle.c).
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_IDLE_H
#define NEOMM_VMM_IDLE_H

#include "vmm/vmm_priv.h"

/* A page of the space is in memory again, by a fault or read ahead. */
void neomm__space_page_is_back(struct neomm *root, struct neomm_space *space);

#endif
