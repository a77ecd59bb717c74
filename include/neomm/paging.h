/* Page tables: four formats behind range operations, and the kernel window.
 * SPDX-License-Identifier: MIT
 *
 * A `struct neomm_tables` is the translation of one address space. Every range operation locks
 * the tables that its range touches, descends once a table, gathers what must be invalidated,
 * invalidates on every CPU that can hold a translation, and only then lets go of frames and
 * tables. Operations on ranges that have no table of leaves in common run side by side, those
 * that have one after the other; each is one step to all others, but that an operation which fails
 * may have left smaller leaves. Interrupts are masked as long as locks are held; so a range of more
 * than 32 MiB, but for a copy, is done in parts of that size or of a single leaf, and it is the
 * part that is one step to others. A query takes no lock. Any context, with interrupts, too.
 *
 * Whether an address is the user's follows from the layout: the tables of a space take ranges of
 * the user's half, the kernel's tables take ranges inside the window, mmio, percpu or the image,
 * and for query, walk and dump inside the direct map and the slots, too. Anything else is
 * NEOMM_E_RANGE, and so is an empty range; NEOMM_E_ALIGN: not whole pages; NEOMM_E_NOENT: paging is
 * not initialised.
 *
 * A leaf with any right can be read, whatever was asked. One with no right (NEOMM_PROT_NONE) is
 * mapped for this layer and not there for the CPU. What was asked with or without EXEC comes back
 * as asked, also where the CPU has no NX and executes either. The kernel's leaves are mapped
 * accessed and dirty; of a space's leaves the two tell what its CPUs did.
 * Source: Intel SDM volume 3A, chapter 4.
 */
#ifndef NEOMM_PAGING_H
#define NEOMM_PAGING_H

#include <neomm/root.h>
#include <neomm/types.h>

/* The tables of one address space. Zero it, then neomm_paging_create. Fields are the library's;
 * `owner` may be read. */
struct neomm_tables {
    neomm_frame_t top;         /* the root table */
    uint32_t owner;            /* index of the space, 0 for the kernel's */
    uint32_t table_frames;     /* tables below the root that belong to this space */
    struct neomm_cpumask cpus; /* CPUs that have it loaded */
    size_t serial;             /* of no other tables */
    size_t flushes;            /* invalidations so far */
};

enum neomm_mapping_state {
    NEOMM_MAPPING_NONE, /* entry all zero, or no table */
    NEOMM_MAPPING_PRESENT,
    NEOMM_MAPPING_SWAPPED /* not present, `swap` says where the contents are */
};

/* One leaf entry, decoded. */
struct neomm_mapping {
    enum neomm_mapping_state state;
    neomm_prot_t prot;
    neomm_paddr_t paddr; /* of the leaf's first byte */
    size_t size;         /* bytes the entry covers: 4K, 2M, 4M or 1G, more where NONE */
    enum neomm_cache cache;
    bool accessed;
    bool dirty;
    struct neomm_swap_entry swap;
};

/* A page on its way to swap. */
struct neomm_paging_victim {
    neomm_vaddr_t vaddr;
    neomm_frame_t frame; /* that its leaf leads to */
    struct neomm_swap_entry slot;
    bool dirty, gone; /* results */
};

/* Options of neomm_paging_map. */
#define NEOMM_MAP_SMALL 0x1u /* 4K leaves only, where the largest that fits is the default */
#define NEOMM_MAP_NULL  0x2u /* page 0 of a space, too: without, it is NEOMM_E_ACCESS */

/* A leaf that is gone: called after its invalidation, so its frame may be freed here. The tables
 * are locked: may free frames and swap slots; must not call paging and must not sleep. */
typedef void neomm_leaf_fn(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf);

/* A part of the kernel's image to map: vaddr in layout.image. */
struct neomm_kernel_segment {
    neomm_vaddr_t vaddr;
    neomm_paddr_t paddr;
    size_t size;
    neomm_prot_t prot;
};

struct neomm_paging_options {
    const struct neomm_kernel_segment *segments;
    uint32_t segment_count;
    /* Up to so many pages are invalidated one by one, more by forgetting everything: 1 to
     * NEOMM_FLUSH_PAGES_MAX, 0: NEOMM_FLUSH_PAGES_DEFAULT. docs/paging.md says how to measure it.
     */
    uint32_t flush_pages;
};

#define NEOMM_FLUSH_PAGES_MAX     64u
#define NEOMM_FLUSH_PAGES_DEFAULT 32u

NEOMM_EXTERN_C_BEGIN

