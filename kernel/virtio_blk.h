/* A virtio block device on the PCI bus, by the legacy interface.
 * SPDX-License-Identifier: MIT
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, OASIS: 2.7 (split virtqueues), 4.1.5 and 4.1.4.8
 * (legacy registers), 5.2 (block device).
 */
#ifndef KERNEL_VIRTIO_BLK_H
#define KERNEL_VIRTIO_BLK_H

#include <neomm/neomm.h>

#define VIRTIO_BLK_JOBS  32
#define VIRTIO_BLK_PAGES 16 /* of a transfer, in a row on the disk */
#define VIRTIO_BLK_QUEUE 64

struct virtio_ring;

/* What one transfer of the device carries. */
struct virtio_job {
    struct neomm_block_request *request[VIRTIO_BLK_PAGES];
    uint32_t count; /* 0: not in use */
};

struct virtio_blk {
    struct neomm *root;
    struct neomm_block_device device;
    uint16_t registers; /* the first I/O port */
    uint16_t size;      /* of the queue, in descriptors */
    uint16_t seen;      /* of the used ring */
    neomm_frame_t frame;
    unsigned order; /* of the ring's frames */
    struct virtio_ring *ring;
    struct virtio_job job[VIRTIO_BLK_JOBS];
    struct neomm_block_request *waiting[VIRTIO_BLK_QUEUE]; /* for a job; a ring buffer */
    uint32_t first, count;
};

/* Finds the first such device and starts it; its ring comes from pmm. NEOMM_E_NOENT: there is none;
 * NEOMM_E_UNSUPPORTED: one without what is needed; NEOMM_E_NOMEM. */
neomm_status virtio_blk_open(struct virtio_blk *disk, struct neomm *root);
void virtio_blk_close(struct virtio_blk *disk);

/* Completes what the device has done; false: nothing. */
bool virtio_blk_poll(void);
/* Is the device at work? */
bool virtio_blk_busy(void);

#endif
