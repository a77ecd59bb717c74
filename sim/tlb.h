/* The simulated TLBs and paging-structure caches, private to sim/mmu*.c and sim/tlb*.c.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel SDM volume 3A, 4.10. Every entry stays until an instruction invalidates it, the
 * longest that the architecture allows, but for those that sim_options.whims drops.
 */
#ifndef NEOMM_SIM_TLB_H
#define NEOMM_SIM_TLB_H

#include "mmu.h"

/* Rights of a translation: those of all its entries taken together. */
#define SIM_RIGHT_WRITE  0x1u /* R/W set in every entry */
#define SIM_RIGHT_USER   0x2u /* U/S set in every entry */
#define SIM_RIGHT_NOEXEC 0x4u /* XD set in any entry */

/* What an entry covers. Tables: the entry of that level was cached. */
enum sim_tlb_class {
    SIM_TLB_4K,
    SIM_TLB_LARGE, /* 2M, or 4M in the 2-level format */
    SIM_TLB_1G,
    SIM_TLB_TABLE2, /* PDE cache */
    SIM_TLB_TABLE3, /* PDPTE cache, or a PDPTE register */
    SIM_TLB_TABLE4,
    SIM_TLB_TABLE5
};

static inline enum sim_tlb_class sim_tlb_leaf_class(unsigned level)
{
    return (enum sim_tlb_class)(SIM_TLB_4K + (level - 1u));
}

static inline enum sim_tlb_class sim_tlb_table_class(unsigned level)
{
    return (enum sim_tlb_class)(SIM_TLB_TABLE2 + (level - 2u));
}

/* A paging-structure entry that a walk passed, as it was then. */
struct sim_step {
    neomm_paddr_t entry;
    uint64_t value;
};

/* The walk so far: what a translation rests on. */
struct sim_path {
    uint32_t count;
    struct sim_step step[SIM_LEVELS_MAX];
};

#if NEOMM_INSTRUMENTED
/* Membership of one cached entry in the list of all that rest on one thing (tlb_check.c). */
struct sim_link {
    struct sim_cached *cached;
    struct sim_source *source; /* NULL: not linked */
    struct sim_link *previous, *next;
};

/* Where a cached entry comes from and what became of that. */
struct sim_origin {
    struct sim_path path;
    struct sim_link step_link[SIM_LEVELS_MAX];
    struct sim_link frame_link; /* the frame it leads to */
    struct sim_link root_link;  /* a global entry: the root table it was filled through */
    uint64_t number;            /* of the access on its CPU */
    bool unasked;               /* there was no access */
    uint64_t clock;
    neomm_vaddr_t vaddr;
    enum sim_access access;
    bool user;
    /* The store that took something away; the entry is in the list of those due then. */
    bool due, reported, used;
    /* The flush was due while the CPU went by another PCID: done in time if it comes before this
     * one is loaded again. */
    bool late;
    enum neomm_flush_site late_site;
    uint32_t changed;    /* step */
    uint32_t changed_by; /* CPU */
    uint64_t before, after;
    const void *where; /* code that stored */
    struct sim_cached *due_previous, *due_next;
};
#endif

/* One TLB entry, or one of a paging-structure cache. */
struct sim_cached {
    neomm_vaddr_t base;  /* first address it covers */
    neomm_paddr_t paddr; /* first byte of the page, or of the next table */
    struct sim_cached *bucket_next;
    struct sim_cached *previous, *next; /* in list[] */
    uint32_t cpu;
    uint16_t pcid; /* under which it was filled; of no account to a global one */
    uint8_t tlb_class, shift, rights, list;
    bool dirty;
#if NEOMM_INSTRUMENTED
    struct sim_origin origin;
#endif
};

static inline bool sim_cached_is_table(const struct sim_cached *cached)
{
    return cached->tlb_class >= SIM_TLB_TABLE2;
}

/* ---- tlb.c: all with the machine's lock held ---- */

/* The entry of this class that covers vaddr for the CPU as it is now, global or of its PCID; the
 * oldest of several. NULL: none. */
struct sim_cached *sim_tlb_find(struct sim_tlb *tlb, enum sim_tlb_class tlb_class, unsigned shift,
                                neomm_vaddr_t vaddr);
/* The one of that PCID that is not global. */
struct sim_cached *sim_tlb_find_local(struct sim_tlb *tlb, enum sim_tlb_class tlb_class,
                                      unsigned shift, neomm_vaddr_t vaddr, uint32_t pcid);
/* A new entry of the current PCID, with base, paddr, cpu, class, shift, rights, list and dirty of
 * `like`. */
struct sim_cached *sim_tlb_insert(struct sim *sim, struct sim_tlb *tlb,
                                  const struct sim_cached *like);
