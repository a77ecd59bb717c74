/* Huge pages: where a first touch brings one, and what becomes of it where a call, an eviction, a
 * fork or a failure meets a part of it.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "share.h"

#include "vmm/vmm_priv.h"

#include <string.h>

#define PAGE       NEOMM_PAGE_SIZE
#define PAGES_MAX  1024u
#define RW         (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define SWAP_PAGES 4096u

static const uint64_t formats[] = ENV_FORMATS;

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    size_t huge;
    uint32_t pages; /* of a huge one */
    neomm_vaddr_t base, elsewhere;
};

static bool world_open(struct ktap *t, struct world *w, const struct env_options *given,
                       const struct neomm_limits *limits)
{
    struct env_options options = given ? *given : (struct env_options){.huge = NEOMM_HUGE_ALWAYS};
    options.layer = ENV_VMM;
    options.format = (enum neomm_format)t->parameter;
    options.ram_bytes = options.ram_bytes ? options.ram_bytes : 40u << 20;
    options.swap_pages = SWAP_PAGES;
    *w = (struct world){.t = t};
    if (!env_open(t, &w->env, &options))
        return false;
    w->root = w->env.root;
    w->huge = neomm_paging_large_size(w->root);
    w->pages = (uint32_t)(w->huge / PAGE);
    w->base = NEOMM__ALIGN_UP(neomm_layout_of(w->root)->user_base + w->huge, w->huge);
    w->elsewhere = w->base + 16 * w->huge + PAGE;
    if (neomm_space_create(w->root, limits, &w->space) != NEOMM_OK) {
        env_close(t, &w->env);
        return false;
    }
    neomm_space_activate(w->root, w->space);
    return true;
}

static void world_close(struct world *w)
{
    env_fsck(w->t, &w->env);
    neomm_space_activate(w->root, NULL);
    EXPECT_OK(w->t, neomm_space_destroy(w->root, w->space));
    env_close(w->t, &w->env);
}

static void map(struct world *w, neomm_vaddr_t at, size_t size, unsigned flags)
{
    EXPECT_OK(w->t, neomm_mmap(w->root, w->space, &at, size, RW, NEOMM_MAP_EXACT | flags));
}

static neomm_status put(struct world *w, struct neomm_space *space, neomm_vaddr_t at,
                        uint64_t value)
{
    return env_access(&w->env, space, at, &value, 8, true, true);
}

static neomm_status get(struct world *w, struct neomm_space *space, neomm_vaddr_t at,
                        uint64_t *value)
{
    return env_access(&w->env, space, at, value, 8, false, true);
}

static size_t leaf_at(struct world *w, neomm_vaddr_t at)
{
    struct neomm_mapping leaf;
    EXPECT_OK(w->t, neomm_paging_query(w->root, neomm_space_tables(w->space), at, &leaf));
    return leaf.state == NEOMM_MAPPING_PRESENT ? leaf.size : 0;
}

static struct neomm_space_stats stats_of(struct world *w)
{
    struct neomm_space_stats stats;
    neomm_space_stats(w->root, w->space, &stats);
    return stats;
}

static size_t counted(struct world *w, enum neomm_counter counter)
{
    return (size_t)neomm__counter_sum(w->root, counter);
}

/* ---- where there are some ---- */

