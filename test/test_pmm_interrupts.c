/* The frame allocator interrupted: at every point of every kind of call, on the same CPU, by a
 * handler that allocates and frees itself.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <stdlib.h>

#define FRAMES 2048u
#define HELD   64u

static struct world world;
static uint8_t *metadata; /* as it was before a call */

/* What the interrupted call and its handler have. */
struct pair {
    struct ktap *t;
    neomm_frame_t frame[HELD];
    uint32_t held;
    unsigned order;      /* of the handler's block */
    neomm_frame_t block; /* that the handler keeps */
    neomm_frame_t given; /* a frame that it gives back */
    neomm_status status; /* of its last allocation */
    uint64_t points;     /* that it passed */
    uint32_t runs;
};
static struct pair pair;

static void handler(void *context)
{
    struct pair *p = context;
    uint64_t before = sim_points(world.sim);
    neomm_frame_t frame;
    p->runs++;
    if (!neomm_frame_is_nil(p->given)) {
        EXPECT_OK(p->t, neomm_pmm_free(world.root, p->given, 0));
        p->given = neomm_frame(0);
    }
    if (neomm_pmm_alloc(world.root, 0, NEOMM_ATOMIC, &frame) == NEOMM_OK)
        EXPECT_OK(p->t, neomm_pmm_free(world.root, frame, 0));
    p->status = neomm_pmm_alloc(world.root, p->order, NEOMM_ATOMIC, &p->block);
    p->points = sim_points(world.sim) - before;
}

/* ---- the calls that are interrupted ---- */

static neomm_status get(unsigned order)
{
    return neomm_pmm_alloc(world.root, order, NEOMM_ATOMIC, &pair.frame[pair.held++]);
}

static neomm_status give(unsigned order)
{
    return neomm_pmm_free(world.root, pair.frame[--pair.held], order);
}

static neomm_status alloc_0(void)
{
    return get(0);
}

static neomm_status alloc_and_free_0(void)
{
    neomm_status status = get(0);
    return status == NEOMM_OK ? give(0) : status;
}

static neomm_status alloc_and_free_3(void)
{
    neomm_status status = get(3);
    return status == NEOMM_OK ? give(3) : status;
}

static neomm_status alloc_and_free_9(void)
{
    neomm_status status = get(9);
    return status == NEOMM_OK ? give(9) : status;
}

static neomm_status alloc_and_free_10(void)
{
    neomm_status status = get(10);
    return status == NEOMM_OK ? give(10) : status;
}

/* So many frees that the cache is full in between. */
static neomm_status bulk(void)
{
    neomm_frame_t frame[40];
    neomm_status status = neomm_pmm_alloc_bulk(world.root, 40, NEOMM_ATOMIC, frame);
    return status == NEOMM_OK ? neomm_pmm_free_bulk(world.root, 40, frame, NULL) : status;
}

static neomm_status range(void)
{
    const struct neomm_range_request request = {.frames = 12, .flags = NEOMM_ATOMIC};
    neomm_frame_t first;
    neomm_status status = neomm_pmm_alloc_range(world.root, &request, &first);
    return status == NEOMM_OK ? neomm_pmm_free_range(world.root, first, 12) : status;
}

static neomm_status claim(void)
{
    neomm_status status = neomm_pmm_claim(world.root, neomm_frame(1900), 8);
    return status == NEOMM_OK ? neomm_pmm_free_range(world.root, neomm_frame(1900), 8) : status;
}

static neomm_status drain(void)
{
    struct neomm_zone_stats stats;
    neomm_pmm_drain(world.root);
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_DMA, &stats);
    return neomm_pmm_cpu_offline(world.root, 1);
}

/* Wants what the handler may have; and the handler is refused what is in the cache of its own CPU
 * when it interrupts somebody in there. */
static neomm_status last_frame(void)
{
    return get(0);
}

struct call {
    const char *name;
    neomm_status (*make)(void);
    uint32_t filled; /* so many frames from the first free one on are taken; 0: none */
    bool cached;     /* there are frames in the CPU's cache */
    bool contended;  /* there is enough for the call or the handler, not for both */
    unsigned order;  /* of the block that the handler keeps */
};

