/* Pages in LZ4's format: round trips over pages of many shapes, against liblz4 in both directions,
 * and damaged blocks.
 * SPDX-License-Identifier: MIT */
#define CODEC neomm__codec_lz4
#define ROOM  (PAGE + PAGE / 255 + 64) /* more than any page takes */
#include "codec_box.h"

#include <dlfcn.h>

/* With any capacity the block fits or it is said not to; a larger one never gives less. */
static void capacities(struct ktap *t)
{
    uint64_t random = 11;
    uint8_t page[PAGE], back[PAGE];
    struct block block;
    for (unsigned i = 0; i < 60; i++) {
        codec_page(page, &random);
        uint32_t whole = compress(t, page, &block, ROOM), step = 1 + whole / 50;
        bool fitted = false;
        for (uint32_t capacity = 0; capacity < whole + 64; capacity += step) {
            uint32_t size = compress(t, page, &block, capacity);
            EXPECT(t, size == 0 ? !fitted && capacity < whole + 32 : size == whole);
            fitted = size != 0;
            if (fitted && decompress(t, block.bytes, size, back))
                EXPECT_EQ(t, memcmp(back, page, PAGE), 0);
        }
    }
}

/* What is repeated is found: bounds on the size of pages that are easy. */
static void easy_pages_become_small(struct ktap *t)
{
    struct block block;
    uint8_t page[PAGE] = {0};
    uint64_t random = 5;
    EXPECT(t, compress(t, page, &block, ROOM) <= 32);
    for (uint32_t i = 0; i < PAGE; i++)
        page[i] = (uint8_t)(i % 16 * 7);
    EXPECT(t, compress(t, page, &block, ROOM) <= 64);
    codec_fill_words(page, &random);
    EXPECT(t, compress(t, page, &block, ROOM) <= 2400);
    for (uint32_t i = 0; i < PAGE; i++)
        page[i] = (uint8_t)box_random(&random);
    EXPECT(t, compress(t, page, &block, PAGE * 3 / 4) == 0);
}

/* ---- what is no block ---- */

static void every_part_of_a_block_is_refused(struct ktap *t)
{
    uint64_t random = 3;
    uint8_t page[PAGE], back[PAGE];
    struct block block;
    for (unsigned i = 0; i < 20; i++) {
        codec_page(page, &random);
        uint32_t size = compress(t, page, &block, ROOM);
        for (uint32_t part = 0; part < size; part += 1 + size / 300)
            EXPECT(t, !decompress(t, block.bytes, part, back));
        block.bytes[size] = 0;
        EXPECT(t, !decompress(t, block.bytes, size + 1, back));
    }
}

/* Blocks written by hand from the format's description: {bytes}, how many, is it a page? */
static void blocks_by_hand(struct ktap *t)
{
    uint8_t back[PAGE];
    const struct {
        uint8_t bytes[32];
        uint32_t size;
        bool page;
    } hand[] = {
        /* 1 literal, repeated 4090 times (4 + 15 + 15 * 255 + 246), 5 literals */
        {{0x1f, 'x', 1,   0,   255, 255, 255, 255,  255, 255, 255, 255, 255,
          255,  255, 255, 255, 255, 255, 246, 0x50, 'a', 'b', 'c', 'd', 'e'},
         26,
         true},
        {{0x1f, 'x', 1,   0,   255, 255, 255, 255,  255, 255, 255, 255, 255,
          255,  255, 255, 255, 255, 255, 245, 0x50, 'a', 'b', 'c', 'd', 'e'},
         26,
         false}, /* a byte short */
        {{0x1f, 'x', 1,   0,   255, 255, 255, 255,  255, 255, 255, 255, 255,
          255,  255, 255, 255, 255, 255, 247, 0x50, 'a', 'b', 'c', 'd', 'e'},
         26,
         false}, /* a byte too many */
        {{0x1f, 'x', 0,   0,   255, 255, 255, 255,  255, 255, 255, 255, 255,
          255,  255, 255, 255, 255, 255, 246, 0x50, 'a', 'b', 'c', 'd', 'e'},
         26,
         false}, /* offset 0 */
        {{0x1f, 'x', 2,   0,   255, 255, 255, 255,  255, 255, 255, 255, 255,
          255,  255, 255, 255, 255, 255, 246, 0x50, 'a', 'b', 'c', 'd', 'e'},
         26,
         false}, /* before the page */
        {{0x1f, 'x', 1}, 3, false},
        {{0}, 1, false},
        {{0xf0, 255, 255}, 3, false},
    };
    for (unsigned i = 0; i < sizeof(hand) / sizeof(hand[0]); i++)
        EXPECT_EQ(t, decompress(t, hand[i].bytes, hand[i].size, back), hand[i].page);
    EXPECT(t, decompress(t, hand[0].bytes, hand[0].size, back));
    EXPECT(t, back[0] == 'x' && back[4090] == 'x' && back[4091] == 'a' && back[4095] == 'e');
}

