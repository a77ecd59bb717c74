/* Large blocks under profile=hardened: between pages without access, and without access for a while
 * after they are freed.
 * SPDX-License-Identifier: MIT
 *
 *   live    | fence | run, read-write | fence |
 *   freed   | nothing can be accessed, and it has no memory | until others have pushed it out
 *
 * The first fence is as long as the run is aligned, the second one a page. Each part without access
 * is a mapping of its own to the system, which has only so many; so only FENCED_MOST runs are
 * fenced at a time, others are plain ones. */
#include "process_bits.h"

#include <errno.h>
#include <neomm/pmm.h>
#include <sys/mman.h>

/* Live runs with fences: half of the mappings that Linux gives a process. */
#define FENCED_MOST 16384u
/* Runs with a larger alignment are not fenced, in pages. */
#define ALIGN_MOST 1024u
/* Runs that wait, and which part of the addresses they may have. */
#define WAITING_MOST  256u
#define WAITING_SHARE 16u

struct waiting {
    size_t first, pages; /* with the fences */
};

static struct {
    struct neomm_page_source plain;
    uint16_t *lead;           /* by a run's first frame: pages of its first fence, 0: it has none */
    size_t *shut;             /* a bit a frame: has no access */
    size_t *gone;             /* and was freed */
    uint32_t fenced;          /* atomic; live runs */
    size_t empty;             /* atomic; pages that are shut */
    struct process_lock lock; /* of what follows */
    struct waiting waiting[WAITING_MOST];
    uint32_t oldest, count;
    size_t pages, pages_most; /* that wait */
} fence;

/* ---- access ---- */

