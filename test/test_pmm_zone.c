/* Searches for a field: where they begin, what they prefer, what they leave behind in counts,
 * marks and hints; every place where the last frames may be.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <string.h>

#define M(n)         ((uint64_t)(n) << 20)
#define FRAME(bytes) ((uint32_t)((bytes) >> NEOMM_PAGE_SHIFT))
#define FIELD(n)     ((n) << NEOMM__FIELD_ORDER) /* its first frame; sections are all there */
#define BITS         ((uint32_t)NEOMM__FIELD_BITS)
#define U            NEOMM_MEMORY_USABLE
#define AREA         ((uint32_t)NEOMM_ZONE_NORMAL)
#define NONE         NEOMM__BITMAP_NONE

/* NORMAL has three trees, of fields 8 to 63, 64 to 127 and 128 to 191; these have RAM, among them
 * the last and the first of trees that are neighbours. */
static const struct neomm_boot_range map[] = {
    {0, M(4), U}, {M(16), M(6), U}, {M(128), M(4), U}, {M(252), M(8), U}};
static const uint32_t fields[] = {8, 9, 10, 64, 65, 126, 127, 128, 129};
static const struct world_options machine = {
    .ram_bytes = M(264), .map = map, .map_count = NEOMM__COUNT_OF(map), .cpus = 4};
static struct world world;

/* A row of frames that stays free when the others are taken. */
struct gap {
    uint32_t first, count;
    bool movable; /* what its field holds */
};

static bool in_gap(const struct gap *gap, uint32_t gaps, uint32_t frame)
{
    for (uint32_t i = 0; i < gaps; i++)
        if (frame - gap[i].first < gap[i].count)
            return true;
    return false;
}

static void open(struct ktap *t, const struct world_options *options)
{
    if (!world_open(t, &world, options))
        ktap_fail(t, __FILE__, __LINE__, "no world");
}

/* Takes all of NORMAL but the gaps. */
static void fill(struct ktap *t, const struct gap *gap, uint32_t gaps)
{
    uint32_t first = world_zone_first(&world, NEOMM_ZONE_NORMAL);
    for (uint32_t i = first, n; i < world.frames; i += n) {
        for (n = 0;
             i + n < world.frames && world.state[i + n] == WORLD_FREE && !in_gap(gap, gaps, i + n);
             n++)
            continue;
        if (n > 0)
            EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(i), n));
        world_mark(&world, i, n, WORLD_USED);
        n += n == 0;
    }
    for (uint32_t i = 0; i < gaps; i++)
        if (gap[i].movable)
            world.root->pmm->field[gap[i].first / BITS] |= NEOMM__FIELD_MOVABLE;
}

static void unfill(struct ktap *t)
{
    for (uint32_t i = 0, n; i < world.frames; i += n) {
        for (n = 0; i + n < world.frames && world.state[i + n] == WORLD_USED; n++)
            continue;
        if (n > 0)
            EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(i), n));
        world_mark(&world, i, n, WORLD_FREE);
        n += n == 0;
    }
}

/* What a search came to. */
struct found {
    unsigned n;
    uint32_t bits[600], hint, returned;
};

static struct found frames(unsigned most, neomm_flags_t flags, uint32_t hint)
{
    struct neomm__pmm *pmm = world.root->pmm;
    struct found found = {.hint = hint, .returned = pmm->returned};
    found.n = neomm__area_take_frames(world.root->pmm, AREA, most, flags, &found.hint, found.bits);
    found.returned = pmm->returned - found.returned;
    return found;
}

static struct found blocks(unsigned most, unsigned order, neomm_flags_t flags, uint32_t hint,
                           bool sure)
{
    struct neomm__pmm *pmm = world.root->pmm;
    struct found found = {.hint = hint, .returned = pmm->returned};
    found.n = neomm__area_take_blocks(world.root, AREA, most, order, flags, &found.hint, sure,
                                      found.bits);
    found.returned = pmm->returned - found.returned;
    return found;
}

