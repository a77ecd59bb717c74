/* The PAE format: 3 levels of 64-bit entries, leaves of 4K and 2M (SDM 3A 4.4).
 * SPDX-License-Identifier: MIT
 *
 * The root has 4 entries of 1 GiB each, which the CPU reads into registers when CR3 is loaded
 * and then never again.
 */
#include <neomm/types.h>

typedef uint64_t entry_t;

#define FORMAT_NAME           pae
#define FORMAT_ID             NEOMM_FORMAT_PAE
#define FORMAT_LEVELS         3u
#define FORMAT_SHIFT(level)   (12u + 9u * (level))
#define FORMAT_ENTRIES(level) ((level) == 2 ? 4u : 512u)
#define FORMAT_LARGE          0x2u
#define FORMAT_WIDE           1
#define FORMAT_TOP_FIXED      1

#define ENTRY_NX              ((entry_t)1 << 63)
#define ENTRY_ADDRESS         ((entry_t)0x000ffffffffff000)
#define ENTRY_HIDE            ENTRY_ADDRESS
#define ENTRY_GENERATION_BITS 16
#define ENTRY_SLOT_SHIFT      20
#define ENTRY_SLOT_BITS       32

#include "arch/entry.h"
