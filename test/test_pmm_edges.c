/* The edges of requests: limits, borders and rows of ranges, counts of bulk requests, what a
 * refused free leaves as it was, when others' caches are emptied, and calls that are interrupted
 * by another that wants the same frames.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <stdlib.h>
#include <string.h>

#define M(n)         ((uint64_t)(n) << 20)
#define K(n)         ((uint64_t)(n) << 10)
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define U            NEOMM_MEMORY_USABLE
#define MAP(map)     map, (uint32_t)NEOMM__COUNT_OF(map)

static struct world world;
static neomm_frame_t held[1 << 15];

/* ---- ranges ---- */

/* Sections 0, 1, 3, 4 and 5 of six, a frame free at the beginning of each but the first, and
 * one at its end. */
static const uint32_t sections[] = {0, 1, 3, 4, 5};
static struct neomm_boot_range pieces[10];

static bool open_pieces(struct ktap *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(sections); i++) {
        uint64_t base = M(128) * sections[i];
        if (i > 0)
            pieces[n++] = (struct neomm_boot_range){base, K(4), U};
        pieces[n++] = (struct neomm_boot_range){base + M(128) - K(4), K(4), U};
    }
    const struct world_options options = {.ram_bytes = M(768), .map = pieces, .map_count = n};
    return world_open(t, &world, &options);
}

static uint32_t free_below(uint32_t frame)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(pieces); i++)
        n += pieces[i].length != 0 && FRAME(pieces[i].base) < frame;
    return n;
}

/* A limit anywhere, in sections that are there and in those that are not. */
static void limits(struct ktap *t)
{
    if (!open_pieces(t))
        return;
    for (uint32_t section = 0; section <= 9; section++)
        for (int off = -2; off <= 2; off++) {
            int64_t limit = (int64_t)M(128) * section + off * 4096;
            struct neomm_range_request request = {.frames = 1, .limit = (neomm_paddr_t)limit};
            uint32_t n = 0;
            if (limit <= 0)
                continue;
            while (neomm_pmm_alloc_range(world.root, &request, &held[n]) == NEOMM_OK) {
                EXPECT(t, held[n].number < FRAME((uint64_t)limit));
                n++;
            }
            EXPECT_EQ(t, n, free_below(FRAME((uint64_t)limit)));
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, n, held, NULL));
            request.frames = 2; /* of two sections that are neighbours, all of them below it */
            n = 0;
            while (neomm_pmm_alloc_range(world.root, &request, &held[n]) == NEOMM_OK) {
                EXPECT(t, held[n].number + 2 <= FRAME((uint64_t)limit));
                n++;
            }
            static const uint32_t pairs[] = {1, 4, 5};
            uint32_t want = 0;
            for (uint32_t i = 0; i < 3; i++)
                want += FRAME(M(128)) * pairs[i] + 1 <= FRAME((uint64_t)limit);
            EXPECT_EQ(t, n, want);
            while (n-- > 0)
                EXPECT_OK(t, neomm_pmm_free_range(world.root, held[n], 2));
        }
    world_close(t, &world);
}

/* Frames of a section that another CPU has been promised look free and are not to be had: the
 * search goes on in the next row of sections, and only there. */
static void promised_to_others(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{M(128) - K(8), K(8), U}, {M(256), K(8), U}};
    const struct world_options options = {.ram_bytes = M(272), MAP(map)};
    const struct neomm_range_request request = {.frames = 2, .flags = NEOMM_ATOMIC};
    neomm_frame_t first;
    if (!world_open(t, &world, &options))
        return;
    uint32_t *tree =
        &world.root->pmm->tree_free[neomm__tree_of(world.root->pmm, FRAME(M(128)) - 1)];
    EXPECT_EQ(t, *tree, 2);
    *tree = 1;
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_EQ(t, first.number, FRAME(M(256)));
    *tree = 2;
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 2));
    world_close(t, &world);
}

