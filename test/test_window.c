/* The kernel window, its pointers, and the slots for frames above the direct map.
 * SPDX-License-Identifier: MIT */
#include "high_machine.h"

#include "env.h"
#include "paging/tables.h"

#include <string.h>

static const uint64_t formats[] = ENV_FORMATS;

#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGE NEOMM_PAGE_SIZE

static bool open_machine(struct ktap *t, struct env *env, uint32_t cpus)
{
    struct env_options options = {
        .layer = ENV_PAGING, .format = (enum neomm_format)t->parameter, .cpus = cpus};
    return env_open(t, env, &options);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (x ^ x >> 31) >> 16;
}

/* ---- ranges ---- */

#define RANGES 1500u

struct range {
    neomm_vaddr_t base;
    size_t size;
};

/* The live ranges, ascending. */
struct model {
    struct range range[RANGES];
    unsigned count;
};

/* Where first fit by address puts it, and in front of which range. */
static neomm_vaddr_t first_fit(const struct model *m, neomm_vaddr_t window, size_t size,
                               unsigned *index)
{
    neomm_vaddr_t at = window;
    for (*index = 0; *index < m->count; ++*index) {
        const struct range *range = &m->range[*index];
        if (range->base - at >= size + PAGE)
            break;
        at = range->base + range->size + PAGE;
    }
    return at;
}

static void model_alloc(struct ktap *t, struct env *env, struct model *m, size_t size)
{
    unsigned index;
    neomm_vaddr_t vaddr = 0;
    neomm_vaddr_t expect = first_fit(m, neomm_layout_of(env->root)->window.base, size, &index);
    EXPECT_OK(t, neomm_window_alloc(env->root, size, &vaddr));
    EXPECT_EQ(t, vaddr, expect);
    memmove(&m->range[index + 1], &m->range[index], (m->count - index) * sizeof(m->range[0]));
    m->range[index] = (struct range){vaddr, size};
    m->count++;
}

static void model_free(struct ktap *t, struct env *env, struct model *m, unsigned index)
{
    struct range range = m->range[index];
    EXPECT_EQ(t, neomm_window_free(env->root, range.base + PAGE), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_window_size(env->root, range.base + range.size), 0);
    EXPECT_OK(t, neomm_window_free(env->root, range.base));
    EXPECT_EQ(t, neomm_window_size(env->root, range.base), 0);
    m->count--;
    memmove(&m->range[index], &m->range[index + 1], (m->count - index) * sizeof(m->range[0]));
}

/* Longer or shorter in place, as far as the next range and the guard page before it allow. */
static void model_resize(struct ktap *t, struct env *env, struct model *m, unsigned index,
                         size_t size)
{
    const struct neomm_area *window = &neomm_layout_of(env->root)->window;
    struct range *range = &m->range[index];
    neomm_vaddr_t end =
        index + 1 < m->count ? m->range[index + 1].base : window->base + window->size;
    bool fits = end - range->base >= size + PAGE;
    EXPECT_EQ(t, neomm_window_resize(env->root, range->base, size),
              fits ? NEOMM_OK : NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_window_resize(env->root, range->base + PAGE, size), NEOMM_E_NOENT);
    range->size = fits ? size : range->size;
    EXPECT_EQ(t, neomm_window_size(env->root, range->base), range->size);
}

static struct model model;

static void ranges_are_first_fit(struct ktap *t)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct env env;
        uint64_t random = seed;
        ASSERT(t, open_machine(t, &env, 1));
        model.count = 0;
        for (unsigned step = 0; step < 6000 && t->failures == 0; step++) {
            /* Grows to many chunks, then shrinks to none. */
            bool grow = next_random(&random) % 10 < (step < 3000 ? 8u : 2u);
            if (grow && model.count < RANGES)
                model_alloc(t, &env, &model, (size_t)(1 + next_random(&random) % 6) * PAGE);
            else if (model.count > 0)
                model_free(t, &env, &model, (unsigned)(next_random(&random) % model.count));
            if (model.count > 0 && step % 3 == 0)
                model_resize(t, &env, &model, (unsigned)(next_random(&random) % model.count),
                             (size_t)(1 + next_random(&random) % 9) * PAGE);
            if (step % 500 == 0)
                env_fsck(t, &env);
        }
        for (unsigned i = 0; i < model.count; i++)
            EXPECT_EQ(t, neomm_window_size(env.root, model.range[i].base), model.range[i].size);
        if (model.count != 0)
            EXPECT_EQ(t, neomm_paging_fini(env.root), NEOMM_E_BUSY);
        while (model.count > 0)
            model_free(t, &env, &model, model.count / 2);
        env_close(t, &env);
    }
}

