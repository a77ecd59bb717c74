/* Replacement policies and readahead on traces of real programs, as `neomm replay --fast` counts:
 * one row a figure and cell. No time is measured, so there is one run.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include "sim/replay/replay_fast.h"

#include <neomm/readahead.h>
#include <neomm/swap.h>

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLICIES_MAX 32u
#define RAM_PAGES    65536u /* of the machine whose table of readahead it is: 256 MiB */

static const uint32_t percents[] = {10, 20, 40, 60};

/* What there is a mean of. */
enum figure { MISSES, TESTS, FAULTS, READS, FIGURES };

static const struct {
    const char *name, *unit, *mean_unit, *peer;
} figures[FIGURES] = {
    [MISSES] = {"misses", "misses", "misses/OPT", "OPT"},
    [TESTS] = {"tests", "tests/miss", "tests/miss", NULL},
    [FAULTS] = {"ahead-faults", "faults", "relative", "no readahead"},
    [READS] = {"ahead-reads", "pages", "relative", "no readahead"},
};

struct mean {
    double logs, least, most;
    uint32_t cells;
};

/* A policy and its means over all cells. */
struct policy_sum {
    const char *name;
    struct mean mean[FIGURES];
};

struct table {
    const struct bench_plan *plan;
    bench_result_fn *report;
    void *context;
    struct neomm_config config;
    struct policy_sum policy[POLICIES_MAX];
    uint32_t policies;
    const char *trace; /* as rows name it */
    const struct page_string *string;
};

/* A policy on a trace with so many frames. */
struct cell {
    struct policy_sum *policy;
    char name[80]; /* of its rows: all but the figure's */
    uint32_t frames, percent;
    uint64_t optimal;
    struct fast_results alone, ahead;
};

static const char *directory = NEOMM_BENCH_TRACES;
static bool asked_for;

void bench_traces_in(const char *path)
{
    directory = path;
    asked_for = true;
}

static bool complain(const char *what, const char *why)
{
    (void)fprintf(stderr, "neomm-bench: %s: %s\n", what, why);
    return false;
}

/* ---- rows ---- */

static bool is_wanted(const struct table *table, const char *name)
{
    return !table->plan->only || strstr(name, table->plan->only);
}

static void row(const struct table *table, const char *name, const char *unit,
                const struct bench_result *result, const char *peer)
{
    const struct bench_case test = {.name = name, .unit = unit, .peer_name = peer};
    struct bench_result named = *result;
    named.test = &test;
    if (is_wanted(table, name))
        table->report(table->context, &named);
}

static void add_to_mean(struct mean *mean, double value)
{
    if (value <= 0)
        return;
    mean->logs += log(value);
    mean->least = mean->cells == 0 || value < mean->least ? value : mean->least;
    mean->most = value > mean->most ? value : mean->most;
    mean->cells++;
}

/* A figure of the cell beside what it is to be compared with; 0: nothing. */
static void report_figure(const struct table *table, const struct cell *cell, enum figure figure,
                          double ours, double peer)
{
    char name[112];
    (void)snprintf(name, sizeof(name), "%s-%s", cell->name, figures[figure].name);
    const struct bench_result result = {
        .ours = ours, .minimum = ours, .maximum = ours, .peer = peer};
    add_to_mean(&cell->policy->mean[figure], peer > 0 ? ours / peer : ours);
    row(table, name, figures[figure].unit, &result, figures[figure].peer);
}

