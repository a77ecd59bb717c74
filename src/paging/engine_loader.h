/* A boot loader's tables: read with suspicion, and extended by the direct map; compiled for one
 * format, by engine.h.
 * SPDX-License-Identifier: MIT
 *
 * Nothing of it is in the library's tables, there are no locks, and no root yet.
 */

static neomm_status loader_fault(struct neomm_handover *h, const char *what, unsigned level,
                                 neomm_vaddr_t at, neomm_paddr_t place, entry_t entry)
{
    h->fault = (struct neomm_handover_fault){what, at, place, level, entry};
    return NEOMM_E_CORRUPT;
}

/* PS where the format or the CPU has no such leaf is a reserved bit, but in the 2-level format
 * without PSE, which ignores it. */
static inline bool loader_is_leaf(const struct neomm_handover *h, unsigned level, entry_t entry)
{
    return level == 0 || ((entry & ENTRY_LARGE) && (h->leaf_levels & FORMAT_LARGE) >> level & 1u);
}

/* SDM 3A tables 4-4 to 4-6, 4-8 to 4-11, 4-14 to 4-20. The top entries of PAE have no A, but QEMU
 * sets it there. */
static entry_t loader_reserved(const struct neomm_handover *h, unsigned level, bool leaf)
{
    entry_t width = (entry_t)(((uint64_t)1 << h->physical_bits) - 1);
    entry_t reserved = FORMAT_LEVELS == 2 ? 0 : ENTRY_ADDRESS & ~width;
    if (FORMAT_TOP_FIXED)
        reserved |= (entry_t)((uint64_t)0x7ff << 52);
    if (FORMAT_TOP_FIXED && level == FORMAT_TOP)
        return reserved | ENTRY_NX | 0x1c6;
    if (!h->nx)
        reserved |= ENTRY_NX;
    if (leaf && level > 0)
        reserved |= (entry_t)span_mask(level) & ~((entry_t)span_mask(0) | ENTRY_PAT_LARGE);
    if (!leaf && FORMAT_LEVELS > 2)
        reserved |= ENTRY_LARGE;
    return reserved;
}

static neomm_status loader_check(struct neomm_handover *h, unsigned level, neomm_vaddr_t at,
                                 neomm_paddr_t place, entry_t entry)
{
    if (entry & loader_reserved(h, level, loader_is_leaf(h, level, entry)))
        return loader_fault(h, "reserved bits are set", level, at, place, entry);
    return NEOMM_OK;
}

/* The table at `table`, of `level`. */
static neomm_status loader_enter(struct neomm_handover *h, unsigned level, neomm_vaddr_t at,
                                 neomm_paddr_t table, entry_t **entries)
{
    *entries = h->pointer(h->context, table);
    if (!*entries)
        return loader_fault(h, "a table cannot be reached", level, at, table, 0);
    return NEOMM_OK;
}

/* ---- reading ---- */

struct loader_walk {
    struct neomm_handover *handover;
    neomm_leaf_fn *visit;
    void *context;
};

static inline neomm_prot_t loader_rights(unsigned level, entry_t entry, neomm_prot_t above)
{
    if (FORMAT_TOP_FIXED && level == FORMAT_TOP)
        return above;
    if (!(entry & ENTRY_WRITE))
        above &= ~NEOMM_PROT_WRITE;
    return entry & ENTRY_NX ? above & ~NEOMM_PROT_EXEC : above;
}

static neomm_status loader_leaf(const struct loader_walk *w, unsigned level, neomm_vaddr_t at,
                                neomm_paddr_t place, entry_t entry, neomm_prot_t rights)
{
    struct neomm_mapping leaf;
    struct neomm_handover *h = w->handover;
    decode(level, entry, &leaf);
    leaf.prot = rights;
    if (!neomm__handover_type(h, (unsigned)leaf.cache, &leaf.cache))
        return loader_fault(h, "a cache type that the library does not have", level, at, place,
                            entry);
    w->visit(w->context, at & ~span_mask(level), &leaf);
    return NEOMM_OK;
}

static neomm_status loader_table(const struct loader_walk *w, unsigned level, neomm_paddr_t table,
                                 neomm_vaddr_t at, neomm_vaddr_t last, neomm_prot_t above)
{
    entry_t *entries;
    neomm_status status = loader_enter(w->handover, level, at, table, &entries);
    for (neomm_vaddr_t edge; status == NEOMM_OK; at = edge + 1) {
        unsigned index = index_at(level, at);
        neomm_paddr_t place = table + index * sizeof(entry_t);
        entry_t entry = entry_load(&entries[index]);
        neomm_prot_t rights = loader_rights(level, entry, above);
        edge = entry_end(level, at, last);
        if (entry_is_present(entry))
            status = loader_check(w->handover, level, at, place, entry);
        if (status == NEOMM_OK && entry_is_present(entry)) {
            if (loader_is_leaf(w->handover, level, entry))
                status = loader_leaf(w, level, at, place, entry, rights);
            else
                status = loader_table(w, level - 1, (neomm_paddr_t)(entry & ENTRY_ADDRESS), at,
                                      edge, rights);
        }
        if (edge == last)
            break;
    }
    return status;
}

