/* Reading traces: the text of `valgrind --tool=lackey --trace-mem=yes`, or pages in binary. A file
 * that zstd has compressed is read through that program.
 * SPDX-License-Identifier: MIT
 *
 *   I  04016d80,3      fetch          " L addr,size"  load
 *    S 1ffeffe7e8,8    store          " M addr,size"  load, then store, as one reference
 *
 * Address hexadecimal, size decimal. Lines of any other beginning are the program's own output
 * or valgrind's: skipped and counted. Memory use does not depend on the trace's length.
 *
 * Pages: all little-endian, "NMT2", then 32 bits each: pages, records, k; the 64-bit numbers of the
 * virtual pages; 32 bits a record, index of a page << 1 | written. A page that is referenced many
 * times in a row is one record, and what cannot change LRU or OPT with more than k frames is left
 * out (Kaplan, Smaragdakis and Wilson, "Flexible reference trace reduction for VM simulations", ACM
 * TOMACS 13(1), 2003).
 */
#ifndef NEOMM_SIM_TRACE_H
#define NEOMM_SIM_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_BUFFER   (1u << 18)
#define TRACE_SIZE_MAX 65536u /* bytes of one reference; lackey's largest is below 1 KiB */

struct trace_record {
    char kind;     /* I, L, S or M */
    uint32_t size; /* bytes, 1 to TRACE_SIZE_MAX */
    uint64_t address;
};

enum trace_result { TRACE_RECORD, TRACE_END, TRACE_ERROR };

struct trace {
    const char *name; /* for messages: the file's, or "<stdin>" */
    int fd;
    int child;                 /* zstd, which writes to fd; 0: none */
    bool at_end;               /* of the file; what is buffered is still to come */
    uint64_t line;             /* of the last record or error, from 1 */
    uint64_t records, skipped; /* lines */
    char error[160];           /* text behind "name:line: error: " */
    size_t from, to;           /* unread bytes of the buffer */
    char buffer[TRACE_BUFFER];
};

/* Opens `path`, "-" is standard input. False: trace->error says why. */
bool trace_open(struct trace *trace, const char *path);
void trace_close(struct trace *trace);

/* Is it a file of pages? */
bool trace_is_pages(struct trace *trace);
/* The next `size` bytes; fewer at the end or at an error. */
size_t trace_read(struct trace *trace, void *to, size_t size);

/* The next record. TRACE_ERROR: trace->line and trace->error say what is wrong. */
enum trace_result trace_next(struct trace *trace, struct trace_record *record);

#endif
