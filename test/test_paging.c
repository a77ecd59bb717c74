/* Page tables: large leaves, errors, failures, costs, the life of tables.
 * SPDX-License-Identifier: MIT */
#include "high_machine.h"

#include "env.h"
#include "paging/tables.h"

#include <string.h>

static const uint64_t formats[] = ENV_FORMATS;

#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGE NEOMM_PAGE_SIZE
#define USER ((neomm_vaddr_t)0x40000000)

static bool open_machine(struct ktap *t, struct env *env, uint32_t cpus)
{
    struct env_options options = {
        .layer = ENV_PAGING, .format = (enum neomm_format)t->parameter, .cpus = cpus};
    return env_open(t, env, &options);
}

static size_t large_size(const struct env *env)
{
    return env->options.format == NEOMM_FORMAT_2LEVEL ? (size_t)4 << 20 : (size_t)2 << 20;
}

/* ---- large leaves ---- */

struct tally {
    struct ktap *t;
    neomm_vaddr_t next; /* where the next leaf begins, if there is no hole */
    neomm_vaddr_t base;
    neomm_paddr_t paddr; /* of base */
    size_t bytes, leaves;
    unsigned holes;
};

static void count_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct tally *tally = context;
    struct ktap *t = tally->t;
    EXPECT_EQ(t, leaf->paddr, tally->paddr + (vaddr - tally->base));
    tally->holes += vaddr != tally->next;
    tally->next = vaddr + leaf->size;
    tally->bytes += leaf->size;
    tally->leaves++;
}

static struct tally tally_of(struct ktap *t, struct env *env, struct neomm_tables *tables,
                             neomm_vaddr_t vaddr, size_t size, neomm_paddr_t paddr)
{
    struct tally tally = {.t = t, .next = vaddr, .base = vaddr, .paddr = paddr};
    EXPECT_OK(t, neomm_paging_walk(env->root, tables, vaddr, size, count_leaf, &tally));
    return tally;
}

/* One page of the middle of the largest leaf: all that is split goes again when it is empty. */
static void the_largest_leaf_splits(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct neomm_mapping leaf;
    ASSERT(t, open_machine(t, &env, 1));
    bool giant = env.root->paging->engine->large_levels & 4u;
    size_t size = giant ? (size_t)1 << 30 : large_size(&env), hole = size / 2 + 5 * PAGE;
    size_t pages = large_size(&env) / PAGE;
    uint64_t paddr = size;
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    uint32_t at_start = tables.table_frames;
    EXPECT_OK(t, neomm_paging_map(env.root, &tables, USER, paddr, size, RW, NEOMM_CACHE_WB, 0));
    EXPECT_OK(t, neomm_paging_query(env.root, &tables, USER + size - 1, &leaf));
    EXPECT_EQ(t, leaf.size, size);
    EXPECT_EQ(t, leaf.paddr, paddr);
    uint32_t before = tables.table_frames;
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, USER + hole, PAGE, NULL, NULL, NULL));
    EXPECT_EQ(t, tables.table_frames, before + (giant ? 2 : 1));
    struct tally tally = tally_of(t, &env, &tables, USER, size, paddr);
    EXPECT_EQ(t, tally.bytes, size - PAGE);
    EXPECT_EQ(t, tally.holes, 1);
    EXPECT_EQ(t, tally.leaves, (giant ? 511 : 0) + pages - 1);
    EXPECT_OK(
        t, neomm_paging_protect(env.root, &tables, USER + PAGE, size - 2 * PAGE, NEOMM_PROT_READ));
    tally = tally_of(t, &env, &tables, USER, size, paddr);
    EXPECT_EQ(t, tally.leaves, giant ? 509 + 3 * pages - 1 : pages - 1);
    env_fsck(t, &env);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, USER, size, NULL, NULL, NULL));
    EXPECT_EQ(t, tables.table_frames, at_start);
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