void sim_tlb_drop(struct sim *sim, struct sim_cached *cached);
void sim_tlb_drop_list(struct sim *sim, struct sim_tlb *tlb, enum sim_tlb_list list);
/* Those of the list that are of this PCID. */
void sim_tlb_drop_pcid(struct sim *sim, struct sim_tlb *tlb, enum sim_tlb_list list, uint32_t pcid);
/* Closes the fast path to the entry's pages, and window pointers to them. */
void sim_tlb_close(struct sim *sim, struct sim_cached *cached);
/* Closes the fast path altogether: the CPU's rights have changed. */
void sim_tlb_close_all(struct sim_tlb *tlb);

/* ---- mmu_walk.c ---- */

/* Levels of the machine's format, 2 to 5. */
static inline unsigned sim_levels(const struct sim *sim)
{
    return 2u + (unsigned)sim->options.format;
}

/* Address bits below those that select an entry of this level. */
static inline unsigned sim_level_shift(const struct sim *sim, unsigned level)
{
    unsigned bits = sim->options.format == NEOMM_FORMAT_2LEVEL ? 10u : 9u;
    return NEOMM_PAGE_SHIFT + bits * (level - 1u);
}

/* MAXPHYADDR. */
static inline unsigned sim_physical_bits(const struct sim *sim)
{
    return sim->options.physical_bits;
}

/* May this access be made with the CPU's control registers as they are? (SDM 3A 4.6.1) */
bool sim_access_allowed(const struct sim_cpu *cpu, unsigned rights, enum sim_access access,
                        bool user);
/* The error code of a page fault; why: NEOMM_PF_PRESENT and NEOMM_PF_RESERVED. */
uint32_t sim_fault_code(const struct sim_cpu *cpu, enum sim_access access, bool user, uint32_t why);
/* Walks the tables for one access, sets A and D, and caches what it found. NULL: a fault, with
 * its error code in *error. */
struct sim_cached *sim_walk(struct sim *sim, struct sim_cpu *cpu, neomm_vaddr_t vaddr,
                            enum sim_access access, bool user, uint32_t *error);
/* Reads the four PDPTEs that CR3 points to into cpu->pdpte. False, with *index of the one to
 * blame and nothing read: a reserved bit is set. */
bool sim_pdptes_read(struct sim *sim, struct sim_cpu *cpu, unsigned *index);
/* Caches cpu->pdpte, as long as the registers hold them. */
void sim_pdptes_cache(struct sim *sim, struct sim_cpu *cpu);

/* A paging-structure entry in memory; a table outside RAM reads as all ones. */
uint64_t sim_entry_read(struct sim *sim, neomm_paddr_t entry);
/* Writes `after` if the entry is `before`, as processors set A and D. */
bool sim_entry_exchange(struct sim *sim, neomm_paddr_t entry, uint64_t before, uint64_t after);
/* Present, and without reserved bits. */
bool sim_entry_is_valid(const struct sim_cpu *cpu, unsigned level, uint64_t value);
bool sim_entry_is_leaf(const struct sim_cpu *cpu, unsigned level, uint64_t value);
/* The page of a leaf, or the next table. */
neomm_paddr_t sim_entry_target(const struct sim_cpu *cpu, unsigned level, uint64_t value);
/* The rights above an entry, narrowed by it. */
unsigned sim_entry_rights(const struct sim *sim, unsigned level, uint64_t value, unsigned above);

/* Bits of entries, the same in all formats. */
#define SIM_ENTRY_P    ((uint64_t)1 << 0)
#define SIM_ENTRY_RW   ((uint64_t)1 << 1)
#define SIM_ENTRY_US   ((uint64_t)1 << 2)
#define SIM_ENTRY_A    ((uint64_t)1 << 5)
#define SIM_ENTRY_D    ((uint64_t)1 << 6)
#define SIM_ENTRY_TYPE ((uint64_t)3 << 3) /* PWT, PCD */
#define SIM_ENTRY_PS   ((uint64_t)1 << 7)
#define SIM_ENTRY_G    ((uint64_t)1 << 8)
#define SIM_ENTRY_XD   ((uint64_t)1 << 63)

/* ---- tlb_check.c: nothing in the production flavour ---- */
#if NEOMM_INSTRUMENTED
bool sim_check_create(struct sim *sim);
void sim_check_destroy(struct sim *sim);
void sim_check_inserted(struct sim *sim, struct sim_cached *cached, const struct sim_path *path,
                        neomm_vaddr_t vaddr, enum sim_access access, bool user);
void sim_check_dropped(struct sim *sim, struct sim_cached *cached);
/* The same for an entry that no access asked for. */
void sim_check_unasked(struct sim *sim, struct sim_cached *cached, const struct sim_path *path,
                       neomm_vaddr_t vaddr);
/* Does the CPU hold such an entry, from that place in the tables? */
bool sim_check_holds(struct sim *sim, const struct sim_cached *like, uint32_t pcid,
                     neomm_paddr_t entry);
