/* Tests of the simulated TLBs: what stays cached and what goes, by one CPU and by several.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.10.
 */
#include "sim_tables.h"

#include "sim/mmu.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

static const uint64_t all_formats[] = {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE, NEOMM_FORMAT_4LEVEL,
                                       NEOMM_FORMAT_5LEVEL};

static bool open_cpus(struct ktap *t, struct bench *bench, uint32_t cpus)
{
    struct sim_options options = {.cpus = cpus};
    return bench_open(t, bench, (enum neomm_format)t->parameter, &options);
}

#define V     ((neomm_vaddr_t)0x401000)
#define PAGE1 BENCH_LEAVES
#define PAGE2 (BENCH_LEAVES + NEOMM_PAGE_SIZE)

/* Where a user read of vaddr leads; 0: a fault. */
static neomm_paddr_t target(const struct bench *bench, neomm_vaddr_t vaddr)
{
    neomm_paddr_t paddr = 0;
    return bench_access(bench, vaddr, SIM_READ, false, &paddr) == BENCH_DONE ? paddr : 0;
}

static void point(struct bench *bench, neomm_vaddr_t vaddr, neomm_paddr_t paddr, uint64_t flags)
{
    bench_store(bench, bench_entry(bench, bench->top, vaddr, 1), paddr | flags);
}

/* ---- what stays, what goes ---- */

/* Nothing but its invalidation on its CPU drops an entry. */
static void entries_stay(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    EXPECT_EQ(t, target(&bench, V), 0);
    point(&bench, V, PAGE1, E_P); /* not present is never cached */
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    for (unsigned i = 1; i < 3000; i++) { /* no capacity pushes it out */
        point(&bench, V + i * NEOMM_PAGE_SIZE, PAGE2, E_P);
        EXPECT_EQ(t, target(&bench, V + i * NEOMM_PAGE_SIZE), PAGE2);
    }
    point(&bench, V, PAGE2, E_P);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    sim_bind(bench.sim, 1);
    neomm_cpu_invlpg(V);
    EXPECT_EQ(t, target(&bench, V), PAGE2);
    neomm_cpu_invlpg(V);
    point(&bench, V, 0, 0);
    sim_bind(bench.sim, 0);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    neomm_cpu_invlpg(V + NEOMM_PAGE_SIZE);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    neomm_cpu_invlpg(V + 77);
    EXPECT_EQ(t, target(&bench, V), 0);
    bench_close(t, &bench);
}

enum flush { FLUSH_NONE, FLUSH_INVLPG, FLUSH_CR3, FLUSH_PGE, FLUSH_SMEP, FLUSH_PG, FLUSHES };

static void flush_by(enum flush flush)
{
    uintptr_t cr0 = neomm_cpu_read_cr0(), cr4 = neomm_cpu_read_cr4();
    if (flush == FLUSH_INVLPG)
        neomm_cpu_invlpg(V + 0x800000);
    if (flush == FLUSH_CR3)
        neomm_cpu_write_cr3(neomm_cpu_read_cr3());
    if (flush == FLUSH_PGE || flush == FLUSH_SMEP) {
        neomm_cpu_write_cr4(cr4 ^ (flush == FLUSH_PGE ? NEOMM_CR4_PGE : NEOMM_CR4_SMEP));
        neomm_cpu_write_cr4(cr4);
    }
    if (flush == FLUSH_PG) {
        neomm_cpu_write_cr0(cr0 & ~NEOMM_CR0_PG);
        neomm_cpu_write_cr0(cr0);
    }
}

/* Which kinds of entry each instruction drops: local, global, of a paging-structure cache. */
static void flush_kinds(struct ktap *t)
{
    static const struct {
        bool local, global, tables;
    } drops[FLUSHES] = {{false, false, false}, {false, false, true}, {true, false, true},
                        {true, true, true},    {true, false, true},  {true, true, true}};
    for (unsigned flush = 0; flush < FLUSHES; flush++) {
        struct bench bench;
        neomm_vaddr_t other = V + 2 * NEOMM_PAGE_SIZE, global = V + NEOMM_PAGE_SIZE;
        ASSERT(t, open_cpus(t, &bench, 1));
        point(&bench, V, PAGE1, E_P);
        point(&bench, global, PAGE1, E_P | E_G);
        point(&bench, other, PAGE1, E_P);
        EXPECT_EQ(t, target(&bench, V), PAGE1);
        EXPECT_EQ(t, target(&bench, global), PAGE1);

        /* Another table is put in their place: seen by those who look. */
        neomm_paddr_t directory = bench_entry(&bench, bench.top, V, 2);
        bench_store(&bench, directory, bench_table(&bench) | E_P | E_W | E_U);
        for (unsigned i = 0; i < 3; i++)
            point(&bench, V + i * NEOMM_PAGE_SIZE, PAGE2, E_P | (i == 1 ? E_G : 0));
        flush_by((enum flush)flush);
        EXPECT_EQ(t, target(&bench, V), drops[flush].local ? PAGE2 : PAGE1);
        EXPECT_EQ(t, target(&bench, global), drops[flush].global ? PAGE2 : PAGE1);
        EXPECT_EQ(t, target(&bench, other), drops[flush].tables ? PAGE2 : PAGE1);
        bench_close(t, &bench);
    }
}

