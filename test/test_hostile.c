/* Long random histories of page tables on CPUs that do what the architecture lets them do: no
 * access goes where it must not, no used page goes unmarked, and the checker of invalidations has
 * nothing to say.
 * SPDX-License-Identifier: MIT
 *
 * Every frame's first word is its number, so an access tells where it went. NEOMM_ACCESSES=n makes
 * so many accesses in all cases together.
 */
#include "high_machine.h"
#include "share.h"

#include "sim/mmu.h"

#include <stdlib.h>
#include <string.h>

#define CPUS          3u
#define SPACES        3u
#define PAGES         192u /* of each space; the last quarter is the kernel's, the same in all */
#define BATCH         64u  /* accesses between two operations */
#define RW            (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define ACCESSES      3000000u
#define RUN_LENGTH    48u
#define KERNEL_PAGES  (PAGES / 4)
#define USER_PAGES    (PAGES - KERNEL_PAGES)
#define USER          ((neomm_vaddr_t)0x10000000)
#define USER_STRIDE   ((neomm_vaddr_t)0x40000000 / 2)
#define PAGES_A_PLACE (USER_PAGES / 3)
#define LARGE         (USER + 3 * USER_STRIDE)
#define LARGE_PAGES   (1u << NEOMM_ORDER_MAX)

struct page {
    enum neomm_mapping_state state;
    neomm_frame_t frame;
    neomm_prot_t prot;
    bool used, written; /* since the last harvest */
};

struct world {
    struct ktap *t;
    struct high_machine machine;
    struct neomm_tables tables[SPACES];
    struct page page[SPACES][USER_PAGES], kernel[KERNEL_PAGES];
    neomm_vaddr_t window;
    /* A block that the spaces map with large leaves, in a place of its own: the rights of each of
     * its pages, 0: none is mapped. */
    neomm_frame_t block;
    neomm_prot_t large[SPACES][LARGE_PAGES];
    uint32_t loaded[CPUS];
    bool asleep[CPUS];
    uint64_t random, accesses;
    /* What a callback goes on about. */
    uint32_t space;
    bool clear_dirty;
};

static uint32_t choose(struct world *w, uint32_t count)
{
    uint64_t x = w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((x >> 33) % count);
}

/* Pages lie in three places, so that tables come and go, some of them next to each other. */
static neomm_vaddr_t vaddr_of(const struct world *w, bool kernel, uint32_t i)
{
    if (kernel)
        return w->window + (neomm_vaddr_t)i * NEOMM_PAGE_SIZE;
    return USER + i / PAGES_A_PLACE * USER_STRIDE +
           (neomm_vaddr_t)(i % PAGES_A_PLACE) * NEOMM_PAGE_SIZE;
}

static struct page *page_of(struct world *w, bool kernel, uint32_t space, uint32_t i)
{
    return kernel ? &w->kernel[i] : &w->page[space][i];
}

static struct neomm_tables *tables_of(struct world *w, bool kernel, uint32_t space)
{
    return kernel ? neomm_paging_kernel(w->machine.root) : &w->tables[space];
}

/* A range of pages in one place. */
struct range {
    bool kernel;
    uint32_t space, first, count;
};

static struct range choose_range(struct world *w)
{
    struct range range = {.kernel = choose(w, 4) == 0, .space = choose(w, SPACES)};
    uint32_t place = range.kernel ? 0 : choose(w, 3) * PAGES_A_PLACE;
    uint32_t room = range.kernel ? KERNEL_PAGES : PAGES_A_PLACE, first = choose(w, room);
    range.first = place + first;
    range.count = 1 + choose(w, choose(w, 3) == 0 ? RUN_LENGTH : 3);
    if (range.count > room - first)
        range.count = room - first;
    return range;
}

static neomm_vaddr_t range_vaddr(const struct world *w, const struct range *range)
{
    return vaddr_of(w, range->kernel, range->first);
}

static size_t range_size(const struct range *range)
{
    return range->count * NEOMM_PAGE_SIZE;
}

static bool all_are(struct world *w, const struct range *range, enum neomm_mapping_state state)
{
    for (uint32_t i = 0; i < range->count; i++)
        if (page_of(w, range->kernel, range->space, range->first + i)->state != state)
            return false;
    return true;
}

