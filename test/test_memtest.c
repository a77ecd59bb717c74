/* The memory test on request: stuck bits and words seen twice are found, told and retired; good
 * memory is not; nobody else's memory is touched.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <string.h>

#define M(n)   ((uint64_t)(n) << 20)
#define FIRST  ((uint32_t)5000)
#define FRAMES ((uint32_t)16)
#define WORDS  (NEOMM_PAGE_SIZE / 8)

static struct world world;

static const struct neomm_boot_range map[] = {{0, M(32), NEOMM_MEMORY_USABLE}};
static const struct world_options plain = {.ram_bytes = M(32), .map = map, .map_count = 1};
/* Frames above 16 MiB are reached through slots. */
static const struct world_options high = {
    .ram_bytes = M(32), .map = map, .map_count = 1, .direct_bytes = M(16), .slots = true};

static neomm_paddr_t word_at(uint32_t frame, uint64_t word)
{
    return neomm_frame_paddr(neomm_frame(frame)) + word * 8;
}

static neomm_status test_range(uint32_t tests, struct neomm_memtest_result *result)
{
    return neomm_pmm_memtest(world.root, neomm_frame(FIRST), FRAMES, tests, result);
}

/* A world of which the frames under test are claimed. */
static bool open_claimed(struct ktap *t, const struct world_options *options)
{
    if (!world_open(t, &world, options))
        return false;
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(FIRST), FRAMES));
    world_mark(&world, FIRST, FRAMES, WORLD_USED);
    return true;
}

static void close_claimed(struct ktap *t)
{
    for (uint32_t i = FIRST; i < FIRST + FRAMES; i++)
        if (world.state[i] == WORLD_USED) {
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(i), 0));
            world.state[i] = WORLD_FREE;
        }
    world_compare(t, &world);
    world_close(t, &world);
}

static void expect_found(struct ktap *t, neomm_status status,
                         const struct neomm_memtest_result *result, neomm_paddr_t address,
                         uint64_t bits, uint32_t frames)
{
    EXPECT_EQ(t, status, NEOMM_E_CORRUPT);
    EXPECT_EQ(t, result->address, address);
    EXPECT_EQ(t, result->bits, bits);
    EXPECT_EQ(t, result->frames, frames);
}

static const uint64_t test_kinds[] = {NEOMM_MEMTEST_ONES, NEOMM_MEMTEST_ZEROS,
                                      NEOMM_MEMTEST_ADDRESS, NEOMM_MEMTEST_PATTERNS,
                                      NEOMM_MEMTEST_ALL};

/* Good memory passes, and its neighbours keep what is in them. */
static void good(struct ktap *t)
{
    static uint8_t before[NEOMM_PAGE_SIZE], after[NEOMM_PAGE_SIZE];
    struct neomm_memtest_result result;
    if (!open_claimed(t, &plain))
        return;
    for (size_t i = 0; i < sizeof(before); i++)
        before[i] = (uint8_t)(i * 7);
    static const uint32_t neighbours[] = {FIRST - 1, FIRST + FRAMES};
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(neighbours[i]), 1));
        EXPECT(t, sim_physical_write(world.sim, word_at(neighbours[i], 0), before, sizeof(before)));
    }
    memset(&result, 0xff, sizeof(result));
    EXPECT_OK(t, test_range((uint32_t)t->parameter | NEOMM_MEMTEST_RETIRE, &result));
    EXPECT(t, result.address == 0 && result.bits == 0 && result.frames == 0);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT(t, sim_physical_read(world.sim, word_at(neighbours[i], 0), after, sizeof(after)));
        EXPECT(t, memcmp(before, after, sizeof(before)) == 0);
        EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(neighbours[i]), 0));
    }
    close_claimed(t);
}

static const uint64_t stuck_values[] = {0, 1};

/* Every bit, stuck either way, somewhere in the range: each kind of test but addresses finds it
 * in both its values, and no other bit. */
