/* A disk at an NBD server, by libnbd.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SIM_NBD_DISK_H
#define NEOMM_SIM_NBD_DISK_H

#include <sim/sim.h>

struct sim_nbd_options {
    /* How long a request waits for a server that is away, from when it was submitted; then it fails
     * (NEOMM_E_IO). 0: 10000. */
    uint32_t patience_ms;
    /* How long a server that is connected may take for a request. Then the connection is given up,
     * and what was asked for on it fails: a write may still be carried out whenever the server
     * comes to it, so it is not sent again, and the swap layer does not use its slot again. 0:
     * 5000. */
    uint32_t answer_ms;
};

struct sim_nbd_stats {
    uint64_t transfers;   /* that a server carried out, of pages in a row */
    uint64_t connections; /* that were made, the first one included */
    uint64_t sent_again;  /* transfers whose connection ended before the answer */
    uint64_t failures;    /* transfers that ended as errors */
    uint32_t most;        /* transfers that were under way at once */
};

/* Connects to `uri` (nbd://host:port/export or nbd+unix:///export?socket=path; see the NBD
 * project's doc/uri.md) and takes the export as a disk. A connection that ends is made again, from
 * then on twice as rarely up to once a second, and requests whose answer is missing are sent again;
 * see patience_ms. NULL: not possible now, with the reason in `error`. */
struct neomm_block_device *sim_nbd_disk_open(struct sim *sim, const char *uri,
                                             const struct sim_nbd_options *options, char *error,
                                             size_t size);

void sim_nbd_stats(struct neomm_block_device *disk, struct sim_nbd_stats *stats);

#endif
