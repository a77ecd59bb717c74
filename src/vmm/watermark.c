/* Reclaim for the machine: by those who need memory, and in the background up to the watermarks.
 * SPDX-License-Identifier: MIT
 *
 * A reclaim goes through priorities from 12 to 0. At each, 1 / 2^priority of a domain's pages are
 * looked at, 32 at the least; what was used since it was tested last stays, and what needs no write
 * goes first while the priority is 10 and more. At 0 pages are taken whether they were used or not,
 * all of them several times, since policies may keep one for what it was used before. So one call
 * looks at about eight times the pages there are, and with 2^17 and fewer at 384 more.
 *
 *   free frames   ......|......|......|.........
 *                      min    low    high
 *                                <-----+        a zone below low: who waits is woken
 *                          +---------->         the background pass evicts, until all are at high
 *            <---+                              who finds no frame reclaims for himself
 */
#include "vmm/balance.h"
#include "vmm/evict.h"
#include "vmm/stall.h"

#include <neomm/pager.h>

#define PRIORITY    12u
#define CLEAN_FIRST 10u
/* Down to here the page cache gives alone while it is the cheaper one. */
#define CACHE_ALONE 2u
/* From here on spaces with domains of their own give pages for others, too. */
#define LIMITED 8u
/* How long a background pass that came to nothing is not repeated, ns. */
#define PAUSE 1000000000u

/* ---- domains ---- */

static bool is_enough(const struct neomm__scan *scan)
{
    return scan->freed >= scan->wanted || scan->scanned >= scan->most;
}

/* One after the other, from behind the one that gave last. */
static void scan_limited(struct neomm *root, struct neomm__scan *scan, unsigned priority)
{
    struct neomm__vmm *vmm = root->vmm;
    uint32_t index = neomm__load_relaxed(&vmm->limited_hand);
    for (uint32_t i = 0; i < NEOMM__SPACE_MAX && !is_enough(scan); i++) {
        index = index + 1 < NEOMM__SPACE_MAX ? index + 1 : 0;
        if (!neomm__load_relaxed(&vmm->space[index]))
            continue;
        struct neomm_space *space = neomm__space_hold_at(root, index);
        if (!space)
            continue;
        if (neomm__has_domain(space)) {
            neomm__scan_domain(root, &space->policy, scan,
                               neomm__scan_share(root, &space->policy, priority));
            neomm__store_relaxed(&vmm->limited_hand, index);
        }
        neomm__space_drop(space);
    }
}

/* How many of the next `pages` each of the two gives. */
static void take_turns(struct neomm *root, const uint32_t looks[2], uint32_t pages,
                       uint32_t turns[2])
{
    turns[0] = turns[1] = 0;
    for (uint32_t i = 0; i < pages; i++)
        turns[looks[0] == 0 ? 1 : looks[1] == 0 ? 0 : neomm__balance_turn(root)]++;
}

/* The page cache and anonymous memory give pages in turn, a batch of both at a time, as long as
 * there are looks left at their domains; the cache alone while it is the cheaper one. */
static void scan_in_turn(struct neomm *root, struct neomm__scan *scan, uint32_t looks[2])
{
    struct neomm_policy *const domain[] = {
        [NEOMM__COST_CACHE] = &root->vmm->cache, [NEOMM__COST_ANONYMOUS] = &root->vmm->global};
    const uint32_t wanted = scan->wanted;
    while (scan->freed < wanted && scan->scanned < scan->most && (looks[0] | looks[1]) != 0) {
        uint32_t left = wanted - scan->freed, turns[2];
        take_turns(root, looks, left < NEOMM_POLICY_BATCH ? left : NEOMM_POLICY_BATCH, turns);
        for (unsigned i = 0; i < 2; i++) {
            uint32_t freed = scan->freed, scanned = scan->scanned;
            if (turns[i] == 0)
                continue;
            scan->wanted = freed + turns[i];
            neomm__scan_domain(root, domain[i], scan, looks[i]);
            looks[i] = scan->freed != freed ? looks[i] - (scan->scanned - scanned) : 0;
        }
    }
    scan->wanted = wanted;
}

