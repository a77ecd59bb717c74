/* Measuring: warm-up, interleaved runs, medians.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SIDES      2u
#define LARGE_PAGE ((size_t)2 << 20)
#define SEED       0x9e3779b97f4a7c15u

/* One measured side of a benchmark. */
struct side {
    bench_fn *run;
    bench_value_fn *value; /* instead */
    double *samples;       /* nanoseconds an operation, or values; one a run */
};

uint64_t bench_time(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Time of `count` operations or somewhat more: *done of them. False: failed. */
static bool measure(struct bench_machine *machine, const struct bench_case *test, bench_fn *run,
                    uint64_t count, uint64_t *done, uint64_t *time)
{
    machine->random = SEED;
    if (test->setup && !test->setup(machine))
        return false;
    machine->untimed = 0;
    machine->started = bench_time();
    *done = run(machine, count);
    *time = bench_time() - machine->started - machine->untimed;
    if (test->teardown)
        test->teardown(machine);
    return *done > 0;
}

/* A side that is slower than the other takes so many times what was planned, at most. */
#define PATIENCE 16u

/* Doubles the number of operations until each side takes the time planned, or one of them far more:
 * both do the same number then, and have done as many before. Warms caches up, too. 0: failed. */
static uint64_t calibrate(struct bench_machine *machine, const struct bench_case *test,
                          const struct side *sides)
{
    uint64_t done, time, count, least = 0, most = 0;
    /* A round that does far more than it was asked for ends this, too. */
    for (count = 1; least < machine->nanoseconds && most < PATIENCE * machine->nanoseconds &&
                    count < (uint64_t)1 << 40;
         count *= 2) {
        least = UINT64_MAX;
        most = 0;
        for (uint32_t i = 0; i < SIDES; i++) {
            if (!sides[i].run)
                continue;
            if (!measure(machine, test, sides[i].run, count, &done, &time))
                return 0;
            least = time < least ? time : least;
            most = time > most ? time : most;
        }
    }
    return count / 2;
}

static bool take_value(struct bench_machine *machine, const struct bench_case *test,
                       const struct side *side, uint32_t run)
{
    machine->random = SEED;
    if (test->setup && !test->setup(machine))
        return false;
    side->samples[run] = side->value(machine);
    if (test->teardown)
        test->teardown(machine);
    return side->samples[run] > 0;
}

static bool sample(struct bench_machine *machine, const struct bench_case *test,
                   const struct side *side, uint64_t count, uint32_t run)
{
    uint64_t done, time;
    if (side->value)
        return take_value(machine, test, side, run);
    if (!side->run)
        return true;
    if (!measure(machine, test, side->run, count, &done, &time))
        return false;
    side->samples[run] = (double)time / (double)done;
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *samples, uint32_t count)
{
    qsort(samples, count, sizeof(*samples), compare);
    return count % 2 ? samples[count / 2] : (samples[count / 2 - 1] + samples[count / 2]) / 2;
}

static bool measure_case(struct bench_machine *machine, const struct bench_case *test,
                         const struct bench_plan *plan, double *samples,
                         struct bench_result *result)
{
    bool has_peer = (test->peer || test->peer_value) && (!test->plugin || plan->peer) &&
                    (!test->peer_there || test->peer_there());
    const struct side sides[SIDES] = {
        {test->ours, test->ours_value, samples},
        {has_peer ? test->peer : NULL, has_peer ? test->peer_value : NULL, samples + plan->runs}};
    uint64_t count = test->ours ? calibrate(machine, test, sides) : 1;
    for (uint32_t run = 0; run < plan->runs && count > 0; run++) {
        uint32_t first = run % 2;
        if (!sample(machine, test, &sides[first], count, run) ||
            !sample(machine, test, &sides[1 - first], count, run))
            return false;
    }
    *result =
        (struct bench_result){.test = test, .ours = bench_median(sides[0].samples, plan->runs)};
    result->minimum = sides[0].samples[0];
    result->maximum = sides[0].samples[plan->runs - 1];
    if (has_peer)
        result->peer = bench_median(sides[1].samples, plan->runs);
    return count > 0;
}

/* Where kernels have it: their direct map consists of large pages, and so does this as far as the
 * host gives any. One at a time. */
static struct {
    uint8_t *memory;
    size_t size;
} metadata;

static void *take_metadata(size_t size)
{
    metadata.size = size + LARGE_PAGE;
    metadata.memory = mmap(NULL, metadata.size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (metadata.memory == MAP_FAILED)
        return NULL;
    (void)madvise(metadata.memory, metadata.size, MADV_HUGEPAGE);
    return metadata.memory + (LARGE_PAGE - (uintptr_t)metadata.memory % LARGE_PAGE);
}

static void give_metadata(void)
{
    if (metadata.size != 0 && metadata.memory != MAP_FAILED)
        (void)munmap(metadata.memory, metadata.size);
    metadata.size = 0;
}

static bool start(struct bench_machine *machine, const struct bench_layer *layer)
{
    const struct neomm_vmm_options vmm = {.zero_page = false, .readahead = layer->readahead};
    struct neomm_config config;
    neomm_config_default(&config);
    if (layer->whole)
        config.reserve = (struct neomm_config_size){0, 0};
    if (layer->no_pool)
        config.compression = NEOMM_COMPRESSION_OFF;
    config.encryption = layer->encrypted;
    const struct sim_system_options options = {
        .machine = {.format = NEOMM_FORMAT_4LEVEL,
                    .ram_bytes = layer->ram_bytes,
                    .cpus = layer->cpus,
                    .seed = 1},
        .layer = layer->layer,
        .metadata = layer->layer == SIM_LAYER_PMM ? take_metadata : NULL,
        .swap_pages = layer->swap_pages,
        .config = &config,
        .vmm = &vmm};
    neomm_status status = sim_system_start(&machine->system, &options);
    machine->root = machine->system.root;
    if (status != NEOMM_OK)
        (void)fprintf(stderr, "neomm-bench: %s: %s\n", machine->system.step,
                      neomm_status_text(status));
    return status == NEOMM_OK;
}

/* Marks the cases that the plan wants; the number of them. */
static uint32_t select_cases(const struct bench_layer *layer, const struct bench_plan *plan,
                             struct bench_result *results)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < layer->case_count; i++) {
        bool wanted = !plan->only || strstr(layer->cases[i].name, plan->only);
        results[i] = (struct bench_result){.test = wanted ? &layer->cases[i] : NULL};
        count += wanted;
    }
    return count;
}

bool bench_measure(const struct bench_layer *layer, const struct bench_plan *plan,
                   struct bench_result *results)
{
    struct bench_machine machine = {
        .ram_bytes = layer->ram_bytes, .nanoseconds = plan->nanoseconds, .peer = plan->peer};
    if (select_cases(layer, plan, results) == 0)
        return true;
    double *samples = calloc((size_t)plan->runs * 2, sizeof(*samples));
    bool good = samples && start(&machine, layer);
    if (!good) {
        free(samples);
        return false;
    }
    for (uint32_t i = 0; i < layer->case_count && good; i++) {
        if (!results[i].test)
            continue;
        good = measure_case(&machine, &layer->cases[i], plan, samples, &results[i]);
        if (!good)
            (void)fprintf(stderr, "neomm-bench: %s failed\n", layer->cases[i].name);
    }
    free(samples);
    if (layer->finish)
        layer->finish(&machine);
    /* A benchmark that leaks measures something else the longer it runs. */
    neomm_status status = sim_system_stop(&machine.system);
    give_metadata();
    if (good && status != NEOMM_OK)
        (void)fprintf(stderr, "neomm-bench: %s: %s\n", machine.system.step,
                      neomm_status_text(status));
    return good && status == NEOMM_OK;
}
