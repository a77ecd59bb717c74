/* Invalidation of translations on this CPU and the others.
 * SPDX-License-Identifier: MIT
 *
 * docs/paging.md argues the order at length. In short:
 *
 * Why no CPU is missed: a CPU enters the set of those that have the tables loaded before it reads
 * their count of invalidations and loads them; entries are cleared and the invalidation is counted
 * before the set is read; all with locked instructions. A CPU that is not in the set yet sees the
 * count and reads the new entries. A CPU leaves the set after it has loaded other tables, which
 * forgets all it had of these, or, with PCIDs, when they are loaded again (pcid.h).
 *
 * A CPU that sleeps is not woken for a page. It has one word, changed by locked instructions only:
 * whoever would call it puts the debt there if it is still asleep, and calls it if it is not; it
 * takes the debt as it wakes, and pays before anything else. What leads processors through tables
 * is no debt: they walk unasked, and set accessed bits where a table was.
 */
#include "flush.h"

#include "pcid.h"
#include "tables.h"

#include "base/bits.h"

#include <neomm/cpu.h>

struct job {
    struct neomm *root;
    const struct neomm__flush *flush;
    const struct neomm_tables *tables;
    bool kernel;
    bool everywhere; /* on CPUs that sleep, too */
    size_t flushes;  /* the tables' count */
};

/* Kernel leaves are global: they outlive a load of CR3. */
static void forget_all(bool global)
{
    uintptr_t cr4 = global ? neomm_cpu_read_cr4() : 0;
    if (cr4 & NEOMM_CR4_PGE) {
        neomm_cpu_write_cr4(cr4 & ~NEOMM_CR4_PGE);
        neomm_cpu_write_cr4(cr4);
    } else {
        neomm_cpu_write_cr3(neomm_cpu_read_cr3());
    }
}

static void forget_pages(const struct job *job, struct neomm__cpu_state *cpu)
{
    const struct neomm__flush *flush = job->flush;
    if (neomm__flush_is_full(flush)) {
        forget_all(job->kernel);
        neomm__count_masked(cpu, NEOMM_COUNTER_FLUSH_ALL, 1);
        return;
    }
    for (uint32_t i = 0; i < flush->count; i++)
        neomm_cpu_invlpg(flush->page[i]);
    neomm__count_masked(cpu, NEOMM_COUNTER_FLUSH_PAGE, flush->count);
}

/* Called in time or too late for tables that this CPU has just left: then the count tells. */
static void forget(void *argument)
{
    const struct job *job = argument;
    struct neomm__cpu_state *cpu = neomm__cpu(job->root);
    forget_pages(job, cpu);
    if (job->kernel && job->flush->tables)
        neomm__pcid_give_up(cpu);
    else if (!job->kernel && cpu->tables == job->tables)
        neomm__pcid_seen(cpu, job->tables, job->flushes);
}

/* False: the CPU is awake, and to be called. */
static bool leave_debt(struct neomm__cpu_state *cpu, uint32_t debt)
{
    uint32_t seen = neomm__load_acquire(&cpu->idle);
    while (seen & NEOMM__IDLE_SLEEPS)
        if (neomm__cas(&cpu->idle, &seen, seen | debt))
            return true;
    return false;
}

/* Takes the CPUs that sleep out of the set. */
static void spare_sleepers(const struct job *job, struct neomm_cpumask *cpus)
{
    uint32_t debt = job->kernel ? NEOMM__IDLE_OWES_ALL : NEOMM__IDLE_OWES;
    for (uint32_t i = 0; i < NEOMM_CPU_WORDS; i++)
        for (uint32_t left = cpus->word[i]; left != 0; left &= left - 1) {
            unsigned bit = neomm__lowest_bit(left);
            if (leave_debt(&job->root->cpu[i * 32 + bit], debt))
                cpus->word[i] &= ~((uint32_t)1 << bit);
        }
}

static void send(struct job *job, const struct neomm_cpumask *holders)
{
    uint32_t self = neomm_port_cpu()->index;
    struct neomm_cpumask others;
    for (unsigned i = 0; i < NEOMM_CPU_WORDS; i++)
        others.word[i] = neomm__load_acquire(&holders->word[i]);
    bool here = (others.word[self / 32] >> self % 32 & 1u) != 0;
    others.word[self / 32] &= ~((uint32_t)1 << self % 32);
    if (here)
        forget(job);
    if (!job->everywhere)
        spare_sleepers(job, &others);
    if (!neomm__cpumask_is_empty(&others)) {
        neomm__count_masked(&job->root->cpu[self], NEOMM_COUNTER_SHOOTDOWN, 1);
        neomm_port_ipi(&others, forget, job);
    }
}

void neomm__flush(struct neomm *root, struct neomm_tables *tables, struct neomm__flush *flush,
                  enum neomm_flush_site site)
{
    bool kernel = neomm__tables_are_kernel(root, tables);
    bool everywhere = flush->tables || site == NEOMM_FLUSH_SITE_SPLIT;
    struct job job = {root, flush, tables, kernel, everywhere, 0};
    if (flush->count == 0)
        return;
    if (!NEOMM__FLUSH_SKIPPED(site)) {
        job.flushes = neomm__fetch_add(&tables->flushes, 1) + 1;
        send(&job, kernel ? &root->paging->online : &tables->cpus);
    }
    flush->count = 0;
    flush->tables = false;
}

void neomm__flush_here(struct neomm *root, neomm_vaddr_t vaddr, enum neomm_flush_site site)
{
    if (NEOMM__FLUSH_SKIPPED(site))
        return;
    neomm_cpu_invlpg(vaddr);
    neomm__count_masked(neomm__cpu(root), NEOMM_COUNTER_FLUSH_PAGE, 1);
}

/* ---- CPUs that sleep ---- */

void neomm_paging_idle(struct neomm *root)
{
    neomm_irq_t irq = neomm_port_irq_save();
    struct neomm__cpu_state *cpu = neomm__cpu(root);
    NEOMM__ASSERT(cpu->epoch_depth == 0);
    NEOMM__SLEEPS(true);
    (void)neomm__fetch_or(&cpu->idle, NEOMM__IDLE_SLEEPS);
    neomm_port_irq_restore(irq);
}

/* The count is read before the invalidation: what is counted later finds this CPU awake. */
static void pay(struct neomm__cpu_state *cpu, uint32_t debt)
{
    size_t flushes = cpu->tables ? neomm__load_acquire(&cpu->tables->flushes) : 0;
    if (NEOMM__FLUSH_SKIPPED(NEOMM_FLUSH_SITE_WAKE))
        return;
    forget_all((debt & NEOMM__IDLE_OWES_ALL) != 0);
    neomm__count_masked(cpu, NEOMM_COUNTER_FLUSH_ALL, 1);
    if (cpu->tables)
        neomm__pcid_caught_up(cpu, cpu->tables, flushes);
}

/* Nobody else puts the first bit there, so a CPU that is awake sees that without a locked
 * instruction. */
void neomm_paging_wake(struct neomm *root)
{
    neomm_irq_t irq = neomm_port_irq_save();
    struct neomm__cpu_state *cpu = neomm__cpu(root);
    if (neomm__load_relaxed(&cpu->idle) != 0) {
        uint32_t debt = neomm__exchange(&cpu->idle, 0) & ~(uint32_t)NEOMM__IDLE_SLEEPS;
        if (debt != 0)
            pay(cpu, debt);
        NEOMM__SLEEPS(false);
    }
    neomm_port_irq_restore(irq);
}
