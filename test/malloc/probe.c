/* Does one thing wrong, or at a limit, for cases.sh: probe WHAT. Runs on whatever malloc it finds.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static char in_image[64];

/* Nobody's but the library's. */
#if UINTPTR_MAX > UINT32_MAX
#define SIZE "m"
#else
#define SIZE "j"
#endif
void free_sized(void *pointer, size_t size) __attribute__((weak));
size_t malloc_object_size(const void *pointer) __attribute__((weak));
void *new_one(size_t size) __asm__("_Znw" SIZE) __attribute__((weak));
void *new_aligned(size_t size, size_t align) __asm__("_Znw" SIZE "St11align_val_t")
    __attribute__((weak));
void delete_sized(void *pointer, size_t size) __asm__("_ZdlPv" SIZE) __attribute__((weak));
void delete_sized_aligned(void *pointer, size_t size,
                          size_t align) __asm__("_ZdlPv" SIZE "St11align_val_t")
    __attribute__((weak));

static void *hidden(void *pointer)
{
    __asm__("" : "+r"(pointer));
    return pointer;
}

static int bad_free(const char *what)
{
    char *block = malloc(100), *large = malloc(10 * MIB), *huge = malloc(100 * MIB);
    char in_stack[64];
    if (strcmp(what, "double-free") == 0) {
        free(block);
        free(hidden(block));
    } else if (strcmp(what, "double-free-large") == 0) {
        free(large);
        free(hidden(large));
    } else if (strcmp(what, "inside") == 0) {
        free(hidden(block + 16));
    } else if (strcmp(what, "double-free-huge") == 0) {
        free(huge);
        free(hidden(huge));
    } else if (strcmp(what, "inside-huge") == 0) {
        free(hidden(huge + 4096));
    } else if (strcmp(what, "inside-large") == 0) {
        free(hidden(large + 4096));
    } else if (strcmp(what, "unaligned") == 0) {
        free(hidden(block + 1));
    } else if (strcmp(what, "stack") == 0) {
        free(hidden(in_stack));
    } else if (strcmp(what, "image") == 0) {
        free(hidden(in_image));
    } else if (strcmp(what, "realloc-freed") == 0) {
        free(block);
        if (realloc(hidden(block), 200))
            return 4;
    } else if (strcmp(what, "wild") == 0) {
        free(hidden((void *)((uintptr_t)0x1234560)));
    } else {
        return 3;
    }
    return 0;
}

/* What only profile=hardened finds, or guarded. */
static int misuse(const char *what)
{
    char *block = malloc(100), *zero = malloc(0);
    if (strcmp(what, "double-free-later") == 0) {
        char *other[8];
        for (unsigned i = 0; i < 8; i++)
            other[i] = malloc(100);
        free(block);
        for (unsigned i = 0; i < 8; i++)
            free(other[i]);
        free(hidden(block));
    } else if (strcmp(what, "overrun") == 0) {
        *(char *)hidden(block + 100) ^= 1;
        free(block);
    } else if (strcmp(what, "zero-twice") == 0) {
        free(zero);
        free(hidden(zero));
    } else if (strcmp(what, "zero-inside") == 0) {
        free(hidden(zero + 1));
    } else if (strcmp(what, "zero-read") == 0) {
        return *(volatile char *)hidden(zero);
    } else if (strcmp(what, "zero-write") == 0) {
        *(volatile char *)hidden(zero) = 1;
    } else if (strcmp(what, "read-freed") == 0) {
        char *guarded[40];
        for (unsigned i = 0; i < 40; i++)
            guarded[i] = malloc(200);
        for (unsigned i = 0; i < 40; i++)
            free(guarded[i]);
        for (unsigned i = 0; i < 40; i++)
            (void)*(volatile char *)hidden(guarded[i]);
    } else {
        return 3;
    }
    return 0;
}

/* Accesses without a right to it. */
static int touch(const char *what)
{
    char *large = malloc(MIB), *aligned = aligned_alloc(MIB, MIB), *at = NULL;
    if (strcmp(what, "large-before") == 0)
        at = large - 1;
    else if (strcmp(what, "large-behind") == 0)
        at = large + MIB;
    else if (strcmp(what, "large-aligned-before") == 0)
        at = aligned - 1;
    else if (strcmp(what, "large-freed") == 0 || strcmp(what, "large-again") == 0) {
        at = large + 5000;
        free(large);
        if (strcmp(what, "large-again") == 0 && !malloc(MIB))
            return 15;
    } else if (strcmp(what, "large-moved") == 0) {
        at = large + 5000;
        if (realloc(large, 3 * MIB) == large)
            return 16;
    } else if (strcmp(what, "null-read") != 0) {
        return 3;
    }
    *(volatile char *)hidden(at) = 1;
    return 0;
}

static void exit_well(int number)
{
    (void)number;
    _exit(0);
}

