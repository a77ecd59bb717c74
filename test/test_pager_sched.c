/* Faults, writing back, truncation, eviction, reading ahead, fork and exit on pages of one file
 * side by side, many schedules of each. SPDX-License-Identifier: MIT */
#include "file_pager.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "vmm/balance.h"
#include "vmm/cache.h"
#include "vmm/migrate.h"

#define PAGE     FILE_PAGE
#define CPUS_MAX 3u
#define PAGES    2u
#define RW       (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

enum act {
    REST,
    TOUCH,     /* adds to its own word of each page by the first space's mapping */
    TOUCH_TOO, /* the same by the second space's */
    OWN,       /* the same in the second space's private mapping, beside a look at the constant */
    LOOK,      /* reads the constant of each page, in the first space */
    WRITE,     /* adds to its own word by neomm_object_write */
    SYNC,      /* what was there before is safe then */
    START,     /* writing back */
    SHRINK,    /* gives pages of the cache up */
    RECLAIM,
    TRUNCATE, /* to nothing, and back */
    AHEAD,
    FORK, /* the second space; the child looks, writes to its private pages, and goes */
    UNMAP,
    EXIT,     /* of the second space */
    MIGRATE,  /* gives each page of the file another frame */
    PAGE_OUT, /* the first space's own pages */
    REPLACE   /* them by the file, which is changed, made read-only and written back */
};

enum {
    DIRTY = 1,  /* all pages are dirty when the CPUs begin */
    EMPTY = 2,  /* none is there; otherwise all are */
    MAPPED = 4, /* no access may fail, and nothing is lost */
    HANDLE = 8, /* the object's handle is closed: the last mapping ends it */
    PAGED = 16  /* the first space has pages of its own */
};

struct plan {
    const char *name;
    enum act act[CPUS_MAX];
    unsigned with;
};

