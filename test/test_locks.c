/* Tests of locks and epochs, by one CPU and by several.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/epoch.h"
#include "base/root.h"
#include "sim/sim.h"

#include <pthread.h>
#include <string.h>

static bool open_root(struct ktap *t, struct env *env, uint32_t cpus)
{
    static const enum neomm_format formats[] = ENV_FORMATS;
    struct env_options options = {.layer = ENV_ROOT, .format = formats[0], .cpus = cpus};
    return env_open(t, env, &options);
}

static void lock_masks(struct ktap *t)
{
    struct env env;
    struct neomm__lock lock = NEOMM__LOCK_INIT(PMM), inner = NEOMM__LOCK_INIT(LOG);
    neomm_irq_t outer_irq, inner_irq, try_irq;
    ASSERT(t, open_root(t, &env, 1));
    EXPECT(t, !sim_interrupts_masked());
    outer_irq = neomm__lock(&lock);
    EXPECT(t, sim_interrupts_masked());
    EXPECT(t, !neomm__try_lock(&lock, &try_irq));
    EXPECT(t, sim_interrupts_masked());
    inner_irq = neomm__lock(&inner);
    neomm__unlock(&inner, inner_irq);
    EXPECT(t, sim_interrupts_masked());
    neomm__unlock(&lock, outer_irq);
    EXPECT(t, !sim_interrupts_masked());
    EXPECT(t, neomm__try_lock(&lock, &try_irq));
    EXPECT(t, sim_interrupts_masked());
    neomm__unlock(&lock, try_irq);
    EXPECT(t, !sim_interrupts_masked());
    env_close(t, &env);
}

#if NEOMM_INSTRUMENTED

/* Two locks of these classes, the first one held when the second is taken. */
struct pair {
    enum neomm_lock_class first, second;
};

static void take_pair(void *argument)
{
    const struct pair *pair = argument;
    struct neomm__lock first, second;
    neomm__lock_init(&first, pair->first);
    neomm__lock_init(&second, pair->second);
    neomm_irq_t irq = neomm__lock(&first);
    neomm_irq_t inner = neomm__lock(&second);
    neomm__unlock(&second, inner);
    neomm__unlock(&first, irq);
}

static void lock_order(struct ktap *t)
{
    struct env env;
    char text[128];
    ASSERT(t, open_root(t, &env, 1));
    for (int a = NEOMM_LOCK_CLASS_TABLES; a < NEOMM_LOCK_CLASSES; a++) {
        for (int b = NEOMM_LOCK_CLASS_TABLES; b < NEOMM_LOCK_CLASSES; b++) {
            struct pair pair = {(enum neomm_lock_class)a, (enum neomm_lock_class)b};
            enum sim_end end = sim_catch(env.machine, take_pair, &pair, text, sizeof(text));
            EXPECT_EQ(t, end, a < b ? SIM_END_RETURN : SIM_END_PANIC);
            EXPECT(t, a < b || strstr(text, "out of order") != NULL);
        }
    }
    EXPECT(t, sim_locks_most(env.machine) == 2);
    env_close(t, &env);
}

static void release_unheld(void *argument)
{
    struct neomm__lock lock = NEOMM__LOCK_INIT(PMM);
    (void)argument;
    neomm__unlock(&lock, neomm_port_irq_save());
}

static void mutex_under_spinlock(void *argument)
{
    struct neomm__lock spin = NEOMM__LOCK_INIT(PMM);
    (void)neomm__lock(&spin);
    neomm__mutex_lock(argument);
}

static void lock_mistakes(struct ktap *t)
{
    struct env env;
    struct neomm__lock mutex = NEOMM__LOCK_INIT(SPACE);
    char text[128];
    ASSERT(t, open_root(t, &env, 1));
    EXPECT_EQ(t, sim_catch(env.machine, release_unheld, NULL, text, sizeof(text)), SIM_END_PANIC);
    EXPECT(t, strstr(text, "does not hold") != NULL);
    EXPECT_EQ(t, sim_catch(env.machine, mutex_under_spinlock, &mutex, text, sizeof(text)),
              SIM_END_PANIC);
    EXPECT(t, strstr(text, "spinlock held") != NULL);
    EXPECT_EQ(t, mutex.word, 0);
    env_close(t, &env);
}

#endif

/* ---- several CPUs ---- */

#define THREADS 4u
#define ROUNDS  3000u

struct shared {
    struct env *env;
    struct neomm__lock *lock;
    uint64_t sum, inside;
    bool mutex;
};

struct worker {
    struct shared *shared;
    uint32_t cpu;
    uint32_t overlaps;
};

static void count_up(struct shared *shared, struct worker *worker)
{
    if (shared->inside++ != 0)
        worker->overlaps++;
    shared->sum++;
    shared->inside--;
}

