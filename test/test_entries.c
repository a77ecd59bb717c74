/* Entries of page tables: what each format writes, against the manual's bits, by exhaustion.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "paging/tables.h"

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

/* What the manual says of a present entry (SDM 3A tables 4-5, 4-6, 4-10, 4-11, 4-18 to 4-20). */
static uint64_t manual_entry(enum neomm_format format, unsigned level, bool user,
                             const struct neomm_mapping *m)
{
    uint64_t entry = m->paddr | 1;
    entry |= m->prot & NEOMM_PROT_WRITE ? 1u << 1 : 0;
    entry |= user ? 1u << 2 : 0;
    entry |= m->cache == NEOMM_CACHE_WT || m->cache == NEOMM_CACHE_UC ? 1u << 3 : 0;
    entry |= m->cache == NEOMM_CACHE_UC_MINUS || m->cache == NEOMM_CACHE_UC ? 1u << 4 : 0;
    if (m->cache == NEOMM_CACHE_WC)
        entry |= level == 0 ? 1u << 7 : 1u << 12;
    entry |= m->accessed ? 1u << 5 : 0;
    entry |= m->dirty ? 1u << 6 : 0;
    entry |= level > 0 ? 1u << 7 : 0;
    entry |= !user ? 1u << 8 : 0;
    if (format != NEOMM_FORMAT_2LEVEL && !(m->prot & NEOMM_PROT_EXEC))
        entry |= (uint64_t)1 << 63;
    return entry;
}

static void check_leaf_entry(struct ktap *t, const struct env *env, unsigned level, bool user,
                             const struct neomm_mapping *m)
{
    const struct neomm__engine *engine = env->root->paging->engine;
    const uint64_t ours = 0xe00; /* bits 9 to 11 are left to software */
    uint64_t entry = engine->encode(env->root->paging, level, user, m);
    struct neomm_mapping back;
    engine->decode(level, entry, &back);
    if (m->prot == NEOMM_PROT_NONE) {
        EXPECT(t, entry != 0 && !(entry & 1));
        /* A CPU that speculates on it must find no memory there. */
        EXPECT(t, env->options.format == NEOMM_FORMAT_2LEVEL ||
                      (entry & 0x000ffffffffff000) >= (uint64_t)1 << 44);
    } else {
        EXPECT_EQ(t, entry & ~ours, manual_entry(env->options.format, level, user, m));
    }
    EXPECT_EQ(t, back.state, m->state);
    EXPECT_EQ(t, back.prot, m->prot);
    EXPECT_EQ(t, back.paddr, m->paddr);
    EXPECT_EQ(t, back.cache, m->cache);
    EXPECT_EQ(t, back.accessed, m->accessed);
    EXPECT_EQ(t, back.dirty, m->dirty);
}

static const neomm_prot_t all_prots[] = {NEOMM_PROT_NONE, NEOMM_PROT_READ, RW,
                                         NEOMM_PROT_READ | NEOMM_PROT_EXEC};

#define CACHES (NEOMM_CACHE_WC + 1u)

static void leaf_entries_are_the_manuals(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_machine(t, &env, 1));
    uint32_t levels = 1u | env.root->paging->engine->large_levels;
    unsigned bits = env.options.format == NEOMM_FORMAT_2LEVEL ? 10 : 9;
    for (unsigned level = 0; level < 3; level++) {
        for (unsigned i = 0; (levels >> level & 1u) != 0 && i < 64 * CACHES; i++) {
            unsigned flags = i / CACHES;
            struct neomm_mapping m = {
                .state = NEOMM_MAPPING_PRESENT,
                .prot = all_prots[flags & 3],
                .cache = (enum neomm_cache)(i % CACHES),
                .accessed = (flags & 4) != 0,
                .dirty = (flags & 8) != 0,
                .paddr = (neomm_paddr_t)(flags & 16 ? 3 : 0) << (12 + bits * level),
            };
            check_leaf_entry(t, &env, level, (flags & 32) != 0, &m);
        }
    }
    env_close(t, &env);
}

static void swap_entries_come_back(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_machine(t, &env, 1));
    const struct neomm__engine *engine = env.root->paging->engine;
    bool small = env.options.format == NEOMM_FORMAT_2LEVEL;
    unsigned slot_bits = small ? 24 : 32, generation_bits = small ? 5 : 16;
    for (unsigned kind = 1; kind <= 3; kind++) {
        for (unsigned s = 0; s <= 2 * slot_bits; s++) {
            for (unsigned g = 0; g <= 2 * generation_bits; g++) {
                /* Every single bit, and everything below it. */
                uint64_t slot = ((uint64_t)1 << s / 2) - s % 2;
                uint64_t generation = ((uint64_t)1 << g / 2) - g % 2;
                struct neomm_mapping back, m = {.state = NEOMM_MAPPING_SWAPPED};
                m.swap.kind = (uint16_t)kind;
                m.swap.slot = (uint32_t)(slot & (((uint64_t)1 << slot_bits) - 1));
                m.swap.generation = (uint16_t)(generation & ((1u << generation_bits) - 1));
                uint64_t entry = engine->encode(env.root->paging, 0, true, &m);
                engine->decode(0, entry, &back);
                EXPECT(t, entry != 0 && !(entry & 1));
                EXPECT_EQ(t, back.state, NEOMM_MAPPING_SWAPPED);
                EXPECT_EQ(t, back.swap.kind, m.swap.kind);
                EXPECT_EQ(t, back.swap.slot, m.swap.slot);
                EXPECT_EQ(t, back.swap.generation, m.swap.generation);
                EXPECT(t, small || m.swap.slot >> 31 ||
                              (entry & 0x000ffffffffff000) >= (uint64_t)1 << 51);
            }
        }
    }
    env_close(t, &env);
}

static void swap_entries_that_do_not_fit(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping next = {.state = NEOMM_MAPPING_SWAPPED, .swap = {1, 1, 0}};
    bool small = t->parameter == NEOMM_FORMAT_2LEVEL;
    ASSERT(t, open_machine(t, &env, 1));
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    EXPECT_EQ(t, neomm_paging_exchange(env.root, &tables, USER, &none, &next, NULL),
              NEOMM_E_RANGE); /* kind 0 is nil */
    next.swap.kind = 4;
    EXPECT_EQ(t, neomm_paging_exchange(env.root, &tables, USER, &none, &next, NULL), NEOMM_E_RANGE);
    next.swap = (struct neomm_swap_entry){1u << 24, 0, 1};
    EXPECT_EQ(t, neomm_paging_exchange(env.root, &tables, USER, &none, &next, NULL),
              small ? NEOMM_E_RANGE : NEOMM_OK);
    struct neomm_mapping last = small ? none : next;
    next.swap = (struct neomm_swap_entry){2, 32, 1};
    EXPECT_EQ(t, neomm_paging_exchange(env.root, &tables, USER, &last, &next, NULL),
              small ? NEOMM_E_RANGE : NEOMM_OK);
    EXPECT_EQ(t, neomm_paging_destroy(env.root, &tables), small ? NEOMM_OK : NEOMM_E_BUSY);
    if (!small) {
        EXPECT_OK(t, neomm_paging_unmap(env.root, &tables, USER, PAGE, NULL, NULL, NULL));
        EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    }
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(leaf_entries_are_the_manuals, formats),
    KTAP_CASE_WITH(swap_entries_come_back, formats),
    KTAP_CASE_WITH(swap_entries_that_do_not_fit, formats),
};
KTAP_SUITE(entries, cases);
