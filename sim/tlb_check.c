/* The checker of invalidations: knows what every cached translation rests on, hears of every
 * store to a page table, and reports a CPU that may still go by what is no longer so.
 * SPDX-License-Identifier: MIT
 *
 * A cached entry is linked to each thing it rests on, through one hash table:
 *
 *   source  entry 0x5008 --- CPU 0's translation of 0x401000, CPU 1's of the same page
 *           frame 0x7000 --- whatever leads there
 *           root  0x3000 --- global translations that were filled through this root
 *
 * A store that takes something away makes the entries that rest on it due; dropping them settles
 * the debt. What is still due when the library says that its operation has settled, or when a
 * frame changes hands, is a violation. Everything runs with the machine's lock held.
 */
#include "tlb.h"

#include <neomm/hook.h>

#include <stdio.h>
#include <stdlib.h>

static const char *const site_names[] = {
#define NAME(name) #name,
    NEOMM_FLUSH_SITE_LIST(NAME)
#undef NAME
};

const char *sim_flush_site_name(enum neomm_flush_site site)
{
    return site < NEOMM_FLUSH_SITES ? site_names[site] : "?";
}

void sim_skip_flush(struct sim *sim, enum neomm_flush_site site)
{
    sim_lock(sim);
    sim->skipped = site;
    sim->skip_after = 0;
    sim_unlock(sim);
}

#if NEOMM_INSTRUMENTED

#define BUCKET_BITS 14u
#define REPORT_MAX  480u

/* What sources are; added to their address, which leaves these bits free. */
enum source_kind { SOURCE_ENTRY = 0, SOURCE_FRAME = 1, SOURCE_ROOT = 2 };

struct sim_source {
    uint64_t key;
    struct sim_source *bucket_next;
    struct sim_link *first;
};

struct sim_tlb_check {
    struct sim_source *bucket[1u << BUCKET_BITS];
    struct sim_source *unused;
    struct sim_cached *due;
    enum neomm_flush_site *asked; /* the site each CPU came to last */
};

/* ---- sources ---- */

static struct sim_source **bucket_of(struct sim_tlb_check *check, uint64_t key)
{
    return &check->bucket[key * 0x9e3779b97f4a7c15u >> (64 - BUCKET_BITS)];
}

static struct sim_source *source_find(struct sim_tlb_check *check, uint64_t key)
{
    struct sim_source *source = *bucket_of(check, key);
    while (source && source->key != key)
        source = source->bucket_next;
    return source;
}

static struct sim_source *source_make(struct sim *sim, uint64_t key)
{
    struct sim_tlb_check *check = sim->mmu->check;
    struct sim_source *source = check->unused;
    if (source)
        check->unused = source->bucket_next;
    else
        source = malloc(sizeof(*source));
    if (!source)
        sim_crash(sim, false, "the host has no memory to check translations");
    struct sim_source **head = bucket_of(check, key);
    *source = (struct sim_source){.key = key, .bucket_next = *head};
    *head = source;
    return source;
}

static void link_to(struct sim *sim, struct sim_link *link, struct sim_cached *cached,
                    neomm_paddr_t at, enum source_kind kind)
{
    uint64_t key = at | kind;
    struct sim_source *source = source_find(sim->mmu->check, key);
    if (!source)
        source = source_make(sim, key);
    *link = (struct sim_link){.cached = cached, .source = source, .next = source->first};
    if (link->next)
        link->next->previous = link;
    source->first = link;
}

static void unlink_from(struct sim_tlb_check *check, struct sim_link *link)
{
    struct sim_source *source = link->source;
    if (!source)
        return;
    if (link->next)
        link->next->previous = link->previous;
    if (link->previous)
        link->previous->next = link->next;
    else
        source->first = link->next;
    link->source = NULL;
    if (source->first)
        return;
    struct sim_source **at = bucket_of(check, source->key);
    while (*at != source)
        at = &(*at)->bucket_next;
    *at = source->bucket_next;
    source->bucket_next = check->unused;
    check->unused = source;
}

