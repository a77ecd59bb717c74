/* Every page that leaves memory is compared byte by byte when it comes back, under a disk that
 * fails, tears, corrupts, loses, misdirects, shortens, delays or returns old data at every nth
 * operation, with slots that run out, without free frames, and when the disk is gone: never a wrong
 * byte, and a page is lost exactly where its stored copy was damaged. SPDX-License-Identifier: MIT
 */
#include "env.h"

#include "sim/sim.h"
#include "swap/swap_cache.h"
#include "vmm/vmm_priv.h"

#include <stdlib.h>
#include <string.h>

#define PAGE   NEOMM_PAGE_SIZE
#define SPACES 64u
#define PAGES  12u
#define RW     (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

struct process {
    struct neomm_space *space;
    uint64_t version[PAGES]; /* of what each page holds; 0: zeros */
};

struct load {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_block_device *disk;
    struct process process[SPACES];
    neomm_vaddr_t at;
    uint64_t random, versions;
    bool gone;   /* the disk */
    bool astray; /* a read may be misdirected to where the write was */
    uint64_t mistakes, lost, killed;
    neomm_frame_t held[1024];
    uint32_t holds;
};

static uint32_t below(struct load *l, uint32_t limit)
{
    l->random = l->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((l->random >> 33) % limit);
}

static void mistake(struct load *l, const char *what)
{
    if (l->mistakes++ == 0)
        ktap_fail(l->t, __FILE__, __LINE__, what);
}

/* What a version holds: one word repeated, words of few bits, or noise. */
static void contents(uint64_t version, uint64_t *words)
{
    for (uint64_t i = 0; i < PAGE / 8; i++) {
        uint64_t word = (version + i) * 0x9e3779b97f4a7c15u;
        word ^= word >> 29;
        words[i] = version == 0       ? 0
                   : version % 5 == 0 ? version
                   : version % 5 == 1 ? version << 32 | (word & 0xff)
                                      : word * 0xbf58476d1ce4e5b9u;
    }
}

static bool is_filled(uint64_t version)
{
    return version % 5 == 0;
}

/* ---- processes ---- */

static void be_born(struct load *l, struct process *p)
{
    *p = (struct process){NULL, {0}};
    if (neomm_space_create(l->root, NULL, &p->space) != NEOMM_OK)
        return;
    neomm_vaddr_t at = l->at;
    if (neomm_mmap(l->root, p->space, &at, PAGES * PAGE, RW,
                   NEOMM_MAP_EXACT | NEOMM_MAP_NORESERVE) == NEOMM_OK)
        return;
    if (neomm_space_destroy(l->root, p->space) != NEOMM_OK)
        mistake(l, "a space could not be destroyed");
    p->space = NULL;
}

static void die(struct load *l, struct process *p)
{
    neomm_space_activate(l->root, NULL);
    if (p->space && neomm_space_destroy(l->root, p->space) != NEOMM_OK)
        mistake(l, "a space could not be destroyed");
    p->space = NULL;
}

static void fork_into(struct load *l, struct process *child, const struct process *parent)
{
    die(l, child);
    *child = *parent;
    if (neomm_space_fork(l->root, parent->space, &child->space) != NEOMM_OK)
        child->space = NULL;
}

/* ---- pages ---- */

/* Is the page nowhere but in a copy that cannot be read? Others may have it in memory. */
static bool is_lost(struct load *l, const struct process *p, uint32_t page)
{
    struct neomm_mapping leaf;
    if (neomm_paging_query(l->root, &p->space->tables, l->at + page * PAGE, &leaf) != NEOMM_OK ||
        leaf.state != NEOMM_MAPPING_SWAPPED || is_filled(p->version[page]) ||
        !neomm_frame_is_nil(neomm__swap_cached(l->root, leaf.swap)))
        return false;
    return l->gone || sim_disk_is_damaged(l->disk, leaf.swap.slot);
}

/* An access failed: its process was chosen when memory ran out, or its page is lost, which gets
 * another one in its place. */
static void failed(struct load *l, struct process *p, uint32_t page, bool lost)
{
    if (neomm__is_victim(p->space)) {
        l->killed++;
        die(l, p);
        return;
    }
    if (!lost) {
        mistake(l, "an access failed, and its page was not damaged");
        return;
    }
    l->lost++;
    neomm_vaddr_t at = l->at + page * PAGE;
    p->version[page] = 0;
    if (neomm_munmap(l->root, p->space, at, PAGE) != NEOMM_OK ||
        neomm_mmap(l->root, p->space, &at, PAGE, RW, NEOMM_MAP_EXACT | NEOMM_MAP_NORESERVE) !=
            NEOMM_OK)
        die(l, p); /* there was no memory for it */
}

