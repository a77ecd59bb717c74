/* Tests of what CPUs do unasked: the checker counts what they could have cached, and on a whim they
 * do cache it, drop it, set A early and D late.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.8, 4.10.2.3, 4.10.3, 4.10.4.3.
 */
#include "sim_tables.h"

#include "sim/mmu.h"

#include <string.h>

static const uint64_t all_formats[] = {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE, NEOMM_FORMAT_4LEVEL,
                                       NEOMM_FORMAT_5LEVEL};
static const uint64_t long_formats[] = {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL};

#define V     ((neomm_vaddr_t)0x401000)
#define PAGE1 BENCH_LEAVES
#define PAGE2 (BENCH_LEAVES + NEOMM_PAGE_SIZE)

static bool open_with(struct ktap *t, struct bench *bench, const struct sim_options *options)
{
    return bench_open(t, bench, (enum neomm_format)t->parameter, options);
}

static bool open_cpus(struct ktap *t, struct bench *bench, uint32_t cpus)
{
    struct sim_options options = {.cpus = cpus};
    return open_with(t, bench, &options);
}

static neomm_paddr_t leaf_of(struct bench *bench, neomm_vaddr_t vaddr)
{
    return bench_entry(bench, bench->top, vaddr, 1);
}

static void point(struct bench *bench, neomm_vaddr_t vaddr, neomm_paddr_t paddr, uint64_t flags)
{
    bench_store(bench, leaf_of(bench, vaddr), paddr | flags);
}

/* Where a kernel read of vaddr leads; 0: a fault. */
static neomm_paddr_t target(const struct bench *bench, neomm_vaddr_t vaddr)
{
    neomm_paddr_t paddr = 0;
    return bench_access(bench, vaddr, SIM_READ, false, &paddr) == BENCH_DONE ? paddr : 0;
}

static void settle(const struct bench *bench)
{
    bench_settled(bench, bench->top, NEOMM_FLUSH_SITE_PROTECT);
}

static void expect_report(struct ktap *t, struct bench *bench, const char *part)
{
    const char *text = sim_last_violation(bench->sim);
    EXPECT(t, bench_violations(bench) >= 1);
    if (!strstr(text, "stale translation: ") || !strstr(text, part))
        ktap_note(t, "not \"%s\": %s", part, text);
    EXPECT(t, strstr(text, "stale translation: ") == text && strstr(text, part));
}

/* ---- what could be cached ---- */

/* A CPU that was never seen to use the page owes an invalidation like those that were. */
static void never_seen_there(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    point(&bench, V, PAGE1, E_P | E_W | E_U);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    point(&bench, V, PAGE1, E_P | E_U | E_A);
    neomm_cpu_invlpg(V);
    settle(&bench);
    expect_report(t, &bench, "CPU 1, vaddr 0x401000, filled by its CPU unasked (clock 0) from ");
    bench_invalidate(&bench, V);
    bench_close(t, &bench);
}

/* Without A nothing is cached. */
static void accessed_by_nobody(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    point(&bench, V, PAGE1, E_P | E_W);
    point(&bench, V, 0, 0);
    settle(&bench);
    bench_frames_freed(&bench, PAGE1, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    point(&bench, V, PAGE1, E_P | E_W | E_A); /* as software may write it */
    point(&bench, V, 0, 0);
    settle(&bench);
    EXPECT_EQ(t, bench_violations(&bench), 2);
    bench_invalidate(&bench, V);
    bench_close(t, &bench);
}

/* The right was given without an invalidation and is taken back: some CPU may have seen it. */
static void given_and_taken(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P | E_A);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    point(&bench, V, PAGE1, E_P | E_A | E_W);
    settle(&bench);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    point(&bench, V, PAGE1, E_P | E_A);
    settle(&bench);
    expect_report(t, &bench, "; flush due at PROTECT");
    bench_invalidate(&bench, V);
    bench_close(t, &bench);
}

