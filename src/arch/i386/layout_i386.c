/* Address layouts of i386, the same for both formats.
 * SPDX-License-Identifier: MIT
 *
 *   00010000 - c0000000   user
 *   c0000000 - c1000000   image: the kernel's code and data, 16 MiB
 *   c1000000 - f8000000   direct: the first 880 MiB of RAM, or what there is
 *   f8800000 - ff800000   window
 *   ff800000 -            slots, 2 MiB for 64 CPUs
 *
 * Between direct map and window lies room that nothing maps, against overruns.
 */
#include "arch/layout.h"
#include "base/bits.h"

#define IMAGE       0xc0000000u
#define DIRECT      0xc1000000u
#define DIRECT_MOST 0x37000000u
#define WINDOW      0xf8800000u
#define SLOTS_SIZE  (NEOMM_CPU_MAX * NEOMM_SLOTS_PER_CPU * NEOMM_PAGE_SIZE)
#define SLOTS       ((0xffc00000u - SLOTS_SIZE) & ~0x3fffffu)

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
        .window = {WINDOW, SLOTS - WINDOW, 0},
        .slots = {SLOTS, SLOTS_SIZE, 0},
        .image = {IMAGE, DIRECT - IMAGE, 0},
    };
    return NEOMM_OK;
}
