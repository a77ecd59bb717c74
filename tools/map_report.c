/* neomm map: the report, as text and as JSON.
 * SPDX-License-Identifier: MIT */
#include "map.h"

static const char *const type_names[] = {"none",   "hotplug",  "usable",   "boot",    "ACPI data",
                                         "kernel", "ACPI NVS", "reserved", "unusable"};
static const char *const type_keys[] = {"none",   "hotplug", "usable",   "boot", "acpi",
                                        "kernel", "nvs",     "reserved", "bad"};
static const char *const zone_names[NEOMM_ZONES] = {"DMA", "NORMAL", "HIGH"};
static const char *const zone_keys[NEOMM_ZONES] = {"dma", "normal", "high"};
static const char *const note_keys[] = {"empty",      "wraps", "overlap", "rounded",
                                        "frame_zero", "limit", "full"};

#define SIZE_TEXT 48

/* A size as people say it: whole, or with one decimal, rounded down. */
static const char *size_text(uint64_t bytes, char *text)
{
    static const char units[] = "BKMGTPE";
    unsigned unit = 0;
    uint64_t whole = bytes;
    while (whole >= 1024 && unit < 6) {
        whole >>= 10;
        unit++;
    }
    unsigned shift = 10 * unit;
    uint64_t rest = bytes - (whole << shift);
    if (unit == 0 || rest == 0)
        (void)snprintf(text, SIZE_TEXT, "%llu%c", (unsigned long long)whole, units[unit]);
    else
        (void)snprintf(text, SIZE_TEXT, "%llu.%llu%c", (unsigned long long)whole,
                       (unsigned long long)((rest >> (shift - 10)) * 10 / 1024), units[unit]);
    return text;
}

/* The reason in words. */
static const char *reason(const struct map_note *note, char *text, size_t size)
{
    const char *type = type_names[note->part.type];
    switch (note->note) {
    case NEOMM_BOOT_EMPTY:
        (void)snprintf(text, size, "%s entry of no length", type);
        break;
    case NEOMM_BOOT_WRAPS:
        (void)snprintf(text, size, "%s entry ends beyond 2^64, cut there", type);
        break;
    case NEOMM_BOOT_OVERLAP:
        (void)snprintf(text, size, "usable, but also called %s", type);
        break;
    case NEOMM_BOOT_ROUNDED:
        (void)snprintf(text, size, "usable, but not a whole frame");
        break;
    case NEOMM_BOOT_FRAME_ZERO:
        (void)snprintf(text, size, "%s, but frame 0 is never handed out", type);
        break;
    case NEOMM_BOOT_LIMIT:
        (void)snprintf(text, size, "%s, but above the limit", type);
        break;
    case NEOMM_BOOT_FULL:
        (void)snprintf(text, size, "%s, but no room in the map", type);
        break;
    }
    return text;
}

static void print_range(const struct neomm_boot_range *range, const char *text)
{
    char size[SIZE_TEXT];
    uint64_t last = range->base + (range->length - 1);
    if (range->length == 0)
        (void)printf("  %016llx %16s %9s  %s\n", (unsigned long long)range->base, "-", "0B", text);
    else
        (void)printf("  %016llx-%016llx %9s  %s\n", (unsigned long long)range->base,
                     (unsigned long long)(last < range->base ? UINT64_MAX : last),
                     size_text(range->length, size), text);
}

static uint64_t bytes_of(const struct neomm_bootmap *map, enum neomm_memory_type type)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < map->count; i++)
        if (map->ranges[i].type == type)
            sum += map->ranges[i].length;
    return sum;
}

static struct neomm_zone_stats all_zones(const struct map_result *result)
{
    struct neomm_zone_stats sum = {0};
    for (int i = 0; i < NEOMM_ZONES; i++) {
        sum.total += result->zone[i].total;
        sum.free += result->zone[i].free;
        sum.reserved += result->zone[i].reserved;
        sum.metadata += result->zone[i].metadata;
    }
    return sum;
}

