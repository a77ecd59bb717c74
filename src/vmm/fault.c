/* Page faults.
 * SPDX-License-Identifier: MIT
 *
 * A fault is worked off in rounds. Each round enters the region, which keeps calls that change it
 * out, but not other faults nor eviction; looks at the leaf as it is now, and either ends the fault
 * or finds that something is missing which may not be fetched inside (a frame that costs a reclaim,
 * the contents from swap); it is fetched outside, kept in `struct neomm__fault`, and the next round
 * looks again.
 */
#include "vmm/fault.h"

#include "base/epoch.h"
#include "swap/remove.h"
#include "vmm/balance.h"
#include "vmm/idle.h"
#include "vmm/readahead.h"
#include "vmm/tally.h"

#define ROUNDS 16u
/* Others may free what is needed, or unmap what could have been evicted, meanwhile; only the second
 * time that nothing can be freed is believed. */
#define SHORTAGES 2u
#define MOMENT    1000000u /* ns */

/* A fault of a kind, for the space and for the machine. */
#define COUNT_FAULT(work, name, NAME)                                                              \
    count_fault(work, offsetof(struct neomm__tally, name), NEOMM_COUNTER_FAULT_##NAME)
static void count_fault(struct neomm__fault *work, size_t place, enum neomm_counter counter)
{
    neomm_irq_t irq = neomm_port_irq_save();
    uint32_t cpu = neomm_port_cpu()->index;
    uint8_t *tally = (uint8_t *)&work->space->tally[cpu];
    neomm__tally_add((size_t *)(void *)(tally + place), 1);
    neomm__count_masked(&work->root->cpu[cpu], counter, 1);
    neomm_port_irq_restore(irq);
}

enum neomm__round neomm__fault_finish(struct neomm_fault_result *result,
                                      enum neomm_fault_outcome outcome, enum neomm_fault_kind kind)
{
    result->outcome = outcome;
    result->kind = kind;
    result->reason = NEOMM_REASON_NONE;
    return NEOMM__FAULT_DONE;
}

enum neomm__round neomm__fault_fail(struct neomm_fault_result *result,
                                    enum neomm_fault_outcome outcome,
                                    enum neomm_fault_reason reason)
{
    result->outcome = outcome;
    result->kind = NEOMM_FAULT_NONE;
    result->reason = reason;
    return NEOMM__FAULT_DONE;
}

/* The right that the access needs and the region has not; NONE: it may. */
static enum neomm_fault_reason missing_right(neomm_prot_t prot, uint32_t error)
{
    if (error & NEOMM_PF_WRITE)
        return prot & NEOMM_PROT_WRITE ? NEOMM_REASON_NONE : NEOMM_REASON_WRITE;
    if (error & NEOMM_PF_FETCH)
        return prot & NEOMM_PROT_EXEC ? NEOMM_REASON_NONE : NEOMM_REASON_EXEC;
    return prot != NEOMM_PROT_NONE ? NEOMM_REASON_NONE : NEOMM_REASON_READ;
}

/* ---- fetching, outside of the region ---- */

void neomm__fault_leave(struct neomm__fault *work)
{
    if (work->region)
        neomm__region_exit(work->region);
    work->region = NULL;
}

void neomm__fault_drop_contents(struct neomm__fault *work)
{
    neomm__fault_end_read(work);
    if (work->read.kind != NEOMM_SWAP_NONE)
        (void)neomm_swap_free(work->root, work->read);
    work->read.kind = NEOMM_SWAP_NONE;
}

void neomm__fault_drop_frame(struct neomm__fault *work)
{
    if (!neomm_frame_is_nil(work->frame))
        neomm__user_frame_put(work->root, work->frame);
    work->frame = neomm_frame(0);
    neomm__fault_drop_contents(work);
}

/* Takes a frame; inside the region, if there are any left. Otherwise it is left and a frame comes
 * at the cost of others. */
neomm_status neomm__fault_fetch_frame(struct neomm__fault *work, bool zeroed)
{
    neomm_flags_t flags = NEOMM_HIGH | NEOMM_MOVABLE | (zeroed ? NEOMM_ZERO : 0);
    work->zeroed = zeroed;
    bool fails = NEOMM__FAULT(VMM_FRAME);
    if (!fails && neomm_pmm_alloc(work->root, 0, flags | NEOMM_NORECLAIM, &work->frame) == NEOMM_OK)
        return NEOMM_OK;
    neomm__fault_leave(work);
    return fails ? NEOMM_E_NOMEM : neomm_pmm_alloc(work->root, 0, flags, &work->frame);
}

neomm_status neomm__fault_read(struct neomm__fault *work, struct neomm_swap_page *page,
                               uint32_t count)
{
    neomm__stall_begin(work->root);
    (void)neomm_swap_read(work->root, page, count);
    neomm__stall_end(work->root);
    return page[0].status;
}

/* Only with the count is the slot's content that of the entry: the page may have been faulted in,
 * written and evicted before. What the leaf says now is so from now on. */
bool neomm__fault_hold_entry(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                             const struct neomm_swap_entry *entry)
{
    struct neomm_mapping now;
    if (neomm_swap_dup(root, *entry) != NEOMM_OK)
        return false;
    if (neomm_paging_query(root, &space->tables, vaddr, &now) == NEOMM_OK &&
        now.state == NEOMM_MAPPING_SWAPPED && neomm__fault_same_entry(&now.swap, entry))
        return true;
    (void)neomm_swap_free(root, *entry);
    return false;
}

/* Reads the contents of `entry`, and of others with it. Its slot is held from here until they are
 * mapped or dropped: meanwhile others may fault the page in, write it and evict it again, and then
 * it must go to another slot, or the old contents would pass for the new. */
static neomm_status fetch_contents(struct neomm__fault *work, struct neomm_swap_entry entry)
{
    struct neomm__nearby nearby;
    neomm__fault_drop_contents(work);
    if (!neomm__fault_hold_entry(work->root, work->space, work->page, &entry))
        return NEOMM_E_NOENT;
    if (!neomm__fault_begin_read(work, entry)) {
        (void)neomm_swap_free(work->root, entry);
        return NEOMM_E_NOENT;
    }
    nearby.page[0] = (struct neomm_swap_page){entry, work->frame, NEOMM_OK};
    neomm__readahead_choose(work, &nearby);
    work->read = entry;
    neomm__fault_leave(work);
    neomm__readahead_frames(work, &nearby);
    neomm_status status = neomm__fault_read(work, nearby.page, nearby.count);
    if (status != NEOMM_OK)
        neomm__fault_drop_contents(work);
    neomm__readahead_map(work, &nearby);
    work->zeroed = false;
    return status;
}

/* ---- mapping, inside the region ---- */

neomm_status neomm__fault_map(struct neomm__fault *work, const struct neomm_mapping *old,
                              neomm_frame_t frame, neomm_prot_t prot, struct neomm_mapping *last)
{
    struct neomm_mapping next = {
        .state = NEOMM_MAPPING_PRESENT,
        .prot = prot,
        .paddr = neomm_frame_paddr(frame),
        .size = NEOMM_PAGE_SIZE,
    };
    return neomm_paging_exchange_exact(work->root, &work->space->tables, work->page, old, &next,
                                       last);
}

/* The frame that was fetched becomes the page. */
static neomm_status map_own(struct neomm__fault *work, const struct neomm_mapping *old,
                            unsigned flags, struct neomm_mapping *last)
{
    neomm__user_frame_claim(work->root, work->space, work->frame, work->page, flags);
    neomm_status status = neomm__fault_map(work, old, work->frame, work->region_prot, last);
    if (status != NEOMM_OK)
        neomm__user_frame_unclaim(work->root, work->frame);
    return status;
}

/* One page of the space goes. */
static neomm_status evict_own(struct neomm__fault *work)
{
    neomm__fault_leave(work);
    return neomm__evict_one(work->root, work->space);
}

enum neomm__round neomm__fault_make_room(struct neomm__fault *work,
                                         struct neomm_fault_result *result)
{
    struct neomm__vmm *vmm = work->root->vmm;
    neomm__stall_begin(work->root);
    uint32_t ended = neomm__evictions_wait_begin(vmm), freed = 1;
    if (evict_own(work) != NEOMM_OK)
        freed = neomm__reclaim(work->root, 4);
    neomm__evictions_wait_end(vmm, ended, freed == 0 ? MOMENT : 0);
    neomm__stall_end(work->root);
    if (freed != 0 || ++work->shortages < SHORTAGES)
        return NEOMM__FAULT_AGAIN;
    return neomm__fault_fail(result, NEOMM_FAULT_NOMEM, NEOMM_REASON_MEMORY);
}

enum neomm__round neomm__fault_was_read(struct neomm__fault *work, neomm_status status,
                                        struct neomm_fault_result *result)
{
    if (status == NEOMM_OK || status == NEOMM_E_NOENT)
        return NEOMM__FAULT_AGAIN;
    if (status == NEOMM_E_NOMEM)
        return neomm__fault_make_room(work, result);
    return neomm__fault_fail(result, NEOMM_FAULT_BUS,
                             status == NEOMM_E_CORRUPT ? NEOMM_REASON_DAMAGED : NEOMM_REASON_IO);
}

/* An exchange that did not go through: short of a table, or a lost race. */
static enum neomm__round exchange_failed(struct neomm__fault *work, neomm_status status,
                                         struct neomm_fault_result *result)
{
    return status == NEOMM_E_AGAIN ? NEOMM__FAULT_AGAIN : neomm__fault_make_room(work, result);
}

/* The slot goes on being the copy of a clean page while swap is at most half full; a fuller one
 * is needed for pages that have none. A copy in the compressed pool takes memory, so it stays only
 * while the pool is at most half full. */
static bool may_keep_slot(struct neomm *root, struct neomm_swap_entry slot)
{
    struct neomm_swap_stats stats;
    neomm_swap_stats(root, &stats);
    if (stats.used * 2 > stats.slots || neomm__swap_is_leaving(root, slot.slot))
        return false;
    return stats.pool_frames * 2 <= stats.pool_limit ||
           neomm_swap_where(root, slot) != NEOMM_SWAP_IN_POOL;
}

static void keep_or_free_slot(struct neomm__fault *work, neomm_frame_t frame,
                              struct neomm_swap_entry slot)
{
    struct neomm__frame *entry = neomm__frame(work->root, frame);
    if (may_keep_slot(work->root, slot)) {
        neomm_irq_t irq = neomm__rmap_lock(entry);
        entry->owner = slot.slot;
        neomm__frame_set(entry, NEOMM__FRAME_SLOT);
        neomm__rmap_unlock(entry, irq);
    } else {
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
        (void)neomm_swap_free(work->root, slot);
    }
}

enum neomm__round neomm__fault_zero(struct neomm__fault *work, struct neomm_fault_result *result)
{
    COUNT_FAULT(work, zero, ZERO);
    return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_ZERO);
}

