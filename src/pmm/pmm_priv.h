/* The frame allocator's state.
 * SPDX-License-Identifier: MIT
 *
 * Everything is indexed by the bit of a frame. Sections of 128 MiB without RAM have no bits, so
 * bits are frames with the empty sections squeezed out:
 *
 *   frames   | section 0 |  (empty)  | section 2 | section 3 |
 *   bits     | section 0 | section 1 | section 2 |      32768 bits each, numbered as present
 *   taken    |0101...                                   1: not free (held, cached, or no RAM);
 *                                                       in blank sections none is written
 *   fields   |c c c ... c|c c c ... c|c c c ... c|      of 512 frames each: 2 MiB
 *   trees    | t |   t   |     t     |     t     |      fields of one section and one area
 *   areas      DMA NORMAL     ...        HIGH           one zone of one node
 *   descriptors, in the order of the bits
 *
 * Free frames are counted in a field, in its tree and in its area. Who wants frames takes them
 * out of the counts from above (area, tree, field) and then claims bits; who frees them clears
 * the bits and then adds to the counts from below. So at every moment
 *
 *     area <= sum of its trees <= sum of their fields <= clear bits,
 *
 * and a count that was taken is a promise: the frames are there, and a search for them ends.
 * The argument for the order of the accesses is in docs/pmm.md.
 */
#ifndef NEOMM_PMM_PMM_PRIV_H
#define NEOMM_PMM_PMM_PRIV_H

#include "base/bitmap.h"
#include "base/root.h"

#include <neomm/pmm.h>

#define NEOMM__FIELD_ORDER  9
#define NEOMM__FIELD_BITS   ((size_t)1 << NEOMM__FIELD_ORDER)
#define NEOMM__FIELD_WORDS  (NEOMM__FIELD_BITS / NEOMM__WORD_BITS)
#define NEOMM__SECTION_BITS ((size_t)NEOMM__SECTION_FRAMES)
#define NEOMM__TREE_FIELDS  (NEOMM__SECTION_BITS >> NEOMM__FIELD_ORDER)
#define NEOMM__DMA_FRAMES   ((uint32_t)4096) /* 16 MiB */
#define NEOMM__AREAS        (NEOMM_NODE_MAX * NEOMM_ZONES)

/* A field: its count of free frames and, above it, what is only a hint. */
#define NEOMM__FIELD_COUNT   0x03ffu
#define NEOMM__FIELD_BLOCKED 0x3c00u /* no free block of this order or above; 0: not known */
#define NEOMM__FIELD_MOVABLE 0x4000u /* whose frames it holds */
#define NEOMM__BLOCKED_SHIFT 10

/* One zone of one node. */
struct neomm__area {
    size_t free;    /* atomic; without what CPUs have in their caches */
    size_t minimum; /* of `free`: for NEOMM_RESERVE alone */
    /* Frames; changed under the lock. */
    size_t managed; /* atomic */
    size_t reserved, metadata;
    neomm__word_t *filled; /* atomic; bit per tree of pmm: may have free frames */
    uint32_t hint;         /* a field that had what single calls wanted; not exact */
} __attribute__((aligned(64)));

enum neomm__ram_type {
    NEOMM__RAM_USABLE = 1,
    NEOMM__RAM_BOOT,     /* usable after neomm_pmm_reclaim_boot */
    NEOMM__RAM_METADATA, /* this allocator's own */
    NEOMM__RAM_HOTPLUG   /* may be added later */
};

/* Contiguous frames that are RAM, or may become it. Ascending, none empty. */
struct neomm__ram_run {
    size_t bit, count;
    enum neomm__ram_type type;
};

/* Free frames, or blocks, that one CPU keeps for itself: their bits are taken, their descriptors
 * zero. `entered` protects all but the capacity: a word that is tried, never waited for by the
 * CPU itself, so an interrupt that finds its CPU inside goes past the cache. Area and capacity
 * are looked at from outside too, and again inside. */
struct neomm__frame_cache {
    uint32_t entered; /* by the CPU of the number before; 0: by nobody */
    uint32_t count;
    uint32_t capacity; /* atomic; 0: there is no cache, or its CPU is offline */
    uint32_t field;    /* where the last refill came from */
    uint32_t area;     /* atomic; that the frames belong to */
    uint32_t batch;
    size_t allocated, freed; /* how often the cache served */
    uint32_t bit[];
} __attribute__((aligned(64)));

