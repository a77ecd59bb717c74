/* What allocators hold, for what was asked.
 * SPDX-License-Identifier: MIT
 *
 * Ours counts its frames, its own state included; of a peer it is what its use adds to the resident
 * set of a child process, in which nobody has used it before.
 */
#include "heap_jobs.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIVE       100000u
#define STEPS      1000000u
#define DENSE      (64u << 20) /* bytes of objects of one size */
#define DESCRIPTOR 32.0        /* bytes a frame; all frames have one, whoever uses them */
#define PAGE       4096.0

/* ---- rounding ---- */

static double rounding(const struct heap_side *side)
{
    double asked = 0, got = 0;
    for (uint32_t i = 0; i < HEAP_SIZES; i++) {
        void *block = heap_take(side, side->heap != NULL, heap_size[i]);
        if (!block)
            return -1;
        asked += heap_size[i];
        got += (double)heap_usable(side, block);
        heap_drop(side, block);
    }
    return 100 * (got / asked - 1);
}

double heap_rounding(const struct heap_side *side)
{
    return rounding(side);
}

double heap_rounding_fine(const struct heap_side *side)
{
    struct heap_side fine = heap_side_fine(side);
    if (!fine.present)
        return -1;
    double percent = rounding(&fine);
    return fine.heap->stop(fine.root) ? percent : -1;
}

/* ---- held memory ---- */

/* Bytes; 0: not to be had. */
static double resident(void)
{
    unsigned long size, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%lu %lu", &size, &pages) != 2)
        pages = 0;
    (void)fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double held(const struct heap_side *side)
{
    return side->heap ? (double)side->heap->held(side->root) : resident();
}

/* Runs it where nobody has used the allocator. */
static double in_child(const struct heap_side *side, heap_value_fn *figure)
{
    int ends[2], status;
    double value = -1;
    (void)fflush(NULL);
    if (pipe(ends) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        value = figure(side);
        _exit(write(ends[1], &value, sizeof(value)) == sizeof(value) ? 0 : 1);
    }
    (void)close(ends[1]);
    if (child < 0 || read(ends[0], &value, sizeof(value)) != sizeof(value))
        value = -1;
    (void)close(ends[0]);
    if (child > 0 && (waitpid(child, &status, 0) != child || status != 0))
        value = -1;
    return value;
}

/* ---- objects of one size ---- */

static void *dense_block[DENSE / 16];

static uint32_t dense_bytes(void)
{
    return heap_many(DENSE);
}

/* Bytes held for a byte of objects; they are written to. */
static double dense(const struct heap_side *side, size_t size)
{
    uint64_t count = dense_bytes() / size;
    for (uint64_t i = 0; i < count; i++)
        dense_block[i] = dense_block; /* the table itself is resident from here on */
    double before = side->heap ? 0 : held(side);
    for (uint64_t i = 0; i < count; i++) {
        dense_block[i] = heap_take(side, side->heap != NULL, size);
        if (!dense_block[i])
            return -1;
        *(volatile char *)dense_block[i] = 1;
    }
    return (held(side) - before) / dense_bytes();
}

static double dense_16(const struct heap_side *side)
{
    return 100 * (dense(side, 16) - 1);
}

static double dense_64(const struct heap_side *side)
{
    return 100 * (dense(side, 64) - 1);
}

static double dense_16_described(const struct heap_side *side)
{
    return 100 * (dense(side, 16) * (1 + DESCRIPTOR / PAGE) - 1);
}

static double dense_64_described(const struct heap_side *side)
{
    return 100 * (dense(side, 64) * (1 + DESCRIPTOR / PAGE) - 1);
}

/* ---- a crowd that is replaced, one block at a time, and leaves ---- */

static struct {
    void *block[LIVE];
    uint16_t size[LIVE];
    double asked; /* bytes */
    uint64_t random;
    double before; /* held */
} crowd;

static void replace(const struct heap_side *side, uint32_t at, uint16_t size)
{
    crowd.asked -= crowd.size[at];
    if (crowd.block[at])
        heap_drop(side, crowd.block[at]);
    crowd.block[at] = size > 0 ? heap_take(side, side->heap != NULL, size) : NULL;
    crowd.size[at] = size;
    crowd.asked += size;
    for (uint32_t i = 0; crowd.block[at] && i < size; i += 4096)
        ((volatile char *)crowd.block[at])[i] = 1;
}

/* The highest ratio of what is held to what is asked for. */
static double churn(const struct heap_side *side)
{
    double most = 0;
    crowd.random = 1;
    crowd.asked = 0;
    for (uint32_t i = 0; i < LIVE; i++) {
        crowd.block[i] = NULL;
        crowd.size[i] = 0;
    }
    crowd.before = side->heap ? 0 : held(side);
    for (uint32_t i = 0; i < LIVE; i++)
        replace(side, i, heap_size[i % HEAP_SIZES]);
    for (uint32_t i = 0; i < heap_many(STEPS); i++) {
        uint64_t r = heap_random(&crowd.random);
        replace(side, (uint32_t)((r >> 32) * LIVE >> 32), heap_size[r % HEAP_SIZES]);
        if (i % 10000 == 0) {
            double ratio = (held(side) - crowd.before) / crowd.asked;
            most = ratio > most ? ratio : most;
        }
    }
    return most;
}

/* Nine of ten blocks go, whichever; what is held for the others. */
static double tenth(const struct heap_side *side)
{
    (void)churn(side);
    for (uint32_t i = 0; i < LIVE; i++)
        if (heap_random(&crowd.random) % 10 != 0)
            replace(side, i, 0);
    heap_shrink(side);
    return (held(side) - crowd.before) / crowd.asked;
}

/* KiB that are still held when all is freed: of ours, beyond what a new heap holds. */
static double none(const struct heap_side *side)
{
    double empty = side->heap ? held(side) : 0;
    (void)tenth(side);
    for (uint32_t i = 0; i < LIVE; i++)
        replace(side, i, 0);
    heap_shrink(side);
    double left = held(side) - empty - crowd.before;
    return left > 0 ? left / 1024 : 0;
}

#define IN_CHILD(name)                                                                             \
    double heap_##name(const struct heap_side *side)                                               \
    {                                                                                              \
        return in_child(side, name);                                                               \
    }
#define IN_CHILD_AS(name, figure)                                                                  \
    double heap_##name(const struct heap_side *side)                                               \
    {                                                                                              \
        return in_child(side, figure);                                                             \
    }

IN_CHILD(dense_16)
IN_CHILD(dense_64)
IN_CHILD(dense_16_described)
IN_CHILD(dense_64_described)
IN_CHILD_AS(held_peak, churn)
IN_CHILD_AS(held_tenth, tenth)
IN_CHILD_AS(held_none, none)
