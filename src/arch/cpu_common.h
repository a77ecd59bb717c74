/* The CPU primitives that differ between i386 and x86_64 in register width alone; included once,
 * by each architecture's cpu.c.
 * SPDX-License-Identifier: MIT
 *
 * Sources: Intel SDM volume 2 (the instructions), volume 3A 2.5 (control registers), 4.6.1 (SMAP
 * and EFLAGS.AC).
 */
#include <neomm/cpu.h>

/* ---- registers ---- */

void neomm_cpu_invlpg(neomm_vaddr_t vaddr)
{
    __asm__ volatile("invlpg (%0)" : : "r"(vaddr) : "memory");
}

/* The descriptor has 64 bits for the address also where addresses have 32. */
void neomm_cpu_invpcid(enum neomm_invpcid type, uint32_t pcid, neomm_vaddr_t vaddr)
{
    const uint64_t descriptor[2] = {pcid, vaddr};
    __asm__ volatile("invpcid %1, %0" : : "r"((uintptr_t)type), "m"(descriptor) : "memory");
}

uintptr_t neomm_cpu_read_cr0(void)
{
    uintptr_t value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(value) : : "memory");
    return value;
}

void neomm_cpu_write_cr0(uintptr_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

uintptr_t neomm_cpu_read_cr3(void)
{
    uintptr_t value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(value) : : "memory");
    return value;
}

void neomm_cpu_write_cr3(uintptr_t value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

uintptr_t neomm_cpu_read_cr4(void)
{
    uintptr_t value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(value) : : "memory");
    return value;
}

void neomm_cpu_write_cr4(uintptr_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

uint64_t neomm_cpu_read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

void neomm_cpu_write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

void neomm_cpu_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(subleaf));
}

/* ---- caches ---- */

#define CPUID_CLFLUSH ((uint32_t)1 << 19)

/* WBINVD where there is no CLFLUSH, which is ordered by locked instructions alone (SDM 2A). */
void neomm_cpu_flush_cache(const void *pointer, size_t size)
{
    uint32_t basic[4];
    neomm_cpu_cpuid(1, 0, basic);
    uintptr_t line = (basic[1] >> 8 & 0xff) * 8, at = (uintptr_t)pointer & ~(line - 1);
    if (!(basic[3] & CPUID_CLFLUSH) || line == 0) {
        __asm__ volatile("wbinvd" : : : "memory");
        return;
    }
    for (; at < (uintptr_t)pointer + size; at += line)
        __asm__ volatile("clflush (%0)" : : "r"(at) : "memory");
    __asm__ volatile("lock orl $0, %0" : "+m"(basic[0]) : : "memory", "cc");
}

/* ---- user memory ---- */

struct fixup {
    uintptr_t instruction, target;
};

extern const struct fixup __start_neomm_fixups[] __attribute__((visibility("hidden")));
extern const struct fixup __stop_neomm_fixups[] __attribute__((visibility("hidden")));

/* A fault of the instruction at label `from` goes on at label `to`, both local labels. */
#define FIXUP(from, to)                                                                            \
    ".pushsection neomm_fixups, \"a\"\n\t" WORD " " #from ", " #to "\n\t.popsection\n\t"

uintptr_t neomm_cpu_fixup(uintptr_t instruction)
{
    for (const struct fixup *fixup = __start_neomm_fixups; fixup != __stop_neomm_fixups; fixup++)
        if (fixup->instruction == instruction)
            return fixup->target;
    return 0;
}

/* Opens user memory to the kernel where SMAP closes it. Returns what close_user needs. */
static bool open_user(void)
{
    bool closed = (neomm_cpu_read_cr4() & NEOMM_CR4_SMAP) != 0;
    if (closed)
        __asm__ volatile("stac" : : : "memory", "cc");
    return closed;
}

static void close_user(bool closed)
{
    if (closed)
        __asm__ volatile("clac" : : : "memory", "cc");
}

/* REP MOVSB can be interrupted: at a fault the count register says what is left. */
size_t neomm_cpu_user_copy(neomm_vaddr_t user, void *kernel, size_t bytes, bool to_user)
{
    void *to = to_user ? (void *)user : kernel;
    const void *from = to_user ? kernel : (const void *)user;
    bool closed = open_user();
    __asm__ volatile("1: rep movsb\n"
                     "2:\n\t" FIXUP(1b, 2b)
                     : "+D"(to), "+S"(from), "+c"(bytes)
                     :
                     : "memory");
    close_user(closed);
    return bytes;
}

neomm_status neomm_cpu_user_cas(neomm_vaddr_t user, uint32_t *expected, uint32_t desired)
{
    uint32_t seen = *expected;
    int faulted = 1;
    bool closed = open_user();
    __asm__ volatile("1: lock cmpxchgl %3, (%2)\n\t"
                     "xorl %1, %1\n"
                     "2:\n\t" FIXUP(1b, 2b)
                     : "+a"(seen), "+r"(faulted)
                     : "r"(user), "r"(desired)
                     : "memory", "cc");
    close_user(closed);
    if (faulted)
        return NEOMM_E_FAULT;
    if (seen == *expected)
        return NEOMM_OK;
    *expected = seen;
    return NEOMM_E_AGAIN;
}

static bool read_byte(neomm_vaddr_t user, uint8_t *byte)
{
    int faulted = 1;
    uint8_t value = 0;
    __asm__ volatile("1: movb (%2), %0\n\t"
                     "xorl %1, %1\n"
                     "2:\n\t" FIXUP(1b, 2b)
                     : "+q"(value), "+r"(faulted)
                     : "r"(user)
                     : "memory", "cc");
    *byte = value;
    return faulted == 0;
}

neomm_status neomm_cpu_user_strlen(neomm_vaddr_t user, size_t limit, size_t *length)
{
    neomm_status status = NEOMM_OK;
    uint8_t byte = 1;
    size_t count = 0;
    bool closed = open_user();
    while (count < limit && status == NEOMM_OK && byte != 0) {
        if (!read_byte(user + count, &byte))
            status = NEOMM_E_FAULT;
        else
            count += byte != 0;
    }
    close_user(closed);
    if (status == NEOMM_OK)
        *length = count;
    return status;
}
