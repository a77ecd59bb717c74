/* The B+tree of regions: searching, inserting, removing, and the memory of it all.
 * SPDX-License-Identifier: MIT
 *
 * Invariants, but while a change runs: the key of a child is its own first key; the value of a
 * child is its largest gap, where the gap before a region begins at the end of the region before
 * it, in whichever leaf that is; no node is empty but a leaf that is the top, and a top that is
 * none has two children at least. A leaf that loses regions is joined with a neighbour when both
 * together fill three quarters of a node at most.
 */
#include "base/epoch.h"
#include "vmm/vmm_priv.h"

#define FANOUT      NEOMM__REGION_FANOUT
#define NO_KEY      UINTPTR_MAX
#define JOIN_MAX    (FANOUT * 3 / 4)
#define LIMBO_BATCH 32u

/* ---- memory ---- */

static struct neomm__region *new_region(struct neomm *root)
{
    if (NEOMM__FAULT(VMM_REGION))
        return NULL;
    return neomm_kmem_alloc(root, root->vmm->region_cache, NEOMM_NORECLAIM);
}

static struct neomm__region_node *new_node(struct neomm *root)
{
    if (NEOMM__FAULT(VMM_REGION))
        return NULL;
    return neomm_kmem_alloc(root, root->vmm->node_cache, NEOMM_NORECLAIM);
}

static bool add_spares(struct neomm *root, struct neomm__region_map *map, uint32_t regions,
                       uint32_t nodes)
{
    for (; map->spare_regions < regions; map->spare_regions++) {
        struct neomm__region *region = new_region(root);
        if (!region)
            return false;
        region->next = map->spare_region;
        map->spare_region = region;
    }
    for (; map->spare_nodes < nodes; map->spare_nodes++) {
        struct neomm__region_node *node = new_node(root);
        if (!node)
            return false;
        node->next = map->spare_node;
        map->spare_node = node;
    }
    return true;
}

static void free_limbo(struct neomm *root, struct neomm__region_limbo *limbo)
{
    while (limbo->regions) {
        struct neomm__region *region = limbo->regions;
        limbo->regions = region->next;
        (void)neomm_kmem_free(root, root->vmm->region_cache, region);
    }
    while (limbo->nodes) {
        struct neomm__region_node *node = limbo->nodes;
        limbo->nodes = node->next;
        (void)neomm_kmem_free(root, root->vmm->node_cache, node);
    }
    limbo->count = 0;
}

neomm_status neomm__regions_reserve(struct neomm *root, struct neomm__region_map *map,
                                    uint32_t regions)
{
    uint32_t nodes = regions * (map->height + 1);
    if (add_spares(root, map, regions, nodes))
        return NEOMM_OK;
    if (map->open.count + map->closed.count == 0)
        return NEOMM_E_NOMEM;
    neomm__epoch_synchronise(root);
    free_limbo(root, &map->closed);
    free_limbo(root, &map->open);
    return add_spares(root, map, regions, nodes) ? NEOMM_OK : NEOMM_E_NOMEM;
}

struct neomm__region *neomm__region_take(struct neomm__region_map *map)
{
    struct neomm__region *region = map->spare_region;
    NEOMM__ASSERT(region);
    map->spare_region = region->next;
    map->spare_regions--;
    *region = (struct neomm__region){.map = map};
    return region;
}

void neomm__region_untake(struct neomm__region_map *map, struct neomm__region *region)
{
    region->next = map->spare_region;
    map->spare_region = region;
    map->spare_regions++;
}

static struct neomm__region_node *take_node(struct neomm__region_map *map, unsigned level)
{
    struct neomm__region_node *node = map->spare_node;
    NEOMM__ASSERT(node);
    map->spare_node = node->next;
    map->spare_nodes--;
    map->nodes++;
    *node = (struct neomm__region_node){.level = (uint8_t)level};
    for (unsigned i = 0; i < FANOUT; i++)
        node->key[i] = NO_KEY;
    return node;
}

void neomm__regions_collect(struct neomm *root, struct neomm__region_map *map)
{
    if (map->closed.count != 0 && neomm__epoch_passed(root, map->closed.epoch))
        free_limbo(root, &map->closed);
    if (map->closed.count == 0 && map->open.count >= LIMBO_BATCH) {
        map->closed = map->open;
        map->open = (struct neomm__region_limbo){0};
        map->closed.epoch = neomm__epoch_advance(root);
    }
}

