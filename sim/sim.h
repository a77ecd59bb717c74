/* The simulated machine: the one implementation of the port and of the CPU primitives on the
 * host, and a checker of both.
 * SPDX-License-Identifier: MIT
 *
 * A host thread is a CPU of one machine at a time (sim_bind); everything the port is asked goes
 * to that machine.
 */
#ifndef NEOMM_SIM_SIM_H
#define NEOMM_SIM_SIM_H

#include <neomm/hook.h>
#include <neomm/neomm.h>

struct sim;

/* Features of the CPU that a machine may be made without. */
#define SIM_NO_NX      0x001u
#define SIM_NO_PGE     0x002u
#define SIM_NO_SMEP    0x004u
#define SIM_NO_SMAP    0x008u
#define SIM_NO_UMIP    0x010u
#define SIM_NO_1G      0x020u
#define SIM_NO_PSE     0x040u
#define SIM_NO_PCID    0x080u
#define SIM_NO_INVPCID 0x100u
#define SIM_NO_PAT     0x200u

struct sim_options {
    enum neomm_format format;
    uint64_t ram_bytes;     /* page multiple; the arena is sparse */
    uint32_t cpus;          /* 0: 1 */
    uint64_t seed;          /* of port entropy and of every choice the machine makes */
    size_t window_bytes;    /* 0: a default that fits the host */
    uint32_t physical_bits; /* 0: 32 for 2-level, 36 for PAE, else 46 */
    uint32_t absent;        /* SIM_NO_*: what the CPUs lack */
    /* The MMUs make use of their freedom at one of so many occasions, as the seed says:
     * translations are cached unasked and dropped, A is set early, D late. 0: they keep to what is
     * asked of them and drop nothing. Instrumented flavour; others keep to that. */
    uint32_t whims;
    bool page_zero;  /* the layout's user half begins at 0, as made-up programs like it */
    bool keep_going; /* a violation is counted and noted, not the end */
};

/* Makes a machine, all RAM poisoned except frame 0's page tables' needs; binds this thread as
 * its CPU 0. NULL with a message on stderr: the host refused memory. */
struct sim *sim_create(const struct sim_options *options);
void sim_destroy(struct sim *sim);

/* The layout with deltas for this host, for neomm_init. */
void sim_layout(struct sim *sim, struct neomm_layout *layout);
/* Arena memory for the root, as a kernel has in its image; from 1 MiB upwards. The frames are
 * to be entered in the boot map as KERNEL: their range comes back in *range. */
void *sim_image(struct sim *sim, size_t bytes, struct neomm_boot_range *range);

/* This host thread goes on as CPU `cpu`. */
void sim_bind(struct sim *sim, uint32_t cpu);
/* This host thread is no CPU any more; for threads before they end. */
void sim_unbind(void);
/* The CPU's `root`, for compat.h. */
void sim_set_root(struct sim *sim, struct neomm *root);

/* ---- physical memory ---- */
bool sim_physical_read(struct sim *sim, neomm_paddr_t from, void *to, size_t size);
bool sim_physical_write(struct sim *sim, neomm_paddr_t to, const void *from, size_t size);
/* Bad RAM, as a CPU sees it that flushes its caches (neomm_cpu_flush_cache): `bits` of the word of
 * 8 bytes at `address` stay as in `value`; or the word is the one at `alias` seen again. At most
 * 16 of both. */
void sim_physical_stick(struct sim *sim, neomm_paddr_t address, uint64_t bits, uint64_t value);
void sim_physical_alias(struct sim *sim, neomm_paddr_t address, neomm_paddr_t alias);
/* The contents of RAM and the registers of every CPU, to come back to; what TLBs hold is forgotten
 * then, and disks, clock and random numbers go on. One host thread only. */
struct sim_snapshot;
struct sim_snapshot *sim_snapshot_take(struct sim *sim);
void sim_snapshot_restore(struct sim *sim, const struct sim_snapshot *snapshot);
void sim_snapshot_free(struct sim_snapshot *snapshot);

