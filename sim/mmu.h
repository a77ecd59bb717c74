/* The fast path of a reference: one array look-up in front of the simulated TLB.
 * SPDX-License-Identifier: MIT
 *
 * A CPU's TLB (tlb.h) keeps every translation; in front of it lies a direct-mapped array of host
 * pointers. A slot holds a tag for each kind of access: the page's address with bit 0 set, or 0
 * where that access must go the long way (no entry, no right, not dirty yet, under suspicion).
 * There is an array for each set of rights a CPU can have:
 *
 *   set 0  supervisor      set 1  user      set 2  supervisor with EFLAGS.AC
 */
#ifndef NEOMM_SIM_MMU_H
#define NEOMM_SIM_MMU_H

#include "machine.h"

#define SIM_FRONT_SLOTS 8192u
#define SIM_FRONT_SETS  3u
#define SIM_ACCESSES    3u /* enum sim_access */

/* The error code of an access that is no page fault: an address that is not canonical (#GP), or
 * a page without RAM behind it. */
#define SIM_ERROR_NO_PAGE_FAULT (~(uint32_t)0)

struct sim_front {
    uintptr_t tag[SIM_ACCESSES];
    uint8_t *host; /* the page's first byte */
};

struct sim_cached;

/* What a translation was made of, from the top table down. */
#define SIM_LEVELS_MAX 5u

enum sim_tlb_list {
    SIM_TLB_LOCAL, /* translations of one PCID */
    SIM_TLB_GLOBAL,
    SIM_TLB_TABLES,    /* paging-structure caches, of one PCID each */
    SIM_TLB_REGISTERS, /* the PDPTE registers of PAE */
    SIM_TLB_LISTS
};

#define SIM_TLB_CLASSES 8u /* of entries by what they cover, see tlb.h */

/* The TLB of one CPU. Owned by the CPU's thread; others only clear tags and, holding the
 * machine's lock, drop entries. */
struct sim_tlb {
    uint64_t hits, walks, faults;
    uint64_t invalidations, full_flushes;
    struct sim_cached **bucket;
    uint32_t bucket_bits;
    uint32_t pcid; /* that the CPU goes by now; 0 without CR4.PCIDE */
    uint32_t count;
    uint32_t count_of[SIM_TLB_CLASSES];
    struct sim_cached *list[SIM_TLB_LISTS];
    struct sim_front front[SIM_FRONT_SETS][SIM_FRONT_SLOTS];
};

/* What was done on a whim, and where the next one comes from. */
struct sim_whims {
    uint64_t random;
    uint64_t walks, drops, writes;
};

struct sim_mmu {
    struct sim_tlb *tlb; /* a CPU each */
    struct sim_cached *unused;
    struct sim_cached_chunk *chunks;
    /* Instrumented flavour. */
    struct sim_tlb_check *check;
    struct sim_reach *reach;
    struct sim_whims whims;
};

static inline unsigned sim_front_set(const struct sim_cpu *cpu, bool user)
{
    return user ? 1u : cpu->access_open ? 2u : 0u;
}

static inline struct sim_front *sim_front_slot(struct sim_tlb *tlb, unsigned set,
                                               neomm_vaddr_t vaddr)
{
    return &tlb->front[set][vaddr >> NEOMM_PAGE_SHIFT & (SIM_FRONT_SLOTS - 1)];
}

static inline uintptr_t sim_front_tag(neomm_vaddr_t vaddr)
{
    return (vaddr & ~(neomm_vaddr_t)(NEOMM_PAGE_SIZE - 1)) | 1u;
}

/* sim_reference where it matters. */
static inline void *sim_reference_inline(struct sim *sim, neomm_vaddr_t vaddr,
                                         enum sim_access access, bool user, uint32_t *error)
{
    const struct sim_cpu *cpu = sim_this_cpu();
    struct sim_tlb *tlb = &sim->mmu->tlb[cpu->index];
    struct sim_front *front = sim_front_slot(tlb, sim_front_set(cpu, user), vaddr);
    if (__builtin_expect(
            __atomic_load_n(&front->tag[access], __ATOMIC_RELAXED) == sim_front_tag(vaddr), 1)) {
        tlb->hits++;
        return front->host + (vaddr & (NEOMM_PAGE_SIZE - 1));
    }
    return sim_reference(sim, vaddr, access, user, error);
}

#endif
