/* The heap's watchfulness: profiles of caches, reports of misuse, and who allocated what.
 * SPDX-License-Identifier: MIT
 *
 * Whatever the profile, kfree refuses pointers that are none of the heap's, or not at the start of
 * a block, the object that was freed just before, and most that the CPU freed not long before and
 * keeps still. More costs time or memory and can be chosen
 * for each cache while it is in use; objects that live then are treated as they were made.
 */
#ifndef NEOMM_HEAP_DEBUG_H
#define NEOMM_HEAP_DEBUG_H

#include <neomm/kmem.h>

/* How carefully a cache treats its objects.
 *   FAST      nothing but what is said above
 *   DEFAULT   and whenever objects go back to their slabs, the object that brings it about is
 *             looked for among all those that the CPU keeps
 *   GUARDED   as DEFAULT, and one object in N (neomm_heap_set_sampling) lies on a page of its own
 *             between pages without access, and loses its page when it is freed. The other bytes
 *             of the page hold a canary that kfree checks. While there is a GUARDED cache it takes
 *             129 frames, and one for the heap's lifetime. Objects are guarded that are taken
 *             without NEOMM_ATOMIC and NEOMM_NOLOCK, one by one or the first of a bulk, up to a
 *             page in size, while sites are not tracked. kfree interrupts no CPU: where the page
 *             source cannot take access away anywhere (neomm_page_source.protect_anywhere), the
 *             page is filled with the canary and keeps access until an allocation comes by that
 *             may wait, or neomm_heap_settle; writes until then are found there.
 *             Sources of the idea: KFENCE (Linux), GWP-ASan (LLVM).
 *   HARDENED  no object is kept in front of the slabs: whether it is live is known for each, and
 *             every second free is found. The bytes behind what was asked for hold a canary that
 *             kfree checks; freed memory is zeroed, and checked when it is handed out again, which
 *             is late (it waits in a quarantine) and in random order. Large blocks come from the
 *             large source, between guard pages, if there is one.
 *             Source of the idea: D. Micay, hardened_malloc. */
enum neomm_heap_profile {
    NEOMM_HEAP_FAST,
    NEOMM_HEAP_DEFAULT,
    NEOMM_HEAP_GUARDED,
    NEOMM_HEAP_HARDENED,
    NEOMM_HEAP_PROFILES
};

/* What was found. */
enum neomm_heap_error {
    NEOMM_HEAP_INVALID_FREE,      /* not the start of a block */
    NEOMM_HEAP_DOUBLE_FREE,       /* free already */
    NEOMM_HEAP_FOREIGN_FREE,      /* not this heap's, or not this cache's */
    NEOMM_HEAP_OVERRUN,           /* the bytes behind the block, or before a guarded one, changed */
    NEOMM_HEAP_WRITE_AFTER_FREE,  /* a free object was written to */
    NEOMM_HEAP_ACCESS_AFTER_FREE, /* a freed guarded object was read or written */
    NEOMM_HEAP_ACCESS_OUTSIDE,    /* an access beside a guarded object */
    NEOMM_HEAP_ERRORS
};

/* A place in the caller's text: a record of the kmalloc macro, or the address that the call
 * returns to. */
struct neomm_heap_site {
    const struct neomm_site *site; /* NULL: address */
    uintptr_t address;             /* 0 and no site: not known */
};

struct neomm_heap_report {
    enum neomm_heap_error error;
    const char *function; /* that was called */
    const void *pointer;  /* with this, or: accessed here */
    const char *cache;    /* its name; NULL: a run of pages, or unknown */
    const void *object;   /* the block that it is, or is nearest to; NULL: unknown */
    size_t size;          /* of that block, as asked for where that is known */
    ptrdiff_t offset;     /* of the damage or access from `object` */
    bool live;            /* the block is allocated now */
    struct neomm_heap_site allocated, freed; /* where the block was, as far as known */
    /* The objects before and after it in its slab, NULL where there is none, and whether they are
     * live: a culprit is often next door. */
    const void *before, *after;
    bool before_live, after_live;
};

/* Called for each finding, after it was logged and counted, without locks, in the context of the
 * caller that it was found in: it may panic, or note it and return. What is found is never handed
 * out again: the heap leaks it and goes on. Must not use the heap. */
typedef void neomm_heap_report_fn(void *context, const struct neomm_heap_report *report);

