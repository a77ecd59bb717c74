/* Every function of the malloc family, and its corners.
 * SPDX-License-Identifier: MIT */
#include "sound.h"

#include <errno.h>
#include <malloc.h>
#include <neomm/pmm.h>
#include <neomm/stats.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

/* Sizes around every border: classes, slabs, pages, blocks of the frame allocator. */
static const size_t borders[] = {
    1,       8,     16,    64,         128, 1024,           2048,    4096,           8192,
    8193,    16384, 65536, 128 * 1024, MIB, 4 * MIB - 4096, 4 * MIB, 4 * MIB + 4096, 5 * MIB,
    17 * MIB};

/* What the compiler does not see through: it knows the functions' rules too. */
static size_t opaque(size_t value)
{
    __asm__("" : "+r"(value));
    return value;
}

static void sizes(struct ktap *t)
{
    uint64_t before = live_objects();
    for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++)
        for (int delta = -1; delta <= 1; delta++) {
            size_t size = borders[i] + (size_t)delta;
            unsigned char *block = malloc(size);
            ASSERT(t, block);
            EXPECT_EQ(t, (uintptr_t)block % 16, 0);
            size_t usable = malloc_usable_size(block);
            EXPECT(t, usable >= size);
            memset(block, 0xa5, usable);
            EXPECT(t, all_are(block, usable, 0xa5));
            free(block);
        }
    expect_sound(t, before);
}

static void size_zero(struct ktap *t)
{
    uint64_t before = live_objects();
    void *a = malloc(0), *b = malloc(0), *c = calloc(0, 5), *d = calloc(5, 0);
    void *e = aligned_alloc(64, 0), *f = realloc(NULL, 0), *g = valloc(0), *h = memalign(4096, 0);
    void *block[] = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; i++) {
        EXPECT(t, block[i]);
        for (size_t j = 0; j < i; j++)
            EXPECT(t, block[i] != block[j]);
    }
    EXPECT_EQ(t, (uintptr_t)e % 64, 0);
    for (size_t i = 0; i < 8; i++)
        free(block[i]);
    free(NULL);
    EXPECT_EQ(t, malloc_usable_size(NULL), 0);
    expect_sound(t, before);
}

static void expect_enomem(struct ktap *t, void *block)
{
    EXPECT(t, !block);
    EXPECT_EQ(t, errno, ENOMEM);
    errno = 0;
}

static void too_large(struct ktap *t)
{
    static const size_t most[] = {SIZE_MAX, SIZE_MAX - 4095, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX,
                                  PTRDIFF_MAX - 4096};
    uint64_t before = live_objects();
    char *kept = malloc(100);
    void *result = &errno;
    ASSERT(t, kept);
    memset(kept, 7, 100);
    errno = 0;
    for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        expect_enomem(t, malloc(most[i]));
        expect_enomem(t, calloc(most[i], 1));
        expect_enomem(t, calloc(1, most[i]));
        expect_enomem(t, realloc(kept, most[i]));
        expect_enomem(t, memalign(64, most[i]));
        expect_enomem(t, aligned_alloc(MIB, most[i]));
        expect_enomem(t, valloc(most[i]));
        expect_enomem(t, pvalloc(most[i]));
        EXPECT_EQ(t, posix_memalign(&result, 4096, most[i]), ENOMEM);
        EXPECT(t, result == &errno);
        EXPECT_EQ(t, errno, 0);
    }
    expect_enomem(t, calloc(SIZE_MAX / 2 + 1, 2));
    expect_enomem(t, calloc(SIZE_MAX / 16, 17));
    expect_enomem(t, reallocarray(kept, SIZE_MAX / 2 + 1, 2));
    expect_enomem(t, aligned_alloc(opaque((size_t)1 << (sizeof(size_t) * 8 - 1)), 8));
    EXPECT(t, all_are(kept, 100, 7));
    free(kept);
    expect_sound(t, before);
}

