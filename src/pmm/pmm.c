/* The frame allocator: blocks of 2^order frames, and what happens when there are none.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm_priv.h"

/* Reclaim may free frames that do not make up the block that is wanted, or that somebody else
 * takes first: after this many tries the caller is told. */
#define RECLAIM_TRIES 8

enum neomm_zone neomm__pmm_top_zone(const struct neomm *root, neomm_flags_t flags)
{
    if (flags & NEOMM_DMA)
        return NEOMM_ZONE_DMA;
    return (flags & NEOMM_HIGH) && root->slots.map ? NEOMM_ZONE_HIGH : NEOMM_ZONE_NORMAL;
}

/* ---- owners ---- */

/* The descriptor of a free frame is zero. Its users come last: who reads that somebody owns it
 * reads the rest as it is. */
void neomm__pmm_own(struct neomm *root, size_t bit, unsigned order, neomm_flags_t flags)
{
    struct neomm__frame *first = &root->frames.table[bit];
    first->order = (uint8_t)order;
    first->flags = NEOMM__FRAME_ALLOCATED | (flags & NEOMM_MOVABLE ? NEOMM__FRAME_MOVABLE : 0);
    neomm__store_release(&first->references, 1);
}

/* The frame is no owner's first: why? A larger block's further frame, or nobody's. */
static neomm_status nobodys(const struct neomm *root, size_t bit)
{
    const struct neomm__frame *table = root->frames.table;
    for (unsigned order = 1; order <= NEOMM_ORDER_MAX; order++) {
        const struct neomm__frame *head = &table[NEOMM__ALIGN_DOWN(bit, (size_t)1 << order)];
        if (neomm__frame_has(head, NEOMM__FRAME_ALLOCATED) && head->order >= order &&
            head != &table[bit])
            return NEOMM_E_INVALID;
    }
    return NEOMM_E_DOUBLE_FREE;
}

/* Why a block cannot be freed. */
static neomm_status refuse(struct neomm *root, size_t bit, unsigned order)
{
    const struct neomm__frame *first = &root->frames.table[bit];
    if (!neomm__is_managed(root, bit))
        return NEOMM_E_FOREIGN;
    if (neomm__load_acquire(&first->references) == 0)
        return nobodys(root, bit);
    return first->order != order ? NEOMM_E_INVALID : NEOMM_E_BUSY;
}

static bool is_block(const struct neomm__frame *first, unsigned order)
{
    return neomm__frame_has(first, NEOMM__FRAME_ALLOCATED) && first->order == order;
}

static bool tails_mapped(const struct neomm__frame *first, size_t size)
{
    if (neomm__frame_has(first, NEOMM__FRAME_TAILS))
        for (size_t i = 1; i < size; i++)
            if (neomm__load_acquire(&first[i].mappings) != 0)
                return true;
    return false;
}

neomm_status neomm__pmm_may_free(struct neomm *root, neomm_frame_t frame, unsigned order)
{
    size_t at = neomm__bit_of(root, frame);
    if (at == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    const struct neomm__frame *first = &root->frames.table[at];
    if (is_block(first, order) && !tails_mapped(first, (size_t)1 << order) &&
        neomm__load_acquire(&first->references) == 1 && neomm__load_acquire(&first->mappings) == 0)
        return NEOMM_OK;
    return refuse(root, at, order);
}

/* One compare-exchange decides who frees a block: its loser, and whoever comes later, finds no
 * user. What kind of block it is was seen before and is looked at again, since it may have been
 * freed and allocated otherwise in between. */
neomm_status neomm__pmm_disown(struct neomm *root, neomm_frame_t frame, unsigned order, size_t *bit,
                               bool *movable)
{
    size_t at = neomm__bit_of(root, frame), size = (size_t)1 << order;
    if (at == NEOMM__BITMAP_NONE)
        return NEOMM_E_FOREIGN;
    struct neomm__frame *first = &root->frames.table[at];
    if (!is_block(first, order) || tails_mapped(first, size) ||
        neomm__cas64(&first->users, NEOMM__FRAME_OWNED, 0) != NEOMM__FRAME_OWNED)
        return refuse(root, at, order);
    if (!is_block(first, order)) {
        neomm__store_release(&first->references, 1);
        return NEOMM_E_INVALID;
    }
    *bit = at;
    *movable = neomm__frame_has(first, NEOMM__FRAME_MOVABLE);
    NEOMM__FRAMES_FREED(frame, (uint32_t)size);
    if (neomm__frame_has(first, NEOMM__FRAME_TAILS))
        memset(first + 1, 0, (size - 1) * sizeof(*first));
    neomm__frame_reset(first);
    return NEOMM_OK;
}

/* ---- contents ---- */

bool neomm__pmm_zero(struct neomm *root, neomm_frame_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        neomm_irq_t irq = neomm_port_irq_save();
        void *page = neomm_frame_map(root, neomm_frame(first.number + (uint32_t)i));
        if (page) {
            memset(page, 0, NEOMM_PAGE_SIZE);
            neomm_frame_unmap(root, page);
        }
        neomm_port_irq_restore(irq);
        if (!page)
            return false;
    }
    return true;
}

