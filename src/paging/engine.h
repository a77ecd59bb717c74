/* The page-table engine: every operation on a range, compiled once for each format.
 * SPDX-License-Identifier: MIT
 *
 * The including file has included a format header. Ranges are [vaddr, last] and have been
 * checked, the tables' lock is held. The order that all operations keep:
 *
 *   1. whatever may fail (tables to be made, large leaves to be split)
 *   2. entries are changed, and the pages whose translations are due are gathered
 *   3. these are invalidated on every CPU that may have them
 *   4. callbacks learn of leaves that are gone, and tables that became empty are freed
 */
#include "flush.h"
#include "tables.h"

#include <neomm/pmm.h>

#include "entry_store.h"

#include "cursor.h"

/* Every engine's symbol is neomm__engine_ and its format's name. */
#define ENGINE_JOIN(a, b)   a##b
#define ENGINE_SYMBOL(name) ENGINE_JOIN(neomm__engine_, name)

static void decode(unsigned level, entry_t entry, struct neomm_mapping *mapping)
{
    memset(mapping, 0, sizeof(*mapping));
    mapping->size = (size_t)1 << FORMAT_SHIFT(level);
    if (entry == 0)
        return;
    if (entry_is_swap(entry)) {
        mapping->state = NEOMM_MAPPING_SWAPPED;
        mapping->swap = entry_swap(entry);
        return;
    }
    mapping->state = NEOMM_MAPPING_PRESENT;
    mapping->prot = entry_rights(entry);
    mapping->paddr = entry_leaf_paddr(entry);
    mapping->cache = entry_cache(entry);
    mapping->accessed = (entry & ENTRY_ACCESSED) != 0;
    mapping->dirty = (entry & ENTRY_DIRTY) != 0;
}

static entry_t encode(const struct neomm__paging *paging, unsigned level, bool user,
                      const struct neomm_mapping *mapping)
{
    if (mapping->state == NEOMM_MAPPING_NONE)
        return 0;
    if (mapping->state == NEOMM_MAPPING_SWAPPED)
        return entry_make_swap(&mapping->swap);
    return entry_make_leaf(level, mapping->paddr, mapping->prot, mapping->cache, user,
                           (entry_t)paging->nx) |
           (mapping->accessed ? ENTRY_ACCESSED : 0) | (mapping->dirty ? ENTRY_DIRTY : 0);
}

/* Invalidates what the cursor has gathered. */
static inline void invalidate(struct cursor *c, enum neomm_flush_site site)
{
    neomm__flush(c->root, c->tables, &c->flush, site);
}

/* From here on no CPU may have a translation that the tables do not grant. */
static inline void settled(const struct cursor *c, enum neomm_flush_site site)
{
    NEOMM__SETTLED(c->tables->top, site);
    (void)c;
}

/* ---- split ---- */

/* Replaces the large leaf here by a table of the next smaller leaves and enters it. In between
 * nothing is mapped, so that no CPU ever has both sizes (SDM 3A 4.10.2.3), and the A and D bits
 * that the parts inherit are final. */
static neomm_status split(struct cursor *c)
{
    neomm_frame_t frame;
    unsigned level = c->level;
    neomm_status status = neomm__table_alloc(c->root, c->tables->owner, &frame);
    if (status != NEOMM_OK)
        return status;
    entry_t whole = cursor_exchange(c, 0);
    if (entry_is_present(whole))
        neomm__flush_add(&c->flush, cursor_start(c));
    invalidate(c, NEOMM_FLUSH_SITE_SPLIT);
    settled(c, NEOMM_FLUSH_SITE_SPLIT);
    cursor_enter(c, level - 1, frame);
    for (unsigned i = 0; i < FORMAT_ENTRIES(level - 1); i++)
        cursor_fill(c, i, entry_part(level, whole, i));
    *cursor_live(c, level - 1) = FORMAT_ENTRIES(level - 1);
    c->level = level;
    cursor_fill(c, cursor_index(c), entry_make_table(level, frame, c->user));
    c->tables->table_frames++;
    c->level = level - 1;
    return NEOMM_OK;
}

/* Splits the leaf at the cursor until the one at hand starts (or, at_end, ends) at the cursor's
 * address. */