/* Rows end before the last number that a frame could have: it is given up for the ends of rows. */
static void longest(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(32), U}};
    static uint8_t buffer[M(3)] __attribute__((aligned(64)));
    const struct world_options options = {.ram_bytes = M(32), MAP(map), .without_pmm = true};
    struct neomm_boot_range ranges[8];
    struct neomm_bootmap top;
    neomm_frame_t first;
    if (sizeof(size_t) < 8) {
        ktap_skip(t, "i386 serves 16 GiB");
        return;
    }
    if (!world_open(t, &world, &options))
        return;
    world.root->layout.physical_bits = 46;
    neomm_bootmap_init(&top, ranges, 8);
    EXPECT_OK(t, neomm_bootmap_add(&top, ((uint64_t)1 << 44) - M(1), M(1), U));
    EXPECT_OK(t, neomm_bootmap_resolve(&top, 0, NULL, NULL));
    const struct neomm_pmm_options pmm = {.metadata = buffer, .metadata_size = sizeof(buffer)};
    EXPECT_OK(t, neomm_pmm_init(world.root, &top, &pmm));
    first = neomm_frame(UINT32_MAX - (FRAME(M(1)) - 1));
    size_t bit = NEOMM__SECTION_BITS - FRAME(M(1));
    EXPECT_EQ(t, neomm__row_of(world.root, first, FRAME(M(1)) - 1), bit);
    EXPECT_EQ(t, neomm__row_of(world.root, first, FRAME(M(1))), NEOMM__BITMAP_NONE);
    EXPECT_EQ(t, neomm__row_of(world.root, first, FRAME(M(1)) + 1), NEOMM__BITMAP_NONE);
    EXPECT_EQ(t, neomm__row_of(world.root, first, UINT32_MAX), NEOMM__BITMAP_NONE);
    neomm_paddr_t base = neomm_frame_paddr(first);
    EXPECT_EQ(t, neomm_pmm_add(world.root, base, M(1) - K(4)), NEOMM_E_EXISTS);
    EXPECT_EQ(t, neomm_pmm_add(world.root, base, M(1)), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_add(world.root, (uint64_t)1 << 44, M(1)), NEOMM_E_FOREIGN);
    world_close(t, &world);
}

/* Frames of all three zones, given and taken at once, are counted where they belong. */
static void over_zones(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(32), U}};
    const struct world_options options = {
        .ram_bytes = M(32), MAP(map), .direct_bytes = M(24), .slots = true};
    static const struct {
        uint32_t first, count;
    } rows[] = {{FRAME(M(16)) - 1, 2},
                {FRAME(M(16)) - 7, FRAME(M(8)) + 9},
                {FRAME(M(24)) - 513, 514},
                {FRAME(M(4)), FRAME(M(28))}};
    if (!world_open(t, &world, &options))
        return;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(rows); i++) {
        neomm_frame_t first = neomm_frame(rows[i].first);
        EXPECT_OK(t, neomm_pmm_claim(world.root, first, rows[i].count));
        world_mark(&world, first.number, rows[i].count, WORLD_USED);
        world_compare(t, &world);
        EXPECT_OK(t, neomm_pmm_free_range(world.root, first, rows[i].count));
        world_mark(&world, first.number, rows[i].count, WORLD_FREE);
        world_compare(t, &world);
        world_fsck(t, &world);
    }
    world_close(t, &world);
}

/* A range may be as long as the boundary that it must not cross. */
static void to_the_boundary(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {{0, M(32), U}};
    const struct world_options options = {.ram_bytes = M(32), MAP(map)};
    neomm_frame_t first;
    if (!world_open(t, &world, &options))
        return;
    struct neomm_range_request request = {.frames = 8, .boundary = 8};
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_EQ(t, first.number % 8, 0);
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 8));
    world_close(t, &world);
}

/* ---- frees that are refused ---- */

static const struct neomm_boot_range simple[] = {{0, M(32), U}};
static const struct world_options plain = {.ram_bytes = M(32), MAP(simple), .cpus = 2};

