/* The boot hand-over on tables that the test builds as a loader would: outside the memory that the
 * library manages, with an identity map in large leaves, and with every mistake that the CPU would
 * find.
 * SPDX-License-Identifier: MIT */
#include "high_machine.h"

#include "env.h"

#include "sim/machine.h"

#include <neomm/cpu.h>
#include <neomm/handover.h>

#include <string.h>

#define PAGE NEOMM_PAGE_SIZE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define RX   (NEOMM_PROT_READ | NEOMM_PROT_EXEC)
#define P    0x1u
#define W    0x2u
#define U    0x4u
#define A    0x20u
#define PS   0x80u
#define NX   ((uint64_t)1 << 63)

/* The boot map leaves out the last 8 MiB of RAM: the loader's tables are there, and the frames that
 * become tables of the direct map. */
#define RAM    ((neomm_paddr_t)32 << 20)
#define TABLES ((neomm_paddr_t)24 << 20)
#define SUPPLY ((neomm_paddr_t)28 << 20)
#define ABROAD ((neomm_paddr_t)1 << 31) /* no RAM: the pointer function knows nothing there */
#define CPUS   2u

static const uint64_t formats[] = ENV_FORMATS;

struct boot {
    struct ktap *t;
    struct sim *sim;
    struct neomm *root;
    struct neomm_layout layout;
    struct neomm_handover handover;
    enum neomm_format format;
    neomm_paddr_t top, next;
    uint32_t pointers; /* times that the library asked for one */
};

/* ---- the loader ---- */

static unsigned levels(const struct boot *b)
{
    return 2 + (unsigned)b->format;
}

static unsigned shift_of(const struct boot *b, unsigned level)
{
    return 12 + (b->format == NEOMM_FORMAT_2LEVEL ? 10u : 9u) * level;
}

static unsigned entry_size(const struct boot *b)
{
    return b->format == NEOMM_FORMAT_2LEVEL ? 4 : 8;
}

static uint64_t load(const struct boot *b, neomm_paddr_t place)
{
    uint64_t value = 0;
    (void)sim_physical_read(b->sim, place, &value, entry_size(b));
    return value;
}

static void store(const struct boot *b, neomm_paddr_t place, uint64_t value)
{
    (void)sim_physical_write(b->sim, place, &value, entry_size(b));
}

static neomm_paddr_t new_table(struct boot *b)
{
    static const uint8_t zero[PAGE];
    neomm_paddr_t table = b->next;
    b->next += PAGE;
    (void)sim_physical_write(b->sim, table, zero, sizeof(zero));
    return table;
}

/* Where the entry of that level for vaddr lies; tables on the way are made. */
static neomm_paddr_t place_of(struct boot *b, neomm_vaddr_t vaddr, unsigned level)
{
    unsigned bits = b->format == NEOMM_FORMAT_2LEVEL ? 10 : 9;
    neomm_paddr_t table = b->top;
    for (unsigned here = levels(b) - 1;; here--) {
        uint64_t index = (uint64_t)vaddr >> shift_of(b, here) & (((uint64_t)1 << bits) - 1);
        if (here == 2 && b->format == NEOMM_FORMAT_PAE)
            index &= 3;
        neomm_paddr_t place = table + index * entry_size(b);
        if (here == level)
            return place;
        if (load(b, place) == 0) /* the top entries of PAE have no rights */
            store(b, place,
                  new_table(b) | (b->format == NEOMM_FORMAT_PAE && here == 2 ? P : P | W));
        table = load(b, place) & 0xffffff000u;
    }
}

static void map(struct boot *b, neomm_vaddr_t vaddr, unsigned level, uint64_t entry)
{
    store(b, place_of(b, vaddr, level), entry | P | (level ? PS : 0));
}

static size_t size_at(const struct boot *b, unsigned level)
{
    return (size_t)1 << shift_of(b, level);
}

