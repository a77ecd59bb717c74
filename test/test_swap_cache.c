/* The swap cache: a page that several have in swap is read once, for all of them.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "swap/swap_cache.h"
#include "vmm/migrate.h"
#include "vmm/tally.h"

#define PAGE   NEOMM_PAGE_SIZE
#define PAGES  4u
#define SPACES 4u
#define RW     (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct family {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space[SPACES]; /* the first is the parent of the others */
    neomm_vaddr_t at;
};

static uint64_t reads(const struct family *f)
{
    return neomm__counter_sum(f->root, NEOMM_COUNTER_SWAP_READ);
}

static neomm_status word(struct family *f, unsigned who, uint32_t page, uint64_t *value, bool write)
{
    neomm_space_activate(f->root, f->space[who]);
    return env_access(&f->env, f->space[who], f->at + page * PAGE + 16, value, 8, write, true);
}

static void put(struct family *f, unsigned who, uint32_t page, uint64_t value)
{
    EXPECT_OK(f->t, word(f, who, page, &value, true));
}

static void expect(struct family *f, unsigned who, uint32_t page, uint64_t value)
{
    uint64_t found = 0;
    EXPECT_OK(f->t, word(f, who, page, &found, false));
    EXPECT_EQ(f->t, found, value);
}

/* All of its pages go, in all spaces. */
static void evict_all(struct family *f)
{
    for (unsigned i = 0; i < 3; i++)
        (void)neomm__reclaim(f->root, SPACES * PAGES);
    for (unsigned who = 0; who < SPACES; who++)
        if (f->space[who])
            EXPECT_EQ(f->t, neomm__resident(f->root, f->space[who]), 0);
}

static bool family_open(struct ktap *t, struct family *f, const struct neomm_limits *limits)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 64};
    *f = (struct family){.t = t};
    if (!env_open(t, &f->env, &options))
        return false;
    f->root = f->env.root;
    EXPECT_OK(t, neomm_space_create(f->root, limits, &f->space[0]));
    EXPECT_OK(t, neomm_mmap(f->root, f->space[0], &f->at, PAGES * PAGE, RW, 0));
    for (uint32_t page = 0; page < PAGES; page++)
        put(f, 0, page, 100 + page);
    for (unsigned who = 1; who < SPACES; who++)
        EXPECT_OK(t, neomm_space_fork(f->root, f->space[0], &f->space[who]));
    return true;
}

static void leave(struct family *f, unsigned who)
{
    neomm_space_activate(f->root, NULL);
    if (f->space[who])
        EXPECT_OK(f->t, neomm_space_destroy(f->root, f->space[who]));
    f->space[who] = NULL;
}

static void family_close(struct family *f)
{
    env_fsck(f->t, &f->env);
    for (unsigned who = 0; who < SPACES; who++)
        leave(f, who);
    env_close(f->t, &f->env);
}

static neomm_frame_t frame_of(struct family *f, unsigned who, uint32_t page)
{
    struct neomm_mapping leaf;
    EXPECT_OK(f->t,
              neomm_paging_query(f->root, &f->space[who]->tables, f->at + page * PAGE, &leaf));
    return leaf.state == NEOMM_MAPPING_PRESENT ? neomm_paddr_frame(leaf.paddr) : neomm_frame(0);
}

/* ---- what is read how often ---- */

static void read_once(struct ktap *t)
{
    struct family f;
    ASSERT(t, family_open(t, &f, NULL));
    for (unsigned round = 0; round < 2; round++) {
        evict_all(&f);
        uint64_t before = reads(&f);
        for (unsigned who = 0; who < SPACES; who++)
            for (uint32_t page = 0; page < PAGES; page++)
                expect(&f, who, page, 100 + page);
        EXPECT_EQ(t, reads(&f) - before, PAGES);
        for (unsigned who = 1; who < SPACES; who++)
            EXPECT_EQ(t, frame_of(&f, who, 0).number, frame_of(&f, 0, 0).number);
        env_fsck(t, &f.env);
    }
    family_close(&f);
}

/* Who writes has a copy of his own, and the others what was there; the last one keeps the frame. */
static void writes_part_them(struct ktap *t)
{
    struct family f;
    ASSERT(t, family_open(t, &f, NULL));
    evict_all(&f);
    expect(&f, 0, 0, 100);
    neomm_frame_t frame = frame_of(&f, 0, 0);
    uint64_t before = reads(&f);
    put(&f, 1, 0, 201); /* its leaf is in swap: it copies what is in memory */
    put(&f, 2, 0, 202);
    env_fsck(t, &f.env);
    expect(&f, 3, 0, 100);
    put(&f, 0, 0, 200);
    EXPECT_EQ(t, reads(&f), before);
    EXPECT_EQ(t, frame_of(&f, 3, 0).number, frame.number);
    put(&f, 3, 0, 203);
    EXPECT_EQ(t, frame_of(&f, 3, 0).number, frame.number);
    evict_all(&f);
    for (unsigned who = 0; who < SPACES; who++)
        expect(&f, who, 0, 200 + who);
    family_close(&f);
}

