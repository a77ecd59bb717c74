/* Address spaces: mappings, page faults, user memory, and eviction.
 * SPDX-License-Identifier: MIT
 */
#ifndef NEOMM_VMM_H
#define NEOMM_VMM_H

#include <neomm/cpu.h>
#include <neomm/paging.h>
#include <neomm/swap.h>
#include <neomm/types.h>

/* Memory that several spaces can map. Opaque. */
struct neomm_object;

/* Bytes of an object's name with its NUL. */
#define NEOMM_OBJECT_NAME 64

/* An address space. Opaque; the root has a table of them, and frames refer to the index. */
struct neomm_space;

/* No limit. */
#define NEOMM_UNLIMITED UINT64_MAX

struct neomm_limits {
    uint64_t virtual_bytes;
    uint64_t resident_bytes; /* reached: the space evicts one of its own pages a fault */
    uint64_t swap_bytes;
    uint64_t locked_bytes; /* of regions that are locked, touched or not */
};

/* What may be promised: the pages of private memory that has ever been writable, in all spaces
 * together, against all of RAM and swap. */
enum neomm_overcommit {
    NEOMM_OVERCOMMIT_HEURISTIC, /* a single mapping of more than RAM and swap is refused */
    NEOMM_OVERCOMMIT_ALWAYS,    /* nothing is */
    NEOMM_OVERCOMMIT_REFUSE     /* what does not fit into RAM and swap with all others is */
};

/* Where the first touch brings a huge page (2 MiB; 4 MiB with 2-level tables): in private anonymous
 * memory, if one region covers all of it, nothing of it is there yet, and a block of frames is at
 * hand. What deals with a part of a huge page makes small ones of it. */
enum neomm_huge {
    NEOMM_HUGE_ADVISE, /* where NEOMM_MAP_HUGE or NEOMM_ADVICE_HUGEPAGE asks for it */
    NEOMM_HUGE_ALWAYS, /* wherever NEOMM_ADVICE_NOHUGEPAGE does not refuse it */
    NEOMM_HUGE_NEVER
};
#define NEOMM_HUGES 3

struct neomm_vmm_options {
    const char *policy; /* replacement policy; NULL: the configuration's */
    bool zero_page;     /* read faults of anonymous memory share one frame of zeros */
    bool aslr;          /* what is placed by itself begins at a distance of NEOMM_ASLR_BITS random
                         * bits, in pages, that each space draws from the port's entropy */
    enum neomm_overcommit overcommit;
    enum neomm_huge huge;
    uint32_t readahead; /* pages read from swap together, at most, 0: one at a time */
};

/* As Linux does by default for mmap on these machines. */
#if UINTPTR_MAX > 0xffffffffu
#define NEOMM_ASLR_BITS 28u
#else
#define NEOMM_ASLR_BITS 8u
#endif

/* Flags of neomm_mmap. */
#define NEOMM_MAP_FIXED     0x001u /* exactly at the address; what is there is replaced */
#define NEOMM_MAP_EXACT     0x002u /* exactly at the address, NEOMM_E_EXISTS if something is there */
#define NEOMM_MAP_POPULATE  0x004u
#define NEOMM_MAP_STACK     0x008u /* grows down by faults up to NEOMM_STACK_GUARD below it */
#define NEOMM_MAP_HUGE      0x010u /* as NEOMM_ADVICE_HUGEPAGE */
#define NEOMM_MAP_LOCKED    0x020u /* as neomm_mlock at once */
#define NEOMM_MAP_NORESERVE 0x040u /* not in the commit account */
#define NEOMM_MAP_DOWN      0x080u /* placed as high as possible, instead of as low */
#define NEOMM_MAP_PRIVATE   0x100u /* of an object: what is written to is a copy of one's own */

/* Bytes below a stack that nothing is placed in by itself, and that stay free when it grows. */
#define NEOMM_STACK_GUARD ((size_t)256 * NEOMM_PAGE_SIZE)

/* Flags of neomm_mremap. */
#define NEOMM_REMAP_MAYMOVE 0x1u
#define NEOMM_REMAP_FIXED   0x2u /* to exactly the address; what is there is replaced */
#define NEOMM_REMAP_KEEP    0x4u /* the old range stays mapped, and empty */