static void *pointer(void *context, neomm_paddr_t table)
{
    struct boot *b = context;
    b->pointers++;
    return table < RAM ? sim_pointer(b->sim, table) : NULL;
}

/* Loads the tables with an identity map of the first memory, as large as leaves get. */
static void start_loader(struct boot *b)
{
    bool giant = levels(b) >= 4;
    b->next = TABLES;
    b->top = new_table(b);
    map(b, 0, giant ? 2 : 1, W);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PSE);
    if (b->format != NEOMM_FORMAT_2LEVEL)
        neomm_cpu_write_msr(NEOMM_MSR_EFER, neomm_cpu_read_msr(NEOMM_MSR_EFER) | NEOMM_EFER_NXE);
    neomm_cpu_write_cr3((uintptr_t)b->top);
}

/* ---- the machine ---- */

static neomm_status start_pmm(struct boot *b, const struct neomm_boot_range *image)
{
    struct neomm_boot_range storage[8];
    struct neomm_bootmap bootmap;
    neomm_bootmap_init(&bootmap, storage, 8);
    neomm_status status = neomm_bootmap_add(&bootmap, 0, TABLES, NEOMM_MEMORY_USABLE);
    if (status == NEOMM_OK)
        status = neomm_bootmap_add(&bootmap, image->base, image->length, image->type);
    if (status == NEOMM_OK)
        status = neomm_bootmap_resolve(&bootmap, 0, NULL, NULL);
    return status == NEOMM_OK ? neomm_pmm_init(b->root, &bootmap, NULL) : status;
}

static bool open_boot(struct ktap *t, struct boot *b)
{
    const struct sim_options options = {
        .format = (enum neomm_format)t->parameter, .ram_bytes = RAM, .cpus = CPUS};
    struct neomm_options root = {.cpus = CPUS};
    struct neomm_boot_range image;
    *b = (struct boot){.t = t, .format = options.format, .sim = sim_create(&options)};
    if (!b->sim)
        return false;
    size_t size = neomm_root_size(CPUS);
    void *memory = sim_image(b->sim, size, &image);
    sim_layout(b->sim, &root.layout);
    b->layout = root.layout;
    EXPECT_OK(t, neomm_init(memory, size, &root, &b->root));
    EXPECT_OK(t, start_pmm(b, &image));
    start_loader(b);
    EXPECT_OK(t, neomm_handover_begin(&b->handover, pointer, b));
    return t->failures == 0;
}

static void start_cpu(struct boot *b, uint32_t cpu)
{
    struct ktap *t = b->t;
    sim_bind(b->sim, cpu);
    EXPECT_OK(t, neomm_paging_cpu_init(b->root));
    sim_bind(b->sim, 0);
}

static void close_boot(struct boot *b)
{
    struct ktap *t = b->t;
    EXPECT_EQ(t, neomm_fsck(b->root, NULL, NULL), 0);
    if (neomm_paging_kernel(b->root)) {
        for (uint32_t cpu = CPUS; cpu-- > 0;) {
            sim_bind(b->sim, cpu);
            neomm_paging_cpu_fini(b->root);
            neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PGE);
            neomm_cpu_write_cr3(0);
        }
        EXPECT_OK(t, neomm_paging_fini(b->root));
    }
    EXPECT_OK(t, neomm_pmm_fini(b->root));
    EXPECT_OK(t, neomm_fini(b->root));
    EXPECT_EQ(t, sim_check_end(b->sim), 0);
    EXPECT_EQ(t, sim_violations(b->sim), 0);
    sim_destroy(b->sim);
}

/* ---- what is loaded ---- */