void neomm__regions_free(struct neomm *root, struct neomm__region_map *map)
{
    struct neomm__region_place place;
    while ((place = neomm__region_place(map, 0)).leaf)
        neomm__region_tree_remove(map, place);
    neomm__epoch_synchronise(root);
    free_limbo(root, &map->open);
    free_limbo(root, &map->closed);
    struct neomm__region_limbo rest = {map->spare_region, map->spare_node, 0, 0};
    free_limbo(root, &rest);
    if (map->top)
        (void)neomm_kmem_free(root, root->vmm->node_cache, map->top);
    *map = (struct neomm__region_map){0};
}

/* ---- changing nodes under searches ---- */

/* Interrupts are masked from the first touch to the end of the change: a search on this CPU would
 * wait for it. */
static void touch(struct neomm__region_map *map, struct neomm__region_node *node)
{
    if (node->version & 1)
        return;
    if (!map->touched)
        map->irq = neomm_port_irq_save();
    neomm__store_release(&node->version, node->version + 1);
    node->touched = map->touched;
    map->touched = node;
}

static void settle(struct neomm__region_map *map)
{
    if (!map->touched)
        return;
    while (map->touched) {
        struct neomm__region_node *node = map->touched;
        map->touched = node->touched;
        if (!node->dead)
            neomm__store_release(&node->version, node->version + 1);
    }
    neomm_port_irq_restore(map->irq);
}

static void put(struct neomm__region_node *node, unsigned i, neomm_vaddr_t key, neomm_vaddr_t value,
                void *child)
{
    neomm__poke(&node->key[i], key);
    neomm__poke(&node->value[i], value);
    neomm__poke(&node->child[i], child);
}

static void move_entry(struct neomm__region_node *to, unsigned t,
                       const struct neomm__region_node *from, unsigned f)
{
    put(to, t, from->key[f], from->value[f], from->child[f]);
    if (to != from && to->level > 0)
        ((struct neomm__region_node *)to->child[t])->parent = to;
}

static void open_entry(struct neomm__region_node *node, unsigned at)
{
    for (unsigned i = node->count; i > at; i--)
        move_entry(node, i, node, i - 1);
    node->count++;
}

static void close_entry(struct neomm__region_node *node, unsigned at)
{
    node->count--;
    for (unsigned i = at; i < node->count; i++)
        move_entry(node, i, node, i + 1);
    put(node, node->count, NO_KEY, 0, NULL);
}

static unsigned index_in(const struct neomm__region_node *parent,
                         const struct neomm__region_node *node)
{
    unsigned i = 0;
    while (parent->child[i] != node)
        i++;
    return i;
}

/* The same where the parent's key is the node's. */
static inline unsigned index_by_key(const struct neomm__region_node *parent,
                                    const struct neomm__region_node *node)
{
    return neomm__region_slot(parent, node->key[0]) - 1;
}

/* ---- keys and gaps upwards ---- */

neomm_vaddr_t neomm__region_largest_gap(const struct neomm__region_node *node)
{
    neomm_vaddr_t most = 0, end = 0;
    if (node->level == 0 && node->before)
        end = node->before->value[node->before->count - 1];
    for (unsigned i = 0; i < node->count; i++) {
        neomm_vaddr_t gap = node->level == 0 ? node->key[i] - end : node->value[i];
        most = gap > most ? gap : most;
        end = node->value[i];
    }
    return most;
}

/* The largest of some gaps below the node was `was` and is `is` now; the others are as before. Gaps
 * are not what searches look at. */
static void fix_gap(struct neomm__region_node *node, neomm_vaddr_t was, neomm_vaddr_t is)
{
    for (; node->parent; node = node->parent) {
        neomm_vaddr_t *value = &node->parent->value[index_by_key(node->parent, node)], old = *value;
        if (is < old && was < old)
            return;
        if (is < old)
            is = neomm__region_largest_gap(node);
        if (is == old)
            return;
        neomm__poke(value, is);
        was = old;
    }
}

/* The node's entries are others. */
static void fix_gaps(struct neomm__region_node *node)
{
    fix_gap(node, NO_KEY, neomm__region_largest_gap(node));
}

static neomm_vaddr_t gap_before(const struct neomm__region_node *leaf, unsigned i)
{
    const struct neomm__region_node *before = leaf->before;
    if (i > 0)
        return leaf->key[i] - leaf->value[i - 1];
    return leaf->key[0] - (before ? before->value[before->count - 1] : 0);
}

