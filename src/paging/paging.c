/* The public operations on page tables: arguments are checked here, then the format's engine
 * does the work.
 * SPDX-License-Identifier: MIT */
#include "paging/tables.h"

#include "base/bits.h"

static bool inside(const struct neomm_area *area, neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    return area->size != 0 && vaddr >= area->base && last - area->base < area->size;
}

/* Is [vaddr, last] all the user's, or all in one area of the kernel? The direct map and the slots
 * are changed by nobody but this layer. */
static neomm_status check_half(const struct neomm *root, const struct neomm_tables *tables,
                               neomm_vaddr_t vaddr, neomm_vaddr_t last, bool change)
{
    const struct neomm_layout *layout = &root->layout;
    if (last < vaddr)
        return NEOMM_E_RANGE;
    if (!neomm__tables_are_kernel(root, tables))
        return last < layout->user_limit ? NEOMM_OK : NEOMM_E_RANGE;
    if (inside(&layout->window, vaddr, last) || inside(&layout->image, vaddr, last) ||
        inside(&layout->mmio, vaddr, last) || inside(&layout->percpu, vaddr, last))
        return NEOMM_OK;
    if (!change && (inside(&layout->direct, vaddr, last) || inside(&layout->slots, vaddr, last)))
        return NEOMM_OK;
    return NEOMM_E_RANGE;
}

