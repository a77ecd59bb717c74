/* Into and out of the kernel: vector stubs, and the way to user mode and back.
 * SPDX-License-Identifier: MIT
 *
 * The stack behind the CPU's part of a trap, from high to low: error code (or 0), vector, then
 * the registers of struct trap_frame.
 */
#include "arch.h"

#define FLAGS_AC 0x40000

    .section .text, "ax"

/* trap_stub[n], TRAP_STUB_SIZE bytes each. Vectors 8, 10-14, 17, 21, 29 and 30 come with an
 * error code. */
    .macro stub number
    .balign 16
    .if (\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17) || (\number == 21) || (\number == 29) || (\number == 30)
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
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    pushf                                   /* SMAP: user code may have set AC, or a copy */
    andl $~FLAGS_AC, (%rsp)
    popf
    mov %rsp, %rdi
    call trap_handle
trap_return:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    add $16, %rsp
    iretq

/* void user_enter(const struct trap_frame *frame, uintptr_t *trap_stack)
 * Saves the caller and leaves to user mode. *trap_stack, where traps from user mode put their
 * frames, becomes the stack below what was saved. Returns through user_leave. */
    .globl user_enter
user_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rsi)
    mov %rdi, %rsp
    jmp trap_return

/* void user_leave(uintptr_t trap_stack): user_enter returns to its caller. */
    .globl user_leave
user_leave:
    mov %rdi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
