/* Write-back in batches: what it costs, and that what happens to one page on the way is nothing to
 * the others.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "sim/sim.h"
#include "vmm/vmm_priv.h"

#define PAGE  NEOMM_PAGE_SIZE
#define PAGES 32u
#define RW    (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t at;
    struct neomm_block_device *disk;
    struct neomm_block_device device; /* in front of the disk */
    void (*act)(struct world *w);     /* once, while the first write is on its way */
    uint32_t submissions, requests, reads;
    uint64_t value[PAGES];
};

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct world *w = device->context;
    void (*act)(struct world *) = w->act;
    if (requests[0]->operation == NEOMM_BLOCK_WRITE) {
        w->submissions++;
        w->requests += count;
        w->act = NULL;
        if (act)
            act(w);
    } else {
        w->reads += count;
    }
    w->disk->submit(w->disk, requests, count);
}

static void put(struct world *w, uint32_t page, uint64_t value)
{
    EXPECT_OK(w->t, env_access(&w->env, w->space, w->at + page * PAGE + 8, &value, 8, true, true));
    w->value[page] = value;
}

static void get(struct world *w, uint32_t page)
{
    uint64_t value = 0;
    EXPECT_OK(w->t, env_access(&w->env, w->space, w->at + page * PAGE + 8, &value, 8, false, true));
    EXPECT_EQ(w->t, value, w->value[page]);
}

static bool world_open(struct ktap *t, struct world *w, uint32_t slots)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter,
                                        .cpus = 2,
                                        .policy = "fifo",
                                        .no_pool = true};
    *w = (struct world){.t = t};
    if (!env_open(t, &w->env, &options))
        return false;
    w->root = w->env.root;
    w->disk = sim_disk_create(w->env.machine, slots + 1);
    sim_disk_make_swap(w->disk);
    w->device = *w->disk;
    w->device.context = w;
    w->device.submit = submit;
    EXPECT_OK(t, neomm_swap_add(w->root, &w->device, 0));
    w->reads = 0;
    EXPECT_OK(t, neomm_space_create(w->root, NULL, &w->space));
    env_switch_cpu(&w->env, 1);
    neomm_space_activate(w->root, w->space);
    env_switch_cpu(&w->env, 0);
    neomm_space_activate(w->root, w->space);
    EXPECT_OK(t, neomm_mmap(w->root, w->space, &w->at, PAGES * PAGE, RW, 0));
    for (uint32_t page = 0; page < PAGES; page++)
        put(w, page, 100 + page);
    (void)neomm_space_harvest(w->root, w->space);
    return true;
}

static void world_close(struct world *w)
{
    env_fsck(w->t, &w->env);
    neomm_space_activate(w->root, NULL);
    env_switch_cpu(&w->env, 1);
    neomm_space_activate(w->root, NULL);
    env_switch_cpu(&w->env, 0);
    EXPECT_OK(w->t, neomm_space_destroy(w->root, w->space));
    env_close(w->t, &w->env);
}

static bool is_in(struct world *w, uint32_t page)
{
    uint8_t in = 2;
    EXPECT_OK(w->t, neomm_mincore(w->root, w->space, w->at + page * PAGE, PAGE, &in));
    return in == 1;
}

static uint64_t counter(const struct world *w, enum neomm_counter which)
{
    return neomm__counter_sum(w->root, which);
}

static void all_are_there(struct world *w)
{
    for (uint32_t page = 0; page < PAGES; page++)
        get(w, page);
}

/* ---- costs ---- */

/* 32 pages: one submission, and two calls to the other CPU (D cleared, leaves gone). */
static void a_batch_costs(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, 64));
    uint64_t calls = counter(&w, NEOMM_COUNTER_SHOOTDOWN);
    uint64_t objects = counter(&w, NEOMM_COUNTER_KMALLOC);
    uint64_t frames = counter(&w, NEOMM_COUNTER_FRAME_ALLOC);
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), PAGES);
    EXPECT_EQ(t, w.submissions, 1);
    EXPECT_EQ(t, w.requests, PAGES);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SHOOTDOWN) - calls, 2);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_KMALLOC), objects);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_FRAME_ALLOC), frames);
    all_are_there(&w);
    EXPECT_EQ(t, w.reads, PAGES);
    /* They have copies: nothing is written, and only leaves go. */
    (void)neomm_space_harvest(w.root, w.space);
    calls = counter(&w, NEOMM_COUNTER_SHOOTDOWN);
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), PAGES);
    EXPECT_EQ(t, w.submissions, 1);
    EXPECT_EQ(t, counter(&w, NEOMM_COUNTER_SHOOTDOWN) - calls, 1);
    all_are_there(&w);
    world_close(&w);
}

/* ---- one page fails ---- */

/* Each write in turn is refused: its page goes to another slot, and nobody waits for it. */
static void a_write_fails(struct ktap *t)
{
    for (uint32_t nth = 1; nth <= PAGES; nth += 5) {
        struct neomm_swap_stats stats;
        struct world w;
        ASSERT(t, world_open(t, &w, 64));
        sim_disk_fault(w.disk, SIM_DISK_FAIL, nth, false);
        EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), PAGES);
        EXPECT_EQ(t, w.submissions, 2);
        EXPECT_EQ(t, w.requests, PAGES + 1);
        neomm_swap_stats(w.root, &stats);
        EXPECT_EQ(t, stats.bad, 1);
        EXPECT_EQ(t, stats.write_errors, 1);
        all_are_there(&w);
        world_close(&w);
    }
}

