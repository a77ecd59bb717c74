/* Loading a frame allocator from elsewhere.
 * SPDX-License-Identifier: MIT */
#include "peer.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* POSIX lets a function's address come as an object pointer; ISO C has no cast for it. */
static bool find(void *library, const char *path, const char *name, void *function)
{
    void *address = dlsym(library, name);
    if (!address)
        (void)fprintf(stderr, "neomm-bench: --peer: %s does not export %s (see bench/peer.h)\n",
                      path, name);
    memcpy(function, &address, sizeof(address));
    return address != NULL;
}

bool bench_peer_load(struct bench_peer *peer, const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        (void)fprintf(stderr, "neomm-bench: --peer: %s\n", dlerror());
        return false;
    }
    return find(library, path, BENCH_PEER_INIT, &peer->init) &&
           find(library, path, BENCH_PEER_ALLOC, &peer->alloc) &&
           find(library, path, BENCH_PEER_FREE, &peer->free) &&
           find(library, path, BENCH_PEER_METADATA, &peer->metadata);
}
