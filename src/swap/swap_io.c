/* Moving pages between frames and slots.
 * SPDX-License-Identifier: MIT
 *
 * A batch goes in three steps: under the area's lock each entry is checked and its record
 * prepared; without any lock all requests are in flight together; under the lock again each
 * record learns how it ended. The caller holds a count of each slot, so no record changes hands
 * meanwhile.
 */
#include "submit.h"
#include "swap/crypt.h"
#include "swap/pool.h"

void neomm__swap_write_raw(struct neomm *root, struct neomm_swap_page *pages, uint32_t count)
{
    struct neomm__swap_batch batch;
    neomm__swap_batch_init(&batch);
    for (uint32_t i = 0; i < count; i++) {
        struct neomm__swap_area *area = neomm__swap_area_of(root, pages[i].entry.slot);
        if (pages[i].status == NEOMM_OK && NEOMM__FAULT(SWAP_WRITE))
            pages[i].status = NEOMM_E_IO;
        if (pages[i].status != NEOMM_OK)
            continue;
        batch.page[batch.count] = &pages[i];
        neomm__swap_batch_add(&batch, area->device, area, NEOMM_BLOCK_WRITE,
                              pages[i].entry.slot - area->base, 1, pages[i].frame);
    }
    if (batch.count)
        neomm__swap_batch_run(&batch);
    for (uint32_t i = 0; i < batch.count; i++)
        batch.page[i]->status = batch.request[i].status == NEOMM_OK ? NEOMM_OK : NEOMM_E_IO;
}

static neomm_status first_error(const struct neomm_swap_page *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (pages[i].status != NEOMM_OK)
            return pages[i].status;
    return NEOMM_OK;
}

/* ---- writing ---- */

/* What a page is stored as: a word that fills it (FILLED), an object of the pool (POOLED), or on
 * the device, with a checksum (0). */
struct form {
    unsigned flag;
    uint64_t value;
    bool skip;           /* the next pages in the slot need not try the pool */
    neomm_frame_t frame; /* what the device gets: the page's, or one of the encrypted page */
    uint64_t sequence;   /* to decrypt that */
};

/* NEOMM_E_NOMEM: a high frame, and no way to look at it now. */
static neomm_status look_for_word(struct neomm *root, neomm_frame_t frame, struct form *form)
{
    const uint64_t *contents = neomm_frame_map(root, frame);
    if (!contents)
        return NEOMM_E_NOMEM;
    form->flag = neomm__swap_is_filled(contents) ? NEOMM__SLOT_FILLED : 0;
    form->value = contents[0];
    neomm_frame_unmap(root, (void *)(uintptr_t)contents);
    return NEOMM_OK;
}

/* The page goes to the device. As above; may sleep. */
static neomm_status prepare(struct neomm *root, const struct neomm_swap_page *page,
                            struct neomm__crypt_batch *sealed, struct form *form)
{
    struct neomm__crypt *crypt = root->swap->crypt;
    form->frame = crypt ? neomm__crypt_frame(crypt, sealed) : page->frame;
    const uint64_t *contents = neomm_frame_map(root, page->frame);
    if (!contents)
        return NEOMM_E_NOMEM;
    const uint64_t *stored = contents;
    if (crypt) {
        uint64_t *out = neomm_direct_pointer(root, neomm_frame_paddr(form->frame));
        form->sequence = neomm__crypt_seal(crypt, page->entry.slot, contents, out);
        stored = out;
    }
    form->value = neomm__swap_checksum(stored);
    neomm_frame_unmap(root, (void *)(uintptr_t)contents);
    return NEOMM_OK;
}

/* Finds the form of a page. One that goes to the pool is there when this ends. */
static neomm_status find_form(struct neomm *root, const struct neomm_swap_page *page,
                              struct neomm__crypt_batch *sealed, struct form *form)
{
    *form = (struct form){.flag = 0};
    neomm_status status = look_for_word(root, page->frame, form);
    if (status != NEOMM_OK || form->flag == NEOMM__SLOT_FILLED)
        return status;
    status = neomm__pool_store(root, page->entry, page->frame, &form->value);
    form->skip = status == NEOMM_E_LIMIT;
    if (status == NEOMM_OK)
        form->flag = NEOMM__SLOT_POOLED;
    return status == NEOMM_OK ? NEOMM_OK : prepare(root, page, sealed, form);
}

/* The record's contents are what was found. */
static void set_form(struct neomm *root, struct neomm__swap_area *area, struct neomm__slot *slot,
                     const struct form *form)
{
    neomm__pool_drop(root, area, slot);
    area->filled -= (slot->flags & NEOMM__SLOT_FILLED) != 0;
    area->filled += form->flag == NEOMM__SLOT_FILLED;
    slot->flags &= (uint8_t) ~(NEOMM__SLOT_FILLED | NEOMM__SLOT_VALID);
    slot->value = form->value;
    if (form->flag == NEOMM__SLOT_POOLED)
        neomm__pool_enter(area, slot, form->value);
    else if (form->flag == NEOMM__SLOT_FILLED)
        slot->flags |= NEOMM__SLOT_FILLED | NEOMM__SLOT_VALID;
    else if (form->skip)
        slot->flags |= NEOMM__POOL_SKIPS * NEOMM__SLOT_SKIP;
    if (form->flag == 0 && area->sequence)
        area->sequence[slot - area->slot] = form->sequence;
}

