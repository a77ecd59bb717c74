/* The frame allocator with three and four CPUs in it: random programs in random schedules, near the
 * end of memory. No frame has two owners, none is lost, and nobody is refused what was free all the
 * time.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"
#include "sched_note.h"
#include "share.h"

#include "base/bits.h"

#include <stdlib.h>

#define CPUS      4u
#define STEPS     9u  /* of a CPU */
#define HELD      48u /* blocks that a CPU may hold */
#define BULK_MOST 12u
#define FRAMES    2048u
#define REFUSED   (CPUS * STEPS)
#define SCHEDULES 4000u
#define NEVER     UINT64_MAX

enum call_kind { ALLOC, RANGE, CLAIM, BULK };

/* A call that was refused, and the frames that were free from its beginning to its end; those that
 * come out as somebody's who was inside then are struck out. */
struct refusal {
    enum call_kind kind;
    uint32_t size, first; /* frames; first: of CLAIM */
    uint64_t end;
    bool idle[FRAMES];
};

struct block {
    neomm_frame_t frame;
    unsigned order;
};

/* What a machine has free at the beginning. */
struct setting {
    uint64_t direct_bytes; /* 0: all */
    uint32_t cpus;
    struct {
        uint32_t first, count;
    } gap[6];
};

static const struct setting settings[] = {
    {0, 3, {{1024, 24}}},
    {0, 4, {{1000, 3}, {1008, 16}, {1100, 1}, {1200, 9}}},
    {0, 4, {{500, 40}, {1024, 64}}},
    {4u << 20, 4, {{600, 10}, {801, 1}, {1104, 8}, {1201, 9}}},
    {0, 3, {{512, 1024}, {1700, 2}}},
};
static const uint64_t setting_numbers[] = {0, 1, 2, 3, 4};
_Static_assert(NEOMM__COUNT_OF(setting_numbers) == NEOMM__COUNT_OF(settings), "each is tried");

static struct world world;
static uint8_t *metadata; /* of the library when the CPUs begin */

struct race {
    struct ktap *t;
    const struct setting *setting;
    uint64_t seed[CPUS], clock;
    uint64_t begun[CPUS]; /* when the CPU's call began; NEVER: it is in none */
    struct block held[CPUS][HELD];
    uint32_t count[CPUS];
    bool owned[FRAMES];
    uint32_t owners[FRAMES]; /* that it has had */
    uint64_t since[FRAMES];  /* when it became free; NEVER: it is on its way to be, or taken */
    struct refusal refused[REFUSED];
    uint32_t refusals, mistakes;
    uint64_t served, unserved; /* of all schedules */
};
static struct race race;

static void mistake(struct race *r, const char *what, uint32_t cpu)
{
    if (r->mistakes++ == 0)
        ktap_note(r->t, "CPU %u: %s", cpu, what);
}

/* ---- frames that come and go ---- */

static void got_frame(struct race *r, uint32_t cpu, uint32_t frame)
{
    if (r->owned[frame] || world.state[frame] != WORLD_FREE)
        mistake(r, "was given a frame that somebody has", cpu);
    r->owned[frame] = true;
    r->owners[frame]++;
    r->since[frame] = NEVER;
    for (uint32_t i = 0; i < r->refusals; i++)
        if (r->begun[cpu] < r->refused[i].end)
            r->refused[i].idle[frame] = false;
}

static void got(struct race *r, uint32_t cpu, neomm_frame_t frame, unsigned order)
{
    for (uint32_t i = 0; i < 1u << order; i++)
        got_frame(r, cpu, frame.number + i);
    r->held[cpu][r->count[cpu]++] = (struct block){frame, order};
}

static void refuse(struct race *r, uint32_t cpu, enum call_kind kind, uint32_t size, uint32_t first)
{
    struct refusal *refusal = &r->refused[r->refusals];
    uint64_t begun = r->begun[cpu];
    r->unserved++;

    *refusal = (struct refusal){kind, size, first, ++r->clock, {false}};
    for (uint32_t i = 0; i < world.frames; i++)
        refusal->idle[i] = world.state[i] == WORLD_FREE && r->since[i] <= begun;
    r->refusals++;
}

