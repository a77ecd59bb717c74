/* Random histories of a file in two processes and a child, mapped shared and private, read,
 * written, cut off, synced, given up and failing, against arrays of bytes; and what is left of it
 * when power is lost. SPDX-License-Identifier: MIT */
#include "file_pager.h"
#include "share.h"

#include "vmm/balance.h"
#include "vmm/cache.h"

#define PAGE      FILE_PAGE
#define PAGES     12u
#define BYTES     (PAGES * PAGE)
#define PROCESSES 3u
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct process {
    struct neomm_space *space;
    bool own[PAGES]; /* the private mapping has a copy */
    uint8_t copy[PAGES][NEOMM_PAGE_SIZE];
};

struct world {
    struct env env;
    struct ktap *t;
    struct neomm *root;
    struct file file;
    struct neomm_object *object;
    neomm_vaddr_t shared, private;
    uint64_t bytes;
    uint8_t contents[BYTES];
    bool changed[PAGES]; /* since it was last made safe */
    struct process process[PROCESSES];
    uint64_t random;
    bool failing; /* the disk */
};

static uint32_t pick(struct world *w, uint32_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((w->random >> 33) % below);
}

static void map_both(struct world *w, struct process *p)
{
    neomm_vaddr_t shared = w->shared, private = w->private;
    EXPECT_OK(w->t, neomm_mmap_object(w->root, p->space, &shared, BYTES, RW, NEOMM_MAP_FIXED,
                                      w->object, 0));
    EXPECT_OK(w->t, neomm_mmap_object(w->root, p->space, &private, BYTES, RW,
                                      NEOMM_MAP_FIXED | NEOMM_MAP_PRIVATE, w->object, 0));
}

static bool world_open(struct ktap *t, struct world *w, const struct env_options *options)
{
    memset(w, 0, sizeof(*w));
    w->t = t;
    w->random = options->seed + 1;
    w->bytes = BYTES - 100;
    if (!env_open(t, &w->env, options))
        return false;
    w->root = w->env.root;
    w->shared = neomm_layout_of(w->root)->user_base;
    w->private = w->shared + 64 * PAGE;
    file_open(t, &w->file, &w->env, w->bytes);
    for (uint64_t i = 0; i < w->bytes; i++)
        w->contents[i] = file_byte(i);
    EXPECT_OK(t, neomm_object_create_paged(w->root, &w->file.pager, "file", w->bytes, &w->object));
    for (uint32_t i = 0; i < PROCESSES - 1; i++) {
        EXPECT_OK(t, neomm_space_create(w->root, NULL, &w->process[i].space));
        map_both(w, &w->process[i]);
    }
    return t->failures == 0;
}

/* ---- steps ---- */

/* While the disk fails any access may fail for it. */
static bool went_well(struct world *w, neomm_status status, neomm_status error, bool possible)
{
    if (!possible)
        EXPECT_EQ(w->t, status, error);
    else if (!w->failing || status != error)
        EXPECT_OK(w->t, status);
    return status == NEOMM_OK;
}

static void step_shared(struct world *w, struct process *p, bool write)
{
    uint64_t at = pick(w, BYTES / 8) * 8u;
    uint64_t value = w->random, have = value;
    bool inside = at + 8 <= w->bytes;
    if (!inside && at < w->bytes)
        return;
    bool there = at / PAGE < (w->bytes + PAGE - 1) / PAGE;
    if (write && !inside && there)
        return;
    neomm_space_activate(w->root, p->space);
    neomm_status status =
        env_access(&w->env, p->space, w->shared + (neomm_vaddr_t)at, &have, 8, write, true);
    if (!went_well(w, status, NEOMM_E_FAULT, there))
        return;
    if (write) {
        memcpy(w->contents + at, &value, 8);
        w->changed[at / PAGE] = true;
    } else {
        EXPECT(w->t, memcmp(w->contents + at, &have, 8) == 0);
    }
}

