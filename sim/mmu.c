/* The MMU of the simulated CPUs as the machine uses it: translations, and what writing a control
 * register does to the TLB.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.10.4.1 (what invalidates), 4.4.1 (PDPTE registers), 3.3.7.1
 * (canonical addresses).
 */
#include "tlb.h"

#include <neomm/cpu.h>

#include <string.h>

/* CR0.NW and CR0.CD: changing them reloads the PDPTE registers. */
#define CR0_CACHING ((uintptr_t)3 << 29)

static struct sim_tlb *tlb_of(const struct sim_cpu *cpu)
{
    return &cpu->sim->mmu->tlb[cpu->index];
}

static bool paging_on(const struct sim_cpu *cpu)
{
    return cpu->cr0 & NEOMM_CR0_PG;
}

/* Bits 63 to 47, or to 56 with 5 levels, are equal; addresses of the older formats have 32. */
bool sim_canonical(const struct sim *sim, neomm_vaddr_t vaddr)
{
    if (sim->options.format <= NEOMM_FORMAT_PAE)
        return (uint64_t)vaddr >> 32 == 0;
    unsigned top = sim_level_shift(sim, sim_levels(sim)) + 8;
    uint64_t high = (uint64_t)vaddr >> top;
    return high == 0 || high == UINT64_MAX >> top;
}

/* ---- translations ---- */

static struct sim_cached *find_leaf(struct sim *sim, struct sim_tlb *tlb, neomm_vaddr_t vaddr)
{
    for (unsigned level = 1; level <= 3; level++) {
        struct sim_cached *cached =
            sim_tlb_find(tlb, sim_tlb_leaf_class(level), sim_level_shift(sim, level), vaddr);
        if (cached)
            return cached;
    }
    return NULL;
}

/* A page may be there twice, global and not. */
static void drop_page(struct sim *sim, struct sim_tlb *tlb, neomm_vaddr_t vaddr)
{
    for (struct sim_cached *cached; (cached = find_leaf(sim, tlb, vaddr)) != NULL;)
        sim_tlb_drop(sim, cached);
}

static void drop_tables(struct sim *sim, struct sim_tlb *tlb, neomm_vaddr_t vaddr)
{
    for (unsigned level = 2; level <= sim_levels(sim); level++) {
        struct sim_cached *cached;
        while ((cached = sim_tlb_find(tlb, sim_tlb_table_class(level), sim_level_shift(sim, level),
                                      vaddr)) != NULL &&
               cached->list != SIM_TLB_REGISTERS)
            sim_tlb_drop(sim, cached);
    }
}

/* A page fault invalidates what it rested on, so that it does not come again if only a cached
 * entry was to blame. */
static void faulted(struct sim *sim, struct sim_tlb *tlb, neomm_vaddr_t vaddr)
{
    tlb->faults++;
    drop_page(sim, tlb, vaddr);
    drop_tables(sim, tlb, vaddr);
}

/* A cached entry of the user's that forbids the access is believed, even where the tables allow
 * it by now: the spurious fault that the manual warns of (4.10.4.3). One of the kernel's is walked
 * again, as other processors do, so that a kernel meets no faults in its own memory. The first
 * write through a clean entry walks again too, but on a whim. */
static struct sim_cached *translate(struct sim *sim, struct sim_cpu *cpu, neomm_vaddr_t vaddr,
                                    enum sim_access access, bool user, uint32_t *error)
{
    struct sim_tlb *tlb = tlb_of(cpu);
    struct sim_cached *cached = find_leaf(sim, tlb, vaddr);
    if (cached) {
        if (sim_check_suspects(cached))
            sim_check_used(sim, cached, vaddr, access, user);
        bool allowed = sim_access_allowed(cpu, cached->rights, access, user);
        bool write = access == SIM_WRITE && !cached->dirty;
        if (!allowed && (cached->rights & SIM_RIGHT_USER)) {
            *error = sim_fault_code(cpu, access, user, NEOMM_PF_PRESENT);
            faulted(sim, tlb, vaddr);
            return NULL;
        }
        if (allowed && (!write || sim_whim_dirty(sim, cached))) {
            tlb->hits++;
            return cached;
        }
        if (!allowed)
            drop_tables(sim, tlb, vaddr);
        drop_page(sim, tlb, vaddr);
    }
    cached = sim_walk(sim, cpu, vaddr, access, user, error);
    if (cached)
        tlb->walks++;
    else
        faulted(sim, tlb, vaddr);
    return cached;
}

