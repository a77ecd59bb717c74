/* Tests of the checker of invalidations: what it reports, and what it does not.
 * SPDX-License-Identifier: MIT */
#include "sim_tables.h"

#include "sim/mmu.h"

#include <stdio.h>
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

/* Ways to take something away from the page at V, which all CPUs have used. */
enum narrowing {
    TAKE_PAGE,
    TAKE_WRITE,
    TAKE_EXEC,
    TAKE_USER,
    TAKE_GLOBAL,
    OTHER_FRAME,
    CLEAR_ACCESSED,
    CLEAR_DIRTY,
    TAKE_TABLE,
    TAKE_TABLE_WRITE,
    OTHER_SIZE,
    NARROWINGS
};

static const char *const narrowing_name[] = {
    "TAKE_PAGE",      "TAKE_WRITE",  "TAKE_EXEC",  "TAKE_USER",        "TAKE_GLOBAL", "OTHER_FRAME",
    "CLEAR_ACCESSED", "CLEAR_DIRTY", "TAKE_TABLE", "TAKE_TABLE_WRITE", "OTHER_SIZE"};

static void narrow(struct bench *bench, enum narrowing narrowing)
{
    neomm_paddr_t leaf = bench_entry(bench, bench->top, V, 1);
    neomm_paddr_t directory = bench_entry(bench, bench->top, V, 2);
    uint64_t page = bench_load(bench, leaf), table = bench_load(bench, directory);
    switch (narrowing) {
    case TAKE_PAGE:
        bench_store(bench, leaf, 0);
        break;
    case TAKE_WRITE:
        bench_store(bench, leaf, page & ~E_W);
        break;
    case TAKE_EXEC:
        bench_store(bench, leaf, page | E_NX);
        break;
    case TAKE_USER:
        bench_store(bench, leaf, page & ~E_U);
        break;
    case TAKE_GLOBAL:
        bench_store(bench, leaf, page & ~E_G);
        break;
    case OTHER_FRAME:
        bench_store(bench, leaf, page ^ PAGE1 ^ PAGE2);
        break;
    case CLEAR_ACCESSED:
        bench_store(bench, leaf, page & ~E_A);
        break;
    case CLEAR_DIRTY:
        bench_store(bench, leaf, page & ~E_D);
        break;
    case TAKE_TABLE:
        bench_store(bench, directory, 0);
        break;
    case TAKE_TABLE_WRITE:
        bench_store(bench, directory, table & ~E_W);
        break;
    case OTHER_SIZE:
        bench_store(bench, directory, (page & ~(uint64_t)0x3ff000) | E_PS);
        break;
    case NARROWINGS:
        break;
    }
}

/* Every CPU reads, writes and runs the page. */
static void use_everywhere(struct ktap *t, struct bench *bench)
{
    for (uint32_t cpu = bench->sim->options.cpus; cpu-- > 0;) {
        sim_bind(bench->sim, cpu);
        for (unsigned access = 0; access < 3; access++)
            EXPECT_EQ(t, bench_access(bench, V, (enum sim_access)access, true, NULL), BENCH_DONE);
    }
}

