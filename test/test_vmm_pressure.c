/* Memory pressure: stall times against a model in floating point, levels, and who is told.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "vmm/vmm_priv.h"

#include <math.h>
#include <stdlib.h>

#define PAGE NEOMM_PAGE_SIZE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* ---- stalls ---- */

#define PERIOD 2147483648.0

/* One of some and full, as the header says it: in seconds and real numbers. */
struct model {
    double now, in_period, total, average[3];
    bool going_on;
};

static void model_advance(struct model *model, double to)
{
    static const double seconds[] = {10, 60, 300};
    while (model->now < to) {
        double end = (floor(model->now / PERIOD) + 1) * PERIOD;
        double until = end < to ? end : to;
        model->in_period += model->going_on ? until - model->now : 0;
        model->total += model->going_on ? until - model->now : 0;
        model->now = until;
        if (until < end)
            break;
        for (unsigned i = 0; i < 3; i++) {
            double f = exp(-PERIOD / 1e9 / seconds[i]);
            model->average[i] = model->average[i] * f + model->in_period / PERIOD * (1 - f);
        }
        model->in_period = 0;
    }
}

static void expect_stall(struct ktap *t, const struct neomm_stall *have, const struct model *model)
{
    EXPECT_EQ(t, have->total, (uint64_t)(model->total + 0.5));
    for (unsigned i = 0; i < 3; i++) {
        double want = model->average[i] * 10000;
        if (fabs((double)have->average[i] - want) > 0.51)
            ktap_note(t, "average %u: %u, not %f", i, have->average[i], want);
        EXPECT(t, fabs((double)have->average[i] - want) <= 0.51);
    }
}

/* Most steps are short, some go over many periods. */
static uint64_t pick_time(uint64_t *random)
{
    unsigned bits = (unsigned)(next_random(random) % 38);
    return next_random(random) % ((uint64_t)1 << bits);
}

static void step(struct neomm *root, uint64_t *random, uint32_t *stalled, uint32_t *tasks)
{
    switch (next_random(random) % 5) {
    case 0:
    case 1:
        if (*stalled < 6) {
            neomm__stall_begin(root);
            ++*stalled;
        }
        break;
    case 2:
    case 3:
        if (*stalled > 0) {
            neomm__stall_end(root);
            --*stalled;
        }
        break;
    default:
        *tasks = (uint32_t)(next_random(random) % 5);
        neomm_pressure_set_tasks(root, *tasks);
    }
}

static const uint64_t seeds[] = {1, 2, 3, 4, 5, 6};

static void stalls_as_in_a_model(struct ktap *t)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)formats[0], .cpus = 3};
    struct env env;
    uint64_t random = t->parameter;
    uint32_t stalled = 0, tasks = 0;
    ASSERT(t, env_open(t, &env, &options));
    const struct neomm__pressure *pressure = &env.root->vmm->pressure;
    struct model some = {.now = (double)pressure->now}, full = some;
    for (unsigned i = 0; i < 3000 && t->failures == 0; i++) {
        struct neomm_pressure have;
        sim_clock_advance(env.machine, pick_time(&random));
        step(env.root, &random, &stalled, &tasks);
        model_advance(&some, (double)pressure->now);
        model_advance(&full, (double)pressure->now);
        some.going_on = stalled != 0;
        full.going_on = stalled != 0 && stalled >= (tasks ? tasks : 3);
        neomm_pressure_get(env.root, &have);
        model_advance(&some, (double)pressure->now);
        model_advance(&full, (double)pressure->now);
        EXPECT_EQ(t, have.stalled, stalled);
        expect_stall(t, &have.some, &some);
        expect_stall(t, &have.full, &full);
    }
    while (stalled-- > 0)
        neomm__stall_end(env.root);
    env_close(t, &env);
}

