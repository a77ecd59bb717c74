/* Snapshots: what they hold, who may read them, and both written forms against the numbers.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/bits.h"

#include <neomm/heap_debug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum neomm_format formats[] = ENV_FORMATS;

#define ROOM 65536

struct written {
    char text[ROOM];
    size_t length;
};

static void collect(void *context, const char *text, size_t length)
{
    struct written *written = context;
    if (length > ROOM - 1 - written->length)
        length = ROOM - 1 - written->length;
    memcpy(written->text + written->length, text, length);
    written->length += length;
    written->text[written->length] = '\0';
}

static void number_caches_and_sites(struct neomm_snapshot *snapshot, uint64_t n)
{
    snapshot->caches = 2;
    snapshot->sites = 3;
    for (uint32_t i = 0; i < 2; i++) {
        struct neomm_snapshot_cache *cache = &snapshot->cache[i];
        *cache = (struct neomm_snapshot_cache){.object_size = (uint32_t)n + 1,
                                               .size = (uint32_t)n + 2,
                                               .objects = n + 3,
                                               .kept = n + 4,
                                               .slabs = n + 5,
                                               .slab_frames = n + 6,
                                               .profile = 2 + i};
        snprintf(cache->name, sizeof(cache->name), "cache-%u", i);
        n += 10;
    }
    for (uint32_t i = 0; i < 3; i++)
        snapshot->site[i] = (struct neomm_snapshot_site){
            .objects = n + 3 * i, .bytes = n + 3 * i + 1, .allocations = n + 3 * i + 2};
    snprintf(snapshot->site[1].file, sizeof(snapshot->site[1].file), "file.c");
    snprintf(snapshot->site[1].function, sizeof(snapshot->site[1].function), "function-1");
    snapshot->site[1].line = 77;
    snapshot->site[2].address = 0xabcdef;
}

/* A snapshot in which every number is another one, so that none can stand for another. */
static void number_all(struct neomm_snapshot *snapshot)
{
    uint64_t n = 1000;
    memset(snapshot, 0, sizeof(*snapshot));
    snapshot->magic = NEOMM_SNAPSHOT_MAGIC;
    snapshot->version = NEOMM_SNAPSHOT_VERSION;
    snapshot->size = sizeof(*snapshot);
    snapshot->cpus = 3;
    snapshot->format = NEOMM_FORMAT_PAE;
    snapshot->layers = 31;
    snapshot->now = 1234567890123456789u;
    for (unsigned i = 0; i < NEOMM_ZONES; i++) {
        struct neomm_zone_stats *zone = &snapshot->zone[i];
        zone->free = n += 7;
        zone->used = n += 7;
        zone->reserved = n += 7;
        zone->metadata = n += 7;
        zone->total = zone->free + zone->used + zone->reserved + zone->metadata;
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
            zone->free_runs[order] = n += 7;
    }
    snapshot->heap = (struct neomm_heap_stats){n + 1, n + 2, n + 3, n + 4, n + 5, n + 6};
    n += 10;
    snapshot->swap = (struct neomm_swap_stats){.slots = 9 * n,
                                               .used = n + 2,
                                               .bad = n + 3,
                                               .reads = n + 4,
                                               .writes = n + 5,
                                               .read_errors = n + 6,
                                               .write_errors = n + 7,
                                               .corrupt = n + 8,
                                               .filled = n + 9,
                                               .pool_pages = n + 10,
                                               .pool_bytes = n + 11,
                                               .pool_frames = n + 12,
                                               .pool_limit = n + 13,
                                               .pool_hits = n + 14,
                                               .pool_rejected = n + 15,
                                               .pool_no_room = n + 16,
                                               .pool_written_back = n + 17,
                                               .areas = 4};
    n += 20;
    snapshot->page_cache =
        (struct neomm_cache_stats){n + 1, n + 2, n + 3,  n + 4,  n + 5,  n + 6, n + 7,
                                   n + 8, n + 9, n + 10, n + 11, n + 12, n + 13};
    n += 20;
    snapshot->pressure = (struct neomm_pressure){
        .level = NEOMM_PRESSURE_MEDIUM,
        .stalled = 12,
        .some = {n + 1, {1234, 5, 10000}, 0},
        .full = {n + 2, {300, 70, 9}, 0},
    };
    n += 20;
    snapshot->table_frames = n += 7;
    for (unsigned i = 0; i < NEOMM_COUNTERS; i++)
        snapshot->counter[i] = n += 7;
    snapshot->counter[0] = UINT64_MAX;
    snapshot->spaces = NEOMM_SNAPSHOT_SPACES + 5;
    snapshot->listed = NEOMM_SNAPSHOT_SPACES;
    for (uint32_t i = 0; i < snapshot->listed; i++) {
        struct neomm_space_stats *space = &snapshot->space[i];
        *space = (struct neomm_space_stats){.index = i + 1,
                                            .regions = (uint32_t)n,
                                            .virtual_bytes = n + 1,
                                            .resident_bytes = n + 2,
                                            .swap_bytes = n + 3,
                                            .table_bytes = n + 4,
                                            .faults_zero = n + 5,
                                            .faults_swap_in = n + 6,
                                            .faults_other = n + 7,
                                            .evictions = n + 8,
                                            .swap_writes = n + 9,
                                            .locked_bytes = n + 10,
                                            .faults_copy = n + 11,
                                            .refaults = n + 12,
                                            .refaults_near = n + 13,
                                            .working_set_bytes = n + 14,
                                            .oom_bias = 30 - (int32_t)i,
                                            .oom_score = (uint32_t)n + 15,
                                            .oom_victim = i % 2,
                                            .read_ahead = n + 16,
                                            .ahead_used = n + 17,
                                            .ahead_wasted = n + 18,
                                            .swap_outs = n + 19,
                                            .away_pages = n + 20,
                                            .back_pages = n + 21,
                                            .back_ns = n + 22,
                                            .suspensions = n + 23,
                                            .suspended = i / 2 % 2};
        snprintf(space->name, sizeof(space->name), "process-%u", i);
        n += 30;
    }
    number_caches_and_sites(snapshot, 700000);
}