static void print_zone(const char *name, const struct neomm_zone_stats *zone)
{
    char text[4][SIZE_TEXT];
    (void)printf("  %-8s %10s %10s %10s %10s\n", name,
                 size_text(zone->total << NEOMM_PAGE_SHIFT, text[0]),
                 size_text(zone->free << NEOMM_PAGE_SHIFT, text[1]),
                 size_text(zone->reserved << NEOMM_PAGE_SHIFT, text[2]),
                 size_text(zone->metadata << NEOMM_PAGE_SHIFT, text[3]));
}

void map_print_text(const struct map_result *result)
{
    struct neomm_zone_stats all = all_zones(result);
    char text[SIZE_TEXT];
    (void)printf("Entries read: %u. Other lines, skipped: %llu.\n\nThe map:\n",
                 result->input->count, (unsigned long long)result->input->skipped);
    for (uint32_t i = 0; i < result->map.count; i++)
        print_range(&result->map.ranges[i], type_names[result->map.ranges[i].type]);
    (void)printf("\nThe zones:   %10s %10s %10s %10s\n", "total", "free", "reserved", "metadata");
    for (int i = 0; i < NEOMM_ZONES; i++)
        if (result->zone[i].total != 0)
            print_zone(zone_names[i], &result->zone[i]);
    print_zone("all", &all);
    if (result->homeless != 0)
        (void)printf("\nNo usable range has room for %s of metadata: a kernel can start only with\n"
                     "other memory for them.\n",
                     size_text(result->homeless, text));
    if (result->note_count == 0)
        (void)printf("\nNothing was clipped.\n");
    else
        (void)printf("\nClipped:\n");
    for (uint32_t i = 0; i < result->note_count; i++) {
        char why[80];
        print_range(&result->notes[i].part, reason(&result->notes[i], why, sizeof(why)));
    }
}

/* ---- JSON: every string is one of the fixed ones above, so nothing needs escaping ---- */

static void print_json_range(const struct neomm_boot_range *range)
{
    (void)printf("{\"start\":%llu,\"bytes\":%llu,\"type\":\"%s\"", (unsigned long long)range->base,
                 (unsigned long long)range->length, type_keys[range->type]);
}

static void print_json_zone(const char *name, const struct neomm_zone_stats *zone)
{
    (void)printf("{\"name\":\"%s\",\"total\":%llu,\"free\":%llu,\"reserved\":%llu,"
                 "\"metadata\":%llu}",
                 name, (unsigned long long)(zone->total << NEOMM_PAGE_SHIFT),
                 (unsigned long long)(zone->free << NEOMM_PAGE_SHIFT),
                 (unsigned long long)(zone->reserved << NEOMM_PAGE_SHIFT),
                 (unsigned long long)(zone->metadata << NEOMM_PAGE_SHIFT));
}

void map_print_json(const struct map_result *result)
{
    struct neomm_zone_stats all = all_zones(result);
    (void)printf("{\"schema\":\"neomm.map/1\",\"entries\":%u,\"skipped_lines\":%llu,\"limit\":%llu",
                 result->input->count, (unsigned long long)result->input->skipped,
                 (unsigned long long)result->limit);
    (void)printf(",\"usable\":%llu,\"end\":%llu,\"map\":[",
                 (unsigned long long)bytes_of(&result->map, NEOMM_MEMORY_USABLE),
                 (unsigned long long)neomm_bootmap_end(&result->map));
    for (uint32_t i = 0; i < result->map.count; i++) {
        (void)printf("%s", i ? "," : "");
        print_json_range(&result->map.ranges[i]);
        (void)printf("}");
    }
    (void)printf("],\"zones\":[");
    for (int i = 0; i < NEOMM_ZONES; i++) {
        (void)printf("%s", i ? "," : "");
        print_json_zone(zone_keys[i], &result->zone[i]);
    }
    (void)printf("],\"all\":");
    print_json_zone("all", &all);
    (void)printf(",\"homeless_metadata\":%llu", (unsigned long long)result->homeless);
    (void)printf(",\"clipped\":[");
    for (uint32_t i = 0; i < result->note_count; i++) {
        (void)printf("%s", i ? "," : "");
        print_json_range(&result->notes[i].part);
        (void)printf(",\"reason\":\"%s\"}", note_keys[result->notes[i].note]);
    }
    (void)printf("]}\n");
}