enum neomm__round neomm__fault_other(struct neomm__fault *work, struct neomm_fault_result *result)
{
    COUNT_FAULT(work, other, OTHER);
    return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_SPURIOUS);
}

void neomm__fault_swapped_in(struct neomm__fault *work)
{
    COUNT_FAULT(work, swap_in, SWAP_IN);
    neomm__balance_cost(work->root, NEOMM__COST_ANONYMOUS);
    neomm__space_page_is_back(work->root, work->space);
}

static enum neomm__round map_fetched(struct neomm__fault *work, const struct neomm_mapping *old,
                                     struct neomm_fault_result *result)
{
    struct neomm_space *space = work->space;
    bool swapped = old->state == NEOMM_MAPPING_SWAPPED;
    neomm_frame_t frame = work->frame;
    neomm_status status = map_own(work, old, swapped ? 0 : NEOMM__FRAME_DIRTY, NULL);
    if (status != NEOMM_OK)
        return exchange_failed(work, status, result);
    work->frame = neomm_frame(0);
    neomm__fault_drop_contents(work);
    if (swapped) {
        (void)neomm__fetch_sub(&space->swap_pages, 1);
        neomm__fault_swapped_in(work);
        neomm__user_frame_refault(work->root, space, &old->swap);
        keep_or_free_slot(work, frame, old->swap);
    }
    neomm__user_frame_enter(work->root, space, frame, swapped);
    if (swapped)
        return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_SWAP_IN);
    return old->state == NEOMM_MAPPING_NONE ? neomm__fault_zero(work, result)
                                            : neomm__fault_other(work, result);
}

