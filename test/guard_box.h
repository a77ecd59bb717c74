/* What the suites of guarded objects share: a heap whose caches are GUARDED, objects on pages of
 * their own, accesses that fault, and the reports.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_GUARD_BOX_H
#define NEOMM_TEST_GUARD_BOX_H

#include "heap_box.h"

#include "sim/sim.h"

#include <neomm/heap_debug.h>

#include <string.h>

#define PAGE NEOMM_PAGE_SIZE
#define MOST NEOMM_HEAP_GUARDED_MAX

/* Reports so far, and the last. */
struct findings {
    uint32_t count;
    struct neomm_heap_report last;
};

struct guard_box {
    struct box box;
    struct neomm *root;
    struct findings findings;
    uint64_t free_before; /* frames, with the pool's state, without its pages and objects */
};

/* A pointer about which the compiler knows nothing. */
static inline uint8_t *guess(volatile uintptr_t address)
{
    return (uint8_t *)address;
}

static inline void note_report(void *context, const struct neomm_heap_report *report)
{
    struct findings *findings = context;
    findings->count++;
    findings->last = *report;
}

static inline uint64_t guard_free_frames(struct guard_box *g)
{
    (void)neomm_heap_shrink(g->root);
    return neomm_pmm_free_frames(g->root);
}

/* A heap with the kernel window; kmalloc's caches are GUARDED at this interval. */
static inline bool guard_open_in(struct ktap *t, struct guard_box *g, enum neomm_format format,
                                 uint32_t interval, uint32_t cpus)
{
    const struct env_options options = {
        .layer = ENV_HEAP, .format = format, .cpus = cpus, .seed = t->parameter + 1};
    memset(g, 0, sizeof(*g));
    if (!env_open(t, &g->box.env, &options))
        return false;
    g->root = g->box.root = g->box.env.root;
    neomm_heap_on_error(g->root, note_report, &g->findings);
    EXPECT_OK(t, neomm_heap_set_profile(g->root, NULL, NEOMM_HEAP_GUARDED));
    EXPECT_OK(t, neomm_heap_set_sampling(g->root, 0));
    g->free_before = guard_free_frames(g);
    EXPECT_OK(t, neomm_heap_set_sampling(g->root, interval));
    EXPECT(t, guard_free_frames(g) + (interval > 0 ? 2 * MOST + 1 : 0) <= g->free_before);
    return t->failures == 0;
}

static inline bool guard_open(struct ktap *t, struct guard_box *g, uint32_t interval, uint32_t cpus)
{
    return guard_open_in(t, g, box_format(), interval, cpus);
}

/* Everything was freed, and `reports` things were found. */
static inline void guard_close(struct ktap *t, struct guard_box *g, uint32_t reports)
{
    EXPECT_EQ(t, g->findings.count, reports);
    EXPECT_OK(t, neomm_heap_set_sampling(g->root, 0));
    EXPECT_EQ(t, guard_free_frames(g), g->free_before);
    EXPECT_EQ(t, objects(&g->box), 0);
    env_close(t, &g->box.env);
}

/* ---- objects ---- */

static inline bool is_guarded(const struct guard_box *g, const void *object)
{
    return neomm_window_vaddr(g->root, object) != 0;
}

static inline uintptr_t page_of(const void *pointer)
{
    return (uintptr_t)pointer / PAGE;
}

enum guard_place { ANYWHERE, AT_START, AT_END };

static inline bool is_placed(const uint8_t *object, size_t size, enum guard_place place)
{
    bool start = (uintptr_t)object % PAGE == 0;
    size_t behind = PAGE - ((uintptr_t)object + size) % PAGE;
    return place == ANYWHERE || (place == AT_START ? start : behind % PAGE < 16);
}

/* A guarded block, with an interval of 1; those taken on the way are freed. NULL: there is none. */
static inline uint8_t *take_guarded(struct guard_box *g, size_t size, enum guard_place place)
{
    void *others[MOST];
    uint32_t count = 0;
    uint8_t *found = NULL;
    while (!found && count < MOST) {
        uint8_t *block = take(&g->box, size, 0);
        if (block && is_guarded(g, block) && is_placed(block, size, place))
            found = block;
        else
            others[count++] = block;
    }
    while (count > 0)
        (void)neomm_kfree(g->root, others[--count]);
    return found;
}

/* ---- accesses ---- */

struct touch {
    volatile uint8_t *at;
    bool write;
};

static inline void do_touch(void *argument)
{
    const struct touch *touch = argument;
    if (touch->write)
        *touch->at = 0xee;
    else
        (void)*touch->at;
}

/* Accesses one byte as a kernel does. True: it faulted, the heap knew the page, and the access
 * went on. */
static inline bool faults(struct ktap *t, struct guard_box *g, uint8_t *at, bool write)
{
    struct touch touch = {at, write};
    struct sim *sim = g->box.env.machine;
    char text[160];
    if (sim_catch(sim, do_touch, &touch, text, sizeof(text)) == SIM_END_RETURN)
        return false;
    EXPECT(t, neomm_heap_fault(g->root, at));
    EXPECT_EQ(t, sim_catch(sim, do_touch, &touch, text, sizeof(text)), SIM_END_RETURN);
    return true;
}

/* The last report is this one. */
static inline void expect_report(struct ktap *t, const struct guard_box *g, uint32_t count,
                                 enum neomm_heap_error error, const void *object, ptrdiff_t offset)
{
    const struct neomm_heap_report *last = &g->findings.last;
    EXPECT_EQ(t, g->findings.count, count);
    EXPECT_EQ(t, last->error, error);
    EXPECT_EQ(t, (uintptr_t)last->object, (uintptr_t)object);
    EXPECT_EQ(t, last->offset, offset);
}

/* No new object lies on the page of `object`, though every other slot is used. */
static inline void expect_retired(struct ktap *t, struct guard_box *g, uintptr_t page)
{
    for (uint32_t i = 0; i < 3 * MOST; i++) {
        uint8_t *block = take_guarded(g, 64, ANYWHERE);
        EXPECT(t, block != NULL && page_of(block) != page);
        EXPECT_OK(t, neomm_kfree(g->root, block));
    }
}

#endif
