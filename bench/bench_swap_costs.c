/* What a page costs on its way to swap and back, counted: no times, so there is one run. The space
 * is loaded on two CPUs.
 * SPDX-License-Identifier: MIT */
#include "bench_swap_vmm.h"

#include <neomm/stats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum cost {
    SUBMISSIONS, /* to the device, of one page or more */
    TRANSFERS,   /* pages that it moved */
    FLUSHES,     /* invalidations of a CPU by itself */
    CALLS,       /* of other CPUs, for invalidations */
    FRAMES,
    OBJECTS,
    CODEC,
    STORES, /* to page tables */
    COSTS
};

static const char *const names[COSTS] = {"submissions", "transfers",    "flushes",
                                         "calls",       "frame-allocs", "kmallocs",
                                         "codec-calls", "entry-stores"};

struct counts {
    uint64_t of[COSTS];
};

struct watch {
    const struct bench_plan *plan;
    bench_result_fn *report;
    void *context;
    struct bench_swapper swapper;
    struct bench_machine machine;
};

static struct counts count(const struct watch *watch)
{
    static struct neomm_snapshot now;
    neomm_snapshot_take(watch->swapper.root, &now);
    return (struct counts){
        {[SUBMISSIONS] = watch->swapper.submissions,
         [TRANSFERS] = watch->swapper.requests,
         [FLUSHES] = now.counter[NEOMM_COUNTER_FLUSH_PAGE] + now.counter[NEOMM_COUNTER_FLUSH_ALL],
         [CALLS] = now.counter[NEOMM_COUNTER_SHOOTDOWN],
         [FRAMES] = now.counter[NEOMM_COUNTER_FRAME_ALLOC],
         [OBJECTS] = now.counter[NEOMM_COUNTER_KMALLOC],
         [CODEC] = now.swap.pool_pages + now.swap.pool_rejected + now.swap.pool_hits,
         [STORES] = now.counter[NEOMM_COUNTER_ENTRY_STORE]}};
}

static void report(const struct watch *watch, const char *what, const struct counts *before)
{
    const struct counts after = count(watch);
    for (enum cost i = 0; i < COSTS; i++) {
        char name[64];
        double each = (double)(after.of[i] - before->of[i]) / BENCH_SWAP_PAGES;
        const struct bench_case test = {.name = name, .unit = "per page"};
        const struct bench_result result = {
            .test = &test, .ours = each, .minimum = each, .maximum = each};
        (void)snprintf(name, sizeof(name), "swap/cost-%s-%s", what, names[i]);
        if (!watch->plan->only || strstr(name, watch->plan->only))
            watch->report(watch->context, &result);
    }
}

/* Out; in one by one; out, when the copies are good; in together. */
static bool follow(struct watch *watch, enum bench_contents contents, const char *name)
{
    struct bench_swapper *swapper = &watch->swapper;
    static const struct {
        const char *name;
        enum neomm_advice advice; /* for those that come back */
    } step[] = {{"out", NEOMM_ADVICE_NORMAL},
                {"in", NEOMM_ADVICE_RANDOM},
                {"out-clean", NEOMM_ADVICE_NORMAL},
                {"in-ahead", NEOMM_ADVICE_SEQUENTIAL}};
    if (!bench_swapper_fill(swapper, &watch->machine, contents))
        return false;
    for (uint32_t i = 0; i < BENCH_COUNT(step); i++) {
        char what[32];
        bool in = step[i].advice != NEOMM_ADVICE_NORMAL;
        if (!bench_swapper_advise(swapper, step[i].advice))
            return false;
        const struct counts before = count(watch);
        if (!(in ? bench_swapper_in(swapper) : bench_swapper_out(swapper, false)))
            return false;
        (void)snprintf(what, sizeof(what), "%s-%s", name, step[i].name);
        report(watch, what, &before);
    }
    return true;
}

/* On a machine of its own: what is there already, and for how long, has no part in it. */
static bool follow_on_machine(struct watch *watch, enum bench_contents contents, const char *name)
{
    const struct neomm_vmm_options vmm = {.readahead = BENCH_SWAP_AHEAD};
    const struct sim_system_options options = {
        .machine = {.format = NEOMM_FORMAT_4LEVEL, .ram_bytes = 64u << 20, .cpus = 2, .seed = 1},
        .layer = SIM_LAYER_VMM,
        .vmm = &vmm};
    struct sim_system *system = &watch->machine.system;
    if (sim_system_start(system, &options) != NEOMM_OK)
        return false;
    watch->machine.random = 1;
    bool good = bench_swapper_start(&watch->swapper, system);
    if (good) {
        sim_bind(system->sim, 1);
        neomm_space_activate(system->root, watch->swapper.space);
        sim_bind(system->sim, 0);
        good = follow(watch, contents, name);
        sim_bind(system->sim, 1);
        neomm_space_activate(system->root, NULL);
        sim_bind(system->sim, 0);
    }
    bench_swapper_end(&watch->swapper);
    return sim_system_stop(system) == NEOMM_OK && good;
}

static bool measure_costs(const struct bench_plan *plan, bench_result_fn *take, void *context)
{
    static const struct {
        enum bench_contents contents;
        const char *name;
    } kind[] = {{BENCH_RANDOM, "random"}, {BENCH_TEXT, "text"}, {BENCH_FILLED, "filled"}};
    for (uint32_t i = 0; i < BENCH_COUNT(kind); i++) {
        struct watch watch = {.plan = plan, .report = take, .context = context};
        if (!follow_on_machine(&watch, kind[i].contents, kind[i].name)) {
            (void)fprintf(stderr, "neomm-bench: swap/cost-%s failed\n", kind[i].name);
            return false;
        }
    }
    return true;
}

const struct bench_layer bench_swap_costs = {.name = "swap", .measure = measure_costs};