/* ---- a strict reader of JSON (RFC 8259), for objects, arrays, strings and integers ---- */

struct reader {
    const char *at;
};

static bool skip_value(struct reader *reader, unsigned depth);

static bool take(struct reader *reader, char c)
{
    if (*reader->at != c)
        return false;
    reader->at++;
    return true;
}

static bool skip_string(struct reader *reader)
{
    if (!take(reader, '"'))
        return false;
    while (*reader->at && *reader->at != '"' && *reader->at != '\\' &&
           (unsigned char)*reader->at >= ' ')
        reader->at++;
    return take(reader, '"');
}

/* No fraction, no leading zero. */
static bool skip_number(struct reader *reader)
{
    if (*reader->at == '-')
        reader->at++;
    const char *first = reader->at;
    while (*reader->at >= '0' && *reader->at <= '9')
        reader->at++;
    return reader->at > first && (*first != '0' || reader->at == first + 1);
}

static bool skip_members(struct reader *reader, char end, bool keys, unsigned depth)
{
    if (take(reader, end))
        return true;
    do {
        if (keys && (!skip_string(reader) || !take(reader, ':')))
            return false;
        if (!skip_value(reader, depth + 1))
            return false;
    } while (take(reader, ','));
    return take(reader, end);
}

static bool skip_value(struct reader *reader, unsigned depth)
{
    if (depth > 8)
        return false;
    if (take(reader, '{'))
        return skip_members(reader, '}', true, depth);
    if (take(reader, '['))
        return skip_members(reader, ']', false, depth);
    return *reader->at == '"' ? skip_string(reader) : skip_number(reader);
}

/* The value of `key` in the object that `json` begins with; NULL, and a note, when it is not
 * there or there twice. */
static const char *member(struct ktap *t, const char *json, const char *key)
{
    struct reader reader = {json};
    const char *found = NULL;
    size_t length = strlen(key);
    if (!json || !take(&reader, '{') || *reader.at == '}')
        return NULL;
    do {
        const char *name = reader.at;
        (void)skip_string(&reader);
        bool same = (size_t)(reader.at - name) == length + 2 && memcmp(name + 1, key, length) == 0;
        (void)take(&reader, ':');
        EXPECT(t, !same || !found);
        found = same ? reader.at : found;
        (void)skip_value(&reader, 1);
    } while (take(&reader, ','));
    if (!found)
        ktap_note(t, "no member '%s'", key);
    EXPECT(t, found);
    return found;
}