/* LRU has no accessed bits; with nothing in swap there is nothing to be read ahead. */
static void report_cell(const struct table *table, const struct cell *cell)
{
    const struct fast_results *alone = &cell->alone, *ahead = &cell->ahead;
    double misses = (double)alone->misses, none = (double)alone->swap_in;
    report_figure(table, cell, MISSES, misses, (double)cell->optimal);
    if (strcmp(cell->policy->name, "lru") != 0)
        report_figure(table, cell, TESTS, (double)alone->tests / misses, 0);
    if (alone->swap_in == 0)
        return;
    report_figure(table, cell, FAULTS, (double)ahead->swap_in, none);
    report_figure(table, cell, READS, (double)(ahead->swap_in + ahead->ahead), none);
    if (ahead->ahead == 0)
        return;
    char name[112];
    double useful = 100.0 * (double)ahead->ahead_used / (double)ahead->ahead;
    const struct bench_result result = {.ours = useful, .minimum = useful, .maximum = useful};
    (void)snprintf(name, sizeof(name), "%s-ahead-useful", cell->name);
    row(table, name, "percent", &result, NULL);
}

static void name_mean(const struct policy_sum *sum, enum figure figure, char *name, size_t size)
{
    (void)snprintf(name, size, "swap/replay-mean-%s-%s", sum->name, figures[figure].name);
}

/* The geometric mean over all cells, the lowest and the highest of them. */
static void report_means(const struct table *table, const struct policy_sum *sum)
{
    for (enum figure i = 0; i < FIGURES; i++) {
        const struct mean *mean = &sum->mean[i];
        char name[112];
        const struct bench_result result = {
            .ours = exp(mean->logs / mean->cells), .minimum = mean->least, .maximum = mean->most};
        name_mean(sum, i, name, sizeof(name));
        if (mean->cells != 0)
            row(table, name, figures[i].mean_unit, &result, NULL);
    }
}

/* ---- cells ---- */

static bool mean_is_wanted(const struct table *table, const struct policy_sum *sum)
{
    bool wanted = false;
    for (enum figure i = 0; i < FIGURES; i++) {
        char name[112];
        name_mean(sum, i, name, sizeof(name));
        wanted = wanted || is_wanted(table, name);
    }
    return wanted;
}

static void name_cell(const struct table *table, struct cell *cell)
{
    (void)snprintf(cell->name, sizeof(cell->name), "swap/replay-%s-%u-%s", table->trace,
                   cell->percent, cell->policy->name);
}

static bool cell_is_wanted(const struct table *table, const struct cell *cell)
{
    static const char *const what[] = {"misses", "tests", "ahead-faults", "ahead-reads",
                                       "ahead-useful"};
    for (uint32_t i = 0; i < BENCH_COUNT(what); i++) {
        char name[112];
        (void)snprintf(name, sizeof(name), "%s-%s", cell->name, what[i]);
        if (is_wanted(table, name))
            return true;
    }
    return mean_is_wanted(table, cell->policy);
}

static bool run(const struct table *table, const char *policy, uint32_t frames, uint32_t readahead,
                struct fast_results *results)
{
    const struct fast_options options = {.policy = policy,
                                         .frames = frames,
                                         .ram_pages = RAM_PAGES,
                                         .readahead = readahead,
                                         .seed = 1};
    return fast_run(table->string, &table->config, &options, results) ||
           complain(table->trace, results->error);
}

/* OPT's misses are counted once for all policies, and only if one of them is wanted. */
static bool run_cell(const struct table *table, struct cell *cell)
{
    struct policy_sum *sum = cell->policy;
    struct fast_results optimal;
    name_cell(table, cell);
    if (!cell_is_wanted(table, cell))
        return true;
    if (cell->optimal == 0) {
        if (!run(table, "opt", cell->frames, 0, &optimal))
            return false;
        cell->optimal = optimal.misses;
    }
    if (!run(table, sum->name, cell->frames, 0, &cell->alone) ||
        !run(table, sum->name, cell->frames, NEOMM_READAHEAD_MOST, &cell->ahead))
        return false;
    report_cell(table, cell);
    return true;
}

static uint32_t sizes(const struct table *table)
{
    return table->plan->quick ? 2 : BENCH_COUNT(percents);
}