/* Alone with a page that others have in swap still: it is theirs as it was. */
static void alone_it_is_taken_out(struct ktap *t)
{
    struct family f;
    struct neomm_swap_entry slot;
    ASSERT(t, family_open(t, &f, NULL));
    evict_all(&f);
    expect(&f, 0, 1, 101);
    const struct neomm__frame *entry = neomm__frame(f.root, frame_of(&f, 0, 1));
    EXPECT_OK(t, neomm_swap_entry_of(f.root, entry->owner, &slot));
    EXPECT_EQ(t, neomm__swap_cached(f.root, slot).number, frame_of(&f, 0, 1).number);
    put(&f, 0, 1, 1);
    EXPECT_EQ(t, neomm__swap_cached(f.root, slot).number, 0);
    env_fsck(t, &f.env);
    for (unsigned who = 1; who < SPACES; who++)
        expect(&f, who, 1, 101);
    expect(&f, 0, 1, 1);
    evict_all(&f);
    expect(&f, 0, 1, 1);
    expect(&f, 2, 1, 101);
    /* A first fault that writes has the page for itself at once. */
    evict_all(&f);
    put(&f, 3, 2, 2);
    expect(&f, 1, 2, 102);
    expect(&f, 3, 2, 2);
    family_close(&f);
}

/* Spaces go, the one that read the page first; what is found stays right. */
static void the_reader_goes(struct ktap *t)
{
    struct family f;
    ASSERT(t, family_open(t, &f, NULL));
    evict_all(&f);
    expect(&f, 0, 0, 100);
    expect(&f, 1, 0, 100);
    leave(&f, 0);
    uint64_t before = reads(&f);
    expect(&f, 2, 0, 100);
    EXPECT_EQ(t, reads(&f), before);
    leave(&f, 1);
    leave(&f, 2);
    env_fsck(t, &f.env);
    expect(&f, 3, 0, 100);
    EXPECT_EQ(t, reads(&f), before + 1);
    expect(&f, 3, 1, 101);
    family_close(&f);
}

/* At its limit a space gives up a leaf of a page that others keep: it comes back without a read. */
static void a_leaf_that_went(struct ktap *t)
{
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 2 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    struct family f;
    ASSERT(t, family_open(t, &f, &limits));
    for (unsigned round = 0; round < 3; round++)
        for (uint32_t page = 0; page < PAGES; page++)
            for (unsigned who = 0; who < SPACES; who++)
                expect(&f, who, page, 100 + page);
    env_fsck(t, &f.env);
    uint64_t before = reads(&f);
    expect(&f, 0, PAGES - 1, 100 + PAGES - 1);
    expect(&f, 0, PAGES - 2, 100 + PAGES - 2);
    expect(&f, 1, PAGES - 1, 100 + PAGES - 1);
    EXPECT_EQ(t, reads(&f), before);
    family_close(&f);
}

/* The frame moves: those who come after find it where it is. */
static void the_frame_moves(struct ktap *t)
{
    struct family f;
    ASSERT(t, family_open(t, &f, NULL));
    evict_all(&f);
    expect(&f, 0, 0, 100);
    neomm_frame_t old = frame_of(&f, 0, 0);
    uint64_t before = reads(&f);
    EXPECT(t, neomm__migrate(f.root, old));
    EXPECT_OK(t, neomm_pmm_free(f.root, old, 0));
    EXPECT(t, frame_of(&f, 0, 0).number != old.number);
    expect(&f, 1, 0, 100);
    EXPECT_EQ(t, frame_of(&f, 1, 0).number, frame_of(&f, 0, 0).number);
    EXPECT_EQ(t, reads(&f), before);
    family_close(&f);
}

/* No memory for one more mapping: then the page is read once more, and that is all. */
static void a_set_cannot_grow(struct ktap *t)
{
    struct family f;
    ASSERT(t, family_open(t, &f, NULL));
    evict_all(&f);
    expect(&f, 0, 0, 100);
    for (uint64_t nth = 1; nth < 12; nth++) {
        (void)env_fault_plan(&f.env, nth, false);
        uint64_t value = 100;
        neomm_status status = word(&f, (unsigned)(1 + nth % 3), 0, &value, false);
        (void)env_fault_plan(&f.env, 0, false);
        EXPECT(t, status != NEOMM_OK || value == 100);
        env_fsck(t, &f.env);
        evict_all(&f);
        expect(&f, 0, 0, 100);
    }
    family_close(&f);
}

/* ---- several CPUs ---- */

/* What each does to page 0: the space with its number reads, writes, evicts, or leaves. */
enum act { REST, READ, WRITE, EVICT, MOVE, GO, SAME };

struct plan {
    const char *name;
    enum act act[3];
    uint64_t most; /* reads of the slot; 0: as many as there are */
};

