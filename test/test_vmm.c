/* Address spaces against a naive model: a byte of rights and four words of contents a page.
 * SPDX-License-Identifier: MIT */
#include "vmm_world.h"

#define MODEL_PAGES 48u
#define MODEL_WORDS 4u

static const uint64_t formats[] = ENV_FORMATS;

/* ---- the model ---- */

struct model_page {
    bool mapped;
    neomm_prot_t prot;
    uint64_t word[MODEL_WORDS];
};

struct model {
    struct world world;
    struct model_page page[MODEL_PAGES];
    uint64_t random;
};

static uint32_t pick(struct model *model, uint32_t below)
{
    return (uint32_t)(next_random(&model->random) % below);
}

static neomm_prot_t pick_prot(struct model *model)
{
    static const neomm_prot_t prot[] = {
        NEOMM_PROT_READ, RW, RW, RW, NEOMM_PROT_READ, NEOMM_PROT_READ | NEOMM_PROT_EXEC,
        NEOMM_PROT_NONE};
    return prot[pick(model, 7)];
}

static void model_map(struct model *model, uint32_t first, uint32_t count, bool mapped,
                      neomm_prot_t prot)
{
    for (uint32_t i = first; i < first + count; i++)
        model->page[i] = (struct model_page){.mapped = mapped, .prot = prot};
}

static bool model_covers(const struct model *model, uint32_t first, uint32_t count, bool mapped)
{
    for (uint32_t i = first; i < first + count; i++)
        if (model->page[i].mapped != mapped)
            return false;
    return true;
}

static void step_mmap(struct ktap *t, struct model *model, uint32_t first, uint32_t count)
{
    neomm_vaddr_t at = model->world.base + first * PAGE;
    neomm_prot_t prot = pick_prot(model);
    bool replace = pick(model, 2);
    bool taken = !replace && !model_covers(model, first, count, false);
    unsigned flags = replace ? NEOMM_MAP_FIXED : NEOMM_MAP_EXACT;
    if (pick(model, 8) == 0)
        flags |= NEOMM_MAP_POPULATE;
    EXPECT_EQ(t,
              neomm_mmap(model->world.env.root, model->world.space, &at, count * PAGE, prot, flags),
              taken ? NEOMM_E_EXISTS : NEOMM_OK);
    if (!taken)
        model_map(model, first, count, true, prot);
}

static void step_munmap(struct ktap *t, struct model *model, uint32_t first, uint32_t count)
{
    EXPECT_OK(t, neomm_munmap(model->world.env.root, model->world.space,
                              model->world.base + first * PAGE, count * PAGE));
    model_map(model, first, count, false, 0);
}

static void step_mprotect(struct ktap *t, struct model *model, uint32_t first, uint32_t count)
{
    neomm_prot_t prot = pick_prot(model);
    bool whole = model_covers(model, first, count, true);
    EXPECT_EQ(t,
              neomm_mprotect(model->world.env.root, model->world.space,
                             model->world.base + first * PAGE, count * PAGE, prot),
              whole ? NEOMM_OK : NEOMM_E_NOENT);
    for (uint32_t i = first; whole && i < first + count; i++)
        model->page[i].prot = prot;
}

static void step_access(struct ktap *t, struct model *model, uint32_t page)
{
    struct model_page *expected = &model->page[page];
    uint32_t word = pick(model, MODEL_WORDS);
    neomm_vaddr_t vaddr = model->world.base + page * PAGE + word * (PAGE / MODEL_WORDS);
    uint64_t value = next_random(&model->random);
    if (pick(model, 2)) {
        bool may = expected->mapped && (expected->prot & NEOMM_PROT_WRITE);
        EXPECT_EQ(t, world_write(&model->world, vaddr, value), may ? NEOMM_OK : NEOMM_E_FAULT);
        if (may)
            expected->word[word] = value;
    } else {
        neomm_status status = world_read(&model->world, vaddr, &value);
        bool may = expected->mapped && expected->prot != NEOMM_PROT_NONE;
        EXPECT_EQ(t, status, may ? NEOMM_OK : NEOMM_E_FAULT);
        if (status == NEOMM_OK)
            EXPECT_EQ(t, value, expected->word[word]);
    }
}