static void go_to(struct world *w, uint32_t cpu)
{
    sim_bind(w->machine.sim, cpu);
    if (w->asleep[cpu])
        neomm_paging_wake(w->machine.root);
    w->asleep[cpu] = false;
}

static void sleep_one(struct world *w)
{
    uint32_t cpu = choose(w, CPUS);
    sim_bind(w->machine.sim, cpu);
    neomm_paging_idle(w->machine.root);
    w->asleep[cpu] = true;
}

/* ---- accesses ---- */

static bool is_allowed(const struct page *page, enum sim_access access)
{
    return page->state == NEOMM_MAPPING_PRESENT && access != SIM_FETCH &&
           (access == SIM_READ || (page->prot & NEOMM_PROT_WRITE));
}

/* The user may meet one fault that is none any more, where rights have been added. */
static void access_one(struct world *w, struct sim *sim)
{
    struct ktap *t = w->t;
    bool kernel = choose(w, 4) == 0;
    uint32_t space = w->loaded[sim_this_cpu()->index], error = 0;
    uint32_t i = choose(w, kernel ? KERNEL_PAGES : USER_PAGES);
    enum sim_access access = choose(w, 3) == 0 ? SIM_WRITE : SIM_READ;
    const uint32_t *at = NULL;
    if (!kernel && space == SPACES)
        return;
    struct page *page = page_of(w, kernel, space, i);
    for (unsigned tries = 0; tries < 2 && !at; tries++) {
        w->accesses++;
        bool entered = sim_cpu_enter(sim);
        at = sim_reference_inline(sim, vaddr_of(w, kernel, i), access, !kernel, &error);
        sim_cpu_leave(entered);
    }
    EXPECT_EQ(t, at != NULL, is_allowed(page, access));
    if (!at || !is_allowed(page, access))
        return;
    EXPECT_EQ(t, *at, page->frame.number);
    page->used = true;
    page->written |= access == SIM_WRITE;
}

static void access_large(struct world *w, struct sim *sim)
{
    struct ktap *t = w->t;
    uint32_t space = w->loaded[sim_this_cpu()->index], i = choose(w, LARGE_PAGES), error = 0;
    enum sim_access access = choose(w, 3) == 0 ? SIM_WRITE : SIM_READ;
    const uint32_t *at = NULL;
    if (space == SPACES)
        return;
    for (unsigned tries = 0; tries < 2 && !at; tries++) {
        w->accesses++;
        bool entered = sim_cpu_enter(sim);
        at = sim_reference_inline(sim, LARGE + (neomm_vaddr_t)i * NEOMM_PAGE_SIZE, access, true,
                                  &error);
        sim_cpu_leave(entered);
    }
    neomm_prot_t prot = w->large[space][i];
    EXPECT_EQ(t, at != NULL, prot && (access == SIM_READ || (prot & NEOMM_PROT_WRITE)));
    if (at && prot)
        EXPECT_EQ(t, *at, w->block.number + i);
}

static void access_some(struct world *w)
{
    go_to(w, choose(w, CPUS));
    for (uint32_t i = 0; i < BATCH; i++)
        if (choose(w, 4) == 0)
            access_large(w, w->machine.sim);
        else
            access_one(w, w->machine.sim);
}

/* ---- operations ---- */

static void stamp(struct world *w, neomm_frame_t frame)
{
    uint32_t *word = neomm_direct_pointer(w->machine.root, neomm_frame_paddr(frame));
    *word = frame.number;
}

static bool take_frame(struct world *w, neomm_frame_t *frame)
{
    if (neomm_pmm_alloc(w->machine.root, 0, 0, frame) != NEOMM_OK)
        return false;
    stamp(w, *frame);
    return true;
}

static void give_frame(struct world *w, neomm_frame_t frame)
{
    struct ktap *t = w->t;
    EXPECT_OK(t, neomm_pmm_free(w->machine.root, frame, 0));
}

static neomm_prot_t choose_prot(struct world *w)
{
    return choose(w, 3) == 0 ? NEOMM_PROT_READ : RW;
}