/* ---- one round ---- */

static bool at_resident_limit(const struct neomm *root, const struct neomm_space *space)
{
    return neomm__resident_at_limit(root, space);
}

bool neomm__fault_must_give(const struct neomm__fault *work)
{
    return !work->gave && at_resident_limit(work->root, work->space);
}

/* At the limit, where no page could be given: was that so for a moment only? The pages may have
 * gone by other means meanwhile, perhaps all of them. */
static bool is_worth_waiting(struct neomm__fault *work, neomm_status status)
{
    if (status == NEOMM_E_AGAIN && neomm__may_evict_one(work->root, work->space))
        return true;
    if (!at_resident_limit(work->root, work->space))
        return true;
    return status == NEOMM_E_NOENT && ++work->shortages < SHORTAGES;
}

enum neomm__round neomm__fault_give(struct neomm__fault *work, struct neomm_fault_result *result)
{
    struct neomm__vmm *vmm = work->root->vmm;
    neomm__stall_begin(work->root);
    uint32_t ended = neomm__evictions_wait_begin(vmm);
    neomm_status status = evict_own(work);
    work->gave = status == NEOMM_OK;
    bool stuck = !work->gave && at_resident_limit(work->root, work->space);
    neomm__evictions_wait_end(vmm, ended, stuck ? MOMENT : 0);
    neomm__stall_end(work->root);
    if (!stuck || is_worth_waiting(work, status))
        return NEOMM__FAULT_AGAIN;
    return neomm__fault_fail(result, NEOMM_FAULT_NOMEM, NEOMM_REASON_LIMIT);
}

