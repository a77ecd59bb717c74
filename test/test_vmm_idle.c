/* Processes that are swapped out as a whole, on request, by age, and since there are too many.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

#include <neomm/config.h>
#include <sim/sim.h>

#define PAGES  100u
#define SECOND 1000000000u

static const enum neomm_format formats[] = ENV_FORMATS;

static struct neomm_config config;

static bool open_full(struct ktap *t, struct world *w, uint32_t idle_after)
{
    neomm_config_default(&config);
    config.idle_after = idle_after;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = formats[t->parameter & 1],
                                        .config = &config,
                                        .swap_pages = 300,
                                        .readahead = 16};
    if (!world_open(t, w, &options, NULL))
        return false;
    EXPECT_OK(t, neomm_mmap(w->env.root, w->space, &w->base, PAGES * PAGE, RW, 0));
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_OK(t, world_write(w, w->base + i * PAGE, 1000 + i));
    return true;
}

static struct neomm_space_stats stats_of(struct world *w)
{
    struct neomm_space_stats stats;
    neomm_space_stats(w->env.root, w->space, &stats);
    return stats;
}

static void touch(struct ktap *t, struct world *w, uint32_t page)
{
    uint64_t value = 0;
    EXPECT_OK(t, world_read(w, w->base + page * PAGE, &value));
    EXPECT_EQ(t, value, 1000 + page);
}

static bool is_resident(struct world *w, uint32_t page)
{
    struct neomm_mapping leaf;
    return neomm_paging_query(w->env.root, neomm_space_tables(w->space), w->base + page * PAGE,
                              &leaf) == NEOMM_OK &&
           leaf.state == NEOMM_MAPPING_PRESENT;
}

/* All of it goes, and comes back with fewer faults than pages; both are counted. */
static void as_a_whole(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, 0));
    EXPECT_EQ(t, neomm_space_swap_out(w.env.root, w.space), PAGES);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 0);
    EXPECT_EQ(t, stats_of(&w).away_pages, PAGES);
    EXPECT_EQ(t, stats_of(&w).back_pages, 0);
    env_fsck(t, &w.env);
    for (uint32_t i = 0; i < PAGES; i++) {
        touch(t, &w, i);
        sim_clock_advance(w.env.machine, 1000);
    }
    struct neomm_space_stats stats = stats_of(&w);
    EXPECT_EQ(t, stats.swap_outs, 1);
    EXPECT_EQ(t, stats.back_pages, PAGES);
    EXPECT(t, stats.back_ns >= 50000);
    EXPECT(t, stats.faults_swap_in < PAGES / 4);
    EXPECT_EQ(t, stats.faults_swap_in + stats.read_ahead, PAGES);
    EXPECT_EQ(t, neomm_space_swap_out(w.env.root, w.space), PAGES);
    EXPECT_EQ(t, stats_of(&w).swap_writes, PAGES); /* they were as they came */
    EXPECT_EQ(t, neomm_space_swap_out(w.env.root, w.space), 0);
    EXPECT_EQ(t, stats_of(&w).swap_outs, 2);
    EXPECT_EQ(t, stats_of(&w).away_pages, PAGES);
    world_close(t, &w);
}

/* Back is who has as many pages as he used before. */
static void until_its_working_set_is_back(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, 0));
    (void)neomm_space_harvest(w.env.root, w.space);
    for (uint32_t round = 0; round < 40; round++) {
        for (uint32_t i = 0; i < 10; i++)
            touch(t, &w, i * 9);
        (void)neomm_space_harvest(w.env.root, w.space);
    }
    EXPECT_EQ(t, stats_of(&w).working_set_bytes, 10 * PAGE);
    EXPECT_EQ(t, neomm_space_swap_out(w.env.root, w.space), PAGES);
    for (uint32_t i = 0; i < PAGES; i += 3)
        touch(t, &w, i);
    EXPECT_EQ(t, stats_of(&w).back_pages, 10);
    world_close(t, &w);
}

