/* HARDENED caches: random order, canaries, zeroed memory that is checked, quarantine.
 * SPDX-License-Identifier: MIT
 *
 *   live     | requested bytes | canary | ...      the canary's first byte is 0: it ends a string
 *   freed    | 0 0 0 0 0 0 0 0 0 0 0 0 0 0 |       checked when it is handed out again
 *
 *   kfree -> random place of the quarantine -> what was there -> FIFO -> what falls out -> slab
 */
#include "ledger.h"
#include "profile.h"

#include <neomm/pmm.h>

/* Bytes of a cache's objects that wait in either half of its quarantine, and objects. */
#define QUARANTINE_BYTES ((uint32_t)65536)
#define QUARANTINE_MOST  64u
#define QUARANTINE_LEAST 4u

struct neomm__quarantine {
    uint64_t random; /* state, under the lock of the cache */
    uint64_t secret;
    neomm_frame_t frame; /* where this lies */
    uint32_t length;     /* of either half */
    uint32_t oldest;
    void *slot[]; /* random half, FIFO half */
};

_Static_assert(sizeof(struct neomm__quarantine) + 2 * QUARANTINE_MOST * sizeof(void *) <=
                   NEOMM_PAGE_SIZE,
               "a quarantine is a frame");

/* ---- the quarantine ---- */

static uint64_t next_random(struct neomm__quarantine *quarantine)
{
    return neomm__mix(quarantine->random += 0x9e3779b97f4a7c15u);
}

/* A number below n, n up to 2^32. */
static uint32_t random_below(struct neomm__quarantine *quarantine, uint32_t n)
{
    return (uint32_t)((next_random(quarantine) >> 32) * n >> 32);
}

/* Under the lock: takes an object in; what leaves for it comes back, NULL: nothing. */
static void *exchange(struct neomm__quarantine *quarantine, void *object)
{
    uint32_t at = random_below(quarantine, quarantine->length);
    void *middle = quarantine->slot[at];
    quarantine->slot[at] = object;
    if (!middle)
        return NULL;
    void **oldest = &quarantine->slot[quarantine->length + quarantine->oldest];
    void *leaves = *oldest;
    *oldest = middle;
    if (++quarantine->oldest == quarantine->length)
        quarantine->oldest = 0;
    return leaves;
}

/* Under the lock: out of the quarantine, and free in its slab. False: it was free there, since it
 * had been freed a second time while its slab had no entries. */
static bool let_go(struct neomm *root, struct neomm_kmem *cache, const void *object,
                   struct neomm__frame_list *surplus)
{
    struct neomm__heap_place place;
    neomm__slab_place(root, object, &place);
    struct neomm__ledger *entry = neomm__ledger_entry(&place);
    if (entry)
        neomm__store_release(&entry->state, NEOMM__ENTRY_CLEAN);
    neomm__store_relaxed(&cache->held, cache->held - 1);
    return neomm__slab_put_one(root, cache, &place, surplus);
}

/* When the cache ends: until then a CPU may be on its way in, though it is not HARDENED by now. */
static void quarantine_end(struct neomm *root, struct neomm_kmem *cache)
{
    const struct neomm__quarantine *quarantine = cache->quarantine;
    cache->quarantine = NULL;
    cache->quarantine_end = NULL;
    neomm_frame_t frame = quarantine->frame;
    neomm__heap_give_frames(root, frame, 1);
}

static void quarantine_empty(struct neomm *root, struct neomm_kmem *cache)
{
    struct neomm__quarantine *quarantine = cache->quarantine;
    struct neomm__frame_list surplus = {0, 0, 0};
    for (uint32_t i = 0; i < 2 * quarantine->length; i++) {
        neomm_irq_t irq = neomm__lock(&cache->lock);
        void *object = quarantine->slot[i];
        bool gone = !object || let_go(root, cache, object, &surplus);
        quarantine->slot[i] = NULL;
        neomm__unlock(&cache->lock, irq);
        if (!gone)
            (void)neomm__heap_refuse(root, "kfree", object, NEOMM_E_DOUBLE_FREE);
    }
    (void)neomm__slabs_end(root, &surplus);
}

