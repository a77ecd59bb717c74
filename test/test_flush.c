/* Every invalidation is done, on every CPU that needs it, and every one is needed: with any of
 * them left out, the machine reports the stale translation.
 * SPDX-License-Identifier: MIT */
#include "high_machine.h"

#include "env.h"
#include "paging/pcid.h"

#include <string.h>

static const uint64_t formats[] = ENV_FORMATS;

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

static size_t large_size(const struct setting *s)
{
    return neomm_layout_of(s->machine.root)->format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20
                                                                           : (size_t)2 << 20;
}

static bool open_with(struct ktap *t, struct setting *s, uint32_t user_cpu,
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

static bool open_setting(struct ktap *t, struct setting *s, enum neomm_format format,
                         uint32_t user_cpu, uint32_t absent)
{
    const struct high_options options = {.format = format, .cpus = CPUS, .absent = absent};
    return open_with(t, s, user_cpu, &options);
}

/* Without skipped sites, so that nothing is left behind. */
static void close_setting(struct setting *s)
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
static void refer(struct setting *s, neomm_vaddr_t vaddr, unsigned pages, enum sim_access access)
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

static void map_pages(struct setting *s, unsigned pages)
{
    struct ktap *t = s->t;
    EXPECT_OK(t, neomm_paging_map(s->machine.root, &s->tables, USER, neomm_frame_paddr(s->block),
                                  pages * NEOMM_PAGE_SIZE, RW, NEOMM_CACHE_WB, NEOMM_MAP_SMALL));
}

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

static void note_nothing(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)context;
    (void)vaddr;
    (void)leaf;
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

static void unmap_and_check(struct setting *s, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            unsigned pages)
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

static uint64_t counter(struct neomm *root, enum neomm_counter counter)
{
    struct neomm_snapshot snapshot;
    neomm_snapshot_take(root, &snapshot);
    return snapshot.counter[counter];
}

struct costs {
    uint64_t pages, alls, shootdowns;
};

static struct costs costs_now(const struct setting *s)
{
    return (struct costs){counter(s->machine.root, NEOMM_COUNTER_FLUSH_PAGE),
                          counter(s->machine.root, NEOMM_COUNTER_FLUSH_ALL),
                          counter(s->machine.root, NEOMM_COUNTER_SHOOTDOWN)};
}

static void expect_costs(struct setting *s, struct costs *before, uint64_t pages, uint64_t alls,
                         uint64_t shootdowns)
{
    struct ktap *t = s->t;
    struct costs now = costs_now(s);
    EXPECT_EQ(t, now.pages - before->pages, pages);
    EXPECT_EQ(t, now.alls - before->alls, alls);
    EXPECT_EQ(t, now.shootdowns - before->shootdowns, shootdowns);
    *before = now;
}

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
    KTAP_CASE_WITH(sleepers_are_left_alone, formats),
    KTAP_CASE_WITH(sleepers_and_the_kernel, formats),
    KTAP_CASE_WITH(sleepers_are_called_for_tables, formats),
    KTAP_CASE_WITH(sleepers_catch_up, formats),
    KTAP_CASE_WITH(a_cpu_keeps_what_it_knows, formats),
    KTAP_CASE_WITH(pcids_are_shared_out, formats),
    KTAP_CASE_WITH(calls_that_overtake, formats),
    KTAP_CASE_WITH(a_cpu_that_comes_back_knows_nothing, formats),
    KTAP_CASE_WITH(global_translations_of_the_loader_go, formats),
};
KTAP_SUITE(flush, cases);
