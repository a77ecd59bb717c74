/* Spinlocks that mask interrupts, and locks to sleep on; order checked in the instrumented
 * flavour.
 * SPDX-License-Identifier: MIT
 *
 * The order is that of NEOMM_LOCK_CLASS_LIST: a lock is taken only while every lock held on this
 * CPU is of an earlier class. Spinlocks (TABLES and later) mask interrupts, so code under one
 * may be called from an interrupt handler. Mutexes (before TABLES) sleep through the port and
 * are never taken with a spinlock held or in an interrupt.
 */
#ifndef NEOMM_BASE_LOCK_H
#define NEOMM_BASE_LOCK_H

#include "atomic.h"

#include <neomm/port.h>

/* 16 bytes in either flavour. Zero it, then neomm__lock_init. */
struct neomm__lock {
    uint32_t word;       /* 0 free, 1 held */
    uint32_t lock_class; /* enum neomm_lock_class */
    uint32_t waiters;    /* of a mutex: tasks that sleep, or are about to */
    uint32_t reserved;
};

#define NEOMM__LOCK_INIT(CLASS)                                                                    \
    {                                                                                              \
        0, NEOMM_LOCK_CLASS_##CLASS, 0, 0                                                          \
    }

static inline void neomm__lock_init(struct neomm__lock *lock, enum neomm_lock_class lock_class)
{
    lock->word = 0;
    lock->lock_class = (uint32_t)lock_class;
    lock->waiters = 0;
    lock->reserved = 0;
}

/* Order bookkeeping, out of line; nothing in the production flavour. */
void neomm__lock_note_taken(struct neomm__lock *lock);
void neomm__lock_note_tried(struct neomm__lock *lock);
void neomm__lock_note_released(struct neomm__lock *lock);
/* Panics in the instrumented flavour when this CPU holds any lock: for places that may sleep or
 * call out. */
void neomm__lock_assert_none(const char *where);

/* Spins until the lock is ours, and masks interrupts. They are as before while it spins: who holds
 * the lock may wait for this CPU to serve a call (neomm_port_ipi). The state is for
 * neomm__unlock. */
static inline neomm_irq_t neomm__lock(struct neomm__lock *lock)
{
    neomm_irq_t irq = neomm_port_irq_save();
    while (neomm__exchange(&lock->word, 1) != 0) {
        neomm_port_irq_restore(irq);
        while (neomm__load_relaxed(&lock->word) != 0)
            neomm__spin();
        irq = neomm_port_irq_save();
    }
#if NEOMM_INSTRUMENTED
    neomm__lock_note_taken(lock);
#endif
    return irq;
}

/* Takes the lock if it is free. Who does not wait cannot be part of a deadlock: the order does not
 * matter. */
static inline bool neomm__try_lock(struct neomm__lock *lock, neomm_irq_t *irq)
{
    *irq = neomm_port_irq_save();
    if (neomm__exchange(&lock->word, 1) != 0) {
        neomm_port_irq_restore(*irq);
        return false;
    }
#if NEOMM_INSTRUMENTED
    neomm__lock_note_tried(lock);
#endif
    return true;
}

static inline void neomm__unlock(struct neomm__lock *lock, neomm_irq_t irq)
{
#if NEOMM_INSTRUMENTED
    neomm__lock_note_released(lock);
#endif
    neomm__store_release(&lock->word, 0);
    NEOMM__YIELD();
    neomm_port_irq_restore(irq);
}

/* Sleeping locks: neomm_port_wait while another task holds it. */
void neomm__mutex_lock(struct neomm__lock *lock);
bool neomm__mutex_try_lock(struct neomm__lock *lock);
void neomm__mutex_unlock(struct neomm__lock *lock);

#endif
