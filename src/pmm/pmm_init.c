/* Building the frame allocator from a resolved boot map, and ending it.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm_priv.h"

#define METADATA_ALIGN 64
#define MORE_TREES     2  /* zones may end inside a section */
#define SPARE_RUNS     16 /* for metadata in the midst of one, and parts that are added later */

/* Frame numbers [first, end). */
struct extent {
    uint32_t first, end;
};

/* What the map needs, and where each part lies in the metadata. */
struct plan {
    uint32_t top;         /* frames that are or may become usable end here */
    uint64_t frame_limit; /* frames that the format cannot reach begin here */
    uint64_t high;        /* frames from here on are not in the direct map */
    uint32_t map_sections, sections, runs, cpus;
    uint64_t run, section, section_tree, section_number, section_blank, tree_free, tree_first,
        tree_area, tree_touched, filled, field, cpu, caches, taken, descriptors; /* offsets */
    uint64_t size;                                                               /* bytes */
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

/* The run that a range becomes; 0: none, it is never handed out. */
static enum neomm__ram_type run_type(enum neomm_memory_type type)
{
    if (type == NEOMM_MEMORY_USABLE)
        return NEOMM__RAM_USABLE;
    if (type == NEOMM_MEMORY_HOTPLUG)
        return NEOMM__RAM_HOTPLUG;
    bool boot = type == NEOMM_MEMORY_BOOT || type == NEOMM_MEMORY_ACPI;
    return boot ? NEOMM__RAM_BOOT : (enum neomm__ram_type)0;
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

/* High frames begin at a block of the highest order, so that no block is in two areas. */
static uint64_t high_border(const struct neomm *root, const struct plan *plan)
{
    uint64_t direct = root->layout.direct.size >> NEOMM_PAGE_SHIFT;
    return direct >= plan->top ? UINT64_MAX
                               : NEOMM__ALIGN_DOWN(direct, (uint64_t)1 << NEOMM_ORDER_MAX);
}

static void place_all(struct plan *plan)
{
    uint64_t bits = (uint64_t)plan->sections << NEOMM__SECTION_SHIFT;
    uint64_t trees = plan->sections + MORE_TREES;
    (void)place(plan, sizeof(struct neomm__pmm));
    plan->run = place(plan, (uint64_t)plan->runs * sizeof(struct neomm__ram_run));
    plan->section = place(plan, (uint64_t)plan->map_sections * sizeof(uint32_t));
    plan->section_tree = place(plan, (uint64_t)plan->sections * sizeof(uint32_t));
    plan->section_number = place(plan, (uint64_t)plan->sections * sizeof(uint32_t));
    plan->section_blank = place(plan, plan->sections);
    plan->tree_free = place(plan, trees * sizeof(uint32_t));
    plan->tree_first = place(plan, (trees + 1) * sizeof(uint32_t));
    plan->tree_area = place(plan, trees);
    plan->tree_touched = place(plan, trees);
    plan->filled = place(plan, NEOMM__AREAS * neomm__bitmap_bytes((size_t)trees));
    plan->field = place(plan, (bits >> NEOMM__FIELD_ORDER) * sizeof(uint16_t));
    plan->cpu = place(plan, (uint64_t)plan->cpus * sizeof(struct neomm__pmm_cpu));
    plan->caches = place(plan, plan->cpus * neomm__cache_bytes(plan->high < plan->top));
    plan->taken = place(plan, bits / CHAR_BIT);
    plan->descriptors = place(plan, bits * sizeof(struct neomm__frame));
}

static void make_plan(const struct neomm *root, const struct neomm_bootmap *map, struct plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    plan->frame_limit = frame_limit(&root->layout);
    plan->cpus = root->cpus;
    plan->runs = SPARE_RUNS;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        struct extent extent = extent_of(range, plan->frame_limit);
        if (extent.first == extent.end || !run_type(range->type))
            continue;
        uint32_t section = extent.first >> NEOMM__SECTION_SHIFT;
        uint32_t last = (extent.end - 1) >> NEOMM__SECTION_SHIFT;
        plan->sections += last + 1 - (section < plan->map_sections ? plan->map_sections : section);
        plan->map_sections = last + 1;
        plan->runs++;
        plan->top = extent.end;
    }
    plan->high = high_border(root, plan);
    place_all(plan);
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
    size_t trees = plan->sections + MORE_TREES;
    if (!zeroed)
        memset(memory, 0, (size_t)plan->size);
    pmm->run = (void *)(memory + plan->run);
    pmm->run_capacity = plan->runs;
    pmm->section_tree = (void *)(memory + plan->section_tree);
    pmm->section_number = (void *)(memory + plan->section_number);
    pmm->section_blank = memory + plan->section_blank;
    pmm->tree_free = (void *)(memory + plan->tree_free);
    pmm->tree_first = (void *)(memory + plan->tree_first);
    pmm->tree_area = memory + plan->tree_area;
    pmm->tree_touched = memory + plan->tree_touched;
    pmm->field = (void *)(memory + plan->field);
    pmm->taken = (void *)(memory + plan->taken);
    pmm->cpu = (void *)(memory + plan->cpu);
    pmm->caches = memory + plan->caches;
    pmm->cpus = plan->cpus;
    pmm->high = plan->high < plan->top;
    pmm->sections = plan->sections;
    pmm->bits = plan->sections * NEOMM__SECTION_BITS;
    for (size_t i = 0; i < NEOMM__AREAS; i++)
        pmm->area[i].filled = (void *)(memory + plan->filled + i * neomm__bitmap_bytes(trees));
    neomm__lock_init(&pmm->lock, NEOMM_LOCK_CLASS_PMM);
    root->frames.table = (void *)(memory + plan->descriptors);
    root->frames.section = (void *)(memory + plan->section);
    root->frames.sections = plan->map_sections;
    return pmm;
}

static void number_sections(struct neomm *root, const struct neomm_bootmap *map,
                            const struct plan *plan)
{
    uint32_t present = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        struct extent extent = extent_of(range, plan->frame_limit);
        if (extent.first == extent.end || !run_type(range->type))
            continue;
        for (uint32_t section = extent.first >> NEOMM__SECTION_SHIFT;
             section <= (extent.end - 1) >> NEOMM__SECTION_SHIFT; section++) {
            if (root->frames.section[section] != 0)
                continue;
            root->pmm->section_number[present] = section;
            root->frames.section[section] = neomm__section_entry(section, present++);
        }
    }
}

