/* The frame allocator: every error in every state, reclaim, reserve, zeroing, fault points, and
 * what the consistency check finds.
 * SPDX-License-Identifier: MIT */
#include "pmm_maps.h"

#include "pmm/pmm_priv.h"

#include <string.h>

static struct world world;

static neomm_frame_t alloc(struct ktap *t, unsigned order, neomm_flags_t flags)
{
    neomm_frame_t frame;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, order, flags, &frame));
    return frame;
}

static uint64_t used(void)
{
    uint64_t sum = 0;
    for (int zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats stats;
        neomm_pmm_zone_stats(world.root, (enum neomm_zone)zone, &stats);
        sum += stats.used;
    }
    return sum;
}

/* ---- freeing what must not be freed ---- */

static void bad_frees(struct ktap *t)
{
    if (!world_open(t, &world, &kinds))
        return;
    static const uint64_t foreign[] = {0,    M(1),  M(2),   M(3) - 4096, M(3),
                                       M(4), M(24), M(200), M(600),      M(40000)};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(foreign); i++)
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
            EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(FRAME(foreign[i])), order),
                      NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(UINT32_MAX), 0), NEOMM_E_FOREIGN);
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
        neomm_frame_t frame = alloc(t, order, 0);
        for (unsigned other = 0; other <= NEOMM_ORDER_MAX + 1; other++)
            if (other != order)
                EXPECT_EQ(t, neomm_pmm_free(world.root, frame, other), NEOMM_E_INVALID);
        for (uint32_t i = 1; i < 1u << order; i *= 2)
            EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(frame.number + i), 0),
                      NEOMM_E_INVALID);
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
        EXPECT_EQ(t, neomm_pmm_free(world.root, frame, order), NEOMM_E_DOUBLE_FREE);
        EXPECT_EQ(t, neomm_pmm_free(world.root, frame, 0), NEOMM_E_DOUBLE_FREE);
        world_fsck(t, &world);
    }
    neomm_frame_t frame;
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, NEOMM_ORDER_MAX + 1, 0, &frame), NEOMM_E_INVALID);
    world_compare(t, &world);
    world_close(t, &world);
}

static void busy_frees(struct ktap *t)
{
    if (!world_open(t, &world, &plain))
        return;
    neomm_frame_t frame = alloc(t, 2, 0);
    struct neomm__frame *first = neomm__frame(world.root, frame);
    for (uint32_t references = 1; references < 4; references++) {
        first->references = references;
        EXPECT_EQ(t, neomm_pmm_free(world.root, frame, 2),
                  references == 1 ? NEOMM_OK : NEOMM_E_BUSY);
        if (references == 1)
            frame = alloc(t, 2, 0);
    }
    first->references = 0;
    EXPECT_EQ(t, neomm_pmm_free(world.root, frame, 2), NEOMM_E_DOUBLE_FREE);
    first->references = 1;
    neomm__frame_set(first, NEOMM__FRAME_TAILS);
    for (uint32_t i = 0; i < 4; i++) {
        first[i].mappings = 1;
        EXPECT_EQ(t, neomm_pmm_free(world.root, frame, 2), NEOMM_E_BUSY);
        first[i].mappings = 0;
    }
    EXPECT_EQ(t, used(), 4);
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 2));
    world_close(t, &world);
}

/* What an owner leaves in descriptors is gone with the frames; a new owner finds zeros. */
static void descriptors(struct ktap *t)
{
    if (!world_open(t, &world, &plain))
        return;
    neomm_frame_t frame = alloc(t, 3, 0);
    struct neomm__frame *first = neomm__frame(world.root, frame);
    EXPECT_EQ(t, first->references, 1);
    EXPECT_EQ(t, first->order, 3);
    neomm__frame_set(first, NEOMM__FRAME_TAILS);
    for (uint32_t i = 0; i < 8; i++) {
        first[i].kind = NEOMM__KIND_TAIL;
        first[i].owner = 0x1234;
        first[i].mapping = UINT64_MAX;
        first[i].next = first[i].previous = 7;
    }
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 3));
    const struct neomm__frame zero = {0};
    for (uint32_t i = 0; i < 8; i++)
        EXPECT(t, memcmp(&first[i], &zero, sizeof(zero)) == 0);
    world_close(t, &world);
}