/* The caches of a CPU: two orders, and movable apart from unmovable for single frames. */
enum neomm__cached { NEOMM__CACHED_UNMOVABLE, NEOMM__CACHED_MOVABLE, NEOMM__CACHED_HUGE };
#define NEOMM__CACHES     3 /* for each of direct-mapped and high frames */
#define NEOMM__CACHE_MOST 256u
#define NEOMM__HUGE_MOST  8u

/* What a CPU does at the moment. */
struct neomm__pmm_cpu {
    size_t borrowing; /* atomic; searches that may give back what they took out of the counts, and
                       * frees */
    uint32_t node;
    uint32_t offline; /* its caches keep nothing */
} __attribute__((aligned(64)));

struct neomm__pmm {
    /* Read by all, hardly ever written. */
    neomm__word_t *taken;
    uint16_t *field;
    uint32_t *tree_free;  /* atomic */
    uint32_t *tree_first; /* first field; one more than there are trees */
    uint8_t *tree_area;
    uint8_t *tree_touched;    /* a descriptor of the tree may be other than zero */
    uint32_t *section_tree;   /* first tree of a present section */
    uint32_t *section_number; /* of a present section */
    uint8_t *section_blank;   /* atomic; no frame of it was ever usable, nor its bits written */
    uint8_t *caches;
    struct neomm__pmm_cpu *cpu;
    size_t cache_stride; /* bytes of caches of a CPU */
    uint32_t cache_at[2 * NEOMM__CACHES];
    uint32_t cpus, nodes, sections, trees;
    size_t bits;
    uint32_t high; /* there are frames above the direct map */
    uint32_t fill; /* NEOMM_FILL_* */
    struct neomm__area area[NEOMM__AREAS];

    /* CPUs that look for the last frames, and above them NEOMM__TIGHT. Not 0: caches keep
     * nothing. */
    uint32_t uncached __attribute__((aligned(64)));
    uint32_t returned; /* atomic; how often a search gave back what it had borrowed, and what was
                        * freed while a CPU looked for the last frames */

    struct neomm__lock lock __attribute__((aligned(64))); /* runs, ranges, the last resort */
    struct neomm__ram_run *run;
    uint32_t runs, run_capacity;
    neomm_compact_fn *compact;
    void *compact_context;
    neomm_low_fn *low;
    void *low_context;
    size_t reserve; /* frames of the direct map kept for NEOMM_RESERVE */
};

/* A CPU that does not leave a cache, or does not finish a search, for longer than this many looks
 * was stopped inside, and what it has is passed over. */
#define NEOMM__PATIENCE ((uint32_t)1 << 20)

/* An area is below its minimum. */
#define NEOMM__TIGHT ((uint32_t)1 << 31)

/* ---- bits and frames ---- */

/* NEOMM__BITMAP_NONE for a frame in a section without RAM. */
static inline size_t neomm__bit_of(const struct neomm *root, neomm_frame_t frame)
{
    const struct neomm__frames *frames = &root->frames;
    uint32_t section = frame.number >> NEOMM__SECTION_SHIFT;
    if (section >= frames->sections || frames->section[section] == 0)
        return NEOMM__BITMAP_NONE;
    return frame.number + frames->section[section] - 1;
}

static inline neomm_frame_t neomm__frame_of(const struct neomm__pmm *pmm, size_t bit)
{
    return neomm_frame(pmm->section_number[bit / NEOMM__SECTION_BITS] << NEOMM__SECTION_SHIFT |
                       (uint32_t)(bit % NEOMM__SECTION_BITS));
}

static inline uint32_t neomm__tree_of(const struct neomm__pmm *pmm, size_t bit)
{
    uint32_t tree = pmm->section_tree[bit / NEOMM__SECTION_BITS];
    while (pmm->tree_first[tree + 1] <= bit / NEOMM__FIELD_BITS)
        tree++;
    return tree;
}

static inline enum neomm_zone neomm__zone_of_area(size_t area)
{
    return (enum neomm_zone)(area % NEOMM_ZONES);
}

