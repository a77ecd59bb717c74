/* Nodes, and CPUs that stop: whose frames a CPU gets, keeps and gives back.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#define M(n)         ((uint64_t)(n) << 20)
#define U            NEOMM_MEMORY_USABLE
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)
#define SECTION      M(128)
#define DMA_END      4096u
#define FEW          2048u /* frames that a section of a small machine has */

static struct world world;
static neomm_frame_t held[6 * FEW + 1];

/* Three nodes with memory, and a fourth without; node 2 has it in two places. */
static const struct neomm_boot_range map_of_nodes[] = {{0, M(768), U}};
static const struct neomm_boot_range few_of_nodes[] = {{0, M(24), U},     {M(128), M(8), U},
                                                       {M(256), M(8), U}, {M(384), M(8), U},
                                                       {M(512), M(8), U}, {M(640), M(8), U}};
static const struct neomm_node_range ranges_of_nodes[] = {
    {M(128), M(256), 1}, {M(384), M(128), 2}, {M(512), M(128), 0}, {M(640), M(128), 2}};
static const uint8_t node_of_cpu[] = {0, 1, 2, 1, 3};
#define NODES 4u
#define CPUS  5u

static uint32_t node_at(uint32_t frame)
{
    static const uint8_t nodes[] = {0, 1, 1, 2, 0, 2};
    return nodes[frame / FRAME(SECTION)];
}

static bool open_nodes(struct ktap *t, bool small)
{
    const struct world_options options = {
        .ram_bytes = M(768),
        .map = small ? few_of_nodes : map_of_nodes,
        .map_count =
            (uint32_t)(small ? NEOMM__COUNT_OF(few_of_nodes) : NEOMM__COUNT_OF(map_of_nodes)),
        .cpus = CPUS,
        .without_pmm = true};
    if (!world_open(t, &world, &options))
        return false;
    world.pmm.node_range = ranges_of_nodes;
    world.pmm.node_ranges = (uint32_t)NEOMM__COUNT_OF(ranges_of_nodes);
    world.pmm.cpu_node = node_of_cpu;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    EXPECT_EQ(t, world.root->pmm->nodes, NODES);
    return true;
}

/* Goes on as another CPU. */
static void be(uint32_t cpu)
{
    sim_bind(world.sim, cpu);
}

static size_t cached(uint32_t node, enum neomm_zone zone)
{
    return neomm__cache_frames(world.root->pmm, node * NEOMM_ZONES + (uint32_t)zone);
}

static size_t cached_everywhere(void)
{
    size_t sum = 0;
    for (uint32_t area = 0; area < NEOMM__AREAS; area++)
        sum += neomm__cache_frames(world.root->pmm, area);
    return sum;
}

/* ---- whose frames a CPU gets ---- */

static neomm_status alloc_one(uint32_t i, bool bulk, neomm_flags_t flags)
{
    return bulk ? neomm_pmm_alloc_bulk(world.root, 1, flags, &held[i])
                : neomm_pmm_alloc(world.root, 0, flags, &held[i]);
}

struct asker {
    uint32_t cpu;
    neomm_flags_t flags;
    bool bulk;
};

static const struct asker askers[] = {
    {0, 0, false},
    {1, 0, false},
    {2, 0, false},
    {1, NEOMM_MOVABLE, false},
    {2, NEOMM_MOVABLE, true},
    {0, 0, true},
    {1, 0, true},
    {3, NEOMM_ATOMIC, false},
};
static const uint64_t asker_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};

/* First all of the CPU's own node, then all of the others', and the DMA zone when nothing else is
 * left: exactly as many of each as there are. */
