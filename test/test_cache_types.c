/* Cache types: what leaves of each size say, what the PAT makes of it, and which combinations are
 * refused.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 11.12.2 (types), 11.12.3 (which entry of the PAT is chosen), tables
 * 4-11, 4-12.
 */
#include "high_machine.h"

#include "env.h"

#include <neomm/cpu.h>

#include "paging/tables.h"
#include "sim/machine.h"

#define PAGE   NEOMM_PAGE_SIZE
#define RW     (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define USER   ((neomm_vaddr_t)0x40000000)
#define DEVICE ((neomm_paddr_t)0x80000000) /* no RAM */

static const uint64_t formats[] = ENV_FORMATS;

/* By enum neomm_cache: the manual's numbers for write-back, write-through, UC-, UC and
 * write-combining. */
static const unsigned types[] = {6, 4, 7, 0, 1};
#define TYPES ((unsigned)(sizeof(types) / sizeof(types[0])))

static bool open_machine(struct ktap *t, struct high_machine *machine, uint32_t absent)
{
    const struct high_options options = {
        .format = (enum neomm_format)t->parameter, .absent = absent, .all_direct = true};
    return high_open(t, machine, &options);
}

static size_t large_size(const struct high_machine *machine)
{
    return neomm_layout_of(machine->root)->format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20
                                                                         : (size_t)2 << 20;
}

/* What the CPU makes of an entry: PWT, PCD and PAT choose a byte of the MSR. */
static unsigned type_of(unsigned level, uint64_t entry)
{
    unsigned index = (unsigned)(entry >> 3 & 3) | (unsigned)(entry >> (level ? 12 : 7) & 1) << 2;
    return (unsigned)(neomm_cpu_read_msr(NEOMM_MSR_PAT) >> (8 * index)) & 0xff;
}

static void each_type_is_the_manuals(struct ktap *t)
{
    struct high_machine machine;
    ASSERT(t, open_machine(t, &machine, 0));
    const struct neomm__engine *engine = machine.root->paging->engine;
    for (unsigned level = 0; level < 3; level++)
        for (unsigned cache = 0; cache < TYPES; cache++)
            if (level == 0 || (engine->large_levels >> level & 1u) != 0) {
                const struct neomm_mapping m = {.state = NEOMM_MAPPING_PRESENT,
                                                .prot = RW,
                                                .paddr = DEVICE,
                                                .cache = (enum neomm_cache)cache};
                uint64_t entry = engine->encode(machine.root->paging, level, true, &m);
                EXPECT_EQ(t, type_of(level, entry), types[cache]);
            }
    high_close(t, &machine);
}

/* Every page of the range says so, at its address. */
static void expect_pages(struct ktap *t, struct neomm *root, struct neomm_tables *tables,
                         size_t size, enum neomm_cache cache, size_t leaf, neomm_prot_t prot)
{
    unsigned wrong = 0;
    for (size_t at = 0; at < size; at += PAGE) {
        struct neomm_mapping m;
        EXPECT_OK(t, neomm_paging_query(root, tables, USER + at, &m));
        wrong += m.cache != cache || m.size != leaf || m.prot != prot ||
                 m.paddr + (at & (m.size - 1)) != DEVICE + at;
    }
    EXPECT_EQ(t, wrong, 0);
}

/* A type stays what it is when its leaf is mapped large, split, hidden, shown and merged. */
static void types_outlive_sizes(struct ktap *t)
{
    struct high_machine machine;
    ASSERT(t, open_machine(t, &machine, 0));
    struct neomm *root = machine.root;
    size_t large = large_size(&machine);
    struct neomm_tables tables;
    EXPECT_OK(t, neomm_paging_create(root, &tables, 1));
    for (unsigned i = 0; i < TYPES; i++) {
        enum neomm_cache cache = (enum neomm_cache)i;
        uint32_t merged;
        EXPECT_OK(t, neomm_paging_map(root, &tables, USER, DEVICE, 2 * large, RW, cache, 0));
        expect_pages(t, root, &tables, 2 * large, cache, large, RW);
        EXPECT_OK(t, neomm_paging_protect(root, &tables, USER, 2 * large, NEOMM_PROT_NONE));
        expect_pages(t, root, &tables, 2 * large, cache, large, NEOMM_PROT_NONE);
        EXPECT_OK(t, neomm_paging_protect(root, &tables, USER, PAGE, NEOMM_PROT_READ));
        EXPECT_OK(t, neomm_paging_protect(root, &tables, USER, 2 * large, RW));
        expect_pages(t, root, &tables, large, cache, PAGE, RW);
        EXPECT_OK(t, neomm_paging_merge(root, &tables, USER, 2 * large, &merged));
        EXPECT_EQ(t, merged, 1);
        expect_pages(t, root, &tables, 2 * large, cache, large, RW);
        EXPECT_OK(t, neomm_paging_unmap(root, &tables, USER, 2 * large, NULL, NULL, NULL));
    }
    EXPECT_OK(t, neomm_paging_destroy(root, &tables));
    high_close(t, &machine);
}

