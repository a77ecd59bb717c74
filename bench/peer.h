/* The interface through which a frame allocator from elsewhere is measured beside ours:
 * `neomm-bench pmm --peer FILE.so` loads a shared object that exports these four functions.
 * SPDX-License-Identifier: MIT
 *
 * Frames are numbered from 0; an order is the logarithm of a number of frames. `cpu` is 0 or 1,
 * and the two may be called at the same time from two threads. Nothing else is asked of it.
 */
#ifndef NEOMM_BENCH_PEER_H
#define NEOMM_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PEER_NONE UINT64_MAX

/* An allocator for `frames` free frames and `cpus` CPUs; NULL: failed. `previous` is NULL or what
 * an earlier call returned for the same numbers: it is not used any more, and its memory may be. */
typedef void *bench_peer_init_fn(void *previous, uint64_t frames, uint32_t cpus);
/* The first of 2^order frames, BENCH_PEER_NONE when there are none. */
typedef uint64_t bench_peer_alloc_fn(void *allocator, uint32_t cpu, uint32_t order);
/* True: freed. */
typedef bool bench_peer_free_fn(void *allocator, uint32_t cpu, uint64_t frame, uint32_t order);
/* Bytes of metadata of the whole allocator. */
typedef size_t bench_peer_metadata_fn(void *allocator);

/* The names they are exported under. */
#define BENCH_PEER_INIT     "neomm_peer_init"
#define BENCH_PEER_ALLOC    "neomm_peer_alloc"
#define BENCH_PEER_FREE     "neomm_peer_free"
#define BENCH_PEER_METADATA "neomm_peer_metadata"

struct bench_peer {
    bench_peer_init_fn *init;
    bench_peer_alloc_fn *alloc;
    bench_peer_free_fn *free;
    bench_peer_metadata_fn *metadata;
};

/* Loads `path`. False: what is wrong is on stderr. It stays loaded. */
bool bench_peer_load(struct bench_peer *peer, const char *path);

#endif
