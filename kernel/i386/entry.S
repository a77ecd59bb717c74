/* Into and out of the kernel: vector stubs, and the way to user mode and back.
 * SPDX-License-Identifier: MIT
 *
 * The stack behind the CPU's part of a trap, from high to low: error code (or 0), vector, then
 * the registers of struct trap_frame.
 */
#include "arch.h"

#define FLAGS_AC 0x40000

    .section .text, "ax"

/* trap_stub[n], TRAP_STUB_SIZE bytes each. Vectors 8, 10-14, 17 and 21 come with an error code. */
    .macro stub number
    .balign 16
    .if (\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17) || (\number == 21)
    .else
    push $0
    .endif
    push $\number
    jmp trap_common
    .endm

    .balign 16
    .globl trap_stub, trap_stub_system_call
trap_stub:
    .altmacro
    .set vector, 0
    .rept 48
    stub %vector
    .set vector, vector + 1
    .endr
trap_stub_system_call:
    stub 0x80
    .noaltmacro

trap_common:
    push %eax
    push %ebx
    push %ecx
    push %edx
    push %esi
    push %edi
    push %ebp
    push %ds
    push %es
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    cld
    pushf                                   /* SMAP: user code may have set AC, or a copy */
    andl $~FLAGS_AC, (%esp)
    popf
    mov %esp, %eax
    mov %esp, %ebp                          /* the ABI wants 16-byte alignment at the call */
    and $~15, %esp
    sub $12, %esp
    push %eax
    call trap_handle
    mov %ebp, %esp
trap_return:
    pop %es
    pop %ds
    pop %ebp
    pop %edi
    pop %esi
    pop %edx
    pop %ecx
    pop %ebx
    pop %eax
    add $8, %esp
    iret

/* void user_enter(const struct trap_frame *frame, uintptr_t *trap_stack)
 * Saves the caller and leaves to user mode. *trap_stack, where traps from user mode put their
 * frames, becomes the stack below what was saved. Returns through user_leave. */
    .globl user_enter
user_enter:
    mov 4(%esp), %eax
    mov 8(%esp), %ecx
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, (%ecx)
    mov %eax, %esp
    jmp trap_return

/* void user_leave(uintptr_t trap_stack): user_enter returns to its caller. */
    .globl user_leave
user_leave:
    mov 4(%esp), %esp
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

    .section .note.GNU-stack, "", @progbits
