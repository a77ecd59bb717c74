/* Guarded objects: a few of those of a GUARDED cache, each on a page of its own between pages
 * without access.
 * SPDX-License-Identifier: MIT
 * Sources of the idea: M. Elver et al., KFENCE (Linux); GWP-ASan (LLVM).
 *
 *   page   0         1         2         3         4               128
 *          [no acc.] [slot 0 ] [no acc.] [slot 1 ] [no acc.]  ...  [no acc.]
 *
 *   page of a slot    | canary ...           | object | canary |    at its end, as near as the
 *   while it is live  | object | canary ...                    |    alignment lets it; or its start
 *
 * Free slots wait in a queue, and their pages have no access: what was freed longest ago is used
 * next. A page that got access back after a fault keeps it, and the slots beside it are not used
 * again. Who changes the state of a slot from one of those that are live owns the slot; its other
 * fields are written by owners alone, and may be read by whoever reports misuse meanwhile.
 *
 * Taking access away interrupts other CPUs, which who frees may not be able to wait for, as he may
 * hold a lock of the kernel's. So a freed page, filled with the canary, keeps access until somebody
 * comes by who may wait (settle); what was written to it meanwhile is found then.
 *
 * The lock is for the queue; rights are changed without it. The pages go when no cache is GUARDED
 * and all slots are free, but not this state, since a CPU may be on its way into it.
 */
#include "profile.h"

#include <neomm/pmm.h>

#define SLOTS  NEOMM_HEAP_GUARDED_MAX
#define PAGES  (2 * SLOTS + 1)
#define RIGHTS (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

enum slot_state {
    SLOT_FREE,
    SLOT_CHANGING, /* being made, or being freed */
    SLOT_LIVE,
    SLOT_PUT_OFF, /* freed by who could wait for nobody: nothing was done with it */
    SLOT_CLOSING  /* free, all canary, and its page still has access */
};

struct slot {
    uint8_t *object;          /* NULL: there was none yet */
    struct neomm_kmem *cache; /* NULL: it has ended */
    uintptr_t allocated_by, freed_by;
    uint32_t size;  /* as asked for */
    uint32_t state; /* enum slot_state */
    uint32_t next;  /* of the queue: a number from 1, 0: none */
};

/* Bits of a page. */
#define PAGE_GIVEN 1u /* has access for good, after a fault */
#define PAGE_SPENT 2u /* its object was damaged, or it kept access: not used again */

struct pool {
    struct neomm__guard guard; /* heap->guard */
    const struct neomm_page_source *source;
    neomm_frame_t frame; /* where this lies */
    uint32_t canary;
    uint32_t made; /* objects so far */
    struct neomm__lock lock;
    uint32_t first, last; /* of the queue */
    struct slot slot[SLOTS];
    uint8_t page[PAGES];
};

_Static_assert(sizeof(struct pool) <= NEOMM_PAGE_SIZE, "a pool's state is a frame");
_Static_assert(offsetof(struct pool, guard) == 0, "the one is found through the other");

static struct pool *pool_of(const struct neomm *root)
{
    return (struct pool *)neomm__load_acquire(&root->heap->guard);
}

/* ---- pages and slots ---- */

static uint32_t page_under(const struct pool *pool, const void *pointer)
{
    return (uint32_t)(((uintptr_t)pointer - neomm__load_relaxed(&pool->guard.base)) >>
                      NEOMM_PAGE_SHIFT);
}

static uint32_t index_of(const struct pool *pool, const struct slot *slot)
{
    return (uint32_t)(slot - pool->slot);
}

static uint32_t page_of(const struct pool *pool, const struct slot *slot)
{
    return 2 * index_of(pool, slot) + 1;
}

static uint8_t *page_at(const struct pool *pool, uint32_t page)
{
    return (uint8_t *)(pool->guard.base + ((size_t)page << NEOMM_PAGE_SHIFT));
}

