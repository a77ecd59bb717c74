/* Threads and forks: slots, the end of a thread, children of a busy process.
 * SPDX-License-Identifier: MIT */
#include "sound.h"

#include <malloc.h>
#include <neomm/stats.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MOST 200u
#define SHELF        1024u

static uint32_t threads_now(void)
{
    uint32_t most;
    return process_threads(&most);
}

/* Bytes for what a HARDENED heap holds back, at most 128 KiB of each of 32 classes, and what it
 * knows of each object. */
static size_t watchful(void)
{
    return process.options.profile == NEOMM_HEAP_HARDENED ? (size_t)4 << 20 : 0;
}

/* Blocks that any thread takes away and frees. */
static void *shelf[SHELF];

static void empty_shelf(void)
{
    for (unsigned i = 0; i < SHELF; i++) {
        free(shelf[i]);
        shelf[i] = NULL;
    }
}

struct job {
    uint32_t seed, steps;
    bool intact;
};

/* Each block says in its first bytes how large it is, and its last byte repeats that. */
static void *churn(void *argument)
{
    struct job *job = argument;
    for (uint32_t i = 0; i < job->steps; i++) {
        uint32_t place = next_number(&job->seed) % SHELF;
        uint32_t size = next_number(&job->seed) % 3000 + 8;
        if (next_number(&job->seed) % 500 == 0)
            size = next_number(&job->seed) % 400000 + 8;
        unsigned char *block = malloc(size);
        if (!block) {
            job->intact = false;
            break;
        }
        memcpy(block, &size, sizeof(size));
        block[size - 1] = (unsigned char)size;
        unsigned char *old = __atomic_exchange_n(&shelf[place], block, __ATOMIC_ACQ_REL);
        if (!old)
            continue;
        memcpy(&size, old, sizeof(size));
        job->intact &= size < 500000 && old[size - 1] == (unsigned char)(size);
        free(old);
    }
    return NULL;
}

static const uint64_t crowds[] = {2, 9, THREADS_MOST};

static void crowd(struct ktap *t)
{
    static pthread_t thread[THREADS_MOST];
    static struct job job[THREADS_MOST];
    uint32_t count = (uint32_t)t->parameter, started = 0;
    for (; started < count; started++) {
        job[started] = (struct job){started + 1, 400000 / count, true};
        if (pthread_create(&thread[started], NULL, churn, &job[started]) != 0)
            break;
    }
    EXPECT_EQ(t, started, count);
    for (uint32_t i = 0; i < started; i++) {
        EXPECT_EQ(t, pthread_join(thread[i], NULL), 0);
        EXPECT(t, job[i].intact);
    }
    empty_shelf();
    EXPECT_EQ(t, threads_now(), 1);
    EXPECT(t, process_self()->open && !process_self()->shared);
    expect_sound(t, live_objects());
}

/* ---- slots that several threads have ---- */

/* The same few blocks over and over: nobody else has one that is this thread's. */
static void *hammer(void *argument)
{
    struct job *job = argument;
    uint32_t *block[8] = {NULL};
    for (uint32_t i = 0; i < job->steps; i++) {
        uint32_t **place = &block[i % 8];
        job->intact &= !*place || (**place == job->seed && (*place)[1] == i - 8);
        free(*place);
        *place = malloc(64);
        (*place)[0] = job->seed;
        (*place)[1] = i;
    }
    for (unsigned i = 0; i < 8; i++)
        free(block[i]);
    return NULL;
}

