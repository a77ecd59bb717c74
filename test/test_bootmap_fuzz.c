/* Broken firmware maps: tables of all four formats are mutated, read and resolved, and compared
 * with a second reader and with a model that looks at single pages.
 * SPDX-License-Identifier: MIT
 *
 * A table lies right before memory that cannot be accessed, so that reading beyond it ends the
 * test in every build. NEOMM_FUZZ_ROUNDS sets the number of tables per format and seed.
 */
#include "ktap.h"
#include "share.h"

#include "base/bits.h"

#include <neomm/pmm.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ROUNDS      40000
#define BYTES_MAX   ((uint32_t)1 << 17)
#define ENTRIES_MAX 4096
#define PAGE_LAST   (NEOMM_PAGE_SIZE - 1)
#define LIMIT_MAX   ((uint64_t)1 << 44)

enum format { E820_20, E820_24, MULTIBOOT1, MULTIBOOT2, UEFI_40, UEFI_48, FORMATS };

/* A table, and what is passed along with it. */
struct table {
    uint8_t bytes[BYTES_MAX];
    uint32_t size;
    uint32_t item; /* stride or descriptor size, where the format says it apart */
};

/* What the second reader found: the same as should be in the map. */
struct reading {
    neomm_status status;
    uint32_t count;
    struct neomm_boot_range entry[ENTRIES_MAX];
};

static struct table table;
static struct reading want;
static struct neomm_boot_range storage[3 * ENTRIES_MAX + 16];

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)(next(seed) >> 16) % limit;
}

/* ---- tables as they should be ---- */

static void put(uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes && table.size < BYTES_MAX; i++)
        table.bytes[table.size++] = (uint8_t)(value >> 8 * i);
}

static void poke(uint32_t at, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes && at + i < table.size; i++)
        table.bytes[at + i] = (uint8_t)(value >> 8 * i);
}

/* Addresses and lengths that firmware and mistakes are made of. */
static uint64_t odd_number(uint64_t *seed)
{
    static const uint64_t edges[] = {
        0,          1,         0xfff,      0x1000,      0x1001,    0x9fc00,    0xa0000,
        0x100000,   0xf00000,  0xffffffff, 0x100000000, LIMIT_MAX, UINT64_MAX, (uint64_t)1 << 63,
        0x7fffffff, 0x80000000};
    uint64_t edge = edges[below(seed, NEOMM__COUNT_OF(edges))];
    switch (below(seed, 5)) {
    case 0:
        return next(seed);
    case 1:
        return edge + below(seed, 5) - 2;
    case 2:
        return edge;
    case 3:
        return next(seed) >> below(seed, 64);
    default:
        return (uint64_t)below(seed, 256) << NEOMM_PAGE_SHIFT;
    }
}

static void put_entry(uint64_t *seed, enum format format)
{
    bool wild = below(seed, 16) == 0;
    uint64_t pages = below(seed, 64);
    uint64_t base = wild ? odd_number(seed) : (uint64_t)below(seed, 200) << NEOMM_PAGE_SHIFT;
    uint64_t length = wild ? odd_number(seed) : pages << NEOMM_PAGE_SHIFT;
    if (below(seed, 4) == 0)
        base += below(seed, 4096);
    if (format >= UEFI_40) {
        put(below(seed, 17), 8);
        put(base, 8);
        put(0, 8);
        put(wild ? odd_number(seed) : pages, 8);
        put(below(seed, 8) == 0 ? next(seed) : 0xf, 8);
        put(0, format == UEFI_48 ? 8 : 0);
        return;
    }
    put(20, format == MULTIBOOT1 ? 4 : 0);
    put(base, 8);
    put(length, 8);
    put(below(seed, 7), 4);
    put(0, format == E820_24 || format == MULTIBOOT2 ? 4 : 0);
}

static void pad(void)
{
    while (table.size % 8 != 0)
        put(0, 1);
}

/* One tag of Multiboot 2 with a map of some kind. */
static void put_map_tag(uint64_t *seed, bool uefi, uint32_t count)
{
    uint32_t start = table.size, item = uefi ? 48 : 24;
    put(uefi ? 17 : 6, 4);
    put(16 + (uint64_t)item * count, 4);
    put(item, 4);
    put(uefi, 4);
    for (uint32_t i = 0; i < count; i++)
        put_entry(seed, uefi ? UEFI_48 : MULTIBOOT2);
    poke(start + 4, table.size - start, 4);
    pad();
}

