/* Copying a space's leaves for another one, making large leaves of small ones, and page 0.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "paging/tables.h"

#include "sim/sim.h"

static const uint64_t formats[] = ENV_FORMATS;

#define R    NEOMM_PROT_READ
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define RX   (NEOMM_PROT_READ | NEOMM_PROT_EXEC)
#define PAGE NEOMM_PAGE_SIZE
#define USER ((neomm_vaddr_t)0x40000000)
/* No RAM lies there, so nobody else is given what is mapped. */
#define AWAY ((neomm_paddr_t)0x40000000)

struct setting {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_tables tables, other;
    size_t large;
};

static bool open_setting(struct ktap *t, struct setting *s)
{
    struct env_options options = {
        .layer = ENV_PAGING, .format = (enum neomm_format)t->parameter, .cpus = 2};
    *s = (struct setting){.t = t};
    if (!env_open(t, &s->env, &options))
        return false;
    s->root = s->env.root;
    s->large = options.format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20 : (size_t)2 << 20;
    EXPECT_OK(t, neomm_paging_create(s->root, &s->tables, 1));
    EXPECT_OK(t, neomm_paging_create(s->root, &s->other, 2));
    env_switch_cpu(&s->env, 1);
    neomm_paging_activate(s->root, &s->tables);
    env_switch_cpu(&s->env, 0);
    return true;
}

static void close_setting(struct setting *s)
{
    struct ktap *t = s->t;
    env_switch_cpu(&s->env, 1);
    neomm_paging_activate(s->root, neomm_paging_kernel(s->root));
    env_switch_cpu(&s->env, 0);
    EXPECT_OK(t, neomm_paging_unmap(s->root, &s->tables, 0, 3 * USER, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_unmap(s->root, &s->other, 0, 3 * USER, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(s->root, &s->tables));
    EXPECT_OK(t, neomm_paging_destroy(s->root, &s->other));
    env_close(t, &s->env);
}

static void map(struct setting *s, neomm_vaddr_t vaddr, neomm_paddr_t paddr, size_t size,
                neomm_prot_t prot, unsigned options)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_map(s->root, &s->tables, vaddr, AWAY + paddr, size, prot,
                                  NEOMM_CACHE_WB, options));
}

static bool refer(struct setting *s, neomm_vaddr_t vaddr, enum sim_access access)
{
    neomm_paddr_t paddr;
    uint32_t error;
    env_switch_cpu(&s->env, 1);
    bool reached = sim_translate(s->env.machine, vaddr, access, true, &paddr, &error);
    env_switch_cpu(&s->env, 0);
    return reached;
}

static struct neomm_mapping leaf_of(struct setting *s, struct neomm_tables *tables,
                                    neomm_vaddr_t vaddr)
{
    struct ktap *t = s->t;
    struct neomm_mapping leaf = {.state = NEOMM_MAPPING_NONE};
    EXPECT_OK(t, neomm_paging_query(s->root, tables, vaddr, &leaf));
    return leaf;
}

/* ---- copy ---- */

struct tally {
    uint64_t leaves, bytes, writable;
};

static void count(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct tally *tally = context;
    (void)vaddr;
    tally->leaves++;
    tally->bytes += leaf->size;
    tally->writable += (leaf->prot & NEOMM_PROT_WRITE) != 0;
}

/* Each page of the range is the same in both, and can be written in neither. */
static void expect_same(struct setting *s, neomm_vaddr_t vaddr, size_t size)
{
    struct ktap *t = s->t;
    for (neomm_vaddr_t at = vaddr; at < vaddr + size; at += PAGE) {
        struct neomm_mapping a = leaf_of(s, &s->tables, at), b = leaf_of(s, &s->other, at);
        EXPECT_EQ(t, a.state, b.state);
        EXPECT_EQ(t, a.prot, b.prot);
        EXPECT_EQ(t, a.prot & NEOMM_PROT_WRITE, 0);
        EXPECT_EQ(t, a.paddr, b.paddr);
        EXPECT_EQ(t, a.cache, b.cache);
        EXPECT_EQ(t, a.dirty, b.dirty);
        EXPECT_EQ(t, a.swap.slot, b.swap.slot);
        EXPECT(t, a.state == NEOMM_MAPPING_NONE || a.size == b.size);
    }
}

