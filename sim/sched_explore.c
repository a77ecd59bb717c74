/* Which CPU goes on: by chance, all ways in turn, or as named; and the names.
 * SPDX-License-Identifier: MIT */
#include "sched_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RARITIES 13u

const char *sim_sched_end_text(enum sim_sched_end end)
{
    static const char *const text[] = {"done",  "wrong",    "deadlock", "livelock",
                                       "crash", "diverged", "refused"};
    return (unsigned)end < sizeof(text) / sizeof(text[0]) ? text[end] : "?";
}

/* splitmix64, apart from the machine's, whose numbers are the same in all schedules of a seed */
static uint64_t draw(struct sim_sched *sched)
{
    uint64_t x = sched->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ---- one decision ---- */

static uint32_t by_chance(struct sim_sched *sched, uint32_t count, bool preemptive)
{
    if (!preemptive)
        return (uint32_t)(draw(sched) % count);
    if (sched->preemptions >= sched->bound || draw(sched) & ((1u << sched->rarity) - 1))
        return 0;
    return 1 + (uint32_t)(draw(sched) % (count - 1));
}

/* The rank that the name gives this decision. */
static uint32_t by_name(struct sim_sched *sched, const struct sim_decision *decision)
{
    char *end;
    unsigned long long number = strtoull(sched->next, &end, 10);
    if (end == sched->next || number != sched->decisions)
        return 0;
    unsigned long wanted = *end == ':' ? strtoul(end + 1, &end, 10) : OPTIONS_MAX;
    sched->next = *end == ',' ? end + 1 : end;
    for (uint32_t i = 0; i < decision->count; i++)
        if (decision->option[i] == wanted)
            return i;
    sched->diverged = true;
    return 0;
}

static bool same_options(const struct sim_decision *a, const struct sim_decision *b)
{
    return a->count == b->count && memcmp(a->option, b->option, a->count) == 0;
}

static uint32_t rank_of(struct sim_sched *sched, const struct sim_decision *decision)
{
    const struct sim_decision *given = &sched->decision[sched->decisions];
    if (sched->options->mode == SIM_SCHED_RANDOM)
        return by_chance(sched, decision->count, decision->preemptive);
    if (sched->options->mode == SIM_SCHED_REPLAY)
        return by_name(sched, decision);
    if (sched->decisions >= sched->prefix || sched->diverged)
        return 0;
    if (same_options(given, decision))
        return given->rank;
    sched->diverged = true;
    return 0;
}

static void make_room(struct sim_sched *sched)
{
    if (sched->decisions < sched->capacity)
        return;
    sched->capacity = sched->capacity ? 2 * sched->capacity : 1024;
    sched->decision = realloc(sched->decision, sched->capacity * sizeof(*sched->decision));
    if (!sched->decision)
        sim_crash(NULL, true, "sim: the host refused memory for the decisions of a schedule");
}

uint32_t sim_sched_decide(struct sim_sched *sched, const uint8_t *option, uint32_t count,
                          bool preemptive)
{
    struct sim_decision decision = {
        .count = (uint8_t)count, .preemptive = preemptive, .before = sched->preemptions};
    if (count == 1)
        return option[0];
    make_room(sched);
    memcpy(decision.option, option, count);
    decision.rank = (uint8_t)rank_of(sched, &decision);
    sched->decision[sched->decisions++] = decision;
    if (preemptive && decision.rank != 0)
        sched->preemptions++;
    return option[decision.rank];
}

/* ---- one schedule ---- */

static void write_name(const struct sim_sched *sched)
{
    struct sim_sched_result *result = sched->result;
    size_t used = 0, size = sizeof(result->choices);
    result->cut = false;
    result->choices[0] = '\0';
    for (size_t i = 0; i < sched->decisions; i++) {
        const struct sim_decision *decision = &sched->decision[i];
        char one[32];
        if (decision->rank == 0)
            continue;
        int length = snprintf(one, sizeof(one), "%s%zu:%u", used ? "," : "", i,
                              decision->option[decision->rank]);
        result->cut = used + (size_t)length >= size;
        if (result->cut)
            return;
        memcpy(result->choices + used, one, (size_t)length + 1);
        used += (size_t)length;
    }
}

static bool fits(const struct sim_sched *sched)
{
    return sched->sim && sched->sim->options.cpus >= sched->scenario->cpus &&
           !sim_is_threaded(sched->sim);
}

/* True: all was well. */
static bool run_one(struct sim_sched *sched, uint64_t seed)
{
    const struct sim_scenario *scenario = sched->scenario;
    struct sim_sched_result *result = sched->result;
    result->seed = seed;
    sched->sim = scenario->begin(scenario->context, seed);
    if (!fits(sched)) {
        result->end = SIM_SCHED_REFUSED;
        return false;
    }
    sched->decisions = 0;
    sched->preemptions = 0;
    sched->diverged = false;
    sched->next = sched->options->choices ? sched->options->choices : "";
    sched->random = seed;
    sched->rarity = (unsigned)(draw(sched) % RARITIES);
    if (sched->options->mode == SIM_SCHED_RANDOM)
        sched->bound = (uint32_t)(draw(sched) % (sched->options->preemptions + 1u));
    sim_sched_run(sched);
    if (sched->diverged || (sched->options->mode == SIM_SCHED_REPLAY && *sched->next != '\0'))
        sched->end = SIM_SCHED_DIVERGED;
    if (!scenario->end(scenario->context, sched->end) && sched->end == SIM_SCHED_DONE)
        sched->end = SIM_SCHED_WRONG;
    result->end = sched->end;
    result->schedules++;
    result->points += sched->points;
    result->preemptions = sched->preemptions;
    write_name(sched);
    return result->end == SIM_SCHED_DONE;
}

/* ---- many ---- */

/* The next schedule, depth first: the last decision that has a further option within the bound. */
static bool advance(struct sim_sched *sched)
{
    for (size_t i = sched->decisions; i-- > 0;) {
        struct sim_decision *decision = &sched->decision[i];
        if (decision->rank + 1 < decision->count &&
            decision->before + decision->preemptive <= sched->bound) {
            decision->rank++;
            sched->prefix = i + 1;
            return true;
        }
    }
    return false;
}

static bool run_all(struct sim_sched *sched)
{
    const struct sim_sched_options *options = sched->options;
    struct sim_sched_result *result = sched->result;
    for (sched->bound = 0; sched->bound <= options->preemptions; sched->bound++) {
        result->schedules = 0; /* those with fewer preemptions come again */
        sched->prefix = 0;
        do {
            if (!run_one(sched, options->seed))
                return false;
            if (result->schedules == options->schedules)
                return true;
        } while (advance(sched));
    }
    result->complete = true;
    return true;
}

static bool run_some(struct sim_sched *sched)
{
    const struct sim_sched_options *options = sched->options;
    bool replay = options->mode == SIM_SCHED_REPLAY;
    uint64_t schedules = replay ? 1 : options->schedules;
    bool well = true;
    for (uint64_t i = 0; well && i < schedules; i++)
        well = run_one(sched, options->seed + i);
    return well;
}

/* NEOMM_SCHEDULE="SEED CHOICES" in the environment: that one schedule instead, with a trace. */
static bool read_wish(struct sim_sched_options *options)
{
    const char *wish = getenv("NEOMM_SCHEDULE");
    char *end;
    if (!wish)
        return false;
    options->mode = SIM_SCHED_REPLAY;
    options->seed = strtoull(wish, &end, 10);
    options->choices = end + strspn(end, " ");
    return true;
}

bool sim_sched_explore(const struct sim_scenario *scenario, const struct sim_sched_options *options,
                       struct sim_sched_result *result)
{
    struct sim_sched_options wish = *options;
    bool well = false;
    memset(result, 0, sizeof(*result));
    result->end = SIM_SCHED_REFUSED;
    if (sim_sched_unavailable() || sim_place.sched || scenario->cpus == 0 ||
        scenario->cpus > SIM_SCHED_CPUS)
        return false;
    struct sim_sched *sched = calloc(1, sizeof(*sched));
    if (!sched)
        return false;
    sched->traced = read_wish(&wish);
    sched->scenario = scenario;
    sched->options = &wish;
    sched->result = result;
    if (sim_sched_create(sched))
        well = wish.mode == SIM_SCHED_EXHAUSTIVE ? run_all(sched) : run_some(sched);
    sim_sched_destroy(sched);
    free(sched);
    return well;
}