/* Whichever frame of a range cannot be freed, all of it stays as it was. */
static void as_they_were(struct ktap *t)
{
    const struct neomm_range_request request = {.frames = 5, .flags = NEOMM_MOVABLE};
    neomm_frame_t first;
    if (!world_open(t, &world, &plain))
        return;
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    struct neomm__frame *frame = neomm__frame(world.root, first);
    for (uint32_t bad = 0; bad < 5; bad++)
        for (uint32_t what = 0; what < 2; what++) {
            uint32_t *place = what ? &frame[bad].references : &frame[bad].mappings;
            *place += 1;
            EXPECT_EQ(t, neomm_pmm_free_range(world.root, first, 5), NEOMM_E_BUSY);
            *place -= 1;
            for (uint32_t i = 0; i < 5; i++)
                EXPECT(t, neomm__frame_has(&frame[i], NEOMM__FRAME_MOVABLE));
        }
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 5));
    world_close(t, &world);
}

/* Makes the free frames at `first` a block. */
static void make_block(struct ktap *t, neomm_frame_t first, unsigned order)
{
    size_t bit = neomm__bit_of(world.root, first), next;
    EXPECT(t, neomm__area_take_exact(world.root, bit, (size_t)1 << order, 0, false, &next));
    neomm__pmm_own(world.root, bit, order, 0);
    NEOMM__FRAMES_ALLOCATED(first, 1u << order);
}

/* A free frame behind a block is no part of it. */
static void behind_blocks(struct ktap *t)
{
    if (!world_open(t, &world, &plain))
        return;
    for (unsigned order = 0; order < NEOMM_ORDER_MAX; order++) {
        uint32_t size = 1u << order;
        const struct neomm_range_request request = {.frames = 2 * size, .align = 2 * size};
        neomm_frame_t block;
        EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &block));
        EXPECT_OK(t, neomm_pmm_free_range(world.root, block, 2 * size));
        make_block(t, block, order);
        for (uint32_t i = size; i < 2 * size; i++)
            EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(block.number + i), 0),
                      NEOMM_E_DOUBLE_FREE);
        for (uint32_t i = 1; i < size; i++)
            EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(block.number + i), 0),
                      NEOMM_E_INVALID);
        EXPECT_OK(t, neomm_pmm_free(world.root, block, order));
    }
    world_close(t, &world);
}

/* Mappings of a block's own frames keep it, those of the frame behind it do not. */
static void mapped_behind(struct ktap *t)
{
    const struct neomm_range_request request = {.frames = 8, .align = 8};
    neomm_frame_t first;
    if (!world_open(t, &world, &plain))
        return;
    EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
    EXPECT_OK(t, neomm_pmm_free_range(world.root, first, 4));
    make_block(t, first, 2);
    struct neomm__frame *frame = neomm__frame(world.root, first);
    neomm__frame_set(frame, NEOMM__FRAME_TAILS);
    for (uint32_t i = 1; i < 4; i++) {
        frame[i].mappings = 1;
        EXPECT_EQ(t, neomm_pmm_free(world.root, first, 2), NEOMM_E_BUSY);
        frame[i].mappings = 0;
    }
    frame[4].mappings = 1;
    EXPECT_OK(t, neomm_pmm_free(world.root, first, 2));
    frame[4].mappings = 0;
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(first.number + 4), 4));
    world_close(t, &world);
}

/* ---- contents ---- */

static bool holds(neomm_frame_t frame, uint8_t byte)
{
    const uint8_t *page = neomm_direct_pointer(world.root, neomm_frame_paddr(frame));
    return page[0] == byte && memcmp(page, page + 1, NEOMM_PAGE_SIZE - 1) == 0;
}

static const uint64_t fills[] = {0, NEOMM_FILL_POISON, NEOMM_FILL_JUNK,
                                 NEOMM_FILL_POISON | NEOMM_FILL_JUNK};