static void give(const struct found *found, unsigned order)
{
    for (unsigned i = 0; i < found->n; i++)
        neomm__area_release(world.root->pmm, found->bits[i], (size_t)1 << order);
}

static size_t all_free(void)
{
    return world.root->pmm->area[AREA].free;
}

/* ---- where ---- */

/* With everything free it is the field of the hint that serves, the last of a tree too. */
static void at_the_hint(struct ktap *t)
{
    open(t, &machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(fields); i++) {
        struct found found = frames(1, 0, fields[i]);
        EXPECT_EQ(t, found.bits[0], FIELD(fields[i]));
        EXPECT_EQ(t, found.hint, fields[i]);
        EXPECT_EQ(t, found.returned, 0);
        give(&found, 0);
        found = blocks(1, 3, 0, fields[i], false);
        EXPECT_EQ(t, found.bits[0], FIELD(fields[i]));
        EXPECT_EQ(t, found.hint, fields[i]);
        give(&found, 3);
    }
    world_close(t, &world);
}

/* From any hint, the only field that has something; all of it, and no more. */
static void look_for_all(struct ktap *t, uint32_t field, uint32_t hint, neomm_flags_t flags)
{
    uint32_t first = FIELD(field) + 496;
    struct found found = frames(16, flags, hint);
    EXPECT_EQ(t, found.n, 16);
    EXPECT_EQ(t, found.bits[0], first);
    EXPECT_EQ(t, found.bits[15], first + 15);
    EXPECT_EQ(t, found.hint, field);
    EXPECT_EQ(t, found.returned, 0);
    EXPECT_EQ(t, all_free(), 0);
    EXPECT_EQ(t, frames(1, flags, hint).n, 0);
    give(&found, 0);
    found = frames(17, flags, hint);
    EXPECT_EQ(t, found.n, 16);
    give(&found, 0);
    for (unsigned order = 1; order <= 4; order++)
        for (unsigned sure = 0; sure < 2; sure++) {
            found = blocks(16u >> order, order, flags, hint, sure != 0);
            EXPECT_EQ(t, found.n, 16 >> order);
            EXPECT_EQ(t, found.bits[0], first);
            EXPECT_EQ(t, found.hint, field);
            EXPECT_EQ(t, found.returned, 0);
            give(&found, order);
        }
    EXPECT_EQ(t, blocks(1, 5, flags, hint, true).n, 0);
    EXPECT_EQ(t, all_free(), 16);
}

static void anywhere(struct ktap *t)
{
    open(t, &machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(fields); i++)
        for (unsigned movable = 0; movable < 2; movable++) {
            const struct gap gap = {FIELD(fields[i]) + 496, 16, movable != 0};
            fill(t, &gap, 1);
            for (uint32_t j = 0; j < NEOMM__COUNT_OF(fields); j++) {
                look_for_all(t, fields[i], fields[j], 0);
                look_for_all(t, fields[i], fields[j], NEOMM_MOVABLE);
            }
            look_for_all(t, fields[i], 0, 0);
            world_fsck(t, &world);
            unfill(t);
        }
    world_close(t, &world);
}

/* Whole fields, and two of them: only where both are one block. */
static void whole_fields(struct ktap *t)
{
    open(t, &machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(fields); i++) {
        const struct gap gap[] = {
            {FIELD(fields[i]), BITS, false},
            {FIELD(fields[i] + 1), i + 1 < NEOMM__COUNT_OF(fields) ? BITS : 0, false}};
        bool pair = fields[i] % 2 == 0 && fields[i] != 10;
        fill(t, gap, 2);
        for (unsigned sure = 0; sure < 2; sure++) {
            struct found found = blocks(1, 10, 0, 8, sure != 0);
            EXPECT_EQ(t, found.n, pair);
            EXPECT(t, !pair || found.bits[0] == FIELD(fields[i]));
            give(&found, 10);
            found = blocks(1, 9, 0, fields[i] + 1, sure != 0);
            EXPECT_EQ(t, found.n, 1);
            give(&found, 9);
            found = blocks(1, 8, NEOMM_MOVABLE, 8, sure != 0);
            EXPECT_EQ(t, found.n, 1);
            give(&found, 8);
        }
        world_fsck(t, &world);
        unfill(t);
        const struct gap half = {FIELD(fields[i]) + 256, 256, false};
        fill(t, &half, 1);
        for (unsigned order = 7; order <= 8; order++) {
            struct found found = blocks(1, order, 0, 8, false);
            EXPECT_EQ(t, found.n, 1);
            give(&found, order);
        }
        unfill(t);
    }
    world_close(t, &world);
}

