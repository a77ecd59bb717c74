/* What a format asks of an address layout.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_ARCH_LAYOUT_H
#define NEOMM_ARCH_LAYOUT_H

#include <neomm/root.h>

struct neomm__layout_rule {
    enum neomm_format format;
    neomm_vaddr_t user_end;    /* user_limit is at most this */
    neomm_vaddr_t kernel_base; /* all kernel areas lie at or above this or user_limit */
    size_t split;              /* where user_limit is the border, it is aligned to this */
    uint32_t physical_most;    /* bits of a physical address */
};

#define NEOMM__SLOTS_SIZE  ((size_t)NEOMM_CPU_MAX * NEOMM_SLOTS_PER_CPU * NEOMM_PAGE_SIZE)
#define NEOMM__PERCPU_SIZE ((size_t)NEOMM_CPU_MAX * NEOMM_PERCPU_STRIDE)

/* An area of so many bytes ends below where the next one begins, or there. */
#define NEOMM__AREA_BELOW(base, size, next)                                                        \
    _Static_assert((next) >= (base) && (next) - (base) >= (size), #base " meets " #next)

/* The rule of a format, NULL for one of the other architecture. In src/arch/ARCH. */
const struct neomm__layout_rule *neomm__layout_rule(enum neomm_format format);

#endif
