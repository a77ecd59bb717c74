/* The address-space layer's own structures.
 * SPDX-License-Identifier: MIT
 *
 * A space has one sleeping lock, for calls that change its regions, and for its counts that are not
 * atomic. Faults are inside of their region instead, and so is eviction while it exchanges a leaf:
 * it goes from the frame to its leaves, and knows spaces by their index and a hold only. A leaf
 * changes by compare-exchange; who loses looks again. Nothing of this is held over I/O or an
 * allocation that may reclaim.
 *
 *   vmm->space[index] -> space -> map                 a tree of regions, see region_tree.h
 *                              -> tables              leaves: frames and swap entries
 *                              -> policy              own domain, if its residence is limited
 *   frame descriptor  -> mapping set: all leaves that lead to it (rmap.h)
 */
#ifndef NEOMM_VMM_VMM_PRIV_H
#define NEOMM_VMM_VMM_PRIV_H

#include "base/bits.h"
#include "base/hook.h"
#include "base/root.h"
#include "vmm/region_tree.h"
#include "vmm/rmap.h"
#include "vmm/stall.h"

#include <neomm/heap.h>
#include <neomm/paging.h>
#include <neomm/pmm.h>
#include <neomm/readahead.h>
#include <neomm/swap.h>
#include <neomm/vmm.h>

#define NEOMM__SPACE_MAX  4096u
#define NEOMM__OBJECT_MAX 1024u

struct neomm_object;

/* What a CPU has counted for a space, modulo a machine word; see tally.h. */
struct neomm__tally {
    size_t resident, zero, swap_in, copy, other;
} __attribute__((aligned(64)));

/* What a space lost when it was swapped out last, and how it came back; under policy_lock. */
struct neomm__away {
    size_t pages, wanted, back; /* that went, that it used, that came */
    uint64_t since, ns;         /* from the first that came to the last */
};

/* Of who looks for idle spaces. */
struct neomm__idle_state {
    size_t faults;
    uint64_t since;
    bool known;
};

/* Of load control, under its lock. */
struct neomm__load_state {
    size_t refaults; /* soon after the page went from the global domain; atomic */
    size_t seen;     /* of them, at the last look */
    uint64_t since;  /* it was suspended, or began to run again */
    uint32_t turn;   /* of the last suspension, 0: never */
};

struct neomm_space {
    struct neomm__lock lock; /* SPACE: regions, and what is not atomic */
    uint32_t index;
    uint32_t busy;      /* holds; destroying the space waits for them; a futex */
    uint32_t users;     /* tasks that share it */
    uint32_t filling;   /* fork fills its tables, which nobody else may touch */
    bool dying;         /* under spaces_lock: not to be found by its index any more */
    neomm_vaddr_t hand; /* where eviction goes on, when its own domain has nothing left */
    struct neomm_limits limits;
    struct neomm_tables tables;
    struct neomm__region_map map;
    struct neomm_policy policy; /* of its own domain */
    uint32_t has_domain;        /* atomic: it has one; otherwise its frames are in the global one */
    uint64_t virtual_pages, locked_pages;
    neomm_vaddr_t random;               /* what is placed by itself keeps this distance, see aslr */
    neomm_vaddr_t heap_start, heap_end; /* of brk; start 0: there is none */
    uint32_t lock_future;               /* flags of new regions */
    bool lock_now;                      /* and their pages are brought in */
    uint32_t huge;                      /* it has had huge leaves; atomic */
    size_t swap_pages;                  /* atomic, as all below: leaves of slots */
    size_t evictions, swap_writes, refaults, refaults_near;
    size_t read_ahead, ahead_used, ahead_wasted, swap_outs, suspensions;
    struct neomm__away away;
    struct neomm__idle_state idle;
    struct neomm__load_state load;
    uint32_t suspended;   /* atomic: it is not to run */
    int32_t ahead_credit; /* under policy_lock */
    size_t working_set;   /* pages, in 1/16 */
    uint32_t victim;      /* memory ran out and it was chosen: it gets no more */
    uint32_t oom_bias;    /* an int32_t */
    char name[NEOMM_SPACE_NAME];
    struct neomm__tally tally[]; /* of each CPU */
};

/* Where the background pass stands; of who made it busy. */
struct neomm__background {
    uint32_t busy;
    unsigned priority;
    uint32_t looked;      /* at this priority */
    uint64_t pause_until; /* it came to nothing */
};

