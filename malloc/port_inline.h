/* The part of the port that the engine compiles inline (NEOMM_PORT_INLINE of port.h): a thread's
 * CPU is a word of thread-local storage, and there are no interrupts.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_MALLOC_PORT_INLINE_H
#define NEOMM_MALLOC_PORT_INLINE_H

#define NEOMM_PORT_INLINE_CPU
#define NEOMM_PORT_INLINE_IRQ
#define NEOMM_PORT_INLINE_SPIN

/* Never NULL: a thread that has no slot yet has one that lets nobody in. */
extern __thread struct neomm_cpu *process_cpu
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Gives the processor to other threads now and then: who is waited for may not be running. */
void process_spin(void) __attribute__((visibility("hidden")));

static inline struct neomm_cpu *neomm_port_cpu(void)
{
    return process_cpu;
}

/* A thread keeps its slot while it is in the engine (process_threads.c). */
static inline struct neomm_cpu *neomm_port_pin(void)
{
    return process_cpu;
}

static inline void neomm_port_unpin(void)
{
}

static inline neomm_irq_t neomm_port_irq_save(void)
{
    return 0;
}

static inline void neomm_port_irq_restore(neomm_irq_t state)
{
    (void)state;
}

static inline void neomm_port_spin(void)
{
    process_spin();
}

#endif
