/* The 64-bit guest of the MMU comparison: its start, its tables, accesses and traps.
 * SPDX-License-Identifier: MIT
 *
 * Source: Xen's PVH boot ABI; Intel SDM volume 3A, 9.8.5 (entering IA-32e mode), 4.5 (paging).
 *
 *     guest_pml5 (5 levels)   0 and 511 -> guest_pml4
 *     guest_pml4              0 and 511 -> guest_pdpt
 *     guest_pdpt              0 and 511 -> guest_pd
 *     guest_pd                0 -> guest_pt (identity, to get here), last 32 -> guest_pt
 *     guest_pt                CHANNEL_END bytes from 0 on, in pages
 */
#include "channel.h"
#include "guest.h"

#define PHYSICAL(symbol) (symbol - GUEST_BASE)

#define CR0_START 0x80010001 /* PG, WP, PE */
#define CR4_PAE 0x0020
#define CR4_LA57 0x1000
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define FLAGS_ONE 2
#define TABLE 7 /* present, writable, user */
#define PAGE 3 /* present, writable */
#define TABLES (CHANNEL_END >> 21)

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                          /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad PHYSICAL(guest_start)

    .section .text.boot, "ax"
    .code32
    .globl guest_start
guest_start:
    cld
    cli
    lgdt PHYSICAL(boot_gdt_pointer)
    mov $CR4_PAE, %esi
    mov $PHYSICAL(guest_pml4), %edi
    cmpl $CHANNEL_5LEVEL, CHANNEL_BASE + CHANNEL_FORMAT_OFFSET
    jne 1f
    or $CR4_LA57, %esi
    mov $PHYSICAL(guest_pml5), %edi
1:  mov %esi, %cr4
    mov %edi, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $CR0_START, %eax
    mov %eax, %cr0
    ljmp $SELECTOR_KERNEL_CODE, $PHYSICAL(boot_long)

    .code64
boot_long:
    mov $boot_high, %rax
    jmp *%rax
boot_high:
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $guest_stack_end, %rsp
    xor %ebp, %ebp
    call guest_main

    .section .text, "ax"
/* void guest_access(vaddr, word, target, flags, user): trap_common returns to the caller. */
    .globl guest_access
guest_access:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, resume
    mov %rdi, %rbx
    mov %esi, %eax
    test %r8d, %r8d
    jnz 1f
    push %rcx
    popf
    jmp *%rdx
1:  push $SELECTOR_USER_DATA
    push $0
    push %rcx
    push $SELECTOR_USER_CODE
    push %rdx
    iretq

trap_common:
    pop guest_trap
    pop guest_trap + 8
    mov %cr2, %rcx
    mov %rcx, guest_trap + 16
    mov %eax, guest_trap + 24
    mov resume, %rsp
    movq $0, resume                         /* a trap of the guest itself ends the machine */
    push $FLAGS_ONE
    popf
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

/* Vectors 8, 10-14, 17, 21, 29 and 30 come with an error code. */
    .macro stub number
    .balign STUB_SIZE
    .if !((0x60227d00 >> \number) & 1)
    push $0
    .endif
    push $\number
    jmp trap_common
    .endm

    .balign STUB_SIZE
    .globl guest_stub
guest_stub:
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    stub \number
    .endr
    .irp number, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    stub \number
    .endr

    .macro accesses
    .balign STUB_SIZE
    mov (%rbx), %eax
    int3
    .balign STUB_SIZE
    mov %eax, (%rbx)
    int3
    .balign STUB_SIZE
    xchg %eax, (%rbx)
    int3
    .endm

    .balign STUB_SIZE
    .globl guest_accesses
guest_accesses:
    accesses

    .section .text_user, "ax"
    .balign 4096
    .globl guest_user_accesses
guest_user_accesses:
    accesses

    .section .rodata.boot, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                /* 64-bit code */
    .quad 0x00cf93000000ffff                /* data */
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long PHYSICAL(boot_gdt)

    .section .data.tables, "aw"
    .balign 4096
    .globl guest_pml4, guest_pdpt, guest_pt
guest_pml5:
    .quad PHYSICAL(guest_pml4) + TABLE
    .fill 510, 8, 0
    .quad PHYSICAL(guest_pml4) + TABLE
guest_pml4:
    .quad PHYSICAL(guest_pdpt) + TABLE
    .fill 510, 8, 0
    .quad PHYSICAL(guest_pdpt) + TABLE
guest_pdpt:
    .quad PHYSICAL(guest_pd) + TABLE
    .fill 510, 8, 0
    .quad PHYSICAL(guest_pd) + TABLE
guest_pd:
    .quad PHYSICAL(guest_pt) + TABLE
    .fill 511 - TABLES, 8, 0
    .set table, 0
    .rept TABLES
    .quad PHYSICAL(guest_pt) + table * 4096 + TABLE
    .set table, table + 1
    .endr
guest_pt:
    .set page, 0
    .rept TABLES * 512
    .quad page * 4096 + PAGE
    .set page, page + 1
    .endr

    .bss
    .balign 16
    .globl guest_trap
guest_trap:
    .skip 32
resume:
    .skip 16
    .skip 16384
guest_stack_end:

    .section .note.GNU-stack, "", @progbits
