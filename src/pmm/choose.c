/* Which block to empty, when a large one is wanted and there is none.
 * SPDX-License-Identifier: MIT */
#include "pmm/choose.h"

#include "pmm/pmm_priv.h"

/* Fields that hold unmovable frames, as far as is known, come behind all others. */
#define UNMOVABLE ((uint32_t)1 << 12)

/* Frames of a field in use, and more if there is little hope to move them. */
static uint32_t cost_of(const struct neomm__pmm *pmm, size_t field)
{
    uint16_t word = neomm__load_relaxed(&pmm->field[field]);
    uint32_t used = (uint32_t)NEOMM__FIELD_BITS - (word & NEOMM__FIELD_COUNT);
    return used == 0 || (word & NEOMM__FIELD_MOVABLE) ? used : used + UNMOVABLE;
}

static bool is_allowed(const struct neomm__pmm *pmm, size_t bit, enum neomm_zone top)
{
    return !neomm__is_blank(pmm, bit / NEOMM__SECTION_BITS) &&
           neomm__zone_of_area(pmm->tree_area[neomm__tree_of(pmm, bit)]) <= top;
}

bool neomm__pmm_choose(struct neomm *root, unsigned order, neomm_flags_t flags, uint64_t *after,
                       neomm_frame_t *first)
{
    const struct neomm__pmm *pmm = root->pmm;
    enum neomm_zone top = neomm__pmm_top_zone(root, flags);
    size_t fields = order > NEOMM__FIELD_ORDER ? 2 : 1, end = pmm->bits >> NEOMM__FIELD_ORDER;
    uint64_t best = UINT64_MAX;
    for (size_t field = 0; field + fields <= end; field += fields) {
        uint64_t cost = cost_of(pmm, field) + (fields > 1 ? cost_of(pmm, field + 1) : 0);
        uint64_t key = cost << 32 | (field + 1);
        if (key > *after && key < best && is_allowed(pmm, field << NEOMM__FIELD_ORDER, top))
            best = key;
    }
    if (best == UINT64_MAX)
        return false;
    *after = best;
    *first = neomm__frame_of(pmm, (size_t)((uint32_t)best - 1) << NEOMM__FIELD_ORDER);
    return true;
}
