/* A simulated machine with paging whose direct map covers the lower half of RAM, so that there
 * are frames above it on every architecture; and whose CPUs may lack features.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_HIGH_MACHINE_H
#define NEOMM_TEST_HIGH_MACHINE_H

#include "ktap.h"

#include "sim/sim.h"

struct high_machine {
    struct sim *sim;
    struct neomm *root;
    uint32_t cpus;
};

struct high_options {
    enum neomm_format format;
    uint32_t cpus;
    uint32_t absent; /* SIM_NO_* */
    uint32_t whims;
    uint64_t seed;
    uint32_t flush_pages; /* see neomm_paging_options */
    bool all_direct;      /* no frames above the direct map after all */
    bool no_slots;        /* the layout has no room for slots */
    bool no_paging;       /* up to the frame allocator only */
};

/* False: failed, noted in t. CPU 0 is the current one. */
bool high_open(struct ktap *t, struct high_machine *machine, const struct high_options *options);
/* With fsck and leak check. The machine's layers must be as high_open left them. */
void high_close(struct ktap *t, struct high_machine *machine);

#endif
