/* What devices get from swap: order, runs, how much at a time, and discards of what is free only.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "base/memory.h"
#include "swap/swap_priv.h"

#include <sim/sim.h>

#include <pthread.h>

#define BATCH   NEOMM_POLICY_BATCH
#define CLUSTER NEOMM__SWAP_CLUSTER

static const enum neomm_format formats[] = ENV_FORMATS;

struct bench {
    struct env env;
    struct neomm_block_device *disk;
    struct neomm__swap_area *area;
};

static bool bench_open(struct ktap *t, struct bench *bench, uint32_t clusters, uint32_t flags,
                       uint64_t seed)
{
    const struct env_options options = {
        .layer = ENV_SWAP, .format = formats[0], .cpus = 4, .seed = seed};
    if (!env_open(t, &bench->env, &options))
        return false;
    bench->disk = sim_disk_create(bench->env.machine, clusters * CLUSTER);
    sim_disk_make_swap(bench->disk);
    bench->disk->flags = flags ? NEOMM_BLOCK_DISCARDS : 0;
    EXPECT_OK(t, neomm_swap_add_with(bench->env.root, bench->disk, 0, flags));
    bench->area = &bench->env.root->swap->area[0];
    return true;
}

static neomm_frame_t new_frame(struct bench *bench)
{
    neomm_frame_t frame = {0};
    neomm_status status = neomm_pmm_alloc(bench->env.root, 0, 0, &frame);
    NEOMM__ASSERT(status == NEOMM_OK);
    return frame;
}

static void fill(struct bench *bench, neomm_frame_t frame, uint64_t tag)
{
    uint64_t *words = neomm_direct_pointer(bench->env.root, neomm_frame_paddr(frame));
    for (uint32_t i = 0; i < NEOMM_PAGE_SIZE / 8; i++)
        words[i] = neomm__mix(tag + i);
}

static bool holds(struct bench *bench, neomm_frame_t frame, uint64_t tag)
{
    const uint64_t *words = neomm_direct_pointer(bench->env.root, neomm_frame_paddr(frame));
    bool same = true;
    for (uint32_t i = 0; i < NEOMM_PAGE_SIZE / 8; i++)
        same &= words[i] == neomm__mix(tag + i);
    return same;
}

static void take_all(struct ktap *t, struct bench *bench, uint32_t owner, uint32_t count)
{
    struct neomm_swap_entry entry;
    while (count-- > 0)
        EXPECT_OK(t, neomm_swap_alloc(bench->env.root, owner, &entry));
}

static void give(struct ktap *t, struct bench *bench, uint32_t first, uint32_t end)
{
    struct neomm_swap_entry entry;
    for (uint32_t slot = first; slot < end; slot++) {
        EXPECT_OK(t, neomm_swap_entry_of(bench->env.root, slot, &entry));
        EXPECT_OK(t, neomm_swap_free(bench->env.root, entry));
    }
}

/* ---- order and runs ---- */

static struct neomm_block_request *requests_of(struct neomm_block_request *request,
                                               struct neomm_block_request **list,
                                               const uint32_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        request[i] = (struct neomm_block_request){.operation = NEOMM_BLOCK_WRITE, .page = pages[i]};
        list[i] = &request[i];
    }
    return request;
}

static void runs(struct ktap *t)
{
    static const uint32_t pages[] = {7, 8, 9, 11, 12, 12, 13, 5};
    struct neomm_block_request request[8], *list[8];
    (void)requests_of(request, list, pages, 8);
    EXPECT_EQ(t, neomm_block_run(list, 8), 3);
    EXPECT_EQ(t, neomm_block_run(list, 2), 2);
    EXPECT_EQ(t, neomm_block_run(list + 3, 5), 2);
    EXPECT_EQ(t, neomm_block_run(list + 5, 3), 2);
    EXPECT_EQ(t, neomm_block_run(list + 7, 1), 1);
    request[1].operation = NEOMM_BLOCK_READ;
    EXPECT_EQ(t, neomm_block_run(list, 8), 1);
    request[0].operation = request[1].operation = NEOMM_BLOCK_DISCARD;
    EXPECT_EQ(t, neomm_block_run(list, 8), 1);
}

