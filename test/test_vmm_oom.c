/* Out of memory: exactly the victims that the documented score names, in order; the others keep
 * what they have.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "sim/sim.h"
#include "vmm/vmm_priv.h"

#define PAGE    NEOMM_PAGE_SIZE
#define RW      (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PROCESS 64u
#define MOST    128u /* pages of a process */

static const uint64_t formats[] = ENV_FORMATS;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

struct process {
    struct neomm_space *space; /* NULL: it ended */
    neomm_vaddr_t at;
    uint32_t written; /* pages */
    int32_t bias;
};

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    uint64_t ram; /* pages for use */
    uint64_t random;
    struct process process[PROCESS];
};

static bool world_open(struct ktap *t, struct world *w, enum neomm_format format, uint32_t swap)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = format,
                                        .ram_bytes = 6u << 20,
                                        .swap_pages = swap,
                                        .overcommit = NEOMM_OVERCOMMIT_ALWAYS};
    *w = (struct world){.t = t, .random = swap + 1};
    if (!env_open(t, &w->env, &options))
        return false;
    w->root = w->env.root;
    w->ram = w->root->vmm->ram_pages;
    return true;
}

static void begin(struct world *w, uint32_t i, int32_t bias)
{
    struct process *process = &w->process[i];
    *process = (struct process){.bias = bias};
    EXPECT_OK(w->t, neomm_space_create(w->root, NULL, &process->space));
    EXPECT_OK(w->t, neomm_space_set_oom_bias(w->root, process->space, bias));
    EXPECT_OK(w->t, neomm_mmap(w->root, process->space, &process->at, MOST * PAGE, RW, 0));
}

static void end(struct world *w, uint32_t i)
{
    neomm_space_activate(w->root, NULL);
    if (w->process[i].space)
        EXPECT_OK(w->t, neomm_space_destroy(w->root, w->process[i].space));
    w->process[i].space = NULL;
}

static uint64_t value_of(uint32_t i, uint32_t page)
{
    return ((uint64_t)i << 32 | page) * 0x9e3779b97f4a7c15u + 1;
}

static neomm_status write_page(struct world *w, uint32_t i, uint32_t page)
{
    struct process *process = &w->process[i];
    uint64_t value = value_of(i, page);
    neomm_space_activate(w->root, process->space);
    return env_access(&w->env, process->space, process->at + page * PAGE, &value, 8, true, true);
}

static void verify(struct world *w, uint32_t i)
{
    struct process *process = &w->process[i];
    neomm_space_activate(w->root, process->space);
    for (uint32_t page = 0; page < process->written; page++) {
        uint64_t value = 0;
        EXPECT_OK(w->t, env_access(&w->env, process->space, process->at + page * PAGE, &value, 8,
                                   false, true));
        EXPECT_EQ(w->t, value, value_of(i, page));
    }
}

/* ---- the score, again ---- */

static uint64_t pages_of(struct world *w, const struct process *process)
{
    struct neomm_space_stats stats;
    neomm_space_stats(w->root, process->space, &stats);
    return (stats.resident_bytes + stats.swap_bytes + stats.table_bytes) / PAGE;
}

static int64_t score_of(struct world *w, const struct process *process)
{
    return (int64_t)(pages_of(w, process) * 1000 / w->ram) + process->bias;
}

/* Who is next; PROCESS: nobody. Indices of spaces ascend as the processes do. */
static uint32_t next_victim(struct world *w)
{
    uint32_t victim = PROCESS;
    for (uint32_t i = 0; i < PROCESS; i++) {
        const struct process *process = &w->process[i];
        if (!process->space || process->bias == NEOMM_OOM_NEVER || process->written == 0)
            continue;
        if (victim == PROCESS || score_of(w, process) > score_of(w, &w->process[victim]) ||
            (score_of(w, process) == score_of(w, &w->process[victim]) &&
             pages_of(w, process) > pages_of(w, &w->process[victim])))
            victim = i;
    }
    return victim;
}

static void expect_score(struct world *w, const struct process *process)
{
    EXPECT_EQ(w->t, neomm_space_oom_score(w->root, process->space), score_of(w, process));
}

/* ---- 64 processes over the edge ---- */

static int32_t pick_bias(struct world *w)
{
    static const int32_t bias[] = {0, 0, 0, 0, 10, -10, NEOMM_OOM_NEVER, 3};
    return bias[next_random(&w->random) % 8];
}