static const struct plan plans[] = {
    {"fault, fault", {TOUCH, TOUCH_TOO}, EMPTY | MAPPED},
    {"look, look", {LOOK, OWN}, EMPTY | MAPPED},
    {"fault, fault, shrink", {TOUCH, TOUCH_TOO, SHRINK}, EMPTY | MAPPED},
    {"fault, shrink", {TOUCH, SHRINK}, MAPPED},
    {"fault, shrink dirty", {TOUCH, SHRINK}, DIRTY | MAPPED},
    {"shrink, shrink", {SHRINK, SHRINK}, DIRTY | MAPPED},
    {"fault, reclaim", {TOUCH, RECLAIM}, DIRTY | MAPPED},
    {"fault, sync", {TOUCH, SYNC}, MAPPED},
    {"fault, sync dirty", {TOUCH, SYNC}, DIRTY | MAPPED},
    {"fault, start", {TOUCH, START}, DIRTY | MAPPED},
    {"sync, start", {SYNC, START}, DIRTY | MAPPED},
    {"fault, sync, start", {TOUCH, SYNC, START}, DIRTY | MAPPED},
    {"fault, sync, shrink", {TOUCH, SYNC, SHRINK}, DIRTY | MAPPED},
    {"write, sync", {WRITE, SYNC}, MAPPED},
    {"write, write", {WRITE, WRITE}, EMPTY | MAPPED},
    {"write, fault", {WRITE, TOUCH}, EMPTY | MAPPED},
    {"write, shrink", {WRITE, SHRINK}, DIRTY | MAPPED},
    {"fault, truncate", {TOUCH, TRUNCATE}, EMPTY},
    {"fault, truncate dirty", {TOUCH, TRUNCATE}, DIRTY},
    {"sync, truncate", {SYNC, TRUNCATE}, DIRTY},
    {"start, truncate", {START, TRUNCATE}, DIRTY},
    {"shrink, truncate", {SHRINK, TRUNCATE}, DIRTY},
    {"write, truncate", {WRITE, TRUNCATE}, EMPTY},
    {"ahead, truncate", {AHEAD, TRUNCATE}, EMPTY},
    {"truncate, truncate", {TRUNCATE, TRUNCATE}, DIRTY},
    {"fault, truncate, shrink", {TOUCH, TRUNCATE, SHRINK}, DIRTY},
    {"ahead, fault", {AHEAD, TOUCH}, EMPTY | MAPPED},
    {"ahead, look, shrink", {AHEAD, LOOK, SHRINK}, EMPTY | MAPPED},
    {"own, fault", {OWN, TOUCH}, MAPPED},
    {"own, shrink", {OWN, SHRINK}, MAPPED},
    {"own, truncate", {OWN, TRUNCATE}, 0},
    {"own, sync", {OWN, SYNC}, DIRTY | MAPPED},
    {"own, fork", {OWN, FORK}, MAPPED},
    {"fork, shrink", {FORK, SHRINK}, MAPPED},
    {"fork, truncate", {FORK, TRUNCATE}, 0},
    {"fork, sync", {FORK, SYNC}, DIRTY | MAPPED},
    {"fork, fault", {FORK, TOUCH}, MAPPED},
    {"fork, truncate, fault", {FORK, TRUNCATE, TOUCH}, 0},
    {"exit, sync", {EXIT, SYNC}, DIRTY | MAPPED},
    {"exit, shrink", {EXIT, SHRINK}, DIRTY | MAPPED},
    {"exit, truncate", {EXIT, TRUNCATE}, DIRTY},
    {"exit, fault", {EXIT, TOUCH}, DIRTY | MAPPED},
    {"unmap, sync", {UNMAP, SYNC}, DIRTY},
    {"unmap, exit", {UNMAP, EXIT}, DIRTY | HANDLE},
    {"unmap, exit, shrink", {UNMAP, EXIT, SHRINK}, DIRTY | HANDLE},
    {"fault, exit, start", {TOUCH, EXIT, START}, DIRTY | HANDLE | MAPPED},
    {"migrate, fault", {MIGRATE, TOUCH}, MAPPED},
    {"migrate, fault dirty", {MIGRATE, TOUCH}, DIRTY | MAPPED},
    {"migrate, write", {MIGRATE, WRITE}, DIRTY | MAPPED},
    {"migrate, sync", {MIGRATE, SYNC}, DIRTY | MAPPED},
    {"migrate, start", {MIGRATE, START}, DIRTY | MAPPED},
    {"migrate, shrink", {MIGRATE, SHRINK}, DIRTY | MAPPED},
    {"migrate, truncate", {MIGRATE, TRUNCATE}, DIRTY},
    {"migrate, ahead", {MIGRATE, AHEAD}, EMPTY | MAPPED},
    {"migrate, own", {MIGRATE, OWN}, MAPPED},
    {"migrate, fork", {MIGRATE, FORK}, MAPPED},
    {"migrate, exit", {MIGRATE, EXIT}, DIRTY | MAPPED},
    {"migrate, migrate", {MIGRATE, MIGRATE}, DIRTY | MAPPED},
    {"migrate, fault, sync", {MIGRATE, TOUCH, SYNC}, DIRTY | MAPPED},
    {"reclaim, start, fault", {RECLAIM, START, TOUCH}, DIRTY | MAPPED},
    {"page out, replace", {PAGE_OUT, REPLACE}, EMPTY | PAGED | MAPPED},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

#define CONSTANT CPUS_MAX /* a word of each page that nobody writes to */

struct match {
    struct ktap *t;
    const struct plan *plan;
    uint32_t cpus;
    struct env env;
    struct file file;
    struct neomm *root;
    struct neomm_object *object;
    struct neomm_space *space[2];
    neomm_vaddr_t shared, private, paged;
    uint32_t mistakes;
    uint64_t wrote[CPUS_MAX][PAGES]; /* what its word must be */
};

static void expect(struct match *m, uint32_t cpu, bool good, const char *what)
{
    if (!good && m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", cpu, what);
}

static bool whole(const struct match *m)
{
    return m->plan->with & MAPPED;
}

/* ---- what the CPUs do ---- */

static bool move(struct match *m, struct neomm_space *space, neomm_vaddr_t at, uint64_t *value,
                 bool write)
{
    return env_access(&m->env, space, at, value, 8, write, true) == NEOMM_OK;
}

/* Nobody else writes to this word. */
static void touch(struct match *m, uint32_t cpu, struct neomm_space *space, neomm_vaddr_t base)
{
    neomm_space_activate(m->root, space);
    for (uint32_t page = 0; page < PAGES; page++) {
        neomm_vaddr_t at = base + page * PAGE + cpu * 8u;
        uint64_t before = 0, next, now = 0;
        bool done = move(m, space, at, &before, false);
        next = before + 1;
        done = done && move(m, space, at, &next, true);
        m->wrote[cpu][page] = done ? next : m->wrote[cpu][page];
        done = done && move(m, space, at, &now, false);
        if (whole(m))
            expect(m, cpu, done, "an access failed");
        if (done)
            expect(m, cpu, now == next || (now == 0 && !whole(m) && base == m->shared),
                   "a page does not hold what was written to it");
    }
    neomm_space_activate(m->root, NULL);
}

static void look(struct match *m, uint32_t cpu, struct neomm_space *space, neomm_vaddr_t base)
{
    neomm_space_activate(m->root, space);
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t value = 0;
        bool done = move(m, space, base + page * PAGE + CONSTANT * 8u, &value, false);
        expect(m, cpu, done || !whole(m), "a look failed");
        expect(m, cpu, !done || value == 100 + page || (value == 0 && !whole(m)),
               "a page is not what it was");
    }
    neomm_space_activate(m->root, NULL);
}

static void write_words(struct match *m, uint32_t cpu)
{
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t value = 0, offset = page * PAGE + cpu * 8u;
        size_t done = 0;
        neomm_status status = neomm_object_read(m->root, m->object, offset, &value, 8, &done);
        value++;
        if (status == NEOMM_OK && done == 8)
            status = neomm_object_write(m->root, m->object, offset, &value, 8, &done);
        expect(m, cpu, status == NEOMM_OK, "reading or writing failed");
        expect(m, cpu, done == 8 || !whole(m), "not all was written");
        if (done == 8)
            m->wrote[cpu][page] = value;
    }
}

