/* The scheduler of the simulated machine: it finds known races, names them so that they come
 * again, finds nothing where there is nothing, and tries exactly the schedules that there are.
 * SPDX-License-Identifier: MIT */
#include "sched_note.h"

#include "base/lock.h"

#define CPUS_MAX 3u

struct play;

/* What the CPUs do, and whether what came out is right. */
struct script {
    uint32_t cpus;
    void (*run)(struct play *play, uint32_t cpu);
    bool (*right)(const struct play *play);
};

struct play {
    const struct script *script;
    struct sim *sim;
    struct neomm__lock lock[2];
    uint32_t word, value, flag;
    uint32_t points; /* of each CPU */
    uint32_t seen[CPUS_MAX], order[8], orders;
    uint32_t early, late;
    struct neomm_block_device *disk;
    struct neomm_block_request request;
};

static struct sim *begin(void *context, uint64_t seed)
{
    struct play *play = context;
    const struct sim_options options = {.format = UINTPTR_MAX > 0xffffffffu ? NEOMM_FORMAT_4LEVEL
                                                                            : NEOMM_FORMAT_PAE,
                                        .ram_bytes = 1u << 20,
                                        .cpus = CPUS_MAX,
                                        .seed = seed};
    if (!play->sim)
        play->sim = sim_create(&options);
    neomm__lock_init(&play->lock[0], NEOMM_LOCK_CLASS_SWAP);
    neomm__lock_init(&play->lock[1], NEOMM_LOCK_CLASS_PMM);
    play->word = play->value = play->flag = play->orders = 0;
    memset(play->seen, 0, sizeof(play->seen));
    return play->sim;
}

static void run(void *context, uint32_t cpu)
{
    struct play *play = context;
    play->script->run(play, cpu);
}

/* A machine whose CPUs stopped half-way is thrown away. */
static bool end(void *context, enum sim_sched_end how)
{
    struct play *play = context;
    if (how == SIM_SCHED_DONE)
        return !play->script->right || play->script->right(play);
    sim_destroy(play->sim);
    play->sim = NULL;
    return false;
}

static bool explore(struct play *play, const struct sim_sched_options *options,
                    struct sim_sched_result *result)
{
    const struct sim_scenario scenario = {play->script->cpus, play, begin, run, end};
    bool well = sim_sched_explore(&scenario, options, result);
    if (play->sim)
        sim_destroy(play->sim);
    play->sim = NULL;
    return well;
}

static bool explore_all(const struct script *script, uint32_t preemptions,
                        struct sim_sched_result *result)
{
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .preemptions = preemptions};
    struct play play = {.script = script};
    return explore(&play, &options, result);
}

/* The schedule comes again by its name, and ends as it did. */
static void expect_again(struct ktap *t, const struct script *script,
                         const struct sim_sched_result *first)
{
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_REPLAY, .seed = first->seed, .choices = first->choices};
    struct sim_sched_result again;
    struct play play = {.script = script};
    EXPECT(t, !first->cut);
    EXPECT(t, !explore(&play, &options, &again));
    EXPECT_EQ(t, again.end, first->end);
    EXPECT_EQ(t, again.preemptions, first->preemptions);
    EXPECT_EQ(t, strcmp(again.choices, first->choices), 0);
    EXPECT_EQ(t, strcmp(again.text, first->text), 0);
}

static bool unavailable(struct ktap *t)
{
    if (sim_sched_unavailable())
        ktap_skip(t, sim_sched_unavailable());
    return sim_sched_unavailable() != NULL;
}

/* ---- how many schedules there are ---- */

/* Sequences of the CPUs' pieces (one more than its points) with at most `left` preemptions, tried
 * one piece after the other. */
