/* Queues, sweeps and notes that the built-in replacement policies share.
 * SPDX-License-Identifier: MIT */
#include "policy.h"
#include "swap_priv.h"

/* ---- queues ---- */

/* A queue as a list of frames; changes go back by store. */
static struct neomm__frame_list load(const struct neomm_policy_queue *queue)
{
    return (struct neomm__frame_list){queue->head, queue->tail, queue->count};
}

static void store(struct neomm_policy_queue *queue, struct neomm__frame_list list)
{
    queue->head = list.head;
    queue->tail = list.tail;
    queue->count = list.count;
}

static void push(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue)
{
    struct neomm__frame_list list = load(&policy->queue[queue]);
    neomm__frame_list_push_tail(&policy->root->frames, &list, frame);
    store(&policy->queue[queue], list);
}

static void take(struct neomm_policy *policy, neomm_frame_t frame)
{
    struct neomm_policy_queue *queue = &policy->queue[neomm__policy_queue(policy, frame)];
    struct neomm__frame_list list = load(queue);
    neomm__frame_list_remove(&policy->root->frames, &list, frame);
    store(queue, list);
}

void neomm__policy_enter(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue)
{
    *neomm__policy_bits(policy, frame) = (uint8_t)queue;
    push(policy, frame, queue);
    policy->count++;
}

void neomm__policy_move(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue)
{
    uint8_t *bits = neomm__policy_bits(policy, frame);
    take(policy, frame);
    *bits = (uint8_t)((*bits & (NEOMM__POLICY_COUNT | NEOMM__POLICY_MARK)) | queue);
    push(policy, frame, queue);
}

void neomm__policy_leave(struct neomm_policy *policy, neomm_frame_t frame,
                         const struct neomm_swap_entry *slot)
{
    (void)slot;
    take(policy, frame);
    *neomm__policy_bits(policy, frame) = 0;
    policy->count--;
}

void neomm__policy_replace(struct neomm_policy *policy, neomm_frame_t from, neomm_frame_t to)
{
    const struct neomm__frames *frames = &policy->root->frames;
    struct neomm_policy_queue *queue = &policy->queue[neomm__policy_queue(policy, from)];
    struct neomm__frame *old = neomm__frame_at(frames, from), *now = neomm__frame_at(frames, to);
    now->policy = old->policy;
    now->previous = old->previous;
    now->next = old->next;
    *(old->previous ? &neomm__frame_at(frames, neomm_frame(old->previous))->next : &queue->head) =
        to.number;
    *(old->next ? &neomm__frame_at(frames, neomm_frame(old->next))->previous : &queue->tail) =
        to.number;
    old->policy = 0;
    old->previous = old->next = 0;
}

uint32_t neomm__policy_offer(struct neomm_policy *policy, unsigned queue, neomm_frame_t *out,
                             uint32_t max)
{
    uint32_t found = 0, pages = policy->queue[queue].count;
    for (uint32_t i = 0; i < pages; i++) {
        neomm_frame_t head = neomm_frame(policy->queue[queue].head);
        if (!neomm__policy_has(policy, head, NEOMM__POLICY_CONDEMNED))
            break;
        neomm__policy_move(policy, head, queue);
    }
    for (uint32_t number = policy->queue[queue].head; number != 0 && found < max;
         number = neomm__frame(policy->root, neomm_frame(number))->next)
        out[found++] = neomm_frame(number);
    return found;
}

enum neomm_verdict neomm__policy_condemn(struct neomm_policy *policy, neomm_frame_t frame)
{
    *neomm__policy_bits(policy, frame) |= NEOMM__POLICY_CONDEMNED;
    return NEOMM_EVICT;
}

void neomm__policy_enter_tail(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter(policy, frame, 0);
}

uint32_t neomm__policy_from_head(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    return neomm__policy_offer(policy, 0, out, max);
}

enum neomm_verdict neomm__policy_count_down(struct neomm_policy *policy, neomm_frame_t frame,
                                            unsigned queue, bool accessed)
{
    unsigned count = neomm__policy_count(policy, frame);
    if (!accessed && count == 0)
        return neomm__policy_condemn(policy, frame);
    if (!accessed)
        count--;
    else if (count < policy->root->config.policy_count)
        count++;
    neomm__policy_set_count(policy, frame, count);
    neomm__policy_move(policy, frame, queue);
    return NEOMM_KEEP;
}

uint32_t neomm__policy_share(const struct neomm_policy *policy, uint32_t percent)
{
    uint32_t rest, share = (uint32_t)neomm__divide((uint64_t)policy->count * percent, 100, &rest);
    return share == 0 ? 1 : share;
}

/* ---- sweeps ---- */

void neomm__policy_enter_swept(struct neomm_policy *policy, neomm_frame_t frame, unsigned queue)
{
    neomm__policy_enter(policy, frame, queue);
    neomm__policy_mark(policy, frame, policy->state[NEOMM__SWEEP_PARITY]);
    policy->clock++;
}

bool neomm__policy_sweep_due(const struct neomm_policy *policy)
{
    return !policy->state[NEOMM__SWEEP_ON] &&
           policy->clock - policy->state[NEOMM__SWEEP_LAST] >=
               neomm__policy_share(policy, policy->root->config.policy_tick);
}

void neomm__policy_sweep_begin(struct neomm_policy *policy)
{
    policy->state[NEOMM__SWEEP_ON] = 1;
    policy->state[NEOMM__SWEEP_PARITY] ^= 1;
    policy->state[NEOMM__SWEEP_LAST] = policy->clock;
}

static bool is_unswept(const struct neomm_policy *policy, neomm_frame_t frame)
{
    return policy->state[NEOMM__SWEEP_ON] && neomm__policy_has(policy, frame, NEOMM__POLICY_MARK) !=
                                                 (policy->state[NEOMM__SWEEP_PARITY] != 0);
}

/* Swept pages go to the tail of their new queue, so those not yet swept are at the head of theirs.
 */
uint32_t neomm__policy_sweep(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    for (unsigned i = 0; i < NEOMM_POLICY_QUEUES && policy->state[NEOMM__SWEEP_ON]; i++) {
        uint32_t found = 0, number = policy->queue[i].head;
        while (number != 0 && found < max && is_unswept(policy, neomm_frame(number))) {
            out[found++] = neomm_frame(number);
            number = neomm__frame(policy->root, neomm_frame(number))->next;
        }
        if (found != 0)
            return found;
    }
    policy->state[NEOMM__SWEEP_ON] = 0;
    return 0;
}

void neomm__policy_enter_ticked(struct neomm_policy *policy, neomm_frame_t frame)
{
    neomm__policy_enter_swept(policy, frame, 0);
}

uint32_t neomm__policy_tick(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max)
{
    if (neomm__policy_sweep_due(policy))
        neomm__policy_sweep_begin(policy);
    return neomm__policy_sweep(policy, out, max);
}

bool neomm__policy_sweep_meets(struct neomm_policy *policy, neomm_frame_t frame)
{
    bool unswept = is_unswept(policy, frame);
    if (unswept)
        neomm__policy_mark(policy, frame, policy->state[NEOMM__SWEEP_PARITY]);
    return unswept;
}

/* ---- pages that are gone ---- */

void neomm__policy_set_shadow(struct neomm_policy *policy, const struct neomm_swap_entry *slot,
                              uint32_t shadow)
{
    if (slot)
        neomm__swap_set_shadow(policy->root, *slot, shadow);
}

uint32_t neomm__policy_shadow(struct neomm_policy *policy, const struct neomm_swap_entry *slot)
{
    return neomm__swap_shadow(policy->root, *slot);
}
