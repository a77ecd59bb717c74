/* What the kernel's shared files need to know of an x86_64 CPU.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, chapters 3 (segments), 6 (interrupts), 8 (tasks).
 */
#ifndef KERNEL_X86_64_ARCH_H
#define KERNEL_X86_64_ARCH_H

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_CODE   0x1b
#define SELECTOR_USER_DATA   0x23
#define SELECTOR_TSS         0x28

/* Memory that boot.S maps. */
#define BOOT_MAPPED 0x40000000

#ifndef __ASSEMBLER__

#include <stdint.h>

/* Registers as entry.S pushes them, above what the CPU has pushed itself. */
struct trap_frame {
    uintptr_t r15, r14, r13, r12, r11, r10, r9, r8;
    uintptr_t bp, di, si, dx, cx, bx, ax;
    uintptr_t vector, error;
    uintptr_t ip, cs, flags, sp, ss;
};

/* Long mode takes nothing from DS and ES. */
static inline void frame_set_data_segments(struct trap_frame *frame, uintptr_t selector)
{
    (void)frame;
    (void)selector;
}

#endif
#endif
