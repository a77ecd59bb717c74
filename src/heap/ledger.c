/* Ledgers, and the caches that have them for the sake of call sites alone.
 * SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <neomm/pmm.h>

/* ---- memory of ledgers ---- */

static unsigned order_of(const struct neomm_kmem *cache)
{
    return neomm__log2_up(neomm__pages(neomm__ledger_bytes(cache)));
}

struct neomm__ledger *neomm__ledger_alloc(struct neomm *root, const struct neomm_kmem *cache,
                                          neomm_flags_t flags)
{
    neomm_paddr_t paddr;
    neomm_frame_t frame;
    flags &= ~NEOMM_ZERO;
    if (neomm__ledger_is_record(cache))
        return neomm__record_alloc(root, NEOMM__RECORD_LARGE, flags, &paddr);
    if (NEOMM__FAULT(HEAP_STATE) ||
        neomm_pmm_alloc(root, order_of(cache), flags, &frame) != NEOMM_OK)
        return NULL;
    neomm__heap_set_kind(root, frame, 1, NEOMM__KIND_STATE);
    return neomm_direct_pointer(root, neomm_frame_paddr(frame));
}

static void ledger_free(struct neomm *root, const struct neomm_kmem *cache,
                        struct neomm__ledger *ledger)
{
    neomm_paddr_t paddr = (uintptr_t)ledger - root->front.direct_base;
    neomm_frame_t frame = neomm_paddr_frame(paddr);
    if (neomm__ledger_is_record(cache)) {
        (void)neomm__record_free(root, paddr);
        return;
    }
    neomm__heap_set_kind(root, frame, 1, NEOMM__KIND_NONE);
    neomm_status status = neomm_pmm_free(root, frame, order_of(cache));
    NEOMM__ASSERT(status == NEOMM_OK);
}

/* ---- slabs with ledgers ---- */

static void detach(struct neomm *root, struct neomm__slab *slab)
{
    ledger_free(root, &root->heap->cache[slab->cache], slab->ledger);
    slab->ledger = NULL;
}

void neomm__ledger_begin(struct neomm *root, struct neomm__slab *slab, struct neomm__ledger *ledger)
{
    const struct neomm_kmem *cache = &root->heap->cache[slab->cache];
    memset(ledger, 0, neomm__ledger_bytes(cache));
    for (uint32_t i = 0; i < cache->objects; i++)
        if (!neomm__slab_is_free(slab, i))
            ledger[i].state = NEOMM__ENTRY_LIVE;
    slab->detach = detach;
    neomm__store_release(&slab->ledger, ledger);
}

/* ---- entries ---- */

void neomm__ledger_open(struct neomm *root, const struct neomm__heap_place *place, size_t size,
                        uintptr_t caller)
{
    const struct neomm__sites *sites = root->heap->sites;
    struct neomm__ledger *entry = neomm__ledger_entry(place);
    if (!entry)
        return;
    entry->allocated_by = caller;
    entry->freed_by = 0;
    entry->born = sites ? sites->now() : 0;
    entry->requested = (uint32_t)size;
    entry->canary = false;
    neomm__store_release(&entry->state, NEOMM__ENTRY_LIVE);
    if (sites)
        sites->count(root, caller, 1, size);
}

neomm_status neomm__ledger_close(struct neomm *root, const struct neomm__heap_place *place,
                                 enum neomm__entry_state state, uintptr_t caller)
{
    const struct neomm__sites *sites = root->heap->sites;
    struct neomm__ledger *entry = neomm__ledger_entry(place);
    uint8_t live = NEOMM__ENTRY_LIVE;
    if (!entry)
        return NEOMM_OK;
    if (!neomm__cas(&entry->state, &live, (uint8_t)state))
        return live == NEOMM__ENTRY_FREE ? NEOMM_OK : NEOMM_E_DOUBLE_FREE;
    entry->freed_by = caller;
    if (sites && entry->born != 0)
        sites->count(root, entry->allocated_by, -1, entry->requested);
    return NEOMM_OK;
}

void neomm__ledger_describe(struct neomm *root, const struct neomm__heap_place *place,
                            struct neomm_heap_report *report)
{
    const struct neomm__ledger *entry = neomm__ledger_entry(place);
    (void)root;
    report->live = entry->state == NEOMM__ENTRY_LIVE;
    report->allocated = neomm__heap_site(entry->allocated_by);
    report->freed = neomm__heap_site(entry->freed_by);
    if (entry->requested != 0)
        report->size = entry->requested;
}