static void the_window_ends(struct ktap *t)
{
    struct env env;
    neomm_vaddr_t vaddr, second;
    ASSERT(t, open_machine(t, &env, 1));
    const struct neomm_area *window = &neomm_layout_of(env.root)->window;
    EXPECT_EQ(t, neomm_window_alloc(env.root, 0, &vaddr), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_window_alloc(env.root, 100, &vaddr), NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_window_alloc(env.root, window->size, &vaddr), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_window_alloc(env.root, (size_t)0 - PAGE, &vaddr), NEOMM_E_NOSPACE);
    EXPECT_OK(t, neomm_window_alloc(env.root, window->size - PAGE, &vaddr));
    EXPECT_EQ(t, vaddr, window->base);
    EXPECT_EQ(t, neomm_window_resize(env.root, vaddr, window->size), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_window_resize(env.root, vaddr, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_window_resize(env.root, vaddr, PAGE + 1), NEOMM_E_ALIGN);
    EXPECT_OK(t, neomm_window_resize(env.root, vaddr, PAGE));
    EXPECT_OK(t, neomm_window_resize(env.root, vaddr, window->size - PAGE));
    EXPECT_EQ(t, neomm_window_alloc(env.root, PAGE, &second), NEOMM_E_NOSPACE);
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    EXPECT_OK(t, neomm_window_alloc(env.root, window->size - 4 * PAGE, &vaddr));
    EXPECT_EQ(t, neomm_window_alloc(env.root, 3 * PAGE, &second), NEOMM_E_NOSPACE);
    EXPECT_OK(t, neomm_window_alloc(env.root, 2 * PAGE, &second));
    EXPECT_EQ(t, second, window->base + window->size - 3 * PAGE);
    EXPECT_EQ(t, neomm_window_free(env.root, window->base - PAGE), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    EXPECT_OK(t, neomm_window_free(env.root, second));
    EXPECT_EQ(t, neomm_window_free(env.root, second), NEOMM_E_NOENT);
    env_close(t, &env);
}

/* ---- pointers ---- */

static void pointers_reach_what_is_mapped(struct ktap *t)
{
    struct env env;
    neomm_vaddr_t vaddr;
    neomm_frame_t frames[3];
    struct neomm *root;
    ASSERT(t, open_machine(t, &env, 2));
    root = env.root;
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    const struct neomm_area *window = &neomm_layout_of(root)->window;
    EXPECT_OK(t, neomm_window_alloc(root, 3 * PAGE, &vaddr));
    EXPECT_OK(t, neomm_pmm_alloc_bulk(root, 3, NEOMM_ZERO, frames));
    EXPECT_OK(t, neomm_paging_map_frames(root, kernel, vaddr, frames, 3, RW));
    EXPECT_EQ(t, neomm_window_free(root, vaddr), NEOMM_E_BUSY);
    uint8_t *bytes = neomm_window_pointer(root, vaddr);
    ASSERT(t, bytes);
    EXPECT_EQ(t, neomm_window_vaddr(root, bytes), vaddr);
    EXPECT_EQ(t, neomm_window_vaddr(root, bytes + 5000), vaddr + 5000);
    EXPECT(t, !neomm_window_pointer(root, window->base - 1));
    EXPECT(t, !neomm_window_pointer(root, window->base + window->size));
    EXPECT_EQ(t, neomm_window_vaddr(root, &env), 0);
    memset(bytes, 0x5a, 3 * PAGE);
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *direct = neomm_direct_pointer(root, neomm_frame_paddr(frames[i]));
        EXPECT_EQ(t, direct[i], 0x5a);
        EXPECT_EQ(t, direct[PAGE - 1], 0x5a);
    }
    /* The same on the other CPU, which shares the kernel's tables. */
    env_switch_cpu(&env, 1);
    bytes[PAGE] = 0x77;
    env_switch_cpu(&env, 0);
    EXPECT_EQ(t, bytes[PAGE], 0x77);
    EXPECT_OK(t, neomm_paging_unmap(root, kernel, vaddr, 3 * PAGE, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_window_free(root, vaddr));
    EXPECT_OK(t, neomm_pmm_free_bulk(root, 3, frames, NULL));
    env_close(t, &env);
}

static void write_byte(void *argument)
{
    *(volatile uint8_t *)argument = 1;
}

static void pointers_fault_where_nothing_is(struct ktap *t)
{
    struct env env;
    neomm_vaddr_t vaddr;
    neomm_frame_t frame;
    char text[256];
    ASSERT(t, open_machine(t, &env, 1));
    struct neomm_tables *kernel = neomm_paging_kernel(env.root);
    EXPECT_OK(t, neomm_window_alloc(env.root, PAGE, &vaddr));
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 0, NEOMM_ZERO, &frame));
    EXPECT_OK(t, neomm_paging_map_frames(env.root, kernel, vaddr, &frame, 1, RW));
    uint8_t *bytes = neomm_window_pointer(env.root, vaddr);
    bytes[0] = 1;
    EXPECT_EQ(t, sim_catch(env.machine, write_byte, bytes + PAGE, text, sizeof(text)),
              SIM_END_FAULT); /* the guard page */
    EXPECT_OK(t, neomm_paging_protect(env.root, kernel, vaddr, PAGE, NEOMM_PROT_READ));
    EXPECT_EQ(t, bytes[0], 1);
    EXPECT_EQ(t, sim_catch(env.machine, write_byte, bytes, text, sizeof(text)), SIM_END_FAULT);
    EXPECT_OK(t, neomm_paging_unmap(env.root, kernel, vaddr, PAGE, NULL, NULL, NULL));
    EXPECT_EQ(t, sim_catch(env.machine, write_byte, bytes, text, sizeof(text)), SIM_END_FAULT);
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 0));
    env_close(t, &env);
}