/* What is locked, pinned, somebody else's, too, or an object's stays. */
static void what_stays(struct ktap *t)
{
    struct world w;
    struct neomm_space *child;
    neomm_frame_t pinned;
    uint32_t done;
    ASSERT(t, open_full(t, &w, 0));
    struct neomm *root = w.env.root;
    EXPECT_OK(t, neomm_space_fork(root, w.space, &child));
    EXPECT_EQ(t, neomm_space_swap_out(root, w.space), 0);
    for (uint32_t i = 0; i < 20; i++)
        EXPECT_OK(t, world_write(&w, w.base + i * PAGE, 1000 + i));
    EXPECT_OK(t, neomm_mlock(root, w.space, w.base + 3 * PAGE, 2 * PAGE, 0));
    EXPECT_OK(t, neomm_user_pin(root, w.space, w.base + 7 * PAGE, 1, false, &pinned, &done));
    EXPECT_EQ(t, neomm_space_swap_out(root, w.space), 20 - 3);
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_EQ(t, is_resident(&w, i), i >= 20 || i == 3 || i == 4 || i == 7);
    neomm_user_unpin(root, &pinned, 1, false);
    EXPECT_OK(t, neomm_space_destroy(root, child));
    EXPECT_EQ(t, neomm_space_swap_out(root, w.space), PAGES - 20 + 1);
    for (uint32_t i = 0; i < PAGES; i++)
        touch(t, &w, i);
    world_close(t, &w);
}

/* Swap ends before the pages do: what went is counted, and nothing is lost. */
static void swap_is_too_small(struct ktap *t)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = formats[t->parameter & 1], .swap_pages = 50};
    struct world w;
    ASSERT(t, world_open(t, &w, &options, NULL));
    EXPECT_OK(t, neomm_mmap(w.env.root, w.space, &w.base, PAGES * PAGE, RW, 0));
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_OK(t, world_write(&w, w.base + i * PAGE, 1000 + i));
    uint64_t gone = neomm_space_swap_out(w.env.root, w.space);
    EXPECT(t, gone > 40 && gone < 50);
    EXPECT_EQ(t, stats_of(&w).swap_bytes, gone * PAGE);
    for (uint32_t i = 0; i < PAGES; i++)
        touch(t, &w, i);
    world_close(t, &w);
}

/* By age: neither before its time, nor one that does something. */
static void by_age(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, 10));
    struct neomm *root = w.env.root;
    struct sim *sim = w.env.machine;
    EXPECT_EQ(t, neomm_idle_look(root), 0);
    for (uint32_t second = 0; second < 40; second += 4) {
        sim_clock_advance(sim, 4ull * SECOND);
        touch(t, &w, second);
        EXPECT_EQ(t, neomm_idle_look(root), 0);
    }
    sim_clock_advance(sim, 9ull * SECOND);
    EXPECT_EQ(t, neomm_idle_look(root), 0);
    sim_clock_advance(sim, 2ull * SECOND);
    EXPECT_EQ(t, neomm_idle_look(root), PAGES);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 0);
    sim_clock_advance(sim, 20ull * SECOND);
    EXPECT_EQ(t, neomm_idle_look(root), 0);
    touch(t, &w, 5);
    EXPECT_EQ(t, neomm_idle_look(root), 0);
    sim_clock_advance(sim, 11ull * SECOND);
    EXPECT_EQ(t, neomm_idle_look(root), 1);
    world_close(t, &w);
}

static void never_by_default(struct ktap *t)
{
    struct world w;
    ASSERT(t, open_full(t, &w, 0));
    EXPECT_EQ(t, neomm_idle_look(w.env.root), 0);
    sim_clock_advance(w.env.machine, 100000ull * SECOND);
    EXPECT_EQ(t, neomm_idle_look(w.env.root), 0);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, PAGES * PAGE);
    world_close(t, &w);
}

/* ---- load control ---- */

#define PROCESSES 3u
#define STEP      50u /* pages */
#define WORK      60u /* sets that each goes through */
#define SLICE     (400u * 1000000u)

struct process {
    struct neomm_space *space;
    neomm_vaddr_t at;
    uint32_t done; /* pages touched, modulo the set */
    uint64_t work;
};

struct machine {
    struct env env;
    struct process process[PROCESSES];
    uint32_t told[PROCESSES]; /* suspensions */
    uint32_t processes, set;  /* pages of each */
};

static void note_suspended(void *context, uint32_t index, bool suspended)
{
    struct machine *m = context;
    for (uint32_t i = 0; i < m->processes; i++)
        if (neomm_space_index(m->process[i].space) == index)
            m->told[i] += suspended;
}

static bool is_suspended(struct machine *m, struct process *process)
{
    struct neomm_space_stats stats;
    neomm_space_stats(m->env.root, process->space, &stats);
    return stats.suspended;
}