/* Element number n of the array that `json` begins with, NULL behind the last. */
static const char *element(const char *json, uint32_t n)
{
    struct reader reader = {json};
    if (!json || !take(&reader, '[') || *reader.at == ']')
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        (void)skip_value(&reader, 1);
        if (!take(&reader, ','))
            return NULL;
    }
    return reader.at;
}

static void expect_number(struct ktap *t, const char *object, const char *key, uint64_t want)
{
    const char *value = member(t, object, key);
    if (!value)
        return;
    uint64_t have = strtoull(value, NULL, 10);
    if (have != want)
        ktap_note(t, "%s: %llu, not %llu", key, (unsigned long long)have, (unsigned long long)want);
    EXPECT(t, have == want && *value >= '0' && *value <= '9');
}

static void expect_frames(struct ktap *t, const char *object, const char *key, uint64_t frames)
{
    expect_number(t, object, key, frames * NEOMM_PAGE_SIZE);
}

static void expect_string(struct ktap *t, const char *value, const char *want)
{
    size_t length = strlen(want);
    EXPECT(t, value && value[0] == '"' && strncmp(value + 1, want, length) == 0 &&
                  value[length + 1] == '"');
}

static void expect_zone(struct ktap *t, const char *object, const struct neomm_zone_stats *zone)
{
    expect_frames(t, object, "total", zone->total);
    expect_frames(t, object, "free", zone->free);
    expect_frames(t, object, "used", zone->used);
    expect_frames(t, object, "reserved", zone->reserved);
    expect_frames(t, object, "metadata", zone->metadata);
}

static const char *const counter_key[] = {
#define KEY(name, key, text) key,
    NEOMM_COUNTER_LIST(KEY)
#undef KEY
};

static const char *const counter_text[] = {
#define TEXT(name, key, text) text,
    NEOMM_COUNTER_LIST(TEXT)
#undef TEXT
};

static void expect_zones(struct ktap *t, const char *json, const struct neomm_snapshot *snapshot)
{
    static const char *const name[] = {"dma", "normal", "high"};
    struct neomm_zone_stats sum = {0, 0, 0, 0, 0, {0}};
    const char *zones = member(t, json, "zones");
    for (unsigned i = 0; i < NEOMM_ZONES; i++) {
        const struct neomm_zone_stats *zone = &snapshot->zone[i];
        const char *object = element(zones, i);
        expect_string(t, member(t, object, "name"), name[i]);
        expect_zone(t, object, zone);
        const char *runs = member(t, object, "free_runs");
        for (uint32_t order = 0; order <= NEOMM_ORDER_MAX; order++) {
            const char *value = element(runs, order);
            EXPECT(t, value && strtoull(value, NULL, 10) == zone->free_runs[order]);
        }
        EXPECT(t, !element(runs, NEOMM_ORDER_MAX + 1));
        sum.total += zone->total;
        sum.free += zone->free;
        sum.used += zone->used;
        sum.reserved += zone->reserved;
        sum.metadata += zone->metadata;
    }
    EXPECT(t, !element(zones, NEOMM_ZONES));
    expect_zone(t, member(t, json, "memory"), &sum);
    expect_frames(t, member(t, json, "memory"), "page_tables", snapshot->table_frames);
}

static void expect_heap_and_swap(struct ktap *t, const char *json,
                                 const struct neomm_snapshot *snapshot)
{
    const struct neomm_swap_stats *swap = &snapshot->swap;
    const char *object = member(t, json, "heap");
    expect_number(t, object, "allocated", snapshot->heap.allocated_bytes);
    expect_number(t, object, "requested", snapshot->heap.requested_bytes);
    expect_number(t, object, "objects", snapshot->heap.objects);
    expect_frames(t, object, "slabs", snapshot->heap.slab_frames);
    expect_frames(t, object, "runs", snapshot->heap.run_frames);
    object = member(t, json, "swap");
    expect_number(t, object, "areas", swap->areas);
    expect_frames(t, object, "total", swap->slots);
    expect_frames(t, object, "free", swap->slots - swap->used - swap->bad);
    expect_frames(t, object, "used", swap->used);
    expect_frames(t, object, "bad", swap->bad);
    expect_frames(t, object, "filled", swap->filled);
    expect_number(t, object, "reads", swap->reads);
    expect_number(t, object, "writes", swap->writes);
    expect_number(t, object, "read_errors", swap->read_errors);
    expect_number(t, object, "write_errors", swap->write_errors);
    expect_number(t, object, "corrupt", swap->corrupt);
    object = member(t, object, "pool");
    expect_frames(t, object, "pages", swap->pool_pages);
    expect_number(t, object, "stored", swap->pool_bytes);
    expect_frames(t, object, "total", swap->pool_frames);
    expect_frames(t, object, "limit", swap->pool_limit);
    expect_number(t, object, "hits", swap->pool_hits);
    expect_number(t, object, "rejected", swap->pool_rejected);
    expect_number(t, object, "no_room", swap->pool_no_room);
    expect_number(t, object, "written_back", swap->pool_written_back);
}

