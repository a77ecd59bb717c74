/* A replacement policy on a string of pages.
 * SPDX-License-Identifier: MIT */
#include "replay_fast.h"

#include "replay_seer.h"

#include <sim/boot.h>

#include <neomm/readahead.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page {
    neomm_frame_t frame;
    struct neomm_swap_entry slot; /* kind NEOMM_SWAP_SLOT: it has been out */
    bool accessed, dirty;
    bool ahead; /* read ahead, and not yet seen used */
};

struct fast {
    const struct page_string *string;
    struct sim_system system;
    struct neomm_policy policy;
    struct seer seer;
    bool sees;
    struct page *page;
    uint32_t *page_of; /* by frame */
    neomm_frame_t *free;
    uint32_t free_frames, frames;
    uint32_t readahead;
    struct neomm_readahead table;
    int32_t credit;
    uint32_t *order, *rank; /* pages by their numbers, and the place of each there */
    struct fast_results *results;
};

#define SPACE 1u /* the process has this index */

static bool fail(struct fast_results *results, const char *text, const char *detail)
{
    (void)snprintf(results->error, sizeof(results->error), "%s%s", text, detail);
    return false;
}

/* ---- pages that were read ahead ---- */

static void found_used(struct fast *fast, struct page *page)
{
    uint64_t number = fast->string->number[page - fast->page];
    page->ahead = false;
    fast->results->ahead_used++;
    neomm_readahead_used(&fast->table, &fast->credit, SPACE, number);
}

static void found_unused(struct fast *fast, struct page *page)
{
    uint64_t number = fast->string->number[page - fast->page];
    page->ahead = false;
    fast->results->ahead_wasted++;
    neomm_readahead_wasted(&fast->table, &fast->credit, SPACE, number);
}

/* ---- one reference ---- */

static bool leave(struct fast *fast, neomm_frame_t frame)
{
    struct page *page = &fast->page[fast->page_of[frame.number]];
    if (page->ahead)
        found_unused(fast, page);
    if (page->slot.kind != NEOMM_SWAP_SLOT &&
        neomm_swap_alloc(fast->system.root, 1, &page->slot) != NEOMM_OK)
        return fail(fast->results, "the swap area is full", "");
    fast->policy.ops->leave(&fast->policy, frame, &page->slot);
    fast->results->evictions++;
    fast->results->writes += page->dirty;
    page->dirty = false;
    page->frame = neomm_frame(0);
    fast->free[fast->free_frames++] = frame;
    return true;
}

static bool evict(struct fast *fast)
{
    struct neomm_policy *policy = &fast->policy;
    for (uint64_t tries = 16ull * policy->count + 16; tries > 0; tries--) {
        neomm_frame_t frame;
        if (policy->ops->candidates(policy, &frame, 1) != 1)
            break;
        struct page *page = &fast->page[fast->page_of[frame.number]];
        bool accessed = page->accessed;
        page->accessed = false;
        fast->results->tests++;
        if (accessed && page->ahead)
            found_used(fast, page);
        if (policy->ops->tested(policy, frame, accessed, page->dirty) == NEOMM_EVICT)
            return leave(fast, frame);
    }
    return fail(fast->results, "no victim by policy ", policy->ops->name);
}

static void enter(struct fast *fast, uint32_t index, bool ahead)
{
    struct neomm_policy *policy = &fast->policy;
    struct page *page = &fast->page[index];
    page->frame = fast->free[--fast->free_frames];
    fast->page_of[page->frame.number] = index;
    page->accessed = false;
    page->ahead = ahead;
    page->dirty = page->slot.kind != NEOMM_SWAP_SLOT;
    if (!page->dirty && policy->ops->refault)
        policy->ops->refault(policy, &page->slot);
    fast->seer.faulting = index;
    policy->ops->enter(policy, page->frame);
}

static bool in_swap(const struct fast *fast, uint32_t index)
{
    const struct page *page = &fast->page[index];
    return neomm_frame_is_nil(page->frame) && page->slot.kind == NEOMM_SWAP_SLOT;
}

