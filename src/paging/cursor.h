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
 *     level 2      [  T  ]                 the right one
 *                     |
 *     level 1       [ T T - ]
 *                     | |
 *     level 0   [LL-L-L] [LLL---]
 *                     ^
 */

struct cursor {
    struct neomm *root;
    struct neomm_tables *tables;
    neomm_vaddr_t at, last; /* at: inside the entry where the cursor stands */
    unsigned level;
    bool user;
    bool prune; /* tables that are empty when the cursor leaves them go */
    entry_t nx;
    entry_t *table[FORMAT_LEVELS]; /* on the way, from `level` up */
    neomm_frame_t frame[FORMAT_LEVELS];
    struct neomm__frame *about[FORMAT_LEVELS]; /* descriptors, NULL: not looked up yet */
    struct neomm__frame_list spare;            /* zeroed tables to be linked */
    struct neomm__frame_list garbage; /* unlinked, to be freed when no CPU can reach them */
    size_t stores, descents;
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

/* Tables lie in direct-mapped memory only, so a frame number is as good as a pointer. */
static inline void cursor_enter(struct cursor *c, unsigned level, neomm_frame_t frame)
{
    c->level = level;
    c->frame[level] = frame;
    c->table[level] = neomm__table_pointer(c->root, frame);
    c->about[level] = NULL;
}

static inline unsigned cursor_index(const struct cursor *c)
{
    return index_at(c->level, c->at);
}

static inline entry_t cursor_entry(const struct cursor *c)
{
    return entry_load(&c->table[c->level][cursor_index(c)]);
}

static inline neomm_paddr_t entry_place(const struct cursor *c, unsigned level, unsigned index)
{
    return neomm_frame_paddr(c->frame[level]) + index * sizeof(entry_t);
}

/* How many entries of the table at `level` are in use, and one more if it is pinned. */
static inline uint64_t *cursor_live(struct cursor *c, unsigned level)
{
    if (!c->about[level])
        c->about[level] = neomm__frame(c->root, c->frame[level]);
    return &c->about[level]->mapping;
}

/* First byte of what the entry here covers. */
static inline neomm_vaddr_t cursor_start(const struct cursor *c)
{
    return c->at & ~span_mask(c->level);
}

static inline entry_t cursor_exchange(struct cursor *c, entry_t after)
{
    unsigned index = cursor_index(c);
    c->stores++;
    return entry_exchange(&c->table[c->level][index], entry_place(c, c->level, index), after);
}

static inline bool cursor_cas(struct cursor *c, entry_t *before, entry_t after)
{
    unsigned index = cursor_index(c);
    bool done =
        entry_cas(&c->table[c->level][index], entry_place(c, c->level, index), before, after);
    c->stores += done;
    return done;
}

static inline void cursor_fill(struct cursor *c, unsigned index, entry_t after)
{
    c->stores++;
    entry_fill(&c->table[c->level][index], entry_place(c, c->level, index), after);
}

static void cursor_descend(struct cursor *c)
{
    entry_t entry = cursor_entry(c);
    while (entry_is_table(c->level, entry)) {
        cursor_enter(c, c->level - 1, entry_table_frame(entry));
        entry = cursor_entry(c);
    }
}

static void cursor_open(struct cursor *c, struct neomm *root, struct neomm_tables *tables,
                        neomm_vaddr_t vaddr, neomm_vaddr_t last)
{
    c->root = root;
    c->tables = tables;
    c->at = vaddr;
    c->last = last;
    c->user = !neomm__tables_are_kernel(root, tables);
    c->prune = false;
    c->nx = (entry_t)root->paging->nx;
    c->spare = (struct neomm__frame_list){0, 0, 0};
    c->garbage = c->spare;
    c->stores = 0;
    c->descents = 1;
    c->flush.count = 0;
    cursor_enter(c, FORMAT_TOP, tables->top);
    cursor_descend(c);
}

static void cursor_close(struct cursor *c)
{
    neomm__count_add(c->root, NEOMM_COUNTER_DESCENT, c->descents);
    if (c->stores != 0)
        neomm__count_add(c->root, NEOMM_COUNTER_ENTRY_STORE, c->stores);
}

/* Takes the empty table at the cursor's level out of the one above. It is freed later, when no
 * CPU can have it cached any more. */
static void cursor_unlink(struct cursor *c)
{
    neomm_frame_t frame = c->frame[c->level];
    c->level++;
    (void)cursor_exchange(c, 0);
    --*cursor_live(c, c->level);
    c->tables->table_frames--;
    neomm__frame_list_push_tail(&c->root->frames, &c->garbage, frame);
}

/* Leaves the table at the cursor's level upwards. */
static inline void cursor_ascend(struct cursor *c)
{
    if (c->prune && *cursor_live(c, c->level) == 0)
        cursor_unlink(c);
    else
        c->level++;
}

/* Moves to the lowest entry on the way to vaddr. */
static void cursor_seek(struct cursor *c, neomm_vaddr_t vaddr)
{
    unsigned from = c->level;
    while (c->level < FORMAT_TOP && (c->at ^ vaddr) >> FORMAT_SHIFT(c->level + 1) != 0)
        cursor_ascend(c);
    c->descents += c->level != from;
    c->at = vaddr;
    cursor_descend(c);
}

/* Moves to the entry behind this one; false: that is past the range. */
static inline bool cursor_next(struct cursor *c)
{
    neomm_vaddr_t edge = c->at | span_mask(c->level);
    if (edge >= c->last)
        return false;
    if (c->level == 0 && index_at(0, edge + 1) != 0)
        c->at = edge + 1;
    else
        cursor_seek(c, edge + 1);
    return true;
}

/* Puts an empty table from the spares under the empty entry here, and enters it. */
static void cursor_link(struct cursor *c)
{
    neomm_frame_t frame = neomm__frame_list_pop(&c->root->frames, &c->spare);
    cursor_fill(c, cursor_index(c), entry_make_table(c->level, frame, c->user));
    ++*cursor_live(c, c->level);
    c->tables->table_frames++;
    cursor_enter(c, c->level - 1, frame);
}

/* Makes the tables that are missing under the empty entry here, down to `level`. */
static neomm_status cursor_deepen(struct cursor *c, unsigned level)
{
    neomm_status status =
        neomm__table_alloc_list(c->root, c->tables->owner, c->level - level, &c->spare);
    while (status == NEOMM_OK && c->level > level)
        cursor_link(c);
    return status;
}
