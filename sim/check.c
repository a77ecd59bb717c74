/* Violations, bad ends, and what must hold at the end of a test.
 * SPDX-License-Identifier: MIT */
#include "backend.h"
#include "machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_VIOLATION 70

/* The last lines of the library's log, unless they were printed as they came. */
static void print_log(const struct sim *sim)
{
    uint64_t from = sim->log_count > SIM_LOG_LINES ? sim->log_count - SIM_LOG_LINES : 0;
    if (getenv("NEOMM_SIM_LOG"))
        return;
    for (uint64_t i = from; i < sim->log_count; i++)
        (void)fprintf(stderr, "sim: log: %s\n", sim->log[i % SIM_LOG_LINES]);
}

static void print_place(const struct sim *sim)
{
    const struct sim_place *place = &sim_place;
    if (place->sim != sim)
        return;
    (void)fprintf(stderr,
                  "sim: on CPU %u, interrupts %s, %u handlers deep, %u locks held, seed %llu\n",
                  place->cpu->index, place->masked ? "masked" : "on", place->interrupts,
                  place->cpu->port.lock_depth, (unsigned long long)sim->options.seed);
}

void sim_violation(struct sim *sim, const char *format, ...)
{
    va_list arguments;
    sim_lock(sim);
    va_start(arguments, format);
    (void)vsnprintf(sim->violation, sizeof(sim->violation), format, arguments);
    va_end(arguments);
    sim->violations++;
    bool go_on = sim->options.keep_going;
    sim_unlock(sim);
    if (go_on)
        return;
    if (sim_place.sched)
        sim_crash(sim, true, sim->violation);
    (void)fprintf(stderr, "sim: VIOLATION: %s\n", sim->violation);
    print_place(sim);
    print_log(sim);
    exit(EXIT_VIOLATION);
}

void sim_set_keep_going(struct sim *sim, bool keep_going)
{
    sim->options.keep_going = keep_going;
}

bool sim_keeps_going(const struct sim *sim)
{
    return sim->options.keep_going;
}

uint64_t sim_violations(const struct sim *sim)
{
    return sim->violations;
}

const char *sim_last_violation(const struct sim *sim)
{
    return sim->violation;
}

void sim_crash(struct sim *sim, bool panic, const char *text)
{
    struct sim_catcher *catcher = sim_place.catcher;
    if (catcher) {
        catcher->end = panic ? SIM_END_PANIC : SIM_END_FAULT;
        (void)snprintf(catcher->text, sizeof(catcher->text), "%s", text);
        siglongjmp(catcher->back, 1);
    }
    (void)fprintf(stderr, "sim: %s: %s\n", panic ? "PANIC" : "CRASH", text);
    if (sim) {
        print_place(sim);
        print_log(sim);
    }
    (void)fflush(NULL);
    abort();
}

enum sim_end sim_catch(struct sim *sim, void (*call)(void *argument), void *argument, char *text,
                       size_t size)
{
    struct sim_catcher catcher;
    struct sim_place place = sim_place;
    struct sim_cpu *cpu = place.cpu;
    uint32_t depth = cpu->port.lock_depth, held = cpu->locks_held;
    (void)sim;
    catcher.end = SIM_END_RETURN;
    catcher.text[0] = '\0';
    sim_place.catcher = &catcher;
    if (sigsetjmp(catcher.back, 1) == 0) {
        call(argument);
    } else {
        if (sim_place.serving && !place.serving)
            sim_cpu_leave_slowly();
        if (!sim_place.serving && place.serving)
            (void)sim_cpu_enter_slowly();
        sim_place = place;
        cpu->port.lock_depth = depth;
        cpu->locks_held = held;
    }
    sim_place.catcher = place.catcher;
    if (text && size > 0)
        (void)snprintf(text, size, "%s", catcher.text);
    return catcher.end;
}

/* ---- the end of a test ---- */

static unsigned complain(const char *what, unsigned cpu, unsigned long long number)
{
    (void)fprintf(stderr, "sim: at the end: CPU %u: %s (%llu)\n", cpu, what, number);
    return 1;
}

static unsigned check_cpu(const struct sim *sim, uint32_t index)
{
    const struct sim_cpu *cpu = &sim->cpu[index];
    bool here = sim_place.cpu == cpu;
    bool masked = here ? sim_place.masked : cpu->masked;
    uint32_t saves = here ? sim_place.saves : cpu->saves;
    unsigned findings = 0;
    if (cpu->port.lock_depth != 0)
        findings += complain("locks are held", index, cpu->port.lock_depth);
    if (cpu->locks_held != 0)
        findings += complain("lock hooks do not balance", index, cpu->locks_held);
    if (masked || saves != 0)
        findings += complain("interrupts were not restored", index, saves);
    if (here && sim_place.pins != 0)
        findings += complain("pins were not undone", index, sim_place.pins);
    if (cpu->access_open)
        findings += complain("user access was left open", index, 1);
    return findings;
}

unsigned sim_check_end(struct sim *sim)
{
    static const char *const name[] = {"window pages can be used", "slots can be used"};
    unsigned findings = 0;
    for (uint32_t i = 0; i < sim->options.cpus; i++)
        findings += check_cpu(sim, i);
    for (unsigned i = 0; i < SIM_WINDOWS; i++)
        if (sim->window[i].mapped != 0)
            findings += complain(name[i], sim_place.cpu->index, sim->window[i].mapped);
    uint64_t pending = sim_disks_pending(sim) + sim_backends_pending(sim);
    if (pending != 0)
        findings += complain("disk requests are pending", sim_place.cpu->index, pending);
    if (findings)
        print_log(sim);
    return findings;
}
