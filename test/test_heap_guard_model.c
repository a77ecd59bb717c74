/* Guarded objects in long histories: how often, against a model, under failures made on purpose,
 * with threads, while profiles change, over other page sources.
 * SPDX-License-Identifier: MIT */
#include "guard_box.h"

#include <pthread.h>

/* ---- how often ---- */

#define TAKEN 100000u

/* Objects freed at once. Shrinking in between makes no difference, but that the first object of a
 * new slab does not count. */
static void one_in_so_many(struct ktap *t)
{
    uint32_t interval = (uint32_t)t->parameter >> 1, guarded = 0, since = 0;
    bool shrink = t->parameter & 1;
    struct guard_box g;
    if (!guard_open(t, &g, interval, 1))
        return;
    for (uint32_t i = 1; i <= TAKEN && t->failures == 0; i++) {
        void *block = take(&g.box, 100, 0);
        ASSERT(t, block != NULL);
        if (is_guarded(&g, block)) {
            if (guarded++ > 0 && !shrink)
                EXPECT(t, i - since > interval / 2 && i - since <= interval / 2 * 3 + 1);
            since = i;
        }
        EXPECT_OK(t, neomm_kfree(g.root, block));
        if (shrink && i % 40 == 0)
            (void)neomm_heap_shrink(g.root);
    }
    uint32_t expect = TAKEN / interval;
    EXPECT(t, guarded > expect - expect / 10 - 3 && guarded < expect + expect / 10 + 3);
    ktap_note(t, "%u of %u were guarded", guarded, TAKEN);
    guard_close(t, &g, 0);
}

static uint32_t count_guarded(struct ktap *t, struct guard_box *g, uint32_t blocks,
                              neomm_flags_t flags)
{
    uint32_t guarded = 0;
    for (uint32_t i = 0; i < blocks; i++) {
        void *block = take(&g->box, 100, flags);
        guarded += block && is_guarded(g, block);
        EXPECT_OK(t, neomm_kfree(g->root, block));
    }
    return guarded;
}

static void intervals_change(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1000, 2))
        return;
    EXPECT(t, count_guarded(t, &g, 400, 0) == 0);
    neomm_heap_set_sampling(g.root, 1);
    EXPECT(t, count_guarded(t, &g, 400, 0) >= 399);
    env_switch_cpu(&g.box.env, 1);
    EXPECT(t, count_guarded(t, &g, 400, 0) >= 399);
    neomm_heap_set_sampling(g.root, 0);
    EXPECT(t, count_guarded(t, &g, 4000, 0) == 0);
    neomm_heap_set_sampling(g.root, UINT32_MAX);
    EXPECT(t, count_guarded(t, &g, 4000, 0) == 0);
    neomm_heap_set_sampling(g.root, 10);
    uint32_t guarded = count_guarded(t, &g, 4000, 0);
    EXPECT(t, guarded > 340 && guarded < 460);
    /* Without waiting, rights are not changed. */
    EXPECT_EQ(t, count_guarded(t, &g, 1000, NEOMM_ATOMIC), 0);
    EXPECT_EQ(t, count_guarded(t, &g, 1000, NEOMM_NOLOCK), 0);
    env_switch_cpu(&g.box.env, 0);
    guard_close(t, &g, 0);
}

static void more_than_there_is_room_for(struct ktap *t)
{
    struct guard_box g;
    uint8_t *block[4 * MOST];
    uint32_t guarded = 0;
    if (!guard_open(t, &g, 1, 1))
        return;
    for (uint32_t i = 0; i < 4 * MOST; i++) {
        ASSERT(t, (block[i] = take(&g.box, 200, 0)) != NULL);
        pattern_fill(block[i], 200, i);
        guarded += is_guarded(&g, block[i]);
    }
    EXPECT_EQ(t, guarded, MOST);
    EXPECT_EQ(t, objects(&g.box), 4 * MOST);
    env_fsck(t, &g.box.env);
    EXPECT(t, take_guarded(&g, 200, ANYWHERE) == NULL);
    for (uint32_t i = 0; i < 4 * MOST; i++) {
        EXPECT(t, pattern_holds(block[i], 200, i));
        EXPECT_OK(t, neomm_kfree(g.root, block[i]));
    }
    void *again = take_guarded(&g, 200, ANYWHERE);
    EXPECT(t, again != NULL);
    EXPECT_OK(t, neomm_kfree(g.root, again));
    guard_close(t, &g, 0);
}