static void hammered_slots(struct ktap *t)
{
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    struct job job[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        job[i] = (struct job){i + 1, 500000, true};
        ASSERT(t, pthread_create(&thread[i], NULL, hammer, &job[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        (void)pthread_join(thread[i], NULL);
        EXPECT(t, job[i].intact);
    }
    expect_sound(t, live_objects());
}

static void *come_and_go(void *argument)
{
    struct job *job = argument;
    job->steps = 30;
    return churn(job);
}

/* Threads come to a slot whose thread is in the middle of allocating, and leave it alone again. */
static void come_beside_a_busy_thread(struct ktap *t)
{
    enum { ROUNDS = 60 };
    static pthread_t thread[PROCESS_SLOTS_MOST + 1];
    static struct job job[PROCESS_SLOTS_MOST + 1];
    uint32_t slots = process.slots < 16 ? process.slots : 16;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i <= slots; i++) {
            job[i] = (struct job){round * 100 + i + 1, 0, true};
            ASSERT(t, pthread_create(&thread[i], NULL, come_and_go, &job[i]) == 0);
        }
        struct job own = {round + 1, 2000, true};
        (void)churn(&own);
        EXPECT(t, own.intact);
        for (uint32_t i = 0; i <= slots; i++) {
            (void)pthread_join(thread[i], NULL);
            EXPECT(t, job[i].intact);
        }
        EXPECT(t, process_self()->open && !process_self()->shared);
    }
    empty_shelf();
    expect_sound(t, live_objects());
}

/* ---- the end of a thread ---- */

static void *allocate_and_end(void *argument)
{
    void **block = argument;
    for (unsigned i = 0; i < 100; i++)
        free(malloc(i * 40 + 1));
    *block = malloc(77);
    return NULL;
}

/* Threads that come and go leave nothing behind: no slot, no memory that was kept for them. */
static void ended_threads_give_back(struct ktap *t)
{
    void *block;
    pthread_t thread;
    uint64_t before = 0;
    size_t held = 0;
    for (unsigned i = 0; i < 500; i++) {
        ASSERT(t, pthread_create(&thread, NULL, allocate_and_end, &block) == 0);
        (void)pthread_join(thread, NULL);
        EXPECT_EQ(t, malloc_usable_size(block) >= 77, 1);
        free(block);
        EXPECT_EQ(t, threads_now(), 1);
        if (i == 10) {
            held = mallinfo2().arena;
            before = live_objects();
        }
    }
    EXPECT(t, mallinfo2().arena <= held + (64 << 10) + watchful());
    expect_sound(t, before);
}

static pthread_barrier_t all_there;

/* Leaves something of every size class with the slot. */
static void *fill_slot(void *unused)
{
    void *block[64];
    (void)pthread_barrier_wait(&all_there);
    for (size_t size = 16; size <= 8192; size += size / 8) {
        for (unsigned i = 0; i < 64; i++)
            block[i] = malloc(size);
        for (unsigned i = 0; i < 64; i++)
            free(block[i]);
    }
    (void)pthread_barrier_wait(&all_there);
    return unused;
}

/* Free objects that are kept for slots. */
static uint64_t kept(void)
{
    static struct neomm_snapshot snapshot;
    uint64_t objects = 0;
    struct process_thread *self = process_enter_any();
    neomm_snapshot_take(process.root, &snapshot);
    process_leave_any(self);
    for (unsigned i = 0; i < snapshot.caches && i < NEOMM_SNAPSHOT_CACHES; i++)
        objects += snapshot.cache[i].kept;
    return objects;
}

/* A thread on each slot but this one's at the same time: what was kept for them goes when they end.
 * (What they free at their end is kept for another slot, and used up by the next.) */
static void slots_are_drained(struct ktap *t)
{
    static pthread_t thread[PROCESS_SLOTS_MOST];
    uint64_t live = live_objects(), before = 0;
    for (unsigned round = 0; round < 2 && process.slots > 1; round++) {
        uint32_t count = round == 0 ? 1 : process.slots - 1;
        ASSERT(t, pthread_barrier_init(&all_there, NULL, count) == 0);
        for (uint32_t i = 0; i < count; i++)
            ASSERT(t, pthread_create(&thread[i], NULL, fill_slot, NULL) == 0);
        for (uint32_t i = 0; i < count; i++)
            (void)pthread_join(thread[i], NULL);
        (void)pthread_barrier_destroy(&all_there);
        EXPECT(t, round == 0 || kept() <= before + 8 * process.slots);
        before = kept();
        live = live_objects();
    }
    expect_sound(t, live);
}

#define KEYS 40u
static pthread_key_t key[KEYS];
static uint32_t destroyed;

/* Allocates anew until the last round: this runs before and behind the allocator's destructor. */
static void destructor(void *value)
{
    uint32_t *rounds = value, left = *rounds;
    free(value);
    (void)__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
    if (left == 0)
        return;
    uint32_t *again = malloc(sizeof(*again) + left * 1000);
    *again = left - 1;
    for (unsigned i = 0; i < KEYS; i++)
        if (!pthread_getspecific(key[i])) {
            (void)pthread_setspecific(key[i], again);
            return;
        }
    free(again);
}

static void *fill_keys(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < KEYS; i++) {
        uint32_t *rounds = malloc(sizeof(*rounds));
        *rounds = 2;
        (void)pthread_setspecific(key[i], rounds);
    }
    return NULL;
}