static void begins_with_what_is_loaded(struct ktap *t)
{
    struct boot b;
    ASSERT(t, open_boot(t, &b));
    EXPECT_EQ(t, b.handover.format, b.format);
    EXPECT_EQ(t, b.handover.top, b.top);
    EXPECT_EQ(t, b.handover.physical_bits, b.sim->options.physical_bits);
    EXPECT_EQ(t, b.handover.leaf_levels, levels(&b) >= 4 ? 7 : 3);
    EXPECT_EQ(t, b.handover.nx, b.format != NEOMM_FORMAT_2LEVEL);
    EXPECT_EQ(t, b.handover.pat, 0x0007040600070406);
    EXPECT(t, !b.handover.fault.what);
    if (b.format == NEOMM_FORMAT_PAE) { /* its root is anywhere in a frame */
        neomm_cpu_write_cr3((uintptr_t)new_table(&b) + 0x7e0);
        EXPECT_OK(t, neomm_handover_begin(&b.handover, pointer, &b));
        EXPECT_EQ(t, b.handover.top & 0xfff, 0x7e0);
    }
    if (b.format == NEOMM_FORMAT_2LEVEL) {
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PSE);
        EXPECT_OK(t, neomm_handover_begin(&b.handover, pointer, &b));
        EXPECT_EQ(t, b.handover.leaf_levels, 1);
    }
    neomm_cpu_write_cr3(0);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() & ~NEOMM_CR0_PG);
    EXPECT_EQ(t, neomm_handover_begin(&b.handover, pointer, &b), NEOMM_E_UNSUPPORTED);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() | NEOMM_CR0_PG);
    close_boot(&b);
}

struct seen {
    unsigned count;
    neomm_vaddr_t vaddr[8];
    struct neomm_mapping leaf[8];
};

static void see(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct seen *seen = context;
    if (seen->count < 8) {
        seen->vaddr[seen->count] = vaddr;
        seen->leaf[seen->count] = *leaf;
    }
    seen->count++;
}

/* Leaves of all sizes, with the rights of all that is above them. */
static void leaves_are_found(struct ktap *t)
{
    struct boot b;
    struct seen seen = {0};
    ASSERT(t, open_boot(t, &b));
    bool has_nx = b.format != NEOMM_FORMAT_2LEVEL;
    const neomm_vaddr_t at = (neomm_vaddr_t)0x80000000 + 2 * size_at(&b, 1);
    map(&b, at, 0, 0x123000 | W | A);
    map(&b, at + PAGE, 0, 0x456000 | U | (has_nx ? NX : 0));
    map(&b, at + size_at(&b, 1), 1, 4 * size_at(&b, 1) | 0x18); /* PWT, PCD */
    EXPECT_OK(t, neomm_handover_walk(&b.handover, at, 2 * size_at(&b, 1), see, &seen));
    EXPECT_EQ(t, seen.count, 3);
    EXPECT_EQ(t, seen.vaddr[0], at);
    EXPECT_EQ(t, seen.leaf[0].paddr, 0x123000);
    EXPECT_EQ(t, seen.leaf[0].prot, RW | NEOMM_PROT_EXEC);
    EXPECT_EQ(t, seen.leaf[0].size, PAGE);
    EXPECT(t, seen.leaf[0].accessed && !seen.leaf[0].dirty);
    EXPECT_EQ(t, seen.vaddr[1], at + PAGE);
    EXPECT_EQ(t, seen.leaf[1].prot, NEOMM_PROT_READ | (has_nx ? 0 : NEOMM_PROT_EXEC));
    EXPECT_EQ(t, seen.leaf[2].paddr, 4 * size_at(&b, 1));
    EXPECT_EQ(t, seen.leaf[2].size, size_at(&b, 1));
    EXPECT_EQ(t, seen.leaf[2].cache, NEOMM_CACHE_UC);
    /* The table above takes the right to write from all below. */
    neomm_paddr_t above = place_of(&b, at, 1);
    store(&b, above, (load(&b, above) & ~(uint64_t)W) | (has_nx ? NX : 0));
    seen.count = 0;
    EXPECT_OK(t, neomm_handover_walk(&b.handover, at, PAGE, see, &seen));
    EXPECT_EQ(t, seen.count, 1);
    EXPECT_EQ(t, seen.leaf[0].prot, NEOMM_PROT_READ | (has_nx ? 0 : NEOMM_PROT_EXEC));
    /* The identity map, of which the first page is asked for. */
    seen.count = 0;
    EXPECT_OK(t, neomm_handover_walk(&b.handover, 0, PAGE, see, &seen));
    EXPECT_EQ(t, seen.count, 1);
    EXPECT_EQ(t, seen.leaf[0].size, size_at(&b, levels(&b) >= 4 ? 2 : 1));
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

static void ranges_that_are_none(struct ktap *t)
{
    struct boot b;
    struct seen seen = {0};
    ASSERT(t, open_boot(t, &b));
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, 0, 0, see, &seen), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, (neomm_vaddr_t)0 - PAGE, 2 * PAGE, see, &seen),
              NEOMM_E_RANGE);
