/* Making and ending machines, and which CPU of which machine a host thread is.
 * SPDX-License-Identifier: MIT */
#include "machine.h"
#include "backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGES_UP(x)  (((x) + NEOMM_PAGE_SIZE - 1) & ~(uint64_t)(NEOMM_PAGE_SIZE - 1))
#define CR0_PE       ((uintptr_t)1)
#define EFER_LME_LMA ((uint64_t)0x500)
#define PAT_AT_RESET 0x0007040600070406u /* SDM 3A 11.12.4 */

_Thread_local struct sim_place sim_place;

void sim_lock(struct sim *sim)
{
    (void)pthread_mutex_lock(&sim->lock);
}

void sim_unlock(struct sim *sim)
{
    (void)pthread_mutex_unlock(&sim->lock);
}

bool sim_cpu_enter_slowly(void)
{
    if (sim_place.serving)
        return false;
    (void)pthread_mutex_lock(&sim_place.cpu->serving);
    sim_place.serving = true;
    return true;
}

void sim_cpu_leave_slowly(void)
{
    sim_place.serving = false;
    (void)pthread_mutex_unlock(&sim_place.cpu->serving);
}

static uint32_t default_physical_bits(enum neomm_format format)
{
    switch (format) {
    case NEOMM_FORMAT_2LEVEL:
        return 32;
    case NEOMM_FORMAT_PAE:
        return 36;
    case NEOMM_FORMAT_4LEVEL:
    case NEOMM_FORMAT_5LEVEL:
        break;
    }
    return 46;
}

/* The state in which a boot loader would leave a CPU that is about to turn to the kernel's
 * tables: paging is on in the right format, and CR3 is of no use. */
static void reset_cpu(struct sim *sim, uint32_t index)
{
    struct sim_cpu *cpu = &sim->cpu[index];
    enum neomm_format format = sim->options.format;
    cpu->sim = sim;
    cpu->index = index;
    cpu->port.index = index;
    cpu->cr0 = CR0_PE | NEOMM_CR0_PG;
    cpu->pat = PAT_AT_RESET;
    if (format != NEOMM_FORMAT_2LEVEL)
        cpu->cr4 |= NEOMM_CR4_PAE;
    if (format == NEOMM_FORMAT_4LEVEL || format == NEOMM_FORMAT_5LEVEL)
        cpu->efer = EFER_LME_LMA;
    if (format == NEOMM_FORMAT_5LEVEL)
        cpu->cr4 |= NEOMM_CR4_LA57;
    (void)pthread_mutex_init(&cpu->serving, NULL);
}

static void make_lock(struct sim *sim)
{
    pthread_mutexattr_t recursive;
    (void)pthread_mutexattr_init(&recursive);
    (void)pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&sim->lock, &recursive);
    (void)pthread_mutexattr_destroy(&recursive);
    (void)pthread_cond_init(&sim->woken, NULL);
}

/* NEOMM_SKIP_FLUSH=SITE:n leaves out the invalidations of one site but the first n, so that every
 * test program can be asked whether it notices. */
static void read_skipped_site(struct sim *sim)
{
    const char *wanted = getenv("NEOMM_SKIP_FLUSH"), *colon = wanted ? strchr(wanted, ':') : NULL;
    sim->skipped = NEOMM_FLUSH_SITES;
    for (unsigned i = 0; colon && i < NEOMM_FLUSH_SITES; i++) {
        const char *name = sim_flush_site_name((enum neomm_flush_site)i);
        if (strlen(name) == (size_t)(colon - wanted) && strncmp(name, wanted, strlen(name)) == 0)
            sim->skipped = (enum neomm_flush_site)i;
    }
    sim->skip_after = colon ? strtoull(colon + 1, NULL, 10) : 0;
}