/* The gaps that a change at entry i has to do with: the largest of those in the leaf, and that in
 * front of the next. */
struct gaps {
    neomm_vaddr_t here, next;
};

static struct gaps gaps_around(const struct neomm__region_node *leaf, unsigned i, unsigned entries)
{
    struct gaps gaps = {0, 0};
    for (; entries > 0 && i < leaf->count; i++, entries--) {
        neomm_vaddr_t gap = gap_before(leaf, i);
        gaps.here = gap > gaps.here ? gap : gaps.here;
    }
    if (entries > 0 && leaf->next && leaf->count > 0)
        gaps.next = gap_before(leaf->next, 0);
    return gaps;
}

static void fix_gaps_around(struct neomm__region_node *leaf, struct gaps was, struct gaps is)
{
    fix_gap(leaf, was.here, is.here);
    if (leaf->next)
        fix_gap(leaf->next, was.next, is.next);
}

/* The node's first key has changed. */
static void fix_keys(struct neomm__region_map *map, struct neomm__region_node *node)
{
    for (unsigned i = 0; i == 0 && node->parent; node = node->parent) {
        i = index_in(node->parent, node);
        touch(map, node->parent);
        neomm__poke(&node->parent->key[i], node->key[0]);
    }
}

/* ---- finding ---- */

static struct neomm__region_node *leaf_for(const struct neomm__region_map *map, neomm_vaddr_t vaddr)
{
    struct neomm__region_node *node = map->top;
    while (node && node->level > 0) {
        unsigned slot = neomm__region_slot(node, vaddr);
        node = node->child[slot > 0 ? slot - 1 : 0];
    }
    return node;
}

static struct neomm__region_place settled_place(struct neomm__region_node *leaf, unsigned index)
{
    if (leaf && index == leaf->count)
        return (struct neomm__region_place){leaf->next, 0};
    return (struct neomm__region_place){leaf, index};
}

struct neomm__region_place neomm__region_place(const struct neomm__region_map *map,
                                               neomm_vaddr_t vaddr)
{
    struct neomm__region_node *leaf = leaf_for(map, vaddr);
    unsigned slot = leaf ? neomm__region_slot(leaf, vaddr) : 0;
    if (slot > 0 && leaf->value[slot - 1] > vaddr)
        slot--;
    return settled_place(leaf, slot);
}

struct neomm__region *neomm__region_at(struct neomm__region_place place)
{
    return place.leaf ? place.leaf->child[place.index] : NULL;
}

struct neomm__region *neomm__region_next(struct neomm__region_place *place)
{
    *place = settled_place(place->leaf, place->index + 1);
    return neomm__region_at(*place);
}

struct neomm__region *neomm__region_before(const struct neomm__region_map *map,
                                           struct neomm__region_place place)
{
    struct neomm__region_node *leaf = place.leaf;
    if (!leaf)
        leaf = leaf_for(map, NO_KEY - 1);
    else if (place.index > 0)
        return leaf->child[place.index - 1];
    else
        leaf = leaf->before;
    return leaf && leaf->count > 0 ? leaf->child[leaf->count - 1] : NULL;
}

/* ---- inserting ---- */

static void grow(struct neomm__region_map *map, struct neomm__region_node *first)
{
    struct neomm__region_node *top = take_node(map, first->level + 1u);
    put(top, 0, first->key[0], neomm__region_largest_gap(first), first);
    top->count = 1;
    first->parent = top;
    map->height++;
    neomm__store_release(&map->top, top);
}

/* A full node is parted in the middle; at an end of the tree so that what grows there, by one
 * region after the other, leaves full nodes behind. */
static unsigned part_at(unsigned at)
{
    return at == FANOUT ? FANOUT - 1 : at == 0 ? 1 : FANOUT / 2;
}

static void link_leaf(struct neomm__region_node *left, struct neomm__region_node *right)
{
    right->before = left;
    right->next = left->next;
    if (left->next)
        left->next->before = right;
    left->next = right;
}