/* ---- no frames ---- */

neomm_status neomm__pmm_failed(struct neomm *root)
{
    NEOMM__COUNT(root, FRAME_FAIL);
    return NEOMM_E_NOMEM;
}

/* Calls out, once on a CPU at a time. */
static bool call_out(struct neomm *root, size_t frames, unsigned order, neomm_flags_t flags,
                     bool compact)
{
    struct neomm__pmm *pmm = root->pmm;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    neomm_reclaim_fn *reclaim = root->reclaim;
    void *context = compact ? pmm->compact_context : root->reclaim_context;
    neomm_compact_fn *move = pmm->compact;
    uint32_t *reclaiming = &neomm__cpu(root)->reclaiming;
    neomm__unlock(&pmm->lock, irq);
    if ((compact ? !move : !reclaim) || neomm__exchange(reclaiming, 1) != 0)
        return false;
    neomm__lock_assert_none("pmm: reclaim with a lock held; the caller must say NORECLAIM");
    bool more;
    if (compact) {
        more = move(context, order, flags);
    } else {
        NEOMM__COUNT(root, RECLAIM);
        more = reclaim(context, (uint32_t)frames, flags) > 0;
    }
    neomm__store_release(reclaiming, 0);
    return more;
}

/* Moving frames comes first, but not twice in a row: it may always say that it did. */
bool neomm__pmm_reclaim(struct neomm *root, size_t frames, neomm_flags_t flags, unsigned tries)
{
    if ((flags & (NEOMM_ATOMIC | NEOMM_NORECLAIM)) || tries >= RECLAIM_TRIES)
        return false;
    unsigned order = neomm__log2_up(frames);
    if (order > 0 && order <= NEOMM_ORDER_MAX && tries % 2 == 0 &&
        neomm_pmm_free_frames(root) >= 2 * frames && call_out(root, frames, order, flags, true))
        return true;
    return call_out(root, frames, order, flags, false);
}

/* ---- allocating ---- */

static size_t take_from(struct neomm *root, uint32_t number, unsigned order, neomm_flags_t flags,
                        bool sure)
{
    struct neomm__pmm *pmm = root->pmm;
    struct neomm__area *area = &pmm->area[number];
    uint32_t hint = neomm__load_relaxed(&area->hint), bit;
    unsigned n = order == 0
                     ? neomm__area_take_frames(pmm, number, 1, flags, &hint, &bit)
                     : neomm__area_take_blocks(root, number, 1, order, flags, &hint, sure, &bit);
    if (n == 0)
        return NEOMM__BITMAP_NONE;
    neomm__store_relaxed(&area->hint, hint);
    return bit;
}

/* Would a zone have so many frames if the caches were empty and all of them in one place? */
static bool could_have(const struct neomm__pmm *pmm, unsigned zone, size_t size,
                       neomm_flags_t flags)
{
    for (uint32_t number = zone; number < pmm->nodes * NEOMM_ZONES; number += NEOMM_ZONES) {
        const struct neomm__area *area = &pmm->area[number];
        size_t free = neomm__load_relaxed(&area->free) + neomm__cache_frames(pmm, number);
        if (free >= size + (flags & NEOMM_RESERVE ? 0 : area->minimum))
            return true;
    }
    return false;
}

