/* Copying a space's leaves for another one, and making large leaves of small ones; compiled for one
 * format, by engine.h.
 * SPDX-License-Identifier: MIT */

/* ---- copy ---- */

struct copy {
    struct cursor from, to;
    neomm_leaf_fn *share;
    void *context;
};

static void copy_tell(const struct copy *k, unsigned level, neomm_vaddr_t vaddr, entry_t entry)
{
    struct neomm_mapping leaf;
    if (!k->share || entry == 0)
        return;
    decode(level, entry, &leaf);
    k->share(k->context, vaddr, &leaf);
}

/* One leaf that an MMU may write to: what is left of it is the copy. */
static entry_t copy_one(struct cursor *c, unsigned index, neomm_vaddr_t vaddr)
{
    entry_t before = entry_load(&c->table[c->level][index]);
    while ((before & ENTRY_WRITE) && !cursor_cas(c, index, &before, before & ~ENTRY_WRITE))
        ;
    if (before & ENTRY_WRITE)
        neomm__flush_add(&c->flush, vaddr);
    return before & ~ENTRY_WRITE;
}

static inline void copy_take(entry_t *entry, neomm_paddr_t place, entry_t before, entry_t taken)
{
    if (taken != 0)
        entry_store(entry, place, before, before ^ taken);
}

/* Takes the right to write from four entries, if they differ from `like` in the address alone: at
 * the cost of one branch. */
static inline bool copy_take_4(entry_t *e, neomm_paddr_t place, entry_t like, entry_t taken)
{
    entry_t a = entry_load(&e[0]), b = entry_load(&e[1]);
    entry_t c = entry_load(&e[2]), d = entry_load(&e[3]);
    if ((((a ^ like) | (b ^ like) | (c ^ like) | (d ^ like)) & ~ENTRY_ADDRESS) != 0)
        return false;
    copy_take(&e[0], place, a, taken);
    copy_take(&e[1], place + sizeof(entry_t), b, taken);
    copy_take(&e[2], place + 2 * sizeof(entry_t), c, taken);
    copy_take(&e[3], place + 3 * sizeof(entry_t), d, taken);
    return true;
}

/* Entries from `index` on that no MMU writes to and that differ from `like` in the address alone;
 * returns how many there are. Rights are taken in place and the whole is copied then, since memcpy
 * writes a line of memory without reading it first. */
static unsigned copy_same(struct copy *k, unsigned index, unsigned end, entry_t like)
{
    struct cursor *c = &k->from;
    entry_t *from = c->table[0], taken = entry_is_present(like) ? like & ENTRY_WRITE : 0;
    neomm_paddr_t place = entry_place(c->frame[0], 0);
    unsigned i = index;
    while (end - i >= 4 && copy_take_4(&from[i], place + i * sizeof(entry_t), like, taken))
        i += 4;
    for (; i < end; i++) {
        entry_t entry = entry_load(&from[i]);
        if (((entry ^ like) & ~ENTRY_ADDRESS) != 0)
            break;
        copy_take(&from[i], place + i * sizeof(entry_t), entry, taken);
    }
    entry_make_like(&k->to.table[0][index], entry_place(k->to.frame[0], index), &from[index],
                    i - index);
    c->stores += taken != 0 ? i - index : 0;
    return i - index;
}

/* The cursors are in tables of leaves, the target's with nothing in the range. */
static void copy_run(struct copy *k)
{
    struct cursor *c = &k->from;
    unsigned first = cursor_index(c), end = first + cursor_run(c);
    neomm_vaddr_t vaddr = cursor_start(c);
    for (unsigned i = first, count = 1; i < end; i += count, vaddr += count * NEOMM_PAGE_SIZE) {
        entry_t like = entry_load(&c->table[0][i]);
        if (entry_is_still(0, like)) {
            count = copy_same(k, i, end, like);
            if (entry_is_present(like) && (like & ENTRY_WRITE))
                neomm__flush_add_pages(&c->flush, vaddr, count);
        } else {
            count = 1;
            like = copy_one(c, i, vaddr);
            entry_make(&k->to.table[0][i], entry_place(k->to.frame[0], i), like);
        }
        *cursor_live(&k->to, 0) += like != 0 ? count : 0;
        for (unsigned j = i; k->share && j < i + count; j++)
            copy_tell(k, 0, vaddr + (j - i) * NEOMM_PAGE_SIZE, entry_load(&k->to.table[0][j]));
    }
    k->to.stores += end - first;
    cursor_skip(c, end - first);
}

/* A table of the target, from the spares; a table of leaves is zeroed outside the range only. */
static void copy_link(struct copy *k)
{
    struct cursor *d = &k->to;
    neomm_frame_t frame = neomm__frame_list_pop(&d->root->frames, &d->spare);
    entry_t *table = neomm__table_pointer(d->root, frame);
    unsigned first = 0, end = 0, level = d->level - 1;
    if (level == 0) {
        first = cursor_index(&k->from);
        end = first + cursor_run(&k->from);
    }
    zero_entries(d, table, 0, first);
    zero_entries(d, table, end, FORMAT_ENTRIES(level));
    cursor_fill(d, cursor_index(d), entry_make_table(d->level, frame, true));
    ++*cursor_live(d, d->level);
    d->made++;
    cursor_enter(d, level, frame);
}