/* Builds the kernel's tables: the direct map (RAM only, largest leaves, never executable), the
 * image's segments, and every top-level entry that kernel ranges will ever need. Registers the
 * slots for high frames. Loads nothing. NEOMM_E_NOMEM with everything undone; NEOMM_E_RANGE: a
 * segment outside the image, or flush_pages. */
neomm_status neomm_paging_init(struct neomm *root, const struct neomm_paging_options *options);

/* Gives all back. NEOMM_E_BUSY while tables of a space exist or the window is in use. The
 * caller has left the kernel's tables (or never loaded them) and global translations. */
neomm_status neomm_paging_fini(struct neomm *root);

/* Once on each CPU, after neomm_paging_init: turns on what CPUID offers (NX, WP, PGE, PSE, SMEP,
 * SMAP, UMIP; PCIDE in 64-bit mode), sets PAT, and loads the kernel's tables. PCIDs 0 to 7 are this
 * layer's from here on; CR3 is to be loaded by it alone. From here on the CPU gets shootdowns.
 * Interrupts masked. NEOMM_E_UNSUPPORTED: the CPU is not in the paging mode of the layout's
 * format (CR4.PAE, CR4.LA57), which the boot code enters. */
neomm_status neomm_paging_cpu_init(struct neomm *root);

/* This CPU goes: loads nothing, forgets it. */
void neomm_paging_cpu_fini(struct neomm *root);

struct neomm_tables *neomm_paging_kernel(struct neomm *root);

/* Makes empty tables that share the kernel's half. NEOMM_E_NOMEM. */
neomm_status neomm_paging_create(struct neomm *root, struct neomm_tables *tables, uint32_t owner);

/* Frees the tables of a space that has no leaf mapped: NEOMM_E_BUSY if it has, or if a CPU has
 * it loaded. */
neomm_status neomm_paging_destroy(struct neomm *root, struct neomm_tables *tables);

/* Loads the tables on this CPU. Without a space to run: neomm_paging_kernel. Where the CPU has
 * PCIDs it keeps its translations of the spaces that it had last, and forgets those of one that has
 * changed meanwhile when that is loaded again. No lock.
 * Interrupts are masked inside. */
void neomm_paging_activate(struct neomm *root, struct neomm_tables *tables);

/* This CPU goes to sleep, and is awake again. In between it is not called (neomm_port_ipi) because
 * of pages that are unmapped or whose rights, bits or frames change: it is spared these
 * invalidations, makes up for all of them as it wakes, and until then may still hold translations
 * that are wrong. So while it sleeps it calls nothing else here, and neither it nor its interrupt
 * handlers refer to addresses that may change: user memory, the kernel window. Each handler that
 * may meet the CPU asleep calls neomm_paging_wake before anything else, and so does the idle loop
 * behind its halt instruction; where the CPU is awake that costs a load. The tables loaded stay
 * loaded, and cannot be destroyed. Where a table goes or the size of a page changes a sleeping CPU
 * is called like any other. Interrupts: idle is called with them masked, so that nothing wakes the
 * CPU between the call and the halt. No lock.
 *
 *     for (;;) {                      mask interrupts; nothing to do?
 *         neomm_paging_idle(root);    sti; hlt
 *         neomm_paging_wake(root);
 *     } */
void neomm_paging_idle(struct neomm *root);
void neomm_paging_wake(struct neomm *root);

/* Maps [vaddr, vaddr + size) to contiguous physical memory from paddr with the largest leaves
 * that fit. Needs the whole range unmapped: NEOMM_E_EXISTS. NEOMM_E_ALIGN; NEOMM_E_RANGE (wraps,
 * straddles, not canonical, beyond the physical width); NEOMM_E_ACCESS (WRITE with EXEC);
 * NEOMM_E_INVALID (unknown bits); NEOMM_E_UNSUPPORTED (NEOMM_CACHE_WC on a CPU without the PAT);
 * NEOMM_E_NOMEM. One memory has one cache type: NEOMM_E_ACCESS also where RAM is to be mapped other
 * than WB, or something that is in the area for devices already with another type. (Two CPUs that
 * map the same device at the same moment are not kept apart.) On any error nothing is mapped and no
 * table was made. Tables are allocated NORECLAIM. options: NEOMM_MAP_*. */
neomm_status neomm_paging_map(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                              neomm_paddr_t paddr, size_t size, neomm_prot_t prot,
                              enum neomm_cache cache, unsigned options);

/* The same for `count` separate frames, one 4K leaf each. Page 0 of a space is refused here, and in
 * neomm_paging_exchange, unless the layout's user half begins there. */
neomm_status neomm_paging_map_frames(struct neomm *root, struct neomm_tables *tables,
                                     neomm_vaddr_t vaddr, const neomm_frame_t *frames,
                                     uint32_t count, neomm_prot_t prot);

