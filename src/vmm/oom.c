/* Out of memory: who gives up what he has, so that the others and the kernel go on.
 * SPDX-License-Identifier: MIT
 *
 * One task at a time looks for a victim; others wait for it and try again. It is told to the kernel
 * and loses its private pages right here, whatever its tasks do: they may wait for memory
 * themselves, so nobody may wait for them. Pages of objects are let go when it is destroyed; what
 * it wrote to in private mappings of them is its own.
 *
 *     mark: no fault gives it anything -> neomm_port_oom -> its private regions: close, unmap, open
 *
 * The score is a share of RAM, so that a bias means the same on any machine (as Linux's
 * oom_score_adj does).
 */
#include "vmm/tally.h"

/* A fault needs a frame and the tables above it, five levels at the most; with so many at hand it
 * is no want of frames. */
#define ENOUGH 6u

/* ---- the score ---- */

static uint64_t pages_of(const struct neomm *root, const struct neomm_space *space)
{
    return (uint64_t)neomm__resident(root, space) + neomm__load_acquire(&space->swap_pages) +
           neomm__load_relaxed(&space->tables.table_frames) + 1;
}

/* Pages in 1/1000 of RAM, both rounded to 16 bits of the latter. */
static uint32_t share_of(uint64_t pages, uint64_t ram)
{
    for (; ram > UINT16_MAX; ram >>= 1)
        pages >>= 1;
    return (uint32_t)neomm__divide(1000 * pages, ram != 0 ? (uint32_t)ram : 1, NULL);
}

int32_t neomm_space_oom_score(struct neomm *root, struct neomm_space *space)
{
    return (int32_t)share_of(pages_of(root, space), root->vmm->ram_pages) +
           (int32_t)neomm__load_acquire(&space->oom_bias);
}

neomm_status neomm_space_set_oom_bias(struct neomm *root, struct neomm_space *space, int32_t bias)
{
    (void)root;
    if (bias < NEOMM_OOM_NEVER || bias > NEOMM_OOM_BIAS_MAX)
        return NEOMM_E_RANGE;
    neomm__store_release(&space->oom_bias, (uint32_t)bias);
    return NEOMM_OK;
}

/* ---- the victim ---- */

/* Not one that has nothing to give, or whose pages fork is just filling in. */
static bool is_candidate(const struct neomm *root, const struct neomm_space *space)
{
    return (int32_t)neomm__load_acquire(&space->oom_bias) != NEOMM_OOM_NEVER &&
           !neomm__is_victim(space) && neomm__load_acquire(&space->filling) == 0 &&
           (neomm__resident(root, space) != 0 || neomm__load_acquire(&space->swap_pages) != 0);
}

struct rank {
    struct neomm_space *space;
    int32_t score;
    uint64_t pages;
};

static bool is_before(const struct rank *a, const struct rank *b)
{
    return !b->space || a->score > b->score || (a->score == b->score && a->pages > b->pages);
}

/* Marks the victim and holds it; NULL: there is none. */
static struct neomm_space *choose(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    struct rank best = {NULL, 0, 0};
    neomm__mutex_lock(&vmm->spaces_lock);
    for (uint32_t i = 1; i < NEOMM__SPACE_MAX; i++) {
        struct neomm_space *space = neomm_space_at(root, i);
        if (!space || !is_candidate(root, space))
            continue;
        struct rank rank = {space, neomm_space_oom_score(root, space), pages_of(root, space)};
        if (is_before(&rank, &best))
            best = rank;
    }
    if (best.space) {
        (void)neomm__fetch_add(&best.space->busy, 1);
        neomm__store_release(&best.space->victim, 1);
    }
    neomm__mutex_unlock(&vmm->spaces_lock);
    return best.space;
}

/* ---- what it had ---- */

static bool is_private(const struct neomm__region *region)
{
    return !(region->flags & (NEOMM__REGION_SHARED | NEOMM__REGION_PHYSICAL));
}

static void for_private(struct neomm_space *space, void (*call)(struct neomm__region *region))
{
    struct neomm__region_place place = neomm__region_place(&space->map, 0);
    struct neomm__region *region = neomm__region_at(place);
    for (; region; region = neomm__region_next(&place))
        if (is_private(region))
            call(region);
}

/* A huge leaf may lie in several regions, and there is no memory to split it: what lies side by
 * side goes together. */
static void clear_private(struct neomm *root, struct neomm_space *space)
{
    struct neomm__region_place place = neomm__region_place(&space->map, 0);
    const struct neomm__region *region = neomm__region_at(place);
    neomm_vaddr_t start = 0, end = 0;
    for (; region; region = neomm__region_next(&place)) {
        if (!is_private(region))
            continue;
        if (region->start != end) {
            if (start != end)
                neomm__leaves_clear(root, space, start, end);
            start = region->start;
        }
        end = region->end;
    }
    if (start != end)
        neomm__leaves_clear(root, space, start, end);
}

/* Whoever is inside of a region leaves it without waiting for memory, and who comes later is sent
 * away. */
static void reap(struct neomm *root, struct neomm_space *space)
{
    neomm__mutex_lock(&space->lock);
    for_private(space, neomm__region_close);
    clear_private(root, space);
    for_private(space, neomm__region_open);
    neomm__mutex_unlock(&space->lock);
}

static bool take_from_a_victim(struct neomm *root)
{
    struct neomm_space *victim = choose(root);
    if (!victim)
        return false;
    uint32_t index = victim->index;
    neomm__log(NEOMM_LOG_WARNING, "vmm: out of memory: space %u (%s) gives up %llu pages", index,
               victim->name, (unsigned long long)pages_of(root, victim));
    NEOMM__COUNT(root, OOM_VICTIM);
    neomm_port_oom(root, index);
    reap(root, victim);
    neomm__space_drop(victim);
    return true;
}

bool neomm__out_of_memory(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    uint32_t victims = neomm__load_acquire(&vmm->oom_victims);
    if (neomm__exchange(&vmm->oom, 1) != 0) {
        (void)neomm_port_wait(&vmm->oom, 1, UINT64_MAX);
        return neomm__load_acquire(&vmm->oom_victims) != victims;
    }
    /* What somebody else's victim gave since will do, too. */
    bool more = neomm__load_acquire(&vmm->oom_victims) != victims;
    if (!more && neomm_pmm_available(root, 0) < ENOUGH && take_from_a_victim(root)) {
        (void)neomm__fetch_add(&vmm->oom_victims, 1);
        more = true;
    }
    neomm__store_release(&vmm->oom, 0);
    neomm_port_wake(&vmm->oom, UINT32_MAX);
    return more;
}
