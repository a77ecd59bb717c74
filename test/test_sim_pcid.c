/* Tests of PCIDs in the simulated TLBs: what each instruction keeps, and what comes back.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.10.1, 4.10.2.4, 4.10.4.1; volume 2A, INVPCID.
 */
#include "share.h"
#include "sim_tables.h"

#include "sim/mmu.h"

#include <string.h>

static const uint64_t long_formats[] = {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL};

/* Two pages under one PDE and one far away, which has upper tables of its own. */
#define V      ((neomm_vaddr_t)0x401000)
#define GLOBAL (V + NEOMM_PAGE_SIZE)
#define OTHER  (V + 2 * NEOMM_PAGE_SIZE)
#define FAR    ((neomm_vaddr_t)0x7f401000)
#define PAGE1  BENCH_LEAVES
#define PAGE2  (BENCH_LEAVES + NEOMM_PAGE_SIZE)
#define PAGE3  (BENCH_LEAVES + 2 * NEOMM_PAGE_SIZE)

/* Tables that CPU 0 knows under PCIDs 1 and 2. */
struct contexts {
    struct bench bench;
    neomm_paddr_t root[3];
};

static void load(const struct contexts *c, uint32_t pcid, uint64_t keep)
{
    neomm_cpu_write_cr3((uintptr_t)(c->root[pcid] | pcid | keep));
}

static bool open_contexts(struct ktap *t, struct contexts *c, uint32_t absent)
{
    struct sim_options options = {.absent = absent};
    if (sizeof(uintptr_t) < 8) {
        ktap_skip(t, "PCIDs are of 64-bit mode");
        return false;
    }
    if (!bench_open(t, &c->bench, (enum neomm_format)t->parameter, &options))
        return false;
    c->root[0] = bench_table(&c->bench);
    c->root[1] = bench_table(&c->bench);
    c->root[2] = bench_table(&c->bench);
    load(c, 0, 0);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PCIDE);
    EXPECT_EQ(t, bench_violations(&c->bench), 0);
    return true;
}

static void point(struct contexts *c, uint32_t pcid, neomm_vaddr_t vaddr, uint64_t entry)
{
    bench_store(&c->bench, bench_entry(&c->bench, c->root[pcid], vaddr, 1), entry);
}

/* Where a kernel read of vaddr leads; 0: a fault. */
static neomm_paddr_t target(const struct contexts *c, neomm_vaddr_t vaddr)
{
    neomm_paddr_t paddr = 0;
    return bench_access(&c->bench, vaddr, SIM_READ, false, &paddr) == BENCH_DONE ? paddr : 0;
}

/* ---- what each instruction drops ---- */

/* Caches leaves and upper entries in both contexts, then puts other tables in their place. */
static void fill(struct ktap *t, struct contexts *c)
{
    for (uint32_t pcid = 1; pcid <= 2; pcid++) {
        load(c, pcid, NEOMM_CR3_KEEP);
        point(c, pcid, V, PAGE1 | E_P);
        point(c, pcid, GLOBAL, pcid == 1 ? PAGE1 | E_P | E_G : 0);
        point(c, pcid, OTHER, PAGE1 | E_P);
        point(c, pcid, FAR, PAGE3 | E_P);
        point(c, pcid, FAR + NEOMM_PAGE_SIZE, PAGE1 | E_P);
        EXPECT_EQ(t, target(c, V), PAGE1);
        EXPECT_EQ(t, target(c, GLOBAL), PAGE1); /* in the second, thanks to the first */
        EXPECT_EQ(t, target(c, FAR), PAGE3);
        bench_store(&c->bench, bench_entry(&c->bench, c->root[pcid], V, 2),
                    bench_table(&c->bench) | E_P | E_W);
        bench_store(&c->bench, bench_entry(&c->bench, c->root[pcid], FAR, 2),
                    bench_table(&c->bench) | E_P | E_W);
        for (neomm_vaddr_t at = V; at <= OTHER; at += NEOMM_PAGE_SIZE)
            point(c, pcid, at, PAGE2 | E_P);
        point(c, pcid, FAR + NEOMM_PAGE_SIZE, PAGE2 | E_P);
    }
    load(c, 1, NEOMM_CR3_KEEP);
}

