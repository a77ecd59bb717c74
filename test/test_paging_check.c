/* What neomm_fsck finds in page tables that were damaged, and the rules of address layouts.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "paging/tables.h"

#include "sim/sim.h"

#include <string.h>

static const uint64_t formats[] = ENV_FORMATS;

#define RW   (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define PAGE NEOMM_PAGE_SIZE
#define USER ((neomm_vaddr_t)0x40000000)

/* ---- damage ---- */

struct patient {
    struct env env;
    struct neomm_tables tables;
    unsigned entry_size;
    neomm_frame_t frame[5]; /* tables on the way to USER, by level */
    unsigned index[5];
};

static uint64_t read_entry(const struct patient *p, unsigned level)
{
    uint64_t entry = 0;
    const uint8_t *table = neomm_direct_pointer(p->env.root, neomm_frame_paddr(p->frame[level]));
    memcpy(&entry, table + p->index[level] * p->entry_size, p->entry_size);
    return entry;
}

static void write_entry(const struct patient *p, unsigned level, uint64_t entry)
{
    uint8_t *table = neomm_direct_pointer(p->env.root, neomm_frame_paddr(p->frame[level]));
    memcpy(table + p->index[level] * p->entry_size, &entry, p->entry_size);
}

static bool open_patient(struct ktap *t, struct patient *p)
{
    struct env_options options = {.layer = ENV_PAGING, .format = (enum neomm_format)t->parameter};
    bool narrow = options.format == NEOMM_FORMAT_2LEVEL;
    unsigned bits = narrow ? 10 : 9;
    if (!env_open(t, &p->env, &options))
        return false;
    unsigned levels = p->env.root->paging->engine->levels;
    p->entry_size = narrow ? 4 : 8;
    EXPECT_OK(t, neomm_paging_create(p->env.root, &p->tables, 1));
    EXPECT_OK(t, neomm_paging_map(p->env.root, &p->tables, USER, 0x5000, 2 * PAGE, NEOMM_PROT_READ,
                                  NEOMM_CACHE_WB, 0));
    p->frame[levels - 1] = p->tables.top;
    for (unsigned level = levels; level-- > 0;) {
        p->index[level] = (unsigned)(USER >> (12 + bits * level)) & ((1u << bits) - 1);
        if (level > 0)
            p->frame[level - 1] = neomm_paddr_frame(read_entry(p, level) & 0x000ffffffffff000);
    }
    return true;
}

static void close_patient(struct ktap *t, struct patient *p)
{
    EXPECT_OK(t, neomm_paging_unmap(p->env.root, &p->tables, USER, 2 * PAGE, NULL, NULL, NULL));
    EXPECT_OK(t, neomm_paging_destroy(p->env.root, &p->tables));
    env_close(t, &p->env);
}

struct finding {
    const char *words;
    unsigned matches;
};

static void match(void *context, const char *line)
{
    struct finding *finding = context;
    finding->matches += strstr(line, finding->words) != NULL;
}

static bool finds(struct patient *p, const char *words)
{
    struct finding finding = {words, 0};
    return neomm_fsck(p->env.root, match, &finding) > 0 && finding.matches > 0;
}

static void expect_entry_found(struct ktap *t, struct patient *p, unsigned level, uint64_t entry,
                               const char *words)
{
    uint64_t before = read_entry(p, level);
    write_entry(p, level, entry);
    if (!finds(p, words)) {
        ktap_note(t, "not found: %s", words);
        ktap_fail(t, __FILE__, __LINE__, "damage was found");
    }
    write_entry(p, level, before);
    EXPECT_EQ(t, neomm_fsck(p->env.root, NULL, NULL), 0);
}

static void damaged_entries_are_found(struct ktap *t)
{
    struct patient p;
    ASSERT(t, open_patient(t, &p));
    uint64_t leaf = read_entry(&p, 0), table = read_entry(&p, 1);
    uint64_t no_exec = ((uint64_t)1 << 63) | 1u << 9; /* NX, and ours */
    expect_entry_found(t, &p, 0, 0, "counts 2 entries, has 1");
    expect_entry_found(t, &p, 0, (leaf & ~no_exec) | 2, "writable and executable");
    expect_entry_found(t, &p, 0, leaf & ~(uint64_t)4, "rights of the wrong half");
    if (p.entry_size == 8) /* 2-level addresses fill the entry */
        expect_entry_found(t, &p, 0, leaf | (uint64_t)1 << 50, "malformed entry");
    expect_entry_found(t, &p, 1, table | 0x80 | 0x2000, "malformed entry");
    expect_entry_found(t, &p, 1, 0x9a, "swap entry at level 1");
    expect_entry_found(t, &p, 1, table + 0x1000, "is no table of this space");
    expect_entry_found(t, &p, 1, (table & 0xfff) | 0x7ffff000, "is no table of this space");
    close_patient(t, &p);
}

