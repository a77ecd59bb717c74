/* What removing an area that is in use needs of both swap and vmm.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SWAP_REMOVE_H
#define NEOMM_SWAP_REMOVE_H

#include "base/root.h"

#include <neomm/swap.h>

struct neomm__swap_area;

/* An area that is being removed, and what came of it. */
struct neomm__evacuation {
    struct neomm__swap_area *area;
    neomm_swap_stop_fn *stop;
    void *context; /* of stop */
    uint32_t lost; /* places of pages that could not be read */
};

/* Brings back what is in the area's slots. NEOMM_OK: nothing is left; else see neomm_swap_remove.
 * Without locks. */
typedef neomm_status neomm__evacuate_fn(struct neomm *root, struct neomm__evacuation *evacuation);

/* Who does so; NULL: nobody. */
void neomm__swap_set_evacuate(struct neomm *root, neomm__evacuate_fn *evacuate);

/* Does the slot's area take no new ones? Then what comes back from it does not keep its slot. Right
 * as long as there is a count of the slot. */
bool neomm__swap_is_leaving(struct neomm *root, uint32_t slot);

/* Is the slot, of which there is a count, the area's? */
bool neomm__evacuation_has(const struct neomm__evacuation *evacuation, uint32_t slot);

/* Slots of the area that are in use, and how many of those have a count that was lost. */
uint32_t neomm__evacuation_left(const struct neomm__evacuation *evacuation, uint32_t *stuck);

/* Nobody has one of the slots whose counts were lost: they are free. */
void neomm__evacuation_free_stuck(struct neomm *root, const struct neomm__evacuation *evacuation);

/* Grows whenever slots of an area that leaves get users, or lose them, or somebody may have passed
 * them on otherwise: what was looked at before may have them now. Wait for it to differ, but no
 * longer than so many nanoseconds. */
uint32_t neomm__swap_stirred(struct neomm *root);
void neomm__swap_wait_stirred(struct neomm *root, uint32_t stirred, uint64_t timeout);

/* It grows, if an area leaves. Any context. */
void neomm__swap_stir(struct neomm *root);

#endif