static neomm_status split_until(struct cursor *c, bool at_end)
{
    neomm_status status = NEOMM_OK;
    while (status == NEOMM_OK && c->level > 0 && entry_is_leaf(c->level, cursor_entry(c)) &&
           (at_end ? (c->at | span_mask(c->level)) != c->at : cursor_start(c) != c->at))
        status = split(c);
    return status;
}

/* Sees to it that every leaf in the cursor's range lies in it with all its bytes; the cursor is
 * at the start before and after. */
static neomm_status split_edges(struct cursor *c)
{
    neomm_vaddr_t first = c->at;
    neomm_status status = split_until(c, false);
    if (status != NEOMM_OK || (c->last & span_mask(1)) == span_mask(1))
        return status;
    cursor_seek(c, c->last);
    status = split_until(c, true);
    cursor_seek(c, first);
    return status;
}

/* ---- map ---- */

static inline neomm_paddr_t request_paddr(const struct neomm__map_request *request,
                                          neomm_vaddr_t at)
{
    if (request->frames)
        return neomm_frame_paddr(request->frames[(at - request->vaddr) >> NEOMM_PAGE_SHIFT]);
    return request->paddr + (at - request->vaddr);
}

/* May one leaf of `level` at `at` be mapped without passing `last`? */
static inline bool leaf_fits(const struct neomm__map_request *request, unsigned level,
                             neomm_vaddr_t at, neomm_vaddr_t last)
{
    if (level == 0)
        return true;
    return (request->leaf_levels >> level & 1u) != 0 && (at & span_mask(level)) == 0 &&
           last - at >= span_mask(level) && (request_paddr(request, at) & span_mask(level)) == 0;
}

/* Tables needed below an empty entry of `level` to map [at, last], all inside the entry. */
static uint32_t tables_missing(const struct neomm__map_request *request, unsigned level,
                               neomm_vaddr_t at, neomm_vaddr_t last)
{
    uint32_t count = 1;
    if (leaf_fits(request, level, at, last))
        return 0;
    if (level == 1)
        return 1;
    for (;;) {
        neomm_vaddr_t edge = at | span_mask(level - 1);
        count += tables_missing(request, level - 1, at, edge < last ? edge : last);
        if (edge >= last)
            return count;
        at = edge + 1;
    }
}

/* First pass: is the whole range empty, and how many tables does it need? Changes nothing. */
static neomm_status survey(struct cursor *c, const struct neomm__map_request *request,
                           uint32_t *missing)
{
    *missing = 0;
    do {
        if (cursor_entry(c) != 0)
            return NEOMM_E_EXISTS;
        neomm_vaddr_t edge = c->at | span_mask(c->level);
        if (c->level > 0)
            *missing += tables_missing(request, c->level, c->at, edge < c->last ? edge : c->last);
    } while (cursor_next(c));
    return NEOMM_OK;
}

/* Leaves from the cursor to the end of its table or of the range; the last one's last byte comes
 * back. Above level 0 one leaf only: its neighbour may be a table that was left empty. */
static neomm_vaddr_t fill_run(struct cursor *c, const struct neomm__map_request *request)
{
    unsigned level = c->level, index = cursor_index(c);
    neomm_vaddr_t at = c->at, span = span_mask(level) + 1;
    size_t count = 1;
    if (level == 0) {
        size_t wanted = ((c->last - at) >> NEOMM_PAGE_SHIFT) + 1;
        count = FORMAT_ENTRIES(0) - index;
        count = count < wanted ? count : wanted;
    }
    entry_t leaf = entry_make_leaf(level, 0, request->prot, request->cache, c->user, c->nx);
    for (size_t i = 0; i < count; i++, at += span)
        cursor_fill(c, index + (unsigned)i, entry_at_paddr(leaf, request_paddr(request, at)));
    *cursor_live(c, level) += count;
    return at - 1;
}

static neomm_status engine_map(struct neomm *root, struct neomm_tables *tables,
                               const struct neomm__map_request *request)
{
    struct cursor c;
    uint32_t missing;
    cursor_open(&c, root, tables, request->vaddr, request->last);
    neomm_status status = survey(&c, request, &missing);
    if (status == NEOMM_OK)
        status = neomm__table_alloc_list(root, tables->owner, missing, &c.spare);
    for (neomm_vaddr_t at = request->vaddr; status == NEOMM_OK;) {
        cursor_seek(&c, at);
        while (!leaf_fits(request, c.level, c.at, c.last))
            cursor_link(&c);
        neomm_vaddr_t edge = fill_run(&c, request);
        if (edge == c.last)
            break;
        at = edge + 1;
    }
    NEOMM__ASSERT(c.spare.count == 0);
    cursor_close(&c);
    return status;
}

