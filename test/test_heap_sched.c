/* The heap with two CPUs in it in every order: all schedules of small scenarios with few
 * preemptions, and interrupts at every point of one CPU while another empties its magazines. A
 * model knows who has which object, what is in it, and that none is lost.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"
#include "sched_note.h"
#include "share.h"

#include "heap/magazine.h"

#include <stdlib.h>

#define CPUS  3u  /* of the machine; plans use the first two or all */
#define CALLS 5u  /* of a CPU */
#define HELD  70u /* objects that a CPU may hold */

enum call_kind {
    NO_CALL,
    ALLOC,     /* an object */
    FREE,      /* object `number` of those there before */
    FREE_LAST, /* what the CPU got last */
    BULK,      /* `number` objects */
    BULK_FREE, /* the last `number` */
    NOLOCK_ALLOC,
    NOLOCK_FREE, /* of object `number` */
    SHRINK,      /* the whole heap: all CPUs' magazines are emptied */
    SHRINK_ONE,  /* the cache */
    DESTROY,     /* the cache */
    DESTROY_OTHER,
    CREATE,     /* another cache, with an object of it, and away with it */
    TAKE_FRAME, /* one of the frame allocator */
    STATS,
    OFFLINE,  /* the CPU itself, which goes on afterwards */
    FREE_RUN, /* of pages that are there before */
    OTHER     /* an object of kmalloc's, and back with it */
};

struct call {
    enum call_kind kind;
    uint32_t number;
};

struct plan {
    const char *name;
    uint32_t size;       /* of the objects */
    uint32_t before;     /* objects there when the CPUs begin */
    uint32_t kept[CPUS]; /* and so many in each CPU's magazine */
    struct call call[CPUS][CALLS];
    uint32_t cpus; /* 0: 2 */
    uint32_t preemptions;
    bool twice;    /* frees of what is free already */
    bool deferred; /* objects may wait to be freed */
    bool starved;  /* no memory but what is there */
    bool run;      /* one of pages is there, that all free */
};

#define A                                                                                          \
    {                                                                                              \
        ALLOC, 0                                                                                   \
    }
#define F(number)                                                                                  \
    {                                                                                              \
        FREE, number                                                                               \
    }
#define F_LAST                                                                                     \
    {                                                                                              \
        FREE_LAST, 0                                                                               \
    }
#define DO(kind)                                                                                   \
    {                                                                                              \
        kind, 0                                                                                    \
    }

