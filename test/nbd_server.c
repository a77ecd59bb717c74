/* Starting and ending NBD servers.
 * SPDX-License-Identifier: MIT */
#include "nbd_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH_SIZE = 96, WAIT_STEPS = 2000, STEP_NS = 10000000 };

static void path_of(const struct nbd_server *server, const char *name, char *path)
{
    (void)snprintf(path, PATH_SIZE, "%s/%s", server->directory, name);
}

static void nap(void)
{
    const struct timespec step = {.tv_nsec = STEP_NS};
    (void)nanosleep(&step, NULL);
}

/* ---- sockets ---- */

static struct sockaddr_in local(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

/* A port that nobody had a moment ago. */
static uint16_t free_port(void)
{
    struct sockaddr_in address = local(0);
    socklen_t size = sizeof(address);
    int file = socket(AF_INET, SOCK_STREAM, 0);
    bool good = file >= 0 && bind(file, (struct sockaddr *)&address, size) == 0 &&
                getsockname(file, (struct sockaddr *)&address, &size) == 0;
    if (file >= 0)
        (void)close(file);
    return good ? ntohs(address.sin_port) : 0;
}

static bool connects(const struct nbd_server *server)
{
    struct sockaddr_in inet = local(server->port);
    struct sockaddr_un unix_ = {.sun_family = AF_UNIX};
    path_of(server, "socket", unix_.sun_path);
    int file = socket(server->tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    bool good =
        file >= 0 && (server->tcp ? connect(file, (struct sockaddr *)&inet, sizeof(inet))
                                  : connect(file, (struct sockaddr *)&unix_, sizeof(unix_))) == 0;
    if (file >= 0)
        (void)close(file);
    return good;
}

static bool wait_until_there(const struct nbd_server *server)
{
    for (unsigned i = 0; i < WAIT_STEPS; i++) {
        if (connects(server))
            return true;
        nap();
    }
    (void)fprintf(stderr, "nbd_server: %s does not come up\n", server->uri);
    return false;
}

/* ---- processes ---- */

/* Without output, in a process group of its own. */
static pid_t start(char *const *arguments)
{
    pid_t child = fork();
    if (child != 0) {
        if (child > 0)
            (void)setpgid(child, child);
        return child;
    }
    (void)setpgid(0, 0);
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        (void)dup2(null, i);
    (void)execvp(arguments[0], arguments);
    _exit(127);
}

static bool run(char *const *arguments)
{
    int status = 1;
    pid_t child = start(arguments);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    (void)fprintf(stderr, "nbd_server: %s failed\n", arguments[0]);
    return false;
}

/* 0: there is none yet. */
static pid_t read_number(const char *path)
{
    int number = 0;
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%d", &number) != 1)
            number = 0;
        (void)fclose(file);
    }
    return number;
}

/* Only as a daemon does it serve more than one client; its number is in a file then, and its group
 * has the same. */
static bool start_nbd_server(struct nbd_server *server)
{
    char config[PATH_SIZE], disk[PATH_SIZE], socket[PATH_SIZE], pid[PATH_SIZE];
    path_of(server, "config", config);
    path_of(server, "disk", disk);
    path_of(server, "socket", socket);
    FILE *file = fopen(config, "w");
    if (!file)
        return false;
    if (server->tcp)
        (void)fprintf(file, "[generic]\nlistenaddr = 127.0.0.1\nport = %u\n", server->port);
    else /* it listens to TCP as well, whatever one says */
        (void)fprintf(file, "[generic]\nlistenaddr = 127.0.0.1\nport = %u\nunixsock = %s\n",
                      server->port, socket);
    (void)fprintf(file, "[swap]\nexportname = %s\ntrim = true\nflush = true\n", disk);
    (void)fclose(file);
    path_of(server, "pid", pid);
    char *const arguments[] = {"nbd-server", "-C", config, "-p", pid, NULL};
    if (!run(arguments))
        return false;
    for (unsigned i = 0; i < WAIT_STEPS && server->group == 0; i++, nap())
        server->group = read_number(pid);
    return server->group != 0;
}

static bool start_qemu_nbd(struct nbd_server *server)
{
    char disk[PATH_SIZE], socket[PATH_SIZE], port[8];
    path_of(server, "disk", disk);
    path_of(server, "socket", socket);
    (void)snprintf(port, sizeof(port), "%u", server->port);
    char *const tcp[] = {"qemu-nbd", "-f", "raw",       "-x", "swap", "-t", "-e",
                         "4",        "-b", "127.0.0.1", "-p", port,   disk, NULL};
    char *const unix_[] = {"qemu-nbd", "-f", "raw", "-x",   "swap", "-t",
                           "-e",       "4",  "-k",  socket, disk,   NULL};
    server->group = start(server->tcp ? tcp : unix_);
    return server->group > 0;
}

bool nbd_server_restart(struct nbd_server *server)
{
    bool good = server->kind == NBD_QEMU ? start_qemu_nbd(server) : start_nbd_server(server);
    return good && wait_until_there(server);
}

void nbd_server_kill(struct nbd_server *server)
{
    char socket[PATH_SIZE], pid[PATH_SIZE];
    path_of(server, "socket", socket);
    path_of(server, "pid", pid);
    if (server->group <= 0)
        return;
    (void)kill(-server->group, SIGKILL);
    while (waitpid(-server->group, NULL, 0) > 0 || errno == EINTR)
        ;
    server->group = 0;
    (void)unlink(socket);
    (void)unlink(pid);
}

void nbd_server_stop(const struct nbd_server *server)
{
    (void)kill(-server->group, SIGSTOP);
}

void nbd_server_continue(const struct nbd_server *server)
{
    (void)kill(-server->group, SIGCONT);
}

/* ---- beginning and end ---- */

static bool make_disk(const struct nbd_server *server, uint32_t pages)
{
    char disk[PATH_SIZE];
    path_of(server, "disk", disk);
    int file = open(disk, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = file >= 0 && ftruncate(file, (off_t)pages * 4096) == 0;
    if (file >= 0)
        (void)close(file);
    char *const arguments[] = {"/sbin/mkswap", "-p", "4096", disk, NULL};
    return good && run(arguments);
}

bool nbd_server_open(struct nbd_server *server, enum nbd_server_kind kind, bool tcp, uint32_t pages)
{
    memset(server, 0, sizeof(*server));
    server->kind = kind;
    server->tcp = tcp;
    server->port = free_port();
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* daemons are waited for, too */
    (void)snprintf(server->directory, sizeof(server->directory), "/tmp/neomm-nbd-XXXXXX");
    if (server->port == 0 || !mkdtemp(server->directory))
        return false;
    if (tcp)
        (void)snprintf(server->uri, sizeof(server->uri), "nbd://127.0.0.1:%u/swap", server->port);
    else
        (void)snprintf(server->uri, sizeof(server->uri), "nbd+unix:///swap?socket=%s/socket",
                       server->directory);
    if (make_disk(server, pages) && nbd_server_restart(server))
        return true;
    nbd_server_close(server);
    return false;
}

void nbd_server_close(struct nbd_server *server)
{
    static const char *const names[] = {"config", "disk", "socket", "pid"};
    char path[PATH_SIZE];
    nbd_server_kill(server);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        path_of(server, names[i], path);
        (void)unlink(path);
    }
    (void)rmdir(server->directory);
}