/* ---- which ---- */

/* Frames of its own sort, then a field that is all free, then the others' of trees near by. */
static void preferences(struct ktap *t)
{
    static const struct {
        struct gap gap[3];
        uint32_t hint, field;
        neomm_flags_t flags;
    } cases[] = {
        /* in one tree */
        {{{FIELD(8), 16, false}, {FIELD(9), 16, true}}, 8, 9, NEOMM_MOVABLE},
        {{{FIELD(8), 16, true}, {FIELD(9), 16, false}}, 8, 9, 0},
        {{{FIELD(8), 16, true}, {FIELD(9), BITS, false}}, 8, 9, 0},
        {{{FIELD(8), 16, false}, {FIELD(9), BITS, false}}, 9, 8, 0},
        {{{FIELD(8), BITS, false}, {FIELD(9), 16, true}}, 9, 9, NEOMM_MOVABLE},
        /* in two: the nearer one, but not for the others' fields */
        {{{FIELD(8), 16, true}, {FIELD(64), BITS, false}}, 8, 64, 0},
        {{{FIELD(8), 16, true}, {FIELD(64), 16, false}}, 8, 64, 0},
        {{{FIELD(8), BITS, false}, {FIELD(64), 16, false}}, 8, 8, 0},
        {{{FIELD(8), BITS, false}, {FIELD(64), 16, false}}, 64, 64, 0},
        {{{FIELD(127), 16, true}, {FIELD(128), 16, false}}, 127, 128, 0},
        {{{FIELD(127), 16, false}, {FIELD(128), 16, true}}, 128, 127, 0},
        {{{FIELD(8), 16, true}, {FIELD(64), 16, true}}, 64, 64, 0},
    };
    open(t, &machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(cases); i++) {
        fill(t, cases[i].gap, 3);
        struct found found = frames(1, cases[i].flags, cases[i].hint);
        EXPECT_EQ(t, found.bits[0] / BITS, cases[i].field);
        EXPECT_EQ(t, found.hint, cases[i].field);
        give(&found, 0);
        for (unsigned sure = 0; sure < 2; sure++) {
            found = blocks(1, 2, cases[i].flags, cases[i].hint, sure != 0);
            EXPECT_EQ(t, found.bits[0] / BITS, cases[i].field);
            EXPECT_EQ(t, found.hint, cases[i].field);
            give(&found, 2);
        }
        if (t->failures > 0)
            ktap_note(t, "case %u", i);
        unfill(t);
        for (uint32_t j = 0; j < 3; j++) /* movable stays with a field that is all free */
            world.root->pmm->field[cases[i].gap[j].first / BITS] &= (uint16_t)~NEOMM__FIELD_MOVABLE;
    }
    world_close(t, &world);
}

#define TREES 64u /* and the one of DMA: the last one's mark is alone in its word */

/* The frame where the only field of a tree begins: sections' last and first ones in turn, so that a
 * range of the map is of two trees. */
static uint32_t field_in(uint32_t tree)
{
    return FRAME(M(128) * tree + (tree % 2 ? 0 : M(126)));
}

