/* Removing areas of swap: what was in them is back byte for byte, whoever has it; and what happens
 * where there is no room, a device that fails, or somebody who wants it to end.
 * SPDX-License-Identifier: MIT */
#include "share.h"
#include "vmm_world.h"

#include "swap/swap_priv.h"

#include <sim/sim.h>

#include <pthread.h>
#include <string.h>

#define PAGES 300u

static const uint64_t formats[] = ENV_FORMATS;

static bool open_world(struct ktap *t, struct world *world, uint32_t mib, uint32_t swap_pages)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[0],
                                        .ram_bytes = (uint64_t)mib << 20,
                                        .cpus = 2,
                                        .swap_pages = swap_pages,
                                        .whims = 16};
    return world_open(t, world, &options, NULL);
}

static struct neomm_block_device *new_disk(struct world *world, uint32_t pages)
{
    struct neomm_block_device *disk = sim_disk_create(world->env.machine, pages);
    sim_disk_make_swap(disk);
    return disk;
}

static neomm_status removal(struct world *world, const struct neomm_block_device *disk)
{
    return neomm_swap_remove(world->env.root, disk, NULL, NULL);
}

static struct neomm_swap_stats stats_of(struct world *world)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(world->env.root, &stats);
    return stats;
}

/* ---- pages with a content each, every byte of it ---- */

static uint64_t word_of(uint64_t tag, uint32_t page, uint32_t i)
{
    uint64_t seed = tag << 40 | (uint64_t)page << 12 | i;
    return next_random(&seed) * 0x9e3779b97f4a7c15u ^ seed;
}

static void fill(struct ktap *t, struct world *world, struct neomm_space *space, neomm_vaddr_t at,
                 uint32_t pages, uint64_t tag)
{
    uint64_t words[PAGE / 8];
    neomm_space_activate(world->env.root, space);
    for (uint32_t page = 0; page < pages; page++) {
        for (uint32_t i = 0; i < PAGE / 8; i++)
            words[i] = word_of(tag, page, i);
        EXPECT_OK(t,
                  neomm_copy_to_user(world->env.root, space, at + page * PAGE, words, PAGE, NULL));
    }
    neomm_space_activate(world->env.root, NULL);
}

/* How many pages hold another content; those that cannot be read are counted in *lost. */
static uint32_t differing(struct world *world, struct neomm_space *space, neomm_vaddr_t at,
                          uint32_t pages, uint64_t tag, uint32_t *lost)
{
    uint64_t words[PAGE / 8];
    uint32_t wrong = 0;
    neomm_space_activate(world->env.root, space);
    *lost = 0;
    for (uint32_t page = 0; page < pages; page++) {
        if (neomm_copy_from_user(world->env.root, space, words, at + page * PAGE, PAGE, NULL) !=
            NEOMM_OK) {
            ++*lost;
            continue;
        }
        bool same = true;
        for (uint32_t i = 0; i < PAGE / 8; i++)
            same &= words[i] == word_of(tag, page, i);
        wrong += !same;
    }
    neomm_space_activate(world->env.root, NULL);
    return wrong;
}

static void expect_same(struct ktap *t, struct world *world, struct neomm_space *space,
                        neomm_vaddr_t at, uint32_t pages, uint64_t tag)
{
    uint32_t lost;
    EXPECT_EQ(t, differing(world, space, at, pages, tag, &lost), 0);
    EXPECT_EQ(t, lost, 0);
}

static neomm_vaddr_t map(struct ktap *t, struct world *world, struct neomm_space *space,
                         uint32_t pages)
{
    neomm_vaddr_t at = 0;
    EXPECT_OK(t, neomm_mmap(world->env.root, space, &at, pages * PAGE, RW, 0));
    return at;
}

/* Maps, fills and evicts pages of the world's space. */
static neomm_vaddr_t swapped(struct ktap *t, struct world *world, uint32_t pages, uint64_t tag)
{
    neomm_vaddr_t at = map(t, world, world->space, pages);
    fill(t, world, world->space, at, pages, tag);
    (void)neomm_space_evict(world->env.root, world->space, pages);
    EXPECT(t, stats_of(world).used > pages / 2);
    return at;
}

/* ---- everything that can be in swap ---- */

/* Private pages, those of a child, without rights, locked to read, of an object that is mapped and
 * of one that nobody has, and copies that pages in memory keep. */