static neomm_status check_range(const struct neomm *root, const struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size, bool change)
{
    if (!root->paging)
        return NEOMM_E_NOENT;
    if (!NEOMM__ALIGNED(vaddr, NEOMM_PAGE_SIZE) || !NEOMM__ALIGNED(size, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (size == 0)
        return NEOMM_E_RANGE;
    return check_half(root, tables, vaddr, vaddr + (size - 1), change);
}

neomm_status neomm__paging_check_kernel(const struct neomm *root, neomm_vaddr_t vaddr, size_t size)
{
    return check_range(root, &root->paging->kernel, vaddr, size, true);
}

/* ---- parts ----
 *
 * An operation masks interrupts from its first lock to its last, so a large one is done in parts.
 */
#define PART_SPAN  ((neomm_vaddr_t)32 << 20)
#define GIANT_SPAN ((neomm_vaddr_t)1 << 30)

static inline bool is_one_part(neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    return (vaddr | (PART_SPAN - 1)) >= last;
}

/* The last address of the part that begins at `at`. No leaf is cut by it, and what is empty behind
 * the part goes with it: that costs nothing. */
static neomm_vaddr_t part_end(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t at,
                              neomm_vaddr_t last)
{
    struct neomm_mapping entry;
    neomm_vaddr_t edge = at | (PART_SPAN - 1);
    if (edge >= last)
        return last;
    root->paging->engine->query(root, tables, edge, &entry);
    edge |= (neomm_vaddr_t)(entry.size - 1);
    return edge < last ? edge : last;
}

/* Leaves that stick out of a range of several parts are split before the first part changes. */
static neomm_status split_edges(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    const struct neomm__engine *engine = root->paging->engine;
    neomm_status status = engine->split_at(root, tables, vaddr, false);
    return status == NEOMM_OK ? engine->split_at(root, tables, last, true) : status;
}

bool neomm__paging_occupied(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last)
{
    for (neomm_vaddr_t at = vaddr, edge;; at = edge + 1) {
        edge = part_end(root, tables, at, last);
        if (root->paging->engine->occupied(root, tables, at, edge))
            return true;
        if (edge == last)
            return false;
    }
}

/* ---- map ---- */

/* As part_end, where nothing is mapped yet; leaves of 1 GiB are made in one part. */
static neomm_vaddr_t map_end(const struct neomm__map_request *request)
{
    neomm_vaddr_t at = request->vaddr, edge = at | (PART_SPAN - 1);
    if ((request->leaf_levels & 4u) && !request->frames && request->last - at >= GIANT_SPAN - 1 &&
        ((at | (neomm_vaddr_t)request->paddr) & (GIANT_SPAN - 1)) == 0)
        edge = at + ((request->last - at + 1) & ~(GIANT_SPAN - 1)) - 1;
    return edge < request->last ? edge : request->last;
}

/* All parts, or none. */
static neomm_status map_parts(struct neomm *root, struct neomm_tables *tables,
                              const struct neomm__map_request *whole)
{
    struct neomm__map_request part = *whole;
    part.last = map_end(&part);
    if (neomm__paging_occupied(root, tables, whole->vaddr, whole->last))
        return NEOMM_E_EXISTS;
    for (;;) {
        neomm_status status = root->paging->engine->map(root, tables, &part);
        size_t done = (size_t)(part.vaddr - whole->vaddr),
               next = (size_t)(part.last - part.vaddr) + 1;
        if (status != NEOMM_OK && done != 0)
            (void)neomm_paging_unmap(root, tables, whole->vaddr, done, NULL, NULL, NULL);
        if (status != NEOMM_OK || part.last == whole->last)
            return status;
        part.vaddr += next;
        part.paddr += next;
        part.frames += part.frames ? next >> NEOMM_PAGE_SHIFT : 0;
        part.last = whole->last;
        part.last = map_end(&part);
    }
}

/* A null pointer must not lead anywhere by mistake. */
static neomm_status check_null(const struct neomm *root, const struct neomm_tables *tables,
                               neomm_vaddr_t vaddr, unsigned options)
{
    bool kernel = neomm__tables_are_kernel(root, tables);
    if (vaddr >= NEOMM_PAGE_SIZE || kernel || root->layout.user_base == 0)
        return NEOMM_OK;
    return options & NEOMM_MAP_NULL ? NEOMM_OK : NEOMM_E_ACCESS;
}

static neomm_status check_prot(neomm_prot_t prot)
{
    if (prot & ~(NEOMM_PROT_READ | NEOMM_PROT_WRITE | NEOMM_PROT_EXEC))
        return NEOMM_E_INVALID;
    if ((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC))
        return NEOMM_E_ACCESS;
    return NEOMM_OK;
}

static neomm_status check_paddr(const struct neomm *root, neomm_paddr_t paddr, size_t size)
{
    if (!NEOMM__ALIGNED(paddr, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    neomm_paddr_t last = paddr + (size - 1);
    if (last < paddr || last >> root->layout.physical_bits != 0)
        return NEOMM_E_RANGE;
    return NEOMM_OK;
}

neomm_status neomm_paging_map(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                              neomm_paddr_t paddr, size_t size, neomm_prot_t prot,
                              enum neomm_cache cache, unsigned options)
{
    neomm_status status = check_range(root, tables, vaddr, size, true);
    if (status == NEOMM_OK)
        status = check_paddr(root, paddr, size);
    if (status == NEOMM_OK)
        status = check_prot(prot);
    if (status == NEOMM_OK)
        status = check_null(root, tables, vaddr, options);
    if (status != NEOMM_OK)
        return status;
    if ((options & ~(NEOMM_MAP_SMALL | NEOMM_MAP_NULL)) != 0)
        return NEOMM_E_INVALID;
    if (cache != NEOMM_CACHE_WB || inside(&root->layout.mmio, vaddr, vaddr + (size - 1)))
        status = neomm__cache_type_check(root, paddr, size, cache);
    if (status != NEOMM_OK)
        return status;
    struct neomm__map_request request = {
        .vaddr = vaddr,
        .last = vaddr + (size - 1),
        .paddr = paddr,
        .prot = prot,
        .cache = cache,
        .leaf_levels = options & NEOMM_MAP_SMALL ? 1u : root->paging->leaf_levels,
    };
    if (is_one_part(vaddr, request.last))
        return root->paging->engine->map(root, tables, &request);
    return map_parts(root, tables, &request);
}

neomm_status neomm_paging_map_frames(struct neomm *root, struct neomm_tables *tables,
                                     neomm_vaddr_t vaddr, const neomm_frame_t *frames,
                                     uint32_t count, neomm_prot_t prot)
{
    if ((uint64_t)count << NEOMM_PAGE_SHIFT > SIZE_MAX)
        return NEOMM_E_RANGE;
    neomm_status status = check_range(root, tables, vaddr, (size_t)count << NEOMM_PAGE_SHIFT, true);
    for (uint32_t i = 0; i < count && status == NEOMM_OK; i++)
        status = check_paddr(root, neomm_frame_paddr(frames[i]), NEOMM_PAGE_SIZE);
    if (status == NEOMM_OK)
        status = check_prot(prot);
    if (status == NEOMM_OK)
        status = check_null(root, tables, vaddr, 0);
    if (status != NEOMM_OK)
        return status;
    struct neomm__map_request request = {
        .vaddr = vaddr,
        .last = vaddr + (((size_t)count << NEOMM_PAGE_SHIFT) - 1),
        .frames = frames,
        .prot = prot,
        .cache = NEOMM_CACHE_WB,
        .leaf_levels = 1u,
    };
    if (is_one_part(vaddr, request.last))
        return root->paging->engine->map(root, tables, &request);
    return map_parts(root, tables, &request);
}

static neomm_status unmap_parts(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, neomm_vaddr_t last, neomm_leaf_fn *released,
                                void *context, size_t *done)
{
    neomm_status status = split_edges(root, tables, vaddr, last);
    for (neomm_vaddr_t at = vaddr, edge; status == NEOMM_OK; at = edge + 1) {
        edge = part_end(root, tables, at, last);
        status = root->paging->engine->unmap(root, tables, at, edge, released, context);
        if (done && status == NEOMM_OK)
            *done = (size_t)(edge - vaddr) + 1;
        if (edge == last)
            break;
    }
    return status;
}

neomm_status neomm_paging_unmap(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size, neomm_leaf_fn *released,
                                void *context, size_t *done)
{
    if (done)
        *done = 0;
    neomm_status status = check_range(root, tables, vaddr, size, true);
    if (status != NEOMM_OK)
        return status;
    neomm_vaddr_t last = vaddr + (size - 1);
    if (!is_one_part(vaddr, last))
        return unmap_parts(root, tables, vaddr, last, released, context, done);
    status = root->paging->engine->unmap(root, tables, vaddr, last, released, context);
    if (done && status == NEOMM_OK)
        *done = size;
    return status;
}

neomm_status neomm_paging_protect(struct neomm *root, struct neomm_tables *tables,
                                  neomm_vaddr_t vaddr, size_t size, neomm_prot_t prot)
{
    neomm_status status = check_range(root, tables, vaddr, size, true);
    if (status == NEOMM_OK)
        status = check_prot(prot);
    if (status != NEOMM_OK)
        return status;
    neomm_vaddr_t at = vaddr, edge, last = vaddr + (size - 1);
    if (!is_one_part(vaddr, last))
        status = split_edges(root, tables, vaddr, last);
    for (; status == NEOMM_OK; at = edge + 1) {
        edge = part_end(root, tables, at, last);
        status = root->paging->engine->protect(root, tables, at, edge, prot);
        if (edge == last)
            break;
    }
    return status;
}

neomm_status neomm_paging_copy(struct neomm *root, struct neomm_tables *from,
                               struct neomm_tables *to, neomm_vaddr_t vaddr, size_t size,
                               neomm_leaf_fn *share, void *context)
{
    neomm_status status = check_range(root, from, vaddr, size, true);
    if (status != NEOMM_OK)
        return status;
    if (from == to || neomm__tables_are_kernel(root, from) || neomm__tables_are_kernel(root, to))
        return NEOMM_E_INVALID;
    neomm_vaddr_t at = vaddr, edge, last = vaddr + (size - 1);
    if (neomm__paging_occupied(root, to, vaddr, last))
        return NEOMM_E_EXISTS;
    if (!is_one_part(vaddr, last))
        status = split_edges(root, from, vaddr, last);
    for (; status == NEOMM_OK; at = edge + 1) {
        edge = part_end(root, from, at, last);
        status = root->paging->engine->copy(root, from, to, at, edge, share, context);
        if (edge == last)
            break;
    }
    return status;
}

/* From small leaves to large ones, then from these to giant ones. */
static uint32_t merge_parts(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last, unsigned level, neomm_vaddr_t span)
{
    uint32_t merged = 0;
    if (!(root->paging->leaf_levels >> level & 1u))
        return 0;
    for (neomm_vaddr_t at = vaddr, edge;; at = edge + 1) {
        edge = at | (span - 1);
        edge = edge < last ? edge : last;
        merged += root->paging->engine->merge(root, tables, at, edge, level);
        if (edge == last)
            return merged;
    }
}

neomm_status neomm_paging_merge(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size, uint32_t *merged)
{
    uint32_t count = 0;
    neomm_status status = check_range(root, tables, vaddr, size, true);
    if (status == NEOMM_OK)
        count = merge_parts(root, tables, vaddr, vaddr + (size - 1), 1, PART_SPAN) +
                merge_parts(root, tables, vaddr, vaddr + (size - 1), 2, GIANT_SPAN);
    if (merged)
        *merged = count;
    return status;
}

neomm_status neomm_paging_split(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, size_t size)
{
    neomm_status status = check_range(root, tables, vaddr, size, true);
    return status == NEOMM_OK ? split_edges(root, tables, vaddr, vaddr + (size - 1)) : status;
}

size_t neomm_paging_large_size(const struct neomm *root)
{
    bool large = (root->paging->leaf_levels & 2u) != 0;
    return !large ? 0 : (size_t)(root->layout.format == NEOMM_FORMAT_2LEVEL ? 4 : 2) << 20;
}

neomm_status neomm_paging_query(struct neomm *root, struct neomm_tables *tables,
                                neomm_vaddr_t vaddr, struct neomm_mapping *mapping)
{
    neomm_vaddr_t page = NEOMM__ALIGN_DOWN(vaddr, NEOMM_PAGE_SIZE);
    neomm_status status = check_range(root, tables, page, NEOMM_PAGE_SIZE, false);
    if (status != NEOMM_OK)
        return status;
    root->paging->engine->query(root, tables, vaddr, mapping);
    return NEOMM_OK;
}

static neomm_status exchange(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                             const struct neomm_mapping *expect, const struct neomm_mapping *next,
                             struct neomm_mapping *last, bool exact)
{
    neomm_status status = check_range(root, tables, vaddr, NEOMM_PAGE_SIZE, true);
    if (status == NEOMM_OK && next->state == NEOMM_MAPPING_PRESENT)
        status = check_paddr(root, next->paddr, NEOMM_PAGE_SIZE);
    if (status == NEOMM_OK && next->state == NEOMM_MAPPING_PRESENT)
        status = check_prot(next->prot);
    if (status == NEOMM_OK && next->state == NEOMM_MAPPING_PRESENT && next->cache != NEOMM_CACHE_WB)
        status = neomm__cache_type_check(root, next->paddr, NEOMM_PAGE_SIZE, next->cache);
    if (status == NEOMM_OK && next->state != NEOMM_MAPPING_NONE)
        status = check_null(root, tables, vaddr, 0);
    if (status != NEOMM_OK)
        return status;
    return root->paging->engine->exchange(root, tables, vaddr, expect, next, last, exact);
}

neomm_status neomm_paging_exchange(struct neomm *root, struct neomm_tables *tables,
                                   neomm_vaddr_t vaddr, const struct neomm_mapping *expect,
                                   const struct neomm_mapping *next, struct neomm_mapping *last)
{
    return exchange(root, tables, vaddr, expect, next, last, false);
}

neomm_status neomm_paging_exchange_exact(struct neomm *root, struct neomm_tables *tables,
                                         neomm_vaddr_t vaddr, const struct neomm_mapping *expect,
                                         const struct neomm_mapping *next,
                                         struct neomm_mapping *last)
{
    return exchange(root, tables, vaddr, expect, next, last, true);
}

neomm_status neomm_paging_harvest(struct neomm *root, struct neomm_tables *tables,
                                  neomm_vaddr_t vaddr, size_t size, bool clear_dirty,
                                  neomm_leaf_fn *visit, void *context)
{
    neomm_status status = check_range(root, tables, vaddr, size, true);
    if (status != NEOMM_OK)
        return status;
    neomm_vaddr_t last = vaddr + (size - 1);
    for (neomm_vaddr_t at = vaddr, edge;; at = edge + 1) {
        edge = part_end(root, tables, at, last);
        root->paging->engine->harvest(root, tables, at, edge, clear_dirty, visit, context);
        if (edge == last)
            return NEOMM_OK;
    }
}

static neomm_status check_victims(struct neomm *root, const struct neomm_tables *tables,
                                  const struct neomm_paging_victim *victims, uint32_t count)
{
    neomm_status status = NEOMM_OK;
    for (uint32_t i = 0; i < count && status == NEOMM_OK; i++) {
        status = check_range(root, tables, victims[i].vaddr, NEOMM_PAGE_SIZE, true);
        if (status == NEOMM_OK && i > 0 && victims[i].vaddr <= victims[i - 1].vaddr)
            status = NEOMM_E_INVALID;
    }
    return status;
}

static neomm_status each_victim(struct neomm *root, struct neomm_tables *tables,
                                struct neomm_paging_victim *victims, uint32_t count, bool out)
{
    neomm_status status = check_victims(root, tables, victims, count);
    for (uint32_t first = 0, i = 1; status == NEOMM_OK && first < count; i++)
        if (i == count || !is_one_part(victims[first].vaddr, victims[i].vaddr)) {
            root->paging->engine->victims(root, tables, &victims[first], i - first, out);
            first = i;
        }
    return status;
}

neomm_status neomm_paging_clean(struct neomm *root, struct neomm_tables *tables,
                                struct neomm_paging_victim *victims, uint32_t count)
{
    return each_victim(root, tables, victims, count, false);
}

neomm_status neomm_paging_swap_out(struct neomm *root, struct neomm_tables *tables,
                                   struct neomm_paging_victim *victims, uint32_t count)
{
    return each_victim(root, tables, victims, count, true);
}

neomm_status neomm_paging_walk(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                               size_t size, neomm_leaf_fn *visit, void *context)
{
    neomm_status status = check_range(root, tables, vaddr, size, false);
    if (status != NEOMM_OK)
        return status;
    neomm_vaddr_t last = vaddr + (size - 1);
    for (neomm_vaddr_t at = vaddr, edge;; at = edge + 1) {
        edge = part_end(root, tables, at, last);
        root->paging->engine->walk(root, tables, at, edge, visit, context);
        if (edge == last)
            return NEOMM_OK;
    }
}