/* One more page of a process that has room for it; the victims on the way, if any, end. */
static void one_page(struct world *w, uint32_t *victims)
{
    uint32_t i = (uint32_t)(next_random(&w->random) % PROCESS);
    struct process *process = &w->process[i];
    if (!process->space || process->written == (process->bias == NEOMM_OOM_NEVER ? MOST / 3 : MOST))
        return;
    expect_score(w, process);
    uint32_t want = next_victim(w);
    uint64_t before = sim_oom_count(w->env.machine);
    neomm_status status = write_page(w, i, process->written);
    uint64_t chosen = sim_oom_count(w->env.machine) - before;
    EXPECT(w->t, chosen <= 1);
    if (chosen != 0) {
        ASSERT(w->t, want < PROCESS);
        EXPECT_EQ(w->t, sim_oom_space(w->env.machine), neomm_space_index(w->process[want].space));
        EXPECT_EQ(w->t, status, want == i ? NEOMM_E_FAULT : NEOMM_OK);
        end(w, want);
        ++*victims;
    } else {
        EXPECT_OK(w->t, status);
    }
    if (status == NEOMM_OK)
        process->written++;
}

static void over_the_edge(struct ktap *t, uint32_t swap)
{
    struct world w;
    uint32_t victims = 0, living = 0;
    ASSERT(t, world_open(t, &w, (enum neomm_format)t->parameter, swap));
    for (uint32_t i = 0; i < PROCESS; i++)
        begin(&w, i, pick_bias(&w));
    for (unsigned n = 0; n < 12000 && t->failures == 0; n++) {
        one_page(&w, &victims);
        if (n % 3000 == 0)
            env_fsck(t, &w.env);
    }
    EXPECT(t, victims > 4);
    EXPECT_EQ(t, neomm__counter_sum(w.root, NEOMM_COUNTER_OOM_VICTIM), victims);
    for (uint32_t i = 0; i < PROCESS; i++) {
        living += w.process[i].space != NULL;
        if (w.process[i].space)
            verify(&w, i);
        EXPECT(t, w.process[i].space || w.process[i].bias != NEOMM_OOM_NEVER);
    }
    EXPECT_EQ(t, living + victims, PROCESS);
    ktap_note(t, "%u victims, %u processes live on", victims, living);
    for (uint32_t i = 0; i < PROCESS; i++)
        end(&w, i);
    env_close(t, &w.env);
}

static void over_the_edge_without_swap(struct ktap *t)
{
    over_the_edge(t, 0);
}

static void over_the_edge_with_swap(struct ktap *t)
{
    over_the_edge(t, 700);
}

/* ---- the victim ---- */

/* Process 0 fills the machine, process 1 wants a page. */
static uint32_t fill(struct world *w, uint32_t i)
{
    while (neomm_pmm_available(w->root, 0) != 0 && w->process[i].written < 4096) {
        if (write_page(w, i, w->process[i].written) != NEOMM_OK)
            break;
        w->process[i].written++;
    }
    return w->process[i].written;
}

static void begin_large(struct world *w, uint32_t i)
{
    begin(w, i, 0);
    EXPECT_OK(w->t, neomm_munmap(w->root, w->process[i].space, w->process[i].at, MOST * PAGE));
    w->process[i].at = 0;
    EXPECT_OK(w->t,
              neomm_mmap(w->root, w->process[i].space, &w->process[i].at, 4096 * PAGE, RW, 0));
}

static void gets_nothing_more(struct ktap *t)
{
    struct neomm_space_stats stats;
    struct neomm_space *child = NULL;
    struct world w;
    uint8_t byte = 1;
    ASSERT(t, world_open(t, &w, (enum neomm_format)t->parameter, 0));
    begin_large(&w, 0);
    begin(&w, 1, 0);
    EXPECT(t, fill(&w, 0) > 500);
    EXPECT_OK(t, neomm_mlock(w.root, w.process[0].space, w.process[0].at, 8 * PAGE, 0));
    EXPECT_OK(t, write_page(&w, 1, 0));
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 1);
    EXPECT_EQ(t, sim_oom_space(w.env.machine), neomm_space_index(w.process[0].space));
    neomm_space_stats(w.root, w.process[0].space, &stats);
    EXPECT(t, stats.oom_victim == 1 && stats.resident_bytes == 0);
    EXPECT_EQ(t, stats.virtual_bytes, 4096 * PAGE);
    env_fsck(t, &w.env);
    /* There is memory now, but not for it. */
    EXPECT_EQ(t, write_page(&w, 0, 0), NEOMM_E_FAULT);
    EXPECT_EQ(t, env_access(&w.env, w.process[0].space, w.process[0].at, &byte, 1, false, true),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, neomm_space_fork(w.root, w.process[0].space, &child), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_zero_user(w.root, w.process[0].space, w.process[0].at, 8, NULL),
              NEOMM_E_FAULT);
    EXPECT_OK(t, neomm_munmap(w.root, w.process[0].space, w.process[0].at, 5 * PAGE));
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 1);
    end(&w, 0);
    end(&w, 1);
    env_close(t, &w.env);
}

