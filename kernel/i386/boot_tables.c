/* The direct map in the tables that boot.S has made, until the library's own replace them.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.3 (32-bit paging with 4M pages), 4.4 (PAE with 2M pages).
 */
#include "kernel.h"

#define ENTRY_LEAF   0x083u /* present, writable, page size */
#define SHIFT_2LEVEL 22
#define SHIFT_PAE    21

/* boot.S: one page directory, or the four of PAE behind one another. */
extern uint32_t boot_directory[];
extern uint64_t boot_pae_directory[];

enum neomm_format boot_format(void)
{
    return neomm_cpu_read_cr4() & NEOMM_CR4_PAE ? NEOMM_FORMAT_PAE : NEOMM_FORMAT_2LEVEL;
}

uint32_t boot_tables_needed(neomm_paddr_t end)
{
    (void)end;
    return 0; /* the directories are there */
}

void boot_map_direct(const struct neomm_layout *layout, neomm_paddr_t end, neomm_paddr_t tables)
{
    bool pae = layout->format == NEOMM_FORMAT_PAE;
    unsigned shift = pae ? SHIFT_PAE : SHIFT_2LEVEL;
    uint32_t size = end < layout->direct.size ? (uint32_t)end : layout->direct.size;
    (void)tables;
    for (uint32_t at = 0; at < size; at += 1u << shift) {
        uint32_t index = (layout->direct.base + at) >> shift;
        if (pae)
            boot_pae_directory[index] = at | ENTRY_LEAF;
        else
            boot_directory[index] = at | ENTRY_LEAF;
    }
}
