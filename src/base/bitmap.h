/* Bitmaps in native words: runs of bits set, cleared, counted and found. Frames and swap slots
 * are allocated with it; a set bit means taken.
 * SPDX-License-Identifier: MIT
 *
 * Nothing here is atomic: the caller's lock protects the map, or what a search finds is a guess
 * that the caller makes sure of. Every run must lie inside the map. A search reads words, not bits,
 * and each word about once.
 */
#ifndef NEOMM_BASE_BITMAP_H
#define NEOMM_BASE_BITMAP_H

#include "bits.h"

#define NEOMM__BITMAP_NONE SIZE_MAX

/* Bytes of a map of `bits` bits: whole words. */
static inline size_t neomm__bitmap_bytes(size_t bits)
{
    return (bits / NEOMM__WORD_BITS + (bits % NEOMM__WORD_BITS != 0)) * sizeof(neomm__word_t);
}

static inline bool neomm__bitmap_test(const neomm__word_t *map, size_t bit)
{
    return (map[bit / NEOMM__WORD_BITS] >> (bit % NEOMM__WORD_BITS) & 1) != 0;
}

void neomm__bitmap_set_run(neomm__word_t *map, size_t first, size_t count);
void neomm__bitmap_clear_run(neomm__word_t *map, size_t first, size_t count);

/* Set bits among [first, first + count). */
size_t neomm__bitmap_count(const neomm__word_t *map, size_t first, size_t count);

/* The lowest set, the lowest clear and the highest set bit of [from, end), or
 * NEOMM__BITMAP_NONE. */
size_t neomm__bitmap_next_set(const neomm__word_t *map, size_t from, size_t end);
size_t neomm__bitmap_next_clear(const neomm__word_t *map, size_t from, size_t end);
size_t neomm__bitmap_last_set(const neomm__word_t *map, size_t from, size_t end);

/* What a run of clear bits must satisfy. Bit n counts as number n + offset where alignment and
 * boundary are concerned (modulo the width of a word). */
struct neomm__bitmap_want {
    size_t from, end; /* the run lies in [from, end) */
    size_t count;     /* bits, 1 or more */
    size_t align;     /* of the first bit's number: a power of two; 0 and 1: any */
    size_t boundary;  /* a power of two whose multiples the run does not cross; 0: any */
    size_t offset;
};

/* The first bit of the lowest run that satisfies *want, or NEOMM__BITMAP_NONE. Cost: a pass
 * over [from, end), less for long runs. */
size_t neomm__bitmap_find_clear(const neomm__word_t *map, const struct neomm__bitmap_want *want);

#endif
