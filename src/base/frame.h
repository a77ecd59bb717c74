/* Frame descriptors: 32 bytes for each frame of RAM, and lists of frames linked through them.
 * SPDX-License-Identifier: MIT
 *
 * Descriptors hold numbers and indices, never pointers, and all zero is a valid free frame, so
 * initialisation need not touch them. RAM is cut into sections of 128 MiB; a section without RAM
 * has no descriptors:
 *
 *   section[]   0   x   0   y ...        0: no RAM here; else the frame number + x - 1 is the
 *                   |       |            index into the table (modulo 2^32)
 *   table       [32768 descriptors][32768 descriptors] ...
 */
#ifndef NEOMM_BASE_FRAME_H
#define NEOMM_BASE_FRAME_H

#include "atomic.h"

#include <neomm/types.h>

#define NEOMM__SECTION_SHIFT  15 /* frames in a section, log 2 */
#define NEOMM__SECTION_FRAMES ((uint32_t)1 << NEOMM__SECTION_SHIFT)

enum neomm__kind {
    NEOMM__KIND_NONE,   /* free, or allocated for a purpose that needs no kind */
    NEOMM__KIND_TABLE,  /* page table; owner: the space */
    NEOMM__KIND_SLAB,   /* first frame of a heap slab; owner: its class */
    NEOMM__KIND_RUN,    /* first frame of a heap run */
    NEOMM__KIND_TAIL,   /* further frame of a slab or run; owner: distance to the first */
    NEOMM__KIND_USER,   /* user memory; owner: swap slot, see NEOMM__FRAME_SLOT */
    NEOMM__KIND_SHARED, /* the same, that several spaces had or have: in the global domain */
    NEOMM__KIND_OBJECT, /* the same, a page of an object: in the global domain */
    NEOMM__KIND_CACHE,  /* the same, of one with a pager: in the domain of the page cache; owner:
                         * mappings that have gone, modulo 2^32 */
    NEOMM__KIND_VALLOC, /* page of a valloc range */
    NEOMM__KIND_STATE,  /* a layer's own state */
    NEOMM__KIND_POOL,   /* of the compressed pool; what the rest means, see swap/pool.h */
    NEOMM__KIND_BAD     /* found bad by the memory test that runs */
};

/* Bits of `flags`. */
#define NEOMM__FRAME_ALLOCATED 0x01u /* first frame of an allocated block */
#define NEOMM__FRAME_SLOT      0x02u /* owner is a swap slot that this frame has a count of */
#define NEOMM__FRAME_BUSY      0x04u /* being written to swap */
#define NEOMM__FRAME_POLICY    0x08u /* in a replacement policy */
#define NEOMM__FRAME_DIRTY     0x10u /* differs from the copy in its slot, or has none */
#define NEOMM__FRAME_MOVABLE   0x20u /* allocated with NEOMM_MOVABLE */
#define NEOMM__FRAME_TAILS     0x40u /* the descriptors behind the first of the block are in use */
#define NEOMM__FRAME_RETIRED   0x80u /* bad memory that nobody gets again */

struct neomm__frame {
    union {
        struct {
            uint32_t references; /* atomic; 1 when allocated */
            uint32_t mappings;   /* atomic; entries of the mapping set, see vmm/rmap.h */
        };
        uint64_t users; /* both: NEOMM__FRAME_OWNED, and nobody else holds or maps it */
    };
    uint8_t kind;   /* enum neomm__kind */
    uint8_t flags;  /* NEOMM__FRAME_* */
    uint8_t order;  /* of an allocated block's first frame */
    uint8_t policy; /* the replacement policy's 8 bits */
    union {
        uint32_t owner; /* by kind */
        struct {        /* a slab's, see neomm__slab_owner */
            uint16_t slab_start, slab_cache;
        };
    };
    /* The mapping set of user memory; by kind otherwise (a slab's state). On i386 read and written
     * under the lock of the owner only. */
    uint64_t mapping;
    uint32_t previous, next; /* list links: frame numbers, 0 none */
};

