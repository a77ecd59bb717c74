/* Address spaces under host threads, each a CPU: faults, eviction and unmapping side by side.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "share.h"

#include <sim/sim.h>

#include <pthread.h>

#define PAGE    NEOMM_PAGE_SIZE
#define RW      (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define THREADS 4u
#define PAGES   220u
#define ROUNDS  share_of(6)

static const uint64_t formats[] = ENV_FORMATS;

struct worker {
    pthread_t thread;
    struct env *env;
    struct neomm_space *space; /* perhaps shared with others */
    uint32_t cpu;
    uint64_t random;
    unsigned wrong; /* findings; the harness is not for threads */
};

static uint32_t pick(struct worker *worker, uint32_t below)
{
    worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(worker->random >> 33) % below;
}

static void access_page(struct worker *worker, neomm_vaddr_t vaddr, uint64_t *value, bool write)
{
    if (env_access(worker->env, worker->space, vaddr, value, sizeof(*value), write, true) !=
        NEOMM_OK)
        worker->wrong++;
}

/* One life of a mapping: filled, read back while others evict, and unmapped. */
static void one_round(struct worker *worker, uint32_t round)
{
    struct neomm *root = worker->env->root;
    neomm_vaddr_t at = 0;
    if (neomm_mmap(root, worker->space, &at, PAGES * PAGE, RW, 0) != NEOMM_OK) {
        worker->wrong++;
        return;
    }
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t value = (uint64_t)worker->cpu << 32 | round << 12 | i;
        access_page(worker, at + i * PAGE, &value, true);
    }
    if (pick(worker, 3) == 0)
        (void)neomm_space_evict(root, worker->space, pick(worker, PAGES));
    for (uint32_t n = 0; n < 2 * PAGES; n++) {
        uint32_t i = pick(worker, PAGES);
        uint64_t value = 0;
        access_page(worker, at + i * PAGE, &value, false);
        if (value != ((uint64_t)worker->cpu << 32 | round << 12 | i))
            worker->wrong++;
    }
    if (neomm_munmap(root, worker->space, at, PAGES * PAGE) != NEOMM_OK)
        worker->wrong++;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    sim_bind(worker->env->machine, worker->cpu);
    neomm_space_activate(worker->env->root, worker->space);
    for (uint32_t round = 0; round < ROUNDS; round++)
        one_round(worker, round);
    neomm_space_activate(worker->env->root, NULL);
    sim_unbind();
    return NULL;
}

/* The first CPU changes replacement policies meanwhile. */
static void change_policies(struct ktap *t, struct env *env, struct neomm_space *limited)
{
    const struct neomm_policy_ops *ops;
    for (uint32_t i = 0; (ops = neomm_policy_at(env->root, i)) != NULL; i++)
        EXPECT_OK(t, limited ? neomm_space_set_policy(env->root, limited, ops->name)
                             : neomm_vmm_set_policy(env->root, ops->name));
}

/* `shared`: all threads in one space; else one space each. A limit makes spaces evict their own
 * pages; without, a small machine makes everybody evict everybody's. */
static void run_threads(struct ktap *t, bool shared, bool limited)
{
    struct env env;
    struct neomm_space *space[THREADS];
    struct worker worker[THREADS];
    const struct env_options options = {.layer = ENV_VMM,
                                        .readahead = 16,
                                        .format = (enum neomm_format)t->parameter,
                                        .ram_bytes = 4u << 20,
                                        .cpus = THREADS + 1,
                                        .swap_pages = 2048,
                                        .whims = 32};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, limited ? 30 * PAGE : NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    ASSERT(t, env_open(t, &env, &options));
    for (uint32_t i = 0; i < (shared ? 1 : THREADS); i++)
        EXPECT_OK(t, neomm_space_create(env.root, &limits, &space[i]));
    for (uint32_t i = 0; i < THREADS; i++) {
        worker[i] = (struct worker){
            .env = &env, .space = space[shared ? 0 : i], .cpu = i + 1, .random = i + 1};
        ASSERT(t, pthread_create(&worker[i].thread, NULL, work, &worker[i]) == 0);
    }
    env_switch_cpu(&env, 0);
    for (uint32_t round = 0; round < ROUNDS; round++)
        change_policies(t, &env, limited ? space[0] : NULL);
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(worker[i].thread, NULL);
        EXPECT_EQ(t, worker[i].wrong, 0);
    }
    env_switch_cpu(&env, 0);
    env_fsck(t, &env);
    for (uint32_t i = 0; i < (shared ? 1 : THREADS); i++)
        EXPECT_OK(t, neomm_space_destroy(env.root, space[i]));
    env_close(t, &env);
}

static void one_shared_space(struct ktap *t)
{
    run_threads(t, true, false);
}

static void one_shared_space_at_its_limit(struct ktap *t)
{
    run_threads(t, true, true);
}

static void a_space_each(struct ktap *t)
{
    run_threads(t, false, false);
}

static void a_space_each_at_its_limit(struct ktap *t)
{
    run_threads(t, false, true);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(one_shared_space, formats),
    KTAP_CASE_WITH(one_shared_space_at_its_limit, formats),
    KTAP_CASE_WITH(a_space_each, formats),
    KTAP_CASE_WITH(a_space_each_at_its_limit, formats),
};
KTAP_SUITE(vmm_threads, cases);
