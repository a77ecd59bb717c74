/* Replacement policies against the textbook, and their registry.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/bits.h"
#include "base/root.h"
#include "swap/policy.h"
#include "swap/swap_priv.h"

#include <string.h>

#define PAGES  12
#define FRAMES 12
#define LENGTH 400

static const enum neomm_format formats[] = ENV_FORMATS;

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)next(seed) % limit;
}

/* ---- a domain, driven as vmm drives it ---- */

struct domain {
    struct ktap *t;
    struct neomm_policy policy;
    neomm_frame_t frame[FRAMES]; /* frame[i] is free or holds holds[i] */
    int holds[FRAMES];           /* page, -1: free */
    bool accessed[PAGES];
    uint32_t frames;
};

static bool domain_open(struct ktap *t, struct env *env, struct domain *domain, const char *name,
                        uint32_t frames)
{
    const struct env_options options = {.layer = ENV_SWAP, .format = formats[0]};
    memset(domain, 0, sizeof(*domain));
    if (!env_open(t, env, &options))
        return false;
    domain->t = t;
    domain->frames = frames;
    const struct neomm_policy_ops *ops = neomm_policy_find(env->root, name);
    neomm_policy_init(&domain->policy, env->root, ops, 1);
    for (uint32_t i = 0; i < FRAMES; i++) {
        EXPECT_OK(t, neomm_pmm_alloc(env->root, 0, 0, &domain->frame[i]));
        domain->holds[i] = -1;
    }
    return true;
}

static void note_finding(void *context, const char *line)
{
    ktap_note(context, "fsck: %s", line);
}

static size_t findings(struct domain *domain, bool quiet)
{
    struct neomm__report report = {quiet ? NULL : note_finding, domain->t, 0};
    neomm__policy_fsck(&domain->policy, &report);
    return report.findings;
}

static void domain_close(struct ktap *t, struct env *env, struct domain *domain)
{
    EXPECT_EQ(t, findings(domain, false), 0);
    for (uint32_t i = 0; i < FRAMES; i++) {
        if (domain->holds[i] >= 0)
            domain->policy.ops->leave(&domain->policy, domain->frame[i], NULL);
        EXPECT_OK(t, neomm_pmm_free(env->root, domain->frame[i], 0));
    }
    EXPECT_EQ(t, domain->policy.count, 0);
    for (unsigned i = 0; i < NEOMM_POLICY_QUEUES; i++) {
        EXPECT_EQ(t, domain->policy.queue[i].head, 0);
        EXPECT_EQ(t, domain->policy.queue[i].tail, 0);
    }
    env_close(t, env);
}

static uint32_t frame_index(const struct domain *domain, neomm_frame_t frame)
{
    uint32_t i = 0;
    while (i < FRAMES && domain->frame[i].number != frame.number)
        i++;
    return i;
}

/* Evicts one page; its place is free then. */
static uint32_t evict(struct domain *domain)
{
    struct neomm_policy *policy = &domain->policy;
    const struct neomm_swap_entry slot = {7, 0, NEOMM_SWAP_SLOT};
    for (unsigned tries = 0; tries < 8 * FRAMES + 8; tries++) {
        neomm_frame_t frame;
        if (policy->ops->candidates(policy, &frame, 1) != 1)
            break;
        uint32_t i = frame_index(domain, frame);
        if (i == FRAMES || domain->holds[i] < 0)
            break;
        bool accessed = domain->accessed[domain->holds[i]];
        domain->accessed[domain->holds[i]] = false;
        if (policy->ops->tested(policy, frame, accessed, false) == NEOMM_EVICT) {
            policy->ops->leave(policy, frame, &slot);
            domain->holds[i] = -1;
            return i;
        }
    }
    ktap_fail(domain->t, __FILE__, __LINE__, "a page could be evicted");
    return 0;
}