/* Eight frames of each tree's field stay free; all hold the others' frames but that of `far`. */
static void make_far(struct ktap *t, uint32_t far, bool make)
{
    for (uint32_t i = 0; i < TREES; i++) {
        neomm_frame_t first = neomm_frame(field_in(i) + 8);
        uint16_t *field = &world.root->pmm->field[first.number / BITS];
        if (make)
            EXPECT_OK(t, neomm_pmm_claim(world.root, first, BITS - 8));
        else
            EXPECT_OK(t, neomm_pmm_free_range(world.root, first, BITS - 8));
        *field = (uint16_t)((*field & ~NEOMM__FIELD_MOVABLE) |
                            (make && i != far ? NEOMM__FIELD_MOVABLE : 0));
    }
}

static bool open_sparse(struct ktap *t, struct neomm_boot_range *sparse)
{
    const struct world_options options = {
        .ram_bytes = M(TREES * 128), .map = sparse, .map_count = TREES / 2};
    if (sizeof(size_t) == 4) {
        ktap_skip(t, "needs 8 GiB of direct map");
        return false;
    }
    for (uint32_t i = 0; i < TREES / 2; i++)
        sparse[i] = (struct neomm_boot_range){M(256) * i + M(126), M(4), U};
    open(t, &options);
    return true;
}

/* Sixteen trees are looked at for a field that suits before one of the others' serves a single
 * frame, and all of them before it serves a block. */
static void near_enough(struct ktap *t)
{
    static const uint32_t far_ones[] = {1, 14, 15, 16, 17, TREES - 1};
    static struct neomm_boot_range sparse[TREES / 2];
    if (!open_sparse(t, sparse))
        return;
    uint32_t hint = field_in(0) / BITS;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(far_ones); i++) {
        uint32_t far = far_ones[i];
        make_far(t, far, true);
        struct found found = frames(1, 0, hint);
        EXPECT_EQ(t, found.bits[0], field_in(far < 16 ? far : 0));
        give(&found, 0);
        found = blocks(1, 1, 0, hint, false);
        EXPECT_EQ(t, found.bits[0], field_in(far));
        give(&found, 1);
        make_far(t, far, false);
    }
    world_close(t, &world);
}

static uint64_t points(void)
{
    return NEOMM_INSTRUMENTED ? sim_points(world.sim) : 0;
}

/* Who finds something at once, or learns from the area's count that there is nothing, does not
 * look at other trees, however many there are. */
static void cheap(struct ktap *t)
{
    static struct neomm_boot_range sparse[TREES / 2];
    if (!open_sparse(t, sparse))
        return;
    uint64_t start = points();
    struct found found = frames(8, 0, field_in(3) / BITS);
    uint64_t single = points();
    EXPECT_EQ(t, found.n, 8);
    struct found block = blocks(1, 3, 0, field_in(3) / BITS, false);
    uint64_t whole = points();
    give(&found, 0);
    give(&block, 3);
    for (uint32_t i = 0; i < TREES; i++)
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(field_in(i)), BITS));
    uint64_t before = points();
    EXPECT_EQ(t, frames(8, 0, field_in(3) / BITS).n, 0);
    uint64_t nothing = points() - before;
    for (uint32_t i = 0; i < TREES; i++)
        EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(field_in(i)), BITS));
    EXPECT(t, single - start < 20);
    EXPECT(t, whole - single < 20);
    EXPECT(t, nothing <= 1); /* the count itself */
    world_close(t, &world);
}

/* ---- marks and hints ---- */

static bool is_marked(uint32_t tree)
{
    return world.root->pmm->area[AREA].filled[0] >> tree & 1;
}