static const struct plan plans[] = {
    {"alloc, alloc", .size = 1024, .call = {{A, A}, {A, A}}, .preemptions = 2},
    {"alloc and free, twice", .size = 1024, .call = {{A, F_LAST}, {A, F_LAST}}, .preemptions = 2},
    {"free from another CPU", .size = 1024, .before = 4, .call = {{A, F(0), A}, {F(1), F(2), A}},
     .preemptions = 2},
    {"refill, refill of one slab", .size = 2048, .before = 1, .call = {{A, A}, {A, A}},
     .preemptions = 2},
    {"flush, flush", .size = 4096, .before = 14, .kept = {2, 2},
     .call = {{F(0), F(1), F(2)}, {F(3), F(4), F(5)}}, .preemptions = 2},
    {"flush, refill", .size = 4096, .before = 14, .kept = {2, 0}, .call = {{F(0), F(1)}, {A, A}},
     .preemptions = 2},
    {"shrink, alloc", .size = 1024, .kept = {2, 2}, .call = {{DO(SHRINK_ONE)}, {A, A, A}},
     .preemptions = 2},
    {"shrink, free", .size = 1024, .before = 4, .kept = {0, 2},
     .call = {{DO(SHRINK_ONE)}, {F(0), F(1)}}, .preemptions = 2},
    {"shrink, free and alloc", .size = 1024, .before = 2, .kept = {1, 2},
     .call = {{DO(SHRINK_ONE), A}, {F(0), A, F_LAST}}, .preemptions = 2},
    {"shrink, shrink", .size = 1024, .before = 2, .kept = {2, 2},
     .call = {{F(0), DO(SHRINK_ONE)}, {F(1), DO(SHRINK_ONE)}}, .preemptions = 2},
    {"shrink of all, free and alloc", .size = 1024, .before = 2, .kept = {1, 1},
     .call = {{DO(SHRINK)}, {F(0), A, F_LAST}}, .preemptions = 1},
    {"shrink by a third CPU", .size = 1024, .before = 2, .kept = {2, 2},
     .call = {{A, F_LAST}, {F(0), A}, {DO(SHRINK_ONE)}}, .cpus = 3, .preemptions = 1},
    {"shrink, first call of a CPU", .size = 1024, .before = 1,
     .call = {{DO(SHRINK_ONE), A}, {A, F(0), A}}, .preemptions = 2},
    {"bulk, bulk", .size = 512, .before = 2,
     .call = {{{BULK, 9}, {BULK_FREE, 9}}, {{BULK, 7}, {BULK_FREE, 5}}}, .preemptions = 1},
    {"bulk, shrink", .size = 512, .before = 2, .kept = {5, 5},
     .call = {{{BULK, 9}, {BULK_FREE, 6}}, {DO(SHRINK_ONE)}}, .preemptions = 2},
    {"the same twice", .size = 1024, .before = 3, .call = {{F(0)}, {F(0)}}, .preemptions = 2,
     .twice = true},
    {"the same twice, past the magazines", .size = 1024, .before = 3, .kept = {1, 1},
     .call = {{F(0)}, {F(0)}, {DO(SHRINK_ONE)}}, .cpus = 3, .preemptions = 2, .twice = true},
    {"the same twice, and the slab ends", .size = 8192, .before = 1,
     .call = {{F(0), DO(SHRINK_ONE)}, {F(0), DO(SHRINK_ONE), DO(OTHER)}}, .preemptions = 1,
     .twice = true},
    {"destroy, create", .size = 1024, .call = {{DO(DESTROY)}, {DO(CREATE)}}, .preemptions = 1},
    {"destroy, shrink", .size = 1024, .kept = {2, 2}, .call = {{DO(DESTROY)}, {DO(SHRINK)}},
     .preemptions = 1},
    {"destroy, statistics", .size = 1024, .kept = {2, 2}, .call = {{DO(DESTROY)}, {DO(STATS)}},
     .preemptions = 1},
    {"destroy of another, alloc", .size = 1024, .kept = {2, 2},
     .call = {{DO(DESTROY_OTHER)}, {A, F_LAST, A}}, .preemptions = 1},
    {"destroy with a live object", .size = 1024, .before = 1, .kept = {1, 1},
     .call = {{DO(DESTROY)}, {DO(OTHER)}}, .preemptions = 1},
    {"destroy, and memory runs out", .size = 1024, .before = 6, .kept = {0, 2},
     .call = {{DO(DESTROY_OTHER), DO(TAKE_FRAME)}, {A, A, A}}, .preemptions = 1, .starved = true},
    {"offline, shrink", .size = 1024, .before = 2, .kept = {2, 2},
     .call = {{DO(SHRINK_ONE)}, {F(0), DO(OFFLINE), A}}, .preemptions = 1},
    {"nolock, alloc", .size = 1024, .before = 3, .kept = {2, 2},
     .call = {{A, F_LAST}, {DO(NOLOCK_ALLOC), {NOLOCK_FREE, 0}, {NOLOCK_FREE, 1}}},
     .preemptions = 2, .deferred = true},
    {"nolock, shrink", .size = 1024, .before = 3, .kept = {2, 2},
     .call = {{DO(SHRINK_ONE)}, {{NOLOCK_FREE, 0}, DO(NOLOCK_ALLOC), {NOLOCK_FREE, 1}}},
     .preemptions = 2, .deferred = true},
    {"put off, and freed by another", .size = 4096, .before = 9, .kept = {0, 2},
     .call = {{A, DO(SHRINK_ONE)}, {{NOLOCK_FREE, 0}, {NOLOCK_FREE, 1}}}, .preemptions = 2,
     .deferred = true},
    {"to a depot, and from it", .size = 4096, .before = 14, .kept = {2, 2},
     .call = {{F(0), F(1), A, F(2)}, {F(3), A, A, A}}, .preemptions = 2},
    {"a depot ends", .size = 4096, .before = 14, .kept = {2, 2},
     .call = {{F(0), F(1), DO(SHRINK_ONE)}, {A, A, A}}, .preemptions = 2},
    {"the same run twice", .size = 1024, .call = {{DO(FREE_RUN)}, {DO(FREE_RUN)}}, .preemptions = 2,
     .run = true},
};

