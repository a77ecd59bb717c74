/* CPUs as coroutines: switching, waiting, calls to other CPUs, and who can go on.
 * SPDX-License-Identifier: MIT */
#include "sched_priv.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__has_feature)
#define FEATURE(x) __has_feature(x)
#else
#define FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || FEATURE(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define ASAN 1
#else
#define ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || FEATURE(thread_sanitizer)
#define UNAVAILABLE "ThreadSanitizer watches host threads, and coroutines are none"
#else
#define UNAVAILABLE NULL
#endif

#define STACK_BYTES ((size_t)256 << 10)
#define POINTS_MAX  1000000u
#define LAST_LOOKS  8u /* of a schedule */

const char *sim_sched_unavailable(void)
{
    return UNAVAILABLE;
}

static uint32_t index_of(const struct sim_sched *sched, const struct sim_co *co)
{
    return (uint32_t)(co - sched->co);
}

static struct sim_co *host(struct sim_sched *sched)
{
    return &sched->co[sched->scenario->cpus];
}

/* ---- switching ---- */

static void before_switch(struct sim_co *from, const struct sim_co *to)
{
#if ASAN
    __sanitizer_start_switch_fiber(from->state == CO_ENDED ? NULL : &from->fake_stack, to->stack,
                                   to->stack_size);
#else
    (void)from, (void)to;
#endif
}

/* On the new stack. The host's is learned when it is left for the first time. */
static void after_switch(struct sim_sched *sched)
{
#if ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(sched->current->fake_stack, &bottom, &size);
    if (sched->from == host(sched)) {
        sched->from->stack = (void *)(uintptr_t)bottom;
        sched->from->stack_size = size;
    }
#else
    (void)sched;
#endif
}

/* Each CPU has a TLB of its own, so what the host mapped for the one before is forgotten. */
static void switch_to(struct sim_sched *sched, struct sim_co *to)
{
    struct sim_co *from = sched->current;
    if (from == to)
        return;
    from->place = sim_place;
    sched->from = from;
    sched->current = to;
    sim_window_forget_all(sched->sim);
    sim_place = to->place;
    before_switch(from, to);
    (void)swapcontext(&from->context, &to->context);
    after_switch(sched);
}

void sim_sched_stop(struct sim_sched *sched, enum sim_sched_end end)
{
    sched->end = end;
    sched->current->state = CO_ENDED;
    switch_to(sched, host(sched));
    abort();
}

/* ---- what went wrong ---- */

static void say(struct sim_sched *sched, const char *format, ...) NEOMM_PRINTF(2, 3);