enum drop { INVLPG, INVLPG_GLOBAL, CR3, CR3_KEEP, ADDRESS1, ADDRESS2, ADDRESS_GLOBAL, CONTEXT1 };
enum more { CONTEXT2 = CONTEXT1 + 1, ALL_AND_GLOBAL, ALL, PGE, SMEP, DROPS };

static void drop_by(const struct contexts *c, unsigned drop)
{
    uintptr_t cr4 = neomm_cpu_read_cr4();
    if (drop <= INVLPG_GLOBAL)
        neomm_cpu_invlpg(drop == INVLPG ? V : GLOBAL);
    else if (drop <= CR3_KEEP)
        load(c, 1, drop == CR3 ? 0 : NEOMM_CR3_KEEP);
    else if (drop <= ADDRESS_GLOBAL)
        neomm_cpu_invpcid(NEOMM_INVPCID_ADDRESS, drop == ADDRESS2 ? 2 : 1,
                          drop == ADDRESS_GLOBAL ? GLOBAL : V);
    else if (drop <= CONTEXT2)
        neomm_cpu_invpcid(NEOMM_INVPCID_CONTEXT, drop == CONTEXT1 ? 1 : 2, 0);
    else if (drop == ALL_AND_GLOBAL || drop == ALL)
        neomm_cpu_invpcid(drop == ALL ? NEOMM_INVPCID_ALL : NEOMM_INVPCID_ALL_AND_GLOBAL, 0, 0);
    if (drop == PGE || drop == SMEP) {
        neomm_cpu_write_cr4(cr4 ^ (drop == PGE ? NEOMM_CR4_PGE : NEOMM_CR4_SMEP));
        neomm_cpu_write_cr4(cr4);
    }
}

/* Of each context: L its leaf, T the upper entries for that, F those for the far page; G: the
 * global leaf. A letter in place of a dash: dropped. */
static const char *const dropped[DROPS] = {[INVLPG] = "LTF- ---",
                                           [INVLPG_GLOBAL] = "-TFG ---",
                                           [CR3] = "LTF- ---",
                                           [CR3_KEEP] = "---- ---",
                                           [ADDRESS1] = "LT-- ---",
                                           [ADDRESS2] = "---- LT-",
                                           [ADDRESS_GLOBAL] = "-T-- ---",
                                           [CONTEXT1] = "LTF- ---",
                                           [CONTEXT2] = "---- LTF",
                                           [ALL_AND_GLOBAL] = "LTFG LTF",
                                           [ALL] = "LTF- LTF",
                                           [PGE] = "LTFG LTF",
                                           [SMEP] = "LTF- ---"};

static void look(const struct contexts *c, uint32_t pcid, char *seen)
{
    load(c, pcid, NEOMM_CR3_KEEP);
    seen[0] = target(c, V) == PAGE1 ? '-' : 'L';
    seen[1] = target(c, OTHER) == PAGE1 ? '-' : 'T';
    seen[2] = target(c, FAR + NEOMM_PAGE_SIZE) == PAGE1 ? '-' : 'F';
    if (pcid == 1)
        seen[3] = target(c, GLOBAL) == PAGE1 ? '-' : 'G';
}

static void what_is_dropped(struct ktap *t)
{
    for (unsigned drop = 0; drop < DROPS; drop++) {
        struct contexts c;
        char seen[9] = "     ";
        if (!open_contexts(t, &c, 0))
            return;
        fill(t, &c);
        drop_by(&c, drop);
        look(&c, 1, seen);
        look(&c, 2, seen + 5);
        if (strcmp(seen, dropped[drop]) != 0)
            ktap_note(t, "instruction %u: dropped %s, not %s", drop, seen, dropped[drop]);
        EXPECT(t, strcmp(seen, dropped[drop]) == 0);
        bench_close(t, &c.bench);
    }
}

