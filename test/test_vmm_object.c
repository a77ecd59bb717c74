/* Shared memory: the tree of pages, lives of objects, what several processes see, every failure.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "share.h"

#include "vmm/object.h"

#define PAGE      NEOMM_PAGE_SIZE
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGES     12u
#define PROCESSES 3u

static const uint64_t formats[] = ENV_FORMATS;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* ---- the tree of pages ---- */

#define WORDS 60u

/* Page n of those that a test uses: some close together, some far apart. */
static uint64_t page_of(uint32_t n)
{
    return n < 30 ? n * 7 : (uint64_t)n << (10 + n % 30);
}

static void compare_tree(struct ktap *t, const struct neomm__page_tree *tree, const uint64_t *word)
{
    uint64_t page = 0, found, seen = 0, want = 0;
    for (uint32_t n = 0; n < WORDS; n++) {
        EXPECT_EQ(t, neomm__page_get(tree, page_of(n)), word[n]);
        want += word[n];
    }
    for (uint64_t last = 0; (found = neomm__page_next(tree, &page)) != 0; last = page, page++) {
        EXPECT(t, page >= last);
        EXPECT_EQ(t, neomm__page_get(tree, page), found);
        seen += found;
    }
    EXPECT_EQ(t, seen, want);
}

static void a_tree_of_pages(struct ktap *t)
{
    struct env env;
    static uint64_t word[WORDS];
    struct neomm__page_tree tree = {NULL, 0};
    uint64_t random = 3;
    const struct env_options options = {.layer = ENV_HEAP,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    for (uint32_t n = 0; n < WORDS; n++)
        for (uint32_t m = 0; m < n; m++)
            ASSERT(t, page_of(n) != page_of(m));
    for (uint32_t step = 0; step < 6000 && t->failures == 0; step++) {
        uint32_t n = (uint32_t)next_random(&random) % WORDS;
        bool set = next_random(&random) % 2;
        if (set)
            EXPECT_OK(t, neomm__page_set(env.root, &tree, page_of(n), step + 1));
        else
            neomm__page_clear(env.root, &tree, page_of(n));
        word[n] = set ? step + 1 : 0;
        if (step % 16 == 0)
            compare_tree(t, &tree, word);
    }
    for (uint32_t n = 0; n < WORDS; n++) {
        neomm__page_clear(env.root, &tree, page_of(n));
        word[n] = 0;
    }
    EXPECT(t, tree.top == NULL && tree.levels == 0);
    env_close(t, &env);
}

/* ---- processes with an object in common ---- */

struct process {
    struct neomm_space *space;
    bool mapped[PAGES];
};

struct world {
    struct env env;
    struct ktap *t;
    struct neomm *root;
    struct neomm_object *object;
    neomm_vaddr_t at;
    struct process process[PROCESSES];
    uint64_t value[PAGES]; /* of the object: all see the same */
    uint32_t size;
    uint64_t random, values;
};

static uint32_t pick(struct world *w, uint32_t below)
{
    return (uint32_t)(next_random(&w->random) % below);
}

static void map_all(struct world *w, struct process *p)
{
    neomm_vaddr_t at = w->at;
    EXPECT_OK(w->t, neomm_space_create(w->root, NULL, &p->space));
    EXPECT_OK(w->t, neomm_mmap_object(w->root, p->space, &at, PAGES * PAGE, RW, NEOMM_MAP_FIXED,
                                      w->object, 0));
    for (uint32_t i = 0; i < PAGES; i++)
        p->mapped[i] = true;
}

static bool world_open(struct ktap *t, struct world *w, const struct env_options *options)
{
    *w = (struct world){.t = t, .random = options->seed + 1, .size = PAGES};
    if (!env_open(t, &w->env, options))
        return false;
    w->root = w->env.root;
    w->at = neomm_layout_of(w->root)->user_base;
    EXPECT_OK(t, neomm_object_create(w->root, "common", PAGES * PAGE, &w->object));
    for (uint32_t i = 0; i < PROCESSES - 1; i++)
        map_all(w, &w->process[i]);
    return t->failures == 0;
}

static void end_process(struct world *w, struct process *p)
{
    neomm_space_activate(w->root, NULL);
    if (p->space)
        EXPECT_OK(w->t, neomm_space_destroy(w->root, p->space));
    *p = (struct process){0};
}

static void world_close(struct world *w)
{
    env_fsck(w->t, &w->env);
    neomm_object_close(w->root, w->object);
    EXPECT_EQ(w->t, neomm_vmm_fini(w->root), NEOMM_E_BUSY);
    EXPECT_OK(w->t, neomm_object_unlink(w->root, "common"));
    for (uint32_t i = 0; i < PROCESSES; i++)
        end_process(w, &w->process[i]);
    env_close(w->t, &w->env);
}

static void step_access(struct world *w, struct process *p, uint32_t page, bool write)
{
    uint64_t value = write ? ++w->values : 0;
    bool may = p->mapped[page] && page < w->size;
    neomm_space_activate(w->root, p->space);
    neomm_status status =
        env_access(&w->env, p->space, w->at + page * PAGE + page * 16, &value, 8, write, true);
    EXPECT_EQ(w->t, status, may ? NEOMM_OK : NEOMM_E_FAULT);
    if (status == NEOMM_OK && write)
        w->value[page] = value;
    else if (status == NEOMM_OK)
        EXPECT_EQ(w->t, value, w->value[page]);
}

static void step_map(struct world *w, struct process *p, uint32_t page)
{
    neomm_vaddr_t at = w->at + page * PAGE;
    if (p->mapped[page])
        EXPECT_OK(w->t, neomm_munmap(w->root, p->space, at, PAGE));
    else
        EXPECT_OK(w->t, neomm_mmap_object(w->root, p->space, &at, PAGE, RW, NEOMM_MAP_EXACT,
                                          w->object, page * PAGE));
    p->mapped[page] = !p->mapped[page];
}

static void step_resize(struct world *w, uint32_t pages)
{
    EXPECT_OK(w->t, neomm_object_resize(w->root, w->object, pages * PAGE - 5));
    EXPECT_EQ(w->t, neomm_object_size(w->object), pages * PAGE);
    for (uint32_t i = pages; i < PAGES; i++)
        w->value[i] = 0;
    w->size = pages;
}

/* The third process comes by fork, and goes. */
static void step_fork(struct world *w)
{
    struct process *child = &w->process[PROCESSES - 1];
    struct process *parent = &w->process[pick(w, PROCESSES - 1)];
    if (child->space) {
        end_process(w, child);
        return;
    }
    struct neomm_space *space = NULL;
    EXPECT_OK(w->t, neomm_space_fork(w->root, parent->space, &space));
    *child = *parent;
    child->space = space;
}

static void step(struct world *w)
{
    struct process *p = &w->process[pick(w, PROCESSES)];
    uint32_t page = pick(w, PAGES), what = pick(w, 32);
    if (!p->space)
        p = &w->process[0];
    if (what < 22)
        step_access(w, p, page, what % 2);
    else if (what < 25)
        (void)neomm__reclaim(w->root, 1 + pick(w, 5));
    else if (what < 27)
        step_map(w, p, page);
    else if (what < 28)
        step_resize(w, 1 + pick(w, PAGES));
    else if (what < 30)
        step_fork(w);
    else
        EXPECT(w->t, neomm_mprotect(w->root, p->space, w->at + page * PAGE, PAGE, RW) ==
                         (p->mapped[page] ? NEOMM_OK : NEOMM_E_NOENT));
}

/* Parameter: format | seed << 4. */
static const uint64_t histories[] = {0x10, 0x20, 0x31, 0x41};

static void random_sharing(struct ktap *t)
{
    static struct world world;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[t->parameter & 1],
                                        .swap_pages = 64,
                                        .seed = t->parameter >> 4,
                                        .whims = 1};
    uint64_t steps = share_of(6000);
    ASSERT(t, world_open(t, &world, &options));
    for (uint64_t i = 0; i < steps && t->failures == 0; i++) {
        step(&world);
        if (i % 200 == 0)
            env_fsck(t, &world.env);
    }
    world_close(&world);
}