/* The slot whose page the pointer points into; NULL: the page is no slot's, or the pool is gone. */
static struct slot *slot_under(struct pool *pool, const void *pointer)
{
    uint32_t page = page_under(pool, pointer);
    return page < PAGES && page % 2 == 1 ? &pool->slot[page / 2] : NULL;
}

static bool is_live(const struct slot *slot)
{
    uint32_t state = neomm__load_acquire(&slot->state);
    return state == SLOT_LIVE || state == SLOT_PUT_OFF;
}

static neomm_status protect(const struct pool *pool, uint32_t page, neomm_prot_t prot)
{
    return pool->source->protect(pool->source->context, page_at(pool, page), 1, prot);
}

/* ---- the queue ---- */

/* Under the lock. */
static void put_last(struct pool *pool, struct slot *slot)
{
    uint32_t number = index_of(pool, slot) + 1;
    slot->next = 0;
    if (pool->last != 0)
        pool->slot[pool->last - 1].next = number;
    else
        pool->first = number;
    pool->last = number;
}

/* The owner has no use for the slot any more. */
static void give_up(struct pool *pool, struct slot *slot)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    neomm__store_release(&slot->state, SLOT_FREE);
    put_last(pool, slot);
    neomm__unlock(&pool->lock, irq);
}

/* An object in the slot would be caught on either side, and when it is freed. */
static bool is_sound(const struct pool *pool, const struct slot *slot)
{
    uint32_t page = page_of(pool, slot);
    return neomm__load_relaxed(&pool->page[page]) == 0 &&
           neomm__load_relaxed(&pool->page[page - 1]) == 0 &&
           neomm__load_relaxed(&pool->page[page + 1]) == 0;
}

/* The slot that has been free for longest, for its new owner; slots that are not to be used again
 * leave the queue here. NULL: none is free. */
static struct slot *take_first(struct pool *pool)
{
    struct slot *slot = NULL;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    while (!slot && pool->first != 0) {
        struct slot *first = &pool->slot[pool->first - 1];
        pool->first = first->next;
        if (pool->first == 0)
            pool->last = 0;
        if (is_sound(pool, first))
            slot = first;
    }
    if (slot)
        neomm__store_relaxed(&slot->state, SLOT_CHANGING);
    neomm__unlock(&pool->lock, irq);
    return slot;
}

/* ---- canaries ---- */

static uint8_t canary_at(const struct pool *pool, const uint8_t *at)
{
    return (uint8_t)(pool->canary >> (uintptr_t)at % 4 * 8);
}

/* All of the page, so that nothing of what was there is left in a new object. */
static void fill(const struct pool *pool, uint8_t *page)
{
    for (size_t at = 0; at < NEOMM_PAGE_SIZE; at += sizeof(pool->canary))
        memcpy(page + at, &pool->canary, sizeof(pool->canary));
}

/* The changed byte next to the object, behind it or before; NULL: there is none. */
static const uint8_t *damage_of(const struct pool *pool, const struct slot *slot)
{
    const uint8_t *start = page_at(pool, page_of(pool, slot)), *end = start + NEOMM_PAGE_SIZE;
    for (const uint8_t *at = slot->object + slot->size; at < end; at++)
        if (*at != canary_at(pool, at))
            return at;
    for (const uint8_t *at = slot->object; at > start; at--)
        if (at[-1] != canary_at(pool, at - 1))
            return at - 1;
    return NULL;
}

/* The first byte of a page of canaries that was written to; NULL: there is none. */
static const uint8_t *written_in(const struct pool *pool, const uint8_t *page)
{
    for (const uint8_t *at = page; at < page + NEOMM_PAGE_SIZE; at++)
        if (*at != canary_at(pool, at))
            return at;
    return NULL;
}

/* ---- allocation ---- */

