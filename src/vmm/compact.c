/* Compaction: movable frames go elsewhere, until a large block is free.
 * SPDX-License-Identifier: MIT
 *
 *   block   [ . . u . . u . . ]   . free, u a page     1. is there anything that cannot move?
 *           [ o o u o o u o o ]   o ours               2. the free frames are claimed
 *           [ o o o o o o o o ]                        3. the pages go to frames elsewhere
 *           [ . . . . . . . . ]                        4. all are freed at once
 *
 * The free frames are claimed first, so that nobody, and none of the pages that move, gets one of
 * them meanwhile. A block that fails on the way gets all of it back, and the next one is tried.
 */
#include "vmm/migrate.h"

#include "pmm/choose.h"
#include "swap/pool.h"

/* Blocks that are looked at in a call, and of them those that are begun to be emptied. */
#define LOOKS    64u
#define ATTEMPTS 4u

#define UNIT_ORDER 9u /* of the blocks that pmm chooses from, at least */

struct block {
    struct neomm *root;
    neomm_frame_t first;
    uint32_t frames;
    uint32_t ours[(1u << NEOMM_ORDER_MAX) / 32];
};

static struct neomm__frame *entry_of(const struct block *b, uint32_t i)
{
    return neomm__frame(b->root, neomm_frame(b->first.number + i));
}

static bool is_ours(const struct block *b, uint32_t i)
{
    return b->ours[i / 32] >> i % 32 & 1u;
}

static void note_ours(struct block *b, uint32_t i, uint32_t count)
{
    for (; count-- > 0; i++)
        b->ours[i / 32] |= 1u << i % 32;
}

static bool is_free(const struct neomm__frame *entry)
{
    return neomm__load_acquire(&entry->references) == 0;
}

static bool may_move(const struct neomm__frame *entry)
{
    return entry->kind == NEOMM__KIND_POOL || neomm__is_movable(entry);
}

/* True: the frame is ours now. Swap moves its own. */
static bool move(struct neomm *root, neomm_frame_t frame)
{
    return neomm__frame(root, frame)->kind == NEOMM__KIND_POOL ? neomm__pool_move_frame(root, frame)
                                                               : neomm__migrate(root, frame);
}

/* Frames of [at, at + count) to be moved; UINT32_MAX: one of them cannot be. */
static uint32_t pages_in(const struct block *b, uint32_t at, uint32_t count)
{
    uint32_t pages = 0;
    for (uint32_t i = at; i < at + count; i++) {
        const struct neomm__frame *entry = entry_of(b, i);
        if (!entry || (!is_free(entry) && !may_move(entry)))
            return UINT32_MAX;
        pages += !is_free(entry);
    }
    return pages;
}

/* The part of 2^order frames with the fewest pages becomes the block. */
static bool narrow(struct block *b, unsigned order)
{
    uint32_t size = (uint32_t)1 << order, least = UINT32_MAX, best = 0;
    for (uint32_t at = 0; at < b->frames; at += size) {
        uint32_t pages = pages_in(b, at, size);
        if (pages < least) {
            least = pages;
            best = at;
        }
    }
    b->first.number += best;
    b->frames = size;
    return least != UINT32_MAX;
}

/* Claims the free frames, by runs. */
static bool isolate(struct block *b)
{
    for (uint32_t i = 0, end; i < b->frames; i = end) {
        for (end = i; end < b->frames && is_free(entry_of(b, end)); end++)
            ;
        if (end == i) {
            end++;
            continue;
        }
        neomm_frame_t first = neomm_frame(b->first.number + i);
        if (neomm_pmm_claim(b->root, first, end - i) != NEOMM_OK)
            return false;
        note_ours(b, i, end - i);
    }
    return true;
}

/* A page that was unmapped meanwhile has left a free frame. */
static bool move_pages(struct block *b)
{
    for (uint32_t i = 0; i < b->frames; i++) {
        neomm_frame_t frame = neomm_frame(b->first.number + i);
        if (is_ours(b, i))
            continue;
        if (!move(b->root, frame) && neomm_pmm_claim(b->root, frame, 1) != NEOMM_OK)
            return false;
        note_ours(b, i, 1);
    }
    return true;
}

/* What is ours goes back, by runs: all of it at once, if that is all. */
static void give_back(const struct block *b)
{
    for (uint32_t i = 0, end; i < b->frames; i = end) {
        for (end = i; end < b->frames && is_ours(b, end); end++)
            ;
        if (end == i) {
            end++;
            continue;
        }
        neomm_status status =
            neomm_pmm_free_range(b->root, neomm_frame(b->first.number + i), end - i);
        NEOMM__ASSERT(status == NEOMM_OK);
    }
}

static bool empty_block(struct block *b)
{
    bool done = isolate(b) && move_pages(b);
    give_back(b);
    return done;
}

/* Are there frames for all pages of a block, and for others who want some meanwhile? */
static bool has_room(const struct neomm *root, unsigned order)
{
    uint64_t size = (uint64_t)1 << order;
    return neomm_pmm_free_frames(root) >= size + size / 4;
}

static bool compact(struct neomm *root, unsigned order, neomm_flags_t flags)
{
    unsigned unit = order > UNIT_ORDER ? order : UNIT_ORDER, attempts = 0;
    uint64_t after = 0;
    bool done = false;
    struct block b = {.root = root};
    if (!has_room(root, order))
        return false;
    neomm_pmm_drain(root);
    neomm__newcomers_flush(root);
    for (unsigned i = 0; i < LOOKS && attempts < ATTEMPTS && !done &&
                         neomm__pmm_choose(root, unit, flags, &after, &b.first);
         i++) {
        b = (struct block){.root = root, .first = b.first, .frames = (uint32_t)1 << unit};
        if (!narrow(&b, order))
            continue;
        attempts++;
        done = empty_block(&b);
    }
    return done;
}

/* One at a time: two would be in each other's way. */
static bool compact_alone(struct neomm *root, unsigned order, neomm_flags_t flags)
{
    struct neomm__vmm *vmm = root->vmm;
    if (neomm__exchange(&vmm->compacting, 1) != 0)
        return false;
    bool done = compact(root, order, flags);
    neomm__store_release(&vmm->compacting, 0);
    NEOMM__COUNT(root, COMPACT);
    if (done)
        NEOMM__COUNT(root, COMPACTED);
    return done;
}

bool neomm__compact_callback(void *context, unsigned order, neomm_flags_t flags)
{
    return compact_alone(context, order, flags);
}

neomm_status neomm_compact(struct neomm *root, unsigned order)
{
    if (!root->vmm)
        return NEOMM_E_NOENT;
    if (order == 0 || order > NEOMM_ORDER_MAX)
        return NEOMM_E_INVALID;
    return compact_alone(root, order, NEOMM_HIGH | NEOMM_MOVABLE) ? NEOMM_OK : NEOMM_E_NOMEM;
}
