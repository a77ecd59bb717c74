/* The PAE engine.
 * SPDX-License-Identifier: MIT */
#include "format_pae.h"

#include "engine.h"
