/* What single calls on regions promise beyond the model of vmm_calls: stacks, heaps, physical
 * memory, placing, locking, limits and overcommit, moves between page tables.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#define PAGE NEOMM_PAGE_SIZE
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct world {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t base, limit;
};

static bool world_open(struct ktap *t, struct world *w, const struct env_options *asked,
                       const struct neomm_limits *limits)
{
    struct env_options options = asked ? *asked : (struct env_options){0};
    options.layer = ENV_VMM;
    options.format = (enum neomm_format)t->parameter;
    options.swap_pages = 128;
    *w = (struct world){.t = t};
    if (!env_open(t, &w->env, &options))
        return false;
    w->root = w->env.root;
    w->base = neomm_layout_of(w->root)->user_base;
    w->limit = neomm_layout_of(w->root)->user_limit;
    EXPECT_OK(t, neomm_space_create(w->root, limits, &w->space));
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

static neomm_status put(struct world *w, neomm_vaddr_t at, uint64_t value)
{
    return env_access(&w->env, w->space, at, &value, sizeof(value), true, true);
}

static uint64_t get(struct world *w, neomm_vaddr_t at)
{
    uint64_t value = UINT64_MAX;
    EXPECT_OK(w->t, env_access(&w->env, w->space, at, &value, sizeof(value), false, true));
    return value;
}

static neomm_vaddr_t map(struct world *w, neomm_vaddr_t at, uint64_t pages, neomm_prot_t prot,
                         unsigned flags)
{
    EXPECT_OK(w->t, neomm_mmap(w->root, w->space, &at, pages * PAGE, prot, flags));
    return at;
}

static struct neomm_space_stats stats_of(struct world *w)
{
    struct neomm_space_stats stats;
    neomm_space_stats(w->root, w->space, &stats);
    return stats;
}

/* ---- stacks ---- */

static void stacks_grow(struct ktap *t)
{
    struct world w;
    struct neomm_region_info info;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    neomm_vaddr_t at = map(&w, w.base + NEOMM_STACK_GUARD, 4, RW, NEOMM_MAP_STACK);
    EXPECT_EQ(t, at - w.base, 2 * NEOMM_STACK_GUARD);
    EXPECT_OK(t, put(&w, at - PAGE, 1));
    EXPECT_OK(t, neomm_region_at(w.root, w.space, at, &info));
    EXPECT_EQ(t, at - info.start, PAGE);
    EXPECT_EQ(t, stats_of(&w).virtual_bytes, 5 * PAGE);
    /* Far below it is no access of the stack. */
    EXPECT_EQ(t, put(&w, at - PAGE - NEOMM_STACK_GUARD - PAGE, 1), NEOMM_E_FAULT);
    EXPECT_OK(t, put(&w, at - PAGE - NEOMM_STACK_GUARD, 1));
    world_close(&w);
}

static void guards_are_kept(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    neomm_vaddr_t at = map(&w, 0, 4, RW, NEOMM_MAP_STACK);
    /* Nothing comes into the guard by itself, neither from below nor by growing. */
    EXPECT(t, map(&w, 0, 1, RW, 0) >= at + 4 * PAGE);
    neomm_vaddr_t below = map(&w, w.base, 1, RW, NEOMM_MAP_FIXED), same = below;
    EXPECT_OK(t, neomm_mremap(w.root, w.space, below, PAGE, 2 * PAGE, NEOMM_REMAP_MAYMOVE, &same));
    EXPECT(t, same > at);
    /* What is put there on purpose keeps the stack from growing. */
    below = map(&w, at - 100 * PAGE, 1, RW, NEOMM_MAP_EXACT);
    EXPECT_EQ(t, put(&w, at - PAGE, 1), NEOMM_E_FAULT);
    EXPECT_OK(t, neomm_munmap(w.root, w.space, below, PAGE));
    EXPECT_OK(t, put(&w, at, 1));
    world_close(&w);
}

static void stacks_stop_at_limits(struct ktap *t)
{
    struct world w;
    const struct neomm_limits limits = {5 * PAGE, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &w, NULL, &limits));
    neomm_vaddr_t at = map(&w, 0, 4, RW, NEOMM_MAP_STACK);
    EXPECT_EQ(t, put(&w, at - 2 * PAGE, 1), NEOMM_E_FAULT);
    EXPECT_OK(t, put(&w, at - PAGE, 1));
    EXPECT_EQ(t, put(&w, at - 2 * PAGE, 1), NEOMM_E_FAULT);
    world_close(&w);
}