static void expect_stall(struct ktap *t, const char *object, const struct neomm_stall *stall)
{
    expect_number(t, object, "avg10", stall->average[0]);
    expect_number(t, object, "avg60", stall->average[1]);
    expect_number(t, object, "avg300", stall->average[2]);
    expect_number(t, object, "total_ns", stall->total);
}

static void expect_pressure(struct ktap *t, const char *json, const struct neomm_pressure *pressure)
{
    const char *object = member(t, json, "pressure");
    expect_string(t, member(t, object, "level"), neomm_pressure_text(pressure->level));
    expect_number(t, object, "stalled", pressure->stalled);
    expect_stall(t, member(t, object, "some"), &pressure->some);
    expect_stall(t, member(t, object, "full"), &pressure->full);
}

static void expect_page_cache(struct ktap *t, const char *json,
                              const struct neomm_cache_stats *cache)
{
    const char *object = member(t, json, "page_cache");
    expect_number(t, object, "total", cache->pages * NEOMM_PAGE_SIZE);
    expect_number(t, object, "dirty", cache->dirty * NEOMM_PAGE_SIZE);
    expect_number(t, object, "dirty_limit", cache->dirty_limit * NEOMM_PAGE_SIZE);
    expect_number(t, object, "shadows", cache->shadows);
    expect_number(t, object, "reads", cache->reads);
    expect_number(t, object, "writes", cache->writes);
    expect_number(t, object, "read_errors", cache->read_errors);
    expect_number(t, object, "write_errors", cache->write_errors);
    expect_number(t, object, "ahead", cache->ahead);
    expect_number(t, object, "ahead_hits", cache->ahead_hits);
    expect_number(t, object, "around", cache->around);
    expect_number(t, object, "refaults", cache->refaults);
    expect_number(t, object, "dropped", cache->dropped);
}

static void expect_spaces(struct ktap *t, const char *json, const struct neomm_snapshot *snapshot)
{
    const char *spaces = member(t, json, "spaces");
    expect_number(t, json, "spaces_total", snapshot->spaces);
    for (uint32_t i = 0; i < snapshot->listed; i++) {
        const struct neomm_space_stats *space = &snapshot->space[i];
        const char *object = element(spaces, i);
        expect_number(t, object, "index", space->index);
        expect_number(t, object, "regions", space->regions);
        expect_number(t, object, "virtual", space->virtual_bytes);
        expect_number(t, object, "resident", space->resident_bytes);
        expect_number(t, object, "swap", space->swap_bytes);
        expect_number(t, object, "page_tables", space->table_bytes);
        expect_number(t, object, "faults_zero", space->faults_zero);
        expect_number(t, object, "faults_swap_in", space->faults_swap_in);
        expect_number(t, object, "faults_other", space->faults_other);
        expect_number(t, object, "faults_copy", space->faults_copy);
        expect_number(t, object, "evictions", space->evictions);
        expect_number(t, object, "swap_writes", space->swap_writes);
        expect_number(t, object, "locked_bytes", space->locked_bytes);
        expect_number(t, object, "refaults", space->refaults);
        expect_number(t, object, "refaults_near", space->refaults_near);
        expect_number(t, object, "read_ahead", space->read_ahead);
        expect_number(t, object, "ahead_used", space->ahead_used);
        expect_number(t, object, "ahead_wasted", space->ahead_wasted);
        expect_number(t, object, "swap_outs", space->swap_outs);
        expect_number(t, object, "away_pages", space->away_pages);
        expect_number(t, object, "back_pages", space->back_pages);
        expect_number(t, object, "back_ns", space->back_ns);
        expect_number(t, object, "suspensions", space->suspensions);
        expect_number(t, object, "suspended", space->suspended);
        expect_number(t, object, "working_set", space->working_set_bytes);
        expect_number(t, object, "oom_score", space->oom_score);
        expect_number(t, object, "oom_victim", space->oom_victim);
        const char *bias = member(t, object, "oom_bias");
        EXPECT(t, bias && strtol(bias, NULL, 10) == space->oom_bias);
        expect_string(t, member(t, object, "name"), space->name);
    }
    EXPECT(t, !element(spaces, snapshot->listed));
}