bool sim_check_create(struct sim *sim)
{
    struct sim_tlb_check *check = calloc(1, sizeof(*check));
    sim->mmu->check = check;
    if (!check)
        return false;
    check->asked = calloc(sim->options.cpus, sizeof(*check->asked));
    for (uint32_t cpu = 0; check->asked && cpu < sim->options.cpus; cpu++)
        check->asked[cpu] = NEOMM_FLUSH_SITES;
    return check->asked != NULL;
}

static void free_chain(struct sim_source *source)
{
    for (struct sim_source *next; source; source = next) {
        next = source->bucket_next;
        free(source);
    }
}

void sim_check_destroy(struct sim *sim)
{
    struct sim_tlb_check *check = sim->mmu->check;
    if (!check)
        return;
    for (unsigned i = 0; i < 1u << BUCKET_BITS; i++)
        free_chain(check->bucket[i]);
    free_chain(check->unused);
    free(check->asked);
    free(check);
}

/* ---- debts ---- */

static void due_add(struct sim_tlb_check *check, struct sim_cached *cached)
{
    struct sim_origin *origin = &cached->origin;
    origin->due = true;
    origin->due_previous = NULL;
    origin->due_next = check->due;
    if (check->due)
        check->due->origin.due_previous = cached;
    check->due = cached;
}

static void due_remove(struct sim_tlb_check *check, struct sim_cached *cached)
{
    struct sim_origin *origin = &cached->origin;
    origin->due = false;
    if (origin->due_previous)
        origin->due_previous->origin.due_next = origin->due_next;
    else
        check->due = origin->due_next;
    if (origin->due_next)
        origin->due_next->origin.due_previous = origin->due_previous;
}

static void link_all(struct sim *sim, struct sim_cached *cached)
{
    struct sim_origin *origin = &cached->origin;
    const struct sim_path *path = &origin->path;
    for (uint32_t i = 0; i < path->count; i++)
        link_to(sim, &origin->step_link[i], cached, path->step[i].entry, SOURCE_ENTRY);
    link_to(sim, &origin->frame_link, cached, cached->paddr, SOURCE_FRAME);
    if (cached->list == SIM_TLB_GLOBAL)
        link_to(sim, &origin->root_link, cached,
                path->step[0].entry & ~(neomm_paddr_t)(NEOMM_PAGE_SIZE - 1), SOURCE_ROOT);
}

void sim_check_dropped(struct sim *sim, struct sim_cached *cached)
{
    struct sim_tlb_check *check = sim->mmu->check;
    struct sim_origin *origin = &cached->origin;
    if (origin->due)
        due_remove(check, cached);
    for (uint32_t i = 0; i < origin->path.count; i++)
        unlink_from(check, &origin->step_link[i]);
    unlink_from(check, &origin->frame_link);
    unlink_from(check, &origin->root_link);
}

/* ---- judgement ---- */

static unsigned level_of(const struct sim *sim, uint32_t step)
{
    return sim_levels(sim) - step;
}

/* Bits of a leaf that say how its memory is cached. */
static uint64_t memory_type(unsigned level)
{
    return SIM_ENTRY_TYPE | (uint64_t)1 << (level == 1 ? 7 : 12);
}

/* Do the tables, as they are now, still grant all that the entry does? Step 0 of a global entry
 * is left out once its root is gone. */
