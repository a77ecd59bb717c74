/* The tables of one space under host threads, each a CPU: everybody changes pages of their own and
 * looks at those of all.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "sim/sim.h"

#include <pthread.h>

#define PAGE    NEOMM_PAGE_SIZE
#define RW      (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define USER    ((neomm_vaddr_t)0x40000000)
#define THREADS 4u
#define PAGES   64u /* in which each thread has every THREADS-th run of 4 */
#define ROUNDS  1000u

static const uint64_t formats[] = ENV_FORMATS;

struct worker {
    pthread_t thread;
    struct env *env;
    struct neomm_tables *tables;
    uint32_t cpu, number;
    neomm_vaddr_t base; /* PAGES around the border of two tables */
    uint64_t random;
    bool mapped[PAGES]; /* of the thread's own */
    unsigned wrong;     /* findings; the harness is not for threads */
};

static uint32_t pick(struct worker *worker, uint32_t below)
{
    worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(worker->random >> 33) % below;
}

static neomm_paddr_t paddr_of(uint32_t page)
{
    return ((neomm_paddr_t)1 << 24) + page * PAGE;
}

static void expect(struct worker *worker, bool right)
{
    worker->wrong += !right;
}

static void count_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)vaddr;
    *(uint32_t *)context += leaf->state == NEOMM_MAPPING_PRESENT;
}

/* Maps or unmaps `count` pages of the thread's own. */
static void change(struct worker *worker, uint32_t page, uint32_t count)
{
    struct neomm *root = worker->env->root;
    neomm_vaddr_t vaddr = worker->base + page * PAGE;
    uint32_t there = 0, gone = 0;
    for (uint32_t i = page; i < page + count; i++)
        there += worker->mapped[i];
    if (there == 0) {
        expect(worker, neomm_paging_map(root, worker->tables, vaddr, paddr_of(page), count * PAGE,
                                        RW, NEOMM_CACHE_WB, NEOMM_MAP_SMALL) == NEOMM_OK);
    } else {
        expect(worker, neomm_paging_unmap(root, worker->tables, vaddr, count * PAGE, count_leaf,
                                          &gone, NULL) == NEOMM_OK);
        expect(worker, gone == there);
    }
    for (uint32_t i = page; i < page + count; i++)
        worker->mapped[i] = there == 0;
}

static void look(struct worker *worker, uint32_t page)
{
    struct neomm_mapping leaf;
    neomm_paddr_t paddr;
    uint32_t error;
    neomm_vaddr_t vaddr = worker->base + page * PAGE;
    bool own = page / 4 % THREADS == worker->number;
    expect(worker, neomm_paging_query(worker->env->root, worker->tables, vaddr, &leaf) == NEOMM_OK);
    bool there = leaf.state == NEOMM_MAPPING_PRESENT;
    expect(worker, !there || leaf.paddr == paddr_of(page));
    expect(worker, !own || there == worker->mapped[page]);
    bool reached = sim_translate(worker->env->machine, vaddr, SIM_READ, true, &paddr, &error);
    expect(worker, !own || reached == worker->mapped[page]);
}

static void protect(struct worker *worker, uint32_t page)
{
    neomm_prot_t prot = pick(worker, 2) ? NEOMM_PROT_READ : RW;
    expect(worker, neomm_paging_protect(worker->env->root, worker->tables,
                                        worker->base + page * PAGE, PAGE, prot) == NEOMM_OK);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct neomm *root = worker->env->root;
    sim_bind(worker->env->machine, worker->cpu);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        /* Without them loaded, no shootdown waits for this CPU's walks. */
        neomm_paging_activate(root, pick(worker, 4) ? worker->tables : neomm_paging_kernel(root));
        uint32_t run = (pick(worker, PAGES / 4 / THREADS) * THREADS + worker->number) * 4;
        uint32_t first = pick(worker, 4), count = 1 + pick(worker, 4 - first);
        change(worker, run + first, count);
        protect(worker, run + pick(worker, 4));
        neomm_paging_activate(root, worker->tables);
        for (unsigned i = 0; i < 4; i++)
            look(worker, pick(worker, PAGES));
    }
    for (uint32_t page = 0; page < PAGES; page++)
        if (worker->mapped[page])
            change(worker, page, 1);
    neomm_paging_activate(root, neomm_paging_kernel(root));
    sim_unbind();
    return NULL;
}

static void a_space_for_all(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct worker worker[THREADS];
    const struct env_options options = {.layer = ENV_PAGING,
                                        .format = (enum neomm_format)t->parameter,
                                        .ram_bytes = 4u << 20,
                                        .cpus = THREADS + 1};
    ASSERT(t, env_open(t, &env, &options));
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    uint32_t at_start = tables.table_frames;
    for (uint32_t i = 0; i < THREADS; i++) {
        worker[i] = (struct worker){.env = &env,
                                    .tables = &tables,
                                    .cpu = i + 1,
                                    .number = i,
                                    .base = USER + ((size_t)4 << 20) - PAGES / 2 * PAGE,
                                    .random = i + 1};
        ASSERT(t, pthread_create(&worker[i].thread, NULL, work, &worker[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(worker[i].thread, NULL);
        EXPECT_EQ(t, worker[i].wrong, 0);
    }
    env_switch_cpu(&env, 0);
    env_fsck(t, &env);
    EXPECT_EQ(t, tables.table_frames, at_start);
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(a_space_for_all, formats),
};
KTAP_SUITE(paging_threads, cases);