/* The node of the section that holds a frame: that of the first listed range there. */
static uint32_t node_of(const struct neomm_pmm_options *options, uint64_t frame)
{
    uint64_t first = frame >> NEOMM__SECTION_SHIFT << NEOMM__SECTION_SHIFT;
    neomm_paddr_t from = first << NEOMM_PAGE_SHIFT;
    for (uint32_t i = 0; i < options->node_ranges; i++) {
        const struct neomm_node_range *range = &options->node_range[i];
        uint64_t section_bytes = (uint64_t)NEOMM__SECTION_FRAMES << NEOMM_PAGE_SHIFT;
        if (range->length != 0 && range->base < from + section_bytes &&
            from <= range->base + (range->length - 1))
            return range->node;
    }
    return 0;
}

/* The zone of a frame and, in *end, the first frame that is of another. */
static enum neomm_zone zone_of(const struct plan *plan, uint64_t frame, uint64_t *end)
{
    uint64_t dma = NEOMM__DMA_FRAMES < plan->high ? NEOMM__DMA_FRAMES : plan->high;
    if (frame < dma) {
        *end = dma;
        return NEOMM_ZONE_DMA;
    }
    *end = frame < plan->high ? plan->high : UINT64_MAX;
    return frame < plan->high ? NEOMM_ZONE_NORMAL : NEOMM_ZONE_HIGH;
}

static void grow_trees(struct neomm__pmm *pmm, const struct plan *plan,
                       const struct neomm_pmm_options *options)
{
    for (uint32_t i = 0; i < pmm->sections; i++) {
        uint64_t frame = (uint64_t)pmm->section_number[i] << NEOMM__SECTION_SHIFT;
        uint64_t end = frame + NEOMM__SECTION_FRAMES, border, first = frame;
        pmm->section_tree[i] = pmm->trees;
        for (; frame < end; frame = border) {
            enum neomm_zone zone = zone_of(plan, frame, &border);
            pmm->tree_area[pmm->trees] =
                (uint8_t)(node_of(options, frame) * NEOMM_ZONES + (unsigned)zone);
            pmm->tree_first[pmm->trees++] =
                (uint32_t)((i * NEOMM__SECTION_BITS + frame - first) >> NEOMM__FIELD_ORDER);
        }
    }
    pmm->tree_first[pmm->trees] = (uint32_t)(pmm->bits >> NEOMM__FIELD_ORDER);
}