/* What a victim wrote to in private mappings of objects is its own, and goes as well; what it
 * shares stays the object's. */
static void copies_of_objects_go(struct ktap *t)
{
    struct neomm_space_stats stats;
    struct neomm_object *object;
    struct world w;
    ASSERT(t, world_open(t, &w, (enum neomm_format)t->parameter, 0));
    begin_large(&w, 0);
    begin(&w, 1, 0);
    struct process *process = &w.process[0];
    neomm_vaddr_t shared = 0;
    EXPECT_OK(t, neomm_object_create(w.root, NULL, 4096 * PAGE, &object));
    EXPECT_OK(t, neomm_munmap(w.root, process->space, process->at, 4096 * PAGE));
    EXPECT_OK(t, neomm_mmap_object(w.root, process->space, &process->at, 4096 * PAGE, RW,
                                   NEOMM_MAP_EXACT | NEOMM_MAP_PRIVATE, object, 0));
    EXPECT_OK(t, neomm_mmap_object(w.root, process->space, &shared, 2 * PAGE, RW,
                                   NEOMM_MAP_POPULATE, object, 4094 * PAGE));
    EXPECT(t, fill(&w, 0) > 250);
    EXPECT_OK(t, write_page(&w, 1, 0));
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 1);
    EXPECT_EQ(t, sim_oom_space(w.env.machine), neomm_space_index(process->space));
    neomm_space_stats(w.root, process->space, &stats);
    EXPECT_EQ(t, stats.resident_bytes, 2 * PAGE);
    env_fsck(t, &w.env);
    end(&w, 0);
    end(&w, 1);
    neomm_object_close(w.root, object);
    env_close(t, &w.env);
}

/* A lock on memory ends in the middle of a huge page, which goes without being split: there is no
 * memory for that. */
static void parts_of_huge_pages_go(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter,
                                        .ram_bytes = 16u << 20,
                                        .huge = NEOMM_HUGE_ALWAYS,
                                        .overcommit = NEOMM_OVERCOMMIT_ALWAYS};
    struct neomm_space_stats stats;
    struct world w = {.t = t};
    ASSERT(t, env_open(t, &w.env, &options));
    w.root = w.env.root;
    begin_large(&w, 0);
    begin(&w, 1, 0);
    size_t huge = neomm_paging_large_size(w.root);
    neomm_vaddr_t at = w.process[0].at;
    EXPECT_OK(t, neomm_munmap(w.root, w.process[0].space, at, 4096 * PAGE));
    at = w.process[0].at = NEOMM__ALIGN_UP(at, huge);
    EXPECT_OK(t, neomm_mmap(w.root, w.process[0].space, &at, 4096 * PAGE, RW, NEOMM_MAP_EXACT));
    EXPECT_OK(t, write_page(&w, 0, 0));
    EXPECT_OK(t, neomm_mlock(w.root, w.process[0].space, at + 3 * PAGE, 8 * PAGE, 0));
    EXPECT(t, neomm__counter_sum(w.root, NEOMM_COUNTER_FAULT_HUGE) > 0);
    (void)fill(&w, 0);
    if (env_fault_plan(&w.env, 1, true)) {
        EXPECT_EQ(t, write_page(&w, 1, 0), NEOMM_E_FAULT);
        (void)env_fault_plan(&w.env, 0, false);
    }
    EXPECT_OK(t, write_page(&w, 1, 0));
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 1);
    neomm_space_stats(w.root, w.process[0].space, &stats);
    EXPECT_EQ(t, stats.resident_bytes, 0);
    env_fsck(t, &w.env);
    end(&w, 0);
    end(&w, 1);
    env_close(t, &w.env);
}

