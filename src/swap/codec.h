/* Compression of pages. A codec is a pair of functions over memory that the caller has ready:
 * nothing is allocated on the way out of memory.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SWAP_CODEC_H
#define NEOMM_SWAP_CODEC_H

#include "base/bits.h"

#include <neomm/types.h>

/* No codec needs more. */
#define NEOMM__CODEC_WORK (8 * NEOMM_PAGE_SIZE)

struct neomm__codec {
    const char *name;
    uint32_t
        work; /* bytes that it needs to compress, aligned to 8; contents undefined between calls */
    /* Writes `page`, NEOMM_PAGE_SIZE bytes, to out in at most `capacity` bytes, and returns how
     * many; 0: it does not fit, and what is in out is garbage. */
    uint32_t (*compress)(void *work, const uint8_t *page, uint8_t *out, uint32_t capacity);
    /* The reverse. Trusts nothing: false for an input that no page of NEOMM_PAGE_SIZE bytes gives,
     * and neither reads outside of `in` nor writes outside of `page`, whatever the input. */
    bool (*decompress)(const uint8_t *in, uint32_t size, uint8_t *page);
};

extern const struct neomm__codec neomm__codec_lz4, neomm__codec_dense;

/* By enum neomm_compression; NULL: none. */
const struct neomm__codec *neomm__codec_at(uint32_t number);

/* Bytes at any place, in the order of the machine. By the compiler's own name: freestanding, memcpy
 * is a call, also of a few bytes. */
static inline uint32_t neomm__codec_load_32(const uint8_t *from)
{
    uint32_t value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

static inline neomm__word_t neomm__codec_load_word(const uint8_t *from)
{
    neomm__word_t value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

#endif