/* Whatever frames hold when they are freed and handed out, those of their neighbours stay as they
 * are. */
static void neighbours(struct ktap *t)
{
    neomm_frame_t first;
    if (!world_open(t, &world, &plain))
        return;
    neomm_pmm_set_fill(world.root, (uint32_t)t->parameter);
    for (uint32_t count = 1; count <= 8; count *= 2)
        for (unsigned zero = 0; zero < 2; zero++) {
            struct neomm_range_request request = {.frames = count + 2, .align = 16};
            EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
            neomm_frame_t inner = neomm_frame(first.number + 1), again;
            for (uint32_t i = 0; i < count + 2; i++)
                memset(neomm_direct_pointer(world.root,
                                            neomm_frame_paddr(neomm_frame(first.number + i))),
                       0x5a, NEOMM_PAGE_SIZE);
            EXPECT_OK(t, neomm_pmm_free_range(world.root, inner, count));
            request = (struct neomm_range_request){.frames = count, .flags = zero ? NEOMM_ZERO : 0};
            EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &again));
            EXPECT_EQ(t, again.number, inner.number);
            EXPECT(t, !zero || (holds(inner, 0) && holds(neomm_frame(first.number + count), 0)));
            EXPECT(t, holds(first, 0x5a));
            EXPECT(t, holds(neomm_frame(first.number + count + 1), 0x5a));
            EXPECT_OK(t, neomm_pmm_free_range(world.root, first, count + 2));
        }
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- bulk ---- */

/* Exactly as many as asked for, with the cache empty and not. */
static void bulk_counts(struct ktap *t)
{
    if (!world_open(t, &world, &plain))
        return;
    uint64_t all = neomm_pmm_free_frames(world.root);
    for (uint32_t count = 0; count < 200; count++) {
        for (unsigned drained = 0; drained < 2; drained++) {
            if (drained)
                neomm_pmm_drain(world.root);
            held[count] = neomm_frame(7);
            EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, count, 0, held));
            EXPECT_EQ(t, held[count].number, 7);
            EXPECT_EQ(t, neomm_pmm_free_frames(world.root), all - count);
            EXPECT_OK(t, neomm_pmm_free_bulk(world.root, count, held, NULL));
        }
    }
    world_close(t, &world);
}

/* What a CPU's cache holds serves first, but not who needs frames for DMA. */
static void bulk_of_zones(struct ktap *t)
{
    neomm_frame_t frame;
    if (!world_open(t, &world, &plain))
        return;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
    EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    size_t cached = neomm__cache_frames(world.root->pmm, NEOMM_ZONE_NORMAL);
    EXPECT(t, cached > 2);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 100, NEOMM_DMA, held));
    for (uint32_t i = 0; i < 100; i++)
        EXPECT(t, held[i].number < NEOMM__DMA_FRAMES);
    EXPECT_EQ(t, neomm__cache_frames(world.root->pmm, NEOMM_ZONE_NORMAL), cached);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, 2, 0, held + 100));
    EXPECT_EQ(t, held[100].number, frame.number);
    EXPECT_EQ(t, neomm__cache_frames(world.root->pmm, NEOMM_ZONE_NORMAL), cached - 2);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, 102, held, NULL));
    world_close(t, &world);
}

/* A request that fails counts as one, and what it had gathered as given back. */
static void bulk_in_vain(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    const uint64_t *counter = snapshot.counter;
    if (!world_open(t, &world, &plain))
        return;
    uint32_t all = (uint32_t)neomm_pmm_free_frames(world.root);
    for (uint32_t left = 0; left < 200; left += 66) {
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, all - left, 0, held));
        neomm_snapshot_take(world.root, &snapshot);
        uint64_t failed = counter[NEOMM_COUNTER_FRAME_FAIL];
        EXPECT_EQ(t, neomm_pmm_alloc_bulk(world.root, left + 1, 0, held + all - left),
                  NEOMM_E_NOMEM);
        neomm_snapshot_take(world.root, &snapshot);
        EXPECT_EQ(t, counter[NEOMM_COUNTER_FRAME_FAIL], failed + 1);
        EXPECT_EQ(t, counter[NEOMM_COUNTER_FRAME_ALLOC] - counter[NEOMM_COUNTER_FRAME_FREE],
                  all - left);
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, all - left, held, NULL));
    }
    world_close(t, &world);
}

