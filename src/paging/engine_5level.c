/* The 5-level engine.
 * SPDX-License-Identifier: MIT */
#include "format_5level.h"

#include "engine.h"
