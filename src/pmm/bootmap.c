/* The boot memory map: collecting the firmware's entries and resolving them.
 * SPDX-License-Identifier: MIT */
#include "base/bits.h"
#include "base/memory.h"

#include <neomm/pmm.h>

#define TYPES     (NEOMM_MEMORY_BAD + 1)
#define PAGE_MASK ((uint64_t)NEOMM_PAGE_SIZE - 1)
#define LIMIT_MAX ((neomm_paddr_t)1 << 44) /* 32-bit frame numbers */

/* The memory that a later step may hand out, and that must therefore be whole frames of RAM. */
static bool is_reclaimable(enum neomm_memory_type type)
{
    return type == NEOMM_MEMORY_BOOT || type == NEOMM_MEMORY_ACPI;
}

void neomm_bootmap_init(struct neomm_bootmap *map, struct neomm_boot_range *storage,
                        uint32_t capacity)
{
    memset(map, 0, sizeof(*map));
    map->ranges = storage;
    map->capacity = capacity;
}

neomm_status neomm_bootmap_add(struct neomm_bootmap *map, neomm_paddr_t base, uint64_t length,
                               enum neomm_memory_type type)
{
    if ((unsigned)type < NEOMM_MEMORY_HOTPLUG || (unsigned)type >= TYPES)
        return NEOMM_E_INVALID;
    map->resolved = false;
    if (map->count == map->capacity) {
        map->dropped++;
        map->unsafe |= type > NEOMM_MEMORY_USABLE && length != 0;
        return NEOMM_E_NOSPACE;
    }
    map->ranges[map->count++] = (struct neomm_boot_range){base, length, type};
    return NEOMM_OK;
}

/* ---- sorting ---- */

static void sift_down(struct neomm_boot_range *ranges, uint32_t at, uint32_t count)
{
    struct neomm_boot_range moved = ranges[at];
    for (;;) {
        uint64_t child = 2 * (uint64_t)at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && ranges[child + 1].base > ranges[child].base)
            child++;
        if (ranges[child].base <= moved.base)
            break;
        ranges[at] = ranges[child];
        at = (uint32_t)child;
    }
    ranges[at] = moved;
}

/* Heap sort by base: in place, and n log n whatever the firmware says. */
static void sort(struct neomm_boot_range *ranges, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sift_down(ranges, i, count);
    for (uint32_t end = count; end-- > 1;) {
        struct neomm_boot_range highest = ranges[0];
        ranges[0] = ranges[end];
        ranges[end] = highest;
        sift_down(ranges, 0, end);
    }
}

/* ---- resolving ----
 *
 * One sweep upwards over the entries sorted by base. Of all entries of one type that have begun,
 * only the one that reaches highest matters, so the state is one address a type. What the sweep
 * finds passes three stages, each of which sees its input in ascending order:
 *
 *   sweep    entries             -> segments of bytes of one (the worst) type
 *   feed     segments            -> frames of one type; a frame of several pieces is assembled
 *   emit     frames              -> the map: frame 0, limit, merging
 *
 * All addresses are of last bytes, not ends: an end may be 2^64. In the storage the unread
 * entries lie at the top and the result grows from the bottom:
 *
 *   [ result ...>          free          [ read already | unread entries ]
 *   0                                     capacity - n     capacity
 */
struct sweep {
    struct neomm_bootmap *map;
    neomm_boot_note_fn *note;
    void *context;
    neomm_paddr_t limit;
    uint32_t next;       /* the first unread entry */
    bool covered[TYPES]; /* the type covers all up to last[] */
    uint64_t last[TYPES];
    /* The frame under assembly: `bytes` of it are described so far, 0: no such frame. Those of
     * HOTPLUG count as long as there are no others. */
    uint64_t page;
    uint32_t bytes;
    enum neomm_memory_type worst;
    bool any_usable;
    uint64_t usable_first, usable_last;
    /* The note that may still grow; type 0: none. */
    enum neomm_boot_note held_note;
    struct neomm_boot_range held;
};

static struct neomm_boot_range range_of(uint64_t first, uint64_t last, enum neomm_memory_type type)
{
    uint64_t length = last - first + 1;
    return (struct neomm_boot_range){first, length != 0 ? length : UINT64_MAX, type};
}

