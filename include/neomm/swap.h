/* Swap: block devices, slots, and page replacement policies.
 * SPDX-License-Identifier: MIT
 *
 * Swap never knows regions or tables: vmm hands it frames and keeps the entries it gets. Areas
 * have Linux's SWAPSPACE2 format (version 1), so mkswap prepares them, and nothing without that
 * signature is ever written.
 */
#ifndef NEOMM_SWAP_H
#define NEOMM_SWAP_H

#include <neomm/config.h>
#include <neomm/types.h>

/* ---- block devices ---- */

enum neomm_block_operation {
    NEOMM_BLOCK_READ,
    NEOMM_BLOCK_WRITE,
    NEOMM_BLOCK_FLUSH,
    NEOMM_BLOCK_DISCARD /* what is in the pages is not needed any more; see NEOMM_BLOCK_DISCARDS */
};

/* One page to move, or pages to discard. The submitter owns it until done is called, which may be
 * from submit itself, from an interrupt, or from another CPU. */
struct neomm_block_request {
    enum neomm_block_operation operation;
    uint32_t page; /* of the device, in units of 4096 bytes */
    neomm_frame_t frame;
    neomm_status status; /* set before done */
    void (*done)(struct neomm_block_request *request);
    void *context;  /* the submitter's */
    uint32_t pages; /* to discard; others are of one page, whatever is here */
};

/* Of `count` requests, in the order in which they were submitted, the first so many are of one
 * operation on pages that follow each other: one transfer, if the device can gather frames. At
 * least 1. Swap submits the requests of a batch in ascending order. */
static inline uint32_t neomm_block_run(struct neomm_block_request *const *requests, uint32_t count)
{
    uint32_t run = 1;
    while (run < count && requests[0]->operation <= NEOMM_BLOCK_WRITE &&
           requests[run]->operation == requests[0]->operation &&
           requests[run]->page == requests[0]->page + run)
        run++;
    return run;
}

/* Bits of a device's flags. */
#define NEOMM_BLOCK_DISCARDS                                                                       \
    0x1u /* it takes NEOMM_BLOCK_DISCARD; what is read then is anything                            \
          */

/* Pages that one discard is of at most: 1 GiB. */
#define NEOMM_BLOCK_DISCARD_PAGES 262144u

/* Pages that swap has on their way to a device at most, beside those that are read. */
#define NEOMM_BLOCK_IN_FLIGHT 64u

struct neomm_block_device {
    const char *name; /* for the log */
    uint32_t pages;   /* size in units of 4096 bytes */
    void *context;    /* the device's */
    /* Starts `count` requests; each ends in done exactly once, in any order. Does not sleep. */
    void (*submit)(struct neomm_block_device *device, struct neomm_block_request **requests,
                   uint32_t count);
    uint32_t flags; /* NEOMM_BLOCK_* */
    uint32_t depth; /* instead of NEOMM_BLOCK_IN_FLIGHT; 0: that */
};

/* ---- replacement policies ---- */

#define NEOMM_POLICY_BATCH 32

enum neomm_verdict { NEOMM_KEEP, NEOMM_EVICT };

struct neomm_policy;

/* A policy gets what hardware gives: accessed and dirty bits, on request. Its state is the two
 * links and 8 flag bits of the frame's descriptor, and the instance. All calls come with the
 * domain's lock held; none sleeps or allocates. */
struct neomm_policy_ops {
    const char *name;
    /* A page became resident in `frame`. */
    void (*enter)(struct neomm_policy *policy, neomm_frame_t frame);
    /* Which frames to test next, at most max <= NEOMM_POLICY_BATCH, best victim first; at least one
     * while there are any. They stay in the policy. */
    uint32_t (*candidates)(struct neomm_policy *policy, neomm_frame_t *out, uint32_t max);
    /* The bits of a candidate; its accessed bit has been cleared by this test. */
    enum neomm_verdict (*tested)(struct neomm_policy *policy, neomm_frame_t frame, bool accessed,
                                 bool dirty);
    /* The frame is resident no more: evicted to `slot`, or gone with its mapping (slot nil). */
    void (*leave)(struct neomm_policy *policy, neomm_frame_t frame,
                  const struct neomm_swap_entry *slot);
    /* The page that was evicted to `slot` faults and enters next. May be NULL. */
    void (*refault)(struct neomm_policy *policy, const struct neomm_swap_entry *slot);
    /* The page in `from` is in `to` from now on, and stands where it stood. May be NULL: it leaves
     * and enters. */
    void (*replace)(struct neomm_policy *policy, neomm_frame_t from, neomm_frame_t to);
};

