/* The one place that writes page-table entries; compiled for one format (see arch/entry.h).
 * SPDX-License-Identifier: MIT
 *
 * The tables' lock keeps other CPUs' software away. The MMUs do not know it: they may set A and D
 * of a present entry at any moment, so such an entry is only ever exchanged as a whole, and what
 * was there comes back. On i386 a 64-bit entry is exchanged by CMPXCHG8B, which the MMU cannot
 * see half done.
 */

/* Present-ness and address of an entry change under the lock only, so the two halves of a wide
 * one agree even if they are read one by one. */
static inline entry_t entry_load(const entry_t *entry)
{
#if FORMAT_WIDE
    return *(const volatile entry_t *)entry;
#else
    return neomm__load_relaxed(entry);
#endif
}

/* Writes `after` if the entry still is `before`; else what it is comes back. */
static inline bool entry_cas(entry_t *entry, neomm_paddr_t place, entry_t *before, entry_t after)
{
    entry_t expected = *before;
#if FORMAT_WIDE
    *before = neomm__cas64(entry, expected, after);
    bool done = *before == expected;
#else
    bool done = neomm__cas(entry, before, after);
#endif
    if (done)
        NEOMM__ENTRY_STORED(place, expected, after);
    return done;
}

/* Writes `after`; what was there comes back. */
static inline entry_t entry_exchange(entry_t *entry, neomm_paddr_t place, entry_t after)
{
#if FORMAT_WIDE
    entry_t before = entry_load(entry);
    while (!entry_cas(entry, place, &before, after))
        ;
#else
    entry_t before = neomm__exchange(entry, after);
    NEOMM__ENTRY_STORED(place, before, after);
#endif
    return before;
}

/* Writes an entry that was zero, so that no MMU could have it. */
static inline void entry_fill(entry_t *entry, neomm_paddr_t place, entry_t after)
{
#if FORMAT_WIDE
    (void)entry_exchange(entry, place, after);
#else
    neomm__store_release(entry, after);
    NEOMM__ENTRY_STORED(place, 0, after);
#endif
}
