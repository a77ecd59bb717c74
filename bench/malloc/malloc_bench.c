/* Speed and space of the malloc that the program runs on: malloc-bench [ROW]. One line a row: name,
 * unit, value. Who compares allocators preloads one after the other (peers.sh).
 * SPDX-License-Identifier: MIT
 *
 * Times are of the CPU, not of the clock, so that a busy machine disturbs less; with two threads
 * those of both are added. */
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define CROWD 100000u
#define MIB   ((size_t)1 << 20)

static void *crowd[CROWD];
static size_t crowd_size[CROWD];

static double cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Each doubling from 8 to 8192 as likely as the others. */
static size_t mixed_size(uint32_t *seed)
{
    size_t base = (size_t)8 << next_number(seed) % 10;
    return base + next_number(seed) % base;
}

static void *taken(void *block)
{
    if (!block) {
        (void)fputs("malloc-bench: out of memory\n", stderr);
        exit(1);
    }
    *(volatile char *)block = 1;
    return block;
}

/* ---- one thread; nanoseconds ---- */

static double pair_64(void)
{
    const unsigned count = 3000000;
    double begin = cpu_ns();
    for (unsigned i = 0; i < count; i++)
        free(taken(malloc(64)));
    return (cpu_ns() - begin) / count;
}

static double burst_64(void)
{
    const unsigned rounds = 40000, burst = 64;
    double begin = cpu_ns();
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned j = 0; j < burst; j++)
            crowd[j] = taken(malloc(64));
        for (unsigned j = 0; j < burst; j++)
            free(crowd[j]);
    }
    return (cpu_ns() - begin) / (rounds * burst);
}

static void shuffle(unsigned count, uint32_t *seed)
{
    for (unsigned i = count - 1; i > 0; i--) {
        unsigned j = next_number(seed) % (i + 1);
        void *other = crowd[j];
        crowd[j] = crowd[i];
        crowd[i] = other;
    }
}

static double batch_mixed(void)
{
    const unsigned rounds = 1000, batch = 1000;
    uint32_t seed = 1;
    double spent = 0;
    for (unsigned i = 0; i < rounds; i++) {
        double begin = cpu_ns();
        for (unsigned j = 0; j < batch; j++)
            crowd[j] = taken(malloc(mixed_size(&seed)));
        spent += cpu_ns() - begin;
        shuffle(batch, &seed);
        begin = cpu_ns();
        for (unsigned j = 0; j < batch; j++)
            free(crowd[j]);
        spent += cpu_ns() - begin;
    }
    return spent / (rounds * batch);
}

static double calloc_large(void)
{
    const unsigned count = 3000;
    double begin = cpu_ns();
    for (unsigned i = 0; i < count; i++)
        free(taken(calloc(1, MIB)));
    return (cpu_ns() - begin) / count;
}

static double aligned_64(void)
{
    const unsigned count = 1000000;
    double begin = cpu_ns();
    for (unsigned i = 0; i < count; i++)
        free(taken(aligned_alloc(64, 192)));
    return (cpu_ns() - begin) / count;
}

/* Sixteen vectors grow by turns, an eighth each time, to 2 MiB. */
static double realloc_vectors(void)
{
    enum { VECTORS = 16 };
    unsigned steps = 0;
    double begin = cpu_ns();
    for (unsigned round = 0; round < 20; round++) {
        void *vector[VECTORS] = {NULL};
        for (size_t size = 64; size < 2 * MIB; size += size / 8)
            for (unsigned i = 0; i < VECTORS; i++, steps++)
                vector[i] = taken(realloc(vector[i], size));
        for (unsigned i = 0; i < VECTORS; i++)
            free(vector[i]);
    }
    return (cpu_ns() - begin) / steps;
}

static double realloc_huge(void)
{
    unsigned steps = 0;
    void *vector = NULL;
    double begin = cpu_ns();
    for (size_t size = MIB; size < 512 * MIB; size += size / 8, steps++) {
        vector = taken(realloc(vector, size));
        ((volatile char *)vector)[size - 1] = 1;
    }
    free(vector);
    return (cpu_ns() - begin) / steps;
}

static double huge_pair(void)
{
    const unsigned count = 20;
    double begin = cpu_ns();
    for (unsigned i = 0; i < count; i++)
        free(taken(malloc(256 * MIB)));
    return (cpu_ns() - begin) / count;
}

/* ---- a crowd of mixed blocks: time and space ---- */

static size_t fill_crowd(uint32_t *seed)
{
    size_t requested = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd_size[i] = mixed_size(seed);
        crowd[i] = taken(malloc(crowd_size[i]));
        memset(crowd[i], 1, crowd_size[i]);
        requested += crowd_size[i];
    }
    return requested;
}

static void replace(unsigned i, uint32_t *seed, size_t *requested)
{
    *requested -= crowd_size[i];
    free(crowd[i]);
    crowd_size[i] = mixed_size(seed);
    crowd[i] = taken(malloc(crowd_size[i]));
    *requested += crowd_size[i];
}

static double churn(void)
{
    const unsigned count = 2000000;
    uint32_t seed = 2;
    size_t requested = fill_crowd(&seed);
    double begin = cpu_ns();
    for (unsigned i = 0; i < count; i++)
        replace(next_number(&seed) % CROWD, &seed, &requested);
    double spent = cpu_ns() - begin;
    for (unsigned i = 0; i < CROWD; i++)
        free(crowd[i]);
    return spent / count;
}

