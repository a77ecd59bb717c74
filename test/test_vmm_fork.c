/* Fork: families of processes against a naive model, chains and crowds of them, every failure.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "share.h"

#include "vmm/vmm_priv.h"

#define PAGE      NEOMM_PAGE_SIZE
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGES     20u
#define PROCESSES 6u

static const uint64_t formats[] = ENV_FORMATS;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* ---- the model: what each process must find in each page ---- */

struct process {
    struct neomm_space *space; /* NULL: there is none */
    bool mapped[PAGES];
    neomm_prot_t prot[PAGES];
    uint64_t value[PAGES];
};

struct family {
    struct env env;
    struct ktap *t;
    neomm_vaddr_t at;
    struct process process[PROCESSES];
    uint64_t random, values;
};

static uint32_t pick(struct family *f, uint32_t below)
{
    return (uint32_t)(next_random(&f->random) % below);
}

static struct process *any(struct family *f)
{
    struct process *p;
    do
        p = &f->process[pick(f, PROCESSES)];
    while (!p->space);
    return p;
}

static neomm_vaddr_t address(const struct family *f, uint32_t page)
{
    return f->at + page * PAGE + page * 8;
}

static bool family_open(struct ktap *t, struct family *f, const struct env_options *options,
                        const struct neomm_limits *limits)
{
    *f = (struct family){.t = t, .random = options->seed + 1};
    if (!env_open(t, &f->env, options))
        return false;
    struct process *first = &f->process[0];
    f->at = neomm_layout_of(f->env.root)->user_base;
    EXPECT_OK(t, neomm_space_create(f->env.root, limits, &first->space));
    EXPECT_OK(t, neomm_mmap(f->env.root, first->space, &f->at, PAGES * PAGE, RW, NEOMM_MAP_FIXED));
    for (uint32_t i = 0; i < PAGES; i++) {
        first->mapped[i] = true;
        first->prot[i] = RW;
    }
    return t->failures == 0;
}

static void end_process(struct family *f, struct process *p)
{
    neomm_space_activate(f->env.root, NULL);
    EXPECT_OK(f->t, neomm_space_destroy(f->env.root, p->space));
    *p = (struct process){0};
}

static void family_close(struct family *f)
{
    env_fsck(f->t, &f->env);
    for (uint32_t i = 0; i < PROCESSES; i++)
        if (f->process[i].space)
            end_process(f, &f->process[i]);
    env_close(f->t, &f->env);
}

static void step_write(struct family *f, struct process *p, uint32_t page, bool by_kernel)
{
    struct neomm *root = f->env.root;
    uint64_t value = ++f->values;
    bool may = p->mapped[page] && p->prot[page] == RW;
    neomm_space_activate(root, p->space);
    neomm_status status =
        by_kernel
            ? neomm_copy_to_user(root, p->space, address(f, page), &value, sizeof(value), NULL)
            : env_access(&f->env, p->space, address(f, page), &value, sizeof(value), true, true);
    EXPECT_EQ(f->t, status, may ? NEOMM_OK : NEOMM_E_FAULT);
    if (may)
        p->value[page] = value;
}

static void step_read(struct family *f, struct process *p, uint32_t page, bool by_kernel)
{
    struct neomm *root = f->env.root;
    uint64_t value = 0;
    neomm_space_activate(root, p->space);
    neomm_status status =
        by_kernel
            ? neomm_copy_from_user(root, p->space, &value, address(f, page), sizeof(value), NULL)
            : env_access(&f->env, p->space, address(f, page), &value, sizeof(value), false, true);
    EXPECT_EQ(f->t, status, p->mapped[page] ? NEOMM_OK : NEOMM_E_FAULT);
    if (status == NEOMM_OK)
        EXPECT_EQ(f->t, value, p->value[page]);
}

static void step_fork(struct family *f, struct process *parent)
{
    struct process *child = f->process;
    while (child->space && child < &f->process[PROCESSES - 1])
        child++;
    if (child->space)
        return;
    struct neomm_space *space = NULL;
    EXPECT_OK(f->t, neomm_space_fork(f->env.root, parent->space, &space));
    *child = *parent;
    child->space = space;
}

static void step_exit(struct family *f, struct process *p)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < PROCESSES; i++)
        alive += f->process[i].space != NULL;
    if (alive > 1)
        end_process(f, p);
}

static void step_protect(struct family *f, struct process *p, uint32_t page)
{
    neomm_prot_t prot = pick(f, 2) ? RW : NEOMM_PROT_READ;
    neomm_status status = neomm_mprotect(f->env.root, p->space, f->at + page * PAGE, PAGE, prot);
    EXPECT_EQ(f->t, status, p->mapped[page] ? NEOMM_OK : NEOMM_E_NOENT);
    if (p->mapped[page])
        p->prot[page] = prot;
}

static void step_map(struct family *f, struct process *p, uint32_t page)
{
    neomm_vaddr_t at = f->at + page * PAGE;
    if (p->mapped[page])
        EXPECT_OK(f->t, neomm_munmap(f->env.root, p->space, at, PAGE));
    else
        EXPECT_OK(f->t, neomm_mmap(f->env.root, p->space, &at, PAGE, RW, NEOMM_MAP_EXACT));
    p->mapped[page] = !p->mapped[page];
    p->prot[page] = p->mapped[page] ? RW : 0;
    p->value[page] = 0;
}