/* One reference; true: a fault. */
static bool refer(struct domain *domain, int page)
{
    uint32_t place = FRAMES;
    bool hit = false;
    for (uint32_t i = 0; i < domain->frames && !hit; i++) {
        if (domain->holds[i] < 0)
            place = i;
        hit = domain->holds[i] == page;
    }
    if (!hit) {
        if (place == FRAMES)
            place = evict(domain);
        domain->holds[place] = page;
        domain->policy.ops->enter(&domain->policy, domain->frame[place]);
    }
    domain->accessed[page] = true;
    return !hit;
}

/* ---- the textbook ---- */

/* A circle of places with reference bits and a hand; first in, first out is the circle whose
 * bits nobody looks at. */
struct textbook {
    bool second_chance;
    int page[FRAMES];
    bool used[FRAMES];
    uint32_t frames, filled, hand;
};

static bool textbook_refer(struct textbook *book, int page)
{
    for (uint32_t i = 0; i < book->filled; i++)
        if (book->page[i] == page) {
            book->used[i] = true;
            return false;
        }
    if (book->filled < book->frames) {
        book->page[book->filled] = page;
        book->used[book->filled++] = true;
        return true;
    }
    while (book->second_chance && book->used[book->hand]) {
        book->used[book->hand] = false;
        book->hand = (book->hand + 1) % book->frames;
    }
    book->page[book->hand] = page;
    book->used[book->hand] = true;
    book->hand = (book->hand + 1) % book->frames;
    return true;
}

static bool textbook_holds(const struct textbook *book, int page)
{
    for (uint32_t i = 0; i < book->filled; i++)
        if (book->page[i] == page)
            return true;
    return false;
}

/* The same pages are resident after every reference, so the same page was evicted each time. */
static void compare(const struct domain *domain, const struct textbook *book)
{
    for (uint32_t i = 0; i < domain->frames; i++)
        if (domain->holds[i] >= 0)
            EXPECT(domain->t, textbook_holds(book, domain->holds[i]));
}

/* The n-th reference of string number `string`: random, looping, mostly local. */
static int reference(uint32_t string, uint32_t n, uint64_t *seed)
{
    switch (string % 4) {
    case 0:
        return (int)below(seed, PAGES);
    case 1:
        return (int)(n % (3 + string / 4 % (PAGES - 2)));
    case 2:
        return (int)(below(seed, 4) ? below(seed, 4) : below(seed, PAGES));
    default:
        return (int)((n / 20 + below(seed, 4)) % PAGES);
    }
}

static void exact(struct ktap *t, const char *name, bool second_chance)
{
    uint32_t frames = (uint32_t)t->parameter;
    struct domain domain;
    struct env env;
    if (!domain_open(t, &env, &domain, name, frames))
        return;
    for (uint32_t string = 0; string < 24 && t->failures == 0; string++) {
        struct textbook book = {.second_chance = second_chance, .frames = frames};
        uint64_t seed = string + 1;
        uint32_t faults = 0, wanted = 0;
        for (uint32_t n = 0; n < LENGTH; n++) {
            int page = reference(string, n, &seed);
            faults += refer(&domain, page);
            wanted += textbook_refer(&book, page);
            compare(&domain, &book);
        }
        EXPECT_EQ(t, faults, wanted);
        EXPECT_EQ(t, findings(&domain, false), 0);
        for (uint32_t i = 0; i < frames; i++)
            if (domain.holds[i] >= 0) {
                domain.policy.ops->leave(&domain.policy, domain.frame[i], NULL);
                domain.holds[i] = -1;
            }
    }
    domain_close(t, &env, &domain);
}

static void fifo_is_textbook(struct ktap *t)
{
    exact(t, "fifo", false);
}

static void clock_is_textbook(struct ktap *t)
{
    exact(t, "clock", true);
}

/* Belady's own example: more frames, more faults. */
static void fifo_anomaly(struct ktap *t)
{
    static const int string[] = {1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5};
    static const uint32_t faults[] = {12, 12, 9, 10, 5};
    for (uint32_t frames = 1; frames <= 5; frames++) {
        struct domain domain;
        struct env env;
        uint32_t count = 0;
        if (!domain_open(t, &env, &domain, "fifo", frames))
            return;
        for (size_t i = 0; i < NEOMM__COUNT_OF(string); i++)
            count += refer(&domain, string[i]);
        EXPECT_EQ(t, count, faults[frames - 1]);
        domain_close(t, &env, &domain);
    }
}