/* The part of the largest leaf that goes ends where a leaf of the next size would. */
static void a_large_part_of_the_largest_leaf_goes(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    ASSERT(t, open_machine(t, &env, 1));
    size_t large = large_size(&env), giant = (size_t)1 << 30;
    if (!(env.root->paging->engine->large_levels & 4u))
        giant = large;
    size_t part = giant == large ? large / 2 : large;
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    EXPECT_OK(t, neomm_paging_map(env.root, &tables, USER, 0, giant, RW, NEOMM_CACHE_WB, 0));
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, USER, part, NULL, NULL, NULL));
    struct tally tally = tally_of(t, &env, &tables, USER, giant, 0);
    EXPECT_EQ(t, tally.bytes, giant - part);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, USER, giant, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

/* Small leaves up to the first border, large ones, giant ones, and down again. */
static void leaves_are_the_largest_that_fit(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    ASSERT(t, open_machine(t, &env, 1));
    size_t large = large_size(&env), lead = 3 * PAGE;
    bool giant = env.root->paging->engine->large_levels & 4u;
    size_t size = giant ? ((size_t)1 << 30) + 2 * (large + lead) : 2 * large + 2 * lead;
    neomm_vaddr_t vaddr = 2 * USER - (giant ? large : 0) - lead;
    uint64_t paddr = (uint64_t)vaddr & (((uint64_t)1 << 31) - 1);
    if (env.options.format == NEOMM_FORMAT_PAE)
        paddr += (uint64_t)1 << 32; /* beyond 32 bits */
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    EXPECT_OK(t, neomm_paging_map(env.root, &tables, vaddr, paddr, size, NEOMM_PROT_READ,
                                  NEOMM_CACHE_UC, 0));
    struct tally tally = tally_of(t, &env, &tables, vaddr, size, paddr);
    EXPECT_EQ(t, tally.bytes, size);
    EXPECT_EQ(t, tally.holes, 0);
    EXPECT_EQ(t, tally.leaves, giant ? 3 + 1 + 1 + 1 + 3 : 3 + 2 + 3);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, vaddr, size, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_map(env.root, &tables, vaddr, paddr, 4 * large, NEOMM_PROT_READ,
                                  NEOMM_CACHE_UC, NEOMM_MAP_SMALL));
    tally = tally_of(t, &env, &tables, vaddr, 4 * large, paddr);
    EXPECT_EQ(t, tally.leaves, 4 * large / PAGE);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, vaddr, 4 * large, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

/* ---- the direct map ---- */

/* RAM with a hole in a large page, boot memory, and a device above. */
static void the_direct_map_is_ram_alone(struct ktap *t)
{
    static const struct neomm_boot_range map[] = {
        {0, 0x9f000, NEOMM_MEMORY_USABLE},
        {0x100000, 0xf00000 - 0x9000, NEOMM_MEMORY_USABLE}, /* then a hole */
        {0xffb000, 0x5000, NEOMM_MEMORY_ACPI},
        {0x1000000, 0x7ff000, NEOMM_MEMORY_USABLE},
        {0x1900000, 0x100000, NEOMM_MEMORY_RESERVED},
    };
    struct env env;
    struct env_options options = {.layer = ENV_PAGING,
                                  .format = (enum neomm_format)t->parameter,
                                  .ram_bytes = (uint64_t)32 << 20,
                                  .map = map,
                                  .map_count = 4};
    ASSERT(t, env_open(t, &env, &options));
    struct neomm_tables *kernel = neomm_paging_kernel(env.root);
    const struct neomm_area *direct = &neomm_layout_of(env.root)->direct;
    struct neomm_mapping leaf;
    for (size_t paddr = 0; paddr < direct->size; paddr += PAGE) {
        bool ram = false, image = false;
        for (unsigned i = 0; i < 4; i++)
            ram |= paddr - map[i].base < map[i].length;
        ram &= paddr != 0;
        /* The root's own memory is the image's affair. */
        image = (uint8_t *)env.root - (uint8_t *)neomm_direct_pointer(env.root, 0) <=
                    (ptrdiff_t)paddr &&
                paddr < 0x200000;
        EXPECT_OK(t, neomm_paging_query(env.root, kernel, direct->base + paddr, &leaf));
        if (image)
            continue;
        EXPECT_EQ(t, leaf.state, ram ? NEOMM_MAPPING_PRESENT : NEOMM_MAPPING_NONE);
        EXPECT(t, !ram || (leaf.prot == RW && leaf.size <= large_size(&env)));
        if (ram && paddr >= 0x800000 && paddr < 0xc00000)
            EXPECT_EQ(t, leaf.size, large_size(&env));
    }
    env_close(t, &env);
}