/* From the highest zone that has a block; in a zone, from this CPU's node and those behind it. A
 * lower zone serves when those above surely have nothing: its frames are scarcer. */
static size_t take(struct neomm *root, unsigned order, neomm_flags_t flags, bool sure)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t home = pmm->cpu[neomm_port_cpu()->index].node;
    size_t bit = NEOMM__BITMAP_NONE;
    for (unsigned zone = (unsigned)neomm__pmm_top_zone(root, flags) + 1; zone-- > 0;) {
        for (uint32_t i = 0; i < pmm->nodes && bit == NEOMM__BITMAP_NONE; i++) {
            uint32_t node = home + i < pmm->nodes ? home + i : home + i - pmm->nodes;
            bit = take_from(root, node * NEOMM_ZONES + zone, order, flags, sure);
        }
        if (bit != NEOMM__BITMAP_NONE ||
            (!sure && could_have(pmm, zone, (size_t)1 << order, flags)))
            return bit;
    }
    return bit;
}

/* Before a failure: what CPUs keep in their caches, what others are about to give back, and what
 * hints deny. The lock makes this CPU the only one that looks so hard. */
static size_t take_the_last(struct neomm *root, unsigned order, neomm_flags_t flags)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t returned;
    unsigned looks = 0;
    size_t bit;
    neomm__cache_close(root);
    do {
        neomm_irq_t irq = neomm__lock(&pmm->lock);
        returned = neomm__load_acquire(&pmm->returned);
        bit = take(root, order, flags, true);
        neomm__unlock(&pmm->lock, irq);
    } while (bit == NEOMM__BITMAP_NONE && neomm__area_look_again(root, returned, ++looks));
    neomm__cache_reopen(root);
    return bit;
}

static size_t take_slowly(struct neomm *root, unsigned order, neomm_flags_t flags)
{
    for (unsigned tries = 0;; tries++) {
        size_t bit = take(root, order, flags, false);
        if (bit == NEOMM__BITMAP_NONE)
            bit = take_the_last(root, order, flags);
        if (bit != NEOMM__BITMAP_NONE) {
            neomm__tree_touch(root->pmm, bit);
            NEOMM__COUNT(root, FRAME_ALLOC);
            return bit;
        }
        if (!neomm__pmm_reclaim(root, (size_t)1 << order, flags, tries))
            return bit;
    }
}

static bool is_cached(unsigned order)
{
    return order == 0 || order == NEOMM__FIELD_ORDER;
}

static size_t take_any(struct neomm *root, unsigned order, neomm_flags_t flags)
{
    size_t bit = NEOMM__BITMAP_NONE;
    if (is_cached(order) && !(flags & NEOMM_DMA)) {
        unsigned which = neomm__cache_which(root, order, flags);
        bit = neomm__cache_pop(root, which);
        if (bit == NEOMM__BITMAP_NONE)
            bit = neomm__cache_alloc(root, which, flags);
    }
    return bit != NEOMM__BITMAP_NONE ? bit : take_slowly(root, order, flags);
}

static neomm_status allocate(struct neomm *root, unsigned order, neomm_flags_t flags,
                             neomm_frame_t *frame)
{
    size_t size = (size_t)1 << order, bit = take_any(root, order, flags);
    if (bit == NEOMM__BITMAP_NONE)
        return neomm__pmm_failed(root);
    *frame = neomm__frame_of(root->pmm, bit);
    if (root->pmm->fill != 0 && !neomm__fill_taken(root, *frame, size))
        return allocate(root, order, flags, frame);
    neomm__pmm_own(root, bit, order, flags);
    NEOMM__FRAMES_ALLOCATED(*frame, (uint32_t)size);
    if (root->pmm->fill != 0)
        neomm__fill_owned(root, *frame, size, flags);
    if (!(flags & NEOMM_ZERO) || neomm__pmm_zero(root, *frame, size))
        return NEOMM_OK;
    /* All slots of this CPU hold other frames: one of the direct map needs none. */
    (void)neomm_pmm_free(root, *frame, order);
    return allocate(root, order, flags & ~NEOMM_HIGH, frame);
}

