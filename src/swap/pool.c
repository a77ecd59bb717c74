/* The compressed pool: beginning and end, pages in and out, and how large it may be.
 * SPDX-License-Identifier: MIT
 *
 * Compressing takes long and needs memory of its own, so it is done without spinlocks, in one of a
 * few workspaces. An object is complete before its record names it, and is copied out with its area
 * locked; what the codec does with the copy meets nobody.
 */
#include "swap/pool.h"

/* ---- workspaces ---- */

/* One of whoever uses none; otherwise the CPU's turn is as good as any. */
struct neomm__pool_work *neomm__pool_work_get(struct neomm__pool *pool)
{
    uint32_t first = neomm_port_cpu()->index;
    NEOMM__ASSERT(pool->works != 0);
    for (uint32_t i = 0; i < pool->works; i++) {
        struct neomm__pool_work *work = &pool->work[(first + i) % pool->works];
        if (neomm__mutex_try_lock(&work->lock))
            return work;
    }
    neomm__mutex_lock(&pool->work[first % pool->works].lock);
    return &pool->work[first % pool->works];
}

void neomm__pool_work_put(struct neomm__pool_work *work)
{
    neomm__mutex_unlock(&work->lock);
}

/* ---- contents ---- */

static inline uint32_t mix(uint32_t sum, uint32_t word)
{
    uint32_t product = (sum ^ word) * 0x9e3779b1u;
    return product << 15 | product >> 17;
}

/* Of the contents: any change of up to 32 neighbouring bits that lie in a word is noticed, others
 * with 1 - 2^-32. */
static uint32_t check_of(const uint8_t *contents, uint32_t size)
{
    uint32_t a = size, b = ~size, word[2], at = 0;
    for (; at + sizeof(word) <= size; at += (uint32_t)sizeof(word)) {
        __builtin_memcpy(word, contents + at, sizeof(word));
        a = mix(a, word[0]);
        b = mix(b, word[1]);
    }
    for (; at < size; at++)
        a = mix(a, contents[at]);
    return mix(a, b);
}

static uint32_t compress(struct neomm *root, struct neomm__pool_work *work, neomm_frame_t frame)
{
    const uint8_t *page = neomm_frame_map(root, frame);
    if (!page)
        return 0;
    uint32_t size = root->swap->pool->codec->compress(
        work->codec, page, work->object + sizeof(struct neomm__pool_header), NEOMM__POOL_LARGEST);
    neomm_frame_unmap(root, (void *)(uintptr_t)page);
    return size;
}

neomm_status neomm__pool_decompress(struct neomm *root, struct neomm__pool_work *work,
                                    uint32_t slot, const struct neomm__pool_place *place,
                                    neomm_frame_t frame)
{
    const uint8_t *contents = work->object + sizeof(struct neomm__pool_header);
    struct neomm__pool_header header;
    memcpy(&header, work->object, sizeof(header));
    if (header.slot != slot || header.check != check_of(contents, place->size))
        return NEOMM_E_CORRUPT;
    uint8_t *page = neomm_frame_map(root, frame);
    if (!page)
        return NEOMM_E_NOMEM;
    bool whole = neomm__codec_at(place->codec)->decompress(contents, place->size, page);
    neomm_frame_unmap(root, page);
    return whole ? NEOMM_OK : NEOMM_E_CORRUPT;
}

/* ---- records ---- */

void neomm__pool_enter(struct neomm__swap_area *area, struct neomm__slot *slot, uint64_t value)
{
    slot->value = value;
    slot->flags &= (uint8_t)~NEOMM__SLOT_SKIPS;
    slot->flags |= NEOMM__SLOT_VALID | NEOMM__SLOT_POOLED;
    area->pooled++;
    area->cluster[(uint32_t)(slot - area->slot) / NEOMM__SWAP_CLUSTER].pooled++;
}

