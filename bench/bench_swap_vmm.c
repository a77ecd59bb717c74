/* Pages a second from a process to swap on a device in RAM, and back: through the compressed pool
 * and without.
 * SPDX-License-Identifier: MIT */
#include "bench_swap_vmm.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS (4 * BENCH_SWAP_PAGES) /* swap is never half full: copies keep their slots */
#define BYTES ((uint64_t)BENCH_SWAP_PAGES * NEOMM_PAGE_SIZE)

/* ---- the device ---- */

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct bench_swapper *swapper = device->context;
    swapper->submissions++;
    swapper->requests += count;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = swapper->memory + (size_t)requests[i]->page * NEOMM_PAGE_SIZE;
        void *page = neomm_frame_map(swapper->root, requests[i]->frame);
        if (requests[i]->operation == NEOMM_BLOCK_WRITE)
            memcpy(at, page, NEOMM_PAGE_SIZE);
        else if (requests[i]->operation == NEOMM_BLOCK_READ)
            memcpy(page, at, NEOMM_PAGE_SIZE);
        neomm_frame_unmap(swapper->root, page);
        requests[i]->status = NEOMM_OK;
        requests[i]->done(requests[i]);
    }
}

/* As mkswap writes it; docs/swap.md says where that is described. */
static void write_header(uint8_t *page)
{
    const uint32_t version_and_last[] = {1, SLOTS};
    memcpy(page + 1024, version_and_last, sizeof(version_and_last));
    memcpy(page + 4086, "SWAPSPACE2", 10);
}

/* ---- the process: its pages fill page tables, since no batch is of two ---- */

static bool handle_fault(void *context, neomm_vaddr_t address, uint32_t error)
{
    const struct bench_swapper *swapper = context;
    struct neomm_fault_result result;
    return neomm_fault(swapper->root, swapper->space, address, error, &result) ==
           NEOMM_FAULT_RESOLVED;
}

bool bench_swapper_start(struct bench_swapper *swapper, struct sim_system *system)
{
    struct neomm *root = system->root;
    *swapper = (struct bench_swapper){.root = root, .start = (neomm_vaddr_t)1 << 30};
    swapper->memory = calloc(SLOTS + 1, NEOMM_PAGE_SIZE);
    if (!swapper->memory || neomm_space_create(root, NULL, &swapper->space) != NEOMM_OK)
        return false;
    write_header(swapper->memory);
    swapper->device = (struct neomm_block_device){
        .name = "ram", .pages = SLOTS + 1, .context = swapper, .submit = submit};
    sim_set_fault_handler(system->sim, handle_fault, swapper);
    neomm_space_activate(root, swapper->space);
    return neomm_swap_add(root, &swapper->device, 0) == NEOMM_OK &&
           neomm_mmap(root, swapper->space, &swapper->start, BYTES,
                      NEOMM_PROT_READ | NEOMM_PROT_WRITE, NEOMM_MAP_EXACT) == NEOMM_OK;
}

void bench_swapper_end(struct bench_swapper *swapper)
{
    if (swapper->space) {
        neomm_space_activate(swapper->root, NULL);
        (void)neomm_space_destroy(swapper->root, swapper->space);
        (void)neomm_swap_remove(swapper->root, &swapper->device, NULL, NULL);
    }
    free(swapper->memory);
}

static const void *contents_of(struct bench_machine *machine, enum bench_contents contents,
                               uint32_t i)
{
    static uint64_t page[NEOMM_PAGE_SIZE / sizeof(uint64_t)];
    if (contents == BENCH_TEXT)
        return bench_corpus_page(machine, i);
    for (uint32_t j = 0; j < BENCH_COUNT(page); j++)
        page[j] = contents == BENCH_RANDOM ? bench_random(machine) : i + 1;
    return page;
}

bool bench_swapper_fill(struct bench_swapper *swapper, struct bench_machine *machine,
                        enum bench_contents contents)
{
    for (uint32_t i = 0; i < BENCH_SWAP_PAGES; i++) {
        const void *page = contents_of(machine, contents, i);
        if (!page || neomm_copy_to_user(swapper->root, swapper->space,
                                        swapper->start + (neomm_vaddr_t)i * NEOMM_PAGE_SIZE, page,
                                        NEOMM_PAGE_SIZE, NULL) != NEOMM_OK)
            return false;
    }
    return true;
}

bool bench_swapper_out(struct bench_swapper *swapper, bool one_by_one)
{
    if (!one_by_one)
        return neomm_space_swap_out(swapper->root, swapper->space) == BENCH_SWAP_PAGES;
    for (uint32_t i = 0; i < BENCH_SWAP_PAGES; i++)
        if (neomm_madvise(swapper->root, swapper->space,
                          swapper->start + (neomm_vaddr_t)i * NEOMM_PAGE_SIZE, NEOMM_PAGE_SIZE,
                          NEOMM_ADVICE_PAGEOUT) != NEOMM_OK)
            return false;
    return true;
}

