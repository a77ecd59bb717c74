/* What the architecture leaves to the processor, chosen by the machine's seed: walks that nobody
 * asked for, entries dropped for no reason, D set by a right that is just being withdrawn.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.8, 4.10.2.3, 4.10.4.1. Everything runs with the machine's lock
 * held but sim_whim, which takes it.
 */
#include "tlb.h"

#if NEOMM_INSTRUMENTED

/* Buckets that are looked into for an entry to drop. */
#define DROP_TRIES 64u

/* splitmix64; apart from the port's entropy, which must not depend on how often there is an
 * occasion for a whim. */
static uint64_t next_random(struct sim *sim)
{
    uint64_t x = sim->mmu->whims.random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static bool occasion(struct sim *sim)
{
    return sim->options.whims != 0 && next_random(sim) % sim->options.whims == 0;
}

static struct sim_cpu *some_cpu(struct sim *sim)
{
    return &sim->cpu[next_random(sim) % sim->options.cpus];
}

/* What is due stays, so that it can be found out. */
static void drop_some(struct sim *sim)
{
    struct sim_tlb *tlb = &sim->mmu->tlb[some_cpu(sim)->index];
    uint64_t mask = ((uint64_t)1 << tlb->bucket_bits) - 1, first = next_random(sim);
    for (uint64_t i = 0; i < DROP_TRIES; i++) {
        struct sim_cached *cached = tlb->bucket[(first + i) & mask];
        if (!cached || cached->list == SIM_TLB_REGISTERS || sim_check_suspects(cached))
            continue;
        sim->mmu->whims.drops++;
        sim_tlb_drop(sim, cached);
        return;
    }
}

void sim_whim(struct sim *sim)
{
    sim_lock(sim);
    if (occasion(sim)) {
        if (next_random(sim) % 4 == 0)
            drop_some(sim);
        else
            sim->mmu->whims.walks += sim_reach_walk_some(sim, some_cpu(sim), next_random(sim));
    }
    sim_unlock(sim);
}

void sim_whim_stored(struct sim *sim, neomm_paddr_t entry, uint64_t after)
{
    if (!(after & SIM_ENTRY_P))
        return;
    for (uint32_t i = 0; i < sim->options.cpus; i++)
        if (occasion(sim))
            sim->mmu->whims.walks += sim_reach_walk(sim, &sim->cpu[i], entry);
}

/* The processor need not look at the entry again to see whether it may still be written. */
bool sim_whim_dirty(struct sim *sim, struct sim_cached *cached)
{
    struct sim_path *path = &cached->origin.path;
    struct sim_step *leaf = &path->step[path->count - 1];
    const struct sim_cpu *cpu = &sim->cpu[cached->cpu];
    unsigned level = sim_levels(sim) - (path->count - 1);
    if (!occasion(sim))
        return false;
    uint64_t now = sim_entry_read(sim, leaf->entry);
    if (!(now & SIM_ENTRY_P) || !sim_entry_is_leaf(cpu, level, now) ||
        sim_entry_target(cpu, level, now) != sim_entry_target(cpu, level, leaf->value) ||
        !sim_entry_exchange(sim, leaf->entry, now, now | SIM_ENTRY_A | SIM_ENTRY_D))
        return false;
    leaf->value |= SIM_ENTRY_D;
    cached->dirty = true;
    sim->mmu->whims.writes++;
    return true;
}

#endif
