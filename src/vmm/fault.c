/* Page faults.
 * SPDX-License-Identifier: MIT
 *
 * A fault is worked off in rounds. Each round enters the region, which keeps calls that change it
 * out, but not other faults nor eviction; looks at the leaf as it is now, and either ends the fault
 * or finds that something is missing which may not be fetched inside (a frame that costs a reclaim,
 * the contents from swap); it is fetched outside, kept in `struct work`, and the next round looks
 * again.
 */
#include "vmm/balance.h"
#include "vmm/cache.h"

#define ROUNDS 16u
/* Others may free what is needed, or unmap what could have been evicted, meanwhile; only the second
 * time that nothing can be freed is believed. */
#define SHORTAGES 2u
#define MOMENT    1000000u /* ns */

struct work {
    struct neomm *root;
    struct neomm_space *space;
    struct neomm__region *region; /* that we are inside of, NULL: none */
    neomm_vaddr_t page;
    bool write; /* the page must be the space's own */
    neomm_prot_t region_prot;
    neomm_frame_t block;          /* the same, for a huge page */
    bool small;                   /* no huge page, whatever is allowed */
    neomm_frame_t frame;          /* fetched and not yet mapped, nil: none */
    struct neomm_swap_entry read; /* whose contents are in the frame, with a count that keeps them
                                   * from being overwritten; kind 0: none's */
    bool zeroed;                  /* the frame is filled with zeros */
    bool gave;                    /* at the resident limit: a page for the one that comes */
    bool waited;                  /* for the pager */
    unsigned shortages;           /* times that nothing could be freed */
};

/* What a round came to. */
enum round { DONE, AGAIN };

static enum round finish(struct neomm_fault_result *result, enum neomm_fault_outcome outcome,
                         enum neomm_fault_kind kind)
{
    result->outcome = outcome;
    result->kind = kind;
    return DONE;
}

static bool permits(neomm_prot_t prot, uint32_t error)
{
    if (error & NEOMM_PF_WRITE)
        return prot & NEOMM_PROT_WRITE;
    if (error & NEOMM_PF_FETCH)
        return prot & NEOMM_PROT_EXEC;
    return prot != NEOMM_PROT_NONE;
}

/* ---- fetching, outside of the region ---- */

/* What follows may sleep or reclaim; the round ends with it. */
static void leave(struct work *work)
{
    if (work->region)
        neomm__region_exit(work->region);
    work->region = NULL;
}

static void drop_contents(struct work *work)
{
    if (work->read.kind != NEOMM_SWAP_NONE)
        (void)neomm_swap_free(work->root, work->read);
    work->read.kind = NEOMM_SWAP_NONE;
}

static void drop_frame(struct work *work)
{
    if (!neomm_frame_is_nil(work->frame))
        neomm__user_frame_put(work->root, work->frame);
    work->frame = neomm_frame(0);
    drop_contents(work);
}

/* Takes a frame; inside the region, if there are any left. Otherwise it is left and a frame comes
 * at the cost of others. */
static neomm_status fetch_frame(struct work *work, bool zeroed)
{
    neomm_flags_t flags = NEOMM_HIGH | NEOMM_MOVABLE | (zeroed ? NEOMM_ZERO : 0);
    work->zeroed = zeroed;
    bool fails = NEOMM__FAULT(VMM_FRAME);
    if (!fails && neomm_pmm_alloc(work->root, 0, flags | NEOMM_NORECLAIM, &work->frame) == NEOMM_OK)
        return NEOMM_OK;
    leave(work);
    return fails ? NEOMM_E_NOMEM : neomm_pmm_alloc(work->root, 0, flags, &work->frame);
}

static bool same_entry(const struct neomm_swap_entry *a, const struct neomm_swap_entry *b)
{
    return a->kind == b->kind && a->slot == b->slot && a->generation == b->generation;
}