/* ---- ranges and claims ---- */

static void bad_ranges(struct ktap *t)
{
    static const struct neomm_range_request refused[] = {{.frames = 0},
                                                         {.frames = 1, .align = 3},
                                                         {.frames = 1, .boundary = 6},
                                                         {.frames = 9, .boundary = 8},
                                                         {.frames = 0, .align = 4}};
    static const struct neomm_range_request absent[] = {{.frames = 1, .limit = 4096},
                                                        {.frames = 1, .limit = 5},
                                                        {.frames = UINT32_MAX},
                                                        {.frames = 4097, .flags = NEOMM_DMA},
                                                        {.frames = 1, .align = 1u << 31}};
    if (!world_open(t, &world, &kinds))
        return;
    neomm_frame_t first;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(refused); i++)
        EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &refused[i], &first), NEOMM_E_INVALID);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(absent); i++)
        EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &absent[i], &first), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, neomm_frame(1), 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(1), 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(0), 1), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(1), UINT32_MAX), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(600))), 1), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, neomm_frame(UINT32_MAX), 2), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(600))), 1), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, neomm_frame(0), 2), NEOMM_E_FOREIGN);
    world_compare(t, &world);
    world_close(t, &world);
}

/* The end of one section and the beginning of the next one with RAM are neighbours in the bitmap
 * and not in memory; alignment above a section's size is that of the frames. */
static void sections_apart(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(127), M(1), U}, {M(256), M(129), U}};
    const struct world_options options = {.ram_bytes = M(386), MAP(map)};
    struct neomm_range_request request = {.frames = FRAME(M(129)) + 1};
    neomm_frame_t first;
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &first), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(128)) - 1), 2), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(128)) - 1), FRAME(M(128)) + 2),
              NEOMM_E_BUSY);
    request = (struct neomm_range_request){.frames = 2, .align = FRAME(M(256))};
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_EQ(t, first.number, FRAME(M(256)));
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &first), NEOMM_E_NOMEM);
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(FRAME(M(128)) - 1), 1));
    EXPECT_EQ(t,
              neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(128)) - 1), FRAME(M(128)) + 2),
              NEOMM_E_FOREIGN);
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(128)) - 1), 1));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(256))), 2));
    world_compare(t, &world);
    world_close(t, &world);
}

/* One bad frame in a range, and nothing of it is freed. */
static void all_or_nothing(struct ktap *t)
{
    struct neomm_range_request request = {.frames = 100, .align = 64};
    neomm_frame_t first, block, frames[10];
    uint32_t done;
    if (!world_open(t, &world, &plain))
        return;
    ASSERT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_EQ(t, used(), 100);
    neomm_frame_t middle = neomm_frame(first.number + 50);
    neomm__frame(world.root, middle)->mappings = 1;
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, first, 100), NEOMM_E_BUSY);
    neomm__frame(world.root, middle)->mappings = 0;
    EXPECT_EQ(t, used(), 100);
    EXPECT_OK(t, neomm_pmm_free(world.root, middle, 0));
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, first, 100), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, used(), 99);
    EXPECT_EQ(t, neomm_pmm_claim(world.root, first, 51), NEOMM_E_BUSY);
    EXPECT_OK(t, neomm_pmm_claim(world.root, middle, 1));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 100));
    block = alloc(t, 3, 0);
    EXPECT_EQ(t, neomm_pmm_free_range(world.root, block, 8), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_pmm_free(world.root, block, 3));
    ASSERT_OK(t, neomm_pmm_alloc_bulk(world.root, 9, 0, frames));
    frames[9] = frames[4];
    EXPECT_EQ(t, neomm_pmm_free_bulk(world.root, 10, frames, &done), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, done, 9);
    EXPECT_EQ(t, used(), 0);
    world_close(t, &world);
}

/* ---- reclaim ---- */

struct hoard {
    struct ktap *t;
    neomm_frame_t frames[9000];
    uint32_t count, calls, asked, give;
    neomm_flags_t flags;
    bool recurse, lie;
};
static struct hoard hoard;