static const struct call calls[] = {
    {"alloc, refill", alloc_0, 0, false, false, 0},
    {"alloc, hit", alloc_0, 0, true, false, 0},
    {"alloc and free", alloc_and_free_0, 0, true, false, 3},
    {"alloc and free of order 3", alloc_and_free_3, 0, true, false, 3},
    {"alloc and free of order 9", alloc_and_free_9, 0, true, false, 0},
    {"alloc and free of order 9, twice", alloc_and_free_9, 0, true, false, 9},
    {"alloc and free of order 10", alloc_and_free_10, 0, true, true, 9},
    {"bulk", bulk, 0, true, false, 0},
    {"range", range, 0, true, false, 0},
    {"claim", claim, 0, true, false, 3},
    {"drain", drain, 0, true, false, 0},
    {"alloc of the last frame", last_frame, 1, false, true, 0},
    {"alloc of the last frame, cached", last_frame, 1, true, true, 0},
    {"alloc of the last two frames", last_frame, 2, true, true, 0},
    {"alloc of the last order 3", alloc_and_free_3, 8, true, true, 3},
    {"range of the last frames", range, 12, true, true, 0},
};
static const uint64_t call_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
_Static_assert(NEOMM__COUNT_OF(call_numbers) == NEOMM__COUNT_OF(calls), "each call is made");

/* All frames are taken but `left` from 1024 on. */
static void fill(struct ktap *t, uint32_t left, bool take)
{
    for (uint32_t frame = 0; frame < world.frames; frame++) {
        if ((frame >= 1024 && frame < 1024 + left) || world.state[frame] != WORLD_FREE)
            continue;
        if (take)
            EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(frame), 1));
        else
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(frame), 0));
    }
}

static void prepare(struct ktap *t, const struct call *call)
{
    pair = (struct pair){.t = t, .order = call->order};
    if (call->cached) {
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &pair.given));
        if (call->filled != 0) {
            EXPECT_OK(t, neomm_pmm_free(world.root, pair.given, 0));
            pair.given = neomm_frame(0);
        }
    }
    memcpy(metadata, world.metadata, world.metadata_size);
}

/* Both give back what they have; then nothing may be missing. */
static void settle(struct ktap *t, const struct call *call, neomm_status status)
{
    while (status == NEOMM_OK && pair.held > 0)
        EXPECT_OK(t, give(0));
    if (pair.runs > 0 && pair.status == NEOMM_OK)
        EXPECT_OK(t, neomm_pmm_free(world.root, pair.block, call->order));
    if (!neomm_frame_is_nil(pair.given))
        EXPECT_OK(t, neomm_pmm_free(world.root, pair.given, 0));
    world_fsck(t, &world);
}

/* One interrupt, at point n. False: the call came to its end before. */
static bool interrupt_at(struct ktap *t, const struct call *call, uint64_t n, uint64_t free)
{
    struct pair before = pair;
    memcpy(world.metadata, metadata, world.metadata_size);
    sim_interrupt_at(world.sim, n, handler, &pair);
    neomm_status status = call->make();
    bool done = !sim_interrupt_due(world.sim);
    sim_interrupt_at(world.sim, 0, NULL, NULL);
    EXPECT_EQ(t, pair.runs, done);
    EXPECT(t, status == NEOMM_OK || (call->contended && status == NEOMM_E_NOMEM));
    if (done) {
        EXPECT(t, pair.status == NEOMM_OK || (call->contended && pair.status == NEOMM_E_NOMEM));
        EXPECT(t, status == NEOMM_OK || pair.status == NEOMM_OK);
        EXPECT(t, pair.points < 2000); /* it did not wait for what it interrupted */
    }
    settle(t, call, status);
    EXPECT_EQ(t, neomm_pmm_free_frames(world.root), free);
    if (t->failures > 0)
        ktap_note(t, "%s, at point %llu", call->name, (unsigned long long)n);
    pair = before;
    return done && t->failures == 0;
}

static void at_every_point(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, FRAMES << 12, NEOMM_MEMORY_USABLE}};
    const struct call *call = &calls[t->parameter];
    const struct world_options options = {
        .ram_bytes = FRAMES << 12, .map = map, .map_count = 1, .cpus = 2};
    uint64_t n = 1;
    if (!world_open(t, &world, &options))
        return;
    metadata = malloc(world.metadata_size);
    uint64_t all = neomm_pmm_free_frames(world.root);
    if (call->filled != 0) {
        fill(t, call->filled, true);
        all = call->filled;
    }
    prepare(t, call);
    while (interrupt_at(t, call, n, all))
        n++;
    ktap_note(t, "%s: %llu points", call->name, (unsigned long long)n - 1);
    EXPECT(t, n > 3);
    memcpy(world.metadata, metadata, world.metadata_size);
    if (!neomm_frame_is_nil(pair.given))
        EXPECT_OK(t, neomm_pmm_free(world.root, pair.given, 0));
    if (call->filled != 0)
        fill(t, call->filled, false);
    free(metadata);
    world_close(t, &world);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(at_every_point, call_numbers)};
KTAP_SUITE(pmm_interrupts, cases);
