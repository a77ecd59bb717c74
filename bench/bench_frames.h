/* Our frame allocator and a peer's behind the same pointers.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_FRAMES_H
#define NEOMM_BENCH_FRAMES_H

#include "bench.h"

enum bench_level {
    BENCH_EMPTY,
    BENCH_NEARLY_FULL, /* a random tenth is free, and has been replaced by others */
    BENCH_FULL         /* the next allocation fails */
};

struct bench_side {
    void *allocator;
    bench_peer_alloc_fn *alloc;
    bench_peer_free_fn *free;
    neomm_frame_t *frame; /* those that are allocated */
    uint64_t count, capacity;
    uint64_t random; /* goes on from one measurement to the next: no frame is chosen more often */
    enum bench_level level;
};

/* The sides of this machine, made when first asked for; NULL: failed. */
struct bench_side *bench_our_side(struct bench_machine *machine);
struct bench_side *bench_peer_side(struct bench_machine *machine);

/* Allocates or frees single frames until memory is as full as that. */
bool bench_reach(struct bench_side *side, enum bench_level level);

/* ---- bench_frames_threads.c ---- */

bench_fn bench_ours_threads_pair, bench_peer_threads_pair, bench_ours_threads_bulk,
    bench_peer_threads_bulk, bench_ours_threads_cross_free, bench_peer_threads_cross_free;
/* What two threads do together in a time, over what one does alone. */
bench_value_fn bench_ours_speedup_pair, bench_peer_speedup_pair, bench_ours_speedup_bulk,
    bench_peer_speedup_bulk;

#endif