/* A handler that was there before the allocator's, which starts with the first call. */
__attribute__((constructor)) static void handle_first(void)
{
    const char *wanted = getenv("NEOMM_PROBE_HANDLER");
    if (wanted)
        (void)signal(SIGSEGV, exit_well);
}

/* Sizes that are not what was asked for, and sizes of what is not live. */
static int wrong_size(const char *what)
{
    char *block = malloc(100), *large = malloc(MIB);
    size_t size = 0;
    if (strcmp(what, "free-sized") == 0)
        free_sized(block, 99);
    else if (strcmp(what, "free-sized-large") == 0)
        free_sized(large, MIB - 10);
    else if (strcmp(what, "delete-sized") == 0)
        delete_sized(new_one(1), 32);
    else if (strcmp(what, "delete-aligned") == 0)
        delete_sized_aligned(new_aligned(10000, 8192), 9990, 8192);
    else if (strcmp(what, "usable-freed") == 0 || strcmp(what, "bound-freed") == 0) {
        free(block);
        size = *what == 'u' ? malloc_usable_size(hidden(block)) : malloc_object_size(hidden(block));
    } else if (strcmp(what, "usable-inside") == 0)
        size = malloc_usable_size(hidden(block + 1));
    else if (strcmp(what, "usable-wild") == 0)
        size = malloc_usable_size(hidden((void *)1));
    else
        return 3;
    return size == 0 ? 0 : 12;
}

/* Every size as it should be. */
static int sizes(void)
{
    static const size_t size[] = {1, 16, 100, 5000, 8192, 8193, 100000, 3 * MIB, 40 * MIB};
    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
        char *block = malloc(size[i]);
        size_t bound = malloc_object_size(block), half = size[i] / 2;
        if (bound < malloc_usable_size(block) || malloc_usable_size(block) < size[i] ||
            malloc_object_size(block + half) != bound - half)
            return 13;
        free_sized(block, size[i]);
        delete_sized(new_one(size[i]), size[i]);
        delete_sized_aligned(new_aligned(size[i], 256), size[i], 256);
    }
    free_sized(malloc(0), 0);
    free_sized(NULL, 5);
    return malloc_object_size(in_image) == SIZE_MAX && malloc_object_size(NULL) == 0 ? 0 : 14;
}

/* KiB of memory that the process has had at once, with one block. */
static int resident(void)
{
    struct rusage usage;
    free(hidden(malloc(1)));
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("%ld\n", usage.ru_maxrss);
    return 0;
}

/* Blocks of no bytes are all different, have no usable bytes, and grow; there may be very many. */
static int zero_blocks(void)
{
    enum { BLOCKS = 3000000 };
    char *first = malloc(0), *second = calloc(0, 7), *last = NULL;
    if (!first || !second || first == second || malloc_usable_size(first) != 0)
        return 9;
    char *grown = realloc(first, 50);
    if (!grown || malloc_usable_size(grown) < 50)
        return 10;
    memset(grown, 1, 50);
    free(grown);
    for (unsigned i = 0; i < BLOCKS; i++) {
        char *block = malloc(0);
        if (!block || block == second || block == last)
            return 11;
        last = block;
    }
    free(second);
    return 0;
}

/* Takes pieces until there are no more; then all goes back, and there must be as many again. */
static int exhaust(size_t piece)
{
    size_t counts[2];
    for (unsigned round = 0; round < 2; round++) {
        void **list = NULL;
        size_t count = 0;
        errno = 0;
        for (;;) {
            void **block = malloc(piece);
            if (!block)
                break;
            *block = list;
            list = block;
            count++;
        }
        if (errno != ENOMEM || count == 0)
            return 5;
        while (list) {
            void **next = *list;
            free(list);
            list = next;
        }
        counts[round] = count;
    }
    (void)printf("%zu\n", counts[0] * piece / MIB);
    return counts[1] >= counts[0] - counts[0] / 8 ? 0 : 6;
}

/* Half of a limited address space at most is the allocator's: a stack and a file's map fit. */
static int limited(void)
{
    void *block = malloc(20 * MIB);
    if (!block)
        return 7;
    memset(block, 1, 20 * MIB);
    free(block);
    errno = 0;
    return !malloc(400 * MIB) && errno == ENOMEM ? 0 : 8;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "exhaust-large") == 0)
        return exhaust(3 * MIB);
    if (strcmp(what, "exhaust-small") == 0)
        return exhaust(1000);
    if (strcmp(what, "limited") == 0)
        return limited();
    if (strcmp(what, "stats") == 0) {
        malloc_stats();
        return 0;
    }
    if (strcmp(what, "nothing") == 0) {
        free(hidden(malloc(1)));
        return 0;
    }
    if (strcmp(what, "zero-blocks") == 0)
        return zero_blocks();
    if (strcmp(what, "resident") == 0)
        return resident();
    if (strcmp(what, "sizes") == 0)
        return sizes();
    int status = misuse(what);
    if (status == 3)
        status = touch(what);
    if (status == 3)
        status = wrong_size(what);
    return status == 3 ? bad_free(what) : status;
}
