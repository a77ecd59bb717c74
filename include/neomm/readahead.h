/* Reading ahead from swap: how many pages around a fault are read with it.
 * SPDX-License-Identifier: MIT
 *
 * The rule alone, for whoever has the pages: no page is touched, nothing is locked, allocated or
 * waited for, and what it answers follows from what it was told. Pages that lie side by side in
 * virtual memory are used together more often than those that lie side by side on the device, so
 * it goes by blocks of NEOMM_READAHEAD_BLOCK pages of a space (256 KiB):
 *
 * - Each block has a window, the pages to be read together. Two faults on neighbours, not long
 *   after each other, or pages read ahead that were used, double it; a page read ahead that left
 *   memory unused halves it.
 * - Each space has a credit. A fault, and a page read ahead that was used, are worth an eighth of a
 *   page that was not; while there is none left the page that faults is read alone. So pages read
 *   for nothing are at most an eighth of those that would have been read anyway, but for
 *   NEOMM_READAHEAD_CREDIT pages, whatever the program does.
 *
 * The table of blocks is lossy: one place for each value of a hash. A block that was thrown out
 * begins again with a window of one page. Calls with one table come one at a time.
 */
#ifndef NEOMM_READAHEAD_H
#define NEOMM_READAHEAD_H

#include <neomm/types.h>

#define NEOMM_READAHEAD_BLOCK  64u /* pages */
#define NEOMM_READAHEAD_MOST   16u /* pages read together, at most */
#define NEOMM_READAHEAD_CREDIT 16  /* pages that a space may be ahead or behind */

struct neomm_readahead_block {
    uint64_t key;         /* the space and the block; 0: nobody's */
    uint32_t evictions;   /* of the domain, at its last fault */
    uint8_t window;       /* pages */
    uint8_t last;         /* page of the block that faulted last */
    uint8_t used, wasted; /* pages read ahead; halved at each fault */
};

struct neomm_readahead {
    struct neomm_readahead_block *block; /* zeroed */
    uint32_t blocks;                     /* a power of two */
};

/* A fault on a page in swap. */
struct neomm_readahead_fault {
    uint32_t space;     /* index, 1 to 2^16 - 1 */
    uint64_t page;      /* virtual address in pages, below 2^44 */
    uint32_t evictions; /* pages that have left the domain, modulo 2^32 */
    uint32_t pages;     /* that the domain may have in memory */
    uint32_t most;      /* pages to be read together, at most: 1 to NEOMM_READAHEAD_MOST */
};

/* What is to be read. */
struct neomm_readahead_window {
    uint32_t pages; /* 1 to fault.most, the one that faulted included; no more than a 64th of
                     * fault.pages are read ahead */
    int direction;  /* 1: from it upwards, -1: downwards; within its block */
};

NEOMM_EXTERN_C_BEGIN

/* A size of the table that fits a machine with so many pages of RAM: a block for each 32 of them,
 * 64 to 65536; 16 bytes each. */
uint32_t neomm_readahead_blocks(uint64_t ram_pages);

/* What to read with the page that faults. *credit is the space's, 0 at first. The caller reads
 * those of the window that are next to each other in swap: where one is not, it ends. */
struct neomm_readahead_window neomm_readahead_fault(struct neomm_readahead *table, int32_t *credit,
                                                    const struct neomm_readahead_fault *fault);

/* A page that was read ahead has been used since; or it left memory and had not been. Once for
 * each page; those of the block before neomm_readahead_fault. */
void neomm_readahead_used(struct neomm_readahead *table, int32_t *credit, uint32_t space,
                          uint64_t page);
void neomm_readahead_wasted(struct neomm_readahead *table, int32_t *credit, uint32_t space,
                            uint64_t page);

NEOMM_EXTERN_C_END

#endif
