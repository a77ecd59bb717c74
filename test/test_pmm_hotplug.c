/* Memory that is added later: what the map must say of it, in which parts it may come, and that it
 * is then like any other.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <stdlib.h>

#define K(n)         ((uint64_t)(n) << 10)
#define M(n)         ((uint64_t)(n) << 20)
#define G(n)         ((uint64_t)(n) << 30)
#define U            NEOMM_MEMORY_USABLE
#define H            NEOMM_MEMORY_HOTPLUG
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)

static struct world world;

static const struct neomm_boot_range listed[] = {
    {0, M(64), U},       {M(64), M(64), H},  {M(128), M(32), NEOMM_MEMORY_BOOT},
    {M(160), M(40), H},  {M(200), M(24), U}, {M(224), M(16), NEOMM_MEMORY_RESERVED},
    {M(600), M(100), H},
};
static const struct world_options apart = {.ram_bytes = M(768), MAP(listed)};

static neomm_status add(uint64_t base, uint64_t length)
{
    neomm_status status = neomm_pmm_add(world.root, base, length);
    if (status == NEOMM_OK)
        world_mark(&world, FRAME(base), FRAME(length), WORLD_FREE);
    return status;
}

/* ---- what is refused ---- */

struct refusal {
    uint64_t base, length;
    neomm_status status;
};

static const struct refusal refusals[] = {
    {M(64), 0, NEOMM_E_INVALID},
    {M(64) + 1, K(4), NEOMM_E_ALIGN},
    {M(64) + K(2), K(4), NEOMM_E_ALIGN},
    {M(64), K(4) + 1, NEOMM_E_ALIGN},
    {M(64), 1, NEOMM_E_ALIGN},
    {0, K(4), NEOMM_E_FOREIGN},        /* frame 0: the map has it reserved */
    {M(230), K(4), NEOMM_E_FOREIGN},   /* reserved */
    {M(240), K(4), NEOMM_E_FOREIGN},   /* in no entry, in a section that is there */
    {M(300), K(4), NEOMM_E_FOREIGN},   /* in a section that is not there */
    {M(40000), K(4), NEOMM_E_FOREIGN}, /* beyond all sections */
    {(uint64_t)1 << 44, K(4), NEOMM_E_FOREIGN},
    {UINT64_MAX - 4095, K(4), NEOMM_E_FOREIGN},
    {M(64), UINT64_MAX - 4095, NEOMM_E_FOREIGN},
    {UINT64_MAX - 4095, M(80), NEOMM_E_FOREIGN},
    {M(600) - K(4), K(8), NEOMM_E_FOREIGN}, /* begins before it */
    {M(700) - K(4), K(8), NEOMM_E_FOREIGN}, /* ends behind it */
    {M(600), M(200), NEOMM_E_FOREIGN},
    {M(220), M(10), NEOMM_E_FOREIGN},  /* usable, then reserved */
    {M(220), M(420), NEOMM_E_FOREIGN}, /* from section to section over a hole */
    {M(1), M(1), NEOMM_E_FOREIGN},     /* the kernel's image is in it */
    {M(32), K(4), NEOMM_E_EXISTS},     /* usable already */
    {M(128), M(1), NEOMM_E_EXISTS},    /* reclaimed, not added */
    {M(60), M(8), NEOMM_E_EXISTS},     /* a part is usable already */
    {M(100), M(40), NEOMM_E_EXISTS},   /* a part is there, but for later */
    {M(160), M(64), NEOMM_E_EXISTS},
};

static void refused(struct ktap *t)
{
    struct world_options options = apart;
    options.without_pmm = true;
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, add(M(64), M(1)), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(refusals); i++) {
        neomm_status status = neomm_pmm_add(world.root, refusals[i].base, refusals[i].length);
        if (status != refusals[i].status)
            ktap_note(t, "add %#llx + %#llx", (unsigned long long)refusals[i].base,
                      (unsigned long long)refusals[i].length);
        EXPECT_EQ(t, status, refusals[i].status);
    }
    world_compare(t, &world);
    world_close(t, &world);
}

