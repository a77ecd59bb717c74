/* The heap against a model, without memory, and under failures made on purpose.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

/* ---- against a model ---- */

#define MODEL_BLOCKS 256

struct model_block {
    void *block;
    size_t size, usable;
    uint64_t requested; /* as the heap counts it */
    uint32_t id;
};

struct model {
    struct box *box;
    uint64_t random;
    uint32_t ids;
    struct model_block block[MODEL_BLOCKS];
};

static size_t random_size(struct model *model)
{
    uint64_t r = box_random(&model->random);
    size_t magnitude = (size_t)(r >> 8 & 0xffffffff);
    switch (r & 15) {
    case 0:
        return 1 + magnitude % 100000;
    case 1:
    case 2:
        return 1 + magnitude % 20000;
    case 3:
        return (size_t)1 << magnitude % 14;
    default:
        return 1 + magnitude % 600;
    }
}

static uint64_t requested_bytes(const struct model *model)
{
    struct neomm_heap_stats stats;
    neomm_heap_stats(model->box->root, &stats);
    return stats.requested_bytes;
}

/* Of a size class nobody keeps what was asked for, of a run everybody. `before`: without it. */
static void model_count(struct ktap *t, struct model *model, struct model_block *slot, size_t size,
                        uint64_t before)
{
    slot->size = size;
    slot->usable = neomm_ksize(model->box->root, slot->block);
    slot->requested = requested_bytes(model) - before;
    EXPECT(t, slot->usable >= size);
    EXPECT(t, slot->requested == size || (slot->requested == slot->usable && size <= 8192));
    slot->id = model->ids++;
    pattern_fill(slot->block, size, slot->id);
}

static void model_alloc(struct ktap *t, struct model *model, struct model_block *slot)
{
    size_t size = random_size(model);
    bool zero = box_random(&model->random) & 1;
    uint64_t before = requested_bytes(model);
    slot->block = take(model->box, size, zero ? NEOMM_ZERO : 0);
    if (!slot->block)
        return; /* the large ones may fail; that the heap is right then too is the point */
    EXPECT(t, !zero || all_zero(slot->block, size));
    model_count(t, model, slot, size, before);
}

static void model_realloc(struct ktap *t, struct model *model, struct model_block *slot)
{
    size_t size = random_size(model), kept = size < slot->size ? size : slot->size;
    uint64_t before = requested_bytes(model) - slot->requested;
    void *moved = neomm_krealloc(model->box->root, slot->block, size, 0);
    if (!moved) {
        EXPECT(t, pattern_holds(slot->block, slot->size, slot->id));
        return;
    }
    EXPECT(t, pattern_holds(moved, kept, slot->id));
    EXPECT_EQ(t, (uintptr_t)moved % alignment_of(size), 0);
    slot->block = moved;
    model_count(t, model, slot, size, before);
}

static void model_free(struct ktap *t, struct model *model, struct model_block *slot)
{
    EXPECT(t, pattern_holds(slot->block, slot->size, slot->id));
    EXPECT_OK(t, neomm_kfree(model->box->root, slot->block));
    slot->block = NULL;
}

static void model_compare(struct ktap *t, struct model *model)
{
    struct neomm_heap_stats stats;
    uint64_t count = 0, requested = 0, allocated = 0;
    for (size_t i = 0; i < MODEL_BLOCKS; i++) {
        if (!model->block[i].block)
            continue;
        count++;
        requested += model->block[i].requested;
        allocated += model->block[i].usable;
    }
    neomm_heap_stats(model->box->root, &stats);
    EXPECT_EQ(t, stats.objects, count);
    EXPECT_EQ(t, stats.requested_bytes, requested);
    EXPECT_EQ(t, stats.allocated_bytes, allocated);
    EXPECT(t, (stats.slab_frames + stats.run_frames) * NEOMM_PAGE_SIZE >= allocated);
    env_fsck(t, &model->box->env);
}

static void model_step(struct ktap *t, struct model *model)
{
    uint64_t r = box_random(&model->random);
    struct model_block *slot = &model->block[(r >> 8) % MODEL_BLOCKS];
    if ((r & 63) == 0)
        env_switch_cpu(&model->box->env, (uint32_t)(r >> 32) % 4);
    if (!slot->block)
        model_alloc(t, model, slot);
    else if ((r & 3) == 0)
        model_realloc(t, model, slot);
    else
        model_free(t, model, slot);
    if ((r >> 40 & 0xfff) == 0)
        (void)neomm_heap_shrink(model->box->root);
}