static void one_fault_a_block(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    size_t tables = (size_t)stats_of(&w).table_bytes, huge = counted(&w, NEOMM_COUNTER_FAULT_HUGE);
    map(&w, w.base, 2 * w.huge, 0);
    EXPECT_OK(t, put(&w, w.space, w.base + 7 * PAGE, 9));
    EXPECT_EQ(t, leaf_at(&w, w.base), w.huge);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, w.huge);
    for (uint32_t page = 0; page < w.pages; page++) {
        uint64_t word[PAGE / 8] = {0}, ones = 0;
        EXPECT_OK(t, env_access(&w.env, w.space, w.base + page * PAGE, word, PAGE, false, true));
        for (uint32_t i = 0; i < PAGE / 8; i++)
            ones |= word[i];
        EXPECT_EQ(t, ones, page == 7 ? 9 : 0);
    }
    EXPECT_EQ(t, stats_of(&w).faults_zero, 1);
    EXPECT_EQ(t, counted(&w, NEOMM_COUNTER_FAULT_HUGE) - huge, 1);
    EXPECT_OK(t, neomm_madvise(w.root, w.space, w.base, 2 * w.huge, NEOMM_ADVICE_POPULATE_WRITE));
    EXPECT_EQ(t, stats_of(&w).faults_zero, 2);
    EXPECT_EQ(t, stats_of(&w).faults_other, 1);
    size_t with = (size_t)stats_of(&w).table_bytes - tables;
    EXPECT_OK(t, neomm_munmap(w.root, w.space, w.base, 2 * w.huge));
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 0);
    map(&w, w.base, 2 * w.huge, 0);
    EXPECT_OK(t, neomm_madvise(w.root, w.space, w.base, 2 * w.huge, NEOMM_ADVICE_NOHUGEPAGE));
    EXPECT_OK(t, neomm_madvise(w.root, w.space, w.base, 2 * w.huge, NEOMM_ADVICE_POPULATE_WRITE));
    EXPECT_EQ(t, stats_of(&w).table_bytes - tables - with, 2 * PAGE);
    EXPECT_EQ(t, counted(&w, NEOMM_COUNTER_FAULT_HUGE) - huge, 2);
    world_close(&w);
}

/* Touches a page and says how large its leaf is. */
static size_t touch(struct world *w, neomm_vaddr_t at, bool write)
{
    uint64_t value = 0;
    EXPECT_OK(w->t, write ? put(w, w->space, at, 1) : get(w, w->space, at, &value));
    return leaf_at(w, at);
}

static void where_it_is_allowed(struct ktap *t)
{
    for (unsigned mode = 0; mode < NEOMM_HUGES; mode++) {
        struct world w;
        const struct env_options options = {.huge = (enum neomm_huge)mode};
        ASSERT(t, world_open(t, &w, &options, NULL));
        bool always = mode == NEOMM_HUGE_ALWAYS, never = mode == NEOMM_HUGE_NEVER;
        map(&w, w.base, 2 * w.huge, 0);
        map(&w, w.base + 4 * w.huge, w.huge, NEOMM_MAP_HUGE);
        EXPECT_EQ(t, touch(&w, w.base, false), PAGE);
        EXPECT_EQ(t, touch(&w, w.base + w.huge, true), always ? w.huge : PAGE);
        EXPECT_EQ(t, touch(&w, w.base + 4 * w.huge, false), never ? PAGE : w.huge);
        EXPECT_OK(t, neomm_munmap(w.root, w.space, w.base, 5 * w.huge));
        map(&w, w.base, w.huge, NEOMM_MAP_HUGE);
        EXPECT_OK(t, neomm_madvise(w.root, w.space, w.base, w.huge, NEOMM_ADVICE_NOHUGEPAGE));
        EXPECT_EQ(t, touch(&w, w.base, true), PAGE);
        world_close(&w);
    }
}

static void where_it_does_not_fit(struct ktap *t)
{
    struct world w;
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 5u << 20, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &w, NULL, &limits));
    map(&w, w.base + PAGE, w.huge - PAGE, 0);
    EXPECT_EQ(t, touch(&w, w.base + PAGE, true), PAGE);
    map(&w, w.base + w.huge, w.huge - PAGE, 0);
    EXPECT_EQ(t, touch(&w, w.base + w.huge, true), PAGE);
    map(&w, w.base + 4 * w.huge, w.huge, 0);
    EXPECT_OK(t,
              neomm_madvise(w.root, w.space, w.base + 4 * w.huge, PAGE, NEOMM_ADVICE_SEQUENTIAL));
    EXPECT_EQ(t, touch(&w, w.base + 4 * w.huge, true), PAGE);
    map(&w, w.base + 6 * w.huge, w.huge, 0);
    EXPECT_EQ(t, touch(&w, w.base + 6 * w.huge, true), w.huge);
    map(&w, w.base + 8 * w.huge, 2 * w.huge, 0);
    EXPECT_EQ(t, touch(&w, w.base + 8 * w.huge, true), w.huge > 2u << 20 ? PAGE : w.huge);
    EXPECT_EQ(t, touch(&w, w.base + 9 * w.huge, true), PAGE);
    EXPECT(t, stats_of(&w).resident_bytes <= limits.resident_bytes);
    world_close(&w);
}

