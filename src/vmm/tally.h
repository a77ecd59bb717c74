/* Counts of a space that faults change: each CPU has its own, on a line of its own, which it
 * changes with interrupts masked and without a locked instruction. Their sum is the count; as one
 * CPU may count what comes and another what goes, a part alone says nothing.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_TALLY_H
#define NEOMM_VMM_TALLY_H

#include "vmm/vmm_priv.h"

/* Adds to one of this CPU's counts, with interrupts masked. */
static inline void neomm__tally_add(size_t *count, size_t n)
{
    neomm__store_relaxed(count, neomm__load_relaxed(count) + n);
}

/* All parts together, as they were at some moment each. */
struct neomm__tally neomm__tally_sum(const struct neomm *root, const struct neomm_space *space);

/* Pages of the space that have a leaf: more (modulo a machine word), and how many there are, while
 * CPUs count more or less. */
void neomm__resident_add(struct neomm_space *space, size_t n);
size_t neomm__resident(const struct neomm *root, const struct neomm_space *space);

static inline bool neomm__resident_at_limit(const struct neomm *root,
                                            const struct neomm_space *space)
{
    uint64_t limit = space->limits.resident_bytes;
    return limit != NEOMM_UNLIMITED && neomm__resident(root, space) >= limit >> NEOMM_PAGE_SHIFT;
}

#endif
