/* The frame allocator's state.
 * SPDX-License-Identifier: MIT
 *
 * Everything is indexed by the bit of a frame. Sections of 128 MiB without RAM have no bits, so
 * bits are frames with the empty sections squeezed out:
 *
 *   frames     | section 0 |  (empty)  | section 2 | section 3 |
 *   bits       | tree 0    | tree 1    | tree 2    |               32768 bits each
 *   tree_free  |     n     |     n     |     n     |               free frames of a tree
 *   field_free |n n n ... n|n n n ... n|n n n ... n|               of 512 frames each: 2 MiB
 *   taken      |0101...    |                                       1: not free
 *   managed    |1111...    |                                       1: free or allocated
 *   descriptors, in the same order
 *
 * A taken bit that is not managed is a hole, reserved, or metadata. A block of 2^order frames
 * never leaves its tree, so alignment is the same in bits and in frames.
 * One lock protects it all: ranges and claims may cross zones.
 */
#ifndef NEOMM_PMM_PMM_H
#define NEOMM_PMM_PMM_H

#include "base/bitmap.h"
#include "base/root.h"

#include <neomm/pmm.h>

#define NEOMM__FIELD_ORDER 9
#define NEOMM__FIELD_BITS  ((size_t)1 << NEOMM__FIELD_ORDER)
#define NEOMM__TREE_BITS   ((size_t)NEOMM__SECTION_FRAMES)
#define NEOMM__DMA_FRAMES  ((uint32_t)4096) /* 16 MiB */

struct neomm__zone {
    size_t first, end;         /* bits */
    size_t free, managed;      /* frames; free is read without the lock */
    size_t reserved, metadata; /* frames of RAM that are not managed */
    /* The zone has no free block of this order in the trees below. */
    uint32_t hint[NEOMM_ORDER_MAX + 1];
};

/* A run of bits. In `boot`: those that neomm_pmm_reclaim_boot makes free. */
struct neomm__boot_run {
    size_t bit, count;
};

struct neomm__pmm {
    struct neomm__lock lock;
    neomm__word_t *taken, *managed;
    uint16_t *field_free;
    uint16_t *tree_free;
    uint8_t *tree_touched;  /* a descriptor of the tree may be other than zero */
    uint32_t *tree_section; /* the section a tree stands for, ascending */
    uint32_t trees;
    size_t bits;
    struct neomm__zone zone[NEOMM_ZONES];
    size_t reserve; /* frames of the direct map kept for NEOMM_RESERVE */
    struct neomm__boot_run *boot;
    uint32_t boots;
    struct neomm__boot_run metadata; /* taken out of the boot map; count 0: it was not */
};

/* ---- bits and frames ---- */

/* NEOMM__BITMAP_NONE for a frame in a section without RAM. */
static inline size_t neomm__bit_of(const struct neomm *root, neomm_frame_t frame)
{
    const struct neomm__frames *frames = &root->frames;
    uint32_t section = frame.number >> NEOMM__SECTION_SHIFT;
    if (section >= frames->sections || frames->section[section] == 0)
        return NEOMM__BITMAP_NONE;
    return ((size_t)(frames->section[section] - 1u) << NEOMM__SECTION_SHIFT) +
           (frame.number & (NEOMM__SECTION_FRAMES - 1));
}

static inline neomm_frame_t neomm__frame_of(const struct neomm__pmm *pmm, size_t bit)
{
    return neomm_frame(pmm->tree_section[bit / NEOMM__TREE_BITS] << NEOMM__SECTION_SHIFT |
                       (uint32_t)(bit % NEOMM__TREE_BITS));
}

/* ---- zone.c: bits and counters; callers hold the lock ---- */

enum neomm_zone neomm__zone_of(const struct neomm__pmm *pmm, size_t bit);
/* Marks free bits as taken, or taken ones as free, with all counters. */
void neomm__zone_take(struct neomm__pmm *pmm, size_t bit, size_t count);
void neomm__zone_release(struct neomm__pmm *pmm, size_t bit, size_t count);
/* Makes frames that were not managed free ones; `reserved`: they counted as reserved. */
void neomm__zone_add(struct neomm__pmm *pmm, size_t bit, size_t count, bool reserved);
/* The lowest free block of 2^order frames in a zone, or NEOMM__BITMAP_NONE. */
size_t neomm__zone_find(struct neomm__pmm *pmm, enum neomm_zone zone, unsigned order);
void neomm__zone_measure(const struct neomm__pmm *pmm, enum neomm_zone zone,
                         struct neomm_zone_stats *stats);

/* ---- pmm.c ---- */

/* The highest zone that the flags allow. */
enum neomm_zone neomm__pmm_top_zone(const struct neomm *root, neomm_flags_t flags);
/* May `frames` frames go to a caller with these flags, all from the direct map? With the lock. */
bool neomm__pmm_spare(const struct neomm__pmm *pmm, size_t frames, neomm_flags_t flags);
/* Makes the taken bits [bit, bit + 2^order) an allocated block. With the lock. */
void neomm__pmm_own(struct neomm *root, size_t bit, unsigned order);
/* May the block at `frame` be freed? The status for the caller, and its bit. With the lock. */
neomm_status neomm__pmm_check_free(struct neomm *root, neomm_frame_t frame, unsigned order,
                                   size_t *bit);
/* Frees [bit, bit + count), which was checked. With the lock. */
void neomm__pmm_disown(struct neomm *root, size_t bit, size_t count);
/* Fills frames with zeros. False: a frame above the direct map could not be mapped. */
bool neomm__pmm_zero(struct neomm *root, neomm_frame_t first, size_t count);
/* Counts a failure: NEOMM_E_NOMEM. */
neomm_status neomm__pmm_failed(struct neomm *root);
/* Asks for reclaim after the `tries`-th failure. False: there is no use in trying again. */
bool neomm__pmm_reclaim(struct neomm *root, size_t frames, neomm_flags_t flags, unsigned tries);

/* ---- pmm_check.c ---- */

extern const struct neomm__layer_ops neomm__pmm_ops;

#endif