static const uint64_t plan_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                        11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                        22, 23, 24, 25, 26, 27, 28, 29, 30};
_Static_assert(sizeof(plan_numbers) / sizeof(plan_numbers[0]) == sizeof(plans) / sizeof(plans[0]),
               "each plan is run");

/* ---- the model ---- */

struct object {
    uint8_t *at;
    uint32_t id; /* of its pattern */
};

struct match {
    struct ktap *t;
    const struct plan *plan;
    struct box box;
    struct neomm_kmem *cache, *other;
    struct object before[HELD], held[CPUS][HELD];
    uint32_t count[CPUS], freed[HELD]; /* frees of each of `before` */
    uint32_t ids, mistakes;
    bool gone;      /* the cache */
    uint8_t *frame; /* that a CPU took */
    uintptr_t pages;
    uint32_t pages_freed;
};
#define FRAMES_MAX 1024u
#define FRAME_ID   77u
static neomm_frame_t frame[FRAMES_MAX];
static uint32_t frames; /* taken, so that there is no memory */
static struct match match, begun;
static struct sim_snapshot *snapshot;

static void mistake(const char *what, uint32_t cpu)
{
    if (match.mistakes++ == 0)
        ktap_note(match.t, "CPU %u: %s", cpu, what);
}

static bool overlaps(const struct object *object, const uint8_t *at)
{
    size_t size = match.plan->size;
    return object->at && at < object->at + size && object->at < at + size;
}

/* Nobody else has it. */
static void got(uint32_t cpu, void *at)
{
    for (uint32_t other = 0; other < CPUS; other++)
        for (uint32_t i = 0; i < match.count[other]; i++)
            if (overlaps(&match.held[other][i], at))
                mistake("was given an object that somebody has", cpu);
    for (uint32_t i = 0; i < match.plan->before; i++)
        if (match.freed[i] == 0 && overlaps(&match.before[i], at))
            mistake("was given an object that was there before", cpu);
    uint32_t id = ++match.ids;
    pattern_fill(at, match.plan->size, id);
    match.held[cpu][match.count[cpu]++] = (struct object){at, id};
}

static void check_contents(uint32_t cpu, const struct object *object)
{
    if (!pattern_holds(object->at, match.plan->size, object->id))
        mistake("somebody wrote to its object", cpu);
}

static void *lose(uint32_t cpu)
{
    struct object *object = &match.held[cpu][--match.count[cpu]];
    check_contents(cpu, object);
    return object->at;
}

/* ---- the calls ---- */

static void free_before(uint32_t cpu, uint32_t number, bool nolock)
{
    struct object *object = &match.before[number];
    struct neomm *root = match.box.root;
    if (match.freed[number]++ == 0)
        check_contents(cpu, object);
    neomm_status status =
        nolock ? neomm_kfree_nolock(root, object->at) : neomm_kfree(root, object->at);
    if (status != NEOMM_OK && !match.plan->twice)
        mistake("could not free an object", cpu);
}

static void bulk(uint32_t cpu, uint32_t count)
{
    void *object[HELD];
    neomm_status status =
        neomm_kmem_alloc_bulk(match.box.root, match.cache, NEOMM_ATOMIC, count, object);
    if (status != NEOMM_OK)
        mistake("was refused objects in bulk", cpu);
    for (uint32_t i = 0; status == NEOMM_OK && i < count; i++)
        got(cpu, object[i]);
}

