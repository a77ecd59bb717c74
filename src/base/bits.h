/* Arithmetic without a run-time library: alignment, bit counts, 64-bit division by small numbers.
 * SPDX-License-Identifier: MIT
 *
 * On i386 a 64-bit `/` or `%` and some bit-count builtins become calls into libgcc, which a
 * kernel does not link; whatever is needed of them is here.
 */
#ifndef NEOMM_BASE_BITS_H
#define NEOMM_BASE_BITS_H

#include <neomm/types.h>

/* `align` is a power of two everywhere. */
#define NEOMM__ALIGN_DOWN(x, align) ((x) & ~((__typeof__(x))(align)-1))
#define NEOMM__ALIGN_UP(x, align)   NEOMM__ALIGN_DOWN((x) + ((__typeof__(x))(align)-1), align)
#define NEOMM__ALIGNED(x, align)    (((x) & ((__typeof__(x))(align)-1)) == 0)
#define NEOMM__COUNT_OF(array)      (sizeof(array) / sizeof((array)[0]))

/* The machine word of bitmaps: on either architecture bit n of the map is bit n % 8 of byte
 * n / 8, so that a dump reads the same. */
typedef uintptr_t neomm__word_t;
#define NEOMM__WORD_BITS ((unsigned)(sizeof(neomm__word_t) * 8))

/* Index of the lowest set bit; x is not 0. */
static inline unsigned neomm__lowest_bit(neomm__word_t x)
{
    return sizeof(x) == 8 ? (unsigned)__builtin_ctzll(x) : (unsigned)__builtin_ctz((unsigned)x);
}

/* Index of the highest set bit; x is not 0. */
static inline unsigned neomm__highest_bit(neomm__word_t x)
{
    return sizeof(x) == 8 ? 63u - (unsigned)__builtin_clzll(x)
                          : 31u - (unsigned)__builtin_clz((unsigned)x);
}

/* Smallest n with 2^n >= x; 0 for 0 and 1. */
static inline unsigned neomm__log2_up(size_t x)
{
    return x <= 1 ? 0 : neomm__highest_bit(x - 1) + 1;
}

static inline unsigned neomm__popcount32(uint32_t x)
{
    x -= (x >> 1) & 0x55555555u;
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    return (x * 0x01010101u) >> 24;
}

static inline unsigned neomm__popcount(neomm__word_t x)
{
    return neomm__popcount32((uint32_t)x) +
           (sizeof(x) == 8 ? neomm__popcount32((uint32_t)((uint64_t)x >> 32)) : 0);
}

/* n / d, d from 1 to 65535, the rest in *rest: long division in digits of 16 bits. */
static inline uint64_t neomm__divide(uint64_t n, uint32_t d, uint32_t *rest)
{
    uint64_t quotient = 0;
    uint32_t carry = 0;
    for (int shift = 48; shift >= 0; shift -= 16) {
        uint32_t digit = carry << 16 | (uint32_t)(n >> shift & 0xffff);
        quotient |= (uint64_t)(digit / d) << shift;
        carry = digit % d;
    }
    if (rest)
        *rest = carry;
    return quotient;
}

/* A 64-bit mix (the finaliser of splitmix64): equal inputs, equal outputs, all bits spread. */
static inline uint64_t neomm__mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Frames that `bytes` bytes take. */
static inline size_t neomm__pages(size_t bytes)
{
    return (bytes >> NEOMM_PAGE_SHIFT) + ((bytes & (NEOMM_PAGE_SIZE - 1)) != 0);
}

#endif