/* A frame of its own for the page, with its contents; one missing thing a round. */
static enum neomm__round round_needs_frame(struct neomm__fault *work,
                                           const struct neomm_mapping *old,
                                           struct neomm_fault_result *result)
{
    if (neomm__fault_must_give(work))
        return neomm__fault_give(work, result);
    bool swapped = old->state == NEOMM_MAPPING_SWAPPED;
    bool read = swapped && neomm__fault_same_entry(&work->read, &old->swap);
    enum neomm__round round;
    if (swapped && !read && neomm__fault_find(work, old, result, &round))
        return round;
    if (neomm_frame_is_nil(work->frame) && neomm__fault_fetch_frame(work, !swapped) != NEOMM_OK)
        return neomm__fault_make_room(work, result);
    if (!work->region)
        return NEOMM__FAULT_AGAIN;
    if (!swapped && !work->zeroed) {
        neomm__fault_drop_frame(work);
        return NEOMM__FAULT_AGAIN;
    }
    if (swapped && !read)
        return neomm__fault_was_read(work, fetch_contents(work, old->swap), result);
    if (swapped && neomm__fault_is_shared(work))
        return neomm__fault_map_shared(work, old, result);
    return map_fetched(work, old, result);
}

/* The first read of a page may share the one frame of zeros. */
static enum neomm__round round_zero_page(struct neomm__fault *work, const struct neomm_mapping *old,
                                         struct neomm_fault_result *result)
{
    neomm_status status = neomm__fault_map(work, old, work->root->vmm->zero,
                                           work->region_prot & ~NEOMM_PROT_WRITE, NULL);
    if (status != NEOMM_OK)
        return exchange_failed(work, status, result);
    return neomm__fault_zero(work, result);
}

