/* Call sites: what each has allocated and not freed.
 * SPDX-License-Identifier: MIT
 *
 *   keys      | records of the kmalloc macro, by number | other callers' return addresses, hashed |
 *   CPU 0     | live objects, bytes, allocations        | ...                                     |
 *   CPU 1     | ...
 *
 * A block may be freed on another CPU than it was allocated on, so that a CPU's numbers wrap; the
 * sums are right.
 */
#include "ledger.h"
#include "profile.h"

#include <neomm/pmm.h>

/* Return addresses that there is room for; a power of two. Further ones are counted together. */
#define ADDRESSES     ((uint32_t)1024)
#define OTHERS        (ADDRESSES - 1)
#define LEAKS_AT_ONCE 32u

struct counts {
    size_t objects, bytes, allocations;
};

struct neomm__site_table {
    struct neomm__sites ops;
    neomm_frame_t frame; /* where this lies */
    uint32_t frames;
    uint32_t records;      /* of the macro */
    uint32_t length;       /* records and addresses */
    struct counts *counts; /* CPU 0's, then the others' */
    uintptr_t address[ADDRESSES];
};

static struct neomm__site_table *table_of(const struct neomm *root)
{
    return root->heap->site_table;
}

/* ---- numbers of sites ---- */

static uint32_t number_of_address(struct neomm__site_table *table, uintptr_t address)
{
    uint32_t at = (uint32_t)neomm__mix(address) % OTHERS;
    for (uint32_t looks = 0; looks < OTHERS; looks++, at = (at + 1) % OTHERS) {
        uintptr_t there = neomm__load_relaxed(&table->address[at]);
        if (there == 0 && neomm__cas(&table->address[at], &there, address))
            return table->records + at;
        if (there == address)
            return table->records + at;
    }
    return table->records + OTHERS;
}

static uint32_t number_of(struct neomm__site_table *table, uintptr_t caller)
{
    if (neomm__is_site(caller))
        return (uint32_t)((const struct neomm_site *)caller - __start_neomm_sites);
    return number_of_address(table, caller);
}

static struct neomm_heap_site site_of(const struct neomm__site_table *table, uint32_t number)
{
    if (number < table->records)
        return (struct neomm_heap_site){__start_neomm_sites + number, 0};
    return (struct neomm_heap_site){NULL, table->address[number - table->records]};
}

static void count(struct neomm *root, uintptr_t caller, int objects, size_t size)
{
    struct neomm__site_table *table = table_of(root);
    uint32_t number = number_of(table, caller);
    struct counts *counts = &table->counts[neomm_port_cpu()->index * table->length + number];
    (void)neomm__fetch_add(&counts->objects, (size_t)objects);
    (void)neomm__fetch_add(&counts->bytes, objects < 0 ? (size_t)0 - size : size);
    (void)neomm__fetch_add(&counts->allocations, objects > 0);
}

/* ---- on and off ---- */

static void table_end(struct neomm *root)
{
    struct neomm__site_table *table = table_of(root);
    neomm_frame_t frame = table->frame;
    uint32_t frames = table->frames;
    neomm__heap_give_frames(root, frame, frames);
}

/* The table stays when tracking ends, since another CPU may be counting still. */
static neomm_status table_begin(struct neomm *root)
{
    if (root->heap->site_table)
        return NEOMM_OK;
    uint32_t records = (uint32_t)(__stop_neomm_sites - __start_neomm_sites);
    uint32_t length = records + ADDRESSES;
    size_t bytes =
        sizeof(struct neomm__site_table) + (size_t)root->cpus * length * sizeof(struct counts);
    struct neomm_range_request request = {.frames = (uint32_t)neomm__pages(bytes),
                                          .flags = NEOMM_ZERO};
    neomm_frame_t first;
    if (NEOMM__FAULT(HEAP_STATE) || neomm_pmm_alloc_range(root, &request, &first) != NEOMM_OK)
        return NEOMM_E_NOMEM;
    neomm__heap_set_kind(root, first, request.frames, NEOMM__KIND_STATE);
    struct neomm__site_table *table = neomm_direct_pointer(root, neomm_frame_paddr(first));
    table->ops = (struct neomm__sites){0, count, neomm_port_now, neomm_heap_sites};
    table->frame = first;
    table->frames = request.frames;
    table->records = records;
    table->length = length;
    table->counts = (struct counts *)(table + 1);
    root->heap->site_table = table;
    root->heap->sites_end = table_end;
    return NEOMM_OK;
}

