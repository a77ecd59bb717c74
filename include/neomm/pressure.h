/* Memory pressure: how short memory is, who is told of it, and how much time it costs.
 * SPDX-License-Identifier: MIT
 */
#ifndef NEOMM_PRESSURE_H
#define NEOMM_PRESSURE_H

#include <neomm/types.h>

/* How short memory is. The level rises at once, when reclaim finds it so, and falls a step at a
 * time, when two looks in a row were lower; reclaim looks after every 256 pages that it tested, and
 * each call of neomm_reclaim_background does at its end.
 *
 *   NONE      all zones are at their high watermark (neomm_pmm_watermark)
 *   LOW       a zone is below its low one: pages that were not used lately go
 *   MEDIUM    and three of five pages that reclaim tested could not go
 *   CRITICAL  and 19 of 20 could not, or a reclaim had to look at all pages there are
 *
 * Source of the two shares: Linux, mm/vmpressure.c. */
enum neomm_pressure_level {
    NEOMM_PRESSURE_NONE,
    NEOMM_PRESSURE_LOW,
    NEOMM_PRESSURE_MEDIUM,
    NEOMM_PRESSURE_CRITICAL
};
#define NEOMM_PRESSURE_LEVELS 4

/* The time that tasks lost. Averages are exponential, over 10, 60 and 300 seconds, in units of
 * 1/100 percent (0 to 10000); they move at the end of each period of 2^31 ns. */
struct neomm_stall {
    uint64_t total; /* ns */
    uint32_t average[3];
    uint32_t spare;
};

struct neomm_pressure {
    uint32_t level;   /* enum neomm_pressure_level */
    uint32_t stalled; /* tasks that wait for memory now */
    /* Tasks wait in reclaim of their own, for pages from swap, for pages of objects with pagers
     * that had left memory not long ago, and at a limit for others' evictions. Some: at least one
     * did. Full: all did that were not idle, see neomm_pressure_set_tasks. */
    struct neomm_stall some, full;
};

/* The level is another one now. Called without locks, in a task that reclaims; may sleep and free
 * memory, must not reclaim. Calls come one at a time, the last one with the level that stays. */
typedef void neomm_pressure_fn(void *context, enum neomm_pressure_level level);

NEOMM_EXTERN_C_BEGIN

/* The averages are brought up to date first. Any context. Locks: pressure. */
void neomm_pressure_get(struct neomm *root, struct neomm_pressure *pressure);

/* From now on `call` is told of changes. NEOMM_E_NOSPACE: 8 are already; NEOMM_E_EXISTS: the same
 * with this context; NEOMM_E_NOENT: vmm is not initialised. */
neomm_status neomm_pressure_register(struct neomm *root, neomm_pressure_fn *call, void *context);
/* No more, and on return it does not run any more. Not from a callback. NEOMM_E_NOENT. May sleep.
 */
neomm_status neomm_pressure_unregister(struct neomm *root, neomm_pressure_fn *call, void *context);

/* How many tasks are not idle: those that run, could run, or wait for memory. A kernel that counts
 * them says so when the number changes. 0, as at first: not known, and that as many tasks wait as
 * there are CPUs is taken for all. Any context. Locks: pressure. */
void neomm_pressure_set_tasks(struct neomm *root, uint32_t tasks);

/* "none", "low", "medium", "critical"; "unknown" for any other number. Any context. */
const char *neomm_pressure_text(uint32_t level);

NEOMM_EXTERN_C_END

#endif
