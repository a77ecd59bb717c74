/* Large blocks whose pages are moved when they grow, on systems that move all, some or none.
 * SPDX-License-Identifier: MIT */
#include "sound.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <neomm/pmm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#if UINTPTR_MAX > UINT32_MAX
#define LARGE (200 * MIB)
#else
#define LARGE (30 * MIB)
#endif

/* What the system's mremap is like: whole, or only within one mapping (before Linux 6.17), which
 * ends every PIECE bytes here, or without MREMAP_DONTUNMAP (before 5.7). */
enum { WHOLE, IN_PIECES, NONE };
#define PIECE (MIB + 20 * NEOMM_PAGE_SIZE)

static uint64_t system_kind;
static unsigned moves, refusals;

/* In front of the C library's. */
void *mremap(void *from, size_t old_size, size_t new_size, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    void *to = va_arg(more, void *);
    va_end(more);
    bool crosses = (uintptr_t)from / PIECE != ((uintptr_t)from + old_size - 1) / PIECE;
    if (system_kind == NONE || (system_kind == IN_PIECES && crosses)) {
        refusals++;
        errno = system_kind == NONE ? EINVAL : EFAULT;
        return MAP_FAILED;
    }
    moves++;
    return (void *)syscall(SYS_mremap, from, old_size, new_size, flags, to);
}

static unsigned mappings(void)
{
    char text[4096];
    unsigned lines = 0;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(file, text, sizeof(text))) > 0;)
        for (ssize_t i = 0; i < n; i++)
            lines += text[i] == '\n';
    (void)close(file);
    return lines;
}

/* A word of each page says where in the block it is. */
static void write_pages(unsigned char *block, size_t from, size_t to)
{
    for (size_t i = from & ~(size_t)7; i + 8 <= to; i += NEOMM_PAGE_SIZE / 2)
        memcpy(block + i, &(uint64_t){i * 31 + 1}, 8);
}

static bool pages_hold(const unsigned char *block, size_t to)
{
    for (size_t i = 0; i + 8 <= to; i += NEOMM_PAGE_SIZE / 2)
        if (memcmp(block + i, &(uint64_t){i * 31 + 1}, 8) != 0)
            return false;
    return true;
}

/* All memory that is free, as calloc gives it, is zero. */
static void expect_zeros(struct ktap *t)
{
    enum { BLOCKS = 2000 };
    static unsigned char *block[BLOCKS];
    size_t count = 0, managed = process.managed;
    while (count < BLOCKS && process.managed == managed) {
        block[count] = calloc(1, MIB / 4);
        if (!block[count])
            break;
        EXPECT(t, all_are(block[count], MIB / 4, 0));
        count++;
    }
    EXPECT(t, count > 0);
    while (count > 0)
        free(block[--count]);
}

/* The frame behind a block, taken so that it cannot grow in place; nil: it cannot anyway. */
static neomm_frame_t fence_behind(void *block)
{
    size_t offset = (size_t)((uint8_t *)block - process.ram) + malloc_usable_size(block);
    neomm_frame_t frame = neomm_frame(PROCESS_FIRST + (uint32_t)(offset >> NEOMM_PAGE_SHIFT));
    struct process_thread *self = process_enter_any();
    if (neomm_pmm_claim(process.root, frame, 1) != NEOMM_OK)
        frame = neomm_frame(0);
    process_leave_any(self);
    return frame;
}

static void take_away(neomm_frame_t fence)
{
    struct process_thread *self = process_enter_any();
    if (!neomm_frame_is_nil(fence))
        (void)neomm_pmm_free_range(process.root, fence, 1);
    process_leave_any(self);
}