static void everything_comes_back(struct ktap *t)
{
    struct neomm_space *child;
    struct neomm_object *mapped, *alone;
    struct world world;
    if (!open_world(t, &world, 16, 8192))
        return;
    struct neomm *root = world.env.root;
    neomm_vaddr_t at[5];
    for (uint32_t i = 0; i < 3; i++) {
        at[i] = map(t, &world, world.space, PAGES);
        fill(t, &world, world.space, at[i], PAGES, i);
    }
    at[3] = at[4] = 0;
    EXPECT_OK(t, neomm_object_create(root, "mapped", PAGES * PAGE, &mapped));
    EXPECT_OK(t, neomm_object_create(root, "alone", PAGES * PAGE, &alone));
    EXPECT_OK(t, neomm_mmap_object(root, world.space, &at[3], PAGES * PAGE, RW, 0, mapped, 0));
    EXPECT_OK(t, neomm_mmap_object(root, world.space, &at[4], PAGES * PAGE, RW, 0, alone, 0));
    fill(t, &world, world.space, at[3], PAGES, 3);
    fill(t, &world, world.space, at[4], PAGES, 4);
    EXPECT_OK(t, neomm_space_fork(root, world.space, &child));
    fill(t, &world, child, at[1], PAGES / 2, 11);
    (void)neomm_space_evict(root, world.space, 10 * PAGES);
    (void)neomm_space_evict(root, child, 10 * PAGES);
    EXPECT_OK(t, neomm_munmap(root, world.space, at[4], PAGES * PAGE));
    EXPECT_OK(t, neomm_munmap(root, child, at[4], PAGES * PAGE));
    EXPECT_OK(t, neomm_mprotect(root, world.space, at[2], PAGES * PAGE, NEOMM_PROT_NONE));
    expect_same(t, &world, world.space, at[0], PAGES / 3, 0); /* these keep their slots */
    EXPECT(t, stats_of(&world).used > 4 * PAGES);
    EXPECT_OK(t, removal(&world, world.env.disk));
    env_fsck(t, &world.env);
    EXPECT_EQ(t, stats_of(&world).areas, 0);
    EXPECT_EQ(t, stats_of(&world).slots, 0);
    memset(sim_disk_page(world.env.disk, 0), 0, 8192 * PAGE); /* it is somebody else's */
    EXPECT_OK(t, neomm_mprotect(root, world.space, at[2], PAGES * PAGE, RW));
    EXPECT_OK(t, neomm_mmap_object(root, world.space, &at[4], PAGES * PAGE, RW, 0, alone, 0));
    for (uint32_t i = 0; i < 5; i++)
        expect_same(t, &world, world.space, at[i], PAGES, i);
    expect_same(t, &world, child, at[0], PAGES, 0);
    expect_same(t, &world, child, at[1], PAGES / 2, 11);
    expect_same(t, &world, child, at[2], PAGES, 2);
    expect_same(t, &world, child, at[3], PAGES, 3);
    EXPECT_OK(t, neomm_space_destroy(root, child));
    EXPECT_OK(t, neomm_object_unlink(root, "mapped"));
    EXPECT_OK(t, neomm_object_unlink(root, "alone"));
    neomm_object_close(root, mapped);
    neomm_object_close(root, alone);
    world_close(t, &world);
}

/* Where memory does not suffice other areas do: pages go from one to the other. */
static void from_area_to_area(struct ktap *t)
{
    struct world world;
    if (!open_world(t, &world, 4, 4096))
        return;
    struct neomm_block_device *other = new_disk(&world, 4096);
    EXPECT_OK(t, neomm_swap_add(world.env.root, other, -1));
    neomm_vaddr_t at = swapped(t, &world, 2000, 7);
    for (unsigned round = 0; round < 3; round++) {
        EXPECT_OK(t, removal(&world, world.env.disk));
        EXPECT(t, stats_of(&world).used > 1000);
        EXPECT_EQ(t, stats_of(&world).areas, 1);
        EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_NOENT);
        EXPECT_OK(t, neomm_swap_add(world.env.root, world.env.disk, -1));
        EXPECT_OK(t, removal(&world, other));
        EXPECT_OK(t, neomm_swap_add(world.env.root, other, -2));
        env_fsck(t, &world.env);
    }
    expect_same(t, &world, world.space, at, 2000, 7);
    world_close(t, &world);
}

