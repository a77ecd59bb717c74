/* The radix tree of an object's pages.
 * SPDX-License-Identifier: MIT
 *
 * Nodes have 64 words: children above the lowest level, pages there. The tree is as high as its
 * last page asks for, and empty nodes go at once.
 */
#include "vmm/page_tree.h"

#include <neomm/heap.h>

#define SHIFT  6u
#define FANOUT ((uint64_t)1 << SHIFT)

struct neomm__page_node {
    uint64_t word[FANOUT];
    uint32_t used; /* words that are not 0 */
};

static struct neomm__page_node *child_of(uint64_t word)
{
    return (struct neomm__page_node *)(uintptr_t)word;
}

static unsigned slot_of(uint64_t page, unsigned level)
{
    return (unsigned)(page >> (level * SHIFT) & (FANOUT - 1));
}

/* Does the page fit under a tree with so many levels? */
static bool is_within(uint64_t page, unsigned levels)
{
    return levels * SHIFT >= 64 || page >> (levels * SHIFT) == 0;
}

uint64_t neomm__page_get(const struct neomm__page_tree *tree, uint64_t page)
{
    const struct neomm__page_node *node = tree->top;
    if (!node || !is_within(page, tree->levels))
        return 0;
    for (unsigned level = tree->levels - 1; level > 0 && node; level--)
        node = child_of(node->word[slot_of(page, level)]);
    return node ? node->word[slot_of(page, 0)] : 0;
}

/* ---- changing ---- */

static struct neomm__page_node *make_node(struct neomm *root)
{
    return NEOMM__FAULT(VMM_OBJECT)
               ? NULL
               : neomm_kzalloc(root, sizeof(struct neomm__page_node), NEOMM_NORECLAIM);
}

/* Empty nodes on the way to the page go, from below; then what the top does not need. */
static bool prune(struct neomm *root, struct neomm__page_node *node, uint64_t page, unsigned level)
{
    uint64_t *word = &node->word[slot_of(page, level)];
    if (level > 0 && *word != 0 && prune(root, child_of(*word), page, level - 1)) {
        *word = 0;
        node->used--;
    }
    if (node->used != 0)
        return false;
    (void)neomm_kfree(root, node);
    return true;
}

static void lower(struct neomm *root, struct neomm__page_tree *tree)
{
    while (tree->top && tree->levels > 1 && tree->top->used == 1 && tree->top->word[0] != 0) {
        struct neomm__page_node *old = tree->top;
        tree->top = child_of(old->word[0]);
        tree->levels--;
        (void)neomm_kfree(root, old);
    }
    if (!tree->top)
        tree->levels = 0;
}

static void trim(struct neomm *root, struct neomm__page_tree *tree, uint64_t page)
{
    if (tree->top && prune(root, tree->top, page, tree->levels - 1))
        tree->top = NULL;
    lower(root, tree);
}

static neomm_status heighten(struct neomm *root, struct neomm__page_tree *tree, uint64_t page)
{
    while (!tree->top || !is_within(page, tree->levels)) {
        struct neomm__page_node *node = make_node(root);
        if (!node)
            return NEOMM_E_NOMEM;
        if (tree->top) {
            node->word[0] = (uintptr_t)tree->top;
            node->used = 1;
        }
        tree->top = node;
        do
            tree->levels++;
        while (node->used == 0 && !is_within(page, tree->levels));
    }
    return NEOMM_OK;
}

static neomm_status set(struct neomm *root, struct neomm__page_tree *tree, uint64_t page,
                        uint64_t value)
{
    neomm_status status = heighten(root, tree, page);
    if (status != NEOMM_OK)
        return status;
    struct neomm__page_node *node = tree->top;
    for (unsigned level = tree->levels - 1; level > 0; level--) {
        uint64_t *word = &node->word[slot_of(page, level)];
        if (*word == 0) {
            struct neomm__page_node *child = make_node(root);
            if (!child)
                return NEOMM_E_NOMEM;
            *word = (uintptr_t)child;
            node->used++;
        }
        node = child_of(*word);
    }
    uint64_t *word = &node->word[slot_of(page, 0)];
    node->used += *word == 0;
    *word = value;
    return NEOMM_OK;
}

neomm_status neomm__page_set(struct neomm *root, struct neomm__page_tree *tree, uint64_t page,
                             uint64_t word)
{
    neomm_status status = set(root, tree, page, word);
    if (status != NEOMM_OK)
        trim(root, tree, page);
    return status;
}

void neomm__page_clear(struct neomm *root, struct neomm__page_tree *tree, uint64_t page)
{
    if (neomm__page_get(tree, page) == 0)
        return;
    struct neomm__page_node *node = tree->top;
    for (unsigned level = tree->levels - 1; level > 0; level--)
        node = child_of(node->word[slot_of(page, level)]);
    node->word[slot_of(page, 0)] = 0;
    node->used--;
    trim(root, tree, page);
}

/* ---- in order ---- */

/* Moves *page on to the first one there is, or behind what the node covers. */
static uint64_t next_below(const struct neomm__page_node *node, unsigned level, uint64_t *page)
{
    do {
        uint64_t word = node->word[slot_of(*page, level)];
        if (word != 0 && level > 0)
            word = next_below(child_of(word), level - 1, page);
        else if (word == 0)
            *page = ((*page >> (level * SHIFT)) + 1) << (level * SHIFT);
        if (word != 0)
            return word;
    } while (slot_of(*page, level) != 0);
    return 0;
}

uint64_t neomm__page_next(const struct neomm__page_tree *tree, uint64_t *page)
{
    if (!tree->top || !is_within(*page, tree->levels))
        return 0;
    return next_below(tree->top, tree->levels - 1, page);
}
