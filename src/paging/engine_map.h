/* Making leaves: map, and the tables that it builds; compiled for one format, by engine.h.
 * SPDX-License-Identifier: MIT
 *
 * Missing tables are built from below and linked by one store when they are complete: nobody ever
 * sees half of one. What of a new table lies in the range is written once, and only the rest is
 * filled with zeros.
 */

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
        neomm_vaddr_t edge = entry_end(level - 1, at, last);
        count += tables_missing(request, level - 1, at, edge);
        if (edge == last)
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
        unsigned count = c->level == 0 ? cursor_run(c) : 1, index = cursor_index(c);
        for (unsigned i = 0; i < count; i++)
            if (entry_load(&c->table[c->level][index + i]) != 0)
                return NEOMM_E_EXISTS;
        if (c->level > 0)
            *missing +=
                tables_missing(request, c->level, c->at, entry_end(c->level, c->at, c->last));
        cursor_skip(c, count);
    } while (cursor_next(c));
    return NEOMM_OK;
}

/* A leaf of level 0 for address 0; others differ in one bit. Nobody asks which of the kernel's
 * leaves were used, so these have A and D from the start: that saves the CPU a locked update, and
 * us one when they change. */
static inline entry_t leaf_of(const struct cursor *c, const struct neomm__map_request *request)
{
    return entry_make_leaf(0, 0, request->prot, request->cache, c->user, c->nx) |
           (c->user ? 0 : ENTRY_ACCESSED | ENTRY_DIRTY);
}

static inline entry_t leaf_at(unsigned level, entry_t leaf, neomm_paddr_t paddr)
{
    return entry_at_paddr(level > 0 ? entry_enlarged(leaf) : leaf, paddr);
}

static void zero_entries(struct cursor *c, entry_t *table, unsigned first, unsigned end)
{
    memset(table + first, 0, (end - first) * sizeof(entry_t));
    c->zeroed += (end - first) * sizeof(entry_t);
}

/* The leaves of a table that is not linked yet. */
static void make_leaves(const struct cursor *c, const struct neomm__map_request *request,
                        entry_t leaf, neomm_frame_t table, unsigned first, unsigned end,
                        neomm_vaddr_t at)
{
    entry_t *entries = neomm__table_pointer(c->root, table);
    const neomm_frame_t *frames = request->frames;
    if (frames) {
        frames += (at - request->vaddr) >> NEOMM_PAGE_SHIFT;
        for (unsigned i = first; i < end; i++)
            entry_make(&entries[i], entry_place(table, i),
                       entry_at_paddr(leaf, neomm_frame_paddr(*frames++)));
        return;
    }
    entry_t paddr = (entry_t)request_paddr(request, at);
    for (unsigned i = first; i < end; i++, paddr += (entry_t)NEOMM_PAGE_SIZE)
        entry_make(&entries[i], entry_place(table, i), leaf ^ paddr);
}

/* A table of `level` with all that is to be mapped in [at, last], which is in it; the entry that
 * links it comes back. Tables are taken from the spares. */
static entry_t build(struct cursor *c, const struct neomm__map_request *request, entry_t leaf,
                     unsigned level, neomm_vaddr_t at, neomm_vaddr_t last)
{
    neomm_frame_t frame = neomm__frame_list_pop(&c->root->frames, &c->spare);
    entry_t *table = neomm__table_pointer(c->root, frame);
    unsigned first = index_at(level, at), end = index_at(level, last) + 1;
    zero_entries(c, table, 0, first);
    zero_entries(c, table, end, FORMAT_ENTRIES(level));
    if (level == 0)
        make_leaves(c, request, leaf, frame, first, end, at);
    for (unsigned i = first; level > 0 && i < end; i++) {
        neomm_vaddr_t edge = entry_end(level, at, last);
        entry_t entry = leaf_fits(request, level, at, edge)
                            ? leaf_at(level, leaf, request_paddr(request, at))
                            : build(c, request, leaf, level - 1, at, edge);
        entry_make(&table[i], entry_place(frame, i), entry);
        at = edge + 1;
    }
    neomm__frame(c->root, frame)->mapping = end - first;
    c->stores += end - first;
    c->made++;
    return entry_make_table(level + 1, frame, c->user);
}

/* Leaves from the cursor to the end of its table or of the range, where there was nothing. */
static void fill_run(struct cursor *c, const struct neomm__map_request *request, entry_t leaf)
{
    unsigned index = cursor_index(c), count = cursor_run(c);
    neomm_vaddr_t at = c->at;
    for (unsigned i = 0; i < count; i++, at += NEOMM_PAGE_SIZE)
        cursor_fill(c, index + i, entry_at_paddr(leaf, request_paddr(request, at)));
    *cursor_live(c, 0) += count;
    c->at = at - 1;
}

/* The empty entry above level 0 gets a leaf or a table. */
static void fill_entry(struct cursor *c, const struct neomm__map_request *request, entry_t leaf)
{
    neomm_vaddr_t edge = entry_end(c->level, c->at, c->last);
    entry_t entry = leaf_fits(request, c->level, c->at, edge)
                        ? leaf_at(c->level, leaf, request_paddr(request, c->at))
                        : build(c, request, leaf, c->level - 1, c->at, edge);
    cursor_fill(c, cursor_index(c), entry);
    ++*cursor_live(c, c->level);
}

/* `leaf`: what the entries are made of, for address 0. The range is empty, and the cursor at its
 * start. */
static void fill(struct cursor *c, const struct neomm__map_request *request, entry_t leaf)
{
    do {
        if (c->level == 0)
            fill_run(c, request, leaf);
        else
            fill_entry(c, request, leaf);
    } while (cursor_next(c));
    NEOMM__ASSERT(c->spare.count == 0);
}

static neomm_status engine_map(struct neomm *root, struct neomm_tables *tables,
                               const struct neomm__map_request *request)
{
    struct cursor c;
    uint32_t missing;
    cursor_open(&c, root, tables, request->vaddr, request->last);
    neomm_status status = survey(&c, request, &missing);
    if (status == NEOMM_OK && missing != 0)
        status = neomm__table_alloc_list(root, tables->owner, missing, &c.spare);
    if (status == NEOMM_OK) {
        cursor_return(&c, request->vaddr);
        fill(&c, request, leaf_of(&c, request));
    }
    cursor_close(&c);
    return status;
}