static void expect_caches_and_sites(struct ktap *t, const char *json,
                                    const struct neomm_snapshot *snapshot)
{
    const char *caches = member(t, json, "caches"), *sites = member(t, json, "sites");
    expect_number(t, json, "caches_total", snapshot->caches);
    for (uint32_t i = 0; i < snapshot->caches && i < NEOMM_SNAPSHOT_CACHES; i++) {
        const struct neomm_snapshot_cache *cache = &snapshot->cache[i];
        const char *object = element(caches, i);
        expect_string(t, member(t, object, "name"), cache->name);
        expect_number(t, object, "object_size", cache->object_size);
        expect_number(t, object, "size", cache->size);
        expect_number(t, object, "objects", cache->objects);
        expect_number(t, object, "kept", cache->kept);
        expect_number(t, object, "slabs", cache->slabs);
        expect_frames(t, object, "slab_bytes", cache->slab_frames);
        expect_number(t, object, "profile", cache->profile);
    }
    for (uint32_t i = 0; i < snapshot->sites; i++) {
        const struct neomm_snapshot_site *site = &snapshot->site[i];
        const char *object = element(sites, i);
        expect_string(t, member(t, object, "file"), site->file);
        expect_string(t, member(t, object, "function"), site->function);
        expect_number(t, object, "line", site->line);
        expect_number(t, object, "address", site->address);
        expect_number(t, object, "bytes", site->bytes);
        expect_number(t, object, "objects", site->objects);
        expect_number(t, object, "allocations", site->allocations);
    }
    EXPECT(t, !element(sites, snapshot->sites));
}

static void expect_json(struct ktap *t, const struct neomm_snapshot *snapshot, const char *format)
{
    static struct written written;
    written.length = 0;
    neomm_snapshot_json(snapshot, collect, &written);
    struct reader reader = {written.text};
    EXPECT(t, skip_value(&reader, 0));
    EXPECT_EQ(t, *reader.at, '\0');
    EXPECT(t, strchr(written.text, '\n') == NULL && strchr(written.text, ' ') == NULL);
    const char *json = written.text;
    expect_string(t, member(t, json, "schema"), "neomm.memstat/1");
    expect_string(t, member(t, json, "format"), format);
    expect_number(t, json, "now_ns", snapshot->now);
    expect_number(t, json, "cpus", snapshot->cpus);
    expect_number(t, json, "layers", snapshot->layers);
    expect_zones(t, json, snapshot);
    expect_heap_and_swap(t, json, snapshot);
    expect_page_cache(t, json, &snapshot->page_cache);
    expect_pressure(t, json, &snapshot->pressure);
    const char *counters = member(t, json, "counters");
    for (unsigned i = 0; i < NEOMM_COUNTERS; i++)
        expect_number(t, counters, counter_key[i], snapshot->counter[i]);
    expect_spaces(t, json, snapshot);
    expect_caches_and_sites(t, json, snapshot);
}

static void json_of_every_number(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    static const char *const name[] = {"2-level", "pae", "4-level", "5-level", "unknown"};
    number_all(&snapshot);
    for (uint32_t format = 0; format < NEOMM__COUNT_OF(name); format++) {
        snapshot.format = format;
        expect_json(t, &snapshot, name[format]);
    }
    snapshot.listed = snapshot.spaces = 0;
    expect_json(t, &snapshot, "unknown");
}

/* ---- the table ---- */

/* The line that begins with `name`, behind the name. */
static const char *line_of(struct ktap *t, const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, name, length) == 0 && at[length] == ' ')
            return at + length;
    ktap_note(t, "no line '%s'", name);
    ktap_fail(t, __FILE__, __LINE__, "the line is there");
    return "";
}

static void expect_columns(struct ktap *t, const char *line, const uint64_t *want, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *end;
        EXPECT_EQ(t, strtoull(line, &end, 10), want[i]);
        EXPECT(t, end != line && (*end == ' ' || *end == '\n'));
        line = end;
    }
}

