/* The locked cursor: a place in the tables of one space; compiled for one format.
 * SPDX-License-Identifier: MIT
 *
 * The cursor stands at the lowest entry on the way to its address: a leaf, a swap entry or an
 * empty one at any level. It remembers the tables above, so going on is one index further, and
 * only the border of a table costs a way up to the first table that both places share and down
 * again (counted as a descent).
 *
 *     level 3   [    T    ]                the cursor at level 0; going on past the end of the
 *                    |                     left table it climbs to level 1 and comes down in
 *     level 2      [  T  ]   <- base       the right one
 *                     |
 *     level 1       [ T T - ]
 *                     | |
 *     level 0   [LL-L-L] [LLL---]
 *                     ^
 *
 * Locks. Each table has one, in its descriptor. An operation finds the lowest table that covers
 * its range (the base) without a lock, inside an epoch, locks it, and then all tables below it
 * that the range touches, from above and ascending. So operations on ranges in different tables
 * never meet, and one on a single page takes a single lock. All locks are there before anything
 * changes and are held until the invalidation is done; who finds one taken gives back all it has
 * and begins again with interrupts on, since the holder may wait for this CPU to serve a call.
 *
 * A table is taken out of the one above with both locked, and is dead from then on: its lock can
 * never be had again. It is freed when no CPU is in an epoch in which it could be found.
 */

struct cursor {
    struct neomm *root;
    struct neomm_tables *tables;
    struct neomm__cpu_state *cpu;
    neomm_vaddr_t at, last; /* at: inside the entry where the cursor stands */
    unsigned level;
    unsigned base;  /* no entry above this level is looked at */
    unsigned floor; /* and none below this one */
    bool user;
    bool alone;   /* nobody else knows these tables yet, or any more: no locks */
    bool prune;   /* tables that are empty when the cursor leaves them go */
    bool nothing; /* is there to be cleared: nothing was locked */
    neomm_irq_t irq;
    entry_t nx;
    entry_t *table[FORMAT_LEVELS]; /* on the way, from `level` up to the base */
    neomm_frame_t frame[FORMAT_LEVELS];
    struct neomm__frame *about[FORMAT_LEVELS]; /* their descriptors */
    struct neomm__frame *busy;                 /* whose lock was tried last */
    uint32_t held;                             /* locked tables below the base, by `next` */
    uint32_t made, gone;                       /* tables linked and unlinked */
    struct neomm__frame_list spare;            /* tables to be linked, contents undefined */
    size_t descents, reads, stores, zeroed;
    struct neomm__flush flush;
};

static inline neomm_vaddr_t span_mask(unsigned level)
{
    return ((neomm_vaddr_t)1 << FORMAT_SHIFT(level)) - 1;
}

static inline unsigned index_at(unsigned level, neomm_vaddr_t vaddr)
{
    return (unsigned)(vaddr >> FORMAT_SHIFT(level)) & (FORMAT_ENTRIES(level) - 1);
}

/* The last address of the range in the entry of `level` that holds `at`. */
static inline neomm_vaddr_t entry_end(unsigned level, neomm_vaddr_t at, neomm_vaddr_t last)
{
    neomm_vaddr_t edge = at | span_mask(level);
    return edge < last ? edge : last;
}

/* Tables lie in direct-mapped memory only, so a frame number is as good as a pointer. */
static inline void cursor_enter(struct cursor *c, unsigned level, neomm_frame_t frame)
{
    c->level = level;
    c->frame[level] = frame;
    c->table[level] = neomm__table_pointer(c->root, frame);
    c->about[level] = neomm__frame(c->root, frame);
}

static inline unsigned cursor_index(const struct cursor *c)
{
    return index_at(c->level, c->at);
}

static inline entry_t cursor_entry(const struct cursor *c)
{
    return entry_load(&c->table[c->level][cursor_index(c)]);
}

static inline neomm_paddr_t entry_place(neomm_frame_t table, unsigned index)
{
    return neomm_frame_paddr(table) + index * sizeof(entry_t);
}

/* How many entries of the table at `level` are in use, and one more if it is pinned. */
static inline uint64_t *cursor_live(struct cursor *c, unsigned level)
{
    return &c->about[level]->mapping;
}

/* First byte of what the entry here covers. */
static inline neomm_vaddr_t cursor_start(const struct cursor *c)
{
    return c->at & ~span_mask(c->level);
}

