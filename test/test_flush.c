/* Every invalidation is done, on every CPU that needs it, and every one is needed: with any of
 * them left out, the machine reports the stale translation.
 * SPDX-License-Identifier: MIT */
#include "flush_setting.h"

static const uint64_t formats[] = ENV_FORMATS;

/* ---- one scenario for each site ---- */

static void unmap_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    map_pages(s, 2);
    refer(s, USER, 2, SIM_READ);
    EXPECT_OK(t, neomm_paging_unmap(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE, NULL, NULL,
                                    NULL));
}

/* The table holds a swap entry alone: no page is due when it goes, but a CPU that walked ahead
 * remembers where it was. */
static void unmap_table_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping swapped = {.state = NEOMM_MAPPING_SWAPPED,
                                    .swap = {.slot = 7, .kind = NEOMM_SWAP_SLOT}};
    neomm_vaddr_t second = USER + NEOMM_PAGE_SIZE;
    map_pages(s, 1);
    refer(s, USER, 1, SIM_READ);
    EXPECT_OK(t, neomm_paging_exchange(s->machine.root, &s->tables, second, &none, &swapped, NULL));
    struct neomm_mapping there;
    EXPECT_OK(t, neomm_paging_query(s->machine.root, &s->tables, USER, &there));
    EXPECT_OK(t, neomm_paging_exchange(s->machine.root, &s->tables, USER, &there, &none, NULL));
    sim_bind(s->machine.sim, s->user_cpu);
    sim_speculate(s->machine.sim, USER, true);
    sim_bind(s->machine.sim, 0);
    EXPECT_OK(
        t, neomm_paging_unmap(s->machine.root, &s->tables, USER, large_size(s), NULL, NULL, NULL));
}

static void protect_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    map_pages(s, 1);
    refer(s, USER, 1, SIM_WRITE);
    EXPECT_OK(t, neomm_paging_protect(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE,
                                      NEOMM_PROT_READ));
}

static void split_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_map(s->machine.root, &s->tables, USER, neomm_frame_paddr(s->block),
                                  large_size(s), RW, NEOMM_CACHE_WB, 0));
    refer(s, USER + 8 * NEOMM_PAGE_SIZE, 1, SIM_WRITE);
    EXPECT_OK(t, neomm_paging_protect(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE, RW));
}

static void merge_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    uint32_t merged;
    EXPECT_OK(t, neomm_paging_map(s->machine.root, &s->tables, USER, neomm_frame_paddr(s->block),
                                  large_size(s), RW, NEOMM_CACHE_WB, NEOMM_MAP_SMALL));
    refer(s, USER + 8 * NEOMM_PAGE_SIZE, 1, SIM_WRITE);
    EXPECT_OK(t, neomm_paging_merge(s->machine.root, &s->tables, USER, large_size(s), &merged));
    EXPECT_EQ(t, merged, 1);
}

static void exchange_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    struct neomm_mapping there,
        next = {.state = NEOMM_MAPPING_SWAPPED, .swap = {.slot = 7, .kind = NEOMM_SWAP_SLOT}};
    map_pages(s, 1);
    refer(s, USER, 1, SIM_WRITE);
    EXPECT_OK(t, neomm_paging_query(s->machine.root, &s->tables, USER, &there));
    EXPECT_OK(t, neomm_paging_exchange(s->machine.root, &s->tables, USER, &there, &next, NULL));
}

static void harvest_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    map_pages(s, 1);
    refer(s, USER, 1, SIM_WRITE);
    EXPECT_OK(t, neomm_paging_harvest(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE, true,
                                      note_nothing, NULL));
}

static void slot_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    neomm_frame_t high;
    struct neomm *root = s->machine.root;
    sim_bind(s->machine.sim, s->user_cpu);
    ASSERT_OK(t, neomm_pmm_alloc(root, 0, NEOMM_HIGH, &high));
    EXPECT(t, !neomm_direct_pointer(root, neomm_frame_paddr(high)));
    volatile uint32_t *word = neomm_frame_map(root, high);
    ASSERT(t, word);
    *word = 0x600df00d;
    EXPECT_EQ(t, *word, 0x600df00d);
    neomm_frame_unmap(root, (void *)(uintptr_t)word);
    EXPECT_OK(t, neomm_pmm_free(root, high, 0));
    sim_bind(s->machine.sim, 0);
}

/* A CPU that did not really leave is not told what happens to the tables. */
static void switch_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    map_pages(s, 1);
    refer(s, USER, 1, SIM_READ);
    sim_bind(s->machine.sim, s->user_cpu);
    neomm_paging_activate(s->machine.root, &s->other);
    sim_bind(s->machine.sim, 0);
    EXPECT_OK(t, neomm_paging_unmap(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE, NULL, NULL,
                                    NULL));
}

