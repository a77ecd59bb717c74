/* Swap areas and slots: headers, allocation against a model, the check of it all.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/memory.h"
#include "swap/swap_priv.h"

#include <sim/sim.h>

#define SLOTS 700 /* of the model, over all areas */

static const enum neomm_format formats[] = ENV_FORMATS;
static const uint64_t format_list[] = ENV_FORMATS;

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)next(seed) % limit;
}

static bool open_env(struct ktap *t, struct env *env, enum env_layer layer)
{
    const struct env_options options = {.layer = layer, .format = formats[0]};
    return env_open(t, env, &options);
}

/* A disk with a sound header, not yet an area. */
static struct neomm_block_device *new_disk(struct env *env, uint32_t pages)
{
    struct neomm_block_device *disk = sim_disk_create(env->machine, pages);
    sim_disk_make_swap(disk);
    return disk;
}

static void add_disk(struct ktap *t, struct env *env, uint32_t pages, int priority)
{
    EXPECT_OK(t, neomm_swap_add(env->root, new_disk(env, pages), priority));
}

static struct neomm_swap_stats stats_of(struct env *env)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(env->root, &stats);
    return stats;
}

/* ---- headers ---- */

static void put_number(struct neomm_block_device *disk, size_t at, uint32_t number)
{
    memcpy((uint8_t *)sim_disk_page(disk, 0) + at, &number, sizeof(number));
}

/* A header that must be refused, as one number or byte that differs from a sound one. */
struct header_case {
    size_t at;
    uint32_t number;
    bool byte;
    neomm_status status;
};

static const struct header_case headers[] = {
    {1024, 0, false, NEOMM_E_UNSUPPORTED}, /* version */
    {1024, 2, false, NEOMM_E_UNSUPPORTED},
    {1024, 0x01000000, false, NEOMM_E_UNSUPPORTED}, /* the other byte order */
    {1028, 0, false, NEOMM_E_CORRUPT},              /* last page */
    {1028, 64, false, NEOMM_E_CORRUPT},
    {1028, UINT32_MAX, false, NEOMM_E_CORRUPT},
    {1032, 638, false, NEOMM_E_CORRUPT}, /* bad pages: more than fit */
    {1032, UINT32_MAX, false, NEOMM_E_CORRUPT},
    {1032, 1, false, NEOMM_E_CORRUPT}, /* one, and it is page 0 */
    {1032, 637, false, NEOMM_E_CORRUPT},
    {4086, 's', true, NEOMM_E_CORRUPT}, /* signature */
    {4095, '1', true, NEOMM_E_CORRUPT},
    {4090, 0, true, NEOMM_E_CORRUPT},
};

static void header_refused(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    for (size_t i = 0; i < NEOMM__COUNT_OF(headers); i++) {
        struct neomm_block_device *disk = new_disk(&env, 64);
        uint8_t before[NEOMM_PAGE_SIZE];
        if (headers[i].byte)
            ((uint8_t *)sim_disk_page(disk, 0))[headers[i].at] = (uint8_t)headers[i].number;
        else
            put_number(disk, headers[i].at, headers[i].number);
        memcpy(before, sim_disk_page(disk, 0), sizeof(before));
        EXPECT_EQ(t, neomm_swap_add(env.root, disk, 0), headers[i].status);
        /* (a signature that is not there is looked for where larger pages have it) */
        EXPECT_EQ(t, sim_disk_operations(disk), headers[i].byte ? 5 : 1);
        EXPECT_EQ(t, memcmp(before, sim_disk_page(disk, 0), sizeof(before)), 0);
        EXPECT_EQ(t, stats_of(&env).areas, 0);
    }
    env_close(t, &env);
}

