/* Reading ahead from swap around a fault.
 * SPDX-License-Identifier: MIT
 *
 *   inside   choose: neighbours in swap, on a device; a count of each slot
 *   outside  frames: at the resident limit a page of the space goes for each
 *            read them all together
 *   inside   map: those whose leaf is the same entry still
 *
 * How many is said by a rule that knows no pages (neomm/readahead.h); its table, and what spaces
 * have of it, are under the lock of the policies. Nobody waits for a page read ahead nor hears of
 * an error of it: without it there will be a fault as ever.
 */
#include "vmm/readahead.h"

#include "vmm/idle.h"
#include "vmm/tally.h"

neomm_status neomm__readahead_init(struct neomm *root, struct neomm__vmm *vmm, uint32_t most)
{
    if (most == 0)
        return NEOMM_OK;
    uint32_t blocks = neomm_readahead_blocks(vmm->ram_pages);
    vmm->ahead.block = neomm_kzalloc(root, blocks * sizeof(vmm->ahead.block[0]), NEOMM_NORECLAIM);
    if (!vmm->ahead.block)
        return NEOMM_E_NOMEM;
    vmm->ahead.blocks = blocks;
    vmm->readahead = most < NEOMM_READAHEAD_MOST ? most : NEOMM_READAHEAD_MOST;
    return NEOMM_OK;
}

void neomm__readahead_fini(struct neomm *root, struct neomm__vmm *vmm)
{
    if (vmm->ahead.block)
        (void)neomm_kfree(root, vmm->ahead.block);
}

/* ---- what became of them ---- */

/* With the policies' lock. */
static void count_used(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr)
{
    neomm_readahead_used(&root->vmm->ahead, &space->ahead_credit, space->index,
                         vaddr >> NEOMM_PAGE_SHIFT);
    neomm__bump(&space->ahead_used);
    NEOMM__COUNT(root, AHEAD_USED);
}

void neomm__readahead_tested(struct neomm__eviction *e)
{
    uint32_t position = 0;
    struct neomm__leaf leaf;
    if (!neomm__frame_unmark_ahead(e->entry) || !neomm__evict_mapping(e, &position, &leaf) ||
        !leaf.space)
        return;
    neomm_irq_t irq = neomm__lock(&e->root->vmm->policy_lock);
    count_used(e->root, leaf.space, leaf.vaddr);
    neomm__unlock(&e->root->vmm->policy_lock, irq);
    neomm__space_drop(leaf.space);
}

void neomm__readahead_left(struct neomm *root, struct neomm_space *space,
                           struct neomm__frame *entry, neomm_vaddr_t vaddr)
{
    if (!neomm__frame_unmark_ahead(entry))
        return;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm_readahead_wasted(&root->vmm->ahead, &space->ahead_credit, space->index,
                           vaddr >> NEOMM_PAGE_SHIFT);
    neomm__unlock(&root->vmm->policy_lock, irq);
    neomm__bump(&space->ahead_wasted);
    NEOMM__COUNT(root, AHEAD_WASTED);
}

/* ---- how many ---- */

struct block {
    struct neomm *root;
    neomm_vaddr_t start;
    uint64_t used; /* bit n: page n of the block was read ahead and is used */
};

/* The table is locked, so the frame is there. */
static void note_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct block *block = context;
    if (leaf->state != NEOMM_MAPPING_PRESENT || leaf->size != NEOMM_PAGE_SIZE || !leaf->accessed)
        return;
    struct neomm__frame *entry = neomm__frame(block->root, neomm_paddr_frame(leaf->paddr));
    if (neomm__frame_is_user(entry) && neomm__frame_unmark_ahead(entry))
        block->used |= (uint64_t)1 << ((vaddr - block->start) >> NEOMM_PAGE_SHIFT);
}

/* The pages that the space's domain may have. */
static uint32_t pages_of(const struct neomm *root, const struct neomm_space *space)
{
    uint64_t pages = space->limits.resident_bytes >> NEOMM_PAGE_SHIFT;
    if (pages > root->vmm->ram_pages)
        pages = root->vmm->ram_pages;
    return pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
}

