/* Benchmarks of the frame allocator.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#define BULK 256u

static uint64_t pair(struct neomm *root, unsigned order, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        neomm_frame_t frame;
        if (neomm_pmm_alloc(root, order, NEOMM_NORECLAIM, &frame) != NEOMM_OK ||
            neomm_pmm_free(root, frame, order) != NEOMM_OK)
            return 0;
    }
    return count;
}

static uint64_t pair_4k(struct bench_machine *machine, uint64_t count)
{
    return pair(machine->root, 0, count);
}

static uint64_t pair_2m(struct bench_machine *machine, uint64_t count)
{
    return pair(machine->root, 9, count);
}

static uint64_t bulk(struct bench_machine *machine, uint64_t count)
{
    static neomm_frame_t frames[BULK];
    uint64_t done = 0;
    for (; done < count; done += BULK)
        if (neomm_pmm_alloc_bulk(machine->root, BULK, NEOMM_NORECLAIM, frames) != NEOMM_OK ||
            neomm_pmm_free_bulk(machine->root, BULK, frames, NULL) != NEOMM_OK)
            return 0;
    return done;
}

static uint64_t range(struct bench_machine *machine, uint64_t count)
{
    const struct neomm_range_request request = {.frames = 100, .align = 16, .boundary = 1024};
    for (uint64_t i = 0; i < count; i++) {
        neomm_frame_t first;
        if (neomm_pmm_alloc_range(machine->root, &request, &first) != NEOMM_OK ||
            neomm_pmm_free_range(machine->root, first, request.frames) != NEOMM_OK)
            return 0;
    }
    return count;
}

/* Every second frame is taken and stays so: the search has to look further. */
static neomm_frame_t kept[8192];
static uint32_t kept_count;

static bool fragment(struct bench_machine *machine)
{
    static neomm_frame_t frames[16384];
    if (neomm_pmm_alloc_bulk(machine->root, 16384, NEOMM_NORECLAIM, frames) != NEOMM_OK)
        return false;
    kept_count = 0;
    for (uint32_t i = 0; i < 16384; i++) {
        if (i % 2 == 0)
            kept[kept_count++] = frames[i];
        else if (neomm_pmm_free(machine->root, frames[i], 0) != NEOMM_OK)
            return false;
    }
    return true;
}

static void defragment(struct bench_machine *machine)
{
    (void)neomm_pmm_free_bulk(machine->root, kept_count, kept, NULL);
}

static const struct bench_case cases[] = {
    {.name = "pmm/pair-4k", .unit = "ns", .ours = pair_4k},
    {.name = "pmm/pair-2m", .unit = "ns", .ours = pair_2m},
    {.name = "pmm/bulk-256", .unit = "ns/frame", .ours = bulk},
    {.name = "pmm/range-100", .unit = "ns", .ours = range},
    {.name = "pmm/pair-4k-fragmented",
     .unit = "ns",
     .setup = fragment,
     .teardown = defragment,
     .ours = pair_4k},
    {.name = "pmm/pair-2m-fragmented",
     .unit = "ns",
     .setup = fragment,
     .teardown = defragment,
     .ours = pair_2m},
};

const struct bench_layer bench_pmm = {.name = "pmm",
                                      .layer = SIM_LAYER_PMM,
                                      .ram_bytes = (uint64_t)1 << 30,
                                      .cases = cases,
                                      .case_count = BENCH_COUNT(cases)};
