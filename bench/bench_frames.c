/* The frame allocator beside another one (--peer): single frames and huge ones, memory nearly
 * full and full, two threads, metadata, initialisation.
 * SPDX-License-Identifier: MIT
 *
 * Both sides are called through pointers and keep what they got in an array of their own, which
 * stays filled from one measurement to the next: filling 64 GiB takes longer than measuring.
 */
#include "bench.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BULK_FRAMES 65536u
#define BULK_HUGE   256u
#define SWAPPED     1024u /* frames freed and allocated again when memory is nearly full */
#define HUGE        9u

enum level { EMPTY, NEARLY_FULL, FULL };

struct side_state {
    void *allocator;
    bench_peer_alloc_fn *alloc;
    bench_peer_free_fn *free;
    uint32_t *frame;
    uint64_t count, capacity;
    enum level level;
};

static struct side_state sides[2]; /* ours, the peer's */

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

static bool open_side(struct side_state *side, uint64_t capacity)
{
    side->capacity = capacity;
    side->frame = calloc(capacity, sizeof(side->frame[0]));
    return side->frame && side->allocator;
}

static struct side_state *our_side(struct bench_machine *machine)
{
    struct side_state *side = &sides[0];
    if (!side->frame) {
        *side = (struct side_state){machine->root, ours_alloc, ours_free, NULL, 0, 0, EMPTY};
        if (!open_side(side, all_frames(machine)))
            return NULL;
    }
    return side;
}

static struct side_state *peer_side(struct bench_machine *machine)
{
    struct side_state *side = &sides[1];
    if (!side->frame) {
        void *allocator = machine->peer->init(NULL, all_frames(machine), 2);
        *side = (struct side_state){
            allocator, machine->peer->alloc, machine->peer->free, NULL, 0, 0, EMPTY};
        if (!open_side(side, all_frames(machine)))
            return NULL;
    }
    return side;
}

/* ---- filling ---- */

static bool take(struct side_state *side, uint32_t order)
{
    uint64_t frame = side->alloc(side->allocator, 0, order);
    if (frame == BENCH_PEER_NONE || side->count == side->capacity)
        return false;
    side->frame[side->count++] = (uint32_t)frame;
    return true;
}

static void give_all(struct side_state *side, uint32_t order)
{
    while (side->count > 0)
        (void)side->free(side->allocator, 0, side->frame[--side->count], order);
    side->level = EMPTY;
}

static void fill(struct side_state *side)
{
    while (take(side, 0))
        continue;
    side->level = FULL;
}

/* Takes the array's last frame out of it after putting it where a random one was. */
static uint32_t pick_random(struct bench_machine *machine, struct side_state *side)
{
    uint64_t at = bench_random(machine) % side->count;
    uint32_t frame = side->frame[at];
    side->frame[at] = side->frame[--side->count];
    return frame;
}

static bool reach(struct bench_machine *machine, struct side_state *side, enum level level)
{
    if (!side || side->level == level)
        return side;
    if (level == EMPTY) {
        give_all(side, 0);
        return true;
    }
    fill(side);
    if (level == NEARLY_FULL)
        for (uint64_t left = side->count / 10; left > 0; left--)
            if (!side->free(side->allocator, 0, pick_random(machine, side), 0))
                return false;
    side->level = level;
    return true;
}

/* ---- what is measured; each for either side ---- */

static uint64_t bulk(struct bench_machine *machine, struct side_state *side, uint64_t count,
                     uint32_t order, bool freeing)
{
    uint64_t done = 0, blocks = order ? BULK_HUGE : BULK_FRAMES;
    if (!reach(machine, side, EMPTY))
        return 0;
    for (; done < count; done += blocks) {
        uint64_t start = bench_time();
        for (uint64_t i = 0; i < blocks; i++)
            if (!take(side, order))
                return 0;
        uint64_t middle = bench_time();
        for (uint64_t i = 0; i < blocks; i++)
            if (!side->free(side->allocator, 0, side->frame[i], order))
                return 0;
        uint64_t end = bench_time();
        machine->untimed += freeing ? middle - start : end - middle;
        side->count = 0;
    }
    return done;
}