static neomm_status read_page(struct work *work, struct neomm_swap_page *page)
{
    neomm__stall_begin(work->root);
    neomm_status status = neomm_swap_read(work->root, page, 1);
    neomm__stall_end(work->root);
    return status;
}

/* Reads the contents of `entry`. Its slot is held from here until they are mapped or dropped:
 * meanwhile others may fault the page in, write it and evict it again, and then it must go to
 * another slot, or the old contents would pass for the new. */
static neomm_status fetch_contents(struct work *work, struct neomm_swap_entry entry)
{
    struct neomm_mapping now;
    drop_contents(work);
    neomm_status status = neomm_swap_dup(work->root, entry);
    if (status != NEOMM_OK)
        return status;
    /* Only with the count is the slot's content that of the entry: the page may have been faulted
     * in, written and evicted before. What the leaf says now is so from now on. */
    status = neomm_paging_query(work->root, &work->space->tables, work->page, &now);
    if (status != NEOMM_OK || now.state != NEOMM_MAPPING_SWAPPED ||
        !same_entry(&now.swap, &entry)) {
        (void)neomm_swap_free(work->root, entry);
        return NEOMM_E_NOENT;
    }
    struct neomm_swap_page page = {entry, work->frame, NEOMM_OK};
    work->read = entry;
    leave(work);
    status = read_page(work, &page);
    if (status != NEOMM_OK)
        drop_contents(work);
    work->zeroed = false;
    return status;
}

/* ---- mapping, inside the region ---- */

static neomm_status map_page(struct work *work, const struct neomm_mapping *old,
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
static neomm_status map_own(struct work *work, const struct neomm_mapping *old,
                            struct neomm_mapping *last)
{
    neomm__user_frame_claim(work->root, work->space, work->frame, work->page);
    neomm_status status = map_page(work, old, work->frame, work->region_prot, last);
    if (status != NEOMM_OK)
        neomm__user_frame_unclaim(work->root, work->space, work->frame, work->page);
    return status;
}

/* One page of the space goes. */
static neomm_status evict_own(struct work *work)
{
    leave(work);
    return neomm__evict_one(work->root, work->space);
}

/* Memory is short: the space's own pages are tried first. What keeps all pages from going is over
 * soon: others' evictions, regions that are closed. */
static enum round make_room(struct work *work, struct neomm_fault_result *result)
{
    struct neomm__vmm *vmm = work->root->vmm;
    neomm__stall_begin(work->root);
    uint32_t ended = neomm__evictions_wait_begin(vmm), freed = 1;
    if (evict_own(work) != NEOMM_OK)
        freed = neomm__reclaim(work->root, 4);
    neomm__evictions_wait_end(vmm, ended, freed == 0 ? MOMENT : 0);
    neomm__stall_end(work->root);
    if (freed != 0 || ++work->shortages < SHORTAGES)
        return AGAIN;
    return finish(result, NEOMM_FAULT_NOMEM, NEOMM_FAULT_NONE);
}

/* An exchange that did not go through: short of a table, or a lost race. */
static enum round exchange_failed(struct work *work, neomm_status status,
                                  struct neomm_fault_result *result)
{
    return status == NEOMM_E_AGAIN ? AGAIN : make_room(work, result);
}

/* The slot goes on being the copy of a clean page while swap is at most half full; a fuller one
 * is needed for pages that have none. */
static void keep_or_free_slot(struct work *work, neomm_frame_t frame, struct neomm_swap_entry slot)
{
    struct neomm__frame *entry = neomm__frame(work->root, frame);
    struct neomm_swap_stats stats;
    neomm_swap_stats(work->root, &stats);
    if (stats.used * 2 <= stats.slots) {
        neomm_irq_t irq = neomm__rmap_lock(entry);
        entry->owner = slot.slot;
        neomm__frame_set(entry, NEOMM__FRAME_SLOT);
        neomm__rmap_unlock(entry, irq);
    } else {
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
        (void)neomm_swap_free(work->root, slot);
    }
}

static enum round round_zero(struct work *work, struct neomm_fault_result *result)
{
    neomm__bump(&work->space->faults_zero);
    NEOMM__COUNT(work->root, FAULT_ZERO);
    return finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_ZERO);
}