static uint32_t reclaim(void *context, uint32_t frames, neomm_flags_t flags)
{
    struct hoard *held = context;
    struct ktap *t = held->t;
    held->calls++;
    held->asked = frames;
    held->flags = flags;
    EXPECT_EQ(t, neomm_port_cpu()->lock_depth, 0);
    if (held->recurse) {
        neomm_frame_t frame;
        uint32_t calls = held->calls;
        EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, 0, &frame), NEOMM_E_NOMEM);
        EXPECT_EQ(t, held->calls, calls);
    }
    if (held->lie)
        return 1;
    uint32_t freed = 0;
    for (; freed < held->give && held->count > 0; freed++)
        EXPECT_OK(t, neomm_pmm_free(world.root, held->frames[--held->count], 0));
    return freed;
}

static void hoard_all(struct ktap *t)
{
    memset(&hoard, 0, sizeof(hoard));
    hoard.t = t;
    while (neomm_pmm_alloc(world.root, 0, NEOMM_HIGH | NEOMM_NORECLAIM,
                           &hoard.frames[hoard.count]) == NEOMM_OK)
        hoard.count++;
    neomm_pmm_set_reclaim(world.root, reclaim, &hoard);
}

static void hoard_end(void)
{
    neomm_pmm_set_reclaim(world.root, NULL, NULL);
    while (hoard.count > 0)
        (void)neomm_pmm_free(world.root, hoard.frames[--hoard.count], 0);
}

static void reclaims(struct ktap *t)
{
    neomm_frame_t frame, bulk[20];
    struct neomm_range_request request = {.frames = 16};
    if (!world_open(t, &world, &plain))
        return;
    hoard_all(t);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 0);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_NORECLAIM, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_ATOMIC, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, hoard.calls, 0);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_MOVABLE, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, hoard.calls, 1);
    EXPECT_EQ(t, hoard.flags, NEOMM_MOVABLE);
    hoard.give = 1;
    hoard.recurse = true;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
    EXPECT_EQ(t, hoard.calls, 2);
    EXPECT_EQ(t, hoard.asked, 1);
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    hoard.recurse = false;
    hoard.give = 8;
    ASSERT_OK(t, neomm_pmm_alloc_bulk(world.root, 20, 0, bulk));
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 20, bulk, NULL));
    hoard.give = 64;
    ASSERT_OK(t, neomm_pmm_alloc_range(world.root, &request, &frame));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, frame, 16));
    hoard_end();
    world_close(t, &world);
}

/* A callback that says it freed something and did not must not hold the caller for ever. */
static void reclaim_gives_up(struct ktap *t)
{
    neomm_frame_t frame;
    struct neomm_range_request request = {.frames = 4};
    if (!world_open(t, &world, &plain))
        return;
    hoard_all(t);
    hoard.lie = true;
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, 0, &frame), NEOMM_E_NOMEM);
    EXPECT(t, hoard.calls > 1 && hoard.calls < 100);
    hoard.calls = 0;
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &frame), NEOMM_E_NOMEM);
    EXPECT(t, hoard.calls > 1 && hoard.calls < 100);
    EXPECT_EQ(t, hoard.asked, 4);
    hoard_end();
    world_close(t, &world);
}

/* ---- reserve, zeroing ---- */

static void reserve(struct ktap *t)
{
    struct world_options options = plain;
    struct neomm_range_request request = {.frames = 17};
    neomm_frame_t frame;
    options.reserve_frames = 16;
    if (!world_open(t, &world, &options))
        return;
    hoard_all(t);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 16);
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &frame), NEOMM_E_NOMEM);
    request = (struct neomm_range_request){.frames = 1, .flags = NEOMM_NORECLAIM};
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &frame), NEOMM_E_NOMEM);
    request.flags |= NEOMM_RESERVE;
    ASSERT_OK(t, neomm_pmm_alloc_range(world.root, &request, &frame));
    hoard.frames[hoard.count++] = frame;
    for (uint32_t i = 0; i < 15; i++)
        hoard.frames[hoard.count++] = alloc(t, 0, NEOMM_ATOMIC | NEOMM_RESERVE);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_ATOMIC | NEOMM_RESERVE, &frame),
              NEOMM_E_NOMEM);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), 0);
    hoard_end();
    world_close(t, &world);
}