/* Who gets a status gets that; nobody loses his memory for it. */
static void errors_where_there_is_one(struct ktap *t)
{
    struct world w;
    uint32_t done;
    static neomm_frame_t frames[4096];
    neomm_vaddr_t at = 0;
    ASSERT(t, world_open(t, &w, (enum neomm_format)t->parameter, 0));
    begin_large(&w, 0);
    begin_large(&w, 1);
    uint32_t pages = fill(&w, 0);
    EXPECT_EQ(t, neomm_mmap(w.root, w.process[1].space, &at, 4096 * PAGE, RW, NEOMM_MAP_POPULATE),
              NEOMM_E_NOMEM);
    EXPECT_EQ(t,
              neomm_madvise(w.root, w.process[1].space, w.process[1].at, 4096 * PAGE,
                            NEOMM_ADVICE_POPULATE_WRITE),
              NEOMM_E_NOMEM);
    EXPECT_EQ(
        t, neomm_user_pin(w.root, w.process[1].space, w.process[1].at, 4096, true, frames, &done),
        NEOMM_E_NOMEM);
    neomm_user_unpin(w.root, frames, done, false);
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 0);
    EXPECT_EQ(t, w.process[0].written, pages);
    verify(&w, 0);
    end(&w, 0);
    end(&w, 1);
    env_close(t, &w.env);
}

/* With nobody to take from the fault fails, and all goes on. */
static void nobody_left(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, (enum neomm_format)t->parameter, 0));
    begin_large(&w, 0);
    begin(&w, 1, NEOMM_OOM_NEVER);
    EXPECT_EQ(t, neomm_space_set_oom_bias(w.root, w.process[0].space, 1001), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_space_set_oom_bias(w.root, w.process[0].space, -1001), NEOMM_E_RANGE);
    EXPECT_OK(t, neomm_space_set_oom_bias(w.root, w.process[0].space, NEOMM_OOM_NEVER));
    w.process[0].bias = NEOMM_OOM_NEVER;
    (void)fill(&w, 0);
    EXPECT_EQ(t, write_page(&w, 1, 0), NEOMM_E_FAULT);
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 0);
    verify(&w, 0);
    /* The largest bias outweighs any size: the one with a page of its own goes first. */
    EXPECT_OK(t, neomm_munmap(w.root, w.process[0].space,
                              w.process[0].at + (w.process[0].written - 8) * PAGE, 8 * PAGE));
    w.process[0].written -= 8;
    EXPECT_OK(t, write_page(&w, 1, 0));
    EXPECT_OK(t, neomm_space_set_oom_bias(w.root, w.process[0].space, 0));
    EXPECT_OK(t, neomm_space_set_oom_bias(w.root, w.process[1].space, NEOMM_OOM_BIAS_MAX));
    w.process[0].bias = 0;
    w.process[1].bias = NEOMM_OOM_BIAS_MAX;
    expect_score(&w, &w.process[0]);
    expect_score(&w, &w.process[1]);
    begin(&w, 2, 0);
    for (uint32_t page = 0; page < 32 && sim_oom_count(w.env.machine) == 0; page++)
        EXPECT_OK(t, write_page(&w, 2, page));
    EXPECT_EQ(t, sim_oom_space(w.env.machine), neomm_space_index(w.process[1].space));
    for (uint32_t i = 0; i < 3; i++)
        end(&w, i);
    env_close(t, &w.env);
}

/* Failures on purpose, for good, are no want of frames. */
static void failures_are_no_want(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, (enum neomm_format)t->parameter, 0));
    begin(&w, 0, 0);
    EXPECT_OK(t, write_page(&w, 0, 0));
    if (env_fault_plan(&w.env, 1, true)) {
        EXPECT_EQ(t, write_page(&w, 0, 1), NEOMM_E_FAULT);
        (void)env_fault_plan(&w.env, 0, false);
    }
    EXPECT_EQ(t, sim_oom_count(w.env.machine), 0);
    w.process[0].written = 1;
    verify(&w, 0);
    end(&w, 0);
    env_close(t, &w.env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(over_the_edge_without_swap, formats),
    KTAP_CASE_WITH(over_the_edge_with_swap, formats),
    KTAP_CASE_WITH(gets_nothing_more, formats),
    KTAP_CASE_WITH(copies_of_objects_go, formats),
    KTAP_CASE_WITH(parts_of_huge_pages_go, formats),
    KTAP_CASE_WITH(errors_where_there_is_one, formats),
    KTAP_CASE_WITH(nobody_left, formats),
    KTAP_CASE_WITH(failures_are_no_want, formats),
};
KTAP_SUITE(vmm_oom, cases);