static void step(struct family *f)
{
    struct process *p = any(f);
    uint32_t page = pick(f, PAGES), what = pick(f, 64);
    if (what < 24)
        step_write(f, p, page, what % 4 == 0);
    else if (what < 48)
        step_read(f, p, page, what % 4 == 0);
    else if (what < 52)
        (void)neomm_space_evict(f->env.root, p->space, 1 + pick(f, 6));
    else if (what < 54)
        step_map(f, p, page);
    else if (what < 56)
        step_protect(f, p, page);
    else if (what < 57)
        (void)neomm__reclaim(f->env.root, 1 + pick(f, 10));
    else if (what < 61)
        step_fork(f, p);
    else
        step_exit(f, p);
}

static void compare(struct family *f)
{
    for (uint32_t i = 0; i < PROCESSES; i++)
        for (uint32_t page = 0; f->process[i].space && page < PAGES; page++)
            step_read(f, &f->process[i], page, page % 2);
}

/* Parameter: format | zero page << 1 | seed << 4 | limit in pages << 16. */
static const uint64_t histories[] = {0x00010, 0x00022, 0x00031, 0x00043, 0x80050,
                                     0x80062, 0x80071, 0x30083, 0x30090};

static void random_families(struct ktap *t)
{
    static struct family family;
    uint64_t limit = t->parameter >> 16;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[t->parameter & 1],
                                        .swap_pages = 400,
                                        .seed = t->parameter >> 4 & 0xff,
                                        .whims = 1,
                                        .no_zero_page = !(t->parameter & 2)};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, limit ? limit * PAGE : NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    uint64_t steps = share_of(8000);
    ASSERT(t, family_open(t, &family, &options, &limits));
    for (uint64_t i = 0; i < steps && t->failures == 0; i++) {
        step(&family);
        if (i % 500 == 0) {
            env_fsck(t, &family.env);
            compare(&family);
        }
    }
    family_close(&family);
}

/* ---- what others got wrong ---- */

/* A child lets the kernel write into its memory, as read() does: the parent must not see it, nor
 * must the kernel write to what is read only. */
static void the_kernel_writes(struct ktap *t)
{
    static struct family family;
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 64};
    ASSERT(t, family_open(t, &family, &options, NULL));
    struct process *parent = &family.process[0], *child = &family.process[1];
    step_write(&family, parent, 0, false);
    step_write(&family, parent, 1, false);
    step_fork(&family, parent);
    step_write(&family, child, 0, true);
    step_write(&family, parent, 1, true);
    EXPECT_OK(t, neomm_mprotect(family.env.root, child->space, family.at + 2 * PAGE, PAGE,
                                NEOMM_PROT_READ));
    child->prot[2] = NEOMM_PROT_READ;
    step_write(&family, child, 2, true);
    step_read(&family, child, 2, false);
    step_write(&family, child, 2, true);
    compare(&family);
    family_close(&family);
}

/* The last owner writes without a copy; with others there it is one copy each. */
static void copies_as_needed(struct ktap *t)
{
    static struct family family;
    struct neomm_space_stats stats;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, family_open(t, &family, &options, NULL));
    struct neomm *root = family.env.root;
    struct process *parent = &family.process[0], *child = &family.process[1];
    for (uint32_t i = 0; i < PAGES; i++)
        step_write(&family, parent, i, false);
    uint64_t free = neomm_pmm_free_frames(root);
    step_fork(&family, parent);
    EXPECT(t, free - neomm_pmm_free_frames(root) < PAGES);
    neomm_space_stats(root, child->space, &stats);
    EXPECT_EQ(t, stats.resident_bytes, PAGES * PAGE);
    for (uint32_t i = 0; i < PAGES; i++) {
        step_write(&family, i % 2 ? parent : child, i, false);
        step_write(&family, i % 2 ? child : parent, i, false);
    }
    neomm_space_stats(root, parent->space, &stats);
    EXPECT_EQ(t, stats.faults_copy, PAGES / 2);
    neomm_space_stats(root, child->space, &stats);
    EXPECT_EQ(t, stats.faults_copy, PAGES / 2);
    EXPECT_EQ(t, stats.faults_other, PAGES / 2);
    compare(&family);
    family_close(&family);
}

/* Two tasks in one space: it goes with the second. */
static void a_shared_space(struct ktap *t)
{
    static struct family family;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, family_open(t, &family, &options, NULL));
    struct process *only = &family.process[0];
    neomm_space_share(family.env.root, only->space);
    step_write(&family, only, 3, false);
    EXPECT_OK(t, neomm_space_destroy(family.env.root, only->space));
    compare(&family);
    EXPECT_EQ(t, neomm_space_destroy(family.env.root, only->space), NEOMM_E_BUSY);
    family_close(&family);
}

/* ---- many ---- */

/* Each is the child of the one before; or all are children of the first. Then they write, in the
 * order in which they came or the other way. Parameter: format | crowd << 4 | backwards << 5. */
