/* Object caches: constructors, shapes, names and figures, their end, bulk requests, objects taken
 * in advance.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include "base/root.h"
#include "sim/sim.h"

#include <string.h>

#define MANY 3000u

static struct neomm_kmem *create(struct box *box, const char *name, size_t size, size_t align)
{
    const struct neomm_kmem_options options = {.name = name, .size = size, .align = align};
    return neomm_kmem_create(box->root, &options);
}

static struct neomm_kmem_stats stats_of(struct box *box, struct neomm_kmem *cache)
{
    struct neomm_kmem_stats stats;
    neomm_kmem_stats(box->root, cache, &stats);
    return stats;
}

/* ---- every size and alignment ---- */

static void check_objects(struct ktap *t, struct box *box, size_t size, size_t align)
{
    enum { COUNT = 5 };
    uint8_t *object[COUNT];
    struct neomm_kmem *cache = create(box, "sizes", size, align);
    ASSERT(t, cache != NULL);
    struct neomm_kmem_stats stats = stats_of(box, cache);
    EXPECT_EQ(t, stats.object_size, size);
    EXPECT(t, stats.size >= size && stats.size % stats.align == 0);
    EXPECT(t, stats.align >= (align ? align : sizeof(void *)));
    for (uint32_t i = 0; i < COUNT; i++) {
        ASSERT(t, (object[i] = neomm_kmem_alloc(box->root, cache, 0)) != NULL);
        EXPECT_EQ(t, (uintptr_t)object[i] % (align ? align : sizeof(void *)), 0);
        EXPECT_EQ(t, neomm_ksize(box->root, object[i]), stats.size);
        pattern_fill(object[i], size, i);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        EXPECT(t, pattern_holds(object[i], size, i));
        EXPECT_OK(t, neomm_kmem_free(box->root, cache, object[i]));
    }
    EXPECT_OK(t, neomm_kmem_destroy(box->root, cache));
}

static void every_size(struct ktap *t)
{
    static const size_t aligns[] = {0, 1, 8, 16, 64, 256, 4096};
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    size_t align = aligns[t->parameter];
    for (size_t size = 1; size <= NEOMM_KMEM_SIZE_MAX && t->failures == 0;
         size += size < 200 ? 1 : size / 40)
        check_objects(t, &box, size, align);
    check_objects(t, &box, NEOMM_KMEM_SIZE_MAX - 1, align);
    check_objects(t, &box, NEOMM_KMEM_SIZE_MAX, align);
    box_close(t, &box);
}

static void bad_options(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    EXPECT(t, create(&box, "none", 0, 0) == NULL);
    EXPECT(t, create(&box, "large", NEOMM_KMEM_SIZE_MAX + 1, 0) == NULL);
    EXPECT(t, create(&box, "odd", 64, 24) == NULL);
    EXPECT(t, create(&box, "wide", 64, 2 * NEOMM_KMEM_ALIGN_MAX) == NULL);
    EXPECT_EQ(t, neomm_kmem_destroy(box.root, NULL), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_kmem_destroy(box.root, neomm_kmem_for(box.root, 64)), NEOMM_E_INVALID);
    EXPECT(t, neomm_kmem_for(box.root, 0) == NULL);
    EXPECT(t, neomm_kmem_for(box.root, 8193) == NULL);
    struct neomm_kmem *cache = create(&box, NULL, 64, 0);
    EXPECT(t, strcmp(stats_of(&box, cache).name, "unnamed") == 0);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    EXPECT_EQ(t, neomm_kmem_destroy(box.root, cache), NEOMM_E_INVALID);
    box_close(t, &box);
}

/* ---- constructors ---- */

/* As an object is between its uses: the second and third words say whose it is. */
struct made {
    uintptr_t first; /* a list of frees may be linked here */
    void *owner, *self;
    uint8_t rest[76];
};

struct maker {
    struct box *box;
    struct neomm_kmem *other; /* that the constructor uses */
    uint32_t calls, wrong;
};

static void make(void *context, void *object)
{
    struct maker *maker = context;
    struct made *made = object;
    maker->calls++;
    maker->wrong += neomm_port_cpu()->lock_depth != 0 || sim_interrupts_masked();
    *made = (struct made){.first = 42, .owner = maker, .self = made};
    if (maker->other) {
        void *help = neomm_kmem_alloc(maker->box->root, maker->other, NEOMM_ATOMIC);
        maker->wrong += neomm_kmem_free(maker->box->root, maker->other, help) != NEOMM_OK;
    }
}