/* How its memory is cached belongs to a translation as its rights do. */
static void memory_type(struct ktap *t)
{
    struct bench bench;
    static const uint64_t types[] = {1 << 3, 1 << 4, 1 << 7};
    for (unsigned i = 0; i < 3; i++) {
        ASSERT(t, open_cpus(t, &bench, 1));
        point(&bench, V, PAGE1, E_P | E_A);
        EXPECT_EQ(t, target(&bench, V), PAGE1);
        point(&bench, V, PAGE1, E_P | E_A | types[i]);
        settle(&bench);
        expect_report(t, &bench, "(PTE), entry changed");
        bench_invalidate(&bench, V);
        bench_close(t, &bench);
    }
}

/* A page that is reached through a table which is on its way out outlives the invalidation of
 * another page. */
static void through_a_stale_table(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P);
    point(&bench, V + 0x1000, PAGE2, E_P);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    bench_store(&bench, bench_entry(&bench, bench.top, V, 2), 0);
    EXPECT_EQ(t, target(&bench, V + 0x1000), PAGE2);
    neomm_cpu_invlpg(V);
    settle(&bench);
    expect_report(t, &bench, "vaddr 0x402000, filled by kernel read");
    EXPECT(t, strstr(sim_last_violation(bench.sim), "(PDE), entry changed") != NULL);
    bench_invalidate(&bench, V + 0x1000);
    settle(&bench);
    bench_close(t, &bench);
}

/* Pages below an entry that goes are due one by one, whoever used them. */
static void below_a_table(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    for (neomm_vaddr_t at = V; at < V + 0x4000; at += 0x1000) {
        point(&bench, at, PAGE1, E_P);
        EXPECT_EQ(t, target(&bench, at), PAGE1);
    }
    sim_bind(bench.sim, 1);
    bench_store(&bench, bench_entry(&bench, bench.top, V, 2), 0);
    for (neomm_vaddr_t at = V; at < V + 0x4000; at += 0x1000)
        if (at != V + 0x2000)
            bench_invalidate(&bench, at);
    settle(&bench);
    expect_report(t, &bench, "vaddr 0x403000");
    bench_invalidate(&bench, V + 0x2000);
    bench_close(t, &bench);
}

/* Tables are followed where they go: linked below a loaded root, moved to another address, at
 * addresses with all high bits set. */
static void tables_that_move(struct ktap *t)
{
    struct bench bench;
    bool is_long = bench_is_long((enum neomm_format)t->parameter);
    neomm_vaddr_t high = (is_long ? (neomm_vaddr_t)0 - 0x40000000u : 0xc0000000u) + V;
    const neomm_vaddr_t places[] = {V, V + 0x20000000u, high};
    ASSERT(t, open_cpus(t, &bench, 2));
    for (unsigned i = 0; i < 3; i++)
        (void)bench_entry(&bench, bench.top, places[i], 2);
    bench_activate(&bench, bench.top);
    neomm_paddr_t table = bench_table(&bench);
    unsigned size = bench.format == NEOMM_FORMAT_2LEVEL ? 4 : 8;
    neomm_paddr_t leaf = table + (V >> 12) % (NEOMM_PAGE_SIZE / size) * size;
    for (unsigned i = 0; i < 3; i++) {
        neomm_paddr_t directory = bench_entry(&bench, bench.top, places[i], 2);
        bench_store(&bench, directory, table | E_P | E_W | E_A);
        bench_store(&bench, leaf, PAGE1 | E_P | E_A);
        bench_store(&bench, leaf, 0);
        settle(&bench);
        EXPECT_EQ(t, bench_violations(&bench), 2);
        bench_invalidate(&bench, places[i]);
        bench_store(&bench, directory, 0);
        bench_invalidate(&bench, places[i]);
        settle(&bench);
        EXPECT_EQ(t, bench_violations(&bench), 0);
    }
    bench_close(t, &bench);
}