/* The node, which has a parent with room, gives its upper part to a new one. */
static void split(struct neomm__region_map *map, struct neomm__region_node *node, unsigned at)
{
    struct neomm__region_node *right = take_node(map, node->level), *parent = node->parent;
    unsigned keep = part_at(at), index = index_by_key(parent, node);
    touch(map, node);
    touch(map, parent);
    for (unsigned i = keep; i < FANOUT; i++) {
        move_entry(right, i - keep, node, i);
        put(node, i, NO_KEY, 0, NULL);
    }
    right->count = (uint16_t)(FANOUT - keep);
    node->count = (uint16_t)keep;
    right->parent = parent;
    if (node->level == 0)
        link_leaf(node, right);
    open_entry(parent, index + 1);
    put(parent, index + 1, right->key[0], neomm__region_largest_gap(right), right);
    neomm__poke(&parent->value[index], neomm__region_largest_gap(node));
}

/* The node, or the part of it where entry `at` will be, gets room for one more. As deep as the
 * tree. */
static void make_room(struct neomm__region_map *map, struct neomm__region_node *node, unsigned at)
{
    if (node->count < FANOUT)
        return;
    if (!node->parent)
        grow(map, node);
    make_room(map, node->parent, index_by_key(node->parent, node) + 1);
    split(map, node, at);
}

static struct neomm__region_node *first_leaf(struct neomm__region_map *map)
{
    struct neomm__region_node *leaf = take_node(map, 0);
    map->height = 1;
    neomm__store_release(&map->top, leaf);
    return leaf;
}

/* Where to insert before `place`: rather at the end of a leaf than at the beginning of the next. */
static struct neomm__region_place place_to_insert(struct neomm__region_map *map,
                                                  struct neomm__region_place place)
{
    struct neomm__region_node *leaf = place.leaf;
    if (!map->top)
        return (struct neomm__region_place){first_leaf(map), 0};
    if (!leaf)
        leaf = leaf_for(map, NO_KEY - 1);
    else if (place.index == 0 && leaf->before)
        leaf = leaf->before;
    else
        return place;
    return (struct neomm__region_place){leaf, leaf->count};
}

void neomm__region_tree_insert(struct neomm__region_map *map, struct neomm__region *region,
                               struct neomm__region_place place)
{
    place = place_to_insert(map, place);
    if (place.leaf->count == FANOUT) {
        make_room(map, place.leaf, place.index);
        place.leaf = leaf_for(map, region->floor);
        place.index = neomm__region_slot(place.leaf, region->floor);
    }
    struct neomm__region_node *leaf = place.leaf;
    struct gaps was = gaps_around(leaf, place.index, 1);
    map->count++;
    touch(map, leaf);
    open_entry(leaf, place.index);
    put(leaf, place.index, region->floor, region->end, region);
    if (place.index == 0)
        fix_keys(map, leaf);
    fix_gaps_around(leaf, was, gaps_around(leaf, place.index, 2));
    settle(map);
}

/* ---- removing ---- */

static void retire(struct neomm__region_map *map, struct neomm__region_node *node)
{
    touch(map, node);
    node->dead = true;
    if (node->before)
        node->before->next = node->next;
    if (node->next)
        node->next->before = node->before;
    node->next = map->open.nodes;
    map->open.nodes = node;
    map->open.count++;
    map->nodes--;
}

/* A top with one child gives way to it. */
static void lower_top(struct neomm__region_map *map)
{
    while (map->top->level > 0 && map->top->count == 1) {
        struct neomm__region_node *old = map->top, *top = old->child[0];
        top->parent = NULL;
        map->height--;
        neomm__store_release(&map->top, top);
        retire(map, old);
    }
}

/* Takes an empty node out of its parent, and so on upwards. */
static void remove_node(struct neomm__region_map *map, struct neomm__region_node *node)
{
    struct neomm__region_node *parent = node->parent;
    unsigned index = index_in(parent, node);
    touch(map, parent);
    close_entry(parent, index);
    retire(map, node);
    if (parent->count == 0) {
        remove_node(map, parent);
        return;
    }
    if (index == 0)
        fix_keys(map, parent);
    fix_gaps(parent);
}

static bool join(struct neomm__region_map *map, struct neomm__region_node *left,
                 struct neomm__region_node *right)
{
    unsigned first = left->count;
    if (first + right->count > JOIN_MAX)
        return false;
    touch(map, left);
    touch(map, right);
    for (unsigned i = 0; i < right->count; i++)
        move_entry(left, first + i, right, i);
    left->count = (uint16_t)(first + right->count);
    right->count = 0;
    remove_node(map, right);
    fix_gaps(left);
    return true;
}