#define NEOMM_POLICY_QUEUES 16

/* Frames in the links of their descriptors. */
struct neomm_policy_queue {
    uint32_t head, tail; /* frame numbers, 0 none */
    uint32_t count;
};

/* One instance for each domain: the whole machine, or one process with a resident limit. */
struct neomm_policy {
    const struct neomm_policy_ops *ops;
    struct neomm *root;
    uint32_t count;     /* frames in it */
    uint32_t domain;    /* 0 global, else the index of the space */
    uint32_t evictions; /* pages that were evicted from it, modulo 2^32 */
    uint32_t clock;     /* the policy's own time; goes on when the policy is switched */
    uint32_t state[10]; /* the policy's own */
    struct neomm_policy_queue queue[NEOMM_POLICY_QUEUES];
};

/* ---- the layer ---- */

struct neomm_swap_stats {
    uint64_t slots, used, bad;                   /* over all areas; used + bad + free = slots */
    uint64_t reads, writes;                      /* pages moved from and to devices */
    uint64_t read_errors, write_errors, corrupt; /* tries, those repeated with success too */
    uint64_t filled;                 /* slots in use that hold a repeated word and need no I/O */
    uint64_t pool_pages, pool_bytes; /* pages in the compressed pool, bytes that they are there */
    uint64_t pool_frames, pool_limit;
    uint64_t pool_hits;     /* pages read from it */
    uint64_t pool_rejected; /* pages that went to a device: hardly any smaller compressed, */
    uint64_t pool_no_room;  /* or the pool full and nothing to write back */
    uint64_t pool_written_back;
    uint32_t areas;
};

/* One area. */
struct neomm_swap_area {
    const struct neomm_block_device *device;
    int priority;
    uint32_t slots, used, bad; /* without the header page; the rest is free */
    uint64_t discarded;        /* slots that the device was told to be free, each time */
    bool leaving;              /* it takes no new slots: it is being removed, or could not be */
    char label[17];            /* from the header, NUL-terminated */
    uint8_t uuid[16];
};

/* One page of a batch. */
struct neomm_swap_page {
    struct neomm_swap_entry entry;
    neomm_frame_t frame;
    neomm_status status;
};

/* How an area is used. */
#define NEOMM_SWAP_DISCARD      0x1u /* its device hears of free clusters of slots, by and by */
#define NEOMM_SWAP_DISCARD_ONCE 0x2u /* and of all slots when the area is added */

/* True: what goes on is to end without success. Called without locks. */
typedef bool neomm_swap_stop_fn(void *context);

NEOMM_EXTERN_C_BEGIN

/* Initialises the layer; needs pmm (NEOMM_E_NOENT). NEOMM_E_EXISTS, NEOMM_E_NOMEM. */
neomm_status neomm_swap_init(struct neomm *root);
/* NEOMM_E_BUSY while a slot is in use (but for slots whose count is saturated, which nobody can
 * free) or vmm is initialised. Otherwise all areas are let go. */
neomm_status neomm_swap_fini(struct neomm *root);

/* Adds the area on `device`, which must stay. Reads its header, and never writes to it. What is not
 * taken is not touched, and a line of the log says what was found and what to do about it:
 *   NEOMM_E_BUSY         a hibernation image, of Linux, uswsusp or TuxOnIce
 *   NEOMM_E_UNSUPPORTED  version 0 (SWAP-SPACE) or another one, the other byte order, pages of
 *                        8 to 64 KiB
 *   NEOMM_E_CORRUPT      no signature; last page 0 or beyond the device; a list of bad pages that
 * is too long, lists a page twice, the header, or one beyond the last NEOMM_E_INVALID (no device,
 * or one without pages), NEOMM_E_IO, NEOMM_E_NOMEM, NEOMM_E_NOSPACE (too many areas, or slots for
 * the format), NEOMM_E_EXISTS (the device has an area already), NEOMM_E_NOENT (layer not
 * initialised). Higher priorities are used first. Areas of the same one are striped: in turn each
 * gives a cluster of 256 slots to whoever needs one. May sleep. */
