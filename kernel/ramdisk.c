/* A disk in memory, formatted as a swap area.
 * SPDX-License-Identifier: MIT
 *
 * Requests are queued by submit and completed by ramdisk_poll, as a real device would do it in
 * an interrupt, so that the library's waiting is exercised.
 *
 * Source: util-linux mkswap(8), Linux include/linux/swap.h for the places in the first page:
 * 1024 version, 1028 last page, 1032 number of bad pages; 4086 signature.
 */
#include "ramdisk.h"

#define HEADER_VERSION   1024
#define HEADER_LAST_PAGE 1028
#define HEADER_BAD_PAGES 1032
#define HEADER_SIGNATURE 4086

static struct ramdisk *disks;

static void copy(unsigned char *to, const unsigned char *from)
{
    for (size_t i = 0; i < NEOMM_PAGE_SIZE; i++)
        to[i] = from[i];
}

static neomm_status transfer(struct ramdisk *disk, const struct neomm_block_request *request)
{
    if (request->operation == NEOMM_BLOCK_FLUSH)
        return NEOMM_OK;
    if (request->page >= disk->device.pages)
        return NEOMM_E_RANGE;
    unsigned char *page = disk->memory + (size_t)request->page * NEOMM_PAGE_SIZE;
    unsigned char *frame = neomm_frame_map(disk->root, request->frame);
    if (!frame)
        return NEOMM_E_IO;
    if (request->operation == NEOMM_BLOCK_WRITE)
        copy(page, frame);
    else
        copy(frame, page);
    neomm_frame_unmap(disk->root, frame);
    return NEOMM_OK;
}

static void complete(struct ramdisk *disk)
{
    struct neomm_block_request *request = disk->queue[disk->first];
    disk->first = (disk->first + 1) % RAMDISK_QUEUE;
    disk->count--;
    request->status = transfer(disk, request);
    request->done(request);
}

bool ramdisk_poll(void)
{
    for (struct ramdisk *disk = disks; disk; disk = disk->next) {
        if (disk->count > 0) {
            complete(disk);
            return true;
        }
    }
    return false;
}

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct ramdisk *disk = device->context;
    for (uint32_t i = 0; i < count; i++) {
        if (disk->count == RAMDISK_QUEUE)
            complete(disk);
        disk->queue[(disk->first + disk->count) % RAMDISK_QUEUE] = requests[i];
        disk->count++;
    }
}

static void put32(unsigned char *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static void format(unsigned char *header, uint32_t pages)
{
    static const char signature[10] = {'S', 'W', 'A', 'P', 'S', 'P', 'A', 'C', 'E', '2'};
    for (size_t i = 0; i < NEOMM_PAGE_SIZE; i++)
        header[i] = 0;
    put32(header + HEADER_VERSION, 1);
    put32(header + HEADER_LAST_PAGE, pages - 1);
    put32(header + HEADER_BAD_PAGES, 0);
    for (size_t i = 0; i < sizeof(signature); i++)
        header[HEADER_SIGNATURE + i] = (unsigned char)signature[i];
}

void ramdisk_open(struct ramdisk *disk, struct neomm *root, void *memory, uint32_t pages)
{
    *disk = (struct ramdisk){
        .root = root,
        .device = {.name = "ram", .pages = pages, .context = disk, .submit = submit},
        .memory = memory,
        .next = disks,
    };
    format(disk->memory, pages);
    disks = disk;
}

void ramdisk_close(struct ramdisk *disk)
{
    struct ramdisk **link = &disks;
    while (*link && *link != disk)
        link = &(*link)->next;
    if (*link)
        *link = disk->next;
}
