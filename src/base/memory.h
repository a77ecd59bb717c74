/* The four functions of <string.h> that every freestanding C environment must supply (C11 4p6
 * leaves the header out; gcc and clang may call them at any time).
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BASE_MEMORY_H
#define NEOMM_BASE_MEMORY_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#endif
