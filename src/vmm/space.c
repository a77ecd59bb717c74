/* Address spaces: the table of them, their life, and the frames that belong to them.
 * SPDX-License-Identifier: MIT */
#include "vmm/vmm_priv.h"

/* ---- life ---- */

static uint32_t free_index(struct neomm__vmm *vmm)
{
    for (uint32_t tried = 0; tried < NEOMM__SPACE_MAX - 1; tried++) {
        uint32_t index = vmm->next_index;
        vmm->next_index = index + 1 < NEOMM__SPACE_MAX ? index + 1 : 1;
        if (!vmm->space[index])
            return index;
    }
    return 0;
}

static neomm_status enter_table(struct neomm__vmm *vmm, struct neomm_space *space)
{
    neomm__mutex_lock(&vmm->spaces_lock);
    uint32_t index = free_index(vmm);
    if (index != 0) {
        space->index = index;
        vmm->space[index] = space;
        vmm->spaces++;
    }
    neomm__mutex_unlock(&vmm->spaces_lock);
    return index != 0 ? NEOMM_OK : NEOMM_E_NOSPACE;
}

static void leave_table(struct neomm__vmm *vmm, struct neomm_space *space)
{
    neomm__mutex_lock(&vmm->spaces_lock);
    vmm->space[space->index] = NULL;
    vmm->spaces--;
    neomm__mutex_unlock(&vmm->spaces_lock);
}

neomm_vaddr_t neomm__space_random(struct neomm *root)
{
    if (!root->vmm->aslr)
        return 0;
    const uint64_t mask = ((uint64_t)1 << NEOMM_ASLR_BITS) - 1;
    return (neomm_vaddr_t)(neomm_port_entropy() & mask) << NEOMM_PAGE_SHIFT;
}

neomm_status neomm_space_create(struct neomm *root, const struct neomm_limits *limits,
                                struct neomm_space **space)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!vmm)
        return NEOMM_E_NOENT;
    if (NEOMM__FAULT(VMM_SPACE))
        return NEOMM_E_NOMEM;
    struct neomm_space *made = neomm_kzalloc(root, sizeof(*made), 0);
    if (!made)
        return NEOMM_E_NOMEM;
    neomm__lock_init(&made->lock, NEOMM_LOCK_CLASS_SPACE);
    made->limits = limits ? *limits
                          : (struct neomm_limits){NEOMM_UNLIMITED, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                                  NEOMM_UNLIMITED};
    made->random = neomm__space_random(root);
    neomm_status status = enter_table(vmm, made);
    if (status == NEOMM_OK) {
        if (made->limits.resident_bytes != NEOMM_UNLIMITED)
            neomm_policy_init(&made->policy, root, vmm->global.ops, made->index);
        status = neomm_paging_create(root, &made->tables, made->index);
        if (status != NEOMM_OK)
            leave_table(vmm, made);
    }
    if (status != NEOMM_OK) {
        (void)neomm_kfree(root, made);
        return status;
    }
    *space = made;
    return NEOMM_OK;
}

/* Nobody can find the space any more once it is out of the table; those who had found it are
 * counted in `busy` and come back to its lock. */
static void wait_until_left(struct neomm_space *space)
{
    for (;;) {
        neomm__mutex_lock(&space->lock);
        uint32_t busy = neomm__load_acquire(&space->busy);
        if (busy == 0)
            return;
        neomm__mutex_unlock(&space->lock);
        (void)neomm_port_wait(&space->busy, busy, UINT64_MAX);
    }
}

static bool is_loaded(const struct neomm_space *space)
{
    for (unsigned i = 0; i < NEOMM_CPU_WORDS; i++)
        if (neomm__load_acquire(&space->tables.cpus.word[i]) != 0)
            return true;
    return false;
}

neomm_status neomm_space_destroy(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    if (is_loaded(space))
        return NEOMM_E_BUSY;
    leave_table(root->vmm, space);
    wait_until_left(space);
    neomm__range_clear(root, space, layout->user_base, layout->user_limit);
    NEOMM__ASSERT(space->resident_pages == 0 && space->swap_pages == 0);
    neomm_status status = neomm_paging_destroy(root, &space->tables);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__regions_free(root, &space->map);
    neomm__mutex_unlock(&space->lock);
    return neomm_kfree(root, space);
}

/* ---- looking up ---- */

void neomm_space_activate(struct neomm *root, struct neomm_space *space)
{
    neomm_paging_activate(root, space ? &space->tables : neomm_paging_kernel(root));
}

uint32_t neomm_space_index(const struct neomm_space *space)
{
    return space->index;
}

struct neomm_space *neomm_space_at(struct neomm *root, uint32_t index)
{
    return root->vmm && index < NEOMM__SPACE_MAX ? root->vmm->space[index] : NULL;
}

struct neomm_tables *neomm_space_tables(struct neomm_space *space)
{
    return &space->tables;
}