/* A page that came with another one does not fault. */
static bool touch(struct bench_swapper *swapper, neomm_vaddr_t address)
{
    struct neomm_fault_result result;
    uint8_t there = 0;
    if (neomm_mincore(swapper->root, swapper->space, address, NEOMM_PAGE_SIZE, &there) != NEOMM_OK)
        return false;
    return there || neomm_fault(swapper->root, swapper->space, address, NEOMM_PF_USER, &result) ==
                        NEOMM_FAULT_RESOLVED;
}

bool bench_swapper_advise(struct bench_swapper *swapper, enum neomm_advice advice)
{
    return neomm_madvise(swapper->root, swapper->space, swapper->start, BYTES, advice) == NEOMM_OK;
}

bool bench_swapper_in(struct bench_swapper *swapper)
{
    for (uint32_t i = 0; i < BENCH_SWAP_PAGES; i++)
        if (!touch(swapper, swapper->start + (neomm_vaddr_t)i * NEOMM_PAGE_SIZE))
            return false;
    return true;
}

/* ---- pages a second ---- */

static struct bench_swapper swapper;

static bool start(struct bench_machine *machine)
{
    return bench_swapper_start(&swapper, &machine->system);
}

static void end(struct bench_machine *machine)
{
    (void)machine;
    bench_swapper_end(&swapper);
}

static double rate(uint64_t rounds, uint64_t time)
{
    return time ? (double)rounds * BENCH_SWAP_PAGES * 1e9 / (double)time : 0;
}

static double out(struct bench_machine *machine, enum bench_contents contents, bool one_by_one)
{
    uint64_t rounds = 0, time = 0;
    for (; time < machine->nanoseconds; rounds++) {
        if (!bench_swapper_fill(&swapper, machine, contents))
            return 0;
        uint64_t begun = bench_time();
        if (!bench_swapper_out(&swapper, one_by_one))
            return 0;
        time += bench_time() - begun;
    }
    return rate(rounds, time);
}

static double in(struct bench_machine *machine, enum bench_contents contents,
                 enum neomm_advice advice)
{
    uint64_t rounds = 0, time = 0;
    if (!bench_swapper_fill(&swapper, machine, contents) || !bench_swapper_advise(&swapper, advice))
        return 0;
    for (; time < machine->nanoseconds; rounds++) {
        if (!bench_swapper_out(&swapper, false))
            return 0;
        uint64_t begun = bench_time();
        if (!bench_swapper_in(&swapper))
            return 0;
        time += bench_time() - begun;
    }
    return rate(rounds, time);
}

#define BOTH(name, contents)                                                                       \
    static double out_##name(struct bench_machine *machine)                                        \
    {                                                                                              \
        return out(machine, contents, false);                                                      \
    }                                                                                              \
    static double in_##name(struct bench_machine *machine)                                         \
    {                                                                                              \
        return in(machine, contents, NEOMM_ADVICE_RANDOM);                                         \
    }

BOTH(text, BENCH_TEXT)
BOTH(random, BENCH_RANDOM)
BOTH(filled, BENCH_FILLED)

static double out_one(struct bench_machine *machine)
{
    return out(machine, BENCH_RANDOM, true);
}

static double in_ahead(struct bench_machine *machine)
{
    return in(machine, BENCH_RANDOM, NEOMM_ADVICE_SEQUENTIAL);
}

#define ROW(id, function)                                                                          \
    {                                                                                              \
        .name = "swap/process-" id, .unit = "pages/s", .setup = start, .teardown = end,            \
        .ours_value = function                                                                     \
    }
#define ROWS(where)                                                                                \
    ROW(where "-out-text", out_text), ROW(where "-out-random", out_random),                        \
        ROW(where "-out-filled", out_filled), ROW(where "-out-one-by-one", out_one),               \
        ROW(where "-in-text", in_text), ROW(where "-in-random", in_random),                        \
        ROW(where "-in-filled", in_filled), ROW(where "-in-ahead", in_ahead)

static const struct bench_case pool_cases[] = {ROWS("pool")};
static const struct bench_case device_cases[] = {ROWS("device")};

const struct bench_layer bench_process_pool = {.name = "swap",
                                               .layer = SIM_LAYER_VMM,
                                               .ram_bytes = (uint64_t)64 << 20,
                                               .readahead = BENCH_SWAP_AHEAD,
                                               .cases = pool_cases,
                                               .case_count = BENCH_COUNT(pool_cases)};
const struct bench_layer bench_process_device = {.name = "swap",
                                                 .layer = SIM_LAYER_VMM,
                                                 .ram_bytes = (uint64_t)64 << 20,
                                                 .readahead = BENCH_SWAP_AHEAD,
                                                 .no_pool = true,
                                                 .cases = device_cases,
                                                 .case_count = BENCH_COUNT(device_cases)};