/* What a zone's caches keep serves before a lower zone does, which adds but few frames. */
static void bulk_to_the_last(struct ktap *t)
{
    static const uint32_t more[] = {0, 1, 2, 62, 63, 64, 65, 127, 128, 129};
    static struct neomm_snapshot snapshot;
    struct neomm_zone_stats stats;
    neomm_frame_t frame;
    if (!world_open(t, &world, &plain))
        return;
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(more); i++) {
        uint32_t count = (uint32_t)stats.free + more[i], low = 0;
        sim_bind(world.sim, 1);
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
        sim_bind(world.sim, 0);
        EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, count, 0, held));
        for (uint32_t j = 0; j < count; j++)
            low += held[j].number < NEOMM__DMA_FRAMES;
        EXPECT_EQ(t, low, more[i]);
        neomm_snapshot_take(world.root, &snapshot);
        EXPECT_EQ(t,
                  snapshot.counter[NEOMM_COUNTER_FRAME_ALLOC] -
                      snapshot.counter[NEOMM_COUNTER_FRAME_FREE],
                  count);
        EXPECT_OK(t, neomm_pmm_free_bulk(world.root, count, held, NULL));
    }
    world_close(t, &world);
}

/* Each frame is zeroed, but not the one listed behind the last; where no slot is left for those of
 * high memory, all come from below it. */
static void bulk_zeroed(struct ktap *t)
{
    struct world_options options = plain;
    uint32_t high = FRAME(M(16)), slots;
    neomm_frame_t guard;
    options.direct_bytes = M(16);
    options.slots = true;
    if (!world_open(t, &world, &options))
        return;
    slots = world.slots_free;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &guard));
    memset(neomm_direct_pointer(world.root, neomm_frame_paddr(guard)), 0x5a, NEOMM_PAGE_SIZE);
    for (uint32_t count = 1; count <= 300; count += 23)
        for (unsigned empty = 0; empty < 2; empty++) {
            world.slots_free = empty ? 0 : slots;
            for (unsigned dirty = 0; dirty < 2; dirty++) {
                neomm_flags_t flags = dirty ? 0 : NEOMM_ZERO | (empty ? NEOMM_HIGH : 0);
                held[count] = guard;
                EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, count, flags, held));
                for (uint32_t i = 0; i < count && t->failures == 0; i++) {
                    EXPECT(t, held[i].number < high);
                    EXPECT(t, dirty || holds(held[i], 0));
                    memset(neomm_direct_pointer(world.root, neomm_frame_paddr(held[i])), 0x3c,
                           NEOMM_PAGE_SIZE);
                }
                EXPECT_OK(t, neomm_pmm_free_bulk(world.root, count, held, NULL));
                EXPECT(t, holds(guard, 0x5a));
            }
        }
    world.slots_free = slots;
    EXPECT_OK(t, neomm_pmm_free(world.root, guard, 0));
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- what is asked of others ---- */

struct asked {
    uint32_t reclaims, frames, moves;
    bool says;
};
static struct asked asked;

static uint32_t reclaim(void *context, uint32_t frames, neomm_flags_t flags)
{
    struct asked *a = context;
    (void)flags;
    a->reclaims++;
    a->frames = frames;
    return a->says;
}

static bool compact(void *context, unsigned order, neomm_flags_t flags)
{
    struct asked *a = context;
    (void)order;
    (void)flags;
    a->moves++;
    return a->says;
}

