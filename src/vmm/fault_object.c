/* Faults of objects.
 * SPDX-License-Identifier: MIT
 *
 * A round looks at the object with it locked, and maps the page or says what is missing; that is
 * fetched after, outside of the region.
 */
#include "vmm/fault.h"

#include "vmm/cache.h"

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
    struct neomm__fault *work;
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
    struct neomm__fault *work = f->work;
    struct neomm *root = work->root;
    struct neomm_space *space = work->space;
    struct neomm_mapping leaf;
    if (neomm_paging_query(root, &space->tables, work->page, &leaf) != NEOMM_OK)
        return WANT_LOOK;
    if (leaf.state != NEOMM_MAPPING_NONE && !f->shared) /* the space's own, by now */
        return WANT_LOOK;
    if (leaf.state == NEOMM_MAPPING_PRESENT) {
        neomm_status status = neomm__fault_map(work, &leaf, frame, f->prot, NULL);
        if (status != NEOMM_OK)
            return WANT_LOOK;
        (void)neomm__fault_other(work, f->result);
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
    status = neomm__fault_map(work, &leaf, frame, f->prot, NULL);
    if (status != NEOMM_OK) {
        neomm__user_frame_leave(root, space, frame, work->page, false, NULL);
        return status == NEOMM_E_AGAIN ? WANT_LOOK : WANT_MEMORY;
    }
    (void)neomm__fault_other(work, f->result);
    f->result->kind = NEOMM_FAULT_FOUND;
    return WANT_NOTHING;
}

/* The page becomes the frame that was fetched, with zeros or what was in swap. */
static enum wanted enter_page(struct object_fault *f, struct neomm_swap_entry slot)
{
    struct neomm__fault *work = f->work;
    neomm_frame_t frame = work->frame;
    neomm_status status = neomm__object_enter(work->root, f->object, f->page, frame, slot);
    if (status != NEOMM_OK)
        return WANT_MEMORY;
    work->frame = neomm_frame(0);
    neomm__fault_drop_contents(work);
    return map_object_page(f, frame);
}

static enum wanted enter_zeros(struct object_fault *f)
{
    const struct neomm_swap_entry none = {0, 0, NEOMM_SWAP_NONE};
    if (neomm_frame_is_nil(f->work->frame) || !f->work->zeroed)
        return WANT_ZEROS;
    enum wanted wanted = enter_page(f, none);
    if (wanted == WANT_NOTHING && f->result->kind == NEOMM_FAULT_FOUND)
        (void)neomm__fault_zero(f->work, f->result);
    return wanted;
}

/* The page's count of the slot goes over to the frame. */
static enum wanted enter_contents(struct object_fault *f, struct neomm_swap_entry entry)
{
    struct neomm__fault *work = f->work;
    if (neomm_frame_is_nil(work->frame))
        return WANT_FRAME;
    if (neomm__fault_same_entry(&work->read, &entry)) {
        enum wanted wanted = enter_page(f, entry);
        if (wanted == WANT_NOTHING) {
            neomm__fault_swapped_in(work);
            f->result->kind = NEOMM_FAULT_SWAP_IN;
        }
        return wanted;
    }
    neomm__fault_drop_contents(work);
    f->entry = entry;
    return neomm_swap_dup(work->root, entry) == NEOMM_OK ? WANT_CONTENTS : WANT_LOOK;
}

/* A leaf becomes writable together with the page being marked dirty. */
static enum wanted look_at_cache(struct object_fault *f)
{
    struct neomm__fault *work = f->work;
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
        (void)neomm__fault_fail(f->result, NEOMM_FAULT_BUS, NEOMM_REASON_END);
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
static enum neomm__round read_contents(struct object_fault *f)
{
    struct neomm__fault *work = f->work;
    struct neomm_swap_page page = {f->entry, work->frame, NEOMM_OK};
    work->read = f->entry;
    work->zeroed = false;
    neomm__fault_leave(work);
    neomm_status status = neomm__fault_read(work, &page, 1);
    if (status != NEOMM_OK)
        neomm__fault_drop_contents(work);
    return neomm__fault_was_read(work, status, f->result);
}

/* Outside of the region the object is held. */
static enum neomm__round use_pager(struct object_fault *f, enum wanted wanted)
{
    struct neomm__fault *work = f->work;
    uint32_t flags = f->region->flags;
    neomm__cache_hold(f->object);
    neomm__fault_leave(work);
    neomm_status status = neomm__cache_serve(work->root, f->object, &f->look, flags);
    neomm__cache_release(f->object);
    if (wanted == WANT_NOTHING)
        return NEOMM__FAULT_DONE;
    work->waited = true;
    return neomm__fault_was_read(work, status, f->result);
}

static enum neomm__round fetch_wanted(struct object_fault *f, enum wanted wanted)
{
    struct neomm__fault *work = f->work;
    switch (wanted) {
    case WANT_NOTHING:
        return f->look.ahead || f->look.late ? use_pager(f, wanted) : NEOMM__FAULT_DONE;
    case WANT_PAGER:
        return use_pager(f, wanted);
    case WANT_ZEROS:
        neomm__fault_drop_frame(work);
        return neomm__fault_fetch_frame(work, true) == NEOMM_OK
                   ? NEOMM__FAULT_AGAIN
                   : neomm__fault_make_room(work, f->result);
    case WANT_FRAME:
        return neomm__fault_fetch_frame(work, false) == NEOMM_OK
                   ? NEOMM__FAULT_AGAIN
                   : neomm__fault_make_room(work, f->result);
    case WANT_CONTENTS:
        return read_contents(f);
    case WANT_MEMORY:
        return neomm__fault_make_room(work, f->result);
    default:
        return NEOMM__FAULT_AGAIN;
    }
}

enum neomm__round neomm__fault_object(struct neomm__fault *work, const struct neomm__region *region,
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
        return neomm__fault_other(work, result);
    if (neomm__fault_must_give(work))
        return neomm__fault_give(work, result);
    fault.object = work->root->vmm->object[region->object];
    fault.page = region->offset + ((work->page - region->start) >> NEOMM_PAGE_SHIFT);
    neomm__mutex_lock(&fault.object->lock);
    enum wanted wanted = look_at_object(&fault);
    neomm__mutex_unlock(&fault.object->lock);
    return fetch_wanted(&fault, wanted);
}
