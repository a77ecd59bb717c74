/* The consistency check of the address spaces: regions, leaves, descriptors, counts, domains.
 * SPDX-License-Identifier: MIT */
#include "swap/policy.h"
#include "swap/swap_cache.h"
#include "vmm/object.h"
#include "vmm/tally.h"

struct check {
    struct neomm *root;
    struct neomm_space *space;
    struct neomm__report *report;
    uint64_t resident, swapped, committed;
    uint64_t shared; /* leaves of frames that are in the global domain for having had several */
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

/* What others may find in the swap cache, none may write to. */
static void check_cached(struct check *check, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf,
                         neomm_frame_t frame)
{
    const struct neomm__frame *entry = neomm__frame(check->root, frame);
    struct neomm_swap_entry slot;
    if (!(leaf->prot & NEOMM_PROT_WRITE) || !neomm__frame_has(entry, NEOMM__FRAME_SLOT) ||
        neomm_swap_entry_of(check->root, entry->owner, &slot) != NEOMM_OK)
        return;
    if (neomm__swap_cached(check->root, slot).number == frame.number &&
        neomm_swap_users(check->root, slot) > 1)
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x is cached and writable",
                      check->space->index, (size_t)vaddr, frame.number);
}

static void check_present(struct check *check, neomm_vaddr_t vaddr,
                          const struct neomm_mapping *leaf, const struct neomm__region *region)
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
    if (!neomm__frame_is_user(entry)) {
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x is not user memory", index,
                      (size_t)vaddr, frame.number);
        return;
    }
    check->shared += entry->kind != NEOMM__KIND_USER;
    if (!neomm__rmap_has(check->root, entry, neomm__mapping_make(index, vaddr)))
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x does not lead back", index,
                      (size_t)vaddr, frame.number);
    if ((leaf->prot & NEOMM_PROT_WRITE) && neomm__rmap_count(entry) > 1 &&
        !neomm__frame_is_object(entry))
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x is writable and has %u leaves",
                      index, (size_t)vaddr, frame.number, neomm__rmap_count(entry));
    if (region && (leaf->prot & NEOMM_PROT_WRITE) && neomm__frame_is_object(entry) &&
        (!(region->flags & NEOMM__REGION_SHARED) ||
         (entry->kind == NEOMM__KIND_CACHE && !neomm__frame_has(entry, NEOMM__FRAME_DIRTY))))
        neomm__report(check->report, "vmm: space %u: %#zx: frame %#x of an object is writable",
                      index, (size_t)vaddr, frame.number);
    check_cached(check, vaddr, leaf, frame);
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
        check_present(check, vaddr, leaf, region);
    else
        check->swapped++;
}

static void check_space(struct check *check)
{
    struct neomm_space *space = check->space;
    const struct neomm_layout *layout = &check->root->layout;
    check_regions(check);
    neomm_status status = neomm__walk(check->root, space, layout->user_base,
                                      layout->user_limit - layout->user_base, check_leaf, check);
    if (status != NEOMM_OK)
        neomm__report(check->report, "vmm: space %u: tables cannot be walked: %s", space->index,
                      neomm_status_text(status));
    check_count(check, "resident", check->resident, neomm__resident(check->root, space));
    check_count(check, "in swap", check->swapped, space->swap_pages);
    if (space->busy != 0 || space->users == 0 || space->filling)
        neomm__report(check->report, "vmm: space %u: %u holds, %u users", space->index, space->busy,
                      space->users);
    if (neomm__has_domain(space)) {
        neomm__policy_fsck(&space->policy, check->report);
        check_count(check, "in its domain", check->resident - check->shared, space->policy.count);
    }
}

/* Frames of user memory: their sets, and how many there are. */
struct frames {
    uint64_t mappings, own, shared;
};

static void check_frame(struct neomm *root, neomm_frame_t frame, struct frames *frames,
                        struct neomm__report *report)
{
    const struct neomm__frame *entry = neomm__frame(root, frame);
    if (!neomm__frame_is_user(entry))
        return;
    const char *wrong = neomm__rmap_fsck(root, entry);
    if (wrong)
        neomm__report(report, "vmm: frame %#x: its mapping set %s", frame.number, wrong);
    uint32_t pins = neomm__frame_pins(entry), others = entry->references % NEOMM__FRAME_PIN;
    if (others != (neomm__rmap_count(entry) != 0) || neomm__rmap_count(entry) + pins == 0)
        neomm__report(report, "vmm: frame %#x: %u mappings, %u references and %u pins",
                      frame.number, neomm__rmap_count(entry), others, pins);
    if (neomm__rmap_count(entry) == 0)
        return;
    frames->mappings += neomm__rmap_count(entry);
    frames->own += entry->kind == NEOMM__KIND_USER;
    frames->shared += entry->kind != NEOMM__KIND_USER;
}

static void check_frames(struct neomm *root, struct frames *frames, struct neomm__report *report)
{
    for (uint32_t section = 0; section < root->frames.sections; section++)
        for (uint32_t i = 0; root->frames.section[section] != 0 && i < NEOMM__SECTION_FRAMES; i++)
            check_frame(root, neomm_frame((section << NEOMM__SECTION_SHIFT) + i), frames, report);
}

void neomm__vmm_fsck(struct neomm *root, struct neomm__report *report)
{
    struct neomm__vmm *vmm = root->vmm;
    struct frames frames = {0, 0, 0};
    uint64_t leaves = 0, limited = 0, committed = 0;
    uint32_t spaces = 0;
    neomm__newcomers_flush(root);
    for (uint32_t i = 1; i < NEOMM__SPACE_MAX; i++) {
        struct check check = {.root = root, .space = vmm->space[i], .report = report};
        if (!check.space)
            continue;
        spaces++;
        check_space(&check);
        leaves += check.resident;
        committed += check.committed;
        limited += neomm__has_domain(check.space) ? check.space->policy.count : 0;
    }
    for (uint32_t i = 1; i < NEOMM__OBJECT_MAX; i++)
        leaves += vmm->object[i] ? neomm__object_fsck(root, vmm->object[i], report) : 0;
    if (spaces != vmm->spaces)
        neomm__report(report, "vmm: %u spaces in the table, counted are %u", spaces, vmm->spaces);
    if (committed != vmm->committed)
        neomm__report(report, "vmm: %llu pages are committed, counted are %zu",
                      (unsigned long long)committed, vmm->committed);
    neomm__policy_fsck(&vmm->global, report);
    neomm__policy_fsck(&vmm->cache, report);
    check_frames(root, &frames, report);
    neomm__swap_cache_fsck(root, report);
    if (frames.mappings != leaves)
        neomm__report(report, "vmm: %llu leaves and pages of objects, mapping sets have %llu",
                      (unsigned long long)leaves, (unsigned long long)frames.mappings);
    limited += (uint64_t)vmm->global.count + vmm->cache.count;
    uint64_t held = frames.own;
    held += frames.shared;
    if (held != limited)
        neomm__report(report, "vmm: domains hold %llu frames, there are %llu",
                      (unsigned long long)limited, (unsigned long long)held);
}
