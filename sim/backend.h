/* Disks whose pages are outside of the machine's process, in a file or at a server: a worker thread
 * for each, and what it shares with the CPUs.
 * SPDX-License-Identifier: MIT
 *
 *   CPU: submit --> [submitted] --> worker: take ... done --> [completed] --> CPU: complete_one
 *
 * A worker is no CPU and touches no memory of the machine: what is written is copied when it is
 * submitted, what was read when a CPU waits. Requests for pages in a row that are submitted
 * together are one job.
 */
#ifndef NEOMM_SIM_BACKEND_H
#define NEOMM_SIM_BACKEND_H

#include "sim.h"

#include <pthread.h>

#define SIM_JOB_PAGES NEOMM_POLICY_BATCH

/* One transfer of pages in a row. */
struct sim_job {
    struct sim_job *next;
    enum neomm_block_operation operation;
    uint32_t page, pages; /* where; none of a flush */
    uint32_t count;       /* requests */
    uint64_t since;       /* when it was submitted, sim_host_now */
    neomm_status status;
    struct neomm_block_request *request[SIM_JOB_PAGES];
    uint8_t data[]; /* of the pages to be read or written */
};

struct sim_job_queue {
    struct sim_job *first, **last;
};

/* To be the first member of a disk. */
struct sim_backend {
    struct neomm_block_device device; /* first: the device is the backend */
    struct sim *sim;
    struct sim_backend *next;
    pthread_t thread;
    pthread_mutex_t lock; /* the queues and `stopping` */
    struct sim_job_queue submitted, completed;
    uint64_t pending; /* jobs in either queue, or the worker's */
    bool stopping;
    int bell; /* an eventfd: something was submitted, or it is time to stop */
    void (*work)(struct sim_backend *backend);  /* the thread; returns once `stopping` */
    void (*close)(struct sim_backend *backend); /* after it: frees the disk */
};

/* Host time in nanoseconds, from the clock that only goes on. */
uint64_t sim_host_now(void);

/* Starts the worker; device.name and .pages, work and close are set. From then on the machine ends
 * it. False: the host refused; nothing was started. */
bool sim_backend_start(struct sim *sim, struct sim_backend *backend);

/* ---- for workers ---- */

/* The oldest job that was submitted, NULL if there is none. */
struct sim_job *sim_backend_take(struct sim_backend *backend);
/* Waits for the bell, and silences it. */
void sim_backend_wait(struct sim_backend *backend);
/* What was rung up to now has been heard; for those who poll `bell` themselves. */
void sim_backend_heard(struct sim_backend *backend);
bool sim_backend_stopping(struct sim_backend *backend);
/* The job is over. */
void sim_backend_done(struct sim_backend *backend, struct sim_job *job, neomm_status status);

/* ---- for the machine ---- */

/* Hands one job that is over to those who submitted it, as an interrupt; false: there is none. */
bool sim_backends_complete_one(struct sim *sim);
/* Jobs that are not handed back yet. */
uint64_t sim_backends_pending(const struct sim *sim);
void sim_backends_destroy(struct sim *sim);

/* ---- disks ---- */

/* A disk in a file or on a block device of the host, which mkswap has prepared; a last part of a
 * page is left out. NULL, with the reason in `error`. */
struct neomm_block_device *sim_file_disk_open(struct sim *sim, const char *path, char *error,
                                              size_t size);

#endif