#if UINTPTR_MAX > 0xffffffffu
    neomm_vaddr_t half = (neomm_vaddr_t)1 << (shift_of(&b, levels(&b) - 1) + 8);
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, half, PAGE, see, &seen), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, half - PAGE, 2 * PAGE, see, &seen),
              NEOMM_E_RANGE);
    EXPECT_EQ(
        t,
        neomm_handover_walk(&b.handover, half - PAGE, (size_t)0 - 2 * half + 2 * PAGE, see, &seen),
        NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, (neomm_vaddr_t)0 - half - PAGE, PAGE, see, &seen),
              NEOMM_E_RANGE);
    EXPECT_OK(t, neomm_handover_walk(&b.handover, half - PAGE, PAGE, see, &seen));
    EXPECT_OK(t, neomm_handover_walk(&b.handover, (neomm_vaddr_t)0 - half, PAGE, see, &seen));
#endif
    EXPECT_EQ(t, seen.count, 0);
    b.handover.format = (enum neomm_format)(b.format ^ 2u);
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, 0, PAGE, see, &seen), NEOMM_E_UNSUPPORTED);
    EXPECT_EQ(t, neomm_handover_direct_frames(&b.handover, &b.layout, RAM), 0);
    EXPECT_EQ(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY, 64),
              NEOMM_E_UNSUPPORTED);
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

/* ---- what is wrong with tables ---- */

/* Each bit of an entry, set where it is clear: refused exactly where the simulated CPU faults with
 * a reserved bit, or leads to a table that is nowhere. */
