/* Access to user memory by the kernel: copies, strings, words, and pages pinned for devices.
 * SPDX-License-Identifier: MIT
 *
 * The CPU does the access with the user's translations and rights, and its fault handler brings
 * pages in and makes copies of shared ones; here the range is checked, so that no user can make the
 * kernel touch the kernel.
 */
#include "vmm/vmm_priv.h"

#include <neomm/cpu.h>

/* May the access be tried at all? */
static neomm_status check(const struct neomm *root, neomm_vaddr_t user, size_t size)
{
    if (!neomm__is_user_range(root, user, size))
        return NEOMM_E_RANGE;
    neomm__lock_assert_none("user access: may sleep, and a lock is held");
    return NEOMM_OK;
}

/* ---- bytes ---- */

static neomm_status copy(struct neomm *root, neomm_vaddr_t user, void *kernel, size_t size,
                         bool to_user, size_t *done)
{
    if (done)
        *done = 0;
    if (size == 0)
        return NEOMM_OK;
    neomm_status status = check(root, user, size);
    if (status != NEOMM_OK)
        return status;
    size_t left = neomm_cpu_user_copy(user, kernel, size, to_user);
    if (done)
        *done = size - left;
    return left == 0 ? NEOMM_OK : NEOMM_E_FAULT;
}

neomm_status neomm_copy_to_user(struct neomm *root, struct neomm_space *space, neomm_vaddr_t to,
                                const void *from, size_t size, size_t *done)
{
    (void)space;
    /* The primitive only reads its kernel side in this direction. */
    return copy(root, to, (void *)(uintptr_t)from, size, true, done);
}

neomm_status neomm_copy_from_user(struct neomm *root, struct neomm_space *space, void *to,
                                  neomm_vaddr_t from, size_t size, size_t *done)
{
    (void)space;
    return copy(root, from, to, size, false, done);
}

neomm_status neomm_zero_user(struct neomm *root, struct neomm_space *space, neomm_vaddr_t to,
                             size_t size, size_t *done)
{
    static const uint64_t zeros[64];
    size_t part, moved = 0;
    neomm_status status = size == 0 ? NEOMM_OK : check(root, to, size);
    (void)space;
    for (size_t at = 0; at < size && status == NEOMM_OK; at += part) {
        size_t now = 0;
        part = size - at < sizeof(zeros) ? size - at : sizeof(zeros);
        status = copy(root, to + at, (void *)(uintptr_t)zeros, part, true, &now);
        moved += now;
    }
    if (done)
        *done = moved;
    return status;
}

static size_t to_page_end(neomm_vaddr_t at)
{
    return NEOMM_PAGE_SIZE - ((size_t)at & (NEOMM_PAGE_SIZE - 1));
}

/* What is copied is what is looked at: the user may change his side at any time. A page at a time,
 * since what lies behind the string need not be there. */
neomm_status neomm_copy_string_from_user(struct neomm *root, struct neomm_space *space, char *to,
                                         neomm_vaddr_t from, size_t size, size_t *length)
{
    neomm_status status = size == 0 ? NEOMM_OK : check(root, from, 1);
    size_t at = 0;
    (void)space;
    while (at < size && status == NEOMM_OK) {
        size_t part = size - at < to_page_end(from) ? size - at : to_page_end(from), done;
        status = copy(root, from, to + at, part, false, &done);
        for (size_t end = at + done; at < end; at++)
            if (to[at] == '\0') {
                *length = at;
                return NEOMM_OK;
            }
        from += part;
    }
    *length = at;
    return status == NEOMM_OK ? NEOMM_E_NOSPACE : NEOMM_E_FAULT;
}

neomm_status neomm_user_compare_exchange(struct neomm *root, struct neomm_space *space,
                                         neomm_vaddr_t address, uint32_t *expected,
                                         uint32_t desired)
{
    (void)space;
    if (!NEOMM__ALIGNED(address, sizeof(uint32_t)))
        return NEOMM_E_ALIGN;
    neomm_status status = check(root, address, sizeof(uint32_t));
    return status == NEOMM_OK ? neomm_cpu_user_cas(address, expected, desired) : status;
}

/* ---- pins ---- */

/* Far enough from what fits that CPUs which look at the same moment do not matter. */
#define PINS_MOST 65000u

struct pin {
    struct neomm *root;
    bool write;
    bool shared; /* the mapping: an object's page is what all are to see */
    bool busy;   /* is being evicted: the end of that is to be waited for */
    neomm_status status;
    struct neomm__frame *entry;
    neomm_frame_t frame;
};