/* ---- errors ---- */

static void mistakes_are_refused(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct neomm_mapping m;
    neomm_frame_t frame = {5};
    ASSERT(t, open_machine(t, &env, 1));
    struct neomm *root = env.root;
    struct neomm_tables *kernel = neomm_paging_kernel(root);
    const struct neomm_layout *layout = neomm_layout_of(root);
    neomm_vaddr_t limit = layout->user_limit;
    EXPECT_OK(t, neomm_paging_create(root, &tables, 1));
#define MAP(tables, vaddr, paddr, size, prot, cache, options)                                      \
    neomm_paging_map(root, tables, vaddr, paddr, size, prot, cache, options)
    EXPECT_EQ(t, MAP(&tables, USER + 1, 0, PAGE, RW, 0, 0), NEOMM_E_ALIGN);
    EXPECT_EQ(t, MAP(&tables, USER, 1, PAGE, RW, 0, 0), NEOMM_E_ALIGN);
    EXPECT_EQ(t, MAP(&tables, USER, 0, PAGE + 1, RW, 0, 0), NEOMM_E_ALIGN);
    EXPECT_EQ(t, MAP(&tables, USER, 0, 0, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, limit - PAGE, 0, 2 * PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, limit, 0, PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, USER, 0, (size_t)0 - USER, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, USER, 0, (size_t)0 - PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, layout->window.base, 0, PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(kernel, USER, 0, PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(kernel, layout->direct.base, 0, PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(kernel, layout->window.base - PAGE, 0, 2 * PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, USER, (uint64_t)1 << layout->physical_bits, PAGE, RW, 0, 0),
              NEOMM_E_RANGE);
    EXPECT_EQ(t,
              MAP(&tables, USER, ((uint64_t)1 << layout->physical_bits) - PAGE, 2 * PAGE, RW, 0, 0),
              NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, USER, (uint64_t)0 - PAGE, 2 * PAGE, RW, 0, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, MAP(&tables, USER, 0, PAGE, RW | NEOMM_PROT_EXEC, 0, 0), NEOMM_E_ACCESS);
    EXPECT_EQ(t, MAP(&tables, USER, 0, PAGE, 8, 0, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, MAP(&tables, USER, 0, PAGE, RW, (enum neomm_cache)5, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, MAP(&tables, USER, 0, PAGE, RW, 0, 4), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_paging_map_frames(root, &tables, USER, &frame, 0, RW), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_paging_map_frames(root, &tables, limit - PAGE, &frame, 2, RW),
              NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_paging_map_frames(root, &tables, USER, &frame, 1, RW | NEOMM_PROT_EXEC),
              NEOMM_E_ACCESS);
    EXPECT_EQ(t, neomm_paging_unmap(root, &tables, USER + 8, PAGE, NULL, NULL, NULL),
              NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_paging_unmap(root, kernel, layout->direct.base, PAGE, NULL, NULL, NULL),
              NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_paging_protect(root, &tables, USER, PAGE, RW | NEOMM_PROT_EXEC),
              NEOMM_E_ACCESS);
    EXPECT_EQ(t, neomm_paging_protect(root, &tables, limit, PAGE, RW), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_paging_query(root, &tables, limit, &m), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_paging_query(root, kernel, USER, &m), NEOMM_E_RANGE);
    EXPECT_OK(t, neomm_paging_query(root, kernel, layout->direct.base + PAGE, &m));
    m = (struct neomm_mapping){.state = NEOMM_MAPPING_PRESENT, .prot = RW | NEOMM_PROT_EXEC};
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    EXPECT_EQ(t, neomm_paging_exchange(root, &tables, USER, &none, &m, NULL), NEOMM_E_ACCESS);
    m.prot = RW;
    m.paddr = 12;
    EXPECT_EQ(t, neomm_paging_exchange(root, &tables, USER, &none, &m, NULL), NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_paging_exchange(root, &tables, limit, &none, &none, NULL), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_paging_harvest(root, &tables, USER, 7, true, count_leaf, NULL),
              NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_paging_walk(root, &tables, USER, 7, count_leaf, NULL), NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_paging_init(root, NULL), NEOMM_E_EXISTS);
#undef MAP
    EXPECT_EQ(t, tables.table_frames, t->parameter == NEOMM_FORMAT_PAE ? 3 : 0);
    EXPECT_OK(t, neomm_paging_destroy(root, &tables));
    env_close(t, &env);
}

static void needs_initialisation(struct ktap *t)
{
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter, .no_paging = true};
    struct neomm_tables tables = {0};
    struct neomm_mapping m;
    neomm_vaddr_t vaddr;
    ASSERT(t, high_open(t, &machine, &options));
    struct neomm *root = machine.root;
    EXPECT(t, !neomm_paging_kernel(root));
    EXPECT_EQ(t, neomm_paging_create(root, &tables, 1), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_paging_destroy(root, &tables), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_paging_query(root, &tables, USER, &m), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_paging_cpu_init(root), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_paging_fini(root), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_window_alloc(root, PAGE, &vaddr), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_window_size(root, USER), 0);
    high_close(t, &machine);
}

static void segments_are_mapped_as_told(struct ktap *t)
{
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter, .no_paging = true};
    struct neomm_mapping m;
    ASSERT(t, high_open(t, &machine, &options));
    struct neomm *root = machine.root;
    neomm_vaddr_t image = neomm_layout_of(root)->image.base;
    struct neomm_kernel_segment segments[] = {
        {image + 0x100000, 0x100000, 5 * PAGE, NEOMM_PROT_READ | NEOMM_PROT_EXEC},
        {image + 0x105000, 0x105000, PAGE, NEOMM_PROT_READ},
        {image + 0x106000, 0x106000, 2 * PAGE, RW},
    };
    struct neomm_paging_options paging = {.segments = segments, .segment_count = 3};
    segments[1].prot = RW | NEOMM_PROT_EXEC;
    EXPECT_EQ(t, neomm_paging_init(root, &paging), NEOMM_E_ACCESS);
    segments[1].prot = NEOMM_PROT_READ;
    segments[1].vaddr = USER;
    EXPECT_EQ(t, neomm_paging_init(root, &paging), NEOMM_E_RANGE);
    segments[1].vaddr = image + 0x104000;
    EXPECT_EQ(t, neomm_paging_init(root, &paging), NEOMM_E_EXISTS);
    segments[1].vaddr = image + 0x105000;
    EXPECT_OK(t, neomm_paging_init(root, &paging));
    EXPECT_OK(t, neomm_paging_cpu_init(root));
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_OK(t, neomm_paging_query(root, neomm_paging_kernel(root), segments[i].vaddr, &m));
        EXPECT_EQ(t, m.state, NEOMM_MAPPING_PRESENT);
        EXPECT_EQ(t, m.prot, segments[i].prot);
        EXPECT_EQ(t, m.paddr, segments[i].paddr);
    }
    high_close(t, &machine);
}

/* The boot code enters the paging mode; from a wrong one there is no way on. */
static void the_mode_must_be_the_formats(struct ktap *t)
{
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter, .no_paging = true};
    if (sizeof(void *) > 4) {
        ktap_skip(t, "x86_64 cannot leave its mode");
        return;
    }
    ASSERT(t, high_open(t, &machine, &options));
    EXPECT_OK(t, neomm_paging_init(machine.root, NULL));
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() ^ NEOMM_CR4_PAE);
    EXPECT_EQ(t, neomm_paging_cpu_init(machine.root), NEOMM_E_UNSUPPORTED);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() ^ NEOMM_CR4_PAE);
    EXPECT_OK(t, neomm_paging_cpu_init(machine.root));
    high_close(t, &machine);
}