static void each_bit_is_judged_as_by_the_cpu(struct ktap *t)
{
    const neomm_vaddr_t at = (neomm_vaddr_t)0x80000000;
    struct boot b;
    ASSERT(t, open_boot(t, &b));
    unsigned most = levels(&b) >= 4 ? 3 : 2, refused = 0;
    map(&b, at, 0, 0x123000 | W);
    map(&b, at + size_at(&b, 1), 1, W);
    if (levels(&b) >= 4)
        map(&b, at + size_at(&b, 2), 2, W);
    for (unsigned leaf = 0; leaf < most; leaf++) {
        neomm_vaddr_t vaddr = leaf == 0 ? at : at + size_at(&b, leaf);
        for (unsigned level = leaf; level < levels(&b); level++) {
            neomm_paddr_t place = place_of(&b, vaddr, level);
            bool root_of_pae = b.format == NEOMM_FORMAT_PAE && level == 2;
            uint64_t good = load(&b, place);
            for (unsigned bit = 1; bit < 8 * entry_size(&b) && !root_of_pae; bit++) {
                struct seen seen = {0};
                neomm_paddr_t paddr;
                uint32_t error = 0;
                bool address = bit >= 13 && bit < b.sim->options.physical_bits;
                if (good >> bit & 1 || (level > leaf && (bit == 7 || bit == 12 || address)))
                    continue; /* another table, which is another test */
                store(&b, place, good | (uint64_t)1 << bit);
                neomm_cpu_write_cr3((uintptr_t)b.top);
                bool done = sim_translate(b.sim, vaddr, SIM_READ, false, &paddr, &error);
                neomm_status status = neomm_handover_walk(&b.handover, vaddr, PAGE, see, &seen);
                EXPECT_EQ(t, status,
                          !done && error & NEOMM_PF_RESERVED ? NEOMM_E_CORRUPT : NEOMM_OK);
                if (status == NEOMM_E_CORRUPT) {
                    refused++;
                    EXPECT_EQ(t, seen.count, 0);
                    EXPECT_EQ(t, b.handover.fault.level, level);
                    EXPECT_EQ(t, b.handover.fault.place, place);
                    EXPECT_EQ(t, b.handover.fault.vaddr, vaddr);
                    EXPECT(t, b.handover.fault.entry >> bit & 1);
                    EXPECT(t, strcmp(b.handover.fault.what, "reserved bits are set") == 0);
                }
                store(&b, place, load(&b, place) & ~((uint64_t)1 << bit));
            }
        }
    }
    EXPECT(t, refused >= 9);
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

/* The roots of PAE: a CPU does not even load them. */
static void roots_of_pae(struct ktap *t)
{
    struct boot b;
    struct seen seen = {0};
    ASSERT(t, open_boot(t, &b));
    neomm_paddr_t place = place_of(&b, 0, levels(&b) - 1);
    uint64_t good = load(&b, place);
    for (unsigned bit = 1; b.format == NEOMM_FORMAT_PAE && bit < 64; bit++) {
        const uint64_t ignored = 0xe38; /* PWT, PCD, the software's, and A, which QEMU sets */
        bool address = bit >= 12 && bit < b.sim->options.physical_bits;
        if (good >> bit & 1 || address)
            continue;
        store(&b, place, good | (uint64_t)1 << bit);
        EXPECT_EQ(t, neomm_handover_walk(&b.handover, 0, PAGE, see, &seen),
                  ignored >> bit & 1 ? NEOMM_OK : NEOMM_E_CORRUPT);
    }
    store(&b, place, good);
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

/* PS where the CPU has no such leaves; NX while it is off; a table nowhere; a type without a name.
 */
static void other_mistakes(struct ktap *t)
{
    const neomm_vaddr_t at = (neomm_vaddr_t)0x80000000;
    struct boot b;
    struct seen seen = {0};
    ASSERT(t, open_boot(t, &b));
    if (levels(&b) >= 4) {
        b.handover.leaf_levels = 3;
        EXPECT_EQ(t, neomm_handover_walk(&b.handover, 0, PAGE, see, &seen), NEOMM_E_CORRUPT);
        EXPECT_EQ(t, b.handover.fault.level, 2);
        b.handover.leaf_levels = 7;
    }
    if (b.format != NEOMM_FORMAT_2LEVEL) {
        map(&b, at, 0, 0x123000 | NX);
        EXPECT_OK(t, neomm_handover_walk(&b.handover, at, PAGE, see, &seen));
        b.handover.nx = false;
        EXPECT_EQ(t, neomm_handover_walk(&b.handover, at, PAGE, see, &seen), NEOMM_E_CORRUPT);
        b.handover.nx = true;
    } else { /* without PSE the bit means nothing: the entry leads to a table */
        b.handover.leaf_levels = 1;
        map(&b, at, 1, 4 * size_at(&b, 1));
        EXPECT_OK(t, neomm_handover_walk(&b.handover, at, PAGE, see, &seen));
        b.handover.leaf_levels = 3;
        store(&b, place_of(&b, at, 1), 0);
    }
    map(&b, at, 0, 0x123000 | 0x80); /* entry 4 of the PAT */
    b.handover.pat = (b.handover.pat & ~((uint64_t)0xff << 32)) | (uint64_t)5 << 32;
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, at, PAGE, see, &seen), NEOMM_E_CORRUPT);
    EXPECT(t, strstr(b.handover.fault.what, "cache type"));
    neomm_paddr_t above = place_of(&b, at, 1);
    store(&b, above, ABROAD | P | W);
    EXPECT_EQ(t, neomm_handover_walk(&b.handover, at, PAGE, see, &seen), NEOMM_E_CORRUPT);
    EXPECT(t, strstr(b.handover.fault.what, "cannot be reached"));
    EXPECT_EQ(t, b.handover.fault.place, ABROAD);
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

/* ---- the direct map ---- */

static void expect_direct(struct boot *b, neomm_paddr_t end)
{
    struct ktap *t = b->t;
    for (neomm_paddr_t at = 0; at < end; at += 37 * PAGE) {
        neomm_paddr_t paddr = 0;
        uint32_t error;
        EXPECT(t, sim_translate(b->sim, b->layout.direct.base + (neomm_vaddr_t)at, SIM_WRITE, false,
                                &paddr, &error));
        EXPECT_EQ(t, paddr, at);
    }
}

/* In leaves of each size that there is, with as many frames for tables as were asked for; one fewer
 * is too few. */
static void direct_map_is_added(struct ktap *t)
{
    for (uint32_t leaves = 1; leaves < 8; leaves = leaves * 2 + 1) {
        for (uint32_t fewer = 0; fewer < 2; fewer++) {
            struct boot b;
            ASSERT(t, open_boot(t, &b));
            b.handover.leaf_levels &= leaves;
            uint32_t frames = neomm_handover_direct_frames(&b.handover, &b.layout, RAM);
            if (fewer == 0 || frames > 0)
                EXPECT_EQ(
                    t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY, frames - fewer),
                    fewer == 0 ? NEOMM_OK : NEOMM_E_NOMEM);
            if (fewer == 0) {
                expect_direct(&b, RAM);
                /* Again: all of it is there. */
                EXPECT_OK(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY, 0));
            }
            neomm_cpu_write_cr3(0);
            close_boot(&b);
        }
    }
}

