/* What happens to a page while it is on its way to or from swap: the disk's submit calls back
 * into the library, where another CPU could, since no lock is held over I/O.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include <sim/sim.h>

#define PAGE  NEOMM_PAGE_SIZE
#define PAGES 8u
#define RW    (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

/* What is done to page 0 while it is in transit. */
enum meanwhile {
    NOTHING,
    UNMAP,
    UNMAP_AND_MAP_AGAIN, /* and write it */
    WRITE,
    READ,
    PROTECT,
    EVICT_OTHERS,
    UNMAP_OTHERS,
    UNMAP_ALL,
    UNMAP_AND_EVICT_OTHERS, /* which take its slot if it is free */
    MEANWHILES
};

struct transit {
    struct ktap *t;
    struct env env;
    struct neomm_space *space;
    neomm_vaddr_t at;
    uint64_t expected[PAGES];
    bool mapped[PAGES];
    struct neomm_block_device *disk;
    struct neomm_block_device device; /* in front of the disk */
    enum neomm_block_operation operation;
    enum meanwhile meanwhile;
    bool armed; /* the next such operation triggers */
    unsigned triggered;
};

static void put(struct transit *transit, uint32_t page, uint64_t value)
{
    EXPECT_OK(transit->t, env_access(&transit->env, transit->space, transit->at + page * PAGE,
                                     &value, 8, true, true));
    transit->expected[page] = value;
}

static void get(struct transit *transit, uint32_t page)
{
    uint64_t value = 0;
    neomm_status status = env_access(&transit->env, transit->space, transit->at + page * PAGE,
                                     &value, 8, false, true);
    EXPECT_EQ(transit->t, status, transit->mapped[page] ? NEOMM_OK : NEOMM_E_FAULT);
    if (status == NEOMM_OK)
        EXPECT_EQ(transit->t, value, transit->expected[page]);
}

static void unmap(struct transit *transit, uint32_t first, uint32_t pages)
{
    EXPECT_OK(transit->t, neomm_munmap(transit->env.root, transit->space,
                                       transit->at + first * PAGE, pages * PAGE));
    for (uint32_t i = first; i < first + pages; i++)
        transit->mapped[i] = false;
}

/* Who wants a page that is being read waits for that, and not from inside of it. */
static void act(struct transit *transit)
{
    neomm_vaddr_t at = transit->at;
    uint32_t page = transit->operation == NEOMM_BLOCK_READ ? 5 : 0;
    switch (transit->meanwhile) {
    case UNMAP:
        unmap(transit, 0, 1);
        break;
    case UNMAP_AND_MAP_AGAIN:
        unmap(transit, 0, 1);
        EXPECT_OK(transit->t,
                  neomm_mmap(transit->env.root, transit->space, &at, PAGE, RW, NEOMM_MAP_EXACT));
        transit->mapped[0] = true;
        put(transit, 0, 0xabc);
        break;
    case WRITE:
        put(transit, page, 0xdef);
        break;
    case READ:
        get(transit, page);
        break;
    case PROTECT:
        EXPECT_OK(transit->t,
                  neomm_mprotect(transit->env.root, transit->space, at, PAGE, NEOMM_PROT_READ));
        break;
    case EVICT_OTHERS:
        (void)neomm_space_evict(transit->env.root, transit->space, 3);
        break;
    case UNMAP_OTHERS:
        unmap(transit, 1, PAGES - 1);
        break;
    case UNMAP_ALL:
        unmap(transit, 0, PAGES);
        break;
    case UNMAP_AND_EVICT_OTHERS:
        unmap(transit, 0, 1);
        (void)neomm_space_evict(transit->env.root, transit->space, 3);
        break;
    default:
        break;
    }
}

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct transit *transit = device->context;
    if (transit->armed && requests[0]->operation == transit->operation) {
        transit->armed = false;
        transit->triggered++;
        act(transit);
    }
    transit->disk->submit(transit->disk, requests, count);
}