static void random_model(struct ktap *t)
{
    static struct model model;
    struct box box;
    if (!box_open(t, &box, t->parameter & 1, 8, 4))
        return;
    model = (struct model){.box = &box, .random = (t->parameter + 1) * 0x9e3779b97f4a7c15u};
    for (uint32_t step = 0; step < 40000 && t->failures == 0; step++) {
        model_step(t, &model);
        if (step % 1000 == 999)
            model_compare(t, &model);
    }
    for (size_t i = 0; i < MODEL_BLOCKS; i++)
        if (model.block[i].block)
            model_free(t, &model, &model.block[i]);
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

/* ---- no memory ---- */

/* Takes blocks of one size until there are none, as a list through their first words. */
static uint64_t exhaust(struct box *box, size_t size, neomm_flags_t flags, void **list)
{
    uint64_t count = 0;
    void *block;
    while ((block = take(box, size, flags)) != NULL) {
        *(void **)block = *list;
        *list = block;
        count++;
    }
    return count;
}

static void free_list(struct ktap *t, struct box *box, void **list)
{
    while (*list) {
        void *block = *list;
        *list = *(void **)block;
        EXPECT_OK(t, neomm_kfree(box->root, block));
    }
}

static const size_t exhausting[] = {16, 100, 1024, 4096, 8192, 8193, 20000, 300000};
static const uint64_t eight[] = {0, 1, 2, 3, 4, 5, 6, 7};

static void out_of_memory(struct ktap *t)
{
    size_t size = exhausting[t->parameter];
    struct box box;
    void *list = NULL, *second = NULL;
    if (!box_open(t, &box, BOX_DIRECT, 4, 2))
        return;
    uint64_t failures = box_counter(&box, NEOMM_COUNTER_KMALLOC_FAIL);
    uint64_t count = exhaust(&box, size, 0, &list);
    EXPECT(t, count > 0);
    EXPECT_EQ(t, objects(&box), count);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_KMALLOC_FAIL), failures + 1);
    EXPECT(t, take(&box, size, NEOMM_ATOMIC) == NULL);
    env_fsck(t, &box.env);
    free_list(t, &box, &list);
    EXPECT_EQ(t, objects(&box), 0);
    EXPECT_EQ(t, exhaust(&box, size, 0, &second), count);
    free_list(t, &box, &second);
    box_close(t, &box);
}

/* Nothing that another CPU or another class holds back is missing in the end. */
static void nothing_is_held_back(struct ktap *t)
{
    struct box box;
    void *list = NULL;
    if (!box_open(t, &box, BOX_DIRECT, 4, 3))
        return;
    uint64_t count = exhaust(&box, 512, 0, &list);
    env_switch_cpu(&box.env, 1);
    free_list(t, &box, &list);
    for (size_t size = 16; size < 8192; size += size / 2) {
        void *block = take(&box, size, 0);
        EXPECT_OK(t, neomm_kfree(box.root, block));
    }
    env_switch_cpu(&box.env, 2);
    EXPECT_EQ(t, exhaust(&box, 512, 0, &list), count);
    env_switch_cpu(&box.env, 0);
    free_list(t, &box, &list);
    box_close(t, &box);
}

/* Single frames here and there: what needs several in a row must still come out right. */
static void fragmented_memory(struct ktap *t)
{
    static neomm_frame_t frames[1024];
    struct box box;
    uint32_t count = 0;
    if (!box_open(t, &box, t->parameter, 4, 1))
        return;
    while (count < 1024 && neomm_pmm_alloc(box.root, 0, NEOMM_RESERVE, &frames[count]) == NEOMM_OK)
        count++;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (frames[i].number % 2 == 0)
            EXPECT_OK(t, neomm_pmm_free(box.root, frames[i], 0));
        else
            frames[kept++] = frames[i];
    }
    /* A class of four frames a slab, satisfied by one frame. */
    void *block = take(&box, 2000, 0), *page = take(&box, 3000, 0);
    EXPECT(t, block == NULL);
    EXPECT(t, page != NULL);
    EXPECT_EQ(t, neomm_ksize(box.root, page), NEOMM_PAGE_SIZE);
    EXPECT_EQ(t, (uintptr_t)page % NEOMM_PAGE_SIZE, 0);
    void *large = take(&box, 100000, 0);
    EXPECT_EQ(t, large != NULL, box.window);
    if (large) {
        pattern_fill(large, 100000, 1);
        EXPECT(t, pattern_holds(large, 100000, 1));
    }
    env_fsck(t, &box.env);
    EXPECT_OK(t, neomm_kfree(box.root, large));
    EXPECT_OK(t, neomm_kfree(box.root, page));
    for (uint32_t i = 0; i < kept; i++)
        EXPECT_OK(t, neomm_pmm_free(box.root, frames[i], 0));
    box_close(t, &box);
}

/* ---- giving back ---- */