static void put_other_tag(uint64_t *seed)
{
    uint32_t length = below(seed, 30);
    put(below(seed, 4) == 0 ? below(seed, 22) : 1 + below(seed, 5), 4);
    put(8 + (uint64_t)length, 4);
    for (uint32_t i = 0; i < length; i++)
        put(next(seed), 1);
    pad();
}

static void make_multiboot2(uint64_t *seed, uint32_t count)
{
    put(0, 8);
    for (uint32_t i = below(seed, 3); i > 0; i--)
        put_other_tag(seed);
    if (below(seed, 4) != 0)
        put_map_tag(seed, false, count);
    for (uint32_t i = below(seed, 3); i > 0; i--)
        put_other_tag(seed);
    if (below(seed, 3) == 0)
        put_map_tag(seed, true, count);
    put(0, 4);
    put(8, 4);
    poke(0, table.size, 4);
}

static void make_table(uint64_t *seed, enum format format)
{
    static const uint32_t items[] = {20, 24, 0, 0, 40, 48};
    uint32_t count = below(seed, 100) == 0 ? below(seed, 1001) : below(seed, 24);
    table.size = 0;
    table.item = items[format];
    if (format == MULTIBOOT2)
        make_multiboot2(seed, count);
    else
        for (uint32_t i = 0; i < count; i++)
            put_entry(seed, format);
}

/* ---- mutations ---- */

static void move_bytes(uint32_t to, uint32_t from, uint32_t size)
{
    if (size > BYTES_MAX - to)
        size = BYTES_MAX - to;
    memmove(table.bytes + to, table.bytes + from, size);
}

static void mutate_once(uint64_t *seed)
{
    uint32_t at = below(seed, table.size), other = below(seed, table.size);
    uint32_t rest = table.size - (at > other ? at : other);
    uint32_t length = 1 + below(seed, rest < 64 ? rest : 64);
    switch (below(seed, 9)) {
    case 0:
        table.bytes[at] ^= (uint8_t)(1u << below(seed, 8));
        break;
    case 1:
        table.bytes[at] = (uint8_t)next(seed);
        break;
    case 2:
        poke(at & ~3u, odd_number(seed), 4);
        break;
    case 3:
        poke(at & ~3u, odd_number(seed), 8);
        break;
    case 4:
        table.size = at;
        break;
    case 5:
        move_bytes(other, at, length);
        break;
    case 6: /* cut something out */
        length = length < table.size - at ? length : table.size - at;
        move_bytes(at, at + length, table.size - at - length);
        table.size -= length;
        break;
    case 7: /* repeat something */
        if (table.size + length <= BYTES_MAX) {
            move_bytes(at + length, at, table.size - at);
            table.size += length;
        }
        break;
    default:
        table.item = below(seed, 2) ? below(seed, 100) : (uint32_t)odd_number(seed);
        break;
    }
}

static void mutate(uint64_t *seed)
{
    for (uint32_t i = below(seed, 6); i > 0 && table.size > 0; i--)
        mutate_once(seed);
}

/* ---- the second reader ---- */

static uint64_t get(uint32_t at, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value |= (uint64_t)table.bytes[at + i] << 8 * i;
    return value;
}

static void want_entry(uint64_t base, uint64_t length, enum neomm_memory_type type)
{
    want.entry[want.count++] = (struct neomm_boot_range){base, length, type};
}

static void want_e820(uint32_t at)
{
    static const enum neomm_memory_type types[] = {NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_USABLE,
                                                   NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_ACPI,
                                                   NEOMM_MEMORY_NVS,      NEOMM_MEMORY_BAD};
    uint64_t type = get(at + 16, 4);
    want_entry(get(at, 8), get(at + 8, 8), types[type < 6 ? type : 0]);
}