/* ---- batches, and evictions that fail ---- */

static void enter_all(struct domain *domain)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        domain->policy.ops->enter(&domain->policy, domain->frame[i]);
        domain->holds[i] = (int)i;
    }
}

static void expect_candidates(struct domain *domain, uint32_t max, const uint32_t *want,
                              uint32_t count)
{
    neomm_frame_t out[NEOMM_POLICY_BATCH];
    uint32_t have = domain->policy.ops->candidates(&domain->policy, out, max);
    EXPECT_EQ(domain->t, have, count);
    for (uint32_t i = 0; i < have && i < count; i++)
        EXPECT_EQ(domain->t, frame_index(domain, out[i]), want[i]);
}

static void batch(struct ktap *t)
{
    static const uint32_t first[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    static const uint32_t spared[] = {3, 4, 5};
    struct domain domain;
    struct env env;
    if (!domain_open(t, &env, &domain, "clock", FRAMES))
        return;
    expect_candidates(&domain, NEOMM_POLICY_BATCH, first, 0);
    enter_all(&domain);
    expect_candidates(&domain, NEOMM_POLICY_BATCH, first, FRAMES);
    expect_candidates(&domain, 5, first, 5);
    expect_candidates(&domain, 0, first, 0);
    for (uint32_t i = 0; i < 3; i++)
        EXPECT_EQ(t, domain.policy.ops->tested(&domain.policy, domain.frame[i], true, i & 1),
                  NEOMM_KEEP);
    expect_candidates(&domain, 3, spared, 3);
    EXPECT_EQ(t, findings(&domain, false), 0);
    domain_close(t, &env, &domain);
}

/* A condemned page that stays is passed when somebody asks again, and gets its turn later. */
static void failed_eviction(struct ktap *t)
{
    static const uint32_t order[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0};
    static const uint32_t moved[] = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1};
    const char *const name[] = {"fifo", "clock"};
    struct domain domain;
    struct env env;
    if (!domain_open(t, &env, &domain, name[t->parameter], FRAMES))
        return;
    const struct neomm_policy_ops *ops = domain.policy.ops;
    enter_all(&domain);
    EXPECT_EQ(t, ops->tested(&domain.policy, domain.frame[0], false, true), NEOMM_EVICT);
    expect_candidates(&domain, FRAMES, order, FRAMES);
    expect_candidates(&domain, FRAMES, order, FRAMES);
    /* Told that it could not go, clock passes it at once, fifo when asked again. */
    EXPECT_EQ(t, ops->tested(&domain.policy, domain.frame[1], false, true), NEOMM_EVICT);
    (void)ops->tested(&domain.policy, domain.frame[1], true, true);
    expect_candidates(&domain, FRAMES, moved, FRAMES);
    /* All condemned at once: they all are candidates again. */
    for (uint32_t i = 0; i < FRAMES; i++)
        (void)ops->tested(&domain.policy, domain.frame[moved[i]], false, true);
    expect_candidates(&domain, FRAMES, moved, FRAMES);
    EXPECT_EQ(t, findings(&domain, false), 0);
    domain_close(t, &env, &domain);
}

/* ---- every policy: no page is lost, none is there twice ---- */

static const char *const policy_name[] = {"adaptive", "aging",   "clock",      "clockpro", "fifo",
                                          "gclock",   "nru",     "random",     "s3fifo",   "sieve",
                                          "ws",       "wsclock", "generations"};
#define POLICY_NAMES NEOMM__COUNT_OF(policy_name)

static uint32_t held(const struct domain *domain)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < FRAMES; i++)
        count += domain->holds[i] >= 0;
    return count;
}

