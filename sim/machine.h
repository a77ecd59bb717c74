/* The inside of the simulated machine, shared by the files of sim/ and nobody else.
 * SPDX-License-Identifier: MIT
 *
 * Two locks. A CPU's `serving` mutex is held while its interrupts are masked or while it makes a
 * reference, so that calls from other CPUs (neomm_port_ipi) come between those as on hardware;
 * it is taken in a machine on which several host threads run only. The machine's `lock` guards
 * what CPUs share, is recursive and is taken inside the other. No file-scope state but the
 * thread's own place (struct sim_place) and process-wide counts of fault points.
 */
#ifndef NEOMM_SIM_MACHINE_H
#define NEOMM_SIM_MACHINE_H

#include "sim.h"

#include <neomm/cpu.h>

#include <pthread.h>
#include <setjmp.h>

struct sim_mmu;
struct sim_disk;
struct sim_backend;
struct sim_sched;

struct sim_cpu {
    struct neomm_cpu port; /* what neomm_port_cpu returns */
    struct sim *sim;
    uint32_t index;
    uintptr_t cr0, cr3, cr4;
    uint64_t efer, pat;
    uint64_t pdpte[4];               /* PAE: loaded with CR3 (SDM 3A 4.4.1) */
    bool access_open;                /* EFLAGS.AC: user copies under SMAP */
    bool masked;                     /* interrupts, while no thread is this CPU */
    uint32_t saves;                  /* irq_saves not restored, while no thread is this CPU */
    bool idle;                       /* sleeps, says the library */
    uint32_t yields;                 /* places passed where another CPU might run */
    uint32_t spins;                  /* since a lock was taken or released */
    uint32_t locks_held, locks_most; /* nesting, from the lock hooks */
    uint64_t work;                   /* points, and page-table entries stored */
    uint64_t masked_at, masked_most; /* of it: when interrupts were masked; the longest section */
    uint64_t points, interrupt_at;   /* so many were passed; the handler comes at this one */
    sim_interrupt_fn *interrupt;
    void *interrupt_context;
    bool interrupt_is_nmi;
    uint32_t *late; /* a store that others do not see yet; NULL: none */
    uint32_t late_value;
    uint64_t late_until; /* points */
    uint64_t locks_taken;
    pthread_mutex_t serving;
};

/* A range of virtual addresses whose pages appear in the host process on first use. */
struct sim_window {
    neomm_vaddr_t base; /* as the MMU sees it */
    size_t size;
    uint8_t *host;      /* where it lies in the host process */
    uint8_t *state;     /* a byte a page: 0 no access, else PROT_* of the host */
    size_t mapped;      /* pages with access */
    size_t first, last; /* all of these lie in pages [first, last) */
};

enum { SIM_WINDOW, SIM_SLOTS, SIM_WINDOWS };

#define SIM_TEXT_MAX  1024
#define SIM_LOG_LINES 64

/* A bad word of RAM: bits that stay as they are, or another word that is the same cell. */
struct sim_cell_fault {
    neomm_paddr_t address, alias; /* alias 0: stuck bits */
    uint64_t mask, value;
};
#define SIM_CELL_FAULTS 16

struct sim {
    struct sim_options options; /* defaults filled in */
    struct sim_cpu *cpu;        /* options.cpus of them */
    struct sim_mmu *mmu;        /* of sim/mmu.c and sim/tlb.c */
    pthread_mutex_t lock;
    uint32_t bound;             /* host threads that are CPUs of this machine */
    bool threaded;              /* there was more than one of them at some time */
    struct neomm_layout layout; /* with deltas; direct.size 0: a format of the other word size */

    /* RAM. On 64-bit hosts all of it lies at ram; on others the first `mapped` bytes, and the
     * rest in chunks that are mapped on first use. */
    int fd, poisoned_fd;
    uint8_t *ram;
    uint64_t mapped;
    uint8_t **chunk;
    uint8_t *poisoned;    /* a bit a frame: filled with poison when it was freed */
    uint64_t image_bytes; /* that sim_image gave out */
    struct sim_cell_fault cell_fault[SIM_CELL_FAULTS]; /* broken cells of RAM */
    uint32_t cell_faults;

