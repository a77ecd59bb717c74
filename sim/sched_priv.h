/* The inside of the scheduler: coroutines (sched.c) and the choice between them (sched_explore.c).
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SIM_SCHED_PRIV_H
#define NEOMM_SIM_SCHED_PRIV_H

#include "machine.h"
#include "sched.h"

#include <ucontext.h>

/* One way on: a CPU, or number `cpus` for a disk's completion. The default comes first. */
#define OPTIONS_MAX (SIM_SCHED_CPUS + 1)

struct sim_decision {
    uint8_t option[OPTIONS_MAX];
    uint8_t count, rank; /* options; the one that was taken */
    bool preemptive;     /* the running CPU could go on: any rank but 0 is a preemption */
    uint32_t before;     /* preemptions in the decisions before this one */
};

enum sim_co_state {
    CO_READY,
    CO_SPINNING, /* until another CPU has got on */
    CO_CALLING,  /* until the CPUs that it called have run the call */
    CO_WAITING,  /* in neomm_port_wait */
    CO_ENDED
};

/* A CPU as a coroutine; the last one stands for the host thread's own stack. */
struct sim_co {
    ucontext_t context;
    void *stack;
    size_t stack_size;
    void *fake_stack; /* AddressSanitizer's */
    struct sim_place place;
    struct sim_catcher catcher;
    enum sim_co_state state;
    uint64_t spun_at;     /* progress when it began to spin */
    const uint32_t *word; /* that it waits on, NULL: none */
    uint32_t value;
    uint64_t timeout, turn; /* turn: order of those that wait */
    bool woken, timed_out;
    void (*call)(void *argument); /* that it had others run */
    void *argument;
    uint32_t unanswered; /* CPUs that have not run it yet */
    uint32_t callers;    /* bit n: CPU n's call is to be run here */
    const char *doing;   /* its last point */
    const void *where;
};

struct sim_sched {
    const struct sim_scenario *scenario;
    const struct sim_sched_options *options;
    struct sim_sched_result *result;
    struct sim *sim;
    struct sim_co co[SIM_SCHED_CPUS + 1];
    struct sim_co *current, *from; /* who runs; who switched to it */
    unsigned quiet;                /* no points: inside a call that runs on a CPU which waits */
    uint64_t progress;             /* grows whenever a CPU does more than spin */
    unsigned last_looks;           /* that those who spin took when nobody could go on */
    uint64_t points, turns;
    bool traced; /* each point goes to stderr */
    enum sim_sched_end end;
    /* The schedule so far. */
    struct sim_decision *decision;
    size_t decisions, capacity;
    size_t prefix;        /* decisions that are given */
    const char *next;     /* of options->choices */
    bool diverged;        /* a given choice did not exist */
    uint32_t preemptions; /* so far */
    uint32_t bound;
    uint64_t random;
    unsigned rarity; /* random: a preemption at one in 2^rarity decisions */
};

/* ---- sched.c ---- */
bool sim_sched_create(struct sim_sched *sched);
void sim_sched_destroy(struct sim_sched *sched);
/* Runs one schedule; sched->end says how it ended. */
void sim_sched_run(struct sim_sched *sched);
/* Ends the schedule here; the coroutine never goes on. */
NEOMM_NORETURN void sim_sched_stop(struct sim_sched *sched, enum sim_sched_end end);

/* ---- sched_explore.c ---- */
/* Decides between `count` options and returns one. */
uint32_t sim_sched_decide(struct sim_sched *sched, const uint8_t *option, uint32_t count,
                          bool preemptive);

#endif
