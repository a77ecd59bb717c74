/* Tests of the simulated MMU: walks, rights, reserved bits, accessed and dirty bits, in all four
 * formats, against statements of the manual's rules that share nothing with sim/mmu*.c.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, chapter 4.
 */
#include "sim_tables.h"

#include "sim/mmu.h"

#include <string.h>

static const uint64_t all_formats[] = {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE, NEOMM_FORMAT_4LEVEL,
                                       NEOMM_FORMAT_5LEVEL};

static bool open_format(struct ktap *t, struct bench *bench)
{
    return bench_open(t, bench, (enum neomm_format)t->parameter, NULL);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* An address that the format and this build can have. */
static neomm_vaddr_t random_vaddr(uint64_t *state, enum neomm_format format)
{
    uint64_t x = next_random(state);
    unsigned bits = format == NEOMM_FORMAT_5LEVEL ? 57 : format == NEOMM_FORMAT_4LEVEL ? 48 : 32;
    if (sizeof(neomm_vaddr_t) == 4 || bits == 32)
        return (neomm_vaddr_t)(x & 0xffffffffu);
    return (neomm_vaddr_t)((int64_t)(x << (64 - bits)) >> (64 - bits));
}

/* ---- the walk ---- */

/* Leaves of every size at random places lead where they say, over all of their size, and leave
 * everything else alone. */
static void walk_leaves(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_format(t, &bench));
    uint64_t state = 1;
    for (unsigned i = 0; i < 200; i++) {
        unsigned level = 1 + (unsigned)(next_random(&state) % bench_leaf_levels(bench.format));
        uint64_t size = (uint64_t)1 << bench_shift(bench.format, level);
        neomm_vaddr_t base = random_vaddr(&state, bench.format) & ~(neomm_vaddr_t)(size - 1);
        neomm_paddr_t paddr = next_random(&state) & 0xffffffffu & ~(size - 1);
        neomm_paddr_t entry = bench_entry(&bench, bench.top, base, level), found;
        if (entry == 0 || (bench_load(&bench, entry) & E_P))
            continue;
        EXPECT_EQ(t, bench_access(&bench, base, SIM_READ, true, NULL), NEOMM_PF_USER);
        bench_map(&bench, base, level, paddr, E_P | E_U);
        for (unsigned j = 0; j < 8; j++) {
            uint64_t offset = j == 0 ? 0 : j == 1 ? size - 1 : next_random(&state) & (size - 1);
            found = 0;
            EXPECT_EQ(t, bench_access(&bench, base + (neomm_vaddr_t)offset, SIM_READ, true, &found),
                      BENCH_DONE);
            EXPECT(t, found == paddr + offset);
        }
        bench_store(&bench, entry, 0);
        bench_invalidate(&bench, base);
        EXPECT_EQ(t, bench_access(&bench, base, SIM_WRITE, false, NULL), NEOMM_PF_WRITE);
    }
    bench_close(t, &bench);
}

static void canonical_addresses(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_format(t, &bench));
#if UINTPTR_MAX > 0xffffffffu
    unsigned width = !bench_is_long(bench.format)          ? 32
                     : bench.format == NEOMM_FORMAT_4LEVEL ? 47
                                                           : 56;
    uint32_t fault = bench_access(&bench, 0, SIM_READ, false, NULL);
    EXPECT_EQ(t, fault, 0);
    for (unsigned bit = 0; bit < 64; bit++) {
        neomm_vaddr_t low = (neomm_vaddr_t)1 << bit, high = UINTPTR_MAX ^ low;
        EXPECT_EQ(t, bench_access(&bench, low, SIM_READ, false, NULL), bit < width ? 0 : ~0u);
        EXPECT_EQ(t, bench_access(&bench, high, SIM_READ, false, NULL),
                  width > 32 && bit < width ? 0 : ~0u);
    }
    EXPECT_EQ(t, bench_access(&bench, UINTPTR_MAX, SIM_READ, false, NULL), width > 32 ? 0 : ~0u);
#else
    EXPECT_EQ(t, bench_access(&bench, UINTPTR_MAX, SIM_READ, false, NULL), 0);
