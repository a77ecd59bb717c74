/* Bringing back what is in an area of swap that is being removed.
 * SPDX-License-Identifier: MIT
 *
 * Passes over all spaces and objects, until none of the area's slots is in use:
 *
 *   leaf or page of an object in swap -> read, a batch at a time -> mapped as a fault does
 *   frame that keeps its slot         -> goes on without it
 *
 * Nobody is kept from anything meanwhile: what moved away under a pass the next one finds, and no
 * slot of the area gets contents any more. Slots whose counts were lost are free once two passes in
 * a row saw everything, and nobody had one nor gave one to somebody who had been looked at before.
 */
#include "swap/remove.h"

#include "vmm/evict.h"
#include "vmm/fault.h"
#include "vmm/object.h"

/* Passes that came to nothing, since others hold slots for a moment; and how long each waits. */
#define FRUITLESS 200u
#define MOMENT    5000000u /* ns */

/* A page that is to come back: where, and what is held for it. */
struct place {
    uint64_t at; /* address in the space, or page of the object */
    struct neomm_swap_entry entry;
};

struct swapoff {
    struct neomm *root;
    struct neomm__evacuation *evacuation;
    struct neomm_space *space;   /* that is looked at; NULL: */
    struct neomm_object *object; /* this is */
    neomm_status status;         /* what ends it all */
    uint32_t found;              /* places with slots of the area, in this pass */
    uint32_t busy;               /* of them, frames that were being evicted */
    bool skipped;                /* something could not be looked at */

    uint32_t count; /* of the batch */
    bool more;      /* it was not enough: `next` is where it goes on */
    uint64_t next;
    struct place place[NEOMM_POLICY_BATCH];
    struct neomm_swap_page page[NEOMM_POLICY_BATCH];
};

static bool has(const struct swapoff *s, uint32_t slot)
{
    return neomm__evacuation_has(s->evacuation, slot);
}

/* The slot's user is locked, so that there is a count of it. */
static void note_place(struct swapoff *s, uint64_t at, struct neomm_swap_entry entry)
{
    if (s->more || !has(s, entry.slot))
        return;
    s->more = s->count == NEOMM_POLICY_BATCH;
    if (s->more) {
        s->next = at;
    } else if (neomm_swap_dup(s->root, entry) == NEOMM_OK) {
        s->place[s->count++] = (struct place){at, entry};
        s->found++;
    }
}

/* The frame is somebody's for now. While it is being evicted it keeps its slot. */
static void strip(struct swapoff *s, neomm_frame_t frame)
{
    const struct neomm__frame *entry = neomm__frame(s->root, frame);
    if (!neomm__frame_has(entry, NEOMM__FRAME_SLOT) || !has(s, entry->owner))
        return;
    s->found++;
    s->busy += !neomm__evict_take_slot(s->root, frame, false);
}

/* ---- the batch ---- */

static bool is_stopped(struct swapoff *s)
{
    const struct neomm__evacuation *e = s->evacuation;
    if (s->status == NEOMM_OK && e->stop && e->stop(e->context))
        s->status = NEOMM_E_AGAIN;
    return s->status != NEOMM_OK;
}

/* A frame for each page, as many as there are: at least one, or it ends. */
static uint32_t take_frames(struct swapoff *s)
{
    uint32_t frames = 0;
    for (; frames < s->count; frames++) {
        struct neomm_swap_page *page = &s->page[frames];
        if (NEOMM__FAULT(VMM_FRAME) ||
            neomm_pmm_alloc(s->root, 0, NEOMM_HIGH | NEOMM_MOVABLE, &page->frame) != NEOMM_OK)
            break;
        page->entry = s->place[frames].entry;
    }
    if (frames == 0)
        s->status = NEOMM_E_NOMEM;
    return frames;
}

static void map_in_space(struct swapoff *s, uint32_t i)
{
    struct neomm_fault_result result;
    enum neomm_fault_outcome outcome =
        neomm__fault_bring(s->root, s->space, (neomm_vaddr_t)s->place[i].at, s->page[i].frame,
                           s->place[i].entry, &result);
    if (outcome == NEOMM_FAULT_NOMEM)
        s->status = NEOMM_E_NOMEM;
}

