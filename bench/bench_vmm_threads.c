/* Two threads that fault in one space at the same time.
 * SPDX-License-Identifier: MIT */
#include "bench_vmm.h"
#include "together.h"

#include <pthread.h>

#define ROUND_PAGES 1024u
#define ROUND_BYTES ((uint64_t)ROUND_PAGES * NEOMM_PAGE_SIZE)
#define ROUNDS_MIN  4u
#define AGAIN       10u /* times the time of a measurement that lost rounds may take */

struct worker {
    neomm_vaddr_t start; /* of its part of the region, in tables of its own */
    struct bench_stint stint;
    bool failed;
};

struct team {
    struct bench_machine *machine;
    struct neomm_space *space;
    struct bench_meeting meeting;
    bool done;         /* set by the first thread before they meet */
    uint64_t deadline; /* wall time from when on each round counts */
    pthread_t thread;
    struct worker worker[2];
};

static void touch_all(struct team *team, struct worker *w)
{
    struct neomm_fault_result result;
    for (uint32_t i = 0; i < ROUND_PAGES; i++)
        w->failed |= neomm_fault(team->machine->root, team->space, w->start + i * NEOMM_PAGE_SIZE,
                                 NEOMM_PF_WRITE | NEOMM_PF_USER, &result) != NEOMM_FAULT_RESOLVED;
}

/* Taking the pages away again is no part of it. */
static void play(struct team *team, struct worker *w, bool alone)
{
    if (!alone)
        bench_meet(&team->meeting);
    bench_stint_begin(&w->stint);
    touch_all(team, w);
    bench_stint_end(&w->stint);
    if (!alone)
        bench_meet(&team->meeting);
    w->failed |= neomm_madvise(team->machine->root, team->space, w->start, ROUND_BYTES,
                               NEOMM_ADVICE_DONTNEED) != NEOMM_OK;
}

static void *second_thread(void *argument)
{
    struct team *team = argument;
    sim_bind(team->machine->system.sim, 1);
    for (bench_meet(&team->meeting); !team->done; bench_meet(&team->meeting))
        play(team, &team->worker[1], false);
    sim_unbind();
    return NULL;
}

/* One region; the parts lie a table apart. */
static bool gather(struct team *team, struct bench_machine *machine)
{
    neomm_vaddr_t start = (neomm_vaddr_t)1 << 30;
    *team = (struct team){.machine = machine,
                          .deadline = bench_wall_time() + AGAIN * machine->nanoseconds};
    if (neomm_space_create(machine->root, NULL, &team->space) != NEOMM_OK)
        return false;
    for (uint32_t i = 0; i < 2; i++)
        team->worker[i].start = start + i * ROUND_BYTES;
    return neomm_mmap(machine->root, team->space, &start, 2 * ROUND_BYTES,
                      NEOMM_PROT_READ | NEOMM_PROT_WRITE, NEOMM_MAP_EXACT) == NEOMM_OK &&
           pthread_create(&team->thread, NULL, second_thread, team) == 0;
}

static bool dismiss(struct team *team)
{
    team->done = true;
    bench_meet(&team->meeting);
    pthread_join(team->thread, NULL);
    return neomm_space_destroy(team->machine->root, team->space) == NEOMM_OK &&
           !team->worker[0].failed && !team->worker[1].failed;
}

/* One round of both. True: it counts. */
static bool together(struct team *team)
{
    bench_meet(&team->meeting);
    play(team, &team->worker[0], false);
    return bench_undisturbed(&team->worker[0].stint, &team->worker[1].stint, team->deadline);
}

/* Rounds of both and rounds of one take turns, so that what slows the host slows both. */
double bench_faults_speedup(struct bench_machine *machine)
{
    static struct team team;
    double first = 0, second = 0, alone = 0;
    uint32_t counted = 0;
    if (!gather(&team, machine))
        return 0;
    play(&team, &team.worker[0], true);
    while (counted < ROUNDS_MIN || alone < (double)machine->nanoseconds) {
        if (!together(&team))
            continue;
        first += (double)team.worker[0].stint.cpu_time;
        second += (double)team.worker[1].stint.cpu_time;
        play(&team, &team.worker[0], true);
        alone += (double)team.worker[0].stint.cpu_time;
        counted++;
    }
    return dismiss(&team) ? alone / first + alone / second : 0;
}