static uint32_t take_off(uint32_t looks, uint32_t *done)
{
    uint32_t off = looks < *done ? looks : *done;
    *done -= off;
    return looks - off;
}

/* One round at a priority, of which `done` looks are over. */
static void scan_all(struct neomm *root, struct neomm__scan *scan, unsigned priority, uint32_t done)
{
    struct neomm__vmm *vmm = root->vmm;
    uint32_t looks[2] = {0};
    scan->insist = priority == 0;
    scan->clean_first = priority >= CLEAN_FIRST;
    looks[NEOMM__COST_CACHE] = take_off(neomm__scan_share(root, &vmm->cache, priority), &done);
    if (priority <= CACHE_ALONE || !neomm__balance_is_cheap(root))
        looks[NEOMM__COST_ANONYMOUS] =
            take_off(neomm__scan_share(root, &vmm->global, priority), &done);
    scan_in_turn(root, scan, looks);
    if (priority <= LIMITED && !is_enough(scan))
        scan_limited(root, scan, priority);
}

/* ---- for who needs memory ---- */

static uint32_t reclaim(struct neomm *root, uint32_t frames, uint32_t zones)
{
    struct neomm__scan scan = {.zones = zones, .wanted = frames, .most = UINT32_MAX};
    unsigned priority = PRIORITY + 1;
    NEOMM__COUNT(root, RECLAIM);
    while (priority > 0 && !is_enough(&scan)) {
        scan.wait = --priority == 0; /* before memory is said to be out */
        scan_all(root, &scan, priority, 0);
    }
    neomm__count_add(root, NEOMM_COUNTER_SCAN_DIRECT, scan.scanned);
    neomm__count_add(root, NEOMM_COUNTER_FREE_DIRECT, scan.freed);
    if (!is_enough(&scan) && root->layer[NEOMM__LAYER_HEAP])
        scan.freed += neomm_heap_shrink(root);
    neomm__pressure_scanned(root, scan.scanned, scan.freed, priority == 0);
    return scan.freed;
}

uint32_t neomm__reclaim(struct neomm *root, uint32_t frames)
{
    return reclaim(root, frames, NEOMM__ALL_ZONES);
}

/* Pages that go together where more than one are wanted: writing them in one batch is cheaper, and
 * on a small machine a few are enough. */
static uint32_t batch_size(const struct neomm *root)
{
    uint64_t share = root->vmm->ram_pages / 64;
    return share == 0 ? 1 : share < NEOMM_POLICY_BATCH ? (uint32_t)share : NEOMM_POLICY_BATCH;
}

/* Only from zones that the allocation could have. The next ones will want frames, too. */
uint32_t neomm__reclaim_callback(void *context, uint32_t frames, neomm_flags_t flags)
{
    struct neomm *root = context;
    unsigned top = flags & NEOMM_DMA    ? NEOMM_ZONE_DMA
                   : flags & NEOMM_HIGH ? NEOMM_ZONE_HIGH
                                        : NEOMM_ZONE_NORMAL;
    if (frames < batch_size(root))
        frames = batch_size(root);
    neomm__stall_begin(root);
    uint32_t freed = reclaim(root, frames, ((uint32_t)2 << top) - 1);
    neomm__stall_end(root);
    return freed;
}

uint32_t neomm_cache_shrink(struct neomm *root, uint32_t frames)
{
    struct neomm_policy *cache = &root->vmm->cache;
    struct neomm__scan scan = {.zones = NEOMM__ALL_ZONES, .wanted = frames, .most = UINT32_MAX};
    for (unsigned round = 0; round < 4 && !is_enough(&scan); round++) {
        scan.insist = (round & 1) != 0;
        scan.clean_first = round < 2;
        neomm__scan_domain(root, cache, &scan, neomm__scan_share(root, cache, 0));
    }
    return scan.freed;
}