/* What is listed and not there yet is nobody's. */
static void not_there_yet(struct ktap *t)
{
    neomm_frame_t first;
    if (!world_open(t, &world, &apart))
        return;
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(64))), 1), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(63))), 512), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(FRAME(M(64))), 0), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(600))), 10), NEOMM_E_FOREIGN);
    struct neomm_range_request request = {.frames = FRAME(M(65))};
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &first), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), FRAME(M(32)));
    world_mark(&world, FRAME(M(128)), FRAME(M(32)), WORLD_FREE);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(160))), 1), NEOMM_E_BUSY);
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- parts ---- */

static void in_the_middle(struct ktap *t)
{
    if (!world_open(t, &world, &apart))
        return;
    EXPECT_OK(t, add(M(620), M(10)));
    world_compare(t, &world);
    EXPECT_EQ(t, add(M(620), M(10)), NEOMM_E_EXISTS);
    EXPECT_EQ(t, add(M(625), K(4)), NEOMM_E_EXISTS);
    EXPECT_EQ(t, add(M(600), M(100)), NEOMM_E_EXISTS);
    EXPECT_EQ(t, add(M(610), M(11)), NEOMM_E_EXISTS);
    EXPECT_EQ(t, add(M(629), M(2)), NEOMM_E_EXISTS);
    world_compare(t, &world);
    EXPECT_OK(t, add(M(600), M(20)));
    EXPECT_OK(t, add(M(630), M(70)));
    EXPECT_EQ(t, add(M(600), M(100)), NEOMM_E_EXISTS);
    EXPECT_OK(t, add(M(64), M(64)));
    EXPECT_OK(t, add(M(160), M(40)));
    world_compare(t, &world);
    world_close(t, &world);
}

/* Frames on either side of an absent section are no neighbours, though their bits are. */
static void beside_a_hole(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(128), U}, {M(512), M(128), H}};
    const struct world_options options = {.ram_bytes = M(640), MAP(map)};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_OK(t, add(M(512), M(128)));
    EXPECT_EQ(t, world.root->pmm->runs, 3);
    EXPECT_EQ(t, add(M(64), M(128)), NEOMM_E_FOREIGN);
    world_compare(t, &world);
    world_close(t, &world);
}

/* What a frame is by the map and what was added: NONE, FREE (usable), OTHER (to be reclaimed), or
 * USED for what may be added. */
static uint8_t kind[WORLD_FRAMES];

static void make_kinds(void)
{
    for (uint32_t i = 0; i < world.map.count; i++) {
        enum neomm_memory_type type = world.ranges[i].type;
        uint8_t is = type == U                                                ? WORLD_FREE
                     : type == H                                              ? WORLD_USED
                     : type == NEOMM_MEMORY_BOOT || type == NEOMM_MEMORY_ACPI ? WORLD_OTHER
                                                                              : WORLD_NONE;
        for (uint32_t f = 0; f < FRAME(world.ranges[i].length); f++)
            kind[FRAME(world.ranges[i].base) + f] = is;
    }
}

static uint32_t rows_of_one_kind(void)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < WORLD_FRAMES; i++)
        rows += kind[i] != WORLD_NONE && (i == 0 || kind[i - 1] != kind[i]);
    return rows;
}

/* What adding [first, first + count) should say; when it succeeds, kind[] is as afterwards. */
static neomm_status expected(uint32_t first, uint32_t count, uint32_t most_rows)
{
    bool all = true;
    for (uint32_t i = first; i < first + count; i++) {
        if (i >= WORLD_FRAMES || kind[i] == WORLD_NONE)
            return NEOMM_E_FOREIGN;
        all = all && kind[i] == WORLD_USED;
    }
    if (!all)
        return NEOMM_E_EXISTS;
    for (uint32_t i = first; i < first + count; i++)
        kind[i] = WORLD_FREE;
    if (rows_of_one_kind() <= most_rows)
        return NEOMM_OK;
    for (uint32_t i = first; i < first + count; i++)
        kind[i] = WORLD_USED;
    return NEOMM_E_NOSPACE;
}

static const uint64_t seeds[] = {1, 2, 3, 4, 5, 6};

/* Random parts, large and small, against the model, which also says when there are
 * too many separate ones. */