void neomm__pool_drop(struct neomm *root, struct neomm__swap_area *area, struct neomm__slot *slot)
{
    if (!(slot->flags & NEOMM__SLOT_POOLED))
        return;
    uint32_t page = (uint32_t)(slot - area->slot);
    slot->flags &= (uint8_t) ~(NEOMM__SLOT_VALID | NEOMM__SLOT_POOLED | NEOMM__SLOT_YOUNG);
    area->pooled--;
    area->cluster[page / NEOMM__SWAP_CLUSTER].pooled--;
    neomm__pool_note_change(root->swap->pool, area->base + page);
    neomm__pool_discard(root, slot->value);
}

/* ---- pages in ---- */

/* Is the pool to be tried? After a page that was too large the slot's next ones go past it. */
static bool is_worth_a_try(struct neomm *root, struct neomm_swap_entry entry)
{
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return false;
    bool skip = !(slot->flags & NEOMM__SLOT_POOLED) && slot->flags & NEOMM__SLOT_SKIPS;
    if (skip)
        slot->flags = (uint8_t)(slot->flags - NEOMM__SLOT_SKIP);
    neomm__unlock(&area->lock, irq);
    return !skip;
}

/* The object in the workspace gets a place. */
static bool place_object(struct neomm *root, const struct neomm__pool_work *work,
                         struct neomm__pool_place *place)
{
    if (!neomm__pool_take(root, NEOMM__POOL_TO_LIMIT, place))
        return false;
    if (neomm__pool_put(root, place, work->object))
        return true;
    neomm__pool_give(root, place);
    return false;
}

static void count_refusal(struct neomm__pool *pool, neomm_status status)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    pool->rejected += status == NEOMM_E_LIMIT;
    pool->no_room += status == NEOMM_E_NOSPACE;
    neomm__unlock(&pool->lock, irq);
}

static neomm_status store(struct neomm *root, struct neomm__pool_work *work, uint32_t slot,
                          neomm_frame_t frame, uint64_t *value)
{
    uint8_t *contents = work->object + sizeof(struct neomm__pool_header);
    uint32_t size = compress(root, work, frame);
    if (size == 0)
        return NEOMM_E_LIMIT;
    struct neomm__pool_header header = {slot, check_of(contents, size)};
    struct neomm__pool_place place = {.size = (uint16_t)size,
                                      .codec = (uint8_t)root->config.compression};
    memcpy(work->object, &header, sizeof(header));
    if (!place_object(root, work, &place))
        return NEOMM_E_NOSPACE;
    *value = neomm__pool_pack(&place);
    return NEOMM_OK;
}

neomm_status neomm__pool_store(struct neomm *root, struct neomm_swap_entry entry,
                               neomm_frame_t frame, uint64_t *value)
{
    struct neomm__pool *pool = root->swap->pool;
    if (!pool->codec || !is_worth_a_try(root, entry))
        return NEOMM_E_AGAIN;
    struct neomm__pool_work *work = neomm__pool_work_get(pool);
    neomm_status status = store(root, work, entry.slot, frame, value);
    neomm__pool_work_put(work);
    if (status != NEOMM_OK)
        count_refusal(pool, status);
    return status;
}

/* ---- pages out ---- */

/* Copies the slot's object to the workspace. NEOMM_E_AGAIN: it has none. */
static neomm_status fetch(struct neomm *root, struct neomm_swap_entry entry,
                          struct neomm__pool_work *work, struct neomm__pool_place *place)
{
    neomm_status status = NEOMM_E_AGAIN;
    struct neomm__swap_area *area;
    neomm_irq_t irq;
    struct neomm__slot *slot = neomm__swap_lock_record(root, entry, &area, &irq);
    if (!slot)
        return status;
    if (slot->flags & NEOMM__SLOT_POOLED) {
        *place = neomm__pool_unpack(slot->value);
        status = neomm__pool_fetch(root, place, work->object) ? NEOMM_OK : NEOMM_E_NOMEM;
        slot->flags |= NEOMM__SLOT_YOUNG;
    }
    neomm__unlock(&area->lock, irq);
    return status;
}

static void count_load(struct neomm *root, uint32_t slot, neomm_status status)
{
    neomm_irq_t irq;
    struct neomm__swap_area *area = neomm__swap_lock_area(root, slot, &irq);
    if (!area)
        return;
    area->pool_hits += status == NEOMM_OK;
    area->corrupt += status == NEOMM_E_CORRUPT;
    neomm__unlock(&area->lock, irq);
}

