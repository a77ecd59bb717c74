/* The page cache: pages of objects that have a pager.
 * SPDX-License-Identifier: MIT
 *
 * A word of such an object's tree is 0 or
 *
 *   frame << 1 | 1            the page is there: kind CACHE, in the domain `cache`
 *     | READING               not yet: the frame is nobody's but the read's
 *     | WRITING               it is being written, and no leaf of it is writable
 *     | AHEAD                 whoever comes here has more read ahead
 *   clock << 8 | SHADOW       it was there, and left at this time of the cache
 *
 * The object's lock guards the words, and NEOMM__FRAME_DIRTY of their frames: a leaf of a shared
 * mapping gets the right to write together with the mark, so what is not marked differs in nothing
 * from what the pager has. A page loses the mark when its leaves have lost the right, before it is
 * written; a pinned one keeps it, since a device may write to it unseen.
 *
 * Requests go in batches. Completions, which may come in an interrupt, only put their batch on the
 * object's list `ended`; what they mean for the pages is worked off by whoever has the object
 * locked next (neomm__cache_collect). Before anybody looks at a page he collects; who must wait
 * reads the object's word `io` before that, which changes after a batch has got on the list:
 *
 *   io   batches ended << 16 | batches under way
 *
 * An object is held (`busy`) by those who wait for it, or have batches to submit, without being in
 * a region of it.
 */
#ifndef NEOMM_VMM_CACHE_H
#define NEOMM_VMM_CACHE_H

#include "vmm/evict.h"
#include "vmm/object.h"

#include <neomm/pager.h>

#define NEOMM__PAGE_READING ((uint64_t)1 << 40)
#define NEOMM__PAGE_WRITING ((uint64_t)1 << 41)
#define NEOMM__PAGE_AHEAD   ((uint64_t)1 << 42)
#define NEOMM__PAGE_SHADOW  ((uint64_t)2)

#define NEOMM__BATCH_MAX NEOMM_POLICY_BATCH

/* Requests that end together. */
struct neomm__batch {
    struct neomm_object *object;
    struct neomm__batch *next; /* ended, not collected */
    uint32_t pending;          /* requests that have not ended */
    uint32_t count;
    bool kept;      /* it is its submitter's; else who collects it frees it */
    bool collected; /* under the object's lock */
    struct neomm_pager_request *request;
};

/* ---- cache.c: states of pages; the object is locked ---- */

enum neomm__cache_answer { NEOMM__CACHE_FOUND, NEOMM__CACHE_MISSING, NEOMM__CACHE_WAIT };

struct neomm__cache_look {
    uint64_t page;
    bool write; /* the page will be written to: it becomes dirty */
    enum neomm__cache_answer answer;
    neomm_frame_t frame; /* FOUND */
    uint32_t io;         /* WAIT: as it was */
    bool ahead;          /* FOUND: more is to be read ahead */
    bool late;           /* the same: there are too many dirty pages */
};

/* The page, which lies within the object's size; then neomm__cache_serve. */
enum neomm__cache_answer neomm__cache_look(struct neomm *root, struct neomm_object *object,
                                           struct neomm__cache_look *look);
void neomm__cache_collect(struct neomm *root, struct neomm_object *object);
/* A frame that was read, or filled, becomes the page; its word is there. */
void neomm__cache_enter(struct neomm *root, struct neomm_object *object, uint64_t page,
                        neomm_frame_t frame);
void neomm__cache_set_dirty(struct neomm *root, struct neomm_object *object,
                            struct neomm__frame *entry);
void neomm__cache_set_clean(struct neomm *root, struct neomm_object *object,
                            struct neomm__frame *entry);
/* A page that is not on its way goes for good, with its leaves; or a shadow. */
void neomm__cache_remove(struct neomm *root, struct neomm_object *object, uint64_t page,
                         uint64_t word);