static void damaged_descriptors_are_found(struct ktap *t)
{
    struct patient p;
    ASSERT(t, open_patient(t, &p));
    struct neomm *root = p.env.root;
    struct neomm__frame *about = neomm__frame(root, p.frame[0]);
    about->owner = 2;
    EXPECT(t, finds(&p, "is no table of this space"));
    about->owner = 1;
    about->kind = NEOMM__KIND_USER;
    EXPECT(t, finds(&p, "is no table of this space"));
    about->kind = NEOMM__KIND_TABLE;
    about->mapping++;
    EXPECT(t, finds(&p, "counts 3 entries, has 2"));
    about->mapping--;
    root->paging->table_frames++;
    EXPECT(t, finds(&p, "table frames, found"));
    root->paging->table_frames--;
    about = neomm__frame(root, p.tables.top);
    about->kind = NEOMM__KIND_NONE;
    EXPECT(t, finds(&p, "is no table of this space"));
    about->kind = NEOMM__KIND_TABLE;
    /* A root whose kernel half is not the kernel's. */
    unsigned top = root->paging->engine->levels - 1;
    unsigned index = p.index[top];
    unsigned bits = p.entry_size == 4 ? 10 : 9;
    p.index[top] = (unsigned)(root->layout.window.base >> (12 + bits * top)) &
                   (top == 2 ? 3 : (1u << bits) - 1);
    uint64_t shared = read_entry(&p, top);
    EXPECT(t, shared & 1);
    write_entry(&p, top, shared ^ 0x1000);
    EXPECT(t, finds(&p, "is not the kernel's"));
    write_entry(&p, top, shared);
    p.index[top] = index;
    EXPECT_EQ(t, neomm_fsck(root, NULL, NULL), 0);
    close_patient(t, &p);
}

/* ---- layouts ---- */

static struct neomm_layout default_layout(struct ktap *t)
{
    struct neomm_layout layout;
    EXPECT_OK(t,
              neomm_layout_default((enum neomm_format)t->parameter, (uint64_t)256 << 20, &layout));
    return layout;
}

static void the_default_layout_is_good(struct ktap *t)
{
    enum neomm_format format = (enum neomm_format)t->parameter;
    struct neomm_layout layout = default_layout(t);
    static const uint64_t sizes[] = {1 << 20, (uint64_t)1 << 30, (uint64_t)3 << 30,
                                     (uint64_t)1 << 40, (uint64_t)1 << 46};
    EXPECT_EQ(t, layout.format, format);
    EXPECT_EQ(t, layout.direct.size, (size_t)256 << 20);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        EXPECT_OK(t, neomm_layout_default(format, sizes[i] + 1, &layout));
        EXPECT_OK(t, neomm_layout_check(&layout, NEOMM_CPU_MAX));
        EXPECT(t, layout.direct.size % PAGE == 0 &&
                      (layout.direct.size > sizes[i] || layout.direct.size >= (size_t)880 << 20));
        EXPECT(t, layout.slots.size >= NEOMM_CPU_MAX * NEOMM_SLOTS_PER_CPU * PAGE);
    }
    EXPECT_EQ(t, neomm_layout_default(format, 0, &layout), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_layout_default((enum neomm_format)(format ^ 2), 1 << 20, &layout),
              NEOMM_E_UNSUPPORTED);
}