/* Exactly the frames that entered are linked, each once. */
static void expect_all_there(struct domain *domain)
{
    unsigned times[FRAMES] = {0};
    for (unsigned q = 0; q < NEOMM_POLICY_QUEUES; q++)
        for (uint32_t number = domain->policy.queue[q].head; number != 0;
             number = neomm__frame(domain->policy.root, neomm_frame(number))->next) {
            uint32_t i = frame_index(domain, neomm_frame(number));
            EXPECT(domain->t, i < FRAMES);
            if (i == FRAMES || ++times[i] > 1)
                return;
        }
    for (uint32_t i = 0; i < FRAMES; i++)
        EXPECT_EQ(domain->t, times[i], domain->holds[i] >= 0);
    EXPECT_EQ(domain->t, domain->policy.count, held(domain));
    EXPECT_EQ(domain->t, findings(domain, false), 0);
}

static void leave_one(struct domain *domain, uint32_t i, const struct neomm_swap_entry *slot)
{
    domain->policy.ops->leave(&domain->policy, domain->frame[i], slot);
    domain->holds[i] = -1;
}

/* Candidates, fewer or more: each is in the domain, and none comes twice. */
static void test_candidates(struct domain *domain, uint64_t *seed)
{
    neomm_frame_t out[NEOMM_POLICY_BATCH];
    bool named[FRAMES] = {false};
    uint32_t max = below(seed, NEOMM_POLICY_BATCH + 1);
    uint32_t found = domain->policy.ops->candidates(&domain->policy, out, max);
    EXPECT(domain->t, found <= max);
    EXPECT(domain->t, (found != 0) == (max != 0 && held(domain) != 0));
    for (uint32_t i = 0; i < found; i++) {
        uint32_t at = frame_index(domain, out[i]);
        EXPECT(domain->t, at < FRAMES && domain->holds[at] >= 0 && !named[at]);
        if (at == FRAMES)
            return;
        named[at] = true;
        if (domain->policy.ops->tested(&domain->policy, out[i], next(seed) & 1, next(seed) & 1) ==
                NEOMM_EVICT &&
            next(seed) & 3)
            leave_one(domain, at, NULL);
    }
}

/* One thing that vmm may do, also in an order that it would hardly come to. */
static void any_step(struct domain *domain, uint64_t *seed)
{
    const struct neomm_swap_entry slot = {7, 0, NEOMM_SWAP_SLOT};
    struct neomm_policy *policy = &domain->policy;
    uint32_t i = below(seed, FRAMES);
    if (below(seed, 3) == 0) {
        test_candidates(domain, seed);
    } else if (domain->holds[i] < 0) {
        if (next(seed) & 1 && policy->ops->refault)
            policy->ops->refault(policy, &slot);
        policy->ops->enter(policy, domain->frame[i]);
        domain->holds[i] = (int)i;
    } else if (next(seed) & 1) {
        (void)policy->ops->tested(policy, domain->frame[i], next(seed) & 1, next(seed) & 1);
    } else {
        leave_one(domain, i, next(seed) & 1 ? &slot : NULL);
    }
}

/* Every page that is in goes in the end, if it is not used again. */
static void evict_all(struct domain *domain)
{
    memset(domain->accessed, 0, sizeof(domain->accessed));
    for (uint32_t left = held(domain); left > 0 && domain->t->failures == 0; left--)
        (void)evict(domain);
    EXPECT_EQ(domain->t, domain->policy.count, 0);
    EXPECT_EQ(domain->t, held(domain), 0);
}

static void leave_anywhere(struct ktap *t)
{
    struct domain domain;
    struct env env;
    uint64_t seed = t->parameter + 1;
    if (!domain_open(t, &env, &domain, policy_name[t->parameter], FRAMES))
        return;
    for (unsigned step = 0; step < 3000 && t->failures == 0; step++) {
        any_step(&domain, &seed);
        expect_all_there(&domain);
        if (step % 500 == 499)
            evict_all(&domain);
    }
    domain_close(t, &env, &domain);
}