/* Some of everything: leaves of all rights, touched and not, swap entries, holes, a large leaf. */
static void fill(struct setting *s)
{
    struct ktap *t = s->t;
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping swapped = {.state = NEOMM_MAPPING_SWAPPED, .swap = {41, 3, 1}};
    map(s, USER, 16 * PAGE, 40 * PAGE, RW, NEOMM_MAP_SMALL);
    map(s, USER + 50 * PAGE, 90 * PAGE, 10 * PAGE, RX, NEOMM_MAP_SMALL);
    map(s, USER + s->large - 3 * PAGE, 200 * PAGE, 6 * PAGE, RW, NEOMM_MAP_SMALL);
    map(s, USER + 4 * s->large, s->large, s->large, RW, 0);
    EXPECT_OK(
        t, neomm_paging_protect(s->root, &s->tables, USER + 7 * PAGE, 2 * PAGE, NEOMM_PROT_NONE));
    EXPECT_OK(t,
              neomm_paging_exchange(s->root, &s->tables, USER + 70 * PAGE, &none, &swapped, NULL));
    for (unsigned i = 0; i < 6; i++)
        EXPECT(t, refer(s, USER + i * PAGE, i & 1 ? SIM_WRITE : SIM_READ));
    EXPECT(t, refer(s, USER + 4 * s->large, SIM_WRITE));
}

static void a_copy_is_the_same(struct ktap *t)
{
    struct setting s;
    struct tally before = {0}, shared = {0}, after = {0};
    ASSERT(t, open_setting(t, &s));
    fill(&s);
    size_t size = 5 * s.large;
    EXPECT_OK(t, neomm_paging_walk(s.root, &s.tables, USER, size, count, &before));
    EXPECT_OK(t, neomm_paging_copy(s.root, &s.tables, &s.other, USER, size, count, &shared));
    EXPECT_OK(t, neomm_paging_walk(s.root, &s.other, USER, size, count, &after));
    EXPECT_EQ(t, shared.leaves, before.leaves);
    EXPECT_EQ(t, after.leaves, before.leaves);
    EXPECT_EQ(t, after.bytes, before.bytes);
    EXPECT(t, before.writable != 0 && after.writable == 0 && shared.writable == 0);
    expect_same(&s, USER, size);
    EXPECT_EQ(t, s.other.table_frames, s.tables.table_frames);
    /* What a CPU had is gone: the next write faults. */
    EXPECT(t, !refer(&s, USER + PAGE, SIM_WRITE) && refer(&s, USER + PAGE, SIM_READ));
    EXPECT(t, !refer(&s, USER + 4 * s.large, SIM_WRITE));
    env_fsck(t, &s.env);
    close_setting(&s);
}

/* Region by region, as a fork does, with borders in the middle of tables and of a large leaf. */
static void copies_in_parts(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    fill(&s);
    size_t at[] = {
        0,          5 * PAGE, 52 * PAGE, s.large - PAGE, s.large + PAGE, 4 * s.large + 8 * PAGE,
        5 * s.large};
    for (unsigned i = 0; i + 1 < sizeof(at) / sizeof(at[0]); i++)
        EXPECT_OK(t, neomm_paging_copy(s.root, &s.tables, &s.other, USER + at[i], at[i + 1] - at[i],
                                       NULL, NULL));
    expect_same(&s, USER, 5 * s.large);
    env_fsck(t, &s.env);
    close_setting(&s);
}

static void copies_are_refused(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    struct neomm_tables *kernel = neomm_paging_kernel(s.root);
    fill(&s);
    EXPECT_EQ(t, neomm_paging_copy(s.root, &s.tables, &s.tables, USER, PAGE, NULL, NULL),
              NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_paging_copy(s.root, &s.tables, kernel, USER, PAGE, NULL, NULL),
              NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_paging_copy(s.root, &s.tables, &s.other, USER, 7, NULL, NULL),
              NEOMM_E_ALIGN);
    EXPECT_OK(t, neomm_paging_copy(s.root, &s.tables, &s.other, USER, PAGE, NULL, NULL));
    EXPECT_EQ(t, neomm_paging_copy(s.root, &s.tables, &s.other, USER, 2 * PAGE, NULL, NULL),
              NEOMM_E_EXISTS);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + PAGE).prot, RW);
    close_setting(&s);
}

