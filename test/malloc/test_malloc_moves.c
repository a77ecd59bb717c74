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

static const uint64_t kinds[] = {WHOLE, IN_PIECES, NONE};
static const struct ktap_case cases[] = {KTAP_CASE_WITH(vector_grows, kinds)};
KTAP_SUITE(malloc_moves, cases);