static bool still_granted(struct sim *sim, const struct sim_cached *cached)
{
    const struct sim_cpu *cpu = &sim->cpu[cached->cpu];
    const struct sim_path *path = &cached->origin.path;
    unsigned rights = SIM_RIGHT_WRITE | SIM_RIGHT_USER;
    uint64_t now = 0;
    for (uint32_t i = 0; i < path->count; i++) {
        unsigned level = level_of(sim, i);
        uint64_t then = path->step[i].value;
        now = cached->origin.step_link[i].source ? sim_entry_read(sim, path->step[i].entry) : then;
        if (!(now & SIM_ENTRY_P) ||
            sim_entry_is_leaf(cpu, level, now) != sim_entry_is_leaf(cpu, level, then) ||
            sim_entry_target(cpu, level, now) != sim_entry_target(cpu, level, then))
            return false;
        rights = sim_entry_rights(sim, level, now, rights);
    }
    if (cached->rights & ~rights & (SIM_RIGHT_WRITE | SIM_RIGHT_USER))
        return false;
    if (~cached->rights & rights & SIM_RIGHT_NOEXEC)
        return false;
    if (sim_cached_is_table(cached))
        return true;
    if ((now ^ path->step[path->count - 1].value) & memory_type(level_of(sim, path->count - 1)))
        return false;
    return (now & SIM_ENTRY_A) && (!cached->dirty || (now & SIM_ENTRY_D)) &&
           (cached->list != SIM_TLB_GLOBAL || (now & SIM_ENTRY_G));
}

/* Of a PCID that the CPU does not go by now: it cannot be used until that is loaded again. */
static bool is_dormant(const struct sim *sim, const struct sim_cached *cached)
{
    return cached->list != SIM_TLB_GLOBAL && cached->pcid != sim->mmu->tlb[cached->cpu].pcid;
}

/* The slots of each CPU (base/frame.h) are addresses that it alone uses, so what another CPU may
 * have cached of them unasked does no harm until it is used. */
static bool is_foreign_slot(const struct sim *sim, const struct sim_cached *cached)
{
    const struct sim_window *slots = &sim->window[SIM_SLOTS];
    neomm_vaddr_t offset = cached->base - slots->base;
    if (sim_cached_is_table(cached) || offset >= slots->size)
        return false;
    return offset / (NEOMM_SLOTS_PER_CPU * NEOMM_PAGE_SIZE) != cached->cpu;
}

/* Of a page, on a CPU that sleeps: it must not be used, but may be there until the CPU wakes.
 * Tables are another matter: processors walk through them unasked. */
static bool is_asleep(const struct sim *sim, const struct sim_cached *cached)
{
    return sim->cpu[cached->cpu].idle && !sim_cached_is_table(cached) &&
           !is_foreign_slot(sim, cached);
}

static void note_late(struct sim_origin *origin, enum neomm_flush_site site)
{
    if (!origin->late)
        origin->late_site = site;
    origin->late = true;
}

/* Was the entry filled through the tables with this root, or through a root that shares the
 * table below its top entry? */
static bool belongs_to(struct sim *sim, const struct sim_cached *cached, neomm_paddr_t top)
{
    const struct sim_cpu *cpu = &sim->cpu[cached->cpu];
    const struct sim_step *step = &cached->origin.path.step[0];
    const neomm_paddr_t inside = NEOMM_PAGE_SIZE - 1;
    if ((step->entry & ~inside) == top)
        return true;
    unsigned level = sim_levels(sim);
    uint64_t same = sim_entry_read(sim, top | (step->entry & inside));
    return (same & SIM_ENTRY_P) && cached->origin.changed > 0 &&
           sim_entry_target(cpu, level, same) == sim_entry_target(cpu, level, step->value);
}

/* An entry that was filled through a cached table which is due is due from the start. If nothing is
 * due yet, the report of a store by another CPU is still on its way. */
static void inherit(struct sim *sim, struct sim_cached *cached)
{
    struct sim_origin *origin = &cached->origin;
    for (uint32_t i = 0; i < origin->path.count; i++) {
        const struct sim_source *source = origin->step_link[i].source;
        for (const struct sim_link *link = source ? source->first : NULL; link; link = link->next) {
            const struct sim_cached *other = link->cached;
            const struct sim_origin *from = &other->origin;
            if (other->cpu != cached->cpu || !from->due || from->changed != i)
                continue;
            due_add(sim->mmu->check, cached);
            origin->changed = i;
            origin->changed_by = from->changed_by;
            origin->before = from->before;
            origin->after = from->after;
            origin->where = from->where;
            return;
        }
    }
}

