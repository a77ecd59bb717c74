/* Address spaces with several CPUs in them, in many orders: faults, eviction, unmapping, the end
 * of a space and reclaim side by side, some thousand schedules by seed and the simplest ones all.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "sim/machine.h"
#include "vmm/tally.h"

#include <stdlib.h>

#define PAGE     NEOMM_PAGE_SIZE
#define MOST     4u /* pages */
#define CPUS_MAX 3u
#define RW       (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

/* What a CPU does with the pages, each once or in a loop. */
enum act {
    REST,
    TOUCH,      /* writes its own word of each page, and reads it back */
    TOUCH_LAST, /* the same from the last page on */
    TOUCH_EVICT,
    LOOK, /* reads each page's words of the others */
    EVICT,
    UNMAP,
    UNMAP_HALF,
    UNMAP_MAP, /* and maps the range again */
    PROTECT,   /* read only, and back */
    DESTROY,   /* the second space, with pages in it */
    RECLAIM,
    BACKGROUND, /* reclaims up to the high watermark */
    KILL,       /* memory has run out: the first space gives up what it has */
    MAKE        /* a space of its own, used and destroyed */
};

struct plan {
    const char *name;
    enum act act[CPUS_MAX];
    bool evicted;                     /* when the CPUs begin, all pages are in swap */
    bool limited;                     /* two pages may be resident */
    bool fresh;                       /* nobody has touched a page yet */
    bool mapped;                      /* nobody takes pages away: no access may fail */
    enum { ROOMY, LOW, FULL } memory; /* frames that are free: many, few or none */
};