/* The copy is complete: it takes the place of what others have, too. */
static enum neomm__round map_copy(struct neomm__fault *work, const struct neomm_mapping *old,
                                  struct neomm_fault_result *result)
{
    struct neomm *root = work->root;
    neomm_frame_t copy = work->frame;
    struct neomm_mapping last;
    neomm_status status = map_own(work, old, NEOMM__FRAME_DIRTY, &last);
    if (status != NEOMM_OK)
        return exchange_failed(work, status, result);
    work->frame = neomm_frame(0);
    neomm__user_frame_leave(root, work->space, neomm_paddr_frame(old->paddr), work->page,
                            last.dirty, NULL);
    neomm__user_frame_enter(root, work->space, copy, false);
    COUNT_FAULT(work, copy, COPY);
    return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_COPY);
}

/* A page that others have, too, is to be written to. The frame is held while it is copied: it could
 * be evicted, and become another page. As long as it is held nobody makes it writable, and if it
 * was made so before, the exchange of its leaf fails. */
static enum neomm__round round_copy(struct neomm__fault *work, const struct neomm_mapping *old,
                                    struct neomm_fault_result *result)
{
    if (neomm_frame_is_nil(work->frame) && neomm__fault_fetch_frame(work, false) != NEOMM_OK)
        return neomm__fault_make_room(work, result);
    if (!work->region)
        return NEOMM__FAULT_AGAIN;
    const struct neomm__frame *held =
        neomm__user_frame_hold(work->root, work->space, work->page, old->paddr);
    if (!held)
        return NEOMM__FAULT_AGAIN;
    neomm_frame_t frame = neomm_paddr_frame(old->paddr);
    neomm_status status = neomm__user_frame_copy(work->root, work->frame, frame);
    work->zeroed = false;
    neomm__fault_drop_contents(work);
    enum neomm__round round =
        status == NEOMM_OK ? map_copy(work, old, result)
                           : neomm__fault_fail(result, NEOMM_FAULT_NOMEM, NEOMM_REASON_MEMORY);
    neomm__user_frame_put(work->root, frame);
    return round;
}

/* A part of a huge page changes: it becomes small ones. */
static enum neomm__round round_part(struct neomm__fault *work, struct neomm_fault_result *result)
{
    neomm_status status =
        neomm__leaves_part(work->root, work->space, work->page, work->page + NEOMM_PAGE_SIZE);
    return status == NEOMM_OK ? NEOMM__FAULT_AGAIN : neomm__fault_make_room(work, result);
}

/* Nothing is missing. While a huge leaf is split its pages are gone for the CPUs: who splits it has
 * the table locked, so a look at it with the lock waits for him. */
static enum neomm__round round_spurious(struct neomm__fault *work, const struct neomm_mapping *old,
                                        struct neomm_fault_result *result)
{
    if (old->size > NEOMM_PAGE_SIZE)
        neomm__leaf_settle(work->root, work->space, work->page);
    return neomm__fault_other(work, result);
}

static enum neomm__round round_present(struct neomm__fault *work, const struct neomm_mapping *old,
                                       struct neomm_fault_result *result)
{
    if (!work->write || (old->prot & NEOMM_PROT_WRITE))
        return round_spurious(work, old, result);
    if (old->size > NEOMM_PAGE_SIZE)
        return round_part(work, result);
    if (old->paddr == neomm_frame_paddr(work->root->vmm->zero))
        return round_needs_frame(work, old, result);
    if (!neomm__fault_take(work->root, neomm_paddr_frame(old->paddr)))
        return round_copy(work, old, result);
    struct neomm_mapping next = *old;
    next.prot = work->region_prot;
    neomm_status status =
        neomm_paging_exchange_exact(work->root, &work->space->tables, work->page, old, &next, NULL);
    return status == NEOMM_OK ? neomm__fault_other(work, result) : NEOMM__FAULT_AGAIN;
}

/* ---- huge pages ---- */

static void drop_block(struct neomm__fault *work)
{
    if (!neomm_frame_is_nil(work->block))
        neomm__huge_free(work->root, work->block);
    work->block = neomm_frame(0);
}