static void destructors_allocate(struct ktap *t)
{
    enum { THREADS = 20 };
    pthread_t thread[THREADS];
    for (unsigned i = 0; i < KEYS; i++)
        ASSERT(t, pthread_key_create(&key[i], destructor) == 0);
    uint64_t before = 0;
    for (unsigned round = 0; round < 3; round++) {
        destroyed = 0;
        for (unsigned i = 0; i < THREADS; i++)
            ASSERT(t, pthread_create(&thread[i], NULL, fill_keys, NULL) == 0);
        for (unsigned i = 0; i < THREADS; i++)
            (void)pthread_join(thread[i], NULL);
        EXPECT_EQ(t, destroyed, THREADS * KEYS * 3);
        EXPECT_EQ(t, threads_now(), 1);
        before = round == 0 ? live_objects() : before;
    }
    for (unsigned i = 0; i < KEYS; i++)
        (void)pthread_key_delete(key[i]);
    expect_sound(t, before);
}

/* ---- fork ---- */

static bool stop;

static void *churn_until_stopped(void *argument)
{
    struct job *job = argument;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        job->steps = 100;
        (void)churn(job);
    }
    return NULL;
}

/* Its destructor runs behind the allocator's, whose key is older. */
static pthread_key_t churn_key;

static void churn_at_the_end(void *argument)
{
    struct job *job = argument;
    job->steps = 1000;
    (void)churn(job);
}

static void *come_to_the_end(void *argument)
{
    free(malloc(1));
    (void)pthread_setspecific(churn_key, argument);
    return NULL;
}

static void *end_until_stopped(void *argument)
{
    struct job *job = argument;
    pthread_t thread;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        if (pthread_create(&thread, NULL, come_to_the_end, job) == 0)
            (void)pthread_join(thread, NULL);
    return NULL;
}

/* The child of a busy process: everything must be whole, whatever the others were doing. */
static int child(uint32_t seed)
{
    struct ktap quiet = {.id = "child"};
    struct job job = {seed, 300, true};
    pthread_t thread;
    (void)churn(&job);
    if (threads_now() != 1)
        return 2;
    expect_sound(&quiet, live_objects());
    if (pthread_create(&thread, NULL, churn, &job) != 0 || pthread_join(thread, NULL) != 0)
        return 3;
    (void)malloc_trim(0);
    expect_sound(&quiet, live_objects());
    return quiet.failures == 0 && job.intact && process_retained() < (1u << 20) + watchful() ? 0
                                                                                             : 4;
}

static void *fork_often(void *result)
{
    unsigned *failures = result;
    free(malloc(1));
    for (uint32_t i = 0; i < 25; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(i));
        int status = -1;
        *failures += pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
    }
    return NULL;
}

/* Busy with threads that run, or with threads that end and allocate still. */
static const uint64_t kinds_of_busy[] = {0, 1};