/* Opens the fast path to one page of an entry, for every access that needs no further look. */
static void open_page(const struct sim_cpu *cpu, const struct sim_cached *cached, bool user,
                      neomm_vaddr_t vaddr, uint8_t *host)
{
    struct sim_front *front = sim_front_slot(tlb_of(cpu), sim_front_set(cpu, user), vaddr);
    front->host = host - (vaddr & (NEOMM_PAGE_SIZE - 1));
    for (unsigned access = 0; access < SIM_ACCESSES; access++) {
        bool open = sim_access_allowed(cpu, cached->rights, (enum sim_access)access, user) &&
                    (access != SIM_WRITE || cached->dirty);
        __atomic_store_n(&front->tag[access], open ? sim_front_tag(vaddr) : 0, __ATOMIC_RELAXED);
    }
}

static bool locate(struct sim *sim, neomm_vaddr_t vaddr, enum sim_access access, bool user,
                   neomm_paddr_t *paddr, uint8_t **host, uint32_t *error)
{
    struct sim_cpu *cpu = sim_this_cpu();
    *error = SIM_ERROR_NO_PAGE_FAULT;
    sim_whim_here(sim);
    if (!paging_on(cpu)) {
        tlb_of(cpu)->walks++;
        *paddr = vaddr;
        *host = sim_pointer(sim, *paddr);
        return true;
    }
    if (!sim_canonical(sim, vaddr)) {
        tlb_of(cpu)->faults++;
        return false;
    }
    const struct sim_cached *cached = translate(sim, cpu, vaddr, access, user, error);
    if (!cached)
        return false;
    *paddr = cached->paddr + (vaddr - cached->base);
    *host = sim_pointer(sim, *paddr);
    if (*host && !sim_check_suspects(cached))
        open_page(cpu, cached, user, vaddr, *host);
    return true;
}

bool sim_translate(struct sim *sim, neomm_vaddr_t vaddr, enum sim_access access, bool user,
                   neomm_paddr_t *paddr, uint32_t *error)
{
    uint8_t *host;
    sim_lock(sim);
    bool translated = locate(sim, vaddr, access, user, paddr, &host, error);
    sim_unlock(sim);
    return translated;
}

void sim_speculate(struct sim *sim, neomm_vaddr_t vaddr, bool user)
{
    struct sim_cpu *cpu = sim_this_cpu();
    uint32_t error;
    sim_lock(sim);
    if (paging_on(cpu) && sim_canonical(sim, vaddr) && !find_leaf(sim, tlb_of(cpu), vaddr))
        (void)sim_walk(sim, cpu, vaddr, SIM_READ, user, &error);
    sim_unlock(sim);
}

void *sim_reference(struct sim *sim, neomm_vaddr_t vaddr, enum sim_access access, bool user,
                    uint32_t *error)
{
    const struct sim_cpu *cpu = sim_this_cpu();
    struct sim_tlb *tlb = tlb_of(cpu);
    const struct sim_front *front = sim_front_slot(tlb, sim_front_set(cpu, user), vaddr);
    if (__atomic_load_n(&front->tag[access], __ATOMIC_RELAXED) == sim_front_tag(vaddr)) {
        tlb->hits++;
        return front->host + (vaddr & (NEOMM_PAGE_SIZE - 1));
    }
    neomm_paddr_t paddr;
    uint8_t *host = NULL;
    sim_lock(sim);
    bool translated = locate(sim, vaddr, access, user, &paddr, &host, error);
    sim_unlock(sim);
    if (translated && !host)
        *error = SIM_ERROR_NO_PAGE_FAULT;
    return translated ? host : NULL;
}

void sim_tlb_stats(const struct sim *sim, struct sim_tlb_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    for (uint32_t cpu = 0; cpu < sim->options.cpus; cpu++) {
        const struct sim_tlb *tlb = &sim->mmu->tlb[cpu];
        stats->hits += tlb->hits;
        stats->walks += tlb->walks;
        stats->faults += tlb->faults;
        stats->invalidations += tlb->invalidations;
        stats->full_flushes += tlb->full_flushes;
    }
}