/* A context that is left for another PCID takes all that it could have with it. */
static void left_behind(struct ktap *t)
{
    struct bench bench;
    if (sizeof(uintptr_t) < 8) {
        ktap_skip(t, "PCIDs are of 64-bit mode");
        return;
    }
    ASSERT(t, open_cpus(t, &bench, 2));
    neomm_paddr_t other = bench_table(&bench);
    for (uint32_t cpu = 2; cpu-- > 0;) {
        sim_bind(bench.sim, cpu);
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PCIDE);
        neomm_cpu_write_cr3((uintptr_t)bench.top | 1);
    }
    point(&bench, V, PAGE1, E_P);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    sim_bind(bench.sim, 1); /* which never used it */
    neomm_cpu_write_cr3((uintptr_t)(other | 2 | NEOMM_CR3_KEEP));
    sim_bind(bench.sim, 0);
    point(&bench, V, 0, 0);
    neomm_cpu_invlpg(V);
    settle(&bench);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    sim_bind(bench.sim, 1);
    neomm_cpu_write_cr3((uintptr_t)(bench.top | 1 | NEOMM_CR3_KEEP));
    expect_report(t, &bench, "PCID 1 comes back without a flush; due at PROTECT");
    neomm_cpu_write_cr3((uintptr_t)bench.top | 1);
    bench_close(t, &bench);
}

/* ---- sizes ---- */

/* One entry from a table to a page and back: at once, with a step that is not present, and with
 * an invalidation behind that. */
static void sizes(struct ktap *t)
{
    for (unsigned way = 0; way < 3; way++) {
        struct bench bench;
        neomm_paddr_t large = (neomm_paddr_t)2 << bench_shift((enum neomm_format)t->parameter, 2);
        ASSERT(t, open_cpus(t, &bench, 2));
        point(&bench, V, PAGE1, E_P | E_A);
        neomm_paddr_t entry = bench_entry(&bench, bench.top, V, 2);
        uint64_t table = bench_load(&bench, entry);
        EXPECT_EQ(t, target(&bench, V), PAGE1);
        for (unsigned i = 0; i < 2; i++) {
            if (way > 0)
                bench_store(&bench, entry, 0);
            if (way > 1)
                bench_invalidate(&bench, V);
            EXPECT_EQ(t, bench_violations(&bench), 0);
            bench_store(&bench, entry, i == 0 ? large | E_P | E_PS | E_A : table);
            if (way < 2)
                expect_report(t, &bench, "a page of another size takes its place, flush due at ");
            EXPECT_EQ(t, bench_violations(&bench), 0);
            bench_invalidate(&bench, V);
            settle(&bench);
            EXPECT_EQ(t, bench_violations(&bench), 0);
            EXPECT_EQ(t, target(&bench, V) == PAGE1, i == 1);
        }
        bench_close(t, &bench);
    }
}

/* Even where no CPU can have the page, its size is not changed in one store. */
static void size_in_one_step(struct ktap *t)
{
    struct bench bench;
    neomm_paddr_t large = (neomm_paddr_t)2 << bench_shift((enum neomm_format)t->parameter, 2);
    ASSERT(t, open_cpus(t, &bench, 1));
    bench_map(&bench, V, 2, large, E_P | E_W);
    neomm_paddr_t entry = bench_entry(&bench, bench.top, V, 2);
    bench_store(&bench, entry, bench_table(&bench) | E_P | E_W);
    expect_report(t, &bench, "another page size without a step that is not present");
    bench_close(t, &bench);
}

/* ---- tables that are freed ---- */

