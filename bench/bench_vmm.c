/* Benchmarks of address spaces. The peer is the host's kernel; its calls include the way into the
 * kernel and back, ours do not.
 * SPDX-License-Identifier: MIT */
#include "bench_vmm.h"

#include <string.h>
#include <sys/mman.h>

#define PAGES      256u
#define BYTES      (PAGES * NEOMM_PAGE_SIZE)
#define FORK_PAGES 1024u
#define FORK_BYTES (FORK_PAGES * NEOMM_PAGE_SIZE)
#define RW         (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static struct neomm_space *space;
static uint32_t regions;

static bool make_space(struct bench_machine *machine)
{
    if (neomm_space_create(machine->root, NULL, &space) != NEOMM_OK)
        return false;
    neomm_space_activate(machine->root, space);
    return true;
}

static void end_space(struct bench_machine *machine)
{
    neomm_space_activate(machine->root, NULL);
    (void)neomm_space_destroy(machine->root, space);
}

static uint64_t map_unmap(struct bench_machine *machine, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        neomm_vaddr_t address = 0;
        if (neomm_mmap(machine->root, space, &address, BYTES, RW, 0) != NEOMM_OK ||
            neomm_munmap(machine->root, space, address, BYTES) != NEOMM_OK)
            return 0;
    }
    return count;
}

static uint64_t map_unmap_page(struct bench_machine *machine, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        neomm_vaddr_t address = 0;
        if (neomm_mmap(machine->root, space, &address, NEOMM_PAGE_SIZE, RW, 0) != NEOMM_OK ||
            neomm_munmap(machine->root, space, address, NEOMM_PAGE_SIZE) != NEOMM_OK)
            return 0;
    }
    return count;
}

/* Regions of a page, with a free page between them; not alike those of map_unmap_page. */
static bool make_regions(struct bench_machine *machine, uint32_t count)
{
    if (!make_space(machine))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        neomm_vaddr_t address = (neomm_vaddr_t)(1024 + 2 * i) * NEOMM_PAGE_SIZE;
        if (neomm_mmap(machine->root, space, &address, NEOMM_PAGE_SIZE, NEOMM_PROT_READ,
                       NEOMM_MAP_EXACT) != NEOMM_OK)
            return false;
    }
    regions = count;
    return true;
}

static bool make_thousand(struct bench_machine *machine)
{
    return make_regions(machine, 1000);
}

static bool make_hundred_thousand(struct bench_machine *machine)
{
    return make_regions(machine, 100000);
}

static uint64_t look_up(struct bench_machine *machine, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t n = (uint32_t)((bench_random(machine) & 0xffffffff) * regions >> 32);
        neomm_vaddr_t address = (neomm_vaddr_t)(1024 + 2 * n) * NEOMM_PAGE_SIZE;
        struct neomm_region_info info;
        if (neomm_region_at(machine->root, space, address, &info) != NEOMM_OK ||
            info.start != address)
            return 0;
    }
    return count;
}

static void *host_map(void)
{
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, BYTES, MADV_NOHUGEPAGE);
    return memory;
}

static uint64_t host_map_unmap(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    for (uint64_t i = 0; i < count; i++) {
        void *memory =
            mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || munmap(memory, BYTES) != 0)
            return 0;
    }
    return count;
}

static bool touch(struct bench_machine *machine, struct neomm_space *toucher, neomm_vaddr_t start,
                  uint32_t pages)
{
    struct neomm_fault_result result;
    for (uint32_t i = 0; i < pages; i++)
        if (neomm_fault(machine->root, toucher, start + i * NEOMM_PAGE_SIZE,
                        NEOMM_PF_WRITE | NEOMM_PF_USER, &result) != NEOMM_FAULT_RESOLVED)
            return false;
    return true;
}

/* First touches, with the mapping made and taken away again. */
static uint64_t demand_zero(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += PAGES) {
        neomm_vaddr_t address = 0;
        if (neomm_mmap(machine->root, space, &address, BYTES, RW, 0) != NEOMM_OK ||
            !touch(machine, space, address, PAGES) ||
            neomm_munmap(machine->root, space, address, BYTES) != NEOMM_OK)
            return 0;
    }
    return done;
}

