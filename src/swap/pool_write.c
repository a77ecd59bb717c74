/* Writing pages of the compressed pool back to their slots on the device.
 * SPDX-License-Identifier: MIT
 *
 * Who goes is found by a clock over the slots, cluster by cluster, which passes those that were
 * read since it came by last. So what goes together lies together on the device, and no
 * list of all objects is needed.
 *
 *   area locked: pick, copy out, count -> decompress -> write, all together -> area locked: the
 *   record names the device from now on, unless it has changed
 *
 * The count keeps the slot from another owner meanwhile. What its owner writes to it goes to the
 * pool again or, if it has to go to the device, waits for the older copy to arrive there. One task
 * writes back at a time.
 */
#include "swap/crypt.h"
#include "swap/pool.h"

#define COUNT_LIMIT (NEOMM__SWAP_COUNT_MAX - 2u) /* ours must not make a count saturate */

struct victims {
    struct neomm *root;
    struct neomm__pool *pool;
    struct neomm__pool_work *work;
    uint32_t count;
    struct neomm_swap_page page[NEOMM__POOL_BATCH];
    uint64_t checksum[NEOMM__POOL_BATCH]; /* of what the device gets */
    uint64_t sequence[NEOMM__POOL_BATCH]; /* to decrypt that */
};

/* ---- slots with a copy on its way ---- */

bool neomm__pool_is_writing(struct neomm *root, uint32_t slot)
{
    struct neomm__pool *pool = root->swap->pool;
    bool found = false;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    for (uint32_t i = 0; i < pool->writing; i++)
        found = found || pool->write_slot[i] == slot;
    neomm__unlock(&pool->lock, irq);
    return found;
}

void neomm__pool_note_change(struct neomm__pool *pool, uint32_t slot)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    for (uint32_t i = 0; i < pool->writing; i++)
        if (pool->write_slot[i] == slot)
            pool->changed |= 1u << i;
    neomm__unlock(&pool->lock, irq);
}

void neomm__pool_wait(struct neomm *root)
{
    uint32_t *busy = &root->swap->pool->busy;
    while (neomm__load_acquire(busy) != 0)
        (void)neomm_port_wait(busy, 1, UINT64_MAX);
}

static void note_writing(struct neomm__pool *pool, uint32_t slot)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    pool->write_slot[pool->writing++] = slot;
    neomm__unlock(&pool->lock, irq);
}

static void note_written(struct neomm__pool *pool, uint32_t pages)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    pool->writing = pool->changed = 0;
    pool->written_back += pages;
    neomm__unlock(&pool->lock, irq);
}

static bool has_changed(struct neomm__pool *pool, uint32_t i)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    bool changed = pool->changed >> i & 1;
    neomm__unlock(&pool->lock, irq);
    return changed;
}

/* ---- choosing ---- */

static bool may_go(struct neomm__slot *slot)
{
    bool young = slot->flags & NEOMM__SLOT_YOUNG;
    if (!(slot->flags & NEOMM__SLOT_POOLED) || slot->flags & NEOMM__SLOT_BAD ||
        slot->count > COUNT_LIMIT)
        return false;
    slot->flags &= (uint8_t)~NEOMM__SLOT_YOUNG;
    return !young;
}

/* Is the slot's page among the victims? The hand may come round to it again, as it stays in the
 * pool until it is written; two encrypted copies of it would not be the same. */
static bool is_victim(const struct victims *v, uint32_t slot)
{
    bool found = false;
    for (uint32_t i = 0; i < v->count; i++)
        found = found || v->page[i].entry.slot == slot;
    return found;
}

/* The next slot from the hand on to the end of its cluster whose page may go: it is counted, and
 * copied to the workspace. False: there is none, and the hand is at the next cluster. The area is
 * locked. */
static bool pick(struct victims *v, struct neomm__swap_area *area, struct neomm_swap_entry *entry,
                 struct neomm__pool_place *place)
{
    bool found = false;
    uint32_t cluster = area->pool_hand / NEOMM__SWAP_CLUSTER;
    uint32_t end = (cluster + 1) * NEOMM__SWAP_CLUSTER;
    end = end < area->slots ? end : area->slots;
    if (area->cluster[cluster].pooled == 0)
        area->pool_hand = end;
    while (area->pool_hand < end && !found) {
        struct neomm__slot *slot = &area->slot[area->pool_hand++];
        if (!may_go(slot) || is_victim(v, area->base + area->pool_hand - 1))
            continue;
        *entry = (struct neomm_swap_entry){area->base + area->pool_hand - 1, slot->generation,
                                           NEOMM_SWAP_SLOT};
        *place = neomm__pool_unpack(slot->value);
        found = neomm__pool_fetch(v->root, place, v->work->object);
        slot->count += found;
        if (found)
            note_writing(v->pool, entry->slot);
    }
    if (area->pool_hand == area->slots)
        area->pool_hand = 0;
    return found;
}