/* What neomm_madvise is told of a range. */
enum neomm_advice {
    NEOMM_ADVICE_NORMAL,
    NEOMM_ADVICE_SEQUENTIAL,    /* much is read ahead, from pagers and from swap */
    NEOMM_ADVICE_RANDOM,        /* nothing is */
    NEOMM_ADVICE_WILLNEED,      /* reads back what is in swap; starts reading what pagers have */
    NEOMM_ADVICE_DONTNEED,      /* gives the contents up: zeros from now on; an object keeps them */
    NEOMM_ADVICE_FREE,          /* the same; Linux may wait until memory is short */
    NEOMM_ADVICE_HUGEPAGE,      /* see neomm_huge; a read brings the page, too */
    NEOMM_ADVICE_NOHUGEPAGE,    /* none from now on; those that are there stay */
    NEOMM_ADVICE_COLD,          /* as if it had not been used for long */
    NEOMM_ADVICE_PAGEOUT,       /* evicts what no other space has, too */
    NEOMM_ADVICE_POPULATE_READ, /* touches each page */
    NEOMM_ADVICE_POPULATE_WRITE /* writes to each page */
};

/* Flags of neomm_msync; ASYNC and SYNC exclude each other. */
#define NEOMM_MS_ASYNC      0x1u
#define NEOMM_MS_INVALIDATE 0x2u
#define NEOMM_MS_SYNC       0x4u

/* Flags of neomm_mlock (ONFAULT) and neomm_mlockall. */
#define NEOMM_LOCK_CURRENT 0x1u /* what is mapped now */
#define NEOMM_LOCK_FUTURE  0x2u /* what will be mapped */
#define NEOMM_LOCK_ONFAULT 0x4u /* pages are locked when they are touched, not brought in now */

/* How a fault ended, for the kernel to act on. */
enum neomm_fault_outcome {
    NEOMM_FAULT_RESOLVED, /* run the instruction again */
    NEOMM_FAULT_SEGV,     /* nothing is mapped there */
    NEOMM_FAULT_ACCESS,   /* mapped, but not for this access */
    NEOMM_FAULT_BUS, /* contents lost: reading failed or found damage; or behind an object's end */
    NEOMM_FAULT_NOMEM, /* no memory could be had */
    NEOMM_FAULT_RETRY  /* lost a race or must wait: run the instruction again */
};

/* What a resolved fault did. */
enum neomm_fault_kind {
    NEOMM_FAULT_NONE,
    NEOMM_FAULT_ZERO,     /* first touch: a new frame of zeros */
    NEOMM_FAULT_SWAP_IN,  /* read back from swap */
    NEOMM_FAULT_SPURIOUS, /* already mapped as needed */
    NEOMM_FAULT_COPY,     /* a copy of its own of what others have, too */
    NEOMM_FAULT_FOUND,    /* the page was in its object, or others had it from swap */
    NEOMM_FAULT_HUGE,     /* first touch: a huge page of zeros */
    NEOMM_FAULT_READ      /* it was waited for: the object's pager read it */
};

/* Why one failed. */
enum neomm_fault_reason {
    NEOMM_REASON_NONE,
    NEOMM_REASON_UNMAPPED, /* SEGV: nothing is mapped there */
    NEOMM_REASON_NOT_USER, /* SEGV: no address of the user's */
    NEOMM_REASON_READ,     /* ACCESS: the region has not this right; the next two, too */
    NEOMM_REASON_WRITE,
    NEOMM_REASON_EXEC,
    NEOMM_REASON_END,     /* BUS: behind the object's end */
    NEOMM_REASON_IO,      /* BUS: a device or a pager failed */
    NEOMM_REASON_DAMAGED, /* BUS: what came from swap is not what went there */
    NEOMM_REASON_DEVICE,  /* BUS: physical memory that is mapped no more */
    NEOMM_REASON_LIMIT,   /* NOMEM: the space is at its limit, and no page of it can go */
    NEOMM_REASON_VICTIM,  /* NOMEM: the space was chosen when memory ran out */
    NEOMM_REASON_MEMORY   /* NOMEM: none could be had */
};

