/* Frames that each CPU keeps in front of the bitmap.
 * SPDX-License-Identifier: MIT
 *
 *   CPU 0   | unmovable 256 | movable 256 | huge 8 |  the same for high frames, if there are any
 *   CPU 1   | ...
 *
 *   bit[]   | b b b b b b b b b . . . . |   taken from and put back at the end;
 *             ^ flushed first   ^ count     full: the oldest go to the bitmap
 *
 * A cache is entered by writing to its word who does, and who finds it entered goes past it to the
 * bitmap. So an interrupt handler never waits for the code that it interrupted, a task may be
 * stopped or moved to another CPU while inside, and interrupts need not be masked. Only a CPU that
 * drains all caches, because memory ran out, waits for others to leave them, its own included,
 * which another may be draining.
 */
#include "pmm/pmm_priv.h"

#define BATCH_MOST 64u

static unsigned order_of(unsigned which)
{
    return which % NEOMM__CACHES == NEOMM__CACHED_HUGE ? NEOMM__FIELD_ORDER : 0;
}

static unsigned caches_of(const struct neomm__pmm *pmm)
{
    return pmm->high ? 2 * NEOMM__CACHES : NEOMM__CACHES;
}

/* Enters this CPU's cache, if it has one: NULL otherwise. */
static struct neomm__frame_cache *enter_own(const struct neomm__pmm *pmm, unsigned which)
{
    uint32_t cpu = neomm_port_cpu()->index;
    struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
    if (neomm__load_relaxed(&cache->capacity) == 0 || !neomm__cache_enter(cache, cpu))
        return NULL;
    if (neomm__load_relaxed(&cache->capacity) != 0)
        return cache;
    neomm__cache_leave(cache); /* it was taken away meanwhile */
    return NULL;
}

/* ---- between cache and bitmap; inside ---- */

/* Filled from the end, so that it is handed out ascending; never out of the reserve, which anybody
 * could have from here. */
static void refill(struct neomm *root, struct neomm__frame_cache *cache, unsigned which,
                   neomm_flags_t flags)
{
    struct neomm__pmm *pmm = root->pmm;
    unsigned order = order_of(which), batch = neomm__cache_open(pmm) ? cache->batch : 1;
    flags &= ~NEOMM_RESERVE;
    uint32_t bits[BATCH_MOST];
    unsigned n = order == 0
                     ? neomm__area_take_frames(pmm, cache->area, batch, flags, &cache->field, bits)
                     : neomm__area_take_blocks(root, cache->area, batch, order, flags,
                                               &cache->field, false, bits);
    for (unsigned i = 0; i < n; i++) {
        cache->bit[i] = bits[n - 1 - i];
        __builtin_prefetch(&root->frames.table[bits[i]], 1);
        neomm__tree_touch(pmm, bits[i]);
    }
    neomm__cache_set_count(cache, n);
}

static void give_back(struct neomm__pmm *pmm, unsigned which, const uint32_t *bits, uint32_t count)
{
    unsigned order = order_of(which);
    if (count == 0)
        return;
    if (order == 0)
        neomm__area_release_frames(pmm, bits, count);
    else
        for (uint32_t i = 0; i < count; i++)
            neomm__area_release(pmm, bits[i], (size_t)1 << order);
}

/* The oldest of a full cache go: what was used last is still in the CPU's own caches. What goes is
 * looked for first when the cache is empty: it is warmer than what was free before. */
static void flush(struct neomm__pmm *pmm, struct neomm__frame_cache *cache, unsigned which)
{
    uint32_t n = cache->batch;
    give_back(pmm, which, cache->bit, n);
    cache->field = cache->bit[n - 1] >> NEOMM__FIELD_ORDER;
    neomm__cache_set_count(cache, cache->count - n);
    memmove(cache->bit, cache->bit + n, cache->count * sizeof(cache->bit[0]));
}

static void empty(struct neomm__pmm *pmm, struct neomm__frame_cache *cache, unsigned which)
{
    give_back(pmm, which, cache->bit, cache->count);
    neomm__cache_set_count(cache, 0);
}

/* Once the reserve was touched, what was free all the time counts for it first. */
static void yield_to_reserve(struct neomm__pmm *pmm, struct neomm__frame_cache *cache,
                             unsigned which, neomm_flags_t flags)
{
    if ((neomm__load_relaxed(&pmm->uncached) & NEOMM__TIGHT) && !(flags & NEOMM_RESERVE))
        empty(pmm, cache, which);
}

/* ---- one CPU ---- */