/* Prepares the record of one page. NEOMM_E_AGAIN: it needs a request, to write *frame. */
static neomm_status write_begin(struct neomm *root, const struct neomm_swap_page *page,
                                struct neomm__crypt_batch *sealed, neomm_frame_t *frame)
{
    struct neomm__swap_area *area;
    struct neomm__slot *slot;
    struct form form;
    bool wait;
    neomm_status status = find_form(root, page, sealed, &form);
    if (status != NEOMM_OK)
        return status;
    *frame = form.frame;
    do {
        neomm_irq_t irq;
        area = neomm__swap_lock_area(root, page->entry.slot, &irq);
        slot = area ? neomm__swap_record(root, area, page->entry) : NULL;
        wait = slot && form.flag == 0 && neomm__pool_is_writing(root, page->entry.slot);
        if (slot && !wait)
            set_form(root, area, slot, &form);
        if (area)
            neomm__unlock(&area->lock, irq);
        if (wait)
            neomm__pool_wait(root);
    } while (wait);
    if (!slot && form.flag == NEOMM__SLOT_POOLED)
        neomm__pool_discard(root, form.value);
    if (!slot)
        return NEOMM_E_NOENT;
    return form.flag ? NEOMM_OK : NEOMM_E_AGAIN;
}

/* The device's answer becomes the record's state and the page's status. */
static void write_end(struct neomm *root, struct neomm_swap_page *page, neomm_status answer)
{
    struct neomm__swap_area *area = neomm__swap_area_of(root, page->entry.slot);
    neomm_irq_t irq = neomm__lock(&area->lock);
    struct neomm__slot *slot = neomm__swap_record(root, area, page->entry);
    if (answer == NEOMM_OK)
        area->writes++;
    else
        area->write_errors++;
    if (slot)
        slot->flags |= answer == NEOMM_OK ? NEOMM__SLOT_VALID : NEOMM__SLOT_BAD;
    neomm__unlock(&area->lock, irq);
    page->status = answer != NEOMM_OK ? NEOMM_E_IO : slot ? NEOMM_OK : NEOMM_E_NOENT;
}

/* Prepares the page, and adds its request if it needs one. */
static void write_add(struct neomm *root, struct neomm_swap_page *page,
                      struct neomm__crypt_batch *sealed, struct neomm__swap_batch *batch)
{
    neomm_frame_t frame;
    page->status = write_begin(root, page, sealed, &frame);
    if (page->status != NEOMM_E_AGAIN)
        return;
    if (NEOMM__FAULT(SWAP_WRITE)) {
        write_end(root, page, NEOMM_E_IO);
        return;
    }
    struct neomm__swap_area *area = neomm__swap_area_of(root, page->entry.slot);
    batch->page[batch->count] = page;
    neomm__swap_batch_add(batch, area->device, area, NEOMM_BLOCK_WRITE,
                          page->entry.slot - area->base, 1, frame);
}

neomm_status neomm_swap_write(struct neomm *root, struct neomm_swap_page *pages, uint32_t count)
{
    struct neomm__swap_batch batch;
    struct neomm__crypt_batch sealed;
    if (count > NEOMM_POLICY_BATCH)
        return NEOMM_E_INVALID;
    if (root->swap)
        neomm__pool_make_room(root, count);
    neomm__swap_batch_init(&batch);
    neomm__crypt_batch_init(&sealed);
    for (uint32_t i = 0; i < count; i++)
        write_add(root, &pages[i], &sealed, &batch);
    if (batch.count)
        neomm__swap_batch_run(&batch);
    if (root->swap)
        neomm__crypt_batch_end(root->swap->crypt, &sealed);
    for (uint32_t i = 0; i < batch.count; i++)
        write_end(root, batch.page[i], batch.request[i].status);
    if (batch.count && neomm__load_relaxed(&batch.area[0]->discards))
        (void)neomm__swap_discard(batch.area[0], NEOMM__SWAP_DISCARD_BATCH);
    for (uint32_t i = 0; i < count; i++)
        if (pages[i].status == NEOMM_OK)
            NEOMM__COUNT(root, SWAP_WRITE);
    return first_error(pages, count);
}

/* ---- reading ---- */

static neomm_status fill(struct neomm *root, neomm_frame_t frame, uint64_t word)
{
    uint64_t *contents = neomm_frame_map(root, frame);
    if (!contents)
        return NEOMM_E_NOMEM;
    for (size_t i = 0; i < NEOMM_PAGE_SIZE / sizeof(word); i++)
        contents[i] = word;
    neomm_frame_unmap(root, contents);
    return NEOMM_OK;
}

