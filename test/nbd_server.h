/* An NBD server of this machine, as a process of the test's.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_NBD_SERVER_H
#define NEOMM_TEST_NBD_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum nbd_server_kind { NBD_SERVER, NBD_QEMU, NBD_KINDS };

struct nbd_server {
    enum nbd_server_kind kind;
    bool tcp; /* else a UNIX socket */
    pid_t group;
    char directory[64];
    char uri[256];
    uint16_t port;
};

/* Makes a swap area of `pages` pages with mkswap, in a directory of its own, and serves it. False,
 * with a message on stderr. */
bool nbd_server_open(struct nbd_server *server, enum nbd_server_kind kind, bool tcp,
                     uint32_t pages);
/* Ends the server at once, with all of its connections; starts it again on the same file. */
void nbd_server_kill(struct nbd_server *server);
bool nbd_server_restart(struct nbd_server *server);
/* It does nothing until it goes on. */
void nbd_server_stop(const struct nbd_server *server);
void nbd_server_continue(const struct nbd_server *server);
/* Ends it and removes its files. */
void nbd_server_close(struct nbd_server *server);

#endif
