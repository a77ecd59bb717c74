/* Areas and trees: the counts above the fields, and the search for a field that has what is
 * wanted.
 * SPDX-License-Identifier: MIT
 *
 *   filled   1 0 1 1 0 ...     a bit per tree, one map per area: what is 0 has nothing
 *   trees    7 0 3 9 0 ...     free frames
 *   fields   0 2 5 | ...       free frames
 *
 * A search for single frames takes them out of the area's count first, so that it cannot fail
 * further down: it goes round until it has found them all. A search for a block can fail, and
 * what it had taken out of the counts must go back; so must what either had taken out of a tree's
 * in vain. Meanwhile others may see too few. It says so in its CPU's `borrowing`, and counts in
 * `returned` what it gave back, so that who is about to report that memory ran out can wait for it
 * and look again. What is freed while somebody looks so hard is counted, too: it may have been
 * where he looked first, and what he would have found last may be gone.
 */
#include "pmm/pmm_priv.h"

/* So many trees are searched for a field of the right sort before any will do for a single
 * frame. */
#define NEAR 16u
/* Others that free and take all the time could keep a CPU looking for ever. */
#define LOOKS 16u

/* ---- counts ---- */

size_t neomm__area_take(struct neomm__area *area, size_t least, size_t most, size_t kept)
{
    size_t seen = neomm__load_acquire(&area->free), n;
    do {
        size_t spare = seen > kept ? seen - kept : 0;
        n = spare < most ? spare : most;
        if (n < least || n == 0)
            return 0;
    } while (!neomm__cas(&area->free, &seen, seen - n));
    return n;
}

/* Caches that kept frames now would let anybody have the reserve. */
static void note_taken(struct neomm__pmm *pmm, const struct neomm__area *area)
{
    size_t free = neomm__load_relaxed(&area->free);
    if (free < area->minimum && !(neomm__load_relaxed(&pmm->uncached) & NEOMM__TIGHT))
        (void)neomm__fetch_or(&pmm->uncached, NEOMM__TIGHT);
    if (free < area->minimum + area->minimum / 4 && pmm->low)
        pmm->low(pmm->low_context);
}

static bool is_tight(const struct neomm__pmm *pmm)
{
    for (uint32_t i = 0; i < pmm->nodes * NEOMM_ZONES; i++)
        if (neomm__load_relaxed(&pmm->area[i].free) < pmm->area[i].minimum)
            return true;
    return false;
}

/* Who takes after the look finds the mark gone, or did so before it went and is seen here. */
static void note_released(struct neomm__pmm *pmm)
{
    uint32_t uncached = neomm__load_relaxed(&pmm->uncached);
    if (uncached & ~NEOMM__TIGHT)
        (void)neomm__fetch_add(&pmm->returned, 1);
    if (!(uncached & NEOMM__TIGHT) || is_tight(pmm))
        return;
    (void)neomm__fetch_and(&pmm->uncached, ~NEOMM__TIGHT);
    if (is_tight(pmm))
        (void)neomm__fetch_or(&pmm->uncached, NEOMM__TIGHT);
}

size_t *neomm__area_begin_borrowing(struct neomm__pmm *pmm)
{
    size_t *borrowing = &pmm->cpu[neomm_port_cpu()->index].borrowing;
    (void)neomm__fetch_add(borrowing, 1);
    return borrowing;
}

void neomm__area_end_borrowing(size_t *borrowing)
{
    (void)neomm__fetch_sub(borrowing, 1);
}

static unsigned tree_take(struct neomm__pmm *pmm, uint32_t tree, unsigned least, unsigned most)
{
    uint32_t *free = &pmm->tree_free[tree], seen = neomm__load_relaxed(free), n;
    do {
        n = seen < most ? seen : most;
        if (n < least)
            return 0;
    } while (!neomm__cas(free, &seen, seen - n));
    return n;
}

