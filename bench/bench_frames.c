/* The frame allocator beside another one (--peer): single frames and huge ones, memory nearly
 * full and full, metadata, initialisation.
 * SPDX-License-Identifier: MIT
 *
 * Both sides are called through pointers, one block a call, and keep what they got in an array of
 * their own, which stays filled from one measurement to the next: filling 64 GiB takes longer than
 * measuring. What is no work of the allocator, such as picking a random frame, is not timed.
 */
#include "bench_frames.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BULK_FRAMES 65536u
#define BULK_HUGE   1024u
#define BATCH       256u  /* frames a call of ours that takes many */
#define SWAPPED     1024u /* frames freed and allocated again when memory is nearly full */
#define LEFT        256u  /* of so many frames one may be left when ours is full */
#define MISSED      64u   /* of so many allocations one may fail when memory is full */
#define HUGE        9u

static struct bench_side sides[2]; /* ours, the peer's */

/* ---- our side, in the peer's shape ---- */

static uint64_t ours_alloc(void *allocator, uint32_t cpu, uint32_t order)
{
    neomm_frame_t frame;
    (void)cpu;
    return neomm_pmm_alloc(allocator, order, NEOMM_NORECLAIM, &frame) == NEOMM_OK ? frame.number
                                                                                  : BENCH_PEER_NONE;
}

static bool ours_free(void *allocator, uint32_t cpu, uint64_t frame, uint32_t order)
{
    (void)cpu;
    return neomm_pmm_free(allocator, neomm_frame((uint32_t)frame), order) == NEOMM_OK;
}

static uint64_t all_frames(const struct bench_machine *machine)
{
    return machine->ram_bytes >> NEOMM_PAGE_SHIFT;
}

static struct bench_side *open_side(struct bench_side *side, const struct bench_machine *machine)
{
    side->capacity = all_frames(machine);
    side->frame = calloc(side->capacity, sizeof(side->frame[0]));
    return side->frame && side->allocator ? side : NULL;
}

struct bench_side *bench_our_side(struct bench_machine *machine)
{
    struct bench_side *side = &sides[0];
    if (side->frame)
        return side;
    *side = (struct bench_side){.allocator = machine->root, .alloc = ours_alloc, .free = ours_free};
    return open_side(side, machine);
}

struct bench_side *bench_peer_side(struct bench_machine *machine)
{
    const struct bench_peer *peer = machine->peer;
    struct bench_side *side = &sides[1];
    if (side->frame)
        return side;
    *side = (struct bench_side){.allocator = peer->init(NULL, all_frames(machine), 2),
                                .alloc = peer->alloc,
                                .free = peer->free};
    return open_side(side, machine);
}

/* ---- filling ---- */

static bool take(struct bench_side *side, uint32_t order)
{
    uint64_t frame = side->alloc(side->allocator, 0, order);
    if (frame == BENCH_PEER_NONE || side->count == side->capacity)
        return false;
    side->frame[side->count++] = neomm_frame((uint32_t)frame);
    return true;
}

static void give_all(struct bench_side *side, uint32_t order)
{
    while (side->count > 0)
        (void)side->free(side->allocator, 0, side->frame[--side->count].number, order);
    side->level = BENCH_EMPTY;
}

static void fill(struct bench_side *side)
{
    while (take(side, 0))
        continue;
    side->level = BENCH_FULL;
}

/* Takes the array's last frame out of it after putting it where a random one was. */
static neomm_frame_t pick_random(struct bench_side *side)
{
    side->random = side->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t at = (side->random >> 24) % side->count;
    neomm_frame_t frame = side->frame[at];
    side->frame[at] = side->frame[--side->count];
    return frame;
}

/* Frees `count` random frames. */
static bool give_random(struct bench_side *side, uint64_t count)
{
    for (; count > 0; count--)
        if (!side->free(side->allocator, 0, pick_random(side).number, 0))
            return false;
    return true;
}

/* Frees a random tenth, then replaces each free frame about twice: how an allocator finds frames
 * after the first round through all of memory is not how it did before. */
