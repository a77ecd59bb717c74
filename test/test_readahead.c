/* The rule of reading ahead from swap.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/bits.h"

#include <neomm/readahead.h>

#include <string.h>

#define BLOCKS 64u
#define PAGES  1000u /* in memory */

struct desk {
    struct neomm_readahead table;
    struct neomm_readahead_block block[BLOCKS];
    int32_t credit;
    uint32_t evictions;
};

static void desk_open(struct desk *desk)
{
    memset(desk, 0, sizeof(*desk));
    desk->table = (struct neomm_readahead){desk->block, BLOCKS};
}

static struct neomm_readahead_window fault_of(struct desk *desk, uint32_t space, uint64_t page)
{
    const struct neomm_readahead_fault fault = {space, page, ++desk->evictions, PAGES,
                                                NEOMM_READAHEAD_MOST};
    return neomm_readahead_fault(&desk->table, &desk->credit, &fault);
}

static uint32_t pages_of(struct desk *desk, uint64_t page)
{
    return fault_of(desk, 1, page).pages;
}

static void used(struct desk *desk, uint64_t page)
{
    neomm_readahead_used(&desk->table, &desk->credit, 1, page);
}

static void wasted(struct desk *desk, uint64_t page)
{
    neomm_readahead_wasted(&desk->table, &desk->credit, 1, page);
}

/* Neighbours open a window, and each further one doubles it, up to the most. */
static void neighbours_open_it(struct ktap *t)
{
    static const uint32_t want[] = {1, 2, 4, 8, 16, 16};
    struct desk desk;
    desk_open(&desk);
    for (uint32_t i = 0; i < 6; i++) {
        struct neomm_readahead_window up = fault_of(&desk, 1, 640 + i);
        EXPECT_EQ(t, up.pages, want[i]);
        EXPECT_EQ(t, up.direction, 1);
    }
    for (uint32_t i = 0; i < 6; i++) {
        struct neomm_readahead_window down = fault_of(&desk, 1, 63 - i);
        EXPECT_EQ(t, down.pages, want[i]);
        EXPECT_EQ(t, down.direction, i == 0 ? 1 : -1);
    }
}

/* Faults that are not on neighbours, or long after each other, or in another block or space, open
 * nothing. */
static void others_do_not(struct ktap *t)
{
    struct desk desk;
    desk_open(&desk);
    for (uint32_t i = 0; i < 20; i++)
        EXPECT_EQ(t, pages_of(&desk, 64 + i * 2 % 64), 1);
    EXPECT_EQ(t, pages_of(&desk, 127), 1);
    EXPECT_EQ(t, pages_of(&desk, 128), 1);
    EXPECT_EQ(t, fault_of(&desk, 2, 129).pages, 1);
    desk.evictions += PAGES;
    EXPECT_EQ(t, pages_of(&desk, 129), 1);
    desk.evictions += PAGES - 1;
    EXPECT_EQ(t, pages_of(&desk, 130), 2);
}

static void use_doubles_and_waste_halves(struct ktap *t)
{
    struct desk desk;
    desk_open(&desk);
    (void)pages_of(&desk, 0);
    EXPECT_EQ(t, pages_of(&desk, 1), 2);
    used(&desk, 2);
    EXPECT_EQ(t, pages_of(&desk, 10), 4);
    /* (uses count again half as much at the next fault; one is none) */
    EXPECT_EQ(t, pages_of(&desk, 20), 4);
    used(&desk, 21);
    used(&desk, 22);
    EXPECT_EQ(t, pages_of(&desk, 30), 8);
    EXPECT_EQ(t, pages_of(&desk, 40), 16);
    EXPECT_EQ(t, pages_of(&desk, 50), 16);
    desk.credit = 100;
    for (uint32_t want = 8; want > 0; want /= 2) {
        used(&desk, 3);
        wasted(&desk, 4);
        EXPECT_EQ(t, pages_of(&desk, want * 2), want);
    }
    wasted(&desk, 4);
    EXPECT_EQ(t, pages_of(&desk, 60), 1);
}

/* What is read is never more than asked for, and one page more than a 64th of those there are. */
static void is_limited(struct ktap *t)
{
    static const struct {
        uint32_t pages, most, want;
    } limits[] = {{2000, 16, 16}, {2000, 5, 5}, {2000, 1, 1}, {960, 16, 16}, {959, 16, 15},
                  {192, 16, 4},   {64, 16, 2},  {63, 16, 1},  {0, 16, 1}};
    for (uint32_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct desk desk;
        desk_open(&desk);
        for (uint32_t page = 0; page < 8; page++)
            (void)pages_of(&desk, page);
        const struct neomm_readahead_fault fault = {1, 8, desk.evictions, limits[i].pages,
                                                    limits[i].most};
        EXPECT_EQ(t, neomm_readahead_fault(&desk.table, &desk.credit, &fault).pages,
                  limits[i].want);
    }
}

/* A program that does the worst: it opens windows and uses nothing that they bring. */
static void waste_is_bounded(struct ktap *t)
{
    struct desk desk;
    uint64_t seed = t->parameter, faults = 0, waste = 0, good = 0;
    desk_open(&desk);
    while (faults < 100000) {
        uint64_t page = neomm__mix(++seed) % 4096, luck = neomm__mix(seed) >> 32;
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t pages = pages_of(&desk, page + i);
            faults++;
            for (uint32_t k = 1; k < pages; k++)
                if (luck % 4 < t->parameter) {
                    used(&desk, page + i + k);
                    good++;
                } else {
                    wasted(&desk, page + i + k);
                    waste++;
                }
        }
    }
    ktap_note(t, "%llu faults, %llu used, %llu wasted", (unsigned long long)faults,
              (unsigned long long)good, (unsigned long long)waste);
    EXPECT(t, waste <= (faults + good) / 8 + 2 * NEOMM_READAHEAD_CREDIT);
    EXPECT(t, waste >= (faults + good) / 16);
}

/* Blocks that fall on the same place throw each other out, and nothing else comes of it. */
static void a_full_table_forgets(struct ktap *t)
{
    struct desk desk;
    desk_open(&desk);
    for (uint64_t page = 0; page < 4; page++)
        (void)pages_of(&desk, page);
    for (uint64_t block = 1; block < 64 * BLOCKS; block++)
        EXPECT_EQ(t, pages_of(&desk, block * NEOMM_READAHEAD_BLOCK), 1);
    desk.evictions = 4;
    EXPECT_EQ(t, pages_of(&desk, 4), 1);
    wasted(&desk, 640);
    used(&desk, 640);
}

static void table_sizes(struct ktap *t)
{
    EXPECT_EQ(t, neomm_readahead_blocks(0), 64);
    EXPECT_EQ(t, neomm_readahead_blocks(4095), 64);
    EXPECT_EQ(t, neomm_readahead_blocks(4096), 128);
    EXPECT_EQ(t, neomm_readahead_blocks(65536), 2048);
    EXPECT_EQ(t, neomm_readahead_blocks((uint64_t)1 << 40), 65536);
}

static const uint64_t lucks[] = {0, 1, 2};

static const struct ktap_case cases[] = {
    KTAP_CASE(neighbours_open_it),
    KTAP_CASE(others_do_not),
    KTAP_CASE(use_doubles_and_waste_halves),
    KTAP_CASE(is_limited),
    KTAP_CASE_WITH(waste_is_bounded, lucks),
    KTAP_CASE(a_full_table_forgets),
    KTAP_CASE(table_sizes),
};
KTAP_SUITE(readahead, cases);