/* Where in its page an object of the slot goes: to the end, or, one in two, to the start. */
static size_t offset_of(struct pool *pool, size_t size, size_t align)
{
    uint32_t made = neomm__fetch_add(&pool->made, 1);
    bool start = neomm__mix((uint64_t)pool->guard.seed << 32 | made) & 1;
    return start ? 0 : (NEOMM_PAGE_SIZE - size) & ~(align - 1);
}

static void *guard_alloc(struct neomm *root, struct neomm_kmem *cache, size_t size, size_t align,
                         uintptr_t caller)
{
    struct pool *pool = pool_of(root);
    struct slot *slot = size <= NEOMM_PAGE_SIZE ? take_first(pool) : NULL;
    if (!slot)
        return NULL;
    uint8_t *page = page_at(pool, page_of(pool, slot));
    if (NEOMM__FAULT(HEAP_SLAB) || protect(pool, page_of(pool, slot), RIGHTS) != NEOMM_OK) {
        give_up(pool, slot);
        return NULL;
    }
    uint8_t *object = page + offset_of(pool, size, align);
    fill(pool, page);
    if (cache->construct)
        cache->construct(cache->context, object);
    neomm__store_relaxed(&slot->object, object);
    neomm__store_relaxed(&slot->size, (uint32_t)size);
    neomm__store_relaxed(&slot->cache, cache);
    neomm__store_relaxed(&slot->allocated_by, caller);
    neomm__store_relaxed(&slot->freed_by, 0);
    neomm__store_release(&slot->state, SLOT_LIVE);
    neomm__kmem_count(cache, 1, 0);
    return object;
}

/* ---- what is known of an object ---- */

static void describe_slot(struct slot *slot, struct neomm_heap_report *report)
{
    const struct neomm_kmem *cache = neomm__load_relaxed(&slot->cache);
    report->object = neomm__load_relaxed(&slot->object);
    report->size = neomm__load_relaxed(&slot->size);
    report->cache = cache ? cache->name : NULL;
    report->live = is_live(slot);
    report->allocated = neomm__heap_site(neomm__load_relaxed(&slot->allocated_by));
    report->freed = neomm__heap_site(neomm__load_relaxed(&slot->freed_by));
    report->offset = (const uint8_t *)report->pointer - (const uint8_t *)report->object;
}

/* Bytes from an object to a pointer outside of it. */
static size_t distance(const struct slot *slot, const void *pointer)
{
    uintptr_t object = (uintptr_t)neomm__load_relaxed(&slot->object), at = (uintptr_t)pointer;
    return at < object ? object - at : at - object - neomm__load_relaxed(&slot->size);
}

/* Which of two is more likely to be what a pointer in the page between them was meant for; either
 * may be NULL, and so is what had no object yet. */
static struct slot *likelier(struct slot *a, struct slot *b, const void *pointer)
{
    if (!a || !b)
        return a ? a : b;
    if (is_live(a) != is_live(b))
        return is_live(a) ? a : b;
    return distance(a, pointer) <= distance(b, pointer) ? a : b;
}

static struct slot *if_used(struct slot *slot)
{
    return neomm__load_relaxed(&slot->object) ? slot : NULL;
}

/* The slot that a pointer has to do with; NULL: none. */
static struct slot *nearest(struct pool *pool, const void *pointer)
{
    uint32_t page = page_under(pool, pointer);
    if (page >= PAGES)
        return NULL;
    if (page % 2 == 1)
        return if_used(&pool->slot[page / 2]);
    return likelier(page > 0 ? if_used(&pool->slot[page / 2 - 1]) : NULL,
                    page < PAGES - 1 ? if_used(&pool->slot[page / 2]) : NULL, pointer);
}

static void guard_describe(struct neomm *root, const void *pointer,
                           struct neomm_heap_report *report)
{
    struct slot *slot = nearest(pool_of(root), pointer);
    if (slot)
        describe_slot(slot, report);
}

