/* Pages to swap and back, on devices that fail, tear, lose, mix up and damage them: whatever
 * happens, what is read without an error is what was written.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/memory.h"
#include "swap/swap_priv.h"

#include <sim/sim.h>

#include <pthread.h>

#define WORDS  (NEOMM_PAGE_SIZE / sizeof(uint64_t))
#define FRAMES NEOMM_POLICY_BATCH

static const enum neomm_format formats[] = ENV_FORMATS;

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)next(seed) % limit;
}

/* A machine with two areas and frames to move. */
struct bench {
    struct env env;
    struct neomm *root;
    struct neomm_block_device *disk[2];
    neomm_frame_t frame[FRAMES];
};

static bool bench_open(struct ktap *t, struct bench *bench, uint32_t pages, uint64_t seed)
{
    const struct env_options options = {
        .layer = ENV_SWAP, .format = formats[0], .seed = seed, .cpus = 4};
    if (!env_open(t, &bench->env, &options))
        return false;
    bench->root = bench->env.root;
    for (unsigned i = 0; i < 2; i++) {
        bench->disk[i] = sim_disk_create(bench->env.machine, pages);
        sim_disk_make_swap(bench->disk[i]);
        EXPECT_OK(t, neomm_swap_add(bench->root, bench->disk[i], (int)i));
    }
    EXPECT_OK(t, neomm_pmm_alloc_bulk(bench->root, FRAMES, 0, bench->frame));
    return true;
}

static void bench_close(struct ktap *t, struct bench *bench)
{
    EXPECT_OK(t, neomm_pmm_free_bulk(bench->root, FRAMES, bench->frame, NULL));
    env_close(t, &bench->env);
}

/* The contents of page number `tag`: random words, for some tags one word repeated. */
static void make_page(uint64_t *page, uint64_t tag)
{
    uint64_t seed = tag * 31 + 7, word = next(&seed);
    for (size_t i = 0; i < WORDS; i++)
        page[i] = tag % 5 == 0 ? word : next(&seed);
}

static void frame_write(struct bench *bench, uint32_t frame, uint64_t tag)
{
    make_page(neomm_direct_pointer(bench->root, neomm_frame_paddr(bench->frame[frame])), tag);
}

static bool frame_holds(struct bench *bench, uint32_t frame, uint64_t tag)
{
    uint64_t want[WORDS];
    make_page(want, tag);
    return memcmp(want, neomm_direct_pointer(bench->root, neomm_frame_paddr(bench->frame[frame])),
                  sizeof(want)) == 0;
}

static struct neomm_swap_stats stats_of(struct bench *bench)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(bench->root, &stats);
    return stats;
}

static uint64_t operations(struct bench *bench)
{
    return sim_disk_operations(bench->disk[0]) + sim_disk_operations(bench->disk[1]);
}

static neomm_status write_one(struct bench *bench, struct neomm_swap_entry entry, uint32_t frame)
{
    struct neomm_swap_page page = {entry, bench->frame[frame], NEOMM_OK};
    neomm_status status = neomm_swap_write(bench->root, &page, 1);
    return status == page.status ? status : NEOMM_E_INVALID;
}

static neomm_status read_one(struct bench *bench, struct neomm_swap_entry entry, uint32_t frame)
{
    struct neomm_swap_page page = {entry, bench->frame[frame], NEOMM_OK};
    neomm_status status = neomm_swap_read(bench->root, &page, 1);
    return status == page.status ? status : NEOMM_E_INVALID;
}

/* ---- checksum ---- */

