/* Random operations on page tables against a model that knows single pages, with references by
 * several CPUs in between.
 * SPDX-License-Identifier: MIT
 *
 * The model also knows which groups of pages are one large leaf and which have a table, so
 * that sizes, accessed and dirty bits and the number of tables are predicted exactly.
 */
#include "env.h"
#include "share.h"

#include "sim/sim.h"

#include <string.h>

#define CPUS        3u
#define BLOCKS      3u /* of 4 MiB, the memory that is mapped */
#define BLOCK_PAGES 1024u
#define GROUPS      3u
#define GROUP_MAX   1024u
#define PAGES_MAX   (GROUPS * GROUP_MAX)
#define SEEDS       20u

struct page {
    enum neomm_mapping_state state;
    neomm_prot_t prot;
    neomm_paddr_t paddr;
    enum neomm_cache cache;
    bool accessed, dirty;
    struct neomm_swap_entry swap;
};

struct model {
    struct ktap *t;
    struct env env;
    struct neomm_tables tables;
    uint64_t random;
    neomm_vaddr_t base;
    unsigned group_pages; /* pages of a table, and of a large leaf */
    struct page page[PAGES_MAX];
    bool large[GROUPS], table[GROUPS];
    neomm_frame_t block[BLOCKS];
    bool loaded[CPUS];
    /* What a callback may still see. */
    unsigned seen_from, seen_to;
    bool seen_prediction;
};

static uint64_t next_random(struct model *m)
{
    uint64_t x = m->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static unsigned below(struct model *m, unsigned n)
{
    return (unsigned)(next_random(m) >> 33) % n;
}

static unsigned pages(const struct model *m)
{
    return GROUPS * m->group_pages;
}

static neomm_vaddr_t vaddr_of(const struct model *m, unsigned page)
{
    return m->base + (neomm_vaddr_t)page * NEOMM_PAGE_SIZE;
}

/* Ranges of all sizes, often at the borders of tables. */
static void pick_range(struct model *m, unsigned *first, unsigned *count)
{
    unsigned all = pages(m), group = m->group_pages;
    *first = below(m, all);
    if (below(m, 3) == 0)
        *first = *first / group * group;
    *count = 1 + below(m, below(m, 2) ? 8 : all);
    if (below(m, 3) == 0)
        *count = (1 + below(m, GROUPS)) * group;
    if (*count > all - *first)
        *count = all - *first;
}

static neomm_prot_t pick_prot(struct model *m)
{
    static const neomm_prot_t list[] = {
        NEOMM_PROT_NONE,
        NEOMM_PROT_READ,
        NEOMM_PROT_READ | NEOMM_PROT_WRITE,
        NEOMM_PROT_READ | NEOMM_PROT_WRITE,
        NEOMM_PROT_READ | NEOMM_PROT_EXEC,
    };
    return list[below(m, sizeof(list) / sizeof(list[0]))];
}

/* Every other block is no RAM, and may be cached in any way. */
static bool is_device(unsigned block)
{
    return block % 2 != 0;
}

static neomm_frame_t device_block(unsigned block)
{
    return neomm_frame(((uint32_t)1 << (31 - NEOMM_PAGE_SHIFT)) + block * BLOCK_PAGES);
}

static enum neomm_cache pick_cache(struct model *m, unsigned block)
{
    return is_device(block) ? (enum neomm_cache)below(m, NEOMM_CACHE_WC + 1u) : NEOMM_CACHE_WB;
}

static struct neomm_swap_entry pick_swap(struct model *m)
{
    struct neomm_swap_entry swap;
    swap.slot = below(m, 1u << 24);
    swap.generation = (uint16_t)below(m, 32);
    swap.kind = (uint16_t)(1 + below(m, 3));
    return swap;
}

static void split_group(struct model *m, unsigned group)
{
    m->large[group] = false;
    m->table[group] = true;
}

/* Large leaves that stick out of the range are split first. */
static void split_edges(struct model *m, unsigned first, unsigned count)
{
    unsigned start = first / m->group_pages, end = (first + count) / m->group_pages;
    if (m->large[start] && first % m->group_pages != 0)
        split_group(m, start);
    if ((first + count) % m->group_pages != 0 && m->large[end])
        split_group(m, end);
}

/* ---- comparison ---- */

/* The leaf of the model that page i begins, or lies in. */
static void expect_leaf(struct model *m, unsigned i, neomm_vaddr_t vaddr,
                        const struct neomm_mapping *leaf)
{
    struct ktap *t = m->t;
    unsigned group = i / m->group_pages;
    bool large = m->large[group];
    unsigned start = large ? group * m->group_pages : i;
    const struct page *page = &m->page[start];
    EXPECT_EQ(t, leaf->state, page->state);
    EXPECT_EQ(t, leaf->size, large ? m->group_pages * NEOMM_PAGE_SIZE : NEOMM_PAGE_SIZE);
    EXPECT_EQ(t, vaddr, vaddr_of(m, start));
    if (page->state == NEOMM_MAPPING_PRESENT) {
        EXPECT_EQ(t, leaf->paddr, page->paddr);
        EXPECT_EQ(t, leaf->prot, page->prot);
        EXPECT_EQ(t, leaf->cache, page->cache);
        EXPECT_EQ(t, leaf->accessed, page->accessed);
        EXPECT_EQ(t, leaf->dirty, page->dirty);
    } else if (page->state == NEOMM_MAPPING_SWAPPED) {
        EXPECT_EQ(t, leaf->swap.slot, page->swap.slot);
        EXPECT_EQ(t, leaf->swap.generation, page->swap.generation);
        EXPECT_EQ(t, leaf->swap.kind, page->swap.kind);
    }
}

/* A callback sees the model's leaves, all of them, in order. */
static void see_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct model *m = context;
    struct ktap *t = m->t;
    unsigned i = m->seen_from;
    while (i < m->seen_to && (m->page[i].state == NEOMM_MAPPING_NONE ||
                              (m->seen_prediction && m->page[i].state != NEOMM_MAPPING_PRESENT)))
        i++;
    EXPECT(t, i < m->seen_to);
    if (i >= m->seen_to)
        return;
    expect_leaf(m, i, vaddr, leaf);
    m->seen_from = m->large[i / m->group_pages] ? (i / m->group_pages + 1) * m->group_pages : i + 1;
}

