/* The check of an address layout, the same for all formats.
 * SPDX-License-Identifier: MIT */
#include "layout.h"

#include "base/bits.h"

#define AREAS 6u

static neomm_vaddr_t last_byte(const struct neomm_area *area)
{
    return area->base + (area->size - 1);
}

static bool overlap(const struct neomm_area *a, const struct neomm_area *b)
{
    return a->size != 0 && b->size != 0 && a->base <= last_byte(b) && b->base <= last_byte(a);
}

/* Whole pages of the kernel's half that do not wrap; the end may be the top of memory. */
static neomm_status check_area(const struct neomm_layout *layout, const struct neomm_area *area,
                               const struct neomm__layout_rule *rule)
{
    if (!NEOMM__ALIGNED(area->base, NEOMM_PAGE_SIZE) ||
        !NEOMM__ALIGNED(area->size, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (area->size == 0)
        return NEOMM_OK;
    if (last_byte(area) < area->base || area->base < rule->kernel_base ||
        area->base < layout->user_limit)
        return NEOMM_E_RANGE;
    return NEOMM_OK;
}

static neomm_status check_user(const struct neomm_layout *layout,
                               const struct neomm__layout_rule *rule)
{
    if (!NEOMM__ALIGNED(layout->user_base, NEOMM_PAGE_SIZE) ||
        !NEOMM__ALIGNED(layout->user_limit, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (layout->user_base >= layout->user_limit || layout->user_limit > rule->user_end)
        return NEOMM_E_RANGE;
    return NEOMM__ALIGNED(layout->user_limit, rule->split) ? NEOMM_OK : NEOMM_E_ALIGN;
}

neomm_status neomm_layout_check(const struct neomm_layout *layout, uint32_t cpus)
{
    const struct neomm__layout_rule *rule = neomm__layout_rule(layout->format);
    const struct neomm_area *area[AREAS] = {&layout->direct, &layout->window, &layout->slots,
                                            &layout->mmio,   &layout->percpu, &layout->image};
    if (!rule)
        return NEOMM_E_UNSUPPORTED;
    if (cpus == 0 || cpus > NEOMM_CPU_MAX || layout->direct.size == 0)
        return NEOMM_E_INVALID;
    if (layout->physical_bits < 32 || layout->physical_bits > rule->physical_most)
        return NEOMM_E_RANGE;
    neomm_status status = check_user(layout, rule);
    for (unsigned i = 0; i < AREAS && status == NEOMM_OK; i++) {
        status = check_area(layout, area[i], rule);
        for (unsigned j = 0; j < i && status == NEOMM_OK; j++)
            if (overlap(area[i], area[j]))
                status = NEOMM_E_RANGE;
    }
    if (status != NEOMM_OK)
        return status;
    if (layout->slots.size != 0 &&
        layout->slots.size / (NEOMM_SLOTS_PER_CPU * NEOMM_PAGE_SIZE) < cpus)
        return NEOMM_E_RANGE;
    return NEOMM_OK;
}
