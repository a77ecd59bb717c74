/* The heap interrupted at every point of every kind of call, on the same CPU: by a handler that
 * allocates and frees itself, and by an NMI handler, which comes with locks held too.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "base/bits.h"
#include "sim/sim.h"

#define SIZE   512u
#define HELD   80u
#define GIVEN  3u
#define POINTS 4000u /* of a handler, at most: it did not wait for what it interrupted */

struct held {
    uint8_t *at;
    size_t size;
    uint32_t id;
};

/* What the interrupted call and its handler have. */
struct pair {
    struct ktap *t;
    struct box *box;
    struct neomm_kmem *cache;
    struct held held[HELD], caught[16];
    uint8_t *given[GIVEN]; /* that the handler frees */
    uint32_t count, catches, ids, runs, refused;
    uint64_t points;
    bool nmi;
};
static struct pair pair;

static struct held hold(void *block, size_t size)
{
    struct held held = {block, size, ++pair.ids};
    pattern_fill(block, size, held.id);
    return held;
}

static void let_go(const struct held *held)
{
    EXPECT(pair.t, pattern_holds(held->at, held->size, held->id));
    EXPECT_OK(pair.t, neomm_kfree(pair.box->root, held->at));
}

/* One of the same class, one of another, a run. */
static void handler(void *context)
{
    static const size_t sizes[] = {SIZE, SIZE, 48, 20000};
    struct neomm *root = pair.box->root;
    uint64_t before = sim_points(pair.box->env.machine);
    (void)context;
    pair.runs++;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(sizes); i++) {
        void *block = take(pair.box, sizes[i], pair.nmi ? NEOMM_NOLOCK : NEOMM_ATOMIC);
        pair.refused += !block;
        if (block)
            pair.caught[pair.catches++] = hold(block, sizes[i]);
    }
    for (uint32_t i = 0; i < GIVEN; i++)
        if (pair.nmi)
            EXPECT_OK(pair.t, neomm_kfree_nolock(root, pair.given[i]));
        else
            EXPECT_OK(pair.t, neomm_kfree(root, pair.given[i]));
    pair.points = sim_points(pair.box->env.machine) - before;
}

/* ---- the calls that are interrupted ---- */

static void get(size_t size)
{
    void *block = take(pair.box, size, NEOMM_ATOMIC);
    EXPECT(pair.t, block != NULL);
    if (block)
        pair.held[pair.count++] = hold(block, size);
}

static void give(void)
{
    let_go(&pair.held[--pair.count]);
}

static void alloc(void)
{
    get(SIZE);
}

static void alloc_and_free(void)
{
    get(SIZE);
    give();
}

/* So many that slabs are made, magazines flushed, and slabs end. */
static void many(void)
{
    for (uint32_t i = 0; i < 70; i++)
        get(SIZE);
    while (pair.count > 0)
        give();
}

static void run(void)
{
    get(50000);
    give();
}

static void grow(void)
{
    get(SIZE);
    struct held *held = &pair.held[pair.count - 1];
    uint8_t *moved = neomm_krealloc(pair.box->root, held->at, 3000, NEOMM_ATOMIC);
    EXPECT(pair.t, moved && pattern_holds(moved, SIZE, held->id));
    held->at = moved;
    give();
}

static void bulk(void)
{
    void *object[40];
    struct neomm *root = pair.box->root;
    EXPECT_OK(pair.t, neomm_kmem_alloc_bulk(root, pair.cache, NEOMM_ATOMIC, 40, object));
    EXPECT_OK(pair.t, neomm_kmem_free_bulk(root, pair.cache, 40, object));
}

static void shrink(void)
{
    (void)neomm_heap_shrink(pair.box->root);
}

static void create_and_destroy(void)
{
    const struct neomm_kmem_options options = {.name = "short", .size = 300};
    struct neomm *root = pair.box->root;
    struct neomm_kmem *cache = neomm_kmem_create(root, &options);
    void *object = cache ? neomm_kmem_alloc(root, cache, 0) : NULL;
    EXPECT(pair.t, object != NULL);
    EXPECT_OK(pair.t, neomm_kmem_free(root, cache, object));
    EXPECT_OK(pair.t, neomm_kmem_destroy(root, cache));
}

