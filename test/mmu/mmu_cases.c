/* Cases for the MMU comparison: tables with one or two ways down, mishaps on the way, and a few
 * accesses.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, tables 4-4 to 4-20 (formats of entries).
 */
#include "mmu_cases.h"

#include "sim_tables.h"

#include <string.h>

#define CASES_OF_A_CONTROL 16
#define GIB_SHIFT          30
#define GIB                ((uint64_t)1 << GIB_SHIFT)
#define PDPT_SIZE          32u
#define CR3_FLAGS          0x18u /* PWT, PCD */
#define OUTSIDE_BIT        33u   /* as an address bit, behind RAM */

/* ---- memory ---- */

uint64_t mmu_block(unsigned index)
{
    static const uint64_t gib[] = {1, 2, 4, 5};
    static const uint64_t inside[] = {0, 0x15400000, 0x3f800000};
    return gib[index / 3] * GIB + inside[index % 3];
}

void mmu_page_fill(void *page, uint64_t paddr)
{
    uint32_t frame = (uint32_t)(paddr >> NEOMM_PAGE_SHIFT);
    uint64_t unit[2] = {UNIT_LOAD | (uint64_t)frame << 8 | (uint64_t)UNIT_BREAK << 40 |
                            (uint64_t)UNIT_BREAK << 48 | (uint64_t)UNIT_BREAK << 56,
                        0};
    for (unsigned at = 0; at < NEOMM_PAGE_SIZE; at += UNIT_SIZE)
        memcpy((char *)page + at, unit, sizeof(unit));
}

/* ---- chance ---- */

static uint32_t below(struct mmu_maker *maker, uint32_t n)
{
    return mmu_random(&maker->random, n);
}

static bool chance(struct mmu_maker *maker, uint32_t in_hundred)
{
    return below(maker, 100) < in_hundred;
}

static bool mishap(struct mmu_maker *maker)
{
    return below(maker, 1000) < maker->mishaps;
}

/* One of the bits [low, high), 0 if there is none. */
static uint64_t one_bit(struct mmu_maker *maker, unsigned low, unsigned high)
{
    return low < high ? (uint64_t)1 << (low + below(maker, high - low)) : 0;
}

void mmu_maker_init(struct mmu_maker *maker, const struct mmu_cpu *cpu, uint64_t seed)
{
    *maker = (struct mmu_maker){.cpu = cpu, .random = seed};
}

/* ---- the shape of tables ---- */

static unsigned entry_size(const struct mmu_cpu *cpu)
{
    return cpu->format == NEOMM_FORMAT_2LEVEL ? 4 : 8;
}

/* Entries of a table of this level. */
static uint32_t entry_count(const struct mmu_cpu *cpu, unsigned level)
{
    if (cpu->format == NEOMM_FORMAT_PAE && level == 3)
        return 4;
    return NEOMM_PAGE_SIZE / entry_size(cpu);
}

/* With PAE, the directory that all roots share, and its entry in them. */
static const struct case_entry pae_last = {0, CHANNEL_PAE_LAST | E_P};

static bool in_pae_last(const struct mmu_cpu *cpu, uint64_t vaddr)
{
    return cpu->format == NEOMM_FORMAT_PAE && vaddr >> GIB_SHIFT == 3;
}

/* Entries that cases may use in the table of this level that an address leads to: the guest lives
 * behind them. */
static uint32_t open_entries(const struct mmu_cpu *cpu, uint64_t vaddr, unsigned level)
{
    uint32_t count = entry_count(cpu, level);
    if (cpu->format == NEOMM_FORMAT_2LEVEL)
        return level == 2 ? count - (CHANNEL_END >> 22) : count;
    if (cpu->format == NEOMM_FORMAT_PAE)
        return level == 2 && in_pae_last(cpu, vaddr) ? count - (CHANNEL_END >> 21) : count;
    return level == bench_top_level(cpu->format) ? count - 1 : count;
}

static uint64_t entry_place(const struct mmu_cpu *cpu, uint64_t table, uint64_t vaddr,
                            unsigned level)
{
    uint64_t index = vaddr >> bench_shift(cpu->format, level);
    return table + index % entry_count(cpu, level) * entry_size(cpu);
}

uint64_t mmu_case_root(const struct mmu_cpu *cpu, const struct mmu_case *c)
{
    return c->root & (cpu->format == NEOMM_FORMAT_PAE ? ~(uint64_t)(PDPT_SIZE - 1)
                                                      : ~(uint64_t)(NEOMM_PAGE_SIZE - 1));
}

