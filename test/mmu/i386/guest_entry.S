/* The 32-bit guest of the MMU comparison: its start, its tables, accesses and traps.
 * SPDX-License-Identifier: MIT
 *
 * Source: Xen's PVH boot ABI; Intel SDM volume 3A, 4.3 and 4.4 (paging).
 *
 *     2 levels  guest_directory   0 -> guest_table (identity, to get here), last 16 -> guest_table
 *               guest_table       CHANNEL_END bytes from 0 on, in pages
 *     PAE       guest_pdpt        0 and 3 -> guest_pd
 *               guest_pd          0 -> guest_pt, last 32 -> guest_pt
 *               guest_pt          CHANNEL_END bytes from 0 on, in pages
 */
#include "channel.h"
#include "guest.h"

#define PHYSICAL(symbol) (symbol - GUEST_BASE)

#define CR0_START 0x80010001 /* PG, WP, PE */
#define CR4_PAE 0x0020
#define FLAGS_ONE 2
#define TABLE 7 /* present, writable, user */
#define PAGE 3 /* present, writable */
#define TABLES (CHANNEL_END >> 22)
#define PAE_TABLES (CHANNEL_END >> 21)

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                          /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long PHYSICAL(guest_start)

    .section .text.boot, "ax"
    .globl guest_start
guest_start:
    cld
    cli
    lgdt PHYSICAL(boot_gdt_pointer)
    xor %ecx, %ecx
    mov $PHYSICAL(guest_directory), %edx
    cmpl $CHANNEL_PAE, CHANNEL_BASE + CHANNEL_FORMAT_OFFSET
    jne 1f
    mov $CR4_PAE, %ecx
    mov $PHYSICAL(guest_pdpt), %edx
1:  mov %ecx, %cr4
    mov %edx, %cr3
    mov $CR0_START, %eax
    mov %eax, %cr0
    ljmp $SELECTOR_KERNEL_CODE, $boot_high
boot_high:
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov $guest_stack_end, %esp
    xor %ebp, %ebp
    call guest_main

    .section .text, "ax"
/* void guest_access(vaddr, word, target, flags, user): trap_common returns to the caller. DS and
 * ES are the user's all the time. */
    .globl guest_access
guest_access:
    mov 4(%esp), %ecx
    mov 8(%esp), %eax
    mov 12(%esp), %edx
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %ecx, %ebx
    mov 32(%esp), %ecx
    mov 36(%esp), %esi
    mov %esp, resume
    test %esi, %esi
    jnz 1f
    push %ecx
    popf
    jmp *%edx
1:  push $SELECTOR_USER_DATA
    push $0
    push %ecx
    push $SELECTOR_USER_CODE
    push %edx
    iret

trap_common:
    pop guest_trap
    pop guest_trap + 4
    mov %cr2, %ecx
    mov %ecx, guest_trap + 8
    mov %eax, guest_trap + 12
    mov resume, %esp
    movl $0, resume                         /* a trap of the guest itself ends the machine */
    push $FLAGS_ONE
    popf
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

/* Vectors 8, 10-14, 17 and 21 come with an error code. */
    .macro stub number
    .balign STUB_SIZE
    .if !((0x00227d00 >> \number) & 1)
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
    mov (%ebx), %eax
    int3
    .balign STUB_SIZE
    mov %eax, (%ebx)
    int3
    .balign STUB_SIZE
    xchg %eax, (%ebx)
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
    .quad 0x00cf9b000000ffff                /* code */
    .quad 0x00cf93000000ffff                /* data */
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long PHYSICAL(boot_gdt)

    .section .data.tables, "aw"
    .balign 4096
    .globl guest_table, guest_pd, guest_pt
guest_directory:
    .long PHYSICAL(guest_table) + TABLE
    .fill 1023 - TABLES, 4, 0
    .set table, 0
    .rept TABLES
    .long PHYSICAL(guest_table) + table * 4096 + TABLE
    .set table, table + 1
    .endr
guest_table:
    .set page, 0
    .rept TABLES * 1024
    .long page * 4096 + PAGE
    .set page, page + 1
    .endr
guest_pd:
    .long PHYSICAL(guest_pt) + TABLE, 0
    .fill 511 - PAE_TABLES, 8, 0
    .set table, 0
    .rept PAE_TABLES
    .long PHYSICAL(guest_pt) + table * 4096 + TABLE, 0
    .set table, table + 1
    .endr
guest_pt:
    .set page, 0
    .rept PAE_TABLES * 512
    .long page * 4096 + PAGE, 0
    .set page, page + 1
    .endr
guest_pdpt:
    .long PHYSICAL(guest_pd) + 1, 0, 0, 0, 0, 0
    .long PHYSICAL(guest_pd) + 1, 0

    .bss
    .balign 16
    .globl guest_trap
guest_trap:
    .skip 16
resume:
    .skip 16
    .skip 16384
guest_stack_end:

    .section .note.GNU-stack, "", @progbits