static void a_copy_that_fails_changes_nothing(struct ktap *t)
{
    struct setting s;
    bool passed = false;
    for (uint64_t n = 1; !passed; n++) {
        ASSERT(t, open_setting(t, &s));
        fill(&s);
        uint32_t tables = s.other.table_frames;
        if (!env_fault_plan(&s.env, n, false)) {
            ktap_skip(t, "needs the instrumented flavour");
            passed = true;
        } else {
            neomm_status status =
                neomm_paging_copy(s.root, &s.tables, &s.other, USER, 5 * s.large, NULL, NULL);
            passed = env_fault_count(&s.env) < n;
            (void)env_fault_plan(&s.env, 0, false);
            EXPECT_EQ(t, status, passed ? NEOMM_OK : NEOMM_E_NOMEM);
            EXPECT(t, passed || s.other.table_frames == tables);
            EXPECT(t, passed || leaf_of(&s, &s.tables, USER).prot == RW);
            EXPECT(t, !passed || n > 3);
        }
        close_setting(&s);
    }
}

/* A range so long that it is copied in parts: what share was told of is what an unmap of the target
 * finds, wherever memory ran out. */
static void a_copy_that_fails_late_can_be_taken_back(struct ktap *t)
{
    struct setting s;
    bool passed = false, late = false;
    const size_t size = (size_t)100 << 20;
    for (uint64_t n = 1; !passed; n++) {
        struct tally shared = {0}, taken_back = {0};
        ASSERT(t, open_setting(t, &s));
        fill(&s);
        map(&s, USER + size - 9 * PAGE, 300 * PAGE, 9 * PAGE, RW, NEOMM_MAP_SMALL);
        uint32_t tables = s.other.table_frames;
        passed = !env_fault_plan(&s.env, n, false);
        neomm_status status =
            neomm_paging_copy(s.root, &s.tables, &s.other, USER, size, count, &shared);
        passed = passed || env_fault_count(&s.env) < n;
        (void)env_fault_plan(&s.env, 0, false);
        EXPECT_EQ(t, status, passed ? NEOMM_OK : NEOMM_E_NOMEM);
        late = late || (!passed && shared.leaves != 0);
        EXPECT_OK(t, neomm_paging_unmap(s.root, &s.other, USER, size, count, &taken_back, NULL));
        EXPECT_EQ(t, taken_back.leaves, shared.leaves);
        EXPECT_EQ(t, taken_back.bytes, shared.bytes);
        EXPECT_EQ(t, s.other.table_frames, tables);
        close_setting(&s);
    }
    EXPECT(t, late || !NEOMM_INSTRUMENTED);
}

/* ---- merge ---- */

static uint32_t merge(struct setting *s, neomm_vaddr_t vaddr, size_t size)
{
    struct ktap *t = s->t;
    uint32_t merged = 77;
    EXPECT_OK(t, neomm_paging_merge(s->root, &s->tables, vaddr, size, &merged));
    env_fsck(t, &s->env);
    return merged;
}

static void small_leaves_become_a_large_one(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    map(&s, USER, 2 * s.large, 2 * s.large, RW, NEOMM_MAP_SMALL);
    uint32_t tables = s.tables.table_frames;
    EXPECT(t, refer(&s, USER + 5 * PAGE, SIM_READ) && refer(&s, USER + 9 * PAGE, SIM_WRITE));
    EXPECT(t, refer(&s, USER + s.large + PAGE, SIM_READ));
    EXPECT_EQ(t, merge(&s, USER + PAGE, s.large), 0); /* none as a whole */
    EXPECT_EQ(t, merge(&s, USER, 2 * s.large), 2);
    EXPECT_EQ(t, s.tables.table_frames, tables - 2);
    struct neomm_mapping first = leaf_of(&s, &s.tables, USER + 5 * PAGE),
                         second = leaf_of(&s, &s.tables, USER + s.large);
    EXPECT(t, first.size == s.large && first.paddr == AWAY + 2 * s.large && first.prot == RW);
    EXPECT(t, first.accessed && first.dirty);
    EXPECT(t, second.size == s.large && second.accessed && !second.dirty);
    EXPECT(t, refer(&s, USER + 7 * PAGE, SIM_WRITE));
    EXPECT_EQ(t, merge(&s, USER, 2 * s.large), 0);
    close_setting(&s);
}