void sim_check_inserted(struct sim *sim, struct sim_cached *cached, const struct sim_path *path,
                        neomm_vaddr_t vaddr, enum sim_access access, bool user)
{
    const struct sim_tlb *tlb = &sim->mmu->tlb[cached->cpu];
    cached->origin = (struct sim_origin){.path = *path,
                                         .number = tlb->hits + tlb->walks + tlb->faults + 1,
                                         .clock = sim->clock,
                                         .vaddr = vaddr,
                                         .access = access,
                                         .user = user};
    link_all(sim, cached);
    if (!still_granted(sim, cached))
        inherit(sim, cached);
}

void sim_check_unasked(struct sim *sim, struct sim_cached *cached, const struct sim_path *path,
                       neomm_vaddr_t vaddr)
{
    cached->origin =
        (struct sim_origin){.path = *path, .unasked = true, .clock = sim->clock, .vaddr = vaddr};
    link_all(sim, cached);
}

bool sim_check_holds(struct sim *sim, const struct sim_cached *like, uint32_t pcid,
                     neomm_paddr_t entry)
{
    const struct sim_source *source = source_find(sim->mmu->check, entry | SOURCE_ENTRY);
    for (const struct sim_link *link = source ? source->first : NULL; link; link = link->next) {
        const struct sim_cached *cached = link->cached;
        if (cached->cpu == like->cpu && cached->tlb_class == like->tlb_class &&
            cached->base >> like->shift == like->base >> like->shift &&
            cached->paddr == like->paddr && cached->rights == like->rights &&
            cached->list == like->list && cached->dirty == like->dirty &&
            (cached->pcid == pcid || cached->list == SIM_TLB_GLOBAL))
            return true;
    }
    return false;
}

/* ---- reports ---- */

static const char *access_name(enum sim_access access)
{
    return access == SIM_WRITE ? "write" : access == SIM_FETCH ? "fetch" : "read";
}

