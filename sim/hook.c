/* Hooks of the instrumented flavour that are not the MMU's: fault points, frames, locks, yield.
 * SPDX-License-Identifier: MIT */
#include "tlb.h"

#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* So many on one CPU without a lock taken or released are a spin without end. */
#define SPINS_MAX (1u << 26)

/* Counted for the whole process, over all machines: a sweep asks what the program ever reached. */
static size_t site_passes[NEOMM_FAULT_SITES];
static size_t site_failures[NEOMM_FAULT_SITES];

static const char *const site_names[] = {
#define NAME(name) #name,
    NEOMM_FAULT_SITE_LIST(NAME)
#undef NAME
};

static size_t load(const size_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static void add_one(size_t *count)
{
    (void)__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

/* ---- fault points ---- */

void sim_fault_plan(struct sim *sim, uint64_t n, bool forever)
{
    sim_lock(sim);
    sim->fault_nth = n;
    sim->fault_forever = forever;
    sim->fault_seen = 0;
    sim_unlock(sim);
}

uint64_t sim_fault_count(const struct sim *sim)
{
    return sim->fault_seen;
}

uint64_t sim_fault_site_passes(enum neomm_fault_site site)
{
    return load(&site_passes[site]);
}

uint64_t sim_fault_site_failures(enum neomm_fault_site site)
{
    return load(&site_failures[site]);
}

const char *sim_fault_site_name(enum neomm_fault_site site)
{
    return site < NEOMM_FAULT_SITES ? site_names[site] : "?";
}

bool neomm_hook_fault(enum neomm_fault_site site)
{
    struct sim *sim = sim_place.sim;
    add_one(&site_passes[site]);
    if (!sim)
        return false;
    sim_sched_here("passes a fault point", __builtin_return_address(0));
    sim_lock(sim);
    uint64_t seen = ++sim->fault_seen;
    bool fail = sim->fault_nth != 0 &&
                (seen == sim->fault_nth || (sim->fault_forever && seen > sim->fault_nth));
    sim_unlock(sim);
    if (fail)
        add_one(&site_failures[site]);
    return fail;
}

/* Appends a line "NAME passes failures" for each site to the file named by NEOMM_FAULT_SITES_OUT,
 * in one write, since test programs run side by side. */
static void report_sites(void)
{
    char text[NEOMM_FAULT_SITES * 96];
    size_t used = 0;
    const char *path = getenv("NEOMM_FAULT_SITES_OUT");
    for (unsigned i = 0; i < NEOMM_FAULT_SITES; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %llu %llu\n", site_names[i],
                                 (unsigned long long)load(&site_passes[i]),
                                 (unsigned long long)load(&site_failures[i]));
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (file < 0 || write(file, text, used) != (ssize_t)used)
        perror("sim: NEOMM_FAULT_SITES_OUT");
    if (file >= 0)
        (void)close(file);
}

static void register_report(void)
{
    if (getenv("NEOMM_FAULT_SITES_OUT"))
        (void)atexit(report_sites);
}

void sim_faults_report_at_exit(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, register_report);
}

/* ---- frames ---- */

void neomm_hook_frames_allocated(neomm_frame_t frame, uint32_t count)
{
    struct sim *sim = sim_place.sim;
    sim_sched_here("has taken frames", __builtin_return_address(0));
    sim_tlb_check_frames(sim, frame, count, false);
    sim_lock(sim);
    sim_arena_allocated(sim, frame, count);
    sim_unlock(sim);
}

void neomm_hook_frames_freed(neomm_frame_t frame, uint32_t count)
{
    struct sim *sim = sim_place.sim;
    sim_sched_here("has given back frames", __builtin_return_address(0));
    sim_tlb_check_frames(sim, frame, count, true);
    sim_lock(sim);
    sim_arena_freed(sim, frame, count);
    sim_unlock(sim);
}

/* ---- objects of the heap ---- */

void sim_poison_objects(struct sim *sim, bool on)
{
    sim->poison_objects = on;
    if (!on)
        ASAN_UNPOISON_MEMORY_REGION(sim->ram, (size_t)sim->mapped);
}

void neomm_hook_object_freed(const void *object, size_t size)
{
    struct sim *sim = sim_place.sim;
    (void)size;
    if (sim && sim->poison_objects)
        ASAN_POISON_MEMORY_REGION(object, size);
}

void neomm_hook_object_taken(const void *object, size_t size)
{
    struct sim *sim = sim_place.sim;
    (void)size;
    if (sim && sim->poison_objects)
        ASAN_UNPOISON_MEMORY_REGION(object, size);
}

/* ---- locks, other CPUs ---- */

void neomm_hook_locked(enum neomm_lock_class lock_class)
{
    struct sim_cpu *cpu = sim_place.cpu;
    (void)lock_class;
    if (!sim_place.masked)
        sim_violation(cpu->sim, "lock: a spinlock taken with interrupts on");
    if (cpu->idle)
        sim_violation(cpu->sim, "lock: CPU %u takes a spinlock while it is idle", cpu->index);
    cpu->spins = 0;
    cpu->locks_taken++;
    if (++cpu->locks_held > cpu->locks_most)
        cpu->locks_most = cpu->locks_held;
}

void neomm_hook_unlocked(enum neomm_lock_class lock_class)
{
    struct sim_cpu *cpu = sim_place.cpu;
    (void)lock_class;
    cpu->spins = 0;
    if (cpu->locks_held == 0)
        sim_violation(cpu->sim, "lock: released more often than taken");
    else
        cpu->locks_held--;
}

uint64_t sim_locks_taken(const struct sim *sim)
{
    (void)sim;
    return sim_place.cpu->locks_taken;
}

uint32_t sim_locks_most(const struct sim *sim)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < sim->options.cpus; i++)
        most = sim->cpu[i].locks_most > most ? sim->cpu[i].locks_most : most;
    return most;
}