/* The same for the largest leaves, where there are any. */
static void types_of_giants(struct ktap *t)
{
    struct high_machine machine;
    ASSERT(t, open_machine(t, &machine, 0));
    struct neomm *root = machine.root;
    struct neomm_tables tables;
    const size_t giant = (size_t)1 << 30;
    if (!(root->paging->engine->large_levels & 4u)) {
        ktap_skip(t, "the format has no such leaves");
        high_close(t, &machine);
        return;
    }
    EXPECT_OK(t, neomm_paging_create(root, &tables, 1));
    EXPECT_OK(t, neomm_paging_map(root, &tables, USER, DEVICE, giant, RW, NEOMM_CACHE_WC, 0));
    expect_pages(t, root, &tables, 64 * PAGE, NEOMM_CACHE_WC, giant, RW);
    EXPECT_OK(t, neomm_paging_protect(root, &tables, USER, PAGE, NEOMM_PROT_READ));
    EXPECT_OK(t, neomm_paging_protect(root, &tables, USER, PAGE, RW));
    expect_pages(t, root, &tables, large_size(&machine), NEOMM_CACHE_WC, PAGE, RW);
    uint32_t merged;
    EXPECT_OK(t, neomm_paging_merge(root, &tables, USER, giant, &merged));
    EXPECT_EQ(t, merged, 2);
    expect_pages(t, root, &tables, 64 * PAGE, NEOMM_CACHE_WC, giant, RW);
    EXPECT_OK(t, neomm_paging_unmap(root, &tables, USER, giant, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(root, &tables));
    high_close(t, &machine);
}

/* ---- refusals ---- */

static void ram_is_write_back(struct ktap *t)
{
    struct high_machine machine;
    neomm_frame_t frame;
    struct neomm_tables tables;
    ASSERT(t, open_machine(t, &machine, 0));
    struct neomm *root = machine.root;
    neomm_paddr_t end = machine.sim->options.ram_bytes;
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    EXPECT_OK(t, neomm_pmm_alloc(root, 0, 0, &frame));
    EXPECT_OK(t, neomm_paging_create(root, &tables, 1));
    neomm_paddr_t ram = neomm_frame_paddr(frame);
    for (unsigned i = 1; i < TYPES; i++) {
        enum neomm_cache cache = (enum neomm_cache)i;
        struct neomm_mapping page = {
            .state = NEOMM_MAPPING_PRESENT, .prot = RW, .paddr = ram, .cache = cache};
        EXPECT_EQ(t, neomm_paging_map(root, &tables, USER, ram, PAGE, RW, cache, 0),
                  NEOMM_E_ACCESS);
        EXPECT_EQ(t, neomm_paging_exchange(root, &tables, USER, &none, &page, NULL),
                  NEOMM_E_ACCESS);
        /* The last page of RAM, and the first one behind it. */
        EXPECT_EQ(t, neomm_paging_map(root, &tables, USER, end - PAGE, 2 * PAGE, RW, cache, 0),
                  NEOMM_E_ACCESS);
        EXPECT_OK(t, neomm_paging_map(root, &tables, USER, end, PAGE, RW, cache, 0));
        EXPECT_OK(t, neomm_paging_unmap(root, &tables, USER, PAGE, NULL, NULL, NULL));
    }
    EXPECT_EQ(t,
              neomm_paging_map(root, &tables, USER, 0, (size_t)end + PAGE, RW, NEOMM_CACHE_UC, 0),
              NEOMM_E_ACCESS);
    EXPECT_OK(t, neomm_paging_map(root, &tables, USER, ram, PAGE, RW, NEOMM_CACHE_WB, 0));
    EXPECT_OK(t, neomm_paging_unmap(root, &tables, USER, PAGE, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(root, &tables));
    EXPECT_OK(t, neomm_pmm_free(root, frame, 0));
    high_close(t, &machine);
}

/* What is in the area for devices keeps its type, wherever else it is mapped. */
static void devices_have_one_type(struct ktap *t)
{
    struct high_machine machine;
    struct neomm_tables tables;
    ASSERT(t, open_machine(t, &machine, 0));
    struct neomm *root = machine.root;
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    neomm_vaddr_t mmio = neomm_layout_of(root)->mmio.base;
    EXPECT_OK(t, neomm_paging_create(root, &tables, 1));
    for (unsigned i = 0; i < TYPES; i++) {
        EXPECT_OK(
            t, neomm_paging_map(root, kernel, mmio, DEVICE, 4 * PAGE, RW, (enum neomm_cache)i, 0));
        for (unsigned j = 0; j < TYPES; j++) {
            enum neomm_cache cache = (enum neomm_cache)j;
            neomm_status wanted = i == j ? NEOMM_OK : NEOMM_E_ACCESS;
            neomm_vaddr_t second = mmio + 16 * PAGE;
            EXPECT_EQ(
                t,
                neomm_paging_map(root, kernel, second, DEVICE + 3 * PAGE, 2 * PAGE, RW, cache, 0),
                wanted);
            EXPECT_OK(t, neomm_paging_unmap(root, kernel, second, 2 * PAGE, NULL, NULL, NULL));
            /* Beside it. */
            EXPECT_OK(
                t, neomm_paging_map(root, kernel, second, DEVICE + 4 * PAGE, PAGE, RW, cache, 0));
            EXPECT_OK(t, neomm_paging_unmap(root, kernel, second, PAGE, NULL, NULL, NULL));
            EXPECT_OK(t, neomm_paging_map(root, kernel, second, DEVICE - PAGE, PAGE, RW, cache, 0));
            EXPECT_OK(t, neomm_paging_unmap(root, kernel, second, PAGE, NULL, NULL, NULL));
            if (cache == NEOMM_CACHE_WB) /* in a space nobody looks for that */
                continue;
            EXPECT_EQ(t, neomm_paging_map(root, &tables, USER, DEVICE, PAGE, RW, cache, 0), wanted);
            EXPECT_OK(t, neomm_paging_unmap(root, &tables, USER, PAGE, NULL, NULL, NULL));
        }
        EXPECT_OK(t, neomm_paging_unmap(root, kernel, mmio, 4 * PAGE, NULL, NULL, NULL));
    }
    EXPECT_OK(t, neomm_paging_destroy(root, &tables));
    high_close(t, &machine);
}

/* Without the PAT the MSR is not touched, and write-combining is refused; the others are there. */
static void without_the_pat(struct ktap *t)
{
    struct high_machine machine;
    struct neomm_tables tables;
    ASSERT(t, open_machine(t, &machine, SIM_NO_PAT));
    struct neomm *root = machine.root;
    EXPECT_OK(t, neomm_paging_create(root, &tables, 1));
    EXPECT_EQ(t, neomm_paging_map(root, &tables, USER, DEVICE, PAGE, RW, NEOMM_CACHE_WC, 0),
              NEOMM_E_UNSUPPORTED);
    for (unsigned i = 0; i < NEOMM_CACHE_WC; i++) {
        neomm_paddr_t paddr;
        uint32_t error;
        EXPECT_OK(t,
                  neomm_paging_map(root, &tables, USER, DEVICE, PAGE, RW, (enum neomm_cache)i, 0));
        neomm_paging_activate(root, &tables);
        EXPECT(t, sim_translate(machine.sim, USER, SIM_READ, true, &paddr, &error));
        neomm_paging_activate(root, neomm_paging_kernel(root));
        EXPECT_OK(t, neomm_paging_unmap(root, &tables, USER, PAGE, NULL, NULL, NULL));
    }
    EXPECT_EQ(t, sim_violations(machine.sim), 0);
    EXPECT_OK(t, neomm_paging_destroy(root, &tables));
    high_close(t, &machine);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(each_type_is_the_manuals, formats), KTAP_CASE_WITH(types_outlive_sizes, formats),
    KTAP_CASE_WITH(types_of_giants, formats),          KTAP_CASE_WITH(ram_is_write_back, formats),
    KTAP_CASE_WITH(devices_have_one_type, formats),    KTAP_CASE_WITH(without_the_pat, formats),
};
KTAP_SUITE(cache_types, cases);