static void every_bit(struct ktap *t)
{
    uint64_t seed = 1 + t->parameter;
    for (unsigned bit = 0; bit < 64 && t->failures == 0; bit++) {
        struct neomm_memtest_result result;
        neomm_paddr_t address =
            word_at(FIRST + world_below(&seed, FRAMES), world_below(&seed, WORDS));
        if (!open_claimed(t, &plain))
            return;
        sim_physical_stick(world.sim, address, (uint64_t)1 << bit, t->parameter ? UINT64_MAX : 0);
        static const uint32_t kinds[] = {NEOMM_MEMTEST_ONES, NEOMM_MEMTEST_ZEROS,
                                         NEOMM_MEMTEST_PATTERNS};
        for (unsigned i = 0; i < 3; i++)
            expect_found(t, test_range(kinds[i], &result), &result, address, (uint64_t)1 << bit, 1);
        close_claimed(t);
    }
}

/* The first word and the last of the range belong to it, those beside it do not. */
static void borders(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &plain))
        return;
    sim_physical_stick(world.sim, word_at(FIRST, 0) - 8, 1, 0);
    sim_physical_stick(world.sim, word_at(FIRST + FRAMES, 0), 1, 0);
    EXPECT_OK(t, test_range(NEOMM_MEMTEST_ALL, &result));
    sim_physical_stick(world.sim, word_at(FIRST + FRAMES, 0) - 8, 4, 4);
    expect_found(t, test_range(NEOMM_MEMTEST_ONES, &result), &result,
                 word_at(FIRST + FRAMES - 1, WORDS - 1), 4, 1);
    sim_physical_stick(world.sim, word_at(FIRST, 0), 2, 0);
    expect_found(t, test_range(NEOMM_MEMTEST_ONES, &result), &result, word_at(FIRST, 0), 2, 2);
    close_claimed(t);
}

/* A word that is seen at two addresses a frame apart: the values that walk repeat there, so only
 * addresses and mixed bits tell them apart. */
static void seen_twice(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &plain))
        return;
    neomm_paddr_t low = word_at(FIRST + 2, 9), far = word_at(FIRST + 6, 9);
    sim_physical_alias(world.sim, low, far);
    EXPECT_OK(t, test_range(NEOMM_MEMTEST_ONES | NEOMM_MEMTEST_ZEROS, &result));
    expect_found(t, test_range(NEOMM_MEMTEST_ADDRESS, &result), &result, low, low ^ far, 1);
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_PATTERNS, &result), NEOMM_E_CORRUPT);
    EXPECT_EQ(t, result.address, low);
    EXPECT(t, result.bits == (neomm__mix(low) ^ neomm__mix(far)));
    close_claimed(t);
}

/* The lowest word is told though a later pass finds it, with the bits of all passes. */
static void lowest_told(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &plain))
        return;
    sim_physical_stick(world.sim, word_at(FIRST + 1, 7), 0x11, 0x10);
    sim_physical_stick(world.sim, word_at(FIRST + 1, 8), 1, 0);
    sim_physical_stick(world.sim, word_at(FIRST + 9, 0), UINT64_MAX, 0);
    expect_found(t, test_range(NEOMM_MEMTEST_ALL, &result), &result, word_at(FIRST + 1, 7), 0x11,
                 2);
    close_claimed(t);
}

/* ---- retired frames ---- */

static void expect_reserved(struct ktap *t, const struct neomm_zone_stats *before, uint64_t frames)
{
    struct neomm_zone_stats stats;
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &stats);
    EXPECT_EQ(t, stats.reserved, before->reserved + frames);
    EXPECT_EQ(t, stats.used, before->used - frames);
    EXPECT_EQ(t, stats.total, before->total);
    world_fsck(t, &world);
}

/* All frames there are, one by one: none is retired. */
static void take_all(struct ktap *t)
{
    neomm_frame_t frame;
    uint32_t taken = 0;
    while (neomm_pmm_alloc(world.root, 0, 0, &frame) == NEOMM_OK) {
        EXPECT_EQ(t, world.state[frame.number], WORLD_FREE);
        world.state[frame.number] = WORLD_USED;
        taken++;
    }
    EXPECT(t, taken > FRAMES);
    world_compare(t, &world);
    for (uint32_t i = 0; i < world.frames; i++)
        if (world.state[i] == WORLD_USED) {
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(i), 0));
            world.state[i] = WORLD_FREE;
        }
}