/* Unmaps whatever leaf or swap entry lies in the range; holes are fine. Calls released (may be
 * NULL) for each, then frees tables that became empty. A leaf larger than the part of the range
 * it lies in is split first: NEOMM_E_NOMEM comes from that, before anything is unmapped, unless
 * somebody merges leaves in a range of several parts meanwhile. *done (may be NULL): so many bytes
 * from vaddr on are unmapped now. */
neomm_status neomm_paging_unmap(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size, neomm_leaf_fn *released,
                                void *context, size_t *done);

/* Changes the rights of every present leaf in the range; swap entries and holes stay.
 * NEOMM_E_ACCESS, NEOMM_E_ALIGN, NEOMM_E_RANGE; NEOMM_E_NOMEM as for unmap. */
neomm_status neomm_paging_protect(struct neomm *root, struct neomm_tables *tables,
                                  neomm_vaddr_t vaddr, size_t size, neomm_prot_t prot);

/* Gives `to` what `from` has in the range: the same leaves and swap entries on the same frames.
 * From present leaves of both WRITE is withdrawn, so that the first write of either one faults.
 * share (may be NULL) sees every leaf and swap entry as it is in `to`, with the tables locked: the
 * place to count references. Both are spaces' tables; `to` has nothing in the range
 * (NEOMM_E_EXISTS) and nobody else uses it yet. NEOMM_E_INVALID: one is the kernel's, or they are
 * the same. NEOMM_E_NOMEM: `to` has what share was told of, all or nothing of each 32 MiB, and
 * neomm_paging_unmap of the range takes it back; `from` has smaller leaves at most and lost WRITE
 * where it was copied. */
neomm_status neomm_paging_copy(struct neomm *root, struct neomm_tables *from,
                               struct neomm_tables *to, neomm_vaddr_t vaddr, size_t size,
                               neomm_leaf_fn *share, void *context);

/* Makes large leaves of small ones: a table in the range, with all it covers, whose leaves are
 * present, of the same rights and cache type and contiguous on aligned memory becomes one leaf,
 * accessed or dirty if any of them was. Where a CPU has such a page in use it faults once, which
 * finds the page there; kernel ranges that may be in use are not to be merged, and the same goes
 * for whatever splits a large leaf. *merged (may be NULL): tables that became leaves. */
neomm_status neomm_paging_merge(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size, uint32_t *merged);

/* Splits leaves that reach over an end of the range, so that none lies in it in part. The tables
 * may come out of the reserve. NEOMM_E_NOMEM: nothing is lost, and what is left to split maps what
 * it did. */
neomm_status neomm_paging_split(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size);

/* Bytes of the leaves next larger than a page; 0: the CPU has none. */
size_t neomm_paging_large_size(const struct neomm *root);

/* The leaf that covers vaddr. NEOMM_OK also where nothing is mapped (state NONE). No lock: what
 * it tells was so at some moment of the call. */
neomm_status neomm_paging_query(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, struct neomm_mapping *mapping);

/* Replaces one 4K entry as one atomic step, if it is still what `expect` says (state, and paddr
 * or swap entry; A and D are not compared): else NEOMM_E_AGAIN. `next` may be present (paddr,
 * prot, cache, accessed and dirty as given), swapped, or none. *last (may be NULL) is the entry
 * as it was at the exchange, with the accessed and dirty bits that no CPU can change any more:
 * where the old leaf was present it has been invalidated everywhere on return. With NEOMM_E_AGAIN
 * it is the entry as it is. An entry inside a large leaf is never what is expected.
 * NEOMM_E_NOMEM: a table was missing; NEOMM_E_RANGE: a swap entry that the format cannot hold. */
neomm_status neomm_paging_exchange(struct neomm *root, struct neomm_tables *tables,
                                   neomm_vaddr_t vaddr, const struct neomm_mapping *expect,
                                   const struct neomm_mapping *next, struct neomm_mapping *last);

/* The same, but the rights and D of a present entry are compared, too, at the moment of the
 * exchange: expect a clean page, and nobody has written to it since D was last cleared. */
neomm_status neomm_paging_exchange_exact(struct neomm *root, struct neomm_tables *tables,
                                         neomm_vaddr_t vaddr, const struct neomm_mapping *expect,
                                         const struct neomm_mapping *next,
                                         struct neomm_mapping *last);

/* Reads and clears bits of the present leaves in the range: accessed always, dirty if
 * clear_dirty. visit (may be NULL) sees each leaf as it was before; a large one at the edge whole.
 * Invalidates where a bit was cleared, so that the next reference sets it again. */
