/* Disks: pages in host memory, requests that complete when the seed says, and operations that go
 * wrong on purpose.
 * SPDX-License-Identifier: MIT */
#include "backend.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Pages that a discard fills, of those it names: an area may be larger than the host's memory. */
#define DISCARD_POISONED 65536u

struct pending {
    struct pending *next;
    struct neomm_block_request *request;
    bool late; /* others first */
};

struct sim_disk {
    struct neomm_block_device device; /* first: the device is the disk */
    struct sim *sim;
    struct sim_disk *next;
    uint8_t *now, *before; /* contents; of each page, what the last write replaced */
    uint8_t *asked;        /* what the last write that was not refused should have left */
    struct pending *first;
    uint64_t pending;
    uint64_t operations;
    uint64_t transfers; /* runs of requests that came together */
    uint64_t on_way, most_on_way;
    uint64_t discarded; /* pages */
    uint64_t fault_at;  /* number of the operation that goes wrong, 0: none */
    enum sim_disk_fault fault;
    bool forever;
    uint64_t every; /* and each so many operations, 0: not */
};

static struct sim_disk *disk_of(const struct neomm_block_device *device)
{
    return device->context;
}

static uint8_t *page_at(uint8_t *contents, uint32_t page)
{
    return contents + ((size_t)page << NEOMM_PAGE_SHIFT);
}

/* ---- one operation ---- */

static bool faulty(const struct sim_disk *disk, enum sim_disk_fault *fault)
{
    *fault = disk->fault;
    if (disk->every != 0)
        return disk->operations % disk->every == 0;
    return disk->fault_at != 0 && (disk->operations == disk->fault_at ||
                                   (disk->forever && disk->operations > disk->fault_at));
}

static void flip_a_bit(struct sim_disk *disk, uint8_t *page)
{
    uint64_t at = sim_random(disk->sim) % (NEOMM_PAGE_SIZE * 8);
    page[at >> 3] ^= (uint8_t)(1u << (at & 7));
}

static void store(struct sim_disk *disk, uint32_t page, const uint8_t *data, size_t size)
{
    memcpy(page_at(disk->before, page), page_at(disk->now, page), NEOMM_PAGE_SIZE);
    memcpy(page_at(disk->now, page), data, size);
}

/* A page that is not this one and not the header. */
static uint32_t another_page(struct sim_disk *disk, uint32_t page)
{
    uint32_t other = page + 1 < disk->device.pages ? page + 1 : 1;
    return other == page ? 0 : other;
}

/* So many bytes are moved, and nobody says that the rest was not. */
static size_t shortened(struct sim_disk *disk)
{
    return sim_random(disk->sim) % NEOMM_PAGE_SIZE;
}

static neomm_status write_page(struct sim_disk *disk, uint32_t page, const uint8_t *data,
                               const enum sim_disk_fault *fault)
{
    if (!fault || *fault != SIM_DISK_FAIL)
        memcpy(page_at(disk->asked, page), data, NEOMM_PAGE_SIZE);
    if (!fault || *fault == SIM_DISK_STALE || *fault == SIM_DISK_DELAY) {
        store(disk, page, data, NEOMM_PAGE_SIZE);
        return NEOMM_OK;
    }
    switch (*fault) {
    case SIM_DISK_FAIL:
        return NEOMM_E_IO;
    case SIM_DISK_TEAR:
        store(disk, page, data, NEOMM_PAGE_SIZE / 2);
        break;
    case SIM_DISK_CORRUPT:
        store(disk, page, data, NEOMM_PAGE_SIZE);
        flip_a_bit(disk, page_at(disk->now, page));
        break;
    case SIM_DISK_MISDIRECT:
        store(disk, another_page(disk, page), data, NEOMM_PAGE_SIZE);
        break;
    case SIM_DISK_SHORTEN:
        store(disk, page, data, shortened(disk));
        break;
    case SIM_DISK_LOSE:
    case SIM_DISK_STALE:
    case SIM_DISK_DELAY:
        break;
    }
    return NEOMM_OK;
}

static neomm_status read_page(struct sim_disk *disk, uint32_t page, uint8_t *data,
                              const enum sim_disk_fault *fault)
{
    size_t moved = fault && *fault == SIM_DISK_SHORTEN ? shortened(disk) : NEOMM_PAGE_SIZE;
    memcpy(data, page_at(disk->now, page), moved);
    memset(data + moved, 0, NEOMM_PAGE_SIZE - moved);
    if (!fault)
        return NEOMM_OK;
    switch (*fault) {
    case SIM_DISK_FAIL:
        return NEOMM_E_IO;
    case SIM_DISK_TEAR:
        memcpy(data + NEOMM_PAGE_SIZE / 2, page_at(disk->before, page) + NEOMM_PAGE_SIZE / 2,
               NEOMM_PAGE_SIZE / 2);
        break;
    case SIM_DISK_CORRUPT:
        flip_a_bit(disk, data);
        break;
    case SIM_DISK_STALE:
        memcpy(data, page_at(disk->before, page), NEOMM_PAGE_SIZE);
        break;
    case SIM_DISK_MISDIRECT:
        memcpy(data, page_at(disk->now, another_page(disk, page)), NEOMM_PAGE_SIZE);
        break;
    case SIM_DISK_LOSE:
    case SIM_DISK_SHORTEN:
    case SIM_DISK_DELAY:
        break;
    }
    return NEOMM_OK;
}

