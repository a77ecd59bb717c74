/* Mapping sets: from a frame to everything that refers to it.
 * SPDX-License-Identifier: MIT
 *
 * A set holds words (neomm__mapping_make): a space and a page, or an object and a page of it. None
 * or one lies in the frame's descriptor; more in a table in kernel memory, found by hashing, whose
 * place is kept as a number, so that a dump can be read elsewhere:
 *
 *   mapping   0                             empty
 *             index << 44 | page            the one
 *             MANY | order | place          table of 2^order words, load at most 3/4
 *   mappings  the lock, how many there are, whether the frame was used, see
 *             neomm__frame_rejuvenate, and whether it was read ahead
 *
 * A set contains every leaf that leads to its frame: who maps a page adds to the set first, who
 * unmaps it removes from the set last. So whoever has the lock and finds an entry may rely on its
 * space to exist. Only frames that cannot be freed meanwhile are locked: the caller holds a
 * reference, or the lock of a table or of the domain that leads to the frame.
 */
#ifndef NEOMM_VMM_RMAP_H
#define NEOMM_VMM_RMAP_H

#include "base/root.h"

/* In `mappings`. */
#define NEOMM__RMAP_LOCK ((uint32_t)1 << 31)
/* The accessed bit of a leaf was cleared, but not for the frame's policy, which is to see it. */
#define NEOMM__RMAP_YOUNG ((uint32_t)1 << 30)
/* The page was read ahead and is not known to have been used, see readahead.h. */
#define NEOMM__RMAP_AHEAD ((uint32_t)1 << 29)
/* The frame is in the new one of two instances of its domain's policy, see policy_set.c. */
#define NEOMM__RMAP_MOVED ((uint32_t)1 << 28)
#define NEOMM__RMAP_COUNT (NEOMM__RMAP_MOVED - 1)
/* In an entry: the index is an object's. */
#define NEOMM__RMAP_OBJECT ((uint64_t)1 << 60)
/* The most entries of a set: three quarters of the largest table, which is one block of frames. */
#define NEOMM__RMAP_MOST ((uint32_t)3 << 17)

/* A set's table that is no more, for neomm__rmap_free. */
struct neomm__rmap_table {
    uint64_t *words; /* NULL: none */
    unsigned order;
};

/* Locks the frame: its set, and its slot (`owner` and NEOMM__FRAME_SLOT). Interrupts are masked. */
neomm_irq_t neomm__rmap_lock(struct neomm__frame *entry);
void neomm__rmap_unlock(struct neomm__frame *entry, neomm_irq_t irq);

/* Locks the frame and empties its set at once, if it has this one entry alone, nobody has the lock
 * and none of the flags is set. */
bool neomm__rmap_try_empty(struct neomm__frame *entry, uint64_t mapping, unsigned flags,
                           neomm_irq_t *irq);
/* Unlocks a frame whose set is empty. */
void neomm__rmap_unlock_empty(struct neomm__frame *entry, neomm_irq_t irq);

/* Waits while there are `count` entries, one of which somebody else is about to remove. */
static inline void neomm__rmap_wait(const struct neomm__frame *entry, uint32_t count)
{
    while ((neomm__load_relaxed(&entry->mappings) & NEOMM__RMAP_COUNT) == count)
        neomm__spin();
}

/* How many entries there are, with the lock or as it was at some moment. */
static inline uint32_t neomm__rmap_count(const struct neomm__frame *entry)
{
    return neomm__load_acquire(&entry->mappings) & NEOMM__RMAP_COUNT;
}

/* The frame was used, whatever its leaves say from now on. */
static inline void neomm__frame_rejuvenate(struct neomm__frame *entry)
{
    (void)neomm__fetch_or(&entry->mappings, NEOMM__RMAP_YOUNG);
}

static inline bool neomm__frame_is_young(const struct neomm__frame *entry)
{
    return (neomm__load_relaxed(&entry->mappings) & NEOMM__RMAP_YOUNG) != 0;
}

/* Was it, since this was asked last? */
static inline bool neomm__frame_age(struct neomm__frame *entry)
{
    return neomm__frame_is_young(entry) &&
           (neomm__fetch_and(&entry->mappings, ~NEOMM__RMAP_YOUNG) & NEOMM__RMAP_YOUNG);
}

/* Its page was read ahead, see readahead.h; and has it been, until now? */
static inline void neomm__frame_mark_ahead(struct neomm__frame *entry)
{
    (void)neomm__fetch_or(&entry->mappings, NEOMM__RMAP_AHEAD);
}

static inline bool neomm__frame_was_ahead(const struct neomm__frame *entry)
{
    return (neomm__load_relaxed(&entry->mappings) & NEOMM__RMAP_AHEAD) != 0;
}

static inline bool neomm__frame_unmark_ahead(struct neomm__frame *entry)
{
    return neomm__frame_was_ahead(entry) &&
           (neomm__fetch_and(&entry->mappings, ~NEOMM__RMAP_AHEAD) & NEOMM__RMAP_AHEAD);
}

/* The frame is nobody's any more. */
static inline void neomm__frame_forget(struct neomm__frame *entry)
{
    const uint32_t marks = NEOMM__RMAP_YOUNG | NEOMM__RMAP_AHEAD | NEOMM__RMAP_MOVED;
    if (neomm__load_relaxed(&entry->mappings) & marks)
        (void)neomm__fetch_and(&entry->mappings, ~marks);
}

/* Adds an entry. NEOMM_E_EXISTS: it is there; NEOMM_E_NOMEM, NEOMM_E_LIMIT; nothing has changed
 * then. Takes the lock. Cost: expected constant; what a table's growth costs is shared by those
 * that fill it.
 */
neomm_status neomm__rmap_add(struct neomm *root, struct neomm__frame *entry, uint64_t mapping);

/* The same, if there are others: NEOMM_E_NOENT, the set is empty. */
neomm_status neomm__rmap_join(struct neomm *root, struct neomm__frame *entry, uint64_t mapping);

/* The rest: with the lock. */

bool neomm__rmap_has(const struct neomm *root, const struct neomm__frame *entry, uint64_t mapping);

/* Removes an entry that is in the set. What it returns is freed without the lock. */
struct neomm__rmap_table neomm__rmap_remove(struct neomm *root, struct neomm__frame *entry,
                                            uint64_t mapping);
void neomm__rmap_free(struct neomm *root, struct neomm__rmap_table table);

/* Another entry, which is not in the set, takes the place of one that is. */
void neomm__rmap_replace(struct neomm *root, struct neomm__frame *entry, uint64_t mapping,
                         uint64_t by);

/* An entry at or behind *position, which starts at 0 and is moved on; false: there are no more.
 * While others add and remove, one may be passed over or come twice. */
bool neomm__rmap_next(const struct neomm *root, const struct neomm__frame *entry,
                      uint32_t *position, uint64_t *mapping);

/* What is wrong with the set, NULL: nothing. Without the lock, quiescent. */
const char *neomm__rmap_fsck(const struct neomm *root, const struct neomm__frame *entry);

#endif
