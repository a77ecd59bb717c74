/* Inside the swap layer: areas, slots and their records.
 * SPDX-License-Identifier: MIT
 *
 * Slots are numbered over all areas. An area's first page is its header, so slot `base` of an
 * area, and with it slot 0, is never in use:
 *
 *   area 0: base 0            area 1: base = slots of area 0
 *   [H][1][2] ... [n-1]       [H][n+1][n+2] ...
 *
 * An area's state is one run of frames:
 *
 *   [records, 16 bytes a slot][notes, 4 bytes][bitmap, a bit a slot][free slots of each cluster,
 *   16 bits]
 */
#ifndef NEOMM_SWAP_PRIV_H
#define NEOMM_SWAP_PRIV_H

#include "base/bits.h"
#include "base/root.h"

#include <neomm/pmm.h>
#include <neomm/swap.h>

#define NEOMM__SWAP_AREAS     8
#define NEOMM__SWAP_POLICIES  32
#define NEOMM__SWAP_HINTS     32
#define NEOMM__SWAP_CLUSTER   256 /* slots: 1 MiB that one owner fills alone if it can */
#define NEOMM__SWAP_COUNT_MAX 255

/* Bits of a record's flags. */
#define NEOMM__SLOT_VALID  0x01u /* the slot has contents */
#define NEOMM__SLOT_FILLED 0x02u /* and they are `value` repeated; nothing is on the device */
#define NEOMM__SLOT_BAD    0x04u /* not to be used again */
/* (0x08, 0x20 and 0x40: the compressed pool) */
#define NEOMM__SLOT_CACHED  0x10u /* `shadow` is the frame that holds the same, see swap_cache.h */
#define NEOMM__SLOT_READING 0x80u /* somebody reads it, and others wait for him */

struct neomm__slot {
    uint64_t value; /* checksum of the contents, or the word that fills the page */
    uint16_t generation;
    uint8_t count;   /* users; NEOMM__SWAP_COUNT_MAX: lost count, in use for ever */
    uint8_t flags;   /* NEOMM__SLOT_* */
    uint32_t shadow; /* what the policy that evicted the page noted, 0: nothing */
};

_Static_assert(sizeof(struct neomm__slot) == 16, "a record is 16 bytes");

struct neomm__swap_area {
    struct neomm__lock lock; /* all below but the constants */
    struct neomm_block_device *device;
    int priority;
    uint32_t base;  /* number of its first slot */
    uint32_t slots; /* header included */
    struct neomm__slot *slot;
    uint32_t *note;        /* of the slot's user */
    neomm__word_t *bitmap; /* 1: not free */
    uint16_t *cluster_free;
    uint32_t clusters;
    neomm_frame_t state; /* where slot, bitmap and cluster_free are */
    uint32_t state_frames;
    char label[17];
    uint8_t uuid[16];

    uint32_t free, used, bad;         /* their sum and the header are `slots` */
    uint32_t stuck;                   /* used, with a saturated count */
    uint32_t filled;                  /* used, with FILLED */
    uint32_t rover;                   /* cluster where the next search begins */
    uint32_t hint[NEOMM__SWAP_HINTS]; /* where an owner got its last slot, by owner; 0: nowhere */
    uint64_t reads, writes, read_errors, write_errors, corrupt;
};

struct neomm__swap {
    struct neomm__lock lock; /* adding areas and policies */
    uint32_t areas;          /* grows; areas below it never move */
    uint32_t slots;          /* of all areas */
    uint32_t policies;       /* grows */
    neomm_frame_t frame;     /* of this structure */
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

/* The area that has the slot, NULL if none. */
static inline struct neomm__swap_area *neomm__swap_area_of(struct neomm *root, uint32_t slot)
{
    uint32_t areas = root->swap ? neomm__load_acquire(&root->swap->areas) : 0;
    for (uint32_t i = 0; i < areas; i++)
        if (slot - root->swap->area[i].base < root->swap->area[i].slots)
            return &root->swap->area[i];
    return NULL;
}

/* The record that `entry` names, NULL if the entry is stale or no entry at all. Under the
 * area's lock. */
struct neomm__slot *neomm__swap_record(struct neomm *root, struct neomm__swap_area *area,
                                       struct neomm_swap_entry entry);

/* Every slot of a new area free, but the header. */
void neomm__swap_slots_init(struct neomm__swap_area *area);
/* Takes a slot of a new area out of use. False: no such slot. */
bool neomm__swap_slot_retire(struct neomm__swap_area *area, uint32_t page);

/* A word for the policy in the record of a slot in use; 0 for an entry of an earlier use. */
void neomm__swap_set_shadow(struct neomm *root, struct neomm_swap_entry entry, uint32_t shadow);
uint32_t neomm__swap_shadow(struct neomm *root, struct neomm_swap_entry entry);

/* Moves one page between a device and a frame, and waits. */
neomm_status neomm__swap_move(struct neomm_block_device *device,
                              enum neomm_block_operation operation, uint32_t page,
                              neomm_frame_t frame);

/* 64 bits of a page. Pages that differ in one aligned word always differ in it. */
uint64_t neomm__swap_checksum(const uint64_t *page);
/* Is the page one word repeated? */
bool neomm__swap_is_filled(const uint64_t *page);

void neomm__swap_fsck(struct neomm *root, struct neomm__report *report);

/* Registers the built-in policies. */
void neomm__policy_builtin(struct neomm__swap *swap);

#endif