/* ---- failures ---- */

static uint64_t frames_used(struct neomm *root)
{
    struct neomm_zone_stats stats;
    uint64_t used = 0;
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++) {
        neomm_pmm_zone_stats(root, (enum neomm_zone)zone, &stats);
        used += stats.used;
    }
    return used;
}

struct failing {
    struct env env;
    struct neomm_tables tables;
    size_t large;
};

static neomm_status fail_map(struct failing *f)
{
    return neomm_paging_map(f->env.root, &f->tables, USER + f->large - 4 * PAGE, 4 * f->large,
                            3 * f->large, RW, NEOMM_CACHE_WB, NEOMM_MAP_SMALL);
}

static neomm_status fail_exchange(struct failing *f)
{
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping next = {.state = NEOMM_MAPPING_SWAPPED, .swap = {1, 1, 1}};
    return neomm_paging_exchange(f->env.root, &f->tables, USER + 16 * f->large, &none, &next, NULL);
}

static neomm_status fail_unmap(struct failing *f)
{
    size_t done = 0;
    neomm_status status = neomm_paging_unmap(f->env.root, &f->tables, 3 * (USER / 2) + PAGE,
                                             2 * f->large - 2 * PAGE, NULL, NULL, &done);
    return (done == 0) == (status != NEOMM_OK) ? status : NEOMM_E_CORRUPT;
}

