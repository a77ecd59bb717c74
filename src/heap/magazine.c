/* What happens when a magazine is empty, full, or somebody else's; and emptying them.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

/* ---- beginning ---- */

/* Pins, and marks the CPU, whose magazines have to be shut too from now on, and which has to be
 * interrupted by who does so. He leaves those of other CPUs alone: they were never touched, and may
 * take no memory yet. The exchange orders this before the CPU's first look at what the magazine may
 * hold, as that of `shut` orders what he did before it before his looks at `seen`.
 */
struct neomm__magazine *neomm__magazine_pin(struct neomm *root, const struct neomm_kmem *cache)
{
    uint32_t index = neomm_port_pin()->index;
    struct neomm__heap_cpu *cpu = &root->heap->cpu[index];
    if (neomm__load_relaxed(&cpu->seen) == 0)
        (void)neomm__exchange(&cpu->seen, 1);
    return neomm__magazine_of(cache, index);
}

void neomm__magazines_list(struct neomm__heap *heap, const struct neomm_kmem *cache, uint32_t cpus)
{
    for (uint32_t cpu = 0; cpu < cpus; cpu++)
        heap->cpu[cpu].magazine[cache->number] = neomm__magazine_of(cache, cpu);
}

/* ---- entering it to do anything ---- */

#define BUDGET_MOST ((uint32_t)INT32_MAX)

/* Objects from one that is guarded to the next: half an interval to one and a half, as nobody can
 * foresee. */
static uint32_t next_budget(const struct neomm__heap *heap, const struct neomm__magazine *magazine)
{
    const struct neomm__guard *guard = neomm__load_acquire(&heap->guard);
    uint32_t interval = magazine->interval;
    if (!guard || interval == 0 || interval > BUDGET_MOST / 2)
        return BUDGET_MOST;
    uint64_t random = neomm__mix((uint64_t)guard->seed << 32 ^ magazine->due ^ (uintptr_t)magazine);
    return 1 + interval / 2 + (uint32_t)((random >> 32) * interval >> 32);
}

/* Inside: so many objects are to be taken from now until the slow path has a look. */
static void grant(const struct neomm__heap *heap, const struct neomm_kmem *cache,
                  struct neomm__magazine *magazine)
{
    magazine->interval = neomm__load_relaxed(&cache->interval);
    magazine->due = neomm__magazine_taken(magazine) + next_budget(heap, magazine);
}

/* Objects to be taken until the slow path has a look; 0: that is now. */
static uint32_t budget_of(const struct neomm__magazine *magazine)
{
    size_t left = magazine->due - neomm__magazine_taken(magazine);
    return left <= BUDGET_MOST ? (uint32_t)left : 0;
}

/* Inside: it is empty but for so many objects from the first slot on. */
static void begin_lap(struct neomm__magazine *magazine, uint32_t count)
{
    neomm__store_relaxed(&magazine->passed,
                         neomm__magazine_taken(magazine) - NEOMM__MAGAZINE_FIRST);
    neomm__store_relaxed(&magazine->out, NEOMM__MAGAZINE_FIRST);
    neomm__store_relaxed(&magazine->in, NEOMM__MAGAZINE_FIRST + count);
}

/* Inside: a magazine without slots is a new one, all zeros, or was emptied. Behind the last slot is
 * something that is no object: there is never room for one. */
static void open_up(const struct neomm__heap *heap, const struct neomm_kmem *cache,
                    struct neomm__magazine *magazine)
{
    uint32_t slots = neomm__load_relaxed(&cache->capacity);
    if (magazine->slots != 0 || slots == 0)
        return;
    begin_lap(magazine, 0);
    memset(magazine->recent, NEOMM__MAGAZINE_FIRST, NEOMM__RECENT);
    magazine->inverse = cache->inverse;
    neomm__store_relaxed(&magazine->object[slots], magazine);
    neomm__store_relaxed(&magazine->slots, slots);
    if (budget_of(magazine) == 0)
        grant(heap, cache, magazine);
}

/* To look, not to change what others go by. */
static bool enter(struct neomm__magazine *magazine)
{
    if (magazine->door == NEOMM__MAGAZINE_ENTERED)
        return false;
    neomm__magazine_go_in(magazine);
    if (neomm__load_acquire(&magazine->closed) == 0)
        return true;
    neomm__magazine_leave(magazine);
    return false;
}

