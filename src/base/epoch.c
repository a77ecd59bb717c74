/* Epochs.
 * SPDX-License-Identifier: MIT */
#include "epoch.h"

neomm_irq_t neomm__epoch_enter(struct neomm *root)
{
    neomm_irq_t irq = neomm_port_irq_save();
    neomm__epoch_begin(root, neomm__cpu(root));
    return irq;
}

void neomm__epoch_leave(struct neomm *root, neomm_irq_t irq)
{
    neomm__epoch_end(neomm__cpu(root));
    neomm_port_irq_restore(irq);
}

uint32_t neomm__epoch_advance(struct neomm *root)
{
    NEOMM__YIELD();
    uint32_t old = __atomic_fetch_add(&root->epoch, 1, __ATOMIC_SEQ_CST);
    if (old == UINT32_MAX)
        (void)neomm__fetch_add(&root->epoch, 1); /* 0 means outside */
    return old;
}

static inline bool has_passed(const struct neomm *root, uint32_t cpu, uint32_t old)
{
    uint32_t seen = __atomic_load_n(&root->cpu[cpu].epoch, __ATOMIC_SEQ_CST);
    return seen == 0 || (int32_t)(seen - old) > 0;
}

bool neomm__epoch_passed(const struct neomm *root, uint32_t old)
{
    for (uint32_t i = 0; i < root->cpus; i++)
        if (!has_passed(root, i, old))
            return false;
    return true;
}

void neomm__epoch_synchronise(struct neomm *root)
{
    uint32_t old = neomm__epoch_advance(root);
    for (uint32_t i = 0; i < root->cpus; i++)
        while (!has_passed(root, i, old))
            neomm__spin();
}