/* Every second frame is free, so many of them; who could have a block of twice as many? */
static void ask(struct ktap *t, uint32_t free, unsigned order, uint32_t moves)
{
    neomm_frame_t frame;
    while (neomm_pmm_free_frames(world.root) > free)
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, NEOMM_NORECLAIM, &frame));
    asked = (struct asked){0};
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, order, 0, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, asked.moves, moves);
    EXPECT_EQ(t, asked.reclaims, 1);
    EXPECT_EQ(t, asked.frames, 1 << order);
}

/* Moving frames is asked for from twice the block's frames on; liars are asked eight times, in
 * turn; a range of any length is asked for as it is. */
static void asks(struct ktap *t)
{
    neomm_frame_t frame;
    if (!world_open(t, &world, &plain))
        return;
    neomm_pmm_set_reclaim(world.root, reclaim, &asked);
    neomm_pmm_set_compact(world.root, compact, &asked);
    struct neomm_range_request request = {.frames = UINT32_MAX - 1};
    EXPECT_EQ(t, neomm_pmm_alloc_range(world.root, &request, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, asked.frames, UINT32_MAX - 1);
    uint32_t all = (uint32_t)neomm_pmm_free_frames(world.root);
    EXPECT_OK(t, neomm_pmm_alloc_bulk(world.root, all, 0, held));
    for (uint32_t i = 0; i < all; i++)
        if (held[i].number % 2)
            EXPECT_OK(t, neomm_pmm_free(world.root, held[i], 0));
    for (unsigned order = 9; order <= 9; order -= 2) {
        ask(t, 2u << order, order, 1);
        ask(t, (2u << order) - 1, order, 0);
    }
    asked = (struct asked){.says = true};
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 1, 0, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, asked.moves + asked.reclaims, 8);
    EXPECT_EQ(t, asked.moves, 0); /* there are three frames */
    neomm_pmm_set_reclaim(world.root, NULL, NULL);
    for (uint32_t i = 1; i < FRAME(M(32)); i++)
        if (neomm__frame_has(neomm__frame(world.root, neomm_frame(i)), NEOMM__FRAME_ALLOCATED))
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(i), 0));
    world_close(t, &world);
}

/* A single frame needs no moving, however many are free elsewhere. */
static void no_moves_for_frames(struct ktap *t)
{
    static struct neomm_snapshot snapshot;
    neomm_frame_t frame;
    uint32_t n = 0;
    if (!world_open(t, &world, &plain))
        return;
    while (neomm_pmm_alloc(world.root, 0, NEOMM_DMA, &held[n]) == NEOMM_OK)
        n++;
    neomm_pmm_set_reclaim(world.root, reclaim, &asked);
    neomm_pmm_set_compact(world.root, compact, &asked);
    asked = (struct asked){0};
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 0, NEOMM_DMA, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, asked.moves, 0);
    EXPECT_EQ(t, asked.reclaims, 1);
    EXPECT_EQ(t, neomm_pmm_alloc(world.root, 1, NEOMM_DMA, &frame), NEOMM_E_NOMEM);
    EXPECT_EQ(t, asked.moves, 1);
    neomm_snapshot_take(world.root, &snapshot);
    EXPECT_EQ(t, snapshot.counter[NEOMM_COUNTER_RECLAIM], asked.reclaims);
    EXPECT_OK(t, neomm_pmm_free_bulk(world.root, n, held, NULL));
    world_close(t, &world);
}

/* ---- what others keep ---- */

/* All of NORMAL is taken but for the block at M(16), which CPU 1 keeps in its cache, frame by
 * frame, or all but one of it. */
static void keep_block(struct ktap *t, uint32_t frames)
{
    uint32_t size = FRAME(M(16));
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(size), size));
    sim_bind(world.sim, 1);
    for (uint32_t i = 0; i < frames; i++)
        EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(size + i), 0));
    sim_bind(world.sim, 0);
    EXPECT_EQ(t, neomm__cache_frames(world.root->pmm, NEOMM_ZONE_NORMAL), frames);
}

/* What is in another CPU's cache serves before a lower zone does, and is left there if it would be
 * too little anyway. */