static void step_private(struct world *w, struct process *p, bool write)
{
    uint32_t page = pick(w, PAGES), at = pick(w, NEOMM_PAGE_SIZE / 8) * 8u;
    uint64_t value = w->random, have = value;
    const uint8_t *seen = p->own[page] ? p->copy[page] : w->contents + page * PAGE;
    bool there = p->own[page] || page * PAGE < w->bytes;
    neomm_space_activate(w->root, p->space);
    neomm_status status =
        env_access(&w->env, p->space, w->private + page * PAGE + at, &have, 8, write, true);
    if (!went_well(w, status, NEOMM_E_FAULT, there))
        return;
    if (!write) {
        EXPECT(w->t, memcmp(seen + at, &have, 8) == 0);
        return;
    }
    if (!p->own[page])
        memcpy(p->copy[page], seen, PAGE);
    p->own[page] = true;
    memcpy(p->copy[page] + at, &value, 8);
}

static void step_file(struct world *w, bool write)
{
    static uint8_t buffer[3 * NEOMM_PAGE_SIZE];
    uint64_t at = pick(w, BYTES);
    size_t size = pick(w, sizeof(buffer)), done;
    uint64_t left = at < w->bytes ? w->bytes - at : 0;
    memset(buffer, (int)pick(w, 256), sizeof(buffer));
    neomm_status status = write ? neomm_object_write(w->root, w->object, at, buffer, size, &done)
                                : neomm_object_read(w->root, w->object, at, buffer, size, &done);
    if (went_well(w, status, NEOMM_E_IO, true))
        EXPECT_EQ(w->t, done, size < left ? size : left);
    if (!write)
        EXPECT(w->t, memcmp(w->contents + at, buffer, done) == 0);
    else
        memcpy(w->contents + at, buffer, done);
    for (uint64_t i = at; write && i < at + done; i++)
        w->changed[i / PAGE] = true;
}

static void step_resize(struct world *w)
{
    uint64_t bytes = 1 + pick(w, BYTES);
    EXPECT_OK(w->t, neomm_object_resize(w->root, w->object, bytes));
    EXPECT_EQ(w->t, neomm_object_size(w->object), bytes);
    if (bytes < w->bytes)
        memset(w->contents + bytes, 0, (size_t)(BYTES - bytes));
    w->bytes = bytes;
}

/* What was confirmed, and has not changed since, survives a loss of power. */
static void check_safe(struct world *w)
{
    for (uint32_t page = 0; page < PAGES; page++)
        if (!w->changed[page])
            EXPECT(w->t, memcmp(w->file.safe + page * PAGE, w->contents + page * PAGE, PAGE) == 0);
}

static void step_sync(struct world *w, struct process *p)
{
    uint32_t first = pick(w, PAGES), count = 1 + pick(w, PAGES - first);
    neomm_status status =
        pick(w, 2)
            ? neomm_object_sync(w->root, w->object, first * PAGE + 9, count * PAGE - 9)
            : neomm_msync(w->root, p->space, w->shared + first * PAGE, count * PAGE, NEOMM_MS_SYNC);
    if (went_well(w, status, NEOMM_E_IO, true))
        for (uint32_t i = 0; i < count; i++)
            w->changed[first + i] = false;
    check_safe(w);
}

static void end_process(struct world *w, struct process *p)
{
    neomm_space_activate(w->root, NULL);
    if (p->space)
        EXPECT_OK(w->t, neomm_space_destroy(w->root, p->space));
    p->space = NULL;
}

static void step_fork(struct world *w)
{
    struct process *child = &w->process[PROCESSES - 1];
    struct process *parent = &w->process[pick(w, PROCESSES - 1)];
    struct neomm_space *space = NULL;
    if (child->space) {
        end_process(w, child);
        return;
    }
    EXPECT_OK(w->t, neomm_space_fork(w->root, parent->space, &space));
    *child = *parent;
    child->space = space;
}

