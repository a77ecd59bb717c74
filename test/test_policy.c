/* Replacement policies against the textbook, and their registry.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/bits.h"
#include "base/root.h"
#include "swap/policy.h"

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
    EXPECT_EQ(t, domain->policy.head, 0);
    EXPECT_EQ(t, domain->policy.tail, 0);
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
    for (unsigned tries = 0; tries < 2 * FRAMES + 2; tries++) {
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

/* Pages leave from anywhere, in any order, as when they are unmapped. */
static void leave_anywhere(struct ktap *t)
{
    struct domain domain;
    struct env env;
    uint64_t seed = 1;
    if (!domain_open(t, &env, &domain, "clock", FRAMES))
        return;
    for (unsigned step = 0; step < 2000 && t->failures == 0; step++) {
        uint32_t i = below(&seed, FRAMES);
        struct neomm_policy *policy = &domain.policy;
        if (domain.holds[i] < 0) {
            policy->ops->enter(policy, domain.frame[i]);
            domain.holds[i] = (int)i;
        } else if (next(&seed) & 1) {
            (void)policy->ops->tested(policy, domain.frame[i], next(&seed) & 1, false);
        } else {
            policy->ops->leave(policy, domain.frame[i], NULL);
            domain.holds[i] = -1;
        }
        uint32_t count = 0;
        for (uint32_t j = 0; j < FRAMES; j++)
            count += domain.holds[j] >= 0;
        EXPECT_EQ(t, policy->count, count);
        EXPECT_EQ(t, findings(&domain, false), 0);
    }
    domain_close(t, &env, &domain);
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
        &domain.policy.head,
        &domain.policy.tail,
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
            EXPECT(t, findings(&domain, true) == (before != value[j]));
            *word[i] = before;
        }
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
    static const char *const name[] = {"a", "b", "c", "d", "e", "f", "g",
                                       "h", "i", "j", "k", "l", "m", "n"};
    struct neomm_policy_ops ops[NEOMM__COUNT_OF(name)];
    struct neomm_policy_ops again = {.name = "clock"}, more = {.name = "more"};
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT(t, neomm_policy_find(env.root, "clock") == &neomm__policy_clock);
    EXPECT(t, neomm_policy_find(env.root, "fifo") == &neomm__policy_fifo);
    EXPECT(t, neomm_policy_at(env.root, 0) == &neomm__policy_clock);
    EXPECT(t, neomm_policy_at(env.root, 1) == &neomm__policy_fifo);
    EXPECT(t, !neomm_policy_at(env.root, 2));
    EXPECT(t, !neomm_policy_find(env.root, "clockwork"));
    EXPECT(t, !neomm_policy_find(env.root, "cloc"));
    EXPECT(t, !neomm_policy_find(env.root, ""));
    EXPECT(t, !neomm_policy_find(env.root, NULL));
    EXPECT_EQ(t, neomm_policy_register(env.root, &again), NEOMM_E_EXISTS);
    for (size_t i = 0; i < NEOMM__COUNT_OF(name); i++) {
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

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(fifo_is_textbook, frame_counts),
    KTAP_CASE_WITH(clock_is_textbook, frame_counts),
    KTAP_CASE(fifo_anomaly),
    KTAP_CASE(batch),
    KTAP_CASE_WITH(failed_eviction, both),
    KTAP_CASE(leave_anywhere),
    KTAP_CASE(damage_is_found),
    KTAP_CASE(registry),
    KTAP_CASE(without_the_layer),
};

KTAP_SUITE(policy, cases);
