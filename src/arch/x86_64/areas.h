/* Where the kernel's areas lie on x86_64.
 * SPDX-License-Identifier: MIT
 *
 *              4 levels                             5 levels
 *   user       0000000000010000 - 00007ffffffff000  0000000000010000 - 00fffffffffff000
 *   direct     ffff888000000000, up to 16 TiB       ff11000000000000, up to 16 TiB
 *   window     ffffc90000000000, 512 GiB            ffa0000000000000, 512 GiB
 *   slots      ffffd10000000000, 2 MiB              ffb0000000000000, 2 MiB
 *   mmio       ffffd20000000000, 512 GiB            ffb1000000000000, 512 GiB
 *   percpu     ffffd30000000000, 64 MiB             ffb2000000000000, 64 MiB
 *   image      ffffffff80000000, 2 GiB              the same
 *
 * The user's half ends a page early: a system call in its last page would return to an address
 * that is not canonical, which some CPUs fault on in ring 0 (SDM 2B, SYSRET).
 */
#ifndef NEOMM_ARCH_AREAS_H
#define NEOMM_ARCH_AREAS_H

#include "arch/layout.h"

#define GIB ((size_t)1 << 30)
/* What 32-bit frame numbers reach. */
#define DIRECT_MOST ((neomm_paddr_t)1 << 44)
#define WINDOW_SIZE (512 * GIB)
#define MMIO_SIZE   (512 * GIB)
#define IMAGE_SIZE  (2 * GIB)

#define KERNEL_4LEVEL   0xffff800000000000
#define USER_END_4LEVEL 0x00007ffffffff000
#define DIRECT_4LEVEL   0xffff888000000000
#define WINDOW_4LEVEL   0xffffc90000000000
#define SLOTS_4LEVEL    0xffffd10000000000
#define MMIO_4LEVEL     0xffffd20000000000
#define PERCPU_4LEVEL   0xffffd30000000000

#define KERNEL_5LEVEL   0xff00000000000000
#define USER_END_5LEVEL 0x00fffffffffff000
#define DIRECT_5LEVEL   0xff11000000000000
#define WINDOW_5LEVEL   0xffa0000000000000
#define SLOTS_5LEVEL    0xffb0000000000000
#define MMIO_5LEVEL     0xffb1000000000000
#define PERCPU_5LEVEL   0xffb2000000000000

#define IMAGE 0xffffffff80000000

#define ORDERED(format)                                                                            \
    NEOMM__AREA_BELOW(USER_END_##format, 1, KERNEL_##format);                                      \
    NEOMM__AREA_BELOW(KERNEL_##format, 1, DIRECT_##format);                                        \
    NEOMM__AREA_BELOW(DIRECT_##format, DIRECT_MOST, WINDOW_##format);                              \
    NEOMM__AREA_BELOW(WINDOW_##format, WINDOW_SIZE, SLOTS_##format);                               \
    NEOMM__AREA_BELOW(SLOTS_##format, NEOMM__SLOTS_SIZE, MMIO_##format);                           \
    NEOMM__AREA_BELOW(MMIO_##format, MMIO_SIZE, PERCPU_##format);                                  \
    NEOMM__AREA_BELOW(PERCPU_##format, NEOMM__PERCPU_SIZE, IMAGE)

ORDERED(4LEVEL);
ORDERED(5LEVEL);
_Static_assert((uintptr_t)(IMAGE + IMAGE_SIZE) == 0, "the image ends with the addresses");

#endif