static uint64_t pair(struct bench_machine *machine, struct side_state *side, uint64_t count,
                     uint32_t order)
{
    if (!reach(machine, side, EMPTY))
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

static uint64_t nearly_full(struct bench_machine *machine, struct side_state *side, uint64_t count,
                            bool freeing)
{
    static uint32_t picked[SWAPPED];
    uint64_t done = 0, begun = bench_time();
    if (!reach(machine, side, NEARLY_FULL))
        return 0;
    machine->untimed += bench_time() - begun;
    for (; done < count; done += SWAPPED) {
        uint64_t start = bench_time();
        for (uint32_t i = 0; i < SWAPPED; i++)
            picked[i] = pick_random(machine, side);
        uint64_t ready = bench_time();
        for (uint32_t i = 0; i < SWAPPED; i++)
            if (!side->free(side->allocator, 0, picked[i], 0))
                return 0;
        uint64_t middle = bench_time();
        for (uint32_t i = 0; i < SWAPPED; i++)
            if (!take(side, 0))
                return 0;
        machine->untimed += ready - start;
        machine->untimed += freeing ? bench_time() - middle : middle - ready;
    }
    return done;
}

static uint64_t full_pair(struct bench_machine *machine, struct side_state *side, uint64_t count)
{
    uint64_t begun = bench_time();
    if (!reach(machine, side, FULL))
        return 0;
    machine->untimed += bench_time() - begun;
    for (uint64_t i = 0; i < count; i++)
        if (!side->free(side->allocator, 0, pick_random(machine, side), 0) || !take(side, 0))
            return 0;
    return count;
}

/* ---- two threads ---- */

enum job { JOB_PAIR, JOB_BULK, JOB_CROSS };

struct worker {
    pthread_t thread;
    struct bench_machine *machine;
    struct side_state *side;
    pthread_barrier_t *barrier;
    struct worker *other;
    enum job job;
    uint32_t cpu;
    uint64_t count;
    uint64_t time; /* of what is measured */
    bool failed;
    uint32_t frame[BULK_FRAMES / 4];
};

#define WORKER_FRAMES (BULK_FRAMES / 4)

static void worker_take(struct worker *w)
{
    for (uint32_t i = 0; i < WORKER_FRAMES; i++) {
        uint64_t frame = w->side->alloc(w->side->allocator, w->cpu, 0);
        w->failed |= frame == BENCH_PEER_NONE;
        w->frame[i] = (uint32_t)frame;
    }
}

static void worker_give(struct worker *w, const uint32_t *frame)
{
    for (uint32_t i = 0; i < WORKER_FRAMES; i++)
        w->failed |= !w->side->free(w->side->allocator, w->cpu, frame[i], 0);
}

static void shuffle(struct worker *w)
{
    uint64_t random = w->cpu + 1;
    for (uint32_t i = WORKER_FRAMES - 1; i > 0; i--) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t j = (uint32_t)((random >> 33) % (i + 1)), frame = w->frame[i];
        w->frame[i] = w->frame[j];
        w->frame[j] = frame;
    }
}

static void worker_round(struct worker *w)
{
    uint64_t start = bench_time();
    if (w->job == JOB_PAIR) {
        for (uint32_t i = 0; i < WORKER_FRAMES; i++) {
            uint64_t frame = w->side->alloc(w->side->allocator, w->cpu, 0);
            w->failed |=
                frame == BENCH_PEER_NONE || !w->side->free(w->side->allocator, w->cpu, frame, 0);
        }
    } else {
        worker_take(w);
        if (w->job == JOB_CROSS) {
            shuffle(w);
            pthread_barrier_wait(w->barrier);
            start = bench_time();
        }
        worker_give(w, w->job == JOB_CROSS ? w->other->frame : w->frame);
    }
    w->time += bench_time() - start;
    if (w->job == JOB_CROSS)
        pthread_barrier_wait(w->barrier);
}

static void work(struct worker *w)
{
    pthread_barrier_wait(w->barrier);
    for (uint64_t done = 0; done < w->count; done += WORKER_FRAMES)
        worker_round(w);
}

static void *work_in_thread(void *argument)
{
    struct worker *w = argument;
    sim_bind(w->machine->system.sim, w->cpu);
    work(w);
    sim_unbind();
    return NULL;
}

/* Each thread does `count` operations; the first one's time counts. */
static uint64_t two_threads(struct bench_machine *machine, struct side_state *side, uint64_t count,
                            enum job job)
{
    static struct worker worker[2];
    pthread_barrier_t barrier;
    uint64_t begun = bench_time();
    if (!reach(machine, side, EMPTY) || pthread_barrier_init(&barrier, NULL, 2) != 0)
        return 0;
    for (uint32_t i = 0; i < 2; i++)
        worker[i] = (struct worker){.machine = machine,
                                    .side = side,
                                    .barrier = &barrier,
                                    .other = &worker[1 - i],
                                    .job = job,
                                    .cpu = i,
                                    .count = count};
    if (pthread_create(&worker[1].thread, NULL, work_in_thread, &worker[1]) != 0)
        return 0;
    work(&worker[0]);
    pthread_join(worker[1].thread, NULL);
    pthread_barrier_destroy(&barrier);
    machine->untimed += bench_time() - begun - worker[0].time;
    if (worker[0].failed || worker[1].failed)
        return 0;
    return (count + WORKER_FRAMES - 1) / WORKER_FRAMES * WORKER_FRAMES * (job == JOB_BULK ? 2 : 1);
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
    struct side_state *side = peer_side(machine);
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
    for (unsigned i = 0; i < 2; i++) {
        if (i == 0 && sides[i].frame)
            (void)reach(machine, &sides[i], EMPTY);
        free(sides[i].frame);
        sides[i] = (struct side_state){0};
    }
}