/* From each policy to each: all pages move over, best victim first, whatever was going on. */
static void switched(struct ktap *t)
{
    struct domain domain;
    struct env env;
    uint64_t seed = 99 + t->parameter;
    if (!domain_open(t, &env, &domain, policy_name[t->parameter], FRAMES))
        return;
    for (unsigned to = 0; to < 2 * POLICY_NAMES && t->failures == 0; to++) {
        for (unsigned step = 0; step < 60; step++)
            any_step(&domain, &seed);
        uint32_t count = domain.policy.count, clock = domain.policy.clock;
        const struct neomm_policy_ops *ops =
            neomm_policy_find(env.root, policy_name[to % POLICY_NAMES]);
        neomm_policy_switch(&domain.policy, ops);
        EXPECT(t, domain.policy.ops == ops);
        EXPECT_EQ(t, domain.policy.count, count);
        EXPECT_EQ(t, domain.policy.domain, 1);
        EXPECT(t, domain.policy.clock - clock <= count);
        expect_all_there(&domain);
    }
    evict_all(&domain);
    domain_close(t, &env, &domain);
}

static void switched_in_order(struct ktap *t)
{
    static const uint32_t order[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2};
    struct domain domain;
    struct env env;
    if (!domain_open(t, &env, &domain, "clock", FRAMES))
        return;
    enter_all(&domain);
    for (uint32_t i = 0; i < 3; i++)
        (void)domain.policy.ops->tested(&domain.policy, domain.frame[i], true, false);
    neomm_policy_switch(&domain.policy, neomm_policy_find(env.root, "fifo"));
    expect_candidates(&domain, FRAMES, order, FRAMES);
    domain_close(t, &env, &domain);
}

/* Any age may go, each about as often as the others. */
static void random_is_random(struct ktap *t)
{
    struct domain domain;
    struct env env;
    uint32_t entered[FRAMES], times[FRAMES] = {0}, now = 0;
    if (!domain_open(t, &env, &domain, "random", FRAMES))
        return;
    enter_all(&domain);
    for (uint32_t i = 0; i < FRAMES; i++)
        entered[i] = now++;
    for (unsigned round = 0; round < 12000; round++) {
        uint32_t victim = evict(&domain), rank = 0;
        for (uint32_t i = 0; i < FRAMES; i++)
            rank += entered[i] < entered[victim];
        times[rank]++;
        domain.policy.ops->enter(&domain.policy, domain.frame[victim]);
        domain.holds[victim] = (int)victim;
        entered[victim] = now++;
    }
    for (uint32_t i = 0; i < FRAMES; i++)
        EXPECT(t, times[i] > 500 && times[i] < 2000);
    domain_close(t, &env, &domain);
}

/* However often pages were used before, a search ends with the first unused page behind as many
 * tests as there are pages. */
static void search_is_bounded(struct ktap *t)
{
    struct domain domain;
    struct env env;
    if (!domain_open(t, &env, &domain, "adaptive", FRAMES))
        return;
    struct neomm_policy *policy = &domain.policy;
    enter_all(&domain);
    for (unsigned round = 0; round < 8; round++) {
        neomm_frame_t frame;
        for (uint32_t i = 0; i < FRAMES; i++) {
            EXPECT_EQ(t, policy->ops->candidates(policy, &frame, 1), 1);
            EXPECT_EQ(t, policy->ops->tested(policy, frame, true, true), NEOMM_KEEP);
        }
        if (round < 4)
            continue;
        EXPECT_EQ(t, policy->ops->candidates(policy, &frame, 1), 1);
        EXPECT_EQ(t, policy->ops->tested(policy, frame, false, true), NEOMM_EVICT);
    }
    domain_close(t, &env, &domain);
}

/* ---- notes of pages that are gone ---- */