    struct sim_window window[SIM_WINDOWS];

    uint64_t clock, random;
    bool poison_objects; /* see sim_poison_objects */
    bool watches_pages;  /* see sim_watch_pages */
    uint64_t fault_nth, fault_seen;
    bool fault_forever;
    enum neomm_flush_site skipped; /* NEOMM_FLUSH_SITES: none */
    uint64_t skip_after;           /* so many of that site are done first */
    sim_fault_fn *fault;
    void *fault_context;
    struct sim_disk *disks;
    struct sim_backend *backends;
    pthread_cond_t woken;
    uint32_t wakes;
    uint64_t ooms;
    uint32_t oom_space;
    uint64_t violations;
    char violation[SIM_TEXT_MAX];
    char log[SIM_LOG_LINES][256];
    uint64_t log_count;
};

/* Where sim_catch goes on when its call ends badly. */
struct sim_catcher {
    sigjmp_buf back;
    enum sim_end end;
    char text[SIM_TEXT_MAX];
};

/* Where the host thread is. */
struct sim_place {
    struct sim *sim;
    struct sim_cpu *cpu;
    bool masked;         /* interrupts */
    uint32_t saves;      /* irq_saves not restored yet */
    bool serving;        /* holds cpu->serving */
    uint32_t interrupts; /* handlers it is inside of */
    uint32_t pins;       /* not undone yet */
    struct sim_catcher *catcher;
    struct sim_sched *sched; /* under which this CPU is one of several coroutines, else NULL */
};
extern _Thread_local struct sim_place sim_place;

static inline struct sim_cpu *sim_this_cpu(void)
{
    return sim_place.cpu;
}

/* Before the first call from one CPU to another. */
void sim_ipi_init(void);

void sim_lock(struct sim *sim);
void sim_unlock(struct sim *sim);

/* Around a reference and the use of its result. True: to be handed to sim_cpu_leave. Nests. */
bool sim_cpu_enter_slowly(void);
void sim_cpu_leave_slowly(void);

static inline bool sim_is_threaded(const struct sim *sim)
{
    return __atomic_load_n(&sim->threaded, __ATOMIC_RELAXED);
}

static inline bool sim_cpu_enter(const struct sim *sim)
{
    return __builtin_expect(sim_is_threaded(sim), 0) && sim_cpu_enter_slowly();
}

static inline void sim_cpu_leave(bool entered)
{
    if (__builtin_expect(entered, 0))
        sim_cpu_leave_slowly();
}

/* ---- hook.c ---- */
/* What the CPU has stored is visible to others from here on, as after any interrupt. */
void sim_cpu_drain_stores(struct sim_cpu *cpu);

/* ---- arena.c ---- */
#define SIM_POISON 0xdeadfeeddeadfeedu /* as an entry: present, with reserved bits set */
void *sim_pointer_slowly(struct sim *sim, neomm_paddr_t paddr);

/* The host pointer of a physical address, good to the end of its frame and for as long as the
 * machine lives. NULL: no RAM there. */
static inline void *sim_pointer(struct sim *sim, neomm_paddr_t paddr)
{
    if (__builtin_expect(paddr < sim->mapped, 1))
        return sim->ram + (size_t)paddr;
    return sim_pointer_slowly(sim, paddr);
}

bool sim_arena_create(struct sim *sim);
void sim_arena_destroy(struct sim *sim);
/* Every bad word takes the value that it has when it is read from RAM and not from a cache. */
void sim_arena_settle(struct sim *sim);
void sim_arena_freed(struct sim *sim, neomm_frame_t first, uint32_t count);
void sim_arena_allocated(struct sim *sim, neomm_frame_t first, uint32_t count);
/* A user sees the page of `size` bytes from now on, by this entry. */
void sim_arena_shown(struct sim *sim, neomm_paddr_t page, uint64_t size, neomm_paddr_t entry);