static uint64_t count_schedules(uint32_t cpus, uint32_t *pieces, uint32_t last, uint32_t left)
{
    uint64_t count = 0;
    bool over = true;
    for (uint32_t cpu = 0; cpu < cpus; cpu++) {
        if (pieces[cpu] == 0)
            continue;
        over = false;
        bool preempts = last < cpus && cpu != last && pieces[last] > 0;
        if (preempts && left == 0)
            continue;
        pieces[cpu]--;
        count += count_schedules(cpus, pieces, cpu, left - preempts);
        pieces[cpu]++;
    }
    return over ? 1 : count;
}

static void only_points(struct play *play, uint32_t cpu)
{
    (void)cpu;
    for (uint32_t i = 0; i < play->points; i++)
        sim_sched_point();
}

static uint64_t schedules_of(struct ktap *t, uint32_t cpus, uint32_t points, uint32_t preemptions)
{
    const struct script script = {cpus, only_points, NULL};
    const struct sim_sched_options options = {.mode = SIM_SCHED_EXHAUSTIVE,
                                              .preemptions = preemptions};
    struct sim_sched_result result;
    struct play play = {.script = &script, .points = points};
    EXPECT(t, explore(&play, &options, &result));
    EXPECT(t, result.complete);
    return result.schedules;
}

/* Two CPUs with a point each: AABB BBAA; ABBA BAAB; ABAB BABA. */
static void counts_by_hand(struct ktap *t)
{
    if (unavailable(t))
        return;
    EXPECT_EQ(t, schedules_of(t, 1, 3, 2), 1);
    EXPECT_EQ(t, schedules_of(t, 2, 1, 0), 2);
    EXPECT_EQ(t, schedules_of(t, 2, 1, 1), 4);
    EXPECT_EQ(t, schedules_of(t, 2, 1, 2), 6);
    EXPECT_EQ(t, schedules_of(t, 2, 1, 9), 6);
    EXPECT_EQ(t, schedules_of(t, 2, 2, 9), 20); /* 6 over 3 */
    EXPECT_EQ(t, schedules_of(t, 3, 0, 9), 6);
    EXPECT_EQ(t, schedules_of(t, 3, 1, 9), 90); /* 6! / 2!^3 */
}

static void counts_as_a_model_does(struct ktap *t)
{
    if (unavailable(t))
        return;
    for (uint32_t cpus = 1; cpus <= CPUS_MAX; cpus++) {
        for (uint32_t points = 0; points <= 4 - cpus; points++) {
            for (uint32_t preemptions = 0; preemptions <= 4; preemptions++) {
                uint32_t pieces[CPUS_MAX] = {points + 1, points + 1, points + 1};
                EXPECT_EQ(t, schedules_of(t, cpus, points, preemptions),
                          count_schedules(cpus, pieces, CPUS_MAX, preemptions));
            }
        }
    }
}

static void stops_where_told(struct ktap *t)
{
    static const struct script script = {2, only_points, NULL};
    const struct sim_sched_options options = {
        .mode = SIM_SCHED_EXHAUSTIVE, .preemptions = 3, .schedules = 2};
    struct sim_sched_result result;
    struct play play = {.script = &script, .points = 3};
    if (unavailable(t))
        return;
    EXPECT(t, explore(&play, &options, &result));
    EXPECT_EQ(t, result.schedules, 2);
    EXPECT(t, !result.complete);
}

/* ---- a race ---- */

static void count_naively(struct play *play, uint32_t cpu)
{
    (void)cpu;
    uint32_t value = neomm__load_acquire(&play->value);
    neomm__store_release(&play->value, value + 1);
}

static void count_with_lock(struct play *play, uint32_t cpu)
{
    neomm_irq_t irq = neomm__lock(&play->lock[0]);
    count_naively(play, cpu);
    neomm__unlock(&play->lock[0], irq);
}

static void count_with_mutex(struct play *play, uint32_t cpu)
{
    neomm__mutex_lock(&play->lock[0]);
    count_naively(play, cpu);
    neomm__mutex_unlock(&play->lock[0]);
}

