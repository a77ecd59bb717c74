/* The calls on regions against a naive model: long random histories, all pairs of calls over a few
 * pages, and each call while memory runs out.
 * SPDX-License-Identifier: MIT */
#include "calls_model.h"

#include "share.h"
#include "shrink.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t formats[] = ENV_FORMATS;

/* ---- random histories ---- */

static struct call random_call(struct model *m)
{
    static const neomm_prot_t prots[] = {RW, RW, NEOMM_PROT_READ, NEOMM_PROT_NONE};
    static const unsigned places[] = {0, NEOMM_MAP_FIXED, NEOMM_MAP_EXACT,
                                      NEOMM_MAP_FIXED | NEOMM_MAP_LOCKED};
    struct call call = {.kind = (enum kind)calls_pick(m, KINDS + 8),
                        .prot = prots[calls_pick(m, 4)]};
    if (call.kind >= KINDS)
        call.kind = call.kind % 2 ? WRITE : READ;
    call.first = calls_pick(m, m->pages);
    call.count = 1 + calls_pick(m, m->pages - call.first < 9 ? m->pages - call.first : 9);
    call.size = 1 + calls_pick(m, 9);
    if (call.kind == MAP)
        call.flags = places[calls_pick(m, 4)];
    else if (call.kind == REMAP)
        call.flags = calls_pick(m, 8);
    else if (call.kind == LOCK)
        call.flags = calls_pick(m, 2) ? NEOMM_LOCK_ONFAULT : 0;
    else if (call.kind == ORDER)
        call.flags = calls_pick(m, 2);
    else if (call.kind == WRITE)
        call.flags = 1 + calls_pick(m, 1000000);
    if (call.kind == REMAP && calls_pick(m, 2))
        call.size = call.count;
    call.to = calls_pick(m, m->pages - call.size + 1);
    return call;
}

/* The last calls of a history, and how the machine and the model begin. */
struct history {
    enum neomm_format format;
    uint64_t parameter;
    uint32_t lie; /* pages that the model thinks may not be locked, and may */
    uint32_t count;
    struct call call[1 << 14];
};
#define HISTORY_MOST (sizeof(((struct history *)0)->call) / sizeof(struct call))

static bool history_open(struct ktap *t, struct model *m, const struct history *history)
{
    bool good = calls_open(t, m, history->format, 48);
    m->locked_limit -= history->lie;
    return good;
}

/* Do the first `count` calls go wrong on a new machine? Nothing is printed. */
static bool goes_wrong(void *context, uint32_t count)
{
    enum { SILENT = 1000 };
    static struct model m;
    const struct history *history = context;
    struct ktap t = {.parameter = history->parameter, .failures = SILENT};
    if (!history_open(&t, &m, history))
        return false;
    for (uint32_t i = 0; i < count && t.failures == SILENT; i++) {
        struct page before[PAGES_MAX];
        struct call call = history->call[i];
        memcpy(before, m.page, sizeof(before));
        neomm_status want = calls_expect(&m, &call);
        if (want == UNKNOWN)
            memcpy(m.page, before, sizeof(before));
        else
            EXPECT_EQ(&t, calls_perform(&m, &call), want);
        calls_check_all(&m);
    }
    bool wrong = t.failures != SILENT;
    calls_close(&m);
    return wrong;
}

/* Says the fewest calls with which a new machine goes wrong, if it does; how many there are. */
static uint32_t explain(struct model *m, struct history *history)
{
    struct shrink s = {history->call, sizeof(struct call), history->count, goes_wrong, history};
    if (!goes_wrong(history, history->count)) {
        ktap_note(m->t, "not by its last %u calls alone", history->count);
        return 0;
    }
    shrink(&s);
    ktap_note(m->t, "%u calls are enough:", s.count);
    for (uint32_t i = 0; i < s.count; i++)
        calls_note(m, &history->call[i]);
    return s.count;
}

static void remember(struct history *history, struct call call)
{
    if (history->count == HISTORY_MOST) {
        history->count /= 2;
        memmove(history->call, &history->call[history->count],
                history->count * sizeof(struct call));
    }
    history->call[history->count++] = call;
}

/* How many steps each history has: NEOMM_STEPS in the environment. */
static uint64_t steps_of_a_history(void)
{
    const char *text = getenv("NEOMM_STEPS");
    return text ? strtoull(text, NULL, 10) : share_of(300000);
}

