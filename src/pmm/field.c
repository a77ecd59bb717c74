/* Fields: 512 frames, their bits and the count of the free ones.
 * SPDX-License-Identifier: MIT
 *
 * The count never exceeds the clear bits: it is lowered before bits are set and raised after
 * bits are cleared. So whoever has lowered it by n will find n clear bits, whatever others do,
 * and nobody else sets bits of a field whose whole count one CPU has taken.
 */
#include "pmm/pmm_priv.h"

#define ALL_ONES (~(neomm__word_t)0)

static unsigned count_of(uint16_t value)
{
    return value & NEOMM__FIELD_COUNT;
}

static neomm__word_t *words_of(const struct neomm__pmm *pmm, size_t field)
{
    return &pmm->taken[field * NEOMM__FIELD_WORDS];
}

/* Lowers the count by n, of a value that was seen. Who takes the first frames of a field decides
 * what it holds; so does who takes half of one that holds the others. */
static bool lower(uint16_t *field, uint16_t *seen, unsigned n, bool movable)
{
    uint16_t after = (uint16_t)(*seen - n);
    if (count_of(*seen) >= NEOMM__FIELD_BITS / 2)
        after = (uint16_t)(movable ? after | NEOMM__FIELD_MOVABLE : after & ~NEOMM__FIELD_MOVABLE);
    return neomm__cas(field, seen, after);
}

/* A block may be free again that was not: the hint goes. */
static void raise(uint16_t *field, unsigned n)
{
    uint16_t seen = neomm__load_relaxed(field);
    while (!neomm__cas(field, &seen, (uint16_t)((seen & ~NEOMM__FIELD_BLOCKED) + n)))
        continue;
}

/* What was taken out of the count in vain goes back, and who is about to give up looks again. */
static void take_back(struct neomm__pmm *pmm, size_t field, unsigned n, bool sure)
{
    raise(&pmm->field[field], n);
    if (!sure)
        (void)neomm__fetch_add(&pmm->returned, 1);
}

unsigned neomm__field_take(struct neomm__pmm *pmm, size_t field, unsigned most, bool movable)
{
    uint16_t *counter = &pmm->field[field], seen = neomm__load_relaxed(counter);
    unsigned n;
    do {
        n = count_of(seen) < most ? count_of(seen) : most;
        if (n == 0)
            return 0;
    } while (!lower(counter, &seen, n, movable));
    return n;
}

/* The lowest `most` of the set bits. */
static neomm__word_t lowest_of(neomm__word_t bits, unsigned most)
{
    neomm__word_t rest = bits;
    if (most >= NEOMM__WORD_BITS)
        return bits;
    for (; most > 0 && rest != 0; most--)
        rest &= rest - 1;
    return bits & ~rest;
}

void neomm__field_claim(struct neomm__pmm *pmm, size_t field, unsigned count, uint32_t *bits)
{
    neomm__word_t *words = words_of(pmm, field);
    for (unsigned i = 0; count > 0; i = (i + 1) % NEOMM__FIELD_WORDS) {
        neomm__word_t seen = neomm__load_relaxed(&words[i]), picked;
        do
            picked = lowest_of(~seen, count);
        while (picked != 0 && !neomm__cas(&words[i], &seen, seen | picked));
        uint32_t base = (uint32_t)(field * NEOMM__FIELD_BITS + i * NEOMM__WORD_BITS);
        for (; picked != 0; picked &= picked - 1, count--)
            *bits++ = base + neomm__lowest_bit(picked);
    }
}

/* ---- blocks ---- */

/* The places in a word where 2^order aligned clear bits begin. */
static neomm__word_t places_in(neomm__word_t taken, unsigned order)
{
    neomm__word_t free = ~taken;
    for (unsigned i = 0; i < order; i++)
        free &= free >> ((size_t)1 << i);
    unsigned step = 1u << order;
    return step < NEOMM__WORD_BITS ? free & (ALL_ONES / (((neomm__word_t)1 << step) - 1))
                                   : free & 1;
}

/* Sets `mask` in a word where it is clear. */
static bool set_mask(neomm__word_t *word, neomm__word_t mask)
{
    neomm__word_t seen = neomm__load_relaxed(word);
    while ((seen & mask) == 0)
        if (neomm__cas(word, &seen, seen | mask))
            return true;
    return false;
}

static void clear_mask(neomm__word_t *word, neomm__word_t mask)
{
    neomm__word_t before = neomm__fetch_and(word, ~mask);
    NEOMM__ASSERT((before & mask) == mask);
}

/* The part of word i, where there is one, that [first, first + count) covers; bits count from the
 * field's first. */
static neomm__word_t mask_in(size_t i, size_t first, size_t count)
{
    size_t begin = i * NEOMM__WORD_BITS, end = begin + NEOMM__WORD_BITS;
    size_t from = first > begin ? first : begin;
    size_t to = first + count < end ? first + count : end;
    neomm__word_t ones =
        to - from == NEOMM__WORD_BITS ? ALL_ONES : ((neomm__word_t)1 << (to - from)) - 1;
    return ones << (from - begin);
}

/* Sets [first, first + count), all or nothing: what was set when one is in the way is cleared. */
static bool set_run(neomm__word_t *words, size_t first, size_t count)
{
    size_t begin = first / NEOMM__WORD_BITS;
    size_t end = (first + count - 1) / NEOMM__WORD_BITS + 1, i = begin;
    while (i < end && set_mask(&words[i], mask_in(i, first, count)))
        i++;
    if (i == end)
        return true;
    while (i-- > begin)
        clear_mask(&words[i], mask_in(i, first, count));
    return false;
}

