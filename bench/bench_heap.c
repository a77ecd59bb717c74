/* Benchmarks of the heap beside the host's allocators: mimalloc, jemalloc, tcmalloc, glibc.
 * SPDX-License-Identifier: MIT
 *
 * Each figure is measured for all of them in turns, and ours twice: with the port's functions
 * called, and inline ("-inline"). All do the same number of operations.
 */
#include "bench.h"
#include "heap_jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 1000u

static const struct heap_case cases[] = {
    {.name = "pair-16", .unit = "ns", .job = heap_pair_16},
    {.name = "pair-64", .unit = "ns", .job = heap_pair_64},
    {.name = "pair-256", .unit = "ns", .job = heap_pair_256},
    {.name = "pair-1024", .unit = "ns", .job = heap_pair_1024},
    {.name = "burst-64", .unit = "ns/object", .job = heap_burst_64},
    {.name = "batch-mixed", .unit = "ns/object", .job = heap_batch_mixed},
    {.name = "bulk-64", .unit = "ns/object", .job = heap_bulk_64},
    {.name = "churn-100k", .unit = "ns", .job = heap_churn},
    {.name = "threads-own", .unit = "ns", .job = heap_threads_own},
    {.name = "threads-slowdown", .unit = "x", .value = heap_threads_slowdown},
    {.name = "cross", .unit = "ns/object", .job = heap_cross},
    {.name = "cross-read", .unit = "ns/object", .job = heap_cross_read},
    {.name = "vectors", .unit = "us/step", .job = heap_vectors, .scale = 1000},
    {.name = "alloc-p50", .unit = "cycles", .value = heap_alloc_p50},
    {.name = "alloc-p99", .unit = "cycles", .value = heap_alloc_p99},
    {.name = "alloc-p999", .unit = "cycles", .value = heap_alloc_p999},
    {.name = "alloc-max", .unit = "cycles", .value = heap_alloc_max},
    {.name = "free-p50", .unit = "cycles", .value = heap_free_p50},
    {.name = "free-p99", .unit = "cycles", .value = heap_free_p99},
    {.name = "free-p999", .unit = "cycles", .value = heap_free_p999},
    {.name = "free-max", .unit = "cycles", .value = heap_free_max},
};

/* Space, measured once, and first: nobody has used an allocator by then. */
static const struct heap_case space_cases[] = {
    {.name = "dense-64", .unit = "percent", .value = heap_dense_64},
    {.name = "dense-64-described",
     .unit = "percent",
     .value = heap_dense_64_described,
     .ours_only = true},
    {.name = "dense-16", .unit = "percent", .value = heap_dense_16},
    {.name = "dense-16-described",
     .unit = "percent",
     .value = heap_dense_16_described,
     .ours_only = true},
    {.name = "held-peak", .unit = "x", .value = heap_held_peak},
    {.name = "held-tenth", .unit = "x", .value = heap_held_tenth},
    {.name = "held-none", .unit = "KiB", .value = heap_held_none},
    {.name = "rounding", .unit = "percent", .value = heap_rounding},
    {.name = "rounding-fine", .unit = "percent", .value = heap_rounding_fine, .ours_only = true},
};

static struct heap_side sides[HEAP_SIDES];

/* ---- one case ---- */

static bool takes_part(const struct heap_case *test, uint32_t side)
{
    return sides[side].present && (side < HEAP_OURS || !test->ours_only);
}

/* The number of operations in which each side takes the time planned. 0: failed. */
static uint64_t calibrate(const struct heap_case *test, const struct bench_plan *plan)
{
    uint64_t count = 1;
    double least = 0;
    for (; least < (double)plan->nanoseconds && count < (uint64_t)1 << 40; count *= 2) {
        least = 1e18;
        for (uint32_t i = 0; i < HEAP_SIDES; i++) {
            if (!takes_part(test, i))
                continue;
            struct heap_work work = test->job(&sides[i], count);
            if (work.done == 0)
                return 0;
            least = work.time < least ? work.time : least;
        }
    }
    return count / 2;
}

/* Negative: failed. */
static double sample(const struct heap_case *test, const struct heap_side *side, uint64_t count)
{
    if (test->value)
        return test->value(side);
    struct heap_work work = test->job(side, count);
    return work.done > 0 ? work.time / (double)work.done / (test->scale > 0 ? test->scale : 1) : -1;
}

/* All sides in turns, each run beginning with another one. */
static bool measure(const struct heap_case *test, const struct bench_plan *plan, uint32_t runs,
                    double (*samples)[RUNS_MAX])
{
    uint64_t count = test->job ? calibrate(test, plan) : 1;
    for (uint32_t run = 0; run < runs && count > 0; run++)
        for (uint32_t i = 0; i < HEAP_SIDES; i++) {
            uint32_t at = (run + i) % HEAP_SIDES;
            if (takes_part(test, at))
                samples[at][run] = sample(test, &sides[at], count);
            if (takes_part(test, at) && samples[at][run] < 0)
                return false;
        }
    return count > 0;
}

/* ---- results ---- */

/* One of ours beside each peer. */
static void report_side(const struct heap_case *test, uint32_t ours, uint32_t runs,
                        double (*samples)[RUNS_MAX], bench_result_fn *report, void *context)
{
    char name[64];
    struct bench_case named = {.name = name, .unit = test->unit};
    struct bench_result result = {.test = &named};
    (void)snprintf(name, sizeof(name), "heap/%s%s", test->name, ours == 0 ? "" : "-inline");
    result.ours = bench_median(samples[ours], runs);
    result.minimum = samples[ours][0];
    result.maximum = samples[ours][runs - 1];
    for (uint32_t i = HEAP_OURS; i < HEAP_SIDES && !test->ours_only; i++) {
        named.peer_name = sides[i].name;
        named.plugin = !sides[i].present;
        result.peer = sides[i].present ? bench_median(samples[i], runs) : 0;
        report(context, &result);
    }
    if (test->ours_only)
        report(context, &result);
}

static bool run_case(const struct heap_case *test, const struct bench_plan *plan, uint32_t runs,
                     bench_result_fn *report, void *context)
{
    static double samples[HEAP_SIDES][RUNS_MAX];
    if (plan->only && !strstr(test->name, plan->only))
        return true;
    if (!measure(test, plan, runs, samples)) {
        (void)fprintf(stderr, "neomm-bench: heap/%s failed\n", test->name);
        return false;
    }
    /* Space is the same for both of ours. */
    for (uint32_t i = 0; i < (runs > 1 || test->job ? HEAP_OURS : 1); i++)
        report_side(test, i, runs, samples, report, context);
    return true;
}

static bool measure_heap(const struct bench_plan *plan, bench_result_fn *report, void *context)
{
    bool good = heap_sides_open(sides);
    heap_sizes_init();
    heap_quick = plan->quick;
    for (uint32_t i = 0; i < BENCH_COUNT(space_cases) && good; i++)
        good = run_case(&space_cases[i], plan, 1, report, context);
    for (uint32_t i = 0; i < BENCH_COUNT(cases) && good; i++)
        good = run_case(&cases[i], plan, plan->runs, report, context);
    if (!heap_sides_close(sides) && good) {
        (void)fprintf(stderr, "neomm-bench: heap: what was allocated was not all freed\n");
        good = false;
    }
    return good;
}

const struct bench_layer bench_heap = {.name = "heap", .measure = measure_heap};