/* ---- in the background ---- */

static uint32_t zones_below(const struct neomm *root, enum neomm_watermark mark)
{
    uint32_t zones = 0;
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++)
        zones |= (uint32_t)(neomm_pmm_watermark(root, (enum neomm_zone)zone) < mark) << zone;
    return zones;
}

void neomm__low_callback(void *context)
{
    struct neomm *root = context;
    uint32_t *word = &root->vmm->low;
    if (neomm__load_relaxed(word) == 0 && zones_below(root, NEOMM_WATERMARK_LOW) != 0 &&
        neomm__exchange(word, 1) == 0)
        neomm_port_wake(word, 1);
}

neomm_status neomm_reclaim_wait(struct neomm *root, uint64_t timeout_ns)
{
    const uint32_t *word = root->vmm ? &root->vmm->low : NULL;
    if (!word)
        return NEOMM_E_NOENT;
    if (neomm__load_acquire(word) != 0)
        return NEOMM_OK;
    return neomm_port_wait(word, 0, timeout_ns);
}

/* Has a round seen what it may be about, however large the domains are together? */
static bool is_over(const struct neomm *root, const struct neomm__background *state)
{
    uint64_t most = (root->vmm->ram_pages >> state->priority) + NEOMM__SCAN_LEAST;
    return state->looked >= (state->priority == 0 ? 8 * most : most);
}

/* A round at the priority, or what the budget leaves of it, up to the first batch that goes; false:
 * there is no use in another. */
static bool background_round(struct neomm *root, struct neomm__scan *scan)
{
    struct neomm__background *state = &root->vmm->background;
    uint32_t freed = scan->freed, scanned = scan->scanned;
    scan->wanted = freed + batch_size(root);
    scan_all(root, scan, state->priority, state->looked);
    state->looked += scan->scanned - scanned;
    if (scan->freed == freed && is_enough(scan) && !is_over(root, state))
        return true;
    state->looked = 0;
    if (scan->freed != freed)
        return true;
    if (state->priority > 0) {
        state->priority--;
        return true;
    }
    state->priority = PRIORITY;
    state->pause_until = neomm_port_now() + PAUSE;
    return false;
}

static neomm_status background(struct neomm *root, struct neomm__scan *scan)
{
    struct neomm__background *state = &root->vmm->background;
    bool more = neomm_port_now() >= state->pause_until;
    neomm__store_release(&root->vmm->low, 0);
    for (;;) {
        scan->zones = zones_below(root, NEOMM_WATERMARK_HIGH);
        if (scan->zones == 0)
            break;
        if (!more)
            return NEOMM_E_NOENT;
        if (scan->scanned >= scan->most)
            return NEOMM_E_AGAIN;
        more = background_round(root, scan);
    }
    state->priority = PRIORITY;
    state->looked = 0;
    state->pause_until = 0;
    return NEOMM_OK;
}

neomm_status neomm_reclaim_background(struct neomm *root, uint32_t budget, uint32_t *freed)
{
    struct neomm__vmm *vmm = root->vmm;
    struct neomm__scan scan = {.most = budget};
    if (freed)
        *freed = 0;
    if (!vmm)
        return NEOMM_E_NOENT;
    if (neomm__exchange(&vmm->background.busy, 1) != 0)
        return NEOMM_E_BUSY;
    neomm_status status = background(root, &scan);
    neomm__store_release(&vmm->background.busy, 0);
    neomm__count_add(root, NEOMM_COUNTER_SCAN_BACKGROUND, scan.scanned);
    neomm__count_add(root, NEOMM_COUNTER_FREE_BACKGROUND, scan.freed);
    neomm__pressure_scanned(root, scan.scanned, scan.freed, false);
    neomm__pressure_look(root);
    if (freed)
        *freed = scan.freed;
    return status;
}
