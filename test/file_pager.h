/* A file of the tests: a pager over a disk of the simulator, which delays and fails requests and
 * ends them in any order. It checks what the library promises of requests, leaves garbage behind
 * the last byte, and knows what would be left after a loss of power. SPDX-License-Identifier: MIT
 */
#ifndef NEOMM_TEST_FILE_PAGER_H
#define NEOMM_TEST_FILE_PAGER_H

#include "env.h"

#include "sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define FILE_PAGES 256u
#define FILE_PAGE  ((size_t)NEOMM_PAGE_SIZE)

struct file {
    struct neomm_pager pager;
    struct ktap *t;
    struct sim *sim;
    struct neomm_block_device *disk;
    uint64_t bytes;
    uint32_t reads, writes, flushes, resizes, batches; /* requests */
    uint32_t most;                                     /* writes in one call */
    uint32_t released;
    neomm_status release_status;
    neomm_status resize_status; /* what the next resizes answer */
    neomm_status write_status;  /* and the next writes, if it is an error */
    bool unstable;              /* pages that are written may change: they are pinned */
    bool hold;                  /* requests wait for file_let_go */
    struct neomm_pager_request *held[FILE_PAGES];
    uint32_t holding;
    bool busy[FILE_PAGES];                      /* a request of the page is under way */
    bool written[FILE_PAGES];                   /* since the last flush */
    uint8_t safe[FILE_PAGES * NEOMM_PAGE_SIZE]; /* what survives a loss of power, at least */
};

struct file_request {
    struct neomm_block_request block;
    struct neomm_pager_request *request;
    struct file *file;
    uint8_t contents[NEOMM_PAGE_SIZE]; /* of the frame when the write was submitted */
};

static inline uint8_t *file_page(struct file *file, uint64_t page)
{
    return sim_disk_page(file->disk, (uint32_t)page);
}

/* A write stores the page's bytes and zeros; the frame must be as it was. */
static inline void file_written(struct file *file, const struct file_request *moved)
{
    const struct neomm_pager_request *request = moved->request;
    uint8_t now[NEOMM_PAGE_SIZE];
    (void)sim_physical_read(file->sim, neomm_frame_paddr(request->frame), now, sizeof(now));
    if (!file->unstable)
        EXPECT(file->t, memcmp(now, moved->contents, request->bytes) == 0);
    memset(file_page(file, request->page) + request->bytes, 0, FILE_PAGE - request->bytes);
    file->written[request->page] = true;
}

static inline void file_garbage(struct file *file, const struct neomm_pager_request *request)
{
    uint8_t garbage[NEOMM_PAGE_SIZE];
    memset(garbage, 0xee, sizeof(garbage));
    (void)sim_physical_write(file->sim, neomm_frame_paddr(request->frame) + request->bytes, garbage,
                             FILE_PAGE - request->bytes);
}

static inline void file_flushed(struct file *file)
{
    for (uint32_t i = 0; i < FILE_PAGES; i++) {
        if (file->written[i])
            memcpy(file->safe + i * FILE_PAGE, file_page(file, i), FILE_PAGE);
        file->written[i] = false;
    }
}

static inline void file_done(struct neomm_block_request *block)
{
    struct file_request *moved = block->context;
    struct neomm_pager_request *request = moved->request;
    struct file *file = moved->file;
    request->status = block->status;
    if (request->operation == NEOMM_PAGER_WRITE && file->write_status != NEOMM_OK)
        request->status = file->write_status;
    if (request->status == NEOMM_OK && request->operation == NEOMM_PAGER_WRITE)
        file_written(file, moved);
    if (request->operation == NEOMM_PAGER_READ)
        file_garbage(file, request);
    if (block->status == NEOMM_OK && request->operation == NEOMM_PAGER_FLUSH)
        file_flushed(file);
    if (request->operation != NEOMM_PAGER_FLUSH)
        file->busy[request->page] = false;
    free(moved);
    request->done(request);
}