/* Other pages take the place of these: without access and memory. */
static bool shut(size_t first, size_t pages)
{
    int saved = errno;
    bool done = mmap(at(first), pages << NEOMM_PAGE_SHIFT, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
    errno = saved;
    if (done)
        (void)__atomic_fetch_add(&fence.empty, set_bits(fence.shut, first, pages),
                                 __ATOMIC_RELAXED);
    return done;
}

static bool open_again(size_t first, size_t pages)
{
    int saved = errno;
    bool done = mprotect(at(first), pages << NEOMM_PAGE_SHIFT, PROT_READ | PROT_WRITE) == 0;
    errno = saved;
    if (done) {
        (void)clear_bits(fence.gone, first, pages);
        (void)__atomic_fetch_sub(&fence.empty, clear_bits(fence.shut, first, pages),
                                 __ATOMIC_RELAXED);
    }
    return done;
}

/* ---- what waits ---- */

/* A run with its fences goes back to the frame allocator; where the system does not let it, it
 * stays as it is for good. */
static void let_go(struct waiting run)
{
    if (open_again(run.first, run.pages))
        process_source_free_zeros(at(run.first), (uint32_t)run.pages);
}

/* Under the lock, which is given up meanwhile: the one that has waited longest. */
static void let_oldest_go(void)
{
    struct waiting run = fence.waiting[fence.oldest];
    fence.oldest = (fence.oldest + 1) % WAITING_MOST;
    fence.count--;
    fence.pages -= run.pages;
    process_unlock(&fence.lock);
    let_go(run);
    process_lock(&fence.lock);
}

static void keep_shut(struct waiting run)
{
    if (run.pages > fence.pages_most) {
        let_go(run);
        return;
    }
    process_lock(&fence.lock);
    while (fence.pages + run.pages > fence.pages_most || fence.count == WAITING_MOST)
        let_oldest_go();
    fence.waiting[(fence.oldest + fence.count++) % WAITING_MOST] = run;
    fence.pages += run.pages;
    process_unlock(&fence.lock);
}

bool process_fence_shrink(void)
{
    process_lock(&fence.lock);
    uint32_t left = fence.count;
    bool any = left > 0;
    for (; left > 0 && fence.count > 0; left--)
        let_oldest_go();
    process_unlock(&fence.lock);
    return any;
}

/* ---- the source ---- */

static bool count_one(void)
{
    if (__atomic_fetch_add(&fence.fenced, 1, __ATOMIC_RELAXED) < FENCED_MOST)
        return true;
    (void)__atomic_fetch_sub(&fence.fenced, 1, __ATOMIC_RELAXED);
    return false;
}

static void uncount(void)
{
    (void)__atomic_fetch_sub(&fence.fenced, 1, __ATOMIC_RELAXED);
}

/* Fences around the pages in the middle; false: all can be accessed as before, and goes back. */
static bool enclose(void *whole, uint32_t lead, uint32_t pages)
{
    size_t first = index_of(whole), all = (size_t)lead + pages + 1;
    if (shut(first, lead)) {
        if (shut(first + lead + pages, 1)) {
            fence.lead[first + lead] = (uint16_t)lead;
            return true;
        }
        if (!open_again(first, lead))
            return false;
    }
    fence.plain.run_free(fence.plain.context, whole, (uint32_t)all);
    return false;
}

/* Single frames, even where they came as a block: those in the middle have a descriptor of their
 * own. */
static neomm_status take(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                         void **whole)
{
    neomm_status status = fence.plain.run_alloc(context, pages, align, flags, whole);
    if (status == NEOMM_OK && (pages & (pages - 1)) == 0)
        (void)neomm_pmm_split(process.root, frame_at(index_of(*whole)),
                              (unsigned)__builtin_ctz(pages));
    return status;
}

static neomm_status fence_alloc(void *context, uint32_t pages, uint32_t align, neomm_flags_t flags,
                                void **run)
{
    void *whole;
    if (align <= ALIGN_MOST && pages < UINT32_MAX - 2 * ALIGN_MOST && count_one()) {
        if (take(context, align + pages + 1, align, flags, &whole) == NEOMM_OK &&
            enclose(whole, align, pages)) {
            *run = (uint8_t *)whole + ((size_t)align << NEOMM_PAGE_SHIFT);
            return NEOMM_OK;
        }
        uncount();
    }
    return fence.plain.run_alloc(context, pages, align, flags, run);
}

static void fence_free(void *context, void *run, uint32_t pages)
{
    size_t first = index_of(run), lead = fence.lead[first];
    struct waiting whole = {first - lead, lead + pages + 1};
    if (lead == 0) {
        fence.plain.run_free(context, run, pages);
        return;
    }
    fence.lead[first] = 0;
    uncount();
    process_source_forget(run);
    if (shut(first, pages)) {
        (void)set_bits(fence.gone, first, pages);
        keep_shut(whole);
    } else if (open_again(whole.first, whole.pages)) {
        fence.plain.run_free(context, at(whole.first), (uint32_t)whole.pages);
    }
}

static neomm_status fence_grow(void *context, void *run, uint32_t pages, uint32_t new_pages,
                               neomm_flags_t flags)
{
    if (fence.lead[index_of(run)] != 0)
        return NEOMM_E_NOSPACE;
    return fence.plain.run_grow(context, run, pages, new_pages, flags);
}

/* ---- what others ask ---- */

const char *process_fence_explain(const void *pointer)
{
    size_t offset = (size_t)((uintptr_t)pointer - (uintptr_t)process.ram);
    if (!fence.lead || offset >= process.reserved || !has_bit(fence.shut, index_of(pointer)))
        return NULL;
    return has_bit(fence.gone, index_of(pointer)) ? "a large block, after it was freed"
                                                  : "beside a large block";
}

size_t process_fence_empty(void)
{
    return __atomic_load_n(&fence.empty, __ATOMIC_RELAXED) << NEOMM_PAGE_SHIFT;
}

bool process_fence_start(struct neomm_page_source *fenced, const struct neomm_page_source *plain,
                         size_t frames)
{
    size_t map = bits_size(frames);
    uint8_t *state = process_map(2 * map + frames * sizeof(*fence.lead));
    if (!state)
        return false;
    fence.shut = (size_t *)(void *)state;
    fence.gone = (size_t *)(void *)(state + map);
    fence.lead = (uint16_t *)(void *)(state + 2 * map);
    fence.plain = *plain;
    fence.pages_most = frames / WAITING_SHARE;
    *fenced = *plain;
    fenced->run_alloc = fence_alloc;
    fenced->run_free = fence_free;
    fenced->run_grow = fence_grow;
    return true;
}