static void own_first(struct ktap *t)
{
    const struct asker *asker = &askers[t->parameter];
    uint32_t own = 0, others = 0, node = node_of_cpu[asker->cpu], n;
    if (!open_nodes(t, true))
        return;
    be(asker->cpu);
    for (n = 0; n < 6 * FEW; n++) {
        ASSERT_OK(t, alloc_one(n, asker->bulk, asker->flags));
        EXPECT(t, held[n].number >= DMA_END);
        EXPECT(t, node_at(held[n].number) != node || others == 0);
        own += node_at(held[n].number) == node;
        others += node_at(held[n].number) != node;
    }
    EXPECT_EQ(t, own, 2 * FEW);
    EXPECT_OK(t, alloc_one(n, asker->bulk, asker->flags));
    EXPECT(t, held[n].number < DMA_END);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, n + 1, held, NULL));
    be(0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* All there is at once, of every node, though other CPUs' caches hold some of it. */
static void all_at_once(struct ktap *t)
{
    if (!open_nodes(t, true))
        return;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (uint32_t more = 0; more < 2; more++) {
            be((cpu + 1) % 3);
            EXPECT_OK(t, alloc_one(0, false, 0));
            EXPECT_OK(t, neomm_pmm_free(world.root, held[0], 0));
            EXPECT(t, cached_everywhere() > 0);
            be(cpu);
            ASSERT_OK(t, neomm_pmm_alloc_bulk(world.root, 6 * FEW + more, 0, held));
            uint32_t low = 0;
            for (uint32_t i = 0; i < 6 * FEW + more; i++)
                low += held[i].number < DMA_END;
            EXPECT_EQ(t, low, more);
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 6 * FEW + more, held, NULL));
            neomm_pmm_drain(world.root);
        }
    be(0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* Blocks, too; and a CPU whose node has no memory gets the others'. */
static void blocks(struct ktap *t)
{
    if (!open_nodes(t, false))
        return;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
            neomm_frame_t frame;
            be(cpu);
            EXPECT_OK(t, neomm_pmm_alloc(world.root, order, 0, &frame));
            EXPECT(t, frame.number >= DMA_END);
            if (node_of_cpu[cpu] != 3)
                EXPECT_EQ(t, node_at(frame.number), node_of_cpu[cpu]);
            EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
            EXPECT_OK(t, neomm_pmm_alloc(world.root, order, NEOMM_DMA, &frame));
            EXPECT(t, frame.number < DMA_END);
            EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
        }
    be(0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* A node of 8 MiB in the DMA zone beside one with all the rest: the DMA zone is no CPU's home. */
static void dma_is_nobodys_home(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(8), U}, {M(128), M(128), U}};
    static const struct neomm_node_range nodes[] = {{M(128), M(128), 1}};
    static const uint8_t cpu_node[] = {0, 1};
    const struct world_options options = {
        .ram_bytes = M(256), MAP(map), .cpus = 2, .without_pmm = true};
    neomm_frame_t frames[64];
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = nodes;
    world.pmm.node_ranges = 1;
    world.pmm.cpu_node = cpu_node;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (uint32_t cpu = 0; cpu < 2; cpu++) {
        be(cpu);
        for (uint32_t i = 0; i < 64; i++) {
            EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, i % 2 ? NEOMM_MOVABLE : 0, &frames[i]));
            EXPECT(t, frames[i].number >= DMA_END);
        }
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 64, frames, NULL));
        EXPECT_EQ(t, cached(0, NEOMM_ZONE_DMA), 0);
        EXPECT(t, cached(1, NEOMM_ZONE_NORMAL) > 0);
    }
    be(0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- what is freed ---- */

/* Frames of another node pass this CPU's cache, those of its own do not. */
static void others_frames(struct ktap *t)
{
    if (!open_nodes(t, false))
        return;
    be(1);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 200, 0, held));
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 200, NEOMM_MOVABLE, held + 200));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 9, 0, &held[400]));
    neomm_pmm_drain(world.root);
    for (uint32_t cpu = 0; cpu < CPUS; cpu += 2) {
        be(cpu);
        for (uint32_t i = cpu * 40; i < cpu * 40 + 40; i++) {
            EXPECT_EQ(t, node_at(held[i].number), 1);
            EXPECT_OK(t, neomm_pmm_free(world.root, held[i], 0));
            EXPECT_OK(t, neomm_pmm_free(world.root, held[200 + i], 0));
        }
        if (cpu == 0)
            EXPECT_OK(t, neomm_pmm_free(world.root, held[400], 9));
        EXPECT_EQ(t, cached(1, NEOMM_ZONE_NORMAL), 0);
    }
    be(3);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 40, held + 40, NULL));
    EXPECT_EQ(t, cached(1, NEOMM_ZONE_NORMAL), 40);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 40, held + 240, NULL));
    EXPECT_EQ(t, cached(1, NEOMM_ZONE_NORMAL), 80);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 40, held + 120, NULL));
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 40, held + 320, NULL));
    be(0);
    EXPECT_EQ(t, cached_everywhere(), 160);
    world_compare(t, &world);
    EXPECT_EQ(t, cached_everywhere(), 0);
    world_close(t, &world);
}