/* A tree without frames is looked at once, one with frames again. */
static void marks(struct ktap *t)
{
    const struct gap gap[] = {{FIELD(64), 8, true}, {FIELD(128), 8, false}};
    open(t, &machine);
    fill(t, gap, 2);
    EXPECT(t, is_marked(1) && is_marked(2) && is_marked(3));
    struct found found = frames(1, 0, 8);
    EXPECT_EQ(t, found.bits[0], FIELD(128));
    EXPECT(t, !is_marked(1) && is_marked(2) && is_marked(3));
    give(&found, 0);
    found = frames(16, 0, 8);
    EXPECT(t, !is_marked(1) && !is_marked(2) && !is_marked(3));
    give(&found, 0);
    EXPECT(t, !is_marked(1) && is_marked(2) && is_marked(3));
    unfill(t);
    EXPECT(t, is_marked(1));
    world_close(t, &world);
}

/* A mark that comes late does not keep frames from who was promised them. */
static void late_mark(struct ktap *t)
{
    for (uint32_t i = 0; i < 3; i++) {
        const struct gap gap = {FIELD(fields[3 * i]), 8, false};
        open(t, &machine);
        fill(t, &gap, 1);
        struct neomm__area *area = &world.root->pmm->area[AREA];
        area->filled[0] = 0;
        EXPECT_EQ(t, blocks(1, 3, 0, 8, false).n, 0);
        struct found found = blocks(1, 3, 0, 8, true);
        EXPECT_EQ(t, found.n, 1);
        give(&found, 3);
        area->filled[0] = 0;
        found = frames(8, 0, 8);
        EXPECT_EQ(t, found.n, 8);
        give(&found, 0);
        world_fsck(t, &world);
        unfill(t);
        world_close(t, &world);
    }
}

/* Trees of other areas are passed over, also behind the last one of this. */
static void other_areas(struct ktap *t)
{
    struct world_options options = machine;
    const struct gap gap = {FIELD(9), 3, false};
    options.direct_bytes = M(128);
    options.slots = true;
    open(t, &options);
    world.border[NEOMM_ZONE_NORMAL] = world.frames; /* fill() takes HIGH too, but for its gaps */
    fill(t, &gap, 1);
    EXPECT_OK(t, neomm_pmm_free_range(world.root, neomm_frame(FIELD(129)), 64));
    world_mark(&world, FIELD(129), 64, WORLD_FREE);
    EXPECT_EQ(t, blocks(1, 2, 0, 8, true).n, 0);
    EXPECT_EQ(t, blocks(1, 2, 0, 8, false).n, 0);
    struct found found = frames(4, 0, 8);
    EXPECT_EQ(t, found.n, 3);
    give(&found, 0);
    world_fsck(t, &world);
    unfill(t);
    world.border[NEOMM_ZONE_NORMAL] = FRAME(M(128));
    world_close(t, &world);
}

/* Every second frame of a field is free. */
static void make_holes(struct ktap *t, uint32_t field)
{
    for (uint32_t i = FIELD(field); i < FIELD(field + 1); i += 2)
        EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(i), 0));
}

static void mend_holes(struct ktap *t, uint32_t field)
{
    for (uint32_t i = FIELD(field); i < FIELD(field + 1); i += 2)
        EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(i), 1));
}

/* Fields with frames enough and no block do not hide the one behind them, whichever it is, and
 * are not looked at again. */
static void past_holes(struct ktap *t)
{
    open(t, &machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(fields); i++)
        for (uint32_t hint = 0; hint < NEOMM__COUNT_OF(fields); hint++) {
            const struct gap gap = {FIELD(fields[i]) + 32, 8, false};
            fill(t, &gap, 1);
            for (uint32_t j = 0; j < NEOMM__COUNT_OF(fields); j++)
                if (j != i)
                    make_holes(t, fields[j]);
            neomm_pmm_drain(world.root);
            struct found found = blocks(1, 3, 0, fields[hint], true);
            EXPECT_EQ(t, found.n, 1);
            EXPECT_EQ(t, found.bits[0], gap.first);
            EXPECT_EQ(t, found.returned, 0);
            EXPECT_EQ(t, blocks(1, 3, 0, fields[hint], true).n, 0);
            give(&found, 3);
            found = blocks(1, 3, 0, fields[hint], false);
            EXPECT_EQ(t, found.n, 1);
            EXPECT_EQ(t, found.hint, fields[i]);
            give(&found, 3);
            found = blocks(1, 2, 0, fields[i], false); /* not known to be in vain */
            EXPECT_EQ(t, found.n, 1);
            give(&found, 2);
            EXPECT_EQ(t, blocks(1, 4, 0, fields[hint], false).n, 0);
            EXPECT_EQ(t, blocks(1, 4, 0, fields[hint], false).returned, 1);
            for (uint32_t j = 0; j < NEOMM__COUNT_OF(fields); j++)
                if (j != i)
                    mend_holes(t, fields[j]);
            unfill(t);
        }
    world_close(t, &world);
}