static enum round round_other(struct work *work, struct neomm_fault_result *result)
{
    neomm__bump(&work->space->faults_other);
    NEOMM__COUNT(work->root, FAULT_OTHER);
    return finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_SPURIOUS);
}

static enum round map_fetched(struct work *work, const struct neomm_mapping *old,
                              struct neomm_fault_result *result)
{
    struct neomm_space *space = work->space;
    bool swapped = old->state == NEOMM_MAPPING_SWAPPED;
    neomm_frame_t frame = work->frame;
    neomm_status status = map_own(work, old, NULL);
    if (status != NEOMM_OK)
        return exchange_failed(work, status, result);
    work->frame = neomm_frame(0);
    drop_contents(work);
    if (swapped) {
        (void)neomm__fetch_sub(&space->swap_pages, 1);
        neomm__bump(&space->faults_swap_in);
        neomm__user_frame_refault(work->root, space, &old->swap);
        neomm__balance_cost(work->root, NEOMM__COST_ANONYMOUS);
        keep_or_free_slot(work, frame, old->swap);
        NEOMM__COUNT(work->root, FAULT_SWAP_IN);
    } else {
        neomm__frame_set(neomm__frame(work->root, frame), NEOMM__FRAME_DIRTY);
    }
    neomm__user_frame_enter(work->root, space, frame);
    if (swapped)
        return finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_SWAP_IN);
    return old->state == NEOMM_MAPPING_NONE ? round_zero(work, result) : round_other(work, result);
}

/* ---- one round ---- */

static bool at_resident_limit(const struct neomm_space *space)
{
    return neomm__at_limit(&space->resident_pages, space->limits.resident_bytes);
}

/* A fault gives a page of the space for the one that it brings, once: others may take the place
 * meanwhile, and it would never come to an end. */
static bool must_give(const struct work *work)
{
    return !work->gave && at_resident_limit(work->space);
}

static enum round give_a_page(struct work *work, struct neomm_fault_result *result)
{
    struct neomm__vmm *vmm = work->root->vmm;
    neomm__stall_begin(work->root);
    uint32_t ended = neomm__evictions_wait_begin(vmm);
    neomm_status status = evict_own(work);
    work->gave = status == NEOMM_OK;
    bool stuck = !work->gave && at_resident_limit(work->space);
    neomm__evictions_wait_end(vmm, ended, stuck ? MOMENT : 0);
    neomm__stall_end(work->root);
    if (!stuck || status == NEOMM_E_AGAIN ||
        (status == NEOMM_E_NOENT && ++work->shortages < SHORTAGES))
        return AGAIN;
    return finish(result, NEOMM_FAULT_NOMEM, NEOMM_FAULT_NONE);
}

/* A frame of its own for the page, with its contents; one missing thing a round. */
static enum round round_needs_frame(struct work *work, const struct neomm_mapping *old,
                                    struct neomm_fault_result *result)
{
    if (must_give(work))
        return give_a_page(work, result);
    bool swapped = old->state == NEOMM_MAPPING_SWAPPED;
    if (neomm_frame_is_nil(work->frame) && fetch_frame(work, !swapped) != NEOMM_OK)
        return make_room(work, result);
    if (!work->region)
        return AGAIN;
    if (!swapped && !work->zeroed) {
        drop_frame(work);
        return AGAIN;
    }
    if (swapped && !same_entry(&work->read, &old->swap)) {
        neomm_status status = fetch_contents(work, old->swap);
        return status == NEOMM_OK || status == NEOMM_E_NOENT
                   ? AGAIN
                   : finish(result, NEOMM_FAULT_BUS, NEOMM_FAULT_NONE);
    }
    return map_fetched(work, old, result);
}