static void bulk_free(uint32_t cpu, uint32_t count)
{
    void *object[HELD];
    for (uint32_t i = 0; i < count; i++)
        object[i] = lose(cpu);
    if (neomm_kmem_free_bulk(match.box.root, match.cache, count, object) != NEOMM_OK)
        mistake("could not give back what it had", cpu);
}

static void alloc(uint32_t cpu, neomm_flags_t flags)
{
    void *object = neomm_kmem_alloc(match.box.root, match.cache, flags);
    if (object)
        got(cpu, object);
    else if (!(flags & NEOMM_NOLOCK) && !match.plan->starved)
        mistake("was refused an object", cpu);
}

static struct neomm_kmem *make_cache(uint32_t size)
{
    const struct neomm_kmem_options options = {.name = "made", .size = size};
    return neomm_kmem_create(match.box.root, &options);
}

/* Whoever comes second finds the cache in use or gone. */
static void destroy(struct neomm_kmem *cache, uint32_t cpu)
{
    neomm_status status = neomm_kmem_destroy(match.box.root, cache);
    if (cache == match.cache)
        match.gone = status == NEOMM_OK;
    else if (status == NEOMM_OK)
        match.other = NULL;
    bool empty = cache != match.cache || match.plan->before == 0;
    if (status != NEOMM_OK && empty)
        mistake("could not end an empty cache", cpu);
    if (status == NEOMM_OK && !empty)
        mistake("ended a cache with a live object", cpu);
}

static void create(uint32_t cpu)
{
    struct neomm *root = match.box.root;
    struct neomm_kmem *cache = make_cache(200);
    void *object = cache ? neomm_kmem_alloc(root, cache, NEOMM_ATOMIC) : NULL;
    if (!object || neomm_kmem_free(root, cache, object) != NEOMM_OK)
        mistake("could not use a new cache", cpu);
    if (!cache || neomm_kmem_destroy(root, cache) == NEOMM_E_INVALID)
        mistake("could not end a new cache", cpu);
}

/* What was the heap's and is not any more. */
static void take_frame(uint32_t cpu)
{
    neomm_frame_t number;
    if (neomm_pmm_alloc(match.box.root, 0, NEOMM_ATOMIC | NEOMM_RESERVE, &number) != NEOMM_OK) {
        mistake("was refused a frame that was given back", cpu);
        return;
    }
    match.frame = neomm_direct_pointer(match.box.root, neomm_frame_paddr(number));
    pattern_fill(match.frame, NEOMM_PAGE_SIZE, FRAME_ID);
}

/* Nobody wrote to it. */
static void give_frame(void)
{
    neomm_paddr_t paddr =
        (uintptr_t)match.frame - (uintptr_t)neomm_direct_pointer(match.box.root, 0);
    EXPECT(match.t, pattern_holds(match.frame, NEOMM_PAGE_SIZE, FRAME_ID));
    EXPECT_OK(match.t, neomm_pmm_free(match.box.root, neomm_paddr_frame(paddr), 0));
}

/* Whoever comes second is told. */
static void free_run(uint32_t cpu)
{
    neomm_status status = neomm_kfree(match.box.root, (void *)match.pages);
    match.pages_freed += status == NEOMM_OK;
    if (status != NEOMM_OK && status != NEOMM_E_DOUBLE_FREE && status != NEOMM_E_FOREIGN)
        mistake("had pages refused for a wrong reason", cpu);
}

static void other(uint32_t cpu)
{
    void *block = take(&match.box, 3000, NEOMM_ATOMIC);
    if (!block || neomm_kfree(match.box.root, block) != NEOMM_OK)
        mistake("could not use kmalloc", cpu);
}