static void counts_clear(const struct neomm *root, struct neomm__site_table *table)
{
    for (size_t i = 0; i < (size_t)root->cpus * table->length; i++) {
        neomm__store_relaxed(&table->counts[i].objects, 0);
        neomm__store_relaxed(&table->counts[i].bytes, 0);
        neomm__store_relaxed(&table->counts[i].allocations, 0);
    }
}

/* Never one whose low half is 0, which is all that an entry has room for. */
static uint32_t next_generation(uint32_t generation)
{
    generation++;
    return (uint16_t)generation != 0 ? generation : generation + 1;
}

/* All caches work as tracking wants it, or as many as there is memory for. */
static neomm_status apply_all(struct neomm *root, bool on)
{
    neomm_status status = NEOMM_OK;
    for (uint32_t i = 0; i < NEOMM__KMEMS && status == NEOMM_OK; i++) {
        struct neomm_kmem *cache = &root->heap->cache[i];
        if (neomm__kmem_is_live(cache))
            status = neomm__profile_apply(root, cache, (enum neomm_heap_profile)cache->profile, on);
    }
    return status;
}

neomm_status neomm_heap_track(struct neomm *root, bool on)
{
    if (!root->heap)
        return NEOMM_E_NOENT;
    if (on == (neomm__load_acquire(&root->heap->sites) != NULL))
        return NEOMM_OK;
    if (!on) {
        neomm__store_release(&root->heap->sites, NULL);
        return apply_all(root, false);
    }
    neomm_status status = table_begin(root);
    if (status != NEOMM_OK)
        return status;
    counts_clear(root, table_of(root));
    struct neomm__sites *ops = &table_of(root)->ops;
    neomm__store_relaxed(&ops->generation, next_generation(ops->generation));
    neomm__store_release(&root->heap->sites, ops);
    root->heap->adopt = neomm__profile_adopt;
    status = apply_all(root, true);
    if (status != NEOMM_OK)
        (void)neomm_heap_track(root, false);
    return status;
}

/* ---- by site ---- */

static struct neomm_heap_site_stats stats_of(const struct neomm *root,
                                             const struct neomm__site_table *table, uint32_t number)
{
    struct counts sum = {0, 0, 0};
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++) {
        const struct counts *counts = &table->counts[cpu * table->length + number];
        sum.objects += neomm__load_relaxed(&counts->objects);
        sum.bytes += neomm__load_relaxed(&counts->bytes);
        sum.allocations += neomm__load_relaxed(&counts->allocations);
    }
    return (struct neomm_heap_site_stats){site_of(table, number), sum.objects, sum.bytes,
                                          sum.allocations};
}

/* Whether (bytes, number) comes before (other_bytes, other) in the list. */
static bool precedes(uint64_t bytes, uint32_t number, uint64_t other_bytes, uint32_t other)
{
    return bytes > other_bytes || (bytes == other_bytes && number < other);
}

/* The first in the list behind (bytes, number); false: there is none. Counts may change meanwhile,
 * but the list goes on downwards. */
static bool next_site(const struct neomm *root, const struct neomm__site_table *table,
                      uint64_t *bytes, uint32_t *number, struct neomm_heap_site_stats *best)
{
    uint32_t found = UINT32_MAX;
    for (uint32_t i = 0; i < table->length; i++) {
        struct neomm_heap_site_stats stats = stats_of(root, table, i);
        if (stats.objects == 0 || !precedes(*bytes, *number, stats.bytes, i) ||
            (found != UINT32_MAX && !precedes(stats.bytes, i, best->bytes, found)))
            continue;
        found = i;
        *best = stats;
    }
    if (found == UINT32_MAX)
        return false;
    *bytes = best->bytes;
    *number = found;
    return true;
}

void neomm_heap_sites(struct neomm *root, uint32_t most,
                      void (*visit)(void *context, const struct neomm_heap_site_stats *stats),
                      void *context)
{
    struct neomm_heap_site_stats stats;
    uint64_t bytes = UINT64_MAX;
    uint32_t number = 0;
    if (!root->heap || !neomm__load_acquire(&root->heap->sites))
        return;
    while (most-- > 0 && next_site(root, table_of(root), &bytes, &number, &stats))
        visit(context, &stats);
}

/* ---- leaks ---- */

struct leak {
    const void *object;
    size_t size;
    uint64_t born;
    uintptr_t caller;
};