static void statistics(void)
{
    struct neomm_heap_stats stats;
    neomm_heap_stats(pair.box->root, &stats);
}

struct call {
    const char *name;
    void (*make)(void);
    bool cached; /* there are objects in the magazine */
};

static const struct call calls[] = {
    {"alloc, refill", alloc, false},
    {"alloc, hit", alloc, true},
    {"alloc and free", alloc_and_free, true},
    {"many", many, true},
    {"run", run, true},
    {"krealloc", grow, true},
    {"bulk", bulk, true},
    {"shrink", shrink, true},
    {"create and destroy", create_and_destroy, true},
    {"statistics", statistics, true},
};
/* Each with interrupts, then with NMIs. */
static const uint64_t call_numbers[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                                        10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
_Static_assert(NEOMM__COUNT_OF(call_numbers) == 2 * NEOMM__COUNT_OF(calls), "each call is made");

/* ---- one interrupt at each point ---- */

static void prepare(const struct call *call)
{
    void *block[4];
    (void)neomm_heap_shrink(pair.box->root);
    for (uint32_t i = 0; i < GIVEN; i++)
        pair.given[i] = take(pair.box, i < 2 ? SIZE : 9000, 0);
    if (!call->cached)
        (void)neomm_heap_shrink(pair.box->root);
    for (uint32_t i = 0; call->cached && i < 4; i++)
        block[i] = take(pair.box, SIZE, 0);
    for (uint32_t i = 0; call->cached && i < 4; i++)
        EXPECT_OK(pair.t, neomm_kfree(pair.box->root, block[i]));
    pair.count = pair.catches = pair.runs = pair.refused = 0;
    pair.points = 0;
}

/* Everything goes back, and nothing is missing. */
static void settle(void)
{
    while (pair.count > 0)
        give();
    while (pair.catches > 0)
        let_go(&pair.caught[--pair.catches]);
    for (uint32_t i = 0; pair.runs == 0 && i < GIVEN; i++)
        EXPECT_OK(pair.t, neomm_kfree(pair.box->root, pair.given[i]));
    (void)neomm_heap_shrink(pair.box->root);
    EXPECT_EQ(pair.t, objects(pair.box), 0);
    EXPECT_EQ(pair.t, neomm_pmm_free_frames(pair.box->root), pair.box->free_before);
    env_fsck(pair.t, &pair.box->env);
}

/* False: the call came to its end before point n. */
static bool interrupt_at(const struct call *call, uint64_t n)
{
    struct sim *sim = pair.box->env.machine;
    prepare(call);
    if (pair.nmi)
        sim_nmi_at(sim, n, handler, NULL);
    else
        sim_interrupt_at(sim, n, handler, NULL);
    call->make();
    bool done = !sim_interrupt_due(sim);
    sim_interrupt_at(sim, 0, NULL, NULL);
    EXPECT_EQ(pair.t, pair.runs, done);
    EXPECT(pair.t, pair.points < POINTS);
    EXPECT(pair.t, pair.nmi || pair.refused == 0);
    settle();
    if (pair.t->failures > 0)
        ktap_note(pair.t, "%s, at point %llu", call->name, (unsigned long long)n);
    return done && pair.t->failures == 0;
}

static void at_every_point(struct ktap *t)
{
    const struct call *call = &calls[t->parameter / 2];
    struct box box;
    uint64_t n = 1;
    if (!box_open(t, &box, BOX_DIRECT, 16, 2))
        return;
    pair = (struct pair){.t = t, .box = &box, .nmi = t->parameter % 2};
    pair.cache = neomm_kmem_for(box.root, SIZE);
    while (interrupt_at(call, n))
        n++;
    ktap_note(t, "%s: %llu points", call->name, (unsigned long long)n - 1);
    EXPECT(t, n > 2);
    box_close(t, &box);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(at_every_point, call_numbers)};
KTAP_SUITE(heap_interrupts, cases);