/* CR4.PCIDE: 0 to 1 drops nothing, 1 to 0 everything. */
static void turned_on_and_off(struct ktap *t)
{
    struct contexts c;
    if (!open_contexts(t, &c, 0))
        return;
    uintptr_t cr4 = neomm_cpu_read_cr4();
    neomm_cpu_write_cr4(cr4 & ~NEOMM_CR4_PCIDE);
    point(&c, 0, V, PAGE1 | E_P);
    EXPECT_EQ(t, target(&c, V), PAGE1);
    point(&c, 0, V, PAGE2 | E_P);
    neomm_cpu_write_cr4(cr4);
    EXPECT_EQ(t, target(&c, V), PAGE1);
    point(&c, 1, V, PAGE1 | E_P);
    point(&c, 1, GLOBAL, PAGE1 | E_P | E_G);
    load(&c, 1, 0);
    EXPECT_EQ(t, target(&c, V), PAGE1);
    EXPECT_EQ(t, target(&c, GLOBAL), PAGE1);
    point(&c, 1, V, PAGE2 | E_P);
    load(&c, 0, NEOMM_CR3_KEEP);
    EXPECT_EQ(t, target(&c, V), PAGE1);
    neomm_cpu_write_cr4(cr4 & ~NEOMM_CR4_PCIDE);
    EXPECT_EQ(t, target(&c, V), PAGE2);
    EXPECT_EQ(t, target(&c, GLOBAL), 0);
    neomm_cpu_write_cr4(cr4);
    load(&c, 1, NEOMM_CR3_KEEP);
    EXPECT_EQ(t, target(&c, V), PAGE2);
    bench_close(t, &c.bench);
}

/* The register holds the PCID and not bit 63; the fast path follows the PCID. */
static void loads(struct ktap *t)
{
    struct contexts c;
    uint32_t error;
    if (!open_contexts(t, &c, 0))
        return;
    for (uint32_t pcid = 1; pcid <= 2; pcid++)
        point(&c, pcid, V, (pcid == 1 ? PAGE1 : PAGE2) | E_P);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t pcid = 1 + i % 2;
        load(&c, pcid, NEOMM_CR3_KEEP);
        EXPECT_EQ(t, neomm_cpu_read_cr3(), c.root[pcid] | pcid);
        for (unsigned again = 0; again < 2; again++)
            EXPECT(t, sim_reference_inline(c.bench.sim, V, SIM_READ, false, &error) ==
                          sim_pointer(c.bench.sim, pcid == 1 ? PAGE1 : PAGE2));
    }
    struct sim_tlb_stats stats;
    sim_tlb_stats(c.bench.sim, &stats);
    EXPECT_EQ(t, stats.walks, 2); /* once a context */
    bench_close(t, &c.bench);
}

/* ---- faults ---- */

static void refused(struct ktap *t)
{
    struct contexts c;
    if (!open_contexts(t, &c, 0))
        return;
    struct bench *bench = &c.bench;
    uintptr_t cr4 = neomm_cpu_read_cr4();
    neomm_cpu_invpcid((enum neomm_invpcid)4, 0, 0);
    EXPECT_EQ(t, bench_violations(bench), 1);
    neomm_cpu_invpcid(NEOMM_INVPCID_CONTEXT, 0x1000, 0);
    EXPECT_EQ(t, bench_violations(bench), 1);
    neomm_cpu_invpcid(NEOMM_INVPCID_ADDRESS, 1, (neomm_vaddr_t)((uint64_t)1 << 60));
    EXPECT_EQ(t, bench_violations(bench), 1);
    neomm_cpu_invpcid(NEOMM_INVPCID_CONTEXT, 0xfff, (neomm_vaddr_t)((uint64_t)1 << 60));
    EXPECT_EQ(t, bench_violations(bench), 0);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() & ~NEOMM_CR0_PG);
    EXPECT_EQ(t, bench_violations(bench), 1);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() | NEOMM_CR0_PG);

    neomm_cpu_write_cr4(cr4 & ~NEOMM_CR4_PCIDE);
    neomm_cpu_invpcid(NEOMM_INVPCID_CONTEXT, 1, 0);
    EXPECT_EQ(t, bench_violations(bench), 1);
    neomm_cpu_invpcid(NEOMM_INVPCID_CONTEXT, 0, 0);
    neomm_cpu_invpcid(NEOMM_INVPCID_ALL, 0, 0);
    EXPECT_EQ(t, bench_violations(bench), 0);
    load(&c, 0, NEOMM_CR3_KEEP);
    EXPECT_EQ(t, bench_violations(bench), 1); /* bit 63 is reserved then */
    load(&c, 1, 0);
    EXPECT_EQ(t, bench_violations(bench), 0);
    neomm_cpu_write_cr4(cr4);
    EXPECT_EQ(t, bench_violations(bench), 1); /* the PCID in CR3 is not 0 */
    load(&c, 0, 0);
    bench_close(t, bench);
}

