/* Mapping sets against a naive model, at every failure, and by two CPUs at once.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "vmm/rmap.h"

#include <stdlib.h>

#define FRAMES  3u
#define ENTRIES 600u

static const uint64_t formats[] = ENV_FORMATS;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Entry n of those that a test uses: spaces by pages, some of them objects'. */
static uint64_t entry_of(uint32_t n)
{
    uint64_t mapping = neomm__mapping_make(1 + n % 37, (neomm_vaddr_t)(n / 37) << NEOMM_PAGE_SHIFT);
    return n % 11 == 0 ? mapping | NEOMM__RMAP_OBJECT : mapping;
}

struct world {
    struct env env;
    struct neomm__frame *frame[FRAMES];
    neomm_frame_t number[FRAMES];
    bool has[FRAMES][ENTRIES];
    uint32_t count[FRAMES];
};

static bool world_open(struct ktap *t, struct world *world, enum neomm_format format,
                       uint64_t ram_bytes)
{
    const struct env_options options = {
        .layer = ENV_HEAP, .format = format, .ram_bytes = ram_bytes, .cpus = 2};
    *world = (struct world){0};
    if (!env_open(t, &world->env, &options))
        return false;
    for (uint32_t i = 0; i < FRAMES; i++) {
        EXPECT_OK(t, neomm_pmm_alloc(world->env.root, 0, 0, &world->number[i]));
        world->frame[i] = neomm__frame(world->env.root, world->number[i]);
    }
    return t->failures == 0;
}

static void removed(struct world *world, uint32_t frame, uint64_t mapping)
{
    struct neomm *root = world->env.root;
    neomm_irq_t irq = neomm__rmap_lock(world->frame[frame]);
    struct neomm__rmap_table table = neomm__rmap_remove(root, world->frame[frame], mapping);
    neomm__rmap_unlock(world->frame[frame], irq);
    if (table.words)
        neomm__rmap_free(root, table);
}

static void world_close(struct ktap *t, struct world *world)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        for (uint32_t n = 0; n < ENTRIES; n++)
            if (world->has[i][n])
                removed(world, i, entry_of(n));
        EXPECT_EQ(t, world->frame[i]->mapping, 0);
        EXPECT_OK(t, neomm_pmm_free(world->env.root, world->number[i], 0));
    }
    env_close(t, &world->env);
}

/* ---- the model ---- */

static neomm_status toggle(struct world *world, uint32_t frame, uint32_t n)
{
    neomm_status status = NEOMM_OK;
    if (world->has[frame][n]) {
        removed(world, frame, entry_of(n));
        world->count[frame]--;
    } else {
        status = neomm__rmap_add(world->env.root, world->frame[frame], entry_of(n));
        if (status != NEOMM_OK)
            return status;
        world->count[frame]++;
    }
    world->has[frame][n] = !world->has[frame][n];
    if (world->has[frame][n] &&
        neomm__rmap_add(world->env.root, world->frame[frame], entry_of(n)) != NEOMM_E_EXISTS)
        return NEOMM_E_CORRUPT;
    return NEOMM_OK;
}

/* The set says what the model says, of each entry and of all of them. */
static void compare(struct ktap *t, struct world *world, uint32_t frame, uint32_t entries)
{
    const struct neomm__frame *entry = world->frame[frame];
    uint32_t position = 0, seen = 0;
    uint64_t mapping;
    const char *wrong = neomm__rmap_fsck(world->env.root, entry);
    if (wrong) {
        ktap_note(t, "the set %s", wrong);
        ktap_fail(t, __FILE__, __LINE__, "neomm__rmap_fsck");
    }
    EXPECT_EQ(t, neomm__rmap_count(entry), world->count[frame]);
    for (uint32_t n = 0; n < entries; n++)
        EXPECT_EQ(t, neomm__rmap_has(world->env.root, entry, entry_of(n)), world->has[frame][n]);
    while (neomm__rmap_next(world->env.root, entry, &position, &mapping))
        seen++;
    EXPECT_EQ(t, seen, world->count[frame]);
}

/* Parameter: format | entries << 4. */
static const uint64_t mixtures[] = {0x030, 0x050, 0x130, 0x2580, 0x031, 0x2581};