/* ---- invalidations ---- */

void sim_tlb_invlpg(struct sim_cpu *cpu, neomm_vaddr_t vaddr)
{
    struct sim *sim = cpu->sim;
    sim_lock(sim);
    tlb_of(cpu)->invalidations++;
    if (sim_canonical(sim, vaddr)) {
        drop_page(sim, tlb_of(cpu), vaddr);
        sim_tlb_drop_pcid(sim, tlb_of(cpu), SIM_TLB_TABLES, tlb_of(cpu)->pcid);
        sim_window_forget(sim, vaddr & ~(neomm_vaddr_t)(NEOMM_PAGE_SIZE - 1), NEOMM_PAGE_SIZE);
    }
    sim_whim_here(sim);
    sim_unlock(sim);
}

/* Everything of one PCID but what is global. */
static void drop_pcid(struct sim_cpu *cpu, uint32_t pcid)
{
    sim_tlb_drop_pcid(cpu->sim, tlb_of(cpu), SIM_TLB_LOCAL, pcid);
    sim_tlb_drop_pcid(cpu->sim, tlb_of(cpu), SIM_TLB_TABLES, pcid);
    tlb_of(cpu)->full_flushes++;
}

static void drop_pcids(struct sim_cpu *cpu)
{
    sim_tlb_drop_list(cpu->sim, tlb_of(cpu), SIM_TLB_LOCAL);
    sim_tlb_drop_list(cpu->sim, tlb_of(cpu), SIM_TLB_TABLES);
    tlb_of(cpu)->full_flushes++;
}

static void drop_all(struct sim_cpu *cpu)
{
    drop_pcids(cpu);
    sim_tlb_drop_list(cpu->sim, tlb_of(cpu), SIM_TLB_GLOBAL);
    sim_window_forget_all(cpu->sim);
}

/* What would be used to translate one address under that PCID, but what is global; of the upper
 * levels too the entries for this address alone. */
static void drop_address(struct sim_cpu *cpu, uint32_t pcid, neomm_vaddr_t vaddr)
{
    struct sim *sim = cpu->sim;
    struct sim_tlb *tlb = tlb_of(cpu);
    for (unsigned level = 1; level <= sim_levels(sim); level++) {
        unsigned shift = sim_level_shift(sim, level);
        struct sim_cached *cached;
        while (level <= 3 && (cached = sim_tlb_find_local(tlb, sim_tlb_leaf_class(level), shift,
                                                          vaddr, pcid)) != NULL)
            sim_tlb_drop(sim, cached);
        while (level >= 2 &&
               (cached = sim_tlb_find_local(tlb, sim_tlb_table_class(level), shift, vaddr, pcid)) !=
                   NULL &&
               cached->list != SIM_TLB_REGISTERS)
            sim_tlb_drop(sim, cached);
    }
}

/* Rights that the fast path and pointers into the window were opened with are other ones now. */
static void rights_changed(struct sim_cpu *cpu)
{
    sim_tlb_close_all(tlb_of(cpu));
    sim_window_forget_all(cpu->sim);
}

/* Loads the PDPTE registers where this write does so. */
static void load_pdptes(struct sim_cpu *cpu)
{
    struct sim *sim = cpu->sim;
    unsigned index;
    if (sim->options.format != NEOMM_FORMAT_PAE || !paging_on(cpu))
        return;
    if (!sim_pdptes_read(sim, cpu, &index)) {
        sim_violation(sim, "#GP: CPU %u loads CR3 %#llx, whose PDPTE %u has reserved bits set",
                      cpu->index, (unsigned long long)cpu->cr3, index);
        return;
    }
    sim_tlb_drop_list(sim, tlb_of(cpu), SIM_TLB_REGISTERS);
    sim_pdptes_cache(sim, cpu);
}

void sim_tlb_cr0_written(struct sim_cpu *cpu, uintptr_t before)
{
    uintptr_t changed = before ^ cpu->cr0;
    sim_lock(cpu->sim);
    if ((changed & NEOMM_CR0_PG) && !paging_on(cpu)) {
        drop_all(cpu);
        sim_tlb_drop_list(cpu->sim, tlb_of(cpu), SIM_TLB_REGISTERS);
    }
    if (changed & (NEOMM_CR0_WP | NEOMM_CR0_PG))
        rights_changed(cpu);
    if (changed & (NEOMM_CR0_PG | CR0_CACHING))
        load_pdptes(cpu);
    sim_reach_loaded(cpu->sim, cpu);
    sim_unlock(cpu->sim);
}

