/* Pages in LZ4's block format (LZ4 Block Format Description, 2022).
 * SPDX-License-Identifier: MIT
 *
 * A block is a row of sequences; the last one ends behind its literals:
 *
 *   token              literals         bytes      offset        length
 *   [count : length-4] [count-15 ...]   ........   [low][high]   [length-19 ...]
 *                       if count is 15                            if length - 4 is 15
 *
 * A match repeats `length` bytes from `offset` bytes before. The last 5 bytes of the page are
 * literals, and no match begins in the last 12.
 *
 * Matches are looked for greedily, with the place where a word of four bytes was seen last, by its
 * hash; a page is small, so its places are 16 bits and the whole table one frame. Where nothing
 * matches the steps grow, so that a page that cannot be compressed is given up early.
 */
#include "swap/codec.h"

#include "base/bits.h"
#include "base/memory.h"

#define HASH_BITS     11u
#define LENGTH_LEAST  4u
#define LENGTH_FIELD  15u
#define LAST_LITERALS 5u
#define LAST_START    (NEOMM_PAGE_SIZE - 12u) /* of a match */
#define PATIENCE      5u                      /* log2 of the tries before the steps grow */
#define SLACK         16u                     /* copies may go so far beyond their end */

_Static_assert(sizeof(uint16_t) << HASH_BITS <= NEOMM__CODEC_WORK, "places are the workspace");

static inline void copy_8(uint8_t *to, const uint8_t *from)
{
    uint64_t value;
    __builtin_memcpy(&value, from, sizeof(value));
    __builtin_memcpy(to, &value, sizeof(value));
}

/* ---- compression ---- */

struct encoder {
    uint16_t *place; /* by hash: where such a word was last; 0 as long as there was none */
    const uint8_t *page;
    uint8_t *out, *limit;
    uint32_t anchor; /* everything before it is in `out` */
};

/* The last place before `at` where a word with the hash of the one at `at` was seen. `at` is not 0
 * and grows from call to call, so that the place is before it. */
static inline uint32_t look_up(struct encoder *e, uint32_t at)
{
    uint16_t *place =
        &e->place[neomm__codec_load_32(e->page + at) * 2654435761u >> (32 - HASH_BITS)];
    uint32_t candidate = *place;
    *place = (uint16_t)at;
    return candidate;
}

static inline bool matches(const struct encoder *e, uint32_t candidate, uint32_t at)
{
    return neomm__codec_load_32(e->page + candidate) == neomm__codec_load_32(e->page + at);
}

/* How many bytes agree from `a` and from `b` on, a < b. */
static inline uint32_t agreement(const uint8_t *page, uint32_t a, uint32_t b)
{
    const uint32_t end = NEOMM_PAGE_SIZE - LAST_LITERALS, from = b;
    for (; b + sizeof(neomm__word_t) <= end;
         a += sizeof(neomm__word_t), b += sizeof(neomm__word_t)) {
        neomm__word_t differ = neomm__codec_load_word(page + a) ^ neomm__codec_load_word(page + b);
        if (differ != 0)
            return b - from + neomm__lowest_bit(differ) / 8;
    }
    while (b < end && page[a] == page[b]) {
        a++;
        b++;
    }
    return b - from;
}

/* What is above the field in the token. */
static inline uint8_t *put_rest(uint8_t *out, uint32_t value)
{
    if (value < LENGTH_FIELD)
        return out;
    for (value -= LENGTH_FIELD; value >= 255; value -= 255)
        *out++ = 255;
    *out++ = (uint8_t)value;
    return out;
}

static inline uint32_t field(uint32_t value)
{
    return value < LENGTH_FIELD ? value : LENGTH_FIELD;
}

/* The literals from the anchor up to `at`, and a match of `length` bytes. False: no room. */
static inline bool put_sequence(struct encoder *e, uint32_t at, uint32_t offset, uint32_t length)
{
    uint32_t literals = at - e->anchor, more = length - LENGTH_LEAST;
    if ((size_t)(e->limit - e->out) < literals + literals / 255 + more / 255 + 5 + SLACK)
        return false;
    *e->out = (uint8_t)(field(literals) << 4 | field(more));
    uint8_t *out = put_rest(e->out + 1, literals);
    for (uint32_t i = 0; i < literals; i += 8)
        copy_8(out + i, e->page + e->anchor + i);
    out += literals;
    *out++ = (uint8_t)offset;
    *out++ = (uint8_t)(offset >> 8);
    e->out = put_rest(out, more);
    e->anchor = at + length;
    return true;
}

static bool put_last(struct encoder *e)
{
    uint32_t literals = NEOMM_PAGE_SIZE - e->anchor;
    if ((size_t)(e->limit - e->out) < literals + literals / 255 + 2)
        return false;
    *e->out = (uint8_t)(field(literals) << 4);
    e->out = put_rest(e->out + 1, literals);
    memcpy(e->out, e->page + e->anchor, literals);
    e->out += literals;
    return true;
}

/* The next match at or behind *at; returns where its bytes are before. *at is beyond LAST_START if
 * there is none. */
static inline uint32_t find_match(struct encoder *e, uint32_t *at)
{
    for (uint32_t tries = 1u << PATIENCE; *at <= LAST_START; *at += tries++ >> PATIENCE) {
        uint32_t candidate = look_up(e, *at);
        if (matches(e, candidate, *at))
            return candidate;
    }
    return 0;
}

