/* The entries of 4 and 5 levels; the including header says how many.
 * SPDX-License-Identifier: MIT */
#include <neomm/types.h>

typedef uint64_t entry_t;

#define FORMAT_SHIFT(level)   (12u + 9u * (level))
#define FORMAT_ENTRIES(level) 512u
#define FORMAT_LARGE          0x6u
#define FORMAT_WIDE           0
#define FORMAT_TOP_FIXED      0

#define ENTRY_NX              ((entry_t)1 << 63)
#define ENTRY_ADDRESS         ((entry_t)0x000ffffffffff000)
#define ENTRY_HIDE            ENTRY_ADDRESS
#define ENTRY_GENERATION_BITS 16
#define ENTRY_SLOT_SHIFT      20
#define ENTRY_SLOT_BITS       32

#include "arch/entry.h"