/* The sums that xxHash's own tests expect of its test bytes, with seed 0. */
static void published_sums(struct ktap *t)
{
    static const struct {
        size_t bytes;
        uint64_t sum;
    } sums[] = {{32, 0x18b216492bb44b70u},   {64, 0xef558f8acac2b5cdu},
                {128, 0x90ca021457d96dc5u},  {256, 0x5e3f5bf94d574981u},
                {512, 0x4358d2fdd62b58a7u},  {2048, 0x5940f2752bc04387u},
                {4096, 0xab77f4af85f4e70bu}, {4160, 0xeee6a4e2ac952a5eu}};
    static uint64_t words[4160 / 8];
    uint64_t next_byte = 2654435761u;
    for (size_t i = 0; i < sizeof(words); i++) {
        ((uint8_t *)words)[i] = (uint8_t)(next_byte >> 56);
        next_byte *= 11400714785074694797u;
    }
    for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++)
        EXPECT(t, neomm__swap_xxh64(words, sums[i].bytes / 8) == sums[i].sum);
    EXPECT(t, neomm__swap_checksum(words) == sums[6].sum);
    EXPECT(t, neomm_page_checksum(words) == sums[6].sum);
}

static void any_bit_counts(struct ktap *t)
{
    uint64_t page[WORDS];
    make_page(page, 1);
    uint64_t sum = neomm__swap_checksum(page);
    for (size_t bit = 0; bit < WORDS * 64; bit++) {
        page[bit / 64] ^= (uint64_t)1 << bit % 64;
        EXPECT(t, neomm__swap_checksum(page) != sum);
        page[bit / 64] ^= (uint64_t)1 << bit % 64;
    }
    EXPECT(t, neomm__swap_checksum(page) == sum);
}

/* Words in another order, runs of zeros, pages of almost nothing: all different. */
static void order_counts(struct ktap *t)
{
    uint64_t page[WORDS], seen[2 * WORDS];
    size_t count = 0;
    make_page(page, 1);
    seen[count++] = neomm__swap_checksum(page);
    for (size_t i = 1; i < WORDS; i++) {
        uint64_t word = page[i];
        page[i] = page[i - 1];
        page[i - 1] = word;
        seen[count++] = neomm__swap_checksum(page);
    }
    memset(page, 0, sizeof(page));
    for (size_t i = 0; i < WORDS; i++) {
        page[i] = 1;
        seen[count++] = neomm__swap_checksum(page);
        page[i] = 0;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            EXPECT(t, seen[i] != seen[j]);
}

static void filled_pages(struct ktap *t)
{
    uint64_t page[WORDS];
    memset(page, 0, sizeof(page));
    EXPECT(t, neomm__swap_is_filled(page));
    for (size_t i = 0; i < WORDS; i++) {
        page[i] = 1;
        EXPECT(t, !neomm__swap_is_filled(page));
        page[i] = 0;
    }
    for (size_t i = 0; i < WORDS; i++)
        page[i] = 0x123456789abcdef0u;
    EXPECT(t, neomm__swap_is_filled(page));
}

/* ---- one page ---- */

/* A filled page costs no I/O either way; other contents in the same slot do again. */
static void filled_needs_no_device(struct ktap *t)
{
    struct neomm_swap_entry entry;
    struct bench bench;
    if (!bench_open(t, &bench, 10, 1))
        return;
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &entry));
    uint64_t before = operations(&bench);
    frame_write(&bench, 0, 5);
    EXPECT_OK(t, write_one(&bench, entry, 0));
    EXPECT_OK(t, write_one(&bench, entry, 0));
    EXPECT_EQ(t, stats_of(&bench).filled, 1);
    EXPECT_OK(t, read_one(&bench, entry, 1));
    EXPECT(t, frame_holds(&bench, 1, 5));
    EXPECT_EQ(t, operations(&bench), before);
    frame_write(&bench, 0, 6);
    EXPECT_OK(t, write_one(&bench, entry, 0));
    EXPECT_EQ(t, stats_of(&bench).filled, 0);
    EXPECT_OK(t, read_one(&bench, entry, 1));
    EXPECT(t, frame_holds(&bench, 1, 6));
    EXPECT_EQ(t, operations(&bench), before + 2);
    frame_write(&bench, 0, 10);
    EXPECT_OK(t, write_one(&bench, entry, 0));
    env_fsck(t, &bench.env);
    EXPECT_OK(t, neomm_swap_free(bench.root, entry));
    EXPECT_EQ(t, stats_of(&bench).filled, 0);
    EXPECT_EQ(t, stats_of(&bench).writes, 1);
    EXPECT_EQ(t, stats_of(&bench).reads, 1);
    bench_close(t, &bench);
}

