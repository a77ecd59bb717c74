/* Sizes and numbers as people write them on a command line.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_UNITS_H
#define NEOMM_TOOLS_UNITS_H

#include <stdbool.h>
#include <stdint.h>

/* "4096", "64K", "1G", "512MiB", "100p" (pages of 4 KiB); always 1024. False: not a size, or one
 * above 2^63. */
bool units_size(const char *text, uint64_t *bytes);

/* A decimal or 0x number and nothing else. */
bool units_number(const char *text, uint64_t *number);

#endif
