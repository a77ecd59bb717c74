/* Snapshots: the touched pages of RAM and the registers of every CPU. What was never touched is a
 * hole in the memory file and costs nothing, here and at the way back.
 * SPDX-License-Identifier: MIT */
#include "machine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A stretch of a memory file that is no hole. */
struct extent {
    struct extent *next;
    off_t from, size;
    uint8_t data[];
};

struct sim_snapshot {
    struct extent *ram, *poisoned;
    uint64_t image_bytes;
    uint32_t cpus;
    struct sim_cpu cpu[];
};

static void free_extents(struct extent *extent)
{
    while (extent) {
        struct extent *next = extent->next;
        free(extent);
        extent = next;
    }
}

/* The next stretch at or behind `from`; false: there is none. */
static bool next_data(int fd, off_t from, off_t *start, off_t *end)
{
    *start = lseek(fd, from, SEEK_DATA);
    if (*start < 0)
        return false;
    *end = lseek(fd, *start, SEEK_HOLE);
    return *end > *start;
}

static struct extent *read_extent(int fd, off_t start, off_t end)
{
    struct extent *extent = malloc(sizeof(*extent) + (size_t)(end - start));
    if (!extent)
        return NULL;
    *extent = (struct extent){NULL, start, end - start};
    if (pread(fd, extent->data, (size_t)extent->size, start) != (ssize_t)extent->size) {
        free(extent);
        return NULL;
    }
    return extent;
}

static bool save(int fd, struct extent **list)
{
    off_t from = 0, end;
    struct extent **tail = list;
    while (next_data(fd, from, &from, &end)) {
        *tail = read_extent(fd, from, end);
        if (!*tail)
            return false;
        tail = &(*tail)->next;
        from = end;
    }
    return true;
}

/* Makes holes of what is data now and was none then: [from, to) lies between two extents. */
static void punch(int fd, off_t from, off_t to)
{
    off_t end;
    while (from < to && next_data(fd, from, &from, &end) && from < to) {
        end = end < to ? end : to;
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, end - from);
        from = end;
    }
}

/* Writes the pages that differ. */
static void write_extent(int fd, const struct extent *extent)
{
    uint8_t now[NEOMM_PAGE_SIZE];
    for (off_t at = 0; at < extent->size; at += (off_t)sizeof(now)) {
        const uint8_t *then = extent->data + at;
        if (pread(fd, now, sizeof(now), extent->from + at) == (ssize_t)sizeof(now) &&
            memcmp(now, then, sizeof(now)) == 0)
            continue;
        if (pwrite(fd, then, sizeof(now), extent->from + at) != (ssize_t)sizeof(now))
            abort();
    }
}

static void restore(int fd, const struct extent *list)
{
    off_t from = 0, end = lseek(fd, 0, SEEK_END);
    for (const struct extent *extent = list; extent; extent = extent->next) {
        punch(fd, from, extent->from);
        write_extent(fd, extent);
        from = extent->from + extent->size;
    }
    punch(fd, from, end);
}

/* What belongs to a CPU's thread goes with the CPU while it is copied. */
static void park(void)
{
    sim_place.cpu->masked = sim_place.masked;
    sim_place.cpu->saves = sim_place.saves;
}

static void unpark(void)
{
    sim_place.masked = sim_place.cpu->masked;
    sim_place.saves = sim_place.cpu->saves;
}

static void copy_cpu(struct sim_cpu *to, const struct sim_cpu *from)
{
    pthread_mutex_t serving = to->serving;
    memcpy(to, from, sizeof(*to));
    to->serving = serving;
}

struct sim_snapshot *sim_snapshot_take(struct sim *sim)
{
    uint32_t cpus = sim->options.cpus;
    struct sim_snapshot *snapshot = calloc(1, sizeof(*snapshot) + cpus * sizeof(struct sim_cpu));
    if (!snapshot)
        return NULL;
    snapshot->cpus = cpus;
    snapshot->image_bytes = sim->image_bytes;
    park();
    for (uint32_t i = 0; i < cpus; i++)
        copy_cpu(&snapshot->cpu[i], &sim->cpu[i]);
    if (!save(sim->fd, &snapshot->ram) || !save(sim->poisoned_fd, &snapshot->poisoned)) {
        sim_snapshot_free(snapshot);
        return NULL;
    }
    return snapshot;
}

void sim_snapshot_restore(struct sim *sim, const struct sim_snapshot *snapshot)
{
    sim_window_forget_all(sim);
    restore(sim->fd, snapshot->ram);
    restore(sim->poisoned_fd, snapshot->poisoned);
    sim->image_bytes = snapshot->image_bytes;
    for (uint32_t i = 0; i < snapshot->cpus; i++)
        copy_cpu(&sim->cpu[i], &snapshot->cpu[i]);
    unpark();
    sim_mmu_reset(sim);
}

void sim_snapshot_free(struct sim_snapshot *snapshot)
{
    if (!snapshot)
        return;
    free_extents(snapshot->ram);
    free_extents(snapshot->poisoned);
    free(snapshot);
}