static bool is_area(const struct sim_disk *disk)
{
    return memcmp(page_at(disk->now, 1) - 10, "SWAPSPACE2", 10) == 0;
}

/* What is in the pages from now on is anything; the header is not to be lost. */
static neomm_status discard(struct sim_disk *disk, const struct neomm_block_request *request)
{
    if (!(disk->device.flags & NEOMM_BLOCK_DISCARDS))
        sim_violation(disk->sim, "disk: a discard, which it does not take");
    if (request->pages == 0 || request->page == 0 || request->page >= disk->device.pages ||
        request->pages > disk->device.pages - request->page) {
        sim_violation(disk->sim, "disk: a discard of %u pages from %u of %u", request->pages,
                      request->page, disk->device.pages);
        return NEOMM_E_IO;
    }
    for (uint32_t i = 0; i < request->pages && i < DISCARD_POISONED; i++)
        memset(page_at(disk->now, request->page + i), 0xdc, NEOMM_PAGE_SIZE);
    disk->discarded += request->pages;
    return NEOMM_OK;
}

static neomm_status transfer(struct sim_disk *disk, const struct neomm_block_request *request)
{
    uint8_t buffer[NEOMM_PAGE_SIZE];
    enum sim_disk_fault kind;
    neomm_paddr_t paddr = neomm_frame_paddr(request->frame);
    disk->operations++;
    const enum sim_disk_fault *fault = faulty(disk, &kind) ? &kind : NULL;
    if (request->operation == NEOMM_BLOCK_FLUSH)
        return fault && *fault == SIM_DISK_FAIL ? NEOMM_E_IO : NEOMM_OK;
    if (request->operation == NEOMM_BLOCK_DISCARD)
        return fault && *fault == SIM_DISK_FAIL ? NEOMM_E_IO : discard(disk, request);
    if (request->page >= disk->device.pages) {
        sim_violation(disk->sim, "disk: page %u of %u", request->page, disk->device.pages);
        return NEOMM_E_IO;
    }
    if (request->operation == NEOMM_BLOCK_WRITE && request->page == 0 && is_area(disk))
        sim_violation(disk->sim, "disk: the header of a swap area is written");
    if (request->operation == NEOMM_BLOCK_WRITE)
        return sim_physical_read(disk->sim, paddr, buffer, sizeof(buffer))
                   ? write_page(disk, request->page, buffer, fault)
                   : NEOMM_E_IO;
    neomm_status status = read_page(disk, request->page, buffer, fault);
    /* A read that fails may have moved anything or nothing: half of it. */
    size_t moved = status == NEOMM_OK ? sizeof(buffer) : sizeof(buffer) / 2;
    return sim_physical_write(disk->sim, paddr, buffer, moved) ? status : NEOMM_E_IO;
}

/* ---- requests ---- */

/* The completion callback runs as an interrupt handler. */
static void complete(struct sim_disk *disk, struct neomm_block_request *request)
{
    sim_lock(disk->sim);
    request->status = transfer(disk, request);
    disk->on_way--;
    sim_unlock(disk->sim);
    neomm_irq_t irq = neomm_port_irq_save();
    sim_place.interrupts++;
    request->done(request);
    sim_place.interrupts--;
    neomm_port_irq_restore(irq);
}

static struct neomm_block_request *take(struct sim_disk *disk, uint64_t index)
{
    struct pending **link = &disk->first;
    while (index-- > 0)
        link = &(*link)->next;
    if ((*link)->late)
        for (struct pending **other = &disk->first; *other; other = &(*other)->next)
            if (!(*other)->late)
                link = other;
    struct pending *pending = *link;
    struct neomm_block_request *request = pending->request;
    *link = pending->next;
    disk->pending--;
    free(pending);
    return request;
}

bool sim_disk_complete_one(struct sim *sim)
{
    sim_lock(sim);
    uint64_t total = sim_disks_pending(sim);
    uint64_t index = total ? sim_random(sim) % total : 0;
    struct sim_disk *disk = sim->disks;
    while (disk && index >= disk->pending) {
        index -= disk->pending;
        disk = disk->next;
    }
    struct neomm_block_request *request = disk ? take(disk, index) : NULL;
    sim_unlock(sim);
    if (!request)
        return sim_backends_complete_one(sim);
    complete(disk, request);
    return true;
}

uint64_t sim_disks_pending(const struct sim *sim)
{
    uint64_t total = 0;
    for (const struct sim_disk *disk = sim->disks; disk; disk = disk->next)
        total += disk->pending;
    return total;
}

static bool is_pending(const struct sim_disk *disk, const struct neomm_block_request *request)
{
    for (const struct pending *p = disk->first; p; p = p->next)
        if (p->request == request)
            return true;
    return false;
}