/* A copy of the record of one page, and what decrypts it. NEOMM_E_NOENT: stale, or nothing was ever
 * written there. */
static neomm_status find_record(struct neomm *root, struct neomm_swap_entry entry,
                                struct neomm__slot *copy, uint64_t *sequence)
{
    neomm_status status = NEOMM_OK;
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    const struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return NEOMM_E_NOENT;
    *sequence = area->sequence ? area->sequence[entry.slot - area->base] : 0;
    if (slot->flags & NEOMM__SLOT_VALID)
        *copy = *slot;
    else
        status = slot->flags & NEOMM__SLOT_BAD ? NEOMM_E_IO : NEOMM_E_NOENT;
    neomm__unlock(&area->lock, irq);
    return status;
}

/* NEOMM_E_AGAIN: the page needs a request. */
static neomm_status read_begin(struct neomm *root, const struct neomm_swap_page *page)
{
    struct neomm__slot slot;
    uint64_t sequence;
    neomm_status status;
    do {
        status = find_record(root, page->entry, &slot, &sequence);
        if (status != NEOMM_OK)
            return status;
        if (slot.flags & NEOMM__SLOT_POOLED)
            status = neomm__pool_load(root, page);
    } while (slot.flags & NEOMM__SLOT_POOLED && status == NEOMM_E_AGAIN);
    if (slot.flags & NEOMM__SLOT_POOLED)
        return status;
    if (slot.flags & NEOMM__SLOT_FILLED)
        return fill(root, page->frame, slot.value);
    return NEOMM__FAULT(SWAP_READ) ? NEOMM_E_IO : NEOMM_E_AGAIN;
}

/* Are the bytes that came those that went? Then they are decrypted. */
static neomm_status verify(struct neomm *root, const struct neomm_swap_page *page)
{
    struct neomm__slot slot;
    uint64_t sequence;
    neomm_status status = find_record(root, page->entry, &slot, &sequence);
    if (status != NEOMM_OK)
        return status;
    uint64_t *contents = neomm_frame_map(root, page->frame);
    if (!contents)
        return NEOMM_E_NOMEM;
    if (neomm__swap_checksum(contents) != slot.value)
        status = NEOMM_E_CORRUPT;
    else if (root->swap->crypt)
        neomm__crypt_open(root->swap->crypt, page->entry.slot, sequence, contents);
    neomm_frame_unmap(root, contents);
    return status;
}

static void count_read(struct neomm__swap_area *area, neomm_status status)
{
    neomm_irq_t irq = neomm__lock(&area->lock);
    area->reads += status == NEOMM_OK;
    area->read_errors += status == NEOMM_E_IO;
    area->corrupt += status == NEOMM_E_CORRUPT;
    neomm__unlock(&area->lock, irq);
}

/* One try for each page of the set *todo; those that a device failed stay in it. */
static void read_round(struct neomm *root, struct neomm_swap_page *pages, uint32_t *todo)
{
    struct neomm__swap_batch batch;
    neomm__swap_batch_init(&batch);
    for (uint32_t i = 0; i < NEOMM_POLICY_BATCH; i++) {
        if (!(*todo >> i & 1))
            continue;
        struct neomm__swap_area *area = neomm__swap_area_of(root, pages[i].entry.slot);
        batch.page[batch.count] = &pages[i];
        neomm__swap_batch_add(&batch, area->device, area, NEOMM_BLOCK_READ,
                              pages[i].entry.slot - area->base, 1, pages[i].frame);
    }
    neomm__swap_batch_run(&batch);
    for (uint32_t i = 0; i < batch.count; i++) {
        struct neomm_swap_page *page = batch.page[i];
        page->status = batch.request[i].status != NEOMM_OK ? NEOMM_E_IO : verify(root, page);
        count_read(neomm__swap_area_of(root, page->entry.slot), page->status);
        if (page->status != NEOMM_E_IO && page->status != NEOMM_E_CORRUPT)
            *todo &= ~(1u << (page - pages));
    }
}

neomm_status neomm_swap_read(struct neomm *root, struct neomm_swap_page *pages, uint32_t count)
{
    uint32_t todo = 0;
    if (count > NEOMM_POLICY_BATCH)
        return NEOMM_E_INVALID;
    for (uint32_t i = 0; i < count; i++) {
        pages[i].status = read_begin(root, &pages[i]);
        if (pages[i].status == NEOMM_E_AGAIN)
            todo |= 1u << i;
    }
    for (unsigned round = 0; todo != 0 && round < 2; round++)
        read_round(root, pages, &todo);
    for (uint32_t i = 0; i < count; i++)
        if (pages[i].status == NEOMM_OK)
            NEOMM__COUNT(root, SWAP_READ);
    return first_error(pages, count);
}