bool neomm__magazine_visit(const struct neomm__heap *heap, const struct neomm_kmem *cache,
                           struct neomm__magazine *magazine)
{
    if (!enter(magazine))
        return false;
    open_up(heap, cache, magazine);
    neomm__magazine_go_round(magazine);
    return true;
}

/* Sets the bounds, unless it is being shut: who does so makes them 0 after `closed`, and the
 * exchange orders their new values before the look at that. */
static void set_bounds(struct neomm__magazine *magazine, size_t out_end, uint32_t limit)
{
    if (neomm__load_relaxed(&magazine->out_end) == out_end &&
        neomm__load_relaxed(&magazine->limit) == limit)
        return;
    neomm__store_relaxed(&magazine->out_end, out_end);
    (void)neomm__exchange(&magazine->limit, limit);
    if (neomm__load_acquire(&magazine->closed) == 0)
        return;
    neomm__store_relaxed(&magazine->out_end, 0);
    neomm__store_relaxed(&magazine->limit, 0);
}

void neomm__magazine_part(const struct neomm_kmem *cache, struct neomm__magazine *magazine)
{
    neomm__magazine_go_round(magazine);
    size_t end = neomm__magazine_end(magazine), budget = budget_of(magazine);
    if (magazine->slots == 0)
        set_bounds(magazine, 0, 0);
    else
        set_bounds(magazine, budget < end - magazine->out ? magazine->out + budget : end,
                   cache->limit);
    neomm__magazine_leave(magazine);
}

/* Inside: takes the `count` objects that were put here first. */
void neomm__magazine_copy(struct neomm__magazine *magazine, uint32_t count, void **objects)
{
    for (uint32_t i = 0; i < count; i++) {
        void **slot = neomm__magazine_slot(magazine, magazine->out);
        objects[i] = *slot;
        neomm__store_relaxed(slot, NULL);
        neomm__store_relaxed(&magazine->out, magazine->out + 1);
        neomm__magazine_go_round(magazine);
    }
}

/* Inside: the first objects that may be taken now, at most so many. */
uint32_t neomm__magazine_take_some(struct neomm__magazine *magazine, uint32_t count, void **objects)
{
    uint32_t kept = neomm__magazine_kept(magazine), budget = budget_of(magazine);
    uint32_t most = kept < budget ? kept : budget;
    count = count < most ? count : most;
    neomm__magazine_copy(magazine, count, objects);
    return count;
}

/* ---- filling ---- */

/* Inside: an empty magazine gets up to `want` objects, at most a batch, from the first slot on. */
static void fill(struct neomm *root, struct neomm_kmem *cache, struct neomm__magazine *magazine,
                 uint32_t want, neomm_flags_t flags)
{
    void *objects[NEOMM__BATCH_MAX];
    uint32_t count = neomm__depot_take(cache, objects, want, flags);
    if (count == 0)
        count = neomm__slab_take(root, cache, NULL, objects, want, flags);
    for (uint32_t i = 0; i < count; i++)
        neomm__store_relaxed(&magazine->object[i], objects[i]);
    neomm__store_relaxed(&magazine->filled, magazine->filled + count);
    begin_lap(magazine, count);
}

/* Inside. *guard: an object is to be guarded now. */
static void top_up(struct neomm *root, struct neomm_kmem *cache, struct neomm__magazine *magazine,
                   uint32_t want, neomm_flags_t flags, bool *guard)
{
    if (magazine->slots == 0)
        return;
    if (budget_of(magazine) == 0) {
        *guard = true;
        grant(root->heap, cache, magazine);
    }
    if (neomm__magazine_kept(magazine) == 0)
        fill(root, cache, magazine, want, flags);
}

/* From the slabs that are there: a batch for the magazine and of it one for the caller, or, where
 * the magazine cannot be used, just that one. */