static void say(struct sim_sched *sched, const char *format, ...)
{
    char *text = sched->result->text;
    size_t used = strlen(text), size = sizeof(sched->result->text);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

size_t sim_code_offset(const void *where)
{
    Dl_info info;
    if (!where || !dladdr(where, &info))
        return 0;
    return (size_t)((uintptr_t)where - (uintptr_t)info.dli_fbase);
}

static void say_where(struct sim_sched *sched, const struct sim_co *co)
{
    static const char *const states[] = {"can run", "spins", "waits for calls to run", "sleeps",
                                         "has ended"};
    say(sched, "CPU %u %s", index_of(sched, co), states[co->state]);
    if (co->state == CO_WAITING)
        say(sched, " until a word is not %#x", co->value);
    if (co->state == CO_CALLING)
        say(sched, " on %u CPUs", co->unanswered);
    if (co->state != CO_ENDED)
        say(sched, ", %u locks held, last %s at +%#zx", co->place.cpu->port.lock_depth, co->doing,
            sim_code_offset(co->where));
    say(sched, "\n");
}

static void stop_with_places(struct sim_sched *sched, enum sim_sched_end end)
{
    sched->current->place = sim_place;
    for (uint32_t i = 0; i < sched->scenario->cpus; i++)
        say_where(sched, &sched->co[i]);
    sim_sched_stop(sched, end);
}

/* ---- who can go on ---- */

static bool can_go_on(const struct sim_sched *sched, const struct sim_co *co)
{
    bool masked = co == sched->current ? sim_place.masked : co->place.masked;
    switch (co->state) {
    case CO_READY:
        return true;
    case CO_SPINNING:
        return co->spun_at != sched->progress || (co->callers != 0 && !masked);
    case CO_CALLING:
        return co->unanswered == 0 || co->callers != 0;
    case CO_WAITING:
        return co->woken || co->timed_out || sim_disks_pending(sched->sim) != 0;
    case CO_ENDED:
        break;
    }
    return false;
}

/* The CPUs that can go on, the running one first; and a disk, if that can be interrupted. */
static uint32_t list_options(const struct sim_sched *sched, uint8_t *option, bool *preemptive)
{
    uint32_t cpus = sched->scenario->cpus, count = 0;
    uint32_t self = sched->current == &sched->co[cpus] ? 0 : index_of(sched, sched->current);
    for (uint32_t i = 0; i < cpus; i++) {
        uint32_t cpu = (self + i) % cpus;
        if (can_go_on(sched, &sched->co[cpu]))
            option[count++] = (uint8_t)cpu;
    }
    *preemptive = count > 0 && &sched->co[option[0]] == sched->current;
    if (*preemptive && sched->current->state == CO_READY && !sim_place.masked &&
        sim_disks_pending(sched->sim) != 0)
        option[count++] = (uint8_t)cpus;
    return count;
}

/* Nobody can go on: time passes until the first of those that wait for a limited time. */
static bool let_time_pass(struct sim_sched *sched)
{
    struct sim_co *first = NULL;
    for (uint32_t i = 0; i < sched->scenario->cpus; i++) {
        struct sim_co *co = &sched->co[i];
        if (co->state == CO_WAITING && co->timeout != UINT64_MAX &&
            (!first || co->timeout < first->timeout))
            first = co;
    }
    if (!first)
        return false;
    sim_clock_advance(sched->sim, first->timeout);
    first->timed_out = true;
    return true;
}

/* Who looks at several words before it spins may have seen each of them too early. So those who
 * spin look again before it is said that nobody ever will go on. */
static bool let_look_again(struct sim_sched *sched)
{
    bool any = false;
    if (sched->last_looks == LAST_LOOKS)
        return false;
    sched->last_looks++;
    for (uint32_t i = 0; i < sched->scenario->cpus; i++)
        if (sched->co[i].state == CO_SPINNING) {
            sched->co[i].spun_at = sched->progress - 1;
            any = true;
        }
    return any;
}

/* Goes on with somebody, perhaps the same; returns when the caller does. */
static void reschedule(struct sim_sched *sched)
{
    uint8_t option[OPTIONS_MAX];
    bool preemptive;
    uint32_t count = list_options(sched, option, &preemptive);
    if (count == 0 && (let_time_pass(sched) || let_look_again(sched)))
        count = list_options(sched, option, &preemptive);
    if (count == 0)
        stop_with_places(sched, SIM_SCHED_DEADLOCK);
    uint32_t next = sim_sched_decide(sched, option, count, preemptive);
    if (next == sched->scenario->cpus)
        (void)sim_disk_complete_one(sched->sim);
    else
        switch_to(sched, &sched->co[next]);
}

/* ---- calls to other CPUs ---- */

/* One CPU's call, in an interrupt handler on this one. */
static void serve(struct sim_sched *sched, uint32_t caller)
{
    struct sim_co *self = sched->current, *from = &sched->co[caller];
    struct sim_place *place = &sim_place;
    uint32_t depth = place->cpu->port.lock_depth, saves = place->saves;
    bool masked = place->masked;
    enum sim_co_state state = self->state;
    self->callers &= ~(1u << caller);
    self->state = CO_READY;
    place->masked = true;
    place->interrupts++;
    sim_cpu_drain_stores(place->cpu);
    from->call(from->argument);
    if (place->cpu->port.lock_depth != depth)
        sim_violation(sched->sim, "port: a call on CPU %u took or released a lock",
                      place->cpu->index);
    if (!place->masked || place->saves != saves)
        sim_violation(sched->sim, "port: a call on CPU %u left interrupts in another state",
                      place->cpu->index);
    place->interrupts--;
    place->masked = masked;
    self->state = state;
    from->unanswered--;
    sched->progress++;
}

static void serve_all(struct sim_sched *sched)
{
    struct sim_co *self = sched->current;
    for (uint32_t i = 0; i < sched->scenario->cpus; i++)
        if (self->callers >> i & 1)
            serve(sched, i);
}

void sim_sched_unmasked(void)
{
    struct sim_sched *sched = sim_place.sched;
    if (sched->current->callers != 0 && sched->quiet == 0)
        serve_all(sched);
}

/* A CPU without a coroutine, one that has ended and one that waits do nothing else: they run the
 * call at once. */
static bool is_idle(const struct sim_sched *sched, uint32_t cpu)
{
    return cpu >= sched->scenario->cpus || sched->co[cpu].state == CO_ENDED ||
           sched->co[cpu].state == CO_WAITING;
}

static void place_call(struct sim_sched *sched, uint32_t target)
{
    struct sim_co *self = sched->current;
    if (is_idle(sched, target)) {
        sched->quiet++;
        sim_cpu_drain_stores(&sched->sim->cpu[target]);
        sim_run_as(sched->sim, target, self->call, self->argument);
        sched->quiet--;
    } else {
        sched->co[target].callers |= 1u << index_of(sched, self);
        self->unanswered++;
    }
}

/* While it waits for the others the CPU serves calls itself, interrupts masked or not. */
void sim_sched_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument)
{
    struct sim_sched *sched = sim_place.sched;
    struct sim_co *self = sched->current;
    sim_sched_switch("calls other CPUs", __builtin_return_address(0));
    self->call = call;
    self->argument = argument;
    for (uint32_t i = 0; i < sched->sim->options.cpus; i++)
        if (i != sim_place.cpu->index && cpus->word[i / 32] >> (i % 32) & 1)
            place_call(sched, i);
    sched->progress++;
    while (self->unanswered != 0) {
        self->state = CO_CALLING;
        reschedule(sched);
        serve_all(sched);
    }
    self->state = CO_READY;
}