neomm_status neomm__pool_load(struct neomm *root, const struct neomm_swap_page *page)
{
    struct neomm__pool_work *work = neomm__pool_work_get(root->swap->pool);
    struct neomm__pool_place place;
    neomm_status status = fetch(root, page->entry, work, &place);
    if (status == NEOMM_OK)
        status = neomm__pool_decompress(root, work, page->entry.slot, &place, page->frame);
    neomm__pool_work_put(work);
    count_load(root, page->entry.slot, status);
    return status;
}

/* ---- how large it may be ---- */

/* Pages that come back, from the pool or a device, between two looks at the limit. */
#define LOOK_AFTER 1024u
/* Objects given back, at least, between two compactions. */
#define LEAST_GIVEN 64u

uint32_t neomm__pool_next_limit(uint32_t limit, uint32_t start, uint32_t hits, uint32_t reads,
                                uint64_t bytes, uint64_t pages)
{
    uint32_t step = start / 16 + 1, least = start / 2, most = start + start / 2;
    bool dense = bytes * 2 <= pages << NEOMM_PAGE_SHIFT;
    bool poor = bytes * 3 > pages << (NEOMM_PAGE_SHIFT + 1);
    if (poor && limit > least)
        return limit - least > step ? limit - step : least;
    if (dense && reads > hits / 8 && limit < most)
        return most - limit > step ? limit + step : most;
    if (limit > start && reads <= hits / 64)
        return limit - start > step ? limit - step : start;
    return limit;
}

static void look_at_limit(struct neomm *root)
{
    struct neomm__pool *pool = root->swap->pool;
    struct neomm_swap_stats stats;
    neomm_swap_stats(root, &stats);
    neomm_irq_t irq = neomm__lock(&pool->lock);
    uint64_t hits = stats.pool_hits - pool->hits_seen, reads = stats.reads - pool->reads_seen;
    if (hits + reads >= LOOK_AFTER) {
        pool->limit = neomm__pool_next_limit(pool->limit, pool->start, (uint32_t)hits,
                                             (uint32_t)reads, pool->bytes, pool->objects);
        pool->hits_seen = stats.pool_hits;
        pool->reads_seen = stats.reads;
    }
    neomm__unlock(&pool->lock, irq);
}

/* More than a sixteenth of the pool holds nothing, and enough objects went since that was last
 * tried to be mended. */
static bool is_sparse(struct neomm__pool *pool)
{
    neomm_irq_t irq = neomm__lock(&pool->lock);
    uint64_t room = (uint64_t)pool->frames << NEOMM_PAGE_SHIFT;
    bool sparse = pool->bytes < room - room / 16 && pool->given > pool->objects / 8 + LEAST_GIVEN;
    if (sparse)
        pool->given = 0;
    neomm__unlock(&pool->lock, irq);
    return sparse;
}

static bool has_room(const struct neomm__pool *pool, uint32_t pages)
{
    uint32_t limit = neomm__load_relaxed(&pool->limit);
    return neomm__load_relaxed(&pool->frames) + pages <= limit;
}

void neomm__pool_make_room(struct neomm *root, uint32_t pages)
{
    struct neomm__pool *pool = root->swap->pool;
    if (!pool->codec)
        return;
    if (is_sparse(pool))
        (void)neomm_swap_pool_compact(root);
    if (has_room(pool, pages))
        return;
    look_at_limit(root);
    uint32_t wanted = NEOMM__POOL_BATCH + pages, done = 1;
    for (uint32_t written = 0; done != 0 && written < wanted && !has_room(pool, pages);
         written += done)
        done = neomm_swap_pool_write_back(root, wanted - written);
}