neomm_status neomm__quarantine_make(struct neomm *root, struct neomm_kmem *cache)
{
    uint32_t length = QUARANTINE_BYTES / cache->size;
    neomm_frame_t frame;
    if (cache->quarantine)
        return NEOMM_OK;
    if (NEOMM__FAULT(HEAP_STATE) || neomm_pmm_alloc(root, 0, NEOMM_ZERO, &frame) != NEOMM_OK)
        return NEOMM_E_NOMEM;
    neomm__heap_set_kind(root, frame, 1, NEOMM__KIND_STATE);
    struct neomm__quarantine *quarantine = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    quarantine->frame = frame;
    quarantine->random = neomm_port_entropy();
    quarantine->secret = neomm_port_entropy();
    quarantine->length = length > QUARANTINE_MOST    ? QUARANTINE_MOST
                         : length < QUARANTINE_LEAST ? QUARANTINE_LEAST
                                                     : length;
    cache->quarantine = quarantine;
    cache->quarantine_end = quarantine_end;
    return NEOMM_OK;
}

/* ---- damage ---- */

static void complain(struct neomm *root, const struct neomm__heap_place *place,
                     enum neomm_heap_error error, const char *function, const uint8_t *at)
{
    struct neomm_heap_report report = {.error = error, .function = function, .pointer = at};
    neomm__heap_describe(root, place, &report);
    report.offset = at - (const uint8_t *)report.object;
    neomm__heap_complain(root, &report);
}

/* Keeps the object out of use until the cache ends: in no quarantine, but held. Its entry says of
 * it what `was` does. */
static void retire(const struct neomm__heap_place *place, const struct neomm__ledger *was)
{
    struct neomm__ledger retired = *was;
    retired.state = NEOMM__ENTRY_RETIRED;
    neomm_irq_t irq = neomm__lock(&place->cache->lock);
    struct neomm__ledger *entry = neomm__ledger_entry(place);
    if (entry)
        neomm__ledger_set(entry, &retired);
    neomm__store_relaxed(&place->cache->held, place->cache->held + 1);
    neomm__unlock(&place->cache->lock, irq);
}

/* The first byte that is not zero; NULL: all are. The object is aligned to words. */
static const uint8_t *first_not_zero(const void *object, size_t size)
{
    const uint8_t *byte = object;
    const uintptr_t *word = object;
    size_t words = size / sizeof(*word), i = 0;
    while (i < words && word[i] == 0)
        i++;
    for (i *= sizeof(*word); i < size; i++)
        if (byte[i] != 0)
            return byte + i;
    return NULL;
}

/* ---- canaries ---- */

static uint64_t canary_of(const struct neomm_kmem *cache, const void *object)
{
    return neomm__mix(cache->quarantine->secret ^ (uintptr_t)object) & ~(uint64_t)0xff;
}

static uint32_t canary_bytes(const struct neomm_kmem *cache, size_t requested)
{
    size_t room = cache->size - requested;
    return room < NEOMM__CANARY_BYTES ? (uint32_t)room : NEOMM__CANARY_BYTES;
}

static bool has_canary(const struct neomm_kmem *cache, size_t requested)
{
    return !cache->construct && canary_bytes(cache, requested) > 0;
}

static void canary_set(const struct neomm_kmem *cache, uint8_t *object, size_t requested)
{
    uint64_t canary = canary_of(cache, object);
    if (has_canary(cache, requested))
        memcpy(object + requested, &canary, canary_bytes(cache, requested));
}

/* The first byte of the canary that changed, NULL: none, or it has none. */
static const uint8_t *canary_damage(const struct neomm_kmem *cache,
                                    const struct neomm__ledger *entry, const uint8_t *object)
{
    if (!neomm__load_relaxed(&entry->canary))
        return NULL;
    const uint8_t *at = object + neomm__load_relaxed(&entry->requested);
    uint64_t canary = canary_of(cache, object), now = 0;
    uint32_t bytes = canary_bytes(cache, (size_t)(at - object));
    memcpy(&now, at, bytes);
    if (((canary ^ now) << 8 * (sizeof(now) - bytes)) == 0)
        return NULL;
    for (uint32_t i = 0;; i++)
        if (at[i] != (uint8_t)(canary >> 8 * i))
            return at + i;
}