/* A page that cannot be had stays where it is: its owner will be told. */
static void add(struct victims *v, struct neomm_swap_entry entry,
                const struct neomm__pool_place *place)
{
    struct neomm_swap_page *page = &v->page[v->count];
    *page = (struct neomm_swap_page){entry, v->pool->reserved[v->count], NEOMM_OK};
    page->status = neomm__pool_decompress(v->root, v->work, entry.slot, place, page->frame);
    v->count++;
}

/* Looks at a cluster, or a part of it; false: all was looked at, or the area takes nothing more. */
static bool look(struct victims *v, struct neomm__swap_area *area, uint32_t *clusters)
{
    struct neomm_swap_entry entry = {0, 0, NEOMM_SWAP_NONE};
    struct neomm__pool_place place = {0, 0, 0, 0};
    neomm_irq_t irq = neomm__lock(&area->lock);
    bool there = area->state == NEOMM__AREA_ON && *clusters <= 2 * area->clusters;
    bool found = there && pick(v, area, &entry, &place);
    neomm__unlock(&area->lock, irq);
    if (found)
        add(v, entry, &place);
    else
        ++*clusters;
    return there;
}

/* Twice round the area at most: the first time may only make pages old. */
static void gather(struct victims *v, struct neomm__swap_area *area, uint32_t most)
{
    uint32_t clusters = 0;
    while (v->count < most && look(v, area, &clusters))
        ;
}

/* Each area in turn, beginning with the one that gave last. */
static void gather_all(struct victims *v, uint32_t most)
{
    struct neomm__swap *swap = v->root->swap;
    uint32_t areas = neomm__load_acquire(&swap->areas);
    for (uint32_t i = 0; i < areas && v->count < most; i++) {
        v->pool->hand = v->pool->hand < areas ? v->pool->hand : 0;
        gather(v, &swap->area[v->pool->hand], most);
        if (v->count < most)
            v->pool->hand++;
    }
}

/* ---- writing ---- */

/* The pages become what the device gets. They are copies of our own, so those that are encrypted
 * are so where they lie. */
static void prepare(struct victims *v)
{
    struct neomm__crypt *crypt = v->root->swap->crypt;
    for (uint32_t i = 0; i < v->count; i++) {
        const struct neomm_swap_page *page = &v->page[i];
        if (page->status != NEOMM_OK)
            continue;
        uint64_t *contents = neomm_direct_pointer(v->root, neomm_frame_paddr(page->frame));
        if (crypt)
            v->sequence[i] = neomm__crypt_seal(crypt, page->entry.slot, contents, contents);
        v->checksum[i] = neomm__swap_checksum(contents);
    }
}

/* What the device said becomes the record's state. */
static bool settle(struct victims *v, uint32_t i)
{
    const struct neomm_swap_page *page = &v->page[i];
    struct neomm__swap_area *area = neomm__swap_area_of(v->root, page->entry.slot);
    neomm_irq_t irq = neomm__lock(&area->lock);
    struct neomm__slot *slot = neomm__swap_record(v->root, area, page->entry);
    bool written = page->status == NEOMM_OK && !has_changed(v->pool, i);
    area->writes += page->status == NEOMM_OK;
    area->write_errors += page->status == NEOMM_E_IO;
    area->corrupt += page->status == NEOMM_E_CORRUPT;
    if (page->status == NEOMM_E_IO)
        slot->flags |= NEOMM__SLOT_BAD;
    if (written) {
        neomm__pool_drop(v->root, area, slot);
        slot->value = v->checksum[i];
        if (area->sequence)
            area->sequence[page->entry.slot - area->base] = v->sequence[i];
        slot->flags |= NEOMM__SLOT_VALID;
    }
    neomm__unlock(&area->lock, irq);
    (void)neomm_swap_free(v->root, page->entry);
    return written;
}

static uint32_t write_all(struct victims *v)
{
    uint32_t written = 0;
    prepare(v);
    neomm__swap_write_raw(v->root, v->page, v->count);
    for (uint32_t i = 0; i < v->count; i++)
        written += settle(v, i);
    return written;
}

static uint32_t write_back(struct neomm *root, uint32_t most)
{
    struct neomm__pool *pool = root->swap->pool;
    struct victims v = {.root = root, .pool = pool, .work = neomm__pool_work_get(pool)};
    gather_all(&v, most < NEOMM__POOL_BATCH ? most : NEOMM__POOL_BATCH);
    neomm__pool_work_put(v.work);
    uint32_t written = write_all(&v);
    note_written(pool, written);
    return written;
}

uint32_t neomm_swap_pool_write_back(struct neomm *root, uint32_t pages)
{
    struct neomm__pool *pool = root->swap ? root->swap->pool : NULL;
    uint32_t total = 0, written = 1;
    if (!pool || !pool->codec || neomm__exchange(&pool->busy, 1) != 0)
        return 0;
    for (; total < pages && written != 0; total += written)
        written = write_back(root, pages - total);
    neomm__store_release(&pool->busy, 0);
    neomm_port_wake(&pool->busy, UINT32_MAX);
    return total;
}