/* A stretch of addresses that was mapped with the same rights. */
struct neomm_region_info {
    neomm_vaddr_t start, end; /* [start, end) */
    neomm_prot_t prot;
};

struct neomm_fault_result {
    enum neomm_fault_outcome outcome;
    enum neomm_fault_kind kind;
    enum neomm_fault_reason reason;
    struct neomm_region_info region; /* of a failure: where, end 0: nowhere; else undefined */
};

/* Bytes of a space's name with its NUL. */
#define NEOMM_SPACE_NAME 32

/* The bias of a space that is never chosen when memory runs out; the largest one. */
#define NEOMM_OOM_NEVER    (-1000)
#define NEOMM_OOM_BIAS_MAX 1000

struct neomm_space_stats {
    uint32_t index;
    uint32_t regions;
    uint64_t virtual_bytes, resident_bytes, swap_bytes;
    uint64_t table_bytes;
    uint64_t faults_zero, faults_swap_in, faults_other; /* on i386 these and below modulo 2^32 */
    uint64_t evictions;                                 /* pages that left memory */
    uint64_t swap_writes; /* of them, written (others were clean in their slot) */
    uint64_t locked_bytes;
    uint64_t faults_copy;   /* pages copied since others had them, too */
    uint64_t refaults;      /* evicted pages that were read back */
    uint64_t refaults_near; /* of them, after no more evictions than its domain has pages: with as
                             * much memory again they would have stayed */
    uint64_t
        working_set_bytes; /* pages used between two calls of neomm_space_harvest, on average */
    int32_t oom_bias;
    uint32_t oom_score;  /* neomm_space_oom_score, 0 if that is less */
    uint32_t oom_victim; /* 1: it was chosen, and has lost its private memory */
    uint32_t suspended;  /* 1: by neomm_load_control */
    /* Pages read with others that faulted, beside the faults; of them, seen used since, and evicted
     * without having been used. */
    uint64_t read_ahead, ahead_used, ahead_wasted;
    /* Times that it was swapped out as a whole; pages that went the last time, and that are back
     * since: up to as many as its working set had then, if that was known; nanoseconds from the
     * first of them to the last. */
    uint64_t swap_outs, away_pages, back_pages, back_ns;
    uint64_t suspensions;
    char name[NEOMM_SPACE_NAME];
};

NEOMM_EXTERN_C_BEGIN

/* Initialises the layer over paging and swap, and registers its reclaim with pmm. options may be
 * NULL: all by the configuration. NEOMM_E_NOENT: an unknown policy or a layer missing;
 * NEOMM_E_NOMEM. */
neomm_status neomm_vmm_init(struct neomm *root, const struct neomm_vmm_options *options);
/* NEOMM_E_BUSY while a space, an object or a valloc range exists. */
neomm_status neomm_vmm_fini(struct neomm *root);

/* A new empty space. limits may be NULL (none). NEOMM_E_NOMEM, NEOMM_E_NOSPACE. */
neomm_status neomm_space_create(struct neomm *root, const struct neomm_limits *limits,
                                struct neomm_space **space);
/* The same with the limits that the configuration has for processes of this name, in shares of the
 * memory for use; several may have one name. NULL: no name, and the default's. The name is copied;
 * of one that is longer than NEOMM_SPACE_NAME - 1 bytes the beginning is, and what would not be
 * fit for a table ('"', '\\', blanks, control bytes) as '_'. */
neomm_status neomm_space_create_named(struct neomm *root, const char *name,
                                      struct neomm_space **space);
/* One more task uses the space (as after vfork): it is destroyed as often as it has tasks. */
void neomm_space_share(struct neomm *root, struct neomm_space *space);
/* Exit of a task; with the last one of the space: unmaps everything, frees frames, slots and
 * tables. Then no CPU may have it loaded (NEOMM_E_BUSY), no task be inside it. */
neomm_status neomm_space_destroy(struct neomm *root, struct neomm_space *space);