/* ---- statistics of nodes ---- */

static void model_of_node(uint32_t node, enum neomm_zone zone, struct neomm_zone_stats *stats)
{
    *stats = (struct neomm_zone_stats){0};
    for (uint32_t i = 0; i < world.frames; i++) {
        if (node_at(i) != node || (i < DMA_END) != (zone == NEOMM_ZONE_DMA))
            continue;
        stats->total += world.state[i] != WORLD_NONE;
        stats->free += world.state[i] == WORLD_FREE;
        stats->used += world.state[i] == WORLD_USED;
        stats->reserved += world.state[i] == WORLD_OTHER;
    }
}

static void compare_node(struct ktap *t, uint32_t node, enum neomm_zone zone,
                         struct neomm_zone_stats *sum)
{
    struct neomm_zone_stats have, want;
    neomm_pmm_node_stats(world.root, node, zone, &have);
    model_of_node(node, zone, &want);
    if (zone == NEOMM_ZONE_HIGH)
        want = (struct neomm_zone_stats){0};
    EXPECT_EQ(t, have.total, want.total);
    EXPECT_EQ(t, have.free, want.free);
    EXPECT_EQ(t, have.used, want.used);
    EXPECT_EQ(t, have.reserved + have.metadata, want.reserved);
    sum->total += have.total;
    sum->free += have.free;
    sum->used += have.used;
    sum->reserved += have.reserved;
    sum->metadata += have.metadata;
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        sum->free_runs[order] += have.free_runs[order];
}

/* Each node's statistics are those of the model, and together they are the zones'. */
static void sums(struct ktap *t)
{
    uint64_t seed = 5;
    uint32_t count = 0;
    if (!open_nodes(t, false))
        return;
    for (; count < 900; count++) {
        be(world_below(&seed, CPUS));
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, count % 7 ? 0 : NEOMM_DMA, &held[count]));
        world_mark(&world, held[count].number, 1, WORLD_USED);
    }
    for (uint32_t i = 0; i < 300; i++) {
        be(world_below(&seed, CPUS));
        count--;
        EXPECT_OK(t, neomm_pmm_free(world.root, held[count], 0));
        world_mark(&world, held[count].number, 1, WORLD_FREE);
    }
    be(0);
    EXPECT(t, cached_everywhere() > 0);
    for (int zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats all, sum = {0};
        for (uint32_t node = 0; node < NODES; node++)
            compare_node(t, node, (enum neomm_zone)zone, &sum);
        neomm_pmm_zone_stats(world.root, (enum neomm_zone)zone, &all);
        EXPECT(t, all.total == sum.total && all.free == sum.free && all.used == sum.used &&
                      all.reserved == sum.reserved && all.metadata == sum.metadata);
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
            EXPECT_EQ(t, all.free_runs[order], sum.free_runs[order]);
    }
    world_compare(t, &world);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, count, held, NULL));
    world_close(t, &world);
}

