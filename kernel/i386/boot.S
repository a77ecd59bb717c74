/* From the Multiboot entry point, without paging, to C code in the higher half.
 * SPDX-License-Identifier: MIT
 *
 * Source: Multiboot Specification 0.6.96, 3.1 (header), 3.2 (machine state: EAX holds the magic,
 * EBX the physical address of the information), 3.3 (information); Intel SDM volume 3A, 4.3, 4.4.
 *
 * The word "pae" in the command line chooses the PAE format. Both sets of tables map the first
 * 16 MiB at their physical addresses and at KERNEL_BASE.
 */
#include "arch.h"

#define PHYSICAL(symbol) (symbol - KERNEL_BASE)

#define HEADER_MAGIC 0x1badb002
#define HEADER_FLAGS 0x3                    /* modules on page borders; a memory map */
#define LOADER_MAGIC 0x2badb002
#define INFO_FLAGS 0
#define INFO_COMMAND_LINE 16
#define INFO_HAS_COMMAND_LINE 0x4

#define CR0_WP 0x00010000
#define CR0_PG 0x80000000
#define CR4_PSE 0x10
#define CR4_PAE 0x20
#define ENTRY_TABLE 0x003                   /* present, writable */
#define ENTRY_LARGE 0x083                   /* present, writable, page size */
#define PDPT_PRESENT 0x001

    .section .multiboot, "a"
    .balign 4
    .long HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS)

    .section .text.boot, "ax"
    .globl boot_start
boot_start:
    cld
    cli
    mov $PHYSICAL(image_stack_end), %esp
    xor %ebp, %ebp
    cmp $LOADER_MAGIC, %eax
    jne boot_stop
    lgdt PHYSICAL(boot_gdt_pointer)
    ljmp $SELECTOR_KERNEL_CODE, $PHYSICAL(boot_flat)
boot_flat:
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs

    mov $CR4_PSE, %ecx
    mov $PHYSICAL(boot_directory), %edx
    testl $INFO_HAS_COMMAND_LINE, INFO_FLAGS(%ebx)
    jz 3f
    mov INFO_COMMAND_LINE(%ebx), %esi
1:  cmpb $0, (%esi)
    je 3f
    cmpl $0x65617020, (%esi)                /* " pae" */
    je 2f
    inc %esi
    jmp 1b
2:  add $4, %esi
    cmpb $' ', (%esi)                       /* the end of the word, or of the line */
    ja 1b
    mov $CR4_PAE, %ecx
    mov $PHYSICAL(boot_pdpt), %edx
3:  mov %ecx, %cr4
    mov %edx, %cr3
    mov %cr0, %eax
    or $(CR0_PG | CR0_WP), %eax
    mov %eax, %cr0
    mov $boot_high, %eax
    jmp *%eax
boot_high:
    mov $image_stack_end - 16, %esp
    mov %ebx, (%esp)
    call kernel_main
boot_stop:
    hlt
    jmp boot_stop

    .section .rodata.boot, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff                /* code */
    .quad 0x00cf93000000ffff                /* data */
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long PHYSICAL(boot_gdt)

    .section .data.boot, "aw"
    .balign 4096
    .globl boot_directory, boot_pae_directory
boot_directory:
    .set page, 0
    .rept BOOT_MAPPED >> 22
    .long page * 0x400000 + ENTRY_LARGE
    .set page, page + 1
    .endr
    .fill (KERNEL_BASE >> 22) - page, 4, 0
    .set page, 0
    .rept BOOT_MAPPED >> 22
    .long page * 0x400000 + ENTRY_LARGE
    .set page, page + 1
    .endr
    .fill 1024 - (KERNEL_BASE >> 22) - page, 4, 0
boot_pae_directory:                         /* four, behind one another */
    .set page, 0
    .rept BOOT_MAPPED >> 21
    .quad page * 0x200000 + ENTRY_LARGE
    .set page, page + 1
    .endr
    .fill (KERNEL_BASE >> 21) - page, 8, 0
    .set page, 0
    .rept BOOT_MAPPED >> 21
    .quad page * 0x200000 + ENTRY_LARGE
    .set page, page + 1
    .endr
    .fill 2048 - (KERNEL_BASE >> 21) - page, 8, 0
boot_pdpt:
    .long PHYSICAL(boot_pae_directory) + 0x0000 + PDPT_PRESENT, 0
    .long PHYSICAL(boot_pae_directory) + 0x1000 + PDPT_PRESENT, 0
    .long PHYSICAL(boot_pae_directory) + 0x2000 + PDPT_PRESENT, 0
    .long PHYSICAL(boot_pae_directory) + 0x3000 + PDPT_PRESENT, 0

    .section .note.GNU-stack, "", @progbits