/* Devices and per-CPU data: mapped as the kernel says, and there in every space. */
static void areas_of_the_kernel_are_its_own(struct ktap *t)
{
    struct env env;
    struct neomm_tables tables;
    struct env_options options = {.layer = ENV_PAGING, .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    const struct neomm_layout *layout = neomm_layout_of(env.root);
    const struct neomm_area *area[] = {&layout->mmio, &layout->percpu};
    struct neomm_tables *kernel = neomm_paging_kernel(env.root);
    EXPECT_OK(t, neomm_paging_create(env.root, &tables, 1));
    neomm_paging_activate(env.root, &tables);
    for (unsigned i = 0; i < 2; i++) {
        neomm_paddr_t paddr = 0, device = (neomm_paddr_t)0x40000000 + i * PAGE;
        neomm_vaddr_t last = area[i]->base + area[i]->size - PAGE;
        uint32_t error;
        EXPECT_OK(t, neomm_paging_map(env.root, kernel, last, device, PAGE,
                                      NEOMM_PROT_READ | NEOMM_PROT_WRITE, NEOMM_CACHE_UC, 0));
        EXPECT(t, sim_translate(env.machine, last, SIM_WRITE, false, &paddr, &error));
        EXPECT_EQ(t, paddr, device);
        EXPECT(t, !sim_translate(env.machine, last, SIM_READ, true, &paddr, &error));
        EXPECT_OK(t, neomm_paging_unmap(env.root, kernel, last, PAGE, NULL, NULL, NULL));
    }
    neomm_paging_activate(env.root, kernel);
    EXPECT_OK(t, neomm_paging_destroy(env.root, &tables));
    env_close(t, &env);
}

#define EXPECT_LAYOUT(change, status)                                                              \
    do {                                                                                           \
        struct neomm_layout l = default_layout(t);                                                 \
        change;                                                                                    \
        EXPECT_EQ(t, neomm_layout_check(&l, 4), status);                                           \
    } while (0)

static void bad_layouts_are_refused(struct ktap *t)
{
    enum neomm_format format = (enum neomm_format)t->parameter;
    bool wide = format == NEOMM_FORMAT_4LEVEL || format == NEOMM_FORMAT_5LEVEL;
    struct neomm_layout good = default_layout(t);
    EXPECT_EQ(t, neomm_layout_check(&good, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_layout_check(&good, NEOMM_CPU_MAX + 1), NEOMM_E_INVALID);
    EXPECT_LAYOUT(l.format = (enum neomm_format)(format ^ 2), NEOMM_E_UNSUPPORTED);
    EXPECT_LAYOUT(l.physical_bits = 31, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.physical_bits = 53, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.direct.size = 0, NEOMM_E_INVALID);
    EXPECT_LAYOUT(l.direct.size += 1, NEOMM_E_ALIGN);
    EXPECT_LAYOUT(l.window.base += 8, NEOMM_E_ALIGN);
    EXPECT_LAYOUT(l.user_base = 0, NEOMM_OK);
    EXPECT_LAYOUT(l.user_base += 1, NEOMM_E_ALIGN);
    EXPECT_LAYOUT(l.user_base = l.user_limit, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.user_limit += 1, NEOMM_E_ALIGN);
    EXPECT_LAYOUT(l.user_limit = (neomm_vaddr_t)0 - PAGE, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.window.base = l.direct.base, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.slots.base = l.window.base + PAGE, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.image.base = l.window.base + l.window.size - PAGE, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.image.base = 0x1000000, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.window.size = (size_t)0 - PAGE, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.slots.size = (4 * NEOMM_SLOTS_PER_CPU - 1) * PAGE, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.slots.size = 4 * NEOMM_SLOTS_PER_CPU * PAGE, NEOMM_OK);
    EXPECT_LAYOUT(l.slots.size = 0, NEOMM_OK);
    EXPECT_LAYOUT(l.image.size = 0, NEOMM_OK);
    EXPECT_LAYOUT(l.mmio.base = l.percpu.base, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.percpu.base = l.image.base, NEOMM_E_RANGE);
    EXPECT_LAYOUT(l.mmio.size = l.percpu.size = 0, NEOMM_OK);
    if (!wide) /* one root entry has both halves */
        EXPECT_LAYOUT(l.user_limit -= PAGE, NEOMM_E_ALIGN);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(damaged_entries_are_found, formats),
    KTAP_CASE_WITH(damaged_descriptors_are_found, formats),
    KTAP_CASE_WITH(the_default_layout_is_good, formats),
    KTAP_CASE_WITH(bad_layouts_are_refused, formats),
    KTAP_CASE_WITH(areas_of_the_kernel_are_its_own, formats),
};
KTAP_SUITE(paging_check, cases);
