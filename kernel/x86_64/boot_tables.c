/* The direct map in the tables that boot.S has made, until the library's own replace them.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.5.
 */
#include "kernel.h"

#define INDEX_BITS      9
#define ENTRIES         (1u << INDEX_BITS)
#define ENTRY_TABLE     0x003ull /* present, writable */
#define ENTRY_LEAF      0x083ull /* present, writable, page size */
#define GIB_SHIFT       30
#define LARGE_SHIFT     21
#define CPUID_81_EDX_1G (1u << 26)

/* boot.S */
extern uint64_t boot_pml4[], boot_pml5[];

/* Where the next table comes from. */
struct supply {
    neomm_paddr_t next;
};

enum neomm_format boot_format(void)
{
    return neomm_cpu_read_cr4() & NEOMM_CR4_LA57 ? NEOMM_FORMAT_5LEVEL : NEOMM_FORMAT_4LEVEL;
}

/* The shift of the leaves: 1 GiB where the CPU has them, or 2 MiB. */
static unsigned leaf_shift(void)
{
    uint32_t out[4];
    neomm_cpu_cpuid(0x80000001, 0, out);
    return out[3] & CPUID_81_EDX_1G ? GIB_SHIFT : LARGE_SHIFT;
}

/* With direct maps that begin at a GiB: a directory for each GiB, and above these at most two
 * partly used tables a level. */
uint32_t boot_tables_needed(neomm_paddr_t end)
{
    uint32_t gib = (uint32_t)((end - 1) >> GIB_SHIFT) + 1;
    return (leaf_shift() == LARGE_SHIFT ? gib : 0) + gib / ENTRIES + 4;
}

static uint64_t *table_pointer(neomm_paddr_t table)
{
    return (uint64_t *)((uintptr_t)KERNEL_BASE + table);
}

static uint64_t *lower_table(uint64_t *entry, struct supply *supply)
{
    if (*entry == 0) {
        uint64_t *table = table_pointer(supply->next);
        for (unsigned i = 0; i < ENTRIES; i++)
            table[i] = 0;
        *entry = supply->next | ENTRY_TABLE;
        supply->next += NEOMM_PAGE_SIZE;
        return table;
    }
    return table_pointer(*entry & ~(uint64_t)(NEOMM_PAGE_SIZE - 1));
}

void boot_map_direct(const struct neomm_layout *layout, neomm_paddr_t end, neomm_paddr_t tables)
{
    bool five = layout->format == NEOMM_FORMAT_5LEVEL;
    unsigned leaf = leaf_shift();
    struct supply supply = {tables};
    for (neomm_paddr_t at = 0; at < end; at += (neomm_paddr_t)1 << leaf) {
        uint64_t *table = five ? boot_pml5 : boot_pml4;
        neomm_vaddr_t vaddr = layout->direct.base + at;
        unsigned shift = NEOMM_PAGE_SHIFT + (five ? 4 : 3) * INDEX_BITS;
        for (; shift > leaf; shift -= INDEX_BITS)
            table = lower_table(&table[vaddr >> shift & (ENTRIES - 1)], &supply);
        table[vaddr >> leaf & (ENTRIES - 1)] = at | ENTRY_LEAF;
    }
}