/* An INVLPG of what is no address does nothing. */
static void flush_nowhere(struct ktap *t)
{
#if UINTPTR_MAX > 0xffffffffu
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    bench_store(&bench, bench_entry(&bench, bench.top, V, 2), 0);
    point(&bench, V + NEOMM_PAGE_SIZE, PAGE2, E_P);
    neomm_cpu_invlpg((neomm_vaddr_t)1 << 60);
    EXPECT_EQ(t, target(&bench, V + NEOMM_PAGE_SIZE), 0);     /* of the cached PDE's table */
    EXPECT_EQ(t, target(&bench, V + NEOMM_PAGE_SIZE), PAGE2); /* the fault dropped that */
    bench_close(t, &bench);
#else
    ktap_skip(t, "every address of 32 bits is canonical");
#endif
}

/* Rights of a cached upper entry count for every page below it. */
static void cached_table_rights(struct ktap *t)
{
    struct bench bench;
    const uint32_t fault = NEOMM_PF_PRESENT | NEOMM_PF_WRITE | NEOMM_PF_USER;
    ASSERT(t, open_cpus(t, &bench, 1));
    for (unsigned i = 0; i < 3; i++)
        point(&bench, V + i * NEOMM_PAGE_SIZE, PAGE1, E_P | E_W | E_U);
    neomm_paddr_t directory = bench_entry(&bench, bench.top, V, 2);
    bench_store(&bench, directory, bench_load(&bench, directory) & ~E_W);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, true, NULL), BENCH_DONE);
    bench_store(&bench, directory, bench_load(&bench, directory) | E_W);
    EXPECT_EQ(t, bench_access(&bench, V + 0x1000, SIM_WRITE, true, NULL), fault);
    EXPECT_EQ(t, bench_access(&bench, V + 0x1000, SIM_WRITE, true, NULL), BENCH_DONE);

    bench_store(&bench, directory, bench_load(&bench, directory) & ~E_W);
    neomm_cpu_invlpg(V);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, true, NULL), BENCH_DONE);
    bench_store(&bench, directory, bench_load(&bench, directory) | E_W);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, true, NULL), fault);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, true, NULL), BENCH_DONE);

    /* The kernel meets no fault in a page of its own. */
    bench_store(&bench, directory, bench_load(&bench, directory) & ~(E_W | E_U));
    neomm_cpu_invlpg(V);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, false, NULL), BENCH_DONE);
    bench_store(&bench, directory, bench_load(&bench, directory) | E_W);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, false, NULL), BENCH_DONE);
    bench_close(t, &bench);
}

/* Entries of one address and different kinds, many of them, are not mistaken for each other. */
static void many_tables(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    const neomm_vaddr_t span = (neomm_vaddr_t)1 << bench_shift(bench.format, 2);
    for (unsigned round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 1000; i++) {
            neomm_paddr_t page = PAGE1 + (neomm_paddr_t)(i % 7) * NEOMM_PAGE_SIZE;
            if (round == 0)
                point(&bench, i * span, page, E_P);
            EXPECT_EQ(t, target(&bench, i * span), page);
        }
    bench_close(t, &bench);
}

/* G means nothing without CR4.PGE. */
static void global_needs_pge(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PGE);
    point(&bench, V, PAGE1, E_P | E_G);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    point(&bench, V, PAGE2, E_P | E_G);
    flush_by(FLUSH_CR3);
    EXPECT_EQ(t, target(&bench, V), PAGE2);
    bench_close(t, &bench);
}