static void clear_run(neomm__word_t *words, size_t first, size_t count)
{
    size_t end = (first + count - 1) / NEOMM__WORD_BITS + 1;
    for (size_t i = first / NEOMM__WORD_BITS; i < end; i++)
        clear_mask(&words[i], mask_in(i, first, count));
}

/* The first place of a block that looks free, from word *from on; FIELD_BITS: none. */
static size_t find_place(const neomm__word_t *words, unsigned order)
{
    size_t size = (size_t)1 << order;
    size_t step = size > NEOMM__WORD_BITS ? size / NEOMM__WORD_BITS : 1;
    unsigned inside = step > 1 ? neomm__log2_up(NEOMM__WORD_BITS) : order;
    for (size_t i = 0; i < NEOMM__FIELD_WORDS; i += step) {
        neomm__word_t places = places_in(neomm__load_relaxed(&words[i]), inside);
        for (size_t j = 1; j < step && places != 0; j++)
            places = neomm__load_relaxed(&words[i + j]) == 0 ? places : 0;
        if (places != 0)
            return i * NEOMM__WORD_BITS + neomm__lowest_bit(places);
    }
    return NEOMM__FIELD_BITS;
}

/* Notes in the count that no block of this order is free, if nothing has changed meanwhile. */
static void note_blocked(uint16_t *counter, uint16_t seen, unsigned order)
{
    unsigned known = (seen & NEOMM__FIELD_BLOCKED) >> NEOMM__BLOCKED_SHIFT;
    if (known != 0 && known <= order)
        return;
    uint16_t after = (uint16_t)((seen & ~NEOMM__FIELD_BLOCKED) | order << NEOMM__BLOCKED_SHIFT);
    (void)neomm__cas(counter, &seen, after);
}

static size_t take_part(struct neomm__pmm *pmm, size_t field, unsigned order, bool movable,
                        bool sure)
{
    uint16_t *counter = &pmm->field[field];
    neomm__word_t *words = words_of(pmm, field);
    size_t size = (size_t)1 << order;
    for (;;) {
        uint16_t seen = neomm__load_acquire(counter);
        unsigned blocked = (seen & NEOMM__FIELD_BLOCKED) >> NEOMM__BLOCKED_SHIFT;
        if (count_of(seen) < size || (!sure && blocked != 0 && blocked <= order))
            return NEOMM__BITMAP_NONE;
        size_t place = find_place(words, order);
        if (place == NEOMM__FIELD_BITS) {
            note_blocked(counter, seen, order);
            return NEOMM__BITMAP_NONE;
        }
        if (!lower(counter, &seen, (unsigned)size, movable))
            continue;
        if (set_run(words, place, size))
            return field * NEOMM__FIELD_BITS + place;
        take_back(pmm, field, (unsigned)size, sure);
    }
}

/* Nobody else sets or clears a bit of a field that is all free and whose count is taken. */
static void fill(struct neomm__pmm *pmm, size_t field, size_t fields, neomm__word_t value)
{
    neomm__word_t *words = words_of(pmm, field);
    for (size_t i = 0; i < fields * NEOMM__FIELD_WORDS; i++)
        neomm__store_relaxed(&words[i], value);
}

static bool take_whole(uint16_t *counter, bool movable)
{
    uint16_t seen = neomm__load_relaxed(counter);
    while (count_of(seen) == NEOMM__FIELD_BITS)
        if (lower(counter, &seen, NEOMM__FIELD_BITS, movable))
            return true;
    return false;
}

/* The second field may be gone when the first is ours, which is then given back. */
static size_t take_fields(struct neomm__pmm *pmm, size_t field, unsigned order, bool movable,
                          bool sure)
{
    size_t fields = (size_t)1 << (order - NEOMM__FIELD_ORDER), done = 0;
    while (done < fields && take_whole(&pmm->field[field + done], movable))
        done++;
    if (done < fields) {
        while (done > 0)
            take_back(pmm, field + --done, NEOMM__FIELD_BITS, sure);
        return NEOMM__BITMAP_NONE;
    }
    fill(pmm, field, fields, ALL_ONES);
    return field * NEOMM__FIELD_BITS;
}

size_t neomm__field_take_block(struct neomm__pmm *pmm, size_t field, unsigned order, bool movable,
                               bool sure)
{
    return order < NEOMM__FIELD_ORDER ? take_part(pmm, field, order, movable, sure)
                                      : take_fields(pmm, field, order, movable, sure);
}

bool neomm__field_take_exact(struct neomm__pmm *pmm, size_t bit, size_t count)
{
    size_t field = bit / NEOMM__FIELD_BITS;
    uint16_t *counter = &pmm->field[field], seen = neomm__load_relaxed(counter);
    do
        if (count_of(seen) < count)
            return false;
    while (!lower(counter, &seen, (unsigned)count, (seen & NEOMM__FIELD_MOVABLE) != 0));
    if (set_run(words_of(pmm, field), bit % NEOMM__FIELD_BITS, count))
        return true;
    raise(counter, (unsigned)count);
    return false;
}

void neomm__field_release(struct neomm__pmm *pmm, size_t bit, size_t count)
{
    size_t field = bit / NEOMM__FIELD_BITS;
    if (count == NEOMM__FIELD_BITS)
        fill(pmm, field, 1, 0);
    else
        clear_run(words_of(pmm, field), bit % NEOMM__FIELD_BITS, count);
    raise(&pmm->field[field], (unsigned)count);
}

void neomm__field_release_mask(struct neomm__pmm *pmm, size_t bit, neomm__word_t mask)
{
    clear_mask(&pmm->taken[bit / NEOMM__WORD_BITS], mask);
    raise(&pmm->field[bit / NEOMM__FIELD_BITS], neomm__popcount(mask));
}