/* ---- pairs of calls over one huge page ---- */

enum kind {
    UNMAP,
    UNMAP_BEHIND, /* from the page to the end */
    PROTECT,
    MOVE,
    GIVE_UP,
    PAGE_OUT,
    REPLACE,
    ORDER,
    LOCK,
    WRITE,
    FORK,
    PIN,
    EVICT,
    KINDS
};

struct model {
    bool mapped, read_only;
    uint64_t value;
};

struct story {
    struct world w;
    uint64_t serial;
    struct model page[PAGES_MAX], moved[2];
};

static void writes(struct story *s, uint32_t page)
{
    struct model *m = &s->page[page];
    neomm_status status = put(&s->w, s->w.space, s->w.base + page * PAGE, ++s->serial);
    bool may = m->mapped && !m->read_only;
    EXPECT_EQ(s->w.t, status, may ? NEOMM_OK : NEOMM_E_FAULT);
    if (may)
        m->value = s->serial;
}

static void moves(struct story *s, uint32_t page, uint32_t turn)
{
    struct world *w = &s->w;
    neomm_vaddr_t to = w->elsewhere + turn * 2 * PAGE;
    neomm_status status = neomm_mremap(w->root, w->space, w->base + page * PAGE, PAGE, PAGE,
                                       NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED, &to);
    EXPECT_EQ(w->t, status, s->page[page].mapped ? NEOMM_OK : NEOMM_E_NOENT);
    if (status != NEOMM_OK)
        return;
    s->moved[turn] = s->page[page];
    s->page[page] = (struct model){0};
}

/* What the child writes stays with it, and what the parent writes does not get there. */
static void forks(struct story *s, uint32_t page)
{
    struct world *w = &s->w;
    struct neomm_space *child;
    uint64_t value = 0;
    neomm_vaddr_t at = w->base + page * PAGE;
    struct model before = s->page[page];
    ASSERT_OK(w->t, neomm_space_fork(w->root, w->space, &child));
    neomm_space_activate(w->root, child);
    (void)put(w, child, at, 77777);
    neomm_space_activate(w->root, w->space);
    EXPECT_EQ(w->t, get(w, w->space, at, &value), before.mapped ? NEOMM_OK : NEOMM_E_FAULT);
    EXPECT_EQ(w->t, value, before.mapped ? before.value : 0);
    writes(s, page);
    env_fsck(w->t, &w->env);
    EXPECT_OK(w->t, neomm_space_destroy(w->root, child));
}

/* A device writes to the page meanwhile, over a fork and an eviction. */
static void pins(struct story *s, uint32_t page)
{
    struct world *w = &s->w;
    struct neomm_space *child;
    neomm_frame_t frame = neomm_frame(0);
    uint32_t done = 0;
    bool may = s->page[page].mapped && !s->page[page].read_only;
    neomm_status status =
        neomm_user_pin(w->root, w->space, w->base + page * PAGE, 1, true, &frame, &done);
    EXPECT_EQ(w->t, status, may ? NEOMM_OK : NEOMM_E_FAULT);
    if (status != NEOMM_OK)
        return;
    ASSERT_OK(w->t, neomm_space_fork(w->root, w->space, &child));
    (void)neomm_space_evict(w->root, w->space, 3);
    uint64_t *word = neomm_frame_map(w->root, frame);
    *word = ++s->serial;
    neomm_frame_unmap(w->root, word);
    s->page[page].value = s->serial;
    neomm_user_unpin(w->root, &frame, 1, true);
    EXPECT_OK(w->t, neomm_space_destroy(w->root, child));
}

static void replaces(struct story *s, uint32_t page)
{
    struct world *w = &s->w;
    neomm_vaddr_t at = w->base + page * PAGE;
    EXPECT_OK(w->t, neomm_mmap(w->root, w->space, &at, PAGE, RW, NEOMM_MAP_FIXED));
    s->page[page] = (struct model){.mapped = true};
}