/* ---- allocation ---- */

/* An object that is taken: where it is, its entry from now on, and the one before. */
struct taking {
    struct neomm__heap_place place;
    struct neomm__ledger birth, was;
    bool known; /* it has an entry */
};

/* Under the lock. */
static void begin_life(struct taking *taking)
{
    taking->known = neomm__ledger_open(&taking->place, &taking->birth, &taking->was);
}

static void *object_at(const struct neomm__heap_place *place)
{
    return place->base + (size_t)place->index * place->cache->size;
}

/* A random one of the objects that are there. */
static void *take_random(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                         struct taking *taking)
{
    neomm_irq_t irq;
    bool fresh = false;
    if (!neomm__slabs_lock(cache, flags, &irq))
        return NULL;
    bool found = cache->ops == &neomm__hardened_ops &&
                 neomm__slab_pick(root, cache, (uint32_t)(next_random(cache->quarantine) >> 32),
                                  &taking->place, &fresh);
    if (found)
        begin_life(taking);
    neomm__unlock(&cache->lock, irq);
    void *object = found ? object_at(&taking->place) : NULL;
    if (fresh)
        cache->construct(cache->context, object);
    return object;
}

static void *take_new(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                      struct taking *taking)
{
    void *object;
    if (neomm__slab_take_new(root, cache, &neomm__hardened_ops, &object, 1, flags) == 0)
        return NULL;
    neomm__slab_place(root, object, &taking->place);
    neomm_irq_t irq = neomm__lock(&cache->lock);
    begin_life(taking);
    neomm__unlock(&cache->lock, irq);
    return object;
}

/* Zeros all over, as it was left: NULL. Where that is not known it is filled now. */
static const uint8_t *damage_of(const struct taking *taking, void *object)
{
    const struct neomm_kmem *cache = taking->place.cache;
    if (cache->construct)
        return NULL;
    if (taking->was.state == NEOMM__ENTRY_CLEAN)
        return first_not_zero(object, cache->size);
    memset(object, 0, cache->size);
    return NULL;
}

/* An object nobody wrote to while it was free. */
static void *take_clean(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                        struct taking *taking)
{
    for (;;) {
        void *object = take_random(root, cache, flags, taking);
        if (!object)
            object = take_new(root, cache, flags, taking);
        if (!object)
            return NULL;
        NEOMM__OBJECT_TAKEN(object, cache->size);
        const uint8_t *damage = damage_of(taking, object);
        if (!damage)
            return object;
        retire(&taking->place, &taking->was);
        complain(root, &taking->place, NEOMM_HEAP_WRITE_AFTER_FREE, "kmalloc", damage);
    }
}

static struct neomm_kmem *hardened_roomier(struct neomm *root, struct neomm_kmem *cache,
                                           size_t size, size_t align)
{
    struct neomm__heap *heap = root->heap;
    if (size < cache->size)
        return cache;
    for (uint32_t i = cache->number + 1; i < heap->classes; i++)
        if ((heap->cache[i].size & (align - 1)) == 0)
            return &heap->cache[i];
    return NULL;
}

static void *hardened_alloc(struct neomm *root, struct neomm_kmem *cache, size_t size,
                            neomm_flags_t flags, uintptr_t caller)
{
    struct taking taking;
    taking.birth = neomm__ledger_birth(root, size, has_canary(cache, size), caller);
    void *object = take_clean(root, cache, flags, &taking);
    if (!object)
        return NULL;
    neomm__kmem_count(cache, 1, 0);
    canary_set(cache, object, size);
    if (taking.known)
        neomm__ledger_count(root, &taking.birth);
    return object;
}

/* ---- freeing ---- */

/* Under the lock: into the quarantine, if the cache has one still; without an entry it could come
 * there twice. *leaves: what goes to its slab instead. False: the object is free. */