size_t neomm__cache_alloc(struct neomm *root, unsigned which, neomm_flags_t flags)
{
    struct neomm__frame_cache *cache = enter_own(root->pmm, which);
    size_t bit = NEOMM__BITMAP_NONE;
    if (!cache)
        return bit;
    yield_to_reserve(root->pmm, cache, which, flags);
    if (cache->count == 0)
        refill(root, cache, which, flags);
    if (cache->count > 0) {
        neomm__cache_set_count(cache, cache->count - 1);
        bit = cache->bit[cache->count];
        neomm__cache_served_more(&cache->allocated, 1);
    }
    neomm__cache_leave(cache);
    return bit;
}

uint32_t neomm__cache_alloc_bulk(struct neomm *root, neomm_flags_t flags, uint32_t most,
                                 uint32_t *bits)
{
    unsigned which = neomm__cache_which(root, 0, flags);
    struct neomm__frame_cache *cache = enter_own(root->pmm, which);
    if (!cache)
        return 0;
    yield_to_reserve(root->pmm, cache, which, flags);
    uint32_t n = cache->count < most ? cache->count : most;
    for (uint32_t i = 0; i < n; i++)
        bits[i] = cache->bit[cache->count - 1 - i];
    neomm__cache_set_count(cache, cache->count - n);
    neomm__cache_served_more(&cache->allocated, n);
    neomm__cache_leave(cache);
    return n;
}

void neomm__cache_free(struct neomm *root, size_t bit, uint32_t area, unsigned which)
{
    struct neomm__pmm *pmm = root->pmm;
    struct neomm__frame_cache *cache = enter_own(pmm, which);
    if (cache && cache->area != area) {
        neomm__cache_leave(cache);
        cache = NULL;
    }
    if (!cache) {
        neomm__area_release(pmm, bit, (size_t)1 << order_of(which));
        neomm__count_add(root, NEOMM_COUNTER_FRAME_FREE, 1);
        return;
    }
    if (cache->count == cache->capacity)
        flush(pmm, cache, which);
    cache->bit[cache->count] = (uint32_t)bit;
    neomm__cache_set_count(cache, cache->count + 1);
    neomm__cache_served_more(&cache->freed, 1);
    if (!neomm__cache_open(pmm))
        empty(pmm, cache, which);
    neomm__cache_leave(cache);
}

/* ---- all CPUs ---- */

/* A CPU waits for others, but not for what it interrupted itself. */
static bool enter_patiently(struct neomm__frame_cache *cache)
{
    uint32_t self = neomm_port_cpu()->index;
    for (uint32_t looks = NEOMM__PATIENCE; looks > 0; looks--) {
        if (neomm__cache_enter(cache, self))
            return true;
        if (neomm__load_relaxed(&cache->entered) == self + 1)
            return false;
        neomm__spin();
    }
    return false;
}

void neomm__cache_drain(struct neomm *root)
{
    struct neomm__pmm *pmm = root->pmm;
    for (uint32_t cpu = 0; cpu < pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches_of(pmm); which++) {
            struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
            if (!enter_patiently(cache))
                continue;
            empty(pmm, cache, which);
            neomm__cache_leave(cache);
        }
}

void neomm__cache_close(struct neomm *root)
{
    (void)neomm__fetch_add(&root->pmm->uncached, 1);
    neomm__cache_drain(root);
}

void neomm__cache_reopen(struct neomm *root)
{
    (void)neomm__fetch_sub(&root->pmm->uncached, 1);
}

size_t neomm__cache_frames(const struct neomm__pmm *pmm, uint32_t area)
{
    size_t sum = 0;
    for (uint32_t cpu = 0; cpu < pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches_of(pmm); which++) {
            const struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
            if (neomm__load_relaxed(&cache->area) == area)
                sum += (size_t)neomm__load_relaxed(&cache->count) << order_of(which);
        }
    return sum;
}

void neomm__cache_served(const struct neomm__pmm *pmm, uint64_t *allocated, uint64_t *freed)
{
    for (uint32_t cpu = 0; cpu < pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches_of(pmm); which++) {
            const struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
            *allocated += neomm__load_relaxed(&cache->allocated);
            *freed += neomm__load_relaxed(&cache->freed);
        }
}

/* What a cache holds: taken bits of its area, each once, whose descriptors are clean. */
static void check_cache(const struct neomm *root, const struct neomm__frame_cache *cache,
                        unsigned order, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    for (uint32_t i = 0; i < cache->count; i++) {
        size_t bit = cache->bit[i];
        unsigned number = neomm__frame_of(pmm, bit).number;
        if (pmm->tree_area[neomm__tree_of(pmm, bit)] != cache->area ||
            neomm__bitmap_count(pmm->taken, bit, (size_t)1 << order) != (size_t)1 << order)
            neomm__report(report, "pmm: frame %u is in a cache but not taken for it", number);
        if (root->frames.table[bit].references != 0)
            neomm__report(report, "pmm: frame %u is in a cache and somebody's", number);
        for (uint32_t j = 0; j < i; j++)
            if (cache->bit[j] == bit)
                neomm__report(report, "pmm: frame %u is in a cache twice", number);
    }
}