/* The device is gone: all stay, dirty, and a reclaim gives up soon. */
static void all_writes_fail(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, 256));
    sim_disk_fault(w.disk, SIM_DISK_FAIL, 1, true);
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), 0);
    EXPECT(t, w.submissions <= 4);
    for (uint32_t page = 0; page < PAGES; page++)
        EXPECT(t, is_in(&w, page));
    sim_disk_fault(w.disk, SIM_DISK_FAIL, 0, false);
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), PAGES);
    all_are_there(&w);
    world_close(&w);
}

/* There are slots for some. */
static void slots_run_out(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, 20));
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), 20);
    EXPECT_EQ(t, w.submissions, 1);
    all_are_there(&w);
    world_close(&w);
}

/* Every pass through a fault point fails from the nth on: what could not go is there. */
static void everything_fails(struct ktap *t)
{
    for (uint64_t nth = 1; nth < 80; nth += 3) {
        struct world w;
        ASSERT(t, world_open(t, &w, 64));
        (void)env_fault_plan(&w.env, nth, true);
        (void)neomm__reclaim(w.root, PAGES);
        (void)env_fault_plan(&w.env, 0, false);
        env_fsck(t, &w.env);
        all_are_there(&w);
        world_close(&w);
    }
}

/* ---- while the batch is on its way ---- */

static void meddle(struct world *w)
{
    struct neomm_space_stats stats;
    uint64_t out = counter(w, NEOMM_COUNTER_FAULT_SWAP_IN);
    put(w, 3, 333);
    get(w, 7);
    get(w, 31);
    EXPECT_OK(w->t, neomm_munmap(w->root, w->space, w->at + 5 * PAGE, PAGE));
    EXPECT_OK(w->t, neomm_mlock(w->root, w->space, w->at + 9 * PAGE, PAGE, 0));
    EXPECT_OK(w->t, neomm_mprotect(w->root, w->space, w->at + 11 * PAGE, PAGE, NEOMM_PROT_READ));
    neomm_vaddr_t old = w->at + 13 * PAGE, to = w->at + 2 * PAGES * PAGE;
    EXPECT_OK(w->t, neomm_mremap(w->root, w->space, old, PAGE, PAGE,
                                 NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED, &to));
    EXPECT_OK(w->t, neomm_mremap(w->root, w->space, to, PAGE, PAGE,
                                 NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED, &old));
    /* All of them are in memory while they are written. */
    EXPECT_EQ(w->t, counter(w, NEOMM_COUNTER_FAULT_SWAP_IN), out);
    neomm_space_stats(w->root, w->space, &stats);
    EXPECT_EQ(w->t, stats.resident_bytes, (PAGES - 1) * PAGE);
}

/* One is written to, one is unmapped, one is locked: these do not go, and all others do. */
static void meanwhile(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, 64));
    w.act = meddle;
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), PAGES - 2);
    for (uint32_t page = 0; page < PAGES; page++)
        if (page != 5)
            EXPECT_EQ(t, is_in(&w, page), page == 9);
    for (uint32_t page = 0; page < PAGES; page++)
        if (page != 5)
            get(&w, page);
    world_close(&w);
}

static struct neomm_space *child;

static void make_child(struct world *w)
{
    EXPECT_OK(w->t, neomm_space_fork(w->root, w->space, &child));
    put(w, 4, 444);
}

/* A child is born meanwhile: it has what the parent had then. */
static void born_meanwhile(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, 128));
    w.act = make_child;
    (void)neomm__reclaim(w.root, PAGES);
    env_fsck(t, &w.env);
    all_are_there(&w);
    neomm_space_activate(w.root, child);
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t value = 0;
        EXPECT_OK(t, env_access(&w.env, child, w.at + page * PAGE + 8, &value, 8, false, true));
        EXPECT_EQ(t, value, 100 + page);
    }
    neomm_space_activate(w.root, w.space);
    EXPECT_OK(t, neomm_space_destroy(w.root, child));
    world_close(&w);
}

/* ---- without a free frame ---- */

/* Not one frame is left, also of the reserve: reclaim frees some all the same. */
static void no_frame_is_free(struct ktap *t)
{
    static neomm_frame_t held[8192];
    uint32_t count = 0;
    struct world w;
    ASSERT(t, world_open(t, &w, 64));
    while (count < 8192 &&
           neomm_pmm_alloc(w.root, 0, NEOMM_ATOMIC | NEOMM_RESERVE, &held[count]) == NEOMM_OK)
        count++;
    EXPECT(t, count > 1000 && count < 8192);
    EXPECT_EQ(t, neomm_pmm_free_frames(w.root), 0);
    EXPECT_EQ(t, neomm__reclaim(w.root, PAGES), PAGES);
    EXPECT_EQ(t, w.submissions, 1);
    EXPECT_OK(t, neomm_pmm_free_bulk(w.root, count, held, NULL));
    all_are_there(&w);
    world_close(&w);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(a_batch_costs, formats),    KTAP_CASE_WITH(a_write_fails, formats),
    KTAP_CASE_WITH(all_writes_fail, formats),  KTAP_CASE_WITH(slots_run_out, formats),
    KTAP_CASE_WITH(everything_fails, formats), KTAP_CASE_WITH(meanwhile, formats),
    KTAP_CASE_WITH(born_meanwhile, formats),   KTAP_CASE_WITH(no_frame_is_free, formats),
};
KTAP_SUITE(write_back, cases);
