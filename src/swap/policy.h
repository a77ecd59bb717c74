/* What the built-in replacement policies share: queues in the links of the descriptors, sweeps
 * over all pages, and notes of pages that are gone.
 * SPDX-License-Identifier: MIT
 *
 * A page stands in one of up to 16 queues, the oldest at the head. Its 8 bits say which, and
 * carry what the policy has counted:
 *
 *     7           6      5   4    3       0
 *   [condemned] [mark] [ count ] [ queue ]
 *
 * The access that brings a page in is done again once the page is mapped, so every new page has
 * its accessed bit set when it is first tested. A policy that shall tell pages used once from
 * others keeps new pages in a window, first in, first out, and clears the bit as they leave it.
 */
#ifndef NEOMM_SWAP_POLICY_H
#define NEOMM_SWAP_POLICY_H

#include "base/root.h"

#include <neomm/swap.h>

/* Bits of a descriptor's `policy`. */
#define NEOMM__POLICY_QUEUE       0x0fu
#define NEOMM__POLICY_COUNT       0x30u
#define NEOMM__POLICY_COUNT_SHIFT 4
#define NEOMM__POLICY_COUNT_MAX   3u
#define NEOMM__POLICY_MARK        0x40u
#define NEOMM__POLICY_CONDEMNED   0x80u /* the verdict was to evict, and it has not left yet */

static inline uint8_t *neomm__policy_bits(const struct neomm_policy *policy, neomm_frame_t frame)
{
    return &neomm__frame(policy->root, frame)->policy;
}

static inline unsigned neomm__policy_queue(const struct neomm_policy *policy, neomm_frame_t frame)
{
    return *neomm__policy_bits(policy, frame) & NEOMM__POLICY_QUEUE;
}

static inline bool neomm__policy_has(const struct neomm_policy *policy, neomm_frame_t frame,
                                     unsigned bit)
{
    return (*neomm__policy_bits(policy, frame) & bit) != 0;
}

static inline void neomm__policy_mark(const struct neomm_policy *policy, neomm_frame_t frame,
                                      bool mark)
{
    uint8_t *bits = neomm__policy_bits(policy, frame);
    *bits = (uint8_t)((*bits & ~NEOMM__POLICY_MARK) | (mark ? NEOMM__POLICY_MARK : 0));
}

static inline unsigned neomm__policy_count(const struct neomm_policy *policy, neomm_frame_t frame)
{
    return (*neomm__policy_bits(policy, frame) & NEOMM__POLICY_COUNT) >> NEOMM__POLICY_COUNT_SHIFT;
}

static inline void neomm__policy_set_count(const struct neomm_policy *policy, neomm_frame_t frame,
                                           unsigned count)
{
    uint8_t *bits = neomm__policy_bits(policy, frame);
    *bits = (uint8_t)((*bits & ~NEOMM__POLICY_COUNT) | count << NEOMM__POLICY_COUNT_SHIFT);
}

/* ---- queues ---- */

/* A page of no queue enters the tail of one, with all its other bits 0. */
void neomm__policy_enter(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue);
/* The page goes to the tail of a queue, the same or another; count and mark stay. */
void neomm__policy_move(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue);
void neomm__policy_leave(struct neomm_policy *policy, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot);

void neomm__policy_replace(struct neomm_policy *policy, neomm_frame_t from, neomm_frame_t to);

/* The first frames of a queue. One that was condemned and is still there could not be evicted,
 * or somebody else is at it: it is passed first, so that a caller who asks again gets on. */
uint32_t neomm__policy_offer(struct neomm_policy *policy, unsigned queue, neomm_frame_t *out,
                             uint32_t max);
enum neomm_verdict neomm__policy_condemn(struct neomm_policy *policy, neomm_frame_t frame);

/* For policies with queue 0 alone. */
void neomm__policy_enter_tail(struct neomm_policy *policy, neomm_frame_t frame);
uint32_t neomm__policy_from_head(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max);

/* A generalised clock's test of a page in `queue`: used pages gain one, up to policy_count, others
 * lose one; the hand passes both. The verdict is to evict at 0. */
enum neomm_verdict neomm__policy_count_down(struct neomm_policy *policy, neomm_frame_t frame,
                                            unsigned queue, bool accessed);

/* `percent` of the pages of the domain, at least one. */
uint32_t neomm__policy_share(const struct neomm_policy *policy, uint32_t percent);

/* ---- sweeps: every page is tested once ---- */

/* Their state; other words are the policy's. */
enum { NEOMM__SWEEP_ON, NEOMM__SWEEP_PARITY, NEOMM__SWEEP_LAST, NEOMM__SWEEP_STATE };

/* A page enters; clock counts such pages. Its mark says that it need not be swept. */
void neomm__policy_enter_swept(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue);
/* Have policy_tick percent of the pages entered since the last sweep began, and is it over? */
bool neomm__policy_sweep_due(const struct neomm_policy *policy);
void neomm__policy_sweep_begin(struct neomm_policy *policy);
/* Pages that the sweep has still to test, by queue from 0 up; 0 ends it, or there is none. */
uint32_t neomm__policy_sweep(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max);
/* Is the page, which is tested now, one of those? It counts as swept from now on. */
bool neomm__policy_sweep_meets(struct neomm_policy *policy, neomm_frame_t frame);

/* For policies whose ticks are sweeps and nothing more. A page enters queue 0. */
void neomm__policy_enter_ticked(struct neomm_policy *policy, neomm_frame_t frame);
/* Begins a sweep if one is due; what it has still to test, 0: nothing. */
uint32_t neomm__policy_tick(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max);

/* ---- pages that are gone: a word in the record of their slot ---- */

void neomm__policy_set_shadow(struct neomm_policy *policy, const struct neomm_swap_entry *slot,
                              uint32_t shadow);
uint32_t neomm__policy_shadow(struct neomm_policy *policy, const struct neomm_swap_entry *slot);

/* ---- */

/* The check of one domain's queues, for the fsck of the layer that has the domain. A policy that
 * a program registered may keep its pages in a shape of its own, and is passed over. */
void neomm__policy_fsck(const struct neomm_policy *policy, struct neomm__report *report);

#define NEOMM__POLICY_LIST(X)                                                                      \
    X(adaptive)    /* the default */                                                               \
    X(aging)       /* counters, shifted by ticks */                                                \
    X(clock)       /* second chance */                                                             \
    X(clockpro)    /* hot and cold */                                                              \
    X(fifo)        /* by entry */                                                                  \
    X(gclock)      /* a clock with a count */                                                      \
    X(generations) /* groups by last use */                                                        \
    X(nru)         /* classes by used and dirty */                                                 \
    X(random)      /* any page */                                                                  \
    X(s3fifo)      /* a small queue first */                                                       \
    X(sieve)       /* a hand over a queue */                                                       \
    X(ws)          /* ages in ticks */                                                             \
    X(wsclock)

#define NEOMM__POLICY_DECLARE(name) extern const struct neomm_policy_ops neomm__policy_##name;
NEOMM__POLICY_LIST(NEOMM__POLICY_DECLARE)
#undef NEOMM__POLICY_DECLARE

#endif
