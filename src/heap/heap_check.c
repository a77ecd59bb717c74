/* What the heap says about itself: the consistency check, the snapshot, the leak report.
 * SPDX-License-Identifier: MIT */
#include "ledger.h"

/* What a walk over everything adds up, to compare with the totals that were kept. */
struct tally {
    struct neomm *root;
    struct neomm__report *report;
    size_t lent; /* objects of the cache at hand that are guarded, or not free in their slab */
    size_t runs, run_frames, run_bytes, slab_pages;
    size_t records[NEOMM__RECORD_POOLS];
};

/* ---- descriptors ---- */

/* The pages behind the first: of kind `kind`, with an owner that counts up from `owner`. */
static void check_tail(struct tally *tally, const struct neomm_page_source *source,
                       const uint8_t *base, uint32_t pages, enum neomm__kind kind, uint32_t owner)
{
    uint32_t step = kind == NEOMM__KIND_TAIL ? 1 : 0;
    for (uint32_t i = 1; i < pages; i++) {
        neomm_frame_t frame = source->frame_of(source->context, base + i * NEOMM_PAGE_SIZE);
        const struct neomm__frame *entry = neomm__frame(tally->root, frame);
        if (neomm_frame_is_nil(frame) || entry->kind != kind || entry->owner != owner + i * step)
            neomm__report(tally->report, "heap: page %u of the block at %p: descriptor disagrees",
                          i, (const void *)base);
    }
}

/* The record of a slab or run whose head is `frame`; NULL, reported, if it cannot be. */
static void *record_of(struct tally *tally, neomm_frame_t frame, uint32_t pool)
{
    const struct neomm__frame *entry = neomm__frame(tally->root, frame);
    neomm_frame_t holder = neomm_paddr_frame(entry->mapping);
    const struct neomm__frame *home = neomm__frame(tally->root, holder);
    if (!home || neomm_frame_is_nil(holder) || home->kind != NEOMM__KIND_STATE ||
        home->owner != pool) {
        neomm__report(tally->report, "heap: frame %#x: no record at %#llx", frame.number,
                      (unsigned long long)entry->mapping);
        return NULL;
    }
    uint32_t size = tally->root->heap->pool[home->owner].size;
    uint32_t offset = (uint32_t)(entry->mapping & (NEOMM_PAGE_SIZE - 1));
    if (offset % size != 0 || !(home->mapping >> offset / size & 1))
        neomm__report(tally->report, "heap: frame %#x: its record is not in use", frame.number);
    tally->records[home->owner]++;
    return neomm__record_at(tally->root, entry->mapping);
}

/* ---- slabs ---- */

static void check_counts(struct tally *tally, const struct neomm_kmem *cache,
                         const struct neomm__slab *slab, enum neomm__slab_list list)
{
    uint32_t free = 0;
    for (uint32_t i = 0; i < cache->objects; i++) {
        free += neomm__slab_is_free(slab, i);
        if (!neomm__slab_is_free(slab, i) && i >= slab->built)
            neomm__report(tally->report, "heap: object %u of the slab at %p was never handed out",
                          i, (void *)slab->base);
    }
    bool listed = list == NEOMM__SLABS_EMPTY  ? free == cache->objects
                  : list == NEOMM__SLABS_FULL ? free == 0
                                              : free > 0 && free < cache->objects;
    if (free != slab->free || !listed || slab->built > cache->objects)
        neomm__report(tally->report, "heap: slab at %p: %u objects free, %u counted, in list %d",
                      (void *)slab->base, free, slab->free, (int)list);
    tally->lent += cache->objects - free;
}

