/* Tests of the simulated machine's port, which checks its callers, and of its disks.
 * SPDX-License-Identifier: MIT */
#include "bare_machine.h"

#include <pthread.h>

/* ---- port ---- */

static void irq_order(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    ASSERT(t, sim);
    neomm_irq_t outer = neomm_port_irq_save(), inner = neomm_port_irq_save();
    EXPECT(t, sim_interrupts_masked());
    neomm_port_irq_restore(inner);
    EXPECT(t, sim_interrupts_masked());
    neomm_port_irq_restore(outer);
    EXPECT(t, !sim_interrupts_masked());
    EXPECT_EQ(t, sim_violations(sim), 0);
    neomm_port_irq_restore(outer);
    EXPECT(t, violated(sim, 0, "out of order"));
    outer = neomm_port_irq_save();
    inner = neomm_port_irq_save();
    neomm_port_irq_restore(outer);
    EXPECT(t, violated(sim, 1, "out of order"));
    EXPECT(t, sim_check_end(sim) > 0);
    neomm_port_irq_restore(inner);
    sim_destroy(sim);
}

static void pins_balance(struct ktap *t)
{
    static const uint32_t value = 1;
    struct sim *sim = bare_machine(t, MIB, 2, 1);
    ASSERT(t, sim);
    EXPECT_EQ(t, neomm_port_pin()->index, 0);
    EXPECT_EQ(t, neomm_port_pin()->index, 0);
    neomm_port_unpin();
    (void)neomm_port_wait(&value, 1, 0);
    EXPECT(t, violated(sim, 0, "wait while pinned"));
    sim_bind(sim, 1);
    EXPECT(t, violated(sim, 1, "while it is pinned"));
    sim_bind(sim, 0);
    EXPECT(t, sim_check_end(sim) > 0);
    neomm_port_unpin();
    uint64_t before = sim_violations(sim);
    neomm_port_unpin();
    EXPECT(t, violated(sim, before, "unpinned more often"));
    EXPECT_EQ(t, sim_check_end(sim), 0);
    sim_destroy(sim);
}

struct called {
    uint32_t cpu[8];
    uint32_t count;
    uint64_t task;
    bool masked;
};

static void note_call(void *argument)
{
    struct called *called = argument;
    called->cpu[neomm_port_cpu()->index]++;
    called->count++;
    called->task |= neomm_port_task();
    called->masked = called->masked && sim_interrupts_masked();
}

static void ipi_targets(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 8, 1);
    ASSERT(t, sim);
    sim_bind(sim, 3);
    EXPECT_EQ(t, neomm_port_task(), 4);
    for (uint32_t mask = 0; mask < 256; mask++) {
        struct neomm_cpumask cpus = {{mask}};
        struct called called = {{0}, 0, 0, true};
        neomm_port_ipi(&cpus, note_call, &called);
        for (uint32_t cpu = 0; cpu < 8; cpu++)
            EXPECT_EQ(t, called.cpu[cpu], cpu != 3 && (mask >> cpu & 1));
        EXPECT(t, called.masked && called.task == 0);
        EXPECT_EQ(t, neomm_port_cpu()->index, 3);
        EXPECT(t, !sim_interrupts_masked());
    }
    EXPECT_EQ(t, sim_violations(sim), 0);
    struct neomm_cpumask beyond = {{1u << 8}};
    struct called none = {{0}, 0, 0, true};
    neomm_port_ipi(&beyond, note_call, &none);
    EXPECT(t, violated(sim, 0, "CPU 8 of 8") && none.count == 0);
    EXPECT_EQ(t, sim_check_end(sim), 0);
    sim_destroy(sim);
}