/* Is the page the space's own, for good: nobody else's, or written to by all who have it? */
static bool may_pin(const struct pin *pin, const struct neomm_mapping *leaf,
                    const struct neomm__frame *entry)
{
    if (leaf->state != NEOMM_MAPPING_PRESENT || leaf->prot == NEOMM_PROT_NONE ||
        !neomm__frame_is_user(entry))
        return false;
    return (leaf->prot & NEOMM_PROT_WRITE) ||
           (!pin->write && ((pin->shared && neomm__frame_is_object(entry)) ||
                            neomm__user_frame_is_exclusive(entry)));
}

/* The table is locked. Eviction marks the frame first and looks for pins then; here it is the other
 * way round, so that one sees the other. */
static void pin_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct pin *pin = context;
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    struct neomm__frame *entry = neomm__frame(pin->root, frame);
    (void)vaddr;
    if (!may_pin(pin, leaf, entry))
        return;
    if (neomm__frame_pins(entry) == PINS_MOST) {
        pin->status = NEOMM_E_LIMIT;
        return;
    }
    (void)neomm__fetch_add(&entry->references, NEOMM__FRAME_PIN);
    pin->busy = (neomm__fetch_or(&entry->flags, 0) & NEOMM__FRAME_BUSY) != 0;
    if (pin->busy)
        (void)neomm__fetch_sub(&entry->references, NEOMM__FRAME_PIN);
    else
        pin->entry = entry;
    pin->frame = frame;
}

static neomm_status fault_in(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page,
                             bool write)
{
    struct neomm_fault_result result;
    uint32_t error = NEOMM_PF_USER | (write ? NEOMM_PF_WRITE : NEOMM__PF_UNSHARE);
    switch (neomm_fault(root, space, page, error, &result)) {
    case NEOMM_FAULT_RESOLVED:
    case NEOMM_FAULT_RETRY:
        return NEOMM_OK;
    case NEOMM_FAULT_NOMEM:
        return NEOMM_E_NOMEM;
    default:
        return NEOMM_E_FAULT;
    }
}

static neomm_status pin_page(struct neomm *root, struct neomm_space *space, neomm_vaddr_t page,
                             bool write, neomm_frame_t *frame)
{
    struct neomm__vmm *vmm = root->vmm;
    for (;;) {
        struct pin pin = {.root = root, .write = write};
        struct neomm__region *region = neomm__region_enter(root, space, page);
        uint32_t ends = neomm__evictions_wait_begin(vmm);
        pin.shared = region && (region->flags & NEOMM__REGION_SHARED);
        neomm_status status =
            neomm_paging_walk(root, &space->tables, page, NEOMM_PAGE_SIZE, pin_leaf, &pin);
        if (region)
            neomm__region_exit(region);
        neomm__evictions_wait_end(vmm, ends, pin.busy ? UINT64_MAX : 0);
        if (pin.entry)
            *frame = pin.frame;
        if (pin.entry || pin.status != NEOMM_OK || status != NEOMM_OK)
            return status == NEOMM_OK ? pin.status : status;
        status = pin.busy ? NEOMM_OK : fault_in(root, space, page, write);
        if (status != NEOMM_OK)
            return status;
    }
}

neomm_status neomm_user_pin(struct neomm *root, struct neomm_space *space, neomm_vaddr_t address,
                            uint32_t pages, bool write, neomm_frame_t *frames, uint32_t *done)
{
    neomm_vaddr_t at = NEOMM__ALIGN_DOWN(address, NEOMM_PAGE_SIZE);
    *done = 0;
    if (!neomm__is_user_range(root, at, (uint64_t)pages << NEOMM_PAGE_SHIFT))
        return NEOMM_E_RANGE;
    neomm__lock_assert_none("pin: may sleep, and a lock is held");
    for (; *done < pages; ++*done, at += NEOMM_PAGE_SIZE) {
        neomm_status status = pin_page(root, space, at, write, &frames[*done]);
        if (status != NEOMM_OK)
            return status;
    }
    return NEOMM_OK;
}

void neomm_user_unpin(struct neomm *root, const neomm_frame_t *frames, uint32_t count, bool dirty)
{
    for (uint32_t i = 0; i < count; i++) {
        struct neomm__frame *entry = neomm__frame(root, frames[i]);
        NEOMM__ASSERT(neomm__frame_is_user(entry) && neomm__frame_pins(entry) != 0);
        /* (what is pinned of the cache stays dirty by itself) */
        if (dirty && entry->kind != NEOMM__KIND_CACHE)
            neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
        neomm__user_frame_unpin(root, frames[i]);
    }
}