static void want_uefi(uint32_t at)
{
    static const char kinds[] = "RBBBBRRUXANRRRRR";
    uint64_t type = get(at, 4), pages = get(at + 24, 8), attributes = get(at + 32, 8);
    char kind = type < 16 ? kinds[type] : 'R';
    bool plain = (attributes >> 3 & 1) && !(attributes >> 15 & 1) && !(attributes >> 18 & 1) &&
                 !(attributes >> 63);
    if ((kind == 'U' || kind == 'B' || kind == 'A') && !plain)
        kind = 'R';
    want_entry(get(at + 8, 8), pages >> 52 ? UINT64_MAX : pages * 4096,
               kind == 'U'   ? NEOMM_MEMORY_USABLE
               : kind == 'B' ? NEOMM_MEMORY_BOOT
               : kind == 'A' ? NEOMM_MEMORY_ACPI
               : kind == 'N' ? NEOMM_MEMORY_NVS
               : kind == 'X' ? NEOMM_MEMORY_BAD
                             : NEOMM_MEMORY_RESERVED);
}

static void want_multiboot1(void)
{
    uint64_t at = 0;
    while (at < table.size) {
        if (at + 4 > table.size || get((uint32_t)at, 4) < 20 ||
            at + 4 + get((uint32_t)at, 4) > table.size) {
            want.status = NEOMM_E_INVALID;
            return;
        }
        want_e820((uint32_t)at + 4);
        at += 4 + get((uint32_t)at, 4);
    }
}

static void want_items(uint32_t at, uint32_t bytes, uint64_t item, void (*one)(uint32_t at))
{
    for (uint64_t done = 0; done < bytes; done += item)
        one(at + (uint32_t)done);
}

/* Whether the tag at `at` may be what it says. */
static bool is_sound(uint32_t at, uint64_t type, uint64_t size)
{
    if (type != 6 && type != 17)
        return type != 0 || size == 8;
    if (size < 16)
        return false;
    uint64_t item = get(at + 8, 4);
    if (type == 6 && (item < 24 || item % 8 != 0))
        return false;
    return item >= (type == 6 ? 24 : 40) && (size - 16) % item == 0;
}

static void want_multiboot2(void)
{
    uint32_t tags[BYTES_MAX / 8], count = 0, kinds = 0;
    uint64_t total = table.size < 16 ? 0 : get(0, 4), at = 8, type = 1;
    want.status = NEOMM_E_INVALID;
    if (total > table.size)
        return;
    for (; type != 0; at = (at + get((uint32_t)at + 4, 4) + 7) / 8 * 8) {
        if (at + 8 > total)
            return;
        uint64_t size = get((uint32_t)at + 4, 4);
        type = get((uint32_t)at, 4);
        if (size < 8 || at + size > total || !is_sound((uint32_t)at, type, size))
            return;
        kinds |= type == 6 ? 1 : type == 17 ? 2 : type == 18 ? 4 : 0;
        tags[count++] = (uint32_t)at;
    }
    want.status = kinds & 4 ? NEOMM_E_BUSY : kinds == 0 ? NEOMM_E_NOENT : NEOMM_OK;
    for (uint32_t i = 0; i < count && want.status == NEOMM_OK; i++) {
        uint32_t tag = tags[i], bytes = (uint32_t)get(tag + 4, 4) - 16;
        if (get(tag, 4) == 6 && (kinds & 1))
            want_items(tag + 16, bytes, get(tag + 8, 4), want_e820);
        if (get(tag, 4) == 17 && !(kinds & 1))
            want_items(tag + 16, bytes, get(tag + 8, 4), want_uefi);
    }
}

static void read_again(enum format format)
{
    bool uefi = format >= UEFI_40;
    want.status = NEOMM_OK;
    want.count = 0;
    if (format == MULTIBOOT1)
        want_multiboot1();
    else if (format == MULTIBOOT2)
        want_multiboot2();
    else if (table.item < (uefi ? 40 : 20) || (uefi && table.size % table.item != 0))
        want.status = NEOMM_E_INVALID;
    else
        want_items(0, table.size / table.item * table.item, table.item,
                   uefi ? want_uefi : want_e820);
}

/* ---- the model of one page ---- */

static bool covers(const struct neomm_boot_range *entry, uint64_t first, uint64_t last,
                   uint64_t *from, uint64_t *to)
{
    uint64_t end = entry->base + (entry->length - 1);
    if (entry->length == 0)
        return false;
    end = end < entry->base ? UINT64_MAX : end;
    *from = entry->base > first ? entry->base : first;
    *to = end < last ? end : last;
    return *from <= *to;
}