/* Nothing of the section is free, whatever its bits say. */
static inline bool neomm__is_blank(const struct neomm__pmm *pmm, size_t section)
{
    return neomm__load_acquire(&pmm->section_blank[section]) != 0;
}

/* Descriptors of this bit's tree are looked at from now on. */
static inline void neomm__tree_touch(struct neomm__pmm *pmm, size_t bit)
{
    uint8_t *touched = &pmm->tree_touched[neomm__tree_of(pmm, bit)];
    if (!neomm__load_relaxed(touched))
        neomm__store_relaxed(touched, 1);
}

/* ---- field.c: the bits and the count of one field ---- */

/* Takes up to `most` of the frames that the count promises; their number. `movable`: what the
 * field becomes if it was all free, or if `convert` says so. Bits of those taken are the caller's
 * to find with neomm__field_claim. */
unsigned neomm__field_take(struct neomm__pmm *pmm, size_t field, unsigned most, bool movable);
/* Claims `count` single bits that were taken out of the field's count, ascending. */
void neomm__field_claim(struct neomm__pmm *pmm, size_t field, unsigned count, uint32_t *bits);
/* Takes and claims a free block, of order 0 to NEOMM_ORDER_MAX (10: this field and the next).
 * `sure`: hints are not believed. NEOMM__BITMAP_NONE: there is none. */
size_t neomm__field_take_block(struct neomm__pmm *pmm, size_t field, unsigned order, bool movable,
                               bool sure);
/* Takes and claims exactly these bits of one field. False: one is not free, nothing is changed. */
bool neomm__field_take_exact(struct neomm__pmm *pmm, size_t bit, size_t count);
/* Clears bits of one field, and adds them to its count. */
void neomm__field_release(struct neomm__pmm *pmm, size_t bit, size_t count);
/* The same for the bits of `mask` in the word that holds `bit`. */
void neomm__field_release_mask(struct neomm__pmm *pmm, size_t bit, neomm__word_t mask);

/* ---- zone.c: the counts above, and the search for a field ---- */

/* Takes `least` to `most` frames out of an area's count, leaving `kept`; 0: there are not. */
size_t neomm__area_take(struct neomm__area *area, size_t least, size_t most, size_t kept);
/* What requests with these flags leave of an area. */
static inline size_t neomm__area_kept(const struct neomm__area *area, neomm_flags_t flags)
{
    return flags & NEOMM_RESERVE ? 0 : area->minimum;
}

/* From the one to the other this CPU may give back what it took, or frees frames that others can
 * have before the area's count says so, for some that the count promises elsewhere: who is about
 * to report that memory ran out waits for it. In between nobody is waited for. */
size_t *neomm__area_begin_borrowing(struct neomm__pmm *pmm);
void neomm__area_end_borrowing(size_t *borrowing);
/* `count` single frames that were taken out of the area's count, as below. */
void neomm__area_find_frames(struct neomm__pmm *pmm, uint32_t area, unsigned count,
                             neomm_flags_t flags, uint32_t *hint, uint32_t *bits);
/* Up to `most` single frames into bits[], ascending where they come from one field. */
unsigned neomm__area_take_frames(struct neomm__pmm *pmm, uint32_t area, unsigned most,
                                 neomm_flags_t flags, uint32_t *hint, uint32_t *bits);
/* Up to `most` blocks into bits[]; their number. `sure`: hints are not believed. */
unsigned neomm__area_take_blocks(struct neomm *root, uint32_t area, unsigned most, unsigned order,
                                 neomm_flags_t flags, uint32_t *hint, bool sure, uint32_t *bits);
/* All of [bit, bit + count), which may cross fields, trees and areas, or nothing. `sure`: this
 * CPU is the only one that looks hard. *next: where a search for such bits goes on. */
bool neomm__area_take_exact(struct neomm *root, size_t bit, size_t count, neomm_flags_t flags,
                            bool sure, size_t *next);
/* Makes bits free again. */
void neomm__area_release(struct neomm__pmm *pmm, size_t bit, size_t count);
/* The same for `count` single frames; those of a word, next to each other in bits[], at once. */
void neomm__area_release_frames(struct neomm__pmm *pmm, const uint32_t *bits, unsigned count);
/* After the look of number `looks` for the last frames, without the lock, before which `returned`
 * was seen: waits until no other CPU holds counts that it may give back. Is it worth another? */
