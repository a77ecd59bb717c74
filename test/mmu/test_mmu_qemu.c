/* The simulated MMU against QEMU's: the same cases on both must end in the same way, but for the
 * deviations that are listed.
 * SPDX-License-Identifier: MIT */
#include "mmu_qemu.h"
#include "mmu_twist.h"

#include "sim_tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES         9000u /* of one CPU */
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
     {NEOMM_FORMAT_2LEVEL, 52, true}},
    {{NEOMM_FORMAT_PAE, 36, false}, {NEOMM_FORMAT_PAE, 40, false}, {NEOMM_FORMAT_PAE, 52, true}},
    {{NEOMM_FORMAT_4LEVEL, 36, false},
     {NEOMM_FORMAT_4LEVEL, 40, true},
     {NEOMM_FORMAT_4LEVEL, 52, false}},
    {{NEOMM_FORMAT_5LEVEL, 39, false},
     {NEOMM_FORMAT_5LEVEL, 46, true},
     {NEOMM_FORMAT_5LEVEL, 52, false}},
};

/* ---- a batch: cases of one CPU, on both machines ---- */

struct batch {
    struct mmu_machine machine;
    struct mmu_qemu qemu;
    uint32_t cases;
    unsigned long long deviated[16]; /* cases, by deviation */
    unsigned long long accesses;
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
static void count_deviations(struct batch *batch, const struct mmu_case *c,
                             const struct mmu_result *qemu, const struct mmu_twist *mutant)
{
    struct mmu_run run;
    for (unsigned i = 0; i < mmu_deviation_count; i++) {
        mmu_run_case(&run, &batch->machine, c, ~(1u << i), mutant);
        batch->deviated[i] += !agree(&run, qemu);
    }
}

/* True: both agree, by the manual or by the listed deviations. */
static bool compare(struct ktap *t, struct batch *batch, uint32_t i, bool quiet,
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
        if (same && !quiet)
            count_deviations(batch, c, qemu, mutant);
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

static void run_batch(struct ktap *t, struct batch *batch, const struct mmu_cpu *cpu, uint64_t seed)
{
    unsigned disagree = 0;
    if (!batch_open(t, batch, cpu, CASES, seed))
        return;
    for (uint32_t i = 0; i < batch->cases; i++) {
        disagree += !compare(t, batch, i, disagree >= REPORTED, NULL);
        batch->accesses += batch->qemu.cases[i].accesses;
    }
    EXPECT_EQ(t, disagree, 0);
    EXPECT_EQ(t, pages_differing(batch), 0);
    batch_close(batch);
}

static unsigned rounds(void)
{
    const char *text = getenv("NEOMM_MMU_ROUNDS");
    return text ? (unsigned)strtoul(text, NULL, 10) : 1;
}

/* As many accesses as asked for, and each of the format's deviations among them: one that is no
 * more must be struck off. */
static void agrees(struct ktap *t)
{
    unsigned long long deviated[16] = {0}, accesses = 0;
    for (unsigned round = 0; round < rounds(); round++)
        for (unsigned i = 0; i < CPUS; i++) {
            struct batch batch;
            run_batch(t, &batch, &cpus[t->parameter][i], 1000 * (round + 1) + i);
            accesses += batch.accesses;
            for (unsigned d = 0; d < mmu_deviation_count; d++)
                deviated[d] += batch.deviated[d];
        }
    ktap_note(t, "%s: %llu accesses", format_name[t->parameter], accesses);
    for (unsigned d = 0; d < mmu_deviation_count; d++) {
        if (!(mmu_deviations[d].formats >> t->parameter & 1))
            continue;
        ktap_note(t, "%7llu cases: %s (SDM 3A %s)", deviated[d], mmu_deviations[d].name,
                  mmu_deviations[d].manual);
        EXPECT(t, deviated[d] > 0);
    }
    EXPECT(t, accesses >= 100000);
}

static bool noticed(struct ktap *t, struct batch *batch, const struct mmu_twist *mutant)
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
    for (unsigned i = 0; i < mmu_mutant_count; i++) {
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
