/* The checksum of a stored page, and pages that need no storing.
 * SPDX-License-Identifier: MIT
 *
 * Four lanes take the page's 64-bit words in turn:
 *
 *   lane = rotate((lane ^ word) * K, 29)
 *
 * K is odd, so each step is a bijection of the lane for a given word, and of the word for a given
 * lane: two pages that differ in one word end with different lanes, whatever follows. The lanes
 * are folded by a mix that is a bijection too, so such pages never have the same sum; pages that
 * differ in more words have it with a chance of 2^-64. The sum is kept in memory only: it guards
 * against what a device does, not against an adversary.
 */
#include "swap_priv.h"

#define LANES 4
#define WORDS (NEOMM_PAGE_SIZE / sizeof(uint64_t))

static inline uint64_t step(uint64_t lane, uint64_t word)
{
    uint64_t product = (lane ^ word) * 0xd1342543de82ef95u;
    return product << 29 | product >> 35;
}

uint64_t neomm__swap_checksum(const uint64_t *page)
{
    uint64_t a = 0x243f6a8885a308d3u, b = 0x13198a2e03707344u;
    uint64_t c = 0xa4093822299f31d0u, d = 0x082efa98ec4e6c89u;
    for (size_t i = 0; i < WORDS; i += LANES) {
        a = step(a, page[i]);
        b = step(b, page[i + 1]);
        c = step(c, page[i + 2]);
        d = step(d, page[i + 3]);
    }
    return neomm__mix(neomm__mix(neomm__mix(neomm__mix(a) + b) + c) + d);
}

bool neomm__swap_is_filled(const uint64_t *page)
{
    size_t i = 1;
    while (i < WORDS && page[i] == page[0])
        i++;
    return i == WORDS;
}
