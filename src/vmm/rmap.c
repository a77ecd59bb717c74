/* Mapping sets (rmap.h): open addressing with linear probing, in tables of powers of two.
 * SPDX-License-Identifier: MIT
 *
 * Removing closes the gap, so there are no tombstones and a search ends at the first empty word. A
 * table of 2^n words grows when three quarters would be exceeded, and halves at an eighth, so that
 * neither follows the other soon; a single entry goes back into the descriptor.
 */
#include "vmm/rmap.h"

#include "base/bits.h"

#include <neomm/heap.h>
#include <neomm/pmm.h>

#define MANY          ((uint64_t)1 << 63)
#define ORDER_SHIFT   58
#define ORDER_MASK    0x1fu
#define IN_WINDOW     ((uint64_t)1 << 57)
#define PLACE_SHIFT   5 /* tables are aligned to their size, 32 bytes at least */
#define PLACE_MASK    (((uint64_t)1 << 52) - 1)
#define ORDER_FIRST   2u
#define ORDER_LAST    19u /* 4 MiB */
#define ORDER_IN_HEAP 9u  /* up to a page; larger ones are blocks of frames */

_Static_assert(NEOMM__RMAP_MOST == ((uint32_t)1 << ORDER_LAST) / 4 * 3, "the largest table");
_Static_assert(((size_t)8 << ORDER_LAST) == NEOMM_PAGE_SIZE << NEOMM_ORDER_MAX, "is a block");

/* ---- the lock ---- */

static inline void note_taken(void)
{
#if NEOMM_INSTRUMENTED
    struct neomm__lock of_class = NEOMM__LOCK_INIT(FRAME);
    neomm__lock_note_taken(&of_class);
#endif
}

static inline void note_released(void)
{
#if NEOMM_INSTRUMENTED
    struct neomm__lock of_class = NEOMM__LOCK_INIT(FRAME);
    neomm__lock_note_released(&of_class);
#endif
}

neomm_irq_t neomm__rmap_lock(struct neomm__frame *entry)
{
    neomm_irq_t irq = neomm_port_irq_save();
    while (neomm__fetch_or(&entry->mappings, NEOMM__RMAP_LOCK) & NEOMM__RMAP_LOCK) {
        neomm_port_irq_restore(irq);
        while (neomm__load_relaxed(&entry->mappings) & NEOMM__RMAP_LOCK)
            neomm__spin();
        irq = neomm_port_irq_save();
    }
    note_taken();
    return irq;
}

/* And counts so many entries more, in the same step. */
static void unlock_with(struct neomm__frame *entry, neomm_irq_t irq, uint32_t more)
{
    note_released();
    (void)neomm__fetch_sub(&entry->mappings, NEOMM__RMAP_LOCK - more);
    NEOMM__YIELD();
    neomm_port_irq_restore(irq);
}

void neomm__rmap_unlock(struct neomm__frame *entry, neomm_irq_t irq)
{
    unlock_with(entry, irq, 0);
}

/* It is counted until the lock is given back. A set of one entry has no table. */
bool neomm__rmap_try_empty(struct neomm__frame *entry, uint64_t mapping, unsigned flags,
                           neomm_irq_t *irq)
{
    uint32_t one = 1;
    *irq = neomm_port_irq_save();
    if (!neomm__cas(&entry->mappings, &one, NEOMM__RMAP_LOCK | 1)) {
        neomm_port_irq_restore(*irq);
        return false;
    }
    note_taken();
    if (entry->mapping == mapping && !neomm__frame_has(entry, flags)) {
        entry->mapping = 0;
        return true;
    }
    neomm__rmap_unlock(entry, *irq);
    return false;
}

/* A mark that came meanwhile stays: a change of the policy sets one in all frames of a domain. */
void neomm__rmap_unlock_empty(struct neomm__frame *entry, neomm_irq_t irq)
{
    note_released();
    (void)neomm__fetch_and(&entry->mappings, ~(NEOMM__RMAP_LOCK | NEOMM__RMAP_COUNT));
    NEOMM__YIELD();
    neomm_port_irq_restore(irq);
}

/* ---- tables ---- */

static uint64_t *heap_alloc(struct neomm *root, size_t bytes)
{
    return neomm_kzalloc(root, bytes, NEOMM_ATOMIC);
}

