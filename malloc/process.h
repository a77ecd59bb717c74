/* The engine in a process: one root, its memory, and the threads that are its CPUs.
 * SPDX-License-Identifier: MIT
 *
 *   addresses   [ 16 MiB nothing ][ RAM: grown so far, read-write ][ reserved, no access ... ]
 *   frames      0                  4096                             managed                 end
 *
 * Nothing in this folder may allocate: no stdio, no dlsym. Locks, outer first: the registry's
 * (threads, fork), those of shared slots, the engine's, the arena's (growing; the engine calls it
 * with none of its own held), the quarantine's, the purger's, that of the huge blocks, the
 * barrier's. */
#ifndef NEOMM_PROCESS_H
#define NEOMM_PROCESS_H

#include <neomm/heap_debug.h>
#include <neomm/port.h>
#include <neomm/root.h>

#define PROCESS_LIKELY(x)   __builtin_expect(!!(x), 1)
#define PROCESS_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- options ---- */

/* One CPU is for threads at their end. */
#define PROCESS_SLOTS_MOST (NEOMM_CPU_MAX - 1u)

struct process_options {
    bool bad_free_aborts;
    size_t reserve; /* bytes of addresses */
    size_t retain;  /* bytes of free memory that are kept */
    uint32_t slots; /* 0: by the number of processors */
    enum neomm_heap_profile profile;
    uint32_t sampling; /* of guarded objects */
    char stats[256];   /* file for the report at exit, "" for none */
};

/* Reads NEOMM_MALLOC_OPTIONS over the defaults. What it does not understand it says. */
void process_options_read(struct process_options *options);

/* ---- threads ---- */

/* A thread that uses the engine. Records are never unmapped, so that a stale pointer to one is
 * harmless. */
struct process_thread {
    struct neomm_cpu cpu; /* first: process_cpu points here; its index is the slot */
    uint32_t inside;      /* atomic: in the engine now, or about to be */
    uint32_t open;        /* atomic: may enter just so; not while `closed` or `shared` */
    uint32_t closed;      /* atomic: may not enter, somebody forks */
    uint32_t shared;      /* atomic: others have the same slot, and enter under its lock */
    uint32_t locked;      /* atomic: in the engine under a lock */
    uint32_t taken;       /* a thread's; under the lock of the registry */
    void *vacated;        /* a run whose pages have just moved elsewhere */
    struct process_thread *next_free;
} __attribute__((aligned(64)));

static inline struct process_thread *process_self(void)
{
    return (struct process_thread *)process_cpu;
}

/* False: not now, see process_enter_slowly. The store comes before the load for who closes the
 * gate, which interrupts all processors in between (membarrier). */