/* Nobody waits for a block, nor for a table above it: small pages do as well. */
static enum neomm__round round_huge(struct neomm__fault *work, struct neomm_fault_result *result)
{
    neomm_frame_t block = work->block;
    if (neomm_frame_is_nil(block)) {
        neomm__fault_leave(work);
        work->small = neomm__huge_alloc(work->root, &work->block) != NEOMM_OK;
        return NEOMM__FAULT_AGAIN;
    }
    work->block = neomm_frame(0);
    work->small = true;
    if (neomm__huge_map(work->root, work->space, work->page, block, work->region_prot) != NEOMM_OK)
        return NEOMM__FAULT_AGAIN;
    NEOMM__COUNT(work->root, FAULT_HUGE);
    (void)neomm__fault_zero(work, result);
    return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_HUGE);
}

/* A private mapping of an object: what it has written to is its own; the object's page is only
 * read, and copied before a write. */
static enum neomm__round round_private(struct neomm__fault *work, const struct neomm_mapping *old,
                                       struct neomm_fault_result *result)
{
    if (old->state == NEOMM_MAPPING_PRESENT)
        return round_present(work, old, result);
    if (old->state == NEOMM_MAPPING_SWAPPED)
        return round_needs_frame(work, old, result);
    enum neomm__round round = neomm__fault_object(work, work->region, result);
    if (round == NEOMM__FAULT_AGAIN || !work->write || result->outcome != NEOMM_FAULT_RESOLVED)
        return round;
    (void)neomm__fault_finish(result, NEOMM_FAULT_RETRY, NEOMM_FAULT_NONE);
    return NEOMM__FAULT_AGAIN;
}

/* Nothing is mapped there, unless a stack can be made to reach so far. */
static enum neomm__round round_unmapped(struct neomm__fault *work,
                                        struct neomm_fault_result *result)
{
    neomm__mutex_lock(&work->space->lock);
    bool again = neomm__region_find(&work->space->map, work->page) ||
                 neomm__stack_grow(work->root, work->space, work->page);
    neomm__mutex_unlock(&work->space->lock);
    return again ? NEOMM__FAULT_AGAIN
                 : neomm__fault_fail(result, NEOMM_FAULT_SEGV, NEOMM_REASON_UNMAPPED);
}

/* Whatever the region's rights are, the page comes back if it is in swap. */
static enum neomm__round round_bring(struct neomm__fault *work, const struct neomm_mapping *old,
                                     struct neomm_fault_result *result)
{
    work->region_prot = work->region->prot;
    if (old->state != NEOMM_MAPPING_SWAPPED)
        return neomm__fault_finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_NONE);
    return round_needs_frame(work, old, result);
}

/* What a page that is the space's own, and not an object's, has for a leaf. */
static enum neomm__round round_own(struct neomm__fault *work, const struct neomm_mapping *old,
                                   struct neomm_fault_result *result)
{
    const struct neomm__region *region = work->region;
    if (region->flags & NEOMM__REGION_PHYSICAL)
        return old->state == NEOMM_MAPPING_PRESENT
                   ? neomm__fault_other(work, result)
                   : neomm__fault_fail(result, NEOMM_FAULT_BUS, NEOMM_REASON_DEVICE);
    if (old->state == NEOMM_MAPPING_PRESENT)
        return round_present(work, old, result);
    if (old->state == NEOMM_MAPPING_NONE && !work->small &&
        neomm__huge_fits(work->root, work->space, region, work->page, old, work->write))
        return round_huge(work, result);
    if (old->state == NEOMM_MAPPING_NONE && !work->write &&
        !neomm_frame_is_nil(work->root->vmm->zero))
        return round_zero_page(work, old, result);
    return round_needs_frame(work, old, result);
}

static enum neomm__round round_inside(struct neomm__fault *work, uint32_t error,
                                      const struct neomm_mapping *old,
                                      struct neomm_fault_result *result)
{
    const struct neomm__region *region = work->region;
    if (error & NEOMM__PF_BRING)
        return round_bring(work, old, result);
    enum neomm_fault_reason missing = missing_right(region->prot, error);
    if (missing != NEOMM_REASON_NONE)
        return neomm__fault_fail(result, NEOMM_FAULT_ACCESS, missing);
    if (neomm__is_victim(work->space))
        return neomm__fault_fail(result, NEOMM_FAULT_NOMEM, NEOMM_REASON_VICTIM);
    work->region_prot = region->prot;
    if (region->object == 0)
        return round_own(work, old, result);
    return region->flags & NEOMM__REGION_SHARED ? neomm__fault_object(work, region, result)
                                                : round_private(work, old, result);
}