static void make(uint32_t cpu, const struct call *call)
{
    struct neomm_heap_stats stats;
    switch (call->kind) {
    case ALLOC:
        alloc(cpu, NEOMM_ATOMIC);
        break;
    case NOLOCK_ALLOC:
        alloc(cpu, NEOMM_NOLOCK);
        break;
    case FREE:
    case NOLOCK_FREE:
        free_before(cpu, call->number, call->kind == NOLOCK_FREE);
        break;
    case FREE_LAST:
        if (match.count[cpu] > 0)
            bulk_free(cpu, 1);
        break;
    case BULK:
        bulk(cpu, call->number);
        break;
    case BULK_FREE:
        bulk_free(cpu, call->number);
        break;
    case SHRINK:
        (void)neomm_heap_shrink(match.box.root);
        break;
    case SHRINK_ONE:
        (void)neomm_kmem_shrink(match.box.root, match.cache);
        break;
    case DESTROY:
        destroy(match.cache, cpu);
        break;
    case DESTROY_OTHER:
        destroy(match.other, cpu);
        break;
    case CREATE:
        create(cpu);
        break;
    case TAKE_FRAME:
        take_frame(cpu);
        break;
    case STATS:
        neomm_heap_stats(match.box.root, &stats);
        break;
    case FREE_RUN:
        free_run(cpu);
        break;
    case OFFLINE:
        (void)neomm_heap_cpu_offline(match.box.root, cpu);
        break;
    default:
        other(cpu);
        break;
    }
}

static void run(void *context, uint32_t cpu)
{
    (void)context;
    for (uint32_t i = 0; i < CALLS && match.plan->call[cpu][i].kind != NO_CALL; i++)
        make(cpu, &match.plan->call[cpu][i]);
}

/* ---- before and after a schedule ---- */

static struct sim *begin(void *context, uint64_t seed)
{
    (void)context;
    (void)seed;
    sim_snapshot_restore(begun.box.env.machine, snapshot);
    match = begun;
    return match.box.env.machine;
}

/* How many objects of the cache are live, as the model knows. */
static uint32_t live(void)
{
    uint32_t count = 0;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        count += match.count[cpu];
    for (uint32_t i = 0; i < match.plan->before; i++)
        count += match.freed[i] == 0;
    return count;
}

/* Everything is back in its slab, and found there; then everything goes. */
static bool end(void *context, enum sim_sched_end how)
{
    struct neomm_kmem_stats stats;
    unsigned failures = match.t->failures;
    uint32_t again = 0;
    (void)context;
    if (how != SIM_SCHED_DONE)
        return false;
    if (match.frame)
        give_frame();
    if (match.plan->twice) /* the second free shows when the object gets to its slab */
        (void)neomm_heap_shrink(match.box.root);
    env_fsck(match.t, &match.box.env);
    for (uint32_t i = 0; i < match.plan->before; i++)
        again += match.freed[i] > 1 ? match.freed[i] - 1 : 0;
    if (!match.gone) {
        if (match.plan->deferred)
            (void)neomm_heap_shrink(match.box.root);
        neomm_kmem_stats(match.box.root, match.cache, &stats);
        EXPECT_EQ(match.t, stats.objects, live());
        for (uint32_t cpu = 0; cpu < CPUS; cpu++)
            bulk_free(cpu, match.count[cpu]);
        for (uint32_t i = 0; i < match.plan->before; i++)
            if (match.freed[i] == 0)
                free_before(0, i, false);
        (void)neomm_heap_shrink(match.box.root);
        neomm_kmem_stats(match.box.root, match.cache, &stats);
        EXPECT_EQ(match.t, stats.objects + stats.kept + stats.slabs, 0);
    }
    EXPECT_EQ(match.t, match.pages_freed, match.plan->run);
    EXPECT_EQ(match.t, box_counter(&match.box, NEOMM_COUNTER_BAD_FREE), again + match.plan->run);
    env_fsck(match.t, &match.box.env);
    return match.mistakes == 0 && match.t->failures == failures;
}

/* ---- all schedules of a plan ---- */