#endif
    bench_close(t, &bench);
}

/* Without paging an address is its own translation. */
static void paging_off(struct ktap *t)
{
    struct bench bench;
    neomm_paddr_t paddr = 0;
    ASSERT(t, open_format(t, &bench));
    EXPECT_EQ(t, bench_access(&bench, 0x123456, SIM_WRITE, false, NULL), NEOMM_PF_WRITE);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() & ~NEOMM_CR0_PG);
    EXPECT_EQ(t, bench_access(&bench, 0x123456, SIM_WRITE, false, &paddr), BENCH_DONE);
    EXPECT_EQ(t, paddr, 0x123456);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() | NEOMM_CR0_PG);
    bench_map(&bench, 0x123000, 1, BENCH_LEAVES, E_P | E_W);
    EXPECT_EQ(t, bench_access(&bench, 0x123456, SIM_WRITE, false, &paddr), BENCH_DONE);
    EXPECT_EQ(t, paddr, BENCH_LEAVES + 0x456);
    bench_close(t, &bench);
}

/* ---- rights ---- */

/* What a rule asks for. */
#define NEED_RW         0x01u /* R/W in every entry */
#define NEED_RW_IF_WP   0x02u /* the same, while CR0.WP */
#define NEED_AC_IF_SMAP 0x04u /* EFLAGS.AC, while CR4.SMAP */
#define NEED_NO_SMEP    0x08u
#define NEED_NO_XD      0x10u /* XD in no entry, where it has a meaning */
#define NEVER           0x20u

/* SDM 3A 4.6.1, a row a sentence: who, what, what kind of address. */
static const struct rule {
    bool user;
    enum sim_access access;
    bool user_address;
    unsigned needs;
} rules[] = {
    {false, SIM_READ, false, 0},
    {false, SIM_READ, true, NEED_AC_IF_SMAP},
    {false, SIM_WRITE, false, NEED_RW_IF_WP},
    {false, SIM_WRITE, true, NEED_RW_IF_WP | NEED_AC_IF_SMAP},
    {false, SIM_FETCH, false, NEED_NO_XD},
    {false, SIM_FETCH, true, NEED_NO_SMEP | NEED_NO_XD},
    {true, SIM_READ, false, NEVER},
    {true, SIM_READ, true, 0},
    {true, SIM_WRITE, false, NEVER},
    {true, SIM_WRITE, true, NEED_RW},
    {true, SIM_FETCH, false, NEVER},
    {true, SIM_FETCH, true, NEED_NO_XD},
};

/* One setting of everything that rights depend on. */
struct setting {
    bool wp, smep, smap, ac, nxe;
    bool rw, us, xd; /* of the translation as a whole */
};

static bool rule_grants(unsigned needs, const struct setting *s)
{
    bool granted = !(needs & NEVER);
    granted = granted && (!(needs & NEED_RW) || s->rw);
    granted = granted && (!(needs & NEED_RW_IF_WP) || !s->wp || s->rw);
    granted = granted && (!(needs & NEED_AC_IF_SMAP) || !s->smap || s->ac);
    granted = granted && (!(needs & NEED_NO_SMEP) || !s->smep);
    return granted && (!(needs & NEED_NO_XD) || !s->xd);
}

/* The outcome the manual promises; 4.7 for the error code. */
static uint32_t expected_outcome(const struct bench *bench, const struct setting *s,
                                 enum sim_access access, bool user)
{
    bool has_xd = bench->format != NEOMM_FORMAT_2LEVEL;
    uint32_t code = NEOMM_PF_PRESENT;
    code |= access == SIM_WRITE ? NEOMM_PF_WRITE : 0;
    code |= user ? NEOMM_PF_USER : 0;
    code |= access == SIM_FETCH && (s->smep || (has_xd && s->nxe)) ? NEOMM_PF_FETCH : 0;
    if (s->xd && !s->nxe)
        return code | NEOMM_PF_RESERVED;
    for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].user == user && rules[i].access == access && rules[i].user_address == s->us)
            return rule_grants(rules[i].needs, s) ? BENCH_DONE : code;
    return 0;
}

