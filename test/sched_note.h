/* What a search for bad schedules came to, for tests.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_SCHED_NOTE_H
#define NEOMM_TEST_SCHED_NOTE_H

#include "ktap.h"

#include "sim/sched.h"

#include <stdlib.h>
#include <string.h>

/* The name of the last schedule and what was wrong with it, a diagnostic line each. */
static inline void sched_note(struct ktap *t, const struct sim_sched_result *result)
{
    ktap_note(t, "%s, seed %llu, choices \"%s\"%s", sim_sched_end_text(result->end),
              (unsigned long long)result->seed, result->choices, result->cut ? " and more" : "");
    for (const char *line = result->text; *line;) {
        const char *end = strchr(line, '\n');
        int length = end ? (int)(end - line) : (int)strlen(line);
        ktap_note(t, "%.*s", length, line);
        line += length + (end != NULL);
    }
}

/* Looks for a bad schedule, and says how many there were. */
static inline void sched_search(struct ktap *t, const char *name,
                                const struct sim_scenario *scenario,
                                const struct sim_sched_options *options)
{
    struct sim_sched_result result;
    if (sim_sched_unavailable()) {
        ktap_skip(t, sim_sched_unavailable());
        return;
    }
    if (!sim_sched_explore(scenario, options, &result)) {
        ktap_fail(t, __FILE__, __LINE__, name);
        sched_note(t, &result);
    }
    ktap_note(t, "%s: %llu schedules, %llu points%s", name, (unsigned long long)result.schedules,
              (unsigned long long)result.points, result.complete ? "" : ", not all");
}

/* How many times as many schedules as usual: NEOMM_SCHEDULES in the environment. */
static inline uint64_t sched_factor(void)
{
    const char *text = getenv("NEOMM_SCHEDULES");
    return text && atoi(text) > 0 ? (uint64_t)atoi(text) : 1;
}

#endif
