/* Free ranges between the regions of a space.
 * SPDX-License-Identifier: MIT
 *
 * A child is entered only if one of its gaps is large enough; that may fail at the two ends of the
 * range that is asked for, or for the alignment.
 */
#include "vmm/vmm_priv.h"

/* Is there room between `from` and `to`, and inside the range? */
static bool fits(const struct neomm__region_request *request, neomm_vaddr_t from, neomm_vaddr_t to,
                 neomm_vaddr_t *found)
{
    from = from > request->low ? from : request->low;
    to = to < request->high ? to : request->high;
    if (from >= to || to - from < request->size)
        return false;
    if (request->downwards) {
        *found = NEOMM__ALIGN_DOWN(to - request->size, request->align);
        return *found >= from;
    }
    *found = NEOMM__ALIGN_UP(from, request->align);
    return *found >= from && *found <= to - request->size;
}

static neomm_vaddr_t end_before(const struct neomm__region_node *leaf, unsigned i)
{
    if (i > 0)
        return leaf->value[i - 1];
    return leaf->before ? leaf->before->value[leaf->before->count - 1] : 0;
}

/* The gap before entry i of the node, or one below it. As deep as the tree. */
static bool below(const struct neomm__region_node *node, unsigned i,
                  const struct neomm__region_request *request, neomm_vaddr_t *found);

static bool upwards(const struct neomm__region_node *node,
                    const struct neomm__region_request *request, neomm_vaddr_t *found)
{
    unsigned first = neomm__region_slot(node, request->low);
    first -= first > 0;
    for (unsigned i = first; i < node->count; i++) {
        if (i > first && node->key[i - 1] >= request->high)
            break;
        if (below(node, i, request, found))
            return true;
    }
    return false;
}

static bool downwards(const struct neomm__region_node *node,
                      const struct neomm__region_request *request, neomm_vaddr_t *found)
{
    unsigned last = neomm__region_slot(node, request->high);
    last -= last == node->count;
    for (unsigned i = last + 1; i-- > 0;) {
        if (i < last && node->key[i + 1] <= request->low)
            break;
        if (below(node, i, request, found))
            return true;
    }
    return false;
}

static bool below(const struct neomm__region_node *node, unsigned i,
                  const struct neomm__region_request *request, neomm_vaddr_t *found)
{
    if (node->level == 0)
        return fits(request, end_before(node, i), node->key[i], found);
    if (node->value[i] < request->size)
        return false;
    const struct neomm__region_node *child = node->child[i];
    return request->downwards ? downwards(child, request, found) : upwards(child, request, found);
}

static neomm_vaddr_t last_end(const struct neomm__region_map *map)
{
    const struct neomm__region_node *node = map->top;
    while (node->level > 0)
        node = node->child[node->count - 1];
    return node->value[node->count - 1];
}

bool neomm__region_gap(const struct neomm__region_map *map,
                       const struct neomm__region_request *request, neomm_vaddr_t *found)
{
    if (map->count == 0)
        return fits(request, 0, request->high, found);
    neomm_vaddr_t end = last_end(map);
    if (request->downwards)
        return fits(request, end, request->high, found) || downwards(map->top, request, found);
    return upwards(map->top, request, found) || fits(request, end, request->high, found);
}