/* ---- against a model ---- */

#define BLOCKS 300u
#define STEPS  40000u

struct model_block {
    uint8_t *block;
    size_t size;
    uint32_t id;
};

struct model {
    struct guard_box *g;
    uint64_t random;
    uint32_t ids, guarded;
    struct model_block block[BLOCKS];
};

static size_t random_size(struct model *m)
{
    uint64_t r = box_random(&m->random);
    return 1 + (size_t)(r >> 8 & 0xffffff) % ((r & 7) == 0 ? 20000u : (r & 7) < 4 ? 4096u : 300u);
}

static void fill_block(struct model *m, struct model_block *slot, uint8_t *block, size_t size)
{
    *slot = (struct model_block){block, size, m->ids++};
    m->guarded += is_guarded(m->g, block) && size <= PAGE;
    pattern_fill(block, size, slot->id);
}

static void model_step(struct ktap *t, struct model *m)
{
    uint64_t r = box_random(&m->random);
    struct model_block *slot = &m->block[(r >> 8) % BLOCKS];
    size_t size = random_size(m), kept = size < slot->size ? size : slot->size;
    if ((r & 31) == 0)
        env_switch_cpu(&m->g->box.env, (uint32_t)(r >> 32) % 3);
    if (slot->block)
        EXPECT(t, pattern_holds(slot->block, slot->size, slot->id));
    if (!slot->block) {
        uint8_t *block = take(&m->g->box, size, r & 64 ? NEOMM_ZERO : 0);
        ASSERT(t, block != NULL);
        EXPECT(t, !(r & 64) || all_zero(block, size));
        fill_block(m, slot, block, size);
    } else if ((r & 6) == 0) {
        uint8_t *moved = neomm_krealloc(m->g->root, slot->block, size, 0);
        ASSERT(t, moved != NULL);
        EXPECT(t, pattern_holds(moved, kept, slot->id));
        EXPECT_EQ(t, (uintptr_t)moved % alignment_of(size), 0);
        fill_block(m, slot, moved, size);
    } else {
        EXPECT_OK(t, r & 128 ? neomm_kfree_nolock(m->g->root, slot->block)
                             : neomm_kfree(m->g->root, slot->block));
        slot->block = NULL;
    }
}

static void random_model(struct ktap *t)
{
    static struct model m;
    struct guard_box g;
    if (!guard_open(t, &g, 10, 3))
        return;
    m = (struct model){.g = &g, .random = (t->parameter + 1) * 0x9e3779b97f4a7c15u};
    for (uint32_t step = 0; step < STEPS && t->failures == 0; step++) {
        model_step(t, &m);
        if (step % 2000 == 999)
            (void)neomm_heap_shrink(g.root);
        if (step % 2000 == 1999)
            env_fsck(t, &g.box.env);
    }
    EXPECT(t, m.guarded > STEPS / 100);
    for (uint32_t i = 0; i < BLOCKS; i++)
        EXPECT_OK(t, neomm_kfree(g.root, m.block[i].block));
    env_switch_cpu(&g.box.env, 0);
    guard_close(t, &g, 0);
}

/* ---- profiles change ---- */