/* ---- without room ---- */

static void no_room(struct ktap *t)
{
    struct world world;
    struct neomm_swap_area area;
    if (!open_world(t, &world, 4, 4096))
        return;
    neomm_vaddr_t at = swapped(t, &world, 2000, 1);
    EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_NOMEM);
    env_fsck(t, &world.env);
    EXPECT_OK(t, neomm_swap_area_at(world.env.root, 0, &area));
    EXPECT(t, !area.leaving && area.used > 1000);
    expect_same(t, &world, world.space, at, 2000, 1);
    /* Another area that is too small is filled, and that is all. */
    struct neomm_block_device *small = new_disk(&world, 100);
    EXPECT_OK(t, neomm_swap_add(world.env.root, small, -1));
    EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_NOMEM);
    expect_same(t, &world, world.space, at, 2000, 1);
    (void)neomm_space_evict(world.env.root, world.space, 100);
    EXPECT_OK(t, neomm_munmap(world.env.root, world.space, at + 500 * PAGE, 1500 * PAGE));
    EXPECT_OK(t, removal(&world, world.env.disk));
    expect_same(t, &world, world.space, at, 500, 1);
    world_close(t, &world);
}

struct patience {
    uint32_t left, asked;
};

static bool is_over(void *context)
{
    struct patience *patience = context;
    patience->asked++;
    return patience->left-- == 0;
}

/* Parameter: how often the caller says to go on. */
static void stopped(struct ktap *t)
{
    struct patience patience = {(uint32_t)t->parameter, 0};
    struct neomm_swap_area area;
    struct world world;
    if (!open_world(t, &world, 16, 4096))
        return;
    neomm_vaddr_t at = swapped(t, &world, 1000, 1);
    EXPECT_EQ(t, neomm_swap_remove(world.env.root, world.env.disk, is_over, &patience),
              NEOMM_E_AGAIN);
    EXPECT_EQ(t, patience.asked, t->parameter + 1);
    EXPECT_OK(t, neomm_swap_area_at(world.env.root, 0, &area));
    EXPECT(t, !area.leaving);
    EXPECT_EQ(t, area.used < 1000, t->parameter == 5);
    env_fsck(t, &world.env);
    expect_same(t, &world, world.space, at, 1000, 1);
    patience = (struct patience){1000000, 0};
    EXPECT_OK(t, neomm_swap_remove(world.env.root, world.env.disk, is_over, &patience));
    expect_same(t, &world, world.space, at, 1000, 1);
    world_close(t, &world);
}

/* Slots that are somebody else's are not vmm's to bring back. */
static void foreign_slot(struct ktap *t)
{
    struct neomm_swap_entry entry;
    struct world world;
    if (!open_world(t, &world, 8, 1024))
        return;
    EXPECT_OK(t, neomm_swap_alloc(world.env.root, 1, &entry));
    EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_BUSY);
    EXPECT_EQ(t, stats_of(&world).areas, 1);
    EXPECT_OK(t, neomm_swap_free(world.env.root, entry));
    EXPECT_OK(t, removal(&world, world.env.disk));
    EXPECT_EQ(t, neomm_swap_free(world.env.root, entry), NEOMM_E_NOENT);
    EXPECT_EQ(t, removal(&world, NULL), NEOMM_E_NOENT);
    /* Its numbers are another area's now, and the old entry names none of its slots. */
    EXPECT_OK(t, neomm_swap_add(world.env.root, world.env.disk, 0));
    struct neomm_swap_entry again;
    EXPECT_OK(t, neomm_swap_alloc(world.env.root, 1, &again));
    EXPECT_EQ(t, again.slot, entry.slot);
    EXPECT_EQ(t, neomm_swap_free(world.env.root, entry), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_swap_free(world.env.root, again));
    world_close(t, &world);
}

/* ---- counts that were lost ---- */

