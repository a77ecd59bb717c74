/* The frame allocator with several CPUs in it at once: each frame has one owner at a time.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <pthread.h>

#define CPUS   4
#define ROUNDS (NEOMM_INSTRUMENTED ? 6000 : 20000)
#define HELD   64

static struct world world;
static uint32_t owner[WORLD_FRAMES]; /* CPU + 1 while allocated; atomic */

struct worker {
    pthread_t thread;
    uint32_t cpu;
    uint64_t seed;
    uint64_t done; /* frames allocated */
    uint32_t mistakes;
    neomm_frame_t frame[HELD];
    unsigned order[HELD];
    uint32_t held;
};

static void take(struct worker *worker, neomm_frame_t frame, unsigned order)
{
    for (uint32_t i = 0; i < 1u << order; i++)
        worker->mistakes +=
            __atomic_exchange_n(&owner[frame.number + i], worker->cpu + 1, __ATOMIC_RELAXED) != 0;
    worker->frame[worker->held] = frame;
    worker->order[worker->held++] = order;
    worker->done += 1u << order;
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

static void work(struct worker *worker)
{
    uint32_t choice = world_below(&worker->seed, 16);
    neomm_frame_t frame;
    if (worker->held > HELD / 2 && choice < 8) {
        give(worker, world_below(&worker->seed, worker->held));
    } else if (choice == 15) {
        struct neomm_range_request request = {.frames = 8, .align = 2};
        if (neomm_pmm_alloc_range(world.root, &request, &frame) != NEOMM_OK)
            return;
        for (uint32_t i = 0; i < 8; i++)
            take(worker, neomm_frame(frame.number + i), 0);
    } else {
        unsigned order = world_below(&worker->seed, 5);
        if (neomm_pmm_alloc(world.root, order, NEOMM_ATOMIC, &frame) == NEOMM_OK)
            take(worker, frame, order);
    }
    while (worker->held > HELD - 8)
        give(worker, world_below(&worker->seed, worker->held));
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    sim_bind(world.sim, worker->cpu);
    for (uint32_t i = 0; i < ROUNDS; i++)
        work(worker);
    while (worker->held > 0)
        give(worker, worker->held - 1);
    sim_unbind();
    return NULL;
}

/* Little memory and much of it in use, so that the workers stand in each other's way. */
static void one_owner(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, 3u << 20, NEOMM_MEMORY_USABLE}};
    const struct world_options options = {
        .ram_bytes = 4u << 20, .map = map, .map_count = 1, .cpus = CPUS};
    struct worker workers[CPUS] = {0};
    if (!world_open(t, &world, &options))
        return;
    sim_unbind();
    for (uint32_t i = 0; i < CPUS; i++) {
        workers[i].cpu = i;
        workers[i].seed = 77 + i;
        ASSERT(t, pthread_create(&workers[i].thread, NULL, run, &workers[i]) == 0);
    }
    for (uint32_t i = 0; i < CPUS; i++) {
        ASSERT(t, pthread_join(workers[i].thread, NULL) == 0);
        EXPECT_EQ(t, workers[i].mistakes, 0);
        EXPECT(t, workers[i].done > ROUNDS / 4);
    }
    sim_bind(world.sim, 0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- a share for everybody ---- */

#define SHARE 40u

/* Takes and gives back frames, but never has more than its share: there is always one for it. */
static void *share(void *argument)
{
    struct worker *worker = argument;
    sim_bind(world.sim, worker->cpu);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        neomm_frame_t frame;
        uint32_t choice = world_below(&worker->seed, 64);
        if (choice == 0)
            neomm_pmm_drain(world.root);
        if (worker->held == SHARE || (worker->held > 0 && choice < 24)) {
            give(worker, world_below(&worker->seed, worker->held));
            continue;
        }
        neomm_status status = neomm_pmm_alloc(world.root, 0, NEOMM_ATOMIC, &frame);
        worker->mistakes += status != NEOMM_OK;
        if (status == NEOMM_OK)
            take(worker, frame, 0);
    }
    while (worker->held > 0)
        give(worker, worker->held - 1);
    sim_unbind();
    return NULL;
}

/* The host may stop a thread for longer than another has patience where a spin does not give way
 * to it: that is in the production flavour. */
static void always_served(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, 4u << 20, NEOMM_MEMORY_USABLE}};
    const struct world_options options = {
        .ram_bytes = 4u << 20, .map = map, .map_count = 1, .cpus = CPUS};
    struct worker workers[CPUS] = {0};
    static neomm_frame_t fill[WORLD_FRAMES];
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "spins give way in the instrumented flavour only");
        return;
    }
    if (!world_open(t, &world, &options))
        return;
    uint32_t filled = (uint32_t)neomm_pmm_free_frames(world.root) - CPUS * SHARE;
    ASSERT_OK(t, neomm_pmm_alloc_bulk(world.root, filled, 0, fill));
    sim_unbind();
    for (uint32_t i = 0; i < CPUS; i++) {
        workers[i].cpu = i;
        workers[i].seed = 33 + i;
        ASSERT(t, pthread_create(&workers[i].thread, NULL, share, &workers[i]) == 0);
    }
    for (uint32_t i = 0; i < CPUS; i++) {
        ASSERT(t, pthread_join(workers[i].thread, NULL) == 0);
        EXPECT_EQ(t, workers[i].mistakes, 0);
    }
    sim_bind(world.sim, 0);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), CPUS * SHARE);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, filled, fill, NULL));
    world_close(t, &world);
}

static const struct ktap_case cases[] = {KTAP_CASE(one_owner), KTAP_CASE(always_served)};
KTAP_SUITE(pmm_threads, cases);