static void see_begin(struct model *m, unsigned first, unsigned count, bool present_only)
{
    m->seen_from = first;
    m->seen_to = first + count;
    m->seen_prediction = present_only;
}

static void see_end(struct model *m)
{
    struct ktap *t = m->t;
    for (unsigned i = m->seen_from; i < m->seen_to; i++)
        EXPECT(t, m->page[i].state == NEOMM_MAPPING_NONE ||
                      (m->seen_prediction && m->page[i].state != NEOMM_MAPPING_PRESENT));
}

static unsigned tables_expected(const struct model *m)
{
    unsigned count = 0;
    bool any = false;
    for (unsigned i = 0; i < GROUPS; i++) {
        count += m->table[i];
        any |= m->table[i] || m->large[i];
    }
    switch (m->env.options.format) {
    case NEOMM_FORMAT_PAE:
        return count + 3;
    case NEOMM_FORMAT_4LEVEL:
        return count + (any ? 2 : 0);
    case NEOMM_FORMAT_5LEVEL:
        return count + (any ? 3 : 0);
    default:
        return count;
    }
}

static void check_all(struct model *m)
{
    struct ktap *t = m->t;
    size_t size = pages(m) * NEOMM_PAGE_SIZE;
    see_begin(m, 0, pages(m), false);
    EXPECT_OK(t, neomm_paging_walk(m->env.root, &m->tables, m->base, size, see_leaf, m));
    see_end(m);
    EXPECT_EQ(t, m->tables.table_frames, tables_expected(m));
    env_fsck(t, &m->env);
}

/* ---- the operations ---- */

static bool range_is_empty(const struct model *m, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (m->page[i].state != NEOMM_MAPPING_NONE)
            return false;
    return true;
}

