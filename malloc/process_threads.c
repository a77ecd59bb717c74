/* Threads as the engine's CPUs: slots, the gate that a fork closes, the end of a thread.
 * SPDX-License-Identifier: MIT
 *
 * A thread's first call takes a record and the slot that fewest threads have. The engine takes for
 * granted that a CPU does one thing at a time. So a thread that has a slot to itself just enters;
 * threads that share one enter under the slot's lock. Who comes second closes the gate of the
 * first, makes the processors pass a barrier, and waits until the first, if it was inside, has left
 * or has come back by the lock; who is left alone has its gate opened again.
 *
 * The destructor of a key gives record and slot back. What a thread allocates and frees after that
 * (later destructors, the C library's own clean-up) goes through one record for all such threads,
 * with a slot of its own, under the lock of the registry.
 *
 * A fork must find nobody else inside the engine, or the child would inherit what they had in
 * hand. So it closes the gates of all threads, makes their processors pass a barrier, and waits
 * for those inside to leave. Whoever enters meanwhile waits for the registry's lock. */
#include "process.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <neomm/pmm.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MOST 65536u

enum state { NOT_STARTED, STARTED, FAILED };

static struct process_thread unattached, late = {.locked = 1};

__thread struct neomm_cpu *process_cpu = &unattached.cpu;

struct slot {
    struct process_lock lock; /* of those that share it: held from entering to leaving */
    uint32_t users;
} __attribute__((aligned(64)));

static struct {
    struct process_lock lock;
    uint32_t state; /* atomic */
    struct process_thread *thread;
    struct process_thread *free;
    uint32_t used;    /* records that were ever a thread's */
    uint32_t threads; /* that have one now */
    uint32_t threads_most;
    struct slot slot[NEOMM_CPU_MAX];
    pthread_key_t key;
    bool has_key;
    bool has_membarrier;
    uint32_t *barrier_page;
    struct process_lock barrier_lock; /* of that page */
    void *forker; /* atomic; of the thread that forks, the address of its process_cpu */
} registry;

/* ---- the barrier ---- */

static int membarrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0);
}

/* Every processor that runs a thread of this process passes a full barrier. Without the system
 * call, taking rights away from a page does it, since all processors have to forget them. */
static void barrier_everywhere(void)
{
    int saved = errno;
    if (!__atomic_load_n(&registry.has_membarrier, __ATOMIC_RELAXED) ||
        membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {
        __atomic_store_n(&registry.has_membarrier, false, __ATOMIC_RELAXED);
        process_lock(&registry.barrier_lock);
        __atomic_fetch_add(registry.barrier_page, 1, __ATOMIC_SEQ_CST);
        (void)mprotect(registry.barrier_page, NEOMM_PAGE_SIZE, PROT_READ);
        (void)mprotect(registry.barrier_page, NEOMM_PAGE_SIZE, PROT_READ | PROT_WRITE);
        process_unlock(&registry.barrier_lock);
    }
    errno = saved;
}

/* That the others are interrupted is all that frames and heap want of it; what they have them call
 * does nothing. */
void neomm_port_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument)
{
    (void)cpus;
    (void)call;
    (void)argument;
    barrier_everywhere();
}

/* ---- records; under the lock ---- */

static uint32_t emptiest_slot(void)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < process.slots && registry.slot[best].users > 0; i++)
        if (registry.slot[i].users < registry.slot[best].users)
            best = i;
    return best;
}

/* Any of the threads that have a slot; NULL: there is none. */
static struct process_thread *user_of(uint32_t slot)
{
    for (uint32_t i = 0; i < registry.used; i++)
        if (registry.thread[i].taken && registry.thread[i].cpu.index == slot)
            return &registry.thread[i];
    return NULL;
}

/* From now on the only user of a slot enters under its lock. It is seen to have the lock where it
 * is back inside before it was seen to have left. */
static void begin_sharing(struct process_thread *user)
{
    __atomic_store_n(&user->shared, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&user->open, 0, __ATOMIC_RELEASE);
    barrier_everywhere();
    while (__atomic_load_n(&user->inside, __ATOMIC_ACQUIRE) &&
           !__atomic_load_n(&user->locked, __ATOMIC_ACQUIRE))
        (void)sched_yield();
}

/* The only user of a slot that was shared may come in with the lock once more, which is as good. */
static void stop_sharing(struct process_thread *user)
{
    __atomic_store_n(&user->shared, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&user->open, 1, __ATOMIC_RELEASE);
}

static struct process_thread *take_record(void)
{
    struct process_thread *record = registry.free;
    if (record)
        registry.free = record->next_free;
    else if (registry.used < THREADS_MOST)
        record = &registry.thread[registry.used++];
    if (!record)
        return NULL;
    memset(record, 0, sizeof(*record));
    uint32_t slot = emptiest_slot();
    if (registry.slot[slot].users == 1)
        begin_sharing(user_of(slot));
    record->shared = registry.slot[slot].users++ > 0;
    record->cpu.root = process.root;
    record->cpu.index = slot;
    record->taken = 1;
    registry.threads++;
    if (registry.threads > registry.threads_most)
        registry.threads_most = registry.threads;
    return record;
}

static void drop_record(struct process_thread *record)
{
    struct slot *slot = &registry.slot[record->cpu.index];
    registry.threads--;
    __atomic_store_n(&record->open, 0, __ATOMIC_RELAXED);
    record->taken = 0;
    record->next_free = registry.free;
    registry.free = record;
    if (--slot->users == 1)
        stop_sharing(user_of(record->cpu.index));
}