/* Counts frames that exist but are not managed where they belong. */
static void count_unmanaged(struct neomm__pmm *pmm, const struct plan *plan,
                            const struct neomm_pmm_options *options, struct extent extent,
                            bool metadata)
{
    uint64_t end = extent.end < plan->top ? extent.end : plan->top, border;
    for (uint64_t frame = extent.first; frame < end; frame = border) {
        enum neomm_zone zone = zone_of(plan, frame, &border);
        uint64_t section_end =
            NEOMM__ALIGN_DOWN(frame, (uint64_t)NEOMM__SECTION_FRAMES) + NEOMM__SECTION_FRAMES;
        if (options->node_ranges > 0 && border > section_end)
            border = section_end;
        border = border < end ? border : end;
        struct neomm__area *area =
            &pmm->area[node_of(options, frame) * NEOMM_ZONES + (unsigned)zone];
        *(metadata ? &area->metadata : &area->reserved) += (size_t)(border - frame);
    }
}

/* Frames that are free from the beginning: their bits are zero already. */
static void count_free(struct neomm__pmm *pmm, size_t bit, size_t end)
{
    while (bit < end) {
        uint32_t tree = neomm__tree_of(pmm, bit);
        size_t tree_end = (size_t)pmm->tree_first[tree + 1] << NEOMM__FIELD_ORDER;
        size_t stop = end < tree_end ? end : tree_end;
        struct neomm__area *area = &pmm->area[pmm->tree_area[tree]];
        area->managed += stop - bit;
        area->free += stop - bit;
        area->filled[tree / NEOMM__WORD_BITS] |= (neomm__word_t)1 << tree % NEOMM__WORD_BITS;
        pmm->tree_free[tree] += (uint32_t)(stop - bit);
        while (bit < stop) {
            size_t rest = NEOMM__FIELD_BITS - bit % NEOMM__FIELD_BITS;
            size_t piece = rest < stop - bit ? rest : stop - bit;
            pmm->field[bit / NEOMM__FIELD_BITS] += (uint16_t)piece;
            bit += piece;
        }
    }
}

static void add_run(struct neomm *root, uint32_t first, uint32_t end, enum neomm__ram_type type)
{
    struct neomm__pmm *pmm = root->pmm;
    if (first < end)
        pmm->run[pmm->runs++] =
            (struct neomm__ram_run){neomm__bit_of(root, neomm_frame(first)), end - first, type};
}

static void make_runs(struct neomm *root, const struct neomm_bootmap *map, const struct plan *plan,
                      const struct neomm_pmm_options *options, struct extent carved)
{
    for (uint32_t i = 0; i < map->count; i++) {
        struct extent extent = extent_of(&map->ranges[i], plan->frame_limit);
        enum neomm__ram_type type = run_type(map->ranges[i].type);
        if (type != NEOMM__RAM_USABLE && type != NEOMM__RAM_HOTPLUG)
            count_unmanaged(root->pmm, plan, options, extent, false);
        if (type == NEOMM__RAM_USABLE && carved.first >= extent.first && carved.end <= extent.end) {
            add_run(root, extent.first, carved.first, type);
            add_run(root, carved.first, carved.end, NEOMM__RAM_METADATA);
            extent.first = carved.end;
        }
        if (type)
            add_run(root, extent.first, extent.end, type);
    }
    count_unmanaged(root->pmm, plan, options, carved, true);
}

static void find_blank_sections(struct neomm__pmm *pmm)
{
    memset(pmm->section_blank, 1, pmm->sections);
    for (uint32_t i = 0; i < pmm->runs; i++) {
        const struct neomm__ram_run *run = &pmm->run[i];
        size_t first = run->bit / NEOMM__SECTION_BITS;
        size_t last = (run->bit + run->count - 1) / NEOMM__SECTION_BITS;
        if (run->type == NEOMM__RAM_USABLE)
            memset(&pmm->section_blank[first], 0, last + 1 - first);
    }
}

/* Bits between usable runs, but for sections that are blank: memory that may come later is often
 * much more than there is. */
static void set_gap(struct neomm__pmm *pmm, size_t bit, size_t end)
{
    while (bit < end) {
        size_t section = bit / NEOMM__SECTION_BITS, stop = (section + 1) * NEOMM__SECTION_BITS;
        stop = stop < end ? stop : end;
        if (!neomm__is_blank(pmm, section))
            neomm__bitmap_set_run(pmm->taken, bit, stop - bit);
        bit = stop;
    }
}

