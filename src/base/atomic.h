/* Atomics: the one header through which the library shares words between CPUs.
 * SPDX-License-Identifier: MIT
 *
 * Orders are in the names; there are no bare fences, which thread sanitizers cannot see. Words
 * are machine words or narrower: 64-bit atomics on i386 would become library calls, except for
 * the compare-exchange at the end, which is one instruction there too (CMPXCHG8B).
 * NEOMM_ATOMIC_PLAIN gives analysers plain loads and stores to read.
 *
 * In the instrumented flavour another simulated CPU may run before each access that has an order:
 * read-modify-write, acquire and release. Relaxed accesses are no such place: what they see is
 * checked by an ordered access later, or does not matter.
 */
#ifndef NEOMM_BASE_ATOMIC_H
#define NEOMM_BASE_ATOMIC_H

#include "hook.h"

#include <neomm/port.h>

#ifndef NEOMM_ATOMIC_PLAIN

#define neomm__load_relaxed(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define neomm__load_acquire(p)     (NEOMM__YIELD(), __atomic_load_n(p, __ATOMIC_ACQUIRE))
#define neomm__store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define neomm__store_release(p, v) (NEOMM__YIELD(), __atomic_store_n(p, v, __ATOMIC_RELEASE))
/* Read-modify-write: all acquire and release. The old value comes back. */
#define neomm__fetch_add(p, v) (NEOMM__YIELD(), __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL))
#define neomm__fetch_sub(p, v) (NEOMM__YIELD(), __atomic_fetch_sub(p, v, __ATOMIC_ACQ_REL))
#define neomm__fetch_or(p, v)  (NEOMM__YIELD(), __atomic_fetch_or(p, v, __ATOMIC_ACQ_REL))
#define neomm__fetch_and(p, v) (NEOMM__YIELD(), __atomic_fetch_and(p, v, __ATOMIC_ACQ_REL))
#define neomm__exchange(p, v)  (NEOMM__YIELD(), __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL))
/* On failure *expected is what was there. */
#define neomm__cas(p, expected, desired)                                                           \
    (NEOMM__YIELD(),                                                                               \
     __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))

/* For two who each write a word and then look at the other's: all of these are in one order, and at
 * least one of the two sees what the other wrote. */
#define neomm__load_total(p)         (NEOMM__YIELD(), __atomic_load_n(p, __ATOMIC_SEQ_CST))
#define neomm__exchange_total(p, v)  (NEOMM__YIELD(), __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST))
#define neomm__fetch_or_total(p, v)  (NEOMM__YIELD(), __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST))
#define neomm__fetch_add_total(p, v) (NEOMM__YIELD(), __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST))
#define neomm__cas_total(p, expected, desired)                                                     \
    (NEOMM__YIELD(),                                                                               \
     __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))

#else

#define neomm__load_total(p)                   neomm__load_acquire(p)
#define neomm__exchange_total(p, v)            neomm__exchange(p, v)
#define neomm__fetch_or_total(p, v)            neomm__fetch_or(p, v)
#define neomm__fetch_add_total(p, v)           neomm__fetch_add(p, v)
#define neomm__cas_total(p, expected, desired) neomm__cas(p, expected, desired)
#define neomm__load_relaxed(p)                 (*(p))
#define neomm__load_acquire(p)                 (*(p))
#define neomm__store_relaxed(p, v)             ((void)(*(p) = (v)))
#define neomm__store_release(p, v)             ((void)(*(p) = (v)))
#define neomm__fetch_add(p, v)                 ((*(p) += (v)) - (v))
#define neomm__fetch_sub(p, v)                 ((*(p) -= (v)) + (v))
#define neomm__fetch_or(p, v)                  __atomic_fetch_or(p, v, __ATOMIC_RELAXED)
#define neomm__fetch_and(p, v)                 __atomic_fetch_and(p, v, __ATOMIC_RELAXED)
#define neomm__exchange(p, v)                  __atomic_exchange_n(p, v, __ATOMIC_RELAXED)
#define neomm__cas(p, expected, desired)                                                           \
    (*(p) == *(expected) ? (*(p) = (desired), true) : (*(expected) = *(p), false))

#endif

/* Words that are read without a lock and believed only after a version was looked at again, which
 * is the ordered access: in the order of the program, and no place to switch. */
#ifndef NEOMM_ATOMIC_PLAIN
#define neomm__peek(p)    __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define neomm__poke(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#else
#define neomm__peek(p)    (*(p))
#define neomm__poke(p, v) ((void)(*(p) = (v)))
#endif

/* Compare-exchange of an 8-byte aligned 64-bit word: the only 64-bit atomic, on i386 too. The
 * value that was there comes back; it was exchanged if that equals `expected`. */
static inline uint64_t neomm__cas64(uint64_t *p, uint64_t expected, uint64_t desired)
{
    NEOMM__YIELD();
    return __sync_val_compare_and_swap(p, expected, desired);
}

/* The compiler keeps accesses before and after apart, for code on the same CPU to see: an interrupt
 * handler, or a call through neomm_port_ipi. */
#define neomm__cpu_order() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* A store of 32 bits whose order against later loads is the matter of who calls this CPU through
 * neomm_port_ipi. It waits in the CPU's store buffer, and the simulator lets it wait there. */
#define neomm__store_late(p, v) NEOMM__STORE_LATE(p, v)

/* A pause in a spin: the hint to the CPU, and a place where the simulator has to switch. */
static inline void neomm__spin(void)
{
    NEOMM__SPIN();
    neomm_port_spin();
}

#endif