static void *refill(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags, bool *guard)
{
    struct neomm__magazine *magazine = neomm__magazine_pin(root, cache);
    void *object = NULL;
    bool used = false;
    if (neomm__magazine_visit(root->heap, cache, magazine)) {
        top_up(root, cache, magazine, cache->batch, flags, guard);
        (void)neomm__magazine_take_some(magazine, 1, &object);
        used = magazine->slots > 0;
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
    if (!used && neomm__slab_take(root, cache, NULL, &object, 1, flags) == 1)
        neomm__kmem_count(cache, 1, 0);
    return object;
}

/* The rest of a batch, when a slab was made for the first of it: with a single object going round,
 * each kmalloc would wait for the kfree before it. */
static void refill_ahead(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                         bool *guard)
{
    struct neomm__magazine *magazine = neomm__magazine_pin(root, cache);
    if (neomm__magazine_visit(root->heap, cache, magazine)) {
        top_up(root, cache, magazine, cache->batch - 1, flags, guard);
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
}

/* A new slab has one object for the caller before it can have any for others. */
static void *take_new(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags)
{
    void *object;
    if (neomm__slab_take_new(root, cache, NULL, &object, 1, flags) == 0)
        return NULL;
    neomm__kmem_count(cache, 1, 0);
    return object;
}

/* A guarded object in place of this one, if there can be one. */
static void *guarded(struct neomm *root, struct neomm_kmem *cache, size_t size, size_t align,
                     uintptr_t caller, void *object)
{
    const struct neomm__guard *guard = neomm__load_acquire(&root->heap->guard);
    void *better = guard ? guard->alloc(root, cache, size, align, caller) : NULL;
    if (better && object)
        (void)neomm_kfree(root, object);
    return better ? better : object;
}

/* Another CPU frees what this one is about to take, and there is no depot. */
static bool is_behind_another(const struct neomm_kmem *cache)
{
    uint32_t flusher = neomm__load_relaxed(&cache->flusher);
    return flusher != 0 && !neomm__load_relaxed(&cache->depot) &&
           flusher != 1 + neomm_port_cpu()->index;
}

/* Through the magazine, or past it from the slabs. */
static void *refill_plain(struct neomm *root, struct neomm_kmem *cache, size_t size, size_t align,
                          neomm_flags_t flags, uintptr_t caller)
{
    bool guard = false, atomic = flags & (NEOMM_NOLOCK | NEOMM_ATOMIC);
    if (!atomic)
        neomm__guard_settle(root);
    if (!(flags & NEOMM_NOLOCK) && is_behind_another(cache))
        neomm__depot_make(root, cache, flags);
    void *object = refill(root, cache, flags, &guard);
    if (!object && !(flags & NEOMM_NOLOCK)) {
        neomm__deferred_free(root);
        object = take_new(root, cache, flags);
        if (object)
            refill_ahead(root, cache, flags, &guard);
    }
    if (guard && !atomic && neomm__load_relaxed(&cache->interval) > 0)
        object = guarded(root, cache, size, align, caller, object);
    return object;
}

/* The way of the cache may change meanwhile, and back: then what was tried came to nothing. */
void *neomm__kmem_refill(struct neomm *root, struct neomm_kmem *cache, size_t size, size_t align,
                         neomm_flags_t flags, uintptr_t caller)
{
    uint32_t turns;
    void *object;
    do {
        turns = neomm__load_acquire(&cache->turns);
        const struct neomm__kmem_ops *ops = neomm__kmem_ops_of(cache);
        object = ops ? ops->alloc(root, cache, size, flags, caller)
                     : refill_plain(root, cache, size, align, flags, caller);
    } while (!object && turns != neomm__load_acquire(&cache->turns));
    if (object)
        NEOMM__OBJECT_TAKEN(object, cache->size);
    return object;
}

/* ---- emptying, inside ---- */

/* The oldest objects: what was used last is still in the CPU's own caches. */
static void take_out(struct neomm__magazine *magazine, uint32_t count, void **objects)
{
    neomm__magazine_copy(magazine, count, objects);
    neomm__store_relaxed(&magazine->passed, magazine->passed - count);
}

/* So many, at most NEOMM__BATCH_MAX, go to their slabs. Who freed twice is counted once. */
static void flush(struct neomm *root, struct neomm_kmem *cache, struct neomm__magazine *magazine,
                  uint32_t count, struct neomm__frame_list *surplus)
{
    void *objects[NEOMM__BATCH_MAX];
    take_out(magazine, count, objects);
    uint32_t twice = neomm__slab_put(root, cache, objects, count, surplus);
    neomm__store_relaxed(&magazine->filled, magazine->filled - (count - twice));
}

/* A batch of them, to the depot if there is one. */
static void flush_batch(struct neomm *root, struct neomm_kmem *cache,
                        struct neomm__magazine *magazine, struct neomm__frame_list *surplus)
{
    void *objects[NEOMM__BATCH_MAX];
    uint32_t twice;
    take_out(magazine, cache->batch, objects);
    if (!neomm__depot_put(root, cache, objects, cache->batch, &twice))
        twice = neomm__slab_put(root, cache, objects, cache->batch, surplus);
    neomm__store_relaxed(&magazine->filled, magazine->filled - (cache->batch - twice));
    neomm__store_relaxed(&cache->flusher, 1 + neomm_port_cpu()->index);
}

static uint32_t empty(struct neomm *root, struct neomm_kmem *cache,
                      struct neomm__magazine *magazine, struct neomm__frame_list *surplus)
{
    uint32_t objects = neomm__magazine_kept(magazine);
    neomm__magazine_go_round(magazine);
    for (uint32_t left = objects, count; left > 0; left -= count) {
        count = left < NEOMM__BATCH_MAX ? left : NEOMM__BATCH_MAX;
        flush(root, cache, magazine, count, surplus);
    }
    return objects;
}

/* ---- freeing ---- */

/* Inside. */
static bool holds(const struct neomm__magazine *magazine, const void *object)
{
    uint32_t i = 0;
    while (i < magazine->slots && magazine->object[i] != object)
        i++;
    return i < magazine->slots;
}

bool neomm__kmem_is_kept(const struct neomm_kmem *cache, const void *object)
{
    struct neomm__magazine *magazine = neomm__magazine_of(cache, neomm_port_pin()->index);
    bool kept = false;
    if (enter(magazine)) {
        kept = holds(magazine, object);
        neomm__magazine_leave(magazine);
    }
    neomm_port_unpin();
    return kept;
}

/* Inside. All that is there is compared where it has to be emptied anyway. */
static neomm_status push_slowly(struct neomm *root, struct neomm_kmem *cache,
                                struct neomm__magazine *magazine, void *object,
                                struct neomm__frame_list *surplus)
{
    if (neomm__magazine_knows(magazine, object))
        return NEOMM_E_DOUBLE_FREE;
    if (neomm__magazine_kept(magazine) == magazine->slots) {
        if (neomm__load_relaxed(&cache->profile) != NEOMM_HEAP_FAST && holds(magazine, object))
            return NEOMM_E_DOUBLE_FREE;
        flush_batch(root, cache, magazine, surplus);
    }
    return neomm__magazine_push(magazine, object) ? NEOMM_OK : NEOMM_E_DOUBLE_FREE;
}

/* Into the magazine, which is emptied by half if it is full. NEOMM_E_AGAIN: it cannot be used. */
static neomm_status push_flushed(struct neomm *root, struct neomm_kmem *cache, void *object,
                                 struct neomm__frame_list *surplus)
{
    struct neomm__magazine *magazine = neomm__magazine_pin(root, cache);
    neomm_status status = NEOMM_E_AGAIN;
    if (neomm__magazine_visit(root->heap, cache, magazine)) {
        if (magazine->slots > 0)
            status = push_slowly(root, cache, magazine, object, surplus);
        if (status == NEOMM_OK)
            NEOMM__OBJECT_FREED(object, cache->size);
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
    return status;
}

bool neomm__magazine_turn(const struct neomm_kmem *cache)
{
    struct neomm__magazine *magazine = neomm__magazine_of(cache, neomm_port_pin()->index);
    size_t end = neomm__magazine_end(magazine); /* racy looks: it may be shut */
    bool ended =
        neomm__load_relaxed(&magazine->in) == end || neomm__load_relaxed(&magazine->out) == end;
    bool turned = ended && end > NEOMM__MAGAZINE_FIRST && enter(magazine);
    if (turned)
        neomm__magazine_part(cache, magazine);
    neomm_port_unpin();
    return turned;
}

neomm_status neomm__kmem_flush(struct neomm *root, struct neomm_kmem *cache, void *object)
{
    struct neomm__frame_list surplus = {0, 0, 0};
    neomm_status status = push_flushed(root, cache, object, &surplus);
    if (status == NEOMM_E_AGAIN) {
        status = NEOMM_E_DOUBLE_FREE;
        NEOMM__OBJECT_FREED(object, cache->size);
        if (neomm__slab_put(root, cache, &object, 1, &surplus) == 0) {
            neomm__kmem_count(cache, 0, 1);
            status = NEOMM_OK;
        }
    } else if (status != NEOMM_OK)
        (void)neomm__heap_refuse(root, "kfree", object, status);
    (void)neomm__slabs_end(root, &surplus);
    return status;
}

/* ---- all CPUs' magazines ---- */

/* While this CPU drains: that one has magazines with something in them, or may have. */
static bool is_seen(const struct neomm *root, uint32_t cpu)
{
    return neomm__load_acquire(&root->heap->cpu[cpu].seen) != 0;
}

static void be_interrupted(void *argument)
{
    (void)argument;
}

/* Every other CPU was interrupted after what this one did before, see magazine.h. */
static void interrupt_others(const struct neomm *root)
{
    struct neomm_cpumask others = {{0}};
    uint32_t any = 0;
    neomm_irq_t irq = neomm_port_irq_save();
    uint32_t self = neomm_port_cpu()->index;
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        if (cpu != self && is_seen(root, cpu))
            any |= others.word[cpu / 32] |= 1u << cpu % 32;
    if (any != 0)
        neomm_port_ipi(&others, be_interrupted, NULL);
    neomm_port_irq_restore(irq);
}

/* Waits until its CPU has left a magazine that is shut. False: that CPU is this one, interrupted
 * inside, or it took too long, maybe because it waits for this one. */
static bool wait_until_left(const struct neomm__magazine *magazine, bool own)
{
    for (uint32_t looks = NEOMM__HEAP_PATIENCE; looks > 0; looks--) {
        if (neomm__load_acquire(&magazine->door) != NEOMM__MAGAZINE_ENTERED)
            return true;
        if (own)
            return false;
        neomm__spin();
    }
    return false;
}

static bool is_shut(const struct neomm__magazine *magazine)
{
    return neomm__load_relaxed(&magazine->closed) != 0;
}

static void shut(const struct neomm *root, struct neomm_kmem *cache)
{
    (void)neomm__exchange(&cache->shut, 1);
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++) {
        struct neomm__magazine *magazine = neomm__magazine_of(cache, cpu);
        if (!is_seen(root, cpu))
            continue;
        (void)neomm__exchange(&magazine->closed, 1);
        neomm__store_release(&magazine->out_end, 0);
        neomm__store_release(&magazine->limit, 0);
    }
}

static void reopen(const struct neomm *root, struct neomm_kmem *cache)
{
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        if (is_shut(neomm__magazine_of(cache, cpu)))
            neomm__store_release(&neomm__magazine_of(cache, cpu)->closed, 0);
    neomm__store_release(&cache->shut, 0);
}

/* Shut, left and empty: what it may hold is decided anew, and when the slow path has a look, if
 * that is to be at other intervals. */
static void reset(const struct neomm_kmem *cache, struct neomm__magazine *magazine)
{
    begin_lap(magazine, 0);
    neomm__store_relaxed(&magazine->slots, 0);
    if (magazine->interval != neomm__load_relaxed(&cache->interval))
        magazine->due = neomm__magazine_taken(magazine);
}

/* With the cache's magazines shut. */
static uint32_t empty_all(struct neomm *root, struct neomm_kmem *cache, uint32_t *frames)
{
    struct neomm__frame_list surplus = {0, 0, 0};
    uint32_t objects = 0, self = neomm_port_pin()->index;
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++) {
        struct neomm__magazine *magazine = neomm__magazine_of(cache, cpu);
        if (!is_shut(magazine) || !wait_until_left(magazine, cpu == self))
            continue;
        objects += empty(root, cache, magazine, &surplus);
        reset(cache, magazine);
    }
    objects += neomm__depot_empty(root, cache, &surplus);
    neomm_port_unpin();
    *frames += neomm__slabs_end(root, &surplus);
    return objects;
}

/* Who empties his own magazines waits for nobody but another such, who waits for no CPU. */
bool neomm__drain_begin(struct neomm *root, bool own)
{
    uint32_t self = (neomm_port_cpu()->index + 1) << 1 | own, nobody = 0;
    for (uint32_t looks = NEOMM__HEAP_PATIENCE; looks > 0; looks--) {
        if (neomm__cas(&root->heap->draining, &nobody, self))
            return true;
        if (nobody >> 1 == self >> 1 || (own && !(nobody & 1)))
            return false;
        nobody = 0;
        neomm__spin();
    }
    return false;
}

void neomm__drain_end(struct neomm *root)
{
    neomm__store_release(&root->heap->draining, 0);
}

/* A cache that is made meanwhile is not shut, and one that ends does so between two drains. */
uint32_t neomm__kmems_drain(struct neomm *root, uint32_t first, uint32_t end, uint32_t *frames)
{
    struct neomm_kmem *cache = root->heap->cache;
    uint32_t objects = 0;
    for (uint32_t i = first; i < end; i++)
        if (neomm__kmem_is_live(&cache[i]))
            shut(root, &cache[i]);
    interrupt_others(root);
    for (uint32_t i = first; i < end; i++)
        if (neomm__kmem_is_live(&cache[i]) && neomm__load_relaxed(&cache[i].shut)) {
            objects += empty_all(root, &cache[i], frames);
            reopen(root, &cache[i]);
            const struct neomm__kmem_ops *ops = neomm__kmem_ops_of(&cache[i]);
            if (ops && ops->empty)
                ops->empty(root, &cache[i]);
        }
    return objects;
}

bool neomm__kmems_empty(struct neomm *root, uint32_t first, uint32_t end, uint32_t *objects,
                        uint32_t *frames)
{
    if (!neomm__drain_begin(root, false))
        return false;
    *objects += neomm__kmems_drain(root, first, end, frames);
    neomm__drain_end(root);
    return true;
}

uint32_t neomm__heap_drain(struct neomm *root, uint32_t *frames)
{
    uint32_t objects = 0;
    *frames = 0;
    neomm_heap_settle(root);
    (void)neomm__kmems_empty(root, 0, NEOMM__KMEMS, &objects, frames);
    return objects;
}

/* ---- one CPU's magazines ---- */

static uint32_t empty_own(struct neomm *root, struct neomm_kmem *cache, uint32_t *frames)
{
    struct neomm__frame_list surplus = {0, 0, 0};
    struct neomm__magazine *magazine = neomm__magazine_of(cache, neomm_port_pin()->index);
    uint32_t objects = 0;
    if (enter(magazine)) {
        objects = empty(root, cache, magazine, &surplus);
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
    objects += neomm__depot_empty(root, cache, &surplus);
    *frames += neomm__slabs_end(root, &surplus);
    return objects;
}

uint32_t neomm__heap_drain_own(struct neomm *root, uint32_t *frames)
{
    uint32_t objects = 0;
    *frames = 0;
    neomm__deferred_free(root);
    if (!neomm__drain_begin(root, true))
        return 0;
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&root->heap->cache[i]))
            objects += empty_own(root, &root->heap->cache[i], frames);
    neomm__drain_end(root);
    return objects;
}