static void try_narrowing(struct ktap *t, enum narrowing narrowing, int spared)
{
    struct bench bench;
    uint64_t flags = E_P | E_W | E_U | (narrowing == TAKE_GLOBAL ? E_G : 0);
    ASSERT(t, open_cpus(t, &bench, 3));
    point(&bench, V, PAGE1, flags);
    use_everywhere(t, &bench);
    narrow(&bench, narrowing);
    for (int cpu = 2; cpu >= 0; cpu--) {
        sim_bind(bench.sim, (uint32_t)cpu);
        if (cpu == spared)
            continue;
        neomm_cpu_invlpg(V);
        if (narrowing != CLEAR_ACCESSED) /* which a walk would set again */
            (void)bench_access(&bench, V, SIM_READ, true, NULL);
    }
    if (narrowing != OTHER_SIZE) /* which is reported at once, see sim_reach */
        EXPECT_EQ(t, bench_violations(&bench), 0);
    else
        (void)bench_violations(&bench);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_PROTECT);
    const char *text = sim_last_violation(bench.sim);
    unsigned found = bench_violations(&bench);
    if (spared < 0) {
        EXPECT_EQ(t, found, 0);
    } else {
        char cpu[] = "CPU 0,";
        cpu[4] = (char)('0' + spared);
        bool tables = narrowing >= TAKE_TABLE; /* then the cached PDE is stale too */
        if (found < 1u || found > 1u + tables)
            ktap_note(t, "%s, CPU %d: %u violations", narrowing_name[narrowing], spared, found);
        EXPECT(t, found >= 1u && found <= 1u + tables);
        EXPECT(t, strstr(text, "stale translation: ") == text);
        EXPECT(t, strstr(text, cpu) != NULL);
        EXPECT(t, strstr(text, "vaddr 0x401000") != NULL);
        EXPECT(t, strstr(text, "flush due at PROTECT") != NULL);
        EXPECT(t, strstr(text, tables ? "(PDE)" : "(PTE)") != NULL);
        bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_PROTECT);
        EXPECT_EQ(t, bench_violations(&bench), 0); /* once is enough */
    }
    bench_close(t, &bench);
}

/* Each kind of narrowing, with the invalidation left out on one CPU or on none. */
static void narrowings(struct ktap *t)
{
    for (unsigned narrowing = 0; narrowing < NARROWINGS; narrowing++)
        for (int spared = -1; spared < 3; spared++)
            if (narrowing != TAKE_EXEC || t->parameter != NEOMM_FORMAT_2LEVEL)
                try_narrowing(t, (enum narrowing)narrowing, spared);
}

/* What only adds needs no invalidation. */
static void widenings(struct ktap *t)
{
    struct bench bench;
    uint64_t nx = t->parameter == NEOMM_FORMAT_2LEVEL ? 0 : E_NX;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P | nx);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, false, NULL), BENCH_DONE);
    point(&bench, V, PAGE1, E_P | E_A);
    point(&bench, V, PAGE1, E_P | E_A | E_W);
    point(&bench, V, PAGE1, E_P | E_A | E_W | E_U);
    point(&bench, V, PAGE1, E_P | E_A | E_W | E_U | E_D | E_G);
    point(&bench, V + 0x1000, PAGE2, E_P);
    point(&bench, V + 0x1000, 0, 0);
    point(&bench, V + 0x1000, PAGE1, E_P);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_PROTECT);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    /* Taken and given back before anybody could tell. */
    point(&bench, V, 0, 0);
    point(&bench, V, PAGE1, E_P | E_A | E_W | E_U | E_D | E_G);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_PROTECT);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_close(t, &bench);
}

/* Only a paging-structure cache still knows of the table. */
static void cached_table(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    point(&bench, V, PAGE1, E_P);
    neomm_paddr_t directory = bench_entry(&bench, bench.top, V, 2);
    neomm_paddr_t table = bench_load(&bench, directory) & 0xfffff000u;
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    point(&bench, V, 0, 0);
    bench_store(&bench, directory, 0);
    sim_bind(bench.sim, 1); /* the CPU that never used it invalidates; CPU 0 does not */
    neomm_cpu_invlpg(V);
    bench_frames_freed(&bench, table, 1);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "(cached table)") != NULL);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "freed") != NULL);
    sim_bind(bench.sim, 0);
    neomm_cpu_invlpg(0);
    bench_frames_freed(&bench, table, 1);
    bench_frames_allocated(&bench, table, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    neomm_cpu_invlpg(V);
    bench_close(t, &bench);
}