/* The page's own count of the slot goes with the slot. */
static void map_in_object(struct swapoff *s, uint32_t i)
{
    const struct neomm_swap_entry none = {0, 0, NEOMM_SWAP_NONE}, entry = s->place[i].entry;
    struct neomm_object *object = s->object;
    neomm__mutex_lock(&object->lock);
    bool same = neomm__page_get(&object->pages, s->place[i].at) == neomm__page_of_swap(entry);
    if (same) {
        neomm_status status =
            neomm__object_enter(s->root, object, s->place[i].at, s->page[i].frame, none);
        NEOMM__ASSERT(status == NEOMM_OK); /* (the page has its word in the tree already) */
        (void)neomm_swap_free(s->root, entry);
    }
    neomm__mutex_unlock(&object->lock);
    if (!same)
        neomm__user_frame_put(s->root, s->page[i].frame);
    (void)neomm_swap_free(s->root, entry);
}

/* What a read came to. A page that nobody has any more need not be read. */
static void bring(struct swapoff *s, uint32_t i)
{
    neomm_status status = s->page[i].status;
    if (status == NEOMM_OK && s->space) {
        map_in_space(s, i);
    } else if (status == NEOMM_OK) {
        map_in_object(s, i);
    } else {
        bool lost = status == NEOMM_E_IO || status == NEOMM_E_CORRUPT;
        s->evacuation->lost += lost && neomm_swap_users(s->root, s->place[i].entry) > 1;
        if (status == NEOMM_E_NOMEM)
            s->status = NEOMM_E_NOMEM;
        neomm__user_frame_put(s->root, s->page[i].frame);
        (void)neomm_swap_free(s->root, s->place[i].entry);
    }
}

/* Pages that several have: through the swap cache, so that they go on sharing them. */
static void bring_shared(struct swapoff *s)
{
    const struct neomm_swap_entry none = {0, 0, NEOMM_SWAP_NONE};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct place place = s->place[i];
        struct neomm_fault_result result;
        if (neomm_swap_users(s->root, place.entry) <= 2 || is_stopped(s)) {
            s->place[kept++] = place;
            continue;
        }
        (void)neomm_swap_free(s->root, place.entry);
        enum neomm_fault_outcome outcome = neomm__fault_bring(
            s->root, s->space, (neomm_vaddr_t)place.at, neomm_frame(0), none, &result);
        s->evacuation->lost += outcome == NEOMM_FAULT_BUS;
        if (outcome == NEOMM_FAULT_NOMEM)
            s->status = NEOMM_E_NOMEM;
    }
    s->count = kept;
}

static void bring_batch(struct swapoff *s)
{
    if (s->space)
        bring_shared(s);
    uint32_t frames = s->count != 0 && !is_stopped(s) ? take_frames(s) : 0;
    if (frames != 0) {
        neomm__stall_begin(s->root);
        (void)neomm_swap_read(s->root, s->page, frames);
        neomm__stall_end(s->root);
    }
    for (uint32_t i = 0; i < frames; i++)
        bring(s, i);
    for (uint32_t i = frames; i < s->count; i++)
        (void)neomm_swap_free(s->root, s->place[i].entry);
    if (frames < s->count) {
        s->more = true;
        s->next = s->place[frames].at;
    }
    s->count = 0;
}

/* ---- one space ---- */

/* A table is locked: what a leaf leads to stays. */
static void look_at_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct swapoff *s = context;
    if (leaf->state == NEOMM_MAPPING_SWAPPED) {
        note_place(s, vaddr, leaf->swap);
    } else {
        neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
        if (neomm__frame_is_user(neomm__frame(s->root, frame)))
            strip(s, frame);
    }
}

/* With the space locked no leaf moves to where the walk has been. A child that fork is just filling
 * is nobody else's. */
static void collect_leaves(struct swapoff *s, neomm_vaddr_t from, size_t size)
{
    struct neomm_space *space = s->space;
    s->more = false;
    neomm__mutex_lock(&space->lock);
    if (neomm__load_acquire(&space->filling) == 0)
        (void)neomm__walk(s->root, space, from, size, look_at_leaf, s);
    neomm__mutex_unlock(&space->lock);
    if (neomm__load_acquire(&space->filling) == 0)
        return;
    s->skipped = true;
    s->more = false;
    while (s->count > 0)
        (void)neomm_swap_free(s->root, s->place[--s->count].entry);
}

static void pass_over_space(struct swapoff *s)
{
    const struct neomm_layout *layout = &s->root->layout;
    neomm_vaddr_t at = layout->user_base;
    const neomm_vaddr_t most = (neomm_vaddr_t)NEOMM_POLICY_BATCH << NEOMM_PAGE_SHIFT;
    size_t window = layout->user_limit - at;
    while (at < layout->user_limit && !is_stopped(s)) {
        size_t left = layout->user_limit - at;
        size_t size = window < left ? window : left;
        collect_leaves(s, at, size);
        bring_batch(s);
        /* Where there is much, it is looked for near by. */
        window = s->more ? most : window < layout->user_limit / 2 ? window * 2 : window;
        at = s->more ? (neomm_vaddr_t)s->next : at + size;
    }
}