/* ---- points ---- */

void sim_interrupt_at(struct sim *sim, uint64_t n, sim_interrupt_fn *handler, void *context)
{
    struct sim_cpu *cpu = sim_place.cpu;
    (void)sim;
    cpu->interrupt = handler;
    cpu->interrupt_context = context;
    cpu->interrupt_is_nmi = false;
    cpu->interrupt_at = cpu->points + n;
}

void sim_nmi_at(struct sim *sim, uint64_t n, sim_interrupt_fn *handler, void *context)
{
    sim_interrupt_at(sim, n, handler, context);
    sim_place.cpu->interrupt_is_nmi = true;
}

bool sim_interrupt_due(const struct sim *sim)
{
    (void)sim;
    return sim_place.cpu->interrupt != NULL;
}

uint64_t sim_points(const struct sim *sim)
{
    (void)sim;
    return sim_place.cpu->points;
}

uint64_t sim_masked_most(struct sim *sim)
{
    struct sim_cpu *cpu = sim_place.cpu;
    uint64_t most = cpu->masked_most;
    (void)sim;
    cpu->masked_most = 0;
    return most;
}

static void interrupt(struct sim_cpu *cpu)
{
    struct sim_place *place = &sim_place;
    sim_interrupt_fn *handler = cpu->interrupt;
    uint32_t depth = cpu->port.lock_depth, saves = place->saves, pins = place->pins;
    bool masked = place->masked, entered = sim_cpu_enter(cpu->sim);
    sim_cpu_drain_stores(cpu);
    cpu->interrupt = NULL;
    place->masked = true;
    place->interrupts++;
    handler(cpu->interrupt_context);
    if (cpu->port.lock_depth != depth || !place->masked || place->saves != saves)
        sim_violation(cpu->sim,
                      "port: an interrupt handler on CPU %u left locks or interrupts "
                      "in another state",
                      cpu->index);
    if (place->pins != pins)
        sim_violation(cpu->sim, "port: an interrupt handler left its CPU pinned");
    place->interrupts--;
    place->masked = masked;
    sim_cpu_leave(entered);
    if (place->sched && !masked)
        sim_sched_unmasked();
}

/* ---- stores that are late ---- */

/* Under the scheduler the store waits for the CPU's second point from here, or an interrupt: others
 * may run at the first two without seeing it, as they may while it is in a store buffer. */
void neomm_hook_store_late(uint32_t *word, uint32_t value)
{
    struct sim_cpu *cpu = sim_place.cpu;
    if (!sim_place.sched) {
        __atomic_store_n(word, value, __ATOMIC_RELAXED);
        return;
    }
    sim_cpu_drain_stores(cpu);
    cpu->late = word;
    cpu->late_value = value;
    cpu->late_until = cpu->points + 2;
}

void sim_cpu_drain_stores(struct sim_cpu *cpu)
{
    if (cpu->late)
        __atomic_store_n(cpu->late, cpu->late_value, __ATOMIC_RELAXED);
    cpu->late = NULL;
}

static void pass_point(struct sim_cpu *cpu)
{
    cpu->points++;
    cpu->work++;
    if (cpu->interrupt && cpu->points >= cpu->interrupt_at &&
        (cpu->interrupt_is_nmi || !sim_place.masked))
        interrupt(cpu);
}

/* With several host threads, gives way at moments that depend on the seed. */
static void give_way(struct sim_cpu *cpu)
{
    uint32_t x = ++cpu->yields * 0x9e3779b9u ^ (uint32_t)cpu->sim->options.seed;
    if (sim_is_threaded(cpu->sim) && ((x ^ x >> 15) & 63) == 0)
        (void)sched_yield();
}

static void pass_scheduled_point(const void *where)
{
    struct sim_cpu *cpu = sim_place.cpu;
    sim_sched_switch("shares a word", where);
    if (cpu->late && cpu->points >= cpu->late_until)
        sim_cpu_drain_stores(cpu);
}

void neomm_hook_yield(void)
{
    if (sim_place.cpu)
        pass_point(sim_place.cpu);
    if (sim_place.sim)
        sim_whim_here(sim_place.sim);
    if (sim_place.sched)
        pass_scheduled_point(__builtin_return_address(0));
    else if (sim_place.cpu)
        give_way(sim_place.cpu);
}

/* Alone in the host, nobody else can end a spin. */
void neomm_hook_spin(void)
{
    struct sim_cpu *cpu = sim_place.cpu;
    if (!cpu)
        return;
    pass_point(cpu);
    if (sim_place.sched) {
        sim_sched_spin(__builtin_return_address(0));
        return;
    }
    if (!sim_is_threaded(cpu->sim) && ++cpu->spins > SPINS_MAX)
        sim_crash(cpu->sim, true, "sim: a CPU spins for ever on a lock that it holds itself");
    give_way(cpu);
}
