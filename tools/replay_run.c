/* The replay itself: reference by reference through MMU, fault handler, reclaim and swap.
 * SPDX-License-Identifier: MIT */
#include "replay.h"

#include <sim/mmu.h>

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE        4096u
#define FAULT_TRIES 64

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- one reference ---- */

static const char *const outcome_text[] = {
    [NEOMM_FAULT_SEGV] = "nothing is mapped there",
    [NEOMM_FAULT_ACCESS] = "the access is not permitted there",
    [NEOMM_FAULT_BUS] = "the page could not be read back from swap",
    [NEOMM_FAULT_NOMEM] = "out of memory: RAM and swap are used up (see --ram and --swap)",
    [NEOMM_FAULT_RETRY] = "the fault does not come to an end",
};

static void count_fault(struct replay_results *results, enum neomm_fault_kind kind)
{
    if (kind == NEOMM_FAULT_ZERO)
        results->faults_zero++;
    else if (kind == NEOMM_FAULT_SWAP_IN)
        results->faults_swap_in++;
    else
        results->faults_other++;
}

/* The reference faulted with `error`: resolves and tries again until it goes through. NULL:
 * replay->error. */
static uint8_t *reference_with_faults(struct replay *replay, struct oracle_page *page,
                                      uint64_t address, enum sim_access access, uint32_t error)
{
    struct neomm_fault_result result = {.outcome = NEOMM_FAULT_RETRY};
    replay->lru.faulting = page;
    for (int tries = 0; tries < FAULT_TRIES; tries++) {
        neomm_fault(replay->system.root, replay->space, (neomm_vaddr_t)address, error, &result);
        if (result.outcome == NEOMM_FAULT_RESOLVED)
            count_fault(&replay->results, result.kind);
        else if (result.outcome != NEOMM_FAULT_RETRY)
            break;
        uint8_t *memory =
            sim_reference(replay->system.sim, (neomm_vaddr_t)address, access, true, &error);
        if (memory)
            return memory;
    }
    snprintf(replay->error, sizeof(replay->error), "address 0x%llx: %s",
             (unsigned long long)address, outcome_text[result.outcome]);
    return NULL;
}

/* ---- damage on purpose ---- */

/* Exchanges the contents of the page at `memory` and of the page of the first store, if that one
 * is in memory too. */
static void exchange_pages(struct replay *replay, uint64_t address, uint8_t *memory)
{
    struct replay_damage *damage = &replay->damage;
    struct neomm_mapping first;
    uint8_t a[PAGE], b[PAGE];
    if (damage->address / PAGE == address / PAGE ||
        neomm_paging_query(replay->system.root, neomm_space_tables(replay->space),
                           (neomm_vaddr_t)damage->address, &first) != NEOMM_OK ||
        first.state != NEOMM_MAPPING_PRESENT)
        return;
    uint8_t *page = memory - address % PAGE;
    memcpy(a, page, PAGE);
    if (!sim_physical_read(replay->system.sim, first.paddr, b, PAGE) || memcmp(a, b, PAGE) == 0)
        return;
    memcpy(page, b, PAGE);
    damage->done = sim_physical_write(replay->system.sim, first.paddr, a, PAGE);
}

/* Called for each store while the damage is not done, before memory changes. True: the store is
 * to be lost. */
static bool damage_store(struct replay *replay, uint64_t address, uint8_t *memory,
                         const uint8_t *bytes, uint32_t size)
{
    struct replay_damage *damage = &replay->damage;
    if (replay->options.injection == INJECT_LOSE_WRITE) {
        damage->done = memcmp(memory, bytes, size) != 0;
        return damage->done;
    }
    if (replay->options.injection == INJECT_SWAP_PAGES && damage->armed)
        exchange_pages(replay, address, memory);
    if (!damage->armed) {
        damage->armed = true;
        damage->address = address;
        damage->size = size < sizeof(damage->before) ? size : sizeof(damage->before);
        memcpy(damage->before, memory, damage->size);
    }
    return false;
}

/* Called for each load before memory is looked at: the first one that reaches the store's bytes
 * gets the old ones. */
static void damage_load(struct replay *replay, uint64_t address, uint8_t *memory, uint32_t size)
{
    struct replay_damage *damage = &replay->damage;
    if (replay->options.injection != INJECT_STALE_READ || !damage->armed || damage->done ||
        address > damage->address || address + size < damage->address + damage->size)
        return;
    memcpy(memory + (damage->address - address), damage->before, damage->size);
    damage->done = true;
}

/* ---- contents ---- */

static void check_load(struct replay *replay, const struct oracle_page *page, uint64_t address,
                       uint8_t *memory, uint32_t size)
{
    if (replay->options.injection != INJECT_NOTHING)
        damage_load(replay, address, memory, size);
    if (memcmp(memory, page->contents + address % PAGE, size) != 0)
        replay->results.content_errors++;
}

static void do_store(struct replay *replay, struct oracle_page *page, uint64_t address,
                     uint8_t *memory, uint32_t size)
{
    uint8_t *expected = page->contents + address % PAGE;
    oracle_value(address, ++replay->time, expected, size);
    if (replay->options.injection != INJECT_NOTHING && !replay->damage.done &&
        damage_store(replay, address, memory, expected, size))
        return;
    memcpy(memory, expected, size);
}