static void retired(struct ktap *t)
{
    static const uint32_t bad[] = {FIRST, FIRST + 7, FIRST + 8, FIRST + FRAMES - 1};
    struct neomm_memtest_result result;
    struct neomm_zone_stats before;
    if (!open_claimed(t, &plain))
        return;
    neomm_pmm_zone_stats(world.root, NEOMM_ZONE_NORMAL, &before);
    for (uint32_t i = 0; i < 4; i++)
        sim_physical_stick(world.sim, word_at(bad[i], i), 1, i & 1);
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_PATTERNS, &result), NEOMM_E_CORRUPT);
    expect_reserved(t, &before, 0);
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_PATTERNS | NEOMM_MEMTEST_RETIRE, &result),
              NEOMM_E_CORRUPT);
    EXPECT_EQ(t, result.frames, 4);
    expect_reserved(t, &before, 4);
    for (uint32_t i = 0; i < 4; i++) {
        world.state[bad[i]] = WORLD_OTHER;
        EXPECT_EQ(t, neomm_pmm_free(world.root, neomm_frame(bad[i]), 0), NEOMM_E_FOREIGN);
        EXPECT_EQ(t, neomm_pmm_retire(world.root, neomm_frame(bad[i])), NEOMM_E_FOREIGN);
        EXPECT_EQ(t, neomm_pmm_claim(world.root, neomm_frame(bad[i]), 1), NEOMM_E_BUSY);
    }
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ONES, &result), NEOMM_E_FOREIGN);
    EXPECT_OK(t,
              neomm_pmm_memtest(world.root, neomm_frame(FIRST + 1), 6, NEOMM_MEMTEST_ALL, &result));
    world_compare(t, &world);
    take_all(t);
    close_claimed(t);
}

static void bad_retires(struct ktap *t)
{
    neomm_frame_t block, single;
    if (!world_open(t, &world, &plain))
        return;
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 1, 0, &block));
    EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &single));
    EXPECT_EQ(t, neomm_pmm_retire(world.root, neomm_frame(0)), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_retire(world.root, neomm_frame(UINT32_MAX)), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_retire(world.root, neomm_frame(FIRST)), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, neomm_pmm_retire(world.root, block), NEOMM_E_INVALID);
    neomm__frame(world.root, single)->references = 2;
    EXPECT_EQ(t, neomm_pmm_retire(world.root, single), NEOMM_E_BUSY);
    neomm__frame(world.root, single)->references = 1;
    EXPECT_OK(t, neomm_pmm_free(world.root, block, 1));
    EXPECT_OK(t, neomm_pmm_free(world.root, single, 0));
    world_compare(t, &world);
    world_close(t, &world);
}

/* ---- what must not be tested ---- */

static void refused(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &plain))
        return;
    struct neomm *root = world.root;
    neomm_frame_t first = neomm_frame(FIRST), block;
    static const uint32_t tests[] = {0, NEOMM_MEMTEST_RETIRE, 0x10 | NEOMM_MEMTEST_ONES,
                                     UINT32_MAX};
    for (unsigned i = 0; i < 4; i++)
        EXPECT_EQ(t, test_range(tests[i], &result), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_memtest(root, first, 0, 1, &result), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_memtest(root, first, UINT32_MAX, 1, &result), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_memtest(root, first, UINT32_MAX - FIRST + 1, 1, &result),
              NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_memtest(root, first, FRAMES + 1, 1, &result), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_memtest(root, neomm_frame(FIRST - 1), 2, 1, &result), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_memtest(root, neomm_frame(0), 1, 1, &result), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_pmm_memtest(root, neomm_frame(UINT32_MAX), 1, 1, &result), NEOMM_E_FOREIGN);
    EXPECT_OK(t, neomm_pmm_alloc(root, 3, 0, &block));
    EXPECT_EQ(t, neomm_pmm_memtest(root, block, 8, 1, &result), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_pmm_free(root, block, 3));
    close_claimed(t);
}