/* Hints are of one order: what is blocked there may be free one below, and is not above. */
static void hints(struct ktap *t)
{
    const struct gap gap = {FIELD(65) + 64, 16, false};
    open(t, &machine);
    for (unsigned blocked = 1; blocked <= 6; blocked++)
        for (unsigned order = 1; order <= 4; order++) {
            fill(t, &gap, 1);
            uint16_t *field = &world.root->pmm->field[65];
            *field = (uint16_t)(16u | blocked << NEOMM__BLOCKED_SHIFT);
            struct found found = blocks(1, order, 0, 8, false);
            EXPECT_EQ(t, found.n, order < blocked);
            EXPECT_EQ(t, found.returned, order >= blocked);
            EXPECT_EQ(t, found.hint, order < blocked ? 65 : 8); /* nothing was tried */
            give(&found, order);
            *field = (uint16_t)(16u | blocked << NEOMM__BLOCKED_SHIFT);
            found = blocks(1, order, 0, 8, true);
            EXPECT_EQ(t, found.n, 1);
            give(&found, order);
            unfill(t);
        }
    world_close(t, &world);
}

/* ---- counts ---- */

/* Odd frames beside blocks stay in the counts of area and tree. */
static void remainders(struct ktap *t)
{
    static const struct {
        struct gap gap[2];
        unsigned most, got;
    } cases[] = {
        {{{FIELD(8), 3, false}}, 2, 1}, {{{FIELD(8), 3, false}, {FIELD(64), 3, false}}, 2, 2},
        {{{FIELD(8), 5, false}}, 3, 2}, {{{FIELD(8), 7, false}, {FIELD(64), 2, false}}, 9, 4},
        {{{FIELD(8), 2, false}}, 1, 1}, {{{FIELD(8), 1, false}, {FIELD(9) + 1, 1, false}}, 1, 0},
    };
    open(t, &machine);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(cases); i++)
        for (unsigned sure = 0; sure < 2; sure++) {
            fill(t, cases[i].gap, 2);
            size_t before = all_free();
            struct found found = blocks(cases[i].most, 1, 0, 8, sure != 0);
            EXPECT_EQ(t, found.n, cases[i].got);
            EXPECT_EQ(t, all_free(), before - 2 * found.n);
            give(&found, 1);
            EXPECT_EQ(t, all_free(), before);
            world_fsck(t, &world);
            unfill(t);
        }
    for (uint32_t i = 0; i <= 15; i++) { /* frames of two trees, one less than a block's */
        const struct gap gap[] = {{FIELD(8), i, false}, {FIELD(64), 15 - i, false}};
        fill(t, gap, 2);
        EXPECT_EQ(t, blocks(1, 4, 0, 8, false).returned, 0);
        for (unsigned most = 14; most <= 16; most++) {
            struct found found = frames(most, 0, 8);
            EXPECT_EQ(t, found.n, most < 15 ? most : 15);
            give(&found, 0);
        }
        world_fsck(t, &world);
        unfill(t);
    }
    world_close(t, &world);
}