static void unmaps(struct story *s, uint32_t page, uint32_t count)
{
    struct world *w = &s->w;
    EXPECT_OK(w->t, neomm_munmap(w->root, w->space, w->base + page * PAGE, count * PAGE));
    memset(&s->page[page], 0, count * sizeof(s->page[0]));
}

static neomm_status advises(struct story *s, uint32_t page, enum neomm_advice advice)
{
    struct world *w = &s->w;
    neomm_status status = neomm_madvise(w->root, w->space, w->base + page * PAGE, PAGE, advice);
    EXPECT(w->t, status == (s->page[page].mapped ? NEOMM_OK : NEOMM_E_NOENT) ||
                     status == NEOMM_E_INVALID);
    return status;
}

static void act(struct story *s, uint32_t kind, uint32_t page, uint32_t turn)
{
    struct world *w = &s->w;
    neomm_vaddr_t at = w->base + page * PAGE;
    struct model *m = &s->page[page];
    neomm_status wanted = m->mapped ? NEOMM_OK : NEOMM_E_NOENT;
    switch (kind) {
    case UNMAP:
        unmaps(s, page, 1);
        break;
    case UNMAP_BEHIND:
        unmaps(s, page, w->pages - page);
        break;
    case PROTECT:
        EXPECT_EQ(w->t, neomm_mprotect(w->root, w->space, at, PAGE, NEOMM_PROT_READ), wanted);
        m->read_only = m->mapped;
        break;
    case MOVE:
        moves(s, page, turn);
        break;
    case GIVE_UP:
        if (advises(s, page, NEOMM_ADVICE_DONTNEED) == NEOMM_OK)
            m->value = 0;
        break;
    case PAGE_OUT:
        (void)advises(s, page, NEOMM_ADVICE_PAGEOUT);
        break;
    case REPLACE:
        replaces(s, page);
        break;
    case ORDER:
        (void)advises(s, page, turn ? NEOMM_ADVICE_COLD : NEOMM_ADVICE_SEQUENTIAL);
        break;
    case LOCK:
        EXPECT_EQ(w->t, neomm_mlock(w->root, w->space, at, PAGE, 0), wanted);
        break;
    case WRITE:
        writes(s, page);
        break;
    case FORK:
        forks(s, page);
        break;
    case PIN:
        pins(s, page);
        break;
    default:
        (void)neomm_space_evict(w->root, w->space, page % 5 + 1);
    }
}

static void check(struct story *s)
{
    struct world *w = &s->w;
    for (uint32_t page = 0; page < w->pages; page++) {
        uint64_t value = 0;
        neomm_status status = get(w, w->space, w->base + page * PAGE, &value);
        EXPECT_EQ(w->t, status, s->page[page].mapped ? NEOMM_OK : NEOMM_E_FAULT);
        EXPECT_EQ(w->t, value, s->page[page].value);
    }
    for (uint32_t turn = 0; turn < 2; turn++) {
        uint64_t value = 0;
        neomm_status status = get(w, w->space, w->elsewhere + turn * 2 * PAGE, &value);
        EXPECT_EQ(w->t, status, s->moved[turn].mapped ? NEOMM_OK : NEOMM_E_FAULT);
        EXPECT_EQ(w->t, value, s->moved[turn].value);
    }
}

static void begin(struct story *s)
{
    struct world *w = &s->w;
    memset(s->page, 0, sizeof(s->page));
    memset(s->moved, 0, sizeof(s->moved));
    map(w, w->base, w->huge, 0);
    for (uint32_t page = 0; page < w->pages; page++) {
        s->page[page].mapped = true;
        if (page % 3 == 0 || page % 256 == 255)
            writes(s, page);
    }
    EXPECT_EQ(w->t, leaf_at(w, w->base), w->huge);
}

static void pair(struct story *s, uint32_t first, uint32_t second)
{
    const uint32_t page[4] = {0, 1, 255, s->w.pages - 1};
    unsigned failures = s->w.t->failures;
    begin(s);
    act(s, first / 4, page[first % 4], 0);
    act(s, second / 4, page[second % 4], 1);
    check(s);
    if (first % 4 == second % 4)
        env_fsck(s->w.t, &s->w.env);
    EXPECT_OK(s->w.t, neomm_space_reset(s->w.root, s->w.space));
    if (s->w.t->failures != failures)
        ktap_note(s->w.t, "call %u at page %u, then call %u at page %u", first / 4, page[first % 4],
                  second / 4, page[second % 4]);
}