static void map_some(struct world *w, const struct range *range)
{
    struct ktap *t = w->t;
    neomm_frame_t frames[RUN_LENGTH];
    neomm_prot_t prot = choose_prot(w);
    if (!all_are(w, range, NEOMM_MAPPING_NONE))
        return;
    for (uint32_t i = 0; i < range->count; i++)
        ASSERT(t, take_frame(w, &frames[i]));
    EXPECT_OK(t, neomm_paging_map_frames(w->machine.root, tables_of(w, range->kernel, range->space),
                                         range_vaddr(w, range), frames, range->count, prot));
    for (uint32_t i = 0; i < range->count; i++)
        *page_of(w, range->kernel, range->space, range->first + i) =
            (struct page){NEOMM_MAPPING_PRESENT, frames[i], prot, false, false};
}

/* The frame is free as soon as the leaf is gone. */
static void released(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct world *w = context;
    (void)vaddr;
    if (leaf->state == NEOMM_MAPPING_PRESENT)
        give_frame(w, neomm_paddr_frame(leaf->paddr));
}

static void unmap_some(struct world *w, const struct range *range)
{
    struct ktap *t = w->t;
    EXPECT_OK(t, neomm_paging_unmap(w->machine.root, tables_of(w, range->kernel, range->space),
                                    range_vaddr(w, range), range_size(range), released, w, NULL));
    for (uint32_t i = 0; i < range->count; i++)
        *page_of(w, range->kernel, range->space, range->first + i) = (struct page){0};
}

static void protect_some(struct world *w, const struct range *range)
{
    struct ktap *t = w->t;
    neomm_prot_t prot = choose_prot(w);
    EXPECT_OK(t, neomm_paging_protect(w->machine.root, tables_of(w, range->kernel, range->space),
                                      range_vaddr(w, range), range_size(range), prot));
    for (uint32_t i = 0; i < range->count; i++)
        page_of(w, range->kernel, range->space, range->first + i)->prot = prot;
}

/* A page that was used is marked so. A space's that was not written is not dirty; the kernel's may
 * be mapped with all marks set. */
static void check_marks(struct world *w, bool kernel, const struct page *page,
                        const struct neomm_mapping *leaf)
{
    struct ktap *t = w->t;
    EXPECT(t, leaf->accessed || !page->used);
    EXPECT(t, leaf->dirty || !page->written);
    EXPECT(t, kernel || leaf->dirty == page->written);
    EXPECT(t, kernel || w->machine.sim->options.whims != 0 || leaf->accessed == page->used);
}

static void visit(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct world *w = context;
    if (leaf->state != NEOMM_MAPPING_PRESENT)
        return;
    neomm_vaddr_t offset = vaddr - USER;
    uint32_t i = (uint32_t)(offset / USER_STRIDE) * PAGES_A_PLACE +
                 (uint32_t)(offset % USER_STRIDE / NEOMM_PAGE_SIZE);
    struct page *page = w->space == SPACES ? &w->kernel[(vaddr - w->window) / NEOMM_PAGE_SIZE]
                                           : &w->page[w->space][i];
    check_marks(w, w->space == SPACES, page, leaf);
    page->used = false;
    page->written &= !w->clear_dirty;
}

static void harvest_some(struct world *w, const struct range *range)
{
    struct ktap *t = w->t;
    w->space = range->kernel ? SPACES : range->space;
    w->clear_dirty = choose(w, 2) == 0;
    EXPECT_OK(t, neomm_paging_harvest(w->machine.root, tables_of(w, range->kernel, range->space),
                                      range_vaddr(w, range), range_size(range), w->clear_dirty,
                                      visit, w));
}