/* Frames change hands: pages of both sizes, and the loaded root. */
static void frames_reached(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 2));
    uint64_t large = (uint64_t)1 << bench_shift(bench.format, 2);
    uint32_t count = (uint32_t)(large >> NEOMM_PAGE_SHIFT);
    point(&bench, V, PAGE1, E_P | E_U);
    bench_map(&bench, 0x40000000u, 2, 3 * large, E_P | E_U);
    (void)target(&bench, V);
    (void)target(&bench, 0x40000000u + (neomm_vaddr_t)large / 2);

    bench_frames_freed(&bench, PAGE2, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_frames_freed(&bench, PAGE1, 1);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    bench_frames_allocated(&bench, PAGE1, 8);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "is allocated") != NULL);
    bench_frames_freed(&bench, 3 * large + large - NEOMM_PAGE_SIZE, 1);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    bench_frames_freed(&bench, 5 * large, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    if (bench_is_long(bench.format)) {
        bench_map(&bench, 0x80000000u, 3, (neomm_paddr_t)1 << 30, E_P | E_U);
        (void)target(&bench, 0x80000000u);
        bench_frames_freed(&bench, ((neomm_paddr_t)1 << 30) + 5 * NEOMM_PAGE_SIZE, 1);
        EXPECT_EQ(t, bench_violations(&bench), 1);
        bench_invalidate(&bench, 0x80000000u);
    }
    bench_frames_freed(&bench, bench.top, 1);
    EXPECT(t, bench_violations(&bench) >= 2); /* as CR3 of both CPUs */
    EXPECT(t, strstr(sim_last_violation(bench.sim), "CR3") != NULL);

    point(&bench, V, 0, 0);
    bench_store(&bench, bench_entry(&bench, bench.top, 0x40000000u, 2), 0);
    bench_invalidate(&bench, V);
    bench_invalidate(&bench, 0x40000000u);
    bench_frames_freed(&bench, PAGE1, 1);
    bench_frames_freed(&bench, 3 * large, count);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    for (uint32_t cpu = 2; cpu-- > 0;) {
        sim_bind(bench.sim, cpu);
        neomm_cpu_write_cr0(neomm_cpu_read_cr0() & ~NEOMM_CR0_PG);
    }
    bench_frames_freed(&bench, bench.top, 1); /* CR3 is of no use without paging */
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_close(t, &bench);
}

