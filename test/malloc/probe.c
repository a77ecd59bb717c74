/* Does one thing wrong, or at a limit, for cases.sh: probe WHAT. Runs on whatever malloc it finds.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static char in_image[64];

static void *hidden(void *pointer)
{
    __asm__("" : "+r"(pointer));
    return pointer;
}

static int bad_free(const char *what)
{
    char *block = malloc(100), *large = malloc(10 * MIB);
    char in_stack[64];
    if (strcmp(what, "double-free") == 0) {
        free(block);
        free(hidden(block));
    } else if (strcmp(what, "double-free-large") == 0) {
        free(large);
        free(hidden(large));
    } else if (strcmp(what, "inside") == 0) {
        free(hidden(block + 16));
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
    return bad_free(what);
}