/* To another frame, out, or in again. */
static void exchange_one(struct world *w, const struct range *range)
{
    struct ktap *t = w->t;
    struct neomm *root = w->machine.root;
    struct neomm_tables *tables = tables_of(w, range->kernel, range->space);
    struct page *page = page_of(w, range->kernel, range->space, range->first);
    struct neomm_mapping there, last,
        next = {.state = NEOMM_MAPPING_SWAPPED, .swap = {.slot = 7, .kind = NEOMM_SWAP_SLOT}};
    struct page after = {.state = NEOMM_MAPPING_SWAPPED};
    if (choose(w, 2) == 0) {
        after = (struct page){.state = NEOMM_MAPPING_PRESENT, .prot = choose_prot(w)};
        ASSERT(t, take_frame(w, &after.frame));
        next = (struct neomm_mapping){.state = NEOMM_MAPPING_PRESENT,
                                      .prot = after.prot,
                                      .paddr = neomm_frame_paddr(after.frame)};
    }
    EXPECT_OK(t, neomm_paging_query(root, tables, range_vaddr(w, range), &there));
    EXPECT_OK(t, neomm_paging_exchange(root, tables, range_vaddr(w, range), &there, &next, &last));
    if (page->state == NEOMM_MAPPING_PRESENT) {
        check_marks(w, range->kernel, page, &last);
        give_frame(w, page->frame);
    }
    *page = after;
}

/* Large leaves come whole and go in parts. */
static void change_large(struct world *w)
{
    struct ktap *t = w->t;
    uint32_t space = choose(w, SPACES), first = choose(w, LARGE_PAGES);
    uint32_t count = 1 + choose(w, LARGE_PAGES - first);
    neomm_vaddr_t vaddr = LARGE + (neomm_vaddr_t)first * NEOMM_PAGE_SIZE;
    struct neomm_tables *tables = &w->tables[space];
    neomm_prot_t prot = choose_prot(w), *large = w->large[space];
    uint32_t mapped = 0;
    for (uint32_t i = 0; i < LARGE_PAGES; i++)
        mapped += large[i] != 0;
    if (mapped == 0) {
        EXPECT_OK(t, neomm_paging_map(w->machine.root, tables, LARGE, neomm_frame_paddr(w->block),
                                      LARGE_PAGES * NEOMM_PAGE_SIZE, prot, NEOMM_CACHE_WB, 0));
        first = 0;
        count = LARGE_PAGES;
    } else if (choose(w, 2) == 0) {
        EXPECT_OK(
            t, neomm_paging_protect(w->machine.root, tables, vaddr, count * NEOMM_PAGE_SIZE, prot));
    } else {
        EXPECT_OK(t, neomm_paging_unmap(w->machine.root, tables, vaddr, count * NEOMM_PAGE_SIZE,
                                        NULL, NULL, NULL));
        prot = 0;
    }
    for (uint32_t i = first; i < first + count; i++)
        large[i] = large[i] != 0 || mapped == 0 ? prot : 0;
}

