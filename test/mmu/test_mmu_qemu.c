/* The simulated MMU against QEMU's: the same cases on both must end in the same way, but for the
 * deviations that are listed.
 * SPDX-License-Identifier: MIT */
#include "mmu_qemu.h"
#include "mmu_twist.h"

#include "sim_tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES         9000u   /* of one CPU */
#define ACCESSES      100000u /* of one format, at least */
#define CASES_MUTANTS 6000u
#define REPORTED      3u /* disagreements printed in full */
#define ALL           (~0u)

static const uint64_t formats[] = {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE, NEOMM_FORMAT_4LEVEL,
                                   NEOMM_FORMAT_5LEVEL};

static const char *const format_name[] = {"2-level", "PAE", "4-level", "5-level"};

/* CPUs of a format, which differ in what is reserved. */
#define CPUS 3
static const struct mmu_cpu cpus[][CPUS] = {
    {{NEOMM_FORMAT_2LEVEL, 36, false},
     {NEOMM_FORMAT_2LEVEL, 40, false},
     {NEOMM_FORMAT_2LEVEL, 52, false}},
    {{NEOMM_FORMAT_PAE, 36, false}, {NEOMM_FORMAT_PAE, 40, false}, {NEOMM_FORMAT_PAE, 52, false}},
    {{NEOMM_FORMAT_4LEVEL, 36, false},
     {NEOMM_FORMAT_4LEVEL, 40, true},
     {NEOMM_FORMAT_4LEVEL, 51, false}},
    {{NEOMM_FORMAT_5LEVEL, 39, false},
     {NEOMM_FORMAT_5LEVEL, 46, true},
     {NEOMM_FORMAT_5LEVEL, 52, false}},
};

/* How an access may end. */
enum { DONE, NOT_PRESENT, FORBIDDEN, RESERVED, NOT_CANONICAL, ENDS };

#define KINDS  4
#define LEVELS 3 /* that have pages */

/* What the cases came to, by QEMU. */
struct tally {
    unsigned long long accesses;
    unsigned long long ends[KINDS][2][ENDS]; /* by kind and user */
    unsigned long long pages[LEVELS + 1];    /* reached, by the level of their entry */
    unsigned long long deviated[MMU_DEVIATIONS_MAX];
};

/* ---- a batch: cases of one CPU, on both machines ---- */

struct batch {
    struct mmu_machine machine;
    struct mmu_qemu qemu;
    uint32_t cases;
    struct tally *tally; /* may be NULL */
};

static bool batch_open(struct ktap *t, struct batch *batch, const struct mmu_cpu *cpu,
                       uint32_t cases, uint64_t seed)
{
    struct mmu_maker maker;
    const char *problem = "the host has no memory for QEMU";
    memset(batch, 0, sizeof(*batch));
    batch->cases = cases;
    if (!mmu_qemu_open(&batch->qemu))
        goto failed;
    mmu_maker_init(&maker, cpu, seed);
    for (uint32_t i = 0; i < cases; i++)
        mmu_case_make(&maker, &batch->qemu.cases[i]);
    problem = mmu_qemu_run(&batch->qemu, cpu, cases);
    if (!problem && !mmu_machine_open(&batch->machine, cpu))
        problem = "the host has no memory for the simulated machine";
    if (!problem)
        return true;
    mmu_qemu_close(&batch->qemu);
failed:
    ktap_fail(t, __FILE__, __LINE__, problem);
    return false;
}

static void batch_close(struct batch *batch)
{
    mmu_machine_close(&batch->machine);
    mmu_qemu_close(&batch->qemu);
}

/* ---- comparing ---- */

static bool words_agree(uint32_t sim, uint32_t qemu)
{
    return sim == WORD_NOWHERE ? (qemu & 0xff) != UNIT_LOAD : sim == qemu;
}

static bool accesses_agree(const struct access_result *sim, const struct access_result *qemu)
{
    return sim->vector == qemu->vector && sim->error == qemu->error &&
           sim->address == qemu->address && words_agree(sim->word, qemu->word);
}

static bool agree(const struct mmu_run *run, const struct mmu_result *qemu)
{
    const struct mmu_case *c = run->original;
    for (unsigned i = 0; i < c->accesses; i++)
        if (!accesses_agree(&run->result.access[i], &qemu->access[i]))
            return false;
    for (unsigned i = 0; i < c->entries; i++)
        if (run->result.entry[i] != qemu->entry[i])
            return false;
    return true;
}