void neomm__pool_stats(struct neomm *root, struct neomm_swap_stats *stats)
{
    struct neomm__pool *pool = root->swap->pool;
    neomm_irq_t irq = neomm__lock(&pool->lock);
    stats->pool_pages = pool->objects;
    stats->pool_bytes = pool->bytes;
    stats->pool_frames = pool->frames;
    stats->pool_limit = pool->limit;
    stats->pool_rejected = pool->rejected;
    stats->pool_no_room = pool->no_room;
    stats->pool_written_back = pool->written_back;
    neomm__unlock(&pool->lock, irq);
}

/* ---- beginning and end ---- */

static uint32_t work_frames(const struct neomm__pool *pool)
{
    return 1 + (uint32_t)neomm__pages(pool->codec->work);
}

static neomm_status make_work(struct neomm *root, struct neomm__pool_work *work)
{
    struct neomm_range_request request = {.frames = work_frames(root->swap->pool),
                                          .flags = NEOMM_NORECLAIM};
    neomm_status status = NEOMM__FAULT(SWAP_STATE)
                              ? NEOMM_E_NOMEM
                              : neomm_pmm_alloc_range(root, &request, &work->frame);
    if (status != NEOMM_OK)
        return status;
    neomm__lock_init(&work->lock, NEOMM_LOCK_CLASS_CODEC);
    work->object = neomm_direct_pointer(root, neomm_frame_paddr(work->frame));
    work->codec = work->object + NEOMM_PAGE_SIZE;
    return NEOMM_OK;
}

/* What compressing needs is had before there is anything to compress. */
static neomm_status make_reserves(struct neomm *root, struct neomm__pool *pool)
{
    uint32_t works = root->cpus < NEOMM__POOL_WORKS ? root->cpus : NEOMM__POOL_WORKS;
    if (NEOMM__FAULT(SWAP_STATE))
        return NEOMM_E_NOMEM;
    neomm_status status =
        neomm_pmm_alloc_bulk(root, NEOMM__POOL_BATCH, NEOMM_NORECLAIM, pool->reserved);
    while (status == NEOMM_OK && pool->works < works) {
        status = make_work(root, &pool->work[pool->works]);
        pool->works += status == NEOMM_OK;
    }
    return status;
}

static void set_limit(const struct neomm *root, struct neomm__pool *pool)
{
    uint64_t ram = neomm_pmm_free_frames(root);
    uint64_t frames =
        neomm_config_bytes(root->config.pool_limit, ram << NEOMM_PAGE_SHIFT) >> NEOMM_PAGE_SHIFT;
    pool->start = pool->limit = (uint32_t)(frames < ram ? frames : ram);
}

neomm_status neomm__pool_init(struct neomm *root)
{
    struct neomm_range_request request = {
        .frames = (uint32_t)neomm__pages(sizeof(struct neomm__pool)), .flags = NEOMM_NORECLAIM};
    neomm_frame_t frame;
    neomm_status status =
        NEOMM__FAULT(SWAP_STATE) ? NEOMM_E_NOMEM : neomm_pmm_alloc_range(root, &request, &frame);
    if (status != NEOMM_OK)
        return status;
    struct neomm__pool *pool = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    memset(pool, 0, sizeof(*pool));
    neomm__lock_init(&pool->lock, NEOMM_LOCK_CLASS_POOL);
    pool->state = frame;
    pool->state_frames = request.frames;
    root->swap->pool = pool;
    neomm__pool_classes_init(pool);
    set_limit(root, pool);
    if (root->config.compression != NEOMM_COMPRESSION_OFF) {
        pool->codec = neomm__codec_at(root->config.compression);
        status = make_reserves(root, pool);
    }
    if (status != NEOMM_OK)
        neomm__pool_fini(root);
    return status;
}

void neomm__pool_fini(struct neomm *root)
{
    struct neomm__pool *pool = root->swap->pool;
    neomm__pool_chains_free(root);
    for (uint32_t i = 0; i < pool->works; i++)
        (void)neomm_pmm_free_range(root, pool->work[i].frame, work_frames(pool));
    if (!neomm_frame_is_nil(pool->reserved[0]))
        (void)neomm_pmm_free_bulk(root, NEOMM__POOL_BATCH, pool->reserved, NULL);
    root->swap->pool = NULL;
    (void)neomm_pmm_free_range(root, pool->state, pool->state_frames);
}
