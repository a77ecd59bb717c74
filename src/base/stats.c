/* Snapshots: checked, and written as memstat's table.
 * SPDX-License-Identifier: MIT */
#include "stats_priv.h"

#include "bits.h"
#include "config_words.h"
#include "format.h"
#include "memory.h"

#include <stdarg.h>

static const char *const format_name[] = {
    [NEOMM_FORMAT_2LEVEL] = "2-level",
    [NEOMM_FORMAT_PAE] = "pae",
    [NEOMM_FORMAT_4LEVEL] = "4-level",
    [NEOMM_FORMAT_5LEVEL] = "5-level",
};

const char *const neomm__zone_name[NEOMM_ZONES] = {
    [NEOMM_ZONE_DMA] = "dma",
    [NEOMM_ZONE_NORMAL] = "normal",
    [NEOMM_ZONE_HIGH] = "high",
};

const struct neomm__counter_text neomm__counter_text[NEOMM_COUNTERS] = {
#define TEXT(name, key, text) {key, text},
    NEOMM_COUNTER_LIST(TEXT)
#undef TEXT
};

static const char *const pressure_name[NEOMM_PRESSURE_LEVELS] = {
    [NEOMM_PRESSURE_NONE] = "none",
    [NEOMM_PRESSURE_LOW] = "low",
    [NEOMM_PRESSURE_MEDIUM] = "medium",
    [NEOMM_PRESSURE_CRITICAL] = "critical",
};

const char *neomm_pressure_text(uint32_t level)
{
    return level < NEOMM_PRESSURE_LEVELS ? pressure_name[level] : "unknown";
}

const char *neomm__format_name(uint32_t format)
{
    return format < NEOMM__COUNT_OF(format_name) ? format_name[format] : "unknown";
}

void neomm__stats_put(const struct neomm__stats_out *out, const char *format, ...)
{
    char piece[NEOMM__LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = neomm__vformat(piece, sizeof(piece), format, arguments);
    va_end(arguments);
    out->text(out->context, piece, length);
}

void neomm__zone_sum(const struct neomm_snapshot *snapshot, struct neomm_zone_stats *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < NEOMM_ZONES; i++) {
        const struct neomm_zone_stats *zone = &snapshot->zone[i];
        sum->total += zone->total;
        sum->free += zone->free;
        sum->used += zone->used;
        sum->reserved += zone->reserved;
        sum->metadata += zone->metadata;
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
            sum->free_runs[order] += zone->free_runs[order];
    }
}

static bool texts_end(const struct neomm_snapshot *snapshot)
{
    bool good = true;
    for (uint32_t i = 0; i < NEOMM_SNAPSHOT_SPACES; i++)
        good = good && snapshot->space[i].name[NEOMM_SPACE_NAME - 1] == '\0';
    for (uint32_t i = 0; i < NEOMM_SNAPSHOT_CACHES; i++)
        good = good && snapshot->cache[i].name[sizeof(snapshot->cache[i].name) - 1] == '\0';
    for (uint32_t i = 0; i < NEOMM_SNAPSHOT_SITES; i++) {
        const struct neomm_snapshot_site *site = &snapshot->site[i];
        good = good && site->file[sizeof(site->file) - 1] == '\0' &&
               site->function[sizeof(site->function) - 1] == '\0';
    }
    return good;
}

neomm_status neomm_snapshot_check(const struct neomm_snapshot *snapshot, size_t bytes)
{
    if (!snapshot || bytes < offsetof(struct neomm_snapshot, cpus) ||
        snapshot->magic != NEOMM_SNAPSHOT_MAGIC)
        return NEOMM_E_CORRUPT;
    if (snapshot->version != NEOMM_SNAPSHOT_VERSION)
        return NEOMM_E_UNSUPPORTED;
    if (bytes < sizeof(*snapshot) || snapshot->size != sizeof(*snapshot) ||
        snapshot->listed > NEOMM_SNAPSHOT_SPACES || snapshot->listed > snapshot->spaces ||
        snapshot->sites > NEOMM_SNAPSHOT_SITES || !texts_end(snapshot))
        return NEOMM_E_CORRUPT;
    return NEOMM_OK;
}

uint32_t neomm__caches_listed(const struct neomm_snapshot *snapshot)
{
    return snapshot->caches < NEOMM_SNAPSHOT_CACHES ? snapshot->caches : NEOMM_SNAPSHOT_CACHES;
}

/* ---- the table: sizes in KiB ---- */

static unsigned long long kib_of_frames(uint64_t frames)
{
    return (unsigned long long)frames << (NEOMM_PAGE_SHIFT - 10);
}

/* Rounded up: what is there is never shown as nothing. */
static unsigned long long kib_of_bytes(uint64_t bytes)
{
    unsigned long long kib = bytes / 1024;
    return kib + (bytes % 1024 != 0);
}

static void text_zone(const struct neomm__stats_out *out, const char *name,
                      const struct neomm_zone_stats *zone)
{
    neomm__stats_put(out, "%-8s %12llu %12llu %12llu %12llu %12llu\n", name,
                     kib_of_frames(zone->total), kib_of_frames(zone->used),
                     kib_of_frames(zone->free), kib_of_frames(zone->reserved),
                     kib_of_frames(zone->metadata));
}