static void random_changes(struct ktap *t)
{
    static struct world world;
    static const uint64_t format[] = ENV_FORMATS;
    uint32_t entries = (uint32_t)(t->parameter >> 4);
    uint64_t random = t->parameter;
    ASSERT(t, world_open(t, &world, (enum neomm_format)format[t->parameter & 1], 0));
    for (uint32_t step = 0; step < 30000 && t->failures == 0; step++) {
        uint32_t frame = (uint32_t)next_random(&random) % FRAMES;
        uint32_t n = (uint32_t)next_random(&random) % entries;
        /* Long times in which sets grow take turns with those in which they shrink. */
        bool shrink = step / 3000 % 2;
        if (world.has[frame][n] != shrink && next_random(&random) % 4)
            continue;
        EXPECT_OK(t, toggle(&world, frame, n));
        if (entries < 32 || step % 512 == 0)
            compare(t, &world, frame, entries);
    }
    world_close(t, &world);
}

/* Every history of seven steps over five entries. */
static void all_short_histories(struct ktap *t)
{
    enum { STEPS = 7, OVER = 5 };
    static struct world world;
    uint32_t histories = 1;
    for (unsigned i = 0; i < STEPS; i++)
        histories *= OVER;
    ASSERT(t, world_open(t, &world, (enum neomm_format)t->parameter, 0));
    for (uint32_t history = 0; history < histories && t->failures == 0; history++) {
        for (uint32_t left = history, i = 0; i < STEPS; i++, left /= OVER)
            EXPECT_OK(t, toggle(&world, 0, left % OVER));
        compare(t, &world, 0, OVER);
        for (uint32_t n = 0; n < OVER; n++)
            if (world.has[0][n])
                EXPECT_OK(t, toggle(&world, 0, n));
        EXPECT_EQ(t, world.frame[0]->mapping, 0);
    }
    world_close(t, &world);
}

/* ---- failures ---- */

/* A set that cannot grow stays as it was; one that cannot shrink is as good as one that can. */
static void every_failure(struct ktap *t)
{
    for (uint64_t n = 1; n < 100 && t->failures == 0; n++) {
        static struct world world;
        unsigned failed = 0;
        ASSERT(t, world_open(t, &world, (enum neomm_format)t->parameter, 0));
        if (!env_fault_plan(&world.env, n, false)) {
            ktap_skip(t, "needs the instrumented flavour");
            world_close(t, &world);
            return;
        }
        for (uint32_t i = 0; i < 2 * ENTRIES; i++) {
            neomm_status status = toggle(&world, 0, i % ENTRIES);
            EXPECT(t, status == NEOMM_OK || status == NEOMM_E_NOMEM);
            failed += status != NEOMM_OK;
            if (status != NEOMM_OK) {
                compare(t, &world, 0, ENTRIES);
                EXPECT_OK(t, toggle(&world, 0, i % ENTRIES));
            }
        }
        bool reached = env_fault_count(&world.env) >= n;
        (void)env_fault_plan(&world.env, 0, false);
        compare(t, &world, 0, ENTRIES);
        world_close(t, &world);
        EXPECT(t, failed <= 1);
        if (!reached) {
            EXPECT(t, n > 10);
            return;
        }
    }
}

/* ---- cost ---- */

static uint64_t probes(struct world *world)
{
    return neomm__counter_sum(world->env.root, NEOMM_COUNTER_RMAP_PROBE);
}

/* A page of `count` processes, or one that a process has mapped `count` times. */
static uint64_t mapped_by(uint32_t i, bool wide)
{
    return wide ? neomm__mapping_make(1 + i, 0x400000)
                : neomm__mapping_make(1, (neomm_vaddr_t)(i + 1) << NEOMM_PAGE_SHIFT);
}

static uint64_t cost_of(struct ktap *t, struct world *world, uint32_t count, bool wide)
{
    uint64_t before = probes(world);
    for (uint32_t i = 0; i < count; i++)
        EXPECT_OK(t, neomm__rmap_add(world->env.root, world->frame[0], mapped_by(i, wide)));
    EXPECT(t, neomm__rmap_fsck(world->env.root, world->frame[0]) == NULL);
    for (uint32_t i = 0; i < count; i++)
        removed(world, 0, mapped_by(wide ? i : count - 1 - i, wide));
    EXPECT_EQ(t, world->frame[0]->mapping, 0);
    return probes(world) - before;
}

