/* A disk at an NBD server.
 * SPDX-License-Identifier: MIT
 *
 * The worker is a loop around one connection:
 *
 *   away --connect--> ready --ended, hung, other size--> away
 *
 * A job is in one of three places: with the CPUs' queue, in `again` (to be sent, or sent once
 * more), or in flight. Its buffer is libnbd's only while it is in flight; closing the handle takes
 * it back.
 */
#include "nbd_disk.h"

#include "../backend.h"

#include <libnbd.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_FLIGHT_MAX 16u
#define MS            1000000u
#define PAUSE_LEAST   10u    /* ms between two attempts to connect */
#define PAUSE_MOST    1000u  /* ms */
#define OPEN_MS       20000u /* for the first connection; a server may look up who we are */

struct nbd_disk;

struct flight {
    struct sim_job *job;
    uint64_t sent;
    bool answered;
    int error;
};

struct nbd_disk {
    struct sim_backend backend; /* first */
    struct sim_nbd_options options;
    char *uri;
    struct nbd_handle *nbd; /* NULL: away */
    struct flight flight[IN_FLIGHT_MAX];
    struct sim_job *again; /* to be sent before those of the queue */
    uint64_t try_at;       /* when to connect next */
    uint32_t pause;        /* ms, after the next failure */
    struct sim_nbd_stats stats;
};

static uint32_t in_flight(const struct nbd_disk *disk)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        count += disk->flight[i].job != NULL;
    return count;
}

static void put_again(struct nbd_disk *disk, struct sim_job *job)
{
    job->next = disk->again;
    disk->again = job;
}

static void count(uint64_t *figure)
{
    (void)__atomic_fetch_add(figure, 1, __ATOMIC_RELAXED);
}

static void finish(struct nbd_disk *disk, struct sim_job *job, bool good)
{
    count(good ? &disk->stats.transfers : &disk->stats.failures);
    sim_backend_done(&disk->backend, job, good ? NEOMM_OK : NEOMM_E_IO);
}

/* ---- the connection ---- */

static bool is_ended(struct nbd_handle *nbd)
{
    return nbd_aio_is_dead(nbd) > 0 || nbd_aio_is_closed(nbd) > 0;
}

/* Is the export what it was? */
static bool is_suitable(struct nbd_disk *disk, char *error, size_t size)
{
    int64_t bytes = nbd_get_size(disk->nbd);
    uint64_t pages = bytes < 0 ? 0 : (uint64_t)bytes >> NEOMM_PAGE_SHIFT;
    if (pages == 0 || nbd_is_read_only(disk->nbd) != 0) {
        (void)snprintf(error, size,
                       "%s: an export that can be written, of a page at least, is needed",
                       disk->uri);
        return false;
    }
    if (disk->backend.device.pages == 0)
        disk->backend.device.pages = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
    if (disk->stats.connections == 0 && nbd_can_trim(disk->nbd) > 0)
        disk->backend.device.flags |= NEOMM_BLOCK_DISCARDS;
    if (pages >= disk->backend.device.pages)
        return true;
    (void)snprintf(error, size, "%s: the export has become smaller", disk->uri);
    return false;
}

/* What libnbd says about the call that failed just now. */
static bool explain(const struct nbd_disk *disk, char *error, size_t size)
{
    const char *reason = nbd_get_error();
    (void)snprintf(error, size, "%s: %s", disk->uri, reason ? reason : "out of memory");
    return false;
}

/* Waits for the connection to be made, as long as an answer may take; the first one longer. */
static bool wait_until_ready(struct nbd_disk *disk, char *error, size_t size)
{
    uint32_t limit = disk->stats.connections == 0 ? OPEN_MS : disk->options.answer_ms;
    uint64_t end = sim_host_now() + (uint64_t)limit * MS;
    while (nbd_aio_is_connecting(disk->nbd) > 0) {
        if (sim_host_now() > end) {
            (void)snprintf(error, size, "%s: no answer for %u ms", disk->uri, limit);
            return false;
        }
        if (nbd_poll(disk->nbd, (int)PAUSE_LEAST) < 0)
            return explain(disk, error, size);
    }
    return nbd_aio_is_ready(disk->nbd) > 0 || explain(disk, error, size);
}

static bool make_connection(struct nbd_disk *disk, char *error, size_t size)
{
    disk->nbd = nbd_create();
    if (!disk->nbd || nbd_aio_connect_uri(disk->nbd, disk->uri) < 0)
        return explain(disk, error, size);
    return wait_until_ready(disk, error, size) && is_suitable(disk, error, size);
}

