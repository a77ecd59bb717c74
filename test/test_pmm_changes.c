/* Memory that comes, CPUs that stop, drains and statistics while other CPUs allocate.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <pthread.h>

#define M(n)    ((uint64_t)(n) << 20)
#define CPUS    4u
#define WORKERS 2u /* CPUs 1 and 2; CPU 3 comes and goes, and runs nothing */
#define ROUNDS  (NEOMM_INSTRUMENTED ? 3000 : 20000)
#define HELD    48u
#define STEP    M(4)

static struct world world;
static uint32_t owner[WORLD_FRAMES]; /* CPU + 1 while allocated; atomic */
static bool stop;                    /* atomic */

struct worker {
    pthread_t thread;
    uint32_t cpu;
    uint64_t seed;
    uint32_t mistakes, refused, done;
    uint32_t from_new; /* frames of added memory that it had */
    neomm_frame_t frame[HELD];
    unsigned order[HELD];
    uint32_t held;
};

static void take(struct worker *worker, unsigned order, neomm_flags_t flags)
{
    neomm_frame_t frame;
    if (neomm_pmm_alloc(world.root, order, flags, &frame) != NEOMM_OK) {
        worker->refused++;
        return;
    }
    for (uint32_t i = 0; i < 1u << order; i++)
        worker->mistakes +=
            __atomic_exchange_n(&owner[frame.number + i], worker->cpu + 1, __ATOMIC_RELAXED) != 0;
    worker->from_new += frame.number >= M(64) >> NEOMM_PAGE_SHIFT;
    worker->frame[worker->held] = frame;
    worker->order[worker->held++] = order;
    worker->done++;
}

static void give(struct worker *worker, uint32_t at)
{
    neomm_frame_t frame = worker->frame[at];
    unsigned order = worker->order[at];
    worker->held--;
    worker->frame[at] = worker->frame[worker->held];
    worker->order[at] = worker->order[worker->held];
    for (uint32_t i = 0; i < 1u << order; i++)
        worker->mistakes +=
            __atomic_exchange_n(&owner[frame.number + i], 0, __ATOMIC_RELAXED) != worker->cpu + 1;
    worker->mistakes += neomm_pmm_free(world.root, frame, order) != NEOMM_OK;
}

/* Until all is done and, on a CPU whose node is new, some of that was had: the host may let a
 * thread wait through all of the changes. */
static void *work(void *argument)
{
    struct worker *worker = argument;
    sim_bind(world.sim, worker->cpu);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) || worker->done < ROUNDS ||
           (worker->cpu == 2 && worker->from_new == 0 && worker->done < 100 * ROUNDS)) {
        uint32_t choice = world_below(&worker->seed, 64);
        if (worker->held == HELD || (worker->held > HELD / 2 && choice % 2))
            give(worker, world_below(&worker->seed, worker->held));
        else
            take(worker, choice == 0 ? 9 : choice < 6 ? 3 : 0, choice % 4 ? 0 : NEOMM_MOVABLE);
    }
    while (worker->held > 0)
        give(worker, worker->held - 1);
    sim_unbind();
    return NULL;
}

/* What an administrator does: everything at once. The figures are racy, but never absurd. */
static void change(struct ktap *t, uint64_t at)
{
    struct neomm_zone_stats stats;
    EXPECT_OK(t, neomm_pmm_cpu_offline(world.root, 3));
    EXPECT_OK(t, neomm_pmm_add(world.root, at, STEP));
    world_mark(&world, (uint32_t)(at >> 12), (uint32_t)(STEP >> 12), WORLD_FREE);
    EXPECT_OK(t, neomm_pmm_cpu_online(world.root, 3));
    neomm_pmm_drain(world.root);
    for (uint32_t node = 0; node < 2; node++) {
        neomm_pmm_node_stats(world.root, node, NEOMM_ZONE_NORMAL, &stats);
        EXPECT(t, stats.free <= M(256) >> 12 && stats.used <= M(256) >> 12);
    }
    EXPECT(t, neomm_pmm_free_frames(world.root) <= M(256) >> 12);
}

static void all_at_once(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(64), NEOMM_MEMORY_USABLE},
                                                  {M(64), M(64), NEOMM_MEMORY_HOTPLUG},
                                                  {M(128), M(64), NEOMM_MEMORY_HOTPLUG}};
    static const struct neomm_node_range nodes[] = {{M(128), M(128), 1}};
    static const uint8_t cpu_node[] = {0, 0, 1, 1};
    const struct world_options options = {.ram_bytes = M(192),
                                          .map = map,
                                          .map_count = (uint32_t)NEOMM__COUNT_OF(map),
                                          .cpus = CPUS,
                                          .without_pmm = true};
    struct worker workers[WORKERS] = {0};
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = nodes;
    world.pmm.node_ranges = 1;
    world.pmm.cpu_node = cpu_node;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (uint32_t i = 0; i < WORKERS; i++) {
        workers[i].cpu = i + 1;
        workers[i].seed = t->parameter + i;
        ASSERT(t, pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (uint64_t done = 0; done < M(64); done += STEP) {
        change(t, M(64) + done);
        change(t, M(192) - done - STEP);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < WORKERS; i++) {
        ASSERT(t, pthread_join(workers[i].thread, NULL) == 0);
        EXPECT_EQ(t, workers[i].mistakes, 0);
        EXPECT_EQ(t, workers[i].refused, 0);
    }
    EXPECT(t, workers[1].from_new > 0);
    __atomic_store_n(&stop, false, __ATOMIC_RELAXED);
    world_compare(t, &world);
    world_close(t, &world);
}

static const uint64_t seeds[] = {1, 20, 300};

static const struct ktap_case cases[] = {KTAP_CASE_WITH(all_at_once, seeds)};
KTAP_SUITE(pmm_changes, cases);
