/* A process whose pages go to swap on a device in RAM and come back.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_BENCH_SWAP_VMM_H
#define NEOMM_BENCH_BENCH_SWAP_VMM_H

#include "bench.h"

#define BENCH_SWAP_PAGES 1024u /* of the process */
#define BENCH_SWAP_AHEAD 16u   /* pages read together, where the advice is SEQUENTIAL */

enum bench_contents {
    BENCH_TEXT,   /* those of --corpus, or made-up ones */
    BENCH_RANDOM, /* does not compress */
    BENCH_FILLED  /* with one word each */
};

struct bench_swapper {
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t start;
    struct neomm_block_device device;
    uint8_t *memory;                /* of the device */
    uint64_t submissions, requests; /* that it got */
};

/* A process with a region on the CPU of this thread, and its device. Faults are its own. False:
 * failed; end it. */
bool bench_swapper_start(struct bench_swapper *swapper, struct sim_system *system);
void bench_swapper_end(struct bench_swapper *swapper);

/* Writes to all pages. */
bool bench_swapper_fill(struct bench_swapper *swapper, struct bench_machine *machine,
                        enum bench_contents contents);
/* All pages leave, in batches, or one by one. */
bool bench_swapper_out(struct bench_swapper *swapper, bool one_by_one);
/* All pages come back by read faults: one by one after the advice RANDOM, as many together as there
 * may be after SEQUENTIAL. */
bool bench_swapper_advise(struct bench_swapper *swapper, enum neomm_advice advice);
bool bench_swapper_in(struct bench_swapper *swapper);

#endif