/* Without an invalidation the CPU goes on with what it had when the tables come back. */
static void pcid_scenario(struct setting *s)
{
    switch_scenario(s);
    sim_bind(s->machine.sim, s->user_cpu);
    neomm_paging_activate(s->machine.root, &s->tables);
    sim_bind(s->machine.sim, 0);
}

/* The CPU that makes the references sleeps while the other one unmaps. */
static void wake_scenario(struct setting *s)
{
    struct ktap *t = s->t;
    map_pages(s, 2);
    refer(s, USER, 1, SIM_READ);
    sim_bind(s->machine.sim, s->user_cpu);
    neomm_paging_idle(s->machine.root);
    sim_bind(s->machine.sim, s->user_cpu ^ 1);
    EXPECT_OK(t, neomm_paging_unmap(s->machine.root, &s->tables, USER, NEOMM_PAGE_SIZE, NULL, NULL,
                                    NULL));
    sim_bind(s->machine.sim, s->user_cpu);
    neomm_paging_wake(s->machine.root);
    sim_bind(s->machine.sim, 0);
}

static void (*const scenarios[])(struct setting *s) = {
    [NEOMM_FLUSH_SITE_UNMAP] = unmap_scenario,
    [NEOMM_FLUSH_SITE_UNMAP_TABLE] = unmap_table_scenario,
    [NEOMM_FLUSH_SITE_PROTECT] = protect_scenario,
    [NEOMM_FLUSH_SITE_SPLIT] = split_scenario,
    [NEOMM_FLUSH_SITE_MERGE] = merge_scenario,
    [NEOMM_FLUSH_SITE_EXCHANGE] = exchange_scenario,
    [NEOMM_FLUSH_SITE_HARVEST] = harvest_scenario,
    [NEOMM_FLUSH_SITE_SLOT] = slot_scenario,
    [NEOMM_FLUSH_SITE_PCID] = pcid_scenario,
    [NEOMM_FLUSH_SITE_SWITCH] = switch_scenario,
    [NEOMM_FLUSH_SITE_WAKE] = wake_scenario,
};

#define SITE_NUMBER(name) NEOMM_FLUSH_SITE_##name,
static const uint64_t sites[] = {NEOMM_FLUSH_SITE_LIST(SITE_NUMBER)};

_Static_assert(sizeof(scenarios) / sizeof(scenarios[0]) == NEOMM_FLUSH_SITES,
               "a scenario for each site");

/* Runs a site's scenario with the references on CPU 0 or CPU 1; returns whether it ended with a
 * report of a stale translation. The report names the site whose invalidation was due: a CPU
 * that did not switch, or make up for it as it woke, is found out by the one it is not told of. */
static bool reports(struct ktap *t, enum neomm_format format, uint32_t user_cpu,
                    enum neomm_flush_site site, enum neomm_flush_site skip)
{
    struct setting s;
    bool late = site == NEOMM_FLUSH_SITE_SWITCH || site == NEOMM_FLUSH_SITE_PCID ||
                site == NEOMM_FLUSH_SITE_WAKE;
    const char *due = sim_flush_site_name(late ? NEOMM_FLUSH_SITE_UNMAP : site);
    if (!open_setting(t, &s, format, user_cpu, 0))
        return false;
    sim_set_keep_going(s.machine.sim, true);
    sim_skip_flush(s.machine.sim, skip);
    scenarios[site](&s);
    const char *text = sim_last_violation(s.machine.sim);
    bool reported = sim_violations(s.machine.sim) != 0;
    if (reported) {
        ktap_note(t, "%s", text);
        EXPECT(t, strstr(text, "stale translation") && strstr(text, due));
    }
    close_setting(&s);
    return reported;
}

static void each_site_is_needed(struct ktap *t)
{
    enum neomm_flush_site site = (enum neomm_flush_site)t->parameter;
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    for (unsigned f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
        for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
            enum neomm_format format = (enum neomm_format)formats[f];
            ktap_note(t, "format %u, CPU %u", (unsigned)format, cpu);
            EXPECT(t, !reports(t, format, cpu, site, NEOMM_FLUSH_SITES));
            /* PCIDs are of 64-bit mode. */
            EXPECT_EQ(t, reports(t, format, cpu, site, site),
                      site != NEOMM_FLUSH_SITE_PCID || sizeof(uintptr_t) > 4);
        }
    }
}

