/* A swap disk that fails, tears, corrupts, loses, misdirects or returns old data at its nth
 * operation: a wrong byte is never delivered, and a page is lost only with its stored copy.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include <sim/sim.h>

#define PAGE  NEOMM_PAGE_SIZE
#define PAGES 20u
#define LIMIT 5u
#define RW    (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

/* What a run under a faulty disk came to. */
struct outcome {
    unsigned wrong;      /* loads that succeeded with another value: must be 0 */
    unsigned lost;       /* pages whose load ended in an error */
    uint64_t operations; /* of the disk */
};

struct disk_run {
    struct env env;
    struct neomm_space *space;
    neomm_vaddr_t at;
    uint64_t value[PAGES];
    bool lost[PAGES];
    struct outcome outcome;
};

static neomm_status word(struct disk_run *run, uint32_t page, uint64_t *value, bool write)
{
    return env_access(&run->env, run->space, run->at + page * PAGE + 8 * page, value, 8, write,
                      true);
}

/* A page that could not be read back stays lost; the process may map new memory over it. */
static void lose(struct disk_run *run, uint32_t page)
{
    run->lost[page] = true;
    run->outcome.lost++;
}

static void store(struct disk_run *run, uint32_t page, uint64_t value)
{
    if (run->lost[page])
        return;
    if (word(run, page, &value, true) == NEOMM_OK)
        run->value[page] = value;
    else
        lose(run, page);
}

static void load(struct disk_run *run, uint32_t page)
{
    uint64_t value = 0;
    if (run->lost[page])
        return;
    if (word(run, page, &value, false) != NEOMM_OK)
        lose(run, page);
    else if (value != run->value[page])
        run->outcome.wrong++;
}

/* Rounds over all pages, every third one written, so that slots are used again. */
static void use_pages(struct disk_run *run)
{
    for (uint32_t i = 0; i < PAGES; i++)
        store(run, i, 1 + i);
    for (uint32_t round = 1; round < 4; round++)
        for (uint32_t i = 0; i < PAGES; i++) {
            load(run, i);
            if ((i + round) % 3 == 0)
                store(run, i, (uint64_t)round << 32 | i);
        }
    for (uint32_t i = 0; i < PAGES; i++)
        load(run, i);
}

static bool run_disk(struct ktap *t, enum neomm_format format, enum sim_disk_fault fault,
                     uint64_t nth, bool forever, uint32_t ahead, struct outcome *outcome)
{
    static struct disk_run run;
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = format,
                                        .swap_pages = 64,
                                        .seed = nth,
                                        .no_pool = true,
                                        .readahead = ahead};
    const struct neomm_limits limits = {NEOMM_UNLIMITED, LIMIT * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    run = (struct disk_run){0};
    if (!env_open(t, &run.env, &options))
        return false;
    run.at = neomm_layout_of(run.env.root)->user_base;
    EXPECT_OK(t, neomm_space_create(run.env.root, &limits, &run.space));
    neomm_space_activate(run.env.root, run.space);
    EXPECT_OK(t, neomm_mmap(run.env.root, run.space, &run.at, PAGES * PAGE, RW, 0));
    if (ahead != 0)
        EXPECT_OK(t, neomm_madvise(run.env.root, run.space, run.at, PAGES * PAGE,
                                   NEOMM_ADVICE_SEQUENTIAL));
    sim_disk_fault(run.env.disk, fault, nth, forever);
    uint64_t before = sim_disk_operations(run.env.disk);
    use_pages(&run);
    run.outcome.operations = sim_disk_operations(run.env.disk) - before;
    sim_disk_fault(run.env.disk, fault, 0, false);
    env_fsck(t, &run.env);
    neomm_space_activate(run.env.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(run.env.root, run.space));
    env_close(t, &run.env);
    *outcome = run.outcome;
    return true;
}

/* Parameter: fault | format << 4 | pages read ahead << 8. */
static const uint64_t faults[] = {0x00,  0x01,  0x02,  0x03,  0x04,  0x05,  0x10,  0x11,
                                  0x12,  0x13,  0x14,  0x15,  0x300, 0x301, 0x302, 0x303,
                                  0x304, 0x305, 0x410, 0x411, 0x412, 0x413, 0x414, 0x415};

static uint32_t ahead_of(const struct ktap *t)
{
    return (uint32_t)(t->parameter >> 8);
}

static void one_bad_operation(struct ktap *t)
{
    static const uint64_t format[] = ENV_FORMATS;
    enum sim_disk_fault fault = (enum sim_disk_fault)(t->parameter & 0xf);
    unsigned lost = 0;
    for (uint64_t nth = 1; t->failures == 0; nth++) {
        struct outcome outcome;
        ASSERT(t, run_disk(t, (enum neomm_format)format[t->parameter >> 4 & 1], fault, nth, false,
                           ahead_of(t), &outcome));
        EXPECT_EQ(t, outcome.wrong, 0);
        EXPECT(t, outcome.lost <= 2); /* a misdirected page damages two copies */
        lost += outcome.lost;
        if (outcome.operations < nth)
            break;
    }
    /* An error that is reported is got over: written elsewhere, or read again. */
    if (fault == SIM_DISK_FAIL)
        EXPECT_EQ(t, lost, 0);
    if (fault == SIM_DISK_LOSE || fault == SIM_DISK_MISDIRECT)
        EXPECT(t, lost > 0);
}

static void all_operations_bad(struct ktap *t)
{
    static const uint64_t format[] = ENV_FORMATS;
    enum sim_disk_fault fault = (enum sim_disk_fault)(t->parameter & 0xf);
    for (uint64_t nth = 1; nth < 40 && t->failures == 0; nth += 3) {
        struct outcome outcome;
        ASSERT(t, run_disk(t, (enum neomm_format)format[t->parameter >> 4 & 1], fault, nth, true,
                           ahead_of(t), &outcome));
        EXPECT_EQ(t, outcome.wrong, 0);
    }
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(one_bad_operation, faults),
    KTAP_CASE_WITH(all_operations_bad, faults),
};
KTAP_SUITE(vmm_io, cases);
