/* The process's RAM: a range of addresses, reserved once and made accessible from its beginning
 * as the engine asks for more.
 * SPDX-License-Identifier: MIT */
#include "process.h"

#include <errno.h>
#include <neomm/config.h>
#include <neomm/pmm.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB           ((size_t)1 << 20)
#define RESERVE_LEAST (32 * MIB)
#define GROW_LEAST    (64 * MIB)
#define GROW_UNIT     (4 * MIB)
#define SLOTS_LEAST   8u
/* Bytes of RAM for each byte that the engine needs to know of it, at least. */
#define METADATA_SHARE 64u
/* Threads for each processor that do not share a slot. */
#define SLOTS_PER_CPU 4u

/* Where frame 0 would be is aligned so, which makes alignment of frames that of addresses. */
#if UINTPTR_MAX > UINT32_MAX
#define FORMAT    NEOMM_FORMAT_4LEVEL
#define RAM_ALIGN (1024 * MIB)
#define RAM_MOST  ((size_t)1 << 43)
#else
#define FORMAT    NEOMM_FORMAT_PAE
#define RAM_ALIGN (16 * MIB)
#define RAM_MOST  (832 * MIB)
#endif
#define RAM_PHYSICAL ((neomm_paddr_t)PROCESS_FIRST << NEOMM_PAGE_SHIFT)

struct process process;

static struct process_lock grow_lock;

/* ---- growing ---- */

static size_t step(size_t bytes)
{
    size_t managed = process.managed, left = process.reserved - managed;
    size_t huge = process_huge_held();
    left = left > huge ? (left - huge) & ~(GROW_UNIT - 1) : 0;
    size_t want = managed / 4 > GROW_LEAST ? managed / 4 : GROW_LEAST;
    want = bytes > want ? bytes : want;
    want = (want + (GROW_UNIT - 1)) & ~(GROW_UNIT - 1);
    return want < left ? want : left;
}

/* The addresses of the next part, accessible; a small part if the system has not more. */
static size_t open_next(size_t bytes)
{
    size_t want = step(bytes);
    while (want > 0 && mprotect(process.ram + process.managed, want, PROT_READ | PROT_WRITE) != 0) {
        want = want / 2 & ~(GROW_UNIT - 1);
        if (want < bytes)
            return 0;
    }
    return want;
}

static size_t grow_locked(size_t bytes)
{
    int saved = errno;
    size_t part = open_next(bytes);
    errno = saved;
    if (part == 0 || neomm_pmm_add(process.root, RAM_PHYSICAL + process.managed, part) != NEOMM_OK)
        return 0;
    __atomic_store_n(&process.managed, process.managed + part, __ATOMIC_RELAXED);
    __atomic_fetch_add(&process.grown, 1, __ATOMIC_RELEASE);
    return part;
}

bool process_grow(size_t bytes, uint32_t seen)
{
    process_lock(&grow_lock);
    bool more = process.grown != seen || grow_locked(bytes) > 0;
    process_unlock(&grow_lock);
    return more || process_fence_shrink();
}

/* Another thread may have brought enough for both while this one waited. Of single frames much that
 * is free means so, too; contiguous ones may be what all that lacks. */
static uint32_t on_reclaim(void *context, uint32_t frames, neomm_flags_t flags)
{
    uint32_t seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE), more = frames;
    (void)context;
    (void)flags;
    process_lock(&grow_lock);
    bool enough =
        frames == 1 && neomm_pmm_free_frames(process.root) > (GROW_LEAST >> NEOMM_PAGE_SHIFT) / 2;
    if (!enough && process.grown == seen)
        more = (uint32_t)(grow_locked(frames * NEOMM_PAGE_SIZE) >> NEOMM_PAGE_SHIFT);
    process_unlock(&grow_lock);
    return more == 0 && process_fence_shrink() ? frames : more;
}

/* ---- beginning ---- */

void *process_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Addresses for `size` bytes of RAM, 16 MiB above a place that is aligned as is usual for so much:
 * more is cut out of what the system gives. */
static uint8_t *reserve(size_t size)
{
    size_t align = RAM_ALIGN;
    while (align > GROW_UNIT && align > size / 16)
        align /= 2;
    size_t whole = size + align + (size_t)RAM_PHYSICAL;
    uint8_t *base =
        mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    uintptr_t frame_zero = ((uintptr_t)base + align - 1) & ~(uintptr_t)(align - 1);
    uint8_t *ram = (uint8_t *)frame_zero + RAM_PHYSICAL;
    (void)munmap(base, (size_t)(ram - base));
    if (ram + size < base + whole)
        (void)munmap(ram + size, (size_t)(base + whole - (ram + size)));
    return ram;
}

/* What was asked for, or less where the process is limited: half of its addresses are for stacks,
 * files and libraries, and an eighth of its data for what is known of the rest. */
static size_t reserve_most(void)
{
    struct rlimit limit;
    uint64_t size = process.options.reserve < RAM_MOST ? process.options.reserve : RAM_MOST;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur / 2 < size)
        size = limit.rlim_cur / 2;
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur < size / METADATA_SHARE * 8)
        size = limit.rlim_cur / 8 * METADATA_SHARE;
    return size > RESERVE_LEAST ? (size_t)size & ~(GROW_UNIT - 1) : RESERVE_LEAST;
}

