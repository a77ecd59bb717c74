/* The rest of the malloc family: alignment, figures, other names.
 * SPDX-License-Identifier: MIT */
#include "family.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <neomm/pmm.h>
#include <neomm/stats.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- alignment ---- */

static bool is_power(size_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

static void *alloc_aligned(size_t align, size_t size)
{
    if (size > PTRDIFF_MAX || align > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return family_alloc(size, align, 0);
}

FAMILY int posix_memalign(void **result, size_t align, size_t size)
{
    int saved = errno;
    if (!is_power(align) || align % sizeof(void *) != 0)
        return EINVAL;
    void *block = alloc_aligned(align, size);
    errno = saved;
    if (!block)
        return ENOMEM;
    *result = block;
    return 0;
}

FAMILY void *aligned_alloc(size_t align, size_t size)
{
    if (!is_power(align)) {
        errno = EINVAL;
        return NULL;
    }
    return alloc_aligned(align, size);
}

/* As the C library's: what is no power of two becomes the next. */
FAMILY void *memalign(size_t align, size_t size)
{
    size_t power = FAMILY_ALIGN;
    while (power < align && power <= PTRDIFF_MAX)
        power *= 2;
    return alloc_aligned(power, size);
}

FAMILY void *valloc(size_t size)
{
    return alloc_aligned(NEOMM_PAGE_SIZE, size);
}

FAMILY void *pvalloc(size_t size)
{
    size_t whole = (size + (NEOMM_PAGE_SIZE - 1)) & ~(NEOMM_PAGE_SIZE - 1);
    return alloc_aligned(NEOMM_PAGE_SIZE, size > PTRDIFF_MAX ? SIZE_MAX : whole);
}

FAMILY void *reallocarray(void *pointer, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(pointer, bytes);
}

/* ---- figures ---- */

FAMILY size_t malloc_usable_size(void *pointer)
{
    bool none = !pointer || process_zero_owns(pointer);
    struct process_thread *self = none ? NULL : process_enter_any();
    if (!self)
        return 0;
    size_t size = process_is_ram(pointer) ? neomm_ksize(process.root, pointer)
                                          : process_huge_bound(pointer, true);
    process_leave_any(self);
    if (size == 0)
        process_accuse("malloc_usable_size", pointer, "not a live block");
    return size;
}

FAMILY int malloc_trim(size_t pad)
{
    struct process_thread *self = process_enter_any();
    (void)pad;
    if (!self)
        return 0;
    (void)neomm_heap_shrink(process.root);
    (void)process_fence_shrink();
    bool gave = process_purge_all() > 0;
    process_leave_any(self);
    return gave;
}

struct figures {
    struct neomm_heap_stats heap;
    struct process_huge_figures huge;
    size_t held; /* bytes in frames that are not free, and free ones not given back */
    size_t retained;
};

static bool figures(struct figures *figures)
{
    struct process_thread *self = process_enter_any();
    if (!self)
        return false;
    neomm_heap_stats(process.root, &figures->heap);
    size_t free_bytes = (size_t)neomm_pmm_free_frames(process.root) << NEOMM_PAGE_SHIFT;
    figures->retained = process_retained();
    process_huge_figures(&figures->huge);
    figures->heap.objects += figures->huge.live;
    figures->heap.allocated_bytes += figures->huge.held;
    figures->heap.requested_bytes += figures->huge.requested;
    figures->held = process.managed - free_bytes + figures->retained - process_fence_empty() +
                    figures->huge.held;
    process_leave_any(self);
    return true;
}

FAMILY struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = {0};
    struct figures now;
    if (!figures(&now))
        return info;
    info.arena = now.held;
    info.ordblks = 1;
    info.uordblks = (size_t)now.heap.allocated_bytes;
    info.fordblks = now.held > info.uordblks ? now.held - info.uordblks : 0;
    info.keepcost = now.retained;
    info.hblks = now.huge.live;
    info.hblkhd = now.huge.held;
    return info;
}

/* Figures of 2 GiB and more do not fit; they stop there. */
static int clipped(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

FAMILY struct mallinfo mallinfo(void)
{
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info = {0};
    info.arena = clipped(wide.arena);
    info.ordblks = clipped(wide.ordblks);
    info.uordblks = clipped(wide.uordblks);
    info.fordblks = clipped(wide.fordblks);
    info.keepcost = clipped(wide.keepcost);
    info.hblks = clipped(wide.hblks);
    info.hblkhd = clipped(wide.hblkhd);
    return info;
}

static void add(struct process_text *text, const char *name, uint64_t value)
{
    process_text_add(text, " ");
    process_text_add(text, name);
    process_text_add(text, "=");
    process_text_number(text, value);
}

/* One line, so that processes that share the file do not mix. */
void process_report(int file)
{
    static struct neomm_snapshot snapshot;
    static struct process_lock lock;
    struct process_text text = {.length = 0};
    struct figures now;
    uint32_t most, threads = process_threads(&most);
    if (!figures(&now))
        return;
    process_lock(&lock);
    struct process_thread *self = process_enter_any();
    neomm_snapshot_take(process.root, &snapshot);
    process_leave_any(self);
    process_text_add(&text, "neomm-malloc:");
    add(&text, "pid", (uint64_t)getpid());
    add(&text, "allocations", snapshot.counter[NEOMM_COUNTER_KMALLOC] + now.huge.allocations);
    add(&text, "frees", snapshot.counter[NEOMM_COUNTER_KFREE] + now.huge.frees);
    add(&text, "failures", snapshot.counter[NEOMM_COUNTER_KMALLOC_FAIL]);
    add(&text, "bad_frees", snapshot.counter[NEOMM_COUNTER_BAD_FREE]);
    process_unlock(&lock);
    add(&text, "live", now.heap.objects);
    add(&text, "live_bytes", now.heap.requested_bytes);
    add(&text, "held", now.held);
    add(&text, "retained", now.retained);
    add(&text, "managed", process.managed);
    add(&text, "threads", threads);
    add(&text, "threads_most", most);
    process_text_add(&text, "\n");
    process_text_write(&text, file);
}

FAMILY void malloc_stats(void)
{
    process_report(STDERR_FILENO);
}

__attribute__((destructor)) static void report_at_exit(void)
{
    int saved = errno;
    if (process.options.stats[0] != '\0') {
        int file = open(process.options.stats, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (file >= 0) {
            process_report(file);
            (void)close(file);
        }
    }
    errno = saved;
}

/* ---- other names ---- */

/* Of the C library, for programs that call past the usual names. */
FAMILY void *__libc_malloc(size_t size);
FAMILY void __libc_free(void *pointer);
FAMILY void *__libc_calloc(size_t count, size_t size);
FAMILY void *__libc_realloc(void *pointer, size_t size);
FAMILY void *__libc_memalign(size_t align, size_t size);
FAMILY void cfree(void *pointer);

void *__libc_malloc(size_t size)
{
    return malloc(size);
}

void __libc_free(void *pointer)
{
    free(pointer);
}

void *__libc_calloc(size_t count, size_t size)
{
    return calloc(count, size);
}

void *__libc_realloc(void *pointer, size_t size)
{
    return realloc(pointer, size);
}

void *__libc_memalign(size_t align, size_t size)
{
    return memalign(align, size);
}

void cfree(void *pointer)
{
    free(pointer);
}
