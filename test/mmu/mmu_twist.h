/* A case on the simulated MMU, as it is or with some rules changed: to what QEMU makes of them
 * (mmu_deviations.c), or to something wrong on purpose (mmu_mutants.c).
 * SPDX-License-Identifier: MIT */
#ifndef TEST_MMU_TWIST_H
#define TEST_MMU_TWIST_H

#include "mmu_cases.h"

#include "sim/sim.h"

struct mmu_machine {
    struct sim *sim;
    struct mmu_cpu cpu;
};

struct mmu_word {
    uint64_t at;
    uint32_t before, after;
};

/* One case, one time. */
struct mmu_run {
    const struct mmu_machine *machine;
    const struct mmu_case *original;
    struct mmu_case given;
    struct mmu_result result;
    struct mmu_word written[CASE_ACCESSES];
    uint32_t words;
    /* Of PAE's top entries: those that fault at their use, and those used (bits). */
    uint32_t pae_broken, pae_used;
};

/* Results that no CPU reports: loading CR3 faulted; the page reached is no RAM. */
#define VECTOR_LOAD  0x100u
#define WORD_NOWHERE 0xffffffffu

struct mmu_twist {
    const char *name;
    const char *manual;                 /* what the processor does, by Intel's SDM volume 3A */
    unsigned formats;                   /* a bit each */
    void (*begin)(struct mmu_run *run); /* each of these may be NULL */
    uint64_t (*place)(struct mmu_run *run, unsigned access, uint64_t paddr);
    void (*access)(struct mmu_run *run, unsigned access);
    void (*end)(struct mmu_run *run);
};

#define MMU_FORMAT(format) (1u << (format))
#define MMU_ALL            0xfu
#define MMU_LONG           (MMU_FORMAT(NEOMM_FORMAT_4LEVEL) | MMU_FORMAT(NEOMM_FORMAT_5LEVEL))

/* In the order in which they apply, at most so many. */
#define MMU_DEVIATIONS_MAX 16u
extern const struct mmu_twist mmu_deviations[];
extern const unsigned mmu_deviation_count;
extern const struct mmu_twist mmu_mutants[];
extern const unsigned mmu_mutant_count;

bool mmu_machine_open(struct mmu_machine *machine, const struct mmu_cpu *cpu);
void mmu_machine_close(struct mmu_machine *machine);

/* Runs a case with those deviations whose bit is set and a mutant, or NULL. RAM is then as it was
 * before; mmu_run_keep makes the case's writes for good. */
void mmu_run_case(struct mmu_run *run, const struct mmu_machine *machine, const struct mmu_case *c,
                  unsigned deviations, const struct mmu_twist *mutant);
void mmu_run_keep(const struct mmu_run *run);

/* Does the access go on, and where to: the translation alone. */
bool mmu_translate(const struct mmu_run *run, unsigned access, uint32_t kind, uint64_t *paddr,
                   uint32_t *error);
uint64_t mmu_entry_load(const struct mmu_machine *machine, uint64_t at);
void mmu_entry_store(const struct mmu_machine *machine, uint64_t at, uint64_t value);

#endif