/* A copy of the space, with the same limits: both see what the memory holds now, and neither sees
 * what the other writes from now on. Pages are copied at the first write; one that is pinned, at
 * once. Where the heap and the stacks are is inherited, locks on memory are not; physical mappings
 * lead to the same memory. NEOMM_E_NOMEM, NEOMM_E_NOSPACE; NEOMM_E_LIMIT: overcommit, or a page has
 * 393,216 mappings; nothing has changed then, but that writes of the parent may fault once. May
 * sleep. Cost: the regions, and the entries of the parent's page tables. */
neomm_status neomm_space_fork(struct neomm *root, struct neomm_space *parent,
                              struct neomm_space **child);

/* Loads the space on this CPU; NULL: the kernel's tables. */
void neomm_space_activate(struct neomm *root, struct neomm_space *space);
uint32_t neomm_space_index(const struct neomm_space *space);
/* The space with this index, NULL if none. */
struct neomm_space *neomm_space_at(struct neomm *root, uint32_t index);
struct neomm_tables *neomm_space_tables(struct neomm_space *space);
void neomm_space_stats(struct neomm *root, struct neomm_space *space,
                       struct neomm_space_stats *stats);

/* All calls on ranges: addresses are whole pages (NEOMM_E_ALIGN), sizes are rounded up to pages and
 * not 0 (NEOMM_E_INVALID), the range lies in the user's half (NEOMM_E_RANGE). They may sleep and
 * may reclaim: with no lock held, not in interrupts. NEOMM_E_NOMEM: memory for the map of regions,
 * or for page tables, was missing; unless said otherwise nothing has changed after an error. Cost:
 * the log of the space's regions, and what is said of each. */

/* Maps anonymous private memory of `size` bytes. *address: in, the hint or the exact place; out,
 * where. A hint is taken as the lowest (DOWN: the highest end) address to be tried first.
 * NEOMM_E_INVALID (unknown flags too), NEOMM_E_ALIGN, NEOMM_E_RANGE, NEOMM_E_ACCESS (WRITE with
 * EXEC), NEOMM_E_EXISTS, NEOMM_E_NOSPACE, NEOMM_E_LIMIT (of the space, or overcommit),
 * NEOMM_E_NOMEM. With POPULATE or LOCKED the pages are brought in; if that fails nothing stays
 * mapped, and what FIXED replaced is lost. */
neomm_status neomm_mmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t *address,
                        uint64_t size, neomm_prot_t prot, unsigned flags);

/* Maps physical memory from `paddr` on: a device's registers, with its cache type. All of it is
 * there at once, is never evicted, and is the caller's to keep. Flags: FIXED, EXACT, DOWN. Errors
 * as neomm_mmap and neomm_paging_map; with FIXED, what was there is lost on NEOMM_E_NOMEM. */
neomm_status neomm_mmap_physical(struct neomm *root, struct neomm_space *space,
                                 neomm_vaddr_t *address, neomm_paddr_t paddr, uint64_t size,
                                 neomm_prot_t prot, enum neomm_cache cache, unsigned flags);

/* ---- shared memory ---- */

/* A new object of `bytes` (rounded up to pages), all zero, and a handle of it. name: what others
 * open it by, up to NEOMM_OBJECT_NAME - 1 bytes, copied; NULL: none. It lives until its last
 * handle, its last mapping and its name are gone. NEOMM_E_EXISTS (the name), NEOMM_E_INVALID (a
 * name too long, or empty), NEOMM_E_RANGE (2^44 pages), NEOMM_E_NOMEM, NEOMM_E_NOSPACE. May sleep.
 */
neomm_status neomm_object_create(struct neomm *root, const char *name, uint64_t bytes,
                                 struct neomm_object **object);
/* One more handle of the object with this name. NEOMM_E_NOENT. */
neomm_status neomm_object_open(struct neomm *root, const char *name, struct neomm_object **object);
/* A handle goes. */
void neomm_object_close(struct neomm *root, struct neomm_object *object);
/* The name goes; handles and mappings stay. NEOMM_E_NOENT. */
neomm_status neomm_object_unlink(struct neomm *root, const char *name);
/* Bytes beyond the new size are gone, in mappings, too, where they fault with NEOMM_FAULT_BUS; new
 * ones are zero. NEOMM_E_RANGE. May sleep. */