static void profiles_change(struct ktap *t)
{
    static const enum neomm_heap_profile order[] = {NEOMM_HEAP_FAST,     NEOMM_HEAP_GUARDED,
                                                    NEOMM_HEAP_HARDENED, NEOMM_HEAP_GUARDED,
                                                    NEOMM_HEAP_DEFAULT,  NEOMM_HEAP_GUARDED};
    enum { ROUNDS = sizeof(order) / sizeof(order[0]), EACH = 8 };
    struct guard_box g;
    uint8_t *block[ROUNDS][EACH];
    if (!guard_open(t, &g, 2, 1))
        return;
    /* What a cache that was HARDENED once keeps until it ends. */
    EXPECT_OK(t, neomm_heap_set_profile(g.root, NULL, NEOMM_HEAP_HARDENED));
    g.free_before = guard_free_frames(&g);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t guarded = 0;
        EXPECT_OK(t, neomm_heap_set_profile(g.root, NULL, order[i]));
        EXPECT_EQ(t, neomm_heap_profile(g.root, NULL), order[i]);
        for (uint32_t j = 0; j < EACH; j++) {
            ASSERT(t, (block[i][j] = take(&g.box, 90, 0)) != NULL);
            pattern_fill(block[i][j], 90, i * EACH + j);
            guarded += is_guarded(&g, block[i][j]);
        }
        EXPECT(t, order[i] == NEOMM_HEAP_GUARDED ? guarded >= 2 : guarded == 0);
        env_fsck(t, &g.box.env);
    }
    EXPECT_OK(t, neomm_heap_set_profile(g.root, NULL, NEOMM_HEAP_DEFAULT));
    for (uint32_t i = 0; i < ROUNDS * EACH; i++) {
        uint8_t *mine = block[i / EACH][i % EACH];
        uintptr_t address = (uintptr_t)mine;
        bool guarded = is_guarded(&g, mine);
        EXPECT(t, pattern_holds(mine, 90, i));
        EXPECT_OK(t, neomm_kfree(g.root, mine));
        neomm_heap_settle(g.root);
        EXPECT_EQ(t, faults(t, &g, guess(address), false), guarded);
    }
    EXPECT(t, g.findings.last.error == NEOMM_HEAP_ACCESS_AFTER_FREE);
    guard_close(t, &g, g.findings.count);
}

static void a_heap_with_leaks_goes_on(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 1))
        return;
    uint8_t *block = take_guarded(&g, 1234, ANYWHERE);
    ASSERT(t, block != NULL);
    uintptr_t address = (uintptr_t)block;
    EXPECT_EQ(t, neomm_heap_fini(g.root), NEOMM_E_BUSY);
    EXPECT(t, strstr(sim_last_log(g.box.env.machine), "1234") != NULL);
    memset(block, 1, 1234);
    EXPECT_OK(t, neomm_kfree(g.root, block));
    neomm_heap_settle(g.root);
    EXPECT(t, faults(t, &g, guess(address), true));
    void *other = take_guarded(&g, 50, ANYWHERE);
    EXPECT(t, other != NULL);
    EXPECT_OK(t, neomm_kfree(g.root, other));
    guard_close(t, &g, 1);
}

/* ---- failures on purpose ---- */

/* Makes the pool, takes blocks, and ends the heap. Returns the passes through fault points. */
static uint64_t pass(struct ktap *t, struct box *box, uint64_t n, bool forever)
{
    struct neomm_page_source direct, window;
    const struct neomm_heap_options options = {.source = &direct, .large_source = &window};
    struct neomm *root = box->root;
    void *block[40];
    neomm_heap_source_direct(root, &direct);
    neomm_heap_source_window(root, &window);
    EXPECT_OK(t, neomm_heap_init(root, &options));
    (void)env_fault_plan(&box->env, n, forever);
    neomm_heap_set_sampling(root, 1);
    neomm_status status = neomm_heap_set_profile(root, NULL, NEOMM_HEAP_GUARDED);
    EXPECT(t, status == NEOMM_OK || status == NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_heap_profile(root, NULL),
              status == NEOMM_OK ? NEOMM_HEAP_GUARDED : NEOMM_HEAP_DEFAULT);
    for (uint32_t i = 0; i < 40; i++) {
        block[i] = take(box, 16 + i * 8, 0);
        if (block[i])
            memset(block[i], 0x11, 16 + i * 8);
    }
    for (uint32_t i = 0; i < 40; i++)
        EXPECT_OK(t, neomm_kfree(root, block[i]));
    uint64_t passes = env_fault_count(&box->env);
    (void)env_fault_plan(&box->env, 0, false);
    env_fsck(t, &box->env);
    EXPECT_OK(t, neomm_heap_fini(root));
    return passes;
}

static void every_failure(struct ktap *t)
{
    struct env_options options = {
        .layer = ENV_PAGING, .format = box_format(), .ram_bytes = 16 << 20};
    struct box box = {.window = true};
    ASSERT(t, env_open(t, &box.env, &options));
    box.root = box.env.root;
    uint64_t passes = pass(t, &box, 0, false), before = neomm_pmm_free_frames(box.root);
    for (uint64_t n = 1; n <= passes && t->failures == 0; n++) {
        (void)pass(t, &box, n, t->parameter);
        EXPECT_EQ(t, neomm_pmm_free_frames(box.root), before);
    }
    if (passes == 0)
        ktap_skip(t, "no fault points in this flavour");
    env_close(t, &box.env);
}