static void in_parts(struct ktap *t)
{
    static const uint64_t whole[][2] = {{M(64), M(64)}, {M(160), M(40)}, {M(600), M(100)}};
    uint64_t seed = t->parameter;
    uint32_t counts[4] = {0};
    if (!world_open(t, &world, &apart))
        return;
    make_kinds();
    for (unsigned round = 0; round < 400 && t->failures == 0; round++) {
        const uint64_t *from = whole[world_below(&seed, 3)];
        uint32_t grain = world_below(&seed, 4) ? 1 + world_below(&seed, 1500) : 2048;
        uint32_t first = FRAME(from[0]) + world_below(&seed, FRAME(from[1]) / grain + 1) * grain;
        uint32_t count = grain * (1 + world_below(&seed, 3));
        neomm_status want = expected(first, count, world.root->pmm->run_capacity);
        EXPECT_EQ(t, add((uint64_t)first << 12, (uint64_t)count << 12), want);
        counts[want == NEOMM_OK          ? 0
               : want == NEOMM_E_EXISTS  ? 1
               : want == NEOMM_E_NOSPACE ? 2
                                         : 3]++;
        if (round % 50 == 0)
            world_compare(t, &world);
    }
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(counts); i++)
        EXPECT(t, counts[i] > 4);
    world_compare(t, &world);
    world_close(t, &world);
}

/* Separate parts until there is no room for more; what joins them still comes in. */
static void too_many_parts(struct ktap *t)
{
    uint32_t parts = 0;
    if (!world_open(t, &world, &apart))
        return;
    while (parts < 100 && add(M(600) + K(16) * parts + K(4), K(4)) == NEOMM_OK)
        parts++;
    EXPECT(t, parts >= 8 && parts < 100);
    EXPECT_EQ(t, add(M(680), K(4)), NEOMM_E_NOSPACE);
    world_compare(t, &world);
    world_fsck(t, &world);
    EXPECT_OK(t, add(M(600) + K(8), K(4)));
    EXPECT_OK(t, add(M(600) + K(16), K(4)));
    EXPECT_OK(t, add(M(600) + K(12), K(4)));
    EXPECT_OK(t, add(M(680), K(4)));
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- afterwards ---- */

/* Frames of every order come out of an added part when nothing else is left, and go back. */
static void handed_out(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(2), M(6), U}, {M(256), M(16), H}};
    const struct world_options options = {.ram_bytes = M(512), MAP(map)};
    static neomm_frame_t frames[4096];
    neomm_frame_t none;
    if (!world_open(t, &world, &options))
        return;
    struct neomm_range_request rest = {.frames = FRAME(M(6))};
    neomm_frame_t first;
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &rest, &first));
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
        uint32_t want = 4096u >> order, got = 0;
        if (order == 0)
            EXPECT_OK(t, add(M(256), M(16)));
        while (got < want && neomm_pmm_alloc(world.root, order, 0, &frames[got]) == NEOMM_OK) {
            if (frames[got].number >= FRAME(M(256)))
                world_mark(&world, frames[got].number, 1u << order, WORLD_USED);
            got++;
        }
        EXPECT_EQ(t, got, want);
        EXPECT_EQ(t, world_count(&world, FRAME(M(256)), FRAME(M(272)), WORLD_USED), 4096);
        if (order == NEOMM_ORDER_MAX)
            EXPECT_EQ(t, neomm_pmm_alloc(world.root, order, 0, &none), NEOMM_E_NOMEM);
        while (got > 0)
            EXPECT_OK(t, neomm_pmm_free(world.root, frames[--got], order));
        world_mark(&world, FRAME(M(256)), 4096, WORLD_FREE);
    }
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, rest.frames));
    world_compare(t, &world);
    world_close(t, &world);
}

/* A block that reaches from old memory into new: they are one. */
static void joins_old_memory(struct ktap *t)
{
    if (!world_open(t, &world, &apart))
        return;
    EXPECT_OK(t, add(M(64), M(64)));
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(60))), FRAME(M(20))));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(60))), FRAME(M(20))));
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(80))), 1));
    EXPECT_OK(t, neomm_pmm_retire(world.root, neomm_frame(FRAME(M(80)))));
    EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(FRAME(M(80))), 0), NEOMM_E_FOREIGN);
    world_mark(&world, FRAME(M(80)), 1, WORLD_OTHER);
    EXPECT_EQ(t, add(M(80), K(4)), NEOMM_E_EXISTS);
    world_compare(t, &world);
    world_close(t, &world);
}

