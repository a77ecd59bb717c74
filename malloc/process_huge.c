/* Huge blocks: mappings of their own.
 * SPDX-License-Identifier: MIT
 *
 * Blocks that are larger than what may be retained, so that their memory would go back as soon as
 * they are freed: as runs of frames they would cost a descriptor for each page, and gain nothing.
 * They are few, so the list of them is just searched. Under profile=hardened there are none. */
#include "process.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_LIVE_MOST 1024u
/* No block is huge that is not larger, whatever is retained. */
#define HUGE_LEAST ((size_t)4 << 20)
/* A huge block that shrinks stays one down to this part of the least. */
#define SHRINK_SHARE 4u

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct huge {
    uint8_t *block;
    size_t pages_size, requested;
};

static struct {
    struct process_lock lock;
    struct huge live[HUGE_LIVE_MOST];
    uint32_t count;
    struct process_huge_figures figures;
} huge;

static size_t whole_pages(size_t size)
{
    return (size + (NEOMM_PAGE_SIZE - 1)) & ~(NEOMM_PAGE_SIZE - 1);
}

void process_huge_start(void)
{
    size_t retain = process.options.retain;
    process.huge_above = retain > HUGE_LEAST ? retain : HUGE_LEAST;
    if (process.options.profile == NEOMM_HEAP_HARDENED)
        process.huge_above = SIZE_MAX;
}

/* ---- the list; under the lock ---- */

/* The one that holds the pointer; NULL: none. */
static struct huge *find(const void *pointer)
{
    for (uint32_t i = 0; i < huge.count; i++)
        if ((uintptr_t)pointer - (uintptr_t)huge.live[i].block < huge.live[i].pages_size)
            return &huge.live[i];
    return NULL;
}

static struct huge *find_block(const void *block)
{
    struct huge *found = find(block);
    return found && found->block == block ? found : NULL;
}

static void count(size_t pages_size, size_t requested)
{
    __atomic_store_n(&huge.figures.held, huge.figures.held + pages_size, __ATOMIC_RELAXED);
    huge.figures.requested += requested;
}

static void add(uint8_t *block, size_t pages_size, size_t requested)
{
    huge.live[huge.count++] = (struct huge){block, pages_size, requested};
    huge.figures.live++;
    huge.figures.allocations++;
    count(pages_size, requested);
}

static struct huge take_out(struct huge *which)
{
    struct huge taken = *which;
    *which = huge.live[--huge.count];
    huge.figures.live--;
    huge.figures.frees++;
    count((size_t)0 - taken.pages_size, (size_t)0 - taken.requested);
    return taken;
}

/* With what the engine has they are not to be more than is reserved. */
static bool has_addresses(size_t bytes)
{
    size_t used = huge.figures.held + __atomic_load_n(&process.managed, __ATOMIC_RELAXED);
    return used < process.reserved && bytes <= process.reserved - used;
}

static bool has_room(size_t pages_size)
{
    return huge.count < HUGE_LIVE_MOST && has_addresses(pages_size);
}

/* ---- blocks ---- */

/* Of pages, aligned as asked: what is too much goes back. */
static uint8_t *map_aligned(size_t size, size_t align)
{
    size_t extra = align > NEOMM_PAGE_SIZE ? align - NEOMM_PAGE_SIZE : 0;
    uint8_t *base = size + extra < size ? NULL : process_map(size + extra);
    if (!base || extra == 0)
        return base;
    uint8_t *block = (uint8_t *)(((uintptr_t)base + align - 1) & ~(uintptr_t)(align - 1));
    if (block > base)
        (void)munmap(base, (size_t)(block - base));
    if (block < base + extra)
        (void)munmap(block + size, (size_t)(base + extra - block));
    return block;
}