static const struct plan plans[] = {
    {"fault, fault", {TOUCH, TOUCH}, false, false, true, true, ROOMY},
    {"fault, fault the other way", {TOUCH, TOUCH_LAST}, true, false, false, true, ROOMY},
    {"fault, unmap", {TOUCH, UNMAP}, false, false, true, false, ROOMY},
    {"fault from swap, unmap", {TOUCH, UNMAP_HALF}, true, false, false, false, ROOMY},
    {"fault, unmap and map", {TOUCH, UNMAP_MAP}, false, false, false, false, ROOMY},
    {"fault, evict", {TOUCH, EVICT}, false, false, false, true, ROOMY},
    {"fault from swap, evict", {TOUCH, EVICT}, true, false, false, true, ROOMY},
    {"fault from swap, fault and evict", {TOUCH, TOUCH_EVICT}, true, false, false, true, ROOMY},
    {"evict, unmap", {EVICT, UNMAP}, false, false, false, false, ROOMY},
    {"evict, unmap and map", {EVICT, UNMAP_MAP}, false, false, false, false, ROOMY},
    {"evict, evict", {EVICT, EVICT}, false, false, false, true, ROOMY},
    {"fault, protect", {TOUCH, PROTECT}, false, false, false, false, ROOMY},
    {"evict, protect", {EVICT, PROTECT}, false, false, false, true, ROOMY},
    {"destroy, reclaim", {DESTROY, RECLAIM}, false, false, false, true, ROOMY},
    {"destroy, reclaim, fault", {DESTROY, RECLAIM, TOUCH}, false, false, false, true, ROOMY},
    {"fault, reclaim", {TOUCH, RECLAIM}, true, false, false, true, ROOMY},
    {"fault, fault at the limit", {TOUCH, TOUCH_LAST}, false, true, false, true, ROOMY},
    {"first fault, evict", {TOUCH, EVICT}, false, false, true, true, ROOMY},
    {"first fault at the limit, look", {TOUCH, LOOK}, false, true, true, true, ROOMY},
    {"first fault, protect", {TOUCH, PROTECT}, false, false, true, false, ROOMY},
    {"fault, evict, fault", {TOUCH, EVICT, TOUCH_LAST}, true, false, false, true, ROOMY},
    {"fault, evict, unmap", {TOUCH, EVICT, UNMAP_MAP}, true, false, false, false, ROOMY},
    {"fault, look, reclaim", {TOUCH, LOOK, RECLAIM}, true, true, false, true, ROOMY},
    {"make, make, reclaim", {MAKE, MAKE, RECLAIM}, false, false, false, true, ROOMY},
    {"fault, background", {TOUCH, BACKGROUND}, false, false, false, true, LOW},
    {"destroy, background, fault", {DESTROY, BACKGROUND, TOUCH}, false, false, false, true, LOW},
    {"fault, background, background",
     {TOUCH, BACKGROUND, BACKGROUND},
     true,
     false,
     false,
     true,
     LOW},
    {"fault, out of memory", {TOUCH, KILL}, true, false, false, false, FULL},
    {"evict, out of memory", {EVICT, KILL}, false, false, false, false, FULL},
    {"unmap and map, out of memory", {UNMAP_MAP, KILL}, false, false, false, false, FULL},
    {"fault, out of memory twice", {TOUCH, KILL, KILL}, false, false, true, false, FULL},
    {"destroy, out of memory, reclaim", {DESTROY, KILL, RECLAIM}, false, false, false, false, FULL},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct match {
    struct ktap *t;
    const struct plan *plan;
    uint32_t cpus, pages;
    struct env env;
    struct neomm_space *space, *other;
    neomm_vaddr_t at;
    uint32_t mistakes;
    uint32_t held; /* frames that are in the way */
    neomm_frame_t frame[1024];
};

static void mistake(struct match *m, uint32_t cpu, const char *what)
{
    if (m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", cpu, what);
}

/* ---- what the CPUs do ---- */

static bool access_word(struct match *m, uint32_t cpu, uint32_t page, uint32_t word,
                        uint64_t *value, bool write)
{
    neomm_vaddr_t at = m->at + page * PAGE + word * 8u;
    neomm_status status = env_access(&m->env, m->space, at, value, 8, write, true);
    if (status != NEOMM_OK && m->plan->mapped)
        mistake(m, cpu, "an access failed");
    return status == NEOMM_OK;
}

/* Nobody else writes this word: what is read is what was written last, or nothing after the page
 * was unmapped and mapped again. */
static void touch(struct match *m, uint32_t cpu, uint32_t page)
{
    uint64_t before = 0, now = 0, next;
    if (!access_word(m, cpu, page, cpu, &before, false))
        return;
    next = before + 1;
    if (!access_word(m, cpu, page, cpu, &next, true))
        return;
    if (!access_word(m, cpu, page, cpu, &now, false))
        return;
    if (now != before + 1 && (m->plan->mapped || now != 0))
        mistake(m, cpu, "a page does not hold what was written to it");
}

static void touch_all(struct match *m, uint32_t cpu, bool backwards)
{
    for (uint32_t i = 0; i < m->pages; i++)
        touch(m, cpu, backwards ? m->pages - 1 - i : i);
}

static void look(struct match *m, uint32_t cpu)
{
    for (uint32_t page = 0; page < m->pages; page++) {
        uint64_t value = 0;
        if (access_word(m, cpu, page, CPUS_MAX, &value, false) &&
            value != (m->plan->fresh ? 0 : 100 + page))
            mistake(m, cpu, "a page lost what was in it");
    }
}

static void expect(struct match *m, uint32_t cpu, neomm_status status, const char *what)
{
    if (status != NEOMM_OK)
        mistake(m, cpu, what);
}

static void unmap(struct match *m, uint32_t cpu, uint32_t pages, bool again)
{
    struct neomm *root = m->env.root;
    neomm_vaddr_t at = m->at;
    expect(m, cpu, neomm_munmap(root, m->space, at, pages * PAGE), "munmap failed");
    if (again)
        expect(m, cpu, neomm_mmap(root, m->space, &at, pages * PAGE, RW, NEOMM_MAP_EXACT),
               "mmap failed");
}

static void protect(struct match *m, uint32_t cpu)
{
    struct neomm *root = m->env.root;
    expect(m, cpu, neomm_mprotect(root, m->space, m->at, m->pages * PAGE, NEOMM_PROT_READ),
           "mprotect failed");
    expect(m, cpu, neomm_mprotect(root, m->space, m->at, m->pages * PAGE, RW), "mprotect failed");
}

static void fill(struct match *m, struct neomm_space *space, neomm_vaddr_t at)
{
    for (uint32_t page = 0; page < m->pages; page++) {
        uint64_t value = 100 + page;
        if (env_access(&m->env, space, at + page * PAGE + CPUS_MAX * 8u, &value, 8, true, true) !=
            NEOMM_OK)
            mistake(m, neomm_port_cpu()->index, "the first write to a page failed");
    }
}

static struct neomm_space *make(struct match *m, const struct neomm_limits *limits)
{
    struct neomm *root = m->env.root;
    struct neomm_space *space = NULL;
    neomm_vaddr_t at = m->at;
    if (neomm_space_create(root, limits, &space) != NEOMM_OK ||
        neomm_mmap(root, space, &at, m->pages * PAGE, RW, NEOMM_MAP_EXACT) != NEOMM_OK) {
        mistake(m, neomm_port_cpu()->index, "a space could not be made");
        return NULL;
    }
    neomm_space_activate(root, space);
    fill(m, space, at);
    neomm_space_activate(root, NULL);
    return space;
}

static void destroy(struct match *m, uint32_t cpu, struct neomm_space *space)
{
    if (space)
        expect(m, cpu, neomm_space_destroy(m->env.root, space), "a space could not be destroyed");
}

/* Without a space loaded: what a CPU of the kernel does. */
static bool act_outside(struct match *m, uint32_t cpu)
{
    switch (m->plan->act[cpu]) {
    case DESTROY:
        destroy(m, cpu, m->other);
        m->other = NULL;
        return true;
    case RECLAIM:
        (void)neomm__reclaim(m->env.root, m->pages + 1);
        return true;
    case BACKGROUND:
        while (neomm_reclaim_background(m->env.root, 2, NULL) == NEOMM_E_AGAIN)
            continue;
        return true;
    case KILL:
        (void)neomm__out_of_memory(m->env.root);
        return true;
    case MAKE:
        destroy(m, cpu, make(m, NULL));
        return true;
    default:
        return false;
    }
}

static void act_inside(struct match *m, uint32_t cpu)
{
    switch (m->plan->act[cpu]) {
    case TOUCH:
    case TOUCH_LAST:
        touch_all(m, cpu, m->plan->act[cpu] == TOUCH_LAST);
        break;
    case TOUCH_EVICT:
        touch_all(m, cpu, false);
        (void)neomm_space_evict(m->env.root, m->space, m->pages);
        break;
    case LOOK:
        look(m, cpu);
        break;
    case EVICT:
        (void)neomm_space_evict(m->env.root, m->space, m->pages);
        break;
    case UNMAP:
    case UNMAP_MAP:
        unmap(m, cpu, m->pages, m->plan->act[cpu] == UNMAP_MAP);
        break;
    case UNMAP_HALF:
        unmap(m, cpu, (m->pages + 1) / 2, false);
        break;
    case PROTECT:
        protect(m, cpu);
        break;
    default:
        break;
    }
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    if (act_outside(m, cpu))
        return;
    neomm_space_activate(m->env.root, m->space);
    act_inside(m, cpu);
    neomm_space_activate(m->env.root, NULL);
}

/* ---- before and after a schedule ---- */

/* Takes frames until the zone is right below its low watermark, or until there are none. */
static void take_frames(struct match *m)
{
    struct neomm *root = m->env.root;
    bool low = m->plan->memory == LOW;
    while (m->plan->memory != ROOMY && m->held < 1024 &&
           !(low && neomm_pmm_watermark(root, NEOMM_ZONE_DMA) < NEOMM_WATERMARK_LOW) &&
           neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &m->frame[m->held]) == NEOMM_OK)
        m->held++;
}

static void give_frames(struct match *m)
{
    expect(m, 0, neomm_pmm_free_bulk(m->env.root, m->held, m->frame, NULL), "free_bulk failed");
}

static const uint64_t formats[] = ENV_FORMATS;

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
                                        .ram_bytes = 4u << 20,
                                        .cpus = m->cpus,
                                        .swap_pages = 32,
                                        .no_pool = meets_the_disk(seed),
                                        .seed = seed};
    const struct neomm_limits limits = {NEOMM_UNLIMITED,
                                        m->plan->limited ? 2 * PAGE : NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    m->mistakes = 0;
    m->held = 0;
    if (!env_open(m->t, &m->env, &options))
        return NULL;
    m->at = neomm_layout_of(m->env.root)->user_base;
    m->space = make(m, &limits);
    m->other = make(m, NULL);
    if (m->plan->fresh)
        unmap(m, 0, m->pages, true);
    if (m->plan->evicted)
        (void)neomm_space_evict(m->env.root, m->space, m->pages);
    if (m->space && m->plan->memory == FULL)
        expect(m, 0, neomm_space_set_oom_bias(m->env.root, m->space, NEOMM_OOM_BIAS_MAX), "bias");
    take_frames(m);
    return m->env.machine;
}

