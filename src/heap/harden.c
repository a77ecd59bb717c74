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

#define CANARY_BYTES 8u
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

neomm_status neomm__quarantine_make(struct neomm *root, struct neomm_kmem *cache)
{
    uint32_t length = QUARANTINE_BYTES / cache->size;
    neomm_frame_t frame;
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
    return NEOMM_OK;
}

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
    quarantine->oldest = (quarantine->oldest + 1) % quarantine->length;
    return leaves;
}

/* Out of the quarantine: free in its slab. */
static void let_go(struct neomm *root, struct neomm_kmem *cache, void *object)
{
    struct neomm__heap_place place;
    neomm__slab_place(root, object, &place);
    struct neomm__ledger *entry = neomm__ledger_entry(&place);
    if (entry)
        neomm__store_release(&entry->state, NEOMM__ENTRY_FREE);
    (void)neomm__fetch_sub(&cache->held, 1);
    struct neomm__frame_list surplus = {0, 0, 0};
    (void)neomm__slab_put(root, cache, &object, 1, &surplus);
    (void)neomm__slabs_end(root, &surplus);
}

void neomm__quarantine_end(struct neomm *root, struct neomm_kmem *cache)
{
    struct neomm__quarantine *quarantine = cache->quarantine;
    if (!quarantine)
        return;
    neomm__quarantine_empty(root, cache);
    cache->quarantine = NULL;
    neomm_frame_t frame = quarantine->frame;
    neomm__heap_set_kind(root, frame, 1, NEOMM__KIND_NONE);
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

void neomm__quarantine_empty(struct neomm *root, struct neomm_kmem *cache)
{
    struct neomm__quarantine *quarantine = cache->quarantine;
    for (uint32_t i = 0; quarantine && i < 2 * quarantine->length; i++) {
        neomm_irq_t irq = neomm__lock(&cache->lock);
        void *object = quarantine->slot[i];
        quarantine->slot[i] = NULL;
        neomm__unlock(&cache->lock, irq);
        if (object)
            let_go(root, cache, object);
    }
}

/* ---- damage ---- */

/* The object is not used again. */
static void complain(struct neomm *root, const struct neomm__heap_place *place,
                     enum neomm_heap_error error, const char *function, const uint8_t *at)
{
    struct neomm_heap_report report = {.error = error, .function = function, .pointer = at};
    neomm__heap_describe(root, place, &report);
    report.offset = at - (const uint8_t *)report.object;
    neomm__heap_complain(root, &report);
}

/* Keeps the object out of use for good: in no quarantine, but held. */
static void retire(const struct neomm__heap_place *place)
{
    struct neomm__ledger *entry = neomm__ledger_entry(place);
    if (entry)
        neomm__store_release(&entry->state, NEOMM__ENTRY_QUARANTINED);
    (void)neomm__fetch_add(&place->cache->held, 1);
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
    return room < CANARY_BYTES ? (uint32_t)room : CANARY_BYTES;
}

static void canary_set(const struct neomm__heap_place *place, uint8_t *object, size_t requested)
{
    struct neomm__ledger *entry = neomm__ledger_entry(place);
    uint64_t canary = canary_of(place->cache, object);
    uint32_t bytes = canary_bytes(place->cache, requested);
    if (!entry || place->cache->construct)
        return;
    memcpy(object + requested, &canary, bytes);
    entry->canary = bytes > 0;
}

/* The first byte of the canary that changed, NULL: none. */
static const uint8_t *canary_damage(const struct neomm__heap_place *place, const uint8_t *object)
{
    const struct neomm__ledger *entry = neomm__ledger_entry(place);
    if (!entry || !entry->canary)
        return NULL;
    uint64_t canary = canary_of(place->cache, object);
    uint32_t bytes = canary_bytes(place->cache, entry->requested);
    for (uint32_t i = 0; i < bytes; i++)
        if (object[entry->requested + i] != (uint8_t)(canary >> 8 * i))
            return object + entry->requested + i;
    return NULL;
}

/* ---- allocation ---- */

static uint32_t random_of(struct neomm_kmem *cache)
{
    neomm_irq_t irq = neomm__lock(&cache->lock);
    uint32_t random = (uint32_t)next_random(cache->quarantine);
    neomm__unlock(&cache->lock, irq);
    return random;
}

/* An object nobody wrote to while it was free. */
static void *take_clean(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                        struct neomm__heap_place *place)
{
    for (;;) {
        void *object = neomm__slab_take_random(root, cache, random_of(cache), flags);
        if (!object &&
            ((flags & NEOMM_NOLOCK) || neomm__slab_take_new(root, cache, &object, 1, flags) == 0))
            return NULL;
        neomm__slab_place(root, object, place);
        const uint8_t *damage = cache->construct || !neomm__ledger_entry(place)
                                    ? NULL
                                    : first_not_zero(object, cache->size);
        if (!damage)
            return object;
        complain(root, place, NEOMM_HEAP_WRITE_AFTER_FREE, "kmalloc", damage);
        retire(place);
    }
}

/* kmalloc's class with room for a canary behind `size` bytes, as aligned as those bytes have to
 * be; `cache` itself where there is none. NULL: it has to be a run. */
static struct neomm_kmem *roomier(struct neomm *root, struct neomm_kmem *cache, size_t size)
{
    struct neomm__heap *heap = root->heap;
    size_t align = (size & (size - 1)) == 0 ? size : NEOMM__HEAP_UNIT;
    if (cache->number >= heap->classes || size < cache->size)
        return cache;
    for (uint32_t i = cache->number + 1; i < heap->classes; i++)
        if ((heap->cache[i].size & (align - 1)) == 0)
            return heap->cache[i].ops == cache->ops ? &heap->cache[i] : cache;
    return NULL;
}

static void *hardened_alloc(struct neomm *root, struct neomm_kmem *cache, size_t size,
                            neomm_flags_t flags, uintptr_t caller)
{
    struct neomm__heap_place place;
    cache = roomier(root, cache, size);
    void *object = cache ? take_clean(root, cache, flags, &place) : NULL;
    if (!object)
        return NULL;
    neomm__kmem_count(cache, 1, 0);
    neomm__ledger_open(root, &place, size, caller);
    canary_set(&place, object, size);
    return object;
}

/* ---- freeing ---- */

static neomm_status hardened_free(struct neomm *root, const struct neomm__heap_place *place,
                                  void *object, uintptr_t caller)
{
    struct neomm_kmem *cache = place->cache;
    neomm_status status = neomm__ledger_close(root, place, NEOMM__ENTRY_QUARANTINED, caller);
    if (status != NEOMM_OK)
        return neomm__heap_refuse(root, "kfree", object, status);
    neomm__kmem_count(cache, 0, 1);
    const uint8_t *damage = canary_damage(place, object);
    if (damage) {
        complain(root, place, NEOMM_HEAP_OVERRUN, "kfree", damage);
        retire(place);
        return NEOMM_OK;
    }
    if (!cache->construct)
        memset(object, 0, cache->size);
    (void)neomm__fetch_add(&cache->held, 1);
    neomm_irq_t irq = neomm__lock(&cache->lock);
    void *leaves = exchange(cache->quarantine, object);
    neomm__unlock(&cache->lock, irq);
    if (leaves)
        let_go(root, cache, leaves);
    return NEOMM_OK;
}

static size_t hardened_usable(struct neomm *root, const struct neomm__heap_place *place)
{
    const struct neomm__ledger *entry = neomm__ledger_entry(place);
    (void)root;
    if (!entry || entry->requested == 0)
        return place->cache->size;
    return neomm__load_acquire(&entry->state) == NEOMM__ENTRY_LIVE ? entry->requested : 0;
}

/* What is free is zero from here on. */
static void hardened_begin(struct neomm *root, struct neomm__slab *slab,
                           struct neomm__ledger *ledger)
{
    const struct neomm_kmem *cache = &root->heap->cache[slab->cache];
    neomm__ledger_begin(root, slab, ledger);
    for (uint32_t i = 0; !cache->construct && i < cache->objects; i++)
        if (neomm__slab_is_free(slab, i))
            memset(slab->base + (size_t)i * cache->size, 0, cache->size);
}

const struct neomm__kmem_ops neomm__hardened_ops = {
    .alloc = hardened_alloc,
    .free = hardened_free,
    .usable = hardened_usable,
    .empty = neomm__quarantine_empty,
    .end = neomm__quarantine_end,
    .describe = neomm__ledger_describe,
    .ledger_alloc = neomm__ledger_alloc,
    .begin = hardened_begin,
};
