/* Replacement policies by name.
 * SPDX-License-Identifier: MIT */
#include "policy.h"
#include "swap_priv.h"

void neomm__policy_builtin(struct neomm__swap *swap)
{
    swap->policy[0] = &neomm__policy_clock;
    swap->policy[1] = &neomm__policy_fifo;
    swap->policies = 2;
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

/* ---- what the built-in policies share ---- */

/* The policy's queue as a list of frames; changes go back by store. */
static struct neomm__frame_list load(const struct neomm_policy *policy)
{
    return (struct neomm__frame_list){policy->head, policy->tail, policy->count};
}

static void store(struct neomm_policy *policy, struct neomm__frame_list list)
{
    policy->head = list.head;
    policy->tail = list.tail;
    policy->count = list.count;
}

void neomm__policy_enter_tail(struct neomm_policy *policy, neomm_frame_t frame)
{
    struct neomm__frame_list list = load(policy);
    neomm__frame(policy->root, frame)->policy = 0;
    neomm__frame_list_push_tail(&policy->root->frames, &list, frame);
    store(policy, list);
}

void neomm__policy_leave(struct neomm_policy *policy, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot)
{
    struct neomm__frame_list list = load(policy);
    (void)slot;
    neomm__frame(policy->root, frame)->policy = 0;
    neomm__frame_list_remove(&policy->root->frames, &list, frame);
    store(policy, list);
}

void neomm__policy_pass(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_leave(policy, frame, NULL);
    neomm__policy_enter_tail(policy, frame);
}

uint32_t neomm__policy_from_head(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < policy->count; i++) {
        neomm_frame_t head = neomm_frame(policy->head);
        if (!(neomm__frame(policy->root, head)->policy & NEOMM__POLICY_CONDEMNED))
            break;
        neomm__policy_pass(policy, head);
    }
    for (uint32_t number = policy->head; number != 0 && found < max;
         number = neomm__frame(policy->root, neomm_frame(number))->next)
        out[found++] = neomm_frame(number);
    return found;
}

enum neomm_verdict neomm__policy_condemn(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__frame(policy->root, frame)->policy |= NEOMM__POLICY_CONDEMNED;
    return NEOMM_EVICT;
}

void neomm__policy_fsck(const struct neomm_policy *policy, struct neomm__report *report)
{
    uint32_t seen = 0, previous = 0, number = policy->head;
    if (policy->ops != &neomm__policy_clock && policy->ops != &neomm__policy_fifo)
        return;
    while (number != 0 && seen < policy->count) {
        const struct neomm__frame *frame = neomm__frame(policy->root, neomm_frame(number));
        if (!frame || frame->previous != previous) {
            neomm__report(report, "policy %s of domain %u: frame %#x behind %#x is badly linked",
                          policy->ops->name, policy->domain, number, previous);
            return;
        }
        previous = number;
        number = frame->next;
        seen++;
    }
    if (number != 0 || seen != policy->count || policy->tail != previous)
        neomm__report(report, "policy %s of domain %u: %u frames counted, %u%s linked, tail %#x",
                      policy->ops->name, policy->domain, policy->count, seen,
                      number ? " and more" : "", policy->tail);
}