static void check_slab(struct tally *tally, const struct neomm_kmem *cache,
                       enum neomm__slab_list list, neomm_frame_t frame)
{
    const struct neomm__heap *heap = tally->root->heap;
    const struct neomm_page_source *source = &heap->source[NEOMM__SOURCE_MAIN];
    const struct neomm__slab *slab = record_of(tally, frame, cache->pool);
    const struct neomm__frame *entry = neomm__frame(tally->root, frame);
    if (!slab)
        return;
    if (slab->frame != frame.number || slab->cache != cache->number ||
        entry->owner != neomm__slab_owner(cache->number, slab->base) ||
        source->frame_of(source->context, slab->base).number != frame.number) {
        neomm__report(tally->report, "heap: frame %#x: its record is that of frame %#x, cache %u",
                      frame.number, slab->frame, slab->cache);
        return;
    }
    if (slab->ledger && neomm__ledger_is_record(cache))
        tally->records[NEOMM__RECORD_LARGE]++;
    tally->slab_pages += cache->pages;
    check_counts(tally, cache, slab, list);
    check_tail(tally, source, slab->base, cache->pages, NEOMM__KIND_SLAB, entry->owner);
    for (uint32_t i = 1; i < cache->pages; i++) {
        neomm_frame_t page = source->frame_of(source->context, slab->base + i * NEOMM_PAGE_SIZE);
        if (neomm__frame(tally->root, page)->mapping != entry->mapping)
            neomm__report(tally->report, "heap: page %u of the slab at %p: another record", i,
                          (void *)slab->base);
    }
}

/* Calls visit for each frame of a list, which must be as long as it says, of one kind, and
 * linked both ways. */
static void check_list(struct tally *tally, const struct neomm__frame_list *list, const char *what,
                       enum neomm__kind kind,
                       void (*visit)(struct tally *, const void *, neomm_frame_t),
                       const void *context)
{
    uint32_t previous = 0, number = list->head, count = 0;
    for (; number != 0 && count < list->count; count++) {
        const struct neomm__frame *entry = neomm__frame(tally->root, neomm_frame(number));
        if (!entry || entry->kind != kind || entry->previous != previous) {
            neomm__report(tally->report, "heap: %s: frame %#x does not belong here", what, number);
            return;
        }
        visit(tally, context, neomm_frame(number));
        previous = number;
        number = entry->next;
    }
    if (number != 0 || count != list->count || list->tail != previous)
        neomm__report(tally->report, "heap: %s: %u frames counted, the list is another", what,
                      list->count);
}

struct slab_visit {
    const struct neomm_kmem *cache;
    enum neomm__slab_list list;
};

static void visit_slab(struct tally *tally, const void *context, neomm_frame_t frame)
{
    const struct slab_visit *visit = context;
    check_slab(tally, visit->cache, visit->list, frame);
}

/* ---- magazines ---- */

static size_t kept(const struct neomm *root, const struct neomm_kmem *cache)
{
    size_t sum = 0;
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        sum += neomm__magazine_kept(neomm__magazine_of(cache, cpu));
    return sum;
}

/* An object of the cache that is not free in its slab. */
static bool is_lent(struct neomm *root, const struct neomm_kmem *cache, const void *object)
{
    struct neomm__heap_place place;
    return neomm__heap_find(root, object, &place) == NEOMM_OK && place.cache == cache;
}

static bool bounds_are_good(const struct neomm_kmem *cache, const struct neomm__magazine *magazine)
{
    uint32_t slots = magazine->slots, limit = magazine->limit;
    if (slots == 0)
        return neomm__magazine_kept(magazine) == 0 && magazine->out_end == 0 && limit == 0;
    return slots == cache->capacity && magazine->in - NEOMM__MAGAZINE_FIRST <= slots &&
           magazine->out - NEOMM__MAGAZINE_FIRST <= slots &&
           magazine->out_end <= neomm__magazine_end(magazine) &&
           (limit == 0 || (limit == cache->limit && magazine->inverse == cache->inverse)) &&
           magazine->object[slots] == magazine;
}

