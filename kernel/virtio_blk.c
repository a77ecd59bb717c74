/* A virtio block device.
 * SPDX-License-Identifier: MIT
 *
 * The queue is polled, as the RAM disk is. Its frames, one run:
 *
 *   [descriptors, 16 bytes each][available ring] ... page [used ring] ... page [headers]
 *
 * A job has its own descriptors, JOB_DESCRIPTORS in a row, and its own header:
 *
 *   header (read) -> page -> page ... -> status (written)
 */
#include "virtio_blk.h"

#include "io.h"
#include "pci.h"

#define VENDOR             0x1af4
#define DEVICE_TRANSITION  0x1001
#define JOB_DESCRIPTORS    (VIRTIO_BLK_PAGES + 2)
#define SECTORS_PER_PAGE   (NEOMM_PAGE_SIZE / 512)
#define BAR_IS_IO          1u
#define BAR_IO_MASK        0xfffcu
#define NO_INTERRUPT       1u /* flag of the available ring */
#define DESCRIPTOR_NEXT    1u
#define DESCRIPTOR_WRITTEN 2u

/* Registers, as offsets from the first port. */
enum {
    DRIVER_FEATURES = 4,
    QUEUE_FRAME = 8,
    QUEUE_SIZE = 12,
    QUEUE_SELECT = 14,
    QUEUE_NOTIFY = 16,
    STATUS = 18,
    CAPACITY = 20
};

enum { STATUS_RESET = 0, STATUS_FOUND = 1, STATUS_KNOWN = 2, STATUS_READY = 4 };
enum { TYPE_READ = 0, TYPE_WRITE = 1 };

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct used {
    uint32_t head, length;
};

struct header {
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t status, unused[15];
};

struct virtio_ring {
    struct descriptor *descriptor;
    uint16_t *available; /* flags, index, heads */
    uint16_t *used;      /* flags, index, struct used */
    struct header *header;
    neomm_paddr_t header_at;
};

static struct virtio_blk *the_disk;
static struct virtio_ring the_ring;

/* ---- layout ---- */

static size_t used_offset(const struct virtio_blk *disk)
{
    size_t end = disk->size * sizeof(struct descriptor) + (3u + disk->size) * sizeof(uint16_t);
    return (end + NEOMM_PAGE_SIZE - 1) & ~(NEOMM_PAGE_SIZE - 1);
}

static size_t header_offset(const struct virtio_blk *disk)
{
    size_t end = used_offset(disk) + 3 * sizeof(uint16_t) + disk->size * sizeof(struct used);
    return (end + NEOMM_PAGE_SIZE - 1) & ~(NEOMM_PAGE_SIZE - 1);
}

static neomm_status make_ring(struct virtio_blk *disk)
{
    size_t size = header_offset(disk) + VIRTIO_BLK_JOBS * sizeof(struct header);
    while ((NEOMM_PAGE_SIZE << disk->order) < size)
        disk->order++;
    neomm_status status = neomm_pmm_alloc(disk->root, disk->order, NEOMM_ZERO, &disk->frame);
    if (status != NEOMM_OK)
        return status;
    neomm_paddr_t at = neomm_frame_paddr(disk->frame);
    unsigned char *memory = neomm_direct_pointer(disk->root, at);
    disk->ring = &the_ring;
    *disk->ring = (struct virtio_ring){
        .descriptor = (void *)memory,
        .available = (void *)(memory + disk->size * sizeof(struct descriptor)),
        .used = (void *)(memory + used_offset(disk)),
        .header = (void *)(memory + header_offset(disk)),
        .header_at = at + header_offset(disk),
    };
    disk->ring->available[0] = NO_INTERRUPT;
    return NEOMM_OK;
}

/* ---- one job ---- */

static uint32_t jobs(const struct virtio_blk *disk)
{
    uint32_t fit = disk->size / JOB_DESCRIPTORS;
    return fit < VIRTIO_BLK_JOBS ? fit : VIRTIO_BLK_JOBS;
}

static void describe(struct virtio_blk *disk, uint32_t at, neomm_paddr_t address, uint32_t length,
                     unsigned flags)
{
    disk->ring->descriptor[at] =
        (struct descriptor){address, length, (uint16_t)flags, (uint16_t)(at + 1)};
}

/* The job's descriptors and header, and into the ring with them. */
static void start(struct virtio_blk *disk, uint32_t index)
{
    const struct virtio_job *job = &disk->job[index];
    struct virtio_ring *ring = disk->ring;
    uint32_t head = index * JOB_DESCRIPTORS, at = head;
    bool write = job->request[0]->operation == NEOMM_BLOCK_WRITE;
    neomm_paddr_t header_at = ring->header_at + index * sizeof(struct header);
    ring->header[index] =
        (struct header){.type = write ? TYPE_WRITE : TYPE_READ,
                        .sector = (uint64_t)job->request[0]->page * SECTORS_PER_PAGE,
                        .status = UINT8_MAX};
    describe(disk, at++, header_at, offsetof(struct header, status), DESCRIPTOR_NEXT);
    for (uint32_t i = 0; i < job->count; i++)
        describe(disk, at++, neomm_frame_paddr(job->request[i]->frame), NEOMM_PAGE_SIZE,
                 DESCRIPTOR_NEXT | (write ? 0 : DESCRIPTOR_WRITTEN));
    describe(disk, at, header_at + offsetof(struct header, status), 1, DESCRIPTOR_WRITTEN);
    uint16_t next = ring->available[1];
    ring->available[2 + next % disk->size] = (uint16_t)head;
    __atomic_store_n(&ring->available[1], (uint16_t)(next + 1), __ATOMIC_RELEASE);
    io_out16((uint16_t)(disk->registers + QUEUE_NOTIFY), 0);
}

