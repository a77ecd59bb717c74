/* Frames by index and address, and maps of bits by frame, changed by many threads at once.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_PROCESS_BITS_H
#define NEOMM_PROCESS_BITS_H

#include "process.h"

#define BITS_IN_WORD (sizeof(size_t) * 8)

static inline size_t bits_size(size_t frames)
{
    return (frames + BITS_IN_WORD - 1) / BITS_IN_WORD * sizeof(size_t);
}

/* The index of the frame under a pointer, and its first byte. */
static inline size_t index_of(const void *pointer)
{
    return (size_t)((const uint8_t *)pointer - process.ram) >> NEOMM_PAGE_SHIFT;
}

static inline uint8_t *at(size_t index)
{
    return process.ram + (index << NEOMM_PAGE_SHIFT);
}

static inline neomm_frame_t frame_at(size_t index)
{
    return neomm_frame(PROCESS_FIRST + (uint32_t)index);
}

/* The bits of [*first, end) in the word of *first; moves *first behind them. */
static inline size_t next_mask(size_t *first, size_t end, size_t *word)
{
    size_t bit = *first % BITS_IN_WORD, room = BITS_IN_WORD - bit, count = end - *first;
    *word = *first / BITS_IN_WORD;
    count = count < room ? count : room;
    *first += count;
    return (count == BITS_IN_WORD ? ~(size_t)0 : ((size_t)1 << count) - 1) << bit;
}

/* Those that changed. */
static inline size_t set_bits(size_t *map, size_t first, size_t count)
{
    size_t end = first + count, changed = 0, word;
    while (first < end) {
        size_t mask = next_mask(&first, end, &word);
        size_t old = __atomic_fetch_or(&map[word], mask, __ATOMIC_RELAXED);
        changed += (size_t)__builtin_popcountl(mask & ~old);
    }
    return changed;
}

static inline size_t clear_bits(size_t *map, size_t first, size_t count)
{
    size_t end = first + count, changed = 0, word;
    while (first < end) {
        size_t mask = next_mask(&first, end, &word);
        if ((__atomic_load_n(&map[word], __ATOMIC_RELAXED) & mask) == 0)
            continue;
        size_t old = __atomic_fetch_and(&map[word], ~mask, __ATOMIC_RELAXED);
        changed += (size_t)__builtin_popcountl(mask & old);
    }
    return changed;
}

static inline bool has_bit(const size_t *map, size_t bit)
{
    return __atomic_load_n(&map[bit / BITS_IN_WORD], __ATOMIC_RELAXED) >> bit % BITS_IN_WORD & 1;
}

#endif
