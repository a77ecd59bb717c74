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
 * Counters belong to a root. */
struct neomm_site {
    const char *file;
    const char *function;
    uint32_t line;
};

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
    neomm_status (*run_alloc)(void *context, uint32_t pages, neomm_flags_t flags, void **run);
    void (*run_free)(void *context, void *run, uint32_t pages);
    /* Grows in place. NEOMM_E_UNSUPPORTED or NEOMM_E_NOSPACE: the heap copies instead. */
    neomm_status (*run_grow)(void *context, void *run, uint32_t pages, uint32_t new_pages,
                             neomm_flags_t flags);
    /* Takes away or gives back access. May be NULL. */
    neomm_status (*protect)(void *context, void *run, uint32_t pages, neomm_prot_t prot);
    /* The contents are not needed any more, the addresses are. The heap says so too of frames for
     * its own records, which it took from pmm, before it gives them back there. May be NULL. */
    void (*discard)(void *context, void *run, uint32_t pages);
    /* The frame under a pointer, nil when it is not of this source. */
    neomm_frame_t (*frame_of)(void *context, const void *pointer);
    /* A run aligned to `align` pages, a power of two above 1. May be NULL: there are none. */
    neomm_status (*run_alloc_aligned)(void *context, uint32_t pages, uint32_t align,
                                      neomm_flags_t flags, void **run);
    /* Moves the contents of `pages` pages from one run's start to another's, without copying them;
     * what `from` holds then is undefined, and it is freed next. May be NULL; any error: the heap
     * copies instead. */
    neomm_status (*move)(void *context, void *to, void *from, uint32_t pages);
};

struct neomm_heap_options {
    /* NULL: neomm_heap_source_direct */
    const struct neomm_page_source *source;
    /* For runs of more than 2^NEOMM_ORDER_MAX pages or when no contiguous frames are left; NULL:
     * such requests fail */
    const struct neomm_page_source *large_source;
};

struct neomm_heap_stats {
    uint64_t allocated_bytes; /* rounded sizes of live objects */
    uint64_t requested_bytes; /* as asked for by the callers that are live */
    uint64_t objects;
    uint64_t slab_frames;
    uint64_t run_frames;
};

NEOMM_EXTERN_C_BEGIN

/* Page sources of the library, to be filled in place and kept as long as the heap.
 * direct: contiguous frames of the direct map; needs pmm alone.
 * window: separate frames mapped in the kernel window with a guard page; needs paging. */
void neomm_heap_source_direct(struct neomm *root, struct neomm_page_source *source);
void neomm_heap_source_window(struct neomm *root, struct neomm_page_source *source);

/* Initialises the heap. options may be NULL (direct source alone). NEOMM_E_NOMEM;
 * NEOMM_E_EXISTS; NEOMM_E_NOENT without pmm. */
neomm_status neomm_heap_init(struct neomm *root, const struct neomm_heap_options *options);

/* Ends it. NEOMM_E_BUSY while an object lives (the leak check: each is logged, at most 16);
 * NEOMM_E_NOENT: not initialised. */
neomm_status neomm_heap_fini(struct neomm *root);

/* Frees `pointer` (NULL: nothing happens). What cannot be freed is logged, counted, and changes
 * nothing: NEOMM_E_INVALID (inside a block, not its start), NEOMM_E_DOUBLE_FREE (a free object, or
 * anything in memory that is free by now), NEOMM_E_FOREIGN (all else). Interrupts: yes. */
neomm_status neomm_kfree(struct neomm *root, void *pointer);

/* At least `size` bytes, aligned to 16, or for powers of two up to a page to `size`. NULL when
 * out of memory or when size is 0 or above PTRDIFF_MAX. Sleeps only in reclaim (see
 * NEOMM_ATOMIC). Interrupts: yes, with NEOMM_ATOMIC. Cost: constant for a class with a free
 * object. */
void *neomm_kmalloc_at(struct neomm *root, size_t size, neomm_flags_t flags,
                       const struct neomm_site *site) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2)
    NEOMM_FREED_BY(neomm_kfree, 2);

/* The same, `count` times `size` bytes: NULL on overflow. */
void *neomm_kmalloc_array_at(struct neomm *root, size_t count, size_t size, neomm_flags_t flags,
                             const struct neomm_site *site) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2, 3)
    NEOMM_FREED_BY(neomm_kfree, 2);

/* The same, aligned to `align`, any power of two (NULL otherwise). Above a page that needs a page
 * source with run_alloc_aligned. krealloc does not keep the alignment. */
void *neomm_kmalloc_aligned_at(struct neomm *root, size_t size, size_t align, neomm_flags_t flags,
                               const struct neomm_site *site) NEOMM_MALLOC NEOMM_ALLOC_SIZE(2)
    NEOMM_FREED_BY(neomm_kfree, 2);

/* Changes the size; contents up to the smaller size are kept. pointer NULL: kmalloc. size 0:
 * kfree, returns NULL. On failure returns NULL and the old block stays as it was. With NEOMM_ZERO
 * the bytes beyond the old *usable* size are zero. The block stays in place where it can and is
 * not more than half unused then; NEOMM_DMA holds for memory newly taken. */
void *neomm_krealloc_at(struct neomm *root, void *pointer, size_t size, neomm_flags_t flags,
                        const struct neomm_site *site) NEOMM_MUST_CHECK NEOMM_ALLOC_SIZE(3);

/* Usable bytes of a live block, 0 for any other pointer. */
size_t neomm_ksize(struct neomm *root, const void *pointer);

/* Gives empty slabs back to the frame allocator; returns the frames given. */
uint32_t neomm_heap_shrink(struct neomm *root);

/* Puts back what one CPU keeps, for a CPU that stops. Any CPU may call it at any time. */
void neomm_heap_drain_cpu(struct neomm *root, uint32_t cpu);

void neomm_heap_stats(struct neomm *root, struct neomm_heap_stats *stats);

NEOMM_EXTERN_C_END

#define neomm_kmalloc(root, size, flags) neomm_kmalloc_at(root, size, flags, NEOMM_SITE())
#define neomm_kzalloc(root, size, flags)                                                           \
    neomm_kmalloc_at(root, size, (flags) | NEOMM_ZERO, NEOMM_SITE())
#define neomm_kmalloc_array(root, count, size, flags)                                              \
    neomm_kmalloc_array_at(root, count, size, flags, NEOMM_SITE())
#define neomm_krealloc(root, pointer, size, flags)                                                 \
    neomm_krealloc_at(root, pointer, size, flags, NEOMM_SITE())

#endif