static bool cpuid_has(uint32_t leaf, unsigned word, unsigned bit)
{
    uint32_t out[4];
    neomm_cpu_cpuid(leaf, 0, out);
    return (out[word] >> bit & 1u) != 0;
}

static void features(struct ktap *t)
{
    for (uint32_t absent = 0; absent < 4; absent++) {
        struct bench bench;
        bool has_pcid = (absent & 1) == 0, has_invpcid = (absent & 2) == 0;
        bool is_long = bench_is_long((enum neomm_format)t->parameter);
        struct sim_options options = {.absent = (has_pcid ? 0 : SIM_NO_PCID) |
                                                (has_invpcid ? 0 : SIM_NO_INVPCID)};
        ASSERT(t, bench_open(t, &bench, (enum neomm_format)t->parameter, &options));
        EXPECT_EQ(t, cpuid_has(1, 2, 17), has_pcid && is_long);
        EXPECT_EQ(t, cpuid_has(7, 1, 10), has_invpcid);
        neomm_cpu_invpcid(NEOMM_INVPCID_ALL, 0, 0);
        EXPECT_EQ(t, bench_violations(&bench), !has_invpcid);
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PCIDE);
        EXPECT_EQ(t, bench_violations(&bench), !(has_pcid && is_long));
        bench_close(t, &bench);
    }
}

/* ---- what the checker makes of contexts that are not loaded ---- */

#if NEOMM_INSTRUMENTED
/* A stale translation of another PCID waits for that to be loaded: with an invalidation, or to be
 * reported. */
static void stale_when_it_comes_back(struct ktap *t)
{
    struct contexts c;
    if (!open_contexts(t, &c, 0))
        return;
    for (unsigned i = 0; i < 3; i++) {
        load(&c, 1, 0);
        point(&c, 1, V, PAGE1 | E_P | E_U);
        EXPECT_EQ(t, target(&c, V), PAGE1);
        load(&c, 2, NEOMM_CR3_KEEP);
        point(&c, 1, V, 0);
        bench_settled(&c.bench, c.root[1], NEOMM_FLUSH_SITE_UNMAP);
        bench_frames_freed(&c.bench, PAGE1, 1);
        EXPECT_EQ(t, bench_violations(&c.bench), 0);
        if (i == 1)
            neomm_cpu_invpcid(NEOMM_INVPCID_ADDRESS, 1, V);
        load(&c, 1, i == 2 ? 0 : NEOMM_CR3_KEEP);
        EXPECT_EQ(t, bench_violations(&c.bench), i == 0);
        if (i == 0) {
            const char *text = sim_last_violation(c.bench.sim);
            EXPECT(t, strstr(text, "stale translation: CPU 0, vaddr 0x401000, filled by") == text);
            EXPECT(t, strstr(text, "PCID 1 comes back without a flush; due at UNMAP") != NULL);
        }
    }
    bench_close(t, &c.bench);
}

/* The other way round: the tables of a context that is not loaded are freed, untouched. */
static void tables_freed_meanwhile(struct ktap *t)
{
    struct contexts c;
    if (!open_contexts(t, &c, 0))
        return;
    load(&c, 1, 0);
    point(&c, 1, V, PAGE1 | E_P | E_U);
    EXPECT_EQ(t, target(&c, V), PAGE1);
    neomm_paddr_t directory = bench_entry(&c.bench, c.root[1], V, 2);
    neomm_paddr_t table = bench_load(&c.bench, directory) & 0xfffff000u;
    load(&c, 2, NEOMM_CR3_KEEP);
    static const uint8_t zero[NEOMM_PAGE_SIZE];
    EXPECT(t, sim_physical_write(c.bench.sim, directory & ~(neomm_paddr_t)0xfff, zero, 4096));
    bench_frames_freed(&c.bench, table, 1);
    EXPECT_EQ(t, bench_violations(&c.bench), 0);
    load(&c, 1, NEOMM_CR3_KEEP);
    EXPECT_EQ(t, bench_violations(&c.bench), 1);
    EXPECT(t, strstr(sim_last_violation(c.bench.sim), "(cached table)") != NULL);
    load(&c, 1, 0);
    bench_close(t, &c.bench);
}

