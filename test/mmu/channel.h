/* What the host and the guest of the MMU comparison say to each other, in the guest's RAM: the
 * host writes the cases before the machine starts, the guest writes the results.
 * SPDX-License-Identifier: MIT
 *
 * The guest's physical memory:
 *
 *     1 MiB                    the guest's image
 *     CHANNEL_ROOTS, _TABLES   frames for the cases' paging structures, zero between cases
 *     CHANNEL_BASE             struct channel, then the cases, then the results
 *     behind CHANNEL_END       pages to be reached, which hold their own frame numbers
 *
 * The guest lives in the last CHANNEL_END bytes of the virtual addresses, where it sees physical
 * memory from 0 on; cases use other addresses. In PAE that is the end of the last directory, which
 * is the same for all roots (CHANNEL_PAE_LAST), there for good, and open to cases. A stray PS bit
 * in an entry that leads to a table must give a reserved bit, never a large page: all tables lie
 * where bits 13 and 21 are set.
 */
#ifndef TEST_MMU_CHANNEL_H
#define TEST_MMU_CHANNEL_H

#define CHANNEL_ROOTS       0x602000
#define CHANNEL_ROOT_STEP   0x4000
#define CHANNEL_ROOT_COUNT  8
#define CHANNEL_TABLES      0x642000
#define CHANNEL_TABLE_STEP  0x4000
#define CHANNEL_TABLE_COUNT 40
#define CHANNEL_PAE_LAST    0x6e2000
#define CHANNEL_BASE        0x1000000
#define CHANNEL_END         0x4000000 /* a multiple of 4 MiB */

/* Values of struct channel's format, as enum neomm_format. */
#define CHANNEL_2LEVEL 0
#define CHANNEL_PAE    1
#define CHANNEL_4LEVEL 2
#define CHANNEL_5LEVEL 3

#define CHANNEL_FORMAT_OFFSET 4

#ifndef __ASSEMBLER__

#include <stdint.h>

#define CHANNEL_MAGIC 0x6d6d7531u

struct channel {
    uint32_t magic, format;
    uint32_t cases; /* how many there are */
    uint32_t done;  /* by the guest so far */
};

/* Bits of a case's control. */
#define CASE_WP   0x01u
#define CASE_SMEP 0x02u
#define CASE_SMAP 0x04u
#define CASE_PSE  0x08u
#define CASE_PGE  0x10u
#define CASE_NXE  0x20u

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_EXCHANGE, ACCESS_FETCH };

/* Bits of an access's flags; the kind is in ACCESS_KIND. */
#define ACCESS_KIND  0x03u
#define ACCESS_USER  0x04u
#define ACCESS_AC    0x08u /* EFLAGS.AC is set */
#define ACCESS_FRESH 0x10u /* CR3 is loaded before */

#define CASE_ENTRIES  12
#define CASE_ACCESSES 4

struct case_entry {
    uint64_t at, value; /* at: a physical address */
};

struct case_access {
    uint64_t vaddr;
    uint32_t flags;
    uint32_t word; /* to be written */
};

struct mmu_case {
    uint64_t root; /* for CR3 */
    uint16_t control;
    uint16_t entries, accesses, reserved;
    struct case_entry entry[CASE_ENTRIES];
    struct case_access access[CASE_ACCESSES];
};

/* A vector that ends an access: the breakpoint behind it is reached when it is done. */
#define VECTOR_DONE       3u
#define VECTOR_PROTECTION 13u
#define VECTOR_PAGE_FAULT 14u

struct access_result {
    uint64_t address; /* CR2 after a page fault */
    uint32_t vector, error;
    uint32_t word; /* read, or loaded by the instruction that was fetched */
    uint32_t reserved;
};

struct mmu_result {
    uint64_t entry[CASE_ENTRIES]; /* as they are in the end */
    struct access_result access[CASE_ACCESSES];
};

_Static_assert(sizeof(struct mmu_case) == 272, "the same for 32 and 64 bits");
_Static_assert(sizeof(struct mmu_result) == 192, "the same for 32 and 64 bits");

/* A page to be reached is full of units of 16 bytes: an instruction that loads the frame's number
 * into EAX, breakpoints, and at UNIT_WORD a word to be written. No part of a unit has bit 0 set
 * where an entry's P would be; words written are even. */
#define UNIT_SIZE      16u
#define UNIT_WORD      8u
#define UNIT_LOAD      0xb8u /* mov $imm32, %eax */
#define UNIT_BREAK     0xccu /* int3 */
#define UNIT_FRAME_MAX 0xffffffu

/* The most cases that there is room for. */
#define CHANNEL_CASES                                                                              \
    ((uint32_t)((CHANNEL_END - CHANNEL_BASE - 4096) /                                              \
                (sizeof(struct mmu_case) + sizeof(struct mmu_result))))

/* Where the cases and the results begin, from the channel's base. */
#define CHANNEL_CASES_AT   4096u
#define CHANNEL_RESULTS_AT (CHANNEL_CASES_AT + CHANNEL_CASES * (uint32_t)sizeof(struct mmu_case))

#endif
#endif