neomm_status neomm_object_resize(struct neomm *root, struct neomm_object *object, uint64_t bytes);
uint64_t neomm_object_size(struct neomm_object *object);
/* As neomm_mmap, but maps the object's bytes from `offset` (whole pages) on, shared: all see what
 * one writes, also after a fork. The range may reach beyond the object's end. Flags: all but STACK.
 * It is not in the commit account. With PRIVATE it sees what others write to a page until it writes
 * to that itself: from then on it has a copy, which is memory as neomm_mmap gives it, and which
 * stays when the object gets smaller. */
neomm_status neomm_mmap_object(struct neomm *root, struct neomm_space *space,
                               neomm_vaddr_t *address, uint64_t size, neomm_prot_t prot,
                               unsigned flags, struct neomm_object *object, uint64_t offset);

/* ---- ranges ---- */

/* Unmaps [address, address + size): any range, holes are fine. Cost: the pages that were there. */
neomm_status neomm_munmap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                          uint64_t size);

/* Changes rights. NEOMM_E_NOENT: a part of the range is not mapped; NEOMM_E_LIMIT: overcommit.
 * Cost: the pages that are there. */
neomm_status neomm_mprotect(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                            uint64_t size, neomm_prot_t prot);

/* Makes a mapping longer or shorter, where it is or (MAYMOVE) elsewhere; pages move, they are not
 * copied. *address: in, with FIXED the place; out, where it is. The old range lies in one region
 * (NEOMM_E_NOENT) of memory that is not physical (NEOMM_E_UNSUPPORTED, unless it only shrinks in
 * place). FIXED and KEEP need MAYMOVE, KEEP the same size, and FIXED a range apart from the old one
 * (NEOMM_E_INVALID). NEOMM_E_NOSPACE: no room, or none there without MAYMOVE; NEOMM_E_LIMIT;
 * NEOMM_E_NOMEM: nothing has moved, but with FIXED what was at its place is lost, and what a
 * shorter size leaves over is unmapped. Cost: the pages that move. */
neomm_status neomm_mremap(struct neomm *root, struct neomm_space *space, neomm_vaddr_t old,
                          uint64_t old_size, uint64_t size, unsigned flags, neomm_vaddr_t *address);

/* NEOMM_E_NOENT: a part of the range is not mapped; the advice was taken for the rest.
 * NEOMM_E_INVALID: unknown advice; contents of locked or physical memory are to be given up, or
 * physical memory to be evicted; all before that was done. POPULATE_*: NEOMM_E_FAULT where a page
 * may not be touched so, NEOMM_E_NOMEM; pages before it are there. */
neomm_status neomm_madvise(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                           uint64_t size, enum neomm_advice advice);

/* Writes back what shared mappings of objects with a pager (pager.h) have in the range: SYNC as
 * neomm_object_sync, with its errors, ASYNC starts it. There is nothing to write back in other
 * memory. NEOMM_E_INVALID: flags; NEOMM_E_NOENT: a part is not mapped; NEOMM_E_BUSY: INVALIDATE,
 * and a part is locked. May sleep. */
neomm_status neomm_msync(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                         uint64_t size, unsigned flags);

/* Keeps the pages of a range in memory, and (without ONFAULT) brings them in; pages without rights
 * are not brought in. Locks do not nest. NEOMM_E_NOENT: a part is not mapped; NEOMM_E_LIMIT;
 * NEOMM_E_NOMEM, NEOMM_E_FAULT: the range is locked, but not all of it could be brought in. */
neomm_status neomm_mlock(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                         uint64_t size, unsigned flags);
neomm_status neomm_munlock(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                           uint64_t size);
/* NEOMM_E_INVALID: neither CURRENT nor FUTURE. munlockall ends FUTURE, too. */
neomm_status neomm_mlockall(struct neomm *root, struct neomm_space *space, unsigned flags);
neomm_status neomm_munlockall(struct neomm *root, struct neomm_space *space);

