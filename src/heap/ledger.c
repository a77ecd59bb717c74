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

void neomm__ledger_free(struct neomm *root, const struct neomm_kmem *cache,
                        struct neomm__ledger *ledger)
{
    neomm_paddr_t paddr = (uintptr_t)ledger - root->front.direct_base;
    neomm_frame_t frame = neomm_paddr_frame(paddr);
    if (neomm__ledger_is_record(cache)) {
        (void)neomm__record_free(root, paddr);
        return;
    }
    neomm__heap_give_frames(root, frame, 1u << order_of(cache));
}

/* Who only looks at the state, or the size, does not lock. */
void neomm__ledger_set(struct neomm__ledger *entry, const struct neomm__ledger *value)
{
    entry->allocated_by = value->allocated_by;
    entry->freed_by = value->freed_by;
    entry->born = value->born;
    entry->tracked = value->tracked;
    neomm__store_relaxed(&entry->canary, value->canary);
    neomm__store_relaxed(&entry->requested, value->requested);
    neomm__store_release(&entry->state, value->state);
}

void neomm__ledger_begin(struct neomm *root, struct neomm__slab *slab, struct neomm__ledger *ledger)
{
    const struct neomm_kmem *cache = &root->heap->cache[slab->cache];
    bool old = ledger == slab->ledger;
    for (uint32_t i = 0; i < cache->objects; i++) {
        if (old && ledger[i].state == NEOMM__ENTRY_RETIRED)
            continue;
        bool free = neomm__slab_is_free(slab, i);
        const struct neomm__ledger entry = {.state = free ? NEOMM__ENTRY_FREE : NEOMM__ENTRY_LIVE};
        neomm__ledger_set(&ledger[i], &entry);
    }
    neomm__store_relaxed(&slab->ledger, ledger);
    neomm__store_release(&slab->epoch, neomm__load_relaxed(&cache->epoch));
}

/* ---- entries ---- */

struct neomm__ledger neomm__ledger_birth(const struct neomm *root, size_t size, bool canary,
                                         uintptr_t caller)
{
    const struct neomm__sites *sites = neomm__load_acquire(&root->heap->sites);
    return (struct neomm__ledger){
        .allocated_by = caller,
        .born = sites ? sites->now() : 0,
        .requested = (uint32_t)size,
        .tracked = sites ? (uint16_t)neomm__load_relaxed(&sites->generation) : 0,
        .state = NEOMM__ENTRY_LIVE,
        .canary = canary,
    };
}

/* Under the lock. NULL: it has none, *was is zeros. */
static struct neomm__ledger *look(const struct neomm__heap_place *place, struct neomm__ledger *was)
{
    struct neomm__ledger *entry = neomm__ledger_entry(place);
    *was = entry ? *entry : (struct neomm__ledger){.state = NEOMM__ENTRY_FREE};
    return entry;
}

bool neomm__ledger_open(const struct neomm__heap_place *place, const struct neomm__ledger *birth,
                        struct neomm__ledger *was)
{
    struct neomm__ledger *entry = look(place, was);
    if (entry)
        neomm__ledger_set(entry, birth);
    return entry != NULL;
}

void neomm__ledger_count(struct neomm *root, const struct neomm__ledger *birth)
{
    const struct neomm__sites *sites = neomm__load_acquire(&root->heap->sites);
    if (sites && birth->tracked == (uint16_t)neomm__load_relaxed(&sites->generation))
        sites->count(root, birth->allocated_by, 1, birth->requested);
}

neomm_status neomm__ledger_close_locked(const struct neomm__heap_place *place,
                                        enum neomm__entry_state state, uintptr_t caller,
                                        struct neomm__ledger *was)
{
    struct neomm__ledger *entry = look(place, was);
    if (!entry)
        return NEOMM_OK;
    if (was->state != NEOMM__ENTRY_LIVE)
        return NEOMM_E_DOUBLE_FREE;
    entry->freed_by = caller;
    neomm__store_release(&entry->state, (uint8_t)state);
    return NEOMM_OK;
}

void neomm__ledger_uncount(struct neomm *root, const struct neomm__ledger *was)
{
    const struct neomm__sites *sites = neomm__load_acquire(&root->heap->sites);
    if (sites && was->tracked != 0 &&
        was->tracked == (uint16_t)neomm__load_relaxed(&sites->generation))
        sites->count(root, was->allocated_by, -1, was->requested);
}

neomm_status neomm__ledger_close(struct neomm *root, const struct neomm__heap_place *place,
                                 enum neomm__entry_state state, uintptr_t caller,
                                 struct neomm__ledger *was)
{
    neomm_irq_t irq = neomm__lock(&place->cache->lock);
    neomm_status status = neomm__ledger_close_locked(place, state, caller, was);
    neomm__unlock(&place->cache->lock, irq);
    if (status == NEOMM_OK)
        neomm__ledger_uncount(root, was);
    return status;
}

