/* What the suites of invalidations share: a machine, two spaces' tables, and what it cost.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_FLUSH_SETTING_H
#define NEOMM_TEST_FLUSH_SETTING_H

#include "high_machine.h"

#include "env.h"

#include <string.h>

#define CPUS 2u
#define USER ((neomm_vaddr_t)0x10000000)
#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define MANY 40u /* more pages than are invalidated one by one */

/* A machine, two spaces' tables, and memory to map. The second CPU may sit this one out. */
struct setting {
    struct ktap *t;
    struct high_machine machine;
    struct neomm_tables tables, other;
    neomm_frame_t block; /* 4 MiB */
    neomm_vaddr_t window;
    uint32_t user_cpu; /* the CPU that makes the references */
};

static inline size_t large_size(const struct setting *s)
{
    return neomm_layout_of(s->machine.root)->format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20
                                                                           : (size_t)2 << 20;
}

static inline bool open_with(struct ktap *t, struct setting *s, uint32_t user_cpu,
                             const struct high_options *options)
{
    memset(s, 0, sizeof(*s));
    s->t = t;
    s->user_cpu = user_cpu;
    if (!high_open(t, &s->machine, options))
        return false;
    struct neomm *root = s->machine.root;
    EXPECT_OK(t, neomm_paging_create(root, &s->tables, 1));
    EXPECT_OK(t, neomm_paging_create(root, &s->other, 2));
    EXPECT_OK(t, neomm_pmm_alloc(root, NEOMM_ORDER_MAX, 0, &s->block));
    EXPECT_OK(t, neomm_window_alloc(root, MANY * NEOMM_PAGE_SIZE, &s->window));
    sim_bind(s->machine.sim, user_cpu);
    neomm_paging_activate(root, &s->tables);
    sim_bind(s->machine.sim, 0);
    return true;
}

static inline bool open_setting(struct ktap *t, struct setting *s, enum neomm_format format,
                                uint32_t user_cpu, uint32_t absent)
{
    const struct high_options options = {.format = format, .cpus = CPUS, .absent = absent};
    return open_with(t, s, user_cpu, &options);
}

/* Without skipped sites, so that nothing is left behind. */
static inline void close_setting(struct setting *s)
{
    struct ktap *t = s->t;
    struct neomm *root = s->machine.root;
    sim_skip_flush(s->machine.sim, NEOMM_FLUSH_SITES);
    for (uint32_t cpu = CPUS; cpu-- > 0;) {
        sim_bind(s->machine.sim, cpu);
        neomm_paging_activate(root, neomm_paging_kernel(root));
    }
    EXPECT_OK(t, neomm_paging_unmap(root, &s->tables, USER, (size_t)64 << 20, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_unmap(root, neomm_paging_kernel(root), s->window,
                                    MANY * NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_window_free(root, s->window));
    EXPECT_OK(t, neomm_paging_destroy(root, &s->tables));
    EXPECT_OK(t, neomm_paging_destroy(root, &s->other));
    EXPECT_OK(t, neomm_pmm_free(root, s->block, NEOMM_ORDER_MAX));
    high_close(t, &s->machine);
}

/* References by the CPU of the setting: to each of `pages` pages. */
static inline void refer(struct setting *s, neomm_vaddr_t vaddr, unsigned pages,
                         enum sim_access access)
{
    struct ktap *t = s->t;
    sim_bind(s->machine.sim, s->user_cpu);
    for (unsigned i = 0; i < pages; i++) {
        neomm_paddr_t paddr;
        uint32_t error;
        EXPECT(t,
               sim_translate(s->machine.sim, vaddr + i * NEOMM_PAGE_SIZE, access,
                             vaddr < neomm_layout_of(s->machine.root)->user_limit, &paddr, &error));
    }
    sim_bind(s->machine.sim, 0);
}

static inline void map_pages(struct setting *s, unsigned pages)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_map(s->machine.root, &s->tables, USER, neomm_frame_paddr(s->block),
                                  pages * NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, NEOMM_MAP_SMALL));
}

/* ---- one scenario for each site ---- */

static inline void note_nothing(void *context, neomm_vaddr_t vaddr,
                                const struct neomm_mapping *leaf)
{
    (void)context;
    (void)vaddr;
    (void)leaf;
}

/* ---- all CPUs, few pages and many, user and kernel ---- */

static inline void unmap_and_check(struct setting *s, struct neomm_tables *tables,
                                   neomm_vaddr_t vaddr, unsigned pages)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_map(s->machine.root, tables, vaddr, neomm_frame_paddr(s->block),
                                  pages * NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, NEOMM_MAP_SMALL));
    refer(s, vaddr, pages, SIM_WRITE);
    EXPECT_OK(t, neomm_paging_protect(s->machine.root, tables, vaddr, pages * NEOMM_PAGE_SIZE,
                                      NEOMM_PROT_READ));
    refer(s, vaddr, pages, SIM_READ);
    EXPECT_OK(t, neomm_paging_unmap(s->machine.root, tables, vaddr, pages * NEOMM_PAGE_SIZE, NULL,
                                    NULL, NULL));
}

/* ---- nothing is invalidated without need ---- */

static inline uint64_t counter(struct neomm *root, enum neomm_counter counter)
{
    struct neomm_snapshot snapshot;
    neomm_snapshot_take(root, &snapshot);
    return snapshot.counter[counter];
}

struct costs {
    uint64_t pages, alls, shootdowns;
};

static inline struct costs costs_now(const struct setting *s)
{
    return (struct costs){counter(s->machine.root, NEOMM_COUNTER_FLUSH_PAGE),
                          counter(s->machine.root, NEOMM_COUNTER_FLUSH_ALL),
                          counter(s->machine.root, NEOMM_COUNTER_SHOOTDOWN)};
}

static inline void expect_costs(struct setting *s, struct costs *before, uint64_t pages,
                                uint64_t alls, uint64_t shootdowns)
{
    struct ktap *t = s->t;
    struct costs now = costs_now(s);
    EXPECT_EQ(t, now.pages - before->pages, pages);
    EXPECT_EQ(t, now.alls - before->alls, alls);
    EXPECT_EQ(t, now.shootdowns - before->shootdowns, shootdowns);
    *before = now;
}

#endif
