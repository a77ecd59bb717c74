/* Benchmarks of the page-table engine. The peer is what cannot be avoided: the stores to the
 * entries alone, or the copy of the tables.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include <string.h>

#define PAGE      NEOMM_PAGE_SIZE
#define PAGES     512u
#define GIB       ((size_t)1 << 30)
#define GIB_PAGES ((uint32_t)(GIB / PAGE))
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define USER      ((neomm_vaddr_t)1 << 40)
#define AROUND    4u /* GiB of the window that are reserved, to have an aligned one */

static neomm_vaddr_t window, giant;
static neomm_frame_t frame;
static struct neomm_tables tables, child;
static struct neomm_tables *where; /* what is measured */
static neomm_vaddr_t at;

/* ---- entries alone: one store each, as an MMU that may look at any time asks for ---- */

static uint64_t entries[GIB_PAGES];

static void store_entries(uint32_t count, uint64_t value, uint64_t step)
{
    for (uint32_t i = 0; i < count; i++, value += step)
        __atomic_store_n(&entries[i], value, __ATOMIC_RELAXED);
    bench_use(entries);
}

static uint64_t stores(uint32_t pages, uint32_t passes, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += pages)
        for (uint32_t i = 0; i < passes; i++)
            store_entries(pages, i & 1u ? 0 : 0x8000000000000103u, i & 1u ? 0 : PAGE);
    return done;
}

static uint64_t store_one_twice(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    return stores(1, 2, count);
}

static uint64_t store_table_twice(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    return stores(PAGES, 2, count);
}

static uint64_t store_table(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    return stores(PAGES, 1, count);
}

static uint64_t store_gib(struct bench_machine *machine, uint64_t count)
{
    (void)machine;
    return stores(GIB_PAGES, 1, count);
}

/* ---- places ---- */

static bool take_window(struct bench_machine *machine)
{
    where = neomm_paging_kernel(machine->root);
    if (neomm_window_alloc(machine->root, AROUND * GIB, &window) != NEOMM_OK ||
        neomm_pmm_alloc(machine->root, 0, 0, &frame) != NEOMM_OK)
        return false;
    giant = (window + GIB - 1) & ~(GIB - 1);
    at = giant;
    return true;
}

static void leave_window(struct bench_machine *machine)
{
    (void)neomm_paging_unmap(machine->root, where, window, AROUND * GIB, NULL, NULL, NULL);
    (void)neomm_window_free(machine->root, window);
    (void)neomm_pmm_free(machine->root, frame, 0);
}

static bool make_space(struct bench_machine *machine)
{
    where = &tables;
    at = USER;
    return neomm_paging_create(machine->root, &tables, 1) == NEOMM_OK &&
           neomm_pmm_alloc(machine->root, 0, 0, &frame) == NEOMM_OK;
}

static void end_space(struct bench_machine *machine)
{
    (void)neomm_paging_unmap(machine->root, &tables, USER, 2 * GIB, NULL, NULL, NULL);
    (void)neomm_paging_destroy(machine->root, &tables);
    (void)neomm_pmm_free(machine->root, frame, 0);
}

/* What is mapped does not matter: nobody looks at it. */
static bool map(struct bench_machine *machine, neomm_vaddr_t vaddr, size_t size)
{
    return neomm_paging_map(machine->root, where, vaddr, neomm_frame_paddr(frame), size, RW,
                            NEOMM_CACHE_WB, NEOMM_MAP_SMALL) == NEOMM_OK;
}

static bool unmap(struct bench_machine *machine, neomm_vaddr_t vaddr, size_t size,
                  neomm_leaf_fn *released)
{
    return neomm_paging_unmap(machine->root, where, vaddr, size, released, NULL, NULL) == NEOMM_OK;
}

/* ---- single pages, in a table that has another ---- */

static bool make_neighbour(struct bench_machine *machine)
{
    return make_space(machine) && map(machine, at + PAGE, PAGE);
}

