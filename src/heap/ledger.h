/* What is known of each object of a cache that is HARDENED, or whose call sites are tracked.
 * SPDX-License-Identifier: MIT
 *
 * A slab of such a cache has a ledger, an entry for each object. Who changes an object's state from
 * LIVE to another has freed it; of two that try, one only. Entries change under the lock of the
 * cache: a CPU that goes the way of before may come to one while it is begun anew.
 *
 * The cache changes under its lock, and whoever takes an object there says how he thinks it works,
 * so that no object is handed out without its entry. One may be freed so by a CPU that still goes
 * the old way: it is LIVE here and free in its slab, and becomes LIVE when it is handed out again.
 */
#ifndef NEOMM_HEAP_LEDGER_H
#define NEOMM_HEAP_LEDGER_H

#include "magazine.h"

enum neomm__entry_state {
    NEOMM__ENTRY_FREE, /* with contents unknown */
    NEOMM__ENTRY_LIVE,
    NEOMM__ENTRY_QUARANTINED,
    NEOMM__ENTRY_CLEAN,  /* free, and filled with zeros */
    NEOMM__ENTRY_RETIRED /* damaged, never used again */
};

struct neomm__ledger {
    uintptr_t allocated_by, freed_by;
    uint64_t born;      /* ns, while tracked */
    uint32_t requested; /* bytes, 0: not known */
    uint16_t tracked;   /* the generation of neomm__sites that counted it, 0: none */
    uint8_t state;      /* enum neomm__entry_state */
    bool canary;        /* lies behind the requested bytes */
};

/* NULL: the cache is being changed, and has not come to this slab. */
static inline struct neomm__ledger *neomm__ledger_entry(const struct neomm__heap_place *place)
{
    uint32_t epoch = neomm__load_acquire(&place->slab->epoch);
    struct neomm__ledger *ledger = neomm__load_relaxed(&place->slab->ledger);
    return ledger && epoch == neomm__load_relaxed(&place->cache->epoch) ? &ledger[place->index]
                                                                        : NULL;
}

static inline size_t neomm__ledger_bytes(const struct neomm_kmem *cache)
{
    return cache->objects * sizeof(struct neomm__ledger);
}

/* Small ledgers are records, others blocks of frames. */
static inline bool neomm__ledger_is_record(const struct neomm_kmem *cache)
{
    return neomm__ledger_bytes(cache) <= NEOMM__RECORD_LARGE_BYTES;
}

/* Slabs in one of the cache's lists, at this moment. */
static inline uint32_t neomm__slabs_listed(struct neomm_kmem *cache,
                                           const struct neomm__frame_list *list)
{
    neomm_irq_t irq = neomm__lock(&cache->lock);
    uint32_t count = list->count;
    neomm__unlock(&cache->lock, irq);
    return count;
}

/* ---- ledger.c ---- */

/* The ledger says of the slab's objects what its bitmap does from here on; under the lock of the
 * cache, or before anybody sees the slab. */
void neomm__ledger_begin(struct neomm *root, struct neomm__slab *slab,
                         struct neomm__ledger *ledger);
/* What an entry says of an object that is taken now: `canary` if it gets one. */
struct neomm__ledger neomm__ledger_birth(const struct neomm *root, size_t size, bool canary,
                                         uintptr_t caller);
/* Under the lock: makes the entry of an object that was just taken. *was: see
 * neomm__ledger_close. False: it has none yet. */
bool neomm__ledger_open(const struct neomm__heap_place *place, const struct neomm__ledger *birth,
                        struct neomm__ledger *was);
/* Under the lock: an entry becomes another. */
void neomm__ledger_set(struct neomm__ledger *entry, const struct neomm__ledger *value);
/* Counts it at its site. */
void neomm__ledger_count(struct neomm *root, const struct neomm__ledger *birth);
/* Ends its life; NEOMM_E_DOUBLE_FREE. `state`: what it is from now on. *was: the entry before, of
 * zeros if it has none. */
neomm_status neomm__ledger_close(struct neomm *root, const struct neomm__heap_place *place,
                                 enum neomm__entry_state state, uintptr_t caller,
                                 struct neomm__ledger *was);
/* Its two parts: the first under the lock, the second, after the first said OK, without. */
neomm_status neomm__ledger_close_locked(const struct neomm__heap_place *place,
                                        enum neomm__entry_state state, uintptr_t caller,
                                        struct neomm__ledger *was);
void neomm__ledger_uncount(struct neomm *root, const struct neomm__ledger *was);
void neomm__ledger_describe(struct neomm *root, const struct neomm__heap_place *place,
                            struct neomm_heap_report *report);
/* Puts an object back into its slab. */
neomm_status neomm__ledger_put(struct neomm *root, struct neomm_kmem *cache, void *object);
/* Changes how a cache works, while it is in use; ledgers come, or stay unused. What is live keeps
 * living. NEOMM_E_NOMEM, NEOMM_E_BUSY: as it was. */
neomm_status neomm__ledger_change(struct neomm *root, struct neomm_kmem *cache,
                                  const struct neomm__kmem_ops *ops);

/* For other caches' operations. */
struct neomm__ledger *neomm__ledger_alloc(struct neomm *root, const struct neomm_kmem *cache,
                                          neomm_flags_t flags);
void neomm__ledger_free(struct neomm *root, const struct neomm_kmem *cache,
                        struct neomm__ledger *ledger);

/* The way of a cache whose sites alone are tracked. */
extern const struct neomm__kmem_ops neomm__tracked_ops;

#endif
