/* The checksum of a stored page, and pages that need no storing.
 * SPDX-License-Identifier: MIT
 *
 * XXH64 of the xxHash family (its specification: "xxHash fast digest algorithm", version 0.1.1),
 * seed 0, for whole stripes of 32 bytes in the byte order of x86: all that a page needs. Four lanes
 * take a page's words in turn, each by two multiplications, which are all that general registers
 * need. The sum is kept in memory only: it guards against what a device does, not against an
 * adversary, and a page that came back different passes with a chance of 2^-64.
 */
#include "swap_priv.h"

#define LANES 4
#define WORDS (NEOMM_PAGE_SIZE / sizeof(uint64_t))

#define PRIME_1 0x9e3779b185ebca87u
#define PRIME_2 0xc2b2ae3d27d4eb4fu
#define PRIME_3 0x165667b19e3779f9u
#define PRIME_4 0x85ebca77c2b2ae63u

static inline uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static inline uint64_t step(uint64_t lane, uint64_t word)
{
    return rotate(lane + word * PRIME_2, 31) * PRIME_1;
}

static inline uint64_t merge(uint64_t sum, uint64_t lane)
{
    return (sum ^ step(0, lane)) * PRIME_1 + PRIME_4;
}

static uint64_t finish(uint64_t sum)
{
    sum = (sum ^ sum >> 33) * PRIME_2;
    sum = (sum ^ sum >> 29) * PRIME_3;
    return sum ^ sum >> 32;
}

uint64_t neomm__swap_xxh64(const uint64_t *words, size_t count)
{
    uint64_t a = PRIME_1 + PRIME_2, b = PRIME_2, c = 0, d = (uint64_t)0 - PRIME_1;
    for (size_t i = 0; i < count; i += LANES) {
        a = step(a, words[i]);
        b = step(b, words[i + 1]);
        c = step(c, words[i + 2]);
        d = step(d, words[i + 3]);
    }
    uint64_t sum = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
    sum = merge(merge(merge(merge(sum, a), b), c), d);
    return finish(sum + (uint64_t)count * sizeof(*words));
}

uint64_t neomm__swap_checksum(const uint64_t *page)
{
    return neomm__swap_xxh64(page, WORDS);
}

uint64_t neomm_page_checksum(const void *page)
{
    return neomm__swap_checksum(page);
}

bool neomm__swap_is_filled(const uint64_t *page)
{
    size_t i = 1;
    while (i < WORDS && page[i] == page[0])
        i++;
    return i == WORDS;
}
