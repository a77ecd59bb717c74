/* CPUs that read, write and free slots beside those that compact the pool, write it back and move
 * its frames: many schedules of each.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/memory.h"
#include "swap/pool.h"

#include "sched_note.h"
#include "share.h"
#include <sim/sim.h>

#define CPUS  3u
#define EACH  2u /* slots of a CPU */
#define SLOTS (CPUS * EACH + 4)
#define WORDS (NEOMM_PAGE_SIZE / sizeof(uint64_t))

/* What a CPU does: with its own slots, or with all of the pool. */
enum act {
    REST,
    READ,
    STORE,  /* other pages in its slots, which the pool takes */
    HARDEN, /* ... that go to the device */
    EMPTY,  /* ... of one word */
    FREE,
    REUSE, /* frees them, takes others, stores */
    SHARE, /* a further user comes and goes */
    COMPACT,
    WRITE_BACK,
    MOVE /* all frames of the pool, one by one */
};

struct plan {
    const char *name;
    enum act act[CPUS];
    bool sparse; /* chains with room */
};

static const struct plan plans[] = {
    {"read, write back", {READ, WRITE_BACK}, false},
    {"store, write back", {STORE, WRITE_BACK}, false},
    {"harden, write back", {HARDEN, WRITE_BACK}, false},
    {"empty, write back", {EMPTY, WRITE_BACK}, false},
    {"free, write back", {FREE, WRITE_BACK}, false},
    {"reuse, write back", {REUSE, WRITE_BACK}, false},
    {"share, write back", {SHARE, WRITE_BACK}, false},
    {"read, compact", {READ, COMPACT}, true},
    {"store, compact", {STORE, COMPACT}, true},
    {"free, compact", {FREE, COMPACT}, true},
    {"reuse, compact", {REUSE, COMPACT}, true},
    {"read, move", {READ, MOVE}, false},
    {"store, move", {STORE, MOVE}, false},
    {"free, move", {FREE, MOVE}, false},
    {"store, store", {STORE, STORE}, true},
    {"store, free", {STORE, FREE}, true},
    {"write back, write back", {WRITE_BACK, WRITE_BACK}, false},
    {"compact, compact", {COMPACT, COMPACT}, true},
    {"compact, write back", {COMPACT, WRITE_BACK}, true},
    {"move, write back", {MOVE, WRITE_BACK}, false},
    {"move, move", {MOVE, MOVE}, false},
    {"move, compact", {MOVE, COMPACT}, true},
    {"harden, store, write back", {HARDEN, STORE, WRITE_BACK}, false},
    {"reuse, compact, write back", {REUSE, COMPACT, WRITE_BACK}, true},
    {"harden, write back, write back", {HARDEN, WRITE_BACK, WRITE_BACK}, false},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct held {
    struct neomm_swap_entry entry;
    uint64_t tag; /* 0: not in use */
};

struct match {
    struct ktap *t;
    const struct plan *plan;
    struct env env;
    uint32_t cpus, mistakes;
    neomm_frame_t frame[CPUS];
    struct held held[SLOTS]; /* the first ones by CPU */
};

static void mistake(struct match *m, uint32_t cpu, const char *text)
{
    if (m->mistakes++ < 10)
        ktap_note(m->t, "%s: CPU %u: %s", m->plan->name, cpu, text);
}

/* As many random words as the tag modulo 1024 says, and others. */
static void make_page(uint64_t *page, uint64_t tag)
{
    for (uint64_t i = 0; i < WORDS; i++)
        page[i] = i < tag % 1024 ? neomm__mix(tag * WORDS + i) : tag;
}

static uint64_t *bytes_of(struct match *m, uint32_t cpu)
{
    return neomm_direct_pointer(m->env.root, neomm_frame_paddr(m->frame[cpu]));
}

static void put(struct match *m, uint32_t cpu, struct held *held, uint64_t tag)
{
    struct neomm_swap_page page = {held->entry, m->frame[cpu], NEOMM_OK};
    make_page(bytes_of(m, cpu), tag);
    held->tag = tag;
    if (neomm_swap_write(m->env.root, &page, 1) != NEOMM_OK)
        mistake(m, cpu, "a page could not be written");
}

static void get(struct match *m, uint32_t cpu, const struct held *held)
{
    struct neomm_swap_page page = {held->entry, m->frame[cpu], NEOMM_OK};
    uint64_t want[WORDS];
    make_page(want, held->tag);
    if (neomm_swap_read(m->env.root, &page, 1) != NEOMM_OK)
        mistake(m, cpu, "a page could not be read");
    else if (memcmp(want, bytes_of(m, cpu), sizeof(want)) != 0)
        mistake(m, cpu, "a page is another one");
}

static void take(struct match *m, uint32_t cpu, struct held *held)
{
    if (neomm_swap_alloc(m->env.root, cpu, &held->entry) != NEOMM_OK)
        mistake(m, cpu, "no slot");
}

static void release(struct match *m, uint32_t cpu, struct held *held)
{
    if (neomm_swap_free(m->env.root, held->entry) != NEOMM_OK)
        mistake(m, cpu, "a slot could not be freed");
    held->tag = 0;
}

static void move_all(struct match *m, uint32_t cpu)
{
    struct neomm *root = m->env.root;
    for (uint32_t number = 1; number < (uint32_t)(((uint64_t)4 << 20) >> NEOMM_PAGE_SHIFT);
         number++)
        if (neomm__load_relaxed(&neomm__frame(root, neomm_frame(number))->kind) ==
                NEOMM__KIND_POOL &&
            neomm__pool_move_frame(root, neomm_frame(number)) &&
            neomm_pmm_free(root, neomm_frame(number), 0) != NEOMM_OK)
            mistake(m, cpu, "a frame that was moved could not be freed");
}

static void act_on(struct match *m, uint32_t cpu, struct held *held)
{
    uint64_t other = held->tag + 2048;
    switch (m->plan->act[cpu]) {
    case READ:
        get(m, cpu, held);
        break;
    case STORE:
        put(m, cpu, held, other);
        break;
    case HARDEN:
        put(m, cpu, held, other | 1023);
        break;
    case EMPTY:
        put(m, cpu, held, other & ~(uint64_t)1023);
        break;
    case FREE:
        release(m, cpu, held);
        return;
    case REUSE:
        release(m, cpu, held);
        take(m, cpu, held);
        put(m, cpu, held, other);
        break;
    case SHARE:
        if (neomm_swap_dup(m->env.root, held->entry) != NEOMM_OK ||
            neomm_swap_free(m->env.root, held->entry) != NEOMM_OK)
            mistake(m, cpu, "a slot had no further user");
        break;
    default:
        return;
    }
    get(m, cpu, held);
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    if (m->plan->act[cpu] == COMPACT)
        (void)neomm_swap_pool_compact(m->env.root);
    else if (m->plan->act[cpu] == WRITE_BACK)
        (void)neomm_swap_pool_write_back(m->env.root, SLOTS);
    else if (m->plan->act[cpu] == MOVE)
        move_all(m, cpu);
    for (uint32_t i = 0; i < EACH; i++)
        act_on(m, cpu, &m->held[cpu * EACH + i]);
}

/* All pages are of one class, of 8 objects in 3 frames; sparse, half of two chains are free. */
static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    const struct env_options options = {
        .layer = ENV_SWAP,
        .ram_bytes = 4u << 20,
        .cpus = m->cpus,
        .swap_pages = 64,
        .seed = seed,
        .format =
            (enum neomm_format)(sizeof(void *) == 8 ? NEOMM_FORMAT_4LEVEL : NEOMM_FORMAT_PAE)};
    struct held spare[SLOTS];
    m->mistakes = 0;
    if (!env_open(m->t, &m->env, &options) ||
        neomm_pmm_alloc_bulk(m->env.root, CPUS, 0, m->frame) != NEOMM_OK)
        return NULL;
    for (uint32_t i = 0; i < SLOTS; i++) {
        take(m, 0, &m->held[i]);
        put(m, 0, &m->held[i], 1024 * 3 * (i + 1) + 190);
        if (m->plan->sparse) {
            take(m, 0, &spare[i]);
            put(m, 0, &spare[i], 1024 * 3 * (i + 100) + 190);
        }
    }
    for (uint32_t i = 0; i < SLOTS && m->plan->sparse; i++)
        release(m, 0, &spare[i]);
    return m->env.machine;
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&m->env);
        return false;
    }
    env_fsck(m->t, &m->env);
    for (uint32_t i = 0; i < SLOTS; i++)
        if (m->held[i].tag) {
            get(m, 0, &m->held[i]);
            if (neomm_swap_users(m->env.root, m->held[i].entry) != 1)
                mistake(m, 0, "a slot has users that nobody knows");
            release(m, 0, &m->held[i]);
        }
    struct neomm_swap_stats stats;
    neomm_swap_stats(m->env.root, &stats);
    EXPECT_EQ(m->t, stats.used + stats.pool_frames + stats.corrupt, 0);
    EXPECT_OK(m->t, neomm_pmm_free_bulk(m->env.root, CPUS, m->frame, NULL));
    env_close(m->t, &m->env);
    return m->mistakes == 0 && m->t->failures == failures;
}

static void search(struct ktap *t, const struct sim_sched_options *options)
{
    static struct match match;
    match.t = t;
    match.plan = &plans[t->parameter];
    match.cpus = match.plan->act[2] == REST ? 2 : 3;
    const struct sim_scenario scenario = {match.cpus, &match, begin, run, end};
    sched_search(t, match.plan->name, &scenario, options);
}

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                        13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

static void by_seed(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                              .seed = 1,
                                              .schedules = share_of(40 * sched_factor()),
                                              .preemptions = 24};
    search(t, &options);
}

static void one_after_the_other(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .seed = t->parameter,
                                              .schedules = share_of(300 * sched_factor()),
                                              .preemptions = 2};
    search(t, &options);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
};
KTAP_SUITE(swap_pool_sched, cases);
