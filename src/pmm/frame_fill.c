/* What frames hold while nobody owns them, and what their owners find: for who hunts uses of
 * memory after it was freed, or before it was written.
 * SPDX-License-Identifier: MIT */
#include "pmm/pmm_priv.h"

/* As an entry of a page table: present, with reserved bits set. */
#define POISON ((neomm__word_t)0xdeadfeeddeadfeedu)
#define JUNK   ((neomm__word_t)0xa5a5a5a5a5a5a5a5u)
#define WORDS  (NEOMM_PAGE_SIZE / sizeof(neomm__word_t))

static void fill_frame(struct neomm *root, neomm_frame_t frame, neomm__word_t value)
{
    neomm_irq_t irq = neomm_port_irq_save();
    neomm__word_t *page = neomm_frame_map(root, frame);
    for (size_t i = 0; page && i < WORDS; i++)
        page[i] = value;
    if (page)
        neomm_frame_unmap(root, page);
    neomm_port_irq_restore(irq);
}

/* The offset of the first word that is not poison, or the size of a page. What cannot be mapped
 * was not poisoned either. */
static size_t damage_in(struct neomm *root, neomm_frame_t frame)
{
    neomm_irq_t irq = neomm_port_irq_save();
    neomm__word_t *page = neomm_frame_map(root, frame);
    size_t i = page ? 0 : WORDS;
    while (i < WORDS && page[i] == POISON)
        i++;
    if (page)
        neomm_frame_unmap(root, page);
    neomm_port_irq_restore(irq);
    return i * sizeof(neomm__word_t);
}

void neomm__fill_freed(struct neomm *root, neomm_frame_t first, size_t count)
{
    if (root->pmm->fill & NEOMM_FILL_POISON)
        for (size_t i = 0; i < count; i++)
            fill_frame(root, neomm_frame(first.number + (uint32_t)i), POISON);
}

static bool is_whole(struct neomm *root, neomm_frame_t frame)
{
    size_t offset = damage_in(root, frame);
    if (offset == NEOMM_PAGE_SIZE)
        return true;
    neomm__log(NEOMM_LOG_ERROR,
               "pmm: frame %u was written to at offset %zu while it was free; it is retired",
               frame.number, offset);
    return false;
}

/* The frames go their own ways: those damaged are retired, the others free again. */
static void dispose(struct neomm *root, neomm_frame_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        neomm_frame_t frame = neomm_frame(first.number + (uint32_t)i);
        bool whole = is_whole(root, frame);
        if (!whole)
            fill_frame(root, frame, POISON);
        neomm__pmm_own(root, neomm__bit_of(root, frame), 0, 0);
        NEOMM__FRAMES_ALLOCATED(frame, 1);
        if (whole)
            (void)neomm_pmm_free(root, frame, 0);
        else
            (void)neomm_pmm_retire(root, frame);
    }
}

bool neomm__fill_taken(struct neomm *root, neomm_frame_t first, size_t count)
{
    if (root->pmm->fill & NEOMM_FILL_POISON)
        for (size_t i = 0; i < count; i++)
            if (damage_in(root, neomm_frame(first.number + (uint32_t)i)) != NEOMM_PAGE_SIZE) {
                dispose(root, first, count);
                return false;
            }
    return true;
}

void neomm__fill_owned(struct neomm *root, neomm_frame_t first, size_t count, neomm_flags_t flags)
{
    if ((root->pmm->fill & NEOMM_FILL_JUNK) && !(flags & NEOMM_ZERO))
        for (size_t i = 0; i < count; i++)
            fill_frame(root, neomm_frame(first.number + (uint32_t)i), JUNK);
}

/* The free frames of a run, which nobody takes meanwhile. */
static void poison_run(struct neomm *root, const struct neomm__ram_run *run)
{
    size_t end = run->bit + run->count, bit = run->bit;
    while ((bit = neomm__bitmap_next_clear(root->pmm->taken, bit, end)) != NEOMM__BITMAP_NONE)
        fill_frame(root, neomm__frame_of(root->pmm, bit++), POISON);
}

void neomm_pmm_set_fill(struct neomm *root, uint32_t fill)
{
    struct neomm__pmm *pmm = root->pmm;
    if (!pmm)
        return;
    neomm__cache_drain(root);
    for (uint32_t i = 0; (fill & ~pmm->fill & NEOMM_FILL_POISON) && i < pmm->runs; i++)
        if (pmm->run[i].type == NEOMM__RAM_USABLE)
            poison_run(root, &pmm->run[i]);
    pmm->fill = fill & (NEOMM_FILL_POISON | NEOMM_FILL_JUNK);
}