/* pages[i] becomes 1 if the range's page i is in memory, else 0. NEOMM_E_NOENT: a part is not
 * mapped. What it tells may have changed already. */
neomm_status neomm_mincore(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                           uint64_t size, uint8_t *pages);

/* The heap of a process, which begins at `start`; before the first neomm_brk, and again after
 * neomm_space_reset. */
neomm_status neomm_brk_set(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start);
/* Moves the end of the heap, any address, to `end`; *now (may be NULL) is where it is afterwards.
 * NEOMM_E_RANGE: below the start, or no user address; NEOMM_E_EXISTS: something is in the way;
 * NEOMM_E_NOENT: without neomm_brk_set; NEOMM_E_LIMIT; NEOMM_E_NOMEM. */
neomm_status neomm_brk(struct neomm *root, struct neomm_space *space, neomm_vaddr_t end,
                       neomm_vaddr_t *now);
/* The same by a difference; *before (may be NULL): where the end was. */
neomm_status neomm_sbrk(struct neomm *root, struct neomm_space *space, intptr_t change,
                        neomm_vaddr_t *before);

/* As before an exec: everything is unmapped, nothing will be locked, the heap has no start, and a
 * new random distance is drawn. It may be loaded; limits stay. */
neomm_status neomm_space_reset(struct neomm *root, struct neomm_space *space);

/* What is mapped at `address`. NEOMM_E_NOENT: nothing. Waits for nobody if it finds something, else
 * for a call that is just changing the space. Cost: the log of the regions. May sleep. */
neomm_status neomm_region_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                             struct neomm_region_info *info);

/* A page fault of this space's task at `address`; `error` is the CPU's error code
 * (NEOMM_PF_*). May sleep. The outcome is also returned in `result` with what was done. */
enum neomm_fault_outcome neomm_fault(struct neomm *root, struct neomm_space *space,
                                     neomm_vaddr_t address, uint32_t error,
                                     struct neomm_fault_result *result);

/* Access to user memory of the space that is loaded on this CPU, as the user could do it: with his
 * rights only, faulting pages in and copying shared ones before a write. Each checks the range:
 * NEOMM_E_RANGE where a part of it is not the user's. NEOMM_E_FAULT: a part is not mapped, or not
 * for this access, or is unmapped meanwhile. *done (may be NULL): the bytes done, from the start.
 * May sleep: no lock is held. */
neomm_status neomm_copy_to_user(struct neomm *root, struct neomm_space *space, neomm_vaddr_t to,
                                const void *from, size_t size, size_t *done);
neomm_status neomm_copy_from_user(struct neomm *root, struct neomm_space *space, void *to,
                                  neomm_vaddr_t from, size_t size, size_t *done);
neomm_status neomm_zero_user(struct neomm *root, struct neomm_space *space, neomm_vaddr_t to,
                             size_t size, size_t *done);

/* Copies a string with its NUL into `size` bytes. *length: without the NUL. NEOMM_E_NOSPACE: there
 * is none in the first `size` bytes, which were copied; NEOMM_E_FAULT: *length bytes were. */
neomm_status neomm_copy_string_from_user(struct neomm *root, struct neomm_space *space, char *to,
                                         neomm_vaddr_t from, size_t size, size_t *length);

/* Replaces the aligned word at `address` by `desired` if it is *expected: NEOMM_OK; else
 * NEOMM_E_AGAIN, and *expected is what it is. NEOMM_E_ALIGN. */
neomm_status neomm_user_compare_exchange(struct neomm *root, struct neomm_space *space,
                                         neomm_vaddr_t address, uint32_t *expected,
                                         uint32_t desired);

/* Pins `pages` pages from the one with `address` on, of any space, for a device to read or (write)
 * to write: each frames[i] stays the page, where nobody moves or evicts it, and the space's alone
 * where it is private memory, also over a fork, until it is unpinned; if it is unmapped meanwhile
 * the frame lives on until then. write: the pages must be writable for the user. *done: pages
 * pinned, which on an error, too, are to be unpinned. NEOMM_E_RANGE, NEOMM_E_FAULT, NEOMM_E_NOMEM;
 * NEOMM_E_LIMIT: a page has 65,000 pins. May sleep. */