static bool thin_out(struct bench_side *side)
{
    uint64_t left = side->count / 10;
    bool good = give_random(side, left);
    for (uint64_t i = 0; i < 2 * left && good; i++)
        good = give_random(side, 1) && take(side, 0);
    return good;
}

/* Ours is full in earnest: what is left may only be what CPUs keep for themselves. */
static bool is_full(const struct bench_side *side)
{
    return side != &sides[0] || neomm_pmm_free_frames(side->allocator) <= side->capacity / LEFT;
}

bool bench_reach(struct bench_side *side, enum bench_level level)
{
    if (!side || side->level == level)
        return side;
    if (level == BENCH_EMPTY) {
        give_all(side, 0);
        return true;
    }
    fill(side);
    if (!is_full(side))
        return false;
    if (level == BENCH_NEARLY_FULL && !thin_out(side))
        return false;
    side->level = level;
    return true;
}

/* ---- what is measured; each for either side ---- */

static uint64_t bulk(struct bench_machine *machine, struct bench_side *side, uint64_t count,
                     uint32_t order, bool freeing)
{
    uint64_t done = 0, blocks = order ? BULK_HUGE : BULK_FRAMES;
    if (!bench_reach(side, BENCH_EMPTY))
        return 0;
    for (; done < count; done += blocks) {
        uint64_t start = bench_time();
        for (uint64_t i = 0; i < blocks; i++)
            if (!take(side, order))
                return 0;
        uint64_t middle = bench_time();
        for (uint64_t i = 0; i < blocks; i++)
            if (!side->free(side->allocator, 0, side->frame[i].number, order))
                return 0;
        uint64_t end = bench_time();
        machine->untimed += freeing ? middle - start : end - middle;
        side->count = 0;
    }
    return done;
}

static uint64_t pair(struct bench_machine *machine, struct bench_side *side, uint64_t count,
                     uint32_t order)
{
    if (!bench_reach(side, BENCH_EMPTY))
        return 0;
    uint64_t start = bench_time();
    machine->untimed += start - machine->started;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t frame = side->alloc(side->allocator, 0, order);
        if (frame == BENCH_PEER_NONE || !side->free(side->allocator, 0, frame, order))
            return 0;
    }
    return count;
}

/* As bulk for our own calls that take many frames, which the peer has none of. */
static uint64_t batches(struct bench_machine *machine, struct bench_side *side, uint64_t count,
                        bool freeing)
{
    uint64_t done = 0;
    if (!bench_reach(side, BENCH_EMPTY))
        return 0;
    for (; done < count; done += BULK_FRAMES) {
        uint64_t start = bench_time();
        for (uint32_t i = 0; i < BULK_FRAMES; i += BATCH)
            if (neomm_pmm_alloc_bulk(machine->root, BATCH, NEOMM_NORECLAIM, side->frame + i) !=
                NEOMM_OK)
                return 0;
        uint64_t middle = bench_time();
        for (uint32_t i = 0; i < BULK_FRAMES; i += BATCH)
            if (neomm_pmm_free_bulk(machine->root, BATCH, side->frame + i, NULL) != NEOMM_OK)
                return 0;
        machine->untimed += freeing ? middle - start : bench_time() - middle;
    }
    return done;
}

enum phase { FREEING = 1, ALLOCATING = 2, BOTH = 3 };

/* Reaches a level and takes SWAPPED random frames out of the array, which stay allocated. */
static bool pick(struct bench_machine *machine, struct bench_side *side, enum bench_level level,
                 neomm_frame_t *picked)
{
    uint64_t start = bench_time();
    if (!bench_reach(side, level) || side->count < SWAPPED)
        return false;
    for (uint32_t i = 0; i < SWAPPED; i++)
        picked[i] = pick_random(side);
    machine->untimed += bench_time() - start;
    return true;
}

/* Frees many random frames, then allocates as many. A few may fail when memory is full: the last
 * free frames may be where another CPU has a reservation. */
