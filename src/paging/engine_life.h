/* The life of tables: made, pinned, checked, freed; compiled for one format, after engine.h.
 * SPDX-License-Identifier: MIT */

/* First entry of the root table that belongs to the kernel. Below 5 and 4 levels the halves meet
 * in the hole of addresses that are not canonical; on i386 at the user limit. */
static unsigned first_kernel_index(const struct neomm *root)
{
    if (FORMAT_LEVELS >= 4)
        return FORMAT_ENTRIES(FORMAT_TOP) / 2;
    return index_at(FORMAT_TOP, root->layout.user_limit);
}

/* Links empty tables below the entry here, down to `level`. */
static neomm_status deepen(struct cursor *c, unsigned level)
{
    while (c->level > level) {
        neomm_frame_t frame;
        neomm_status status = neomm__table_alloc(c->root, c->tables->owner, &frame);
        if (status != NEOMM_OK)
            return status;
        cursor_fill(c, cursor_index(c), entry_make_table(c->level, frame, c->user));
        ++*cursor_live(c, c->level);
        c->made++;
        cursor_enter(c, c->level - 1, frame);
    }
    return NEOMM_OK;
}

/* Links a table under each of the root's entries [first, end) that has none. A space's are
 * pinned at once (PAE alone has such), the kernel's when all is mapped that stays. */
static neomm_status fix_top(struct cursor *c, unsigned first, unsigned end)
{
    neomm_status status = NEOMM_OK;
    for (unsigned i = first; i < end && status == NEOMM_OK; i++) {
        c->at = (neomm_vaddr_t)i << FORMAT_SHIFT(FORMAT_TOP);
        cursor_enter(c, FORMAT_TOP, c->tables->top);
        if (cursor_entry(c) != 0)
            continue;
        status = deepen(c, FORMAT_TOP - 1);
        if (status == NEOMM_OK && c->user)
            ++*cursor_live(c, FORMAT_TOP - 1);
    }
    return status;
}

/* Pins every table that the kernel's root points to: spaces point there, too. */
static void engine_seal(struct neomm *root)
{
    const entry_t *top = neomm__table_pointer(root, root->paging->kernel.top);
    for (unsigned i = 0; i < FORMAT_ENTRIES(FORMAT_TOP); i++)
        if (entry_is_table(FORMAT_TOP, entry_load(&top[i])))
            neomm__frame(root, entry_table_frame(top[i]))->mapping++;
}

/* The kernel's half of a space's root: the same tables. Not counted as this root's entries. */
static void share_kernel(struct cursor *c)
{
    const entry_t *kernel = neomm__table_pointer(c->root, c->root->paging->kernel.top);
    cursor_enter(c, FORMAT_TOP, c->tables->top);
    for (unsigned i = first_kernel_index(c->root); i < FORMAT_ENTRIES(FORMAT_TOP); i++)
        if (kernel[i] != 0)
            cursor_fill(c, i, kernel[i]);
}

/* Frees the table at the cursor's level and all below it, down to what its entries point to. */
static void free_below(struct cursor *c, unsigned end)
{
    unsigned level = c->level;
    neomm_frame_t frame = c->frame[level];
    for (unsigned i = 0; i < end; i++) {
        entry_t entry = entry_load(&((entry_t *)neomm__table_pointer(c->root, frame))[i]);
        if (!entry_is_table(level, entry))
            continue;
        cursor_enter(c, level - 1, entry_table_frame(entry));
        free_below(c, FORMAT_ENTRIES(level - 1));
    }
    neomm__table_free(c->root, frame);
}

static void engine_destroy(struct neomm *root, struct neomm_tables *tables)
{
    bool user = !neomm__tables_are_kernel(root, tables);
    struct cursor c;
    cursor_open_alone(&c, root, tables, 0, 0);
    cursor_enter(&c, FORMAT_TOP, tables->top);
    free_below(&c, user ? first_kernel_index(root) : FORMAT_ENTRIES(FORMAT_TOP));
    cursor_close(&c);
    tables->top = neomm_frame(0);
    tables->table_frames = 0;
}