/* What others wrote before is safe; they may be writing more. */
static void sync(struct match *m, uint32_t cpu)
{
    uint64_t before[CPUS_MAX][PAGES];
    memcpy(before, m->wrote, sizeof(before));
    expect(m, cpu, neomm_object_sync(m->root, m->object, 0, PAGES * PAGE) == NEOMM_OK,
           "syncing failed");
    for (uint32_t page = 0; whole(m) && page < PAGES; page++)
        for (uint32_t other = 0; other < CPUS_MAX; other++) {
            uint64_t value;
            memcpy(&value, m->file.safe + page * PAGE + other * 8u, 8);
            if (m->plan->act[other] != OWN && m->plan->act[other] != FORK)
                expect(m, cpu, value >= before[other][page], "what was confirmed is not safe");
        }
}

static void fork_and_look(struct match *m, uint32_t cpu)
{
    struct neomm_space *child = NULL;
    expect(m, cpu, neomm_space_fork(m->root, m->space[1], &child) == NEOMM_OK, "fork failed");
    if (!child)
        return;
    look(m, cpu, child, m->private);
    touch(m, cpu, child, m->private);
    look(m, cpu, child, m->shared);
    memset(m->wrote[cpu], 0, sizeof(m->wrote[cpu]));
    expect(m, cpu, neomm_space_destroy(m->root, child) == NEOMM_OK, "a child did not go");
}

static void truncate(struct match *m, uint32_t cpu)
{
    expect(m, cpu, neomm_object_resize(m->root, m->object, 0) == NEOMM_OK, "truncating failed");
    expect(m, cpu, neomm_object_resize(m->root, m->object, PAGES * PAGE) == NEOMM_OK,
           "growing failed");
}

static void leave(struct match *m, uint32_t cpu, bool exit)
{
    if (exit) {
        expect(m, cpu, neomm_space_destroy(m->root, m->space[1]) == NEOMM_OK, "exit failed");
        m->space[1] = NULL;
    } else {
        expect(m, cpu, neomm_munmap(m->root, m->space[0], m->shared, PAGES * PAGE) == NEOMM_OK,
               "munmap failed");
    }
}

/* The frame of a page of the file at some moment, nil: there is none. */
static neomm_frame_t frame_of(struct match *m, uint64_t page)
{
    neomm__mutex_lock(&m->object->lock);
    uint64_t word = neomm__page_get(&m->object->pages, page);
    neomm__mutex_unlock(&m->object->lock);
    return neomm__page_is_frame(word) ? neomm__page_frame(word) : neomm_frame(0);
}

