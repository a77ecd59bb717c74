/* The page source of a process: runs of the arena's frames, which of them are known to be zero,
 * and when memory goes back to the system.
 * SPDX-License-Identifier: MIT
 *
 * Four bits a frame:
 *   dirty   free, and not known to be zero; `retained` counts them
 *   stuck   dirty, but could not be claimed when last tried: not free, or in somebody's hands
 *   barred  allocated, and without access
 *   moved   first frame of a run whose pages came from elsewhere (process_source_move)
 *
 * A frame's bits are its owner's to change while it is allocated; of a free frame only the purger
 * changes them, after it has claimed the frame from the frame allocator. Frames that the heap takes
 * from there by itself may stay dirty while they are in use; the purger's claim fails then, and
 * they come back through `discard`.
 *
 * What is freed beyond options.retain goes back: large runs at once, by their owner; small ones by
 * the purger, in batches, wherever it finds them. */
#include "process_bits.h"

#include <errno.h>
#include <neomm/pmm.h>
#include <string.h>
#include <sys/mman.h>

/* Runs that their owner gives back at once when enough is retained. */
#define DIRECT_PAGES 16u
/* Runs that are not a power of two are taken without looking for one around them from here on: the
 * rest of it would be too much to lie idle. */
#define EXACT_PAGES 256u
/* Runs whose pages are moved, not copied: from here on a system call is cheaper. */
#define MOVE_PAGES 64u
/* The purger claims so many frames at a time at most. */
#define CLAIM_FRAMES 512u
/* Claims that fail cost a look into all caches; so many end a pass. */
#define CLAIM_FAILURES 16u

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static struct {
    struct neomm_page_source direct; /* the engine's own source of the same frames */
    size_t *dirty, *stuck, *moved, *barred;
    size_t frames;
    size_t retained; /* atomic */
    size_t cursor;   /* where the purger goes on; it goes down */
    struct process_lock purge_lock;
} source;

/* ---- frames ---- */

static void retained_add(size_t frames)
{
    if (frames != 0)
        (void)__atomic_fetch_add(&source.retained, frames, __ATOMIC_RELAXED);
}

static size_t retained_frames(void)
{
    return __atomic_load_n(&source.retained, __ATOMIC_RELAXED);
}

/* Frames that have an owner from now on; those that are not zero are made so if it asks. */
static void taken(size_t first, size_t count, neomm_flags_t flags)
{
    if (flags & NEOMM_ZERO)
        for (size_t i = first; i < first + count; i++)
            if (has_bit(source.dirty, i))
                memset(at(i), 0, NEOMM_PAGE_SIZE);
    retained_add((size_t)0 - clear_bits(source.dirty, first, count));
}

/* Frames without an owner, not zero. */
static void left(size_t first, size_t count)
{
    (void)clear_bits(source.stuck, first, count);
    retained_add(set_bits(source.dirty, first, count));
}

/* The contents of owned pages go back to the system; they read as zero. */
static bool give_back(size_t first, size_t count)
{
    int saved = errno;
    bool done = madvise(at(first), count << NEOMM_PAGE_SHIFT, MADV_DONTNEED) == 0;
    errno = saved;
    return done;
}

/* ---- the purger ---- */

/* Claims free frames and gives their memory back; the frames given. */
static size_t purge_range(size_t first, size_t count, unsigned *failures)
{
    if (neomm_pmm_claim(process.root, frame_at(first), (uint32_t)count) == NEOMM_OK) {
        size_t given = 0;
        if (give_back(first, count))
            given = clear_bits(source.dirty, first, count);
        retained_add((size_t)0 - given);
        (void)neomm_pmm_free_range(process.root, frame_at(first), (uint32_t)count);
        return given;
    }
    ++*failures;
    if (count == 1)
        return set_bits(source.stuck, first, 1) * 0;
    if (*failures >= CLAIM_FAILURES)
        return 0;
    size_t half = count / 2, given = purge_range(first, half, failures);
    return given + purge_range(first + half, count - half, failures);
}