static void forks_of_a_busy_process(struct ktap *t)
{
    void *(*busy)(void *) = t->parameter == 0 ? churn_until_stopped : end_until_stopped;
    enum { CHURNING = 6, FORKING = 2 };
    pthread_t thread[CHURNING + FORKING];
    struct job job[CHURNING];
    unsigned failures[FORKING] = {0};
    stop = false;
    ASSERT(t, pthread_key_create(&churn_key, churn_at_the_end) == 0);
    for (uint32_t i = 0; i < CHURNING; i++) {
        job[i] = (struct job){i + 1, 0, true};
        ASSERT(t, pthread_create(&thread[i], NULL, busy, &job[i]) == 0);
    }
    for (unsigned i = 0; i < FORKING; i++)
        ASSERT(t, pthread_create(&thread[CHURNING + i], NULL, fork_often, &failures[i]) == 0);
    for (unsigned i = 0; i < FORKING; i++) {
        (void)pthread_join(thread[CHURNING + i], NULL);
        EXPECT_EQ(t, failures[i], 0);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < CHURNING; i++) {
        (void)pthread_join(thread[i], NULL);
        EXPECT(t, job[i].intact);
    }
    (void)pthread_key_delete(churn_key);
    empty_shelf();
    expect_sound(t, live_objects());
}

/* Handlers that were registered before the allocator's own run while the gates are closed, with
 * the forking thread, which may never have allocated before, as the only one that gets in. */
static unsigned handled;

static void allocating_handler(void)
{
    char *block = malloc(3000), *large = malloc(300000);
    handled += block && large;
    free(block);
    free(realloc(large, 500000));
}

__attribute__((constructor(101))) static void register_handlers(void)
{
    (void)pthread_atfork(allocating_handler, allocating_handler, allocating_handler);
}

static void *fork_first(void *result)
{
    int *status = result;
    pid_t pid = fork();
    if (pid == 0) {
        unsigned good = handled == 2;
        allocating_handler();
        _exit(good && handled == 3 ? 0 : 1);
    }
    if (waitpid(pid, status, 0) != pid)
        *status = -1;
    allocating_handler();
    return NULL;
}

static void handlers_allocate(struct ktap *t)
{
    uint64_t before = live_objects();
    pthread_t thread;
    for (unsigned i = 0; i < 10; i++) {
        int status = -1;
        handled = 0;
        ASSERT(t, pthread_create(&thread, NULL, fork_first, &status) == 0);
        (void)pthread_join(thread, NULL);
        EXPECT_EQ(t, status, 0);
        EXPECT_EQ(t, handled, 3);
        before = i == 0 ? live_objects() : before;
    }
    EXPECT_EQ(t, threads_now(), 1);
    expect_sound(t, before);
}

/* A child has what the parent had, and both go on by themselves; children of children too. */
static void generations(struct ktap *t)
{
    char *block = malloc(10000);
    int status = -1;
    ASSERT(t, block);
    memset(block, 1, 10000);
    pid_t pid = fork();
    if (pid == 0) {
        memset(block, 2, 10000);
        pid = fork();
        if (pid == 0) {
            free(block);
            block = malloc(10000);
            _exit(block ? 0 : 1);
        }
        bool good = waitpid(pid, &status, 0) == pid && status == 0 && all_are(block, 10000, 2);
        free(block);
        _exit(good ? 0 : 1);
    }
    EXPECT(t, waitpid(pid, &status, 0) == pid);
    EXPECT_EQ(t, status, 0);
    EXPECT(t, all_are(block, 10000, 1));
    free(block);
}

static void vfork_shares(struct ktap *t)
{
    uint64_t before = live_objects();
    for (unsigned i = 0; i < 10; i++) {
        int status = -1;
        pid_t pid = vfork();
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        EXPECT(t, waitpid(pid, &status, 0) == pid);
        EXPECT_EQ(t, status, 0);
    }
    expect_sound(t, before);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(ended_threads_give_back),
    KTAP_CASE(slots_are_drained),
    KTAP_CASE_WITH(crowd, crowds),
    KTAP_CASE(come_beside_a_busy_thread),
    KTAP_CASE(hammered_slots),
    KTAP_CASE(destructors_allocate),
    KTAP_CASE_WITH(forks_of_a_busy_process, kinds_of_busy),
    KTAP_CASE(handlers_allocate),
    KTAP_CASE(generations),
    KTAP_CASE(vfork_shares),
};
KTAP_SUITE(malloc_threads, cases);