static const struct case_entry *find(const struct mmu_case *c, uint64_t at)
{
    for (unsigned i = 0; i < c->entries; i++)
        if (c->entry[i].at == at)
            return &c->entry[i];
    return NULL;
}

/* The entry of a table for an address; NULL: the case has none. */
static const struct case_entry *find_for(const struct mmu_cpu *cpu, const struct mmu_case *c,
                                         uint64_t table, uint64_t vaddr, unsigned level)
{
    if (level == 3 && in_pae_last(cpu, vaddr))
        return &pae_last;
    return find(c, entry_place(cpu, table, vaddr, level));
}

/* Tables lie below 4 GiB: what is above in an entry is a mishap. */
static uint64_t table_of(uint64_t value)
{
    return value & 0xfffff000u;
}

const struct case_entry *mmu_case_entry(const struct mmu_cpu *cpu, const struct mmu_case *c,
                                        uint64_t vaddr, unsigned level)
{
    uint64_t table = mmu_case_root(cpu, c);
    for (unsigned at = bench_top_level(cpu->format);; at--) {
        const struct case_entry *entry = find_for(cpu, c, table, vaddr, at);
        if (!entry || at == level)
            return entry;
        table = table_of(entry->value);
    }
}

static uint64_t new_table(struct mmu_maker *maker)
{
    uint32_t index = (maker->first_table + maker->tables++) % CHANNEL_TABLE_COUNT;
    return CHANNEL_TABLES + (uint64_t)index * CHANNEL_TABLE_STEP;
}

/* ---- entries ---- */

/* Bits that the format reserves above the address, or that are ignored there. */
static uint64_t high_bits(struct mmu_maker *maker)
{
    const struct mmu_cpu *cpu = maker->cpu;
    uint64_t bits = 0;
    if (cpu->format == NEOMM_FORMAT_2LEVEL)
        return 0;
    if (mishap(maker))
        bits |= one_bit(maker, cpu->physical_bits, 52);
    if (cpu->format == NEOMM_FORMAT_PAE)
        bits |= mishap(maker) ? one_bit(maker, 52, 63) : 0;
    else
        bits |= (uint64_t)below(maker, 0x800) << 52;
    if (chance(maker, maker->strict / 2))
        bits |= E_NX;
    return bits;
}

static uint64_t random_flags(struct mmu_maker *maker)
{
    uint64_t flags = below(maker, 0x1000) & ~(E_P | E_W | E_U | E_PS);
    flags |= mishap(maker) ? 0 : E_P;
    flags |= chance(maker, maker->strict) ? 0 : E_W;
    flags |= chance(maker, maker->strict) ? 0 : E_U;
    return flags;
}

/* A PDPTE of PAE: P, PWT, PCD and bits 9 to 11. */
static uint64_t pae_top_entry(struct mmu_maker *maker, uint64_t table)
{
    uint64_t value = table | (below(maker, 0x1000) & 0xe18) | (mishap(maker) ? 0 : E_P);
    if (mishap(maker) && chance(maker, 30))
        value |= one_bit(maker, 1, 3) | one_bit(maker, 5, 9);
    if (mishap(maker) && chance(maker, 30))
        value |= one_bit(maker, maker->cpu->physical_bits, 64);
    return value;
}

static uint64_t table_entry(struct mmu_maker *maker, unsigned level)
{
    uint64_t table = new_table(maker);
    if (maker->cpu->format == NEOMM_FORMAT_PAE && level == 3)
        return pae_top_entry(maker, table);
    return table | random_flags(maker) | high_bits(maker) | (mishap(maker) ? E_PS : 0);
}

/* The first byte of a page of this level that may be reached. */
static uint64_t page_base(struct mmu_maker *maker, unsigned level)
{
    unsigned blocks = maker->cpu->format == NEOMM_FORMAT_2LEVEL ? MMU_BLOCKS / 2 : MMU_BLOCKS;
    uint64_t block = mmu_block(below(maker, blocks));
    uint64_t size = (uint64_t)1 << bench_shift(maker->cpu->format, level);
    if (size >= MMU_BLOCK_SIZE)
        return block & ~(size - 1);
    return block + below(maker, (uint32_t)(MMU_BLOCK_SIZE / size)) * size;
}

