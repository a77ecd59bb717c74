/* Where the kernel's areas lie on i386, the same for both formats.
 * SPDX-License-Identifier: MIT
 *
 *   00010000 - c0000000   user
 *   c0000000 - c1000000   image: the kernel's code and data, 16 MiB
 *   c1000000 - f8000000   direct: the first 880 MiB of RAM, or what there is
 *   f8800000 - fe000000   window
 *   fe000000 - ff000000   mmio
 *   ff000000 -            percpu, 4 MiB
 *   ff800000 -            slots, 2 MiB for 64 CPUs
 *
 * Between direct map and window lies room that nothing maps, against overruns.
 */
#ifndef NEOMM_ARCH_AREAS_H
#define NEOMM_ARCH_AREAS_H

#include "arch/layout.h"

#define IMAGE       0xc0000000u
#define DIRECT      0xc1000000u
#define DIRECT_MOST 0x37000000u
#define WINDOW      0xf8800000u
#define MMIO        0xfe000000u
#define MMIO_SIZE   0x01000000u
#define PERCPU      0xff000000u
#define SLOTS       0xff800000u

NEOMM__AREA_BELOW(IMAGE, 1, DIRECT);
NEOMM__AREA_BELOW(DIRECT, DIRECT_MOST, WINDOW);
NEOMM__AREA_BELOW(WINDOW, 1, MMIO);
NEOMM__AREA_BELOW(MMIO, MMIO_SIZE, PERCPU);
NEOMM__AREA_BELOW(PERCPU, NEOMM__PERCPU_SIZE, SLOTS);
/* The last 4 MiB are nobody's, so that no area ends where addresses do. */
NEOMM__AREA_BELOW(SLOTS, NEOMM__SLOTS_SIZE, 0xffc00000u);

#endif