static void check_magazine(struct tally *tally, uint32_t cpu, const struct neomm_kmem *cache)
{
    const struct neomm__magazine *magazine = neomm__magazine_of(cache, cpu);
    uint32_t count = neomm__magazine_kept(magazine), slots = magazine->slots;
    if (!bounds_are_good(cache, magazine)) {
        neomm__report(tally->report, "heap: CPU %u holds %u objects of cache %u, at most %u", cpu,
                      count, cache->number, cache->capacity);
        return;
    }
    size_t first = magazine->out - NEOMM__MAGAZINE_FIRST;
    for (uint32_t i = 0; i < slots; i++) {
        void *object = magazine->object[(first + i) % slots];
        bool good = i < count ? is_lent(tally->root, cache, object) : !object;
        for (uint32_t j = 0; j < i && i < count; j++)
            good = good && magazine->object[(first + j) % slots] != object;
        if (!good)
            neomm__report(tally->report, "heap: CPU %u holds %p as a free object of cache %u", cpu,
                          object, cache->number);
    }
}

static void check_depot(struct tally *tally, const struct neomm_kmem *cache)
{
    for (uint32_t i = 0; i < cache->stored; i++) {
        const void *object = neomm__depot_object(cache, i);
        if (!object || !is_lent(tally->root, cache, object)) {
            neomm__report(tally->report, "heap: the depot of cache %u holds %p, %u of %u objects",
                          cache->number, object, i, cache->stored);
            return;
        }
    }
}

static bool is_entered(struct tally *tally, const struct neomm_kmem *cache)
{
    for (uint32_t cpu = 0; cpu < tally->root->cpus; cpu++)
        if (neomm__load_acquire(&neomm__magazine_of(cache, cpu)->door) == NEOMM__MAGAZINE_ENTERED) {
            neomm__report(tally->report, "heap: busy: CPU %u is in its magazine of cache %u", cpu,
                          cache->number);
            return true;
        }
    return false;
}

static size_t guarded(struct neomm *root, const struct neomm_kmem *cache)
{
    size_t objects = 0, size;
    const void *object = NULL;
    while ((object = neomm__guard_next(root, cache, object, &size)) != NULL)
        objects++;
    return objects;
}

static void check_cache(struct tally *tally, const struct neomm_kmem *cache)
{
    uint64_t allocated = 0, freed = 0;
    size_t before = tally->report->findings;
    tally->lent = guarded(tally->root, cache);
    if (is_entered(tally, cache))
        return;
    for (unsigned list = 0; list < NEOMM__SLAB_LISTS; list++) {
        struct slab_visit visit = {cache, (enum neomm__slab_list)list};
        check_list(tally, &cache->list[list], "slabs", NEOMM__KIND_SLAB, visit_slab, &visit);
    }
    neomm__kmem_served(tally->root, cache, &allocated, &freed);
    size_t live = (size_t)(allocated - freed);
    if (tally->lent - kept(tally->root, cache) - cache->stored - cache->held != live)
        neomm__report(tally->report,
                      "heap: cache %u: lent out %zu objects, CPUs hold %zu, %zu are live",
                      cache->number, tally->lent, kept(tally->root, cache), live);
    /* Only sound slabs can be asked about the objects that CPUs hold. */
    for (uint32_t cpu = 0; before == tally->report->findings && cpu < tally->root->cpus; cpu++)
        check_magazine(tally, cpu, cache);
    if (before == tally->report->findings)
        check_depot(tally, cache);
}

/* ---- runs and records ---- */

static void visit_run(struct tally *tally, const void *context, neomm_frame_t frame)
{
    const struct neomm__heap *heap = tally->root->heap;
    const struct neomm__run *run = record_of(tally, frame, NEOMM__RECORD_SMALL);
    (void)context;
    if (!run)
        return;
    if (run->frame != frame.number || run->source >= heap->sources ||
        neomm__frame(tally->root, frame)->owner != run->pages || run->requested == 0 ||
        run->requested > run->pages * NEOMM_PAGE_SIZE) {
        neomm__report(tally->report,
                      "heap: run at frame %#x: %u pages, %zu bytes, record disagrees", frame.number,
                      run->pages, run->requested);
        return;
    }
    const struct neomm_page_source *source = &heap->source[run->source];
    if (source->frame_of(source->context, run->base).number != frame.number)
        neomm__report(tally->report, "heap: run at %p: not over frame %#x", (void *)run->base,
                      frame.number);
    check_tail(tally, source, run->base, run->pages, NEOMM__KIND_TAIL, 0);
    tally->runs++;
    tally->run_bytes += run->requested;
    tally->run_frames += run->pages;
}