neomm_status neomm_pmm_alloc(struct neomm *root, unsigned order, neomm_flags_t flags,
                             neomm_frame_t *frame)
{
    *frame = neomm_frame(0);
    if (order > NEOMM_ORDER_MAX || !root->pmm)
        return NEOMM_E_INVALID;
    if (NEOMM__FAULT(PMM_ALLOC))
        return neomm__pmm_failed(root);
    return allocate(root, order, flags, frame);
}

/* A block whose descriptors are zero, to the cache of this CPU or to the bitmap. */
static void give(struct neomm *root, size_t bit, unsigned order, bool movable)
{
    struct neomm__pmm *pmm = root->pmm;
    if (!is_cached(order)) {
        neomm__area_release(pmm, bit, (size_t)1 << order);
        NEOMM__COUNT(root, FRAME_FREE);
        return;
    }
    uint32_t area = pmm->tree_area[neomm__tree_of(pmm, bit)];
    unsigned which = order != 0 ? (unsigned)NEOMM__CACHED_HUGE : movable;
    if (neomm__zone_of_area(area) == NEOMM_ZONE_HIGH)
        which += NEOMM__CACHES;
    if (!neomm__cache_push(pmm, bit, area, which))
        neomm__cache_free(root, bit, area, which);
}

neomm_status neomm_pmm_free(struct neomm *root, neomm_frame_t frame, unsigned order)
{
    size_t bit = NEOMM__BITMAP_NONE;
    bool movable = false;
    if (order > NEOMM_ORDER_MAX || !root->pmm)
        return NEOMM_E_INVALID;
    neomm_status status = neomm__pmm_disown(root, frame, order, &bit, &movable);
    if (status != NEOMM_OK)
        return status;
    if (root->pmm->fill != 0)
        neomm__fill_freed(root, frame, (size_t)1 << order);
    give(root, bit, order, movable);
    return NEOMM_OK;
}

/* ---- many single frames ---- */

#define AT_ONCE NEOMM__WORD_BITS

/* Taken bits become frames that are nobody's yet. */
static void note_bits(struct neomm__pmm *pmm, const uint32_t *bits, uint32_t count,
                      neomm_frame_t *frames)
{
    for (uint32_t i = 0; i < count; i++) {
        neomm__tree_touch(pmm, bits[i]);
        frames[i] = neomm__frame_of(pmm, bits[i]);
    }
}

/* Some of the frames, at least one; 0: there are none without looking harder. */
static uint32_t take_some(struct neomm *root, uint32_t most, neomm_flags_t flags,
                          neomm_frame_t *frames)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t bits[AT_ONCE], n = 0;
    uint32_t area = pmm->cpu[neomm_port_cpu()->index].node * NEOMM_ZONES +
                    (uint32_t)neomm__pmm_top_zone(root, flags);
    most = most < AT_ONCE ? most : AT_ONCE;
    if (!(flags & NEOMM_DMA))
        n = neomm__cache_alloc_bulk(root, flags, most, bits);
    if (n == 0) {
        uint32_t hint = neomm__load_relaxed(&pmm->area[area].hint);
        n = neomm__area_take_frames(pmm, area, most, flags, &hint, bits);
        neomm__store_relaxed(&pmm->area[area].hint, hint);
        if (n == 0) {
            size_t bit = take(root, 0, flags, false);
            bits[0] = (uint32_t)bit;
            n = bit != NEOMM__BITMAP_NONE;
        }
        neomm__count_add(root, NEOMM_COUNTER_FRAME_ALLOC, n);
    }
    note_bits(pmm, bits, n, frames);
    return n;
}

static void put_back(struct neomm *root, uint32_t count, const neomm_frame_t *frames)
{
    for (uint32_t i = 0; i < count; i++)
        neomm__area_release(root->pmm, neomm__bit_of(root, frames[i]), 1);
    neomm__count_add(root, NEOMM_COUNTER_FRAME_FREE, count);
}

