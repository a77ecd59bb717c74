/* Address layouts of x86_64.
 * SPDX-License-Identifier: MIT
 *
 *              4 levels                             5 levels
 *   user       0000000000010000 - 00007ffffffff000  0000000000010000 - 00fffffffffff000
 *   direct     ffff888000000000, up to 16 TiB       ff11000000000000, up to 16 TiB
 *   window     ffffc90000000000, 512 GiB            ffa0000000000000, 512 GiB
 *   slots      ffffd10000000000, 2 MiB              ffb0000000000000, 2 MiB
 *   image      ffffffff80000000, 2 GiB              the same
 *
 * The user's half ends a page early: a system call in its last page would return to an address
 * that is not canonical, which some CPUs fault on in ring 0 (SDM 2B, SYSRET).
 */
#include "arch/layout.h"
#include "base/bits.h"

#define GIB ((size_t)1 << 30)
/* What 32-bit frame numbers reach. */
#define DIRECT_MOST ((neomm_paddr_t)1 << 44)

static const struct neomm__layout_rule rule_4level = {
    .format = NEOMM_FORMAT_4LEVEL,
    .user_end = 0x00007ffffffff000,
    .kernel_base = 0xffff800000000000,
    .split = NEOMM_PAGE_SIZE,
    .physical_most = 52,
};

static const struct neomm__layout_rule rule_5level = {
    .format = NEOMM_FORMAT_5LEVEL,
    .user_end = 0x00fffffffffff000,
    .kernel_base = 0xff00000000000000,
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
        .direct = {five ? 0xff11000000000000 : 0xffff888000000000,
                   NEOMM__ALIGN_UP(direct, NEOMM_PAGE_SIZE), 0},
        .window = {five ? 0xffa0000000000000 : 0xffffc90000000000, 512 * GIB, 0},
        .slots = {five ? 0xffb0000000000000 : 0xffffd10000000000,
                  (size_t)NEOMM_CPU_MAX * NEOMM_SLOTS_PER_CPU * NEOMM_PAGE_SIZE, 0},
        .image = {0xffffffff80000000, 2 * GIB, 0},
    };
    return NEOMM_OK;
}
