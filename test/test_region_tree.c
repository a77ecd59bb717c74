/* The tree of regions: against a naive model, at its size, searched while it changes, and when
 * memory runs out.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "sched_note.h"
#include "share.h"

#include "base/epoch.h"
#include "vmm/vmm_priv.h"

#include <pthread.h>
#include <sim/sim.h>
#include <stdlib.h>

#define PAGE NEOMM_PAGE_SIZE

static const uint64_t formats[] = ENV_FORMATS;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* ---- a map by itself ---- */

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm__region_map map;
    uint64_t random;
};

static bool world_open(struct ktap *t, struct world *world, uint64_t ram)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)formats[0], .ram_bytes = ram};
    *world = (struct world){.t = t, .random = t->parameter + 1};
    if (!env_open(t, &world->env, &options))
        return false;
    world->root = world->env.root;
    return true;
}

static void note_finding(void *context, const char *line)
{
    struct world *world = context;
    ktap_fail(world->t, __FILE__, __LINE__, line);
}

static void check_map(struct world *world)
{
    struct neomm__report report = {note_finding, world, 0};
    neomm__region_map_fsck(&world->map, 1, &report);
}

static void world_close(struct world *world)
{
    check_map(world);
    neomm__regions_free(world->root, &world->map);
    env_close(world->t, &world->env);
}

static uint32_t pick(struct world *world, uint32_t below)
{
    return (uint32_t)(next_random(&world->random) % below);
}

static struct neomm__region *insert(struct world *world, uint32_t floor, uint32_t start,
                                    uint32_t end)
{
    if (neomm__regions_reserve(world->root, &world->map, 1) != NEOMM_OK)
        return NULL;
    struct neomm__region *region = neomm__region_take(&world->map);
    region->floor = (neomm_vaddr_t)floor * PAGE;
    region->start = (neomm_vaddr_t)start * PAGE;
    region->end = (neomm_vaddr_t)end * PAGE;
    neomm__region_tree_insert(&world->map, region, neomm__region_place(&world->map, region->start));
    return region;
}

static void remove_region(struct world *world, const struct neomm__region *region)
{
    neomm__region_tree_remove(&world->map, neomm__region_place(&world->map, region->start));
}

static struct neomm__region *search(struct world *world, neomm_vaddr_t vaddr)
{
    struct neomm__region_sight sight;
    neomm_irq_t irq = neomm__epoch_enter(world->root);
    EXPECT(world->t, neomm__region_search(&world->map, vaddr, &sight));
    neomm__epoch_leave(world->root, irq);
    return sight.region;
}

/* ---- random histories ---- */

#define MODEL_PAGES 6000u

/* Whose a page is: the region's, from its floor on. */
struct model {
    struct world world;
    uint32_t pages;
    struct neomm__region *page[MODEL_PAGES];
};

static void model_set(struct model *model, neomm_vaddr_t from, neomm_vaddr_t to,
                      struct neomm__region *region)
{
    for (neomm_vaddr_t at = from / PAGE; at < to / PAGE; at++)
        model->page[at] = region;
}

static void model_insert(struct model *model)
{
    uint32_t at = pick(&model->world, model->pages), end = at;
    uint32_t most = at + 1 + pick(&model->world, 4);
    while (end < most && end < model->pages && !model->page[end])
        end++;
    if (end == at)
        return;
    uint32_t start = at + pick(&model->world, end - at);
    struct neomm__region *region = insert(&model->world, at, start, end);
    ASSERT(model->world.t, region);
    model_set(model, region->floor, region->end, region);
}

static void model_remove(struct model *model, struct neomm__region *region)
{
    model_set(model, region->floor, region->end, NULL);
    remove_region(&model->world, region);
    neomm__regions_collect(model->world.root, &model->world.map);
}