/* Fourteen words at most for coming and going, however many there are. */
static void cost_is_linear(struct ktap *t)
{
    static struct world world;
    ASSERT(t, world_open(t, &world, (enum neomm_format)t->parameter, 0));
    for (uint32_t count = 10; count <= 100000; count *= 10) {
        uint64_t wide = cost_of(t, &world, count, true);
        uint64_t deep = cost_of(t, &world, count, false);
        ktap_note(t, "%u: %llu and %llu", count, (unsigned long long)wide,
                  (unsigned long long)deep);
        EXPECT(t, wide <= 14 * count && deep <= 14 * count);
    }
    world_close(t, &world);
}

/* The largest table is full. */
static void the_most(struct ktap *t)
{
    static struct world world;
    uint32_t count = 0;
    neomm_status status;
    ASSERT(t, world_open(t, &world, (enum neomm_format)t->parameter, 32u << 20));
    while ((status = neomm__rmap_add(world.env.root, world.frame[0], mapped_by(count, false))) ==
           NEOMM_OK)
        count++;
    EXPECT_EQ(t, status, NEOMM_E_LIMIT);
    EXPECT_EQ(t, count, NEOMM__RMAP_MOST);
    EXPECT_EQ(t, neomm__rmap_count(world.frame[0]), NEOMM__RMAP_MOST);
    while (count > 0)
        removed(&world, 0, mapped_by(--count, false));
    world_close(t, &world);
}

/* ---- two CPUs ---- */

#if NEOMM_INSTRUMENTED

#define EACH 4u

struct match {
    struct ktap *t;
    struct world world;
    uint32_t mistakes;
};

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    m->mistakes = 0;
    return world_open(m->t, &m->world, (enum neomm_format)formats[seed & 1], 4u << 20)
               ? m->world.env.machine
               : NULL;
}

static bool has(struct match *m, uint32_t n)
{
    struct neomm__frame *frame = m->world.frame[0];
    neomm_irq_t irq = neomm__rmap_lock(frame);
    bool found = neomm__rmap_has(m->world.env.root, frame, entry_of(n));
    neomm__rmap_unlock(frame, irq);
    return found;
}

/* Each CPU comes and goes with entries of its own, and leaves one there. */
static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    for (uint32_t n = cpu * EACH; n < (cpu + 1) * EACH; n++) {
        m->mistakes +=
            neomm__rmap_add(m->world.env.root, m->world.frame[0], entry_of(n)) != NEOMM_OK;
        m->mistakes += !has(m, n);
    }
    for (uint32_t n = cpu * EACH + 1; n < (cpu + 1) * EACH; n++) {
        removed(&m->world, 0, entry_of(n));
        m->mistakes += has(m, n) || !has(m, cpu * EACH);
    }
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        sim_destroy(m->world.env.machine);
        free(m->world.env.system);
        return false;
    }
    for (uint32_t cpu = 0; cpu < 2; cpu++) {
        m->world.has[0][cpu * EACH] = true;
        m->world.count[0]++;
    }
    compare(m->t, &m->world, 0, 2 * EACH);
    world_close(m->t, &m->world);
    return m->mistakes == 0 && m->t->failures == failures;
}

static void explore(struct ktap *t, const struct sim_sched_options *options)
{
    static struct match match;
    struct sim_sched_result result;
    const struct sim_scenario scenario = {2, &match, begin, run, end};
    match.t = t;
    if (sim_sched_explore(&scenario, options, &result)) {
        ktap_note(t, "%llu schedules", (unsigned long long)result.schedules);
        return;
    }
    ktap_fail(t, __FILE__, __LINE__, "a bad schedule");
    sched_note(t, &result);
}

static void two_cpus(struct ktap *t)
{
    const struct sim_sched_options by_seed = {
        .mode = SIM_SCHED_RANDOM, .seed = 1, .schedules = share_of(1000), .preemptions = 24};
    const struct sim_sched_options all = {
        .mode = SIM_SCHED_EXHAUSTIVE, .seed = 1, .schedules = share_of(2000), .preemptions = 2};
    if (sim_sched_unavailable()) {
        ktap_skip(t, sim_sched_unavailable());
        return;
    }
    explore(t, &by_seed);
    explore(t, &all);
}

#endif

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_changes, mixtures),
    KTAP_CASE_WITH(all_short_histories, formats),
    KTAP_CASE_WITH(every_failure, formats),
    KTAP_CASE_WITH(cost_is_linear, formats),
    KTAP_CASE_WITH(the_most, formats),
#if NEOMM_INSTRUMENTED
    KTAP_CASE(two_cpus),
#endif
};
KTAP_SUITE(rmap, cases);