static neomm_status fail_protect(struct failing *f)
{
    return neomm_paging_protect(f->env.root, &f->tables, 3 * (USER / 2) + PAGE,
                                2 * f->large - 2 * PAGE, NEOMM_PROT_READ);
}

static void count_bytes(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    (void)vaddr;
    *(size_t *)context += leaf->size * (1 + leaf->prot);
}

/* A fingerprint of what is mapped: splits do not show in it. */
static size_t contents(struct failing *f)
{
    size_t sum = 0;
    (void)neomm_paging_walk(f->env.root, &f->tables, USER, 2 * USER, count_bytes, &sum);
    return sum;
}

static void sweep(struct ktap *t, neomm_status (*operation)(struct failing *f), bool may_split)
{
    struct failing f;
    for (uint64_t n = 1;; n++) {
        ASSERT(t, open_machine(t, &f.env, 1));
        f.large = large_size(&f.env);
        EXPECT_OK(t, neomm_paging_create(f.env.root, &f.tables, 1));
        EXPECT_OK(t, neomm_paging_map(f.env.root, &f.tables, 3 * (USER / 2), 0, 2 * f.large, RW,
                                      NEOMM_CACHE_WB, 0));
        uint64_t used = frames_used(f.env.root);
        uint32_t tables = f.tables.table_frames;
        size_t before = contents(&f);
        (void)env_fault_plan(&f.env, n, false);
        neomm_status status = operation(&f);
        bool all_passed = env_fault_count(&f.env) < n;
        (void)env_fault_plan(&f.env, 0, false);
        EXPECT_EQ(t, status, all_passed ? NEOMM_OK : NEOMM_E_NOMEM);
        if (!all_passed) {
            EXPECT_EQ(t, contents(&f), before);
            EXPECT(t, may_split || frames_used(f.env.root) == used);
            EXPECT(t, may_split || f.tables.table_frames == tables);
        }
        EXPECT_OK(t, neomm_paging_unmap(f.env.root, &f.tables, USER, 2 * USER, NULL, NULL, NULL));
        EXPECT_OK(t, neomm_paging_destroy(f.env.root, &f.tables));
        env_close(t, &f.env);
        if (all_passed || t->failures != 0) {
            EXPECT(t, n > 2);
            return;
        }
    }
}

static void failures_change_nothing(struct ktap *t)
{
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    sweep(t, fail_map, false);
    sweep(t, fail_exchange, false);
    sweep(t, fail_unmap, true);
    sweep(t, fail_protect, true);
}

