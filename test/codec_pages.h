/* Pages of many shapes, for the tests of codecs.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_CODEC_PAGES_H
#define NEOMM_TEST_CODEC_PAGES_H

#include "heap_box.h"

#include <string.h>

#define PAGE NEOMM_PAGE_SIZE

/* Repetitions of every distance, lengths around the borders of the format, and literals between. */
static inline void codec_fill_repeats(uint8_t *page, uint64_t *random)
{
    uint32_t at = 0, most = 1u << box_random(random) % 10;
    while (at < PAGE) {
        uint32_t literals = (uint32_t)(box_random(random) % 40);
        uint32_t length = 1 + (uint32_t)(box_random(random) % (8 * most));
        for (; literals > 0 && at < PAGE; literals--)
            page[at++] = (uint8_t)box_random(random);
        uint32_t offset = 1 + (uint32_t)(box_random(random) % most);
        for (; at >= offset && length > 0 && at < PAGE; length--, at++)
            page[at] = page[at - offset];
    }
}

/* What a program keeps: small numbers and pointers into few places. */
static inline void codec_fill_words(uint8_t *page, uint64_t *random)
{
    for (uint32_t i = 0; i < PAGE; i += 8) {
        uint64_t kind = box_random(random) % 4, word = box_random(random) % 64;
        if (kind == 1)
            word = 0x00007f1234560000u + (box_random(random) & 0xfff8);
        else if (kind == 2)
            word = 0;
        memcpy(page + i, &word, sizeof(word));
    }
}

static inline void codec_fill_bytes(uint8_t *page, uint64_t *random)
{
    uint64_t letters = 1 + box_random(random) % 256;
    for (uint32_t i = 0; i < PAGE; i++)
        page[i] = (uint8_t)(box_random(random) % letters);
}

/* One of many shapes. */
static inline void codec_page(uint8_t *page, uint64_t *random)
{
    switch (box_random(random) % 4) {
    case 0:
        codec_fill_bytes(page, random);
        break;
    case 1:
        codec_fill_words(page, random);
        break;
    default:
        codec_fill_repeats(page, random);
        break;
    }
}

#endif
