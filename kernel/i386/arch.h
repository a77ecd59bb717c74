/* What the kernel's shared files need to know of an i386 CPU.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, chapters 3 (segments), 6 (interrupts), 8 (tasks).
 */
#ifndef KERNEL_I386_ARCH_H
#define KERNEL_I386_ARCH_H

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_CODE   0x1b
#define SELECTOR_USER_DATA   0x23
#define SELECTOR_TSS         0x28

/* Memory that boot.S maps. */
#define BOOT_MAPPED 0x1000000

#ifndef __ASSEMBLER__

#include <stdint.h>

/* Registers as entry.S pushes them, above what the CPU has pushed itself: sp and ss only where
 * the trap came from user mode. */
struct trap_frame {
    uintptr_t es, ds;
    uintptr_t bp, di, si, dx, cx, bx, ax;
    uintptr_t vector, error;
    uintptr_t ip, cs, flags, sp, ss;
};

static inline void frame_set_data_segments(struct trap_frame *frame, uintptr_t selector)
{
    frame->es = selector;
    frame->ds = selector;
}

#endif
#endif
