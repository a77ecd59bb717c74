/* What faults, forks and mappings cost, counted and not timed: descents of the tables,
 * invalidations, frames, heap objects, words of mapping sets. The most that is allowed.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "sim/sim.h"

static const uint64_t formats[] = ENV_FORMATS;

#define RW    (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGE  NEOMM_PAGE_SIZE
#define PAGES 64u
#define BYTES (PAGES * PAGE)
#define BASE  ((neomm_vaddr_t)0x40000000)

struct cost {
    uint64_t descents, flushes, frames, objects, probes;
};

struct setting {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    struct cost before;
};

static struct cost costs_now(struct neomm *root)
{
    struct neomm_snapshot s;
    neomm_snapshot_take(root, &s);
    return (struct cost){.descents = s.counter[NEOMM_COUNTER_DESCENT],
                         .flushes = s.counter[NEOMM_COUNTER_FLUSH_PAGE] +
                                    s.counter[NEOMM_COUNTER_FLUSH_ALL],
                         .frames = s.counter[NEOMM_COUNTER_FRAME_ALLOC],
                         .objects = s.counter[NEOMM_COUNTER_KMALLOC],
                         .probes = s.counter[NEOMM_COUNTER_RMAP_PROBE]};
}

/* Compares what was spent since the last time. */
static void spent(struct setting *s, const char *what, struct cost most)
{
    struct ktap *t = s->t;
    struct cost now = costs_now(s->root), was = s->before;
    unsigned failures = t->failures;
    EXPECT(t, now.descents - was.descents <= most.descents);
    EXPECT(t, now.flushes - was.flushes <= most.flushes);
    EXPECT(t, now.frames - was.frames <= most.frames);
    EXPECT(t, now.objects - was.objects <= most.objects);
    EXPECT(t, now.probes - was.probes <= most.probes);
    if (t->failures != failures)
        ktap_note(
            t, "this was: %s (%llu descents, %llu flushes, %llu frames, %llu objects, %llu probes)",
            what, (unsigned long long)(now.descents - was.descents),
            (unsigned long long)(now.flushes - was.flushes),
            (unsigned long long)(now.frames - was.frames),
            (unsigned long long)(now.objects - was.objects),
            (unsigned long long)(now.probes - was.probes));
    s->before = costs_now(s->root);
}

static void touch(struct setting *s, struct neomm_space *space, neomm_vaddr_t at, unsigned pages)
{
    struct ktap *t = s->t;
    struct neomm_fault_result result;
    for (unsigned i = 0; i < pages; i++)
        EXPECT_EQ(
            t, neomm_fault(s->root, space, at + i * PAGE, NEOMM_PF_WRITE | NEOMM_PF_USER, &result),
            NEOMM_FAULT_RESOLVED);
}

/* A region whose first page was touched: its tables are there. */
static bool open_setting(struct ktap *t, struct setting *s)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    neomm_vaddr_t at = BASE;
    *s = (struct setting){.t = t};
    if (!env_open(t, &s->env, &options))
        return false;
    s->root = s->env.root;
    EXPECT_OK(t, neomm_space_create(s->root, NULL, &s->space));
    neomm_space_activate(s->root, s->space);
    EXPECT_OK(t, neomm_mmap(s->root, s->space, &at, BYTES, RW, NEOMM_MAP_EXACT));
    touch(s, s->space, BASE, 1);
    s->before = costs_now(s->root);
    return true;
}

static void close_setting(struct setting *s)
{
    struct ktap *t = s->t;
    neomm_space_activate(s->root, NULL);
    EXPECT_OK(t, neomm_space_destroy(s->root, s->space));
    env_close(t, &s->env);
}

static uint64_t locks(const struct setting *s)
{
    return sim_locks_taken(s->env.machine);
}

/* Locks of tables, frames and domains: one of the table for a first touch, none of the frame, and
 * the domains' once for fifteen pages; and for its end the same of the frame, which is emptied by
 * the instruction that locks it, and the domains' once for a batch. */
static void locking(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    touch(&s, s.space, BASE + PAGE, 1); /* the allocator's cache is filled */
    uint64_t before = locks(&s), pages = 30;
    touch(&s, s.space, BASE + 2 * PAGE, 30);
    EXPECT(t, locks(&s) - before <= pages + pages / 15);
    before = locks(&s);
    EXPECT_OK(t, neomm_munmap(s.root, s.space, BASE + 2 * PAGE, 30 * PAGE));
    EXPECT(t, locks(&s) - before <= pages + 4);
    close_setting(&s);
}

/* A look at the leaf, and the exchange. */
static void faults(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    touch(&s, s.space, BASE + PAGE, 1);
    spent(&s, "a first touch", (struct cost){.descents = 2, .frames = 1});
    touch(&s, s.space, BASE + PAGE, 1);
    spent(&s, "a page that is there", (struct cost){.descents = 1});
    touch(&s, s.space, BASE + 2 * PAGE, PAGES - 2);
    spent(&s, "first touches", (struct cost){.descents = 2 * (PAGES - 2), .frames = PAGES - 2});
    close_setting(&s);
}

static void mappings(struct ktap *t)
{
    struct setting s;
    neomm_vaddr_t at = BASE + 2 * BYTES;
    ASSERT(t, open_setting(t, &s));
    EXPECT_OK(t, neomm_mmap(s.root, s.space, &at, PAGE, RW, NEOMM_MAP_EXACT));
    EXPECT_OK(t, neomm_munmap(s.root, s.space, at, PAGE));
    s.before = costs_now(s.root);
    EXPECT_OK(t, neomm_mmap(s.root, s.space, &at, PAGE, RW, NEOMM_MAP_EXACT));
    spent(&s, "a mapping", (struct cost){.objects = 1});
    EXPECT_OK(t, neomm_munmap(s.root, s.space, at, PAGE));
    spent(&s, "its end", (struct cost){.descents = 1, .objects = 1});
    close_setting(&s);
}

/* Of a page: a table for its mapping set, and one or two words of it. One invalidation and a few
 * descents do for all pages of a table. */
static void forks(struct ktap *t)
{
    struct setting s;
    struct neomm_space *child;
    ASSERT(t, open_setting(t, &s));
    touch(&s, s.space, BASE, PAGES);
    s.before = costs_now(s.root);
    EXPECT_OK(t, neomm_space_fork(s.root, s.space, &child));
    spent(&s, "a fork",
          (struct cost){
              .descents = 5, .flushes = 1, .frames = 8, .objects = PAGES + 4, .probes = 2 * PAGES});
    touch(&s, child, BASE, 1);
    spent(&s, "a copy", (struct cost){.descents = 3, .frames = 1, .probes = 2});
    touch(&s, s.space, BASE, 1);
    spent(&s, "the last owner's write", (struct cost){.descents = 2, .flushes = 1});
    EXPECT_OK(t, neomm_space_destroy(s.root, child));
    close_setting(&s);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(locking, formats),
    KTAP_CASE_WITH(faults, formats),
    KTAP_CASE_WITH(mappings, formats),
    KTAP_CASE_WITH(forks, formats),
};
KTAP_SUITE(vmm_costs, cases);
