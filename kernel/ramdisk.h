/* A disk in memory.
 * SPDX-License-Identifier: MIT */
#ifndef KERNEL_RAMDISK_H
#define KERNEL_RAMDISK_H

#include <neomm/neomm.h>

#define RAMDISK_QUEUE 64

struct ramdisk {
    struct neomm *root;
    struct neomm_block_device device;
    unsigned char *memory;
    struct neomm_block_request *queue[RAMDISK_QUEUE];
    uint32_t first, count; /* of the queue's requests */
    struct ramdisk *next;  /* in the list of all disks */
};

/* Makes a disk over `memory`, `pages` pages, and writes the header of a swap area to it. */
void ramdisk_open(struct ramdisk *disk, struct neomm *root, void *memory, uint32_t pages);
void ramdisk_close(struct ramdisk *disk);

/* Completes one request; false: there is none. */
bool ramdisk_poll(void);

#endif
