/* The kernel heap: kmalloc, krealloc, kfree.
 * SPDX-License-Identifier: MIT
 *
 * Small requests come from slabs of size classes, larger ones are runs of pages. Metadata lies
 * outside the objects, in the frame descriptors. The pages come from a page source: frames of
 * the direct map (a kernel with paging of its own, or user space), or those and the kernel
 * window for large runs.
 */
#ifndef NEOMM_HEAP_H
#define NEOMM_HEAP_H

#include <neomm/types.h>

/* A call site: constant, in the section neomm_sites, one for each kmalloc in the caller's text.
 * Counters belong to a root. Compilers like to align single variables more than an array's
 * elements; here there is nothing left to align, so that the section is an array. */
struct neomm_site {
    const char *file;
    const char *function;
    uint32_t line;
} __attribute__((aligned(4 * sizeof(void *))));

/* The site of the place where this stands. Usable in expressions. */
#define NEOMM_SITE()                                                                               \
    (__extension__({                                                                               \
        static const struct neomm_site neomm_site_                                                 \
            __attribute__((section("neomm_sites"), used)) = {__FILE__, __func__, __LINE__};        \
        &neomm_site_;                                                                              \
    }))

/* Where the heap gets its pages. A run is `pages` contiguous pages that C code can use; frames
 * below it carry descriptors through which a pointer finds its slab. */
struct neomm_page_source {
    void *context;
    /* `align`: of the run, in pages, a power of two. NEOMM_E_UNSUPPORTED: no such alignment. */
    neomm_status (*run_alloc)(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                              void **run);
    void (*run_free)(void *context, void *run, uint32_t pages);
    /* Grows in place. NEOMM_E_UNSUPPORTED or NEOMM_E_NOSPACE: the heap copies instead. */
    neomm_status (*run_grow)(void *context, void *run, uint32_t pages, uint32_t new_pages,
                             neomm_flags_t flags);
    /* Another run of `new_pages` pages, more than before, with the same frames first: the contents
     * move without being copied, and the old run is gone. Any error: the heap copies instead. May
     * be NULL. */
    neomm_status (*run_move)(void *context, void *run, uint32_t pages, uint32_t new_pages,
                             neomm_flags_t flags, void **new_run);
    /* Takes away or gives back access. May be NULL. */
    neomm_status (*protect)(void *context, void *run, uint32_t pages, neomm_prot_t prot);
    /* protect waits for no other CPU, so that it may be called wherever kfree may. */
    bool protect_anywhere;
    /* The contents are not needed any more, the addresses are. The heap's main source hears so,
     * too, of frames for the heap's own state, which it took from pmm, before they go back there,
     * by their addresses in the direct map. May be NULL. */
    void (*discard)(void *context, void *run, uint32_t pages);
    /* Runs lie in the direct map, so that the frame under a pointer need not be asked for. */
    bool direct;
    /* The frame under a pointer, nil when it is not of this source. */
    neomm_frame_t (*frame_of)(void *context, const void *pointer);
};

struct neomm_heap_options {
    /* NULL: neomm_heap_source_direct */
    const struct neomm_page_source *source;
    /* For runs of more than 2^NEOMM_ORDER_MAX pages or when no contiguous frames are left; NULL:
     * such requests fail */
    const struct neomm_page_source *large_source;
    /* As [heap] fine_classes of the configuration: true where either says so. Eight size classes a
     * doubling in place of four: half as much is lost by rounding up (4.5 % of
     * sizes that are equally likely at every scale, not 9 %), more slabs are partly used. */
    bool fine_classes;
    /* Random bits that nobody knows: the links of lists that lie in freed objects are hidden with
     * them. 0: with what an address gives away. */
    uint64_t secret;
    /* Frames that are free now are known to hold zeros: the heap's state is not written where zero
     * will do, so that what CPUs would keep costs nothing before they are there. */
    bool zeroed;
};

struct neomm_heap_stats {
    uint64_t allocated_bytes; /* rounded sizes of live objects */
    uint64_t requested_bytes; /* of caches and runs as asked for; of kmalloc's classes rounded */
    uint64_t objects;
    uint64_t caches; /* made by neomm_cache_create */
    uint64_t slab_frames;
    uint64_t run_frames;
};

NEOMM_EXTERN_C_BEGIN

/* Page sources of the library, to be filled in place and kept as long as the heap.
 * direct: contiguous frames of the direct map; needs pmm alone.
 * window: separate frames mapped in the kernel window with a guard page; needs paging. */
void neomm_heap_source_direct(struct neomm *root, struct neomm_page_source *source);
void neomm_heap_source_window(struct neomm *root, struct neomm_page_source *source);

/* Initialises the heap. options may be NULL (direct source alone). Of the configuration it takes
 * [heap] fine_classes, magazine and limit; neomm_heap_configure (heap_debug.h) does the rest.
 * NEOMM_E_NOMEM; NEOMM_E_EXISTS; NEOMM_E_NOENT without pmm. */
neomm_status neomm_heap_init(struct neomm *root, const struct neomm_heap_options *options);

/* Ends it. NEOMM_E_BUSY while an object or a cache lives (the leak check: each is logged, at most
 * 16); NEOMM_E_NOENT: not initialised. Context as neomm_heap_shrink. */
neomm_status neomm_heap_fini(struct neomm *root);

