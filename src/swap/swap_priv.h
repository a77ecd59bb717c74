/* Inside the swap layer: areas, slots and their records.
 * SPDX-License-Identifier: MIT
 *
 * Slots are numbered over all areas. An area's first page is its header, so slot `base` of an
 * area, and with it slot 0, is never in use:
 *
 *   area 0: base 0            area 1: base = slots of area 0
 *   [H][1][2] ... [n-1]       [H][n+1][n+2] ...
 *
 * Places of areas that were removed are used again, and so are their numbers; an area's place never
 * moves. Who holds a count of a slot may use its area without a lock, and others look again once
 * they have locked it (neomm__swap_lock_area).
 *
 * An area's state is one run of frames:
 *
 *   [records, 16 bytes a slot][if the layer encrypts: numbers, 8 bytes][notes, 4 bytes]
 *   [clusters, 20 bytes each 256 slots][who fills which cluster][bitmap, a bit a slot]
 */
#ifndef NEOMM_SWAP_PRIV_H
#define NEOMM_SWAP_PRIV_H

#include "base/bits.h"
#include "base/root.h"
#include "swap/remove.h"

#include <neomm/pmm.h>
#include <neomm/swap.h>

#define NEOMM__SWAP_AREAS     8
#define NEOMM__SWAP_POLICIES  32
#define NEOMM__SWAP_FILLERS   128 /* of (owner, CPU) that fill clusters, apart by their hash */
#define NEOMM__SWAP_CLUSTER   256 /* slots: 1 MiB that one owner fills alone if it can */
#define NEOMM__SWAP_COUNT_MAX 255

/* Bits of a record's flags. */
#define NEOMM__SLOT_VALID  0x01u /* the slot has contents */
#define NEOMM__SLOT_FILLED 0x02u /* and they are `value` repeated; nothing is on the device */
#define NEOMM__SLOT_BAD    0x04u /* not to be used again */
#define NEOMM__SLOT_POOLED                                                                         \
    0x08u /* `value` says where in the compressed pool they are, see pool.h */
#define NEOMM__SLOT_CACHED  0x10u /* `shadow` is the frame that holds the same, see swap_cache.h */
#define NEOMM__SLOT_READING 0x80u /* somebody reads it, and others wait for him */

struct neomm__slot {
    uint64_t value; /* checksum of what is on the device, or as FILLED and POOLED say */
    uint16_t generation;
    uint8_t count;   /* users; NEOMM__SWAP_COUNT_MAX: lost count, in use for ever */
    uint8_t flags;   /* NEOMM__SLOT_* */
    uint32_t shadow; /* what the policy that evicted the page noted, 0: nothing */
};

_Static_assert(sizeof(struct neomm__slot) == 16, "a record is 16 bytes");

/* Where a cluster is listed. */
enum neomm__cluster_list {
    NEOMM__CLUSTER_FULL, /* in no list */
    NEOMM__CLUSTER_FREE,
    NEOMM__CLUSTER_PART,    /* free slots, and others */
    NEOMM__CLUSTER_CLAIMED, /* the same, and somebody fills it */
    NEOMM__CLUSTER_STALE,   /* like FREE, but the device does not know yet */
    NEOMM__CLUSTER_TOLD,    /* the device is just being told: in no list */
    NEOMM__CLUSTER_LISTS
};

struct neomm__cluster {
    uint16_t free;       /* slots */
    uint16_t usable;     /* those that are neither the header nor bad */
    uint8_t list;        /* enum neomm__cluster_list */
    uint8_t cursor;      /* where its filler goes on */
    uint16_t filler;     /* number of who fills it, from 1; 0: nobody */
    uint16_t pooled;     /* slots whose pages are in the compressed pool */
    uint32_t next, prev; /* in its list, numbers from 1; 0: none */
};

struct neomm__cluster_queue {
    uint32_t first, last, count;
};

enum neomm__area_state {
    NEOMM__AREA_NONE, /* the place is free */
    NEOMM__AREA_ON,
    NEOMM__AREA_LEAVING, /* takes no new slots */
    NEOMM__AREA_WORN     /* the same for good: some of its slots could not be read */
};

struct neomm__swap_area {
    struct neomm__lock lock; /* all below */
    /* These change with the lock, and are read without by those who look again with it. */
    uint32_t state; /* enum neomm__area_state */
    int priority;
    uint32_t base;  /* number of its first slot */
    uint32_t slots; /* header included; 0: there is no area */
    uint32_t free;  /* with used, bad and the header it is `slots` */