/* A long wait counts whole, and is forgotten after ten thousand seconds. */
static void long_times(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_VMM, .format = (enum neomm_format)formats[0]};
    struct neomm_pressure have;
    struct env env;
    ASSERT(t, env_open(t, &env, &options));
    neomm__stall_begin(env.root);
    sim_clock_advance(env.machine, (uint64_t)1 << 45);
    neomm_pressure_get(env.root, &have);
    EXPECT_EQ(t, have.some.average[0], 10000);
    EXPECT_EQ(t, have.full.average[2], 10000);
    EXPECT(t, have.some.total >> 45 == 1 && have.full.total == have.some.total);
    neomm__stall_end(env.root);
    sim_clock_advance(env.machine, (uint64_t)1 << 45);
    neomm_pressure_get(env.root, &have);
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(t, have.some.average[i] + have.full.average[i], 0);
    env_close(t, &env);
}

static struct neomm_pressure pressure_of(struct env *env)
{
    struct neomm_pressure have;
    neomm_pressure_get(env->root, &have);
    return have;
}

/* Reads from swap are waits; first touches with frames at hand are none. */
static void faults_wait(struct ktap *t)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)formats[0], .swap_pages = 64};
    struct env env;
    struct neomm_space *space;
    neomm_vaddr_t at = 0;
    uint8_t byte = 1;
    ASSERT(t, env_open(t, &env, &options));
    ASSERT_OK(t, neomm_space_create(env.root, NULL, &space));
    ASSERT_OK(t, neomm_mmap(env.root, space, &at, 8 * PAGE, RW, 0));
    neomm_space_activate(env.root, space);
    for (unsigned i = 0; i < 8; i++, byte++)
        EXPECT_OK(t, env_access(&env, space, at + i * PAGE, &byte, 1, true, true));
    EXPECT_EQ(t, pressure_of(&env).some.total, 0);
    EXPECT_EQ(t, neomm_space_evict(env.root, space, 8), 8);
    EXPECT_EQ(t, pressure_of(&env).some.total, 0);
    EXPECT_OK(t, env_access(&env, space, at, &byte, 1, false, true));
    EXPECT(t, pressure_of(&env).some.total > 0);
    EXPECT_EQ(t, pressure_of(&env).stalled, 0);
    neomm_space_activate(env.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(env.root, space));
    env_close(t, &env);
}

/* ---- levels ---- */

struct heard {
    enum neomm_pressure_level level[32];
    uint32_t calls;
};

static void hear(void *context, enum neomm_pressure_level level)
{
    struct heard *heard = context;
    if (heard->calls < 32)
        heard->level[heard->calls] = level;
    heard->calls++;
}

/* Frames that are in the way. */
struct held {
    neomm_frame_t frame[4096];
    uint32_t count;
};

static bool is_low(struct neomm *root)
{
    return neomm_pmm_watermark(root, NEOMM_ZONE_DMA) < NEOMM_WATERMARK_LOW;
}

static void hold_frames(struct neomm *root, struct held *held)
{
    while (held->count < 4096 && !is_low(root) &&
           neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &held->frame[held->count]) == NEOMM_OK)
        held->count++;
}

static void free_frames(struct ktap *t, struct neomm *root, struct held *held)
{
    EXPECT_OK(t, neomm_pmm_free_bulk(root, held->count, held->frame, NULL));
    held->count = 0;
}