/* ---- running out ---- */

/* With `ranges` there already: the first range needs a chunk, and so does the first one that does
 * not fit into the last. */
static void fail_with(struct ktap *t, unsigned ranges)
{
    struct env env;
    neomm_vaddr_t vaddr;
    bool all_passed = false;
    ASSERT(t, open_machine(t, &env, 1));
    model.count = 0;
    while (model.count < ranges)
        model_alloc(t, &env, &model, PAGE);
    for (uint64_t n = 1; !all_passed; n++) {
        (void)env_fault_plan(&env, n, false);
        neomm_status status = neomm_window_alloc(env.root, PAGE, &vaddr);
        all_passed = env_fault_count(&env) < n;
        (void)env_fault_plan(&env, 0, false);
        EXPECT(t, all_passed == (status == NEOMM_OK));
        EXPECT(t, all_passed || status == NEOMM_E_NOSPACE || status == NEOMM_E_NOMEM);
        EXPECT(t, !all_passed || n > 2);
        env_fsck(t, &env);
    }
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    while (model.count > 0)
        model_free(t, &env, &model, 0);
    env_close(t, &env);
}

static void failures_leave_nothing_behind(struct ktap *t)
{
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    fail_with(t, 0);
    fail_with(t, (PAGE - 16) / (2 * sizeof(void *)));
}

/* ---- slots ---- */

static void high_frames_are_reached_through_slots(struct ktap *t)
{
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter, .cpus = 3};
    neomm_frame_t frames[NEOMM_SLOTS_PER_CPU + 1];
    uint32_t *words[NEOMM_SLOTS_PER_CPU];
    ASSERT(t, high_open(t, &machine, &options));
    struct neomm *root = machine.root;
    const struct neomm_area *slots = &neomm_layout_of(root)->slots;
    EXPECT_OK(t,
              neomm_pmm_alloc_bulk(root, NEOMM_SLOTS_PER_CPU + 1, NEOMM_HIGH | NEOMM_ZERO, frames));
    for (uint32_t cpu = 0; cpu < machine.cpus; cpu++) {
        sim_bind(machine.sim, cpu);
        for (uint32_t i = 0; i < NEOMM_SLOTS_PER_CPU; i++) {
            words[i] = neomm_frame_map(root, frames[i]);
            ASSERT(t, words[i]);
            EXPECT_EQ(t, words[i][1], cpu == 0 ? 0 : (cpu - 1) * 100 + i);
            words[i][1] = cpu * 100 + i;
            neomm_vaddr_t vaddr = (neomm_vaddr_t)words[i] - (neomm_vaddr_t)slots->delta;
            EXPECT_EQ(t, vaddr, slots->base + (cpu * NEOMM_SLOTS_PER_CPU + i) * PAGE);
        }
        EXPECT(t, !neomm_frame_map(root, frames[NEOMM_SLOTS_PER_CPU]));
        for (uint32_t i = NEOMM_SLOTS_PER_CPU; i-- > 0;)
            neomm_frame_unmap(root, words[i] + 1);
    }
    sim_bind(machine.sim, 0);
    for (uint32_t i = 0; i < NEOMM_SLOTS_PER_CPU; i++) {
        uint32_t word;
        EXPECT(t, sim_physical_read(machine.sim, neomm_frame_paddr(frames[i]) + 4, &word, 4));
        EXPECT_EQ(t, word, 200 + i);
    }
    /* A frame of the direct map takes no slot. */
    neomm_frame_t low;
    EXPECT_OK(t, neomm_pmm_alloc(root, 0, 0, &low));
    void *pointer = neomm_frame_map(root, low);
    EXPECT(t, pointer == neomm_direct_pointer(root, neomm_frame_paddr(low)));
    neomm_frame_unmap(root, pointer);
    EXPECT_OK(t, neomm_pmm_free(root, low, 0));
    EXPECT_OK(t, neomm_pmm_free_bulk(root, NEOMM_SLOTS_PER_CPU + 1, frames, NULL));
    high_close(t, &machine);
}

