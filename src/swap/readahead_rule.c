/* Reading ahead from swap: the rule.
 * SPDX-License-Identifier: MIT */
#include "base/bits.h"
#include "base/memory.h"

#include <neomm/readahead.h>

/* Credit is counted in eighths of a page. */
#define WASTE  8
#define CREDIT (NEOMM_READAHEAD_CREDIT * WASTE)

#define BLOCKS_LEAST 64u
#define BLOCKS_MOST  65536u
#define RAM_PAGES    32u /* for each block */

uint32_t neomm_readahead_blocks(uint64_t ram_pages)
{
    uint32_t blocks = BLOCKS_LEAST;
    while (blocks < BLOCKS_MOST && (uint64_t)blocks * 2 * RAM_PAGES <= ram_pages)
        blocks *= 2;
    return blocks;
}

static uint64_t key_of(uint32_t space, uint64_t page)
{
    return (uint64_t)space << 44 | page / NEOMM_READAHEAD_BLOCK;
}

/* Fibonacci hashing: the upper bits of a product with 2^64 over the golden ratio. */
static struct neomm_readahead_block *place_of(struct neomm_readahead *table, uint64_t key)
{
    uint32_t hash = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 32);
    return &table->block[(hash >> 8) & (table->blocks - 1)];
}

static void earn(int32_t *credit)
{
    if (*credit < CREDIT)
        ++*credit;
}

static void note(struct neomm_readahead *table, uint32_t space, uint64_t page, bool used)
{
    uint64_t key = key_of(space, page);
    struct neomm_readahead_block *block = place_of(table, key);
    uint8_t *count = used ? &block->used : &block->wasted;
    if (block->key == key && *count < UINT8_MAX)
        ++*count;
}

void neomm_readahead_used(struct neomm_readahead *table, int32_t *credit, uint32_t space,
                          uint64_t page)
{
    earn(credit);
    note(table, space, page, true);
}

void neomm_readahead_wasted(struct neomm_readahead *table, int32_t *credit, uint32_t space,
                            uint64_t page)
{
    *credit = *credit - WASTE < -CREDIT ? -CREDIT : *credit - WASTE;
    note(table, space, page, false);
}

/* The distance from the block's last fault, if as many pages as there are have not left memory
 * since; 0: that is too long ago. */
static int step_of(const struct neomm_readahead_block *block,
                   const struct neomm_readahead_fault *fault)
{
    if (fault->evictions - block->evictions > fault->pages)
        return 0;
    return (int)(fault->page % NEOMM_READAHEAD_BLOCK) - (int)block->last;
}

static void resize(struct neomm_readahead_block *block, int step)
{
    bool in_order = step == 1 || step == -1;
    if (block->wasted != 0)
        block->window = block->window > 1 ? block->window / 2 : 1;
    else if ((block->used != 0 || in_order) && block->window < NEOMM_READAHEAD_MOST)
        block->window = (uint8_t)(block->window * 2);
    block->used /= 2;
    block->wasted /= 2;
}

struct neomm_readahead_window neomm_readahead_fault(struct neomm_readahead *table, int32_t *credit,
                                                    const struct neomm_readahead_fault *fault)
{
    uint64_t key = key_of(fault->space, fault->page);
    struct neomm_readahead_block *block = place_of(table, key);
    int step = 0;
    earn(credit);
    if (block->key == key) {
        step = step_of(block, fault);
        resize(block, step);
    } else {
        *block = (struct neomm_readahead_block){.key = key, .window = 1};
    }
    block->last = (uint8_t)(fault->page % NEOMM_READAHEAD_BLOCK);
    block->evictions = fault->evictions;
    uint32_t most = fault->pages / 64 + 1 < fault->most ? fault->pages / 64 + 1 : fault->most;
    uint32_t pages = *credit < 0 ? 1 : block->window;
    return (struct neomm_readahead_window){pages < most ? pages : most, step < 0 ? -1 : 1};
}