static void report(struct ktap *t, uint32_t number, const struct mmu_run *run,
                   const struct mmu_result *qemu)
{
    const struct mmu_case *c = run->original;
    ktap_note(t, "case %u: root %llx, control %x", number, (unsigned long long)c->root, c->control);
    for (unsigned i = 0; i < c->entries; i++)
        ktap_note(t, "  %8llx: %16llx, after: simulated %16llx, QEMU %16llx",
                  (unsigned long long)c->entry[i].at, (unsigned long long)c->entry[i].value,
                  (unsigned long long)run->result.entry[i], (unsigned long long)qemu->entry[i]);
    for (unsigned i = 0; i < c->accesses; i++) {
        const struct access_result *s = &run->result.access[i], *q = &qemu->access[i];
        ktap_note(t, "  %16llx flags %2x: simulated %x/%x %llx %8x, QEMU %x/%x %llx %8x",
                  (unsigned long long)c->access[i].vaddr, c->access[i].flags, s->vector, s->error,
                  (unsigned long long)s->address, s->word, q->vector, q->error,
                  (unsigned long long)q->address, q->word);
    }
}

/* Which deviations the case needs: those without which it disagrees. */
static void tally_deviations(const struct batch *batch, uint32_t i)
{
    struct mmu_run run;
    for (unsigned d = 0; d < mmu_deviation_count; d++) {
        mmu_run_case(&run, &batch->machine, &batch->qemu.cases[i], ~(1u << d), NULL);
        batch->tally->deviated[d] += !agree(&run, &batch->qemu.results[i]);
    }
}

/* True: both agree, by the manual or by the listed deviations. */
static bool compare(struct ktap *t, const struct batch *batch, uint32_t i, bool quiet,
                    const struct mmu_twist *mutant)
{
    const struct mmu_case *c = &batch->qemu.cases[i];
    const struct mmu_result *qemu = &batch->qemu.results[i];
    struct mmu_run run;
    mmu_run_case(&run, &batch->machine, c, 0, mutant);
    bool same = agree(&run, qemu);
    if (!same) {
        mmu_run_case(&run, &batch->machine, c, ALL, mutant);
        same = agree(&run, qemu);
        if (same && batch->tally)
            tally_deviations(batch, i);
    }
    mmu_run_keep(&run);
    if (!same && !quiet)
        report(t, i, &run, qemu);
    return same;
}

/* Every page that could be written to holds the same on both machines. */
static unsigned pages_differing(const struct batch *batch)
{
    unsigned pages = 0;
    for (unsigned i = 0; i < MMU_BLOCKS; i++)
        for (uint64_t at = mmu_block(i); at < mmu_block(i) + MMU_BLOCK_SIZE; at += NEOMM_PAGE_SIZE)
            pages += memcmp(sim_pointer(batch->machine.sim, at), mmu_qemu_ram(&batch->qemu, at),
                            NEOMM_PAGE_SIZE) != 0;
    return pages;
}

/* ---- the tally ---- */

static unsigned end_of(const struct access_result *r)
{
    if (r->vector != VECTOR_PAGE_FAULT)
        return r->vector == VECTOR_DONE ? DONE : NOT_CANONICAL;
    if (r->error & NEOMM_PF_RESERVED)
        return RESERVED;
    return r->error & NEOMM_PF_PRESENT ? FORBIDDEN : NOT_PRESENT;
}

/* The lowest level at which the case has an entry for the address. */
static unsigned level_of(const struct mmu_cpu *cpu, const struct mmu_case *c, uint64_t vaddr)
{
    unsigned level = 1;
    while (level <= LEVELS && !mmu_case_entry(cpu, c, vaddr, level))
        level++;
    return level;
}

static void tally_case(const struct batch *batch, uint32_t number)
{
    const struct mmu_case *c = &batch->qemu.cases[number];
    struct tally *tally = batch->tally;
    for (unsigned i = 0; i < c->accesses; i++) {
        const struct case_access *a = &c->access[i];
        unsigned end = end_of(&batch->qemu.results[number].access[i]);
        tally->accesses++;
        tally->ends[a->flags & ACCESS_KIND][a->flags & ACCESS_USER ? 1 : 0][end]++;
        unsigned level = level_of(&batch->machine.cpu, c, a->vaddr);
        if (end == DONE && level <= LEVELS)
            tally->pages[level]++;
    }
}

