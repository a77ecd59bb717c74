/* Finding the allocators: our modules beside the program, the peers among the host's libraries.
 * SPDX-License-Identifier: MIT */
#include "heap_side.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- giving memory back ---- */

typedef void collect_fn(bool force);
typedef int mallctl_fn(const char *name, void *old, size_t *old_size, void *new_value,
                       size_t new_size);
typedef void release_fn(void);

/* A function by the address that dlsym found. */
#define CALLABLE(type, address)                                                                    \
    (__extension__({                                                                               \
        void *address_ = (address);                                                                \
        type *function_;                                                                           \
        memcpy(&function_, &address_, sizeof(function_));                                          \
        function_;                                                                                 \
    }))

static void mimalloc_shrink(const struct heap_side *side)
{
    CALLABLE(collect_fn, side->release)(true);
}

/* 4096 stands for all arenas. */
static void jemalloc_shrink(const struct heap_side *side)
{
    mallctl_fn *control = CALLABLE(mallctl_fn, side->release);
    (void)control("thread.tcache.flush", NULL, NULL, NULL, 0);
    (void)control("arena.4096.purge", NULL, NULL, NULL, 0);
}

static void tcmalloc_shrink(const struct heap_side *side)
{
    CALLABLE(release_fn, side->release)();
}

static void glibc_shrink(const struct heap_side *side)
{
    (void)side;
    (void)malloc_trim(0);
}

/* ---- peers ---- */

static const struct peer_library {
    const char *name, *library;
    const char *malloc, *free, *realloc, *usable, *release;
    void (*shrink)(const struct heap_side *side);
} peers[] = {
    {"mimalloc", "libmimalloc.so.2", "mi_malloc", "mi_free", "mi_realloc", "mi_usable_size",
     "mi_collect", mimalloc_shrink},
    {"jemalloc", "libjemalloc.so.2", "malloc", "free", "realloc", "malloc_usable_size", "mallctl",
     jemalloc_shrink},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "malloc", "free", "realloc", "malloc_usable_size",
     "MallocExtension_ReleaseFreeMemory", tcmalloc_shrink},
};

static void load_peer(struct heap_side *side, const struct peer_library *peer)
{
    void *library = dlopen(peer->library, RTLD_NOW | RTLD_LOCAL);
    *side = (struct heap_side){.name = peer->name, .shrink = peer->shrink};
    if (!library)
        return;
    void *address[] = {dlsym(library, peer->malloc), dlsym(library, peer->free),
                       dlsym(library, peer->realloc), dlsym(library, peer->usable),
                       dlsym(library, peer->release)};
    memcpy(&side->malloc, &address[0], sizeof(void *));
    memcpy(&side->free, &address[1], sizeof(void *));
    memcpy(&side->realloc, &address[2], sizeof(void *));
    memcpy(&side->usable, &address[3], sizeof(void *));
    side->release = address[4];
    side->present = address[0] && address[1] && address[2] && address[3] && address[4];
}

static const struct heap_side host_side = {.name = "glibc",
                                           .present = true,
                                           .malloc = malloc,
                                           .free = free,
                                           .realloc = realloc,
                                           .usable = malloc_usable_size,
                                           .shrink = glibc_shrink};

/* ---- ours ---- */

static void start_heap(struct heap_side *side, bool fine_classes)
{
    side->kmalloc = side->heap->alloc;
    side->kfree = side->heap->free;
    side->root = side->heap->start(HEAP_RAM, fine_classes);
    side->present = side->root != NULL;
}

static void load_heap(struct heap_side *side, const char *name, const char *file)
{
    void *module = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    *side = (struct heap_side){.name = name};
    side->heap = module ? dlsym(module, BENCH_HEAP_SYMBOL) : NULL;
    if (side->heap)
        start_heap(side, false);
    else
        (void)fprintf(stderr, "neomm-bench: %s\n", dlerror());
}

struct heap_side heap_side_fine(const struct heap_side *side)
{
    struct heap_side fine = {.name = side->name, .heap = side->heap};
    start_heap(&fine, true);
    return fine;
}

/* If this cannot be done, jemalloc is absent. */
void heap_sides_prepare(char **argv)
{
    if (!getenv("GLIBC_TUNABLES") &&
        setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=8192", 0) == 0)
        (void)execv("/proc/self/exe", argv);
}

bool heap_sides_open(struct heap_side *sides)
{
    load_heap(&sides[0], "neomm", "libbench-heap-call.so");
    load_heap(&sides[1], "neomm-inline", "libbench-heap-inline.so");
    for (uint32_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
        load_peer(&sides[HEAP_OURS + i], &peers[i]);
    sides[HEAP_SIDES - 1] = host_side;
    return sides[0].present && sides[1].present;
}

bool heap_sides_close(struct heap_side *sides)
{
    bool good = true;
    for (uint32_t i = 0; i < HEAP_OURS; i++)
        if (sides[i].present)
            good = sides[i].heap->stop(sides[i].root) && good;
    return good;
}