/* All of them or none, and never waiting: who looks for the last frames waits for this. */
static bool take_all(struct neomm *root, uint32_t count, neomm_flags_t flags, neomm_frame_t *frames)
{
    size_t *borrowing = neomm__area_begin_borrowing(root->pmm);
    uint32_t done = 0, n = 1;
    while (done < count && n > 0)
        done += n = take_some(root, count - done, flags, frames + done);
    if (done < count) {
        put_back(root, done, frames);
        (void)neomm__fetch_add(&root->pmm->returned, 1);
    }
    neomm__area_end_borrowing(borrowing);
    return done == count;
}

/* Takes them out of the areas' counts, into promised[], or none. With the lock. */
static bool promise_all(struct neomm *root, size_t count, neomm_flags_t flags, size_t *promised)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t home = pmm->cpu[neomm_port_cpu()->index].node;
    memset(promised, 0, NEOMM__AREAS * sizeof(*promised));
    for (unsigned zone = (unsigned)neomm__pmm_top_zone(root, flags) + 1; zone-- > 0;)
        for (uint32_t i = 0; i < pmm->nodes && count > 0; i++) {
            uint32_t node = home + i < pmm->nodes ? home + i : home + i - pmm->nodes;
            struct neomm__area *area = &pmm->area[node * NEOMM_ZONES + zone];
            size_t n = neomm__area_take(area, 1, count, neomm__area_kept(area, flags));
            promised[node * NEOMM_ZONES + zone] = n;
            count -= n;
        }
    for (uint32_t i = 0; i < pmm->nodes * NEOMM_ZONES && count > 0; i++)
        if (promised[i] > 0)
            (void)neomm__fetch_add(&pmm->area[i].free, promised[i]);
    return count == 0;
}

static void find_all(struct neomm *root, size_t *promised, neomm_flags_t flags,
                     neomm_frame_t *frames)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t bits[AT_ONCE];
    for (uint32_t i = 0; i < pmm->nodes * NEOMM_ZONES; i++) {
        uint32_t hint = neomm__load_relaxed(&pmm->area[i].hint), n;
        for (; promised[i] > 0; promised[i] -= n, frames += n) {
            n = promised[i] < AT_ONCE ? (uint32_t)promised[i] : AT_ONCE;
            neomm__area_find_frames(pmm, i, n, flags, &hint, bits);
            note_bits(pmm, bits, n, frames);
        }
    }
}

/* Takes all of them or none, as the only CPU that looks so hard. */
static bool take_all_alone(struct neomm *root, uint32_t count, neomm_flags_t flags,
                           neomm_frame_t *frames)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t promised[NEOMM__AREAS];
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    size_t *borrowing = neomm__area_begin_borrowing(pmm);
    bool enough = promise_all(root, count, flags, promised);
    neomm__unlock(&pmm->lock, irq);
    if (enough)
        find_all(root, promised, flags, frames);
    neomm__area_end_borrowing(borrowing);
    return enough;
}

/* What take_the_last is to a block. Of two who want the last frames, one at least is served. */
static bool take_all_the_last(struct neomm *root, uint32_t count, neomm_flags_t flags,
                              neomm_frame_t *frames)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t returned;
    unsigned looks = 0;
    bool enough;
    neomm__cache_close(root);
    do {
        returned = neomm__load_acquire(&pmm->returned);
        enough = take_all_alone(root, count, flags, frames);
    } while (!enough && neomm__area_look_again(root, returned, ++looks));
    neomm__cache_reopen(root);
    neomm__count_add(root, NEOMM_COUNTER_FRAME_ALLOC, enough ? count : 0);
    return enough;
}

static bool zero_all(struct neomm *root, uint32_t count, const neomm_frame_t *frames)
{
    for (uint32_t i = 0; i < count; i++)
        if (!neomm__pmm_zero(root, frames[i], 1))
            return false;
    return true;
}