/* Of the page cache, see cache.h; atomic. What only grows is modulo a machine word. */
struct neomm__cache_counts {
    uint32_t clock; /* pages given up */
    size_t dirty, dirty_limit, shadows;
    size_t reads, writes, read_errors, write_errors, ahead, ahead_hits, around, refaults, dropped;
};

struct neomm__write_back;

/* New pages of a CPU that are in no domain yet, see newcomers.c; 0: a free place. */
#define NEOMM__NEWCOMERS 15u
struct neomm__newcomers {
    uint32_t frame[NEOMM__NEWCOMERS];
    uint32_t next;
} __attribute__((aligned(64)));

/* One CPU's part. */
#define NEOMM__INSIDE 4u
struct neomm__vmm_cpu {
    struct neomm__newcomers newcomers;
    struct neomm__region *inside[NEOMM__INSIDE]; /* regions that tasks are in, see region_enter.c */
} __attribute__((aligned(64)));

/* Load control. */
struct neomm__load {
    uint32_t busy;      /* somebody is at it */
    uint32_t evictions; /* of the global domain, when the counting began; modulo 2^32 */
    size_t refaults;    /* of all spaces; atomic */
    size_t seen;        /* of them, then */
    uint32_t turn;      /* of suspensions */
    uint32_t suspended; /* spaces; atomic */
    neomm_suspend_fn *tell;
    void *context;
};

/* A domain's policy on its way to another one. */
struct neomm__policy_move {
    struct neomm_policy from, to;
    bool other; /* the next candidate is one of `to` */
};

struct neomm__vmm {
    struct neomm__lock spaces_lock; /* SPACES: the table */
    uint32_t evictions_ended;       /* a futex, and how many wait for it */
    uint32_t evictions_awaited;
    uint32_t reads_ended; /* a futex, and how many wait for it: of slots that others have, too */
    uint32_t reads_awaited;
    uint32_t write_backs_ended;           /* a futex */
    struct neomm__write_back *write_back; /* NEOMM__WRITE_BACKS of them, see evict.h */
    struct neomm__lock policy_lock;       /* POLICY: every instance's lists */
    struct neomm_policy global, cache;
    struct neomm__policy_move *move; /* under policy_lock: one domain's, while it is switched */
    const struct neomm_policy_ops *policy; /* of new spaces */
    uint32_t idle_looks;                   /* somebody looks for idle spaces */
    struct neomm__load load;
    uint32_t policy_changes;      /* somebody is at it */
    struct neomm_readahead ahead; /* under policy_lock */
    uint32_t readahead;           /* pages read together, at most; 0: one */
    uint32_t cost[2], cost_turn;  /* under policy_lock; see balance.h */
    struct neomm__cache_counts counts;
    uint32_t compacting;        /* atomic */
    struct neomm__vmm_cpu *cpu; /* as many as the root has */
    struct neomm_kmem *region_cache, *node_cache;
    uint64_t ram_pages; /* that there are for use */
    size_t committed;   /* pages promised to all spaces: on i386 they fit, 4096 times 3 GiB */
    enum neomm_overcommit overcommit;
    bool aslr;
    enum neomm_huge huge;
    neomm_frame_t zero;    /* the shared frame of zeros, nil: not used */
    uint32_t passed;       /* frame that was passed over for a clean one */
    uint32_t limited_hand; /* space with a domain of its own that gave pages for others last */
    uint32_t low;          /* a futex: a zone is below its low watermark */
    uint32_t oom;          /* a futex: a victim is being looked for */
    uint32_t oom_victims;
    struct neomm__background background;
    struct neomm__pressure pressure;
    uint32_t spaces;
    uint32_t vallocs;                            /* ranges of valloc that exist */
    uint32_t next_index;                         /* where the search for a free index begins */
    struct neomm_space *space[NEOMM__SPACE_MAX]; /* index 0 is the kernel's: never used */
    uint32_t objects;
    struct neomm_object *unreferenced;              /* to be ended when no lock is held */
    struct neomm_object *object[NEOMM__OBJECT_MAX]; /* index 0 is none */
};

/* ---- region_enter.c: who may be inside ---- */

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
/* Is anybody inside? True is good for the moment, false as long as it is closed. */
bool neomm__region_is_entered(const struct neomm__region *region);

/* ---- region.c: without the lock ---- */

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
/* What makes regions more or fewer counts their references of objects: where the last one may go,
 * neomm__objects_end follows. */

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
/* Unmaps the leaves of a range in which no fault can be, and out of which none reaches (see
 * neomm__leaves_part). */
void neomm__leaves_clear(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                         neomm_vaddr_t end);
/* Takes away what is mapped in the range; needs room for two. NEOMM_E_NOMEM: a huge leaf could not
 * be split, and nothing has changed; never where no region reaches over an end. */
