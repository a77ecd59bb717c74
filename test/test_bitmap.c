/* Bitmaps against one byte a bit.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include "base/bitmap.h"
#include "base/memory.h"

#define BITS  700
#define SMALL 12

struct model {
    neomm__word_t map[BITS / 32 + 1];
    uint8_t bit[BITS];
};

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static size_t below(uint64_t *seed, size_t limit)
{
    return (uint32_t)next(seed) % (uint32_t)limit;
}

static void compare(struct ktap *t, const struct model *model)
{
    for (size_t i = 0; i < BITS; i++)
        if (neomm__bitmap_test(model->map, i) != (model->bit[i] != 0))
            EXPECT_EQ(t, neomm__bitmap_test(model->map, i), model->bit[i]);
}

static size_t naive_count(const struct model *model, size_t first, size_t count)
{
    size_t sum = 0;
    for (size_t i = first; i < first + count; i++)
        sum += model->bit[i];
    return sum;
}

static size_t naive_next(const struct model *model, size_t from, size_t end, uint8_t value)
{
    for (size_t i = from; i < end; i++)
        if (model->bit[i] == value)
            return i;
    return NEOMM__BITMAP_NONE;
}

static size_t naive_last(const struct model *model, size_t from, size_t end)
{
    for (size_t i = end; i-- > from;)
        if (model->bit[i])
            return i;
    return NEOMM__BITMAP_NONE;
}

/* Every place is tried, every bit looked at. */
static size_t naive_find(const struct model *model, const struct neomm__bitmap_want *want)
{
    for (size_t at = want->from; at < want->end && want->end - at >= want->count; at++) {
        size_t number = at + want->offset, last = number + want->count - 1;
        if (want->align > 1 && number % want->align != 0)
            continue;
        if (want->boundary != 0 && number / want->boundary != last / want->boundary)
            continue;
        if (naive_count(model, at, want->count) == 0)
            return at;
    }
    return NEOMM__BITMAP_NONE;
}

static void runs(struct ktap *t)
{
    struct model model = {0};
    uint64_t seed = 1;
    for (unsigned step = 0; step < 3000; step++) {
        size_t first = below(&seed, BITS), count = below(&seed, BITS - first + 1);
        if (count > 90 && step % 8 != 0)
            count %= 90;
        uint8_t value = (uint8_t)(next(&seed) & 1);
        if (value)
            neomm__bitmap_set_run(model.map, first, count);
        else
            neomm__bitmap_clear_run(model.map, first, count);
        memset(model.bit + first, value, count);
        compare(t, &model);
        first = below(&seed, BITS);
        count = below(&seed, BITS - first + 1);
        size_t end = first + count;
        EXPECT_EQ(t, neomm__bitmap_count(model.map, first, count),
                  naive_count(&model, first, count));
        EXPECT_EQ(t, neomm__bitmap_next_set(model.map, first, end),
                  naive_next(&model, first, end, 1));
        EXPECT_EQ(t, neomm__bitmap_next_clear(model.map, first, end),
                  naive_next(&model, first, end, 0));
        EXPECT_EQ(t, neomm__bitmap_last_set(model.map, first, end), naive_last(&model, first, end));
    }
}

/* Maps from nearly empty to nearly full; every kind of constraint. */
static void find(struct ktap *t)
{
    uint64_t seed = 2;
    for (unsigned step = 0; step < 20000; step++) {
        struct model model = {0};
        size_t density = below(&seed, 60);
        for (size_t i = 0; i < density; i++) {
            size_t first = below(&seed, BITS);
            size_t count = below(&seed, BITS - first < 40 ? BITS - first : 40);
            neomm__bitmap_set_run(model.map, first, count);
            memset(model.bit + first, 1, count);
        }
        struct neomm__bitmap_want want = {
            .from = below(&seed, BITS / 2),
            .count = 1 + below(&seed, step % 4 == 0 ? 200 : 20),
            .align = (size_t)1 << below(&seed, 8),
            .boundary = below(&seed, 2) ? (size_t)1 << below(&seed, 9) : 0,
            .offset = below(&seed, 2) ? below(&seed, 1000) : 0,
        };
        want.end = want.from + below(&seed, BITS - want.from + 1);
        size_t have = neomm__bitmap_find_clear(model.map, &want);
        size_t expected = naive_find(&model, &want);
        if (have != expected)
            ktap_note(t, "from %zu end %zu count %zu align %zu boundary %zu offset %zu", want.from,
                      want.end, want.count, want.align, want.boundary, want.offset);
        EXPECT_EQ(t, have, expected);
    }
}

/* All maps of 12 bits and all requests for them. */
static void find_exhaustive(struct ktap *t)
{
    for (unsigned bits = 0; bits < 1u << SMALL; bits++) {
        struct model model = {{bits}, {0}};
        for (unsigned i = 0; i < SMALL; i++)
            model.bit[i] = bits >> i & 1;
        for (size_t count = 1; count <= SMALL; count++)
            for (size_t align = 1; align <= 8; align *= 2)
                for (size_t boundary = 2; boundary <= 16; boundary *= 2) {
                    struct neomm__bitmap_want want = {0, SMALL, count, align, boundary, bits % 5};
                    EXPECT_EQ(t, neomm__bitmap_find_clear(model.map, &want),
                              naive_find(&model, &want));
                }
    }
}

static void find_refuses(struct ktap *t)
{
    neomm__word_t map[2] = {0, 0};
    struct neomm__bitmap_want none = {0, 32, 0, 0, 0, 0};
    struct neomm__bitmap_want wide = {0, 32, 9, 0, 8, 0};
    struct neomm__bitmap_want empty = {7, 7, 1, 0, 0, 0};
    struct neomm__bitmap_want wraps = {0, 32, 1, 64, 0, SIZE_MAX - 10};
    EXPECT_EQ(t, neomm__bitmap_find_clear(map, &none), NEOMM__BITMAP_NONE);
    EXPECT_EQ(t, neomm__bitmap_find_clear(map, &wide), NEOMM__BITMAP_NONE);
    EXPECT_EQ(t, neomm__bitmap_find_clear(map, &empty), NEOMM__BITMAP_NONE);
    EXPECT_EQ(t, neomm__bitmap_find_clear(map, &wraps), 11);
}

static void sizes(struct ktap *t)
{
    EXPECT_EQ(t, neomm__bitmap_bytes(0), 0);
    EXPECT_EQ(t, neomm__bitmap_bytes(1), sizeof(neomm__word_t));
    EXPECT_EQ(t, neomm__bitmap_bytes(NEOMM__WORD_BITS), sizeof(neomm__word_t));
    EXPECT_EQ(t, neomm__bitmap_bytes(NEOMM__WORD_BITS + 1), 2 * sizeof(neomm__word_t));
    neomm__word_t map[2] = {0, 0};
    neomm__bitmap_set_run(map, 9, 1);
    EXPECT_EQ(t, ((const uint8_t *)map)[1], 2);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(sizes),           KTAP_CASE(runs),         KTAP_CASE(find),
    KTAP_CASE(find_exhaustive), KTAP_CASE(find_refuses),
};
KTAP_SUITE(bitmap, cases);