/* Runs that became one leave nothing behind the last one, which is reclaimed once. */
static void joined_before_boot_memory(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {
        {M(2), M(62), U}, {M(64), M(32), H}, {M(96), M(4), NEOMM_MEMORY_BOOT}};
    const struct world_options options = {.ram_bytes = M(100), MAP(map)};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, world.root->pmm->runs, 3);
    EXPECT_OK(t, add(M(64), M(32)));
    EXPECT_EQ(t, world.root->pmm->runs, 2);
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), FRAME(M(4)));
    world_mark(&world, FRAME(M(96)), FRAME(M(4)), WORLD_FREE);
    world_compare(t, &world);
    EXPECT_EQ(t, neomm_pmm_reclaim_boot(world.root), 0);
    world_close(t, &world);
}

/* What comes in front of all other memory is one with it. */
static void joined_from_below(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(2), M(62), H}, {M(64), M(32), U}};
    const struct world_options options = {.ram_bytes = M(100), MAP(map)};
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, world.root->pmm->runs, 2);
    EXPECT_OK(t, add(M(2), M(62)));
    EXPECT_EQ(t, world.root->pmm->runs, 1);
    world_compare(t, &world);
    world_close(t, &world);
}

/* Above the direct map it is high memory, for those who can map it. */
static void above_the_direct_map(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(64), U}, {M(64), M(64), H}};
    const struct world_options options = {
        .ram_bytes = M(128), MAP(map), .direct_bytes = M(64), .slots = true};
    struct neomm_zone_stats stats;
    neomm_frame_t frame;
    if (!world_open(t, &world, &options))
        return;
    EXPECT_OK(t, add(M(64), M(64)));
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_HIGH, &stats);
    EXPECT_EQ(t, stats.free, FRAME(M(64)));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_HIGH | NEOMM_ZERO, &frame));
    EXPECT(t, frame.number >= FRAME(M(64)));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
    EXPECT(t, frame.number < FRAME(M(64)));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    world_compare(t, &world);
    world_close(t, &world);
}

/* The metadata takes two of the spare runs when it lies in the midst of a range. */
static void with_metadata_inside(struct ktap *t)
{
    struct world_options options = apart;
    options.carve = true;
    if (!world_open(t, &world, &options))
        return;
    uint32_t at = FRAME(M(224)) - (uint32_t)neomm__pages(world.metadata_size);
    EXPECT_EQ(t, add((uint64_t)at << 12, K(4)), NEOMM_E_EXISTS);
    EXPECT_OK(t, add(M(64), M(1)));
    EXPECT_OK(t, add(M(199), M(1)));
    world_compare(t, &world);
    world_close(t, &world);
}

/* A server gets half its memory, 128 MiB at a time, from either end. */
static void big(struct ktap *t)
{
#if UINTPTR_MAX > 0xffffffffu
    const uint64_t half = G(4), step = M(128);
#else
    const uint64_t half = M(256), step = M(8);
#endif
    const struct neomm_boot_range map[] = {{0, half, U}, {half, half, H}};
    const struct world_options options = {.ram_bytes = 2 * half, MAP(map), .cpus = 4};
    if (!world_open(t, &world, &options))
        return;
    uint64_t free = neomm_pmm_free_frames(world.root);
    for (uint64_t done = 0; done < half; done += step) {
        uint64_t at = t->parameter ? half + done : 2 * half - done - step;
        EXPECT_OK(t, neomm_pmm_add(world.root, at, step));
        free += FRAME(step);
        EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
    }
    neomm_frame_t first = neomm_frame(FRAME(half - M(8)));
    EXPECT_OK(t, neomm_pmm_claim(world.root, first, FRAME(M(16))));
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free - FRAME(M(16)));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, FRAME(M(16))));
    world_close(t, &world);
}

/* ---- the CPUs' caches ---- */

static size_t cached(uint32_t node)
{
    return neomm__cache_frames(world.root->pmm, node * NEOMM_ZONES + NEOMM_ZONE_NORMAL);
}

