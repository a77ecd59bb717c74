/* The port (include/neomm/port.h) of the simulated machine, which checks its caller.
 * SPDX-License-Identifier: MIT */
#include "backend.h"
#include "machine.h"

#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A task that waits this long in host time, with nothing on its way, waits for ever; soon where
 * it is the only one, but other host threads may be about to begin. */
#define STUCK_SECONDS       60
#define STUCK_SECONDS_ALONE 1
#define HOST_SLICE_NS       2000000

static struct sim *here(const char *function)
{
    if (!sim_place.sim) {
        (void)fprintf(stderr, "sim: %s: this host thread is no CPU (sim_bind)\n", function);
        abort();
    }
    return sim_place.sim;
}

/* ---- stage 1 ---- */

void neomm_port_panic(const char *text)
{
    sim_crash(sim_place.sim, true, text);
}

void neomm_port_log(enum neomm_log_level level, const char *text, size_t length)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    struct sim *sim = here(__func__);
    if (memchr(text, '\n', length))
        sim_violation(sim, "port: a log line with a newline in it");
    sim_lock(sim);
    char *line = sim->log[sim->log_count++ % SIM_LOG_LINES];
    (void)snprintf(line, sizeof(sim->log[0]), "%s: %.*s", names[level], (int)length, text);
    if (getenv("NEOMM_SIM_LOG"))
        (void)fprintf(stderr, "sim: log: %s\n", line);
    sim_unlock(sim);
}

const char *sim_last_log(const struct sim *sim)
{
    return sim_log_line(sim, 0);
}

const char *sim_log_line(const struct sim *sim, unsigned n)
{
    return n < sim->log_count && n < SIM_LOG_LINES
               ? sim->log[(sim->log_count - 1 - n) % SIM_LOG_LINES]
               : "";
}

struct neomm_cpu *neomm_port_cpu(void)
{
    return &here(__func__)->cpu[sim_place.cpu->index].port;
}

struct neomm_cpu *neomm_port_pin(void)
{
    struct neomm_cpu *cpu = neomm_port_cpu();
    sim_place.pins++;
    return cpu;
}

void neomm_port_unpin(void)
{
    if (sim_place.pins == 0)
        sim_violation(here(__func__), "port: unpinned more often than pinned");
    else
        sim_place.pins--;
}

/* The state is the number of saves before this one, doubled, and whether interrupts were masked:
 * restoring in any other order than the reverse shows. */
neomm_irq_t neomm_port_irq_save(void)
{
    struct sim_place *place = &sim_place;
    struct sim *sim = here(__func__);
    neomm_irq_t state = (neomm_irq_t)place->saves++ << 1 | place->masked;
    if (!place->masked) {
        (void)sim_cpu_enter(sim);
        place->masked = true;
        place->cpu->masked_at = place->cpu->work;
    }
    return state;
}

void neomm_port_irq_restore(neomm_irq_t state)
{
    struct sim_place *place = &sim_place;
    struct sim *sim = here(__func__);
    if (place->saves == 0 || state >> 1 != place->saves - 1)
        sim_violation(sim, "port: interrupts restored out of order (state %#lx, %u saves deep)",
                      state, place->saves);
    else
        place->saves--;
    if (state & 1)
        return;
    struct sim_cpu *cpu = place->cpu;
    if (cpu->work - cpu->masked_at > cpu->masked_most)
        cpu->masked_most = cpu->work - cpu->masked_at;
    place->masked = false;
    if (place->serving)
        sim_cpu_leave_slowly();
    if (place->sched)
        sim_sched_unmasked();
}

bool sim_interrupts_masked(void)
{
    return sim_place.masked;
}

/* ---- stage 2 ---- */

void sim_run_as(struct sim *sim, uint32_t target, void (*call)(void *argument), void *argument)
{
    struct sim_place before = sim_place;
    struct sim_place *place = &sim_place;
    place->cpu = &sim->cpu[target];
    place->masked = false;
    place->serving = false;
    place->interrupts++;
    (void)sim_cpu_enter(sim);
    uint32_t depth = place->cpu->port.lock_depth;
    place->masked = true;
    call(argument);
    if (place->cpu->port.lock_depth != depth)
        sim_violation(sim, "port: a call on CPU %u took or released a lock", target);
    if (!place->masked || place->saves != before.saves)
        sim_violation(sim, "port: a call on CPU %u left interrupts in another state", target);
    if (place->serving)
        sim_cpu_leave_slowly();
    sim_place = before;
}

/* A call on a real CPU interrupts what runs there, wherever it is; here the thread that is the CPU
 * may be in the middle of its code. What it stored before this is visible after it at least. */