/* Frames that somebody else may look at, and that the library itself uses. */
static void busy(struct ktap *t)
{
    struct neomm_memtest_result result;
    uint8_t page[NEOMM_PAGE_SIZE];
    if (!open_claimed(t, &plain))
        return;
    struct neomm__frame *last = neomm__frame(world.root, neomm_frame(FIRST + FRAMES - 1));
    EXPECT(t, sim_physical_write(world.sim, word_at(FIRST, 0), memset(page, 0x3c, sizeof(page)),
                                 sizeof(page)));
    last->references = 2;
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ALL, &result), NEOMM_E_BUSY);
    last->references = 1;
    last->mappings = 1;
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ALL, &result), NEOMM_E_BUSY);
    last->mappings = 0;
    last->kind = NEOMM__KIND_USER;
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ALL, &result), NEOMM_E_BUSY);
    last->kind = NEOMM__KIND_NONE;
    EXPECT(t, sim_physical_read(world.sim, word_at(FIRST, 0), page, sizeof(page)));
    for (size_t i = 0; i < sizeof(page); i++)
        EXPECT_EQ(t, page[i], 0x3c);
    EXPECT_OK(t, test_range(NEOMM_MEMTEST_ADDRESS, &result));
    close_claimed(t);
}

static void without_allocator(struct ktap *t)
{
    struct neomm_memtest_result result;
    struct world_options options = plain;
    options.without_pmm = true;
    if (!world_open(t, &world, &options))
        return;
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ALL, &result), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_pmm_retire(world.root, neomm_frame(FIRST)), NEOMM_E_INVALID);
    world_close(t, &world);
}

/* Through slots; without a free one nothing is known, and nothing happens to the frames. */
static void above_direct_map(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &high))
        return;
    EXPECT_OK(t, test_range(NEOMM_MEMTEST_ALL, &result));
    sim_physical_stick(world.sim, word_at(FIRST + 3, 3), 8, 0);
    uint32_t slots = world.slots_free;
    world.slots_free = 0;
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ALL | NEOMM_MEMTEST_RETIRE, &result), NEOMM_E_NOMEM);
    EXPECT(t, result.bits == 0 && result.frames == 0);
    world_compare(t, &world);
    world.slots_free = slots;
    expect_found(t, test_range(NEOMM_MEMTEST_ONES | NEOMM_MEMTEST_RETIRE, &result), &result,
                 word_at(FIRST + 3, 3), 8, 1);
    world.state[FIRST + 3] = WORLD_OTHER;
    world_compare(t, &world);
    close_claimed(t);
}

static void *(*map_slot)(struct neomm *root, neomm_frame_t frame);
static uint32_t maps_left;

static void *map_some(struct neomm *root, neomm_frame_t frame)
{
    return maps_left > 0 ? maps_left--, map_slot(root, frame) : NULL;
}

/* What is in the frame whenever it is read. */
static uint64_t seen[256][2];
static uint32_t maps_done;

static void *map_and_look(struct neomm *root, neomm_frame_t frame)
{
    uint64_t *words = map_slot(root, frame);
    if (maps_done % 2 == 1 && maps_done / 2 < 256)
        memcpy(seen[maps_done / 2], words, sizeof(seen[0]));
    maps_done++;
    return words;
}

static uint32_t passes_of(struct ktap *t, uint32_t tests)
{
    struct neomm_memtest_result result;
    maps_done = 0;
    EXPECT_OK(t, neomm_pmm_memtest(world.root, neomm_frame(FIRST), 1, tests, &result));
    return maps_done / 2;
}