/* The first read of a page may share the one frame of zeros. */
static enum round round_zero_page(struct work *work, const struct neomm_mapping *old,
                                  struct neomm_fault_result *result)
{
    neomm_status status =
        map_page(work, old, work->root->vmm->zero, work->region_prot & ~NEOMM_PROT_WRITE, NULL);
    if (status != NEOMM_OK)
        return exchange_failed(work, status, result);
    return round_zero(work, result);
}

/* The copy is complete: it takes the place of what others have, too. */
static enum round map_copy(struct work *work, const struct neomm_mapping *old,
                           struct neomm_fault_result *result)
{
    struct neomm *root = work->root;
    neomm_frame_t copy = work->frame;
    struct neomm_mapping last;
    neomm__frame_set(neomm__frame(root, copy), NEOMM__FRAME_DIRTY);
    neomm_status status = map_own(work, old, &last);
    if (status != NEOMM_OK)
        return exchange_failed(work, status, result);
    work->frame = neomm_frame(0);
    neomm__user_frame_leave(root, work->space, neomm_paddr_frame(old->paddr), work->page,
                            last.dirty, NULL);
    neomm__user_frame_enter(root, work->space, copy);
    neomm__bump(&work->space->faults_copy);
    NEOMM__COUNT(root, FAULT_COPY);
    return finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_COPY);
}

/* A page that others have, too, is to be written to. The frame is held while it is copied: it could
 * be evicted, and become another page. As long as it is held nobody makes it writable, and if it
 * was made so before, the exchange of its leaf fails. */
static enum round round_copy(struct work *work, const struct neomm_mapping *old,
                             struct neomm_fault_result *result)
{
    if (neomm_frame_is_nil(work->frame) && fetch_frame(work, false) != NEOMM_OK)
        return make_room(work, result);
    if (!work->region)
        return AGAIN;
    const struct neomm__frame *held =
        neomm__user_frame_hold(work->root, work->space, work->page, old->paddr);
    if (!held)
        return AGAIN;
    neomm_frame_t frame = neomm_paddr_frame(old->paddr);
    neomm_status status = neomm__user_frame_copy(work->root, work->frame, frame);
    work->zeroed = false;
    drop_contents(work);
    enum round round = status == NEOMM_OK ? map_copy(work, old, result)
                                          : finish(result, NEOMM_FAULT_NOMEM, NEOMM_FAULT_NONE);
    neomm__user_frame_put(work->root, frame);
    return round;
}

/* A part of a huge page changes: it becomes small ones. */
static enum round round_part(struct work *work, struct neomm_fault_result *result)
{
    neomm_status status =
        neomm__leaves_part(work->root, work->space, work->page, work->page + NEOMM_PAGE_SIZE);
    return status == NEOMM_OK ? AGAIN : make_room(work, result);
}

/* Nothing is missing. While a huge leaf is split its pages are gone for the CPUs: who splits it has
 * the table locked, so a look at it with the lock waits for him. */
static enum round round_spurious(struct work *work, const struct neomm_mapping *old,
                                 struct neomm_fault_result *result)
{
    if (old->size > NEOMM_PAGE_SIZE)
        neomm__leaf_settle(work->root, work->space, work->page);
    return round_other(work, result);
}

static enum round round_present(struct work *work, const struct neomm_mapping *old,
                                struct neomm_fault_result *result)
{
    if (!work->write || (old->prot & NEOMM_PROT_WRITE))
        return round_spurious(work, old, result);
    if (old->size > NEOMM_PAGE_SIZE)
        return round_part(work, result);
    if (old->paddr == neomm_frame_paddr(work->root->vmm->zero))
        return round_needs_frame(work, old, result);
    if (!neomm__user_frame_is_exclusive(neomm__frame(work->root, neomm_paddr_frame(old->paddr))))
        return round_copy(work, old, result);
    struct neomm_mapping next = *old;
    next.prot = work->region_prot;
    neomm_status status =
        neomm_paging_exchange_exact(work->root, &work->space->tables, work->page, old, &next, NULL);
    return status == NEOMM_OK ? round_other(work, result) : AGAIN;
}