#define MANY 1000u
static const uint64_t crowds[] = {0x00, 0x10, 0x20, 0x30, 0x01, 0x11};

static uint64_t probes(struct neomm *root)
{
    return neomm__counter_sum(root, NEOMM_COUNTER_RMAP_PROBE);
}

static void a_thousand(struct ktap *t)
{
    static struct neomm_space *space[MANY];
    struct env env;
    bool crowd = t->parameter & 0x10, backwards = t->parameter & 0x20;
    uint32_t many = (uint32_t)share_of(MANY);
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[t->parameter & 1],
                                        .ram_bytes = 64u << 20,
                                        .swap_pages = 2048};
    ASSERT(t, env_open(t, &env, &options));
    struct neomm *root = env.root;
    neomm_vaddr_t at = neomm_layout_of(root)->user_base;
    uint64_t value = 42, before = probes(root);
    EXPECT_OK(t, neomm_space_create(root, NULL, &space[0]));
    EXPECT_OK(t, neomm_mmap(root, space[0], &at, PAGE, RW, NEOMM_MAP_FIXED));
    neomm_space_activate(root, space[0]);
    EXPECT_OK(t, env_access(&env, space[0], at, &value, 8, true, true));
    neomm_space_activate(root, NULL);
    for (uint32_t i = 1; i < many; i++)
        EXPECT_OK(t, neomm_space_fork(root, space[crowd ? 0 : i - 1], &space[i]));
    env_fsck(t, &env);
    for (uint32_t i = 0; i < many / 2; i++) {
        uint64_t own = i;
        neomm_space_activate(root, space[i]);
        EXPECT_OK(t, env_access(&env, space[i], at, &own, 8, true, true));
        neomm_space_activate(root, NULL);
    }
    /* One slot for all who have not written. */
    EXPECT_EQ(t, neomm__reclaim(root, many / 2 + 1), many / 2 + 1);
    env_fsck(t, &env);
    for (uint32_t i = 0; i < many; i++) {
        struct neomm_space *one = space[backwards ? many - 1 - i : i];
        neomm_space_activate(root, one);
        EXPECT_OK(t, env_access(&env, one, at, &value, 8, false, true));
        uint32_t n = backwards ? many - 1 - i : i;
        EXPECT_EQ(t, value, n < many / 2 ? n : 42);
        neomm_space_activate(root, NULL);
        EXPECT_OK(t, neomm_space_destroy(root, one));
    }
    EXPECT(t, probes(root) - before < 40 * MANY);
    env_close(t, &env);
}

/* ---- every failure ---- */

/* The nth allocation fails: fork has done nothing, or all. */
static void every_failure(struct ktap *t)
{
    static const uint64_t seeds[] = {1, 2};
    bool forever = t->parameter & 0x10;
    for (uint64_t n = 1; n < 200 && t->failures == 0; n++) {
        static struct family family;
        const struct env_options options = {.layer = ENV_VMM,
                                            .format = (enum neomm_format)formats[t->parameter & 1],
                                            .swap_pages = 64,
                                            .seed = seeds[n % 2],
                                            .no_zero_page = n % 2};
        ASSERT(t, family_open(t, &family, &options, NULL));
        for (uint32_t i = 0; i < PAGES; i++)
            step_write(&family, &family.process[0], i, false);
        (void)neomm_space_evict(family.env.root, family.process[0].space, 5);
        /* A set that has to grow beyond the descriptor, and one that has a table already. */
        step_fork(&family, &family.process[0]);
        for (uint32_t i = 0; i < PAGES; i += 2)
            step_write(&family, &family.process[1], i, false);
        if (!env_fault_plan(&family.env, n, forever)) {
            ktap_skip(t, "needs the instrumented flavour");
            family_close(&family);
            return;
        }
        struct neomm_space *child = NULL;
        neomm_status status = neomm_space_fork(family.env.root, family.process[0].space, &child);
        bool reached = env_fault_count(&family.env) >= n;
        (void)env_fault_plan(&family.env, 0, false);
        EXPECT(t, status == NEOMM_OK || (reached && status == NEOMM_E_NOMEM));
        env_fsck(t, &family.env);
        compare(&family);
        if (status != NEOMM_OK)
            EXPECT_OK(t, neomm_space_fork(family.env.root, family.process[0].space, &child));
        family.process[2] = family.process[0];
        family.process[2].space = child;
        compare(&family);
        step_write(&family, &family.process[2], 1, false);
        compare(&family);
        family_close(&family);
        if (!reached) {
            EXPECT(t, n > 5);
            return;
        }
    }
}

static const uint64_t sweeps[] = {0x00, 0x01, 0x10, 0x11};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(the_kernel_writes, formats), KTAP_CASE_WITH(copies_as_needed, formats),
    KTAP_CASE_WITH(a_shared_space, formats),    KTAP_CASE_WITH(every_failure, sweeps),
    KTAP_CASE_WITH(a_thousand, crowds),         KTAP_CASE_WITH(random_families, histories),
};
KTAP_SUITE(vmm_fork, cases);