/* As far as the layout's, and no farther. */
static void direct_map_has_an_end(struct ktap *t)
{
    struct boot b;
    neomm_paddr_t paddr;
    uint32_t error;
    ASSERT(t, open_boot(t, &b));
    b.handover.leaf_levels = 3;
    EXPECT_OK(t, neomm_handover_direct(&b.handover, &b.layout, 4 * size_at(&b, 1), SUPPLY, 64));
    EXPECT(t, !sim_translate(b.sim, b.layout.direct.base + 4 * size_at(&b, 1), SIM_READ, false,
                             &paddr, &error));
    b.layout.direct.size = 6 * size_at(&b, 1);
    EXPECT_OK(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY + 64 * PAGE, 64));
    expect_direct(&b, 6 * size_at(&b, 1));
    EXPECT(t, !sim_translate(b.sim, b.layout.direct.base + 6 * size_at(&b, 1), SIM_READ, false,
                             &paddr, &error));
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

static void direct_map_meets_something(struct ktap *t)
{
    struct boot b;
    ASSERT(t, open_boot(t, &b));
    b.handover.leaf_levels = 3;
    neomm_vaddr_t second = b.layout.direct.base + size_at(&b, 1);
    map(&b, second, 1, W | 7 * size_at(&b, 1));
    EXPECT_EQ(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY, 64), NEOMM_E_EXISTS);
    store(&b, place_of(&b, second, 1), 0);
    map(&b, second, 0, W); /* a table of small pages */
    EXPECT_EQ(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY + 64 * PAGE, 64),
              NEOMM_E_EXISTS);
    store(&b, place_of(&b, second, 1), PS | P | (uint64_t)1 << 13);
    EXPECT_EQ(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY + 64 * PAGE, 64),
              NEOMM_E_CORRUPT);
    b.handover.top = ABROAD;
    EXPECT_EQ(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY, 64), NEOMM_E_CORRUPT);
    neomm_cpu_write_cr3(0);
    close_boot(&b);
}

