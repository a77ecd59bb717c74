/* The test harness: runs the cases of a suite and prints KTAP version 1.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include "base/format.h"
#include "base/memory.h"

/* Lines of one case that say what failed; more would bury the first. */
#define FAILURE_LINES 20

static void write_line(const char *format, ...) NEOMM_PRINTF(1, 2);

static void write_line(const char *format, ...)
{
    char line[NEOMM__LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = neomm__vformat(line, sizeof(line) - 1, format, arguments);
    va_end(arguments);
    line[length] = '\n';
    ktap_write(line, length + 1);
}

void ktap_note(struct ktap *t, const char *format, ...)
{
    char line[NEOMM__LINE_MAX];
    va_list arguments;
    (void)t;
    va_start(arguments, format);
    neomm__vformat(line, sizeof(line), format, arguments);
    va_end(arguments);
    write_line("# %s", line);
}

void ktap_fail(struct ktap *t, const char *file, int line, const char *what)
{
    if (t->failures++ < FAILURE_LINES)
        write_line("# %s:%d: failed: %s", file, line, what);
}

void ktap_fail_equal(struct ktap *t, const char *file, int line, const char *what, long long have,
                     long long want)
{
    if (t->failures++ < FAILURE_LINES)
        write_line("# %s:%d: failed: %s: have %lld (%#llx), want %lld (%#llx)", file, line, what,
                   have, (unsigned long long)have, want, (unsigned long long)want);
}

void ktap_skip(struct ktap *t, const char *why)
{
    t->skipped = why;
}

static void make_id(char *id, size_t size, const struct ktap_case *test, uint32_t at)
{
    if (test->parameter_count == 0)
        (void)neomm__format(id, size, "%s", test->name);
    else
        (void)neomm__format(id, size, "%s/%llu", test->name,
                            (unsigned long long)test->parameters[at]);
}

static bool starts_with(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return false;
    return true;
}

static uint32_t runs_of(const struct ktap_case *test)
{
    return test->parameter_count == 0 ? 1 : test->parameter_count;
}

/* True: the case failed. */
static bool run_one(const struct ktap_case *test, uint32_t at, const char *id, unsigned number)
{
    struct ktap t = {id, test->parameter_count ? test->parameters[at] : 0, 0, NULL};
    test->run(&t);
    if (t.failures > FAILURE_LINES)
        write_line("# %u more failures", t.failures - FAILURE_LINES);
    if (t.failures != 0)
        write_line("not ok %u %s", number, id);
    else if (t.skipped)
        write_line("ok %u %s # SKIP %s", number, id, t.skipped);
    else
        write_line("ok %u %s", number, id);
    return t.failures != 0;
}

/* One pass over all ids that match: run or only counted. */
static unsigned pass(const struct ktap_suite *suite, const char *only, bool run, unsigned *failed)
{
    unsigned number = 0;
    char id[128];
    for (uint32_t i = 0; i < suite->case_count; i++) {
        for (uint32_t j = 0; j < runs_of(&suite->cases[i]); j++) {
            make_id(id, sizeof(id), &suite->cases[i], j);
            if (only && !starts_with(id, only))
                continue;
            number++;
            if (run && run_one(&suite->cases[i], j, id, number))
                (*failed)++;
        }
    }
    return number;
}

unsigned ktap_run(const struct ktap_suite *suite, const char *only)
{
    unsigned failed = 0;
    unsigned count = pass(suite, only, false, &failed);
    write_line("KTAP version 1");
    write_line("# suite: %s", suite->name);
    if (count == 0) {
        write_line("1..1");
        write_line("not ok 1 no case begins with this: %s", only ? only : "");
        return 1;
    }
    write_line("1..%u", count);
    (void)pass(suite, only, true, &failed);
    write_line("# %s: %u passed, %u failed", suite->name, count - failed, failed);
    return failed;
}

void ktap_list(const struct ktap_suite *suite)
{
    char id[128];
    for (uint32_t i = 0; i < suite->case_count; i++) {
        for (uint32_t j = 0; j < runs_of(&suite->cases[i]); j++) {
            make_id(id, sizeof(id), &suite->cases[i], j);
            write_line("%s", id);
        }
    }
}