/* An address bit that the CPU has and RAM has not. */
static uint64_t outside_bit(struct mmu_maker *maker)
{
    if (maker->cpu->format == NEOMM_FORMAT_2LEVEL || !mishap(maker))
        return 0;
    maker->no_fetch = true;
    return one_bit(maker, OUTSIDE_BIT, maker->cpu->physical_bits);
}

static uint64_t leaf_entry(struct mmu_maker *maker, unsigned level)
{
    const struct mmu_cpu *cpu = maker->cpu;
    uint64_t value = page_base(maker, level) | random_flags(maker) | high_bits(maker);
    if (level == 1)
        return value | (chance(maker, 50) ? E_PS : 0) /* PAT */ | outside_bit(maker);
    value |= mishap(maker) ? 0 : E_PS;
    value |= chance(maker, 50) ? (uint64_t)1 << 12 : 0; /* PAT */
    if (mishap(maker)) {
        value |= one_bit(maker, 13, bench_shift(cpu->format, level));
        maker->no_fetch |= cpu->format == NEOMM_FORMAT_2LEVEL;
    }
    /* What a table outside RAM holds is no affair of the MMU's: only pages lie there. */
    return value & E_PS ? value | outside_bit(maker) : value;
}

static void add_entry(struct mmu_case *c, uint64_t at, uint64_t value)
{
    c->entry[c->entries].at = at;
    c->entry[c->entries++].value = value;
}

/* ---- addresses ---- */

/* Offsets in a page of this level that lead into a block, to the beginning of a unit. */
static uint64_t page_offset(struct mmu_maker *maker, unsigned level)
{
    uint64_t size = (uint64_t)1 << bench_shift(maker->cpu->format, level);
    uint64_t inside = size < MMU_BLOCK_SIZE ? size : MMU_BLOCK_SIZE;
    uint64_t offset = (uint64_t)below(maker, (uint32_t)(inside / UNIT_SIZE)) * UNIT_SIZE;
    return level == 3 ? offset | (mmu_block(below(maker, 3)) & (GIB - 1)) : offset;
}

/* The bits above those that are translated repeat the highest of these. */
static uint64_t canonical(const struct mmu_cpu *cpu, uint64_t vaddr)
{
    if (!bench_is_long(cpu->format))
        return vaddr & UINT32_MAX;
    unsigned spare = 64 - 9 - bench_shift(cpu->format, bench_top_level(cpu->format));
    return (uint64_t)((int64_t)(vaddr << spare) >> spare);
}

static uint64_t with_index(const struct mmu_cpu *cpu, uint64_t vaddr, unsigned level,
                           uint64_t index)
{
    unsigned shift = bench_shift(cpu->format, level);
    uint64_t mask = (uint64_t)(entry_count(cpu, level) - 1) << shift;
    return (vaddr & ~mask) | index << shift;
}

/* The same address down to `level`, where it takes another way. */
static uint64_t turn_off(struct mmu_maker *maker, uint64_t vaddr, unsigned level)
{
    const struct mmu_cpu *cpu = maker->cpu;
    for (unsigned at = level; at > 0; at--)
        vaddr = with_index(cpu, vaddr, at, below(maker, open_entries(cpu, vaddr, at)));
    return canonical(cpu, vaddr);
}

/* Entries for an address from the root to a leaf; those that are there stay as they are. */
static void add_way(struct mmu_maker *maker, struct mmu_case *c, uint64_t vaddr, unsigned leaf)
{
    const struct mmu_cpu *cpu = maker->cpu;
    uint64_t table = mmu_case_root(cpu, c);
    for (unsigned level = bench_top_level(cpu->format); level >= leaf; level--) {
        const struct case_entry *entry = find_for(cpu, c, table, vaddr, level);
        if (!entry) {
            add_entry(c, entry_place(cpu, table, vaddr, level),
                      level == leaf ? leaf_entry(maker, level) : table_entry(maker, level));
            entry = &c->entry[c->entries - 1];
        }
        table = table_of(entry->value);
    }
}

/* ---- a case ---- */

struct way {
    uint64_t vaddr;
    unsigned leaf;
};

static unsigned leaf_level(struct mmu_maker *maker, unsigned most)
{
    unsigned levels = bench_leaf_levels(maker->cpu->format);
    return 1 + below(maker, levels < most ? levels : most);
}