void sim_ipi_init(void)
{
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

static void interrupt_threads(void)
{
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* While this CPU waits for the others it serves calls itself, so it lets go of its own mutex. */
void neomm_port_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument)
{
    struct sim *sim = here(__func__);
    uint32_t self = sim_place.cpu->index, count = sim->options.cpus;
    uint32_t start = (uint32_t)(sim_random(sim) % count);
    bool served = sim_place.serving;
    for (uint32_t i = count; i < NEOMM_CPU_MAX; i++)
        if (cpus->word[i / 32] >> (i % 32) & 1)
            sim_violation(sim, "port: a call for CPU %u of %u", i, count);
    if (sim_place.sched) {
        sim_sched_ipi(cpus, call, argument);
        return;
    }
    if (served)
        sim_cpu_leave_slowly();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t target = (start + i) % count;
        if (target != self && cpus->word[target / 32] >> (target % 32) & 1)
            sim_run_as(sim, target, call, argument);
    }
    if (served)
        (void)sim_cpu_enter_slowly();
    interrupt_threads();
}

/* ---- stage 3 ---- */

/* Moves on by a little at every question, so that nothing can wait for it to stand still. */
uint64_t neomm_port_now(void)
{
    struct sim *sim = here(__func__);
    sim_lock(sim);
    uint64_t now = sim->clock += 100;
    sim_unlock(sim);
    return now;
}

uint64_t neomm_port_entropy(void)
{
    return sim_random(here(__func__));
}

/* ---- stage 4 ---- */

uint64_t neomm_port_task(void)
{
    (void)here(__func__);
    return sim_place.interrupts ? 0 : sim_place.cpu->index + 1u;
}

static void check_may_sleep(struct sim *sim)
{
    if (sim_place.cpu->port.lock_depth != 0)
        sim_violation(sim, "port: wait with %u locks held", sim_place.cpu->port.lock_depth);
    if (sim_place.masked)
        sim_violation(sim, "port: wait with interrupts masked");
    if (sim_place.pins)
        sim_violation(sim, "port: wait while pinned to a CPU");
    if (sim_place.interrupts)
        sim_violation(sim, "port: wait in an interrupt handler");
}

static bool unchanged(const uint32_t *word, uint32_t value)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE) == value;
}

/* Sleeps a little of the host's time; true: somebody called wake. */
static bool sleep_slice(struct sim *sim, const uint32_t *word, uint32_t value)
{
    struct timespec until;
    sim_lock(sim);
    uint32_t before = sim->wakes;
    if (unchanged(word, value)) {
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += HOST_SLICE_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&sim->woken, &sim->lock, &until);
    }
    bool woken = sim->wakes != before;
    sim_unlock(sim);
    return woken || !unchanged(word, value);
}

/* Other host threads may change the word. */
static bool wait_for_others(struct sim *sim, const uint32_t *word, uint32_t value)
{
    const uint64_t second = 1000000000 / HOST_SLICE_NS;
    for (uint64_t i = 0; i < STUCK_SECONDS * second; i++) {
        if (sleep_slice(sim, word, value) || sim_disk_complete_one(sim))
            return true;
        if (!sim_is_threaded(sim) && sim_backends_pending(sim) == 0 &&
            i > STUCK_SECONDS_ALONE * second)
            return false;
    }
    return false;
}

neomm_status neomm_port_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    struct sim *sim = here(__func__);
    check_may_sleep(sim);
    if (sim_place.sched)
        return sim_sched_wait(word, value, timeout_ns, __builtin_return_address(0));
    while (unchanged(word, value)) {
        if (sim_disk_complete_one(sim))
            continue;
        if (timeout_ns != UINT64_MAX) {
            /* The host's time, too, for the threads that are waited for. */
            if (sim_is_threaded(sim) && sleep_slice(sim, word, value))
                return NEOMM_OK;
            sim_clock_advance(sim, timeout_ns);
            return NEOMM_E_TIMEOUT;
        }
        if (!wait_for_others(sim, word, value)) {
            sim_violation(sim,
                          "port: deadlock: CPU %u waits for a word to change from %#x and "
                          "nothing is on its way",
                          sim_place.cpu->index, value);
            return NEOMM_E_TIMEOUT;
        }
    }
    return NEOMM_OK;
}

void neomm_port_wake(const uint32_t *word, uint32_t count)
{
    struct sim *sim = here(__func__);
    if (sim_place.sched)
        sim_sched_wake(word, count);
    sim_lock(sim);
    sim->wakes++;
    (void)pthread_cond_broadcast(&sim->woken);
    sim_unlock(sim);
}

/* ---- stage 5 ---- */

void neomm_port_oom(struct neomm *root, uint32_t space)
{
    struct sim *sim = here(__func__);
    (void)root;
    if (sim_place.cpu->port.lock_depth != 0)
        sim_violation(sim, "port: oom with %u locks held", sim_place.cpu->port.lock_depth);
    sim_lock(sim);
    sim->ooms++;
    sim->oom_space = space;
    sim_unlock(sim);
}

uint64_t sim_oom_count(const struct sim *sim)
{
    return sim->ooms;
}

uint32_t sim_oom_space(const struct sim *sim)
{
    return sim->oom_space;
}