static void nothing_to_read(struct ktap *t)
{
    struct neomm_swap_entry entry, again;
    struct bench bench;
    if (!bench_open(t, &bench, 2, 1))
        return;
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &entry));
    EXPECT_EQ(t, read_one(&bench, entry, 0), NEOMM_E_NOENT);
    frame_write(&bench, 0, 1);
    EXPECT_OK(t, write_one(&bench, entry, 0));
    EXPECT_OK(t, read_one(&bench, entry, 1));
    EXPECT_OK(t, neomm_swap_free(bench.root, entry));
    EXPECT_EQ(t, read_one(&bench, entry, 0), NEOMM_E_NOENT);
    EXPECT_EQ(t, write_one(&bench, entry, 0), NEOMM_E_NOENT);
    /* The next owner of the slot does not see what was there. */
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &again));
    EXPECT_EQ(t, again.slot, entry.slot);
    EXPECT_EQ(t, read_one(&bench, again, 0), NEOMM_E_NOENT);
    EXPECT_EQ(t, write_one(&bench, entry, 0), NEOMM_E_NOENT);
    EXPECT_EQ(t, read_one(&bench, again, 0), NEOMM_E_NOENT);
    EXPECT_OK(t, neomm_swap_free(bench.root, again));
    bench_close(t, &bench);
}

static void batch_too_large(struct ktap *t)
{
    struct neomm_swap_page pages[NEOMM_POLICY_BATCH + 1] = {{{0, 0, 0}, {0}, NEOMM_OK}};
    struct bench bench;
    if (!bench_open(t, &bench, 2, 1))
        return;
    EXPECT_EQ(t, neomm_swap_write(bench.root, pages, NEOMM_POLICY_BATCH + 1), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_swap_read(bench.root, pages, NEOMM_POLICY_BATCH + 1), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_swap_write(bench.root, pages, 0));
    EXPECT_OK(t, neomm_swap_read(bench.root, pages, 0));
    bench_close(t, &bench);
}

/* A frame above the direct map, and no slot to see it through. */
static void frame_out_of_reach(struct ktap *t)
{
    struct neomm_swap_entry random, filled;
    struct bench bench;
    if (!bench_open(t, &bench, 10, 1))
        return;
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &random));
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &filled));
    frame_write(&bench, 0, 1);
    frame_write(&bench, 1, 5);
    EXPECT_OK(t, write_one(&bench, random, 0));
    EXPECT_OK(t, write_one(&bench, filled, 1));
    uint32_t direct = bench.root->frames.direct;
    struct neomm__slot_ops slots = bench.root->slots;
    bench.root->frames.direct = 0;
    bench.root->slots = (struct neomm__slot_ops){NULL, NULL};
    EXPECT_EQ(t, write_one(&bench, random, 0), NEOMM_E_NOMEM);
    EXPECT_EQ(t, read_one(&bench, random, 2), NEOMM_E_NOMEM);
    EXPECT_EQ(t, read_one(&bench, filled, 2), NEOMM_E_NOMEM);
    bench.root->frames.direct = direct;
    bench.root->slots = slots;
    EXPECT_OK(t, read_one(&bench, random, 2));
    EXPECT(t, frame_holds(&bench, 2, 1));
    EXPECT_OK(t, neomm_swap_free(bench.root, random));
    EXPECT_OK(t, neomm_swap_free(bench.root, filled));
    bench_close(t, &bench);
}

/* ---- devices that fail ---- */