/* The range, and its first part accessible. */
static bool make_ram(size_t size)
{
    process.ram = reserve(size);
    if (!process.ram)
        return false;
    process.reserved = size;
    process.managed = size < GROW_LEAST ? size : GROW_LEAST;
    while (mprotect(process.ram, process.managed, PROT_READ | PROT_WRITE) != 0) {
        process.managed /= 2;
        if (process.managed < GROW_UNIT)
            return false;
    }
    return true;
}

static uint32_t slots(void)
{
    cpu_set_t set;
    if (process.options.slots != 0)
        return process.options.slots;
    uint32_t cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set)
                                                                 : PROCESS_SLOTS_MOST;
    uint32_t wanted = cpus * SLOTS_PER_CPU > SLOTS_LEAST ? cpus * SLOTS_PER_CPU : SLOTS_LEAST;
    return wanted < PROCESS_SLOTS_MOST ? wanted : PROCESS_SLOTS_MOST;
}

/* Maps of the process's own that go again if it cannot start with this much RAM. */
static struct {
    void *memory;
    size_t size;
} made[3];

static void *map_kept(unsigned which, size_t size)
{
    made[which].memory = process_map(size);
    made[which].size = size;
    return made[which].memory;
}

static bool make_root(void)
{
    struct neomm_config config;
    struct neomm_options options = {.cpus = process.slots + 1, .config = &config};
    size_t end = (size_t)RAM_PHYSICAL + process.reserved;
    neomm_config_default(&config);
    config.reserve = (struct neomm_config_size){0, 0};
    if (neomm_layout_default(FORMAT, end, &options.layout) != NEOMM_OK)
        return false;
    struct neomm_area *direct = &options.layout.direct;
    direct->delta = (intptr_t)((uintptr_t)process.ram - (uintptr_t)RAM_PHYSICAL - direct->base);
    size_t size = neomm_root_size(process.slots + 1);
    void *memory = map_kept(0, size);
    return memory && neomm_init(memory, size, &options, &process.root) == NEOMM_OK;
}

static bool make_frames(void)
{
    struct neomm_boot_range storage[3 * 2 + 16];
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, sizeof(storage) / sizeof(storage[0]));
    size_t rest = process.reserved - process.managed;
    if (neomm_bootmap_add(&map, RAM_PHYSICAL, process.managed, NEOMM_MEMORY_USABLE) != NEOMM_OK ||
        (rest > 0 && neomm_bootmap_add(&map, RAM_PHYSICAL + process.managed, rest,
                                       NEOMM_MEMORY_HOTPLUG) != NEOMM_OK) ||
        neomm_bootmap_resolve(&map, 0, NULL, NULL) != NEOMM_OK)
        return false;
    size_t size = neomm_pmm_metadata_size(process.root, &map);
    struct neomm_pmm_options options = {
        .metadata = map_kept(1, size), .metadata_size = size, .metadata_zeroed = true};
    if (!options.metadata || neomm_pmm_init(process.root, &map, &options) != NEOMM_OK)
        return false;
    neomm_pmm_set_reclaim(process.root, on_reclaim, NULL);
    return true;
}

/* An access is reported from the handler of its fault, which does the rest. */
static void on_error(void *context, const struct neomm_heap_report *report)
{
    (void)context;
    if (report->error != NEOMM_HEAP_ACCESS_AFTER_FREE && report->error != NEOMM_HEAP_ACCESS_OUTSIDE)
        process_misused();
}

/* What the heap begins with is not set again: it would write to what is kept for every slot. */
static bool set_profile(enum neomm_heap_profile profile)
{
    if (profile == NEOMM_HEAP_GUARDED)
        neomm_heap_set_sampling(process.root, process.options.sampling);
    return profile == NEOMM_HEAP_DEFAULT ||
           neomm_heap_set_profile(process.root, NULL, profile) == NEOMM_OK;
}

/* One source serves as both: the heap takes what is larger than a block of the frame allocator
 * from the large one, and all runs while it is hardened. */
static bool make_heap(void)
{
    static struct neomm_page_source source, fenced;
    bool hardened = process.options.profile == NEOMM_HEAP_HARDENED;
    const struct neomm_heap_options options = {.source = &source,
                                               .large_source = hardened ? &fenced : &source,
                                               .secret = neomm_port_entropy(),
                                               .zeroed = true};
    size_t frames = process.reserved >> NEOMM_PAGE_SHIFT;
    void *state = map_kept(2, process_source_size(frames));
    if (!state)
        return false;
    process_source_init(&source, state, frames);
    if (hardened && !process_fence_start(&fenced, &source, frames))
        return false;
    if (neomm_heap_init(process.root, &options) != NEOMM_OK)
        return false;
    neomm_heap_on_error(process.root, on_error, NULL);
    return set_profile(process.options.profile);
}

static void unmake(void)
{
    if (process.ram)
        (void)munmap(process.ram, process.reserved);
    for (unsigned i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        if (made[i].memory)
            (void)munmap(made[i].memory, made[i].size);
    memset(made, 0, sizeof(made));
    process.root = NULL;
}

bool process_start(void)
{
    int saved = errno;
    process_options_read(&process.options);
    process.slots = slots();
    process_huge_start();
    bool started = false;
    for (size_t size = reserve_most(); !started && size >= RESERVE_LEAST;
         size = size / 2 & ~(GROW_UNIT - 1)) {
        started = make_ram(size) && make_root() && make_frames() && make_heap() &&
                  (process.options.profile != NEOMM_HEAP_HARDENED || process_zero_start());
        if (!started)
            unmake();
    }
    if (started && process.options.profile >= NEOMM_HEAP_GUARDED)
        started = process_fault_start();
    errno = saved;
    return started;
}
