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
    bool clean_only;           /* a page of the cache that is dirty stays */
    struct neomm_swap_entry slot;
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
/* The same for a page of a space that is held. */
bool neomm__page_is_locked(struct neomm *root, const struct neomm_space *space,
                           neomm_vaddr_t vaddr);

/* Was the page used, or written to? Clears the accessed bits. */
void neomm__evict_test(struct neomm__eviction *e, bool *accessed, bool *dirty);

/* reclaim.c: the domain's next candidate, which is held; false: the domain is empty. */
bool neomm__candidate_next(struct neomm *root, struct neomm_policy *policy,
                           struct neomm__eviction *e);
/* Tells the policy about a frame that is held, if it still is in its domain. */
enum neomm_verdict neomm__candidate_tell(struct neomm *root, struct neomm_policy *policy,
                                         const struct neomm__eviction *e, bool accessed,
                                         bool dirty);

/* Evicts it. NEOMM_E_NOENT: it was unmapped meanwhile; any other error leaves the page, or what is
 * left of its mappings, resident. Sleeps. */
neomm_status neomm__evict_frame(struct neomm__eviction *e);

#endif