/* More spaces have the page than a slot counts. Parameter: so many of them end first. */
static void saturated(struct ktap *t)
{
    enum { SPACES = 300 };
    static struct neomm_space *space[SPACES];
    struct world world;
    if (!open_world(t, &world, 32, 1024))
        return;
    struct neomm *root = world.env.root;
    neomm_vaddr_t at = map(t, &world, world.space, 3);
    fill(t, &world, world.space, at, 3, 5);
    (void)neomm_space_evict(root, world.space, 3);
    for (uint32_t i = 0; i < SPACES; i++)
        EXPECT_OK(t, neomm_space_fork(root, world.space, &space[i]));
    EXPECT_EQ(t, root->swap->area[0].stuck, 3);
    for (uint32_t i = 0; i < t->parameter; i++)
        EXPECT_OK(t, neomm_space_destroy(root, space[i]));
    uint64_t free = neomm_pmm_free_frames(root);
    EXPECT_OK(t, removal(&world, world.env.disk));
    EXPECT_EQ(t, stats_of(&world).areas, 0);
    /* They have the three pages together, as before. */
    EXPECT(t, neomm_pmm_free_frames(root) + 20 > free);
    for (uint32_t i = (uint32_t)t->parameter; i < SPACES; i++) {
        expect_same(t, &world, space[i], at, 3, 5);
        EXPECT_OK(t, neomm_space_destroy(root, space[i]));
    }
    expect_same(t, &world, world.space, at, 3, 5);
    world_close(t, &world);
}

/* ---- devices that fail ---- */

static uint32_t damage(struct neomm_block_device *disk, struct neomm *root, uint32_t every)
{
    const struct neomm__swap_area *area = &root->swap->area[0];
    uint32_t damaged = 0;
    for (uint32_t page = 1; page < area->slots; page++)
        if (area->slot[page].count != 0 && page % every == 0) {
            *(uint8_t *)sim_disk_page(disk, page) ^= 1;
            damaged++;
        }
    return damaged;
}

/* Every 50th page is damaged: the others come back, and the area stays as it is until those have
 * gone. */
static void damaged_pages(struct ktap *t)
{
    struct neomm_swap_area area;
    struct world world;
    uint32_t lost;
    if (!open_world(t, &world, 16, 4096))
        return;
    struct neomm *root = world.env.root;
    neomm_vaddr_t at = swapped(t, &world, 1000, 1);
    uint32_t damaged = damage(world.env.disk, root, 50);
    EXPECT(t, damaged >= 15);
    EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_IO);
    EXPECT(t, strstr(sim_last_log(world.env.machine), "pages cannot be read") != NULL);
    EXPECT_OK(t, neomm_swap_area_at(root, 0, &area));
    EXPECT(t, area.leaving);
    EXPECT_EQ(t, area.used, damaged);
    struct neomm_swap_entry entry;
    EXPECT_EQ(t, neomm_swap_alloc(root, 1, &entry), NEOMM_E_NOSPACE);
    env_fsck(t, &world.env);
    EXPECT_EQ(t, differing(&world, world.space, at, 1000, 1, &lost), 0);
    EXPECT_EQ(t, lost, damaged);
    EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_IO);
    EXPECT_OK(t, neomm_munmap(root, world.space, at, 1000 * PAGE));
    EXPECT_OK(t, removal(&world, world.env.disk));
    world_close(t, &world);
}

/* The device is gone: what is on it is lost and nothing else, and what goes to swap from then on
 * goes elsewhere. */
static void device_gone(struct ktap *t)
{
    struct world world;
    uint32_t lost;
    if (!open_world(t, &world, 8, 2048))
        return;
    struct neomm *root = world.env.root;
    struct neomm_block_device *other = new_disk(&world, 2048);
    EXPECT_OK(t, neomm_swap_add(root, other, -1));
    neomm_vaddr_t on_it = swapped(t, &world, 100, 1);
    uint32_t used = (uint32_t)stats_of(&world).used;
    neomm_vaddr_t in_memory = map(t, &world, world.space, 100);
    fill(t, &world, world.space, in_memory, 100, 2);
    sim_disk_fault(world.env.disk, SIM_DISK_FAIL, 1, true);
    (void)neomm_space_evict(root, world.space, 50);
    EXPECT_EQ(t, removal(&world, world.env.disk), NEOMM_E_IO);
    (void)neomm_space_evict(root, world.space, 100);
    expect_same(t, &world, world.space, in_memory, 100, 2);
    EXPECT_EQ(t, differing(&world, world.space, on_it, 100, 1, &lost), 0);
    EXPECT_EQ(t, lost, used);
    env_fsck(t, &world.env);
    EXPECT_OK(t, neomm_munmap(root, world.space, on_it, 100 * PAGE));
    EXPECT_OK(t, removal(&world, world.env.disk));
    expect_same(t, &world, world.space, in_memory, 100, 2);
    world_close(t, &world);
}