static uintptr_t with(uintptr_t value, uintptr_t bit, bool on)
{
    return on ? value | bit : value & ~bit;
}

static void set_registers(const struct setting *s)
{
    neomm_cpu_write_cr0(with(neomm_cpu_read_cr0(), NEOMM_CR0_WP, s->wp));
    uintptr_t cr4 = with(neomm_cpu_read_cr4(), NEOMM_CR4_SMEP, s->smep);
    neomm_cpu_write_cr4(with(cr4, NEOMM_CR4_SMAP, s->smap));
    uint64_t efer = neomm_cpu_read_msr(NEOMM_MSR_EFER) & ~NEOMM_EFER_NXE;
    neomm_cpu_write_msr(NEOMM_MSR_EFER, efer | (s->nxe ? NEOMM_EFER_NXE : 0));
    sim_this_cpu()->access_open = s->ac;
}

/* All accesses, each through a fresh walk and then with whatever the one before left cached. */
static void try_accesses(struct ktap *t, const struct bench *bench, neomm_vaddr_t vaddr,
                         const struct setting *s)
{
    for (unsigned fresh = 2; fresh-- > 0;)
        for (unsigned i = 0; i < 6; i++) {
            enum sim_access access = (enum sim_access)(i % 3);
            bool user = i / 3;
            if (fresh)
                neomm_cpu_invlpg(vaddr);
            uint32_t have = bench_access(bench, vaddr, access, user, NULL);
            uint32_t want = expected_outcome(bench, s, access, user);
            if (have == want)
                continue;
            ktap_note(t, "wp %d smep %d smap %d ac %d nxe %d rw %d us %d xd %d user %d access %d",
                      s->wp, s->smep, s->smap, s->ac, s->nxe, s->rw, s->us, s->xd, user, access);
            EXPECT_EQ(t, have, want);
        }
}

/* Flags of the leaf in the low bits of `flags`, of the entry above it in the next ones. */
static void set_entries(struct bench *bench, neomm_vaddr_t vaddr, unsigned level, unsigned flags,
                        struct setting *s)
{
    bool short_entries = bench->format == NEOMM_FORMAT_2LEVEL;
    bool has_parent = level < bench_top_level(bench->format) &&
                      !(bench->format == NEOMM_FORMAT_PAE && level == 2);
    uint64_t leaf = E_P | (flags & 1 ? E_W : 0) | (flags & 2 ? E_U : 0);
    uint64_t parent = E_P | (flags & 8 ? E_W : 0) | (flags & 16 ? E_U : 0);
    leaf |= !short_entries && (flags & 4) ? E_NX : 0;
    parent |= !short_entries && (flags & 32) ? E_NX : 0;
    bench_map(bench, vaddr, level, 0, leaf);
    s->rw = flags & 1;
    s->us = flags & 2;
    s->xd = leaf & E_NX;
    if (!has_parent)
        return;
    neomm_paddr_t entry = bench_entry(bench, bench->top, vaddr, level + 1);
    uint64_t keep = bench_load(bench, entry) & 0xfffffffff000u;
    bench_store(bench, entry, keep | parent);
    s->rw = s->rw && (flags & 8);
    s->us = s->us && (flags & 16);
    s->xd = s->xd || (parent & E_NX);
}

/* Every combination of R/W, U/S and XD in a leaf and above it, of CR0.WP, CR4.SMEP and SMAP,
 * EFLAGS.AC and EFER.NXE, for every access and every leaf size. */
static void rights(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t vaddr = 0x40000000u;
    ASSERT(t, open_format(t, &bench));
    for (unsigned level = 1; level <= bench_leaf_levels(bench.format); level++, vaddr <<= 1)
        for (unsigned flags = 0; flags < 64; flags++) {
            struct setting s;
            set_entries(&bench, vaddr, level, flags, &s);
            for (unsigned registers = 0; registers < 32; registers++) {
                s.wp = registers & 1;
                s.smep = registers & 2;
                s.smap = registers & 4;
                s.ac = registers & 8;
                s.nxe = registers & 16;
                set_registers(&s);
                try_accesses(t, &bench, vaddr, &s);
            }
        }
    sim_this_cpu()->access_open = false;
    bench_close(t, &bench);
}

