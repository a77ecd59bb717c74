/* neomm-bench LAYER [OPTION...]: the benchmarks of every layer, one driver.
 * SPDX-License-Identifier: MIT */
#include "bench.h"
#include "heap_side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_DEFAULT 9u
#define RUNS_MAX     1000u
#define CASES_MAX    32u

static const struct bench_layer *const layers[] = {
    &bench_pmm,    &bench_pmm_4g, &bench_pmm_64g,      &bench_pmm_flat,       &bench_pmm_flat_large,
    &bench_paging, &bench_heap,   &bench_vmm,          &bench_swap,           &bench_swap_encrypted,
    &bench_codec,  &bench_replay, &bench_process_pool, &bench_process_device, &bench_swap_costs};

static const char help[] =
    "usage: neomm-bench LAYER [--json] [--runs N] [--quick] [--only TEXT]\n"
    "                   [--peer FILE.so] [--corpus FILE] [--traces DIR]\n"
    "\n"
    "Measures a layer of libneomm: pmm, paging, heap, vmm, swap, or all; all but the heap on a\n"
    "simulated machine, the heap on a light port, beside the allocators that this host has.\n"
    "Each benchmark runs N times (9), in turns with its peer if it has one, in thread CPU time;\n"
    "both do the same number of operations. Printed are medians, with the lowest and highest run.\n"
    "ratio is ours / peer: below 1 means that ours is faster, in rows in x (times the speed of "
    "one\n"
    "thread) the reverse.\n"
    "Rows of swap/replay and swap/cost are counts of one run; there, the ratio is that to the "
    "misses\n"
    "of OPT or to what is read without readahead, and means are geometric, with their extreme "
    "cells.\n"
    "\n"
    "  --json    one array of {name, unit, ours, peer, ratio, min, max, peer_name}\n"
    "  --runs N  1 to 1000\n"
    "  --quick   short measurements, to see that all of it works\n"
    "  --only T  benchmarks whose name contains T\n"
    "  --peer F  a frame allocator to measure beside ours (bench/peer.h says what it exports)\n"
    "  --corpus F  pages to compress, as script/codec-corpus writes them; else made-up ones\n"
    "  --traces DIR  traces to replay; else those that come along\n"
    "  --help    this text\n";

struct arguments {
    const char *layer;
    bool json;
    struct bench_plan plan;
    struct bench_peer peer;
};

static int usage(const char *what, const char *argument)
{
    (void)fprintf(stderr, "neomm-bench: %s%s\nTry 'neomm-bench --help'.\n", what, argument);
    return 2;
}

static bool parse_runs(const char *text, uint32_t *runs)
{
    char *end;
    unsigned long value = text ? strtoul(text, &end, 10) : 0;
    if (!text || text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > RUNS_MAX)
        return false;
    *runs = (uint32_t)value;
    return true;
}

/* 0: go on; otherwise the exit status, -1 standing for 0. */
static int parse(int argc, char **argv, struct arguments *arguments)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            return -1;
        }
        if (strcmp(argv[i], "--json") == 0)
            arguments->json = true;
        else if (strcmp(argv[i], "--quick") == 0) {
            arguments->plan.nanoseconds = 200000;
            arguments->plan.quick = true;
        } else if (strcmp(argv[i], "--only") == 0) {
            if (i + 1 == argc)
                return usage("--only wants a part of a name", "");
            arguments->plan.only = argv[++i];
        } else if (strcmp(argv[i], "--peer") == 0) {
            if (i + 1 == argc)
                return usage("--peer wants a shared object", "");
            if (!bench_peer_load(&arguments->peer, argv[++i]))
                return 1;
            arguments->plan.peer = &arguments->peer;
        } else if (strcmp(argv[i], "--corpus") == 0) {
            if (i + 1 == argc)
                return usage("--corpus wants a file of pages", "");
            if (!bench_corpus_load(argv[++i]))
                return 1;
        } else if (strcmp(argv[i], "--traces") == 0) {
            if (i + 1 == argc)
                return usage("--traces wants a directory", "");
            bench_traces_in(argv[++i]);
        } else if (strcmp(argv[i], "--runs") == 0) {
            if (!parse_runs(i + 1 < argc ? argv[++i] : NULL, &arguments->plan.runs))
                return usage("--runs wants a number from 1 to 1000", "");
        } else if (argv[i][0] == '-')
            return usage("unknown option ", argv[i]);
        else if (arguments->layer)
            return usage("one layer at a time, or all; then what is ", argv[i]);
        else
            arguments->layer = argv[i];
    }
    return arguments->layer ? 0 : usage("which layer? pmm, paging, heap, vmm, swap, all", "");
}