static void make_ways(struct mmu_maker *maker, struct mmu_case *c, struct way way[2])
{
    unsigned top = bench_top_level(maker->cpu->format);
    way[0].vaddr = turn_off(maker, 0, top);
    way[0].leaf = leaf_level(maker, top);
    add_way(maker, c, way[0].vaddr, way[0].leaf);
    way[1] = way[0];
    if (chance(maker, 50))
        return;
    unsigned at = way[0].leaf + below(maker, top - way[0].leaf + 1);
    way[1].vaddr = turn_off(maker, way[0].vaddr, at);
    if (mmu_case_entry(maker->cpu, c, way[1].vaddr, at)) {
        way[1] = way[0]; /* the same way by chance */
        return;
    }
    way[1].leaf = leaf_level(maker, at);
    add_way(maker, c, way[1].vaddr, way[1].leaf);
}

static bool in_page(const struct mmu_cpu *cpu, const struct way *way, uint64_t vaddr)
{
    unsigned shift = bench_shift(cpu->format, way->leaf);
    return vaddr >> shift == way->vaddr >> shift;
}

/* An address as those of a way, or one beside both, or one that is none. */
static uint64_t make_address(struct mmu_maker *maker, const struct way way[2])
{
    const struct mmu_cpu *cpu = maker->cpu;
    const struct way *in = &way[below(maker, 2)];
    unsigned top = bench_top_level(cpu->format);
    uint64_t size = (uint64_t)1 << bench_shift(cpu->format, in->leaf);
    uint64_t vaddr = (in->vaddr & ~(size - 1)) | page_offset(maker, in->leaf);
    if (chance(maker, 3)) {
        uint64_t beside =
            turn_off(maker, vaddr, 1 + below(maker, top)) & ~(uint64_t)(UNIT_SIZE - 1);
        return in_page(cpu, &way[0], beside) || in_page(cpu, &way[1], beside) ? vaddr : beside;
    }
    if (bench_is_long(cpu->format) && chance(maker, 2))
        return vaddr ^ one_bit(maker, bench_shift(cpu->format, top) + 9, 64);
    return vaddr;
}

static void make_access(struct mmu_maker *maker, const struct way way[2], struct case_access *a)
{
    static const uint32_t kind_of[] = {ACCESS_READ,  ACCESS_READ,  ACCESS_READ,     ACCESS_WRITE,
                                       ACCESS_WRITE, ACCESS_WRITE, ACCESS_EXCHANGE, ACCESS_FETCH,
                                       ACCESS_FETCH, ACCESS_FETCH};
    uint32_t kind = kind_of[below(maker, maker->no_fetch ? 7 : 10)];
    a->vaddr = make_address(maker, way);
    if (kind == ACCESS_WRITE || kind == ACCESS_EXCHANGE)
        a->vaddr += UNIT_WORD;
    a->word = 2 * ++maker->words;
    a->flags = kind | (chance(maker, 50) ? ACCESS_USER : 0) | (chance(maker, 50) ? ACCESS_AC : 0) |
               (chance(maker, 60) ? ACCESS_FRESH : 0);
}

static void choose_moods(struct mmu_maker *maker)
{
    static const uint16_t mishaps[] = {0, 15, 60, 200};
    static const uint8_t strict[] = {2, 10, 40};
    if (maker->left == 0) {
        maker->control = (uint16_t)below(maker, 64);
        maker->left = CASES_OF_A_CONTROL;
    }
    maker->left--;
    maker->mishaps = mishaps[below(maker, 4)];
    maker->strict = strict[below(maker, 3)];
    maker->first_table = below(maker, CHANNEL_TABLE_COUNT);
    maker->tables = 0;
    maker->no_fetch = false;
}

void mmu_case_make(struct mmu_maker *maker, struct mmu_case *c)
{
    struct way way[2];
    memset(c, 0, sizeof(*c));
    choose_moods(maker);
    c->control = maker->control;
    c->root = CHANNEL_ROOTS + (uint64_t)below(maker, CHANNEL_ROOT_COUNT) * CHANNEL_ROOT_STEP;
    if (maker->cpu->format == NEOMM_FORMAT_PAE)
        c->root += below(maker, NEOMM_PAGE_SIZE / PDPT_SIZE) * PDPT_SIZE;
    c->root |= below(maker, 32) & CR3_FLAGS;
    make_ways(maker, c, way);
    c->accesses = CASE_ACCESSES;
    for (unsigned i = 0; i < CASE_ACCESSES; i++)
        make_access(maker, way, &c->access[i]);
}
