/* Long random histories of several processes against a naive model: mappings that move, are locked,
 * given up and protected, forks, shared objects, evictions, and every byte that was written.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "share.h"

#include "vmm/vmm_priv.h"

#define PAGE         NEOMM_PAGE_SIZE
#define RW           (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGES        24u
#define PROCESSES    5u
#define OBJECTS      2u
#define OBJECT_PAGES 8u
#define LOCKED_MOST  4u /* pages of a process */

/* Every page has its value in the first and in the last word. */
#define LAST_WORD (PAGE - 8u)

struct page {
    bool mapped, locked;
    bool in; /* must be in memory */
    neomm_prot_t prot;
    uint32_t object, offset; /* object 0: private */
    uint64_t value;
};

struct process {
    struct neomm_space *space; /* NULL: there is none */
    struct page page[PAGES];
};

struct world {
    struct env env;
    struct ktap *t;
    neomm_vaddr_t at;
    struct process process[PROCESSES];
    struct neomm_object *object[OBJECTS];
    uint64_t shared[OBJECTS][OBJECT_PAGES];
    uint64_t random, values;
};

struct range {
    uint32_t first, count;
};

static uint32_t pick(struct world *w, uint32_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((w->random >> 33) % below);
}

static struct range pick_range(struct world *w)
{
    struct range range = {pick(w, PAGES), 1 + pick(w, 5)};
    if (range.count > PAGES - range.first)
        range.count = PAGES - range.first;
    return range;
}

static struct process *any(struct world *w)
{
    struct process *p;
    do
        p = &w->process[pick(w, PROCESSES)];
    while (!p->space);
    return p;
}

static neomm_vaddr_t address(const struct world *w, uint32_t page)
{
    return w->at + page * PAGE;
}

static uint64_t *value_of(struct world *w, struct page *page)
{
    return page->object ? &w->shared[page->object - 1][page->offset] : &page->value;
}

static bool all_mapped(const struct process *p, struct range range)
{
    bool all = true;
    for (uint32_t i = range.first; i < range.first + range.count; i++)
        all &= p->page[i].mapped;
    return all;
}

static uint32_t locked_pages(const struct process *p)
{
    uint32_t locked = 0;
    for (uint32_t i = 0; i < PAGES; i++)
        locked += p->page[i].locked;
    return locked;
}

/* ---- contents ---- */

static neomm_status transfer(struct world *w, struct process *p, neomm_vaddr_t at, uint64_t *value,
                             bool write, bool by_kernel)
{
    if (!by_kernel)
        return env_access(&w->env, p->space, at, value, sizeof(*value), write, true);
    return write ? neomm_copy_to_user(w->env.root, p->space, at, value, sizeof(*value), NULL)
                 : neomm_copy_from_user(w->env.root, p->space, value, at, sizeof(*value), NULL);
}

static void step_write(struct world *w, struct process *p, uint32_t page, bool by_kernel)
{
    struct page *of = &p->page[page];
    uint64_t value = ++w->values;
    neomm_status want = of->mapped && of->prot == RW ? NEOMM_OK : NEOMM_E_FAULT;
    neomm_space_activate(w->env.root, p->space);
    EXPECT_EQ(w->t, transfer(w, p, address(w, page), &value, true, by_kernel), want);
    EXPECT_EQ(w->t, transfer(w, p, address(w, page) + LAST_WORD, &value, true, by_kernel), want);
    if (want == NEOMM_OK)
        *value_of(w, of) = value;
}

static void step_read(struct world *w, struct process *p, uint32_t page, bool by_kernel)
{
    struct page *of = &p->page[page];
    uint64_t first = 0, last = 0;
    neomm_status want = of->mapped ? NEOMM_OK : NEOMM_E_FAULT;
    neomm_space_activate(w->env.root, p->space);
    EXPECT_EQ(w->t, transfer(w, p, address(w, page), &first, false, by_kernel), want);
    EXPECT_EQ(w->t, transfer(w, p, address(w, page) + LAST_WORD, &last, false, by_kernel), want);
    EXPECT_EQ(w->t, first, want == NEOMM_OK ? *value_of(w, of) : 0);
    EXPECT_EQ(w->t, last, first);
}

static void check_memory(struct world *w, struct process *p, uint32_t page)
{
    uint8_t in = 0;
    if (!p->page[page].in)
        return;
    EXPECT_OK(w->t, neomm_mincore(w->env.root, p->space, address(w, page), PAGE, &in));
    EXPECT(w->t, in);
}

static void compare(struct world *w)
{
    for (uint32_t i = 0; i < PROCESSES; i++)
        for (uint32_t page = 0; w->process[i].space && page < PAGES; page++) {
            check_memory(w, &w->process[i], page);
            step_read(w, &w->process[i], page, page % 2);
        }
}

/* ---- calls on ranges ---- */