static void step_advice(struct world *w, struct process *p)
{
    static const enum neomm_advice advice[] = {NEOMM_ADVICE_NORMAL,  NEOMM_ADVICE_SEQUENTIAL,
                                               NEOMM_ADVICE_RANDOM,  NEOMM_ADVICE_WILLNEED,
                                               NEOMM_ADVICE_PAGEOUT, NEOMM_ADVICE_DONTNEED};
    uint32_t what = pick(w, 6), first = pick(w, PAGES), count = 1 + pick(w, PAGES - first);
    bool private = pick(w, 2);
    neomm_vaddr_t at = (private ? w->private : w->shared) + first * PAGE;
    EXPECT_OK(w->t, neomm_madvise(w->root, p->space, at, count * PAGE, advice[what]));
    for (uint32_t i = first; private && advice[what] == NEOMM_ADVICE_DONTNEED && i < first + count;
         i++)
        p->own[i] = false;
}

static void step_rights(struct world *w, struct process *p)
{
    neomm_vaddr_t at = w->shared + pick(w, PAGES) * PAGE;
    EXPECT_OK(w->t, neomm_mprotect(w->root, p->space, at, PAGE, NEOMM_PROT_READ));
    EXPECT_OK(w->t, neomm_mprotect(w->root, p->space, at, PAGE, RW));
}

static void step_disk(struct world *w)
{
    w->failing = !w->failing && pick(w, 3) == 0;
    sim_disk_fault(w->file.disk, SIM_DISK_FAIL, w->failing ? 1 + pick(w, 20) : 0, w->failing);
    w->file.hold = false;
}

static void step(struct world *w)
{
    struct process *p = &w->process[pick(w, PROCESSES)];
    uint32_t what = pick(w, 64);
    if (!p->space)
        p = &w->process[0];
    if (what < 20)
        step_shared(w, p, what % 2);
    else if (what < 36)
        step_private(w, p, what % 2);
    else if (what < 42)
        step_file(w, what % 2);
    else if (what < 44)
        step_resize(w);
    else if (what < 48)
        step_sync(w, p);
    else if (what < 50)
        step_fork(w);
    else if (what < 53)
        (void)neomm_cache_shrink(w->root, 1 + pick(w, 8));
    else if (what < 55)
        (void)neomm__reclaim(w->root, 1 + pick(w, 12));
    else if (what < 58)
        step_advice(w, p);
    else if (what < 60)
        step_rights(w, p);
    else if (what < 62)
        (void)neomm_cache_write_back(w->root, 1 + pick(w, 8));
    else
        step_disk(w);
}

static void world_close(struct world *w)
{
    w->failing = false;
    sim_disk_fault(w->file.disk, SIM_DISK_FAIL, 0, false);
    for (uint32_t i = 0; i < PROCESSES; i++)
        end_process(w, &w->process[i]);
    env_fsck(w->t, &w->env);
    neomm_object_close(w->root, w->object);
    EXPECT_EQ(w->t, w->file.released, 0);
    EXPECT_OK(w->t, neomm_object_unlink(w->root, "file"));
    EXPECT_EQ(w->t, w->file.released, 1);
    EXPECT(w->t, memcmp(w->file.safe, w->contents, BYTES) == 0);
    env_close(w->t, &w->env);
}

/* Parameter: format | seed << 4. */
static const uint64_t histories[] = {0x10, 0x20, 0x31, 0x41, 0x50, 0x61};

static void random_calls(struct ktap *t)
{
    static struct world world;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = (enum neomm_format)formats[t->parameter & 1],
                                        .swap_pages = 128,
                                        .policy = t->parameter >> 4 > 4 ? "clock" : NULL,
                                        .seed = t->parameter >> 4,
                                        .whims = 1};
    ASSERT(t, world_open(t, &world, &options));
    if (t->parameter >> 4 > 2)
        neomm_cache_set_dirty_limit(world.root, 4);
    for (uint64_t i = 0; i < share_of(8000) && t->failures == 0; i++) {
        step(&world);
        if (i % 200 == 0)
            env_fsck(t, &world.env);
    }
    world_close(&world);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_calls, histories),
};
KTAP_SUITE(pager_model, cases);