/* What of it is clearing: as many frames, in turns, as the faults get. */
static uint64_t clear_frames(struct bench_machine *machine, uint64_t count)
{
    neomm_frame_t frames[PAGES];
    uint64_t done = 0, begun = bench_time();
    if (neomm_pmm_alloc_bulk(machine->root, PAGES, 0, frames) != NEOMM_OK)
        return 0;
    machine->untimed += bench_time() - begun;
    for (; done < count; done += PAGES)
        for (uint32_t i = 0; i < PAGES; i++) {
            void *page = neomm_frame_map(machine->root, frames[i]);
            memset(page, 0, NEOMM_PAGE_SIZE);
            bench_use(page);
            neomm_frame_unmap(machine->root, page);
        }
    begun = bench_time();
    neomm_status status = neomm_pmm_free_bulk(machine->root, PAGES, frames, NULL);
    machine->untimed += bench_time() - begun;
    return status == NEOMM_OK ? done : 0;
}

/* ---- fork ---- */

static neomm_vaddr_t forked;

/* Pages that were touched, in two tables or three. */
static bool make_parent(struct bench_machine *machine)
{
    forked = 0;
    return make_space(machine) &&
           neomm_mmap(machine->root, space, &forked, FORK_BYTES, RW, 0) == NEOMM_OK &&
           touch(machine, space, forked, FORK_PAGES);
}

/* Forks, and what comes before and after it: the time of `fork` alone, or of the child's writes.
 * The parent writes in between, so that each fork takes the right to write from each leaf. */
static uint64_t forks(struct bench_machine *machine, uint64_t count, bool copies)
{
    uint64_t done = 0, begun = bench_time(), time = 0;
    for (; done < count; done += FORK_PAGES) {
        struct neomm_space *child;
        uint64_t start = bench_time();
        if (neomm_space_fork(machine->root, space, &child) != NEOMM_OK)
            return 0;
        uint64_t middle = bench_time();
        bool good = !copies || touch(machine, child, forked, FORK_PAGES);
        time += copies ? bench_time() - middle : middle - start;
        if (neomm_space_destroy(machine->root, child) != NEOMM_OK || !good ||
            !touch(machine, space, forked, FORK_PAGES))
            return 0;
    }
    machine->untimed += bench_time() - begun - time;
    return done;
}

static uint64_t fork_pages(struct bench_machine *machine, uint64_t count)
{
    return forks(machine, count, false);
}

static uint64_t copy_pages(struct bench_machine *machine, uint64_t count)
{
    return forks(machine, count, true);
}

static uint64_t host_demand_zero(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    (void)machine;
    for (; done < count; done += PAGES) {
        volatile uint8_t *memory = host_map();
        if (!memory)
            return 0;
        for (uint32_t i = 0; i < PAGES; i++)
            memory[i * NEOMM_PAGE_SIZE] = 1;
        if (munmap((void *)(uintptr_t)memory, BYTES) != 0)
            return 0;
    }
    return done;
}

static const struct bench_case cases[] = {
    {.name = "vmm/mmap-munmap",
     .unit = "ns",
     .peer_name = "the host's mmap",
     .setup = make_space,
     .teardown = end_space,
     .ours = map_unmap,
     .peer = host_map_unmap},
    {.name = "vmm/mmap-munmap-page",
     .unit = "ns",
     .setup = make_space,
     .teardown = end_space,
     .ours = map_unmap_page},
    {.name = "vmm/mmap-munmap-page-1000",
     .unit = "ns",
     .setup = make_thousand,
     .teardown = end_space,
     .ours = map_unmap_page},
    {.name = "vmm/region-1000",
     .unit = "ns",
     .setup = make_thousand,
     .teardown = end_space,
     .ours = look_up},
    {.name = "vmm/region-100000",
     .unit = "ns",
     .setup = make_hundred_thousand,
     .teardown = end_space,
     .ours = look_up},
    {.name = "vmm/demand-zero",
     .unit = "ns/page",
     .peer_name = "the host's faults",
     .setup = make_space,
     .teardown = end_space,
     .ours = demand_zero,
     .peer = host_demand_zero},
    {.name = "vmm/demand-zero-clear", .unit = "ns/page", .ours = clear_frames},
    {.name = "vmm/fork-1024",
     .unit = "ns/page",
     .setup = make_parent,
     .teardown = end_space,
     .ours = fork_pages},
    {.name = "vmm/copy-on-write",
     .unit = "ns/page",
     .setup = make_parent,
     .teardown = end_space,
     .ours = copy_pages},
    {.name = "vmm/faults-2-threads", .unit = "x", .ours_value = bench_faults_speedup},
};

const struct bench_layer bench_vmm = {.name = "vmm",
                                      .layer = SIM_LAYER_VMM,
                                      .ram_bytes = (uint64_t)64 << 20,
                                      .cpus = 2,
                                      .cases = cases,
                                      .case_count = BENCH_COUNT(cases)};