static neomm_status engine_create(struct neomm *root, struct neomm_tables *tables)
{
    struct cursor c;
    neomm_status status = neomm__table_alloc(root, tables->owner, &tables->top);
    if (status != NEOMM_OK)
        return status;
    tables->table_frames = 0;
    cursor_open_alone(&c, root, tables, 0, 0);
    if (FORMAT_TOP_FIXED)
        status = c.user ? fix_top(&c, 0, first_kernel_index(root))
                        : fix_top(&c, first_kernel_index(root), FORMAT_ENTRIES(FORMAT_TOP));
    if (status == NEOMM_OK && c.user)
        share_kernel(&c);
    cursor_close(&c);
    if (status != NEOMM_OK)
        engine_destroy(root, tables);
    return status;
}

static neomm_status engine_reserve(struct neomm *root, struct neomm_tables *tables,
                                   neomm_vaddr_t vaddr, neomm_vaddr_t last, unsigned level)
{
    struct cursor c;
    cursor_open_alone(&c, root, tables, vaddr, last);
    neomm_status status = fix_top(&c, index_at(FORMAT_TOP, vaddr), index_at(FORMAT_TOP, last) + 1);
    cursor_enter(&c, FORMAT_TOP, tables->top);
    for (neomm_vaddr_t at = vaddr; status == NEOMM_OK;) {
        cursor_seek(&c, at);
        if (c.level > level)
            status = deepen(&c, level);
        neomm_vaddr_t edge = at | span_mask(level + 1);
        if (edge >= last)
            break;
        at = edge + 1;
    }
    cursor_close(&c);
    return status;
}

/* ---- check ---- */

struct check {
    struct neomm *root;
    struct neomm__report *report;
    uint32_t owner;
    uint32_t tables;
    bool user;
    entry_t foreign; /* address bits that no memory of this machine has */
};

static void check_leaf(struct check *k, unsigned level, neomm_vaddr_t vaddr, entry_t entry)
{
    neomm_prot_t prot = entry_rights(entry);
    neomm_paddr_t paddr = entry_leaf_paddr(level, entry);
    if ((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC))
        neomm__report(k->report, "paging: space %u, %#zx: writable and executable", k->owner,
                      (size_t)vaddr);
    if (entry_is_present(entry) && ((entry & ENTRY_USER) != 0) != k->user)
        neomm__report(k->report, "paging: space %u, %#zx: rights of the wrong half", k->owner,
                      (size_t)vaddr);
    if ((paddr & span_mask(level)) != 0 || ((entry_t)paddr & k->foreign) != 0 ||
        (level > 0 && (entry & ENTRY_LARGE) == 0))
        neomm__report(k->report, "paging: space %u, %#zx: malformed entry %#llx at level %u",
                      k->owner, (size_t)vaddr, (unsigned long long)entry, level);
}

/* Is this frame a table of the space? Only then is it looked into. */
static bool check_frame(struct check *k, neomm_vaddr_t vaddr, neomm_frame_t frame)
{
    const struct neomm__frame *about = neomm__frame(k->root, frame);
    if (frame.number >= k->root->frames.direct || !about || about->kind != NEOMM__KIND_TABLE ||
        about->owner != k->owner) {
        neomm__report(k->report, "paging: space %u, %#zx: frame %#x is no table of this space",
                      k->owner, (size_t)vaddr, frame.number);
        return false;
    }
    k->tables++;
    return true;
}