/* The slot of a failed write is marked bad: readable no more, and never handed out again. */
static void failed_write(struct ktap *t)
{
    struct neomm_swap_entry entry, other;
    struct bench bench;
    if (!bench_open(t, &bench, 2, 1))
        return;
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &entry));
    frame_write(&bench, 0, 1);
    EXPECT_OK(t, write_one(&bench, entry, 0));
    sim_disk_fault(bench.disk[1], SIM_DISK_FAIL, 1, false);
    EXPECT_EQ(t, write_one(&bench, entry, 0), NEOMM_E_IO);
    EXPECT_EQ(t, read_one(&bench, entry, 1), NEOMM_E_IO);
    EXPECT_EQ(t, stats_of(&bench).write_errors, 1);
    EXPECT_EQ(t, stats_of(&bench).bad, 0);
    env_fsck(t, &bench.env);
    EXPECT_OK(t, neomm_swap_free(bench.root, entry));
    EXPECT_EQ(t, stats_of(&bench).bad, 1);
    EXPECT_EQ(t, stats_of(&bench).used, 0);
    EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &other));
    EXPECT(t, other.slot != entry.slot);
    EXPECT_EQ(t, neomm_swap_alloc(bench.root, 1, &entry), NEOMM_E_NOSPACE);
    EXPECT_OK(t, neomm_swap_free(bench.root, other));
    bench_close(t, &bench);
}

struct read_case {
    enum sim_disk_fault fault;
    neomm_status status; /* when it happens on and on */
};

static const struct read_case read_cases[] = {{SIM_DISK_FAIL, NEOMM_E_IO},
                                              {SIM_DISK_TEAR, NEOMM_E_CORRUPT},
                                              {SIM_DISK_CORRUPT, NEOMM_E_CORRUPT},
                                              {SIM_DISK_STALE, NEOMM_E_CORRUPT},
                                              {SIM_DISK_MISDIRECT, NEOMM_E_CORRUPT}};

/* Once is mended by the second try; for good is an error after exactly two. */
static void failed_read(struct ktap *t)
{
    for (size_t i = 0; i < NEOMM__COUNT_OF(read_cases); i++) {
        struct neomm_swap_entry entry;
        struct bench bench;
        if (!bench_open(t, &bench, 10, i))
            return;
        EXPECT_OK(t, neomm_swap_alloc(bench.root, 1, &entry));
        frame_write(&bench, 0, 1);
        EXPECT_OK(t, write_one(&bench, entry, 0));
        uint64_t before = operations(&bench);
        sim_disk_fault(bench.disk[1], read_cases[i].fault, 1, false);
        EXPECT_OK(t, read_one(&bench, entry, 1));
        EXPECT(t, frame_holds(&bench, 1, 1));
        EXPECT_EQ(t, operations(&bench), before + 2);
        sim_disk_fault(bench.disk[1], read_cases[i].fault, 1, true);
        EXPECT_EQ(t, read_one(&bench, entry, 1), read_cases[i].status);
        EXPECT_EQ(t, operations(&bench), before + 4);
        EXPECT_EQ(t, stats_of(&bench).read_errors + stats_of(&bench).corrupt, 3);
        sim_disk_fault(bench.disk[1], read_cases[i].fault, 0, false);
        EXPECT_OK(t, read_one(&bench, entry, 2));
        EXPECT(t, frame_holds(&bench, 2, 1));
        EXPECT_OK(t, neomm_swap_free(bench.root, entry));
        bench_close(t, &bench);
    }
}

/* ---- thousands of pages ---- */

#define LIVE 120

struct life {
    struct neomm_swap_entry entry;
    uint64_t tag; /* what was last written without an error; 0: nothing */
    bool used;
};

struct storm {
    struct ktap *t;
    struct bench bench;
    struct life live[LIVE];
    uint64_t seed, tags;
    uint64_t reads, errors;
    bool faults;
};

/* Up to a batch of different pages in use, or not in use, at random. */
static uint32_t choose(struct storm *storm, bool used, uint32_t *chosen)
{
    uint32_t count = 0, want = 1 + below(&storm->seed, NEOMM_POLICY_BATCH);
    uint32_t at = below(&storm->seed, LIVE), step = 1 + 2 * below(&storm->seed, 10);
    for (uint32_t i = 0; i < LIVE && count < want; i++, at = (at + step) % LIVE) {
        bool again = false;
        for (uint32_t j = 0; j < count; j++)
            again |= chosen[j] == at;
        if (!again && storm->live[at].used == used)
            chosen[count++] = at;
    }
    return count;
}