/* The kernel's own mapping of all memory reaches every frame and may; its window may not. */
static void kernel_mappings(struct ktap *t)
{
    struct bench bench;
    struct neomm_layout layout;
#if UINTPTR_MAX > 0xffffffffu
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_4LEVEL, NULL));
#else
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_PAE, NULL));
#endif
    sim_layout(bench.sim, &layout);
    point(&bench, layout.direct.base, PAGE1, E_P | E_W | E_G);
    point(&bench, layout.window.base, PAGE2, E_P | E_W | E_G);
    (void)target(&bench, layout.direct.base);
    (void)target(&bench, layout.window.base);
    bench_frames_freed(&bench, PAGE1, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_frames_freed(&bench, PAGE2, 1);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    point(&bench, layout.window.base, 0, 0);
    neomm_cpu_invlpg(layout.window.base);
    bench_frames_freed(&bench, PAGE2, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_close(t, &bench);
}

/* A change in tables that two roots share concerns both; one in another root's own tables does
 * not concern this one. */
static void shared_tables(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t shared = 0xc0000000u + V;
    ASSERT(t, open_cpus(t, &bench, 2));
    neomm_paddr_t kernel = bench.top, process = bench_table(&bench);
    unsigned top = bench_top_level(bench.format);
    point(&bench, shared, PAGE1, E_P | E_G);
    bench_store(&bench, bench_entry(&bench, process, shared, top),
                bench_load(&bench, bench_entry(&bench, kernel, shared, top)));
    bench_activate(&bench, process);
    point(&bench, V, PAGE2, E_P);
    EXPECT_EQ(t, target(&bench, shared), PAGE1);
    EXPECT_EQ(t, target(&bench, V), PAGE2);

    point(&bench, V, 0, 0);
    bench_settled(&bench, kernel, NEOMM_FLUSH_SITE_UNMAP);
    /* With 4 and 5 levels V and the shared page have one top entry. */
    bool apart = !bench_is_long(bench.format);
    EXPECT_EQ(t, bench_violations(&bench), apart ? 0 : 2); /* a CPU each */
    bench_invalidate(&bench, V);
    point(&bench, shared, 0, 0);
    sim_bind(bench.sim, 1); /* another CPU's operation ends: not the one that is at it */
    bench_settled(&bench, kernel, NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    sim_bind(bench.sim, 0);
    bench_settled(&bench, kernel, NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&bench), 2);
    bench_invalidate(&bench, shared);

    /* The process's own copy of a top entry is no matter of the kernel's. */
    point(&bench, shared, PAGE1, E_P | E_G);
    EXPECT_EQ(t, target(&bench, shared), PAGE1);
    bench_store(&bench, bench_entry(&bench, process, shared, top), 0);
    bench_settled(&bench, kernel, NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_settled(&bench, process, NEOMM_FLUSH_SITE_UNMAP);
    /* The page and the cached tables above it; with PAE the other CPU's register too. */
    EXPECT(t, bench_violations(&bench) >= top + (bench.format == NEOMM_FORMAT_PAE));
    bench_close(t, &bench);
}

/* Global entries outlive the root they were filled through, and care no more for its frame. */
static void root_reused(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t shared = 0xc0000000u + V;
    ASSERT(t, open_cpus(t, &bench, 1));
    neomm_paddr_t kernel = bench.top, process = bench_table(&bench);
    unsigned top = bench_top_level(bench.format);
    point(&bench, shared, PAGE1, E_P | E_G);
    neomm_paddr_t copy = bench_entry(&bench, process, shared, top);
    bench_store(&bench, copy, bench_load(&bench, bench_entry(&bench, kernel, shared, top)));
    bench_activate(&bench, process);
    EXPECT_EQ(t, target(&bench, shared), PAGE1);
    bench_activate(&bench, kernel);
    bench_frames_freed(&bench, process, 1);
    bench_frames_allocated(&bench, process, 1);
    bench_store(&bench, copy, PAGE2 | E_P);
    bench_settled(&bench, process, NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    point(&bench, shared, 0, 0);
    bench_settled(&bench, kernel, NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    neomm_cpu_invlpg(shared);
    bench_close(t, &bench);
}

/* Entries that are gone leave nothing behind in those that take their place. */
static void entries_reused(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t shared = 0xc0000000u + V;
    ASSERT(t, open_cpus(t, &bench, 1));
    neomm_paddr_t kernel = bench.top, process = bench_table(&bench);
    unsigned top = bench_top_level(bench.format);
    point(&bench, V, PAGE2, E_P);
    point(&bench, shared, PAGE1, E_P | E_G);
    bench_store(&bench, bench_entry(&bench, process, shared, top),
                bench_load(&bench, bench_entry(&bench, kernel, shared, top)));
    bench_activate(&bench, process);
    EXPECT_EQ(t, target(&bench, shared), PAGE1);
    neomm_cpu_invlpg(shared);
    bench_activate(&bench, kernel);
    EXPECT_EQ(t, target(&bench, V), PAGE2);
    bench_frames_freed(&bench, process, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_store(&bench, bench_entry(&bench, kernel, V, top), 0);
    bench_settled(&bench, kernel, NEOMM_FLUSH_SITE_UNMAP);
    /* With 4 and 5 levels the other page and its two tables have the same top entry. */
    EXPECT_EQ(t, bench_violations(&bench), top + (bench_is_long(bench.format) ? 3 : 0));
    bench_close(t, &bench);
}

/* A table's own address becomes the address of a large page. */
static void table_becomes_page(struct ktap *t)
{
    struct bench bench;
    const neomm_paddr_t table = (neomm_paddr_t)4 << 20;
    ASSERT(t, open_cpus(t, &bench, 1));
    neomm_paddr_t directory = bench_entry(&bench, bench.top, V, 2);
    static const uint8_t zero[NEOMM_PAGE_SIZE];
    EXPECT(t, sim_physical_write(bench.sim, table, zero, sizeof(zero)));
    bench_store(&bench, directory, table | E_P | E_W);
    point(&bench, V, PAGE1, E_P);
    EXPECT_EQ(t, target(&bench, V), PAGE1);
    bench_store(&bench, directory, table | E_P | E_W | E_PS | E_A | E_D);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_SPLIT);
    EXPECT_EQ(t, bench_violations(&bench), 2);
    bench_close(t, &bench);
}

/* A PDPTE that changes in memory while a CPU has it in a register. */
static void stale_register(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_PAE, NULL));
    point(&bench, V, PAGE1, E_P);
    uint64_t value = bench_load(&bench, bench.top);
    bench_store(&bench, bench.top, 0);
    neomm_cpu_invlpg(V);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_UNMAP_TABLE);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "UNMAP_TABLE") != NULL);
    bench_frames_freed(&bench, value & ~(uint64_t)0xfff, 1);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    neomm_cpu_write_cr3(neomm_cpu_read_cr3());
    bench_frames_freed(&bench, value & ~(uint64_t)0xfff, 1);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_close(t, &bench);
}