/* Each allocation and each read fails once: an error that means it, and nothing is lost. */
static void fault_sweep(struct ktap *t)
{
    struct neomm_object *object;
    struct world world;
    uint64_t n = 0, passes;
    if (!open_world(t, &world, 16, 1024))
        return;
    struct neomm *root = world.env.root;
    if (!env_fault_plan(&world.env, 0, false)) {
        ktap_skip(t, "needs the instrumented flavour");
        world_close(t, &world);
        return;
    }
    neomm_vaddr_t at = swapped(t, &world, 40, 1), there = 0;
    EXPECT_OK(t, neomm_object_create(root, NULL, 40 * PAGE, &object));
    EXPECT_OK(t, neomm_mmap_object(root, world.space, &there, 40 * PAGE, RW, 0, object, 0));
    fill(t, &world, world.space, there, 40, 2);
    do {
        (void)neomm_space_evict(root, world.space, 80);
        (void)env_fault_plan(&world.env, ++n, t->parameter != 0);
        neomm_status status = removal(&world, world.env.disk);
        passes = env_fault_count(&world.env);
        (void)env_fault_plan(&world.env, 0, false);
        EXPECT(t, status == NEOMM_OK || status == NEOMM_E_NOMEM || status == NEOMM_E_IO);
        EXPECT(t, n <= passes || status == NEOMM_OK);
        env_fsck(t, &world.env);
        expect_same(t, &world, world.space, at, 40, 1);
        expect_same(t, &world, world.space, there, 40, 2);
        EXPECT_OK(t, status == NEOMM_OK ? NEOMM_OK : removal(&world, world.env.disk));
        EXPECT_OK(t, neomm_swap_add(root, world.env.disk, 0));
    } while (n <= passes && n < 1000 && t->failures == 0);
    EXPECT(t, n > 80);
    neomm_object_close(root, object);
    world_close(t, &world);
}

/* ---- under load ---- */

#define SPACES  64u
#define WORKERS 4u
#define EACH    40u

struct load {
    struct ktap *t;
    struct world world;
    struct neomm_space *space[SPACES];
    neomm_vaddr_t at[SPACES];
    uint32_t round[SPACES]; /* of what is in its pages */
    uint32_t over;
};

struct worker {
    pthread_t thread;
    struct load *load;
    uint32_t cpu, wrong, done, refused;
    uint64_t random;
};

static void check(struct worker *worker, struct neomm_space *space, uint32_t i)
{
    struct load *load = worker->load;
    uint32_t lost;
    worker->wrong += differing(&load->world, space, load->at[i], EACH,
                               (uint64_t)load->round[i] << 8 | i, &lost) +
                     lost;
}

static void rewrite(struct worker *worker, uint32_t i)
{
    struct load *load = worker->load;
    uint64_t tag = (uint64_t)++load->round[i] << 8 | i, words[PAGE / 8];
    neomm_space_activate(load->world.env.root, load->space[i]);
    for (uint32_t page = 0; page < EACH; page++) {
        for (uint32_t word = 0; word < PAGE / 8; word++)
            words[word] = word_of(tag, page, word);
        worker->wrong +=
            neomm_copy_to_user(load->world.env.root, load->space[i], load->at[i] + page * PAGE,
                               words, PAGE, NULL) != NEOMM_OK;
    }
    neomm_space_activate(load->world.env.root, NULL);
}

/* A life: a child that takes the place of its parent, one that goes again, or a space from new. */
static void fork_and_exit(struct worker *worker, uint32_t i)
{
    struct load *load = worker->load;
    struct neomm *root = load->world.env.root;
    struct neomm_space *child;
    neomm_status status = neomm_space_fork(root, load->space[i], &child);
    if (status != NEOMM_OK) { /* tables do not go to swap */
        worker->wrong += status != NEOMM_E_NOMEM;
        worker->refused++;
        return;
    }
    check(worker, child, i);
    struct neomm_space *gone = child;
    if (next_random(&worker->random) & 1) {
        gone = load->space[i];
        load->space[i] = child;
    }
    worker->wrong += neomm_space_destroy(root, gone) != NEOMM_OK;
    check(worker, load->space[i], i);
}