static void count_atomically(struct play *play, uint32_t cpu)
{
    (void)cpu;
    (void)neomm__fetch_add(&play->value, 1);
}

static bool counted_all(const struct play *play)
{
    return play->value == play->script->cpus;
}

static void finds_a_lost_update(struct ktap *t)
{
    static const struct script naive = {2, count_naively, counted_all};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, explore_all(&naive, 0, &result));
    EXPECT_EQ(t, result.schedules, 2);
    EXPECT(t, !explore_all(&naive, 1, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_WRONG);
    EXPECT_EQ(t, result.preemptions, 1);
    sched_note(t, &result);
    expect_again(t, &naive, &result);
}

static void finds_it_by_chance(struct ktap *t)
{
    static const struct script naive = {2, count_naively, counted_all};
    struct sim_sched_options options = {
        .mode = SIM_SCHED_RANDOM, .seed = 1, .schedules = 200, .preemptions = 2};
    struct sim_sched_result result, again;
    struct play play = {.script = &naive};
    if (unavailable(t))
        return;
    EXPECT(t, !explore(&play, &options, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_WRONG);
    expect_again(t, &naive, &result);
    options.seed = result.seed;
    options.schedules = 1;
    EXPECT(t, !explore(&play, &options, &again));
    EXPECT_EQ(t, strcmp(again.choices, result.choices), 0);
    options.preemptions = 0;
    options.schedules = 200;
    EXPECT(t, explore(&play, &options, &again));
    EXPECT_EQ(t, again.schedules, 200);
}

static void locks_and_atomics_are_right(struct ktap *t)
{
    static const struct script right[] = {{2, count_with_lock, counted_all},
                                          {3, count_with_lock, counted_all},
                                          {2, count_with_mutex, counted_all},
                                          {3, count_with_mutex, counted_all},
                                          {3, count_atomically, counted_all}};
    if (unavailable(t))
        return;
    for (unsigned i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        struct sim_sched_result result;
        EXPECT(t, explore_all(&right[i], right[i].cpus == 2 ? 4 : 2, &result));
        EXPECT(t, result.complete && result.schedules > 10);
        if (result.end != SIM_SCHED_DONE)
            sched_note(t, &result);
    }
}

/* ---- waiting ---- */

/* The one that waits looks at a flag, and sleeps on a word that nobody changes. */
static void lose_a_wakeup(struct play *play, uint32_t cpu)
{
    if (cpu == 0) {
        neomm__store_release(&play->flag, 1);
        neomm_port_wake(&play->word, 1);
    } else if (neomm__load_acquire(&play->flag) == 0) {
        (void)neomm_port_wait(&play->word, 0, UINT64_MAX);
    }
}

static void keep_the_wakeup(struct play *play, uint32_t cpu)
{
    if (cpu == 0) {
        neomm__store_release(&play->word, 1);
        neomm_port_wake(&play->word, 1);
    } else {
        while (neomm__load_acquire(&play->word) == 0)
            (void)neomm_port_wait(&play->word, 0, UINT64_MAX);
    }
}

static void finds_a_lost_wakeup(struct ktap *t)
{
    static const struct script lost = {2, lose_a_wakeup, NULL}, kept = {2, keep_the_wakeup, NULL};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, explore_all(&lost, 0, &result));
    EXPECT(t, !explore_all(&lost, 1, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_DEADLOCK);
    EXPECT(t, strstr(result.text, "CPU 0 has ended\nCPU 1 sleeps until a word is not 0"));
    sched_note(t, &result);
    expect_again(t, &lost, &result);
    EXPECT(t, explore_all(&kept, 3, &result));
    EXPECT(t, result.complete);
}

static void take_both_mutexes(struct play *play, uint32_t cpu)
{
    neomm__mutex_lock(&play->lock[cpu]);
    neomm__mutex_lock(&play->lock[1 - cpu]);
    neomm__mutex_unlock(&play->lock[1 - cpu]);
    neomm__mutex_unlock(&play->lock[cpu]);
}

static void take_both_words(struct play *play, uint32_t cpu)
{
    uint32_t *word[2] = {&play->word, &play->flag};
    while (neomm__exchange(word[cpu], 1) != 0)
        neomm__spin();
    while (neomm__exchange(word[1 - cpu], 1) != 0)
        while (neomm__load_relaxed(word[1 - cpu]) != 0)
            neomm__spin();
    neomm__store_release(word[0], 0);
    neomm__store_release(word[1], 0);
}

static void finds_crossed_locks(struct ktap *t)
{
    static const struct script mutexes = {2, take_both_mutexes, NULL},
                               words = {2, take_both_words, NULL};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, explore_all(&mutexes, 0, &result));
    EXPECT(t, !explore_all(&mutexes, 1, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_DEADLOCK);
    EXPECT(t, strstr(result.text, "CPU 0 sleeps") && strstr(result.text, "CPU 1 sleeps"));
    expect_again(t, &mutexes, &result);
    EXPECT(t, explore_all(&words, 0, &result));
    EXPECT(t, !explore_all(&words, 1, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_DEADLOCK);
    EXPECT(t, strstr(result.text, "CPU 0 spins") && strstr(result.text, "CPU 1 spins"));
    expect_again(t, &words, &result);
}

static void wait_a_while(struct play *play, uint32_t cpu)
{
    uint64_t before = neomm_port_now();
    neomm_status status = neomm_port_wait(&play->word, 0, cpu == 0 ? 1000 : 5000);
    play->seen[cpu] = status == NEOMM_E_TIMEOUT && neomm_port_now() >= before + 1000;
    play->order[play->orders++] = cpu;
}

static bool waited_in_order(const struct play *play)
{
    return play->seen[0] && play->seen[1] && play->order[0] == 0 && play->order[1] == 1;
}

static void lets_time_pass(struct ktap *t)
{
    static const struct script script = {2, wait_a_while, waited_in_order};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, explore_all(&script, 1, &result));
    EXPECT(t, result.complete);
}

/* ---- calls to other CPUs ---- */

static void note_call(void *argument)
{
    struct play *play = argument;
    uint32_t cpu = neomm_port_cpu()->index;
    play->seen[cpu]++;
    if (play->flag & 1u << cpu || !sim_interrupts_masked() || neomm_port_task() != 0)
        neomm_port_panic("a call where none may run");
    neomm__store_release(&play->value, play->value + 1);
}

/* Each calls all others, with interrupts masked; bits of flag: must not be interrupted. */
static void call_each_other(struct play *play, uint32_t cpu)
{
    struct neomm_cpumask others = {.word = {7u & ~(1u << cpu)}};
    neomm_irq_t irq = neomm_port_irq_save();
    play->flag |= 1u << cpu;
    sim_sched_point();
    play->flag &= ~(1u << cpu);
    neomm_port_ipi(&others, note_call, play);
    play->flag |= 1u << cpu;
    sim_sched_point();
    play->flag &= ~(1u << cpu);
    neomm_port_irq_restore(irq);
}

static bool called_all(const struct play *play)
{
    uint32_t cpus = play->script->cpus;
    for (uint32_t i = 0; i < CPUS_MAX; i++)
        if (play->seen[i] != (i < cpus ? cpus - 1 : cpus))
            return false;
    return true;
}

static void serves_calls(struct ktap *t)
{
    static const struct script two = {2, call_each_other, called_all},
                               three = {3, call_each_other, called_all};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, explore_all(&two, 3, &result));
    EXPECT(t, result.complete && result.schedules > 50);
    EXPECT(t, explore_all(&three, 1, &result));
    if (result.end != SIM_SCHED_DONE)
        sched_note(t, &result);
}

