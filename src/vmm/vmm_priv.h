/* The address-space layer's own structures.
 * SPDX-License-Identifier: MIT
 *
 * A space has one sleeping lock, which is held for every look at its regions, leaves and counts,
 * and by which everything that belongs to a frame of the space is decided. It is never held over
 * I/O or an allocation that may reclaim: code that gave it up looks again at what it relied on.
 *
 *   vmm->space[index] -> space -> map                 a tree of regions, see region_tree.h
 *                              -> tables              leaves: frames and swap entries
 *                              -> policy              own domain, if its residence is limited
 *   frame descriptor  -> mapping = (space index, page): the way back
 */
#ifndef NEOMM_VMM_VMM_PRIV_H
#define NEOMM_VMM_VMM_PRIV_H

#include "base/bits.h"
#include "base/hook.h"
#include "base/root.h"
#include "vmm/region_tree.h"

#include <neomm/heap.h>
#include <neomm/paging.h>
#include <neomm/pmm.h>
#include <neomm/swap.h>
#include <neomm/vmm.h>

#define NEOMM__SPACE_MAX 4096u

struct neomm_space {
    struct neomm__lock lock; /* SPACE: all below */
    uint32_t index;
    uint32_t busy; /* tasks that gave up the lock and will take it again; a futex */
    struct neomm_limits limits;
    struct neomm_tables tables;
    struct neomm__region_map map;
    struct neomm_policy policy; /* ops NULL: the global domain */
    uint64_t virtual_pages, locked_pages, resident_pages, swap_pages;
    neomm_vaddr_t random;               /* what is placed by itself keeps this distance, see aslr */
    neomm_vaddr_t heap_start, heap_end; /* of brk; start 0: there is none */
    uint32_t lock_future;               /* flags of new regions */
    bool lock_now;                      /* and their pages are brought in */
    uint64_t faults_zero, faults_swap_in, faults_other, evictions, swap_writes;
};

struct neomm__vmm {
    struct neomm__lock spaces_lock; /* SPACES: the table */
    struct neomm__lock policy_lock; /* POLICY: every instance's lists */
    struct neomm_policy global;
    struct neomm_kmem *region_cache, *node_cache;
    uint64_t ram_pages; /* that there are for use */
    uint32_t committed; /* pages promised to all spaces */
    enum neomm_overcommit overcommit;
    bool aslr;
    neomm_frame_t zero; /* the shared frame of zeros, nil: not used */
    uint32_t spaces;
    uint32_t vallocs;                            /* ranges of valloc that exist */
    uint32_t next_index;                         /* where the search for a free index begins */
    struct neomm_space *space[NEOMM__SPACE_MAX]; /* index 0 is the kernel's: never used */
};

/* ---- region.c: who may be inside ---- */

/* Becomes a user of the region that holds vaddr; NULL: none does. Neither sleep nor an allocation
 * that may reclaim until neomm__region_exit. May wait for the space's lock before. */
struct neomm__region *neomm__region_enter(struct neomm *root, struct neomm_space *space,
                                          neomm_vaddr_t vaddr);
/* The same without waiting: NULL also where the region is being changed. */
struct neomm__region *neomm__region_try_enter(struct neomm *root, struct neomm_space *space,
                                              neomm_vaddr_t vaddr);
void neomm__region_exit(struct neomm__region *region);
/* Keeps others out and waits until nobody is inside; the space's lock is held. */
void neomm__region_close(struct neomm__region *region);
void neomm__region_open(struct neomm__region *region);
/* The region at vaddr as it was at some moment; false: there was none, or it was about to be
 * joined, parted or moved. No lock. */
bool neomm__region_look(struct neomm *root, const struct neomm_space *space, neomm_vaddr_t vaddr,
                        struct neomm_region_info *info, uint32_t *flags);

/* ---- region.c: ranges, with the space's lock ---- */

/* The first region that ends above vaddr, NULL: none. */
struct neomm__region *neomm__region_first(const struct neomm__region_map *map, neomm_vaddr_t vaddr);
/* The region that holds vaddr, NULL: none. */
struct neomm__region *neomm__region_find(const struct neomm__region_map *map, neomm_vaddr_t vaddr);
/* Is nothing of [start, end) mapped? All of it? How many bytes? */
bool neomm__region_is_free(const struct neomm__region_map *map, neomm_vaddr_t start,
                           neomm_vaddr_t end);
bool neomm__region_covers(const struct neomm__region_map *map, neomm_vaddr_t start,
                          neomm_vaddr_t end);
uint64_t neomm__region_bytes(const struct neomm__region_map *map, neomm_vaddr_t start,
                             neomm_vaddr_t end);
/* Splits regions at both ends of the range and closes those inside; needs room for two. */
void neomm__regions_isolate(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end);
/* Opens the regions of an isolated range again, joined with neighbours that are alike. */
void neomm__regions_restore(struct neomm__region_map *map, neomm_vaddr_t start, neomm_vaddr_t end);
/* Takes the regions of an isolated range out of the map; their bytes come back. */
uint64_t neomm__regions_remove(struct neomm__region_map *map, neomm_vaddr_t start,
                               neomm_vaddr_t end);
/* Enters a region, which neomm__region_take gave, over a range that is free, and joins it with
 * neighbours that are alike; needs room for one. */
void neomm__region_add(struct neomm__region_map *map, struct neomm__region *region);

