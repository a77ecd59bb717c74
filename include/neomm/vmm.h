/* Address spaces: mappings, page faults, user memory, and eviction.
 * SPDX-License-Identifier: MIT
 */
#ifndef NEOMM_VMM_H
#define NEOMM_VMM_H

#include <neomm/cpu.h>
#include <neomm/paging.h>
#include <neomm/swap.h>
#include <neomm/types.h>

/* An address space. Opaque; the root has a table of them, and frames refer to the index. */
struct neomm_space;

/* No limit. */
#define NEOMM_UNLIMITED UINT64_MAX

struct neomm_limits {
    uint64_t virtual_bytes;
    uint64_t resident_bytes; /* reached: the space evicts one of its own pages a fault */
    uint64_t swap_bytes;
};

struct neomm_vmm_options {
    const char *policy; /* replacement policy; NULL: the configuration's */
    bool zero_page;     /* read faults of anonymous memory share one frame of zeros */
};

/* Flags of neomm_mmap. */
#define NEOMM_MAP_FIXED    0x1u /* exactly at the address; what is there is replaced */
#define NEOMM_MAP_EXACT    0x2u /* exactly at the address, NEOMM_E_EXISTS if something is there */
#define NEOMM_MAP_POPULATE 0x4u

/* How a fault ended, for the kernel to act on. */
enum neomm_fault_outcome {
    NEOMM_FAULT_RESOLVED, /* run the instruction again */
    NEOMM_FAULT_SEGV,     /* nothing is mapped there */
    NEOMM_FAULT_ACCESS,   /* mapped, but not for this access */
    NEOMM_FAULT_BUS,      /* the contents are lost: swap read failed or damaged */
    NEOMM_FAULT_NOMEM,    /* no memory could be had */
    NEOMM_FAULT_RETRY     /* lost a race or must wait: run the instruction again */
};

/* What a resolved fault did. */
enum neomm_fault_kind {
    NEOMM_FAULT_NONE,
    NEOMM_FAULT_ZERO,    /* first touch: a new frame of zeros */
    NEOMM_FAULT_SWAP_IN, /* read back from swap */
    NEOMM_FAULT_SPURIOUS /* already mapped as needed */
};

struct neomm_fault_result {
    enum neomm_fault_outcome outcome;
    enum neomm_fault_kind kind;
};

struct neomm_space_stats {
    uint32_t index;
    uint32_t regions;
    uint64_t virtual_bytes, resident_bytes, swap_bytes;
    uint64_t table_bytes;
    uint64_t faults_zero, faults_swap_in, faults_other;
    uint64_t evictions;   /* pages that left memory */
    uint64_t swap_writes; /* of them, written (others were clean in their slot) */
};

NEOMM_EXTERN_C_BEGIN

/* Initialises the layer over paging and swap, and registers its reclaim with pmm. options may be
 * NULL. NEOMM_E_NOENT: an unknown policy or a layer missing; NEOMM_E_NOMEM. */
neomm_status neomm_vmm_init(struct neomm *root, const struct neomm_vmm_options *options);
/* NEOMM_E_BUSY while a space or a valloc range exists. */
neomm_status neomm_vmm_fini(struct neomm *root);

/* A new empty space. limits may be NULL (none). NEOMM_E_NOMEM, NEOMM_E_NOSPACE. */
neomm_status neomm_space_create(struct neomm *root, const struct neomm_limits *limits,
                                struct neomm_space **space);
/* Exit: unmaps everything, frees frames, slots and tables. No CPU may have it loaded
 * (NEOMM_E_BUSY), no task be inside it. */
neomm_status neomm_space_destroy(struct neomm *root, struct neomm_space *space);

/* Loads the space on this CPU; NULL: the kernel's tables. */
void neomm_space_activate(struct neomm *root, struct neomm_space *space);
uint32_t neomm_space_index(const struct neomm_space *space);
/* The space with this index, NULL if none. */
struct neomm_space *neomm_space_at(struct neomm *root, uint32_t index);
struct neomm_tables *neomm_space_tables(struct neomm_space *space);
void neomm_space_stats(struct neomm *root, struct neomm_space *space,
                       struct neomm_space_stats *stats);

/* Maps anonymous private memory of `size` bytes (rounded up to pages). *address: in, the hint or
 * the exact place; out, where. NEOMM_E_INVALID (size 0), NEOMM_E_ALIGN, NEOMM_E_RANGE,
 * NEOMM_E_ACCESS (WRITE with EXEC), NEOMM_E_EXISTS, NEOMM_E_NOSPACE, NEOMM_E_LIMIT,
 * NEOMM_E_NOMEM; nothing has changed then. May sleep. */
neomm_status neomm_mmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                        uint64_t size, neomm_prot_t prot, unsigned flags);

/* Unmaps [address, address + size): any range, holes are fine. NEOMM_E_NOMEM when a region had
 * to be split and no memory was left: nothing has changed. May sleep. */
neomm_status neomm_munmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                          uint64_t size);

/* Changes rights. NEOMM_E_NOENT: a part of the range is not mapped, nothing has changed. */
neomm_status neomm_mprotect(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                            uint64_t size, neomm_prot_t prot);

/* A page fault of this space's task at `address`; `error` is the CPU's error code
 * (NEOMM_PF_*). May sleep. The outcome is also returned in `result` with what was done. */
enum neomm_fault_outcome neomm_fault(struct neomm *root, struct neomm_space *space,
                                     neomm_vaddr_t address, uint32_t error,
                                     struct neomm_fault_result *result);

/* Copies between kernel memory and user memory of the space that is loaded on this CPU. Checks
 * the range, faults pages in. *done (may be NULL): bytes copied. NEOMM_E_FAULT, NEOMM_E_RANGE. */
neomm_status neomm_copy_to_user(struct neomm *root, struct neomm_space *space, neomm_vaddr_t to,
                                const void *from, size_t size, size_t *done);
neomm_status neomm_copy_from_user(struct neomm *root, struct neomm_space *space, void *to,
                                  neomm_vaddr_t from, size_t size, size_t *done);

/* Evicts up to `count` pages of this space by its policy; returns how many went. May sleep. */
uint32_t neomm_space_evict(struct neomm *root, struct neomm_space *space, uint32_t count);

/* Kernel memory by pages in the window: virtually contiguous, eagerly backed, guard page behind.
 * NULL: size 0, WRITE with EXEC, or no memory. */
void *neomm_valloc(struct neomm *root, size_t size, neomm_prot_t prot) NEOMM_MALLOC
    NEOMM_ALLOC_SIZE(2);
/* NEOMM_E_NOENT: not what valloc gave. NULL is fine. */
neomm_status neomm_vfree(struct neomm *root, void *pointer);

NEOMM_EXTERN_C_END

#endif