/* One INVLPG anywhere in a large page drops all of it, also from the fast path. */
static void large_pages(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t base = 0x40000000u;
    ASSERT(t, open_cpus(t, &bench, 1));
    for (unsigned level = 2; level <= bench_leaf_levels(bench.format); level++, base <<= 1) {
        uint64_t size = (uint64_t)1 << bench_shift(bench.format, level);
        for (unsigned i = 0; i < 20; i++) {
            uint32_t error;
            neomm_paddr_t first = level == 2 ? (i & 1) * size : 0;
            neomm_paddr_t entry = bench_entry(&bench, bench.top, base, level);
            uint64_t user = i & 1 ? E_U : 0;
            bench_store(&bench, entry, first | E_P | E_PS | E_W | user);
            uint8_t *at = sim_reference(bench.sim, base + i * 0x11000, SIM_READ, false, &error);
            EXPECT(t, at == sim_pointer(bench.sim, first + i * 0x11000));
            EXPECT_EQ(t, bench_access(&bench, base + 0x5000, SIM_READ, true, NULL) == BENCH_DONE,
                      i & 1);
            at = sim_reference(bench.sim, base + 0x3000, SIM_READ, false, &error);
            EXPECT(t, at == sim_pointer(bench.sim, first + 0x3000));
            bench_store(&bench, entry, 0);
            EXPECT(t, sim_reference(bench.sim, base + 0x3000, SIM_READ, false, &error) == at);
            neomm_cpu_invlpg(base + (neomm_vaddr_t)(size - 1 - i * 0x1000));
            EXPECT(t, sim_reference(bench.sim, base + 0x3000, SIM_READ, false, &error) == NULL);
        }
    }
    bench_close(t, &bench);
}

/* More rights without an invalidation: the user meets one fault, the kernel none. */
static void spurious_faults(struct ktap *t)
{
    struct bench bench;
    const uint32_t fault = NEOMM_PF_PRESENT | NEOMM_PF_WRITE | NEOMM_PF_USER;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P | E_U);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, true, NULL), BENCH_DONE);
    point(&bench, V, PAGE1, E_P | E_U | E_W | E_A);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, true, NULL), fault);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_WRITE, true, NULL), BENCH_DONE);
    point(&bench, V + 0x1000, PAGE2, E_P);
    EXPECT_EQ(t, bench_access(&bench, V + 0x1000, SIM_READ, false, NULL), BENCH_DONE);
    point(&bench, V + 0x1000, PAGE2, E_P | E_W | E_A);
    EXPECT_EQ(t, bench_access(&bench, V + 0x1000, SIM_WRITE, false, NULL), BENCH_DONE);
    bench_close(t, &bench);
}

/* The PDPTE registers stay what they are until CR3, or one of a few bits, is written. */
static void pdpte_registers(struct ktap *t)
{
    struct bench bench;
    struct sim_options options = {.cpus = 2};
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_PAE, &options));
    point(&bench, V, PAGE1, E_P);
    uint64_t value = bench_load(&bench, bench.top);
    EXPECT(t, sim_physical_write(bench.sim, bench.top, &(uint64_t){0}, sizeof(value)));
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    flush_by(FLUSH_INVLPG);
    neomm_cpu_invlpg(V);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    flush_by(FLUSH_PGE);
    EXPECT_EQ(t, target(&bench, V), 0);
    EXPECT(t, sim_physical_write(bench.sim, bench.top, &value, sizeof(value)));
    EXPECT_EQ(t, target(&bench, V), 0);
    flush_by(FLUSH_CR3);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    sim_bind(bench.sim, 1);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    bench_close(t, &bench);
}

/* A machine whose RAM and registers were put back has empty TLBs and full PDPTE registers. */
static void reset_empties(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    point(&bench, V, PAGE1, E_P | E_G);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    struct sim_snapshot *snapshot = sim_snapshot_take(bench.sim);
    point(&bench, V, PAGE2, E_P | E_G);
    bench_invalidate(&bench, V);
    EXPECT_EQ(t, target(&bench, V), PAGE2);
    sim_snapshot_restore(bench.sim, snapshot);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    sim_snapshot_free(snapshot);
    bench_close(t, &bench);
}

