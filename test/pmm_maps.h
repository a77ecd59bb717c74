/* Maps of a small machine, and how they are written down.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_PMM_MAPS_H
#define NEOMM_TEST_PMM_MAPS_H

#include "pmm_world.h"

#include "base/bits.h"

#define K(n)         ((uint64_t)(n) << 10)
#define M(n)         ((uint64_t)(n) << 20)
#define U            NEOMM_MEMORY_USABLE
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)

static const struct neomm_boot_range simple[] = {{0, M(32), U}};
static const struct neomm_boot_range mixed[] = {
    {0, M(2), U},
    {M(2), M(1), NEOMM_MEMORY_BOOT},
    {M(3), K(64), NEOMM_MEMORY_ACPI},
    {M(3) + K(64), M(1), NEOMM_MEMORY_NVS},
    {M(5), M(19), U},
    {M(600), M(1), NEOMM_MEMORY_RESERVED},
};
static const struct world_options plain = {.ram_bytes = M(32), MAP(simple)};
static const struct world_options kinds = {.ram_bytes = M(32), MAP(mixed)};

#endif