/* What the map should say of the page at `first`: byte by byte where an entry ends in it. */
static unsigned judge(uint64_t first, uint64_t limit)
{
    static bool described[2][NEOMM_PAGE_SIZE]; /* as memory to come; as anything else */
    unsigned worst = 0;
    memset(described, 0, sizeof(described));
    for (uint32_t i = 0; i < want.count; i++) {
        uint64_t from, to;
        if (!covers(&want.entry[i], first, first + PAGE_LAST, &from, &to))
            continue;
        worst = want.entry[i].type > worst ? want.entry[i].type : worst;
        memset(described[want.entry[i].type != NEOMM_MEMORY_HOTPLUG] + (from - first), true,
               (size_t)(to - from + 1));
    }
    bool whole = !memchr(described[worst != NEOMM_MEMORY_HOTPLUG], false, NEOMM_PAGE_SIZE);
    if (first >= limit || (worst <= NEOMM_MEMORY_USABLE && !whole))
        return 0;
    if (worst != 0 && worst <= NEOMM_MEMORY_ACPI && (!whole || first == 0))
        return NEOMM_MEMORY_RESERVED;
    return worst;
}

static unsigned resolved_type(const struct neomm_bootmap *map, uint64_t page)
{
    for (uint32_t i = 0; i < map->count; i++)
        if (page >= map->ranges[i].base && page - map->ranges[i].base < map->ranges[i].length)
            return map->ranges[i].type;
    return 0;
}

struct check {
    struct ktap *t;
    const struct neomm_bootmap *map;
    uint64_t limit;
};

static void check_page(const struct check *check, uint64_t address)
{
    uint64_t page = address & ~(uint64_t)PAGE_LAST;
    unsigned have = resolved_type(check->map, page), should = judge(page, check->limit);
    if (have == should)
        return;
    ktap_note(check->t, "page %#llx: type %u, should be %u", (unsigned long long)page, have,
              should);
    EXPECT_EQ(check->t, have, should);
}

/* Between the borders of all entries and of the result nothing changes, so the pages around them
 * and one in the middle behind each stand for all. */
static void check_around(const struct check *check, uint64_t border)
{
    check_page(check, border - 1 - PAGE_LAST);
    check_page(check, border - 1);
    check_page(check, border);
    check_page(check, border + NEOMM_PAGE_SIZE);
}

static void check_pages(const struct check *check, uint64_t *seed)
{
    const struct neomm_bootmap *map = check->map;
    uint32_t step = want.count > 100 ? want.count / 50 : 1;
    for (uint32_t i = below(seed, step); i < want.count; i += step) {
        check_around(check, want.entry[i].base);
        check_around(check, want.entry[i].base + want.entry[i].length);
    }
    step = map->count > 100 ? map->count / 50 : 1;
    for (uint32_t i = below(seed, step); i < map->count; i += step) {
        check_around(check, map->ranges[i].base);
        check_around(check, map->ranges[i].base + map->ranges[i].length);
    }
    check_around(check, check->limit);
    check_page(check, 0);
    check_page(check, odd_number(seed));
}

/* ---- one table ---- */

static neomm_status read_table(enum format format, const uint8_t *bytes, struct neomm_bootmap *map)
{
    switch (format) {
    case E820_20:
    case E820_24:
        return neomm_bootmap_add_e820(map, bytes, table.item ? table.size / table.item : 0,
                                      table.item);
    case MULTIBOOT1:
        return neomm_bootmap_add_multiboot1(map, bytes, table.size);
    case MULTIBOOT2:
        return neomm_bootmap_add_multiboot2(map, bytes, table.size);
    default:
        return neomm_bootmap_add_uefi(map, bytes, table.size, table.item);
    }
}

static void dump(struct ktap *t, enum format format, unsigned round)
{
    ktap_note(t, "format %u, round %u, item %u, %u bytes:", (unsigned)format, round, table.item,
              table.size);
    for (uint32_t i = 0; i + 4 <= table.size && i < 512; i += 16)
        ktap_note(t, "%3u: %08x %08x %08x %08x", i, (unsigned)get(i, 4), (unsigned)get(i + 4, 4),
                  (unsigned)get(i + 8, 4), (unsigned)get(i + 12, 4));
}

