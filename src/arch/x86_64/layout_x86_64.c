/* Address layouts of x86_64; areas.h says where things lie.
 * SPDX-License-Identifier: MIT */
#include "areas.h"

#include "base/bits.h"

static const struct neomm__layout_rule rule_4level = {
    .format = NEOMM_FORMAT_4LEVEL,
    .user_end = USER_END_4LEVEL,
    .kernel_base = KERNEL_4LEVEL,
    .split = NEOMM_PAGE_SIZE,
    .physical_most = 52,
};

static const struct neomm__layout_rule rule_5level = {
    .format = NEOMM_FORMAT_5LEVEL,
    .user_end = USER_END_5LEVEL,
    .kernel_base = KERNEL_5LEVEL,
    .split = NEOMM_PAGE_SIZE,
    .physical_most = 52,
};

const struct neomm__layout_rule *neomm__layout_rule(enum neomm_format format)
{
    if (format == NEOMM_FORMAT_4LEVEL)
        return &rule_4level;
    return format == NEOMM_FORMAT_5LEVEL ? &rule_5level : NULL;
}

neomm_status neomm_layout_default(enum neomm_format format, neomm_paddr_t ram_end,
                                  struct neomm_layout *layout)
{
    const struct neomm__layout_rule *rule = neomm__layout_rule(format);
    bool five = format == NEOMM_FORMAT_5LEVEL;
    neomm_paddr_t direct = ram_end < DIRECT_MOST ? ram_end : DIRECT_MOST;
    if (!rule)
        return NEOMM_E_UNSUPPORTED;
    if (ram_end == 0)
        return NEOMM_E_RANGE;
    *layout = (struct neomm_layout){
        .format = format,
        .physical_bits = rule->physical_most,
        .user_base = 0x10000,
        .user_limit = rule->user_end,
        .direct = {five ? DIRECT_5LEVEL : DIRECT_4LEVEL, NEOMM__ALIGN_UP(direct, NEOMM_PAGE_SIZE),
                   0},
        .window = {five ? WINDOW_5LEVEL : WINDOW_4LEVEL, WINDOW_SIZE, 0},
        .slots = {five ? SLOTS_5LEVEL : SLOTS_4LEVEL, NEOMM__SLOTS_SIZE, 0},
        .mmio = {five ? MMIO_5LEVEL : MMIO_4LEVEL, MMIO_SIZE, 0},
        .percpu = {five ? PERCPU_5LEVEL : PERCPU_4LEVEL, NEOMM__PERCPU_SIZE, 0},
        .image = {IMAGE, IMAGE_SIZE, 0},
    };
    return NEOMM_OK;
}
