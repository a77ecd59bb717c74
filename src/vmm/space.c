/* Address spaces: the table of them, their life, and what keeps them.
 * SPDX-License-Identifier: MIT */
#include "swap/remove.h"
#include "vmm/object.h"
#include "vmm/tally.h"

/* ---- counts ---- */

struct neomm__tally neomm__tally_sum(const struct neomm *root, const struct neomm_space *space)
{
    struct neomm__tally sum = {0, 0, 0, 0, 0};
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++) {
        const struct neomm__tally *part = &space->tally[cpu];
        sum.resident += neomm__load_acquire(&part->resident);
        sum.zero += neomm__load_relaxed(&part->zero);
        sum.swap_in += neomm__load_relaxed(&part->swap_in);
        sum.copy += neomm__load_relaxed(&part->copy);
        sum.other += neomm__load_relaxed(&part->other);
    }
    return sum;
}

void neomm__resident_add(struct neomm_space *space, size_t n)
{
    neomm_irq_t irq = neomm_port_irq_save();
    neomm__tally_add(&space->tally[neomm_port_cpu()->index].resident, n);
    neomm_port_irq_restore(irq);
}

size_t neomm__resident(const struct neomm *root, const struct neomm_space *space)
{
    size_t pages = 0;
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        pages += neomm__load_acquire(&space->tally[cpu].resident);
    return pages <= SIZE_MAX / 2 ? pages : 0;
}

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

static char fit_for_a_table(char c)
{
    return c > ' ' && c <= '~' && c != '"' && c != '\\' ? c : '_';
}

void neomm__space_set_name(struct neomm_space *space, const char *name)
{
    uint32_t i = 0;
    for (; name && i < NEOMM_SPACE_NAME - 1 && name[i]; i++)
        space->name[i] = fit_for_a_table(name[i]);
    space->name[i] = '\0';
}

neomm_status neomm_space_create_named(struct neomm *root, const char *name,
                                      struct neomm_space **space)
{
    const struct neomm_config_process *process = neomm_config_process(&root->config, name);
    if (!root->vmm)
        return NEOMM_E_NOENT;
    uint64_t ram = root->vmm->ram_pages << NEOMM_PAGE_SHIFT;
    const struct neomm_limits limits = {
        neomm_config_bytes(process->virtual_limit, ram),
        neomm_config_bytes(process->resident_limit, ram),
        neomm_config_bytes(process->swap_limit, ram),
        neomm_config_bytes(process->locked_limit, ram),
    };
    neomm_status status = neomm_space_create(root, &limits, space);
    if (status == NEOMM_OK)
        neomm__space_set_name(*space, name);
    return status;
}

neomm_status neomm_space_create(struct neomm *root, const struct neomm_limits *limits,
                                struct neomm_space **space)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!vmm)
        return NEOMM_E_NOENT;
    if (NEOMM__FAULT(VMM_SPACE))
        return NEOMM_E_NOMEM;
    struct neomm_space *made =
        neomm_kmalloc_aligned(root, sizeof(*made) + root->cpus * sizeof(made->tally[0]),
                              _Alignof(struct neomm_space), NEOMM_ZERO);
    if (!made)
        return NEOMM_E_NOMEM;
    neomm__lock_init(&made->lock, NEOMM_LOCK_CLASS_SPACE);
    made->users = 1;
    made->map.root = root;
    made->limits = limits ? *limits
                          : (struct neomm_limits){NEOMM_UNLIMITED, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                                  NEOMM_UNLIMITED};
    made->random = neomm__space_random(root);
    neomm_status status = enter_table(vmm, made);
    if (status == NEOMM_OK) {
        if (made->limits.resident_bytes != NEOMM_UNLIMITED) {
            neomm_policy_init(&made->policy, root, vmm->policy, made->index);
            neomm__store_release(&made->has_domain, 1);
        }
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

/* Those who had found the space hold it, and drop it again. The lock is held on return. */
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

static void hide(struct neomm__vmm *vmm, struct neomm_space *space)
{
    neomm__mutex_lock(&vmm->spaces_lock);
    space->dying = true;
    neomm__mutex_unlock(&vmm->spaces_lock);
}

static bool is_loaded(const struct neomm_space *space)
{
    for (unsigned i = 0; i < NEOMM_CPU_WORDS; i++)
        if (neomm__load_acquire(&space->tables.cpus.word[i]) != 0)
            return true;
    return false;
}

void neomm_space_share(struct neomm *root, struct neomm_space *space)
{
    (void)root;
    (void)neomm__fetch_add(&space->users, 1);
}

/* As long as a frame has a mapping of the space, the space is found through it: so its index stays
 * its own until nobody can have come that way. */
static void empty(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    wait_until_left(space);
    neomm_status status = neomm__range_clear(root, space, layout->user_base, layout->user_limit);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__mutex_unlock(&space->lock);
    wait_until_left(space);
    neomm__mutex_unlock(&space->lock);
    NEOMM__ASSERT(neomm__resident(root, space) == 0 && space->swap_pages == 0);
}

neomm_status neomm_space_destroy(struct neomm *root, struct neomm_space *space)
{
    if (neomm__load_acquire(&space->users) == 1 && is_loaded(space))
        return NEOMM_E_BUSY;
    if (neomm__fetch_sub(&space->users, 1) > 1)
        return NEOMM_OK;
    hide(root->vmm, space);
    empty(root, space);
    if (space->suspended)
        (void)neomm__fetch_sub(&root->vmm->load.suspended, 1);
    leave_table(root->vmm, space);
    neomm__swap_stir(root);
    neomm_status status = neomm_paging_destroy(root, &space->tables);
    NEOMM__ASSERT(status == NEOMM_OK);
    neomm__regions_free(root, &space->map);
    neomm__objects_end(root);
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
    struct neomm_space *space =
        root->vmm && index < NEOMM__SPACE_MAX ? root->vmm->space[index] : NULL;
    return space && !space->dying ? space : NULL;
}

struct neomm_tables *neomm_space_tables(struct neomm_space *space)
{
    return &space->tables;
}

struct neomm_space *neomm__space_hold_at(struct neomm *root, uint32_t index)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!neomm__mutex_try_lock(&vmm->spaces_lock))
        return NULL;
    struct neomm_space *space = neomm_space_at(root, index);
    if (space)
        (void)neomm__fetch_add(&space->busy, 1);
    neomm__mutex_unlock(&vmm->spaces_lock);
    return space;
}