static void alignments(struct ktap *t)
{
    static const size_t size[] = {1, 16, 100, 4000, 5000, 8192, 20000, 3 * MIB, 6 * MIB};
    uint64_t before = live_objects();
    for (size_t align = 1; align <= 64 * MIB; align *= 2)
        for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
            void *block[3] = {aligned_alloc(align, size[i]), memalign(align, size[i]), NULL};
            if (align >= sizeof(void *))
                EXPECT_EQ(t, posix_memalign(&block[2], align, size[i]), 0);
            else
                EXPECT_EQ(t, posix_memalign(&block[2], align, size[i]), EINVAL);
            for (unsigned j = 0; j < 3; j++) {
                if (!block[j])
                    EXPECT(t, j == 2 && align < sizeof(void *));
                else
                    EXPECT_EQ(t, (uintptr_t)block[j] % align, 0);
                if (block[j])
                    memset(block[j], 1, size[i]);
                free(block[j]);
            }
        }
    expect_sound(t, before);
}

/* Beyond the alignment of the arena itself. */
static void huge_alignments(struct ktap *t)
{
    uint64_t before = live_objects();
    for (size_t align = 128 * MIB; align <= (sizeof(void *) == 8 ? 8192 * MIB : 256 * MIB);
         align *= 2) {
        char *a = aligned_alloc(align, 100), *b = aligned_alloc(align, 9 * MIB);
        ASSERT(t, a && b);
        EXPECT_EQ(t, (uintptr_t)a % align, 0);
        EXPECT_EQ(t, (uintptr_t)b % align, 0);
        memset(b, 1, 9 * MIB);
        free(a);
        free(b);
    }
    expect_sound(t, before);
}

static void odd_alignments(struct ktap *t)
{
    void *result = NULL;
    static const size_t bad[] = {0, 1, 2, 3, 12, 24, 4095};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT_EQ(t, posix_memalign(&result, bad[i], 8), EINVAL);
    EXPECT(t, !result);
    errno = 0;
    EXPECT(t, !aligned_alloc(opaque(24), 48));
    EXPECT_EQ(t, errno, EINVAL);
    EXPECT(t, !aligned_alloc(opaque(0), 48));
    void *block = memalign(opaque(24), 48);
    ASSERT(t, block);
    EXPECT_EQ(t, (uintptr_t)block % 32, 0);
    free(block);
    block = pvalloc(1);
    ASSERT(t, block);
    EXPECT(t, malloc_usable_size(block) >= 4096);
    free(block);
    block = pvalloc(4097);
    ASSERT(t, block);
    EXPECT(t, malloc_usable_size(block) >= 8192);
    EXPECT_EQ(t, (uintptr_t)block % 4096, 0);
    free(block);
}

/* Memory that was dirtied comes back as zeros, whatever it was before. */
static void calloc_zeroes(struct ktap *t)
{
    uint64_t before = live_objects();
    for (unsigned round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++) {
            unsigned char *block[4];
            for (unsigned j = 0; j < 4; j++) {
                block[j] = calloc(1, borders[i]);
                ASSERT(t, block[j]);
                EXPECT(t, all_are(block[j], borders[i], 0));
                memset(block[j], 0xff, malloc_usable_size(block[j]));
            }
            for (unsigned j = 0; j < 4; j++)
                free(block[j]);
            if (round == 1)
                (void)malloc_trim(0);
        }
    expect_sound(t, before);
}

/* Frames that held the heap's own records are not zero either when they come back. */
static void records_are_not_zeros(struct ktap *t)
{
    enum { CHUNKS = 100 };
    static unsigned char *chunk[CHUNKS];
    uint64_t before = live_objects();
    void **list = NULL;
    for (unsigned i = 0; i < 600000; i++) {
        void **block = malloc(16);
        ASSERT(t, block);
        *block = list;
        list = block;
    }
    while (list) {
        void **next = *list;
        free(list);
        list = next;
    }
    (void)malloc_trim(0);
    for (unsigned i = 0; i < CHUNKS; i++) {
        chunk[i] = calloc(1, MIB / 2);
        ASSERT(t, chunk[i]);
        EXPECT(t, all_are(chunk[i], MIB / 2, 0));
    }
    for (unsigned i = 0; i < CHUNKS; i++)
        free(chunk[i]);
    expect_sound(t, before);
}

