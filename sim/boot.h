/* A system on a simulated machine: what a kernel does at boot and at its end, layer by layer.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SIM_BOOT_H
#define NEOMM_SIM_BOOT_H

#include "sim.h"

/* The layers to start: this one and those below it. */
enum sim_layer {
    SIM_LAYER_ROOT,
    SIM_LAYER_PMM,
    SIM_LAYER_PAGING,
    SIM_LAYER_HEAP,
    SIM_LAYER_SWAP,
    SIM_LAYER_VMM
};

struct sim_system_options {
    struct sim_options machine;
    enum sim_layer layer;
    const struct neomm_boot_range *map; /* NULL: all RAM is usable */
    uint32_t map_count;
    /* Zeroed memory for the frame allocator's metadata. NULL: out of the machine's RAM. */
    void *(*metadata)(size_t size);
    uint32_t swap_pages;                 /* of a disk with a swap area; 0: none */
    const struct neomm_config *config;   /* NULL: the defaults */
    const struct neomm_vmm_options *vmm; /* NULL: by the configuration */
    /* Called once the layer below vmm is up: policies are registered here. May be NULL. */
    neomm_status (*prepare)(struct neomm *root);
};

struct sim_system {
    struct sim *sim;
    struct neomm *root;
    struct neomm_block_device *disk;
    enum sim_layer layer; /* the highest that was started */
    uint32_t cpus;
    const char *step; /* the step that failed, or the last */
    struct neomm_page_source direct, window;
};

/* Starts a system; this thread is CPU 0. On an error everything that was started is ended again
 * and system->step says what failed. */
neomm_status sim_system_start(struct sim_system *system, const struct sim_system_options *options);

/* Ends the layers from above, and the machine. The first error of a layer's end (NEOMM_E_BUSY:
 * something leaked) comes back with system->step; the layers below that one are not ended. */
neomm_status sim_system_stop(struct sim_system *system);

/* The same without ending the machine, for those who look at it afterwards. */
neomm_status sim_system_end_layers(struct sim_system *system);

#endif