static void step_map(struct world *w, struct process *p)
{
    struct range range = pick_range(w);
    neomm_vaddr_t at = address(w, range.first);
    neomm_prot_t prot = pick(w, 4) ? RW : NEOMM_PROT_READ;
    uint32_t object = pick(w, OBJECTS + 1), offset = pick(w, OBJECT_PAGES - range.count + 1);
    uint64_t size = range.count * PAGE;
    if (object)
        EXPECT_OK(w->t, neomm_mmap_object(w->env.root, p->space, &at, size, prot, NEOMM_MAP_FIXED,
                                          w->object[object - 1], (uint64_t)offset * PAGE));
    else
        EXPECT_OK(w->t, neomm_mmap(w->env.root, p->space, &at, size, prot, NEOMM_MAP_FIXED));
    for (uint32_t i = 0; i < range.count; i++)
        p->page[range.first + i] =
            (struct page){.mapped = true, .prot = prot, .object = object, .offset = offset + i};
}

static void step_unmap(struct world *w, struct process *p)
{
    struct range range = pick_range(w);
    EXPECT_OK(w->t,
              neomm_munmap(w->env.root, p->space, address(w, range.first), range.count * PAGE));
    for (uint32_t i = 0; i < range.count; i++)
        p->page[range.first + i] = (struct page){.mapped = false};
}

static void step_protect(struct world *w, struct process *p)
{
    struct range range = pick_range(w);
    neomm_prot_t prot = pick(w, 2) ? RW : NEOMM_PROT_READ;
    bool all = all_mapped(p, range);
    EXPECT_EQ(
        w->t,
        neomm_mprotect(w->env.root, p->space, address(w, range.first), range.count * PAGE, prot),
        all ? NEOMM_OK : NEOMM_E_NOENT);
    for (uint32_t i = 0; all && i < range.count; i++)
        p->page[range.first + i].prot = prot;
}

/* Where pages were that have moved: nothing, or (keep) the same mapping without its pages. */
static struct page left_behind(const struct page *page, bool keep)
{
    struct page left = {.mapped = false};
    if (!keep)
        return left;
    left = *page;
    left.value = 0;
    left.locked = left.in = false;
    return left;
}

static void step_move(struct world *w, struct process *p)
{
    struct range range = pick_range(w);
    struct neomm_region_info info;
    uint32_t to = pick(w, PAGES - range.count + 1);
    bool keep = pick(w, 3) == 0;
    neomm_vaddr_t from = address(w, range.first), place = address(w, to);
    if ((to < range.first + range.count && range.first < to + range.count) ||
        neomm_region_at(w->env.root, p->space, from, &info) != NEOMM_OK)
        return;
    bool one = info.end >= from + range.count * PAGE;
    neomm_status status = neomm_mremap(
        w->env.root, p->space, from, range.count * PAGE, range.count * PAGE,
        NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED | (keep ? NEOMM_REMAP_KEEP : 0), &place);
    EXPECT_EQ(w->t, status, one ? NEOMM_OK : NEOMM_E_NOENT);
    for (uint32_t i = 0; one && i < range.count; i++) {
        struct page *old = &p->page[range.first + i];
        p->page[to + i] = *old;
        *old = left_behind(old, keep);
    }
}

static void step_lock(struct world *w, struct process *p)
{
    struct range range = pick_range(w);
    bool lock = locked_pages(p) + range.count <= LOCKED_MOST && pick(w, 3);
    neomm_vaddr_t at = address(w, range.first);
    neomm_status status = lock ? neomm_mlock(w->env.root, p->space, at, range.count * PAGE, 0)
                               : neomm_munlock(w->env.root, p->space, at, range.count * PAGE);
    bool all = all_mapped(p, range);
    EXPECT_EQ(w->t, status, all ? NEOMM_OK : NEOMM_E_NOENT);
    for (uint32_t i = range.first; all && i < range.first + range.count; i++) {
        p->page[i].locked = p->page[i].in = lock;
        check_memory(w, p, i);
    }
}

/* Regions before the first that is locked have done as they were told. */
static void step_advise(struct world *w, struct process *p, enum neomm_advice advice)
{
    struct range range = pick_range(w);
    neomm_status want = all_mapped(p, range) ? NEOMM_OK : NEOMM_E_NOENT;
    for (uint32_t i = range.first; i < range.first + range.count; i++) {
        if (p->page[i].locked) {
            want = NEOMM_E_INVALID;
            break;
        }
        if (advice == NEOMM_ADVICE_DONTNEED)
            p->page[i].value = 0;
    }
    EXPECT_EQ(
        w->t,
        neomm_madvise(w->env.root, p->space, address(w, range.first), range.count * PAGE, advice),
        want);
}

/* ---- processes and objects ---- */

static void step_fork(struct world *w, struct process *parent)
{
    struct process *child = w->process;
    while (child->space && child < &w->process[PROCESSES - 1])
        child++;
    if (child->space)
        return;
    struct neomm_space *space = NULL;
    EXPECT_OK(w->t, neomm_space_fork(w->env.root, parent->space, &space));
    *child = *parent;
    child->space = space;
    for (uint32_t i = 0; i < PAGES; i++)
        child->page[i].locked = child->page[i].in = false;
}