/* Registers that change while translations are cached count at once, by the fast path too. */
static void rights_change(struct ktap *t)
{
    static const enum sim_access orders[] = {SIM_READ, SIM_FETCH, SIM_WRITE, SIM_READ};
    struct bench bench;
    uint32_t error = 0;
    struct setting s = {.nxe = true, .us = true};
    neomm_vaddr_t vaddr = 0x401000;
    ASSERT(t, open_format(t, &bench));
    bench_map(&bench, vaddr, 1, BENCH_LEAVES, E_P | E_U | E_D);
    for (unsigned i = 0; i < 256; i++) {
        unsigned bits = i ^ i >> 1; /* one changes at a time */
        s.wp = bits & 1;
        s.smep = bits & 2;
        s.smap = bits & 4;
        s.ac = bits & 8;
        set_registers(&s);
        for (unsigned j = 0; j < 8; j++) { /* the last reads leave the fast path open */
            enum sim_access access = orders[j / 2];
            const void *at = sim_reference_inline(bench.sim, vaddr, access, false, &error);
            EXPECT_EQ(t, at ? BENCH_DONE : error, expected_outcome(&bench, &s, access, false));
        }
    }
    sim_this_cpu()->access_open = false;
    bench_close(t, &bench);
}

/* ---- reserved bits ---- */

/* Bits low to high inclusive are reserved in a present entry of these formats and levels (tables
 * 4-4 to 4-20). MAX: from the physical width up. */
#define MAX 99
static const struct reserved {
    enum neomm_format from, to;
    unsigned level_from, level_to;
    enum { IN_TABLE = 1, IN_LEAF = 2, IN_BOTH = 3 } where;
    unsigned low, high;
} reserved[] = {
    {NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_2LEVEL, 2, 2, IN_LEAF, 13, 21},
    {NEOMM_FORMAT_PAE, NEOMM_FORMAT_PAE, 1, 2, IN_BOTH, MAX, 62},
    {NEOMM_FORMAT_PAE, NEOMM_FORMAT_PAE, 2, 2, IN_LEAF, 13, 20},
    {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL, 1, 5, IN_BOTH, MAX, 51},
    {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL, 2, 2, IN_LEAF, 13, 20},
    {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL, 3, 3, IN_LEAF, 13, 29},
    {NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL, 4, 5, IN_TABLE, 7, 7},
};

struct reserved_setting {
    unsigned width;
    bool nxe, pse, huge;
};

static bool is_reserved(enum neomm_format format, unsigned level, bool leaf, unsigned bit,
                        const struct reserved_setting *s)
{
    for (unsigned i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        const struct reserved *r = &reserved[i];
        unsigned low = r->low == MAX ? s->width : r->low;
        if (format >= r->from && format <= r->to && level >= r->level_from &&
            level <= r->level_to && (r->where & (leaf ? IN_LEAF : IN_TABLE)) && bit >= low &&
            bit <= r->high)
            return true;
    }
    if (bit == 7 && level == 3 && bench_is_long(format) && !s->huge)
        return true;
    return bit == 63 && format != NEOMM_FORMAT_2LEVEL && !s->nxe;
}

/* One bit in one entry of the path to a leaf: reserved or not. */
static void try_bit(struct ktap *t, struct bench *bench, neomm_vaddr_t vaddr, unsigned leaf_level,
                    unsigned level, unsigned bit, const struct reserved_setting *s)
{
    neomm_paddr_t entry = bench_entry(bench, bench->top, vaddr, level);
    uint64_t value = bench_load(bench, entry);
    bool leaf = level == leaf_level;
    bool address = !leaf && bit >= 12 && !is_reserved(bench->format, level, leaf, bit, s) &&
                   bit < (bench->format == NEOMM_FORMAT_2LEVEL ? 32u : 52u);
    bool other_size = bit == 7 && !is_reserved(bench->format, level, leaf, bit, s) && level > 1;
    if (address || other_size || bit == 0 || (value >> bit & 1))
        return;
    bench_store(bench, entry, value | (uint64_t)1 << bit);
    bench_invalidate(bench, vaddr);
    uint32_t have = bench_access(bench, vaddr, SIM_READ, false, NULL);
    uint32_t want = is_reserved(bench->format, level, leaf, bit, s)
                        ? NEOMM_PF_PRESENT | NEOMM_PF_RESERVED
                        : BENCH_DONE;
    if (have != want)
        ktap_note(t, "bit %u of level %u, leaf at level %u, width %u, nxe %d", bit, level,
                  leaf_level, s->width, s->nxe);
    EXPECT_EQ(t, have, want);
    bench_store(bench, entry, value);
    bench_invalidate(bench, vaddr);
}