/* To any bounds between the neighbours. */
static void model_move(struct model *model, struct neomm__region *region)
{
    neomm_vaddr_t low = region->floor, high = region->end;
    model_set(model, region->floor, region->end, NULL);
    while (low > 0 && !model->page[low / PAGE - 1] && pick(&model->world, 3))
        low -= PAGE;
    while (high / PAGE < model->pages && !model->page[high / PAGE] && pick(&model->world, 3))
        high += PAGE;
    uint32_t pages = (uint32_t)((high - low) / PAGE);
    neomm_vaddr_t floor = low + pick(&model->world, pages) * PAGE;
    pages = (uint32_t)((high - floor) / PAGE);
    neomm_vaddr_t start = floor + pick(&model->world, pages) * PAGE;
    pages = (uint32_t)((high - start) / PAGE);
    neomm_vaddr_t end = high - pick(&model->world, pages) * PAGE;
    neomm__region_tree_move(&model->world.map, region, floor, start, end);
    model_set(model, floor, end, region);
}

static bool naive_gap(const struct model *model, const struct neomm__region_request *request,
                      neomm_vaddr_t *found)
{
    bool any = false;
    neomm_vaddr_t free = 0;
    for (neomm_vaddr_t at = request->low; at < request->high; at += PAGE) {
        free = model->page[at / PAGE] ? 0 : free + PAGE;
        neomm_vaddr_t from = at + PAGE - request->size;
        if (free < request->size || (from & (request->align - 1)))
            continue;
        *found = from;
        any = true;
        if (!request->downwards)
            break;
    }
    return any;
}

static void expect_gap(struct model *model, const struct neomm__region_request *request)
{
    neomm_vaddr_t have = 0, want = 0;
    bool wanted = naive_gap(model, request, &want);
    EXPECT_EQ(model->world.t, neomm__region_gap(&model->world.map, request, &have), wanted);
    if (wanted)
        EXPECT_EQ(model->world.t, have, want);
}

static void model_gap(struct model *model)
{
    uint32_t low = pick(&model->world, model->pages),
             high = low + 1 + pick(&model->world, model->pages - low);
    if (pick(&model->world, 2)) {
        low = 0;
        high = model->pages;
    }
    struct neomm__region_request request = {.low = low * PAGE,
                                            .high = high * PAGE,
                                            .size = (1 + pick(&model->world, 12)) * PAGE,
                                            .align = PAGE << pick(&model->world, 4),
                                            .downwards = pick(&model->world, 2)};
    expect_gap(model, &request);
}

static void model_look(struct model *model)
{
    uint32_t page = pick(&model->world, model->pages);
    neomm_vaddr_t vaddr = page * PAGE + pick(&model->world, (uint32_t)PAGE);
    EXPECT(model->world.t, search(&model->world, vaddr) == model->page[page]);
    uint32_t next = page;
    while (next < model->pages && !model->page[next])
        next++;
    EXPECT(model->world.t, neomm__region_first(&model->world.map, vaddr) ==
                               (next < model->pages ? model->page[next] : NULL));
}

/* `growing` of ten changes are insertions. */
static void model_change(struct model *model, uint32_t growing)
{
    struct neomm__region *region = model->page[pick(&model->world, model->pages)];
    if (pick(&model->world, 10) < growing || !region)
        model_insert(model);
    else if (pick(&model->world, 2))
        model_remove(model, region);
    else
        model_move(model, region);
}

/* Parameter: pages. */
static const uint64_t sizes[] = {40, 300, 2000, MODEL_PAGES};

/* The tree fills, is worked over, empties, and fills again. */
static void random_changes(struct ktap *t)
{
    static struct model model;
    static const uint32_t growing[] = {9, 5, 0, 8, 2};
    uint32_t steps = (uint32_t)share_of(100000);
    ASSERT(t, world_open(t, &model.world, 0));
    model.pages = (uint32_t)t->parameter;
    model_set(&model, 0, model.pages * PAGE, NULL);
    for (uint32_t step = 0; step < steps && t->failures == 0; step++) {
        model_change(&model, growing[step * 5 / steps]);
        model_look(&model);
        if (step % 8 == 0)
            model_gap(&model);
        if (step % (1 + model.pages / 16) == 0)
            check_map(&model.world);
    }
    /* What is left is a third full at least. */
    EXPECT(t, model.world.map.nodes <= model.world.map.count / 8 + 3);
    world_close(&model.world);
}

