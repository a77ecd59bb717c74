/* Building the frame allocator from a resolved boot map, and ending it.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm.h"

#define METADATA_ALIGN 64

/* Frame numbers [first, end). */
struct extent {
    uint32_t first, end;
};

/* What the map needs, and where each part lies in the metadata. */
struct plan {
    struct extent top;    /* all memory that is or may become usable */
    uint64_t frame_limit; /* frames that the format cannot reach begin here */
    uint32_t sections, trees, boots;
    uint64_t boot, section, tree_section, tree_free, tree_touched, field_free, taken, managed,
        descriptors; /* offsets */
    uint64_t size;   /* bytes */
};

/* i386 serves 16 GiB: beyond, the descriptors alone would fill the direct map. 2-level entries
 * hold 32-bit addresses. */
static uint64_t frame_limit(const struct neomm_layout *layout)
{
    uint64_t limit = UINT32_MAX; /* so that ends of extents fit in 32 bits */
    uint32_t bits = layout->physical_bits;
    if (layout->format == NEOMM_FORMAT_2LEVEL)
        bits = 32;
    else if (layout->format == NEOMM_FORMAT_PAE && bits > 34)
        bits = 34;
    if (bits >= NEOMM_PAGE_SHIFT && (uint64_t)1 << (bits - NEOMM_PAGE_SHIFT) < limit)
        limit = (uint64_t)1 << (bits - NEOMM_PAGE_SHIFT);
    return limit;
}

static bool is_boot(enum neomm_memory_type type)
{
    return type == NEOMM_MEMORY_BOOT || type == NEOMM_MEMORY_ACPI;
}

/* The frames of a range below `limit`. */
static struct extent extent_of(const struct neomm_boot_range *range, uint64_t limit)
{
    uint64_t first = range->base >> NEOMM_PAGE_SHIFT;
    uint64_t end = first + (range->length >> NEOMM_PAGE_SHIFT);
    if (end > limit)
        end = limit;
    if (first >= end)
        first = end;
    return (struct extent){(uint32_t)first, (uint32_t)end};
}

static uint64_t place(struct plan *plan, uint64_t bytes)
{
    uint64_t at = plan->size;
    plan->size = NEOMM__ALIGN_UP(at + bytes, METADATA_ALIGN);
    return at;
}

static void make_plan(const struct neomm *root, const struct neomm_bootmap *map, struct plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    plan->frame_limit = frame_limit(&root->layout);
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        struct extent extent = extent_of(range, plan->frame_limit);
        if (extent.first == extent.end ||
            (range->type != NEOMM_MEMORY_USABLE && !is_boot(range->type)))
            continue;
        uint32_t section = extent.first >> NEOMM__SECTION_SHIFT;
        uint32_t last = (extent.end - 1) >> NEOMM__SECTION_SHIFT;
        plan->trees += last + 1 - (section < plan->sections ? plan->sections : section);
        plan->sections = last + 1;
        plan->boots += is_boot(range->type);
        plan->top.first = plan->top.end == 0 ? extent.first : plan->top.first;
        plan->top.end = extent.end;
    }
    uint64_t bits = (uint64_t)plan->trees << NEOMM__SECTION_SHIFT;
    (void)place(plan, sizeof(struct neomm__pmm));
    plan->boot = place(plan, (uint64_t)plan->boots * sizeof(struct neomm__boot_run));
    plan->section = place(plan, (uint64_t)plan->sections * sizeof(uint32_t));
    plan->tree_section = place(plan, (uint64_t)plan->trees * sizeof(uint32_t));
    plan->tree_free = place(plan, (uint64_t)plan->trees * sizeof(uint16_t));
    plan->tree_touched = place(plan, plan->trees);
    plan->field_free = place(plan, (bits >> NEOMM__FIELD_ORDER) * sizeof(uint16_t));
    plan->taken = place(plan, bits / CHAR_BIT);
    plan->managed = place(plan, bits / CHAR_BIT);
    plan->descriptors = place(plan, bits * sizeof(struct neomm__frame));
}

size_t neomm_pmm_metadata_size(const struct neomm *root, const struct neomm_bootmap *map)
{
    struct plan plan;
    make_plan(root, map, &plan);
    return plan.size > SIZE_MAX ? SIZE_MAX : (size_t)plan.size;
}

/* Room for the metadata at the top of the highest usable range of the direct map that is large
 * enough: the DMA zone, being lowest, comes last. *carved stays empty if there is none. */
static void *carve(const struct neomm *root, const struct neomm_bootmap *map,
                   const struct plan *plan, struct extent *carved)
{
    uint64_t frames = NEOMM__ALIGN_UP(plan->size, NEOMM_PAGE_SIZE) >> NEOMM_PAGE_SHIFT;
    uint64_t limit = root->layout.direct.size >> NEOMM_PAGE_SHIFT;
    if (limit > plan->frame_limit)
        limit = plan->frame_limit;
    for (uint32_t i = map->count; i-- > 0;) {
        struct extent extent = extent_of(&map->ranges[i], limit);
        if (map->ranges[i].type != NEOMM_MEMORY_USABLE || extent.end - extent.first < frames)
            continue;
        carved->first = extent.end - (uint32_t)frames;
        carved->end = extent.end;
        return neomm_direct_pointer(root, neomm_frame_paddr(neomm_frame(carved->first)));
    }
    return NULL;
}

