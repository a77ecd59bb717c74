/* Boot hand-over: from the page tables that a boot loader, or the kernel's own first code, has
 * loaded, to the library's.
 * SPDX-License-Identifier: MIT
 *
 *   neomm_handover_begin    what is loaded now, and how the library gets at it
 *   neomm_handover_direct   gives those tables the direct map, which neomm_pmm_init looks through
 *   neomm_handover_adopt    after neomm_paging_init: takes over what the loader has mapped for the
 *                           kernel, where that does not know the physical addresses itself
 *   neomm_paging_cpu_init   on each CPU: from here on it has the library's tables
 *   neomm_handover_end      nobody has the loader's any more: its identity map is gone
 *
 * A loader's tables are not trusted: every entry that is gone by is checked as the CPU checks it
 * (reserved bits, size, address), and each table must lie where `pointer` reaches. What is wrong is
 * NEOMM_E_CORRUPT, and `fault` says where. They may lie outside of all memory that the boot map
 * lists. One CPU, before others are started; nothing here allocates.
 * Source: Intel SDM volume 3A, 4.3 to 4.5, 11.12.
 */
#ifndef NEOMM_HANDOVER_H
#define NEOMM_HANDOVER_H

#include <neomm/paging.h>
#include <neomm/root.h>
#include <neomm/types.h>

/* A pointer, in the tables loaded now, to the physical address `table`, good to the end of its
 * frame and for writing; NULL: that is not mapped. */
typedef void *neomm_table_pointer_fn(void *context, neomm_paddr_t table);

/* The entry that made the last call return NEOMM_E_CORRUPT. */
struct neomm_handover_fault {
    const char *what;    /* is wrong with it; NULL: nothing yet */
    neomm_vaddr_t vaddr; /* an address that it serves */
    neomm_paddr_t place; /* of the entry, or of the table that cannot be reached */
    unsigned level;      /* 0: a 4K page's; the root's is the highest */
    uint64_t entry;      /* its value */
};

/* Filled by neomm_handover_begin; may be changed where the loader says otherwise. */
struct neomm_handover {
    enum neomm_format format;
    neomm_paddr_t top;      /* the root table, as in CR3 */
    uint32_t physical_bits; /* of addresses in entries */
    uint32_t leaf_levels;   /* bit n: leaves at level n; bit 0 always */
    bool nx;                /* EFER.NXE: bit 63 forbids execution; else it is reserved */
    uint64_t pat;           /* the PAT, by which the loader's types count */
    neomm_table_pointer_fn *pointer;
    void *context;
    struct neomm_handover_fault fault;
};

NEOMM_EXTERN_C_BEGIN

/* Reads format, root and features off this CPU. NEOMM_E_UNSUPPORTED: paging is off. */
neomm_status neomm_handover_begin(struct neomm_handover *handover, neomm_table_pointer_fn *pointer,
                                  void *context);

/* Visits every leaf in [vaddr, vaddr + size), ascending, with the rights of all its entries taken
 * together; one at the edge is visited whole. May be any range, the user's half too, in which a
 * loader's identity map lies; it must not go around the end or through the hole of addresses that
 * are not canonical: NEOMM_E_RANGE, also for size 0. NEOMM_E_CORRUPT; NEOMM_E_UNSUPPORTED: a format
 * of the other architecture. Cost: the tables in the range. */
neomm_status neomm_handover_walk(struct neomm_handover *handover, neomm_vaddr_t vaddr, size_t size,
                                 neomm_leaf_fn *visit, void *context);

/* Frames that neomm_handover_direct needs for tables at most; 0: a format of the other
 * architecture. */
uint32_t neomm_handover_direct_frames(const struct neomm_handover *handover,
                                      const struct neomm_layout *layout, neomm_paddr_t end);

/* Maps physical memory from 0 to `end`, or as far as the layout's direct map goes, there, in the
 * largest leaves that the CPU has. What is mapped there already as it should be stays. `frames`
 * frames from `tables` on, any contents, reached by `pointer`, become tables where some are
 * missing: list them in the boot map as NEOMM_MEMORY_BOOT. NEOMM_E_NOMEM: too few; NEOMM_E_EXISTS:
 * something else is mapped there; NEOMM_E_CORRUPT; NEOMM_E_UNSUPPORTED. After an error part of it
 * is mapped. Loads CR3 again. */
neomm_status neomm_handover_direct(struct neomm_handover *handover,
                                   const struct neomm_layout *layout, neomm_paddr_t end,
                                   neomm_paddr_t tables, uint32_t frames);

/* Maps what the loader has in [vaddr, vaddr + size) at the same addresses in the kernel's tables:
 * same memory and cache type, and of the rights those that are in `rights`, too. The range lies in
 * the image, the window, the area for devices or that for CPUs, and nothing is mapped there yet
 * (NEOMM_E_EXISTS). NEOMM_E_ACCESS: something would be writable and executable: loaders like to map
 * everything so, hence several calls with `rights` as they should be; also the conflicts of
 * neomm_paging_map. NEOMM_E_CORRUPT, NEOMM_E_NOMEM, NEOMM_E_RANGE, NEOMM_E_ALIGN,
 * NEOMM_E_UNSUPPORTED (also for the type write-protected). After an error nothing is adopted. */
neomm_status neomm_handover_adopt(struct neomm *root, struct neomm_handover *handover,
                                  neomm_vaddr_t vaddr, size_t size, neomm_prot_t rights);

/* Has every CPU in `started`, this one included, left the loader's tables for good? NEOMM_E_BUSY:
 * not all have called neomm_paging_cpu_init. From NEOMM_OK on no address of the loader's identity
 * map means anything, and its tables may be reclaimed (neomm_pmm_reclaim_boot). */
neomm_status neomm_handover_end(struct neomm *root, const struct neomm_handover *handover,
                                const struct neomm_cpumask *started);

NEOMM_EXTERN_C_END

#endif
