/* The store of the simulated TLBs: a hash table for each CPU, lists by what drops together, and
 * the fast path in front.
 * SPDX-License-Identifier: MIT */
#include "tlb.h"

#include <stdlib.h>

#define BUCKET_BITS_MIN 8u
#define CHUNK_ENTRIES   256u

/* Entries are allocated by the chunk and go back to a list of unused ones. */
struct sim_cached_chunk {
    struct sim_cached_chunk *next;
    struct sim_cached entry[CHUNK_ENTRIES];
};

static neomm_vaddr_t region_base(neomm_vaddr_t vaddr, unsigned shift)
{
    return (neomm_vaddr_t)((uint64_t)vaddr >> shift << shift);
}

static struct sim_cached **bucket_of(const struct sim_tlb *tlb, unsigned tlb_class,
                                     neomm_vaddr_t base)
{
    uint64_t key = ((uint64_t)base >> NEOMM_PAGE_SHIFT) * SIM_TLB_CLASSES + tlb_class;
    return &tlb->bucket[key * 0x9e3779b97f4a7c15u >> (64 - tlb->bucket_bits)];
}

struct sim_cached *sim_tlb_find(struct sim_tlb *tlb, enum sim_tlb_class tlb_class, unsigned shift,
                                neomm_vaddr_t vaddr)
{
    if (tlb->count_of[tlb_class] == 0)
        return NULL;
    neomm_vaddr_t base = region_base(vaddr, shift);
    struct sim_cached *cached = *bucket_of(tlb, tlb_class, base);
    while (cached && (cached->base != base || cached->tlb_class != tlb_class ||
                      (cached->pcid != tlb->pcid && cached->list != SIM_TLB_GLOBAL)))
        cached = cached->bucket_next;
    return cached;
}

struct sim_cached *sim_tlb_find_local(struct sim_tlb *tlb, enum sim_tlb_class tlb_class,
                                      unsigned shift, neomm_vaddr_t vaddr, uint32_t pcid)
{
    neomm_vaddr_t base = region_base(vaddr, shift);
    struct sim_cached *cached = *bucket_of(tlb, tlb_class, base);
    while (cached && (cached->base != base || cached->tlb_class != tlb_class ||
                      cached->pcid != pcid || cached->list == SIM_TLB_GLOBAL))
        cached = cached->bucket_next;
    return cached;
}

/* ---- the fast path ---- */

static void close_page(struct sim_tlb *tlb, neomm_vaddr_t vaddr)
{
    uintptr_t tag = sim_front_tag(vaddr);
    for (unsigned set = 0; set < SIM_FRONT_SETS; set++) {
        struct sim_front *front = sim_front_slot(tlb, set, vaddr);
        for (unsigned access = 0; access < SIM_ACCESSES; access++)
            if (__atomic_load_n(&front->tag[access], __ATOMIC_RELAXED) == tag)
                __atomic_store_n(&front->tag[access], 0, __ATOMIC_RELAXED);
    }
}

void sim_tlb_close(struct sim *sim, struct sim_cached *cached)
{
    struct sim_tlb *tlb = &sim->mmu->tlb[cached->cpu];
    if (sim_cached_is_table(cached))
        return;
    size_t size = (size_t)1 << cached->shift;
    if (size >> NEOMM_PAGE_SHIFT > SIM_FRONT_SLOTS)
        sim_tlb_close_all(tlb);
    else
        for (size_t at = 0; at < size; at += NEOMM_PAGE_SIZE)
            close_page(tlb, cached->base + at);
    if (!(cached->rights & SIM_RIGHT_USER))
        sim_window_forget(sim, cached->base, size);
}

void sim_tlb_close_all(struct sim_tlb *tlb)
{
    for (unsigned set = 0; set < SIM_FRONT_SETS; set++)
        for (unsigned slot = 0; slot < SIM_FRONT_SLOTS; slot++)
            for (unsigned access = 0; access < SIM_ACCESSES; access++)
                __atomic_store_n(&tlb->front[set][slot].tag[access], 0, __ATOMIC_RELAXED);
}

/* ---- entries ---- */

static struct sim_cached *entry_take(struct sim *sim)
{
    struct sim_mmu *mmu = sim->mmu;
    if (!mmu->unused) {
        struct sim_cached_chunk *chunk = calloc(1, sizeof(*chunk));
        if (!chunk)
            sim_crash(sim, false, "the host has no memory for TLB entries");
        chunk->next = mmu->chunks;
        mmu->chunks = chunk;
        for (unsigned i = 0; i < CHUNK_ENTRIES; i++) {
            chunk->entry[i].next = mmu->unused;
            mmu->unused = &chunk->entry[i];
        }
    }
    struct sim_cached *cached = mmu->unused;
    mmu->unused = cached->next;
    return cached;
}