/* The page that lies `distance` pages from one, if the trace has it: its index, else -1. */
static int64_t neighbour(const struct fast *fast, uint32_t index, int64_t distance)
{
    const struct page_string *string = fast->string;
    int64_t at = (int64_t)fast->rank[index] + distance;
    if (at < 0 || at >= (int64_t)string->pages)
        return -1;
    uint32_t other = fast->order[at];
    return string->number[other] == string->number[index] + (uint64_t)distance ? (int64_t)other
                                                                               : -1;
}

/* What of the page's block was read ahead and is used by now. */
static void judge_block(struct fast *fast, uint32_t index)
{
    const struct page_string *string = fast->string;
    uint64_t block = string->number[index] / NEOMM_READAHEAD_BLOCK;
    uint32_t at = fast->rank[index];
    while (at > 0 && string->number[fast->order[at - 1]] / NEOMM_READAHEAD_BLOCK == block)
        at--;
    for (; at < string->pages; at++) {
        struct page *page = &fast->page[fast->order[at]];
        if (string->number[fast->order[at]] / NEOMM_READAHEAD_BLOCK != block)
            return;
        if (page->ahead && page->accessed)
            found_used(fast, page);
    }
}

/* The pages to be read with one that faults. */
static uint32_t choose_ahead(struct fast *fast, uint32_t index, uint32_t *ahead)
{
    uint64_t number = fast->string->number[index];
    const struct neomm_readahead_fault fault = {SPACE, number, (uint32_t)fast->results->evictions,
                                                fast->frames, fast->readahead};
    judge_block(fast, index);
    struct neomm_readahead_window window =
        neomm_readahead_fault(&fast->table, &fast->credit, &fault);
    uint32_t count = 0;
    while (count + 1 < window.pages) {
        int64_t distance = window.direction * (int64_t)(count + 1);
        int64_t next = neighbour(fast, index, distance);
        if (next < 0 || !in_swap(fast, (uint32_t)next) ||
            (number + (uint64_t)distance) / NEOMM_READAHEAD_BLOCK != number / NEOMM_READAHEAD_BLOCK)
            break;
        ahead[count++] = (uint32_t)next;
    }
    return count;
}

static bool miss(struct fast *fast, uint32_t index)
{
    uint32_t ahead[NEOMM_READAHEAD_MOST], count = 0;
    if (fast->free_frames == 0 && !evict(fast))
        return false;
    fast->results->misses++;
    if (in_swap(fast, index)) {
        fast->results->swap_in++;
        count = fast->readahead != 0 ? choose_ahead(fast, index, ahead) : 0;
    }
    while (fast->free_frames < count + 1)
        if (!evict(fast))
            return false;
    for (uint32_t i = 0; i < count; i++)
        enter(fast, ahead[i], true);
    enter(fast, index, false);
    fast->results->ahead += count;
    return true;
}

static bool refer_to_all(struct fast *fast)
{
    const struct page_string *string = fast->string;
    for (size_t i = 0; i < string->records; i++) {
        uint32_t index = string->record[i] >> 1;
        struct page *page = &fast->page[index];
        if (neomm_frame_is_nil(page->frame) && !miss(fast, index))
            return false;
        page->accessed = true;
        page->dirty |= string->record[i] & 1;
        if (fast->sees)
            seer_reference(&fast->seer, index, i);
    }
    for (uint32_t i = 0; i < string->pages; i++)
        if (fast->page[i].ahead && fast->page[i].accessed)
            found_used(fast, &fast->page[i]);
    return true;
}

/* ---- the machine ---- */

static bool take_frames(struct fast *fast)
{
    for (uint32_t i = 0; i < fast->frames; i++)
        if (neomm_pmm_alloc(fast->system.root, 0, 0, &fast->free[i]) != NEOMM_OK)
            return fail(fast->results, "out of frames", "");
    fast->free_frames = fast->frames;
    return true;
}

/* Slots and frames go back, so that the layers can end. */
static void give_back(struct fast *fast)
{
    struct neomm *root = fast->system.root;
    for (uint32_t i = 0; i < fast->string->pages; i++) {
        struct page *page = &fast->page[i];
        if (!neomm_frame_is_nil(page->frame)) {
            fast->policy.ops->leave(&fast->policy, page->frame, NULL);
            fast->free[fast->free_frames++] = page->frame;
        }
        if (page->slot.kind == NEOMM_SWAP_SLOT)
            (void)neomm_swap_free(root, page->slot);
    }
    while (fast->free_frames > 0)
        (void)neomm_pmm_free(root, fast->free[--fast->free_frames], 0);
}