static void hang_up(struct nbd_disk *disk)
{
    if (disk->nbd)
        nbd_close(disk->nbd);
    disk->nbd = NULL;
}

static bool try_to_connect(struct nbd_disk *disk, char *error, size_t size)
{
    bool good = make_connection(disk, error, size);
    if (good)
        count(&disk->stats.connections);
    else
        hang_up(disk);
    return good;
}

static void reconnect(struct nbd_disk *disk)
{
    char error[256];
    if (sim_host_now() < disk->try_at)
        return;
    if (try_to_connect(disk, error, sizeof(error))) {
        disk->pause = PAUSE_LEAST;
        return;
    }
    disk->try_at = sim_host_now() + (uint64_t)disk->pause * MS;
    disk->pause = disk->pause * 2 < PAUSE_MOST ? disk->pause * 2 : PAUSE_MOST;
}

/* ---- requests ---- */

static int answered(void *context, int *error)
{
    struct flight *flight = context;
    flight->answered = true;
    flight->error = *error;
    return 1;
}

static bool send_job(struct nbd_disk *disk, struct flight *flight)
{
    struct sim_job *job = flight->job;
    nbd_completion_callback done = {.callback = answered, .user_data = flight};
    uint64_t at = (uint64_t)job->page << NEOMM_PAGE_SHIFT;
    size_t bytes = (size_t)job->pages << NEOMM_PAGE_SHIFT;
    switch (job->operation) {
    case NEOMM_BLOCK_READ:
        return nbd_aio_pread(disk->nbd, job->data, bytes, at, done, 0) >= 0;
    case NEOMM_BLOCK_WRITE:
        return nbd_aio_pwrite(disk->nbd, job->data, bytes, at, done, 0) >= 0;
    case NEOMM_BLOCK_FLUSH:
        return nbd_aio_flush(disk->nbd, done, 0) >= 0;
    case NEOMM_BLOCK_DISCARD:
        return nbd_aio_trim(disk->nbd, (uint64_t)job->pages << NEOMM_PAGE_SHIFT, at, done, 0) >= 0;
    }
    return false;
}

static struct sim_job *next_job(struct nbd_disk *disk)
{
    struct sim_job *job = disk->again;
    if (!job)
        return sim_backend_take(&disk->backend);
    disk->again = job->next;
    return job;
}

/* A server that knows no flush has nothing that it would lose, and one that knows no trim keeps
 * what it has. */
static bool is_needless(const struct nbd_disk *disk, const struct sim_job *job)
{
    return (job->operation == NEOMM_BLOCK_FLUSH && nbd_can_flush(disk->nbd) == 0) ||
           (job->operation == NEOMM_BLOCK_DISCARD && nbd_can_trim(disk->nbd) == 0);
}

static void start_one(struct nbd_disk *disk, struct flight *flight, struct sim_job *job)
{
    *flight = (struct flight){.job = job, .sent = sim_host_now()};
    if (send_job(disk, flight))
        return;
    flight->job = NULL;
    if (is_ended(disk->nbd))
        put_again(disk, job);
    else
        finish(disk, job, false);
}

static void start_jobs(struct nbd_disk *disk)
{
    for (uint32_t i = 0; i < IN_FLIGHT_MAX && !is_ended(disk->nbd); i++) {
        struct sim_job *job = disk->flight[i].job ? NULL : next_job(disk);
        if (job && is_needless(disk, job))
            finish(disk, job, true);
        else if (job)
            start_one(disk, &disk->flight[i], job);
    }
    uint32_t now = in_flight(disk);
    if (now > disk->stats.most)
        __atomic_store_n(&disk->stats.most, now, __ATOMIC_RELAXED);
}

/* An error from a connection that goes on is the server's answer. */
static void end_answered(struct nbd_disk *disk)
{
    bool ended = is_ended(disk->nbd);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++) {
        struct flight *flight = &disk->flight[i];
        struct sim_job *job = flight->job;
        if (!job || !flight->answered || (flight->error != 0 && ended))
            continue;
        flight->job = NULL;
        finish(disk, job, flight->error == 0);
    }
}

static bool is_hung(const struct nbd_disk *disk)
{
    uint64_t now = sim_host_now();
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        if (disk->flight[i].job &&
            now - disk->flight[i].sent > (uint64_t)disk->options.answer_ms * MS)
            return true;
    return false;
}

/* The connection is over. Where the server went, what it did not answer is sent again; one that
 * hangs may still do what it was told. */
static void take_back(struct nbd_disk *disk, bool send_again)
{
    hang_up(disk);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++) {
        struct sim_job *job = disk->flight[i].job;
        disk->flight[i].job = NULL;
        if (job && send_again) {
            count(&disk->stats.sent_again);
            put_again(disk, job);
        } else if (job) {
            finish(disk, job, false);
        }
    }
}