/* Doubles the buckets; without memory for that the chains grow longer instead. */
static void buckets_grow(struct sim_tlb *tlb)
{
    struct sim_cached **old = tlb->bucket;
    size_t old_count = (size_t)1 << tlb->bucket_bits;
    struct sim_cached **bucket = calloc(old_count * 2, sizeof(*bucket));
    if (!bucket)
        return;
    tlb->bucket = bucket;
    tlb->bucket_bits++;
    for (size_t i = 0; i < old_count; i++)
        for (struct sim_cached *cached = old[i], *next; cached; cached = next) {
            struct sim_cached **head = bucket_of(tlb, cached->tlb_class, cached->base);
            next = cached->bucket_next;
            cached->bucket_next = *head;
            *head = cached;
        }
    free(old);
}

struct sim_cached *sim_tlb_insert(struct sim *sim, struct sim_tlb *tlb,
                                  const struct sim_cached *like)
{
    if (tlb->count >> tlb->bucket_bits != 0)
        buckets_grow(tlb);
    struct sim_cached *cached = entry_take(sim);
    cached->base = region_base(like->base, like->shift);
    cached->paddr = like->paddr;
    cached->cpu = like->cpu;
    cached->pcid = (uint16_t)tlb->pcid;
    cached->tlb_class = like->tlb_class;
    cached->shift = like->shift;
    cached->rights = like->rights;
    cached->list = like->list;
    cached->dirty = like->dirty;

    struct sim_cached **tail = bucket_of(tlb, cached->tlb_class, cached->base);
    while (*tail)
        tail = &(*tail)->bucket_next;
    *tail = cached;
    cached->bucket_next = NULL;
    cached->previous = NULL;
    cached->next = tlb->list[cached->list];
    if (cached->next)
        cached->next->previous = cached;
    tlb->list[cached->list] = cached;
    tlb->count++;
    tlb->count_of[cached->tlb_class]++;
    return cached;
}

void sim_tlb_drop(struct sim *sim, struct sim_cached *cached)
{
    struct sim_tlb *tlb = &sim->mmu->tlb[cached->cpu];
    sim_tlb_close(sim, cached);
    sim_check_dropped(sim, cached);

    struct sim_cached **at = bucket_of(tlb, cached->tlb_class, cached->base);
    while (*at != cached)
        at = &(*at)->bucket_next;
    *at = cached->bucket_next;
    if (cached->previous)
        cached->previous->next = cached->next;
    else
        tlb->list[cached->list] = cached->next;
    if (cached->next)
        cached->next->previous = cached->previous;
    tlb->count--;
    tlb->count_of[cached->tlb_class]--;
    cached->next = sim->mmu->unused;
    sim->mmu->unused = cached;
}

void sim_tlb_drop_list(struct sim *sim, struct sim_tlb *tlb, enum sim_tlb_list list)
{
    while (tlb->list[list])
        sim_tlb_drop(sim, tlb->list[list]);
}

void sim_tlb_drop_pcid(struct sim *sim, struct sim_tlb *tlb, enum sim_tlb_list list, uint32_t pcid)
{
    for (struct sim_cached *cached = tlb->list[list], *next; cached; cached = next) {
        next = cached->next;
        if (cached->pcid == pcid)
            sim_tlb_drop(sim, cached);
    }
}

/* ---- life ---- */

static bool tlb_create(struct sim_tlb *tlb)
{
    tlb->bucket_bits = BUCKET_BITS_MIN;
    tlb->bucket = calloc((size_t)1 << BUCKET_BITS_MIN, sizeof(*tlb->bucket));
    return tlb->bucket != NULL;
}

bool sim_mmu_create(struct sim *sim)
{
    sim->mmu = calloc(1, sizeof(*sim->mmu));
    if (!sim->mmu)
        return false;
    sim->mmu->tlb = calloc(sim->options.cpus, sizeof(*sim->mmu->tlb));
    bool made = sim->mmu->tlb && sim_check_create(sim) && sim_reach_create(sim);
    sim->mmu->whims.random = sim->options.seed;
    for (uint32_t cpu = 0; made && cpu < sim->options.cpus; cpu++)
        made = tlb_create(&sim->mmu->tlb[cpu]);
    if (!made)
        sim_mmu_destroy(sim);
    return made;
}

void sim_mmu_destroy(struct sim *sim)
{
    struct sim_mmu *mmu = sim->mmu;
    if (!mmu)
        return;
    sim_check_destroy(sim);
    sim_reach_destroy(sim);
    for (uint32_t cpu = 0; mmu->tlb && cpu < sim->options.cpus; cpu++)
        free(mmu->tlb[cpu].bucket);
    for (struct sim_cached_chunk *chunk = mmu->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(mmu->tlb);
    free(mmu);
    sim->mmu = NULL;
}
