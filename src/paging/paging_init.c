/* The kernel's tables: direct map, image, and the root entries of everything to come.
 * SPDX-License-Identifier: MIT */
#include "paging/tables.h"

#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <neomm/cpu.h>

/* ---- RAM, as pmm knows it ---- */

/* Frame numbers [first, end). */
struct extent {
    uint32_t first, end;
};

/* The piece of RAM at or behind *bit that is in one run and one section; *bit is its end then. */
static bool next_piece(const struct neomm__pmm *pmm, size_t *bit, struct extent *piece)
{
    for (uint32_t i = 0; i < pmm->runs; i++) {
        const struct neomm__ram_run *run = &pmm->run[i];
        size_t end = run->bit + run->count, first = run->bit > *bit ? run->bit : *bit;
        size_t section_end = NEOMM__ALIGN_DOWN(first, NEOMM__SECTION_BITS) + NEOMM__SECTION_BITS;
        if (end <= *bit || run->type == NEOMM__RAM_HOTPLUG)
            continue;
        end = end < section_end ? end : section_end;
        piece->first = neomm__frame_of(pmm, first).number;
        piece->end = piece->first + (uint32_t)(end - first);
        *bit = end;
        return true;
    }
    return false;
}

/* ---- direct map ---- */

static neomm_status map_extent(struct neomm *root, struct extent extent)
{
    struct neomm__paging *paging = root->paging;
    if (extent.end > root->frames.direct)
        extent.end = root->frames.direct;
    if (extent.first >= extent.end)
        return NEOMM_OK;
    neomm_paddr_t from = neomm_frame_paddr(neomm_frame(extent.first));
    neomm_paddr_t last = neomm_frame_paddr(neomm_frame(extent.end)) - 1;
    struct neomm__map_request request = {
        .vaddr = root->layout.direct.base + (neomm_vaddr_t)from,
        .last = root->layout.direct.base + (neomm_vaddr_t)last,
        .paddr = from,
        .prot = NEOMM_PROT_READ | NEOMM_PROT_WRITE,
        .cache = NEOMM_CACHE_WB,
        .leaf_levels = paging->leaf_levels,
    };
    return paging->engine->map(root, &paging->kernel, &request);
}

/* RAM only: a hole may hold a device, which the CPU must not read ahead from. */
static neomm_status map_direct(struct neomm *root)
{
    struct extent all = {0, 0}, piece;
    neomm_status status = NEOMM_OK;
    for (size_t bit = 0; status == NEOMM_OK && next_piece(root->pmm, &bit, &piece);) {
        if (piece.first == all.end) {
            all.end = piece.end;
            continue;
        }
        status = map_extent(root, all);
        all = piece;
    }
    return status == NEOMM_OK ? map_extent(root, all) : status;
}

/* ---- the rest ---- */

static neomm_status map_image(struct neomm *root, const struct neomm_paging_options *options)
{
    neomm_status status = NEOMM_OK;
    const struct neomm_area *image = &root->layout.image;
    for (uint32_t i = 0; options && i < options->segment_count && status == NEOMM_OK; i++) {
        const struct neomm_kernel_segment *segment = &options->segments[i];
        if (segment->vaddr - image->base >= image->size)
            return NEOMM_E_RANGE;
        status = neomm_paging_map(root, &root->paging->kernel, segment->vaddr, segment->paddr,
                                  segment->size, segment->prot, NEOMM_CACHE_WB, 0);
    }
    return status;
}

static neomm_status reserve(struct neomm *root, const struct neomm_area *area, unsigned level)
{
    struct neomm__paging *paging = root->paging;
    if (area->size == 0)
        return NEOMM_OK;
    return paging->engine->reserve(root, &paging->kernel, area->base, area->base + (area->size - 1),
                                   level);
}

#define CPUID_EDX_PSE         3
#define CPUID_EDX_PGE         13
#define CPUID_ECX_PCID        17
#define CPUID_EDX_PAT         16
#define CPUID_EXTENDED_EDX_NX 20
#define CPUID_EXTENDED_EDX_1G 26

/* What this CPU offers; all CPUs of a machine are taken to be alike. */
static void find_features(struct neomm__paging *paging)
{
    uint32_t basic[4], top[4], extended[4] = {0, 0, 0, 0};
    neomm_cpu_cpuid(1, 0, basic);
    neomm_cpu_cpuid(0x80000000u, 0, top);
    if (top[0] >= 0x80000001u)
        neomm_cpu_cpuid(0x80000001u, 0, extended);
    paging->pcids = paging->engine->levels >= 4 && (basic[2] >> CPUID_ECX_PCID & 1u) != 0 &&
                    (basic[3] >> CPUID_EDX_PGE & 1u) != 0;
    paging->pat = (basic[3] >> CPUID_EDX_PAT & 1u) != 0;
    paging->nx = (uint64_t)(extended[3] >> CPUID_EXTENDED_EDX_NX & 1u) << 63;
    paging->leaf_levels = 1;
    if (paging->engine->levels > 2 || (basic[3] >> CPUID_EDX_PSE & 1u) != 0)
        paging->leaf_levels |= paging->engine->large_levels & 2u;
    if (extended[3] >> CPUID_EXTENDED_EDX_1G & 1u)
        paging->leaf_levels |= paging->engine->large_levels & 4u;
}

