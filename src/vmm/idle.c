/* Processes that do not run: their memory goes to swap as a whole, and what it costs when they come
 * back is measured.
 * SPDX-License-Identifier: MIT
 *
 * Pages go in the order of their addresses, in batches, so they lie side by side on the device, and
 * what comes back later is read ahead. A page that others have as well, or that is an object's, is
 * theirs; one that is locked or pinned stays.
 */
#include "vmm/idle.h"

#include "vmm/evict.h"
#include "vmm/tally.h"

/* ---- going ---- */

struct going {
    struct neomm *root;
    struct neomm_space *space;
    struct neomm__write_back *batch;
    neomm_vaddr_t next; /* where the next batch begins */
    uint64_t gone;
};

/* A page whose fault is not over is in no policy yet, and is passed. */
static void choose_page(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct going *going = context;
    struct neomm__write_back *batch = going->batch;
    if (leaf->state != NEOMM_MAPPING_PRESENT || batch->count == NEOMM_POLICY_BATCH)
        return;
    struct neomm__frame *entry = neomm__frame(going->root, neomm_paddr_frame(leaf->paddr));
    going->next = vaddr + NEOMM_PAGE_SIZE;
    if (!neomm__frame_is_user(entry) || neomm__frame_is_object(entry) ||
        neomm__rmap_count(entry) != 1 || !neomm__frame_has(entry, NEOMM__FRAME_POLICY) ||
        neomm__frame_has(entry, NEOMM__FRAME_BUSY) ||
        neomm__page_is_locked(going->root, going->space, vaddr))
        return;
    (void)neomm__fetch_add(&entry->references, 1);
    batch->e[batch->count++] = (struct neomm__eviction){.root = going->root,
                                                        .frame = neomm_paddr_frame(leaf->paddr),
                                                        .entry = entry,
                                                        .status = NEOMM_E_NOENT};
}

/* Of the pages chosen those that can go are evicted. False: there is no room for more in swap. */
static bool drain(struct going *going)
{
    struct neomm__write_back *batch = going->batch;
    uint32_t chosen = batch->count;
    bool more = true;
    batch->count = 0;
    for (uint32_t i = 0; i < chosen; i++) {
        batch->e[batch->count] = batch->e[i];
        if (neomm__evict_prepare(&batch->e[batch->count])) {
            batch->count++;
            continue;
        }
        neomm_status status = batch->e[batch->count].status;
        more &= status != NEOMM_E_NOSPACE && status != NEOMM_E_LIMIT;
        neomm__user_frame_put(going->root, batch->e[batch->count].frame);
    }
    neomm__write_back(batch);
    for (uint32_t i = 0; i < batch->count; i++) {
        going->gone += batch->e[i].status == NEOMM_OK;
        neomm__user_frame_put(going->root, batch->e[i].frame);
    }
    batch->count = 0;
    return more;
}

/* What lies in [start, end), which one table covers; a batch at a time. */
static bool piece_goes(struct going *going, neomm_vaddr_t start, neomm_vaddr_t end)
{
    bool more = true;
    going->next = start;
    do {
        start = going->next;
        going->next = end;
        (void)neomm__walk(going->root, going->space, start, end - start, choose_page, going);
        if (going->batch->count < NEOMM_POLICY_BATCH)
            going->next = end;
        more = drain(going);
    } while (more && going->next < end);
    return more;
}

/* Where there are no tables there is nothing to look at. */
static bool region_goes(struct going *going, neomm_vaddr_t start, neomm_vaddr_t end)
{
    const size_t piece = (size_t)512 * NEOMM_PAGE_SIZE;
    while (start < end) {
        struct neomm_mapping leaf;
        if (neomm_paging_query(going->root, &going->space->tables, start, &leaf) != NEOMM_OK)
            return true;
        size_t size = leaf.state == NEOMM_MAPPING_NONE && leaf.size > piece ? leaf.size : piece;
        size_t left = size - (start & (size - 1));
        if (left > end - start)
            left = end - start;
        if (size == piece && !piece_goes(going, start, start + left))
            return false;
        start += left;
    }
    return true;
}