/* ---- window.c ---- */
bool sim_windows_create(struct sim *sim);
void sim_windows_destroy(struct sim *sim);
/* An invalidation of these addresses took place on some CPU: the next use of a pointer into them
 * asks the MMU again. Addresses outside the windows are fine. */
void sim_window_forget(struct sim *sim, neomm_vaddr_t vaddr, size_t size);
void sim_window_forget_all(struct sim *sim);

/* ---- check.c ---- */
/* Notes a violation; returns only with keep_going. */
void sim_violation(struct sim *sim, const char *format, ...) NEOMM_PRINTF(2, 3);
/* The end of a run that went wrong: log and text to stderr, then to the catcher or out. */
NEOMM_NORETURN void sim_crash(struct sim *sim, bool panic, const char *text);
uint64_t sim_random(struct sim *sim);

/* ---- disk.c ---- */
/* Completes one pending request, chosen by seed; false: there is none. */
bool sim_disk_complete_one(struct sim *sim);
uint64_t sim_disks_pending(const struct sim *sim);
void sim_disks_destroy(struct sim *sim);

/* ---- sched.c ---- */
/* Where in the program a code address is, for addr2line; 0: nobody knows. */
size_t sim_code_offset(const void *where);

/* Only where sim_place.sched is set: the port's functions of the same names. */
void sim_sched_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument);
neomm_status sim_sched_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns,
                            const void *where);
void sim_sched_wake(const uint32_t *word, uint32_t count);
/* Another CPU may run, for the reason `doing`, at the code address `where`; or has to. */
void sim_sched_switch(const char *doing, const void *where);
void sim_sched_spin(const void *where);
/* Interrupts are on again: calls that wait for that run now. */
void sim_sched_unmasked(void);

static inline void sim_sched_here(const char *doing, const void *where)
{
    if (__builtin_expect(sim_place.sched != NULL, 0))
        sim_sched_switch(doing, where);
}

/* ---- port.c ---- */
/* This thread is the other CPU for the time of the call, as in an interrupt handler there. */
void sim_run_as(struct sim *sim, uint32_t target, void (*call)(void *argument), void *argument);

/* ---- hook.c ---- */
/* Once a process: see NEOMM_FAULT_SITES_OUT in hook.c. */
void sim_faults_report_at_exit(void);

/* ---- mmu*.c, tlb*.c ---- */
bool sim_mmu_create(struct sim *sim); /* sets sim->mmu; false: the host refused memory */
void sim_mmu_destroy(struct sim *sim);
/* Forgets everything cached on every CPU: RAM and registers have become other ones. */
void sim_mmu_reset(struct sim *sim);
/* The registers hold the new value already. */
void sim_tlb_invlpg(struct sim_cpu *cpu, neomm_vaddr_t vaddr);
void sim_tlb_cr0_written(struct sim_cpu *cpu, uintptr_t before);
/* CR3 is about to be written. */
void sim_tlb_cr3_leaves(struct sim_cpu *cpu);
/* keep: bit 63 of what was written. */
void sim_tlb_cr3_written(struct sim_cpu *cpu, bool keep);
void sim_tlb_invpcid(struct sim_cpu *cpu, enum neomm_invpcid type, uint32_t pcid,
                     neomm_vaddr_t vaddr);
/* Is vaddr an address in the machine's format? */
bool sim_canonical(const struct sim *sim, neomm_vaddr_t vaddr);
void sim_tlb_cr4_written(struct sim_cpu *cpu, uintptr_t before);
void sim_tlb_efer_written(struct sim_cpu *cpu, uint64_t before);
/* Frames change hands: no CPU may reach them. Instrumented flavour. */
void sim_tlb_check_frames(struct sim *sim, neomm_frame_t first, uint32_t count, bool freed);

#endif