static void reserved_bits_of(struct ktap *t, const struct sim_options *options, bool nxe)
{
    enum neomm_format format = (enum neomm_format)t->parameter;
    struct bench bench;
    neomm_vaddr_t vaddr = 0x40000000u;
    ASSERT(t, bench_open(t, &bench, format, options));
    struct reserved_setting s = {bench.sim->options.physical_bits, nxe, true,
                                 !(options->absent & SIM_NO_1G)};
    if (!nxe)
        neomm_cpu_write_msr(NEOMM_MSR_EFER, neomm_cpu_read_msr(NEOMM_MSR_EFER) & ~NEOMM_EFER_NXE);
    unsigned top = bench_top_level(format);
    unsigned bits = format == NEOMM_FORMAT_2LEVEL ? 32 : 64;
    for (unsigned leaf = 1; leaf <= bench_leaf_levels(format); leaf++, vaddr <<= 1) {
        if (leaf == 3 && !s.huge)
            break;
        bench_map(&bench, vaddr, leaf, 0, E_P | E_W);
        for (unsigned level = leaf; level <= top; level++)
            for (unsigned bit = 0; bit < bits; bit++)
                if (!(format == NEOMM_FORMAT_PAE && level == 3))
                    try_bit(t, &bench, vaddr, leaf, level, bit, &s);
    }
    bench_close(t, &bench);
}

static void reserved_bits(struct ktap *t)
{
    static const uint32_t widths[] = {32, 36, 40, 46, 51, 52};
    for (unsigned i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
        for (unsigned other = 0; other < 4; other++) {
            struct sim_options options = {.physical_bits = widths[i],
                                          .absent = other & 2 ? SIM_NO_1G : 0};
            reserved_bits_of(t, &options, other & 1);
        }
}

/* Bits of an entry that is not present mean nothing, and without CR4.PSE neither does PS. */
static void ignored_bits(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, open_format(t, &bench));
    neomm_vaddr_t vaddr = 0x401000;
    neomm_paddr_t entry = bench_entry(&bench, bench.top, vaddr, 1);
    uint64_t ones = bench.format == NEOMM_FORMAT_2LEVEL ? 0xfffffffeu : ~(uint64_t)1;
    bench_store(&bench, entry, ones);
    EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_READ, false, NULL), 0);
    if (bench.format == NEOMM_FORMAT_2LEVEL) {
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PSE);
        bench_store(&bench, entry, BENCH_LEAVES | E_P);
        neomm_paddr_t directory = bench_entry(&bench, bench.top, vaddr, 2), found = 0;
        bench_store(&bench, directory, bench_load(&bench, directory) | E_PS);
        EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_READ, false, &found), BENCH_DONE);
        EXPECT_EQ(t, found, BENCH_LEAVES);
    }
    bench_close(t, &bench);
}