static void mark_filled(struct neomm__pmm *pmm, uint32_t tree)
{
    neomm__word_t *word = &pmm->area[pmm->tree_area[tree]].filled[tree / NEOMM__WORD_BITS];
    (void)neomm__fetch_or(word, (neomm__word_t)1 << tree % NEOMM__WORD_BITS);
}

static void tree_add(struct neomm__pmm *pmm, uint32_t tree, unsigned n)
{
    if (neomm__fetch_add(&pmm->tree_free[tree], n) == 0)
        mark_filled(pmm, tree);
}

/* A tree that was seen empty. Who fills it after the look marks it; who did so before the mark
 * went is seen here. */
static void mark_empty(struct neomm__pmm *pmm, uint32_t tree)
{
    neomm__word_t *word = &pmm->area[pmm->tree_area[tree]].filled[tree / NEOMM__WORD_BITS];
    (void)neomm__fetch_and(word, ~((neomm__word_t)1 << tree % NEOMM__WORD_BITS));
    if (neomm__load_acquire(&pmm->tree_free[tree]) != 0)
        mark_filled(pmm, tree);
}

/* The first tree of [from, end) that is marked; `end`: none. */
static uint32_t next_filled(const struct neomm__area *area, uint32_t from, uint32_t end)
{
    for (uint32_t i = from / NEOMM__WORD_BITS; i * NEOMM__WORD_BITS < end; i++) {
        neomm__word_t word = neomm__load_acquire(&area->filled[i]);
        if (i == from / NEOMM__WORD_BITS)
            word &= ~(neomm__word_t)0 << from % NEOMM__WORD_BITS;
        if (word != 0) {
            uint32_t tree = i * NEOMM__WORD_BITS + neomm__lowest_bit(word);
            return tree < end ? tree : end;
        }
    }
    return end;
}

/* A round over an area's trees: from the hint's up, then from the first up to there. */
struct round {
    uint32_t start, next, end;
    uint32_t left; /* trees to go */
    bool marked;   /* only trees that are marked */
    bool wrapped;
};

static struct round round_from(const struct neomm__pmm *pmm, uint32_t hint, uint32_t trees,
                               bool marked)
{
    uint32_t tree = neomm__tree_of(pmm, (size_t)hint * NEOMM__FIELD_BITS);
    return (struct round){tree, tree, pmm->trees, trees, marked, false};
}

static bool round_next(const struct neomm__pmm *pmm, uint32_t area, struct round *round,
                       uint32_t *tree)
{
    for (;;) {
        *tree = round->next;
        if (round->marked)
            *tree = next_filled(&pmm->area[area], round->next, round->end);
        while (*tree < round->end && pmm->tree_area[*tree] != area)
            (*tree)++;
        round->next = *tree + 1;
        if (*tree < round->end)
            return round->left-- > 0;
        if (round->wrapped)
            return false;
        *round = (struct round){round->start, 0, round->start, round->left, round->marked, true};
    }
}

/* ---- fields of a tree ---- */

/* How well a field suits, best first. */
enum suits { SUITS_OWN, SUITS_FREE, SUITS_OTHERS, SUITS_NOT };

/* What is looked for, and where what was found goes. */
struct search {
    struct neomm__pmm *pmm;
    uint32_t *hint; /* the field that was good last */
    uint32_t *bits;
    unsigned order;
    unsigned got; /* blocks */
    bool movable;
    bool sure;     /* hints are not believed */
    bool returned; /* something that was borrowed */
};

/* Is this field the first half of a block of two that looks free? */
static bool is_pair(const struct neomm__pmm *pmm, size_t field)
{
    return field % 2 == 0 &&
           (neomm__load_relaxed(&pmm->field[field + 1]) & NEOMM__FIELD_COUNT) == NEOMM__FIELD_BITS;
}

