/* LRU and OPT.
 * SPDX-License-Identifier: MIT */
#include "replay_seer.h"

#include <stdlib.h>
#include <string.h>

static struct seer *seer_of(const struct neomm_policy *policy)
{
    return (struct seer *)((char *)(uintptr_t)policy->ops - offsetof(struct seer, ops));
}

/* ---- both ---- */

static void seer_enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    struct seer *seer = seer_of(policy);
    seer->frame_of[seer->faulting] = frame;
    seer->page_of[frame.number] = seer->faulting;
    policy->count++;
}

static enum neomm_verdict seer_tested(struct neomm_policy *policy, neomm_frame_t frame,
                                      bool accessed, bool dirty)
{
    (void)policy, (void)frame, (void)accessed, (void)dirty;
    return NEOMM_EVICT;
}

/* ---- LRU: a ring of pages by use; newer[nobody] is the oldest ---- */

static void unlink_page(struct seer *seer, uint32_t page)
{
    seer->newer[seer->older[page]] = seer->newer[page];
    seer->older[seer->newer[page]] = seer->older[page];
}

static void insert_newest(struct seer *seer, uint32_t page)
{
    seer->newer[page] = seer->nobody;
    seer->older[page] = seer->older[seer->nobody];
    seer->newer[seer->older[page]] = page;
    seer->older[seer->nobody] = page;
}

static void lru_enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    seer_enter(policy, frame);
    insert_newest(seer_of(policy), seer_of(policy)->faulting);
}

static uint32_t lru_candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    const struct seer *seer = seer_of(policy);
    uint32_t count = 0;
    for (uint32_t page = seer->newer[seer->nobody]; page != seer->nobody && count < max;
         page = seer->newer[page])
        out[count++] = seer->frame_of[page];
    return count;
}

static void lru_leave(struct neomm_policy *policy, neomm_frame_t frame,
                      const struct neomm_swap_entry *slot)
{
    (void)slot;
    unlink_page(seer_of(policy), seer_of(policy)->page_of[frame.number]);
    policy->count--;
}

/* ---- OPT ---- */

static void push_use(struct seer *seer, struct seer_use use)
{
    size_t at = seer->uses++;
    for (; at > 0 && seer->heap[(at - 1) / 2].next < use.next; at = (at - 1) / 2)
        seer->heap[at] = seer->heap[(at - 1) / 2];
    seer->heap[at] = use;
}

static void pop_use(struct seer *seer)
{
    struct seer_use last = seer->heap[--seer->uses];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < seer->uses) {
        if (child + 1 < seer->uses && seer->heap[child + 1].next > seer->heap[child].next)
            child++;
        if (seer->heap[child].next <= last.next)
            break;
        seer->heap[at] = seer->heap[child];
        at = child;
    }
    seer->heap[at] = last;
}

static bool is_stale(const struct seer *seer, struct seer_use use)
{
    return neomm_frame_is_nil(seer->frame_of[use.page]) || seer->next_of_page[use.page] != use.next;
}

static uint32_t opt_candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    struct seer *seer = seer_of(policy);
    while (seer->uses > 0 && is_stale(seer, seer->heap[0]))
        pop_use(seer);
    if (seer->uses == 0 || max == 0)
        return 0;
    out[0] = seer->frame_of[seer->heap[0].page];
    return 1;
}

static void opt_leave(struct neomm_policy *policy, neomm_frame_t frame,
                      const struct neomm_swap_entry *slot)
{
    struct seer *seer = seer_of(policy);
    (void)slot;
    seer->frame_of[seer->page_of[frame.number]] = neomm_frame(0);
    policy->count--;
}

/* For each record, the next one of its page; the number of records is never. */
static void find_next_uses(struct seer *seer, const struct page_string *string)
{
    for (uint32_t page = 0; page < string->pages; page++)
        seer->next_of_page[page] = (uint32_t)string->records;
    for (size_t at = string->records; at-- > 0;) {
        uint32_t page = string->record[at] >> 1;
        seer->next[at] = seer->next_of_page[page];
        seer->next_of_page[page] = (uint32_t)at;
    }
}

/* ---- */

void seer_reference(struct seer *seer, uint32_t page, size_t at)
{
    if (!seer->next) {
        unlink_page(seer, page);
        insert_newest(seer, page);
        return;
    }
    seer->next_of_page[page] = seer->next[at];
    push_use(seer, (struct seer_use){seer->next[at], page});
}

static bool create_lru(struct seer *seer, const struct page_string *string)
{
    seer->ops = (struct neomm_policy_ops){.name = "lru",
                                          .enter = lru_enter,
                                          .candidates = lru_candidates,
                                          .tested = seer_tested,
                                          .leave = lru_leave};
    seer->older = calloc(string->pages + 1ull, sizeof(seer->older[0]));
    seer->newer = calloc(string->pages + 1ull, sizeof(seer->newer[0]));
    if (!seer->older || !seer->newer)
        return false;
    seer->older[seer->nobody] = seer->newer[seer->nobody] = seer->nobody;
    return true;
}

static bool create_opt(struct seer *seer, const struct page_string *string)
{
    seer->ops = (struct neomm_policy_ops){.name = "opt",
                                          .enter = seer_enter,
                                          .candidates = opt_candidates,
                                          .tested = seer_tested,
                                          .leave = opt_leave};
    seer->next = calloc(string->records + 1, sizeof(seer->next[0]));
    seer->heap = calloc(string->records + 1, sizeof(seer->heap[0]));
    seer->next_of_page = calloc(string->pages + 1ull, sizeof(seer->next_of_page[0]));
    if (!seer->next || !seer->heap || !seer->next_of_page)
        return false;
    find_next_uses(seer, string);
    return true;
}

bool seer_create(struct seer *seer, const struct page_string *string, uint32_t frames, bool optimal)
{
    memset(seer, 0, sizeof(*seer));
    seer->nobody = string->pages;
    seer->frame_of = calloc(string->pages + 1ull, sizeof(seer->frame_of[0]));
    seer->page_of = calloc(frames, sizeof(seer->page_of[0]));
    if (seer->frame_of && seer->page_of &&
        (optimal ? create_opt(seer, string) : create_lru(seer, string)))
        return true;
    seer_destroy(seer);
    return false;
}

void seer_destroy(struct seer *seer)
{
    free(seer->older);
    free(seer->newer);
    free(seer->next);
    free(seer->next_of_page);
    free(seer->heap);
    free(seer->frame_of);
    free(seer->page_of);
    memset(seer, 0, sizeof(*seer));
}