static uint64_t swap_ins(struct machine *m)
{
    uint64_t faults = 0;
    for (uint32_t i = 0; i < m->processes; i++) {
        struct neomm_space_stats stats;
        neomm_space_stats(m->env.root, m->process[i].space, &stats);
        faults += stats.faults_swap_in;
    }
    return faults;
}

/* A quantum of a process: some pages of a loop over its set. */
static void run(struct ktap *t, struct machine *m, struct process *process)
{
    neomm_space_activate(m->env.root, process->space);
    for (uint32_t i = 0; i < STEP; i++) {
        uint64_t value = process->done + 1;
        EXPECT_OK(t, env_access(&m->env, process->space, process->at + process->done * PAGE, &value,
                                sizeof(value), true, true));
        process->done = (process->done + 1) % m->set;
        process->work++;
    }
    neomm_space_activate(m->env.root, NULL);
}

static bool all_done(const struct machine *m)
{
    for (uint32_t i = 0; i < m->processes; i++)
        if (m->process[i].work < (uint64_t)m->set * WORK)
            return false;
    return true;
}

/* Faults that the work of all processes takes, in units of a set's pages. */
static uint64_t work(struct ktap *t, struct machine *m, uint32_t processes, bool control)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = formats[t->parameter & 1],
                                        .ram_bytes = 4u << 20,
                                        .swap_pages = 4096,
                                        .policy = "clock"};
    *m = (struct machine){.processes = processes};
    if (!env_open(t, &m->env, &options))
        return 0;
    struct neomm *root = m->env.root;
    neomm_load_control_tell(root, note_suspended, m);
    m->set = (uint32_t)neomm_pmm_free_frames(root) * 2 / 5;
    for (uint32_t i = 0; i < processes; i++) {
        struct process *process = &m->process[i];
        process->at = neomm_layout_of(root)->user_base;
        EXPECT_OK(t, neomm_space_create(root, NULL, &process->space));
        EXPECT_OK(t, neomm_mmap(root, process->space, &process->at, m->set * PAGE, RW, 0));
    }
    for (uint32_t quantum = 0; quantum < 100000 && !all_done(m); quantum++) {
        struct process *process = &m->process[quantum % processes];
        if (process->work < (uint64_t)m->set * WORK && !is_suspended(m, process))
            run(t, m, process);
        sim_clock_advance(m->env.machine, 10u * 1000000u);
        if (control)
            (void)neomm_load_control(root, SLICE);
    }
    EXPECT(t, all_done(m));
    uint64_t faults = swap_ins(m);
    env_fsck(t, &m->env);
    for (uint32_t i = 0; i < processes; i++)
        EXPECT_OK(t, neomm_space_destroy(root, m->process[i].space));
    EXPECT_EQ(t, neomm_load_control(root, SLICE), 0);
    env_close(t, &m->env);
    return faults;
}

/* Sets that do not fit together have their turns, each of them, with less than a fifth of the faults
 * for the same work; those that fit go on side by side. */
static void too_many(struct ktap *t)
{
    static struct machine m;
    uint64_t cycling = work(t, &m, PROCESSES, false);
    uint64_t controlled = work(t, &m, PROCESSES, true);
    ktap_note(t, "%llu faults for %u sets of %u pages; %llu with load control",
              (unsigned long long)cycling, PROCESSES * WORK, m.set, (unsigned long long)controlled);
    EXPECT(t, cycling > (uint64_t)PROCESSES * m.set * WORK / 2);
    EXPECT(t, controlled * 5 < cycling);
    for (uint32_t i = 0; i < PROCESSES; i++)
        EXPECT(t, m.told[i] > 0);
}

static void two_that_fit(struct ktap *t)
{
    static struct machine m;
    EXPECT_EQ(t, work(t, &m, 2, true), work(t, &m, 2, false));
    for (uint32_t i = 0; i < 2; i++)
        EXPECT_EQ(t, m.told[i], 0);
}

static const uint64_t each_format[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(as_a_whole, each_format),
    KTAP_CASE_WITH(until_its_working_set_is_back, each_format),
    KTAP_CASE_WITH(what_stays, each_format),
    KTAP_CASE_WITH(swap_is_too_small, each_format),
    KTAP_CASE_WITH(by_age, each_format),
    KTAP_CASE_WITH(never_by_default, each_format),
    KTAP_CASE_WITH(too_many, each_format),
    KTAP_CASE_WITH(two_that_fit, each_format),
};
KTAP_SUITE(vmm_idle, cases);
