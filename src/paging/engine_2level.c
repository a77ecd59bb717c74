/* The 2-level engine.
 * SPDX-License-Identifier: MIT */
#include "format_2level.h"

#include "engine.h"