static bool is_made(const struct maker *maker, const struct made *made)
{
    return made && made->first == 42 && made->owner == maker && made->self == made &&
           all_zero(made->rest, sizeof(made->rest));
}

static struct neomm_kmem *create_made(struct box *box, struct maker *maker)
{
    const struct neomm_kmem_options options = {
        .name = "made", .size = sizeof(struct made), .construct = make, .context = maker};
    return neomm_kmem_create(box->root, &options);
}

/* Once an object, outside of locks, however often it is taken; NEOMM_ZERO leaves it alone. */
static void constructors(struct ktap *t)
{
    static struct made *object[MANY];
    struct box box;
    struct maker maker = {.box = &box};
    if (!box_open(t, &box, BOX_DIRECT, 16, 2))
        return;
    struct neomm_kmem *cache = create_made(&box, &maker);
    maker.other = create(&box, "other", 24, 0);
    ASSERT(t, cache && maker.other);
    for (uint32_t round = 0; round < 4; round++) {
        env_switch_cpu(&box.env, round % 2);
        for (uint32_t i = 0; i < MANY; i++) {
            object[i] = neomm_kmem_alloc(box.root, cache, round == 2 ? NEOMM_ZERO : 0);
            EXPECT(t, is_made(&maker, object[i]));
        }
        for (uint32_t i = MANY; i-- > 0;)
            EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[i * 7 % MANY]));
    }
    struct neomm_kmem_stats stats = stats_of(&box, cache);
    EXPECT(t, maker.calls >= MANY);
    uint32_t calls = maker.calls;
    EXPECT_EQ(t, stats.allocated, 4 * MANY);
    (void)neomm_kmem_shrink(box.root, cache);
    struct made *again = neomm_kmem_alloc(box.root, cache, 0);
    EXPECT(t, is_made(&maker, again));
    EXPECT(t, maker.calls > calls && maker.calls <= calls + stats.slab_objects);
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, again));
    EXPECT_EQ(t, maker.wrong, 0);
    env_switch_cpu(&box.env, 0);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    EXPECT_OK(t, neomm_kmem_destroy(box.root, maker.other));
    box_close(t, &box);
}

/* As many calls as there are objects in the slabs that were touched, and no more. */
static void constructed_once(struct ktap *t)
{
    static struct made *object[MANY];
    struct box box;
    struct maker maker = {.box = &box};
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create_made(&box, &maker);
    struct neomm_kmem_stats stats = stats_of(&box, cache);
    uint32_t some = 3 * stats.slab_objects; /* whole slabs, all of them kept by one object */
    for (uint32_t i = 0; i < some; i++)
        object[i] = neomm_kmem_alloc(box.root, cache, 0);
    uint32_t calls = maker.calls;
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 1; i < some; i++)
            if (i % stats.slab_objects != 0)
                EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[i]));
        for (uint32_t i = 1; i < some; i++)
            if (i % stats.slab_objects != 0)
                object[i] = neomm_kmem_alloc(box.root, cache, 0);
    }
    EXPECT(t, calls <= stats_of(&box, cache).slabs * stats.slab_objects);
    EXPECT(t, maker.calls <= stats_of(&box, cache).slabs * stats.slab_objects);
    for (uint32_t i = 0; i < some; i++) {
        EXPECT(t, is_made(&maker, object[i]));
        EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[i]));
    }
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* ---- figures ---- */

static void figures(struct ktap *t)
{
    struct box box;
    void *object[100];
    struct neomm_heap_stats heap;
    if (!box_open(t, &box, BOX_DIRECT, 16, 2))
        return;
    struct neomm_kmem *cache = create(&box, "figures", 200, 0);
    neomm_heap_stats(box.root, &heap);
    EXPECT_EQ(t, heap.caches, 1);
    for (uint32_t i = 0; i < 100; i++)
        object[i] = neomm_kmem_alloc(box.root, cache, 0);
    struct neomm_kmem_stats stats = stats_of(&box, cache);
    EXPECT(t, strcmp(stats.name, "figures") == 0);
    EXPECT_EQ(t, stats.objects, 100);
    EXPECT_EQ(t, stats.allocated, 100);
    EXPECT_EQ(t, stats.freed, 0);
    EXPECT((t), stats.slabs * stats.slab_objects >= 100 + stats.kept);
    EXPECT_EQ(t, stats.slab_objects, stats.slab_frames * 4096 / stats.size);
    neomm_heap_stats(box.root, &heap);
    EXPECT_EQ(t, heap.requested_bytes, 100 * 200);
    EXPECT_EQ(t, heap.allocated_bytes, 100 * stats.size);
    EXPECT_EQ(t, heap.slab_frames, stats.slabs * stats.slab_frames);
    env_switch_cpu(&box.env, 1);
    for (uint32_t i = 0; i < 40; i++)
        EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[i]));
    stats = stats_of(&box, cache);
    EXPECT_EQ(t, stats.objects, 60);
    EXPECT_EQ(t, stats.freed, 40);
    EXPECT(t, stats.kept >= 40);
    env_switch_cpu(&box.env, 0);
    for (uint32_t i = 40; i < 100; i++)
        EXPECT_OK(t, neomm_kfree(box.root, object[i]));
    uint64_t free = neomm_pmm_free_frames(box.root);
    uint32_t given = neomm_kmem_shrink(box.root, cache);
    EXPECT_EQ(t, neomm_pmm_free_frames(box.root), free + given);
    stats = stats_of(&box, cache);
    EXPECT_EQ(t, stats.slabs + stats.kept + stats.slabs_empty + stats.objects, 0);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* kmalloc's classes come first and by size; then callers' caches. */