static void describe(struct sim *sim, const struct sim_cached *cached, char *to, size_t size)
{
    static const char *const level_name[] = {"", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
    const struct sim_origin *origin = &cached->origin;
    uint32_t step = origin->due ? origin->changed : origin->path.count - 1;
    char fill[80] = "its CPU unasked", change[120] = "entry unchanged";
    if (!origin->unasked)
        (void)snprintf(fill, sizeof(fill), "%s %s #%llu", origin->user ? "user" : "kernel",
                       access_name(origin->access), (unsigned long long)origin->number);
    if (origin->due)
        (void)snprintf(change, sizeof(change), "entry changed %#llx -> %#llx by CPU %u at +%#zx",
                       (unsigned long long)origin->before, (unsigned long long)origin->after,
                       origin->changed_by, sim_code_offset(origin->where));
    (void)snprintf(
        to, size, "CPU %u, vaddr %#llx%s, filled by %s (clock %llu) from entry at %#llx (%s), %s",
        cached->cpu, (unsigned long long)origin->vaddr,
        sim_cached_is_table(cached) ? " (cached table)" : "", fill,
        (unsigned long long)origin->clock, (unsigned long long)origin->path.step[step].entry,
        level_name[level_of(sim, step)], change);
}

static void report_due(struct sim *sim, const struct sim_cached *cached, enum neomm_flush_site site)
{
    char text[REPORT_MAX];
    describe(sim, cached, text, sizeof(text));
    sim_violation(sim, "stale translation: %s; flush due at %s", text, sim_flush_site_name(site));
}

static enum neomm_flush_site site_asked(const struct sim *sim)
{
    return sim->mmu->check->asked[sim_this_cpu()->index];
}

static const char *site_text(enum neomm_flush_site site)
{
    return site < NEOMM_FLUSH_SITES ? site_names[site] : "no site that was asked about";
}

void sim_check_used(struct sim *sim, struct sim_cached *cached, neomm_vaddr_t vaddr,
                    enum sim_access access, bool user)
{
    char text[REPORT_MAX];
    if ((!cached->origin.reported && !cached->origin.late) || cached->origin.used ||
        still_granted(sim, cached))
        return;
    cached->origin.used = true;
    describe(sim, cached, text, sizeof(text));
    sim_violation(sim, "stale translation: %s; used by %s %s of %#llx", text,
                  user ? "user" : "kernel", access_name(access), (unsigned long long)vaddr);
}

/* What the CPU was spared for a while, and can go by from now on, as `how` tells. */
static void resume_list(struct sim *sim, const struct sim_tlb *tlb, enum sim_tlb_list list,
                        const char *how)
{
    char text[REPORT_MAX];
    for (struct sim_cached *cached = tlb->list[list]; cached; cached = cached->next) {
        struct sim_origin *origin = &cached->origin;
        if (is_dormant(sim, cached) || !origin->late)
            continue;
        origin->late = false;
        if (still_granted(sim, cached))
            continue;
        origin->reported = true;
        describe(sim, cached, text, sizeof(text));
        sim_violation(sim, "stale translation: %s; %s without a flush; due at %s", text, how,
                      site_text(origin->late_site));
    }
}

void sim_check_resumed(struct sim *sim, const struct sim_tlb *tlb)
{
    char how[40];
    (void)snprintf(how, sizeof(how), "PCID %u comes back", tlb->pcid);
    resume_list(sim, tlb, SIM_TLB_LOCAL, how);
    resume_list(sim, tlb, SIM_TLB_TABLES, how);
}

void neomm_hook_idle(bool idle)
{
    struct sim *sim = sim_place.sim;
    struct sim_cpu *cpu = sim_this_cpu();
    const struct sim_tlb *tlb = &sim->mmu->tlb[cpu->index];
    sim_lock(sim);
    if (idle && sim_place.cpu->locks_held != 0)
        sim_violation(sim, "lock: CPU %u goes idle with a spinlock", cpu->index);
    cpu->idle = idle;
    if (!idle) {
        resume_list(sim, tlb, SIM_TLB_LOCAL, "its CPU wakes");
        resume_list(sim, tlb, SIM_TLB_GLOBAL, "its CPU wakes");
    }
    sim_unlock(sim);
}

/* ---- hooks ---- */

struct change {
    neomm_paddr_t entry;
    uint64_t before, after;
    const void *where;
};

/* A page of another size must not take the place of one that some CPU may still have: in between
 * the entry is not present, and invalidated (SDM 3A 4.10.2.3). */
static void check_size(struct sim *sim, const struct change *change)
{
    const struct sim_cpu *cpu = sim_this_cpu();
    unsigned level = sim_reach_level(sim, change->entry);
    if (level < 2 || !(change->after & SIM_ENTRY_P))
        return;
    bool leaf = sim_entry_is_leaf(cpu, level, change->after);
    const struct sim_source *source = source_find(sim->mmu->check, change->entry | SOURCE_ENTRY);
    for (struct sim_link *link = source ? source->first : NULL; link; link = link->next) {
        struct sim_cached *cached = link->cached;
        uint64_t then = cached->origin.path.step[link - cached->origin.step_link].value;
        char text[REPORT_MAX];
        if (sim_entry_is_leaf(cpu, level, then) == leaf || is_dormant(sim, cached))
            continue;
        cached->origin.reported = true;
        describe(sim, cached, text, sizeof(text));
        sim_violation(sim,
                      "stale translation: %s; a page of another size takes its place, flush due "
                      "at %s",
                      text, site_text(site_asked(sim)));
        return;
    }
    if ((change->before & SIM_ENTRY_P) && sim_entry_is_leaf(cpu, level, change->before) != leaf)
        sim_violation(
            sim,
            "stale translation: entry at %#llx changed %#llx -> %#llx by CPU %u at +%#zx: "
            "another page size without a step that is not present",
            (unsigned long long)change->entry, (unsigned long long)change->before,
            (unsigned long long)change->after, cpu->index, sim_code_offset(change->where));
}

static void make_due(struct sim *sim, const struct change *change)
{
    const struct sim_source *source = source_find(sim->mmu->check, change->entry | SOURCE_ENTRY);
    for (struct sim_link *link = source ? source->first : NULL; link; link = link->next) {
        struct sim_cached *cached = link->cached;
        struct sim_origin *origin = &cached->origin;
        if (origin->due || still_granted(sim, cached))
            continue;
        due_add(sim->mmu->check, cached);
        origin->reported = origin->used = origin->late = false;
        origin->changed = (uint32_t)(link - origin->step_link);
        origin->changed_by = sim_this_cpu()->index;
        origin->before = change->before;
        origin->after = change->after;
        origin->where = change->where;
        sim_tlb_close(sim, cached);
    }
}

/* A user gets a page that the entry did not lead to before, by tables that a CPU has. */
static void check_shown(struct sim *sim, const struct change *change)
{
    const struct sim_cpu *cpu = sim_this_cpu();
    unsigned level = sim_reach_level(sim, change->entry);
    bool was = (change->before & SIM_ENTRY_P) && (change->before & SIM_ENTRY_US);
    if (!sim->watches_pages || sim_is_threaded(sim) || level == 0 || level > sim_levels(sim) ||
        !(change->after & SIM_ENTRY_US) || !sim_entry_is_valid(cpu, level, change->after) ||
        !sim_entry_is_leaf(cpu, level, change->after))
        return;
    neomm_paddr_t page = sim_entry_target(cpu, level, change->after);
    if (!was || sim_entry_target(cpu, level, change->before) != page)
        sim_arena_shown(sim, page, (uint64_t)1 << sim_level_shift(sim, level), change->entry);
}

void neomm_hook_entry_stored(neomm_paddr_t entry, uint64_t before, uint64_t after)
{
    struct sim *sim = sim_place.sim;
    const struct change change = {entry, before, after, __builtin_return_address(0)};
    sim_this_cpu()->work++;
    sim_lock(sim);
    sim_reach_narrowed(sim, entry, before, after);
    make_due(sim, &change);
    check_size(sim, &change);
    check_shown(sim, &change);
    sim_reach_stored(sim, entry, before, after);
    sim_whim_stored(sim, entry, after);
    sim_unlock(sim);
    sim_sched_here("has stored an entry", __builtin_return_address(0));
}

/* An invalidation at this site is due for the entry by now. */
static void settle(struct sim *sim, struct sim_cached *cached, enum neomm_flush_site site)
{
    struct sim_origin *origin = &cached->origin;
    if (is_dormant(sim, cached) || is_asleep(sim, cached)) {
        note_late(origin, site);
        return;
    }
    origin->reported = true;
    if (!is_foreign_slot(sim, cached))
        report_due(sim, cached, site);
}

/* Only what this CPU changed: another may be in the middle of an operation of its own. */
void neomm_hook_settled(neomm_frame_t top, enum neomm_flush_site site)
{
    struct sim *sim = sim_place.sim;
    sim_lock(sim);
    struct sim_tlb_check *check = sim->mmu->check;
    for (struct sim_cached *cached = check->due, *next; cached; cached = next) {
        struct sim_origin *origin = &cached->origin;
        next = origin->due_next;
        if (still_granted(sim, cached)) {
            due_remove(check, cached);
        } else if (!origin->reported && !origin->late &&
                   origin->changed_by == sim_this_cpu()->index &&
                   belongs_to(sim, cached, neomm_frame_paddr(top))) {
            settle(sim, cached, site);
        }
    }
    sim_unlock(sim);
}

bool neomm_hook_flush_skipped(enum neomm_flush_site site)
{
    struct sim *sim = sim_place.sim;
    sim_lock(sim);
    sim->mmu->check->asked[sim_this_cpu()->index] = site;
    bool skipped = sim->skipped == site;
    if (skipped && sim->skip_after > 0) {
        sim->skip_after--;
        skipped = false;
    }
    sim_unlock(sim);
    return skipped;
}

/* ---- frames that change hands ---- */

/* The kernel's own mappings of all memory are no danger; those in its windows are. */
static bool is_danger(const struct sim *sim, const struct sim_cached *cached)
{
    if (sim_cached_is_table(cached) || (cached->rights & SIM_RIGHT_USER))
        return true;
    for (unsigned i = 0; i < SIM_WINDOWS; i++)
        if (cached->base - sim->window[i].base < sim->window[i].size)
            return true;
    return false;
}

static bool check_source(struct sim *sim, neomm_paddr_t frame, unsigned shift, bool freed)
{
    neomm_paddr_t first = frame >> shift << shift;
    const struct sim_source *source = source_find(sim->mmu->check, first | SOURCE_FRAME);
    for (const struct sim_link *link = source ? source->first : NULL; link; link = link->next) {
        struct sim_cached *cached = link->cached;
        unsigned covered = sim_cached_is_table(cached) ? NEOMM_PAGE_SHIFT : cached->shift;
        char text[REPORT_MAX];
        if (covered != shift || !is_danger(sim, cached) || is_foreign_slot(sim, cached))
            continue;
        if (is_dormant(sim, cached) || is_asleep(sim, cached)) {
            note_late(&cached->origin, site_asked(sim));
            continue;
        }
        describe(sim, cached, text, sizeof(text));
        sim_violation(sim, "stale translation: %s; frame %#llx is %s; flush due at %s", text,
                      (unsigned long long)frame >> NEOMM_PAGE_SHIFT, freed ? "freed" : "allocated",
                      site_text(site_asked(sim)));
        return false;
    }
    return true;
}

static void check_loaded(struct sim *sim, neomm_frame_t first, uint32_t count, bool freed)
{
    for (uint32_t i = 0; i < sim->options.cpus; i++) {
        const struct sim_cpu *cpu = &sim->cpu[i];
        uint64_t frame = (uint64_t)__atomic_load_n(&cpu->cr3, __ATOMIC_RELAXED) >> NEOMM_PAGE_SHIFT;
        if ((cpu->cr0 & NEOMM_CR0_PG) && frame >= first.number && frame - first.number < count)
            sim_violation(sim,
                          "stale translation: CPU %u has CR3 %#llx; frame %#llx is %s; "
                          "flush due at %s",
                          i, (unsigned long long)cpu->cr3, (unsigned long long)frame,
                          freed ? "freed" : "allocated", site_text(site_asked(sim)));
    }
}

/* Global translations do not care which root they were found through. */
static void forget_root(struct sim *sim, neomm_paddr_t root)
{
    struct sim_tlb_check *check = sim->mmu->check;
    const struct sim_source *source = source_find(check, root | SOURCE_ROOT);
    for (struct sim_link *link = source ? source->first : NULL; link; link = link->next)
        unlink_from(check, &link->cached->origin.step_link[0]);
}

void sim_tlb_check_frames(struct sim *sim, neomm_frame_t first, uint32_t count, bool freed)
{
    unsigned large = sim_level_shift(sim, 2);
    sim_lock(sim);
    check_loaded(sim, first, count, freed);
    for (uint32_t i = 0; i < count; i++) {
        neomm_paddr_t frame = neomm_frame_paddr(neomm_frame(first.number + i));
        if (check_source(sim, frame, NEOMM_PAGE_SHIFT, freed) &&
            check_source(sim, frame, large, freed) && check_source(sim, frame, 30, freed)) {
            forget_root(sim, frame);
            sim_reach_moved(sim, neomm_paddr_frame(frame), freed, site_text(site_asked(sim)));
        }
        sim_reach_forget(sim, neomm_paddr_frame(frame));
    }
    sim_unlock(sim);
}

#else

void sim_tlb_check_frames(struct sim *sim, neomm_frame_t first, uint32_t count, bool freed)
{
    (void)sim, (void)first, (void)count, (void)freed;
}

#endif
