/* Segments, task state and interrupt vectors of the one CPU, and the way out of QEMU.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, figures 3-8 (descriptor), 6-2 (gates), 8-2 (32-bit TSS); Intel
 * 8259A data sheet (OCW1: mask).
 */
#include "io.h"
#include "kernel.h"

#define VECTORS            256
#define TRAP_STUBS         48
#define TRAP_STUB_SIZE     16
#define VECTOR_SYSTEM_CALL 0x80

#define GATE_INTERRUPT 0x8e
#define GATE_USER      0x60 /* user mode may use the vector */

#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK  0xa1
#define DEBUG_EXIT      0xf4

/* entry.S */
extern const char trap_stub[], trap_stub_system_call[];

/* Only the stack for traps from user mode is used; there is no hardware task switch. */
struct tss {
    uint32_t link;
    uintptr_t sp0, ss0;
    uint32_t unused[22];
    uint16_t trap, io_map;
};

struct gate {
    uint16_t offset_low, selector;
    uint8_t reserved, type;
    uint16_t offset_high;
};

struct table_pointer {
    uint16_t limit;
    uintptr_t base;
} __attribute__((packed));

static struct tss tss;
static uint64_t gdt[6];
static struct gate idt[VECTORS];

static void set_gate(unsigned vector, const char *stub, uint8_t type)
{
    uintptr_t offset = (uintptr_t)stub;
    idt[vector] = (struct gate){
        .offset_low = (uint16_t)offset,
        .selector = SELECTOR_KERNEL_CODE,
        .type = type,
        .offset_high = (uint16_t)(offset >> 16),
    };
}

static void load_segments(void)
{
    uint64_t base = (uintptr_t)&tss;
    gdt[SELECTOR_KERNEL_CODE / 8] = 0x00cf9b000000ffff;
    gdt[SELECTOR_KERNEL_DATA / 8] = 0x00cf93000000ffff;
    gdt[SELECTOR_USER_CODE / 8] = 0x00cffb000000ffff;
    gdt[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff;
    gdt[SELECTOR_TSS / 8] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24) << 56;
    struct table_pointer pointer = {sizeof(gdt) - 1, (uintptr_t)gdt};
    __asm__ volatile("lgdt %0\n\t"
                     "ljmp %1, $1f\n"
                     "1:\tmov %2, %%ds\n\t"
                     "mov %2, %%es\n\t"
                     "mov %2, %%ss\n\t"
                     "ltr %w3"
                     :
                     : "m"(pointer), "i"(SELECTOR_KERNEL_CODE), "r"(SELECTOR_KERNEL_DATA),
                       "r"(SELECTOR_TSS)
                     : "memory");
}

void machine_init(void)
{
    io_out8(PIC_MASTER_MASK, 0xff);
    io_out8(PIC_SLAVE_MASK, 0xff);
    tss.ss0 = SELECTOR_KERNEL_DATA;
    tss.io_map = sizeof(tss);
    load_segments();
    for (unsigned vector = 0; vector < TRAP_STUBS; vector++)
        set_gate(vector, trap_stub + vector * TRAP_STUB_SIZE, GATE_INTERRUPT);
    set_gate(VECTOR_SYSTEM_CALL, trap_stub_system_call, GATE_INTERRUPT | GATE_USER);
    struct table_pointer pointer = {sizeof(idt) - 1, (uintptr_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
    cpu_enable_interrupts();
}

uintptr_t *machine_trap_stack(void)
{
    return &tss.sp0;
}

void machine_exit(enum exit_code code)
{
    io_out32(DEBUG_EXIT, code);
    for (;;)
        __asm__ volatile("cli; hlt");
}