/* What was there before is there still, where nobody took it away, and so are the words of each
 * CPU: each touch counts one. */
static void check_pages(struct match *m)
{
    neomm_space_activate(m->env.root, m->space);
    look(m, 0);
    for (uint32_t cpu = 0; cpu < m->cpus; cpu++) {
        bool touched = m->plan->act[cpu] >= TOUCH && m->plan->act[cpu] <= TOUCH_EVICT;
        for (uint32_t page = 0; page < m->pages; page++) {
            uint64_t value = 0;
            if (access_word(m, 0, page, cpu, &value, false) && value != touched)
                mistake(m, cpu, "a write was lost");
        }
    }
    neomm_space_activate(m->env.root, NULL);
}

/* No fault that was under way has given it anything afterwards. */
static void check_victim(struct match *m)
{
    if (neomm__is_victim(m->space) &&
        (neomm__resident(m->env.root, m->space) != 0 || m->space->swap_pages != 0))
        mistake(m, 0, "a victim has pages");
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&m->env);
        return false;
    }
    if (m->plan->mapped)
        check_pages(m);
    env_fsck(m->t, &m->env);
    check_victim(m);
    give_frames(m);
    destroy(m, 0, m->space);
    destroy(m, 0, m->other);
    env_close(m->t, &m->env);
    return m->mistakes == 0 && m->t->failures == failures;
}