struct neomm_space *neomm__space_try_lock(struct neomm *root, uint32_t index)
{
    struct neomm__vmm *vmm = root->vmm;
    struct neomm_space *found = NULL;
    if (!neomm__mutex_try_lock(&vmm->spaces_lock))
        return NULL;
    struct neomm_space *space = neomm_space_at(root, index);
    if (space && neomm__mutex_try_lock(&space->lock))
        found = space;
    neomm__mutex_unlock(&vmm->spaces_lock);
    return found;
}

void neomm__space_leave(struct neomm_space *space)
{
    (void)neomm__fetch_add(&space->busy, 1);
    neomm__mutex_unlock(&space->lock);
}

void neomm__space_reenter(struct neomm_space *space)
{
    neomm__mutex_lock(&space->lock);
    if (neomm__fetch_sub(&space->busy, 1) == 1)
        neomm_port_wake(&space->busy, UINT32_MAX);
}

void neomm_space_stats(struct neomm *root, struct neomm_space *space,
                       struct neomm_space_stats *stats)
{
    (void)root;
    neomm__mutex_lock(&space->lock);
    *stats = (struct neomm_space_stats){
        .index = space->index,
        .regions = space->map.count,
        .virtual_bytes = space->virtual_pages << NEOMM_PAGE_SHIFT,
        .resident_bytes = space->resident_pages << NEOMM_PAGE_SHIFT,
        .swap_bytes = space->swap_pages << NEOMM_PAGE_SHIFT,
        .locked_bytes = space->locked_pages << NEOMM_PAGE_SHIFT,
        .table_bytes = (uint64_t)(space->tables.table_frames + 1) << NEOMM_PAGE_SHIFT,
        .faults_zero = space->faults_zero,
        .faults_swap_in = space->faults_swap_in,
        .faults_other = space->faults_other,
        .evictions = space->evictions,
        .swap_writes = space->swap_writes,
    };
    neomm__mutex_unlock(&space->lock);
}

/* ---- frames of a space ---- */

void neomm__user_frame_enter(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             neomm_vaddr_t vaddr)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_policy *policy = neomm__space_policy(root, space);
    entry->kind = NEOMM__KIND_USER;
    entry->mapping = neomm__mapping_make(space->index, vaddr);
    entry->mappings = 1;
    space->resident_pages++;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm__frame_set(entry, NEOMM__FRAME_POLICY);
    policy->ops->enter(policy, frame);
    neomm__unlock(&root->vmm->policy_lock, irq);
}

static void leave_policy(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_policy *policy = neomm__space_policy(root, space);
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    if (neomm__frame_has(entry, NEOMM__FRAME_POLICY)) {
        policy->ops->leave(policy, frame, slot);
        neomm__frame_clear(entry, NEOMM__FRAME_POLICY);
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
}

void neomm__user_frame_put(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    if (neomm__load_acquire(&entry->references) > 1) {
        (void)neomm__fetch_sub(&entry->references, 1);
        return;
    }
    entry->kind = NEOMM__KIND_NONE;
    neomm__frame_clear(entry, ~NEOMM__FRAME_ALLOCATED);
    entry->owner = 0;
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

void neomm__user_frame_leave(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                             const struct neomm_swap_entry *kept)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    struct neomm_swap_entry slot;
    leave_policy(root, space, frame, kept);
    if (neomm__frame_has(entry, NEOMM__FRAME_SLOT) && !kept &&
        neomm_swap_entry_of(root, entry->owner, &slot) == NEOMM_OK)
        (void)neomm_swap_free(root, slot);
    neomm__frame_clear(entry, NEOMM__FRAME_SLOT | NEOMM__FRAME_DIRTY);
    entry->mapping = 0;
    entry->mappings = 0;
    space->resident_pages--;
    neomm__user_frame_put(root, frame);
}

void neomm__user_leaf_moved(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr,
                            const struct neomm_mapping *leaf)
{
    if (leaf->state != NEOMM_MAPPING_PRESENT || leaf->paddr == neomm_frame_paddr(root->vmm->zero))
        return;
    struct neomm__frame *entry = neomm__frame(root, neomm_paddr_frame(leaf->paddr));
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    entry->mapping = neomm__mapping_make(space->index, vaddr);
    neomm__unlock(&root->vmm->policy_lock, irq);
}

void neomm__user_leaf_release(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct neomm__release *release = context;
    struct neomm *root = release->root;
    (void)vaddr;
    if (leaf->state == NEOMM_MAPPING_SWAPPED) {
        (void)neomm_swap_free(root, leaf->swap);
        release->space->swap_pages--;
    } else if (leaf->paddr != neomm_frame_paddr(root->vmm->zero)) {
        neomm__user_frame_leave(root, release->space, neomm_paddr_frame(leaf->paddr), NULL);
    }
}
