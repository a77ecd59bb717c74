/* Load control: fewer processes at a time, where all of them do not fit.
 * SPDX-License-Identifier: MIT
 *
 * Thrashing is that pages come back soon after they have gone: of the pages that left the domain of
 * all spaces since the last look, at least half as many came back, after no more than four times as
 * many evictions as it has pages (what streams through more memory than that gains nothing by
 * being alone). No policy helps then, since what is missing is memory. So one process does
 * not run for a while (P. J. Denning, "Thrashing: its causes and prevention", AFIPS FJCC 1968), the
 * others have its memory, and the next time another one's turn has come.
 *
 * A space with a resident limit of its own takes nothing from others, and is left alone.
 */
#include "vmm/evict.h"

/* Pages that must have left since the last look, at least: a quarter of the domain, and so many. */
#define LEAST 64u

/* ---- one space ---- */

static void tell(struct neomm *root, const struct neomm_space *space, bool suspended)
{
    const struct neomm__load *load = &root->vmm->load;
    if (load->tell)
        load->tell(load->context, space->index, suspended);
}

static void suspend(struct neomm *root, struct neomm_space *space, uint64_t now)
{
    struct neomm__load *load = &root->vmm->load;
    space->load.since = now;
    space->load.turn = ++load->turn;
    neomm__store_release(&space->suspended, 1);
    (void)neomm__fetch_add(&load->suspended, 1);
    neomm__bump(&space->suspensions);
    tell(root, space, true);
    (void)neomm_space_swap_out(root, space);
}

static void resume(struct neomm *root, struct neomm_space *space)
{
    neomm__store_release(&space->suspended, 0);
    (void)neomm__fetch_sub(&root->vmm->load.suspended, 1);
    tell(root, space, false);
}

/* Its slice is over, or there is room for what it had without taking from others. */
static bool may_run(const struct neomm *root, const struct neomm_space *space, uint64_t now,
                    uint64_t slice)
{
    uint64_t room = neomm_pmm_free_frames(root), reserve = root->vmm->ram_pages / 16;
    return now - space->load.since >= slice ||
           room >= reserve + neomm__load_relaxed(&space->away.pages);
}

/* ---- all of them ---- */

struct look {
    struct neomm *root;
    uint64_t now, slice;
    struct neomm_space *victim; /* held */
    size_t refaults;            /* the victim's */
    uint32_t thrashing;         /* spaces, the victim included */
};

static bool is_before(const struct look *look, const struct neomm_space *space, size_t refaults)
{
    const struct neomm_space *victim = look->victim;
    return !victim || space->load.turn < victim->load.turn ||
           (space->load.turn == victim->load.turn && refaults > look->refaults);
}

/* Is it among those that thrash, and the one whose turn it is? The hold goes over then. */
static bool consider(struct look *look, struct neomm_space *space)
{
    size_t all = neomm__load_relaxed(&space->load.refaults);
    size_t refaults = all - space->load.seen;
    space->load.seen = all;
    if (refaults == 0 || neomm__has_domain(space) || neomm__load_acquire(&space->suspended) != 0 ||
        neomm__is_victim(space))
        return false;
    look->thrashing++;
    if (!is_before(look, space, refaults))
        return false;
    if (look->victim)
        neomm__space_drop(look->victim);
    look->victim = space;
    look->refaults = refaults;
    return true;
}

static void visit(struct look *look, void (*each)(struct look *look, struct neomm_space *space))
{
    for (uint32_t index = 1; index < NEOMM__SPACE_MAX; index++) {
        struct neomm_space *space = neomm__load_relaxed(&look->root->vmm->space[index])
                                        ? neomm__space_hold_at(look->root, index)
                                        : NULL;
        if (space)
            each(look, space);
    }
}

static void visit_suspended(struct look *look, struct neomm_space *space)
{
    if (neomm__load_acquire(&space->suspended) != 0 &&
        may_run(look->root, space, look->now, look->slice))
        resume(look->root, space);
    neomm__space_drop(space);
}

static void visit_running(struct look *look, struct neomm_space *space)
{
    if (!consider(look, space))
        neomm__space_drop(space);
}

/* Have pages come back as fast as they went, since enough of them have gone? The counting begins
 * anew then. */
static bool is_thrashing(struct neomm *root, bool *enough)
{
    struct neomm__load *load = &root->vmm->load;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    uint32_t evictions = root->vmm->global.evictions, pages = root->vmm->global.count;
    neomm__unlock(&root->vmm->policy_lock, irq);
    size_t refaults = neomm__load_relaxed(&load->refaults);
    uint32_t gone = evictions - load->evictions;
    size_t back = refaults - load->seen;
    *enough = gone >= LEAST && gone >= pages / 4;
    if (!*enough)
        return false;
    load->evictions = evictions;
    load->seen = refaults;
    return back >= gone / 2;
}

static void control(struct neomm *root, uint64_t slice)
{
    struct look look = {.root = root, .now = neomm_port_now(), .slice = slice};
    bool enough;
    if (neomm__load_acquire(&root->vmm->load.suspended) != 0)
        visit(&look, visit_suspended);
    bool thrashing = is_thrashing(root, &enough);
    if (!enough)
        return;
    visit(&look, visit_running);
    if (!look.victim)
        return;
    if (thrashing && look.thrashing > 1)
        suspend(root, look.victim, look.now);
    neomm__space_drop(look.victim);
}

uint32_t neomm_load_control(struct neomm *root, uint64_t slice)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!vmm)
        return 0;
    if (neomm__exchange(&vmm->load.busy, 1) == 0) {
        control(root, slice);
        neomm__store_release(&vmm->load.busy, 0);
    }
    return neomm__load_acquire(&vmm->load.suspended);
}

void neomm_load_control_tell(struct neomm *root, neomm_suspend_fn *tell_of, void *context)
{
    if (!root->vmm)
        return;
    root->vmm->load.tell = tell_of;
    root->vmm->load.context = context;
}