static void alloc_and_free(struct ktap *t, uint32_t low, uint32_t high)
{
    neomm_frame_t frames[8];
    for (uint32_t i = 0; i < 8; i++) {
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frames[i]));
        EXPECT(t, frames[i].number >= low && frames[i].number < high);
    }
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 8, frames, NULL));
}

/* A node whose memory all comes later: its CPUs use the others' until then, and cache their own
 * from then on; a CPU that was offline stays so. */
static void new_node(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(256), U}, {M(256), M(256), H}};
    static const struct neomm_node_range nodes[] = {{0, M(256), 0}, {M(256), M(256), 1}};
    static const uint8_t cpu_node[] = {0, 1, 1};
    const struct world_options options = {
        .ram_bytes = M(512), MAP(map), .cpus = 3, .without_pmm = true};
    if (!world_open(t, &world, &options))
        return;
    world.pmm.node_range = nodes;
    world.pmm.node_ranges = 2;
    world.pmm.cpu_node = cpu_node;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    sim_bind(world.sim, 1);
    alloc_and_free(t, 4096, FRAME(M(256)));
    EXPECT_OK(t, neomm_pmm_cpu_offline(world.root, 2));
    EXPECT_OK(t, add(M(256), M(256)));
    alloc_and_free(t, FRAME(M(256)), FRAME(M(512)));
    EXPECT(t, cached(1) >= 8);
    EXPECT_EQ(t, cached(0), 0);
    neomm_pmm_drain(world.root);
    sim_bind(world.sim, 2);
    alloc_and_free(t, FRAME(M(256)), FRAME(M(512)));
    EXPECT_EQ(t, cached(1), 0);
    EXPECT_OK(t, neomm_pmm_cpu_online(world.root, 2));
    alloc_and_free(t, FRAME(M(256)), FRAME(M(512)));
    EXPECT(t, cached(1) >= 8);
    sim_bind(world.sim, 0);
    world_compare(t, &world);
    world_close(t, &world);
}

/* Bytes of the metadata that are not zero after initialisation with so much that may come. */
static size_t written(struct ktap *t, uint64_t later)
{
    const struct neomm_boot_range map[] = {{0, M(64), U}, {M(64), later, H}};
    const struct world_options options = {
        .ram_bytes = M(64) + later, MAP(map), .without_pmm = true};
    size_t bytes = 0;
    if (!world_open(t, &world, &options))
        return 0;
    memset(world.metadata, 0, world.metadata_size);
    world.pmm.metadata_zeroed = true;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    for (size_t i = 0; i < world.metadata_size; i++)
        bytes += ((const uint8_t *)world.metadata)[i] != 0;
    neomm_frame_t middle = neomm_frame(FRAME(M(64) + later / 2));
    EXPECT_EQ(t, neomm_pmm_claim(world.root, middle, 1), NEOMM_E_BUSY);
    EXPECT_OK(t, add(M(64) + later / 2, M(4)));
    EXPECT_OK(t, neomm_pmm_claim(world.root, middle, FRAME(M(4))));
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(middle.number + FRAME(M(4))), 1),
              NEOMM_E_BUSY);
    EXPECT_OK(t, neomm_pmm_free_range(world.root, middle, FRAME(M(4))));
    world_compare(t, &world);
    world_close(t, &world);
    return bytes;
}

/* What may come later costs a few bytes a section: neither descriptors nor bits. */
static void costs_nothing_yet(struct ktap *t)
{
    size_t few = written(t, M(192)), many = written(t, M(192) + 6 * M(128));
    EXPECT(t, many < few + 6 * 64);
}

static const uint64_t ends[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE(refused),
    KTAP_CASE(not_there_yet),
    KTAP_CASE(in_the_middle),
    KTAP_CASE(beside_a_hole),
    KTAP_CASE_WITH(in_parts, seeds),
    KTAP_CASE(too_many_parts),
    KTAP_CASE(handed_out),
    KTAP_CASE(joins_old_memory),
    KTAP_CASE(joined_before_boot_memory),
    KTAP_CASE(joined_from_below),
    KTAP_CASE(above_the_direct_map),
    KTAP_CASE(with_metadata_inside),
    KTAP_CASE_WITH(big, ends),
    KTAP_CASE(new_node),
    KTAP_CASE(costs_nothing_yet),
};
KTAP_SUITE(pmm_hotplug, cases);
