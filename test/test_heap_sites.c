/* Call sites: what each has allocated and not freed, exactly, and how long ago.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "heap/heap_priv.h"
#include "sim/sim.h"

#include <neomm/heap_debug.h>

#include <string.h>

#define SITES  4u
#define BLOCKS 500u
#define STEPS  30000u

/* ---- a model ---- */

struct block {
    uintptr_t pointer;
    size_t size;
    uint32_t site;
    uint64_t born; /* not later than this */
};

struct model {
    struct box box;
    struct block block[BLOCKS];
    uint64_t objects[SITES], bytes[SITES], allocations[SITES];
    const struct neomm_site *site[SITES];
    bool tracked;
};

/* Each on a line of its own. */
static void *allocate(struct model *model, uint32_t site, void *old, size_t size)
{
    struct neomm *root = model->box.root;
    switch (site) {
    case 0:
        return neomm_kmalloc(root, size, 0);
    case 1:
        return neomm_kzalloc(root, size, 0);
    case 2:
        return neomm_kmalloc_aligned(root, size, 64, 0);
    default:
        return neomm_krealloc(root, old, size, 0);
    }
}

static void account(struct model *model, const struct block *block, bool comes)
{
    uint64_t sign = comes ? 1 : (uint64_t)0 - 1;
    model->objects[block->site] += sign;
    model->bytes[block->site] += sign * block->size;
    model->allocations[block->site] += comes;
}

static void put(struct ktap *t, struct model *model, struct block *block)
{
    EXPECT_OK(t, neomm_kfree(model->box.root, (void *)block->pointer));
    account(model, block, false);
    block->pointer = 0;
}

static void get(struct ktap *t, struct model *model, struct block *block, uint32_t site,
                size_t size)
{
    uint64_t born = neomm_port_now();
    uintptr_t old = block->pointer;
    uintptr_t pointer = (uintptr_t)allocate(model, site, (void *)old, size);
    ASSERT(t, pointer != 0);
    if (old == pointer) { /* pages that stay: still theirs who allocated them */
        model->bytes[block->site] += (uint64_t)size - block->size;
        block->size = size;
        return;
    }
    if (old)
        account(model, block, false);
    *block = (struct block){pointer, size, site, born};
    account(model, block, true);
}

static void step(struct ktap *t, struct model *model, uint64_t random)
{
    struct block *block = &model->block[(random >> 8) % BLOCKS];
    uint32_t site = (uint32_t)(random >> 4) % SITES;
    size_t size = 1 + (size_t)(random >> 20) % ((random >> 50) % 8 == 0 ? 60000 : 700);
    env_switch_cpu(&model->box.env, (uint32_t)(random >> 60) & 1);
    if (block->pointer && site != 3)
        put(t, model, block);
    else
        get(t, model, block, site, size);
}

/* ---- questions ---- */

struct list {
    struct neomm_heap_site_stats stats[64];
    uint32_t count;
};

static void note(void *context, const struct neomm_heap_site_stats *stats)
{
    struct list *list = context;
    if (list->count < 64)
        list->stats[list->count++] = *stats;
}

static struct list list_of(struct model *model, uint32_t most)
{
    struct list list = {.count = 0};
    neomm_heap_sites(model->box.root, most, note, &list);
    return list;
}

/* A kind of allocation is a line of allocate(), in their order in the text. */
static uint32_t kind_of(const struct list *list, const struct neomm_site *site)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < list->count; i++)
        before += list->stats[i].site.site->line < site->line;
    return before;
}

static void check_sites(struct ktap *t, struct model *model)
{
    struct list list = list_of(model, 64);
    EXPECT_EQ(t, list.count, SITES);
    for (uint32_t i = 0; i < list.count; i++) {
        const struct neomm_heap_site_stats *stats = &list.stats[i];
        ASSERT(t, stats->site.site && strcmp(stats->site.site->function, "allocate") == 0);
        uint32_t kind = kind_of(&list, stats->site.site);
        EXPECT_EQ(t, stats->objects, model->objects[kind]);
        EXPECT_EQ(t, stats->bytes, model->bytes[kind]);
        EXPECT_EQ(t, stats->allocations, model->allocations[kind]);
        EXPECT(t, i == 0 || list.stats[i - 1].bytes >= stats->bytes);
    }
    EXPECT_EQ(t, list_of(model, 2).count, 2);
}

static void ignore_leak(void *context, const void *object, size_t size, uint64_t age,
                        const struct neomm_heap_site *site)
{
    struct model *model = context;
    for (uint32_t i = 0; i < BLOCKS; i++)
        if ((const void *)model->block[i].pointer == object && model->block[i].size == size &&
            site->site && age > 0)
            return;
    model->box.free_before = 0; /* none of ours: the end will show it */
}