/* Each way in which twelve pages may be taken, one region a page; each request. */
static void every_gap(struct ktap *t)
{
    static struct model model;
    enum { PAGES = 12 };
    uint32_t step = (uint32_t)share_divisor();
    for (uint32_t taken = 0; taken < 1u << PAGES && t->failures == 0; taken += step) {
        if (taken == 0)
            ASSERT(t, world_open(t, &model.world, 0));
        model.pages = PAGES;
        for (uint32_t page = 0; page < PAGES; page++)
            model.page[page] =
                taken >> page & 1 ? insert(&model.world, page, page, page + 1) : NULL;
        for (uint32_t i = 0; i < 4 * 4 * 4 * 2 * 2; i++) {
            const struct neomm__region_request request = {.low = (i & 3) * PAGE,
                                                          .high = (PAGES - (i >> 2 & 3)) * PAGE,
                                                          .size = ((i >> 4 & 3) + 1) * PAGE,
                                                          .align = PAGE << (i >> 6 & 1),
                                                          .downwards = i >> 7 & 1};
            expect_gap(&model, &request);
        }
        for (uint32_t page = 0; page < PAGES; page++)
            if (model.page[page])
                remove_region(&model.world, model.page[page]);
        neomm__regions_collect(model.world.root, &model.world.map);
    }
    world_close(&model.world);
}

/* ---- many ---- */

enum order { UP, DOWN, SHUFFLED };
static const uint64_t orders[] = {UP, DOWN, SHUFFLED};

/* Regions of one page with a free page between them: the nth one to be inserted. */
static uint32_t nth(enum order order, uint32_t i, uint32_t count)
{
    if (order == SHUFFLED)
        return (uint32_t)((uint64_t)i * 48271u % count); /* 48271 is prime */
    return order == UP ? i : count - 1 - i;
}

static void hundred_thousand(struct ktap *t)
{
    struct world world;
    uint32_t count = 100000;
    enum order order = (enum order)t->parameter;
    ASSERT(t, world_open(t, &world, 64u << 20));
    for (uint32_t i = 0; i < count && t->failures == 0; i++) {
        uint32_t at = 1 + 2 * nth(order, i, count);
        EXPECT(t, insert(&world, at, at, at + 1));
    }
    check_map(&world);
    EXPECT_EQ(t, world.map.count, count);
    EXPECT(t, world.map.height <= 5);
    EXPECT(t, world.map.nodes <= count / (order == UP ? 29 : 14));
    for (uint32_t i = 0; i < count && t->failures == 0; i++) {
        neomm_vaddr_t at = (neomm_vaddr_t)(1 + 2 * i) * PAGE;
        struct neomm__region *region = search(&world, at + 1);
        EXPECT(t, region && region->start == at);
        EXPECT(t, !search(&world, at - 1));
    }
    struct neomm__region_request request = {
        .low = 0, .high = (neomm_vaddr_t)count * 2 * PAGE, .size = 2 * PAGE, .align = PAGE};
    neomm_vaddr_t found = 0;
    EXPECT(t, !neomm__region_gap(&world.map, &request, &found));
    struct neomm__region *gone = search(&world, (1 + 2 * 77777) * PAGE);
    remove_region(&world, gone);
    EXPECT(t, neomm__region_gap(&world.map, &request, &found));
    EXPECT_EQ(t, found / PAGE, 2 * 77777);
    for (uint32_t i = 0; i < count && t->failures == 0; i++) {
        struct neomm__region *region = search(&world, (1 + 2 * nth(order, i, count)) * PAGE);
        if (region)
            remove_region(&world, region);
        neomm__regions_collect(world.root, &world.map);
    }
    EXPECT_EQ(t, world.map.count, 0);
    EXPECT_EQ(t, world.map.nodes, 1);
    world_close(&world);
}

/* ---- memory runs out ---- */