static enum suits suits(const struct search *search, size_t field)
{
    uint16_t value = neomm__load_relaxed(&search->pmm->field[field]);
    unsigned count = value & NEOMM__FIELD_COUNT;
    unsigned blocked = (value & NEOMM__FIELD_BLOCKED) >> NEOMM__BLOCKED_SHIFT;
    if (count == NEOMM__FIELD_BITS)
        return search->order <= NEOMM__FIELD_ORDER || is_pair(search->pmm, field) ? SUITS_FREE
                                                                                  : SUITS_NOT;
    if (search->order >= NEOMM__FIELD_ORDER || count >> search->order == 0 ||
        (!search->sure && blocked != 0 && blocked <= search->order))
        return SUITS_NOT;
    return ((value & NEOMM__FIELD_MOVABLE) != 0) == search->movable ? SUITS_OWN : SUITS_OTHERS;
}

/* Single frames or one block out of a field, into bits[]. */
static unsigned take_from_field(struct search *search, size_t field, unsigned most)
{
    struct neomm__pmm *pmm = search->pmm;
    uint32_t *bits = search->bits + search->got;
    if (search->order == 0) {
        unsigned n = neomm__field_take(pmm, field, most, search->movable);
        neomm__field_claim(pmm, field, n, bits);
        return n;
    }
    size_t bit = neomm__field_take_block(pmm, field, search->order, search->movable, search->sure);
    *bits = (uint32_t)bit;
    return bit != NEOMM__BITMAP_NONE;
}

/* The first field of a tree that suits so well, looked for from the hint on: what is found and
 * not taken for lack of it never leaves the counts. NEOMM__BITMAP_NONE: there is none. */
static size_t find_field(const struct search *search, uint32_t tree, enum suits wanted)
{
    const struct neomm__pmm *pmm = search->pmm;
    uint32_t first = pmm->tree_first[tree], end = pmm->tree_first[tree + 1];
    uint32_t start = *search->hint - first < end - first ? *search->hint : first;
    for (uint32_t field = start; field < end; field++)
        if (suits(search, field) == wanted)
            return field;
    for (uint32_t field = first; field < start; field++)
        if (suits(search, field) == wanted)
            return field;
    return NEOMM__BITMAP_NONE;
}

/* Blocks out of fields that suit so well, up to `most` of them, which the tree has promised. */
static void take_from_fields(struct search *search, uint32_t tree, unsigned most, enum suits wanted)
{
    unsigned end = search->got + most;
    uint32_t looks = 2 * NEOMM__TREE_FIELDS; /* others may be quicker, time and again */
    while (search->got < end && looks-- > 0) {
        size_t field = find_field(search, tree, wanted);
        if (field == NEOMM__BITMAP_NONE)
            return;
        unsigned n = take_from_field(search, field, end - search->got);
        search->got += n;
        if (n == 0)
            field = field + 1 < search->pmm->tree_first[tree + 1] ? field + 1
                                                                  : search->pmm->tree_first[tree];
        *search->hint = (uint32_t)field;
    }
}

static void take_from_tree(struct search *search, uint32_t tree, unsigned most, enum suits wanted)
{
    struct neomm__pmm *pmm = search->pmm;
    unsigned size = 1u << search->order, before = search->got;
    if (neomm__load_relaxed(&pmm->tree_free[tree]) < size)
        return;
    size_t field = find_field(search, tree, wanted);
    if (field == NEOMM__BITMAP_NONE)
        return;
    *search->hint = (uint32_t)field;
    unsigned promised = tree_take(pmm, tree, size, most * size);
    take_from_fields(search, tree, promised >> search->order, wanted);
    unsigned used = (search->got - before) * size;
    if (used < promised) {
        tree_add(pmm, tree, promised - used);
        search->returned = true;
    }
}

/* One round over the trees: the best fields first in each, none worse than `worst`. */
static void take_in_round(struct search *search, uint32_t area, unsigned most, enum suits worst,
                          struct round round)
{
    struct neomm__pmm *pmm = search->pmm;
    uint32_t tree;
    while (search->got < most && round_next(pmm, area, &round, &tree)) {
        for (enum suits wanted = SUITS_OWN; wanted <= worst && search->got < most; wanted++)
            take_from_tree(search, tree, most - search->got, wanted);
        if (round.marked && neomm__load_relaxed(&pmm->tree_free[tree]) == 0)
            mark_empty(pmm, tree);
    }
}

