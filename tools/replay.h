/* `neomm replay`: a real program's references on the simulated machine.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_REPLAY_H
#define NEOMM_TOOLS_REPLAY_H

#include "oracle.h"
#include "replay_lru.h"

#include <sim/boot.h>
#include <sim/replay/replay_fast.h>

/* Damage done behind the library's back, to show that the check of contents finds it. */
enum replay_injection {
    INJECT_NOTHING,
    INJECT_LOSE_WRITE, /* one store does not reach memory */
    INJECT_SWAP_PAGES, /* two pages exchange their contents once */
    INJECT_STALE_READ  /* one load gets what was there before the last store */
};

struct replay_options {
    const char *trace;
    const char *config;   /* file, NULL: the defaults */
    const char *policy;   /* NULL: the configuration's */
    const char *snapshot; /* file to keep a statistics snapshot in, NULL: none */
    const char *snapshot_start;
    uint64_t ram, swap;      /* bytes */
    uint64_t resident_limit; /* bytes, 0: the configuration's */
    uint64_t percent;        /* of the trace's pages, instead of resident_limit; 0: not given */
    uint32_t readahead;      /* pages read together, at most; 0: none is read ahead */
    bool readahead_given;
    uint64_t seed;
    enum neomm_format format;
    enum replay_injection injection;
    bool fast; /* the policy alone */
    bool json;
};

struct replay_results {
    uint64_t records[4]; /* I, L, S, M */
    uint64_t skipped_lines;
    uint64_t references; /* a record over a page border counts on both pages */
    uint64_t faults_zero, faults_swap_in, faults_other;
    uint64_t content_errors;
    uint64_t pages; /* touched */
    struct neomm_space_stats space;
    struct sim_tlb_stats tlb;
    uint64_t tests;   /* of accessed bits */
    uint64_t optimal; /* misses of OPT, 0: not known */
    double seconds;
};

/* State of a damage that is done once. */
struct replay_damage {
    bool armed, done;
    uint64_t address; /* of the store it began with */
    uint32_t size;
    uint8_t before[16]; /* what was there before that store */
};

struct replay {
    struct replay_options options;
    struct sim_system system;
    struct neomm_space *space;
    struct oracle oracle;
    struct lru lru;
    bool use_lru;
    struct trace trace;
    struct page_string string; /* without records: the trace is read as it goes */
    struct replay_damage damage;
    struct replay_results results;
    uint64_t time;   /* number of the last store */
    char error[256]; /* why the run ended early */
};

/* ---- replay_run.c ---- */

/* Replays the whole trace, then reads every page once more (uncounted). False: replay->error, at
 * the trace's line replay->trace.line. */
bool replay_run(struct replay *replay);

/* ---- replay_report.c ---- */
/* `ahead`: the same with readahead; NULL: none was asked for. */
void replay_report_fast(const struct replay *replay, const struct fast_results *results,
                        const struct fast_results *ahead, uint32_t frames);
void replay_report_text(const struct replay *replay);
void replay_report_json(const struct replay *replay);
void replay_progress(const struct replay *replay, double seconds, bool last);
/* Writes the statistics snapshot to `path` in one step, so that a reader never sees half of one.
 */
bool replay_write_snapshot(struct replay *replay, const char *path);

#endif