static bool open_transit(struct ktap *t, struct transit *transit, enum neomm_format format,
                         const struct neomm_limits *limits)
{
    const struct env_options options = {
        .layer = ENV_VMM, .format = format, .policy = "fifo", .no_pool = true};
    *transit = (struct transit){.t = t};
    if (!env_open(t, &transit->env, &options))
        return false;
    struct neomm *root = transit->env.root;
    transit->disk = sim_disk_create(transit->env.machine, 64);
    sim_disk_make_swap(transit->disk);
    transit->device = *transit->disk;
    transit->device.context = transit;
    transit->device.submit = submit;
    EXPECT_OK(t, neomm_swap_add(root, &transit->device, 0));
    transit->at = neomm_layout_of(root)->user_base;
    EXPECT_OK(t, neomm_space_create(root, limits, &transit->space));
    neomm_space_activate(root, transit->space);
    EXPECT_OK(t, neomm_mmap(root, transit->space, &transit->at, PAGES * PAGE, RW, 0));
    for (uint32_t i = 0; i < PAGES; i++) {
        transit->mapped[i] = true;
        put(transit, i, 100 + i);
    }
    return true;
}

static void close_transit(struct transit *transit)
{
    EXPECT_EQ(transit->t, transit->triggered, 1);
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < PAGES; i++)
            get(transit, i);
        env_fsck(transit->t, &transit->env);
        (void)neomm_space_evict(transit->env.root, transit->space, PAGES);
    }
    neomm_space_activate(transit->env.root, NULL);
    EXPECT_OK(transit->t, neomm_space_destroy(transit->env.root, transit->space));
    env_close(transit->t, &transit->env);
}

/* Parameter: enum meanwhile | format << 4. */
static const uint64_t meanwhiles[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
                                      0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19};
static const uint64_t format[] = ENV_FORMATS;

static void while_written_out(struct ktap *t)
{
    static struct transit transit;
    ASSERT(t, open_transit(t, &transit, (enum neomm_format)format[t->parameter >> 4], NULL));
    transit.operation = NEOMM_BLOCK_WRITE;
    transit.meanwhile = (enum meanwhile)(t->parameter & 0xf);
    transit.armed = true;
    (void)neomm_space_evict(transit.env.root, transit.space, 1);
    close_transit(&transit);
}

static void while_read_in(struct ktap *t)
{
    static struct transit transit;
    struct neomm_fault_result result;
    ASSERT(t, open_transit(t, &transit, (enum neomm_format)format[t->parameter >> 4], NULL));
    EXPECT_EQ(t, neomm_space_evict(transit.env.root, transit.space, PAGES), PAGES);
    for (uint32_t i = 1; i < 5; i++)
        get(&transit, i);
    transit.operation = NEOMM_BLOCK_READ;
    transit.meanwhile = (enum meanwhile)(t->parameter & 0xf);
    transit.armed = true;
    enum neomm_fault_outcome outcome =
        neomm_fault(transit.env.root, transit.space, transit.at, NEOMM_PF_USER, &result);
    EXPECT_EQ(t, outcome, transit.mapped[0] ? NEOMM_FAULT_RESOLVED : NEOMM_FAULT_SEGV);
    close_transit(&transit);
}

/* A fault at the resident limit evicts; when the lock comes back there is nothing to evict any
 * more, since all of it was unmapped: that is room, not want of memory. */
static void while_evicted_for_a_fault(struct ktap *t)
{
    static struct transit transit;
    const struct neomm_limits limits = {NEOMM_UNLIMITED, PAGES * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    struct neomm_fault_result result;
    ASSERT(t, open_transit(t, &transit, (enum neomm_format)t->parameter, &limits));
    neomm_vaddr_t further = transit.at + 2 * PAGES * PAGE;
    EXPECT_OK(t, neomm_mmap(transit.env.root, transit.space, &further, PAGE, RW, 0));
    transit.operation = NEOMM_BLOCK_WRITE;
    transit.meanwhile = UNMAP_ALL;
    transit.armed = true;
    EXPECT_EQ(t,
              neomm_fault(transit.env.root, transit.space, further, NEOMM_PF_USER | NEOMM_PF_WRITE,
                          &result),
              NEOMM_FAULT_RESOLVED);
    close_transit(&transit);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(while_evicted_for_a_fault, format),
    KTAP_CASE_WITH(while_written_out, meanwhiles),
    KTAP_CASE_WITH(while_read_in, meanwhiles),
};
KTAP_SUITE(vmm_meanwhile, cases);