/* ---- other page sources ---- */

/* Frames of the direct map; rights are noted and not enforced. */
struct noted_source {
    struct neomm_page_source direct;
    uint32_t fail;     /* the nth change of rights from now on is refused; 0: none */
    uint32_t discards; /* pages */
    bool wrong;        /* pages were given back without access */
    uint8_t *base;
    neomm_prot_t prot[2 * MOST + 1];
};

static neomm_status noted_alloc(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                                void **run)
{
    struct noted_source *source = context;
    neomm_status status =
        source->direct.run_alloc(source->direct.context, pages, align, flags, run);
    if (status == NEOMM_OK && pages == 2 * MOST + 1) {
        source->base = *run;
        for (uint32_t i = 0; i < pages; i++)
            source->prot[i] = NEOMM_PROT_READ | NEOMM_PROT_WRITE;
    }
    return status;
}

static void noted_free(void *context, void *run, uint32_t pages)
{
    struct noted_source *source = context;
    for (uint32_t i = 0; run == source->base && i < pages; i++)
        source->wrong |= source->prot[i] == NEOMM_PROT_NONE;
    source->direct.run_free(source->direct.context, run, pages);
}

static neomm_status noted_protect(void *context, void *run, uint32_t pages, neomm_prot_t prot)
{
    struct noted_source *source = context;
    if (source->fail > 0 && --source->fail == 0)
        return NEOMM_E_NOMEM;
    for (uint32_t i = 0; i < pages; i++)
        source->prot[((uintptr_t)run - (uintptr_t)source->base) / PAGE + i] = prot;
    return NEOMM_OK;
}

static void noted_discard(void *context, void *run, uint32_t pages)
{
    struct noted_source *source = context;
    source->discards += pages;
    memset(run, 0, pages * PAGE);
}

static neomm_frame_t noted_frame_of(void *context, const void *pointer)
{
    struct noted_source *source = context;
    return source->direct.frame_of(source->direct.context, pointer);
}

/* Pages with access. */
static uint32_t open_pages(const struct noted_source *source)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < 2 * MOST + 1; i++)
        count += source->prot[i] != NEOMM_PROT_NONE;
    return count;
}

static bool noted_open(struct ktap *t, struct box *box, struct noted_source *source)
{
    static const struct env_options options = {.layer = ENV_PMM};
    static struct neomm_page_source page_source;
    struct env_options with = options;
    with.format = box_format();
    *source = (struct noted_source){.fail = 0};
    page_source = (struct neomm_page_source){.context = source,
                                             .run_alloc = noted_alloc,
                                             .run_free = noted_free,
                                             .protect = noted_protect,
                                             .protect_anywhere = true,
                                             .discard = noted_discard,
                                             .frame_of = noted_frame_of};
    const struct neomm_heap_options heap = {.source = &page_source};
    if (!env_open(t, &box->env, &with))
        return false;
    box->root = box->env.root;
    neomm_heap_source_direct(box->root, &source->direct);
    EXPECT_OK(t, neomm_heap_init(box->root, &heap));
    neomm_heap_set_sampling(box->root, 1);
    return t->failures == 0;
}

static bool in_pool(const struct noted_source *source, const void *block)
{
    return (uintptr_t)block - (uintptr_t)source->base < (2 * MOST + 1) * PAGE;
}

static void rights_and_contents(struct ktap *t)
{
    struct noted_source source;
    struct box box;
    uint8_t *block[MOST];
    uint32_t count = 0;
    if (!noted_open(t, &box, &source))
        return;
    EXPECT_OK(t,
              neomm_heap_set_profile(box.root, neomm_kmem_for(box.root, 64), NEOMM_HEAP_GUARDED));
    EXPECT_EQ(t, open_pages(&source), 0);
    EXPECT_EQ(t, source.discards, 2 * MOST + 1);
    for (uint32_t i = 0; i < MOST; i++) {
        ASSERT(t, (block[i] = take(&box, 64, 0)) != NULL);
        count += in_pool(&source, block[i]);
        EXPECT_EQ(t, open_pages(&source), count);
    }
    EXPECT(t, count >= MOST - 2);
    EXPECT(t, neomm_heap_fault(box.root, source.base));
    EXPECT_EQ(t, open_pages(&source), count + 1);
    for (uint32_t i = 0; i < MOST; i++)
        EXPECT_OK(t, neomm_kfree(box.root, block[i]));
    EXPECT_EQ(t, open_pages(&source), 1);
    EXPECT_EQ(t, source.discards, 2 * MOST + 1 + count);
    EXPECT_OK(t, neomm_heap_fini(box.root));
    EXPECT(t, !source.wrong);
    env_close(t, &box.env);
}

