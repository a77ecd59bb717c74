/* The root: the one object that all state hangs off.
 * SPDX-License-Identifier: MIT
 *
 * Layers keep their state behind a pointer here, which only their own files may follow. What the
 * base does for all layers (consistency check, snapshot) it does through their operations.
 */
#ifndef NEOMM_BASE_ROOT_H
#define NEOMM_BASE_ROOT_H

#include "frame.h"
#include "lock.h"
#include "memory.h"

#include <neomm/config.h>
#include <neomm/root.h>
#include <neomm/stats.h>

#define NEOMM__ROOT_MAGIC 0x4d4d4f45u

enum neomm__layer {
    NEOMM__LAYER_PMM,
    NEOMM__LAYER_PAGING,
    NEOMM__LAYER_HEAP,
    NEOMM__LAYER_SWAP,
    NEOMM__LAYER_VMM,
    NEOMM__LAYERS
};

/* Where a consistency check puts its findings. */
struct neomm__report {
    neomm_report_fn *line;
    void *context;
    size_t findings;
};

/* What the base may ask of a layer that is initialised. */
struct neomm__layer_ops {
    const char *name;
    void (*fsck)(struct neomm *root, struct neomm__report *report);
    void (*snapshot)(struct neomm *root, struct neomm_snapshot *snapshot);
};

/* How frames above the direct map become memory; paging fills it. */
struct neomm__slot_ops {
    void *(*map)(struct neomm *root, neomm_frame_t frame);
    void (*unmap)(struct neomm *root, void *pointer);
};

/* PCIDs that a CPU goes by; 0 is the kernel's own tables'. */
#define NEOMM__PCIDS 8u

/* The tables that a CPU may have translations of under a PCID, and how many of their invalidations
 * it has seen. */
struct neomm__pcid {
    size_t serial; /* of the tables, 0: none */
    size_t flushes;
};

/* A CPU that sleeps, and the invalidations that it was spared meanwhile (paging/flush.c). */
enum neomm__idle {
    NEOMM__IDLE_SLEEPS = 1,
    NEOMM__IDLE_OWES = 2,    /* what is not global, of the loaded tables */
    NEOMM__IDLE_OWES_ALL = 4 /* everything */
};

/* One CPU's part of a root, on cache lines of its own. */
struct neomm__cpu_state {
    size_t counter[NEOMM_COUNTERS];
    struct neomm_tables *tables; /* loaded on this CPU, NULL: none of this root's */
    uint32_t slots_used;         /* bit n: slot n holds a high frame */
    uint32_t epoch;              /* see epoch.h */
    uint32_t epoch_depth;
    uint32_t reclaiming; /* inside the reclaim callback */
    uint32_t idle;       /* and what it owes for it: enum neomm__idle */
    uint32_t pcid_next;  /* the one to be used for other tables */
    struct neomm__pcid pcid[NEOMM__PCIDS];
} __attribute__((aligned(64)));

/* What kmalloc and kfree read first. All zero, while there is no heap, sends them the slow way.
 * The longest run of sections with memory is the near one: its descriptors lie side by side, so
 * there is no need to look for a frame's section. */
#define NEOMM__HEAP_UNITS 512u
struct neomm__heap_front {
    size_t slab_max;                       /* larger requests have no size class */
    uintptr_t near_base;                   /* where the near frames' memory lies, a C address */
    size_t near_frames;                    /* of them a slab may lie in */
    const struct neomm__frame *near_entry; /* their descriptors */
    struct neomm__heap_cpu *cpu;
    uintptr_t direct_base;               /* of the direct map, a C address */
    size_t direct_frames;                /* that a slab may lie in, and that have a section */
    uint8_t class_of[NEOMM__HEAP_UNITS]; /* by size less 1, in units: the size class */
};

struct neomm {
    uint32_t magic;
    uint32_t cpus;
    struct neomm_layout layout;
    struct neomm_config config;
    struct neomm__frames frames;
    struct neomm__slot_ops slots;
    const struct neomm__layer_ops *layer[NEOMM__LAYERS]; /* NULL: not initialised */
    struct neomm__pmm *pmm;
    struct neomm__paging *paging;
    struct neomm__heap_front front;
    struct neomm__heap *heap;
    struct neomm__swap *swap;
    struct neomm__vmm *vmm;
    neomm_reclaim_fn *reclaim;
    void *reclaim_context;
    uint32_t epoch;
    struct neomm__cpu_state cpu[]; /* `cpus` of them */
};

/* This CPU's part of the root. Relied upon with interrupts masked only. */
static inline struct neomm__cpu_state *neomm__cpu(struct neomm *root)
{
    return &root->cpu[neomm_port_cpu()->index];
}

/* Adds n to a counter. Safe in interrupts and against a move to another CPU. */
static inline void neomm__count_add(struct neomm *root, enum neomm_counter counter, size_t n)
{
    (void)__atomic_fetch_add(&neomm__cpu(root)->counter[counter], n, __ATOMIC_RELAXED);
}

/* Adds to a counter that is only ever counted with interrupts masked: no locked instruction. */
static inline void neomm__count_masked(struct neomm__cpu_state *cpu, enum neomm_counter counter,
                                       size_t n)
{
    neomm__store_relaxed(&cpu->counter[counter], neomm__load_relaxed(&cpu->counter[counter]) + n);
}

#define NEOMM__COUNT(root, COUNTER) neomm__count_add(root, NEOMM_COUNTER_##COUNTER, 1)

/* The counter's sum over all CPUs. */
uint64_t neomm__counter_sum(const struct neomm *root, enum neomm_counter counter);

/* True if the layers that `layer` is built on are there and those above it are not. */
static inline bool neomm__layer_ready(const struct neomm *root, enum neomm__layer layer)
{
    return root->layer[layer] != NULL;
}

/* One finding, as printf would write it (see format.h for the conversions). */
void neomm__report(struct neomm__report *report, const char *format, ...) NEOMM_PRINTF(2, 3);

/* One line to the port's log. */
void neomm__log(enum neomm_log_level level, const char *format, ...) NEOMM_PRINTF(2, 3);

/* Panics with a formatted line. */
NEOMM_NORETURN void neomm__panic(const char *format, ...) NEOMM_PRINTF(1, 2);

/* An invariant of the library itself; kept in every build. */
#define NEOMM__ASSERT(condition)                                                                   \
    ((condition) ? (void)0 : neomm__panic("%s:%d: %s", __FILE__, __LINE__, #condition))

static inline struct neomm__frame *neomm__frame(const struct neomm *root, neomm_frame_t frame)
{
    return neomm__frame_at(&root->frames, frame);
}

#endif