/* Every pass that is promised, and no other. */
static void passes(struct ktap *t)
{
    static const uint64_t fixed[] = {0, UINT64_MAX, 0x5555555555555555u, 0xaaaaaaaaaaaaaaaau};
    if (!open_claimed(t, &high))
        return;
    map_slot = world.root->slots.map;
    world.root->slots.map = map_and_look;
    EXPECT_EQ(t, passes_of(t, NEOMM_MEMTEST_ONES), 64);
    EXPECT_EQ(t, passes_of(t, NEOMM_MEMTEST_ZEROS), 64);
    EXPECT_EQ(t, passes_of(t, NEOMM_MEMTEST_ADDRESS), 2);
    EXPECT_EQ(t, passes_of(t, NEOMM_MEMTEST_PATTERNS), 6);
    EXPECT_EQ(t, passes_of(t, NEOMM_MEMTEST_ALL), 136);
    uint64_t address = word_at(FIRST, 0);
    for (unsigned i = 0; i < 64; i++) {
        EXPECT(t, seen[i][0] == (uint64_t)1 << i && seen[i][1] == (uint64_t)1 << (i + 1) % 64);
        EXPECT(t, seen[64 + i][0] == ~seen[i][0] && seen[64 + i][1] == ~seen[i][1]);
    }
    for (unsigned word = 0; word < 2; word++) {
        EXPECT(t, seen[128][word] == address + word * 8 && seen[129][word] == ~seen[128][word]);
        for (unsigned i = 0; i < 4; i++)
            EXPECT(t, seen[130 + i][word] == fixed[i]);
        EXPECT(t, seen[134][word] == neomm__mix(address + word * 8));
        EXPECT(t, seen[135][word] == ~seen[134][word]);
    }
    close_claimed(t);
}

/* Another CPU tests the frames behind. */
static void side_by_side(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &plain))
        return;
    struct neomm__frame *other = neomm__frame(world.root, neomm_frame(FIRST + 4));
    other->kind = NEOMM__KIND_BAD;
    EXPECT_OK(t, neomm_pmm_memtest(world.root, neomm_frame(FIRST), 4,
                                   NEOMM_MEMTEST_ADDRESS | NEOMM_MEMTEST_RETIRE, &result));
    EXPECT_EQ(t, other->kind, NEOMM__KIND_BAD);
    EXPECT_EQ(t, result.frames, 0);
    other->kind = NEOMM__KIND_NONE;
    close_claimed(t);
}

/* The slots run out in the reading half: what was found by then is the caller's still. */
static void interrupted(struct ktap *t)
{
    struct neomm_memtest_result result;
    if (!open_claimed(t, &high))
        return;
    sim_physical_stick(world.sim, word_at(FIRST + 1, 0), 1, 0);
    map_slot = world.root->slots.map;
    world.root->slots.map = map_some;
    maps_left = 2 * FRAMES - 1;
    EXPECT_EQ(t, test_range(NEOMM_MEMTEST_ONES | NEOMM_MEMTEST_RETIRE, &result), NEOMM_E_NOMEM);
    EXPECT(t, result.address == 0 && result.bits == 0 && result.frames == 0);
    EXPECT_EQ(t, maps_left, 0);
    EXPECT_EQ(t, neomm__frame(world.root, neomm_frame(FIRST + 1))->kind, NEOMM__KIND_NONE);
    world_compare(t, &world);
    maps_left = UINT32_MAX;
    expect_found(t, test_range(NEOMM_MEMTEST_ONES, &result), &result, word_at(FIRST + 1, 0), 1, 1);
    close_claimed(t);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(good, test_kinds),
    KTAP_CASE_WITH(every_bit, stuck_values),
    KTAP_CASE(borders),
    KTAP_CASE(seen_twice),
    KTAP_CASE(lowest_told),
    KTAP_CASE(retired),
    KTAP_CASE(bad_retires),
    KTAP_CASE(refused),
    KTAP_CASE(busy),
    KTAP_CASE(without_allocator),
    KTAP_CASE(above_direct_map),
    KTAP_CASE(passes),
    KTAP_CASE(side_by_side),
    KTAP_CASE(interrupted),
};
KTAP_SUITE(memtest, cases);