/* Given frames, one of them taken: all that was taken before it goes back. */
static void given_frames(struct ktap *t)
{
    static const struct {
        uint32_t first, count;
    } rows[] = {{FIELD(8), 1},      {FIELD(8), 2},        {FIELD(8), 513},     {FIELD(8), 1024},
                {FIELD(9) - 1, 2},  {FIELD(9) - 1, 3},    {FIELD(9) - 1, 513}, {FIELD(9) - 2, 3},
                {FIELD(65) - 1, 1}, {FIELD(127), 514},    {FIELD(127), 1025},  {FIELD(128) - 1, 2},
                {FIELD(126), 1500}, {FIELD(128) - 7, 600}};
    struct neomm__pmm *pmm;
    size_t next;
    open(t, &machine);
    pmm = world.root->pmm;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(rows); i++)
        for (unsigned sure = 0; sure < 2; sure++) {
            uint32_t first = rows[i].first, count = rows[i].count, before = pmm->returned;
            size_t free = all_free();
            EXPECT(t, neomm__area_take_exact(world.root, first, count, 0, sure, &next));
            EXPECT_EQ(t, pmm->returned, before);
            EXPECT_EQ(t, all_free(), free - count);
            neomm__area_release(pmm, first, count);
            EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(first + count - 1), 1));
            before = pmm->returned;
            EXPECT(t, !neomm__area_take_exact(world.root, first, count, 0, sure, &next));
            EXPECT_EQ(t, next, first + 1);
            EXPECT_EQ(t, pmm->returned - before, !sure);
            EXPECT_EQ(t, all_free(), free - 1);
            world_fsck(t, &world);
            EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(first + count - 1), 0));
            neomm_pmm_drain(world.root);
        }
    for (uint32_t count = 1; count < 9; count++) { /* one is missing */
        const struct gap gap = {FIELD(64), count - 1, false};
        fill(t, &gap, 1);
        EXPECT(t, !neomm__area_take_exact(world.root, FIELD(64), count, 0, true, &next));
        EXPECT_EQ(t, all_free(), count - 1);
        unfill(t);
    }
    /* Who looks hard, and took nothing, has returned nothing. */
    EXPECT_OK(t, neomm_pmm_claim(world.root, neomm_frame(FIELD(8)), 1));
    pmm->uncached++;
    uint32_t before = pmm->returned;
    EXPECT(t, !neomm__area_take_exact(world.root, FIELD(8), 4, 0, true, &next));
    EXPECT_EQ(t, pmm->returned, before);
    EXPECT_OK(t, neomm_pmm_free(world.root, neomm_frame(FIELD(8)), 0));
    EXPECT_EQ(t, pmm->returned, before + 1);
    pmm->uncached--;
    fill(t, NULL, 0);
    EXPECT(t, !neomm__area_take_exact(world.root, FIELD(64), 1, 0, true, &next));
    EXPECT_EQ(t, next, FIELD(128));
    unfill(t);
    world_close(t, &world);
}

/* ---- who looks for the last frames ---- */

static const uint64_t nodes[] = {1, 2, NEOMM_NODE_MAX};