/* ---- stores ---- */

static inline bool cursor_cas(struct cursor *c, unsigned index, entry_t *before, entry_t after)
{
    bool done = entry_cas(&c->table[c->level][index], entry_place(c->frame[c->level], index),
                          before, after);
    c->stores += done;
    return done;
}

/* Replaces an entry that was found to be `before`; what it was at last comes back. */
static inline entry_t cursor_replace(struct cursor *c, unsigned index, entry_t before,
                                     entry_t after)
{
    entry_t *entry = &c->table[c->level][index];
    neomm_paddr_t place = entry_place(c->frame[c->level], index);
    c->stores++;
    if (!entry_is_still(c->level, before))
        return entry_exchange(entry, place, after);
    entry_store(entry, place, before, after);
    return before;
}

/* Fills an entry that is empty. */
static inline void cursor_fill(struct cursor *c, unsigned index, entry_t after)
{
    c->stores++;
    entry_store(&c->table[c->level][index], entry_place(c->frame[c->level], index), 0, after);
}

/* ---- locks ---- */

static inline bool try_lock(struct cursor *c, struct neomm__frame *about)
{
    c->busy = about;
    return neomm__table_try_lock(about);
}

/* From above and ascending, as every operation does. False: somebody has one. */
static bool lock_below(struct cursor *c, unsigned level, neomm_frame_t table, neomm_vaddr_t at,
                       neomm_vaddr_t end)
{
    const entry_t *entries = neomm__table_pointer(c->root, table);
    for (;;) {
        entry_t entry = entry_load(&entries[index_at(level, at)]);
        neomm_vaddr_t edge = entry_end(level, at, end);
        c->reads++;
        if (entry_is_table(level, entry)) {
            neomm_frame_t below = entry_table_frame(entry);
            struct neomm__frame *about = neomm__frame(c->root, below);
            if (!try_lock(c, about))
                return false;
            about->next = c->held;
            c->held = below.number;
            if (level > 1 && !lock_below(c, level - 1, below, at, edge))
                return false;
        }
        if (edge == end)
            return true;
        at = edge + 1;
    }
}

/* Unlocks the tables below the base, but for the dead, which come back as a list. */
static uint32_t unlock_below(struct cursor *c)
{
    uint32_t dead = 0;
    for (uint32_t number = c->held, next; number != 0; number = next) {
        struct neomm__frame *about = neomm__frame(c->root, neomm_frame(number));
        next = about->next;
        about->next = 0;
        if (neomm__table_is_dead(about)) {
            about->next = dead;
            dead = number;
        } else {
            neomm__table_unlock(about);
        }
    }
    c->held = 0;
    return dead;
}

/* Enters the lowest table, not below `least`, that covers the range: without locks. */
static void cursor_find(struct cursor *c, unsigned least)
{
    neomm_frame_t frame = c->tables->top;
    unsigned level = FORMAT_TOP;
    for (; level > least && (c->at ^ c->last) >> FORMAT_SHIFT(level) == 0; level--) {
        const entry_t *table = neomm__table_pointer(c->root, frame);
        entry_t entry = entry_load_shared(&table[index_at(level, c->at)]);
        c->reads++;
        if (!entry_is_table(level, entry))
            break;
        frame = entry_table_frame(entry);
    }
    c->base = level;
    cursor_enter(c, level, frame);
}

/* Is the base still the lowest that covers the range? */
static inline bool base_is_lowest(const struct cursor *c, unsigned least)
{
    return c->level <= least || (c->at ^ c->last) >> FORMAT_SHIFT(c->level) != 0 ||
           !entry_is_table(c->level, cursor_entry(c));
}

/* Would the base be empty if all in the range went? Then it goes with it, and for that the table
 * above has to be locked, too. The root and the pinned never are. */
static bool base_may_empty(struct cursor *c)
{
    uint64_t live = *cursor_live(c, c->level);
    unsigned first = cursor_index(c), last = index_at(c->level, c->last);
    if (c->level == FORMAT_TOP || live == 0 || live > last - first + 1)
        return false;
    for (unsigned i = first; i <= last; i++)
        live -= entry_load(&c->table[c->level][i]) != 0;
    c->reads += last - first + 1;
    return live == 0;
}