/* A PDPTE is checked when it is loaded, and only if it is present. */
static void pdpte_reserved(struct ktap *t)
{
    struct bench bench;
    ASSERT(t, bench_open(t, &bench, NEOMM_FORMAT_PAE, NULL));
    bench_map(&bench, 0x1000, 1, BENCH_LEAVES, E_P);
    neomm_paddr_t other = bench_table(&bench);
    uint64_t good = bench_load(&bench, bench.top);
    for (unsigned bit = 1; bit < 64; bit++) {
        bool bad = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) ||
                   bit >= bench.sim->options.physical_bits;
        bool ignored = bit == 3 || bit == 4 || (bit >= 9 && bit <= 11);
        if (!bad && !ignored)
            continue;
        bench_store(&bench, other, (good ^ E_P) | (uint64_t)1 << bit);
        neomm_cpu_write_cr3((uintptr_t)other);
        EXPECT_EQ(t, bench_violations(&bench), 0);
        EXPECT_EQ(t, bench_access(&bench, 0x1000, SIM_READ, false, NULL), 0);
        neomm_cpu_write_cr3((uintptr_t)bench.top);
        bench_store(&bench, other, good | (uint64_t)1 << bit);
        neomm_cpu_write_cr3((uintptr_t)other);
        EXPECT_EQ(t, bench_violations(&bench), bad);
        EXPECT_EQ(t, bench_access(&bench, 0x1000, SIM_READ, false, NULL), BENCH_DONE);
    }
    bench_close(t, &bench);
}

/* ---- accessed and dirty ---- */

static uint64_t marks(struct bench *bench, neomm_vaddr_t vaddr, unsigned level)
{
    return bench_load(bench, bench_entry(bench, bench->top, vaddr, level)) & (E_A | E_D);
}

static void accessed_and_dirty(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t vaddr = 0x40000000u;
    ASSERT(t, open_format(t, &bench));
    unsigned top = bench_top_level(bench.format);
    for (unsigned leaf = 1; leaf <= bench_leaf_levels(bench.format); leaf++, vaddr <<= 1) {
        bench_map(&bench, vaddr, leaf, 0, E_P | E_W);
        EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_READ, true, NULL),
                  NEOMM_PF_PRESENT | NEOMM_PF_USER);
        EXPECT_EQ(t, marks(&bench, vaddr, leaf), 0);
        EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_FETCH, false, NULL), BENCH_DONE);
        EXPECT_EQ(t, marks(&bench, vaddr, leaf), E_A);
        EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_WRITE, false, NULL), BENCH_DONE);
        EXPECT_EQ(t, marks(&bench, vaddr, leaf), E_A | E_D);
        for (unsigned level = leaf + 1; level <= top; level++)
            if (!(bench.format == NEOMM_FORMAT_PAE && level == 3))
                EXPECT_EQ(t, marks(&bench, vaddr, level), E_A);

        /* Not set again while an entry with them is cached, and once it is gone. */
        neomm_paddr_t entry = bench_entry(&bench, bench.top, vaddr, leaf);
        bench_store(&bench, entry, bench_load(&bench, entry) & ~(E_A | E_D));
        EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_WRITE, false, NULL), BENCH_DONE);
        EXPECT_EQ(t, marks(&bench, vaddr, leaf), 0);
        bench_invalidate(&bench, vaddr);
        EXPECT_EQ(t, bench_access(&bench, vaddr, SIM_WRITE, false, NULL), BENCH_DONE);
        EXPECT_EQ(t, marks(&bench, vaddr, leaf), E_A | E_D);
    }
    bench_close(t, &bench);
}

/* ---- counting, host pointers ---- */

static void expect_stats(struct ktap *t, const struct bench *bench, uint64_t hits, uint64_t walks,
                         uint64_t faults)
{
    struct sim_tlb_stats stats;
    sim_tlb_stats(bench->sim, &stats);
    EXPECT_EQ(t, stats.hits, hits);
    EXPECT_EQ(t, stats.walks, walks);
    EXPECT_EQ(t, stats.faults, faults);
}

static void counting(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t vaddr = 0x401000;
    ASSERT(t, open_format(t, &bench));
    expect_stats(t, &bench, 0, 0, 0);
    (void)bench_access(&bench, vaddr, SIM_READ, false, NULL);
    expect_stats(t, &bench, 0, 0, 1);
    bench_map(&bench, vaddr, 1, BENCH_LEAVES, E_P | E_W);
    (void)bench_access(&bench, vaddr, SIM_READ, false, NULL);
    expect_stats(t, &bench, 0, 1, 1);
    (void)bench_access(&bench, vaddr, SIM_FETCH, false, NULL);
    (void)bench_access(&bench, vaddr + 5, SIM_READ, false, NULL);
    expect_stats(t, &bench, 2, 1, 1);
    (void)bench_access(&bench, vaddr, SIM_WRITE, false, NULL); /* clean until now */
    expect_stats(t, &bench, 2, 2, 1);
    (void)bench_access(&bench, vaddr, SIM_WRITE, false, NULL);
    expect_stats(t, &bench, 3, 2, 1);
    (void)bench_access(&bench, vaddr, SIM_READ, true, NULL);
    expect_stats(t, &bench, 3, 2, 2);
    bench_close(t, &bench);
}