/* ---- many schedules ---- */

static void search(struct ktap *t, const struct plan *plan, uint32_t pages,
                   const struct sim_sched_options *options, struct sim_sched_result *result)
{
    static struct match match;
    match.t = t;
    match.plan = plan;
    match.cpus = plan->act[2] == REST ? 2 : 3;
    match.pages = pages;
    const struct sim_scenario scenario = {match.cpus, &match, begin, run, end};
    if (sim_sched_explore(&scenario, options, result))
        return;
    ktap_fail(t, __FILE__, __LINE__, plan->name);
    sched_note(t, result);
}

static bool unavailable(struct ktap *t)
{
    if (sim_sched_unavailable())
        ktap_skip(t, sim_sched_unavailable());
    return sim_sched_unavailable() != NULL;
}

/* Parameter: number of the plan. */
static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                        11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                        22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == PLANS, "each plan is run");

/* Both formats, by the seed. */
static void by_seed(struct ktap *t)
{
    if (unavailable(t))
        return;
    for (uint32_t pages = 1; pages <= MOST; pages++) {
        const struct sim_sched_options options = {.mode = SIM_SCHED_RANDOM,
                                                  .seed = 1000000 * pages,
                                                  .schedules = share_of(25 * sched_factor()),
                                                  .preemptions = 24};
        struct sim_sched_result result;
        search(t, &plans[t->parameter], pages, &options, &result);
    }
}

/* Reclaim looks at every possible space: thousands of points, at which little can happen. */
static bool is_long(const struct plan *plan)
{
    return plan->act[1] == RECLAIM || plan->act[2] == RECLAIM || plan->memory != ROOMY;
}

/* Over one page: all schedules with one preemption of two CPUs, and the first ones of the longer
 * plans; with two where there is time. */
static void one_after_the_other(struct ktap *t)
{
    const struct plan *plan = &plans[t->parameter];
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_EXHAUSTIVE,
        .seed = t->parameter,
        .schedules = share_of((is_long(plan) ? 50 : 700) * sched_factor()),
        .preemptions = sched_factor() > 1 ? 2 : 1};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    search(t, plan, 1, &options, &result);
    ktap_note(t, "%s: %llu schedules, %llu points%s", plan->name,
              (unsigned long long)result.schedules, (unsigned long long)result.points,
              result.complete ? "" : ", not all");
    if (sched_factor() == 1 && share_divisor() == 1 && plan->act[2] == REST && !is_long(plan))
        EXPECT(t, result.complete);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(by_seed, plan_numbers),
    KTAP_CASE_WITH(one_after_the_other, plan_numbers),
};
KTAP_SUITE(vmm_sched, cases);