static const void *guard_next(struct neomm *root, const struct neomm_kmem *cache, const void *after,
                              size_t *size)
{
    struct pool *pool = pool_of(root);
    for (uint32_t i = after ? page_under(pool, after) / 2 + 1 : 0; i < SLOTS; i++) {
        const struct slot *slot = &pool->slot[i];
        if (is_live(slot) && slot->cache == cache) {
            *size = slot->size;
            return slot->object;
        }
    }
    return NULL;
}

static void guard_forget(struct neomm *root, const struct neomm_kmem *cache)
{
    struct pool *pool = pool_of(root);
    for (uint32_t i = 0; i < SLOTS; i++)
        if (neomm__load_relaxed(&pool->slot[i].cache) == cache)
            neomm__store_relaxed(&pool->slot[i].cache, NULL);
}

/* ---- freeing ---- */

/* Whether the pointer is a live object, of `cache` if that is not NULL; the error that a free would
 * end in. */
static neomm_status look(const struct slot *slot, const struct neomm_kmem *cache,
                         const void *pointer)
{
    if (!slot || !neomm__load_relaxed(&slot->object))
        return NEOMM_E_FOREIGN;
    if (neomm__load_acquire(&slot->state) != SLOT_LIVE)
        return NEOMM_E_DOUBLE_FREE;
    if (neomm__load_relaxed(&slot->object) != pointer)
        return NEOMM_E_INVALID;
    return cache && neomm__load_relaxed(&slot->cache) != cache ? NEOMM_E_FOREIGN : NEOMM_OK;
}

static neomm_status guard_status(struct neomm *root, const void *pointer)
{
    return look(slot_under(pool_of(root), pointer), NULL, pointer);
}

static size_t guard_usable(struct neomm *root, const void *pointer)
{
    bool live = guard_status(root, pointer) == NEOMM_OK;
    return live ? neomm__load_relaxed(&slot_under(pool_of(root), pointer)->size) : 0;
}

/* Makes the caller the owner of such an object. */
static neomm_status claim(struct slot *slot, const struct neomm_kmem *cache, const void *pointer,
                          enum slot_state next)
{
    uint32_t state = SLOT_LIVE;
    neomm_status status = look(slot, cache, pointer);
    if (status == NEOMM_OK && !neomm__cas(&slot->state, &state, (uint32_t)next))
        status = NEOMM_E_DOUBLE_FREE;
    return status;
}

static void complain(struct neomm *root, struct slot *slot, enum neomm_heap_error error,
                     const char *function, const void *at)
{
    struct neomm_heap_report report = {.error = error, .function = function, .pointer = at};
    if (slot)
        describe_slot(slot, &report);
    neomm__heap_complain(root, &report);
}

/* Takes access away, unless a fault gives it back: looked at behind it, as a fault gives access
 * behind saying so. False: the source refused. */
static bool lock_up(const struct pool *pool, uint32_t page)
{
    const struct neomm_page_source *source = pool->source;
    if (protect(pool, page, NEOMM_PROT_NONE) != NEOMM_OK)
        return false;
    if (neomm__load_acquire(&pool->page[page]) & PAGE_GIVEN)
        return protect(pool, page, RIGHTS) == NEOMM_OK;
    if (source->discard)
        source->discard(source->context, page_at(pool, page), 1);
    return true;
}

/* The owner ends an object's life; its page has access still. */
static void close_slot(struct neomm *root, struct slot *slot, const char *function,
                       uintptr_t caller)
{
    struct pool *pool = pool_of(root);
    uint32_t page = page_of(pool, slot);
    const uint8_t *damage = damage_of(pool, slot);
    neomm__store_relaxed(&slot->freed_by, caller);
    if (damage) {
        (void)neomm__fetch_or(&pool->page[page], PAGE_SPENT);
        complain(root, slot, NEOMM_HEAP_OVERRUN, function, damage);
    }
    neomm__kmem_count(slot->cache, 0, 1);
    fill(pool, page_at(pool, page));
    neomm__store_release(&slot->state, SLOT_CLOSING);
}

