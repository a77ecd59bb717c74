/* What a search for bad schedules came to, for tests.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_SCHED_NOTE_H
#define NEOMM_TEST_SCHED_NOTE_H

#include "ktap.h"

#include "sim/sched.h"

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

#endif