static void model_step(struct ktap *t, struct model *model)
{
    uint32_t first = pick(model, MODEL_PAGES);
    uint32_t most = MODEL_PAGES - first < 12 ? MODEL_PAGES - first : 12;
    uint32_t count = 1 + pick(model, most);
    switch (pick(model, 16)) {
    case 0:
        step_mmap(t, model, first, count);
        break;
    case 1:
        if (pick(model, 2))
            step_munmap(t, model, first, count);
        break;
    case 2:
        step_mprotect(t, model, first, count);
        break;
    case 3:
        (void)neomm_space_evict(model->world.env.root, model->world.space, count);
        break;
    default:
        step_access(t, model, first);
    }
}

/* Parameter: format | limit in pages << 4 | zero page << 12. */
static const uint64_t model_runs[] = {0x0000, 0x1000, 0x0080, 0x1080, 0x0010,
                                      0x0001, 0x1001, 0x0081, 0x1081, 0x0201};

static void random_calls(struct ktap *t)
{
    static struct model model;
    static const uint64_t format[] = ENV_FORMATS;
    uint64_t limit = t->parameter >> 4 & 0xff;
    const struct env_options options = {
        .layer = ENV_VMM,
        .format = (enum neomm_format)format[t->parameter & 1],
        .swap_pages = 256,
        .seed = t->parameter,
        .whims = 1,
        .no_zero_page = !(t->parameter & 0x1000),
    };
    const struct neomm_limits limits = {NEOMM_UNLIMITED, limit ? limit * PAGE : NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED, NEOMM_UNLIMITED};
    model = (struct model){.random = t->parameter + 1};
    if (!world_open(t, &model.world, &options, &limits))
        return;
    for (unsigned step = 0; step < 20000 && t->failures == 0; step++) {
        model_step(t, &model);
        if (step % 500 == 0)
            env_fsck(t, &model.world.env);
    }
    world_close(t, &model.world);
}

/* ---- errors ---- */

static void bad_arguments(struct ktap *t)
{
    struct world world;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    const struct neomm_limits limits = {4 * PAGE, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    ASSERT(t, world_open(t, &world, &options, &limits));
    struct neomm *root = world.env.root;
    const struct neomm_layout *layout = neomm_layout_of(root);
    neomm_vaddr_t at = world.base;
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, 0, RW, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, PAGE, 0x80, 0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, PAGE, RW | NEOMM_PROT_EXEC, 0), NEOMM_E_ACCESS);
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, UINT64_MAX, RW, 0), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, 5 * PAGE, RW, 0), NEOMM_E_LIMIT);
    at = world.base + 1;
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, PAGE, RW, NEOMM_MAP_FIXED), NEOMM_E_ALIGN);
    at = 0;
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, PAGE, RW, NEOMM_MAP_FIXED), NEOMM_E_RANGE);
    at = layout->user_limit;
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, PAGE, RW, NEOMM_MAP_FIXED), NEOMM_E_RANGE);
    at = layout->user_limit - PAGE;
    EXPECT_EQ(t, neomm_mmap(root, world.space, &at, 2 * PAGE, RW, NEOMM_MAP_FIXED), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_munmap(root, world.space, layout->direct.base, PAGE), NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_munmap(root, world.space, world.base + 8, PAGE), NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_mprotect(root, world.space, world.base, PAGE, RW), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_mprotect(root, world.space, world.base, PAGE, RW | NEOMM_PROT_EXEC),
              NEOMM_E_ACCESS);
    struct neomm_vmm_options unknown = {.policy = "no such policy"};
    EXPECT_EQ(t, neomm_vmm_init(root, &unknown), NEOMM_E_EXISTS);
    EXPECT_EQ(t, neomm_vmm_fini(root), NEOMM_E_BUSY);
    EXPECT_EQ(t, neomm_space_destroy(root, world.space), NEOMM_E_BUSY);
    world_close(t, &world);
}