/* The bad-page list: what it names is never handed out; what lies outside is refused. */
static void bad_pages(struct ktap *t)
{
    static const uint32_t bad[] = {1, 5, 63};
    struct env env;
    struct neomm_swap_entry entry[64];
    uint32_t count = 0;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    struct neomm_block_device *disk = new_disk(&env, 64);
    put_number(disk, 1032, NEOMM__COUNT_OF(bad));
    for (size_t i = 0; i < NEOMM__COUNT_OF(bad); i++)
        put_number(disk, 1536 + 4 * i, bad[i]);
    put_number(disk, 1536, 64);
    EXPECT_EQ(t, neomm_swap_add(env.root, disk, 0), NEOMM_E_CORRUPT);
    put_number(disk, 1536, bad[0]);
    EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
    EXPECT_EQ(t, stats_of(&env).slots, 63);
    EXPECT_EQ(t, stats_of(&env).bad, 3);
    env_fsck(t, &env);
    while (count < 64 && neomm_swap_alloc(env.root, 1, &entry[count]) == NEOMM_OK) {
        EXPECT(t, entry[count].slot != 1 && entry[count].slot != 5 && entry[count].slot != 63);
        count++;
    }
    EXPECT_EQ(t, count, 60);
    while (count-- > 0)
        EXPECT_OK(t, neomm_swap_free(env.root, entry[count]));
    env_close(t, &env);
}

/* As many as the header has room for. */
static void most_bad_pages(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    struct neomm_block_device *disk = new_disk(&env, 1000);
    put_number(disk, 1032, 637);
    for (uint32_t i = 0; i < 637; i++)
        put_number(disk, 1536 + 4 * (size_t)i, 999 - i);
    EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
    EXPECT_EQ(t, stats_of(&env).bad, 637);
    env_close(t, &env);
}

static void area_facts(struct ktap *t)
{
    struct neomm_swap_area area;
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    struct neomm_block_device *disk = new_disk(&env, 100);
    memcpy((uint8_t *)sim_disk_page(disk, 0) + 1036, "0123456789abcdef", 16);
    memcpy((uint8_t *)sim_disk_page(disk, 0) + 1052, "sixteen letters!", 16);
    put_number(disk, 1028, 90); /* the area may be smaller than its device */
    EXPECT_EQ(t, neomm_swap_area_at(env.root, 0, &area), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_swap_add(env.root, disk, -3));
    EXPECT_OK(t, neomm_swap_area_at(env.root, 0, &area));
    EXPECT(t, area.device == disk);
    EXPECT_EQ(t, area.priority, -3);
    EXPECT_EQ(t, area.slots, 90);
    EXPECT_EQ(t, area.used + area.bad, 0);
    EXPECT_EQ(t, memcmp(area.label, "sixteen letters!", 17), 0);
    EXPECT_EQ(t, memcmp(area.uuid, "0123456789abcdef", 16), 0);
    EXPECT_EQ(t, neomm_swap_area_at(env.root, 1, &area), NEOMM_E_NOENT);
    env_close(t, &env);
}