static void shadows(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_SWAP, .format = formats[0], .swap_pages = 64};
    struct neomm_swap_entry slot, other, stale;
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &slot));
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &other));
    EXPECT_EQ(t, neomm__swap_shadow(env.root, slot), 0);
    neomm__swap_set_shadow(env.root, slot, 17);
    EXPECT_EQ(t, neomm__swap_shadow(env.root, slot), 17);
    EXPECT_EQ(t, neomm__swap_shadow(env.root, other), 0);
    stale = slot;
    stale.generation ^= 1;
    neomm__swap_set_shadow(env.root, stale, 18);
    EXPECT_EQ(t, neomm__swap_shadow(env.root, stale), 0);
    EXPECT_EQ(t, neomm__swap_shadow(env.root, slot), 17);
    stale.slot = 1000;
    neomm__swap_set_shadow(env.root, stale, 18);
    EXPECT_EQ(t, neomm__swap_shadow(env.root, stale), 0);
    /* The next user of the slot begins without. */
    uint32_t number = slot.slot;
    for (unsigned i = 0; i < 64; i++) {
        EXPECT_OK(t, neomm_swap_free(env.root, slot));
        EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &slot));
        EXPECT_EQ(t, neomm__swap_shadow(env.root, slot), 0);
        if (slot.slot == number)
            break;
    }
    EXPECT_OK(t, neomm_swap_free(env.root, slot));
    EXPECT_OK(t, neomm_swap_free(env.root, other));
    env_close(t, &env);
}

/* Every kind of damage to a queue is found, and does not hang the check. */
static void damage_is_found(struct ktap *t)
{
    struct domain domain;
    struct env env;
    if (!domain_open(t, &env, &domain, "fifo", FRAMES))
        return;
    enter_all(&domain);
    uint32_t *const word[] = {
        &domain.policy.queue[0].head,
        &domain.policy.queue[0].tail,
        &domain.policy.queue[0].count,
        &domain.policy.count,
        &neomm__frame(env.root, domain.frame[4])->next,
        &neomm__frame(env.root, domain.frame[4])->previous,
        &neomm__frame(env.root, domain.frame[FRAMES - 1])->next,
    };
    const uint32_t value[] = {
        0, FRAMES - 1, FRAMES + 1, UINT32_MAX, domain.frame[2].number, domain.frame[6].number};
    for (size_t i = 0; i < NEOMM__COUNT_OF(word); i++)
        for (size_t j = 0; j < NEOMM__COUNT_OF(value); j++) {
            uint32_t before = *word[i];
            *word[i] = value[j];
            EXPECT(t, (findings(&domain, true) != 0) == (before != value[j]));
            *word[i] = before;
        }
    uint8_t *bits = &neomm__frame(env.root, domain.frame[5])->policy;
    *bits |= 3;
    EXPECT_EQ(t, findings(&domain, true) != 0, true);
    *bits = 0;
    const struct neomm_policy_ops foreign = {.name = "foreign"};
    domain.policy.ops = &foreign;
    domain.policy.count++;
    EXPECT_EQ(t, findings(&domain, false), 0);
    domain.policy.count--;
    domain.policy.ops = neomm_policy_find(env.root, "fifo");
    domain_close(t, &env, &domain);
}

/* ---- names ---- */

static void registry(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_SWAP, .format = formats[0]};
    static char name[NEOMM__SWAP_POLICIES - POLICY_NAMES][2];
    struct neomm_policy_ops ops[NEOMM__COUNT_OF(name)];
    struct neomm_policy_ops again = {.name = "clock"}, more = {.name = "more"};
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT(t, neomm_policy_find(env.root, "clock") == &neomm__policy_clock);
    EXPECT(t, neomm_policy_find(env.root, "fifo") == &neomm__policy_fifo);
    for (uint32_t i = 0; i < POLICY_NAMES; i++) {
        const struct neomm_policy_ops *builtin = neomm_policy_find(env.root, policy_name[i]);
        EXPECT(t, builtin && neomm_policy_at(env.root, i));
        EXPECT(t, builtin && strcmp(builtin->name, policy_name[i]) == 0);
    }
    EXPECT(t, !neomm_policy_at(env.root, POLICY_NAMES));
    EXPECT(t, !neomm_policy_find(env.root, "clockwork"));
    EXPECT(t, !neomm_policy_find(env.root, "cloc"));
    EXPECT(t, !neomm_policy_find(env.root, ""));
    EXPECT(t, !neomm_policy_find(env.root, NULL));
    EXPECT_EQ(t, neomm_policy_register(env.root, &again), NEOMM_E_EXISTS);
    for (size_t i = 0; i < NEOMM__COUNT_OF(name); i++) {
        name[i][0] = (char)('A' + i);
        ops[i] = (struct neomm_policy_ops){.name = name[i]};
        EXPECT_OK(t, neomm_policy_register(env.root, &ops[i]));
        EXPECT(t, neomm_policy_find(env.root, name[i]) == &ops[i]);
    }
    EXPECT_EQ(t, neomm_policy_register(env.root, &more), NEOMM_E_NOSPACE);
    EXPECT(t, !neomm_policy_find(env.root, "more"));
    env_close(t, &env);
}