/* All matches of the page. False: no room. */
static bool put_matches(struct encoder *e)
{
    uint32_t at = 1;
    for (;;) {
        uint32_t candidate = find_match(e, &at);
        if (at > LAST_START)
            return true;
        while (at > e->anchor && candidate > 0 && e->page[at - 1] == e->page[candidate - 1]) {
            at--;
            candidate--;
        }
        uint32_t length =
            LENGTH_LEAST + agreement(e->page, candidate + LENGTH_LEAST, at + LENGTH_LEAST);
        if (!put_sequence(e, at, at - candidate, length))
            return false;
        at += length;
        if (at <= LAST_START)
            (void)look_up(e, at - 2); /* a place that the search passed over */
    }
}

static uint32_t lz4_compress(void *work, const uint8_t *page, uint8_t *out, uint32_t capacity)
{
    struct encoder e = {.place = work, .page = page, .out = out, .limit = out + capacity};
    memset(work, 0, sizeof(uint16_t) << HASH_BITS);
    return put_matches(&e) && put_last(&e) ? (uint32_t)(e.out - out) : 0;
}

/* ---- decompression ---- */

struct decoder {
    const uint8_t *in, *in_end;
    uint8_t *out, *out_end;
    uint8_t *page;
};

/* Adds what is above the field of a token. A sum that no page has ends the search for more. */
static inline bool get_rest(struct decoder *d, uint32_t *value)
{
    uint32_t more = 255;
    if (*value < LENGTH_FIELD)
        return true;
    while (more == 255 && *value <= NEOMM_PAGE_SIZE) {
        if (d->in == d->in_end)
            return false;
        more = *d->in++;
        *value += more;
    }
    return *value <= NEOMM_PAGE_SIZE;
}

static inline bool get_literals(struct decoder *d, uint32_t count)
{
    size_t in = (size_t)(d->in_end - d->in), out = (size_t)(d->out_end - d->out);
    if (in >= count + SLACK && out >= count + SLACK) {
        copy_8(d->out, d->in);
        copy_8(d->out + 8, d->in + 8);
        for (uint32_t i = 16; i < count; i += 8)
            copy_8(d->out + i, d->in + i);
    } else if (in >= count && out >= count) {
        memcpy(d->out, d->in, count);
    } else {
        return false;
    }
    d->in += count;
    d->out += count;
    return true;
}

/* The 8 bytes from `from` on, if they go on as its first `period` <= 8 bytes do. */
static inline uint64_t repeated(const uint8_t *from, uint32_t period)
{
    uint64_t value;
    __builtin_memcpy(&value, from, sizeof(value));
    value &= UINT64_MAX >> (64 - 8 * period);
    for (; period < 8; period *= 2)
        value |= value << 8 * period;
    return value;
}

/* A repetition of up to 8 bytes is stored, not copied: each copy would wait for the one before. The
 * steps are the multiples of the offset that fit 8 bytes. */
static inline void fill_match(uint8_t *out, const uint8_t *end, uint32_t offset)
{
    static const uint8_t step[9] = {0, 8, 8, 6, 8, 5, 6, 7, 8};
    uint64_t value = repeated(out - offset, offset);
    for (; out < end; out += step[offset])
        __builtin_memcpy(out, &value, sizeof(value));
}

/* Bytes of a match; `out` has SLACK bytes behind it. */
static inline void copy_match(uint8_t *out, uint32_t offset, uint32_t length)
{
    const uint8_t *from = out - offset;
    if (offset >= 8 && length <= SLACK) {
        copy_8(out, from);
        copy_8(out + 8, from + 8);
    } else if (offset > 8) {
        for (uint32_t i = 0; i < length; i += 8)
            copy_8(out + i, from + i);
    } else {
        fill_match(out, out + length, offset);
    }
}

static inline bool get_match(struct decoder *d, uint32_t offset, uint32_t length)
{
    uint32_t room = (uint32_t)(d->out_end - d->out), fast = length;
    if (offset - 1 >= (uint32_t)(d->out - d->page) || room < length)
        return false;
    if (room < length + SLACK) /* the end of the page, byte by byte */
        fast = room > SLACK ? room - SLACK : 0;
    if (fast != 0)
        copy_match(d->out, offset, fast);
    for (uint32_t i = fast; i < length; i++)
        d->out[i] = *(d->out + i - offset);
    d->out += length;
    return true;
}

static bool lz4_decompress(const uint8_t *in, uint32_t size, uint8_t *page)
{
    struct decoder d = {in, in + size, page, page + NEOMM_PAGE_SIZE, page};
    while (d.in != d.in_end) {
        uint32_t token = *d.in++, literals = token >> 4, length = token & LENGTH_FIELD;
        if (!get_rest(&d, &literals) || !get_literals(&d, literals))
            return false;
        if (d.in == d.in_end)
            return d.out == d.out_end;
        if (d.in_end - d.in < 2)
            return false;
        uint32_t offset = (uint32_t)(d.in[0] | d.in[1] << 8);
        d.in += 2;
        if (!get_rest(&d, &length) || !get_match(&d, offset, length + LENGTH_LEAST))
            return false;
    }
    return false;
}

const struct neomm__codec neomm__codec_lz4 = {"lz4", sizeof(uint16_t) << HASH_BITS, lz4_compress,
                                              lz4_decompress};
