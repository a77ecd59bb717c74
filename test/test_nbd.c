/* Swap on disks outside of the process: a file, and real NBD servers, over TCP and UNIX sockets,
 * that are killed, started again, stopped for a while, and never come back.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "nbd_server.h"

#include "base/bits.h"

#include <sim/backend.h>
#include <sim/nbd/nbd_disk.h>

#include <stdio.h>
#include <string.h>

#define WORDS      (NEOMM_PAGE_SIZE / sizeof(uint64_t))
#define PAGES      200u
#define LIMIT      24u
#define DISK_PAGES 512u
#define RW         (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

/* A process with more pages than it may hold, on a disk of a server. */
struct desk {
    struct ktap *t;
    struct env env;
    struct nbd_server server;
    struct neomm_block_device *disk;
    struct neomm_space *space;
    neomm_vaddr_t at;
    uint32_t version[PAGES]; /* of what was stored; 0: nothing */
};

/* ---- a process that swaps ---- */

static bool start_process(struct desk *desk)
{
    const struct neomm_limits limits = {NEOMM_UNLIMITED, LIMIT * NEOMM_PAGE_SIZE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    desk->at = neomm_layout_of(desk->env.root)->user_base;
    EXPECT_OK(desk->t, neomm_space_create(desk->env.root, &limits, &desk->space));
    if (!desk->space)
        return false;
    neomm_space_activate(desk->env.root, desk->space);
    return neomm_mmap(desk->env.root, desk->space, &desk->at, PAGES * NEOMM_PAGE_SIZE, RW, 0) ==
           NEOMM_OK;
}

static void end_process(struct desk *desk)
{
    neomm_space_activate(desk->env.root, NULL);
    if (desk->space)
        EXPECT_OK(desk->t, neomm_space_destroy(desk->env.root, desk->space));
    env_close(desk->t, &desk->env);
}

static void make_page(uint64_t *words, uint32_t page, uint32_t version)
{
    uint64_t seed = (uint64_t)version << 32 | page;
    for (size_t i = 0; i < WORDS; i++)
        words[i] = neomm__mix(seed += 0x9e3779b97f4a7c15u);
}

static neomm_status move(struct desk *desk, uint32_t page, uint64_t *words, bool write)
{
    return env_access(&desk->env, desk->space, desk->at + page * NEOMM_PAGE_SIZE, words,
                      NEOMM_PAGE_SIZE, write, true);
}

static neomm_status store(struct desk *desk, uint32_t page)
{
    uint64_t words[WORDS];
    make_page(words, page, desk->version[page] + 1);
    neomm_status status = move(desk, page, words, true);
    desk->version[page] += status == NEOMM_OK;
    return status;
}

/* An error, or what was stored last. */
static neomm_status load(struct desk *desk, uint32_t page)
{
    uint64_t words[WORDS], wanted[WORDS];
    make_page(wanted, page, desk->version[page]);
    neomm_status status = move(desk, page, words, false);
    EXPECT(desk->t, status != NEOMM_OK || memcmp(words, wanted, sizeof(words)) == 0);
    return status;
}

static void store_all(struct desk *desk)
{
    for (uint32_t i = 0; i < PAGES; i++)
        EXPECT_OK(desk->t, store(desk, i));
}

/* The number of pages that could not be had. */
static uint32_t load_all(struct desk *desk)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < PAGES; i++)
        lost += load(desk, i) != NEOMM_OK;
    return lost;
}

/* ---- a file ---- */

static void swap_to_a_file(struct ktap *t)
{
    struct desk desk = {.t = t};
    char error[256] = "", path[128];
    const struct env_options options = {.layer = ENV_VMM, .format = NEOMM_FORMAT_4LEVEL};
    /* The server is there for the file only. */
    ASSERT(t, nbd_server_open(&desk.server, NBD_QEMU, false, DISK_PAGES));
    nbd_server_kill(&desk.server);
    ASSERT(t, env_open(t, &desk.env, &options));
    (void)snprintf(path, sizeof(path), "%s/disk", desk.server.directory);
    desk.disk = sim_file_disk_open(desk.env.machine, path, error, sizeof(error));
    if (!desk.disk)
        ktap_fail(t, __FILE__, __LINE__, error);
    EXPECT_OK(t, neomm_swap_add(desk.env.root, desk.disk, 0));
    if (start_process(&desk)) {
        store_all(&desk);
        EXPECT_EQ(t, load_all(&desk), 0);
        store_all(&desk);
        EXPECT_EQ(t, load_all(&desk), 0);
    }
    end_process(&desk);
    nbd_server_close(&desk.server);
}

static void no_such_file(struct ktap *t)
{
    struct env env;
    const struct env_options options = {.layer = ENV_SWAP, .format = NEOMM_FORMAT_4LEVEL};
    char error[256] = "";
    ASSERT(t, env_open(t, &env, &options));
    EXPECT(t, !sim_file_disk_open(env.machine, "/nowhere/at/all", error, sizeof(error)));
    EXPECT(t, strstr(error, "/nowhere/at/all: No such file") != NULL);
    EXPECT(t, !sim_file_disk_open(env.machine, "/dev/null", error, sizeof(error)));
    EXPECT(t, !sim_nbd_disk_open(env.machine, "nbd+unix:///x?socket=/nowhere/at/all", NULL, error,
                                 sizeof(error)));
    EXPECT(t, strstr(error, "/nowhere/at/all") != NULL);
    EXPECT(t, !sim_nbd_disk_open(env.machine, "what is this", NULL, error, sizeof(error)));
    env_close(t, &env);
}

