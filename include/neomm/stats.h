/* Statistics: one snapshot of everything, and its text and JSON forms.
 * SPDX-License-Identifier: MIT
 */
#ifndef NEOMM_STATS_H
#define NEOMM_STATS_H

#include <neomm/heap.h>
#include <neomm/pager.h>
#include <neomm/pmm.h>
#include <neomm/pressure.h>
#include <neomm/swap.h>
#include <neomm/types.h>
#include <neomm/vmm.h>

/* Event counters since initialisation, summed over the CPUs: name, JSON key, meaning. They are
 * machine words: on i386 they wrap at 2^32. */
#define NEOMM_COUNTER_LIST(X)                                                                      \
    X(FRAME_ALLOC, "frame_allocs", "successful frame allocations")                                 \
    X(FRAME_FREE, "frame_frees", "frame frees")                                                    \
    X(FRAME_FAIL, "frame_failures", "frame allocations that failed")                               \
    X(RECLAIM, "reclaim_calls", "times an allocation asked for reclaim")                           \
    X(TABLE_ALLOC, "table_allocs", "page tables allocated")                                        \
    X(TABLE_FREE, "table_frees", "page tables freed")                                              \
    X(DESCENT, "table_descents", "descents from a root table")                                     \
    X(ENTRY_STORE, "entry_stores", "page-table entries written")                                   \
    X(ENTRY_READ, "entry_reads", "page-table entries read")                                        \
    X(TABLE_ZERO, "table_zero_bytes", "bytes of page tables filled with zeros")                    \
    X(FLUSH_PAGE, "flush_pages", "single-page invalidations on this CPU")                          \
    X(FLUSH_ALL, "flush_alls", "full invalidations on this CPU")                                   \
    X(SHOOTDOWN, "shootdowns", "invalidations sent to other CPUs")                                 \
    X(KMALLOC, "kmallocs", "heap allocations")                                                     \
    X(KFREE, "kfrees", "heap frees")                                                               \
    X(KMALLOC_FAIL, "kmalloc_failures", "heap allocations that failed")                            \
    X(BAD_FREE, "bad_frees", "invalid frees refused")                                              \
    X(FAULT_ZERO, "faults_zero", "first touches of a page")                                        \
    X(FAULT_HUGE, "faults_huge", "first touches that brought a huge page")                         \
    X(FAULT_SWAP_IN, "faults_swap_in", "pages read back from swap")                                \
    X(FAULT_COPY, "faults_copy", "pages copied on a write")                                        \
    X(FAULT_OTHER, "faults_other", "faults resolved without a new page")                           \
    X(FAULT_FAILED, "faults_failed", "faults that ended in an error")                              \
    X(EVICT_TEST, "evict_tests", "accessed bits tested for replacement")                           \
    X(EVICTION, "evictions", "pages that left memory")                                             \
    X(SWAP_WRITE, "swap_writes", "pages written to swap")                                          \
    X(SWAP_READ, "swap_reads", "pages read from swap")                                             \
    X(READ_AHEAD, "read_ahead", "pages read with one that faulted")                                \
    X(AHEAD_USED, "ahead_used", "of them, used since")                                             \
    X(AHEAD_WASTED, "ahead_wasted", "of them, evicted unused")                                     \
    X(COMPACT, "compactions", "times that a block was to be emptied")                              \
    X(COMPACTED, "compactions_done", "blocks that were")                                           \
    X(MIGRATION, "migrations", "pages moved to another frame")                                     \
    X(RMAP_PROBE, "rmap_probes", "words of mapping sets looked at")                                \
    X(SCAN_DIRECT, "scanned_direct", "pages looked at by those who needed memory")                 \
    X(SCAN_BACKGROUND, "scanned_background", "pages looked at in the background")                  \
    X(FREE_DIRECT, "reclaimed_direct", "of the former, pages that left memory")                    \
    X(FREE_BACKGROUND, "reclaimed_background", "of the latter, pages that left memory")            \
    X(DIRTY_PASSED, "dirty_passed", "pages passed over for others that need no write")             \
    X(REFAULT, "refaults", "evicted pages that were read back")                                    \
    X(REFAULT_NEAR, "refaults_near", "of them, after fewer evictions than there are pages")        \
    X(OOM_VICTIM, "oom_victims", "spaces that gave up their memory for others")

