/* What the two written forms of a snapshot share.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BASE_STATS_PRIV_H
#define NEOMM_BASE_STATS_PRIV_H

#include <neomm/stats.h>

struct neomm__stats_out {
    neomm_text_fn *text;
    void *context;
};

struct neomm__counter_text {
    const char *key;  /* in JSON */
    const char *text; /* in the table */
};

extern const char *const neomm__zone_name[NEOMM_ZONES];
extern const struct neomm__counter_text neomm__counter_text[NEOMM_COUNTERS];

/* "4-level"; "unknown" for what is no format. */
const char *neomm__format_name(uint32_t format);

/* All zones as one. */
void neomm__zone_sum(const struct neomm_snapshot *snapshot, struct neomm_zone_stats *sum);

/* Caches that are in the list. */
uint32_t neomm__caches_listed(const struct neomm_snapshot *snapshot);

/* Writes a piece of fewer than 256 bytes. */
void neomm__stats_put(const struct neomm__stats_out *out, const char *format, ...)
    NEOMM_PRINTF(2, 3);

#endif
