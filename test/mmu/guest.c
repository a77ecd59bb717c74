/* The guest of the MMU comparison: does the cases that the host left in RAM, one after the other,
 * and leaves what the CPU made of them.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 2.5 (control registers), 4.10.4.1 (what invalidates).
 */
#include "guest.h"

#include "channel.h"

#define CR0_WP     ((uintptr_t)1 << 16)
#define CR4_PSE    ((uintptr_t)1 << 4)
#define CR4_PGE    ((uintptr_t)1 << 7)
#define CR4_SMEP   ((uintptr_t)1 << 20)
#define CR4_SMAP   ((uintptr_t)1 << 21)
#define MSR_EFER   0xc0000080u
#define EFER_NXE   ((uint64_t)1 << 11)
#define FLAGS_ONE  0x2u
#define FLAGS_AC   0x40000u
#define DEBUG_EXIT 0xf4

void guest_main(void);

static uintptr_t bit_if(uint32_t control, uint32_t bit, uintptr_t value)
{
    return control & bit ? value : 0;
}

/* All translations of the case before, global ones too, go with CR4.PGE. */
static void load(const struct mmu_case *c)
{
    uintptr_t cr4 = read_cr4() & ~(CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP);
    cr4 |= bit_if(c->control, CASE_PSE, CR4_PSE) | bit_if(c->control, CASE_SMEP, CR4_SMEP) |
           bit_if(c->control, CASE_SMAP, CR4_SMAP);
    write_cr4(cr4 ^ CR4_PGE);
    write_cr4(cr4);
    write_cr0((read_cr0() & ~CR0_WP) | bit_if(c->control, CASE_WP, CR0_WP));
    uint64_t efer = read_msr(MSR_EFER) & ~EFER_NXE;
    write_msr(MSR_EFER, efer | (c->control & CASE_NXE ? EFER_NXE : 0));
    write_cr3((uintptr_t)c->root);
    if (c->control & CASE_PGE)
        write_cr4(cr4 | CR4_PGE);
}

static void store(uint32_t format, uint64_t at, uint64_t value)
{
    if (format == CHANNEL_2LEVEL)
        *(volatile uint32_t *)guest_pointer(at) = (uint32_t)value;
    else
        *(volatile uint64_t *)guest_pointer(at) = value;
}

static uint64_t fetch(uint32_t format, uint64_t at)
{
    if (format == CHANNEL_2LEVEL)
        return *(volatile uint32_t *)guest_pointer(at);
    return *(volatile uint64_t *)guest_pointer(at);
}

static void access(const struct mmu_case *c, const struct case_access *a, struct access_result *r)
{
    uint32_t kind = a->flags & ACCESS_KIND;
    uint32_t user = a->flags & ACCESS_USER;
    const char *code = (user ? guest_user_accesses : guest_accesses) + kind * STUB_SIZE;
    uintptr_t target = kind == ACCESS_FETCH ? (uintptr_t)a->vaddr : (uintptr_t)code;
    if (a->flags & ACCESS_FRESH)
        write_cr3((uintptr_t)c->root);
    guest_access((uintptr_t)a->vaddr, a->word, target,
                 FLAGS_ONE | (a->flags & ACCESS_AC ? FLAGS_AC : 0), user);
    r->vector = (uint32_t)guest_trap.vector;
    r->error = (uint32_t)guest_trap.error;
    r->address = r->vector == VECTOR_PAGE_FAULT ? guest_trap.address : 0;
    r->word = r->vector == VECTOR_DONE ? guest_trap.word : 0;
}

static void run(uint32_t format, const struct mmu_case *c, struct mmu_result *r)
{
    for (uint32_t i = 0; i < c->entries; i++)
        store(format, c->entry[i].at, c->entry[i].value);
    load(c);
    for (uint32_t i = 0; i < c->accesses; i++)
        access(c, &c->access[i], &r->access[i]);
    for (uint32_t i = 0; i < c->entries; i++) {
        r->entry[i] = fetch(format, c->entry[i].at);
        store(format, c->entry[i].at, 0);
    }
}

static void end(void)
{
    __asm__ volatile("outl %0, %1" : : "a"(0x10), "Nd"((uint16_t)DEBUG_EXIT));
    for (;;)
        __asm__ volatile("cli; hlt");
}

void guest_main(void)
{
    volatile struct channel *channel = guest_pointer(CHANNEL_BASE);
    const struct mmu_case *c = guest_pointer(CHANNEL_BASE + CHANNEL_CASES_AT);
    struct mmu_result *r = guest_pointer(CHANNEL_BASE + CHANNEL_RESULTS_AT);
    guest_user_page(guest_physical(guest_user_accesses));
    guest_cpu_init();
    for (uint32_t i = 0; i < CHANNEL_ROOT_COUNT; i++)
        guest_root_init(CHANNEL_ROOTS + i * CHANNEL_ROOT_STEP);
    for (uint32_t i = 0; channel->magic == CHANNEL_MAGIC && i < channel->cases; i++) {
        run(channel->format, &c[i], &r[i]);
        channel->done = i + 1;
    }
    end();
}