/* ---- huge pages ---- */

static void drop_block(struct work *work)
{
    if (!neomm_frame_is_nil(work->block))
        neomm__huge_free(work->root, work->block);
    work->block = neomm_frame(0);
}

/* Nobody waits for a block, nor for a table above it: small pages do as well. */
static enum round round_huge(struct work *work, struct neomm_fault_result *result)
{
    neomm_frame_t block = work->block;
    if (neomm_frame_is_nil(block)) {
        leave(work);
        work->small = neomm__huge_alloc(work->root, &work->block) != NEOMM_OK;
        return AGAIN;
    }
    work->block = neomm_frame(0);
    work->small = true;
    if (neomm__huge_map(work->root, work->space, work->page, block, work->region_prot) != NEOMM_OK)
        return AGAIN;
    NEOMM__COUNT(work->root, FAULT_HUGE);
    (void)round_zero(work, result);
    return finish(result, NEOMM_FAULT_RESOLVED, NEOMM_FAULT_HUGE);
}

/* ---- pages of an object ---- */

/* What a look at the object came to, if it did not end the fault. */
enum wanted {
    WANT_NOTHING,
    WANT_LOOK,
    WANT_FRAME,
    WANT_ZEROS,
    WANT_CONTENTS,
    WANT_MEMORY,
    WANT_PAGER
};

struct object_fault {
    struct work *work;
    struct neomm_object *object;
    uint64_t page;
    struct neomm_swap_entry entry; /* of the contents wanted */
    struct neomm_fault_result *result;
    const struct neomm__region *region;
    bool shared;
    neomm_prot_t prot;             /* of the leaf */
    struct neomm__cache_look look; /* with a pager */
};

/* The page is there. Its leaf is stored with the object locked, so that who takes the page away
 * sees either no entry in its set or a leaf. */
static enum wanted map_object_page(struct object_fault *f, neomm_frame_t frame)
{
    struct work *work = f->work;
    struct neomm *root = work->root;
    struct neomm_space *space = work->space;
    struct neomm_mapping leaf;
    if (neomm_paging_query(root, &space->tables, work->page, &leaf) != NEOMM_OK)
        return WANT_LOOK;
    if (leaf.state != NEOMM_MAPPING_NONE && !f->shared) /* the space's own, by now */
        return WANT_LOOK;
    if (leaf.state == NEOMM_MAPPING_PRESENT) {
        neomm_status status = map_page(work, &leaf, frame, f->prot, NULL);
        if (status != NEOMM_OK)
            return WANT_LOOK;
        (void)round_other(work, f->result);
        return WANT_NOTHING;
    }
    const struct neomm__frame *entry = neomm__frame(root, frame);
    uint32_t count = neomm__rmap_count(entry);
    neomm_status status = neomm__user_frame_add(root, space, frame, work->page);
    if (status == NEOMM_E_EXISTS) { /* it was evicted from here a moment ago */
        neomm__rmap_wait(entry, count);
        return WANT_LOOK;
    }
    if (status != NEOMM_OK)
        return WANT_MEMORY;
    status = map_page(work, &leaf, frame, f->prot, NULL);
    if (status != NEOMM_OK) {
        neomm__user_frame_leave(root, space, frame, work->page, false, NULL);
        return status == NEOMM_E_AGAIN ? WANT_LOOK : WANT_MEMORY;
    }
    (void)round_other(work, f->result);
    f->result->kind = NEOMM_FAULT_FOUND;
    return WANT_NOTHING;
}

