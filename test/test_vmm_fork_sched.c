/* Fork, copies on write, exit, moves, locks and reclaim side by side, many schedules of each.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "vmm/vmm_priv.h"

#include <stdlib.h>
#include <string.h>

#define PAGE      NEOMM_PAGE_SIZE
#define CPUS_MAX  3u
#define PAGES_MAX 3u
#define CONSTANT  CPUS_MAX       /* a word of each page that nobody writes to any more */
#define THE_CHILD (CPUS_MAX + 1) /* one that only children of the moment write to */
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

enum act {
    REST,
    TOUCH,       /* writes its own word of each of the parent's pages, and reads it back */
    TOUCH_CHILD, /* the same in the child */
    COPY_OUT,    /* the same by the kernel, in the parent */
    FORK,        /* forks the parent; what the child has is looked at, written to, and goes */
    EXIT,        /* of the child */
    EVICT,
    UNMAP, /* in the parent */
    PROTECT,
    RECLAIM,
    PIN,      /* and a device writes this CPU's word of each of the parent's pages */
    TRUNCATE, /* the object to nothing, and back */
    MOVE,     /* the parent's pages elsewhere, and back */
    LOCK,     /* them in memory, where they must be from then on */
    GIVE_UP,  /* what is in them */
    PAGE_OUT  /* page by page */
};

/* What a plan begins with, and what must hold. */
enum {
    CHILD = 1,   /* there is one when the CPUs begin */
    EVICTED = 2, /* all pages are in swap then */
    LIMITED = 4, /* two pages of each space may be resident */
    MAPPED = 8,  /* no access may fail */
    SHARED = 16, /* the pages are an object's */
    LOST = 32    /* what is in them may be */
};

struct plan {
    const char *name;
    enum act act[CPUS_MAX];
    unsigned with;
};