static void adding(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    struct neomm_block_device *disk = new_disk(&env, 10), *failing = new_disk(&env, 10);
    EXPECT_EQ(t, neomm_swap_add(env.root, NULL, 0), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
    EXPECT_EQ(t, neomm_swap_add(env.root, disk, 1), NEOMM_E_EXISTS);
    sim_disk_fault(failing, SIM_DISK_FAIL, 1, false);
    EXPECT_EQ(t, neomm_swap_add(env.root, failing, 0), NEOMM_E_IO);
    EXPECT_OK(t, neomm_swap_add(env.root, failing, 0));
    for (unsigned i = 2; i < NEOMM__SWAP_AREAS; i++)
        add_disk(t, &env, 10, (int)i);
    EXPECT_EQ(t, neomm_swap_add(env.root, new_disk(&env, 10), 0), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, stats_of(&env).areas, NEOMM__SWAP_AREAS);
    EXPECT_EQ(t, stats_of(&env).slots, 9 * NEOMM__SWAP_AREAS);
    env_close(t, &env);
}

/* A device larger than memory has room for records, and than entries can name. */
static void too_large(struct ktap *t)
{
    struct env env;
    const struct env_options options = {.layer = ENV_SWAP,
                                        .format = (enum neomm_format)t->parameter};
    bool two_level = t->parameter == NEOMM_FORMAT_2LEVEL;
    if (!env_open(t, &env, &options))
        return;
    struct neomm_block_device *disk = new_disk(&env, 2);
    struct neomm_block_device large = *disk;
    large.pages = UINT32_MAX;
    put_number(disk, 1028, (1 << 24) - 1);
    EXPECT_EQ(t, neomm_swap_add(env.root, &large, 0), NEOMM_E_NOMEM);
    put_number(disk, 1028, 1 << 24);
    EXPECT_EQ(t, neomm_swap_add(env.root, &large, 0), two_level ? NEOMM_E_NOSPACE : NEOMM_E_NOMEM);
    put_number(disk, 1028, UINT32_MAX - 1);
    EXPECT_EQ(t, neomm_swap_add(env.root, &large, 0), two_level ? NEOMM_E_NOSPACE : NEOMM_E_NOMEM);
    env_close(t, &env);
}

static void life(struct ktap *t)
{
    struct neomm_swap_entry entry = {0, 0, 0};
    struct neomm_swap_page page = {{1, 0, NEOMM_SWAP_SLOT}, {1}, NEOMM_OK};
    struct env env;
    if (!open_env(t, &env, ENV_PMM))
        return;
    struct neomm_block_device *disk = new_disk(&env, 10);
    EXPECT_EQ(t, neomm_swap_fini(env.root), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_swap_add(env.root, disk, 0), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_swap_alloc(env.root, 1, &entry), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_swap_dup(env.root, page.entry), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_swap_free(env.root, page.entry), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_swap_entry_of(env.root, 1, &entry), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_swap_write(env.root, &page, 1), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_swap_read(env.root, &page, 1), NEOMM_E_NOENT);
    EXPECT_EQ(t, stats_of(&env).slots, 0);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_OK(t, neomm_swap_init(env.root));
        EXPECT_EQ(t, neomm_swap_init(env.root), NEOMM_E_EXISTS);
        EXPECT_EQ(t, neomm_swap_alloc(env.root, 1, &entry), NEOMM_E_NOSPACE);
        EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
        EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &entry));
        EXPECT_EQ(t, neomm_swap_fini(env.root), NEOMM_E_BUSY);
        EXPECT_EQ(t, neomm_pmm_fini(env.root), NEOMM_E_BUSY);
        EXPECT_OK(t, neomm_swap_free(env.root, entry));
        EXPECT_OK(t, neomm_swap_fini(env.root));
    }
    env_close(t, &env);
}

/* Swap is below the address spaces and does not end under them. */
static void under_vmm(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env, ENV_VMM))
        return;
    EXPECT_EQ(t, neomm_swap_fini(env.root), NEOMM_E_BUSY);
    env_close(t, &env);
}

static void before_pmm(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env, ENV_ROOT))
        return;
    EXPECT_EQ(t, neomm_swap_init(env.root), NEOMM_E_NOENT);
    env_close(t, &env);
}

/* ---- slots ---- */

/* What a slot is, the slow way. */
struct model {
    uint32_t count[SLOTS];
    struct neomm_swap_entry entry[SLOTS]; /* of its latest use */
    bool used_once[SLOTS];
    bool header[SLOTS];
    uint32_t slots, used;
};

static void model_alloc(struct ktap *t, struct env *env, struct model *model, uint32_t owner)
{
    struct neomm_swap_entry entry;
    neomm_status status = neomm_swap_alloc(env->root, owner, &entry);
    EXPECT_EQ(t, status, model->used < model->slots ? NEOMM_OK : NEOMM_E_NOSPACE);
    if (status != NEOMM_OK)
        return;
    ASSERT(t, entry.slot < SLOTS && entry.kind == NEOMM_SWAP_SLOT);
    EXPECT_EQ(t, model->count[entry.slot], 0);
    EXPECT(t, !model->header[entry.slot]);
    EXPECT(t, !model->used_once[entry.slot] ||
                  entry.generation != model->entry[entry.slot].generation);
    model->count[entry.slot] = 1;
    model->entry[entry.slot] = entry;
    model->used_once[entry.slot] = true;
    model->used++;
}

/* One operation on a slot that may be in use, free since, or never used. */
static void model_poke(struct ktap *t, struct env *env, struct model *model, uint32_t slot,
                       uint32_t draw)
{
    struct neomm_swap_entry entry = model->entry[slot], found;
    bool used = model->count[slot] != 0;
    neomm_status want = used ? NEOMM_OK : NEOMM_E_NOENT;
    entry.slot = slot;
    EXPECT_EQ(t, neomm_swap_entry_of(env->root, slot, &found), want);
    if (used)
        EXPECT_EQ(t, memcmp(&found, &entry, sizeof(entry)), 0);
    if (draw % 4 == 0) {
        EXPECT_EQ(t, neomm_swap_dup(env->root, entry), want);
        model->count[slot] += used;
    } else if (draw % 4 == 1) {
        entry.generation ^= 1;
        EXPECT_EQ(t, neomm_swap_free(env->root, entry), NEOMM_E_NOENT);
        EXPECT_EQ(t, neomm_swap_dup(env->root, entry), NEOMM_E_NOENT);
    } else {
        EXPECT_EQ(t, neomm_swap_free(env->root, entry), want);
        model->count[slot] -= used;
        model->used -= used && model->count[slot] == 0;
    }
}