/* Going by what was reported is reported again, at its use; before it settled it is allowed. */
static void use_of_stale(struct ktap *t)
{
    struct bench bench;
    uint32_t error;
    ASSERT(t, open_cpus(t, &bench, 1));
    point(&bench, V, PAGE1, E_P);
    EXPECT(t, sim_reference_inline(bench.sim, V, SIM_READ, false, &error) != NULL);
    point(&bench, V, 0, 0);
    EXPECT(t, sim_reference_inline(bench.sim, V, SIM_READ, false, &error) != NULL);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, sim_reference_inline(bench.sim, V, SIM_READ, false, &error) != NULL);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "used by kernel read of 0x401000") != NULL);
    EXPECT(t, sim_reference_inline(bench.sim, V, SIM_READ, false, &error) != NULL);
    EXPECT_EQ(t, bench_violations(&bench), 0); /* once is enough */

    neomm_paddr_t directory = bench_entry(&bench, bench.top, V, 2);
    point(&bench, V + 0x5000, PAGE2, E_P);
    bench_store(&bench, directory, 0);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_UNMAP_TABLE);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT_EQ(t, target(&bench, V + 0x5000), PAGE2);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "used by kernel read of 0x406000") != NULL);
    bench_close(t, &bench);
}

/* The report names the access that filled the entry and both values of what changed. */
static void report_text(struct ktap *t)
{
    struct bench bench;
    char want[160];
    ASSERT(t, open_cpus(t, &bench, 1));
    neomm_paddr_t entry = bench_entry(&bench, bench.top, V, 1);
    (void)target(&bench, V);
    point(&bench, V, PAGE1, E_P | E_U);
    (void)target(&bench, V + 0x1000);
    EXPECT_EQ(t, bench_access(&bench, V + 0x123, SIM_FETCH, true, NULL), BENCH_DONE);
    point(&bench, V, PAGE2, E_P | E_U);
    bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_EXCHANGE);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    (void)snprintf(want, sizeof(want),
                   "vaddr 0x401123, filled by user fetch #3 (clock 0) from entry at %#llx (PTE), "
                   "entry changed 0x800025 -> 0x801005 by CPU 0 at +0x",
                   (unsigned long long)entry);
    EXPECT(t, strstr(sim_last_violation(bench.sim), want) != NULL);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "; flush due at EXCHANGE") != NULL);
    bench_close(t, &bench);
}