bool neomm__area_look_again(struct neomm *root, uint32_t returned, unsigned looks);

/* ---- frame_cache.c ---- */

/* Bytes of all caches of a CPU, and where each begins. */
size_t neomm__cache_bytes(bool high);
void neomm__cache_place(struct neomm__pmm *pmm);
/* Empties all caches and gives them their areas and capacities, from what the areas manage now. */
void neomm__cache_fit(struct neomm *root);
/* Empties a CPU's caches, and lets them keep frames again or not. */
void neomm__cache_enable(struct neomm *root, uint32_t cpu, bool enable);
/* The cache that serves a request of order 0 or NEOMM__FIELD_ORDER. */
static inline unsigned neomm__cache_which(const struct neomm *root, unsigned order,
                                          neomm_flags_t flags)
{
    unsigned which = order != 0 ? (unsigned)NEOMM__CACHED_HUGE : (flags & NEOMM_MOVABLE) != 0;
    return (flags & NEOMM_HIGH) && root->pmm->high && root->slots.map ? which + NEOMM__CACHES
                                                                      : which;
}
static inline struct neomm__frame_cache *neomm__cache_of(const struct neomm__pmm *pmm, uint32_t cpu,
                                                         unsigned which)
{
    return (void *)(pmm->caches + cpu * pmm->cache_stride + pmm->cache_at[which]);
}
static inline bool neomm__cache_enter(struct neomm__frame_cache *cache, uint32_t cpu)
{
    uint32_t nobody = 0;
    return neomm__cas(&cache->entered, &nobody, cpu + 1);
}
static inline void neomm__cache_leave(struct neomm__frame_cache *cache)
{
    neomm__store_release(&cache->entered, 0);
}
/* Inside; others look at these at any time. */
static inline void neomm__cache_set_count(struct neomm__frame_cache *cache, uint32_t count)
{
    neomm__store_relaxed(&cache->count, count);
}
static inline void neomm__cache_served_more(size_t *times, size_t n)
{
    neomm__store_relaxed(times, *times + n);
}
/* Nobody keeps anything while another CPU looks for the last frames. */
static inline bool neomm__cache_open(const struct neomm__pmm *pmm)
{
    return neomm__load_relaxed(&pmm->uncached) == 0;
}
/* A block from this CPU's cache if it has one: NEOMM__BITMAP_NONE otherwise. The descriptors that
 * the next calls will write are fetched meanwhile. */
static inline size_t neomm__cache_pop(const struct neomm *root, unsigned which)
{
    uint32_t cpu = neomm_port_cpu()->index;
    struct neomm__frame_cache *cache = neomm__cache_of(root->pmm, cpu, which);
    size_t bit = NEOMM__BITMAP_NONE;
    if (!neomm__cache_enter(cache, cpu))
        return bit;
    uint32_t count = cache->count;
    if (count > 0 && neomm__cache_open(root->pmm)) {
        uint32_t ahead = count > 2 ? count - 3 : 0;
        bit = cache->bit[count - 1];
        neomm__cache_set_count(cache, count - 1);
        neomm__cache_served_more(&cache->allocated, 1);
        __builtin_prefetch(&root->frames.table[cache->bit[ahead]], 1);
    }
    neomm__cache_leave(cache);
    return bit;
}
/* Gives a block to this CPU's cache if it has room. */
static inline bool neomm__cache_push(const struct neomm__pmm *pmm, size_t bit, uint32_t area,
                                     unsigned which)
{
    uint32_t cpu = neomm_port_cpu()->index;
    struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
    if (!neomm__cache_enter(cache, cpu))
        return false;
    bool room = cache->area == area && cache->count < cache->capacity && neomm__cache_open(pmm);
    if (room) {
        cache->bit[cache->count] = (uint32_t)bit;
        neomm__cache_set_count(cache, cache->count + 1);
        neomm__cache_served_more(&cache->freed, 1);
    }
    neomm__cache_leave(cache);
    return room;
}
/* The same, but a cache that is empty is filled first. */
size_t neomm__cache_alloc(struct neomm *root, unsigned which, neomm_flags_t flags);
/* The same, but a cache that is full makes room, and what it does not take goes to the bitmap. */
void neomm__cache_free(struct neomm *root, size_t bit, uint32_t area, unsigned which);
/* Takes what a CPU's cache has now, at most `most`, into bits[]; the number. */
uint32_t neomm__cache_alloc_bulk(struct neomm *root, neomm_flags_t flags, uint32_t most,
                                 uint32_t *bits);