/* The highest frames in [low, end) that could be given back; 0: none. */
static size_t find_range(size_t low, size_t end, size_t *first)
{
    while (end > low && !(has_bit(source.dirty, end - 1) && !has_bit(source.stuck, end - 1))) {
        size_t word = (end - 1) / BITS_IN_WORD;
        bool none = __atomic_load_n(&source.dirty[word], __ATOMIC_RELAXED) == 0;
        end = none && word * BITS_IN_WORD > low ? word * BITS_IN_WORD : end - 1;
    }
    size_t begin = end;
    while (begin > low && end - begin < CLAIM_FRAMES && has_bit(source.dirty, begin - 1) &&
           !has_bit(source.stuck, begin - 1))
        begin--;
    *first = begin;
    return end - begin;
}

/* Gives back about `wanted` frames, from where the last pass ended downwards, once round. */
static size_t purge(size_t wanted, unsigned failures_most)
{
    size_t managed = __atomic_load_n(&process.managed, __ATOMIC_RELAXED) >> NEOMM_PAGE_SHIFT;
    size_t given = 0, first;
    unsigned failures = 0, rounds = 0;
    if (source.cursor == 0 || source.cursor > managed)
        source.cursor = managed;
    size_t end = source.cursor;
    while (given < wanted && failures < failures_most) {
        size_t count = find_range(0, end, &first);
        if (count > 0)
            given += purge_range(first, count, &failures);
        end = first;
        if (end == 0 && ++rounds == 2)
            break;
        if (end == 0)
            end = managed;
    }
    source.cursor = end;
    return given;
}