static void fault_outcomes(struct ktap *t)
{
    struct world world;
    struct neomm_fault_result result;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, world_open(t, &world, &options, NULL));
    struct neomm *root = world.env.root;
    const struct neomm_layout *layout = neomm_layout_of(root);
    neomm_vaddr_t at = world.base;
    EXPECT_OK(t, neomm_mmap(root, world.space, &at, PAGE, NEOMM_PROT_READ, NEOMM_MAP_EXACT));
    EXPECT_EQ(t, neomm_fault(root, world.space, at + PAGE, NEOMM_PF_USER, &result),
              NEOMM_FAULT_SEGV);
    EXPECT_EQ(t, neomm_fault(root, world.space, 0, NEOMM_PF_USER, &result), NEOMM_FAULT_SEGV);
    EXPECT_EQ(t, neomm_fault(root, world.space, layout->direct.base, NEOMM_PF_USER, &result),
              NEOMM_FAULT_SEGV);
    EXPECT_EQ(t, neomm_fault(root, world.space, at, NEOMM_PF_USER | NEOMM_PF_WRITE, &result),
              NEOMM_FAULT_ACCESS);
    EXPECT_EQ(t, neomm_fault(root, world.space, at, NEOMM_PF_USER | NEOMM_PF_FETCH, &result),
              NEOMM_FAULT_ACCESS);
    EXPECT_EQ(t, neomm_fault(root, world.space, at + 100, NEOMM_PF_USER, &result),
              NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, result.kind, NEOMM_FAULT_ZERO);
    EXPECT_EQ(t, neomm_fault(root, world.space, at, NEOMM_PF_USER, &result), NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, result.kind, NEOMM_FAULT_SPURIOUS);
    EXPECT_OK(t, neomm_mmap(root, world.space, &at, PAGE, NEOMM_PROT_NONE, NEOMM_MAP_FIXED));
    EXPECT_EQ(t, neomm_fault(root, world.space, at, NEOMM_PF_USER, &result), NEOMM_FAULT_ACCESS);
    world_close(t, &world);
}

/* ---- user copies ---- */

static void user_copies(struct ktap *t)
{
    struct world world;
    char text[3 * PAGE], back[3 * PAGE];
    size_t done = 0;
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 64};
    ASSERT(t, world_open(t, &world, &options, NULL));
    struct neomm *root = world.env.root;
    const struct neomm_layout *layout = neomm_layout_of(root);
    neomm_vaddr_t at = world.base;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(i * 7 + i / 256);
    EXPECT_OK(t, neomm_mmap(root, world.space, &at, 4 * PAGE, RW, 0));
    EXPECT_OK(t, neomm_copy_to_user(root, world.space, at + 77, text, sizeof(text), &done));
    EXPECT_EQ(t, done, sizeof(text));
    EXPECT_EQ(t, neomm_space_evict(root, world.space, 2), 2);
    EXPECT_OK(t, neomm_copy_from_user(root, world.space, back, at + 77, sizeof(back), &done));
    for (size_t i = 0; i < sizeof(text); i++)
        if (text[i] != back[i])
            ktap_fail(t, __FILE__, __LINE__, "what was copied out comes back");
    EXPECT_EQ(t, neomm_copy_to_user(root, world.space, at + 3 * PAGE, text, 2 * PAGE, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, done, PAGE);
    EXPECT_EQ(t, neomm_copy_to_user(root, world.space, layout->direct.base, text, 1, &done),
              NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_copy_to_user(root, world.space, layout->user_limit - 1, text, 2, &done),
              NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_copy_from_user(root, world.space, back, at, SIZE_MAX, &done), NEOMM_E_RANGE);
    EXPECT_OK(t, neomm_mprotect(root, world.space, at, PAGE, NEOMM_PROT_READ));
    EXPECT_EQ(t, neomm_copy_to_user(root, world.space, at, text, 8, &done), NEOMM_E_FAULT);
    world_close(t, &world);
}

/* ---- several spaces ---- */