bool neomm__cache_check(const struct neomm *root, struct neomm__report *report)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t before = report->findings;
    for (uint32_t cpu = 0; cpu < pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches_of(pmm); which++) {
            const struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
            if (neomm__load_acquire(&cache->entered) != 0)
                neomm__report(report, "pmm: busy: CPU %u is in its cache, nothing was checked",
                              cpu);
            else
                check_cache(root, cache, order_of(which), report);
        }
    return report->findings == before;
}

/* ---- setting up ---- */

static size_t bytes_of(unsigned which)
{
    size_t most = order_of(which) == 0 ? NEOMM__CACHE_MOST : NEOMM__HUGE_MOST;
    return NEOMM__ALIGN_UP(offsetof(struct neomm__frame_cache, bit) + most * sizeof(uint32_t), 64);
}

size_t neomm__cache_bytes(bool high)
{
    size_t sum = 0;
    for (unsigned which = 0; which < (high ? 2 : 1) * NEOMM__CACHES; which++)
        sum += bytes_of(which);
    return sum;
}

/* The area whose frames a CPU of `node` keeps; NEOMM__AREAS: none. As when a cache is passed over,
 * a zone of any node comes before a lower zone. */
static uint32_t home_of(const struct neomm__pmm *pmm, uint32_t node, bool high)
{
    unsigned lowest = high ? (unsigned)NEOMM_ZONE_HIGH : (unsigned)NEOMM_ZONE_DMA;
    for (unsigned zone = high ? NEOMM_ZONES : NEOMM_ZONE_HIGH; zone-- > lowest;)
        for (uint32_t i = 0; i < pmm->nodes; i++) {
            uint32_t number = (node + i) % pmm->nodes * NEOMM_ZONES + zone;
            if (neomm__load_relaxed(&pmm->area[number].managed) > 0)
                return number;
        }
    return NEOMM__AREAS;
}

/* What all CPUs' caches of one kind keep is a 64th of an area's frames at most. */
static uint32_t capacity_of(const struct neomm__pmm *pmm, uint32_t area, unsigned which)
{
    if (area == NEOMM__AREAS)
        return 0;
    size_t managed = neomm__load_relaxed(&pmm->area[area].managed);
    size_t share = (managed >> 6) / pmm->cpus >> order_of(which);
    size_t most = order_of(which) == 0 ? NEOMM__CACHE_MOST : NEOMM__HUGE_MOST;
    return (uint32_t)(share < most ? share : most);
}

/* Empties a cache and gives it its area and capacity. */
static void fit(struct neomm__pmm *pmm, uint32_t cpu, unsigned which)
{
    struct neomm__frame_cache *cache = neomm__cache_of(pmm, cpu, which);
    uint32_t area = home_of(pmm, pmm->cpu[cpu].node, which >= NEOMM__CACHES), capacity = 0;
    if (!enter_patiently(cache))
        return;
    if (!neomm__load_relaxed(&pmm->cpu[cpu].offline))
        capacity = capacity_of(pmm, area, which);
    empty(pmm, cache, which);
    cache->batch = capacity / 2 < BATCH_MOST ? (capacity + 1) / 2 : BATCH_MOST;
    neomm__store_relaxed(&cache->area, area);
    neomm__store_relaxed(&cache->capacity, capacity);
    neomm__cache_leave(cache);
}

void neomm__cache_fit(struct neomm *root)
{
    for (uint32_t cpu = 0; cpu < root->pmm->cpus; cpu++)
        for (unsigned which = 0; which < caches_of(root->pmm); which++)
            fit(root->pmm, cpu, which);
}

void neomm__cache_enable(struct neomm *root, uint32_t cpu, bool enable)
{
    struct neomm__pmm *pmm = root->pmm;
    neomm__store_relaxed(&pmm->cpu[cpu].offline, !enable);
    for (unsigned which = 0; which < caches_of(pmm); which++)
        fit(pmm, cpu, which);
}

void neomm__cache_place(struct neomm__pmm *pmm)
{
    for (unsigned which = 0; which < caches_of(pmm); which++) {
        pmm->cache_at[which] = (uint32_t)pmm->cache_stride;
        pmm->cache_stride += bytes_of(which);
    }
}
