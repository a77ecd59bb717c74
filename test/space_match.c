/* The matches of space_match.h.
 * SPDX-License-Identifier: MIT */
#include "space_match.h"

#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "vmm/migrate.h"

#include <stdlib.h>
#include <string.h>

#define PAGE      NEOMM_PAGE_SIZE
#define PAGES_MAX 3u
#define CONSTANT  MATCH_CPUS       /* a word of each page that nobody writes to any more */
#define THE_CHILD (MATCH_CPUS + 1) /* one that only children of the moment write to */
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

struct match {
    struct ktap *t;
    const struct match_plan *plan;
    uint32_t cpus, pages;
    struct env env;
    struct neomm_space *parent, *child;
    struct neomm_object *object;
    neomm_vaddr_t at;
    uint32_t mistakes;
    bool wrote[MATCH_CPUS][PAGES_MAX]; /* the CPU, to its word of the page */
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

static uint64_t constant_of(const struct match *m, uint32_t page)
{
    return m->plan->with & FRESH ? 0 : 100 + page;
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
                   (constant == constant_of(m, page) || (constant == 0 && may_be_lost(m))) &&
                       before == 0,
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

/* What the page is in is somebody else's then. */
static void migrate(struct match *m, uint32_t cpu)
{
    struct neomm *root = m->env.root;
    for (uint32_t page = 0; page < m->pages; page++) {
        struct neomm_mapping leaf;
        neomm_vaddr_t at = m->at + page * PAGE;
        expect(m, cpu,
               neomm_paging_query(root, neomm_space_tables(m->parent), at, &leaf) == NEOMM_OK,
               "a page cannot be looked at");
        if (leaf.state != NEOMM_MAPPING_PRESENT)
            continue;
        neomm_frame_t frame = neomm_paddr_frame(leaf.paddr + (at & (leaf.size - 1)));
        if (neomm__migrate(root, frame))
            expect(m, cpu, neomm_pmm_free(root, frame, 0) == NEOMM_OK,
                   "the frame that a page left is not free");
    }
}

static void swapoff(struct match *m, uint32_t cpu)
{
    neomm_status status = neomm_swap_remove(m->env.root, m->env.disk, NULL, NULL);
    bool alone = (m->plan->act[0] == SWAPOFF) + (m->plan->act[1] == SWAPOFF) +
                     (m->plan->act[2] == SWAPOFF) ==
                 1;
    expect(m, cpu,
           status == NEOMM_OK || (!alone && (status == NEOMM_E_BUSY || status == NEOMM_E_NOENT)),
           "the area could not be removed");
}

/* One at a time. */
static void change_policy(struct match *m, uint32_t cpu, const char *name)
{
    neomm_status status = m->plan->with & LIMITED
                              ? neomm_space_set_policy(m->env.root, m->parent, name)
                              : neomm_vmm_set_policy(m->env.root, name);
    expect(m, cpu, status == NEOMM_OK || status == NEOMM_E_BUSY, "a policy could not be changed");
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
    case SWAP_OUT:
        (void)neomm_space_swap_out(root, m->parent);
        break;
    case CHANGE_POLICY:
        change_policy(m, cpu, "s3fifo");
        change_policy(m, cpu, "clock");
        break;
    case PAGE_OUT:
        expect(m, cpu,
               neomm_madvise(root, m->parent, m->at, size, NEOMM_ADVICE_PAGEOUT) == NEOMM_OK,
               "paging out failed");
        break;
    case RECLAIM:
        (void)neomm__reclaim(root, m->pages + 1);
        break;
    case MIGRATE:
        migrate(m, cpu);
        migrate(m, cpu);
        break;
    case SWAPOFF:
        swapoff(m, cpu);
        break;
    case PART:
        expect(m, cpu, neomm_mprotect(root, m->parent, m->at, PAGE, NEOMM_PROT_READ) == NEOMM_OK,
               "mprotect failed");
        expect(m, cpu, neomm_mprotect(root, m->parent, m->at, PAGE, RW) == NEOMM_OK,
               "mprotect failed");
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
    size_t size = m->pages * PAGE, huge = neomm_paging_large_size(root);
    if (m->plan->with & HUGE) {
        neomm_vaddr_t start = NEOMM__ALIGN_UP(m->at, huge);
        m->at = start + huge - size;
        return neomm_mmap(root, m->parent, &start, huge, RW, NEOMM_MAP_FIXED | NEOMM_MAP_HUGE) ==
               NEOMM_OK;
    }
    if (!(m->plan->with & SHARED))
        return neomm_mmap(root, m->parent, &m->at, size, RW, NEOMM_MAP_FIXED) == NEOMM_OK &&
               (!(m->plan->with & AHEAD) ||
                neomm_madvise(root, m->parent, m->at, size, NEOMM_ADVICE_SEQUENTIAL) == NEOMM_OK);
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
    for (uint32_t page = 0; page < m->pages && !(m->plan->with & FRESH); page++) {
        uint64_t value = constant_of(m, page);
        if (!access_word(m, m->parent, page, CONSTANT, &value, true))
            return false;
    }
    neomm_space_activate(root, NULL);
    return true;
}

/* Below the first one. */
static bool add_second_area(struct match *m)
{
    struct neomm_block_device *disk = sim_disk_create(m->env.machine, 32);
    sim_disk_make_swap(disk);
    return neomm_swap_add(m->env.root, disk, -1) == NEOMM_OK;
}

/* What is swapped goes to the pool in half of the schedules by seed. */
static bool meets_the_disk(uint64_t seed)
{
    return seed < 1000000 || seed & 2;
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = (m->plan->with & HUGE ? 20u : 4u) << 20,
                                        .cpus = m->cpus,
                                        .swap_pages = 32,
                                        .readahead = m->plan->with & AHEAD ? 16 : 0,
                                        .no_pool = m->plan->with & AHEAD || meets_the_disk(seed),
                                        .seed = seed};
    m->mistakes = 0;
    memset(m->wrote, 0, sizeof(m->wrote));
    m->child = NULL;
    m->object = NULL;
    if (!env_open(m->t, &m->env, &options) || !add_second_area(m) || !make_parent(m))
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
            uint64_t value = 0, want = word == CONSTANT ? constant_of(m, page) : 0;
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
        env_abandon(&m->env);
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

#define TEN(from)                                                                                  \
    from, from + 1, from + 2, from + 3, from + 4, from + 5, from + 6, from + 7, from + 8, from + 9
const uint64_t match_numbers[MATCH_PLANS] = {TEN(0),  TEN(10), TEN(20), TEN(30),
                                             TEN(40), TEN(50), TEN(60), TEN(70)};

static void search(struct ktap *t, const struct match_plan *plan, uint32_t pages,
                   const struct sim_sched_options *options)
{
    struct match match = {
        .t = t, .plan = plan, .cpus = plan->act[2] == REST ? 2 : 3, .pages = pages};
    const struct sim_scenario scenario = {match.cpus, &match, begin, run, end};
    sched_search(t, plan->name, &scenario, options);
}

/* Filling and sharing a huge page takes as long as some dozen schedules over small ones. */
static uint64_t schedules(const struct match_plan *plan, uint64_t whole)
{
    return share_of((plan->with & HUGE ? whole / 10 : whole) * sched_factor());
}

void match_by_seed(struct ktap *t, const struct match_plan *plan)
{
    for (uint32_t pages = 1; pages <= 3 && !sim_sched_unavailable(); pages += 2) {
        const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                                  .seed = 1000000 * pages,
                                                  .schedules = schedules(plan, 150),
                                                  .preemptions = 24};
        search(t, plan, pages, &options);
    }
    if (sim_sched_unavailable())
        ktap_skip(t, sim_sched_unavailable());
}

/* Over one page, or two: the schedules with one preemption, or with two. */
void match_one_after_the_other(struct ktap *t, const struct match_plan *plan)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .seed = t->parameter,
                                              .schedules = schedules(plan, 300),
                                              .preemptions = sched_factor() > 1 ? 2 : 1};
    search(t, plan, plan->with & AHEAD ? 2 : 1, &options);
}
