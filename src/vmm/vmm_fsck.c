/* The consistency check of the address spaces: regions, leaves, descriptors, counts, domains.
 * SPDX-License-Identifier: MIT */
#include "swap/policy.h"
#include "vmm/vmm_priv.h"

struct check {
    struct neomm *root;
    struct neomm_space *space;
    struct neomm__report *report;
    uint64_t resident, swapped, committed;
};

static void check_count(struct check *check, const char *what, uint64_t found, uint64_t counted)
{
    if (found != counted)
        neomm__report(check->report, "vmm: space %u: %llu pages %s, counted are %llu",
                      check->space->index, (unsigned long long)found, what,
                      (unsigned long long)counted);
}

static void check_regions(struct check *check)
{
    const struct neomm__region_map *map = &check->space->map;
    struct neomm__cost cost = {0, 0, 0};
    neomm__region_map_fsck(map, check->space->index, check->report);
    struct neomm__region_place place = neomm__region_place(map, 0);
    const struct neomm__region *region = neomm__region_at(place);
    for (; region; region = neomm__region_next(&place)) {
        if (!neomm__is_user_range(check->root, region->start, region->end - region->start))
            neomm__report(check->report, "vmm: space %u: region [%#zx, %#zx) is not the user's",
                          check->space->index, (size_t)region->start, (size_t)region->end);
        neomm__cost_add(&cost, (region->end - region->start) >> NEOMM_PAGE_SHIFT, region->flags);
    }
    check_count(check, "in regions", cost.pages, check->space->virtual_pages);
    check_count(check, "in locked regions", cost.locked, check->space->locked_pages);
    check->committed += cost.committed;
}

static void check_present(struct check *check, neomm_vaddr_t vaddr,
                          const struct neomm_mapping *leaf)
{
    neomm_frame_t frame = neomm_paddr_frame(leaf->paddr);
    uint32_t index = check->space->index;
    if (frame.number == check->root->vmm->zero.number) {
        if (leaf->prot & NEOMM_PROT_WRITE)
            neomm__report(check->report, "vmm: space %u: %#zx: the frame of zeros is writable",
                          index, (size_t)vaddr);
        return;
    }
    check->resident++;
    const struct neomm__frame *entry = neomm__frame(check->root, frame);
    if (!entry || entry->kind != NEOMM__KIND_USER) {
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x is not user memory", index,
                      (size_t)vaddr, frame.number);
        return;
    }
    if (entry->mapping != neomm__mapping_make(index, vaddr) || entry->mappings != 1)
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x does not lead back", index,
                      (size_t)vaddr, frame.number);
    if (entry->references < 1 || !neomm__frame_has(entry, NEOMM__FRAME_POLICY))
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x: %u references, flags %#x",
                      index, (size_t)vaddr, frame.number, entry->references, entry->flags);
}

static void check_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct check *check = context;
    const struct neomm__region *region = neomm__region_find(&check->space->map, vaddr);
    if (!region) {
        neomm__report(check->report, "vmm: space %u: %#zx is mapped outside every region",
                      check->space->index, (size_t)vaddr);
    } else if (leaf->state == NEOMM_MAPPING_PRESENT && (leaf->prot & ~region->prot)) {
        neomm__report(check->report, "vmm: space %u: %#zx has rights %#x, its region %#x",
                      check->space->index, (size_t)vaddr, leaf->prot, region->prot);
    }
    if (region && (region->flags & NEOMM__REGION_PHYSICAL))
        return;
    if (leaf->state == NEOMM_MAPPING_PRESENT)
        check_present(check, vaddr, leaf);
    else
        check->swapped++;
}

/* Pages of spaces without a domain of their own come back. */
static uint64_t check_space(struct neomm *root, struct neomm_space *space, uint64_t *committed,
                            struct neomm__report *report)
{
    const struct neomm_layout *layout = &root->layout;
    struct check check = {root, space, report, 0, 0, 0};
    check_regions(&check);
    *committed += check.committed;
    neomm_status status =
        neomm_paging_walk(root, &space->tables, layout->user_base,
                          layout->user_limit - layout->user_base, check_leaf, &check);
    if (status != NEOMM_OK)
        neomm__report(report, "vmm: space %u: tables cannot be walked: %s", space->index,
                      neomm_status_text(status));
    check_count(&check, "resident", check.resident, space->resident_pages);
    check_count(&check, "in swap", check.swapped, space->swap_pages);
    if (space->policy.ops) {
        neomm__policy_fsck(&space->policy, report);
        check_count(&check, "in its domain", space->policy.count, check.resident);
        return 0;
    }
    return check.resident;
}

void neomm__vmm_fsck(struct neomm *root, struct neomm__report *report)
{
    struct neomm__vmm *vmm = root->vmm;
    uint64_t global = 0, committed = 0;
    uint32_t spaces = 0;
    for (uint32_t i = 1; i < NEOMM__SPACE_MAX; i++) {
        if (!vmm->space[i])
            continue;
        spaces++;
        global += check_space(root, vmm->space[i], &committed, report);
    }
    if (spaces != vmm->spaces)
        neomm__report(report, "vmm: %u spaces in the table, counted are %u", spaces, vmm->spaces);
    if (committed != vmm->committed)
        neomm__report(report, "vmm: %llu pages are committed, counted are %u",
                      (unsigned long long)committed, vmm->committed);
    neomm__policy_fsck(&vmm->global, report);
    if (global != vmm->global.count)
        neomm__report(report, "vmm: the global domain holds %u frames, its spaces %llu",
                      vmm->global.count, (unsigned long long)global);
}
