/* Benchmarks of swap: pages to a RAM disk and back against a plain copy, and what a replacement
 * policy costs for each page it tests.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include <string.h>

#define BATCH  NEOMM_POLICY_BATCH
#define FRAMES 4096u

static struct neomm_swap_page pages[BATCH];

/* A batch of frames with slots and contents of which no word repeats. */
static bool take_batch(struct bench_machine *machine)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        if (neomm_pmm_alloc(machine->root, 0, 0, &pages[i].frame) != NEOMM_OK ||
            neomm_swap_alloc(machine->root, 1, &pages[i].entry) != NEOMM_OK)
            return false;
        uint64_t *word = neomm_frame_map(machine->root, pages[i].frame);
        for (uint32_t j = 0; j < NEOMM_PAGE_SIZE / sizeof(*word); j++)
            word[j] = bench_random(machine);
        neomm_frame_unmap(machine->root, word);
    }
    return neomm_swap_write(machine->root, pages, BATCH) == NEOMM_OK;
}

static void free_batch(struct bench_machine *machine)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        (void)neomm_swap_free(machine->root, pages[i].entry);
        (void)neomm_pmm_free(machine->root, pages[i].frame, 0);
    }
}

static uint64_t write_pages(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += BATCH)
        if (neomm_swap_write(machine->root, pages, BATCH) != NEOMM_OK)
            return 0;
    return done;
}

static uint64_t read_pages(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += BATCH)
        if (neomm_swap_read(machine->root, pages, BATCH) != NEOMM_OK)
            return 0;
    return done;
}

static uint64_t copy_pages(struct bench_machine *machine, uint64_t count)
{
    static uint8_t disk[BATCH][4096];
    uint64_t done = 0;
    for (; done < count; done += BATCH)
        for (uint32_t i = 0; i < BATCH; i++) {
            void *page = neomm_frame_map(machine->root, pages[i].frame);
            memcpy(disk[i], page, sizeof(disk[i]));
            bench_use(disk[i]);
            neomm_frame_unmap(machine->root, page);
        }
    return done;
}

/* ---- policies ---- */

static struct neomm_policy policy;
static neomm_frame_t frames[FRAMES];

static bool fill_policy(struct bench_machine *machine, const char *name)
{
    const struct neomm_policy_ops *ops = neomm_policy_find(machine->root, name);
    if (!ops || neomm_pmm_alloc_bulk(machine->root, FRAMES, 0, frames) != NEOMM_OK)
        return false;
    neomm_policy_init(&policy, machine->root, ops, 1);
    for (uint32_t i = 0; i < FRAMES; i++)
        ops->enter(&policy, frames[i]);
    return true;
}

static bool fill_clock(struct bench_machine *machine)
{
    return fill_policy(machine, "clock");
}

static bool fill_fifo(struct bench_machine *machine)
{
    return fill_policy(machine, "fifo");
}

static void empty_policy(struct bench_machine *machine)
{
    const struct neomm_swap_entry none = {0, 0, 0};
    for (uint32_t i = 0; i < FRAMES; i++)
        policy.ops->leave(&policy, frames[i], &none);
    (void)neomm_pmm_free_bulk(machine->root, FRAMES, frames, NULL);
}

/* One candidate after the other; three of four were used, a victim leaves and comes again. */
static uint64_t test_pages(struct bench_machine *machine, uint64_t count)
{
    const struct neomm_swap_entry none = {0, 0, 0};
    for (uint64_t i = 0; i < count; i++) {
        neomm_frame_t frame;
        bool accessed = (bench_random(machine) & 3) != 0;
        if (policy.ops->candidates(&policy, &frame, 1) != 1)
            return 0;
        if (policy.ops->tested(&policy, frame, accessed, false) == NEOMM_EVICT) {
            policy.ops->leave(&policy, frame, &none);
            policy.ops->enter(&policy, frame);
        }
    }
    return count;
}

static const struct bench_case cases[] = {
    {.name = "swap/out",
     .unit = "ns/page",
     .peer_name = "a copy",
     .setup = take_batch,
     .teardown = free_batch,
     .ours = write_pages,
     .peer = copy_pages},
    {.name = "swap/in",
     .unit = "ns/page",
     .peer_name = "a copy",
     .setup = take_batch,
     .teardown = free_batch,
     .ours = read_pages,
     .peer = copy_pages},
    {.name = "swap/policy-clock",
     .unit = "ns/page",
     .setup = fill_clock,
     .teardown = empty_policy,
     .ours = test_pages},
    {.name = "swap/policy-fifo",
     .unit = "ns/page",
     .setup = fill_fifo,
     .teardown = empty_policy,
     .ours = test_pages},
};

const struct bench_layer bench_swap = {.name = "swap",
                                       .layer = SIM_LAYER_SWAP,
                                       .ram_bytes = (uint64_t)64 << 20,
                                       .swap_pages = 4096,
                                       .cases = cases,
                                       .case_count = BENCH_COUNT(cases)};

/* The same, encrypted: of pages that do not compress, so that all go to the disk. */
static const struct bench_case encrypted_cases[] = {
    {.name = "swap/out-encrypted",
     .unit = "ns/page",
     .peer_name = "a copy",
     .setup = take_batch,
     .teardown = free_batch,
     .ours = write_pages,
     .peer = copy_pages},
    {.name = "swap/in-encrypted",
     .unit = "ns/page",
     .peer_name = "a copy",
     .setup = take_batch,
     .teardown = free_batch,
     .ours = read_pages,
     .peer = copy_pages},
};

const struct bench_layer bench_swap_encrypted = {.name = "swap",
                                                 .layer = SIM_LAYER_SWAP,
                                                 .ram_bytes = (uint64_t)64 << 20,
                                                 .swap_pages = 4096,
                                                 .encrypted = true,
                                                 .cases = encrypted_cases,
                                                 .case_count = BENCH_COUNT(encrypted_cases)};
