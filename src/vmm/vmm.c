/* The address-space layer: beginning, end, and what the base asks of it.
 * SPDX-License-Identifier: MIT */
#include "swap/remove.h"
#include "vmm/evict.h"
#include "vmm/readahead.h"

/* Dirty pages of the cache, as a share of RAM, above which they are written back. */
#define DIRTY_SHARE 10u

static void vmm_snapshot(struct neomm *root, struct neomm_snapshot *snapshot)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm_pressure_get(root, &snapshot->pressure);
    neomm_cache_stats(root, &snapshot->page_cache);
    neomm__mutex_lock(&vmm->spaces_lock);
    snapshot->spaces = vmm->spaces;
    for (uint32_t i = 1; i < NEOMM__SPACE_MAX && snapshot->listed < NEOMM_SNAPSHOT_SPACES; i++)
        if (neomm_space_at(root, i))
            neomm_space_stats(root, vmm->space[i], &snapshot->space[snapshot->listed++]);
    neomm__mutex_unlock(&vmm->spaces_lock);
}

static const struct neomm__layer_ops vmm_ops = {"vmm", neomm__vmm_fsck, vmm_snapshot};

static neomm_status make_zero_page(struct neomm *root, struct neomm__vmm *vmm, bool wanted)
{
    if (!wanted)
        return NEOMM_OK;
    return neomm_pmm_alloc(root, 0, NEOMM_ZERO | NEOMM_NORECLAIM, &vmm->zero);
}

static uint64_t usable_frames(struct neomm *root)
{
    uint64_t frames = 0;
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats stats;
        neomm_pmm_zone_stats(root, (enum neomm_zone)zone, &stats);
        frames += stats.free + stats.used;
    }
    return frames;
}

static bool make_write_backs(struct neomm *root, struct neomm__vmm *vmm)
{
    vmm->write_back =
        neomm_kzalloc(root, NEOMM__WRITE_BACKS * sizeof(*vmm->write_back), NEOMM_NORECLAIM);
    return vmm->write_back != NULL;
}

static bool make_caches(struct neomm *root, struct neomm__vmm *vmm)
{
    const struct neomm_kmem_options region = {.name = "region",
                                              .size = sizeof(struct neomm__region)};
    const struct neomm_kmem_options node = {.name = "region node",
                                            .size = sizeof(struct neomm__region_node),
                                            .align = _Alignof(struct neomm__region_node)};
    vmm->cpu = neomm_kmalloc_aligned(root, root->cpus * sizeof(*vmm->cpu),
                                     _Alignof(struct neomm__vmm_cpu), NEOMM_NORECLAIM | NEOMM_ZERO);
    vmm->region_cache = neomm_kmem_create(root, &region);
    vmm->node_cache = neomm_kmem_create(root, &node);
    return vmm->cpu && vmm->region_cache && vmm->node_cache;
}

static void end_state(struct neomm *root, struct neomm__vmm *vmm)
{
    neomm__readahead_fini(root, vmm);
    if (vmm->region_cache)
        (void)neomm_kmem_destroy(root, vmm->region_cache);
    if (vmm->node_cache)
        (void)neomm_kmem_destroy(root, vmm->node_cache);
    (void)neomm_kfree(root, vmm->cpu);
    if (!neomm_frame_is_nil(vmm->zero)) {
        neomm_status status = neomm_pmm_free(root, vmm->zero, 0);
        NEOMM__ASSERT(status == NEOMM_OK);
    }
    (void)neomm_kfree(root, vmm->write_back);
    (void)neomm_kfree(root, vmm);
}

neomm_status neomm_vmm_init(struct neomm *root, const struct neomm_vmm_options *options)
{
    if (root->vmm)
        return NEOMM_E_EXISTS;
    if (!root->paging || !root->heap || !root->swap)
        return NEOMM_E_NOENT;
    const char *name = options && options->policy ? options->policy : root->config.policy;
    const struct neomm_policy_ops *policy = neomm_policy_find(root, name);
    if (!policy)
        return NEOMM_E_NOENT;
    if (NEOMM__FAULT(VMM_STATE))
        return NEOMM_E_NOMEM;
    struct neomm__vmm *vmm = neomm_kzalloc(root, sizeof(*vmm), NEOMM_NORECLAIM);
    if (!vmm)
        return NEOMM_E_NOMEM;
    neomm__lock_init(&vmm->spaces_lock, NEOMM_LOCK_CLASS_SPACES);
    neomm__lock_init(&vmm->policy_lock, NEOMM_LOCK_CLASS_POLICY);
    vmm->policy = policy;
    neomm_policy_init(&vmm->global, root, policy, 0);
    neomm_policy_init(&vmm->cache, root, policy, 0);
    neomm__pressure_init(&vmm->pressure);
    vmm->background.priority = 12;
    vmm->next_index = 1;
    vmm->ram_pages = usable_frames(root);
    vmm->counts.dirty_limit = (size_t)(vmm->ram_pages / DIRTY_SHARE);
    vmm->aslr = options ? options->aslr : root->config.aslr;
    vmm->huge = options ? options->huge : (enum neomm_huge)root->config.huge;
    vmm->overcommit =
        options ? options->overcommit : (enum neomm_overcommit)root->config.overcommit;
    neomm_status status =
        make_zero_page(root, vmm, options ? options->zero_page : root->config.zero_page);
    if (status == NEOMM_OK && !(make_caches(root, vmm) && make_write_backs(root, vmm)))
        status = NEOMM_E_NOMEM;
    if (status == NEOMM_OK)
        status =
            neomm__readahead_init(root, vmm, options ? options->readahead : root->config.readahead);
    if (status != NEOMM_OK) {
        end_state(root, vmm);
        return status;
    }
    root->vmm = vmm;
    root->layer[NEOMM__LAYER_VMM] = &vmm_ops;
    neomm_pmm_set_reclaim(root, neomm__reclaim_callback, root);
    neomm_pmm_set_low(root, neomm__low_callback, root);
    neomm_pmm_set_compact(root, neomm__compact_callback, root);
    neomm__swap_set_evacuate(root, neomm__evacuate);
    return NEOMM_OK;
}

neomm_status neomm_vmm_fini(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!vmm)
        return NEOMM_E_NOENT;
    if (vmm->spaces != 0 || vmm->objects != 0 || neomm__load_acquire(&vmm->vallocs) != 0)
        return NEOMM_E_BUSY;
    neomm_pmm_set_reclaim(root, NULL, NULL);
    neomm_pmm_set_low(root, NULL, NULL);
    neomm_pmm_set_compact(root, NULL, NULL);
    neomm__swap_set_evacuate(root, NULL);
    root->layer[NEOMM__LAYER_VMM] = NULL;
    root->vmm = NULL;
    end_state(root, vmm);
    return NEOMM_OK;
}
