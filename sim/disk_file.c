/* A disk in a file, or on a block device, of the host.
 * SPDX-License-Identifier: MIT */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file_disk {
    struct sim_backend backend; /* first */
    int file;
};

/* All bytes of the job, however few go at a time. A file that became shorter is an error. */
static bool move(int file, const struct sim_job *job, uint8_t *data)
{
    size_t left = (size_t)job->pages << NEOMM_PAGE_SHIFT;
    off_t at = (off_t)job->page << NEOMM_PAGE_SHIFT;
    while (left > 0) {
        ssize_t moved = job->operation == NEOMM_BLOCK_WRITE ? pwrite(file, data, left, at)
                                                            : pread(file, data, left, at);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return false;
        data += moved;
        at += moved;
        left -= (size_t)moved;
    }
    return true;
}

static bool perform(int file, struct sim_job *job)
{
    if (job->operation == NEOMM_BLOCK_FLUSH)
        return fdatasync(file) == 0;
    if (job->operation == NEOMM_BLOCK_DISCARD)
        return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         (off_t)job->page << NEOMM_PAGE_SHIFT,
                         (off_t)job->pages << NEOMM_PAGE_SHIFT) == 0;
    return move(file, job, job->data);
}

static void work(struct sim_backend *backend)
{
    const struct file_disk *disk = (const struct file_disk *)backend;
    while (!sim_backend_stopping(backend)) {
        struct sim_job *job = sim_backend_take(backend);
        if (job)
            sim_backend_done(backend, job, perform(disk->file, job) ? NEOMM_OK : NEOMM_E_IO);
        else
            sim_backend_wait(backend);
    }
}

static void destroy(struct file_disk *disk)
{
    if (disk->file >= 0)
        (void)close(disk->file);
    free(disk);
}

static void end(struct sim_backend *backend)
{
    destroy((struct file_disk *)backend);
}

static bool open_file(struct file_disk *disk, const char *path, char *error, size_t size)
{
    disk->file = open(path, O_RDWR | O_CLOEXEC);
    off_t bytes = disk->file >= 0 ? lseek(disk->file, 0, SEEK_END) : -1;
    uint64_t pages = bytes < 0 ? 0 : (uint64_t)bytes >> NEOMM_PAGE_SHIFT;
    if (bytes < 0)
        (void)snprintf(error, size, "%s: %s", path, strerror(errno));
    else if (pages == 0)
        (void)snprintf(error, size, "%s: smaller than a page", path);
    disk->backend.device.pages = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
    return pages != 0;
}

struct neomm_block_device *sim_file_disk_open(struct sim *sim, const char *path, char *error,
                                              size_t size)
{
    struct file_disk *disk = calloc(1, sizeof(*disk));
    if (!disk) {
        (void)snprintf(error, size, "%s: out of memory", path);
        return NULL;
    }
    disk->backend.device.name = "file";
    disk->backend.device.flags = NEOMM_BLOCK_DISCARDS;
    disk->backend.work = work;
    disk->backend.close = end;
    if (open_file(disk, path, error, size)) {
        if (sim_backend_start(sim, &disk->backend))
            return &disk->backend.device;
        (void)snprintf(error, size, "%s: no thread for it", path);
    }
    destroy(disk);
    return NULL;
}