/* Every table of the kernel's, and of a space's start. */
static void starts_fail_cleanly(struct ktap *t)
{
    if (!NEOMM_INSTRUMENTED) {
        ktap_skip(t, "needs the instrumented flavour");
        return;
    }
    struct high_machine machine;
    struct high_options options = {.format = (enum neomm_format)t->parameter, .no_paging = true};
    ASSERT(t, high_open(t, &machine, &options));
    uint64_t used = frames_used(machine.root), n = 1;
    for (bool all_passed = false; !all_passed; n++) {
        sim_fault_plan(machine.sim, n, false);
        neomm_status status = neomm_paging_init(machine.root, NULL);
        all_passed = sim_fault_count(machine.sim) < n;
        EXPECT_EQ(t, status, all_passed ? NEOMM_OK : NEOMM_E_NOMEM);
        EXPECT(t, all_passed || frames_used(machine.root) == used);
    }
    EXPECT(t, n > 6);
    sim_fault_plan(machine.sim, 0, false);
    EXPECT_OK(t, neomm_paging_cpu_init(machine.root));
    used = frames_used(machine.root);
    struct neomm_tables tables;
    n = 1;
    for (bool all_passed = false; !all_passed; n++) {
        sim_fault_plan(machine.sim, n, false);
        neomm_status status = neomm_paging_create(machine.root, &tables, 9);
        all_passed = sim_fault_count(machine.sim) < n;
        EXPECT_EQ(t, status, all_passed ? NEOMM_OK : NEOMM_E_NOMEM);
        EXPECT(t, all_passed || frames_used(machine.root) == used);
    }
    sim_fault_plan(machine.sim, 0, false);
    EXPECT_OK(t, neomm_paging_destroy(machine.root, &tables));
    high_close(t, &machine);
}

/* ---- the life of tables ---- */

static void spaces_come_and_go(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables[3];
    neomm_paddr_t paddr;
    uint32_t error;
    ASSERT(t, open_machine(t, &env, 2));
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_OK(t, neomm_paging_create(env.root, &tables[i], i + 1));
        EXPECT_OK(t, neomm_paging_map(env.root, &tables[i], USER, (i + 1) * PAGE, PAGE, RW,
                                      NEOMM_CACHE_WB, 0));
    }
    env_fsck(t, &env);
    struct neomm_snapshot snapshot;
    neomm_snapshot_take(env.root, &snapshot);
    EXPECT_EQ(t, snapshot.table_frames, env.root->paging->table_frames);
    EXPECT_EQ(t, neomm_paging_destroy(env.root, &tables[1]), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_paging_destroy(env.root, neomm_paging_kernel(env.root)), NEOMM_E_INVALID);
    for (uint32_t i = 0; i < 3; i++) {
        neomm_paging_activate(env.root, &tables[i]);
        EXPECT(t, sim_translate(env.machine, USER, SIM_READ, true, &paddr, &error));
        EXPECT_EQ(t, paddr, (i + 1) * PAGE);
    }
    uintptr_t cr3 = neomm_cpu_read_cr3();
    neomm_paging_activate(env.root, &tables[2]); /* loaded already */
    EXPECT_EQ(t, neomm_cpu_read_cr3(), cr3);
    EXPECT_EQ(t, cr3 & ~(uintptr_t)NEOMM_CR3_PCID, neomm_frame_paddr(tables[2].top));
    EXPECT_EQ(t, tables[1].cpus.word[0], 0);
    EXPECT_EQ(t, tables[2].cpus.word[0], 1);
    env_switch_cpu(&env, 1);
    neomm_paging_activate(env.root, &tables[2]);
    EXPECT_EQ(t, tables[2].cpus.word[0], 3);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables[2], USER, PAGE, NULL, NULL, NULL));
    EXPECT_EQ(t, neomm_paging_destroy(env.root, &tables[2]), NEOMM_E_BUSY);
    for (uint32_t cpu = 0; cpu < 2; cpu++) {
        env_switch_cpu(&env, cpu);
        neomm_paging_activate(env.root, neomm_paging_kernel(env.root));
    }
    EXPECT_EQ(t, neomm_paging_fini(env.root), NEOMM_E_BUSY);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_OK(t, neomm_paging_unmap(env.root, &tables[i], USER, PAGE, NULL, NULL, NULL));
        EXPECT_OK(t, neomm_paging_destroy(env.root, &tables[i]));
        env_fsck(t, &env);
    }
    env_close(t, &env);
}