/* Frees `pointer` (NULL: nothing happens). What cannot be freed is logged, counted, and changes
 * nothing: NEOMM_E_INVALID (inside a block, not its start), NEOMM_E_DOUBLE_FREE (the object of its
 * size that this CPU freed last, most that it freed not long before and keeps still, or anything in
 * memory that is free by now), NEOMM_E_FOREIGN (all else). Any other double free is found and
 * logged when the object gets to its slab, which is with a batch of others; until then it may be
 * handed out twice. Caches of profile HARDENED (heap_debug.h) find each one at once. Interrupts:
 * yes. Cost: constant while the CPU has room for free objects, else a batch, at most 32, to the
 * slabs. */
neomm_status neomm_kfree(struct neomm *root, void *pointer);

/* The same, for a caller that knows the size: NEOMM_E_INVALID, and nothing is freed, if the block
 * is smaller, or it is HARDENED and `size` is not what was asked for. */
neomm_status neomm_kfree_sized(struct neomm *root, void *pointer, size_t size);

/* The same where nothing may be waited for, in an NMI handler above all: what cannot be freed
 * without a lock is put on a list of this CPU's, and freed when the heap next needs memory; if it
 * has a constructor, that runs again then. The errors are the same and counted, but not logged; a
 * double free of what is on the list may be noticed only when it is freed. */
neomm_status neomm_kfree_nolock(struct neomm *root, void *pointer);

/* At least `size` bytes, aligned to 16, or for powers of two up to a page to `size`. NULL when
 * out of memory or when size is 0 or above PTRDIFF_MAX. Sleeps only in reclaim (see
 * NEOMM_ATOMIC). Interrupts: yes, with NEOMM_ATOMIC; NMI: with NEOMM_NOLOCK, which takes what is at
 * hand and gives NULL rather than wait. Cost: constant while the CPU has a free object at hand,
 * else a batch, at most 32, from the slabs, and for a new slab its pages. */
void *neomm_kmalloc_at(struct neomm *root, size_t size, neomm_flags_t flags,
                       const struct neomm_site *site) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2)
    NEOMM_FREED_BY(neomm_kfree, 2);

/* The same, `count` times `size` bytes: NULL on overflow. */
void *neomm_kmalloc_array_at(struct neomm *root, size_t count, size_t size, neomm_flags_t flags,
                             const struct neomm_site *site) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2, 3)
    NEOMM_FREED_BY(neomm_kfree, 2);

/* The same, aligned to `align`, a power of two: NULL for any other, and beyond a page where the
 * page source has no such run (the kernel window has none). */
void *neomm_kmalloc_aligned_at(struct neomm *root, size_t size, size_t align, neomm_flags_t flags,
                               const struct neomm_site *site) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2)
    NEOMM_FREED_BY(neomm_kfree, 2);

/* Changes the size; contents up to the smaller size are kept. pointer NULL: kmalloc. size 0:
 * kfree, returns NULL. On failure returns NULL and the old block stays as it was. With NEOMM_ZERO
 * the bytes beyond the old *usable* size are zero. The block stays in place where it can and is
 * not more than half unused then; NEOMM_DMA holds for memory newly taken. */
void *neomm_krealloc_at(struct neomm *root, void *pointer, size_t size, neomm_flags_t flags,
                        const struct neomm_site *site) NEOMM_MUST_CHECK NEOMM_ALLOC_SIZE(3);

/* Usable bytes of a live block, 0 for any other pointer; a freed object that is still kept in front
 * of the slabs cannot be told from a live one. */
size_t neomm_ksize(struct neomm *root, const void *pointer);

/* Gives what is kept in front of the slabs, and then empty slabs, back to the frame allocator;
 * returns the frames given. Interrupts the other CPUs: not in interrupts, with interrupts masked or
 * with a spinlock held. */
uint32_t neomm_heap_shrink(struct neomm *root);

/* Does what had to be put off: frees what neomm_kfree_nolock was given where it could not be freed,
 * and takes the pages of freed guarded objects away (heap_debug.h). Allocations that may wait do so
 * by the way; a kernel that guards objects may call it from a timer's thread or when idle, so that
 * late accesses are caught soon. Interrupts the other CPUs if there is such a page. Context as
 * neomm_heap_shrink. */
void neomm_heap_settle(struct neomm *root);

/* A CPU stops: gives back what it keeps. Called when it runs no code of the library; it counts
 * again from its next call on. NEOMM_E_INVALID: no such CPU; NEOMM_E_BUSY: another CPU has been
 * emptying caches for very long. */
neomm_status neomm_heap_cpu_offline(struct neomm *root, uint32_t cpu);

void neomm_heap_stats(struct neomm *root, struct neomm_heap_stats *stats);

NEOMM_EXTERN_C_END

#define neomm_kmalloc(root, size, flags) neomm_kmalloc_at(root, size, flags, NEOMM_SITE())
#define neomm_kzalloc(root, size, flags)                                                           \
    neomm_kmalloc_at(root, size, (flags) | NEOMM_ZERO, NEOMM_SITE())
#define neomm_kmalloc_array(root, count, size, flags)                                              \
    neomm_kmalloc_array_at(root, count, size, flags, NEOMM_SITE())
#define neomm_kmalloc_aligned(root, size, align, flags)                                            \
    neomm_kmalloc_aligned_at(root, size, align, flags, NEOMM_SITE())
#define neomm_krealloc(root, pointer, size, flags)                                                 \
    neomm_krealloc_at(root, pointer, size, flags, NEOMM_SITE())

#endif
