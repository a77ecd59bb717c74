/* The scheduler: simulated CPUs as coroutines in one host thread, which runs them in any order
 * that real ones could, and tells which.
 * SPDX-License-Identifier: MIT
 *
 * A schedule is one run of a scenario. At each point (a lock, an atomic access with an order, a
 * page-table entry stored, frames that change hands, a fault point, a call to other CPUs, a
 * reference of sim_move, sim_sched_point) the running CPU may be preempted, and where it waits or
 * ends another one goes on. Each such moment at which there is more than one way on is a decision;
 * decisions are numbered from 0, and a schedule is named by those that differ from the default
 * (the CPU that runs goes on; if it cannot, the next one in turn): "12:1,40:0" lets CPU 1 go on
 * at decision 12 and CPU 0 at decision 40. The number one above the last CPU stands for a disk
 * that completes a request just there.
 *
 *   CPU 0  ====x           ====x (waits)                    x: point
 *   CPU 1       (preempts) ==x          ===========x (ends)
 *
 * Under the scheduler neomm_port_wait ends by a wake on the same word alone, a call to other CPUs
 * runs at a CPU's next point with interrupts on (at once if that CPU waits or has ended), and its
 * sender waits for that. Points in the library exist in the instrumented flavour only.
 */
#ifndef NEOMM_SIM_SCHED_H
#define NEOMM_SIM_SCHED_H

#include "sim.h"

#define SIM_SCHED_CPUS 8

enum sim_sched_end {
    SIM_SCHED_DONE,     /* every CPU came to its end, and the scenario found all right */
    SIM_SCHED_WRONG,    /* every CPU came to its end; the scenario found something wrong */
    SIM_SCHED_DEADLOCK, /* no CPU can go on */
    SIM_SCHED_LIVELOCK, /* the limit of points was reached */
    SIM_SCHED_CRASH,    /* a panic, a bad reference or a violation */
    SIM_SCHED_DIVERGED, /* the same choices led elsewhere, or a choice does not exist */
    SIM_SCHED_REFUSED   /* not tried: options, machine or host do not allow it */
};

struct sim_scenario {
    uint32_t cpus; /* CPU n of them runs run(context, n) */
    void *context;
    /* Before each schedule: the machine, in the same state for the same seed. NULL: refused. */
    struct sim *(*begin)(void *context, uint64_t seed);
    void (*run)(void *context, uint32_t cpu);
    /* After each: is all as it must be? Asked for the answer if `how` is SIM_SCHED_DONE; else
     * CPUs stopped half-way, and the machine is fit for sim_destroy at most. */
    bool (*end)(void *context, enum sim_sched_end how);
};

enum sim_sched_mode {
    SIM_SCHED_RANDOM,     /* `schedules` of them, chosen by seed, seed + 1, ... */
    SIM_SCHED_EXHAUSTIVE, /* all with at most `preemptions`: first those with none, then one ... */
    SIM_SCHED_REPLAY      /* the one named by `choices` */
};

struct sim_sched_options {
    enum sim_sched_mode mode;
    uint64_t seed;        /* given to begin */
    uint64_t schedules;   /* exhaustive: the most, 0: no limit */
    uint32_t preemptions; /* of a schedule, at most */
    uint64_t points;      /* of a schedule, at most; 0: a million */
    const char *choices;
};

struct sim_sched_result {
    enum sim_sched_end end; /* of the last schedule: the search stops at the first that is bad */
    bool complete;          /* exhaustive: there are no further ones */
    uint64_t schedules;     /* different ones that were run */
    uint64_t points;        /* of all schedules */
    uint32_t preemptions;   /* of the last schedule */
    uint64_t seed;          /* that begin was given */
    bool cut;               /* there was no room for all choices: replay the seed */
    char choices[1024];     /* the name of the last schedule */
    char text[SIM_SCHED_CPUS * 128]; /* what was wrong, a line for each CPU */
};

/* With NEOMM_SCHEDULE="SEED CHOICES" in the environment only that schedule, and each point of it to
 * stderr. Otherwise runs schedules of the scenario until one is bad or there are no more; true:
 * none was bad. This host thread alone may be a CPU of the machine. */
bool sim_sched_explore(const struct sim_scenario *scenario, const struct sim_sched_options *options,
                       struct sim_sched_result *result);

/* A point of the scenario's own; nothing outside of a schedule. */
void sim_sched_point(void);

const char *sim_sched_end_text(enum sim_sched_end end);

/* Why coroutines do not work in this build; NULL: they do. */
const char *sim_sched_unavailable(void);

#endif