static void skip_flush(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    for (unsigned skipped = 0; skipped <= NEOMM_FLUSH_SITES; skipped++) {
        sim_skip_flush(bench.sim, (enum neomm_flush_site)skipped);
        for (unsigned site = 0; site < NEOMM_FLUSH_SITES; site++)
            EXPECT_EQ(t, neomm_hook_flush_skipped((enum neomm_flush_site)site), site == skipped);
    }
    EXPECT(t, strcmp(sim_flush_site_name(NEOMM_FLUSH_SITE_UNMAP), "UNMAP") == 0);
    EXPECT(t, strcmp(sim_flush_site_name(NEOMM_FLUSH_SITES), "?") == 0);
    bench_close(t, &bench);
}

/* ---- CPUs that sleep ---- */

/* CPU 1 has used the page at V, and sleeps while CPU 0 takes it away. */
static void take_from_sleeper(struct ktap *t, struct bench *bench)
{
    ASSERT(t, open_cpus(t, bench, 2));
    point(bench, V, PAGE1, E_P | E_U);
    sim_bind(bench->sim, 1);
    EXPECT_EQ(t, bench_access(bench, V, SIM_READ, true, NULL), BENCH_DONE);
    neomm_hook_idle(true);
    sim_bind(bench->sim, 0);
    point(bench, V, 0, 0);
    neomm_cpu_invlpg(V);
    bench_settled(bench, bench->top, NEOMM_FLUSH_SITE_UNMAP);
    bench_frames_freed(bench, PAGE1, 1);
    bench_frames_allocated(bench, PAGE1, 1);
    EXPECT_EQ(t, bench_violations(bench), 0);
    sim_bind(bench->sim, 1);
}

static void a_sleeper_keeps_pages(struct ktap *t)
{
    struct bench bench;
    take_from_sleeper(t, &bench);
    neomm_cpu_invlpg(V);
    neomm_hook_idle(false);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    sim_bind(bench.sim, 0);
    bench_close(t, &bench);
}

static void a_sleeper_wakes_without_a_flush(struct ktap *t)
{
    struct bench bench;
    take_from_sleeper(t, &bench);
    neomm_hook_idle(false);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "CPU 1, vaddr 0x401000") != NULL);
    EXPECT(t, strstr(sim_last_violation(bench.sim),
                     "its CPU wakes without a flush; due at UNMAP") != NULL);
    sim_bind(bench.sim, 0);
    bench_close(t, &bench);
}

static void a_sleeper_uses_a_page(struct ktap *t)
{
    struct bench bench;
    take_from_sleeper(t, &bench);
    EXPECT_EQ(t, bench_access(&bench, V, SIM_READ, true, NULL), BENCH_DONE);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "used by user read") != NULL);
    neomm_cpu_invlpg(V);
    neomm_hook_idle(false);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    sim_bind(bench.sim, 0);
    bench_close(t, &bench);
}

/* Global pages too; but tables, which it may walk through unasked, and pages of another size are
 * due as if it were awake. */
static void a_sleeper_keeps_no_tables(struct ktap *t)
{
    for (unsigned size = 0; size < 2; size++) {
        struct bench bench;
        ASSERT(t, open_cpus(t, &bench, 2));
        point(&bench, V, PAGE1, E_P | E_G);
        neomm_paddr_t directory = bench_entry(&bench, bench.top, V, 2);
        sim_bind(bench.sim, 1);
        EXPECT_EQ(t, target(&bench, V), PAGE1);
        neomm_hook_idle(true);
        sim_bind(bench.sim, 0);
        point(&bench, V, 0, 0);
        neomm_cpu_invlpg(V);
        bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_UNMAP);
        EXPECT_EQ(t, bench_violations(&bench), 0);
        bench_store(&bench, directory, 0);
        neomm_cpu_invlpg(V);
        if (size != 0) {
            bench_store(&bench, directory, E_P | E_PS);
            EXPECT(t, bench_violations(&bench) >= 1);
            EXPECT(t, strstr(sim_last_violation(bench.sim), "another size") != NULL);
            bench_store(&bench, directory, 0);
        }
        bench_settled(&bench, bench.top, NEOMM_FLUSH_SITE_UNMAP_TABLE);
        EXPECT_EQ(t, bench_violations(&bench), 1);
        EXPECT(t, strstr(sim_last_violation(bench.sim), "(cached table)") != NULL);
        sim_bind(bench.sim, 1);
        neomm_hook_idle(false);
        EXPECT_EQ(t, bench_violations(&bench), 1); /* the page */
        sim_bind(bench.sim, 0);
        bench_close(t, &bench);
    }
}