/* The owner of a closed slot takes its page away. Written to meanwhile, it is not used again. */
static void finish(struct neomm *root, struct slot *slot)
{
    struct pool *pool = pool_of(root);
    uint32_t page = page_of(pool, slot);
    const uint8_t *written = written_in(pool, page_at(pool, page));
    if (written) {
        (void)neomm__fetch_or(&pool->page[page], PAGE_SPENT);
        complain(root, slot, NEOMM_HEAP_WRITE_AFTER_FREE, "use", written);
    }
    if (!lock_up(pool, page))
        (void)neomm__fetch_or(&pool->page[page], PAGE_SPENT);
    give_up(pool, slot);
}

/* Makes the caller the owner of a slot in this state. */
static bool seize(struct slot *slot, uint32_t state)
{
    return neomm__load_relaxed(&slot->state) == state &&
           neomm__cas(&slot->state, &state, SLOT_CHANGING);
}

static void guard_settle(struct neomm *root)
{
    struct pool *pool = pool_of(root);
    for (uint32_t i = 0; neomm__load_relaxed(&pool->guard.put_off) > 0 && i < SLOTS; i++) {
        struct slot *slot = &pool->slot[i];
        if (seize(slot, SLOT_PUT_OFF))
            close_slot(root, slot, "kfree_nolock", neomm__load_relaxed(&slot->freed_by));
        if (seize(slot, SLOT_CLOSING)) {
            (void)neomm__fetch_sub(&pool->guard.put_off, 1);
            finish(root, slot);
        }
    }
}

static neomm_status guard_free(struct neomm *root, const struct neomm_kmem *cache, void *pointer,
                               const char *function, uintptr_t caller)
{
    struct pool *pool = pool_of(root);
    struct slot *slot = slot_under(pool, pointer);
    neomm_status status = claim(slot, cache, pointer, SLOT_CHANGING);
    if (status != NEOMM_OK)
        return neomm__heap_refuse(root, function, pointer, status);
    (void)neomm__fetch_add(&pool->guard.put_off, 1);
    close_slot(root, slot, function, caller);
    if (pool->source->protect_anywhere)
        guard_settle(root);
    return NEOMM_OK;
}

static neomm_status guard_free_nolock(struct neomm *root, void *pointer, uintptr_t caller)
{
    struct pool *pool = pool_of(root);
    struct slot *slot = slot_under(pool, pointer);
    neomm_status status = claim(slot, NULL, pointer, SLOT_PUT_OFF);
    if (status != NEOMM_OK)
        return status;
    neomm__store_relaxed(&slot->freed_by, caller);
    (void)neomm__fetch_add(&pool->guard.put_off, 1);
    return NEOMM_OK;
}

/* ---- faults ---- */

bool neomm_heap_fault(struct neomm *root, const void *pointer)
{
    struct pool *pool = root->heap ? pool_of(root) : NULL;
    if (!pool || !neomm__guard_owns(root->heap, pointer))
        return false;
    uint32_t page = page_under(pool, pointer);
    if (page >= PAGES)
        return false;
    /* Who comes second gives access, too: the first one may not have got there yet. */
    if (!(neomm__fetch_or(&pool->page[page], PAGE_GIVEN) & PAGE_GIVEN)) {
        struct slot *slot = nearest(pool, pointer);
        complain(root, slot,
                 page % 2 == 1 && slot ? NEOMM_HEAP_ACCESS_AFTER_FREE : NEOMM_HEAP_ACCESS_OUTSIDE,
                 "access", pointer);
    }
    return protect(pool, page, RIGHTS) == NEOMM_OK;
}

/* ---- the consistency check ---- */

/* The slots in the queue, whose end must be where it should. */
static void check_queue(const struct pool *pool, bool *queued, struct neomm__report *report)
{
    uint32_t number = pool->first, last = 0;
    for (; number != 0 && number <= SLOTS && !queued[number];
         number = pool->slot[number - 1].next) {
        queued[number] = true;
        last = number;
    }
    if (number != 0 || last != pool->last)
        neomm__report(report, "heap: the queue of guarded slots does not end where it should");
}

