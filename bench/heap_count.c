/* bench-heap-count SIDE SIZE PAIRS [watched]: so many allocations, each freed at once, for a tool
 * that counts instructions (heap_count.cmake). Two runs that differ in PAIRS alone tell what a pair
 * takes; the side `empty`, whose two calls take three instructions, what of that is the loop.
 * `watched`: the heap was, for a while. SPDX-License-Identifier: MIT */
#include "bench.h"
#include "heap_side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *empty_alloc(struct neomm *root, size_t size, neomm_flags_t flags,
                  const struct neomm_site *site);
neomm_status empty_free(struct neomm *root, void *block);
__asm__(".globl empty_alloc, empty_free\n"
        "empty_alloc: mov %rdi, %rax\n"
        "             ret\n"
        "empty_free:  ret\n");

static int repeat(const struct heap_side side, bool ours, size_t size, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++) {
        void *block = heap_take(&side, ours, size);
        if (!block)
            return 1;
        bench_use(block);
        heap_give(&side, ours, block);
    }
    return 0;
}

static const struct heap_side *find(struct heap_side *sides, const char *name)
{
    static const struct bench_heap no_heap;
    static const struct heap_side empty = {.name = "empty",
                                           .present = true,
                                           .heap = &no_heap,
                                           .root = (struct neomm *)&no_heap,
                                           .kmalloc = empty_alloc,
                                           .kfree = empty_free};
    if (strcmp(name, empty.name) == 0)
        return &empty;
    for (uint32_t i = 0; i < HEAP_SIDES; i++)
        if (strcmp(name, sides[i].name) == 0)
            return &sides[i];
    return NULL;
}

int main(int argc, char **argv)
{
    static struct heap_side sides[HEAP_SIDES];
    const struct heap_side *side = NULL;
    if ((argc == 4 || argc == 5) && heap_sides_open(sides))
        side = find(sides, argv[1]);
    if (!side || !side->present) {
        (void)fprintf(stderr, "bench-heap-count: no such allocator\n");
        return 2;
    }
    if (argc == 5 && (!side->heap || !side->heap->watch_a_while(side->root))) {
        (void)fprintf(stderr, "bench-heap-count: it cannot be watched\n");
        return 1;
    }
    size_t size = strtoul(argv[2], NULL, 10);
    unsigned long pairs = strtoul(argv[3], NULL, 10);
    int status = side->heap ? repeat(*side, true, size, pairs) : repeat(*side, false, size, pairs);
    return heap_sides_close(sides) ? status : 1;
}
