/* A replacement policy on a string of pages, with nothing but frames and their accessed and dirty
 * bits: no page tables, no contents. It counts what a replay on the whole machine counts, with
 * readahead and without.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SIM_REPLAY_FAST_H
#define NEOMM_SIM_REPLAY_FAST_H

#include "page_string.h"

#include <neomm/config.h>

struct fast_options {
    const char *policy; /* a built-in one, lru or opt */
    uint32_t frames;
    uint64_t ram_pages; /* of the machine, for the size of the table of readahead */
    uint32_t readahead; /* pages read together, at most; 0: none is read ahead */
    uint64_t seed;
};

struct fast_results {
    uint64_t misses, evictions, writes;
    uint64_t tests;                           /* of accessed bits */
    uint64_t swap_in;                         /* of the misses, on pages that had been in memory */
    uint64_t ahead, ahead_used, ahead_wasted; /* pages read ahead; others stay unused to the end */
    char error[128];                          /* why the run failed */
};

/* False: results->error says why. */
bool fast_run(const struct page_string *string, const struct neomm_config *config,
              const struct fast_options *options, struct fast_results *results);

#endif