/* ---- brk ---- */

static void heaps_move_their_end(struct ktap *t)
{
    struct world w;
    neomm_vaddr_t now = 0;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    EXPECT_EQ(t, neomm_brk(w.root, w.space, w.base + 5, &now), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_brk_set(w.root, w.space, w.base + 10));
    EXPECT_OK(t, neomm_brk(w.root, w.space, w.base + 3 * PAGE + 1, &now));
    EXPECT_EQ(t, now - w.base, 3 * PAGE + 1);
    EXPECT_OK(t, put(&w, w.base + 3 * PAGE, 7));
    EXPECT_EQ(t, put(&w, w.base + 4 * PAGE, 7), NEOMM_E_FAULT);
    EXPECT_EQ(t, neomm_brk_set(w.root, w.space, w.base), NEOMM_E_BUSY);
    EXPECT_OK(t, neomm_sbrk(w.root, w.space, (intptr_t)PAGE, &now));
    EXPECT_EQ(t, now - w.base, 3 * PAGE + 1);
    EXPECT_OK(t, neomm_sbrk(w.root, w.space, -(intptr_t)(2 * PAGE), &now));
    EXPECT_EQ(t, put(&w, w.base + 3 * PAGE, 7), NEOMM_E_FAULT);
    (void)map(&w, w.base + 6 * PAGE, 1, RW, NEOMM_MAP_EXACT);
    EXPECT_EQ(t, neomm_brk(w.root, w.space, w.base + 7 * PAGE, &now), NEOMM_E_EXISTS);
    EXPECT_EQ(t, now - w.base, 2 * PAGE + 1);
    EXPECT_EQ(t, neomm_brk(w.root, w.space, w.base, NULL), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_sbrk(w.root, w.space, INTPTR_MIN, NULL), NEOMM_E_RANGE);
    /* Grown again, the heap is empty there. */
    EXPECT_OK(t, neomm_brk(w.root, w.space, w.base + 4 * PAGE, NULL));
    EXPECT_EQ(t, get(&w, w.base + 3 * PAGE), 0);
    EXPECT_OK(t, neomm_space_reset(w.root, w.space));
    EXPECT_EQ(t, neomm_brk(w.root, w.space, w.base + PAGE, NULL), NEOMM_E_NOENT);
    EXPECT_EQ(t, stats_of(&w).virtual_bytes, 0);
    world_close(&w);
}

/* ---- physical memory ---- */

static void devices_are_mapped(struct ktap *t)
{
    struct world w;
    struct neomm_mapping leaf;
    const neomm_paddr_t device = (neomm_paddr_t)0xfe000000;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    neomm_vaddr_t at = 0;
    EXPECT_OK(t,
              neomm_mmap_physical(w.root, w.space, &at, device, 8 * PAGE, RW, NEOMM_CACHE_UC, 0));
    EXPECT_OK(t, neomm_paging_query(w.root, neomm_space_tables(w.space), at + 3 * PAGE, &leaf));
    EXPECT_EQ(t, leaf.paddr, device + 3 * PAGE);
    EXPECT_EQ(t, leaf.cache, NEOMM_CACHE_UC);
    EXPECT_OK(t, neomm_munmap(w.root, w.space, at + PAGE, PAGE));
    EXPECT_OK(t, neomm_mprotect(w.root, w.space, at + 4 * PAGE, PAGE, NEOMM_PROT_READ));
    neomm_vaddr_t to = at;
    EXPECT_EQ(
        t, neomm_mremap(w.root, w.space, at + 2 * PAGE, PAGE, 9 * PAGE, NEOMM_REMAP_MAYMOVE, &to),
        NEOMM_E_UNSUPPORTED);
    EXPECT_EQ(t, neomm_madvise(w.root, w.space, at, PAGE, NEOMM_ADVICE_DONTNEED), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_madvise(w.root, w.space, at, PAGE, NEOMM_ADVICE_PAGEOUT), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_mlock(w.root, w.space, at, PAGE, 0));
    EXPECT_EQ(t, stats_of(&w).locked_bytes, 0);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 0);
    env_fsck(t, &w.env);
    /* The next part of the device, right behind: one region. */
    neomm_vaddr_t next = at + 8 * PAGE;
    EXPECT_OK(t, neomm_mmap_physical(w.root, w.space, &next, device + 8 * PAGE, PAGE, RW,
                                     NEOMM_CACHE_UC, NEOMM_MAP_EXACT));
    struct neomm_region_info info;
    EXPECT_OK(t, neomm_region_at(w.root, w.space, next, &info));
    EXPECT_EQ(t, next - info.start, 3 * PAGE);
    EXPECT_EQ(t,
              neomm_mmap_physical(w.root, w.space, &next, device + 1, PAGE, RW, NEOMM_CACHE_UC, 0),
              NEOMM_E_ALIGN);
    EXPECT_EQ(t,
              neomm_mmap_physical(w.root, w.space, &next, device, PAGE, RW, NEOMM_CACHE_UC,
                                  NEOMM_MAP_LOCKED),
              NEOMM_E_INVALID);
    world_close(&w);
}