static void all_caches(struct ktap *t)
{
    struct box box;
    uint32_t classes = 0, others = 0;
    size_t before = 0;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *mine[3];
    for (uint32_t i = 0; i < 3; i++)
        mine[i] = create(&box, "mine", 64 + 64 * i, 0);
    for (struct neomm_kmem *cache = NULL; (cache = neomm_kmem_next(box.root, cache)) != NULL;) {
        struct neomm_kmem_stats stats = stats_of(&box, cache);
        if (strcmp(stats.name, "kmalloc") == 0) {
            EXPECT(t, stats.size > before && others == 0);
            EXPECT(t, neomm_kmem_for(box.root, stats.size) == cache);
            EXPECT(t, neomm_kmem_for(box.root, before + 1) == cache);
            before = stats.size;
            classes++;
        } else {
            EXPECT(t, cache == mine[others]);
            others++;
        }
    }
    EXPECT_EQ(t, classes, 32);
    EXPECT_EQ(t, others, 3);
    for (uint32_t i = 0; i < 3; i++)
        EXPECT_OK(t, neomm_kmem_destroy(box.root, mine[i]));
    box_close(t, &box);
}

/* ---- the end of a cache ---- */

static void leaks(struct ktap *t)
{
    struct box box;
    void *object[3];
    if (!box_open(t, &box, BOX_DIRECT, 16, 2))
        return;
    struct neomm_kmem *cache = create(&box, "leaky", 333, 0);
    for (uint32_t i = 0; i < 3; i++)
        object[i] = neomm_kmem_alloc(box.root, cache, 0);
    pattern_fill(object[2], 333, 2);
    env_switch_cpu(&box.env, 1);
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[0]));
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[1]));
    EXPECT_EQ(t, neomm_kmem_destroy(box.root, cache), NEOMM_E_BUSY);
    EXPECT(t, strstr(sim_last_log(box.env.machine), "333 bytes (leaky)") != NULL);
    EXPECT_EQ(t, neomm_heap_fini(box.root), NEOMM_E_BUSY);
    EXPECT(t, pattern_holds(object[2], 333, 2));
    struct neomm_kmem_stats stats = stats_of(&box, cache);
    EXPECT_EQ(t, stats.objects, 1);
    env_fsck(t, &box.env);
    /* It stays as it is, and can be used. */
    object[0] = neomm_kmem_alloc(box.root, cache, 0);
    EXPECT(t, object[0] != NULL);
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[0]));
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, object[2]));
    EXPECT_EQ(t, neomm_heap_fini(box.root), NEOMM_E_BUSY);
    EXPECT(t, strstr(sim_last_log(box.env.machine), "cache leaky, which is empty") != NULL);
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

/* As many as the header promises, and each number can be used again, for another shape too. */
static void as_many_as_there_are(struct ktap *t)
{
    static struct neomm_kmem *cache[NEOMM_KMEM_COUNT_MAX * 2];
    static void *object[NEOMM_KMEM_COUNT_MAX * 2];
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 32, 2))
        return;
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t count = 0;
        while (count < 2 * NEOMM_KMEM_COUNT_MAX &&
               (cache[count] = create(&box, "one of many", 16 + round * 500 + count, 0)) != NULL)
            count++;
        EXPECT(t, count >= NEOMM_KMEM_COUNT_MAX && count < 2 * NEOMM_KMEM_COUNT_MAX);
        for (uint32_t i = 0; i < count; i++) {
            object[i] = neomm_kmem_alloc(box.root, cache[i], 0);
            ASSERT(t, object[i] != NULL);
            pattern_fill(object[i], 16 + round * 500 + i, i);
        }
        env_fsck(t, &box.env);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t at = round == 1 ? count - 1 - i : i;
            EXPECT(t, pattern_holds(object[at], 16 + round * 500 + at, at));
            EXPECT_OK(t, neomm_kmem_free(box.root, cache[at], object[at]));
            object[at] = NULL;
            EXPECT_OK(t, neomm_kmem_destroy(box.root, cache[at]));
        }
    }
    box_close(t, &box);
}