static neomm_status build(struct neomm *root, const struct neomm_paging_options *options)
{
    struct neomm__paging *paging = root->paging;
    unsigned below_top = paging->engine->levels - 2;
    bool high = (uint64_t)root->frames.sections << NEOMM__SECTION_SHIFT > root->frames.direct;
    find_features(paging);
    paging->flush_pages =
        options && options->flush_pages != 0 ? options->flush_pages : NEOMM_FLUSH_PAGES_DEFAULT;
    neomm__lock_init(&paging->order, NEOMM_LOCK_CLASS_TABLES);
    neomm__lock_init(&paging->lock, NEOMM_LOCK_CLASS_TABLES);
    neomm__window_init(&paging->window);
    paging->kernel.serial = paging->serials = 1;
    neomm_status status = paging->engine->create(root, &paging->kernel);
    if (status == NEOMM_OK)
        status = reserve(root, &root->layout.window, below_top);
    if (status == NEOMM_OK)
        status = reserve(root, &root->layout.image, below_top);
    if (status == NEOMM_OK)
        status = reserve(root, &root->layout.mmio, below_top);
    if (status == NEOMM_OK)
        status = reserve(root, &root->layout.percpu, below_top);
    if (status == NEOMM_OK && high)
        status = reserve(root, &root->layout.slots, 0);
    if (status == NEOMM_OK)
        status = map_direct(root);
    if (status == NEOMM_OK)
        status = map_image(root, options);
    if (status == NEOMM_OK)
        paging->engine->seal(root);
    if (status == NEOMM_OK && high && root->layout.slots.size != 0)
        neomm__slots_init(root);
    return status;
}

/* ---- the layer ---- */

static void check(struct neomm *root, struct neomm__report *report)
{
    struct neomm__paging *paging = root->paging;
    uint32_t found = paging->engine->check(root, paging->kernel.top, 0, report);
    for (uint32_t top = paging->roots.head; top != 0;) {
        const struct neomm__frame *about = neomm__frame(root, neomm_frame(top));
        found += paging->engine->check(root, neomm_frame(top), about->owner, report);
        top = about->next;
    }
    if (found != paging->table_frames)
        neomm__report(report, "paging: %u table frames, found %u", paging->table_frames, found);
    neomm__window_check(root, report);
}

static void snapshot(struct neomm *root, struct neomm_snapshot *snapshot)
{
    snapshot->table_frames = neomm__load_relaxed(&root->paging->table_frames);
}

static const struct neomm__layer_ops operations = {"paging", check, snapshot};

static void end(struct neomm *root)
{
    struct neomm__paging *paging = root->paging;
    neomm_frame_t frame = neomm_frame(paging->frame);
    neomm__slots_fini(root);
    if (!neomm_frame_is_nil(paging->kernel.top))
        paging->engine->destroy(root, &paging->kernel);
    root->layer[NEOMM__LAYER_PAGING] = NULL;
    root->paging = NULL;
    neomm__frame(root, frame)->kind = NEOMM__KIND_NONE;
    neomm_status status = neomm_pmm_free(root, frame, 0);
    NEOMM__ASSERT(status == NEOMM_OK);
}

neomm_status neomm_paging_init(struct neomm *root, const struct neomm_paging_options *options)
{
    neomm_frame_t frame;
    if (!neomm__layer_ready(root, NEOMM__LAYER_PMM))
        return NEOMM_E_NOENT;
    if (root->paging)
        return NEOMM_E_EXISTS;
    if (options && options->flush_pages > NEOMM_FLUSH_PAGES_MAX)
        return NEOMM_E_RANGE;
    neomm_status status = neomm_layout_check(&root->layout, root->cpus);
    if (status == NEOMM_OK)
        status = neomm_pmm_alloc(root, 0, NEOMM_ZERO | NEOMM_NORECLAIM, &frame);
    if (status != NEOMM_OK)
        return status;
    neomm__frame(root, frame)->kind = NEOMM__KIND_STATE;
    root->paging = neomm__table_pointer(root, frame);
    root->paging->frame = frame.number;
    root->paging->engine = neomm__engine_of(root->layout.format);
    status = build(root, options);
    if (status != NEOMM_OK)
        end(root);
    else
        root->layer[NEOMM__LAYER_PAGING] = &operations;
    return status;
}

neomm_status neomm_paging_fini(struct neomm *root)
{
    struct neomm__paging *paging = root->paging;
    if (!paging)
        return NEOMM_E_NOENT;
    if (paging->roots.count != 0 || paging->window.ranges != 0 ||
        !neomm__cpumask_is_empty(&paging->online))
        return NEOMM_E_BUSY;
    end(root);
    return NEOMM_OK;
}