neomm_status neomm_heap_cpu_offline(struct neomm *root, uint32_t cpu)
{
    if (!root->heap || cpu >= root->cpus)
        return NEOMM_E_INVALID;
    neomm__deferred_free(root);
    if (!neomm__drain_begin(root, false))
        return NEOMM_E_BUSY;
    for (uint32_t i = 0; is_seen(root, cpu) && i < NEOMM__KMEMS; i++) {
        struct neomm_kmem *cache = &root->heap->cache[i];
        struct neomm__frame_list surplus = {0, 0, 0};
        if (!neomm__kmem_is_live(cache))
            continue;
        struct neomm__magazine *magazine = neomm__magazine_of(cache, cpu);
        (void)empty(root, cache, magazine, &surplus);
        begin_lap(magazine, 0);
        neomm__store_relaxed(&magazine->slots, 0);
        neomm__store_relaxed(&magazine->out_end, 0);
        neomm__store_relaxed(&magazine->limit, 0);
        (void)neomm__depot_empty(root, cache, &surplus);
        (void)neomm__slabs_end(root, &surplus);
    }
    neomm__store_release(&root->heap->cpu[cpu].seen, 0);
    neomm__drain_end(root);
    return NEOMM_OK;
}

/* ---- figures, setting up ---- */

void neomm__kmem_served(const struct neomm *root, const struct neomm_kmem *cache,
                        uint64_t *allocated, uint64_t *freed)
{
    *allocated += neomm__load_relaxed(&cache->allocated);
    *freed += neomm__load_relaxed(&cache->freed);
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++) {
        const struct neomm__magazine *magazine = neomm__magazine_of(cache, cpu);
        size_t taken = neomm__magazine_taken(magazine);
        *allocated += taken;
        *freed += taken + neomm__magazine_kept(magazine) - neomm__load_relaxed(&magazine->filled);
    }
}