/* ---- placing ---- */

static void places_are_as_asked(struct ktap *t)
{
    struct world w;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    EXPECT_EQ(t, map(&w, 0, 3, RW, 0), w.base);
    EXPECT_EQ(t, map(&w, 0, 2, NEOMM_PROT_READ, NEOMM_MAP_DOWN), w.limit - 2 * PAGE);
    EXPECT_EQ(t, map(&w, 0, 1, RW, NEOMM_MAP_DOWN), w.limit - 3 * PAGE);
    EXPECT_EQ(t, map(&w, w.base + 64 * PAGE, 1, RW, 0), w.base + 64 * PAGE);
    EXPECT_EQ(t, map(&w, w.base + 64 * PAGE, 1, NEOMM_PROT_READ, 0), w.base + 65 * PAGE);
    EXPECT_EQ(t, map(&w, w.base + 64 * PAGE, 1, RW, NEOMM_MAP_DOWN), w.base + 63 * PAGE);
    /* A hint with no room above it: wherever there is some. */
    EXPECT_EQ(t, map(&w, w.limit - PAGE, 1, RW, 0), w.base + 3 * PAGE);
    neomm_vaddr_t at = 0;
    EXPECT_EQ(t, neomm_mmap(w.root, w.space, &at, w.limit - w.base, RW, NEOMM_MAP_NORESERVE),
              NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_mmap(w.root, w.space, &at, PAGE, RW, 0x8000), NEOMM_E_INVALID);
    world_close(&w);
}

static void random_distances(struct ktap *t)
{
    struct world w;
    const struct env_options options = {.aslr = true};
    uintptr_t seen = 0;
    ASSERT(t, world_open(t, &w, &options, NULL));
    for (unsigned i = 0; i < 32; i++) {
        neomm_vaddr_t low = map(&w, 0, 1, RW, 0), high = map(&w, 0, 1, RW, NEOMM_MAP_DOWN);
        EXPECT(t, (low - w.base) / PAGE >> NEOMM_ASLR_BITS == 0);
        EXPECT(t, (w.limit - high) / PAGE - 1 == (low - w.base) / PAGE);
        seen |= (low - w.base) / PAGE;
        EXPECT_OK(t, neomm_space_reset(w.root, w.space));
    }
    /* Each bit was set once at least. */
    EXPECT_EQ(t, seen, ((uintptr_t)1 << NEOMM_ASLR_BITS) - 1);
    world_close(&w);
}

/* ---- limits ---- */

static void locked_memory_stays(struct ktap *t)
{
    struct world w;
    uint8_t in[8];
    const struct neomm_limits limits = {NEOMM_UNLIMITED, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                        8 * PAGE};
    ASSERT(t, world_open(t, &w, NULL, &limits));
    EXPECT_EQ(t, neomm_mlockall(w.root, w.space, NEOMM_LOCK_ONFAULT), NEOMM_E_INVALID);
    neomm_vaddr_t at = map(&w, 0, 4, RW, 0);
    EXPECT_OK(t, neomm_mlockall(w.root, w.space, NEOMM_LOCK_CURRENT | NEOMM_LOCK_FUTURE));
    neomm_vaddr_t more = map(&w, at + 16 * PAGE, 4, RW, NEOMM_MAP_EXACT);
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 8 * PAGE);
    neomm_vaddr_t none = 0;
    EXPECT_EQ(t, neomm_mmap(w.root, w.space, &none, PAGE, RW, 0), NEOMM_E_LIMIT);
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 100), 0);
    EXPECT_EQ(t, neomm_madvise(w.root, w.space, at, PAGE, NEOMM_ADVICE_PAGEOUT), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_munlock(w.root, w.space, at + PAGE, PAGE));
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 100), 1);
    EXPECT_OK(t, neomm_mincore(w.root, w.space, at, 4 * PAGE, in));
    EXPECT(t, in[0] == 1 && in[1] == 0 && in[2] == 1 && in[3] == 1);
    EXPECT_OK(t, neomm_munlockall(w.root, w.space));
    EXPECT_EQ(t, stats_of(&w).locked_bytes, 0);
    EXPECT_EQ(t, neomm_space_evict(w.root, w.space, 100), 7);
    EXPECT_OK(t, neomm_madvise(w.root, w.space, more, 4 * PAGE, NEOMM_ADVICE_WILLNEED));
    EXPECT_EQ(t, stats_of(&w).resident_bytes, 4 * PAGE);
    world_close(&w);
}

