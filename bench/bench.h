/* The benchmark driver's registry: what a benchmark is, and which there are.
 * SPDX-License-Identifier: MIT
 *
 * A benchmark does an operation many times, ours and perhaps that of a peer: something else that
 * does the same work on this host. Both are measured in turns in the same run, in thread CPU
 * time, so that what slows the machine slows both.
 */
#ifndef NEOMM_BENCH_BENCH_H
#define NEOMM_BENCH_BENCH_H

#include "peer.h"

#include "sim/boot.h"

/* The machine that the benchmarks of one layer share. */
struct bench_machine {
    struct sim_system system;
    struct neomm *root;
    uint64_t random;  /* xorshift state, the same at the start of each measurement */
    uint64_t started; /* bench_time at the start of this measurement */
    uint64_t untimed; /* of it, what does not count: added to by the benchmark */
    uint64_t ram_bytes;
    uint64_t nanoseconds;          /* that one measurement takes, about */
    const struct bench_peer *peer; /* of --peer, NULL: none */
};

/* Does at least `count` operations; returns how many, 0: failed. */
typedef uint64_t bench_fn(struct bench_machine *machine, uint64_t count);
/* What is no time of an operation: a size, a ratio. Not positive: failed. */
typedef double bench_value_fn(struct bench_machine *machine);

/* Nanoseconds of this thread's CPU time. */
uint64_t bench_time(void);

struct bench_case {
    const char *name;
    const char *unit;                             /* of one operation's cost */
    const char *peer_name;                        /* NULL: none */
    bool (*setup)(struct bench_machine *machine); /* before each measurement, not timed */
    void (*teardown)(struct bench_machine *machine);
    bench_fn *ours;
    bench_fn *peer;
    bench_value_fn *ours_value, *peer_value; /* instead of ours and peer, and as often */
    bool (*peer_there)(void);                /* NULL: always */
    bool plugin;                             /* the peer may be absent: that of --peer */
};

struct bench_plan;
struct bench_result;
/* Takes one result. */
typedef void bench_result_fn(void *context, const struct bench_result *result);

struct bench_layer {
    const char *name;
    /* Measures in a way of its own, with no machine and no cases: what follows is not used. False:
     * a message is on stderr. */
    bool (*measure)(const struct bench_plan *plan, bench_result_fn *report, void *context);
    enum sim_layer layer; /* what has to run */
    uint64_t ram_bytes;
    uint32_t swap_pages;
    uint32_t readahead;                            /* pages of swap read together, at most */
    bool no_pool;                                  /* pages that leave memory are not compressed */
    uint32_t cpus;                                 /* 0: 1 */
    bool whole;                                    /* all frames can be allocated: no reserve */
    bool encrypted;                                /* swap is */
    bool slow;                                     /* left out by --quick */
    void (*finish)(struct bench_machine *machine); /* before the machine ends; may be NULL */
    const struct bench_case *cases;
    uint32_t case_count;
};

extern const struct bench_layer bench_pmm, bench_pmm_4g, bench_pmm_64g, bench_pmm_flat,
    bench_pmm_flat_large, bench_paging, bench_heap, bench_swap, bench_swap_encrypted, bench_codec,
    bench_vmm, bench_replay, bench_process_pool, bench_process_device, bench_swap_costs;

/* The file of pages that --corpus names. False: a message is on stderr. */
bool bench_corpus_load(const char *path);
/* One of its pages, or of those made up instead; NULL: the host has no memory. */
const uint8_t *bench_corpus_page(struct bench_machine *machine, uint32_t i);
/* The directory of traces that --traces names. */
void bench_traces_in(const char *path);

#define BENCH_COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* Sorts them. */
double bench_median(double *samples, uint32_t count);

/* Medians of all runs. */
struct bench_result {
    const struct bench_case *test;
    double ours, minimum, maximum;
    double peer; /* 0: none */
};

struct bench_plan {
    uint32_t runs;
    uint64_t nanoseconds; /* that one measurement takes, about */
    bool quick;
    const char *only;              /* cases with this in their name; NULL: all */
    const struct bench_peer *peer; /* NULL: none */
};

/* Measures the cases of a layer on one machine; in results[] `test` is NULL for those that the
 * plan leaves out. False: a message is on stderr. */
bool bench_measure(const struct bench_layer *layer, const struct bench_plan *plan,
                   struct bench_result *results);

static inline uint64_t bench_random(struct bench_machine *machine)
{
    machine->random ^= machine->random << 13;
    machine->random ^= machine->random >> 7;
    machine->random ^= machine->random << 17;
    return machine->random;
}

/* The compiler must believe that somebody reads and writes what `pointer` points at. */
static inline void bench_use(void *pointer)
{
    __asm__ volatile("" : : "r"(pointer) : "memory");
}

#endif