/* The nth allocation fails: nothing has changed, and a second try does it. */
static void reserve_fails(struct ktap *t)
{
    struct world world;
    ASSERT(t, world_open(t, &world, 0));
    if (!env_fault_plan(&world.env, 0, false)) {
        ktap_skip(t, "no fault points in this build");
        world_close(&world);
        return;
    }
    uint64_t failed = 0;
    for (uint32_t i = 0; i < 2000 && t->failures == 0; i++) {
        uint32_t at = 1 + 2 * nth(SHUFFLED, i, 2000);
        env_fault_plan(&world.env, 1 + i % 3, i % 2);
        struct neomm__region *region = insert(&world, at, at, at + 1);
        env_fault_plan(&world.env, 0, false);
        if (!region) {
            failed++;
            EXPECT_EQ(t, world.map.count, i);
            region = insert(&world, at, at, at + 1);
        }
        EXPECT(t, region && world.map.count == i + 1);
        if (i % 64 == 0)
            check_map(&world);
    }
    EXPECT(t, failed > 500);
    world_close(&world);
}

/* ---- searches while the map changes ---- */

#define STABLE 40u /* regions that stay, every fourth page */

struct match {
    struct ktap *t;
    struct env env;
    struct neomm_space *space;
    struct neomm__region *stable[STABLE];
    uint32_t plan, cpus;
    uint32_t mistakes;
    bool stop;
    struct neomm__region *handed; /* a task is inside and goes on on the next CPU */
    neomm_prot_t handed_prot;
    uint32_t is_handed;
};

static void mistake(struct match *m, const char *what)
{
    if (m->mistakes++ == 0)
        ktap_note(m->t, "CPU %u: %s", neomm_port_cpu()->index, what);
}

static neomm_vaddr_t stable_at(uint32_t i)
{
    return (neomm_vaddr_t)(0x1000 + 4 * i) * PAGE;
}

static struct neomm__region *map_region(struct match *m, neomm_vaddr_t at, uint32_t pages)
{
    struct neomm__region_map *map = &m->space->map;
    if (neomm__regions_reserve(m->env.root, map, 1) != NEOMM_OK)
        mistake(m, "no memory");
    struct neomm__region *region = neomm__region_take(map);
    region->start = region->floor = at;
    region->end = at + pages * PAGE;
    neomm__region_tree_insert(map, region, neomm__region_place(map, at));
    m->space->virtual_pages += pages;
    return region;
}

static void unmap_region(struct match *m, struct neomm__region *region)
{
    neomm__region_close(region);
    m->space->virtual_pages -= (region->end - region->start) / PAGE;
    neomm__regions_remove(&m->space->map, region->start, region->end);
    neomm__regions_collect(m->env.root, &m->space->map);
}

/* Regions come and go between the stable ones: leaves part and join. */
static void change(struct match *m)
{
    struct neomm__region *region[STABLE];
    neomm__mutex_lock(&m->space->lock);
    for (uint32_t i = 0; i < STABLE; i++)
        region[i] = map_region(m, stable_at(i) + 2 * PAGE, 1);
    for (uint32_t i = 0; i < STABLE; i++)
        unmap_region(m, region[m->plan & 1 ? i : STABLE - 1 - i]);
    neomm__mutex_unlock(&m->space->lock);
}

/* A region grows and shrinks, at either end. */
static void reshape(struct match *m)
{
    struct neomm__region *region = m->stable[STABLE / 2];
    neomm_vaddr_t at = region->start;
    neomm__mutex_lock(&m->space->lock);
    for (uint32_t i = 0; i < 4; i++) {
        neomm__region_close(region);
        neomm__region_tree_move(&m->space->map, region, at - (i & 1) * PAGE, at - (i & 1) * PAGE,
                                at + (1 + (i >> 1 & 1)) * PAGE);
        neomm__region_tree_change(&m->space->map, region, i, 0);
        neomm__region_open(region);
    }
    neomm__region_close(region);
    neomm__region_tree_move(&m->space->map, region, at, at, at + PAGE);
    neomm__region_open(region);
    neomm__mutex_unlock(&m->space->lock);
}