/* A batch in any order becomes one transfer for each run of slots. */
static void batches_are_sorted(struct ktap *t)
{
    struct neomm_swap_page pages[BATCH];
    struct bench bench;
    if (!bench_open(t, &bench, 4, 0, 1))
        return;
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t at = i * 13 % BATCH;
        EXPECT_OK(t, neomm_swap_alloc(bench.env.root, 1, &pages[at].entry));
        pages[at].frame = new_frame(&bench);
        fill(&bench, pages[at].frame, at);
    }
    for (unsigned way = 0; way < 2; way++) {
        uint64_t before = sim_disk_transfers(bench.disk);
        uint64_t operations = sim_disk_operations(bench.disk);
        EXPECT_OK(t, (way ? neomm_swap_read : neomm_swap_write)(bench.env.root, pages, BATCH));
        EXPECT_EQ(t, sim_disk_operations(bench.disk) - operations, BATCH);
        EXPECT_EQ(t, sim_disk_transfers(bench.disk) - before, 1);
    }
    for (uint32_t i = 0; i < BATCH; i++) {
        EXPECT(t, holds(&bench, pages[i].frame, i));
        EXPECT_OK(t, neomm_swap_free(bench.env.root, pages[i].entry));
        EXPECT_OK(t, neomm_pmm_free(bench.env.root, pages[i].frame, 0));
    }
    env_close(t, &bench.env);
}

struct writer {
    pthread_t thread;
    struct bench *bench;
    uint32_t cpu, wrong;
};

static void *write_much(void *argument)
{
    struct writer *writer = argument;
    struct neomm *root = writer->bench->env.root;
    struct neomm_swap_page pages[BATCH];
    sim_bind(writer->bench->env.machine, writer->cpu);
    for (uint32_t i = 0; i < BATCH; i++) {
        writer->wrong += neomm_swap_alloc(root, writer->cpu, &pages[i].entry) != NEOMM_OK;
        pages[i].frame = new_frame(writer->bench);
        fill(writer->bench, pages[i].frame, writer->cpu * BATCH + i);
    }
    for (uint32_t round = 0; round < 20; round++)
        writer->wrong += neomm_swap_write(root, pages, BATCH) != NEOMM_OK;
    for (uint32_t i = 0; i < BATCH; i++) {
        writer->wrong += neomm_swap_free(root, pages[i].entry) != NEOMM_OK;
        writer->wrong += neomm_pmm_free(root, pages[i].frame, 0) != NEOMM_OK;
    }
    sim_unbind();
    return NULL;
}

/* Parameter: the device's depth. Three CPUs write at once; never are more on their way. */
static void bounded_in_flight(struct ktap *t)
{
    struct writer writer[3];
    struct bench bench;
    if (!bench_open(t, &bench, 8, 0, 1))
        return;
    bench.disk->depth = (uint32_t)t->parameter;
    for (uint32_t i = 0; i < 3; i++) {
        writer[i] = (struct writer){.bench = &bench, .cpu = i + 1};
        ASSERT(t, pthread_create(&writer[i].thread, NULL, write_much, &writer[i]) == 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        (void)pthread_join(writer[i].thread, NULL);
        EXPECT_EQ(t, writer[i].wrong, 0);
    }
    uint64_t most = t->parameter ? t->parameter : NEOMM_BLOCK_IN_FLIGHT;
    EXPECT(t, sim_disk_most_on_way(bench.disk) <= most);
    EXPECT(t, sim_disk_most_on_way(bench.disk) >= (most < BATCH ? most : BATCH));
    EXPECT_EQ(t, bench.area->in_flight + bench.area->throttled, 0);
    env_close(t, &bench.env);
}

/* ---- discards ---- */

static uint32_t stale(const struct bench *bench)
{
    return bench->area->list[NEOMM__CLUSTER_STALE].count;
}

static void write_one(struct ktap *t, struct bench *bench)
{
    struct neomm_swap_page page = {{0, 0, 0}, new_frame(bench), NEOMM_OK};
    fill(bench, page.frame, 1);
    EXPECT_OK(t, neomm_swap_alloc(bench->env.root, 77, &page.entry));
    EXPECT_OK(t, neomm_swap_write(bench->env.root, &page, 1));
    EXPECT_OK(t, neomm_swap_free(bench->env.root, page.entry));
    EXPECT_OK(t, neomm_pmm_free(bench->env.root, page.frame, 0));
}

/* Free clusters are discarded sixteen together at the earliest, neighbours in one request. */
static void discarded_in_batches(struct ktap *t)
{
    struct bench bench;
    if (!bench_open(t, &bench, 48, NEOMM_SWAP_DISCARD, 1))
        return;
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), 0);
    take_all(t, &bench, 1, 40 * CLUSTER - 1);
    give(t, &bench, 1, 15 * CLUSTER);
    EXPECT_EQ(t, stale(&bench), 15);
    write_one(t, &bench);
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), 0);
    give(t, &bench, 20 * CLUSTER, 21 * CLUSTER);
    uint64_t operations = sim_disk_operations(bench.disk);
    write_one(t, &bench); /* its cluster is free again only after it */
    EXPECT(t, sim_disk_operations(bench.disk) - operations <= 1 + 3);
    EXPECT(t, sim_disk_discarded(bench.disk) >= 10 * CLUSTER);
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), bench.area->discarded);
    env_fsck(t, &bench.env);
    uint64_t more = neomm_swap_discard(bench.env.root);
    EXPECT(t, more > 0);
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), bench.area->discarded);
    EXPECT_EQ(t, neomm_swap_discard(bench.env.root), 0);
    EXPECT_EQ(t, stale(&bench), 0);
    give(t, &bench, 15 * CLUSTER, 20 * CLUSTER);
    give(t, &bench, 21 * CLUSTER, 40 * CLUSTER);
    struct neomm_swap_area area;
    EXPECT_OK(t, neomm_swap_area_at(bench.env.root, 0, &area));
    EXPECT_EQ(t, area.discarded, bench.area->discarded);
    env_close(t, &bench.env);
}