static void before_lower_zones(struct ktap *t)
{
    for (uint32_t frames = 7; frames <= 8; frames++) {
        neomm_frame_t block;
        if (!world_open(t, &world, &plain))
            return;
        keep_block(t, frames);
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 3, 0, &block));
        EXPECT_EQ(t, block.number >= FRAME(M(16)), frames == 8);
        EXPECT_EQ(t, neomm__cache_frames(world.root->pmm, NEOMM_ZONE_NORMAL), frames == 8 ? 0 : 7);
        EXPECT_OK(t, neomm_pmm_free(world.root, block, 3));
        EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(FRAME(M(16)) + frames),
                                          FRAME(M(16)) - frames));
        world_close(t, &world);
    }
}

/* ---- interrupted ---- */

/* A handler that frees a frame, and takes a block that it was a part of. */
struct meddler {
    struct ktap *t;
    neomm_frame_t frame, block;
    unsigned order; /* of the block; 0: none is taken */
    neomm_status freed, taken;
    uint32_t runs;
};
static struct meddler meddler;

static void meddle(void *context)
{
    struct meddler *m = context;
    m->runs++;
    m->freed = neomm_pmm_free(world.root, m->frame, 0);
    m->taken = NEOMM_E_NOENT;
    if (m->order != 0)
        m->taken = neomm_pmm_alloc(world.root, m->order, NEOMM_ATOMIC, &m->block);
}

/* A range is freed, and at any point one of its frames by somebody else: one of both succeeds, and
 * if it is the latter the others are their owner's still. */
static void range_or_frame(struct ktap *t)
{
    const struct neomm_range_request request = {.frames = 6};
    neomm_frame_t first;
    uint32_t won = 0, lost = 0;
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    if (!world_open(t, &world, &plain))
        return;
    for (uint32_t victim = 0; victim < 6; victim++)
        for (uint64_t n = 1, done = 0; !done && t->failures == 0; n++) {
            EXPECT_OK(t, neomm_pmm_alloc_range(world.root, &request, &first));
            meddler = (struct meddler){.t = t, .frame = neomm_frame(first.number + victim)};
            sim_interrupt_at(world.sim, n, meddle, &meddler);
            neomm_status status = neomm_pmm_free_range(world.root, first, 6);
            done = sim_interrupt_due(world.sim);
            sim_interrupt_at(world.sim, 0, NULL, NULL);
            won += status == NEOMM_OK;
            lost += status != NEOMM_OK;
            EXPECT(t, status == NEOMM_OK || status == NEOMM_E_DOUBLE_FREE);
            EXPECT_EQ(t, meddler.runs, !done);
            if (!done)
                EXPECT_EQ(t, meddler.freed, status ? NEOMM_OK : NEOMM_E_DOUBLE_FREE);
            for (uint32_t i = 0; status != NEOMM_OK && i < 6; i++)
                EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(first.number + i), 0),
                          i == victim ? NEOMM_E_DOUBLE_FREE : NEOMM_OK);
            world_fsck(t, &world);
        }
    EXPECT(t, won > 6 && lost > 6);
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(limits),
    KTAP_CASE(promised_to_others),
    KTAP_CASE(longest),
    KTAP_CASE(over_zones),
    KTAP_CASE(to_the_boundary),
    KTAP_CASE(as_they_were),
    KTAP_CASE(behind_blocks),
    KTAP_CASE(mapped_behind),
    KTAP_CASE_WITH(neighbours, fills),
    KTAP_CASE(bulk_counts),
    KTAP_CASE(bulk_of_zones),
    KTAP_CASE(bulk_in_vain),
    KTAP_CASE(bulk_to_the_last),
    KTAP_CASE(bulk_zeroed),
    KTAP_CASE(asks),
    KTAP_CASE(no_moves_for_frames),
    KTAP_CASE(before_lower_zones),
    KTAP_CASE(range_or_frame),
};
KTAP_SUITE(pmm_edges, cases);