/* From the configuration, and never more than a half. */
static void reserve_configured(struct ktap *t)
{
    static const struct {
        struct neomm_config_size size;
        uint32_t per_mille;
    } settings[] = {{{0, 0}, 0}, {{0, 25}, 250}, {{M(16), 0}, 500}, {{UINT64_MAX, 0}, 500}};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(settings); i++) {
        struct world_options options = plain;
        options.reserve = settings[i].size;
        if (!world_open(t, &world, &options))
            return;
        uint64_t all = neomm_pmm_free_frames(world.root);
        hoard_all(t);
        EXPECT_EQ(t, neomm_pmm_free_frames(world.root), all * settings[i].per_mille / 1000);
        hoard_end();
        world_close(t, &world);
    }
}

static bool filled(neomm_frame_t frame, uint8_t byte, bool write)
{
    bool same = true;
    uint8_t *page = neomm_frame_map(world.root, frame);
    if (!page)
        return false;
    if (write)
        memset(page, byte, NEOMM_PAGE_SIZE);
    for (uint32_t i = 0; i < NEOMM_PAGE_SIZE; i++)
        same &= page[i] == byte;
    neomm_frame_unmap(world.root, page);
    return same;
}

static const struct world_options split = {
    .ram_bytes = M(32), MAP(simple), .direct_bytes = M(24), .slots = true};

static void zeroed(struct ktap *t)
{
    static const neomm_flags_t flags[] = {0, NEOMM_HIGH, NEOMM_DMA};
    if (!world_open(t, &world, &split))
        return;
    for (unsigned order = 0; order <= 4; order++)
        for (uint32_t i = 0; i < NEOMM__COUNT_OF(flags); i++) {
            neomm_frame_t frame = alloc(t, order, flags[i]);
            for (uint32_t n = 0; n < 1u << order; n++)
                EXPECT(t, filled(neomm_frame(frame.number + n), 0x5a, true));
            EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
            frame = alloc(t, order, flags[i] | NEOMM_ZERO);
            EXPECT_EQ(t, frame.number >= FRAME(M(24)), flags[i] == NEOMM_HIGH);
            for (uint32_t n = 0; n < 1u << order; n++)
                EXPECT(t, filled(neomm_frame(frame.number + n), 0, false));
            EXPECT_OK(t, neomm_pmm_free(world.root, frame, order));
        }
    struct neomm_range_request request = {.frames = 9, .flags = NEOMM_HIGH | NEOMM_ZERO};
    neomm_frame_t first;
    ASSERT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    for (uint32_t n = 0; n < 9; n++)
        EXPECT(t, filled(neomm_frame(first.number + n), 0, false));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 9));
    world_close(t, &world);
}

/* No slot free: a zeroed frame comes from the direct map instead, and the high one goes back. */
static void zeroed_without_slot(struct ktap *t)
{
    struct neomm_range_request request = {.frames = 3, .flags = NEOMM_HIGH | NEOMM_ZERO};
    neomm_frame_t first;
    if (!world_open(t, &world, &split))
        return;
    uint32_t all = world.slots_free;
    world.slots_free = 0;
    neomm_frame_t frame = alloc(t, 0, NEOMM_HIGH | NEOMM_ZERO);
    EXPECT(t, frame.number < FRAME(M(24)));
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT(t, first.number < FRAME(M(24)));
    EXPECT_EQ(t, used(), 4);
    world.slots_free = all;
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 3));
    world_close(t, &world);
}

/* No slots registered: the high zone is there and nothing of it is handed out. */
static void no_high_before_slots(struct ktap *t)
{
    struct world_options options = split;
    struct neomm_zone_stats high;
    options.slots = false;
    if (!world_open(t, &world, &options))
        return;
    hoard_all(t);
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_HIGH, &high);
    EXPECT_EQ(t, high.free, FRAME(M(8)));
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), FRAME(M(8)));
    struct neomm_range_request request = {.frames = 1, .flags = NEOMM_HIGH | NEOMM_NORECLAIM};
    neomm_frame_t first;
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &first), NEOMM_E_NOMEM);
    hoard_end();
    world_close(t, &world);
}

/* A machine with more RAM than i386 can map: high frames come with paging's slots, and zeroing
 * them goes through those. */