/* What a fault does: the region holds the address as long as we are inside. */
static void enter(struct match *m, uint32_t i)
{
    struct neomm__region *region = neomm__region_enter(m->env.root, m->space, stable_at(i));
    if (region != m->stable[i]) {
        mistake(m, "a region was not found");
        return;
    }
    for (uint32_t look = 0; look < 2; look++) {
        neomm_prot_t prot = region->prot;
        if (region->start > stable_at(i) || region->end <= stable_at(i))
            mistake(m, "a region moved under a user");
        sim_sched_point();
        if (region->prot != prot)
            mistake(m, "rights changed under a user");
    }
    neomm__region_exit(region);
}

/* A task enters on one CPU and leaves on another one. */
static void hand_over(struct match *m, uint32_t i)
{
    struct neomm__region *region = neomm__region_enter(m->env.root, m->space, stable_at(i));
    m->handed_prot = region->prot;
    m->handed = region;
    neomm__store_release(&m->is_handed, 1);
    neomm_port_wake(&m->is_handed, UINT32_MAX);
}

static void take_over(struct match *m)
{
    while (neomm__load_acquire(&m->is_handed) == 0)
        (void)neomm_port_wait(&m->is_handed, 0, UINT64_MAX);
    struct neomm__region *region = m->handed;
    if (region->prot != m->handed_prot)
        mistake(m, "rights changed under a user that moved");
    neomm__region_exit(region);
}

/* Searches alone never lead astray: what is said of a region that stays is true. */
static void look(struct match *m, uint32_t i)
{
    struct neomm__region_sight sight;
    struct neomm_region_info info;
    neomm_irq_t irq = neomm__epoch_enter(m->env.root);
    if (neomm__region_search(&m->space->map, stable_at(i), &sight) && sight.region != m->stable[i])
        mistake(m, "a search went astray");
    neomm__epoch_leave(m->env.root, irq);
    if (neomm_region_at(m->env.root, m->space, stable_at(i), &info) != NEOMM_OK ||
        info.start > stable_at(i) || info.end <= stable_at(i))
        mistake(m, "what is mapped was not found");
}

static void run(void *context, uint32_t cpu)
{
    struct match *m = context;
    if (cpu == 0 && (m->plan & 2)) {
        reshape(m);
    } else if (cpu == 0) {
        change(m);
    } else if (m->plan & 4) {
        if (cpu == 1)
            hand_over(m, STABLE / 2);
        else
            take_over(m); /* before it sleeps for the space's lock, which may wait for that */
        enter(m, STABLE / 2);
        enter(m, STABLE / 2);
    } else {
        enter(m, STABLE / 2);
        for (uint32_t i = 0; i < 6; i++)
            look(m, (cpu * 13 + i * 7) % STABLE);
        enter(m, STABLE / 2);
    }
}

static bool open_match(struct match *m, uint32_t cpus, uint64_t seed)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[seed & 1],
                                        .ram_bytes = 4u << 20,
                                        .cpus = cpus,
                                        .seed = seed};
    m->mistakes = 0;
    m->is_handed = 0;
    if (!env_open(m->t, &m->env, &options) ||
        neomm_space_create(m->env.root, NULL, &m->space) != NEOMM_OK)
        return false;
    for (uint32_t i = 0; i < STABLE; i++)
        m->stable[i] = map_region(m, stable_at(i), 1);
    return true;
}

static void close_match(struct match *m)
{
    env_fsck(m->t, &m->env);
    EXPECT_OK(m->t, neomm_space_destroy(m->env.root, m->space));
    env_close(m->t, &m->env);
    EXPECT_EQ(m->t, m->mistakes, 0);
}

static struct sim *begin(void *context, uint64_t seed)
{
    struct match *m = context;
    return open_match(m, m->cpus, seed) ? m->env.machine : NULL;
}

static bool end(void *context, enum sim_sched_end how)
{
    struct match *m = context;
    unsigned failures = m->t->failures;
    if (how != SIM_SCHED_DONE) {
        env_abandon(&m->env);
        return false;
    }
    close_match(m);
    return m->t->failures == failures;
}