static void freed_while_linked(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    neomm_paddr_t entry = bench_entry(&bench, bench.top, V, 2), table = bench_table(&bench);
    bench_store(&bench, entry, table | E_P | E_W);
    bench_frames_allocated(&bench, table, 1);
    expect_report(t, &bench, ", which is allocated, from the entry at 0x");
    bench_store(&bench, entry, 0);
    bench_store(&bench, entry, table | E_P | E_W);
    bench_frames_freed(&bench, table, 1);
    expect_report(t, &bench, "CPU 0 finds a table in frame ");
    EXPECT(t, strstr(sim_last_violation(bench.sim), ", which is freed, from the entry at 0x"));
    bench_store(&bench, entry, 0);
    bench_store(&bench, entry, table | E_P | E_W);
    bench_store(&bench, entry, 0);
    bench_frames_freed(&bench, table, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_close(t, &bench);
}

/* The same for pages, of every size, that nobody has used. */
static void page_freed_while_mapped(struct ktap *t)
{
    for (unsigned level = 1; level <= bench_leaf_levels((enum neomm_format)t->parameter); level++) {
        struct bench bench;
        neomm_paddr_t size = (neomm_paddr_t)1
                             << bench_shift((enum neomm_format)t->parameter, level);
        neomm_paddr_t page = level == 1 ? PAGE1 : level == 2 ? 2 * size : 0;
        ASSERT(t, open_cpus(t, &bench, 2));
        for (unsigned user = 0; user < 2; user++) {
            bench_map(&bench, 0x40000000u, level, page, E_P | (user ? E_U : 0));
            bench_frames_freed(&bench, page + size / 2, 1);
            bench_frames_freed(&bench, page + size, 1);
            EXPECT_EQ(t, bench_violations(&bench), user); /* what the kernel maps is all memory */
            bench_store(&bench, bench_entry(&bench, bench.top, 0x40000000u, level), 0);
        }
        EXPECT(t, strstr(sim_last_violation(bench.sim), "CPU 0 finds the page of frame ") != NULL);
        bench_frames_freed(&bench, page + size / 2, 1);
        EXPECT_EQ(t, bench_violations(&bench), 0);
        bench_close(t, &bench);
    }
}

/* A table may bring its pages with it, be loaded by one CPU alone, and be full to its ends. */
static void pages_that_come_with_a_table(struct ktap *t)
{
    struct bench bench;
    unsigned size = t->parameter == NEOMM_FORMAT_2LEVEL ? 4 : 8;
    neomm_paddr_t last = NEOMM_PAGE_SIZE - size;
    ASSERT(t, open_cpus(t, &bench, 2));
    neomm_paddr_t loaded = bench.top, table = bench_table(&bench);
    neomm_paddr_t entry = bench_entry(&bench, loaded, 0x40000000u, 2);
    bench_activate(&bench, bench_table(&bench));
    sim_bind(bench.sim, 1);
    neomm_cpu_write_cr3((uintptr_t)loaded);
    bench_store(&bench, table, PAGE1 | E_P | E_U);
    bench_store(&bench, table + last, PAGE2 | E_P | E_U | E_A);
    bench_frames_freed(&bench, PAGE1, 2);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_store(&bench, entry, table | E_P | E_W | E_U | E_A);
    bench_frames_freed(&bench, PAGE1, 1);
    expect_report(t, &bench, "CPU 1 finds the page of frame 0x800, which is freed, from the entry");
    bench_frames_freed(&bench, PAGE2, 1);
    expect_report(t, &bench, "CPU 1 finds the page of frame 0x801, which is freed, from the entry");
    bench_frames_freed(&bench, table, 1);
    expect_report(t, &bench, "CPU 1 finds a table in frame ");
    bench_store(&bench, entry, 0);
    bench_store(&bench, entry, table | E_P | E_W | E_U | E_A);
    bench_store(&bench, entry, 0);
    bench_settled(&bench, loaded, NEOMM_FLUSH_SITE_UNMAP);
    /* The last page and the table, the first being without A. */
    EXPECT_EQ(t, bench_violations(&bench), 2);
    neomm_cpu_write_cr3((uintptr_t)bench.top);
    bench_store(&bench, entry, table | E_P | E_W | E_U | E_A);
    bench_frames_freed(&bench, PAGE1, 2);
    EXPECT_EQ(t, bench_violations(&bench), 0); /* nobody has it loaded */
    bench_close(t, &bench);
}

/* The kernel's window is not a mapping of all memory: its pages have owners. */
static void window_page_freed(struct ktap *t)
{
    struct bench bench;
    struct neomm_layout layout;
    enum neomm_format format = sizeof(uintptr_t) == 8 ? NEOMM_FORMAT_4LEVEL : NEOMM_FORMAT_PAE;
    ASSERT(t, bench_open(t, &bench, format, NULL));
    sim_layout(bench.sim, &layout);
    const neomm_vaddr_t places[] = {layout.window.base - NEOMM_PAGE_SIZE, layout.window.base,
                                    layout.window.base + (layout.window.size - NEOMM_PAGE_SIZE),
                                    layout.slots.base};
    for (unsigned i = 0; i < 4; i++) {
        point(&bench, places[i], PAGE1, E_P | E_W);
        bench_frames_freed(&bench, PAGE1, 1);
        EXPECT_EQ(t, bench_violations(&bench), i != 0);
        point(&bench, places[i], 0, 0);
        bench_frames_freed(&bench, PAGE1, 1);
        EXPECT_EQ(t, bench_violations(&bench), 0);
    }
    bench_close(t, &bench);
}

/* ---- A and D ---- */

/* While a cached entry has them, neither is set again. */
static void marks_stay_clear(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P | E_W);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, false, NULL), BENCH_DONE);
    EXPECT_EQ(t, bench_load(&bench, leaf_of(&bench, V)) & (E_A | E_D), E_A | E_D);
    point(&bench, V, PAGE1, E_P | E_W);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, false, NULL), BENCH_DONE);
    EXPECT_EQ(t, bench_load(&bench, leaf_of(&bench, V)) & (E_A | E_D), 0);
    neomm_cpu_invlpg(V);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, false, NULL), BENCH_DONE);
    EXPECT_EQ(t, bench_load(&bench, leaf_of(&bench, V)) & (E_A | E_D), E_A | E_D);
    bench_close(t, &bench);
}