/* Joins a node that has become smaller with a neighbour, and so on upwards. */
static void join_upwards(struct neomm__region_map *map, struct neomm__region_node *node)
{
    for (struct neomm__region_node *parent; (parent = node->parent) != NULL; node = parent) {
        unsigned index = index_by_key(parent, node);
        if (!(index + 1 < parent->count && join(map, node, parent->child[index + 1])) &&
            !(index > 0 && join(map, parent->child[index - 1], node)))
            break;
    }
}

void neomm__region_tree_remove(struct neomm__region_map *map, struct neomm__region_place place)
{
    struct neomm__region_node *leaf = place.leaf, *next = leaf->next;
    struct neomm__region *region = leaf->child[place.index];
    struct gaps was = gaps_around(leaf, place.index, 2);
    touch(map, leaf);
    close_entry(leaf, place.index);
    map->count--;
    if (leaf->count > 0) {
        if (place.index == 0)
            fix_keys(map, leaf);
        fix_gaps_around(leaf, was, gaps_around(leaf, place.index, 1));
        join_upwards(map, leaf);
    } else if (leaf->parent) {
        remove_node(map, leaf);
        if (next)
            fix_gaps(next);
    }
    lower_top(map);
    settle(map);
    region->next = map->open.regions;
    map->open.regions = region;
    map->open.count++;
}

void neomm__region_tree_move(struct neomm__region_map *map, struct neomm__region *region,
                             neomm_vaddr_t floor, neomm_vaddr_t start, neomm_vaddr_t end)
{
    struct neomm__region_node *leaf = leaf_for(map, region->floor);
    unsigned at = neomm__region_slot(leaf, region->floor) - 1;
    NEOMM__ASSERT(leaf->child[at] == region);
    struct gaps was = gaps_around(leaf, at, 2);
    touch(map, leaf);
    neomm__poke(&leaf->key[at], floor);
    neomm__poke(&leaf->value[at], end);
    region->floor = floor;
    neomm__poke(&region->start, start);
    neomm__poke(&region->end, end);
    if (at == 0)
        fix_keys(map, leaf);
    fix_gaps_around(leaf, was, gaps_around(leaf, at, 2));
    settle(map);
}

void neomm__region_tree_change(struct neomm__region_map *map, struct neomm__region *region,
                               neomm_prot_t prot, uint32_t flags)
{
    touch(map, leaf_for(map, region->floor));
    neomm__poke(&region->prot, prot);
    neomm__poke(&region->flags, flags);
    settle(map);
}

/* ---- without the lock ---- */

/* A leaf is seldom in a cache: all of it is asked for at once. */
static inline void prefetch(const struct neomm__region_node *leaf)
{
    for (unsigned i = 0; i < sizeof(*leaf); i += 64)
        __builtin_prefetch((const uint8_t *)leaf + i);
}

/* The leaf that has vaddr, if it is in any, and its version. */
static bool descend(const struct neomm__region_map *map, neomm_vaddr_t vaddr,
                    struct neomm__region_sight *sight)
{
    const struct neomm__region_node *node = neomm__load_acquire(&map->top);
    sight->leaf = node;
    if (!node)
        return true;
    uint32_t version = neomm__load_acquire(&node->version);
    if ((version & 1) || neomm__peek(&map->top) != node)
        return false;
    while (node->level > 0) {
        unsigned slot = neomm__region_slot(node, vaddr);
        const struct neomm__region_node *child = neomm__peek(&node->child[slot > 0 ? slot - 1 : 0]);
        if (neomm__load_acquire(&node->version) != version)
            return false;
        if (node->level == 1)
            prefetch(child);
        uint32_t below = neomm__load_acquire(&child->version);
        if ((below & 1) || neomm__peek(&node->version) != version)
            return false;
        node = child;
        version = below;
    }
    sight->leaf = node;
    sight->version = version;
    return true;
}

bool neomm__region_search(const struct neomm__region_map *map, neomm_vaddr_t vaddr,
                          struct neomm__region_sight *sight)
{
    sight->region = NULL;
    if (!descend(map, vaddr, sight))
        return false;
    const struct neomm__region_node *leaf = sight->leaf;
    unsigned slot = leaf ? neomm__region_slot(leaf, vaddr) : 0;
    if (slot > 0 && neomm__peek(&leaf->value[slot - 1]) > vaddr)
        sight->region = neomm__peek(&leaf->child[slot - 1]);
    return neomm__region_unchanged(sight);
}
