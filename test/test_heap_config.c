/* What memory_manager.conf says of the heap, key by key: it acts.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#include <neomm/heap_debug.h>

#include <string.h>

#define BLOCKS 4096u

/* A machine whose heap is as the text says; CPU 0 alone. */
struct configured {
    struct neomm_config config;
    struct box box;
    struct neomm *root;
    void *block[BLOCKS];
};

static bool configured_open(struct ktap *t, struct configured *c, const char *text)
{
    const struct env_options options = {
        .layer = ENV_HEAP, .format = box_format(), .config = &c->config};
    memset(c, 0, sizeof(*c));
    neomm_config_default(&c->config);
    EXPECT_EQ(t, neomm_config_parse(&c->config, "f", text, strlen(text), true, NULL, NULL, NULL),
              0);
    if (!env_open(t, &c->box.env, &options))
        return false;
    c->box.window = true;
    c->root = c->box.root = c->box.env.root;
    (void)neomm_heap_shrink(c->root);
    c->box.free_before = neomm_pmm_free_frames(c->root);
    return t->failures == 0;
}

/* The second free is noticed at once by a HARDENED cache alone: others lie between. */
static neomm_status free_twice(struct neomm *root, struct neomm_kmem *cache)
{
    volatile uintptr_t a = (uintptr_t)neomm_kmem_alloc(root, cache, 0);
    void *b = neomm_kmem_alloc(root, cache, 0);
    (void)neomm_kmem_free(root, cache, (void *)a);
    (void)neomm_kmem_free(root, cache, b);
    return neomm_kmem_free(root, cache, (void *)a);
}

static void profile(struct ktap *t)
{
    static struct configured c;
    const struct neomm_kmem_options options = {.name = "made later", .size = 100};
    if (!configured_open(t, &c, "[heap]\nprofile = hardened\n"))
        return;
    struct neomm_kmem *cache = neomm_kmem_create(c.root, &options);
    ASSERT(t, cache != NULL);
    EXPECT_EQ(t, free_twice(c.root, neomm_kmem_for(c.root, 100)), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, free_twice(c.root, cache), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, neomm_heap_profile(c.root, NULL), NEOMM_HEAP_HARDENED);
    EXPECT_OK(t, neomm_kmem_destroy(c.root, cache));
    env_close(t, &c.box.env);
}

/* kmalloc's have a name, too; whoever has none in the file is as all are, which may change. */
static void profile_of_a_cache(struct ktap *t)
{
    static struct configured c;
    const struct neomm_kmem_options named = {.name = "inode", .size = 100};
    const struct neomm_kmem_options other = {.name = "other", .size = 100};
    if (!configured_open(t, &c,
                         "[cache \"inode\"]\nprofile = hardened\n[cache \"other\"]\n"
                         "[cache \"kmalloc\"]\nprofile = fast\n"))
        return;
    struct neomm_kmem *a = neomm_kmem_create(c.root, &named);
    struct neomm_kmem *b = neomm_kmem_create(c.root, &other);
    ASSERT(t, a && b);
    EXPECT_EQ(t, neomm_heap_profile(c.root, neomm_kmem_for(c.root, 100)), NEOMM_HEAP_FAST);
    EXPECT_EQ(t, neomm_heap_profile(c.root, a), NEOMM_HEAP_HARDENED);
    EXPECT_EQ(t, neomm_heap_profile(c.root, b), NEOMM_HEAP_DEFAULT);
    EXPECT_EQ(t, free_twice(c.root, a), NEOMM_E_DOUBLE_FREE);
    EXPECT_OK(t, neomm_kmem_destroy(c.root, a));
    EXPECT_OK(t, neomm_kmem_destroy(c.root, b));
    EXPECT_OK(t, neomm_heap_set_profile(c.root, NULL, NEOMM_HEAP_HARDENED));
    a = neomm_kmem_create(c.root, &named);
    b = neomm_kmem_create(c.root, &other);
    ASSERT(t, a && b);
    EXPECT_EQ(t, neomm_heap_profile(c.root, b), NEOMM_HEAP_HARDENED);
    EXPECT_OK(t, neomm_kmem_destroy(c.root, a));
    EXPECT_OK(t, neomm_kmem_destroy(c.root, b));
    env_close(t, &c.box.env);
}

/* Of so many blocks taken and freed, those that were guarded, which lie in the window. */
static uint32_t guarded_of(struct configured *c, uint32_t count)
{
    uint32_t guarded = 0;
    for (uint32_t i = 0; i < count; i++) {
        void *block = take(&c->box, 100, 0);
        guarded += neomm_window_vaddr(c->root, block) != 0;
        (void)neomm_kfree(c->root, block);
    }
    return guarded;
}