static void flush_note(struct sweep *sweep)
{
    if (sweep->held.type != 0 && sweep->note)
        sweep->note(sweep->context, sweep->held_note, &sweep->held);
    sweep->held.type = (enum neomm_memory_type)0;
}

static void add_note(struct sweep *sweep, enum neomm_boot_note note, struct neomm_boot_range part)
{
    struct neomm_boot_range *held = &sweep->held;
    if (held->type == part.type && sweep->held_note == note && part.length != 0 &&
        held->base + held->length == part.base) {
        held->length += part.length;
        return;
    }
    flush_note(sweep);
    sweep->held_note = note;
    sweep->held = part;
}

/* One range of the result, joined to its neighbour where the type is the same. */
static void store(struct sweep *sweep, uint64_t first, uint64_t last, enum neomm_memory_type type)
{
    struct neomm_bootmap *map = sweep->map;
    if (map->count > 0) {
        struct neomm_boot_range *before = &map->ranges[map->count - 1];
        if (before->type == type && before->base + before->length == first) {
            before->length += last - first + 1;
            return;
        }
    }
    if (map->count == sweep->next) {
        add_note(sweep, NEOMM_BOOT_FULL, range_of(first, last, type));
        return;
    }
    map->ranges[map->count++] = range_of(first, last, type);
}

/* Whole frames of one type. */
static void emit(struct sweep *sweep, uint64_t first, uint64_t last, enum neomm_memory_type type)
{
    if (last >= sweep->limit) {
        uint64_t cut = first > sweep->limit ? first : sweep->limit;
        add_note(sweep, NEOMM_BOOT_LIMIT, range_of(cut, last, type));
        if (first >= sweep->limit)
            return;
        last = sweep->limit - 1;
    }
    if (first == 0 && (type <= NEOMM_MEMORY_USABLE || is_reclaimable(type))) {
        add_note(sweep, NEOMM_BOOT_FRAME_ZERO, range_of(0, PAGE_MASK, type));
        store(sweep, 0, PAGE_MASK, NEOMM_MEMORY_RESERVED);
        if (last == PAGE_MASK)
            return;
        first = NEOMM_PAGE_SIZE;
    }
    store(sweep, first, last, type);
}

/* The frame under assembly is complete. A frame that is RAM only in part is not handed out, now
 * or after a reclaim. */
static void finish_frame(struct sweep *sweep)
{
    enum neomm_memory_type type = sweep->worst;
    bool partial = sweep->bytes < NEOMM_PAGE_SIZE;
    uint64_t page = sweep->page;
    if (sweep->bytes == 0)
        return;
    sweep->bytes = 0;
    if (sweep->any_usable && (partial || type != NEOMM_MEMORY_USABLE))
        add_note(sweep, NEOMM_BOOT_ROUNDED,
                 range_of(sweep->usable_first, sweep->usable_last, NEOMM_MEMORY_USABLE));
    if (partial && type <= NEOMM_MEMORY_USABLE)
        return;
    emit(sweep, page, page | PAGE_MASK,
         partial && is_reclaimable(type) ? NEOMM_MEMORY_RESERVED : type);
}

/* A piece of one frame. */
static void assemble(struct sweep *sweep, uint64_t first, uint64_t last,
                     enum neomm_memory_type type)
{
    if (sweep->bytes == 0 || sweep->page != (first & ~PAGE_MASK)) {
        finish_frame(sweep);
        sweep->page = first & ~PAGE_MASK;
        sweep->worst = type;
        sweep->any_usable = false;
    }
    if (type == NEOMM_MEMORY_HOTPLUG && sweep->worst != type)
        return;
    if (type != NEOMM_MEMORY_HOTPLUG && sweep->worst == NEOMM_MEMORY_HOTPLUG)
        sweep->bytes = 0;
    sweep->bytes += (uint32_t)(last - first + 1);
    if (type > sweep->worst)
        sweep->worst = type;
    if (type == NEOMM_MEMORY_USABLE) {
        if (!sweep->any_usable)
            sweep->usable_first = first;
        sweep->usable_last = last;
        sweep->any_usable = true;
    }
}