static void migrate(struct match *m, uint32_t cpu)
{
    for (uint32_t page = 0; page < PAGES; page++) {
        neomm_frame_t frame = frame_of(m, page);
        if (!neomm_frame_is_nil(frame) && neomm__migrate(m->root, frame))
            expect(m, cpu, neomm_pmm_free(m->root, frame, 0) == NEOMM_OK,
                   "a frame that was left cannot be freed");
    }
}

static void replace(struct match *m, uint32_t cpu)
{
    struct neomm_space *space = m->space[0];
    neomm_vaddr_t at = m->paged;
    expect(m, cpu,
           neomm_mmap_object(m->root, space, &at, PAGES * PAGE, RW, NEOMM_MAP_FIXED, m->object,
                             0) == NEOMM_OK,
           "mapping over pages failed");
    touch(m, cpu, space, at);
    expect(m, cpu, neomm_mprotect(m->root, space, at, PAGES * PAGE, NEOMM_PROT_READ) == NEOMM_OK,
           "protecting failed");
    sync(m, cpu);
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    switch (m->plan->act[cpu]) {
    case MIGRATE:
        migrate(m, cpu);
        break;
    case PAGE_OUT:
        (void)neomm_space_evict(m->root, m->space[0], PAGES);
        break;
    case REPLACE:
        replace(m, cpu);
        break;
    case TOUCH:
        touch(m, cpu, m->space[0], m->shared);
        break;
    case TOUCH_TOO:
        touch(m, cpu, m->space[1], m->shared);
        break;
    case OWN:
        look(m, cpu, m->space[1], m->private);
        touch(m, cpu, m->space[1], m->private);
        break;
    case LOOK:
        look(m, cpu, m->space[0], m->shared);
        break;
    case WRITE:
        write_words(m, cpu);
        break;
    case SYNC:
        sync(m, cpu);
        break;
    case START:
        (void)neomm_cache_write_back(m->root, PAGES);
        break;
    case SHRINK:
        (void)neomm_cache_shrink(m->root, PAGES);
        break;
    case RECLAIM:
        (void)neomm__reclaim(m->root, PAGES + 1);
        break;
    case TRUNCATE:
        truncate(m, cpu);
        break;
    case AHEAD:
        neomm__cache_hold(m->object);
        neomm__cache_read_ahead(m->root, m->object, 0, PAGES);
        neomm__cache_release(m->object);
        break;
    case FORK:
        fork_and_look(m, cpu);
        break;
    case UNMAP:
    case EXIT:
        leave(m, cpu, m->plan->act[cpu] == EXIT);
        break;
    default:
        break;
    }
}

/* ---- before and after a schedule ---- */

static const uint64_t formats[] = ENV_FORMATS;

/* The constants and nothing else. */
static void fill_file(struct match *m)
{
    memset(m->file.safe, 0, PAGES * PAGE);
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t value = 100 + page;
        memcpy(m->file.safe + page * PAGE + CONSTANT * 8u, &value, 8);
        memcpy(file_page(&m->file, page), m->file.safe + page * PAGE, PAGE);
    }
}

static bool map_file(struct match *m)
{
    neomm_vaddr_t shared = m->shared, private = m->private;
    for (uint32_t i = 0; i < 2; i++)
        if (neomm_space_create(m->root, NULL, &m->space[i]) != NEOMM_OK ||
            neomm_mmap_object(m->root, m->space[i], &shared, PAGES * PAGE, RW, NEOMM_MAP_FIXED,
                              m->object, 0) != NEOMM_OK)
            return false;
    return neomm_mmap_object(m->root, m->space[1], &private, PAGES * PAGE, RW,
                             NEOMM_MAP_FIXED | NEOMM_MAP_PRIVATE, m->object, 0) == NEOMM_OK;
}

static bool map_paged(struct match *m)
{
    bool done = true;
    neomm_vaddr_t at = m->paged;
    if (!(m->plan->with & PAGED))
        return true;
    if (neomm_mmap(m->root, m->space[0], &at, PAGES * PAGE, RW, NEOMM_MAP_FIXED) != NEOMM_OK)
        return false;
    neomm_space_activate(m->root, m->space[0]);
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t value = page;
        done = done && move(m, m->space[0], at + page * PAGE, &value, true);
    }
    neomm_space_activate(m->root, NULL);
    return done;
}