struct sim *sim_create(const struct sim_options *options)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim)
        return NULL;
    sim->options = *options;
    sim->options.cpus = options->cpus ? options->cpus : 1;
    sim->options.ram_bytes = PAGES_UP(options->ram_bytes);
    if (sim->options.physical_bits == 0)
        sim->options.physical_bits = default_physical_bits(options->format);
    read_skipped_site(sim);
    sim->random = options->seed;
    sim->fd = sim->poisoned_fd = -1;
    make_lock(sim);
    sim->cpu = calloc(sim->options.cpus, sizeof(*sim->cpu));
    for (uint32_t i = 0; sim->cpu && i < sim->options.cpus; i++)
        reset_cpu(sim, i);
    if (!sim->cpu || !sim_arena_create(sim) || !sim_windows_create(sim) || !sim_mmu_create(sim)) {
        perror("sim: the host refused memory for a machine");
        sim_destroy(sim);
        return NULL;
    }
    sim_faults_report_at_exit();
    sim_ipi_init();
    sim_bind(sim, 0);
    return sim;
}

void sim_destroy(struct sim *sim)
{
    if (sim_place.sim == sim)
        sim_place = (struct sim_place){0};
    sim_disks_destroy(sim);
    sim_backends_destroy(sim);
    if (sim->mmu)
        sim_mmu_destroy(sim);
    sim_windows_destroy(sim);
    if (sim->poison_objects)
        sim_poison_objects(sim, false);
    sim_arena_destroy(sim);
    for (uint32_t i = 0; sim->cpu && i < sim->options.cpus; i++)
        (void)pthread_mutex_destroy(&sim->cpu[i].serving);
    free(sim->cpu);
    (void)pthread_cond_destroy(&sim->woken);
    (void)pthread_mutex_destroy(&sim->lock);
    free(sim);
}

/* The thread is no CPU any more; what is the CPU's stays with it. */
static void leave_cpu(void)
{
    struct sim_place *place = &sim_place;
    if (!place->sim)
        return;
    place->cpu->masked = place->masked;
    place->cpu->saves = place->saves;
    if (place->serving)
        sim_cpu_leave_slowly();
}

static void count_thread(struct sim *sim)
{
    struct sim *before = sim_place.sim;
    if (before == sim)
        return;
    if (before) {
        sim_lock(before);
        before->bound--;
        sim_unlock(before);
    }
    sim_lock(sim);
    if (++sim->bound > 1)
        __atomic_store_n(&sim->threaded, true, __ATOMIC_RELAXED);
    sim_unlock(sim);
}

void sim_bind(struct sim *sim, uint32_t cpu)
{
    struct sim_place *place = &sim_place;
    if (place->sim == sim && place->cpu == &sim->cpu[cpu])
        return;
    if (place->sim == sim && place->pins != 0)
        sim_violation(sim, "port: a host thread leaves its CPU while it is pinned there");
    leave_cpu();
    /* Host mappings were made for the CPU before: the new one has a TLB of its own. */
    if (place->sim == sim)
        sim_window_forget_all(sim);
    count_thread(sim);
    place->sim = sim;
    place->cpu = &sim->cpu[cpu];
    place->masked = false;
    if (sim->cpu[cpu].masked)
        (void)sim_cpu_enter(sim);
    place->masked = sim->cpu[cpu].masked;
    place->saves = sim->cpu[cpu].saves;
}

void sim_unbind(void)
{
    struct sim *sim = sim_place.sim;
    if (!sim)
        return;
    leave_cpu();
    sim_lock(sim);
    sim->bound--;
    sim_unlock(sim);
    sim_place = (struct sim_place){0};
}

void sim_set_root(struct sim *sim, struct neomm *root)
{
    sim_place.cpu->port.root = root;
    (void)sim;
}

void sim_layout(struct sim *sim, struct neomm_layout *layout)
{
    if (sim->layout.direct.size == 0)
        sim_crash(sim, true, "sim_layout: a format of the other word size");
    *layout = sim->layout;
}

void sim_clock_advance(struct sim *sim, uint64_t nanoseconds)
{
    sim_lock(sim);
    sim->clock += nanoseconds;
    sim_unlock(sim);
}

/* splitmix64 */
uint64_t sim_random(struct sim *sim)
{
    sim_lock(sim);
    uint64_t x = sim->random += 0x9e3779b97f4a7c15u;
    sim_unlock(sim);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
