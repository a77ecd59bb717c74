/* What calls of the frame allocator cost, in ordered accesses to shared words (see sim_points), and
 * that it is the same on machines of all sizes.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <stdlib.h>
#include <sys/mman.h>

#define G(n)  ((uint64_t)(n) << 30)
#define HELD  1024u
#define BULK  64u
#define BATCH 64u

static struct world world;
static neomm_frame_t held[HELD];

#if UINTPTR_MAX > 0xffffffffu
static const uint64_t sizes[] = {G(8), G(256), G(16384)};
#else
static const uint64_t sizes[] = {G(1), G(4), G(16)};
#endif

/* The metadata of large machines is sparse: the library need not touch what it does not use. */
static bool open_machine(struct ktap *t, uint64_t bytes)
{
    const struct neomm_boot_range map = {0, bytes, NEOMM_MEMORY_USABLE};
    const struct world_options options = {
        .ram_bytes = bytes, .map = &map, .map_count = 1, .cpus = 4, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return false;
    void *metadata = mmap(NULL, world.metadata_size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (metadata == MAP_FAILED) {
        ktap_fail(t, __FILE__, __LINE__, "the host refused memory");
        return false;
    }
    world.pmm.metadata = metadata;
    world.pmm.metadata_size = world.metadata_size;
    world.pmm.metadata_zeroed = true;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    return true;
}

static void close_machine(struct ktap *t)
{
    void *metadata = world.pmm.metadata;
    EXPECT_OK(t, neomm_pmm_fini(world.root));
    world_close(t, &world);
    (void)munmap(metadata, world.pmm.metadata_size);
}

/* ---- costs ---- */

struct costs {
    uint64_t refill, hit, free, flush, bulk, bulk_free, huge_refill, huge, huge_free, order_3,
        order_10;
};

static uint64_t alloc(struct ktap *t, unsigned order, neomm_frame_t *frame)
{
    uint64_t before = sim_points(world.sim);
    EXPECT_OK(t, neomm_pmm_alloc(world.root, order, NEOMM_ATOMIC, frame));
    return sim_points(world.sim) - before;
}

static uint64_t give(struct ktap *t, unsigned order, neomm_frame_t frame)
{
    uint64_t before = sim_points(world.sim);
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
    return sim_points(world.sim) - before;
}

static void larger(uint64_t *most, uint64_t cost)
{
    *most = cost > *most ? cost : *most;
}

/* A cache is filled time and again, and then until it is full and gives to the bitmap. */
static void single_costs(struct ktap *t, struct costs *costs)
{
    for (uint32_t i = 0; i < HELD; i++)
        larger(i % BATCH == 0 ? &costs->refill : &costs->hit, alloc(t, 0, &held[i]));
    for (uint32_t i = 0; i < HELD; i++)
        larger(i < BATCH ? &costs->free : &costs->flush, give(t, 0, held[i]));
}

static void block_costs(struct ktap *t, struct costs *costs)
{
    neomm_frame_t frame;
    costs->huge_refill = alloc(t, 9, &frame);
    costs->huge_free = give(t, 9, frame);
    costs->huge = alloc(t, 9, &frame);
    (void)give(t, 9, frame);
    costs->order_3 = alloc(t, 3, &frame);
    (void)give(t, 3, frame);
    costs->order_10 = alloc(t, 10, &frame);
    (void)give(t, 10, frame);
}

static void bulk_costs(struct ktap *t, struct costs *costs)
{
    uint64_t before = sim_points(world.sim);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, BULK, NEOMM_ATOMIC, held));
    costs->bulk = sim_points(world.sim) - before;
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, BULK, held, NULL));
    costs->bulk_free = sim_points(world.sim) - before - costs->bulk;
}

static void measure(struct ktap *t, uint64_t bytes, struct costs *costs)
{
    memset(costs, 0, sizeof(*costs));
    if (!open_machine(t, bytes))
        return;
    bulk_costs(t, costs);
    single_costs(t, costs);
    block_costs(t, costs);
    close_machine(t);
}

/* To enter the cache, to leave it, and one that makes the frame somebody's or nobody's. */
#define HIT 3u

/* A batch goes from the bitmap or to it by words, not by frames. */
static void bounds(struct ktap *t)
{
    struct costs costs;
    measure(t, sizes[0], &costs);
    EXPECT_EQ(t, costs.hit, HIT);
    EXPECT_EQ(t, costs.free, HIT);
    EXPECT_EQ(t, costs.huge, HIT);
    EXPECT_EQ(t, costs.huge_free, HIT);
    EXPECT(t, costs.refill > HIT && costs.refill <= HIT + 12);
    EXPECT(t, costs.flush > HIT && costs.flush <= HIT + 16);
    EXPECT(t, costs.huge_refill > HIT && costs.huge_refill <= HIT + 20);
    EXPECT(t, costs.bulk <= BULK + 32);
    EXPECT(t, costs.bulk_free <= HIT * BULK);
    EXPECT(t, costs.order_3 <= 12);
    EXPECT(t, costs.order_10 <= 12);
}

static void same_on_all_sizes(struct ktap *t)
{
    struct costs least, costs;
    measure(t, sizes[0], &least);
    measure(t, sizes[t->parameter], &costs);
    EXPECT(t, memcmp(&least, &costs, sizeof(costs)) == 0);
}

static const uint64_t size_numbers[] = {1, 2};

static const struct ktap_case cases[] = {KTAP_CASE(bounds),
                                         KTAP_CASE_WITH(same_on_all_sizes, size_numbers)};
KTAP_SUITE(pmm_cost, cases);