static void sampling(struct ktap *t)
{
    static const struct {
        const char *text;
        uint32_t least, most;
    } cases[] = {
        {"[heap]\nprofile = guarded\nsampling = 10\n", 600, 1600},
        {"[heap]\nprofile = guarded\n", 5, 20},
        {"[heap]\nprofile = guarded\nsampling = 0\n", 0, 0},
        {"[heap]\nsampling = 10\n", 0, 0},
    };
    static struct configured c;
    if (!configured_open(t, &c, cases[t->parameter].text))
        return;
    uint32_t guarded = guarded_of(&c, 10000);
    EXPECT(t, guarded >= cases[t->parameter].least && guarded <= cases[t->parameter].most);
    env_close(t, &c.box.env);
}

static void count_site(void *context, const struct neomm_heap_site_stats *stats)
{
    *(uint64_t *)context += stats->objects;
}

static void call_sites(struct ktap *t)
{
    static struct configured c;
    if (!configured_open(t, &c, t->parameter ? "[heap]\ncall_sites = yes\n" : ""))
        return;
    uint64_t found = 0;
    void *block = take(&c.box, 100, 0);
    neomm_heap_sites(c.root, 10, count_site, &found);
    EXPECT_EQ(t, found, t->parameter);
    EXPECT_OK(t, neomm_kfree(c.root, block));
    env_close(t, &c.box.env);
}

static void fine_classes(struct ktap *t)
{
    static struct configured c;
    if (!configured_open(t, &c, t->parameter ? "[heap]\nfine_classes = yes\n" : ""))
        return;
    void *block = take(&c.box, 136, 0);
    EXPECT_EQ(t, neomm_ksize(c.root, block), t->parameter ? 144 : 160);
    EXPECT_OK(t, neomm_kfree(c.root, block));
    env_close(t, &c.box.env);
}

/* Not more than the file says, and, of small objects, as much. */
static void magazine(struct ktap *t)
{
    static struct configured c;
    struct neomm_kmem_stats stats;
    char text[64] = "[heap]\nmagazine = ";
    size_t length = strlen(text);
    text[length] = (char)('0' + t->parameter / 10);
    text[length + 1] = (char)('0' + t->parameter % 10);
    if (!configured_open(t, &c, text))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(c.root, 64);
    uint64_t most = 0;
    for (uint32_t i = 0; i < 500; i++)
        c.block[i] = take(&c.box, 64, 0);
    for (uint32_t i = 0; i < 500; i++) {
        EXPECT_OK(t, neomm_kfree(c.root, c.block[i]));
        neomm_kmem_stats(c.root, cache, &stats);
        most = most > stats.kept ? most : stats.kept;
    }
    EXPECT_EQ(t, most, t->parameter);
    env_close(t, &c.box.env);
}

/* ---- the limit ---- */

static size_t held(struct configured *c)
{
    struct neomm_heap_stats stats;
    neomm_heap_stats(c->root, &stats);
    return (size_t)(stats.slab_frames + stats.run_frames) << NEOMM_PAGE_SHIFT;
}

static uint32_t take_all(struct configured *c, size_t size)
{
    uint32_t count = 0;
    while (count < BLOCKS && (c->block[count] = take(&c->box, size, 0)) != NULL)
        count++;
    return count;
}

static void free_all(struct ktap *t, struct configured *c, uint32_t count)
{
    while (count > 0)
        EXPECT_OK(t, neomm_kfree(c->root, c->block[--count]));
}

#define LIMIT ((size_t)1 << 20)

/* Of every size as many as there is room for, again and again. */
static void limit(struct ktap *t)
{
    static const size_t sizes[] = {500, 3000, 8192, 9000, 40000, 300000, LIMIT};
    static struct configured c;
    if (!configured_open(t, &c, "[heap]\nlimit = 1M\n"))
        return;
    for (size_t round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            uint32_t count = take_all(&c, sizes[i]);
            EXPECT(t, held(&c) <= LIMIT);
            EXPECT(t, count * sizes[i] <= LIMIT && (count + 1) * sizes[i] > LIMIT * 2 / 3);
            env_fsck(t, &c.box.env);
            free_all(t, &c, count);
        }
    EXPECT(t, take(&c.box, LIMIT + 1, 0) == NULL);
    box_close(t, &c.box);
}