static uint64_t swap(struct bench_machine *machine, struct bench_side *side, uint64_t count,
                     enum bench_level level, enum phase phase)
{
    static neomm_frame_t picked[SWAPPED];
    uint64_t done = 0, missed = 0;
    for (; done < count; done += SWAPPED) {
        if (!pick(machine, side, level, picked))
            return 0;
        uint64_t start = bench_time();
        for (uint32_t i = 0; i < SWAPPED; i++)
            if (!side->free(side->allocator, 0, picked[i].number, 0))
                return 0;
        uint64_t middle = bench_time();
        for (uint32_t i = 0; i < SWAPPED; i++)
            missed += !take(side, 0);
        if (phase != BOTH)
            machine->untimed += phase == FREEING ? bench_time() - middle : middle - start;
    }
    return missed <= done / MISSED ? done : 0;
}

/* Frees a random frame and allocates one, and so on. */
static uint64_t full_pair(struct bench_machine *machine, struct bench_side *side, uint64_t count)
{
    static neomm_frame_t picked[SWAPPED];
    uint64_t done = 0, missed = 0;
    for (; done < count; done += SWAPPED) {
        if (!pick(machine, side, BENCH_FULL, picked))
            return 0;
        for (uint32_t i = 0; i < SWAPPED; i++) {
            if (!side->free(side->allocator, 0, picked[i].number, 0))
                return 0;
            missed += !take(side, 0);
        }
    }
    return missed <= done / MISSED ? done : 0;
}

/* ---- metadata and initialisation: no times and counts of operations, but values ---- */

static bool one_range(struct neomm_bootmap *map, struct neomm_boot_range *storage,
                      const struct bench_machine *machine)
{
    neomm_bootmap_init(map, storage, 8);
    return neomm_bootmap_add(map, 0, machine->ram_bytes, NEOMM_MEMORY_USABLE) == NEOMM_OK &&
           neomm_bootmap_resolve(map, 0, NULL, NULL) == NEOMM_OK;
}

/* Bits a frame, without the descriptors, which the peer has no equivalent of. */
static double ours_metadata(struct bench_machine *machine)
{
    struct neomm_boot_range storage[8];
    struct neomm_bootmap map;
    if (!one_range(&map, storage, machine))
        return 0;
    double bytes = (double)neomm_pmm_metadata_size(machine->root, &map);
    double frames = (double)all_frames(machine);
    return (bytes - frames * 32) * 8 / frames;
}

static double peer_metadata(struct bench_machine *machine)
{
    struct bench_side *side = bench_peer_side(machine);
    return side ? (double)machine->peer->metadata(side->allocator) * 8 / (double)all_frames(machine)
                : 0;
}

/* Zeros what was touched of a buffer and leaves it resident, so that the next initialisation pays
 * neither for zeroing nor for the host's page faults; nor does the peer, who gets its own again. */
static bool zero_resident(uint8_t *buffer, size_t size)
{
    size_t pages = (size + NEOMM_PAGE_SIZE - 1) >> NEOMM_PAGE_SHIFT;
    unsigned char *resident = malloc(pages);
    bool good = resident && mincore(buffer, size, resident) == 0;
    for (size_t i = 0; good && i < pages; i++)
        if (resident[i] & 1)
            memset(buffer + (i << NEOMM_PAGE_SHIFT), 0, NEOMM_PAGE_SIZE);
    free(resident);
    return good;
}

/* Roots of their own, one after the other, over metadata that is known to be zero. */
static bool init_roots(struct bench_machine *machine, uint64_t count, void *memory,
                       uint8_t *metadata, size_t size)
{
    struct neomm_boot_range storage[8];
    struct neomm_bootmap map;
    const struct neomm_options options = {.layout = *neomm_layout_of(machine->root), .cpus = 2};
    const struct neomm_pmm_options pmm = {
        .metadata = metadata, .metadata_size = size, .metadata_zeroed = true};
    bool good = one_range(&map, storage, machine);
    for (uint64_t i = 0; i < count && good; i++) {
        uint64_t start = bench_time();
        struct neomm *root;
        good = zero_resident(metadata, size) &&
               neomm_init(memory, neomm_root_size(2), &options, &root) == NEOMM_OK;
        machine->untimed += bench_time() - start;
        good = good && neomm_pmm_init(root, &map, &pmm) == NEOMM_OK;
    }
    return good;
}

