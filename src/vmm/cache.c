/* The page cache: what state a page is in, and how it changes.
 * SPDX-License-Identifier: MIT
 *
 *   0, SHADOW --read--> READING --collect--> clean --write fault, write--> dirty
 *                          |                  |  ^                          |
 *                          +--error--> 0      |  +-----collect-- WRITING <--+
 *                             SHADOW <-evict--+                     |       ^
 *                                                                   +-error-+
 *
 * All functions here: the object is locked.
 */
#include "vmm/cache.h"

#include "vmm/balance.h"

/* Shadows of the object that are looked at for each one that would be too many. */
#define SHADOW_SWEEP 4u

/* ---- dirty ---- */

void neomm__cache_set_dirty(struct neomm *root, struct neomm_object *object,
                            struct neomm__frame *entry)
{
    if (neomm__frame_has(entry, NEOMM__FRAME_DIRTY))
        return;
    neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    object->dirty++;
    neomm__bump(&root->vmm->counts.dirty);
}

void neomm__cache_set_clean(struct neomm *root, struct neomm_object *object,
                            struct neomm__frame *entry)
{
    if (!neomm__frame_has(entry, NEOMM__FRAME_DIRTY))
        return;
    neomm__frame_clear(entry, NEOMM__FRAME_DIRTY);
    object->dirty--;
    (void)neomm__fetch_sub(&root->vmm->counts.dirty, 1);
}

/* ---- shadows ---- */

static bool is_shadow(uint64_t word)
{
    return (word & 3) == NEOMM__PAGE_SHADOW;
}

static void drop_shadow(struct neomm *root, struct neomm_object *object, uint64_t page)
{
    neomm__page_clear(root, &object->pages, page);
    (void)neomm__fetch_sub(&root->vmm->counts.shadows, 1);
}

/* The object's own oldest ones are where its hand is, if it was read in order. */
static bool sweep_shadows(struct neomm *root, struct neomm_object *object)
{
    bool dropped = false;
    for (unsigned i = 0; i < SHADOW_SWEEP; i++, object->hand++) {
        uint64_t word = neomm__page_next(&object->pages, &object->hand);
        if (word == 0) {
            object->hand = 0;
            break;
        }
        if (is_shadow(word)) {
            drop_shadow(root, object, object->hand);
            dropped = true;
        }
    }
    return dropped;
}

void neomm__cache_leave_shadow(struct neomm *root, struct neomm_object *object, uint64_t page)
{
    struct neomm__vmm *vmm = root->vmm;
    uint64_t clock = neomm__fetch_add(&vmm->counts.clock, 1);
    neomm__bump(&vmm->counts.dropped);
    if (neomm__load_acquire(&vmm->counts.shadows) >= vmm->ram_pages &&
        !sweep_shadows(root, object)) {
        neomm__page_clear(root, &object->pages, page);
        return;
    }
    neomm_status status =
        neomm__page_set(root, &object->pages, page, clock << 8 | NEOMM__PAGE_SHADOW);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__bump(&vmm->counts.shadows);
}

bool neomm__cache_note_return(struct neomm *root, uint64_t word)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!is_shadow(word))
        return false;
    uint32_t distance = neomm__load_acquire(&vmm->counts.clock) - (uint32_t)(word >> 8);
    (void)neomm__fetch_sub(&vmm->counts.shadows, 1);
    if (!neomm__balance_is_near(root, distance))
        return false;
    neomm__bump(&vmm->counts.refaults);
    neomm__balance_cost(root, NEOMM__COST_CACHE);
    return true;
}

/* ---- what ended ---- */

neomm_status neomm__cache_zero_tail(struct neomm *root, neomm_frame_t frame, uint32_t bytes)
{
    neomm_status status = NEOMM_OK;
    if (bytes == NEOMM_PAGE_SIZE)
        return NEOMM_OK;
    neomm_irq_t irq = neomm_port_irq_save();
    uint8_t *contents = neomm_frame_map(root, frame);
    if (contents) {
        memset(contents + bytes, 0, NEOMM_PAGE_SIZE - bytes);
        neomm_frame_unmap(root, contents);
    } else {
        status = NEOMM_E_NOMEM;
    }
    neomm_port_irq_restore(irq);
    return status;
}

static void set_word(struct neomm *root, struct neomm_object *object, uint64_t page, uint64_t word)
{
    neomm_status status = neomm__page_set(root, &object->pages, page, word);
    NEOMM__ASSERT(status == NEOMM_OK);
}

void neomm__cache_enter(struct neomm *root, struct neomm_object *object, uint64_t page,
                        neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    uint64_t mark = neomm__page_get(&object->pages, page) & NEOMM__PAGE_AHEAD;
    set_word(root, object, page, neomm__page_of_frame(frame) | mark);
    entry->kind = NEOMM__KIND_CACHE;
    neomm_status status = neomm__rmap_add(root, entry, neomm__object_mapping(object, page));
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__user_frame_admit(root, &root->vmm->cache, frame);
}

static void finish_read(struct neomm *root, struct neomm_object *object,
                        struct neomm_pager_request *request)
{
    if (request->status == NEOMM_OK)
        request->status = neomm__cache_zero_tail(root, request->frame, request->bytes);
    if (request->status == NEOMM_OK) {
        neomm__bump(&root->vmm->counts.reads);
        neomm__cache_enter(root, object, request->page, request->frame);
        return;
    }
    neomm__bump(&root->vmm->counts.read_errors);
    neomm__page_clear(root, &object->pages, request->page);
    neomm__user_frame_put(root, request->frame);
}

