/* The guest of the MMU comparison: what its files share.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_MMU_GUEST_H
#define TEST_MMU_GUEST_H

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_CODE   0x1b
#define SELECTOR_USER_DATA   0x23
#define SELECTOR_TSS         0x28

/* Vector stubs, and the accesses of the two privilege levels, lie this far apart. */
#define STUB_SIZE 16
#define VECTORS   32

#ifndef __ASSEMBLER__

#include <stdint.h>

/* How the last access ended. */
struct guest_trap {
    uintptr_t vector, error, address;
    uint32_t word;
};
extern volatile struct guest_trap guest_trap;

/* Does one access: runs the code at target with an address and a word, as a user or not, until it
 * traps; the breakpoint behind it counts as a trap, too. */
void guest_access(uintptr_t vaddr, uint32_t word, uintptr_t target, uintptr_t flags, uint32_t user);

/* The accesses in the order of their kinds, STUB_SIZE bytes each, in two copies. */
extern const char guest_accesses[], guest_user_accesses[];
extern const char guest_stub[];

static inline void *guest_pointer(uint64_t paddr)
{
    return (void *)((uintptr_t)GUEST_BASE + (uintptr_t)paddr);
}

static inline uintptr_t guest_physical(const void *pointer)
{
    return (uintptr_t)pointer - (uintptr_t)GUEST_BASE;
}

/* The architecture's part: segments, vectors and the stack of traps; the page that users run. */
void guest_cpu_init(void);
void guest_user_page(uintptr_t paddr);
/* Makes a root for cases lead to the guest's own tables. */
void guest_root_init(uint64_t root);

static inline void write_cr0(uintptr_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline uintptr_t read_cr0(void)
{
    uintptr_t value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

static inline void write_cr3(uintptr_t value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline void write_cr4(uintptr_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

static inline uintptr_t read_cr4(void)
{
    uintptr_t value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}

static inline uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

#endif
#endif