static void queue(struct sim_disk *disk, struct neomm_block_request *request, bool late)
{
    struct pending *pending = malloc(sizeof(*pending));
    if (!pending)
        sim_crash(disk->sim, true, "sim: the host refused memory for a disk request");
    sim_lock(disk->sim);
    if (is_pending(disk, request))
        sim_violation(disk->sim, "disk: a request was submitted that is on its way already");
    pending->request = request;
    pending->late = late;
    pending->next = disk->first;
    disk->first = pending;
    disk->pending++;
    sim_unlock(disk->sim);
}

static void note_submitted(struct sim_disk *disk, struct neomm_block_request **requests,
                           uint32_t count)
{
    sim_lock(disk->sim);
    for (uint32_t i = 0; i < count; i += neomm_block_run(requests + i, count - i))
        disk->transfers++;
    disk->on_way += count;
    if (disk->most_on_way < disk->on_way)
        disk->most_on_way = disk->on_way;
    sim_unlock(disk->sim);
}

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct sim_disk *disk = disk_of(device);
    if (sim_place.cpu->port.lock_depth != 0)
        sim_violation(disk->sim, "disk: submit with %u locks held", sim_place.cpu->port.lock_depth);
    note_submitted(disk, requests, count);
    for (uint32_t i = 0; i < count; i++) {
        bool late = disk->fault == SIM_DISK_DELAY && disk->every != 0 &&
                    sim_random(disk->sim) % disk->every == 0;
        if (late || (sim_random(disk->sim) & 1))
            queue(disk, requests[i], late);
        else
            complete(disk, requests[i]);
    }
}

/* ---- making, and what tests ask ---- */

static uint8_t *map_pages(uint32_t pages)
{
    void *at = mmap(NULL, (size_t)pages << NEOMM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void destroy(struct sim_disk *disk)
{
    size_t bytes = (size_t)disk->device.pages << NEOMM_PAGE_SHIFT;
    while (disk->pending)
        (void)take(disk, 0);
    if (disk->now)
        (void)munmap(disk->now, bytes);
    if (disk->before)
        (void)munmap(disk->before, bytes);
    if (disk->asked)
        (void)munmap(disk->asked, bytes);
    free(disk);
}

struct neomm_block_device *sim_disk_create(struct sim *sim, uint32_t pages)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));
    if (!disk)
        return NULL;
    disk->device = (struct neomm_block_device){
        .name = "sim", .pages = pages, .context = disk, .submit = submit};
    disk->sim = sim;
    disk->now = map_pages(pages);
    disk->before = map_pages(pages);
    disk->asked = map_pages(pages);
    if (!disk->now || !disk->before || !disk->asked) {
        destroy(disk);
        return NULL;
    }
    disk->next = sim->disks;
    sim->disks = disk;
    return &disk->device;
}

void sim_disks_destroy(struct sim *sim)
{
    while (sim->disks) {
        struct sim_disk *disk = sim->disks;
        sim->disks = disk->next;
        destroy(disk);
    }
}

/* Version 1 of Linux's swap area: 1024 bytes for a boot block, {version, last_page, nr_badpages}
 * as 32-bit words, UUID, label, and the signature in the last 10 bytes of the page. */
void sim_disk_make_swap(struct neomm_block_device *device)
{
    uint8_t *page = disk_of(device)->now;
    uint32_t words[3] = {1, device->pages - 1, 0};
    memset(page, 0, NEOMM_PAGE_SIZE);
    memcpy(page + 1024, words, sizeof(words));
    memcpy(page + NEOMM_PAGE_SIZE - 10, "SWAPSPACE2", 10);
}

void sim_disk_fault(struct neomm_block_device *device, enum sim_disk_fault fault, uint64_t n,
                    bool forever)
{
    struct sim_disk *disk = disk_of(device);
    disk->fault = fault;
    disk->fault_at = n == 0 ? 0 : disk->operations + n;
    disk->forever = forever;
}

void sim_disk_fault_every(struct neomm_block_device *device, enum sim_disk_fault fault, uint64_t n)
{
    struct sim_disk *disk = disk_of(device);
    disk->fault = fault;
    disk->every = n;
}

bool sim_disk_is_damaged(struct neomm_block_device *device, uint32_t page)
{
    struct sim_disk *disk = disk_of(device);
    return memcmp(page_at(disk->now, page), page_at(disk->asked, page), NEOMM_PAGE_SIZE) != 0;
}

uint64_t sim_disk_operations(const struct neomm_block_device *device)
{
    return disk_of(device)->operations;
}

uint64_t sim_disk_transfers(const struct neomm_block_device *device)
{
    return disk_of(device)->transfers;
}

uint64_t sim_disk_most_on_way(const struct neomm_block_device *device)
{
    return disk_of(device)->most_on_way;
}

uint64_t sim_disk_discarded(const struct neomm_block_device *device)
{
    return disk_of(device)->discarded;
}

void *sim_disk_page(struct neomm_block_device *device, uint32_t page)
{
    return page_at(disk_of(device)->now, page);
}
