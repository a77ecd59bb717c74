/* Cases for the MMU comparison, made from a seed.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_MMU_CASES_H
#define TEST_MMU_CASES_H

#include "channel.h"

#include <neomm/types.h>

/* What the CPU of a batch of cases is. */
struct mmu_cpu {
    enum neomm_format format;
    uint32_t physical_bits;
    bool lacks_1g;
};

struct mmu_maker {
    const struct mmu_cpu *cpu;
    uint64_t random;
    uint32_t words;   /* given to accesses so far */
    uint32_t left;    /* cases with the same control bits */
    uint32_t mishaps; /* of entries of the case, in a thousand */
    uint32_t strict;  /* chance of a right missing, in a hundred */
    uint32_t tables;  /* of the case, so far */
    uint32_t first_table;
    uint16_t control;
    bool no_fetch; /* a page outside RAM may be reached */
};

void mmu_maker_init(struct mmu_maker *maker, const struct mmu_cpu *cpu, uint64_t seed);
void mmu_case_make(struct mmu_maker *maker, struct mmu_case *c);

/* Where the tables of a case begin: CR3 without its flags. */
uint64_t mmu_case_root(const struct mmu_cpu *cpu, const struct mmu_case *c);
/* The case's entry of this level for an address, whatever its rights; NULL: the case has none. */
const struct case_entry *mmu_case_entry(const struct mmu_cpu *cpu, const struct mmu_case *c,
                                        uint64_t vaddr, unsigned level);

/* Pages to be reached lie in these blocks. */
#define MMU_BLOCKS      12u
#define MMU_BLOCK_SIZE  ((uint64_t)4 << 20)
#define MMU_RAM_END     ((uint64_t)7 << 30)
#define MMU_HOLE        ((uint64_t)3 << 30) /* of 1 GiB */
#define MMU_BEHIND_HOLE ((uint64_t)4 << 30)
uint64_t mmu_block(unsigned index);
/* Fills a page of such a block. */
void mmu_page_fill(void *page, uint64_t paddr);

static inline uint32_t mmu_random(uint64_t *state, uint32_t below)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ x >> 31) >> 32) % below;
}

#endif
