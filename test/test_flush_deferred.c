/* What a CPU makes up for later: as it wakes, and as it loads tables again under their PCID.
 * SPDX-License-Identifier: MIT */
#include "flush_setting.h"

#include "paging/pcid.h"

static const uint64_t formats[] = ENV_FORMATS;

/* ---- CPUs that sleep ---- */

static uint64_t walks(const struct setting *s)
{
    struct sim_tlb_stats stats;
    sim_tlb_stats(s->machine.sim, &stats);
    return stats.walks;
}

static void load(struct setting *s, struct neomm_tables *tables)
{
    sim_bind(s->machine.sim, s->user_cpu);
    neomm_paging_activate(s->machine.root, tables);
    sim_bind(s->machine.sim, 0);
}

static void sleep_now(struct setting *s, bool sleeps)
{
    sim_bind(s->machine.sim, s->user_cpu);
    if (sleeps)
        neomm_paging_idle(s->machine.root);
    else
        neomm_paging_wake(s->machine.root);
    sim_bind(s->machine.sim, 0);
}

static void protect_page(struct setting *s, neomm_prot_t prot)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_protect(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE, prot));
}

/* The other CPU sleeps, and is not called for what is done to pages; one full invalidation as it
 * wakes makes up for all of it, and none where nothing was done. */