neomm_status neomm__range_clear(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                neomm_vaddr_t end);
/* Adds a region with these bounds, rights, flags and offset; charged, and with room for one. */
void neomm__range_add(struct neomm_space *space, const struct neomm__region *like);
/* A free range, near the hint if there is one. */
bool neomm__range_place(struct neomm *root, struct neomm_space *space, neomm_vaddr_t hint,
                        uint64_t size, bool down, neomm_vaddr_t *found);
/* Memory was short: without locks, has reclaim helped, and is it worth another attempt? */
bool neomm__retry_after_reclaim(struct neomm *root, neomm_status status, unsigned *attempt);
/* How an attempt at a call that changes regions ends: gives up the regions and objects that have
 * gone and the lock of the space; then as above. */
bool neomm__unlock_and_retry(struct neomm *root, struct neomm_space *space, neomm_status status,
                             unsigned *attempt);
/* Touches each page as the user would; without locks. What was touched stays on an error. */
neomm_status neomm__populate(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                             neomm_vaddr_t end, bool write);

/* ---- huge.c: leaves of more than a page ---- */

/* A huge leaf is a form of the page table and nothing more: each of its frames has a descriptor, a
 * mapping set, and a place in the policy, as if it had a leaf of its own. */

/* neomm_paging_walk, but a huge leaf is visited as the small ones that it stands for, of those in
 * the range. */
neomm_status neomm__walk(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                         size_t size, neomm_leaf_fn *visit, void *context);
/* Visits the small leaves that a leaf stands for, which is one itself as a rule. */
void neomm__leaf_pages(neomm_vaddr_t vaddr, const struct neomm_mapping *leaf, neomm_leaf_fn *visit,
                       void *context);
/* No leaf reaches over the ends of the range from now on, as long as nobody faults there. The
 * page's leaf, if the range is one, is small. NEOMM_E_NOMEM: nothing is lost. */
neomm_status neomm__leaves_part(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                neomm_vaddr_t end);
/* Waits until nobody is just splitting the leaf at the page. */
void neomm__leaf_settle(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page);
/* May the first touch of the page, whose leaf is `none`, bring a huge one? We are inside of the
 * region. */
bool neomm__huge_fits(struct neomm *root, const struct neomm_space *space,
                      const struct neomm__region *region, neomm_vaddr_t page,
                      const struct neomm_mapping *none, bool write);
/* A block of zeros for it, if one is at hand; not inside of a region. */
neomm_status neomm__huge_alloc(struct neomm *root, neomm_frame_t *block);
void neomm__huge_free(struct neomm *root, neomm_frame_t block);
/* Maps the block over the page. NEOMM_E_EXISTS, NEOMM_E_NOMEM: the block is freed. */
neomm_status neomm__huge_map(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page,
                             neomm_frame_t block, neomm_prot_t prot);

/* ---- grow.c ---- */

/* Lets the stack above the page grow down to it; the space's lock is held. */
bool neomm__stack_grow(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page);

/* ---- space.c ---- */

/* A distance for a space to keep, 0 where that is not wanted. */
neomm_vaddr_t neomm__space_random(struct neomm *root);

/* Keeps the space with this index from being destroyed; NULL: there is none, or it cannot be known
 * without waiting. */
struct neomm_space *neomm__space_hold_at(struct neomm *root, uint32_t index);
/* The same for the space of a mapping, with the lock of a frame that has it in its set. NULL: an
 * object's, or the space's tables may not be touched now. */
struct neomm_space *neomm__space_hold_of(struct neomm *root, uint64_t mapping);
/* The same also while fork fills its tables. */
struct neomm_space *neomm__space_hold_filling(struct neomm *root, uint64_t mapping);
void neomm__space_drop(struct neomm_space *space);
/* Gives the lock up for a while without letting the space go, and takes it again. */
void neomm__space_leave(struct neomm_space *space);
void neomm__space_reenter(struct neomm_space *space);

/* The name as tables show it. */
void neomm__space_set_name(struct neomm_space *space, const char *name);

/* The policy may change at any time, but not whether there is one. */
static inline bool neomm__has_domain(const struct neomm_space *space)
{
    return neomm__load_acquire(&space->has_domain) != 0;
}

/* The domain that decides about the space's frames. */
static inline struct neomm_policy *neomm__space_policy(struct neomm *root,
                                                       struct neomm_space *space)
{
    return neomm__has_domain(space) ? &space->policy : &root->vmm->global;
}

/* ---- user_frame.c: frames of user memory ---- */