static void spaces_do_not_mix(struct ktap *t)
{
    enum { SPACES = 8, PAGES = 24 };
    struct env env;
    struct neomm_space *space[SPACES];
    neomm_vaddr_t at[SPACES];
    const struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 512};
    ASSERT(t, env_open(t, &env, &options));
    for (unsigned i = 0; i < SPACES; i++) {
        const struct neomm_limits limits = {NEOMM_UNLIMITED, i % 2 ? 5 * PAGE : NEOMM_UNLIMITED,
                                            NEOMM_UNLIMITED, NEOMM_UNLIMITED};
        at[i] = neomm_layout_of(env.root)->user_base;
        EXPECT_OK(t, neomm_space_create(env.root, &limits, &space[i]));
        EXPECT_OK(t, neomm_mmap(env.root, space[i], &at[i], PAGES * PAGE, RW, 0));
        EXPECT(t, neomm_space_at(env.root, neomm_space_index(space[i])) == space[i]);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SPACES; i++) {
            neomm_space_activate(env.root, space[i]);
            for (unsigned page = 0; page < PAGES; page++) {
                uint64_t value = 0, want = i * 1000 + page;
                if (round > 0) {
                    EXPECT_OK(
                        t, env_access(&env, space[i], at[i] + page * PAGE, &value, 8, false, true));
                    EXPECT_EQ(t, value, want);
                }
                EXPECT_OK(t, env_access(&env, space[i], at[i] + page * PAGE, &want, 8, true, true));
            }
            (void)neomm_space_evict(env.root, space[(i + 3) % SPACES], 4);
        }
        env_fsck(t, &env);
    }
    neomm_space_activate(env.root, NULL);
    for (unsigned i = 0; i < SPACES; i++)
        EXPECT_OK(t, neomm_space_destroy(env.root, space[i]));
    env_close(t, &env);
}

/* ---- valloc ---- */

static void valloc_and_vfree(struct ktap *t)
{
    struct env env;
    unsigned char *block[12];
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    for (unsigned i = 0; i < 12; i++) {
        size_t size = (i * 9 + 1) * 1000;
        block[i] = neomm_valloc(env.root, size, RW);
        ASSERT(t, block[i]);
        for (size_t at = 0; at < size; at++) {
            if (block[i][at] != 0)
                ktap_fail(t, __FILE__, __LINE__, "valloc memory is zero");
            block[i][at] = (unsigned char)(i + 1);
        }
    }
    EXPECT_EQ(t, neomm_vfree(env.root, block[3] + PAGE), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_vfree(env.root, &env), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_vfree(env.root, NULL));
    EXPECT_EQ(t, neomm_vmm_fini(env.root), NEOMM_E_BUSY);
    for (unsigned i = 0; i < 12; i++) {
        size_t size = (i * 9 + 1) * 1000;
        for (size_t at = 0; at < size; at++)
            if (block[i][at] != i + 1)
                ktap_fail(t, __FILE__, __LINE__, "valloc blocks do not overlap");
        EXPECT_OK(t, neomm_vfree(env.root, block[i]));
        EXPECT_EQ(t, neomm_vfree(env.root, block[i]), NEOMM_E_NOENT);
    }
    EXPECT(t, !neomm_valloc(env.root, 0, RW));
    EXPECT(t, !neomm_valloc(env.root, PAGE, RW | NEOMM_PROT_EXEC));
    EXPECT(t, !neomm_valloc(env.root, (size_t)1 << 30, RW));
    env_close(t, &env);
}

/* Pages come one by one, as they are touched; what was never touched costs nothing. */
static void lazy_ranges(struct ktap *t)
{
    struct env env;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    const size_t align = (size_t)1 << 16, pages = 64;
    unsigned char *page =
        neomm_valloc_aligned(env.root, pages * PAGE, align, RW, NEOMM_VALLOC_LAZY);
    ASSERT(t, page);
    EXPECT_EQ(t, neomm_window_vaddr(env.root, page) % align, 0);
    uint64_t free = neomm_pmm_free_frames(env.root);
    for (size_t at = 0; at < pages * PAGE; at += 3 * PAGE) {
        EXPECT_EQ(t, page[at], 0);
        page[at + PAGE - 1] = (unsigned char)(at / PAGE + 1);
    }
    uint64_t used = free - neomm_pmm_free_frames(env.root);
    EXPECT(t, used >= 22 && used <= 22 + 4);
    for (size_t at = 0; at < pages * PAGE; at += 3 * PAGE)
        EXPECT_EQ(t, page[at + PAGE - 1], at / PAGE + 1);
    env_fsck(t, &env);
    EXPECT_EQ(t, neomm_vfree(env.root, page + PAGE), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_vfree(env.root, page));
    EXPECT_EQ(t, neomm_vfree(env.root, page), NEOMM_E_NOENT);
    unsigned char *none = neomm_valloc_aligned(env.root, PAGE, 0, RW, NEOMM_VALLOC_LAZY);
    EXPECT_OK(t, neomm_vfree(env.root, none)); /* never touched */
    EXPECT(t, !neomm_valloc_aligned(env.root, PAGE, 3 * PAGE, RW, 0));
    EXPECT(t, !neomm_valloc_aligned(env.root, PAGE, PAGE, RW, 2));
    EXPECT(t, !neomm_valloc_aligned(env.root, PAGE, PAGE, NEOMM_PROT_NONE, NEOMM_VALLOC_LAZY));
    env_close(t, &env);
}