static void finish_write(struct neomm *root, struct neomm_object *object,
                         const struct neomm_pager_request *request)
{
    uint64_t word = neomm__page_get(&object->pages, request->page);
    set_word(root, object, request->page, word & ~NEOMM__PAGE_WRITING);
    if (request->status == NEOMM_OK) {
        neomm__bump(&root->vmm->counts.writes);
        return;
    }
    neomm__bump(&root->vmm->counts.write_errors);
    neomm__cache_set_dirty(root, object, neomm__frame(root, request->frame));
}

static void finish(struct neomm *root, struct neomm__batch *batch)
{
    struct neomm_object *object = batch->object;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct neomm_pager_request *request = &batch->request[i];
        if (request->operation == NEOMM_PAGER_READ)
            finish_read(root, object, request);
        else if (request->operation == NEOMM_PAGER_WRITE)
            finish_write(root, object, request);
    }
}

void neomm__cache_collect(struct neomm *root, struct neomm_object *object)
{
    if (!neomm__load_acquire(&object->ended))
        return;
    struct neomm__batch *batch = neomm__exchange(&object->ended, NULL);
    while (batch) {
        struct neomm__batch *next = batch->next;
        finish(root, batch);
        if (batch->kept)
            batch->collected = true;
        else
            (void)neomm_kfree(root, batch);
        batch = next;
    }
}

/* ---- looking ---- */

static bool is_late(struct neomm *root)
{
    const struct neomm__cache_counts *counts = &root->vmm->counts;
    return neomm__load_acquire(&counts->dirty) > neomm__load_acquire(&counts->dirty_limit);
}

static void find(struct neomm *root, struct neomm_object *object, struct neomm__cache_look *look,
                 uint64_t word)
{
    look->frame = neomm__page_frame(word);
    look->ahead = (word & NEOMM__PAGE_AHEAD) != 0;
    if (look->ahead)
        set_word(root, object, look->page, word & ~NEOMM__PAGE_AHEAD);
    if (look->write) {
        neomm__cache_set_dirty(root, object, neomm__frame(root, look->frame));
        look->late = is_late(root);
    }
}

enum neomm__cache_answer neomm__cache_look(struct neomm *root, struct neomm_object *object,
                                           struct neomm__cache_look *look)
{
    look->io = neomm__load_acquire(&object->io);
    neomm__cache_collect(root, object);
    uint64_t word = neomm__page_get(&object->pages, look->page);
    look->answer = NEOMM__CACHE_FOUND;
    if (!neomm__page_is_frame(word))
        look->answer = NEOMM__CACHE_MISSING;
    else if ((word & NEOMM__PAGE_READING) || (look->write && (word & NEOMM__PAGE_WRITING)))
        look->answer = NEOMM__CACHE_WAIT;
    else
        find(root, object, look, word);
    return look->answer;
}

void neomm__cache_remove(struct neomm *root, struct neomm_object *object, uint64_t page,
                         uint64_t word)
{
    if (!neomm__page_is_frame(word)) {
        drop_shadow(root, object, page);
        return;
    }
    neomm_frame_t frame = neomm__page_frame(word);
    neomm__object_unmap(root, frame);
    neomm__cache_set_clean(root, object, neomm__frame(root, frame));
    neomm__user_frame_dismiss(root, frame, neomm__object_mapping(object, page), NULL);
    neomm__page_clear(root, &object->pages, page);
}

/* ---- the check ---- */

struct cache_check {
    struct neomm *root;
    const struct neomm_object *object;
    struct neomm__report *report;
    uint64_t frames, dirty, shadows;
};

static void check_word(struct cache_check *check, uint64_t page, uint64_t word)
{
    uint32_t index = check->object->index;
    bool busy = word & (NEOMM__PAGE_READING | NEOMM__PAGE_WRITING);
    if (!neomm__page_is_frame(word)) {
        check->shadows++;
        return;
    }
    if (busy && (check->object->io & 0xffff) == 0 && !check->object->ended)
        neomm__report(check->report, "vmm: object %u: page %llu: %#llx, and nothing is on its way",
                      index, (unsigned long long)page, (unsigned long long)word);
    if (word & NEOMM__PAGE_READING)
        return;
    neomm_frame_t frame = neomm__page_frame(word);
    const struct neomm__frame *entry = neomm__frame(check->root, frame);
    check->frames++;
    if (!entry || entry->kind != NEOMM__KIND_CACHE ||
        !neomm__rmap_has(check->root, entry, neomm__object_mapping(check->object, page)))
        neomm__report(check->report, "vmm: object %u: page %llu: frame %#x does not lead back",
                      index, (unsigned long long)page, frame.number);
    else
        check->dirty += neomm__frame_has(entry, NEOMM__FRAME_DIRTY);
}

uint64_t neomm__cache_fsck(struct neomm *root, const struct neomm_object *object,
                           struct neomm__report *report)
{
    struct cache_check check = {.root = root, .object = object, .report = report};
    uint64_t page = 0, word;
    for (; (word = neomm__page_next(&object->pages, &page)) != 0; page++) {
        check_word(&check, page, word);
        if (page >= object->size)
            neomm__report(report, "vmm: object %u: page %llu is beyond its %llu", object->index,
                          (unsigned long long)page, (unsigned long long)object->size);
    }
    if (check.dirty != object->dirty)
        neomm__report(report, "vmm: object %u: %llu pages are dirty, counted are %llu",
                      object->index, (unsigned long long)check.dirty,
                      (unsigned long long)object->dirty);
    if (object->resizing)
        neomm__report(report, "vmm: object %u: its size is being changed", object->index);
    return check.frames;
}
