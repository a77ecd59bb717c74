/* A trace as a string of pages, whole in the host's memory.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SIM_PAGE_STRING_H
#define NEOMM_SIM_PAGE_STRING_H

#include "trace.h"

struct page_string {
    uint64_t *number; /* of each page */
    uint32_t pages;
    uint32_t *record; /* index of a page << 1 | written; the same page never twice in a row */
    size_t records;
    uint64_t references;  /* of the trace, repeats counted */
    uint32_t exact_above; /* LRU and OPT are exact with more frames than this */
    size_t number_room, record_room;
    uint32_t *place; /* hash of number: index + 1 */
    size_t places;
};

/* Reads the whole trace, of either kind. False: trace->error and trace->line. */
bool page_string_read(struct page_string *string, struct trace *trace);
void page_string_free(struct page_string *string);

#endif
