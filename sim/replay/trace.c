/* Reading traces.
 * SPDX-License-Identifier: MIT */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static enum trace_result fail(struct trace *trace, const char *text)
{
    snprintf(trace->error, sizeof(trace->error), "%s", text);
    return TRACE_ERROR;
}

/* ---- files ---- */

static bool is_compressed(int fd)
{
    static const unsigned char magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    unsigned char head[4];
    return pread(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
           memcmp(head, magic, sizeof(head)) == 0;
}

/* Puts zstd between the file and the trace. */
static bool decompress(struct trace *trace)
{
    char *const arguments[] = {(char[]){"zstd"}, (char[]){"-dcq"}, (char[]){"--long=27"}, NULL};
    posix_spawn_file_actions_t actions;
    int end[2];
    pid_t child;
    if (pipe(end) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, trace->fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, end[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, end[0]);
    errno = posix_spawnp(&child, "zstd", &actions, NULL, arguments, environ);
    bool started = errno == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(end[1]);
    if (!started) {
        close(end[0]);
        return false;
    }
    close(trace->fd);
    trace->fd = end[0];
    trace->child = child;
    return true;
}

bool trace_open(struct trace *trace, const char *path)
{
    bool standard = strcmp(path, "-") == 0;
    memset(trace, 0, offsetof(struct trace, buffer));
    trace->name = standard ? "<stdin>" : path;
    trace->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (trace->fd < 0)
        snprintf(trace->error, sizeof(trace->error), "cannot open: %s", strerror(errno));
    else if (!standard && is_compressed(trace->fd) && !decompress(trace)) {
        snprintf(trace->error, sizeof(trace->error), "cannot run zstd: %s", strerror(errno));
        trace_close(trace);
    }
    return trace->fd >= 0;
}

void trace_close(struct trace *trace)
{
    if (trace->fd > STDIN_FILENO)
        close(trace->fd);
    if (trace->child > 0)
        (void)waitpid(trace->child, NULL, 0);
    trace->child = 0;
    trace->fd = -1;
}

/* The end of what zstd wrote: has it failed? */
static bool ended_well(struct trace *trace)
{
    int status = 0;
    if (trace->child > 0 && waitpid(trace->child, &status, 0) == trace->child)
        trace->child = 0;
    errno = EIO;
    return status == 0;
}

/* Moves what is unread to the front and reads more. False: a read error. */
static bool refill(struct trace *trace)
{
    memmove(trace->buffer, trace->buffer + trace->from, trace->to - trace->from);
    trace->to -= trace->from;
    trace->from = 0;
    while (!trace->at_end && trace->to < TRACE_BUFFER) {
        ssize_t got = read(trace->fd, trace->buffer + trace->to, TRACE_BUFFER - trace->to);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        trace->at_end = got == 0;
        if (trace->at_end && !ended_well(trace))
            return false;
        trace->to += (size_t)got;
        if (got > 0)
            break;
    }
    return true;
}

bool trace_is_pages(struct trace *trace)
{
    while (trace->to - trace->from < 4 && !trace->at_end)
        if (!refill(trace))
            return false;
    return trace->to - trace->from >= 4 && memcmp(trace->buffer + trace->from, "NMT2", 4) == 0;
}

size_t trace_read(struct trace *trace, void *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        if (trace->from == trace->to && (trace->at_end || !refill(trace)))
            break;
        size_t here = trace->to - trace->from;
        if (here > size - done)
            here = size - done;
        memcpy((char *)to + done, trace->buffer + trace->from, here);
        trace->from += here;
        done += here;
    }
    return done;
}

/* ---- lackey ---- */

/* Drops the rest of a line that is longer than the buffer; no record is. */
static enum trace_result skip_long_line(struct trace *trace)
{
    for (;;) {
        char *end = memchr(trace->buffer + trace->from, '\n', trace->to - trace->from);
        if (end) {
            trace->from = (size_t)(end - trace->buffer) + 1;
            return TRACE_RECORD;
        }
        trace->from = trace->to;
        if (trace->at_end)
            return TRACE_END;
        if (!refill(trace))
            return fail(trace, strerror(errno));
    }
}

/* Could these first bytes of a line be the beginning of a record? */
static bool begins_record(const char *line, size_t length)
{
    if (length == 0)
        return false;
    if (line[0] == 'I')
        return (length < 2 || line[1] == ' ') && (length < 3 || line[2] == ' ');
    if (line[0] != ' ')
        return false;
    if (length >= 2 && line[1] != 'L' && line[1] != 'S' && line[1] != 'M')
        return false;
    return length < 3 || line[2] == ' ';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Parses the line from its third byte on; `end` is its newline. NULL, or what is wrong. */
static const char *parse(const char *line, const char *end, struct trace_record *record)
{
    const char *at = line + 3;
    uint64_t address = 0;
    uint32_t size = 0;
    int digit;
    record->kind = line[0] == 'I' ? 'I' : line[1];
    for (; at < end && (digit = hex_digit(*at)) >= 0; at++) {
        if (address >> 60)
            return "the address has more than 64 bits";
        address = address << 4 | (unsigned)digit;
    }
    if (at == line + 3)
        return "expected a hexadecimal address, as in ' L 1ffeffe7e8,8'";
    if (at == end || *at != ',')
        return "expected ',' behind the address";
    const char *digits = ++at;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        size = size * 10 + (uint32_t)(*at - '0');
        if (size > TRACE_SIZE_MAX)
            return "the size is above 65536 bytes";
    }
    if (at < end && *at == '\r' && at + 1 == end)
        end = at;
    if (at == digits || at != end)
        return "expected a decimal size at the end of the line";
    if (size == 0)
        return "the size is 0";
    record->address = address;
    record->size = size;
    return NULL;
}

/* The last line has no newline: a record there may have lost its tail, so it is not believed. */
static enum trace_result last_line(struct trace *trace)
{
    size_t length = trace->to - trace->from;
    if (length == 0)
        return trace->records ? TRACE_END
                              : fail(trace, "no record in the trace (expected the output of "
                                            "'valgrind --tool=lackey --trace-mem=yes')");
    trace->line++;
    if (begins_record(trace->buffer + trace->from, length))
        return fail(trace, "the last line is cut short (no newline behind it)");
    trace->skipped++;
    trace->from = trace->to;
    return last_line(trace);
}

enum trace_result trace_next(struct trace *trace, struct trace_record *record)
{
    for (;;) {
        char *line = trace->buffer + trace->from;
        char *end = memchr(line, '\n', trace->to - trace->from);
        if (!end) {
            bool full = trace->to - trace->from == TRACE_BUFFER;
            if (full) {
                trace->line++;
                trace->skipped++;
                if (begins_record(line, TRACE_BUFFER))
                    return fail(trace, "a record of more than 262144 bytes");
                enum trace_result result = skip_long_line(trace);
                if (result == TRACE_ERROR)
                    return result;
                continue;
            }
            if (trace->at_end)
                return last_line(trace);
            if (!refill(trace))
                return fail(trace, strerror(errno));
            continue;
        }
        trace->line++;
        trace->from = (size_t)(end - trace->buffer) + 1;
        if (end - line < 3 || !begins_record(line, 3)) {
            trace->skipped++;
            continue;
        }
        const char *wrong = parse(line, end, record);
        if (wrong)
            return fail(trace, wrong);
        trace->records++;
        return TRACE_RECORD;
    }
}