void neomm__area_find_frames(struct neomm__pmm *pmm, uint32_t area, unsigned count,
                             neomm_flags_t flags, uint32_t *hint, uint32_t *bits)
{
    struct search search = {pmm, hint, bits, 0, 0, (flags & NEOMM_MOVABLE) != 0, false, false};
    size_t *borrowing = neomm__area_begin_borrowing(pmm);
    note_taken(pmm, &pmm->area[area]);
    take_in_round(&search, area, count, SUITS_FREE, round_from(pmm, *hint, NEAR, true));
    /* The frames are there. A tree's mark may be late, so those without are gone over, too. */
    for (bool marked = true; search.got < count; marked = !marked) {
        take_in_round(&search, area, count, SUITS_OTHERS,
                      round_from(pmm, *hint, pmm->trees, marked));
        if (!marked && search.got < count)
            neomm__spin();
    }
    if (search.returned)
        (void)neomm__fetch_add(&pmm->returned, 1);
    neomm__area_end_borrowing(borrowing);
}

unsigned neomm__area_take_frames(struct neomm__pmm *pmm, uint32_t area, unsigned most,
                                 neomm_flags_t flags, uint32_t *hint, uint32_t *bits)
{
    struct neomm__area *from = &pmm->area[area];
    unsigned n = (unsigned)neomm__area_take(from, 1, most, neomm__area_kept(from, flags));
    if (n > 0)
        neomm__area_find_frames(pmm, area, n, flags, hint, bits);
    return n;
}

unsigned neomm__area_take_blocks(struct neomm *root, uint32_t area, unsigned most, unsigned order,
                                 neomm_flags_t flags, uint32_t *hint, bool sure, uint32_t *bits)
{
    struct neomm__pmm *pmm = root->pmm;
    struct neomm__area *from = &pmm->area[area];
    struct search search = {pmm, hint, bits, order, 0, (flags & NEOMM_MOVABLE) != 0, sure, false};
    size_t size = (size_t)1 << order, *borrowing = neomm__area_begin_borrowing(pmm);
    size_t taken = neomm__area_take(from, size, most * size, neomm__area_kept(from, flags));
    unsigned n = (unsigned)(taken >> order);
    if (n > 0)
        take_in_round(&search, area, n, SUITS_FREE, round_from(pmm, *hint, pmm->trees, !sure));
    if (n > 0 && search.got == 0)
        take_in_round(&search, area, n, SUITS_OTHERS, round_from(pmm, *hint, pmm->trees, !sure));
    if (taken > search.got * size) {
        (void)neomm__fetch_add(&from->free, taken - search.got * size);
        search.returned = true;
    }
    if (search.returned && !sure)
        (void)neomm__fetch_add(&pmm->returned, 1);
    neomm__area_end_borrowing(borrowing);
    if (search.got > 0)
        note_taken(pmm, from);
    return search.got;
}

/* ---- given bits ---- */

/* The part of [bit, bit + count) that is in one field. */
static size_t piece_of(size_t bit, size_t count)
{
    size_t rest = NEOMM__FIELD_BITS - bit % NEOMM__FIELD_BITS;
    return count < rest ? count : rest;
}

/* *next: where a search goes on, if the counts already say no. */
static bool take_piece(struct neomm__pmm *pmm, size_t bit, size_t count, neomm_flags_t flags,
                       size_t *next)
{
    uint32_t tree = neomm__tree_of(pmm, bit);
    struct neomm__area *area = &pmm->area[pmm->tree_area[tree]];
    if (!neomm__area_take(area, count, count, neomm__area_kept(area, flags))) {
        *next = (size_t)pmm->tree_first[tree + 1] << NEOMM__FIELD_ORDER;
        return false;
    }
    if (tree_take(pmm, tree, (unsigned)count, (unsigned)count)) {
        if (neomm__field_take_exact(pmm, bit, count)) {
            note_taken(pmm, area);
            return true;
        }
        tree_add(pmm, tree, (unsigned)count);
    }
    (void)neomm__fetch_add(&area->free, count);
    return false;
}