/* CPU 1 spins for what CPU 0 holds, with interrupts masked: it never serves the call. */
static void spin_masked(struct play *play, uint32_t cpu)
{
    const struct neomm_cpumask other = {.word = {2}};
    neomm_irq_t irq = neomm_port_irq_save();
    while (neomm__exchange(&play->word, 1) != 0)
        neomm__spin();
    if (cpu == 0)
        neomm_port_ipi(&other, note_call, play);
    neomm__store_release(&play->word, 0);
    neomm_port_irq_restore(irq);
}

static void spin_as_locks_do(struct play *play, uint32_t cpu)
{
    const struct neomm_cpumask other = {.word = {2}};
    neomm_irq_t irq = neomm__lock(&play->lock[0]);
    if (cpu == 0)
        neomm_port_ipi(&other, note_call, play);
    neomm__unlock(&play->lock[0], irq);
}

static void finds_an_unserved_call(struct ktap *t)
{
    static const struct script masked = {2, spin_masked, NULL}, open = {2, spin_as_locks_do, NULL};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, !explore_all(&masked, 2, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_DEADLOCK);
    EXPECT(t, strstr(result.text, "CPU 0 waits for calls to run on 1 CPUs"));
    expect_again(t, &masked, &result);
    EXPECT(t, explore_all(&open, 4, &result));
    EXPECT(t, result.complete);
}