static struct neomm_readahead_window window_of(struct neomm__fault *work)
{
    const size_t size = NEOMM_READAHEAD_BLOCK * NEOMM_PAGE_SIZE;
    struct neomm *root = work->root;
    struct neomm_space *space = work->space;
    struct block block = {root, NEOMM__ALIGN_DOWN(work->page, size), 0};
    const struct neomm_policy *policy = neomm__space_policy(root, space);
    if (work->region->flags & NEOMM__REGION_SEQUENTIAL)
        return (struct neomm_readahead_window){root->vmm->readahead, 1};
    (void)neomm_paging_walk(root, &space->tables, block.start, size, note_leaf, &block);
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    for (uint32_t i = 0; i < NEOMM_READAHEAD_BLOCK; i++)
        if (block.used >> i & 1)
            count_used(root, space, block.start + ((neomm_vaddr_t)i << NEOMM_PAGE_SHIFT));
    const struct neomm_readahead_fault fault = {space->index, work->page >> NEOMM_PAGE_SHIFT,
                                                policy->evictions, pages_of(root, space),
                                                root->vmm->readahead};
    struct neomm_readahead_window window =
        neomm_readahead_fault(&root->vmm->ahead, &space->ahead_credit, &fault);
    neomm__unlock(&root->vmm->policy_lock, irq);
    return window;
}

/* ---- choosing ---- */

static neomm_vaddr_t page_at(const struct neomm__fault *work, const struct neomm__nearby *nearby,
                             uint32_t n)
{
    neomm_vaddr_t distance = (neomm_vaddr_t)n << NEOMM_PAGE_SHIFT;
    return nearby->direction > 0 ? work->page + distance : work->page - distance;
}

/* Takes the next page if it is in swap, on a device, and in the block and the region. */
static bool take_next(struct neomm__fault *work, struct neomm__nearby *nearby)
{
    struct neomm *root = work->root;
    neomm_vaddr_t vaddr = page_at(work, nearby, nearby->count);
    const size_t block = NEOMM_READAHEAD_BLOCK * NEOMM_PAGE_SIZE;
    struct neomm_mapping leaf;
    if ((vaddr ^ work->page) >= block || vaddr < work->region->start ||
        vaddr >= work->region->end ||
        neomm_paging_query(root, &work->space->tables, vaddr, &leaf) != NEOMM_OK ||
        leaf.state != NEOMM_MAPPING_SWAPPED ||
        neomm_swap_where(root, leaf.swap) != NEOMM_SWAP_ON_DEVICE ||
        neomm_swap_users(root, leaf.swap) != 1 ||
        !neomm__fault_hold_entry(root, work->space, vaddr, &leaf.swap))
        return false;
    nearby->page[nearby->count++] =
        (struct neomm_swap_page){leaf.swap, neomm_frame(0), NEOMM_E_AGAIN};
    return true;
}

void neomm__readahead_choose(struct neomm__fault *work, struct neomm__nearby *nearby)
{
    struct neomm *root = work->root;
    nearby->count = 1;
    if (root->vmm->readahead == 0 || (work->region->flags & NEOMM__REGION_RANDOM) ||
        neomm_swap_where(root, nearby->page[0].entry) != NEOMM_SWAP_ON_DEVICE)
        return;
    struct neomm_readahead_window window = window_of(work);
    nearby->direction = window.direction;
    while (nearby->count < window.pages && take_next(work, nearby))
        ;
}

/* ---- frames ---- */

static void give_up(struct neomm *root, const struct neomm_swap_page *page)
{
    (void)neomm_swap_free(root, page->entry);
    if (!neomm_frame_is_nil(page->frame))
        neomm__user_frame_put(root, page->frame);
}

/* So many pages the space may have beside those it has, the one that faults included. */
static uint64_t room_of(const struct neomm *root, const struct neomm_space *space)
{
    uint64_t limit = space->limits.resident_bytes >> NEOMM_PAGE_SHIFT;
    uint64_t resident = neomm__resident(root, space);
    return limit > resident ? limit - resident : 0;
}

static bool memory_is_short(const struct neomm *root)
{
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        if (neomm_pmm_watermark(root, (enum neomm_zone)zone) < NEOMM_WATERMARK_LOW)
            return true;
    return false;
}

