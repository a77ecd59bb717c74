/* neomm map: entries as they were read, and what came of them.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_MAP_H
#define NEOMM_TOOLS_MAP_H

#include <neomm/pmm.h>

#include <stdio.h>

/* A firmware map as a file describes it. */
struct map_input {
    struct neomm_boot_range *entries;
    uint32_t count, capacity;
    uint64_t lines, skipped;
    uint32_t errors;
};

/* Reads `file`; each broken line is reported to stderr as `name:line: error: ...` and counted.
 * False: the file could not be read to its end, which was reported too. */
bool map_read(FILE *file, const char *name, struct map_input *input);

/* A part that is not as the firmware said. */
struct map_note {
    enum neomm_boot_note note;
    struct neomm_boot_range part;
};

struct map_result {
    const struct map_input *input;
    uint64_t limit; /* as given; 0: none */
    struct neomm_bootmap map;
    struct map_note *notes;
    uint32_t note_count, note_capacity;
    struct neomm_zone_stats zone[NEOMM_ZONES];
    uint64_t homeless; /* bytes of metadata for which no usable range has room; else 0 */
};

void map_print_text(const struct map_result *result);
void map_print_json(const struct map_result *result);

#endif