/* ---- all CPUs, few pages and many, user and kernel ---- */

static void every_cpu_forgets(struct ktap *t)
{
    static const uint32_t absences[] = {0, SIM_NO_PGE};
    static const unsigned counts[] = {1, 32, 33, MANY};
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        for (unsigned a = 0; a < 2; a++) {
            struct setting s;
            if (!open_setting(t, &s, (enum neomm_format)t->parameter, cpu, absences[a]))
                return;
            for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                unmap_and_check(&s, &s.tables, USER, counts[i]);
                unmap_and_check(&s, neomm_paging_kernel(s.machine.root), s.window, counts[i]);
                EXPECT_EQ(t, (neomm_cpu_read_cr4() & NEOMM_CR4_PGE) != 0, absences[a] == 0);
            }
            close_setting(&s);
        }
    }
}

/* ---- nothing is invalidated without need ---- */

static void invalidates_what_is_due(struct ktap *t)
{
    struct setting s;
    struct neomm *root;
    if (!open_setting(t, &s, (enum neomm_format)t->parameter, 1, 0))
        return;
    root = s.machine.root;
    struct costs costs = costs_now(&s);
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE}, there;

    map_pages(&s, MANY);
    expect_costs(&s, &costs, 0, 0, 0); /* mapping */
    EXPECT_OK(t, neomm_paging_protect(root, &s.tables, USER, NEOMM_PAGE_SIZE, RW));
    expect_costs(&s, &costs, 0, 0, 0); /* no change */
    EXPECT_OK(t, neomm_paging_protect(root, &s.tables, USER, NEOMM_PAGE_SIZE, NEOMM_PROT_READ));
    expect_costs(&s, &costs, 1, 0, 1); /* loaded on the other CPU only */
    EXPECT_OK(t, neomm_paging_protect(root, &s.tables, USER, NEOMM_PAGE_SIZE, RW));
    expect_costs(&s, &costs, 0, 0, 0); /* wider */
    EXPECT_OK(t, neomm_paging_harvest(root, &s.tables, USER, MANY * NEOMM_PAGE_SIZE, true,
                                      note_nothing, NULL));
    expect_costs(&s, &costs, 0, 0, 0); /* no bit was set */
    EXPECT_OK(t, neomm_paging_query(root, &s.tables, USER, &there));
    EXPECT_OK(t, neomm_paging_exchange(root, &s.tables, USER, &there, &none, NULL));
    expect_costs(&s, &costs, 1, 0, 1);
    EXPECT_OK(t, neomm_paging_exchange(root, &s.tables, USER, &none, &there, NULL));
    expect_costs(&s, &costs, 0, 0, 0); /* nothing was there */
    EXPECT_OK(t, neomm_paging_unmap(root, &s.tables, USER, 4 * NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    expect_costs(&s, &costs, 4, 0, 1);
    EXPECT_OK(t,
              neomm_paging_unmap(root, &s.tables, USER, MANY * NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    expect_costs(&s, &costs, 0, 1, 1); /* too many to be worth it */
    EXPECT_OK(t,
              neomm_paging_map(root, neomm_paging_kernel(root), s.window,
                               neomm_frame_paddr(s.block), NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, 0));
    EXPECT_OK(t, neomm_paging_unmap(root, neomm_paging_kernel(root), s.window, NEOMM_PAGE_SIZE,
                                    NULL, NULL, NULL));
    expect_costs(&s, &costs, 2, 0, 1); /* the kernel's, on both */
    sim_bind(s.machine.sim, 1);
    neomm_paging_activate(root, neomm_paging_kernel(root));
    sim_bind(s.machine.sim, 0);
    map_pages(&s, 1);
    EXPECT_OK(t, neomm_paging_unmap(root, &s.tables, USER, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    expect_costs(&s, &costs, 0, 0, 0); /* loaded nowhere */
    close_setting(&s);
}

/* The threshold is the root's: so many pages one by one, and one more is everything. */
static void threshold(struct ktap *t)
{
    static const uint32_t thresholds[] = {1, 2, NEOMM_FLUSH_PAGES_MAX};
    for (unsigned i = 0; i < sizeof(thresholds) / sizeof(thresholds[0]); i++) {
        struct setting s;
        uint32_t most = thresholds[i];
        const struct high_options options = {
            .format = (enum neomm_format)t->parameter, .cpus = CPUS, .flush_pages = most};
        if (!open_with(t, &s, 1, &options))
            return;
        EXPECT_OK(t, neomm_paging_map(s.machine.root, &s.tables, USER, neomm_frame_paddr(s.block),
                                      (2 * most + 2) * NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB,
                                      NEOMM_MAP_SMALL));
        refer(&s, USER, 2 * most + 2, SIM_WRITE);
        struct costs costs = costs_now(&s);
        EXPECT_OK(t, neomm_paging_unmap(s.machine.root, &s.tables, USER, most * NEOMM_PAGE_SIZE,
                                        NULL, NULL, NULL));
        expect_costs(&s, &costs, most, 0, 1);
        EXPECT_OK(t, neomm_paging_unmap(s.machine.root, &s.tables, USER + most * NEOMM_PAGE_SIZE,
                                        (most + 1) * NEOMM_PAGE_SIZE, NULL, NULL, NULL));
        expect_costs(&s, &costs, 0, 1, 1);
        close_setting(&s);
    }
}

static void threshold_out_of_range(struct ktap *t)
{
    const struct neomm_paging_options options = {.flush_pages = NEOMM_FLUSH_PAGES_MAX + 1};
    const struct high_options bare = {.format = (enum neomm_format)t->parameter, .no_paging = true};
    struct high_machine machine;
    ASSERT(t, high_open(t, &machine, &bare));
    EXPECT_EQ(t, neomm_paging_init(machine.root, &options), NEOMM_E_RANGE);
    high_close(t, &machine);
}

/* ---- a loader's global translations ---- */

/* Tables by hand: one large global leaf at USER, in frames of pmm. Returns the root's address. */
static neomm_paddr_t loader_tables(struct high_machine *machine, neomm_frame_t *frames,
                                   unsigned levels, unsigned bits, neomm_paddr_t leaf)
{
    for (unsigned level = levels; level-- > 1;) {
        unsigned shift = 12 + bits * level;
        size_t index = (size_t)(USER >> shift) & (((size_t)1 << bits) - 1);
        uint64_t entry = level == 1 ? leaf | 0x183 : neomm_frame_paddr(frames[level - 1]);
        if (level > 1) /* the roots of PAE have no rights */
            entry |= levels == 3 && level == 2 ? 0x1 : 0x3;
        uint8_t *table = neomm_direct_pointer(machine->root, neomm_frame_paddr(frames[level]));
        memcpy(table + index * (bits == 10 ? 4 : 8), &entry, bits == 10 ? 4 : 8);
    }
    return neomm_frame_paddr(frames[levels - 1]);
}

static void global_translations_of_the_loader_go(struct ktap *t)
{
    static const unsigned level_counts[] = {2, 3, 4, 5};
    struct high_machine machine;
    enum neomm_format format = (enum neomm_format)t->parameter;
    struct high_options options = {.format = format, .no_paging = true};
    unsigned levels = level_counts[format], bits = levels == 2 ? 10 : 9;
    neomm_frame_t frames[5], block;
    neomm_paddr_t paddr;
    uint32_t error;
    ASSERT(t, high_open(t, &machine, &options));
    EXPECT_OK(t, neomm_pmm_alloc(machine.root, NEOMM_ORDER_MAX, 0, &block));
    for (unsigned i = 1; i < levels; i++)
        EXPECT_OK(t, neomm_pmm_alloc(machine.root, 0, NEOMM_ZERO, &frames[i]));
    neomm_paddr_t top = loader_tables(&machine, frames, levels, bits, neomm_frame_paddr(block));
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PGE | NEOMM_CR4_PSE);
    neomm_cpu_write_cr3((uintptr_t)top);
    EXPECT(t, sim_translate(machine.sim, USER, SIM_WRITE, false, &paddr, &error));
    EXPECT_EQ(t, paddr, neomm_frame_paddr(block));
    EXPECT_OK(t, neomm_paging_init(machine.root, NULL));
    EXPECT_OK(t, neomm_paging_cpu_init(machine.root));
    for (unsigned i = 1; i < levels; i++)
        EXPECT_OK(t, neomm_pmm_free(machine.root, frames[i], 0));
    EXPECT(t, !sim_translate(machine.sim, USER, SIM_WRITE, false, &paddr, &error));
    EXPECT_OK(t, neomm_pmm_free(machine.root, block, NEOMM_ORDER_MAX));
    high_close(t, &machine);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(each_site_is_needed, sites),
    KTAP_CASE_WITH(every_cpu_forgets, formats),
    KTAP_CASE_WITH(invalidates_what_is_due, formats),
    KTAP_CASE_WITH(threshold, formats),
    KTAP_CASE_WITH(threshold_out_of_range, formats),
    KTAP_CASE_WITH(global_translations_of_the_loader_go, formats),
};
KTAP_SUITE(flush, cases);