/* The last thread of a slot takes with it what the slot keeps. */
static void drain_slot(uint32_t slot)
{
    if (registry.slot[slot].users > 0)
        return;
    (void)neomm_heap_cpu_offline(process.root, slot);
    (void)neomm_pmm_cpu_offline(process.root, slot);
    (void)neomm_pmm_cpu_online(process.root, slot);
}

/* ---- a thread's end ---- */

static void thread_ends(void *value)
{
    struct process_thread *record = value;
    process_lock(&registry.lock);
    process_cpu = &late.cpu;
    drop_record(record);
    drain_slot(record->cpu.index);
    process_unlock(&registry.lock);
}

/* ---- the gate ---- */

static void set_gates(bool open)
{
    struct process_thread *self = process_self();
    for (uint32_t i = 0; i < registry.used; i++) {
        struct process_thread *other = &registry.thread[i];
        if (!other->taken || other == self)
            continue;
        __atomic_store_n(&other->closed, !open, __ATOMIC_RELEASE);
        __atomic_store_n(&other->open, open && !other->shared, __ATOMIC_RELEASE);
    }
}

/* A signal handler that forks finds its own thread inside perhaps; that goes on in both. */
static void before_fork(void)
{
    struct process_thread *self = process_self();
    process_lock(&registry.lock);
    __atomic_store_n(&registry.forker, &process_cpu, __ATOMIC_RELAXED);
    set_gates(false);
    barrier_everywhere();
    for (uint32_t i = 0; i < registry.used; i++)
        while (&registry.thread[i] != self &&
               __atomic_load_n(&registry.thread[i].inside, __ATOMIC_ACQUIRE))
            (void)sched_yield();
}

static void after_fork_in_parent(void)
{
    set_gates(true);
    __atomic_store_n(&registry.forker, NULL, __ATOMIC_RELAXED);
    process_unlock(&registry.lock);
}

/* The other threads are not there; what their slots keep is used by who gets the slots. */
static void after_fork_in_child(void)
{
    struct process_thread *self = process_self();
    for (uint32_t i = 0; i < registry.used; i++)
        if (registry.thread[i].taken && &registry.thread[i] != self)
            drop_record(&registry.thread[i]);
    registry.threads_most = registry.threads;
    registry.has_membarrier =
        registry.has_membarrier && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
    __atomic_store_n(&registry.forker, NULL, __ATOMIC_RELAXED);
    registry.lock.word = 0;
}

/* ---- beginning ---- */

static bool start_registry(void)
{
    int saved = errno;
    registry.thread = process_map(THREADS_MOST * sizeof(*registry.thread));
    registry.barrier_page = process_map(NEOMM_PAGE_SIZE);
    registry.has_membarrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
    registry.has_key = pthread_key_create(&registry.key, thread_ends) == 0;
    errno = saved;
    return registry.thread && registry.barrier_page;
}

/* The first call of the process. What may allocate comes behind the lock. */
static void start(void)
{
    bool first = false;
    process_lock(&registry.lock);
    if (registry.state == NOT_STARTED) {
        first = true;
        bool started = process_start() && start_registry();
        late.cpu.root = process.root;
        late.cpu.index = process.slots;
        __atomic_store_n(&registry.state, started ? STARTED : FAILED, __ATOMIC_RELEASE);
    }
    process_unlock(&registry.lock);
    if (first && registry.state == STARTED)
        (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* A thread without a record, for want of one, is one of the late ones. */
static void attach(void)
{
    process_lock(&registry.lock);
    struct process_thread *record = take_record();
    process_cpu = record ? &record->cpu : &late.cpu;
    if (record)
        __atomic_store_n(&record->open, !record->shared, __ATOMIC_RELEASE);
    process_unlock(&registry.lock);
    if (record && registry.has_key)
        (void)pthread_setspecific(registry.key, record);
}

/* ---- entering in other ways ---- */

static bool is_forking(void)
{
    return __atomic_load_n(&registry.forker, __ATOMIC_RELAXED) == &process_cpu;
}

/* Its `inside` was stored before the look at `closed`, as with process_enter. */
static bool enter_shared(struct process_thread *self)
{
    if (!__atomic_load_n(&self->shared, __ATOMIC_ACQUIRE) ||
        __atomic_load_n(&self->closed, __ATOMIC_ACQUIRE))
        return false;
    process_lock(&registry.slot[self->cpu.index].lock);
    __atomic_store_n(&self->locked, 1, __ATOMIC_RELEASE);
    return true;
}

struct process_thread *process_enter_slowly(void)
{
    for (;;) {
        struct process_thread *self = process_self();
        if (process_enter(self) || enter_shared(self))
            return self;
        process_leave(self);
        if (self == &late) {
            if (!is_forking())
                process_lock(&registry.lock);
            return self;
        }
        if (self != &unattached) { /* somebody forks, or comes to share the slot */
            process_lock(&registry.lock);
            process_unlock(&registry.lock);
            continue;
        }
        if (__atomic_load_n(&registry.state, __ATOMIC_ACQUIRE) == NOT_STARTED)
            start();
        if (__atomic_load_n(&registry.state, __ATOMIC_ACQUIRE) == FAILED)
            return NULL;
        if (process_self() == &unattached && is_forking())
            process_cpu = &late.cpu; /* the lock is its own already */
        else if (process_self() == &unattached)
            attach();
    }
}

void process_leave_slowly(struct process_thread *self)
{
    if (self != &late) {
        __atomic_store_n(&self->locked, 0, __ATOMIC_RELAXED);
        process_unlock(&registry.slot[self->cpu.index].lock);
        process_leave(self);
    } else if (!is_forking()) {
        process_unlock(&registry.lock);
    }
}

uint32_t process_threads(uint32_t *most)
{
    process_lock(&registry.lock);
    uint32_t threads = registry.threads;
    *most = registry.threads_most;
    process_unlock(&registry.lock);
    return threads;
}