/* A shared mapping of an object needs no look at the leaf. The page is the user's, so it has one.
 */
static void look(struct neomm__fault *work, struct neomm_mapping *old)
{
    if (!(work->region->flags & NEOMM__REGION_SHARED))
        (void)neomm_paging_query(work->root, &work->space->tables, work->page, old);
}

/* Enters the region and looks at the leaf: as a rule in one walk without locks. */
static void enter(struct neomm__fault *work, struct neomm_mapping *old)
{
    neomm_irq_t irq = neomm__epoch_enter(work->root);
    work->region = neomm__region_try_enter(work->root, work->space, work->page);
    if (work->region)
        look(work, old);
    neomm__epoch_leave(work->root, irq);
    if (work->region)
        return;
    work->region = neomm__region_enter(work->root, work->space, work->page);
    if (work->region)
        look(work, old);
}

static enum neomm__round one_round(struct neomm__fault *work, uint32_t error,
                                   struct neomm_fault_result *result)
{
    struct neomm_mapping old = {.state = NEOMM_MAPPING_NONE};
    enter(work, &old);
    if (!work->region)
        return round_unmapped(work, result);
    enum neomm__round round = round_inside(work, error, &old, result);
    neomm__fault_leave(work);
    return round;
}

static void all_rounds(struct neomm__fault *work, uint32_t error, struct neomm_fault_result *result)
{
    enum neomm__round round = NEOMM__FAULT_AGAIN;
    (void)neomm__fault_finish(result, NEOMM_FAULT_RETRY, NEOMM_FAULT_NONE);
    for (unsigned i = 0; i < ROUNDS && round == NEOMM__FAULT_AGAIN; i++)
        round = one_round(work, error, result);
    neomm__fault_drop_frame(work);
    drop_block(work);
    work->shortages = 0;
}

enum neomm_fault_outcome neomm__fault_bring(struct neomm *root, struct neomm_space *space,
                                            neomm_vaddr_t page, neomm_frame_t frame,
                                            struct neomm_swap_entry entry,
                                            struct neomm_fault_result *result)
{
    struct neomm__fault work = {
        .root = root, .space = space, .page = page, .frame = frame, .read = entry};
    all_rounds(&work, NEOMM__PF_BRING, result);
    return result->outcome;
}

/* Did others just free memory, or is it worth to look for a victim? */
static bool may_retry(struct neomm__fault *work, uint32_t error,
                      const struct neomm_fault_result *result)
{
    if (result->outcome != NEOMM_FAULT_NOMEM || (error & NEOMM__PF_STATUS) ||
        at_resident_limit(work->root, work->space) || neomm__is_victim(work->space))
        return false;
    neomm__stall_begin(work->root);
    bool more = neomm__out_of_memory(work->root);
    neomm__stall_end(work->root);
    return more;
}

enum neomm_fault_outcome neomm_fault(struct neomm *root, struct neomm_space *space,
                                     neomm_vaddr_t address, uint32_t error,
                                     struct neomm_fault_result *result)
{
    struct neomm__fault work = {
        .root = root,
        .space = space,
        .page = NEOMM__ALIGN_DOWN(address, NEOMM_PAGE_SIZE),
        .write = error & (NEOMM_PF_WRITE | NEOMM__PF_UNSHARE),
    };
    (void)neomm__fault_fail(result, NEOMM_FAULT_SEGV, NEOMM_REASON_NOT_USER);
    if (neomm__is_user_range(root, work.page, NEOMM_PAGE_SIZE))
        do
            all_rounds(&work, error, result);
        while (may_retry(&work, error, result));
    if (result->outcome != NEOMM_FAULT_RESOLVED && result->outcome != NEOMM_FAULT_RETRY) {
        NEOMM__COUNT(root, FAULT_FAILED);
        if (neomm_region_at(root, space, work.page, &result->region) != NEOMM_OK)
            result->region = (struct neomm_region_info){0};
    }
    return result->outcome;
}