static void time_and_entropy(struct ktap *t)
{
    uint64_t first[8], same = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct sim *sim = bare_machine(t, MIB, 1, seed == 3 ? 1 : seed);
        ASSERT(t, sim);
        uint64_t before = neomm_port_now();
        sim_clock_advance(sim, 1000000);
        EXPECT(t, neomm_port_now() - before >= 1000000);
        for (unsigned i = 0; i < 8; i++) {
            uint64_t x = neomm_port_entropy();
            same += seed > 1 && x == first[i];
            first[i] = seed == 1 ? x : first[i];
        }
        EXPECT_EQ(t, same, seed == 3 ? 8 : 0);
        sim_destroy(sim);
    }
}

static void waits(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    uint32_t word = 7;
    ASSERT(t, sim);
    EXPECT_OK(t, neomm_port_wait(&word, 8, UINT64_MAX));
    uint64_t before = neomm_port_now();
    EXPECT_EQ(t, neomm_port_wait(&word, 7, 5000), NEOMM_E_TIMEOUT);
    EXPECT(t, neomm_port_now() - before >= 5000);
    EXPECT_EQ(t, sim_violations(sim), 0);
    (void)neomm_port_wait(&word, 7, UINT64_MAX);
    EXPECT(t, violated(sim, 0, "deadlock"));
    neomm_irq_t irq = neomm_port_irq_save();
    (void)neomm_port_wait(&word, 8, UINT64_MAX);
    EXPECT(t, violated(sim, 1, "interrupts masked"));
    neomm_port_irq_restore(irq);
    neomm_port_cpu()->lock_depth = 1;
    (void)neomm_port_wait(&word, 8, UINT64_MAX);
    EXPECT(t, violated(sim, 2, "1 locks held"));
    neomm_port_oom(NULL, 9);
    EXPECT(t, violated(sim, 3, "oom"));
    EXPECT(t, sim_check_end(sim) > 0);
    neomm_port_cpu()->lock_depth = 0;
    neomm_port_oom(NULL, 11);
    EXPECT(t, sim_oom_count(sim) == 2 && sim_oom_space(sim) == 11);
    neomm_port_log(NEOMM_LOG_INFO, "two\nlines", 9);
    EXPECT(t, violated(sim, 4, "newline"));
    EXPECT_EQ(t, sim_check_end(sim), 0);
    sim_destroy(sim);
}

struct sleeper {
    struct sim *sim;
    uint32_t word, count;
};

static void *sleep_until_changed(void *argument)
{
    struct sleeper *sleeper = argument;
    sim_bind(sleeper->sim, 1);
    for (uint32_t i = 0; i < sleeper->count; i++) {
        while (__atomic_load_n(&sleeper->word, __ATOMIC_ACQUIRE) == 2 * i)
            (void)neomm_port_wait(&sleeper->word, 2 * i, UINT64_MAX);
        __atomic_store_n(&sleeper->word, 2 * i + 2, __ATOMIC_RELEASE);
        neomm_port_wake(&sleeper->word, 1);
    }
    sim_unbind();
    return NULL;
}

/* Two tasks that hand a word to and fro. */
static void wakes(struct ktap *t)
{
    pthread_t thread;
    struct sim *sim = bare_machine(t, MIB, 2, 1);
    ASSERT(t, sim);
    struct sleeper sleeper = {sim, 0, 300};
    ASSERT(t, pthread_create(&thread, NULL, sleep_until_changed, &sleeper) == 0);
    for (uint32_t i = 0; i < sleeper.count; i++) {
        __atomic_store_n(&sleeper.word, 2 * i + 1, __ATOMIC_RELEASE);
        neomm_port_wake(&sleeper.word, 1);
        while (__atomic_load_n(&sleeper.word, __ATOMIC_ACQUIRE) == 2 * i + 1)
            (void)neomm_port_wait(&sleeper.word, 2 * i + 1, UINT64_MAX);
    }
    (void)pthread_join(thread, NULL);
    EXPECT_EQ(t, sleeper.word, 600);
    EXPECT_EQ(t, sim_violations(sim), 0);
    sim_destroy(sim);
}

#define CALLERS 4u