/* ---- disks ---- */

static void disk_done(struct neomm_block_request *request)
{
    struct play *play = request->context;
    play->flag = 1;
    neomm__store_release(&play->word, 1);
    neomm_port_wake(&play->word, 1);
}

/* Whether a request is on its way or over at once depends on the seed. */
static void read_a_page(struct play *play, uint32_t cpu)
{
    struct neomm_block_request *request = &play->request;
    if (cpu != 0)
        return;
    if (!play->disk)
        play->disk = sim_disk_create(play->sim, 4);
    *request = (struct neomm_block_request){.operation = NEOMM_BLOCK_READ,
                                            .frame = neomm_frame(1),
                                            .page = 1,
                                            .done = disk_done,
                                            .context = play};
    play->disk->submit(play->disk, &request, 1);
    sim_sched_point();
    play->early += play->flag;
    play->late += !play->flag;
    while (neomm__load_acquire(&play->word) == 0)
        (void)neomm_port_wait(&play->word, 0, UINT64_MAX);
}

static void disks_interrupt(struct ktap *t)
{
    static const struct script script = {1, read_a_page, NULL};
    if (unavailable(t))
        return;
    uint32_t early = 0, late = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        const struct sim_sched_options options = {
            .mode = SIM_SCHED_EXHAUSTIVE, .seed = seed, .preemptions = 1, .schedules = 64};
        struct sim_sched_result result;
        struct play play = {.script = &script};
        EXPECT(t, explore(&play, &options, &result));
        early += play.early;
        late += play.late;
        if (result.end != SIM_SCHED_DONE)
            sched_note(t, &result);
    }
    EXPECT(t, early > 0);
    EXPECT(t, late > 0);
}

/* ---- bad ends, bad names ---- */

static void panic_if_first(struct play *play, uint32_t cpu)
{
    play->seen[cpu] = 1;
    sim_sched_point();
    if (cpu == 1 && !play->seen[0])
        neomm_port_panic("the text of the panic");
}

static void wait_masked(struct play *play, uint32_t cpu)
{
    if (cpu == 0)
        (void)neomm_port_irq_save();
    else
        (void)neomm_port_wait(&play->word, 1, 0);
}

static void never_end(struct play *play, uint32_t cpu)
{
    while (!play->flag || cpu == 0)
        sim_sched_point();
}