neomm_status neomm_user_pin(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                            uint32_t pages, bool write, neomm_frame_t *frames, uint32_t *done);
/* dirty: the device has written to them. Any context. */
void neomm_user_unpin(struct neomm *root, const neomm_frame_t *frames, uint32_t count, bool dirty);

/* Evicts up to `count` pages of this space by its policy; returns how many went. May sleep. */
uint32_t neomm_space_evict(struct neomm *root, struct neomm_space *space, uint32_t count);

/* ---- reclaim ----
 *
 * A kernel has one thread for it:
 *
 *     for (;;) {
 *         (void)neomm_reclaim_wait(root, 1000000000);
 *         while (neomm_reclaim_background(root, 128, NULL) == NEOMM_E_AGAIN)
 *             let_others_run();
 *     }
 *
 * Without one all works, but each allocation that finds no frame reclaims for itself. */

/* Sleeps until an allocation has left a zone below its low watermark, which wakes one who waits
 * here, or for timeout_ns. NEOMM_E_TIMEOUT; NEOMM_OK also if that has happened already;
 * NEOMM_E_NOENT: vmm is not initialised. */
neomm_status neomm_reclaim_wait(struct neomm *root, uint64_t timeout_ns);
/* Evicts pages from zones that are below their high watermark: at most `budget` pages are looked
 * at. *freed (may be NULL): those that went. NEOMM_OK: all zones are above it; NEOMM_E_AGAIN: not
 * yet; NEOMM_E_NOENT: all pages were looked at in vain, and there is no use in looking again within
 * a second, or vmm is not initialised; NEOMM_E_BUSY: another task is inside. Sleeps. Locks of the
 * caller: none. */
neomm_status neomm_reclaim_background(struct neomm *root, uint32_t budget, uint32_t *freed);

/* ---- processes that do not run, and too many that do ---- */

/* Evicts all of the space's private memory that can go: not pages that are locked or pinned, nor
 * those that other spaces have, too, or that are an object's. It comes back by faults, with what is
 * read ahead; neomm_space_stats says how many pages and how long. Returns the pages that went. Its
 * tasks may run meanwhile. May sleep. Cost: the pages, in batches of 32, and the page tables. */
uint64_t neomm_space_swap_out(struct neomm *root, struct neomm_space *space);

/* Looks for idle spaces and swaps them out: those in which no page has been used and no fault has
 * come for `[vmm] idle_after` seconds, as far as calls of this function show; for the kernel's
 * thread, a few times within that time. Harvests each space (neomm_space_harvest). Returns the
 * pages that went. Does nothing where idle_after is 0, or somebody else is at it. May sleep. */
uint64_t neomm_idle_look(struct neomm *root);

/* Is told of each space that is suspended, or may run again; without locks. */
typedef void neomm_suspend_fn(void *context, uint32_t space, bool suspended);

/* Load control (Denning 1968; docs/replacement.md): looks whether processes take each other's pages
 * away and get nothing done, and then chooses one that is not to run for `slice` nanoseconds; its
 * memory is swapped out, so that the others have room. Each has its turn. For the kernel's thread,
 * several times a slice. A suspended space is marked in its statistics, and `tell` is told of it;
 * it is the kernel that does not run its tasks, and if it does their faults are worked off as ever.
 * Returns how many spaces are suspended. May sleep. */
uint32_t neomm_load_control(struct neomm *root, uint64_t slice);
/* NULL: nobody. Not while neomm_load_control runs. */
void neomm_load_control_tell(struct neomm *root, neomm_suspend_fn *tell, void *context);

/* Another replacement policy from now on: for the page cache and all memory of spaces without a
 * resident limit, and for spaces that are created later; or for a space with a limit. Pages go on
 * in the order in which the old policy would have taken them, and are used meanwhile: the lock that
 * faults and reclaim need, with interrupts masked, is held for 32 pages at a time. NEOMM_E_NOENT:
 * no such policy, or no layer; NEOMM_E_UNSUPPORTED: the space has no limit and no policy of its
 * own; NEOMM_E_BUSY: a policy is being changed just now; NEOMM_E_NOMEM. Any context without locks.
 * Cost: the pages, and a look at each frame of the machine. */
