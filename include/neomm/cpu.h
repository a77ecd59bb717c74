/* CPU primitives: the privileged instructions, one function each. src/arch/ARCH/cpu.c implements
 * them for a kernel; the simulated machine replaces that file with its own CPUs.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, chapter 2 (control registers), 4.10 (TLBs), volume 2.
 */
#ifndef NEOMM_CPU_H
#define NEOMM_CPU_H

#include <neomm/types.h>

#define NEOMM_CR0_WP    ((uintptr_t)1 << 16)
#define NEOMM_CR0_PG    ((uintptr_t)1 << 31)
#define NEOMM_CR4_PSE   ((uintptr_t)1 << 4)
#define NEOMM_CR4_PAE   ((uintptr_t)1 << 5)
#define NEOMM_CR4_PGE   ((uintptr_t)1 << 7)
#define NEOMM_CR4_UMIP  ((uintptr_t)1 << 11)
#define NEOMM_CR4_LA57  ((uintptr_t)1 << 12)
#define NEOMM_CR4_PCIDE ((uintptr_t)1 << 17)
#define NEOMM_CR4_SMEP  ((uintptr_t)1 << 20)
#define NEOMM_CR4_SMAP  ((uintptr_t)1 << 21)
#define NEOMM_CR3_PCID  0xfffu              /* where CR4.PCIDE */
#define NEOMM_CR3_KEEP  ((uint64_t)1 << 63) /* to neomm_cpu_write_cr3 */
#define NEOMM_MSR_EFER  0xc0000080u
#define NEOMM_MSR_PAT   0x277u
#define NEOMM_EFER_NXE  ((uint64_t)1 << 11)

/* Error code bits of a page fault (SDM 3A 4.7). */
#define NEOMM_PF_PRESENT  0x01u /* the translation was there but forbade the access */
#define NEOMM_PF_WRITE    0x02u
#define NEOMM_PF_USER     0x04u
#define NEOMM_PF_RESERVED 0x08u /* a reserved bit was set in an entry */
#define NEOMM_PF_FETCH    0x10u

NEOMM_EXTERN_C_BEGIN

/* Forgets this CPU's translations of the page at `vaddr`, those of the current PCID and global
 * ones, and all its paging-structure cache entries of the current PCID. */
void neomm_cpu_invlpg(neomm_vaddr_t vaddr);

uintptr_t neomm_cpu_read_cr0(void);
void neomm_cpu_write_cr0(uintptr_t value);
uintptr_t neomm_cpu_read_cr3(void);
/* Loads CR3: forgets this CPU's non-global translations. Where CR4.PCIDE, bits 11 to 0 are the PCID
 * from now on, and what is forgotten is of that PCID alone; with NEOMM_CR3_KEEP (which CR3 does not
 * keep) nothing is. */
void neomm_cpu_write_cr3(uintptr_t value);
uintptr_t neomm_cpu_read_cr4(void);
/* A change of PGE, PAE, PSE, PCIDE (to 0) or LA57 forgets every translation of this CPU. PCIDE may
 * be set in 64-bit mode while the PCID in CR3 is 0 (SDM 3A 4.10.1). */
void neomm_cpu_write_cr4(uintptr_t value);
uint64_t neomm_cpu_read_msr(uint32_t msr);
void neomm_cpu_write_msr(uint32_t msr, uint64_t value);
/* What neomm_cpu_invpcid forgets, of TLB and paging-structure caches alike. */
enum neomm_invpcid {
    NEOMM_INVPCID_ADDRESS,        /* for one address under `pcid`, but what is global */
    NEOMM_INVPCID_CONTEXT,        /* under `pcid`, but what is global */
    NEOMM_INVPCID_ALL_AND_GLOBAL, /* everything */
    NEOMM_INVPCID_ALL             /* under every PCID, but what is global */
};
/* INVPCID, for CPUs that have it (CPUID leaf 7, EBX bit 10). pcid: below 4096, and 0 unless
 * CR4.PCIDE; vaddr: canonical, used by NEOMM_INVPCID_ADDRESS alone. */
void neomm_cpu_invpcid(enum neomm_invpcid type, uint32_t pcid, neomm_vaddr_t vaddr);
/* CPUID: out[0..3] = eax, ebx, ecx, edx. */
void neomm_cpu_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* Writes what this CPU's caches hold of [pointer, pointer + size) back and forgets it: the next
 * read comes from memory. */
void neomm_cpu_flush_cache(const void *pointer, size_t size);

/* Copies between a C pointer and user addresses through the loaded tables, with the rights of
 * the user (SMAP opened for the copy). Returns the bytes NOT done: 0 is success; on a fault that
 * the fault handler could not resolve, what remains. The caller has checked the range against
 * the user limit. */
size_t neomm_cpu_user_copy(neomm_vaddr_t user, void *kernel, size_t bytes, bool to_user);

/* Atomic compare-exchange of a 4-byte aligned user word: on success *expected is unchanged and
 * NEOMM_OK; NEOMM_E_AGAIN with the value seen in *expected; NEOMM_E_FAULT. */
neomm_status neomm_cpu_user_cas(neomm_vaddr_t user, uint32_t *expected, uint32_t desired);

/* Length of the string at `user`, looking at no more than `limit` bytes: *length <= limit, equal
 * where no NUL was seen. NEOMM_OK or NEOMM_E_FAULT. */
neomm_status neomm_cpu_user_strlen(neomm_vaddr_t user, size_t limit, size_t *length);

/* The fix-up table: the instructions of the three functions above that may fault on a user
 * address. A kernel's page-fault handler, when neomm_fault did not resolve a fault in kernel
 * mode, asks for the saved instruction pointer: if the answer is not 0, it stores that as the
 * new instruction pointer and returns; the function then reports the fault to its caller.
 * Everything else in kernel mode is a bug of the kernel. The registers and EFLAGS (AC, too) are
 * restored as saved. Any context. Only in src/arch/ARCH/cpu.c, not in the simulated machine.
 *
 * The table is the section neomm_fixups, which a linker script must keep: pairs of addresses
 * {instruction, where to go on}, machine words, bounded by the symbols __start_neomm_fixups and
 * __stop_neomm_fixups, which GNU ld and lld make themselves when the section's name stays as it
 * is. */
uintptr_t neomm_cpu_fixup(uintptr_t instruction);

NEOMM_EXTERN_C_END

#endif