/* A window pointer goes the way of the translation it came from. */
static void window_pointers(struct ktap *t)
{
    struct bench bench;
    struct neomm_layout layout;
#if UINTPTR_MAX > 0xffffffffu
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_4LEVEL, NULL));
#else
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_PAE, NULL));
#endif
    sim_layout(bench.sim, &layout);
    neomm_vaddr_t vaddr = layout.window.base;
    volatile uint32_t *word = (uint32_t *)(uintptr_t)(vaddr + (neomm_vaddr_t)layout.window.delta);
    uint32_t one = 1, two = 2, stored = 0;
    EXPECT(t, sim_physical_write(bench.sim, PAGE1, &one, sizeof(one)));
    EXPECT(t, sim_physical_write(bench.sim, PAGE2, &two, sizeof(two)));
    point(&bench, vaddr, PAGE1, E_P | E_W | E_G);
    EXPECT_EQ(t, *word, 1);
    point(&bench, vaddr, PAGE2, E_P | E_W | E_G);
    EXPECT_EQ(t, *word, 1); /* stale, as on hardware */
    neomm_cpu_invlpg(vaddr);
    EXPECT_EQ(t, *word, 2);
    EXPECT_EQ(t, bench_load(&bench, bench_entry(&bench, bench.top, vaddr, 1)) & E_D, 0);
    *word = 3;
    EXPECT_EQ(t, bench_load(&bench, bench_entry(&bench, bench.top, vaddr, 1)) & E_D, E_D);
    EXPECT(t, sim_physical_read(bench.sim, PAGE2, &stored, sizeof(stored)));
    EXPECT_EQ(t, stored, 3);

    /* A page that is not global goes with CR3. */
    point(&bench, vaddr, PAGE2, E_P);
    neomm_cpu_invlpg(vaddr);
    EXPECT_EQ(t, *word, 3);
    point(&bench, vaddr, PAGE1, E_P);
    EXPECT_EQ(t, *word, 3);
    flush_by(FLUSH_CR3);
    EXPECT_EQ(t, *word, 1);
    bench_close(t, &bench);
}

/* ---- long runs ---- */

#define RUN_PAGES 96u
#define RUN_ROOTS 2u
#define RUN_STEPS 400000u

/* What the tables say of each page, kept apart from them. Pages from RUN_PAGES / 2 up are shared
 * by both roots and global. */
struct run {
    struct bench bench;
    struct ktap *t;
    uint64_t random;
    neomm_paddr_t root[RUN_ROOTS];
    uint32_t loaded[2]; /* root of each CPU */
    uint64_t page[RUN_ROOTS][RUN_PAGES];
    uint64_t references;
};

static uint32_t choose(struct run *run, uint32_t count)
{
    uint64_t x = run->random = run->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((x >> 33) % count);
}

static bool run_shared(uint32_t page)
{
    return page >= RUN_PAGES / 2;
}

/* Neighbours, and a few tables apart. */
static neomm_vaddr_t run_vaddr(uint32_t page)
{
    neomm_vaddr_t base = run_shared(page) ? 0xc0000000u : 0x40000000u;
    uint32_t within = page % (RUN_PAGES / 2);
    return base + (neomm_vaddr_t)(within % 3) * 0x800000u +
           (neomm_vaddr_t)(within / 3) * NEOMM_PAGE_SIZE;
}

static neomm_paddr_t run_entry(struct run *run, uint32_t root, uint32_t page)
{
    return bench_entry(&run->bench, run->root[root], run_vaddr(page), 1);
}

static uint64_t run_flags(struct run *run, uint32_t page)
{
    uint64_t flags = E_P | (choose(run, 2) ? E_W : 0) | (run_shared(page) ? E_G : E_U);
    if (run->bench.format != NEOMM_FORMAT_2LEVEL && choose(run, 4) == 0)
        flags |= E_NX;
    return flags | (BENCH_LEAVES + (neomm_paddr_t)choose(run, 512) * NEOMM_PAGE_SIZE);
}