static neomm_status engine_loader_walk(struct neomm_handover *handover, neomm_vaddr_t vaddr,
                                       neomm_vaddr_t last, neomm_leaf_fn *visit, void *context)
{
    const struct loader_walk walk = {handover, visit, context};
    return loader_table(&walk, FORMAT_TOP, handover->top, vaddr, last,
                        NEOMM_PROT_READ | NEOMM_PROT_WRITE | NEOMM_PROT_EXEC);
}

/* ---- the direct map ---- */

struct loader_supply {
    neomm_paddr_t next;
    uint32_t left;
};

/* The largest leaves in which all of the direct map can be mapped. */
static unsigned loader_leaf_level(const struct neomm_handover *h, const struct neomm_area *direct)
{
    unsigned level = FORMAT_TOP < 2 ? FORMAT_TOP : 2;
    while (level > 0 && (((h->leaf_levels & FORMAT_LARGE) >> level & 1u) == 0 ||
                         ((direct->base | direct->size) & span_mask(level)) != 0))
        level--;
    return level;
}

static uint32_t engine_loader_frames(const struct neomm_handover *handover,
                                     const struct neomm_area *direct, neomm_vaddr_t last)
{
    uint32_t count = 0;
    for (unsigned level = loader_leaf_level(handover, direct); level < FORMAT_TOP; level++)
        count += (uint32_t)((last >> FORMAT_SHIFT(level + 1)) -
                            (direct->base >> FORMAT_SHIFT(level + 1))) +
                 1;
    return count;
}

static neomm_status loader_link(struct neomm_handover *h, struct loader_supply *supply,
                                unsigned level, neomm_vaddr_t at, neomm_paddr_t place,
                                entry_t *entry)
{
    entry_t *table;
    if (supply->left == 0)
        return NEOMM_E_NOMEM;
    neomm_status status = loader_enter(h, level - 1, at, supply->next, &table);
    if (status != NEOMM_OK)
        return status;
    memset(table, 0, NEOMM_PAGE_SIZE);
    entry_store(entry, place, 0, entry_make_table(level, neomm_paddr_frame(supply->next), false));
    supply->next += NEOMM_PAGE_SIZE;
    supply->left--;
    return NEOMM_OK;
}

/* One leaf, of `level`, or what is there already. */
static neomm_status loader_map(struct neomm_handover *h, struct loader_supply *supply,
                               unsigned level, neomm_vaddr_t at, neomm_paddr_t paddr)
{
    neomm_paddr_t table = h->top;
    neomm_status status = NEOMM_OK;
    for (unsigned here = FORMAT_TOP; status == NEOMM_OK; here--) {
        entry_t *entry;
        neomm_paddr_t place = table + index_at(here, at) * sizeof(entry_t);
        status = loader_enter(h, here, at, table, &entry);
        if (status != NEOMM_OK)
            break;
        entry += index_at(here, at);
        if (here > level && !entry_is_present(*entry))
            status = loader_link(h, supply, here, at, place, entry);
        if (status == NEOMM_OK && entry_is_present(*entry))
            status = loader_check(h, here, at, place, *entry);
        if (status != NEOMM_OK)
            break;
        if (!entry_is_present(*entry)) {
            entry_t leaf = entry_make_leaf(here, paddr, NEOMM_PROT_READ | NEOMM_PROT_WRITE,
                                           NEOMM_CACHE_WB, true, 0);
            entry_store(entry, place, 0, (leaf & ~ENTRY_USER) | ENTRY_ACCESSED | ENTRY_DIRTY);
            break;
        }
        if (loader_is_leaf(h, here, *entry)) {
            neomm_paddr_t found = entry_leaf_paddr(here, *entry) + (at & span_mask(here));
            status = found == paddr ? NEOMM_OK : NEOMM_E_EXISTS;
            break;
        }
        if (here == level)
            status = NEOMM_E_EXISTS;
        table = (neomm_paddr_t)(*entry & ENTRY_ADDRESS);
    }
    return status;
}

static neomm_status engine_loader_direct(struct neomm_handover *handover,
                                         const struct neomm_area *direct, neomm_vaddr_t last,
                                         neomm_paddr_t tables, uint32_t frames)
{
    struct loader_supply supply = {tables, frames};
    unsigned level = loader_leaf_level(handover, direct);
    neomm_status status = NEOMM_OK;
    for (neomm_vaddr_t at = direct->base; status == NEOMM_OK;) {
        neomm_vaddr_t edge = at | span_mask(level);
        status = loader_map(handover, &supply, level, at, at - direct->base);
        if (edge >= last)
            break;
        at = edge + 1;
    }
    return status;
}