/* The page becomes the frame that was fetched, with zeros or what was in swap. */
static enum wanted enter_page(struct object_fault *f, struct neomm_swap_entry slot)
{
    struct work *work = f->work;
    neomm_frame_t frame = work->frame;
    neomm_status status = neomm__object_enter(work->root, f->object, f->page, frame, slot);
    if (status != NEOMM_OK)
        return WANT_MEMORY;
    work->frame = neomm_frame(0);
    drop_contents(work);
    return map_object_page(f, frame);
}

static enum wanted enter_zeros(struct object_fault *f)
{
    const struct neomm_swap_entry none = {0, 0, NEOMM_SWAP_NONE};
    if (neomm_frame_is_nil(f->work->frame) || !f->work->zeroed)
        return WANT_ZEROS;
    enum wanted wanted = enter_page(f, none);
    if (wanted == WANT_NOTHING && f->result->kind == NEOMM_FAULT_FOUND)
        (void)round_zero(f->work, f->result);
    return wanted;
}

/* The page's count of the slot goes over to the frame. */
static enum wanted enter_contents(struct object_fault *f, struct neomm_swap_entry entry)
{
    struct work *work = f->work;
    if (neomm_frame_is_nil(work->frame))
        return WANT_FRAME;
    if (same_entry(&work->read, &entry)) {
        enum wanted wanted = enter_page(f, entry);
        if (wanted == WANT_NOTHING) {
            neomm__bump(&work->space->faults_swap_in);
            NEOMM__COUNT(work->root, FAULT_SWAP_IN);
            neomm__balance_cost(work->root, NEOMM__COST_ANONYMOUS);
            f->result->kind = NEOMM_FAULT_SWAP_IN;
        }
        return wanted;
    }
    drop_contents(work);
    f->entry = entry;
    return neomm_swap_dup(work->root, entry) == NEOMM_OK ? WANT_CONTENTS : WANT_LOOK;
}

/* A leaf becomes writable together with the page being marked dirty. */
static enum wanted look_at_cache(struct object_fault *f)
{
    struct work *work = f->work;
    f->look = (struct neomm__cache_look){.page = f->page, .write = f->shared && work->write};
    if (neomm__cache_look(work->root, f->object, &f->look) != NEOMM__CACHE_FOUND)
        return WANT_PAGER;
    if (!f->look.write)
        f->prot &= ~NEOMM_PROT_WRITE;
    enum wanted wanted = map_object_page(f, f->look.frame);
    if (wanted != WANT_NOTHING)
        return wanted;
    if (work->waited)
        f->result->kind = NEOMM_FAULT_READ;
    if (!work->write && !(f->region->flags & NEOMM__REGION_RANDOM))
        neomm__cache_map_around(work->root, work->space, f->region, f->object, f->page);
    return WANT_NOTHING;
}

static enum wanted look_at_object(struct object_fault *f)
{
    uint64_t word = neomm__page_get(&f->object->pages, f->page);
    if (f->page >= f->object->size) {
        (void)finish(f->result, NEOMM_FAULT_BUS, NEOMM_FAULT_NONE);
        return WANT_NOTHING;
    }
    if (f->object->pager)
        return look_at_cache(f);
    if (word == 0)
        return enter_zeros(f);
    return neomm__page_is_frame(word) ? map_object_page(f, neomm__page_frame(word))
                                      : enter_contents(f, neomm__page_swap(word));
}

/* Reads what the page's slot, of which there is a count, holds. */
static enum round read_contents(struct object_fault *f)
{
    struct work *work = f->work;
    struct neomm_swap_page page = {f->entry, work->frame, NEOMM_OK};
    work->read = f->entry;
    work->zeroed = false;
    leave(work);
    neomm_status status = read_page(work, &page);
    if (status == NEOMM_OK)
        return AGAIN;
    drop_contents(work);
    return status == NEOMM_E_NOENT ? AGAIN : finish(f->result, NEOMM_FAULT_BUS, NEOMM_FAULT_NONE);
}

