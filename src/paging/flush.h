/* Invalidation of translations: gathered by an operation, done in one go.
 * SPDX-License-Identifier: MIT
 *
 * neomm__flush is the one place that invalidates, but for the load of other tables on a CPU
 * (SWITCH) and the slots, which belong to one CPU.
 */
#ifndef NEOMM_PAGING_FLUSH_H
#define NEOMM_PAGING_FLUSH_H

#include "base/root.h"

#include <neomm/paging.h>

struct neomm__flush {
    uint32_t most;  /* the root's threshold: more pages than these are not worth it one by one */
    uint32_t count; /* most + 1: everything */
    bool tables;    /* a table is gone, too */
    neomm_vaddr_t page[NEOMM_FLUSH_PAGES_MAX];
};

static inline bool neomm__flush_is_full(const struct neomm__flush *flush)
{
    return flush->count > flush->most;
}

/* The translation of the leaf at vaddr is due. One instruction forgets a leaf of any size, and
 * with it all paging-structure caches (SDM 3A 4.10.4.1). */
static inline void neomm__flush_add(struct neomm__flush *flush, neomm_vaddr_t vaddr)
{
    if (flush->count < flush->most)
        flush->page[flush->count] = vaddr;
    if (!neomm__flush_is_full(flush))
        flush->count++;
}

/* The same for `pages` pages from vaddr on. */
static inline void neomm__flush_add_pages(struct neomm__flush *flush, neomm_vaddr_t vaddr,
                                          size_t pages)
{
    for (; pages > 0 && !neomm__flush_is_full(flush); pages--, vaddr += NEOMM_PAGE_SIZE)
        neomm__flush_add(flush, vaddr);
}

/* Invalidates what was gathered on every CPU that can hold it, and empties the batch. The
 * tables' lock is held. */
void neomm__flush(struct neomm *root, struct neomm_tables *tables, struct neomm__flush *flush,
                  enum neomm_flush_site site);

/* One page, on this CPU alone. */
void neomm__flush_here(struct neomm *root, neomm_vaddr_t vaddr, enum neomm_flush_site site);

#endif