/* While frames are filled each is looked at for itself. */
static neomm_status allocate_singly(struct neomm *root, uint32_t count, neomm_flags_t flags,
                                    neomm_frame_t *frames)
{
    neomm_status status = NEOMM_OK;
    uint32_t done = 0;
    while (done < count && (status = allocate(root, 0, flags, &frames[done])) == NEOMM_OK)
        done++;
    if (status != NEOMM_OK)
        (void)neomm_pmm_free_bulk(root, done, frames, NULL);
    return status;
}

static neomm_status allocate_bulk(struct neomm *root, uint32_t count, neomm_flags_t flags,
                                  neomm_frame_t *frames)
{
    if (root->pmm->fill != 0)
        return allocate_singly(root, count, flags, frames);
    for (unsigned tries = 0;
         !take_all(root, count, flags, frames) && !take_all_the_last(root, count, flags, frames);
         tries++)
        if (!neomm__pmm_reclaim(root, count, flags, tries))
            return neomm__pmm_failed(root);
    for (uint32_t i = 0; i < count; i++) {
        neomm__pmm_own(root, neomm__bit_of(root, frames[i]), 0, flags);
        NEOMM__FRAMES_ALLOCATED(frames[i], 1);
    }
    if (!(flags & NEOMM_ZERO) || zero_all(root, count, frames))
        return NEOMM_OK;
    (void)neomm_pmm_free_bulk(root, count, frames, NULL);
    return allocate_bulk(root, count, flags & ~NEOMM_HIGH, frames);
}

neomm_status neomm_pmm_alloc_bulk(struct neomm *root, uint32_t count, neomm_flags_t flags,
                                  neomm_frame_t *frames)
{
    neomm_status status = root->pmm ? NEOMM_OK : NEOMM_E_INVALID;
    for (uint32_t i = 0; i < count && status == NEOMM_OK; i++)
        if (NEOMM__FAULT(PMM_BULK))
            status = neomm__pmm_failed(root);
    return status == NEOMM_OK ? allocate_bulk(root, count, flags, frames) : status;
}

neomm_status neomm_pmm_free_bulk(struct neomm *root, uint32_t count, const neomm_frame_t *frames,
                                 uint32_t *done)
{
    neomm_status status = NEOMM_OK;
    uint32_t freed = 0;
    while (freed < count && (status = neomm_pmm_free(root, frames[freed], 0)) == NEOMM_OK)
        freed++;
    if (done)
        *done = freed;
    return status;
}

/* ---- the rest ---- */

void neomm_pmm_set_reclaim(struct neomm *root, neomm_reclaim_fn *reclaim, void *context)
{
    if (!root->pmm)
        return;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    root->reclaim = reclaim;
    root->reclaim_context = context;
    neomm__unlock(&root->pmm->lock, irq);
}

void neomm_pmm_set_compact(struct neomm *root, neomm_compact_fn *compact, void *context)
{
    if (!root->pmm)
        return;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    root->pmm->compact = compact;
    root->pmm->compact_context = context;
    neomm__unlock(&root->pmm->lock, irq);
}

void neomm_pmm_set_low(struct neomm *root, neomm_low_fn *low, void *context)
{
    if (!root->pmm)
        return;
    root->pmm->low_context = context;
    root->pmm->low = low;
}

uint64_t neomm_pmm_free_frames(const struct neomm *root)
{
    const struct neomm__pmm *pmm = root->pmm;
    uint64_t sum = 0;
    for (uint32_t i = 0; pmm && i < pmm->nodes * NEOMM_ZONES; i++)
        sum += neomm__load_relaxed(&pmm->area[i].free) + neomm__cache_frames(pmm, i);
    return sum;
}

neomm_status neomm_pmm_cpu_offline(struct neomm *root, uint32_t cpu)
{
    if (!root->pmm || cpu >= root->cpus)
        return NEOMM_E_INVALID;
    neomm__cache_enable(root, cpu, false);
    return NEOMM_OK;
}

neomm_status neomm_pmm_cpu_online(struct neomm *root, uint32_t cpu)
{
    if (!root->pmm || cpu >= root->cpus)
        return NEOMM_E_INVALID;
    neomm__cache_enable(root, cpu, true);
    return NEOMM_OK;
}

void neomm_pmm_drain(struct neomm *root)
{
    if (root->pmm)
        neomm__cache_drain(root);
}