/* A vector grows step by step, and never in place. */
static void vector_grows(struct ktap *t)
{
    uint64_t before = live_objects();
    neomm_frame_t fence[64];
    unsigned steps = 0, mappings_before = mappings();
    size_t size = MIB / 2;
    system_kind = t->parameter;
    moves = refusals = 0;
    unsigned char *vector = malloc(size);
    ASSERT(t, vector);
    write_pages(vector, 0, size);
    for (; size < LARGE && steps < 64; steps++) {
        size_t larger = (size + size / 8 + 12345) & ~(size_t)2047;
        fence[steps] = fence_behind(vector);
        size_t retained = process_retained();
        vector = realloc(vector, larger);
        ASSERT(t, vector);
        /* Pages that have moved leave zeros behind. */
        EXPECT(t, system_kind != WHOLE || process_retained() <= retained + MIB / 16);
        EXPECT(t, pages_hold(vector, size));
        write_pages(vector, 0, larger);
        size = larger;
        if (steps % 16 == 15)
            expect_zeros(t);
    }
    EXPECT(t, pages_hold(vector, size));
    free(vector);
    while (steps > 0)
        take_away(fence[--steps]);
    expect_zeros(t);
    EXPECT_EQ(t, moves > 10, system_kind != NONE);
    EXPECT_EQ(t, refusals > 10, system_kind != WHOLE);
    EXPECT(t, mappings() <= mappings_before + 4);
    system_kind = WHOLE;
    expect_sound(t, before);
}

/* ---- huge blocks ---- */

#define HUGE (40 * MIB)

/* A block that becomes huge, grows, shrinks, and is none in the end, with its contents. */
static void becomes_huge(struct ktap *t)
{
    static const size_t size[] = {2 * MIB,       20 * MIB, 33 * MIB + 5, 60 * MIB, 60 * MIB + 1,
                                  90 * MIB + 77, 45 * MIB, 20 * MIB,     50 * MIB, MIB / 4};
    uint64_t before = live_objects();
    size_t held = size[0];
    system_kind = t->parameter;
    moves = refusals = 0;
    unsigned char *block = malloc(size[0]);
    ASSERT(t, block);
    write_pages(block, 0, size[0]);
    for (size_t i = 1; i < sizeof(size) / sizeof(size[0]); i++) {
        size_t kept = held < size[i] ? held : size[i];
        block = realloc(block, size[i]);
        ASSERT(t, block);
        EXPECT(t, pages_hold(block, kept));
        EXPECT(t, malloc_usable_size(block) >= size[i]);
        write_pages(block, 0, size[i]);
        held = size[i];
    }
    EXPECT(t, process_is_ram(block));
    free(block);
    expect_zeros(t);
    EXPECT_EQ(t, moves > 3, system_kind != NONE);
    system_kind = WHOLE;
    expect_sound(t, before);
}

/* Where there are such: zero, aligned as asked, of their size, counted, and given back at once. */
static void huge_blocks(struct ktap *t)
{
    uint64_t before = live_objects();
    size_t resident_before = resident();
    for (size_t align = 16; align <= 64 * MIB; align *= 4) {
        unsigned char *block = aligned_alloc(align, HUGE), *other = calloc(1, HUGE + 1);
        ASSERT(t, block && other);
        EXPECT_EQ(t, (uintptr_t)block % align, 0);
        EXPECT(t, all_are(other, HUGE + 1, 0));
        EXPECT_EQ(t, mallinfo2().hblks, process.huge_above == SIZE_MAX ? 0 : 2);
        EXPECT_EQ(t, malloc_usable_size(block), HUGE);
        EXPECT_EQ(t, malloc_usable_size(other), HUGE + NEOMM_PAGE_SIZE);
        memset(block, 3, HUGE);
        EXPECT(t, resident() > resident_before + HUGE);
        free(block);
        free(other);
    }
    EXPECT(t, resident() < resident_before + 4 * MIB);
    expect_sound(t, before);
}

/* No more addresses than are reserved for all of them together. */
static void huge_limit(struct ktap *t)
{
    uint64_t before = live_objects();
    size_t half = process.reserved / 2 & ~(NEOMM_PAGE_SIZE - 1), count = 0;
    void *block[4];
    while (count < 4 && (block[count] = malloc(half - 64 * MIB)))
        count++;
    EXPECT_EQ(t, count, 2);
    EXPECT_EQ(t, errno, ENOMEM);
    EXPECT(t, !realloc(block[0], process.reserved + half));
    while (count > 0)
        free(block[--count]);
    expect_sound(t, before);
}

static const uint64_t kinds[] = {WHOLE, IN_PIECES, NONE};
static const struct ktap_case cases[] = {
    KTAP_CASE(huge_limit), /* before the engine has much */
    KTAP_CASE_WITH(vector_grows, kinds),
    KTAP_CASE_WITH(becomes_huge, kinds),
    KTAP_CASE(huge_blocks),
};
KTAP_SUITE(malloc_moves, cases);