static void *contend(void *argument)
{
    struct worker *worker = argument;
    struct shared *shared = worker->shared;
    sim_bind(shared->env->machine, worker->cpu);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        if (shared->mutex) {
            neomm__mutex_lock(shared->lock);
            count_up(shared, worker);
            neomm__mutex_unlock(shared->lock);
        } else {
            neomm_irq_t irq = neomm__lock(shared->lock);
            count_up(shared, worker);
            neomm__unlock(shared->lock, irq);
        }
    }
    sim_unbind();
    return NULL;
}

static void run_workers(struct ktap *t, struct shared *shared)
{
    pthread_t thread[THREADS];
    struct worker worker[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        worker[i] = (struct worker){shared, i, 0};
        ASSERT(t, pthread_create(&thread[i], NULL, contend, &worker[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        (void)pthread_join(thread[i], NULL);
        EXPECT_EQ(t, worker[i].overlaps, 0);
    }
    EXPECT_EQ(t, shared->sum, THREADS * ROUNDS);
}

static void locks_exclude(struct ktap *t)
{
    struct env env;
    struct neomm__lock spin = NEOMM__LOCK_INIT(PMM), mutex = NEOMM__LOCK_INIT(SPACE);
    struct shared shared = {&env, &spin, 0, 0, false};
    ASSERT(t, open_root(t, &env, THREADS + 1));
    env_switch_cpu(&env, THREADS);
    run_workers(t, &shared);
    shared = (struct shared){&env, &mutex, 0, 0, true};
    run_workers(t, &shared);
    EXPECT(t, neomm__mutex_try_lock(&mutex));
    EXPECT(t, !neomm__mutex_try_lock(&mutex));
    neomm__mutex_unlock(&mutex);
    env_close(t, &env);
}

/* ---- epochs ---- */

struct walk {
    struct env *env;
    uint32_t entered, leave, left; /* atomic */
};

static void *walk(void *argument)
{
    struct walk *walk = argument;
    sim_bind(walk->env->machine, 1);
    neomm_irq_t outer = neomm__epoch_enter(walk->env->root);
    neomm_irq_t inner = neomm__epoch_enter(walk->env->root);
    neomm__store_release(&walk->entered, 1);
    while (!neomm__load_acquire(&walk->leave))
        neomm__spin();
    neomm__epoch_leave(walk->env->root, inner);
    neomm__store_release(&walk->left, 1);
    neomm__epoch_leave(walk->env->root, outer);
    sim_unbind();
    return NULL;
}

static void *let_go(void *argument)
{
    struct walk *walk = argument;
    neomm__store_release(&walk->leave, 1);
    return NULL;
}

static void epoch_waits(struct ktap *t)
{
    struct env env;
    pthread_t walker, other;
    ASSERT(t, open_root(t, &env, 2));
    struct walk w = {&env, 0, 0, 0};
    ASSERT(t, pthread_create(&walker, NULL, walk, &w) == 0);
    while (!neomm__load_acquire(&w.entered))
        neomm__spin();
    ASSERT(t, pthread_create(&other, NULL, let_go, &w) == 0);
    neomm__epoch_synchronise(env.root);
    EXPECT_EQ(t, neomm__load_acquire(&w.left), 1);
    (void)pthread_join(walker, NULL);
    (void)pthread_join(other, NULL);
    env_close(t, &env);
}

static void epoch_idle(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_root(t, &env, 3));
    neomm__epoch_synchronise(env.root);
    env.root->epoch = UINT32_MAX;
    neomm__epoch_synchronise(env.root);
    EXPECT(t, env.root->epoch != 0);
    neomm_irq_t irq = neomm__epoch_enter(env.root);
    EXPECT(t, sim_interrupts_masked());
    EXPECT_EQ(t, env.root->cpu[0].epoch, env.root->epoch);
    neomm__epoch_leave(env.root, irq);
    EXPECT_EQ(t, env.root->cpu[0].epoch, 0);
    env_close(t, &env);
}

/* A walk that began after the call does not hold it up. */
static void epoch_new_walk(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_root(t, &env, 2));
    env.root->cpu[1].epoch = env.root->epoch + 1;
    neomm__epoch_synchronise(env.root);
    env.root->cpu[1].epoch = 0;
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(lock_masks),
#if NEOMM_INSTRUMENTED
    KTAP_CASE(lock_order),    KTAP_CASE(lock_mistakes),
#endif
    KTAP_CASE(locks_exclude), KTAP_CASE(epoch_waits),
    KTAP_CASE(epoch_idle),    KTAP_CASE(epoch_new_walk),
};
KTAP_SUITE(locks, cases);
