/* The format of 5 levels: 57-bit addresses, leaves of 4K, 2M and 1G (SDM 3A 4.5).
 * SPDX-License-Identifier: MIT */
#define FORMAT_NAME   5level
#define FORMAT_ID     NEOMM_FORMAT_5LEVEL
#define FORMAT_LEVELS 5u

#include "format_64bit.h"