/* ---- building ---- */

static struct neomm__pmm *lay_out(struct neomm *root, uint8_t *memory, const struct plan *plan,
                                  bool zeroed)
{
    struct neomm__pmm *pmm = (void *)memory;
    memset(memory, 0, (size_t)plan->descriptors);
    pmm->boot = (void *)(memory + plan->boot);
    pmm->tree_section = (void *)(memory + plan->tree_section);
    pmm->tree_free = (void *)(memory + plan->tree_free);
    pmm->tree_touched = memory + plan->tree_touched;
    pmm->field_free = (void *)(memory + plan->field_free);
    pmm->taken = (void *)(memory + plan->taken);
    pmm->managed = (void *)(memory + plan->managed);
    pmm->trees = plan->trees;
    pmm->bits = plan->trees * NEOMM__TREE_BITS;
    neomm__lock_init(&pmm->lock, NEOMM_LOCK_CLASS_PMM);
    memset(pmm->taken, 0xff, neomm__bitmap_bytes(pmm->bits));
    root->frames.table = (void *)(memory + plan->descriptors);
    root->frames.section = (void *)(memory + plan->section);
    root->frames.sections = plan->sections;
    if (!zeroed)
        memset(root->frames.table, 0, pmm->bits * sizeof(struct neomm__frame));
    return pmm;
}

static void number_sections(struct neomm *root, const struct neomm_bootmap *map,
                            const struct plan *plan)
{
    uint32_t tree = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        struct extent extent = extent_of(range, plan->frame_limit);
        if (extent.first == extent.end ||
            (range->type != NEOMM_MEMORY_USABLE && !is_boot(range->type)))
            continue;
        for (uint32_t section = extent.first >> NEOMM__SECTION_SHIFT;
             section <= (extent.end - 1) >> NEOMM__SECTION_SHIFT; section++) {
            if (root->frames.section[section] != 0)
                continue;
            root->pmm->tree_section[tree] = section;
            root->frames.section[section] = ++tree;
        }
    }
}

/* The bit where a zone that begins at frame `number` begins. */
static size_t zone_border(const struct neomm *root, uint32_t number, uint32_t end)
{
    uint32_t section = number >> NEOMM__SECTION_SHIFT, below = 0;
    if (number >= end)
        return root->pmm->bits;
    for (uint32_t i = 0; i < section; i++)
        below += root->frames.section[i] != 0;
    return below * NEOMM__TREE_BITS +
           (root->frames.section[section] != 0 ? number & (NEOMM__SECTION_FRAMES - 1) : 0);
}

/* border[]: the frames where the zones end. */
static void set_zones(struct neomm *root, uint32_t end, uint32_t *border)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t high = root->frames.direct < end ? root->frames.direct : end;
    border[NEOMM_ZONE_DMA] = NEOMM__DMA_FRAMES < high ? NEOMM__DMA_FRAMES : high;
    border[NEOMM_ZONE_NORMAL] = high;
    border[NEOMM_ZONE_HIGH] = end;
    size_t first = 0;
    for (unsigned i = 0; i < NEOMM_ZONES; i++) {
        struct neomm__zone *zone = &pmm->zone[i];
        zone->first = first;
        zone->end = zone_border(root, border[i], end);
        first = zone->end;
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
            zone->hint[order] = (uint32_t)(zone->first / NEOMM__TREE_BITS);
    }
}

/* Counts frames that exist but are not managed, zone by zone. */
static void count_unmanaged(struct neomm__pmm *pmm, const uint32_t *border, struct extent extent,
                            bool metadata)
{
    uint32_t first = extent.first;
    for (unsigned i = 0; i < NEOMM_ZONES && first < extent.end; i++) {
        uint32_t end = border[i] < extent.end ? border[i] : extent.end;
        if (first >= end)
            continue;
        if (metadata)
            pmm->zone[i].metadata += end - first;
        else
            pmm->zone[i].reserved += end - first;
        first = end;
    }
}

/* Frame 0 is not among them: resolving the map saw to that. */
static void add_usable(struct neomm *root, uint32_t first, uint32_t end)
{
    if (first < end)
        neomm__zone_add(root->pmm, neomm__bit_of(root, neomm_frame(first)), end - first, false);
}