static void model_open(struct ktap *t, struct env *env, struct model *model)
{
    static const uint32_t pages[] = {300, 2, 257, 64, 35};
    memset(model, 0, sizeof(*model));
    for (size_t i = 0; i < NEOMM__COUNT_OF(pages); i++) {
        model->header[model->slots + i] = true;
        add_disk(t, env, pages[i], (int)(i % 2));
        model->slots += pages[i] - 1;
    }
}

static void slots_against_model(struct ktap *t)
{
    static struct model model;
    uint64_t seed = t->parameter;
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    model_open(t, &env, &model);
    for (uint32_t step = 0; step < 12000 && t->failures == 0; step++) {
        /* The level swings, so that full and empty are both met. */
        bool fill = below(&seed, 8) < (step / 2000 % 2 ? 1u : 5u);
        if (fill)
            model_alloc(t, &env, &model, below(&seed, 5));
        else
            model_poke(t, &env, &model, below(&seed, SLOTS), below(&seed, 4));
        EXPECT_EQ(t, stats_of(&env).used, model.used);
        if (step % 512 == 0)
            env_fsck(t, &env);
    }
    EXPECT_EQ(t, stats_of(&env).slots, model.slots);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        while (model.count[slot] > 0) {
            EXPECT_OK(t, neomm_swap_free(env.root, model.entry[slot]));
            model.count[slot]--;
        }
    env_close(t, &env);
}

static void all_used_then_none(struct ktap *t)
{
    static struct model model;
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    model_open(t, &env, &model);
    while (model.used < model.slots && t->failures == 0)
        model_alloc(t, &env, &model, model.used % 40);
    model_alloc(t, &env, &model, 0);
    env_fsck(t, &env);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (model.count[slot])
            EXPECT_OK(t, neomm_swap_free(env.root, model.entry[slot]));
    env_close(t, &env);
}

/* No such slot, no such kind, nil. */
static void no_entries(struct ktap *t)
{
    const struct neomm_swap_entry none[] = {{0, 0, NEOMM_SWAP_NONE},
                                            {0, 0, NEOMM_SWAP_SLOT},
                                            {9, 0, NEOMM_SWAP_SLOT},
                                            {10, 0, NEOMM_SWAP_SLOT},
                                            {UINT32_MAX, 0, NEOMM_SWAP_SLOT}};
    struct neomm_swap_entry entry;
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    add_disk(t, &env, 10, 0);
    for (size_t i = 0; i < NEOMM__COUNT_OF(none); i++) {
        struct neomm_swap_page page = {none[i], {0}, NEOMM_OK};
        EXPECT_EQ(t, neomm_swap_dup(env.root, none[i]), NEOMM_E_NOENT);
        EXPECT_EQ(t, neomm_swap_free(env.root, none[i]), NEOMM_E_NOENT);
        EXPECT_EQ(t, neomm_swap_entry_of(env.root, none[i].slot, &entry), NEOMM_E_NOENT);
        EXPECT_EQ(t, neomm_swap_read(env.root, &page, 1), NEOMM_E_NOENT);
        EXPECT_EQ(t, page.status, NEOMM_E_NOENT);
    }
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &entry));
    entry.kind = NEOMM_SWAP_NONE;
    EXPECT_EQ(t, neomm_swap_free(env.root, entry), NEOMM_E_NOENT);
    entry.kind = NEOMM_SWAP_SLOT;
    EXPECT_OK(t, neomm_swap_free(env.root, entry));
    env_close(t, &env);
}

