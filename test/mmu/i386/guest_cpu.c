/* The 32-bit guest of the MMU comparison: segments, vectors, and its place in a root.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, figures 3-8 (descriptor), 6-2 (gate), 8-2 (TSS).
 */
#include "guest.h"

#include "channel.h"

#define GATE_USER   0xee /* interrupt gate for all */
#define TABLE       7u   /* present, writable, user */
#define PAGE_USER   4u
#define PRESENT     1u
#define DIRECTORIES (CHANNEL_END >> 22)
#define PAE_TABLES  (CHANNEL_END >> 21)
#define TSS_WORDS   26
#define TSS_SP0     1
#define TSS_SS0     2
#define TSS_IO_MAP  25

struct gate {
    uint16_t offset_low, selector;
    uint8_t zero, type;
    uint16_t offset_high;
};

struct table_pointer {
    uint16_t limit;
    uintptr_t base;
} __attribute__((packed));

extern uint32_t guest_table[];
extern uint64_t guest_pd[], guest_pt[];

static uint32_t tss[TSS_WORDS];
static uint64_t gdt[6];
static struct gate idt[VECTORS];
static char trap_stack[4096] __attribute__((aligned(16)));

static void load_segments(void)
{
    uint64_t base = (uintptr_t)tss;
    gdt[SELECTOR_KERNEL_CODE / 8] = 0x00cf9b000000ffff;
    gdt[SELECTOR_KERNEL_DATA / 8] = 0x00cf93000000ffff;
    gdt[SELECTOR_USER_CODE / 8] = 0x00cffb000000ffff;
    gdt[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff;
    gdt[SELECTOR_TSS / 8] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    struct table_pointer pointer = {sizeof(gdt) - 1, (uintptr_t)gdt};
    __asm__ volatile("lgdt %0\n\t"
                     "ltr %w1\n\t"
                     "mov %2, %%ds\n\t"
                     "mov %2, %%es"
                     :
                     : "m"(pointer), "r"(SELECTOR_TSS), "r"(SELECTOR_USER_DATA)
                     : "memory");
}

void guest_cpu_init(void)
{
    tss[TSS_SP0] = (uintptr_t)(trap_stack + sizeof(trap_stack));
    tss[TSS_SS0] = SELECTOR_KERNEL_DATA;
    tss[TSS_IO_MAP] = sizeof(tss) << 16;
    load_segments();
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uintptr_t offset = (uintptr_t)guest_stub + vector * STUB_SIZE;
        idt[vector].offset_low = (uint16_t)offset;
        idt[vector].offset_high = (uint16_t)(offset >> 16);
        idt[vector].selector = SELECTOR_KERNEL_CODE;
        idt[vector].type = GATE_USER;
    }
    struct table_pointer pointer = {sizeof(idt) - 1, (uintptr_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void guest_user_page(uintptr_t paddr)
{
    guest_table[paddr >> 12] |= PAGE_USER;
    guest_pt[paddr >> 12] |= PAGE_USER;
}

static void root_2level(uint32_t *root)
{
    for (uint32_t i = 0; i < DIRECTORIES; i++)
        root[1024 - DIRECTORIES + i] = guest_physical(guest_table + i * 1024) | TABLE;
}

/* A root of PAE is 32 bytes long: each frame of roots is full of them. */
static void root_pae(uint64_t *root)
{
    uint64_t *last = guest_pointer(CHANNEL_PAE_LAST);
    for (uint32_t i = 512 - PAE_TABLES; i < 512; i++)
        last[i] = guest_pd[i];
    for (uint32_t i = 3; i < 512; i += 4)
        root[i] = CHANNEL_PAE_LAST | PRESENT;
}

void guest_root_init(uint64_t root)
{
    const struct channel *channel = guest_pointer(CHANNEL_BASE);
    if (channel->format == CHANNEL_PAE)
        root_pae(guest_pointer(root));
    else
        root_2level(guest_pointer(root));
}