static void promises_are_counted(struct ktap *t)
{
    struct world w;
    const struct env_options options = {.ram_bytes = 8u << 20,
                                        .overcommit = NEOMM_OVERCOMMIT_REFUSE};
    const uint64_t all = (8u << 20) / PAGE + 128, half = all / 2;
    ASSERT(t, world_open(t, &w, &options, NULL));
    neomm_vaddr_t at = map(&w, 0, half, RW, 0), no = 0;
    EXPECT_EQ(t, neomm_mmap(w.root, w.space, &no, half * PAGE, RW, 0), NEOMM_E_LIMIT);
    neomm_vaddr_t read = map(&w, 0, half, NEOMM_PROT_READ, 0);
    (void)map(&w, 0, half, RW, NEOMM_MAP_NORESERVE);
    EXPECT_EQ(t, neomm_mprotect(w.root, w.space, read, half * PAGE, RW), NEOMM_E_LIMIT);
    EXPECT_OK(t, neomm_munmap(w.root, w.space, at, half * PAGE));
    EXPECT_OK(t, neomm_mprotect(w.root, w.space, read, half * PAGE, RW));
    EXPECT_EQ(t, neomm_mmap(w.root, w.space, &no, half * PAGE, RW, 0), NEOMM_E_LIMIT);
    world_close(&w);
    const struct env_options heuristic = {.ram_bytes = 8u << 20};
    ASSERT(t, world_open(t, &w, &heuristic, NULL));
    for (unsigned i = 0; i < 8; i++)
        (void)map(&w, 0, half, RW, 0);
    EXPECT_EQ(t, neomm_mmap(w.root, w.space, &no, 2 * all * PAGE, RW, 0), NEOMM_E_LIMIT);
    world_close(&w);
    const struct env_options always = {.ram_bytes = 8u << 20,
                                       .overcommit = NEOMM_OVERCOMMIT_ALWAYS};
    /* More than 2^31 pages, more than once, where there are so many addresses. */
    const uint64_t huge = sizeof(size_t) == 8 ? (uint64_t)9 << 40 : (uint64_t)1 << 30;
    ASSERT(t, world_open(t, &w, &always, NULL));
    (void)map(&w, 0, huge / PAGE, RW, 0);
    (void)map(&w, 0, huge / PAGE, RW, 0);
    world_close(&w);
}

/* ---- moves ---- */

#define FAR ((neomm_vaddr_t)64 << 20)

/* Pages here and there, one in swap, to where there are no tables yet; each table fails. */
static void move_far(struct world *w, uint64_t nth, bool *done)
{
    const uint32_t page[] = {0, 1, 1023, 1024, 2000};
    neomm_vaddr_t at = map(w, w->base, 2001, RW, NEOMM_MAP_EXACT), to = w->base + FAR - 1024 * PAGE;
    for (unsigned i = 0; i < 5; i++)
        EXPECT_OK(w->t, put(w, at + page[i] * PAGE, 10 + i));
    EXPECT_OK(w->t, neomm_madvise(w->root, w->space, at + PAGE, PAGE, NEOMM_ADVICE_PAGEOUT));
    (void)env_fault_plan(&w->env, nth, nth % 2);
    neomm_status status = neomm_mremap(w->root, w->space, at, 2001 * PAGE, 2001 * PAGE,
                                       NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED, &to);
    *done = env_fault_count(&w->env) < nth || nth == 0;
    (void)env_fault_plan(&w->env, 0, false);
    EXPECT(w->t, status == NEOMM_OK || (status == NEOMM_E_NOMEM && !*done));
    neomm_vaddr_t now = status == NEOMM_OK ? to : at;
    for (unsigned i = 0; i < 5; i++)
        EXPECT_EQ(w->t, get(w, now + page[i] * PAGE), 10 + i);
    EXPECT_EQ(w->t, stats_of(w).resident_bytes, 5 * PAGE);
    env_fsck(w->t, &w->env);
    EXPECT_EQ(w->t, neomm_space_evict(w->root, w->space, 5), 5);
    for (unsigned i = 0; i < 5; i++)
        EXPECT_EQ(w->t, get(w, now + page[i] * PAGE), 10 + i);
    EXPECT_OK(w->t, neomm_space_reset(w->root, w->space));
}

