/* The dense codec: round trips over pages of many shapes, every capacity, damaged blocks.
 * SPDX-License-Identifier: MIT */
#define CODEC neomm__codec_dense
#define ROOM  (2 * PAGE) /* more than any page takes */
#include "codec_box.h"

/* Frequencies that double from symbol to symbol, as make the longest codes. */
static void longest_codes(struct ktap *t)
{
    for (unsigned shift = 0; shift < 8; shift++) {
        uint8_t page[PAGE];
        uint64_t random = shift;
        for (uint32_t i = 0; i < PAGE; i++) {
            uint32_t draw = (uint32_t)box_random(&random) & 0xfff, rank = 0;
            while (draw >> rank & 1)
                rank++;
            page[i] = (uint8_t)(rank << 4 | (box_random(&random) & 15) >> shift / 2);
        }
        expect_round_trip(t, page);
    }
}

/* With any capacity the block fits or it is said not to, and it is the same one. */
static void capacities(struct ktap *t)
{
    uint64_t random = 3;
    for (unsigned i = 0; i < 40; i++) {
        struct block whole, part;
        uint8_t page[PAGE];
        codec_page(page, &random);
        uint32_t size = compress(t, page, &whole, ROOM);
        EXPECT_EQ(t, compress(t, page, &part, size), size);
        EXPECT_EQ(t, memcmp(part.bytes, whole.bytes, size), 0);
        EXPECT_EQ(t, compress(t, page, &part, size - 1), 0);
        EXPECT_EQ(t, compress(t, page, &part, 0), 0);
    }
}

/* Cut off, with bits turned, with bytes behind, or of bytes at random: either it is said, or a page
 * comes out, but nothing is read or written elsewhere. */
static void damaged_blocks(struct ktap *t)
{
    uint64_t random = 11;
    uint8_t page[PAGE], back[PAGE];
    for (unsigned i = 0; i < 300; i++) {
        struct block block;
        codec_page(page, &random);
        uint32_t size = compress(t, page, &block, ROOM);
        for (unsigned j = 0; j < 30; j++) {
            uint32_t cut = (uint32_t)(box_random(&random) % size), bit;
            EXPECT(t, !decompress(t, block.bytes, cut, back));
            bit = (uint32_t)(box_random(&random) % (8 * size));
            block.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            (void)decompress(t, block.bytes, size, back);
            block.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        EXPECT(t, !decompress(t, block.bytes, size + 1, back));
        for (uint32_t j = 0; j < size; j++)
            block.bytes[j] = (uint8_t)box_random(&random);
        (void)decompress(t, block.bytes, size, back);
        EXPECT(t, compress(t, page, &block, ROOM) == size);
        for (uint32_t j = 48; j < size; j++) /* codes that are sound, nonsense behind */
            block.bytes[j] = (uint8_t)box_random(&random);
        (void)decompress(t, block.bytes, size, back);
    }
    memset(page, 0, sizeof(page));
    EXPECT(t, !decompress(t, page, 0, back));
    EXPECT(t, !decompress(t, page, 48, back));
    EXPECT(t, !decompress(t, page, PAGE, back));
}

/* What it is for: smaller than LZ4's on pages as programs have them. */
static void is_denser(struct ktap *t)
{
    uint64_t random = 19, dense = 0, plain = 0;
    for (unsigned i = 0; i < 500; i++) {
        struct block block;
        uint8_t page[PAGE];
        codec_fill_words(page, &random);
        dense += compress(t, page, &block, ROOM);
        plain += neomm__codec_lz4.compress(work, page, block.bytes, ROOM);
    }
    EXPECT(t, dense * 4 < plain * 3);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(pages_come_back), KTAP_CASE(all_places_and_periods), KTAP_CASE(longest_codes),
    KTAP_CASE(capacities),      KTAP_CASE(damaged_blocks),         KTAP_CASE(is_denser),
};
KTAP_SUITE(dense, cases);