static void guard_fsck(struct neomm *root, struct neomm__report *report)
{
    const struct pool *pool = pool_of(root);
    bool queued[SLOTS + 1] = {false}, there = neomm__guard_has_pages(&pool->guard);
    check_queue(pool, queued, report);
    for (uint32_t i = 0; i < SLOTS; i++) {
        const struct slot *slot = &pool->slot[i];
        bool free = slot->state == SLOT_FREE;
        if (queued[i + 1] ? !free || !there : !there ? !free : free && is_sound(pool, slot))
            neomm__report(report, "heap: guarded slot %u is free or in the queue, not both", i);
        if (is_live(slot) && damage_of(pool, slot))
            neomm__report(report, "heap: guarded object at %p: bytes beside it were written to",
                          (void *)slot->object);
    }
}

/* ---- beginning and end ---- */

/* Where pages can lose access: the window before the direct map. */
static const struct neomm_page_source *find_source(const struct neomm__heap *heap)
{
    for (uint32_t i = heap->sources; i-- > 0;)
        if (heap->source[i].protect)
            return &heap->source[i];
    return NULL;
}

/* The descriptors of the pool's frames say what they are; kind NONE: nothing any more. */
static void tag(struct neomm *root, const struct pool *pool, enum neomm__kind kind)
{
    const struct neomm_page_source *source = pool->source;
    for (uint32_t page = 0; page < PAGES; page++) {
        neomm_frame_t frame = source->frame_of(source->context, page_at(pool, page));
        struct neomm__frame *entry = neomm__frame(root, frame);
        if (page == 0 && kind != NEOMM__KIND_NONE)
            neomm__frame_set(entry, NEOMM__FRAME_TAILS);
        entry->kind = (uint8_t)kind;
    }
}

/* Every page without access. */
static neomm_status take_pages(struct neomm *root, struct pool *pool)
{
    const struct neomm_page_source *source = pool->source;
    void *run;
    if (NEOMM__FAULT(HEAP_RUN) || source->run_alloc(source->context, PAGES, 1, 0, &run) != NEOMM_OK)
        return NEOMM_E_NOMEM;
    neomm__store_relaxed(&pool->guard.base, (uintptr_t)run);
    tag(root, pool, NEOMM__KIND_STATE);
    if (source->protect(source->context, run, PAGES, NEOMM_PROT_NONE) != NEOMM_OK) {
        tag(root, pool, NEOMM__KIND_NONE);
        neomm__store_relaxed(&pool->guard.base, NEOMM__GUARD_NOWHERE);
        source->run_free(source->context, run, PAGES);
        return NEOMM_E_NOMEM;
    }
    if (source->discard)
        source->discard(source->context, run, PAGES);
    return NEOMM_OK;
}

/* NEOMM_E_NOMEM: the pages cannot be given back as they came; nothing has changed but rights. */
static neomm_status give_pages(struct neomm *root, struct pool *pool)
{
    const struct neomm_page_source *source = pool->source;
    void *run = page_at(pool, 0);
    if (source->protect(source->context, run, PAGES, RIGHTS) != NEOMM_OK)
        return NEOMM_E_NOMEM;
    tag(root, pool, NEOMM__KIND_NONE);
    neomm__store_relaxed(&pool->guard.base, NEOMM__GUARD_NOWHERE);
    source->run_free(source->context, run, PAGES);
    return NEOMM_OK;
}

/* Nobody gets a slot from here on, if all are free. */
static bool empty_queue(struct pool *pool)
{
    bool idle = true;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    for (uint32_t i = 0; i < SLOTS; i++)
        idle = idle && neomm__load_relaxed(&pool->slot[i].state) == SLOT_FREE;
    if (idle)
        pool->first = pool->last = 0;
    neomm__unlock(&pool->lock, irq);
    return idle;
}