static void finish(struct virtio_blk *disk, uint32_t index)
{
    struct virtio_job *job = &disk->job[index];
    neomm_status status = disk->ring->header[index].status == 0 ? NEOMM_OK : NEOMM_E_IO;
    uint32_t count = job->count;
    job->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        job->request[i]->status = status;
        job->request[i]->done(job->request[i]);
    }
}

/* ---- requests ---- */

static struct neomm_block_request *waiting(const struct virtio_blk *disk, uint32_t nth)
{
    return disk->waiting[(disk->first + nth) % VIRTIO_BLK_QUEUE];
}

static bool continues(const struct virtio_job *job, const struct neomm_block_request *request)
{
    const struct neomm_block_request *last = job->request[job->count - 1];
    return job->count < VIRTIO_BLK_PAGES && request->operation == last->operation &&
           request->page == last->page + 1;
}

/* As many of those that wait as are pages in a row. */
static void fill(struct virtio_blk *disk, struct virtio_job *job)
{
    do {
        job->request[job->count++] = waiting(disk, 0);
        disk->first++;
        disk->count--;
    } while (disk->count > 0 && continues(job, waiting(disk, 0)));
}

static void start_jobs(struct virtio_blk *disk)
{
    for (uint32_t i = 0; i < jobs(disk) && disk->count > 0; i++) {
        if (disk->job[i].count != 0)
            continue;
        fill(disk, &disk->job[i]);
        start(disk, i);
    }
}

bool virtio_blk_busy(void)
{
    bool busy = false;
    for (uint32_t i = 0; the_disk && i < VIRTIO_BLK_JOBS; i++)
        busy |= the_disk->job[i].count != 0;
    return busy;
}

bool virtio_blk_poll(void)
{
    struct virtio_blk *disk = the_disk;
    if (!disk || __atomic_load_n(&disk->ring->used[1], __ATOMIC_ACQUIRE) == disk->seen)
        return false;
    const struct used *used = (const void *)&disk->ring->used[2];
    uint32_t head = used[disk->seen++ % disk->size].head;
    finish(disk, head / JOB_DESCRIPTORS);
    start_jobs(disk);
    return true;
}

static void submit(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count)
{
    struct virtio_blk *disk = device->context;
    for (uint32_t i = 0; i < count; i++) {
        if (requests[i]->operation == NEOMM_BLOCK_FLUSH) { /* the cache is not of the guest's */
            requests[i]->status = NEOMM_OK;
            requests[i]->done(requests[i]);
            continue;
        }
        while (disk->count == VIRTIO_BLK_QUEUE)
            (void)virtio_blk_poll();
        disk->waiting[(disk->first + disk->count++) % VIRTIO_BLK_QUEUE] = requests[i];
    }
    start_jobs(disk);
}

/* ---- beginning and end ---- */

static void set_status(const struct virtio_blk *disk, unsigned status)
{
    io_out8((uint16_t)(disk->registers + STATUS), (uint8_t)status);
}

static neomm_status find(struct virtio_blk *disk)
{
    uint32_t place;
    if (!pci_find(VENDOR, DEVICE_TRANSITION, &place))
        return NEOMM_E_NOENT;
    uint32_t bar = pci_read(place, PCI_BAR0);
    if (!(bar & BAR_IS_IO))
        return NEOMM_E_UNSUPPORTED;
    disk->registers = (uint16_t)(bar & BAR_IO_MASK);
    pci_write(place, PCI_COMMAND, pci_read(place, PCI_COMMAND) | PCI_COMMAND_IO | PCI_COMMAND_BUS);
    return NEOMM_OK;
}

/* No feature is asked for: reads and writes need none. */
static neomm_status set_up(struct virtio_blk *disk)
{
    set_status(disk, STATUS_RESET);
    set_status(disk, STATUS_FOUND | STATUS_KNOWN);
    io_out32((uint16_t)(disk->registers + DRIVER_FEATURES), 0);
    io_out16((uint16_t)(disk->registers + QUEUE_SELECT), 0);
    disk->size = io_in16((uint16_t)(disk->registers + QUEUE_SIZE));
    uint32_t low = io_in32((uint16_t)(disk->registers + CAPACITY));
    uint32_t high = io_in32((uint16_t)(disk->registers + CAPACITY + 4));
    uint64_t pages = ((uint64_t)high << 32 | low) / SECTORS_PER_PAGE;
    if (jobs(disk) == 0 || pages == 0)
        return NEOMM_E_UNSUPPORTED;
    disk->device.pages = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
    return make_ring(disk);
}

neomm_status virtio_blk_open(struct virtio_blk *disk, struct neomm *root)
{
    *disk = (struct virtio_blk){.root = root};
    disk->device = (struct neomm_block_device){
        .name = "virtio", .pages = 0, .context = disk, .submit = submit};
    neomm_status status = find(disk);
    if (status == NEOMM_OK)
        status = set_up(disk);
    if (status != NEOMM_OK)
        return status;
    io_out32((uint16_t)(disk->registers + QUEUE_FRAME), disk->frame.number);
    set_status(disk, STATUS_FOUND | STATUS_KNOWN | STATUS_READY);
    the_disk = disk;
    return NEOMM_OK;
}

/* A reset device touches no memory any more. */
void virtio_blk_close(struct virtio_blk *disk)
{
    if (the_disk != disk)
        return;
    the_disk = NULL;
    set_status(disk, STATUS_RESET);
    (void)neomm_pmm_free(disk->root, disk->frame, disk->order);
}
