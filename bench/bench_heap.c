/* Benchmarks of the heap against the host's malloc.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdlib.h>

#define BURST 1000u
#define LIVE  512u

/* The two allocators under one face; `root` NULL is the host's. */
static inline void *take(struct neomm *root, size_t size)
{
    return root ? neomm_kmalloc(root, size, NEOMM_NORECLAIM) : malloc(size);
}

static inline void give(struct neomm *root, void *block)
{
    if (root)
        (void)neomm_kfree(root, block);
    else
        free(block);
}

static inline uint64_t pair(struct neomm *root, size_t size, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        void *block = take(root, size);
        if (!block)
            return 0;
        bench_use(block);
        give(root, block);
    }
    return count;
}

/* Many blocks, then all of them freed in the same order. */
static inline uint64_t burst(struct neomm *root, uint64_t count)
{
    static void *block[BURST];
    uint64_t done = 0;
    for (; done < count; done += BURST) {
        for (uint32_t i = 0; i < BURST; i++) {
            block[i] = take(root, 16 + i % 32 * 16);
            if (!block[i])
                return 0;
            bench_use(block[i]);
        }
        for (uint32_t i = 0; i < BURST; i++)
            give(root, block[i]);
    }
    return done;
}

/* A crowd of blocks of many sizes, one replaced at a time; the first word of each is written. */
static inline uint64_t mixed(struct bench_machine *machine, struct neomm *root, uint64_t count)
{
    static void *block[LIVE];
    bool good = true;
    for (uint64_t i = 0; i < count && good; i++) {
        uint64_t r = bench_random(machine);
        size_t at = (r >> 8) % LIVE;
        size_t size = 8 + ((r >> 20) & ((r & 15) == 0 ? 0x3fff : (r & 3) == 0 ? 0x3ff : 0xff));
        if (block[at])
            give(root, block[at]);
        block[at] = take(root, size);
        good = block[at] != NULL;
        if (good)
            *(volatile uint64_t *)block[at] = r;
    }
    for (size_t i = 0; i < LIVE; i++) {
        give(root, block[i]);
        block[i] = NULL;
    }
    return good ? count : 0;
}

#define SIDES(name, call)                                                                          \
    static uint64_t name##_ours(struct bench_machine *machine, uint64_t count)                     \
    {                                                                                              \
        struct neomm *root = machine->root;                                                        \
        return call;                                                                               \
    }                                                                                              \
    static uint64_t name##_peer(struct bench_machine *machine, uint64_t count)                     \
    {                                                                                              \
        struct neomm *root = NULL;                                                                 \
        (void)machine;                                                                             \
        return call;                                                                               \
    }

SIDES(pair_64, pair(root, 64, count))
SIDES(pair_1024, pair(root, 1024, count))
SIDES(pair_64k, pair(root, 65536, count))
SIDES(burst, burst(root, count))
SIDES(mixed, mixed(machine, root, count))

#define CASE(title, function, what)                                                                \
    {                                                                                              \
        .name = "heap/" title, .unit = what, .peer_name = "malloc", .ours = function##_ours,       \
        .peer = function##_peer                                                                    \
    }

static const struct bench_case cases[] = {
    CASE("pair-64", pair_64, "ns"),       CASE("pair-1024", pair_1024, "ns"),
    CASE("pair-64k", pair_64k, "ns"),     CASE("burst-1000", burst, "ns/block"),
    CASE("mixed-512", mixed, "ns/block"),
};

const struct bench_layer bench_heap = {.name = "heap",
                                       .layer = SIM_LAYER_HEAP,
                                       .ram_bytes = (uint64_t)256 << 20,
                                       .cases = cases,
                                       .case_count = BENCH_COUNT(cases)};
