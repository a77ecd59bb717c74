/* A codec in a box whose walls are seen to. The file that includes it says which (CODEC), and how
 * many bytes no page takes more of (ROOM). SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_CODEC_BOX_H
#define NEOMM_TEST_CODEC_BOX_H

#include "codec_pages.h"
#include "ktap.h"

#include "swap/codec.h"

#include <stdlib.h>

#define GUARD 64u
#define MARK  0xa5

static uint64_t work[NEOMM__CODEC_WORK / sizeof(uint64_t)];

struct block {
    uint8_t bytes[ROOM + GUARD];
    uint32_t size;
};

static bool is_marked(const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (from[i] != MARK)
            return false;
    return true;
}

static uint32_t compress(struct ktap *t, const uint8_t *page, struct block *block,
                         uint32_t capacity)
{
    memset(block->bytes, MARK, sizeof(block->bytes));
    block->size = CODEC.compress(work, page, block->bytes, capacity);
    EXPECT(t, block->size <= capacity);
    EXPECT(t, is_marked(block->bytes + capacity, sizeof(block->bytes) - capacity));
    return block->size;
}

/* The block lies at the very end of its memory, for ASan to see what is read beyond it. */
static bool decompress(struct ktap *t, const uint8_t *bytes, uint32_t size, uint8_t *page)
{
    uint8_t *copy = malloc(size + 1), room[PAGE + GUARD];
    bool done = false;
    if (copy) {
        memcpy(copy + 1, bytes, size);
        memset(room, MARK, sizeof(room));
        done = CODEC.decompress(copy + 1, size, room);
        EXPECT(t, is_marked(room + PAGE, GUARD));
        memcpy(page, room, PAGE);
    }
    free(copy);
    return done;
}

static void expect_round_trip(struct ktap *t, const uint8_t *page)
{
    struct block block;
    uint8_t back[PAGE];
    EXPECT(t, compress(t, page, &block, ROOM) != 0);
    EXPECT(t, decompress(t, block.bytes, block.size, back));
    EXPECT_EQ(t, memcmp(back, page, PAGE), 0);
}

/* ---- cases of every codec ---- */

static void pages_come_back(struct ktap *t)
{
    uint64_t random = 7;
    uint8_t page[PAGE] = {0};
    expect_round_trip(t, page);
    for (unsigned i = 0; i < 3000; i++) {
        codec_page(page, &random);
        expect_round_trip(t, page);
    }
}

/* One byte that differs, at every place, and runs of every period. */
static void all_places_and_periods(struct ktap *t)
{
    uint8_t page[PAGE];
    for (uint32_t at = 0; at < PAGE; at++) {
        memset(page, 0, PAGE);
        page[at] = 1;
        expect_round_trip(t, page);
    }
    for (uint32_t period = 1; period <= PAGE; period++) {
        for (uint32_t i = 0; i < PAGE; i++)
            page[i] = (uint8_t)(i % period * 37 >> 3);
        expect_round_trip(t, page);
    }
}

#endif