/* Each worker has its share of the spaces. */
static void *work(void *argument)
{
    struct worker *worker = argument;
    struct load *load = worker->load;
    sim_bind(load->world.env.machine, worker->cpu);
    while (!neomm__load_acquire(&load->over)) {
        uint32_t i =
            (uint32_t)next_random(&worker->random) % (SPACES / WORKERS) * WORKERS + worker->cpu - 1;
        switch (next_random(&worker->random) % 4) {
        case 0:
            rewrite(worker, i);
            break;
        case 1:
            (void)neomm_space_evict(load->world.env.root, load->space[i], EACH);
            break;
        case 2:
            fork_and_exit(worker, i);
            break;
        default:
            check(worker, load->space[i], i);
        }
        worker->done++;
    }
    sim_unbind();
    return NULL;
}

static bool load_open(struct ktap *t, struct load *load)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[0],
                                        .ram_bytes = (uint64_t)12 << 20,
                                        .cpus = WORKERS + 1,
                                        .swap_pages = 6000,
                                        .whims = 16};
    if (!world_open(t, &load->world, &options, NULL))
        return false;
    struct neomm *root = load->world.env.root;
    for (uint32_t i = 0; i < SPACES; i++)
        EXPECT_OK(t, neomm_space_create(root, NULL, &load->space[i]));
    for (uint32_t i = 0; i < SPACES; i++) {
        load->at[i] = map(t, &load->world, load->space[i], EACH);
        fill(t, &load->world, load->space[i], load->at[i], EACH, i);
    }
    return true;
}

/* Sixty-four spaces fault, fork, exit and are evicted, while one of two areas after the other is
 * removed and comes back. */
static void under_load(struct ktap *t)
{
    static struct load load;
    struct worker worker[WORKERS];
    memset(&load, 0, sizeof(load));
    if (!load_open(t, &load))
        return;
    struct neomm *root = load.world.env.root;
    struct neomm_block_device *disk[] = {load.world.env.disk, new_disk(&load.world, 6000)};
    EXPECT_OK(t, neomm_swap_add(root, disk[1], 0));
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker[i] = (struct worker){.load = &load, .cpu = i + 1, .random = i + 1};
        ASSERT(t, pthread_create(&worker[i].thread, NULL, work, &worker[i]) == 0);
    }
    uint32_t removed = 0, lives = 0, rounds = (uint32_t)share_of(12);
    for (uint32_t i = 0; i < rounds; i++) {
        neomm_status status = removal(&load.world, disk[i % 2]);
        EXPECT(t, status == NEOMM_OK || status == NEOMM_E_NOMEM);
        removed += status == NEOMM_OK;
        if (status == NEOMM_OK)
            EXPECT_OK(t, neomm_swap_add(root, disk[i % 2], 0));
    }
    neomm__store_release(&load.over, 1);
    for (uint32_t i = 0; i < WORKERS; i++) {
        (void)pthread_join(worker[i].thread, NULL);
        EXPECT_EQ(t, worker[i].wrong, 0);
        EXPECT(t, worker[i].refused < worker[i].done / 4 + 1);
        lives += worker[i].done;
    }
    ktap_note(t, "%u lives, %u of %u times removed", lives, removed, rounds);
    EXPECT(t, removed > rounds / 2);
    env_fsck(t, &load.world.env);
    for (uint32_t i = 0; i < SPACES; i++) {
        expect_same(t, &load.world, load.space[i], load.at[i], EACH,
                    (uint64_t)load.round[i] << 8 | i);
        EXPECT_OK(t, neomm_space_destroy(root, load.space[i]));
    }
    world_close(t, &load.world);
}

static const uint64_t patience[] = {0, 1, 5};
static const uint64_t ended[] = {0, 100, 300};
static const uint64_t no_yes[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE(everything_comes_back),
    KTAP_CASE(from_area_to_area),
    KTAP_CASE(no_room),
    KTAP_CASE_WITH(stopped, patience),
    KTAP_CASE(foreign_slot),
    KTAP_CASE_WITH(saturated, ended),
    KTAP_CASE(damaged_pages),
    KTAP_CASE(device_gone),
    KTAP_CASE_WITH(fault_sweep, no_yes),
    KTAP_CASE(under_load),
};
KTAP_SUITE(vmm_swapoff, cases);