static void text_memory(const struct neomm__stats_out *out, const struct neomm_snapshot *snapshot)
{
    const struct neomm_swap_stats *swap = &snapshot->swap;
    struct neomm_zone_stats sum;
    neomm__zone_sum(snapshot, &sum);
    neomm__stats_put(out, "%-8s %12s %12s %12s %12s %12s\n", "KiB", "total", "used", "free",
                     "reserved", "metadata");
    for (unsigned i = 0; i < NEOMM_ZONES; i++)
        if (snapshot->zone[i].total)
            text_zone(out, neomm__zone_name[i], &snapshot->zone[i]);
    text_zone(out, "memory", &sum);
    neomm__stats_put(out, "%-8s %12llu %12llu %12llu %12s %12s\n", "swap",
                     kib_of_frames(swap->slots), kib_of_frames(swap->used),
                     kib_of_frames(swap->slots - swap->used - swap->bad), "-", "-");
}

static void text_runs(const struct neomm__stats_out *out, const struct neomm_snapshot *snapshot)
{
    neomm__stats_put(out, "\n%-8s", "free by");
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        neomm__stats_put(out, " %5lluK", kib_of_frames((uint64_t)1 << order));
    neomm__stats_put(out, "\n");
    for (unsigned i = 0; i < NEOMM_ZONES; i++) {
        if (!snapshot->zone[i].total)
            continue;
        neomm__stats_put(out, "%-8s", neomm__zone_name[i]);
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
            neomm__stats_put(out, " %6llu", (unsigned long long)snapshot->zone[i].free_runs[order]);
        neomm__stats_put(out, "\n");
    }
}

static void text_kernel(const struct neomm__stats_out *out, const struct neomm_snapshot *snapshot)
{
    const struct neomm_heap_stats *heap = &snapshot->heap;
    const struct neomm_swap_stats *swap = &snapshot->swap;
    neomm__stats_put(out,
                     "\n%-8s %llu KiB in %llu objects (%llu KiB asked for), %llu KiB of slabs,"
                     " %llu KiB of runs\n",
                     "heap", kib_of_bytes(heap->allocated_bytes), (unsigned long long)heap->objects,
                     kib_of_bytes(heap->requested_bytes), kib_of_frames(heap->slab_frames),
                     kib_of_frames(heap->run_frames));
    neomm__stats_put(out, "%-8s %llu KiB\n", "tables", kib_of_frames(snapshot->table_frames));
    neomm__stats_put(out, "%-8s %u areas, %llu KiB bad, %llu KiB filled, %llu read, %llu written\n",
                     "swap", swap->areas, kib_of_frames(swap->bad), kib_of_frames(swap->filled),
                     (unsigned long long)swap->reads, (unsigned long long)swap->writes);
    if (swap->pool_frames || swap->pool_hits || swap->pool_rejected || swap->pool_written_back)
        neomm__stats_put(out,
                         "%-8s %llu KiB of pages in %llu KiB of %llu, %llu read, %llu too large,"
                         " %llu written back\n",
                         "pool", kib_of_frames(swap->pool_pages), kib_of_frames(swap->pool_frames),
                         kib_of_frames(swap->pool_limit), (unsigned long long)swap->pool_hits,
                         (unsigned long long)swap->pool_rejected,
                         (unsigned long long)swap->pool_written_back);
    if (swap->read_errors || swap->write_errors || swap->corrupt)
        neomm__stats_put(out, "%-8s %llu read errors, %llu write errors, %llu damaged pages\n", "",
                         (unsigned long long)swap->read_errors,
                         (unsigned long long)swap->write_errors, (unsigned long long)swap->corrupt);
}

static void text_page_cache(const struct neomm__stats_out *out,
                            const struct neomm_cache_stats *cache)
{
    neomm__stats_put(out, "%-8s %llu KiB, %llu KiB dirty, %llu read (%llu ahead), %llu written",
                     "cached", kib_of_frames(cache->pages), kib_of_frames(cache->dirty),
                     (unsigned long long)cache->reads, (unsigned long long)cache->ahead,
                     (unsigned long long)cache->writes);
    neomm__stats_put(out, ", %llu dropped, %llu wanted again\n", (unsigned long long)cache->dropped,
                     (unsigned long long)cache->refaults);
    if (cache->read_errors || cache->write_errors)
        neomm__stats_put(out, "%-8s %llu pages not read, %llu not written\n", "",
                         (unsigned long long)cache->read_errors,
                         (unsigned long long)cache->write_errors);
}

static void text_stall(const struct neomm__stats_out *out, const char *name,
                       const struct neomm_stall *stall)
{
    neomm__stats_put(out, "%-8s %3u.%02u %% of 10 s, %3u.%02u %% of 60 s, %3u.%02u %% of 300 s",
                     name, stall->average[0] / 100, stall->average[0] % 100,
                     stall->average[1] / 100, stall->average[1] % 100, stall->average[2] / 100,
                     stall->average[2] % 100);
    neomm__stats_put(out, ", %llu ns\n", (unsigned long long)stall->total);
}

