/* The compressed pool in front of the areas.
 * SPDX-License-Identifier: MIT
 *
 * Objects lie in chains of up to 8 frames, a size class each, and may cross from one frame of their
 * chain to the next, so that little is lost at the ends:
 *
 *   chain of 3 frames   [ 0   | 1   | 2  ][  | 3   | 4   ][ | 5   | 6   | ]
 *   an object           [slot, 4 bytes][check, 4][what the codec wrote][unused, less than a step]
 *
 * All that is needed to take and free objects lies in the frames' descriptors, which are always at
 * hand, while the frames themselves may lie above the direct map:
 *
 *                 the first frame                  the others
 *   previous, next   list of its group                first frame of the chain, -
 *   owner            next frame of the chain, 0: none the same
 *   policy           class, and CLOSED                MEMBER
 *   mapping          bit n of the frame number m: object 64 m + n is taken
 *
 * An object belongs to the one record whose `value` is its location (neomm__pool_pack). It gets and
 * changes its location with the area of its slot locked, so who has that locked may look at it. The
 * pool's lock, which comes behind an area's, is for chains: their lists, links and bits.
 */
#ifndef NEOMM_SWAP_POOL_H
#define NEOMM_SWAP_POOL_H

#include "swap/codec.h"
#include "swap/swap_priv.h"

#define NEOMM__POOL_LARGEST 3072u /* a page that a codec makes no smaller goes to the device */
#define NEOMM__POOL_STEP    32u   /* from class to class */
#define NEOMM__POOL_LEAST   64u   /* so that a frame's objects are the bits of a word */
#define NEOMM__POOL_CLASSES 96u
#define NEOMM__POOL_FRAME   ((uint32_t)NEOMM_PAGE_SIZE)
#define NEOMM__POOL_CHAIN   8u  /* frames */
#define NEOMM__POOL_FULL    4u  /* group of full chains; 0 to 3: a quarter more in use each */
#define NEOMM__POOL_BATCH   16u /* pages that are written back together */
#define NEOMM__POOL_WORKS   4u  /* CPUs that may compress at a time */
#define NEOMM__POOL_SKIPS   3u  /* writes of a slot whose page was too large, without another try */

/* The first frame's class is in the low bits of its `policy`. */
#define NEOMM__POOL_CLOSED 0x80u /* being emptied: in no list, nobody takes objects of it */
#define NEOMM__POOL_MEMBER 0x7fu

/* Bits of a record's flags that mean something with POOLED or without it. */
#define NEOMM__SLOT_YOUNG 0x20u /* POOLED: read since the hand passed */
#define NEOMM__SLOT_SKIPS 0x60u /* else: writes that do not try the pool */
#define NEOMM__SLOT_SKIP  0x20u /* one of them */

struct neomm__pool_header {
    uint32_t slot;
    uint32_t check; /* of the contents, as the codec wrote them */
};

/* Room for an object of the largest class. */
#define NEOMM__POOL_OBJECT (NEOMM__POOL_LEAST + (NEOMM__POOL_CLASSES - 1) * NEOMM__POOL_STEP)

_Static_assert(NEOMM__POOL_OBJECT >= NEOMM__POOL_LARGEST + sizeof(struct neomm__pool_header),
               "there is a class for every object");
_Static_assert(NEOMM__POOL_CLASSES <= NEOMM__POOL_MEMBER, "a class is 7 bits, and none is MEMBER");

/* Where an object is, and what it is. */
struct neomm__pool_place {
    uint32_t frame; /* the first one of its chain */
    uint16_t index;
    uint16_t size; /* of the contents, 1 to NEOMM__POOL_LARGEST */
    uint8_t codec; /* its number */
};

struct neomm__pool_class {
    uint16_t size;                                        /* bytes of an object, header included */
    uint16_t objects;                                     /* of a whole chain */
    uint32_t frames;                                      /* of a whole chain */
    struct neomm__frame_list group[NEOMM__POOL_FULL + 1]; /* first frames of chains */
};

/* Memory to compress and decompress with, for one task at a time. */
struct neomm__pool_work {
    struct neomm__lock lock; /* a mutex */
    neomm_frame_t frame;
    uint8_t *object; /* a frame: header and contents */
    void *codec;     /* what the codec needs */
};

struct neomm__pool {
    struct neomm__lock lock; /* what is below it, but for constants and words that say otherwise */
    const struct neomm__codec
        *codec;          /* of what is stored from now on, NULL: nothing is; constant */
    neomm_frame_t state; /* of this structure; constant */
    uint32_t state_frames;
    uint32_t works; /* constant */
    uint32_t start; /* the limit as configured, in frames; constant */
    uint32_t limit; /* frames; read without the lock */
    uint32_t frames, objects;
    uint32_t given;             /* objects given back since it was compacted */
    uint64_t bytes;             /* of contents */
    uint64_t rejected, no_room; /* pages that went to the device: too large; no frame for them */
    uint64_t written_back;
    uint64_t hits_seen, reads_seen; /* when the limit was last looked at; who is `busy` */
    uint32_t busy;                  /* somebody writes back: a word to wait for */
    uint32_t writing;               /* slots in write_slot[] */
    uint32_t changed;               /* bit n: the n-th has other contents by now */
    uint32_t hand;                  /* area to look in next; who is `busy` */
    uint32_t write_slot[NEOMM__POOL_BATCH];
    neomm_frame_t reserved[NEOMM__POOL_BATCH]; /* to write from; who is `busy` */
    struct neomm__pool_work work[NEOMM__POOL_WORKS];
    struct neomm__pool_class class[NEOMM__POOL_CLASSES];
};