static uint64_t map_unmap(struct bench_machine *machine, uint32_t pages, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += pages)
        if (!map(machine, at, pages * PAGE) || !unmap(machine, at, pages * PAGE, NULL))
            return 0;
    return done;
}

static uint64_t map_unmap_one(struct bench_machine *machine, uint64_t count)
{
    return map_unmap(machine, 1, count);
}

static bool take_window_with_neighbour(struct bench_machine *machine)
{
    return take_window(machine) && map(machine, at + PAGE, PAGE);
}

static uint64_t map_unmap_table(struct bench_machine *machine, uint64_t count)
{
    return map_unmap(machine, PAGES, count);
}

static bool map_table(struct bench_machine *machine)
{
    return take_window(machine) && map(machine, at, PAGES * PAGE);
}

static uint64_t query(struct bench_machine *machine, uint64_t count)
{
    struct neomm_mapping mapping;
    for (uint64_t i = 0; i < count; i++)
        if (neomm_paging_query(machine->root, where, at + i % PAGES * PAGE, &mapping) != NEOMM_OK ||
            mapping.state != NEOMM_MAPPING_PRESENT)
            return 0;
    return count;
}

static uint64_t protect(struct bench_machine *machine, uint32_t pages, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += 2 * pages)
        if (neomm_paging_protect(machine->root, where, at, pages * PAGE, NEOMM_PROT_READ) !=
                NEOMM_OK ||
            neomm_paging_protect(machine->root, where, at, pages * PAGE, RW) != NEOMM_OK)
            return 0;
    return done;
}

static uint64_t protect_table(struct bench_machine *machine, uint64_t count)
{
    return protect(machine, PAGES, count);
}

/* ---- a GiB of small pages ---- */

static uint64_t map_gib(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += GIB_PAGES) {
        if (!map(machine, at, GIB))
            return 0;
        uint64_t now = bench_time();
        if (!unmap(machine, at, GIB, NULL))
            return 0;
        machine->untimed += bench_time() - now;
    }
    return done;
}

static void count_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    static size_t sum;
    (void)context;
    sum += vaddr + leaf->size;
    bench_use(&sum);
}

static uint64_t unmap_each(struct bench_machine *machine, neomm_leaf_fn *released, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += GIB_PAGES) {
        uint64_t now = bench_time();
        if (!map(machine, at, GIB))
            return 0;
        machine->untimed += bench_time() - now;
        if (!unmap(machine, at, GIB, released))
            return 0;
    }
    return done;
}

static uint64_t unmap_gib(struct bench_machine *machine, uint64_t count)
{
    return unmap_each(machine, NULL, count);
}

static uint64_t unmap_gib_told(struct bench_machine *machine, uint64_t count)
{
    return unmap_each(machine, count_leaf, count);
}

static bool map_all(struct bench_machine *machine)
{
    return take_window(machine) && map(machine, at, GIB);
}

static uint64_t protect_gib(struct bench_machine *machine, uint64_t count)
{
    return protect(machine, GIB_PAGES, count);
}

/* ---- a fork's copy of the tables of a GiB, all of it in use ---- */

static neomm_frame_t originals[PAGES], copies[PAGES]; /* as many as the tables of a GiB */

static bool make_originals(struct neomm *root)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        if (neomm_pmm_alloc(root, 0, 0, &originals[i]) != NEOMM_OK ||
            neomm_pmm_alloc(root, 0, 0, &copies[i]) != NEOMM_OK)
            return false;
        memset(neomm_direct_pointer(root, neomm_frame_paddr(originals[i])), 0x67, PAGE);
    }
    return true;
}

static void end_parent(struct bench_machine *machine)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        (void)neomm_pmm_free(machine->root, originals[i], 0);
        (void)neomm_pmm_free(machine->root, copies[i], 0);
    }
    end_space(machine);
}

