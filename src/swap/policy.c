/* Replacement policies: by name, switched, and checked.
 * SPDX-License-Identifier: MIT */
#include "policy.h"
#include "swap_priv.h"

#define ADDRESS(name) &neomm__policy_##name,
static const struct neomm_policy_ops *const builtin[] = {NEOMM__POLICY_LIST(ADDRESS)};
#undef ADDRESS

void neomm__policy_builtin(struct neomm__swap *swap)
{
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(builtin); i++)
        swap->policy[i] = builtin[i];
    swap->policies = NEOMM__COUNT_OF(builtin);
}

static bool same_name(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

const struct neomm_policy_ops *neomm_policy_at(struct neomm *root, uint32_t index)
{
    if (!root->swap || index >= neomm__load_acquire(&root->swap->policies))
        return NULL;
    return root->swap->policy[index];
}

const struct neomm_policy_ops *neomm_policy_find(struct neomm *root, const char *name)
{
    const struct neomm_policy_ops *ops;
    for (uint32_t i = 0; name && (ops = neomm_policy_at(root, i)) != NULL; i++)
        if (same_name(ops->name, name))
            return ops;
    return NULL;
}

neomm_status neomm_policy_register(struct neomm *root, const struct neomm_policy_ops *ops)
{
    struct neomm__swap *swap = root->swap;
    neomm_status status = NEOMM_OK;
    if (!swap)
        return NEOMM_E_NOENT;
    neomm_irq_t irq = neomm__lock(&swap->lock);
    if (neomm_policy_find(root, ops->name))
        status = NEOMM_E_EXISTS;
    else if (swap->policies == NEOMM__SWAP_POLICIES)
        status = NEOMM_E_NOSPACE;
    else {
        swap->policy[swap->policies] = ops;
        neomm__store_release(&swap->policies, swap->policies + 1);
    }
    neomm__unlock(&swap->lock, irq);
    return status;
}

void neomm_policy_init(struct neomm_policy *policy, struct neomm *root,
                       const struct neomm_policy_ops *ops, uint32_t domain)
{
    memset(policy, 0, sizeof(*policy));
    policy->ops = ops;
    policy->root = root;
    policy->domain = domain;
}

void neomm_policy_switch(struct neomm_policy *policy, const struct neomm_policy_ops *ops)
{
    neomm_frame_t frame[NEOMM_POLICY_BATCH];
    struct neomm_policy next;
    neomm_policy_init(&next, policy->root, ops, policy->domain);
    next.clock = policy->clock;
    while (policy->count != 0) {
        uint32_t found = policy->ops->candidates(policy, frame, NEOMM_POLICY_BATCH);
        NEOMM__ASSERT(found != 0);
        for (uint32_t i = 0; i < found; i++) {
            policy->ops->leave(policy, frame[i], NULL);
            ops->enter(&next, frame[i]);
        }
    }
    *policy = next;
}

/* ---- the check ---- */

static bool is_builtin(const struct neomm_policy *policy)
{
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(builtin); i++)
        if (policy->ops == builtin[i])
            return true;
    return false;
}

/* Frames linked in a queue. */
static uint32_t check_queue(const struct neomm_policy *policy, unsigned index,
                            struct neomm__report *report)
{
    const struct neomm_policy_queue *queue = &policy->queue[index];
    uint32_t seen = 0, previous = 0, number = queue->head;
    while (number != 0 && seen < queue->count) {
        const struct neomm__frame *frame = neomm__frame(policy->root, neomm_frame(number));
        if (!frame || frame->previous != previous ||
            (frame->policy & NEOMM__POLICY_QUEUE) != index) {
            neomm__report(report, "policy %s of domain %u: frame %#x behind %#x of queue %u is %s",
                          policy->ops->name, policy->domain, number, previous, index,
                          !frame ? "no frame" : "badly linked");
            return seen;
        }
        previous = number;
        number = frame->next;
        seen++;
    }
    if (number != 0 || seen != queue->count || queue->tail != previous)
        neomm__report(report,
                      "policy %s of domain %u: %u frames in queue %u, %u%s linked, tail %#x",
                      policy->ops->name, policy->domain, queue->count, index, seen,
                      number ? " and more" : "", queue->tail);
    return seen;
}

void neomm__policy_fsck(const struct neomm_policy *policy, struct neomm__report *report)
{
    uint32_t seen = 0;
    if (!is_builtin(policy))
        return;
    for (unsigned i = 0; i < NEOMM_POLICY_QUEUES; i++)
        seen += check_queue(policy, i, report);
    if (seen != policy->count)
        neomm__report(report, "policy %s of domain %u: %u frames counted, %u in queues",
                      policy->ops->name, policy->domain, policy->count, seen);
}
