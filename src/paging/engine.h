/* The page-table engine: every operation on a range, compiled once for each format.
 * SPDX-License-Identifier: MIT
 *
 * The including file has included a format header. Ranges are [vaddr, last] and have been
 * checked. The order that all operations keep:
 *
 *   1. the tables are locked (cursor.h)
 *   2. whatever may fail (tables to be made, large leaves to be split)
 *   3. entries are changed, and the pages whose translations are due are gathered
 *   4. these are invalidated on every CPU that may have them
 *   5. callbacks learn of leaves that are gone
 *   6. the tables are unlocked, and those that went are freed when nobody can be in them
 */
#include "flush.h"
#include "tables.h"

#include "base/epoch.h"

#include <neomm/pmm.h>

#include "entry_store.h"

#include "cursor.h"

/* Every engine's symbol is neomm__engine_ and its format's name. */
#define ENGINE_JOIN(a, b)   a##b
#define ENGINE_SYMBOL(name) ENGINE_JOIN(neomm__engine_, name)

static inline void decode(unsigned level, entry_t entry, struct neomm_mapping *mapping)
{
    bool swapped = entry_is_swap(entry), present = entry != 0 && !swapped;
    *mapping = (struct neomm_mapping){
        .state = present   ? NEOMM_MAPPING_PRESENT
                 : swapped ? NEOMM_MAPPING_SWAPPED
                           : NEOMM_MAPPING_NONE,
        .size = (size_t)1 << FORMAT_SHIFT(level),
    };
    if (swapped)
        mapping->swap = entry_swap(entry);
    if (!present)
        return;
    mapping->prot = entry_rights(entry);
    mapping->paddr = entry_leaf_paddr(level, entry);
    mapping->cache = entry_cache(level, entry);
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

/* The leaf here is out of the CPU's sight, and what it says of A and D is final. Others go on
 * seeing it as it was. */
static entry_t pause_leaf(struct cursor *c)
{
    unsigned index = cursor_index(c);
    entry_t whole = cursor_entry(c);
    if (!entry_is_present(whole))
        return whole;
    while (!cursor_cas(c, index, &whole, entry_pause(whole)))
        ;
    neomm__flush_add(&c->flush, cursor_start(c));
    invalidate(c, NEOMM_FLUSH_SITE_SPLIT);
    settled(c, NEOMM_FLUSH_SITE_SPLIT);
    return whole;
}

/* Replaces the large leaf here by a table of the next smaller leaves and enters it. In between
 * nothing is mapped, so that no CPU ever has both sizes (SDM 3A 4.10.2.3), and the A and D bits
 * that the parts inherit are final. */
static neomm_status split(struct cursor *c)
{
    unsigned level = c->level - 1;
    neomm_status status = neomm__table_alloc_to_split(c->root, c->tables->owner, &c->spare);
    if (status != NEOMM_OK)
        return status;
    neomm_frame_t frame = neomm__frame_list_pop(&c->root->frames, &c->spare);
    entry_t *table = neomm__table_pointer(c->root, frame), whole = pause_leaf(c);
    for (unsigned i = 0; i < FORMAT_ENTRIES(level); i++)
        entry_make(&table[i], entry_place(frame, i), entry_part(level + 1, whole, i));
    c->stores += FORMAT_ENTRIES(level);
    c->made++;
    cursor_adopt(c, frame, FORMAT_ENTRIES(level));
    (void)cursor_replace(c, cursor_index(c), cursor_entry(c),
                         entry_make_table(level + 1, frame, c->user));
    cursor_enter(c, level, frame);
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

/* Does the leaf with the last byte of the range go on behind it? */
static bool end_sticks_out(struct cursor *c)
{
    const entry_t *table = c->table[c->base];
    unsigned level = c->base;
    entry_t entry = entry_load(&table[index_at(level, c->last)]);
    for (c->reads++; entry_is_table(level, entry); c->reads++) {
        table = neomm__table_pointer(c->root, entry_table_frame(entry));
        entry = entry_load(&table[index_at(--level, c->last)]);
    }
    return entry_is_leaf(level, entry) && (c->last | span_mask(level)) != c->last;
}

/* Sees to it that every leaf in the cursor's range lies in it with all its bytes; the cursor is
 * at the start before and after. */
static neomm_status split_edges(struct cursor *c)
{
    neomm_vaddr_t first = c->at;
    if (c->base == 0)
        return NEOMM_OK;
    neomm_status status = split_until(c, false);
    if (status != NEOMM_OK || !end_sticks_out(c))
        return status;
    cursor_seek(c, c->last);
    status = split_until(c, true);
    cursor_seek(c, first);
    return status;
}

static neomm_status engine_split_at(struct neomm *root, struct neomm_tables *tables,
                                    neomm_vaddr_t at, bool ends)
{
    struct cursor c;
    cursor_open(&c, root, tables, at, at);
    neomm_status status = split_until(&c, ends);
    cursor_close(&c);
    return status;
}

#include "engine_map.h"

/* ---- protect and harvest ---- */

/* One leaf, if it is one: hidden or to be hidden, or one that the MMU may write to. */
static void protect_one(struct cursor *c, unsigned index, neomm_vaddr_t vaddr, neomm_prot_t prot)
{
    entry_t before = entry_load(&c->table[c->level][index]), after;
    if (!entry_is_leaf(c->level, before))
        return;
    do
        after = entry_with_rights(before, prot, c->user, c->nx);
    while (before != after && !cursor_cas(c, index, &before, after));
    if (entry_narrows(before, after))
        neomm__flush_add(&c->flush, vaddr);
}

/* Leaves from `index` on that differ from `like` in the address alone, and stay present: most
 * tables are made of long runs of them, and what is to be done is decided once for each. Returns
 * how many there are. */
static unsigned protect_same(struct cursor *c, unsigned index, unsigned end, entry_t like,
                             entry_t after)
{
    entry_t *table = c->table[c->level], change = like ^ after;
    unsigned i = index;
    for (entry_t entry; i < end; i++) {
        entry = entry_load(&table[i]);
        if (((entry ^ like) & ~ENTRY_ADDRESS) != 0)
            break;
        if (change != 0)
            entry_store(&table[i], entry_place(c->frame[c->level], i), entry, entry ^ change);
    }
    c->stores += change != 0 ? i - index : 0;
    return i - index;
}

static void protect_run(struct cursor *c, unsigned end, neomm_prot_t prot,
                        struct entry_change change)
{
    neomm_vaddr_t vaddr = cursor_start(c);
    for (unsigned i = cursor_index(c), count = 1; i < end; i += count) {
        entry_t like = entry_load(&c->table[c->level][i]), after = entry_changed(like, change);
        if (prot == NEOMM_PROT_NONE || !entry_is_present(like) || !entry_is_still(c->level, like)) {
            protect_one(c, i, vaddr, prot);
            count = 1;
        } else {
            count = protect_same(c, i, end, like, after);
            if (entry_narrows(like, after))
                neomm__flush_add_pages(&c->flush, vaddr, count);
        }
        vaddr += count * NEOMM_PAGE_SIZE;
    }
}

static void protect_range(struct cursor *c, neomm_prot_t prot)
{
    const struct entry_change change = entry_change_to(prot, c->user, c->nx);
    do {
        unsigned count = c->level == 0 ? cursor_run(c) : 1;
        protect_run(c, cursor_index(c) + count, prot, change);
        cursor_skip(c, count);
    } while (cursor_next(c));
    invalidate(c, NEOMM_FLUSH_SITE_PROTECT);
    settled(c, NEOMM_FLUSH_SITE_PROTECT);
}

static neomm_status engine_protect(struct neomm *root, struct neomm_tables *tables,
                                   neomm_vaddr_t vaddr, neomm_vaddr_t last, neomm_prot_t prot)
{
    struct cursor c;
    cursor_open(&c, root, tables, vaddr, last);
    neomm_status status = split_edges(&c);
    if (status == NEOMM_OK)
        protect_range(&c, prot);
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
        while ((before & bits) != 0 && !cursor_cas(&c, cursor_index(&c), &before, before & ~bits))
            ;
        if ((before & bits) != 0 && entry_is_present(before))
            neomm__flush_add(&c.flush, cursor_start(&c));
        decode(c.level, before, &leaf);
        if (visit)
            visit(context, cursor_start(&c), &leaf);
    } while (cursor_next(&c));
    invalidate(&c, NEOMM_FLUSH_SITE_HARVEST);
    settled(&c, NEOMM_FLUSH_SITE_HARVEST);
    cursor_close(&c);
}

/* ---- one entry ---- */

/* Without locks: what it finds was there at some moment of the call. */
static void engine_query(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                         struct neomm_mapping *mapping)
{
    neomm_irq_t irq = neomm_port_irq_save();
    struct neomm__cpu_state *cpu = neomm__cpu(root);
    const uint8_t *memory = neomm__table_pointer(root, neomm_frame(0));
    size_t table = (size_t)neomm_frame_paddr(tables->top);
    unsigned level = FORMAT_LEVELS;
    entry_t entry;
    neomm__epoch_begin(root, cpu);
    do {
        level--;
        entry = entry_load_shared((const entry_t *)(const void *)(memory + table) +
                                  index_at(level, vaddr));
        table = (size_t)(entry & ENTRY_ADDRESS);
    } while (entry_is_table(level, entry));
    neomm__epoch_end(cpu);
    neomm__count_masked(cpu, NEOMM_COUNTER_DESCENT, 1);
    neomm__count_masked(cpu, NEOMM_COUNTER_ENTRY_READ, FORMAT_LEVELS - level);
    neomm_port_irq_restore(irq);
    decode(level, entry, mapping);
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

/* The entry here is empty: it, or a table for it, gets its first entry. */
static neomm_status exchange_first(struct cursor *c, entry_t after)
{
    const struct neomm__map_request request = {
        .vaddr = c->at, .last = c->last, .paddr = 0, .leaf_levels = 1};
    neomm_status status = neomm__table_alloc_list(c->root, c->tables->owner, c->level, &c->spare);
    if (status == NEOMM_OK)
        fill(c, &request, after);
    return status;
}

/* Rights and D, too, at the moment of the exchange; A may be set until then. */
static bool is_expected_exactly(unsigned level, entry_t entry, const struct neomm_mapping *expect)
{
    struct neomm_mapping now;
    decode(level, entry, &now);
    return is_expected(level, entry, expect) &&
           (now.state != NEOMM_MAPPING_PRESENT ||
            (now.prot == expect->prot && now.dirty == expect->dirty));
}

static bool replace_exactly(struct cursor *c, entry_t *before, entry_t after,
                            const struct neomm_mapping *expect)
{
    do
        if (!is_expected_exactly(c->level, *before, expect))
            return false;
    while (!cursor_cas(c, cursor_index(c), before, after));
    return true;
}

static neomm_status exchange_here(struct cursor *c, const struct neomm_mapping *expect,
                                  const struct neomm_mapping *next, struct neomm_mapping *last,
                                  bool exact)
{
    entry_t before = cursor_entry(c), after = encode(c->root->paging, 0, c->user, next);
    if (last)
        decode(c->level, before, last);
    if (!is_expected(c->level, before, expect))
        return NEOMM_E_AGAIN;
    if (before == 0)
        return after == 0 ? NEOMM_OK : exchange_first(c, after);
    if (!exact)
        before = cursor_replace(c, cursor_index(c), before, after);
    else if (!replace_exactly(c, &before, after, expect))
        return NEOMM_E_AGAIN;
    *cursor_live(c, 0) -= after == 0;
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
                                    const struct neomm_mapping *next, struct neomm_mapping *last,
                                    bool exact)
{
    struct cursor c;
    if (next->state == NEOMM_MAPPING_SWAPPED && !entry_swap_fits(&next->swap))
        return NEOMM_E_RANGE;
    cursor_open(&c, root, tables, vaddr, vaddr + span_mask(0));
    neomm_status status = exchange_here(&c, expect, next, last, exact);
    cursor_close(&c);
    return status;
}

#include "engine_victims.h"

/* A slot has its tables from the start, and one CPU alone uses it; interrupts are masked. */
static void engine_set_slot(struct neomm *root, neomm_vaddr_t vaddr, neomm_frame_t frame)
{
    struct cursor c;
    entry_t entry = 0;
    cursor_init(&c, root, &root->paging->kernel, vaddr, vaddr);
    cursor_find(&c, 0);
    if (!neomm_frame_is_nil(frame))
        entry = entry_make_leaf(0, neomm_frame_paddr(frame), NEOMM_PROT_READ | NEOMM_PROT_WRITE,
                                NEOMM_CACHE_WB, false, c.nx) |
                ENTRY_ACCESSED | ENTRY_DIRTY;
    (void)cursor_replace(&c, cursor_index(&c), cursor_entry(&c), entry);
    cursor_count(&c);
    neomm_port_irq_restore(c.irq);
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

#include "engine_unmap.h"

#include "engine_copy.h"

#include "engine_loader.h"

#include "engine_life.h"