/* A pin for DMA, in `references`. */
#define NEOMM__FRAME_PIN ((uint32_t)1 << 16)

static inline uint32_t neomm__frame_pins(const struct neomm__frame *entry)
{
    return neomm__load_acquire(&entry->references) / NEOMM__FRAME_PIN;
}

/* A page of an object: what a private mapping of it writes to is a copy. */
static inline bool neomm__frame_is_object(const struct neomm__frame *entry)
{
    return entry->kind == NEOMM__KIND_OBJECT || entry->kind == NEOMM__KIND_CACHE;
}

static inline bool neomm__frame_is_user(const struct neomm__frame *entry)
{
    return entry && (entry->kind == NEOMM__KIND_USER || entry->kind == NEOMM__KIND_SHARED ||
                     entry->kind == NEOMM__KIND_OBJECT || entry->kind == NEOMM__KIND_CACHE);
}

/* A frame that nobody else knows will be mapped at vaddr, with NEOMM__FRAME_DIRTY or 0; or it could
 * not be. */
void neomm__user_frame_claim(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             neomm_vaddr_t vaddr, unsigned flags);
void neomm__user_frame_unclaim(struct neomm *root, neomm_frame_t frame);
/* It has been mapped: into the count of the space, and the policy; where that was just told of a
 * page that is back, at once. */
void neomm__user_frame_enter(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             bool at_once);
/* Into a policy, without a space. */
void neomm__user_frame_admit(struct neomm *root, struct neomm_policy *policy, neomm_frame_t frame);
/* The last entry of its set, an object's, goes. */
void neomm__user_frame_dismiss(struct neomm *root, neomm_frame_t frame, uint64_t mapping,
                               const struct neomm_swap_entry *slot);
/* A frame that has mappings gets one more. NEOMM_E_NOMEM, NEOMM_E_LIMIT; NEOMM_E_EXISTS: somebody
 * has taken away the leaf that is there, and is about to say so. */
neomm_status neomm__user_frame_add(struct neomm *root, struct neomm_space *space,
                                   neomm_frame_t frame, neomm_vaddr_t vaddr);
/* The same of a frame that is held; NEOMM_E_NOENT: it has no mappings any more. */
neomm_status neomm__user_frame_join(struct neomm *root, struct neomm_space *space,
                                    neomm_frame_t frame, neomm_vaddr_t vaddr);
/* The swap cache does not have it from now on. */
void neomm__user_frame_uncache(struct neomm *root, neomm_frame_t frame);
/* A frame of `from` gets a leaf of `to` as well, which the caller counts. NEOMM_E_NOMEM,
 * NEOMM_E_LIMIT. */
neomm_status neomm__user_frame_share(struct neomm *root, struct neomm_space *from,
                                     struct neomm_space *to, neomm_frame_t frame,
                                     neomm_vaddr_t vaddr);
/* The leaf at vaddr, with or without D, is gone. With the last one the frame leaves its policy,
 * gives its slot back, and is freed when nobody else holds a reference. `slot`: where the contents
 * went, for the policy. Callable with page tables locked. */
void neomm__user_frame_leave(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             neomm_vaddr_t vaddr, bool dirty, const struct neomm_swap_entry *slot);
/* A frame whose set is empty leaves its policy and gives its slot back. */
void neomm__user_frame_end(struct neomm *root, struct neomm_space *space, neomm_frame_t frame);
/* The domain of a frame, whose only space is `space` if there is but one. */
struct neomm_policy *neomm__user_frame_policy(struct neomm *root, const struct neomm__frame *entry,
                                              struct neomm_space *space);
/* A page that was elsewhere in the space, at `from`, and has no leaf now, will be at `to`. */
void neomm__user_leaf_moves(struct neomm *root, struct neomm_space *space,
                            const struct neomm_mapping *leaf, neomm_vaddr_t from, neomm_vaddr_t to);
/* The frame that the leaf at vaddr leads to, if that is `paddr`, is held: NULL otherwise. */
struct neomm__frame *neomm__user_frame_hold(struct neomm *root, struct neomm_space *space,
                                            neomm_vaddr_t vaddr, neomm_paddr_t paddr);
/* Drops a reference. */
void neomm__user_frame_put(struct neomm *root, neomm_frame_t frame);
void neomm__user_frame_unpin(struct neomm *root, neomm_frame_t frame);
/* May the only leaf of the frame become writable? Nobody else has it, nor is it being copied. */
bool neomm__user_frame_is_exclusive(const struct neomm__frame *entry);
/* NEOMM_E_NOMEM: a frame above the direct map found no slot. */
neomm_status neomm__user_frame_copy(struct neomm *root, neomm_frame_t to, neomm_frame_t from);

