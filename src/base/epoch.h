/* Epochs: how a structure that others may be walking without a lock is freed.
 * SPDX-License-Identifier: MIT
 *
 * A walker enters and leaves on its CPU and does not sleep in between. A remover unlinks first,
 * then waits for a grace period (neomm__epoch_synchronise): every CPU has left the walk that it
 * was in. A CPU outside any walk, an idle one too, counts as passed.
 *
 *   root->epoch            E      E+1
 *   CPU 0      enter(E) ...... leave
 *   CPU 1      outside: 0 -----------------
 *   remover    unlink, epoch E -> E+1, wait until no CPU is in an epoch <= E, free
 */
#ifndef NEOMM_BASE_EPOCH_H
#define NEOMM_BASE_EPOCH_H

#include "root.h"

/* Interrupts are masked from enter to leave, so the walk stays on its CPU; nests. */
neomm_irq_t neomm__epoch_enter(struct neomm *root);
void neomm__epoch_leave(struct neomm *root, neomm_irq_t irq);

/* The same where interrupts are masked already; `cpu` is this one's state. */
static inline void neomm__epoch_begin(struct neomm *root, struct neomm__cpu_state *cpu)
{
    /* Sequentially consistent, and an exchange rather than a store: what the walk reads must not
     * be read before the remover can see that we are in. */
    NEOMM__YIELD();
    if (cpu->epoch_depth++ == 0)
        (void)__atomic_exchange_n(&cpu->epoch, neomm__load_acquire(&root->epoch), __ATOMIC_SEQ_CST);
}

static inline void neomm__epoch_end(struct neomm__cpu_state *cpu)
{
    if (--cpu->epoch_depth == 0)
        __atomic_store_n(&cpu->epoch, 0, __ATOMIC_RELEASE);
}

/* Begins a new epoch: what was unlinked before may be freed once neomm__epoch_passed says so of the
 * number that comes back. Waits for nobody. */
uint32_t neomm__epoch_advance(struct neomm *root);
/* Is every walk over that had begun when neomm__epoch_advance returned `old`? Cost: CPUs. */
bool neomm__epoch_passed(const struct neomm *root, uint32_t old);

/* Returns when every walk that had begun before the call is over. Not inside a walk, and with no
 * lock that a walker may want. */
void neomm__epoch_synchronise(struct neomm *root);

#endif