/* ---- the table ---- */

#define BOTH(name, call)                                                                           \
    static uint64_t ours_##name(struct bench_machine *machine, uint64_t count)                     \
    {                                                                                              \
        struct side_state *side = our_side(machine);                                               \
        return side ? call : 0;                                                                    \
    }                                                                                              \
    static uint64_t peer_##name(struct bench_machine *machine, uint64_t count)                     \
    {                                                                                              \
        struct side_state *side = peer_side(machine);                                              \
        return side ? call : 0;                                                                    \
    }

BOTH(bulk_alloc_4k, bulk(machine, side, count, 0, false))
BOTH(bulk_free_4k, bulk(machine, side, count, 0, true))
BOTH(pair_4k, pair(machine, side, count, 0))
BOTH(bulk_alloc_2m, bulk(machine, side, count, HUGE, false))
BOTH(bulk_free_2m, bulk(machine, side, count, HUGE, true))
BOTH(pair_2m, pair(machine, side, count, HUGE))
BOTH(threads_pair, two_threads(machine, side, count, JOB_PAIR))
BOTH(threads_bulk, two_threads(machine, side, count, JOB_BULK))
BOTH(threads_cross_free, two_threads(machine, side, count, JOB_CROSS))
BOTH(nearly_full_free, nearly_full(machine, side, count, true))
BOTH(nearly_full_alloc, nearly_full(machine, side, count, false))
BOTH(full_pair, full_pair(machine, side, count))

#define ROW(size, id, row_unit, function)                                                          \
    {                                                                                              \
        .name = "pmm/" size "-" id, .unit = row_unit, .peer_name = "--peer", .plugin = true,       \
        .ours = ours_##function, .peer = peer_##function                                           \
    }

#define ROWS(size)                                                                                 \
    {                                                                                              \
        ROW(size, "bulk-alloc-4k", "ns", bulk_alloc_4k),                                           \
            ROW(size, "bulk-free-4k", "ns", bulk_free_4k), ROW(size, "pair-4k", "ns", pair_4k),    \
            ROW(size, "bulk-alloc-2m", "ns", bulk_alloc_2m),                                       \
            ROW(size, "bulk-free-2m", "ns", bulk_free_2m), ROW(size, "pair-2m", "ns", pair_2m),    \
            ROW(size, "2-threads-pair-4k", "ns", threads_pair),                                    \
            ROW(size, "2-threads-bulk-4k", "ns", threads_bulk),                                    \
            ROW(size, "2-threads-cross-free", "ns", threads_cross_free),                           \
            ROW(size, "nearly-full-free", "ns", nearly_full_free),                                 \
            ROW(size, "nearly-full-alloc", "ns", nearly_full_alloc),                               \
            ROW(size, "full-pair", "ns", full_pair), ROW(size, "init", "ns", init),                \
            {.name = "pmm/" size "-metadata",                                                      \
             .unit = "bits/frame",                                                                 \
             .peer_name = "--peer",                                                                \
             .plugin = true,                                                                       \
             .ours_value = ours_metadata,                                                          \
             .peer_value = peer_metadata},                                                         \
    }

static const struct bench_case small_cases[] = ROWS("4g");
static const struct bench_case large_cases[] = ROWS("64g");

const struct bench_layer bench_pmm_4g = {.name = "pmm",
                                         .layer = SIM_LAYER_PMM,
                                         .ram_bytes = (uint64_t)4 << 30,
                                         .cpus = 2,
                                         .finish = finish,
                                         .cases = small_cases,
                                         .case_count = BENCH_COUNT(small_cases)};

const struct bench_layer bench_pmm_64g = {.name = "pmm",
                                          .layer = SIM_LAYER_PMM,
                                          .ram_bytes = (uint64_t)64 << 30,
                                          .cpus = 2,
                                          .finish = finish,
                                          .slow = true,
                                          .cases = large_cases,
                                          .case_count = BENCH_COUNT(large_cases)};
