/* The format of 4 levels: 48-bit addresses, leaves of 4K, 2M and 1G (SDM 3A 4.5).
 * SPDX-License-Identifier: MIT */
#define FORMAT_NAME   4level
#define FORMAT_ID     NEOMM_FORMAT_4LEVEL
#define FORMAT_LEVELS 4u

#include "format_64bit.h"