/* The pages are new: every slot can be used. */
static void fill_queue(struct pool *pool)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    pool->first = pool->last = 0;
    for (uint32_t page = 0; page < PAGES; page++)
        neomm__store_relaxed(&pool->page[page], 0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        neomm__store_relaxed(&pool->slot[i].object, NULL);
        put_last(pool, &pool->slot[i]);
    }
    neomm__unlock(&pool->lock, irq);
}

static bool is_wanted(struct neomm__heap *heap)
{
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&heap->cache[i]) &&
            neomm__load_relaxed(&heap->cache[i].interval) > 0)
            return true;
    return false;
}

static void guard_retire(struct neomm *root)
{
    struct pool *pool = pool_of(root);
    guard_settle(root);
    if (!neomm__drain_begin(root, false))
        return;
    if (neomm__guard_has_pages(&pool->guard) && !is_wanted(root->heap) && empty_queue(pool) &&
        give_pages(root, pool) != NEOMM_OK)
        fill_queue(pool);
    neomm__drain_end(root);
}

static neomm_status guard_end(struct neomm *root)
{
    struct pool *pool = pool_of(root);
    neomm_frame_t frame = pool->frame;
    neomm_status status = neomm__guard_has_pages(&pool->guard) ? give_pages(root, pool) : NEOMM_OK;
    if (status != NEOMM_OK)
        return status;
    neomm__store_release(&root->heap->guard, NULL);
    neomm__heap_give_frames(root, frame, 1);
    return NEOMM_OK;
}

static struct pool *make_state(struct neomm *root, const struct neomm_page_source *source)
{
    static const struct neomm__guard guard = {
        .base = NEOMM__GUARD_NOWHERE,
        .alloc = guard_alloc,
        .free = guard_free,
        .free_nolock = guard_free_nolock,
        .settle = guard_settle,
        .status = guard_status,
        .usable = guard_usable,
        .describe = guard_describe,
        .next = guard_next,
        .forget = guard_forget,
        .fsck = guard_fsck,
        .retire = guard_retire,
        .end_all = guard_end,
    };
    neomm_frame_t frame;
    if (NEOMM__FAULT(HEAP_STATE) || neomm_pmm_alloc(root, 0, NEOMM_ZERO, &frame) != NEOMM_OK)
        return NULL;
    neomm__heap_set_kind(root, frame, 1, NEOMM__KIND_STATE);
    struct pool *pool = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    uint64_t random = neomm_port_entropy();
    pool->guard = guard;
    pool->guard.seed = (uint32_t)random;
    pool->canary = ((uint32_t)(random >> 32) & 0x7e7e7e7e) | 0x01010101; /* no byte 0 or 255 */
    pool->source = source;
    pool->frame = frame;
    neomm__lock_init(&pool->lock, NEOMM_LOCK_CLASS_SLAB);
    return pool;
}

/* One CPU at a time. */
static neomm_status begin(struct neomm *root, const struct neomm_page_source *source)
{
    struct pool *old = pool_of(root), *pool = old ? old : make_state(root, source);
    if (!pool)
        return NEOMM_E_NOMEM;
    if (neomm__guard_has_pages(&pool->guard))
        return NEOMM_OK;
    neomm_status status = take_pages(root, pool);
    if (status == NEOMM_OK) {
        fill_queue(pool);
        neomm__store_release(&root->heap->guard, &pool->guard);
    } else if (!old)
        neomm__heap_give_frames(root, pool->frame, 1);
    return status;
}

neomm_status neomm__guard_begin(struct neomm *root)
{
    const struct neomm_page_source *source = find_source(root->heap);
    if (!source)
        return NEOMM_E_UNSUPPORTED;
    if (neomm__load_relaxed(&root->heap->sampling) == 0)
        return NEOMM_OK;
    if (!neomm__drain_begin(root, false))
        return NEOMM_E_BUSY;
    neomm_status status = begin(root, source);
    neomm__drain_end(root);
    return status;
}