static void shrinking(struct ktap *t)
{
    struct box box;
    void *list = NULL;
    struct neomm_heap_stats stats;
    if (!box_open(t, &box, t->parameter, 16, 2))
        return;
    for (size_t size = 16; size <= 8192; size += size / 4 + 1)
        for (int i = 0; i < 100; i++) {
            void **block = take(&box, size, 0);
            ASSERT(t, block != NULL);
            *block = list;
            list = block;
        }
    neomm_heap_stats(box.root, &stats);
    uint64_t full = stats.slab_frames;
    env_switch_cpu(&box.env, 1);
    free_list(t, &box, &list);
    neomm_heap_stats(box.root, &stats);
    /* What a class keeps: one empty slab, and those its CPUs hold an object of. */
    EXPECT(t, stats.slab_frames < full / 2);
    uint64_t before = neomm_pmm_free_frames(box.root);
    uint32_t given = neomm_heap_shrink(box.root);
    EXPECT_EQ(t, neomm_pmm_free_frames(box.root), before + given);
    neomm_heap_stats(box.root, &stats);
    EXPECT_EQ(t, stats.slab_frames, 0);
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

/* ---- failures on purpose ---- */

static void scenario(struct ktap *t, struct box *box)
{
    static const size_t sizes[] = {16, 3000, 9000, 50000, 64, 8192, 100};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    void *block[COUNT];
    size_t size[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        block[i] = take(box, sizes[i], i % 2 ? NEOMM_ZERO : 0);
        size[i] = sizes[i];
        if (block[i])
            pattern_fill(block[i], size[i], i);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        size_t next = i % 2 ? size[i] * 2 : size[i] + 6000;
        void *moved = block[i] ? neomm_krealloc(box->root, block[i], next, 0) : NULL;
        if (moved) {
            EXPECT(t, pattern_holds(moved, size[i], i));
            block[i] = moved;
        }
        if (block[i])
            EXPECT(t, pattern_holds(block[i], size[i], i));
    }
    env_fsck(t, &box->env);
    for (uint32_t i = 0; i < COUNT; i++)
        EXPECT_OK(t, neomm_kfree(box->root, block[i]));
}

/* More than the largest block of frames: each of its frames is a fault point. */
static void large_scenario(struct ktap *t, struct box *box)
{
    void *large = take(box, (4u << 20) + 1, NEOMM_ZERO);
    env_fsck(t, &box->env);
    EXPECT_OK(t, neomm_kfree(box->root, large));
}

/* The nth failure, or all from the nth on, leave neither a leak nor a broken heap. Returns the
 * passes through fault points; 0: there are none in this flavour. */
static uint64_t fail(struct ktap *t, struct box *box, uint64_t n, bool forever,
                     void (*run)(struct ktap *, struct box *))
{
    if (!env_fault_plan(&box->env, n, forever))
        return 0;
    run(t, box);
    uint64_t passes = env_fault_count(&box->env);
    (void)env_fault_plan(&box->env, 0, false);
    (void)neomm_heap_shrink(box->root);
    EXPECT_EQ(t, neomm_pmm_free_frames(box->root), box->free_before);
    return passes;
}

static void every_failure(struct ktap *t)
{
    struct box box;
    bool forever = (t->parameter & 2) != 0;
    if (!box_open(t, &box, t->parameter & 1, 16, 1))
        return;
    uint64_t passes = fail(t, &box, 1, forever, scenario);
    for (uint64_t n = 2; n <= passes && t->failures == 0; n++)
        passes = fail(t, &box, n, forever, scenario);
    if (passes == 0)
        ktap_skip(t, "no fault points in this flavour");
    box_close(t, &box);
}

static void failures_in_a_large_block(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_WINDOW, 16, 1))
        return;
    uint64_t passes = fail(t, &box, 1, t->parameter, large_scenario);
    for (uint64_t n = 2; n <= passes && t->failures == 0; n += n < 8 ? 1 : 79)
        passes = fail(t, &box, n, t->parameter, large_scenario);
    if (passes == 0)
        ktap_skip(t, "no fault points in this flavour");
    box_close(t, &box);
}

static void failing_initialisation(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PMM, .format = box_format()};
    if (!env_open(t, &env, &options))
        return;
    uint64_t before = neomm_pmm_free_frames(env.root);
    for (uint64_t n = 1; n <= 2 && env_fault_plan(&env, n, false); n++) {
        EXPECT_EQ(t, neomm_heap_init(env.root, NULL), NEOMM_E_NOMEM);
        EXPECT_EQ(t, neomm_pmm_free_frames(env.root), before);
    }
    (void)env_fault_plan(&env, 0, false);
    EXPECT_OK(t, neomm_heap_init(env.root, NULL));
    EXPECT_OK(t, neomm_heap_fini(env.root));
    env_close(t, &env);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};
static const uint64_t four[] = {0, 1, 2, 3};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_model, eight),
    KTAP_CASE_WITH(out_of_memory, eight),
    KTAP_CASE(nothing_is_held_back),
    KTAP_CASE_WITH(fragmented_memory, kinds),
    KTAP_CASE_WITH(shrinking, kinds),
    KTAP_CASE_WITH(every_failure, four),
    KTAP_CASE_WITH(failures_in_a_large_block, kinds),
    KTAP_CASE(failing_initialisation),
};

KTAP_SUITE(heap_model, cases);