/* References through all three ways in agree, are counted alike and reach the RAM. */
static void references(struct ktap *t)
{
    struct bench bench;
    neomm_vaddr_t vaddr = 0x401000;
    neomm_paddr_t paddr;
    uint32_t error;
    struct sim_tlb_stats stats;
    ASSERT(t, open_format(t, &bench));
    bench_map(&bench, vaddr, 1, BENCH_LEAVES + NEOMM_PAGE_SIZE, E_P | E_W | E_U);
    for (unsigned i = 0; i < 300; i++) {
        uint32_t offset = i * 13 % NEOMM_PAGE_SIZE;
        uint8_t *at =
            i % 3 == 0 ? sim_reference(bench.sim, vaddr + offset, SIM_WRITE, true, &error)
                       : sim_reference_inline(bench.sim, vaddr + offset, SIM_WRITE, true, &error);
        ASSERT(t, at != NULL);
        *at = (uint8_t)i;
        uint8_t stored = 0;
        EXPECT_EQ(t, bench_access(&bench, vaddr + offset, SIM_READ, true, &paddr), BENCH_DONE);
        EXPECT(t, sim_physical_read(bench.sim, paddr, &stored, 1));
        EXPECT_EQ(t, stored, (uint8_t)i);
        if (i % 10 == 9)
            bench_invalidate(&bench, vaddr);
        sim_tlb_stats(bench.sim, &stats);
        EXPECT_EQ(t, stats.hits + stats.walks, 2 * i + 2);
        EXPECT_EQ(t, stats.walks, i / 10 + 1);
    }
    neomm_paddr_t entry = bench_entry(&bench, bench.top, vaddr, 1);
    bench_store(&bench, entry, bench_load(&bench, entry) & ~E_D);
    bench_invalidate(&bench, vaddr);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(t, sim_reference_inline(bench.sim, vaddr, SIM_READ, true, &error) != NULL);
    EXPECT_EQ(t, bench_load(&bench, entry) & E_D, 0);
    EXPECT(t, sim_reference_inline(bench.sim, vaddr, SIM_WRITE, true, &error) != NULL);
    EXPECT_EQ(t, bench_load(&bench, entry) & E_D, E_D);
    EXPECT(t, sim_reference_inline(bench.sim, vaddr + 0x1000, SIM_READ, true, &error) == NULL);
    EXPECT_EQ(t, error, NEOMM_PF_USER);
    bench_map(&bench, vaddr + 0x1000, 1, BENCH_RAM, E_P | E_U);
    EXPECT(t, sim_reference_inline(bench.sim, vaddr + 0x1000, SIM_READ, true, &error) == NULL);
    EXPECT_EQ(t, error, SIM_ERROR_NO_PAGE_FAULT);
    bench_close(t, &bench);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(walk_leaves, all_formats),
    KTAP_CASE_WITH(canonical_addresses, all_formats),
    KTAP_CASE_WITH(paging_off, all_formats),
    KTAP_CASE_WITH(rights, all_formats),
    KTAP_CASE_WITH(rights_change, all_formats),
    KTAP_CASE_WITH(reserved_bits, all_formats),
    KTAP_CASE_WITH(ignored_bits, all_formats),
    KTAP_CASE(pdpte_reserved),
    KTAP_CASE_WITH(accessed_and_dirty, all_formats),
    KTAP_CASE_WITH(counting, all_formats),
    KTAP_CASE_WITH(references, all_formats),
};
KTAP_SUITE(sim_mmu, cases);