/* ---- lives and errors ---- */

static void names_and_lives(struct ktap *t)
{
    struct env env;
    struct neomm_object *object = NULL, *other = NULL;
    char name[NEOMM_OBJECT_NAME + 1];
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    for (unsigned i = 0; i < NEOMM_OBJECT_NAME; i++)
        name[i] = 'n';
    name[NEOMM_OBJECT_NAME] = '\0';
    EXPECT_EQ(t, neomm_object_create(env.root, name, PAGE, &object), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_object_create(env.root, "", PAGE, &object), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_object_create(env.root, "big", UINT64_MAX, &object), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_object_open(env.root, "none", &object), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_object_unlink(env.root, "none"), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_object_create(env.root, name + 1, 1, &object));
    EXPECT_EQ(t, neomm_object_size(object), PAGE);
    EXPECT_EQ(t, neomm_object_resize(env.root, object, UINT64_MAX), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_object_create(env.root, name + 1, PAGE, &other), NEOMM_E_EXISTS);
    EXPECT_OK(t, neomm_object_open(env.root, name + 1, &other));
    EXPECT(t, object == other);
    neomm_object_close(env.root, other);
    neomm_object_close(env.root, object);
    EXPECT_OK(t, neomm_object_open(env.root, name + 1, &object));
    EXPECT_OK(t, neomm_object_unlink(env.root, name + 1));
    EXPECT_EQ(t, neomm_object_open(env.root, name + 1, &other), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_object_create(env.root, name + 1, PAGE, &other));
    EXPECT(t, object != other);
    EXPECT_OK(t, neomm_object_unlink(env.root, name + 1));
    neomm_object_close(env.root, other);
    neomm_object_close(env.root, object);
    EXPECT_OK(t, neomm_object_create(env.root, NULL, 0, &object));
    neomm_object_close(env.root, object);
    env_close(t, &env);
}