/* The number of records in use that the frames of a pool say. */
static void visit_records(struct tally *tally, const void *context, neomm_frame_t frame)
{
    size_t *used = (size_t *)(uintptr_t)context;
    const struct neomm__frame *entry = neomm__frame(tally->root, frame);
    uint64_t map = entry->mapping;
    *used += neomm__popcount32((uint32_t)map) + neomm__popcount32((uint32_t)(map >> 32));
}

static void check_pool(struct tally *tally, uint32_t index)
{
    const struct neomm__record_pool *pool = &tally->root->heap->pool[index];
    size_t used = 0;
    check_list(tally, &pool->open, "records", NEOMM__KIND_STATE, visit_records, &used);
    check_list(tally, &pool->full, "records", NEOMM__KIND_STATE, visit_records, &used);
    if (used != tally->records[index])
        neomm__report(tally->report, "heap: pool %u: %zu records in use, %zu referred to", index,
                      used, tally->records[index]);
}

static void check_runs(struct tally *tally)
{
    const struct neomm__heap *heap = tally->root->heap;
    check_list(tally, &heap->runs, "runs", NEOMM__KIND_RUN, visit_run, NULL);
    if (heap->runs_allocated - heap->runs_freed != tally->runs ||
        heap->run_bytes != tally->run_bytes || heap->run_frames != tally->run_frames)
        neomm__report(tally->report,
                      "heap: %zu runs of %zu bytes in %zu frames; counted %zu, %zu, %zu",
                      tally->runs, tally->run_bytes, tally->run_frames,
                      heap->runs_allocated - heap->runs_freed, heap->run_bytes, heap->run_frames);
}

void neomm__heap_fsck(struct neomm *root, struct neomm__report *report)
{
    struct tally tally = {.root = root, .report = report};
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&root->heap->cache[i]))
            check_cache(&tally, &root->heap->cache[i]);
    if (root->heap->guard)
        root->heap->guard->fsck(root, report);
    check_runs(&tally);
    if (root->heap->held_pages != tally.slab_pages + tally.run_frames)
        neomm__report(report, "heap: %zu pages held; counted %zu", root->heap->held_pages,
                      tally.slab_pages + tally.run_frames);
    for (uint32_t i = 0; i < NEOMM__RECORD_POOLS; i++)
        check_pool(&tally, i);
}

/* ---- snapshot ---- */

/* What fits of a text, in characters that need no care. */
static void copy_text(char *to, size_t room, const char *from)
{
    size_t i = 0;
    for (; i + 1 < room && from[i]; i++)
        to[i] =
            from[i] > ' ' && from[i] <= '~' && from[i] != '"' && from[i] != '\\' ? from[i] : '_';
    to[i] = '\0';
}

/* Its end, where it does not fit. */
static void copy_end(char *to, size_t room, const char *from)
{
    size_t length = 0;
    while (from[length])
        length++;
    copy_text(to, room, length < room ? from : from + (length - room + 1));
}

static void snapshot_site(void *context, const struct neomm_heap_site_stats *stats)
{
    struct neomm_snapshot *snapshot = context;
    struct neomm_snapshot_site *site = &snapshot->site[snapshot->sites++];
    const struct neomm_site *record = stats->site.site;
    *site = (struct neomm_snapshot_site){.line = record ? record->line : 0,
                                         .address = stats->site.address,
                                         .objects = stats->objects,
                                         .bytes = stats->bytes,
                                         .allocations = stats->allocations};
    if (record) {
        copy_end(site->file, sizeof(site->file), record->file);
        copy_text(site->function, sizeof(site->function), record->function);
    }
}