/* Higher priorities first; equals in turn, a cluster each. */
static void priorities(struct ktap *t)
{
    static const int priority[] = {1, 0, 0, -5, 2, 2};
    struct neomm_swap_entry entry[12];
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    for (size_t i = 0; i < NEOMM__COUNT_OF(priority); i++)
        add_disk(t, &env, 3, priority[i]);
    for (uint32_t i = 0; i < 12; i++)
        EXPECT_OK(t, neomm_swap_alloc(env.root, 3, &entry[i]));
    for (uint32_t i = 0; i < 6; i++) {
        static const uint32_t area[] = {4, 5, 0, 2, 1, 3};
        EXPECT_EQ(t, entry[2 * i].slot / 3, area[i]);
        EXPECT_EQ(t, entry[2 * i + 1].slot / 3, area[i]);
    }
    EXPECT_OK(t, neomm_swap_free(env.root, entry[9]));
    EXPECT_OK(t, neomm_swap_free(env.root, entry[2]));
    EXPECT_OK(t, neomm_swap_alloc(env.root, 4, &entry[2]));
    EXPECT_EQ(t, entry[2].slot / 3, 5);
    EXPECT_OK(t, neomm_swap_alloc(env.root, 4, &entry[9]));
    for (uint32_t i = 0; i < 12; i++)
        EXPECT_OK(t, neomm_swap_free(env.root, entry[i]));
    env_close(t, &env);
}

/* Owners that take turns each get a cluster of their own, filled from its start. */
static void owners_stay_together(struct ktap *t)
{
    enum { OWNERS = 4, EACH = 300 };
    static struct neomm_swap_entry entry[OWNERS][EACH];
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    add_disk(t, &env, 16 * NEOMM__SWAP_CLUSTER, 0);
    for (uint32_t i = 0; i < EACH; i++)
        for (uint32_t owner = 0; owner < OWNERS; owner++)
            EXPECT_OK(t, neomm_swap_alloc(env.root, owner, &entry[owner][i]));
    for (uint32_t owner = 0; owner < OWNERS; owner++) {
        uint32_t jumps = 0;
        for (uint32_t i = 1; i < EACH; i++)
            jumps += entry[owner][i].slot != entry[owner][i - 1].slot + 1;
        EXPECT_EQ(t, jumps, 1);
        for (uint32_t i = 0; i < EACH; i++)
            EXPECT_OK(t, neomm_swap_free(env.root, entry[owner][i]));
    }
    env_close(t, &env);
}

/* An entry is stale for as many uses of its slot as the format can tell apart. */
static void generations(struct ktap *t)
{
    struct neomm_swap_entry entry, old;
    struct env env;
    const struct env_options options = {.layer = ENV_SWAP,
                                        .format = (enum neomm_format)t->parameter};
    uint32_t uses = t->parameter == NEOMM_FORMAT_2LEVEL ? 1u << 5 : 1u << 16;
    if (!env_open(t, &env, &options))
        return;
    add_disk(t, &env, 2, 0);
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &old));
    EXPECT_OK(t, neomm_swap_free(env.root, old));
    for (uint32_t i = 1; i < uses && t->failures == 0; i++) {
        EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &entry));
        EXPECT(t, entry.slot == 1 && entry.generation < uses);
        EXPECT_EQ(t, neomm_swap_free(env.root, old), NEOMM_E_NOENT);
        EXPECT_OK(t, neomm_swap_free(env.root, entry));
    }
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &entry));
    EXPECT_EQ(t, entry.generation, old.generation);
    EXPECT_OK(t, neomm_swap_free(env.root, entry));
    env_close(t, &env);
}

/* A count that has been lost keeps its slot for ever, and does not keep the layer. */
static void saturation(struct ktap *t)
{
    struct neomm_swap_entry entry, other;
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    add_disk(t, &env, 3, 0);
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &entry));
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &other));
    for (unsigned i = 0; i < 253; i++) {
        EXPECT_OK(t, neomm_swap_dup(env.root, entry));
        EXPECT_OK(t, neomm_swap_dup(env.root, other));
    }
    for (unsigned i = 0; i < 10; i++)
        EXPECT_OK(t, neomm_swap_dup(env.root, entry));
    env_fsck(t, &env);
    for (unsigned i = 0; i < 400; i++)
        EXPECT_OK(t, neomm_swap_free(env.root, entry));
    for (unsigned i = 0; i < 254; i++)
        EXPECT_OK(t, neomm_swap_free(env.root, other));
    EXPECT_EQ(t, neomm_swap_free(env.root, other), NEOMM_E_NOENT);
    EXPECT_EQ(t, stats_of(&env).used, 1);
    env_close(t, &env);
}

