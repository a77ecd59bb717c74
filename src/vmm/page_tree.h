/* The pages of an object by their number: a radix tree of words, 0 where there is no page. The
 * object's lock guards it.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_PAGE_TREE_H
#define NEOMM_VMM_PAGE_TREE_H

#include "base/root.h"

struct neomm__page_node;

struct neomm__page_tree {
    struct neomm__page_node *top; /* NULL: empty */
    unsigned levels;
};

uint64_t neomm__page_get(const struct neomm__page_tree *tree, uint64_t page);

/* Sets a word that is not 0. NEOMM_E_NOMEM, which a page that has a word already does not meet. */
neomm_status neomm__page_set(struct neomm *root, struct neomm__page_tree *tree, uint64_t page,
                             uint64_t word);

/* Makes a word 0 and frees the nodes that are empty then. */
void neomm__page_clear(struct neomm *root, struct neomm__page_tree *tree, uint64_t page);

/* The first page from *page on that has a word, which comes back; 0: there is none. */
uint64_t neomm__page_next(const struct neomm__page_tree *tree, uint64_t *page);

#endif