neomm_status neomm_paging_harvest(struct neomm *root, struct neomm_tables *tables,
                                  neomm_vaddr_t vaddr, size_t size, bool clear_dirty,
                                  neomm_leaf_fn *visit, void *context);

/* Pages of one space that are on their way to swap, ascending: with one invalidation for all of
 * those that lie in the same 32 MiB. NEOMM_E_RANGE, NEOMM_E_ALIGN, NEOMM_E_INVALID (not ascending):
 * nothing has changed. A page whose leaf is large, or not of this frame, is passed.
 *
 * neomm_paging_clean clears A and D, so that a write from now on shows; `dirty` tells what D was.
 * neomm_paging_swap_out turns each leaf that is clean still into its swap entry, as one atomic step
 * of each; `gone` says whether it did. */
neomm_status neomm_paging_clean(struct neomm *root, struct neomm_tables *tables,
                                struct neomm_paging_victim *victims, uint32_t count);
neomm_status neomm_paging_swap_out(struct neomm *root, struct neomm_tables *tables,
                                   struct neomm_paging_victim *victims, uint32_t count);

/* Visits every leaf and swap entry in the range, ascending; changes nothing. A large leaf at the
 * edge is visited whole: its address may lie before vaddr. */
neomm_status neomm_paging_walk(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                               size_t size, neomm_leaf_fn *visit, void *context);

/* A text dump of the range, neighbours merged: "first-last rwxu size-of-leaf -> paddr", addresses
 * in hexadecimal, `u` or `k` for the half; behind it the cache type, where it is not WB. line is
 * called with the tables locked. */
void neomm_paging_dump(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                       size_t size, neomm_report_fn *line, void *context);

/* ---- the kernel window: ranges of addresses; what is mapped there is the caller's ---- */

/* Reserves `size` bytes (page multiple) with an unmapped guard page behind. NEOMM_E_NOSPACE,
 * NEOMM_E_NOMEM, NEOMM_E_INVALID (size 0), NEOMM_E_ALIGN. First fit by address. Metadata: frames,
 * taken NORECLAIM. Cost: a pass over the ranges. Locks: window. Interrupts: yes. */
neomm_status neomm_window_alloc(struct neomm *root, size_t size, neomm_vaddr_t *vaddr);

/* The same, at a multiple of `align`, a power of two and a page at least, with a tag of the
 * owner's: 0 to NEOMM_WINDOW_TAG_MAX, 0 for neomm_window_alloc. NEOMM_E_INVALID: neither. */
neomm_status neomm_window_alloc_aligned(struct neomm *root, size_t size, size_t align, uint32_t tag,
                                        neomm_vaddr_t *vaddr);
#define NEOMM_WINDOW_TAG_MAX 0xfffu

/* The range that vaddr lies in (its guard page is not), and its tag. NEOMM_E_NOENT: none. Cost: the
 * log of the ranges and a 256th of them. Locks: window. Interrupts: yes. */
neomm_status neomm_window_find(struct neomm *root, neomm_vaddr_t vaddr, neomm_vaddr_t *base,
                               size_t *size, uint32_t *tag);
/* The range that starts at vaddr gets another tag, if it has `from`: else NEOMM_E_NOENT. */
neomm_status neomm_window_retag(struct neomm *root, neomm_vaddr_t vaddr, uint32_t from,
                                uint32_t to);

/* Gives a range back; the caller has unmapped it. NEOMM_E_NOENT: not the start of a range;
 * NEOMM_E_BUSY: something in it is still mapped. */
neomm_status neomm_window_free(struct neomm *root, neomm_vaddr_t vaddr);

/* Makes the range that starts at vaddr longer or shorter where it is; what it loses the caller has
 * unmapped. NEOMM_E_NOSPACE: the next range, and the guard page before it, are in the way;
 * NEOMM_E_NOENT: no range starts there; NEOMM_E_ALIGN; NEOMM_E_INVALID (size 0). Cost: the log of
 * the ranges and a 256th of them. Locks: window. Interrupts: yes. */
neomm_status neomm_window_resize(struct neomm *root, neomm_vaddr_t vaddr, size_t size);

/* Bytes of the range that starts at vaddr, 0 if none does. */
size_t neomm_window_size(struct neomm *root, neomm_vaddr_t vaddr);

/* The C pointer for a window address and back; 0 when the pointer lies outside. */
void *neomm_window_pointer(const struct neomm *root, neomm_vaddr_t vaddr);
neomm_vaddr_t neomm_window_vaddr(const struct neomm *root, const void *pointer);

NEOMM_EXTERN_C_END

#endif