/* A cluster that is needed before is not discarded, and its slots are as good. */
static void needed_before(struct ktap *t)
{
    struct bench bench;
    if (!bench_open(t, &bench, 4, NEOMM_SWAP_DISCARD, 1))
        return;
    for (uint32_t round = 0; round < 3; round++) {
        take_all(t, &bench, 1, 4 * CLUSTER - 1);
        EXPECT_EQ(t, stale(&bench), 0);
        give(t, &bench, 1, 4 * CLUSTER);
        EXPECT_EQ(t, stale(&bench), 4);
    }
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), 0);
    env_close(t, &bench.env);
}

/* All of it when the area is added, but not the header. */
static void discarded_when_added(struct ktap *t)
{
    struct bench bench;
    if (!bench_open(t, &bench, 4, NEOMM_SWAP_DISCARD_ONCE, 1))
        return;
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), 4 * CLUSTER - 1);
    take_all(t, &bench, 1, 4 * CLUSTER - 1);
    give(t, &bench, 1, 4 * CLUSTER);
    EXPECT_EQ(t, stale(&bench), 0);
    EXPECT_EQ(t, neomm_swap_discard(bench.env.root), 0);
    /* The header is as it was. */
    EXPECT_OK(t, neomm_swap_remove(bench.env.root, bench.disk, NULL, NULL));
    EXPECT_OK(t, neomm_swap_add(bench.env.root, bench.disk, 0));
    env_close(t, &bench.env);
}

static void discard_fails(struct ktap *t)
{
    struct bench bench;
    if (!bench_open(t, &bench, 8, NEOMM_SWAP_DISCARD, 1))
        return;
    take_all(t, &bench, 1, 8 * CLUSTER - 1);
    give(t, &bench, 1, 8 * CLUSTER);
    sim_disk_fault(bench.disk, SIM_DISK_FAIL, 1, false);
    (void)neomm_swap_discard(bench.env.root);
    EXPECT(t, strstr(sim_last_log(bench.env.machine), "discard failed") != NULL);
    EXPECT_EQ(t, stale(&bench), 0);
    env_fsck(t, &bench.env);
    take_all(t, &bench, 1, 8 * CLUSTER - 1);
    give(t, &bench, 1, 8 * CLUSTER);
    EXPECT_EQ(t, neomm_swap_discard(bench.env.root), 0);
    EXPECT_EQ(t, sim_disk_discarded(bench.disk), 0);
    env_close(t, &bench.env);
}

/* ---- discards beside those who take slots ---- */

struct race {
    struct ktap *t;
    struct bench bench;
    neomm_frame_t frame[3];
    uint32_t mistakes;
    bool removes;
};

static struct sim *race_begin(void *context, uint64_t seed)
{
    struct race *race = context;
    struct bench *bench = &race->bench;
    race->mistakes = 0;
    if (!bench_open(race->t, bench, 4, NEOMM_SWAP_DISCARD, seed))
        return NULL;
    take_all(race->t, bench, 9, 4 * CLUSTER - 1);
    give(race->t, bench, 1, 4 * CLUSTER);
    for (uint32_t i = 0; i < 3; i++)
        race->frame[i] = new_frame(bench);
    return bench->env.machine;
}

/* Takes slots, writes them, and reads them back: nobody discards them. */
static void use_slots(struct race *race, uint32_t cpu)
{
    struct neomm *root = race->bench.env.root;
    for (uint32_t i = 0; i < 3; i++) {
        struct neomm_swap_page page = {{0, 0, 0}, race->frame[cpu], NEOMM_OK};
        if (neomm_swap_alloc(root, cpu + i, &page.entry) != NEOMM_OK) {
            race->mistakes += !race->removes;
            continue;
        }
        fill(&race->bench, page.frame, cpu * 100 + i);
        race->mistakes += neomm_swap_write(root, &page, 1) != NEOMM_OK;
        fill(&race->bench, page.frame, 5);
        race->mistakes += neomm_swap_read(root, &page, 1) != NEOMM_OK;
        race->mistakes += !holds(&race->bench, page.frame, cpu * 100 + i);
        race->mistakes += neomm_swap_free(root, page.entry) != NEOMM_OK;
    }
}