bool neomm__area_take_exact(struct neomm *root, size_t bit, size_t count, neomm_flags_t flags,
                            bool sure, size_t *next)
{
    struct neomm__pmm *pmm = root->pmm;
    size_t *borrowing = neomm__area_begin_borrowing(pmm), done = 0;
    *next = bit + 1;
    while (done < count &&
           take_piece(pmm, bit + done, piece_of(bit + done, count - done), flags, next))
        done += piece_of(bit + done, count - done);
    if (done < count && done > 0)
        neomm__area_release(pmm, bit, done);
    if (done < count && !sure)
        (void)neomm__fetch_add(&pmm->returned, 1);
    neomm__area_end_borrowing(borrowing);
    return done == count;
}

/* Frames that were cleared, on their way up: one addition for those of a tree, and of an area. */
struct rise {
    struct neomm__pmm *pmm;
    size_t *borrowing;
    uint32_t tree, area;
    unsigned in_tree; /* 1 or more when it is finished */
    size_t in_area;
};

static void rise_finish(struct rise *rise, uint32_t area)
{
    tree_add(rise->pmm, rise->tree, rise->in_tree);
    rise->in_area += rise->in_tree;
    rise->in_tree = 0;
    if (area != rise->area) {
        (void)neomm__fetch_add(&rise->pmm->area[rise->area].free, rise->in_area);
        rise->in_area = 0;
    }
    rise->area = area;
}

static void rise_add(struct rise *rise, size_t bit, unsigned count)
{
    uint32_t tree = neomm__tree_of(rise->pmm, bit);
    if (tree != rise->tree)
        rise_finish(rise, rise->pmm->tree_area[tree]);
    rise->tree = tree;
    rise->in_tree += count;
}

static struct rise rise_begin(struct neomm__pmm *pmm, size_t bit)
{
    uint32_t tree = neomm__tree_of(pmm, bit);
    return (struct rise){pmm, neomm__area_begin_borrowing(pmm), tree, pmm->tree_area[tree], 0, 0};
}

static void rise_end(struct rise *rise)
{
    rise_finish(rise, UINT32_MAX);
    note_released(rise->pmm);
    neomm__area_end_borrowing(rise->borrowing);
}

void neomm__area_release(struct neomm__pmm *pmm, size_t bit, size_t count)
{
    struct rise rise = rise_begin(pmm, bit);
    for (size_t end = bit + count, piece; bit < end; bit += piece) {
        piece = piece_of(bit, end - bit);
        neomm__field_release(pmm, bit, piece);
        rise_add(&rise, bit, (unsigned)piece);
    }
    rise_end(&rise);
}

void neomm__area_release_frames(struct neomm__pmm *pmm, const uint32_t *bits, unsigned count)
{
    struct rise rise = rise_begin(pmm, bits[0]);
    for (unsigned i = 0; i < count;) {
        uint32_t word = bits[i] / NEOMM__WORD_BITS, first = bits[i];
        neomm__word_t mask = 0;
        unsigned n = 0;
        for (; i < count && bits[i] / NEOMM__WORD_BITS == word; i++, n++)
            mask |= (neomm__word_t)1 << bits[i] % NEOMM__WORD_BITS;
        neomm__field_release_mask(pmm, first, mask);
        rise_add(&rise, first, n);
    }
    rise_end(&rise);
}

static void settle(struct neomm *root)
{
    uint32_t own = neomm_port_cpu()->index;
    for (uint32_t i = 0; i < root->cpus; i++)
        for (uint32_t looks = 0; i != own && looks < NEOMM__PATIENCE &&
                                 neomm__load_acquire(&root->pmm->cpu[i].borrowing) != 0;
             looks++)
            neomm__spin();
}

bool neomm__area_look_again(struct neomm *root, uint32_t returned, unsigned looks)
{
    settle(root);
    return looks < LOOKS && neomm__load_acquire(&root->pmm->returned) != returned;
}