/* A global translation is in use under every PCID. */
static void global_is_never_dormant(struct ktap *t)
{
    struct contexts c;
    if (!open_contexts(t, &c, 0))
        return;
    load(&c, 1, 0);
    point(&c, 1, V, PAGE1 | E_P | E_G);
    EXPECT_EQ(t, target(&c, V), PAGE1);
    load(&c, 2, NEOMM_CR3_KEEP);
    point(&c, 1, V, 0);
    neomm_cpu_invpcid(NEOMM_INVPCID_CONTEXT, 1, 0);
    bench_settled(&c.bench, c.root[1], NEOMM_FLUSH_SITE_UNMAP);
    EXPECT_EQ(t, bench_violations(&c.bench), 1);
    neomm_cpu_invlpg(V);
    bench_close(t, &c.bench);
}
#endif

/* ---- long runs ---- */

#define RUN_CPUS  2u
#define RUN_PCIDS 3u
#define RUN_PAGES 40u
#define RUN_STEPS ((uint32_t)share_of(300000))

/* Contexts 1 to RUN_PCIDS, whose pages are changed wherever they are loaded: a CPU that goes by
 * another PCID invalidates at once, or when it comes back. */
struct run {
    struct bench bench;
    struct ktap *t;
    uint64_t random;
    neomm_paddr_t root[RUN_PCIDS + 1];
    uint64_t page[RUN_PCIDS + 1][RUN_PAGES];
    uint32_t loaded[RUN_CPUS];
    bool owes[RUN_CPUS][RUN_PCIDS + 1];
    bool forgets; /* what it owes, now and then */
};

static uint32_t choose(struct run *run, uint32_t count)
{
    uint64_t x = run->random = run->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((x >> 33) % count);
}

static neomm_vaddr_t run_vaddr(uint32_t page)
{
    return V + page % 4 * (neomm_vaddr_t)0x10000000 + page / 4 * (neomm_vaddr_t)NEOMM_PAGE_SIZE;
}

static void run_invalidate(struct run *run, uint32_t cpu, uint32_t pcid, neomm_vaddr_t vaddr)
{
    sim_bind(run->bench.sim, cpu);
    if (run->loaded[cpu] == pcid && choose(run, 2))
        neomm_cpu_invlpg(vaddr);
    else if (run->loaded[cpu] == pcid || choose(run, 4) == 0)
        neomm_cpu_invpcid(choose(run, 2) ? NEOMM_INVPCID_ADDRESS : NEOMM_INVPCID_CONTEXT, pcid,
                          vaddr);
    else if (!run->forgets || choose(run, 8))
        run->owes[cpu][pcid] = true;
}

static void run_change(struct run *run)
{
    uint32_t pcid = 1 + choose(run, RUN_PCIDS), page = choose(run, RUN_PAGES);
    neomm_paddr_t frame = BENCH_LEAVES + (neomm_paddr_t)choose(run, 64) * NEOMM_PAGE_SIZE;
    uint64_t after = choose(run, 4) ? frame | E_P | E_U | (choose(run, 2) ? E_W : 0) : 0;
    uint64_t *now = &run->page[pcid][page];
    bool was_there = (*now & E_P) != 0;
    bench_store(&run->bench, bench_entry(&run->bench, run->root[pcid], run_vaddr(page), 1), after);
    *now = after;
    for (uint32_t cpu = 0; was_there && cpu < RUN_CPUS; cpu++)
        run_invalidate(run, cpu, pcid, run_vaddr(page));
    bench_settled(&run->bench, run->root[pcid], NEOMM_FLUSH_SITE_EXCHANGE);
}