/* One thread at a time; others need not wait for it. */
static void purge_surplus(void)
{
    size_t keep = process.options.retain >> NEOMM_PAGE_SHIFT, have = retained_frames();
    uint32_t unlocked = 0;
    if (have <= keep || !__atomic_compare_exchange_n(&source.purge_lock.word, &unlocked, 1, false,
                                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    (void)purge(have - keep + keep / 4, CLAIM_FAILURES);
    process_unlock(&source.purge_lock);
}

size_t process_purge_all(void)
{
    process_lock(&source.purge_lock);
    neomm_pmm_drain(process.root);
    (void)clear_bits(source.stuck, 0, source.frames);
    source.cursor = 0;
    size_t given = purge(SIZE_MAX, UINT32_MAX);
    process_unlock(&source.purge_lock);
    return given << NEOMM_PAGE_SHIFT;
}

size_t process_retained(void)
{
    return retained_frames() << NEOMM_PAGE_SHIFT;
}

/* ---- the operations ---- */

static neomm_status take_range(uint32_t pages, uint32_t align, neomm_flags_t flags, size_t *first)
{
    struct neomm_range_request request = {.frames = pages, .align = align, .flags = flags};
    neomm_frame_t frame;
    if (pages > source.frames)
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_pmm_alloc_range(process.root, &request, &frame);
    *first = frame.number - PROCESS_FIRST;
    return status;
}

/* Alignments beyond that of the arena: more than is needed, and what is too much goes back. */
static neomm_status take_trimmed(uint32_t pages, uint32_t align, neomm_flags_t flags, size_t *first)
{
    size_t all, size = (size_t)pages + align - 1, bytes = (size_t)align << NEOMM_PAGE_SHIFT;
    neomm_status status =
        size > UINT32_MAX ? NEOMM_E_NOMEM : take_range((uint32_t)size, 1, flags, &all);
    if (status != NEOMM_OK)
        return status;
    *first = index_of((void *)(((uintptr_t)at(all) + bytes - 1) & ~(bytes - 1)));
    size_t before = *first - all, behind = size - before - pages;
    if (before > 0)
        (void)neomm_pmm_free_range(process.root, frame_at(all), (uint32_t)before);
    if (behind > 0)
        (void)neomm_pmm_free_range(process.root, frame_at(*first + pages), (uint32_t)behind);
    return NEOMM_OK;
}

/* Frames aligned so are addresses aligned so. */
static bool is_natural(uint32_t align)
{
    uintptr_t frame_zero = (uintptr_t)process.ram - ((uintptr_t)PROCESS_FIRST << NEOMM_PAGE_SHIFT);
    return (frame_zero & (((uintptr_t)align << NEOMM_PAGE_SHIFT) - 1)) == 0;
}

/* Such are blocks of the frame allocator, which do not grow. */
static bool is_block(size_t pages)
{
    return pages <= 1u << NEOMM_ORDER_MAX && (pages & (pages - 1)) == 0;
}

static neomm_status source_alloc(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                                 void **run)
{
    neomm_flags_t kind = flags & ~NEOMM_ZERO;
    neomm_status status;
    size_t first = 0;
    (void)context;
    if (!is_natural(align)) {
        status = take_trimmed(pages, align, kind, &first);
    } else if (pages < EXACT_PAGES || (is_block(pages) && align <= pages)) {
        status = source.direct.run_alloc(source.direct.context, pages, align, kind, run);
        first = status == NEOMM_OK ? index_of(*run) : 0;
    } else {
        status = take_range(pages, align, kind, &first);
    }
    if (status != NEOMM_OK)
        return status;
    *run = at(first);
    taken(first, pages, flags);
    return NEOMM_OK;
}

/* Pages that came from elsewhere are a mapping of their own to the system, which has only so many:
 * when they are freed an ordinary one takes their place. */
static bool unmove(size_t first, size_t count)
{
    int saved = errno;
    (void)clear_bits(source.moved, first, 1);
    bool done = mmap(at(first), count << NEOMM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
    errno = saved;
    return done;
}

/* Whether a run that is about to be free holds zeros again. */
static bool cleaned(void *run, size_t first, uint32_t pages)
{
    struct process_thread *self = process_self();
    bool vacated = self->vacated == run;
    if (vacated)
        self->vacated = NULL;
    if (has_bit(source.moved, first))
        return unmove(first, pages);
    if (vacated)
        return true;
    size_t keep = process.options.retain >> NEOMM_PAGE_SHIFT;
    return pages >= DIRECT_PAGES && retained_frames() + pages > keep && give_back(first, pages);
}

static void source_free(void *context, void *run, uint32_t pages)
{
    size_t first = index_of(run);
    (void)context;
    if (!cleaned(run, first, pages))
        left(first, pages);
    source.direct.run_free(source.direct.context, run, pages);
    purge_surplus();
}

static neomm_status source_grow(void *context, void *run, uint32_t pages, uint32_t new_pages,
                                neomm_flags_t flags)
{
    neomm_flags_t kind = flags & ~NEOMM_ZERO;
    size_t next = index_of(run) + pages;
    neomm_status status;
    (void)context;
    if (pages <= 1u << NEOMM_ORDER_MAX) {
        status = source.direct.run_grow(source.direct.context, run, pages, new_pages, kind);
    } else if (next + (new_pages - pages) > process.managed >> NEOMM_PAGE_SHIFT) {
        status = NEOMM_E_NOSPACE;
    } else {
        status = neomm_pmm_claim(process.root, frame_at(next), new_pages - pages);
    }
    if (status == NEOMM_OK)
        taken(next, new_pages - pages, flags);
    return status;
}

/* Of frames that the heap gives back to the frame allocator; or of pages that nobody can read,
 * which stay where they are and lose their memory. */
static void source_discard(void *context, void *run, uint32_t pages)
{
    size_t first = index_of(run);
    (void)context;
    if (!has_bit(source.barred, first))
        left(first, pages);
    else
        (void)give_back(first, pages);
}

static neomm_frame_t source_frame_of(void *context, const void *pointer)
{
    size_t offset = (size_t)((const uint8_t *)pointer - process.ram);
    (void)context;
    return offset < process.reserved ? frame_at(offset >> NEOMM_PAGE_SHIFT) : neomm_frame(0);
}

/* The system moves one mapping at a time; what was moved before may be several. */
bool process_move_pages(uint8_t *to, uint8_t *from, size_t pages)
{
    size_t bytes = pages << NEOMM_PAGE_SHIFT, half = pages / 2;
    if (pages >= MOVE_PAGES) {
        if (mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to)
            return true;
        if (errno == EFAULT) {
            bool low = process_move_pages(to, from, half);
            size_t offset = half << NEOMM_PAGE_SHIFT;
            return process_move_pages(to + offset, from + offset, pages - half) && low;
        }
    }
    memcpy(to, from, bytes);
    return false;
}

/* Whether the run could grow where it is: its frames are taken for a moment. */
static bool can_grow(size_t first, size_t pages, size_t new_pages)
{
    size_t managed = __atomic_load_n(&process.managed, __ATOMIC_RELAXED) >> NEOMM_PAGE_SHIFT;
    neomm_frame_t next = frame_at(first + pages);
    uint32_t more = (uint32_t)(new_pages - pages);
    if (is_block(pages) || (pages < 1u << NEOMM_ORDER_MAX && new_pages > 1u << NEOMM_ORDER_MAX))
        return false;
    if (new_pages > managed || first + new_pages > managed ||
        neomm_pmm_claim(process.root, next, more) != NEOMM_OK)
        return false;
    (void)neomm_pmm_free_range(process.root, next, more);
    return true;
}

bool process_source_moves(const void *run, size_t bytes, size_t new_bytes)
{
    size_t pages = bytes >> NEOMM_PAGE_SHIFT;
    size_t new_pages = (new_bytes + (NEOMM_PAGE_SIZE - 1)) >> NEOMM_PAGE_SHIFT;
    return pages >= MOVE_PAGES && new_pages > pages && !can_grow(index_of(run), pages, new_pages);
}

void process_source_vacate(void *run)
{
    process_self()->vacated = run;
}

void process_source_move(void *to, void *from, size_t bytes)
{
    int saved = errno;
    (void)set_bits(source.moved, index_of(to), 1);
    if (process_move_pages(to, from, bytes >> NEOMM_PAGE_SHIFT))
        process_source_vacate(from);
    errno = saved;
}

void process_source_forget(const void *run)
{
    struct process_thread *self = process_self();
    (void)clear_bits(source.moved, index_of(run), 1);
    if (self->vacated == run)
        self->vacated = NULL;
}

void process_source_free_zeros(void *run, uint32_t pages)
{
    source.direct.run_free(source.direct.context, run, pages);
}

/* For the pages of guarded objects. */
static neomm_status source_protect(void *context, void *run, uint32_t pages, neomm_prot_t prot)
{
    size_t first = index_of(run);
    int saved = errno, access = PROT_NONE;
    (void)context;
    access |= prot & NEOMM_PROT_READ ? PROT_READ : 0;
    access |= prot & NEOMM_PROT_WRITE ? PROT_WRITE : 0;
    bool done = mprotect(run, (size_t)pages << NEOMM_PAGE_SHIFT, access) == 0;
    errno = saved;
    if (done && access == PROT_NONE)
        (void)set_bits(source.barred, first, pages);
    else if (done)
        (void)clear_bits(source.barred, first, pages);
    return done ? NEOMM_OK : NEOMM_E_NOMEM;
}

/* ---- beginning ---- */

size_t process_source_size(size_t frames)
{
    return 4 * bits_size(frames);
}

void process_source_init(struct neomm_page_source *operations, void *state, size_t frames)
{
    uint8_t *maps = state;
    source.frames = frames;
    source.dirty = (size_t *)(void *)maps;
    source.stuck = (size_t *)(void *)(maps + bits_size(frames));
    source.moved = (size_t *)(void *)(maps + 2 * bits_size(frames));
    source.barred = (size_t *)(void *)(maps + 3 * bits_size(frames));
    neomm_heap_source_direct(process.root, &source.direct);
    *operations = (struct neomm_page_source){.context = process.root,
                                             .run_alloc = source_alloc,
                                             .run_free = source_free,
                                             .run_grow = source_grow,
                                             .protect = source_protect,
                                             .protect_anywhere = true,
                                             .discard = source_discard,
                                             .direct = true,
                                             .frame_of = source_frame_of};
}