/* Cuts a segment of bytes into a piece, whole frames and a piece. */
static void feed(struct sweep *sweep, uint64_t first, uint64_t last, enum neomm_memory_type type)
{
    for (;;) {
        uint64_t stop;
        if ((first & PAGE_MASK) == 0 && last - first >= PAGE_MASK) {
            stop = last - ((last + 1) & PAGE_MASK);
            finish_frame(sweep);
            emit(sweep, first, stop, type);
        } else {
            stop = (first | PAGE_MASK) < last ? first | PAGE_MASK : last;
            assemble(sweep, first, stop, type);
        }
        if (stop == last)
            return;
        first = stop + 1;
    }
}

/* Takes in the next unread entry. */
static void begin(struct sweep *sweep)
{
    struct neomm_boot_range entry = sweep->map->ranges[sweep->next++];
    uint64_t last = entry.base + (entry.length - 1);
    if (entry.length == 0) {
        add_note(sweep, NEOMM_BOOT_EMPTY, entry);
        return;
    }
    if (last < entry.base) {
        add_note(sweep, NEOMM_BOOT_WRAPS, entry);
        last = UINT64_MAX;
    }
    if (!sweep->covered[entry.type] || last > sweep->last[entry.type])
        sweep->last[entry.type] = last;
    sweep->covered[entry.type] = true;
}

/* The segment that begins at `first`: its last byte and worst type; 0 when nothing covers it. */
static enum neomm_memory_type segment_at(const struct sweep *sweep, uint64_t *last)
{
    enum neomm_memory_type worst = (enum neomm_memory_type)0;
    *last = UINT64_MAX;
    if (sweep->next < sweep->map->capacity)
        *last = sweep->map->ranges[sweep->next].base - 1;
    for (unsigned type = NEOMM_MEMORY_HOTPLUG; type < TYPES; type++) {
        if (!sweep->covered[type])
            continue;
        worst = (enum neomm_memory_type)type;
        if (sweep->last[type] < *last)
            *last = sweep->last[type];
    }
    return worst;
}

static void sweep_up(struct sweep *sweep)
{
    const struct neomm_bootmap *map = sweep->map;
    uint64_t first = 0, last;
    for (;;) {
        while (sweep->next < map->capacity && map->ranges[sweep->next].base <= first)
            begin(sweep);
        enum neomm_memory_type type = segment_at(sweep, &last);
        if (type != 0) {
            if (type != NEOMM_MEMORY_USABLE && sweep->covered[NEOMM_MEMORY_USABLE])
                add_note(sweep, NEOMM_BOOT_OVERLAP, range_of(first, last, type));
            feed(sweep, first, last, type);
        }
        for (unsigned i = 0; i < TYPES; i++)
            sweep->covered[i] = sweep->covered[i] && sweep->last[i] > last;
        if (last == UINT64_MAX)
            break;
        first = last + 1;
    }
    finish_frame(sweep);
    flush_note(sweep);
}

neomm_status neomm_bootmap_resolve(struct neomm_bootmap *map, neomm_paddr_t limit,
                                   neomm_boot_note_fn *note, void *context)
{
    struct sweep sweep;
    uint32_t entries = map->count;
    if (map->unsafe)
        return NEOMM_E_NOSPACE;
    sort(map->ranges, entries);
    memmove(map->ranges + (map->capacity - entries), map->ranges, entries * sizeof(map->ranges[0]));
    map->count = 0;
    memset(&sweep, 0, sizeof(sweep));
    sweep.map = map;
    sweep.note = note;
    sweep.context = context;
    sweep.limit = limit == 0 || limit > LIMIT_MAX ? LIMIT_MAX : limit & ~PAGE_MASK;
    sweep.next = map->capacity - entries;
    sweep_up(&sweep);
    map->resolved = true;
    return NEOMM_OK;
}

neomm_paddr_t neomm_bootmap_end(const struct neomm_bootmap *map)
{
    for (uint32_t i = map->count; i-- > 0;)
        if (map->ranges[i].type == NEOMM_MEMORY_USABLE)
            return map->ranges[i].base + map->ranges[i].length;
    return 0;
}
