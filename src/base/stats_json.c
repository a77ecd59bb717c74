/* Snapshots as JSON: one object, integers only, sizes in bytes.
 * SPDX-License-Identifier: MIT */
#include "stats_priv.h"

/* An object under construction: its members are separated by commas, the first has none. */
struct json {
    const struct neomm__stats_out *out;
    bool first;
};

static void open(struct json *json, const char *key, char bracket)
{
    if (key)
        neomm__stats_put(json->out, "%s\"%s\":%c", json->first ? "" : ",", key, bracket);
    else
        neomm__stats_put(json->out, "%s%c", json->first ? "" : ",", bracket);
    json->first = true;
}

static void close(struct json *json, char bracket)
{
    neomm__stats_put(json->out, "%c", bracket);
    json->first = false;
}

static void number(struct json *json, const char *key, uint64_t value)
{
    neomm__stats_put(json->out, "%s\"%s\":%llu", json->first ? "" : ",", key,
                     (unsigned long long)value);
    json->first = false;
}

/* `value` is one of our own names, or a copy in a snapshot: nothing in it needs escaping. */
static void name(struct json *json, const char *key, const char *value)
{
    neomm__stats_put(json->out, "%s\"%s\":\"%s\"", json->first ? "" : ",", key, value);
    json->first = false;
}

static void element(struct json *json, uint64_t value)
{
    neomm__stats_put(json->out, "%s%llu", json->first ? "" : ",", (unsigned long long)value);
    json->first = false;
}

static void frames(struct json *json, const char *key, uint64_t count)
{
    number(json, key, count << NEOMM_PAGE_SHIFT);
}

/* An array of objects; `row` writes the members of one. */
static void table(struct json *json, const char *key, const struct neomm_snapshot *snapshot,
                  uint32_t count,
                  void (*row)(struct json *json, const struct neomm_snapshot *snapshot, uint32_t i))
{
    open(json, key, '[');
    for (uint32_t i = 0; i < count; i++) {
        open(json, NULL, '{');
        row(json, snapshot, i);
        close(json, '}');
    }
    close(json, ']');
}

static void sizes(struct json *json, const struct neomm_zone_stats *zone)
{
    frames(json, "total", zone->total);
    frames(json, "free", zone->free);
    frames(json, "used", zone->used);
    frames(json, "reserved", zone->reserved);
    frames(json, "metadata", zone->metadata);
}

static void zone_row(struct json *json, const struct neomm_snapshot *snapshot, uint32_t i)
{
    name(json, "name", neomm__zone_name[i]);
    sizes(json, &snapshot->zone[i]);
    open(json, "free_runs", '[');
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        element(json, snapshot->zone[i].free_runs[order]);
    close(json, ']');
}

static void json_memory(struct json *json, const struct neomm_snapshot *snapshot)
{
    struct neomm_zone_stats sum;
    neomm__zone_sum(snapshot, &sum);
    open(json, "memory", '{');
    sizes(json, &sum);
    frames(json, "page_tables", snapshot->table_frames);
    close(json, '}');
    table(json, "zones", snapshot, NEOMM_ZONES, zone_row);
}

static void json_heap(struct json *json, const struct neomm_heap_stats *heap)
{
    open(json, "heap", '{');
    number(json, "allocated", heap->allocated_bytes);
    number(json, "requested", heap->requested_bytes);
    number(json, "objects", heap->objects);
    frames(json, "slabs", heap->slab_frames);
    frames(json, "runs", heap->run_frames);
    close(json, '}');
}

static void json_swap(struct json *json, const struct neomm_swap_stats *swap)
{
    open(json, "swap", '{');
    number(json, "areas", swap->areas);
    frames(json, "total", swap->slots);
    frames(json, "free", swap->slots - swap->used - swap->bad);
    frames(json, "used", swap->used);
    frames(json, "bad", swap->bad);
    frames(json, "filled", swap->filled);
    number(json, "reads", swap->reads);
    number(json, "writes", swap->writes);
    number(json, "read_errors", swap->read_errors);
    number(json, "write_errors", swap->write_errors);
    number(json, "corrupt", swap->corrupt);
    open(json, "pool", '{');
    frames(json, "pages", swap->pool_pages);
    number(json, "stored", swap->pool_bytes);
    frames(json, "total", swap->pool_frames);
    frames(json, "limit", swap->pool_limit);
    number(json, "hits", swap->pool_hits);
    number(json, "rejected", swap->pool_rejected);
    number(json, "no_room", swap->pool_no_room);
    number(json, "written_back", swap->pool_written_back);
    close(json, '}');
    close(json, '}');
}

static void json_page_cache(struct json *json, const struct neomm_cache_stats *cache)
{
    open(json, "page_cache", '{');
    frames(json, "total", cache->pages);
    frames(json, "dirty", cache->dirty);
    frames(json, "dirty_limit", cache->dirty_limit);
    number(json, "shadows", cache->shadows);
    number(json, "reads", cache->reads);
    number(json, "writes", cache->writes);
    number(json, "read_errors", cache->read_errors);
    number(json, "write_errors", cache->write_errors);
    number(json, "ahead", cache->ahead);
    number(json, "ahead_hits", cache->ahead_hits);
    number(json, "around", cache->around);
    number(json, "refaults", cache->refaults);
    number(json, "dropped", cache->dropped);
    close(json, '}');
}

