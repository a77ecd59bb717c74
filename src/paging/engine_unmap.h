/* Taking leaves away; compiled for one format, by engine.h.
 * SPDX-License-Identifier: MIT
 *
 * A table of leaves that lies in the range as a whole is taken out by one store to the entry above
 * it; its own entries stay as they are. Once that is invalidated no CPU can change them any more,
 * and callbacks read them there.
 */

/* What is cleared, until it is invalidated: leaves, their level in the low bits of vaddr, and whole
 * tables, with TABLE_TAKEN there and the table's frame for the entry. */
#define GATHER_MAX  128
#define TABLE_TAKEN 7u
struct gathered {
    unsigned count;
    neomm_leaf_fn *released;
    void *context;
    neomm_vaddr_t vaddr[GATHER_MAX];
    entry_t entry[GATHER_MAX];
};

static void tell(const struct gathered *g, unsigned level, neomm_vaddr_t vaddr, entry_t entry)
{
    struct neomm_mapping leaf;
    decode(level, entry, &leaf);
    g->released(g->context, vaddr, &leaf);
}

static void tell_table(struct cursor *c, const struct gathered *g, neomm_vaddr_t vaddr,
                       neomm_frame_t table)
{
    const entry_t *entries = neomm__table_pointer(c->root, table);
    for (unsigned i = 0; i < FORMAT_ENTRIES(0); i++, vaddr += NEOMM_PAGE_SIZE) {
        entry_t entry = entry_load(&entries[i]);
        if (entry != 0)
            tell(g, 0, vaddr, entry);
    }
    c->reads += FORMAT_ENTRIES(0);
}

/* Steps 4 and 5. The invalidation of any page forgets paging-structure caches too; where tables
 * go and no page is due, one is invalidated for their sake. */
static void release(struct cursor *c, struct gathered *g)
{
    enum neomm_flush_site site = NEOMM_FLUSH_SITE_UNMAP;
    if (c->flush.count == 0 && c->flush.tables) {
        site = NEOMM_FLUSH_SITE_UNMAP_TABLE;
        neomm__flush_add(&c->flush, c->at);
    }
    invalidate(c, site);
    settled(c, site);
    for (unsigned i = 0; i < g->count; i++) {
        unsigned level = (unsigned)(g->vaddr[i] & TABLE_TAKEN);
        neomm_vaddr_t vaddr = g->vaddr[i] & ~(neomm_vaddr_t)TABLE_TAKEN;
        if (level == TABLE_TAKEN)
            tell_table(c, g, vaddr, neomm_frame((uint32_t)g->entry[i]));
        else
            tell(g, level, vaddr, g->entry[i]);
    }
    g->count = 0;
}

static inline void gather(struct cursor *c, struct gathered *g, neomm_vaddr_t vaddr, entry_t entry)
{
    if (!g->released)
        return;
    g->vaddr[g->count] = vaddr;
    g->entry[g->count] = entry;
    if (++g->count == GATHER_MAX)
        release(c, g);
}

static inline void take_at(struct cursor *c, struct gathered *g, unsigned index,
                           neomm_vaddr_t vaddr)
{
    entry_t entry = entry_load(&c->table[c->level][index]);
    if (entry == 0)
        return;
    entry = cursor_replace(c, index, entry, 0);
    --*cursor_live(c, c->level);
    if (entry_is_present(entry))
        neomm__flush_add(&c->flush, vaddr);
    gather(c, g, vaddr | c->level, entry);
}

/* Which pages of the table are due; all of memory, if they are many. */
static void flush_table(struct cursor *c, neomm_frame_t table, neomm_vaddr_t vaddr)
{
    const entry_t *entries = neomm__table_pointer(c->root, table);
    unsigned i = 0;
    for (; i < FORMAT_ENTRIES(0) && !neomm__flush_is_full(&c->flush); i++)
        if (entry_is_present(entry_load(&entries[i])))
            neomm__flush_add(&c->flush, vaddr + i * NEOMM_PAGE_SIZE);
    c->reads += i;
}

static void take_table(struct cursor *c, struct gathered *g)
{
    neomm_frame_t table = entry_table_frame(cursor_entry(c));
    cursor_unlink(c, neomm__frame(c->root, table));
    flush_table(c, table, cursor_start(c));
    gather(c, g, cursor_start(c) | TABLE_TAKEN, (entry_t)table.number);
}

static void take_all(struct cursor *c, struct gathered *g)
{
    do {
        if (entry_is_table(c->level, cursor_entry(c))) {
            take_table(c, g);
            continue;
        }
        unsigned count = c->level == 0 ? cursor_run(c) : 1, index = cursor_index(c);
        neomm_vaddr_t vaddr = cursor_start(c);
        for (unsigned i = 0; i < count; i++, vaddr += NEOMM_PAGE_SIZE)
            take_at(c, g, index + i, vaddr);
        cursor_skip(c, count);
    } while (cursor_next(c));
    while (c->level < c->base)
        cursor_ascend(c);
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
    cursor_open_to_clear(&c, root, tables, vaddr, last);
    neomm_status status = c.nothing ? NEOMM_OK : split_edges(&c);
    if (status == NEOMM_OK && !c.nothing) {
        cursor_begin_pruning(&c, vaddr);
        take_all(&c, &g);
    }
    cursor_close(&c);
    return status;
}