static void expect_pattern(struct ktap *t, const unsigned char *block, size_t size)
{
    for (size_t i = 0; i < size; i += 509)
        if (block[i] != (unsigned char)(i * 31))
            return ktap_fail(t, __FILE__, __LINE__, "the contents are not what they were");
}

static void write_pattern(unsigned char *block, size_t size)
{
    for (size_t i = 0; i < size; i += 509)
        block[i] = (unsigned char)(i * 31);
}

/* From each size to each other; the other blocks are in the way of growing in place. */
static void realloc_keeps(struct ktap *t)
{
    size_t n = sizeof(borders) / sizeof(borders[0]);
    uint64_t before = live_objects();
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            unsigned char *block = malloc(borders[i]), *other = malloc(borders[i]);
            ASSERT(t, block && other);
            write_pattern(block, borders[i]);
            memset(other, 1, borders[i] < 4096 ? borders[i] : 4096);
            block = realloc(block, borders[j]);
            ASSERT(t, block);
            expect_pattern(t, block, borders[i] < borders[j] ? borders[i] : borders[j]);
            memset(block, 2, borders[j]);
            free(other);
            free(block);
        }
    expect_sound(t, before);
}

static void realloc_to_nothing(struct ktap *t)
{
    uint64_t before = live_objects();
    EXPECT(t, !realloc(malloc(100), 0));
    EXPECT(t, !realloc(malloc(10 * MIB), 0));
    void *block = reallocarray(NULL, 10, 10);
    EXPECT(t, malloc_usable_size(block) >= 100);
    free(block);
    expect_sound(t, before);
}

static void errno_is_kept(struct ktap *t)
{
    uint64_t before = live_objects();
    errno = 1234;
    for (unsigned i = 0; i < 40; i++) {
        char *block = malloc(MIB * (i + 1));
        ASSERT(t, block);
        memset(block, 1, MIB * (i + 1));
        block = realloc(block, MIB * (i + 3));
        free(block);
        EXPECT_EQ(t, errno, 1234);
    }
    EXPECT_EQ(t, malloc_trim(0), 1);
    EXPECT_EQ(t, errno, 1234);
    expect_sound(t, before);
}

static void figures(struct ktap *t)
{
    struct mallinfo2 first = mallinfo2();
    void *small = malloc(1000), *large = malloc(10 * MIB);
    struct mallinfo2 info = mallinfo2();
    struct mallinfo narrow = mallinfo();
    EXPECT(t, info.uordblks >= first.uordblks + 10 * MIB + 1000);
    EXPECT(t, info.arena >= info.uordblks);
    EXPECT_EQ(t, info.arena, info.uordblks + info.fordblks);
    EXPECT_EQ(t, narrow.uordblks, info.uordblks);
    free(small);
    free(large);
    EXPECT_EQ(t, mallinfo2().uordblks, first.uordblks);
}

/* A frame that was moved to, one left behind, frames of all kinds: after malloc_trim the system
 * has all that is not in use. */
static void trim_gives_all(struct ktap *t)
{
    enum { BLOCKS = 20000 };
    static void *block[BLOCKS];
    uint64_t before = live_objects();
    (void)malloc_trim(0);
    size_t at_first = resident();
    for (unsigned i = 0; i < BLOCKS; i++) {
        block[i] = malloc(i % 2000 + 1);
        ASSERT(t, block[i]);
        memset(block[i], 1, i % 2000 + 1);
    }
    EXPECT(t, resident() > at_first + 15 * MIB);
    for (unsigned i = 0; i < BLOCKS; i++)
        free(block[i]);
    EXPECT_EQ(t, malloc_trim(0), 1);
    EXPECT_EQ(t, process_retained(), 0);
    EXPECT(t, resident() < at_first + MIB);
    EXPECT_EQ(t, malloc_trim(0), 0);
    expect_sound(t, before);
}