/* The next space from *index on that is not just ending, held; NULL: there are no more. */
static struct neomm_space *hold_space(struct swapoff *s, uint32_t *index)
{
    struct neomm__vmm *vmm = s->root->vmm;
    struct neomm_space *space = NULL;
    neomm__mutex_lock(&vmm->spaces_lock);
    while (!space && ++*index < NEOMM__SPACE_MAX) {
        space = vmm->space[*index];
        if (space && space->dying) {
            s->skipped = true;
            space = NULL;
        }
    }
    if (space)
        (void)neomm__fetch_add(&space->busy, 1);
    neomm__mutex_unlock(&vmm->spaces_lock);
    return space;
}

/* ---- one object ---- */

static void collect_pages(struct swapoff *s, uint64_t from)
{
    struct neomm_object *object = s->object;
    uint64_t page = from, word;
    s->more = false;
    neomm__mutex_lock(&object->lock);
    for (; !s->more && (word = neomm__page_next(&object->pages, &page)) != 0; page++) {
        if (neomm__page_is_frame(word))
            strip(s, neomm__page_frame(word));
        else
            note_place(s, page, neomm__page_swap(word));
    }
    neomm__mutex_unlock(&object->lock);
}

static void pass_over_object(struct swapoff *s)
{
    uint64_t at = 0;
    do {
        collect_pages(s, at);
        bring_batch(s);
        at = s->next;
    } while (s->more && !is_stopped(s));
}

/* The same as for spaces. Pages of one with a pager are never in swap. */
static struct neomm_object *hold_object(struct swapoff *s, uint32_t *index)
{
    struct neomm__vmm *vmm = s->root->vmm;
    struct neomm_object *object = NULL;
    neomm__mutex_lock(&vmm->spaces_lock);
    while (!object && ++*index < NEOMM__OBJECT_MAX) {
        object = vmm->object[*index];
        if (object && (object->ending || object->pager)) {
            s->skipped |= !object->pager;
            object = NULL;
        }
    }
    if (object)
        (void)neomm__fetch_add(&object->busy, 1);
    neomm__mutex_unlock(&vmm->spaces_lock);
    return object;
}

/* ---- all of them ---- */

static void pass(struct swapoff *s)
{
    uint32_t space = 0, object = 0;
    s->found = s->busy = 0;
    s->skipped = false;
    s->evacuation->lost = 0;
    while (s->status == NEOMM_OK && (s->space = hold_space(s, &space)) != NULL) {
        pass_over_space(s);
        neomm__space_drop(s->space);
    }
    s->space = NULL;
    while (s->status == NEOMM_OK && (s->object = hold_object(s, &object)) != NULL) {
        pass_over_object(s);
        neomm__object_drop(s->object);
    }
}

/* A pass; where all that it found was being evicted it waits for that. */
static void pass_and_wait(struct swapoff *s)
{
    struct neomm__vmm *vmm = s->root->vmm;
    uint32_t ended = neomm__evictions_wait_begin(vmm);
    pass(s);
    bool wait = s->busy != 0 && s->found == s->busy + s->evacuation->lost;
    neomm__evictions_wait_end(vmm, ended, wait ? MOMENT : 0);
}

/* Did the pass see everything, and nothing but pages that cannot be read? */
static bool is_lost(const struct swapoff *s)
{
    return !s->skipped && s->evacuation->lost != 0 && s->found == s->evacuation->lost;
}

neomm_status neomm__evacuate(struct neomm *root, struct neomm__evacuation *evacuation)
{
    struct swapoff s = {.root = root, .evacuation = evacuation, .status = NEOMM_OK};
    uint32_t stuck, used, fruitless = 0, quiet = 0;
    while ((used = neomm__evacuation_left(evacuation, &stuck)) != 0 && !is_stopped(&s)) {
        uint32_t stirred = neomm__swap_stirred(root);
        pass_and_wait(&s);
        if (s.status == NEOMM_OK && is_lost(&s))
            s.status = NEOMM_E_IO;
        if (s.status != NEOMM_OK || s.found != 0) {
            fruitless = quiet = 0;
            continue;
        }
        bool calm = !s.skipped && stirred == neomm__swap_stirred(root);
        quiet = calm && used == stuck ? quiet + 1 : 0;
        if (quiet == 2)
            neomm__evacuation_free_stuck(root, evacuation);
        else if (quiet == 0 && ++fruitless == FRUITLESS)
            s.status = NEOMM_E_BUSY;
        else if (quiet == 0)
            neomm__swap_wait_stirred(root, stirred, MOMENT);
    }
    return s.status;
}