struct neomm_space *neomm__space_hold_filling(struct neomm *root, uint64_t mapping)
{
    if (mapping & NEOMM__RMAP_OBJECT)
        return NULL;
    struct neomm_space *space = root->vmm->space[neomm__mapping_space(mapping)];
    (void)neomm__fetch_add(&space->busy, 1);
    return space;
}

struct neomm_space *neomm__space_hold_of(struct neomm *root, uint64_t mapping)
{
    const struct neomm_space *space =
        mapping & NEOMM__RMAP_OBJECT ? NULL : root->vmm->space[neomm__mapping_space(mapping)];
    return space && neomm__load_acquire(&space->filling) == 0
               ? neomm__space_hold_filling(root, mapping)
               : NULL;
}

void neomm__space_drop(struct neomm_space *space)
{
    const uint32_t *word = &space->busy;
    if (neomm__fetch_sub(&space->busy, 1) == 1)
        neomm_port_wake(word, UINT32_MAX);
}

void neomm__space_leave(struct neomm_space *space)
{
    (void)neomm__fetch_add(&space->busy, 1);
    neomm__mutex_unlock(&space->lock);
}

void neomm__space_reenter(struct neomm_space *space)
{
    neomm__mutex_lock(&space->lock);
    neomm__space_drop(space);
}

void neomm_space_stats(struct neomm *root, struct neomm_space *space,
                       struct neomm_space_stats *stats)
{
    neomm__mutex_lock(&space->lock);
    const struct neomm__tally tally = neomm__tally_sum(root, space);
    *stats = (struct neomm_space_stats){
        .index = space->index,
        .regions = space->map.count,
        .virtual_bytes = space->virtual_pages << NEOMM_PAGE_SHIFT,
        .resident_bytes = (uint64_t)tally.resident << NEOMM_PAGE_SHIFT,
        .swap_bytes = (uint64_t)space->swap_pages << NEOMM_PAGE_SHIFT,
        .locked_bytes = space->locked_pages << NEOMM_PAGE_SHIFT,
        .table_bytes = (uint64_t)(space->tables.table_frames + 1) << NEOMM_PAGE_SHIFT,
        .faults_zero = tally.zero,
        .faults_swap_in = tally.swap_in,
        .faults_copy = tally.copy,
        .faults_other = tally.other,
        .evictions = space->evictions,
        .swap_writes = space->swap_writes,
        .working_set_bytes = (uint64_t)(space->working_set / 16) << NEOMM_PAGE_SHIFT,
        .refaults = space->refaults,
        .refaults_near = space->refaults_near,
        .read_ahead = space->read_ahead,
        .ahead_used = space->ahead_used,
        .ahead_wasted = space->ahead_wasted,
        .swap_outs = space->swap_outs,
        .away_pages = neomm__load_relaxed(&space->away.pages),
        .back_pages = neomm__load_relaxed(&space->away.back),
        .suspensions = space->suspensions,
        .suspended = neomm__load_acquire(&space->suspended),
        .oom_bias = (int32_t)neomm__load_acquire(&space->oom_bias),
        .oom_victim = neomm__is_victim(space),
    };
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    stats->back_ns = space->away.ns;
    neomm__unlock(&root->vmm->policy_lock, irq);
    int32_t score = neomm_space_oom_score(root, space);
    stats->oom_score = score > 0 ? (uint32_t)score : 0;
    memcpy(stats->name, space->name, sizeof(stats->name));
    neomm__mutex_unlock(&space->lock);
}
