/* The regions of a space, ordered in a B+tree that is searched without a lock.
 * SPDX-License-Identifier: MIT
 *
 *   map->top -> inner node   key[]   first key below        value[]  largest gap below
 *                 |          child[] nodes
 *                 v
 *               leaf <-> leaf <-> leaf
 *                 key[]   floor of a region: addresses from there on are kept free for it
 *                 value[] its end
 *                 child[] the region
 *
 * One task at a time changes the map, with the space's lock. Whoever searches without it does so
 * inside an epoch: each node has a version that is odd while the node is being changed, and stays
 * odd once the node is out of the tree; a search that sees a version change begins again. Nodes and
 * regions that are taken out wait in limbo until no search can still see them. What an operation
 * needs is reserved before it changes anything.
 *
 * Sources: V. Leis, F. Scheibner, A. Kemper, T. Neumann, "The ART of Practical Synchronization"
 * (DaMoN 2016): optimistic lock coupling. Gaps in inner nodes: the maple tree of Linux.
 */
#ifndef NEOMM_VMM_REGION_TREE_H
#define NEOMM_VMM_REGION_TREE_H

#include "base/root.h"

#include <neomm/kmem.h>

#define NEOMM__REGION_FANOUT 32u

/* Flags of a region. */
#define NEOMM__REGION_STACK      0x001u /* grows down by faults */
#define NEOMM__REGION_LOCKED     0x002u /* its pages are never evicted */
#define NEOMM__REGION_HUGE       0x004u
#define NEOMM__REGION_NOHUGE     0x008u
#define NEOMM__REGION_SEQUENTIAL 0x010u
#define NEOMM__REGION_RANDOM     0x020u
#define NEOMM__REGION_PHYSICAL   0x040u /* leaves lead to memory that is not the space's */
#define NEOMM__REGION_NORESERVE  0x080u /* never in the commit account */
#define NEOMM__REGION_SHARED     0x100u
#define NEOMM__REGION_COMMITTED  0x200u /* in the commit account */

/* Bits of `users`, which also counts tasks inside. */
#define NEOMM__REGION_CLOSED 0x80000000u
#define NEOMM__REGION_DEAD   0x40000000u

/* Memory with the same rights. Changed only by who holds the space's lock and has closed it. */
struct neomm__region {
    neomm_vaddr_t start, end; /* page aligned, [start, end) */
    neomm_vaddr_t floor;      /* addresses from here on are not given to others by themselves */
    neomm_prot_t prot;
    uint32_t flags;
    uint32_t users;             /* see region_enter.c */
    uint32_t object;            /* which it has a reference of; 0: none */
    uint64_t offset;            /* page of the object, or physical page, at `start` */
    struct neomm__region *next; /* while it is spare or in limbo */
    struct neomm__region_map *map;
};

struct neomm__region_node {
    uint32_t version; /* odd: being changed, or out of the tree */
    uint16_t count;
    uint8_t level; /* 0: a leaf */
    bool dead;
    struct neomm__region_node *parent;
    struct neomm__region_node *before, *next; /* leaves; next also while spare or in limbo */
    struct neomm__region_node *touched;
    /* ascending; behind the last: the highest number. A group of eight is a line of the cache. */
    neomm_vaddr_t key[NEOMM__REGION_FANOUT] __attribute__((aligned(64)));
    neomm_vaddr_t value[NEOMM__REGION_FANOUT];
    void *child[NEOMM__REGION_FANOUT];
} __attribute__((aligned(64)));

/* What waits for searches that may still see it. */
struct neomm__region_limbo {
    struct neomm__region *regions;
    struct neomm__region_node *nodes;
    uint32_t count;
    uint32_t epoch; /* that has to pass */
};

struct neomm__region_map {
    /* whose objects the regions refer to, and whose CPUs enter them; NULL: there are none */
    struct neomm *root;
    struct neomm__region_node *top; /* NULL: empty */
    uint32_t count, nodes, height;
    uint32_t spare_regions, spare_nodes;
    struct neomm__region *spare_region;
    struct neomm__region_node *spare_node;
    struct neomm__region_node *touched; /* odd until the change is complete */
    neomm_irq_t irq;
    struct neomm__region_limbo open, closed; /* still collecting; waiting */
    struct neomm_cpumask visitors;           /* CPUs that were in a region */
    uint32_t closers, exits; /* tasks that wait; a futex, moves while there are any */
};

/* A place in the map. */
struct neomm__region_place {
    struct neomm__region_node *leaf; /* NULL: behind the last region */
    unsigned index;
};

