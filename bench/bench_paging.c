/* Benchmarks of the page-table engine. The peer is what cannot be avoided: the stores to the
 * entries alone.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#define PAGES 512u
#define RW    (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static neomm_vaddr_t window;
static neomm_frame_t frame;

static bool reserve(struct bench_machine *machine)
{
    return neomm_window_alloc(machine->root, PAGES * NEOMM_PAGE_SIZE, &window) == NEOMM_OK &&
           neomm_pmm_alloc(machine->root, 0, 0, &frame) == NEOMM_OK;
}

static void give_back(struct bench_machine *machine)
{
    (void)neomm_window_free(machine->root, window);
    (void)neomm_pmm_free(machine->root, frame, 0);
}

static uint64_t map_unmap(struct neomm *root, uint32_t pages, uint64_t count)
{
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    size_t size = pages * NEOMM_PAGE_SIZE;
    uint64_t done = 0;
    /* What is mapped does not matter: nobody looks at it. */
    for (; done < count; done += pages)
        if (neomm_paging_map(root, kernel, window, neomm_frame_paddr(frame), size, RW,
                             NEOMM_CACHE_WB, NEOMM_MAP_SMALL) != NEOMM_OK ||
            neomm_paging_unmap(root, kernel, window, size, NULL, NULL, NULL) != NEOMM_OK)
            return 0;
    return done;
}

static uint64_t map_one(struct bench_machine *machine, uint64_t count)
{
    return map_unmap(machine->root, 1, count);
}

static uint64_t map_range(struct bench_machine *machine, uint64_t count)
{
    return map_unmap(machine->root, PAGES, count);
}

/* Entries written and cleared again, `pages` at a time. */
static uint64_t stores(uint32_t pages, uint64_t count)
{
    static uint64_t table[PAGES];
    uint64_t done = 0;
    for (; done < count; done += pages) {
        for (uint32_t i = 0; i < pages; i++)
            table[i] = ((uint64_t)i << NEOMM_PAGE_SHIFT) | 0x8000000000000103u;
        bench_use(table);
        for (uint32_t i = 0; i < pages; i++)
            table[i] = 0;
        bench_use(table);
    }
    return done;
}

static uint64_t store_one(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    return stores(1, count);
}

static uint64_t store_range(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    return stores(PAGES, count);
}

static bool reserve_mapped(struct bench_machine *machine)
{
    return reserve(machine) &&
           neomm_paging_map(machine->root, neomm_paging_kernel(machine->root), window,
                            neomm_frame_paddr(frame), PAGES * NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB,
                            NEOMM_MAP_SMALL) == NEOMM_OK;
}

static void give_back_mapped(struct bench_machine *machine)
{
    (void)neomm_paging_unmap(machine->root, neomm_paging_kernel(machine->root), window,
                             PAGES * NEOMM_PAGE_SIZE, NULL, NULL, NULL);
    give_back(machine);
}

static uint64_t query(struct bench_machine *machine, uint64_t count)
{
    struct neomm_tables *kernel = neomm_paging_kernel(machine->root);
    struct neomm_mapping mapping;
    for (uint64_t i = 0; i < count; i++)
        if (neomm_paging_query(machine->root, kernel, window + i % PAGES * NEOMM_PAGE_SIZE,
                               &mapping) != NEOMM_OK ||
            mapping.state != NEOMM_MAPPING_PRESENT)
            return 0;
    return count;
}

static uint64_t protect_range(struct bench_machine *machine, uint64_t count)
{
    struct neomm_tables *kernel = neomm_paging_kernel(machine->root);
    uint64_t done = 0;
    for (; done < count; done += 2 * PAGES)
        if (neomm_paging_protect(machine->root, kernel, window, PAGES * NEOMM_PAGE_SIZE,
                                 NEOMM_PROT_READ) != NEOMM_OK ||
            neomm_paging_protect(machine->root, kernel, window, PAGES * NEOMM_PAGE_SIZE, RW) !=
                NEOMM_OK)
            return 0;
    return done;
}

static const struct bench_case cases[] = {
    {.name = "paging/map-unmap-1",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = reserve,
     .teardown = give_back,
     .ours = map_one,
     .peer = store_one},
    {.name = "paging/map-unmap-512",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = reserve,
     .teardown = give_back,
     .ours = map_range,
     .peer = store_range},
    {.name = "paging/protect-512",
     .unit = "ns/page",
     .setup = reserve_mapped,
     .teardown = give_back_mapped,
     .ours = protect_range},
    {.name = "paging/query",
     .unit = "ns",
     .setup = reserve_mapped,
     .teardown = give_back_mapped,
     .ours = query},
};

const struct bench_layer bench_paging = {.name = "paging",
                                         .layer = SIM_LAYER_PAGING,
                                         .ram_bytes = (uint64_t)64 << 20,
                                         .cases = cases,
                                         .case_count = BENCH_COUNT(cases)};