static void storm_write(struct storm *storm, const uint32_t *chosen, uint32_t count)
{
    struct neomm_swap_page pages[NEOMM_POLICY_BATCH];
    uint64_t tag[NEOMM_POLICY_BATCH];
    for (uint32_t i = 0; i < count; i++) {
        tag[i] = ++storm->tags;
        frame_write(&storm->bench, i, tag[i]);
        pages[i] =
            (struct neomm_swap_page){storm->live[chosen[i]].entry, storm->bench.frame[i], NEOMM_OK};
    }
    neomm_status status = neomm_swap_write(storm->bench.root, pages, count);
    neomm_status first = NEOMM_OK;
    for (uint32_t i = 0; i < count; i++) {
        if (first == NEOMM_OK)
            first = pages[i].status;
        storm->live[chosen[i]].tag = pages[i].status == NEOMM_OK ? tag[i] : 0;
        EXPECT(storm->t,
               pages[i].status == NEOMM_OK || (storm->faults && pages[i].status == NEOMM_E_IO));
        EXPECT(storm->t, frame_holds(&storm->bench, i, tag[i]));
    }
    EXPECT_EQ(storm->t, status, first);
}

static void storm_alloc(struct storm *storm)
{
    uint32_t chosen[NEOMM_POLICY_BATCH], got = 0;
    uint32_t count = choose(storm, false, chosen);
    while (got < count) {
        struct life *life = &storm->live[chosen[got]];
        neomm_status status = neomm_swap_alloc(storm->bench.root, got % 3, &life->entry);
        EXPECT(storm->t, status == NEOMM_OK || storm->faults);
        if (status != NEOMM_OK)
            break;
        life->used = true;
        life->tag = 0;
        got++;
    }
    storm_write(storm, chosen, got);
}

static void storm_read(struct storm *storm)
{
    uint32_t chosen[NEOMM_POLICY_BATCH];
    struct neomm_swap_page pages[NEOMM_POLICY_BATCH];
    uint32_t count = choose(storm, true, chosen);
    for (uint32_t i = 0; i < count; i++)
        pages[i] =
            (struct neomm_swap_page){storm->live[chosen[i]].entry, storm->bench.frame[i], NEOMM_OK};
    (void)neomm_swap_read(storm->bench.root, pages, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct life *life = &storm->live[chosen[i]];
        storm->reads++;
        storm->errors += pages[i].status != NEOMM_OK;
        if (pages[i].status == NEOMM_OK)
            EXPECT(storm->t, life->tag != 0 && frame_holds(&storm->bench, i, life->tag));
        else
            EXPECT(storm->t, storm->faults);
    }
}

static void storm_free(struct storm *storm)
{
    uint32_t chosen[NEOMM_POLICY_BATCH];
    uint32_t count = choose(storm, true, chosen);
    for (uint32_t i = 0; i < count; i++) {
        EXPECT_OK(storm->t, neomm_swap_free(storm->bench.root, storm->live[chosen[i]].entry));
        storm->live[chosen[i]].used = false;
    }
}

static void storm_run(struct storm *storm, unsigned steps)
{
    for (unsigned step = 0; step < steps && storm->t->failures == 0; step++) {
        uint32_t chosen[NEOMM_POLICY_BATCH];
        switch (below(&storm->seed, 6)) {
        case 0:
        case 1:
            storm_alloc(storm);
            break;
        case 2:
            storm_write(storm, chosen, choose(storm, true, chosen));
            break;
        case 3:
            storm_free(storm);
            break;
        default:
            storm_read(storm);
        }
        if (step % 64 == 0)
            env_fsck(storm->t, &storm->bench.env);
    }
}

static bool storm_open(struct ktap *t, struct storm *storm, bool faults, uint64_t seed)
{
    memset(storm, 0, sizeof(*storm));
    storm->t = t;
    storm->faults = faults;
    storm->seed = seed;
    return bench_open(t, &storm->bench, LIVE, seed);
}