/* May a chain get a further frame for an object? */
enum neomm__pool_growth {
    NEOMM__POOL_STAYS,
    NEOMM__POOL_TO_LIMIT, /* and from the reserve, since a frame more gives a page's frame back */
    NEOMM__POOL_GROWS
};

static inline uint64_t neomm__pool_pack(const struct neomm__pool_place *place)
{
    return place->frame | (uint64_t)place->index << 32 | (uint64_t)place->size << 44 |
           (uint64_t)place->codec << 56;
}

static inline struct neomm__pool_place neomm__pool_unpack(uint64_t value)
{
    return (struct neomm__pool_place){(uint32_t)value, (uint16_t)(value >> 32 & 0xfff),
                                      (uint16_t)(value >> 44 & 0xfff), (uint8_t)(value >> 56)};
}

/* ---- chains (pool_chain.c) ---- */

/* A chain as its descriptors say it is. Looked at under the pool's lock. */
struct neomm__pool_chain {
    struct neomm__pool_class *class;
    uint32_t frames, used; /* used: objects */
    uint32_t number[NEOMM__POOL_CHAIN];
    struct neomm__frame *entry[NEOMM__POOL_CHAIN];
};

void neomm__pool_classes_init(struct neomm__pool *pool);
void neomm__pool_chain_look(const struct neomm *root, uint32_t first,
                            struct neomm__pool_chain *chain);
/* The group of a chain with so many objects. */
uint32_t neomm__pool_group(const struct neomm__pool_class *class, uint32_t used);

/* Takes an object for place->size bytes and sets the rest of the place but the codec. False: no
 * room, or no frame. Locks: pool. */
bool neomm__pool_take(struct neomm *root, enum neomm__pool_growth growth,
                      struct neomm__pool_place *place);
/* Gives one back. Locks: pool. */
void neomm__pool_give(struct neomm *root, const struct neomm__pool_place *place);

/* Gives back the object of a value that no record has. */
void neomm__pool_discard(struct neomm *root, uint64_t value);

/* Copies header and contents to and from a place. False: a frame above the direct map cannot be
 * mapped now. The object must stay meanwhile. */
bool neomm__pool_fetch(struct neomm *root, const struct neomm__pool_place *place, uint8_t *object);
bool neomm__pool_put(struct neomm *root, const struct neomm__pool_place *place,
                     const uint8_t *object);

/* Closes a chain: its objects can be given back, but none taken, and its frames stay. The pool is
 * locked. */
void neomm__pool_chain_close(struct neomm *root, uint32_t first);
void neomm__pool_chain_reopen(struct neomm *root, uint32_t first);
/* The end of that. True: it had no objects any more, and its frames are free, but for `keep`, which
 * is the caller's, as if allocated. False: it is as others are. Locks: pool. */
bool neomm__pool_chain_open(struct neomm *root, uint32_t first, uint32_t keep);
/* Frees all chains, whoever has objects in them. */
void neomm__pool_chains_free(struct neomm *root);

/* ---- the pool (pool.c) ---- */

neomm_status neomm__pool_init(struct neomm *root);
void neomm__pool_fini(struct neomm *root);

/* A workspace, and its end. Sleeps. */
struct neomm__pool_work *neomm__pool_work_get(struct neomm__pool *pool);
void neomm__pool_work_put(struct neomm__pool_work *work);

/* Compresses the page into the pool; *value is its location, and belongs in the record or is to be
 * dropped. NEOMM_E_NOSPACE: no room. NEOMM_E_LIMIT: too large to be worth it. NEOMM_E_AGAIN: not
 * tried. Sleeps. */
neomm_status neomm__pool_store(struct neomm *root, struct neomm_swap_entry entry,
                               neomm_frame_t frame, uint64_t *value);
/* Reads a page back. NEOMM_E_AGAIN: it is not in the pool any more. Sleeps. */
neomm_status neomm__pool_load(struct neomm *root, const struct neomm_swap_page *page);
/* Decompresses the object in the workspace. NEOMM_E_CORRUPT, NEOMM_E_NOMEM. */
neomm_status neomm__pool_decompress(struct neomm *root, struct neomm__pool_work *work,
                                    uint32_t slot, const struct neomm__pool_place *place,
                                    neomm_frame_t frame);
/* Before `pages` pages are written: room for them, if it can be had. Sleeps, without locks. */
void neomm__pool_make_room(struct neomm *root, uint32_t pages);
/* The limit that follows from what happened since it was last looked at. */
uint32_t neomm__pool_next_limit(uint32_t limit, uint32_t start, uint32_t hits, uint32_t reads,
                                uint64_t bytes, uint64_t pages);

/* Records; with the area locked. */
void neomm__pool_enter(struct neomm__swap_area *area, struct neomm__slot *slot, uint64_t value);
/* The record's object goes, if it has one; the record has no contents then. */
void neomm__pool_drop(struct neomm *root, struct neomm__swap_area *area, struct neomm__slot *slot);

void neomm__pool_stats(struct neomm *root, struct neomm_swap_stats *stats);

/* ---- moving, and writing back (pool_move.c, pool_write.c) ---- */

/* Empties the chain that the frame belongs to. True: the frame is the caller's, as if it had been
 * allocated. Sleeps, without locks. */
bool neomm__pool_move_frame(struct neomm *root, neomm_frame_t frame);

/* Is an older copy of the slot on its way to the device? With the slot's area locked. */
bool neomm__pool_is_writing(struct neomm *root, uint32_t slot);
/* Waits until what is on its way has arrived. */
void neomm__pool_wait(struct neomm *root);
/* Such a copy is not what the slot holds any more. */
void neomm__pool_note_change(struct neomm__pool *pool, uint32_t slot);

void neomm__pool_fsck(struct neomm *root, struct neomm__report *report);

#endif