/* All frames that nobody has. */
static void take_frames(struct ktap *t)
{
    frames = 0;
    while (frames < FRAMES_MAX &&
           neomm_pmm_alloc(match.box.root, 0, NEOMM_RESERVE, &frame[frames]) == NEOMM_OK)
        frames++;
    EXPECT(t, frames < FRAMES_MAX);
}

/* Each CPU keeps so many objects; the rest is somebody's. */
static void prepare(const struct plan *plan)
{
    void *object[CPUS][HELD];
    struct neomm *root = match.box.root;
    match.cache = make_cache(plan->size);
    match.other = make_cache(600);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (uint32_t i = 0; i < plan->kept[cpu]; i++)
            object[cpu][i] = neomm_kmem_alloc(root, match.cache, 0);
    for (uint32_t i = 0; i < plan->before; i++) {
        match.before[i] = (struct object){neomm_kmem_alloc(root, match.cache, 0), ++match.ids};
        pattern_fill(match.before[i].at, plan->size, match.before[i].id);
    }
    (void)neomm_kmem_shrink(root, match.cache);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        env_switch_cpu(&match.box.env, cpu);
        for (uint32_t i = 0; i < plan->kept[cpu]; i++)
            EXPECT_OK(match.t, neomm_kmem_free(root, match.cache, object[cpu][i]));
        EXPECT_EQ(match.t, neomm__magazine_kept(neomm__magazine_of(match.cache, cpu)),
                  plan->kept[cpu]);
    }
    env_switch_cpu(&match.box.env, 0);
    if (plan->run)
        match.pages = (uintptr_t)take(&match.box, 9000, 0);
    frames = 0;
    if (plan->starved)
        take_frames(match.t);
}

/* Sanitizers look for other things than orders. */
static uint32_t preemptions_of(const struct plan *plan)
{
    if (getenv("NEOMM_SCHEDULES"))
        return plan->preemptions + 1;
    return share_divisor() >= 8 && plan->preemptions > 1 ? 1 : plan->preemptions;
}

static void in_every_order(struct ktap *t)
{
    const struct plan *plan = &plans[t->parameter];
    const struct sim_scenario scenario = {plan->cpus ? plan->cpus : 2, &match, begin, run, end};
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .preemptions = preemptions_of(plan)};
    struct sim_sched_result result;
    if (sim_sched_unavailable()) {
        ktap_skip(t, sim_sched_unavailable());
        return;
    }
    memset(&match, 0, sizeof(match));
    match.t = t;
    match.plan = plan;
    if (!box_open(t, &match.box, BOX_DIRECT, 4, CPUS))
        return;
    prepare(plan);
    begun = match;
    snapshot = sim_snapshot_take(match.box.env.machine);
    (void)sim_sched_explore(&scenario, &options, &result);
    ktap_note(t, "%s: %llu schedules, %llu points", plan->name,
              (unsigned long long)result.schedules, (unsigned long long)result.points);
    EXPECT(t, result.complete);
    if (result.end != SIM_SCHED_DONE) {
        ktap_fail(t, __FILE__, __LINE__, plan->name);
        sched_note(t, &result);
    }
    (void)begin(NULL, 0);
    env_switch_cpu(&match.box.env, 0);
    sim_snapshot_free(snapshot);
    while (frames > 0)
        EXPECT_OK(t, neomm_pmm_free(match.box.root, frame[--frames], 0));
    for (uint32_t i = 0; i < plan->before; i++)
        EXPECT_OK(t, neomm_kfree(match.box.root, match.before[i].at));
    if (plan->run)
        EXPECT_OK(t, neomm_kfree(match.box.root, (void *)match.pages));
    EXPECT_OK(t, neomm_kmem_destroy(match.box.root, match.cache));
    EXPECT_OK(t, neomm_kmem_destroy(match.box.root, match.other));
    box_close(t, &match.box);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(in_every_order, plan_numbers)};
KTAP_SUITE(heap_sched, cases);
