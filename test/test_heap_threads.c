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

/* ---- one CPU empties the others' magazines all the time ---- */

#define PAIRS 200000u
#define HANDS 12u /* objects that a thread has at a time */

/* An object says who has it; a free one, that nobody does. */
struct owned {
    uint32_t owner;
    uint32_t rest[15];
};

struct emptied {
    struct box *box;
    struct neomm_kmem *cache;
    uint32_t running; /* threads that use it */
    uint32_t emptied; /* times */
};

struct user {
    pthread_t thread;
    struct emptied *emptied;
    uint32_t cpu, wrong;
};

static void make_owned(void *context, void *object)
{
    (void)context;
    __atomic_store_n(&((struct owned *)object)->owner, 0, __ATOMIC_RELEASE);
}

static void *use_objects(void *argument)
{
    struct user *user = argument;
    struct emptied *e = user->emptied;
    struct owned *hand[HANDS] = {0};
    sim_bind(e->box->env.machine, user->cpu);
    for (uint32_t i = 0; i < PAIRS; i++) {
        struct owned **slot = &hand[i * 7 % HANDS];
        if (*slot) {
            user->wrong += __atomic_exchange_n(&(*slot)->owner, 0, __ATOMIC_ACQ_REL) != user->cpu;
            user->wrong += neomm_kmem_free(e->box->root, e->cache, *slot) != NEOMM_OK;
        }
        *slot = neomm_kmem_alloc(e->box->root, e->cache, 0);
        user->wrong += !*slot;
        if (*slot)
            user->wrong += __atomic_exchange_n(&(*slot)->owner, user->cpu, __ATOMIC_ACQ_REL) != 0;
    }
    for (uint32_t i = 0; i < HANDS; i++) {
        user->wrong += __atomic_exchange_n(&hand[i]->owner, 0, __ATOMIC_ACQ_REL) != user->cpu;
        user->wrong += neomm_kmem_free(e->box->root, e->cache, hand[i]) != NEOMM_OK;
    }
    (void)__atomic_fetch_sub(&e->running, 1, __ATOMIC_ACQ_REL);
    sim_unbind();
    return NULL;
}

static void *empty_magazines(void *argument)
{
    struct user *user = argument;
    struct emptied *e = user->emptied;
    const struct neomm_kmem_options options = {.name = "short", .size = 100};
    sim_bind(e->box->env.machine, user->cpu);
    while (__atomic_load_n(&e->running, __ATOMIC_ACQUIRE) > 0) {
        (void)neomm_kmem_shrink(e->box->root, e->cache);
        if (++e->emptied % 16 == 0) {
            struct neomm_kmem *cache = neomm_kmem_create(e->box->root, &options);
            void *object = cache ? neomm_kmem_alloc(e->box->root, cache, 0) : NULL;
            user->wrong += !object || neomm_kfree(e->box->root, object) != NEOMM_OK;
            user->wrong += !cache || neomm_kmem_destroy(e->box->root, cache) != NEOMM_OK;
        }
    }
    sim_unbind();
    return NULL;
}

/* Nobody is given what another has, and nothing is lost. */
static void emptied_all_the_time(struct ktap *t)
{
    struct user user[THREADS];
    struct box box;
    const struct neomm_kmem_options options = {
        .name = "owned", .size = sizeof(struct owned), .construct = make_owned};
    if (!box_open(t, &box, BOX_DIRECT, 32, THREADS))
        return;
    struct emptied emptied = {&box, neomm_kmem_create(box.root, &options), THREADS - 1, 0};
    ASSERT(t, emptied.cache != NULL);
    sim_unbind();
    for (uint32_t i = 0; i < THREADS; i++) {
        user[i] = (struct user){.emptied = &emptied, .cpu = i};
        EXPECT_EQ(
            t,
            pthread_create(&user[i].thread, NULL, i == 0 ? empty_magazines : use_objects, &user[i]),
            0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        EXPECT_EQ(t, pthread_join(user[i].thread, NULL), 0);
        EXPECT_EQ(t, user[i].wrong, 0);
    }
    sim_bind(box.env.machine, 0);
    ktap_note(t, "emptied %u times", emptied.emptied);
    EXPECT(t, emptied.emptied > 0);
    env_fsck(t, &box.env);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, emptied.cache));
    box_close(t, &box);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(blocks_change_hands, kinds),
    KTAP_CASE(racing_double_frees),
    KTAP_CASE(emptied_all_the_time),
};

KTAP_SUITE(heap_threads, cases);