static inline bool process_enter(struct process_thread *self)
{
    __atomic_store_n(&self->inside, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return PROCESS_LIKELY(__atomic_load_n(&self->open, __ATOMIC_RELAXED));
}

static inline void process_leave(struct process_thread *self)
{
    __atomic_store_n(&self->inside, 0, __ATOMIC_RELEASE);
}

/* What is left to do for a thread that may not just enter, and for one that entered by a lock. */
struct process_thread *process_enter_slowly(void);
void process_leave_slowly(struct process_thread *self);

/* Enters in every state: starts the process's engine, gives the thread a slot, waits for a fork.
 * NULL: there is no memory to start with. Pairs with process_leave_any. */
static inline struct process_thread *process_enter_any(void)
{
    struct process_thread *self = process_self();
    return process_enter(self) ? self : process_enter_slowly();
}

static inline void process_leave_any(struct process_thread *self)
{
    if (PROCESS_LIKELY(!self->locked))
        process_leave(self);
    else
        process_leave_slowly(self);
}

/* Threads that have a slot now, and the most there were at once. */
uint32_t process_threads(uint32_t *most);

/* ---- the arena ---- */

extern struct process {
    struct neomm *root; /* NULL: not started */
    struct process_options options;
    uint8_t *ram;        /* of frame PROCESS_FIRST */
    size_t reserved;     /* bytes from there */
    size_t managed;      /* atomic; bytes that the engine has */
    uint32_t slots;      /* of threads; the engine has one CPU more, for threads at their end */
    uint32_t grown;      /* atomic; times that `managed` changed */
    uintptr_t zero_base; /* of the addresses of blocks of no bytes, see process_zero.c */
    size_t zero_size;    /* 0: there are none */
    size_t huge_above;   /* larger blocks are huge, see process_huge.c */
} process __attribute__((visibility("hidden")));

/* The first frame of RAM: below lie addresses that devices would want. */
#define PROCESS_FIRST ((uint32_t)4096)

/* Builds the root. False: the system gave no memory. Called once. */
bool process_start(void);
/* More memory for the engine, if nobody has brought any since `grown` was `seen`, or, where there
 * is none, what waited to be used again. False: there was nothing. */
bool process_grow(size_t bytes, uint32_t seen);
/* Memory for the process's own state, zero and never given back. NULL: none. */
void *process_map(size_t bytes);

/* ---- the page source ---- */

/* Bytes of state for `frames` frames of RAM. */
size_t process_source_size(size_t frames);
void process_source_init(struct neomm_page_source *source, void *state, size_t frames);
/* Whether a live run is to grow to where its pages can be moved: it is large enough for that, and
 * cannot grow in place. */
bool process_source_moves(const void *run, size_t bytes, size_t new_bytes);
/* Moves the contents of a run's `bytes`, whole pages, to a larger run, mostly without copying; what
 * `from` holds then is undefined, and it is freed next, by this thread. */
void process_source_move(void *to, void *from, size_t bytes);
/* Contents of whole pages to others, mostly without copying. False: some of it had to be copied. */
bool process_move_pages(uint8_t *to, uint8_t *from, size_t pages);
/* A live run's pages have moved away; it is freed next by this thread. */
void process_source_vacate(void *run);
/* A live run's pages are about to be replaced by others: nothing is known of them any more. */
void process_source_forget(const void *run);
/* Frees a run that holds zeros, as the system has its memory back. */
void process_source_free_zeros(void *run, uint32_t pages);
/* Bytes of free memory that the system does not have back. */
size_t process_retained(void);
/* Gives the system all of it; the bytes given. */
size_t process_purge_all(void);

/* ---- runs between pages without access ---- */

/* Makes of a source another whose runs are fenced. False: no memory. */
bool process_fence_start(struct neomm_page_source *fenced, const struct neomm_page_source *plain,
                         size_t frames);
/* What an access without access there means; NULL: nothing that is known here. For signal handlers
 * too. */
const char *process_fence_explain(const void *pointer);
/* Lets go of what is kept from being used again; false: nothing was. */
bool process_fence_shrink(void);
/* Bytes of runs that have no memory: fences, and what waits to be used again. */
size_t process_fence_empty(void);

/* ---- huge blocks ---- */

struct process_huge_figures {
    size_t live, allocations, frees;
    size_t held, requested; /* bytes */
};

static inline bool process_is_ram(const void *pointer)
{
    return (uintptr_t)pointer - (uintptr_t)process.ram < process.reserved;
}

/* Sets process.huge_above. */
void process_huge_start(void);
/* Of zeros, at the start of a page at least. NULL: no memory, or too many. */
void *process_huge_alloc(size_t size, size_t align);
/* False: not such a block. */
bool process_huge_free(void *pointer);
/* The block with another size, elsewhere perhaps. NULL: it is not one, or stays as it was. */
void *process_huge_resize(void *pointer, size_t size);
/* A huge block with the contents of a live run, which is freed next by this thread and has lost
 * them. NULL: nothing has happened. */
void *process_huge_adopt(void *run, size_t bytes, size_t size);
/* Bytes from a pointer, to the start of a block or into it, to its end; 0: not such a block. */
size_t process_huge_bound(const void *pointer, bool start);
void process_huge_figures(struct process_huge_figures *figures);
/* Bytes that they have, at this moment. */
size_t process_huge_held(void);

/* ---- blocks of no bytes ---- */

/* Has them from now on. False: no addresses. */
bool process_zero_start(void);
/* NULL: there are too many. */
void *process_zero_take(void);
static inline bool process_zero_owns(const void *pointer)
{
    return PROCESS_UNLIKELY((uintptr_t)pointer - process.zero_base < process.zero_size);
}
/* False: it was not live, which is reported. */
bool process_zero_give(const void *pointer);

/* ---- misuse ---- */

/* Something was reported: ends the program, unless the options say otherwise. */
void process_misused(void);
/* Says what the engine does not see: "FUNCTION of POINTER: WHAT". */
void process_say(const char *function, const void *pointer, const char *what);
/* The same for misuse. */
void process_accuse(const char *function, const void *pointer, const char *what);

/* Has accesses explained that fault. False: the system refused. */
bool process_fault_start(void);

/* ---- text ---- */

/* A line for file descriptors, without stdio. */
struct process_text {
    size_t length;
    char text[512];
};
void process_text_add(struct process_text *text, const char *part);
void process_text_number(struct process_text *text, uint64_t number);
void process_text_pointer(struct process_text *text, const void *pointer);
void process_text_write(const struct process_text *text, int file);

/* Adds the report of malloc_stats to `file`. */
void process_report(int file);

/* ---- locks ---- */

struct process_lock {
    uint32_t word; /* atomic; 0 free, 1 held, 2 held and somebody waits */
};
void process_lock(struct process_lock *lock);
void process_unlock(struct process_lock *lock);

#endif
