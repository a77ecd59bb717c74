/* The oldest format: 2 levels of 32-bit entries, leaves of 4K and 4M (SDM 3A 4.3). No NX, and
 * no bit to spare in a swap entry: kind 2, generation 5, slot 24, P.
 * SPDX-License-Identifier: MIT */
#include <neomm/types.h>

typedef uint32_t entry_t;

#define FORMAT_NAME           2level
#define FORMAT_ID             NEOMM_FORMAT_2LEVEL
#define FORMAT_LEVELS         2u
#define FORMAT_SHIFT(level)   (12u + 10u * (level))
#define FORMAT_ENTRIES(level) 1024u
#define FORMAT_LARGE          0x2u
#define FORMAT_WIDE           0
#define FORMAT_TOP_FIXED      0

#define ENTRY_NX              ((entry_t)0)
#define ENTRY_ADDRESS         ((entry_t)0xfffff000)
#define ENTRY_HIDE            ((entry_t)0)
#define ENTRY_GENERATION_BITS 5
#define ENTRY_SLOT_SHIFT      8
#define ENTRY_SLOT_BITS       24

#include "arch/entry.h"