/* ---- unmap ---- */

/* Leaves that are cleared, until they are invalidated. The level is in the low bits of vaddr. */
#define GATHER_MAX 128
struct gathered {
    unsigned count;
    neomm_leaf_fn *released;
    void *context;
    neomm_vaddr_t vaddr[GATHER_MAX];
    entry_t entry[GATHER_MAX];
};

/* Steps 3 and 4. The invalidation of any page forgets paging-structure caches too; where tables
 * go and no page is due, one is invalidated for their sake. */
static void release(struct cursor *c, struct gathered *g)
{
    struct neomm_mapping leaf;
    enum neomm_flush_site site = NEOMM_FLUSH_SITE_UNMAP;
    if (c->flush.count == 0 && c->garbage.count != 0) {
        site = NEOMM_FLUSH_SITE_UNMAP_TABLE;
        neomm__flush_add(&c->flush, c->at);
    }
    invalidate(c, site);
    settled(c, site);
    for (unsigned i = 0; i < g->count; i++) {
        decode((unsigned)(g->vaddr[i] & 7u), g->entry[i], &leaf);
        g->released(g->context, g->vaddr[i] & ~(neomm_vaddr_t)7, &leaf);
    }
    g->count = 0;
    neomm__table_free_list(c->root, &c->garbage);
}

static inline void take(struct cursor *c, struct gathered *g)
{
    entry_t entry = cursor_exchange(c, 0);
    --*cursor_live(c, c->level);
    if (entry_is_present(entry))
        neomm__flush_add(&c->flush, cursor_start(c));
    if (!g->released)
        return;
    g->vaddr[g->count] = cursor_start(c) | c->level;
    g->entry[g->count] = entry;
    if (++g->count == GATHER_MAX)
        release(c, g);
}

static neomm_status engine_unmap(struct neomm *root, struct neomm_tables *tables,
                                 neomm_vaddr_t vaddr, neomm_vaddr_t last, neomm_leaf_fn *released,
                                 void *context)
{
    struct cursor c;
    struct gathered g;
    g.count = 0;
    g.released = released;
    g.context = context;
    cursor_open(&c, root, tables, vaddr, last);
    neomm_status status = split_edges(&c);
    if (status == NEOMM_OK) {
        c.prune = true;
        do {
            if (cursor_entry(&c) != 0)
                take(&c, &g);
        } while (cursor_next(&c));
        while (c.level < FORMAT_TOP)
            cursor_ascend(&c);
        release(&c, &g);
    }
    cursor_close(&c);
    return status;
}

/* ---- protect and harvest ---- */

static neomm_status engine_protect(struct neomm *root, struct neomm_tables *tables,
                                   neomm_vaddr_t vaddr, neomm_vaddr_t last, neomm_prot_t prot)
{
    struct cursor c;
    cursor_open(&c, root, tables, vaddr, last);
    neomm_status status = split_edges(&c);
    if (status == NEOMM_OK) {
        do {
            entry_t before = cursor_entry(&c), after;
            if (!entry_is_leaf(c.level, before))
                continue;
            do
                after = entry_with_rights(before, prot, c.user, c.nx);
            while (before != after && !cursor_cas(&c, &before, after));
            if (entry_narrows(before, after))
                neomm__flush_add(&c.flush, cursor_start(&c));
        } while (cursor_next(&c));
        invalidate(&c, NEOMM_FLUSH_SITE_PROTECT);
        settled(&c, NEOMM_FLUSH_SITE_PROTECT);
    }
    cursor_close(&c);
    return status;
}

static void engine_harvest(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                           neomm_vaddr_t last, bool clear_dirty, neomm_leaf_fn *visit,
                           void *context)
{
    entry_t bits = ENTRY_ACCESSED | (clear_dirty ? ENTRY_DIRTY : 0);
    struct neomm_mapping leaf;
    struct cursor c;
    cursor_open(&c, root, tables, vaddr, last);
    do {
        entry_t before = cursor_entry(&c);
        if (!entry_is_leaf(c.level, before))
            continue;
        while ((before & bits) != 0 && !cursor_cas(&c, &before, before & ~bits))
            ;
        if ((before & bits) != 0 && entry_is_present(before))
            neomm__flush_add(&c.flush, cursor_start(&c));
        decode(c.level, before, &leaf);
        visit(context, cursor_start(&c), &leaf);
    } while (cursor_next(&c));
    invalidate(&c, NEOMM_FLUSH_SITE_HARVEST);
    settled(&c, NEOMM_FLUSH_SITE_HARVEST);
    cursor_close(&c);
}

