/* The heap under host threads, each a CPU: blocks made by one and freed by another.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "sim/sim.h"

#include <pthread.h>

#define THREADS 4u
#define SLOTS   96u
#define STEPS   6000u

/* At the head of each block; the rest is a pattern by id. */
struct head {
    size_t size;
    uint32_t id;
};

struct worker {
    pthread_t thread;
    struct box *box;
    struct head **slot; /* SLOTS of them, shared; changed by atomic exchange */
    uint32_t cpu;
    uint64_t random;
    uint32_t count; /* of whatever the case counts */
    unsigned wrong; /* findings; the harness is not for threads */
};

static struct head *make(struct worker *worker, uint32_t id)
{
    uint64_t r = box_random(&worker->random);
    size_t scale = (size_t)(r >> 8 & 0xffffff);
    size_t extra = (r & 31) == 0 ? 30000 + scale % 50000 : scale % ((r & 7) ? 400 : 9000);
    struct head *head = neomm_kmalloc(worker->box->root, sizeof(*head) + extra, 0);
    if (!head)
        return NULL;
    *head = (struct head){extra, id};
    pattern_fill(head + 1, extra, id);
    return head;
}

static void check_and_free(struct worker *worker, struct head *head)
{
    if (!head)
        return;
    worker->wrong += !pattern_holds(head + 1, head->size, head->id);
    worker->wrong += neomm_kfree(worker->box->root, head) != NEOMM_OK;
}

static void *exchange_blocks(void *argument)
{
    struct worker *worker = argument;
    sim_bind(worker->box->env.machine, worker->cpu);
    for (uint32_t i = 0; i < STEPS; i++) {
        uint32_t slot = (uint32_t)(box_random(&worker->random) >> 20) % SLOTS;
        bool fill = box_random(&worker->random) >> 30 & 1;
        struct head *mine = fill ? make(worker, worker->cpu << 20 | i) : NULL;
        check_and_free(worker, __atomic_exchange_n(&worker->slot[slot], mine, __ATOMIC_ACQ_REL));
        if (i % 512 == 511)
            (void)neomm_heap_shrink(worker->box->root);
    }
    sim_unbind();
    return NULL;
}

static void run_threads(struct ktap *t, struct box *box, struct worker *workers, struct head **slot,
                        void *(*body)(void *))
{
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.box = box,
                                     .slot = slot,
                                     .cpu = i,
                                     .random = (t->parameter + 1) * 0x9e3779b97f4a7c15u + i * 77};
        EXPECT_EQ(t, pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        EXPECT_EQ(t, pthread_join(workers[i].thread, NULL), 0);
        EXPECT_EQ(t, workers[i].wrong, 0);
    }
    sim_bind(box->env.machine, 0);
}

static void blocks_change_hands(struct ktap *t)
{
    struct head *slot[SLOTS] = {0};
    struct worker workers[THREADS];
    struct box box;
    if (!box_open(t, &box, t->parameter, 32, THREADS))
        return;
    sim_unbind();
    run_threads(t, &box, workers, slot, exchange_blocks);
    env_fsck(t, &box.env);
    for (uint32_t i = 0; i < SLOTS; i++)
        check_and_free(&workers[0], slot[i]);
    EXPECT_EQ(t, workers[0].wrong, 0);
    box_close(t, &box);
}

/* All threads free the same objects. Who is the second shows at the latest when the objects get to
 * their slabs: each goes once. */
static void *free_them_all(void *argument)
{
    struct worker *worker = argument;
    sim_bind(worker->box->env.machine, worker->cpu);
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (i % 8 == 0) /* keeps its slab where it is */
            continue;
        neomm_status status = neomm_kfree(worker->box->root, worker->slot[i]);
        worker->count += status == NEOMM_OK;
        worker->wrong += status != NEOMM_OK && status != NEOMM_E_DOUBLE_FREE;
    }
    sim_unbind();
    return NULL;
}

static void racing_double_frees(struct ktap *t)
{
    struct head *slot[SLOTS];
    struct worker workers[THREADS];
    struct box box;
    uint32_t freed = SLOTS - SLOTS / 8, accepted = 0;
    if (!box_open(t, &box, BOX_DIRECT, 16, THREADS))
        return;
    for (uint32_t i = 0; i < SLOTS; i++)
        ASSERT(t, (slot[i] = neomm_kmalloc(box.root, 256, 0)) != NULL);
    sim_unbind();
    run_threads(t, &box, workers, slot, free_them_all);
    for (uint32_t i = 0; i < THREADS; i++)
        accepted += workers[i].count;
    EXPECT(t, accepted >= freed);
    (void)neomm_heap_shrink(box.root);
    EXPECT_EQ(t, objects(&box), SLOTS / 8);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_BAD_FREE), (THREADS - 1) * freed);
    env_fsck(t, &box.env);
    for (uint32_t i = 0; i < SLOTS; i += 8)
        EXPECT_OK(t, neomm_kfree(box.root, slot[i]));
    box_close(t, &box);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(blocks_change_hands, kinds),
    KTAP_CASE(racing_double_frees),
};

KTAP_SUITE(heap_threads, cases);
