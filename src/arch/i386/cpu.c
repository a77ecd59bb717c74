/* The CPU primitives of i386.
 * SPDX-License-Identifier: MIT */
#define WORD ".long"

#include "arch/cpu_common.h"