static void use(struct load *l, struct process *p, uint32_t page, bool write)
{
    uint64_t words[PAGE / 8], want[PAGE / 8];
    neomm_space_activate(l->root, p->space);
    contents(p->version[page], want);
    bool lost = is_lost(l, p, page);
    neomm_status status =
        env_access(&l->env, p->space, l->at + page * PAGE, words, PAGE, false, true);
    if (status != NEOMM_OK) {
        failed(l, p, page, lost);
        return;
    }
    if (lost && !l->astray)
        mistake(l, "a page came back from a copy that was damaged");
    if (memcmp(words, want, PAGE) != 0)
        mistake(l, "a page came back with wrong bytes");
    if (!write)
        return;
    contents(++l->versions, want);
    status = env_access(&l->env, p->space, l->at + page * PAGE, want, PAGE, true, true);
    if (status == NEOMM_OK)
        p->version[page] = l->versions;
    else
        failed(l, p, page, is_lost(l, p, page)); /* it went meanwhile */
}

static void step(struct load *l)
{
    struct process *p = &l->process[below(l, SPACES)];
    uint32_t what = below(l, 100), page = below(l, PAGES);
    if (!p->space)
        be_born(l, p);
    else if (what < 50)
        use(l, p, page, false);
    else if (what < 92)
        use(l, p, page, true);
    else if (what < 97)
        (void)neomm__reclaim(l->root, 1 + below(l, 40));
    else if (what < 98)
        die(l, p);
    else
        fork_into(l, &l->process[(uint32_t)(p - l->process + 1) % SPACES], p);
}

/* ---- a load ---- */

/* Frames that are free, so many are left. */
static void leave_free(struct load *l, uint32_t frames)
{
    while (l->holds < 1024 && neomm_pmm_free_frames(l->root) > frames &&
           neomm_pmm_alloc(l->root, 0, NEOMM_ATOMIC | NEOMM_RESERVE, &l->held[l->holds]) ==
               NEOMM_OK)
        l->holds++;
}

static bool load_open(struct ktap *t, struct load *l, enum neomm_format format, uint32_t slots,
                      uint32_t frames)
{
    const struct env_options options = {
        .layer = ENV_VMM, .no_pool = true, .format = format, .ram_bytes = 4u << 20, .seed = slots};
    *l = (struct load){.t = t, .random = frames};
    if (!env_open(t, &l->env, &options))
        return false;
    l->root = l->env.root;
    l->at = neomm_layout_of(l->root)->user_base;
    l->disk = sim_disk_create(l->env.machine, slots + 1);
    sim_disk_make_swap(l->disk);
    EXPECT_OK(t, neomm_swap_add(l->root, l->disk, 0));
    leave_free(l, frames);
    return true;
}

static uint64_t swap_operations(struct load *l)
{
    return neomm__counter_sum(l->root, NEOMM_COUNTER_SWAP_READ) +
           neomm__counter_sum(l->root, NEOMM_COUNTER_SWAP_WRITE);
}

/* As many as NEOMM_SWAP_OPERATIONS says, for all loads together. */
static uint64_t operations_wanted(void)
{
    const char *text = getenv("NEOMM_SWAP_OPERATIONS");
    long long wanted = text ? atoll(text) : 0;
    return wanted > 0 ? (uint64_t)wanted / 10 : 3000;
}

static void run(struct load *l, uint64_t operations)
{
    uint64_t until = swap_operations(l) + operations;
    for (uint64_t steps = 0;
         l->mistakes == 0 && steps < 4 * operations + 1000 && swap_operations(l) < until; steps++) {
        step(l);
        if (steps % 1000 == 0)
            env_fsck(l->t, &l->env);
    }
}

static void load_close(struct load *l, const char *what)
{
    struct neomm_swap_stats stats;
    sim_disk_fault_every(l->disk, SIM_DISK_FAIL, 0);
    neomm_swap_stats(l->root, &stats);
    for (unsigned i = 0; i < SPACES && l->mistakes == 0; i++)
        for (uint32_t page = 0; page < PAGES && l->process[i].space; page++)
            use(l, &l->process[i], page, false);
    ktap_note(l->t,
              "%s: %llu swap operations, %llu pages lost, %llu spaces ended for memory, %llu "
              "slots bad",
              what, (unsigned long long)swap_operations(l), (unsigned long long)l->lost,
              (unsigned long long)l->killed, (unsigned long long)stats.bad);
    env_fsck(l->t, &l->env);
    for (unsigned i = 0; i < SPACES; i++)
        die(l, &l->process[i]);
    EXPECT_OK(l->t, neomm_pmm_free_bulk(l->root, l->holds, l->held, NULL));
    env_close(l->t, &l->env);
}