/* ---- account.c, with the space's lock ---- */

/* Pages of regions, by what they count against. */
struct neomm__cost {
    uint64_t pages, locked, committed;
};

void neomm__cost_add(struct neomm__cost *cost, uint64_t pages, uint32_t flags);
struct neomm__cost neomm__range_cost(const struct neomm__region_map *map, neomm_vaddr_t start,
                                     neomm_vaddr_t end);
/* The flags of a region with these rights: once it could be written it stays committed. */
uint32_t neomm__region_commits(uint32_t flags, neomm_prot_t prot);
/* Counts `more`, if the limits allow for it once `less` will be gone: NEOMM_E_LIMIT. */
neomm_status neomm__charge(struct neomm *root, struct neomm_space *space,
                           const struct neomm__cost *more, const struct neomm__cost *less);
void neomm__uncharge(struct neomm *root, struct neomm_space *space, const struct neomm__cost *less);

/* ---- mmap.c ---- */

/* Rounds the size up to pages and checks the range. */
neomm_status neomm__range_check(const struct neomm *root, neomm_vaddr_t address, uint64_t *size);
/* Unmaps the leaves of a range in which no fault can be. */
void neomm__leaves_clear(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                         neomm_vaddr_t end);
/* Takes away what is mapped in the range; needs room for two. */
void neomm__range_clear(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                        neomm_vaddr_t end);
/* Adds a region with these bounds, rights, flags and offset; charged, and with room for one. */
void neomm__range_add(struct neomm_space *space, const struct neomm__region *like);
/* A free range, near the hint if there is one. */
bool neomm__range_place(struct neomm *root, struct neomm_space *space, neomm_vaddr_t hint,
                        uint64_t size, bool down, neomm_vaddr_t *found);
/* Memory was short: without locks, has reclaim helped, and is it worth another attempt? */
bool neomm__retry_after_reclaim(struct neomm *root, neomm_status status, unsigned *attempt);
/* Touches each page as the user would; without locks. What was touched stays on an error. */
neomm_status neomm__populate(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                             neomm_vaddr_t end, bool write);

/* ---- grow.c ---- */

/* Lets the stack above the page grow down to it; the space's lock is held. */
bool neomm__stack_grow(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page);

/* ---- space.c ---- */

/* A distance for a space to keep, 0 where that is not wanted. */
neomm_vaddr_t neomm__space_random(struct neomm *root);

/* The space with this index, locked; NULL if there is none or somebody else has the lock. */
struct neomm_space *neomm__space_try_lock(struct neomm *root, uint32_t index);
/* Gives the lock up for a while without letting the space go, and takes it again. */
void neomm__space_leave(struct neomm_space *space);
void neomm__space_reenter(struct neomm_space *space);

/* The domain that decides about the space's frames. */
static inline struct neomm_policy *neomm__space_policy(struct neomm *root,
                                                       struct neomm_space *space)
{
    return space->policy.ops ? &space->policy : &root->vmm->global;
}

/* ---- frames of a space; its lock is held ---- */

/* `frame`, just mapped at vaddr, belongs to the space and its policy from now on. */
void neomm__user_frame_enter(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             neomm_vaddr_t vaddr);
/* The frame has lost its mapping: out of the policy, slot given back unless `kept` (then the
 * entry in the table has the count), freed when nobody else holds a reference. Callable with the
 * page-table lock held. */
void neomm__user_frame_leave(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             const struct neomm_swap_entry *kept);
/* Drops a reference that was taken to keep the frame over I/O. */
void neomm__user_frame_put(struct neomm *root, neomm_frame_t frame);
/* A leaf that was elsewhere in the space, which is locked, is at `vaddr` now. */
void neomm__user_leaf_moved(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                            const struct neomm_mapping *leaf);
/* A neomm_leaf_fn, context a struct neomm__release: what unmapping leaves to do. */
struct neomm__release {
    struct neomm *root;
    struct neomm_space *space;
};
void neomm__user_leaf_release(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf);

/* ---- evict.c ---- */

/* Evicts one page of the space, whose lock is held and may be given up in between; or, with
 * space NULL and no lock held, of any space in the global domain. NEOMM_E_NOENT: nothing to
 * evict. */
neomm_status neomm__evict_one(struct neomm *root, struct neomm_space *space);
/* Makes room in swap: a resident page of the space gives up the slot with its clean copy. */
bool neomm__release_a_slot(struct neomm *root, struct neomm_space *space);
/* Evicts the page at vaddr, if there is one and it can go now. The space's lock is held and may be
 * given up in between. */
void neomm__evict_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr);
/* Frees about `frames` frames, wherever they are. Called without locks. */
uint32_t neomm__reclaim(struct neomm *root, uint32_t frames);

/* A neomm_reclaim_fn, context the root. */
uint32_t neomm__reclaim_callback(void *context, uint32_t frames, neomm_flags_t flags);

/* ---- vmm_fsck.c ---- */
void neomm__vmm_fsck(struct neomm *root, struct neomm__report *report);

static inline bool neomm__is_user_range(const struct neomm *root, neomm_vaddr_t start,
                                        uint64_t size)
{
    const struct neomm_layout *layout = &root->layout;
    return start >= layout->user_base && start <= layout->user_limit &&
           size <= layout->user_limit - start;
}

#endif
