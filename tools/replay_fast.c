/* A replacement policy on a string of pages.
 * SPDX-License-Identifier: MIT */
#include "replay_fast.h"

#include "replay_seer.h"

#include <sim/boot.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page {
    neomm_frame_t frame;
    struct neomm_swap_entry slot; /* kind NEOMM_SWAP_SLOT: it has been out */
    bool accessed, dirty;
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
    struct fast_results *results;
};

static bool complain(const char *text, const char *detail)
{
    fprintf(stderr, "neomm replay: %s%s\n", text, detail);
    return false;
}

/* ---- one reference ---- */

static bool leave(struct fast *fast, neomm_frame_t frame)
{
    struct page *page = &fast->page[fast->page_of[frame.number]];
    if (page->slot.kind != NEOMM_SWAP_SLOT &&
        neomm_swap_alloc(fast->system.root, 1, &page->slot) != NEOMM_OK)
        return complain("the swap area is full", "");
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
        if (policy->ops->tested(policy, frame, accessed, page->dirty) == NEOMM_EVICT)
            return leave(fast, frame);
    }
    return complain("no victim by policy ", policy->ops->name);
}

static bool miss(struct fast *fast, uint32_t index)
{
    struct neomm_policy *policy = &fast->policy;
    struct page *page = &fast->page[index];
    if (fast->free_frames == 0 && !evict(fast))
        return false;
    fast->results->misses++;
    page->frame = fast->free[--fast->free_frames];
    fast->page_of[page->frame.number] = index;
    page->dirty = page->slot.kind != NEOMM_SWAP_SLOT;
    if (!page->dirty && policy->ops->refault)
        policy->ops->refault(policy, &page->slot);
    fast->seer.faulting = index;
    policy->ops->enter(policy, page->frame);
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
    return true;
}

/* ---- the machine ---- */

static bool take_frames(struct fast *fast)
{
    for (uint32_t i = 0; i < fast->frames; i++)
        if (neomm_pmm_alloc(fast->system.root, 0, 0, &fast->free[i]) != NEOMM_OK)
            return complain("out of frames", "");
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
        return complain("the host is out of memory", "");
    if (fast->sees)
        ops = &fast->seer.ops;
    if (!ops)
        return complain("no such policy: ", name);
    neomm_policy_init(&fast->policy, fast->system.root, ops, 1);
    return true;
}

static bool run_on_system(struct fast *fast, const char *policy, uint32_t frame_numbers)
{
    fast->page = calloc(fast->string->pages + 1ull, sizeof(fast->page[0]));
    fast->page_of = calloc(frame_numbers, sizeof(fast->page_of[0]));
    fast->free = calloc(fast->frames, sizeof(fast->free[0]));
    bool good = fast->page && fast->page_of && fast->free;
    if (!good)
        (void)complain("the host is out of memory", "");
    good = good && choose_policy(fast, policy, frame_numbers) && take_frames(fast);
    if (good) {
        good = refer_to_all(fast);
        give_back(fast);
    }
    seer_destroy(&fast->seer);
    free(fast->page);
    free(fast->page_of);
    free(fast->free);
    return good;
}

bool fast_run(const struct page_string *string, const struct neomm_config *config,
              const char *policy, uint32_t frames, uint64_t seed, struct fast_results *results)
{
    struct fast fast = {.string = string, .results = results};
    uint64_t ram = ((uint64_t)(frames < string->pages ? frames : string->pages) << 12) * 9 / 8 +
                   (uint64_t)string->pages * 32 + (64u << 20);
    const struct sim_system_options system = {
        .machine = {.format = NEOMM_FORMAT_4LEVEL,
                    .ram_bytes = ram & ~(uint64_t)4095,
                    .seed = seed},
        .layer = SIM_LAYER_SWAP,
        .swap_pages = string->pages + 256,
        .config = config,
    };
    memset(results, 0, sizeof(*results));
    fast.frames = frames < string->pages ? frames : string->pages;
    neomm_status status = sim_system_start(&fast.system, &system);
    if (status != NEOMM_OK)
        return complain("the machine does not start: ", neomm_status_text(status));
    bool good = run_on_system(&fast, policy, (uint32_t)(ram >> 12));
    status = sim_system_stop(&fast.system);
    if (good && status != NEOMM_OK)
        return complain("the machine does not stop: ", neomm_status_text(status));
    return good;
}
