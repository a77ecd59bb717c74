/* Programs for user mode, position-independent: copied to user memory and started at an offset.
 * SPDX-License-Identifier: MIT
 *
 * Arguments come in B, C and D; A names the system call at interrupt 80h, B is its argument.
 */
#include "user.h"

#ifdef __x86_64__
#define A %rax
#define B %rbx
#define C %rcx
#define D %rdx
#define S %rsi
#define T %rdi
#define WORD 8
#else
#define A %eax
#define B %ebx
#define C %ecx
#define D %edx
#define S %esi
#define T %edi
#define WORD 4
#endif
#define PAGE 4096

    .section .rodata, "a"
    .balign 16
    .globl user_image, user_image_end, user_fill, user_check, user_store, user_load
    .globl user_jump, user_print, user_halt
user_image:

/* The first and the last word of each page hold the page's address plus the seed. */
user_fill:
    mov B, S
    mov C, T
1:  lea (S, D), A
    mov A, (S)
    mov A, PAGE - WORD(S)
    add $PAGE, S
    dec T
    jnz 1b

user_check:
    xor T, T
1:  lea (B, D), A
    cmp A, (B)
    je 2f
    inc T
2:  cmp A, PAGE - WORD(B)
    je 3f
    inc T
3:  add $PAGE, B
    dec C
    jnz 1b
    mov T, B
    jmp exit

user_store:
    mov C, (B)
    xor B, B
    jmp exit

user_load:
    mov (B), B
    jmp exit

user_jump:
    jmp *B

user_halt:
    hlt

user_print:
    mov $USER_CALL_WRITE, A
    int $USER_VECTOR
    mov A, B

exit:
    mov $USER_CALL_EXIT, A
    int $USER_VECTOR
user_image_end:

    .section .note.GNU-stack, "", @progbits
