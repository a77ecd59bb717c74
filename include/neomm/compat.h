/* The names that NeoOS and IR0 kernels call, as thin inline wrappers.
 * SPDX-License-Identifier: MIT
 *
 * They act on the root of the CPU that runs (neomm_port_cpu()->root), which must be initialised
 * up to the layer named at each group. Physical addresses go in and come out, 0 meaning none;
 * pages are 4096 bytes. A kernel that has several roots, or uses these names for something else,
 * calls the neomm_* functions instead: nothing else includes this header.
 */
#ifndef NEOMM_COMPAT_H
#define NEOMM_COMPAT_H

#include <neomm/heap.h>
#include <neomm/paging.h>
#include <neomm/pmm.h>
#include <neomm/port.h>
#include <neomm/vmm.h>

/* Rights for valloc and map_page. VM_WRITE with VM_EXEC is refused. */
#define VM_READ  NEOMM_PROT_READ
#define VM_WRITE NEOMM_PROT_WRITE
#define VM_EXEC  NEOMM_PROT_EXEC

NEOMM_EXTERN_C_BEGIN

static inline struct neomm *neomm_compat_root(void)
{
    return neomm_port_cpu()->root;
}

/* ---- frames: pmm ---- */

/* A free page of the direct map, contents unknown; 0: out of memory. May reclaim. */
static inline neomm_paddr_t allocate_physical_page(void)
{
    neomm_frame_t frame;
    neomm_status status = neomm_pmm_alloc(neomm_compat_root(), 0, 0, &frame);
    return status == NEOMM_OK ? neomm_frame_paddr(frame) : 0;
}

/* The same under its other name. */
static inline neomm_paddr_t alloc_physical_page(void)
{
    return allocate_physical_page();
}

/* The frame of an address that may be anything; nil when no frame begins there. */
static inline neomm_frame_t neomm_compat_frame(neomm_paddr_t page)
{
    bool whole = (page & (NEOMM_PAGE_SIZE - 1)) == 0 && page >> 44 == 0;
    return whole ? neomm_paddr_frame(page) : neomm_frame(0);
}

/* Frees a page of the two above. Errors of neomm_pmm_free; 0 and an address inside a page are
 * NEOMM_E_FOREIGN. */
static inline neomm_status free_physical_page(neomm_paddr_t page)
{
    return neomm_pmm_free(neomm_compat_root(), neomm_compat_frame(page), 0);
}

/* Takes exactly this page, if it is free (NEOMM_E_BUSY), and gives it back. */
static inline neomm_status set_page_used(neomm_paddr_t page)
{
    return neomm_pmm_claim(neomm_compat_root(), neomm_compat_frame(page), 1);
}

static inline neomm_status set_page_free(neomm_paddr_t page)
{
    return neomm_pmm_free_range(neomm_compat_root(), neomm_compat_frame(page), 1);
}

/* ---- the heap ---- */

/* Macros, so that each call has a call-site record of its own. NULL when out of memory; they may
 * reclaim: interrupt handlers call neomm_kmalloc with NEOMM_ATOMIC. */
#define kmalloc(size)           neomm_kmalloc(neomm_compat_root(), size, 0)
#define kzalloc(size)           neomm_kzalloc(neomm_compat_root(), size, 0)
#define krealloc(pointer, size) neomm_krealloc(neomm_compat_root(), pointer, size, 0)

static inline void kfree(void *pointer)
{
    (void)neomm_kfree(neomm_compat_root(), pointer);
}

/* ---- kernel addresses: vmm for the first two, paging for the others ---- */

/* Zeroed pages in the kernel window with a guard page behind; NULL on failure. A macro and not a
 * function, since C libraries have one of this name. */
#define valloc(size, rights) neomm_valloc(neomm_compat_root(), size, rights)

static inline void vfree(void *pointer)
{
    (void)neomm_vfree(neomm_compat_root(), pointer);
}

/* Maps one page of the kernel window (neomm_window_alloc) or image to physical memory, cached;
 * NEOMM_E_RANGE for any other address: users' memory is mapped by neomm_mmap. Else the errors of
 * neomm_paging_map. */
static inline neomm_status map_page(neomm_vaddr_t page, neomm_paddr_t physical, neomm_prot_t rights)
{
    struct neomm *root = neomm_compat_root();
    return neomm_paging_map(root, neomm_paging_kernel(root), page, physical, NEOMM_PAGE_SIZE,
                            rights, NEOMM_CACHE_WB, NEOMM_MAP_SMALL);
}

/* Unmaps it on all CPUs; the physical page stays allocated. NEOMM_E_NOENT: nothing is mapped. */
static inline neomm_status unmap_page(neomm_vaddr_t page)
{
    struct neomm *root = neomm_compat_root();
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    struct neomm_mapping mapping;
    neomm_status status = neomm_paging_query(root, kernel, page, &mapping);
    if (status == NEOMM_OK && mapping.state == NEOMM_MAPPING_NONE)
        return NEOMM_E_NOENT;
    if (status != NEOMM_OK)
        return status;
    return neomm_paging_unmap(root, kernel, page, NEOMM_PAGE_SIZE, NULL, NULL, NULL);
}

NEOMM_EXTERN_C_END

#endif