static bool make_parent(struct bench_machine *machine)
{
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE},
                         page = {.state = NEOMM_MAPPING_PRESENT,
                                 .prot = RW,
                                 .accessed = true,
                                 .dirty = true};
    bool made = make_space(machine) && make_originals(machine->root);
    page.paddr = neomm_frame_paddr(frame);
    for (uint32_t i = 0; i < GIB_PAGES && made; i++, page.paddr += PAGE)
        made = neomm_paging_exchange(machine->root, &tables, at + i * PAGE, &none, &page, NULL) ==
               NEOMM_OK;
    return made;
}

/* Rights come back and the child's leaves go outside of what is measured. */
static uint64_t copy_gib(struct bench_machine *machine, uint64_t count)
{
    struct neomm *root = machine->root;
    uint64_t done = 0;
    if (neomm_paging_create(root, &child, 2) != NEOMM_OK)
        return 0;
    for (; done < count; done += GIB_PAGES) {
        if (neomm_paging_copy(root, &tables, &child, at, GIB, NULL, NULL) != NEOMM_OK)
            return 0;
        uint64_t now = bench_time();
        if (neomm_paging_unmap(root, &child, at, GIB, NULL, NULL, NULL) != NEOMM_OK ||
            neomm_paging_protect(root, &tables, at, GIB, RW) != NEOMM_OK)
            return 0;
        machine->untimed += bench_time() - now;
    }
    return neomm_paging_destroy(root, &child) == NEOMM_OK ? done : 0;
}

static uint64_t copy_frames(struct bench_machine *machine, uint64_t count)
{
    struct neomm *root = machine->root;
    uint64_t done = 0;
    for (; done < count; done += GIB_PAGES)
        for (uint32_t i = 0; i < PAGES; i++) {
            void *copy = neomm_direct_pointer(root, neomm_frame_paddr(copies[i]));
            memcpy(copy, neomm_direct_pointer(root, neomm_frame_paddr(originals[i])), PAGE);
            bench_use(copy);
        }
    return done;
}

static const struct bench_case cases[] = {
    {.name = "paging/map-unmap-1",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = make_neighbour,
     .teardown = end_space,
     .ours = map_unmap_one,
     .peer = store_one_twice},
    {.name = "paging/map-unmap-1-kernel",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = take_window_with_neighbour,
     .teardown = leave_window,
     .ours = map_unmap_one,
     .peer = store_one_twice},
    {.name = "paging/map-unmap-512",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = take_window,
     .teardown = leave_window,
     .ours = map_unmap_table,
     .peer = store_table_twice},
    {.name = "paging/protect-512",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = map_table,
     .teardown = leave_window,
     .ours = protect_table,
     .peer = store_table},
    {.name = "paging/query",
     .unit = "ns",
     .setup = map_table,
     .teardown = leave_window,
     .ours = query},
    {.name = "paging/map-1g",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = take_window,
     .teardown = leave_window,
     .ours = map_gib,
     .peer = store_gib},
    {.name = "paging/protect-1g",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = map_all,
     .teardown = leave_window,
     .ours = protect_gib,
     .peer = store_gib},
    {.name = "paging/unmap-1g",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = take_window,
     .teardown = leave_window,
     .ours = unmap_gib,
     .peer = store_gib},
    {.name = "paging/unmap-1g-told",
     .unit = "ns/page",
     .peer_name = "the stores alone",
     .setup = take_window,
     .teardown = leave_window,
     .ours = unmap_gib_told,
     .peer = store_gib},
    {.name = "paging/copy-1g",
     .unit = "ns/page",
     .peer_name = "memcpy of the tables",
     .setup = make_parent,
     .teardown = end_parent,
     .ours = copy_gib,
     .peer = copy_frames},
};

const struct bench_layer bench_paging = {.name = "paging",
                                         .layer = SIM_LAYER_PAGING,
                                         .ram_bytes = (uint64_t)64 << 20,
                                         .cases = cases,
                                         .case_count = BENCH_COUNT(cases)};
