/* The frame allocator from 1 GiB to 16 TiB: what a call costs must not depend on the size.
 * SPDX-License-Identifier: MIT
 *
 * The roots manage memory that is not there: the allocator touches none of it, and of its own
 * metadata, which is sparse, only the part that it needs. The peer is the same at 1 GiB.
 */
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>

#define FRAMES 65536u
#define HUGE   9u
#define RANGES 8u
#define CPUS   2u
#define GIB    ((uint64_t)1 << 30)
#define RESIDENT_STEP                                                                              \
    ((size_t)1 << 30) /* bytes of metadata that mincore is asked about at once                     \
                       */

enum size { SIZE_1G, SIZE_64G, SIZE_1T, SIZE_16T, SIZES };

static const uint64_t size_bytes[SIZES] = {GIB, 64 * GIB, 1024 * GIB, 16384 * GIB};

struct memory {
    struct neomm *root;
    void *root_memory;
    uint8_t *metadata;
    size_t metadata_size;
    double resident; /* bits a frame of the metadata, right after initialisation */
};

static struct memory memories[SIZES];
static neomm_frame_t frame[FRAMES];

/* ---- making memory ---- */

static bool make_map(struct neomm_bootmap *map, struct neomm_boot_range *storage, uint64_t bytes)
{
    neomm_bootmap_init(map, storage, RANGES);
    return neomm_bootmap_add(map, 0, bytes, NEOMM_MEMORY_USABLE) == NEOMM_OK &&
           neomm_bootmap_resolve(map, 0, NULL, NULL) == NEOMM_OK;
}

static bool make_root(struct memory *memory, uint64_t bytes)
{
    struct neomm_options options = {.cpus = CPUS};
    size_t size = (neomm_root_size(CPUS) + 63) & ~(size_t)63;
    memory->root_memory = aligned_alloc(64, size);
    return memory->root_memory &&
           neomm_layout_default(NEOMM_FORMAT_4LEVEL, bytes, &options.layout) == NEOMM_OK &&
           neomm_init(memory->root_memory, size, &options, &memory->root) == NEOMM_OK;
}

static double resident_pages(uint8_t *buffer, size_t size)
{
    static unsigned char resident[RESIDENT_STEP >> NEOMM_PAGE_SHIFT];
    double pages = 0;
    for (size_t at = 0; at < size; at += RESIDENT_STEP) {
        size_t step = size - at < RESIDENT_STEP ? size - at : RESIDENT_STEP;
        if (mincore(buffer + at, step, resident) != 0)
            return 0;
        for (size_t i = 0; i < (step + NEOMM_PAGE_SIZE - 1) >> NEOMM_PAGE_SHIFT; i++)
            pages += resident[i] & 1;
    }
    return pages;
}

