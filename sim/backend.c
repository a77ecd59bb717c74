/* What the CPUs and the worker of a disk share.
 * SPDX-License-Identifier: MIT */
#include "backend.h"

#include "machine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

uint64_t sim_host_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- queues ---- */

static void empty(struct sim_job_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

static void append(struct sim_job_queue *queue, struct sim_job *job)
{
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
}

static struct sim_job *take(struct sim_backend *backend, struct sim_job_queue *queue)
{
    (void)pthread_mutex_lock(&backend->lock);
    struct sim_job *job = queue->first;
    if (job) {
        queue->first = job->next;
        if (!queue->first)
            queue->last = &queue->first;
    }
    (void)pthread_mutex_unlock(&backend->lock);
    return job;
}

static void ring(struct sim_backend *backend)
{
    const uint64_t one = 1;
    while (write(backend->bell, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* ---- for workers ---- */

struct sim_job *sim_backend_take(struct sim_backend *backend)
{
    return take(backend, &backend->submitted);
}

void sim_backend_heard(struct sim_backend *backend)
{
    uint64_t count;
    while (read(backend->bell, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

void sim_backend_wait(struct sim_backend *backend)
{
    struct pollfd bell = {.fd = backend->bell, .events = POLLIN};
    while (poll(&bell, 1, -1) < 0 && errno == EINTR)
        ;
    sim_backend_heard(backend);
}

bool sim_backend_stopping(struct sim_backend *backend)
{
    (void)pthread_mutex_lock(&backend->lock);
    bool stopping = backend->stopping;
    (void)pthread_mutex_unlock(&backend->lock);
    return stopping;
}

void sim_backend_done(struct sim_backend *backend, struct sim_job *job, neomm_status status)
{
    struct sim *sim = backend->sim;
    job->status = status;
    (void)pthread_mutex_lock(&backend->lock);
    append(&backend->completed, job);
    (void)pthread_mutex_unlock(&backend->lock);
    sim_lock(sim);
    sim->wakes++;
    (void)pthread_cond_broadcast(&sim->woken);
    sim_unlock(sim);
}

/* ---- submitting ---- */

static bool moves_pages(enum neomm_block_operation operation)
{
    return operation == NEOMM_BLOCK_READ || operation == NEOMM_BLOCK_WRITE;
}

/* How many of the requests are one job. */
static uint32_t run_length(struct neomm_block_request **requests, uint32_t count)
{
    return neomm_block_run(requests, count < SIM_JOB_PAGES ? count : SIM_JOB_PAGES);
}

static bool is_outside(const struct sim_backend *backend, const struct sim_job *job)
{
    return job->operation != NEOMM_BLOCK_FLUSH &&
           (job->page >= backend->device.pages || job->pages > backend->device.pages - job->page);
}

/* What is written is what the frames hold now. */
static bool copy_in(struct sim_backend *backend, struct sim_job *job)
{
    bool good = true;
    for (uint32_t i = 0; i < job->count && job->operation == NEOMM_BLOCK_WRITE; i++)
        good &= sim_physical_read(backend->sim, neomm_frame_paddr(job->request[i]->frame),
                                  job->data + ((size_t)i << NEOMM_PAGE_SHIFT), NEOMM_PAGE_SIZE);
    return good;
}

static struct sim_job *make_job(struct sim_backend *backend, struct neomm_block_request **requests,
                                uint32_t count)
{
    enum neomm_block_operation operation = requests[0]->operation;
    size_t bytes = moves_pages(operation) ? (size_t)count << NEOMM_PAGE_SHIFT : 0;
    struct sim_job *job = malloc(sizeof(*job) + bytes);
    if (!job)
        sim_crash(backend->sim, true, "sim: the host refused memory for a disk request");
    job->operation = operation;
    job->page = requests[0]->page;
    job->pages = operation == NEOMM_BLOCK_DISCARD ? requests[0]->pages : count;
    job->count = count;
    job->since = sim_host_now();
    job->status = NEOMM_E_IO;
    for (uint32_t i = 0; i < count; i++)
        job->request[i] = requests[i];
    return job;
}

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct sim_backend *backend = device->context;
    if (sim_place.cpu->port.lock_depth != 0)
        sim_violation(backend->sim, "disk: submit with %u locks held",
                      sim_place.cpu->port.lock_depth);
    for (uint32_t i = 0; i < count;) {
        struct sim_job *job = make_job(backend, requests + i, run_length(requests + i, count - i));
        bool bad = is_outside(backend, job);
        if (bad)
            sim_violation(backend->sim, "disk: pages %u to %u of %u", job->page,
                          job->page + job->pages - 1, device->pages);
        bad |= !copy_in(backend, job);
        i += job->count;
        (void)pthread_mutex_lock(&backend->lock);
        backend->pending++;
        append(bad ? &backend->completed : &backend->submitted, job);
        (void)pthread_mutex_unlock(&backend->lock);
    }
    ring(backend);
}

/* ---- completing ---- */

/* The frames get what was read, and those who wait are told, as by an interrupt. */
static void complete(struct sim_backend *backend, struct sim_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        struct neomm_block_request *request = job->request[i];
        request->status = job->status;
        if (job->operation == NEOMM_BLOCK_READ && job->status == NEOMM_OK &&
            !sim_physical_write(backend->sim, neomm_frame_paddr(request->frame),
                                job->data + ((size_t)i << NEOMM_PAGE_SHIFT), NEOMM_PAGE_SIZE))
            request->status = NEOMM_E_IO;
        neomm_irq_t irq = neomm_port_irq_save();
        sim_place.interrupts++;
        request->done(request);
        sim_place.interrupts--;
        neomm_port_irq_restore(irq);
    }
    (void)pthread_mutex_lock(&backend->lock);
    backend->pending--;
    (void)pthread_mutex_unlock(&backend->lock);
    free(job);
}

bool sim_backends_complete_one(struct sim *sim)
{
    for (struct sim_backend *backend = sim->backends; backend; backend = backend->next) {
        struct sim_job *job = take(backend, &backend->completed);
        if (job) {
            complete(backend, job);
            return true;
        }
    }
    return false;
}

uint64_t sim_backends_pending(const struct sim *sim)
{
    uint64_t total = 0;
    for (struct sim_backend *backend = sim->backends; backend; backend = backend->next) {
        (void)pthread_mutex_lock(&backend->lock);
        total += backend->pending;
        (void)pthread_mutex_unlock(&backend->lock);
    }
    return total;
}

/* ---- beginning and end ---- */

static void *worker(void *context)
{
    struct sim_backend *backend = context;
    backend->work(backend);
    return NULL;
}

bool sim_backend_start(struct sim *sim, struct sim_backend *backend)
{
    backend->sim = sim;
    backend->device.context = backend;
    backend->device.submit = submit;
    backend->pending = 0;
    backend->stopping = false;
    empty(&backend->submitted);
    empty(&backend->completed);
    backend->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (backend->bell < 0)
        return false;
    (void)pthread_mutex_init(&backend->lock, NULL);
    if (pthread_create(&backend->thread, NULL, worker, backend) != 0) {
        (void)pthread_mutex_destroy(&backend->lock);
        (void)close(backend->bell);
        return false;
    }
    backend->next = sim->backends;
    sim->backends = backend;
    return true;
}

static void drop_all(struct sim_backend *backend, struct sim_job_queue *queue)
{
    for (struct sim_job *job; (job = take(backend, queue));)
        free(job);
}

void sim_backends_destroy(struct sim *sim)
{
    while (sim->backends) {
        struct sim_backend *backend = sim->backends;
        sim->backends = backend->next;
        (void)pthread_mutex_lock(&backend->lock);
        backend->stopping = true;
        (void)pthread_mutex_unlock(&backend->lock);
        ring(backend);
        (void)pthread_join(backend->thread, NULL);
        drop_all(backend, &backend->submitted);
        drop_all(backend, &backend->completed);
        (void)close(backend->bell);
        (void)pthread_mutex_destroy(&backend->lock);
        backend->close(backend);
    }
}