/* The mark is there exactly while an area is below its minimum. */
static void tight_exactly(struct ktap *t)
{
    struct world_options options = machine;
    struct neomm_node_range range[] = {{M(128), M(128), 1}, {M(256), M(128), 1}};
    static struct {
        neomm_frame_t frame;
        unsigned order;
    } held[9000];
    uint64_t seed = t->parameter;
    uint32_t n = 0, changes = 0;
    bool tight = false;
    options.without_pmm = true;
    open(t, &options);
    range[0].node = range[1].node = (uint32_t)t->parameter - 1;
    world.pmm.node_range = range;
    world.pmm.node_ranges = 2;
    world.pmm.reserve_frames = 600;
    EXPECT_OK(t, neomm_pmm_init(world.root, &world.map, &world.pmm));
    struct neomm__pmm *pmm = world.root->pmm;
    uint32_t all = (uint32_t)neomm_pmm_free_frames(world.root), level = 0;
    for (uint32_t i = 0; i < 6000 && t->failures == 0; i++) {
        unsigned order = world_below(&seed, 3) == 0 ? world_below(&seed, 8) : 0;
        uint32_t more = neomm_pmm_free_frames(world.root) > level ? 90 : 10;
        if (i % 200 == 0)
            level = world_below(&seed, all);
        if (i % 200 == 100) /* to and fro about the minimum */
            level = (uint32_t)(neomm_pmm_free_frames(world.root) - all_free()) +
                    (uint32_t)pmm->area[AREA].minimum;
        if (n < NEOMM__COUNT_OF(held) && world_below(&seed, 100) < more) {
            neomm_flags_t flags = NEOMM_RESERVE | (i / 64 % 4 == 0 ? NEOMM_DMA : 0);
            if (neomm_pmm_alloc(world.root, order, flags, &held[n].frame) == NEOMM_OK)
                held[n++].order = order;
        } else if (n > 0) {
            uint32_t at = world_below(&seed, n--);
            EXPECT_OK(t, neomm_pmm_free(world.root, held[at].frame, held[at].order));
            held[at] = held[n];
        }
        bool below = false;
        for (uint32_t area = 0; area < pmm->nodes * NEOMM_ZONES; area++)
            below |= pmm->area[area].free < pmm->area[area].minimum;
        EXPECT_EQ(t, (pmm->uncached & NEOMM__TIGHT) != 0, below);
        changes += below != tight;
        tight = below;
    }
    EXPECT(t, changes > 10);
    while (n-- > 0)
        EXPECT_OK(t, neomm_pmm_free(world.root, held[n].frame, held[n].order));
    world_close(t, &world);
}

/* Another CPU that borrows is waited for, for so long; this one, and what caches hold, is not. A
 * look is worth another when something was returned, sixteen times. */
static void waits(struct ktap *t)
{
    open(t, &machine);
    struct neomm__pmm *pmm = world.root->pmm;
    neomm_frame_t frame;
    for (uint32_t cpu = 0; cpu < 4; cpu++) { /* something behind the CPUs' words, too */
        sim_bind(world.sim, cpu);
        EXPECT_OK(t, neomm_pmm_alloc(world.root, 0, 0, &frame));
        EXPECT_OK(t, neomm_pmm_free(world.root, frame, 0));
    }
    for (uint32_t own = 0; own < 4; own += 3)
        for (uint32_t other = own; other < 5; other++) {
            sim_bind(world.sim, own);
            if (other < 4)
                pmm->cpu[other].borrowing = 1;
            uint64_t before = NEOMM_INSTRUMENTED ? sim_points(world.sim) : 0;
            EXPECT(t, !neomm__area_look_again(world.root, pmm->returned, 1));
            uint64_t points = NEOMM_INSTRUMENTED ? sim_points(world.sim) - before : 0;
            if (NEOMM_INSTRUMENTED)
                EXPECT(t, other < 4 && other != own ? points > 1000000 : points < 100);
            if (other < 4)
                pmm->cpu[other].borrowing = 0;
        }
    sim_bind(world.sim, 0);
    EXPECT(t, neomm__area_look_again(world.root, pmm->returned - 1, 15));
    EXPECT(t, !neomm__area_look_again(world.root, pmm->returned - 1, 16));
    EXPECT(t, !neomm__area_look_again(world.root, pmm->returned, 15));
    world_close(t, &world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(at_the_hint),  KTAP_CASE(anywhere),
    KTAP_CASE(whole_fields), KTAP_CASE(preferences),
    KTAP_CASE(near_enough),  KTAP_CASE(cheap),
    KTAP_CASE(marks),        KTAP_CASE(late_mark),
    KTAP_CASE(other_areas),  KTAP_CASE(past_holes),
    KTAP_CASE(hints),        KTAP_CASE(remainders),
    KTAP_CASE(given_frames), KTAP_CASE_WITH(tight_exactly, nodes),
    KTAP_CASE(waits),
};
KTAP_SUITE(pmm_zone, cases);