/* Stores a page's new entry, and invalidates where the manual says one must. */
static void run_change(struct run *run)
{
    struct bench *bench = &run->bench;
    uint32_t page = choose(run, RUN_PAGES), root = choose(run, RUN_ROOTS);
    neomm_paddr_t entry = run_entry(run, root, page);
    uint64_t before = bench_load(bench, entry), after = before, *now = &run->page[root][page];
    switch (choose(run, 4)) {
    case 0:
        after = 0;
        break;
    case 1:
        after = before & ~(choose(run, 2) ? E_A | E_D : E_A);
        break;
    case 2:
        after = before & E_P ? before ^ E_W : 0;
        break;
    default:
        after = run_flags(run, page);
        break;
    }
    bench_store(bench, entry, after);
    *now = after & ~(E_A | E_D);
    if (run_shared(page))
        run->page[1 - root][page] = *now;
    /* Setting R/W and nothing else is the one change here that adds only. */
    bool adds = !(before & E_P) || after == (before | E_W);
    if (!adds)
        bench_invalidate(bench, run_vaddr(page));
    bench_settled(bench, run->root[root], NEOMM_FLUSH_SITE_UNMAP);
    if (!adds && choose(run, 8) == 0) {
        bench_frames_allocated(bench, BENCH_LEAVES + 600 * NEOMM_PAGE_SIZE, 16);
        bench_frames_freed(bench, BENCH_LEAVES + 600 * NEOMM_PAGE_SIZE, 16);
    }
}

static uint32_t run_expected(const struct run *run, uint32_t root, uint32_t page,
                             enum sim_access access)
{
    uint64_t entry = run->page[root][page];
    bool user = !run_shared(page);
    uint32_t code = (user ? NEOMM_PF_USER : 0) | (access == SIM_WRITE ? NEOMM_PF_WRITE : 0);
    bool has_nx = run->bench.format != NEOMM_FORMAT_2LEVEL;
    code |= access == SIM_FETCH && has_nx ? NEOMM_PF_FETCH : 0;
    if (!(entry & E_P))
        return code;
    bool denied =
        (access == SIM_WRITE && !(entry & E_W)) || (access == SIM_FETCH && (entry & E_NX));
    return denied ? code | NEOMM_PF_PRESENT : BENCH_DONE;
}

/* One access, checked against the model; a spurious fault may come once, for rights only. */
static void run_access(struct run *run)
{
    uint32_t page = choose(run, RUN_PAGES), root = run->loaded[sim_this_cpu()->index];
    enum sim_access access = (enum sim_access)choose(run, 3);
    uint32_t offset = choose(run, NEOMM_PAGE_SIZE);
    neomm_vaddr_t vaddr = run_vaddr(page) + offset;
    uint32_t want = run_expected(run, root, page, access), error = 0;
    bool user = !run_shared(page);
    const void *at = NULL;
    for (unsigned i = 0; i < 2 && !at; i++) {
        at = sim_reference_inline(run->bench.sim, vaddr, access, user, &error);
        run->references++;
        if (!at && (want != BENCH_DONE || !user || !(error & NEOMM_PF_PRESENT)))
            break;
    }
    neomm_paddr_t paddr = (run->page[root][page] & 0xfffff000u) + offset;
    EXPECT_EQ(run->t, at ? BENCH_DONE : error, want);
    if (at && want == BENCH_DONE)
        EXPECT(run->t, at == sim_pointer(run->bench.sim, paddr));
}

static void run_switch(struct run *run)
{
    uint32_t cpu = choose(run, 2);
    sim_bind(run->bench.sim, cpu);
    if (choose(run, 2)) {
        run->loaded[cpu] = choose(run, RUN_ROOTS);
        neomm_cpu_write_cr3((uintptr_t)run->root[run->loaded[cpu]]);
    }
}

static void run_open(struct run *run)
{
    struct bench *bench = &run->bench;
    unsigned top = bench_top_level(bench->format);
    run->root[0] = bench->top;
    run->root[1] = bench_table(bench);
    for (uint32_t page = 0; page < RUN_PAGES; page++)
        (void)run_entry(run, 0, page);
    /* Kernel halves: the top entry where the formats are short, a lower one below shared tops. */
    unsigned level = bench_is_long(bench->format) ? 3 : top;
    bench_store(bench, bench_entry(bench, run->root[1], 0xc0000000u, level),
                bench_load(bench, bench_entry(bench, run->root[0], 0xc0000000u, level)));
    if (bench->format == NEOMM_FORMAT_2LEVEL)
        for (unsigned i = 1; i < 3; i++)
            bench_store(bench, bench_entry(bench, run->root[1], 0xc0000000u + i * 0x800000u, top),
                        bench_load(bench, bench_entry(bench, run->root[0],
                                                      0xc0000000u + i * 0x800000u, top)));
    bench_activate(bench, run->root[1]);
    bench_activate(bench, run->root[0]);
}

/* No false alarm, no wrong translation and no lost count in a long run that invalidates as it
 * must: four runs make more than 10^6 accesses. */