static inline void file_start(struct file *file, struct neomm_pager_request *request)
{
    static const enum neomm_block_operation operations[] = {NEOMM_BLOCK_READ, NEOMM_BLOCK_WRITE,
                                                            NEOMM_BLOCK_FLUSH};
    struct file_request *moved = malloc(sizeof(*moved));
    struct neomm_block_request *block = &moved->block;
    moved->request = request;
    moved->file = file;
    *block = (struct neomm_block_request){operations[request->operation],
                                          (uint32_t)request->page,
                                          request->frame,
                                          NEOMM_E_IO,
                                          file_done,
                                          moved,
                                          1};
    if (request->operation == NEOMM_PAGER_WRITE)
        (void)sim_physical_read(file->sim, neomm_frame_paddr(request->frame), moved->contents,
                                FILE_PAGE);
    file->disk->submit(file->disk, &block, 1);
}

static inline void file_check(struct file *file, const struct neomm_pager_request *request)
{
    if (request->operation == NEOMM_PAGER_FLUSH) {
        file->flushes++;
        return;
    }
    uint64_t end = (request->page << NEOMM_PAGE_SHIFT) + request->bytes;
    EXPECT(file->t, request->page < FILE_PAGES && request->bytes > 0);
    EXPECT(file->t, request->bytes <= NEOMM_PAGE_SIZE && end <= file->bytes);
    EXPECT(file->t, !file->busy[request->page]);
    file->busy[request->page] = true;
    file->reads += request->operation == NEOMM_PAGER_READ;
    file->writes += request->operation == NEOMM_PAGER_WRITE;
}

static inline void file_submit(struct neomm_pager *pager, struct neomm_pager_request **requests,
                               uint32_t count)
{
    struct file *file = pager->context;
    uint32_t writes = 0;
    file->batches++;
    for (uint32_t i = 0; i < count; i++) {
        file_check(file, requests[i]);
        writes += requests[i]->operation == NEOMM_PAGER_WRITE;
        if (i > 0)
            EXPECT(file->t, requests[i]->page > requests[i - 1]->page);
    }
    file->most = writes > file->most ? writes : file->most;
    for (uint32_t i = 0; i < count; i++) {
        if (file->hold)
            file->held[file->holding++] = requests[i];
        else
            file_start(file, requests[i]);
    }
}

/* What was held goes to the disk, the last one first. */
static inline void file_let_go(struct file *file)
{
    file->hold = false;
    while (file->holding > 0)
        file_start(file, file->held[--file->holding]);
}

static inline neomm_status file_resize(struct neomm_pager *pager, uint64_t bytes)
{
    struct file *file = pager->context;
    file->resizes++;
    if (file->resize_status != NEOMM_OK)
        return file->resize_status;
    uint64_t end = bytes > file->bytes ? bytes : file->bytes; /* all is zero behind it */
    for (uint32_t i = 0; i * FILE_PAGE < end; i++) {
        uint64_t start = i * FILE_PAGE;
        size_t keep = bytes <= start              ? 0
                      : bytes - start < FILE_PAGE ? (size_t)(bytes - start)
                                                  : FILE_PAGE;
        if (bytes < file->bytes ? keep < FILE_PAGE : start >= file->bytes)
            EXPECT(file->t, !file->busy[i]);
        memset(file_page(file, i) + keep, 0, FILE_PAGE - keep);
        memset(file->safe + i * FILE_PAGE + keep, 0, FILE_PAGE - keep);
    }
    file->bytes = bytes;
    return NEOMM_OK;
}

static inline void file_released(struct neomm_pager *pager, neomm_status status)
{
    struct file *file = pager->context;
    file->released++;
    file->release_status = status;
}

/* What a byte of the file is at first. */
static inline uint8_t file_byte(uint64_t at)
{
    return (uint8_t)(at * 7 + (at >> 12) * 13 + 1);
}

static inline void file_open(struct ktap *t, struct file *file, struct env *env, uint64_t bytes)
{
    memset(file, 0, sizeof(*file));
    file->pager = (struct neomm_pager){"file", file, file_submit, file_resize, file_released};
    file->t = t;
    file->sim = env->machine;
    file->disk = sim_disk_create(env->machine, FILE_PAGES);
    file->bytes = bytes;
    for (uint64_t i = 0; i < bytes; i++)
        file->safe[i] = file_byte(i);
    for (uint32_t i = 0; i * FILE_PAGE < bytes; i++)
        memcpy(file_page(file, i), file->safe + i * FILE_PAGE, FILE_PAGE);
}

#endif