/* The page's word becomes a shadow, or 0 where there are enough. */
void neomm__cache_leave_shadow(struct neomm *root, struct neomm_object *object, uint64_t page);
/* The page is about to come: has it left not long ago? */
bool neomm__cache_note_return(struct neomm *root, uint64_t word);
uint64_t neomm__cache_fsck(struct neomm *root, const struct neomm_object *object,
                           struct neomm__report *report);

/* Bytes of the object in this page of it. */
static inline uint32_t neomm__cache_bytes(const struct neomm_object *object, uint64_t page)
{
    uint64_t left = object->bytes - (page << NEOMM_PAGE_SHIFT);
    return left < NEOMM_PAGE_SIZE ? (uint32_t)left : (uint32_t)NEOMM_PAGE_SIZE;
}

/* NEOMM_E_NOMEM: a frame above the direct map found no slot. */
neomm_status neomm__cache_zero_tail(struct neomm *root, neomm_frame_t frame, uint32_t bytes);

/* ---- cache_io.c: without locks; the object is held ---- */

void neomm__cache_hold(struct neomm_object *object);
void neomm__cache_release(struct neomm_object *object);
void neomm__cache_wait(struct neomm_object *object, uint32_t io);
/* `io` has changed for another reason than a batch. */
void neomm__cache_wake(struct neomm_object *object);
/* Reads the page, and what is to be read ahead by the flags of its region, and waits for the page.
 * NEOMM_OK: look again, it is there or was a moment ago; NEOMM_E_NOMEM; others: it cannot be read.
 */
neomm_status neomm__cache_read(struct neomm *root, struct neomm_object *object, uint64_t page,
                               uint32_t flags);
/* Starts reading what of `count` pages is not there. */
void neomm__cache_read_ahead(struct neomm *root, struct neomm_object *object, uint64_t page,
                             uint64_t count);
/* Does what a look found due: reads the page, waits for it, or starts what may be started now. */
neomm_status neomm__cache_serve(struct neomm *root, struct neomm_object *object,
                                const struct neomm__cache_look *look, uint32_t flags);

/* ---- cache_write.c: without locks; the object is held ---- */

/* Starts writing dirty pages of [page, last], at most `most`; how many. */
uint32_t neomm__cache_start_writing(struct neomm *root, struct neomm_object *object, uint64_t page,
                                    uint64_t last, uint32_t most);
/* Writes the dirty pages of [page, last], at most one batch of them where `some`, and waits. */
neomm_status neomm__cache_write(struct neomm *root, struct neomm_object *object, uint64_t page,
                                uint64_t last, bool some);
/* All of them, and flushes. */
neomm_status neomm__cache_sync(struct neomm *root, struct neomm_object *object, uint64_t page,
                               uint64_t last);
/* msync of a range that is mapped. */
neomm_status neomm__cache_msync(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                                neomm_vaddr_t end, bool wait);

/* ---- cache_map.c ---- */

/* Takes the right to write from all leaves of a page; the object is locked. */
void neomm__cache_protect(struct neomm *root, neomm_frame_t frame);
/* Maps pages that are there beside one that was just mapped; inside the region, the object is
 * locked. */
void neomm__cache_map_around(struct neomm *root, struct neomm_space *space,
                             const struct neomm__region *region, struct neomm_object *object,
                             uint64_t page);
/* What neomm__evict_frame does for a page of the cache; NEOMM_E_BUSY: it is dirty, and only clean
 * ones are wanted. */
neomm_status neomm__cache_evict(struct neomm__eviction *e);
/* Starts reading the pages of objects with pagers that are mapped in the range. */
void neomm__cache_will_need(struct neomm *root, struct neomm_space *space, neomm_vaddr_t start,
                            neomm_vaddr_t end);

/* ---- cache_file.c ---- */

neomm_status neomm__cache_resize(struct neomm *root, struct neomm_object *object, uint64_t bytes);
/* The object has no references: writes all back, and drops it. */
neomm_status neomm__cache_end(struct neomm *root, struct neomm_object *object);

#endif