void neomm__ledger_describe(struct neomm *root, const struct neomm__heap_place *place,
                            struct neomm_heap_report *report)
{
    const struct neomm__ledger *entry = neomm__ledger_entry(place);
    (void)root;
    if (!entry)
        return;
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
    struct neomm__ledger was;
    void *object = NULL;
    const struct neomm__kmem_ops *ops = &neomm__tracked_ops;
    if (neomm__slab_take(root, cache, ops, &object, 1, flags) == 0 &&
        neomm__slab_take_new(root, cache, ops, &object, 1, flags) == 0)
        return NULL;
    neomm__kmem_count(cache, 1, 0);
    neomm__slab_place(root, object, &place);
    const struct neomm__ledger birth = neomm__ledger_birth(root, size, false, caller);
    neomm_irq_t irq = neomm__lock(&cache->lock);
    bool known = neomm__ledger_open(&place, &birth, &was);
    neomm__unlock(&cache->lock, irq);
    if (known)
        neomm__ledger_count(root, &birth);
    return object;
}

static neomm_status tracked_free(struct neomm *root, const struct neomm__heap_place *place,
                                 void *object, uintptr_t caller)
{
    struct neomm__ledger was;
    neomm_status status = neomm__ledger_close(root, place, NEOMM__ENTRY_FREE, caller, &was);
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
    .ledger_free = neomm__ledger_free,
    .begin = neomm__ledger_begin,
};

/* ---- changing a cache ---- */

/* Under the lock: the next slab of the list begins, with its old ledger or this one, which is NULL
 * then. False: it needs one. */
static bool begin_next(struct neomm *root, const struct neomm_kmem *cache,
                       struct neomm__frame_list *list, struct neomm__ledger **ledger)
{
    if (list->head == 0)
        return true;
    neomm_frame_t head = neomm_frame(list->head);
    struct neomm__slab *slab = neomm__record_at(root, neomm__frame(root, head)->mapping);
    if (slab->epoch != cache->epoch) {
        struct neomm__ledger *use = slab->ledger ? slab->ledger : *ledger;
        if (!use)
            return false;
        if (!slab->ledger)
            *ledger = NULL;
        slab->ops = cache->ops;
        slab->ops->begin(root, slab, use);
    }
    neomm__frame_list_remove(&root->frames, list, head);
    neomm__frame_list_push_tail(&root->frames, list, head);
    return true;
}

/* One slab after the other, so that the lock is not held long. */
static bool begin_list(struct neomm *root, struct neomm_kmem *cache, struct neomm__frame_list *list)
{
    struct neomm__ledger *ledger = NULL;
    for (uint32_t left = neomm__slabs_listed(cache, list); left > 0;) {
        neomm_irq_t irq = neomm__lock(&cache->lock);
        bool done = begin_next(root, cache, list, &ledger);
        neomm__unlock(&cache->lock, irq);
        left -= done;
        if (!done && !(ledger = neomm__ledger_alloc(root, cache, 0)))
            return false;
    }
    if (ledger)
        neomm__ledger_free(root, cache, ledger);
    return true;
}

/* A slab that changed lists meanwhile was passed over. */
static bool all_begun(struct neomm *root, struct neomm_kmem *cache)
{
    bool all = true;
    neomm_irq_t irq = neomm__lock(&cache->lock);
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        for (uint32_t number = cache->list[i].head; all && number != 0;) {
            const struct neomm__frame *entry = neomm__frame(root, neomm_frame(number));
            const struct neomm__slab *slab = neomm__record_at(root, entry->mapping);
            all = slab->epoch == cache->epoch;
            number = entry->next;
        }
    neomm__unlock(&cache->lock, irq);
    return all;
}

static bool begin_all(struct neomm *root, struct neomm_kmem *cache)
{
    bool good = true;
    do {
        for (unsigned i = 0; good && i < NEOMM__SLAB_LISTS; i++)
            good = begin_list(root, cache, &cache->list[i]);
    } while (good && !all_begun(root, cache));
    return good;
}

static void set_ops(struct neomm_kmem *cache, const struct neomm__kmem_ops *ops)
{
    neomm_irq_t irq = neomm__lock(&cache->lock);
    if (!cache->ops)
        neomm__store_relaxed(&cache->epoch, cache->epoch + 1);
    neomm__store_relaxed(&cache->capacity, ops ? 0 : cache->capacity_most);
    neomm__store_release(&cache->ops, ops);
    /* Behind it: who was refused with the old way finds that it changed. */
    neomm__store_release(&cache->turns, cache->turns + 1);
    neomm__unlock(&cache->lock, irq);
}

/* From here on objects come and go the new way; then nothing is kept in front of the slabs. */
static void turn(struct neomm *root, struct neomm_kmem *cache, const struct neomm__kmem_ops *ops)
{
    const struct neomm__kmem_ops *before = cache->ops;
    uint32_t frames = 0;
    set_ops(cache, ops);
    (void)neomm__kmems_drain(root, cache->number, cache->number + 1, &frames);
    if (before && before->empty)
        before->empty(root, cache);
}

neomm_status neomm__ledger_change(struct neomm *root, struct neomm_kmem *cache,
                                  const struct neomm__kmem_ops *ops)
{
    const struct neomm__kmem_ops *before = cache->ops;
    neomm_status status = NEOMM_OK;
    if (ops == before)
        return NEOMM_OK;
    neomm__deferred_free(root);
    if (!neomm__drain_begin(root, false))
        return NEOMM_E_BUSY;
    turn(root, cache, ops);
    if (ops && !before && !begin_all(root, cache)) {
        turn(root, cache, NULL);
        status = NEOMM_E_NOMEM;
    }
    neomm__drain_end(root);
    return status;
}