/* Parameter: format, and bit 1: no frame of zeros. */
static const uint64_t histories[] = {0, 1, 2, 3};

static void random_calls(struct ktap *t)
{
    static struct model m;
    static struct history history;
    uint64_t steps = steps_of_a_history();
    history.format = (enum neomm_format)formats[t->parameter & 1];
    history.parameter = t->parameter;
    history.count = 0;
    ASSERT(t, history_open(t, &m, &history));
    for (uint64_t i = 0; i < steps && t->failures == 0; i++) {
        struct call call = random_call(&m);
        remember(&history, call);
        if (!calls_step(&m, call))
            ktap_note(t, "step %llu", (unsigned long long)i);
        if (i % 64 == 0)
            calls_check_all(&m);
        if (i % 1024 == 0)
            env_fsck(t, &m.env);
    }
    calls_check_all(&m);
    calls_check_contents(&m);
    calls_close(&m);
    if (t->failures != 0)
        (void)explain(&m, &history);
}

/* A model that is wrong by a page is found out, and with few calls. */
static void mistakes_are_explained(struct ktap *t)
{
    static struct model m;
    static struct history history;
    struct ktap silent = {.failures = 1000};
    history = (struct history){.format = (enum neomm_format)t->parameter, .lie = 4};
    ASSERT(t, history_open(&silent, &m, &history));
    calls_close(&m);
    m.t = t;
    for (uint32_t i = 0; i < 3000; i++)
        remember(&history, random_call(&m));
    uint32_t calls = explain(&m, &history);
    EXPECT(t, calls > 1 && calls < 25);
    for (uint32_t i = 0; i < calls; i++)
        EXPECT(t, history.call[i].kind <= LOCK);
}

/* ---- all pairs ---- */

#define FEW 8u

/* What a pair is made of, over each range of the eight pages. */
static const struct call kinds[] = {
    {.kind = MAP, .prot = RW, .flags = NEOMM_MAP_FIXED},
    {.kind = MAP, .prot = NEOMM_PROT_READ, .flags = NEOMM_MAP_FIXED},
    {.kind = MAP, .prot = RW, .flags = NEOMM_MAP_EXACT},
    {.kind = UNMAP},
    {.kind = PROTECT, .prot = NEOMM_PROT_READ},
    {.kind = PROTECT, .prot = RW},
    {.kind = LOCK},
    {.kind = UNLOCK},
    {.kind = GIVE_UP},
    {.kind = PAGE_OUT},
    {.kind = REMAP, .size = 1},
    {.kind = REMAP, .size = 3},
    {.kind = REMAP, .size = 2, .flags = NEOMM_REMAP_MAYMOVE},
    {.kind = REMAP, .size = 2, .to = 0, .flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED},
    {.kind = REMAP, .size = 1, .to = 5, .flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED},
    {.kind = REMAP, .size = 2, .flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_KEEP},
};
#define CALL_KINDS (sizeof(kinds) / sizeof(kinds[0]))
#define RANGES     (FEW * (FEW + 1) / 2)
#define CALLS      ((uint32_t)(CALL_KINDS * RANGES))

static struct call nth_call(uint32_t n)
{
    struct call call = kinds[n / RANGES];
    uint32_t range = n % RANGES;
    while (range >= FEW - call.first) {
        range -= FEW - call.first;
        call.first++;
    }
    call.count = range + 1;
    return call;
}

/* Pages 2 to 5, with something in them; 4 and 5 in swap. */
static bool begin_pair(struct model *m)
{
    EXPECT_OK(m->t, neomm_space_reset(m->root, m->space));
    memset(m->page, 0, sizeof(m->page));
    bool good = calls_step(
        m,
        (struct call){.kind = MAP, .first = 2, .count = 4, .prot = RW, .flags = NEOMM_MAP_EXACT});
    for (uint32_t i = 2; i < 6; i++)
        good = good && calls_step(m, (struct call){.kind = WRITE, .first = i, .flags = 100 + i});
    return good && calls_step(m, (struct call){.kind = PAGE_OUT, .first = 4, .count = 2});
}

/* All of them in the production flavour, which is the faster one. */
#if NEOMM_INSTRUMENTED
#define STRIDE 11u
#else
#define STRIDE 1u
#endif