static void run_load(struct run *run)
{
    uint32_t cpu = choose(run, RUN_CPUS), pcid = 1 + choose(run, RUN_PCIDS);
    bool owes = run->owes[cpu][pcid], first = choose(run, 2);
    sim_bind(run->bench.sim, cpu);
    if (owes && first)
        neomm_cpu_invpcid(choose(run, 4) ? NEOMM_INVPCID_CONTEXT : NEOMM_INVPCID_ALL, pcid, 0);
    neomm_cpu_write_cr3(
        (uintptr_t)(run->root[pcid] | pcid | (owes && !first ? 0 : NEOMM_CR3_KEEP)));
    run->owes[cpu][pcid] = false;
    run->loaded[cpu] = pcid;
}

static void run_access(struct run *run)
{
    uint32_t page = choose(run, RUN_PAGES), error = 0;
    sim_bind(run->bench.sim, choose(run, RUN_CPUS));
    uint64_t entry = run->page[run->loaded[sim_this_cpu()->index]][page];
    enum sim_access access = choose(run, 3) ? SIM_READ : SIM_WRITE;
    const void *at = NULL;
    for (unsigned i = 0; i < 2 && !at; i++)
        at = sim_reference_inline(run->bench.sim, run_vaddr(page), access, true, &error);
    bool want = (entry & E_P) && (access == SIM_READ || (entry & E_W));
    if (!run->forgets)
        EXPECT(run->t, at == (want ? sim_pointer(run->bench.sim, entry & 0xfffff000u) : NULL));
}

static bool run_open(struct ktap *t, struct run *run, uint32_t whims)
{
    struct sim_options options = {.cpus = RUN_CPUS, .whims = whims};
    memset(run, 0, sizeof(*run));
    run->t = t;
    if (sizeof(uintptr_t) < 8) {
        ktap_skip(t, "PCIDs are of 64-bit mode");
        return false;
    }
    if (!bench_open(t, &run->bench, (enum neomm_format)t->parameter, &options))
        return false;
    for (uint32_t pcid = 1; pcid <= RUN_PCIDS; pcid++)
        run->root[pcid] = bench_table(&run->bench);
    for (uint32_t cpu = RUN_CPUS; cpu-- > 0;) {
        sim_bind(run->bench.sim, cpu);
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PCIDE);
        neomm_cpu_write_cr3((uintptr_t)run->root[1] | 1);
        run->loaded[cpu] = 1;
    }
    return true;
}

static void run_steps(struct run *run, uint32_t steps)
{
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t kind = choose(run, 64);
        if (kind < 4)
            run_change(run);
        else if (kind < 8)
            run_load(run);
        else
            run_access(run);
    }
}

static void correct_run(struct ktap *t)
{
    static const uint32_t whims[] = {0, 1, 7};
    static struct run run;
    for (unsigned i = 0; i < 3; i++) {
        if (!run_open(t, &run, whims[i]))
            return;
        run_steps(&run, RUN_STEPS);
        bench_close(t, &run.bench);
    }
}

#if NEOMM_INSTRUMENTED
static void forgetful_run(struct ktap *t)
{
    static struct run run;
    if (!run_open(t, &run, 0))
        return;
    run.forgets = true;
    run_steps(&run, 40000);
    EXPECT(t, bench_violations(&run.bench) > 10);
    EXPECT(t, strstr(sim_last_violation(run.bench.sim), "stale translation") != NULL);
    bench_close(t, &run.bench);
}
#endif

static const uint64_t all_formats[] = {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE, NEOMM_FORMAT_4LEVEL,
                                       NEOMM_FORMAT_5LEVEL};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(what_is_dropped, long_formats),
    KTAP_CASE_WITH(turned_on_and_off, long_formats),
    KTAP_CASE_WITH(loads, long_formats),
    KTAP_CASE_WITH(refused, long_formats),
    KTAP_CASE_WITH(features, all_formats),
    KTAP_CASE_WITH(correct_run, long_formats),
#if NEOMM_INSTRUMENTED
    KTAP_CASE_WITH(stale_when_it_comes_back, long_formats),
    KTAP_CASE_WITH(tables_freed_meanwhile, long_formats),
    KTAP_CASE_WITH(global_is_never_dormant, long_formats),
    KTAP_CASE_WITH(forgetful_run, long_formats),
#endif
};
KTAP_SUITE(sim_pcid, cases);