static void storm_close(struct storm *storm)
{
    for (uint32_t i = 0; i < LIVE; i++)
        if (storm->live[i].used)
            EXPECT_OK(storm->t, neomm_swap_free(storm->bench.root, storm->live[i].entry));
    bench_close(storm->t, &storm->bench);
}

/* Sound devices: no errors at all, and counters that add up. */
static void integrity(struct ktap *t)
{
    static struct storm storm;
    if (!storm_open(t, &storm, false, t->parameter))
        return;
    storm_run(&storm, 600);
    struct neomm_swap_stats stats = stats_of(&storm.bench);
    EXPECT_EQ(t, storm.errors, 0);
    EXPECT_EQ(t, stats.read_errors + stats.write_errors + stats.corrupt + stats.bad, 0);
    EXPECT_EQ(t, stats.reads + stats.writes + 2, operations(&storm.bench));
    EXPECT_EQ(t, neomm__counter_sum(storm.bench.root, NEOMM_COUNTER_SWAP_READ), storm.reads);
    EXPECT_EQ(t, neomm__counter_sum(storm.bench.root, NEOMM_COUNTER_SWAP_WRITE), storm.tags);
    EXPECT(t, storm.reads > 1000);
    storm_close(&storm);
}

/* One kind of fault, again and again at random operations. */
static void integrity_with_faults(struct ktap *t)
{
    static struct storm storm;
    enum sim_disk_fault kind = (enum sim_disk_fault)(t->parameter % 6);
    if (!storm_open(t, &storm, true, t->parameter))
        return;
    for (unsigned round = 0; round < 60 && t->failures == 0; round++) {
        for (unsigned i = 0; i < 2; i++)
            sim_disk_fault(storm.bench.disk[i], kind, 1 + below(&storm.seed, 60),
                           below(&storm.seed, 12) == 0);
        storm_run(&storm, 8);
    }
    for (unsigned i = 0; i < 2; i++)
        sim_disk_fault(storm.bench.disk[i], kind, 0, false);
    struct neomm_swap_stats stats = stats_of(&storm.bench);
    EXPECT(t, stats.read_errors + stats.write_errors + stats.corrupt > 0);
    EXPECT(t, storm.reads > storm.errors && storm.errors > 0);
    storm_close(&storm);
}

/* ---- fault points ---- */

/* A life of the layer; whatever it could not get, it gives back all it got. */
static neomm_status scenario(struct neomm *root, struct neomm_block_device *disk,
                             neomm_frame_t frame)
{
    struct neomm_swap_page page = {{0, 0, 0}, frame, NEOMM_OK};
    neomm_status status = neomm_swap_init(root), freed;
    if (status != NEOMM_OK)
        return status;
    status = neomm_swap_add(root, disk, 0);
    if (status == NEOMM_OK)
        status = neomm_swap_alloc(root, 1, &page.entry);
    if (status == NEOMM_OK) {
        status = neomm_swap_write(root, &page, 1);
        if (status == NEOMM_OK)
            status = neomm_swap_read(root, &page, 1);
        freed = neomm_swap_free(root, page.entry);
        status = status == NEOMM_OK ? freed : status;
    }
    freed = neomm_fsck(root, NULL, NULL) == 0 ? neomm_swap_fini(root) : NEOMM_E_CORRUPT;
    return freed == NEOMM_OK ? status : NEOMM_E_BUSY;
}

static void fault_sweep(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_PMM, .format = formats[0]};
    neomm_frame_t frame;
    struct env env;
    uint64_t n = 0, passes;
    if (!env_open(t, &env, &options))
        return;
    if (!env_fault_plan(&env, 0, false)) {
        ktap_skip(t, "needs the instrumented flavour");
        env_close(t, &env);
        return;
    }
    struct neomm_block_device *disk = sim_disk_create(env.machine, 10);
    sim_disk_make_swap(disk);
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 0, 0, &frame));
    make_page(neomm_direct_pointer(env.root, neomm_frame_paddr(frame)), 1);
    do {
        uint64_t used = neomm_pmm_free_frames(env.root);
        (void)env_fault_plan(&env, ++n, t->parameter != 0);
        neomm_status status = scenario(env.root, disk, frame);
        passes = env_fault_count(&env);
        (void)env_fault_plan(&env, 0, false);
        EXPECT(t, n > passes ? status == NEOMM_OK
                             : status == NEOMM_E_NOMEM || status == NEOMM_E_IO ||
                                   status == NEOMM_E_NOSPACE);
        EXPECT_EQ(t, neomm_pmm_free_frames(env.root), used);
    } while (n <= passes && n < 100);
    EXPECT(t, n > 8 && n < 100);
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 0));
    env_close(t, &env);
}

