/* Textbook LRU.
 * SPDX-License-Identifier: MIT */
#include "replay_lru.h"

#include <stdlib.h>

static struct lru *lru_of(const struct neomm_policy *policy)
{
    return (struct lru *)((char *)(uintptr_t)policy->ops - offsetof(struct lru, ops));
}

static void insert_newest(struct lru *lru, struct oracle_page *page)
{
    page->newer = NULL;
    page->older = lru->newest;
    if (lru->newest)
        lru->newest->newer = page;
    else
        lru->oldest = page;
    lru->newest = page;
}

static void unlink_page(struct lru *lru, struct oracle_page *page)
{
    if (page->newer)
        page->newer->older = page->older;
    else
        lru->newest = page->older;
    if (page->older)
        page->older->newer = page->newer;
    else
        lru->oldest = page->newer;
}

void lru_move_to_front(struct lru *lru, struct oracle_page *page)
{
    unlink_page(lru, page);
    insert_newest(lru, page);
}

static void lru_enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    struct lru *lru = lru_of(policy);
    struct oracle_page *page = lru->faulting;
    page->frame = frame.number;
    lru->owner[frame.number] = page;
    insert_newest(lru, page);
    policy->count++;
}

static uint32_t lru_candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    uint32_t count = 0;
    for (struct oracle_page *page = lru_of(policy)->oldest; page && count < max; page = page->newer)
        out[count++] = neomm_frame(page->frame);
    return count;
}

static enum neomm_verdict lru_tested(struct neomm_policy *policy, neomm_frame_t frame,
                                     bool accessed, bool dirty)
{
    (void)policy, (void)frame, (void)accessed, (void)dirty;
    return NEOMM_EVICT;
}

static void lru_leave(struct neomm_policy *policy, neomm_frame_t frame,
                      const struct neomm_swap_entry *slot)
{
    struct lru *lru = lru_of(policy);
    struct oracle_page *page = lru->owner[frame.number];
    (void)slot;
    unlink_page(lru, page);
    page->frame = 0;
    lru->owner[frame.number] = NULL;
    policy->count--;
}

bool lru_create(struct lru *lru, uint32_t frames)
{
    *lru = (struct lru){
        .ops = {.name = "lru",
                .enter = lru_enter,
                .candidates = lru_candidates,
                .tested = lru_tested,
                .leave = lru_leave},
        .owner = calloc(frames, sizeof(lru->owner[0])),
        .frames = frames,
    };
    return lru->owner != NULL;
}

void lru_destroy(struct lru *lru)
{
    free(lru->owner);
    lru->owner = NULL;
}