static uint64_t *frames_alloc(struct neomm *root, unsigned order)
{
    neomm_frame_t frame;
    neomm_status status =
        neomm_pmm_alloc(root, order - ORDER_IN_HEAP, NEOMM_ATOMIC | NEOMM_ZERO, &frame);
    return status == NEOMM_OK ? neomm_direct_pointer(root, neomm_frame_paddr(frame)) : NULL;
}

static struct neomm__rmap_table table_alloc(struct neomm *root, unsigned order)
{
    struct neomm__rmap_table table = {NULL, order};
    if (!NEOMM__FAULT(VMM_RMAP))
        table.words = order <= ORDER_IN_HEAP ? heap_alloc(root, (size_t)8 << order)
                                             : frames_alloc(root, order);
    return table;
}

void neomm__rmap_free(struct neomm *root, struct neomm__rmap_table table)
{
    if (table.order <= ORDER_IN_HEAP) {
        (void)neomm_kfree(root, table.words);
        return;
    }
    const struct neomm_area *direct = &root->layout.direct;
    uintptr_t first = direct->base + (uintptr_t)direct->delta;
    neomm_frame_t frame = neomm_paddr_frame((uintptr_t)table.words - first);
    neomm_status status = neomm_pmm_free(root, frame, table.order - ORDER_IN_HEAP);
    NEOMM__ASSERT(status == NEOMM_OK);
}

static bool is_table(uint64_t mapping)
{
    return (mapping & MANY) != 0;
}

/* Heap memory lies in the direct map, but for guarded objects, which lie in the window. */
static uint64_t number_of(const struct neomm *root, struct neomm__rmap_table table)
{
    const struct neomm_layout *layout = &root->layout;
    uintptr_t direct = layout->direct.base + (uintptr_t)layout->direct.delta;
    uintptr_t window = layout->window.base + (uintptr_t)layout->window.delta;
    bool far = (uintptr_t)table.words - direct >= layout->direct.size;
    uint64_t place = ((uintptr_t)table.words - (far ? window : direct)) >> PLACE_SHIFT;
    return MANY | (uint64_t)table.order << ORDER_SHIFT | (far ? IN_WINDOW : 0) | place;
}

static struct neomm__rmap_table table_of(const struct neomm *root, uint64_t mapping)
{
    const struct neomm_area *area =
        mapping & IN_WINDOW ? &root->layout.window : &root->layout.direct;
    uintptr_t first = area->base + (uintptr_t)area->delta;
    struct neomm__rmap_table table = {
        (uint64_t *)(first + (uintptr_t)((mapping & PLACE_MASK) << PLACE_SHIFT)),
        (unsigned)(mapping >> ORDER_SHIFT) & ORDER_MASK};
    return table;
}

static uint32_t words_in(const struct neomm__rmap_table *table)
{
    return (uint32_t)1 << (table->order & ORDER_MASK);
}

/* ---- hashing ---- */

/* Neighbouring pages and neighbouring spaces both go apart. */
static uint32_t hash(uint64_t mapping)
{
    uint32_t h = (uint32_t)mapping * 0x9e3779b1u ^ (uint32_t)(mapping >> 32) * 0x85ebca77u;
    h = (h ^ h >> 15) * 0x2c1b3c6du;
    h = (h ^ h >> 12) * 0x297a2d39u;
    return h ^ h >> 15;
}

/* Where the entry is, or else the empty word where it belongs. */
static uint32_t find(const struct neomm__rmap_table *table, uint64_t mapping)
{
    uint32_t mask = words_in(table) - 1, at = hash(mapping) & mask;
    while (table->words[at] != 0 && table->words[at] != mapping)
        at = (at + 1) & mask;
    return at;
}

/* Interrupts are masked, since a set is locked. */
static void count_probes(struct neomm *root, size_t words)
{
    neomm__count_masked(neomm__cpu(root), NEOMM_COUNTER_RMAP_PROBE, words);
}

/* The same, counted. */
static uint32_t probe(struct neomm *root, const struct neomm__rmap_table *table, uint64_t mapping)
{
    uint32_t mask = words_in(table) - 1, at = find(table, mapping);
    count_probes(root, ((at - hash(mapping)) & mask) + 1);
    return at;
}

/* Empties a word and moves up what would not be found any more behind it. */
static void close_gap(struct neomm__rmap_table *table, uint32_t gap)
{
    uint32_t mask = words_in(table) - 1;
    for (uint32_t at = (gap + 1) & mask; table->words[at] != 0; at = (at + 1) & mask) {
        uint32_t home = hash(table->words[at]) & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            table->words[gap] = table->words[at];
            gap = at;
        }
    }
    table->words[gap] = 0;
}