    struct neomm_block_device *device;
    struct neomm__slot *slot;
    uint64_t
        *sequence;  /* to decrypt what is on the device, see crypt.c; NULL: nothing is encrypted */
    uint32_t *note; /* of the slot's user */
    struct neomm__cluster *cluster;
    uint32_t *filling; /* cluster of each filler, a number from 1; believed if it says so, too */
    neomm__word_t *bitmap; /* 1: not free */
    uint32_t clusters;
    neomm_frame_t memory; /* where all these are */
    uint32_t memory_frames;
    char label[17];
    uint8_t uuid[16];
    uint32_t discards;  /* the device hears of slots that are free */
    uint32_t telling;   /* a futex: those who are just telling it */
    uint64_t discarded; /* slots it heard of */
    uint32_t in_flight; /* a futex: writes and discards; atomic, as how many wait for fewer */
    uint32_t throttled;

    struct neomm__cluster_queue list[NEOMM__CLUSTER_LISTS];
    uint32_t used, bad;
    uint32_t stuck;  /* used, with a saturated count */
    uint32_t filled; /* used, with FILLED */
    uint64_t looks;  /* at clusters, to find free slots */
    uint64_t reads, writes, read_errors, write_errors, corrupt;
    uint32_t pooled;    /* used, with POOLED */
    uint32_t pool_hand; /* where the pool looks next for a page to write back */
    uint64_t pool_hits;
};

struct neomm__swap {
    struct neomm__lock lock;    /* adding policies */
    struct neomm__lock changes; /* sleeping: areas come and go */
    uint32_t areas;             /* places that were ever in use; grows */
    uint32_t slots;             /* of all areas */
    uint32_t born;              /* areas that were ever added */
    uint32_t turn;              /* whose is the next cluster, of areas of one priority */
    uint32_t stir;              /* a futex, see neomm__swap_stirred */
    uint32_t leaving;           /* areas that are being removed */
    neomm__evacuate_fn *evacuate;
    struct neomm__pool *pool;            /* see pool.h */
    struct neomm__crypt *crypt;          /* see crypt.h; NULL: nothing is encrypted */
    uint32_t policies;                   /* grows */
    neomm_frame_t frame;                 /* of this structure */
    uint8_t stripe[NEOMM__SWAP_FILLERS]; /* the area in which each filler fills a cluster */
    const struct neomm_policy_ops *policy[NEOMM__SWAP_POLICIES];
    struct neomm__swap_area area[NEOMM__SWAP_AREAS];
};

_Static_assert(sizeof(struct neomm__swap) <= NEOMM_PAGE_SIZE, "the layer's state is one frame");

/* The bits of a generation that an entry of the format keeps. */
static inline uint16_t neomm__swap_generation_mask(const struct neomm *root)
{
    return root->layout.format == NEOMM_FORMAT_2LEVEL ? 0x1f : 0xffff;
}

/* Slots that an entry of the format can name. */
static inline uint32_t neomm__swap_slot_limit(const struct neomm *root)
{
    return root->layout.format == NEOMM_FORMAT_2LEVEL ? (uint32_t)1 << 24 : UINT32_MAX;
}

/* Has the area the slot? Only with its lock is the answer more than a guess. */
static inline bool neomm__swap_area_has(const struct neomm__swap_area *area, uint32_t slot)
{
    uint32_t slots = neomm__load_acquire(&area->slots);
    return slot - neomm__load_relaxed(&area->base) < slots;
}

/* The area that has the slot, NULL if none: for callers that hold a count of it. */
static inline struct neomm__swap_area *neomm__swap_area_of(struct neomm *root, uint32_t slot)
{
    uint32_t areas = root->swap ? neomm__load_acquire(&root->swap->areas) : 0;
    for (uint32_t i = 0; i < areas; i++)
        if (neomm__swap_area_has(&root->swap->area[i], slot))
            return &root->swap->area[i];
    return NULL;
}

/* The same, for others: it is locked. NULL: there is none, and nothing is locked. */
static inline struct neomm__swap_area *neomm__swap_lock_area(struct neomm *root, uint32_t slot,
                                                             neomm_irq_t *irq)
{
    struct neomm__swap_area *area = neomm__swap_area_of(root, slot);
    if (!area)
        return NULL;
    *irq = neomm__lock(&area->lock);
    if (neomm__swap_area_has(area, slot))
        return area;
    neomm__unlock(&area->lock, *irq);
    return NULL;
}

/* The record that `entry` names, NULL if the entry is stale or no entry at all. Under the
 * area's lock. */
struct neomm__slot *neomm__swap_record(struct neomm *root, struct neomm__swap_area *area,
                                       struct neomm_swap_entry entry);
