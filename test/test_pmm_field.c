/* Fields alone: bits, counts and hints after every kind of call against a model of a byte a frame.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <string.h>

#define FIELDS 4u
#define BITS   ((uint32_t)NEOMM__FIELD_BITS)
#define ALL    (FIELDS * BITS)
#define NONE   NEOMM__BITMAP_NONE

/* The library's state and what it should be. */
struct pair {
    struct ktap *t;
    struct neomm__pmm pmm;
    neomm__word_t words[ALL / NEOMM__WORD_BITS];
    uint16_t field[FIELDS];
    bool taken[ALL];
    uint32_t count[FIELDS], blocked[FIELDS], returned;
    bool movable[FIELDS];
};
static struct pair pair;

static void set(struct pair *p, uint32_t bit, uint32_t count, bool taken)
{
    for (uint32_t i = bit; i < bit + count; i++)
        p->taken[i] = taken;
}

/* All bits that are not in the model are taken in both. */
static void begin(struct ktap *t)
{
    memset(&pair, 0, sizeof(pair));
    pair.t = t;
    pair.pmm.taken = pair.words;
    pair.pmm.field = pair.field;
    memset(pair.words, 0xff, sizeof(pair.words));
    set(&pair, 0, ALL, true);
}

static void compare(struct pair *p)
{
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < ALL; i++)
        wrong += (p->words[i / NEOMM__WORD_BITS] >> i % NEOMM__WORD_BITS & 1) != p->taken[i];
    EXPECT_EQ(p->t, wrong, 0);
    for (uint32_t i = 0; i < FIELDS; i++) {
        EXPECT_EQ(p->t, p->field[i] & NEOMM__FIELD_COUNT, p->count[i]);
        EXPECT_EQ(p->t, p->field[i] >> NEOMM__BLOCKED_SHIFT & 15, p->blocked[i]);
        EXPECT_EQ(p->t, (p->field[i] & NEOMM__FIELD_MOVABLE) != 0, p->movable[i]);
    }
    EXPECT_EQ(p->t, p->pmm.returned, p->returned);
}

/* ---- the calls, in both ---- */

static void lower(struct pair *p, uint32_t field, uint32_t n, bool movable)
{
    if (p->count[field] >= BITS / 2)
        p->movable[field] = movable;
    p->count[field] -= n;
}

static void release(struct pair *p, uint32_t bit, uint32_t count)
{
    neomm__field_release(&p->pmm, bit, count);
    set(p, bit, count, false);
    p->count[bit / BITS] += count;
    p->blocked[bit / BITS] = 0;
}

static void release_mask(struct pair *p, uint32_t bit, neomm__word_t mask)
{
    uint32_t first = bit / NEOMM__WORD_BITS * NEOMM__WORD_BITS;
    neomm__field_release_mask(&p->pmm, bit, mask);
    for (uint32_t i = 0; i < NEOMM__WORD_BITS; i++)
        if (mask >> i & 1) {
            p->taken[first + i] = false;
            p->count[bit / BITS]++;
        }
    p->blocked[bit / BITS] = 0;
}

/* Single frames: the lowest, as many as there are. */
static void take(struct pair *p, uint32_t field, uint32_t most, bool movable)
{
    uint32_t want = most < p->count[field] ? most : p->count[field], bits[BITS];
    EXPECT_EQ(p->t, neomm__field_take(&p->pmm, field, most, movable), want);
    if (want > 0)
        lower(p, field, want, movable);
    neomm__field_claim(&p->pmm, field, want, bits);
    for (uint32_t i = 0, bit = field * BITS; i < want; i++, bit++) {
        while (p->taken[bit])
            bit++;
        EXPECT_EQ(p->t, bits[i], bit);
        p->taken[bit] = true;
    }
}

static bool is_clear(const struct pair *p, uint32_t bit, uint32_t count)
{
    for (uint32_t i = bit; i < bit + count; i++)
        if (p->taken[i])
            return false;
    return true;
}