/* ---- adding ---- */

/* Does one more fit into a table of this order? */
static bool has_room(unsigned order, uint32_t count)
{
    return count + 1 <= ((uint32_t)3 << order) / 4;
}

/* The order of the table that one more entry needs and the set does not have; 0: it has room. */
static unsigned order_wanted(const struct neomm__frame *entry, uint32_t count)
{
    if (count == 0)
        return 0;
    if (!is_table(entry->mapping))
        return ORDER_FIRST;
    unsigned order = (unsigned)(entry->mapping >> ORDER_SHIFT) & ORDER_MASK;
    return has_room(order, count) ? 0 : order + 1;
}

/* Moves what the set has into another table, which becomes the set's. The old one comes back. */
static struct neomm__rmap_table move_to(struct neomm *root, struct neomm__frame *entry,
                                        const struct neomm__rmap_table *table)
{
    struct neomm__rmap_table old = {NULL, 0};
    if (is_table(entry->mapping)) {
        old = table_of(root, entry->mapping);
        for (uint32_t i = 0; i < words_in(&old); i++)
            if (old.words[i] != 0)
                table->words[find(table, old.words[i])] = old.words[i];
        count_probes(root, words_in(&old));
    } else if (entry->mapping != 0) {
        table->words[find(table, entry->mapping)] = entry->mapping;
    }
    entry->mapping = number_of(root, *table);
    return old;
}

/* There is room. The entry is not counted yet. */
static bool insert(struct neomm *root, struct neomm__frame *entry, uint64_t mapping)
{
    uint64_t *word = &entry->mapping;
    if (is_table(entry->mapping)) {
        struct neomm__rmap_table table = table_of(root, entry->mapping);
        word = &table.words[probe(root, &table, mapping)];
    }
    if (*word == mapping)
        return false;
    NEOMM__ASSERT(*word == 0);
    *word = mapping;
    return true;
}

struct addition {
    struct neomm *root;
    struct neomm__frame *entry;
    uint64_t mapping;
    struct neomm__rmap_table spare; /* to grow into; or what is to be freed */
    neomm_status status;
    bool join; /* only where there are others */
};

/* The spare table becomes the set's, if it has the order that is wanted. The first table is small
 * enough to be had with the lock. Returns the order that is wanted still. */
static unsigned grow(struct addition *a, unsigned wanted)
{
    if (wanted == ORDER_FIRST && !a->spare.words) {
        a->spare = table_alloc(a->root, wanted);
        a->status = a->spare.words ? NEOMM_OK : NEOMM_E_NOMEM;
    }
    if (a->spare.words && a->spare.order == wanted)
        a->spare = move_to(a->root, a->entry, &a->spare);
    else if (a->status == NEOMM_OK)
        return wanted;
    return 0;
}

/* Adds the entry, with the help of the spare table if that is what is needed; or says of what order
 * one is needed. */
static unsigned try_add(struct addition *a)
{
    neomm_irq_t irq = neomm__rmap_lock(a->entry);
    unsigned wanted = order_wanted(a->entry, neomm__rmap_count(a->entry));
    if (a->join && neomm__rmap_count(a->entry) == 0)
        a->status = NEOMM_E_NOENT;
    if (wanted != 0 && neomm__rmap_has(a->root, a->entry, a->mapping)) {
        a->status = NEOMM_E_EXISTS;
        wanted = 0;
    } else if (wanted != 0) {
        wanted = grow(a, wanted);
    }
    if (wanted == 0 && a->status == NEOMM_OK && !insert(a->root, a->entry, a->mapping))
        a->status = NEOMM_E_EXISTS;
    unlock_with(a->entry, irq, wanted == 0 && a->status == NEOMM_OK);
    return wanted;
}

static void drop_spare(struct addition *a)
{
    if (a->spare.words)
        neomm__rmap_free(a->root, a->spare);
    a->spare.words = NULL;
}

