/* The consistency check of a space's tree of regions: each node, and what is kept of it elsewhere.
 * SPDX-License-Identifier: MIT */
#include "vmm/vmm_priv.h"

struct walk {
    const struct neomm__region_map *map;
    uint32_t space;
    struct neomm__report *report;
    uint32_t regions, nodes;
    const struct neomm__region_node *leaf; /* the last one */
    neomm_vaddr_t end;                     /* of the last region */
};

static void complain(const struct walk *walk, const struct neomm__region_node *node,
                     const char *what)
{
    neomm__report(walk->report, "vmm: space %u: node of level %u from %#zx: %s", walk->space,
                  node->level, (size_t)node->key[0], what);
}

static void check_region(struct walk *walk, const struct neomm__region_node *leaf, unsigned i)
{
    const struct neomm__region *region = leaf->child[i];
    if (region->floor != leaf->key[i] || region->end != leaf->value[i] ||
        region->floor > region->start || region->start >= region->end)
        complain(walk, leaf, "bounds differ from the region's");
    if (leaf->key[i] < walk->end)
        complain(walk, leaf, "regions overlap");
    if (neomm__load_relaxed(&region->users) != 0 || neomm__region_is_entered(region))
        neomm__report(walk->report, "vmm: space %u: region %#zx: users %#x", walk->space,
                      (size_t)region->start, region->users);
    walk->end = leaf->value[i];
    walk->regions++;
}

static void check_shape(struct walk *walk, const struct neomm__region_node *node)
{
    if ((node->count == 0 && walk->map->top != node) || node->count > NEOMM__REGION_FANOUT ||
        (node->version & 1) || node->dead)
        complain(walk, node, "empty, overfull or half changed");
    if (!node->parent && node->level > 0 && node->count < 2)
        complain(walk, node, "the top has one child");
    for (unsigned i = node->count; i < NEOMM__REGION_FANOUT; i++)
        if (node->key[i] != UINTPTR_MAX || node->child[i])
            complain(walk, node, "something behind the last entry");
}

static void check_leaf(struct walk *walk, const struct neomm__region_node *leaf)
{
    if (leaf->before != walk->leaf || (walk->leaf && walk->leaf->next != leaf))
        complain(walk, leaf, "leaves are not linked in order");
    walk->leaf = leaf;
    for (unsigned i = 0; i < leaf->count; i++)
        check_region(walk, leaf, i);
}

/* As deep as the tree. */
static void check_node(struct walk *walk, const struct neomm__region_node *node)
{
    walk->nodes++;
    check_shape(walk, node);
    if (node->level == 0) {
        check_leaf(walk, node);
        return;
    }
    for (unsigned i = 0; i < node->count; i++) {
        const struct neomm__region_node *child = node->child[i];
        if (child->parent != node || child->level + 1 != node->level)
            complain(walk, child, "not where its parent is");
        if (child->key[0] != node->key[i])
            complain(walk, child, "its parent has another key");
        check_node(walk, child);
        if (neomm__region_largest_gap(child) != node->value[i])
            complain(walk, child, "its parent has another largest gap");
    }
}

void neomm__region_map_fsck(const struct neomm__region_map *map, uint32_t space,
                            struct neomm__report *report)
{
    struct walk walk = {.map = map, .space = space, .report = report};
    if (map->top)
        check_node(&walk, map->top);
    if (walk.leaf && walk.leaf->next)
        complain(&walk, walk.leaf, "not the last leaf");
    if (walk.regions != map->count || walk.nodes != map->nodes ||
        map->height != (map->top ? map->top->level + 1u : 0))
        neomm__report(report,
                      "vmm: space %u: %u regions in %u nodes, counted are %u in %u, height %u",
                      space, walk.regions, walk.nodes, map->count, map->nodes, map->height);
}