/* The CPU goes by an entry that it holds. */
void sim_check_used(struct sim *sim, struct sim_cached *cached, neomm_vaddr_t vaddr,
                    enum sim_access access, bool user);
/* The CPU goes by another PCID from now on, and has kept what it knew of that. */
void sim_check_resumed(struct sim *sim, const struct sim_tlb *tlb);
static inline bool sim_check_suspects(const struct sim_cached *cached)
{
    return cached->origin.due;
}
static inline void sim_check_path(const struct sim_cached *cached, struct sim_path *path)
{
    *path = cached->origin.path;
}

/* ---- tlb_reach.c ---- */
bool sim_reach_create(struct sim *sim);
void sim_reach_destroy(struct sim *sim);
/* RAM and registers are other ones. */
void sim_reach_reset(struct sim *sim);
/* The CPU has loaded the tables in CR3. */
void sim_reach_loaded(struct sim *sim, const struct sim_cpu *cpu);
/* It is about to load others and to keep what it knows of these: everything that it could. */
void sim_reach_leaves(struct sim *sim, struct sim_cpu *cpu);
/* Right behind a store: fills what CPUs could have cached of the entry as it was. */
void sim_reach_narrowed(struct sim *sim, neomm_paddr_t entry, uint64_t before, uint64_t after);
/* Learns of what the new entry leads to. */
void sim_reach_stored(struct sim *sim, neomm_paddr_t entry, uint64_t before, uint64_t after);
/* The level of a known table's entry, else 0. */
unsigned sim_reach_level(const struct sim *sim, neomm_paddr_t entry);
/* The frame is freed or allocated: no CPU may find it, as a table or as a page. site: for the
 * report. */
void sim_reach_moved(struct sim *sim, neomm_frame_t frame, bool freed, const char *site);
/* It is known as a table no more. */
void sim_reach_forget(struct sim *sim, neomm_frame_t frame);
/* The CPU walks to that entry, or to one that is present in some table. False: it cannot. */
bool sim_reach_walk(struct sim *sim, struct sim_cpu *cpu, neomm_paddr_t entry);
bool sim_reach_walk_some(struct sim *sim, struct sim_cpu *cpu, uint64_t random);

/* ---- tlb_whim.c: what sim_options.whims asks for ---- */
/* An occasion. */
void sim_whim(struct sim *sim);
void sim_whim_stored(struct sim *sim, neomm_paddr_t entry, uint64_t after);
/* A write through a clean entry that permits it: true, D is set and the entry is dirty. */
bool sim_whim_dirty(struct sim *sim, struct sim_cached *cached);
static inline void sim_whim_here(struct sim *sim)
{
    if (__builtin_expect(sim->options.whims != 0, 0))
        sim_whim(sim);
}
#else
static inline bool sim_reach_create(struct sim *sim)
{
    (void)sim;
    return true;
}
static inline void sim_reach_destroy(struct sim *sim)
{
    (void)sim;
}
static inline void sim_reach_reset(struct sim *sim)
{
    (void)sim;
}
static inline void sim_reach_loaded(struct sim *sim, const struct sim_cpu *cpu)
{
    (void)sim, (void)cpu;
}
static inline void sim_reach_leaves(struct sim *sim, struct sim_cpu *cpu)
{
    (void)sim, (void)cpu;
}
static inline bool sim_whim_dirty(struct sim *sim, struct sim_cached *cached)
{
    (void)sim, (void)cached;
    return false;
}
static inline void sim_whim_here(struct sim *sim)
{
    (void)sim;
}
static inline bool sim_check_create(struct sim *sim)
{
    (void)sim;
    return true;
}
static inline void sim_check_destroy(struct sim *sim)
{
    (void)sim;
}
static inline void sim_check_inserted(struct sim *sim, struct sim_cached *cached,
                                      const struct sim_path *path, neomm_vaddr_t vaddr,
                                      enum sim_access access, bool user)
{
    (void)sim, (void)cached, (void)path, (void)vaddr, (void)access, (void)user;
}
static inline void sim_check_dropped(struct sim *sim, struct sim_cached *cached)
{
    (void)sim, (void)cached;
}
static inline void sim_check_used(struct sim *sim, struct sim_cached *cached, neomm_vaddr_t vaddr,
                                  enum sim_access access, bool user)
{
    (void)sim, (void)cached, (void)vaddr, (void)access, (void)user;
}
static inline void sim_check_resumed(struct sim *sim, const struct sim_tlb *tlb)
{
    (void)sim, (void)tlb;
}
static inline bool sim_check_suspects(const struct sim_cached *cached)
{
    (void)cached;
    return false;
}
static inline void sim_check_path(const struct sim_cached *cached, struct sim_path *path)
{
    (void)cached;
    path->count = 0;
}
#endif

#endif
