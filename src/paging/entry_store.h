/* The one place that writes page-table entries; compiled for one format (see arch/entry.h).
 * SPDX-License-Identifier: MIT
 *
 * The table's lock keeps other CPUs' software from writing. The MMUs do not know it: they may set
 * A and D of a present entry at any moment that has them clear, so such an entry is exchanged as
 * a whole, and what was there comes back. An entry that no MMU writes to (entry_is_still) is
 * simply stored, which costs a twentieth. On i386 a 64-bit entry is always exchanged, by CMPXCHG8B,
 * which neither the MMU nor a walk without locks can see half done.
 */

/* With the table's lock: present-ness and address of an entry change under it only, so the two
 * halves of a wide one agree even if they are read one by one. */
static inline entry_t entry_load(const entry_t *entry)
{
#if FORMAT_WIDE
    return *(const volatile entry_t *)entry;
#else
    return neomm__load_relaxed(entry);
#endif
}

/* Without it. What a table's entry leads to is seen as it was when it was linked. */
static inline entry_t entry_load_shared(const entry_t *entry)
{
#if FORMAT_WIDE
    return neomm__cas64((entry_t *)(uintptr_t)entry, 0, 0);
#else
    return neomm__load_acquire(entry);
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

/* Writes an entry that no MMU writes to: it is `before`. */
static inline void entry_store(entry_t *entry, neomm_paddr_t place, entry_t before, entry_t after)
{
#if FORMAT_WIDE
    (void)before;
    (void)entry_exchange(entry, place, after);
#else
    neomm__store_release(entry, after);
    NEOMM__ENTRY_STORED(place, before, after);
#endif
}

/* Writes an entry of a table that is not linked yet: nobody sees it. */
static inline void entry_make(entry_t *entry, neomm_paddr_t place, entry_t after)
{
#if FORMAT_WIDE
    *entry = after;
#else
    neomm__store_relaxed(entry, after);
#endif
    NEOMM__ENTRY_STORED(place, 0, after);
}

/* The same for `count` entries at once, which are to be what those at `like` are. */
static inline void entry_make_like(entry_t *entries, neomm_paddr_t place, const entry_t *like,
                                   unsigned count)
{
    memcpy(entries, like, count * sizeof(entry_t));
    for (unsigned i = 0; i < count; i++)
        NEOMM__ENTRY_STORED(place + i * sizeof(entry_t), 0, entries[i]);
}
