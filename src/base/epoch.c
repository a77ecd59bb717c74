/* Epochs.
 * SPDX-License-Identifier: MIT */
#include "epoch.h"

neomm_irq_t neomm__epoch_enter(struct neomm *root)
{
    neomm_irq_t irq = neomm_port_irq_save();
    struct neomm__cpu_state *cpu = neomm__cpu(root);
    /* Sequentially consistent, and an exchange rather than a store: what the walk reads must not
     * be read before the remover can see that we are in. */
    NEOMM__YIELD();
    if (cpu->epoch_depth++ == 0)
        (void)__atomic_exchange_n(&cpu->epoch, neomm__load_acquire(&root->epoch), __ATOMIC_SEQ_CST);
    return irq;
}

void neomm__epoch_leave(struct neomm *root, neomm_irq_t irq)
{
    struct neomm__cpu_state *cpu = neomm__cpu(root);
    if (--cpu->epoch_depth == 0)
        neomm__store_release(&cpu->epoch, 0);
    neomm_port_irq_restore(irq);
}

void neomm__epoch_synchronise(struct neomm *root)
{
    NEOMM__YIELD();
    uint32_t old = __atomic_fetch_add(&root->epoch, 1, __ATOMIC_SEQ_CST);
    if (old == UINT32_MAX)
        (void)neomm__fetch_add(&root->epoch, 1); /* 0 means outside */
    for (uint32_t i = 0; i < root->cpus; i++) {
        uint32_t seen;
        while ((seen = __atomic_load_n(&root->cpu[i].epoch, __ATOMIC_SEQ_CST)) != 0 &&
               (int32_t)(seen - old) <= 0)
            neomm__spin();
    }
}