/* ---- points ---- */

static void count_point(struct sim_sched *sched, const char *doing, const void *where)
{
    uint64_t most = sched->options->points ? sched->options->points : POINTS_MAX;
    sched->current->doing = doing;
    sched->current->where = where;
    if (sched->traced)
        (void)fprintf(stderr, "sched: %zu: CPU %u %s at +%#zx\n", sched->decisions,
                      index_of(sched, sched->current), doing, sim_code_offset(where));
    if (++sched->points > most)
        stop_with_places(sched, SIM_SCHED_LIVELOCK);
}

void sim_sched_switch(const char *doing, const void *where)
{
    struct sim_sched *sched = sim_place.sched;
    if (sched->quiet != 0)
        return;
    count_point(sched, doing, where);
    sched->progress++;
    reschedule(sched);
    if (!sim_place.masked)
        serve_all(sched);
}

void sim_sched_point(void)
{
    sim_sched_here("is at a point of its own", __builtin_return_address(0));
}

void sim_sched_spin(const void *where)
{
    struct sim_sched *sched = sim_place.sched;
    struct sim_co *self = sched->current;
    if (sched->quiet != 0)
        return;
    count_point(sched, "spins", where);
    self->state = CO_SPINNING;
    self->spun_at = sched->progress;
    reschedule(sched);
    self->state = CO_READY;
    if (!sim_place.masked)
        serve_all(sched);
}

/* ---- waiting ---- */

/* From the comparison to being one that waits there is no point, as the port promises. A disk's
 * interrupt finds the CPU idle; after it the task sleeps on, unless it was woken. */
neomm_status sim_sched_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns,
                            const void *where)
{
    struct sim_sched *sched = sim_place.sched;
    struct sim_co *self = sched->current;
    sim_sched_switch("waits", where);
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value)
        return NEOMM_OK;
    self->word = word;
    self->value = value;
    self->timeout = timeout_ns;
    self->turn = ++sched->turns;
    self->woken = self->timed_out = false;
    while (!self->woken && !self->timed_out) {
        self->state = CO_WAITING;
        sched->progress++;
        reschedule(sched);
        self->state = CO_READY;
        if (!self->woken && !self->timed_out)
            (void)sim_disk_complete_one(sched->sim);
    }
    self->word = NULL;
    return self->woken ? NEOMM_OK : NEOMM_E_TIMEOUT;
}