/* ---- one entry ---- */

static void engine_query(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                         struct neomm_mapping *mapping)
{
    struct cursor c;
    cursor_open(&c, root, tables, vaddr, vaddr);
    decode(c.level, cursor_entry(&c), mapping);
    cursor_close(&c);
}

static bool is_expected(unsigned level, entry_t entry, const struct neomm_mapping *expect)
{
    struct neomm_mapping now;
    decode(level, entry, &now);
    if (now.state != expect->state)
        return false;
    if (now.state == NEOMM_MAPPING_PRESENT)
        return level == 0 && now.paddr == expect->paddr;
    return now.state == NEOMM_MAPPING_NONE ||
           (now.swap.kind == expect->swap.kind && now.swap.slot == expect->swap.slot &&
            now.swap.generation == expect->swap.generation);
}

static neomm_status exchange_here(struct cursor *c, const struct neomm_mapping *expect,
                                  const struct neomm_mapping *next, struct neomm_mapping *last)
{
    neomm_status status = NEOMM_OK;
    entry_t before = cursor_entry(c), after = encode(c->root->paging, 0, c->user, next);
    if (last)
        decode(c->level, before, last);
    if (!is_expected(c->level, before, expect))
        return NEOMM_E_AGAIN;
    if (before == 0 && after == 0)
        return NEOMM_OK;
    if (c->level > 0)
        status = cursor_deepen(c, 0);
    if (status != NEOMM_OK)
        return status;
    before = cursor_exchange(c, after);
    *cursor_live(c, 0) += (uint64_t)(after != 0) - (uint64_t)(before != 0);
    if (entry_is_present(before))
        neomm__flush_add(&c->flush, cursor_start(c));
    invalidate(c, NEOMM_FLUSH_SITE_EXCHANGE);
    settled(c, NEOMM_FLUSH_SITE_EXCHANGE);
    if (last)
        decode(0, before, last);
    return NEOMM_OK;
}

static neomm_status engine_exchange(struct neomm *root, struct neomm_tables *tables,
                                    neomm_vaddr_t vaddr, const struct neomm_mapping *expect,
                                    const struct neomm_mapping *next, struct neomm_mapping *last)
{
    struct cursor c;
    if (next->state == NEOMM_MAPPING_SWAPPED && !entry_swap_fits(&next->swap))
        return NEOMM_E_RANGE;
    cursor_open(&c, root, tables, vaddr, vaddr);
    neomm_status status = exchange_here(&c, expect, next, last);
    cursor_close(&c);
    return status;
}

/* A slot has its tables from the start, and one CPU alone uses it. */
static void engine_set_slot(struct neomm *root, neomm_vaddr_t vaddr, neomm_frame_t frame)
{
    struct cursor c;
    entry_t entry = 0;
    cursor_open(&c, root, &root->paging->kernel, vaddr, vaddr);
    if (!neomm_frame_is_nil(frame))
        entry = entry_make_leaf(0, neomm_frame_paddr(frame), NEOMM_PROT_READ | NEOMM_PROT_WRITE,
                                NEOMM_CACHE_WB, false, c.nx);
    (void)cursor_exchange(&c, entry);
    cursor_close(&c);
}

/* ---- looking around ---- */

static void engine_walk(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                        neomm_vaddr_t last, neomm_leaf_fn *visit, void *context)
{
    struct neomm_mapping leaf;
    struct cursor c;
    cursor_open(&c, root, tables, vaddr, last);
    do {
        entry_t entry = cursor_entry(&c);
        if (entry == 0)
            continue;
        decode(c.level, entry, &leaf);
        visit(context, cursor_start(&c), &leaf);
    } while (cursor_next(&c));
    cursor_close(&c);
}

static bool engine_occupied(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last)
{
    struct cursor c;
    cursor_open(&c, root, tables, vaddr, last);
    while (cursor_entry(&c) == 0)
        if (!cursor_next(&c))
            break;
    bool occupied = cursor_entry(&c) != 0;
    cursor_close(&c);
    return occupied;
}

#include "engine_life.h"