static void all_regions_go(struct going *going)
{
    struct neomm_space *space = going->space;
    neomm_vaddr_t at = going->root->layout.user_base;
    bool more = true;
    neomm__mutex_lock(&space->lock);
    while (more) {
        const struct neomm__region *region = neomm__region_first(&space->map, at);
        if (!region)
            break;
        neomm_vaddr_t start = region->start > at ? region->start : at;
        bool passed = region->flags & (NEOMM__REGION_LOCKED | NEOMM__REGION_PHYSICAL);
        at = region->end;
        if (passed)
            continue;
        neomm__space_leave(space);
        more = region_goes(going, start, at);
        neomm__space_reenter(space);
    }
    neomm__mutex_unlock(&space->lock);
}

uint64_t neomm_space_swap_out(struct neomm *root, struct neomm_space *space)
{
    struct going going = {.root = root, .space = space};
    neomm__newcomers_flush(root);
    going.batch = neomm__write_back_take(root);
    all_regions_go(&going);
    neomm__write_back_give(root, going.batch);
    if (going.gone == 0)
        return 0;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    space->away =
        (struct neomm__away){.pages = (size_t)going.gone, .wanted = space->working_set / 16};
    neomm__unlock(&root->vmm->policy_lock, irq);
    neomm__bump(&space->swap_outs);
    return going.gone;
}

/* ---- coming back ---- */

/* As many as it used, if that is known. */
static size_t wanted_back(const struct neomm__away *away)
{
    return away->wanted != 0 && away->wanted < away->pages ? away->wanted : away->pages;
}

void neomm__space_page_is_back(struct neomm *root, struct neomm_space *space)
{
    struct neomm__away *away = &space->away;
    if (neomm__load_relaxed(&away->pages) == 0)
        return;
    uint64_t now = neomm_port_now();
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    if (away->back < wanted_back(away)) {
        if (away->back == 0)
            away->since = now;
        neomm__store_relaxed(&away->back, away->back + 1);
        away->ns = now - away->since;
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
}

/* ---- by age ---- */

static size_t faults_of(const struct neomm *root, const struct neomm_space *space)
{
    struct neomm__tally tally = neomm__tally_sum(root, space);
    return tally.zero + tally.swap_in + tally.copy + tally.other;
}

/* Has it been doing something since the last look? */
static bool is_active(struct neomm *root, struct neomm_space *space)
{
    size_t faults = faults_of(root, space);
    bool faulted = faults != space->idle.faults;
    space->idle.faults = faults;
    return neomm_space_harvest(root, space) != 0 || faulted;
}

static uint64_t look_at(struct neomm *root, struct neomm_space *space, uint64_t now, uint64_t after)
{
    struct neomm__idle_state *idle = &space->idle;
    if (is_active(root, space) || !idle->known) {
        idle->known = true;
        idle->since = now;
        return 0;
    }
    if (now - idle->since < after || neomm__resident(root, space) == 0)
        return 0;
    idle->since = now;
    return neomm_space_swap_out(root, space);
}

uint64_t neomm_idle_look(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    uint64_t gone = 0, now = neomm_port_now();
    uint64_t after = (uint64_t)root->config.idle_after * 1000000000u;
    if (!vmm || after == 0 || neomm__exchange(&vmm->idle_looks, 1) != 0)
        return 0;
    for (uint32_t index = 1; index < NEOMM__SPACE_MAX; index++) {
        struct neomm_space *space =
            neomm__load_relaxed(&vmm->space[index]) ? neomm__space_hold_at(root, index) : NULL;
        if (!space)
            continue;
        gone += look_at(root, space, now, after);
        neomm__space_drop(space);
    }
    neomm__store_release(&vmm->idle_looks, 0);
    return gone;
}