/* ---- objects and mistakes ---- */

static void mistakes(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, t->parameter, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, "a", 100, 0), *other = create(&box, "b", 100, 0);
    uint8_t *object = neomm_kmem_alloc(box.root, cache, 0);
    uint8_t *second = neomm_kmem_alloc(box.root, cache, 0), *run = take(&box, 20000, 0);
    uint64_t bad = box_counter(&box, NEOMM_COUNTER_BAD_FREE);
    EXPECT_EQ(t, neomm_kmem_free(box.root, other, object), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_kmem_free(box.root, cache, run), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_kmem_free(box.root, cache, object + 8), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_kmem_free(box.root, cache, &box), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_BAD_FREE), bad + 4);
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, NULL));
    EXPECT_OK(t, neomm_kmem_free(box.root, cache, object));
    EXPECT_EQ(t, neomm_kmem_free(box.root, cache, object), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, box_counter(&box, NEOMM_COUNTER_BAD_FREE), bad + 5);
    EXPECT_OK(t, neomm_kfree(box.root, second));
    EXPECT_OK(t, neomm_kfree(box.root, run));
    EXPECT_OK(t, neomm_kmem_destroy(box.root, other));
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

static void zeroed_objects(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_DIRECT, 16, 1))
        return;
    struct neomm_kmem *cache = create(&box, "zeroed", 120, 0);
    for (uint32_t i = 0; i < 200; i++) {
        void *object = neomm_kmem_alloc(box.root, cache, NEOMM_ZERO | NEOMM_DMA);
        ASSERT(t, object != NULL);
        EXPECT(t, all_zero(object, 120));
        pattern_fill(object, 120, i);
        EXPECT_OK(t, neomm_kmem_free(box.root, cache, object));
    }
    EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
    box_close(t, &box);
}

/* ---- failures on purpose ---- */

static void every_failure(struct ktap *t)
{
    struct box box;
    struct maker maker = {.box = &box};
    if (!box_open(t, &box, BOX_DIRECT, 16, 2))
        return;
    bool done = !env_fault_plan(&box.env, 0, false);
    if (done)
        ktap_skip(t, "no fault points in this flavour");
    for (uint64_t n = 1; !done && n < 100; n++) {
        void *object[40];
        (void)env_fault_plan(&box.env, n, t->parameter);
        struct neomm_kmem *cache = create_made(&box, &maker);
        neomm_status status = NEOMM_E_NOMEM;
        if (cache)
            status = neomm_kmem_alloc_bulk(box.root, cache, 0, 40, object);
        void *single = cache ? neomm_kmem_alloc(box.root, cache, 0) : NULL;
        done = env_fault_count(&box.env) < n;
        (void)env_fault_plan(&box.env, 0, false);
        env_fsck(t, &box.env);
        if (single)
            EXPECT_OK(t, neomm_kmem_free(box.root, cache, single));
        if (status == NEOMM_OK)
            EXPECT_OK(t, neomm_kmem_free_bulk(box.root, cache, 40, object));
        if (cache)
            EXPECT_OK(t, neomm_kmem_destroy(box.root, cache));
        (void)neomm_heap_shrink(box.root);
        EXPECT_EQ(t, neomm_pmm_free_frames(box.root), box.free_before);
        EXPECT(t, !done || (single && status == NEOMM_OK));
    }
    EXPECT(t, done);
    box_close(t, &box);
}

static const uint64_t kinds[] = {BOX_DIRECT, BOX_WINDOW};
static const uint64_t both[] = {0, 1};
static const uint64_t seven[] = {0, 1, 2, 3, 4, 5, 6};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(every_size, seven),
    KTAP_CASE(bad_options),
    KTAP_CASE(constructors),
    KTAP_CASE(constructed_once),
    KTAP_CASE(figures),
    KTAP_CASE(all_caches),
    KTAP_CASE(leaks),
    KTAP_CASE(as_many_as_there_are),
    KTAP_CASE_WITH(mistakes, kinds),
    KTAP_CASE(zeroed_objects),
    KTAP_CASE_WITH(every_failure, both),
};

KTAP_SUITE(kmem, cases);