/* Growing counts as well, in place or not; what did not grow is as it was. */
static void limit_of_growth(struct ktap *t)
{
    static struct configured c;
    size_t size = 100000;
    if (!configured_open(t, &c, "[heap]\nlimit = 1M\n"))
        return;
    void *block = take(&c.box, size, 0), *more;
    ASSERT(t, block != NULL);
    pattern_fill(block, size, 1);
    while ((more = neomm_krealloc(c.root, block, size + 50000, 0)) != NULL) {
        EXPECT(t, held(&c) <= LIMIT && pattern_holds(more, size, 1));
        block = more;
        size += 50000;
        pattern_fill(block, size, 1);
        ASSERT(t, size <= LIMIT);
    }
    EXPECT(t, pattern_holds(block, size, 1));
    EXPECT(t, size > LIMIT * 2 / 5); /* where it is copied there are two for a moment */
    env_fsck(t, &c.box.env);
    EXPECT_OK(t, neomm_kfree(c.root, block));
    box_close(t, &c.box);
}

/* A share is one of the memory that is free when the heap begins. */
static void limit_as_a_share(struct ktap *t)
{
    static struct configured c;
    if (!configured_open(t, &c, "[heap]\nlimit = 10%\n"))
        return;
    size_t free = (size_t)c.box.free_before << NEOMM_PAGE_SHIFT;
    uint32_t count = take_all(&c, 4096);
    EXPECT(t, count * (size_t)4096 > free / 11 && count * (size_t)4096 < free / 9);
    free_all(t, &c, count);
    box_close(t, &c.box);
}

/* Each way to ask for pages in vain gives back what it took of the limit: fsck compares. */
static void limit_under_faults(struct ktap *t)
{
    static struct configured c;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        if (!configured_open(t, &c, "[heap]\nlimit = 1M\nprofile = hardened\n"))
            return;
        if (!env_fault_plan(&c.box.env, n, false)) {
            env_close(t, &c.box.env);
            ktap_skip(t, "no fault points in this build");
            return;
        }
        c.block[0] = take(&c.box, 100, 0);
        c.block[1] = take(&c.box, 100000, 0);
        if (c.block[1]) {
            void *more = neomm_krealloc(c.root, c.block[1], 200000, 0);
            c.block[1] = more ? more : c.block[1];
        }
        failed = env_fault_count(&c.box.env) >= n;
        (void)env_fault_plan(&c.box.env, 0, false);
        env_fsck(t, &c.box.env);
        free_all(t, &c, 2);
        box_close(t, &c.box);
    }
}

/* ---- what cannot be had ---- */

static void as_far_as_possible(struct ktap *t)
{
    static struct configured c;
    static const char text[] = "[heap]\nprofile = guarded\ncall_sites = yes\n";
    struct env_options options = {.layer = ENV_PMM, .format = box_format(), .config = &c.config};
    uint64_t found = 0;
    neomm_config_default(&c.config);
    EXPECT_EQ(t, neomm_config_parse(&c.config, "f", text, strlen(text), true, NULL, NULL, NULL), 0);
    if (!env_open(t, &c.box.env, &options))
        return;
    struct neomm *root = c.box.root = c.box.env.root;
    EXPECT_EQ(t, neomm_heap_configure(root), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_heap_init(root, NULL));
    EXPECT_EQ(t, neomm_heap_configure(root), NEOMM_E_UNSUPPORTED);
    EXPECT_EQ(t, neomm_heap_profile(root, NULL), NEOMM_HEAP_DEFAULT);
    EXPECT_EQ(t, neomm_heap_set_profile(root, NULL, NEOMM_HEAP_PROFILES), NEOMM_E_INVALID);
    void *block = take(&c.box, 100, 0);
    neomm_heap_sites(root, 10, count_site, &found);
    EXPECT_EQ(t, found, 1);
    EXPECT_OK(t, neomm_kfree(root, block));
    EXPECT_OK(t, neomm_heap_fini(root));
    env_close(t, &c.box.env);
}

static const uint64_t off_and_on[] = {0, 1}, four[] = {0, 1, 2, 3}, most_kept[] = {2, 3, 40, 99};

static const struct ktap_case cases[] = {
    KTAP_CASE(profile),
    KTAP_CASE(profile_of_a_cache),
    KTAP_CASE_WITH(sampling, four),
    KTAP_CASE_WITH(call_sites, off_and_on),
    KTAP_CASE_WITH(fine_classes, off_and_on),
    KTAP_CASE_WITH(magazine, most_kept),
    KTAP_CASE(limit),
    KTAP_CASE(limit_of_growth),
    KTAP_CASE(limit_as_a_share),
    KTAP_CASE(limit_under_faults),
    KTAP_CASE(as_far_as_possible),
};

KTAP_SUITE(heap_config, cases);