/* On a whim A is set before anybody came, and D although the right is gone, as long as there is
 * an entry of that frame. */
static void early_and_late(struct ktap *t)
{
    for (uint32_t whims = 0; whims < 2; whims++) {
        struct bench bench;
        struct sim_options options = {.whims = whims};
        ASSERT(t, open_with(t, &bench, &options));
        point(&bench, V, PAGE1, E_P | E_W | E_U);
        EXPECT_EQ(t, bench_load(&bench, leaf_of(&bench, V)) & (E_A | E_D), whims ? E_A : 0);

        EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, true, NULL), BENCH_DONE);
        point(&bench, V, PAGE1, E_P | E_U | E_A);
        EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, true, NULL) == BENCH_DONE, whims);
        EXPECT_EQ(t, bench_load(&bench, leaf_of(&bench, V)) & (E_W | E_D), whims ? E_D : 0);
        EXPECT_EQ(t, bench.sim->mmu->whims.writes, whims);
        bench_invalidate(&bench, V);
        for (unsigned gone = 0; gone < 2; gone++) {
            point(&bench, V, PAGE1, E_P | E_W | E_U);
            EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, true, NULL), BENCH_DONE);
            bench.sim->options.whims = 0; /* nothing comes of the store */
            point(&bench, V, gone ? 0 : PAGE2, gone ? 0 : E_P | E_U | E_A);
            bench.sim->options.whims = whims;
            EXPECT(t, bench_access(&bench, V, SIM_WRITE, true, NULL) != BENCH_DONE);
            EXPECT_EQ(t, bench_load(&bench, leaf_of(&bench, V)) & E_D, 0);
            bench_invalidate(&bench, V);
        }
        settle(&bench);
        bench_close(t, &bench);
    }
}

/* ---- whims ---- */

/* Pages are cached that nobody used, by both CPUs, and dropped; what is due is not dropped. */
static void come_and_go(struct ktap *t)
{
    struct bench bench;
    struct sim_options options = {.cpus = 2, .whims = 2};
    unsigned marked = 0;
    ASSERT(t, open_with(t, &bench, &options));
    for (unsigned i = 0; i < 64; i++)
        point(&bench, V + i * NEOMM_PAGE_SIZE, PAGE1, E_P);
    for (unsigned i = 0; i < 64; i++)
        marked += (bench_load(&bench, leaf_of(&bench, V + i * NEOMM_PAGE_SIZE)) & E_A) != 0;
    EXPECT(t, marked > 32);
    EXPECT(t, bench.sim->mmu->tlb[0].count > 16 && bench.sim->mmu->tlb[1].count > 16);
    for (unsigned i = 0; i < 1000; i++)
        neomm_hook_yield();
    EXPECT(t, bench.sim->mmu->whims.drops > 20 && bench.sim->mmu->whims.walks > 100);
    for (unsigned i = 0; i < 64; i++) /* as nobody may */
        EXPECT(t, sim_physical_write(bench.sim, leaf_of(&bench, V + i * NEOMM_PAGE_SIZE),
                                     &(uint64_t){PAGE2 | E_P | E_A}, 4));
    for (unsigned i = 0; i < 20000; i++)
        neomm_hook_yield();
    EXPECT_EQ(t, target(&bench, V), PAGE2);

    for (unsigned i = 0; i < 64; i++)
        point(&bench, V + i * NEOMM_PAGE_SIZE, 0, 0);
    for (unsigned i = 0; i < 20000; i++)
        neomm_hook_yield();
    settle(&bench);
    EXPECT(t, bench_violations(&bench) >= 2 * 64);
    bench_close(t, &bench);
}

