/* A machine without the library on it, whose violations are noted, for tests of the machine.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_BARE_MACHINE_H
#define NEOMM_TEST_BARE_MACHINE_H

#include "env.h"

#include "sim/sim.h"

#include <string.h>

#define MIB ((size_t)1 << 20)

static const uint64_t formats[] = ENV_FORMATS;

static inline struct sim *bare_machine(struct ktap *t, uint64_t ram, uint32_t cpus, uint64_t seed)
{
    const struct sim_options options = {.format = (enum neomm_format)formats[0],
                                        .ram_bytes = ram,
                                        .cpus = cpus,
                                        .seed = seed,
                                        .keep_going = true};
    struct sim *sim = sim_create(&options);
    if (!sim)
        ktap_fail(t, __FILE__, __LINE__, "sim_create");
    return sim;
}

/* The last violation is the only new one, and says this. */
static inline bool violated(struct sim *sim, uint64_t before, const char *text)
{
    return sim_violations(sim) == before + 1 && strstr(sim_last_violation(sim), text);
}

#endif