static void levels(struct ktap *t)
{
    static const struct {
        uint32_t scanned, freed;
        bool exhausted;
        enum neomm_pressure_level want;
    } looks[] = {
        {255, 0, false, NEOMM_PRESSURE_NONE}, /* too few to tell */
        {1, 256, false, NEOMM_PRESSURE_CRITICAL},
        {256, 256, false, NEOMM_PRESSURE_CRITICAL}, /* lower once */
        {256, 256, false, NEOMM_PRESSURE_MEDIUM},
        {256, 200, false, NEOMM_PRESSURE_MEDIUM},
        {256, 200, false, NEOMM_PRESSURE_LOW},
        {256, 200, false, NEOMM_PRESSURE_LOW},
        {300, 121, false, NEOMM_PRESSURE_LOW},
        {300, 120, false, NEOMM_PRESSURE_MEDIUM},
        {300, 16, false, NEOMM_PRESSURE_MEDIUM},
        {300, 15, false, NEOMM_PRESSURE_CRITICAL},
        {256, 256, false, NEOMM_PRESSURE_CRITICAL},
        {300, 15, false, NEOMM_PRESSURE_CRITICAL}, /* not two in a row */
        {256, 256, false, NEOMM_PRESSURE_CRITICAL},
        {256, 256, false, NEOMM_PRESSURE_MEDIUM},
        {256, 256, false, NEOMM_PRESSURE_MEDIUM},
        {256, 256, false, NEOMM_PRESSURE_LOW},
        {1, 1, true, NEOMM_PRESSURE_CRITICAL},
    };
    static const enum neomm_pressure_level want[] = {
        NEOMM_PRESSURE_CRITICAL, NEOMM_PRESSURE_MEDIUM, NEOMM_PRESSURE_LOW, NEOMM_PRESSURE_MEDIUM,
        NEOMM_PRESSURE_CRITICAL, NEOMM_PRESSURE_MEDIUM, NEOMM_PRESSURE_LOW, NEOMM_PRESSURE_CRITICAL,
        NEOMM_PRESSURE_MEDIUM,   NEOMM_PRESSURE_LOW,    NEOMM_PRESSURE_NONE};
    const struct env_options options = {.layer = ENV_VMM, .format = (enum neomm_format)formats[0]};
    static struct held held;
    struct heard heard = {.calls = 0};
    struct env env;
    ASSERT(t, env_open(t, &env, &options));
    EXPECT_OK(t, neomm_pressure_register(env.root, hear, &heard));
    neomm__pressure_scanned(env.root, 1000, 0, true);
    EXPECT_EQ(t, pressure_of(&env).level, NEOMM_PRESSURE_NONE); /* memory is free all the same */
    hold_frames(env.root, &held);
    for (unsigned i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
        neomm__pressure_scanned(env.root, looks[i].scanned, looks[i].freed, looks[i].exhausted);
        EXPECT_EQ(t, pressure_of(&env).level, looks[i].want);
    }
    free_frames(t, env.root, &held);
    for (unsigned i = 0; i < 7; i++)
        (void)neomm_reclaim_background(env.root, 1, NULL);
    EXPECT_EQ(t, pressure_of(&env).level, NEOMM_PRESSURE_NONE);
    ASSERT(t, heard.calls == sizeof(want) / sizeof(want[0]));
    for (unsigned i = 0; i < heard.calls; i++)
        EXPECT_EQ(t, heard.level[i], want[i]);
    EXPECT_OK(t, neomm_pressure_unregister(env.root, hear, &heard));
    env_close(t, &env);
}

/* Between low and high the level neither rises nor goes. */
static void between_the_watermarks(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_VMM, .format = (enum neomm_format)formats[0]};
    static struct held held;
    struct env env;
    ASSERT(t, env_open(t, &env, &options));
    hold_frames(env.root, &held);
    while (neomm_pmm_watermark(env.root, NEOMM_ZONE_DMA) < NEOMM_WATERMARK_LOW)
        EXPECT_OK(t, neomm_pmm_free(env.root, held.frame[--held.count], 0));
    for (unsigned i = 0; i < 3; i++)
        neomm__pressure_look(env.root);
    EXPECT_EQ(t, pressure_of(&env).level, NEOMM_PRESSURE_NONE);
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 0, NEOMM_NORECLAIM, &held.frame[held.count++]));
    neomm__pressure_look(env.root);
    EXPECT_EQ(t, pressure_of(&env).level, NEOMM_PRESSURE_LOW);
    EXPECT_OK(t, neomm_pmm_free(env.root, held.frame[--held.count], 0));
    for (unsigned i = 0; i < 5; i++)
        neomm__pressure_look(env.root);
    EXPECT_EQ(t, pressure_of(&env).level, NEOMM_PRESSURE_LOW);
    free_frames(t, env.root, &held);
    env_close(t, &env);
}