static void populate(struct neomm *root, const struct neomm_bootmap *map, const struct plan *plan,
                     struct extent carved)
{
    struct neomm__pmm *pmm = root->pmm;
    uint32_t border[NEOMM_ZONES];
    set_zones(root, plan->top.end, border);
    count_unmanaged(pmm, border, carved, true);
    if (carved.first != carved.end)
        pmm->metadata = (struct neomm__boot_run){neomm__bit_of(root, neomm_frame(carved.first)),
                                                 carved.end - carved.first};
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        struct extent extent = extent_of(range, plan->frame_limit);
        if (range->type != NEOMM_MEMORY_USABLE) {
            count_unmanaged(pmm, border, extent, false);
            if (extent.first < extent.end && is_boot(range->type))
                pmm->boot[pmm->boots++] = (struct neomm__boot_run){
                    neomm__bit_of(root, neomm_frame(extent.first)), extent.end - extent.first};
        } else if (carved.first >= extent.first && carved.end <= extent.end) {
            add_usable(root, extent.first, carved.first);
            add_usable(root, carved.end, extent.end);
        } else {
            add_usable(root, extent.first, extent.end);
        }
    }
}

/* At most a half of what is free, so that a careless setting does not stop the boot. */
static void set_reserve(struct neomm *root, const struct neomm_pmm_options *options)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t free = pmm->zone[NEOMM_ZONE_DMA].free + pmm->zone[NEOMM_ZONE_NORMAL].free;
    uint64_t wanted = options->reserve_frames;
    if (wanted == 0)
        wanted = neomm_config_bytes(root->config.reserve, neomm_pmm_free_frames(root)
                                                              << NEOMM_PAGE_SHIFT) >>
                 NEOMM_PAGE_SHIFT;
    pmm->reserve = wanted < free / 2 ? (size_t)wanted : free / 2;
}

static void warn_unreachable(const struct neomm_bootmap *map, const struct plan *plan)
{
    neomm_paddr_t end = neomm_bootmap_end(map);
    if (end >> NEOMM_PAGE_SHIFT > plan->frame_limit)
        neomm__log(NEOMM_LOG_WARNING, "pmm: memory from %#llx to %#llx cannot be addressed",
                   (unsigned long long)plan->frame_limit << NEOMM_PAGE_SHIFT,
                   (unsigned long long)end);
}

neomm_status neomm_pmm_init(struct neomm *root, const struct neomm_bootmap *map,
                            const struct neomm_pmm_options *options)
{
    const struct neomm_pmm_options none = {0};
    struct extent carved = {0, 0};
    struct plan plan;
    options = options ? options : &none;
    if (root->pmm)
        return NEOMM_E_EXISTS;
    if (!map->resolved)
        return NEOMM_E_INVALID;
    make_plan(root, map, &plan);
    if (plan.trees == 0 || neomm_bootmap_end(map) == 0)
        return NEOMM_E_INVALID;
    if (plan.size > SIZE_MAX / 2 || NEOMM__FAULT(PMM_METADATA))
        return NEOMM_E_NOMEM;
    void *memory = options->metadata;
    if (!NEOMM__ALIGNED((uintptr_t)memory, METADATA_ALIGN))
        return NEOMM_E_ALIGN;
    if (!memory)
        memory = carve(root, map, &plan, &carved);
    else if (options->metadata_size < plan.size)
        memory = NULL;
    if (!memory)
        return NEOMM_E_NOMEM;
    uint64_t direct = root->layout.direct.size >> NEOMM_PAGE_SHIFT;
    root->frames.direct = direct < UINT32_MAX ? (uint32_t)direct : UINT32_MAX;
    root->pmm = lay_out(root, memory, &plan, options->metadata_zeroed);
    number_sections(root, map, &plan);
    populate(root, map, &plan, carved);
    set_reserve(root, options);
    warn_unreachable(map, &plan);
    root->layer[NEOMM__LAYER_PMM] = &neomm__pmm_ops;
    return NEOMM_OK;
}

uint64_t neomm_pmm_reclaim_boot(struct neomm *root)
{
    struct neomm__pmm *pmm = root->pmm;
    uint64_t gained = 0;
    if (!pmm)
        return 0;
    neomm_irq_t irq = neomm__lock(&pmm->lock);
    for (uint32_t i = 0; i < pmm->boots; i++) {
        neomm__zone_add(pmm, pmm->boot[i].bit, pmm->boot[i].count, true);
        gained += pmm->boot[i].count;
    }
    pmm->boots = 0;
    neomm__unlock(&pmm->lock, irq);
    return gained;
}

neomm_status neomm_pmm_fini(struct neomm *root)
{
    struct neomm__pmm *pmm = root->pmm;
    if (!pmm)
        return NEOMM_E_INVALID;
    for (unsigned layer = NEOMM__LAYER_PMM + 1; layer < NEOMM__LAYERS; layer++)
        if (root->layer[layer])
            return NEOMM_E_BUSY;
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        if (pmm->zone[zone].free != pmm->zone[zone].managed)
            return NEOMM_E_BUSY;
    root->layer[NEOMM__LAYER_PMM] = NULL;
    root->pmm = NULL;
    root->reclaim = NULL;
    memset(&root->frames, 0, sizeof(root->frames));
    return NEOMM_OK;
}
