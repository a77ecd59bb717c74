/* Bitmaps in native words.
 * SPDX-License-Identifier: MIT */
#include "bitmap.h"

#include "atomic.h"

#define ALL_ONES (~(neomm__word_t)0)

/* The bits of word `word` that belong to [first, end), which overlaps it. */
static neomm__word_t mask_of(size_t word, size_t first, size_t end)
{
    size_t begin = word * NEOMM__WORD_BITS;
    neomm__word_t mask = ALL_ONES;
    if (first > begin)
        mask &= ALL_ONES << (first - begin);
    if (end - begin < NEOMM__WORD_BITS)
        mask &= ~(ALL_ONES << (end - begin));
    return mask;
}

void neomm__bitmap_set_run(neomm__word_t *map, size_t first, size_t count)
{
    size_t end = first + count;
    for (size_t word = first / NEOMM__WORD_BITS; word * NEOMM__WORD_BITS < end; word++)
        map[word] |= mask_of(word, first, end);
}

void neomm__bitmap_clear_run(neomm__word_t *map, size_t first, size_t count)
{
    size_t end = first + count;
    for (size_t word = first / NEOMM__WORD_BITS; word * NEOMM__WORD_BITS < end; word++)
        map[word] &= ~mask_of(word, first, end);
}

size_t neomm__bitmap_count(const neomm__word_t *map, size_t first, size_t count)
{
    size_t end = first + count, total = 0;
    for (size_t word = first / NEOMM__WORD_BITS; word * NEOMM__WORD_BITS < end; word++)
        total += neomm__popcount(neomm__load_relaxed(&map[word]) & mask_of(word, first, end));
    return total;
}

/* The lowest bit of [from, end) that is set once the map is inverted by `flip`. */
static size_t next_bit(const neomm__word_t *map, size_t from, size_t end, neomm__word_t flip)
{
    if (from >= end)
        return NEOMM__BITMAP_NONE;
    for (size_t word = from / NEOMM__WORD_BITS; word * NEOMM__WORD_BITS < end; word++) {
        neomm__word_t bits = (neomm__load_relaxed(&map[word]) ^ flip) & mask_of(word, from, end);
        if (bits != 0)
            return word * NEOMM__WORD_BITS + neomm__lowest_bit(bits);
    }
    return NEOMM__BITMAP_NONE;
}

size_t neomm__bitmap_next_set(const neomm__word_t *map, size_t from, size_t end)
{
    return next_bit(map, from, end, 0);
}

size_t neomm__bitmap_next_clear(const neomm__word_t *map, size_t from, size_t end)
{
    return next_bit(map, from, end, ALL_ONES);
}

size_t neomm__bitmap_last_set(const neomm__word_t *map, size_t from, size_t end)
{
    if (from >= end)
        return NEOMM__BITMAP_NONE;
    size_t first = from / NEOMM__WORD_BITS;
    for (size_t word = (end - 1) / NEOMM__WORD_BITS + 1; word-- > first;) {
        neomm__word_t bits = neomm__load_relaxed(&map[word]) & mask_of(word, from, end);
        if (bits != 0)
            return word * NEOMM__WORD_BITS + neomm__highest_bit(bits);
    }
    return NEOMM__BITMAP_NONE;
}

/* The first place at or behind `at` that alignment and boundary allow; below `at` when there is
 * none in a word's width. */
static size_t next_place(const struct neomm__bitmap_want *want, size_t at)
{
    size_t number = at + want->offset;
    if (want->align > 1)
        number = NEOMM__ALIGN_UP(number, want->align);
    if (want->boundary != 0 &&
        (number & (want->boundary - 1)) + (want->count - 1) > want->boundary - 1)
        number = NEOMM__ALIGN_UP(number, want->boundary);
    return number - want->offset;
}

/* A window slides upwards over the places. The highest set bit in it is in the way of every
 * place up to itself, so the window goes on behind that bit; what was seen clear above it is
 * read once more only when the window fits. */
size_t neomm__bitmap_find_clear(const neomm__word_t *map, const struct neomm__bitmap_want *want)
{
    size_t at = want->from;
    if (want->count == 0 || (want->boundary != 0 && want->count > want->boundary))
        return NEOMM__BITMAP_NONE;
    for (;;) {
        at = neomm__bitmap_next_clear(map, at, want->end);
        if (at == NEOMM__BITMAP_NONE)
            return NEOMM__BITMAP_NONE;
        size_t place = next_place(want, at);
        if (place < at || place >= want->end || want->end - place < want->count)
            return NEOMM__BITMAP_NONE;
        size_t obstacle = neomm__bitmap_last_set(map, place, place + want->count);
        if (obstacle == NEOMM__BITMAP_NONE)
            return place;
        at = obstacle + 1;
    }
}
