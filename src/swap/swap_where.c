/* Where the contents of a slot are.
 * SPDX-License-Identifier: MIT */
#include "swap_priv.h"

enum neomm_swap_where neomm_swap_where(struct neomm *root, struct neomm_swap_entry entry)
{
    enum neomm_swap_where where = NEOMM_SWAP_NOWHERE;
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    const struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return where;
    if (slot->flags & NEOMM__SLOT_VALID)
        where = slot->flags & NEOMM__SLOT_FILLED   ? NEOMM_SWAP_FILLED
                : slot->flags & NEOMM__SLOT_POOLED ? NEOMM_SWAP_IN_POOL
                                                   : NEOMM_SWAP_ON_DEVICE;
    neomm__unlock(&area->lock, irq);
    return where;
}