static bool put(struct neomm *root, const struct neomm__heap_place *place, void *object,
                void **leaves, struct neomm__frame_list *surplus)
{
    struct neomm_kmem *cache = place->cache;
    *leaves = NULL;
    if (!neomm__ledger_entry(place))
        return neomm__slab_put_one(root, cache, place, surplus);
    neomm__store_relaxed(&cache->held, cache->held + 1);
    *leaves = cache->ops == &neomm__hardened_ops ? exchange(cache->quarantine, object) : object;
    return true;
}

/* Ends the object's life. Of two that try, one only gets on. */
static neomm_status bury(struct neomm *root, const struct neomm__heap_place *place, void *object,
                         uintptr_t caller, struct neomm__ledger *was)
{
    struct neomm_kmem *cache = place->cache;
    struct neomm__frame_list surplus = {0, 0, 0};
    void *leaves = NULL;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    neomm_status status = neomm__ledger_close_locked(place, NEOMM__ENTRY_QUARANTINED, caller, was);
    if (status == NEOMM_OK && !put(root, place, object, &leaves, &surplus))
        status = NEOMM_E_DOUBLE_FREE;
    bool gone = !leaves || let_go(root, cache, leaves, &surplus);
    neomm__unlock(&cache->lock, irq);
    if (!gone)
        (void)neomm__heap_refuse(root, "kfree", leaves, NEOMM_E_DOUBLE_FREE);
    (void)neomm__slabs_end(root, &surplus);
    return status;
}

static neomm_status free_damaged(struct neomm *root, const struct neomm__heap_place *place,
                                 void *object, uintptr_t caller, const uint8_t *damage)
{
    struct neomm__ledger was;
    neomm_status status = neomm__ledger_close(root, place, NEOMM__ENTRY_QUARANTINED, caller, &was);
    if (status != NEOMM_OK)
        return neomm__heap_refuse(root, "kfree", object, status);
    neomm__kmem_count(place->cache, 0, 1);
    complain(root, place, NEOMM_HEAP_OVERRUN, "kfree", damage);
    was.freed_by = caller;
    retire(place, &was);
    return NEOMM_OK;
}

/* What the canary says, and that the object becomes zeros, concerns its owner alone, who is here;
 * so the lock is taken once, when that is done. */
static neomm_status hardened_free(struct neomm *root, const struct neomm__heap_place *place,
                                  void *object, uintptr_t caller)
{
    struct neomm_kmem *cache = place->cache;
    const struct neomm__ledger *entry = neomm__ledger_entry(place);
    struct neomm__ledger was;
    if (entry && neomm__load_acquire(&entry->state) != NEOMM__ENTRY_LIVE)
        return neomm__heap_refuse(root, "kfree", object, NEOMM_E_DOUBLE_FREE);
    const uint8_t *damage = entry ? canary_damage(cache, entry, object) : NULL;
    if (damage)
        return free_damaged(root, place, object, caller, damage);
    if (!cache->construct)
        memset(object, 0, cache->size);
    neomm_status status = bury(root, place, object, caller, &was);
    if (status != NEOMM_OK)
        return neomm__heap_refuse(root, "kfree", object, status);
    neomm__ledger_uncount(root, &was);
    neomm__kmem_count(cache, 0, 1);
    return NEOMM_OK;
}

/* The rest is canary. */
static size_t hardened_usable(struct neomm *root, const struct neomm__heap_place *place)
{
    const struct neomm__ledger *entry = neomm__ledger_entry(place);
    (void)root;
    if (entry && neomm__load_acquire(&entry->state) != NEOMM__ENTRY_LIVE)
        return 0;
    uint32_t requested = entry ? neomm__load_relaxed(&entry->requested) : 0;
    return requested != 0 ? requested : place->cache->size;
}

const struct neomm__kmem_ops neomm__hardened_ops = {
    .alloc = hardened_alloc,
    .free = hardened_free,
    .usable = hardened_usable,
    .empty = quarantine_empty,
    .roomier = hardened_roomier,
    .describe = neomm__ledger_describe,
    .ledger_alloc = neomm__ledger_alloc,
    .ledger_free = neomm__ledger_free,
    .begin = neomm__ledger_begin,
};