static void end_large(struct world *w, uint32_t space)
{
    struct ktap *t = w->t;
    EXPECT_OK(t, neomm_paging_unmap(w->machine.root, &w->tables[space], LARGE,
                                    LARGE_PAGES * NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    memset(w->large[space], 0, sizeof(w->large[space]));
}

static void switch_one(struct world *w)
{
    uint32_t cpu = choose(w, CPUS), space = choose(w, SPACES + 1);
    go_to(w, cpu);
    w->loaded[cpu] = space;
    neomm_paging_activate(w->machine.root, space == SPACES ? neomm_paging_kernel(w->machine.root)
                                                           : &w->tables[space]);
}

/* A frame above the direct map, seen through a slot of this CPU. */
static void use_slot(struct world *w)
{
    struct ktap *t = w->t;
    struct neomm *root = w->machine.root;
    neomm_frame_t high;
    go_to(w, choose(w, CPUS));
    ASSERT_OK(t, neomm_pmm_alloc(root, 0, NEOMM_HIGH, &high));
    volatile uint32_t *word = neomm_frame_map(root, high);
    ASSERT(t, word);
    *word = high.number;
    EXPECT_EQ(t, *word, high.number);
    neomm_frame_unmap(root, (void *)(uintptr_t)word);
    EXPECT_OK(t, neomm_pmm_free(root, high, 0));
}

/* A space ends and another begins, while nobody has it loaded. */
static void renew(struct world *w)
{
    struct ktap *t = w->t;
    uint32_t space = choose(w, SPACES);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        if (w->loaded[cpu] == space)
            return;
    EXPECT_OK(t, neomm_paging_unmap(w->machine.root, &w->tables[space], USER, 3 * USER_STRIDE,
                                    released, w, NULL));
    end_large(w, space);
    EXPECT_OK(t, neomm_paging_destroy(w->machine.root, &w->tables[space]));
    memset(w->page[space], 0, sizeof(w->page[space]));
    EXPECT_OK(t, neomm_paging_create(w->machine.root, &w->tables[space], space + 1));
}

static void operate(struct world *w)
{
    struct range range = choose_range(w);
    go_to(w, choose(w, CPUS));
    switch (choose(w, 20)) {
    case 0:
        use_slot(w);
        break;
    case 1:
        renew(w);
        break;
    case 2:
    case 3:
        switch_one(w);
        break;
    case 4:
    case 5:
        unmap_some(w, &range);
        break;
    case 6:
    case 7:
        harvest_some(w, &range);
        break;
    case 8:
    case 9:
        exchange_one(w, &range);
        break;
    case 10:
    case 11:
    case 12:
        protect_some(w, &range);
        break;
    case 13:
    case 14:
        change_large(w);
        break;
    case 15:
    case 16:
        sleep_one(w);
        break;
    default:
        map_some(w, &range);
        break;
    }
}

/* ---- the run ---- */

static bool open_world(struct ktap *t, struct world *w, enum neomm_format format, uint32_t whims)
{
    const struct high_options options = {
        .format = format, .cpus = CPUS, .whims = whims, .seed = t->parameter};
    memset(w, 0, sizeof(*w));
    w->t = t;
    w->random = t->parameter + 1;
    if (!high_open(t, &w->machine, &options))
        return false;
    for (uint32_t i = 0; i < SPACES; i++)
        EXPECT_OK(t, neomm_paging_create(w->machine.root, &w->tables[i], i + 1));
    for (uint32_t cpu = 0; cpu < CPUS; cpu++)
        w->loaded[cpu] = SPACES;
    EXPECT_OK(t, neomm_window_alloc(w->machine.root, KERNEL_PAGES * NEOMM_PAGE_SIZE, &w->window));
    EXPECT_OK(t, neomm_pmm_alloc(w->machine.root, NEOMM_ORDER_MAX, 0, &w->block));
    for (uint32_t i = 0; i < LARGE_PAGES; i++)
        stamp(w, neomm_frame(w->block.number + i));
    return true;
}

static void close_world(struct ktap *t, struct world *w)
{
    struct neomm *root = w->machine.root;
    struct range all = {.kernel = true, .count = KERNEL_PAGES};
    for (uint32_t cpu = CPUS; cpu-- > 0;) {
        go_to(w, cpu);
        neomm_paging_activate(root, neomm_paging_kernel(root));
        w->loaded[cpu] = SPACES;
    }
    unmap_some(w, &all);
    EXPECT_OK(t, neomm_window_free(root, w->window));
    for (uint32_t i = 0; i < SPACES; i++) {
        EXPECT_OK(
            t, neomm_paging_unmap(root, &w->tables[i], USER, 3 * USER_STRIDE, released, w, NULL));
        end_large(w, i);
        EXPECT_OK(t, neomm_paging_destroy(root, &w->tables[i]));
    }
    EXPECT_OK(t, neomm_pmm_free(root, w->block, NEOMM_ORDER_MAX));
    high_close(t, &w->machine);
}

/* One occasion in so many is taken; 0: none. */
static const uint32_t whims[] = {0, 1, 3, 40};

#if UINTPTR_MAX > 0xffffffffu
static const enum neomm_format formats[] = {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL};
#else
static const enum neomm_format formats[] = {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE};
#endif

static const uint64_t seeds[] = {0, 1, 2, 3, 4, 5, 6, 7};

/* Parameter: format in bit 0, whims above. */
static void histories(struct ktap *t)
{
    static struct world w;
    const char *wanted = getenv("NEOMM_ACCESSES");
    uint64_t accesses = share_of(wanted ? strtoull(wanted, NULL, 10) : ACCESSES) / 8;
    if (!open_world(t, &w, formats[t->parameter & 1], whims[t->parameter >> 1]))
        return;
    while (w.accesses < accesses && t->failures == 0) {
        operate(&w);
        access_some(&w);
    }
    EXPECT(t, t->failures != 0 || w.accesses >= accesses);
    close_world(t, &w);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(histories, seeds),
};
KTAP_SUITE(hostile, cases);