static bool run_trace(struct table *table)
{
    for (uint32_t i = 0; i < sizes(table); i++) {
        struct cell cell = {.percent = percents[i]};
        cell.frames = (uint32_t)((uint64_t)table->string->pages * percents[i] / 100);
        cell.frames += cell.frames == 0;
        for (uint32_t j = 0; j < table->policies; j++) {
            cell.policy = &table->policy[j];
            if (!run_cell(table, &cell))
                return false;
        }
    }
    return true;
}

/* ---- what there is ---- */

/* All built-in policies and the simulator's; short measurements do with some of them. */
static bool find_policies(struct table *table)
{
    static const char *const quick[] = {"adaptive", "clock", "lru"};
    const struct sim_system_options options = {
        .machine = {.format = NEOMM_FORMAT_4LEVEL, .ram_bytes = 64u << 20, .seed = 1},
        .layer = SIM_LAYER_SWAP};
    const struct neomm_policy_ops *ops;
    struct sim_system system;
    if (table->plan->quick) {
        for (uint32_t i = 0; i < BENCH_COUNT(quick); i++)
            table->policy[table->policies++].name = quick[i];
        return true;
    }
    if (sim_system_start(&system, &options) != NEOMM_OK)
        return complain("policies", "the machine does not start");
    for (uint32_t i = 0; (ops = neomm_policy_at(system.root, i)) && i + 1 < POLICIES_MAX; i++)
        table->policy[table->policies++].name = ops->name;
    table->policy[table->policies++].name = "lru";
    return sim_system_stop(&system) == NEOMM_OK ||
           complain("policies", "the machine does not stop");
}

static int is_trace(const struct dirent *entry)
{
    return strstr(entry->d_name, ".nmt") || strstr(entry->d_name, ".lackey");
}

/* The name of a file without what says how it is written, in small letters. */
static void name_trace(const char *file, char *name, size_t size)
{
    size_t i = 0;
    for (; i + 1 < size && file[i] != '\0' && file[i] != '.'; i++)
        name[i] = isalnum((unsigned char)file[i]) ? (char)tolower((unsigned char)file[i]) : '-';
    name[i] = '\0';
}

/* Reading a trace takes longer than most of its cells. */
static bool trace_is_wanted(struct table *table)
{
    for (uint32_t i = 0; i < sizes(table) * table->policies; i++) {
        struct cell cell = {.percent = percents[i / table->policies],
                            .policy = &table->policy[i % table->policies]};
        name_cell(table, &cell);
        if (cell_is_wanted(table, &cell))
            return true;
    }
    return false;
}

static bool run_file(struct table *table, const char *file)
{
    static struct trace trace;
    struct page_string string = {0};
    char path[4096], name[40];
    name_trace(file, name, sizeof(name));
    table->trace = name;
    table->string = &string;
    if (!trace_is_wanted(table))
        return true;
    if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path))
        return complain(file, "the path is too long");
    bool good = trace_open(&trace, path) && page_string_read(&string, &trace);
    if (!good)
        (void)complain(path, trace.error);
    trace_close(&trace);
    good = good && run_trace(table);
    page_string_free(&string);
    return good;
}

static bool run_files(struct table *table)
{
    struct dirent **entry = NULL;
    int count = scandir(directory, &entry, is_trace, alphasort);
    bool good = count > 0 || complain(directory, "has no traces");
    for (int i = 0; i < count; i++) {
        good = good && run_file(table, entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    return good;
}

static bool replay(const struct bench_plan *plan, bench_result_fn *report, void *context)
{
    struct table *table = calloc(1, sizeof(*table));
    if (!table)
        return complain("replay", "the host is out of memory");
    table->plan = plan;
    table->report = report;
    table->context = context;
    neomm_config_default(&table->config);
    bool good = find_policies(table) && run_files(table);
    for (uint32_t i = 0; good && i < table->policies; i++)
        report_means(table, &table->policy[i]);
    free(table);
    return good || !asked_for; /* the others do without the traces that come along */
}

const struct bench_layer bench_replay = {.name = "swap", .measure = replay};