/* What is not usable is taken for good. Frame 0 is: resolving the map saw to that. */
static void populate(struct neomm__pmm *pmm)
{
    size_t done = 0;
    find_blank_sections(pmm);
    for (uint32_t i = 0; i < pmm->runs; i++) {
        const struct neomm__ram_run *run = &pmm->run[i];
        if (run->type != NEOMM__RAM_USABLE)
            continue;
        set_gap(pmm, done, run->bit);
        done = run->bit + run->count;
        count_free(pmm, run->bit, done);
    }
    set_gap(pmm, done, pmm->bits);
}

/* whole * part / total; part is at most total, and the result exact where they are equal. */
static size_t share_of(size_t whole, size_t part, size_t total)
{
    while (total > UINT16_MAX) {
        total >>= 1;
        part >>= 1;
    }
    return (size_t)neomm__divide((uint64_t)whole * part, (uint32_t)total, NULL);
}

/* At most a half of what is free, so that a careless setting does not stop the boot. The areas of
 * the direct map share it by size. */
static void set_reserve(struct neomm *root, const struct neomm_pmm_options *options)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t free = 0, left;
    uint64_t wanted = options->reserve_frames;
    for (uint32_t i = 0; i < pmm->nodes * NEOMM_ZONES; i++)
        free += neomm__zone_of_area(i) != NEOMM_ZONE_HIGH ? pmm->area[i].free : 0;
    if (wanted == 0)
        wanted = neomm_config_bytes(root->config.reserve, neomm_pmm_free_frames(root)
                                                              << NEOMM_PAGE_SHIFT) >>
                 NEOMM_PAGE_SHIFT;
    left = pmm->reserve = wanted < free / 2 ? (size_t)wanted : free / 2;
    for (uint32_t i = 0; i < pmm->nodes * NEOMM_ZONES && left > 0; i++) {
        struct neomm__area *area = &pmm->area[i];
        if (neomm__zone_of_area(i) == NEOMM_ZONE_HIGH || area->free == 0)
            continue;
        area->minimum = share_of(left, area->free, free);
        left -= area->minimum;
        free -= area->free;
    }
}

static bool nodes_valid(const struct neomm_pmm_options *options, uint32_t cpus)
{
    for (uint32_t i = 0; i < options->node_ranges; i++)
        if (options->node_range[i].node >= NEOMM_NODE_MAX)
            return false;
    for (uint32_t i = 0; options->cpu_node && i < cpus; i++)
        if (options->cpu_node[i] >= NEOMM_NODE_MAX)
            return false;
    return true;
}

static void set_nodes(struct neomm__pmm *pmm, const struct neomm_pmm_options *options)
{
    pmm->nodes = 1;
    for (uint32_t i = 0; i < options->node_ranges; i++)
        if (options->node_range[i].node >= pmm->nodes)
            pmm->nodes = options->node_range[i].node + 1;
    for (uint32_t i = 0; options->cpu_node && i < pmm->cpus; i++) {
        pmm->cpu[i].node = options->cpu_node[i];
        if (options->cpu_node[i] >= pmm->nodes)
            pmm->nodes = options->cpu_node[i] + 1u;
    }
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
    if (!map->resolved || !nodes_valid(options, root->cpus))
        return NEOMM_E_INVALID;
    make_plan(root, map, &plan);
    if (plan.sections == 0 || neomm_bootmap_end(map) == 0)
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
    set_nodes(root->pmm, options);
    grow_trees(root->pmm, &plan, options);
    make_runs(root, map, &plan, options, carved);
    populate(root->pmm);
    neomm__cache_place(root->pmm);
    neomm__cache_fit(root);
    set_reserve(root, options);
    warn_unreachable(map, &plan);
    root->layer[NEOMM__LAYER_PMM] = &neomm__pmm_ops;
    return NEOMM_OK;
}

neomm_status neomm_pmm_fini(struct neomm *root)
{
    struct neomm__pmm *pmm = root->pmm;
    if (!pmm)
        return NEOMM_E_INVALID;
    for (unsigned layer = NEOMM__LAYER_PMM + 1; layer < NEOMM__LAYERS; layer++)
        if (root->layer[layer])
            return NEOMM_E_BUSY;
    neomm__cache_drain(root);
    for (uint32_t i = 0; i < pmm->nodes * NEOMM_ZONES; i++)
        if (pmm->area[i].free != pmm->area[i].managed)
            return NEOMM_E_BUSY;
    root->layer[NEOMM__LAYER_PMM] = NULL;
    root->pmm = NULL;
    root->reclaim = NULL;
    memset(&root->frames, 0, sizeof(root->frames));
    return NEOMM_OK;
}
