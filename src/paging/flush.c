/* Invalidation of translations on this CPU and the others.
 * SPDX-License-Identifier: MIT
 *
 * Why no CPU is missed: a CPU enters the set of those that have the tables loaded before it reads
 * their count of invalidations and loads them; entries are cleared and the invalidation is counted
 * before the set is read; all with locked instructions. A CPU that is not in the set yet sees the
 * count and reads the new entries. A CPU leaves the set after it has loaded other tables, which
 * forgets all it had of these, or, with PCIDs, when they are loaded again (pcid.h).
 */
#include "flush.h"

#include "pcid.h"
#include "tables.h"

#include <neomm/cpu.h>

struct job {
    struct neomm *root;
    const struct neomm__flush *flush;
    const struct neomm_tables *tables;
    bool kernel;
    size_t flushes; /* the tables' count */
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

static void forget_pages(const struct job *job)
{
    const struct neomm__flush *flush = job->flush;
    if (flush->count > NEOMM__FLUSH_PAGES) {
        forget_all(job->kernel);
        NEOMM__COUNT(job->root, FLUSH_ALL);
        return;
    }
    for (uint32_t i = 0; i < flush->count; i++)
        neomm_cpu_invlpg(flush->page[i]);
    neomm__count_add(job->root, NEOMM_COUNTER_FLUSH_PAGE, flush->count);
}

/* Called in time or too late for tables that this CPU has just left: then the count tells. */
static void forget(void *argument)
{
    const struct job *job = argument;
    struct neomm__cpu_state *cpu = neomm__cpu(job->root);
    forget_pages(job);
    if (job->kernel && job->flush->tables)
        neomm__pcid_give_up(cpu);
    else if (!job->kernel && cpu->tables == job->tables)
        neomm__pcid_seen(cpu, job->tables, job->flushes);
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
    if (!neomm__cpumask_is_empty(&others)) {
        NEOMM__COUNT(job->root, SHOOTDOWN);
        neomm_port_ipi(&others, forget, job);
    }
}

void neomm__flush(struct neomm *root, struct neomm_tables *tables, struct neomm__flush *flush,
                  enum neomm_flush_site site)
{
    bool kernel = neomm__tables_are_kernel(root, tables);
    struct job job = {root, flush, tables, kernel, 0};
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
    NEOMM__COUNT(root, FLUSH_PAGE);
}
