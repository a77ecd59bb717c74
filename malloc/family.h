/* What the files of the malloc family share.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_FAMILY_H
#define NEOMM_FAMILY_H

#include "process.h"

/* The functions that the program finds instead of the C library's. */
#define FAMILY __attribute__((visibility("default")))

/* Alignment of every block. */
#define FAMILY_ALIGN 16u

/* From here on a run may move its pages: all blocks of that size are runs. */
#define FAMILY_MOVES ((size_t)128 << 10)

/* A block, or NULL and ENOMEM; size 0 is 1, alignments are powers of two. */
void *family_alloc(size_t size, size_t align, neomm_flags_t flags);

#endif
