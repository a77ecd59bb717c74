/* New pages on their way into the global domain.
 * SPDX-License-Identifier: MIT
 *
 * A first touch would need the one lock of all domains for a single entry at the tail of a queue.
 * So each CPU keeps its new pages in a list of its own, and they enter the domain together:
 *
 *   CPU 0   | 812 | 813 | 814 |  .  |  .  | ...      .: free, 0
 *                               ^ next: filled by this CPU, round and round; the oldest is here or
 *                                 behind the free ones
 *
 * A place of the list is filled by its CPU alone, with interrupts masked, and only while it is
 * free; it is emptied by whoever has the lock of the domains. So neither needs more than a load and
 * a store. A page in a list has a leaf, no NEOMM__FRAME_POLICY, and cannot go: who takes its last
 * leaf away lets the lists enter first (neomm__newcomers_find). Who asks how many pages a domain
 * has, or for one in particular, does so, too; so nobody sees that pages came late.
 */
#include "vmm/vmm_priv.h"

/* With the lock of the domains. */
static void enter_list(struct neomm *root, struct neomm__newcomers *list)
{
    struct neomm_policy *global = &root->vmm->global;
    uint32_t at = neomm__load_relaxed(&list->next);
    for (unsigned i = 0; i < NEOMM__NEWCOMERS; i++) {
        neomm_frame_t frame = neomm_frame(neomm__load_acquire(&list->frame[at]));
        if (!neomm_frame_is_nil(frame)) {
            neomm__store_release(&list->frame[at], 0);
            neomm__frame_set(neomm__frame(root, frame), NEOMM__FRAME_POLICY);
            global->ops->enter(global, frame);
        }
        at = at + 1 < NEOMM__NEWCOMERS ? at + 1 : 0;
    }
}

static bool is_free(const struct neomm__newcomers *list, uint32_t at)
{
    return neomm__load_acquire(&list->frame[at]) == 0;
}

void neomm__newcomers_add(struct neomm *root, uint32_t cpu, neomm_frame_t frame)
{
    struct neomm__newcomers *list = &root->vmm->cpu[cpu].newcomers;
    uint32_t at = list->next;
    if (!is_free(list, at)) {
        neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
        enter_list(root, list);
        neomm__unlock(&root->vmm->policy_lock, irq);
    }
    neomm__store_relaxed(&list->next, at + 1 < NEOMM__NEWCOMERS ? at + 1 : 0);
    neomm__store_release(&list->frame[at], frame.number);
}

void neomm__newcomers_enter(struct neomm *root)
{
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        enter_list(root, &root->vmm->cpu[cpu].newcomers);
}

void neomm__newcomers_find(struct neomm *root, const struct neomm__frame *entry)
{
    if (!neomm__frame_has(entry, NEOMM__FRAME_POLICY))
        enter_list(root, &root->vmm->cpu[neomm_port_cpu()->index].newcomers);
    if (!neomm__frame_has(entry, NEOMM__FRAME_POLICY))
        neomm__newcomers_enter(root);
    NEOMM__ASSERT(neomm__frame_has(entry, NEOMM__FRAME_POLICY));
}

void neomm__newcomers_flush(struct neomm *root)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm__newcomers_enter(root);
    neomm__unlock(&root->vmm->policy_lock, irq);
}