/* ---- liblz4 ---- */

struct liblz4 {
    void *library;
    int (*compress)(const char *from, char *to, int size, int capacity);
    int (*decompress)(const char *from, char *to, int size, int capacity);
};

static bool open_liblz4(struct liblz4 *lz4)
{
    lz4->library = dlopen("liblz4.so.1", RTLD_NOW | RTLD_LOCAL);
    if (lz4->library) {
        *(void **)&lz4->compress = dlsym(lz4->library, "LZ4_compress_default");
        *(void **)&lz4->decompress = dlsym(lz4->library, "LZ4_decompress_safe");
        if (lz4->compress && lz4->decompress)
            return true;
    }
    return false;
}

static void liblz4_reads_ours_and_we_its(struct ktap *t)
{
    struct liblz4 lz4;
    uint64_t random = 23;
    if (!open_liblz4(&lz4)) {
        ktap_skip(t, "needs liblz4");
        return;
    }
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t page[PAGE], back[PAGE];
        struct block block;
        codec_page(page, &random);
        uint32_t size = compress(t, page, &block, ROOM);
        EXPECT_EQ(t, lz4.decompress((char *)block.bytes, (char *)back, (int)size, PAGE), PAGE);
        EXPECT_EQ(t, memcmp(back, page, PAGE), 0);
        int theirs = lz4.compress((char *)page, (char *)block.bytes, PAGE, ROOM);
        EXPECT(t, theirs > 0 && decompress(t, block.bytes, (uint32_t)theirs, back));
        EXPECT_EQ(t, memcmp(back, page, PAGE), 0);
    }
    dlclose(lz4.library);
}

/* Damaged blocks: no byte beside the page is written, and where both take one for a page it is the
 * same page. */
static void damaged_blocks(struct ktap *t)
{
    struct liblz4 lz4;
    uint64_t random = 29, taken = 0;
    bool oracle = open_liblz4(&lz4);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t page[PAGE], ours[PAGE], theirs[PAGE];
        struct block block;
        if (i % 50 == 0)
            codec_page(page, &random);
        uint32_t size = compress(t, page, &block, ROOM);
        for (uint64_t n = 1 + box_random(&random) % 3; n > 0; n--)
            block.bytes[box_random(&random) % size] ^= (uint8_t)(1u << box_random(&random) % 8);
        if (!decompress(t, block.bytes, size, ours))
            continue;
        taken++;
        if (oracle &&
            lz4.decompress((char *)block.bytes, (char *)theirs, (int)size, PAGE) == (int)PAGE)
            EXPECT_EQ(t, memcmp(ours, theirs, PAGE), 0);
    }
    EXPECT(t, taken > 100);
    if (oracle)
        dlclose(lz4.library);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(pages_come_back),
    KTAP_CASE(all_places_and_periods),
    KTAP_CASE(capacities),
    KTAP_CASE(easy_pages_become_small),
    KTAP_CASE(every_part_of_a_block_is_refused),
    KTAP_CASE(blocks_by_hand),
    KTAP_CASE(liblz4_reads_ours_and_we_its),
    KTAP_CASE(damaged_blocks),
};
KTAP_SUITE(lz4, cases);