neomm_status neomm_vmm_set_policy(struct neomm *root, const char *name);
neomm_status neomm_space_set_policy(struct neomm *root, struct neomm_space *space,
                                    const char *name);
/* The name of the policy that a space goes by, NULL: those without a limit. */
const char *neomm_vmm_policy(struct neomm *root, struct neomm_space *space);

/* Notes which of the space's pages were used since the last call, for the average of the space's
 * statistics (each call counts a quarter), and takes nothing from what replacement knows of them.
 * Returns their number. To be called at an interval of the kernel's choice. Cost: the space's
 * resident pages. May sleep. */
uint64_t neomm_space_harvest(struct neomm *root, struct neomm_space *space);

/* ---- out of memory ----
 *
 * When neither memory nor swap is left, the space with the highest score is told through
 * neomm_port_oom, once, and its private memory dropped at once: its faults are NEOMM_FAULT_NOMEM
 * from then on. Who needed memory tries again meanwhile. Calls that return a status end with
 * NEOMM_E_NOMEM instead, and nobody is chosen. */

/* Frames, swap slots and page tables of the space in 1/1000 of the RAM for use, and the bias. Of
 * equal scores more memory counts, then the lower index. Any context that may not be in a lock. */
int32_t neomm_space_oom_score(struct neomm *root, struct neomm_space *space);
/* NEOMM_OOM_NEVER to NEOMM_OOM_BIAS_MAX, 0 at first; a child of fork has its parent's.
 * NEOMM_E_RANGE. */
neomm_status neomm_space_set_oom_bias(struct neomm *root, struct neomm_space *space, int32_t bias);

/* Moves pages to other frames until a block of 2^order frames (1 to NEOMM_ORDER_MAX) is free, or
 * was a moment ago. Private memory moves while it is in use, shared memory is faulted in again;
 * pinned pages stay. The frame allocator does so by itself when a block is asked for with reclaim,
 * and there are frames but no such block. NEOMM_E_NOMEM: none was found with movable pages alone
 * that could be moved, or somebody else is at it; NEOMM_E_INVALID. Cost: at most 64 blocks are
 * looked at and 4 emptied. May sleep. */
neomm_status neomm_compact(struct neomm *root, unsigned order) NEOMM_MUST_CHECK;

/* Kernel memory by pages in the window: virtually contiguous, filled with zeros, all of it there,
 * with an unmapped guard page behind. NULL: size 0, no rights, WRITE with EXEC, or no memory. */
void *neomm_valloc(struct neomm *root, size_t size, neomm_prot_t prot) NEOMM_MALLOC
    NEOMM_ALLOC_SIZE(2);

/* The same at a multiple of `align` (a power of two; less than a page: a page). LAZY: a page gets
 * memory when it is first touched, in neomm_kernel_fault. Until then it costs nothing, and the
 * touch may find no memory: a read or write that faults then, which the kernel must be able to
 * bear. Not for what interrupt handlers touch, nor who holds a lock. NULL also for a wrong
 * alignment. */
void *neomm_valloc_aligned(struct neomm *root, size_t size, size_t align, neomm_prot_t prot,
                           unsigned flags) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2);
#define NEOMM_VALLOC_LAZY 0x1u

/* A page fault in kernel mode at an address that is not the user's: was it the first touch of a
 * page of a lazy range? RESOLVED: run the instruction again. SEGV: no, and it is nobody's; ACCESS:
 * the range has not this right, or `can_wait` is false: the fault came with interrupts masked, from
 * an interrupt handler, or from who holds a lock; NOMEM: there was no memory. can_wait: may sleep,
 * and reclaim. */
enum neomm_fault_outcome neomm_kernel_fault(struct neomm *root, neomm_vaddr_t address,
                                            uint32_t error, bool can_wait);

/* NEOMM_E_NOENT: not what valloc gave. NULL is fine. Not while another CPU may still touch it. */
neomm_status neomm_vfree(struct neomm *root, void *pointer);

NEOMM_EXTERN_C_END

#endif