static void explore(struct ktap *t, const struct sim_sched_options *options, uint32_t cpus)
{
    struct match match = {.t = t, .plan = (uint32_t)t->parameter, .cpus = cpus};
    const struct sim_scenario scenario = {cpus, &match, begin, run, end};
    sched_search(t, "regions", &scenario, options);
}

/* Bit 0: the order in which regions go; bit 1: one is reshaped instead; bit 2: a task in it moves.
 */
static const uint64_t plans[] = {0, 1, 2};
static const uint64_t seed_plans[] = {0, 1, 2, 6};

static void by_seed(struct ktap *t)
{
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_RANDOM, .seed = 1, .schedules = share_of(400), .preemptions = 60};
    explore(t, &options, 3);
}

static void one_after_the_other(struct ktap *t)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .seed = t->parameter,
                                              .schedules = share_of(2000),
                                              .preemptions = t->parameter & 2 ? 2 : 1};
    explore(t, &options, 2);
}

/* Places of a CPU, and the count where there are none left; tasks leave on whatever CPU they are.
 */
static void places(struct ktap *t)
{
    struct match match = {.t = t}, *m = &match;
    ASSERT(t, open_match(m, 3, t->parameter & 1));
    struct neomm__region *region = m->stable[3], *other = m->stable[4];
    EXPECT(t, !neomm__region_is_entered(region));
    EXPECT(t, neomm__region_enter(m->env.root, m->space, stable_at(4)) == other);
    for (uint32_t i = 0; i < NEOMM__INSIDE + 3; i++)
        EXPECT(t, neomm__region_enter(m->env.root, m->space, stable_at(3)) == region);
    env_switch_cpu(&m->env, 1);
    EXPECT(t, neomm__region_enter(m->env.root, m->space, stable_at(3)) == region);
    for (uint32_t i = 0; i < NEOMM__INSIDE + 4; i++) {
        EXPECT(t, neomm__region_is_entered(region));
        env_switch_cpu(&m->env, i % 2 ? 2 : 0);
        neomm__region_exit(region);
    }
    EXPECT(t, !neomm__region_is_entered(region) && neomm__region_is_entered(other));
    env_switch_cpu(&m->env, 1);
    neomm__region_exit(other);
    neomm__region_close(region);
    EXPECT(t, !neomm__region_try_enter(m->env.root, m->space, stable_at(3)));
    EXPECT(t, !neomm__region_is_entered(region) && !neomm__region_is_entered(other));
    neomm__region_open(region);
    env_switch_cpu(&m->env, 0);
    close_match(m);
}

/* ---- threads ---- */

struct worker {
    pthread_t thread;
    struct match *m;
    uint32_t cpu;
};

static void *search_on(void *argument)
{
    struct worker *worker = argument;
    struct match *m = worker->m;
    sim_bind(m->env.machine, worker->cpu);
    for (uint32_t i = worker->cpu; !neomm__load_acquire(&m->stop); i++) {
        look(m, i % STABLE);
        enter(m, i % STABLE);
    }
    sim_unbind();
    return NULL;
}

static void threads_search(struct ktap *t)
{
    struct match match = {.t = t};
    struct worker worker[3];
    ASSERT(t, open_match(&match, 4, 0));
    for (uint32_t i = 0; i < 3; i++) {
        worker[i] = (struct worker){.m = &match, .cpu = i + 1};
        ASSERT(t, pthread_create(&worker[i].thread, NULL, search_on, &worker[i]) == 0);
    }
    for (match.plan = 0; match.plan < 300; match.plan++) {
        change(&match);
        reshape(&match);
    }
    neomm__store_release(&match.stop, true);
    for (uint32_t i = 0; i < 3; i++)
        pthread_join(worker[i].thread, NULL);
    close_match(&match);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_changes, sizes),    KTAP_CASE(every_gap),
    KTAP_CASE_WITH(hundred_thousand, orders), KTAP_CASE(reserve_fails),
    KTAP_CASE_WITH(by_seed, seed_plans),      KTAP_CASE_WITH(one_after_the_other, plans),
    KTAP_CASE_WITH(places, formats),          KTAP_CASE(threads_search),
};
KTAP_SUITE(region_tree, cases);