static void end_process(struct world *w, struct process *p)
{
    neomm_space_activate(w->env.root, NULL);
    EXPECT_OK(w->t, neomm_space_destroy(w->env.root, p->space));
    *p = (struct process){0};
}

static void step_exit(struct world *w, struct process *p)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < PROCESSES; i++)
        alive += w->process[i].space != NULL;
    if (alive > 1)
        end_process(w, p);
}

/* Shrinks an object and lets it grow again. */
static void step_truncate(struct world *w)
{
    uint32_t object = pick(w, OBJECTS), size = pick(w, OBJECT_PAGES);
    EXPECT_OK(w->t, neomm_object_resize(w->env.root, w->object[object], (uint64_t)size * PAGE));
    EXPECT_OK(w->t,
              neomm_object_resize(w->env.root, w->object[object], (uint64_t)OBJECT_PAGES * PAGE));
    for (uint32_t i = size; i < OBJECT_PAGES; i++)
        w->shared[object][i] = 0;
    for (uint32_t i = 0; i < PROCESSES * PAGES; i++) {
        struct page *page = &w->process[i / PAGES].page[i % PAGES];
        if (page->object == object + 1 && page->offset >= size)
            page->in = false;
    }
}

static void step_call(struct world *w, struct process *p, uint32_t what)
{
    if (what < 3)
        step_map(w, p);
    else if (what < 4)
        step_unmap(w, p);
    else if (what < 6)
        step_protect(w, p);
    else if (what < 9)
        step_move(w, p);
    else if (what < 11)
        step_lock(w, p);
    else if (what < 12)
        step_advise(w, p, NEOMM_ADVICE_DONTNEED);
    else if (what < 14)
        step_advise(w, p, NEOMM_ADVICE_PAGEOUT);
    else
        step_truncate(w);
}

static void step(struct world *w)
{
    struct process *p = any(w);
    uint32_t page = pick(w, PAGES), what = pick(w, 64);
    if (what < 20)
        step_write(w, p, page, what % 4 == 0);
    else if (what < 38)
        step_read(w, p, page, what % 4 == 0);
    else if (what < 42)
        (void)neomm_space_evict(w->env.root, p->space, 1 + pick(w, 6));
    else if (what < 43)
        (void)neomm__reclaim(w->env.root, 1 + pick(w, 10));
    else if (what < 58)
        step_call(w, p, what - 43);
    else if (what < 61)
        step_fork(w, p);
    else
        step_exit(w, p);
}

/* ---- histories ---- */

static bool world_open(struct ktap *t, struct world *w, const struct env_options *options,
                       const struct neomm_limits *limits)
{
    *w = (struct world){.t = t, .random = options->seed + 1};
    if (!env_open(t, &w->env, options))
        return false;
    w->at = neomm_layout_of(w->env.root)->user_base;
    EXPECT_OK(t, neomm_space_create(w->env.root, limits, &w->process[0].space));
    for (uint32_t i = 0; i < OBJECTS; i++)
        EXPECT_OK(t, neomm_object_create(w->env.root, NULL, (uint64_t)OBJECT_PAGES * PAGE,
                                         &w->object[i]));
    return t->failures == 0;
}

static void world_close(struct world *w)
{
    env_fsck(w->t, &w->env);
    for (uint32_t i = 0; i < PROCESSES; i++)
        if (w->process[i].space)
            end_process(w, &w->process[i]);
    for (uint32_t i = 0; i < OBJECTS; i++)
        neomm_object_close(w->env.root, w->object[i]);
    env_close(w->t, &w->env);
}

/* Parameter: format | zero page << 1 | seed << 4 | limit in pages << 16. */
static const uint64_t histories[] = {0x00010, 0x00022, 0x00031, 0x00043, 0xc0050, 0xc0063};

static void random_histories(struct ktap *t)
{
    static const uint64_t formats[] = ENV_FORMATS;
    static struct world world;
    uint64_t limit = t->parameter >> 16;
    const struct env_options options = {.layer = ENV_VMM,
                                        .readahead = 16,
                                        .format = (enum neomm_format)formats[t->parameter & 1],
                                        .swap_pages = 400,
                                        .seed = t->parameter >> 4 & 0xff,
                                        .whims = 1,
                                        .no_zero_page = !(t->parameter & 2)};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, limit ? limit * PAGE : NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    uint64_t steps = share_of(10000);
    ASSERT(t, world_open(t, &world, &options, &limits));
    for (uint64_t i = 0; i < steps && t->failures == 0; i++) {
        step(&world);
        if (i % 250 == 0) {
            env_fsck(t, &world.env);
            compare(&world);
        }
        if (t->failures != 0)
            ktap_note(t, "step %llu", (unsigned long long)i);
    }
    world_close(&world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_histories, histories),
};
KTAP_SUITE(vmm_histories, cases);