void *process_huge_alloc(size_t size, size_t align)
{
    size_t pages_size = whole_pages(size);
    uint8_t *block = NULL;
    if (size > PTRDIFF_MAX || align > PTRDIFF_MAX)
        return NULL;
    process_lock(&huge.lock);
    if (has_room(pages_size))
        block = map_aligned(pages_size, align);
    if (block)
        add(block, pages_size, size);
    process_unlock(&huge.lock);
    return block;
}

bool process_huge_free(void *pointer)
{
    struct huge gone = {NULL, 0, 0};
    process_lock(&huge.lock);
    struct huge *found = find_block(pointer);
    if (found)
        gone = take_out(found);
    process_unlock(&huge.lock);
    int saved = errno;
    if (gone.block)
        (void)munmap(gone.block, gone.pages_size);
    errno = saved;
    return gone.block != NULL;
}

size_t process_huge_bound(const void *pointer, bool start)
{
    process_lock(&huge.lock);
    const struct huge *found = start ? find_block(pointer) : find(pointer);
    size_t size = found ? found->pages_size - (size_t)((const uint8_t *)pointer - found->block) : 0;
    process_unlock(&huge.lock);
    return size;
}

/* ---- other sizes ---- */

/* The contents of `bytes`, whole pages, as far as they fit, at the start of another mapping; NULL:
 * no memory. */
static void *move(void *from, size_t bytes, size_t pages_size)
{
    void *to = process_map(pages_size);
    if (to)
        (void)process_move_pages(to, from,
                                 (bytes < pages_size ? bytes : pages_size) >> NEOMM_PAGE_SHIFT);
    return to;
}

/* Under the lock: the block with another size, mostly without copying; false: as it was. The system
 * does not change several mappings at once. */
static bool resize(struct huge *which, size_t size)
{
    size_t pages_size = whole_pages(size), old = which->pages_size;
    if (pages_size > old && !has_addresses(pages_size - old))
        return false;
    void *block = mremap(which->block, old, pages_size, MREMAP_MAYMOVE);
    if (block == MAP_FAILED) {
        block = move(which->block, old, pages_size);
        if (!block)
            return false;
        (void)munmap(which->block, old);
    }
    count(pages_size - old, size - which->requested);
    *which = (struct huge){block, pages_size, size};
    return true;
}

void *process_huge_resize(void *pointer, size_t size)
{
    void *block = NULL;
    int saved = errno;
    if (size > PTRDIFF_MAX || size <= process.huge_above / SHRINK_SHARE)
        return NULL;
    process_lock(&huge.lock);
    struct huge *found = find_block(pointer);
    if (found && resize(found, size))
        block = found->block;
    process_unlock(&huge.lock);
    errno = saved;
    return block;
}

/* The pages of a run as one mapping that has grown; the first step cannot give them more addresses,
 * and must not leave a hole behind, which others could find. NULL: nothing has happened. */
static void *move_whole(void *run, size_t bytes, size_t pages_size)
{
    void *moved = mremap(run, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (moved == MAP_FAILED)
        return NULL;
    void *block = mremap(moved, bytes, pages_size, MREMAP_MAYMOVE);
    if (block != MAP_FAILED)
        return block;
    (void)process_move_pages(run, moved, bytes >> NEOMM_PAGE_SHIFT);
    (void)munmap(moved, bytes);
    return NULL;
}

void *process_huge_adopt(void *run, size_t bytes, size_t size)
{
    size_t pages_size = whole_pages(size);
    void *block = NULL;
    int saved = errno;
    process_lock(&huge.lock);
    if (size <= PTRDIFF_MAX && has_room(pages_size)) {
        block = move_whole(run, bytes, pages_size);
        if (!block)
            block = move(run, bytes, pages_size);
    }
    if (block)
        add(block, pages_size, size);
    process_unlock(&huge.lock);
    errno = saved;
    return block;
}

size_t process_huge_held(void)
{
    return __atomic_load_n(&huge.figures.held, __ATOMIC_RELAXED);
}

void process_huge_figures(struct process_huge_figures *figures)
{
    process_lock(&huge.lock);
    *figures = huge.figures;
    process_unlock(&huge.lock);
}