/* What a call site has allocated and not freed, while sites are tracked. */
struct neomm_heap_site_stats {
    struct neomm_heap_site site;
    uint64_t objects, bytes; /* live, of those allocated while tracked; bytes as asked for */
    uint64_t allocations;    /* since tracking began */
};

NEOMM_EXTERN_C_BEGIN

/* ---- configuration ---- */

/* Does what the root's configuration says: [heap] sampling, profile and call_sites, and each
 * cache's profile from now on, where it has a section. To be called after neomm_heap_init, whenever
 * this file's functions can be: they need stage 3 of the port, and are linked only by who calls
 * one. NEOMM_E_NOENT: no heap; else the first error of neomm_heap_set_profile or neomm_heap_track,
 * with the rest done as far as possible. Context and cost as these. */
neomm_status neomm_heap_configure(struct neomm *root);

/* ---- profiles ---- */

/* The profile of a cache from now on; NULL: of all of kmalloc's, and of caches made later. The heap
 * begins with DEFAULT. NEOMM_E_INVALID; NEOMM_E_NOMEM: it stays as it was, as does NEOMM_E_BUSY:
 * another CPU has been emptying caches for very long; NEOMM_E_UNSUPPORTED: GUARDED without a page
 * source that can take access away. Context as neomm_heap_shrink. Cost: the cache's slabs. */
neomm_status neomm_heap_set_profile(struct neomm *root, struct neomm_kmem *cache,
                                    enum neomm_heap_profile profile);

enum neomm_heap_profile neomm_heap_profile(const struct neomm *root,
                                           const struct neomm_kmem *cache);

/* About one object in `interval` of each GUARDED cache is guarded, CPU by CPU and from half an
 * interval to one and a half after the one before; 0: none, and the pages go back. 1000 to begin
 * with. At most NEOMM_HEAP_GUARDED_MAX live at a time, others are not guarded then. NEOMM_E_NOENT:
 * no heap; NEOMM_E_NOMEM, NEOMM_E_BUSY: no pages for it, so some caches have no guarded objects,
 * until it is called again. Context as neomm_heap_shrink. */
neomm_status neomm_heap_set_sampling(struct neomm *root, uint32_t interval);
#define NEOMM_HEAP_GUARDED_MAX 64u

/* For the kernel's handler of faults in kernel mode, and of SIGSEGV in user space, when a read or
 * write faulted (not a fetch): was this an access to a page of the guarded objects' pool? Then it
 * is reported (`function` is "access"), the page has access from now on, so that the program can go
 * on if the report let it, and no further object is put on it or beside it: true. Any context in
 * which paging's neomm_paging_protect may be called. */
bool neomm_heap_fault(struct neomm *root, const void *pointer);

/* For checks of bounds: the bytes from `pointer`, which may lie anywhere in a live block, to the
 * end of what a block of its class can hold, which is at least what was asked for; 0: no live block
 * is there. Context and cost as neomm_ksize. */
size_t neomm_heap_bound(struct neomm *root, const void *pointer);

/* Who is told of misuse; NULL: only the log. */
void neomm_heap_on_error(struct neomm *root, neomm_heap_report_fn *report, void *context);

/* ---- call sites ---- */

/* Counts live objects and bytes by call site from now on, or stops to. Off, the usual state, costs
 * nothing. NEOMM_E_NOMEM: off. Context and cost as neomm_heap_set_profile, for all caches. */
neomm_status neomm_heap_track(struct neomm *root, bool on);

/* Calls visit for the sites with live objects, most bytes first, at most `most` of them. Cost:
 * sites times CPUs, and a pass over the sites for each that is visited. */
void neomm_heap_sites(struct neomm *root, uint32_t most,
                      void (*visit)(void *context, const struct neomm_heap_site_stats *stats),
                      void *context);

/* Calls visit for live objects that were allocated while tracked, `age` or more nanoseconds ago:
 * what may be leaks. Returns their number. Allocations and frees go on meanwhile, and one that
 * comes or goes may be missed. Must not use the heap in visit. */
uint64_t neomm_heap_leaks(struct neomm *root, uint64_t age,
                          void (*visit)(void *context, const void *object, size_t size,
                                        uint64_t age, const struct neomm_heap_site *site),
                          void *context);

NEOMM_EXTERN_C_END

#endif
