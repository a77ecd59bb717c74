/* The port: what a kernel must supply. Fourteen functions, in the order of the stage that needs
 * them; a kernel that stops at a stage supplies those up to it and nothing more.
 * SPDX-License-Identifier: MIT
 *
 *   stage 1  frames, paging, heap on one CPU     panic, log, cpu, pin, unpin, irq_save, irq_restore
 *   stage 2  several CPUs                        ipi
 *   stage 3  spaces, swap                        now, entropy
 *   stage 4  sleeping in faults and swap         task, wait, wake
 *   stage 5  running out of memory gracefully    oom
 */
#ifndef NEOMM_PORT_H
#define NEOMM_PORT_H

#include <neomm/types.h>

/* A CPU as the library sees it. The kernel keeps one in each CPU's own area, zeroed, sets
 * `index` and `root`, and returns it from neomm_port_cpu. The rest belongs to the library. */
struct neomm_cpu {
    uint32_t index;         /* 0 to cpus - 1 */
    struct neomm *root;     /* the instance that compat.h's calls act on */
    uint32_t lock_depth;    /* locks held now, instrumented flavour */
    uint8_t lock_class[28]; /* their classes, in order of taking */
    uintptr_t reserved[4];
};

enum neomm_log_level { NEOMM_LOG_ERROR, NEOMM_LOG_WARNING, NEOMM_LOG_INFO, NEOMM_LOG_DEBUG };

/* What irq_save returned, for irq_restore alone to understand. */
typedef unsigned long neomm_irq_t;

/* A kernel that compiles the library itself may have some of the port inline, which saves calls in
 * each kmalloc and kfree: it says so with -DNEOMM_PORT_INLINE='"its_header.h"', the same for all
 * files. For each of these groups that the header defines as static inline functions, all of the
 * group, it defines the macro as well:
 *
 *   NEOMM_PORT_INLINE_CPU    neomm_port_cpu, neomm_port_pin, neomm_port_unpin
 *   NEOMM_PORT_INLINE_IRQ    neomm_port_irq_save, neomm_port_irq_restore
 *   NEOMM_PORT_INLINE_SPIN   neomm_port_spin: what a CPU does in a loop that waits for another CPU;
 *                            on bare metal the pause that stands here without it, in a guest or a
 *                            process giving up the CPU to who is waited for
 *
 * It must compile wherever this header does. */
#ifdef NEOMM_PORT_INLINE
#include NEOMM_PORT_INLINE
#endif

#ifndef NEOMM_PORT_INLINE_SPIN
static inline void neomm_port_spin(void)
{
    __builtin_ia32_pause();
}
#endif

NEOMM_EXTERN_C_BEGIN

/* ---- stage 1 ---- */

/* An invariant of the library is broken: memory is no longer trustworthy. Prints `text`
 * (NUL-terminated) and stops. Any context, interrupts in any state. Does not return. */
NEOMM_NORETURN void neomm_port_panic(const char *text);

/* Prints one line of `length` bytes without a newline. Any context but NMI; must not allocate
 * from the library and must not sleep. */
void neomm_port_log(enum neomm_log_level level, const char *text, size_t length);

#ifndef NEOMM_PORT_INLINE_CPU
/* The structure of the CPU that runs this code. Called with preemption possible only where the
 * answer may be stale; the library masks interrupts before it relies on it. */
struct neomm_cpu *neomm_port_cpu(void);

/* The same, and the caller stays on that CPU until unpin: no preemption, interrupts as they are.
 * Nests; the library does not sleep in between. A kernel that does not preempt kernel code, or has
 * one CPU, returns neomm_port_cpu() and does nothing in unpin. Any context. */
struct neomm_cpu *neomm_port_pin(void);
void neomm_port_unpin(void);
#endif

/* Masks interrupts on this CPU and returns the state before; restores such a state. Nests. */
#ifndef NEOMM_PORT_INLINE_IRQ
neomm_irq_t neomm_port_irq_save(void);
void neomm_port_irq_restore(neomm_irq_t state);
#endif

/* ---- stage 2 ---- */

/* Runs call(argument) on every CPU of `cpus` except this one, and returns when all have run it.
 * Called with interrupts masked and spinlocks held: a CPU that waits here must go on serving
 * calls directed at itself. `call` takes no lock. */
void neomm_port_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument);

/* ---- stage 3 ---- */

/* Nanoseconds since some fixed moment; never goes back. Any context. */
uint64_t neomm_port_now(void);

/* 64 unpredictable bits. Any context. */
uint64_t neomm_port_entropy(void);

/* ---- stage 4 ---- */

/* The task that runs, as a number of the kernel's choice; 0 where there is none (interrupts). */
uint64_t neomm_port_task(void);

/* Sleeps while *word == value, at most timeout_ns (UINT64_MAX: for ever). Like a futex: the
 * comparison and going to sleep are one step against neomm_port_wake. May return early with
 * NEOMM_OK. NEOMM_E_TIMEOUT when the time is over. The library holds no lock here. */
neomm_status neomm_port_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns);

/* Wakes up to `count` tasks that sleep on `word`. Any context but NMI. */
void neomm_port_wake(const uint32_t *word, uint32_t count);

/* ---- stage 5 ---- */

/* Memory and swap are used up and the space with index `space` was chosen to give up its memory:
 * what it has alone is dropped when this returns, and all its faults are NEOMM_FAULT_NOMEM. Arrange
 * for its tasks to end (neomm_space_destroy) and return, without waiting for them. Once a space.
 * Called without locks, from any task. */
void neomm_port_oom(struct neomm *root, uint32_t space);

NEOMM_EXTERN_C_END

#endif