/* ---- adoption ---- */

static void adopted_is_what_the_loader_had(struct ktap *t)
{
    struct boot b;
    struct neomm_mapping m;
    ASSERT(t, open_boot(t, &b));
    struct neomm *root = b.root;
    size_t large = size_at(&b, 1);
    neomm_vaddr_t at = (b.layout.window.base + 2 * large - 1) & ~(neomm_vaddr_t)(large - 1);
    neomm_vaddr_t device = b.layout.mmio.base;
    map(&b, at, 1, W | 4 * large);
    map(&b, at + large, 0, W | 0x123000);
    map(&b, device, 0, W | ABROAD | 0x18);
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, PAGE, RW), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_paging_init(root, NULL));
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    /* Half of the large leaf, executable; the rest, writable. */
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, 2 * large, RW | NEOMM_PROT_EXEC),
              NEOMM_E_ACCESS);
    EXPECT_OK(t, neomm_paging_query(root, kernel, at, &m));
    EXPECT_EQ(t, m.state, NEOMM_MAPPING_NONE);
    EXPECT_OK(t, neomm_handover_adopt(root, &b.handover, at, large / 2, RX));
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, large, RX), NEOMM_E_EXISTS);
    EXPECT_OK(t, neomm_handover_adopt(root, &b.handover, at + large / 2, large, RW));
    EXPECT_OK(t, neomm_handover_adopt(root, &b.handover, device, 2 * PAGE, RW));
    EXPECT_OK(t, neomm_paging_query(root, kernel, at, &m));
    EXPECT_EQ(t, m.prot, RX);
    EXPECT_EQ(t, m.paddr, 4 * large);
    EXPECT_OK(t, neomm_paging_query(root, kernel, at + large / 2, &m));
    EXPECT_EQ(t, m.prot, RW);
    EXPECT_EQ(t, m.paddr & ~(neomm_paddr_t)(m.size - 1), m.paddr);
    EXPECT_EQ(t, m.paddr + ((at + large / 2) & (m.size - 1)), 4 * large + large / 2);
    EXPECT_OK(t, neomm_paging_query(root, kernel, at + large, &m));
    EXPECT_EQ(t, m.paddr, 0x123000);
    EXPECT_OK(t, neomm_paging_query(root, kernel, device, &m));
    EXPECT_EQ(t, m.paddr, ABROAD);
    EXPECT_EQ(t, m.cache, NEOMM_CACHE_UC);
    EXPECT_OK(t, neomm_paging_query(root, kernel, device + PAGE, &m));
    EXPECT_EQ(t, m.state, NEOMM_MAPPING_NONE);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        start_cpu(&b, cpu);
    EXPECT_OK(t, neomm_paging_unmap(root, kernel, at, 2 * large, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_unmap(root, kernel, device, PAGE, NULL, NULL, NULL));
    close_boot(&b);
}

/* Whatever goes wrong on the way, nothing is adopted and no table is left. */
static void adoption_fails_whole(struct ktap *t)
{
    struct boot b;
    ASSERT(t, open_boot(t, &b));
    struct neomm *root = b.root;
    size_t large = size_at(&b, 1);
    neomm_vaddr_t at = (b.layout.window.base + 2 * large - 1) & ~(neomm_vaddr_t)(large - 1);
    EXPECT_OK(t, neomm_paging_init(root, NULL));
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    uint32_t tables = kernel->table_frames;
    map(&b, at, 0, W | 0x123000);
    map(&b, at + large, 0, W | 0x456000);
    map(&b, at + 2 * large, 0, W | 0x789000 | 0x18); /* RAM, uncached */
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, 3 * large, RW), NEOMM_E_ACCESS);
    EXPECT_EQ(t, kernel->table_frames, tables);
    store(&b, place_of(&b, at + 2 * large, 1), ABROAD | P | W);
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, 3 * large, RW), NEOMM_E_CORRUPT);
    EXPECT_EQ(t, kernel->table_frames, tables);
    /* With 2 levels all tables of the window are there from the start. */
    if (NEOMM_INSTRUMENTED && b.format != NEOMM_FORMAT_2LEVEL) {
        sim_fault_plan(b.sim, 2, true);
        EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, 2 * large, RW), NEOMM_E_NOMEM);
        sim_fault_plan(b.sim, 0, false);
        EXPECT_EQ(t, kernel->table_frames, tables);
    }
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at + 1, PAGE, RW), NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, at, 0, RW), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, 0, PAGE, RW), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_handover_adopt(root, &b.handover, b.layout.direct.base, PAGE, RW),
              NEOMM_E_RANGE);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        start_cpu(&b, cpu);
    close_boot(&b);
}

