/* Memory pressure, for those who reclaim and those who wait for memory.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_STALL_H
#define NEOMM_VMM_STALL_H

#include "base/root.h"

#include <neomm/pressure.h>

#define NEOMM__LISTENERS 8u

/* One of the two: some, full. Times in ns, averages in 2^-31. */
struct neomm__stalled {
    uint64_t total;
    uint32_t in_period; /* of the period that `now` is in */
    uint32_t average[3];
    bool going_on;
};

struct neomm__listener {
    neomm_pressure_fn *call;
    void *context;
};

struct neomm__pressure {
    struct neomm__lock lock; /* PRESSURE: all but the words */
    uint64_t now;            /* when what follows was right */
    uint32_t stalled, tasks;
    struct neomm__stalled some, full;
    uint32_t scanned, freed; /* since the last look */
    uint32_t level;
    uint32_t lower;   /* looks in a row that were lower */
    bool exhausted;   /* since the last look a reclaim went over all pages */
    uint32_t told;    /* the level that listeners know */
    uint32_t telling; /* a futex: somebody is at it, or about to unregister */
    struct neomm__listener listener[NEOMM__LISTENERS];
};

void neomm__pressure_init(struct neomm__pressure *pressure);

/* A task begins and ends to wait for memory. Not within each other. Any context. */
void neomm__stall_begin(struct neomm *root);
void neomm__stall_end(struct neomm *root);

/* Pages that were tested, and those of them that went; exhausted: all there are were tested in
 * vain. Without locks: listeners may be told. */
void neomm__pressure_scanned(struct neomm *root, uint32_t scanned, uint32_t freed, bool exhausted);
/* A look at the level now. Without locks. */
void neomm__pressure_look(struct neomm *root);

#endif
