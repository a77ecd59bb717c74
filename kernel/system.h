/* One instance of the memory manager with its layers: the kernel's own, and those of the tests.
 * SPDX-License-Identifier: MIT */
#ifndef KERNEL_SYSTEM_H
#define KERNEL_SYSTEM_H

#include "ramdisk.h"
#include "virtio_blk.h"

enum system_layer {
    SYSTEM_NOTHING,
    SYSTEM_ROOT,
    SYSTEM_PMM,
    SYSTEM_PAGING,
    SYSTEM_HEAP,
    SYSTEM_SWAP,
    SYSTEM_VMM
};

struct system_options {
    enum system_layer layer; /* the highest to start */
    const struct neomm_layout *layout;
    const struct neomm_bootmap *map; /* resolved */
    const struct neomm_config *config;
    const struct neomm_vmm_options *vmm;
    uint32_t disk_pages; /* of a disk with a swap area; 0: none */
    void *disk_memory;   /* NULL: from the heap */
    bool virtio;         /* instead of that a virtio disk, which has one */
};

#define SYSTEM_ROOT_SIZE 8192

struct system {
    struct neomm *root;
    enum system_layer layer; /* the highest that runs */
    const char *step;        /* what was started or ended last */
    uintptr_t tables_before; /* CR3 */
    struct neomm_page_source direct, window;
    struct ramdisk disk;
    struct virtio_blk virtio;
    void *disk_block; /* its memory, where the heap gave it */
    unsigned char memory[SYSTEM_ROOT_SIZE] __attribute__((aligned(64)));
};

/* Starts the layers from below. On an error those that came up are ended again, and step says
 * which did not. */
neomm_status system_start(struct system *system, const struct system_options *options);

/* Ends the layers above `layer`, from the top; each checks for leaks and refuses. */
neomm_status system_stop(struct system *system, enum system_layer layer);

/* Leaves a system that cannot be ended as it is, except that the CPU leaves its tables. */
void system_abandon(struct system *system);

#endif