static void sleepers_are_left_alone(struct ktap *t)
{
    struct setting s;
    if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
        return;
    map_pages(&s, MANY);
    refer(&s, USER, MANY, SIM_WRITE);
    struct costs costs = costs_now(&s);
    sleep_now(&s, true);
    sleep_now(&s, false);
    expect_costs(&s, &costs, 0, 0, 0); /* nothing was done */
    sleep_now(&s, true);
    protect_page(&s, NEOMM_PROT_READ);
    sleep_now(&s, true); /* again: it owes what it owed */
    EXPECT_OK(t, neomm_paging_harvest(s.machine.root, &s.tables, USER, MANY * NEOMM_PAGE_SIZE, true,
                                      note_nothing, NULL));
    EXPECT_OK(t, neomm_paging_unmap(s.machine.root, &s.tables, USER + NEOMM_PAGE_SIZE,
                                    2 * NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    expect_costs(&s, &costs, 0, 0, 0);
    sleep_now(&s, false);
    expect_costs(&s, &costs, 0, 1, 0);
    sleep_now(&s, false);
    expect_costs(&s, &costs, 0, 0, 0); /* it is awake */
    refer(&s, USER, 1, SIM_READ);
    protect_page(&s, NEOMM_PROT_NONE);
    expect_costs(&s, &costs, 1, 0, 1); /* and is called again */
    close_setting(&s);
}

/* What is global goes with the kernel's pages alone; without global leaves all goes anyway. */
static void sleepers_and_the_kernel(struct ktap *t)
{
    static const uint32_t absences[] = {0, SIM_NO_PGE, SIM_NO_PCID};
    for (unsigned a = 0; a < sizeof(absences) / sizeof(absences[0]); a++) {
        struct setting s;
        if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, absences[a]))
            return;
        struct neomm *root = s.machine.root;
        struct neomm_tables *kernel = neomm_paging_kernel(root);
        map_pages(&s, 1);
        EXPECT_OK(t, neomm_paging_map(root, kernel, s.window, neomm_frame_paddr(s.block),
                                      2 * NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, 0));
        refer(&s, USER, 1, SIM_WRITE);
        refer(&s, s.window, 2, SIM_WRITE);
        struct costs costs = costs_now(&s);
        sleep_now(&s, true);
        EXPECT_OK(t, neomm_paging_unmap(root, kernel, s.window, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
        protect_page(&s, NEOMM_PROT_READ);
        expect_costs(&s, &costs, 1, 0, 0); /* on the CPU that does it */
        sleep_now(&s, false);
        expect_costs(&s, &costs, 0, 1, 0);
        EXPECT_OK(t, neomm_paging_unmap(root, kernel, s.window + NEOMM_PAGE_SIZE, NEOMM_PAGE_SIZE,
                                        NULL, NULL, NULL));
        close_setting(&s);
    }
}

/* Tables that go and pages of another size are everybody's affair. */
static void sleepers_are_called_for_tables(struct ktap *t)
{
    struct setting s;
    if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
        return;
    struct neomm *root = s.machine.root;
    neomm_vaddr_t large = USER + large_size(&s);
    uint32_t merged;
    map_pages(&s, 1);
    refer(&s, USER, 1, SIM_READ);
    EXPECT_OK(t, neomm_paging_map(root, &s.tables, large, neomm_frame_paddr(s.block),
                                  large_size(&s), RW, NEOMM_CACHE_WB, 0));
    refer(&s, large, 1, SIM_WRITE);
    struct costs costs = costs_now(&s);
    sleep_now(&s, true);
    EXPECT_OK(t, neomm_paging_unmap(root, &s.tables, USER, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    expect_costs(&s, &costs, 1, 0, 1);
    EXPECT_OK(t, neomm_paging_protect(root, &s.tables, large, NEOMM_PAGE_SIZE, NEOMM_PROT_READ));
    expect_costs(&s, &costs, 1, 0, 1); /* that it may be written is the debt */
    EXPECT_OK(t, neomm_paging_protect(root, &s.tables, large, NEOMM_PAGE_SIZE, RW));
    EXPECT_OK(t, neomm_paging_merge(root, &s.tables, large, large_size(&s), &merged));
    EXPECT_EQ(t, merged, 1);
    expect_costs(&s, &costs, 0, 1, 1);
    sleep_now(&s, false);
    expect_costs(&s, &costs, 0, 1, 0);
    close_setting(&s);
}

/* With PCIDs: what it made up for is not made up for again when the tables come back. */
static void sleepers_catch_up(struct ktap *t)
{
    struct setting s;
    neomm_paddr_t paddr;
    uint32_t error;
    if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
        return;
    bool pcids = sizeof(uintptr_t) > 4;
    map_pages(&s, 2);
    refer(&s, USER, 2, SIM_WRITE);
    sleep_now(&s, true);
    protect_page(&s, NEOMM_PROT_READ);
    sleep_now(&s, false);
    refer(&s, USER, 2, SIM_READ);
    load(&s, neomm_paging_kernel(s.machine.root));
    load(&s, &s.tables);
    uint64_t before = walks(&s);
    refer(&s, USER, 2, SIM_READ);
    EXPECT_EQ(t, walks(&s) == before, pcids);
    /* One that was counted before it slept, but which it was not told of, is not made up for. */
    load(&s, neomm_paging_kernel(s.machine.root));
    sleep_now(&s, true);
    EXPECT_OK(
        t, neomm_paging_unmap(s.machine.root, &s.tables, USER, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    sleep_now(&s, false);
    load(&s, &s.tables);
    sim_bind(s.machine.sim, 1);
    EXPECT(t, !sim_translate(s.machine.sim, USER, SIM_READ, true, &paddr, &error));
    sim_bind(s.machine.sim, 0);
    close_setting(&s);
}

/* ---- PCIDs ---- */

/* Who comes back finds what was there, unless it has changed; nobody is told of tables that are not
 * loaded. */
static void a_cpu_keeps_what_it_knows(struct ktap *t)
{
    static const uint32_t absences[] = {0, SIM_NO_PCID, SIM_NO_PGE};
    for (unsigned a = 0; a < sizeof(absences) / sizeof(absences[0]); a++) {
        struct setting s;
        if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, absences[a]))
            return;
        bool keeps = absences[a] == 0 && sizeof(uintptr_t) > 4;
        map_pages(&s, 4);
        refer(&s, USER, 4, SIM_WRITE);
        load(&s, &s.other);
        load(&s, &s.tables);
        uint64_t before = walks(&s);
        refer(&s, USER, 4, SIM_WRITE);
        EXPECT_EQ(t, walks(&s) - before, keeps ? 0 : 4);
        load(&s, &s.other);
        struct costs costs = costs_now(&s);
        EXPECT_OK(t, neomm_paging_unmap(s.machine.root, &s.tables, USER, NEOMM_PAGE_SIZE, NULL,
                                        NULL, NULL));
        expect_costs(&s, &costs, 0, 0, 0);
        load(&s, &s.tables);
        before = walks(&s);
        refer(&s, USER + NEOMM_PAGE_SIZE, 3, SIM_WRITE);
        EXPECT_EQ(t, walks(&s) - before, 3);
        /* What it is told of while it has them loaded, it need not forget twice. */
        EXPECT_OK(t, neomm_paging_unmap(s.machine.root, &s.tables, USER + NEOMM_PAGE_SIZE,
                                        NEOMM_PAGE_SIZE, NULL, NULL, NULL));
        load(&s, &s.other);
        load(&s, &s.tables);
        before = walks(&s);
        refer(&s, USER + 2 * NEOMM_PAGE_SIZE, 2, SIM_WRITE);
        EXPECT_EQ(t, walks(&s) - before, keeps ? 0 : 2);
        close_setting(&s);
    }
}

/* More spaces than PCIDs, and tables of the kernel's that go while others are loaded. */
static void pcids_are_shared_out(struct ktap *t)
{
    enum { SPACES = 12 };
    struct neomm_tables tables[SPACES];
    struct setting s;
    neomm_paddr_t paddr, block;
    uint32_t error;
    if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
        return;
    struct neomm *root = s.machine.root;
    block = neomm_frame_paddr(s.block);
    for (uint32_t i = 0; i < SPACES; i++) {
        EXPECT_OK(t, neomm_paging_create(root, &tables[i], 10 + i));
        EXPECT_OK(t, neomm_paging_map(root, &tables[i], USER, block + i * NEOMM_PAGE_SIZE,
                                      NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, 0));
    }
    for (uint32_t i = 0, x = 1; i < 200; i++, x = x * 1103515245u + 12345u) {
        uint32_t space = i < SPACES ? i : (x >> 16) % SPACES;
        sim_bind(s.machine.sim, 1);
        neomm_paging_activate(root, &tables[space]);
        EXPECT(t, sim_translate(s.machine.sim, USER, SIM_WRITE, true, &paddr, &error));
        EXPECT_EQ(t, paddr, block + space * NEOMM_PAGE_SIZE);
        sim_bind(s.machine.sim, 0);
        if (i % 3 == 0)
            unmap_and_check(&s, neomm_paging_kernel(root), s.window, 1 + i % 4);
    }
    /* What led to a table of the kernel's is known under several PCIDs. */
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    EXPECT_OK(
        t, neomm_paging_map(root, kernel, s.window, block, NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, 0));
    for (uint32_t i = 0; i < 3; i++) {
        load(&s, &tables[i]);
        sim_bind(s.machine.sim, 1);
        sim_speculate(s.machine.sim, s.window + NEOMM_PAGE_SIZE, false);
        sim_bind(s.machine.sim, 0);
    }
    EXPECT_OK(t, neomm_paging_unmap(root, kernel, s.window, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    for (uint32_t i = 0; i < 3; i++)
        load(&s, &tables[i]);
    load(&s, kernel);
    for (uint32_t i = 0; i < SPACES; i++) {
        EXPECT_OK(t, neomm_paging_unmap(root, &tables[i], USER, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
        EXPECT_OK(t, neomm_paging_destroy(root, &tables[i]));
    }
    close_setting(&s);
}

/* Two CPUs have each counted an invalidation, and their calls arrive in either order. Between the
 * two this CPU loads other tables: if the later one came first it must not take itself to be up to
 * date when it comes back. */
static void calls_that_overtake(struct ktap *t)
{
    for (size_t first = 1; first <= 2; first++) {
        struct setting s;
        if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
            return;
        map_pages(&s, 2);
        refer(&s, USER, 2, SIM_READ);
        struct neomm__cpu_state *cpu = &s.machine.root->cpu[1];
        size_t before = s.tables.flushes;
        s.tables.flushes = before + 2;
        neomm__pcid_seen(cpu, &s.tables, before + first);
        if (first == 1)
            neomm__pcid_seen(cpu, &s.tables, before + 2);
        load(&s, neomm_paging_kernel(s.machine.root));
        load(&s, &s.tables);
        uint64_t walked = walks(&s);
        refer(&s, USER, 2, SIM_READ);
        EXPECT_EQ(t, walks(&s) == walked, sizeof(uintptr_t) > 4 && first == 1);
        close_setting(&s);
    }
}

/* Somebody else went by the same PCIDs in between. */
static void a_cpu_that_comes_back_knows_nothing(struct ktap *t)
{
    struct setting s;
    neomm_paddr_t paddr;
    uint32_t error;
    if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
        return;
    struct neomm *root = s.machine.root;
    map_pages(&s, 1);
    EXPECT_OK(t,
              neomm_paging_map(root, &s.other, USER, neomm_frame_paddr(s.block) + NEOMM_PAGE_SIZE,
                               NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, 0));
    refer(&s, USER, 1, SIM_READ);
    sim_bind(s.machine.sim, 1);
    uintptr_t pcid = sizeof(uintptr_t) > 4 ? neomm_cpu_read_cr3() & NEOMM_CR3_PCID : 0;
    neomm_paging_cpu_fini(root);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PGE);
    neomm_cpu_write_cr3((uintptr_t)neomm_frame_paddr(s.other.top) | pcid);
    EXPECT(t, sim_translate(s.machine.sim, USER, SIM_READ, true, &paddr, &error));
    EXPECT_EQ(t, paddr, neomm_frame_paddr(s.block) + NEOMM_PAGE_SIZE);
    neomm_cpu_write_cr3((uintptr_t)neomm_frame_paddr(neomm_paging_kernel(root)->top));
    EXPECT_OK(t, neomm_paging_cpu_init(root));
    neomm_paging_activate(root, &s.tables);
    EXPECT(t, sim_translate(s.machine.sim, USER, SIM_READ, true, &paddr, &error));
    EXPECT_EQ(t, paddr, neomm_frame_paddr(s.block));
    sim_bind(s.machine.sim, 0);
    EXPECT_OK(t, neomm_paging_unmap(root, &s.other, USER, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    close_setting(&s);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(sleepers_are_left_alone, formats),
    KTAP_CASE_WITH(sleepers_and_the_kernel, formats),
    KTAP_CASE_WITH(sleepers_are_called_for_tables, formats),
    KTAP_CASE_WITH(sleepers_catch_up, formats),
    KTAP_CASE_WITH(a_cpu_keeps_what_it_knows, formats),
    KTAP_CASE_WITH(pcids_are_shared_out, formats),
    KTAP_CASE_WITH(calls_that_overtake, formats),
    KTAP_CASE_WITH(a_cpu_that_comes_back_knows_nothing, formats),
};
KTAP_SUITE(flush_deferred, cases);
