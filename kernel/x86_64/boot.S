/* From the PVH entry point, 32-bit and without paging, to C code in the higher half.
 * SPDX-License-Identifier: MIT
 *
 * Source: Xen's PVH boot ABI (docs/misc/pvh.pandoc: EBX holds the physical address of the start
 * info); Intel SDM volume 3A, 9.8.5 (entering IA-32e mode), 4.5 (paging).
 *
 *     boot_pml5 (with LA57 only)   0 and 511 -> boot_pml4
 *     boot_pml4                    0 and 511 -> boot_pdpt
 *     boot_pdpt                    0 and 510 -> boot_pd      identity and KERNEL_BASE
 *     boot_pd                      the first GiB in 2M pages
 */
#include "arch.h"

#define PHYSICAL(symbol) (symbol - KERNEL_BASE)

#define CR0_PE 0x00000001
#define CR0_WP 0x00010000
#define CR0_PG 0x80000000
#define CR4_PAE 0x0020
#define CR4_LA57 0x1000
#define CPUID_7_ECX_LA57 0x10000
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define ENTRY_TABLE 0x003 /* present, writable */
#define ENTRY_LARGE 0x083 /* present, writable, page size */

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                          /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad PHYSICAL(boot_start)

    .section .text.boot, "ax"
    .code32
    .globl boot_start
boot_start:
    cld
    cli
    mov %ebx, %ebp                          /* CPUID overwrites EBX */
    lgdt PHYSICAL(boot_gdt_pointer)

    mov $CR4_PAE, %esi
    mov $PHYSICAL(boot_pml4), %edi
    xor %eax, %eax
    cpuid
    cmp $7, %eax
    jb 1f
    mov $7, %eax
    xor %ecx, %ecx
    cpuid
    test $CPUID_7_ECX_LA57, %ecx
    jz 1f
    or $CR4_LA57, %esi
    mov $PHYSICAL(boot_pml5), %edi
1:  mov %esi, %cr4
    mov %edi, %cr3

    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $(CR0_PG | CR0_WP | CR0_PE), %eax
    mov %eax, %cr0
    ljmp $SELECTOR_KERNEL_CODE, $PHYSICAL(boot_long)

    .code64
boot_long:
    movabs $boot_high, %rax
    jmp *%rax
boot_high:
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $image_stack_end, %rsp
    mov %ebp, %edi
    xor %ebp, %ebp
    call kernel_main

    .section .rodata.boot, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                /* 64-bit code */
    .quad 0x00cf93000000ffff                /* data */
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long PHYSICAL(boot_gdt)

    .section .data.boot, "aw"
    .balign 4096
    .globl boot_pml5, boot_pml4
boot_pml5:
    .quad PHYSICAL(boot_pml4) + ENTRY_TABLE
    .fill 510, 8, 0
    .quad PHYSICAL(boot_pml4) + ENTRY_TABLE
boot_pml4:
    .quad PHYSICAL(boot_pdpt) + ENTRY_TABLE
    .fill 510, 8, 0
    .quad PHYSICAL(boot_pdpt) + ENTRY_TABLE
boot_pdpt:
    .quad PHYSICAL(boot_pd) + ENTRY_TABLE
    .fill 509, 8, 0
    .quad PHYSICAL(boot_pd) + ENTRY_TABLE
    .quad 0
boot_pd:
    .set page, 0
    .rept BOOT_MAPPED >> 21
    .quad page * 0x200000 + ENTRY_LARGE
    .set page, page + 1
    .endr

    .section .note.GNU-stack, "", @progbits