static void pairs_of_calls(struct ktap *t)
{
    static struct story s;
    const uint32_t all = KINDS * 4;
    uint32_t most = (uint32_t)share_of(all * all / (NEOMM_INSTRUMENTED ? 16 : 1));
    ASSERT(t, world_open(t, &s.w, NULL, NULL));
    for (uint32_t i = 0; i < most && t->failures == 0; i++) {
        uint32_t n = (uint32_t)((uint64_t)i * 1009 % (all * all)); /* a share has of everything */
        pair(&s, n / all, n % all);
    }
    world_close(&s.w);
}

/* Any calls, at any page: what is left of the huge page is what the model has. */
static void history(struct story *s, uint64_t seed)
{
    const uint32_t edge[4] = {0, 1, 255, s->w.pages - 1};
    uint64_t random = seed;
    uint32_t moves_left = 2;
    begin(s);
    for (uint32_t i = 0; i < 60; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t n = (uint32_t)(random >> 33), kind = n % KINDS, page = n / KINDS % s->w.pages;
        if (kind == MOVE && moves_left == 0)
            continue;
        moves_left -= kind == MOVE;
        act(s, kind, n & 0x10000 ? edge[page % 4] : page, kind == MOVE ? moves_left : n >> 17 & 1);
    }
    check(s);
    env_fsck(s->w.t, &s->w.env);
    EXPECT_OK(s->w.t, neomm_space_reset(s->w.root, s->w.space));
}

static void histories(struct ktap *t)
{
    static struct story s;
    uint64_t most = share_of(NEOMM_INSTRUMENTED ? 15 : 300);
    ASSERT(t, world_open(t, &s.w, NULL, NULL));
    for (uint64_t seed = 1; seed <= most && t->failures == 0; seed++) {
        history(&s, seed);
        if (t->failures != 0)
            ktap_note(t, "history %llu", (unsigned long long)seed);
    }
    world_close(&s.w);
}

/* ---- memory runs out ---- */

static neomm_status live(struct world *w, uint64_t *value)
{
    struct neomm_space *child = NULL;
    neomm_vaddr_t at = w->base, to = w->elsewhere;
    neomm_status status = neomm_mmap(w->root, w->space, &at, w->huge, RW, NEOMM_MAP_EXACT);
    if (status == NEOMM_OK)
        status = put(w, w->space, at + 5 * PAGE, 5);
    if (status == NEOMM_OK)
        status = neomm_space_fork(w->root, w->space, &child);
    if (status == NEOMM_OK)
        status = put(w, w->space, at + 6 * PAGE, 6);
    if (status == NEOMM_OK)
        status = neomm_mprotect(w->root, w->space, at + PAGE, PAGE, NEOMM_PROT_READ);
    if (status == NEOMM_OK)
        status = neomm_munmap(w->root, w->space, at, PAGE);
    if (status == NEOMM_OK)
        status = neomm_madvise(w->root, w->space, at + 7 * PAGE, PAGE, NEOMM_ADVICE_DONTNEED);
    if (status == NEOMM_OK)
        status = neomm_mremap(w->root, w->space, at + 5 * PAGE, 2 * PAGE, 2 * PAGE,
                              NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED, &to);
    if (status == NEOMM_OK)
        (void)neomm_space_evict(w->root, w->space, 3);
    if (status == NEOMM_OK)
        status = get(w, w->space, to, value);
    if (child)
        EXPECT_OK(w->t, neomm_space_destroy(w->root, child));
    return status;
}

/* Each call that may meet a part of a huge page, as the first that does: what was there is there
 * still, and the call works when it is tried again. */