/* One reference within one page. */
static inline bool perform(struct replay *replay, char kind, uint64_t address, uint32_t size)
{
    enum sim_access access = kind == 'S' || kind == 'M' ? SIM_WRITE : SIM_READ;
    uint32_t error;
    struct oracle_page *page = oracle_page(&replay->oracle, address / PAGE);
    if (__builtin_expect(!page, 0)) {
        snprintf(replay->error, sizeof(replay->error), "the host is out of memory");
        return false;
    }
    uint8_t *memory =
        sim_reference_inline(replay->system.sim, (neomm_vaddr_t)address, access, true, &error);
    if (__builtin_expect(!memory, 0)) {
        memory = reference_with_faults(replay, page, address, access, error);
        if (!memory)
            return false;
    }
    replay->results.references++;
    if (replay->use_lru)
        lru_reference(&replay->lru, page);
    if (kind != 'S')
        check_load(replay, page, address, memory, size);
    if (access == SIM_WRITE)
        do_store(replay, page, address, memory, size);
    return true;
}

static bool perform_record(struct replay *replay, const struct trace_record *record)
{
    const struct neomm_layout *layout = neomm_layout_of(replay->system.root);
    uint64_t address = record->address;
    uint32_t left = record->size;
    if (address < layout->user_base || address >= layout->user_limit ||
        left > layout->user_limit - address) {
        snprintf(replay->error, sizeof(replay->error),
                 "address 0x%llx is outside the user half (0x%llx to 0x%llx)",
                 (unsigned long long)address, (unsigned long long)layout->user_base,
                 (unsigned long long)layout->user_limit - 1);
        return false;
    }
    while (left > 0) {
        uint32_t here = PAGE - (uint32_t)(address % PAGE);
        if (here > left)
            here = left;
        if (!perform(replay, record->kind, address, here))
            return false;
        address += here;
        left -= here;
    }
    return true;
}

/* ---- the whole trace ---- */

static unsigned kind_index(char kind)
{
    return kind == 'I' ? 0 : kind == 'L' ? 1 : kind == 'S' ? 2 : 3;
}

/* Now and then: the progress line and the snapshot for a memstat that watches. */
static void look_around(struct replay *replay, double start, double *next, bool terminal)
{
    double time = now();
    if (time < *next)
        return;
    *next = time + 0.25;
    if (terminal)
        replay_progress(replay, time - start, false);
    if (replay->options.snapshot)
        (void)replay_write_snapshot(replay, replay->options.snapshot);
}

/* The next record of the trace, or of the string that it was read into: some bytes of a page. */
static enum trace_result next_record(struct replay *replay, struct trace_record *record)
{
    const struct page_string *string = &replay->string;
    if (!string->record)
        return trace_next(&replay->trace, record);
    if (replay->trace.records == string->records)
        return TRACE_END;
    uint32_t reference = string->record[replay->trace.records++];
    replay->trace.line = replay->trace.records;
    *record =
        (struct trace_record){reference & 1 ? 'S' : 'L', 8, string->number[reference >> 1] * PAGE};
    return TRACE_RECORD;
}

static bool replay_trace(struct replay *replay)
{
    struct trace_record record;
    enum trace_result result;
    bool terminal = isatty(STDERR_FILENO);
    double start = now(), next = start + 0.25;
    while ((result = next_record(replay, &record)) == TRACE_RECORD) {
        if (!perform_record(replay, &record))
            return false;
        replay->results.records[kind_index(record.kind)]++;
        if ((replay->trace.records & 0xfffff) == 0)
            look_around(replay, start, &next, terminal);
    }
    replay->results.seconds = now() - start;
    replay->results.skipped_lines = replay->trace.skipped;
    if (terminal)
        replay_progress(replay, replay->results.seconds, true);
    if (result == TRACE_ERROR)
        snprintf(replay->error, sizeof(replay->error), "%s", replay->trace.error);
    return result == TRACE_END;
}

/* Every page once more, from wherever it is now. Not counted: the results are taken before. */
static bool verify_all(struct replay *replay)
{
    for (size_t i = 0; i < replay->oracle.capacity; i++) {
        struct oracle_page *page = replay->oracle.table[i];
        uint32_t error;
        if (!page)
            continue;
        uint64_t address = page->number * PAGE;
        uint8_t *memory =
            sim_reference(replay->system.sim, (neomm_vaddr_t)address, SIM_READ, true, &error);
        if (!memory)
            memory = reference_with_faults(replay, page, address, SIM_READ, error);
        if (!memory)
            return false;
        check_load(replay, page, address, memory, PAGE);
    }
    return true;
}

static uint64_t tests_so_far(const struct replay *replay)
{
    struct neomm_snapshot snapshot;
    neomm_snapshot_take(replay->system.root, &snapshot);
    return snapshot.counter[NEOMM_COUNTER_EVICT_TEST];
}

bool replay_run(struct replay *replay)
{
    struct replay_results *results = &replay->results;
    struct sim_tlb_stats tlb;
    sim_tlb_stats(replay->system.sim, &tlb);
    if (!replay_trace(replay))
        return false;
    sim_tlb_stats(replay->system.sim, &results->tlb);
    results->tlb.hits -= tlb.hits;
    results->tlb.walks -= tlb.walks;
    results->pages = replay->oracle.count;
    results->tests = tests_so_far(replay);
    neomm_space_stats(replay->system.root, replay->space, &results->space);
    if (results->tlb.hits + results->tlb.walks != results->references) {
        snprintf(replay->error, sizeof(replay->error),
                 "%llu TLB hits and %llu walks are not %llu references",
                 (unsigned long long)results->tlb.hits, (unsigned long long)results->tlb.walks,
                 (unsigned long long)results->references);
        return false;
    }
    struct replay_results counted = *results;
    bool verified = verify_all(replay);
    counted.content_errors = results->content_errors;
    *results = counted;
    return verified;
}