static const struct plan plans[] = {
    {"read, read", {READ, READ}, 1},
    {"read, read in one space", {READ, SAME}, 1},
    {"read, read, read", {READ, READ, SAME}, 1},
    {"read, write", {READ, WRITE}, 0},
    {"write, write", {WRITE, WRITE}, 0},
    {"read, read, evict", {READ, READ, EVICT}, 0},
    {"write, read, evict", {WRITE, READ, EVICT}, 0},
    {"read, go", {READ, GO}, 0},
    {"read, go, read", {READ, GO, READ}, 0},
    {"read, move, read", {READ, MOVE, READ}, 0},
    {"write, go, read", {WRITE, GO, READ}, 0},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct match {
    struct family f;
    const struct plan *plan;
    uint32_t cpus;
    bool resident; /* page 0 is in memory, of the last space, when they begin */
    bool wrong;
    uint64_t before;
};

static void do_act(void *context, uint32_t cpu)
{
    struct match *m = context;
    struct family *f = &m->f;
    uint64_t value = 300 + cpu, found = 0;
    uint32_t who = m->plan->act[cpu] == SAME ? 0 : cpu;
    switch (m->plan->act[cpu]) {
    case READ:
    case SAME:
        m->wrong |= word(f, who, 0, &found, false) != NEOMM_OK || found != 100;
        break;
    case WRITE:
        m->wrong |= word(f, who, 0, &value, true) != NEOMM_OK ||
                    word(f, who, 0, &found, false) != NEOMM_OK || found != value;
        break;
    case EVICT:
        (void)neomm__reclaim(f->root, 2);
        break;
    case MOVE: {
        neomm_frame_t frame = frame_of(f, SPACES - 1, 0);
        if (!neomm_frame_is_nil(frame) && neomm__migrate(f->root, frame))
            m->wrong |= neomm_pmm_free(f->root, frame, 0) != NEOMM_OK;
        break;
    }
    case GO:
        leave(f, who);
        break;
    default:
        break;
    }
    neomm_space_activate(f->root, NULL);
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    struct ktap *t = m->f.t;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = 4u << 20,
                                        .cpus = m->cpus,
                                        .swap_pages = 32,
                                        .seed = seed};
    m->f = (struct family){.t = t};
    m->wrong = false;
    if (!env_open(t, &m->f.env, &options))
        return NULL;
    m->f.root = m->f.env.root;
    EXPECT_OK(t, neomm_space_create(m->f.root, NULL, &m->f.space[0]));
    EXPECT_OK(t, neomm_mmap(m->f.root, m->f.space[0], &m->f.at, PAGES * PAGE, RW, 0));
    put(&m->f, 0, 0, 100);
    for (unsigned who = 1; who < SPACES; who++)
        EXPECT_OK(t, neomm_space_fork(m->f.root, m->f.space[0], &m->f.space[who]));
    evict_all(&m->f);
    m->resident = m->plan->most == 0 && (seed & 2);
    if (m->resident)
        expect(&m->f, SPACES - 1, 0, 100);
    neomm_space_activate(m->f.root, NULL);
    m->before = reads(&m->f);
    return m->f.env.machine;
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->f.t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&m->f.env);
        return false;
    }
    if (m->plan->most != 0)
        EXPECT_EQ(m->f.t, reads(&m->f) - m->before, m->plan->most);
    for (unsigned who = 0; who < SPACES; who++)
        if (m->f.space[who])
            expect(&m->f, who, 0, who < 3 && m->plan->act[who] == WRITE ? 300 + who : 100);
    neomm_space_activate(m->f.root, NULL);
    family_close(&m->f);
    return !m->wrong && m->f.t->failures == failures;
}

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

static void side_by_side(struct ktap *t)
{
    static struct match match;
    const struct plan *plan = &plans[t->parameter];
    match.f.t = t;
    match.plan = plan;
    match.cpus = plan->act[2] == REST ? 2 : 3;
    const struct sim_scenario scenario = {match.cpus, &match, begin, do_act, end};
    const struct sim_sched_options random = {.mode = SIM_SCHED_RANDOM,
                                             .seed = 4,
                                             .schedules = share_of(120 * sched_factor()),
                                             .preemptions = 24};
    const struct sim_sched_options all = {.mode = SIM_SCHED_EXHAUSTIVE,
                                          .seed = t->parameter * 2,
                                          .schedules = share_of(500 * sched_factor()),
                                          .preemptions = sched_factor() > 1 ? 2 : 1};
    sched_search(t, plan->name, &scenario, &random);
    sched_search(t, plan->name, &scenario, &all);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(read_once, formats),
    KTAP_CASE_WITH(writes_part_them, formats),
    KTAP_CASE_WITH(alone_it_is_taken_out, formats),
    KTAP_CASE_WITH(the_reader_goes, formats),
    KTAP_CASE_WITH(a_leaf_that_went, formats),
    KTAP_CASE_WITH(the_frame_moves, formats),
    KTAP_CASE_WITH(a_set_cannot_grow, formats),
    KTAP_CASE_WITH(side_by_side, plan_numbers),
};
KTAP_SUITE(swap_cache, cases);