static void moves_far(struct ktap *t)
{
    struct world w;
    bool done = false;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    move_far(&w, 0, &done);
    for (uint64_t nth = 1; env_fault_plan(&w.env, 0, false) && t->failures == 0; nth++) {
        move_far(&w, nth, &done);
        if (done)
            break;
    }
    world_close(&w);
}

static void moves_behind_itself(struct ktap *t)
{
    struct world w;
    struct neomm_region_info info;
    ASSERT(t, world_open(t, &w, NULL, NULL));
    neomm_vaddr_t at = map(&w, 0, 2, RW, 0), to = at + 2 * PAGE;
    EXPECT_OK(t, put(&w, at, 5));
    EXPECT_OK(t, neomm_mremap(w.root, w.space, at, 2 * PAGE, 2 * PAGE,
                              NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED | NEOMM_REMAP_KEEP, &to));
    EXPECT_EQ(t, get(&w, to), 5);
    EXPECT_EQ(t, get(&w, at), 0);
    EXPECT_OK(t, neomm_region_at(w.root, w.space, at, &info));
    EXPECT_EQ(t, info.end - info.start, 4 * PAGE);
    world_close(&w);
}

/* What can be written or run can be read, as x86 has it: also before it was first written to. */
static void rights_without_reading(struct ktap *t)
{
    static const neomm_prot_t rights[] = {NEOMM_PROT_WRITE, NEOMM_PROT_EXEC};
    struct env env;
    struct neomm_space *space;
    struct neomm_region_info info;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    EXPECT_OK(t, neomm_space_create(env.root, NULL, &space));
    neomm_space_activate(env.root, space);
    for (unsigned i = 0; i < 4; i++) {
        neomm_vaddr_t at = neomm_layout_of(env.root)->user_base;
        uint64_t value = 1;
        EXPECT_OK(t, neomm_mmap(env.root, space, &at, 2 * NEOMM_PAGE_SIZE,
                                i & 2 ? NEOMM_PROT_NONE : rights[i & 1], NEOMM_MAP_FIXED));
        EXPECT_OK(t, neomm_mprotect(env.root, space, at, 2 * NEOMM_PAGE_SIZE, rights[i & 1]));
        EXPECT_OK(t, neomm_region_at(env.root, space, at, &info));
        EXPECT_EQ(t, info.prot, rights[i & 1] | NEOMM_PROT_READ);
        EXPECT_OK(t, env_access(&env, space, at, &value, 8, false, true));
        EXPECT_EQ(t, value, 0);
        EXPECT_EQ(t, env_access(&env, space, at + NEOMM_PAGE_SIZE, &value, 8, true, true),
                  i & 1 ? NEOMM_E_FAULT : NEOMM_OK);
        env_fsck(t, &env);
    }
    neomm_space_activate(env.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(env.root, space));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(rights_without_reading, formats),
    KTAP_CASE_WITH(stacks_grow, formats),
    KTAP_CASE_WITH(guards_are_kept, formats),
    KTAP_CASE_WITH(stacks_stop_at_limits, formats),
    KTAP_CASE_WITH(heaps_move_their_end, formats),
    KTAP_CASE_WITH(devices_are_mapped, formats),
    KTAP_CASE_WITH(places_are_as_asked, formats),
    KTAP_CASE_WITH(random_distances, formats),
    KTAP_CASE_WITH(locked_memory_stays, formats),
    KTAP_CASE_WITH(promises_are_counted, formats),
    KTAP_CASE_WITH(moves_far, formats),
    KTAP_CASE_WITH(moves_behind_itself, formats),
};
KTAP_SUITE(vmm_ranges, cases);
