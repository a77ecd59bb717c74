/* One memory has one cache type: who may map what with which.
 * SPDX-License-Identifier: MIT
 *
 * Two mappings of a frame with different types give each its own idea of what is there (SDM 3A
 * 11.12.4). RAM is in the direct map, write-back. What of devices is mapped is found in the area
 * for it.
 */
#include "paging/tables.h"

#include "pmm/pmm_priv.h"

struct search {
    neomm_paddr_t first, last;
    enum neomm_cache cache;
    bool conflict;
};

/* Is any of these frames RAM, if all of them lie in one section? */
static bool section_has_ram(const struct neomm *root, uint32_t first, uint32_t end)
{
    const struct neomm__pmm *pmm = root->pmm;
    size_t bit = neomm__bit_of(root, neomm_frame(first));
    if (bit == NEOMM__BITMAP_NONE)
        return false;
    for (uint32_t i = 0; i < pmm->runs; i++) {
        const struct neomm__ram_run *run = &pmm->run[i];
        if (run->type != NEOMM__RAM_HOTPLUG && run->bit < bit + (end - first) &&
            run->bit + run->count > bit)
            return true;
    }
    return false;
}

static bool has_ram(struct neomm *root, neomm_paddr_t first, neomm_paddr_t last)
{
    uint64_t at = first >> NEOMM_PAGE_SHIFT, end = (last >> NEOMM_PAGE_SHIFT) + 1;
    bool found = false;
    neomm_irq_t irq = neomm__lock(&root->pmm->lock);
    while (at < end && at >> NEOMM__SECTION_SHIFT < root->frames.sections && !found) {
        uint64_t border = (at | (NEOMM__SECTION_FRAMES - 1)) + 1;
        border = border < end ? border : end;
        found = section_has_ram(root, (uint32_t)at, (uint32_t)border);
        at = border;
    }
    neomm__unlock(&root->pmm->lock, irq);
    return found;
}

static void compare(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct search *search = context;
    (void)vaddr;
    if (leaf->paddr <= search->last && leaf->paddr + (leaf->size - 1) >= search->first)
        search->conflict |= leaf->cache != search->cache;
}

neomm_status neomm__cache_type_check(struct neomm *root, neomm_paddr_t paddr, size_t size,
                                     enum neomm_cache cache)
{
    const struct neomm_area *area = &root->layout.mmio;
    struct search search = {paddr, paddr + (size - 1), cache, false};
    if ((unsigned)cache > NEOMM_CACHE_WC)
        return NEOMM_E_INVALID;
    if (cache == NEOMM_CACHE_WC && !root->paging->pat)
        return NEOMM_E_UNSUPPORTED;
    if (cache != NEOMM_CACHE_WB && has_ram(root, search.first, search.last))
        return NEOMM_E_ACCESS;
    if (area->size != 0)
        root->paging->engine->walk(root, &root->paging->kernel, area->base,
                                   area->base + (area->size - 1), compare, &search);
    return search.conflict ? NEOMM_E_ACCESS : NEOMM_OK;
}
