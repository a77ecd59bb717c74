/* Removing areas that are in use.
 * SPDX-License-Identifier: MIT
 *
 *   ON --> LEAVING --no slot in use--> NONE: the place is free
 *    ^        |  |
 *    +--------+  +--some could not be read--> WORN --> LEAVING ...
 *
 * Counts of slots go on being taken and given back meanwhile, but no slot that is free gets any. So
 * once none is in use none ever will be. Who looks slots up without a count locks the area, and
 * sees that it has none.
 */
#include "swap_priv.h"

bool neomm__swap_is_leaving(struct neomm *root, uint32_t slot)
{
    struct neomm__swap_area *area = neomm__swap_area_of(root, slot);
    return area && neomm__load_acquire(&area->state) != NEOMM__AREA_ON;
}

/* ---- what who brings the pages back asks ---- */

void neomm__swap_set_evacuate(struct neomm *root, neomm__evacuate_fn *evacuate)
{
    root->swap->evacuate = evacuate;
}

bool neomm__evacuation_has(const struct neomm__evacuation *evacuation, uint32_t slot)
{
    return neomm__swap_area_has(evacuation->area, slot);
}

uint32_t neomm__evacuation_left(const struct neomm__evacuation *evacuation, uint32_t *stuck)
{
    struct neomm__swap_area *area = evacuation->area;
    neomm_irq_t irq = neomm__lock(&area->lock);
    uint32_t used = area->used;
    *stuck = area->stuck;
    neomm__unlock(&area->lock, irq);
    return used;
}

void neomm__swap_stir(struct neomm *root)
{
    struct neomm__swap *swap = root->swap;
    if (neomm__load_acquire(&swap->leaving) == 0)
        return;
    (void)neomm__fetch_add(&swap->stir, 1);
    neomm_port_wake(&swap->stir, UINT32_MAX);
}

uint32_t neomm__swap_stirred(struct neomm *root)
{
    return neomm__load_acquire(&root->swap->stir);
}

void neomm__swap_wait_stirred(struct neomm *root, uint32_t stirred, uint64_t timeout)
{
    (void)neomm_port_wait(&root->swap->stir, stirred, timeout);
}

/* ---- removing ---- */

static void set_state(struct neomm__swap_area *area, enum neomm__area_state state)
{
    neomm_irq_t irq = neomm__lock(&area->lock);
    neomm__store_release(&area->state, (uint32_t)state);
    neomm__unlock(&area->lock, irq);
}

/* The area on the device, which from now on takes no new slots. */
static neomm_status begin(struct neomm__swap *swap, const struct neomm_block_device *device,
                          struct neomm__swap_area **found)
{
    neomm_status status = NEOMM_E_NOENT;
    neomm__mutex_lock(&swap->changes);
    for (uint32_t i = 0; i < swap->areas; i++) {
        struct neomm__swap_area *area = &swap->area[i];
        if (area->state == NEOMM__AREA_NONE || area->device != device)
            continue;
        status = area->state == NEOMM__AREA_LEAVING ? NEOMM_E_BUSY : NEOMM_OK;
        *found = area;
    }
    if (status == NEOMM_OK) {
        (void)neomm__fetch_add(&swap->leaving, 1);
        set_state(*found, NEOMM__AREA_LEAVING);
    }
    neomm__mutex_unlock(&swap->changes);
    return status;
}

/* No slot is in use: the area is gone for all who look with the lock. */
static void take_down(struct neomm *root, struct neomm__swap_area *area)
{
    struct neomm__swap *swap = root->swap;
    neomm_irq_t irq = neomm__lock(&area->lock);
    NEOMM__ASSERT(area->used == 0);
    swap->slots -= area->slots;
    neomm__store_relaxed(&area->free, 0);
    neomm__store_release(&area->slots, 0);
    neomm__store_release(&area->state, NEOMM__AREA_NONE);
    neomm__unlock(&area->lock, irq);
    (void)neomm__swap_free_state(root, area);
}

static neomm_status evacuate(struct neomm *root, struct neomm__evacuation *evacuation)
{
    uint32_t stuck;
    if (neomm__evacuation_left(evacuation, &stuck) == 0)
        return NEOMM_OK;
    return root->swap->evacuate ? root->swap->evacuate(root, evacuation) : NEOMM_E_BUSY;
}

neomm_status neomm_swap_remove(struct neomm *root, const struct neomm_block_device *device,
                               neomm_swap_stop_fn *stop, void *context)
{
    struct neomm__swap *swap = root->swap;
    struct neomm__evacuation evacuation = {.stop = stop, .context = context};
    if (!swap)
        return NEOMM_E_NOENT;
    neomm_status status = begin(swap, device, &evacuation.area);
    if (status != NEOMM_OK)
        return status;
    status = evacuate(root, &evacuation);
    if (status == NEOMM_OK)
        neomm__swap_discard_end(evacuation.area);
    neomm__mutex_lock(&swap->changes);
    if (status == NEOMM_OK)
        take_down(root, evacuation.area);
    else
        set_state(evacuation.area, status == NEOMM_E_IO ? NEOMM__AREA_WORN : NEOMM__AREA_ON);
    (void)neomm__fetch_sub(&swap->leaving, 1);
    neomm__mutex_unlock(&swap->changes);
    if (status == NEOMM_E_IO)
        neomm__log(NEOMM_LOG_ERROR, "swap: %s: %u pages cannot be read; it takes no new ones",
                   device->name, evacuation.lost);
    return status;
}