static void give(struct race *r, uint32_t cpu, uint32_t at)
{
    struct block block = r->held[cpu][at];
    uint32_t owners[1u << NEOMM_ORDER_MAX];
    memcpy(owners, &r->owners[block.frame.number], sizeof(*owners) << block.order);
    r->held[cpu][at] = r->held[cpu][--r->count[cpu]];
    for (uint32_t i = 0; i < 1u << block.order; i++)
        r->owned[block.frame.number + i] = false;
    if (neomm_pmm_free(world.root, block.frame, block.order) != NEOMM_OK)
        mistake(r, "could not give back what it had", cpu);
    r->clock++;
    for (uint32_t i = 0; i < 1u << block.order; i++)
        if (r->owners[block.frame.number + i] == owners[i])
            r->since[block.frame.number + i] = r->clock;
}

/* ---- a CPU's program ---- */

static void step_alloc(struct race *r, uint32_t cpu, uint64_t *seed)
{
    unsigned order = world_below(seed, 2) ? 0 : world_below(seed, 5);
    neomm_flags_t flags = NEOMM_ATOMIC | NEOMM_HIGH | (world_below(seed, 4) ? 0 : NEOMM_MOVABLE);
    neomm_frame_t frame;
    if (world_below(seed, 32) == 0)
        order = 9 + world_below(seed, 2);
    if (neomm_pmm_alloc(world.root, order, flags, &frame) == NEOMM_OK)
        got(r, cpu, frame, order);
    else
        refuse(r, cpu, ALLOC, 1u << order, 0);
}

static void step_range(struct race *r, uint32_t cpu, uint64_t *seed)
{
    const struct neomm_range_request request = {.frames = 1 + world_below(seed, BULK_MOST),
                                                .flags = NEOMM_ATOMIC | NEOMM_HIGH};
    neomm_frame_t first;
    if (neomm_pmm_alloc_range(world.root, &request, &first) != NEOMM_OK)
        refuse(r, cpu, RANGE, request.frames, 0);
    else
        for (uint32_t i = 0; i < request.frames; i++)
            got(r, cpu, neomm_frame(first.number + i), 0);
}

static void step_claim(struct race *r, uint32_t cpu, uint64_t *seed)
{
    uint32_t gap = world_below(seed, 4), count = 1 + world_below(seed, 4);
    uint32_t first = r->setting->gap[gap].first + world_below(seed, 8);
    if (neomm_pmm_claim(world.root, neomm_frame(first), count) != NEOMM_OK)
        refuse(r, cpu, CLAIM, count, first);
    else
        for (uint32_t i = 0; i < count; i++)
            got(r, cpu, neomm_frame(first + i), 0);
}

static void step_bulk(struct race *r, uint32_t cpu, uint64_t *seed)
{
    neomm_frame_t frame[BULK_MOST];
    uint32_t count = 1 + world_below(seed, BULK_MOST);
    if (neomm_pmm_alloc_bulk(world.root, count, NEOMM_ATOMIC | NEOMM_HIGH, frame) != NEOMM_OK)
        refuse(r, cpu, BULK, count, 0);
    else
        for (uint32_t i = 0; i < count; i++)
            got(r, cpu, frame[i], 0);
}

static void step_other(uint64_t *seed)
{
    struct neomm_zone_stats stats;
    if (world_below(seed, 2))
        neomm_pmm_drain(world.root);
    else
        neomm_pmm_zone_stats(world.root, NEOMM_ZONE_DMA, &stats);
}

static void step(struct race *r, uint32_t cpu)
{
    uint64_t *seed = &r->seed[cpu];
    uint32_t choice = world_below(seed, 16);
    bool room = r->count[cpu] < HELD - BULK_MOST;
    uint64_t before = r->unserved;
    r->begun[cpu] = ++r->clock;
    if (r->count[cpu] > 0 && (choice < 7 || !room))
        give(r, cpu, world_below(seed, r->count[cpu]));
    else if (choice == 7)
        step_other(seed);
    else if (choice == 8)
        step_range(r, cpu, seed);
    else if (choice == 9)
        step_claim(r, cpu, seed);
    else if (choice == 10)
        step_bulk(r, cpu, seed);
    else
        step_alloc(r, cpu, seed);
    r->served += r->unserved == before;
    r->begun[cpu] = NEVER;
}

static void run(void *context, uint32_t cpu)
{
    struct race *r = context;
    for (uint32_t i = 0; i < STEPS; i++)
        step(r, cpu);
}

/* ---- before and after a schedule ---- */

static struct sim *begin(void *context, uint64_t seed)
{
    struct race *r = context;
    memcpy(world.metadata, metadata, world.metadata_size);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        r->seed[cpu] = seed * CPUS + cpu;
        r->begun[cpu] = NEVER;
        r->count[cpu] = 0;
    }
    memset(r->owned, 0, sizeof(r->owned));
    memset(r->since, 0, sizeof(r->since));
    r->clock = 1;
    r->refusals = r->mistakes = 0;
    return world.sim;
}

