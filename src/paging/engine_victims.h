/* Pages that are on their way out, several in one step: see neomm_paging_clean.
 * SPDX-License-Identifier: MIT
 *
 * The cursor goes from page to page, ascending; what lies between them is locked with them, and not
 * looked at. One invalidation does for all.
 */

/* The leaf here, if it is one of the victim's frame. A leaf that was split stands at level 0. */
static bool is_victim(const struct cursor *c, const struct neomm_paging_victim *victim,
                      entry_t entry)
{
    return c->level == 0 && entry_is_leaf(0, entry) &&
           entry_leaf_paddr(0, entry) == neomm_frame_paddr(victim->frame);
}

static void clean_here(struct cursor *c, struct neomm_paging_victim *victim)
{
    const entry_t bits = ENTRY_ACCESSED | ENTRY_DIRTY;
    entry_t before = cursor_entry(c);
    victim->dirty = false;
    if (!is_victim(c, victim, before))
        return;
    while ((before & bits) != 0 && !cursor_cas(c, cursor_index(c), &before, before & ~bits))
        ;
    victim->dirty = (before & ENTRY_DIRTY) != 0;
    if ((before & bits) != 0 && entry_is_present(before))
        neomm__flush_add(&c->flush, cursor_start(c));
}

static void swap_out_here(struct cursor *c, struct neomm_paging_victim *victim)
{
    entry_t before = cursor_entry(c), after = entry_make_swap(&victim->slot);
    victim->gone = false;
    do
        if (!is_victim(c, victim, before) || (before & ENTRY_DIRTY))
            return;
    while (!cursor_cas(c, cursor_index(c), &before, after));
    victim->gone = true;
    if (entry_is_present(before))
        neomm__flush_add(&c->flush, cursor_start(c));
}

static void engine_victims(struct neomm *root, struct neomm_tables *tables,
                           struct neomm_paging_victim *victims, uint32_t count, bool out)
{
    enum neomm_flush_site site = out ? NEOMM_FLUSH_SITE_EXCHANGE : NEOMM_FLUSH_SITE_HARVEST;
    struct cursor c;
    cursor_open(&c, root, tables, victims[0].vaddr, victims[count - 1].vaddr | span_mask(0));
    for (uint32_t i = 0; i < count; i++) {
        cursor_seek(&c, victims[i].vaddr);
        if (!out)
            clean_here(&c, &victims[i]);
        else if (entry_swap_fits(&victims[i].slot))
            swap_out_here(&c, &victims[i]);
        else
            victims[i].gone = false;
    }
    invalidate(&c, site);
    settled(&c, site);
    cursor_close(&c);
}