static void what_does_not_fit_is_not_merged(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    map(&s, USER, s.large, s.large, RW, NEOMM_MAP_SMALL);
    map(&s, USER + s.large, PAGE, s.large, RW, NEOMM_MAP_SMALL);
    EXPECT_EQ(t, merge(&s, USER + s.large, s.large), 0); /* misaligned memory */
    EXPECT_OK(t, neomm_paging_protect(s.root, &s.tables, USER + 3 * PAGE, PAGE, R));
    EXPECT_EQ(t, merge(&s, USER, s.large), 0); /* other rights */
    EXPECT_OK(t, neomm_paging_protect(s.root, &s.tables, USER, s.large, NEOMM_PROT_NONE));
    EXPECT_EQ(t, merge(&s, USER, s.large), 0); /* not there for the CPU */
    EXPECT_OK(t, neomm_paging_protect(s.root, &s.tables, USER, s.large, RW));
    EXPECT_OK(t, neomm_paging_unmap(s.root, &s.tables, USER + 8 * PAGE, PAGE, NULL, NULL, NULL));
    EXPECT_EQ(t, merge(&s, USER, s.large), 0); /* a hole */
    map(&s, USER + 8 * PAGE, 3 * s.large, PAGE, RW, 0);
    EXPECT_EQ(t, merge(&s, USER, s.large), 0); /* memory of elsewhere */
    close_setting(&s);
}

static void large_leaves_become_a_giant_one(struct ktap *t)
{
    struct setting s;
    size_t giant = (size_t)1 << 30;
    ASSERT(t, open_setting(t, &s));
    bool can = s.root->paging->leaf_levels & 4u;
    if (can) {
        map(&s, USER, giant, giant, RW, NEOMM_MAP_SMALL);
        EXPECT_EQ(t, merge(&s, USER, giant), 512 + 1);
        EXPECT_EQ(t, leaf_of(&s, &s.tables, USER).size, giant);
    }
    close_setting(&s);
    if (!can)
        ktap_skip(t, "no leaves of 1 GiB");
}

/* ---- page 0 ---- */

static void page_zero_is_for_who_asks(struct ktap *t)
{
    struct setting s;
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping page = {.state = NEOMM_MAPPING_PRESENT, .prot = RW, .paddr = PAGE};
    neomm_frame_t frame = {1};
    ASSERT(t, open_setting(t, &s));
    EXPECT_EQ(t, neomm_paging_map(s.root, &s.tables, 0, PAGE, PAGE, RW, NEOMM_CACHE_WB, 0),
              NEOMM_E_ACCESS);
    EXPECT_EQ(t, neomm_paging_map_frames(s.root, &s.tables, 0, &frame, 1, RW), NEOMM_E_ACCESS);
    EXPECT_EQ(t, neomm_paging_exchange(s.root, &s.tables, 0, &none, &page, NULL), NEOMM_E_ACCESS);
    map(&s, PAGE, PAGE, PAGE, RW, 0);
    map(&s, 0, PAGE, PAGE, RW, NEOMM_MAP_NULL);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, 0).state, NEOMM_MAPPING_PRESENT);
    close_setting(&s);
}

/* ---- large ranges, which are done in parts ---- */

#define PART ((size_t)32 << 20)