/* A page of the space that was evicted to the slot is back, with the slot: tells its policy. */
void neomm__user_frame_refault(struct neomm *root, struct neomm_space *space,
                               const struct neomm_swap_entry *slot);

/* A neomm_leaf_fn, context a struct neomm__release: what unmapping leaves to do. Frames that have
 * lost their last leaf leave their domain together; the last ones at neomm__release_end. */
#define NEOMM__RELEASE_BATCH 32u
struct neomm__release {
    struct neomm *root;
    struct neomm_space *space;
    size_t leaves; /* that have gone and are still counted */
    uint32_t count;
    neomm_frame_t frame[NEOMM__RELEASE_BATCH];
};
static inline void neomm__release_begin(struct neomm__release *release, struct neomm *root,
                                        struct neomm_space *space)
{
    release->root = root;
    release->space = space;
    release->leaves = 0;
    release->count = 0;
}
void neomm__user_leaf_release(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf);
void neomm__release_end(struct neomm__release *release);

static inline void neomm__bump(size_t *count)
{
    (void)neomm__fetch_add(count, 1);
}

static inline bool neomm__at_limit(const size_t *pages, uint64_t bytes)
{
    return neomm__load_acquire(pages) >= bytes >> NEOMM_PAGE_SHIFT;
}

/* ---- newcomers.c ---- */

/* A page of the global domain has its first leaf: it will enter the domain soon. `cpu` is this
 * one; interrupts are masked. */
void neomm__newcomers_add(struct neomm *root, uint32_t cpu, neomm_frame_t frame);
/* All enter; the first and the second with the lock of the domains. The page is in its domain
 * afterwards. */
void neomm__newcomers_enter(struct neomm *root);
void neomm__newcomers_find(struct neomm *root, const struct neomm__frame *entry);
void neomm__newcomers_flush(struct neomm *root);

/* ---- evict.c ---- */

/* ---- oom.c ---- */

/* Memory ran out for somebody without locks. True: some was had from a victim, or by others since,
 * who had one; false: there is nobody to take it from, or it was not want of frames. */
bool neomm__out_of_memory(struct neomm *root);

static inline bool neomm__is_victim(const struct neomm_space *space)
{
    return neomm__load_acquire(&space->victim) != 0;
}

/* ---- reclaim.c ---- */

/* Evicts one page of the space, which is held or cannot go. Without locks. NEOMM_E_NOENT: nothing
 * to evict. */
neomm_status neomm__evict_one(struct neomm *root, struct neomm_space *space);
/* Does the space have a page that is neither locked nor pinned? Cost: its pages. Without locks. */
bool neomm__may_evict_one(struct neomm *root, struct neomm_space *space);
/* Evicts the page at vaddr of a space that is held, if there is one that no other space has, and
 * that can go now. Without locks. */
void neomm__evict_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr);

/* ---- watermark.c ---- */

/* Frees about `frames` frames, wherever they are. Called without locks. */
uint32_t neomm__reclaim(struct neomm *root, uint32_t frames);

/* A neomm_compact_fn, context the root. */
bool neomm__compact_callback(void *context, unsigned order, neomm_flags_t flags);

/* A neomm_reclaim_fn, context the root. */
uint32_t neomm__reclaim_callback(void *context, uint32_t frames, neomm_flags_t flags);
/* A neomm_low_fn, context the root. */
void neomm__low_callback(void *context);

/* ---- evict.c: waiting for a frame that is being evicted ---- */

/* Before frames are looked at; then, if they were busy, sleeps until an eviction has ended since,
 * or so many nanoseconds; 0: it does not. */
uint32_t neomm__evictions_wait_begin(struct neomm__vmm *vmm);
void neomm__evictions_wait_end(struct neomm__vmm *vmm, uint32_t ended, uint64_t timeout);

/* In the error code of a fault, beside those of the CPU: a read that must find a page of its own.
 */
#define NEOMM__PF_UNSHARE 0x10000u
/* What is in swap comes back whatever the rights are, and nothing else happens. */
#define NEOMM__PF_BRING 0x40000u
/* Who asked can be told that there is no memory, so nobody else loses his for it. */
#define NEOMM__PF_STATUS 0x20000u

/* ---- swapoff.c ---- */

/* A neomm__evacuate_fn. */
struct neomm__evacuation;
neomm_status neomm__evacuate(struct neomm *root, struct neomm__evacuation *evacuation);

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
