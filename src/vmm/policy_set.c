/* Changing the replacement policy of a domain while it is in use.
 * SPDX-License-Identifier: MIT
 *
 * A domain may have millions of frames, and its lock masks interrupts. So they move from the old
 * policy's instance to the new one's in parts, with the lock given back in between:
 *
 *   begin  the domain goes by `moving`, which hands each call to the instance that has the frame
 *   parts  32 frames, best victim first, leave the one and enter the other
 *   end    the domain goes by the new policy
 *   clean  the marks of those that moved are taken away, without the lock
 *
 * What enters meanwhile enters the new instance. What goes is taken from the old one while it has
 * any, but for a look at the new one after each page that stayed: so a few that cannot go do not
 * hide those that can. One switch at a time.
 */
#include "vmm/vmm_priv.h"

static struct neomm_policy *holder_of(struct neomm_policy *policy, neomm_frame_t frame)
{
    struct neomm__policy_move *move = policy->root->vmm->move;
    const struct neomm__frame *entry = neomm__frame(policy->root, frame);
    return neomm__load_relaxed(&entry->mappings) & NEOMM__RMAP_MOVED ? &move->to : &move->from;
}

static void mark(struct neomm_policy *policy, neomm_frame_t frame, bool moved)
{
    struct neomm__frame *entry = neomm__frame(policy->root, frame);
    if (moved)
        (void)neomm__fetch_or(&entry->mappings, NEOMM__RMAP_MOVED);
    else
        (void)neomm__fetch_and(&entry->mappings, ~NEOMM__RMAP_MOVED);
}

static void recount(struct neomm_policy *policy)
{
    const struct neomm__policy_move *move = policy->root->vmm->move;
    policy->count = move->from.count + move->to.count;
}

/* ---- a policy that is two ---- */

static void moving_enter(struct neomm_policy *policy, neomm_frame_t frame)
{
    struct neomm_policy *to = &policy->root->vmm->move->to;
    mark(policy, frame, true);
    to->ops->enter(to, frame);
    recount(policy);
}

static uint32_t moving_candidates(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    struct neomm__policy_move *move = policy->root->vmm->move;
    bool old = move->from.count != 0 && (!move->other || move->to.count == 0);
    struct neomm_policy *holder = old ? &move->from : &move->to;
    return holder->ops->candidates(holder, out, max);
}

static enum neomm_verdict moving_tested(struct neomm_policy *policy, neomm_frame_t frame,
                                        bool accessed, bool dirty)
{
    struct neomm__policy_move *move = policy->root->vmm->move;
    struct neomm_policy *holder = holder_of(policy, frame);
    enum neomm_verdict verdict = holder->ops->tested(holder, frame, accessed, dirty);
    move->other = verdict == NEOMM_KEEP && holder == &move->from;
    return verdict;
}

static void moving_leave(struct neomm_policy *policy, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot)
{
    struct neomm_policy *holder = holder_of(policy, frame);
    holder->ops->leave(holder, frame, slot);
    mark(policy, frame, false);
    recount(policy);
}

static void moving_refault(struct neomm_policy *policy, const struct neomm_swap_entry *slot)
{
    struct neomm_policy *to = &policy->root->vmm->move->to;
    if (to->ops->refault)
        to->ops->refault(to, slot);
}

/* (without `replace`: what goes to another frame leaves and enters) */
static const struct neomm_policy_ops moving = {
    .name = "moving",
    .enter = moving_enter,
    .candidates = moving_candidates,
    .tested = moving_tested,
    .leave = moving_leave,
    .refault = moving_refault,
};

/* ---- the switch ---- */

static void begin(struct neomm_policy *policy, struct neomm__policy_move *move,
                  const struct neomm_policy_ops *ops)
{
    move->other = false;
    move->from = *policy;
    neomm_policy_init(&move->to, policy->root, ops, policy->domain);
    move->to.clock = policy->clock;
    policy->ops = &moving;
}