static void registering(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_VMM, .format = (enum neomm_format)formats[0]};
    struct heard heard[9] = {{.calls = 0}};
    static struct held held;
    struct env env;
    ASSERT(t, env_open(t, &env, &options));
    for (unsigned i = 0; i < 8; i++) {
        EXPECT_OK(t, neomm_pressure_register(env.root, hear, &heard[i]));
        EXPECT_EQ(t, neomm_pressure_register(env.root, hear, &heard[i]), NEOMM_E_EXISTS);
    }
    EXPECT_EQ(t, neomm_pressure_register(env.root, hear, &heard[8]), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_pressure_unregister(env.root, hear, &heard[8]), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_pressure_unregister(env.root, NULL, NULL), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_pressure_unregister(env.root, hear, &heard[3]));
    EXPECT_OK(t, neomm_pressure_register(env.root, hear, &heard[8]));
    hold_frames(env.root, &held);
    neomm__pressure_look(env.root);
    for (unsigned i = 0; i < 9; i++) {
        EXPECT_EQ(t, heard[i].calls, i != 3);
        EXPECT_EQ(t, neomm_pressure_unregister(env.root, hear, &heard[i]),
                  i != 3 ? NEOMM_OK : NEOMM_E_NOENT);
    }
    free_frames(t, env.root, &held);
    EXPECT(t, neomm_pressure_text(NEOMM_PRESSURE_LOW)[0] == 'l');
    EXPECT(t, neomm_pressure_text(4)[0] == 'u');
    env_close(t, &env);
}

/* ---- told while others register and go ---- */

struct match {
    struct ktap *t;
    struct env env;
    struct held held;
    bool registered;
    uint32_t calls, last, mistakes;
};

static void check_call(void *context, enum neomm_pressure_level level)
{
    struct match *m = context;
    sim_sched_point();
    m->mistakes += !m->registered;
    m->last = (uint32_t)level;
    m->calls++;
    sim_sched_point();
    m->mistakes += !m->registered;
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = 4u << 20,
                                        .cpus = 3,
                                        .seed = seed};
    m->mistakes = m->calls = m->last = m->held.count = 0;
    m->registered = true;
    if (!env_open(m->t, &m->env, &options))
        return NULL;
    hold_frames(m->env.root, &m->held);
    if (neomm_pressure_register(m->env.root, check_call, m) != NEOMM_OK)
        m->mistakes++;
    return m->env.machine;
}

/* CPUs 0 and 1 find other levels, CPU 2 (by the parameter) has enough of it. */
static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    if (cpu < 2) {
        neomm__pressure_scanned(m->env.root, 256, cpu == 0 ? 256 : 0, false);
        neomm__pressure_look(m->env.root);
    } else if (m->t->parameter != 0) {
        if (neomm_pressure_unregister(m->env.root, check_call, m) != NEOMM_OK)
            m->mistakes++;
        m->registered = false;
    }
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&m->env);
        return false;
    }
    if (m->registered)
        EXPECT_EQ(m->t, m->last, pressure_of(&m->env).level);
    free_frames(m->t, m->env.root, &m->held);
    env_close(m->t, &m->env);
    return m->mistakes == 0 && m->t->failures == failures;
}

static const uint64_t told[] = {0, 1};

static void told_in_any_order(struct ktap *t)
{
    static struct match match;
    const struct sim_scenario scenario = {3, &match, begin, run, end};
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_RANDOM, .seed = 1, .schedules = share_of(400), .preemptions = 12};
    match.t = t;
    if (NEOMM_INSTRUMENTED)
        sched_search(t, "two levels", &scenario, &options);
    else
        ktap_skip(t, "no points to switch at");
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(stalls_as_in_a_model, seeds),
    KTAP_CASE(long_times),
    KTAP_CASE(faults_wait),
    KTAP_CASE(levels),
    KTAP_CASE(between_the_watermarks),
    KTAP_CASE(registering),
    KTAP_CASE_WITH(told_in_any_order, told),
};
KTAP_SUITE(vmm_pressure, cases);