/* Where a table ends right at the guard; Multiboot 2 must begin at a multiple of 8, so that up
 * to 7 bytes are left between. */
static uint8_t *place(enum format format, uint8_t *guard)
{
    uint32_t size = format == MULTIBOOT2 ? NEOMM__ALIGN_UP(table.size, 8) : table.size;
    uint8_t *bytes = guard - size;
    memset(bytes, 0x5a, size);
    memcpy(bytes, table.bytes, table.size);
    return bytes;
}

static void check_shape(struct ktap *t, const struct neomm_bootmap *map, uint64_t limit)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        EXPECT(t, range->length != 0 && ((range->base | range->length) & PAGE_LAST) == 0);
        EXPECT(t, range->base >= end && range->length <= limit - range->base);
        EXPECT(t, i == 0 || range->base > end || range->type != map->ranges[i - 1].type);
        end = range->base + range->length;
    }
}

/* What a kernel adds that knows where memory may come: no firmware table here says so. */
static void add_memory_to_come(struct ktap *t, struct neomm_bootmap *map, uint64_t *seed)
{
    for (uint32_t i = below(seed, 4); i > 0 && want.count < ENTRIES_MAX; i--) {
        uint64_t base = (uint64_t)below(seed, 200) << NEOMM_PAGE_SHIFT;
        uint64_t length = (uint64_t)below(seed, 64) << NEOMM_PAGE_SHIFT;
        if (below(seed, 2) == 0)
            base += below(seed, 4096);
        if (below(seed, 8) == 0)
            length = odd_number(seed);
        want_entry(base, length, NEOMM_MEMORY_HOTPLUG);
        EXPECT_OK(t, neomm_bootmap_add(map, base, length, NEOMM_MEMORY_HOTPLUG));
    }
}

static void try_table(struct ktap *t, enum format format, uint8_t *guard, uint64_t *seed)
{
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, NEOMM__COUNT_OF(storage));
    read_again(format);
    EXPECT_EQ(t, read_table(format, place(format, guard), &map), want.status);
    ASSERT(t, map.count == want.count);
    for (uint32_t i = 0; i < want.count; i++)
        EXPECT(t, storage[i].base == want.entry[i].base &&
                      storage[i].length == want.entry[i].length &&
                      storage[i].type == want.entry[i].type);
    add_memory_to_come(t, &map, seed);
    uint64_t limit = below(seed, 3) == 0 ? odd_number(seed) : 0;
    uint64_t rounded = limit == 0 || limit > LIMIT_MAX ? LIMIT_MAX : limit & ~(uint64_t)PAGE_LAST;
    EXPECT_OK(t, neomm_bootmap_resolve(&map, limit, NULL, NULL));
    check_shape(t, &map, rounded);
    check_pages(&(struct check){t, &map, rounded}, seed);
}

static unsigned rounds(void)
{
    const char *text = getenv("NEOMM_FUZZ_ROUNDS");
    return text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)share_of(ROUNDS);
}

static const uint64_t format_numbers[] = {0, 1, 2, 3, 4, 5};

static void mutated(struct ktap *t)
{
    enum format format = (enum format)t->parameter;
    uint64_t seed = 1 + t->parameter;
    unsigned count = rounds(), sound = 0, full = 0;
    uint8_t *room =
        mmap(NULL, 2 * BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT(t, room != MAP_FAILED && mprotect(room + BYTES_MAX, BYTES_MAX, PROT_NONE) == 0);
    for (unsigned round = 0; round < count && t->failures == 0; round++) {
        make_table(&seed, format);
        mutate(&seed);
        try_table(t, format, room + BYTES_MAX, &seed);
        sound += want.status == NEOMM_OK;
        full += want.count > 0;
        if (t->failures != 0)
            dump(t, format, round);
    }
    /* Tables that nothing is left of would test little. */
    EXPECT(t, sound > 0 && full > count / 4);
    EXPECT(t, sound < count);
    EXPECT_EQ(t, munmap(room, 2 * BYTES_MAX), 0);
}

static const struct ktap_case cases[] = {KTAP_CASE_WITH(mutated, format_numbers)};
KTAP_SUITE(bootmap_fuzz, cases);