static void part_fails(struct world *w, unsigned call, uint64_t nth, bool *done)
{
    neomm_vaddr_t at = w->base, middle = at + 9 * PAGE;
    neomm_status status = NEOMM_OK;
    map(w, at, w->huge, 0);
    for (uint32_t page = 0; page < w->pages; page += 3)
        EXPECT_OK(w->t, put(w, w->space, at + page * PAGE, 100 + page));
    EXPECT_EQ(w->t, leaf_at(w, at), w->huge);
    for (unsigned turn = 0; turn < 2; turn++) {
        (void)env_fault_plan(&w->env, turn == 0 ? nth : 0, nth % 2);
        neomm_vaddr_t to = w->elsewhere;
        status = call == 0   ? neomm_munmap(w->root, w->space, middle, PAGE)
                 : call == 1 ? neomm_mprotect(w->root, w->space, middle, PAGE, NEOMM_PROT_READ)
                 : call == 2
                     ? neomm_mremap(w->root, w->space, middle, PAGE, PAGE,
                                    NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED, &to)
                     : neomm_madvise(w->root, w->space, middle, PAGE, NEOMM_ADVICE_DONTNEED);
        *done = env_fault_count(&w->env) < nth || nth == 0;
        (void)env_fault_plan(&w->env, 0, false);
        EXPECT(w->t, status == NEOMM_OK || (status == NEOMM_E_NOMEM && turn == 0));
        if (status == NEOMM_OK)
            break;
        uint64_t value = 0;
        EXPECT_OK(w->t, get(w, w->space, middle, &value));
        EXPECT_EQ(w->t, value, 109);
        env_fsck(w->t, &w->env);
    }
    for (uint32_t page = 0; page < w->pages; page++) {
        uint64_t value = 0;
        if (page == 9)
            continue;
        EXPECT_OK(w->t, get(w, w->space, at + page * PAGE, &value));
        EXPECT_EQ(w->t, value, page % 3 == 0 ? 100 + page : 0);
    }
    EXPECT_OK(w->t, neomm_space_reset(w->root, w->space));
}

static void parts_that_fail(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    for (unsigned call = 0; call < 4; call++) {
        bool done = false;
        part_fails(&w, call, 0, &done);
        done = !env_fault_plan(&w.env, 0, false);
        for (uint64_t nth = 1; !done && t->failures == 0; nth++)
            part_fails(&w, call, nth, &done);
    }
    world_close(&w);
}

static void no_block_at_hand(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    map(&w, w.base, 2 * w.huge, 0);
    bool planned = env_fault_plan(&w.env, 1, false);
    EXPECT_EQ(t, touch(&w, w.base, true), planned ? PAGE : w.huge);
    (void)env_fault_plan(&w.env, 0, false);
    EXPECT_EQ(t, touch(&w, w.base + w.huge, true), w.huge);
    world_close(&w);
}

static void nth_failure(struct ktap *t)
{
    struct world w;
    bool done = false;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    done = !env_fault_plan(&w.env, 0, false);
    for (uint64_t nth = 1; !done && t->failures == 0; nth++) {
        uint64_t value = 0, step = nth < 40 ? nth : 40 + (nth - 40) * 37;
        (void)env_fault_plan(&w.env, step, nth % 2);
        neomm_status status = live(&w, &value);
        done = env_fault_count(&w.env) < step;
        (void)env_fault_plan(&w.env, 0, false);
        EXPECT(t, status != NEOMM_OK || value == 5);
        EXPECT(t, status == NEOMM_OK || !done);
        env_fsck(t, &w.env);
        EXPECT_OK(t, neomm_space_reset(w.root, w.space));
    }
    world_close(&w);
}

/* ---- eviction ---- */

/* Pages go one by one; a huge page that is in use is spared as a whole, and stays huge. */
static void eviction_takes_pages(struct ktap *t)
{
    struct world w;
    const struct env_options options = {.huge = NEOMM_HUGE_ALWAYS, .policy = "clock"};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 16u << 20, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &w, &options, &limits));
    map(&w, w.base, 2 * w.huge, 0);
    EXPECT_OK(t, put(&w, w.space, w.base + w.huge + PAGE, 8));
    EXPECT_OK(t, neomm_madvise(w.root, w.space, w.base, 2 * w.huge, NEOMM_ADVICE_COLD));
    EXPECT_OK(t, put(&w, w.space, w.base, 7));
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 3), 3);
    EXPECT_EQ(t, leaf_at(&w, w.base), w.huge);
    EXPECT_EQ(t, leaf_at(&w, w.base + w.huge + 5 * PAGE), PAGE);
    EXPECT_EQ(t, leaf_at(&w, w.base + w.huge + PAGE), 0);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 2 * w.huge - 3 * PAGE);
    uint64_t value = 0;
    EXPECT_OK(t, get(&w, w.space, w.base + w.huge + PAGE, &value));
    EXPECT_EQ(t, value, 8);
    EXPECT_OK(t, get(&w, w.space, w.base, &value));
    EXPECT_EQ(t, value, 7);
    world_close(&w);
}