/* Rights that cannot be changed: no pool, a plain object, a slot that is not used again, a fault
 * that is not handled, a heap that does not end. */
static void rights_are_refused(struct ktap *t)
{
    struct noted_source source;
    struct box box;
    if (!noted_open(t, &box, &source))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 64);
    uint64_t before = neomm_pmm_free_frames(box.root);
    source.fail = 1;
    EXPECT_EQ(t, neomm_heap_set_profile(box.root, cache, NEOMM_HEAP_GUARDED), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_heap_profile(box.root, cache), NEOMM_HEAP_DEFAULT);
    EXPECT_EQ(t, neomm_pmm_free_frames(box.root), before);
    EXPECT_OK(t, neomm_heap_set_profile(box.root, cache, NEOMM_HEAP_GUARDED));
    /* Two until every object is guarded. */
    for (uint32_t i = 0; i < 2; i++)
        EXPECT_OK(t, neomm_kfree(box.root, take(&box, 64, 0)));
    source.fail = 1;
    void *plain = take(&box, 64, 0), *better = take(&box, 64, 0);
    ASSERT(t, plain && better);
    EXPECT(t, !in_pool(&source, plain) && in_pool(&source, better));
    uintptr_t page = page_of(better);
    source.fail = 1;
    EXPECT_OK(t, neomm_kfree(box.root, better));
    EXPECT_EQ(t, open_pages(&source), 1);
    for (uint32_t i = 0; i < 3 * MOST; i++) {
        void *block = take(&box, 64, 0);
        EXPECT(t, block && page_of(block) != page);
        EXPECT_OK(t, neomm_kfree(box.root, block));
    }
    source.fail = 1;
    EXPECT(t, !neomm_heap_fault(box.root, source.base));
    EXPECT_OK(t, neomm_kfree(box.root, plain));
    env_fsck(t, &box.env);
    source.fail = 1;
    EXPECT_EQ(t, neomm_heap_fini(box.root), NEOMM_E_NOMEM);
    env_fsck(t, &box.env);
    EXPECT_OK(t, neomm_heap_fini(box.root));
    EXPECT(t, !source.wrong);
    env_close(t, &box.env);
}

static void no_source_can(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    neomm_heap_set_sampling(box.root, 1);
    EXPECT_EQ(t, neomm_heap_set_profile(box.root, NULL, NEOMM_HEAP_GUARDED), NEOMM_E_UNSUPPORTED);
    EXPECT_EQ(t, neomm_heap_profile(box.root, NULL), NEOMM_HEAP_DEFAULT);
    EXPECT(t, !neomm_heap_fault(box.root, &box));
    void *block = take(&box, 10, 0);
    EXPECT_OK(t, neomm_kfree(box.root, block));
    box_close(t, &box);
    /* Without a heap nothing is known, and nothing happens. */
    struct env_options options = {.layer = ENV_PMM, .format = box_format()};
    struct env env;
    ASSERT(t, env_open(t, &env, &options));
    neomm_heap_set_sampling(env.root, 1);
    EXPECT(t, !neomm_heap_fault(env.root, &env));
    EXPECT_EQ(t, neomm_heap_set_profile(env.root, NULL, NEOMM_HEAP_GUARDED), NEOMM_E_INVALID);
    env_close(t, &env);
}

/* ---- threads ---- */

#define THREADS 2u
#define SLOTS   48u

struct worker {
    pthread_t thread;
    struct guard_box *g;
    uint8_t **slot; /* shared, changed by atomic exchange */
    uint32_t cpu, wrong, guarded, freed;
    uint64_t random;
};