static const struct plan plans[] = {
    {"fault, fork", {TOUCH, FORK}, MAPPED},
    {"fault from swap, fork", {TOUCH, FORK}, EVICTED | MAPPED},
    {"fork, fork", {FORK, FORK}, MAPPED},
    {"fork, reclaim", {FORK, RECLAIM}, MAPPED},
    {"fork, evict with a child", {FORK, EVICT}, CHILD | MAPPED},
    {"copy, copy", {TOUCH, TOUCH_CHILD}, CHILD | MAPPED},
    {"copy, copy in one space", {TOUCH, TOUCH}, CHILD | MAPPED},
    {"copy, copy by the kernel", {TOUCH_CHILD, COPY_OUT}, CHILD | MAPPED},
    {"copy, copy from swap", {TOUCH, TOUCH_CHILD}, CHILD | EVICTED | MAPPED},
    {"copy, reclaim", {TOUCH, RECLAIM}, CHILD | MAPPED},
    {"copy, evict", {TOUCH_CHILD, EVICT}, CHILD | MAPPED},
    {"copy, exit", {TOUCH, EXIT}, CHILD | MAPPED},
    {"exit, reclaim", {EXIT, RECLAIM}, CHILD | MAPPED},
    {"exit, fork", {EXIT, FORK}, CHILD | MAPPED},
    {"copy, unmap", {TOUCH_CHILD, UNMAP}, CHILD},
    {"fork, unmap", {FORK, UNMAP}, 0},
    {"fork, protect", {FORK, PROTECT}, 0},
    {"copy, protect", {TOUCH_CHILD, PROTECT}, CHILD | MAPPED},
    {"copy, copy at the limit", {TOUCH, TOUCH_CHILD}, CHILD | LIMITED | MAPPED},
    {"copy, copy, reclaim", {TOUCH, TOUCH_CHILD, RECLAIM}, CHILD | MAPPED},
    {"copy, exit, reclaim", {TOUCH, EXIT, RECLAIM}, CHILD | EVICTED | MAPPED},
    {"fork, copy, evict", {FORK, TOUCH_CHILD, EVICT}, CHILD | MAPPED},
    {"pin, evict", {PIN, EVICT}, MAPPED},
    {"pin, reclaim", {PIN, RECLAIM}, CHILD | MAPPED},
    {"pin, fork", {PIN, FORK}, MAPPED},
    {"pin, copy", {PIN, TOUCH}, CHILD | MAPPED},
    {"pin from swap, copy by the child", {PIN, TOUCH_CHILD}, CHILD | EVICTED | MAPPED},
    {"pin, unmap", {PIN, UNMAP}, CHILD},
    {"pin, pin", {PIN, PIN}, CHILD | MAPPED},
    {"pin, fork, evict", {PIN, FORK, EVICT}, CHILD | MAPPED},
    {"shared: fault, fault", {TOUCH, TOUCH_CHILD}, CHILD | MAPPED | SHARED},
    {"shared from swap: fault, fault", {TOUCH, TOUCH_CHILD}, CHILD | EVICTED | MAPPED | SHARED},
    {"shared: fault, reclaim", {TOUCH, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: fault, fault, reclaim",
     {TOUCH, TOUCH_CHILD, RECLAIM},
     CHILD | EVICTED | MAPPED | SHARED},
    {"shared: fault, exit", {TOUCH, EXIT}, CHILD | MAPPED | SHARED},
    {"shared: exit, reclaim", {EXIT, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: fault, truncate", {TOUCH, TRUNCATE}, CHILD | SHARED},
    {"shared: reclaim, truncate", {RECLAIM, TRUNCATE}, CHILD | SHARED},
    {"shared: fault from swap, truncate", {TOUCH, TRUNCATE}, CHILD | EVICTED | SHARED},
    {"shared: unmap, truncate", {UNMAP, TRUNCATE}, CHILD | SHARED},
    {"shared: pin, reclaim", {PIN, RECLAIM}, CHILD | EVICTED | MAPPED | SHARED},
    {"shared: pin, truncate", {PIN, TRUNCATE}, CHILD | SHARED},
    {"shared: fault, protect", {TOUCH_CHILD, PROTECT}, CHILD | MAPPED | SHARED},
    {"shared: fault, fault at the limit", {TOUCH, TOUCH_CHILD}, CHILD | LIMITED | MAPPED | SHARED},
    {"fault, page out", {TOUCH, PAGE_OUT}, MAPPED},
    {"fault from swap, page out", {TOUCH, PAGE_OUT}, EVICTED | MAPPED},
    {"fault from swap, page out at the limit", {TOUCH, PAGE_OUT}, EVICTED | LIMITED | MAPPED},
    {"fault from swap, fault, page out", {TOUCH, TOUCH, PAGE_OUT}, EVICTED | MAPPED},
    {"copy, page out", {TOUCH_CHILD, PAGE_OUT}, CHILD | MAPPED},
    {"fault, move", {TOUCH, MOVE}, 0},
    {"fault from swap, move", {TOUCH, MOVE}, EVICTED},
    {"fault from swap, give up", {TOUCH, GIVE_UP}, EVICTED | LOST},
    {"fault from swap, lock, evict", {TOUCH, LOCK, EVICT}, EVICTED | MAPPED},
    {"fork, move", {FORK, MOVE}, 0},
    {"fork from swap, move", {FORK, MOVE}, EVICTED},
    {"move, evict", {MOVE, EVICT}, MAPPED},
    {"move, reclaim", {MOVE, RECLAIM}, CHILD | MAPPED},
    {"move, copy by the child", {MOVE, TOUCH_CHILD}, CHILD | MAPPED},
    {"move, pin", {MOVE, PIN}, 0},
    {"fork, move, reclaim", {FORK, MOVE, RECLAIM}, 0},
    {"lock, evict", {LOCK, EVICT}, MAPPED},
    {"lock, reclaim", {LOCK, RECLAIM}, CHILD | MAPPED},
    {"lock from swap, fork", {LOCK, FORK}, EVICTED | MAPPED},
    {"lock, move, evict", {LOCK, MOVE, EVICT}, 0},
    {"lock, copy by the child, reclaim", {LOCK, TOUCH_CHILD, RECLAIM}, CHILD | MAPPED},
    {"fork, give up", {FORK, GIVE_UP}, LOST},
    {"fork from swap, give up", {FORK, GIVE_UP}, EVICTED | LOST},
    {"give up, evict", {GIVE_UP, EVICT}, LOST},
    {"give up, copy by the child, reclaim", {GIVE_UP, TOUCH_CHILD, RECLAIM}, CHILD | LOST},
    {"shared: move, truncate", {MOVE, TRUNCATE}, SHARED},
    {"shared: move, reclaim", {MOVE, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: move, fault, reclaim", {MOVE, TOUCH_CHILD, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: lock, reclaim", {LOCK, RECLAIM}, CHILD | MAPPED | SHARED},
    {"shared: give up, reclaim", {GIVE_UP, RECLAIM}, CHILD | MAPPED | SHARED},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct match {
    struct ktap *t;
    const struct plan *plan;
    uint32_t cpus, pages;
    struct env env;
    struct neomm_space *parent, *child;
    struct neomm_object *object;
    neomm_vaddr_t at;
    uint32_t mistakes;
    bool wrote[CPUS_MAX][PAGES_MAX]; /* the CPU, to its word of the page */
};

static void mistake(struct match *m, uint32_t cpu, const char *what)
{
    if (m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", cpu, what);
}

static void expect(struct match *m, uint32_t cpu, bool good, const char *what)
{
    if (!good)
        mistake(m, cpu, what);
}

/* The page may have been cut off, or given up. */
static bool may_be_lost(const struct match *m)
{
    return (m->plan->with & LOST) || ((m->plan->with & SHARED) && !(m->plan->with & MAPPED));
}

/* ---- what the CPUs do ---- */

static bool access_word(struct match *m, struct neomm_space *space, uint32_t page, uint32_t word,
                        uint64_t *value, bool write)
{
    return env_access(&m->env, space, m->at + page * PAGE + word * 8u, value, 8, write, true) ==
           NEOMM_OK;
}

static bool write_word(struct match *m, struct neomm_space *space, uint32_t page, uint32_t cpu,
                       uint64_t value)
{
    neomm_vaddr_t at = m->at + page * PAGE + cpu * 8u;
    if (m->plan->act[cpu] == COPY_OUT)
        return neomm_copy_to_user(m->env.root, space, at, &value, 8, NULL) == NEOMM_OK;
    return access_word(m, space, page, cpu, &value, true);
}

/* Nobody else writes this word of this space. */
static void touch(struct match *m, uint32_t cpu, struct neomm_space *space)
{
    neomm_space_activate(m->env.root, space);
    for (uint32_t page = 0; page < m->pages; page++) {
        uint64_t before = 0, now = 0;
        bool wrote = access_word(m, space, page, cpu, &before, false) &&
                     write_word(m, space, page, cpu, before + 1);
        bool done = wrote && access_word(m, space, page, cpu, &now, false);
        m->wrote[cpu][page] = wrote;
        if (m->plan->with & MAPPED)
            expect(m, cpu, done, "an access failed");
        if (done)
            expect(m, cpu, now == before + 1 || (now == 0 && may_be_lost(m)),
                   "a page does not hold what was written to it");
    }
    neomm_space_activate(m->env.root, NULL);
}

/* What the child got is what the parent had at one moment; then it is its own. */
static void use_child(struct match *m, uint32_t cpu, struct neomm_space *child)
{
    neomm_space_activate(m->env.root, child);
    for (uint32_t page = 0; page < m->pages; page++) {
        uint64_t constant = 0, before = 0, value = 1;
        bool done = access_word(m, child, page, CONSTANT, &constant, false) &&
                    access_word(m, child, page, THE_CHILD, &before, false) &&
                    access_word(m, child, page, THE_CHILD, &value, true);
        if (m->plan->with & MAPPED)
            expect(m, cpu, done, "an access of the child failed");
        if (done)
            expect(m, cpu,
                   (constant == 100 + page || (constant == 0 && may_be_lost(m))) && before == 0,
                   "the child got something else");
    }
    neomm_space_activate(m->env.root, NULL);
}

static void destroy(struct match *m, uint32_t cpu, struct neomm_space *space)
{
    if (space)
        expect(m, cpu, neomm_space_destroy(m->env.root, space) == NEOMM_OK,
               "a space could not be destroyed");
}

static void fork_and_use(struct match *m, uint32_t cpu)
{
    struct neomm_space *child = NULL;
    expect(m, cpu, neomm_space_fork(m->env.root, m->parent, &child) == NEOMM_OK, "fork failed");
    if (child)
        use_child(m, cpu, child);
    destroy(m, cpu, child);
}

static void pin(struct match *m, uint32_t cpu)
{
    for (uint32_t page = 0; page < m->pages; page++) {
        neomm_frame_t frame;
        uint32_t done;
        neomm_status status =
            neomm_user_pin(m->env.root, m->parent, m->at + page * PAGE, 1, true, &frame, &done);
        if (m->plan->with & MAPPED)
            expect(m, cpu, status == NEOMM_OK, "a page could not be pinned");
        m->wrote[cpu][page] = status == NEOMM_OK;
        if (status != NEOMM_OK)
            continue;
        uint64_t *words = neomm_frame_map(m->env.root, frame);
        sim_sched_point();
        words[cpu]++;
        sim_sched_point();
        neomm_frame_unmap(m->env.root, words);
        neomm_user_unpin(m->env.root, &frame, 1, true);
    }
}

static void move(struct match *m, uint32_t cpu)
{
    size_t size = m->pages * PAGE;
    neomm_vaddr_t there = m->at + 4 * ((size_t)1 << 22), back = m->at;
    const unsigned flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED;
    expect(m, cpu,
           neomm_mremap(m->env.root, m->parent, m->at, size, size, flags, &there) == NEOMM_OK &&
               neomm_mremap(m->env.root, m->parent, there, size, size, flags, &back) == NEOMM_OK,
           "moving failed");
}

/* Who moves them may have them elsewhere just now. */
static void check_locked(struct match *m, uint32_t cpu)
{
    uint8_t in[PAGES_MAX] = {0};
    neomm_status status = neomm_mincore(m->env.root, m->parent, m->at, m->pages * PAGE, in);
    if (m->plan->with & MAPPED)
        expect(m, cpu, status == NEOMM_OK, "what was locked is not mapped");
    for (uint32_t page = 0; status == NEOMM_OK && page < m->pages; page++)
        expect(m, cpu, in[page], "a page that was locked is not in memory");
}

static void lock(struct match *m, uint32_t cpu)
{
    neomm_status status = neomm_mlock(m->env.root, m->parent, m->at, m->pages * PAGE, 0);
    if (status == NEOMM_OK)
        check_locked(m, cpu);
    else
        expect(m, cpu, !(m->plan->with & MAPPED), "locking failed");
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    struct neomm *root = m->env.root;
    size_t size = m->pages * PAGE;
    switch (m->plan->act[cpu]) {
    case TOUCH:
    case COPY_OUT:
        touch(m, cpu, m->parent);
        break;
    case TOUCH_CHILD:
        touch(m, cpu, m->child);
        break;
    case PIN:
        pin(m, cpu);
        break;
    case FORK:
        fork_and_use(m, cpu);
        break;
    case EXIT:
        destroy(m, cpu, m->child);
        m->child = NULL;
        break;
    case EVICT:
        (void)neomm_space_evict(root, m->parent, m->pages);
        break;
    case UNMAP:
        expect(m, cpu, neomm_munmap(root, m->parent, m->at, size) == NEOMM_OK, "munmap failed");
        break;
    case PROTECT:
        expect(m, cpu, neomm_mprotect(root, m->parent, m->at, size, NEOMM_PROT_READ) == NEOMM_OK,
               "mprotect failed");
        expect(m, cpu, neomm_mprotect(root, m->parent, m->at, size, RW) == NEOMM_OK,
               "mprotect failed");
        break;
    case TRUNCATE:
        expect(m, cpu, neomm_object_resize(root, m->object, 0) == NEOMM_OK, "truncating failed");
        expect(m, cpu, neomm_object_resize(root, m->object, size) == NEOMM_OK, "growing failed");
        break;
    case MOVE:
        move(m, cpu);
        break;
    case LOCK:
        lock(m, cpu);
        break;
    case GIVE_UP:
        expect(m, cpu,
               neomm_madvise(root, m->parent, m->at, size, NEOMM_ADVICE_DONTNEED) == NEOMM_OK,
               "madvise failed");
        break;
    case PAGE_OUT:
        expect(m, cpu,
               neomm_madvise(root, m->parent, m->at, size, NEOMM_ADVICE_PAGEOUT) == NEOMM_OK,
               "paging out failed");
        break;
    case RECLAIM:
        (void)neomm__reclaim(root, m->pages + 1);
        break;
    default:
        break;
    }
}

/* ---- before and after a schedule ---- */

static const uint64_t formats[] = ENV_FORMATS;

static bool map_pages(struct match *m)
{
    struct neomm *root = m->env.root;
    size_t size = m->pages * PAGE;
    if (!(m->plan->with & SHARED))
        return neomm_mmap(root, m->parent, &m->at, size, RW, NEOMM_MAP_FIXED) == NEOMM_OK;
    return neomm_object_create(root, NULL, size, &m->object) == NEOMM_OK &&
           neomm_mmap_object(root, m->parent, &m->at, size, RW, NEOMM_MAP_FIXED, m->object, 0) ==
               NEOMM_OK;
}

static bool make_parent(struct match *m)
{
    const struct neomm_limits limits = {NEOMM_UNLIMITED,
                                        (m->plan->with & LIMITED) ? 2 * PAGE : NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    struct neomm *root = m->env.root;
    m->at = neomm_layout_of(root)->user_base;
    if (neomm_space_create(root, &limits, &m->parent) != NEOMM_OK || !map_pages(m))
        return false;
    neomm_space_activate(root, m->parent);
    for (uint32_t page = 0; page < m->pages; page++) {
        uint64_t value = 100 + page;
        if (!access_word(m, m->parent, page, CONSTANT, &value, true))
            return false;
    }
    neomm_space_activate(root, NULL);
    return true;
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = 4u << 20,
                                        .cpus = m->cpus,
                                        .swap_pages = 32,
                                        .seed = seed};
    m->mistakes = 0;
    memset(m->wrote, 0, sizeof(m->wrote));
    m->child = NULL;
    m->object = NULL;
    if (!env_open(m->t, &m->env, &options) || !make_parent(m))
        return NULL;
    if ((m->plan->with & CHILD) && neomm_space_fork(m->env.root, m->parent, &m->child) != NEOMM_OK)
        return NULL;
    if (m->plan->with & EVICTED)
        (void)neomm_space_evict(m->env.root, m->parent, m->pages);
    return m->env.machine;
}

static bool writes_to(enum act act, bool child)
{
    return child ? act == TOUCH_CHILD : act == TOUCH || act == COPY_OUT || act == PIN;
}

/* Each CPU's writes are in its space, once, and in no other. */
static void check_pages(struct match *m, struct neomm_space *space, bool child)
{
    neomm_space_activate(m->env.root, space);
    for (uint32_t page = 0; page < m->pages; page++)
        for (uint32_t word = 0; word <= THE_CHILD; word++) {
            uint64_t value = 0, want = word == CONSTANT ? 100 + page : 0;
            if (word < m->cpus)
                want = m->wrote[word][page] &&
                       (writes_to(m->plan->act[word], child) ||
                        ((m->plan->with & SHARED) && writes_to(m->plan->act[word], !child)));
            if (access_word(m, space, page, word, &value, false))
                expect(m, word, value == want || (value == 0 && may_be_lost(m)),
                       "a page is not what it must be in the end");
            else
                expect(m, word, !(m->plan->with & MAPPED), "a page is not there in the end");
        }
    neomm_space_activate(m->env.root, NULL);
}

static void check_end(struct match *m)
{
    if (m->plan->act[0] == LOCK && (m->plan->with & MAPPED))
        check_locked(m, 0);
    check_pages(m, m->parent, false);
    if (m->child)
        check_pages(m, m->child, true);
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        sim_destroy(m->env.machine);
        free(m->env.system);
        return false;
    }
    env_fsck(m->t, &m->env);
    check_end(m);
    destroy(m, 0, m->parent);
    destroy(m, 0, m->child);
    if (m->object)
        neomm_object_close(m->env.root, m->object);
    env_close(m->t, &m->env);
    return m->mistakes == 0 && m->t->failures == failures;
}

/* ---- many schedules ---- */

static void search(struct ktap *t, const struct plan *plan, uint32_t pages,
                   const struct sim_sched_options *options)
{
    struct match match = {
        .t = t, .plan = plan, .cpus = plan->act[2] == REST ? 2 : 3, .pages = pages};
    const struct sim_scenario scenario = {match.cpus, &match, begin, run, end};
    struct sim_sched_result result;
    if (sim_sched_explore(&scenario, options, &result)) {
        ktap_note(t, "%s: %llu schedules%s", plan->name, (unsigned long long)result.schedules,
                  result.complete ? ", all" : "");
        return;
    }
    ktap_fail(t, __FILE__, __LINE__, plan->name);
    sched_note(t, &result);
}

/* How many times as many schedules as usual: NEOMM_SCHEDULES in the environment. */
static uint64_t factor(void)
{
    const char *text = getenv("NEOMM_SCHEDULES");
    return text && atoi(text) > 0 ? (uint64_t)atoi(text) : 1;
}

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
                                        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
                                        30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
                                        45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59,
                                        60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

static void by_seed(struct ktap *t)
{
    for (uint32_t pages = 1; pages <= 3 && !sim_sched_unavailable(); pages += 2) {
        const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                                  .seed = 1000000 * pages,
                                                  .schedules = share_of(150 * factor()),
                                                  .preemptions = 24};
        search(t, &plans[t->parameter], pages, &options);
    }
    if (sim_sched_unavailable())
        ktap_skip(t, sim_sched_unavailable());
}

/* Over one page: the schedules with one preemption, or with two. */
static void one_after_the_other(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .seed = t->parameter,
                                              .schedules = share_of(300 * factor()),
                                              .preemptions = factor() > 1 ? 2 : 1};
    if (sim_sched_unavailable())
        ktap_skip(t, sim_sched_unavailable());
    else
        search(t, &plans[t->parameter], 1, &options);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
};
KTAP_SUITE(vmm_fork_sched, cases);