/* The same, and locks the area; where it is NULL nothing is locked. */
struct neomm__slot *neomm__swap_lock_record(struct neomm *root, struct neomm_swap_entry entry,
                                            struct neomm__swap_area **area, neomm_irq_t *irq);

/* ---- area.c ---- */

neomm_status neomm__swap_free_state(struct neomm *root, const struct neomm__swap_area *area);

/* ---- header.c ---- */

/* Signatures are looked for at the end of a first page of 4 KiB, or larger: up to 64 KiB. */
#define NEOMM__SWAP_HEADER_PAGES 16u

/* May the area be used whose header is in the frame? If not the log says why; see neomm_swap_add.
 * May read other pages into the frame. */
neomm_status neomm__swap_header_check(struct neomm *root, struct neomm_block_device *device,
                                      neomm_frame_t frame);
/* What a header that was checked says: size, UUID and label; then, once the area has its state, the
 * pages that are not to be used. NEOMM_E_CORRUPT: one of them cannot be meant, as the log says. */
void neomm__swap_header_facts(const uint8_t *header, struct neomm__swap_area *area);
neomm_status neomm__swap_header_bad_pages(const uint8_t *header, struct neomm__swap_area *area);

/* ---- slots.c ---- */

/* Takes a slot of a new area out of use. False: it is so already. */
bool neomm__swap_slot_retire(struct neomm__swap_area *area, uint32_t page);

/* ---- clusters.c, with the area's lock ---- */

/* Which clusters will do: the one that the filler is at; one that nobody uses; any. */
enum neomm__cluster_want { NEOMM__CLUSTER_OWN, NEOMM__CLUSTER_UNUSED, NEOMM__CLUSTER_ANY };

/* Every slot of a new area free, but the header. */
void neomm__swap_clusters_init(struct neomm__swap_area *area);
/* A slot that was free, for the filler; 0: there is none in such a cluster. O(1). */
uint32_t neomm__swap_cluster_take(struct neomm__swap_area *area, uint32_t filler,
                                  enum neomm__cluster_want want);
/* The slot is free again; or it was in use, and never will be again. O(1). */
void neomm__swap_cluster_put(struct neomm__swap_area *area, uint32_t page);
void neomm__swap_cluster_lose(struct neomm__swap_area *area, uint32_t page);
/* Up to `max` clusters that the device has not heard of, which are nobody's until they come back;
 * not more than there are of others. */
uint32_t neomm__swap_clusters_tell(struct neomm__swap_area *area, uint32_t *numbers, uint32_t max);
void neomm__swap_clusters_told(struct neomm__swap_area *area, const uint32_t *numbers,
                               uint32_t count);
/* The device does not want to hear of any. */
void neomm__swap_clusters_untold(struct neomm__swap_area *area);

/* ---- discard.c ---- */

/* Clusters that wait for being discarded before a write brings a batch of them on its way. */
#define NEOMM__SWAP_DISCARD_BATCH 16u

/* Discards free clusters, if there are so many of them, a batch; how many slots those had. Without
 * locks; the area stays until it returns, even if it is not in use any more. */
uint32_t neomm__swap_discard(struct neomm__swap_area *area, uint32_t least);
/* All slots of an area that nobody knows yet. */
void neomm__swap_discard_all(struct neomm__swap_area *area);
/* Waits until nobody discards slots of the area, which is leaving. */
void neomm__swap_discard_end(struct neomm__swap_area *area);

/* A word for the policy in the record of a slot in use; 0 for an entry of an earlier use. */
void neomm__swap_set_shadow(struct neomm *root, struct neomm_swap_entry entry, uint32_t shadow);
uint32_t neomm__swap_shadow(struct neomm *root, struct neomm_swap_entry entry);

/* One request, and its end: moves a page between a device and a frame, or discards `pages`. */
neomm_status neomm__swap_move(struct neomm_block_device *device,
                              enum neomm_block_operation operation, uint32_t page, uint32_t pages,
                              neomm_frame_t frame);

/* Writes frames to the places of their entries on the device, where pages[i].status is NEOMM_OK,
 * all in flight together, and waits; sets it to NEOMM_E_IO where that failed. The records stay. */
void neomm__swap_write_raw(struct neomm *root, struct neomm_swap_page *pages, uint32_t count);

/* XXH64 of a number of words that is a multiple of 4, and not 0; of a page. */
uint64_t neomm__swap_xxh64(const uint64_t *words, size_t count);
uint64_t neomm__swap_checksum(const uint64_t *page);
/* Is the page one word repeated? */
bool neomm__swap_is_filled(const uint64_t *page);

void neomm__swap_fsck(struct neomm *root, struct neomm__report *report);

/* Registers the built-in policies. */
void neomm__policy_builtin(struct neomm__swap *swap);

#endif