static struct sim_co *longest_waiter(struct sim_sched *sched, const uint32_t *word)
{
    struct sim_co *first = NULL;
    for (uint32_t i = 0; i < sched->scenario->cpus; i++) {
        struct sim_co *co = &sched->co[i];
        if (co->word == word && !co->woken && (!first || co->turn < first->turn))
            first = co;
    }
    return first;
}

void sim_sched_wake(const uint32_t *word, uint32_t count)
{
    struct sim_sched *sched = sim_place.sched;
    struct sim_co *co;
    while (count-- > 0 && (co = longest_waiter(sched, word)) != NULL)
        co->woken = true;
    sched->progress++;
}

/* ---- one schedule ---- */

/* A CPU ends as it began. */
static void check_ended(struct sim_sched *sched)
{
    const struct sim_place *place = &sim_place;
    if (place->masked || place->saves != 0)
        sim_violation(sched->sim, "port: a CPU ended with interrupts masked");
    if (place->pins != 0)
        sim_violation(sched->sim, "port: a CPU ended pinned");
    if (place->cpu->port.lock_depth != 0)
        sim_violation(sched->sim, "port: a CPU ended with %u locks held",
                      place->cpu->port.lock_depth);
}

static bool all_ended(const struct sim_sched *sched)
{
    for (uint32_t i = 0; i < sched->scenario->cpus; i++)
        if (sched->co[i].state != CO_ENDED)
            return false;
    return true;
}

/* The bottom of a coroutine's stack: here it begins, and here a bad end comes back to. */
static void enter(void)
{
    struct sim_sched *sched = sim_place.sched;
    struct sim_co *self = sched->current;
    after_switch(sched);
    if (sigsetjmp(self->catcher.back, 0) == 0) {
        sched->scenario->run(sched->scenario->context, index_of(sched, self));
        check_ended(sched);
        sim_cpu_drain_stores(sim_place.cpu);
        serve_all(sched);
    } else {
        say(sched, "CPU %u: %s\n", index_of(sched, self), self->catcher.text);
        sim_sched_stop(sched, SIM_SCHED_CRASH);
    }
    self->state = CO_ENDED;
    sched->progress++;
    if (all_ended(sched))
        sim_sched_stop(sched, SIM_SCHED_DONE);
    reschedule(sched);
    abort();
}

/* What functions that never returned have left of their own in AddressSanitizer's books: whoever
 * has this memory next may have it. */
static void forget_frames(void *stack)
{
#if ASAN
    __asan_unpoison_memory_region(stack, STACK_BYTES);
#else
    (void)stack;
#endif
}

static void prepare(struct sim_sched *sched, uint32_t cpu)
{
    struct sim_co *co = &sched->co[cpu];
    void *stack = co->stack;
    memset(co, 0, sizeof(*co));
    sched->sim->cpu[cpu].late = NULL;
    co->stack = stack;
    co->stack_size = STACK_BYTES;
    co->doing = "was to begin";
    co->place = (struct sim_place){
        .sim = sched->sim, .cpu = &sched->sim->cpu[cpu], .catcher = &co->catcher, .sched = sched};
    forget_frames(stack);
    (void)getcontext(&co->context);
    co->context.uc_stack.ss_sp = stack;
    co->context.uc_stack.ss_size = STACK_BYTES;
    co->context.uc_link = NULL;
    makecontext(&co->context, enter, 0);
}

void sim_sched_run(struct sim_sched *sched)
{
    struct sim_place before = sim_place;
    for (uint32_t i = 0; i < sched->scenario->cpus; i++)
        prepare(sched, i);
    sched->current = host(sched);
    sched->quiet = 0;
    sched->progress = sched->points = sched->turns = 0;
    sched->last_looks = 0;
    sched->end = SIM_SCHED_DONE;
    host(sched)->state = CO_READY;
    reschedule(sched);
    sim_place = before;
}

bool sim_sched_create(struct sim_sched *sched)
{
    for (uint32_t i = 0; i < sched->scenario->cpus; i++) {
        void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED)
            return false;
        sched->co[i].stack = stack;
    }
    return true;
}

void sim_sched_destroy(struct sim_sched *sched)
{
    for (uint32_t i = 0; i < sched->scenario->cpus; i++) {
        if (!sched->co[i].stack)
            continue;
        forget_frames(sched->co[i].stack);
        (void)munmap(sched->co[i].stack, STACK_BYTES);
    }
    free(sched->decision);
}