/* A map of several parts that fails in any of them leaves nothing behind. */
static void all_parts_or_none(struct ktap *t)
{
    struct setting s;
    const neomm_vaddr_t vaddr = USER + PART / 2;
    ASSERT(t, open_setting(t, &s));
    uint32_t tables = s.tables.table_frames;
    /* Something is in the way, in the last part. */
    map(&s, vaddr + 3 * PART - PAGE, 0, PAGE, RW, 0);
    EXPECT_EQ(t,
              neomm_paging_map(s.root, &s.tables, vaddr, AWAY, 3 * PART, RW, NEOMM_CACHE_WB,
                               NEOMM_MAP_SMALL),
              NEOMM_E_EXISTS);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, vaddr).state, NEOMM_MAPPING_NONE);
    EXPECT_OK(t, neomm_paging_unmap(s.root, &s.tables, vaddr, 3 * PART, NULL, NULL, NULL));
    /* Each table in turn cannot be had. */
    bool passed = !NEOMM_INSTRUMENTED;
    for (uint64_t n = 1; !passed; n++) {
        (void)env_fault_plan(&s.env, n, false);
        neomm_status status = neomm_paging_map(s.root, &s.tables, vaddr, AWAY, 3 * PART, RW,
                                               NEOMM_CACHE_WB, NEOMM_MAP_SMALL);
        passed = env_fault_count(&s.env) < n;
        (void)env_fault_plan(&s.env, 0, false);
        EXPECT_EQ(t, status, passed ? NEOMM_OK : NEOMM_E_NOMEM);
        EXPECT(t, passed || s.tables.table_frames == tables);
        EXPECT(t, !passed || n > 3 * PART / s.large);
    }
    for (size_t at = 0; NEOMM_INSTRUMENTED && at < 3 * PART; at += 7 * PAGE)
        EXPECT_EQ(t, leaf_of(&s, &s.tables, vaddr + at).paddr, AWAY + at);
    close_setting(&s);
}

static void count_bytes(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)vaddr;
    *(size_t *)context += leaf->size;
}

/* Leaves across the border of two parts are neither cut nor seen twice; those that stick out of the
 * range are split before anything goes. */
static void parts_cut_no_leaf(struct ktap *t)
{
    struct setting s;
    ASSERT(t, open_setting(t, &s));
    bool giant = s.root->paging->leaf_levels & 4u;
    size_t leaf = giant ? (size_t)1 << 30 : s.large, size = 2 * leaf < PART ? 3 * PART : leaf;
    size_t seen = 0, done = 1;
    map(&s, USER, 0, size, RW, 0);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER).size, leaf);
    EXPECT_OK(t, neomm_paging_protect(s.root, &s.tables, USER, size, R));
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + PART).size, leaf);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + PART).prot, R);
    EXPECT_OK(t, neomm_paging_walk(s.root, &s.tables, USER, size, count_bytes, &seen));
    EXPECT_EQ(t, seen, size);
    if (NEOMM_INSTRUMENTED) {
        (void)env_fault_plan(&s.env, 2, true);
        EXPECT_EQ(
            t,
            neomm_paging_unmap(s.root, &s.tables, USER + PAGE, size - 2 * PAGE, NULL, NULL, &done),
            NEOMM_E_NOMEM);
        (void)env_fault_plan(&s.env, 0, false);
        EXPECT_EQ(t, done, 0);
        for (size_t at = 0; at < size; at += PART / 2)
            EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + at).state, NEOMM_MAPPING_PRESENT);
    }
    EXPECT_OK(
        t, neomm_paging_unmap(s.root, &s.tables, USER + PAGE, size - 2 * PAGE, NULL, NULL, &done));
    EXPECT_EQ(t, done, size - 2 * PAGE);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER).state, NEOMM_MAPPING_PRESENT);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + PAGE).state, NEOMM_MAPPING_NONE);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + size - 2 * PAGE).state, NEOMM_MAPPING_NONE);
    EXPECT_EQ(t, leaf_of(&s, &s.tables, USER + size - PAGE).state, NEOMM_MAPPING_PRESENT);
    close_setting(&s);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(a_copy_is_the_same, formats),
    KTAP_CASE_WITH(copies_in_parts, formats),
    KTAP_CASE_WITH(copies_are_refused, formats),
    KTAP_CASE_WITH(a_copy_that_fails_changes_nothing, formats),
    KTAP_CASE_WITH(a_copy_that_fails_late_can_be_taken_back, formats),
    KTAP_CASE_WITH(small_leaves_become_a_large_one, formats),
    KTAP_CASE_WITH(what_does_not_fit_is_not_merged, formats),
    KTAP_CASE_WITH(large_leaves_become_a_giant_one, formats),
    KTAP_CASE_WITH(page_zero_is_for_who_asks, formats),
    KTAP_CASE_WITH(all_parts_or_none, formats),
    KTAP_CASE_WITH(parts_cut_no_leaf, formats),
};
KTAP_SUITE(paging_ops, cases);