/* Beyond the end is the bus error; what is cut off is zero when it comes back. */
static void beyond_the_end(struct ktap *t)
{
    static struct world world;
    struct neomm_fault_result result;
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 64};
    ASSERT(t, world_open(t, &world, &options));
    for (uint32_t i = 0; i < PAGES; i++)
        step_access(&world, &world.process[i % 2], i, true);
    (void)neomm__reclaim(world.root, 3);
    step_resize(&world, 2);
    struct neomm_space *space = world.process[0].space;
    EXPECT_EQ(t, neomm_fault(world.root, space, world.at + 2 * PAGE, NEOMM_PF_USER, &result),
              NEOMM_FAULT_BUS);
    step_resize(&world, PAGES);
    for (uint32_t i = 0; i < PAGES; i++)
        step_access(&world, &world.process[1], i, false);
    EXPECT_EQ(t, neomm_fault(world.root, space, world.at + 3 * PAGE, NEOMM_PF_USER, &result),
              NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, result.kind, NEOMM_FAULT_FOUND);
    world_close(&world);
}

/* ---- every failure ---- */

static void every_failure(struct ktap *t)
{
    bool forever = t->parameter & 0x10;
    for (uint64_t n = 1; n < 400 && t->failures == 0; n++) {
        static struct world world;
        struct neomm_object *object = NULL;
        const struct env_options options = {.layer = ENV_VMM,
                                            .format = (enum neomm_format)formats[t->parameter & 1],
                                            .swap_pages = 64};
        ASSERT(t, world_open(t, &world, &options));
        struct neomm_space *space = world.process[0].space;
        neomm_vaddr_t at = world.at;
        bool active = env_fault_plan(&world.env, n, forever);
        neomm_space_activate(world.root, space);
        neomm_status status = neomm_object_create(world.root, "another", 200 * PAGE, &object);
        if (status == NEOMM_OK)
            status = neomm_mmap_object(world.root, space, &at, 4 * PAGE, RW, NEOMM_MAP_FIXED,
                                       object, 128 * PAGE);
        for (uint64_t i = 0; i < 4 && status == NEOMM_OK; i++)
            status = env_access(&world.env, space, at + (neomm_vaddr_t)i * PAGE, &i, 8, true, true);
        if (status == NEOMM_OK)
            (void)neomm__reclaim(world.root, 2);
        for (uint64_t i = 0; i < 4 && status == NEOMM_OK; i++) {
            uint64_t value = 99;
            status =
                env_access(&world.env, space, at + (neomm_vaddr_t)i * PAGE, &value, 8, false, true);
            EXPECT(t, status != NEOMM_OK || value == i);
        }
        if (status == NEOMM_OK)
            status = neomm_munmap(world.root, space, at + PAGE, PAGE);
        bool reached = active && env_fault_count(&world.env) >= n;
        (void)env_fault_plan(&world.env, 0, false);
        env_fsck(t, &world.env);
        if (object) {
            neomm_object_close(world.root, object);
            EXPECT_OK(t, neomm_object_unlink(world.root, "another"));
        }
        world_close(&world);
        if (!reached) {
            EXPECT_OK(t, status);
            EXPECT(t, n > 10 || !active);
            return;
        }
    }
}

static const uint64_t sweeps[] = {0x00, 0x01, 0x10, 0x11};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(a_tree_of_pages, formats),  KTAP_CASE_WITH(names_and_lives, formats),
    KTAP_CASE_WITH(beyond_the_end, formats),   KTAP_CASE_WITH(every_failure, sweeps),
    KTAP_CASE_WITH(random_sharing, histories),
};
KTAP_SUITE(vmm_object, cases);