void neomm__readahead_frames(struct neomm__fault *work, struct neomm__nearby *nearby)
{
    struct neomm *root = work->root;
    uint32_t count = 1, wanted = nearby->count;
    uint64_t room = room_of(root, work->space);
    if (wanted > 1 && room < wanted) {
        (void)neomm_space_evict(root, work->space, wanted - (uint32_t)room);
        room = room_of(root, work->space);
    }
    if (room < wanted)
        wanted = (uint32_t)room;
    while (count < wanted && !memory_is_short(root) &&
           neomm_pmm_alloc(root, 0, NEOMM_HIGH | NEOMM_MOVABLE | NEOMM_NORECLAIM,
                           &nearby->page[count].frame) == NEOMM_OK)
        count++;
    while (nearby->count > count)
        give_up(root, &nearby->page[--nearby->count]);
}

/* ---- mapping ---- */

/* The frame has the page's contents and its count of the slot. It enters the policy as a page that
 * comes back. */
static void enter(struct neomm *root, struct neomm_space *space, struct neomm_swap_page *page)
{
    struct neomm__frame *entry = neomm__frame(root, page->frame);
    struct neomm_policy *policy = neomm__space_policy(root, space);
    neomm_irq_t irq = neomm__rmap_lock(entry);
    entry->owner = page->entry.slot;
    neomm__frame_set(entry, NEOMM__FRAME_SLOT);
    neomm__rmap_unlock(entry, irq);
    irq = neomm__lock(&root->vmm->policy_lock);
    if (policy->ops->refault)
        policy->ops->refault(policy, &page->entry);
    neomm__unlock(&root->vmm->policy_lock, irq);
    (void)neomm_swap_free(root, page->entry); /* (the leaf's count is the frame's from now on) */
    (void)neomm__fetch_sub(&space->swap_pages, 1);
    neomm__bump(&space->read_ahead);
    NEOMM__COUNT(root, READ_AHEAD);
    neomm__space_page_is_back(root, space);
    neomm__user_frame_enter(root, space, page->frame, true);
}

/* A page that others have in swap as well would have to be mapped for all of them. Inside of the
 * region the leaf's entry gets to nobody else. */
#define LEAF_AND_US 2u

static bool map_one(struct neomm__fault *work, neomm_vaddr_t vaddr, struct neomm_swap_page *page)
{
    struct neomm *root = work->root;
    struct neomm_space *space = work->space;
    const struct neomm__region *region = work->region;
    const struct neomm_mapping old = {.state = NEOMM_MAPPING_SWAPPED, .swap = page->entry};
    const struct neomm_mapping next = {.state = NEOMM_MAPPING_PRESENT,
                                       .prot = region->prot,
                                       .paddr = neomm_frame_paddr(page->frame),
                                       .size = NEOMM_PAGE_SIZE};
    if (vaddr < region->start || vaddr >= region->end || region->prot == NEOMM_PROT_NONE ||
        room_of(root, space) < 2 || neomm_swap_users(root, page->entry) != LEAF_AND_US)
        return false;
    neomm__user_frame_claim(root, space, page->frame, vaddr, 0);
    neomm__frame_mark_ahead(neomm__frame(root, page->frame));
    if (neomm_paging_exchange_exact(root, &space->tables, vaddr, &old, &next, NULL) == NEOMM_OK) {
        enter(root, space, page);
        return true;
    }
    neomm__user_frame_unclaim(root, page->frame);
    return false;
}

void neomm__readahead_map(struct neomm__fault *work, struct neomm__nearby *nearby)
{
    struct neomm *root = work->root;
    bool wanted = nearby->page[0].status == NEOMM_OK && !neomm__is_victim(work->space);
    if (nearby->count > 1 && wanted)
        work->region = neomm__region_try_enter(root, work->space, work->page);
    for (uint32_t i = 1; i < nearby->count; i++) {
        struct neomm_swap_page *page = &nearby->page[i];
        if (!work->region || page->status != NEOMM_OK ||
            !map_one(work, page_at(work, nearby, i), page))
            give_up(root, page);
    }
    neomm__fault_leave(work);
}