static void json_stall(struct json *json, const char *key, const struct neomm_stall *stall)
{
    open(json, key, '{');
    number(json, "avg10", stall->average[0]);
    number(json, "avg60", stall->average[1]);
    number(json, "avg300", stall->average[2]);
    number(json, "total_ns", stall->total);
    close(json, '}');
}

static void json_pressure(struct json *json, const struct neomm_pressure *pressure)
{
    open(json, "pressure", '{');
    name(json, "level", neomm_pressure_text(pressure->level));
    number(json, "stalled", pressure->stalled);
    json_stall(json, "some", &pressure->some);
    json_stall(json, "full", &pressure->full);
    close(json, '}');
}

static void space_row(struct json *json, const struct neomm_snapshot *snapshot, uint32_t i)
{
    const struct neomm_space_stats *space = &snapshot->space[i];
    number(json, "index", space->index);
    number(json, "regions", space->regions);
    number(json, "virtual", space->virtual_bytes);
    number(json, "resident", space->resident_bytes);
    number(json, "swap", space->swap_bytes);
    number(json, "page_tables", space->table_bytes);
    number(json, "faults_zero", space->faults_zero);
    number(json, "faults_swap_in", space->faults_swap_in);
    number(json, "faults_other", space->faults_other);
    number(json, "faults_copy", space->faults_copy);
    number(json, "evictions", space->evictions);
    number(json, "swap_writes", space->swap_writes);
    number(json, "locked_bytes", space->locked_bytes);
    number(json, "refaults", space->refaults);
    number(json, "refaults_near", space->refaults_near);
    number(json, "read_ahead", space->read_ahead);
    number(json, "ahead_used", space->ahead_used);
    number(json, "ahead_wasted", space->ahead_wasted);
    number(json, "swap_outs", space->swap_outs);
    number(json, "away_pages", space->away_pages);
    number(json, "back_pages", space->back_pages);
    number(json, "back_ns", space->back_ns);
    number(json, "suspensions", space->suspensions);
    number(json, "suspended", space->suspended);
    number(json, "working_set", space->working_set_bytes);
    number(json, "oom_score", space->oom_score);
    neomm__stats_put(json->out, ",\"oom_bias\":%d", (int)space->oom_bias);
    number(json, "oom_victim", space->oom_victim);
    name(json, "name", space->name);
}

static void cache_row(struct json *json, const struct neomm_snapshot *snapshot, uint32_t i)
{
    const struct neomm_snapshot_cache *cache = &snapshot->cache[i];
    name(json, "name", cache->name);
    number(json, "object_size", cache->object_size);
    number(json, "size", cache->size);
    number(json, "objects", cache->objects);
    number(json, "kept", cache->kept);
    number(json, "slabs", cache->slabs);
    frames(json, "slab_bytes", cache->slab_frames);
    number(json, "profile", cache->profile);
}

static void site_row(struct json *json, const struct neomm_snapshot *snapshot, uint32_t i)
{
    const struct neomm_snapshot_site *site = &snapshot->site[i];
    name(json, "file", site->file);
    name(json, "function", site->function);
    number(json, "line", site->line);
    number(json, "address", site->address);
    number(json, "bytes", site->bytes);
    number(json, "objects", site->objects);
    number(json, "allocations", site->allocations);
}

void neomm_snapshot_json(const struct neomm_snapshot *snapshot, neomm_text_fn *text, void *context)
{
    const struct neomm__stats_out out = {text, context};
    struct json json = {&out, true};
    open(&json, NULL, '{');
    name(&json, "schema", "neomm.memstat/1");
    number(&json, "now_ns", snapshot->now);
    number(&json, "cpus", snapshot->cpus);
    name(&json, "format", neomm__format_name(snapshot->format));
    number(&json, "layers", snapshot->layers);
    json_memory(&json, snapshot);
    json_heap(&json, &snapshot->heap);
    json_swap(&json, &snapshot->swap);
    json_page_cache(&json, &snapshot->page_cache);
    json_pressure(&json, &snapshot->pressure);
    open(&json, "counters", '{');
    for (unsigned i = 0; i < NEOMM_COUNTERS; i++)
        number(&json, neomm__counter_text[i].key, snapshot->counter[i]);
    close(&json, '}');
    number(&json, "spaces_total", snapshot->spaces);
    table(&json, "spaces", snapshot, snapshot->listed, space_row);
    number(&json, "caches_total", snapshot->caches);
    table(&json, "caches", snapshot, neomm__caches_listed(snapshot), cache_row);
    table(&json, "sites", snapshot, snapshot->sites, site_row);
    close(&json, '}');
}