static void reports_bad_ends(struct ktap *t)
{
    static const struct script panics = {2, panic_if_first, NULL}, masked = {2, wait_masked, NULL},
                               endless = {1, never_end, NULL};
    const struct sim_sched_options few = {.mode = SIM_SCHED_RANDOM, .schedules = 1, .points = 100};
    struct sim_sched_result result;
    struct play play = {.script = &endless};
    if (unavailable(t))
        return;
    EXPECT(t, !explore_all(&panics, 0, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_CRASH);
    EXPECT_EQ(t, strcmp(result.text, "CPU 1: the text of the panic\n"), 0);
    EXPECT_EQ(t, strcmp(result.choices, "0:1"), 0);
    expect_again(t, &panics, &result);
    EXPECT(t, !explore_all(&masked, 0, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_CRASH);
    EXPECT(t, strstr(result.text, "ended with interrupts masked"));
    EXPECT(t, !explore(&play, &few, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_LIVELOCK);
    EXPECT_EQ(t, result.points, 101);
}

static enum sim_sched_end end_of(const char *choices, uint32_t cpus)
{
    const struct script script = {cpus, only_points, NULL};
    const struct sim_sched_options options = {.mode = SIM_SCHED_REPLAY, .choices = choices};
    struct sim_sched_result result;
    struct play play = {.script = &script, .points = 2};
    (void)explore(&play, &options, &result);
    return result.end;
}

static void refuses_bad_names(struct ktap *t)
{
    if (unavailable(t))
        return;
    EXPECT_EQ(t, end_of("", 2), SIM_SCHED_DONE);
    EXPECT_EQ(t, end_of("0:1,2:0", 2), SIM_SCHED_DONE);
    EXPECT_EQ(t, end_of("0:2", 2), SIM_SCHED_DIVERGED);
    EXPECT_EQ(t, end_of("0", 2), SIM_SCHED_DIVERGED);
    EXPECT_EQ(t, end_of("1:1,0:1", 2), SIM_SCHED_DIVERGED);
    EXPECT_EQ(t, end_of("99:1", 2), SIM_SCHED_DIVERGED);
    EXPECT_EQ(t, end_of("0:1;", 2), SIM_SCHED_DIVERGED);
    EXPECT_EQ(t, end_of("x", 2), SIM_SCHED_DIVERGED);
    EXPECT_EQ(t, end_of("", 0), SIM_SCHED_REFUSED);
    EXPECT_EQ(t, end_of("", CPUS_MAX + 1), SIM_SCHED_REFUSED);
    EXPECT_EQ(t, end_of("", SIM_SCHED_CPUS + 1), SIM_SCHED_REFUSED);
}

/* The points of the second schedule are others than those of the first: the choices that are to
 * lead back to a decision of the first do not. */
static void change(struct play *play, uint32_t cpu)
{
    uint32_t times = cpu == 0 && play->early++ > 0 ? 0 : 3;
    for (uint32_t i = 0; i < times; i++)
        sim_sched_point();
}

static void notices_another_behaviour(struct ktap *t)
{
    static const struct script script = {3, change, NULL};
    struct sim_sched_result result;
    if (unavailable(t))
        return;
    EXPECT(t, !explore_all(&script, 2, &result));
    EXPECT_EQ(t, result.end, SIM_SCHED_DIVERGED);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(counts_by_hand),
    KTAP_CASE(counts_as_a_model_does),
    KTAP_CASE(stops_where_told),
    KTAP_CASE(finds_a_lost_update),
    KTAP_CASE(finds_it_by_chance),
    KTAP_CASE(locks_and_atomics_are_right),
    KTAP_CASE(finds_a_lost_wakeup),
    KTAP_CASE(finds_crossed_locks),
    KTAP_CASE(lets_time_pass),
    KTAP_CASE(serves_calls),
    KTAP_CASE(finds_an_unserved_call),
    KTAP_CASE(disks_interrupt),
    KTAP_CASE(reports_bad_ends),
    KTAP_CASE(refuses_bad_names),
    KTAP_CASE(notices_another_behaviour),
};
KTAP_SUITE(sched, cases);