/* ---- the end ---- */

/* The identity map leads nowhere any more, on no CPU, and the loader's tables are looked at no
 * more. */
static void the_identity_map_goes(struct ktap *t)
{
    struct boot b;
    neomm_paddr_t paddr;
    uint32_t error;
    const struct neomm_cpumask first = {.word = {1}}, both = {.word = {3}};
    ASSERT(t, open_boot(t, &b));
    EXPECT_OK(t, neomm_handover_direct(&b.handover, &b.layout, RAM, SUPPLY, 64));
    EXPECT(t, sim_translate(b.sim, 0x1000, SIM_WRITE, false, &paddr, &error));
    EXPECT_EQ(t, paddr, 0x1000);
    EXPECT_EQ(t, neomm_handover_end(b.root, &b.handover, &first), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_paging_init(b.root, NULL));
    EXPECT_EQ(t, neomm_handover_end(b.root, &b.handover, &first), NEOMM_E_BUSY);
    start_cpu(&b, 0);
    EXPECT_OK(t, neomm_handover_end(b.root, &b.handover, &first));
    EXPECT_EQ(t, neomm_handover_end(b.root, &b.handover, &both), NEOMM_E_BUSY);
    EXPECT(t, !sim_translate(b.sim, 0x1000, SIM_READ, false, &paddr, &error));
    start_cpu(&b, 1);
    EXPECT_OK(t, neomm_handover_end(b.root, &b.handover, &both));
    /* Its frames may be anything now. */
    uint8_t junk[PAGE];
    memset(junk, 0xff, sizeof(junk));
    for (neomm_paddr_t at = TABLES; at < b.next; at += PAGE)
        (void)sim_physical_write(b.sim, at, junk, sizeof(junk));
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        sim_bind(b.sim, cpu);
        EXPECT(t, !sim_translate(b.sim, 0x2000, SIM_READ, false, &paddr, &error));
        EXPECT(t, sim_translate(b.sim, b.layout.direct.base + 0x300000, SIM_WRITE, false, &paddr,
                                &error));
    }
    sim_bind(b.sim, 0);
    close_boot(&b);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(begins_with_what_is_loaded, formats),
    KTAP_CASE_WITH(leaves_are_found, formats),
    KTAP_CASE_WITH(ranges_that_are_none, formats),
    KTAP_CASE_WITH(each_bit_is_judged_as_by_the_cpu, formats),
    KTAP_CASE_WITH(roots_of_pae, formats),
    KTAP_CASE_WITH(other_mistakes, formats),
    KTAP_CASE_WITH(direct_map_is_added, formats),
    KTAP_CASE_WITH(direct_map_has_an_end, formats),
    KTAP_CASE_WITH(direct_map_meets_something, formats),
    KTAP_CASE_WITH(adopted_is_what_the_loader_had, formats),
    KTAP_CASE_WITH(adoption_fails_whole, formats),
    KTAP_CASE_WITH(the_identity_map_goes, formats),
};
KTAP_SUITE(handover, cases);