static void model_map(struct model *m, unsigned first, unsigned count, const struct page *like,
                      bool contiguous, const neomm_frame_t *frames, bool small)
{
    unsigned group_pages = m->group_pages;
    for (unsigned i = first; i < first + count; i++) {
        unsigned group = i / group_pages;
        m->page[i] = *like;
        m->page[i].paddr = contiguous ? like->paddr + (neomm_paddr_t)(i - first) * NEOMM_PAGE_SIZE
                                      : neomm_frame_paddr(frames[i - first]);
        if (i % group_pages == 0 && !m->table[group])
            m->large[group] = contiguous && !small && first + count - i >= group_pages &&
                              (m->page[i].paddr & (group_pages * NEOMM_PAGE_SIZE - 1)) == 0;
        if (!m->large[group])
            m->table[group] = true;
    }
}

static void do_map(struct model *m)
{
    struct ktap *t = m->t;
    unsigned first, count;
    pick_range(m, &first, &count);
    unsigned block = below(m, BLOCKS);
    bool small = below(m, 4) == 0;
    struct page like = {
        .state = NEOMM_MAPPING_PRESENT, .prot = pick_prot(m), .cache = pick_cache(m, block)};
    /* From the start of a block, or congruent to the address, or anywhere. */
    unsigned offset = below(m, 2) ? first % BLOCK_PAGES : below(m, BLOCK_PAGES);
    if (count > BLOCK_PAGES - offset)
        count = BLOCK_PAGES - offset;
    like.paddr = neomm_frame_paddr(m->block[block]) + offset * NEOMM_PAGE_SIZE;
    bool empty = range_is_empty(m, first, count);
    EXPECT_EQ(t,
              neomm_paging_map(m->env.root, &m->tables, vaddr_of(m, first), like.paddr,
                               count * NEOMM_PAGE_SIZE, like.prot, like.cache,
                               small ? NEOMM_MAP_SMALL : 0),
              empty ? NEOMM_OK : NEOMM_E_EXISTS);
    if (empty)
        model_map(m, first, count, &like, true, NULL, small);
}

static void do_map_frames(struct model *m)
{
    struct ktap *t = m->t;
    neomm_frame_t frames[64];
    unsigned first, count;
    pick_range(m, &first, &count);
    count = count > 64 ? 64 : count;
    for (unsigned i = 0; i < count; i++)
        frames[i] = neomm_frame(m->block[below(m, BLOCKS)].number + below(m, BLOCK_PAGES));
    struct page like = {.state = NEOMM_MAPPING_PRESENT, .prot = pick_prot(m)};
    bool empty = range_is_empty(m, first, count);
    EXPECT_EQ(t,
              neomm_paging_map_frames(m->env.root, &m->tables, vaddr_of(m, first), frames, count,
                                      like.prot),
              empty ? NEOMM_OK : NEOMM_E_EXISTS);
    if (empty)
        model_map(m, first, count, &like, false, frames, true);
}

static void do_unmap(struct model *m)
{
    struct ktap *t = m->t;
    unsigned first, count;
    size_t done = 1;
    bool tell = below(m, 4) != 0;
    pick_range(m, &first, &count);
    split_edges(m, first, count);
    see_begin(m, first, count, false);
    EXPECT_OK(t, neomm_paging_unmap(m->env.root, &m->tables, vaddr_of(m, first),
                                    count * NEOMM_PAGE_SIZE, tell ? see_leaf : NULL, m, &done));
    EXPECT_EQ(t, done, count * NEOMM_PAGE_SIZE);
    if (tell)
        see_end(m);
    for (unsigned i = first; i < first + count; i++)
        m->page[i].state = NEOMM_MAPPING_NONE;
    for (unsigned g = first / m->group_pages; g <= (first + count - 1) / m->group_pages; g++) {
        if (!range_is_empty(m, g * m->group_pages, m->group_pages))
            continue;
        m->large[g] = false;
        m->table[g] = false;
    }
}

static void do_protect(struct model *m)
{
    struct ktap *t = m->t;
    unsigned first, count;
    neomm_prot_t prot = pick_prot(m);
    pick_range(m, &first, &count);
    split_edges(m, first, count);
    EXPECT_OK(t, neomm_paging_protect(m->env.root, &m->tables, vaddr_of(m, first),
                                      count * NEOMM_PAGE_SIZE, prot));
    for (unsigned i = first; i < first + count; i++)
        m->page[i].prot = prot;
}