/* Has one entry, above the tables of leaves, that covers all of the range nothing in it? Then there
 * is nothing to lock, and no table that could go. */
static inline bool covers_nothing(const struct cursor *c)
{
    return c->base > 0 && (c->at ^ c->last) >> FORMAT_SHIFT(c->base) == 0 &&
           entry_load_shared(&c->table[c->base][cursor_index(c)]) == 0;
}

/* Locks what the operation needs, or nothing: somebody has `busy`, or the tables have changed. */
static bool lock_all(struct cursor *c)
{
    unsigned least = c->floor;
    for (;;) {
        cursor_find(c, least);
        c->nothing = c->prune && covers_nothing(c);
        if (c->nothing)
            return true;
        if (!try_lock(c, c->about[c->base]))
            return false;
        if (c->prune && base_may_empty(c))
            least = c->base + 1;
        else if (base_is_lowest(c, least))
            break;
        neomm__table_unlock(c->about[c->base]);
    }
    if (c->base == 0 || lock_below(c, c->base, c->frame[c->base], c->at, c->last))
        return true;
    (void)unlock_below(c);
    neomm__table_unlock(c->about[c->base]);
    return false;
}

static void cursor_mask(struct cursor *c)
{
    c->irq = neomm_port_irq_save();
    c->cpu = neomm__cpu(c->root);
}

/* Nothing is waited for inside the epoch. The lock that was taken is looked at once more before it
 * ends: its table may be gone afterwards. */
static void cursor_lock(struct cursor *c)
{
    for (;;) {
        neomm__epoch_begin(c->root, c->cpu);
        bool locked = lock_all(c), wait = !locked && neomm__table_is_held(c->busy);
        neomm__epoch_end(c->cpu);
        if (locked)
            break;
        neomm_port_irq_restore(c->irq);
        if (wait)
            neomm__spin();
        cursor_mask(c);
    }
    if (!c->nothing)
        neomm__tables_note_locked(c->root);
}

/* ---- moving ---- */

static inline bool unlinks_here(const struct cursor *c);

static void cursor_descend(struct cursor *c)
{
    entry_t entry = cursor_entry(c);
    c->reads++;
    while (entry_is_table(c->level, entry) && c->level > c->floor && !unlinks_here(c)) {
        cursor_enter(c, c->level - 1, entry_table_frame(entry));
        entry = cursor_entry(c);
        c->reads++;
    }
}

static void cursor_init(struct cursor *c, struct neomm *root, struct neomm_tables *tables,
                        neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    c->root = root;
    c->tables = tables;
    c->at = vaddr;
    c->last = last;
    c->floor = 0;
    c->user = !neomm__tables_are_kernel(root, tables);
    c->alone = c->prune = c->nothing = false;
    c->nx = (entry_t)root->paging->nx;
    c->spare = (struct neomm__frame_list){0, 0, 0};
    c->held = c->made = c->gone = 0;
    c->reads = c->stores = c->zeroed = 0;
    c->descents = 1;
    c->flush.most = root->paging->flush_pages;
    c->flush.count = 0;
    c->flush.tables = false;
    cursor_mask(c);
}

static void cursor_open(struct cursor *c, struct neomm *root, struct neomm_tables *tables,
                        neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    cursor_init(c, root, tables, vaddr, last);
    cursor_lock(c);
    cursor_descend(c);
}

/* The same for an operation that takes entries away: of what it may empty, all but the root and
 * the pinned tables lies below the base. */
static void cursor_open_to_clear(struct cursor *c, struct neomm *root, struct neomm_tables *tables,
                                 neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    cursor_init(c, root, tables, vaddr, last);
    c->prune = true;
    cursor_lock(c);
    c->prune = false;
    if (!c->nothing)
        cursor_descend(c);
}

/* For tables that nobody else knows: no locks, and the base is the root. */
static void cursor_open_alone(struct cursor *c, struct neomm *root, struct neomm_tables *tables,
                              neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    cursor_init(c, root, tables, vaddr, last);
    c->alone = true;
    c->base = FORMAT_TOP;
    cursor_enter(c, FORMAT_TOP, tables->top);
    cursor_descend(c);
}

