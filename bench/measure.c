/* Measuring: warm-up, interleaved runs, medians.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SEED 0x9e3779b97f4a7c15u

/* One measured side of a benchmark. */
struct side {
    bench_fn *run;
    uint64_t count;  /* operations that fill the time of one measurement */
    double *samples; /* nanoseconds an operation, one a run */
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

/* Doubles the number of operations until they take the time planned; warms caches up, too. */
static bool calibrate(struct bench_machine *machine, const struct bench_case *test,
                      struct side *side, uint64_t nanoseconds)
{
    uint64_t done, time = 0;
    /* A round that does far more than it was asked for ends this, too. */
    for (side->count = 1; time < nanoseconds && side->count < (uint64_t)1 << 40; side->count *= 2)
        if (!measure(machine, test, side->run, side->count, &done, &time))
            return false;
    return true;
}

static bool sample(struct bench_machine *machine, const struct bench_case *test, struct side *side,
                   uint32_t run)
{
    uint64_t done, time;
    if (!side->run)
        return true;
    if (!measure(machine, test, side->run, side->count, &done, &time))
        return false;
    side->samples[run] = (double)time / (double)done;
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *samples, uint32_t count)
{
    qsort(samples, count, sizeof(*samples), compare);
    return count % 2 ? samples[count / 2] : (samples[count / 2 - 1] + samples[count / 2]) / 2;
}

static void look_up(struct bench_machine *machine, const struct bench_case *test, bool has_peer,
                    struct bench_result *result)
{
    double ours = test->ours_value(machine);
    *result = (struct bench_result){.test = test, .ours = ours, .minimum = ours, .maximum = ours};
    if (has_peer)
        result->peer = test->peer_value(machine);
}

static bool measure_case(struct bench_machine *machine, const struct bench_case *test,
                         const struct bench_plan *plan, double *samples,
                         struct bench_result *result)
{
    bool has_peer = !test->plugin || plan->peer;
    if (test->ours_value) {
        look_up(machine, test, has_peer, result);
        return result->ours > 0;
    }
    struct side ours = {test->ours, 0, samples};
    struct side peer = {has_peer ? test->peer : NULL, 0, samples + plan->runs};
    if (!calibrate(machine, test, &ours, plan->nanoseconds) ||
        (peer.run && !calibrate(machine, test, &peer, plan->nanoseconds)))
        return false;
    for (uint32_t run = 0; run < plan->runs; run++) {
        bool peer_first = run % 2;
        if (!sample(machine, test, peer_first ? &peer : &ours, run) ||
            !sample(machine, test, peer_first ? &ours : &peer, run))
            return false;
    }
    *result = (struct bench_result){.test = test, .ours = median(ours.samples, plan->runs)};
    result->minimum = ours.samples[0];
    result->maximum = ours.samples[plan->runs - 1];
    if (peer.run)
        result->peer = median(peer.samples, plan->runs);
    return true;
}

static bool start(struct bench_machine *machine, const struct bench_layer *layer)
{
    const struct neomm_vmm_options vmm = {.zero_page = false};
    const struct sim_system_options options = {.machine = {.format = NEOMM_FORMAT_4LEVEL,
                                                           .ram_bytes = layer->ram_bytes,
                                                           .cpus = layer->cpus,
                                                           .seed = 1},
                                               .layer = layer->layer,
                                               .swap_pages = layer->swap_pages,
                                               .vmm = &vmm};
    neomm_status status = sim_system_start(&machine->system, &options);
    machine->root = machine->system.root;
    if (status != NEOMM_OK)
        (void)fprintf(stderr, "neomm-bench: %s: %s\n", machine->system.step,
                      neomm_status_text(status));
    return status == NEOMM_OK;
}

bool bench_measure(const struct bench_layer *layer, const struct bench_plan *plan,
                   struct bench_result *results)
{
    struct bench_machine machine = {.ram_bytes = layer->ram_bytes, .peer = plan->peer};
    double *samples = calloc((size_t)plan->runs * 2, sizeof(*samples));
    bool good = samples && start(&machine, layer);
    if (!good) {
        free(samples);
        return false;
    }
    for (uint32_t i = 0; i < layer->case_count && good; i++) {
        good = measure_case(&machine, &layer->cases[i], plan, samples, &results[i]);
        if (!good)
            (void)fprintf(stderr, "neomm-bench: %s failed\n", layer->cases[i].name);
    }
    free(samples);
    if (layer->finish)
        layer->finish(&machine);
    /* A benchmark that leaks measures something else the longer it runs. */
    neomm_status status = sim_system_stop(&machine.system);
    if (good && status != NEOMM_OK)
        (void)fprintf(stderr, "neomm-bench: %s: %s\n", machine.system.step,
                      neomm_status_text(status));
    return good && status == NEOMM_OK;
}