/* A request for a free range. */
struct neomm__region_request {
    neomm_vaddr_t low, high; /* the range lies in [low, high) */
    neomm_vaddr_t size;      /* bytes, pages, not 0 */
    neomm_vaddr_t align;     /* a power of two, a page at least */
    bool downwards;          /* the highest that fits, else the lowest */
};

/* ---- region_tree.c: one task at a time ---- */

/* Room for `regions` further entries, so that as many insertions cannot fail. NEOMM_E_NOMEM. */
neomm_status neomm__regions_reserve(struct neomm *root, struct neomm__region_map *map,
                                    uint32_t regions);
/* A reserved region, zeroed but for its links. */
struct neomm__region *neomm__region_take(struct neomm__region_map *map);
/* One that was not used goes back to the reserved ones. */
void neomm__region_untake(struct neomm__region_map *map, struct neomm__region *region);
/* Where the first region is that ends above vaddr. */
struct neomm__region_place neomm__region_place(const struct neomm__region_map *map,
                                               neomm_vaddr_t vaddr);
/* The region there, NULL: none; and that one's neighbours in order. */
struct neomm__region *neomm__region_at(struct neomm__region_place place);
struct neomm__region *neomm__region_next(struct neomm__region_place *place);
struct neomm__region *neomm__region_before(const struct neomm__region_map *map,
                                           struct neomm__region_place place);
/* Enters a region whose range, from the floor on, is free, before the place that
 * neomm__region_place gave for its start; needs room for one. */
void neomm__region_tree_insert(struct neomm__region_map *map, struct neomm__region *region,
                               struct neomm__region_place place);
/* Takes the region there out and puts it in limbo. */
void neomm__region_tree_remove(struct neomm__region_map *map, struct neomm__region_place place);
/* Moves the bounds of a region in the map; they reach no neighbour. Nobody is inside. */
void neomm__region_tree_move(struct neomm__region_map *map, struct neomm__region *region,
                             neomm_vaddr_t floor, neomm_vaddr_t start, neomm_vaddr_t end);
/* Changes rights and flags. Nobody is inside. */
void neomm__region_tree_change(struct neomm__region_map *map, struct neomm__region *region,
                               neomm_prot_t prot, uint32_t flags);
/* Frees what no search can see any more. */
void neomm__regions_collect(struct neomm *root, struct neomm__region_map *map);
/* Empties the map and frees all, also what is reserved. Nobody searches it, or will. */
void neomm__regions_free(struct neomm *root, struct neomm__region_map *map);

/* ---- region_gap.c ---- */

/* The place of a free range; false: there is none. Cost: the log of the regions, and the gaps that
 * are large enough but for the alignment. */
bool neomm__region_gap(const struct neomm__region_map *map,
                       const struct neomm__region_request *request, neomm_vaddr_t *found);

/* ---- without the lock, inside an epoch ---- */

/* What a search found, and where: as long as the leaf has this version the region has not changed.
 * The region is good to be looked at until the epoch is left. */
struct neomm__region_sight {
    struct neomm__region *region; /* that has the address between its floor and its end, or NULL */
    const struct neomm__region_node *leaf; /* NULL: the map is empty */
    uint32_t version;
};

/* `false`: a change was in the way, search again. */
bool neomm__region_search(const struct neomm__region_map *map, neomm_vaddr_t vaddr,
                          struct neomm__region_sight *sight);
static inline bool neomm__region_unchanged(const struct neomm__region_sight *sight)
{
    return !sight->leaf || neomm__load_acquire(&sight->leaf->version) == sight->version;
}

/* Entries of the node whose key is at most vaddr: in one group of eight, after the first keys of
 * the groups. */
static inline unsigned neomm__region_slot(const struct neomm__region_node *node,
                                          neomm_vaddr_t vaddr)
{
    unsigned group = 0, below = 0;
    for (unsigned i = 8; i < NEOMM__REGION_FANOUT; i += 8)
        group += neomm__peek(&node->key[i]) <= vaddr;
    const neomm_vaddr_t *key = &node->key[group * 8];
    for (unsigned i = 0; i < 8; i++)
        below += neomm__peek(&key[i]) <= vaddr;
    return group * 8 + below;
}

/* The largest gap below a node, counted from the end of the region before. */
neomm_vaddr_t neomm__region_largest_gap(const struct neomm__region_node *node);

/* ---- region_check.c ---- */
void neomm__region_map_fsck(const struct neomm__region_map *map, uint32_t space,
                            struct neomm__report *report);

#endif
