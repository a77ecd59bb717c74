/* Address layouts of i386; areas.h says where things lie.
 * SPDX-License-Identifier: MIT */
#include "areas.h"

#include "base/bits.h"

/* A root entry of the format belongs to one half. */
static const struct neomm__layout_rule rule_2level = {
    .format = NEOMM_FORMAT_2LEVEL,
    .user_end = 0xffc00000u,
    .kernel_base = 0,
    .split = (size_t)1 << 22,
    .physical_most = 32,
};

static const struct neomm__layout_rule rule_pae = {
    .format = NEOMM_FORMAT_PAE,
    .user_end = 0xc0000000u,
    .kernel_base = 0,
    .split = (size_t)1 << 30,
    .physical_most = 52,
};

const struct neomm__layout_rule *neomm__layout_rule(enum neomm_format format)
{
    if (format == NEOMM_FORMAT_2LEVEL)
        return &rule_2level;
    return format == NEOMM_FORMAT_PAE ? &rule_pae : NULL;
}

neomm_status neomm_layout_default(enum neomm_format format, neomm_paddr_t ram_end,
                                  struct neomm_layout *layout)
{
    const struct neomm__layout_rule *rule = neomm__layout_rule(format);
    neomm_paddr_t direct = ram_end < DIRECT_MOST ? ram_end : DIRECT_MOST;
    if (!rule)
        return NEOMM_E_UNSUPPORTED;
    if (ram_end == 0)
        return NEOMM_E_RANGE;
    *layout = (struct neomm_layout){
        .format = format,
        .physical_bits = rule->physical_most,
        .user_base = 0x10000,
        .user_limit = IMAGE,
        .direct = {DIRECT, NEOMM__ALIGN_UP((size_t)direct, NEOMM_PAGE_SIZE), 0},
        .window = {WINDOW, MMIO - WINDOW, 0},
        .slots = {SLOTS, NEOMM__SLOTS_SIZE, 0},
        .mmio = {MMIO, MMIO_SIZE, 0},
        .percpu = {PERCPU, NEOMM__PERCPU_SIZE, 0},
        .image = {IMAGE, DIRECT - IMAGE, 0},
    };
    return NEOMM_OK;
}