static void check_leaks(struct ktap *t, struct model *model)
{
    uint64_t live = 0, old = 0, middle = model->block[7].born;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        live += model->block[i].pointer != 0;
        old += model->block[i].pointer != 0 && model->block[i].born < middle;
    }
    EXPECT_EQ(t, neomm_heap_leaks(model->box.root, 0, ignore_leak, model), live);
    EXPECT_EQ(t, neomm_heap_leaks(model->box.root, UINT64_MAX, ignore_leak, model), 0);
    /* The clock goes on by 100 with each look at it; the next birth is one look after its note. */
    uint64_t age = neomm_port_now() + 100 - middle;
    EXPECT_EQ(t, neomm_heap_leaks(model->box.root, age, ignore_leak, model), old);
}

/* ---- the run ---- */

static void model_close(struct ktap *t, struct model *model)
{
    env_switch_cpu(&model->box.env, 0);
    EXPECT(t, model->box.free_before != 0);
    (void)neomm_heap_shrink(model->box.root);
    model->box.free_before = neomm_pmm_free_frames(model->box.root);
    box_close(t, &model->box);
}

static void change_profile(struct ktap *t, struct model *model, uint32_t n)
{
    static const enum neomm_heap_profile profiles[] = {NEOMM_HEAP_HARDENED, NEOMM_HEAP_FAST,
                                                       NEOMM_HEAP_DEFAULT};
    struct neomm *root = model->box.root;
    EXPECT_OK(t, neomm_heap_set_profile(root, NULL, profiles[n % 3]));
    EXPECT_OK(t, neomm_heap_set_profile(root, NULL, profiles[n % 3]));
}

/* Profiles change meanwhile; with parameter 1 all is HARDENED. Blocks from before are not counted,
 * whenever they go. */
static void counts_are_exact(struct ktap *t)
{
    static struct model model;
    uint64_t random = t->parameter + 5;
    memset(&model, 0, sizeof(model));
    if (!box_open(t, &model.box, BOX_DIRECT, 64, 2))
        return;
    uintptr_t before[50];
    for (uint32_t round = 0; round < 3; round++) {
        if (t->parameter == 1)
            EXPECT_OK(t, neomm_heap_set_profile(model.box.root, NULL, NEOMM_HEAP_HARDENED));
        for (uint32_t i = 0; i < 50; i++)
            before[i] = (uintptr_t)take(&model.box, 30 + i * 200, 0);
        EXPECT_OK(t, neomm_heap_track(model.box.root, true));
        memset(model.allocations, 0, sizeof(model.allocations));
        for (uint32_t i = 0; i < STEPS && t->failures == 0; i++) {
            step(t, &model, box_random(&random));
            if (i % 4000 == 1)
                change_profile(t, &model, t->parameter == 1 ? 0 : i / 4000);
            if (i % 200 == 7 && i / 200 < 50)
                EXPECT_OK(t, neomm_kfree(model.box.root, (void *)before[i / 200]));
            if (i % 7000 == 6999) {
                check_sites(t, &model);
                check_leaks(t, &model);
                env_fsck(t, &model.box.env);
            }
        }
        if (round == 1) /* those that stay are not counted in the next round, in which they go */
            EXPECT_OK(t, neomm_heap_track(model.box.root, false));
        for (uint32_t i = 0; i < BLOCKS; i++)
            if (model.block[i].pointer)
                put(t, &model, &model.block[i]);
        EXPECT_EQ(t, list_of(&model, 64).count, 0);
        EXPECT_OK(t, neomm_heap_track(model.box.root, false));
    }
    model_close(t, &model);
}

/* What was counted in one time of tracking does not go in the next. */
static void tracked_anew(struct ktap *t)
{
    static struct model model;
    memset(&model, 0, sizeof(model));
    if (!box_open(t, &model.box, BOX_WINDOW, 64, 2))
        return;
    struct neomm *root = model.box.root;
    for (uint32_t profile = NEOMM_HEAP_FAST; profile <= NEOMM_HEAP_HARDENED; profile += 3) {
        EXPECT_OK(t, neomm_heap_set_profile(root, NULL, (enum neomm_heap_profile)profile));
        EXPECT_OK(t, neomm_heap_track(root, true));
        void *small = neomm_kmalloc(root, 100, 0), *large = neomm_kmalloc(root, 100000, 0);
        EXPECT_EQ(t, list_of(&model, 64).count, 2);
        EXPECT_OK(t, neomm_heap_track(root, false));
        EXPECT_EQ(t, list_of(&model, 64).count, 0);
        EXPECT_OK(t, neomm_heap_track(root, true));
        EXPECT_EQ(t, list_of(&model, 64).count, 0);
        EXPECT_EQ(t, neomm_heap_leaks(root, 0, ignore_leak, &model), 0);
        EXPECT_OK(t, neomm_kfree(root, small));
        EXPECT_OK(t, neomm_kfree(root, large));
        EXPECT_EQ(t, list_of(&model, 64).count, 0);
        EXPECT_OK(t, neomm_heap_track(root, false));
    }
    model_close(t, &model);
}