struct caller {
    struct sim *sim;
    uint32_t cpu;
    uint32_t *busy, *calls; /* a CPU each; plain words, guarded by the interrupt flag */
};

static void count_call(void *argument)
{
    struct caller *caller = argument;
    uint32_t cpu = neomm_port_cpu()->index;
    caller->calls[cpu] += caller->busy[cpu] == 0 ? 1u : 1000000u;
}

static void *call_around(void *argument)
{
    struct caller *caller = argument;
    sim_bind(caller->sim, caller->cpu);
    for (uint32_t i = 0; i < 200; i++) {
        struct neomm_cpumask all = {{(1u << CALLERS) - 1}};
        neomm_irq_t irq = neomm_port_irq_save();
        caller->busy[caller->cpu] = 1;
        caller->busy[caller->cpu] = 0;
        neomm_port_ipi(&all, count_call, caller);
        neomm_port_irq_restore(irq);
    }
    sim_unbind();
    return NULL;
}

/* Calls from all to all neither hang nor come between masked instructions. */
static void ipi_threads(struct ktap *t)
{
    pthread_t thread[CALLERS];
    struct caller caller[CALLERS];
    uint32_t busy[CALLERS] = {0}, calls[CALLERS] = {0};
    struct sim *sim = bare_machine(t, MIB, CALLERS + 1, 1);
    ASSERT(t, sim);
    sim_bind(sim, CALLERS);
    for (uint32_t i = 0; i < CALLERS; i++) {
        caller[i] = (struct caller){sim, i, busy, calls};
        ASSERT(t, pthread_create(&thread[i], NULL, call_around, &caller[i]) == 0);
    }
    for (uint32_t i = 0; i < CALLERS; i++)
        (void)pthread_join(thread[i], NULL);
    for (uint32_t i = 0; i < CALLERS; i++)
        EXPECT_EQ(t, calls[i], (CALLERS - 1) * 200);
    EXPECT_EQ(t, sim_violations(sim), 0);
    EXPECT_EQ(t, sim_check_end(sim), 0);
    sim_destroy(sim);
}

/* ---- disks ---- */

struct transfer {
    struct neomm_block_request request;
    uint32_t done;
    bool in_interrupt;
};

static void transfer_done(struct neomm_block_request *request)
{
    struct transfer *transfer = request->context;
    transfer->in_interrupt = neomm_port_task() == 0 && sim_interrupts_masked();
    transfer->done++;
}

static void submit(struct neomm_block_device *disk, struct transfer *transfer,
                   enum neomm_block_operation operation, uint32_t page, uint32_t frame)
{
    struct neomm_block_request *request = &transfer->request;
    *transfer = (struct transfer){.request = {.operation = operation,
                                              .page = page,
                                              .frame = neomm_frame(frame),
                                              .done = transfer_done,
                                              .context = transfer}};
    disk->submit(disk, &request, 1);
}

static neomm_status finish(struct transfer *transfer)
{
    while (transfer->done == 0)
        if (neomm_port_wait(&transfer->done, 0, UINT64_MAX) != NEOMM_OK)
            break;
    return transfer->request.status;
}

static neomm_status move(struct neomm_block_device *disk, enum neomm_block_operation operation,
                         uint32_t page, uint32_t frame)
{
    struct transfer transfer;
    submit(disk, &transfer, operation, page, frame);
    return finish(&transfer);
}

static void fill_frame(struct sim *sim, uint32_t frame, int byte)
{
    uint8_t page[NEOMM_PAGE_SIZE];
    memset(page, byte, sizeof(page));
    (void)sim_physical_write(sim, (uint64_t)frame * NEOMM_PAGE_SIZE, page, sizeof(page));
}

/* Bytes of the frame that have this value. */
static size_t bytes_of(struct sim *sim, uint32_t frame, int byte)
{
    uint8_t page[NEOMM_PAGE_SIZE];
    size_t count = 0;
    (void)sim_physical_read(sim, (uint64_t)frame * NEOMM_PAGE_SIZE, page, sizeof(page));
    for (size_t i = 0; i < sizeof(page); i++)
        count += page[i] == byte;
    return count;
}

