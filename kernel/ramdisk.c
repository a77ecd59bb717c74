/* A disk in kernel memory, formatted as a swap area.
 * SPDX-License-Identifier: MIT
 *
 * Requests are queued by submit and completed by ramdisk_poll, as a real device would do it in
 * an interrupt, so that the library's waiting is exercised.
 *
 * Source: util-linux mkswap(8), Linux include/linux/swap.h for the places in the first page:
 * 1024 version, 1028 last page, 1032 number of bad pages; 4086 signature.
 */
#include "kernel.h"

#define QUEUE            64
#define HEADER_VERSION   1024
#define HEADER_LAST_PAGE 1028
#define HEADER_BAD_PAGES 1032
#define HEADER_SIGNATURE 4086

static struct {
    struct neomm *root;
    struct neomm_block_device device;
    unsigned char *memory;
    struct neomm_block_request *queue[QUEUE];
    uint32_t first, count;
} disk;

static void copy(unsigned char *to, const unsigned char *from)
{
    for (size_t i = 0; i < NEOMM_PAGE_SIZE; i++)
        to[i] = from[i];
}

static neomm_status transfer(const struct neomm_block_request *request)
{
    if (request->operation == NEOMM_BLOCK_FLUSH)
        return NEOMM_OK;
    if (request->page >= disk.device.pages)
        return NEOMM_E_RANGE;
    unsigned char *frame = neomm_frame_map(disk.root, request->frame);
    unsigned char *page = disk.memory + (size_t)request->page * NEOMM_PAGE_SIZE;
    if (!frame)
        return NEOMM_E_IO;
    if (request->operation == NEOMM_BLOCK_WRITE)
        copy(page, frame);
    else
        copy(frame, page);
    neomm_frame_unmap(disk.root, frame);
    return NEOMM_OK;
}

bool ramdisk_poll(void)
{
    if (disk.count == 0)
        return false;
    struct neomm_block_request *request = disk.queue[disk.first];
    disk.first = (disk.first + 1) % QUEUE;
    disk.count--;
    request->status = transfer(request);
    request->done(request);
    return true;
}

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    (void)device;
    for (uint32_t i = 0; i < count; i++) {
        if (disk.count == QUEUE)
            ramdisk_poll();
        disk.queue[(disk.first + disk.count) % QUEUE] = requests[i];
        disk.count++;
    }
}

static void put32(size_t offset, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        disk.memory[offset + i] = (unsigned char)(value >> (8 * i));
}

static void format(uint32_t pages)
{
    static const char signature[10] = {'S', 'W', 'A', 'P', 'S', 'P', 'A', 'C', 'E', '2'};
    put32(HEADER_VERSION, 1);
    put32(HEADER_LAST_PAGE, pages - 1);
    put32(HEADER_BAD_PAGES, 0);
    for (size_t i = 0; i < sizeof(signature); i++)
        disk.memory[HEADER_SIGNATURE + i] = (unsigned char)signature[i];
}

struct neomm_block_device *ramdisk_create(struct neomm *root, uint32_t pages)
{
    disk.root = root;
    disk.memory = neomm_kzalloc(root, pages * NEOMM_PAGE_SIZE, 0);
    if (!disk.memory)
        return NULL;
    disk.device = (struct neomm_block_device){.name = "ram", .pages = pages, .submit = submit};
    format(pages);
    return &disk.device;
}

neomm_status ramdisk_destroy(void)
{
    return neomm_kfree(disk.root, disk.memory);
}