/* What a handler of kernel faults is told. */
static void kernel_faults(struct ktap *t)
{
    struct env env;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &options));
    struct neomm *root = env.root;
    const uint32_t write = NEOMM_PF_WRITE;
    char *eager = neomm_valloc(root, PAGE, RW);
    char *lazy = neomm_valloc_aligned(root, 2 * PAGE, 0, NEOMM_PROT_READ, NEOMM_VALLOC_LAZY);
    ASSERT(t, eager && lazy);
    neomm_vaddr_t at = neomm_window_vaddr(root, lazy), other = neomm_window_vaddr(root, eager);
    EXPECT_EQ(t, neomm_kernel_fault(root, at, write, true), NEOMM_FAULT_ACCESS);
    EXPECT_EQ(t, neomm_kernel_fault(root, at, 0, false), NEOMM_FAULT_ACCESS);
    EXPECT_EQ(t, neomm_kernel_fault(root, at + 2 * PAGE, 0, true), NEOMM_FAULT_SEGV);
    EXPECT_EQ(t, neomm_kernel_fault(root, other, 0, true), NEOMM_FAULT_SEGV);
    EXPECT_EQ(t, neomm_kernel_fault(root, neomm_layout_of(root)->user_base, 0, true),
              NEOMM_FAULT_SEGV);
    if (env_fault_plan(&env, 1, true)) {
        EXPECT_EQ(t, neomm_kernel_fault(root, at, 0, true), NEOMM_FAULT_NOMEM);
        for (uint64_t nth = 1; nth < 20; nth++) {
            (void)env_fault_plan(&env, nth, false);
            enum neomm_fault_outcome outcome = neomm_kernel_fault(root, at + PAGE, 0, true);
            EXPECT(t, outcome == NEOMM_FAULT_RESOLVED || outcome == NEOMM_FAULT_NOMEM);
        }
    }
    (void)env_fault_plan(&env, 0, false);
    EXPECT_EQ(t, neomm_kernel_fault(root, at, 0, true), NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, neomm_kernel_fault(root, at, 0, true), NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, lazy[1], 0);
    EXPECT_OK(t, neomm_vfree(root, lazy));
    EXPECT_EQ(t, neomm_kernel_fault(root, at, 0, true), NEOMM_FAULT_SEGV);
    EXPECT_OK(t, neomm_vfree(root, eager));
    env_close(t, &env);
}

/* ---- every failure ---- */