/* Accessed and dirty are bits of a leaf: all its pages have them. */
static void set_bits(struct model *m, unsigned i, bool accessed, bool dirty, bool value)
{
    unsigned group = i / m->group_pages;
    unsigned first = m->large[group] ? group * m->group_pages : i;
    unsigned count = m->large[group] ? m->group_pages : 1;
    for (i = first; i < first + count; i++) {
        m->page[i].accessed = accessed ? value : m->page[i].accessed;
        m->page[i].dirty = dirty ? value : m->page[i].dirty;
    }
}

static void do_harvest(struct model *m)
{
    struct ktap *t = m->t;
    unsigned first, count;
    bool clear_dirty = below(m, 2);
    pick_range(m, &first, &count);
    see_begin(m, first, count, true);
    EXPECT_OK(t, neomm_paging_harvest(m->env.root, &m->tables, vaddr_of(m, first),
                                      count * NEOMM_PAGE_SIZE, clear_dirty, see_leaf, m));
    see_end(m);
    for (unsigned i = first; i < first + count; i++)
        if (m->page[i].state == NEOMM_MAPPING_PRESENT)
            set_bits(m, i, true, clear_dirty, false);
}

static struct neomm_mapping pick_next(struct model *m)
{
    struct neomm_mapping next = {.state = (enum neomm_mapping_state)below(m, 3)};
    if (next.state == NEOMM_MAPPING_PRESENT) {
        next.prot = pick_prot(m);
        unsigned block = below(m, BLOCKS);
        next.paddr = neomm_frame_paddr(m->block[block]) + below(m, BLOCK_PAGES) * NEOMM_PAGE_SIZE;
        next.cache = pick_cache(m, block);
        next.accessed = below(m, 2);
        next.dirty = below(m, 2);
    } else if (next.state == NEOMM_MAPPING_SWAPPED) {
        next.swap = pick_swap(m);
    }
    return next;
}

/* Expects what is there, or something a little different. */
static struct neomm_mapping pick_expect(struct model *m, const struct page *page, bool right)
{
    struct neomm_mapping expect = {.state = page->state, .paddr = page->paddr, .swap = page->swap};
    if (right)
        return expect;
    if (page->state == NEOMM_MAPPING_PRESENT && below(m, 2))
        expect.paddr ^= NEOMM_PAGE_SIZE;
    else if (page->state == NEOMM_MAPPING_SWAPPED && below(m, 2))
        expect.swap.generation ^= 1;
    else
        expect.state = (enum neomm_mapping_state)((page->state + 1 + below(m, 2)) % 3);
    return expect;
}

static void do_exchange(struct model *m)
{
    struct ktap *t = m->t;
    unsigned i = below(m, pages(m)), group = i / m->group_pages;
    struct page *page = &m->page[i];
    bool right = below(m, 4) != 0;
    struct neomm_mapping expect = pick_expect(m, page, right), next = pick_next(m), last;
    bool tell = below(m, 2);
    right = right && !m->large[group];
    EXPECT_EQ(t,
              neomm_paging_exchange(m->env.root, &m->tables, vaddr_of(m, i), &expect, &next,
                                    tell ? &last : NULL),
              right ? NEOMM_OK : NEOMM_E_AGAIN);
    if (!right)
        return;
    EXPECT(t, !tell || last.state == page->state);
    if (tell && page->state != NEOMM_MAPPING_NONE)
        expect_leaf(m, i, vaddr_of(m, i), &last);
    if (page->state != NEOMM_MAPPING_NONE || next.state != NEOMM_MAPPING_NONE)
        m->table[group] = true;
    *page = (struct page){next.state,    next.prot,  next.paddr, next.cache,
                          next.accessed, next.dirty, next.swap};
}

static void do_access(struct model *m);