/* Parameter: format. */
static void all_pairs(struct ktap *t)
{
    static struct model m;
    uint32_t stride = (uint32_t)share_divisor() * STRIDE;
    ASSERT(t, calls_open(t, &m, (enum neomm_format)t->parameter, FEW));
    m.virtual_limit = FEW - 1;
    for (uint32_t pair = (uint32_t)t->parameter; pair < CALLS * CALLS && t->failures == 0;
         pair += stride) {
        if (!begin_pair(&m) || !calls_step(&m, nth_call(pair / CALLS)) ||
            !calls_step(&m, nth_call(pair % CALLS)))
            ktap_note(t, "pair %u, %u", pair / CALLS, pair % CALLS);
        calls_check_all(&m);
        calls_check_contents(&m);
        if (pair % 512 == 0)
            env_fsck(t, &m.env);
    }
    calls_close(&m);
}

/* ---- memory runs out ---- */

/* Over a space with holes, regions of both rights, and pages in swap. */
static bool begin_sweep(struct model *m)
{
    bool good = begin_pair(m);
    good = good &&
           calls_step(
               m, (struct call){.kind = PROTECT, .first = 3, .count = 1, .prot = NEOMM_PROT_READ});
    return good;
}

/* An error that a call may end with half-way: mlock, whose range is locked then. */
static bool is_partial(const struct call *call)
{
    return call->kind == LOCK;
}

/* What was at the place that mremap is to move something to may be lost. */
static bool is_mapped(struct model *m, const struct call *call)
{
    struct neomm_region_info info;
    for (uint32_t i = call->to; i < call->to + call->size; i++)
        if (neomm_region_at(m->root, m->space, m->base + i * PAGE, &info) == NEOMM_OK)
            return true;
    return false;
}

/* The nth allocation of the call fails, once or all from there on; false: it has no nth. */
static bool sweep_once(struct model *m, struct call call, uint64_t nth, bool forever)
{
    struct page before[PAGES_MAX];
    bool good = begin_sweep(m);
    memcpy(before, m->page, sizeof(before));
    neomm_status want = calls_expect(m, &call);
    if (want == UNKNOWN || !good)
        return false;
    (void)env_fault_plan(&m->env, nth, forever);
    neomm_status status = calls_perform(m, &call);
    bool reached = env_fault_count(&m->env) >= nth;
    (void)env_fault_plan(&m->env, 0, false);
    if (status != want) {
        if (status != NEOMM_E_NOMEM && !(call.kind == LOCK && status == NEOMM_E_FAULT)) {
            ktap_fail(m->t, __FILE__, __LINE__, neomm_status_text(status));
            calls_note(m, &call);
        }
        struct page after[PAGES_MAX];
        memcpy(after, m->page, sizeof(after));
        memcpy(m->page, before, sizeof(before));
        if (call.kind == REMAP && (call.flags & NEOMM_REMAP_FIXED) && !is_mapped(m, &call))
            calls_clear_pages(m, call.to, call.size);
        if (!is_partial(&call))
            calls_check_all(m);
        EXPECT_EQ(m->t, calls_perform(m, &call), want);
        memcpy(m->page, after, sizeof(after));
    }
    calls_check_all(m);
    calls_check_contents(m);
    env_fsck(m->t, &m->env);
    return reached;
}

static void memory_fails(struct ktap *t)
{
    static struct model m;
    uint32_t failed = 0;
    ASSERT(t, calls_open(t, &m, (enum neomm_format)t->parameter, FEW));
    if (!env_fault_plan(&m.env, 0, false)) {
        ktap_skip(t, "no fault points in this build");
        calls_close(&m);
        return;
    }
    for (uint32_t n = 0; n < CALLS && t->failures == 0; n += (uint32_t)share_divisor())
        for (uint32_t forever = 0; forever < 2; forever++)
            for (uint64_t nth = 1; sweep_once(&m, nth_call(n), nth, forever) && nth < 100; nth++) {
                failed++;
                if (t->failures != 0) {
                    ktap_note(t, "allocation %llu, %u", (unsigned long long)nth, forever);
                    break;
                }
            }
    EXPECT(t, failed > 100);
    calls_close(&m);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_calls, histories),
    KTAP_CASE_WITH(mistakes_are_explained, formats),
    KTAP_CASE_WITH(all_pairs, formats),
    KTAP_CASE_WITH(memory_fails, formats),
};
KTAP_SUITE(vmm_calls, cases);
