/* Long random histories of the malloc family against a model that knows what each block holds.
 * SPDX-License-Identifier: MIT */
#include "sound.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 512u
#define STEPS  60000u

struct block {
    unsigned char *at;
    size_t size;
    unsigned char value;
};

/* Mostly small, sometimes pages, now and then megabytes. */
static size_t random_size(uint32_t *seed)
{
    uint32_t kind = next_number(seed) % 100;
    if (kind < 70)
        return next_number(seed) % 600;
    if (kind < 95)
        return next_number(seed) % 20000;
    return kind < 99 ? next_number(seed) % 500000 : next_number(seed) % (9u << 20);
}

static bool holds(const struct block *block)
{
    size_t size = block->size;
    if (size <= 4096)
        return all_are(block->at, size, block->value);
    return all_are(block->at, 1024, block->value) &&
           all_are(block->at + size / 2, 512, block->value) &&
           all_are(block->at + size - 1024, 1024, block->value);
}

static void fill(struct block *block, size_t size, unsigned char value)
{
    block->size = size;
    block->value = value;
    memset(block->at, value, size);
}

static void allocate(struct ktap *t, struct block *block, uint32_t *seed)
{
    size_t size = random_size(seed), align = (size_t)1 << next_number(seed) % 16;
    switch (next_number(seed) % 4) {
    case 0:
        block->at = calloc(1, size);
        EXPECT(t, !block->at || all_are(block->at, size, 0));
        break;
    case 1:
        block->at = memalign(align, size);
        EXPECT_EQ(t, (uintptr_t)block->at % align, 0);
        break;
    default:
        block->at = malloc(size);
        break;
    }
    ASSERT(t, block->at);
    fill(block, size, (unsigned char)next_number(seed));
}

static void change(struct ktap *t, struct block *block, uint32_t *seed)
{
    size_t size = random_size(seed) + 1;
    struct block moved = *block;
    moved.at = realloc(block->at, size);
    ASSERT(t, moved.at);
    moved.size = block->size < size ? block->size : size;
    EXPECT(t, holds(&moved));
    *block = moved;
    fill(block, size, (unsigned char)next_number(seed));
}

static void history(struct ktap *t)
{
    static struct block block[BLOCKS];
    uint32_t seed = (uint32_t)t->parameter;
    uint64_t before = live_objects();
    memset(block, 0, sizeof(block));
    for (uint32_t i = 0; i < STEPS && t->failures == 0; i++) {
        struct block *chosen = &block[next_number(&seed) % BLOCKS];
        if (chosen->at)
            EXPECT(t, holds(chosen));
        if (!chosen->at) {
            allocate(t, chosen, &seed);
        } else if (next_number(&seed) % 3 == 0) {
            change(t, chosen, &seed);
        } else {
            free(chosen->at);
            chosen->at = NULL;
        }
        if (i % 20000 == 19999)
            (void)malloc_trim(0);
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        EXPECT(t, !block[i].at || holds(&block[i]));
        free(block[i].at);
    }
    expect_sound(t, before);
}

static const uint64_t seeds[] = {1, 2, 3, 4};
static const struct ktap_case cases[] = {KTAP_CASE_WITH(history, seeds)};
KTAP_SUITE(malloc_model, cases);