/* The PCID in CR3 is the current one. The fast path and the windows know no PCIDs. */
static void take_pcid(struct sim_cpu *cpu)
{
    uint32_t pcid = cpu->cr4 & NEOMM_CR4_PCIDE ? (uint32_t)cpu->cr3 & NEOMM_CR3_PCID : 0;
    if (pcid == tlb_of(cpu)->pcid)
        return;
    tlb_of(cpu)->pcid = pcid;
    rights_changed(cpu);
}

void sim_tlb_cr3_written(struct sim_cpu *cpu, bool keep)
{
    sim_lock(cpu->sim);
    take_pcid(cpu);
    if (!keep)
        drop_pcid(cpu, tlb_of(cpu)->pcid);
    else
        sim_check_resumed(cpu->sim, tlb_of(cpu));
    load_pdptes(cpu);
    sim_reach_loaded(cpu->sim, cpu);
    sim_whim_here(cpu->sim);
    sim_unlock(cpu->sim);
}

void sim_tlb_cr3_leaves(struct sim_cpu *cpu)
{
    if (cpu->cr4 & NEOMM_CR4_PCIDE)
        sim_reach_leaves(cpu->sim, cpu);
}

void sim_tlb_invpcid(struct sim_cpu *cpu, enum neomm_invpcid type, uint32_t pcid,
                     neomm_vaddr_t vaddr)
{
    sim_lock(cpu->sim);
    switch (type) {
    case NEOMM_INVPCID_ADDRESS:
        tlb_of(cpu)->invalidations++;
        drop_address(cpu, pcid, vaddr);
        break;
    case NEOMM_INVPCID_CONTEXT:
        drop_pcid(cpu, pcid);
        break;
    case NEOMM_INVPCID_ALL_AND_GLOBAL:
        drop_all(cpu);
        break;
    case NEOMM_INVPCID_ALL:
        drop_pcids(cpu);
        break;
    }
    sim_unlock(cpu->sim);
}

void sim_tlb_cr4_written(struct sim_cpu *cpu, uintptr_t before)
{
    const uintptr_t all = NEOMM_CR4_PGE | NEOMM_CR4_PAE | NEOMM_CR4_PSE | NEOMM_CR4_LA57;
    const uintptr_t registers = NEOMM_CR4_PGE | NEOMM_CR4_PAE | NEOMM_CR4_PSE | NEOMM_CR4_SMEP;
    uintptr_t changed = before ^ cpu->cr4;
    sim_lock(cpu->sim);
    if ((changed & all) || (changed & before & NEOMM_CR4_PCIDE))
        drop_all(cpu);
    else if (changed & cpu->cr4 & NEOMM_CR4_SMEP)
        drop_pcid(cpu, tlb_of(cpu)->pcid);
    take_pcid(cpu);
    if (changed & (NEOMM_CR4_SMEP | NEOMM_CR4_SMAP))
        rights_changed(cpu);
    if (changed & registers)
        load_pdptes(cpu);
    sim_unlock(cpu->sim);
}

void sim_tlb_efer_written(struct sim_cpu *cpu, uint64_t before)
{
    sim_lock(cpu->sim);
    if ((before ^ cpu->efer) & NEOMM_EFER_NXE)
        rights_changed(cpu);
    sim_unlock(cpu->sim);
}

void sim_mmu_reset(struct sim *sim)
{
    sim_lock(sim);
    for (uint32_t i = 0; i < sim->options.cpus; i++) {
        struct sim_cpu *cpu = &sim->cpu[i];
        for (unsigned list = 0; list < SIM_TLB_LISTS; list++)
            sim_tlb_drop_list(sim, tlb_of(cpu), (enum sim_tlb_list)list);
        rights_changed(cpu);
        take_pcid(cpu);
        if (sim->options.format == NEOMM_FORMAT_PAE && paging_on(cpu))
            sim_pdptes_cache(sim, cpu);
    }
    sim_reach_reset(sim);
    sim_unlock(sim);
}