struct leak_search {
    struct neomm *root;
    uint64_t now, age, found;
    uint32_t generation;
    void (*visit)(void *context, const void *object, size_t size, uint64_t age,
                  const struct neomm_heap_site *site);
    void *context;
    struct leak leak[LEAKS_AT_ONCE];
    uint32_t count;
};

/* Without locks. */
static void visit_found(struct leak_search *search)
{
    for (uint32_t i = 0; i < search->count; i++) {
        const struct leak *leak = &search->leak[i];
        struct neomm_heap_site site = neomm__heap_site(leak->caller);
        search->visit(search->context, leak->object, leak->size, search->now - leak->born, &site);
    }
    search->found += search->count;
    search->count = 0;
}

static void note(struct leak_search *search, const struct leak *leak)
{
    if (search->now >= leak->born && search->now - leak->born >= search->age)
        search->leak[search->count++] = *leak;
}

/* Under the lock: LEAKS_AT_ONCE objects of the slab, from `first` on. */
static void look_at_slab(struct leak_search *search, const struct neomm_kmem *cache,
                         const struct neomm__slab *slab, uint32_t first)
{
    uint32_t end = first + LEAKS_AT_ONCE < cache->objects ? first + LEAKS_AT_ONCE : cache->objects;
    for (uint32_t i = first; slab->ledger && slab->epoch == cache->epoch && i < end; i++) {
        const struct neomm__ledger *entry = &slab->ledger[i];
        struct leak leak = {slab->base + (size_t)i * cache->size, entry->requested, entry->born,
                            entry->allocated_by};
        if (neomm__load_acquire(&entry->state) == NEOMM__ENTRY_LIVE &&
            !neomm__slab_is_free(slab, i) && entry->tracked == (uint16_t)search->generation)
            note(search, &leak);
    }
}

/* The slab at the head of the list, a part at a time, and then to the end with it. */
static void search_next_slab(struct leak_search *search, struct neomm_kmem *cache,
                             struct neomm__frame_list *list)
{
    struct neomm *root = search->root;
    for (uint32_t first = 0; first < cache->objects; first += LEAKS_AT_ONCE) {
        neomm_irq_t irq = neomm__lock(&cache->lock);
        neomm_frame_t head = neomm_frame(list->head);
        if (!neomm_frame_is_nil(head))
            look_at_slab(search, cache, neomm__record_at(root, neomm__frame(root, head)->mapping),
                         first);
        if (!neomm_frame_is_nil(head) && first + LEAKS_AT_ONCE >= cache->objects) {
            neomm__frame_list_remove(&root->frames, list, head);
            neomm__frame_list_push_tail(&root->frames, list, head);
        }
        neomm__unlock(&cache->lock, irq);
        visit_found(search);
    }
}

static void search_runs(struct leak_search *search)
{
    struct neomm *root = search->root;
    struct neomm__heap *heap = root->heap;
    neomm_irq_t irq = neomm__lock(&heap->run_lock);
    uint32_t left = heap->runs.count;
    neomm__unlock(&heap->run_lock, irq);
    for (; left > 0; left--) {
        irq = neomm__lock(&heap->run_lock);
        neomm_frame_t head = neomm__frame_list_pop(&root->frames, &heap->runs);
        if (!neomm_frame_is_nil(head)) {
            const struct neomm__run *run =
                neomm__record_at(root, neomm__frame(root, head)->mapping);
            struct leak leak = {run->base, run->requested, run->born, run->caller};
            neomm__frame_list_push_tail(&root->frames, &heap->runs, head);
            if (run->tracked == search->generation)
                note(search, &leak);
        }
        neomm__unlock(&heap->run_lock, irq);
        visit_found(search);
    }
}

uint64_t neomm_heap_leaks(struct neomm *root, uint64_t age,
                          void (*visit)(void *context, const void *object, size_t size,
                                        uint64_t age, const struct neomm_heap_site *site),
                          void *context)
{
    struct leak_search search = {.root = root, .age = age, .visit = visit, .context = context};
    if (!root->heap || !neomm__load_acquire(&root->heap->sites))
        return 0;
    search.now = table_of(root)->ops.now();
    search.generation = table_of(root)->ops.generation;
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++) {
        struct neomm_kmem *cache = &root->heap->cache[i];
        for (unsigned j = 0; neomm__kmem_is_live(cache) && j < NEOMM__SLAB_LISTS; j++)
            for (uint32_t left = neomm__slabs_listed(cache, &cache->list[j]); left > 0; left--)
                search_next_slab(&search, cache, &cache->list[j]);
    }
    search_runs(&search);
    return search.found;
}