static uint64_t whims_of(struct ktap *t, uint64_t seed)
{
    struct bench bench;
    struct sim_options options = {.cpus = 2, .whims = 3, .seed = seed};
    if (!open_with(t, &bench, &options))
        return 0;
    for (unsigned i = 0; i < 64; i++)
        point(&bench, V + i * NEOMM_PAGE_SIZE, PAGE1, E_P);
    for (unsigned i = 0; i < 300; i++)
        neomm_hook_yield();
    const struct sim_whims *whims = &bench.sim->mmu->whims;
    uint64_t sum = whims->random * 31 + whims->walks * 7 + whims->drops;
    for (unsigned i = 0; i < 64; i++)
        sum = sum * 3 + (bench_load(&bench, leaf_of(&bench, V + i * NEOMM_PAGE_SIZE)) & E_A);
    bench_close(t, &bench);
    return sum;
}

static void by_the_seed(struct ktap *t)
{
    uint64_t one = whims_of(t, 1);
    EXPECT(t, one == whims_of(t, 1));
    EXPECT(t, one != whims_of(t, 2));
}

/* ---- slots ---- */

/* The slots of a CPU are no other one's business, until it goes there. */
static void slots_of_others(struct ktap *t)
{
    struct bench bench;
    struct neomm_layout layout;
    struct sim_options options = {.cpus = 2};
    enum neomm_format format = sizeof(uintptr_t) == 8 ? NEOMM_FORMAT_4LEVEL : NEOMM_FORMAT_PAE;
    ASSERT(t, bench_open(t, &bench, format, &options));
    sim_layout(bench.sim, &layout);
    neomm_vaddr_t slot = layout.slots.base + (NEOMM_SLOTS_PER_CPU - 1) * NEOMM_PAGE_SIZE;
    for (unsigned i = 0; i < 2; i++) {
        neomm_vaddr_t at = slot + i * NEOMM_PAGE_SIZE; /* the second is CPU 1's */
        point(&bench, at, PAGE1, E_P | E_W | E_G);
        EXPECT_EQ(t, target(&bench, at), PAGE1);
        point(&bench, at, 0, 0);
        neomm_cpu_invlpg(at);
        settle(&bench);
        EXPECT_EQ(t, bench_violations(&bench), i);
        bench_frames_freed(&bench, PAGE1, 1);
        EXPECT_EQ(t, bench_violations(&bench), i);
    }
    sim_bind(bench.sim, 1);
    EXPECT_EQ(t, target(&bench, slot), PAGE1);
    expect_report(t, &bench, "used by kernel read");
    neomm_cpu_invlpg(slot);
    neomm_cpu_invlpg(slot + NEOMM_PAGE_SIZE);
    bench_close(t, &bench);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(never_seen_there, all_formats),
    KTAP_CASE_WITH(accessed_by_nobody, all_formats),
    KTAP_CASE_WITH(given_and_taken, all_formats),
    KTAP_CASE_WITH(memory_type, all_formats),
    KTAP_CASE_WITH(through_a_stale_table, all_formats),
    KTAP_CASE_WITH(below_a_table, all_formats),
    KTAP_CASE_WITH(tables_that_move, all_formats),
    KTAP_CASE_WITH(left_behind, long_formats),
    KTAP_CASE_WITH(sizes, all_formats),
    KTAP_CASE_WITH(size_in_one_step, all_formats),
    KTAP_CASE_WITH(freed_while_linked, all_formats),
    KTAP_CASE_WITH(page_freed_while_mapped, all_formats),
    KTAP_CASE_WITH(pages_that_come_with_a_table, all_formats),
    KTAP_CASE(window_page_freed),
    KTAP_CASE_WITH(marks_stay_clear, all_formats),
    KTAP_CASE_WITH(early_and_late, all_formats),
    KTAP_CASE_WITH(come_and_go, all_formats),
    KTAP_CASE_WITH(by_the_seed, all_formats),
    KTAP_CASE(slots_of_others),
};
KTAP_SUITE(sim_reach, cases);