neomm_status neomm__ledger_put(struct neomm *root, struct neomm_kmem *cache, void *object)
{
    struct neomm__frame_list surplus = {0, 0, 0};
    uint32_t twice = neomm__slab_put(root, cache, &object, 1, &surplus);
    if (twice == 0)
        neomm__kmem_count(cache, 0, 1);
    (void)neomm__slabs_end(root, &surplus);
    return twice == 0 ? NEOMM_OK : NEOMM_E_DOUBLE_FREE;
}

/* ---- tracked caches ---- */

static void *tracked_alloc(struct neomm *root, struct neomm_kmem *cache, size_t size,
                           neomm_flags_t flags, uintptr_t caller)
{
    struct neomm__heap_place place;
    void *object = NULL;
    if (neomm__slab_take(root, cache, &object, 1, flags) == 0 &&
        ((flags & NEOMM_NOLOCK) || neomm__slab_take_new(root, cache, &object, 1, flags) == 0))
        return NULL;
    neomm__kmem_count(cache, 1, 0);
    neomm__slab_place(root, object, &place);
    neomm__ledger_open(root, &place, size, caller);
    return object;
}

static neomm_status tracked_free(struct neomm *root, const struct neomm__heap_place *place,
                                 void *object, uintptr_t caller)
{
    neomm_status status = neomm__ledger_close(root, place, NEOMM__ENTRY_FREE, caller);
    if (status != NEOMM_OK)
        return neomm__heap_refuse(root, "kfree", object, status);
    return neomm__ledger_put(root, place->cache, object);
}

static size_t tracked_usable(struct neomm *root, const struct neomm__heap_place *place)
{
    (void)root;
    return place->cache->size;
}

const struct neomm__kmem_ops neomm__tracked_ops = {
    .alloc = tracked_alloc,
    .free = tracked_free,
    .usable = tracked_usable,
    .describe = neomm__ledger_describe,
    .ledger_alloc = neomm__ledger_alloc,
    .begin = neomm__ledger_begin,
};

/* ---- changing a cache ---- */

/* Under the lock: the slab begins anew with the ledger that it has, or this one. True: this one. */
static bool begin_next(struct neomm *root, const struct neomm__kmem_ops *ops,
                       struct neomm__frame_list *list, struct neomm__ledger *ledger)
{
    neomm_frame_t head = neomm__frame_list_pop(&root->frames, list);
    if (neomm_frame_is_nil(head))
        return false;
    neomm__frame_list_push_tail(&root->frames, list, head);
    struct neomm__slab *slab = neomm__record_at(root, neomm__frame(root, head)->mapping);
    bool has = slab->ledger != NULL;
    ops->begin(root, slab, has ? slab->ledger : ledger);
    return !has;
}

/* Gives each slab of a list its ledger, one after the other, so that the lock is never held long.
 * Slabs that come or go meanwhile have one already, or do not matter. */
static bool attach_list(struct neomm *root, struct neomm_kmem *cache,
                        const struct neomm__kmem_ops *ops, struct neomm__frame_list *list)
{
    for (uint32_t left = neomm__load_relaxed(&list->count); left > 0; left--) {
        struct neomm__ledger *ledger = neomm__ledger_alloc(root, cache, 0);
        if (!ledger)
            return false;
        neomm_irq_t irq = neomm__lock(&cache->lock);
        bool used = begin_next(root, ops, list, ledger);
        neomm__unlock(&cache->lock, irq);
        if (!used)
            ledger_free(root, cache, ledger);
    }
    return true;
}

static bool attach_all(struct neomm *root, struct neomm_kmem *cache,
                       const struct neomm__kmem_ops *ops)
{
    bool good = true;
    for (unsigned i = 0; good && i < NEOMM__SLAB_LISTS; i++)
        good = attach_list(root, cache, ops, &cache->list[i]);
    return good;
}

static void set_ops(struct neomm_kmem *cache, const struct neomm__kmem_ops *ops)
{
    neomm__store_relaxed(&cache->capacity, ops ? 0 : cache->capacity_most);
    neomm__store_release(&cache->ops, ops);
}

neomm_status neomm__ledger_change(struct neomm *root, struct neomm_kmem *cache,
                                  const struct neomm__kmem_ops *ops)
{
    const struct neomm__kmem_ops *before = cache->ops;
    uint32_t frames = 0;
    neomm_status status = NEOMM_OK;
    neomm__deferred_free(root);
    if (!neomm__drain_begin(root, false))
        return NEOMM_E_BUSY;
    /* New slabs have ledgers from here on; then nothing is kept in front of any slab; then the old
     * ones get theirs. */
    set_ops(cache, ops);
    (void)neomm__kmems_drain(root, cache->number, cache->number + 1, &frames);
    if (ops && !attach_all(root, cache, ops)) {
        set_ops(cache, before);
        status = NEOMM_E_NOMEM;
    }
    neomm__drain_end(root);
    return status;
}