/* Freed objects of the heap cannot be touched from now on, or can again, in programs that are built
 * with AddressSanitizer: who does is reported by it. Free objects that are there already are not
 * concerned. Of code that looks at what is free, as tests of the heap's own detection do, it would
 * be wrong. */
void sim_poison_objects(struct sim *sim, bool on);

/* From now on, in the instrumented flavour, each page that a user gets in tables that a CPU has is
 * looked at: a word of it that free memory is filled with shows what was somebody else's, which is
 * a violation. Not of machines whose CPUs are several host threads. */
void sim_watch_pages(struct sim *sim, bool on);

/* ---- the CPU's memory accesses ---- */
enum sim_access { SIM_READ, SIM_WRITE, SIM_FETCH };
/* Translates vaddr for one access by the current CPU, through its TLB, setting A and D. True:
 * *paddr is set. False: a page fault, whose error code is in *error (NEOMM_PF_*). */
bool sim_translate(struct sim *sim, neomm_vaddr_t vaddr, enum sim_access access, bool user,
                   neomm_paddr_t *paddr, uint32_t *error);
/* As above for a whole reference inside one page: a host pointer to its first byte, NULL on a
 * fault. The fast path of the replay: inline in sim/mmu.h where it matters. */
void *sim_reference(struct sim *sim, neomm_vaddr_t vaddr, enum sim_access access, bool user,
                    uint32_t *error);

/* The current CPU walks to vaddr unasked, as processors may at any time (SDM 3A 4.10.2.3), and
 * keeps what it finds on the way. No fault comes of it. */
void sim_speculate(struct sim *sim, neomm_vaddr_t vaddr, bool user);

/* Reads or writes (SIM_WRITE) data where the current CPU finds vaddr, as one step between calls of
 * other CPUs; the bytes lie in one page. False: a page fault, as above. */
bool sim_move(struct sim *sim, neomm_vaddr_t vaddr, void *data, size_t size, enum sim_access access,
              bool user, uint32_t *error);

struct sim_tlb_stats {
    uint64_t hits, walks, faults; /* of translations: found, walked, ended in a fault */
    uint64_t invalidations, full_flushes;
};
void sim_tlb_stats(const struct sim *sim, struct sim_tlb_stats *stats); /* all CPUs */

/* Called for page faults that sim's user copies meet, and references to the kernel window: resolve
 * and return true to retry. */
typedef bool sim_fault_fn(void *context, neomm_vaddr_t address, uint32_t error);
void sim_set_fault_handler(struct sim *sim, sim_fault_fn *handler, void *context);

/* ---- faults on purpose (instrumented flavour) ---- */
void sim_fault_plan(struct sim *sim, uint64_t n, bool forever);
uint64_t sim_fault_count(const struct sim *sim);
/* Passes through each fault site, and failures made there, since the process began. */
uint64_t sim_fault_site_passes(enum neomm_fault_site site);
uint64_t sim_fault_site_failures(enum neomm_fault_site site);
const char *sim_fault_site_name(enum neomm_fault_site site);
/* Invalidations of this site are left out; NEOMM_FLUSH_SITES: none. */
void sim_skip_flush(struct sim *sim, enum neomm_flush_site site);
const char *sim_flush_site_name(enum neomm_flush_site site);

/* ---- interrupts and costs (instrumented flavour) ---- */
/* A point is an ordered access to a shared word, or a look in a spin. The current CPU's nth point
 * (from 1) from now, or the first one after it with interrupts on, is interrupted once: handler
 * runs before it. NULL: no more. */
typedef void sim_interrupt_fn(void *context);
void sim_interrupt_at(struct sim *sim, uint64_t n, sim_interrupt_fn *handler, void *context);
/* The same as a non-maskable interrupt: exactly there, with interrupts masked and locks held too.
 */
void sim_nmi_at(struct sim *sim, uint64_t n, sim_interrupt_fn *handler, void *context);
/* Is that still to come? */
bool sim_interrupt_due(const struct sim *sim);
/* Points that the current CPU passed, those of handlers too. */
uint64_t sim_points(const struct sim *sim);
/* The longest section of the current CPU with interrupts masked since the last call: points passed
 * and page-table entries stored in it. */