/* Takes the object out of the list that it must be in. */
static void strike_out(void *context, const void *object, size_t size, uint64_t age,
                       const struct neomm_heap_site *site)
{
    const void **list = context;
    (void)size, (void)age, (void)site;
    while (*list && *list != object)
        list++;
    for (; *list; list++)
        *list = list[1];
}

/* Slabs are searched in parts, whatever their number of objects is. */
static void leaks_in_slabs_of_every_size(struct ktap *t)
{
    static struct model model;
    static void *object[2 * NEOMM__SLAB_OBJECTS_MAX], *left[2 * NEOMM__SLAB_OBJECTS_MAX + 1];
    memset(&model, 0, sizeof(model));
    if (!box_open(t, &model.box, BOX_DIRECT, 64, 1))
        return;
    struct neomm *root = model.box.root;
    EXPECT_OK(t, neomm_heap_track(root, true));
    for (uint32_t size = 100; size <= 260; size += 4) {
        const struct neomm_kmem_options options = {.name = "odd", .size = size, .align = 4};
        struct neomm_kmem *cache = neomm_kmem_create(root, &options);
        ASSERT(t, cache != NULL);
        uint32_t count = 2 * cache->objects;
        for (uint32_t i = 0; i < count; i++)
            object[i] = neomm_kmem_alloc(root, cache, 0);
        memcpy(left, object, count * sizeof(left[0]));
        left[count] = NULL;
        EXPECT_EQ(t, neomm_heap_leaks(root, 0, strike_out, left), count);
        EXPECT(t, left[0] == NULL);
        EXPECT_OK(t, neomm_kmem_free_bulk(root, cache, count, object));
        EXPECT_OK(t, neomm_kmem_destroy(root, cache));
    }
    EXPECT_OK(t, neomm_heap_track(root, false));
    model.box.free_before = neomm_pmm_free_frames(root);
    model_close(t, &model);
}

/* ---- callers without a record ---- */

static void count_plain(void *context, const struct neomm_heap_site_stats *stats)
{
    *(uint32_t *)context += stats->site.site == NULL;
}

static void addresses(struct ktap *t)
{
    static struct model model;
    static uintptr_t block[2000];
    memset(&model, 0, sizeof(model));
    if (!box_open(t, &model.box, BOX_DIRECT, 64, 2))
        return;
    struct neomm *root = model.box.root;
    EXPECT_OK(t, neomm_heap_track(root, true));
    for (uint32_t i = 0; i < 2000; i++)
        block[i] = (uintptr_t)neomm_kmalloc_at(root, 100 + i, 0,
                                               (const struct neomm_site *)(uintptr_t)(16 + i * 8));
    struct list list = list_of(&model, 1);
    EXPECT_EQ(t, list.count, 1); /* all for whom there was no room, as one */
    EXPECT(t, !list.stats[0].site.site && list.stats[0].site.address == 0);
    EXPECT_EQ(t, list.stats[0].objects, 2000 - 1023);
    uint32_t plain = 0;
    neomm_heap_sites(root, 2000, count_plain, &plain);
    EXPECT_EQ(t, plain, 1024);
    list = list_of(&model, 2);
    EXPECT_EQ(t, list.stats[1].site.address != 0, true);
    EXPECT_EQ(t, list.stats[1].objects, 1);
    for (uint32_t i = 0; i < 2000; i++)
        EXPECT_OK(t, neomm_kfree(root, (void *)block[i]));
    EXPECT_EQ(t, list_of(&model, 64).count, 0);
    EXPECT_OK(t, neomm_heap_track(root, false));
    model_close(t, &model);
}

/* One call, whatever compilers make of loops around it: the return address lies in here. */
static __attribute__((noinline)) void *alloc_here(struct neomm *root, struct neomm_kmem *cache)
{
    void *object = neomm_kmem_alloc(root, cache, 0);
    __asm__ volatile("" : : "r"(object));
    return object;
}