static void table_of_every_number(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    static struct written written;
    number_all(&snapshot);
    written.length = 0;
    neomm_snapshot_text(&snapshot, collect, &written);
    const struct neomm_zone_stats *dma = &snapshot.zone[0], *normal = &snapshot.zone[1],
                                  *high = &snapshot.zone[2];
    const uint64_t normal_line[] = {normal->total * 4, normal->used * 4, normal->free * 4,
                                    normal->reserved * 4, normal->metadata * 4};
    const uint64_t memory_line[] = {(dma->total + normal->total + high->total) * 4,
                                    (dma->used + normal->used + high->used) * 4,
                                    (dma->free + normal->free + high->free) * 4,
                                    (dma->reserved + normal->reserved + high->reserved) * 4,
                                    (dma->metadata + normal->metadata + high->metadata) * 4};
    const struct neomm_swap_stats *swap = &snapshot.swap;
    const uint64_t swap_line[] = {swap->slots * 4, swap->used * 4,
                                  (swap->slots - swap->used - swap->bad) * 4};
    expect_columns(t, line_of(t, written.text, "normal"), normal_line, 5);
    expect_columns(t, line_of(t, written.text, "memory"), memory_line, 5);
    expect_columns(t, line_of(t, written.text, "swap"), swap_line, 3);
    expect_columns(t, line_of(t, strstr(written.text, "free by"), "high"), high->free_runs,
                   NEOMM_ORDER_MAX + 1);
    for (unsigned i = 0; i < NEOMM_COUNTERS; i++) {
        char line[128];
        snprintf(line, sizeof(line), "%12llu %s\n", (unsigned long long)snapshot.counter[i],
                 counter_text[i]);
        EXPECT(t, strstr(written.text, line));
    }
    EXPECT(t, strstr(written.text, "and 5 more\n"));
    EXPECT(t, strstr(written.text, "damaged pages"));
    EXPECT(t, strstr(written.text, "\npressure medium, 12 tasks wait\n"));
    const struct neomm_cache_stats *cached = &snapshot.page_cache;
    char want[64];
    snprintf(want, sizeof(want), "\ncached   %llu KiB, %llu KiB dirty, ",
             (unsigned long long)cached->pages * 4, (unsigned long long)cached->dirty * 4);
    EXPECT(t, strstr(written.text, want) && strstr(written.text, "pages not read, "));
    EXPECT(t, strstr(written.text,
                     "\nsome      12.34 % of 10 s,   0.05 % of 60 s, 100.00 % of 300 s, "));
    EXPECT(t, strstr(written.text,
                     "\nfull       3.00 % of 10 s,   0.70 % of 60 s,   0.09 % of 300 s, "));
    snprintf(want, sizeof(want), "\npool     %llu KiB of pages in %llu KiB of %llu, ",
             (unsigned long long)swap->pool_pages * 4, (unsigned long long)swap->pool_frames * 4,
             (unsigned long long)swap->pool_limit * 4);
    EXPECT(t, strstr(written.text, want));
    EXPECT(t, strstr(written.text, "! process-1\n") && strstr(written.text, "  process-2\n"));
    const struct neomm_snapshot_cache *cache = &snapshot.cache[1];
    const uint64_t cache_line[] = {cache->object_size, cache->size,  cache->objects,
                                   cache->kept,        cache->slabs, cache->slab_frames * 4};
    expect_columns(t, line_of(t, written.text, "cache-1"), cache_line, 6);
    EXPECT(t, strstr(written.text, " hardened\n"));
    EXPECT(t, strstr(written.text, " file.c:77 function-1\n"));
    EXPECT(t, strstr(written.text, " 0xabcdef\n") && strstr(written.text, " others\n"));
    /* What is not there is not shown. */
    memset(&snapshot.zone[2], 0, sizeof(snapshot.zone[2]));
    snapshot.spaces = snapshot.listed = 0;
    snapshot.swap = (struct neomm_swap_stats){.slots = 0};
    written.length = 0;
    neomm_snapshot_text(&snapshot, collect, &written);
    EXPECT(t, !strstr(written.text, "high "));
    EXPECT(t, !strstr(written.text, "resident"));
    EXPECT(t, !strstr(written.text, "damaged"));
    EXPECT(t, !strstr(written.text, "\npool "));
}