static bool choose_policy(struct fast *fast, const char *name, uint32_t frame_numbers)
{
    const struct neomm_policy_ops *ops = neomm_policy_find(fast->system.root, name);
    bool optimal = strcmp(name, "opt") == 0;
    fast->sees = optimal || strcmp(name, "lru") == 0;
    if (fast->sees && !seer_create(&fast->seer, fast->string, frame_numbers, optimal))
        return fail(fast->results, "the host is out of memory", "");
    if (fast->sees)
        ops = &fast->seer.ops;
    if (!ops)
        return fail(fast->results, "no such policy: ", name);
    neomm_policy_init(&fast->policy, fast->system.root, ops, 1);
    return true;
}

struct numbered {
    uint64_t number;
    uint32_t index;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const struct numbered *)a)->number, y = ((const struct numbered *)b)->number;
    return x < y ? -1 : x > y;
}

static bool sort_pages(struct fast *fast)
{
    const struct page_string *string = fast->string;
    struct numbered *sorted = calloc(string->pages + 1ull, sizeof(sorted[0]));
    fast->order = calloc(string->pages + 1ull, sizeof(fast->order[0]));
    fast->rank = calloc(string->pages + 1ull, sizeof(fast->rank[0]));
    fast->table.block = calloc(fast->table.blocks, sizeof(fast->table.block[0]));
    bool good = sorted && fast->order && fast->rank && fast->table.block;
    for (uint32_t i = 0; good && i < string->pages; i++)
        sorted[i] = (struct numbered){string->number[i], i};
    if (good)
        qsort(sorted, string->pages, sizeof(sorted[0]), by_number);
    for (uint32_t i = 0; good && i < string->pages; i++) {
        fast->order[i] = sorted[i].index;
        fast->rank[sorted[i].index] = i;
    }
    free(sorted);
    return good;
}

static bool run_on_system(struct fast *fast, const char *policy, uint32_t frame_numbers)
{
    fast->page = calloc(fast->string->pages + 1ull, sizeof(fast->page[0]));
    fast->page_of = calloc(frame_numbers, sizeof(fast->page_of[0]));
    fast->free = calloc(fast->frames, sizeof(fast->free[0]));
    bool good = fast->page && fast->page_of && fast->free && sort_pages(fast);
    if (!good)
        (void)fail(fast->results, "the host is out of memory", "");
    good = good && choose_policy(fast, policy, frame_numbers) && take_frames(fast);
    if (good) {
        good = refer_to_all(fast);
        give_back(fast);
    }
    seer_destroy(&fast->seer);
    free(fast->page);
    free(fast->page_of);
    free(fast->free);
    free(fast->order);
    free(fast->rank);
    free(fast->table.block);
    return good;
}

bool fast_run(const struct page_string *string, const struct neomm_config *config,
              const struct fast_options *options, struct fast_results *results)
{
    struct fast fast = {.string = string, .results = results, .readahead = options->readahead};
    uint32_t frames = options->frames < string->pages ? options->frames : string->pages;
    uint64_t ram = ((uint64_t)frames << 12) * 9 / 8 + (uint64_t)string->pages * 32 + (64u << 20);
    const struct sim_system_options system = {
        .machine = {.format = NEOMM_FORMAT_4LEVEL,
                    .ram_bytes = ram & ~(uint64_t)4095,
                    .seed = options->seed},
        .layer = SIM_LAYER_SWAP,
        .swap_pages = string->pages + 256,
        .config = config,
    };
    memset(results, 0, sizeof(*results));
    fast.frames = frames;
    fast.table.blocks = neomm_readahead_blocks(options->ram_pages);
    neomm_status status = sim_system_start(&fast.system, &system);
    if (status != NEOMM_OK)
        return fail(results, "the machine does not start: ", neomm_status_text(status));
    bool good = run_on_system(&fast, options->policy, (uint32_t)(ram >> 12));
    status = sim_system_stop(&fast.system);
    if (good && status != NEOMM_OK)
        return fail(results, "the machine does not stop: ", neomm_status_text(status));
    return good;
}