static size_t resident(void)
{
    unsigned long all, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu %lu", &all, &pages) != 2)
        exit(1);
    (void)fclose(file);
    return pages * 4096;
}

/* What is resident, per byte requested, over the time of a churn: the worst; or after freeing. */
static double space(unsigned freed_of_ten, bool trim)
{
    uint32_t seed = 3;
    memset(crowd, 1, sizeof(crowd));
    memset(crowd_size, 1, sizeof(crowd_size));
    size_t before = resident(), requested = fill_crowd(&seed);
    double worst = 0;
    for (unsigned i = 0; i < 1000000; i++) {
        unsigned chosen = next_number(&seed) % CROWD;
        replace(chosen, &seed, &requested);
        memset(crowd[chosen], 1, crowd_size[chosen]);
        double share = i % 10000 ? 0 : (double)(resident() - before) / (double)requested;
        worst = share > worst ? share : worst;
    }
    for (unsigned i = 0; i < CROWD; i++)
        if (i % 10 < freed_of_ten) {
            requested -= crowd_size[i];
            free(crowd[i]);
        }
    if (trim)
        (void)malloc_trim(0);
    size_t after = resident();
    after = after > before ? after - before : 0;
    if (freed_of_ten == 10)
        return (double)after / (double)MIB;
    return freed_of_ten == 0 ? worst : (double)after / (double)requested;
}

static double space_churn(void)
{
    return space(0, false);
}

static double space_tenth(void)
{
    return space(9, true);
}

static double space_none(void)
{
    return space(10, true);
}

/* ---- two threads ---- */

static void *own_objects(void *unused)
{
    void *block[64];
    for (unsigned i = 0; i < 30000; i++) {
        for (unsigned j = 0; j < 64; j++)
            block[j] = taken(malloc(16 + j * 8));
        for (unsigned j = 0; j < 64; j++)
            free(block[j]);
    }
    return unused;
}

static double two_threads(void)
{
    pthread_t thread[2];
    double begin = cpu_ns();
    for (unsigned i = 0; i < 2; i++)
        if (pthread_create(&thread[i], NULL, own_objects, NULL) != 0)
            exit(1);
    for (unsigned i = 0; i < 2; i++)
        (void)pthread_join(thread[i], NULL);
    return (cpu_ns() - begin) / (2 * 30000 * 64);
}

/* One allocates, the other frees what comes through a ring; who has nothing to do sleeps. */
#define RING      4096u
#define CROSSINGS 2000000u

static struct {
    void *slot[RING];
    uint32_t put __attribute__((aligned(64)));
    uint32_t got __attribute__((aligned(64)));
    bool payload;
    volatile uint64_t sum;
} ring;

static void *freeing(void *unused)
{
    for (uint32_t i = 0; i < CROSSINGS; i++) {
        while (__atomic_load_n(&ring.put, __ATOMIC_ACQUIRE) == i)
            (void)sched_yield();
        char *block = ring.slot[i % RING];
        for (unsigned j = 0; ring.payload && j < 256; j += 64)
            ring.sum += (uint64_t)block[j];
        free(block);
        __atomic_store_n(&ring.got, i + 1, __ATOMIC_RELEASE);
    }
    return unused;
}

static double crossing(bool payload)
{
    pthread_t thread;
    ring.put = ring.got = 0;
    ring.payload = payload;
    double begin = cpu_ns();
    if (pthread_create(&thread, NULL, freeing, NULL) != 0)
        exit(1);
    for (uint32_t i = 0; i < CROSSINGS; i++) {
        while (i - __atomic_load_n(&ring.got, __ATOMIC_ACQUIRE) == RING)
            (void)sched_yield();
        char *block = taken(malloc(256));
        if (payload)
            memset(block, 1, 256);
        ring.slot[i % RING] = block;
        __atomic_store_n(&ring.put, i + 1, __ATOMIC_RELEASE);
    }
    (void)pthread_join(thread, NULL);
    return (cpu_ns() - begin) / CROSSINGS;
}

static double cross_thread(void)
{
    return crossing(false);
}

static double cross_payload(void)
{
    return crossing(true);
}

static const struct {
    const char *name, *unit;
    double (*run)(void);
} rows[] = {
    {"pair-64", "ns", pair_64},
    {"burst-64", "ns", burst_64},
    {"batch-mixed", "ns", batch_mixed},
    {"churn-100k", "ns", churn},
    {"aligned-64", "ns", aligned_64},
    {"calloc-1m", "ns", calloc_large},
    {"realloc-vectors", "ns", realloc_vectors},
    {"realloc-huge", "ns", realloc_huge},
    {"huge-pair", "ns", huge_pair},
    {"two-threads", "ns", two_threads},
    {"cross-thread", "ns", cross_thread},
    {"cross-payload", "ns", cross_payload},
    {"space-churn", "ratio", space_churn},
    {"space-tenth", "ratio", space_tenth},
    {"space-none", "MiB", space_none},
};

int main(int argc, char **argv)
{
    unsigned found = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (argc < 2 || strcmp(argv[1], rows[i].name) == 0) {
            (void)printf("%s %s %.2f\n", rows[i].name, rows[i].unit, rows[i].run());
            (void)fflush(stdout);
            found++;
        } else if (strcmp(argv[1], "--list") == 0) {
            (void)puts(rows[i].name);
            found++;
        }
    return found > 0 ? 0 : 2;
}