/* What is at the source's cursor, which is not empty. */
static void copy_here(struct copy *k)
{
    struct cursor *c = &k->from, *d = &k->to;
    cursor_seek(d, c->at);
    while (d->level > c->level)
        copy_link(k);
    if (c->level == 0) {
        copy_run(k);
        return;
    }
    entry_t entry = copy_one(c, cursor_index(c), cursor_start(c));
    cursor_fill(d, cursor_index(d), entry);
    ++*cursor_live(d, d->level);
    copy_tell(k, c->level, cursor_start(c), entry);
}

/* Tables that were left empty by exchanges are not worth a copy. */
static bool copy_is_needed(struct cursor *c)
{
    if (c->level > 0)
        return cursor_entry(c) != 0;
    if (*cursor_live(c, 0) != 0)
        return true;
    cursor_skip(c, cursor_run(c));
    return false;
}

static void copy_all(struct copy *k)
{
    do
        if (copy_is_needed(&k->from))
            copy_here(k);
    while (cursor_next(&k->from));
    invalidate(&k->from, NEOMM_FLUSH_SITE_PROTECT);
    settled(&k->from, NEOMM_FLUSH_SITE_PROTECT);
}

/* The target needs a table for each of the source's in the range at most, and those above. */
static uint32_t tables_held(const struct cursor *c)
{
    uint32_t count = FORMAT_TOP - c->base;
    for (uint32_t number = c->held; number != 0; count++)
        number = neomm__frame(c->root, neomm_frame(number))->next;
    return count;
}

static neomm_status engine_copy(struct neomm *root, struct neomm_tables *from,
                                struct neomm_tables *to, neomm_vaddr_t vaddr, neomm_vaddr_t last,
                                neomm_leaf_fn *share, void *context)
{
    struct copy k;
    k.share = share;
    k.context = context;
    cursor_open(&k.from, root, from, vaddr, last);
    cursor_open_alone(&k.to, root, to, vaddr, last);
    neomm_status status = split_edges(&k.from);
    if (status == NEOMM_OK)
        status = neomm__table_alloc_list(root, to->owner, tables_held(&k.from), &k.to.spare);
    if (status == NEOMM_OK)
        copy_all(&k);
    neomm__table_free_list(root, &k.to.spare);
    cursor_close(&k.to);
    cursor_close(&k.from);
    return status;
}

/* ---- merge ---- */

#define ENTRY_BITS (ENTRY_ACCESSED | ENTRY_DIRTY)

/* The leaf that the table below the entry here could be, 0: none. */
static entry_t merged_leaf(struct cursor *c, const entry_t *table)
{
    unsigned level = c->level;
    entry_t first = entry_load(&table[0]) & ~ENTRY_BITS, next = first;
    c->reads += FORMAT_ENTRIES(level - 1);
    if (!entry_is_present(first) || !entry_is_leaf(level - 1, first) ||
        (entry_leaf_paddr(level - 1, first) & span_mask(level)) != 0)
        return 0;
    for (unsigned i = 0; i < FORMAT_ENTRIES(level - 1); i++) {
        if ((entry_load(&table[i]) & ~ENTRY_BITS) != next)
            return 0;
        next += (entry_t)1 << FORMAT_SHIFT(level - 1);
    }
    return level == 1 ? entry_enlarged(first) : first;
}

/* Between the table and the leaf nothing is mapped (SDM 3A 4.10.2.3), and what was set in the table
 * until then is final. */
static bool merge_here(struct cursor *c)
{
    entry_t entry = cursor_entry(c), bits = 0;
    if (!entry_is_table(c->level, entry))
        return false;
    neomm_frame_t frame = entry_table_frame(entry);
    const entry_t *table = neomm__table_pointer(c->root, frame);
    entry_t leaf = merged_leaf(c, table);
    if (leaf == 0)
        return false;
    (void)cursor_replace(c, cursor_index(c), entry, entry_pause(leaf));
    neomm__table_kill(neomm__frame(c->root, frame));
    c->gone++;
    c->flush.tables = true;
    neomm__flush_add_pages(&c->flush, cursor_start(c),
                           (span_mask(c->level) >> NEOMM_PAGE_SHIFT) + 1);
    invalidate(c, NEOMM_FLUSH_SITE_MERGE);
    settled(c, NEOMM_FLUSH_SITE_MERGE);
    for (unsigned i = 0; i < FORMAT_ENTRIES(c->level - 1); i++)
        bits |= entry_load(&table[i]) & ENTRY_BITS;
    (void)cursor_replace(c, cursor_index(c), cursor_entry(c), leaf | bits);
    return true;
}

static bool covers_entry(const struct cursor *c)
{
    return cursor_start(c) == c->at && c->last - c->at >= span_mask(c->level);
}

static uint32_t merge_level(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                            neomm_vaddr_t last, unsigned level)
{
    struct cursor c;
    uint32_t merged = 0;
    cursor_init(&c, root, tables, vaddr, last);
    c.floor = level;
    cursor_lock(&c);
    cursor_descend(&c);
    do
        merged += c.level == level && covers_entry(&c) && merge_here(&c);
    while (cursor_next(&c));
    cursor_close(&c);
    return merged;
}

/* Tables right below the kernel's root stay. */
static uint32_t engine_merge(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                             neomm_vaddr_t last, unsigned level)
{
    if (FORMAT_TOP == 1 && neomm__tables_are_kernel(root, tables))
        return 0;
    return merge_level(root, tables, vaddr, last, level);
}
