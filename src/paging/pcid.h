/* PCIDs: a CPU that changes tables keeps what it knows of the former ones.
 * SPDX-License-Identifier: MIT
 *
 * A CPU has a few PCIDs, and remembers for each which tables it used it for and how many of their
 * invalidations it has seen. Nobody is told of invalidations in tables that are not loaded:
 * they are counted in the tables, and a CPU that loads them again with another count forgets all
 * under that PCID.
 *
 *   CPU 0   pcid[1] = {serial 7, flushes 4}      tables 7: flushes 6    load: forget, then 6
 *           pcid[2] = {serial 9, flushes 2}      tables 9: flushes 2    load: keep
 *
 * Kernel leaves are global, and INVLPG forgets them under every PCID; but what led to a table that
 * is gone it forgets under the current PCID alone, so then the others are given up. Without
 * global leaves PCIDs are not used.
 *
 * All of it is the CPU's own, with interrupts masked.
 */
#ifndef NEOMM_PAGING_PCID_H
#define NEOMM_PAGING_PCID_H

#include "tables.h"

#include <neomm/cpu.h>

#define NEOMM__PCID_KERNEL 0u

static inline struct neomm__pcid *neomm__pcid_find(struct neomm__cpu_state *cpu, size_t serial)
{
    for (uint32_t i = 0; i < NEOMM__PCIDS; i++)
        if (cpu->pcid[i].serial == serial)
            return &cpu->pcid[i];
    return NULL;
}

/* One for tables that this CPU knows nothing of. */
static inline struct neomm__pcid *neomm__pcid_take(struct neomm__cpu_state *cpu, size_t serial,
                                                   bool kernel)
{
    struct neomm__pcid *pcid = &cpu->pcid[NEOMM__PCID_KERNEL];
    if (!kernel) {
        cpu->pcid_next = cpu->pcid_next % (NEOMM__PCIDS - 1) + 1;
        pcid = &cpu->pcid[cpu->pcid_next];
    }
    *pcid = (struct neomm__pcid){serial, 0};
    return pcid;
}

/* What to load into CR3 beside the root's address. The CPU is in the set of those that have the
 * tables loaded already, so that an invalidation is either in the count or sent to it. */
static inline uintptr_t neomm__pcid_load(struct neomm__cpu_state *cpu,
                                         const struct neomm_tables *tables, bool kernel)
{
    size_t flushes = neomm__load_acquire(&tables->flushes);
    struct neomm__pcid *pcid = neomm__pcid_find(cpu, tables->serial);
    bool keep = pcid && (pcid->flushes == flushes || NEOMM__FLUSH_SKIPPED(NEOMM_FLUSH_SITE_PCID));
    if (!pcid)
        pcid = neomm__pcid_take(cpu, tables->serial, kernel);
    pcid->flushes = flushes;
    return (uintptr_t)(pcid - cpu->pcid) | (keep ? (uintptr_t)NEOMM_CR3_KEEP : 0);
}

/* This CPU has done the invalidation of its loaded tables that made their count `flushes`. If it
 * has missed one before, the count stays behind. */
static inline void neomm__pcid_seen(struct neomm__cpu_state *cpu, const struct neomm_tables *tables,
                                    size_t flushes)
{
    struct neomm__pcid *pcid = neomm__pcid_find(cpu, tables->serial);
    if (pcid && pcid->flushes + 1 == flushes)
        pcid->flushes = flushes;
}

/* This CPU has forgotten everything of its loaded tables after it read their count. */
static inline void neomm__pcid_caught_up(struct neomm__cpu_state *cpu,
                                         const struct neomm_tables *tables, size_t flushes)
{
    struct neomm__pcid *pcid = neomm__pcid_find(cpu, tables->serial);
    if (pcid)
        pcid->flushes = flushes;
}

/* All but the loaded tables' are worth nothing any more. */
static inline void neomm__pcid_give_up(struct neomm__cpu_state *cpu)
{
    for (uint32_t i = 0; i < NEOMM__PCIDS; i++)
        if (!cpu->tables || cpu->pcid[i].serial != cpu->tables->serial)
            cpu->pcid[i].serial = 0;
}

#endif