enum neomm_counter {
#define NEOMM_COUNTER_ENUM(name, key, text) NEOMM_COUNTER_##name,
    NEOMM_COUNTER_LIST(NEOMM_COUNTER_ENUM)
#undef NEOMM_COUNTER_ENUM
        NEOMM_COUNTERS
};

#define NEOMM_SNAPSHOT_MAGIC   0x534d4d4eu /* "NMMS" */
#define NEOMM_SNAPSHOT_VERSION 4u
#define NEOMM_SNAPSHOT_SPACES  64
#define NEOMM_SNAPSHOT_CACHES  64
#define NEOMM_SNAPSHOT_SITES   16

/* Names are copies, cut off to fit and NUL-terminated, of printable characters without space,
 * quotation marks and backslashes: '_' stands for those. */
struct neomm_snapshot_cache {
    char name[24];
    uint32_t object_size, size; /* bytes: as asked for; from one object to the next */
    uint64_t objects, kept;     /* live; free, in front of the slabs */
    uint64_t slabs, slab_frames;
    uint32_t profile; /* enum neomm_heap_profile */
    uint32_t spare;
};

struct neomm_snapshot_site {
    char file[48]; /* its end */
    char function[32];
    uint64_t line;    /* 0: `address` says where the call returns to, 0: not known */
    uint64_t address; /* in the kernel */
    uint64_t objects, bytes, allocations;
};

/* Fixed-width fields and no pointers, so that another program on another machine can read it. */
struct neomm_snapshot {
    uint32_t magic, version;
    uint32_t size; /* bytes of this structure */
    uint32_t cpus;
    uint32_t format; /* enum neomm_format */
    uint32_t layers; /* bit n: layer n initialised; pmm, paging, heap, swap, vmm */
    uint64_t now;    /* nanoseconds of neomm_port_now, 0 without stage 3 */
    struct neomm_zone_stats zone[NEOMM_ZONES];
    struct neomm_heap_stats heap;
    struct neomm_swap_stats swap;
    struct neomm_cache_stats page_cache;
    struct neomm_pressure pressure;
    uint64_t table_frames;
    uint64_t counter[NEOMM_COUNTERS];
    uint32_t spaces; /* that exist; the first NEOMM_SNAPSHOT_SPACES are listed */
    uint32_t listed;
    struct neomm_space_stats space[NEOMM_SNAPSHOT_SPACES];
    uint32_t caches; /* object caches that have slabs; the first NEOMM_SNAPSHOT_CACHES are listed */
    uint32_t sites;  /* listed, while call sites are tracked: those with most bytes, most first */
    struct neomm_snapshot_cache cache[NEOMM_SNAPSHOT_CACHES];
    struct neomm_snapshot_site site[NEOMM_SNAPSHOT_SITES];
};

/* Takes a piece of text, not NUL-terminated. */
typedef void neomm_text_fn(void *context, const char *text, size_t length);

NEOMM_EXTERN_C_BEGIN

/* Fills *snapshot. Allocates nothing; each layer's part is consistent in itself. Locks: pmm,
 * slab, swap, spaces, one at a time. Not in interrupts. */
void neomm_snapshot_take(struct neomm *root, struct neomm_snapshot *snapshot);

/* NEOMM_OK, or NEOMM_E_CORRUPT (magic, size), NEOMM_E_UNSUPPORTED (version): for readers. */
neomm_status neomm_snapshot_check(const struct neomm_snapshot *snapshot, size_t bytes);

/* memstat's table, and one JSON object ("schema":"neomm.memstat/1") without a newline. */
void neomm_snapshot_text(const struct neomm_snapshot *snapshot, neomm_text_fn *out, void *context);
void neomm_snapshot_json(const struct neomm_snapshot *snapshot, neomm_text_fn *out, void *context);

NEOMM_EXTERN_C_END

#endif