static void slots_can_fail(struct ktap *t)
{
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter};
    neomm_frame_t frame;
    ASSERT(t, high_open(t, &machine, &options));
    EXPECT_OK(t, neomm_pmm_alloc(machine.root, 0, NEOMM_HIGH, &frame));
    EXPECT(t, !neomm_direct_pointer(machine.root, neomm_frame_paddr(frame)));
    if (NEOMM_INSTRUMENTED) {
        sim_fault_plan(machine.sim, 1, false);
        EXPECT(t, !neomm_frame_map(machine.root, frame));
        sim_fault_plan(machine.sim, 0, false);
    }
    void *pointer = neomm_frame_map(machine.root, frame);
    EXPECT(t, pointer);
    neomm_frame_unmap(machine.root, pointer);
    EXPECT_OK(t, neomm_pmm_free(machine.root, frame, 0));
    high_close(t, &machine);
}

/* Without room for slots there is no way to high frames, so none is handed out. */
static void no_slots_no_high_frames(struct ktap *t)
{
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter, .no_slots = true};
    neomm_frame_t frame;
    ASSERT(t, high_open(t, &machine, &options));
    EXPECT_OK(t, neomm_pmm_alloc(machine.root, 0, NEOMM_HIGH, &frame));
    EXPECT(t, neomm_direct_pointer(machine.root, neomm_frame_paddr(frame)));
    EXPECT_OK(t, neomm_pmm_free(machine.root, frame, 0));
    high_close(t, &machine);
}

/* ---- fsck ---- */

static unsigned count_findings(struct neomm *root)
{
    return (unsigned)neomm_fsck(root, NULL, NULL);
}

static void fsck_finds_a_wrong_range(struct ktap *t)
{
    struct env env;
    neomm_vaddr_t first, second;
    ASSERT(t, open_machine(t, &env, 1));
    EXPECT_OK(t, neomm_window_alloc(env.root, PAGE, &first));
    EXPECT_OK(t, neomm_window_alloc(env.root, PAGE, &second));
    struct neomm__window *window = &env.root->paging->window;
    uintptr_t *chunk = neomm_direct_pointer(env.root, (neomm_paddr_t)window->first * PAGE);
    uintptr_t *ranges = (void *)((uint8_t *)chunk + 16);
    uint32_t *count = (uint32_t *)(void *)chunk + 1;
    window->ranges++;
    EXPECT_EQ(t, count_findings(env.root), 1);
    window->ranges--;
    ranges[1] += PAGE; /* the first range reaches into its guard page */
    EXPECT_EQ(t, count_findings(env.root), 1);
    ranges[1] = 0;
    EXPECT_EQ(t, count_findings(env.root), 1);
    ranges[1] = PAGE;
    *count = 0;
    EXPECT_EQ(t, count_findings(env.root), 1);
    *count = 2;
    EXPECT_OK(t, neomm_window_free(env.root, first));
    EXPECT_OK(t, neomm_window_free(env.root, second));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(ranges_are_first_fit, formats),
    KTAP_CASE_WITH(the_window_ends, formats),
    KTAP_CASE_WITH(pointers_reach_what_is_mapped, formats),
    KTAP_CASE_WITH(pointers_fault_where_nothing_is, formats),
    KTAP_CASE_WITH(failures_leave_nothing_behind, formats),
    KTAP_CASE_WITH(high_frames_are_reached_through_slots, formats),
    KTAP_CASE_WITH(slots_can_fail, formats),
    KTAP_CASE_WITH(no_slots_no_high_frames, formats),
    KTAP_CASE_WITH(fsck_finds_a_wrong_range, formats),
};
KTAP_SUITE(window, cases);