static void print_json(const struct bench_result *result, bool first)
{
    (void)printf("%s\n  {\"name\": \"%s\", \"unit\": \"%s\", \"ours\": %.3f, ", first ? "" : ",",
                 result->test->name, result->test->unit, result->ours);
    if (result->peer > 0)
        (void)printf("\"peer\": %.3f, \"ratio\": %.3f, ", result->peer,
                     result->ours / result->peer);
    else
        (void)printf("\"peer\": null, \"ratio\": null, ");
    (void)printf("\"min\": %.3f, \"max\": %.3f, ", result->minimum, result->maximum);
    if (result->test->peer_name)
        (void)printf("\"peer_name\": \"%s\"}", result->test->peer_name);
    else
        (void)printf("\"peer_name\": null}");
}

static void print_text(const struct bench_result *result)
{
    (void)printf("%-46s %-10s %10.2f %10.2f %10.2f", result->test->name, result->test->unit,
                 result->ours, result->minimum, result->maximum);
    if (result->peer > 0)
        (void)printf(" %10.2f %7.2f  %s", result->peer, result->ours / result->peer,
                     result->test->peer_name);
    else if (result->test->plugin || result->test->peer_there)
        (void)printf("     absent          %s", result->test->peer_name);
    (void)putchar('\n');
}

struct output {
    bool json;
    bool first; /* nothing was printed yet */
};

static void print(void *context, const struct bench_result *result)
{
    struct output *output = context;
    if (output->json)
        print_json(result, output->first);
    else
        print_text(result);
    output->first = false;
}

static bool run_layer(const struct bench_layer *layer, const struct bench_plan *plan,
                      struct output *output)
{
    struct bench_result results[CASES_MAX];
    if (layer->slow && plan->quick)
        return true;
    if (layer->measure)
        return layer->measure(plan, print, output);
    if (!bench_measure(layer, plan, results))
        return false;
    for (uint32_t i = 0; i < layer->case_count; i++)
        if (results[i].test)
            print(output, &results[i]);
    return true;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.plan = {.runs = RUNS_DEFAULT, .nanoseconds = 20000000}};
    bool found = false, good = true;
    heap_sides_prepare(argv);
    int status = parse(argc, argv, &arguments);
    struct output output = {.json = arguments.json, .first = true};
    if (status != 0)
        return status < 0 ? 0 : status;
    for (size_t i = 0; i < BENCH_COUNT(layers); i++)
        found = found || strcmp(arguments.layer, layers[i]->name) == 0;
    if (!found && strcmp(arguments.layer, "all") != 0)
        return usage("no such layer: ", arguments.layer);
    if (arguments.json)
        (void)putchar('[');
    else
        (void)printf("%-46s %-10s %10s %10s %10s %10s %7s\n", "benchmark", "unit", "ours", "min",
                     "max", "peer", "ratio");
    for (size_t i = 0; i < BENCH_COUNT(layers) && good; i++)
        if (!found || strcmp(arguments.layer, layers[i]->name) == 0)
            good = run_layer(layers[i], &arguments.plan, &output);
    if (arguments.json)
        (void)puts("\n]");
    if (good && output.first)
        return usage("no benchmark has this in its name: ", arguments.plan.only);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("neomm-bench");
        return 1;
    }
    return good ? 0 : 1;
}