/* An end that no access came to would mean that the cases prove less than they seem to. */
static void check_ends(struct ktap *t, const struct tally *tally, enum neomm_format format)
{
    static const char *const name[] = {"done", "not present", "forbidden", "reserved bit",
                                       "not canonical"};
    unsigned long long sum[ENDS] = {0};
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (unsigned user = 0; user < 2; user++)
            for (unsigned end = 0; end < ENDS; end++) {
                if (end != NOT_CANONICAL || bench_is_long(format))
                    EXPECT(t, tally->ends[kind][user][end] > 0);
                sum[end] += tally->ends[kind][user][end];
            }
    for (unsigned end = 0; end < ENDS; end++)
        ktap_note(t, "%7llu accesses: %s", sum[end], name[end]);
    for (unsigned level = 1; level <= bench_leaf_levels(format); level++) {
        ktap_note(t, "%7llu done in pages of %u KiB", tally->pages[level],
                  1u << (bench_shift(format, level) - 10));
        EXPECT(t, tally->pages[level] > 0);
    }
}

/* A deviation that is no more must be struck off the list. */
static void check_deviations(struct ktap *t, const struct tally *tally, enum neomm_format format)
{
    for (unsigned d = 0; d < mmu_deviation_count; d++) {
        if (!(mmu_deviations[d].formats >> format & 1))
            continue;
        ktap_note(t, "%7llu cases: %s", tally->deviated[d], mmu_deviations[d].name);
        ktap_note(t, "        but SDM 3A %s", mmu_deviations[d].manual);
        EXPECT(t, tally->deviated[d] > 0);
    }
}

/* ---- the cases ---- */

static void run_batch(struct ktap *t, const struct mmu_cpu *cpu, uint64_t seed, struct tally *tally)
{
    struct batch batch;
    unsigned disagree = 0;
    if (!batch_open(t, &batch, cpu, CASES, seed))
        return;
    batch.tally = tally;
    for (uint32_t i = 0; i < batch.cases; i++) {
        disagree += !compare(t, &batch, i, disagree >= REPORTED, NULL);
        tally_case(&batch, i);
    }
    EXPECT_EQ(t, disagree, 0);
    EXPECT_EQ(t, pages_differing(&batch), 0);
    batch_close(&batch);
}

static unsigned rounds(void)
{
    const char *text = getenv("NEOMM_MMU_ROUNDS");
    return text ? (unsigned)strtoul(text, NULL, 10) : 1;
}

static void agrees(struct ktap *t)
{
    enum neomm_format format = (enum neomm_format)t->parameter;
    struct tally tally;
    memset(&tally, 0, sizeof(tally));
    for (unsigned i = 0; i < CPUS * rounds(); i++) {
        run_batch(t, &cpus[format][i % CPUS], i, &tally);
        if (t->failures > 0)
            return;
    }
    ktap_note(t, "%s: %llu accesses", format_name[format], tally.accesses);
    check_ends(t, &tally, format);
    check_deviations(t, &tally, format);
    EXPECT(t, tally.accesses >= ACCESSES);
}

static bool noticed(struct ktap *t, const struct batch *batch, const struct mmu_twist *mutant)
{
    for (uint32_t i = 0; i < batch->cases; i++)
        if (!compare(t, batch, i, true, mutant))
            return true;
    return false;
}

/* A simulated MMU with one rule wrong does not get through. */
static void mutants_are_noticed(struct ktap *t)
{
    struct batch batch;
    if (!batch_open(t, &batch, &cpus[t->parameter][1], CASES_MUTANTS, 1))
        return;
    EXPECT(t, !noticed(t, &batch, NULL));
    for (unsigned i = 0; i < mmu_mutant_count && t->failures == 0; i++) {
        const struct mmu_twist *mutant = &mmu_mutants[i];
        if ((mutant->formats >> t->parameter & 1) && !noticed(t, &batch, mutant)) {
            ktap_note(t, "not noticed: %s", mutant->name);
            EXPECT(t, false);
        }
    }
    batch_close(&batch);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(agrees, formats),
    KTAP_CASE_WITH(mutants_are_noticed, formats),
};

KTAP_SUITE(mmu_qemu, cases);