/* ---- the check ---- */

static size_t findings(struct env *env)
{
    return neomm_fsck(env->root, NULL, NULL);
}

#define EXPECT_FOUND(t, env, field, value)                                                         \
    do {                                                                                           \
        __typeof__(field) before_ = (field);                                                       \
        (field) = (__typeof__(field))(value);                                                      \
        EXPECT(t, findings(env) > 0);                                                              \
        (field) = before_;                                                                         \
        EXPECT_EQ(t, findings(env), 0);                                                            \
    } while (0)

static void damage_is_found(struct ktap *t)
{
    struct neomm_swap_entry used, bad;
    struct env env;
    if (!open_env(t, &env, ENV_SWAP))
        return;
    add_disk(t, &env, 600, 0);
    add_disk(t, &env, 20, 0);
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &used));
    EXPECT_OK(t, neomm_swap_alloc(env.root, 1, &bad));
    struct neomm__swap *swap = env.root->swap;
    struct neomm__swap_area *area = &swap->area[0];
    EXPECT_FOUND(t, &env, area->free, area->free + 1);
    EXPECT_FOUND(t, &env, area->used, area->used - 1);
    EXPECT_FOUND(t, &env, area->bad, 1);
    EXPECT_FOUND(t, &env, area->stuck, 1);
    EXPECT_FOUND(t, &env, area->filled, 1);
    EXPECT_FOUND(t, &env, area->cluster[2].free, 0);
    EXPECT_FOUND(t, &env, area->cluster[2].usable, 255);
    EXPECT_FOUND(t, &env, area->cluster[2].list, NEOMM__CLUSTER_FULL);
    EXPECT_FOUND(t, &env, area->cluster[1].prev, 3);
    EXPECT_FOUND(t, &env, area->cluster[0].filler, 0);
    EXPECT_FOUND(t, &env, area->list[NEOMM__CLUSTER_FREE].count, 3);
    EXPECT_FOUND(t, &env, area->list[NEOMM__CLUSTER_FREE].first, 3);
    EXPECT_FOUND(t, &env, area->bitmap[0], area->bitmap[0] & ~(neomm__word_t)1);
    EXPECT_FOUND(t, &env, area->bitmap[0], area->bitmap[0] | 1u << 9);
    EXPECT_FOUND(t, &env, area->slot[used.slot].count, 0);
    EXPECT_FOUND(t, &env, area->slot[used.slot].count, 255);
    EXPECT_FOUND(t, &env, area->slot[used.slot].flags, NEOMM__SLOT_FILLED);
    EXPECT_FOUND(t, &env, area->slot[500].count, 1);
    EXPECT_FOUND(t, &env, area->slot[500].flags, NEOMM__SLOT_VALID);
    EXPECT_FOUND(t, &env, area->slot[500].flags, NEOMM__SLOT_BAD);
    EXPECT_FOUND(t, &env, area->slot[0].count, 1);
    EXPECT_FOUND(t, &env, area->slot[0].flags, NEOMM__SLOT_VALID);
    EXPECT_FOUND(t, &env, swap->area[1].base, 599);
    EXPECT_FOUND(t, &env, swap->slots, 619);
    EXPECT_OK(t, neomm_swap_free(env.root, used));
    EXPECT_OK(t, neomm_swap_free(env.root, bad));
    env_close(t, &env);
}

static const uint64_t seeds[] = {1, 2, 3};

static const struct ktap_case cases[] = {
    KTAP_CASE(header_refused),
    KTAP_CASE(bad_pages),
    KTAP_CASE(most_bad_pages),
    KTAP_CASE(area_facts),
    KTAP_CASE(adding),
    KTAP_CASE_WITH(too_large, format_list),
    KTAP_CASE(life),
    KTAP_CASE(under_vmm),
    KTAP_CASE(before_pmm),
    KTAP_CASE_WITH(slots_against_model, seeds),
    KTAP_CASE(all_used_then_none),
    KTAP_CASE(no_entries),
    KTAP_CASE(priorities),
    KTAP_CASE(owners_stay_together),
    KTAP_CASE_WITH(generations, format_list),
    KTAP_CASE(saturation),
    KTAP_CASE(damage_is_found),
};

KTAP_SUITE(swap, cases);
