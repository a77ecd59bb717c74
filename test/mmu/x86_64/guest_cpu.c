/* The 64-bit guest of the MMU comparison: segments, vectors, and its place in a root.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, figures 3-8 (descriptor), 6-8 (64-bit gate), 8-11 (64-bit TSS).
 */
#include "guest.h"

#include "channel.h"

#define GATE_USER 0xee /* interrupt gate for all */
#define TABLE     7u   /* present, writable, user */
#define PAGE_USER 4u
#define LAST      511

struct tss {
    uint32_t reserved0;
    uintptr_t sp[3];
    uint64_t reserved1;
    uintptr_t interrupt_stack[7];
    uint64_t reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed, aligned(4)));

struct gate {
    uint16_t offset_low, selector;
    uint8_t stack, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

struct table_pointer {
    uint16_t limit;
    uintptr_t base;
} __attribute__((packed));

extern uint64_t guest_pml4[], guest_pdpt[], guest_pt[];

static struct tss tss;
static uint64_t gdt[7];
static struct gate idt[VECTORS];
static char trap_stack[4096] __attribute__((aligned(16)));

static void load_segments(void)
{
    uint64_t base = (uintptr_t)&tss;
    gdt[SELECTOR_KERNEL_CODE / 8] = 0x00af9b000000ffff;
    gdt[SELECTOR_KERNEL_DATA / 8] = 0x00cf93000000ffff;
    gdt[SELECTOR_USER_CODE / 8] = 0x00affb000000ffff;
    gdt[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff;
    gdt[SELECTOR_TSS / 8] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
    struct table_pointer pointer = {sizeof(gdt) - 1, (uintptr_t)gdt};
    __asm__ volatile("lgdt %0\n\t"
                     "ltr %w1"
                     :
                     : "m"(pointer), "r"(SELECTOR_TSS)
                     : "memory");
}

void guest_cpu_init(void)
{
    tss.sp[0] = (uintptr_t)(trap_stack + sizeof(trap_stack));
    tss.io_map = sizeof(tss);
    load_segments();
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uintptr_t offset = (uintptr_t)guest_stub + vector * STUB_SIZE;
        idt[vector].offset_low = (uint16_t)offset;
        idt[vector].offset_middle = (uint16_t)(offset >> 16);
        idt[vector].offset_high = (uint32_t)(offset >> 32);
        idt[vector].selector = SELECTOR_KERNEL_CODE;
        idt[vector].type = GATE_USER;
    }
    struct table_pointer pointer = {sizeof(idt) - 1, (uintptr_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void guest_user_page(uintptr_t paddr)
{
    guest_pt[paddr >> 12] |= PAGE_USER;
}

void guest_root_init(uint64_t root)
{
    const struct channel *channel = guest_pointer(CHANNEL_BASE);
    const void *next = channel->format == CHANNEL_5LEVEL ? guest_pml4 : guest_pdpt;
    ((uint64_t *)guest_pointer(root))[LAST] = guest_physical(next) | TABLE;
}