static void in_core(struct ktap *t)
{
    struct world w;
    uint8_t in[4] = {9, 9, 9, 9};
    ASSERT(t, world_open(t, &w, NULL, NULL));
    map(&w, w.base, w.huge, 0);
    EXPECT_OK(t, put(&w, w.space, w.base, 1));
    EXPECT_OK(t, neomm_mincore(w.root, w.space, w.base + 17 * PAGE, 2 * PAGE, in + 1));
    EXPECT(t, in[0] == 9 && in[1] == 1 && in[2] == 1 && in[3] == 9);
    world_close(&w);
}

/* What is used of a huge page is all of it: its size, and what replacement knows of its pages. */
static void working_set(struct ktap *t)
{
    struct world w;
    struct neomm_mapping leaf;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    map(&w, w.base, w.huge, 0);
    EXPECT_OK(t, put(&w, w.space, w.base + 3 * PAGE, 1));
    EXPECT_EQ(t, neomm_space_harvest(w.root, w.space), w.pages);
    EXPECT_EQ(t, stats_of(&w).working_set_bytes, w.huge);
    EXPECT_OK(t, neomm_paging_query(w.root, neomm_space_tables(w.space), w.base, &leaf));
    ASSERT(t, leaf.size == w.huge && !leaf.accessed);
    struct neomm__frame *entry = neomm__frame(w.root, neomm_paddr_frame(leaf.paddr));
    for (uint32_t page = 0; page < w.pages; page++)
        EXPECT(t, neomm__frame_age(&entry[page]) && !neomm__frame_age(&entry[page]));
    EXPECT_EQ(t, neomm_space_harvest(w.root, w.space), 0);
    EXPECT_EQ(t, stats_of(&w).working_set_bytes, w.huge / 4 * 3);
    world_close(&w);
}

/* A program that fills memory with huge pages is swapped, not ended. */
static void more_than_memory(struct ktap *t)
{
    struct world w;
    const struct env_options options = {.huge = NEOMM_HUGE_ALWAYS, .ram_bytes = 20u << 20};
    ASSERT(t, world_open(t, &w, &options, NULL));
    const uint32_t pages = (24u << 20) / PAGE;
    map(&w, w.base, pages * PAGE, NEOMM_MAP_NORESERVE);
    for (uint32_t page = 0; page < pages; page++)
        EXPECT_OK(t, put(&w, w.space, w.base + page * PAGE, page));
    for (uint32_t page = 0; page < pages && t->failures == 0; page++) {
        uint64_t value = 0;
        EXPECT_OK(t, get(&w, w.space, w.base + page * PAGE, &value));
        EXPECT_EQ(t, value, page);
    }
    EXPECT(t, counted(&w, NEOMM_COUNTER_FAULT_HUGE) > 0 && stats_of(&w).swap_bytes > 0);
    world_close(&w);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(one_fault_a_block, formats),
    KTAP_CASE_WITH(where_it_is_allowed, formats),
    KTAP_CASE_WITH(where_it_does_not_fit, formats),
    KTAP_CASE_WITH(pairs_of_calls, formats),
    KTAP_CASE_WITH(histories, formats),
    KTAP_CASE_WITH(parts_that_fail, formats),
    KTAP_CASE_WITH(no_block_at_hand, formats),
    KTAP_CASE_WITH(nth_failure, formats),
    KTAP_CASE_WITH(eviction_takes_pages, formats),
    KTAP_CASE_WITH(in_core, formats),
    KTAP_CASE_WITH(working_set, formats),
    KTAP_CASE_WITH(more_than_memory, formats),
};
KTAP_SUITE(vmm_huge, cases);