/* As a program does that has not got the macros; each is the only call in its function. */
static __attribute__((noinline)) void *plain_alloc(struct neomm *root)
{
    void *block = neomm_kmalloc_at(root, 100, 0, NULL);
    __asm__ volatile("" : : "r"(block));
    return block;
}

static __attribute__((noinline)) void *plain_array(struct neomm *root)
{
    void *block = neomm_kmalloc_array_at(root, 10, 30, 0, NULL);
    __asm__ volatile("" : : "r"(block));
    return block;
}

static __attribute__((noinline)) void *plain_aligned(struct neomm *root, size_t size, size_t align)
{
    void *block = neomm_kmalloc_aligned_at(root, size, align, 0, NULL);
    __asm__ volatile("" : : "r"(block));
    return block;
}

static __attribute__((noinline)) void *plain_resize(struct neomm *root, void *old, size_t size)
{
    void *block = neomm_krealloc_at(root, old, size, 0, NULL);
    __asm__ volatile("" : : "r"(block));
    return block;
}

static void expect_caller(struct ktap *t, struct model *model, void *block, uintptr_t function)
{
    struct list list = list_of(model, 64);
    EXPECT_EQ(t, list.count, 1);
    EXPECT(t, list.stats[0].site.site == NULL);
    EXPECT(t, list.stats[0].site.address - function < 128);
    EXPECT_OK(t, neomm_kfree(model->box.root, block));
}

static void callers_without_the_macro(struct ktap *t)
{
    static struct model model;
    memset(&model, 0, sizeof(model));
    if (!box_open(t, &model.box, BOX_DIRECT, 64, 2))
        return;
    struct neomm *root = model.box.root;
    EXPECT_OK(t, neomm_heap_track(root, true));
    expect_caller(t, &model, plain_alloc(root), (uintptr_t)plain_alloc);
    expect_caller(t, &model, plain_array(root), (uintptr_t)plain_array);
    static const size_t aligned[][2] = {{100, 64}, {100, 8}, {20000, 64}, {20000, 16384}};
    for (size_t i = 0; i < sizeof(aligned) / sizeof(aligned[0]); i++)
        expect_caller(t, &model, plain_aligned(root, aligned[i][0], aligned[i][1]),
                      (uintptr_t)plain_aligned);
    expect_caller(t, &model, plain_resize(root, NULL, 100), (uintptr_t)plain_resize);
    expect_caller(t, &model, plain_resize(root, plain_alloc(root), 1000), (uintptr_t)plain_resize);
    EXPECT_OK(t, neomm_heap_track(root, false));
    model_close(t, &model);
}

/* A cache that is made while sites are tracked is tracked; its callers are return addresses. */
static void new_caches(struct ktap *t)
{
    static struct model model;
    const struct neomm_kmem_options options = {.name = "new", .size = 48};
    void *object[20];
    memset(&model, 0, sizeof(model));
    if (!box_open(t, &model.box, BOX_DIRECT, 64, 2))
        return;
    struct neomm *root = model.box.root;
    EXPECT_OK(t, neomm_heap_track(root, true));
    struct neomm_kmem *cache = neomm_kmem_create(root, &options);
    ASSERT(t, cache != NULL);
    for (uint32_t i = 0; i < 10; i++)
        object[i] = alloc_here(root, cache);
    EXPECT_OK(t, neomm_kmem_alloc_bulk(root, cache, 0, 10, object + 10));
    struct list list = list_of(&model, 64);
    EXPECT_EQ(t, list.count, 2);
    for (uint32_t i = 0; i < list.count; i++) {
        uintptr_t address = list.stats[i].site.address;
        EXPECT_EQ(t, list.stats[i].objects, 10);
        EXPECT_EQ(t, list.stats[i].bytes, 480);
        EXPECT(t, address - (uintptr_t)new_caches < 4096 || address - (uintptr_t)alloc_here < 4096);
    }
    EXPECT_OK(t, neomm_kmem_free_bulk(root, cache, 20, object));
    EXPECT_EQ(t, list_of(&model, 64).count, 0);
    EXPECT_OK(t, neomm_kmem_destroy(root, cache));
    EXPECT_OK(t, neomm_heap_track(root, false));
    model_close(t, &model);
}

static const uint64_t hardened[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(counts_are_exact, hardened),
    KTAP_CASE(tracked_anew),
    KTAP_CASE(leaks_in_slabs_of_every_size),
    KTAP_CASE(addresses),
    KTAP_CASE(new_caches),
    KTAP_CASE(callers_without_the_macro),
};

KTAP_SUITE(heap_sites, cases);