/* Blocks of 8 to 64 bytes that begin with their size and are full of it. */
static void *exchange_blocks(void *argument)
{
    struct worker *w = argument;
    sim_bind(w->g->box.env.machine, w->cpu);
    for (uint32_t i = 0; i < 8000; i++) {
        uint64_t r = box_random(&w->random);
        uint8_t size = (uint8_t)(8 + (r >> 8) % 57);
        uint8_t *mine = r & 1 ? take(&w->g->box, size, 0) : NULL;
        if (mine) {
            memset(mine, size, size);
            w->guarded += is_guarded(w->g, mine);
        }
        uint8_t *old = __atomic_exchange_n(&w->slot[(r >> 20) % SLOTS], mine, __ATOMIC_ACQ_REL);
        for (size_t at = 0; old && at < old[0]; at++)
            w->wrong += old[at] != old[0];
        w->wrong += neomm_kfree(w->g->root, old) != NEOMM_OK;
        if (i % 1000 == 999)
            (void)neomm_heap_shrink(w->g->root);
    }
    sim_unbind();
    return NULL;
}

/* Everybody frees the same objects. */
static void *free_all(void *argument)
{
    struct worker *w = argument;
    sim_bind(w->g->box.env.machine, w->cpu);
    for (uint32_t i = 0; i < SLOTS; i++) {
        neomm_status status = neomm_kfree(w->g->root, w->slot[i]);
        w->freed += status == NEOMM_OK;
        w->wrong += status != NEOMM_OK && status != NEOMM_E_DOUBLE_FREE;
    }
    sim_unbind();
    return NULL;
}

static void run_threads(struct ktap *t, struct guard_box *g, struct worker *workers, uint8_t **slot,
                        void *(*body)(void *))
{
    sim_unbind();
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.g = g,
                                     .slot = slot,
                                     .cpu = i,
                                     .random = (t->parameter * THREADS + i + 1) * 0x9e3779b9u};
        EXPECT_EQ(t, pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        EXPECT_EQ(t, pthread_join(workers[i].thread, NULL), 0);
        EXPECT_EQ(t, workers[i].wrong, 0);
    }
    sim_bind(g->box.env.machine, 0);
}

static void threads(struct ktap *t)
{
    struct guard_box g;
    struct worker workers[THREADS];
    uint8_t *slot[SLOTS] = {0};
    if (!guard_open(t, &g, 10, THREADS))
        return;
    run_threads(t, &g, workers, slot, exchange_blocks);
    EXPECT(t, workers[0].guarded > 100 && workers[1].guarded > 100);
    env_fsck(t, &g.box.env);
    for (uint32_t i = 0; i < SLOTS; i++)
        EXPECT_OK(t, neomm_kfree(g.root, slot[i]));
    guard_close(t, &g, 0);
}

static void racing_frees(struct ktap *t)
{
    struct guard_box g;
    struct worker workers[THREADS];
    uint8_t *slot[SLOTS];
    if (!guard_open(t, &g, 1, THREADS))
        return;
    neomm_heap_on_error(g.root, NULL, NULL);
    for (uint32_t i = 0; i < SLOTS; i++)
        ASSERT(t, (slot[i] = take_guarded(&g, 20, ANYWHERE)) != NULL);
    run_threads(t, &g, workers, slot, free_all);
    EXPECT_EQ(t, workers[0].freed + workers[1].freed, SLOTS);
    EXPECT_EQ(t, box_counter(&g.box, NEOMM_COUNTER_BAD_FREE), SLOTS);
    guard_close(t, &g, 0);
}

static const uint64_t rates[] = {10 << 1, 100 << 1, 100 << 1 | 1, 1000 << 1, 333 << 1};
static const uint64_t four[] = {0, 1, 2, 3};
static const uint64_t both[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(one_in_so_many, rates),
    KTAP_CASE(intervals_change),
    KTAP_CASE(more_than_there_is_room_for),
    KTAP_CASE_WITH(random_model, four),
    KTAP_CASE(profiles_change),
    KTAP_CASE(a_heap_with_leaks_goes_on),
    KTAP_CASE_WITH(every_failure, both),
    KTAP_CASE(rights_and_contents),
    KTAP_CASE(rights_are_refused),
    KTAP_CASE(no_source_can),
    KTAP_CASE_WITH(threads, both),
    KTAP_CASE(racing_frees),
};

KTAP_SUITE(heap_guard_model, cases);