neomm_status neomm_swap_add(struct neomm *root, struct neomm_block_device *device, int priority);

/* The same with NEOMM_SWAP_*. Where the device has not NEOMM_BLOCK_DISCARDS those do nothing. A
 * discard that fails is the last one, and a line in the log. */
neomm_status neomm_swap_add_with(struct neomm *root, struct neomm_block_device *device,
                                 int priority, uint32_t flags);

/* Discards what has become free and waits for it, but for the last clusters, which are kept at
 * hand; the number of slots. Without being asked that happens when 16 clusters are free, with a
 * write. For idle times. Sleeps: call without locks. */
uint64_t neomm_swap_discard(struct neomm *root);

/* Removes the area on `device`, which may be in full use: it gives out no more slots, and vmm
 * brings back what is in its slots, into memory or at the cost of other pages into other areas,
 * while everything goes on. `stop` (NULL: none) is asked between batches. Then the device is
 * nobody's, and its place and numbers are others'. NEOMM_E_NOENT   no area on the device
 *   NEOMM_E_NOMEM   memory and the other areas do not suffice
 *   NEOMM_E_AGAIN   `stop` said so
 *   NEOMM_E_BUSY    it is being removed, or somebody other than vmm has slots
 *   NEOMM_E_IO      some slots could not be read, which the log counts; the others were
 * After NEOMM_E_IO the area takes no new slots until it is removed again, once those are gone;
 * after the others it is in use as before. No page is lost. Sleeps: call without locks. */
neomm_status neomm_swap_remove(struct neomm *root, const struct neomm_block_device *device,
                               neomm_swap_stop_fn *stop, void *context);

/* Takes a free slot. `owner` keeps pages of one space together: what it takes on one CPU comes from
 * one cluster, ascending, until that is full. The count is 1. NEOMM_E_NOSPACE. Any context; O(1)
 * for each area. */
neomm_status neomm_swap_alloc(struct neomm *root, uint32_t owner,
                              struct neomm_swap_entry *entry) NEOMM_MUST_CHECK;

/* One more, one fewer user of the slot; at 0 it is free. NEOMM_E_NOENT: an entry of an earlier
 * use, or no such slot. The count saturates and then stays. */
neomm_status neomm_swap_dup(struct neomm *root, struct neomm_swap_entry entry);
neomm_status neomm_swap_free(struct neomm *root, struct neomm_swap_entry entry);

/* Users of the slot, 0 for an entry of an earlier use. What others read in a slot may not be
 * overwritten, so a page is written to a slot with one user only. */
uint32_t neomm_swap_users(struct neomm *root, struct neomm_swap_entry entry);

/* The entry of a slot that is in use, with its generation now: for a caller that holds a count
 * of the slot and kept only its number. NEOMM_E_NOENT. */
neomm_status neomm_swap_entry_of(struct neomm *root, uint32_t slot, struct neomm_swap_entry *entry);

/* A number that its user keeps with a slot until the slot is free; 0 at first, and for an entry of
 * an earlier use. */
void neomm_swap_note(struct neomm *root, struct neomm_swap_entry entry, uint32_t note);
uint32_t neomm_swap_note_of(struct neomm *root, struct neomm_swap_entry entry);

/* Where the contents of a slot are; NOWHERE for an entry of an earlier use, or a slot never
 * written. Only what is on a device costs I/O to read. */
enum neomm_swap_where {
    NEOMM_SWAP_NOWHERE,
    NEOMM_SWAP_ON_DEVICE,
    NEOMM_SWAP_FILLED,
    NEOMM_SWAP_IN_POOL
};
enum neomm_swap_where neomm_swap_where(struct neomm *root, struct neomm_swap_entry entry);