/* ---- the disk's faults ---- */

struct kind {
    const char *name;
    enum sim_disk_fault fault;
    bool loses; /* copies */
};

static const struct kind kinds[] = {
    {"fails", SIM_DISK_FAIL, false},      {"tears", SIM_DISK_TEAR, true},
    {"corrupts", SIM_DISK_CORRUPT, true}, {"loses", SIM_DISK_LOSE, true},
    {"is stale", SIM_DISK_STALE, false},  {"misdirects", SIM_DISK_MISDIRECT, true},
    {"shortens", SIM_DISK_SHORTEN, true}, {"delays", SIM_DISK_DELAY, false},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const uint64_t kind_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};
_Static_assert(sizeof(kind_numbers) / sizeof(kind_numbers[0]) == KINDS, "each kind is run");

/* Every nth operation, for several n; a read is tried twice, and never are both the nth. */
static void disk(struct ktap *t)
{
    static const uint64_t nths[] = {7, 31, 151};
    static struct load load;
    const struct kind *kind = &kinds[t->parameter];
    uint64_t lost = 0;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t operations = operations_wanted() / 3;
        uint32_t slots = 1500 + (uint32_t)(kind->fault == SIM_DISK_FAIL ? operations / nths[i] : 0);
        ASSERT(t, load_open(t, &load, (enum neomm_format)formats[i & 1], slots, 560));
        load.astray = kind->fault == SIM_DISK_MISDIRECT;
        sim_disk_fault_every(load.disk, kind->fault, nths[i]);
        run(&load, operations);
        EXPECT(t, load.killed == 0);
        lost += load.lost;
        load_close(&load, kind->name);
    }
    EXPECT_EQ(t, lost != 0, kind->loses);
}

/* ---- shortages ---- */

/* Fewer slots and frames than pages: spaces are ended for it, and what others have is right. */
static void slots_run_out(struct ktap *t)
{
    static struct load load;
    ASSERT(t, load_open(t, &load, (enum neomm_format)formats[0], 100, 560));
    run(&load, operations_wanted());
    EXPECT(t, load.killed != 0);
    EXPECT_EQ(t, load.lost, 0);
    load_close(&load, "slots run out");
}

/* Memory is full of pages. */
static void use_all(struct load *l)
{
    for (unsigned i = 0; i < SPACES; i++)
        for (uint32_t page = 0; page < PAGES && l->process[i].space && l->mistakes == 0; page++)
            use(l, &l->process[i], page, page % 2 != 0);
}

/* At intervals not one frame is free. */
static void no_frame_is_free(struct ktap *t)
{
    static struct load load;
    ASSERT(t, load_open(t, &load, (enum neomm_format)formats[1], 1500, 760));
    for (unsigned i = 0; i < SPACES; i++)
        be_born(&load, &load.process[i]);
    for (unsigned round = 0; round < 20 && load.mistakes == 0; round++) {
        uint32_t held = load.holds;
        use_all(&load);
        leave_free(&load, 0);
        run(&load, operations_wanted() / 20);
        while (load.holds > held)
            EXPECT_OK(t, neomm_pmm_free(load.root, load.held[--load.holds], 0));
    }
    EXPECT_EQ(t, load.lost, 0);
    load_close(&load, "no frame is free");
}

/* The disk goes away: what is in memory stays there, what was on it is lost, and all ends well. */
static void disk_is_removed(struct ktap *t)
{
    static struct load load;
    ASSERT(t, load_open(t, &load, (enum neomm_format)formats[0], 1500, 600));
    run(&load, operations_wanted() / 4);
    load.gone = true;
    sim_disk_fault(load.disk, SIM_DISK_FAIL, 1, true);
    for (unsigned i = 0; i < 3000 && load.mistakes == 0; i++)
        step(&load);
    EXPECT(t, load.lost != 0);
    load_close(&load, "disk removed");
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(disk, kind_numbers),
    KTAP_CASE(slots_run_out),
    KTAP_CASE(no_frame_is_free),
    KTAP_CASE(disk_is_removed),
};
KTAP_SUITE(swap_integrity, cases);
