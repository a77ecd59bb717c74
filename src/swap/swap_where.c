/* Where the contents of a slot are.
 * SPDX-License-Identifier: MIT */
#include "swap_priv.h"

enum neomm_swap_where neomm_swap_where(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area = neomm__swap_area_of(root, entry.slot);
    enum neomm_swap_where where = NEOMM_SWAP_NOWHERE;
    if (!area)
        return where;
    neomm_irq_t irq = neomm__lock(&area->lock);
    const struct neomm__slot *slot = neomm__swap_record(root, area, entry);
    if (slot && slot->flags & NEOMM__SLOT_VALID)
        where = slot->flags & NEOMM__SLOT_FILLED ? NEOMM_SWAP_FILLED : NEOMM_SWAP_ON_DEVICE;
    neomm__unlock(&area->lock, irq);
    return where;
}