/* Outside of the region the object is held. */
static enum round use_pager(struct object_fault *f, enum wanted wanted)
{
    struct work *work = f->work;
    uint32_t flags = f->region->flags;
    neomm__cache_hold(f->object);
    leave(work);
    neomm_status status = neomm__cache_serve(work->root, f->object, &f->look, flags);
    neomm__cache_release(f->object);
    if (wanted == WANT_NOTHING)
        return DONE;
    work->waited = true;
    if (status == NEOMM_OK)
        return AGAIN;
    return status == NEOMM_E_NOMEM ? make_room(work, f->result)
                                   : finish(f->result, NEOMM_FAULT_BUS, NEOMM_FAULT_NONE);
}

static enum round fetch_wanted(struct object_fault *f, enum wanted wanted)
{
    struct work *work = f->work;
    switch (wanted) {
    case WANT_NOTHING:
        return f->look.ahead || f->look.late ? use_pager(f, wanted) : DONE;
    case WANT_PAGER:
        return use_pager(f, wanted);
    case WANT_ZEROS:
        drop_frame(work);
        return fetch_frame(work, true) == NEOMM_OK ? AGAIN : make_room(work, f->result);
    case WANT_FRAME:
        return fetch_frame(work, false) == NEOMM_OK ? AGAIN : make_room(work, f->result);
    case WANT_CONTENTS:
        return read_contents(f);
    case WANT_MEMORY:
        return make_room(work, f->result);
    default:
        return AGAIN;
    }
}

static enum round round_object(struct work *work, const struct neomm__region *region,
                               struct neomm_fault_result *result)
{
    struct object_fault fault = {.work = work,
                                 .result = result,
                                 .region = region,
                                 .shared = region->flags & NEOMM__REGION_SHARED,
                                 .prot = work->region_prot};
    struct neomm_mapping leaf;
    if (!fault.shared)
        fault.prot &= ~NEOMM_PROT_WRITE;
    if (neomm_paging_query(work->root, &work->space->tables, work->page, &leaf) == NEOMM_OK &&
        leaf.state == NEOMM_MAPPING_PRESENT && (!work->write || (leaf.prot & NEOMM_PROT_WRITE)))
        return round_other(work, result);
    if (must_give(work))
        return give_a_page(work, result);
    fault.object = work->root->vmm->object[region->object];
    fault.page = region->offset + ((work->page - region->start) >> NEOMM_PAGE_SHIFT);
    neomm__mutex_lock(&fault.object->lock);
    enum wanted wanted = look_at_object(&fault);
    neomm__mutex_unlock(&fault.object->lock);
    return fetch_wanted(&fault, wanted);
}

/* A private mapping of an object: what it has written to is its own; the object's page is only
 * read, and copied before a write. */
static enum round round_private(struct work *work, const struct neomm__region *region,
                                struct neomm_fault_result *result)
{
    struct neomm_mapping old;
    if (neomm_paging_query(work->root, &work->space->tables, work->page, &old) != NEOMM_OK)
        return finish(result, NEOMM_FAULT_SEGV, NEOMM_FAULT_NONE);
    if (old.state == NEOMM_MAPPING_PRESENT)
        return round_present(work, &old, result);
    if (old.state == NEOMM_MAPPING_SWAPPED)
        return round_needs_frame(work, &old, result);
    enum round round = round_object(work, region, result);
    if (round == AGAIN || !work->write || result->outcome != NEOMM_FAULT_RESOLVED)
        return round;
    *result = (struct neomm_fault_result){NEOMM_FAULT_RETRY, NEOMM_FAULT_NONE};
    return AGAIN;
}