/* Is the group a table of leaves that could be one? */
static bool may_merge(const struct model *m, unsigned group)
{
    const struct page *first = &m->page[group * m->group_pages];
    if (!m->table[group] || first->prot == NEOMM_PROT_NONE ||
        (first->paddr & (m->group_pages * NEOMM_PAGE_SIZE - 1)) != 0)
        return false;
    for (unsigned i = 0; i < m->group_pages; i++)
        if (first[i].state != NEOMM_MAPPING_PRESENT || first[i].prot != first->prot ||
            first[i].cache != first->cache || first[i].paddr != first->paddr + i * NEOMM_PAGE_SIZE)
            return false;
    return true;
}

/* An empty group is filled first: what fits seldom comes by chance. */
static void do_merge(struct model *m)
{
    struct ktap *t = m->t;
    unsigned group = below(m, GROUPS), first = group * m->group_pages, count = m->group_pages;
    uint32_t merged = 0;
    if (range_is_empty(m, first, count)) {
        unsigned block = below(m, BLOCKS);
        struct page like = {
            .state = NEOMM_MAPPING_PRESENT, .prot = pick_prot(m), .cache = pick_cache(m, block)};
        like.paddr = neomm_frame_paddr(m->block[block]) + first % BLOCK_PAGES * NEOMM_PAGE_SIZE;
        EXPECT_OK(t, neomm_paging_map(m->env.root, &m->tables, vaddr_of(m, first), like.paddr,
                                      count * NEOMM_PAGE_SIZE, like.prot, like.cache,
                                      NEOMM_MAP_SMALL));
        model_map(m, first, count, &like, true, NULL, true);
        for (unsigned i = 0; i < 16; i++)
            do_access(m);
    }
    bool fits = may_merge(m, group), accessed = false, dirty = false;
    EXPECT_OK(t, neomm_paging_merge(m->env.root, &m->tables, vaddr_of(m, first),
                                    count * NEOMM_PAGE_SIZE, &merged));
    EXPECT_EQ(t, merged, fits);
    if (!fits)
        return;
    for (unsigned i = first; i < first + count; i++) {
        accessed |= m->page[i].accessed;
        dirty |= m->page[i].dirty;
    }
    m->large[group] = true;
    m->table[group] = false;
    set_bits(m, first, true, false, accessed);
    set_bits(m, first, false, true, dirty);
}

static void do_query(struct model *m)
{
    struct ktap *t = m->t;
    struct neomm_mapping leaf;
    unsigned i = below(m, pages(m));
    neomm_vaddr_t vaddr = vaddr_of(m, i) + below(m, NEOMM_PAGE_SIZE);
    EXPECT_OK(t, neomm_paging_query(m->env.root, &m->tables, vaddr, &leaf));
    if (m->page[i].state == NEOMM_MAPPING_NONE)
        EXPECT_EQ(t, leaf.state, NEOMM_MAPPING_NONE);
    else
        expect_leaf(m, i,
                    m->large[i / m->group_pages] ? vaddr_of(m, i / m->group_pages * m->group_pages)
                                                 : vaddr_of(m, i),
                    &leaf);
}

static void do_switch(struct model *m)
{
    unsigned cpu = below(m, CPUS);
    env_switch_cpu(&m->env, cpu);
    if (below(m, 4) == 0) {
        m->loaded[cpu] = !m->loaded[cpu];
        neomm_paging_activate(m->env.root,
                              m->loaded[cpu] ? &m->tables : neomm_paging_kernel(m->env.root));
    }
}

static bool may_access(const struct model *m, const struct page *page, enum sim_access access)
{
    if (page->state != NEOMM_MAPPING_PRESENT || page->prot == NEOMM_PROT_NONE)
        return false;
    if (access == SIM_WRITE)
        return (page->prot & NEOMM_PROT_WRITE) != 0;
    return access == SIM_READ || (page->prot & NEOMM_PROT_EXEC) != 0 ||
           m->env.options.format == NEOMM_FORMAT_2LEVEL;
}