uint64_t sim_masked_most(struct sim *sim);

/* ---- checks ---- */
/* From now on a violation is noted and not the end, or the reverse. */
void sim_set_keep_going(struct sim *sim, bool keep_going);
bool sim_keeps_going(const struct sim *sim);
/* Violations found so far (stale translations, port misuse), with keep_going; the text of the
 * last one. */
uint64_t sim_violations(const struct sim *sim);
const char *sim_last_violation(const struct sim *sim);
/* Calls call(argument) and says how it ended: a panic, or a reference through a pointer into the
 * window that faults, come back here, with their text, instead of ending the program. Locks that
 * were held stay taken; interrupts are as before. */
enum sim_end { SIM_END_RETURN, SIM_END_PANIC, SIM_END_FAULT };
enum sim_end sim_catch(struct sim *sim, void (*call)(void *argument), void *argument, char *text,
                       size_t size);
/* Whether interrupts are masked on the CPU that this host thread is. */
bool sim_interrupts_masked(void);
/* The newest line of the library's log, "level: text". */
const char *sim_last_log(const struct sim *sim);
/* The nth newest from 0, "" beyond the 64 that are kept. */
const char *sim_log_line(const struct sim *sim, unsigned n);
/* Spaces chosen by neomm_port_oom so far; the last one. */
uint64_t sim_oom_count(const struct sim *sim);
uint32_t sim_oom_space(const struct sim *sim);
/* Locks that the current CPU took so far (instrumented flavour). */
uint64_t sim_locks_taken(const struct sim *sim);
/* The most locks that were held at once on one CPU (instrumented flavour). */
uint32_t sim_locks_most(const struct sim *sim);
/* What must hold at the end of a test: no lock held, interrupts as at the start, nothing
 * mapped in the window or slots. Returns the number of findings, printed to stderr. */
unsigned sim_check_end(struct sim *sim);

/* ---- disks ---- */
enum sim_disk_fault {
    SIM_DISK_FAIL,
    SIM_DISK_TEAR,
    SIM_DISK_CORRUPT,
    SIM_DISK_LOSE,
    SIM_DISK_STALE,
    SIM_DISK_MISDIRECT,
    SIM_DISK_SHORTEN, /* moves some bytes of the page and says that it moved all */
    SIM_DISK_DELAY    /* completes after all others; only with sim_disk_fault_every */
};
/* A disk of `pages` pages in host memory (sparse). Requests complete when the port waits or
 * after submit, as the seed says. */
struct neomm_block_device *sim_disk_create(struct sim *sim, uint32_t pages);
/* Writes a SWAPSPACE2 header as mkswap does. */
void sim_disk_make_swap(struct neomm_block_device *disk);
/* The nth (from 1) operation from now suffers `fault`; forever: and all after it. n 0: none. */
void sim_disk_fault(struct neomm_block_device *disk, enum sim_disk_fault fault, uint64_t n,
                    bool forever);
/* Every nth operation; n 0: none. */
void sim_disk_fault_every(struct neomm_block_device *disk, enum sim_disk_fault fault, uint64_t n);
/* Does the page not hold what was written to it last, as far as the disk said that it was? */
bool sim_disk_is_damaged(struct neomm_block_device *disk, uint32_t page);
uint64_t sim_disk_operations(const struct neomm_block_device *disk);
/* Transfers that it took, with requests merged that came in order; the most requests that were on
 * their way at a time; pages that were discarded. */
uint64_t sim_disk_transfers(const struct neomm_block_device *disk);
uint64_t sim_disk_most_on_way(const struct neomm_block_device *disk);
uint64_t sim_disk_discarded(const struct neomm_block_device *disk);
/* The stored page, to be read or damaged by a test. */
void *sim_disk_page(struct neomm_block_device *disk, uint32_t page);

/* ---- clock ---- */
void sim_clock_advance(struct sim *sim, uint64_t nanoseconds);

#endif
