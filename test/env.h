/* Where a test gets its machine: a simulated one on the host, a second root over a reserved
 * range in the kernel. Tests that use only this and the public headers run on both.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_ENV_H
#define NEOMM_TEST_ENV_H

#include "ktap.h"

#include <neomm/neomm.h>

/* Layers to initialise: this one and those below it. */
enum env_layer { ENV_ROOT, ENV_PMM, ENV_PAGING, ENV_HEAP, ENV_SWAP, ENV_VMM };

struct env_options {
    enum env_layer layer;
    enum neomm_format format; /* ignored in a kernel, which has one */
    uint64_t ram_bytes;       /* 0: 16 MiB */
    uint32_t cpus;            /* 0: 1 */
    uint64_t swap_pages;      /* a RAM disk with a swap area; 0: none */
    uint64_t seed;
    uint32_t whims;                     /* of the MMUs, see sim_options; ignored in a kernel */
    const struct neomm_boot_range *map; /* NULL: one usable range from 0 */
    uint32_t map_count;
    const struct neomm_config *config;
    bool no_pool; /* every page that is swapped goes to the disk, where it may come to harm */
    bool no_zero_page;
    const char *policy;
    bool aslr;
    enum neomm_overcommit overcommit;
    enum neomm_huge huge;
    uint32_t readahead;
};

struct env {
    struct neomm *root;
    struct env_options options;
    void *machine; /* struct sim * on the host */
    void *system;  /* the program's own */
    struct neomm_block_device *disk;
    uint64_t used_at_start; /* frames in use once everything was initialised */
};

/* The formats this build can run: 2-level and PAE, or 4- and 5-level. For parameter lists. */
#if UINTPTR_MAX > 0xffffffffu
#define ENV_FORMATS                                                                                \
    {                                                                                              \
        NEOMM_FORMAT_4LEVEL, NEOMM_FORMAT_5LEVEL                                                   \
    }
#else
#define ENV_FORMATS                                                                                \
    {                                                                                              \
        NEOMM_FORMAT_2LEVEL, NEOMM_FORMAT_PAE                                                      \
    }
#endif

/* Boots a machine up to options->layer; CPU 0 is the current one. False: failed, noted in t. */
bool env_open(struct ktap *t, struct env *env, const struct env_options *options);

/* Ends it: neomm_fsck must find nothing, every layer must end without NEOMM_E_BUSY, every frame
 * must be back, every port and TLB check must hold; whatever does not is a failure of t. */
void env_close(struct ktap *t, struct env *env);
/* Without any look at it: of a schedule that ended in the middle. */
void env_abandon(struct env *env);

/* neomm_fsck with every finding noted as a failure. */
void env_fsck(struct ktap *t, struct env *env);

/* Goes on as another CPU of the machine. */
void env_switch_cpu(struct env *env, uint32_t cpu);

/* The current CPU reads or writes memory at a virtual address as user code (user true) or as the
 * kernel, through MMU and TLB, with page faults handled by neomm_fault for `space` (NULL: none).
 * NEOMM_OK, or NEOMM_E_FAULT when the fault was not resolved. */
neomm_status env_access(struct env *env, struct neomm_space *space, neomm_vaddr_t vaddr, void *data,
                        size_t size, bool write, bool user);

/* ---- instrumented host builds only: false elsewhere ---- */

/* From now on the nth (from 1) pass through a fault point fails, `forever`: and all after it.
 * n == 0: none fails. Starts counting at 0. */
bool env_fault_plan(struct env *env, uint64_t n, bool forever);
/* Passes through fault points since the plan was set. */
uint64_t env_fault_count(struct env *env);

#endif
