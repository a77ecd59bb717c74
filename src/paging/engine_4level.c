/* The 4-level engine.
 * SPDX-License-Identifier: MIT */
#include "format_4level.h"

#include "engine.h"