/* A small history through every call; stops quietly at the first error, which the sweep made. */
static neomm_status scenario(struct env *env, struct neomm_space **space)
{
    struct neomm *root = env->root;
    const struct neomm_limits limits = {NEOMM_UNLIMITED, 4 * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    neomm_vaddr_t at = neomm_layout_of(root)->user_base;
    neomm_status status = neomm_space_create(root, &limits, space);
    if (status != NEOMM_OK)
        return status;
    neomm_space_activate(root, *space);
    status = neomm_mmap(root, *space, &at, 24 * PAGE, RW, 0);
    for (uint64_t i = 0; i < 24 && status == NEOMM_OK; i++)
        status = env_access(env, *space, at + (neomm_vaddr_t)i * PAGE, &i, 8, true, true);
    for (uint64_t i = 0; i < 24 && status == NEOMM_OK; i++) {
        uint64_t value = 0;
        status = env_access(env, *space, at + (neomm_vaddr_t)i * PAGE, &value, 8, false, true);
        if (status == NEOMM_OK && value != i)
            return NEOMM_E_CORRUPT;
    }
    if (status == NEOMM_OK)
        status = neomm_mprotect(root, *space, at + 4 * PAGE, 4 * PAGE, NEOMM_PROT_READ);
    for (unsigned i = 0; i < 10 && status == NEOMM_OK; i++)
        status = neomm_munmap(root, *space, at + (2 * i + 1) * PAGE, PAGE);
    if (status != NEOMM_OK)
        return status;
    void *block = neomm_valloc(root, 40 * PAGE, RW);
    status = block ? neomm_vfree(root, block) : NEOMM_E_NOMEM;
    return status;
}

/* Parameter: format, and 0x10 for failing for good. */
static const uint64_t sweeps[] = {0x00, 0x01, 0x10, 0x11};

static void every_failure(struct ktap *t)
{
    static const uint64_t format[] = ENV_FORMATS;
    bool forever = t->parameter & 0x10;
    for (uint64_t n = 1; n < 2000 && t->failures == 0; n++) {
        struct env env;
        struct neomm_space *space = NULL;
        const struct env_options options = {.layer = ENV_VMM,
                                            .format = (enum neomm_format)format[t->parameter & 1],
                                            .swap_pages = 64,
                                            .no_zero_page = n % 2};
        ASSERT(t, env_open(t, &env, &options));
        if (!env_fault_plan(&env, n, forever)) {
            ktap_skip(t, "needs the instrumented flavour");
            env_close(t, &env);
            return;
        }
        neomm_status status = scenario(&env, &space);
        bool reached = env_fault_count(&env) >= n;
        EXPECT(t, status != NEOMM_E_CORRUPT);
        (void)env_fault_plan(&env, 0, false);
        env_fsck(t, &env);
        neomm_space_activate(env.root, NULL);
        if (space)
            EXPECT_OK(t, neomm_space_destroy(env.root, space));
        env_close(t, &env);
        if (t->failures)
            ktap_note(t, "failing pass %llu, status %d", (unsigned long long)n, (int)status);
        if (!reached) {
            EXPECT_OK(t, status);
            EXPECT(t, n > 20);
            return;
        }
    }
}

/* The layer itself: without the layers below, with an unknown policy, and at every failure. */
static void beginning_fails(struct ktap *t)
{
    struct env env;
    const struct neomm_vmm_options unknown = {.policy = "no such policy"};
    const struct neomm_vmm_options good = {.policy = "fifo", .zero_page = true};
    const struct env_options below = {.layer = ENV_SWAP, .format = (enum neomm_format)t->parameter};
    ASSERT(t, env_open(t, &env, &below));
    EXPECT_EQ(t, neomm_vmm_init(env.root, &unknown), NEOMM_E_NOENT);
    EXPECT_EQ(t, neomm_vmm_fini(env.root), NEOMM_E_NOENT);
    EXPECT(t, !neomm_valloc(env.root, PAGE, RW));
    EXPECT(t, !neomm_space_at(env.root, 1));
    struct neomm_space *space;
    unsigned failed = 0;
    EXPECT_EQ(t, neomm_space_create(env.root, NULL, &space), NEOMM_E_NOENT);
    for (uint64_t n = 1; n < 100 && env_fault_plan(&env, n, false); n++) {
        neomm_status status = neomm_vmm_init(env.root, &good);
        bool reached = env_fault_count(&env) >= n;
        (void)env_fault_plan(&env, 0, false);
        /* The heap may have got over it by its other page source. */
        EXPECT(t, status == NEOMM_OK || (reached && status == NEOMM_E_NOMEM));
        env_fsck(t, &env);
        failed += status == NEOMM_E_NOMEM;
        if (status == NEOMM_OK)
            EXPECT_OK(t, neomm_vmm_fini(env.root));
        if (!reached) {
            EXPECT(t, failed >= 2);
            break;
        }
    }
    EXPECT_OK(t, neomm_vmm_init(env.root, &good));
    EXPECT_OK(t, neomm_vmm_fini(env.root));
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(beginning_fails, formats),  KTAP_CASE_WITH(random_calls, model_runs),
    KTAP_CASE_WITH(bad_arguments, formats),    KTAP_CASE_WITH(fault_outcomes, formats),
    KTAP_CASE_WITH(user_copies, formats),      KTAP_CASE_WITH(spaces_do_not_mix, formats),
    KTAP_CASE_WITH(valloc_and_vfree, formats), KTAP_CASE_WITH(lazy_ranges, formats),
    KTAP_CASE_WITH(kernel_faults, formats),    KTAP_CASE_WITH(every_failure, sweeps),
};
KTAP_SUITE(vmm, cases);