static void real_high_memory(struct ktap *t)
{
    const struct env_options options = {
        .layer = ENV_PAGING, .format = NEOMM_FORMAT_PAE, .ram_bytes = M(1280)};
    struct neomm_zone_stats high;
    struct env env;
    neomm_frame_t frame;
    if (sizeof(void *) != 4) {
        ktap_skip(t, "all memory is mapped here");
        return;
    }
    if (!env_open(t, &env, &options))
        return;
    uint32_t border = FRAME(neomm_layout_of(env.root)->direct.size);
    neomm_pmm_zone_stats(env.root, NEOMM_ZONE_HIGH, &high);
    EXPECT_EQ(t, high.free, FRAME(M(1280)) - border);
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 3, NEOMM_HIGH | NEOMM_ZERO, &frame));
    EXPECT(t, frame.number >= border);
    world.root = env.root;
    for (uint32_t i = 0; i < 8; i++)
        EXPECT(t, filled(neomm_frame(frame.number + i), 0, false));
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 3));
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 3, 0, &frame));
    EXPECT(t, frame.number < border);
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 3));
    env_close(t, &env);
}

/* ---- counters and snapshot ---- */

static void counters(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    struct neomm_range_request request = {.frames = 5};
    neomm_frame_t first, bulk[4];
    if (!world_open(t, &world, &plain))
        return;
    neomm_frame_t frame = alloc(t, 3, 0);
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 4, 0, bulk));
    neomm_snapshot_take(world.root, &snapshot);
    EXPECT_EQ(t, snapshot.layers, 1);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_ALLOC], 10);
    EXPECT_EQ(t, snapshot.zone[NEOMM_ZONE_NORMAL].used, 17);
    EXPECT_EQ(t, snapshot.zone[NEOMM_ZONE_NORMAL].total, FRAME(M(16)));
    EXPECT_EQ(t, snapshot.zone[NEOMM_ZONE_DMA].total, FRAME(M(16)));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 3));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 5));
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 4, bulk, NULL));
    request.frames = UINT32_MAX;
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &first), NEOMM_E_NOMEM);
    neomm_snapshot_take(world.root, &snapshot);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_FREE], 10);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_FRAME_FAIL], 1);
    struct neomm_zone_stats stats;
    neomm_pmm_zone_stats(world.root, NEOMM_ZONES, &stats);
    EXPECT_EQ(t, stats.total, 0);
    world_close(t, &world);
}

/* ---- fault points ---- */

/* Everything that allocates, once. */
static neomm_status scenario(void)
{
    struct neomm_range_request request = {.frames = 7, .flags = NEOMM_ZERO};
    neomm_frame_t block, range, bulk[5];
    neomm_status status = neomm_pmm_init(world.root, &world.map, &world.pmm);
    if (status != NEOMM_OK)
        return status;
    status = neomm_pmm_alloc(world.root, 2, NEOMM_ZERO, &block);
    if (status == NEOMM_OK) {
        status = neomm_pmm_alloc_range(world.root, &request, &range);
        if (status == NEOMM_OK) {
            status = neomm_pmm_alloc_bulk(world.root, 5, 0, bulk);
            if (status == NEOMM_OK)
                status = neomm_pmm_free_bulk(world.root, 5, bulk, NULL);
            if (neomm_pmm_free_range(world.root, range, 7) != NEOMM_OK)
                status = NEOMM_E_CORRUPT;
        }
        if (neomm_pmm_free(world.root, block, 2) != NEOMM_OK)
            status = NEOMM_E_CORRUPT;
    }
    return status;
}

static void faults(struct ktap *t)
{
    struct world_options options = plain;
    uint64_t n = 0;
    bool failed = true;
    options.without_pmm = true;
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    for (n = 1; failed && n < 100; n++) {
        if (!world_open(t, &world, &options))
            return;
        sim_fault_plan(world.sim, n, false);
        neomm_status status = scenario();
        failed = sim_fault_count(world.sim) >= n;
        sim_fault_plan(world.sim, 0, false);
        EXPECT_EQ(t, status, failed ? NEOMM_E_NOMEM : NEOMM_OK);
        world_close(t, &world); /* every frame must be back */
    }
    EXPECT_EQ(t, n, 1 + 8 + 1); /* start, block, range, 5 of the bulk; and one without a fault */
}