/* The lowest block of the model's that is free. */
static size_t find(const struct pair *p, uint32_t field, unsigned order)
{
    for (uint32_t bit = field * BITS; bit < (field + 1) * BITS; bit += 1u << order)
        if (is_clear(p, bit, 1u << order))
            return bit;
    return NONE;
}

/* A hint is believed where the caller is not sure; a search in vain leaves one. */
static void take_part(struct pair *p, uint32_t field, unsigned order, bool movable, bool sure)
{
    uint32_t known = p->blocked[field];
    bool looks = p->count[field] >= 1u << order && (sure || known == 0 || known > order);
    size_t want = looks ? find(p, field, order) : NONE;
    EXPECT_EQ(p->t, neomm__field_take_block(&p->pmm, field, order, movable, sure), want);
    if (looks && want == NONE && (known == 0 || known > order))
        p->blocked[field] = order;
    if (want == NONE)
        return;
    lower(p, field, 1u << order, movable);
    set(p, (uint32_t)want, 1u << order, true);
}

/* Of two fields the first is given back when the second is not all free. */
static void take_fields(struct pair *p, uint32_t field, unsigned order, bool movable, bool sure)
{
    bool first = p->count[field] == BITS;
    bool both = first && (order == 9 || p->count[field + 1] == BITS);
    EXPECT_EQ(p->t, neomm__field_take_block(&p->pmm, field, order, movable, sure),
              both ? (size_t)field * BITS : NONE);
    for (uint32_t i = field; both && i < field + (1u << (order - 9)); i++) {
        lower(p, i, BITS, movable);
        set(p, i * BITS, BITS, true);
    }
    if (first && !both) {
        p->movable[field] = movable;
        p->blocked[field] = 0;
        p->returned += !sure;
    }
}

static void take_exact(struct pair *p, uint32_t bit, uint32_t count)
{
    uint32_t field = bit / BITS;
    bool enough = p->count[field] >= count, there = enough && is_clear(p, bit, count);
    EXPECT_EQ(p->t, neomm__field_take_exact(&p->pmm, bit, count), there);
    if (enough && !there)
        p->blocked[field] = 0; /* lowered and raised again */
    if (!there)
        return;
    p->count[field] -= count;
    set(p, bit, count, true);
}

/* ---- the cases ---- */

/* A row of taken bits from `bit` on, as long as it is; no longer than `most`. */
static uint32_t row(const struct pair *p, uint32_t bit, uint32_t most)
{
    uint32_t end = (bit / BITS + 1) * BITS, n = 0;
    while (n < most && bit + n < end && p->taken[bit + n])
        n++;
    return n;
}

static void step(struct pair *p, uint64_t *seed)
{
    uint32_t field = world_below(seed, FIELDS - 1), bit = world_below(seed, ALL), n;
    bool movable = world_below(seed, 2), sure = world_below(seed, 4) == 0;
    unsigned order = 1 + world_below(seed, 8);
    switch (world_below(seed, 8)) {
    case 0:
        take(p, field, world_below(seed, 300), movable);
        break;
    case 1:
    case 2:
        take_part(p, field, order, movable, sure);
        break;
    case 3:
        take_fields(p, field, 9 + world_below(seed, 2), movable, sure);
        break;
    case 4:
        n = 1 + world_below(seed, BITS - bit % BITS);
        take_exact(p, bit,
                   world_below(seed, 2)             ? n
                   : n % 8 + 1 <= BITS - bit % BITS ? n % 8 + 1
                                                    : n);
        break;
    case 5:
        for (uint32_t i = 0; world_below(seed, 4) == 0 && i < FIELDS; i++)
            for (uint32_t j = i * BITS; j < (i + 1) * BITS; j++)
                if (p->taken[j])
                    release(p, j, row(p, j, BITS));
        break;
    case 6:
        n = row(p, bit, 1 + world_below(seed, 150));
        if (n > 0)
            release(p, bit, n);
        break;
    default: {
        neomm__word_t mask = (neomm__word_t)world_random(seed) & p->words[bit / NEOMM__WORD_BITS];
        if (mask != 0)
            release_mask(p, bit, mask);
    }
    }
}

static const uint64_t seeds[] = {1, 2, 3, 4};