static void snapshot_cache(struct neomm *root, struct neomm_kmem *cache,
                           struct neomm_snapshot *snapshot)
{
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(root, cache, &stats);
    if (stats.slabs == 0 || snapshot->caches++ >= NEOMM_SNAPSHOT_CACHES)
        return;
    struct neomm_snapshot_cache *line = &snapshot->cache[snapshot->caches - 1];
    *line = (struct neomm_snapshot_cache){.object_size = stats.object_size,
                                          .size = stats.size,
                                          .objects = stats.objects,
                                          .kept = stats.kept,
                                          .slabs = stats.slabs,
                                          .slab_frames = stats.slabs * stats.slab_frames,
                                          .profile = neomm__load_relaxed(&cache->profile)};
    copy_text(line->name, sizeof(line->name), stats.name);
}

void neomm__heap_snapshot(struct neomm *root, struct neomm_snapshot *snapshot)
{
    struct neomm__heap *heap = root->heap;
    const struct neomm__sites *sites = neomm__load_acquire(&heap->sites);
    neomm_heap_stats(root, &snapshot->heap);
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&heap->cache[i])) {
            neomm__kmem_served(root, &heap->cache[i], &snapshot->counter[NEOMM_COUNTER_KMALLOC],
                               &snapshot->counter[NEOMM_COUNTER_KFREE]);
            snapshot_cache(root, &heap->cache[i], snapshot);
        }
    if (sites)
        sites->list(root, NEOMM_SNAPSHOT_SITES, snapshot_site, snapshot);
    snapshot->counter[NEOMM_COUNTER_KMALLOC] += heap->runs_allocated;
    snapshot->counter[NEOMM_COUNTER_KFREE] += heap->runs_freed;
}

/* ---- leaks ---- */

static void log_leak(uint32_t *listed, const char *what, const void *block, size_t size)
{
    if ((*listed)++ < NEOMM__LEAKS_LISTED)
        neomm__log(NEOMM_LOG_WARNING, "heap: leak: %p, %zu bytes (%s)", block, size, what);
}

static void log_slab_leaks(const struct neomm *root, const struct neomm_kmem *cache,
                           neomm_frame_t head, uint32_t *listed)
{
    const struct neomm__slab *slab = neomm__record_at(root, neomm__frame(root, head)->mapping);
    for (uint32_t i = 0; i < cache->objects && *listed < NEOMM__LEAKS_LISTED; i++)
        if (!neomm__slab_is_free(slab, i))
            log_leak(listed, cache->name, slab->base + (size_t)i * cache->size, cache->object_size);
}

void neomm__kmem_log_leaks(struct neomm *root, const struct neomm_kmem *cache, uint32_t *listed)
{
    for (unsigned i = 0; i < NEOMM__SLAB_LISTS; i++)
        for (uint32_t number = cache->list[i].head; number != 0;
             number = neomm__frame(root, neomm_frame(number))->next)
            log_slab_leaks(root, cache, neomm_frame(number), listed);
    const void *object = NULL;
    size_t size;
    while ((object = neomm__guard_next(root, cache, object, &size)) != NULL)
        log_leak(listed, cache->name, object, size);
}

/* A cache that has no objects is one by itself, unless it is kmalloc's. */
static void log_cache(struct neomm *root, const struct neomm_kmem *cache, uint32_t *listed)
{
    uint32_t before = *listed;
    neomm__kmem_log_leaks(root, cache, listed);
    if (*listed == before && cache->number >= root->heap->classes &&
        (*listed)++ < NEOMM__LEAKS_LISTED)
        neomm__log(NEOMM_LOG_WARNING, "heap: leak: cache %s, which is empty", cache->name);
}

void neomm__heap_log_leaks(struct neomm *root)
{
    const struct neomm__heap *heap = root->heap;
    uint32_t listed = 0;
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++)
        if (neomm__kmem_is_live(&heap->cache[i]))
            log_cache(root, &heap->cache[i], &listed);
    for (uint32_t number = heap->runs.head; number != 0;
         number = neomm__frame(root, neomm_frame(number))->next) {
        const struct neomm__run *run =
            neomm__record_at(root, neomm__frame(root, neomm_frame(number))->mapping);
        log_leak(&listed, "pages", run->base, run->requested);
    }
}
