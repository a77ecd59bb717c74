/* A trace as a string of pages.
 * SPDX-License-Identifier: MIT */
#include "page_string.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX (1u << 31)

static bool fail(struct trace *trace, const char *text)
{
    snprintf(trace->error, sizeof(trace->error), "%s", text);
    return false;
}

/* Room for one more of `size` bytes. */
static bool grow(void **array, size_t *room, size_t used, size_t size)
{
    if (used < *room)
        return true;
    size_t more = *room ? *room * 2 : 4096;
    void *larger = realloc(*array, more * size);
    if (!larger)
        return false;
    *array = larger;
    *room = more;
    return true;
}

/* ---- the text of lackey ---- */

static size_t find_place(const struct page_string *string, uint64_t number)
{
    size_t at = (size_t)(number * 0x9e3779b97f4a7c15u >> 20) & (string->places - 1);
    while (string->place[at] && string->number[string->place[at] - 1] != number)
        at = (at + 1) & (string->places - 1);
    return at;
}

static bool grow_places(struct page_string *string)
{
    if (string->pages * 2u < string->places)
        return true;
    free(string->place);
    string->places = string->places ? string->places * 2 : 4096;
    string->place = calloc(string->places, sizeof(string->place[0]));
    for (uint32_t i = 0; string->place && i < string->pages; i++)
        string->place[find_place(string, string->number[i])] = i + 1;
    return string->place != NULL;
}

static bool add_reference(struct page_string *string, uint64_t number, bool write)
{
    if (!grow_places(string) ||
        !grow((void **)&string->number, &string->number_room, string->pages, sizeof(uint64_t)) ||
        !grow((void **)&string->record, &string->record_room, string->records, sizeof(uint32_t)))
        return false;
    uint32_t *place = &string->place[find_place(string, number)];
    if (*place == 0) {
        string->number[string->pages] = number;
        *place = ++string->pages;
    }
    uint32_t index = *place - 1;
    string->references++;
    if (string->records > 0 && string->record[string->records - 1] >> 1 == index)
        string->record[string->records - 1] |= write;
    else
        string->record[string->records++] = index << 1 | write;
    return true;
}

static bool read_text(struct page_string *string, struct trace *trace)
{
    struct trace_record record;
    enum trace_result result;
    while ((result = trace_next(trace, &record)) == TRACE_RECORD) {
        uint64_t last = (record.address + record.size - 1) / 4096;
        bool write = record.kind == 'S' || record.kind == 'M';
        for (uint64_t number = record.address / 4096; number <= last; number++)
            if (string->pages == PAGES_MAX - 1 || !add_reference(string, number, write))
                return fail(trace, "the host is out of memory");
    }
    return result == TRACE_END;
}

/* ---- NMT2 ---- */

static bool check_records(const struct page_string *string, struct trace *trace)
{
    for (size_t i = 0; i < string->records; i++)
        if (string->record[i] >> 1 >= string->pages) {
            trace->line = i + 1;
            return fail(trace, "a record names a page that the header does not have");
        }
    return true;
}

static bool read_pages(struct page_string *string, struct trace *trace)
{
    uint32_t head[4];
    char more;
    if (trace_read(trace, head, sizeof(head)) != sizeof(head) || head[1] >= PAGES_MAX)
        return fail(trace, "not a whole NMT2 header");
    string->pages = head[1];
    string->records = head[2];
    string->exact_above = head[3];
    string->references = head[2];
    string->number = malloc(sizeof(uint64_t) * (head[1] + 1ull));
    string->record = malloc(sizeof(uint32_t) * (head[2] + 1ull));
    if (!string->number || !string->record)
        return fail(trace, "the host is out of memory");
    size_t numbers = head[1] * sizeof(uint64_t), records = head[2] * sizeof(uint32_t);
    if (trace_read(trace, string->number, numbers) != numbers ||
        trace_read(trace, string->record, records) != records)
        return fail(trace, "the trace is shorter than its header says");
    if (trace_read(trace, &more, 1) != 0)
        return fail(trace, "the trace is longer than its header says");
    return check_records(string, trace);
}

bool page_string_read(struct page_string *string, struct trace *trace)
{
    memset(string, 0, sizeof(*string));
    bool good = trace_is_pages(trace) ? read_pages(string, trace) : read_text(string, trace);
    free(string->place);
    string->place = NULL;
    if (!good)
        page_string_free(string);
    return good;
}

void page_string_free(struct page_string *string)
{
    free(string->number);
    free(string->record);
    free(string->place);
    memset(string, 0, sizeof(*string));
}
