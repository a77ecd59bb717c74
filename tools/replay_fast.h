/* A replacement policy on a string of pages, with nothing but frames and their accessed and dirty
 * bits: no page tables, no contents. It counts what a replay on the whole machine counts.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_REPLAY_FAST_H
#define NEOMM_TOOLS_REPLAY_FAST_H

#include "page_string.h"

#include <neomm/config.h>

struct fast_results {
    uint64_t misses, evictions, writes;
    uint64_t tests; /* of accessed bits */
};

/* Runs `policy` (a built-in one, lru or opt) with `frames` frames. False: an error was printed. */
bool fast_run(const struct page_string *string, const struct neomm_config *config,
              const char *policy, uint32_t frames, uint64_t seed, struct fast_results *results);

#endif