static uint64_t ours_init(struct bench_machine *machine, uint64_t count)
{
    struct neomm_boot_range storage[8];
    struct neomm_bootmap map;
    uint64_t start = bench_time();
    if (!one_range(&map, storage, machine))
        return 0;
    size_t size = neomm_pmm_metadata_size(machine->root, &map);
    void *memory = aligned_alloc(64, (neomm_root_size(2) + 63) & ~(size_t)63);
    uint8_t *metadata = mmap(NULL, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool good = memory && metadata != MAP_FAILED && init_roots(machine, 1, memory, metadata, size);
    machine->untimed = bench_time() - start;
    good = good && init_roots(machine, count, memory, metadata, size);
    free(memory);
    if (metadata != MAP_FAILED)
        munmap(metadata, size);
    return good ? count : 0;
}

static uint64_t peer_init(struct bench_machine *machine, uint64_t count)
{
    static void *previous;
    static uint64_t frames;
    uint64_t start = bench_time();
    if (frames != all_frames(machine)) {
        frames = all_frames(machine);
        previous = machine->peer->init(NULL, frames, 2);
    }
    machine->untimed += bench_time() - start;
    for (uint64_t i = 0; i < count && previous; i++)
        previous = machine->peer->init(previous, frames, 2);
    return previous ? count : 0;
}

static void finish(struct bench_machine *machine)
{
    (void)machine;
    for (unsigned i = 0; i < 2; i++) {
        if (i == 0 && sides[i].frame)
            (void)bench_reach(&sides[i], BENCH_EMPTY);
        free(sides[i].frame);
        sides[i] = (struct bench_side){0};
    }
}

/* ---- for either side ---- */

#define EITHER(name, call)                                                                         \
    static uint64_t ours_##name(struct bench_machine *machine, uint64_t count)                     \
    {                                                                                              \
        struct bench_side *side = bench_our_side(machine);                                         \
        return side ? call : 0;                                                                    \
    }                                                                                              \
    static uint64_t peer_##name(struct bench_machine *machine, uint64_t count)                     \
    {                                                                                              \
        struct bench_side *side = bench_peer_side(machine);                                        \
        return side ? call : 0;                                                                    \
    }

EITHER(bulk_alloc_4k, bulk(machine, side, count, 0, false))
EITHER(bulk_free_4k, bulk(machine, side, count, 0, true))
EITHER(pair_4k, pair(machine, side, count, 0))
EITHER(bulk_alloc_2m, bulk(machine, side, count, HUGE, false))
EITHER(bulk_free_2m, bulk(machine, side, count, HUGE, true))
EITHER(pair_2m, pair(machine, side, count, HUGE))
EITHER(nearly_full_free, swap(machine, side, count, BENCH_NEARLY_FULL, FREEING))
EITHER(nearly_full_alloc, swap(machine, side, count, BENCH_NEARLY_FULL, ALLOCATING))
EITHER(nearly_full_both, swap(machine, side, count, BENCH_NEARLY_FULL, BOTH))
EITHER(full_free_1024, swap(machine, side, count, BENCH_FULL, FREEING))
EITHER(full_alloc_1024, swap(machine, side, count, BENCH_FULL, ALLOCATING))
EITHER(full_both_1024, swap(machine, side, count, BENCH_FULL, BOTH))
EITHER(full_pair, full_pair(machine, side, count))

static uint64_t ours_batch_alloc(struct bench_machine *machine, uint64_t count)
{
    struct bench_side *side = bench_our_side(machine);
    return side ? batches(machine, side, count, false) : 0;
}

static uint64_t ours_batch_free(struct bench_machine *machine, uint64_t count)
{
    struct bench_side *side = bench_our_side(machine);
    return side ? batches(machine, side, count, true) : 0;
}

/* ---- the table ---- */

#define PEER_ROW(title, row_unit, row_peer, our_function, peer_function)                           \
    {                                                                                              \
        .name = "pmm/" title, .unit = row_unit, .peer_name = row_peer, .plugin = true,             \
        .ours = our_function, .peer = peer_function                                                \
    }

#define ROW(title, function) PEER_ROW(title, "ns", "--peer", ours_##function, peer_##function)
#define VALUE_ROW(title, row_unit, function)                                                       \
    {                                                                                              \
        .name = "pmm/" title, .unit = row_unit, .peer_name = "--peer", .plugin = true,             \
        .ours_value = ours_##function, .peer_value = peer_##function                               \
    }
#define THREADS_ROW(title, function)                                                               \
    PEER_ROW(title, "ns", "--peer", bench_ours_##function, bench_peer_##function)
#define SPEEDUP_ROW(title, function)                                                               \
    {                                                                                              \
        .name = "pmm/" title, .unit = "x", .peer_name = "--peer", .plugin = true,                  \
        .ours_value = bench_ours_##function, .peer_value = bench_peer_##function                   \
    }

#define ROWS(size)                                                                                 \
    {                                                                                              \
        ROW(size "-bulk-alloc-4k", bulk_alloc_4k), ROW(size "-bulk-free-4k", bulk_free_4k),        \
            PEER_ROW(size "-batch-256-vs-single-alloc-4k", "ns/frame", "--peer, a frame a call",   \
                     ours_batch_alloc, peer_bulk_alloc_4k),                                        \
            PEER_ROW(size "-batch-256-vs-single-free-4k", "ns/frame", "--peer, a frame a call",    \
                     ours_batch_free, peer_bulk_free_4k),                                          \
            ROW(size "-pair-4k", pair_4k), ROW(size "-bulk-alloc-2m", bulk_alloc_2m),              \
            ROW(size "-bulk-free-2m", bulk_free_2m), ROW(size "-pair-2m", pair_2m),                \
            THREADS_ROW(size "-2-threads-pair-4k", threads_pair),                                  \
            THREADS_ROW(size "-2-threads-bulk-4k", threads_bulk),                                  \
            THREADS_ROW(size "-2-threads-cross-free", threads_cross_free),                         \
            SPEEDUP_ROW(size "-2-threads-speedup-pair-4k", speedup_pair),                          \
            SPEEDUP_ROW(size "-2-threads-speedup-bulk-4k", speedup_bulk),                          \
            ROW(size "-nearly-full-free", nearly_full_free),                                       \
            ROW(size "-nearly-full-alloc", nearly_full_alloc),                                     \
            ROW(size "-nearly-full-both", nearly_full_both),                                       \
            ROW(size "-full-free-1024", full_free_1024),                                           \
            ROW(size "-full-alloc-1024", full_alloc_1024),                                         \
            ROW(size "-full-both-1024", full_both_1024), ROW(size "-full-pair", full_pair),        \
            ROW(size "-init", init), VALUE_ROW(size "-metadata", "bits/frame", metadata),          \
    }

static const struct bench_case small_cases[] = ROWS("4g");
static const struct bench_case large_cases[] = ROWS("64g");

const struct bench_layer bench_pmm_4g = {.name = "pmm",
                                         .layer = SIM_LAYER_PMM,
                                         .ram_bytes = (uint64_t)4 << 30,
                                         .cpus = 2,
                                         .whole = true,
                                         .finish = finish,
                                         .cases = small_cases,
                                         .case_count = BENCH_COUNT(small_cases)};

const struct bench_layer bench_pmm_64g = {.name = "pmm",
                                          .layer = SIM_LAYER_PMM,
                                          .ram_bytes = (uint64_t)64 << 30,
                                          .cpus = 2,
                                          .whole = true,
                                          .finish = finish,
                                          .slow = true,
                                          .cases = large_cases,
                                          .case_count = BENCH_COUNT(large_cases)};