/* ---- servers ---- */

/* Bit 0: which server; bit 1: TCP. */
static const uint64_t servers[] = {0, 1, 2, 3};
static const uint64_t one_of_each[] = {0, 3};

static bool desk_open(struct ktap *t, struct desk *desk, uint64_t which,
                      const struct sim_nbd_options *options)
{
    const struct env_options machine = {.layer = ENV_VMM, .format = NEOMM_FORMAT_4LEVEL};
    char error[256] = "";
    *desk = (struct desk){.t = t};
    if (!nbd_server_open(&desk->server, which & 1, which & 2, DISK_PAGES)) {
        ktap_fail(t, __FILE__, __LINE__, "no server");
        return false;
    }
    if (!env_open(t, &desk->env, &machine))
        return false;
    desk->disk =
        sim_nbd_disk_open(desk->env.machine, desk->server.uri, options, error, sizeof(error));
    if (!desk->disk) {
        ktap_fail(t, __FILE__, __LINE__, error);
        return false;
    }
    EXPECT_EQ(t, desk->disk->pages, DISK_PAGES);
    EXPECT_OK(t, neomm_swap_add(desk->env.root, desk->disk, 0));
    return start_process(desk);
}

static void desk_close(struct desk *desk)
{
    end_process(desk);
    nbd_server_close(&desk->server);
}

static struct sim_nbd_stats stats_of(struct desk *desk)
{
    struct sim_nbd_stats stats;
    sim_nbd_stats(desk->disk, &stats);
    return stats;
}

static void swap_to_a_server(struct ktap *t)
{
    struct desk desk;
    if (desk_open(t, &desk, t->parameter, NULL)) {
        for (unsigned round = 0; round < 3; round++) {
            store_all(&desk);
            EXPECT_EQ(t, load_all(&desk), 0);
        }
        EXPECT_EQ(t, stats_of(&desk).connections, 1);
        EXPECT_EQ(t, stats_of(&desk).failures, 0);
        EXPECT(t, stats_of(&desk).transfers != 0);
    }
    desk_close(&desk);
}

/* Nothing is lost, and nobody sees an error: requests wait, and are sent again. */
static void server_that_comes_back(struct ktap *t)
{
    const struct sim_nbd_options options = {.patience_ms = 120000, .answer_ms = 60000};
    struct desk desk;
    if (desk_open(t, &desk, t->parameter, &options)) {
        for (unsigned round = 0; round < 3; round++) {
            store_all(&desk);
            nbd_server_kill(&desk.server);
            EXPECT(t, nbd_server_restart(&desk.server));
            EXPECT_EQ(t, load_all(&desk), 0);
        }
        EXPECT_EQ(t, stats_of(&desk).failures, 0);
        EXPECT(t, stats_of(&desk).connections >= 4);
    }
    desk_close(&desk);
}

/* While it is away each access that needs it ends with an error, in a time that has a bound;
 * nothing is lost, and all is there when it is back. */
static void server_that_is_away(struct ktap *t)
{
    const struct sim_nbd_options options = {.patience_ms = 20, .answer_ms = 60000};
    struct desk desk;
    if (desk_open(t, &desk, t->parameter, &options)) {
        store_all(&desk);
        nbd_server_kill(&desk.server);
        uint32_t lost = 0;
        for (uint32_t i = 0; i < 4; i++)
            lost += load(&desk, i) != NEOMM_OK;
        EXPECT_EQ(t, lost, 4);
        EXPECT(t, stats_of(&desk).failures != 0);
        EXPECT(t, nbd_server_restart(&desk.server));
        for (unsigned i = 0; i < 1000 && load_all(&desk) != 0; i++)
            (void)neomm_port_now();
        EXPECT_EQ(t, load_all(&desk), 0);
        store_all(&desk);
        EXPECT_EQ(t, load_all(&desk), 0);
    }
    desk_close(&desk);
}

/* A server that takes requests and does not answer: what was asked fails, over another connection
 * all goes on. What it stored late is in slots that are used no more. */
static void server_that_hangs(struct ktap *t)
{
    const struct sim_nbd_options options = {.patience_ms = 50, .answer_ms = 400};
    struct desk desk;
    if (desk_open(t, &desk, t->parameter, &options)) {
        store_all(&desk);
        nbd_server_stop(&desk.server);
        EXPECT(t, load(&desk, 0) != NEOMM_OK);
        nbd_server_continue(&desk.server);
        for (unsigned i = 0; i < 1000 && load_all(&desk) != 0; i++)
            (void)neomm_port_now();
        EXPECT_EQ(t, load_all(&desk), 0);
        EXPECT(t, stats_of(&desk).connections >= 2);
    }
    desk_close(&desk);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(swap_to_a_file),
    KTAP_CASE(no_such_file),
    KTAP_CASE_WITH(swap_to_a_server, servers),
    KTAP_CASE_WITH(server_that_comes_back, servers),
    KTAP_CASE_WITH(server_that_is_away, one_of_each),
    KTAP_CASE_WITH(server_that_hangs, one_of_each),
};

KTAP_SUITE(nbd, cases);
