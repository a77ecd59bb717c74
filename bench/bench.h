/* The benchmark driver's registry: what a benchmark is, and which there are.
 * SPDX-License-Identifier: MIT
 *
 * A benchmark does an operation many times, ours and perhaps that of a peer: something else that
 * does the same work on this host. Both are measured in turns in the same run, in thread CPU
 * time, so that what slows the machine slows both.
 */
#ifndef NEOMM_BENCH_BENCH_H
#define NEOMM_BENCH_BENCH_H

#include "sim/boot.h"

/* The machine that the benchmarks of one layer share. */
struct bench_machine {
    struct sim_system system;
    struct neomm *root;
    uint64_t random; /* xorshift state, the same at the start of each measurement */
};

/* Does at least `count` operations; returns how many, 0: failed. */
typedef uint64_t bench_fn(struct bench_machine *machine, uint64_t count);

struct bench_case {
    const char *name;
    const char *unit;                             /* of one operation's cost */
    const char *peer_name;                        /* NULL: none */
    bool (*setup)(struct bench_machine *machine); /* before each measurement, not timed */
    void (*teardown)(struct bench_machine *machine);
    bench_fn *ours;
    bench_fn *peer;
};

struct bench_layer {
    const char *name;
    enum sim_layer layer; /* what has to run */
    uint64_t ram_bytes;
    uint32_t swap_pages;
    const struct bench_case *cases;
    uint32_t case_count;
};

extern const struct bench_layer bench_pmm, bench_paging, bench_heap, bench_swap, bench_vmm;

#define BENCH_COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* Medians of all runs. */
struct bench_result {
    const struct bench_case *test;
    double ours, minimum, maximum;
    double peer; /* 0: none */
};

struct bench_plan {
    uint32_t runs;
    uint64_t nanoseconds; /* that one measurement takes, about */
};

/* Measures all cases of a layer on one machine. False: a message is on stderr. */
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
