/* Invalidation of translations on this CPU and the others.
 * SPDX-License-Identifier: MIT
 *
 * Why no CPU is missed: a CPU enters the set of those that have the tables loaded before it loads
 * them, and entries are cleared before the set is read; both are locked instructions. A CPU that
 * is not in the set yet reads the new entries. A CPU leaves the set after it has loaded other
 * tables, which forgets all it had of these (there are no PCIDs, and user leaves are not global).
 */
#include "flush.h"

#include "tables.h"

#include <neomm/cpu.h>

struct job {
    struct neomm *root;
    const struct neomm__flush *flush;
    bool kernel;
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

static void forget(void *argument)
{
    const struct job *job = argument;
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
    struct job job = {root, flush, kernel};
    if (flush->count == 0)
        return;
    if (!NEOMM__FLUSH_SKIPPED(site))
        send(&job, kernel ? &root->paging->online : &tables->cpus);
    flush->count = 0;
}

void neomm__flush_here(struct neomm *root, neomm_vaddr_t vaddr, enum neomm_flush_site site)
{
    if (NEOMM__FLUSH_SKIPPED(site))
        return;
    neomm_cpu_invlpg(vaddr);
    NEOMM__COUNT(root, FLUSH_PAGE);
}
