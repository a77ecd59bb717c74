/* What the heap says about misuse.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

static const char *const error_text[] = {
    [NEOMM_HEAP_INVALID_FREE] = "not the start of a block",
    [NEOMM_HEAP_DOUBLE_FREE] = "freed already",
    [NEOMM_HEAP_FOREIGN_FREE] = "not from this allocator",
    [NEOMM_HEAP_OVERRUN] = "the bytes beside it were written to",
    [NEOMM_HEAP_WRITE_AFTER_FREE] = "written to while it was free",
    [NEOMM_HEAP_ACCESS_AFTER_FREE] = "after it was freed",
    [NEOMM_HEAP_ACCESS_OUTSIDE] = "beside an object",
};

/* ---- the log ---- */

static void log_site(const char *what, const struct neomm_heap_site *site)
{
    if (site->site)
        neomm__log(NEOMM_LOG_ERROR, "heap:   %s at %s:%u, %s", what, site->site->file,
                   site->site->line, site->site->function);
    else if (site->address != 0)
        neomm__log(NEOMM_LOG_ERROR, "heap:   %s at %#zx", what, (size_t)site->address);
}

static void log_neighbour(const char *where, const void *object, bool live)
{
    if (object)
        neomm__log(NEOMM_LOG_ERROR, "heap:   %s it: %p, %s", where, object, live ? "live" : "free");
}

static void log_report(const struct neomm_heap_report *report)
{
    neomm__log(NEOMM_LOG_ERROR, "heap: %s of %p: %s", report->function, report->pointer,
               error_text[report->error]);
    if (!report->object)
        return;
    if (report->cache)
        neomm__log(NEOMM_LOG_ERROR, "heap:   byte %ld of the object %p of %zu bytes, cache %s, %s",
                   (long)report->offset, report->object, report->size, report->cache,
                   report->live ? "live" : "free");
    else
        neomm__log(NEOMM_LOG_ERROR, "heap:   byte %ld of the pages at %p, %zu bytes, live",
                   (long)report->offset, report->object, report->size);
    log_site("allocated", &report->allocated);
    log_site("freed", &report->freed);
    log_neighbour("before", report->before, report->before_live);
    log_neighbour("after", report->after, report->after_live);
}

void neomm__heap_complain(struct neomm *root, struct neomm_heap_report *report)
{
    const struct neomm__heap *heap = root->heap;
    NEOMM__COUNT(root, BAD_FREE);
    log_report(report);
    if (heap->report)
        heap->report(heap->report_context, report);
}

void neomm_heap_on_error(struct neomm *root, neomm_heap_report_fn *report, void *context)
{
    if (!root->heap)
        return;
    root->heap->report = report;
    root->heap->report_context = context;
}

/* ---- what an object is ---- */

struct neomm_heap_site neomm__heap_site(uintptr_t caller)
{
    struct neomm_heap_site site = {NULL, caller};
    if (neomm__is_site(caller))
        site = (struct neomm_heap_site){(const struct neomm_site *)caller, 0};
    return site;
}

/* An object of the slab: its address, and whether it is live; NULL: there is none. */
static const void *neighbour(const struct neomm__heap_place *place, uint32_t index, bool *live)
{
    if (index >= place->cache->objects)
        return NULL;
    *live = !neomm__slab_is_free(place->slab, index);
    return place->base + (size_t)index * place->cache->size;
}

void neomm__heap_describe(struct neomm *root, const struct neomm__heap_place *place,
                          struct neomm_heap_report *report)
{
    const struct neomm_kmem *cache = place->cache;
    report->cache = cache->name;
    report->size = cache->object_size;
    report->object = neighbour(place, place->index, &report->live);
    report->before = neighbour(place, place->index - 1, &report->before_live);
    report->after = neighbour(place, place->index + 1, &report->after_live);
    report->live = report->live && !neomm__kmem_is_kept(cache, report->object);
    const struct neomm__kmem_ops *ops = neomm__kmem_ops_of(cache);
    if (ops)
        ops->describe(root, place, report);
}

/* ---- frees that are refused ---- */

static enum neomm_heap_error error_of(neomm_status status)
{
    switch (status) {
    case NEOMM_E_INVALID:
        return NEOMM_HEAP_INVALID_FREE;
    case NEOMM_E_DOUBLE_FREE:
        return NEOMM_HEAP_DOUBLE_FREE;
    default:
        return NEOMM_HEAP_FOREIGN_FREE;
    }
}

neomm_status neomm__heap_refuse(struct neomm *root, const char *function, const void *pointer,
                                neomm_status status)
{
    struct neomm__heap_place place;
    struct neomm_heap_report report = {
        .error = error_of(status), .function = function, .pointer = pointer};
    (void)neomm__heap_find(root, pointer, &place);
    if (neomm__guard_owns(root->heap, pointer))
        root->heap->guard->describe(root, pointer, &report);
    else if (place.cache && place.index < place.cache->objects)
        neomm__heap_describe(root, &place, &report);
    else if (!place.cache && status == NEOMM_E_INVALID)
        neomm__run_describe(root, &place, &report);
    if (report.object)
        report.offset = (const uint8_t *)pointer - (const uint8_t *)report.object;
    neomm__heap_complain(root, &report);
    return status;
}

/* ---- bounds ---- */

/* One past the last byte that a live object may have, NULL: it is not live. What lies behind the
 * bytes of a HARDENED one, but for its canary, might have been asked for. */
static const uint8_t *object_end(struct neomm *root, const struct neomm__heap_place *place)
{
    const uint8_t *object = place->base + (size_t)place->index * place->cache->size;
    size_t usable = neomm_ksize(root, object), most = place->cache->size;
    if (usable == 0)
        return NULL;
    if (usable < most)
        most -= NEOMM__CANARY_BYTES;
    return object + (usable > most ? usable : most);
}

static const uint8_t *block_end(struct neomm *root, const void *pointer)
{
    struct neomm__heap_place place;
    neomm_status status = neomm__heap_find(root, pointer, &place);
    if (status != NEOMM_OK && status != NEOMM_E_INVALID)
        return NULL;
    if (!place.cache)
        return place.base + neomm_ksize(root, place.base);
    return place.index < place.cache->objects ? object_end(root, &place) : NULL;
}

static const uint8_t *guarded_end(struct neomm *root, const void *pointer)
{
    struct neomm_heap_report report = {.pointer = pointer};
    root->heap->guard->describe(root, pointer, &report);
    bool inside = report.live && report.offset >= 0;
    return inside ? (const uint8_t *)report.object + report.size : NULL;
}

size_t neomm_heap_bound(struct neomm *root, const void *pointer)
{
    const uint8_t *end = NULL;
    if (root->heap && pointer)
        end = neomm__guard_owns(root->heap, pointer) ? guarded_end(root, pointer)
                                                     : block_end(root, pointer);
    return (uintptr_t)end > (uintptr_t)pointer ? (size_t)(end - (const uint8_t *)pointer) : 0;
}