_Static_assert(sizeof(struct neomm__frame) == 32, "a descriptor is 32 bytes");

#define NEOMM__FRAME_OWNED ((uint64_t)1)

#define NEOMM__MAPPING_PAGE_BITS 44

static inline uint64_t neomm__mapping_make(uint32_t space, neomm_vaddr_t vaddr)
{
    return (uint64_t)space << NEOMM__MAPPING_PAGE_BITS | (uint64_t)vaddr >> NEOMM_PAGE_SHIFT;
}

static inline uint32_t neomm__mapping_space(uint64_t mapping)
{
    return (uint32_t)(mapping >> NEOMM__MAPPING_PAGE_BITS);
}

static inline neomm_vaddr_t neomm__mapping_vaddr(uint64_t mapping)
{
    return (neomm_vaddr_t)(mapping << NEOMM_PAGE_SHIFT &
                           (((uint64_t)1 << (NEOMM__MAPPING_PAGE_BITS + NEOMM_PAGE_SHIFT)) - 1));
}

/* All zeros. The counts by themselves: who walks over all frames may read them at any time. */
static inline void neomm__frame_reset(struct neomm__frame *entry)
{
    neomm__store_relaxed(&entry->references, 0);
    neomm__store_relaxed(&entry->mappings, 0);
    entry->kind = entry->flags = entry->order = entry->policy = 0;
    entry->owner = 0;
    entry->mapping = 0;
    entry->previous = entry->next = 0;
}

/* The bits of `flags` belong to different locks, so the byte changes atomically. */
static inline bool neomm__frame_has(const struct neomm__frame *entry, unsigned bits)
{
    return (neomm__load_relaxed(&entry->flags) & bits) != 0;
}

static inline void neomm__frame_set(struct neomm__frame *entry, unsigned bits)
{
    (void)neomm__fetch_or(&entry->flags, (uint8_t)bits);
}

static inline void neomm__frame_clear(struct neomm__frame *entry, unsigned bits)
{
    (void)neomm__fetch_and(&entry->flags, (uint8_t)~bits);
}

/* Where the descriptors are; part of the root, filled by pmm. */
struct neomm__frames {
    struct neomm__frame *table;
    uint32_t *section;
    uint32_t sections; /* entries of section[] */
    uint32_t direct;   /* first frame number above the direct map */
};

/* What section[] says where the section is the n-th present one, from 0. */
static inline uint32_t neomm__section_entry(uint32_t section, uint32_t n)
{
    return ((n - section) << NEOMM__SECTION_SHIFT) + 1;
}

/* The descriptor of a frame, NULL where there is no RAM. */
static inline struct neomm__frame *neomm__frame_at(const struct neomm__frames *frames,
                                                   neomm_frame_t frame)
{
    uint32_t section = frame.number >> NEOMM__SECTION_SHIFT;
    if (section >= frames->sections || frames->section[section] == 0)
        return NULL;
    return &frames->table[frame.number + frames->section[section] - 1];
}

/* A list of frames in the descriptors' links; the caller's lock protects it. Zero is empty. */
struct neomm__frame_list {
    uint32_t head, tail, count;
};

void neomm__frame_list_push_tail(const struct neomm__frames *frames, struct neomm__frame_list *list,
                                 neomm_frame_t frame);
void neomm__frame_list_push_head(const struct neomm__frames *frames, struct neomm__frame_list *list,
                                 neomm_frame_t frame);
void neomm__frame_list_remove(const struct neomm__frames *frames, struct neomm__frame_list *list,
                              neomm_frame_t frame);
/* The first frame, taken out; nil when the list is empty. */
neomm_frame_t neomm__frame_list_pop(const struct neomm__frames *frames,
                                    struct neomm__frame_list *list);

#endif
