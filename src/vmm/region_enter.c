/* Regions: who is inside, and who keeps others out.
 * SPDX-License-Identifier: MIT
 *
 * A fault is inside of its region for a short while, in which it neither sleeps nor allocates what
 * could reclaim; a call that changes regions holds the space's lock, closes each that its range
 * touches and waits until nobody is inside. Faults of several CPUs must not meet at a count, so a
 * task that enters puts the region into a free place of its CPU:
 *
 *   CPU 0   | A | . | . | . |     two are inside of A, one of B; where no place is free,
 *   CPU 1   | B | A | . | . |     `users` counts
 *
 *   users = n          n more are inside
 *   users = n CLOSED   nobody enters; who leaves sees that the map has `closers` and wakes them
 *   users = DEAD       it is out of the map
 *
 * Who enters writes first and then looks whether the region is closed; who closes it writes that
 * first and then looks at the places: one sees the other. Only a CPU itself fills its places, with
 * interrupts masked. A task that has moved to another CPU meanwhile gives up any place with its
 * region, which is as good as its own: who has put the region there will find another one. All
 * that count then is how many places there are, and while a region is closed those who come too
 * late empty the very place that they have filled, or find that it is empty; so no place that a
 * closer has seen empty stands for somebody who is inside.
 *
 * What a search finds may have changed by the time the region is entered; so its bounds, which do
 * not change while somebody is inside, are looked at again.
 */
#include "base/epoch.h"
#include "vmm/vmm_priv.h"

#define BARRED (NEOMM__REGION_CLOSED | NEOMM__REGION_DEAD)

/* ---- places ---- */

static inline struct neomm__region **places_of(const struct neomm *root, uint32_t cpu)
{
    return root->vmm->cpu[cpu].inside;
}

/* The place of a CPU that has the region, or NULL: that is free. */
static struct neomm__region **find_place(const struct neomm *root, uint32_t cpu,
                                         const struct neomm__region *region)
{
    struct neomm__region **place = places_of(root, cpu);
    for (unsigned i = 0; i < NEOMM__INSIDE; i++)
        if (neomm__load_total(&place[i]) == region)
            return &place[i];
    return NULL;
}

static bool empty_place(struct neomm__region **place, struct neomm__region *region)
{
    return neomm__cas_total(place, &region, NULL);
}

/* CPUs that have entered any of its regions are known to the map. */
static inline void note_visitor(struct neomm__region_map *map, uint32_t cpu)
{
    uint32_t *word = &map->visitors.word[cpu / 32], bit = (uint32_t)1 << cpu % 32;
    if (!(neomm__load_relaxed(word) & bit))
        (void)neomm__fetch_or_total(word, bit);
}

static inline bool is_visitor(const struct neomm__region_map *map, uint32_t cpu)
{
    return (neomm__load_total(&map->visitors.word[cpu / 32]) >> cpu % 32 & 1) != 0;
}

/* ---- entering ---- */

static bool enter_counted(struct neomm__region *region)
{
    uint32_t users = neomm__load_acquire(&region->users);
    while (!(users & BARRED))
        if (neomm__cas_total(&region->users, &users, users + 1))
            return true;
    return false;
}

static bool leave_counted(struct neomm__region *region)
{
    uint32_t users = neomm__load_acquire(&region->users);
    while (users & ~BARRED)
        if (neomm__cas_total(&region->users, &users, users - 1))
            return true;
    return false;
}

static bool leave_anywhere(const struct neomm *root, struct neomm__region *region)
{
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++) {
        struct neomm__region **place = find_place(root, cpu, region);
        if (place && empty_place(place, region))
            return true;
    }
    return false;
}

/* There is always one to be found, if not in the first round. */
static void leave_elsewhere(const struct neomm *root, struct neomm__region *region)
{
    while (!leave_counted(region) && !leave_anywhere(root, region))
        neomm__spin();
}

/* Those who wait for it look again. The region may be gone. */
static void wake_closers(struct neomm__region_map *map)
{
    if (neomm__load_total(&map->closers) == 0)
        return;
    (void)neomm__fetch_add(&map->exits, 1);
    neomm_port_wake(&map->exits, UINT32_MAX);
}

/* Interrupts are masked, and the region cannot be freed. */
static bool try_enter(struct neomm *root, struct neomm__region *region)
{
    uint32_t cpu = neomm_port_cpu()->index;
    struct neomm__region **place = find_place(root, cpu, NULL);
    if (!place)
        return enter_counted(region);
    note_visitor(region->map, cpu);
    (void)neomm__exchange_total(place, region);
    if (!(neomm__load_total(&region->users) & BARRED))
        return true;
    if (!empty_place(place, region))
        leave_elsewhere(root, region);
    wake_closers(region->map);
    return false;
}

static bool contains(const struct neomm__region *region, neomm_vaddr_t vaddr)
{
    return vaddr >= region->start && vaddr < region->end;
}

struct neomm__region *neomm__region_try_enter(struct neomm *root, struct neomm_space *space,
                                              neomm_vaddr_t vaddr)
{
    struct neomm__region_sight sight;
    neomm_irq_t irq = neomm__epoch_enter(root);
    bool entered = neomm__region_search(&space->map, vaddr, &sight) && sight.region &&
                   try_enter(root, sight.region);
    neomm__epoch_leave(root, irq);
    if (entered && contains(sight.region, vaddr))
        return sight.region;
    if (entered)
        neomm__region_exit(sight.region);
    return NULL;
}

/* With the space's lock the map stands still, and no region is closed. */
struct neomm__region *neomm__region_enter(struct neomm *root, struct neomm_space *space,
                                          neomm_vaddr_t vaddr)
{
    struct neomm__region *region = neomm__region_try_enter(root, space, vaddr);
    if (region)
        return region;
    neomm__mutex_lock(&space->lock);
    region = neomm__region_find(&space->map, vaddr);
    neomm_irq_t irq = neomm_port_irq_save();
    bool entered = region && try_enter(root, region);
    neomm_port_irq_restore(irq);
    neomm__mutex_unlock(&space->lock);
    return entered ? region : NULL;
}

void neomm__region_exit(struct neomm__region *region)
{
    struct neomm__region_map *map = region->map;
    neomm_irq_t irq = neomm_port_irq_save();
    struct neomm__region **place = find_place(map->root, neomm_port_cpu()->index, region);
    if (!place || !empty_place(place, region))
        leave_elsewhere(map->root, region);
    neomm_port_irq_restore(irq);
    wake_closers(map);
}

/* ---- keeping others out ---- */

bool neomm__region_is_entered(const struct neomm__region *region)
{
    const struct neomm__region_map *map = region->map;
    if (neomm__load_total(&region->users) & ~BARRED)
        return true;
    for (uint32_t cpu = 0; map->root && cpu < map->root->cpus; cpu++)
        if (is_visitor(map, cpu) && find_place(map->root, cpu, region))
            return true;
    return false;
}

void neomm__region_close(struct neomm__region *region)
{
    struct neomm__region_map *map = region->map;
    (void)neomm__fetch_or_total(&region->users, NEOMM__REGION_CLOSED);
    if (!neomm__region_is_entered(region))
        return;
    (void)neomm__fetch_add_total(&map->closers, 1);
    for (;;) {
        uint32_t exits = neomm__load_acquire(&map->exits);
        if (!neomm__region_is_entered(region))
            break;
        (void)neomm_port_wait(&map->exits, exits, UINT64_MAX);
    }
    (void)neomm__fetch_sub(&map->closers, 1);
}

void neomm__region_open(struct neomm__region *region)
{
    neomm__store_release(&region->users, 0);
}