static neomm_status add(struct neomm *root, struct neomm__frame *entry, uint64_t mapping, bool join)
{
    struct addition a = {root, entry, mapping, {NULL, 0}, NEOMM_OK, join};
    unsigned wanted;
    while (a.status == NEOMM_OK && (wanted = try_add(&a)) != 0) {
        drop_spare(&a);
        if (wanted > ORDER_LAST)
            return NEOMM_E_LIMIT;
        a.spare = table_alloc(root, wanted);
        if (!a.spare.words)
            return NEOMM_E_NOMEM;
    }
    drop_spare(&a);
    return a.status;
}

neomm_status neomm__rmap_add(struct neomm *root, struct neomm__frame *entry, uint64_t mapping)
{
    return add(root, entry, mapping, false);
}

neomm_status neomm__rmap_join(struct neomm *root, struct neomm__frame *entry, uint64_t mapping)
{
    return add(root, entry, mapping, true);
}

/* ---- removing ---- */

/* The last entry of a table goes into the descriptor. */
static struct neomm__rmap_table back_inline(struct neomm__frame *entry,
                                            const struct neomm__rmap_table *table)
{
    uint32_t at = 0;
    while (table->words[at] == 0)
        at++;
    entry->mapping = table->words[at];
    return *table;
}

/* A table that is as good as empty is halved, if there is memory for it: else it stays. */
static struct neomm__rmap_table halve(struct neomm *root, struct neomm__frame *entry,
                                      const struct neomm__rmap_table *table)
{
    struct neomm__rmap_table smaller = table_alloc(root, table->order - 1);
    return smaller.words ? move_to(root, entry, &smaller) : smaller;
}

struct neomm__rmap_table neomm__rmap_remove(struct neomm *root, struct neomm__frame *entry,
                                            uint64_t mapping)
{
    struct neomm__rmap_table none = {NULL, 0};
    uint32_t left = (neomm__fetch_sub(&entry->mappings, 1) & NEOMM__RMAP_COUNT) - 1;
    if (!is_table(entry->mapping)) {
        NEOMM__ASSERT(entry->mapping == mapping && left == 0);
        entry->mapping = 0;
        return none;
    }
    struct neomm__rmap_table table = table_of(root, entry->mapping);
    uint32_t at = probe(root, &table, mapping);
    NEOMM__ASSERT(table.words[at] == mapping);
    close_gap(&table, at);
    if (left == 1)
        return back_inline(entry, &table);
    return table.order > ORDER_FIRST && left <= words_in(&table) / 8 ? halve(root, entry, &table)
                                                                     : none;
}

void neomm__rmap_replace(struct neomm *root, struct neomm__frame *entry, uint64_t mapping,
                         uint64_t by)
{
    if (!is_table(entry->mapping)) {
        NEOMM__ASSERT(entry->mapping == mapping);
        entry->mapping = by;
        return;
    }
    struct neomm__rmap_table table = table_of(root, entry->mapping);
    uint32_t at = probe(root, &table, mapping);
    NEOMM__ASSERT(table.words[at] == mapping);
    close_gap(&table, at);
    table.words[probe(root, &table, by)] = by;
}

/* ---- looking ---- */

bool neomm__rmap_has(const struct neomm *root, const struct neomm__frame *entry, uint64_t mapping)
{
    if (!is_table(entry->mapping))
        return entry->mapping == mapping;
    struct neomm__rmap_table table = table_of(root, entry->mapping);
    return table.words[find(&table, mapping)] == mapping;
}

bool neomm__rmap_next(const struct neomm *root, const struct neomm__frame *entry,
                      uint32_t *position, uint64_t *mapping)
{
    struct neomm__rmap_table one = {(uint64_t *)(uintptr_t)&entry->mapping, 0};
    struct neomm__rmap_table table =
        is_table(entry->mapping) ? table_of(root, entry->mapping) : one;
    for (uint32_t at = *position; at < words_in(&table); at++)
        if (table.words[at] != 0) {
            *mapping = table.words[at];
            *position = at + 1;
            return true;
        }
    return false;
}

const char *neomm__rmap_fsck(const struct neomm *root, const struct neomm__frame *entry)
{
    uint32_t position = 0, found = 0;
    uint64_t mapping;
    if (entry->mappings & NEOMM__RMAP_LOCK)
        return "is locked";
    while (neomm__rmap_next(root, entry, &position, &mapping)) {
        found++;
        if (!neomm__rmap_has(root, entry, mapping))
            return "has an entry that is not found";
    }
    if (found != neomm__rmap_count(entry))
        return "counts its entries wrong";
    return found < 2 && is_table(entry->mapping) ? "has a table for nothing" : NULL;
}