/* Nothing is mapped there, unless a stack can be made to reach so far. */
static enum round round_unmapped(struct work *work, struct neomm_fault_result *result)
{
    neomm__mutex_lock(&work->space->lock);
    bool again = neomm__region_find(&work->space->map, work->page) ||
                 neomm__stack_grow(work->root, work->space, work->page);
    neomm__mutex_unlock(&work->space->lock);
    return again ? AGAIN : finish(result, NEOMM_FAULT_SEGV, NEOMM_FAULT_NONE);
}

static enum round round_inside(struct work *work, uint32_t error, struct neomm_fault_result *result)
{
    const struct neomm__region *region = work->region;
    struct neomm_mapping old;
    if (!permits(region->prot, error))
        return finish(result, NEOMM_FAULT_ACCESS, NEOMM_FAULT_NONE);
    if (neomm__is_victim(work->space))
        return finish(result, NEOMM_FAULT_NOMEM, NEOMM_FAULT_NONE);
    work->region_prot = region->prot;
    if (region->object != 0)
        return region->flags & NEOMM__REGION_SHARED ? round_object(work, region, result)
                                                    : round_private(work, region, result);
    if (neomm_paging_query(work->root, &work->space->tables, work->page, &old) != NEOMM_OK)
        return finish(result, NEOMM_FAULT_SEGV, NEOMM_FAULT_NONE);
    if (region->flags & NEOMM__REGION_PHYSICAL)
        return old.state == NEOMM_MAPPING_PRESENT
                   ? round_other(work, result)
                   : finish(result, NEOMM_FAULT_BUS, NEOMM_FAULT_NONE);
    if (old.state == NEOMM_MAPPING_PRESENT)
        return round_present(work, &old, result);
    if (old.state == NEOMM_MAPPING_NONE && !work->small &&
        neomm__huge_fits(work->root, work->space, region, work->page, &old, work->write))
        return round_huge(work, result);
    if (old.state == NEOMM_MAPPING_NONE && !work->write &&
        !neomm_frame_is_nil(work->root->vmm->zero))
        return round_zero_page(work, &old, result);
    return round_needs_frame(work, &old, result);
}

static enum round one_round(struct work *work, uint32_t error, struct neomm_fault_result *result)
{
    work->region = neomm__region_enter(work->root, work->space, work->page);
    if (!work->region)
        return round_unmapped(work, result);
    enum round round = round_inside(work, error, result);
    leave(work);
    return round;
}

static void all_rounds(struct work *work, uint32_t error, struct neomm_fault_result *result)
{
    enum round round = AGAIN;
    *result = (struct neomm_fault_result){NEOMM_FAULT_RETRY, NEOMM_FAULT_NONE};
    for (unsigned i = 0; i < ROUNDS && round == AGAIN; i++)
        round = one_round(work, error, result);
    drop_frame(work);
    drop_block(work);
    work->shortages = 0;
}

/* Did others just free memory, or is it worth to look for a victim? */
static bool may_retry(struct work *work, uint32_t error, const struct neomm_fault_result *result)
{
    if (result->outcome != NEOMM_FAULT_NOMEM || (error & NEOMM__PF_STATUS) ||
        at_resident_limit(work->space) || neomm__is_victim(work->space))
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
    struct work work = {
        .root = root,
        .space = space,
        .page = NEOMM__ALIGN_DOWN(address, NEOMM_PAGE_SIZE),
        .write = error & (NEOMM_PF_WRITE | NEOMM__PF_UNSHARE),
    };
    *result = (struct neomm_fault_result){NEOMM_FAULT_SEGV, NEOMM_FAULT_NONE};
    if (neomm__is_user_range(root, work.page, NEOMM_PAGE_SIZE))
        do
            all_rounds(&work, error, result);
        while (may_retry(&work, error, result));
    if (result->outcome != NEOMM_FAULT_RESOLVED && result->outcome != NEOMM_FAULT_RETRY)
        NEOMM__COUNT(root, FAULT_FAILED);
    return result->outcome;
}