static void end_connection(struct nbd_disk *disk)
{
    if (is_ended(disk->nbd))
        take_back(disk, true);
    else if (is_hung(disk))
        take_back(disk, false);
}

/* Nobody waits for a server for ever. */
static void give_up_old(struct nbd_disk *disk)
{
    uint64_t now = sim_host_now();
    struct sim_job *job, *kept = NULL;
    while ((job = next_job(disk))) {
        if (now - job->since > (uint64_t)disk->options.patience_ms * MS) {
            finish(disk, job, false);
        } else {
            job->next = kept;
            kept = job;
        }
    }
    disk->again = kept;
}

/* ---- the worker ---- */

/* What libnbd waits for, and the bell. */
static void poll_both(struct nbd_disk *disk)
{
    struct pollfd fds[2] = {{.fd = disk->backend.bell, .events = POLLIN}, {.fd = -1}};
    if (disk->nbd) {
        unsigned direction = nbd_aio_get_direction(disk->nbd);
        fds[1].fd = nbd_aio_get_fd(disk->nbd);
        fds[1].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                                (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    }
    if (poll(fds, 2, disk->nbd && in_flight(disk) == 0 ? -1 : (int)PAUSE_LEAST) <= 0)
        return;
    if (fds[0].revents)
        sim_backend_heard(&disk->backend);
    if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
        (void)nbd_aio_notify_read(disk->nbd);
    else if (fds[1].revents & POLLOUT)
        (void)nbd_aio_notify_write(disk->nbd);
}

static void work(struct sim_backend *backend)
{
    struct nbd_disk *disk = (struct nbd_disk *)backend;
    while (!sim_backend_stopping(backend)) {
        if (!disk->nbd)
            reconnect(disk);
        if (disk->nbd)
            start_jobs(disk);
        else
            give_up_old(disk);
        poll_both(disk);
        if (disk->nbd) {
            end_answered(disk);
            end_connection(disk);
        }
    }
}

/* ---- beginning and end ---- */

static void destroy(struct nbd_disk *disk)
{
    if (disk->nbd && !is_ended(disk->nbd))
        (void)nbd_aio_disconnect(disk->nbd, 0);
    hang_up(disk);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        free(disk->flight[i].job);
    while (disk->again) {
        struct sim_job *job = disk->again;
        disk->again = job->next;
        free(job);
    }
    free(disk->uri);
    free(disk);
}

static void end(struct sim_backend *backend)
{
    destroy((struct nbd_disk *)backend);
}

static struct nbd_disk *make(const char *uri, const struct sim_nbd_options *options)
{
    struct nbd_disk *disk = calloc(1, sizeof(*disk));
    if (!disk)
        return NULL;
    if (options)
        disk->options = *options;
    if (disk->options.patience_ms == 0)
        disk->options.patience_ms = 10000;
    if (disk->options.answer_ms == 0)
        disk->options.answer_ms = 5000;
    disk->pause = PAUSE_LEAST;
    disk->backend.device.name = "nbd";
    disk->backend.work = work;
    disk->backend.close = end;
    disk->uri = strdup(uri);
    if (disk->uri)
        return disk;
    free(disk);
    return NULL;
}

struct neomm_block_device *sim_nbd_disk_open(struct sim *sim, const char *uri,
                                             const struct sim_nbd_options *options, char *error,
                                             size_t size)
{
    struct nbd_disk *disk = make(uri, options);
    if (!disk) {
        (void)snprintf(error, size, "%s: out of memory", uri);
        return NULL;
    }
    if (try_to_connect(disk, error, size)) {
        if (sim_backend_start(sim, &disk->backend))
            return &disk->backend.device;
        (void)snprintf(error, size, "%s: no thread for it", uri);
    }
    destroy(disk);
    return NULL;
}

void sim_nbd_stats(struct neomm_block_device *device, struct sim_nbd_stats *stats)
{
    struct nbd_disk *disk = device->context;
    stats->transfers = __atomic_load_n(&disk->stats.transfers, __ATOMIC_RELAXED);
    stats->connections = __atomic_load_n(&disk->stats.connections, __ATOMIC_RELAXED);
    stats->sent_again = __atomic_load_n(&disk->stats.sent_again, __ATOMIC_RELAXED);
    stats->failures = __atomic_load_n(&disk->stats.failures, __ATOMIC_RELAXED);
    stats->most = __atomic_load_n(&disk->stats.most, __ATOMIC_RELAXED);
}