/* Reserved memory and the metadata belong to the node whose section they lie in. */
static void reserved_by_node(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(16), M(100), U},
                                                  {M(130), M(20), NEOMM_MEMORY_RESERVED},
                                                  {M(200), M(180), NEOMM_MEMORY_BOOT},
                                                  {M(384), M(128), U}};
    static const struct neomm_node_range nodes[] = {{M(128), M(128), 1}, {M(384), M(1), 2}};
    const struct world_options options = {
        .ram_bytes = M(512), MAP(map), .carve = true, .without_pmm = true};
    static const uint32_t reserved[] = {FRAME(M(124)), FRAME(M(20) + M(56)), 0};
    struct neomm_zone_stats stats;
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = nodes;
    world.pmm.node_ranges = 2;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (uint32_t node = 0; node < 3; node++) {
        neomm_pmm_node_stats(world.root, node, NEOMM_ZONE_NORMAL, &stats);
        EXPECT_EQ(t, stats.reserved, reserved[node]);
        EXPECT_EQ(t, stats.metadata, node == 2 ? neomm__pages(world.metadata_size) : 0);
    }
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), FRAME(M(180)));
    neomm_pmm_node_stats(world.root, 0, NEOMM_ZONE_NORMAL, &stats);
    EXPECT_EQ(t, stats.reserved, 0);
    neomm_pmm_node_stats(world.root, 1, NEOMM_ZONE_NORMAL, &stats);
    EXPECT_EQ(t, stats.reserved, FRAME(M(20)));
    world_close(t, &world);
}

static void bad_nodes(struct ktap *t)
{
    static const struct neomm_node_range range = {M(128), M(128), NEOMM_NODE_MAX};
    static const struct neomm_node_range most = {M(128), M(128), NEOMM_NODE_MAX - 1};
    static const uint8_t bad_cpu[] = {0, NEOMM_NODE_MAX}, last_cpu[] = {0, NEOMM_NODE_MAX - 1};
    const struct world_options options = {
        .ram_bytes = M(768), MAP(map_of_nodes), .cpus = 2, .without_pmm = true};
    struct neomm_zone_stats stats;
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = &range;
    world.pmm.node_ranges = 1;
    EXPECT_EQ(t, neomm_pmm_init(world.root, &world.map, &world.pmm), NEOMM_E_INVALID);
    world.pmm.node_range = &most;
    world.pmm.cpu_node = bad_cpu;
    EXPECT_EQ(t, neomm_pmm_init(world.root, &world.map, &world.pmm), NEOMM_E_INVALID);
    world.pmm.cpu_node = last_cpu;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    neomm_pmm_node_stats(world.root, NEOMM_NODE_MAX - 1, NEOMM_ZONE_NORMAL, &stats);
    EXPECT_EQ(t, stats.free, FRAME(M(128)));
    static const uint32_t absent[] = {NEOMM_NODE_MAX, NEOMM_NODE_MAX + 1, UINT32_MAX};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(absent); i++) {
        stats.total = 7;
        neomm_pmm_node_stats(world.root, absent[i], NEOMM_ZONE_NORMAL, &stats);
        EXPECT_EQ(t, stats.total, 0);
    }
    stats.total = 7;
    neomm_pmm_node_stats(world.root, 0, NEOMM_ZONES, &stats);
    EXPECT_EQ(t, stats.total, 0);
    world_close(t, &world);
}

/* ---- CPUs that stop ---- */

/* What an offline CPU had is everybody's at once, and it keeps nothing until it is back. */
static void offline(struct ktap *t)
{
    if (!open_nodes(t, false))
        return;
    uint64_t free = neomm_pmm_free_frames(world.root);
    be(1);
    for (unsigned round = 0; round < 2; round++) {
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 100, 0, held));
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 100, NEOMM_MOVABLE, held + 100));
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 200, held, NULL));
        EXPECT(t, cached(1, NEOMM_ZONE_NORMAL) >= 200);
        be(0);
        EXPECT_OK(t, neomm_pmm_cpu_offline(world.root, 1));
        EXPECT_EQ(t, cached_everywhere(), 0);
        EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
        /* Its last frames, freed when it has been told already, go past its caches. */
        be(1);
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 100, round ? NEOMM_MOVABLE : 0, held));
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 100, held, NULL));
        EXPECT_EQ(t, cached_everywhere(), 0);
        EXPECT_OK(t, neomm_pmm_cpu_offline(world.root, 1));
        EXPECT_OK(t, neomm_pmm_cpu_online(world.root, 1));
        EXPECT_OK(t, neomm_pmm_cpu_online(world.root, 1));
    }
    be(0);
    world_compare(t, &world);
    world_close(t, &world);
}

