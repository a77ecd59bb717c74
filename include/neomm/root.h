/* The root: one instance of the memory manager, its address layout, and the check of it all.
 * SPDX-License-Identifier: MIT
 *
 * Everything the library knows hangs off one root; several roots live side by side (tests, a
 * user-space allocator, a second history). Layers are initialised from below, and each works
 * without the ones above it:
 *
 *   neomm_init -> neomm_pmm_init -> neomm_paging_init -> neomm_heap_init
 *                                                     -> neomm_swap_init -> neomm_vmm_init
 */
#ifndef NEOMM_ROOT_H
#define NEOMM_ROOT_H

#include <neomm/types.h>

/* A range of virtual addresses that C code may dereference: pointer = vaddr + delta. In a kernel
 * delta is 0; in the simulator it leads to where the arena is mapped in the host process. */
struct neomm_area {
    neomm_vaddr_t base; /* page aligned */
    size_t size;        /* bytes, page aligned, base + size may be 0 (top of memory) */
    intptr_t delta;
};

/* The address model, given at initialisation and checked there.
 *
 *   user      [user_base, user_limit)   never dereferenced by C code
 *   direct    physical 0 upwards, all of RAM that lies below direct.size
 *   window    mapped page by page: large heap blocks, valloc
 *   slots     NEOMM_SLOTS_PER_CPU pages for each CPU: frames above the direct map (i386)
 *   mmio      device registers, where the kernel maps them
 *   percpu    each CPU's own data, NEOMM_PERCPU_STRIDE apart, where the kernel maps it
 *   image     the kernel's own code and data, mapped by paging as the kernel says
 *
 * All but the direct map may have size 0: there is none.
 */
struct neomm_layout {
    enum neomm_format format;
    uint32_t physical_bits;   /* MAXPHYADDR by CPUID, 32 to 52 */
    neomm_vaddr_t user_base;  /* lowest address mmap gives out; a kernel's is not 0 */
    neomm_vaddr_t user_limit; /* first address that is not the user's */
    struct neomm_area direct;
    struct neomm_area window;
    struct neomm_area slots;
    struct neomm_area mmio;
    struct neomm_area percpu;
    struct neomm_area image;
};

/* Pages for temporary mappings that each CPU has. */
#define NEOMM_SLOTS_PER_CPU 8
/* Bytes of addresses for each CPU's own data. */
#define NEOMM_PERCPU_STRIDE ((size_t)64 << 10)

struct neomm_config;

struct neomm_options {
    struct neomm_layout layout;
    uint32_t cpus;                     /* 1 to NEOMM_CPU_MAX */
    const struct neomm_config *config; /* copied; NULL: the defaults */
};

/* A callback for text: one finding of neomm_fsck: the layer, the object and what disagrees,
 * as one line without a newline. */
typedef void neomm_report_fn(void *context, const char *line);

NEOMM_EXTERN_C_BEGIN

/* The layout this library's architecture recommends for `format`, deltas 0, for a machine whose
 * highest usable byte lies below `ram_end`. NEOMM_E_UNSUPPORTED: a format of the other
 * architecture. */
neomm_status neomm_layout_default(enum neomm_format format, neomm_paddr_t ram_end,
                                  struct neomm_layout *layout);

/* Checks a layout: alignment, order, no overlap, canonical, large enough for `cpus`.
 * NEOMM_OK, NEOMM_E_ALIGN, NEOMM_E_RANGE, NEOMM_E_INVALID or NEOMM_E_UNSUPPORTED. */
neomm_status neomm_layout_check(const struct neomm_layout *layout, uint32_t cpus);

/* Bytes that neomm_init needs for `cpus` CPUs; 0 if `cpus` is out of range. */
size_t neomm_root_size(uint32_t cpus);

/* Makes a root in `memory` (64-byte aligned, any contents, kept as long as the root).
 * On success *root == memory. Errors: those of neomm_layout_check; NEOMM_E_NOMEM when `size` is
 * below neomm_root_size. Once, before other CPUs use the root. */
neomm_status neomm_init(void *memory, size_t size, const struct neomm_options *options,
                        struct neomm **root);

/* Ends a root: NEOMM_E_BUSY while a layer of it is initialised. */
neomm_status neomm_fini(struct neomm *root);

const struct neomm_layout *neomm_layout_of(const struct neomm *root);

/* The consistency check of everything initialised: descriptors, bitmaps, slabs, tables, regions,
 * reverse maps, slots and totals are walked and must agree. Calls report (may be NULL) for each
 * finding and returns their number. Quiescent callers only: no other CPU may be inside the
 * library. Allocates nothing. Cost: proportional to memory. */
size_t neomm_fsck(struct neomm *root, neomm_report_fn *report, void *context);

/* ---- frames as memory (base; on i386 paging registers the slots) ---- */

/* A pointer to the contents of `frame`: the direct map, or a slot of this CPU for a frame above
 * it. Pairs with neomm_frame_unmap, last mapped first unmapped, on the same CPU, without
 * sleeping in between. NULL when the frame is high and no slot is registered or free.
 * Any context but NMI. */
void *neomm_frame_map(struct neomm *root, neomm_frame_t frame);
void neomm_frame_unmap(struct neomm *root, void *pointer);

/* The direct-map pointer of `paddr`, NULL when it lies above the direct map. */
void *neomm_direct_pointer(const struct neomm *root, neomm_paddr_t paddr);

NEOMM_EXTERN_C_END

#endif