static void correct_run(struct ktap *t)
{
    static struct run run;
    struct sim_tlb_stats stats, start;
    memset(&run, 0, sizeof(run));
    run.t = t;
    run.random = t->parameter + 1;
    ASSERT(t, open_cpus(t, &run.bench, 2));
    run_open(&run);
    sim_tlb_stats(run.bench.sim, &start);
    for (uint32_t step = 0; step < RUN_STEPS; step++) {
        uint32_t kind = choose(&run, 64);
        if (kind < 4)
            run_change(&run);
        else if (kind == 4)
            run_switch(&run);
        else
            run_access(&run);
    }
    sim_tlb_stats(run.bench.sim, &stats);
    EXPECT_EQ(t, stats.hits + stats.walks + stats.faults, run.references);
    EXPECT(t, stats.hits > run.references / 8 && stats.walks > run.references / 64);
    bench_close(t, &run.bench);
}

/* ---- several host threads ---- */

struct worker {
    struct bench *bench;
    uint32_t stop, *generation, reads;
    uint64_t wrong;
};

/* Reads the generation number that the page at V holds: one of an invalidated page must not be
 * seen any more. */
static void *work(void *argument)
{
    struct worker *worker = argument;
    struct sim *sim = worker->bench->sim;
    sim_bind(sim, 1);
    while (!__atomic_load_n(&worker->stop, __ATOMIC_ACQUIRE)) {
        uint32_t error, least = __atomic_load_n(worker->generation, __ATOMIC_ACQUIRE);
        bool entered = sim_cpu_enter(sim);
        const uint32_t *at = sim_reference_inline(sim, V, SIM_READ, true, &error);
        uint32_t seen = at ? __atomic_load_n(at, __ATOMIC_RELAXED) : 0;
        sim_cpu_leave(entered);
        (void)__atomic_fetch_add(&worker->reads, 1, __ATOMIC_RELEASE);
        worker->wrong += seen < least;
        (void)sched_yield();
    }
    sim_unbind();
    return NULL;
}

static void call_invlpg(void *argument)
{
    (void)argument;
    neomm_cpu_invlpg(V);
}

/* Another host thread reads while this one moves the page and shoots its translation down. */
static void shootdowns(struct ktap *t)
{
    struct bench bench;
    struct neomm_cpumask other = {{2}};
    uint32_t generation = 0;
    pthread_t thread;
    ASSERT(t, open_cpus(t, &bench, 2));
    struct worker worker = {.bench = &bench, .generation = &generation};
    point(&bench, V, PAGE1, E_P | E_U);
    ASSERT(t, pthread_create(&thread, NULL, work, &worker) == 0);
    for (uint32_t i = 1; i < 300; i++) {
        uint32_t reads = __atomic_load_n(&worker.reads, __ATOMIC_ACQUIRE);
        neomm_paddr_t frame = i & 1 ? PAGE2 : PAGE1;
        __atomic_store_n((uint32_t *)sim_pointer(bench.sim, frame), i, __ATOMIC_RELAXED);
        point(&bench, V, frame, E_P | E_U | E_A);
        neomm_cpu_invlpg(V);
        neomm_irq_t irq = neomm_port_irq_save();
        neomm_port_ipi(&other, call_invlpg, NULL);
        neomm_port_irq_restore(irq);
        bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_EXCHANGE);
        __atomic_store_n(&generation, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&worker.reads, __ATOMIC_ACQUIRE) == reads)
            (void)sched_yield();
    }
    __atomic_store_n(&worker.stop, 1, __ATOMIC_RELEASE);
    (void)pthread_join(thread, NULL);
    EXPECT_EQ(t, worker.wrong, 0);
    bench_close(t, &bench);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(many_tables, all_formats),
    KTAP_CASE_WITH(cached_table_rights, all_formats),
    KTAP_CASE_WITH(flush_nowhere, all_formats),
    KTAP_CASE_WITH(entries_stay, all_formats),
    KTAP_CASE_WITH(flush_kinds, all_formats),
    KTAP_CASE_WITH(global_needs_pge, all_formats),
    KTAP_CASE_WITH(large_pages, all_formats),
    KTAP_CASE_WITH(spurious_faults, all_formats),
    KTAP_CASE(pdpte_registers),
    KTAP_CASE_WITH(reset_empties, all_formats),
    KTAP_CASE(window_pointers),
    KTAP_CASE_WITH(correct_run, all_formats),
    KTAP_CASE_WITH(shootdowns, all_formats),
};
KTAP_SUITE(sim_tlb, cases);