static void bad_cpus(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(32), U}};
    const struct world_options options = {
        .ram_bytes = M(32), MAP(map), .cpus = 2, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, neomm_pmm_cpu_offline(world.root, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_cpu_online(world.root, 0), NEOMM_E_INVALID);
    neomm_pmm_drain(world.root);
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    static const uint32_t absent[] = {2, 3, NEOMM_CPU_MAX, UINT32_MAX};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(absent); i++) {
        EXPECT_EQ(t, neomm_pmm_cpu_offline(world.root, absent[i]), NEOMM_E_INVALID);
        EXPECT_EQ(t, neomm_pmm_cpu_online(world.root, absent[i]), NEOMM_E_INVALID);
    }
    EXPECT_OK(t, neomm_pmm_cpu_offline(world.root, 1));
    world_close(t, &world);
}

/* Draining gives back what all CPUs keep, and they go on as before. */
static void drain(struct ktap *t)
{
    if (!open_nodes(t, false))
        return;
    uint64_t free = neomm_pmm_free_frames(world.root);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
            be(cpu);
            EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 60, 0, held));
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 60, held, NULL));
        }
        EXPECT(t, cached_everywhere() >= CPUS * 60);
        EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
        be(round);
        neomm_pmm_drain(world.root);
        EXPECT_EQ(t, cached_everywhere(), 0);
        EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
        world_fsck(t, &world);
    }
    be(0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* Every zone of every node, and none behind the last: there the next node's would begin. */
static void each_and_no_other(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(32), U}};
    static const struct neomm_node_range range = {0, M(128), 1};
    const struct world_options options = {
        .ram_bytes = M(32), MAP(map), .direct_bytes = M(24), .slots = true, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = &range;
    world.pmm.node_ranges = 1;
    world.pmm.reserve_frames = 600;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (uint32_t node = 0; node <= 2; node++)
        for (unsigned zone = 0; zone <= NEOMM_ZONES; zone++) {
            struct neomm_zone_stats stats;
            bool there = node == 1 && zone < NEOMM_ZONES;
            neomm_pmm_node_stats(world.root, node, (enum neomm_zone)zone, &stats);
            EXPECT_EQ(t, stats.total != 0, there);
            neomm_pmm_zone_stats(world.root, (enum neomm_zone)zone, &stats);
            EXPECT_EQ(t, stats.total != 0, zone < NEOMM_ZONES);
        }
    uint32_t n = 0;
    while (neomm_pmm_alloc(world.root, 0, NEOMM_DMA | NEOMM_RESERVE, &held[n]) == NEOMM_OK)
        n++;
    EXPECT_EQ(t, neomm_pmm_watermark(world.root, NEOMM_ZONE_DMA), NEOMM_WATERMARK_NONE);
    EXPECT_EQ(t, neomm_pmm_watermark(world.root, NEOMM_ZONES), NEOMM_WATERMARK_HIGH);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, n, held, NULL));
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(own_first, asker_numbers),
    KTAP_CASE(all_at_once),
    KTAP_CASE(blocks),
    KTAP_CASE(dma_is_nobodys_home),
    KTAP_CASE(others_frames),
    KTAP_CASE(sums),
    KTAP_CASE(each_and_no_other),
    KTAP_CASE(reserved_by_node),
    KTAP_CASE(bad_nodes),
    KTAP_CASE(offline),
    KTAP_CASE(bad_cpus),
    KTAP_CASE(drain),
};
KTAP_SUITE(pmm_nodes, cases);