/* Writes frames to their slots, count <= NEOMM_POLICY_BATCH, all in flight together, and waits.
 * A frame filled with one repeated word costs no I/O, nor does one that the compressed pool takes,
 * which may write others back first. pages[i].status: NEOMM_OK, or NEOMM_E_IO and the slot is
 * marked bad. Returns the first error. Sleeps: call without locks. */
neomm_status neomm_swap_write(struct neomm *root, struct neomm_swap_page *pages, uint32_t count);

/* Reads slots into frames. NEOMM_E_IO after one retry; NEOMM_E_CORRUPT where the checksum of
 * what was written disagrees, after one retry too; NEOMM_E_NOENT for a stale entry or a slot
 * never written; NEOMM_E_NOMEM for a high frame that cannot be mapped now. What an unsuccessful
 * read left in the frame is garbage. The slot stays in use. Sleeps. */
neomm_status neomm_swap_read(struct neomm *root, struct neomm_swap_page *pages, uint32_t count);

/* Moves objects of the compressed pool together, and returns the frames that became free. Sleeps.
 */
uint32_t neomm_swap_pool_compact(struct neomm *root);

/* Writes about so many pages of the compressed pool to their slots on the devices, those that were
 * not stored or read for long first, and returns how many left it: 0 too while another task is at
 * it. A page whose write fails stays in the pool, and its slot is not used again. Sleeps. */
uint32_t neomm_swap_pool_write_back(struct neomm *root, uint32_t pages);

void neomm_swap_stats(struct neomm *root, struct neomm_swap_stats *stats);
/* The n-th area in the order of adding. NEOMM_E_NOENT behind the last. */
neomm_status neomm_swap_area_at(struct neomm *root, uint32_t index, struct neomm_swap_area *area);

/* ---- codecs, as they are ---- */

/* What the pool does with a page, for programs that keep pages elsewhere. `codec` is one of enum
 * neomm_compression; NEOMM_COMPRESSION_OFF and others have no workspace and make nothing smaller.
 * No locks, any context, memory of the caller's alone. */

/* Bytes that compressing needs at `work`, aligned to 8. */
size_t neomm_codec_work_size(uint32_t codec);
/* Writes NEOMM_PAGE_SIZE bytes at `page` to `out` in at most `capacity` bytes, and returns how
 * many; 0: it does not fit, and what is at `out` is garbage. */
uint32_t neomm_codec_compress(uint32_t codec, void *work, const void *page, void *out,
                              uint32_t capacity);
/* The reverse. NEOMM_E_CORRUPT: no page gives this; never reads outside of `in` or writes outside
 * of the page, whatever the input. NEOMM_E_INVALID: no such codec. */
neomm_status neomm_codec_decompress(uint32_t codec, const void *in, uint32_t size, void *page);

/* The checksum that a slot on a device has of NEOMM_PAGE_SIZE bytes, aligned to 8: XXH64 with seed
 * 0. No locks, any context. */
uint64_t neomm_page_checksum(const void *page);

/* Policies by name: the built-in ones (docs/replacement.md) and those that a program registers
 * (`ops` stays its own). NEOMM_E_EXISTS, NEOMM_E_NOSPACE. */
neomm_status neomm_policy_register(struct neomm *root, const struct neomm_policy_ops *ops);
const struct neomm_policy_ops *neomm_policy_find(struct neomm *root, const char *name);
/* The n-th registered, NULL behind the last. */
const struct neomm_policy_ops *neomm_policy_at(struct neomm *root, uint32_t index);

/* An empty instance for one domain. */
void neomm_policy_init(struct neomm_policy *policy, struct neomm *root,
                       const struct neomm_policy_ops *ops, uint32_t domain);

/* From now on the domain goes by `ops`. Its frames move over, best victim first, and lose what the
 * old policy knew of them. With the domain's lock held; O(frames). */
void neomm_policy_switch(struct neomm_policy *policy, const struct neomm_policy_ops *ops);

NEOMM_EXTERN_C_END

#endif