/* Through the second space's mappings. */
static void bring_in(struct match *m)
{
    bool dirty = m->plan->with & DIRTY;
    neomm_space_activate(m->root, m->space[1]);
    for (uint32_t page = 0; page < PAGES && !(m->plan->with & EMPTY); page++) {
        uint64_t value = 7;
        (void)move(m, m->space[1], m->private + page * PAGE, &value, false);
        value = 7;
        (void)move(m, m->space[1], m->shared + page * PAGE + (CONSTANT + 1) * 8u, &value, dirty);
    }
    neomm_space_activate(m->root, NULL);
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = 4u << 20,
                                        .cpus = m->cpus,
                                        .swap_pages = 32,
                                        .policy = "clock",
                                        .seed = seed};
    m->mistakes = 0;
    memset(m->wrote, 0, sizeof(m->wrote));
    if (!env_open(m->t, &m->env, &options))
        return NULL;
    m->root = m->env.root;
    m->shared = neomm_layout_of(m->root)->user_base;
    m->private = m->shared + 16 * PAGE;
    m->paged = m->private + 16 * PAGE;
    file_open(m->t, &m->file, &m->env, PAGES * PAGE);
    fill_file(m);
    if (neomm_object_create_paged(m->root, &m->file.pager, NULL, PAGES * PAGE, &m->object) !=
            NEOMM_OK ||
        !map_file(m) || !map_paged(m))
        return NULL;
    bring_in(m);
    if (m->plan->with & HANDLE)
        neomm_object_close(m->root, m->object);
    return m->env.machine;
}

/* What a word of the file must be in the end. */
static bool is_right(const struct match *m, uint32_t page, uint32_t cpu, uint64_t value)
{
    enum act act = m->plan->act[cpu];
    uint64_t want = act == OWN || act == FORK ? 0 : m->wrote[cpu][page];
    return value == want || (value == 0 && !whole(m) && !(m->plan->with & HANDLE));
}

static void check_file(struct match *m)
{
    for (uint32_t page = 0; page < PAGES; page++)
        for (uint32_t cpu = 0; cpu <= CPUS_MAX; cpu++) {
            uint64_t value;
            memcpy(&value, m->file.safe + page * PAGE + cpu * 8u, 8);
            bool right = cpu == CONSTANT ? value == 100 + page || (value == 0 && !whole(m))
                                         : is_right(m, page, cpu, value);
            expect(m, cpu, right, "the file is not what it must be in the end");
        }
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
    for (uint32_t i = 0; i < 2; i++)
        if (m->space[i])
            EXPECT_OK(m->t, neomm_space_destroy(m->root, m->space[i]));
    if (!(m->plan->with & HANDLE))
        neomm_object_close(m->root, m->object);
    EXPECT_EQ(m->t, m->file.released, 1);
    EXPECT_OK(m->t, m->file.release_status);
    check_file(m);
    env_close(m->t, &m->env);
    return m->mistakes == 0 && m->t->failures == failures;
}

/* ---- many schedules ---- */

static void search(struct ktap *t, const struct plan *plan, const struct sim_sched_options *options)
{
    static struct match match;
    memset(&match, 0, sizeof(match));
    match.t = t;
    match.plan = plan;
    match.cpus = plan->act[2] == REST ? 2 : 3;
    const struct sim_scenario scenario = {match.cpus, &match, begin, run, end};
    sched_search(t, plan->name, &scenario, options);
}

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
    21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41,
    42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

static void by_seed(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                              .seed = 1000000 * (t->parameter + 1),
                                              .schedules = share_of(150 * sched_factor()),
                                              .preemptions = 24};
    search(t, &plans[t->parameter], &options);
}

static void one_after_the_other(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .seed = t->parameter,
                                              .schedules = share_of(300 * sched_factor()),
                                              .preemptions = sched_factor() > 1 ? 2 : 1};
    search(t, &plans[t->parameter], &options);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
};
KTAP_SUITE(pager_sched, cases);