static void disk_batches(struct ktap *t)
{
    struct transfer transfer[32];
    struct sim *sim = bare_machine(t, MIB, 1, t->parameter);
    ASSERT(t, sim);
    struct neomm_block_device *disk = sim_disk_create(sim, 64);
    ASSERT(t, disk);
    uint32_t at_once = 0, interrupts = 0;
    for (uint32_t i = 0; i < 32; i++) {
        fill_frame(sim, i, (int)i + 1);
        submit(disk, &transfer[i], NEOMM_BLOCK_WRITE, 63 - i, i);
        at_once += transfer[i].done;
    }
    EXPECT(t, at_once > 0 && at_once < 32);
    EXPECT(t, sim_check_end(sim) > 0);
    for (uint32_t i = 0; i < 32; i++) {
        EXPECT_OK(t, finish(&transfer[i]));
        interrupts += transfer[i].in_interrupt;
    }
    EXPECT_EQ(t, interrupts, 32);
    EXPECT_EQ(t, sim_check_end(sim), 0);
    for (uint32_t i = 0; i < 32; i++) {
        EXPECT_OK(t, move(disk, NEOMM_BLOCK_READ, 63 - i, 100));
        EXPECT_EQ(t, bytes_of(sim, 100, (int)i + 1), NEOMM_PAGE_SIZE);
        EXPECT_EQ(t, transfer[i].done, 1);
    }
    EXPECT_OK(t, move(disk, NEOMM_BLOCK_FLUSH, 0, 0));
    EXPECT_EQ(t, sim_disk_operations(disk), 65);
    EXPECT_EQ(t, sim_violations(sim), 0);
    EXPECT_EQ(t, move(disk, NEOMM_BLOCK_READ, 64, 1), NEOMM_E_IO);
    EXPECT(t, violated(sim, 0, "page 64 of 64"));
    sim_destroy(sim);
}

static const uint64_t seeds[] = {1, 2, 3};

/* Page 5 holds 1s, then is written with 2s, and read back; one of the two goes wrong. */
static void disk_faults(struct ktap *t)
{
    enum { OLD = 1, NEW = 2, OTHER = 3, HALF = 2048, ALL = 4096 };
    static const struct {
        enum sim_disk_fault fault;
        bool read;
        neomm_status status;
        size_t old_bytes, new_bytes; /* in what is read; least of each */
    } row[] = {
        {SIM_DISK_FAIL, false, NEOMM_E_IO, ALL, 0},
        {SIM_DISK_TEAR, false, NEOMM_OK, HALF, HALF},
        {SIM_DISK_CORRUPT, false, NEOMM_OK, 0, ALL - 1},
        {SIM_DISK_LOSE, false, NEOMM_OK, ALL, 0},
        {SIM_DISK_MISDIRECT, false, NEOMM_OK, ALL, 0},
        {SIM_DISK_STALE, false, NEOMM_OK, 0, ALL},
        {SIM_DISK_FAIL, true, NEOMM_E_IO, 0, HALF},
        {SIM_DISK_TEAR, true, NEOMM_OK, HALF, HALF},
        {SIM_DISK_CORRUPT, true, NEOMM_OK, 0, ALL - 1},
        {SIM_DISK_LOSE, true, NEOMM_OK, 0, ALL},
        {SIM_DISK_MISDIRECT, true, NEOMM_OK, 0, 0},
        {SIM_DISK_STALE, true, NEOMM_OK, ALL, 0},
    };
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    ASSERT(t, sim);
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct neomm_block_device *disk = sim_disk_create(sim, 8);
        ASSERT(t, disk);
        fill_frame(sim, 1, OLD);
        fill_frame(sim, 2, NEW);
        fill_frame(sim, 3, OTHER);
        fill_frame(sim, 9, 0xee);
        EXPECT_OK(t, move(disk, NEOMM_BLOCK_WRITE, 6, 3));
        EXPECT_OK(t, move(disk, NEOMM_BLOCK_WRITE, 5, 1));
        sim_disk_fault(disk, row[i].fault, row[i].read ? 2 : 1, false);
        neomm_status written = move(disk, NEOMM_BLOCK_WRITE, 5, 2);
        neomm_status read = move(disk, NEOMM_BLOCK_READ, 5, 9);
        EXPECT_EQ(t, row[i].read ? read : written, row[i].status);
        EXPECT_EQ(t, row[i].read ? written : read, NEOMM_OK);
        EXPECT_EQ(t, bytes_of(sim, 9, OLD), row[i].old_bytes);
        EXPECT_EQ(t, bytes_of(sim, 9, NEW), row[i].new_bytes);
        if (row[i].fault == SIM_DISK_MISDIRECT)
            EXPECT_EQ(t, *(uint8_t *)sim_disk_page(disk, 6), row[i].read ? OTHER : NEW);
        /* And only once. */
        EXPECT_OK(t, move(disk, NEOMM_BLOCK_WRITE, 5, 2));
        EXPECT_OK(t, move(disk, NEOMM_BLOCK_READ, 5, 9));
        EXPECT_EQ(t, bytes_of(sim, 9, NEW), ALL);
    }
    sim_destroy(sim);
}