static void without_the_layer(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_PMM, .format = formats[0]};
    const struct neomm_policy_ops ops = {.name = "x"};
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT_EQ(t, neomm_policy_register(env.root, &ops), NEOMM_E_NOENT);
    EXPECT(t, !neomm_policy_find(env.root, "clock"));
    EXPECT(t, !neomm_policy_at(env.root, 0));
    env_close(t, &env);
}

static const uint64_t frame_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const uint64_t both[] = {0, 1};
static const uint64_t all_policies[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
_Static_assert(NEOMM__COUNT_OF(all_policies) == POLICY_NAMES, "a parameter a policy");

/* Pages that are to go in one batch: those that were chosen already are not there any more for the
 * choice of the next. Of five fresh pages three may stay, so two go, and then others. */
static void batch_is_counted_off(struct ktap *t)
{
    struct domain domain;
    struct env env;
    struct neomm_policy *policy = &domain.policy;
    neomm_frame_t victim[4], next;
    ASSERT(t, domain_open(t, &env, &domain, "adaptive", 12));
    for (uint32_t i = 0; i < 12; i++)
        policy->ops->enter(policy, domain.frame[i]);
    for (uint32_t i = 0; i < 11; i++) {
        EXPECT_EQ(t, policy->ops->candidates(policy, &next, 1), 1);
        EXPECT_EQ(t, policy->ops->tested(policy, next, true, false), NEOMM_KEEP);
    }
    for (uint32_t i = 0; i < 6; i++) /* used: not fresh any more */
        EXPECT_EQ(t, policy->ops->tested(policy, domain.frame[i], true, false), NEOMM_KEEP);
    policy->state[0] = 3; /* fresh pages that may stay */
    policy->state[6] = 0; /* tests since a page left */
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT_EQ(t, policy->ops->candidates(policy, &victim[i], 1), 1);
        EXPECT_EQ(t, policy->ops->tested(policy, victim[i], false, false), NEOMM_EVICT);
    }
    for (uint32_t i = 0; i < 4; i++)
        EXPECT_EQ(t, victim[i].number, domain.frame[i < 2 ? 6 + i : i - 2].number);
    /* One that cannot go is what it was, and used. */
    EXPECT_EQ(t, policy->ops->tested(policy, victim[0], true, false), NEOMM_KEEP);
    for (uint32_t i = 0; i < 12; i++)
        policy->ops->leave(policy, domain.frame[i], NULL);
    EXPECT_EQ(t, policy->count, 0);
    domain_close(t, &env, &domain);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(fifo_is_textbook, frame_counts),
    KTAP_CASE_WITH(clock_is_textbook, frame_counts),
    KTAP_CASE(fifo_anomaly),
    KTAP_CASE(batch),
    KTAP_CASE(batch_is_counted_off),
    KTAP_CASE_WITH(failed_eviction, both),
    KTAP_CASE_WITH(leave_anywhere, all_policies),
    KTAP_CASE_WITH(switched, all_policies),
    KTAP_CASE(switched_in_order),
    KTAP_CASE(random_is_random),
    KTAP_CASE(search_is_bounded),
    KTAP_CASE(shadows),
    KTAP_CASE(damage_is_found),
    KTAP_CASE(registry),
    KTAP_CASE(without_the_layer),
};

KTAP_SUITE(policy, cases);