static void cursor_count(const struct cursor *c)
{
    neomm__count_masked(c->cpu, NEOMM_COUNTER_DESCENT, c->descents);
    neomm__count_masked(c->cpu, NEOMM_COUNTER_ENTRY_READ, c->reads);
    neomm__count_masked(c->cpu, NEOMM_COUNTER_ENTRY_STORE, c->stores);
    if (c->zeroed != 0)
        neomm__count_masked(c->cpu, NEOMM_COUNTER_TABLE_ZERO, c->zeroed);
    if (c->made != c->gone)
        (void)neomm__fetch_add(&c->tables->table_frames, c->made - c->gone);
}

static void cursor_close(struct cursor *c)
{
    uint32_t dead = 0;
    cursor_count(c);
    if (!c->alone && !c->nothing) {
        neomm__tables_note_unlocked(c->root);
        if (c->held != 0)
            dead = unlock_below(c);
        neomm__table_unlock(c->about[c->base]);
    }
    neomm_port_irq_restore(c->irq);
    if (dead != 0)
        neomm__table_free_dead(c->root, dead);
}

/* Takes the table below the entry here out of it. It is freed when the cursor is closed, so what
 * is in it can be read until then. */
static void cursor_unlink(struct cursor *c, struct neomm__frame *about)
{
    unsigned index = cursor_index(c);
    (void)cursor_replace(c, index, entry_load(&c->table[c->level][index]), 0);
    --*cursor_live(c, c->level);
    neomm__table_kill(about);
    c->gone++;
    c->flush.tables = true;
}

/* A table that is about to be linked, with all its entries in use, is locked as if it had been
 * there. */
static void cursor_adopt(struct cursor *c, neomm_frame_t frame, unsigned live)
{
    struct neomm__frame *about = neomm__frame(c->root, frame);
    about->mappings = NEOMM__TABLE_HELD;
    about->mapping = live;
    about->next = c->held;
    c->held = frame.number;
}

/* Leaves the table at the cursor's level upwards. */
static inline void cursor_ascend(struct cursor *c)
{
    c->level++;
    if (c->prune && *cursor_live(c, c->level - 1) == 0)
        cursor_unlink(c, c->about[c->level - 1]);
}

/* Moves to the lowest entry on the way to vaddr, which is in the base. */
static void cursor_seek(struct cursor *c, neomm_vaddr_t vaddr)
{
    unsigned from = c->level;
    while (c->level < c->base && (c->at ^ vaddr) >> FORMAT_SHIFT(c->level + 1) != 0)
        cursor_ascend(c);
    c->descents += c->level != from;
    c->at = vaddr;
    cursor_descend(c);
}

/* Moves back to `vaddr`, after a first pass over the range. */
static inline void cursor_return(struct cursor *c, neomm_vaddr_t vaddr)
{
    if (c->base == 0)
        c->at = vaddr;
    else
        cursor_seek(c, vaddr);
}

/* Back to `vaddr`; from here on tables that are left empty go. */
static void cursor_begin_pruning(struct cursor *c, neomm_vaddr_t vaddr)
{
    c->prune = true;
    c->level = c->base;
    c->at = vaddr;
    cursor_descend(c);
}

/* Moves to the entry behind this one; false: that is past the range. */
static inline bool cursor_next(struct cursor *c)
{
    neomm_vaddr_t edge = c->at | span_mask(c->level);
    if (edge >= c->last)
        return false;
    if (c->level == 0 && index_at(0, edge + 1) != 0) {
        c->at = edge + 1;
        c->reads++;
    } else {
        cursor_seek(c, edge + 1);
    }
    return true;
}

/* Entries from the cursor to the end of its table or of the range. */
static inline unsigned cursor_run(const struct cursor *c)
{
    return index_at(c->level, entry_end(c->level + 1, c->at, c->last)) - cursor_index(c) + 1;
}

/* Moves to the last of `count` entries from here on. */
static inline void cursor_skip(struct cursor *c, unsigned count)
{
    c->at += (neomm_vaddr_t)(count - 1) << FORMAT_SHIFT(c->level);
    c->reads += count - 1;
}

/* Can the table below the entry here go as a whole, with the leaves in it? Only tables of leaves
 * do, and never a pinned one. */
static inline bool unlinks_here(const struct cursor *c)
{
    neomm_vaddr_t start = cursor_start(c);
    if (!c->prune || c->level != 1 || (FORMAT_TOP == 1 && !c->user))
        return false;
    return start >= c->at && c->last - start >= span_mask(1);
}