static void race_run(void *context, uint32_t cpu)
{
    struct race *race = context;
    struct neomm *root = race->bench.env.root;
    if (cpu != 0) {
        use_slots(race, cpu);
        return;
    }
    (void)neomm_swap_discard(root);
    if (race->removes) {
        neomm_status status = neomm_swap_remove(root, race->bench.disk, NULL, NULL);
        race->mistakes += status != NEOMM_OK && status != NEOMM_E_BUSY;
    } else {
        (void)neomm_swap_discard(root);
    }
}

static bool race_end(void *context, enum sim_sched_end how)
{
    struct race *race = context;
    unsigned failures = race->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&race->bench.env);
        return false;
    }
    for (uint32_t i = 0; i < 3; i++)
        EXPECT_OK(race->t, neomm_pmm_free(race->bench.env.root, race->frame[i], 0));
    env_close(race->t, &race->bench.env);
    return race->mistakes == 0 && race->t->failures == failures;
}

/* Parameter: is the area removed after its discard? */
static void discard_races(struct ktap *t)
{
    static struct race race;
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    race = (struct race){.t = t, .removes = t->parameter != 0};
    const struct sim_scenario scenario = {3, &race, race_begin, race_run, race_end};
    const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                              .seed = 1,
                                              .schedules = share_of(600 * sched_factor()),
                                              .preemptions = 20};
    sched_search(t, "discard, alloc, alloc", &scenario, &options);
}

/* ---- entries of an area that was removed ---- */

struct old {
    struct ktap *t;
    struct bench bench;
    struct neomm_swap_entry entry;
    uint32_t mistakes;
};

static struct sim *old_begin(void *context, uint64_t seed)
{
    struct old *old = context;
    old->mistakes = 0;
    if (!bench_open(old->t, &old->bench, 2, 0, seed))
        return NULL;
    EXPECT_OK(old->t, neomm_swap_alloc(old->bench.env.root, 1, &old->entry));
    EXPECT_OK(old->t, neomm_swap_free(old->bench.env.root, old->entry));
    return old->bench.env.machine;
}

/* The entry names nothing, whatever comes and goes. */
static void old_run(void *context, uint32_t cpu)
{
    struct old *old = context;
    struct neomm *root = old->bench.env.root;
    for (uint32_t i = 0; i < 2 && cpu == 0; i++) {
        old->mistakes += neomm_swap_remove(root, old->bench.disk, NULL, NULL) != NEOMM_OK;
        old->mistakes += neomm_swap_add(root, old->bench.disk, 0) != NEOMM_OK;
    }
    for (uint32_t i = 0; i < 6 && cpu != 0; i++) {
        struct neomm_swap_entry found;
        old->mistakes += neomm_swap_dup(root, old->entry) != NEOMM_E_NOENT;
        old->mistakes += neomm_swap_users(root, old->entry) != 0;
        old->mistakes += neomm_swap_free(root, old->entry) != NEOMM_E_NOENT;
        old->mistakes += neomm_swap_entry_of(root, old->entry.slot, &found) != NEOMM_E_NOENT;
    }
}

static bool old_end(void *context, enum sim_sched_end how)
{
    struct old *old = context;
    unsigned failures = old->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&old->bench.env);
        return false;
    }
    env_close(old->t, &old->bench.env);
    return old->mistakes == 0 && old->t->failures == failures;
}

static void old_entries(struct ktap *t)
{
    static struct old old;
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    old = (struct old){.t = t};
    const struct sim_scenario scenario = {2, &old, old_begin, old_run, old_end};
    const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                              .seed = 1,
                                              .schedules = share_of(1000 * sched_factor()),
                                              .preemptions = 20};
    sched_search(t, "remove, old entries", &scenario, &options);
}

static const uint64_t depths[] = {0, 1, 5, 33};
static const uint64_t no_yes[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE(runs),
    KTAP_CASE(batches_are_sorted),
    KTAP_CASE_WITH(bounded_in_flight, depths),
    KTAP_CASE(discarded_in_batches),
    KTAP_CASE(needed_before),
    KTAP_CASE(discarded_when_added),
    KTAP_CASE(discard_fails),
    KTAP_CASE_WITH(discard_races, no_yes),
    KTAP_CASE(old_entries),
};

KTAP_SUITE(swap_submit, cases);