/* ---- who may read ---- */

static void checked(struct ktap *t)
{
    static struct neomm_snapshot snapshot, changed;
    number_all(&snapshot);
    EXPECT_OK(t, neomm_snapshot_check(&snapshot, sizeof(snapshot)));
    EXPECT_OK(t, neomm_snapshot_check(&snapshot, sizeof(snapshot) + 1));
    EXPECT_EQ(t, neomm_snapshot_check(NULL, sizeof(snapshot)), NEOMM_E_CORRUPT);
    for (size_t bytes = 0; bytes < sizeof(snapshot); bytes += bytes < 16 ? 1 : 97)
        EXPECT_EQ(t, neomm_snapshot_check(&snapshot, bytes), NEOMM_E_CORRUPT);
    changed = snapshot;
    changed.magic ^= 1;
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    changed.version++;
    changed.size += 8;
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_UNSUPPORTED);
    changed = snapshot;
    changed.size--;
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    changed.listed = NEOMM_SNAPSHOT_SPACES + 1;
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    changed.sites = NEOMM_SNAPSHOT_SITES + 1;
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    memset(changed.site[3].file, 'f', sizeof(changed.site[3].file));
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    memset(changed.cache[3].name, 'n', sizeof(changed.cache[3].name));
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    memset(changed.space[3].name, 'n', sizeof(changed.space[3].name));
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
    changed = snapshot;
    changed.spaces = 3;
    EXPECT_EQ(t, neomm_snapshot_check(&changed, sizeof(changed)), NEOMM_E_CORRUPT);
}

/* ---- a real one ---- */

static void of_a_machine(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    static const char *const name[] = {"2-level", "pae", "4-level", "5-level"};
    const struct env_options options = {
        .layer = ENV_SWAP, .format = formats[0], .cpus = 2, .swap_pages = 50};
    struct neomm_swap_entry entry;
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT_OK(t, neomm_heap_track(env.root, true));
    void *object = neomm_kmalloc(env.root, 100, 0);
    const uint32_t line = __LINE__ - 1;
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &entry));
    neomm_snapshot_take(env.root, &snapshot);
    EXPECT_OK(t, neomm_snapshot_check(&snapshot, sizeof(snapshot)));
    EXPECT_EQ(t, snapshot.cpus, 2);
    EXPECT_EQ(t, snapshot.layers, 15);
    EXPECT_EQ(t, snapshot.heap.objects, 1);
    EXPECT_EQ(t, snapshot.caches, 1);
    EXPECT_EQ(t, snapshot.cache[0].objects, 1);
    EXPECT_EQ(t, snapshot.cache[0].object_size, 112);
    EXPECT(t, strcmp(snapshot.cache[0].name, "kmalloc") == 0);
    EXPECT_EQ(t, snapshot.sites, 1);
    EXPECT_EQ(t, snapshot.site[0].line, line);
    EXPECT_EQ(t, snapshot.site[0].bytes, 100);
    EXPECT(t, strcmp(snapshot.site[0].function, "of_a_machine") == 0);
    EXPECT(t, strstr(snapshot.site[0].file, "test_stats.c"));
    EXPECT_EQ(t, snapshot.swap.slots, 49);
    EXPECT_EQ(t, snapshot.swap.used, 1);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_KMALLOC], 1);
    EXPECT(t, snapshot.counter[NEOMM_COUNTER_FRAME_ALLOC] > 0);
    uint64_t total = 0;
    for (unsigned i = 0; i < NEOMM_ZONES; i++) {
        const struct neomm_zone_stats *zone = &snapshot.zone[i];
        EXPECT_EQ(t, zone->total, zone->free + zone->used + zone->reserved + zone->metadata);
        total += zone->total;
    }
    EXPECT_EQ(t, total, (16 << 20) / NEOMM_PAGE_SIZE);
    expect_json(t, &snapshot, name[formats[0]]);
    EXPECT_OK(t, neomm_swap_free(env.root, entry));
    EXPECT_OK(t, neomm_kfree(env.root, object));
    EXPECT_OK(t, neomm_heap_track(env.root, false));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(json_of_every_number),
    KTAP_CASE(table_of_every_number),
    KTAP_CASE(checked),
    KTAP_CASE(of_a_machine),
};

KTAP_SUITE(stats, cases);