/* After rights became wider a CPU may fault once on what it has cached. */
static void do_access(struct model *m)
{
    struct ktap *t = m->t;
    unsigned cpu = below(m, CPUS), i = below(m, pages(m)), offset = below(m, NEOMM_PAGE_SIZE);
    enum sim_access access = (enum sim_access)below(m, 3);
    neomm_paddr_t paddr = 0;
    uint32_t error = 0;
    if (!m->loaded[cpu])
        return;
    env_switch_cpu(&m->env, cpu);
    const struct page *page = &m->page[i];
    neomm_vaddr_t vaddr = vaddr_of(m, i) + offset;
    bool done = sim_translate(m->env.machine, vaddr, access, true, &paddr, &error) ||
                sim_translate(m->env.machine, vaddr, access, true, &paddr, &error);
    EXPECT_EQ(t, done, may_access(m, page, access));
    if (!done)
        return;
    EXPECT_EQ(t, paddr, page->paddr + offset);
    set_bits(m, i, true, access == SIM_WRITE, true);
}

/* A CPU that walks ahead marks what it finds as accessed. */
static void do_speculate(struct model *m)
{
    unsigned cpu = below(m, CPUS), i = below(m, pages(m));
    if (!m->loaded[cpu])
        return;
    env_switch_cpu(&m->env, cpu);
    sim_speculate(m->env.machine, vaddr_of(m, i), true);
    if (may_access(m, &m->page[i], SIM_READ))
        set_bits(m, i, true, false, true);
}

/* ---- the test ---- */

static bool start(struct model *m, struct ktap *t, uint64_t seed)
{
    enum neomm_format format = (enum neomm_format)t->parameter;
    struct env_options options = {.layer = ENV_PAGING,
                                  .format = format,
                                  .cpus = CPUS,
                                  .ram_bytes = (uint64_t)32 << 20,
                                  .seed = seed};
    memset(m, 0, sizeof(*m));
    m->t = t;
    m->random = seed;
    m->group_pages = format == NEOMM_FORMAT_2LEVEL ? 1024 : 512;
    m->base = 0x10000000;
    if (!env_open(t, &m->env, &options))
        return false;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (is_device(i))
            m->block[i] = device_block(i);
        else
            EXPECT_OK(t, neomm_pmm_alloc(m->env.root, NEOMM_ORDER_MAX, 0, &m->block[i]));
    EXPECT_OK(t, neomm_paging_create(m->env.root, &m->tables, 1));
    return true;
}

static void finish(struct model *m)
{
    struct ktap *t = m->t;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        env_switch_cpu(&m->env, cpu);
        neomm_paging_activate(m->env.root, neomm_paging_kernel(m->env.root));
    }
    EXPECT_OK(t, neomm_paging_unmap(m->env.root, &m->tables, m->base, pages(m) * NEOMM_PAGE_SIZE,
                                    NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(m->env.root, &m->tables));
    for (unsigned i = 0; i < BLOCKS; i++)
        if (!is_device(i))
            EXPECT_OK(t, neomm_pmm_free(m->env.root, m->block[i], NEOMM_ORDER_MAX));
    env_close(t, &m->env);
}

static void do_something(struct model *m)
{
    static void (*const list[])(struct model * m) = {
        do_map,      do_map,     do_map_frames, do_unmap,    do_unmap,
        do_protect,  do_protect, do_harvest,    do_exchange, do_exchange,
        do_exchange, do_query,   do_switch,     do_switch,   do_merge,
    };
    list[below(m, sizeof(list) / sizeof(list[0]))](m);
    for (unsigned i = below(m, 16); i > 0; i--) {
        if (below(m, 8) == 0)
            do_speculate(m);
        else
            do_access(m);
    }
}

static struct model model;

static void operations_agree(struct ktap *t)
{
    for (uint64_t seed = 1; seed <= share_of(SEEDS) && t->failures == 0; seed++) {
        if (!start(&model, t, seed))
            return;
        unsigned steps = 0;
        for (; steps < 3000 && t->failures == 0; steps++) {
            do_something(&model);
            if (steps % 64 == 0)
                check_all(&model);
        }
        if (t->failures != 0)
            ktap_note(t, "seed %llu, step %u", (unsigned long long)seed, steps);
        finish(&model);
    }
}

static const uint64_t formats[] = ENV_FORMATS;

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(operations_agree, formats),
};
KTAP_SUITE(paging_model, cases);