/* It has nothing to do, so it takes no locks either. */
static void a_sleeper_has_no_locks(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    neomm_irq_t irq = neomm_port_irq_save();
    neomm_hook_idle(true);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    neomm_hook_locked(NEOMM_LOCK_CLASS_PMM);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    neomm_hook_idle(true);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    neomm_hook_unlocked(NEOMM_LOCK_CLASS_PMM);
    neomm_hook_idle(false);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    neomm_port_irq_restore(irq);
    bench_close(t, &bench);
}

/* ---- what users are shown ---- */

/* What free memory holds, at the end of a page. */
static void leave(struct ktap *t, struct bench *bench, neomm_paddr_t page, uint64_t word)
{
    EXPECT(t, sim_physical_write(bench->sim, page + NEOMM_PAGE_SIZE - sizeof(word), &word,
                                 sizeof(word)));
}

static void pages_shown(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_cpus(t, &bench, 1));
    leave(t, &bench, PAGE1, SIM_POISON);
    point(&bench, V, PAGE1, E_P | E_U);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    sim_watch_pages(bench.sim, true);
    point(&bench, V, PAGE1, E_P | E_U | E_W);
    point(&bench, V + NEOMM_PAGE_SIZE, PAGE1, E_P);
    point(&bench, V + NEOMM_PAGE_SIZE, PAGE1, E_U);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    point(&bench, V + NEOMM_PAGE_SIZE, PAGE1, E_P | E_U);
    EXPECT_EQ(t, bench_violations(&bench), 1);
    EXPECT(t, strstr(sim_last_violation(bench.sim), "offset 0xff8") != NULL);
    leave(t, &bench, PAGE1, 0);
    point(&bench, V + 2 * NEOMM_PAGE_SIZE, PAGE1, E_P | E_U);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    leave(t, &bench, PAGE2, SIM_POISON);
    bench_store(&bench, bench_table(&bench), PAGE2 | E_P | E_U);
    EXPECT_EQ(t, bench_violations(&bench), 0);
    bench_close(t, &bench);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(pages_shown, all_formats),
    KTAP_CASE_WITH(narrowings, all_formats),
    KTAP_CASE_WITH(widenings, all_formats),
    KTAP_CASE_WITH(cached_table, all_formats),
    KTAP_CASE_WITH(frames_reached, all_formats),
    KTAP_CASE(kernel_mappings),
    KTAP_CASE_WITH(shared_tables, all_formats),
    KTAP_CASE_WITH(root_reused, all_formats),
    KTAP_CASE_WITH(entries_reused, all_formats),
    KTAP_CASE_WITH(table_becomes_page, all_formats),
    KTAP_CASE(stale_register),
    KTAP_CASE_WITH(use_of_stale, all_formats),
    KTAP_CASE(report_text),
    KTAP_CASE(skip_flush),
    KTAP_CASE_WITH(a_sleeper_keeps_pages, all_formats),
    KTAP_CASE_WITH(a_sleeper_wakes_without_a_flush, all_formats),
    KTAP_CASE_WITH(a_sleeper_uses_a_page, all_formats),
    KTAP_CASE_WITH(a_sleeper_keeps_no_tables, all_formats),
    KTAP_CASE_WITH(a_sleeper_has_no_locks, all_formats),
};
KTAP_SUITE(sim_check, cases);