/* Empties the caches of all CPUs. Skips one whose CPU was interrupted or stopped inside. */
void neomm__cache_drain(struct neomm *root);
/* The same, and nobody keeps anything until the caches are open again. Nests. */
void neomm__cache_close(struct neomm *root);
void neomm__cache_reopen(struct neomm *root);
/* Frames in all caches that belong to an area; racy. */
size_t neomm__cache_frames(const struct neomm__pmm *pmm, uint32_t area);
/* Do the caches hold what they should? False: no, or a CPU is inside. */
bool neomm__cache_check(const struct neomm *root, struct neomm__report *report);
/* Adds how often caches served. */
void neomm__cache_served(const struct neomm__pmm *pmm, uint64_t *allocated, uint64_t *freed);

/* ---- pmm.c ---- */

/* The highest zone that the flags allow. */
enum neomm_zone neomm__pmm_top_zone(const struct neomm *root, neomm_flags_t flags);
/* Makes the taken bits [bit, bit + 2^order) an allocated block. */
void neomm__pmm_own(struct neomm *root, size_t bit, unsigned order, neomm_flags_t flags);
/* Could the block at `frame` be freed now? */
neomm_status neomm__pmm_may_free(struct neomm *root, neomm_frame_t frame, unsigned order);
/* Takes the block at `frame` away from its owner: its descriptors are zero afterwards and its
 * bits still taken. Otherwise the status for the caller, with nothing changed. */
neomm_status neomm__pmm_disown(struct neomm *root, neomm_frame_t frame, unsigned order, size_t *bit,
                               bool *movable);
/* Fills frames with zeros. False: a frame above the direct map could not be mapped. */
bool neomm__pmm_zero(struct neomm *root, neomm_frame_t first, size_t count);
/* Counts a failure: NEOMM_E_NOMEM. */
neomm_status neomm__pmm_failed(struct neomm *root);
/* Asks for reclaim after the `tries`-th failure. False: there is no use in trying again. */
bool neomm__pmm_reclaim(struct neomm *root, size_t frames, neomm_flags_t flags, unsigned tries);

/* ---- frame_fill.c ---- */

/* Frames that nobody owns any more, before others can have them. */
void neomm__fill_freed(struct neomm *root, neomm_frame_t first, size_t count);
/* Frames that are taken and nobody's yet. False: one was written to while it was free, and all of
 * them have been disposed of. */
bool neomm__fill_taken(struct neomm *root, neomm_frame_t first, size_t count);
/* Frames that somebody owns from now on. */
void neomm__fill_owned(struct neomm *root, neomm_frame_t first, size_t count, neomm_flags_t flags);

/* ---- range.c ---- */

/* The bit of `first` if all the frames have one and are in one row of sections; else
 * NEOMM__BITMAP_NONE. */
size_t neomm__row_of(const struct neomm *root, neomm_frame_t first, uint32_t frames);

/* ---- ram_run.c ---- */

/* The run that holds `bit`, NULL where there is none. With the lock. Cost: log n. */
const struct neomm__ram_run *neomm__ram_at(const struct neomm__pmm *pmm, size_t bit);
/* Is it RAM that is free or somebody's, and not retired? Takes the lock. */
bool neomm__is_managed(struct neomm *root, size_t bit);
/* Makes [bit, bit + count) free, which no area managed. `reserved`: counted as reserved. */
void neomm__ram_manage(struct neomm *root, size_t bit, size_t count, bool reserved);

/* ---- pmm_stats.c ---- */

/* Aligned free blocks by order among the bits [bit, end), each counted once, as large as it is;
 * adds to runs[]. The bits are a tree's: blocks do not reach beyond. */
void neomm__pmm_count_runs(const struct neomm__pmm *pmm, size_t bit, size_t end, uint64_t *runs);

/* ---- pmm_check.c ---- */

extern const struct neomm__layer_ops neomm__pmm_ops;

#endif