static bool make_pmm(struct memory *memory, const struct neomm_bootmap *map, uint64_t bytes)
{
    memory->metadata_size = neomm_pmm_metadata_size(memory->root, map);
    memory->metadata = mmap(NULL, memory->metadata_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const struct neomm_pmm_options options = {.metadata = memory->metadata,
                                              .metadata_size = memory->metadata_size,
                                              .metadata_zeroed = true};
    if (memory->metadata == MAP_FAILED || neomm_pmm_init(memory->root, map, &options) != NEOMM_OK)
        return false;
    double pages = resident_pages(memory->metadata, memory->metadata_size);
    memory->resident = pages * NEOMM_PAGE_SIZE * 8 / (double)(bytes >> NEOMM_PAGE_SHIFT);
    return true;
}

/* A memory of this size, made when first asked for; NULL: failed. */
static struct memory *memory_of(enum size size)
{
    struct memory *memory = &memories[size];
    struct neomm_boot_range storage[RANGES];
    struct neomm_bootmap map;
    uint64_t bytes = size_bytes[size];
    if (memory->root || (make_map(&map, storage, bytes) && make_root(memory, bytes) &&
                         make_pmm(memory, &map, bytes)))
        return memory;
    return NULL;
}

/* Sizes with a leak stay, and so does what was in use: the roots live as long as the process. */
static void finish(struct bench_machine *machine)
{
    (void)machine;
    for (unsigned i = 0; i < SIZES; i++) {
        struct memory *memory = &memories[i];
        if (!memory->root || neomm_pmm_fini(memory->root) != NEOMM_OK ||
            neomm_fini(memory->root) != NEOMM_OK)
            continue;
        munmap(memory->metadata, memory->metadata_size);
        free(memory->root_memory);
        *memory = (struct memory){0};
    }
}

/* ---- what is measured ---- */

static uint64_t pair(struct bench_machine *machine, enum size size, unsigned order, uint64_t count)
{
    uint64_t begun = bench_time();
    const struct memory *memory = memory_of(size);
    machine->untimed += bench_time() - begun;
    for (uint64_t i = 0; memory && i < count; i++)
        if (neomm_pmm_alloc(memory->root, order, NEOMM_NORECLAIM, &frame[0]) != NEOMM_OK ||
            neomm_pmm_free(memory->root, frame[0], order) != NEOMM_OK)
            return 0;
    return memory ? count : 0;
}

static uint64_t bulk(struct bench_machine *machine, enum size size, bool freeing, uint64_t count)
{
    uint64_t done = 0, begun = bench_time();
    const struct memory *memory = memory_of(size);
    machine->untimed += bench_time() - begun;
    for (; memory && done < count; done += FRAMES) {
        uint64_t start = bench_time();
        for (uint32_t i = 0; i < FRAMES; i++)
            if (neomm_pmm_alloc(memory->root, 0, NEOMM_NORECLAIM, &frame[i]) != NEOMM_OK)
                return 0;
        uint64_t middle = bench_time();
        for (uint32_t i = 0; i < FRAMES; i++)
            if (neomm_pmm_free(memory->root, frame[i], 0) != NEOMM_OK)
                return 0;
        machine->untimed += freeing ? middle - start : bench_time() - middle;
    }
    return done;
}

static double resident(enum size size)
{
    const struct memory *memory = memory_of(size);
    return memory ? memory->resident : 0;
}

/* ---- the table ---- */

#define FUNCTIONS(id, size)                                                                        \
    static uint64_t pair_4k_##id(struct bench_machine *machine, uint64_t count)                    \
    {                                                                                              \
        return pair(machine, size, 0, count);                                                      \
    }                                                                                              \
    static uint64_t pair_2m_##id(struct bench_machine *machine, uint64_t count)                    \
    {                                                                                              \
        return pair(machine, size, HUGE, count);                                                   \
    }                                                                                              \
    static uint64_t bulk_alloc_4k_##id(struct bench_machine *machine, uint64_t count)              \
    {                                                                                              \
        return bulk(machine, size, false, count);                                                  \
    }                                                                                              \
    static uint64_t bulk_free_4k_##id(struct bench_machine *machine, uint64_t count)               \
    {                                                                                              \
        return bulk(machine, size, true, count);                                                   \
    }                                                                                              \
    static double resident_##id(struct bench_machine *machine)                                     \
    {                                                                                              \
        (void)machine;                                                                             \
        return resident(size);                                                                     \
    }

FUNCTIONS(1g, SIZE_1G)
FUNCTIONS(64g, SIZE_64G)
FUNCTIONS(1t, SIZE_1T)
FUNCTIONS(16t, SIZE_16T)

#define ROW(title, function, id)                                                                   \
    {                                                                                              \
        .name = "pmm/flat-" #id "-" title, .unit = "ns", .peer_name = "the same at 1 GiB",         \
        .ours = function##_##id, .peer = function##_1g                                             \
    }

#define ROWS(id)                                                                                   \
    ROW("pair-4k", pair_4k, id), ROW("bulk-alloc-4k", bulk_alloc_4k, id),                          \
        ROW("bulk-free-4k", bulk_free_4k, id), ROW("pair-2m", pair_2m, id),                        \
    {                                                                                              \
        .name = "pmm/flat-" #id "-touched-by-init", .unit = "bits/frame",                          \
        .peer_name = "the same at 1 GiB", .ours_value = resident_##id, .peer_value = resident_1g   \
    }

static const struct bench_case cases[] = {ROWS(64g)};
static const struct bench_case large_cases[] = {ROWS(1t), ROWS(16t)};

const struct bench_layer bench_pmm_flat = {.name = "pmm",
                                           .layer = SIM_LAYER_ROOT,
                                           .ram_bytes = GIB,
                                           .cpus = CPUS,
                                           .finish = finish,
                                           .cases = cases,
                                           .case_count = BENCH_COUNT(cases)};

const struct bench_layer bench_pmm_flat_large = {.name = "pmm",
                                                 .layer = SIM_LAYER_ROOT,
                                                 .ram_bytes = GIB,
                                                 .cpus = CPUS,
                                                 .finish = finish,
                                                 .slow = true,
                                                 .cases = large_cases,
                                                 .case_count = BENCH_COUNT(large_cases)};