static bool all_idle(const struct refusal *refusal, uint32_t first)
{
    for (uint32_t i = first; i < first + refusal->size; i++)
        if (i >= world.frames || !refusal->idle[i])
            return false;
    return true;
}

/* Was there, all the time, what was refused? */
static bool is_wrong(const struct refusal *refusal)
{
    uint32_t step = refusal->kind == ALLOC ? refusal->size : 1, idle = 0;
    if (refusal->kind == CLAIM)
        return all_idle(refusal, refusal->first);
    for (uint32_t at = 0; at < world.frames; at += step) {
        idle += refusal->idle[at];
        if (refusal->kind != BULK && all_idle(refusal, at))
            return true;
    }
    return refusal->kind == BULK && idle >= refusal->size;
}

static bool end(void *context, enum sim_sched_end how)
{
    struct race *r = context;
    unsigned failures = r->t->failures;
    uint32_t owned = 0;
    if (how != SIM_SCHED_DONE)
        return false;
    for (uint32_t i = 0; i < r->refusals; i++)
        if (is_wrong(&r->refused[i]))
            mistake(r, "somebody was refused what was free", (uint32_t)r->refused[i].kind);
    for (uint32_t i = 0; i < world.frames; i++)
        owned += r->owned[i];
    EXPECT_EQ(r->t, neomm_pmm_free_frames(world.root),
              world_count(&world, 0, world.frames, WORLD_FREE) - owned);
    world_fsck(r->t, &world);
    return r->mistakes == 0 && r->t->failures == failures;
}

/* ---- a setting ---- */

static bool in_gap(const struct setting *setting, uint32_t frame)
{
    for (unsigned i = 0; i < NEOMM__COUNT_OF(setting->gap); i++)
        if (frame - setting->gap[i].first < setting->gap[i].count)
            return true;
    return false;
}

/* Everything but the gaps is taken, or given back. */
static void fill(struct ktap *t, const struct setting *setting, bool take)
{
    for (uint32_t frame = 0; frame < world.frames; frame++) {
        if (world.state[frame] != (take ? WORLD_FREE : WORLD_USED) || in_gap(setting, frame))
            continue;
        if (take)
            EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(frame), 1));
        else
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(frame), 0));
        world_mark(&world, frame, 1, take ? WORLD_USED : WORLD_FREE);
    }
}

static void random_programs(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, FRAMES << 12, NEOMM_MEMORY_USABLE}};
    const struct setting *setting = &settings[t->parameter];
    const struct world_options options = {.ram_bytes = FRAMES << 12,
                                          .map = map,
                                          .map_count = 1,
                                          .cpus = setting->cpus,
                                          .direct_bytes = setting->direct_bytes,
                                          .slots = setting->direct_bytes != 0};
    const struct sim_scenario scenario = {setting->cpus, &race, begin, run, end};
    const uint64_t schedules = share_of(SCHEDULES);
    const struct sim_sched_options search = {.mode = SIM_SCHED_RANDOM,
                                             .seed = t->parameter * SCHEDULES,
                                             .schedules = schedules,
                                             .preemptions = 60};
    struct sim_sched_result result;
    if (sim_sched_unavailable()) {
        ktap_skip(t, sim_sched_unavailable());
        return;
    }
    if (!world_open(t, &world, &options))
        return;
    race = (struct race){.t = t, .setting = setting};
    fill(t, setting, true);
    metadata = malloc(world.metadata_size);
    memcpy(metadata, world.metadata, world.metadata_size);
    if (!sim_sched_explore(&scenario, &search, &result))
        ktap_fail(t, __FILE__, __LINE__, "a schedule was bad");
    if (result.end != SIM_SCHED_DONE)
        sched_note(t, &result);
    ktap_note(t, "%llu schedules, %llu points; %llu calls served, %llu refused",
              (unsigned long long)result.schedules, (unsigned long long)result.points,
              (unsigned long long)race.served, (unsigned long long)race.unserved);
    EXPECT(t, race.served > schedules && race.unserved > schedules / 10);
    memcpy(world.metadata, metadata, world.metadata_size);
    free(metadata);
    fill(t, setting, false);
    world_close(t, &world);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(random_programs, setting_numbers)};
KTAP_SUITE(pmm_races, cases);