/* Memory that is freed goes back by itself, all but what is retained, be it large or small. */
static void freed_goes_back(struct ktap *t)
{
    enum { BLOCKS = 60000 };
    static void *block[BLOCKS];
    uint64_t before = live_objects();
    size_t slack = process.options.retain + process.options.retain / 2;
    (void)malloc_trim(0);
    size_t at_first = resident();
    for (unsigned i = 0; i < 12; i++) {
        void *large = malloc(60 * MIB);
        ASSERT(t, large);
        memset(large, 1, 60 * MIB);
        free(large);
        EXPECT(t, process_retained() < MIB); /* at once, and nothing else with it */
        EXPECT(t, resident() < at_first + slack);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        block[i] = malloc(3000);
        ASSERT(t, block[i]);
        memset(block[i], 1, 3000);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        free(block[i]);
    EXPECT(t, process_retained() <= slack);
    EXPECT(t, resident() < at_first + slack);
    expect_sound(t, before);
}

/* The arena grows over many parts, and by one request that is larger than any. */
static void arena_grows(struct ktap *t)
{
    enum { BLOCKS = 100 };
    static void *block[BLOCKS];
    uint64_t before = live_objects();
    size_t count = sizeof(void *) == 8 ? BLOCKS : 20;
    for (size_t i = 0; i < count; i++) {
        block[i] = malloc(20 * MIB);
        ASSERT(t, block[i]);
        memset(block[i], (int)i, 8192);
    }
    EXPECT(t, process.managed >= count * 20 * MIB);
    for (size_t i = 0; i < count; i++) {
        EXPECT(t, all_are(block[i], 8192, (unsigned char)i));
        free(block[i]);
    }
    char *whole = malloc(process.managed + 3 * MIB);
    EXPECT(t, whole || sizeof(void *) == 4);
    free(whole);
    expect_sound(t, before);
}

/* Calls of the engine's that failed. */
static uint64_t failures(void)
{
    static struct neomm_snapshot snapshot;
    struct process_thread *self = process_enter_any();
    neomm_snapshot_take(process.root, &snapshot);
    process_leave_any(self);
    return snapshot.counter[NEOMM_COUNTER_KMALLOC_FAIL];
}

/* Much is free, but in pieces too small: more memory is brought before anything fails. */
static void much_in_pieces(struct ktap *t)
{
    enum { PIECES = 20000 };
    static void *piece[PIECES];
    uint64_t before = live_objects(), failures_before = failures();
    size_t count = 0, managed = process.managed;
    while (count < PIECES &&
           (process.managed == managed || neomm_pmm_free_frames(process.root) > 64) &&
           (piece[count] = malloc(16384)))
        count++;
    for (size_t i = 0; i < count; i += 2)
        free(piece[i]);
    void *large = malloc(MIB / 2 + 5);
    void *larger = malloc(MIB + 5);
    EXPECT(t, count > 100 && large && larger);
    EXPECT_EQ(t, failures(), failures_before);
    free(large);
    free(larger);
    for (size_t i = 1; i < count; i += 2)
        free(piece[i]);
    expect_sound(t, before);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(much_in_pieces), /* before there is much memory that would have to be filled */
    KTAP_CASE(sizes),           KTAP_CASE(size_zero),
    KTAP_CASE(too_large),       KTAP_CASE(alignments),
    KTAP_CASE(huge_alignments), KTAP_CASE(odd_alignments),
    KTAP_CASE(calloc_zeroes),   KTAP_CASE(records_are_not_zeros),
    KTAP_CASE(realloc_keeps),   KTAP_CASE(realloc_to_nothing),
    KTAP_CASE(errno_is_kept),   KTAP_CASE(figures),
    KTAP_CASE(trim_gives_all),  KTAP_CASE(freed_goes_back),
    KTAP_CASE(arena_grows),
};
KTAP_SUITE(malloc_family, cases);