static void calls_at_random(struct ktap *t)
{
    uint64_t seed = t->parameter;
    begin(t);
    for (uint32_t i = 0; i < 6000 && t->failures == 0; i++) {
        step(&pair, &seed);
        compare(&pair);
    }
}

/* As many of a field's frames as it has, less and more, from any number of free ones; who finds
 * half of it free says what it holds. */
static void counts(struct ktap *t)
{
    static const uint32_t wanted[] = {1, 2, 63, 64, 65, 255, 256, 257, 511, 512};
    for (uint32_t free = 0; free <= BITS && t->failures == 0; free++)
        for (uint32_t i = 0; i < NEOMM__COUNT_OF(wanted); i++) {
            begin(t);
            for (uint32_t bit = 0; bit < free; bit++) /* every third, round and round */
                release(&pair, bit * 3 % BITS, 1);
            take(&pair, 0, wanted[i], true);
            compare(&pair);
            take(&pair, 0, wanted[i], false);
            compare(&pair);
        }
}

/* The hint is the smallest order that was looked for in vain, and is believed from there up. */
static void hints(struct ktap *t)
{
    for (unsigned first = 1; first < 9; first++)
        for (unsigned then = 1; then < 9; then++)
            for (unsigned sure = 0; sure < 2; sure++) {
                begin(t);
                for (uint32_t bit = 0; bit < BITS; bit += 2)
                    release(&pair, bit, 1);
                take_part(&pair, 0, first, false, false);
                take_part(&pair, 0, then, false, sure != 0);
                compare(&pair);
                if (first == 8)
                    EXPECT_EQ(t, pair.blocked[0], then);
                release(&pair, 1, 1);
                take_part(&pair, 0, 1, false, false);
                compare(&pair);
            }
}

/* Who is not sure believes it without a look. */
static void believed(struct ktap *t)
{
    for (unsigned known = 1; known < 9; known++)
        for (unsigned order = 1; order < 9; order++) {
            begin(t);
            release(&pair, 0, BITS - 1);
            pair.field[0] |= (uint16_t)(known << NEOMM__BLOCKED_SHIFT);
            pair.blocked[0] = known;
            take_part(&pair, 0, order, false, false);
            compare(&pair);
            take_part(&pair, 0, order, false, true);
            compare(&pair);
        }
}

/* Exactly as many are free as make up the block, and one less; given bits, too. */
static void to_the_last(struct ktap *t)
{
    for (unsigned order = 1; order < 9; order++)
        for (unsigned missing = 0; missing < 2; missing++)
            for (uint32_t first = 0; first < BITS; first += 1u << order) {
                begin(t);
                release(&pair, BITS + first, (1u << order) - missing);
                take_part(&pair, 1, order, true, true);
                compare(&pair);
                begin(t);
                release(&pair, BITS + first, (1u << order) - missing);
                take_exact(&pair, BITS + first, 1u << order);
                compare(&pair);
            }
}

/* Any bits of a field, of nobody's but those between others' bits. */
static void given_bits(struct ktap *t)
{
    static const uint32_t places[] = {0,   1,   2,   31,  32,  33,  62,  63,  64,  65, 127,
                                      128, 129, 255, 256, 257, 447, 448, 510, 511, 512};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(places); i++)
        for (uint32_t j = i + 1; j < NEOMM__COUNT_OF(places); j++)
            for (uint32_t hole = 0; hole < 2; hole++) {
                uint32_t count = places[j] - places[i];
                begin(t);
                release(&pair, BITS, BITS);
                if (hole)
                    take_exact(&pair, BITS + places[i] + count / 2, 1);
                take_exact(&pair, BITS + places[i], count);
                compare(&pair);
                if (!hole)
                    release(&pair, BITS + places[i], count);
                compare(&pair);
            }
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(calls_at_random, seeds),
    KTAP_CASE(counts),
    KTAP_CASE(hints),
    KTAP_CASE(believed),
    KTAP_CASE(to_the_last),
    KTAP_CASE(given_bits),
};
KTAP_SUITE(pmm_field, cases);
