/* Objects that live elsewhere, and the page cache in front of them.
 * SPDX-License-Identifier: MIT
 *
 * A pager moves the pages of one object between frames and where they live: a file, a device. What
 * is in memory of them is the page cache: all mappings of the object, and neomm_object_read and
 * neomm_object_write, see the same frames. Pages come in when they are needed, and a little ahead
 * of that; changed ones go back when somebody asks, when there are too many, before their frame is
 * given to others, and with the object's last reference; never to swap.
 */
#ifndef NEOMM_PAGER_H
#define NEOMM_PAGER_H

#include <neomm/types.h>
#include <neomm/vmm.h>

enum neomm_pager_operation {
    NEOMM_PAGER_READ,
    NEOMM_PAGER_WRITE,
    NEOMM_PAGER_FLUSH /* what was written is to survive a loss of power; no page */
};

/* One page to move. It is the submitter's again once done was called: from submit itself, from an
 * interrupt, or from another CPU. The frame's contents do not change while they are written, unless
 * the page is pinned. */
struct neomm_pager_request {
    enum neomm_pager_operation operation;
    uint32_t bytes; /* that the page has: NEOMM_PAGE_SIZE but for the last one of an object */
    uint64_t page;  /* of the object */
    neomm_frame_t frame;
    neomm_status status; /* set before done: NEOMM_OK, or any error */
    void (*done)(struct neomm_pager_request *request);
    void *context; /* the submitter's */
};

struct neomm_pager {
    const char *name;
    void *context; /* the pager's */
    /* Starts `count` requests; each ends in done exactly once, in any order. Called without locks
     * and does not sleep. Writes are asked for, and waited for, by who needs memory: what a pager
     * or its device allocates until they are done is NEOMM_NORECLAIM, or kept for that, and it must
     * not touch memory that could have to be brought in. A read may leave anything behind `bytes`
     * in the frame, which is filled with zeros then; a write stores `bytes` bytes. No two requests
     * of a page are under way together. */
    void (*submit)(struct neomm_pager *pager, struct neomm_pager_request **requests,
                   uint32_t count);
    /* The object is to have so many bytes: bytes beyond are gone, new ones read as zeros. NULL: any
     * size is well. May sleep. Locks that submit takes, too, are not held over an allocation that
     * reclaims. No request beyond the smaller size is under way. */
    neomm_status (*resize)(struct neomm_pager *pager, uint64_t bytes);
    /* The object is no more, and nothing will be asked of the pager. status: of the last writing
     * back; an error: changes are lost. May sleep. NULL: of no interest. */
    void (*released)(struct neomm_pager *pager, neomm_status status);
};

struct neomm_cache_stats {
    uint64_t pages;   /* that there are in memory, of all objects with pagers */
    uint64_t dirty;   /* of them, those that differ from what the pager has */
    uint64_t shadows; /* pages that are remembered to have been there */
    uint64_t dirty_limit;
    /* Since the beginning, on i386 modulo 2^32. */
    uint64_t reads, writes, read_errors, write_errors; /* pages moved */
    uint64_t ahead;      /* of the reads, those that nobody waited for */
    uint64_t ahead_hits; /* times that they were about to be used up, and more were read */
    uint64_t around;     /* pages mapped beside the one that was asked for */
    uint64_t refaults;   /* reads of pages that had left not long ago */
    uint64_t dropped;    /* pages given up to free memory */
};

/* Pages that sequential reading has on their way, at most; and with NEOMM_ADVICE_SEQUENTIAL. */
#define NEOMM_AHEAD_MOST       32u
#define NEOMM_AHEAD_SEQUENTIAL 64u
/* Pages, aligned to as many, that a read fault maps if they are in memory. */
#define NEOMM_FAULT_AROUND 16u

NEOMM_EXTERN_C_BEGIN

/* A new object of `bytes` bytes whose pages `pager` has, and a handle of it. The pager stays the
 * caller's, and must be there until `released`. Name, life and errors as neomm_object_create; but
 * its size is exact, and bytes behind the end in the last page read as zeros and are never written
 * back. All calls on objects take it; neomm_object_resize fails as pager->resize does, and waits
 * for pages that are on their way. The last reference going writes back what is dirty, and sleeps
 * for that. NEOMM_E_INVALID: no submit. */
neomm_status neomm_object_create_paged(struct neomm *root, struct neomm_pager *pager,
                                       const char *name, uint64_t bytes,
                                       struct neomm_object **object);

/* Writes back the pages of [offset, offset + bytes) that are dirty when it is called, and has the
 * pager flush. NEOMM_OK: the range's bytes are where they survive a loss of power. Otherwise the
 * first error: NEOMM_E_IO, or what the pager said. A page that could not be written stays dirty and
 * in memory, and the next call tries again. A range beyond the end has no pages. Objects without a
 * pager have nothing to write. May sleep. Cost: the object's pages in memory. */
neomm_status neomm_object_sync(struct neomm *root, struct neomm_object *object, uint64_t offset,
                               uint64_t bytes);

/* Copies bytes from or to the object by way of the cache, for a kernel's read and write: mappings
 * see it. buffer: kernel memory that does not fault. *done (may be NULL): bytes copied, from the
 * start; fewer than asked for where the object ends, which is no error. A write makes pages dirty
 * and does not wait for them; it never makes the object larger. Whole pages that are overwritten
 * are not read before. NEOMM_E_IO, NEOMM_E_NOMEM; NEOMM_E_UNSUPPORTED: the object has no pager. May
 * sleep. */
neomm_status neomm_object_read(struct neomm *root, struct neomm_object *object, uint64_t offset,
                               void *buffer, size_t bytes, size_t *done);
neomm_status neomm_object_write(struct neomm *root, struct neomm_object *object, uint64_t offset,
                                const void *buffer, size_t bytes, size_t *done);

/* Starts writing back up to `pages` dirty pages, of one object after the other; returns how many.
 * For a kernel's thread that does so now and then. May sleep. */
uint32_t neomm_cache_write_back(struct neomm *root, uint32_t pages);

/* Who makes a page dirty while there are more than this starts writing some of the same object
 * back; without the call it is a tenth of RAM. */
void neomm_cache_set_dirty_limit(struct neomm *root, uint64_t pages);

/* Gives up to `frames` pages of the cache up, what needs no write first, dirty pages after a write;
 * returns how many. Reclaim takes what it needs by itself. May sleep. */
uint32_t neomm_cache_shrink(struct neomm *root, uint32_t frames);

void neomm_cache_stats(struct neomm *root, struct neomm_cache_stats *stats);

NEOMM_EXTERN_C_END

#endif
