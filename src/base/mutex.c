/* Sleeping locks: apart from the spinlocks, so that a kernel without tasks need not supply
 * neomm_port_wait and neomm_port_wake.
 * SPDX-License-Identifier: MIT */
#include "lock.h"

/* A mutex is the classic three-step futex lock (Drepper, "Futexes are tricky", 2011): the word
 * is 0 free, 1 held, 2 held and perhaps somebody sleeps. Mutexes follow the task, not the CPU,
 * so the order stack of the CPU does not know them. */
enum { FREE, HELD, CONTENDED };

bool neomm__mutex_try_lock(struct neomm__lock *lock)
{
    uint32_t expected = FREE;
    return neomm__cas(&lock->word, &expected, HELD);
}

void neomm__mutex_lock(struct neomm__lock *lock)
{
    neomm__lock_assert_none("lock: a mutex taken with a spinlock held");
    if (neomm__mutex_try_lock(lock))
        return;
    while (neomm__exchange(&lock->word, CONTENDED) != FREE)
        (void)neomm_port_wait(&lock->word, CONTENDED, UINT64_MAX);
}

void neomm__mutex_unlock(struct neomm__lock *lock)
{
    if (neomm__exchange(&lock->word, FREE) == CONTENDED)
        neomm_port_wake(&lock->word, 1);
    NEOMM__YIELD();
}