/* What the kernel maps later is in every space, without a new root entry. */
static void the_kernels_half_is_shared(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    neomm_vaddr_t vaddr;
    neomm_paddr_t paddr = 0;
    uint32_t error = 0;
    ASSERT(t, open_machine(t, &env, 1));
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    neomm_paging_activate(env.root, &tables);
    EXPECT_OK(t, neomm_window_alloc(env.root, PAGE, &vaddr));
    EXPECT_OK(t, neomm_paging_map(env.root, neomm_paging_kernel(env.root), vaddr, 7 * PAGE, PAGE,
                                  RW, NEOMM_CACHE_WB, 0));
    EXPECT(t, sim_translate(env.machine, vaddr, SIM_WRITE, false, &paddr, &error));
    EXPECT_EQ(t, paddr, 7 * PAGE);
    EXPECT(t, !sim_translate(env.machine, vaddr, SIM_READ, true, &paddr, &error));
    EXPECT_EQ(t, error, NEOMM_PF_PRESENT | NEOMM_PF_USER);
    EXPECT_OK(t, neomm_paging_unmap(env.root, neomm_paging_kernel(env.root), vaddr, PAGE, NULL,
                                    NULL, NULL));
    EXPECT(t, !sim_translate(env.machine, vaddr, SIM_WRITE, false, &paddr, &error));
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    neomm_paging_activate(env.root, neomm_paging_kernel(env.root));
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

/* What CPUID offers is on, the rest is off. */
static void check_registers(struct ktap *t, uint32_t absent)
{
    static const struct {
        uint32_t absent;
        uintptr_t bit;
    } features[] = {
        {SIM_NO_PGE, NEOMM_CR4_PGE},   {SIM_NO_PSE, NEOMM_CR4_PSE},   {SIM_NO_SMEP, NEOMM_CR4_SMEP},
        {SIM_NO_SMAP, NEOMM_CR4_SMAP}, {SIM_NO_UMIP, NEOMM_CR4_UMIP},
    };
    uintptr_t cr4 = neomm_cpu_read_cr4();
    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        EXPECT_EQ(t, (cr4 & features[i].bit) != 0, (absent & features[i].absent) == 0);
    EXPECT(t, (neomm_cpu_read_cr0() & NEOMM_CR0_WP) != 0);
    EXPECT_EQ(t, (neomm_cpu_read_msr(NEOMM_MSR_EFER) & NEOMM_EFER_NXE) != 0,
              (absent & SIM_NO_NX) == 0);
    EXPECT_EQ(t, neomm_cpu_read_msr(NEOMM_MSR_PAT), 0x0007040100070406);
}

static void cpus_without_features_work(struct ktap *t)
{
    static const uint32_t absences[] = {0,
                                        SIM_NO_NX,
                                        SIM_NO_PGE,
                                        SIM_NO_SMEP | SIM_NO_SMAP | SIM_NO_UMIP,
                                        SIM_NO_1G,
                                        SIM_NO_PSE,
                                        SIM_NO_NX | SIM_NO_PGE | SIM_NO_SMEP | SIM_NO_SMAP |
                                            SIM_NO_UMIP | SIM_NO_1G | SIM_NO_PSE};
    for (unsigned i = 0; i < sizeof(absences) / sizeof(absences[0]); i++) {
        struct high_machine machine;
        struct high_options options = {
            .format = (enum neomm_format)t->parameter, .absent = absences[i], .all_direct = true};
        struct neomm_tables tables;
        struct neomm_mapping leaf;
        neomm_paddr_t paddr;
        uint32_t error = 0;
        ASSERT(t, high_open(t, &machine, &options));
        check_registers(t, absences[i]);
        EXPECT_OK(t, neomm_paging_create(machine.root, &tables, 1));
        EXPECT_OK(t, neomm_paging_map(machine.root, &tables, USER, 8 << 20, 8 << 20, RW,
                                      NEOMM_CACHE_WB, 0));
        EXPECT_OK(t, neomm_paging_query(machine.root, &tables, USER, &leaf));
        bool no_large = (absences[i] & SIM_NO_PSE) && t->parameter == NEOMM_FORMAT_2LEVEL;
        EXPECT_EQ(t, leaf.size == PAGE, no_large);
        EXPECT_EQ(t, leaf.prot, RW);
        neomm_paging_activate(machine.root, &tables);
        EXPECT(t, sim_translate(machine.sim, USER, SIM_WRITE, true, &paddr, &error));
        bool executes = (absences[i] & SIM_NO_NX) || t->parameter == NEOMM_FORMAT_2LEVEL;
        EXPECT_EQ(t, sim_translate(machine.sim, USER, SIM_FETCH, true, &paddr, &error), executes);
        neomm_paging_activate(machine.root, neomm_paging_kernel(machine.root));
        EXPECT_OK(t, neomm_paging_unmap(machine.root, &tables, USER, 8 << 20, NULL, NULL, NULL));
        EXPECT_OK(t, neomm_paging_destroy(machine.root, &tables));
        high_close(t, &machine);
    }
}

/* ---- looking around ---- */

struct lines {
    unsigned count;
    char text[8][96];
};

static void keep_line(void *context, const char *line)
{
    struct lines *lines = context;
    if (lines->count < 8)
        strncpy(lines->text[lines->count], line, sizeof(lines->text[0]) - 1);
    lines->count++;
}

static void a_dump_merges_neighbours(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct lines lines = {0};
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping swapped = {.state = NEOMM_MAPPING_SWAPPED, .swap = {41, 0, 1}};
    ASSERT(t, open_machine(t, &env, 1));
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    EXPECT_OK(t,
              neomm_paging_map(env.root, &tables, USER, 0x5000, 4 * PAGE, RW, NEOMM_CACHE_WB, 0));
    EXPECT_OK(t, neomm_paging_protect(env.root, &tables, USER + 2 * PAGE, PAGE,
                                      NEOMM_PROT_READ | NEOMM_PROT_EXEC));
    EXPECT_OK(t, neomm_paging_protect(env.root, &tables, USER + 3 * PAGE, PAGE, NEOMM_PROT_NONE));
    EXPECT_OK(t, neomm_paging_exchange(env.root, &tables, USER + 4 * PAGE, &none, &swapped, NULL));
    swapped.swap.slot++;
    EXPECT_OK(t, neomm_paging_exchange(env.root, &tables, USER + 5 * PAGE, &none, &swapped, NULL));
    neomm_paging_dump(env.root, &tables, USER, 64 * PAGE, keep_line, &lines);
    EXPECT_EQ(t, lines.count, 4);
    EXPECT(t, strcmp(lines.text[0], "0x40000000-0x40001fff rw-u 4K -> 0x5000") == 0);
    EXPECT(t, strcmp(lines.text[1], "0x40002000-0x40002fff r-xu 4K -> 0x7000") == 0);
    EXPECT(t, strcmp(lines.text[2], "0x40003000-0x40003fff ---u 4K -> 0x8000") == 0);
    EXPECT(t, strcmp(lines.text[3], "0x40004000-0x40005fff ---u 4K -> swap 41") == 0);
    lines.count = 0;
    neomm_paging_dump(env.root, &tables, USER + 64 * PAGE, PAGE, keep_line, &lines);
    EXPECT_EQ(t, lines.count, 0);
    EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, USER, 64 * PAGE, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(the_largest_leaf_splits, formats),
    KTAP_CASE_WITH(a_large_part_of_the_largest_leaf_goes, formats),
    KTAP_CASE_WITH(leaves_are_the_largest_that_fit, formats),
    KTAP_CASE_WITH(the_direct_map_is_ram_alone, formats),
    KTAP_CASE_WITH(mistakes_are_refused, formats),
    KTAP_CASE_WITH(needs_initialisation, formats),
    KTAP_CASE_WITH(segments_are_mapped_as_told, formats),
    KTAP_CASE_WITH(the_mode_must_be_the_formats, formats),
    KTAP_CASE_WITH(failures_change_nothing, formats),
    KTAP_CASE_WITH(starts_fail_cleanly, formats),
    KTAP_CASE_WITH(spaces_come_and_go, formats),
    KTAP_CASE_WITH(the_kernels_half_is_shared, formats),
    KTAP_CASE_WITH(cpus_without_features_work, formats),
    KTAP_CASE_WITH(a_dump_merges_neighbours, formats),
};
KTAP_SUITE(paging, cases);