/* ---- several CPUs ---- */

struct worker {
    pthread_t thread;
    struct bench *bench;
    uint32_t cpu;
    unsigned wrong; /* findings; the harness is not for threads */
};

/* Its own slots, written and read back while others do the same. */
static void work_once(struct worker *worker, uint64_t *seed)
{
    struct neomm *root = worker->bench->root;
    struct neomm_swap_page pages[4];
    uint32_t first = worker->cpu * 8, count = 0;
    uint64_t tag = next(seed) | 1;
    while (count < 4 && neomm_swap_alloc(root, worker->cpu, &pages[count].entry) == NEOMM_OK) {
        pages[count].frame = worker->bench->frame[first + count];
        frame_write(worker->bench, first + count, tag + count);
        count++;
    }
    worker->wrong += neomm_swap_write(root, pages, count) != NEOMM_OK;
    for (uint32_t i = 0; i < count; i++) {
        pages[i].frame = worker->bench->frame[first + 4 + i];
        worker->wrong += neomm_swap_dup(root, pages[i].entry) != NEOMM_OK;
    }
    worker->wrong += neomm_swap_read(root, pages, count) != NEOMM_OK;
    for (uint32_t i = 0; i < count; i++) {
        worker->wrong += !frame_holds(worker->bench, first + 4 + i, tag + i);
        worker->wrong += neomm_swap_free(root, pages[i].entry) != NEOMM_OK;
        worker->wrong += neomm_swap_free(root, pages[i].entry) != NEOMM_OK;
        worker->wrong += neomm_swap_free(root, pages[i].entry) != NEOMM_E_NOENT;
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t seed = worker->cpu;
    sim_bind(worker->bench->env.machine, worker->cpu);
    for (unsigned i = 0; i < 200; i++)
        work_once(worker, &seed);
    sim_unbind();
    return NULL;
}

/* Few slots, so that all threads are after the same ones. */
static void threads(struct ktap *t)
{
    struct worker worker[4];
    struct bench bench;
    if (!bench_open(t, &bench, 8, 1))
        return;
    for (uint32_t i = 0; i < 4; i++) {
        worker[i] = (struct worker){.bench = &bench, .cpu = i};
        ASSERT(t, pthread_create(&worker[i].thread, NULL, work, &worker[i]) == 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        (void)pthread_join(worker[i].thread, NULL);
        EXPECT_EQ(t, worker[i].wrong, 0);
    }
    sim_bind(bench.env.machine, 0);
    EXPECT_EQ(t, stats_of(&bench).used, 0);
    bench_close(t, &bench);
}

static const uint64_t seeds[] = {1, 2};
static const uint64_t fault_seeds[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint64_t no_yes[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE(published_sums),
    KTAP_CASE(any_bit_counts),
    KTAP_CASE(order_counts),
    KTAP_CASE(filled_pages),
    KTAP_CASE(filled_needs_no_device),
    KTAP_CASE(nothing_to_read),
    KTAP_CASE(batch_too_large),
    KTAP_CASE(frame_out_of_reach),
    KTAP_CASE(failed_write),
    KTAP_CASE(failed_read),
    KTAP_CASE_WITH(integrity, seeds),
    KTAP_CASE_WITH(integrity_with_faults, fault_seeds),
    KTAP_CASE_WITH(fault_sweep, no_yes),
    KTAP_CASE(threads),
};

KTAP_SUITE(swap_io, cases);
