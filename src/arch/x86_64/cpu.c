/* The CPU primitives of x86_64.
 * SPDX-License-Identifier: MIT */
#define WORD ".quad"

#include "arch/cpu_common.h"
