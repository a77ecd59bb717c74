/* What choosing a page (reclaim.c) and evicting it (evict.c) share.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_EVICT_H
#define NEOMM_VMM_EVICT_H

#include "vmm/vmm_priv.h"

/* A frame on its way out; the caller holds a reference of it. */
struct neomm__eviction {
    struct neomm *root;
    neomm_frame_t frame;
    struct neomm__frame *entry;
    uint64_t only;             /* the one mapping that is to go; 0: all */
    struct neomm_space *owner; /* whose limit of swap counts for the slot; held */
    uint64_t object;           /* the object's entry; 0: none seen */
    neomm_frame_t passed;      /* it was taken before this one, which needs a write; nil: none */
    bool clean_only;           /* a page of the cache that is dirty stays */
    bool wait;                 /* and one that others are writing is waited for */
    struct neomm_swap_entry slot;
    uint64_t mapping; /* the owner's */
    bool shared;      /* it had several leaves: nobody has had the right to write since */
    bool alone;       /* which is the only one there is */
    bool dirty;       /* when it was tested */
    struct neomm__region *region; /* of its leaf, entered for it */
    neomm_status status;
};

/* One of its leaves, as the set says. */
struct neomm__leaf {
    uint64_t mapping;
    struct neomm_space *space; /* held; NULL: its tables may not be touched, or it is an object */
    neomm_vaddr_t vaddr;
};

/* The mapping at or behind *position, see neomm__rmap_next; the caller drops its space. */
bool neomm__evict_mapping(struct neomm__eviction *e, uint32_t *position, struct neomm__leaf *leaf);

/* Is one of its mappings, or the one that is to go, in a region that is locked in memory; or may it
 * be? */
bool neomm__evict_is_locked(struct neomm__eviction *e);
/* Has one of its spaces no swap left to itself? */
bool neomm__evict_is_limited(struct neomm__eviction *e);
/* The same as is_locked for a page of a space that is held. */
bool neomm__page_is_locked(struct neomm *root, const struct neomm_space *space,
                           neomm_vaddr_t vaddr);

/* ---- reclaim.c ---- */

/* Pages of a domain that are looked at one after the other, at the least. */
#define NEOMM__SCAN_LEAST 32u
#define NEOMM__ALL_ZONES  (((uint32_t)1 << NEOMM_ZONES) - 1)

/* What a reclaim wants, and has done. */
struct neomm__scan {
    uint32_t zones;        /* bit n: frames of zone n */
    uint32_t wanted, most; /* pages to be freed, and looked at at most */
    uint32_t scanned, freed;
    uint32_t failures[2]; /* of swap, of pagers */
    bool insist;          /* pages that were used since they were tested last may go, too */
    bool wait;            /* pages of the cache that are being written are waited for */
    bool clean_first;     /* a page that needs no write is taken before one that does */
    bool no_slots;        /* there are none left */
};

/* Looks at up to `looks` candidates of the domain. Without locks. */
void neomm__scan_domain(struct neomm *root, struct neomm_policy *policy, struct neomm__scan *scan,
                        uint32_t looks);
/* The looks at a domain at a priority of 12 to 0: 1 / 2^priority of its pages, at the last one all
 * of them several times. */
uint32_t neomm__scan_share(struct neomm *root, const struct neomm_policy *policy,
                           unsigned priority);

/* ---- evict.c ---- */

/* Its leaves are small from now on. NEOMM_E_NOMEM: not all of them. */
neomm_status neomm__evict_part(struct neomm__eviction *e);

/* Clears D of all its leaves, so that a write from now on shows: NEOMM__FRAME_DIRTY says whether
 * there was one. */
void neomm__evict_clean(struct neomm__eviction *e);
/* Marks the frame as busy; false: it is, or it is pinned. */
bool neomm__evict_begin(struct neomm__eviction *e);
void neomm__evict_end(struct neomm__eviction *e);

/* The frame goes on without its slot, if it has it still and, unless that does not matter, is not
 * being evicted: true. */
bool neomm__evict_take_slot(struct neomm *root, neomm_frame_t frame, bool even_if_busy);

/* Was the page used, or written to? Clears the accessed bits. */
void neomm__evict_test(struct neomm__eviction *e, bool *accessed, bool *dirty);

/* Was it written to? Changes nothing. */
bool neomm__evict_is_dirty(struct neomm__eviction *e);

/* The page is marked, small, and has a slot; or `status` says why it stays, or that it has gone
 * already. True: neomm__evict_finish is due. */
bool neomm__evict_prepare(struct neomm__eviction *e);
void neomm__evict_finish(struct neomm__eviction *e);

/* Gives the frame a slot if it has none; one that nobody else reads; and takes it away. */
neomm_status neomm__evict_ensure_slot(struct neomm__eviction *e);
neomm_status neomm__evict_own_slot(struct neomm__eviction *e);
void neomm__evict_drop_slot(struct neomm__eviction *e);

/* The copy is safe: replaces all leaves, or the one that is wanted. */
neomm_status neomm__evict_replace(struct neomm__eviction *e);

static inline bool neomm__evict_may_go(const struct neomm__eviction *e)
{
    return !neomm__frame_has(e->entry, NEOMM__FRAME_DIRTY);
}

static inline bool neomm__at_swap_limit(const struct neomm_space *space)
{
    return neomm__at_limit(&space->swap_pages, space->limits.swap_bytes);
}

/* ---- write_back.c ---- */

/* A batch, with room for what its eviction needs: taken before memory is short. */
struct neomm__write_back {
    uint32_t busy; /* atomic */
    uint32_t count;
    struct neomm__eviction e[NEOMM_POLICY_BATCH];
    struct neomm_swap_page page[NEOMM_POLICY_BATCH];
    struct neomm_paging_victim victim[NEOMM_POLICY_BATCH];
    uint8_t order[NEOMM_POLICY_BATCH];
};

/* Batches under way at once, at most: who needs one more waits. */
#define NEOMM__WRITE_BACKS 4u

/* An empty one; may sleep. And gives it back. */
struct neomm__write_back *neomm__write_back_take(struct neomm *root);
void neomm__write_back_give(struct neomm *root, struct neomm__write_back *batch);
/* Evicts the pages of the batch, which were prepared, each for itself: `status` of each as of
 * neomm__evict_frame. Sleeps. */
void neomm__write_back(struct neomm__write_back *batch);

/* Evicts it. NEOMM_E_NOENT: it was unmapped meanwhile; any other error leaves the page, or what is
 * left of its mappings, resident. Sleeps. */
neomm_status neomm__evict_frame(struct neomm__eviction *e);

#endif