static void check_table(struct check *k, unsigned level, neomm_frame_t frame, neomm_vaddr_t base,
                        unsigned first, unsigned end)
{
    const entry_t *table = neomm__table_pointer(k->root, frame);
    uint64_t live = neomm__frame(k->root, frame)->mapping;
    uint64_t found = 0;
    bool pinned = level + 1 == FORMAT_TOP && (FORMAT_TOP_FIXED || !k->user);
    for (unsigned i = first; i < end; i++) {
        entry_t entry = entry_load(&table[i]);
        neomm_vaddr_t vaddr = base + ((neomm_vaddr_t)i << FORMAT_SHIFT(level));
        if (entry == 0)
            continue;
        found++;
        if (entry_is_table(level, entry)) {
            if (check_frame(k, vaddr, entry_table_frame(entry)))
                check_table(k, level - 1, entry_table_frame(entry), vaddr, 0,
                            FORMAT_ENTRIES(level - 1));
        } else if (entry_is_leaf(level, entry)) {
            check_leaf(k, level, vaddr, entry);
        } else if (level > 0) {
            neomm__report(k->report, "paging: space %u, %#zx: swap entry at level %u", k->owner,
                          (size_t)vaddr, level);
        }
    }
    if (found + pinned != live)
        neomm__report(k->report, "paging: space %u, %#zx: table %#x counts %u entries, has %u",
                      k->owner, (size_t)base, frame.number, (unsigned)live,
                      (unsigned)(found + pinned));
}

/* A space's view of the kernel is the kernel's own. */
static void check_shared(struct check *k, neomm_frame_t top, unsigned first)
{
    const entry_t *ours = neomm__table_pointer(k->root, top);
    const entry_t *kernel = neomm__table_pointer(k->root, k->root->paging->kernel.top);
    for (unsigned i = first; i < FORMAT_ENTRIES(FORMAT_TOP); i++)
        if (((ours[i] ^ kernel[i]) & ~(ENTRY_ACCESSED | ENTRY_DIRTY)) != 0)
            neomm__report(k->report, "paging: space %u: root entry %u is not the kernel's",
                          k->owner, i);
}

static uint32_t engine_check(struct neomm *root, neomm_frame_t top, uint32_t owner,
                             struct neomm__report *report)
{
    bool user = top.number != root->paging->kernel.top.number;
    unsigned first = first_kernel_index(root);
    struct check k = {
        root,  report,
        owner, 0,
        user,  (entry_t)(ENTRY_ADDRESS & ~(((uint64_t)1 << root->layout.physical_bits) - 1))};
    /* The sign of canonical addresses of the kernel's half. */
    neomm_vaddr_t base = user || FORMAT_LEVELS < 4 ? 0 : ~((span_mask(FORMAT_TOP) + 1) * 512 - 1);
    if (!check_frame(&k, 0, top))
        return 0;
    if (user) {
        check_table(&k, FORMAT_TOP, top, 0, 0, first);
        check_shared(&k, top, first);
    } else {
        check_table(&k, FORMAT_TOP, top, base, 0, FORMAT_ENTRIES(FORMAT_TOP));
    }
    return k.tables;
}

/* ---- the table of operations ---- */

static uint64_t engine_encode(const struct neomm__paging *paging, unsigned level, bool user,
                              const struct neomm_mapping *mapping)
{
    return encode(paging, level, user, mapping);
}

static void engine_decode(unsigned level, uint64_t entry, struct neomm_mapping *mapping)
{
    decode(level, (entry_t)entry, mapping);
}

const struct neomm__engine ENGINE_SYMBOL(FORMAT_NAME) = {
    .levels = FORMAT_LEVELS,
    .top_span = (neomm_vaddr_t)1 << FORMAT_SHIFT(FORMAT_TOP),
    .large_levels = FORMAT_LARGE,
    .create = engine_create,
    .destroy = engine_destroy,
    .reserve = engine_reserve,
    .seal = engine_seal,
    .map = engine_map,
    .unmap = engine_unmap,
    .protect = engine_protect,
    .copy = engine_copy,
    .merge = engine_merge,
    .split_at = engine_split_at,
    .query = engine_query,
    .exchange = engine_exchange,
    .harvest = engine_harvest,
    .victims = engine_victims,
    .walk = engine_walk,
    .occupied = engine_occupied,
    .set_slot = engine_set_slot,
    .check = engine_check,
    .loader_walk = engine_loader_walk,
    .loader_frames = engine_loader_frames,
    .loader_direct = engine_loader_direct,
    .encode = engine_encode,
    .decode = engine_decode,
};