static void disk_fault_plan(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    ASSERT(t, sim);
    struct neomm_block_device *disk = sim_disk_create(sim, 8);
    ASSERT(t, disk);
    for (uint32_t nth = 0; nth <= 5; nth++) {
        for (int forever = 0; forever < 2; forever++) {
            sim_disk_fault(disk, SIM_DISK_FAIL, nth, forever != 0);
            for (uint32_t i = 1; i <= 6; i++) {
                bool fails = nth != 0 && (i == nth || (forever && i > nth));
                EXPECT_EQ(t, move(disk, NEOMM_BLOCK_READ, 1, 1), fails ? NEOMM_E_IO : NEOMM_OK);
            }
        }
    }
    sim_disk_fault(disk, SIM_DISK_FAIL, 1, false);
    EXPECT_EQ(t, move(disk, NEOMM_BLOCK_FLUSH, 0, 0), NEOMM_E_IO);
    sim_disk_make_swap(disk);
    const uint8_t *header = sim_disk_page(disk, 0);
    uint32_t words[3];
    memcpy(words, header + 1024, sizeof(words));
    EXPECT(t, words[0] == 1 && words[1] == 7 && words[2] == 0);
    EXPECT(t, memcmp(header + 4086, "SWAPSPACE2", 10) == 0);
    sim_destroy(sim);
}

/* A request that is still on its way when it is submitted again. */
static void disk_twice(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    ASSERT(t, sim);
    struct neomm_block_device *disk = sim_disk_create(sim, 8);
    struct transfer transfer;
    uint64_t before = 0;
    ASSERT(t, disk);
    do
        submit(disk, &transfer, NEOMM_BLOCK_READ, 1, 1);
    while (transfer.done != 0);
    for (int i = 0; i < 64 && sim_violations(sim) == before && transfer.done == 0; i++) {
        struct neomm_block_request *again = &transfer.request;
        disk->submit(disk, &again, 1);
    }
    EXPECT(t, transfer.done != 0 || strstr(sim_last_violation(sim), "on its way already"));
    sim_destroy(sim);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(irq_order),   KTAP_CASE(pins_balance),
    KTAP_CASE(ipi_targets), KTAP_CASE(time_and_entropy),
    KTAP_CASE(waits),       KTAP_CASE(wakes),
    KTAP_CASE(ipi_threads), KTAP_CASE_WITH(disk_batches, seeds),
    KTAP_CASE(disk_faults), KTAP_CASE(disk_fault_plan),
    KTAP_CASE(disk_twice),
};
KTAP_SUITE(sim_port, cases);