/* False: none is left. */
static bool step(struct neomm_policy *policy, struct neomm__policy_move *move)
{
    neomm_frame_t frame[NEOMM_POLICY_BATCH];
    struct neomm_policy *from = &move->from;
    uint32_t found = from->count != 0 ? from->ops->candidates(from, frame, NEOMM_POLICY_BATCH) : 0;
    NEOMM__ASSERT(found != 0 || from->count == 0);
    for (uint32_t i = 0; i < found; i++) {
        moving_leave(policy, frame[i], NULL);
        moving_enter(policy, frame[i]);
    }
    return found != 0;
}

static void end(struct neomm_policy *policy, const struct neomm__policy_move *move)
{
    uint32_t evictions = policy->evictions;
    *policy = move->to;
    policy->evictions = evictions;
}

/* Frames that became free have lost the mark, so it is a page's where it is found. */
static void clean(struct neomm *root)
{
    uint64_t frames = (uint64_t)root->frames.sections << NEOMM__SECTION_SHIFT;
    for (uint64_t number = 0; number < frames; number++) {
        struct neomm__frame *entry = neomm__frame(root, neomm_frame((uint32_t)number));
        if (!entry)
            number |= NEOMM__SECTION_FRAMES - 1;
        else if (neomm__load_relaxed(&entry->mappings) & NEOMM__RMAP_MOVED)
            (void)neomm__fetch_and(&entry->mappings, ~NEOMM__RMAP_MOVED);
    }
}

static void change(struct neomm *root, struct neomm_policy *policy, struct neomm__policy_move *move,
                   const struct neomm_policy_ops *ops)
{
    struct neomm__lock *lock = &root->vmm->policy_lock;
    neomm_irq_t irq = neomm__lock(lock);
    root->vmm->move = move;
    begin(policy, move, ops);
    while (step(policy, move)) {
        neomm__unlock(lock, irq);
        irq = neomm__lock(lock);
    }
    end(policy, move);
    root->vmm->move = NULL;
    neomm__unlock(lock, irq);
    clean(root);
}

static neomm_status change_alone(struct neomm *root, struct neomm_policy *policy,
                                 const struct neomm_policy_ops *ops)
{
    struct neomm__vmm *vmm = root->vmm;
    if (neomm__exchange(&vmm->policy_changes, 1) != 0)
        return NEOMM_E_BUSY;
    struct neomm__policy_move *move =
        NEOMM__FAULT(VMM_POLICY) ? NULL : neomm_kzalloc(root, sizeof(*move), NEOMM_NORECLAIM);
    if (move) {
        if (policy == &vmm->global) {
            change(root, &vmm->cache, move, ops);
            vmm->policy = ops;
        }
        change(root, policy, move, ops);
        (void)neomm_kfree(root, move);
    }
    neomm__store_release(&vmm->policy_changes, 0);
    return move ? NEOMM_OK : NEOMM_E_NOMEM;
}

neomm_status neomm_vmm_set_policy(struct neomm *root, const char *name)
{
    const struct neomm_policy_ops *ops = neomm_policy_find(root, name);
    if (!root->vmm || !ops)
        return NEOMM_E_NOENT;
    return change_alone(root, &root->vmm->global, ops);
}

neomm_status neomm_space_set_policy(struct neomm *root, struct neomm_space *space, const char *name)
{
    const struct neomm_policy_ops *ops = neomm_policy_find(root, name);
    if (!ops)
        return NEOMM_E_NOENT;
    return neomm__has_domain(space) ? change_alone(root, &space->policy, ops) : NEOMM_E_UNSUPPORTED;
}

const char *neomm_vmm_policy(struct neomm *root, struct neomm_space *space)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    const struct neomm_policy *policy =
        space ? neomm__space_policy(root, space) : &root->vmm->global;
    const char *name = policy->ops == &moving ? root->vmm->move->to.ops->name : policy->ops->name;
    neomm__unlock(&root->vmm->policy_lock, irq);
    return name;
}