/* ---- the consistency check finds what is wrong ---- */

static size_t findings(void)
{
    return neomm_fsck(world.root, NULL, NULL);
}

/* Adds `by` to something of the allocator's, and takes it back. */
#define EXPECT_FOUND(t, place, by)                                                                 \
    do {                                                                                           \
        (place) = (__typeof__(place))((place) + (by));                                             \
        EXPECT(t, findings() > 0);                                                                 \
        (place) = (__typeof__(place))((place) - (by));                                             \
        EXPECT_EQ(t, findings(), 0);                                                               \
    } while (0)

static void corruption(struct ktap *t)
{
    if (!world_open(t, &world, &kinds))
        return;
    struct neomm__pmm *pmm = world.root->pmm;
    neomm_frame_t block = alloc(t, 4, 0);
    neomm_frame_t pair = neomm_frame(block.number + 64);
    neomm_frame_t low = alloc(t, 0, NEOMM_DMA);
    EXPECT_OK(t, neomm_pmm_claim(world.root, pair, 2));
    struct neomm__frame *first = neomm__frame(world.root, block);
    size_t bit = neomm__bit_of(world.root, block);
    EXPECT_EQ(t, findings(), 0);
    EXPECT_FOUND(t, pmm->field[3], 1);
    EXPECT_FOUND(t, pmm->tree_free[0], 1);
    EXPECT_FOUND(t, pmm->area[NEOMM_ZONE_DMA].free, 1);
    EXPECT_FOUND(t, pmm->area[NEOMM_ZONE_NORMAL].managed, 1);
    EXPECT_FOUND(t, pmm->area[NEOMM_ZONE_DMA].filled[0], 0u - 1u);
    EXPECT_FOUND(t, pmm->section_number[0], 1);
    EXPECT_FOUND(t, pmm->sections, 1);
    EXPECT_FOUND(t, pmm->cpu[0].borrowing, 1);
    EXPECT_FOUND(t, pmm->lock.word, 1);
    EXPECT_FOUND(t, world.root->frames.section[0], 1);
    EXPECT_FOUND(t, first->order, 1);
    EXPECT_FOUND(t, first->order, 31);
    EXPECT_FOUND(t, first->references, 0u - 1u);
    EXPECT_FOUND(t, first->flags, -NEOMM__FRAME_ALLOCATED);
    EXPECT_FOUND(t, first[2].flags, NEOMM__FRAME_ALLOCATED);
    EXPECT_FOUND(t, first[40].owner, 5);
    EXPECT_FOUND(t, neomm__frame(world.root, pair)->order, 1);
    EXPECT_FOUND(t, neomm__frame(world.root, neomm_frame(FRAME(M(4))))->flags,
                 NEOMM__FRAME_ALLOCATED);
    EXPECT_FOUND(t, pmm->tree_touched[neomm__tree_of(pmm, bit)], -1);
    size_t word = bit / NEOMM__WORD_BITS;
    neomm__word_t mask = (neomm__word_t)1 << bit % NEOMM__WORD_BITS;
    EXPECT_FOUND(t, pmm->taken[word], 0u - mask);
    EXPECT_FOUND(t, pmm->run[0].count, 1);
    EXPECT_FOUND(t, pmm->run[1].type, 1);
    EXPECT_OK(t, neomm_pmm_free(world.root, low, 0));
    EXPECT_OK(t, neomm_pmm_free(world.root, block, 4));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, pair, 2));
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(bad_frees),
    KTAP_CASE(busy_frees),
    KTAP_CASE(descriptors),
    KTAP_CASE(bad_ranges),
    KTAP_CASE(sections_apart),
    KTAP_CASE(all_or_nothing),
    KTAP_CASE(reclaims),
    KTAP_CASE(reclaim_gives_up),
    KTAP_CASE(reserve),
    KTAP_CASE(reserve_configured),
    KTAP_CASE(zeroed),
    KTAP_CASE(zeroed_without_slot),
    KTAP_CASE(no_high_before_slots),
    KTAP_CASE(real_high_memory),
    KTAP_CASE(counters),
    KTAP_CASE(faults),
    KTAP_CASE(corruption),
};
KTAP_SUITE(pmm, cases);