static void text_pressure(const struct neomm__stats_out *out, const struct neomm_pressure *pressure)
{
    neomm__stats_put(out, "%-8s %s, %u tasks wait\n", "pressure",
                     neomm_pressure_text(pressure->level), pressure->stalled);
    text_stall(out, "some", &pressure->some);
    text_stall(out, "full", &pressure->full);
}

static void text_space(const struct neomm__stats_out *out, const struct neomm_space_stats *space)
{
    neomm__stats_put(out, "%5u %10llu %10llu %10llu %8llu %7u", space->index,
                     kib_of_bytes(space->virtual_bytes), kib_of_bytes(space->resident_bytes),
                     kib_of_bytes(space->swap_bytes), kib_of_bytes(space->table_bytes),
                     space->regions);
    neomm__stats_put(
        out, " %10llu %10llu %10llu %10llu %10llu", (unsigned long long)space->faults_zero,
        (unsigned long long)space->faults_swap_in, (unsigned long long)space->faults_other,
        (unsigned long long)space->evictions, (unsigned long long)space->swap_writes);
    neomm__stats_put(out, " %10llu %10llu %10llu %5u%c %s\n", (unsigned long long)space->refaults,
                     (unsigned long long)space->refaults_near,
                     kib_of_bytes(space->working_set_bytes), space->oom_score,
                     space->oom_victim ? '!' : ' ', space->name);
}

static void text_spaces(const struct neomm__stats_out *out, const struct neomm_snapshot *snapshot)
{
    if (snapshot->spaces == 0)
        return;
    neomm__stats_put(out, "\n%5s %10s %10s %10s %8s %7s %10s %10s %10s %10s %10s", "space",
                     "virtual", "resident", "swap", "tables", "regions", "zero", "swap-in", "other",
                     "evicted", "written");
    neomm__stats_put(out, " %10s %10s %10s %5s  %s\n", "refaults", "near", "used", "oom", "name");
    for (uint32_t i = 0; i < snapshot->listed; i++)
        text_space(out, &snapshot->space[i]);
    if (snapshot->spaces > snapshot->listed)
        neomm__stats_put(out, "and %u more\n", snapshot->spaces - snapshot->listed);
}

static void text_caches(const struct neomm__stats_out *out, const struct neomm_snapshot *snapshot)
{
    if (snapshot->caches == 0)
        return;
    neomm__stats_put(out, "\n%-24s %8s %8s %10s %8s %8s %10s %s\n", "cache", "asked", "size",
                     "objects", "kept", "slabs", "KiB", "profile");
    for (uint32_t i = 0; i < neomm__caches_listed(snapshot); i++) {
        const struct neomm_snapshot_cache *cache = &snapshot->cache[i];
        neomm__stats_put(out, "%-24s %8u %8u %10llu %8llu", cache->name, cache->object_size,
                         cache->size, (unsigned long long)cache->objects,
                         (unsigned long long)cache->kept);
        neomm__stats_put(out, " %8llu %10llu %s\n", (unsigned long long)cache->slabs,
                         kib_of_frames(cache->slab_frames),
                         cache->profile < NEOMM_HEAP_PROFILES ? neomm__profile_name[cache->profile]
                                                              : "unknown");
    }
}

static void text_sites(const struct neomm__stats_out *out, const struct neomm_snapshot *snapshot)
{
    if (snapshot->sites == 0)
        return;
    neomm__stats_put(out, "\n%12s %10s %12s %s\n", "live bytes", "objects", "allocated",
                     "by call site");
    for (uint32_t i = 0; i < snapshot->sites; i++) {
        const struct neomm_snapshot_site *site = &snapshot->site[i];
        neomm__stats_put(out, "%12llu %10llu %12llu ", (unsigned long long)site->bytes,
                         (unsigned long long)site->objects, (unsigned long long)site->allocations);
        if (site->line)
            neomm__stats_put(out, "%s:%llu %s\n", site->file, (unsigned long long)site->line,
                             site->function);
        else
            neomm__stats_put(out, site->address ? "%#llx\n" : "others\n",
                             (unsigned long long)site->address);
    }
}

void neomm_snapshot_text(const struct neomm_snapshot *snapshot, neomm_text_fn *text, void *context)
{
    const struct neomm__stats_out out = {text, context};
    text_memory(&out, snapshot);
    text_runs(&out, snapshot);
    text_kernel(&out, snapshot);
    text_page_cache(&out, &snapshot->page_cache);
    text_pressure(&out, &snapshot->pressure);
    text_spaces(&out, snapshot);
    text_caches(&out, snapshot);
    text_sites(&out, snapshot);
    neomm__stats_put(&out, "\n");
    for (unsigned i = 0; i < NEOMM_COUNTERS; i++)
        neomm__stats_put(&out, "%12llu %s\n", (unsigned long long)snapshot->counter[i],
                         neomm__counter_text[i].text);
}
